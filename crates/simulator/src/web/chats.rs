//! The chats of all accounts, their messages, and which of them is busy with an answer.
//!
//! One file, although long: a turn changes the fields of its chat, and no other file may.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::now_ms;

/// One chat as tests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatView {
    /// Id of the chat (UUID).
    pub id: String,
    /// Name of the account that owns it.
    pub account: String,
    /// Title, as it was created; `New Chat` without one.
    pub title: String,
    /// Whether it existed before the run.
    pub is_old: bool,
    /// Whether an answer is running in it.
    pub is_busy: bool,
    /// Its messages as (role, content).
    pub messages: Vec<(String, String)>,
}

/// The chats of all accounts, by id.
pub(crate) struct Chats {
    chats: Mutex<HashMap<String, Chat>>,
    linger: Duration,
    created: AtomicUsize,
}

struct Chat {
    id: String,
    owner: Arc<str>,
    title: String,
    chat_type: String,
    models: Value,
    is_old: bool,
    /// Position in the order of creation, from 0.
    place: usize,
    /// Creation, in Unix seconds.
    created_at: u64,
    updated_at: u64,
    messages: Vec<Message>,
    running: Option<Running>,
}

struct Message {
    id: String,
    parent: Option<String>,
    role: &'static str,
    content: String,
    model: String,
    chat_type: String,
    files: Value,
    /// `content_list` of the message; `None`: the content of an answer as one part.
    parts: Option<Value>,
    extra: Value,
    /// Number of reads that still show the message empty.
    late_reads: u32,
    /// Time of the message, in Unix seconds.
    at: u64,
}

struct Running {
    response_id: String,
    stop: CancellationToken,
    /// When the answer stops occupying the chat; `None` while its reader is connected.
    ends_at: Option<Instant>,
}

/// The outcome of a deletion.
pub(crate) enum Deleted {
    /// The chat was deleted.
    Done {
        /// Whether it existed before the run.
        was_old: bool,
    },
    /// No chat has this id.
    Missing,
    /// It belongs to another account.
    Foreign,
}

/// Reasons why a message is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TurnRefused {
    NoSuchChat,
    ForeignChat,
    NoSuchParent,
    Busy,
}

/// One message to a chat.
pub(crate) struct Asked {
    pub(crate) chat_id: String,
    pub(crate) parent_id: Option<String>,
    pub(crate) content: String,
    pub(crate) model: String,
    pub(crate) chat_type: String,
    /// `files[]` as they came.
    pub(crate) files: Value,
}

/// An answer that is running in a chat. Dropped early, it goes on occupying the chat for a while.
pub(crate) struct Turn {
    chats: Arc<Chats>,
    pub(crate) chat_id: String,
    /// The id of the stored user message.
    pub(crate) parent_id: String,
    pub(crate) response_id: String,
    pub(crate) stop: CancellationToken,
    pub(crate) answer: String,
    /// `content_list` of the answer; `None`: the answer as one part.
    pub(crate) parts: Option<Value>,
    pub(crate) extra: Value,
    /// Number of reads of the chat that still show the answer empty.
    pub(crate) late_reads: u32,
    pub(crate) is_over: bool,
}

impl Chats {
    pub(crate) fn new(linger: Duration) -> Self {
        Self { chats: Mutex::default(), linger, created: AtomicUsize::new(0) }
    }

    /// Creates a chat with the title, type and models of the body; returns its id.
    pub(crate) fn create(&self, owner: &Arc<str>, new: &Value) -> String {
        let text = |key: &str, or: &str| {
            let text = new.get(key).and_then(Value::as_str).unwrap_or(or);
            text.to_owned()
        };
        let now = now_ms() / 1000;
        self.insert(Chat {
            id: Uuid::new_v4().to_string(),
            owner: Arc::clone(owner),
            title: text("title", "New Chat"),
            chat_type: text("chat_type", "t2t"),
            models: new.get("models").cloned().unwrap_or_default(),
            is_old: false,
            place: 0,
            created_at: now,
            updated_at: now,
            messages: Vec::new(),
            running: None,
        })
    }

    /// A chat that the account had long before.
    pub(crate) fn create_old(&self, owner: &Arc<str>, place: usize) {
        let age = u64::try_from(place + 1).unwrap_or(1) * 86_400;
        let at = (now_ms() / 1000).saturating_sub(age);
        let question = Message {
            id: Uuid::new_v4().to_string(),
            parent: None,
            role: "user",
            content: format!("What did I want to remember about trip {}?", place + 1),
            model: "qwen3-max".to_owned(),
            chat_type: "t2t".to_owned(),
            files: json!([]),
            parts: None,
            extra: json!({}),
            late_reads: 0,
            at,
        };
        let answer = Message {
            id: Uuid::new_v4().to_string(),
            parent: Some(question.id.clone()),
            role: "assistant",
            content: "That you packed an umbrella and never needed it.".to_owned(),
            model: "qwen3-max".to_owned(),
            chat_type: "t2t".to_owned(),
            files: json!([]),
            parts: None,
            extra: json!({}),
            late_reads: 0,
            at,
        };
        self.insert(Chat {
            id: Uuid::new_v4().to_string(),
            owner: Arc::clone(owner),
            title: format!("Trip {}", place + 1),
            chat_type: "t2t".to_owned(),
            models: json!(["qwen3-max"]),
            is_old: true,
            place: 0,
            created_at: at,
            updated_at: at + 20,
            messages: vec![question, answer],
            running: None,
        });
    }

    fn insert(&self, mut chat: Chat) -> String {
        let id = chat.id.clone();
        chat.place = self.created.fetch_add(1, Ordering::SeqCst);
        self.chats.lock().insert(id.clone(), chat);
        id
    }

    /// One page of an account's list, newest first; pages count from 1.
    pub(crate) fn page(&self, owner: &str, page: usize, size: usize) -> Value {
        let chats = self.chats.lock();
        let mut own: Vec<_> = chats.values().filter(|chat| *chat.owner == *owner).collect();
        own.sort_by_key(|chat| std::cmp::Reverse((chat.created_at, chat.place)));
        let skipped = page.saturating_sub(1).saturating_mul(size);
        let entries = own.into_iter().skip(skipped).take(size).map(|chat| {
            json!({
                "id": chat.id, "title": chat.title, "updated_at": chat.updated_at,
                "created_at": chat.created_at, "chat_type": chat.chat_type, "models": chat.models,
                "pinned": false, "archived": false, "folder_id": null, "project_id": null,
            })
        });
        Value::Array(entries.collect())
    }

    /// One chat in full; `None` if the account has none of this id.
    pub(crate) fn read(&self, owner: &str, id: &str) -> Option<Value> {
        let mut chats = self.chats.lock();
        let chat = chats.get_mut(id).filter(|chat| *chat.owner == *owner)?;
        let messages: Vec<_> = chat.messages.iter().map(|one| chat.message(one)).collect();
        for message in &mut chat.messages {
            message.late_reads = message.late_reads.saturating_sub(1);
        }
        let by_id: Map<_, _> =
            messages.iter().filter_map(|one| Some((one.get("id")?.as_str()?.to_owned(), one.clone()))).collect();
        let current = chat.messages.last().map(|last| last.id.clone());
        Some(json!({
            "id": chat.id, "title": chat.title, "chat_type": chat.chat_type, "models": chat.models,
            "created_at": chat.created_at, "updated_at": chat.updated_at, "currentId": current,
            "chat": {
                "messages": messages,
                "history": { "currentId": current, "messages": by_id },
            },
        }))
    }

    pub(crate) fn delete(&self, owner: &str, id: &str) -> Deleted {
        let mut chats = self.chats.lock();
        let Some(chat) = chats.get(id) else {
            return Deleted::Missing;
        };
        if *chat.owner != *owner {
            return Deleted::Foreign;
        }
        let was_old = chat.is_old;
        chats.remove(id);
        Deleted::Done { was_old }
    }

    /// Deletes all chats of an account; returns their number and how many of them were old.
    pub(crate) fn delete_all(&self, owner: &str) -> (u64, u64) {
        let mut gone = (0, 0);
        self.chats.lock().retain(|_, chat| {
            let is_theirs = *chat.owner == *owner;
            gone.0 += u64::from(is_theirs);
            gone.1 += u64::from(is_theirs && chat.is_old);
            !is_theirs
        });
        gone
    }

    /// The chat type of a chat without messages.
    pub(crate) fn type_of_unused(&self, id: &str) -> Option<String> {
        let chats = self.chats.lock();
        let chat = chats.get(id).filter(|chat| chat.messages.is_empty())?;
        Some(chat.chat_type.clone())
    }

    /// Whether something was said in a chat.
    pub(crate) fn is_used(&self, id: &str) -> bool {
        self.chats.lock().get(id).is_some_and(|chat| !chat.messages.is_empty())
    }

    /// The reason for which a message would be refused; `None` if it would be accepted.
    pub(crate) fn would_refuse(&self, owner: &str, asked: &Asked) -> Option<TurnRefused> {
        match self.chats.lock().get(&asked.chat_id) {
            Some(chat) => chat.admit(owner, asked).err(),
            None => Some(TurnRefused::NoSuchChat),
        }
    }

    /// Stores a message and begins its answer.
    ///
    /// # Errors
    /// The first of the upstream's checks that fails.
    pub(crate) fn begin(
        self: &Arc<Self>,
        owner: &str,
        asked: &Asked,
        response_id: String,
    ) -> Result<Turn, TurnRefused> {
        let mut chats = self.chats.lock();
        let chat = chats.get_mut(&asked.chat_id);
        let chat = chat.ok_or(TurnRefused::NoSuchChat)?;
        chat.admit(owner, asked)?;
        let parent_id = Uuid::new_v4().to_string();
        let at = now_ms() / 1000;
        for (id, parent, role, content, files) in [
            (&parent_id, asked.parent_id.as_ref(), "user", &*asked.content, &asked.files),
            (&response_id, Some(&parent_id), "assistant", "", &json!([])),
        ] {
            chat.messages.push(Message {
                id: id.clone(),
                parent: parent.cloned(),
                role,
                content: content.to_owned(),
                model: asked.model.clone(),
                chat_type: asked.chat_type.clone(),
                files: files.clone(),
                parts: None,
                extra: json!({}),
                late_reads: 0,
                at,
            });
        }
        chat.updated_at = at.max(chat.created_at + 1);
        let stop = CancellationToken::new();
        chat.running = Some(Running { response_id: response_id.clone(), stop: stop.clone(), ends_at: None });
        Ok(Turn {
            chats: Arc::clone(self),
            chat_id: asked.chat_id.clone(),
            parent_id,
            response_id,
            stop,
            answer: String::new(),
            parts: None,
            extra: json!({}),
            late_reads: 0,
            is_over: false,
        })
    }

    /// The messages before a turn as (role, content), oldest first.
    pub(crate) fn before(&self, turn: &Turn) -> Vec<(&'static str, String)> {
        let chats = self.chats.lock();
        let mut said = chats.get(&turn.chat_id).map(|chat| chat.path(&turn.parent_id)).unwrap_or_default();
        said.pop();
        said
    }

    /// Stops the answer that runs in a chat; false if the account has no such chat.
    pub(crate) fn stop(&self, owner: &str, id: &str) -> bool {
        let mut chats = self.chats.lock();
        let Some(chat) = chats.get_mut(id).filter(|chat| *chat.owner == *owner) else {
            return false;
        };
        if let Some(running) = chat.running.take() {
            running.stop.cancel();
        }
        true
    }

    /// The messages of any chat that lead to this one, itself included, oldest first, by role.
    pub(crate) fn path(&self, message_id: &str) -> Option<Vec<(&'static str, String)>> {
        let chats = self.chats.lock();
        let chat = chats.values().find(|chat| chat.messages.iter().any(|one| one.id == message_id))?;
        Some(chat.path(message_id))
    }

    pub(crate) fn views(&self, owner: Option<&str>) -> Vec<ChatView> {
        let chats = self.chats.lock();
        let mut wanted: Vec<_> =
            chats.values().filter(|chat| owner.is_none_or(|owner| *chat.owner == *owner)).collect();
        wanted.sort_by_key(|chat| chat.place);
        wanted.into_iter().map(Chat::view).collect()
    }
}

impl Chat {
    fn admit(&self, owner: &str, asked: &Asked) -> Result<(), TurnRefused> {
        if *self.owner != *owner {
            return Err(TurnRefused::ForeignChat);
        }
        if let Some(parent) = &asked.parent_id {
            let mut answers = self.messages.iter().filter(|one| one.role == "assistant");
            if !answers.any(|one| one.id == *parent) {
                return Err(TurnRefused::NoSuchParent);
            }
        }
        if self.is_busy() {
            return Err(TurnRefused::Busy);
        }
        Ok(())
    }

    /// The messages that lead to this one, itself included, oldest first.
    fn path(&self, message_id: &str) -> Vec<(&'static str, String)> {
        let of_id = |id: &str| self.messages.iter().find(|message| message.id == id);
        let parent = |message: &&Message| message.parent.as_deref().and_then(of_id);
        let path = std::iter::successors(of_id(message_id), parent);
        let mut path: Vec<_> = path.map(|message| (message.role, message.content.clone())).collect();
        path.reverse();
        path
    }

    fn is_busy(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|one| one.ends_at.is_none_or(|end| end > Instant::now()))
    }

    fn view(&self) -> ChatView {
        let messages = self.messages.iter();
        ChatView {
            id: self.id.clone(),
            account: self.owner.to_string(),
            title: self.title.clone(),
            is_old: self.is_old,
            is_busy: self.is_busy(),
            messages: messages.map(|one| (one.role.to_owned(), one.content.clone())).collect(),
        }
    }

    fn message(&self, message: &Message) -> Value {
        let children: Vec<_> = self
            .messages
            .iter()
            .filter(|other| other.parent.as_ref() == Some(&message.id))
            .map(|other| other.id.as_str())
            .collect();
        let is_late = message.late_reads > 0;
        let content = if is_late { "" } else { &*message.content };
        let parts = if is_late {
            json!([])
        } else if let Some(parts) = &message.parts {
            parts.clone()
        } else if message.role == "assistant" {
            json!([{
                "phase": "answer", "content": message.content, "status": "finished", "role": "assistant",
                "extra": null, "usage": {},
            }])
        } else {
            Value::Null
        };
        json!({
            "id": message.id, "role": message.role, "content": content, "parentId": message.parent,
            "childrenIds": children, "timestamp": message.at, "models": [message.model],
            "modelName": message.model, "chat_type": message.chat_type, "files": message.files,
            "content_list": parts, "reasoning_content": null, "extra": message.extra,
        })
    }
}

impl Turn {
    /// The answer is over and the chat free.
    pub(crate) fn over(&mut self) {
        self.settle(None);
    }

    fn settle(&mut self, linger: Option<Duration>) {
        if self.is_over {
            return;
        }
        self.is_over = true;
        let mut chats = self.chats.chats.lock();
        let Some(chat) = chats.get_mut(&self.chat_id) else {
            return;
        };
        let mut stored = chat.messages.iter_mut();
        if let Some(message) = stored.find(|one| one.id == self.response_id) {
            message.content = std::mem::take(&mut self.answer);
            message.parts = self.parts.take();
            message.extra = self.extra.take();
            message.late_reads = self.late_reads;
        }
        let is_mine = |one: &Running| one.response_id == self.response_id;
        if !chat.running.as_ref().is_some_and(is_mine) {
            return;
        }
        match (linger, &mut chat.running) {
            (Some(linger), Some(running)) => running.ends_at = Some(Instant::now() + linger),
            _ => chat.running = None,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let linger = self.chats.linger;
        self.settle(Some(linger));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(chat_id: &str, parent: Option<&str>) -> Asked {
        Asked {
            chat_id: chat_id.to_owned(),
            parent_id: parent.map(str::to_owned),
            content: "hello".to_owned(),
            model: "m".to_owned(),
            chat_type: "t2t".to_owned(),
            files: json!([]),
        }
    }

    #[test]
    fn one_answer_at_a_time() {
        let chats = Arc::new(Chats::new(Duration::from_secs(60)));
        let (ada, bob): (Arc<str>, Arc<str>) = ("ada".into(), "bob".into());
        let id = chats.create(&ada, &json!({}));
        let begin = |owner: &str, parent: Option<&str>, response: &str| {
            chats.begin(owner, &asked(&id, parent), response.to_owned())
        };
        let mut turn = begin(&ada, None, "r1").ok().unwrap();
        assert_eq!(begin(&bob, None, "x").err(), Some(TurnRefused::ForeignChat));
        assert_eq!(begin(&ada, None, "x").err(), Some(TurnRefused::Busy));
        assert_eq!(begin(&ada, Some("r0"), "x").err(), Some(TurnRefused::NoSuchParent));
        turn.over();
        drop(begin(&ada, Some("r1"), "r2").ok().unwrap());
        assert_eq!(begin(&ada, None, "x").err(), Some(TurnRefused::Busy), "it lingers");
        assert!(chats.stop(&ada, &id) && !chats.stop(&bob, &id));
        assert!(begin(&ada, Some("r2"), "r3").is_ok());
        assert_eq!(chats.views(Some("ada"))[0].messages.len(), 6);
    }
}
