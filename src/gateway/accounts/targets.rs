//! The endpoints of static keys and OAuth accounts.

use std::collections::HashMap;
use std::sync::Arc;

use tracing::warn;

use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::live::Live;
use crate::base::secret::AccessToken;
use crate::base::seed::StaticKey;
use crate::base::session::Session;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::upstream::openai::client::Target;
use crate::upstream::openai::encode::Profile;

/// The endpoint of each identity.
pub(crate) enum Targets {
    /// Each key to its own endpoint. A reload adds keys; those that are gone stay for the requests that are under way.
    Keys(Live<HashMap<CredentialKey, Target>>),
    /// Each account to where its credentials say, which a refresh may change.
    Accounts(OAuthAccounts),
}

impl Targets {
    /// The endpoint of this session; `None` if the account is gone or its credentials name a host that gets no token.
    pub(crate) fn of(&self, session: &Session) -> Option<Target> {
        match self {
            Self::Keys(targets) => targets.now().get(session.key()).cloned(),
            Self::Accounts(accounts) => {
                let identity = session.identity();
                let base = accounts.api_base(identity)?.inspect_err(|error| {
                    warn!(identity.id = %identity, error = %error, "this account is not used, since its token must not go to that address");
                });
                Some(Target { base: base.ok()?, profile: Profile::Portal })
            }
        }
    }
}

/// The sessions of static keys in their order, and where each of them goes. A key that is given twice for the same
/// endpoint is used once.
#[must_use]
pub(crate) fn keys(keys: &[StaticKey]) -> (Vec<Arc<Session>>, HashMap<CredentialKey, Target>) {
    let (mut sessions, mut targets) = (Vec::new(), HashMap::new());
    for (place, key) in (1..).zip(keys) {
        let (Some(session), target) = (session_of(place, key), target_of(key)) else { continue };
        if targets.insert(session.key().clone(), target).is_none() {
            sessions.push(session);
        }
    }
    (sessions, targets)
}

/// The session of a static key, under the name `key-N`.
pub(crate) fn session_of(number: usize, key: &StaticKey) -> Option<Arc<Session>> {
    // Keys are opaque: without an `exp` claim they never expire.
    let token = AccessToken::parse(key.key.expose(), UnixSeconds(0)).ok()?;
    let identity = IdentityId::named(&format!("key-{number}"));
    Some(Arc::new(Session::new(identity, key.credential(), None, Some(token))))
}

/// Where the requests of a static key go.
pub(crate) fn target_of(key: &StaticKey) -> Target {
    Target { base: key.base.clone(), profile: Profile::Key }
}

#[cfg(test)]
mod tests {
    use crate::base::secret::UpstreamKey;

    use super::*;

    #[test]
    fn a_key_at_two_endpoints_is_two_identities_and_a_repeated_one_is_not() {
        let key =
            |key: &str, base: &str| StaticKey { key: UpstreamKey::parse(key).unwrap(), base: base.parse().unwrap() };
        let given = [
            key("k", "https://one.example/v1"),
            key("k", "https://two.example/v1"),
            key("k", "https://one.example/v1"),
        ];
        let (sessions, targets) = keys(&given);
        let names: Vec<_> = sessions.iter().map(|session| session.identity().as_str()).collect();
        assert_eq!(names, ["key-1", "key-2"]);
        let bases: Vec<_> = sessions.iter().map(|session| targets[session.key()].base.as_str()).collect();
        assert_eq!(bases, ["https://one.example/v1", "https://two.example/v1"]);
    }
}
