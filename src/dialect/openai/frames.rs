//! Answers of an upstream that speaks OpenAI's dialect, put together again for a caller who speaks it too.
//!
//! The upstream's reader takes texts, ids, names and arguments out of each frame as events and hands on the rest as
//! [`ReplyEvent::Extra`]. Here they come together again, so that log probabilities, further choices and fields that
//! this version does not know reach the caller. What clients would stumble over is repaired: all chunks carry one id
//! and one model, each choice one role.

use std::collections::{BTreeMap, HashSet};

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use crate::chat::reply::{Ending, Extra, ReplyEvent, Text};
use crate::dialect::openai::wire::CompletionUsage;

/// Writes `chat.completion.chunk` events: one for each frame of the upstream, more where clients need its parts apart.
#[derive(Debug)]
pub struct FrameStream {
    /// `id`, `object`, `created` and `model` of every chunk, the same if several attempts write to the stream.
    head: Map<String, Value>,
    include_usage: bool,
    /// Whether the first event was written, with the role of the first choice.
    is_begun: bool,
    /// Indexes of the choices whose role was written.
    with_role: HashSet<u64>,
    /// Whether the first choice has its `finish_reason`.
    is_ended: bool,
    /// The calls of the first choice by `index`, and whether each has arguments.
    calls: BTreeMap<u64, bool>,
    usage: Option<Value>,
    taken: Taken,
}

impl FrameStream {
    /// A stream whose chunks all carry this `id`, `created` and `model`.
    #[must_use]
    pub fn new(id: &str, created: i64, model: &str, include_usage: bool) -> Self {
        let head = json!({"id": id, "object": "chat.completion.chunk", "created": created, "model": model});
        let head = if let Value::Object(head) = head { head } else { Map::new() };
        Self {
            head,
            include_usage,
            is_begun: false,
            with_role: HashSet::new(),
            is_ended: false,
            calls: BTreeMap::new(),
            usage: None,
            taken: Taken::default(),
        }
    }

    /// Notes that the role of the first choice went out, before any frame came.
    pub fn begin(&mut self) {
        self.is_begun = true;
        self.with_role.insert(0);
    }

    /// Takes an event; writes a chunk when a frame is complete.
    pub fn event(&mut self, event: &ReplyEvent<'_>, out: &mut BytesMut) {
        match event {
            ReplyEvent::Extra(extra) => self.frame(extra, out),
            event => self.taken.note(event),
        }
    }

    /// Writes the end: the reason if the upstream gave none, as when its policy cut the answer; the counts if the caller
    /// wants them, estimated if the upstream gave none; `[DONE]`.
    pub fn finish(&mut self, ending: &Ending, out: &mut BytesMut) {
        if !self.is_ended {
            self.chunk(json!([{"index": 0, "delta": {}, "finish_reason": ending.reason.as_str()}]), out);
        }
        if self.include_usage {
            let mut last = self.head.clone();
            last.insert("choices".to_owned(), json!([]));
            last.insert("usage".to_owned(), self.usage.take().unwrap_or_else(|| estimated(ending)));
            write_event(out, &Value::Object(last).to_string());
        }
        write_event(out, "[DONE]");
    }

    /// Writes a chunk of these choices with no other field of the upstream.
    fn chunk(&self, choices: Value, out: &mut BytesMut) {
        let mut chunk = self.head.clone();
        chunk.insert("choices".to_owned(), choices);
        if self.include_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        write_event(out, &Value::Object(chunk).to_string());
    }

    /// Begins again; the role of the first choice is not repeated.
    pub fn reset(&mut self) {
        self.with_role.clear();
        self.with_role.extend(self.is_begun.then_some(0));
        self.is_ended = false;
        self.calls.clear();
        self.usage = None;
        self.taken = Taken::default();
    }

    fn frame(&mut self, extra: &Extra<'_>, out: &mut BytesMut) {
        let frame = extra.frame;
        if let Some(usage) = frame.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(usage.clone());
        }
        let Some(choices) = frame.get("choices").and_then(Value::as_array).filter(|choices| !choices.is_empty()) else {
            self.taken = Taken::default();
            return;
        };
        let mut choices: Vec<Value> =
            choices.iter().zip(0..).map(|(choice, place)| self.choice(choice, place, extra.thoughts)).collect();
        for thoughts in choices.iter_mut().filter_map(thoughts_apart) {
            self.chunk(json!([thoughts]), out);
        }
        for choice in choices.iter_mut().filter(|choice| choice.get("index").and_then(Value::as_u64) == Some(0)) {
            self.note_calls(choice);
            for piece in self.before_end(choice) {
                self.chunk(json!([piece]), out);
            }
        }
        let mut chunk = self.head.clone();
        for (name, value) in frame {
            if !chunk.contains_key(name) && name != "usage" && name != "choices" {
                chunk.insert(name.clone(), value.clone());
            }
        }
        chunk.insert("choices".to_owned(), choices.into());
        if self.include_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        write_event(out, &Value::Object(chunk).to_string());
    }

    fn choice(&mut self, choice: &Value, place: u64, thoughts: &str) -> Value {
        let mut choice = choice.clone();
        let Value::Object(map) = &mut choice else {
            return choice;
        };
        let index = map.get("index").and_then(Value::as_u64).unwrap_or(place);
        map.insert("index".to_owned(), index.into());
        let reason = map.entry("finish_reason").or_insert(Value::Null);
        self.is_ended |= index == 0 && reason.is_string();
        if let Value::Object(delta) = map.entry("delta").or_insert_with(|| json!({})) {
            delta.shift_remove("role");
            if self.with_role.insert(index) {
                delta.insert("role".to_owned(), "assistant".into());
            }
            if index == 0 {
                std::mem::take(&mut self.taken).give_back(delta, thoughts);
            }
        }
        choice
    }
}

impl FrameStream {
    fn note_calls(&mut self, choice: &Value) {
        let calls = choice.pointer("/delta/tool_calls").and_then(Value::as_array);
        for call in calls.into_iter().flatten() {
            let Some(index) = call.get("index").and_then(Value::as_u64) else { continue };
            let has_arguments = !has_no_arguments(call);
            if self.calls.len() < CALLS_MAX || self.calls.contains_key(&index) {
                *self.calls.entry(index).or_default() |= has_arguments;
            }
        }
    }

    /// Takes out what has to go out before the end of the first choice if it has calls without arguments: what the last
    /// frame says itself, then the empty object for each of them. Clients read the joined arguments as JSON.
    fn before_end(&mut self, choice: &mut Value) -> Vec<Value> {
        if !matches!(choice.get("finish_reason").and_then(Value::as_str), Some("stop" | "tool_calls")) {
            return Vec::new();
        }
        let silent = std::mem::take(&mut self.calls).into_iter().filter(|(_, has_arguments)| !has_arguments);
        let silent: Vec<Value> =
            silent.map(|(index, _)| json!({"index": index, "function": {"arguments": NO_ARGUMENTS}})).collect();
        let Some(delta) = choice.get_mut("delta").filter(|_| !silent.is_empty()) else { return Vec::new() };
        let said = std::mem::replace(delta, json!({}));
        [said, json!({ "tool_calls": silent })]
            .into_iter()
            .filter(|delta| *delta != json!({}))
            .map(|delta| json!({"index": 0, "delta": delta, "finish_reason": null}))
            .collect()
    }
}

/// Puts a `chat.completion` together from one frame and its events.
#[derive(Debug, Default)]
pub struct FrameWhole {
    frame: Option<Map<String, Value>>,
    /// The field of the message that held the thoughts, such as `reasoning_content`.
    thoughts: &'static str,
    taken: Taken,
}

impl FrameWhole {
    /// Takes the next event: a frame, or a text that was taken out of one.
    pub fn event(&mut self, event: &ReplyEvent<'_>) {
        match event {
            ReplyEvent::Extra(extra) => (self.frame, self.thoughts) = (Some(extra.frame.clone()), extra.thoughts),
            event => self.taken.note(event),
        }
    }

    /// The completion as JSON, with the required fields that the upstream left out.
    #[must_use]
    pub fn finish(self, id: &str, created: i64, model: &str, ending: &Ending) -> Vec<u8> {
        let mut completion = self.frame.unwrap_or_default();
        let mut taken = Some(self.taken);
        for (choice, place) in
            completion.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten().zip(0..)
        {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(place);
            if let (0, Some(Value::Object(message))) = (index, choice.get_mut("message"))
                && let Some(taken) = taken.take()
            {
                taken.give_back(message, self.thoughts);
            }
            fill_arguments(choice);
            fill_fields(choice, index);
            let ends = choice.get("finish_reason").is_some_and(Value::is_string);
            let calls = choice.pointer("/message/tool_calls").and_then(Value::as_array);
            let reason = if calls.is_some_and(|calls| !calls.is_empty()) { "tool_calls" } else { "stop" };
            if let Some(choice) = choice.as_object_mut().filter(|_| !ends) {
                choice.insert("finish_reason".to_owned(), reason.into());
            }
        }
        if completion.get("id").and_then(Value::as_str).is_none_or(str::is_empty) {
            completion.insert("id".to_owned(), id.into());
        }
        if !completion.get("created").is_some_and(Value::is_number) {
            completion.insert("created".to_owned(), created.into());
        }
        if completion.get("usage").and_then(Value::as_object).is_none_or(Map::is_empty) {
            completion.insert("usage".to_owned(), estimated(ending));
        }
        completion.insert("object".to_owned(), "chat.completion".into());
        completion.insert("model".to_owned(), model.into());
        Value::Object(completion).to_string().into_bytes()
    }

    /// Bytes of the frame and its texts in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.taken.bytes()
    }
}

/// The texts and calls that were taken out of the current frame.
#[derive(Debug, Default)]
struct Taken {
    content: String,
    reasoning: String,
    refusal: String,
    /// Tool calls by `index`.
    calls: BTreeMap<u32, TakenCall>,
}

#[derive(Debug, Default)]
struct TakenCall {
    id: String,
    name: String,
    arguments: String,
}

impl Taken {
    fn note(&mut self, event: &ReplyEvent<'_>) {
        let append = |text: &Text<'_>, to: &mut String| text.append_to(to);
        match event {
            ReplyEvent::Text(text) => append(text, &mut self.content),
            ReplyEvent::Reasoning(text) => append(text, &mut self.reasoning),
            ReplyEvent::Refusal(text) => append(text, &mut self.refusal),
            ReplyEvent::ToolCall { index, id, name } => {
                let call = self.call(*index);
                call.id.push_str(id);
                call.name.push_str(name);
            }
            ReplyEvent::ToolArguments { index, json } => self.call(*index).arguments.push_str(json),
            _ => {}
        }
    }

    fn call(&mut self, index: u32) -> &mut TakenCall {
        self.calls.entry(index).or_default()
    }

    /// Puts everything back into the delta or message that it came from, thoughts into their former field.
    fn give_back(self, message: &mut Map<String, Value>, thoughts: &str) {
        for (key, text) in [("content", self.content), (thoughts, self.reasoning), ("refusal", self.refusal)] {
            if !text.is_empty() {
                message.insert(key.to_owned(), text.into());
            }
        }
        let Some(Value::Array(entries)) = message.get_mut("tool_calls") else {
            return;
        };
        for (entry, place) in entries.iter_mut().zip(0_u64..) {
            let index = entry.get("index").and_then(Value::as_u64).unwrap_or(place);
            let Some(call) = u32::try_from(index).ok().and_then(|index| self.calls.get(&index)) else { continue };
            let Value::Object(entry) = entry else { continue };
            if !call.id.is_empty() {
                entry.insert("id".to_owned(), call.id.as_str().into());
            }
            if let Value::Object(function) = entry.entry("function").or_insert_with(|| json!({})) {
                for (key, text) in [("name", &call.name), ("arguments", &call.arguments)] {
                    if !text.is_empty() {
                        function.insert(key.to_owned(), text.as_str().into());
                    }
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        let calls: usize = self.calls.values().map(|call| call.name.len() + call.arguments.len()).sum();
        self.content.len() + self.reasoning.len() + self.refusal.len() + calls
    }
}

/// Takes the thoughts out of a choice whose delta has text as well, for a chunk before it: clients end their block of
/// thoughts at the first text.
fn thoughts_apart(choice: &mut Value) -> Option<Value> {
    let index = choice.get("index").cloned()?;
    let Value::Object(delta) = choice.get_mut("delta")? else { return None };
    let is_full = |name: &str| delta.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let fields = ["reasoning_content", "reasoning"];
    if !is_full("content") || !fields.into_iter().any(is_full) {
        return None;
    }
    let moved = ["role"].into_iter().chain(fields).filter_map(|name| delta.remove_entry(name));
    let mut thoughts: Map<String, Value> = moved.collect();
    thoughts.insert("content".to_owned(), Value::Null);
    Some(json!({"index": index, "delta": thoughts, "finish_reason": null}))
}

/// `usage` by this server's own count.
fn estimated(ending: &Ending) -> Value {
    // Plain numbers always serialise.
    serde_json::to_value(CompletionUsage::from(&ending.usage)).unwrap_or_default()
}

/// Gives a whole choice the fields that typed clients require.
fn fill_fields(choice: &mut Value, index: u64) {
    let Value::Object(choice) = choice else { return };
    choice.insert("index".to_owned(), index.into());
    choice.entry("logprobs").or_insert(Value::Null);
    let Value::Object(message) = choice.entry("message").or_insert_with(|| json!({})) else { return };
    message.insert("role".to_owned(), "assistant".into());
    message.entry("content").or_insert(Value::Null);
    message.entry("refusal").or_insert(Value::Null);
}

/// Gives calls without arguments the empty object, but for the last call of an answer that was cut.
fn fill_arguments(choice: &mut Value) {
    let is_cut = matches!(choice.get("finish_reason").and_then(Value::as_str), Some("length" | "content_filter"));
    let Some(calls) = choice.pointer_mut("/message/tool_calls").and_then(Value::as_array_mut) else { return };
    let complete = calls.len().saturating_sub(usize::from(is_cut));
    for call in calls.iter_mut().take(complete).filter(|call| has_no_arguments(call)) {
        if let Some(Value::Object(function)) = call.get_mut("function") {
            function.insert("arguments".to_owned(), NO_ARGUMENTS.into());
        }
    }
}

/// Whether a call, or a piece of one, has no arguments at all.
fn has_no_arguments(call: &Value) -> bool {
    call.pointer("/function/arguments").is_none_or(|json| json.is_null() || json.as_str() == Some(""))
}

/// Arguments of a call without arguments.
const NO_ARGUMENTS: &str = "{}";
/// The most tool calls of a stream that are looked after.
const CALLS_MAX: usize = 256;

fn write_event(out: &mut BytesMut, data: &str) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}
