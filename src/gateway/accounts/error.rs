//! Why an account has no fresh token.

use std::sync::Arc;

use crate::base::ids::IdentityId;
use crate::store::oauth_files::OAuthFileError;
use crate::upstream::error::UpstreamError;

/// Why an account has no fresh token. Clones share their cause, since one refresh may fail for many callers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RefreshError {
    /// The upstream refuses the login itself: its owner has to log in again.
    #[error("the login of {identity} is refused by the upstream, log in again")]
    Refused {
        /// The account.
        identity: IdentityId,
    },
    /// There is no such account, or not any more.
    #[error("the account {identity} is gone")]
    Gone {
        /// The account.
        identity: IdentityId,
    },
    /// The upstream gave no answer that tells; it is tried again later.
    #[error("no fresh token for {identity}")]
    Failed {
        /// The account.
        identity: IdentityId,
        /// The failed call; `None` when the process is stopping.
        #[source]
        source: Option<Arc<UpstreamError>>,
    },
    /// The file of the credentials cannot be locked or read; it is tried again later.
    #[error("no fresh token for {identity}")]
    File {
        /// The account.
        identity: IdentityId,
        /// What is wrong with the file.
        #[source]
        source: Arc<OAuthFileError>,
    },
}

impl RefreshError {
    /// The upstream's failure, if that was it.
    #[must_use]
    pub fn upstream(&self) -> Option<&UpstreamError> {
        match self {
            Self::Failed { source, .. } => source.as_deref(),
            Self::Refused { .. } | Self::Gone { .. } | Self::File { .. } => None,
        }
    }
}
