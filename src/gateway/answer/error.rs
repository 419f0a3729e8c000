//! Why a chat was not answered, and what that means for the identity that it was asked on.

use std::time::Duration;

use crate::base::facts::AccountKind;
use crate::chat::reply::RejectedAs;
use crate::gateway::accounts::error::RefreshError;
use crate::pool::{LeaseError, Now, Outcome};
use crate::store::StoreError;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};

/// A day of UTC, which has no leap seconds on this clock.
const DAY_SECONDS: u32 = 86_400;

/// Why a chat was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// No identity of this kind could be had.
    #[error("{0}")]
    Lease(LeaseError, AccountKind),
    /// The upstream failed, on every identity that was tried.
    #[error("no answer after {attempts} attempts")]
    Upstream {
        /// The last failure.
        #[source]
        error: UpstreamError,
        /// How many there were.
        attempts: u32,
    },
    /// The model gave no answer of the form that was asked for, not even when it was told so.
    #[error("the answer is not of the form that was asked for ({})", .0.code())]
    Rejected(RejectedAs),
    /// The caller's own credential was refused.
    #[error("the caller's own credential was refused")]
    OwnCredential(#[source] UpstreamError),
    /// No identity has a usable session.
    #[error("no session is usable")]
    Session(#[source] RefreshError, AccountKind),
    /// The account that something was begun in is not one of this server's any more.
    #[error("the account that it was begun in is not configured any more")]
    AccountGone,
    /// What has to outlive the process cannot be written down.
    #[error("the state file does not take it")]
    NotKept(#[source] StoreError),
}

/// The next midnight of UTC is when a day's quota comes back. Nothing but a caller's request uses an account then, so
/// there is no herd to spread.
pub(crate) fn until_midnight(now: Now) -> Duration {
    let into_day = now.unix.0.rem_euclid(i64::from(DAY_SECONDS)).unsigned_abs();
    Duration::from_secs(u64::from(DAY_SECONDS) - into_day)
}

/// What a failure means for the identity that it happened on.
pub(crate) fn outcome_of(error: &UpstreamError, now: Now) -> Outcome {
    use UpstreamErrorKind as Kind;
    match error.kind {
        Kind::Unauthorized => Outcome::Unauthorized,
        Kind::Forbidden => Outcome::Forbidden,
        Kind::RateLimited => Outcome::RateLimited { retry_after: error.retry_after },
        Kind::QuotaExhausted { hours } => {
            let rest = match (hours, error.retry_after) {
                (Some(hours), _) => Duration::from_secs(hours.saturating_mul(3600)),
                (None, Some(rest)) => rest,
                (None, None) => until_midnight(now),
            };
            Outcome::Quota { rest }
        }
        Kind::Challenged => Outcome::Challenged,
        Kind::ContentPolicy
        | Kind::InvalidRequest
        | Kind::ModelNotFound
        | Kind::ModelDenied
        // Kept by model, beside the pool.
        | Kind::ModelQuotaExhausted
        | Kind::TooLarge
        | Kind::TooLong
        | Kind::LostChat
        | Kind::BusyChat
        | Kind::OutOfDescriptors => Outcome::Neutral,
        Kind::Unavailable | Kind::Timeout | Kind::Truncated | Kind::Empty | Kind::Protocol => {
            Outcome::Transient { code: error.kind.code() }
        }
    }
}

/// Whether a failure to continue a chat says nothing of a new chat with the whole conversation.
pub(crate) fn is_chats_fault(kind: UpstreamErrorKind) -> bool {
    is_chat_useless(kind) || kind == UpstreamErrorKind::BusyChat
}

/// Whether the next try to continue the chat would fail likewise.
pub(crate) fn is_chat_useless(kind: UpstreamErrorKind) -> bool {
    use UpstreamErrorKind as Kind;
    matches!(kind, Kind::LostChat | Kind::InvalidRequest | Kind::TooLong)
}
