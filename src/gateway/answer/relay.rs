//! Answers through upstreams that speak OpenAI's dialect: static keys and OAuth accounts. A request of that dialect is
//! sent unchanged, on one identity after the other, and the answer comes back unchanged.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::base::facts::Usage;
use crate::base::live::Live;
use crate::base::seed::StaticKey;
use crate::base::session::Session;
use crate::chat::job::{ChatJob, Question};
use crate::chat::reply::{Ending, FinishReason, ReplyEvent, ReplySink};
use crate::chat::stages::{StagePlan, Stages};
use crate::gateway::accounts::targets::{self, Targets};
use crate::gateway::accounts::tokens::Tokens;
use crate::gateway::answer::context::{Progress, RequestContext, RequestLimits};
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::failover::{Attempt, Failed, Failover};
use crate::gateway::answer::model_rests::ModelRests;
use crate::gateway::answer::trace::Trace;
use crate::gateway::answer::turn::{Turn, TurnParts};
use crate::gateway::answer::usage::Accounting;
use crate::gateway::catalogue::RelayModels;
use crate::gateway::drift::Drift;
use crate::pool::{IdentityPool, Lease, Now, Outcome};
use crate::shutdown::Supervisor;
use crate::store::{AccountDays, Store};
use crate::upstream::AnswerTimeouts;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::openai::client::{OpenAiApi, Target};
use crate::upstream::openai::decode::ChatDecoder;
use crate::upstream::openai::encode::{Profile, encode};
use crate::upstream::openai::error::{check_list, of_reply};
use crate::upstream::stream::ReplyStream;
use crate::upstream::words::texts_of;

/// Relays requests to one kind of upstream. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RelayGateway(Arc<Inner>);

struct Inner {
    failover: Failover,
    api: OpenAiApi,
    targets: Arc<Targets>,
    drift: Drift,
    settings: RelaySettings,
    models: RelayModels,
}

/// Time limits of relayed requests.
#[derive(Clone, Debug)]
pub(crate) struct RelaySettings {
    /// Time limits as for the web chat; the one for the first content is doubled.
    pub timeouts: Live<AnswerTimeouts>,
    /// Age in which a list of models counts as fresh.
    pub models_ttl: Live<Duration>,
}

impl RelaySettings {
    fn first_event_timeout(&self) -> Duration {
        self.timeouts.now().first_event * 2
    }
}

/// A request for one kind of upstream, with the stages that its answer passes.
#[derive(Clone, Debug)]
pub(crate) struct RelayJob {
    /// The question with its model.
    pub job: ChatJob,
    /// The stages that its answer passes.
    pub stages: StagePlan,
}

impl RelayGateway {
    /// A gateway to these targets, one for each identity of the pool.
    #[must_use]
    pub(crate) fn new(
        pool: IdentityPool,
        api: OpenAiApi,
        targets: Targets,
        store: Arc<Store>,
        supervisor: Supervisor,
        settings: RelaySettings,
    ) -> Self {
        let tokens = match &targets {
            Targets::Keys(_) => Tokens::Fixed,
            Targets::Accounts(accounts) => Tokens::OAuth(accounts.clone()),
        };
        let accounting = Accounting::new(pool.clone(), store, tokens.are_renewed());
        let targets = Arc::new(targets);
        let ttl = settings.models_ttl.clone();
        let models = RelayModels::new(pool.clone(), api.clone(), Arc::clone(&targets), supervisor, ttl);
        let failover = Failover { pool, tokens, accounting, model_rests: ModelRests::default() };
        Self(Arc::new(Inner { failover, api, targets, drift: Drift::default(), settings, models }))
    }

    /// Whether no identity is configured.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.failover.pool.is_empty()
    }

    #[must_use]
    pub(crate) fn pool(&self) -> &IdentityPool {
        &self.0.failover.pool
    }

    /// The counts of each account by day.
    #[must_use]
    pub(crate) fn spending(&self) -> Vec<AccountDays> {
        self.0.failover.accounting.spending()
    }

    /// Counts of frames from these upstreams that this version does not know.
    #[must_use]
    pub(crate) fn drift(&self) -> &Drift {
        &self.0.drift
    }

    /// The names of the models, as last fetched. Waits, for five seconds at most, only while none has been fetched.
    pub(crate) async fn models(&self) -> Arc<Vec<String>> {
        self.0.models.current().await
    }

    /// Whether some endpoint has not told its models yet.
    pub(crate) fn has_unread_list(&self) -> bool {
        self.0.models.has_unread_list()
    }

    /// Brings the static keys to these, and tells in words what changed. Requests in flight end on the keys that they
    /// began with.
    pub(crate) fn configure_keys(&self, keys: &[StaticKey], now: Now) -> Vec<String> {
        let Targets::Keys(targets) = &*self.0.targets else { return Vec::new() };
        let pool = self.pool();
        let mut changed = Vec::new();
        for session in pool.sessions() {
            if keys.iter().all(|key| key.credential() != *session.key()) {
                pool.remove(session.key(), now);
                self.0.models.forget(session.key());
                changed.push(format!("{} removed", session.identity()));
            }
        }
        targets.put(targets.now().with(keys));
        for key in keys {
            let present = pool.sessions();
            if present.iter().any(|session| *session.key() == key.credential()) {
                continue;
            }
            let is_free = |session: &Arc<Session>| present.iter().all(|known| known.identity() != session.identity());
            let Some(session) = (1..).map_while(|number| targets::session_of(number, key)).find(is_free) else {
                continue;
            };
            changed.push(format!("{} added", session.identity()));
            pool.add(session, now);
        }
        if !changed.is_empty() {
            self.0.models.fetch_anew();
        }
        changed
    }

    /// Asks an endpoint whether it accepts this session, by listing its models. The pool is not told of the result.
    ///
    /// # Errors
    /// [`ChatError::Upstream`]: the reason for the refusal, or why the answer is unknown.
    pub(crate) async fn probe(&self, session: &Arc<Session>) -> Result<(), ChatError> {
        let tokens = &self.0.failover.tokens;
        tokens.ensure_fresh(session).await.map_err(|error| ChatError::Session(error, tokens.kind()))?;
        let probed = async { self.0.api.models(session, &self.0.target(session)?).await.map(drop) };
        match probed.await {
            // The portal has no such list, and says so only after it accepted the token.
            Err(error) if error.kind == UpstreamErrorKind::ModelNotFound => Ok(()),
            probed => probed.map_err(|error| ChatError::Upstream { error, attempts: 1 }),
        }
    }

    /// Answers as a whole: everything has gone to `sink` when this returns.
    ///
    /// # Errors
    /// [`ChatError`].
    pub(crate) async fn complete(
        &self,
        job: &RelayJob,
        context: &RequestContext,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<(Box<Turn>, Ending), ChatError> {
        let mut turn = self.open(job, false, context, sink).await?;
        loop {
            if let Some(ending) = poll_fn(|cx| turn.poll_next(cx, sink)).await? {
                return Ok((turn, ending));
            }
        }
    }

    /// Begins an answer: returns when the first content of a streamed one, or all of a whole one, has gone to `sink`.
    ///
    /// # Errors
    /// [`ChatError`]: no content went out, and `sink` is as at the beginning.
    pub(crate) async fn open(
        &self,
        job: &RelayJob,
        is_streamed: bool,
        context: &RequestContext,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<Box<Turn>, ChatError> {
        let mut attempt = Relaying { inner: &self.0, job, is_streamed, sink, trace: &context.trace };
        let avoided = self.0.models.without(&job.job.upstream_model);
        let mut progress = Progress::begin(self.limits(), context).avoiding(avoided);
        progress.asks_for(&job.job.upstream_model);
        self.0.failover.run(context, &mut attempt, &mut progress).await
    }

    /// Passes a body that asks for `model` to another path of the upstream, one that answers with a list, and hands the
    /// answer back as it is.
    ///
    /// # Errors
    /// [`ChatError`].
    pub(crate) async fn pass(
        &self,
        path: &'static str,
        model: &str,
        body: Vec<u8>,
        context: &RequestContext,
    ) -> Result<Bytes, ChatError> {
        let mut attempt = Passing { inner: &self.0, path, body };
        let mut progress = Progress::begin(self.limits(), context);
        progress.asks_for(model);
        self.0.failover.run(context, &mut attempt, &mut progress).await
    }

    fn limits(&self) -> RequestLimits {
        let (settings, total_timeout) = (&self.0.settings, self.0.settings.timeouts.now().total);
        let first_event_timeout = settings.first_event_timeout();
        // These upstreams have no limit of size in front of them.
        RequestLimits { usage: Usage::Chat, uploads: false, total_timeout, first_event_timeout }
    }
}

impl Inner {
    fn target(&self, session: &Session) -> Result<Target, UpstreamError> {
        let target = self.targets.of(session);
        target.ok_or_else(|| UpstreamError::new("asking", UpstreamErrorKind::Unavailable))
    }
}

/// An attempt that relays one request.
struct Relaying<'a, S> {
    inner: &'a Inner,
    job: &'a RelayJob,
    is_streamed: bool,
    sink: &'a mut S,
    trace: &'a Trace,
}

/// Factor of `FIRST_EVENT_TIMEOUT` for a whole answer: four minutes by default, of the ten of `TOTAL_TIMEOUT`.
const WHOLE_ANSWER_FACTOR: u32 = 4;

/// An answer: a stream, or the body of a whole one.
enum Answer {
    Stream(Box<ReplyStream>),
    Whole(Bytes),
}

impl<S: ReplySink + Send> Relaying<'_, S> {
    async fn ask(&mut self, session: &Session, first: Instant, deadline: Instant) -> Result<Answer, UpstreamError> {
        let Self { inner, job, is_streamed, .. } = self;
        let target = inner.target(session)?;
        let body = body(&job.job, *is_streamed, target.profile).await?;
        if *is_streamed {
            return Ok(Answer::Stream(Box::new(inner.api.stream(session, &target, body, first).await?)));
        }
        // A whole answer shows nothing before its end, so a slow one looks like one that hangs. It gets longer than the
        // first content of a stream, and leaves time for another attempt.
        let made_by = deadline.min(Instant::now() + inner.settings.first_event_timeout() * WHOLE_ANSWER_FACTOR);
        Ok(Answer::Whole(inner.api.whole(session, &target, "chat/completions", body, made_by).await?))
    }

    /// Reads to the first content; a whole answer to its end.
    async fn begin(
        &mut self,
        answer: Answer,
        parts: TurnParts,
        first: Instant,
    ) -> Result<Box<Turn>, (UpstreamError, Box<Turn>)> {
        let sink = &mut *self.sink;
        match answer {
            Answer::Whole(body) => {
                let mut turn = Turn::at_once(parts);
                let mut decoder = ChatDecoder::default();
                let mut reason = FinishReason::Stop;
                let read = decoder.whole(&body, &mut |event| {
                    if let ReplyEvent::Finished { reason: found } = &event {
                        reason = *found;
                    }
                    turn.show(event, sink);
                });
                match read {
                    Ok(()) => {
                        turn.end(reason, decoder.usage());
                        Ok(turn)
                    }
                    Err(error) => Err((of_reply(&error), turn)),
                }
            }
            Answer::Stream(stream) => {
                let mut turn = Turn::new(*stream, parts);
                let begun = timeout_at(first, async {
                    while !turn.has_spoken() && !poll_fn(|cx| turn.poll_upstream(cx, sink)).await? {}
                    Ok(())
                });
                let mut begun = begun.await.unwrap_or_else(|_| Err(UpstreamError::first_word_late()));
                // The upstream is working; its events so far may be hidden from the caller.
                while begun.is_ok() && !turn.has_content() {
                    match poll_fn(|cx| turn.poll_upstream(cx, sink)).await {
                        Ok(false) => {}
                        Ok(true) => break,
                        Err(error) => begun = Err(error),
                    }
                }
                match begun {
                    Ok(()) => Ok(turn),
                    Err(error) => Err((error, turn)),
                }
            }
        }
    }
}

/// The body for the upstream. Files of a conversation are read on a blocking thread.
async fn body(job: &ChatJob, is_streamed: bool, profile: Profile) -> Result<Vec<u8>, UpstreamError> {
    let unreadable = || UpstreamError::new("reading a file of the request", UpstreamErrorKind::InvalidRequest);
    match &job.question {
        Question::Conversation(conversation) if conversation.files().next().is_some() => {
            let job = job.clone();
            let written = tokio::task::spawn_blocking(move || encode(&job, is_streamed, profile)).await;
            written.ok().and_then(Result::ok).ok_or_else(unreadable)
        }
        Question::Conversation(_) | Question::Verbatim(_) => {
            encode(job, is_streamed, profile).map_err(|_| unreadable())
        }
    }
}

impl<S: ReplySink + Send> Attempt for Relaying<'_, S> {
    type Done = Box<Turn>;

    async fn run(&mut self, lease: Lease, number: u32, deadline: Instant) -> Result<Box<Turn>, Failed> {
        let session = Arc::clone(lease.session());
        let inner = self.inner;
        let first = deadline.min(Instant::now() + inner.settings.first_event_timeout());
        let answer = match self.ask(&session, first, deadline).await {
            Ok(answer) => answer,
            Err(error) => return Err(Failed { error, lease, is_final: false }),
        };
        let parts = TurnParts {
            stages: Stages::new(&self.job.stages),
            lease,
            chat: None,
            drift: inner.drift.clone(),
            accounting: inner.failover.accounting.clone(),
            attempts: number,
            trace: self.trace.clone(),
            is_whole: !self.is_streamed,
            idle_timeout: inner.settings.timeouts.now().idle,
            deadline,
        };
        self.begin(answer, parts, first).await.map_err(|(error, mut turn)| {
            let lease = turn.take_lease().unwrap_or_else(|| IdentityPool::detached(session));
            Failed { error, lease, is_final: false }
        })
    }

    fn asked(&self) -> Vec<Cow<'_, str>> {
        match &self.job.job.question {
            Question::Conversation(conversation) => conversation.texts().map(Cow::Borrowed).collect(),
            Question::Verbatim(body) => texts_of(body.values()),
        }
    }

    fn reset(&mut self) {
        self.sink.reset();
    }
}

/// An attempt that passes one body on.
struct Passing<'a> {
    inner: &'a Inner,
    path: &'static str,
    body: Vec<u8>,
}

impl Attempt for Passing<'_> {
    type Done = Bytes;

    async fn run(&mut self, lease: Lease, _number: u32, deadline: Instant) -> Result<Bytes, Failed> {
        let session = Arc::clone(lease.session());
        let passed = async {
            let target = self.inner.target(&session)?;
            let made_by = deadline.min(Instant::now() + self.inner.settings.first_event_timeout() * 2);
            let list = self.inner.api.whole(&session, &target, self.path, self.body.clone(), made_by).await?;
            check_list(&list).map(|()| list)
        };
        match passed.await {
            Ok(bytes) => {
                lease.finish(Outcome::Success, Now::read());
                Ok(bytes)
            }
            Err(error) => Err(Failed { error, lease, is_final: false }),
        }
    }

    fn asked(&self) -> Vec<Cow<'_, str>> {
        let body: Option<Value> = serde_json::from_slice(&self.body).ok();
        texts_of(body.iter()).into_iter().map(|text| Cow::Owned(text.into_owned())).collect()
    }

    fn reset(&mut self) {}
}
