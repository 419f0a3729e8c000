//! Who pays for a failure, said to the pool and, where it has to be remembered, written down.

use std::sync::Arc;

use tracing::warn;

use crate::gateway::error::outcome_of;
use crate::pool::{IdentityPool, Lease, Now, Outcome};
use crate::store::Store;
use crate::upstream::error::UpstreamError;

/// Keeps the accounts of all identities. Clones keep the same ones.
#[derive(Clone)]
pub(crate) struct Books {
    pool: IdentityPool,
    store: Arc<Store>,
}

impl Books {
    pub(crate) fn new(pool: IdentityPool, store: Arc<Store>) -> Self {
        Self { pool, store }
    }

    /// Ends a lease with a failure. Rests and deaths outlive the process.
    pub(crate) fn charge(&self, lease: Lease, error: &UpstreamError, now: Now) {
        let session = Arc::clone(lease.session());
        let outcome = outcome_of(error, now);
        let is_fact = matches!(
            outcome,
            Outcome::RateLimited { .. } | Outcome::Quota { .. } | Outcome::Challenged | Outcome::Dead
        );
        let is_pooled = self.pool.credential(session.identity()).is_some();
        if matches!(outcome, Outcome::Challenged) {
            warn!(
                identity.id = %session.identity(),
                "the upstream wants a human: open chat.qwen.ai in a browser with this account and pass its check"
            );
        }
        lease.finish(outcome, now);
        if is_fact && is_pooled {
            self.store.save_facts(session.key().clone(), self.pool.facts(session.identity()));
        }
    }
}
