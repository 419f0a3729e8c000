//! The owner's changes of accounts in a running server: adding, replacing, naming, removing. One change at a time, and
//! each is stored before it is in use.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncGuard};
use tracing::{info, warn};

use crate::base::facts::AccountKind;
use crate::base::ids::{CredentialKey, IdentityId};
use crate::base::oauth::{AccountId, OAuthCredentials};
use crate::base::secret::Cookie;
use crate::base::seed::IdentitySeed;
use crate::base::session::Session;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::accounts::web::{WebAccounts, session_of};
use crate::gateway::chats::continuations::Continuations;
use crate::pool::Now;
use crate::shutdown::Supervisor;
use crate::store::oauth_files::OAuthFileError;
use crate::store::{Loaded, Store, StoreError, StoredAccount};
use crate::telemetry::ErrorChain;

/// Longest label, in characters.
const LABEL_CHARS_MAX: usize = 60;
/// Most accounts that are kept in the state.
const ACCOUNTS_MAX: usize = 1000;

/// The accounts as their owner changes them. Clones share it.
#[derive(Clone)]
pub(crate) struct AccountBook(Arc<Inner>);

impl fmt::Debug for AccountBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountBook")
    }
}

struct Inner {
    web: WebAccounts,
    oauth: OAuthAccounts,
    /// The chats that are kept in the accounts of the web chat.
    continuations: Continuations,
    store: Arc<Store>,
    /// Runs the changes, so that an owner who leaves does not cut one in half.
    supervisor: Supervisor,
    /// Names that the owner gave, by the accounts' credentials.
    labels: Mutex<HashMap<CredentialKey, String>>,
    /// The web accounts that are kept in the state, and not in a file of the owner.
    kept: Mutex<BTreeSet<IdentityId>>,
    changing: AsyncMutex<()>,
}

/// Reasons why a change is not made. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BookError {
    /// The account exists already.
    #[error("the account is there already as {0}")]
    Taken(IdentityId),
    /// The credential is of another account than the one that is to be replaced.
    #[error("the credential is of another account than {0}")]
    OtherAccount(IdentityId),
    /// The account comes from a file or a setting, which this program does not write.
    #[error("the account is given in {0}")]
    OfFile(String),
    /// No account has this id.
    #[error("there is no account {0}")]
    Unknown(String),
    /// The credential is of another kind than the account.
    #[error("the credential is of another kind of account")]
    OtherKind,
    /// No renewal changed how the account signs in, or it is not one of the web chat.
    #[error("there is no earlier session of {0}")]
    NoEarlierSession(IdentityId),
    /// The label is empty, too long or has control characters.
    #[error("a label has 1 to {LABEL_CHARS_MAX} characters")]
    Label,
    /// The state already holds [`ACCOUNTS_MAX`] accounts.
    #[error("{ACCOUNTS_MAX} accounts are kept already")]
    Full,
    /// The state file cannot keep the change.
    #[error("the change cannot be saved in the state file")]
    Store(#[from] StoreError),
    /// The file of an OAuth account cannot be written.
    #[error("the file of the account cannot be written")]
    File(#[from] OAuthFileError),
}

impl AccountBook {
    /// A book over these accounts.
    #[must_use]
    pub(crate) fn new(
        web: WebAccounts,
        oauth: OAuthAccounts,
        continuations: Continuations,
        store: Arc<Store>,
        supervisor: Supervisor,
        loaded: &Loaded,
    ) -> Self {
        Self(Arc::new(Inner {
            web,
            oauth,
            continuations,
            store,
            supervisor,
            labels: Mutex::new(loaded.labels.clone()),
            kept: Mutex::default(),
            changing: AsyncMutex::new(()),
        }))
    }

    /// Takes over the accounts that an earlier run kept in the state. One that a file gives as well is left to the
    /// file.
    pub(crate) fn begin(&self, loaded: &Loaded, now: Now) {
        for stored in &loaded.accounts {
            let identity = IdentityId::named(&stored.id);
            self.0.kept.lock().insert(identity.clone());
            let seed = seed_of(stored.cookie.clone());
            let session = session_of(identity.clone(), &seed, loaded, now);
            let account = WebAccounts::account_of(&session, now);
            if let Some(other) = account.and_then(|account| self.0.web.holder_of(&account)) {
                info!(identity.id = %identity, "an account of the owner's page is given in a file too, as {other}, and used once");
                continue;
            }
            let facts = loaded.facts.get(session.key()).copied();
            self.0.web.add(session, seed, facts, now);
        }
    }

    /// Makes a change to its end, also when the owner does not wait for it.
    async fn to_the_end<T, F>(&self, change: impl FnOnce(Self) -> F) -> Result<T, BookError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BookError>> + Send + 'static,
    {
        let finished = self.0.supervisor.finish("change of an account", change(self.clone()));
        finished.await.unwrap_or(Err(BookError::Store(StoreError::Closed)))
    }

    /// Held while the accounts are changed.
    pub(crate) async fn changing(&self) -> AsyncGuard<'_, ()> {
        self.0.changing.lock().await
    }

    /// The name that the owner gave to an account, if any.
    #[must_use]
    pub(crate) fn label(&self, key: &CredentialKey) -> Option<String> {
        self.0.labels.lock().get(key).cloned()
    }

    /// The account's name for its owner: the label that they gave, else the identity as logs show it.
    #[must_use]
    pub(crate) fn name_of(&self, identity: &IdentityId) -> String {
        let session = self.0.web.session_named(identity);
        let given = session.and_then(|session| self.label(session.key()));
        given.unwrap_or_else(|| identity.to_string())
    }

    /// The file or setting from which an account comes; `None` for one that can be removed here.
    #[must_use]
    pub(crate) fn place_of(&self, identity: &IdentityId) -> Option<String> {
        if self.0.kept.lock().contains(identity) {
            return None;
        }
        match self.0.oauth.place_of(identity) {
            Some(Ok(_own)) => None,
            Some(Err(place)) => Some(place),
            None if self.0.web.session_named(identity).is_some() => Some("cookie.txt, COOKIE or QWEN_TOKEN".to_owned()),
            None => Some("QWEN_API_KEYS".to_owned()),
        }
    }

    /// Adds an account of the web chat and keeps it in the state. No request comes to it before it is accepted.
    ///
    /// # Errors
    /// [`BookError`]: `Taken`, `Full`, `Label`, `Store`.
    pub(crate) async fn add_web(&self, cookie: Cookie, label: Option<&str>) -> Result<Newcomer, BookError> {
        let label = label.map(checked_label).transpose()?;
        self.to_the_end(|book| async move { book.add_web_now(cookie, label).await }).await
    }

    async fn add_web_now(&self, cookie: Cookie, label: Option<String>) -> Result<Newcomer, BookError> {
        let _changing = self.changing().await;
        let now = Now::read();
        let seed = seed_of(cookie.clone());
        let identity = self.free_name()?;
        let session = session_of(identity.clone(), &seed, &Loaded::default(), now);
        let account = WebAccounts::account_of(&session, now);
        if let Some(other) = account.and_then(|account| self.0.web.holder_of(&account)) {
            return Err(BookError::Taken(other));
        }
        if let Some(other) = self.0.web.session_of_key(session.key()) {
            return Err(BookError::Taken(other.identity().clone()));
        }
        let stored = StoredAccount { id: identity.as_str().to_owned(), cookie, created_at: now.unix };
        self.0.store.save_account(stored).await?;
        self.0.kept.lock().insert(identity.clone());
        if let Some(label) = label {
            self.set_label(session.key(), Some(label));
        }
        self.0.web.enrol(Arc::clone(&session), seed, now);
        info!(identity.id = %identity, "account added");
        Ok(Newcomer { book: self.clone(), kind: AccountKind::Web, session, is_decided: false })
    }

    /// Adds an OAuth account: its file goes into `QWEN_DIR`. No request comes to it before it is accepted.
    ///
    /// # Errors
    /// [`BookError`]: `Taken`, `Label`, `File`, `Full`; `Unknown` when its file was changed or removed at once.
    pub(crate) async fn add_oauth(
        &self,
        credentials: OAuthCredentials,
        label: Option<&str>,
    ) -> Result<Newcomer, BookError> {
        let label = label.map(checked_label).transpose()?;
        self.to_the_end(|book| async move { book.add_oauth_now(credentials, label).await }).await
    }

    async fn add_oauth_now(&self, credentials: OAuthCredentials, label: Option<String>) -> Result<Newcomer, BookError> {
        let _changing = self.changing().await;
        if let Some(other) = self.0.oauth.owner_of(&credentials) {
            return Err(BookError::Taken(other));
        }
        let account = self.free_oauth_name(label.as_deref())?;
        let identity = account.identity();
        let session = self.0.oauth.log_in_on_trial(&account, credentials).await?;
        let session = session.ok_or_else(|| BookError::Unknown(identity.to_string()))?;
        if let Some(label) = label {
            self.set_label(session.key(), Some(label));
        }
        Ok(Newcomer { book: self.clone(), kind: AccountKind::OAuth, session, is_decided: false })
    }

    /// Lets an account into the pool that was added on trial.
    fn admit(&self, kind: AccountKind, session: &Session) {
        let now = Now::read();
        match kind {
            AccountKind::Web => drop(self.0.web.admit(session.key(), None, now)),
            AccountKind::OAuth => self.0.oauth.admit(session.identity(), now),
            AccountKind::Key => {}
        }
    }

    /// Gives an account of the web chat another credential of the same account. Requests in flight finish with the old
    /// one.
    ///
    /// # Errors
    /// [`BookError`]: `Unknown`, `OfFile`, `OtherAccount`, `Taken`, `Store`.
    pub(crate) async fn replace_web(&self, identity: &IdentityId, cookie: Cookie) -> Result<(), BookError> {
        let identity = identity.clone();
        self.to_the_end(|book| async move { book.replace_web_now(&identity, cookie).await }).await
    }

    async fn replace_web_now(&self, identity: &IdentityId, cookie: Cookie) -> Result<(), BookError> {
        let _changing = self.changing().await;
        let old = self.0.web.session_named(identity).ok_or_else(|| BookError::Unknown(identity.to_string()))?;
        if let Some(place) = self.place_of(identity) {
            return Err(BookError::OfFile(place));
        }
        let now = Now::read();
        let seed = seed_of(cookie.clone());
        let session = session_of(identity.clone(), &seed, &Loaded::default(), now);
        let (before, after) = (self.0.web.account_named(identity), WebAccounts::account_of(&session, now));
        if before.is_some() && after.is_some() && before != after {
            return Err(BookError::OtherAccount(identity.clone()));
        }
        if session.key() != old.key()
            && let Some(other) = self.0.web.session_of_key(session.key())
        {
            return Err(BookError::Taken(other.identity().clone()));
        }
        let stored = StoredAccount { id: identity.as_str().to_owned(), cookie, created_at: now.unix };
        self.0.store.save_account(stored).await?;
        self.0.web.replace_member(old.key(), Arc::clone(&session), seed, now);
        self.hand_over(&old, &session, now).await;
        info!(identity.id = %identity, "credential replaced");
        Ok(())
    }

    /// Gives an OAuth account other credentials.
    ///
    /// # Errors
    /// [`BookError`]: `Unknown`, `OfFile`, `Taken`, `File`.
    pub(crate) async fn replace_oauth(
        &self,
        identity: &IdentityId,
        credentials: OAuthCredentials,
    ) -> Result<(), BookError> {
        let identity = identity.clone();
        self.to_the_end(|book| async move { book.replace_oauth_now(&identity, credentials).await }).await
    }

    async fn replace_oauth_now(&self, identity: &IdentityId, credentials: OAuthCredentials) -> Result<(), BookError> {
        let _changing = self.changing().await;
        let account = match self.0.oauth.place_of(identity) {
            None => return Err(BookError::Unknown(identity.to_string())),
            Some(Err(place)) => return Err(BookError::OfFile(place)),
            Some(Ok(account)) => account,
        };
        if let Some(other) = self.0.oauth.owner_of(&credentials).filter(|other| other != identity) {
            return Err(BookError::Taken(other));
        }
        self.0.oauth.log_in(&account, credentials).await?;
        Ok(())
    }

    /// Replaces the accounts of files and settings by these, and returns sentences about the changes. An account with
    /// another credential keeps its identity; requests in flight finish with the earlier one.
    pub(crate) async fn configure(&self, seeds: &[IdentitySeed], now: Now) -> Vec<String> {
        let _changing = self.changing().await;
        let (mut changed, mut stays) = (Vec::new(), Vec::new());
        let mut news = Vec::new();
        for seed in seeds {
            let probe = session_of(IdentityId::named("new"), seed, &Loaded::default(), now);
            match self.0.web.session_of_key(probe.key()) {
                Some(session) => stays.push(session.identity().clone()),
                None => news.push((seed, WebAccounts::account_of(&probe, now))),
            }
        }
        let mut added = Vec::new();
        for (seed, account) in news {
            let holder = account.and_then(|account| self.0.web.holder_of(&account));
            match holder.filter(|holder| !stays.contains(holder)) {
                Some(holder) if self.0.kept.lock().contains(&holder) => stays.push(holder),
                Some(holder) => {
                    let session = session_of(holder.clone(), seed, &Loaded::default(), now);
                    if let Some(old) = self.0.web.session_named(&holder) {
                        self.0.web.replace_member(old.key(), Arc::clone(&session), seed.clone(), now);
                        self.hand_over(&old, &session, now).await;
                    }
                    changed.push(format!("{holder} has a new session"));
                    stays.push(holder);
                }
                None => added.push(seed),
            }
        }
        for session in self.0.web.sessions() {
            let identity = session.identity();
            if !stays.contains(identity) && !self.0.kept.lock().contains(identity) {
                self.0.web.remove(session.key(), now);
                self.0.continuations.let_go_of(session.key());
                changed.push(format!("{identity} removed"));
            }
        }
        for seed in added {
            let mut names = (1..).map(IdentityId::numbered);
            let Some(identity) = names.find(|name| self.0.web.session_named(name).is_none()) else { continue };
            let session = session_of(identity.clone(), seed, &Loaded::default(), now);
            self.0.web.add(session, seed.clone(), None, now);
            changed.push(format!("{identity} added"));
        }
        changed
    }

    /// Names an account; `None` removes its name.
    ///
    /// # Errors
    /// [`BookError::Label`].
    pub(crate) fn rename(&self, key: &CredentialKey, label: Option<&str>) -> Result<(), BookError> {
        let label = label.map(checked_label).transpose()?;
        self.set_label(key, label);
        Ok(())
    }

    /// Removes an account. Requests in flight on it finish, new ones do not use it.
    ///
    /// # Errors
    /// [`BookError`]: `Unknown`, `OfFile`, `Store`, `File`.
    pub(crate) async fn remove(&self, identity: &IdentityId) -> Result<(), BookError> {
        let identity = identity.clone();
        self.to_the_end(|book| async move { book.remove_now(&identity).await }).await
    }

    async fn remove_now(&self, identity: &IdentityId) -> Result<(), BookError> {
        let _changing = self.changing().await;
        if let Some(session) = self.0.web.session_named(identity) {
            if let Some(place) = self.place_of(identity) {
                return Err(BookError::OfFile(place));
            }
            self.0.store.forget_account(identity.as_str()).await?;
            self.0.kept.lock().remove(identity);
            self.0.web.remove(session.key(), Now::read());
            self.forget(session.key());
            return Ok(());
        }
        match self.0.oauth.place_of(identity) {
            None => Err(BookError::Unknown(identity.to_string())),
            Some(Err(place)) => Err(BookError::OfFile(place)),
            Some(Ok(account)) => {
                let key = self.0.oauth.session(identity).map(|session| session.key().clone());
                self.0.oauth.remove_file(&account).await?;
                if let Some(key) = key {
                    self.forget(&key);
                }
                Ok(())
            }
        }
    }

    /// Gives what an account has to its new session.
    async fn hand_over(&self, old: &Session, new: &Arc<Session>, now: Now) {
        self.move_label(old.key(), new.key());
        if old.key() == new.key() {
            return;
        }
        self.0.continuations.hand_over(old.key(), new);
        self.0.store.forget_session(old.key());
        // Chats and videos are stored under the old key, and its session tells the next start whose they are.
        if let Err(error) = self.0.store.save_session(old.key().clone(), old.snapshot(), now.unix).await {
            warn!(identity.id = %old.identity(), error = %ErrorChain(&error), "the replaced session is not written down");
        }
    }

    fn forget(&self, key: &CredentialKey) {
        self.0.continuations.let_go_of(key);
        self.set_label(key, None);
        self.0.store.forget_session(key);
        info!("account removed");
    }

    /// Moves the name of an account whose credential changed.
    pub(crate) fn move_label(&self, from: &CredentialKey, to: &CredentialKey) {
        if from != to
            && let Some(label) = self.label(from)
        {
            self.set_label(from, None);
            self.set_label(to, Some(label));
        }
    }

    fn set_label(&self, key: &CredentialKey, label: Option<String>) {
        match label.clone() {
            Some(label) => drop(self.0.labels.lock().insert(key.clone(), label)),
            None if self.0.labels.lock().remove(key).is_none() => return,
            None => {}
        }
        self.0.store.save_label(key.clone(), label);
    }

    /// A name that no account of the web chat has.
    fn free_name(&self) -> Result<IdentityId, BookError> {
        let kept = self.0.kept.lock();
        if kept.len() >= ACCOUNTS_MAX {
            warn!(count = kept.len(), "the state holds as many accounts as it may");
            return Err(BookError::Full);
        }
        let names = (1..=ACCOUNTS_MAX + 1).map(|number| IdentityId::named(&format!("account-{number}")));
        names.into_iter().find(|name| !kept.contains(name)).ok_or(BookError::Full)
    }

    /// A name for the file of an OAuth account: the characters of the label that a file name allows, else `page-N`.
    fn free_oauth_name(&self, label: Option<&str>) -> Result<AccountId, BookError> {
        let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let of_label: String = label.unwrap_or_default().chars().map(|c| if is_fit(c) { c } else { '-' }).collect();
        let of_label = of_label.trim_matches(['-', '.']).to_owned();
        let numbered = (1..=ACCOUNTS_MAX).map(|number| format!("page-{number}"));
        let names = std::iter::once(of_label).chain(numbered).filter_map(|name| AccountId::parse(&name).ok());
        let mut free = names.filter(|name| self.0.oauth.session(&name.identity()).is_none());
        free.next().ok_or(BookError::Full)
    }
}

/// An account that the owner has just added: known and written down, but outside of the pool until its test call is over.
/// Dropping it, as when the owner does not wait for the test, lets it into the pool: an account that
/// could not be asked about is kept.
pub(crate) struct Newcomer {
    book: AccountBook,
    kind: AccountKind,
    session: Arc<Session>,
    is_decided: bool,
}

impl Newcomer {
    /// Web, OAuth or key.
    pub(crate) fn kind(&self) -> AccountKind {
        self.kind
    }

    /// The session to test.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Lets it into the pool, and gives its name.
    pub(crate) fn accept(self) -> IdentityId {
        // Dropping it lets the account into the pool.
        self.session.identity().clone()
    }

    /// Removes it again, also from where it was written down.
    pub(crate) async fn refuse(mut self) {
        self.is_decided = true;
        // Fails when the account is gone already, or cannot be written: then it is looked at again at the next start.
        let _ = self.book.remove(self.session.identity()).await;
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        if !self.is_decided {
            self.book.admit(self.kind, &self.session);
        }
    }
}

fn seed_of(cookie: Cookie) -> IdentitySeed {
    IdentitySeed { cookie: Some(cookie), token: None, spares: Vec::new() }
}

fn checked_label(label: &str) -> Result<String, BookError> {
    let label = label.trim();
    let is_fine = (1..=LABEL_CHARS_MAX).contains(&label.chars().count()) && !label.chars().any(char::is_control);
    if is_fine { Ok(label.to_owned()) } else { Err(BookError::Label) }
}
