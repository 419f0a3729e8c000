//! The open requests and the last ones that have ended, for the owner. No text of a question or an answer is kept.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::base::caller_key::KeyName;
use crate::gateway::answer::trace::{History, Trace};

/// The product that a request asks a model for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AskedFor {
    /// An answer in text, or a count of its tokens.
    Answer,
    /// Pictures, new or edited.
    Picture,
    /// A video, made in the background.
    Video,
    /// Embeddings, one vector for each text.
    Embedding,
}

/// The span of a caller's own trace that a request belongs to, by the header `traceparent` of W3C Trace Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanParent {
    /// The id of the trace.
    pub trace: u128,
    /// The id of the span.
    pub span: u64,
}

/// The facts of a request that are known at its beginning or soon after.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    /// Id of the request, as the caller was told.
    pub id: String,
    /// Time of its arrival.
    pub came_at: SystemTime,
    /// Its HTTP method; a long one is cut.
    pub method: String,
    /// Its path as the route names it: `/v1/videos/{id}`. A path without a route is `other`.
    pub route: String,
    /// Name of the caller's key; `None` if it was not accepted, or if no key is required.
    pub key: Option<KeyName>,
    /// Whether the caller was let in: its key or credential was accepted, or none is asked for.
    pub is_admitted: bool,
    /// The requested product; `None` for a request to no model.
    pub asked_for: Option<AskedFor>,
    /// Name of the model; `None` until it is known.
    pub model: Option<String>,
    /// Whether the answer is a stream.
    pub is_streamed: bool,
    /// The caller's own span, if it sent one.
    pub parent: Option<SpanParent>,
    /// Notes for the caller about how the request was understood: the `x-bridge-…` headers without that prefix.
    pub notes: Vec<(String, String)>,
}

impl Default for RequestHead {
    /// A request that arrives now, with all other fields empty.
    fn default() -> Self {
        Self {
            id: String::new(),
            came_at: SystemTime::UNIX_EPOCH,
            method: String::new(),
            route: String::new(),
            key: None,
            is_admitted: false,
            asked_for: None,
            model: None,
            is_streamed: false,
            parent: None,
            notes: Vec::new(),
        }
    }
}

/// A request whose answer has ended.
#[derive(Clone, Debug)]
pub(crate) struct EndedRequest {
    /// The facts of the request.
    pub head: RequestHead,
    /// HTTP status of the answer; 0 when the caller left before it.
    pub status: u16,
    /// `ok`, `caller_left`, or the code of the failure, from closed lists.
    pub outcome: &'static str,
    /// Time from its arrival to the end of its answer.
    pub total: Duration,
    /// The events of the request.
    pub history: History,
}

/// A request whose answer has not ended.
#[derive(Clone, Debug)]
pub(crate) struct OpenRequest {
    /// The facts of the request, as far as they are known.
    pub head: RequestHead,
    /// The events of the request so far.
    pub history: History,
    /// Time since its arrival.
    pub age: Duration,
}

/// A change of a request, for subscribers.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// The request was accepted, or more is known about it.
    Open(Box<OpenRequest>),
    /// The request has ended.
    Ended(Arc<EndedRequest>),
}

/// Most ended requests that are kept.
pub(crate) const ENDED_MAX: usize = 500;
/// Most changes that are kept for a slow subscriber; beyond it the subscriber loses the oldest.
const BEHIND_MAX: usize = 256;

/// The requests of a server. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Requests(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    numbers: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
    ended: Mutex<VecDeque<Arc<EndedRequest>>>,
    happenings: broadcast::Sender<Happening>,
}

#[derive(Debug)]
struct Open {
    head: Arc<Mutex<RequestHead>>,
    trace: Trace,
}

/// A request's entry among the open ones, removed on drop.
#[derive(Debug)]
pub(crate) struct Place {
    requests: Requests,
    number: u64,
}

impl Default for Requests {
    fn default() -> Self {
        Self(Arc::new(Inner {
            numbers: AtomicU64::new(0),
            open: Mutex::default(),
            ended: Mutex::default(),
            happenings: broadcast::Sender::new(BEHIND_MAX),
        }))
    }
}

impl Requests {
    /// Adds a request to the open ones.
    pub(crate) fn open(&self, head: Arc<Mutex<RequestHead>>, trace: Trace) -> Place {
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        self.0.open.lock().insert(number, Open { head, trace });
        Place { requests: self.clone(), number }
    }

    /// Keeps an ended request; the oldest one leaves if there are [`ENDED_MAX`].
    pub(crate) fn ended(&self, request: Arc<EndedRequest>) {
        if self.is_watched() {
            // A send fails only when the last subscriber has gone meanwhile.
            let _ = self.0.happenings.send(Happening::Ended(Arc::clone(&request)));
        }
        let mut ended = self.0.ended.lock();
        if ended.len() >= ENDED_MAX {
            ended.pop_back();
        }
        ended.push_front(request);
    }

    /// The open requests, newest first.
    pub(crate) fn all_open(&self) -> Vec<OpenRequest> {
        let mut open: Vec<_> = self.0.open.lock().iter().map(|(number, open)| (*number, open.seen())).collect();
        open.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        open.into_iter().map(|(_, open)| open).collect()
    }

    /// The requests that have ended, newest first.
    pub(crate) fn all_ended(&self) -> Vec<Arc<EndedRequest>> {
        self.0.ended.lock().iter().cloned().collect()
    }

    /// The changes from now on.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Happening> {
        self.0.happenings.subscribe()
    }

    fn is_watched(&self) -> bool {
        self.0.happenings.receiver_count() > 0
    }
}

impl Open {
    fn seen(&self) -> OpenRequest {
        OpenRequest { head: self.head.lock().clone(), history: self.trace.history(), age: self.trace.began().elapsed() }
    }
}

impl Place {
    /// Tells subscribers that more is known about the request.
    pub(crate) fn changed(&self) {
        let requests = &self.requests;
        if !requests.is_watched() {
            return;
        }
        let seen = requests.0.open.lock().get(&self.number).map(Open::seen);
        if let Some(open) = seen {
            let _ = requests.0.happenings.send(Happening::Open(Box::new(open)));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.requests.0.open.lock().remove(&self.number);
    }
}
