//! Videos in the making.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::now_ms;
use crate::script::{ErrorScript, VideoEnd, VideoScript};
use crate::web::accounts::Account;

/// One video as tests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// Id of the task.
    pub id: String,
    /// Name of the account that owns it.
    pub account: String,
    /// Id of the chat in which it was begun.
    pub chat_id: String,
    /// Chat type: `t2v` or `i2v`.
    pub chat_type: String,
    /// Number of status polls so far.
    pub polls: u32,
}

/// All videos of a run.
#[derive(Default)]
pub(crate) struct Tasks {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tasks: HashMap<String, Task>,
    /// In the order of their making.
    order: Vec<String>,
    /// Videos begun by an account on a day (Unix time in days).
    made: HashMap<(Arc<str>, u64), u64>,
}

/// A video in the making, or made.
pub(crate) struct Task {
    pub(crate) owner: Arc<str>,
    pub(crate) chat_id: String,
    pub(crate) chat_type: String,
    pub(crate) script: VideoScript,
    /// Path and query of the file.
    pub(crate) place: String,
    pub(crate) polls: u32,
}

impl Tasks {
    /// The refusal for an account that has made all the videos it may make today.
    pub(crate) fn refusal(&self, account: &Account) -> Option<ErrorScript> {
        let allowed = account.script.videos_per_day?;
        let now = now_ms() / 1000;
        let made = self.state.lock().made.get(&(Arc::clone(&account.name), now / DAY)).copied().unwrap_or(0);
        (made >= allowed).then(|| ErrorScript {
            code: "RateLimited".to_owned(),
            num: Some((DAY - now % DAY).div_ceil(3_600)),
            ..ErrorScript::default()
        })
    }

    pub(crate) fn views(&self) -> Vec<TaskView> {
        let state = self.state.lock();
        let tasks = state.order.iter().filter_map(|id| Some((id, state.tasks.get(id)?)));
        tasks
            .map(|(id, task)| TaskView {
                id: id.clone(),
                account: task.owner.to_string(),
                chat_id: task.chat_id.clone(),
                chat_type: task.chat_type.clone(),
                polls: task.polls,
            })
            .collect()
    }

    pub(crate) fn insert(&self, id: &str, task: Task) {
        let mut state = self.state.lock();
        let day = (Arc::clone(&task.owner), now_ms() / 1000 / DAY);
        *state.made.entry(day).or_default() += 1;
        state.order.push(id.to_owned());
        state.tasks.insert(id.to_owned(), task);
    }

    /// Polls a video once. The state depends on the number of polls, not on time.
    pub(crate) fn poll(&self, account: &Account, id: &str) -> Polled {
        let mut state = self.state.lock();
        let Some(task) = state.tasks.get_mut(id) else {
            return Polled::Missing;
        };
        if task.owner != account.name {
            return Polled::Foreign;
        }
        task.polls = task.polls.saturating_add(1);
        let chat_type = task.chat_type.clone();
        let is_open = task.polls <= task.script.polls;
        match &task.script.end {
            VideoEnd::Stalled => Polled::So { chat_type, status: "running", message: String::new(), place: None },
            _ if is_open => Polled::So { chat_type, status: "running", message: String::new(), place: None },
            VideoEnd::Vanished => Polled::Missing,
            VideoEnd::Failed(message) => {
                Polled::So { chat_type, status: "failed", message: message.clone(), place: None }
            }
            VideoEnd::Success => {
                let place = Some(task.place.clone());
                Polled::So { chat_type, status: "success", message: String::new(), place }
            }
        }
    }
}

/// The answer to a poll.
pub(crate) enum Polled {
    So { chat_type: String, status: &'static str, message: String, place: Option<String> },
    Missing,
    Foreign,
}

/// Length of a day in seconds.
const DAY: u64 = 86_400;
