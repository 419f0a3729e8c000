//! Reasons why a chat was not answered, and their consequences for the identity.

use std::time::Duration;

use crate::base::facts::AccountKind;
use crate::chat::reply::RejectedAs;
use crate::gateway::accounts::error::RefreshError;
use crate::pool::{LeaseError, Now, Outcome};
use crate::store::StoreError;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};

/// Length of a day in seconds; this clock has no leap seconds.
const DAY_SECONDS: u32 = 86_400;

/// Reasons why a chat was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// No identity of this kind was available.
    #[error("{0}")]
    Lease(LeaseError, AccountKind),
    /// The upstream failed on every identity that was tried.
    #[error("no answer after {attempts} attempts")]
    Upstream {
        /// The failure of the last attempt.
        #[source]
        error: UpstreamError,
        /// Number of attempts, at least 1.
        attempts: u32,
    },
    /// The model gave no answer in the requested form, even when it was told the fault.
    #[error("the answer is not of the form that was asked for ({})", .0.code())]
    Rejected(RejectedAs),
    /// The caller's own credential was refused.
    #[error("the caller's own credential was refused")]
    OwnCredential(#[source] UpstreamError),
    /// No identity has a usable session.
    #[error("no session is usable")]
    Session(#[source] RefreshError, AccountKind),
    /// The account in which something was begun no longer belongs to this server.
    #[error("the account that it was begun in is not configured any more")]
    AccountGone,
    /// A fact that has to outlive the process cannot be stored.
    #[error("the answer cannot be saved in the state file")]
    NotKept(#[source] StoreError),
}

/// Time until the next midnight of UTC, when daily quotas return. Only callers' requests use an account then, so the
/// end needs no jitter.
pub(crate) fn until_midnight(now: Now) -> Duration {
    let into_day = now.unix.0.rem_euclid(i64::from(DAY_SECONDS)).unsigned_abs();
    Duration::from_secs(u64::from(DAY_SECONDS) - into_day)
}

/// The consequence of a failure for the identity on which it happened.
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
        // Kept by model, outside of the pool.
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

/// Whether the upstream itself answered a call that failed. Behind another failure the call may have had its effect.
pub(crate) fn is_answered(error: &UpstreamError) -> bool {
    use UpstreamErrorKind as Kind;
    error.source.is_none() && !matches!(error.kind, Kind::Timeout | Kind::Protocol)
}

/// Whether a call that failed certainly had no effect: the upstream refused it, or nothing was sent.
pub(crate) fn is_without_effect(error: &UpstreamError) -> bool {
    error.is_unsent() || (is_answered(error) && error.kind != UpstreamErrorKind::Unavailable)
}

/// Whether a failure to continue a chat leaves open whether a new chat with the whole conversation succeeds.
pub(crate) fn is_chats_fault(kind: UpstreamErrorKind) -> bool {
    is_chat_useless(kind) || kind == UpstreamErrorKind::BusyChat
}

/// Whether another attempt to continue the chat would fail in the same way.
pub(crate) fn is_chat_useless(kind: UpstreamErrorKind) -> bool {
    use UpstreamErrorKind as Kind;
    matches!(kind, Kind::LostChat | Kind::InvalidRequest | Kind::TooLong)
}

#[cfg(test)]
mod tests {
    use super::UpstreamErrorKind as Kind;
    use super::*;

    #[test]
    fn what_an_answer_tells_of_the_effect() {
        let check = |kind: Kind, expected: (bool, bool)| {
            let error = UpstreamError::new("starting a video", kind);
            assert_eq!((is_answered(&error), is_without_effect(&error)), expected, "{kind:?}");
        };
        check(Kind::RateLimited, (true, true));
        check(Kind::InvalidRequest, (true, true));
        check(Kind::Unavailable, (true, false));
        check(Kind::Timeout, (false, false));
        check(Kind::Protocol, (false, false));
    }

    /// The failure of a request to an address where nothing listens, or where each connection is closed at once.
    async fn failure(is_listening: bool) -> UpstreamError {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let asked = async {
            let sent = client.post(url).body("x").send().await;
            UpstreamError::transport("starting a video", sent.unwrap_err())
        };
        if !is_listening {
            drop(listener);
            return asked.await;
        }
        // Closed as soon as it was made.
        let closing = async { drop(listener.accept().await.unwrap()) };
        tokio::join!(asked, closing).0
    }

    #[tokio::test]
    async fn a_call_that_was_not_sent_has_no_effect() {
        assert!(is_without_effect(&failure(false).await));
        assert!(!is_without_effect(&failure(true).await));
    }
}
