//! One OAuth account: the place and the state of its credentials, its view for people, and when it is due.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::oauth::{AccountId, OAuthCredentials, UnixMillis};
use crate::base::session::Session;
use crate::gateway::accounts::error::{LastForced, RefreshError};
use crate::pool::Now;
use crate::store::oauth_files::{FileStamp, OAuthFiles};

/// One account in use.
pub(crate) struct Account {
    pub(crate) session: Arc<Session>,
    pub(crate) place: Place,
    /// Held while the account's file is read and replaced, by a refresh or by the scan of the folder.
    pub(crate) gate: AsyncMutex<()>,
    pub(crate) known: Mutex<Known>,
}

/// The place that credentials are read from and written to.
#[derive(Clone)]
pub(crate) enum Place {
    File { files: OAuthFiles, account: AccountId },
    Given { number: usize },
}

/// The known facts of an account.
pub(crate) struct Known {
    pub(crate) credentials: OAuthCredentials,
    pub(crate) stamp: Option<FileStamp>,
    /// Moment at which these credentials were taken over.
    pub(crate) taken_at: UnixSeconds,
    /// Hash of the text that the credentials came from.
    pub(crate) origin: CredentialKey,
    /// Number of a token that the upstream refused, even if it has not expired.
    pub(crate) refused: Option<u64>,
    /// Moment at which a refresh brought the present token; `None` for one from a file.
    pub(crate) renewed_at: Option<Instant>,
    pub(crate) forced: LastForced,
    pub(crate) failures: u32,
    pub(crate) retry_at: Option<Instant>,
    pub(crate) due_at: Option<Instant>,
    /// Refresh tokens that were replaced by a refresh, the newest last.
    pub(crate) spent: VecDeque<CredentialKey>,
}

/// The states of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccountState {
    /// It has a token that has not expired.
    Ready,
    /// Its token has expired, and a refresh is due.
    Expired,
    /// The owner has to log in again.
    NeedsLogin,
    /// Refreshes succeed, but its tokens are refused by the portal.
    PortalRefuses,
}

impl AccountState {
    /// Advice for the owner, in the middle of a sentence: no capital, no full stop.
    #[must_use]
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Ready => "nothing",
            Self::Expired => "nothing, it is renewed when it is needed",
            Self::NeedsLogin => "log in again with: qwen-bridge auth add ID",
            Self::PortalRefuses => {
                "the portal refuses its fresh token and is asked again now and then (free tier closed 2026-04-15); a \
                 static key is the way around"
            }
        }
    }
}

/// One account as people see it.
#[derive(Clone, Debug)]
pub(crate) struct AccountView {
    /// Its identity in the pool.
    pub identity: IdentityId,
    /// Ready, expired, in need of a login, or refused.
    pub state: AccountState,
    /// End of the access token in use, if known.
    pub expires_at: Option<UnixSeconds>,
    /// Whether an access token is in use; it may have expired.
    pub has_token: bool,
    /// Moment at which the credentials were taken over, from a file or a refresh.
    pub taken_at: UnixSeconds,
    /// Whether the credentials have an access token.
    pub has_access_token: bool,
    /// `token_type` of the credentials, such as `Bearer`.
    pub token_type: String,
    /// End of the access token by `expiry_date` of the credentials.
    pub expiry_date: Option<UnixMillis>,
    /// Whether it has a refresh token, and so can be renewed.
    pub has_refresh_token: bool,
}

impl Account {
    /// Whether the upstream refused the present token of the session.
    pub(crate) fn has_refused_token(&self) -> bool {
        self.known.lock().refused == Some(self.session.token_generation())
    }
}

impl Known {
    pub(crate) fn new(credentials: OAuthCredentials, stamp: Option<FileStamp>, origin: CredentialKey) -> Self {
        Self {
            credentials,
            stamp,
            taken_at: Now::read().unix,
            origin,
            refused: None,
            renewed_at: None,
            forced: LastForced::default(),
            failures: 0,
            retry_at: None,
            due_at: None,
            spent: VecDeque::new(),
        }
    }

    /// Notes that a refresh token was replaced.
    pub(crate) fn spend(&mut self, old: &OAuthCredentials) {
        if let Some(token) = old.refresh_token() {
            if self.spent.len() >= SPENT_MAX {
                self.spent.pop_front();
            }
            self.spent.push_back(token.key());
        }
    }
}

impl Place {
    /// Path of the file; `None` for credentials of a setting.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File { files, account } => Some(files.path_of(account)),
            Self::Given { .. } => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { files, account } => write!(f, "{}", files.path_of(account).display()),
            Self::Given { number } => write!(f, "QWEN_OAUTH_CREDS entry {number}"),
        }
    }
}

/// Wait before a token is renewed that lives for `left` more seconds: until `buffer` before its end, but at least half
/// of the rest, and up to a tenth of the buffer earlier by `jitter` in 0..=1.
pub(crate) fn seconds_until_due(left: u64, buffer: Duration, jitter: f64) -> Duration {
    let left = Duration::from_secs(left);
    let margin = buffer.mul_f64(1.0 + 0.1 * jitter.clamp(0.0, 1.0)).min(left / 2);
    left.saturating_sub(margin)
}

/// Wait after this number of failures in a row; `jitter` in 0..=1 takes away up to half of it.
pub(crate) fn backoff(failures: u32, jitter: f64) -> Duration {
    let ceiling = (BACKOFF_BASE * 2_u32.saturating_pow(failures.min(8))).min(BACKOFF_MAX);
    ceiling.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// Wait that the upstream asked for, at most [`BACKOFF_MAX`]; else zero.
pub(crate) fn retry_after(error: &RefreshError) -> Duration {
    error.upstream().and_then(|error| error.retry_after).unwrap_or_default().min(BACKOFF_MAX)
}

/// First backoff after failures that do not tell about the refresh token.
const BACKOFF_BASE: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(30 * 60);
/// Most replaced refresh tokens of one account that are recognised.
const SPENT_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_token_is_due() {
        let due = |left, buffer, jitter| seconds_until_due(left, Duration::from_secs(buffer), jitter).as_secs();
        assert_eq!(due(3600, 300, 0.0), 3300);
        assert_eq!(due(3600, 300, 1.0), 3270);
        assert_eq!(due(3600, 0, 1.0), 3600);
        assert_eq!(due(400, 300, 0.0), 200, "at least half of what is left");
        assert_eq!(due(3600, 30_000, 0.0), 1800, "a buffer that was meant in milliseconds");
        assert_eq!(due(0, 300, 1.0), 0);
    }

    #[test]
    fn failures_are_spaced_out() {
        let waits: Vec<_> = (0..8).map(|failures| backoff(failures, 0.0).as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1800, 1800]);
        assert_eq!((backoff(0, 1.0).as_secs(), backoff(u32::MAX, 0.0).as_secs()), (15, 1800));
    }
}
