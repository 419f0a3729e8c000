//! OAuth accounts: found in files and settings, kept in the pool while they are there, renewed before they end.
//!
//! The files are shared with other programs. A renewal takes the lock, looks first whether another
//! program has renewed already, and writes the successor of a refresh token down before the access token is used.
//!
//! This is one long file because finding, renewing and writing down change the same entries together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::base::facts::IdentityFacts;
use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::oauth::{AccountId, OAuthCredentials, RefreshToken};
use crate::base::secret::AccessToken;
use crate::base::session::Session;
use crate::gateway::AccountSettings;
use crate::gateway::accounts::error::{Forced, RefreshError};
use crate::gateway::accounts::oauth_account::{Account, AccountState, AccountView, Known, Place, seconds_until_due};
use crate::gateway::accounts::single_flight::SingleFlight;
use crate::pool::{CredentialState, IdentityPool, Now};
use crate::shutdown::Supervisor;
use crate::store::oauth_files::{OAuthFileError, OAuthFiles};
use crate::store::{Loaded, Store};
use crate::upstream::oauth::client::QwenOAuth;
use crate::upstream::oauth::pkce::{ApiBaseError, api_base};

/// Interval in which files are read. A login that another program wrote is in use within five seconds.
const SCAN_EVERY: Duration = Duration::from_secs(2);
/// A token that ends sooner is not sent any more.
pub(crate) const FLOOR_SECONDS: i64 = 30;
/// Refreshes at once: many at a time have been blamed for closed accounts.
const REFRESHES_MAX: usize = 4;
/// The assumed rest of a token's life when nothing is said of it.
const UNKNOWN_LIFETIME_SECONDS: u64 = 600;
/// Over which time the first refreshes of a start are spread.
const SPREAD: Duration = Duration::from_secs(3);

/// All OAuth accounts. Clones share them.
#[derive(Clone)]
pub(crate) struct OAuthAccounts(pub(crate) Arc<Shared>);

/// The state that all clones share.
pub(crate) struct Shared {
    pub(crate) settings: AccountSettings,
    pub(crate) pool: IdentityPool,
    pub(crate) upstream: Arc<QwenOAuth>,
    pub(crate) store: Arc<Store>,
    pub(crate) refreshes: SingleFlight<CredentialKey, Result<(), RefreshError>>,
    pub(crate) folders: Vec<OAuthFiles>,
    pub(crate) accounts: Mutex<BTreeMap<IdentityId, Arc<Account>>>,
    /// Refresh tokens that the upstream refused, and access tokens that it refused while nothing could renew them.
    pub(crate) dead: Mutex<HashSet<CredentialKey>>,
    /// Renewed credentials that could not go where the ones before came from, by those.
    pub(crate) kept: Mutex<HashMap<CredentialKey, OAuthCredentials>>,
    /// Facts of an earlier run about accounts, until these appear.
    pub(crate) facts: HashMap<CredentialKey, IdentityFacts>,
    /// Folders that cannot be written, of which the owner was told.
    pub(crate) unwritable: Mutex<HashSet<PathBuf>>,
    /// Files that cannot be used, why, and in which round of looking that was found last.
    pub(crate) faults: Mutex<BTreeMap<PathBuf, (String, u64)>>,
    pub(crate) rounds: AtomicU64,
    pub(crate) running: Semaphore,
    /// Accounts that are not put into the pool when their files are found, since their test call is not over.
    pub(crate) on_trial: Mutex<HashSet<IdentityId>>,
    /// Only one looks at the files at a time.
    pub(crate) scanning: AsyncMutex<()>,
    pub(crate) changed: Notify,
}

/// An account that is being put on trial. When the request that asked for it is dropped meanwhile, the trial is over.
struct Trial<'a> {
    accounts: &'a OAuthAccounts,
    identity: IdentityId,
    /// The account is there, and its test comes next.
    goes_on: bool,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.goes_on {
            self.accounts.admit(&self.identity, Now::read());
        }
    }
}

impl OAuthAccounts {
    /// The accounts of these settings. None is in the pool before [`OAuthAccounts::begin`].
    #[must_use]
    pub(crate) fn new(
        settings: AccountSettings,
        pool: IdentityPool,
        upstream: Arc<QwenOAuth>,
        store: Arc<Store>,
        supervisor: Supervisor,
        loaded: &Loaded,
    ) -> Self {
        let now = Now::read();
        let mut folders = vec![OAuthFiles::all_in(&settings.dir)];
        let real = |dir: &PathBuf| dir.canonicalize().unwrap_or_else(|_| dir.clone());
        if let Some(shared) = &settings.shared_dir
            && real(shared) != real(&settings.dir)
        {
            folders.push(OAuthFiles::unnamed_in(shared));
        }
        let kept = loaded.oauth.iter().filter_map(|(key, text)| {
            // Text of this program that it cannot read any more is useless.
            Some((key.clone(), OAuthCredentials::of_stored(text, now.unix)?))
        });
        let dead = loaded.facts.iter().filter(|(_, facts)| facts.dead_since.is_some());
        Self(Arc::new(Shared {
            folders,
            kept: Mutex::new(kept.collect()),
            dead: Mutex::new(dead.map(|(key, _)| key.clone()).collect()),
            facts: loaded.facts.clone(),
            settings,
            pool,
            upstream,
            store,
            refreshes: SingleFlight::new(supervisor, "refresh an OAuth token"),
            accounts: Mutex::default(),
            unwritable: Mutex::default(),
            faults: Mutex::default(),
            rounds: AtomicU64::new(0),
            running: Semaphore::new(REFRESHES_MAX),
            on_trial: Mutex::default(),
            scanning: AsyncMutex::new(()),
            changed: Notify::new(),
        }))
    }

    /// Takes up all accounts that there are. Makes no call of the upstream.
    pub(crate) async fn begin(&self) {
        self.scan().await;
        self.configure_given(&self.0.settings.given).await;
    }

    /// Brings the accounts of `QWEN_OAUTH_CREDS` to these, and tells in words what changed. Requests in flight end on
    /// what they began with.
    pub(crate) async fn configure_given(&self, given: &[OAuthCredentials]) -> Vec<String> {
        let _scanning = self.0.scanning.lock().await;
        let origin = |credentials: &OAuthCredentials| {
            CredentialKey::of(&format!("given {}", credentials.fingerprint().as_str()))
        };
        let mut gone = Vec::new();
        for account in self.all() {
            let is_given = matches!(account.place, Place::Given { .. });
            let stays = || given.iter().any(|credentials| origin(credentials) == account.known.lock().origin);
            if is_given && !stays() {
                self.forget(&account);
                gone.push(account.session.identity().clone());
            }
        }
        let mut changed = Vec::new();
        for (place, credentials) in (1..).zip(given) {
            let origin = origin(credentials);
            if self.all().iter().any(|account| account.known.lock().origin == origin) {
                continue;
            }
            let name = |number: usize| IdentityId::named(&format!("oauth:env-{number}"));
            // Its place in the list, unless an account of earlier has that name.
            let free = |number: &usize| self.find(&name(*number)).is_none();
            let Some(number) = std::iter::once(place).chain(1..).find(free) else { continue };
            self.add(name(number), Place::Given { number }, credentials.clone(), None, origin);
            if self.find(&name(number)).is_some() {
                let has_new = gone.iter().position(|gone| *gone == name(number)).map(|at| gone.swap_remove(at));
                let what = if has_new.is_some() { "has a new session" } else { "added" };
                changed.push(format!("{} {what}", name(number)));
            }
        }
        changed.extend(gone.iter().map(|identity| format!("{identity} removed")));
        changed
    }

    /// Looks at the files and refreshes ahead of expiry until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            self.scan().await;
            self.refresh_due();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SCAN_EVERY) => {}
                () = self.0.changed.notified() => {}
            }
        }
    }

    /// Returns once the session has a token that is good for a while, which it usually has.
    ///
    /// # Errors
    /// [`RefreshError`]; not while the old token is still good for something.
    pub(crate) async fn ensure_fresh(&self, session: &Arc<Session>) -> Result<(), RefreshError> {
        let now = Now::read().unix;
        let is_refused = || self.find(session.identity()).is_some_and(|account| account.has_refused_token());
        let is_live_at = |at: UnixSeconds| session.token().is_some_and(|token| token.is_live(at)) && !is_refused();
        if is_live_at(now.plus(FLOOR_SECONDS)) {
            return Ok(());
        }
        let result = self.replace(session, session.token_generation()).await;
        if result.is_err() && is_live_at(Now::read().unix) { Ok(()) } else { result }
    }

    /// Returns once the session has a newer token than the one of `generation`, as after a 401. The refresh goes on
    /// when its caller leaves.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub(crate) async fn replace(&self, session: &Arc<Session>, generation: u64) -> Result<(), RefreshError> {
        let identity = session.identity().clone();
        let Some(account) = self.find(&identity) else {
            return Err(RefreshError::Gone { identity });
        };
        self.join(account, generation).await.unwrap_or(Err(RefreshError::Failed { identity, source: None }))
    }

    /// [`OAuthAccounts::replace`] without waiting for it.
    pub(crate) fn replace_later(&self, session: &Arc<Session>, generation: u64) {
        if let Some(account) = self.find(session.identity()) {
            drop(self.join(account, generation));
        }
    }

    fn join(
        &self,
        account: Arc<Account>,
        generation: u64,
    ) -> impl Future<Output = Option<Result<(), RefreshError>>> + Send + use<> {
        let accounts = self.clone();
        let key = account.session.key().clone();
        self.0.refreshes.join(key, async move { accounts.refresh(&account, generation).await })
    }

    /// Notes that the upstream refused the token of `generation`: it is not sent again, however long it is good by its own
    /// word.
    pub(crate) fn doubt(&self, session: &Session, generation: u64) {
        if let Some(account) = self.find(session.identity()) {
            account.known.lock().refused = Some(generation);
        }
    }

    /// Moment at which a refresh brought the session's token; `None` for one from a file.
    pub(crate) fn renewed_at(&self, session: &Session) -> Option<Instant> {
        self.find(session.identity())?.known.lock().renewed_at
    }

    /// Refreshes every account now, at most every ten seconds each, and tells how each one went; within ten seconds what
    /// the last one brought.
    pub(crate) async fn refresh_all(&self) -> Vec<Forced> {
        let mut results = Vec::new();
        for account in self.all() {
            let session = &account.session;
            let identity = session.identity().clone();
            let recent = account.known.lock().forced.recent();
            if let Some((age, result)) = recent {
                results.push(Forced { identity, age, result });
                continue;
            }
            let result = self.replace(session, session.token_generation()).await;
            account.known.lock().forced.note(result.clone());
            if result.is_ok() {
                self.trust(session, Now::read());
            }
            results.push(Forced { identity, age: Duration::ZERO, result });
        }
        results
    }

    /// Writes a fresh login into our own folder and takes it up at once.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) async fn log_in(
        &self,
        account: &AccountId,
        credentials: OAuthCredentials,
    ) -> Result<(), OAuthFileError> {
        OAuthFiles::all_in(&self.0.settings.dir).write(account, credentials).await?;
        self.scan().await;
        Ok(())
    }

    /// Writes a fresh login into our own folder and takes it up outside of the pool; `None` when its file was changed or
    /// removed at once. [`OAuthAccounts::admit`] puts it into the pool.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) async fn log_in_on_trial(
        &self,
        account: &AccountId,
        credentials: OAuthCredentials,
    ) -> Result<Option<Arc<Session>>, OAuthFileError> {
        let identity = account.identity();
        self.0.on_trial.lock().insert(identity.clone());
        let mut trial = Trial { accounts: self, identity, goes_on: false };
        self.log_in(account, credentials).await?;
        let session = self.session(&trial.identity);
        trial.goes_on = session.is_some();
        Ok(session)
    }

    /// Puts an account into the pool that was on trial.
    pub(crate) fn admit(&self, identity: &IdentityId, now: Now) {
        if !self.0.on_trial.lock().remove(identity) {
            return;
        }
        if let Some(account) = self.find(identity) {
            self.0.pool.add(Arc::clone(&account.session), now);
            self.settle(&account, now);
        }
    }

    /// The name of an account whose file is in our own folder, or in words where else it is given; `None` for an
    /// account that is not there.
    #[must_use]
    pub(crate) fn place_of(&self, identity: &IdentityId) -> Option<Result<AccountId, String>> {
        let account = self.find(identity)?;
        Some(match &account.place {
            Place::File { files, account } if files.dir() == self.0.settings.dir => Ok(account.clone()),
            place => Err(place.to_string()),
        })
    }

    /// Removes the file of an account in our own folder, and the account with it.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) async fn remove_file(&self, account: &AccountId) -> Result<(), OAuthFileError> {
        OAuthFiles::all_in(&self.0.settings.dir).remove(account).await?;
        self.scan().await;
        Ok(())
    }

    /// Renews the token of one account now, at most every ten seconds; within ten seconds what the last time brought.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub(crate) async fn force(&self, session: &Arc<Session>) -> Result<(), RefreshError> {
        let account = self.find(session.identity());
        let recent = account.as_ref().and_then(|account| account.known.lock().forced.recent());
        if let Some((_, result)) = recent {
            return result;
        }
        let result = self.replace(session, session.token_generation()).await;
        if let Some(account) = account {
            account.known.lock().forced.note(result.clone());
        }
        if result.is_ok() {
            self.trust(session, Now::read());
        }
        result
    }

    /// Lets an account be used at once that the upstream refused, since its token is another one now.
    pub(crate) fn trust(&self, session: &Session, now: Now) {
        let key = session.key();
        self.0.pool.trust(key, now);
        self.0.store.save_facts(key.clone(), || self.0.pool.facts(key, now));
    }

    /// URL of an account's API; `None` for an unknown account.
    #[must_use]
    pub(crate) fn api_base(&self, identity: &IdentityId) -> Option<Result<Url, ApiBaseError>> {
        let account = self.find(identity)?;
        if let Some(base) = &self.0.settings.api_base {
            return Some(Ok(base.clone()));
        }
        let known = account.known.lock();
        Some(api_base(known.credentials.resource_url(), &[]))
    }

    /// All accounts as people see them, by name.
    #[must_use]
    pub(crate) fn views(&self, now: Now) -> Vec<AccountView> {
        let view = |account: Arc<Account>| {
            let known = account.known.lock();
            let token = account.session.token();
            AccountView {
                identity: account.session.identity().clone(),
                state: self.state(&account.session, &known, now),
                expires_at: token.as_ref().and_then(AccessToken::expires_at),
                has_token: token.is_some(),
                taken_at: known.taken_at,
                has_access_token: known.credentials.access_token().is_some(),
                token_type: known.credentials.token_type().to_owned(),
                expiry_date: known.credentials.expires_at(),
                has_refresh_token: known.credentials.refresh_token().is_some(),
            }
        };
        self.all().into_iter().map(view).collect()
    }

    /// The live session of an account; `None` for one that is not there.
    #[must_use]
    pub(crate) fn session(&self, identity: &IdentityId) -> Option<Arc<Session>> {
        self.find(identity).map(|account| Arc::clone(&account.session))
    }

    /// Forgets the access tokens in use, so that the next request of each account has to renew its own. Files stay as
    /// they are, and so does a token that could not be renewed. Returns how many were forgotten.
    pub(crate) fn forget_tokens(&self) -> usize {
        let now = Now::read();
        let mut forgotten = 0;
        for account in self.all() {
            let can_refresh = {
                let known = account.known.lock();
                let token = known.credentials.refresh_token();
                token.is_some_and(|token| !self.0.dead.lock().contains(&token.key()))
            };
            if can_refresh && account.session.token().is_some() {
                account.session.forget_token();
                self.settle(&account, now);
                forgotten += 1;
            }
        }
        forgotten
    }

    /// The names of the accounts in the state: of the accounts, of the credentials that theirs were renewed from, and
    /// of tokens that may have been refused.
    pub(crate) fn keys_in_state(&self) -> Vec<CredentialKey> {
        let keys = |account: Arc<Account>| {
            let known = account.known.lock();
            let refresh = known.credentials.refresh_token().map(RefreshToken::key);
            let refused = account.session.token().map(|token| refused_key(&token));
            let own = [account.session.key().clone(), known.origin.clone()];
            own.into_iter().chain(refresh).chain(refused).collect::<Vec<_>>()
        };
        self.all().into_iter().flat_map(keys).collect()
    }

    /// Files that look like credentials and cannot be used, and why.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> Vec<(PathBuf, String)> {
        self.0.faults.lock().iter().map(|(path, (why, _))| (path.clone(), why.clone())).collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Account>> {
        self.0.accounts.lock().values().cloned().collect()
    }

    pub(crate) fn find(&self, identity: &IdentityId) -> Option<Arc<Account>> {
        self.0.accounts.lock().get(identity).cloned()
    }

    /// Puts credentials in use that are safe where they are.
    pub(crate) fn install(&self, account: &Account, credentials: OAuthCredentials, now: Now) {
        let token = credentials.bearer(now.unix);
        {
            let mut known = account.known.lock();
            known.credentials = credentials;
            known.taken_at = now.unix;
            known.refused = None;
            known.failures = 0;
            known.retry_at = None;
        }
        if let Some(token) = token {
            account.session.install_token(token);
        }
        self.recall_refusal(account);
        self.plan(account, now);
        self.settle(account, now);
    }

    /// Takes up that an access token was refused before a restart, or before its file was written again.
    pub(crate) fn recall_refusal(&self, account: &Account) {
        let session = &account.session;
        if session.token().is_some_and(|token| self.0.dead.lock().contains(&refused_key(&token))) {
            account.known.lock().refused = Some(session.token_generation());
        }
    }

    fn state(&self, session: &Session, known: &Known, now: Now) -> AccountState {
        let is_refused = known.refused == Some(session.token_generation());
        let is_live = !is_refused && session.token().is_some_and(|token| token.is_live(now.unix));
        let can_refresh =
            known.credentials.refresh_token().is_some_and(|token| !self.0.dead.lock().contains(&token.key()));
        match (is_live, can_refresh) {
            (true, _) if self.0.pool.is_refused(session.key(), now) => AccountState::PortalRefuses,
            (true, _) => AccountState::Ready,
            (false, true) => AccountState::Expired,
            (false, false) => AccountState::NeedsLogin,
        }
    }

    /// Tells the pool how the account is.
    pub(crate) fn settle(&self, account: &Account, now: Now) {
        let state = {
            let known = account.known.lock();
            let retry_at = known.retry_at.map_or(now.instant, Instant::into_std).max(now.instant);
            match self.state(&account.session, &known, now) {
                // The pool decides when a refused account is tried again.
                AccountState::Ready | AccountState::PortalRefuses => CredentialState::Ready,
                AccountState::Expired => CredentialState::Missing { retry_at },
                AccountState::NeedsLogin => CredentialState::Dead,
            }
        };
        self.0.pool.set_credential(account.session.key(), state, now);
    }

    /// Notes when the token should be renewed.
    pub(crate) fn plan(&self, account: &Account, now: Now) {
        let mut known = account.known.lock();
        let can_refresh =
            known.credentials.refresh_token().is_some_and(|token| !self.0.dead.lock().contains(&token.key()));
        let token = account.session.token().filter(|token| token.is_live(now.unix));
        let left = token
            .map_or(0, |token| token.expires_at().map_or(UNKNOWN_LIFETIME_SECONDS, |at| at.seconds_since(now.unix)));
        let wait = seconds_until_due(left, self.0.settings.refresh_buffer, fastrand::f64());
        // Many that are over at the start are not all renewed in the same moment.
        let spread = if left == 0 { SPREAD.mul_f64(fastrand::f64()) } else { Duration::ZERO };
        known.due_at = can_refresh.then(|| Instant::now() + wait + spread);
        drop(known);
        self.0.changed.notify_one();
    }

    fn refresh_due(&self) {
        let now = Instant::now();
        for account in self.all() {
            let is_due = {
                let mut known = account.known.lock();
                let is_due = known.due_at.is_some_and(|at| at <= now);
                if is_due {
                    known.due_at = None;
                }
                is_due
            };
            if is_due {
                let generation = account.session.token_generation();
                drop(self.join(account, generation));
            }
        }
    }
}

/// Name of a refused access token on disk.
pub(crate) fn refused_key(token: &AccessToken) -> CredentialKey {
    CredentialKey::of(&format!("refused access token {}", token.expose()))
}
