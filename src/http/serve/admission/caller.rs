//! The accepted caller: an extension of the request.

use std::sync::Arc;

use crate::base::caller_key::KeyName;
use crate::base::ids::CredentialKey;
use crate::base::session::Session;
use crate::gateway::caller_keys::CallerKey;
use crate::pool::CallerId;

/// A caller whose key or credential was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Stands for the key that was used.
    pub id: CallerId,
    /// The caller's own credential, in client mode.
    pub own: Option<Arc<Session>>,
    /// The key that was right; `None` where none is asked for.
    pub key: Option<Arc<CallerKey>>,
}

impl Caller {
    /// The owner's page, which chats by its session.
    pub(crate) const PAGE: Self = Self { id: CallerId(u64::MAX), own: None, key: None };

    /// The caller's name on disk: a hash of the key or, in client mode, of the credential. All callers of a server
    /// without keys share one; a renewed credential has another.
    pub(crate) fn hash(&self) -> CredentialKey {
        match (&self.own, &self.key) {
            (Some(own), _) => own.key().clone(),
            (None, Some(key)) => key.owner.clone(),
            (None, None) => CredentialKey::of(""),
        }
    }

    /// The name of the caller's key.
    pub(crate) fn key_name(&self) -> Option<&KeyName> {
        self.key.as_ref().map(|key| &key.name)
    }
}
