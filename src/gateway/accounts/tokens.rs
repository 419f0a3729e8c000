//! The source of tokens for the identities of a pool.

use std::sync::Arc;
use std::time::Duration;

use crate::base::facts::AccountKind;
use crate::base::session::Session;
use crate::gateway::accounts::error::RefreshError;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::accounts::web::WebAccounts;

/// Age up to which a token from a refresh counts as fresh.
const FRESH: Duration = Duration::from_secs(60);

/// The way in which the tokens of one kind of identity are renewed.
#[derive(Clone)]
pub(crate) enum Tokens {
    /// Renewed by the cookies of a browser.
    Web(WebAccounts),
    /// Renewed by refresh tokens of OAuth.
    OAuth(OAuthAccounts),
    /// Never renewed: a static key is valid until its owner revokes it.
    Fixed,
}

impl Tokens {
    /// Waits until the session has a token that can be used.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub(crate) async fn ensure_fresh(&self, session: &Arc<Session>) -> Result<(), RefreshError> {
        match self {
            Self::Web(accounts) => accounts.ensure_fresh(session).await,
            Self::OAuth(accounts) => accounts.ensure_fresh(session).await,
            Self::Fixed => Ok(()),
        }
    }

    /// The kind of account that these tokens are for.
    pub(crate) fn kind(&self) -> AccountKind {
        match self {
            Self::Web(_) => AccountKind::Web,
            Self::OAuth(_) => AccountKind::OAuth,
            Self::Fixed => AccountKind::Key,
        }
    }

    /// The session of a caller's own credential, with the token of its last renewal.
    pub(crate) fn own(&self, given: &Arc<Session>) -> Arc<Session> {
        match self {
            Self::Web(accounts) => accounts.own(given),
            Self::OAuth(_) | Self::Fixed => Arc::clone(given),
        }
    }

    /// Whether a caller's own session can renew its token.
    pub(crate) fn can_renew_own(&self, session: &Session) -> bool {
        matches!(self, Self::Web(_)) && session.cookie("refresh_token").is_some()
    }

    /// Renews the token of a caller's own session.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub(crate) async fn replace_own(&self, session: &Arc<Session>, generation: u64) -> Result<(), RefreshError> {
        match self {
            Self::Web(accounts) => accounts.replace_own(session, generation).await,
            Self::OAuth(_) | Self::Fixed => Err(RefreshError::Refused { identity: session.identity().clone() }),
        }
    }

    /// Whether a refused token can be replaced by another.
    pub(crate) fn are_renewed(&self) -> bool {
        !matches!(self, Self::Fixed)
    }

    /// Replaces the token of `generation`, which was refused. It is not used again, even if this fails.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub(crate) async fn replace(&self, session: &Arc<Session>, generation: u64) -> Result<(), RefreshError> {
        match self {
            Self::Web(accounts) => {
                accounts.doubt(session, generation);
                accounts.replace(session, generation).await
            }
            Self::OAuth(accounts) => {
                accounts.doubt(session, generation);
                accounts.replace(session, generation).await
            }
            Self::Fixed => Err(RefreshError::Refused { identity: session.identity().clone() }),
        }
    }

    /// As [`Self::replace`], in the background.
    pub(crate) fn replace_later(&self, session: &Arc<Session>, generation: u64) {
        match self {
            Self::Web(accounts) => {
                accounts.doubt(session, generation);
                accounts.replace_later(session, generation);
            }
            Self::OAuth(accounts) => {
                accounts.doubt(session, generation);
                accounts.replace_later(session, generation);
            }
            Self::Fixed => {}
        }
    }

    /// Whether the session's token came from a refresh of the last minute, so that a refusal is not for its age.
    pub(crate) fn is_fresh(&self, session: &Session) -> bool {
        let renewed_at = match self {
            Self::Web(accounts) => accounts.renewed_at(session),
            Self::OAuth(accounts) => accounts.renewed_at(session),
            Self::Fixed => None,
        };
        renewed_at.is_some_and(|at| at.elapsed() < FRESH)
    }
}
