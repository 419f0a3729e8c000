//! The keys that callers may send: the configured ones and those that the owner made on the page. Each request looks
//! them up, and they can be replaced while requests are under way.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use crate::base::caller_key::{KeyDigest, KeyLimits, KeyName, NamedKey};
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::secret::ApiKey;
use crate::gateway::random::secret_text;
use crate::pool::CallerId;
use crate::shutdown::Supervisor;
use crate::store::{MadeKey, Store, StoreError};

/// The keys of callers. Clones share one set.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallerKeys(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The keys that requests are compared with.
    all: ArcSwap<Vec<Arc<CallerKey>>>,
    sources: Mutex<Sources>,
    /// Held over a change of the owner and its save, so that both happen in one order.
    changing: AsyncMutex<()>,
    /// Runs the changes, so that an owner who leaves does not cut one in half.
    supervisor: Supervisor,
}

/// The keys from which the set is made.
#[derive(Debug, Default)]
struct Sources {
    configured: Vec<NamedKey>,
    /// Keys that the owner made, oldest first.
    made: Vec<MadeKey>,
}

/// One key, without the key itself.
#[derive(Debug)]
pub(crate) struct CallerKey {
    /// Name of the key in usage, limits and logs.
    pub name: KeyName,
    /// Configuration, first start or page.
    pub origin: KeyOrigin,
    /// Daily limits and allowed models.
    pub limits: KeyLimits,
    /// Identifies the key within the process.
    pub id: CallerId,
    /// Hash of the key, which names the caller in the state file.
    pub owner: CredentialKey,
    /// The key as the page shows it: `sk-…abcd`.
    pub shown: String,
    /// Time of making; `None` for a key that this server did not make, or whose time it no longer knows.
    pub created_at: Option<UnixSeconds>,
    /// Its name in the state file, for one that the owner made.
    kept_as: Option<KeyName>,
    digest: KeyDigest,
}

/// Reasons why a key cannot be made, changed or revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// No key has this name.
    #[error("no key is called {0}")]
    Unknown(KeyName),
    /// Another key has this name.
    #[error("a key called {0} is there already")]
    Taken(KeyName),
    /// The key is configured, or the server made it for itself.
    #[error("the key {0} was not made on the page")]
    NotOfThePage(KeyName, KeyOrigin),
    /// There are [`MADE_MAX`] keys.
    #[error("there are {MADE_MAX} keys already")]
    TooMany,
    /// The state file cannot keep the key.
    #[error("the state file cannot keep the key")]
    NotKept(#[from] StoreError),
}

/// The origin of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyOrigin {
    /// The key is part of the configuration.
    File,
    /// This server made it at its first start.
    Generated,
    /// The owner made it on the page.
    Page,
}

impl KeyOrigin {
    /// Word for the origin, as the page shows it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Generated => "generated",
            Self::Page => "page",
        }
    }
}

impl CallerKeys {
    /// The configured keys, and those that the owner made in earlier runs.
    #[must_use]
    pub(crate) fn new(configured: &[NamedKey], made: Vec<MadeKey>, supervisor: Supervisor) -> Self {
        let keys = Self(Arc::new(Inner { supervisor, ..Inner::default() }));
        keys.0.sources.lock().made = made;
        keys.configure(configured);
        keys
    }

    /// Replaces the configured keys. Requests under way are not affected.
    pub(crate) fn configure(&self, configured: &[NamedKey]) {
        self.change(|sources| sources.configured = configured.to_vec());
    }

    /// Replaces the limits of the key that the server made for itself.
    pub(crate) fn limit_generated(&self, limits: &KeyLimits) {
        self.change(|sources| {
            for key in sources.configured.iter_mut().filter(|key| key.is_generated) {
                key.limits = limits.clone();
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Sources)) {
        let mut sources = self.0.sources.lock();
        change(&mut sources);
        self.0.all.store(Arc::new(sources.keys()));
    }

    /// Makes a key of 256 random bits with this name, valid as soon as it is saved. Returns the key, which is not kept
    /// and can be shown once.
    ///
    /// # Errors
    /// The name is taken, there are too many keys, or the key cannot be kept.
    pub(crate) async fn make(
        &self,
        store: &Arc<Store>,
        name: KeyName,
        limits: KeyLimits,
        now: UnixSeconds,
    ) -> Result<ApiKey, KeyError> {
        let text = format!("sk-{}", secret_text());
        let made = MadeKey {
            name: name.clone(),
            digest: *KeyDigest::of(&text).as_bytes(),
            owner: CredentialKey::of(&text),
            shown: masked(&text),
            limits,
            created_at: now,
        };
        let (keys, store) = (self.clone(), Arc::clone(store));
        self.to_the_end(async move {
            let _changing = keys.0.changing.lock().await;
            keys.check_new(name)?;
            store.save_made_key(made.clone()).await?;
            keys.change(|sources| sources.made.push(made));
            Ok(())
        })
        .await?;
        Ok(ApiKey::new(&text))
    }

    /// Checks that a further key can be made with this name.
    fn check_new(&self, name: KeyName) -> Result<(), KeyError> {
        let sources = self.0.sources.lock();
        // The name under which the owner's page asks is reserved.
        if name == KeyName::page() || self.named(&name).is_some() || sources.made.iter().any(|key| key.name == name) {
            return Err(KeyError::Taken(name));
        }
        if sources.made.len() >= MADE_MAX { Err(KeyError::TooMany) } else { Ok(()) }
    }

    /// Replaces the limits of a key that the owner made, at once.
    ///
    /// # Errors
    /// There is no such key, it was not made on the page, or the change cannot be kept.
    pub(crate) async fn limit(&self, store: &Arc<Store>, name: &KeyName, limits: KeyLimits) -> Result<(), KeyError> {
        let (keys, store, name) = (self.clone(), Arc::clone(store), name.clone());
        self.to_the_end(async move {
            let _changing = keys.0.changing.lock().await;
            let kept_as = keys.made(&name)?;
            let mut changed = None;
            keys.change(|sources| {
                if let Some(key) = sources.made.iter_mut().find(|key| key.name == kept_as) {
                    key.limits = limits;
                    changed = Some(key.clone());
                }
            });
            store.save_made_key(changed.ok_or(KeyError::Unknown(name))?).await?;
            Ok(())
        })
        .await
    }

    /// Revokes a key that the owner made: later requests with it are refused.
    ///
    /// # Errors
    /// There is no such key, it was not made on the page, or the state file cannot be changed, so that the key will be
    /// valid again after a restart.
    pub(crate) async fn revoke(&self, store: &Arc<Store>, name: &KeyName) -> Result<(), KeyError> {
        let (keys, store, name) = (self.clone(), Arc::clone(store), name.clone());
        self.to_the_end(async move {
            let _changing = keys.0.changing.lock().await;
            let kept_as = keys.made(&name)?;
            keys.change(|sources| sources.made.retain(|key| key.name != kept_as));
            store.forget_made_key(&kept_as).await?;
            Ok(())
        })
        .await
    }

    /// Runs a change to its end, whether or not the owner waits for it.
    async fn to_the_end(
        &self,
        change: impl Future<Output = Result<(), KeyError>> + Send + 'static,
    ) -> Result<(), KeyError> {
        let finished = self.0.supervisor.finish("change of a caller's key", change);
        finished.await.unwrap_or(Err(KeyError::NotKept(StoreError::Closed)))
    }

    /// The name in the state file of a key that the owner made.
    fn made(&self, name: &KeyName) -> Result<KeyName, KeyError> {
        let all = self.all();
        let key = all.iter().find(|key| key.name == *name).ok_or_else(|| KeyError::Unknown(name.clone()))?;
        key.kept_as.clone().ok_or_else(|| KeyError::NotOfThePage(name.clone(), key.origin))
    }

    /// The key with this name.
    #[must_use]
    pub(crate) fn named(&self, name: &KeyName) -> Option<Arc<CallerKey>> {
        self.all().iter().find(|key| key.name == *name).map(Arc::clone)
    }

    /// Whether no key exists, so that callers need none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.all.load().is_empty()
    }

    /// The key that `offered` is. All keys are compared, each in constant time, so that the duration does not tell
    /// which one matched.
    #[must_use]
    pub(crate) fn find(&self, offered: &str) -> Option<Arc<CallerKey>> {
        let digest = KeyDigest::of(offered);
        let mut found = None;
        for key in self.0.all.load().iter() {
            if key.digest.is(&digest) {
                found = Some(Arc::clone(key));
            }
        }
        found
    }

    /// All keys, in the order of configuration, then those of the page.
    #[must_use]
    pub(crate) fn all(&self) -> Arc<Vec<Arc<CallerKey>>> {
        self.0.all.load_full()
    }
}

impl Sources {
    /// All keys. One of the page whose name a configured key has taken gets another name; one that is also configured
    /// appears once, as the configured one.
    fn keys(&self) -> Vec<Arc<CallerKey>> {
        let mut keys: Vec<Arc<CallerKey>> = self.configured.iter().map(|key| Arc::new(CallerKey::of(key))).collect();
        for made in &self.made {
            let mut key = CallerKey::of_made(made);
            if keys.iter().any(|known| known.digest.is(&key.digest)) {
                continue;
            }
            let is_taken = |name: &KeyName| keys.iter().any(|known| known.name == *name);
            let others = std::iter::once(made.name.of_page()).chain((1..).map(KeyName::numbered));
            if is_taken(&key.name)
                && let Some(other) = others.into_iter().find(|name| !is_taken(name))
            {
                key.name = other;
            }
            keys.push(Arc::new(key));
        }
        keys
    }
}

impl CallerKey {
    fn of_made(made: &MadeKey) -> Self {
        let digest = KeyDigest::from_stored(made.digest);
        Self {
            name: made.name.clone(),
            origin: KeyOrigin::Page,
            limits: made.limits.clone(),
            id: CallerId(digest.number()),
            owner: made.owner.clone(),
            shown: made.shown.clone(),
            created_at: Some(made.created_at),
            kept_as: Some(made.name.clone()),
            digest,
        }
    }

    fn of(key: &NamedKey) -> Self {
        let text = key.key.expose();
        let digest = KeyDigest::of(text);
        Self {
            name: key.name.clone(),
            origin: if key.is_generated { KeyOrigin::Generated } else { KeyOrigin::File },
            limits: key.limits.clone(),
            id: CallerId(digest.number()),
            owner: CredentialKey::of(text),
            shown: masked(text),
            created_at: None,
            kept_as: None,
            digest,
        }
    }
}

/// The beginning and the last four characters of a key that is long enough to stay secret.
pub(crate) fn masked(key: &str) -> String {
    let begin = if key.starts_with("sk-") { "sk-" } else { "" };
    let length = key.chars().count();
    if length < SHOWN_LENGTH_MIN {
        return format!("{begin}…");
    }
    let end: String = key.chars().skip(length - SHOWN_CHARS).collect();
    format!("{begin}…{end}")
}

/// Most keys that the owner can make.
pub(crate) const MADE_MAX: usize = 1000;
/// Number of last characters that are shown.
const SHOWN_CHARS: usize = 4;
/// Length below which no character of a key is shown.
const SHOWN_LENGTH_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

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
        let keys = CallerKeys::new(&[named("key-1", "sk-1"), named("key-2", "sk-2")], Vec::new(), Supervisor::new());
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
    fn new_limits_of_the_generated_key_are_its_alone() {
        let generated = NamedKey { name: KeyName::generated(), is_generated: true, ..named("key-1", "sk-own") };
        let keys = CallerKeys::new(&[generated, named("key-2", "sk-2")], Vec::new(), Supervisor::new());
        keys.limit_generated(&KeyLimits { requests_per_day: Some(7), ..KeyLimits::default() });
        assert_eq!(keys.find("sk-own").unwrap().limits.requests_per_day, Some(7));
        assert_eq!(keys.find("sk-2").unwrap().limits.requests_per_day, None);
    }

    #[tokio::test]
    async fn a_key_of_the_page_works_until_it_is_revoked_whatever_is_configured() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap().0);
        let keys = CallerKeys::default();
        let name: KeyName = "laptop".parse().unwrap();
        let limits = KeyLimits { requests_per_day: Some(5), ..KeyLimits::default() };
        let made = keys.make(&store, name.clone(), limits.clone(), UnixSeconds(9)).await.unwrap();
        assert_eq!(made.expose().len(), 3 + 64);
        let found = keys.find(made.expose()).unwrap();
        assert_eq!((&found.name, &found.limits, found.created_at), (&name, &limits, Some(UnixSeconds(9))));
        let again = keys.make(&store, name.clone(), KeyLimits::default(), UnixSeconds(9)).await;
        assert!(matches!(again, Err(KeyError::Taken(_))), "{again:?}");
        // A configured key takes the name; the one of the page goes on under another.
        keys.configure(&[named("laptop", "sk-configured")]);
        assert_eq!(keys.find("sk-configured").unwrap().name, name);
        let other = keys.find(made.expose()).unwrap().name.clone();
        assert_eq!(other.as_str(), "laptop-page");
        assert!(matches!(keys.revoke(&store, &name).await, Err(KeyError::NotOfThePage(_, KeyOrigin::File))));
        keys.limit(&store, &other, KeyLimits::default()).await.unwrap();
        store.close().await;
        let (store, loaded) = Store::open(dir.path()).map(|(store, loaded)| (Arc::new(store), loaded)).unwrap();
        let keys = CallerKeys::new(&[], loaded.made_keys, Supervisor::new());
        let found = keys.find(made.expose()).unwrap();
        assert_eq!((&found.name, &found.limits), (&name, &KeyLimits::default()), "as it was changed");
        // One that is configured too is not there twice.
        keys.configure(&[named("key-1", made.expose())]);
        assert_eq!((keys.all().len(), keys.find(made.expose()).unwrap().origin), (1, KeyOrigin::File));
        keys.configure(&[]);
        keys.revoke(&store, &name).await.unwrap();
        assert!(keys.find(made.expose()).is_none() && keys.is_empty());
        assert!(matches!(keys.revoke(&store, &name).await, Err(KeyError::Unknown(_))));
        store.close().await;
        assert!(Store::open(dir.path()).unwrap().1.made_keys.is_empty());
        // The file never had the key.
        let whole = std::fs::read(dir.path().join("state.db")).unwrap();
        assert!(!whole.windows(64).any(|window| window == &made.expose().as_bytes()[3..]));
    }

    #[tokio::test]
    async fn a_change_that_its_owner_leaves_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap().0);
        let keys = CallerKeys::default();
        let name: KeyName = "laptop".parse().unwrap();
        let mut making = Box::pin(keys.make(&store, name.clone(), KeyLimits::default(), UnixSeconds(9)));
        assert!(futures_util::poll!(&mut making).is_pending());
        drop(making);
        // The next change waits for the earlier one.
        let limits = KeyLimits { requests_per_day: Some(5), ..KeyLimits::default() };
        keys.limit(&store, &name, limits.clone()).await.unwrap();
        assert_eq!(keys.named(&name).unwrap().limits, limits);
        store.close().await;
        assert_eq!(Store::open(dir.path()).unwrap().1.made_keys[0].limits, limits);
    }

    #[tokio::test]
    async fn a_change_and_its_save_come_before_those_of_the_next_change() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap().0);
        let keys = CallerKeys::default();
        let name: KeyName = "laptop".parse().unwrap();
        keys.make(&store, name.clone(), KeyLimits::default(), UnixSeconds(9)).await.unwrap();
        // Another change that is not saved yet.
        let changing = keys.0.changing.lock().await;
        let limits = KeyLimits { requests_per_day: Some(5), ..KeyLimits::default() };
        let mut both = Box::pin(async { tokio::join!(keys.limit(&store, &name, limits), keys.revoke(&store, &name)) });
        for _ in 0..10 {
            assert!(futures_util::poll!(&mut both).is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(keys.named(&name).unwrap().limits, KeyLimits::default());
        drop(changing);
        let (limited, revoked) = both.await;
        assert!(limited.is_ok() && revoked.is_ok(), "{limited:?} {revoked:?}");
        store.close().await;
        assert!(Store::open(dir.path()).unwrap().1.made_keys.is_empty());
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
            assert_eq!(masked(key), expected);
        }
    }
}
