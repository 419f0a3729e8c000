//! One attempt on one identity: its files, a chat, the question, and the first content of the answer. An attempt for
//! pictures ends when all of them are there, one for a video when it was made.
//!
//! This is one long file because the kinds of attempt (continued, new, native tools, picture, video) share its steps.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::info;

use crate::base::session::Session;
use crate::chat::job::ThinkingWish;
use crate::chat::reply::{FinishReason, ReplyEvent, ReplySink};
use crate::chat::stages::tool_calls::Called;
use crate::chat::stages::{StagePlan, Stages};
use crate::chat::suffix::Work;
use crate::gateway::answer::error::{is_answered, is_chat_useless, is_chats_fault, is_without_effect};
use crate::gateway::answer::failover::{Attempt, Failed};
use crate::gateway::answer::tools::native::{Gate, NativeAccounts, Standing, may_be_gate};
use crate::gateway::answer::trace::{Trace, What};
use crate::gateway::answer::turn::{Turn, TurnParts};
use crate::gateway::answer::usage::Accounting;
use crate::gateway::answer::video_start::{NoDiary, StartedVideo, VideoDiary};
use crate::gateway::attachments::Attachments;
use crate::gateway::chats::continuations::{Asker, Continuations, TurnChat};
use crate::gateway::chats::janitor::{Janitor, OwnChat};
use crate::gateway::drift::Drift;
use crate::gateway::videos::task::{Found, VideoTasks};
use crate::pool::{IdentityPool, Lease, Now};
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::client::QwenWeb;
use crate::upstream::web::detail::image_links;
use crate::upstream::web::encode::{ChatPlace, FileRef};
use crate::upstream::web::request::{Task, WebRequest};

/// Pauses before each read of a chat for pictures that the stream lost. The upstream stores them a little later than it
/// sends them.
const RECOVERY_PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(2),
];

/// Longest time for which a chat is read for a video whose start was not answered.
const LOST_START_PATIENCE: Duration = Duration::from_secs(15);

/// Attempts to answer a chat, up to the first content that goes to the sink.
pub(crate) struct Answering<'a, S> {
    pub(crate) attempts: &'a Attempts,
    pub(crate) request: &'a WebRequest,
    pub(crate) stages: &'a StagePlan,
    pub(crate) is_pooled: bool,
    /// `None` for a request that does not continue a chat.
    pub(crate) asker: Option<Asker>,
    pub(crate) sink: &'a mut S,
    pub(crate) trace: &'a Trace,
    /// Length in bytes of the prompt that was sent last.
    pub(crate) prompt_bytes: usize,
    /// No part of the answer leaves this server before all of it is there.
    pub(crate) is_whole: bool,
}

impl<S: ReplySink + Send> Attempt for Answering<'_, S> {
    type Done = Box<Turn>;

    async fn run(&mut self, lease: Lease, number: u32, deadline: Instant) -> Result<Box<Turn>, Failed> {
        let key = lease.session().key().clone();
        let standing = self.attempts.natives.standing(&key, Now::read());
        // A continued conversation keeps the form of tools that its chat has.
        let goes_on = || self.attempts.has_chat(&lease, self.request, self.asker.as_ref());
        let native = self.request.natively().map(Box::new).filter(|_| standing != Standing::Gated && !goes_on());
        let Some(native) = native else {
            return self.tell(lease, self.request, self.asker.clone(), self.stages, number, deadline).await;
        };
        let is_trial = standing == Standing::Unknown;
        let trial = is_trial.then(|| self.stages.on_trial());
        let asker = self.asker.clone().map(Asker::natively);
        let told = self.tell(lease, &native, asker, trial.as_ref().unwrap_or(self.stages), number, deadline).await;
        let (lease, gate, spent) = match told {
            Ok(mut turn) => match turn.called().filter(|_| is_trial) {
                None | Some(Called::InText) => return Ok(turn),
                Some(Called::Natively) => {
                    self.attempts.natives.prove(&key, Now::read());
                    return Ok(turn);
                }
                Some(Called::Nothing) => {
                    let lease = turn.take_lease().unwrap_or_else(|| IdentityPool::detached(turn.session()));
                    (lease, Gate::Silent, turn.discard())
                }
            },
            Err(Failed { error, lease, .. }) if may_be_gate(&error, standing) => {
                (lease, Gate::Refused, self.stages.spent)
            }
            Err(failed) => return Err(failed),
        };
        info!(identity.id = %lease.identity(), gate = ?gate, "asking again with the tools in the prompt");
        self.trace.note(What::ToolsInText);
        self.sink.reset();
        let stages = self.stages.after(spent);
        let turn = self.tell(lease, self.request, self.asker.clone(), &stages, number, deadline).await?;
        self.attempts.natives.gate(&key, gate, Now::read());
        Ok(turn)
    }

    fn asked(&self) -> Vec<Cow<'_, str>> {
        self.request.prompts().map(Cow::Borrowed).collect()
    }

    fn prompt_bytes(&self) -> usize {
        self.prompt_bytes
    }

    fn reset(&mut self) {
        self.sink.reset();
    }
}

impl<S: ReplySink + Send> Answering<'_, S> {
    /// One attempt in one form of the request: in the chat that it continues, else whole in a new one.
    async fn tell(
        &mut self,
        lease: Lease,
        request: &WebRequest,
        asker: Option<Asker>,
        stages: &StagePlan,
        number: u32,
        deadline: Instant,
    ) -> Result<Box<Turn>, Failed> {
        let Self { attempts, is_pooled, sink, trace, prompt_bytes, is_whole, .. } = self;
        let sending = Sending { stages, is_pooled: *is_pooled, is_whole: *is_whole, number, deadline, trace };
        let (lease, doubtful) = match attempts.known(&lease, request, asker.as_ref()) {
            None => (lease, None),
            Some((chat, parent_id, turn)) => {
                *prompt_bytes = turn.prompt.len();
                trace.note(What::Continued { saved_bytes: request.prompt.len().saturating_sub(turn.prompt.len()) });
                let place = (chat, Some(parent_id));
                match attempts.go_on(lease, &turn, place, &sending, *sink).await {
                    Ok(turn) => return Ok(turn),
                    Err(Failed { error, lease, .. }) if is_chats_fault(error.kind) && !error.is_of_upload => {
                        (lease, Some(error))
                    }
                    Err(failed) => return Err(failed),
                }
            }
        };
        if let Some(error) = doubtful {
            info!(identity.id = %lease.identity(), error = %ErrorChain(&error), "chat not continued, beginning another one");
            trace.note(What::NotContinued { class: error.kind.code() });
            sink.reset();
        }
        *prompt_bytes = request.prompt.len();
        attempts.answer(lease, request, asker.as_ref(), &sending, *sink).await
    }
}

/// Starts a video; a job of `gateway::videos` follows it.
pub(crate) struct Starting<'a, D> {
    pub(crate) attempts: &'a Attempts,
    pub(crate) request: &'a WebRequest,
    pub(crate) is_pooled: bool,
    pub(crate) diary: &'a mut D,
}

impl<D: VideoDiary> Attempt for Starting<'_, D> {
    type Done = StartedVideo;

    async fn run(&mut self, lease: Lease, _number: u32, deadline: Instant) -> Result<StartedVideo, Failed> {
        self.attempts.start_video(lease, self.request, self.is_pooled, self.diary, deadline).await
    }

    fn asked(&self) -> Vec<Cow<'_, str>> {
        vec![Cow::Borrowed(&self.request.prompt)]
    }

    fn prompt_bytes(&self) -> usize {
        self.request.prompt.len()
    }

    fn reset(&mut self) {}
}

/// What every kind of attempt needs.
struct Sending<'a> {
    stages: &'a StagePlan,
    is_pooled: bool,
    is_whole: bool,
    /// Number of the attempt in its request, from 1.
    number: u32,
    deadline: Instant,
    trace: &'a Trace,
}

/// Makes attempts on identities of the web chat.
pub(crate) struct Attempts {
    pub(crate) upstream: Arc<QwenWeb>,
    pub(crate) janitor: Janitor,
    pub(crate) continuations: Continuations,
    pub(crate) attachments: Attachments,
    pub(crate) videos: VideoTasks,
    pub(crate) accounting: Accounting,
    pub(crate) drift: Drift,
    pub(crate) natives: NativeAccounts,
}

impl Attempts {
    /// Whether the account of this lease has the chat that a request continues.
    fn has_chat(&self, lease: &Lease, request: &WebRequest, asker: Option<&Asker>) -> bool {
        let before = request.thread.as_ref().and_then(|thread| Some(thread.turn.as_ref()?.before));
        let place = asker.zip(before).map(|(asker, before)| asker.place(before));
        let holder = place.and_then(|place| self.continuations.holder(&place));
        holder.is_some_and(|key| key == *lease.session().key())
    }

    /// The chat that a request continues in the account of this lease, the upstream's id of the answer that it follows,
    /// and the message to send there.
    fn known(
        &self,
        lease: &Lease,
        request: &WebRequest,
        asker: Option<&Asker>,
    ) -> Option<(TurnChat, String, WebRequest)> {
        let turn = request.thread.as_ref()?.turn.as_ref()?;
        let (chat, parent_id) = TurnChat::known(&self.continuations, asker?, request, lease.session())?;
        Some((chat, parent_id, request.only(turn)))
    }

    /// One attempt to answer in a new chat. Returns the lease when it fails.
    async fn answer(
        &self,
        lease: Lease,
        job: &WebRequest,
        asker: Option<&Asker>,
        sending: &Sending<'_>,
        sink: &mut impl ReplySink,
    ) -> Result<Box<Turn>, Failed> {
        let session = Arc::clone(lease.session());
        let Sending { is_pooled, deadline, .. } = *sending;
        if let Task::Video(_) = job.task {
            let started = Box::pin(self.start_video(lease, job, is_pooled, &mut NoDiary, deadline)).await?;
            let StartedVideo { lease, chat, task } = started;
            return match Box::pin(self.videos.follow(&session, &task, &job.prompt, deadline)).await {
                Ok(url) => {
                    let mut turn = Turn::at_once(self.parts(sending, lease, TurnChat::alone(chat)));
                    turn.show(ReplyEvent::Video { url: &url }, sink);
                    turn.end(FinishReason::Stop, None);
                    Ok(turn)
                }
                Err(error) => Err(Failed { error, lease, is_final: true }),
            };
        }
        let (files, chat) = match self.prepare(&session, job, is_pooled, deadline, Some(sending.trace)).await {
            Ok(prepared) => prepared,
            Err(error) => return Err(Failed { error, lease, is_final: false }),
        };
        let chat = TurnChat::begun(chat, &self.continuations, asker, job);
        self.ask(lease, (job, &files), (chat, None), sending, sink).await
    }

    /// One attempt to answer in a chat that has everything but this turn. Returns the lease when it fails.
    async fn go_on(
        &self,
        lease: Lease,
        turn: &WebRequest,
        mut place: (TurnChat, Option<String>),
        sending: &Sending<'_>,
        sink: &mut impl ReplySink,
    ) -> Result<Box<Turn>, Failed> {
        let session = Arc::clone(lease.session());
        let since = Instant::now();
        let files = self.attachments.hand_over(&session, &turn.files, sending.is_pooled, sending.deadline).await;
        if !turn.files.is_empty() {
            sending.trace.note(What::Files { count: turn.files.len(), took: since.elapsed() });
        }
        match files {
            Ok(files) => self.ask(lease, (turn, &files), place, sending, sink).await,
            Err(error) => {
                place.0.answer_ended();
                Err(Failed { error, lease, is_final: false })
            }
        }
    }

    /// Sends the message to a chat, and reads up to the first content.
    async fn ask(
        &self,
        lease: Lease,
        (job, files): (&WebRequest, &[FileRef]),
        (mut chat, parent_id): (TurnChat, Option<String>),
        sending: &Sending<'_>,
        sink: &mut impl ReplySink,
    ) -> Result<Box<Turn>, Failed> {
        let session = Arc::clone(lease.session());
        let deadline = sending.deadline;
        chat.answer_begins();
        let first = deadline.min(Instant::now() + self.first_event_timeout(job));
        let place = ChatPlace { chat_id: chat.id(), parent_id: parent_id.as_deref() };
        let stream = match self.upstream.ask(&session, job, files, place, first).await {
            Ok(stream) => stream,
            Err(error) => {
                // An answer that was refused with its head needs no stop.
                if error.source.is_none() && error.kind != UpstreamErrorKind::Timeout {
                    chat.answer_ended();
                }
                if is_chat_useless(error.kind) {
                    chat.forget();
                }
                self.doubt_files(&session, job, &error);
                return Err(Failed { error, lease, is_final: false });
            }
        };
        // Research may search for minutes before its first word; a silent stream ends by the idle timeout.
        let first = if job.task == Task::Work(Work::Research) { deadline } else { first };
        let mut turn = Turn::new(stream, self.parts(sending, lease, chat));
        let error = match self.begin(&mut turn, job, sink, first, deadline).await {
            Ok(()) => return Ok(turn),
            Err(error) => error,
        };
        if is_picture(job) && Box::pin(self.recover(&session, &mut turn, sink, &error, deadline)).await {
            return Ok(turn);
        }
        if is_chat_useless(error.kind) {
            turn.forget_chat();
        }
        self.doubt_files(&session, job, &error);
        let lease = turn.take_lease();
        // A turn owns its lease until it is settled, and this one was not.
        let lease = lease.unwrap_or_else(|| IdentityPool::detached(session));
        Err(Failed { error, lease, is_final: false })
    }

    fn parts(&self, sending: &Sending<'_>, lease: Lease, chat: TurnChat) -> TurnParts {
        TurnParts {
            stages: Stages::new(sending.stages),
            lease,
            chat: Some(chat),
            drift: self.drift.clone(),
            accounting: self.accounting.clone(),
            attempts: sending.number,
            trace: sending.trace.clone(),
            is_whole: sending.is_whole,
            idle_timeout: self.upstream.timeouts.now().idle,
            deadline: sending.deadline,
        }
    }

    /// Uploads the files and creates the chat at the same time, since they are independent.
    async fn prepare(
        &self,
        session: &Arc<Session>,
        job: &WebRequest,
        is_pooled: bool,
        deadline: Instant,
        trace: Option<&Trace>,
    ) -> Result<(Vec<FileRef>, OwnChat), UpstreamError> {
        let patience = deadline.min(Instant::now() + self.first_event_timeout(job));
        let making = async {
            let made = timeout_at(patience, self.janitor.make(session, QwenWeb::new_chat(job), is_pooled)).await;
            made.unwrap_or_else(|_| Err(UpstreamError::new("creating a chat", UpstreamErrorKind::Timeout)))
        };
        let files = async {
            let since = Instant::now();
            let handed = self.attachments.hand_over(session, &job.files, is_pooled, deadline).await;
            if let Some(trace) = trace.filter(|_| !job.files.is_empty()) {
                trace.note(What::Files { count: job.files.len(), took: since.elapsed() });
            }
            handed
        };
        tokio::try_join!(files, making)
    }

    /// Reads to the first content; for pictures, to the end.
    async fn begin(
        &self,
        turn: &mut Turn,
        job: &WebRequest,
        sink: &mut impl ReplySink,
        first: Instant,
        deadline: Instant,
    ) -> Result<(), UpstreamError> {
        let begun = timeout_at(first, async {
            while !turn.has_spoken() && !poll_fn(|cx| turn.poll_upstream(cx, sink)).await? {}
            Ok(())
        });
        begun.await.unwrap_or_else(|_| Err(UpstreamError::first_word_late()))?;
        // The upstream is working; its events so far may be hidden from the caller.
        while !turn.has_content() && !poll_fn(|cx| turn.poll_upstream(cx, sink)).await? {}
        if !is_picture(job) {
            return Ok(());
        }
        let ended = timeout_at(deadline, async {
            while !poll_fn(|cx| turn.poll_upstream(cx, sink)).await? {}
            Ok(())
        });
        ended.await.unwrap_or_else(|_| Err(UpstreamError::first_word_late()))
    }

    /// An upstream that fails on a request with files may have lost them: the next request uploads them again.
    fn doubt_files(&self, session: &Session, job: &WebRequest, error: &UpstreamError) {
        use UpstreamErrorKind as Kind;
        if matches!(error.kind, Kind::InvalidRequest | Kind::Unavailable | Kind::Empty) {
            self.attachments.forget(session, &job.files);
        }
    }

    /// Reads the chat for pictures that the stream lost. Returns whether there are any now.
    async fn recover(
        &self,
        session: &Session,
        turn: &mut Turn,
        sink: &mut impl ReplySink,
        error: &UpstreamError,
        deadline: Instant,
    ) -> bool {
        use UpstreamErrorKind as Kind;
        let is_lost = matches!(error.kind, Kind::Truncated | Kind::Empty | Kind::Timeout | Kind::Protocol);
        // A failure within the stream comes too late to take back a picture that was delivered.
        if !is_lost && !turn.has_pictures() {
            return false;
        }
        // The chat is new, so without an id the last answer in it is this one.
        let response_id = turn.response_id().map(str::to_owned);
        for pause in RECOVERY_PAUSES {
            sleep(pause).await;
            let Ok(detail) = self.upstream.chat_detail(session, turn.chat_id()).await else {
                continue;
            };
            let links = image_links(&detail, response_id.as_deref());
            let is_there = !links.is_empty();
            for url in links {
                if !turn.has_picture(&url) {
                    turn.show(ReplyEvent::Image { url: &url }, sink);
                }
            }
            if is_there || Instant::now() >= deadline {
                break;
            }
        }
        let has_pictures = turn.has_pictures();
        if has_pictures {
            info!(identity.id = %session.identity(), "the stream broke off after its pictures, which are kept");
            turn.end(FinishReason::Stop, None);
        }
        has_pictures
    }

    /// One attempt to start a video. Returns the lease when it fails.
    ///
    /// If the start was sent and not answered, or answered by something that failed, the video may be in the making all
    /// the same; the chat tells. If it does not, the request ends: another attempt could make, and charge, a second one.
    async fn start_video(
        &self,
        lease: Lease,
        job: &WebRequest,
        is_pooled: bool,
        diary: &mut impl VideoDiary,
        deadline: Instant,
    ) -> Result<StartedVideo, Failed> {
        let session = Arc::clone(lease.session());
        let (files, mut chat) = match self.prepare(&session, job, is_pooled, deadline, None).await {
            Ok(prepared) => prepared,
            Err(error) => return Err(Failed { error, lease, is_final: false }),
        };
        if !diary.asks(&session, &mut chat).await {
            // The diary knows the reason for its refusal; this error only ends the attempt.
            let error = UpstreamError::new("starting a video", UpstreamErrorKind::InvalidRequest);
            return Err(Failed { error, lease, is_final: true });
        }
        chat.answer_begins();
        let first = deadline.min(Instant::now() + self.first_event_timeout(job));
        let started = self.upstream.start_video(&session, job, &files, chat.id(), first).await;
        // A task cannot be stopped: it continues in any case.
        chat.answer_ended();
        let error = match started {
            Ok(task) => return Ok(StartedVideo { lease, chat, task }),
            Err(error) => error,
        };
        if !is_without_effect(&error) {
            let patience = deadline.min(Instant::now() + LOST_START_PATIENCE);
            let found = self.videos.find(&session, chat.id(), patience).await;
            if let Found::Task(task) = found {
                info!(identity.id = %session.identity(), "video found in its chat after its start was not answered");
                return Ok(StartedVideo { lease, chat, task });
            }
            // A page without any word of the upstream may come from a gateway, which knows nothing about the upstream.
            if !is_answered(&error) || (error.is_wordless() && found != Found::Nothing) {
                return Err(Failed { error, lease, is_final: true });
            }
        }
        self.doubt_files(&session, job, &error);
        diary.refused().await;
        Err(Failed { error, lease, is_final: false })
    }

    /// Thinking and searching need time before the first word, pictures and files more.
    pub(crate) fn first_event_timeout(&self, job: &WebRequest) -> Duration {
        let base = self.upstream.timeouts.now().first_event;
        match job.task {
            Task::Image(_) | Task::ImageEdit(_) => base * 3,
            Task::Text if job.search || job.thinking != ThinkingWish::Off || !job.files.is_empty() => base * 2,
            Task::Work(_) => base * 2,
            Task::Text | Task::Video(_) => base,
        }
    }
}

fn is_picture(job: &WebRequest) -> bool {
    matches!(job.task, Task::Image(_) | Task::ImageEdit(_))
}
