//! The caller of a request, and the limits of the request.

use std::sync::Arc;
use std::time::Duration;

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
