//! The steps of a body, and the body that plays them.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::record::{EndedHow, Ticket};
use crate::web::chats::Turn;

/// One thing that a body does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Sends a packet, and flushes it.
    Send(Bytes),
    /// Sends packets that many streams share, with a wait before each.
    Many {
        packets: Arc<[Bytes]>,
        next: usize,
        pace: Duration,
    },
    Wait(Duration),
    /// Sends this packet repeatedly until the client leaves, with a wait before each.
    Endless {
        packet: Bytes,
        pace: Duration,
    },
    /// The frame that finishes the answer is out: the chat is free again.
    Finished,
    /// Says nothing more until the client leaves.
    Hold,
    /// Breaks the connection in the middle of the body.
    Tear {
        with_reset: bool,
    },
    /// The body ends properly, without an error.
    EndOfBody,
}

/// How a connection will be closed when it is dropped.
#[derive(Default)]
pub(crate) struct Fuse(AtomicBool);

impl Fuse {
    pub(crate) fn light(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_lit(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The error that tears a body on purpose.
#[derive(Debug, Error)]
#[error("the script tears this body")]
pub(crate) struct Torn;

/// A body that plays its steps.
pub(crate) struct ScriptedBody {
    steps: VecDeque<Step>,
    /// Known for whole answers, which then get a `Content-Length`.
    length: Option<u64>,
    /// Made once and set anew: a paced stream waits thousands of times.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    /// Hand over what was sent before going on, so that the server flushes it.
    is_flushing: bool,
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    turn: Option<Turn>,
    ticket: Ticket,
    fuse: Arc<Fuse>,
}

impl ScriptedBody {
    /// A body of known length, sent in one packet; an empty one ends at once.
    pub(crate) fn whole(bytes: Bytes, ticket: Ticket, fuse: Arc<Fuse>) -> Self {
        let length = u64::try_from(bytes.len()).ok();
        let mut steps = VecDeque::new();
        if !bytes.is_empty() {
            steps.push_back(Step::Send(bytes));
        }
        if steps.is_empty() {
            ticket.ended(EndedHow::Completed);
        }
        Self { steps, length, timer: None, is_waiting: false, is_flushing: false, stop: None, turn: None, ticket, fuse }
    }

    /// An answer that comes in steps.
    pub(crate) fn stepwise(steps: Vec<Step>, turn: Option<Turn>, ticket: Ticket, fuse: Arc<Fuse>) -> Self {
        let stop = turn.as_ref().map(|turn| turn.stop.clone());
        Self {
            steps: steps.into(),
            length: None,
            timer: None,
            is_waiting: false,
            is_flushing: false,
            stop: stop.map(|stop| Box::pin(stop.cancelled_owned())),
            turn,
            ticket,
            fuse,
        }
    }

    /// Makes the length unknown, so that a scripted `Content-Length` may lie.
    pub(crate) fn forget_length(&mut self) {
        self.length = None;
    }

    fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = self.timer.as_mut().filter(|_| self.is_waiting) {
            ready!(timer.as_mut().poll(context));
            self.is_waiting = false;
        }
        Poll::Ready(())
    }

    fn send(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        self.ticket.sent(bytes.len());
        if self.length.is_some() {
            self.ticket.ended(EndedHow::Completed);
        } else {
            self.is_flushing = true;
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn start_wait(&mut self, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        let until = Instant::now() + duration;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(until),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(until))),
        }
        self.is_waiting = true;
    }

    fn end(&mut self, how: EndedHow) {
        self.steps.clear();
        self.stop = None;
        if let Some(turn) = &mut self.turn {
            turn.over();
        }
        self.ticket.ended(how);
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        let this = &mut *self;
        if let Some(stop) = &mut this.stop
            && stop.as_mut().poll(context).is_ready()
        {
            this.end(EndedHow::StoppedByCall);
            return Poll::Ready(None);
        }
        if this.is_flushing {
            this.is_flushing = false;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            ready!(this.poll_wait(context));
            match this.steps.pop_front() {
                Some(Step::Send(bytes)) => return this.send(bytes),
                Some(Step::Many { packets, next, pace }) => {
                    let Some(packet) = packets.get(next).cloned() else {
                        continue;
                    };
                    let rest = Step::Many { packets, next: next + 1, pace };
                    this.steps.push_front(rest);
                    if !pace.is_zero() {
                        // The wait comes first; the packet itself is then an ordinary step.
                        this.steps.push_front(Step::Send(packet));
                        this.start_wait(pace);
                        continue;
                    }
                    return this.send(packet);
                }
                Some(Step::Wait(duration)) => this.start_wait(duration),
                Some(Step::Finished) => {
                    if let Some(turn) = &mut this.turn {
                        turn.over();
                    }
                    // A stop that comes now has nothing to stop.
                    this.stop = None;
                    this.ticket.finish_sent();
                }
                Some(Step::Endless { packet, pace }) => {
                    let again = Step::Endless { packet: packet.clone(), pace };
                    this.steps.push_front(again);
                    this.steps.push_front(Step::Send(packet));
                    this.start_wait(pace);
                }
                Some(Step::Hold) => {
                    this.steps.push_front(Step::Hold);
                    return Poll::Pending;
                }
                Some(Step::Tear { with_reset }) => {
                    if with_reset {
                        this.fuse.light();
                    }
                    this.end(EndedHow::Torn);
                    return Poll::Ready(Some(Err(Torn)));
                }
                Some(Step::EndOfBody) | None => {
                    this.end(EndedHow::Completed);
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length.is_some() && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}
