//! OAuth accounts: found in files and settings, kept in the pool while they are there, renewed before they end.
//!
//! The files are shared with other programs. Whoever renews does so under the lock, looks first whether somebody
//! else has, and writes the successor of a refresh token down before anybody uses what came with it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use url::Url;

use crate::base::facts::IdentityFacts;
use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::oauth::{AccountId, OAuthCredentials, RefreshToken, UnixMillis};
use crate::base::session::Session;
use crate::gateway::AccountSettings;
use crate::pool::{CredentialState, IdentityPool, Now};
use crate::shutdown::Supervisor;
use crate::store::oauth_files::{FileStamp, OAuthFile, OAuthFileError, OAuthFiles, Replaced};
use crate::store::{Loaded, Store};
use crate::telemetry::ErrorChain;
use crate::transform::oauth::{ApiBaseError, api_base};
use crate::upstream::error::UpstreamError;
use crate::upstream::qwen_oauth::{QwenOAuth, RefreshFailure};

/// How often files are looked at. What another program wrote is in use within five seconds.
const SCAN_EVERY: Duration = Duration::from_secs(2);
/// A token that ends sooner is not sent any more.
const FLOOR_SECONDS: i64 = 30;
/// Refreshes at once: many at a time have been blamed for closed accounts.
const REFRESHES_MAX: usize = 4;
/// Backoff after failures that say nothing about the refresh token.
const BACKOFF_BASE: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(30 * 60);
/// How often a refused account is tried again whose refresh token is good: from half an hour, doubling, to a day.
const RECHECK_BASE: Duration = Duration::from_secs(30 * 60);
const RECHECK_MAX: Duration = Duration::from_secs(24 * 3600);
/// A token younger than this was not refused for its age.
const YOUNG: Duration = Duration::from_secs(10 * 60);
/// The pause between two forced refreshes of one account.
const FORCE_SPACING: Duration = Duration::from_secs(10);
/// The assumed rest of a token's life when nothing is said of it.
const UNKNOWN_LIFETIME_SECONDS: u64 = 600;
/// How many spent refresh tokens of one account are known again.
const SPENT_MAX: usize = 16;
/// Over which time the first refreshes of a start are spread.
const SPREAD: Duration = Duration::from_secs(3);
/// The name of the official command line's account.
const SHARED_NAME: &str = "qwen-cli";

/// All OAuth accounts. Clones share them.
#[derive(Clone)]
pub struct OAuthAccounts(Arc<Shared>);

struct Shared {
    settings: AccountSettings,
    pool: IdentityPool,
    upstream: Arc<QwenOAuth>,
    store: Arc<Store>,
    supervisor: Supervisor,
    folders: Vec<OAuthFiles>,
    accounts: Mutex<BTreeMap<IdentityId, Arc<Account>>>,
    /// Refresh tokens that the upstream refused.
    dead: Mutex<HashSet<CredentialKey>>,
    /// Renewed credentials that could not go where the ones before came from, by those.
    kept: Mutex<HashMap<CredentialKey, OAuthCredentials>>,
    /// What an earlier run learnt about accounts, until they appear.
    facts: HashMap<CredentialKey, IdentityFacts>,
    /// Files that cannot be used, why, and in which round of looking that was found last.
    faults: Mutex<BTreeMap<PathBuf, (String, u64)>>,
    rounds: AtomicU64,
    running: Semaphore,
    /// Only one looks at the files at a time.
    scanning: AsyncMutex<()>,
    changed: Notify,
}

struct Account {
    session: Arc<Session>,
    place: Place,
    /// One refresh at a time; what is `known` changes under it.
    gate: AsyncMutex<()>,
    known: Mutex<Known>,
}

/// Where credentials come from, and go to.
#[derive(Clone)]
enum Place {
    File { files: OAuthFiles, account: AccountId },
    Given { number: usize },
}

struct Known {
    credentials: OAuthCredentials,
    stamp: Option<FileStamp>,
    /// Stands for the text that the credentials came from.
    origin: CredentialKey,
    is_refused: Option<Refusal>,
    renewed_at: Option<Instant>,
    forced_at: Option<Instant>,
    last_failure: Option<Instant>,
    failures: u32,
    rechecks: u32,
    retry_at: Option<Instant>,
    due_at: Option<Instant>,
    /// Refresh tokens that were renewed away, the latest last.
    spent: VecDeque<CredentialKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The refresh token.
    Login,
    /// A token that is fresh from a refresh.
    Portal,
}

/// How an account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// It has a token that is good by its own word.
    Ready,
    /// Its token is over, and a refresh is due.
    Expired,
    /// Somebody has to log in again.
    NeedsLogin,
    /// Tokens are handed out for it and then refused where it chats.
    PortalRefuses,
}

impl AccountState {
    /// The word for it in JSON and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Expired => "expired",
            Self::NeedsLogin => "needs_login",
            Self::PortalRefuses => "portal_refuses",
        }
    }

    /// What to do about it, for people.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Ready => "nothing",
            Self::Expired => "nothing, it is renewed when it is needed",
            Self::NeedsLogin => "log in again with: qwen-bridge auth add ID",
            Self::PortalRefuses => "portal rejects OAuth tokens (free tier closed 2026-04-15); use a static key",
        }
    }
}

/// One account as people see it.
#[derive(Clone, Debug)]
pub struct AccountView {
    /// Its name in the pool.
    pub identity: IdentityId,
    /// Where its credentials are: a file, or an entry of `QWEN_OAUTH_CREDS`.
    pub place: String,
    /// How it is.
    pub state: AccountState,
    /// When its access token ends, if it says so.
    pub expires_at: Option<UnixSeconds>,
    /// Whether it can be renewed at all.
    pub has_refresh_token: bool,
}

/// Why there is no fresh token.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Somebody has to log in again.
    #[error("the login of {0} is over, log in again")]
    NeedsLogin(IdentityId),
    /// There is no such account, or not any more.
    #[error("the account {0} is gone")]
    Gone(IdentityId),
    /// The upstream gave no answer that tells; it is tried again later.
    #[error("no fresh token for {0}")]
    Upstream(IdentityId, #[source] UpstreamError),
    /// The credentials cannot be locked or read; it is tried again later.
    #[error("no fresh token for {0}")]
    File(IdentityId, #[source] OAuthFileError),
    /// A refresh that somebody else waited for failed, or we are stopping.
    #[error("no fresh token for {0}")]
    Failed(IdentityId),
}

impl OAuthAccounts {
    /// The accounts of these settings. None is in the pool before [`OAuthAccounts::begin`].
    #[must_use]
    pub fn new(
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
            // What this program wrote and cannot read any more is of no use to anybody.
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
            supervisor,
            accounts: Mutex::default(),
            faults: Mutex::default(),
            rounds: AtomicU64::new(0),
            running: Semaphore::new(REFRESHES_MAX),
            scanning: AsyncMutex::new(()),
            changed: Notify::new(),
        }))
    }

    /// Takes up all accounts that there are. Makes no call of the upstream.
    pub async fn begin(&self) {
        self.scan().await;
        let given = self.0.settings.given.clone();
        for (number, credentials) in (1..).zip(given) {
            let identity = IdentityId::named(&format!("oauth:env-{number}"));
            let origin = CredentialKey::of(&format!("given {}", credentials.fingerprint().as_str()));
            self.add(identity, Place::Given { number }, credentials, None, origin);
        }
    }

    /// Looks at the files and refreshes ahead of expiry until `stop`.
    pub async fn run(self, stop: CancellationToken) {
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
    /// [`AccountError`]; not while the old token is still good for something.
    pub async fn ensure_fresh(&self, session: &Arc<Session>) -> Result<(), AccountError> {
        let now = Now::read().unix;
        let is_live_at = |at: UnixSeconds| session.token().is_some_and(|token| token.is_live(at));
        if is_live_at(now.plus(FLOOR_SECONDS)) {
            return Ok(());
        }
        let result = self.replace(session, session.token_generation()).await;
        if result.is_err() && is_live_at(Now::read().unix) { Ok(()) } else { result }
    }

    /// Returns once the session has a newer token than the one of `generation`, as after a 401. The refresh goes on
    /// when nobody waits for it any more.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn replace(&self, session: &Arc<Session>, generation: u64) -> Result<(), AccountError> {
        let identity = session.identity().clone();
        let Some(account) = self.find(&identity) else {
            return Err(AccountError::Gone(identity));
        };
        let (done, result) = oneshot::channel();
        let accounts = self.clone();
        self.0.supervisor.spawn("refresh an OAuth token", async move {
            // Nobody waits any more: the new token is in its place all the same.
            let _ = done.send(accounts.refresh(&account, generation).await);
        });
        result.await.unwrap_or(Err(AccountError::Failed(identity)))
    }

    /// [`OAuthAccounts::replace`] without waiting for it.
    pub fn replace_later(&self, session: &Arc<Session>, generation: u64) {
        if let Some(account) = self.find(session.identity()) {
            let accounts = self.clone();
            self.0.supervisor.spawn("refresh an OAuth token", async move {
                // Logged where it happens.
                let _ = accounts.refresh(&account, generation).await;
            });
        }
    }

    /// Takes up that a token was refused which a refresh had just brought, or for which there is none. A young one
    /// means that the portal takes no OAuth tokens at all, which is looked at again later and later; else somebody
    /// has to log in.
    pub fn given_up(&self, session: &Arc<Session>) {
        let Some(account) = self.find(session.identity()) else {
            return;
        };
        let now = Now::read();
        {
            let mut known = account.known.lock();
            let is_young = known.renewed_at.is_some_and(|at| at.elapsed() < YOUNG);
            let is_live = session.token().is_some_and(|token| token.is_live(now.unix));
            if is_young && is_live {
                let wait = (RECHECK_BASE * 2_u32.saturating_pow(known.rechecks.min(8))).min(RECHECK_MAX);
                known.is_refused = Some(Refusal::Portal);
                known.rechecks = known.rechecks.saturating_add(1);
                known.due_at = Some(Instant::now() + wait);
                warn!(identity.id = %session.identity(), "portal rejects OAuth tokens (free tier closed 2026-04-15)");
            } else {
                known.is_refused = Some(Refusal::Login);
                known.due_at = None;
                warn!(identity.id = %session.identity(), "token refused, log in again");
            }
        }
        self.settle(&account, now);
    }

    /// Refreshes every account now, at most every ten seconds each, and tells how each one went.
    pub async fn refresh_all(&self) -> Vec<(IdentityId, Result<(), AccountError>)> {
        let mut results = Vec::new();
        for account in self.all() {
            let session = &account.session;
            let is_too_soon = {
                let mut known = account.known.lock();
                let recently = known.forced_at.is_some_and(|at| at.elapsed() < FORCE_SPACING);
                if !recently {
                    known.forced_at = Some(Instant::now());
                }
                recently && session.token().is_some_and(|token| token.is_live(Now::read().unix))
            };
            let result = if is_too_soon { Ok(()) } else { self.replace(session, session.token_generation()).await };
            results.push((session.identity().clone(), result));
        }
        results
    }

    /// Writes a fresh login into our own folder and takes it up at once.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn log_in(&self, account: &AccountId, credentials: OAuthCredentials) -> Result<(), OAuthFileError> {
        OAuthFiles::all_in(&self.0.settings.dir).write(account, credentials).await?;
        self.scan().await;
        Ok(())
    }

    /// Where an account chats; `None` for one that is not there.
    #[must_use]
    pub fn api_base(&self, identity: &IdentityId) -> Option<Result<Url, ApiBaseError>> {
        let account = self.find(identity)?;
        if let Some(base) = &self.0.settings.api_base {
            return Some(Ok(base.clone()));
        }
        let known = account.known.lock();
        Some(api_base(known.credentials.resource_url(), &[]))
    }

    /// All accounts as people see them, by name.
    #[must_use]
    pub fn views(&self, now: Now) -> Vec<AccountView> {
        let view = |account: Arc<Account>| {
            let known = account.known.lock();
            let token = account.session.token();
            AccountView {
                identity: account.session.identity().clone(),
                place: account.place.to_string(),
                state: self.state(&account.session, &known, now.unix),
                expires_at: token.and_then(|token| token.expires_at()),
                has_refresh_token: known.credentials.refresh_token().is_some(),
            }
        };
        self.all().into_iter().map(view).collect()
    }

    /// Files that look like credentials and cannot be used, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(PathBuf, String)> {
        self.0.faults.lock().iter().map(|(path, (why, _))| (path.clone(), why.clone())).collect()
    }

    fn all(&self) -> Vec<Arc<Account>> {
        self.0.accounts.lock().values().cloned().collect()
    }

    fn find(&self, identity: &IdentityId) -> Option<Arc<Account>> {
        self.0.accounts.lock().get(identity).cloned()
    }

    // ---- files

    /// Brings the accounts up to what is in the files.
    async fn scan(&self) {
        let _scanning = self.0.scanning.lock().await;
        let round = self.0.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        for (folder, files) in self.0.folders.iter().enumerate() {
            let found = match files.scan().await {
                Ok(found) => found,
                Err(error) => {
                    // Nothing is known of the files, so nobody leaves.
                    self.complain(files.dir().to_owned(), &error);
                    continue;
                }
            };
            let is_own = folder == 0;
            for (account, stamp) in &found {
                let identity = if is_own { account.identity() } else { shared_identity() };
                self.look_at(identity, files, account, *stamp).await;
            }
            for account in self.all() {
                let gone = matches!(&account.place, Place::File { files: its, account: name }
                    if its.dir() == files.dir() && !found.contains_key(name));
                if gone {
                    self.forget(&account);
                }
            }
            // What was not found wrong again is well by now.
            self.0.faults.lock().retain(|path, (_, found_in)| *found_in >= round || path.parent() != Some(files.dir()));
        }
    }

    async fn look_at(&self, identity: IdentityId, files: &OAuthFiles, account: &AccountId, stamp: FileStamp) {
        let now = Now::read();
        let present = self.find(&identity);
        if let Some(present) = &present {
            let is_its_own = matches!(&present.place, Place::File { files: its, .. } if its.dir() == files.dir());
            if !is_its_own || present.known.lock().stamp == Some(stamp) {
                return;
            }
        }
        let file = match files.read(account, now.unix).await {
            Ok(file) => file,
            // Perhaps it is just being written, so whatever is known stays in use, and the next look tells more.
            Err(error) => return self.complain(files.path_of(account), &error),
        };
        match present {
            Some(present) => {
                // While a refresh is under way it looks at the file itself.
                if let Ok(_gate) = present.gate.try_lock() {
                    self.adopt(&present, file, now).await;
                }
            }
            None => {
                let place = Place::File { files: files.clone(), account: account.clone() };
                self.add(identity, place, file.credentials, Some(file.stamp), file.text_key);
            }
        }
    }

    fn add(
        &self,
        identity: IdentityId,
        place: Place,
        credentials: OAuthCredentials,
        stamp: Option<FileStamp>,
        origin: CredentialKey,
    ) {
        let now = Now::read();
        let credentials = self.0.kept.lock().get(&origin).cloned().unwrap_or(credentials);
        if let Some(other) = self.owner_of(&credentials) {
            let why =
                format!("the same login as {other}; a refresh of one would end the other, so only that one is used");
            return self.complain_of(place.path(), why);
        }
        let key = CredentialKey::of(&format!("oauth account {identity}"));
        let session = Arc::new(Session::new(identity.clone(), key, None, None));
        if let Some(token) = credentials.bearer(now.unix) {
            session.install_token(token);
        }
        let account = Arc::new(Account {
            session: Arc::clone(&session),
            place,
            gate: AsyncMutex::new(()),
            known: Mutex::new(Known::new(credentials, stamp, origin)),
        });
        if !self.0.pool.add(Arc::clone(&session), now) {
            let why = format!("another account is called {identity} already");
            return self.complain_of(account.place.path(), why);
        }
        if let Some(facts) = self.0.facts.get(session.key()) {
            self.0.pool.restore(session.key(), *facts, now);
        }
        self.0.accounts.lock().insert(identity.clone(), Arc::clone(&account));
        self.plan(&account, now);
        self.settle(&account, now);
        info!(identity.id = %identity, "OAuth account in use");
    }

    fn forget(&self, account: &Account) {
        let identity = account.session.identity();
        self.0.accounts.lock().remove(identity);
        self.0.pool.remove(identity, Now::read());
        info!(identity.id = %identity, "OAuth account gone with its file");
    }

    /// Takes up what somebody else wrote. The caller holds the gate.
    async fn adopt(&self, account: &Account, file: OAuthFile, now: Now) {
        let identity = account.session.identity();
        let credentials = self.0.kept.lock().get(&file.text_key).cloned().unwrap_or_else(|| file.credentials.clone());
        let refresh_key = credentials.refresh_token().map(RefreshToken::key);
        let ours = {
            let mut known = account.known.lock();
            known.stamp = Some(file.stamp);
            known.origin = file.text_key.clone();
            if known.credentials.is_same_login(&credentials) {
                return;
            }
            let is_spent = refresh_key.as_ref().is_some_and(|key| known.spent.contains(key));
            is_spent.then(|| known.credentials.clone())
        };
        if let (Some(ours), Place::File { files, account: name }) = (ours, &account.place) {
            // Somebody had read the file before our refresh and wrote it back after it.
            warn!(identity.id = %identity, "a spent refresh token came back into the file, its successor is put there again");
            match files.replace(name, file.credentials, ours, now.unix).await {
                Ok(Replaced::Done(stamp)) => account.known.lock().stamp = Some(stamp),
                // Looked at again soon.
                Ok(Replaced::Superseded(_)) => account.known.lock().stamp = None,
                Err(error) => self.complain(files.path_of(name), &error),
            }
            return;
        }
        info!(identity.id = %identity, "credentials changed by another program");
        account.known.lock().rechecks = 0;
        self.install(account, credentials, now);
    }

    /// Puts credentials in use that are safe where they are.
    fn install(&self, account: &Account, credentials: OAuthCredentials, now: Now) {
        let token = credentials.bearer(now.unix);
        {
            let mut known = account.known.lock();
            known.credentials = credentials;
            known.is_refused = None;
            known.failures = 0;
            known.retry_at = None;
        }
        if let Some(token) = token {
            account.session.install_token(token);
        }
        self.plan(account, now);
        self.settle(account, now);
    }

    /// The account that has this login, or had it before a refresh.
    fn owner_of(&self, credentials: &OAuthCredentials) -> Option<IdentityId> {
        let key = credentials.refresh_token()?.key();
        let is_owner = |account: &Arc<Account>| {
            let known = account.known.lock();
            known.spent.contains(&key) || known.credentials.refresh_token().is_some_and(|token| token.key() == key)
        };
        self.all().iter().find(|account| is_owner(account)).map(|account| account.session.identity().clone())
    }

    fn complain(&self, path: PathBuf, error: &OAuthFileError) {
        self.complain_of(Some(path), ErrorChain(error).to_string());
    }

    /// Says once what is wrong with a file; [`OAuthAccounts::faults`] says it as long as it is so.
    fn complain_of(&self, path: Option<PathBuf>, why: String) {
        let path = path.unwrap_or_else(|| PathBuf::from("QWEN_OAUTH_CREDS"));
        let round = self.0.rounds.load(Ordering::Relaxed);
        let before = self.0.faults.lock().insert(path.clone(), (why.clone(), round));
        if before.is_none_or(|(before, _)| before != why) {
            warn!(path = %path.display(), reason = %why, "OAuth credentials not used");
        }
    }

    // ---- states

    fn state(&self, session: &Session, known: &Known, now: UnixSeconds) -> AccountState {
        let is_live = session.token().is_some_and(|token| token.is_live(now));
        let can_refresh =
            known.credentials.refresh_token().is_some_and(|token| !self.0.dead.lock().contains(&token.key()));
        match known.is_refused {
            Some(Refusal::Portal) => AccountState::PortalRefuses,
            Some(Refusal::Login) => AccountState::NeedsLogin,
            None if is_live => AccountState::Ready,
            None if can_refresh => AccountState::Expired,
            None => AccountState::NeedsLogin,
        }
    }

    /// Tells the pool how the account is.
    fn settle(&self, account: &Account, now: Now) {
        let state = {
            let known = account.known.lock();
            let retry_at = known.retry_at.map_or(now.instant, Instant::into_std).max(now.instant);
            match self.state(&account.session, &known, now.unix) {
                AccountState::Ready => CredentialState::Ready,
                AccountState::Expired => CredentialState::Missing { retry_at },
                AccountState::NeedsLogin | AccountState::PortalRefuses => CredentialState::Dead,
            }
        };
        self.0.pool.set_credential(account.session.identity(), state, now);
    }

    /// Notes when the token should be renewed.
    fn plan(&self, account: &Account, now: Now) {
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
                let (accounts, generation) = (self.clone(), account.session.token_generation());
                self.0.supervisor.spawn("refresh an OAuth token", async move {
                    // Logged where it happens.
                    let _ = accounts.refresh(&account, generation).await;
                });
            }
        }
    }

    // ---- refreshing

    /// One refresh, unless somebody else has just done it.
    async fn refresh(&self, account: &Account, generation: u64) -> Result<(), AccountError> {
        let session = &account.session;
        let identity = session.identity().clone();
        let asked_at = Instant::now();
        let _gate = account.gate.lock().await;
        if session.token_generation() != generation {
            return Ok(());
        }
        // Whoever waited for a refresh that failed has its answer.
        if account.known.lock().last_failure.is_some_and(|at| at >= asked_at) {
            return Err(AccountError::Failed(identity));
        }
        let Ok(_permit) = self.0.running.acquire().await else {
            return Err(AccountError::Failed(identity));
        };
        let result = match account.place.clone() {
            Place::File { files, account: name } => self.renew_file(account, &files, &name, generation).await,
            Place::Given { .. } => self.renew_given(account).await,
        };
        let now = Now::read();
        match &result {
            Ok(()) => {}
            Err(AccountError::NeedsLogin(_)) => {
                account.known.lock().last_failure = Some(Instant::now());
                self.settle(account, now);
            }
            Err(AccountError::Gone(_)) => self.forget(account),
            Err(error) => {
                let wait = {
                    let mut known = account.known.lock();
                    let wait = backoff(known.failures, fastrand::f64()).max(retry_after(error));
                    known.failures = known.failures.saturating_add(1);
                    known.last_failure = Some(Instant::now());
                    known.retry_at = Some(Instant::now() + wait);
                    known.due_at = known.retry_at;
                    wait
                };
                warn!(identity.id = %identity, error = %ErrorChain(error), retry_seconds = wait.as_secs(), "OAuth token not refreshed");
                // A token that is still good serves on.
                self.settle(account, now);
            }
        }
        result
    }

    async fn renew_given(&self, account: &Account) -> Result<(), AccountError> {
        let old = account.known.lock().credentials.clone();
        let new = match self.exchange(account, &old).await? {
            Ok(new) => new,
            Err(refused) => return Err(self.refuse(account, refused)),
        };
        self.keep(account, &new).await;
        self.renewed(account, &old, new);
        Ok(())
    }

    async fn renew_file(
        &self,
        account: &Account,
        files: &OAuthFiles,
        name: &AccountId,
        generation: u64,
    ) -> Result<(), AccountError> {
        let identity = account.session.identity();
        let failed = |error| match error {
            OAuthFileError::Missing(_) => AccountError::Gone(identity.clone()),
            error => AccountError::File(identity.clone(), error),
        };
        let _lock = files.lock(name).await.map_err(|error| match error {
            // The folder went with the file.
            OAuthFileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                AccountError::Gone(identity.clone())
            }
            error => AccountError::File(identity.clone(), error),
        })?;
        let now = Now::read();
        let mut file = files.read(name, now.unix).await.map_err(failed)?;
        self.adopt(account, file.clone(), now).await;
        if has_news(&account.session, generation, now) {
            return Ok(());
        }
        let old = account.known.lock().credentials.clone();
        let new = match self.exchange(account, &old).await? {
            Ok(new) => new,
            Err(refused) => {
                // A program that knows no lock may have renewed it under our eyes.
                let now = Now::read();
                file = files.read(name, now.unix).await.map_err(failed)?;
                self.adopt(account, file, now).await;
                if has_news(&account.session, generation, now) {
                    return Ok(());
                }
                let is_other =
                    account.known.lock().credentials.refresh_token().is_some_and(|token| token.key() != refused);
                return Err(if is_other {
                    AccountError::Failed(identity.clone())
                } else {
                    self.refuse(account, refused)
                });
            }
        };
        let now = Now::read();
        match files.replace(name, self.written(account, &file), new.clone(), now.unix).await {
            Ok(Replaced::Done(stamp)) => {
                self.renewed(account, &old, new);
                account.known.lock().stamp = Some(stamp);
            }
            Ok(Replaced::Superseded(theirs)) => {
                debug!(identity.id = %identity, "another login came into the file during the refresh");
                account.known.lock().spend(&old);
                self.adopt(account, *theirs, now).await;
            }
            Err(OAuthFileError::Missing(_)) => return Err(AccountError::Gone(identity.clone())),
            Err(error) => {
                // The token before is spent, so the new one has to lie somewhere before it is used.
                self.complain(files.path_of(name), &error);
                self.keep(account, &new).await;
                self.renewed(account, &old, new);
            }
        }
        Ok(())
    }

    /// What is in the file: not what is known when that could not be written there.
    fn written(&self, account: &Account, file: &OAuthFile) -> OAuthCredentials {
        let known = account.known.lock();
        if self.0.kept.lock().contains_key(&known.origin) {
            file.credentials.clone()
        } else {
            known.credentials.clone()
        }
    }

    /// Asks the upstream for a new token; `Ok(Err)` with the name of a refresh token that is refused.
    async fn exchange(
        &self,
        account: &Account,
        old: &OAuthCredentials,
    ) -> Result<Result<OAuthCredentials, CredentialKey>, AccountError> {
        let identity = account.session.identity();
        let Some(token) = old.refresh_token() else {
            return Err(AccountError::NeedsLogin(identity.clone()));
        };
        let key = token.key();
        if self.0.dead.lock().contains(&key) {
            return Err(AccountError::NeedsLogin(identity.clone()));
        }
        match self.0.upstream.refresh(token, Now::read().unix).await {
            Ok(grant) => {
                let now = UnixMillis(Now::read().unix.0.saturating_mul(1000));
                debug!(identity.id = %identity, "OAuth token refreshed");
                Ok(Ok(old.renewed(grant, now)))
            }
            Err(RefreshFailure::Dead { message }) => {
                warn!(identity.id = %identity, reason = %message, "refresh token refused");
                Ok(Err(key))
            }
            Err(RefreshFailure::Transient(error)) => Err(AccountError::Upstream(identity.clone(), error)),
        }
    }

    /// Remembers a dead refresh token, across restarts too, so that it is not tried again.
    fn refuse(&self, account: &Account, key: CredentialKey) -> AccountError {
        let identity = account.session.identity().clone();
        warn!(identity.id = %identity, "login is over, log in again");
        let facts = IdentityFacts { dead_since: Some(Now::read().unix), ..IdentityFacts::default() };
        self.0.store.save_facts(key.clone(), facts);
        self.0.dead.lock().insert(key);
        account.known.lock().due_at = None;
        AccountError::NeedsLogin(identity)
    }

    /// Writes renewed credentials down that cannot go where the ones before came from.
    async fn keep(&self, account: &Account, new: &OAuthCredentials) {
        let origin = account.known.lock().origin.clone();
        let saved = self.0.store.save_oauth(origin.clone(), new.to_json(), Now::read().unix).await;
        if let Err(error) = saved {
            let identity = account.session.identity();
            warn!(identity.id = %identity, error = %ErrorChain(&error), "renewed credentials not written down, they are lost with the process");
        }
        self.0.kept.lock().insert(origin, new.clone());
    }

    fn renewed(&self, account: &Account, old: &OAuthCredentials, new: OAuthCredentials) {
        {
            let mut known = account.known.lock();
            known.spend(old);
            known.renewed_at = Some(Instant::now());
        }
        self.install(account, new, Now::read());
    }
}

impl Known {
    fn new(credentials: OAuthCredentials, stamp: Option<FileStamp>, origin: CredentialKey) -> Self {
        Self {
            credentials,
            stamp,
            origin,
            is_refused: None,
            renewed_at: None,
            forced_at: None,
            last_failure: None,
            failures: 0,
            rechecks: 0,
            retry_at: None,
            due_at: None,
            spent: VecDeque::new(),
        }
    }

    /// Notes that a refresh token was renewed away.
    fn spend(&mut self, old: &OAuthCredentials) {
        if let Some(token) = old.refresh_token() {
            if self.spent.len() >= SPENT_MAX {
                self.spent.pop_front();
            }
            self.spent.push_back(token.key());
        }
    }
}

impl Place {
    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File { files, account } => Some(files.path_of(account)),
            Self::Given { .. } => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { files, account } => write!(f, "{}", files.path_of(account).display()),
            Self::Given { number } => write!(f, "QWEN_OAUTH_CREDS entry {number}"),
        }
    }
}

/// Whether the session got a token meanwhile that is worth a try.
fn has_news(session: &Session, generation: u64, now: Now) -> bool {
    session.token_generation() != generation
        && session.token().is_some_and(|token| token.is_live(now.unix.plus(FLOOR_SECONDS)))
}

fn shared_identity() -> IdentityId {
    IdentityId::named(&format!("oauth:{SHARED_NAME}"))
}

/// How long to wait before a token is renewed that lives for so many seconds more: until `buffer` before its end,
/// but at least half of what is left, and up to a tenth of the buffer earlier by `jitter` in 0..=1.
fn seconds_until_due(left: u64, buffer: Duration, jitter: f64) -> Duration {
    let left = Duration::from_secs(left);
    let margin = buffer.mul_f64(1.0 + 0.1 * jitter.clamp(0.0, 1.0)).min(left / 2);
    left.saturating_sub(margin)
}

/// How long to wait after so many failures in a row; `jitter` in 0..=1 takes away up to half of it.
fn backoff(failures: u32, jitter: f64) -> Duration {
    let ceiling = (BACKOFF_BASE * 2_u32.saturating_pow(failures.min(8))).min(BACKOFF_MAX);
    ceiling.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// When the upstream said to come back, if it did.
fn retry_after(error: &AccountError) -> Duration {
    match error {
        AccountError::Upstream(_, error) => error.retry_after.unwrap_or_default().min(BACKOFF_MAX),
        AccountError::NeedsLogin(_) | AccountError::Gone(_) | AccountError::File(..) | AccountError::Failed(_) => {
            Duration::ZERO
        }
    }
}
