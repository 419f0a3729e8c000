//! Accounts of the web chat: sessions of a browser, kept in the pool while they are there, and their access tokens,
//! renewed ahead of their end in the background and when a request needs one.
//!
//! This is one long file because the table of accounts and their renewal change the same entries together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::pending;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::facts::IdentityFacts;
use crate::base::ids::{CredentialKey, IdentityId};
use crate::base::secret::AccessToken;
use crate::base::seed::IdentitySeed;
use crate::base::session::Session;
use crate::gateway::accounts::error::{Forced, LastForced, RefreshError};
use crate::gateway::accounts::own_sessions::OwnSessions;
use crate::gateway::accounts::single_flight::SingleFlight;
use crate::pool::{CredentialState, IdentityPool, Now};
use crate::shutdown::Supervisor;
use crate::store::{Loaded, Store};
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::client::QwenWeb;
use crate::upstream::web::token::token_in_jar;

/// Refreshes at once: many at a time have been seen to draw a challenge.
const REFRESHES_MAX: usize = 2;

/// Settings of the renewal of tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WebAccountSettings {
    /// `AUTO_REFRESH_TOKEN`: live tokens are replaced before they end. Accounts without one get one in any case.
    pub is_ahead: bool,
    /// `TOKEN_REFRESH_INTERVAL_HOURS`: the longest that a live token is kept; `None`: until shortly before its end.
    pub interval: Option<Duration>,
}

/// All accounts of the web chat. Clones share them.
#[derive(Clone)]
pub(crate) struct WebAccounts(pub(crate) Arc<Inner>);

/// The state that all clones share.
pub(crate) struct Inner {
    pub(crate) settings: WebAccountSettings,
    pub(crate) pool: IdentityPool,
    pub(crate) upstream: Arc<QwenWeb>,
    pub(crate) store: Arc<Store>,
    members: Mutex<BTreeMap<CredentialKey, Arc<Member>>>,
    refreshes: SingleFlight<CredentialKey, Result<(), RefreshError>>,
    pub(crate) running: Semaphore,
    /// Moment at which the last refresh of any account began.
    pub(crate) last_start: AsyncMutex<Option<Instant>>,
    /// Tokens that callers' own refresh cookies renewed.
    own: OwnSessions,
    /// The owner was told about a wrong clock.
    pub(crate) is_skew_told: AtomicBool,
    /// Wakes the background round when something became due.
    pub(crate) changed: Notify,
}

pub(crate) struct Member {
    pub(crate) session: Arc<Session>,
    /// The configured credentials of the identity.
    pub(crate) seed: IdentitySeed,
    /// The account of the upstream that the identity began with, as far as its tokens tell.
    pub(crate) account: OnceLock<String>,
    pub(crate) history: Mutex<History>,
}

/// The results of its refreshes so far.
#[derive(Default)]
pub(crate) struct History {
    /// The first refusal since the last success.
    pub(crate) refused_at: Option<Instant>,
    pub(crate) is_dead: bool,
    pub(crate) dead_checks: u32,
    /// Failures in a row that say nothing about the session.
    pub(crate) failures: u32,
    /// Moment at which a refresh brought the present token.
    pub(crate) renewed_at: Option<Instant>,
    /// Number of a token that the upstream refused, even if it has not expired.
    pub(crate) refused: Option<u64>,
    pub(crate) forced: LastForced,
    /// Configured cookies that were tried since the last success, in their order: the first one, then its spares.
    pub(crate) cookies_tried: usize,
    /// Moment of its next look by the background round.
    pub(crate) due_at: Option<Instant>,
}

impl Member {
    /// Whether a token is of the account that the identity began with. The first one that tells decides.
    pub(crate) fn owns(&self, token: &AccessToken) -> bool {
        token.account().is_none_or(|account| self.account.get_or_init(|| account.to_owned()) == account)
    }

    /// Whether the upstream refused the token that the session has now.
    pub(crate) fn has_refused_token(&self) -> bool {
        self.history.lock().refused == Some(self.session.token_generation())
    }
}

impl History {
    /// Forgets failures after a success.
    pub(crate) fn succeed(&mut self) {
        let forced = std::mem::take(&mut self.forced);
        *self = Self { forced, renewed_at: Some(Instant::now()), ..Self::default() };
    }
}

impl WebAccounts {
    /// No account yet; [`WebAccounts::add`] puts them into `pool`.
    #[must_use]
    pub(crate) fn new(
        pool: IdentityPool,
        upstream: Arc<QwenWeb>,
        store: Arc<Store>,
        supervisor: Supervisor,
        settings: WebAccountSettings,
    ) -> Self {
        Self(Arc::new(Inner {
            settings,
            pool,
            upstream,
            store,
            members: Mutex::default(),
            refreshes: SingleFlight::new(supervisor, "refresh a token"),
            running: Semaphore::new(REFRESHES_MAX),
            last_start: AsyncMutex::new(None),
            own: OwnSessions::default(),
            is_skew_told: AtomicBool::new(false),
            changed: Notify::new(),
        }))
    }

    /// Adds an account, last in line, with what an earlier run learnt about it; `false` when one with that credential
    /// is there already. Makes no call: a token that is still good makes it ready, and without one it is due now.
    pub(crate) fn add(
        &self,
        session: Arc<Session>,
        seed: IdentitySeed,
        facts: Option<IdentityFacts>,
        now: Now,
    ) -> bool {
        let key = session.key().clone();
        self.enrol(session, seed, now) && self.admit(&key, facts, now)
    }

    /// Takes an account up outside of the pool: its token is renewed when it is asked for, and no request comes to it.
    /// `false` when one with that credential is there already.
    pub(crate) fn enrol(&self, session: Arc<Session>, seed: IdentitySeed, now: Now) -> bool {
        if !is_live(&session, now)
            && let Some(token) = token_in_jar(&session, now.unix)
        {
            session.install_token(token);
        }
        let key = session.key().clone();
        let history = History { due_at: Some(Instant::now()), ..History::default() };
        let account = account_of(&session, now).map_or_else(OnceLock::new, OnceLock::from);
        let member = Arc::new(Member { session, seed, account, history: Mutex::new(history) });
        match self.0.members.lock().entry(key) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(member);
                true
            }
        }
    }

    /// Puts an enrolled account into the pool, last in line; `false` when it is not enrolled, or one with that credential
    /// is in the pool already.
    pub(crate) fn admit(&self, key: &CredentialKey, facts: Option<IdentityFacts>, now: Now) -> bool {
        let Some(member) = self.find(key) else { return false };
        if !self.0.pool.add(Arc::clone(&member.session), now) {
            self.0.members.lock().remove(key);
            return false;
        }
        if let Some(facts) = facts {
            self.0.pool.restore(key, facts, now);
        }
        // A dead one is looked at once at each start: its owner may have mended it meanwhile.
        if !self.is_dead(&member.session) {
            let state = match is_live(&member.session, now) {
                true => CredentialState::Ready,
                false => CredentialState::Missing { retry_at: now.instant },
            };
            self.0.pool.set_credential(key, state, now);
            self.plan(&member, now);
        }
        self.0.changed.notify_one();
        true
    }

    /// Removes an account; `false` when none has that credential. Its leases go on until they end.
    pub(crate) fn remove(&self, key: &CredentialKey, now: Now) -> bool {
        let was_there = self.0.members.lock().remove(key).is_some();
        self.0.pool.remove(key, now) || was_there
    }

    /// Puts another credential of an account in the place of the one before. Leases go on with the old one.
    pub(crate) fn replace_member(&self, old: &CredentialKey, session: Arc<Session>, seed: IdentitySeed, now: Now) {
        let key = session.key().clone();
        self.remove(old, now);
        self.add(session, seed, None, now);
        self.keep_facts(&key, now);
    }

    /// The identity that has this account of the upstream.
    #[must_use]
    pub(crate) fn holder_of(&self, account: &str) -> Option<IdentityId> {
        let members = self.0.members.lock();
        let holder = members.values().find(|member| member.account.get().is_some_and(|its| its == account));
        holder.map(|member| member.session.identity().clone())
    }

    /// The sessions of all accounts.
    #[must_use]
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.0.members.lock().values().map(|member| Arc::clone(&member.session)).collect()
    }

    /// The session with this credential.
    #[must_use]
    pub(crate) fn session_of_key(&self, key: &CredentialKey) -> Option<Arc<Session>> {
        self.find(key).map(|member| Arc::clone(&member.session))
    }

    /// The session of this identity.
    #[must_use]
    pub(crate) fn session_named(&self, identity: &IdentityId) -> Option<Arc<Session>> {
        let members = self.0.members.lock();
        members.values().find(|member| member.session.identity() == identity).map(|member| Arc::clone(&member.session))
    }

    /// The account of the upstream that an identity has, as far as it is known.
    #[must_use]
    pub(crate) fn account_named(&self, identity: &IdentityId) -> Option<String> {
        let members = self.0.members.lock();
        members.values().find(|member| member.session.identity() == identity)?.account.get().cloned()
    }

    /// The account of the upstream that a session belongs to, as far as one of its tokens tells.
    #[must_use]
    pub(crate) fn account_of(session: &Session, now: Now) -> Option<String> {
        account_of(session, now)
    }

    /// Renews the token of one account now, at most every ten seconds; within ten seconds what the last time brought.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub(crate) async fn force(&self, session: &Arc<Session>) -> Result<(), RefreshError> {
        let member = self.find(session.key());
        let recent = member.as_ref().and_then(|member| member.history.lock().forced.recent());
        if let Some((_, result)) = recent {
            return result;
        }
        let result = self.replace(session, session.token_generation()).await;
        if let Some(member) = member {
            member.history.lock().forced.note(result.clone());
        }
        if result.is_ok() {
            self.trust(session, Now::read());
        }
        result
    }

    /// Lets an account be used at once that the upstream refused, since its token is another one now.
    pub(crate) fn trust(&self, session: &Session, now: Now) {
        self.0.pool.trust(session.key(), now);
        self.keep_facts(session.key(), now);
    }

    /// Writes down what the pool knows of an account.
    pub(crate) fn keep_facts(&self, key: &CredentialKey, now: Now) {
        self.0.store.save_facts(key.clone(), || self.0.pool.facts(key, now));
    }

    /// Moment until which nothing may be sent for an account: the end of its rest after a challenge or of a pause of all
    /// requests; `None` if neither is on.
    pub(crate) fn silent_until(&self, key: &CredentialKey) -> Option<Instant> {
        self.0.pool.silent_until(key, Now::read()).map(Instant::from_std)
    }

    /// Takes up that the upstream answered a call outside of a request by a challenge.
    pub(crate) fn challenged(&self, key: &CredentialKey) {
        let now = Now::read();
        self.0.pool.challenged(key, now);
        if self.0.pool.credential(key).is_some() {
            self.keep_facts(key, now);
        }
    }

    /// Looks again at an account that was given up, as its owner asks.
    pub(crate) fn revive(&self, session: &Session, now: Now) {
        let Some(member) = self.find(session.key()) else { return };
        {
            let mut history = member.history.lock();
            let forced = std::mem::take(&mut history.forced);
            *history = History { forced, due_at: Some(Instant::now()), ..History::default() };
        }
        let state = match is_live(session, now) {
            true => CredentialState::Ready,
            false => CredentialState::Missing { retry_at: now.instant },
        };
        self.0.pool.set_credential(session.key(), state, now);
        self.0.changed.notify_one();
    }

    /// Returns once the session has a token that is still good, which it usually has.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub(crate) async fn ensure_fresh(&self, session: &Arc<Session>) -> Result<(), RefreshError> {
        let is_refused = self.find(session.key()).is_some_and(|member| member.has_refused_token());
        if is_live(session, Now::read()) && !is_refused {
            return Ok(());
        }
        self.replace(session, session.token_generation()).await
    }

    /// As [`WebAccounts::ensure_fresh`], for work that can wait: asks for no token before the account's next try is due.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub(crate) async fn ensure_fresh_in_turn(&self, session: &Arc<Session>) -> Result<(), RefreshError> {
        let now = Now::read();
        let waits = match self.0.pool.credential(session.key()) {
            Some(CredentialState::Missing { retry_at }) => now.instant < retry_at,
            Some(CredentialState::Dead) => true,
            Some(CredentialState::Ready) | None => false,
        };
        if waits {
            return Err(RefreshError::Failed { identity: session.identity().clone(), source: None });
        }
        self.ensure_fresh(session).await
    }

    /// Notes that the upstream refused the token of `generation`: it is not sent again.
    pub(crate) fn doubt(&self, session: &Session, generation: u64) {
        if let Some(member) = self.find(session.key()) {
            member.history.lock().refused = Some(generation);
        }
    }

    /// Moment at which a refresh brought the session's token.
    pub(crate) fn renewed_at(&self, session: &Session) -> Option<Instant> {
        self.find(session.key())?.history.lock().renewed_at
    }

    /// Returns once the session has a newer token than the one of `generation`. The refresh goes on when its caller
    /// leaves.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub(crate) async fn replace(&self, session: &Arc<Session>, generation: u64) -> Result<(), RefreshError> {
        let identity = session.identity().clone();
        let Some(member) = self.find(session.key()) else {
            return Err(RefreshError::Gone { identity });
        };
        self.join(member, generation).await.unwrap_or(Err(RefreshError::Failed { identity, source: None }))
    }

    /// The session of a caller's own credential as it was last renewed, or as it was sent.
    pub(crate) fn own(&self, given: &Arc<Session>) -> Arc<Session> {
        self.0.own.newest(given)
    }

    pub(crate) fn keep_own(&self, session: &Arc<Session>) {
        self.0.own.keep(session);
    }

    /// Replaces the token of `generation` of a caller's own session by its refresh cookie. Nothing is written down, and
    /// the pool hears nothing of it.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub(crate) async fn replace_own(&self, session: &Arc<Session>, generation: u64) -> Result<(), RefreshError> {
        let identity = session.identity().clone();
        // Another request with the same credential may have renewed its own session, and may do so while this one waits.
        if self.catch_up(session) {
            return Ok(());
        }
        let (accounts, renewed) = (self.clone(), Arc::clone(session));
        let renewing = async move { accounts.renew_own(&renewed, generation).await };
        let joined = self.0.refreshes.join(session.key().clone(), renewing).await;
        joined.unwrap_or(Err(RefreshError::Failed { identity, source: None }))?;
        self.catch_up(session);
        Ok(())
    }

    /// Takes over what another session of the same credential got; whether there was such a one.
    fn catch_up(&self, session: &Arc<Session>) -> bool {
        let newest = self.own(session);
        let is_another = !Arc::ptr_eq(&newest, session);
        if is_another {
            session.restore(&newest.snapshot().cookies, newest.token());
        }
        is_another
    }

    /// [`WebAccounts::replace`] without waiting for it.
    pub(crate) fn replace_later(&self, session: &Arc<Session>, generation: u64) {
        if let Some(member) = self.find(session.key()) {
            drop(self.join(member, generation));
        }
    }

    /// Refreshes every account now, at most every ten seconds each, and tells how each one went; within ten seconds what
    /// the last one brought. An account that rests after a challenge is not refreshed.
    pub(crate) async fn refresh_all(&self) -> Vec<Forced> {
        let mut results = Vec::new();
        for session in self.0.pool.sessions() {
            let Some(member) = self.find(session.key()) else {
                continue;
            };
            let identity = session.identity().clone();
            let recent = member.history.lock().forced.recent();
            if let Some((age, result)) = recent {
                results.push(Forced { identity, age, result });
                continue;
            }
            if self.silent_until(session.key()).is_some() {
                let note = "nothing is sent for this account until its rest is over";
                let error = UpstreamError::noted("renewing a token", UpstreamErrorKind::Challenged, note);
                let result = Err(RefreshError::Failed { identity: identity.clone(), source: Some(Arc::new(error)) });
                results.push(Forced { identity, age: Duration::ZERO, result });
                continue;
            }
            let result = self.replace(&session, session.token_generation()).await;
            member.history.lock().forced.note(result.clone());
            if result.is_ok() {
                self.trust(&session, Now::read());
            }
            results.push(Forced { identity, age: Duration::ZERO, result });
        }
        results
    }

    /// The background round: refreshes ahead of expiry until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            let mut next: Option<Instant> = None;
            for member in self.all() {
                let due_at = member.history.lock().due_at;
                // Nothing is sent for a challenged account until its rest is over.
                let due_at = due_at.map(|at| self.silent_until(member.session.key()).map_or(at, |until| at.max(until)));
                match due_at {
                    Some(at) if at <= Instant::now() => {
                        member.history.lock().due_at = None;
                        let generation = member.session.token_generation();
                        drop(self.join(member, generation));
                    }
                    Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                    None => {}
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = until(next) => {}
                () = self.0.changed.notified() => {}
            }
        }
    }

    fn join(
        &self,
        member: Arc<Member>,
        generation: u64,
    ) -> impl Future<Output = Option<Result<(), RefreshError>>> + Send + use<> {
        let accounts = self.clone();
        let key = member.session.key().clone();
        self.0.refreshes.join(key, async move { accounts.refresh(&member, generation).await })
    }

    /// Runs this while no refresh of the account does. When one is under way, waits for its end and does not run this.
    pub(crate) fn alone(
        &self,
        key: &CredentialKey,
        run: impl Future<Output = Result<(), RefreshError>> + Send + 'static,
    ) -> impl Future<Output = Option<Result<(), RefreshError>>> + Send {
        self.0.refreshes.join(key.clone(), run)
    }

    pub(crate) fn find(&self, key: &CredentialKey) -> Option<Arc<Member>> {
        self.0.members.lock().get(key).cloned()
    }

    /// In the pool's order, so that the first one that a request takes is the first one to have a token.
    fn all(&self) -> Vec<Arc<Member>> {
        self.0.pool.sessions().iter().filter_map(|session| self.find(session.key())).collect()
    }
}

/// Whether the session has a token that is still good at `now`, as far as the token says.
pub(crate) fn is_live(session: &Session, now: Now) -> bool {
    session.token().is_some_and(|token| token.is_live(now.unix))
}

/// Sentence for the owner about a clock that is `ahead` seconds ahead of the upstream's, or behind it.
#[must_use]
pub(crate) fn skew_in_words(ahead: i64) -> String {
    let (seconds, side) = (ahead.unsigned_abs(), if ahead > 0 { "ahead of" } else { "behind" });
    format!(
        "this machine's clock is {seconds} s {side} the upstream's; the upstream's decides when a token ends. Set this machine's clock"
    )
}

/// The account of the upstream that a session belongs to, as far as one of its tokens tells, over or not.
pub(crate) fn account_of(session: &Session, now: Now) -> Option<String> {
    let in_jar = |name: &str| AccessToken::of_secret(&session.cookie(name)?, now.unix);
    let tokens = [session.token(), in_jar("token"), in_jar("refresh_token")];
    tokens.iter().flatten().find_map(|token| token.account().map(str::to_owned))
}

/// Waits until a moment; with `None` without an end.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

/// A session for each configured account, in their order, with what an earlier run had renewed.
#[must_use]
pub(crate) fn sessions(seeds: Vec<IdentitySeed>, loaded: &Loaded, now: Now) -> Vec<(Arc<Session>, IdentitySeed)> {
    let with_session =
        |(place, seed): (usize, IdentitySeed)| (session_of(IdentityId::numbered(place), &seed, loaded, now), seed);
    (1..).zip(seeds).map(with_session).collect()
}

/// The session of one account, with what an earlier run had renewed.
#[must_use]
pub(crate) fn session_of(identity: IdentityId, seed: &IdentitySeed, loaded: &Loaded, now: Now) -> Arc<Session> {
    let token_key = || CredentialKey::of(seed.token.as_ref().map_or("", AccessToken::expose));
    let key = seed.cookie.as_ref().map_or_else(token_key, |cookie| cookie.key());
    let session = Session::new(identity, key, seed.cookie.as_ref(), seed.token.clone());
    if let Some(stored) = loaded.sessions.get(session.key()) {
        let token = stored.token.as_ref().and_then(|token| AccessToken::of_secret(token, now.unix));
        session.restore(&stored.cookies, token);
        session.keep_earlier(stored.earlier.clone());
    }
    Arc::new(session)
}
