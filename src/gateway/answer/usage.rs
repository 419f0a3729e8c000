//! The cost of requests for each identity: failures go to the pool, requests and tokens to the daily counts, and rests
//! and breakers that open or close to the state file as well.

use std::sync::Arc;

use tracing::warn;

use crate::base::facts::Usage;
use crate::base::session::Session;
use crate::chat::reply::TokenCounts;
use crate::gateway::answer::error::outcome_of;
use crate::pool::{IdentityPool, Lease, Now, Outcome};
use crate::store::{AccountDays, Spent, Store};
use crate::upstream::error::UpstreamError;

/// Charges identities. Clones charge the same ones.
#[derive(Clone)]
pub(crate) struct Accounting {
    pool: IdentityPool,
    store: Arc<Store>,
    /// Refused tokens of these identities are renewed.
    are_renewed: bool,
}

impl Accounting {
    pub(crate) fn new(pool: IdentityPool, store: Arc<Store>, are_renewed: bool) -> Self {
        Self { pool, store, are_renewed }
    }

    /// Counts a request that an account answers. Its tokens come when they are known.
    pub(crate) fn count_request(&self, session: &Session) {
        self.count(session, Spent { requests: 1, ..Spent::default() });
    }

    /// Counts the tokens of an answer, whole or cut short.
    pub(crate) fn count_tokens(&self, session: &Session, tokens: TokenCounts) {
        let TokenCounts { prompt, completion, cached, .. } = tokens;
        self.count(session, Spent { requests: 0, prompt, completion, cached });
    }

    /// The daily counts of each account, in the order of configuration.
    pub(crate) fn spending(&self) -> Vec<AccountDays> {
        let days = |session: Arc<Session>| AccountDays {
            identity: session.identity().clone(),
            days: self.store.days(session.key()),
        };
        self.pool.sessions().into_iter().map(days).collect()
    }

    /// Nothing is kept about credentials that callers bring.
    fn count(&self, session: &Session, spent: Spent) {
        if self.pool.credential(session.key()).is_some() {
            self.store.count(session.key(), spent, Now::read().unix);
        }
    }

    /// Ends a lease with a failure. The rest or the open breaker that comes of it outlives the process.
    pub(crate) fn charge(&self, lease: Lease, error: &UpstreamError, now: Now) {
        self.charge_token(lease, error, false, now);
    }

    /// The same, where the token may have been fresh, so that a refusal of it is one of the identity.
    pub(crate) fn charge_token(&self, lease: Lease, error: &UpstreamError, is_fresh: bool, now: Now) {
        let session = Arc::clone(lease.session());
        let outcome = match outcome_of(error, now) {
            Outcome::Unauthorized if is_fresh || !self.are_renewed => Outcome::TokenRefused,
            outcome => outcome,
        };
        let before = self.pool.facts(session.key(), now);
        if matches!(outcome, Outcome::Challenged) {
            warn!(
                identity.id = %session.identity(),
                "the upstream wants a human: open chat.qwen.ai in a browser with this account and pass its check"
            );
        }
        if matches!(outcome, Outcome::TokenRefused | Outcome::Forbidden) {
            warn!(
                identity.id = %session.identity(),
                code = error.kind.code(),
                "the upstream refuses this account: it is asked again by one request after a while"
            );
        }
        match outcome {
            Outcome::RateLimited { .. } | Outcome::Quota { .. } if error.is_of_upload => {
                lease.finish_as(Usage::Upload, outcome, now);
            }
            outcome => lease.finish(outcome, now),
        }
        if self.pool.facts(session.key(), now) != before {
            self.store.save_facts(session.key().clone(), || self.pool.facts(session.key(), now));
        }
    }

    /// Writes down that a probe was answered: the breaker that it closed must not be open again after a restart.
    pub(crate) fn probe_answered(&self, session: &Session) {
        self.store.save_facts(session.key().clone(), || self.pool.facts(session.key(), Now::read()));
    }
}
