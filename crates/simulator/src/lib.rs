//! A scripted stand-in for chat.qwen.ai and auth.qwen.ai on two loopback ports.
//!
//! `demo` and `simulate` run it, and the integration tests and benches speak to it. It behaves as the web chat was
//! recorded to behave in 2026 – envelopes, cookies, tokens of both eras, chats, streams byte for byte – and it makes
//! every mistake a script asks for. It writes down each request, and each thing that no honest client would send.
//! It uses no other room of this crate.
//!
//! The object storage and the CDN stand on the port of the chat host as well: uploads go to the object's key as a
//! path, signed for the real bucket, and links of generated pictures and videos begin with this host.
//!
//! # Scenario files
//!
//! `qwen-bridge simulate --scenario FILE` plays a JSON file. Every key may be left out; a key that does not exist is
//! refused. The same thing in Rust is a [`Scenario`]. JSON has no comments, so here they stand beside it:
//!
//! ```json
//! {
//!   "port": 8101, "auth_port": 8102,
//!   "pace_ms": 15,
//!   "accounts": [
//!     {
//!       "name": "ada", "era": "A", "old_chats": 3,
//!       "replies": {
//!         "completions": [
//!           { "stream": { "answer": "Hello from a script.",
//!                         "reasoning": [[["Thinking it over", "A short greeting will do."]]] } },
//!           { "fail": { "error": { "code": "RateLimited", "num": 2 } } },
//!           { "stream": { "pieces": ["half ", "an answer"], "cut": { "after": 2, "how": "reset" } } }
//!         ]
//!       }
//!     },
//!     {
//!       "name": "bob", "era": "B", "access_token_seconds": 60, "refresh_rotation": "new",
//!       "replies": { "refresh": [ { "delay_ms": 500, "fail": { "status": { "code": 503 } } } ] }
//!     }
//!   ],
//!   "replies": {
//!     "models": [ { "fail": { "challenge": { "form": "html", "status": 405 } } } ]
//!   },
//!   "defaults": {
//!     "completions": { "stream": { "packets": { "size": 7 }, "line_ending": "crlf",
//!                                  "inserts": [ { "after": 1, "what": "keep_alive" } ] } }
//!   }
//! }
//! ```
//!
//! - `ada`'s first completion thinks and says hello, the second is refused for two hours, the third is torn after two
//!   frames; later ones are answered as `defaults` says.
//! - `bob`'s first refresh takes half a second and fails; then each one gives a token for a minute, and a new refresh
//!   token in the place of the old one.
//! - Whoever first asks for the models meets a slider.
//! - All other streams come in packets of seven bytes, which cut characters, with CRLF and a keep-alive frame.
//!
//! Which reply a call gets: the account's queue, then the queue of all, the account's default, the default of all,
//! and at last the built-in one. Replies of the edge (`status`, `challenge`, `redirect`, `reset`, `raw`) come before
//! anything of the request is looked at; all others are used up only by a call that would have been served.
//! Frames are counted as they are sent: `"after": 1` is right after `response.created`.
//!
//! # Files, pictures, videos
//!
//! ```json
//! {
//!   "accounts": [ { "name": "ada", "era": "A", "videos_per_day": 3 } ],
//!   "replies": {
//!     "sts": [ { "fail": { "error": { "code": "RateLimited" } } }, { "grant": { "grant_seconds": 0 } } ],
//!     "oss_put": [ { "fail": { "status": { "code": 503 } } }, { "put": { "after_bytes": 1000, "how": "close" } } ],
//!     "file_parse": [ { "parse": { "polls": 0, "end": { "failed": "unreadable" } } } ],
//!     "completions": [
//!       { "picture": { "count": 2, "keep_alives": 5 }, "stream": { "cut": { "after": 6 } } },
//!       { "picture": { "lost": true, "late_reads": 2 } },
//!       { "video": { "polls": 10, "end": { "failed": "no boats today" } } }
//!     ]
//!   },
//!   "defaults": { "task_status": { "fail": { "status": { "code": 404 } } } }
//! }
//! ```
//!
//! - The first call for the right to upload is refused, and what the second one gives is over at once. The first
//!   upload is turned away, the second is closed after about a kilobyte. The first document cannot be parsed.
//! - The first prompt gets keep-alives and no picture before its stream is torn; the second stream finishes without
//!   a picture, which is in the chat from the third reading on; the third prompt, for a video, fails after ten
//!   questions, which have to take the older route.
//!
//! Which part of a reply counts is up to the prompt's chat type: `stream.answer` says nothing about pictures, and
//! `picture` nothing about text. A prompt for `two pictures` gets two.
//! Files that came with a message are counted and named, with their hash, at the start of the built-in answer.
//!
//! # OAuth and keys
//!
//! The chat host has the OAuth door as well, and beside the site two endpoints in the shape of OpenAI's: the portal,
//! for access tokens, and one for static keys. A device login is granted by the first OAuth account after one poll,
//! unless its reply says otherwise; the reply at `device_code` counts for the whole login.
//!
//! ```json
//! {
//!   "oauth_accounts": [
//!     { "name": "cleo", "access_token_seconds": 60, "refresh_rotation": "new", "resource_url": { "other": "x.example" },
//!       "replies": {
//!         "refresh_token": [ { "delay_ms": 500, "token": { "body": "lost" } } ],
//!         "portal_chat": [
//!           { "fail": { "api": { "throttled": "7" } } },
//!           { "stream": { "pieces": ["half ", "an answer"], "cut": { "after": 2 } } },
//!           { "chat": { "chunks": "bare", "lacks_done": true } }
//!         ]
//!       } }
//!   ],
//!   "keys": [ { "name": "kay", "chats_per_window": 1200 } ],
//!   "portal": { "needs_system_parts": true },
//!   "replies": {
//!     "device_code": [ { "device": { "polls": ["slow_down", "slow_down_429"], "approval": "denied" } } ],
//!     "device_token": [ { "fail": { "oauth": { "rate_limited": "30" } } } ]
//!   }
//! }
//! ```
//!
//! - `cleo`'s first refresh takes half a second, and the connection breaks when the old refresh token is dead already.
//!   Its first chat is throttled, the second torn, the chunks of the third have no ids, and no `[DONE]` comes.
//! - The first login polls too fast twice, is told to wait once, and is denied; somewhere in between, a poll meets a
//!   rate limit.
//! - With `tools`, a line `call: NAME {"some": "arguments"}` of the prompt makes a call.
//!
//! The built-in answer says that it is simulated. A prompt with `echo:` gets back whatever comes after it.

mod answers;
mod api;
mod endpoint;
mod endpoints;
mod errors;
mod json;
mod manners;
pub mod record;
pub mod script;
mod server;
mod storage;
mod web;
mod world;

#[cfg(test)]
mod client;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use url::Url;

pub use crate::api::oauth::Life;
use crate::record::{Counters, Host, RecordedRequest};
use crate::script::api_script::PortalScript;
use crate::script::reply::Reply;
use crate::script::scenario::{Endpoint, Scenario};
use crate::server::{bind, listen};
pub use crate::storage::uploads::UploadView;
pub use crate::web::chats::ChatView;
pub use crate::web::tasks::TaskView;
use crate::world::{KEYS, World};

/// A running simulator. Dropped, it closes its listeners and all connections.
///
/// ```
/// use std::time::Duration;
///
/// use simulator::Simulator;
/// use simulator::reply::Reply;
/// use simulator::scenario::{Endpoint, Scenario};
///
/// # let runtime = tokio::runtime::Runtime::new()?;
/// # runtime.block_on(async {
/// let simulator = Simulator::start(Scenario::default()).await?;
/// let cookie = simulator.cookie("ada");
/// assert!(cookie.contains("; token=eyJ"));
/// simulator.script(Some("ada"), Endpoint::Completions, Reply::error("RateLimited"));
/// // … let a client with this cookie ask something at simulator.web_base_url() …
/// let asked = simulator.wait_until(|request| request.is("ada", Endpoint::Completions), Duration::ZERO);
/// assert!(asked.await.is_none(), "nobody asked");
/// assert!(simulator.violations().is_empty());
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct Simulator {
    world: Arc<World>,
    chat: SocketAddr,
    auth: SocketAddr,
    tracker: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Simulator {
    /// Starts on the scenario's ports.
    ///
    /// # Errors
    /// A port that cannot be had, or ([`io::ErrorKind::InvalidInput`]) a scenario that makes no sense.
    pub async fn start(scenario: Scenario) -> io::Result<Self> {
        scenario.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let (chat_listener, chat) = bind(scenario.port).await?;
        let (auth_listener, auth) = bind(scenario.auth_port).await?;
        let world = Arc::new(World::new(&scenario, chat, stop.clone()));
        for (listener, host) in [(chat_listener, Host::Chat), (auth_listener, Host::Auth)] {
            let world = Arc::clone(&world);
            let inner = tracker.clone();
            tracker.spawn(listen(listener, host, world, inner, stop.clone()));
        }
        Ok(Self { world, chat, auth, tracker, _stop_on_drop: stop.clone().drop_guard(), stop })
    }

    /// What stands for `https://chat.qwen.ai`.
    #[must_use]
    pub fn web_base_url(&self) -> Url {
        base_url(self.chat)
    }

    /// What stands for `https://auth.qwen.ai`.
    #[must_use]
    pub fn auth_base_url(&self) -> Url {
        base_url(self.auth)
    }

    /// The `Cookie` header that a signed-in browser of this account would send now; empty for an unknown account.
    #[must_use]
    pub fn cookie(&self, account: &str) -> String {
        self.world.accounts.cookie(account).unwrap_or_default()
    }

    /// A token that goes as Bearer: the session token of era A; in era B the newest access token, made if there is
    /// none. Empty for an unknown account.
    #[must_use]
    pub fn bearer(&self, account: &str) -> String {
        self.world.accounts.bearer(account).unwrap_or_default()
    }

    /// What stands for the object storage: an object's key, percent-encoded, is the path.
    #[must_use]
    pub fn oss_base_url(&self) -> Url {
        base_url(self.chat)
    }

    /// What stands for `https://portal.qwen.ai/v1`.
    #[must_use]
    pub fn portal_base_url(&self) -> Url {
        parsed(self.world.oauth.portal_url())
    }

    /// What stands for `https://dashscope.aliyuncs.com/compatible-mode/v1`, and for the hosts of the plans.
    #[must_use]
    pub fn key_base_url(&self) -> Url {
        parsed(&format!("http://{}{KEYS}", self.chat))
    }

    /// The names of all OAuth accounts, in the order of the scenario.
    #[must_use]
    pub fn oauth_accounts(&self) -> Vec<String> {
        self.world.oauth.accounts()
    }

    /// The names of all keys, in the order of the scenario.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.world.oauth.keys()
    }

    /// The key of this name; empty for an unknown one.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        self.world.oauth.key(name).unwrap_or_default()
    }

    /// The text of an `oauth_creds.json` with the newest tokens of this account; empty for an unknown one.
    #[must_use]
    pub fn oauth_credentials(&self, account: &str) -> String {
        self.oauth_credentials_for(account, Life::Fresh)
    }

    /// The same with an access token that lives so long; the refresh token is good.
    #[must_use]
    pub fn oauth_credentials_for(&self, account: &str, life: Life) -> String {
        let credentials = self.world.oauth.credentials(account, life);
        credentials.map_or_else(String::new, |credentials| format!("{credentials:#}"))
    }

    /// The user codes that are shown and good now, oldest first.
    #[must_use]
    pub fn user_codes(&self) -> Vec<String> {
        self.world.oauth.user_codes()
    }

    /// The owner of this OAuth account types the code in and says yes; `false` if it is not shown anywhere.
    pub fn approve(&self, user_code: &str, account: &str) -> bool {
        self.world.oauth.decide(user_code, Some(account))
    }

    /// Somebody types the code in and says no; `false` if it is not shown anywhere.
    pub fn deny(&self, user_code: &str) -> bool {
        self.world.oauth.decide(user_code, None)
    }

    /// Changes what the portal is like.
    pub fn set_portal(&self, portal: PortalScript) {
        *self.world.portal.lock() = portal;
    }

    /// Every token, key and code of every account that was given so far, and what was given to upload with, for
    /// tests that look for leaks.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = self.world.accounts.tokens();
        secrets.extend(self.world.uploads.secrets());
        secrets.extend(self.world.oauth.secrets());
        secrets
    }

    /// The names of all accounts, in the order of the scenario.
    #[must_use]
    pub fn accounts(&self) -> Vec<String> {
        let accounts = self.world.accounts.all().iter();
        accounts.map(|account| account.name.to_string()).collect()
    }

    /// The id that the upstream has for an account; empty for an unknown one.
    #[must_use]
    pub fn user_id(&self, account: &str) -> String {
        let account = self.world.accounts.find(account);
        account.map_or_else(String::new, |account| account.user_id.clone())
    }

    /// Queues one reply for an account, or for whoever calls next.
    pub fn script(&self, account: Option<&str>, endpoint: Endpoint, reply: Reply) {
        self.world.scripts.push(account, endpoint, reply);
    }

    /// Sets what is answered when no queued reply is left; `None` goes back to the built-in answer.
    pub fn set_default(&self, account: Option<&str>, endpoint: Endpoint, reply: Option<Reply>) {
        self.world.scripts.set_default(account, endpoint, reply);
    }

    /// How many queued replies nobody has called for yet.
    #[must_use]
    pub fn scripts_left(&self) -> usize {
        self.world.scripts.left()
    }

    /// Ends all session and access tokens of an account that were given so far.
    pub fn expire(&self, account: &str) {
        self.world.accounts.expire(account);
        self.world.oauth.expire(account);
    }

    /// Takes everything an account has, as a sign-out elsewhere would, or a key, or gives it back.
    pub fn set_revoked(&self, account: &str, is_revoked: bool) {
        self.world.accounts.set_revoked(account, is_revoked);
        self.world.oauth.set_revoked(account, is_revoked);
    }

    /// All requests that are remembered, oldest first, as far as they have come.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.world.journal.requests()
    }

    /// The requests to one endpoint, oldest first.
    #[must_use]
    pub fn requests_to(&self, endpoint: Endpoint) -> Vec<RecordedRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.endpoint == Some(endpoint));
        requests
    }

    /// The first request, past or to come, of which this is true; `None` when the time is over. The test may not
    /// itself ask for [`Simulator::requests`].
    pub async fn wait_until(
        &self,
        is_it: impl FnMut(&RecordedRequest) -> bool,
        within: Duration,
    ) -> Option<RecordedRequest> {
        self.world.journal.wait_until(is_it, within).await
    }

    /// The figures as soon as this is true of them; `None` when the time is over.
    pub async fn wait_for_counters(&self, is_it: impl FnMut(&Counters) -> bool, within: Duration) -> Option<Counters> {
        self.world.journal.wait_for_counters(is_it, within).await
    }

    /// The figures now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.world.journal.counters()
    }

    /// What was seen that no correct client does: mixed identities, forged headers, chats of the owner deleted, …
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.world.journal.violations()
    }

    /// The chats of one account, or of all, in the order of their creation.
    #[must_use]
    pub fn chats(&self, account: Option<&str>) -> Vec<ChatView> {
        self.world.chats.views(account)
    }

    /// All files in the bucket, in the order of their arrival; one that came twice is where it came last.
    #[must_use]
    pub fn uploads(&self) -> Vec<UploadView> {
        self.world.uploads.views()
    }

    /// Links to pictures of other sites that came with messages.
    #[must_use]
    pub fn foreign_links(&self) -> Vec<String> {
        self.world.uploads.foreign_links()
    }

    /// Ends the signed links that an account was given so far, as five minutes would.
    pub fn expire_links(&self, account: &str) {
        self.world.uploads.expire_links(account);
    }

    /// All videos that were begun, in the order of their making.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskView> {
        self.world.tasks.views()
    }

    /// Stops, and waits until the last connection is closed.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

fn base_url(address: SocketAddr) -> Url {
    parsed(&format!("http://{address}/"))
}

fn parsed(url: &str) -> Url {
    #[expect(clippy::expect_used, reason = "a socket address is a host and a port, and the path is one of ours")]
    Url::parse(url).expect("address as URL")
}
