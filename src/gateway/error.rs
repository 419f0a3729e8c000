//! Why a chat was not answered, and what that means for the identity that it was asked on.

use std::time::Duration;

use crate::gateway::refresher::RefreshError;
use crate::pool::{LeaseError, Now, Outcome};
use crate::store::StoreError;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};

/// Seconds of the day after which a quota without a date returns: midnight UTC and up to this much.
const QUOTA_JITTER_SECONDS: u64 = 300;

/// Why a chat was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// No identity could be had.
    #[error(transparent)]
    Lease(LeaseError),
    /// The upstream failed, on every identity that was tried.
    #[error("no answer after {attempts} attempts")]
    Upstream {
        /// The last failure.
        #[source]
        error: UpstreamError,
        /// How many there were.
        attempts: u32,
    },
    /// The caller's own credential was refused.
    #[error("the caller's own credential was refused")]
    OwnCredential(#[source] UpstreamError),
    /// No identity has a usable session.
    #[error("no session is usable")]
    Session(#[source] RefreshError),
    /// The account that something was begun in is not one of this server's any more.
    #[error("the account that it was begun in is not configured any more")]
    AccountGone,
    /// What has to outlive the process cannot be written down.
    #[error("the state file does not take it")]
    NotKept(#[source] StoreError),
}

/// What a failure means for the identity that it happened on.
pub(crate) fn outcome_of(error: &UpstreamError, now: Now) -> Outcome {
    use UpstreamErrorKind as Kind;
    match error.kind {
        Kind::Unauthorized => Outcome::Unauthorized,
        Kind::Forbidden => Outcome::Dead,
        Kind::RateLimited => Outcome::RateLimited { retry_after: error.retry_after },
        Kind::QuotaExhausted { hours } => {
            let rest = match (hours, error.retry_after) {
                (Some(hours), _) => Duration::from_secs(hours.saturating_mul(3600)),
                (None, Some(rest)) => rest,
                (None, None) => {
                    let into_day = now.unix.0.rem_euclid(86_400).unsigned_abs();
                    Duration::from_secs(86_400 - into_day + fastrand::u64(0..=QUOTA_JITTER_SECONDS))
                }
            };
            Outcome::Quota { rest }
        }
        Kind::Challenged => Outcome::Challenged,
        Kind::ContentPolicy
        | Kind::InvalidRequest
        | Kind::ModelNotFound
        | Kind::TooLarge
        | Kind::TooLong
        | Kind::LostChat
        | Kind::BusyChat => Outcome::Neutral,
        Kind::Unavailable | Kind::Timeout | Kind::Truncated | Kind::Empty | Kind::Protocol => {
            Outcome::Transient { code: error.kind.code() }
        }
    }
}
