//! Chat types `t2v` and `i2v`: a task is begun, and asked for.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::answers::{Answer, Payload};
use crate::script::VideoScript;
use crate::web::accounts::Account;
use crate::web::chats::Turn;
use crate::web::works::tasks::{Polled, Task};
use crate::world::{Call, World};

/// A message that asks for a video.
pub(crate) struct Wish<'a> {
    pub(crate) chat_type: &'a str,
    pub(crate) ratio: &'a str,
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
    if let Some(status) = script.hidden_by {
        return Answer::new(status, "text/html", "<html><h1>Gateway</h1></html>");
    }
    let answer = Answer::envelope(&call.request_id, &data);
    if script.lost { Answer { payload: Payload::Reset, ..answer } } else { answer }
}

/// The state of a task, on both routes.
pub(crate) fn status(world: &World, call: &Call, account: &Account) -> Answer {
    let id = call.last_segment();
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
    let content = place.map_or_else(String::new, |place| format!("{}{place}", world.media_base(call)));
    if call.is_v1() {
        return Answer::flat(200, &json!({ "chat_type": chat_type, "task_status": status, "content": content }));
    }
    let data = json!({
        "chat_type": chat_type, "task_status": status, "message": message, "content": content,
        "remaining_time": "", "sub_chat_type": null, "duration": null,
    });
    Answer::envelope(&call.request_id, &data)
}
