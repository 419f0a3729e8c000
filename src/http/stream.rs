//! An answer as an event stream: the body that a connection pulls.
//!
//! There is no task and no channel: polling this body polls the upstream's connection. Each poll takes all that
//! has arrived, translates it into one buffer and hands on one frame.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::chat::failure::Failure;
use crate::dialect::writer::StreamWriter;
use crate::gateway::answer::turn::Turn;
use crate::http::serve::record::access::RequestRecord;
use crate::http::serve::socket::server::PollCount;
use crate::shutdown::Cancelled;

/// Most bytes of a frame; further content goes into the next one.
const FRAME_BYTES_MAX: usize = 32 * 1024;

/// Size from which on a frame is sent without waiting for more: most of the writes are saved already.
const LINGER_BYTES_MAX: usize = 8 * 1024;
/// Gap below which events are a burst.
const BURST_GAP: Duration = Duration::from_millis(2);

/// The future that waits for the first content of an answer. It fails when the server ends before.
pub(crate) type Opening<S> = Pin<Box<dyn Future<Output = (Result<Box<Turn>, Failure>, S)> + Send>>;

/// Begins the answer that follows a finished one in the same stream; `None` after the last.
pub(crate) type Following<S> = Box<dyn FnMut(S) -> Option<Opening<S>> + Send>;

/// The body of a streamed answer. Dropping it ends the upstream's work on it.
pub(crate) struct ReplyBody<S> {
    /// The first event, until it was sent.
    head: Option<Bytes>,
    phase: Phase<S>,
    following: Option<Following<S>>,
    record: RequestRecord,
    keepalive: Duration,
    sent_at: Instant,
    linger: Linger,
    timer: Pin<Box<Sleep>>,
    ending: Cancelled,
}

/// The parts of a streamed answer beside the answer.
pub(crate) struct StreamContext {
    /// The first event, from [`StreamWriter::head`].
    pub head: Option<Bytes>,
    /// The request's line in the log, to which failures are added.
    pub record: RequestRecord,
    /// Longest silence before a keep-alive (`KEEPALIVE_INTERVAL`).
    pub keepalive: Duration,
    /// Cancelled when open streams have to end.
    pub ending: CancellationToken,
    /// Number of polls of the connection that carries the answer.
    pub polls: PollCount,
}

/// Lets other tasks run before a frame is handed on. In a burst the upstream's connection has more already, piece by
/// piece, and one write for all of it costs a fraction of one write for each.
struct Linger {
    /// Whether a frame with content was handed on.
    has_spoken: bool,
    /// Bytes that were ready when other tasks were last let run.
    bytes: usize,
    /// Number of the connection's poll at that time.
    at: u64,
    polls: PollCount,
}

impl Linger {
    /// Whether to wait for one more round: as long as each brings more bytes.
    fn wants_more(&mut self, ready_bytes: usize, sent_at: Instant, cx: &Context<'_>) -> bool {
        let now = self.polls.now();
        if self.bytes > 0 && self.at == now {
            return true;
        }
        // The first content is sent at once, and so is content after a pause.
        let is_burst = self.bytes > 0 || (self.has_spoken && sent_at.elapsed() < BURST_GAP);
        if !is_burst || ready_bytes == self.bytes || ready_bytes >= LINGER_BYTES_MAX {
            return false;
        }
        self.bytes = ready_bytes;
        self.at = now;
        cx.waker().wake_by_ref();
        true
    }
}

enum Phase<S> {
    /// The headers were sent, the first content has not arrived.
    Opening(Opening<S>),
    Streaming(Box<Turn>, S),
    Done,
}

impl<S: StreamWriter> ReplyBody<S> {
    /// A body whose answer has begun.
    #[must_use]
    pub(crate) fn streaming(turn: Box<Turn>, sink: S, context: StreamContext) -> Self {
        Self::new(Phase::Streaming(turn, sink), context)
    }

    /// A body that waits for the first content.
    #[must_use]
    pub(crate) fn opening(opening: Opening<S>, context: StreamContext) -> Self {
        // Callers see a first byte at once, whether or not the first event waits for the answer.
        let context = StreamContext { head: Some(context.head.unwrap_or_else(S::keepalive)), ..context };
        Self::new(Phase::Opening(opening), context)
    }

    /// Lets further answers follow in the same stream.
    #[must_use]
    pub(crate) fn followed_by(self, following: Option<Following<S>>) -> Self {
        Self { following, ..self }
    }

    fn new(phase: Phase<S>, context: StreamContext) -> Self {
        let StreamContext { head, record, keepalive, ending, polls } = context;
        let sent_at = Instant::now();
        Self {
            head,
            phase,
            following: None,
            record,
            keepalive,
            sent_at,
            linger: Linger { has_spoken: false, bytes: 0, at: 0, polls },
            timer: Box::pin(tokio::time::sleep_until(sent_at + keepalive)),
            ending: Cancelled::of(ending),
        }
    }

    fn fail(&mut self, failure: &Failure, mut sink: S) -> Option<Bytes> {
        self.record.failed(failure.code);
        self.phase = Phase::Done;
        sink.fail(failure, self.record.id());
        sink.take()
    }

    /// After the end of an answer: begins the next one, if any.
    fn follow(&mut self) {
        let Phase::Streaming(_, sink) = std::mem::replace(&mut self.phase, Phase::Done) else {
            return;
        };
        let opening = self.following.as_mut().and_then(|following| following(sink));
        self.phase = opening.map_or(Phase::Done, Phase::Opening);
    }

    /// The next bytes to send; `None` at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(head));
        }
        loop {
            match &mut self.phase {
                Phase::Done => return Poll::Ready(None),
                Phase::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Pending => return self.poll_keepalive(cx),
                    Poll::Ready((Ok(turn), sink)) => {
                        self.phase = Phase::Streaming(turn, sink);
                    }
                    Poll::Ready((Err(failure), sink)) => return Poll::Ready(self.fail(&failure, sink)),
                },
                Phase::Streaming(turn, sink) => match turn.poll_next(cx, sink) {
                    Poll::Ready(Ok(Some(ending))) => {
                        sink.finish(&ending);
                        let last = sink.take();
                        self.follow();
                        return Poll::Ready(last);
                    }
                    Poll::Ready(Ok(None)) if sink.held_bytes() < FRAME_BYTES_MAX => {}
                    Poll::Ready(Ok(None)) => return Poll::Ready(sink.take()),
                    Poll::Ready(Err(error)) => return Poll::Ready(self.break_off(&(&error).into())),
                    Poll::Pending if sink.held_bytes() == 0 => return self.poll_idle(cx),
                    Poll::Pending if self.linger.wants_more(sink.held_bytes(), self.sent_at, cx) => {
                        return Poll::Pending;
                    }
                    Poll::Pending => {
                        self.linger.has_spoken = true;
                        return Poll::Ready(sink.take());
                    }
                },
            }
        }
    }

    /// Nothing has arrived: checks whether the server is ending.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ending.poll(cx).is_ready() {
            return Poll::Ready(self.break_off(&Failure::shutting_down()));
        }
        self.poll_keepalive(cx)
    }

    /// Nothing has arrived: checks whether a keep-alive is due.
    fn poll_keepalive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let due_at = self.sent_at + self.keepalive;
            self.timer.as_mut().reset(due_at.max(Instant::now() + Duration::from_millis(1)));
            if Instant::now() >= due_at {
                self.timer.as_mut().reset(Instant::now() + self.keepalive);
                return Poll::Ready(Some(S::keepalive()));
            }
        }
        Poll::Pending
    }

    /// Ends an answer that has begun with a failure event.
    fn break_off(&mut self, failure: &Failure) -> Option<Bytes> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Streaming(_, sink) => self.fail(failure, sink),
            Phase::Opening(_) | Phase::Done => None,
        }
    }
}

impl<S: StreamWriter + Unpin> Body for ReplyBody<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let polled = this.poll_bytes(cx);
        if polled.is_ready() {
            this.sent_at = Instant::now();
            this.linger.bytes = 0;
        }
        polled.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }
}
