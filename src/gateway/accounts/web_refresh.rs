//! Refreshes of the web chat's tokens: few at once, apart from each other, and what they rotate is written down before
//! it is used.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::base::ids::UnixSeconds;
use crate::base::secret::AccessToken;
use crate::base::session::{Session, SessionSnapshot};
use crate::gateway::accounts::error::RefreshError;
use crate::gateway::accounts::web::{Member, WebAccounts, account_of, is_live, skew_in_words};
use crate::pool::{CredentialState, Now};
use crate::telemetry::ErrorChain;
use crate::upstream::error::UpstreamError;
use crate::upstream::web::token::{is_refusal, token_in_jar};

/// Time for which a refresh keeps its place, so that others cannot begin.
const PLACE_TIME: Duration = Duration::from_secs(4);
/// The pause between the starts of two refreshes.
const SPACING: Duration = Duration::from_secs(1);
/// A refusal counts as final when a second one follows after at least this long.
const SECOND_REFUSAL_AFTER: Duration = Duration::from_secs(30);
/// Backoff after failures that say nothing about the session.
const BACKOFF_BASE: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(30 * 60);
/// A clock that is wrong by more than this is worth a line in the log.
const SKEW_TOLD_SECONDS: i64 = 60;
/// Pause before a dead session is tried again: from half an hour, doubling, to a day.
const DEAD_RECHECK_BASE: Duration = Duration::from_secs(30 * 60);
const DEAD_RECHECK_MAX: Duration = Duration::from_secs(24 * 3600);
/// The assumed lifetime of a token that does not tell.
const UNKNOWN_LIFETIME_SECONDS: i64 = 600;
/// Bounds of how long before its end a token is refreshed: a fifth of its lifetime within these.
const MARGIN_SECONDS: (i64, i64) = (60, 24 * 3600);

impl WebAccounts {
    /// One refresh, unless the token of `generation` was replaced meanwhile. At most one for each account at a time.
    pub(crate) async fn refresh(&self, member: &Member, generation: u64) -> Result<(), RefreshError> {
        let session = &member.session;
        let identity = session.identity().clone();
        if session.token_generation() != generation {
            return Ok(());
        }
        let Ok(permit) = self.0.running.acquire().await else {
            return Err(RefreshError::Failed { identity, source: None });
        };
        self.space().await;
        let now = Now::read();
        let (before, token_before) = (session.snapshot(), session.token());
        let tried_before = member.history.lock().cookies_tried;
        let result = {
            let mut exchange = pin!(self.exchange(member, now.unix));
            match timeout(PLACE_TIME, exchange.as_mut()).await {
                Ok(result) => result,
                // Not cut off, since it may have rotated something; but others need not wait for it.
                Err(_) => {
                    drop(permit);
                    exchange.await
                }
            }
        };
        self.tell_skew();
        let now = Now::read();
        match result {
            Ok(token) if !member.owns(&token) => {
                // Cookies that came with it are the other account's too.
                session.restore(&before.cookies, token_before);
                warn!(identity.id = %identity, "a refresh brought a token of another account, which is not used: paste the cookie of this account again");
                self.bury(member, now);
                self.0.changed.notify_one();
                Err(RefreshError::OtherAccount { identity })
            }
            Ok(token) => {
                // A session that was refused is nothing to go back to.
                let was_refused = member.history.lock().cookies_tried != tried_before
                    || before.earlier.is_some() && session.snapshot().earlier.is_none();
                if !was_refused && !session.signs_in_as(&before.cookies) {
                    session.keep_earlier(Some(before.cookies));
                }
                self.publish(session, token, now).await;
                member.history.lock().succeed();
                self.plan(member, now);
                self.0.changed.notify_one();
                debug!(identity.id = %identity, "token refreshed");
                Ok(())
            }
            Err(error) => {
                // A refresh that failed late may have rotated how the session signs in, and the former way is void.
                let is_rotated = !is_refusal(&error) && !session.signs_in_as(&before.cookies);
                if is_rotated && self.session_of_key(session.key()).is_some() {
                    self.save(session, session.snapshot(), now).await;
                }
                self.failed(member, &error, now);
                self.0.changed.notify_one();
                if is_refusal(&error) {
                    Err(RefreshError::Refused { identity })
                } else {
                    Err(RefreshError::Failed { identity, source: Some(error.into()) })
                }
            }
        }
    }

    /// One refresh of a caller's own session, unless the token of `generation` was replaced meanwhile.
    pub(crate) async fn renew_own(&self, session: &Arc<Session>, generation: u64) -> Result<(), RefreshError> {
        let identity = session.identity().clone();
        if session.token_generation() != generation {
            return Ok(());
        }
        let Ok(_permit) = self.0.running.acquire().await else {
            return Err(RefreshError::Failed { identity, source: None });
        };
        let now = Now::read();
        let (before, account) = (session.snapshot(), account_of(session, now));
        match self.0.upstream.exchange(session, now.unix).await {
            Ok(token) if token.account().is_some_and(|new| account.is_some_and(|account| account != new)) => {
                session.restore(&before.cookies, session.token());
                Err(RefreshError::OtherAccount { identity })
            }
            Ok(token) => {
                session.install_token(token);
                self.keep_own(session);
                Ok(())
            }
            Err(error) if is_refusal(&error) => Err(RefreshError::Refused { identity }),
            Err(error) => Err(RefreshError::Failed { identity, source: Some(error.into()) }),
        }
    }

    /// Tells once that this machine's clock is wrong.
    fn tell_skew(&self) {
        let ahead = self.0.upstream.clock_skew();
        if ahead.abs() > SKEW_TOLD_SECONDS && !self.0.is_skew_told.swap(true, Ordering::Relaxed) {
            warn!(ahead_seconds = ahead, "{}", skew_in_words(ahead));
        }
    }

    /// The exchange. When the session is refused, the cookies of before the last renewal, the configured cookie and its
    /// spares are tried as well, each once.
    async fn exchange(&self, member: &Member, now: UnixSeconds) -> Result<AccessToken, UpstreamError> {
        let Member { session, seed, .. } = member;
        let mut cookies = seed.cookie.iter().chain(&seed.spares).skip(member.history.lock().cookies_tried);
        loop {
            let refused = match self.0.upstream.exchange(session, now).await {
                Err(error) if is_refusal(&error) => error,
                other => return other,
            };
            if let Some(earlier) = session.take_earlier().filter(|earlier| !session.signs_in_as(earlier)) {
                info!(identity.id = %session.identity(), "session refused, going back to the one before its last renewal");
                session.restore(&earlier, seed.token.clone());
                continue;
            }
            let next = cookies.by_ref().inspect(|_| member.history.lock().cookies_tried += 1);
            let mut others = next.filter(|cookie| !session.signs_in_with(cookie));
            let Some(cookie) = others.next() else { return Err(refused) };
            session.restore(&SecretString::from(cookie.expose()), seed.token.clone());
        }
    }

    /// Goes back to the session of before the last renewal that changed how the account signs in, and keeps the present
    /// one as the earlier one, so that this can be taken back too. A renewal under way ends first. `false` where there is
    /// none to go back to.
    pub(crate) async fn restore_earlier(&self, session: &Arc<Session>) -> bool {
        let Some(member) = self.find(session.key()) else { return false };
        let restored = Arc::new(OnceLock::new());
        loop {
            let (accounts, member, done) = (self.clone(), Arc::clone(&member), Arc::clone(&restored));
            let restoring = async move {
                let is_restored = accounts.restore_now(&member).await;
                // Set once, since only one of these runs.
                let _ = done.set(is_restored);
                Ok(())
            };
            let ended = self.alone(session.key(), restoring).await;
            if let Some(is_restored) = restored.get() {
                return *is_restored;
            }
            // Another run was under way and has ended, or the process is ending.
            if ended.is_none() {
                return false;
            }
        }
    }

    async fn restore_now(&self, member: &Member) -> bool {
        let session = &member.session;
        let Some(earlier) = session.take_earlier() else { return false };
        let now = Now::read();
        let present = session.snapshot();
        session.restore(&earlier, None);
        session.keep_earlier(Some(present.cookies));
        if let Some(token) = token_in_jar(session, now.unix) {
            session.install_token(token);
        }
        self.save(session, session.snapshot(), now).await;
        self.revive(session, now);
        self.trust(session, now);
        info!(identity.id = %session.identity(), "session of before the last renewal restored");
        true
    }

    /// Writes the new token down, then uses it: what the upstream rotated must not be lost.
    async fn publish(&self, session: &Session, token: AccessToken, now: Now) {
        if self.session_of_key(session.key()).is_none() {
            // Removed meanwhile.
            return session.install_token(token);
        }
        let snapshot = SessionSnapshot { token: Some(SecretString::from(token.expose())), ..session.snapshot() };
        self.save(session, snapshot, now).await;
        session.install_token(token);
        self.0.pool.set_credential(session.key(), CredentialState::Ready, now);
        self.keep_facts(session.key(), now);
    }

    async fn save(&self, session: &Session, snapshot: SessionSnapshot, now: Now) {
        if let Err(error) = self.0.store.save_session(session.key().clone(), snapshot, now.unix).await {
            warn!(identity.id = %session.identity(), error = %ErrorChain(&error), "session not written down, it is lost with the process");
        }
    }

    fn failed(&self, member: &Member, error: &UpstreamError, now: Now) {
        let session = &member.session;
        let identity = session.identity();
        let wait = if is_refusal(error) {
            let is_final = {
                let mut history = member.history.lock();
                let is_second = history.refused_at.is_some_and(|at| at.elapsed() >= SECOND_REFUSAL_AFTER);
                history.refused_at = history.refused_at.or(Some(Instant::now()));
                is_second || history.is_dead
            };
            if is_final || self.is_dead(session) {
                warn!(identity.id = %identity, error = %ErrorChain(error), "session refused, log in again and paste the new cookie");
                self.bury(member, now);
                return;
            }
            warn!(identity.id = %identity, error = %ErrorChain(error), "session refused, trying once more");
            let retry_at = now.instant + SECOND_REFUSAL_AFTER;
            self.0.pool.set_credential(session.key(), CredentialState::Missing { retry_at }, now);
            SECOND_REFUSAL_AFTER
        } else {
            let failures = {
                let mut history = member.history.lock();
                history.failures = history.failures.saturating_add(1);
                history.failures
            };
            let ceiling = (BACKOFF_BASE * 2_u32.saturating_pow(failures.min(8) - 1)).min(BACKOFF_MAX);
            let wait = ceiling.mul_f64(0.5 + fastrand::f64() / 2.0);
            warn!(identity.id = %identity, error = %ErrorChain(error), retry_seconds = wait.as_secs(), "token not refreshed");
            // A token that is still good serves on.
            if !is_live(session, now) || member.has_refused_token() {
                let retry_at = now.instant + wait;
                self.0.pool.set_credential(session.key(), CredentialState::Missing { retry_at }, now);
            }
            wait
        };
        member.history.lock().due_at = Some(Instant::now() + wait);
    }

    pub(crate) fn is_dead(&self, session: &Session) -> bool {
        matches!(self.0.pool.credential(session.key()), Some(CredentialState::Dead))
    }

    /// Takes the account out of use until a look at it, later and later, finds it well.
    pub(crate) fn bury(&self, member: &Member, now: Now) {
        let key = member.session.key();
        {
            let mut history = member.history.lock();
            history.is_dead = true;
            let wait = (DEAD_RECHECK_BASE * 2_u32.saturating_pow(history.dead_checks.min(8))).min(DEAD_RECHECK_MAX);
            history.dead_checks = history.dead_checks.saturating_add(1);
            history.due_at = Some(Instant::now() + wait);
        }
        self.0.pool.set_credential(key, CredentialState::Dead, now);
        self.keep_facts(key, now);
    }

    /// Notes when the account's token is to be replaced.
    pub(crate) fn plan(&self, member: &Member, now: Now) {
        let session = &member.session;
        let settings = &self.0.settings;
        let wait = match session.token().filter(|token| token.is_live(now.unix)) {
            Some(_) if !settings.is_ahead => {
                member.history.lock().due_at = None;
                return;
            }
            Some(token) => {
                let own = seconds_until_due(&token, now.unix, fastrand::f64());
                settings.interval.map_or(own, |interval| own.min(interval.as_secs()))
            }
            None => 0,
        };
        if wait > 7 * 24 * 3600 {
            debug!(identity.id = %session.identity(), "token good for more than a week");
        } else if let Some(expires_at) = session.token().and_then(|token| token.expires_at()) {
            info!(identity.id = %session.identity(), expires_in_seconds = expires_at.seconds_since(now.unix), "token in use");
        }
        member.history.lock().due_at = Some(Instant::now() + Duration::from_secs(wait));
    }

    async fn space(&self) {
        let mut last_start = self.0.last_start.lock().await;
        if let Some(at) = *last_start {
            tokio::time::sleep_until(at + SPACING).await;
        }
        *last_start = Some(Instant::now());
    }
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
