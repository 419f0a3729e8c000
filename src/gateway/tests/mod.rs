//! The flows of OAuth accounts against an endpoint on this machine.

mod login;
mod oauth;
mod quota;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::form_urlencoded;

use crate::base::ids::IdentityId;
use crate::base::oauth::{AccountId, OAuthCredentials};
use crate::gateway::AccountSettings;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::accounts::oauth_account::AccountState;
use crate::pool::{IdentityPool, Now, PoolSettings, Strategy};
use crate::shutdown::Supervisor;
use crate::store::Store;
use crate::store::oauth_files::OAuthFiles;
use crate::upstream::OAuthSettings;
use crate::upstream::oauth::client::QwenOAuth;
use crate::upstream::tests::server::{Seen, Server, json as answer};

/// An endpoint on which each refresh token is good once: `name-3` becomes `name-4`.
struct Endpoint {
    server: Server,
    newest: Arc<Mutex<HashMap<String, u64>>>,
    /// Answers that take its place, once each.
    instead: Arc<Mutex<Vec<Vec<u8>>>>,
    polls: Arc<Mutex<Vec<Value>>>,
    /// An event while a refresh is answered, once.
    during: Arc<Mutex<Option<Event>>>,
}

type Event = Box<dyn FnOnce() + Send>;

impl Endpoint {
    fn new() -> Self {
        let newest: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
        let instead: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let polls: Arc<Mutex<Vec<Value>>> = Arc::default();
        let during: Arc<Mutex<Option<Event>>> = Arc::default();
        let event = Arc::clone(&during);
        let (known, first, logins) = (Arc::clone(&newest), Arc::clone(&instead), Arc::clone(&polls));
        let server = Server::answering(move |seen, _| {
            if let Some(event) = event.lock().take() {
                event();
            }
            let instead = { first.lock().pop() };
            if let Some(instead) = instead {
                return instead;
            }
            if seen.target.ends_with("/device/code") {
                let code =
                    json!({"device_code": "hush-device", "user_code": "ABC_DEF", "expires_in": 900, "interval": 1});
                return answer(200, &code);
            }
            let form: HashMap<String, String> = form_urlencoded::parse(&seen.body).into_owned().collect();
            let Some(token) = form.get("refresh_token") else {
                let mut logins = logins.lock();
                let body = if logins.len() > 1 { logins.remove(0) } else { logins[0].clone() };
                let status = if body.get("error").is_some() { 400 } else { 200 };
                return answer(status, &body);
            };
            let (name, number) = token.rsplit_once('-').unwrap();
            let number: u64 = number.parse().unwrap();
            let mut known = known.lock();
            let newest = known.entry(name.to_owned()).or_insert(number);
            if *newest != number {
                return answer(400, &json!({"error": "invalid_request", "error_description": "Invalid refresh token"}));
            }
            *newest += 1;
            let body = json!({
                "access_token": format!("access-{name}-{newest}"), "refresh_token": format!("{name}-{newest}"),
                "token_type": "Bearer", "expires_in": 3600, "resource_url": "portal.qwen.ai",
            });
            answer(200, &body)
        });
        Self { server, newest, instead, polls, during }
    }

    fn calls(&self) -> usize {
        self.server.seen().len()
    }

    fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }

    fn client(&self) -> Arc<QwenOAuth> {
        let settings = OAuthSettings {
            base: self.server.url(),
            client_id: "c".to_owned(),
            scope: "s".to_owned(),
            connect_timeout: Duration::from_secs(5),
            is_direct: true,
        };
        Arc::new(QwenOAuth::new(settings).unwrap())
    }
}

/// One process's view of the accounts.
struct Process {
    accounts: OAuthAccounts,
    pool: IdentityPool,
    store: Arc<Store>,
    supervisor: Supervisor,
}

/// Folders that outlive a process.
struct Home {
    dir: TempDir,
    given: Vec<OAuthCredentials>,
}

impl Home {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), given: Vec::new() }
    }

    fn own(&self) -> OAuthFiles {
        OAuthFiles::all_in(&self.dir.path().join("own"))
    }

    fn shared(&self) -> OAuthFiles {
        OAuthFiles::unnamed_in(&self.dir.path().join("home/.qwen"))
    }

    async fn start(&self, endpoint: &Endpoint) -> Process {
        self.start_with(endpoint, "state").await
    }

    async fn start_with(&self, endpoint: &Endpoint, state: &str) -> Process {
        let (store, loaded) = Store::open(&self.dir.path().join(state)).unwrap();
        let (store, supervisor) = (Arc::new(store), Supervisor::new());
        let pool = IdentityPool::new(Vec::new(), pool_settings());
        let settings = AccountSettings {
            dir: self.own().dir().to_owned(),
            shared_dir: Some(self.shared().dir().to_owned()),
            given: self.given.clone(),
            refresh_buffer: Duration::from_secs(300),
            api_base: None,
        };
        let accounts = OAuthAccounts::new(
            settings,
            pool.clone(),
            endpoint.client(),
            Arc::clone(&store),
            supervisor.clone(),
            &loaded,
        );
        accounts.begin().await;
        Process { accounts, pool, store, supervisor }
    }
}

impl Process {
    fn session(&self, name: &str) -> Arc<crate::base::session::Session> {
        let identity = IdentityId::named(name);
        self.pool.sessions().into_iter().find(|session| session.identity() == &identity).unwrap()
    }

    fn token(&self, name: &str) -> String {
        self.session(name).token().map_or("-".to_owned(), |token| token.expose().to_owned())
    }

    async fn replace(&self, name: &str) -> Result<(), crate::gateway::accounts::error::RefreshError> {
        let session = self.session(name);
        self.accounts.replace(&session, session.token_generation()).await
    }

    /// The accounts and their states.
    fn states(&self) -> String {
        let views = self.accounts.views(Now::read());
        let word = |state| match state {
            AccountState::Ready => "ready",
            AccountState::Expired => "expired",
            AccountState::NeedsLogin => "needs_login",
            AccountState::PortalRefuses => "portal_refuses",
        };
        views.iter().map(|view| format!("{} {}", view.identity, word(view.state))).collect::<Vec<_>>().join(", ")
    }

    async fn stop(self) {
        self.supervisor.stop(Duration::from_secs(5)).await;
        self.store.close().await;
    }
}

fn pool_settings() -> PoolSettings {
    PoolSettings {
        strategy: Strategy::FreshWeighted,
        degrade_after: 3,
        trip_after: 5,
        cooldown_base: Duration::from_secs(300),
        cooldown_max: Duration::from_secs(3600),
        probe_lease: Duration::from_secs(60),
        in_flight_max: 4,
        queue_max: 64,
        queue_wait: Duration::from_secs(10),
        challenge_rest: Duration::from_secs(300),
    }
}

fn id(text: &str) -> AccountId {
    AccountId::parse(text).unwrap()
}

/// Credentials `name-0` that end in `seconds`.
fn login(name: &str, seconds: i64) -> OAuthCredentials {
    let now = Now::read().unix;
    let text = json!({
        "access_token": format!("access-{name}-0"), "refresh_token": format!("{name}-0"), "token_type": "Bearer",
        "expiry_date": (now.0 + seconds) * 1000, "note": "kept",
    });
    OAuthCredentials::parse(&text.to_string(), now).unwrap()
}

fn content(path: &PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Waits for something to become true.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come within five seconds");
}
