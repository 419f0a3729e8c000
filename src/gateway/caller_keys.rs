//! The keys that callers may send: the configured ones and those that the owner made on the page. They are looked up
//! by each request and can be replaced while requests are under way.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::base::caller_key::{KeyDigest, KeyLimits, KeyName, NamedKey};
use crate::base::ids::CredentialKey;
use crate::pool::CallerId;

/// The keys of callers. Clones share one set.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallerKeys(Arc<ArcSwap<Vec<Arc<CallerKey>>>>);

/// One key, without the key itself.
#[derive(Debug)]
pub(crate) struct CallerKey {
    /// What it is called.
    pub name: KeyName,
    /// What it may use.
    pub limits: KeyLimits,
    /// Stands for the key within the process.
    pub id: CallerId,
    /// The caller's name on disk: a hash of the key, whatever it is called.
    pub owner: CredentialKey,
    digest: KeyDigest,
}

impl CallerKeys {
    /// The keys of a configuration.
    #[must_use]
    pub(crate) fn new(configured: &[NamedKey]) -> Self {
        let keys = Self::default();
        keys.configure(configured);
        keys
    }

    /// Replaces the configured keys. Requests under way go on.
    pub(crate) fn configure(&self, configured: &[NamedKey]) {
        self.0.store(Arc::new(configured.iter().map(|key| Arc::new(CallerKey::of(key))).collect()));
    }

    /// Whether there is none, so that callers need none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// The key that `offered` is. All keys are compared, each in constant time, so that the time taken does not tell
    /// which one is right.
    #[must_use]
    pub(crate) fn find(&self, offered: &str) -> Option<Arc<CallerKey>> {
        let digest = KeyDigest::of(offered);
        let mut found = None;
        for key in self.0.load().iter() {
            if key.digest.is(&digest) {
                found = Some(Arc::clone(key));
            }
        }
        found
    }
}

impl CallerKey {
    fn of(key: &NamedKey) -> Self {
        let text = key.key.expose();
        let digest = KeyDigest::of(text);
        Self {
            name: key.name.clone(),
            limits: key.limits.clone(),
            id: CallerId(digest.number()),
            owner: CredentialKey::of(text),
            digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::ApiKey;

    fn named(name: &str, key: &str) -> NamedKey {
        NamedKey { name: name.parse().unwrap(), key: ApiKey::new(key), limits: KeyLimits::default() }
    }

    #[test]
    fn a_key_is_found_by_its_text_and_is_the_same_caller_under_another_name() {
        let keys = CallerKeys::new(&[named("key-1", "sk-1"), named("key-2", "sk-2")]);
        let before = keys.find("sk-2").unwrap();
        assert_eq!(before.name.as_str(), "key-2");
        assert!(keys.find("sk-3").is_none() && keys.find("").is_none() && keys.find("sk-").is_none());
        keys.configure(&[named("phone", "sk-2")]);
        let after = keys.find("sk-2").unwrap();
        assert_eq!((after.name.as_str(), after.id, &after.owner), ("phone", before.id, &before.owner));
        assert_eq!(after.owner, CredentialKey::of("sk-2"), "what earlier versions kept is found");
        assert!(keys.find("sk-1").is_none() && !keys.is_empty());
        keys.configure(&[]);
        assert!(keys.is_empty());
    }
}
