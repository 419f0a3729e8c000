//! One turn under way: an answer, the identity that it runs on, and the chat that it lives in.

use std::collections::HashSet;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tracing::warn;

use crate::base::ids::IdentityId;
use crate::base::session::Session;
use crate::chat::reply::{FinishReason, ReplyEvent, ReplySink, TokenCounts};
use crate::gateway::answer::books::Books;
use crate::gateway::answer::error::ChatError;
use crate::gateway::drift::Drift;
use crate::gateway::janitor::OwnChat;
use crate::pool::Now;
use crate::pool::{Lease, Outcome};
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::stream::ReplyStream;

/// An answer that is being read. Dropping it before its end stops the upstream and charges nobody.
pub struct Turn {
    /// `None` for what did not come as a stream.
    stream: Option<ReplyStream>,
    lease: Option<Lease>,
    /// `None` where the upstream keeps no chats.
    chat: Option<OwnChat>,
    drift: Drift,
    books: Books,
    identity: IdentityId,
    /// Whose tokens are counted.
    session: Arc<Session>,
    attempts: u32,
    idle_timeout: Duration,
    last_progress: Instant,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    has_content: bool,
    /// Pictures that were shown.
    pictures: HashSet<String>,
    finished: Option<Finished>,
}

/// The end of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Why.
    pub reason: FinishReason,
    /// The upstream's counts, if it gave any.
    pub counts: Option<TokenCounts>,
}

/// What a turn needs besides its stream.
pub(crate) struct TurnParts {
    pub(crate) lease: Lease,
    pub(crate) chat: Option<OwnChat>,
    pub(crate) drift: Drift,
    pub(crate) books: Books,
    pub(crate) attempts: u32,
    pub(crate) idle_timeout: Duration,
    pub(crate) deadline: Instant,
}

impl Turn {
    /// A turn whose whole answer has gone to the sink already.
    pub(crate) fn done(parts: TurnParts, counts: Option<TokenCounts>) -> Self {
        let mut turn = Self::over(None, parts);
        turn.answer_ended();
        turn.finished = Some(Finished { reason: FinishReason::Stop, counts });
        turn
    }

    /// A turn that reads this stream.
    pub(crate) fn new(stream: ReplyStream, parts: TurnParts) -> Self {
        Self::over(Some(stream), parts)
    }

    fn over(stream: Option<ReplyStream>, parts: TurnParts) -> Self {
        let TurnParts { lease, chat, drift, books, attempts, idle_timeout, deadline } = parts;
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(deadline.min(now + idle_timeout)));
        let identity = lease.identity().clone();
        let session = Arc::clone(lease.session());
        Self {
            stream,
            lease: Some(lease),
            chat,
            drift,
            books,
            identity,
            session,
            attempts,
            idle_timeout,
            last_progress: now,
            deadline,
            timer,
            has_content: false,
            pictures: HashSet::new(),
            finished: None,
        }
    }

    /// Ends the turn well, whatever its stream does.
    pub(crate) fn end(&mut self, reason: FinishReason) {
        self.answer_ended();
        self.finished = Some(Finished { reason, counts: self.usage() });
    }

    /// The upstream's id of the answer, once it is known.
    pub(crate) fn response_id(&self) -> Option<&str> {
        self.stream.as_ref().and_then(ReplyStream::response_id)
    }

    /// The chat that the answer is in; empty where there is none.
    pub(crate) fn chat_id(&self) -> &str {
        self.chat.as_ref().map_or("", OwnChat::id)
    }

    fn answer_ended(&mut self) {
        if let Some(chat) = &mut self.chat {
            chat.answer_ended();
        }
    }

    /// Whether a picture was shown.
    pub(crate) fn has_pictures(&self) -> bool {
        !self.pictures.is_empty()
    }

    /// Notes a picture; false when it was shown before.
    pub(crate) fn is_new_picture(&mut self, url: &str) -> bool {
        self.pictures.insert(url.to_owned())
    }

    /// Which identity answers.
    #[must_use]
    pub fn identity(&self) -> &IdentityId {
        &self.identity
    }

    /// How many attempts it took.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether the answer has begun to say something.
    pub(crate) fn has_content(&self) -> bool {
        self.has_content
    }

    pub(crate) fn lease_mut(&mut self) -> Option<Lease> {
        self.lease.take()
    }

    /// Hands what has arrived to `sink`. `Ready(Ok(None))` means that something came and more will.
    ///
    /// # Errors
    /// [`ChatError::Upstream`]: the answer broke. What was handed on before stands.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl ReplySink,
    ) -> Poll<Result<Option<Finished>, ChatError>> {
        match self.poll_upstream(cx, sink) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(finished)) => {
                if finished.is_some() {
                    self.settle(Outcome::Success);
                }
                Poll::Ready(Ok(finished))
            }
            Poll::Ready(Err(error)) => {
                warn!(identity.id = %self.identity, attempts = self.attempts, error = %ErrorChain(&error), "answer broke off");
                if let Some(lease) = self.lease.take() {
                    self.books.charge(lease, &error, Now::read());
                }
                Poll::Ready(Err(ChatError::Upstream { error, attempts: self.attempts }))
            }
        }
    }

    pub(crate) fn poll_upstream(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl ReplySink,
    ) -> Poll<Result<Option<Finished>, UpstreamError>> {
        if self.finished.is_some() {
            return Poll::Ready(Ok(self.finished));
        }
        let Self { stream, drift, has_content, pictures, .. } = self;
        let Some(stream) = stream else {
            return Poll::Ready(Err(UpstreamError::new("reading an answer", UpstreamErrorKind::Truncated)));
        };
        let had_content = *has_content;
        let polled = stream.poll_pull(cx, &mut |event| {
            *has_content |= event.is_content();
            match &event {
                ReplyEvent::Unknown { what } => drift.note(what),
                ReplyEvent::Image { url } => {
                    pictures.insert((*url).to_owned());
                }
                _ => {}
            }
            sink.event(event);
        });
        if self.has_content && !had_content {
            if let Some(lease) = &self.lease {
                lease.first_content();
            }
            let response_id = self.stream.as_ref().and_then(ReplyStream::response_id);
            if let Some(chat) = &mut self.chat {
                chat.answer_is(response_id);
            }
        }
        match polled {
            Poll::Ready(Ok(pulled)) => {
                if pulled.progress {
                    self.last_progress = Instant::now();
                }
                if pulled.finished {
                    self.answer_ended();
                }
                let reason = sink.ended().or(pulled.finished.then_some(FinishReason::Stop));
                self.finished = reason.map(|reason| Finished { reason, counts: self.usage() });
                Poll::Ready(Ok(self.finished))
            }
            // The policy cut an answer that had begun: that is an ending, not a failure.
            Poll::Ready(Err(error)) if error.kind == UpstreamErrorKind::ContentPolicy && self.has_content => {
                self.answer_ended();
                self.settle(Outcome::Neutral);
                self.finished = Some(Finished { reason: FinishReason::ContentFilter, counts: self.usage() });
                Poll::Ready(Ok(self.finished))
            }
            Poll::Ready(Err(error)) => {
                // When we gave up on it, the upstream may still be writing.
                let gave_up = matches!(error.kind, UpstreamErrorKind::Protocol | UpstreamErrorKind::Timeout);
                if error.source.is_none() && !gave_up {
                    self.answer_ended();
                }
                Poll::Ready(Err(error))
            }
            Poll::Pending => self.poll_deadline(cx),
        }
    }

    /// One timer for both deadlines: it is moved when it fires, not with each event.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Finished>, UpstreamError>> {
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

impl Drop for Turn {
    /// However it ended, and whoever left: what the upstream says that it cost is spent.
    fn drop(&mut self) {
        let counts = self.finished.and_then(|finished| finished.counts).or_else(|| self.usage());
        if let Some(counts) = counts {
            self.books.count_tokens(&self.session, counts);
        }
    }
}
