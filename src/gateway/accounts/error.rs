//! Reasons why an account has no fresh token.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::ids::IdentityId;
use crate::store::oauth_files::OAuthFileError;
use crate::upstream::error::UpstreamError;

/// Reasons why an account has no fresh token. Clones share their cause, since one refresh may fail for many callers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RefreshError {
    /// The upstream refuses the login itself: its owner has to log in again.
    #[error("the login of {identity} is refused by the upstream, log in again")]
    Refused { identity: IdentityId },
    /// The upstream answered with a token of another account than the one that is configured.
    #[error("the refresh of {identity} brought a token of another account, which is not used: paste its cookie again")]
    OtherAccount { identity: IdentityId },
    /// The account does not exist (any more).
    #[error("the account {identity} is gone")]
    Gone { identity: IdentityId },
    /// The upstream gave no conclusive answer; it is tried again later.
    #[error("the token of {identity} could not be renewed")]
    Failed {
        identity: IdentityId,
        /// The failed call; `None` when the process is stopping.
        #[source]
        source: Option<Arc<UpstreamError>>,
    },
    /// The file of the credentials cannot be locked or read; it is tried again later.
    #[error("the token of {identity} could not be renewed")]
    File {
        identity: IdentityId,
        /// The fault of the file.
        #[source]
        source: Arc<OAuthFileError>,
    },
}

impl RefreshError {
    /// The upstream's failure, if it was the cause.
    #[must_use]
    pub fn upstream(&self) -> Option<&UpstreamError> {
        match self {
            Self::Failed { source, .. } => source.as_deref(),
            Self::Refused { .. } | Self::OtherAccount { .. } | Self::Gone { .. } | Self::File { .. } => None,
        }
    }
}

/// The result of a forced refresh of one account.
#[derive(Clone, Debug)]
pub(crate) struct Forced {
    pub identity: IdentityId,
    /// Time since the upstream was asked; zero for just now.
    pub age: Duration,
    /// Success, or the reason why no token came.
    pub result: Result<(), RefreshError>,
}

/// The last forced refresh of an account, which is not repeated immediately.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastForced(Option<(Instant, Result<(), RefreshError>)>);

/// Pause between two forced refreshes of one account.
const FORCE_SPACING: Duration = Duration::from_secs(10);

impl LastForced {
    /// The last result, while it is too soon for another refresh.
    pub(crate) fn recent(&self) -> Option<(Duration, Result<(), RefreshError>)> {
        let (at, result) = self.0.as_ref()?;
        let age = at.elapsed();
        (age < FORCE_SPACING).then(|| (age, result.clone()))
    }

    /// Notes the result of a refresh that has just ended.
    pub(crate) fn note(&mut self, result: Result<(), RefreshError>) {
        self.0 = Some((Instant::now(), result));
    }
}
