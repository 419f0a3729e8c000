//! An answer as an event stream: the body that a connection pulls.
//!
//! There is no task and no channel: polling this body polls the upstream's connection. Each poll takes all that
//! has arrived, translates it into one buffer and hands on one frame.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::dialect::openai::error::error_body;
use crate::dialect::openai::reply::{EventSink, encode_error};
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::turn::Turn;
use crate::http::failure::ApiError;
use crate::http::serve::access::RequestRecord;
use crate::http::serve::server::PollCount;

/// A comment: clients skip it, proxies see that the connection lives.
const KEEPALIVE: Bytes = Bytes::from_static(b": keepalive\n\n");

/// A frame is handed on at this size, whatever else may be there.
const FRAME_BYTES_MAX: usize = 32 * 1024;

/// Nobody is let run any more before a frame of this size: it has saved the most of the writes already.
const LINGER_BYTES_MAX: usize = 8 * 1024;
/// Events closer together than this are a burst.
const BURST_GAP: Duration = Duration::from_millis(2);

/// The future that waits for the first content of an answer.
pub type Opening<S> = Pin<Box<dyn Future<Output = (Result<Turn, ChatError>, S)> + Send>>;

/// Begins the answer that follows a finished one in the same stream; `None` when that was the last.
pub type Following<S> = Box<dyn FnMut(S) -> Option<Opening<S>> + Send>;

/// The body of a streamed answer. Dropping it ends the upstream's work on it.
pub struct ReplyBody<S> {
    /// The chunk with the role, until it is sent: callers see life before the first content is there.
    head: Option<Bytes>,
    phase: Phase<S>,
    following: Option<Following<S>>,
    record: RequestRecord,
    keepalive: Duration,
    sent_at: Instant,
    linger: Linger,
    timer: Pin<Box<Sleep>>,
    ending: CancellationToken,
    /// Registered at the first wait, so that the end of the server wakes this stream.
    ended: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// What a streamed answer needs besides the answer.
pub struct StreamContext {
    /// The chunk with the role.
    pub head: Bytes,
    /// For the request's line in the log.
    pub record: RequestRecord,
    /// `KEEPALIVE_INTERVAL`.
    pub keepalive: Duration,
    /// Cancelled when open streams have to end.
    pub ending: CancellationToken,
    /// Of the connection that carries the answer.
    pub polls: PollCount,
}

/// Lets others run before a frame is handed on. In a burst the upstream's connection has more already, piece by
/// piece, and one write for all of it costs a fraction of one write for each.
struct Linger {
    /// A frame with content has been handed on.
    has_spoken: bool,
    /// How much was ready when others were last let run.
    bytes: usize,
    /// In which poll of the connection that was.
    at: u64,
    polls: PollCount,
}

impl Linger {
    /// Whether to wait for one more round: as long as each brings something.
    fn wants_more(&mut self, ready_bytes: usize, sent_at: Instant, cx: &Context<'_>) -> bool {
        let now = self.polls.now();
        if self.bytes > 0 && self.at == now {
            return true;
        }
        // The first words go out at once, and so does what comes after a pause.
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
    /// Headers are out, the first content is not there yet.
    Opening(Opening<S>),
    Streaming(Box<(Turn, S)>),
    Done,
}

impl<S: EventSink> ReplyBody<S> {
    /// A body whose answer has begun.
    #[must_use]
    pub fn streaming(turn: Turn, sink: S, context: StreamContext) -> Self {
        Self::new(Phase::Streaming(Box::new((turn, sink))), context)
    }

    /// A body that goes on waiting for the first content.
    #[must_use]
    pub fn opening(opening: Opening<S>, context: StreamContext) -> Self {
        Self::new(Phase::Opening(opening), context)
    }

    /// Lets further answers follow in the same stream.
    #[must_use]
    pub fn followed_by(self, following: Option<Following<S>>) -> Self {
        Self { following, ..self }
    }

    fn new(phase: Phase<S>, context: StreamContext) -> Self {
        let StreamContext { head, record, keepalive, ending, polls } = context;
        let sent_at = Instant::now();
        Self {
            head: Some(head),
            phase,
            following: None,
            record,
            keepalive,
            sent_at,
            linger: Linger { has_spoken: false, bytes: 0, at: 0, polls },
            timer: Box::pin(tokio::time::sleep_until(sent_at + keepalive)),
            ending,
            ended: None,
        }
    }

    fn fail(&mut self, error: &ApiError, mut sink: S) -> Option<Bytes> {
        self.record.failed(error.code);
        self.phase = Phase::Done;
        sink.fail(&error_body(error, Some(self.record.id())));
        sink.take()
    }

    /// An answer is over: the next one begins, if there is one.
    fn follow(&mut self) {
        let Phase::Streaming(streaming) = std::mem::replace(&mut self.phase, Phase::Done) else {
            return;
        };
        let opening = self.following.as_mut().and_then(|following| following(streaming.1));
        self.phase = opening.map_or(Phase::Done, Phase::Opening);
    }

    /// What to send next; `None` at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(head));
        }
        loop {
            match &mut self.phase {
                Phase::Done => return Poll::Ready(None),
                Phase::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Pending => return self.poll_idle(cx),
                    Poll::Ready((Ok(turn), sink)) => {
                        self.phase = Phase::Streaming(Box::new((turn, sink)));
                    }
                    Poll::Ready((Err(error), sink)) => {
                        return Poll::Ready(self.fail(&(&error).into(), sink));
                    }
                },
                Phase::Streaming(streaming) => {
                    let (turn, sink) = &mut **streaming;
                    match turn.poll_next(cx, sink) {
                        Poll::Ready(Ok(Some(ending))) => {
                            sink.finish(&ending);
                            let last = sink.take();
                            self.follow();
                            return Poll::Ready(last);
                        }
                        Poll::Ready(Ok(None)) if sink.held_bytes() < FRAME_BYTES_MAX => {}
                        Poll::Ready(Ok(None)) => return Poll::Ready(sink.take()),
                        Poll::Ready(Err(error)) => {
                            let Phase::Streaming(streaming) = std::mem::replace(&mut self.phase, Phase::Done) else {
                                return Poll::Ready(None);
                            };
                            return Poll::Ready(self.fail(&(&error).into(), streaming.1));
                        }
                        Poll::Pending if sink.held_bytes() == 0 => return self.poll_idle(cx),
                        Poll::Pending if self.linger.wants_more(sink.held_bytes(), self.sent_at, cx) => {
                            return Poll::Pending;
                        }
                        Poll::Pending => {
                            self.linger.has_spoken = true;
                            return Poll::Ready(sink.take());
                        }
                    }
                }
            }
        }
    }

    /// Nothing has come: maybe a comment is due, or the server is ending.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let ended = self.ended.get_or_insert_with(|| Box::pin(self.ending.clone().cancelled_owned()));
        if ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(self.end_early()));
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let due_at = self.sent_at + self.keepalive;
            self.timer.as_mut().reset(due_at.max(Instant::now() + Duration::from_millis(1)));
            if Instant::now() >= due_at {
                self.timer.as_mut().reset(Instant::now() + self.keepalive);
                return Poll::Ready(Some(KEEPALIVE));
            }
        }
        Poll::Pending
    }

    fn end_early(&mut self) -> Bytes {
        let error = ApiError::shutting_down();
        self.record.failed(error.code);
        self.phase = Phase::Done;
        let mut out = BytesMut::new();
        encode_error(&error_body(&error, Some(self.record.id())), &mut out);
        out.freeze()
    }
}

impl<S: EventSink + Unpin> Body for ReplyBody<S> {
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
