//! The accepted caller: an extension of the request.

use std::sync::Arc;

use crate::base::ids::CredentialKey;
use crate::base::secret::ApiKey;
use crate::base::session::Session;
use crate::pool::CallerId;

/// A caller whose key or credential was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Stands for the key that was used.
    pub id: CallerId,
    /// The caller's own credential, in client mode.
    pub own: Option<Arc<Session>>,
}

impl Caller {
    /// The caller's name on disk: a hash of the key or, in client mode, of the credential. All callers of a server
    /// without keys share one; a renewed credential has another.
    pub(crate) fn hash(&self, keys: &[ApiKey]) -> CredentialKey {
        if let Some(own) = &self.own {
            return own.key().clone();
        }
        // The id is the key's place, counted from 1. Only a few routes need the hash.
        let place = usize::try_from(self.id.0).ok().and_then(|place| place.checked_sub(1));
        CredentialKey::of(place.and_then(|place| keys.get(place)).map_or("", ApiKey::expose))
    }
}
