//! Answering one chat through the web chat, streamed or as a whole.
//!
//! Chat, message and token of one attempt come from one lease. A failure before the first content goes to another
//! identity; after it, never.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::info;

use crate::base::session::Session;
use crate::chat::job::{ChatJob, Task};
use crate::chat::reply::ReplySink;
use crate::gateway::accounts::tokens::Tokens;
use crate::gateway::accounts::web::Refresher;
use crate::gateway::answer::attempt::{Answering, Attempts, StartedVideo, Starting, VideoDiary};
use crate::gateway::answer::books::Books;
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::failover::{Asker, Failover, Terms};
use crate::gateway::answer::turn::{Finished, Turn};
use crate::gateway::attachments::Attachments;
use crate::gateway::drift::Drift;
use crate::gateway::janitor::Janitor;
use crate::gateway::videos::task::VideoTasks;
use crate::pool::IdentityPool;
use crate::store::{AccountDays, Store};
use crate::telemetry::ErrorChain;
use crate::upstream::error::{Blame, UpstreamError, UpstreamErrorKind};
use crate::upstream::web::client::QwenWeb;

/// The largest answer that is collected as a whole; no model says as much.
const WHOLE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Answers chats. Cheap to clone.
#[derive(Clone)]
pub struct ChatGateway(Arc<Shared>);

struct Shared {
    failover: Failover,
    attempts: Attempts,
}

impl Shared {
    /// How long a request may take, and what it is charged to. Videos are made in minutes.
    fn terms(&self, job: &ChatJob) -> Terms {
        let base = self.attempts.upstream.settings.total_timeout;
        Terms {
            usage: job.usage(),
            total_timeout: if matches!(job.task, Task::Video(_)) { base * 2 } else { base },
            first_event_timeout: self.attempts.first_event_timeout(job),
            prompt_bytes: job.prompt.len(),
        }
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
        let drift = Drift::default();
        let attempts = Attempts { upstream, janitor, attachments, videos, books: books.clone(), drift };
        let failover = Failover { pool, tokens: Tokens::Web(refresher), books, retries_max };
        Self(Arc::new(Shared { failover, attempts }))
    }

    /// What the upstream sent that this version does not know.
    #[must_use]
    pub fn drift(&self) -> &Drift {
        &self.0.attempts.drift
    }

    /// Asks the upstream whether it accepts this session, by a call that changes nothing there. The pool hears nothing
    /// of what comes of it. A token that has ended is renewed first, as for any use: a stale one draws a challenge.
    ///
    /// # Errors
    /// [`ChatError`]: why it is not accepted, or why nobody knows.
    pub async fn probe(&self, session: &Arc<Session>) -> Result<(), ChatError> {
        self.0.failover.tokens.ensure_fresh(session).await.map_err(ChatError::Session)?;
        let probed = self.0.attempts.upstream.probe(session).await;
        probed.map_err(|error| ChatError::Upstream { error, attempts: 1 })
    }

    /// What each account did on its last days.
    #[must_use]
    pub fn spending(&self) -> Vec<AccountDays> {
        self.0.failover.books.spending()
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
        let mut progress = self.0.failover.begin(self.0.terms(job), asker);
        self.0.failover.run(asker, &mut self.answering(job, asker, sink), &mut progress).await
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
        let mut progress = self.0.failover.begin(self.0.terms(job), asker);
        let half = Instant::now() + self.0.terms(job).total_timeout / 2;
        loop {
            let mut turn = self.0.failover.run(asker, &mut self.answering(job, asker, sink), &mut progress).await?;
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
                        && self.0.failover.may_retry(&mut progress, turn.identity()) =>
                {
                    info!(identity.id = %turn.identity(), attempt = progress.attempts(), error = %ErrorChain(&error), "trying another identity");
                    sink.reset();
                }
                Err(error) if asker.own.is_some() => return Err(error),
                Err(error) => return Err(self.0.failover.in_sum(job.usage(), error)),
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
        let mut progress = self.0.failover.begin(self.0.terms(job), asker);
        progress.deadline = progress.deadline.min(deadline);
        let mut starting = Starting { attempts: &self.0.attempts, job, is_pooled: asker.own.is_none(), diary };
        self.0.failover.run(asker, &mut starting, &mut progress).await
    }

    /// Follows videos, and finds them.
    pub(crate) fn videos(&self) -> &VideoTasks {
        &self.0.attempts.videos
    }

    fn answering<'a, S>(&'a self, job: &'a ChatJob, asker: &Asker, sink: &'a mut S) -> Answering<'a, S> {
        Answering { attempts: &self.0.attempts, job, is_pooled: asker.own.is_none(), sink }
    }
}
