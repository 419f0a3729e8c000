//! Whose request it is, and what it may take.

use std::sync::Arc;
use std::time::Duration;

use crate::base::facts::{Need, Usage};
use crate::base::ids::CredentialKey;
use crate::base::session::Session;
use crate::gateway::answer::trace::Trace;
use crate::pool::CallerId;

/// Whose request it is, and what was tried for it.
#[derive(Clone)]
pub(crate) struct RequestContext {
    /// For fairness between callers.
    pub caller: CallerId,
    /// The caller's name on disk; `None` for answers that are not continued.
    pub owner: Option<CredentialKey>,
    /// The caller's own credential, in client mode; it never enters the pool.
    pub own: Option<Arc<Session>>,
    /// How often the caller's client has already tried again by itself.
    pub client_retries: u32,
    /// Filled while the request is tried.
    pub trace: Trace,
}

/// The limits of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLimits {
    /// What an account is charged with for it.
    pub(crate) usage: Usage,
    /// Whether files have to be handed over for it.
    pub(crate) uploads: bool,
    /// How long it may take in all.
    pub(crate) total_timeout: Duration,
    /// How long one try may take to its first content.
    pub(crate) first_event_timeout: Duration,
}

impl RequestLimits {
    /// What the request needs of an identity.
    pub(crate) fn need(&self) -> Need {
        Need { usage: self.usage, uploads: self.uploads }
    }
}
