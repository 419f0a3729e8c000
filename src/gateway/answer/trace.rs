//! What was tried for one request, in order.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::ids::IdentityId;

/// The attempts of one request. Clones share one list; the request's log line is made from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Arc<Mutex<Vec<Step>>>);

/// One attempt, or an identity that could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Which identity.
    pub identity: IdentityId,
    /// Whether a request was sent to the upstream. An identity without a usable token is not asked.
    pub was_asked: bool,
    /// The class of the failure; `None` for the attempt that answers.
    pub failure: Option<&'static str>,
    /// What was done next; `None` for the attempt that answers.
    pub next: Option<&'static str>,
}

/// Steps that are kept of one request. With the retries that one request may make, there are never as many.
const STEPS_MAX: usize = 64;

impl Trace {
    /// Adds a step.
    pub(crate) fn note(&self, step: Step) {
        let mut steps = self.0.lock();
        if steps.len() < STEPS_MAX {
            steps.push(step);
        }
    }

    /// How many times an upstream was asked.
    #[must_use]
    pub(crate) fn attempts(&self) -> usize {
        self.0.lock().iter().filter(|step| step.was_asked).count()
    }

    /// The identity of the last step.
    #[must_use]
    pub(crate) fn last_identity(&self) -> Option<IdentityId> {
        self.0.lock().last().map(|step| step.identity.clone())
    }
}
