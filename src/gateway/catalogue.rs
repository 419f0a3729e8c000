//! The model catalogue: fetched when needed, kept, served stale while it is fetched again. Never fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tracing::{debug, info, warn};

use crate::chat::models::{ModelInfo, builtin_catalogue};
use crate::shutdown::Supervisor;
use crate::telemetry::ErrorChain;
use crate::upstream::web::client::QwenWeb;

/// How long a request may wait for a catalogue that has never been seen.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// How long after a failed fetch the next one waits.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The models that the upstream has, as last seen.
#[derive(Debug)]
pub struct Catalogue {
    /// The models.
    pub models: Vec<ModelInfo>,
    /// Whether the list is the upstream's own; otherwise it is the built-in one, and a name that is not in it may
    /// still be right.
    pub is_live: bool,
    /// When to fetch again.
    due_at: Instant,
}

impl Catalogue {
    /// The model with exactly this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&ModelInfo> {
        self.models.iter().find(|model| model.id == id)
    }
}

/// Keeps the catalogue. Clones share it.
#[derive(Clone)]
pub struct Models(Arc<Shared>);

struct Shared {
    upstream: Arc<QwenWeb>,
    supervisor: Supervisor,
    ttl: Duration,
    current: ArcSwap<Catalogue>,
    fetching: Mutex<()>,
}

impl Models {
    /// A catalogue that starts with the built-in list and fetches the live one on first need.
    #[must_use]
    pub fn new(upstream: Arc<QwenWeb>, supervisor: Supervisor, ttl: Duration) -> Self {
        let builtin = Catalogue { models: builtin_catalogue(), is_live: false, due_at: Instant::now() };
        let current = ArcSwap::from_pointee(builtin);
        Self(Arc::new(Shared { upstream, supervisor, ttl, current, fetching: Mutex::new(()) }))
    }

    /// The newest catalogue there is. Waits, for a few seconds at most, only while none has been seen at all.
    pub async fn current(&self) -> Arc<Catalogue> {
        let current = self.0.current.load_full();
        if Instant::now() < current.due_at {
            return current;
        }
        if current.is_live {
            self.fetch_in_background();
            return current;
        }
        // The fetch goes on when this caller gives up waiting for it.
        let models = self.clone();
        let (done, fetched) = tokio::sync::oneshot::channel();
        self.0.supervisor.spawn("fetch models", async move {
            models.fetch().await;
            // Nobody waits any more: fine.
            let _ = done.send(());
        });
        if tokio::time::timeout(FIRST_WAIT, fetched).await.is_err() {
            // It goes on, but one wait is enough: further requests take what there is.
            let current = self.0.current.load_full();
            if !current.is_live {
                let due_at = Instant::now() + RETRY_AFTER;
                self.0.current.store(Arc::new(Catalogue { models: current.models.clone(), is_live: false, due_at }));
            }
        }
        self.0.current.load_full()
    }

    /// Fetches the catalogue if it is due, without anybody waiting.
    pub fn fetch_in_background(&self) {
        let models = self.clone();
        self.0.supervisor.spawn("fetch models", async move { models.fetch().await });
    }

    async fn fetch(&self) {
        let _only_one = self.0.fetching.lock().await;
        let current = self.0.current.load_full();
        if Instant::now() < current.due_at {
            return;
        }
        let catalogue = match self.0.upstream.models().await {
            Ok(models) => {
                if current.is_live {
                    debug!(models = models.len(), "model catalogue fetched");
                } else {
                    info!(models = models.len(), "model catalogue fetched");
                }
                Catalogue { models, is_live: true, due_at: Instant::now() + self.0.ttl }
            }
            Err(error) => {
                warn!(error = %ErrorChain(&error), "model catalogue not fetched, the last one goes on");
                let due_at = Instant::now() + RETRY_AFTER;
                Catalogue { models: current.models.clone(), is_live: current.is_live, due_at }
            }
        };
        self.0.current.store(Arc::new(catalogue));
    }
}
