//! The configured credentials of one identity.

use url::Url;

use crate::base::ids::CredentialKey;
use crate::base::secret::{AccessToken, Cookie, UpstreamKey};

/// The credentials of one identity as configured: a cookie, a token, or both of one account.
///
/// At least one of cookie and token is there. The place in the configured order becomes the identity's number.
#[derive(Clone, Debug)]
pub struct IdentitySeed {
    /// The browser's `Cookie` header (`COOKIE`, `cookie.txt`).
    pub cookie: Option<Cookie>,
    /// A token given on its own (`QWEN_TOKEN`).
    pub token: Option<AccessToken>,
    /// Cookies of further sessions of the same account, for when the upstream refuses the ones before.
    pub spares: Vec<Cookie>,
}

/// A key of an OpenAI-compatible upstream, and where that is (`QWEN_API_KEYS`).
#[derive(Clone, Debug)]
pub struct StaticKey {
    /// Key that authorises requests to that upstream.
    pub key: UpstreamKey,
    /// The address before `/chat/completions`, without a slash at its end.
    pub base: Url,
}

impl StaticKey {
    /// Name of the key at its endpoint on disk. One key at two endpoints is two identities, each with its own rests.
    #[must_use]
    pub fn credential(&self) -> CredentialKey {
        CredentialKey::of(&format!("{} {}", self.key.expose(), self.base))
    }
}
