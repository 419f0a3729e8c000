//! The observers of each request: counters, usage, metrics, spans and the list for the owner.

use std::sync::Arc;

use crate::gateway::gallery::Gallery;
use crate::gateway::requests::{AskedFor, EndedRequest, RequestHead, Requests};
use crate::gateway::usage::UsageBook;
use crate::http::serve::record::asking::asked_for;
use crate::http::serve::record::counters::Counters;
use crate::http::serve::record::request_metrics::RequestMetrics;
use crate::http::traces::SpanSender;
use crate::pool::Now;

/// Everything that is counted or kept of requests.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    /// Sums since the start, for `/health`.
    pub counters: Counters,
    /// Sums by route, account kind and outcome, for `/metrics`.
    pub metrics: RequestMetrics,
    /// The open requests and the last ones, for the owner.
    pub requests: Requests,
    /// Receives a span of each request; `None` without a collector.
    pub spans: Option<SpanSender>,
    /// The owner's gallery; `None` where callers bring accounts of their own.
    pub gallery: Option<Gallery>,
    /// Usage of callers; `None` in tests of other parts.
    pub usage: Option<UsageBook>,
}

impl Observers {
    /// Records an ended request. Called once for each, when its answer's body has ended or was dropped.
    pub(crate) fn ended(&self, mut request: EndedRequest, is_kept: bool) {
        self.counters.request_ended(request.status, request.head.is_streamed);
        self.metrics.ended(&request);
        if let (Some(usage), Some(asked_for)) = (&self.usage, asked_once_admitted(&request.head)) {
            usage.count(&request, asked_for, Now::read().unix);
        }
        let made = std::mem::take(&mut request.history.made);
        if let (Some(gallery), false) = (&self.gallery, made.is_empty()) {
            gallery.add(made, request.head.model.as_deref().unwrap_or_default(), Now::read().unix);
        }
        if !is_kept && self.spans.is_none() {
            return;
        }
        let request = Arc::new(request);
        if let Some(spans) = &self.spans {
            spans.send(&request);
        }
        if is_kept {
            self.requests.ended(request);
        }
    }
}

/// The product that a request asked a model for, once its caller was admitted, even if it was refused before its body
/// was read.
fn asked_once_admitted(head: &RequestHead) -> Option<AskedFor> {
    let by_path = || asked_for(&head.method, &head.route).filter(|_| head.is_admitted);
    head.asked_for.or_else(by_path)
}

/// An open connection, counted until it is dropped.
pub(crate) struct CountedConnection(Arc<Observers>);

impl CountedConnection {
    /// Counts a connection that was opened.
    pub(crate) fn new(observers: &Arc<Observers>) -> Self {
        observers.counters.connection_began();
        Self(Arc::clone(observers))
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.counters.connection_ended();
    }
}
