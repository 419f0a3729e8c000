//! The endpoints of static keys and OAuth accounts.

use std::collections::{HashMap, VecDeque};
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
    /// Each key to its own endpoint.
    Keys(Live<KeyTargets>),
    /// Each account to where its credentials say, which a refresh may change.
    Accounts(OAuthAccounts),
}

/// Most keys that are gone whose endpoints are still known.
const GONE_MAX: usize = 256;

/// The endpoints of static keys.
#[derive(Clone, Default)]
pub(crate) struct KeyTargets {
    present: HashMap<CredentialKey, Target>,
    /// Endpoints of keys that a reload took away, the latest last, for the requests that are under way: at most
    /// [`GONE_MAX`].
    gone: VecDeque<(CredentialKey, Target)>,
}

impl KeyTargets {
    /// The endpoint of a key, also of one that was taken away lately.
    pub(crate) fn get(&self, key: &CredentialKey) -> Option<&Target> {
        let gone = || self.gone.iter().rev().find(|(its, _)| its == key);
        self.present.get(key).or_else(|| gone().map(|(_, target)| target))
    }

    /// The endpoints after a reload that read these keys.
    #[must_use]
    pub(crate) fn with(&self, keys: &[StaticKey]) -> Self {
        let present: HashMap<_, _> = keys.iter().map(|key| (key.credential(), target_of(key))).collect();
        let mut gone = self.gone.clone();
        gone.extend(self.present.iter().map(|(key, target)| (key.clone(), target.clone())));
        gone.retain(|(key, _)| !present.contains_key(key));
        gone.drain(..gone.len().saturating_sub(GONE_MAX));
        Self { present, gone }
    }
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
pub(crate) fn keys(keys: &[StaticKey]) -> (Vec<Arc<Session>>, KeyTargets) {
    let (mut sessions, mut targets) = (Vec::new(), KeyTargets::default());
    for (place, key) in (1..).zip(keys) {
        let (Some(session), target) = (session_of(place, key), target_of(key)) else { continue };
        if targets.present.insert(session.key().clone(), target).is_none() {
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
fn target_of(key: &StaticKey) -> Target {
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
        let bases: Vec<_> = sessions.iter().map(|session| targets.get(session.key()).unwrap().base.as_str()).collect();
        assert_eq!(bases, ["https://one.example/v1", "https://two.example/v1"]);
    }

    #[test]
    fn endpoints_of_keys_that_are_gone_are_known_for_a_while_and_their_number_is_bounded() {
        let key = |number: usize| StaticKey {
            key: UpstreamKey::parse("k").unwrap(),
            base: format!("https://{number}.example/v1").parse().unwrap(),
        };
        let mut targets = KeyTargets::default();
        for number in 0..3 * GONE_MAX {
            targets = targets.with(&[key(number)]);
        }
        assert_eq!((targets.present.len(), targets.gone.len()), (1, GONE_MAX));
        let base = |targets: &KeyTargets, number| {
            targets.get(&key(number).credential()).map(|target| target.base.host_str().unwrap().to_owned())
        };
        let (now, last) = (3 * GONE_MAX - 1, 3 * GONE_MAX - 2);
        assert_eq!(base(&targets, now), Some(format!("{now}.example")));
        assert_eq!(base(&targets, last), Some(format!("{last}.example")), "a request may be under way");
        assert_eq!(base(&targets, 0), None);
        // One that comes back is not gone.
        let targets = targets.with(&[key(last)]);
        assert_eq!((targets.present.len(), targets.gone.len()), (1, GONE_MAX));
        assert_eq!(base(&targets, last), Some(format!("{last}.example")));
        let targets = KeyTargets::default().with(&[key(1), key(2)]).with(&[key(1)]).with(&[key(1)]);
        assert_eq!((targets.present.len(), targets.gone.len()), (1, 1));
    }
}
