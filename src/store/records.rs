//! What the state file holds, as the rest of the crate sees it.

use std::collections::HashMap;

use secrecy::SecretString;

use crate::base::facts::IdentityFacts;
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::secret::ApiKey;

/// Everything that was in the state file when it was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Renewed sessions by credential.
    pub sessions: HashMap<CredentialKey, StoredSession>,
    /// Rests and dead credentials. Moments are as they were written: whoever uses them caps what a clock that
    /// stepped back would prolong.
    pub facts: HashMap<CredentialKey, IdentityFacts>,
    /// Chats that this server made and has not deleted yet, oldest first.
    pub chats: Vec<OwnedChat>,
    /// The key that was made at the first start without one.
    pub generated_key: Option<ApiKey>,
}

/// A session as it was last saved.
#[derive(Clone, Debug)]
pub struct StoredSession {
    /// The jar as one `Cookie` header.
    pub cookies: SecretString,
    /// The access token, if there was one.
    pub token: Option<SecretString>,
    /// When it was saved.
    pub saved_at: UnixSeconds,
}

/// A chat in an account that this server made, and may therefore delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedChat {
    /// The upstream's id of the chat.
    pub chat_id: String,
    /// In whose account it is.
    pub key: CredentialKey,
    /// When it was made.
    pub created_at: UnixSeconds,
}
