//! Answering one chat through the web chat, streamed or as a whole.
//!
//! Chat, message and token of one attempt come from one lease. A failure before the first content goes to another
//! identity; after it, never.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use crate::base::ids::CredentialKey;
use crate::base::session::Session;
use crate::chat::reply::{Ending, Rejection, ReplySink};
use crate::chat::stages::StagePlan;
use crate::chat::suffix::Work;
use crate::files::attachment::JobFile;
use crate::gateway::accounts::tokens::Tokens;
use crate::gateway::accounts::web::WebAccounts;
use crate::gateway::answer::attempt::{Answering, Attempts, Starting};
use crate::gateway::answer::context::{Progress, RequestContext, RequestLimits};
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::failover::Failover;
use crate::gateway::answer::model_rests::ModelRests;
use crate::gateway::answer::tools::native::NativeAccounts;
use crate::gateway::answer::trace::What;
use crate::gateway::answer::turn::Turn;
use crate::gateway::answer::usage::Accounting;
use crate::gateway::answer::video_start::{StartedVideo, VideoDiary};
use crate::gateway::attachments::Attachments;
use crate::gateway::chats::continuations::{Asker, Continuations};
use crate::gateway::chats::janitor::Janitor;
use crate::gateway::drift::Drift;
use crate::gateway::videos::task::VideoTasks;
use crate::pool::IdentityPool;
use crate::store::{AccountDays, Store};
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::client::QwenWeb;
use crate::upstream::web::request::{Task, WebRequest};

/// Longest time that the site allows for a deep research.
const RESEARCH_TIMEOUT: Duration = Duration::from_mins(30);

/// The largest answer that is collected as a whole; no model says as much.
const WHOLE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Answers chats. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WebGateway(Arc<Inner>);

struct Inner {
    failover: Failover,
    attempts: Attempts,
}

impl Inner {
    /// The time limits and the usage of a request. Videos and research take many minutes.
    fn limits(&self, request: &WebRequest) -> RequestLimits {
        let base = self.attempts.upstream.timeouts.now().total;
        RequestLimits {
            usage: request.usage(),
            uploads: request.files.iter().any(|file| matches!(file, JobFile::Ready(_))),
            total_timeout: match request.task {
                Task::Video(_) => base * 2,
                Task::Work(Work::Research) => base.max(RESEARCH_TIMEOUT),
                Task::Text | Task::Work(_) | Task::Image(_) | Task::ImageEdit(_) => base,
            },
            first_event_timeout: self.attempts.first_event_timeout(request),
        }
    }
}

impl WebGateway {
    /// A gateway over these parts.
    #[must_use]
    pub(crate) fn new(
        pool: IdentityPool,
        upstream: Arc<QwenWeb>,
        accounts: WebAccounts,
        (janitor, continuations): (Janitor, Continuations),
        attachments: Attachments,
        store: Arc<Store>,
    ) -> Self {
        let accounting = Accounting::new(pool.clone(), store, true);
        let videos = VideoTasks { upstream: Arc::clone(&upstream), accounts: accounts.clone() };
        let drift = Drift::default();
        let attempts = Attempts {
            upstream,
            janitor,
            continuations,
            attachments,
            videos,
            accounting: accounting.clone(),
            drift,
            natives: NativeAccounts::default(),
        };
        let failover = Failover { pool, tokens: Tokens::Web(accounts), accounting, model_rests: ModelRests::default() };
        Self(Arc::new(Inner { failover, attempts }))
    }

    /// Counts of frames that this version does not know.
    #[must_use]
    pub(crate) fn drift(&self) -> &Drift {
        &self.0.attempts.drift
    }

    /// Asks the upstream whether it accepts this session, by a call that changes nothing there. The pool is not told
    /// the result. A token that has ended is renewed first, as for any use: a stale one draws a challenge.
    ///
    /// # Errors
    /// [`ChatError`]: why it is not accepted, or why that cannot be told.
    pub(crate) async fn probe(&self, session: &Arc<Session>) -> Result<(), ChatError> {
        let tokens = &self.0.failover.tokens;
        tokens.ensure_fresh(session).await.map_err(|error| ChatError::Session(error, tokens.kind()))?;
        let probed = self.0.attempts.upstream.probe(session).await;
        probed.map_err(|error| ChatError::Upstream { error, attempts: 1 })
    }

    /// Seconds that this machine's clock is ahead of the upstream's; 0 within half a minute.
    #[must_use]
    pub(crate) fn clock_skew(&self) -> i64 {
        self.0.attempts.upstream.clock_skew()
    }

    /// The daily counts of each account.
    #[must_use]
    pub(crate) fn spending(&self) -> Vec<AccountDays> {
        self.0.failover.accounting.spending()
    }

    /// Begins an answer: returns when its first content has gone to `sink`. An answer that is not of the form that was
    /// asked for is asked for once more, with its fault named, as long as nothing of it was shown.
    ///
    /// # Errors
    /// [`ChatError`]: nothing has been said, and `sink` is as at the beginning.
    pub(crate) async fn open(
        &self,
        asked: (&WebRequest, &StagePlan),
        context: &RequestContext,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<Box<Turn>, ChatError> {
        let mut progress = Progress::begin(self.0.limits(asked.0), context);
        progress.preferred = self.holder(asked.0, context);
        let failover = &self.0.failover;
        let mut turn = failover.run(context, &mut self.answering(asked, false, context, sink), &mut progress).await?;
        let Some(rejection) = turn.rejection() else {
            return Ok(turn);
        };
        let (request, stages) = corrected(asked, turn, &rejection, context, sink);
        let asked = (&request, &stages);
        let mut turn = failover.run(context, &mut self.answering(asked, false, context, sink), &mut progress).await?;
        match turn.rejection() {
            None => Ok(turn),
            Some(rejection) => {
                turn.discard();
                Err(ChatError::Rejected(rejection.kind))
            }
        }
    }

    /// Answers as a whole: everything has gone to `sink` when this returns. A cut in the middle of an answer is
    /// tried once more on another identity when at least half of the time is left. An answer that is not of the form
    /// that was asked for is asked for once more, with its fault named.
    ///
    /// # Errors
    /// [`ChatError`].
    pub(crate) async fn complete(
        &self,
        (request, stages): (&WebRequest, &StagePlan),
        context: &RequestContext,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<(Box<Turn>, Ending), ChatError> {
        let failover = &self.0.failover;
        let mut progress = Progress::begin(self.0.limits(request), context);
        progress.preferred = self.holder(request, context);
        let half = Instant::now() + self.0.limits(request).total_timeout / 2;
        let mut cut: Option<ChatError> = None;
        // The request and its stages after an answer was rejected.
        let mut second: Option<(WebRequest, StagePlan)> = None;
        loop {
            let asked = second.as_ref().map_or((request, stages), |(request, stages)| (request, stages));
            let mut answering = self.answering(asked, true, context, sink);
            let mut turn = match failover.run(context, &mut answering, &mut progress).await {
                Ok(turn) => turn,
                // If no other identity can take over, the cut itself is the answer.
                Err(error @ ChatError::Lease(..)) => return Err(cut.unwrap_or(error)),
                Err(error) => return Err(error),
            };
            match collect(&mut turn, sink).await {
                Ok(ending) => return Ok((turn, ending)),
                Err(ChatError::Rejected(kind)) => match turn.rejection().filter(|_| second.is_none()) {
                    Some(rejection) => second = Some(corrected(asked, turn, &rejection, context, sink)),
                    None => {
                        turn.discard();
                        return Err(ChatError::Rejected(kind));
                    }
                },
                Err(ChatError::Upstream { error, attempts })
                    if context.own.is_none()
                        && Instant::now() < half
                        && failover.may_begin_anew(&mut progress, turn.credential(), &error) =>
                {
                    info!(identity.id = %turn.identity(), attempt = progress.attempts(), error = %ErrorChain(&error), "trying another identity");
                    sink.reset();
                    cut = Some(ChatError::Upstream { error, attempts });
                }
                Err(error) if context.own.is_some() => return Err(error),
                Err(error) => return Err(failover.in_sum(&progress, error)),
            }
        }
    }

    /// Starts a video: returns when the upstream makes it. What was begun is in the diary at each moment.
    ///
    /// # Errors
    /// [`ChatError`].
    pub(crate) async fn start_video(
        &self,
        request: &WebRequest,
        context: &RequestContext,
        diary: &mut impl VideoDiary,
        deadline: Instant,
    ) -> Result<StartedVideo, ChatError> {
        let mut progress = Progress::begin(self.0.limits(request), context);
        progress.deadline = progress.deadline.min(deadline);
        let mut starting = Starting { attempts: &self.0.attempts, request, is_pooled: context.own.is_none(), diary };
        self.0.failover.run(context, &mut starting, &mut progress).await
    }

    /// Follows videos, and finds them.
    pub(crate) fn videos(&self) -> &VideoTasks {
        &self.0.attempts.videos
    }

    fn answering<'a, S>(
        &'a self,
        (request, stages): (&'a WebRequest, &'a StagePlan),
        is_whole: bool,
        context: &'a RequestContext,
        sink: &'a mut S,
    ) -> Answering<'a, S> {
        Answering {
            attempts: &self.0.attempts,
            request,
            stages,
            is_pooled: context.own.is_none(),
            asker: context.owner.as_ref().map(|owner| Asker::of(owner, request)),
            sink,
            trace: &context.trace,
            prompt_bytes: request.prompt.len(),
            is_whole,
        }
    }

    /// Credential of the account that has the chat which a request continues.
    fn holder(&self, request: &WebRequest, context: &RequestContext) -> Option<CredentialKey> {
        let before = request.thread.as_ref()?.turn.as_ref()?.before;
        let asker = Asker::of(context.owner.as_ref()?, request);
        let continuations = &self.0.attempts.continuations;
        let native =
            || request.native.as_ref().and_then(|_| continuations.holder(&asker.clone().natively().place(before)));
        continuations.holder(&asker.place(before)).or_else(native)
    }
}

/// The request and the stages of a second try, after this turn was rejected: it is forgotten, and its fault named.
fn corrected(
    (request, stages): (&WebRequest, &StagePlan),
    turn: Box<Turn>,
    rejection: &Rejection,
    context: &RequestContext,
    sink: &mut impl ReplySink,
) -> (WebRequest, StagePlan) {
    let code = rejection.kind.code();
    info!(identity.id = %turn.identity(), code, "asking again for an answer of the right form");
    sink.reset();
    context.trace.note(What::AskedAgain { code });
    let request = request.corrected(rejection);
    let stages = stages.last_try(turn.discard(), request.prompt_tokens());
    (request, stages)
}

/// Reads a turn to its end.
async fn collect(turn: &mut Turn, sink: &mut impl ReplySink) -> Result<Ending, ChatError> {
    loop {
        match poll_fn(|cx| turn.poll_next(cx, sink)).await? {
            Some(ending) => return Ok(ending),
            None if sink.held_bytes() > WHOLE_BYTES_MAX => {
                let error = UpstreamError::new("collecting an answer", UpstreamErrorKind::Protocol);
                return Err(ChatError::Upstream { error, attempts: turn.attempts() });
            }
            None => {}
        }
    }
}
