//! Those that are told of each request: when it begins, and everything about it when it has ended.

use std::sync::Arc;

use crate::gateway::requests::{EndedRequest, Requests};
use crate::http::serve::counters::Counters;

/// What is kept of the requests of a server.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    /// Sums since the start, for `/health`.
    pub counters: Counters,
    /// The open requests and the last ones, for the owner.
    pub requests: Requests,
}

impl Observers {
    /// A request has ended. Called once for each, when its answer's body has ended or was dropped.
    pub(crate) fn ended(&self, request: EndedRequest, is_kept: bool) {
        self.counters.request_ended(request.status, request.head.is_streamed);
        if is_kept {
            self.requests.ended(Arc::new(request));
        }
    }
}
