//! Answering one chat: attempts on one identity after the other, until the first content is there.
//!
//! Chat, message and token of one attempt come from one lease. A failure before the first content goes to another
//! identity, as long as its kind, the pool's retry budget and the request's time allow; after it, never.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::base::facts::Usage;
use crate::base::ids::IdentityId;
use crate::base::session::Session;
use crate::gateway::attachments::Attachments;
use crate::gateway::attempt::{Answering, Attempt, Attempts, Failed, StartedVideo, Starting, VideoDiary};
use crate::gateway::books::Books;
use crate::gateway::drift::Drift;
use crate::gateway::error::ChatError;
use crate::gateway::janitor::Janitor;
use crate::gateway::refresher::{RefreshError, Refresher};
use crate::gateway::turn::{Finished, Turn};
use crate::gateway::video_task::VideoTasks;
use crate::pool::Now;
use crate::pool::{CallerId, IdentityPool, Lease, Outcome, Wanted};
use crate::store::Store;
use crate::telemetry::ErrorChain;
use crate::transform::job::{ChatJob, Task};
use crate::transform::reply::ReplySink;
use crate::upstream::error::{Blame, UpstreamError, UpstreamErrorKind};
use crate::upstream::qwen_web::QwenWeb;

/// The largest answer that is collected as a whole; no model says as much.
const WHOLE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a request waits for a token when other identities are left to try.
const TOKEN_PATIENCE: Duration = Duration::from_secs(5);
/// A further attempt is worth it only with this much time left.
const ATTEMPT_TIME_MIN: Duration = Duration::from_secs(5);
/// When to come back if an identity that was not tried is free.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A prompt of this size may itself be what the risk engine minds.
const SUSPICIOUS_PROMPT_BYTES: usize = 100 * 1024;

/// Answers chats. Cheap to clone.
#[derive(Clone)]
pub struct ChatGateway(Arc<Shared>);

struct Shared {
    pool: IdentityPool,
    refresher: Refresher,
    attempts: Attempts,
    retries_max: u32,
}

impl Shared {
    /// How long a request may take in all. Videos are made in minutes.
    fn total_timeout(&self, job: &ChatJob) -> Duration {
        let base = self.attempts.upstream.settings.total_timeout;
        if matches!(job.task, Task::Video(_)) { base * 2 } else { base }
    }
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

/// What one request has tried so far.
struct Progress {
    attempts: u32,
    challenges: u32,
    tried: Vec<IdentityId>,
    deadline: Instant,
    retries_left: u32,
    has_repeated: bool,
    /// Something was begun that must not be begun twice.
    is_final: bool,
}

impl Progress {
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

impl ChatGateway {
    /// A gateway over these parts.
    #[must_use]
    pub fn new(
        pool: IdentityPool,
        upstream: Arc<QwenWeb>,
        refresher: Refresher,
        janitor: Janitor,
        attachments: Attachments,
        store: Arc<Store>,
        retries_max: u32,
    ) -> Self {
        let books = Books::new(pool.clone(), store);
        let videos = VideoTasks { upstream: Arc::clone(&upstream), refresher: refresher.clone() };
        let attempts = Attempts { upstream, janitor, attachments, videos, books, drift: Drift::default() };
        Self(Arc::new(Shared { pool, refresher, attempts, retries_max }))
    }

    /// What the upstream sent that this version does not know.
    #[must_use]
    pub fn drift(&self) -> &Drift {
        &self.0.attempts.drift
    }

    /// Begins an answer: returns when its first content has gone to `sink`.
    ///
    /// # Errors
    /// [`ChatError`]: nothing has been said, and `sink` is as at the beginning.
    pub async fn open(
        &self,
        job: &ChatJob,
        asker: &Asker,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<Turn, ChatError> {
        let mut progress = self.progress(job, asker);
        self.attempts(job, asker, &mut self.answering(job, asker, sink), &mut progress).await
    }

    /// Answers as a whole: everything has gone to `sink` when this returns. A cut in the middle of an answer is
    /// tried once more on another identity when at least half of the time is left.
    ///
    /// # Errors
    /// [`ChatError`].
    pub async fn complete(
        &self,
        job: &ChatJob,
        asker: &Asker,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<(Turn, Finished), ChatError> {
        let mut progress = self.progress(job, asker);
        let half = Instant::now() + self.0.total_timeout(job) / 2;
        loop {
            let mut turn = self.attempts(job, asker, &mut self.answering(job, asker, sink), &mut progress).await?;
            let finished = loop {
                match poll_fn(|cx| turn.poll_next(cx, sink)).await {
                    Ok(Some(finished)) => break Ok(finished),
                    Ok(None) if sink.held_bytes() > WHOLE_BYTES_MAX => {
                        let error = UpstreamError::new("collecting an answer", UpstreamErrorKind::Protocol);
                        return Err(ChatError::Upstream { error, attempts: turn.attempts() });
                    }
                    Ok(None) => {}
                    Err(error) => break Err(error),
                }
            };
            match finished {
                Ok(finished) => return Ok((turn, finished)),
                Err(ChatError::Upstream { error, .. })
                    if error.kind.blame() == Blame::Upstream
                        && asker.own.is_none()
                        && Instant::now() < half
                        && self.may_retry(&mut progress, turn.identity()) =>
                {
                    info!(identity.id = %turn.identity(), attempt = progress.attempts, error = %ErrorChain(&error), "trying another identity");
                    sink.reset();
                }
                Err(error) if asker.own.is_some() => return Err(error),
                Err(error) => return Err(self.in_sum(job.usage(), error)),
            }
        }
    }

    /// Starts a video: returns when the upstream makes it. What was begun is in the diary at each moment.
    ///
    /// # Errors
    /// [`ChatError`].
    pub(crate) async fn start_video(
        &self,
        job: &ChatJob,
        asker: &Asker,
        diary: &mut impl VideoDiary,
        deadline: Instant,
    ) -> Result<StartedVideo, ChatError> {
        let mut progress = self.progress(job, asker);
        progress.deadline = progress.deadline.min(deadline);
        let mut starting = Starting { attempts: &self.0.attempts, job, is_pooled: asker.own.is_none(), diary };
        self.attempts(job, asker, &mut starting, &mut progress).await
    }

    /// Follows videos, and finds them.
    pub(crate) fn videos(&self) -> &VideoTasks {
        &self.0.attempts.videos
    }

    fn answering<'a, S>(&'a self, job: &'a ChatJob, asker: &Asker, sink: &'a mut S) -> Answering<'a, S> {
        Answering { attempts: &self.0.attempts, job, is_pooled: asker.own.is_none(), sink }
    }

    fn progress(&self, job: &ChatJob, asker: &Asker) -> Progress {
        Progress {
            attempts: 0,
            challenges: 0,
            tried: Vec::new(),
            deadline: Instant::now() + self.0.total_timeout(job),
            retries_left: self.0.retries_max.saturating_sub(asker.client_retries),
            has_repeated: false,
            is_final: false,
        }
    }

    async fn attempts<A: Attempt>(
        &self,
        job: &ChatJob,
        asker: &Asker,
        attempt: &mut A,
        progress: &mut Progress,
    ) -> Result<A::Done, ChatError> {
        let mut last = None;
        loop {
            let lease = match &asker.own {
                Some(session) => IdentityPool::detached(Arc::clone(session)),
                None => {
                    let tried = progress.tried.clone();
                    let deadline = progress.deadline.into_std();
                    let wanted = Wanted { caller: asker.caller, usage: job.usage(), tried, deadline };
                    // When nobody else can take over, the failure itself is the answer.
                    match self.0.pool.lease(&wanted).await {
                        Ok(lease) => lease,
                        Err(error) => {
                            return Err(last.map_or(ChatError::Lease(error), |last| self.in_sum(job.usage(), last)));
                        }
                    }
                }
            };
            let identity = lease.identity().clone();
            let error = match self.on_one_identity(lease, job, asker, attempt, progress).await {
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
                return Err(if is_own { error } else { self.in_sum(job.usage(), error) });
            }
            info!(identity.id = %identity, attempt = progress.attempts, error = %ErrorChain(&error), "trying another identity");
            last = Some(error);
        }
    }

    /// What a caller is told when the identities that were tried have to rest: not how long the last of them rests,
    /// but when the first of all is back. If one is there already, trying again at once is the best advice.
    fn in_sum(&self, usage: Usage, error: ChatError) -> ChatError {
        use UpstreamErrorKind as Kind;
        let ChatError::Upstream { error, attempts } = error else {
            return error;
        };
        if !matches!(error.kind, Kind::RateLimited | Kind::QuotaExhausted { .. } | Kind::Challenged) {
            return ChatError::Upstream { error, attempts };
        }
        match self.0.pool.outlook(usage, Now::read()) {
            Some(resting) => ChatError::Lease(resting),
            None if error.kind == Kind::Challenged => ChatError::Upstream { error, attempts },
            None => {
                let error = UpstreamError { kind: Kind::RateLimited, retry_after: Some(TRY_AGAIN_AFTER), ..error };
                ChatError::Upstream { error, attempts }
            }
        }
    }

    /// Whether one more identity may be tried after this one.
    fn may_retry(&self, progress: &mut Progress, identity: &IdentityId) -> bool {
        let has_time = progress.deadline.saturating_duration_since(Instant::now()) >= ATTEMPT_TIME_MIN;
        // When the same failure shows everywhere, one more try tells as much as many.
        let is_hopeless = self.0.pool.is_upstream_degraded(Now::read()) && !progress.tried.is_empty();
        if progress.retries_left == 0 || !has_time || is_hopeless || !self.0.pool.allow_retry(Now::read()) {
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
        job: &ChatJob,
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
            let timeout = self.0.attempts.first_event_timeout(job);
            // One that has to wait for its token holds nobody up for long while others could answer.
            let has_others = is_pooled && self.0.pool.summary(Now::read()).total > progress.tried.len() + 1;
            let patience = if has_others { timeout.min(TOKEN_PATIENCE) } else { timeout };
            let token_deadline = progress.deadline.min(Instant::now() + patience);
            if is_pooled
                && let Err(error) = in_time(&session, token_deadline, self.0.refresher.ensure_fresh(&session)).await
            {
                held.finish(Outcome::Neutral, Now::read());
                return Err(AttemptError::Refresh(error));
            }
            let generation = session.token_generation();
            progress.attempts += 1;
            let (number, deadline) = (progress.attempts, progress.deadline);
            let tried = Box::pin(attempt.run(held, number, deadline));
            let Failed { mut error, lease: held, is_final } = match tried.await {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            progress.is_final |= is_final;
            attempt.reset();
            let now = Now::read();
            // An expired token draws a challenge too: then it is the token that has to be renewed.
            let is_stale = session.token().is_some_and(|token| !token.is_live(now.unix));
            let is_token = error.kind == UpstreamErrorKind::Unauthorized
                || (error.kind == UpstreamErrorKind::Challenged && is_stale);
            if is_token && is_pooled && progress.may_repeat() {
                is_renewed = true;
                held.report(Outcome::Unauthorized, now);
                let token_deadline = progress.deadline.min(Instant::now() + patience);
                match in_time(&session, token_deadline, self.0.refresher.replace(&session, generation)).await {
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
            if error.kind == UpstreamErrorKind::Challenged && job.prompt.len() > SUSPICIOUS_PROMPT_BYTES {
                error.kind = UpstreamErrorKind::TooLarge;
            }
            progress.challenges += u32::from(error.kind == UpstreamErrorKind::Challenged);
            self.0.attempts.books.charge(held, &error, now);
            if is_pooled {
                match error.kind {
                    UpstreamErrorKind::Unauthorized if is_renewed => self.0.refresher.given_up(&session),
                    UpstreamErrorKind::Unauthorized => self.0.refresher.replace_later(&session, generation),
                    UpstreamErrorKind::Forbidden => self.0.refresher.given_up(&session),
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
