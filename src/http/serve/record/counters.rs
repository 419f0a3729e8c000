//! Counts since the start of the server, for people and monitors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counters of one server.
#[derive(Debug)]
pub(crate) struct Counters {
    began: Instant,
    requests: AtomicU64,
    open_requests: AtomicU64,
    open_streams: AtomicU64,
    connections: AtomicU64,
    /// Ended requests by the first digit of their status, from 1.
    by_class: [AtomicU64; 5],
}

impl Default for Counters {
    /// All counters at zero.
    fn default() -> Self {
        Self {
            began: Instant::now(),
            requests: AtomicU64::new(0),
            open_requests: AtomicU64::new(0),
            open_streams: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            by_class: Default::default(),
        }
    }
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Time since the start.
    pub uptime: Duration,
    /// Requests that arrived, open ones included.
    pub requests: u64,
    /// Requests whose answer has not ended.
    pub open_requests: u64,
    /// Streamed requests among the open ones.
    pub open_streams: u64,
    /// Open connections of callers.
    pub connections: u64,
    /// Ended requests by the first digit of their status, from 1.
    pub by_class: [u64; 5],
}

impl Counters {
    pub(crate) fn request_began(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.open_requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_began(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_ended(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn stream_began(&self) {
        self.open_streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn request_ended(&self, status: u16, was_stream: bool) {
        self.open_requests.fetch_sub(1, Ordering::Relaxed);
        if was_stream {
            self.open_streams.fetch_sub(1, Ordering::Relaxed);
        }
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(class) = class.and_then(|class| self.by_class.get(class)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts at this moment.
    #[must_use]
    pub(crate) fn now(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            uptime: self.began.elapsed(),
            requests: read(&self.requests),
            open_requests: read(&self.open_requests),
            open_streams: read(&self.open_streams),
            connections: read(&self.connections),
            by_class: self.by_class.each_ref().map(read),
        }
    }
}
