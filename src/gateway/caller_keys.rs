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
    /// Where it comes from.
    pub origin: KeyOrigin,
    /// What it may use.
    pub limits: KeyLimits,
    /// Stands for the key within the process.
    pub id: CallerId,
    /// The caller's name on disk: a hash of the key, whatever it is called.
    pub owner: CredentialKey,
    /// How the key is shown to its owner: `sk-…abcd`.
    pub shown: String,
    digest: KeyDigest,
}

/// Where a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyOrigin {
    /// The configuration.
    File,
    /// This server made it at its first start.
    Generated,
}

impl KeyOrigin {
    /// The word for it on the page.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Generated => "generated",
        }
    }
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

    /// All keys, in the order of configuration.
    #[must_use]
    pub(crate) fn all(&self) -> Arc<Vec<Arc<CallerKey>>> {
        self.0.load_full()
    }
}

impl CallerKey {
    fn of(key: &NamedKey) -> Self {
        let text = key.key.expose();
        let digest = KeyDigest::of(text);
        Self {
            name: key.name.clone(),
            origin: if key.is_generated { KeyOrigin::Generated } else { KeyOrigin::File },
            limits: key.limits.clone(),
            id: CallerId(digest.number()),
            owner: CredentialKey::of(text),
            shown: shown(text),
            digest,
        }
    }
}

/// The beginning and the last four characters of a key that is long enough to stay secret.
fn shown(key: &str) -> String {
    let begin = if key.starts_with("sk-") { "sk-" } else { "" };
    let length = key.chars().count();
    if length < SHOWN_LENGTH_MIN {
        return format!("{begin}…");
    }
    let end: String = key.chars().skip(length - SHOWN_CHARS).collect();
    format!("{begin}…{end}")
}

/// The last characters of a key that are shown.
const SHOWN_CHARS: usize = 4;
/// A shorter key shows none of them.
const SHOWN_LENGTH_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::ApiKey;

    fn named(name: &str, key: &str) -> NamedKey {
        NamedKey {
            name: name.parse().unwrap(),
            key: ApiKey::new(key),
            limits: KeyLimits::default(),
            is_generated: false,
        }
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

    #[test]
    fn a_shown_key_gives_nothing_away() {
        for (key, expected) in [
            ("sk-0123456789abcdef", "sk-…cdef"),
            ("0123456789abcdef", "…cdef"),
            ("sk-short", "sk-…"),
            ("test", "…"),
            ("0123456789äöüß€µ", "…üß€µ"),
        ] {
            assert_eq!(shown(key), expected);
        }
    }
}
