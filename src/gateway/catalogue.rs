//! The models of each kind of upstream: fetched when needed, kept, and served stale while they are fetched again.
//! Asking for a list never fails.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::base::ids::CredentialKey;
use crate::base::live::Live;
use crate::chat::models::{ModelInfo, builtin_catalogue};
use crate::gateway::accounts::single_flight::SingleFlight;
use crate::gateway::accounts::targets::Targets;
use crate::pool::IdentityPool;
use crate::shutdown::Supervisor;
use crate::telemetry::ErrorChain;
use crate::upstream::openai::client::OpenAiApi;
use crate::upstream::web::client::QwenWeb;

/// Longest wait of a request for a list that was never fetched.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Pause after a failed fetch.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// The models of the portal, which has no list of its own. Two of the names stand for its newest models.
const PORTAL_MODELS: [&str; 4] = ["qwen3-coder-plus", "qwen3-coder-flash", "coder-model", "vision-model"];

/// A list as it was last fetched.
#[derive(Debug)]
struct Fetched<T> {
    list: Arc<T>,
    /// Whether it came from an upstream; `false` for the built-in list.
    is_live: bool,
    /// Time at which it was put here.
    since: Instant,
    /// Time of the next fetch, if no shorter age counts as fresh meanwhile.
    due_at: Instant,
}

/// Keeps one list and fetches it again when it is due.
struct Kept<T> {
    current: ArcSwap<Fetched<T>>,
    fetches: SingleFlight<(), ()>,
}

impl<T: Send + Sync + 'static> Kept<T> {
    /// Starts with `first`, which is due at once.
    fn new(first: T, supervisor: Supervisor, task_name: &'static str) -> Self {
        let now = Instant::now();
        let first = Fetched { list: Arc::new(first), is_live: false, since: now, due_at: now };
        Self { current: ArcSwap::from_pointee(first), fetches: SingleFlight::new(supervisor, task_name) }
    }

    /// The newest list, which is fetched again at the age of `ttl`. Waits, for [`FIRST_WAIT`] at most, only while none has
    /// been fetched at all.
    async fn current<F>(&self, ttl: Duration, fetch: F) -> Arc<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let current = self.current.load_full();
        if Instant::now() < current.due_at && current.since.elapsed() < ttl {
            return Arc::clone(&current.list);
        }
        let fetched = self.fetches.join((), fetch);
        if current.is_live {
            return Arc::clone(&current.list);
        }
        if timeout(FIRST_WAIT, fetched).await.is_err() {
            // The fetch continues, but one wait is enough: later requests take the present list.
            let current = self.current.load_full();
            if !current.is_live {
                self.put(Arc::clone(&current.list), false, RETRY_AFTER);
            }
        }
        Arc::clone(&self.current.load().list)
    }

    fn put(&self, list: Arc<T>, is_live: bool, due_in: Duration) {
        let since = Instant::now();
        self.current.store(Arc::new(Fetched { list, is_live, since, due_at: since + due_in }));
    }

    /// Keeps the list as it is until the next try.
    fn retry_later(&self) {
        let current = self.current.load_full();
        self.put(Arc::clone(&current.list), current.is_live, RETRY_AFTER);
    }
}

/// The models that the web chat has.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub models: Vec<ModelInfo>,
    /// Whether the list is the upstream's own. Otherwise it is the built-in one, and names that are missing in it may
    /// still be valid.
    pub is_live: bool,
}

impl Catalogue {
    /// The model with exactly this id.
    #[must_use]
    pub(crate) fn find(&self, id: &str) -> Option<&ModelInfo> {
        self.models.iter().find(|model| model.id == id)
    }
}

/// Keeps the web chat's catalogue. Clones share it.
#[derive(Clone)]
pub(crate) struct Models(Arc<WebModels>);

struct WebModels {
    upstream: Arc<QwenWeb>,
    ttl: Live<Duration>,
    kept: Kept<Catalogue>,
}

impl Models {
    /// A catalogue that starts with the built-in list and fetches the live one on first need.
    #[must_use]
    pub(crate) fn new(upstream: Arc<QwenWeb>, supervisor: Supervisor, ttl: Live<Duration>) -> Self {
        let builtin = Catalogue { models: builtin_catalogue(), is_live: false };
        Self(Arc::new(WebModels { upstream, ttl, kept: Kept::new(builtin, supervisor, "fetch models") }))
    }

    /// The newest catalogue. Waits, for five seconds at most, only while none has been fetched at all.
    pub(crate) async fn current(&self) -> Arc<Catalogue> {
        self.0.kept.current(*self.0.ttl.now(), self.clone().fetch()).await
    }

    /// Fetches the catalogue without waiting for it.
    pub(crate) fn fetch_in_background(&self) {
        drop(self.0.kept.fetches.join((), self.clone().fetch()));
    }

    async fn fetch(self) {
        let WebModels { upstream, ttl, kept } = &*self.0;
        match upstream.models().await {
            Ok(models) => {
                if kept.current.load().is_live {
                    debug!(models = models.len(), "model catalogue fetched");
                } else {
                    info!(models = models.len(), "model catalogue fetched");
                }
                kept.put(Arc::new(Catalogue { models, is_live: true }), true, *ttl.now());
            }
            Err(error) => {
                warn!(error = %ErrorChain(&error), "model catalogue not fetched, the last one stays in use");
                kept.retry_later();
            }
        }
    }
}

/// Keeps the names of the models of static keys or of OAuth accounts. Clones share them.
#[derive(Clone)]
pub(crate) struct RelayModels(Arc<RelayInner>);

struct RelayInner {
    pool: IdentityPool,
    api: OpenAiApi,
    targets: Arc<Targets>,
    ttl: Live<Duration>,
    /// In the upstreams' order, each name once.
    kept: Kept<Vec<String>>,
    lists: Mutex<Lists>,
}

/// What the endpoints listed.
#[derive(Default)]
struct Lists {
    /// The last list of each endpoint.
    of: HashMap<CredentialKey, Vec<String>>,
    /// Number of changes of the keys. A fetch during which it grew begins anew.
    generation: u64,
}

impl RelayModels {
    /// The models of these targets: for static keys the lists of their endpoints, for OAuth accounts a built-in list,
    /// since the portal has none.
    #[must_use]
    pub(crate) fn new(
        pool: IdentityPool,
        api: OpenAiApi,
        targets: Arc<Targets>,
        supervisor: Supervisor,
        ttl: Live<Duration>,
    ) -> Self {
        let first = match &*targets {
            Targets::Keys(_) => Vec::new(),
            Targets::Accounts(_) => PORTAL_MODELS.map(str::to_owned).to_vec(),
        };
        let kept = Kept::new(first, supervisor, "fetch models of keys");
        Self(Arc::new(RelayInner { pool, api, targets, ttl, kept, lists: Mutex::default() }))
    }

    /// Lets the next request wait for a new list, since other keys are in use.
    pub(crate) fn fetch_anew(&self) {
        let mut lists = self.0.lists.lock();
        lists.generation += 1;
        let current = self.0.kept.current.load_full();
        self.0.kept.put(Arc::clone(&current.list), false, Duration::ZERO);
    }

    /// Forgets what the endpoint of a key listed.
    pub(crate) fn forget(&self, key: &CredentialKey) {
        self.0.lists.lock().of.remove(key);
    }

    /// Whether the endpoint of some key has not told its models yet.
    pub(crate) fn has_unread_list(&self) -> bool {
        let RelayInner { pool, targets, lists, .. } = &*self.0;
        if !matches!(**targets, Targets::Keys(_)) {
            return false;
        }
        let sessions = pool.sessions();
        let lists = &lists.lock().of;
        sessions.iter().any(|session| !lists.contains_key(session.key()))
    }

    /// The identities whose endpoints are known to lack a model, if another's is known to have it.
    pub(crate) fn without(&self, model: &str) -> Vec<CredentialKey> {
        let lists = &self.0.lists.lock().of;
        let has = |list: &Vec<String>| list.iter().any(|name| name == model);
        if !lists.values().any(has) {
            return Vec::new();
        }
        lists.iter().filter(|(_, list)| !has(list)).map(|(key, _)| key.clone()).collect()
    }

    /// The newest list. Waits, for five seconds at most, only while none has been fetched at all.
    pub(crate) async fn current(&self) -> Arc<Vec<String>> {
        match &*self.0.targets {
            Targets::Accounts(_) => Arc::clone(&self.0.kept.current.load().list),
            Targets::Keys(_) => self.0.kept.current(*self.0.ttl.now(), self.clone().fetch()).await,
        }
    }

    async fn fetch(self) {
        let RelayInner { ttl, kept, lists, .. } = &*self.0;
        loop {
            let generation = lists.lock().generation;
            let (names, is_complete) = self.fetch_once().await;
            // Held until the list is put, so that a change of the keys comes before or after that.
            let lists = lists.lock();
            if lists.generation != generation {
                continue;
            }
            if names.is_empty() {
                warn!("no list of models came from the endpoints of static keys");
                return kept.retry_later();
            }
            return kept.put(Arc::new(names), true, if is_complete { *ttl.now() } else { RETRY_AFTER });
        }
    }

    /// The names that the present endpoints list, each once, and whether all endpoints answered.
    async fn fetch_once(&self) -> (Vec<String>, bool) {
        let RelayInner { pool, api, targets, lists, .. } = &*self.0;
        let mut names: Vec<String> = Vec::new();
        let mut is_complete = true;
        for session in pool.sessions() {
            let Some(target) = targets.of(&session) else { continue };
            match api.models(&session, &target).await {
                Ok(found) => {
                    names.extend(found.iter().cloned());
                    let mut lists = lists.lock();
                    // A key that was removed meanwhile is forgotten already, or will be once this lock is free.
                    if pool.sessions().iter().any(|present| present.key() == session.key()) {
                        lists.of.insert(session.key().clone(), found);
                    }
                }
                Err(error) => {
                    is_complete = false;
                    // Its last list holds until there is a new one.
                    names.extend(lists.lock().of.get(session.key()).into_iter().flatten().cloned());
                    debug!(identity.id = %session.identity(), error = %ErrorChain(&error), "models not listed");
                }
            }
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        (names, is_complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_list_is_fetched_again_at_the_age_that_is_set_now() {
        let kept = Arc::new(Kept::new(0_u32, Supervisor::new(), "fetch numbers"));
        let current = async |ttl_seconds: u64| {
            let (ttl, next) = (Duration::from_secs(ttl_seconds), Arc::clone(&kept));
            let fetch = async move {
                let number = *next.current.load().list + 1;
                next.put(Arc::new(number), true, ttl);
            };
            let number = *kept.current(ttl, fetch).await;
            // What is due is fetched in the background.
            tokio::time::sleep(Duration::from_millis(1)).await;
            number
        };
        assert_eq!((current(600).await, current(600).await), (1, 1));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(current(600).await, 1);
        assert_eq!((current(30).await, current(30).await), (1, 2), "the shorter age holds for the list that is there");
    }
}
