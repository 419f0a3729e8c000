//! The queues of scripted replies, and the defaults behind them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::script::endpoint::Endpoint;
use crate::script::reply::{ScriptedFailure, ScriptedReply};
use crate::script::scenario::Scenario;

/// The account a reply is for (`None`: any caller), and its endpoint.
type Place = (Option<String>, Endpoint);

/// All scripted replies that were not used yet.
pub(crate) struct Scripts {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queues: HashMap<Place, VecDeque<Arc<ScriptedReply>>>,
    defaults: HashMap<Place, Arc<ScriptedReply>>,
}

/// Which scripted replies a call may take at this point of its handling.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Failures of the edge, which are given before the request is read.
    Edge,
    /// Any failure, of the edge or of an endpoint.
    Failing,
    /// Any reply, failures included.
    Behind,
}

impl Scripts {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let scripts = Self { state: Mutex::default() };
        for (name, replies, defaults) in scenario.scripts() {
            for (endpoint, queue) in replies {
                for reply in queue {
                    scripts.push(name, *endpoint, reply.clone());
                }
            }
            for (endpoint, reply) in defaults {
                scripts.set_default(name, *endpoint, Some(reply.clone()));
            }
        }
        scripts
    }

    pub(crate) fn push(&self, account: Option<&str>, endpoint: Endpoint, reply: ScriptedReply) {
        let place = (account.map(str::to_owned), endpoint);
        let mut state = self.state.lock();
        let queue = state.queues.entry(place).or_default();
        queue.push_back(Arc::new(reply));
    }

    pub(crate) fn set_default(&self, account: Option<&str>, endpoint: Endpoint, reply: Option<ScriptedReply>) {
        let place = (account.map(str::to_owned), endpoint);
        let mut state = self.state.lock();
        match reply {
            Some(reply) => state.defaults.insert(place, Arc::new(reply)),
            None => state.defaults.remove(&place),
        };
    }

    /// The reply for this call: queue of the account, queue of all, default of the account, default of all.
    /// A reply that does not fit the stage stays for later.
    pub(crate) fn take(&self, account: Option<&str>, endpoint: Endpoint, stage: Stage) -> Option<Arc<ScriptedReply>> {
        let fits = |reply: &ScriptedReply| match stage {
            Stage::Edge => reply.fail.as_ref().is_some_and(ScriptedFailure::is_of_the_edge),
            Stage::Failing => reply.fail.is_some(),
            Stage::Behind => true,
        };
        let own = account.map(|account| (Some(account.to_owned()), endpoint));
        let places: Vec<Place> = own.into_iter().chain([(None, endpoint)]).collect();
        let mut state = self.state.lock();
        for place in &places {
            if let Some(queue) = state.queues.get_mut(place)
                && let Some(front) = queue.front()
            {
                if !fits(front) {
                    return None;
                }
                return queue.pop_front();
            }
        }
        let mut defaults = places.iter().filter_map(|place| state.defaults.get(place));
        defaults.next().filter(|reply| fits(reply)).map(Arc::clone)
    }

    /// Number of scripted replies left in all queues.
    pub(crate) fn left(&self) -> usize {
        self.state.lock().queues.values().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_reply_is_taken_first() {
        let scripts = Scripts::new(&Scenario::default());
        let delayed = |ms: u64| ScriptedReply { delay_ms: ms, ..ScriptedReply::default() };
        let at = Endpoint::Stop;
        scripts.set_default(None, at, Some(delayed(4)));
        scripts.set_default(Some("ada"), at, Some(delayed(3)));
        scripts.push(None, at, delayed(2));
        scripts.push(Some("ada"), at, delayed(1));
        let take = |account| scripts.take(account, at, Stage::Behind).unwrap().delay_ms;
        assert_eq!(scripts.left(), 2);
        for expected in [1, 2, 3, 3] {
            assert_eq!(take(Some("ada")), expected);
        }
        assert_eq!((take(Some("bob")), take(None)), (4, 4));
    }

    #[test]
    fn the_edge_takes_only_its_own() {
        let scripts = Scripts::new(&Scenario::default());
        let at = Endpoint::Completions;
        scripts.push(None, at, ScriptedReply::error("RateLimited"));
        scripts.push(None, at, ScriptedReply::status(503));
        assert!(scripts.take(None, at, Stage::Edge).is_none());
        assert!(scripts.take(None, at, Stage::Behind).is_some());
        assert!(scripts.take(None, at, Stage::Edge).is_some());
    }
}
