//! The values that go out with a lease and come back with its result.

use std::sync::Arc;
use std::time::Duration;

use crate::base::facts::Usage;
use crate::base::session::Session;
use crate::pool::error::LeaseError;
use crate::pool::identity::rest::RestCounts;

/// The result of a request on an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream's own finished frame was seen.
    Success,
    /// A fault that may pass. `code` tells kinds apart: the same one on all identities is the upstream's.
    Transient {
        /// A short constant word for the kind of fault.
        code: &'static str,
    },
    /// Too many requests of what the lease was for; with the time to wait, if the upstream gave one.
    RateLimited {
        /// Wait that the upstream asked for, if any.
        retry_after: Option<Duration>,
    },
    /// The quota of the lease's usage is used up.
    Quota {
        /// Time until the quota returns.
        rest: Duration,
    },
    /// The upstream demands a check by a human, for every usage of the account.
    Challenged,
    /// The access token was refused; a refresh may help.
    Unauthorized,
    /// An access token was refused that is fresh, or that nothing renews. It may be a fault of the upstream: the identity
    /// is looked at again by one request, after seconds at first, then after minutes.
    TokenRefused,
    /// The identity may not do what it is asked for, whatever it is. Looked at again by one request, after a minute at
    /// first, then later and later.
    Forbidden,
    /// Nothing that tells about the identity: the caller left, or asked for something impossible, or we failed.
    Neutral,
}

/// The facts that a lease carries for its result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) index: usize,
    pub(crate) usage: Usage,
    pub(crate) epoch: u64,
    pub(crate) is_probe: bool,
    /// The number of the probe after a pause, if this is one.
    pub(crate) egress_probe: Option<u64>,
    /// Rests that the identity had been asked for by then.
    pub(crate) rests: RestCounts,
    /// The same of handing over files, if the request has some.
    pub(crate) upload_rests: Option<RestCounts>,
}

/// An identity to lend.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) ticket: Ticket,
    pub(crate) session: Arc<Session>,
}

/// Reasons why no identity can be lent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Some would do, but are at their cap: waiting may help.
    AtCap,
    /// Waiting does not help.
    Final(LeaseError),
}
