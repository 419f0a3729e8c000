//! Reasons why no identity could be lent, and their remedies.

use std::time::{Duration, Instant};

use crate::base::facts::CoolingReason;
use crate::pool::identity::Block;
use crate::pool::view::IdentityReason;

/// Reasons why no identity could be lent. Every message is fit for callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// There is no identity at all.
    #[error("no Qwen account is configured: add the cookie of one on this server's page /admin, or in its cookie.txt")]
    NoneConfigured,
    /// Every usable identity is at its cap, and the queue is full or the wait was in vain.
    #[error("every account is busy: try again in {}", in_words(*retry_after))]
    Busy {
        /// Wait until another try can succeed.
        retry_after: Duration,
    },
    /// The upstream asked for a rest.
    #[error("every account rests ({}): try again in {}", because(*reason), in_words(*retry_after))]
    Resting {
        /// Reason of the rest that is named.
        reason: CoolingReason,
        /// Wait until the first of them is back.
        retry_after: Duration,
    },
    /// None can be used, for other reasons.
    #[error("no account can be used now: {}", remedy(*retry_after, *needs_login))]
    Unusable {
        /// Wait until the first of them may be tried again; `None` if time alone does not help.
        retry_after: Option<Duration>,
        /// Whether some account has to be logged in again.
        needs_login: bool,
    },
    /// Nothing is sent for a while, since several identities were asked for a human at once.
    #[error(
        "the upstream asks for a human, so nothing is sent for now: open chat.qwen.ai in a browser \
         from this network, and try again in {}",
        in_words(*retry_after)
    )]
    Paused {
        /// Wait until another try can succeed.
        retry_after: Duration,
    },
    /// This request has tried every identity already.
    #[error("every account was tried for this request")]
    AllTried,
}

impl LeaseError {
    /// The error for identities that are all kept from being used. If all of them rest, the reason that time
    /// heals soonest is named; else what holds for the one that is back first. Identities without a credential that
    /// works do not count beside those whose quota is gone: another try at them rarely brings an answer.
    pub(crate) fn of(blocks: &[Block], now: Instant) -> Self {
        let needs_login = blocks.iter().any(|block| block.until.is_none());
        let timed = blocks.iter().filter_map(|block| Some((block.until?, block)));
        let Some((until, soonest)) = timed.min_by_key(|(until, _)| *until) else {
            return Self::Unusable { retry_after: None, needs_login };
        };
        if soonest.lacks_credential() {
            let able: Vec<Block> = blocks.iter().copied().filter(|block| !block.lacks_credential()).collect();
            let has_no_quota = |block: &Block| block.rest == Some(CoolingReason::Quota);
            if able.iter().all(|block| block.rest.is_some()) && able.iter().any(has_no_quota) {
                return Self::of(&able, now);
            }
        }
        let retry_after = until.saturating_duration_since(now);
        let rests: Option<Vec<_>> = blocks.iter().map(|block| block.until.and(block.rest)).collect();
        let named = match (rests, soonest.reason) {
            (Some(rests), _) => SOONEST_FIRST.into_iter().find(|reason| rests.contains(reason)),
            (None, IdentityReason::Resting(_, reason)) => Some(reason),
            (None, _) => None,
        };
        match named {
            Some(reason) => Self::Resting { reason, retry_after },
            None => Self::Unusable { retry_after: Some(retry_after), needs_login },
        }
    }

    /// Wait until another try can succeed; `None` if time alone does not help.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoneConfigured | Self::AllTried => None,
            Self::Busy { retry_after } | Self::Resting { retry_after, .. } | Self::Paused { retry_after } => {
                Some(*retry_after)
            }
            Self::Unusable { retry_after, .. } => *retry_after,
        }
    }
}

/// A wait in words, rounded up, so that a retry never comes too early.
fn in_words(length: Duration) -> String {
    let seconds = length.as_secs().saturating_add(u64::from(length.subsec_nanos() > 0));
    match seconds {
        0..=120 => format!("{seconds} s"),
        121..=7200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3600)),
    }
}

fn because(reason: CoolingReason) -> &'static str {
    match reason {
        CoolingReason::Rate => "too many requests",
        CoolingReason::Quota => "the quota is used up",
        CoolingReason::Challenge => "the upstream asks for a human, so open chat.qwen.ai in a browser",
        CoolingReason::Owner => "its owner sent it to rest",
    }
}

fn remedy(retry_after: Option<Duration>, needs_login: bool) -> String {
    let login = "log in again";
    match (retry_after, needs_login) {
        (None, _) => "its owner has to log in again".to_owned(),
        (Some(length), false) => format!("try again in {}", in_words(length)),
        (Some(length), true) => {
            format!("try again in {}, or {login}", in_words(length))
        }
    }
}

const SOONEST_FIRST: [CoolingReason; 4] =
    [CoolingReason::Rate, CoolingReason::Quota, CoolingReason::Owner, CoolingReason::Challenge];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_when_and_how() {
        let some = |millis| Some(Duration::from_millis(millis));
        let unusable = |retry_after, needs_login| LeaseError::Unusable { retry_after, needs_login };
        for (error, retry_after, words) in [
            (LeaseError::NoneConfigured, None, "add the cookie"),
            (LeaseError::AllTried, None, "was tried"),
            (LeaseError::Busy { retry_after: Duration::from_millis(1200) }, some(1200), "in 2 s"),
            (LeaseError::Paused { retry_after: Duration::from_millis(3000) }, some(3000), "in 3 s"),
            (unusable(None, true), None, "log in"),
            (unusable(some(4000), false), some(4000), "now: try again in 4 s"),
            (unusable(some(4000), true), some(4000), "4 s, or log in"),
            (unusable(some(121_000), false), some(121_000), "in 3 min"),
            (unusable(some(7_201_000), false), some(7_201_000), "in 3 h"),
        ] {
            assert_eq!(error.retry_after(), retry_after);
            assert!(error.to_string().contains(words), "{error}");
        }
        for (reason, words) in [
            (CoolingReason::Rate, "too many requests"),
            (CoolingReason::Quota, "quota"),
            (CoolingReason::Challenge, "browser"),
        ] {
            let retry_after = Duration::from_secs(7);
            let error = LeaseError::Resting { reason, retry_after };
            assert_eq!(error.retry_after(), Some(retry_after));
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.to_string().contains("7 s"), "{error}");
        }
    }
}
