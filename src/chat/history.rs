//! Names for places in a conversation, by which an upstream that keeps chats finds the one to go on in.
//!
//! A [`History`] is a SHA-256 over what an answer depends on: the tools, the form of the answer, and each message up to
//! some place, as a chain. Caller and model are added where histories are looked up. Two conversations have the same
//! history only when the same was said in them. A request whose history up to its last answer is known continues that answer.
//!
//! Callers do not replay an answer byte for byte, so messages are hashed in a normal form:
//!
//! - The text of an assistant's message is all its text parts joined by line ends, without carriage returns and without
//!   white space at both ends. Other texts are hashed as they are, parts joined likewise; empty parts are left out.
//! - Arguments of calls are hashed as JSON values: neither white space nor the order of keys nor the spelling of
//!   strings and whole numbers matters. Text that is not JSON is hashed unchanged; empty text is `{}`.
//! - Ids of calls are left out, since some clients rename them. A result is hashed with the place of the call that it
//!   answers.
//! - A file is hashed by its bytes, or by its address where it is fetched only later, and by its label.
//! - Thoughts are not part of a conversation, so they are not part of its hash.

use std::borrow::Cow;
use std::collections::HashMap;

use memchr::memchr;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::chat::canonical::{arguments_text, canonical, canonical_text};
use crate::chat::conversation::{Conversation, Message, OutputFormat, Part, Role, ToolCall, ToolChoice};
use crate::chat::reply::{ReplyEvent, Text};
use crate::files::attachment::JobFile;

/// A SHA-256 digest of 32 bytes.
type Hash = [u8; 32];

/// A conversation up to some message, as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct History(Hash);

impl History {
    /// The 32 bytes of the digest, as the store keeps them.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The history with one more message: the answer.
    #[must_use]
    pub(crate) fn answered(self, answer: MessageHash) -> Self {
        self.with(answer)
    }

    fn with(self, message: MessageHash) -> Self {
        Self(Fields::new("step").bytes(&self.0).bytes(&message.0).finish())
    }
}

/// The histories of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Histories {
    /// Up to the assistant's last message, which is included; `None` when the assistant has said nothing yet.
    pub before: Option<History>,
    /// Up to the last message: the whole conversation.
    pub whole: History,
}

impl Histories {
    /// The histories of a conversation.
    #[must_use]
    pub(crate) fn of(conversation: &Conversation) -> Self {
        let head = output(Fields::new("conversation"), &conversation.output);
        let mut history = History(tools(head, conversation).finish());
        let (mut before, mut calls) = (None, Calls::default());
        let turn = conversation.turn_start();
        for (place, message) in conversation.messages.iter().enumerate() {
            history = history.with(message_hash(message, &calls));
            if let Role::Assistant { calls: made } = &message.role {
                calls.add(made);
            }
            if place + 1 == turn {
                before = Some(history);
            }
        }
        Self { before, whole: history }
    }
}

/// One message as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageHash(Hash);

/// Hashes an answer while it is shown, so that it is known by the hash of its replay.
#[derive(Clone, Debug)]
pub(crate) struct AnswerHasher {
    text: Trimmed,
    /// Name and arguments (JSON text) of each call, in order.
    calls: Vec<(String, String)>,
}

impl Default for AnswerHasher {
    fn default() -> Self {
        Self { text: Trimmed { hasher: Sha256::new(), has_text: false, space: String::new() }, calls: Vec::new() }
    }
}

impl AnswerHasher {
    /// Takes the next event that the caller is shown.
    pub(crate) fn event(&mut self, event: &ReplyEvent<'_>) {
        match event {
            ReplyEvent::Text(text) | ReplyEvent::Refusal(text) => self.text.push(*text),
            ReplyEvent::ToolCall { index, name, .. } => {
                if let Some((known, _)) = self.call(*index) {
                    known.push_str(name);
                }
            }
            ReplyEvent::ToolArguments { index, json } => {
                if let Some((_, arguments)) = self.call(*index) {
                    arguments.push_str(json);
                }
            }
            _ => {}
        }
    }

    /// The hash of the answer as it was shown.
    #[must_use]
    pub(crate) fn finish(self) -> MessageHash {
        let Self { text, calls } = self;
        let calls = calls.iter().map(|(name, arguments)| (name.as_str(), arguments.as_str()));
        assistant(text.finish(), &[], calls)
    }

    fn call(&mut self, index: u32) -> Option<&mut (String, String)> {
        let place = usize::try_from(index).ok().filter(|place| *place < CALLS_MAX)?;
        if self.calls.len() <= place {
            self.calls.resize_with(place + 1, Default::default);
        }
        self.calls.get_mut(place)
    }
}

/// Calls of one answer that are hashed; stages give no more.
const CALLS_MAX: usize = 256;

/// Text without carriage returns and without white space at both ends, hashed while it comes.
#[derive(Clone, Debug)]
struct Trimmed {
    hasher: Sha256,
    has_text: bool,
    /// White space that counts if more text follows.
    space: String,
}

impl Trimmed {
    fn push(&mut self, text: Text<'_>) {
        let is_literal = matches!(text, Text::Literal(_));
        let text = text.plain();
        // A literal without escapes, as most pieces of answers are, has no line ends at all.
        let is_plain_literal = is_literal && matches!(text, Cow::Borrowed(_));
        if is_plain_literal || memchr(b'\r', text.as_bytes()).is_none() {
            return self.piece(&text);
        }
        for piece in text.split('\r') {
            self.piece(piece);
        }
    }

    fn piece(&mut self, piece: &str) {
        let (solid, space) = piece.split_at_checked(piece.trim_end().len()).unwrap_or((piece, ""));
        if solid.is_empty() {
            if self.has_text {
                self.space.push_str(piece);
            }
            return;
        }
        let solid = if self.has_text { solid } else { solid.trim_start() };
        self.hasher.update(self.space.as_bytes());
        self.hasher.update(solid.as_bytes());
        self.has_text = true;
        self.space.clear();
        self.space.push_str(space);
    }

    /// `None` for a text that is blank.
    fn finish(self) -> Option<Hash> {
        self.has_text.then(|| self.hasher.finalize().into())
    }
}

/// The calls so far, by their ids.
#[derive(Default)]
struct Calls<'a> {
    count: usize,
    places: HashMap<&'a str, usize>,
}

impl<'a> Calls<'a> {
    fn add(&mut self, calls: &'a [ToolCall]) {
        for call in calls {
            self.places.insert(&call.id, self.count);
            self.count += 1;
        }
    }
}

fn message_hash(message: &Message, calls: &Calls<'_>) -> MessageHash {
    let parts = |fields: Fields| parts(fields, &message.parts);
    match &message.role {
        Role::System => MessageHash(parts(Fields::new("system")).finish()),
        Role::User => MessageHash(parts(Fields::new("user")).finish()),
        Role::ToolResult { call_id, name } => {
            let place = call_id.as_deref().and_then(|id| calls.places.get(id));
            let named = match place {
                Some(place) => Fields::new("result").bytes(&place.to_be_bytes()),
                None => {
                    let (id, name) = (call_id.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default());
                    Fields::new("stray result").bytes(id.as_bytes()).bytes(name.as_bytes())
                }
            };
            MessageHash(parts(named).finish())
        }
        Role::Assistant { calls } => {
            let mut text = Trimmed { hasher: Sha256::new(), has_text: false, space: String::new() };
            for part in &message.parts {
                if let Part::Text(part) = part
                    && !part.is_empty()
                {
                    text.push(Text::Plain(part));
                    text.push(Text::Plain("\n"));
                }
            }
            let files: Vec<&JobFile> = message
                .parts
                .iter()
                .filter_map(|part| match part {
                    Part::Text(_) => None,
                    Part::File(named) => Some(&named.file),
                })
                .collect();
            assistant(text.finish(), &files, calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())))
        }
    }
}

/// Texts and files in their order; texts that follow each other are one.
fn parts(mut fields: Fields, parts: &[Part]) -> Fields {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(part) if part.is_empty() => {}
            Part::Text(part) => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(part);
            }
            Part::File(named) => {
                if !text.is_empty() {
                    fields = fields.bytes(b"text").bytes(std::mem::take(&mut text).as_bytes());
                }
                fields = file(fields.bytes(b"file").bytes(named.label.as_bytes()), &named.file);
            }
        }
    }
    if text.is_empty() { fields } else { fields.bytes(b"text").bytes(text.as_bytes()) }
}

fn assistant<'a>(
    text: Option<Hash>,
    files: &[&JobFile],
    calls: impl Iterator<Item = (&'a str, &'a str)>,
) -> MessageHash {
    let mut fields = Fields::new("assistant").bytes(text.as_ref().map_or(&[], Hash::as_slice));
    for each in files {
        fields = file(fields.bytes(b"file"), each);
    }
    for (name, arguments) in calls {
        fields = fields.bytes(b"call").bytes(name.as_bytes()).bytes(arguments_text(arguments).as_bytes());
    }
    MessageHash(fields.finish())
}

fn file(fields: Fields, file: &JobFile) -> Fields {
    match file {
        JobFile::Ready(file) => fields.bytes(file.content_type.as_bytes()).bytes(file.content.hash().as_bytes()),
        JobFile::Remote(file) | JobFile::Link(file) => fields.bytes(b"address").bytes(file.url.as_bytes()),
    }
}

fn tools(mut fields: Fields, conversation: &Conversation) -> Fields {
    // Tools of which none may be called are not shown to the model.
    if conversation.tools.is_empty() || conversation.tool_choice == ToolChoice::None {
        return fields;
    }
    fields = fields.bytes(if conversation.parallel_tool_calls { b"calls" } else { b"one call" });
    for tool in &conversation.tools {
        let mut schema = String::new();
        for (key, value) in &tool.parameters {
            canonical(&Value::from(key.as_str()), &mut schema);
            canonical(value, &mut schema);
        }
        let description = tool.description.as_deref().unwrap_or_default();
        fields = fields.bytes(tool.name.as_bytes()).bytes(description.as_bytes()).bytes(schema.as_bytes());
    }
    fields
}

fn output(fields: Fields, output: &OutputFormat) -> Fields {
    match output {
        OutputFormat::Text => fields.bytes(b"text"),
        OutputFormat::JsonObject => fields.bytes(b"object"),
        OutputFormat::JsonSchema { schema, .. } => fields.bytes(b"schema").bytes(canonical_text(schema).as_bytes()),
    }
}

/// Hashes fields so that no two lists of fields have the same bytes.
struct Fields(Sha256);

impl Fields {
    fn new(kind: &str) -> Self {
        Self(Sha256::new()).bytes(kind.as_bytes())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes.len().to_be_bytes());
        self.0.update(bytes);
        self
    }

    fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::chat::conversation::ToolSpec;

    fn says(text: &str) -> Message {
        Message { role: Role::Assistant { calls: vec![] }, parts: vec![Part::Text(text.to_owned())] }
    }

    fn calling(text: &[&str], calls: &[(&str, &str, &str)]) -> Message {
        let call = |(id, name, arguments): &(&str, &str, &str)| ToolCall {
            id: (*id).to_owned(),
            name: (*name).to_owned(),
            arguments: (*arguments).to_owned(),
        };
        Message {
            role: Role::Assistant { calls: calls.iter().map(call).collect() },
            parts: text.iter().map(|text| Part::Text((*text).to_owned())).collect(),
        }
    }

    fn result(id: &str, text: &str) -> Message {
        let role = Role::ToolResult { call_id: Some(id.to_owned()), name: None };
        Message { role, parts: vec![Part::Text(text.to_owned())] }
    }

    fn user(text: &str) -> Message {
        Message::user(text.to_owned())
    }

    fn whole(messages: Vec<Message>) -> History {
        Histories::of(&Conversation::of(messages)).whole
    }

    fn shown(pieces: &[&str], calls: &[(&str, &str, &str)]) -> MessageHash {
        let mut hasher = AnswerHasher::default();
        for piece in pieces {
            hasher.event(&ReplyEvent::Text(Text::Plain(piece)));
        }
        for (index, (id, name, arguments)) in (0..).zip(calls) {
            hasher.event(&ReplyEvent::ToolCall { index, id, name });
            for piece in arguments.split_inclusive(':') {
                hasher.event(&ReplyEvent::ToolArguments { index, json: piece });
            }
            hasher.event(&ReplyEvent::ToolCallDone { index });
        }
        hasher.finish()
    }

    #[test]
    fn an_answer_is_known_by_its_replay() {
        let asked = || vec![user("Hi")];
        let known = |shown: MessageHash, replay: Message| {
            let Histories { before, .. } =
                Histories::of(&Conversation::of([asked(), vec![replay, user("And?")]].concat()));
            before == Some(whole(asked()).answered(shown))
        };
        assert!(known(shown(&["one ", "two"], &[]), says("one two")));
        assert!(known(shown(&["one two"], &[]), says("one two ")));
        assert!(known(shown(&["\n one\r\n", "\ntwo", " \n"], &[]), says("one\n\ntwo")));
        assert!(known(shown(&["one\ntwo"], &[]), calling(&["one", "two"], &[])), "parts");
        let call = [("call_1", "ls", "{\"path\": \"ü\", \"n\": 1.0}")];
        for replay in [
            calling(&[], &[("call_1", "ls", "{\"path\": \"ü\", \"n\": 1.0}")]),
            calling(&[""], &[("toolu_9", "ls", "{\"n\":1,\"path\":\"\\u00fc\"}")]),
        ] {
            assert!(known(shown(&[], &call), replay));
        }
        assert!(known(shown(&["I look."], &[("a", "ls", "")]), calling(&["I look.\n"], &[("a", "ls", "{}")])));
        for other in ["one  two", "one tw", "", "One two"]
            .map(says)
            .into_iter()
            .chain([calling(&["one two"], &[("a", "ls", "{}")]), user("one two")])
        {
            assert!(!known(shown(&["one two"], &[]), other.clone()), "{other:?}");
        }
        assert!(!known(shown(&[], &call), calling(&[], &[("call_1", "ls", "{\"path\": \"u\", \"n\": 1}")])));
        assert!(!known(shown(&[], &[("a", "ls", "{")]), calling(&[], &[("a", "ls", "{}")])), "cut arguments");
    }

    #[test]
    fn results_are_told_apart_by_their_calls() {
        let two = || calling(&[], &[("a", "ls", "{}"), ("b", "ls", "{}")]);
        let renamed = || calling(&[], &[("x", "ls", "{}"), ("y", "ls", "{}")]);
        let of = |call: Message, first: &str, second: &str| {
            whole(vec![user("Hi"), call, result(first, "1"), result(second, "2")])
        };
        assert_eq!(of(two(), "a", "b"), of(renamed(), "x", "y"));
        assert_ne!(of(two(), "a", "b"), of(two(), "b", "a"));
        assert_ne!(of(two(), "a", "b"), of(renamed(), "a", "b"));
    }

    #[test]
    fn whatever_else_differs_makes_another_history() {
        let base = || Conversation::of(vec![user("Hi")]);
        let tool = |name: &str, parameters: Value| ToolSpec {
            name: name.to_owned(),
            description: None,
            parameters: parameters.as_object().unwrap().clone(),
            parameters_at: String::new(),
            strict: None,
        };
        let with = |tools: Vec<ToolSpec>| Conversation { tools, ..base() };
        let path = || json!({"properties": {"path": {"type": "string"}}});
        let system = Message { role: Role::System, parts: vec![Part::Text("Hi".to_owned())] };
        let conversations = [
            base(),
            Conversation::of(vec![user("Hi ")]),
            Conversation::of(vec![system.clone()]),
            Conversation::of(vec![system, user("Hi")]),
            Conversation::of(vec![user("H"), user("i")]),
            with(vec![tool("ls", json!({}))]),
            with(vec![tool("ls", path())]),
            with(vec![tool("ls", json!({})), tool("pwd", json!({}))]),
            Conversation { parallel_tool_calls: false, ..with(vec![tool("ls", json!({}))]) },
            Conversation { output: OutputFormat::JsonObject, ..base() },
        ];
        let mut seen = Vec::new();
        for conversation in conversations {
            let history = Histories::of(&conversation).whole;
            assert!(!seen.contains(&history), "{conversation:?}");
            seen.push(history);
        }
        let none = Conversation { tool_choice: ToolChoice::None, ..with(vec![tool("ls", json!({}))]) };
        assert_eq!(Histories::of(&none), Histories::of(&base()), "tools that are not shown");
        let parts = Message { role: Role::User, parts: vec![Part::Text(String::new()), Part::Text("Hi".to_owned())] };
        assert_eq!(whole(vec![parts]), whole(vec![user("Hi")]));
    }

    #[test]
    fn each_answer_has_a_place_of_its_own() {
        let talk = || vec![user("a"), says("b"), user("c"), says("d"), user("e")];
        let Histories { before, whole: all } = Histories::of(&Conversation::of(talk()));
        assert_eq!(before, Some(whole(talk()[..4].to_vec())));
        assert_eq!(all, whole(talk()));
        assert_eq!(Histories::of(&Conversation::of(vec![user("a")])).before, None);
    }

    proptest! {
        #[test]
        fn however_a_text_is_cut_its_hash_is_the_same(text in "[ \r\na-cü]{0,40}", cuts in proptest::collection::vec(0_usize..40, 0..6)) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| text.floor_char_boundary((*cut).min(text.len()))).collect();
            cuts.sort_unstable();
            let (mut hasher, mut last) = (AnswerHasher::default(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                hasher.event(&ReplyEvent::Text(Text::Plain(text.get(last..cut).unwrap())));
                last = cut;
            }
            let normal = text.replace('\r', "");
            prop_assert_eq!(hasher.finish(), shown(&[normal.trim()], &[]));
        }
    }
}
