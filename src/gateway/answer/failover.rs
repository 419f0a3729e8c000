//! One thing after the other: a request is tried on one identity, and if that fails on the next, as long as the kind
//! of failure, the pool's retry budget and the request's time allow. A failure goes to the pool with its blame.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::base::facts::Usage;
use crate::base::ids::IdentityId;
use crate::base::session::Session;
use crate::gateway::accounts::tokens::Tokens;
use crate::gateway::accounts::web::RefreshError;
use crate::gateway::answer::books::Books;
use crate::gateway::answer::error::ChatError;
use crate::pool::{CallerId, IdentityPool, Lease, Now, Outcome, Wanted};
use crate::telemetry::ErrorChain;
use crate::upstream::error::{Blame, UpstreamError, UpstreamErrorKind};

/// How long a request waits for a token when other identities are left to try.
const TOKEN_PATIENCE: Duration = Duration::from_secs(5);
/// A further attempt is worth it only with this much time left.
const ATTEMPT_TIME_MIN: Duration = Duration::from_secs(5);
/// When to come back if an identity that was not tried is free.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A prompt of this size may itself be what the risk engine minds.
const SUSPICIOUS_PROMPT_BYTES: usize = 100 * 1024;

/// Something that is tried on one identity after the other.
pub(crate) trait Attempt: Send {
    /// What comes of it when it works.
    type Done: Send;

    /// One try, the `number`th. Gives the lease back when it fails.
    fn run(
        &mut self,
        lease: Lease,
        number: u32,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Done, Failed>> + Send;

    /// Forgets what a failed try has left.
    fn reset(&mut self);
}

/// A try that came to nothing, and the lease to report it on.
pub(crate) struct Failed {
    pub(crate) error: UpstreamError,
    pub(crate) lease: Lease,
    /// Trying elsewhere would make, and cost, the same thing twice.
    pub(crate) is_final: bool,
}

/// Who asks, and with what.
#[derive(Clone)]
pub struct Asker {
    /// For fairness between callers.
    pub caller: CallerId,
    /// The caller's own credential, in client mode; it never enters the pool.
    pub own: Option<Arc<Session>>,
    /// How often the caller's client has already tried again by itself.
    pub client_retries: u32,
}

/// What a request is, as far as trying it depends on that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// What it is charged to.
    pub(crate) usage: Usage,
    /// How long it may take in all.
    pub(crate) total_timeout: Duration,
    /// How long one try may take to its first content.
    pub(crate) first_event_timeout: Duration,
    /// The size of what is asked, which the risk engine may mind.
    pub(crate) prompt_bytes: usize,
}

/// What one request has tried so far.
pub(crate) struct Progress {
    terms: Terms,
    attempts: u32,
    challenges: u32,
    tried: Vec<IdentityId>,
    /// When the request is over, whatever is left to try.
    pub(crate) deadline: Instant,
    retries_left: u32,
    has_repeated: bool,
    /// Something was begun that must not be begun twice.
    is_final: bool,
}

impl Progress {
    /// How many attempts there were.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether the same identity may be asked once more. Once in a request, and it is one of its retries.
    fn may_repeat(&mut self) -> bool {
        self.retries_left = self.retries_left.saturating_sub(u32::from(!self.has_repeated));
        !std::mem::replace(&mut self.has_repeated, true) && !self.is_final
    }
}

/// A failed attempt.
enum AttemptError {
    Upstream(UpstreamError),
    Refresh(RefreshError),
}

impl From<UpstreamError> for AttemptError {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

/// Tries requests on the identities of one pool.
pub(crate) struct Failover {
    pub(crate) pool: IdentityPool,
    pub(crate) tokens: Tokens,
    pub(crate) books: Books,
    pub(crate) retries_max: u32,
}

impl Failover {
    /// A request that has not been tried yet.
    pub(crate) fn begin(&self, terms: Terms, asker: &Asker) -> Progress {
        Progress {
            terms,
            attempts: 0,
            challenges: 0,
            tried: Vec::new(),
            deadline: Instant::now() + terms.total_timeout,
            retries_left: self.retries_max.saturating_sub(asker.client_retries),
            has_repeated: false,
            is_final: false,
        }
    }

    /// Tries until something comes of it.
    ///
    /// # Errors
    /// [`ChatError`], when nothing is left to try or trying on would be wrong.
    pub(crate) async fn run<A: Attempt>(
        &self,
        asker: &Asker,
        attempt: &mut A,
        progress: &mut Progress,
    ) -> Result<A::Done, ChatError> {
        let usage = progress.terms.usage;
        let mut last = None;
        loop {
            let lease = match &asker.own {
                Some(session) => IdentityPool::detached(Arc::clone(session)),
                None => {
                    let tried = progress.tried.clone();
                    let deadline = progress.deadline.into_std();
                    let wanted = Wanted { caller: asker.caller, usage, tried, deadline };
                    // When nobody else can take over, the failure itself is the answer.
                    match self.pool.lease(&wanted).await {
                        Ok(lease) => lease,
                        Err(error) => {
                            return Err(last.map_or(ChatError::Lease(error), |last| self.in_sum(usage, last)));
                        }
                    }
                }
            };
            let identity = lease.identity().clone();
            let error = match self.on_one_identity(lease, asker, attempt, progress).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            attempt.reset();
            let blame = match &error {
                AttemptError::Upstream(error) => error.kind.blame(),
                AttemptError::Refresh(_) => Blame::Identity,
            };
            let error = match error {
                AttemptError::Refresh(error) => ChatError::Session(error),
                AttemptError::Upstream(error)
                    if asker.own.is_some()
                        && matches!(error.kind, UpstreamErrorKind::Unauthorized | UpstreamErrorKind::Forbidden) =>
                {
                    ChatError::OwnCredential(error)
                }
                AttemptError::Upstream(error) => ChatError::Upstream { error, attempts: progress.attempts },
            };
            let is_final =
                blame == Blame::Caller || asker.own.is_some() || progress.challenges >= 2 || progress.is_final;
            if is_final || !self.may_retry(progress, &identity) {
                log_end(&identity, progress.attempts, &error);
                let is_own = asker.own.is_some();
                return Err(if is_own { error } else { self.in_sum(usage, error) });
            }
            info!(identity.id = %identity, attempt = progress.attempts, error = %ErrorChain(&error), "trying another identity");
            last = Some(error);
        }
    }

    /// What a caller is told when the identities that were tried have to rest: not how long the last of them rests,
    /// but when the first of all is back. If one is there already, trying again at once is the best advice.
    pub(crate) fn in_sum(&self, usage: Usage, error: ChatError) -> ChatError {
        use UpstreamErrorKind as Kind;
        let ChatError::Upstream { error, attempts } = error else {
            return error;
        };
        if !matches!(error.kind, Kind::RateLimited | Kind::QuotaExhausted { .. } | Kind::Challenged) {
            return ChatError::Upstream { error, attempts };
        }
        match self.pool.outlook(usage, Now::read()) {
            Some(resting) => ChatError::Lease(resting),
            None if error.kind == Kind::Challenged => ChatError::Upstream { error, attempts },
            None => {
                let error = UpstreamError { kind: Kind::RateLimited, retry_after: Some(TRY_AGAIN_AFTER), ..error };
                ChatError::Upstream { error, attempts }
            }
        }
    }

    /// Whether one more identity may be tried after this one.
    pub(crate) fn may_retry(&self, progress: &mut Progress, identity: &IdentityId) -> bool {
        let has_time = progress.deadline.saturating_duration_since(Instant::now()) >= ATTEMPT_TIME_MIN;
        // When the same failure shows everywhere, one more try tells as much as many.
        let is_hopeless = self.pool.is_upstream_degraded(Now::read()) && !progress.tried.is_empty();
        if progress.retries_left == 0 || !has_time || is_hopeless || !self.pool.allow_retry(Now::read()) {
            return false;
        }
        progress.retries_left -= 1;
        progress.tried.push(identity.clone());
        true
    }

    /// Everything that one identity may be asked for one request: the attempt, once more after a refused token,
    /// and once more in a new chat if the chat was lost or busy.
    async fn on_one_identity<A: Attempt>(
        &self,
        lease: Lease,
        asker: &Asker,
        attempt: &mut A,
        progress: &mut Progress,
    ) -> Result<A::Done, AttemptError> {
        let session = Arc::clone(lease.session());
        let is_pooled = asker.own.is_none();
        let mut lease = Some(lease);
        let mut is_renewed = false;
        loop {
            let Some(held) = lease.take() else {
                return Err(UpstreamError::new("asking", UpstreamErrorKind::Unavailable).into());
            };
            let timeout = progress.terms.first_event_timeout;
            // One that has to wait for its token holds nobody up for long while others could answer.
            let has_others = is_pooled && self.pool.summary(Now::read()).total > progress.tried.len() + 1;
            let patience = if has_others { timeout.min(TOKEN_PATIENCE) } else { timeout };
            let token_deadline = progress.deadline.min(Instant::now() + patience);
            if is_pooled && let Err(error) = in_time(&session, token_deadline, self.tokens.ensure_fresh(&session)).await
            {
                held.finish(Outcome::Neutral, Now::read());
                return Err(AttemptError::Refresh(error));
            }
            let generation = session.token_generation();
            progress.attempts += 1;
            let (number, deadline) = (progress.attempts, progress.deadline);
            let tried = Box::pin(attempt.run(held, number, deadline));
            let Failed { mut error, lease: held, is_final } = match tried.await {
                Ok(done) => {
                    self.books.count_request(&session);
                    return Ok(done);
                }
                Err(failed) => failed,
            };
            progress.is_final |= is_final;
            attempt.reset();
            let now = Now::read();
            // An expired token draws a challenge too: then it is the token that has to be renewed.
            let is_stale = session.token().is_some_and(|token| !token.is_live(now.unix));
            let is_token = error.kind == UpstreamErrorKind::Unauthorized
                || (error.kind == UpstreamErrorKind::Challenged && is_stale);
            if is_token && is_pooled && self.tokens.are_renewed() && progress.may_repeat() {
                is_renewed = true;
                held.report(Outcome::Unauthorized, now);
                let token_deadline = progress.deadline.min(Instant::now() + patience);
                match in_time(&session, token_deadline, self.tokens.replace(&session, generation)).await {
                    Ok(()) => {
                        lease = Some(held);
                        continue;
                    }
                    Err(refresh_error) => {
                        held.finish(Outcome::Neutral, Now::read());
                        return Err(AttemptError::Refresh(refresh_error));
                    }
                }
            }
            if matches!(error.kind, UpstreamErrorKind::LostChat | UpstreamErrorKind::BusyChat) && progress.may_repeat()
            {
                lease = Some(held);
                continue;
            }
            // A body of that size is challenged wherever it comes from.
            if error.kind == UpstreamErrorKind::Challenged && progress.terms.prompt_bytes > SUSPICIOUS_PROMPT_BYTES {
                error.kind = UpstreamErrorKind::TooLarge;
            }
            progress.challenges += u32::from(error.kind == UpstreamErrorKind::Challenged);
            self.books.charge(held, &error, now);
            if is_pooled {
                match error.kind {
                    UpstreamErrorKind::Unauthorized if is_renewed => self.tokens.given_up(&session),
                    UpstreamErrorKind::Unauthorized => self.tokens.replace_later(&session, generation),
                    UpstreamErrorKind::Forbidden => self.tokens.given_up(&session),
                    _ => {}
                }
            }
            return Err(error.into());
        }
    }
}

/// The caller is told what to do; what happened is for the log alone.
fn log_end(identity: &IdentityId, attempts: u32, error: &ChatError) {
    let error = ErrorChain(error);
    warn!(identity.id = %identity, attempts, %error, "no answer");
}

/// Waits for a token no longer than the request can; the refresh itself goes on, for those who come later.
async fn in_time(
    session: &Session,
    deadline: Instant,
    refresh: impl Future<Output = Result<(), RefreshError>>,
) -> Result<(), RefreshError> {
    let late = || {
        let source = Some(UpstreamError::new("waiting for a token", UpstreamErrorKind::Timeout));
        RefreshError::Failed { identity: session.identity().clone(), source }
    };
    timeout_at(deadline, refresh).await.unwrap_or_else(|_| Err(late()))
}
