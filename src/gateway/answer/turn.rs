//! One turn under way: an answer, its stages, the identity that gives it, and its chat.

use std::collections::HashSet;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tracing::warn;

use crate::base::ids::{CredentialKey, IdentityId};
use crate::base::session::Session;
use crate::chat::reply::{Ending, FinishReason, RejectedAs, Rejection, ReplyEvent, ReplySink, TokenCounts};
use crate::chat::stages::Stages;
use crate::chat::stages::tool_calls::Called;
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::trace::{Trace, What};
use crate::gateway::answer::usage::Accounting;
use crate::gateway::chats::continuations::TurnChat;
use crate::gateway::drift::Drift;
use crate::pool::{Lease, Now, Outcome};
use crate::store::MadeKind;
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::stream::ReplyStream;

/// An answer that is being read. Dropping it before its end stops the upstream and charges no identity.
///
/// It is boxed, since it is large and handed from one future to the next.
pub(crate) struct Turn {
    /// `None` for an answer that did not come as a stream.
    stream: Option<ReplyStream>,
    stages: Stages,
    lease: Option<Lease>,
    /// `None` where the upstream keeps no chats.
    chat: Option<TurnChat>,
    drift: Drift,
    accounting: Accounting,
    identity: IdentityId,
    /// The session whose tokens are counted.
    session: Arc<Session>,
    attempts: u32,
    trace: Trace,
    idle_timeout: Duration,
    last_progress: Instant,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    /// The upstream has sent an event, shown or not.
    has_spoken: bool,
    /// The last stage has handed on content for the caller: text, calls or media, and thoughts too.
    has_content: bool,
    /// No part of the answer leaves this server before all of it is there.
    is_whole: bool,
    /// URLs of the pictures that were shown.
    pictures: HashSet<String>,
    over: Option<Over>,
    /// The upstream has ended the answer itself.
    is_finished: bool,
    /// The trace has the cost of the answer.
    is_counted: bool,
}

/// The end of an answer.
#[derive(Clone, Copy)]
struct Over {
    reason: FinishReason,
    counts: Option<TokenCounts>,
}

/// What a turn needs beside its stream.
pub(crate) struct TurnParts {
    pub(crate) stages: Stages,
    pub(crate) lease: Lease,
    pub(crate) chat: Option<TurnChat>,
    pub(crate) drift: Drift,
    pub(crate) accounting: Accounting,
    pub(crate) attempts: u32,
    pub(crate) trace: Trace,
    /// No part of the answer leaves this server before all of it is there.
    pub(crate) is_whole: bool,
    pub(crate) idle_timeout: Duration,
    pub(crate) deadline: Instant,
}

impl Turn {
    /// A turn whose answer does not come as a stream: [`Turn::show`] hands on its events, [`Turn::end`] ends it.
    pub(crate) fn at_once(parts: TurnParts) -> Box<Self> {
        Self::over(None, parts)
    }

    /// A turn that reads this stream.
    pub(crate) fn new(stream: ReplyStream, parts: TurnParts) -> Box<Self> {
        Self::over(Some(stream), parts)
    }

    fn over(stream: Option<ReplyStream>, parts: TurnParts) -> Box<Self> {
        let TurnParts { stages, lease, chat, drift, accounting, attempts, trace, is_whole, idle_timeout, deadline } =
            parts;
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(deadline.min(now + idle_timeout)));
        let identity = lease.identity().clone();
        let session = Arc::clone(lease.session());
        Box::new(Self {
            stream,
            stages,
            lease: Some(lease),
            chat,
            drift,
            accounting,
            identity,
            session,
            attempts,
            trace,
            idle_timeout,
            last_progress: now,
            deadline,
            timer,
            has_spoken: false,
            has_content: false,
            is_whole,
            pictures: HashSet::new(),
            over: None,
            is_finished: false,
            is_counted: false,
        })
    }

    /// Hands an event that came outside of the stream through the stages.
    pub(crate) fn show(&mut self, event: ReplyEvent<'_>, sink: &mut impl ReplySink) {
        let Self { stages, drift, has_spoken, has_content, pictures, trace, .. } = self;
        note(&event, (drift, trace), has_spoken, pictures);
        stages.push(event, &mut |event| {
            *has_content |= event.is_content();
            sink.event(event);
        });
    }

    /// Ends the turn successfully, regardless of its stream.
    pub(crate) fn end(&mut self, reason: FinishReason, counts: Option<TokenCounts>) {
        self.answer_ended();
        self.trace.note(What::FirstContent);
        self.over = Some(Over { reason, counts });
    }

    /// The upstream's id of the answer, once it is known.
    pub(crate) fn response_id(&self) -> Option<&str> {
        self.stream.as_ref().and_then(ReplyStream::response_id)
    }

    /// Id of the answer's chat; empty if the upstream keeps none.
    pub(crate) fn chat_id(&self) -> &str {
        self.chat.as_ref().map_or("", TurnChat::id)
    }

    fn answer_ended(&mut self) {
        if let Some(chat) = &mut self.chat {
            chat.answer_ended();
        }
    }

    /// Keeps the chat of a complete answer, so that it can be continued. An answer that was cut or changed here differs
    /// from the one in the chat.
    fn keep_chat(&mut self, reason: FinishReason) {
        let is_complete = self.is_finished && reason == FinishReason::Stop && self.stages.told_all();
        let response_id = self.stream.as_ref().and_then(ReplyStream::response_id).filter(|_| is_complete);
        if let Some(response_id) = response_id
            && let Some(chat) = self.chat.take()
        {
            chat.answered(response_id);
        }
    }

    /// Marks every answer of the chat as not to be continued.
    pub(crate) fn forget_chat(&mut self) {
        self.chat.iter_mut().for_each(TurnChat::forget);
    }

    /// Whether a picture was shown.
    pub(crate) fn has_pictures(&self) -> bool {
        !self.pictures.is_empty()
    }

    /// Whether this picture was shown.
    pub(crate) fn has_picture(&self, url: &str) -> bool {
        self.pictures.contains(url)
    }

    /// Key of the credential that answers.
    pub(crate) fn credential(&self) -> &CredentialKey {
        self.session.key()
    }

    /// The session that answers.
    pub(crate) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session)
    }

    /// The identity that answers.
    #[must_use]
    pub(crate) fn identity(&self) -> &IdentityId {
        &self.identity
    }

    /// Number of attempts, this one included.
    #[must_use]
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether the upstream has sent an event, shown or not.
    pub(crate) fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// Whether the last stage has handed on something for the caller, be it a thought: the turn is committed.
    pub(crate) fn has_content(&self) -> bool {
        self.has_content
    }

    /// The fault of a complete answer that is not in the requested form and can be asked for again: nothing of it was
    /// shown, not even thoughts, or it is told as a whole.
    pub(crate) fn rejection(&mut self) -> Option<Rejection> {
        let over = self.over.filter(|_| self.is_whole || !self.has_content)?;
        self.fault(over.reason)
    }

    /// The fault of an answer that is over for this reason. One that was shown in part and then cut is told as cut.
    fn fault(&mut self, reason: FinishReason) -> Option<Rejection> {
        let is_cut = matches!(reason, FinishReason::Length | FinishReason::ContentFilter);
        if is_cut && self.has_content { None } else { self.stages.judge(reason).err() }
    }

    /// The form for lack of which the answer, which is over, cannot be told as finished: JSON that came after thoughts
    /// and is none, and anything that [`Turn::rejection`] tells of a whole answer. A wrong call behind words that were
    /// shown is told as text.
    fn lacks(&mut self) -> Option<RejectedAs> {
        let over = self.over.filter(|_| self.is_whole || self.has_content)?;
        let kind = self.fault(over.reason)?.kind;
        (self.is_whole || kind == RejectedAs::StructuredOutput).then_some(kind)
    }

    /// How the answer calls tools; `None` while it goes on, or if part of it was shown.
    pub(crate) fn called(&mut self) -> Option<Called> {
        let over = self.over.filter(|_| !self.has_content)?;
        Some(self.stages.called(over.reason))
    }

    /// Ends a turn whose answer was rejected, without charging the identity. Returns its cost.
    pub(crate) fn discard(mut self) -> TokenCounts {
        self.settle(Outcome::Success);
        let counts = self.over.and_then(|over| over.counts);
        let usage = self.stages.finish(FinishReason::Stop, counts, &mut |_| {}).usage;
        self.is_counted = true;
        self.trace.discarded(usage);
        usage
    }

    /// Takes the lease of a turn that failed, to report on it.
    pub(crate) fn take_lease(&mut self) -> Option<Lease> {
        self.lease.take()
    }

    /// Hands what has arrived to `sink`. `Ready(Ok(None))`: events came and more will follow; the ending comes once.
    ///
    /// # Errors
    /// [`ChatError::Upstream`]: the answer broke off. [`ChatError::Rejected`]: it is complete, but not in the requested
    /// form. What was handed on before stays valid.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl ReplySink,
    ) -> Poll<Result<Option<Ending>, ChatError>> {
        match self.poll_upstream(cx, sink) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(_)) => match self.lacks() {
                Some(kind) => {
                    self.settle(Outcome::Success);
                    Poll::Ready(Err(ChatError::Rejected(kind)))
                }
                None => Poll::Ready(Ok(self.over.map(|over| self.finish(over, sink)))),
            },
            Poll::Ready(Err(error)) => {
                warn!(identity.id = %self.identity, attempts = self.attempts, error = %ErrorChain(&error), "answer broke off");
                if let Some(lease) = self.lease.take() {
                    self.accounting.charge(lease, &error, Now::read());
                }
                Poll::Ready(Err(ChatError::Upstream { error, attempts: self.attempts }))
            }
        }
    }

    /// Ends an answer that is over, successfully: hands on the rest of it.
    fn finish(&mut self, over: Over, sink: &mut impl ReplySink) -> Ending {
        self.settle(Outcome::Success);
        let Self { stages, chat, .. } = self;
        let ending = stages.finish(over.reason, over.counts, &mut |event| {
            chat.iter_mut().for_each(|chat| chat.shown(&event));
            sink.event(event);
        });
        self.keep_chat(over.reason);
        self.is_counted = true;
        self.trace.spent(ending.usage);
        self.trace.repaired_calls(self.stages.repaired_calls());
        ending
    }

    /// Hands on what has arrived; `Ready(Ok(true))` when the answer is over.
    pub(crate) fn poll_upstream(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl ReplySink,
    ) -> Poll<Result<bool, UpstreamError>> {
        if self.over.is_some() {
            return Poll::Ready(Ok(true));
        }
        let Self { stream, stages, chat, drift, has_spoken, has_content, pictures, trace, .. } = self;
        let Some(stream) = stream else {
            return Poll::Ready(Err(UpstreamError::new("reading an answer", UpstreamErrorKind::Truncated)));
        };
        let had_content = *has_content;
        let mut finish_reason = FinishReason::Stop;
        let polled = stream.poll_pull(cx, &mut |event| {
            note(&event, (drift, trace), has_spoken, pictures);
            if let ReplyEvent::Finished { reason } = &event {
                finish_reason = *reason;
            }
            stages.push(event, &mut |event| {
                *has_content |= event.is_content();
                chat.iter_mut().for_each(|chat| chat.shown(&event));
                sink.event(event);
            });
        });
        if !stages.is_counted()
            && let Some(counts) = stream.usage()
        {
            stages.note_counts(counts);
        }
        if self.has_content && !had_content {
            self.commit();
        }
        match polled {
            Poll::Ready(Ok(pulled)) => {
                if pulled.progress {
                    self.last_progress = Instant::now();
                }
                if pulled.finished {
                    self.answer_ended();
                    self.is_finished = true;
                    if self.says_nothing(finish_reason) {
                        return Poll::Ready(Err(UpstreamError::new("reading an answer", UpstreamErrorKind::Empty)));
                    }
                }
                let reason = self.stages.ended().or(pulled.finished.then_some(finish_reason));
                self.over = reason.map(|reason| Over { reason, counts: self.usage() });
                Poll::Ready(Ok(self.over.is_some()))
            }
            // The policy cut an answer that had begun: this is an ending, not a failure.
            Poll::Ready(Err(error)) if error.kind == UpstreamErrorKind::ContentPolicy && self.has_content => {
                self.answer_ended();
                self.settle(Outcome::Neutral);
                self.over = Some(Over { reason: FinishReason::ContentFilter, counts: self.usage() });
                Poll::Ready(Ok(true))
            }
            Poll::Ready(Err(error)) => {
                // The upstream may still be writing an answer that this server gave up.
                let gave_up = matches!(error.kind, UpstreamErrorKind::Protocol | UpstreamErrorKind::Timeout);
                if error.source.is_none() && !gave_up {
                    self.answer_ended();
                }
                Poll::Ready(Err(error))
            }
            Poll::Pending => self.poll_deadline(cx),
        }
    }

    /// Whether the answer, finished for this reason, has only thoughts and calls of undeclared tools. One that is to be
    /// asked for again is left to [`Turn::rejection`].
    fn says_nothing(&mut self, reason: FinishReason) -> bool {
        self.pictures.is_empty()
            && self.stages.is_silent(reason)
            && (self.has_content && !self.is_whole || self.stages.judge(reason).is_ok())
    }

    /// Commits the turn at its first content: from here on no other identity can take over.
    fn commit(&mut self) {
        if let Some(lease) = &self.lease {
            lease.first_content();
        }
        self.trace.note(What::FirstContent);
        let response_id = self.stream.as_ref().and_then(ReplyStream::response_id);
        if let Some(chat) = &mut self.chat {
            chat.answer_is(response_id);
        }
    }

    /// One timer for both deadlines: it is moved when it fires, not with each event.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, UpstreamError>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let idle_until = self.last_progress + self.idle_timeout;
            let now = Instant::now();
            if now >= self.deadline || now >= idle_until {
                return Poll::Ready(Err(UpstreamError::new("reading an answer", UpstreamErrorKind::Timeout)));
            }
            self.timer.as_mut().reset(self.deadline.min(idle_until));
        }
        Poll::Pending
    }

    fn usage(&self) -> Option<TokenCounts> {
        self.stream.as_ref().and_then(ReplyStream::usage)
    }

    fn settle(&mut self, outcome: Outcome) {
        if let Some(lease) = self.lease.take() {
            lease.finish(outcome, Now::read());
        }
    }
}

/// Notes facts of an event before the stages see it.
fn note(
    event: &ReplyEvent<'_>,
    (drift, trace): (&Drift, &Trace),
    has_spoken: &mut bool,
    pictures: &mut HashSet<String>,
) {
    *has_spoken |= event.is_content();
    match event {
        ReplyEvent::Unknown { what } => drift.note(what),
        ReplyEvent::Image { url } => {
            pictures.insert((*url).to_owned());
            trace.made(MadeKind::Image, url);
        }
        ReplyEvent::Video { url } => trace.made(MadeKind::Video, url),
        _ => {}
    }
}

impl Drop for Turn {
    /// Tokens that the upstream counted are spent on every exit path: finished, failed or cancelled.
    fn drop(&mut self) {
        let counts = self.over.and_then(|over| over.counts).or_else(|| self.usage());
        if let Some(counts) = counts {
            self.accounting.count_tokens(&self.session, counts);
        }
        if !self.is_counted && self.has_content {
            // For an answer that was cut short, the events so far count as spent.
            self.trace.spent(self.stages.finish(FinishReason::Stop, counts, &mut |_| {}).usage);
        }
        self.trace.pictures(self.pictures.len());
    }
}
