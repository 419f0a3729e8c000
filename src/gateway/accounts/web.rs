//! Keeps every identity's access token fresh: ahead of expiry in the background, and when a request needs it.
//!
//! One refresh for an identity at a time, however many wait for it; it runs on its own, so that a caller who
//! leaves cannot cut it off half way. A dead identity never delays the others.

use std::collections::HashMap;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Mutex, Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::base::ids::{IdentityId, UnixSeconds};
use crate::base::secret::{AccessToken, Cookie};
use crate::base::seed::IdentitySeed;
use crate::base::session::{Session, SessionSnapshot};
use crate::pool::Now;
use crate::pool::{CredentialState, IdentityPool};
use crate::shutdown::Supervisor;
use crate::store::Store;
use crate::telemetry::ErrorChain;
use crate::upstream::error::UpstreamError;
use crate::upstream::web::client::QwenWeb;
use crate::upstream::web::token::is_refusal;

/// Refreshes at once: many at a time have been seen to draw a challenge.
const REFRESHES_MAX: usize = 2;
/// How long a refresh keeps others from beginning.
const PLACE_TIME: Duration = Duration::from_secs(4);
/// The pause between the starts of two refreshes.
const SPACING: Duration = Duration::from_secs(1);
/// The pause between two forced refreshes of one identity.
const FORCE_SPACING: Duration = Duration::from_secs(10);
/// A refusal counts as final when a second one follows after at least this long.
const SECOND_REFUSAL_AFTER: Duration = Duration::from_secs(30);
/// Backoff after failures that say nothing about the session.
const BACKOFF_BASE: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(30 * 60);
/// How often a dead session is tried again: from half an hour, doubling, to a day.
const DEAD_RECHECK_BASE: Duration = Duration::from_secs(30 * 60);
const DEAD_RECHECK_MAX: Duration = Duration::from_secs(24 * 3600);
/// The assumed lifetime of a token that does not tell.
const UNKNOWN_LIFETIME_SECONDS: i64 = 600;
/// Bounds of how long before its end a token is refreshed: a fifth of its lifetime within these.
const MARGIN_SECONDS: (i64, i64) = (60, 24 * 3600);

/// Refreshes tokens. Clones share it.
#[derive(Clone)]
pub struct Refresher(Arc<Shared>);

struct Shared {
    pool: IdentityPool,
    upstream: Arc<QwenWeb>,
    store: Arc<Store>,
    supervisor: Supervisor,
    gates: HashMap<IdentityId, Gate>,
    running: Semaphore,
    last_start: Mutex<Option<Instant>>,
    /// Wakes the background round when a token or a state changed.
    changed: Notify,
    /// The longest that a live token is kept, whatever its own end; `None`: until shortly before that.
    interval: Option<Duration>,
    /// Whether live tokens are replaced before they end. Identities without one are looked after in any case.
    is_ahead: bool,
}

/// One identity's refreshes, one at a time.
struct Gate {
    seed: IdentitySeed,
    history: Mutex<History>,
    /// When the background round should look at it next; written under `history`, read by the round.
    due_at: parking_lot::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct History {
    refused_at: Option<Instant>,
    is_dead: bool,
    dead_checks: u32,
    failures: u32,
    forced_at: Option<Instant>,
    configured_tried: bool,
    /// The last failure: when it was known, and whether it was a refusal.
    last_failure: Option<(Instant, bool)>,
}

/// Why there is no fresh token.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The upstream refuses the session: somebody has to log in again.
    #[error("the session of {identity} is refused by the upstream, log in again and paste the new cookie")]
    Refused {
        /// Whose.
        identity: IdentityId,
    },
    /// No answer that tells; it is tried again later.
    #[error("no fresh token for {identity}")]
    Failed {
        /// Whose.
        identity: IdentityId,
        /// What happened.
        source: Option<UpstreamError>,
    },
}

impl Refresher {
    /// A refresher for the pool's identities, with what is configured for each.
    #[must_use]
    pub fn new(
        pool: IdentityPool,
        upstream: Arc<QwenWeb>,
        store: Arc<Store>,
        supervisor: Supervisor,
        seeds: Vec<(IdentityId, IdentitySeed)>,
        interval: Option<Duration>,
        is_ahead: bool,
    ) -> Self {
        let gate =
            |seed| Gate { seed, history: Mutex::default(), due_at: parking_lot::Mutex::new(Some(Instant::now())) };
        Self(Arc::new(Shared {
            pool,
            upstream,
            store,
            supervisor,
            gates: seeds.into_iter().map(|(id, seed)| (id, gate(seed))).collect(),
            running: Semaphore::new(REFRESHES_MAX),
            last_start: Mutex::new(None),
            changed: Notify::new(),
            interval,
            is_ahead,
        }))
    }

    /// Looks what each identity has at the start, without any call: a live token makes it ready.
    pub fn begin(&self, now: Now) {
        for session in self.0.pool.sessions() {
            let has_token = session.token().is_some_and(|token| token.is_live(now.unix));
            if !has_token && let Some(token) = self.0.upstream.token_in_jar(&session, now.unix) {
                session.install_token(token);
            }
            let is_ready = session.token().is_some_and(|token| token.is_live(now.unix));
            let state =
                if is_ready { CredentialState::Ready } else { CredentialState::Missing { retry_at: now.instant } };
            if self.is_dead(session.identity()) {
                // Looked at once at each start, and then as ever: its owner may have mended it meanwhile.
                continue;
            }
            self.0.pool.set_credential(session.identity(), state, now);
            self.plan(&session, now);
        }
    }

    /// Returns once the session has a token that is still good, which it usually has.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn ensure_fresh(&self, session: &Arc<Session>) -> Result<(), RefreshError> {
        if session.token().is_some_and(|token| token.is_live(Now::read().unix)) {
            return Ok(());
        }
        self.replace(session, session.token_generation()).await
    }

    /// Returns once the session has a newer token than the one of `generation`.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn replace(&self, session: &Arc<Session>, generation: u64) -> Result<(), RefreshError> {
        let failed = || RefreshError::Failed { identity: session.identity().clone(), source: None };
        let (done, result) = oneshot::channel();
        let (refresher, session) = (self.clone(), Arc::clone(session));
        let task = {
            let session = Arc::clone(&session);
            async move {
                // Nobody waits any more: the new token is in its place all the same.
                let _ = done.send(refresher.refresh(&session, generation).await);
            }
        };
        self.0.supervisor.spawn("refresh a token", task);
        result.await.unwrap_or_else(|_| Err(failed()))
    }

    /// [`Refresher::replace`] without waiting for it.
    pub fn replace_later(&self, session: &Arc<Session>, generation: u64) {
        let (refresher, session) = (self.clone(), Arc::clone(session));
        self.0.supervisor.spawn("refresh a token", async move {
            // Logged where it happens.
            let _ = refresher.refresh(&session, generation).await;
        });
    }

    /// Takes up that the upstream refuses an identity although its token is fresh: it is dead until a later look.
    pub fn given_up(&self, session: &Arc<Session>) {
        let Some(gate) = self.0.gates.get(session.identity()) else {
            return;
        };
        // While a refresh is under way, its result tells more than this.
        let Ok(mut history) = gate.history.try_lock() else {
            return;
        };
        self.bury(session, gate, &mut history, Now::read());
        self.0.changed.notify_one();
    }

    /// Refreshes every identity now, at most every ten seconds each, and tells how each one went.
    pub async fn refresh_all(&self) -> Vec<(IdentityId, Result<(), RefreshError>)> {
        let mut results = Vec::new();
        for session in self.0.pool.sessions() {
            let identity = session.identity().clone();
            let Some(gate) = self.0.gates.get(&identity) else {
                continue;
            };
            let is_too_soon = {
                let mut history = gate.history.lock().await;
                let recently = history.forced_at.is_some_and(|at| at.elapsed() < FORCE_SPACING);
                if !recently {
                    history.forced_at = Some(Instant::now());
                }
                recently
            };
            let has_token = session.token().is_some_and(|token| token.is_live(Now::read().unix));
            let result = if is_too_soon && has_token {
                Ok(())
            } else {
                self.replace(&session, session.token_generation()).await
            };
            results.push((identity, result));
        }
        results
    }

    /// The background round: refreshes ahead of expiry until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let mut next = None;
            for session in self.0.pool.sessions() {
                let Some(gate) = self.0.gates.get(session.identity()) else {
                    continue;
                };
                let due_at = *gate.due_at.lock();
                match due_at {
                    Some(at) if at <= Instant::now() => {
                        *gate.due_at.lock() = None;
                        let refresher = self.clone();
                        let generation = session.token_generation();
                        self.0.supervisor.spawn("refresh a token", async move {
                            // Logged where it happens.
                            let _ = refresher.refresh(&session, generation).await;
                        });
                    }
                    Some(at) => next = Some(next.map_or(at, |next: Instant| next.min(at))),
                    None => {}
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = due(next) => {}
                () = self.0.changed.notified() => {}
            }
        }
    }

    /// One refresh, unless somebody else has just done it.
    async fn refresh(&self, session: &Arc<Session>, generation: u64) -> Result<(), RefreshError> {
        let identity = session.identity().clone();
        let Some(gate) = self.0.gates.get(&identity) else {
            return Err(RefreshError::Failed { identity, source: None });
        };
        let asked_at = Instant::now();
        let mut history = gate.history.lock().await;
        if session.token_generation() != generation {
            return Ok(());
        }
        // Whoever waited for a refresh that failed has its answer.
        match history.last_failure {
            Some((at, true)) if at >= asked_at => return Err(RefreshError::Refused { identity }),
            Some((at, false)) if at >= asked_at => return Err(RefreshError::Failed { identity, source: None }),
            _ => {}
        }
        let Ok(permit) = self.0.running.acquire().await else {
            return Err(RefreshError::Failed { identity, source: None });
        };
        self.space().await;
        let now = Now::read();
        let result = {
            let mut exchange = pin!(self.exchange(session, gate, &mut history, now.unix));
            match timeout(PLACE_TIME, exchange.as_mut()).await {
                Ok(result) => result,
                // It is not cut off, since it may have rotated something; but the others need not wait for it.
                Err(_) => {
                    drop(permit);
                    exchange.await
                }
            }
        };
        let now = Now::read();
        match result {
            Ok(token) => {
                self.publish(session, token, now).await;
                *history = History { forced_at: history.forced_at, ..History::default() };
                self.plan(session, now);
                self.0.changed.notify_one();
                debug!(identity.id = %identity, "token refreshed");
                Ok(())
            }
            Err(error) => {
                let refused = is_refusal(&error);
                history.last_failure = Some((Instant::now(), refused));
                self.failed(session, gate, &mut history, &error, now);
                self.0.changed.notify_one();
                if refused {
                    Err(RefreshError::Refused { identity })
                } else {
                    Err(RefreshError::Failed { identity, source: Some(error) })
                }
            }
        }
    }

    /// The exchange; when what a former run left behind is refused, the configured cookie gets its chance too.
    async fn exchange(
        &self,
        session: &Session,
        gate: &Gate,
        history: &mut History,
        now: UnixSeconds,
    ) -> Result<AccessToken, UpstreamError> {
        let first = self.0.upstream.exchange(session, now).await;
        let (Err(error), Some(cookie)) = (&first, &gate.seed.cookie) else {
            return first;
        };
        if !is_refusal(error) || history.configured_tried || !has_moved_on(session, cookie) {
            return first;
        }
        history.configured_tried = true;
        session.restore(&SecretString::from(cookie.expose()), gate.seed.token.clone());
        self.0.upstream.exchange(session, now).await
    }

    /// Writes the new token down, then uses it: what the upstream rotated must not be lost.
    async fn publish(&self, session: &Session, token: AccessToken, now: Now) {
        let account = |token: &AccessToken| token.account().map(str::to_owned);
        if let (Some(old), Some(new)) = (session.token().as_ref().and_then(account), account(&token))
            && old != new
        {
            warn!(identity.id = %session.identity(), "the new token belongs to another account than the old one");
        }
        let snapshot = SessionSnapshot { token: Some(SecretString::from(token.expose())), ..session.snapshot() };
        if let Err(error) = self.0.store.save_session(session.key().clone(), snapshot, now.unix).await {
            warn!(identity.id = %session.identity(), error = %ErrorChain(&error), "token not written down, it is lost with the process");
        }
        session.install_token(token);
        self.0.pool.set_credential(session.identity(), CredentialState::Ready, now);
        self.0.store.save_facts(session.key().clone(), self.0.pool.facts(session.identity()));
    }

    fn failed(&self, session: &Session, gate: &Gate, history: &mut History, error: &UpstreamError, now: Now) {
        let identity = session.identity();
        let wait;
        if is_refusal(error) {
            let is_second = history.refused_at.is_some_and(|at| at.elapsed() >= SECOND_REFUSAL_AFTER);
            history.refused_at = history.refused_at.or(Some(Instant::now()));
            if is_second || history.is_dead || self.is_dead(identity) {
                warn!(identity.id = %identity, error = %ErrorChain(error), "session refused, log in again and paste the new cookie");
                self.bury(session, gate, history, now);
                return;
            } else {
                wait = SECOND_REFUSAL_AFTER;
                warn!(identity.id = %identity, error = %ErrorChain(error), "session refused, trying once more");
                self.0.pool.set_credential(identity, CredentialState::Missing { retry_at: now.instant + wait }, now);
            }
        } else {
            history.failures = history.failures.saturating_add(1);
            let ceiling = (BACKOFF_BASE * 2_u32.saturating_pow(history.failures.min(8) - 1)).min(BACKOFF_MAX);
            wait = ceiling.mul_f64(0.5 + fastrand::f64() / 2.0);
            warn!(identity.id = %identity, error = %ErrorChain(error), retry_seconds = wait.as_secs(), "token not refreshed");
            // A token that is still good serves on.
            if !session.token().is_some_and(|token| token.is_live(now.unix)) {
                self.0.pool.set_credential(identity, CredentialState::Missing { retry_at: now.instant + wait }, now);
            }
        }
        *gate.due_at.lock() = Some(Instant::now() + wait);
    }

    fn is_dead(&self, identity: &IdentityId) -> bool {
        matches!(self.0.pool.credential(identity), Some(CredentialState::Dead))
    }

    /// Nobody uses the identity until a look at it, later and later, finds it well.
    fn bury(&self, session: &Session, gate: &Gate, history: &mut History, now: Now) {
        history.is_dead = true;
        let wait = (DEAD_RECHECK_BASE * 2_u32.saturating_pow(history.dead_checks.min(8))).min(DEAD_RECHECK_MAX);
        history.dead_checks = history.dead_checks.saturating_add(1);
        self.0.pool.set_credential(session.identity(), CredentialState::Dead, now);
        self.0.store.save_facts(session.key().clone(), self.0.pool.facts(session.identity()));
        *gate.due_at.lock() = Some(Instant::now() + wait);
    }

    /// Notes when the session's token should be replaced.
    fn plan(&self, session: &Session, now: Now) {
        let Some(gate) = self.0.gates.get(session.identity()) else {
            return;
        };
        let wait = match session.token().filter(|token| token.is_live(now.unix)) {
            Some(_) if !self.0.is_ahead => {
                *gate.due_at.lock() = None;
                return;
            }
            Some(token) => {
                let own = seconds_until_due(&token, now.unix, fastrand::f64());
                self.0.interval.map_or(own, |interval| own.min(interval.as_secs()))
            }
            None => 0,
        };
        if wait > 7 * 24 * 3600 {
            debug!(identity.id = %session.identity(), "token good for more than a week");
        } else if let Some(expires_at) = session.token().and_then(|token| token.expires_at()) {
            info!(identity.id = %session.identity(), expires_in_seconds = expires_at.seconds_since(now.unix), "token in use");
        }
        *gate.due_at.lock() = Some(Instant::now() + Duration::from_secs(wait));
    }

    async fn space(&self) {
        let mut last_start = self.0.last_start.lock().await;
        if let Some(at) = *last_start {
            tokio::time::sleep_until(at + SPACING).await;
        }
        *last_start = Some(Instant::now());
    }
}

/// Waits until a moment; for ever without one.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

/// Whether the session signs in with something else than the configured cookie. Other cookies change with every
/// answer, and trying the same credential again would tell nothing.
fn has_moved_on(session: &Session, configured: &Cookie) -> bool {
    let first = Session::new(session.identity().clone(), session.key().clone(), Some(configured), None);
    ["refresh_token", "token"].into_iter().any(|name| {
        let value = |session: &Session| session.cookie(name).map(|value| value.expose_secret().to_owned());
        value(session) != value(&first)
    })
}

/// Seconds until a token is due: a fifth of its lifetime before its end, within bounds, and up to a tenth of that
/// earlier by `jitter` in 0..=1.
fn seconds_until_due(token: &AccessToken, now: UnixSeconds, jitter: f64) -> u64 {
    let expires_at = token.expires_at().unwrap_or(now.plus(UNKNOWN_LIFETIME_SECONDS));
    let issued_at = token.issued_at().filter(|issued_at| *issued_at < expires_at).unwrap_or(now);
    let lifetime = i64::try_from(expires_at.seconds_since(issued_at)).unwrap_or(i64::MAX);
    let margin = (lifetime / 5).clamp(MARGIN_SECONDS.0, MARGIN_SECONDS.1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "at most a tenth of a day")]
    let margin = margin + (margin as f64 * 0.1 * jitter) as i64;
    expires_at.plus(-margin).seconds_since(now)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    fn token(lifetime: Option<i64>) -> AccessToken {
        let claims =
            lifetime.map(|lifetime| format!("{{\"exp\":{}}}", 1_000_000 + lifetime)).unwrap_or("{}".to_owned());
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
        AccessToken::parse(&format!("h.{payload}.s"), UnixSeconds(1_000_000)).unwrap()
    }

    #[test]
    fn when_a_token_is_due() {
        let now = UnixSeconds(1_000_000);
        let due = |lifetime, jitter| seconds_until_due(&token(lifetime), now, jitter);
        assert_eq!(due(Some(900), 0.0), 720);
        assert_eq!(due(Some(900), 1.0), 702);
        assert_eq!(due(Some(30 * 86_400), 0.0), 29 * 86_400);
        assert_eq!(due(Some(100), 0.0), 40);
        assert_eq!(due(Some(30), 0.0), 0);
        assert_eq!(due(None, 0.0), 480);
    }
}
