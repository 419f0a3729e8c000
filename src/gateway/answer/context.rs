//! The caller of a request, the limits of the request, and its progress through its attempts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::facts::{Need, Usage};
use crate::base::ids::CredentialKey;
use crate::base::session::Session;
use crate::gateway::answer::trace::Trace;
use crate::pool::CallerId;

/// The caller of a request, and the history of its attempts.
#[derive(Clone)]
pub(crate) struct RequestContext {
    /// Identifies the caller, for turns in the queue.
    pub caller: CallerId,
    /// The caller's name on disk; `None` for answers that are not continued.
    pub owner: Option<CredentialKey>,
    /// The caller's own credential, in client mode; it never enters the pool.
    pub own: Option<Arc<Session>>,
    /// Further identities that may be tried: `MAX_RETRIES`, less the earlier attempts of the caller's client.
    pub retries_max: u32,
    /// Filled while the request is tried.
    pub trace: Trace,
}

/// The limits of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLimits {
    /// The usage that an account is charged with.
    pub(crate) usage: Usage,
    /// Whether files have to be handed over for it.
    pub(crate) uploads: bool,
    /// Time limit of the whole request.
    pub(crate) total_timeout: Duration,
    /// Time limit of one attempt, to its first content.
    pub(crate) first_event_timeout: Duration,
}

impl RequestLimits {
    /// The demands of the request on an identity.
    pub(crate) fn need(&self) -> Need {
        Need { usage: self.usage, uploads: self.uploads }
    }
}

/// The progress of one request through its attempts.
pub(crate) struct Progress {
    pub(crate) limits: RequestLimits,
    /// Questions that were put to an upstream.
    pub(crate) attempts: u32,
    /// Those of them that met a challenge.
    pub(crate) challenges: u32,
    /// The identities that were tried, by their credentials' keys.
    pub(crate) tried: Vec<CredentialKey>,
    /// Credential of the account that the request should go to, if it is available.
    pub(crate) preferred: Option<CredentialKey>,
    /// End of the request, with or without further identities.
    pub(crate) deadline: Instant,
    /// Further questions that this request may put.
    pub(crate) retries_left: u32,
    /// Whether the present identity was asked a second time, or may not be: an earlier one was, and no retry is left.
    pub(crate) has_repeated: bool,
    /// Identities that are not asked: they are known to lack the model, and others are known to have it.
    pub(crate) avoided: Vec<CredentialKey>,
    /// The requested model, for identities with quotas by model.
    pub(crate) model: Option<String>,
    /// Number of the token that was sent to the present identity.
    pub(crate) generation: u64,
    /// Whether the present identity's token was renewed for this request.
    pub(crate) is_renewed: bool,
    /// Whether something was begun that must not be begun twice.
    pub(crate) is_final: bool,
}

impl Progress {
    /// A request that has not been tried yet.
    pub(crate) fn begin(limits: RequestLimits, context: &RequestContext) -> Self {
        Self {
            limits,
            attempts: 0,
            challenges: 0,
            tried: Vec::new(),
            preferred: None,
            deadline: Instant::now() + limits.total_timeout,
            retries_left: context.retries_max,
            has_repeated: false,
            avoided: Vec::new(),
            model: None,
            generation: 0,
            is_renewed: false,
            is_final: false,
        }
    }

    /// The same progress, without these identities.
    pub(crate) fn avoiding(mut self, avoided: Vec<CredentialKey>) -> Self {
        self.avoided = avoided;
        self
    }

    /// Notes the requested model, for which an identity may have a quota.
    pub(crate) fn asks_for(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    /// Number of attempts so far.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Counts a second question to the same identity as one of the request's retries.
    pub(crate) fn repeats(&mut self) {
        self.has_repeated = true;
        self.retries_left = self.retries_left.saturating_sub(1);
    }

    /// Begins with an identity, or goes on to the next one: what is known of the one before is not true of it.
    pub(crate) fn takes_up(&mut self, is_first: bool) {
        self.is_renewed = false;
        // Each repetition costs a retry where one is left, so that refusals everywhere end soon.
        self.has_repeated &= !is_first && self.retries_left == 0;
    }

    /// Goes on to another identity than this one.
    pub(crate) fn moves_on(&mut self, key: &CredentialKey, costs_retry: bool) {
        self.retries_left = self.retries_left.saturating_sub(u32::from(costs_retry));
        self.tried.push(key.clone());
    }
}
