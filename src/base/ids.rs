//! Names for identities and moments, as small types that cannot be mixed up.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name of one identity as people see it: `identity-1`, `identity-2`, … in the order of configuration.
///
/// Safe to log: it says nothing about the account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityId(Arc<str>);

impl IdentityId {
    /// The id of the identity at this place (counted from 1) of the configuration.
    #[must_use]
    pub fn numbered(place: usize) -> Self {
        Self(format!("identity-{place}").into())
    }

    /// An id with a given text, for callers who bring their own credential.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdentityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a credential on disk: 32 hex digits of the SHA-256 of its configured text.
///
/// A changed cookie gives another key, so nothing that was learnt about the old one is held against it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CredentialKey(String);

impl CredentialKey {
    /// The key of a credential with this text.
    #[must_use]
    pub fn of(secret_text: &str) -> Self {
        let digest = Sha256::digest([b"qwen-bridge credential\0".as_slice(), secret_text.as_bytes()].concat());
        Self(base16ct::lower::encode_string(digest.get(..16).unwrap_or(&digest)))
    }

    /// A key read back from where [`CredentialKey::as_str`] was written.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The 32 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A moment of the wall clock in whole seconds since 1970, as the wire carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub i64);

impl UnixSeconds {
    /// This moment moved by some seconds, without overflow.
    #[must_use]
    pub fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Whole seconds from `earlier` to here; 0 when `earlier` is later.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}
