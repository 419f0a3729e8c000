//! Chat types `t2v` and `i2v`: tasks, and how far they are.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::simulator::accounts::{Account, now_ms};
use crate::simulator::answers::{Answer, Payload};
use crate::simulator::chats::Turn;
use crate::simulator::endpoints::last_segment;
use crate::simulator::media_script::{VideoEnd, VideoScript};
use crate::simulator::reply::ErrorScript;
use crate::simulator::world::{Call, World};

/// One video as tests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// Its id.
    pub id: String,
    /// Who asked for it.
    pub account: String,
    /// In which chat.
    pub chat_id: String,
    /// `t2v` or `i2v`.
    pub chat_type: String,
    /// How often its owner asked how far it is.
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
    /// How many an account made on a day.
    made: HashMap<(Arc<str>, u64), u64>,
}

struct Task {
    owner: Arc<str>,
    chat_id: String,
    chat_type: String,
    script: VideoScript,
    /// Path and query of the file.
    place: String,
    polls: u32,
}

/// A message that asks for a video.
pub(crate) struct Wish<'a> {
    pub(crate) chat_type: &'a str,
    pub(crate) ratio: &'a str,
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

    fn insert(&self, id: &str, task: Task) {
        let mut state = self.state.lock();
        let day = (Arc::clone(&task.owner), now_ms() / 1000 / DAY);
        *state.made.entry(day).or_default() += 1;
        state.order.push(id.to_owned());
        state.tasks.insert(id.to_owned(), task);
    }

    /// Asks once more how far a video is. There is no clock: every question brings it on.
    fn poll(&self, account: &Account, id: &str) -> Polled {
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

enum Polled {
    So { chat_type: String, status: &'static str, message: String, place: Option<String> },
    Missing,
    Foreign,
}

/// Begins a video; the answer of the completion.
pub(crate) fn begin(
    world: &World,
    call: &Call,
    account: &Arc<Account>,
    mut turn: Turn,
    wish: &Wish<'_>,
    script: &VideoScript,
) -> Answer {
    let id = Uuid::new_v4().to_string();
    let (chat_type, chat_id) = (wish.chat_type, turn.chat_id.as_str());
    let place = world.media.video(account, (chat_type, chat_id, &id), script.bytes);
    let task = Task {
        owner: Arc::clone(&account.name),
        chat_id: chat_id.to_owned(),
        chat_type: chat_type.to_owned(),
        script: script.clone(),
        place,
        polls: 0,
    };
    world.tasks.insert(&id, task);
    let extra = json!({ "wanx": { "task_id": id } });
    let data = json!({
        "chat_id": chat_id, "parent_id": turn.parent_id, "message_id": turn.response_id,
        "messages": [{
            "role": "assistant", "content": "", "extra": extra, "done": false, "size": wish.ratio,
        }],
    });
    turn.extra = extra;
    turn.parts = Some(Value::Array(Vec::new()));
    turn.over();
    let answer = Answer::envelope(&call.request_id, &data);
    if script.lost { Answer { payload: Payload::Reset, ..answer } } else { answer }
}

/// How far a task is, on both routes.
pub(crate) fn status(world: &World, call: &Call, account: &Account) -> Answer {
    let id = last_segment(call);
    let missing = || {
        let details = "Task not found";
        if call.is_v1() {
            return Answer::flat(404, &json!({ "detail": details }));
        }
        Answer::refusal_with(&call.request_id, "Not_Found", details)
    };
    let (chat_type, status, message, place) = match world.tasks.poll(account, id) {
        Polled::So { chat_type, status, message, place } => (chat_type, status, message, place),
        Polled::Missing => return missing(),
        Polled::Foreign => {
            world.violation(call, &format!("asked for another account's task {id}"));
            return missing();
        }
    };
    let content = place.map_or_else(String::new, |place| format!("{}{place}", world.media.base(call)));
    if call.is_v1() {
        return Answer::flat(200, &json!({ "chat_type": chat_type, "task_status": status, "content": content }));
    }
    let data = json!({
        "chat_type": chat_type, "task_status": status, "message": message, "content": content,
        "remaining_time": "", "sub_chat_type": null, "duration": null,
    });
    Answer::envelope(&call.request_id, &data)
}

/// Seconds.
const DAY: u64 = 86_400;
