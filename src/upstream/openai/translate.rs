//! For upstreams that speak OpenAI's dialect themselves: the caller's body goes up with all its fields, and what
//! comes down is handed on, repaired where clients would stumble.
//!
//! Up, only what such an upstream needs is changed: the model's name, a list of messages that came as text, the
//! fields about thinking, and for the OAuth portal the form of the system message. Down, chunks get one id, one role
//! and one end.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use crate::chat::reply::{FinishReason, ReplyError, ReplyEvent, ReplySink, TokenCounts};
use crate::dialect::openai::fields::{Fields, RequestError, type_name};
use crate::dialect::openai::messages;
use crate::dialect::openai::reply::{EventSink, encode_error};
use crate::dialect::openai::wire::ErrorBody;

/// What kind of upstream a body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The portal for OAuth accounts, which wants one system message in front, as a list of cacheable parts.
    Portal,
    /// An endpoint for static keys.
    Key,
}

/// A request whose body is passed on.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayRequest {
    /// The model as asked; `None` for the default.
    pub model: Option<String>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether a stream ends with a chunk of counts.
    pub include_usage: bool,
    body: Map<String, Value>,
}

impl RelayRequest {
    /// Reads a body as far as this server has to understand it. Everything else is the upstream's business.
    ///
    /// # Errors
    /// The first fault, by the field that has it.
    pub fn parse(body: Value) -> Result<Self, RequestError> {
        let mut body = match body {
            Value::Object(body) => body,
            other => return Err(RequestError::not_an_object(type_name(&other))),
        };
        // Null means absent everywhere, and some upstreams refuse it.
        body.retain(|_, value| !value.is_null());
        let fields = Fields(&body);
        let model = fields.text("model")?.map(str::to_owned);
        if model.as_ref().is_some_and(|model| model.trim().is_empty()) {
            return Err(RequestError::invalid_value(
                "model",
                "the name of a model, or no 'model' at all for the default",
            ));
        }
        let stream = fields.flag("stream")?.unwrap_or(false);
        let include_usage = match fields.object("stream_options")? {
            Some(options) => options.flag_in("stream_options", "include_usage")?.unwrap_or(false),
            None => false,
        };
        let mut parsed = None;
        let list = messages::list(&fields, &mut parsed)?;
        messages::check_roles(list)?;
        if let Some(list) = parsed {
            body.insert("messages".to_owned(), Value::Array(list));
        }
        Ok(Self { model, stream, include_usage, body })
    }

    /// Roughly how many bytes the messages have; for estimates where the upstream does not count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.body.get("messages").map_or(0, |messages| messages.to_string().len())
    }

    /// The body for the upstream, under the name that the upstream has for the model.
    #[must_use]
    pub fn encode(&self, upstream_model: &str, profile: Profile) -> Vec<u8> {
        let mut body = self.body.clone();
        body.insert("model".to_owned(), upstream_model.into());
        thinking(&mut body, upstream_model);
        if self.stream {
            // Counts are always asked for, so that they can be counted here.
            let options = body.entry("stream_options").or_insert_with(|| json!({}));
            if let Value::Object(options) = options {
                options.insert("include_usage".to_owned(), true.into());
            }
        } else {
            body.remove("stream_options");
        }
        if profile == Profile::Portal
            && let Some(Value::Array(messages)) = body.get_mut("messages")
        {
            *messages = for_portal(std::mem::take(messages));
        }
        Value::Object(body).to_string().into_bytes()
    }
}

/// OpenAI's words about thinking into DashScope's. An explicit switch of the upstream's own wins.
fn thinking(body: &mut Map<String, Value>, model: &str) {
    // The newest models take the effort as it is, and nothing beside it.
    if model.starts_with("qwen3.8") {
        return;
    }
    let nested = body.get("reasoning").and_then(|reasoning| reasoning.get("effort")).cloned();
    let effort = body.remove("reasoning_effort").or(nested);
    body.remove("reasoning");
    body.remove("include_reasoning");
    if body.contains_key("enable_thinking") {
        return;
    }
    let (on, budget) = match effort.as_ref().and_then(Value::as_str) {
        Some("none") => (false, None),
        Some("minimal" | "low") => (true, Some(1024)),
        Some("medium") => (true, Some(8192)),
        Some("high" | "xhigh") => (true, None),
        _ => return,
    };
    body.insert("enable_thinking".to_owned(), on.into());
    if let Some(budget) = budget {
        body.entry("thinking_budget").or_insert_with(|| budget.into());
    }
}

/// All system messages as one list of cacheable parts in front, and texts of users as plain strings.
fn for_portal(messages: Vec<Value>) -> Vec<Value> {
    let ephemeral = json!({"type": "ephemeral"});
    let mut system = Vec::new();
    let mut others = Vec::new();
    for mut message in messages {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        if matches!(role, "system" | "developer") {
            match message.get_mut("content").map(Value::take) {
                Some(Value::Array(parts)) => system.extend(parts),
                Some(Value::String(text)) => system.push(json!({"type": "text", "text": text})),
                _ => {}
            }
            continue;
        }
        let texts = message.get("content").and_then(Value::as_array).and_then(|parts| texts(parts));
        if let (Some(texts), Value::Object(message)) = (texts, &mut message) {
            message.insert("content".to_owned(), texts.into());
        }
        others.push(message);
    }
    if system.is_empty() {
        // An empty part is accepted, a missing system message is not.
        system.push(json!({"type": "text", "text": ""}));
    }
    for part in &mut system {
        if let Value::Object(part) = part {
            part.entry("cache_control").or_insert_with(|| ephemeral.clone());
        }
    }
    others.insert(0, json!({"role": "system", "content": system}));
    others
}

/// The texts of parts that are nothing else.
fn texts(parts: &[Value]) -> Option<String> {
    let text = |part: &Value| (part.get("type")? == "text").then(|| part.get("text")?.as_str().map(str::to_owned))?;
    parts.iter().map(text).collect::<Option<Vec<_>>>().map(|texts| texts.join("\n"))
}

/// Reads what such an upstream answers: the events of a stream, or a whole completion.
#[derive(Debug, Default)]
pub struct RelayDecoder {
    is_finished: bool,
    has_reason: bool,
    has_content: bool,
    usage: Option<TokenCounts>,
}

impl RelayDecoder {
    /// Whether nothing more counts.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// The counts, once the upstream has told them.
    #[must_use]
    pub fn usage(&self) -> Option<TokenCounts> {
        self.usage
    }

    /// Takes the data of one event.
    ///
    /// # Errors
    /// [`ReplyError`]: unreadable, or a failure that the upstream reports.
    pub fn push(&mut self, data: &[u8], sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        let data = data.trim_ascii();
        if data.is_empty() {
            return Ok(());
        }
        if data == b"[DONE]" {
            return self.finish(sink);
        }
        let chunk: Value = serde_json::from_slice(data).map_err(|_| ReplyError::Json)?;
        if let Some(error) = refusal(&chunk) {
            return Err(error);
        }
        let is_content = self.look_at(&chunk);
        sink(ReplyEvent::Chunk { json: &chunk, is_content });
        Ok(())
    }

    /// Takes a whole completion.
    ///
    /// # Errors
    /// As [`RelayDecoder::push`]; [`ReplyError::Empty`] without a choice.
    pub fn whole(&mut self, body: &[u8], sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        let completion: Value = serde_json::from_slice(body).map_err(|_| ReplyError::Json)?;
        if let Some(error) = refusal(&completion) {
            return Err(error);
        }
        self.look_at(&completion);
        if completion.get("choices").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            return Err(ReplyError::Empty);
        }
        self.is_finished = true;
        sink(ReplyEvent::Chunk { json: &completion, is_content: true });
        sink(ReplyEvent::Finished);
        Ok(())
    }

    /// Ends the stream, by its mark or where it ended. A reason to finish makes it whole even without the mark.
    ///
    /// # Errors
    /// [`ReplyError::Truncated`] or [`ReplyError::Empty`].
    pub fn finish(&mut self, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        if self.is_finished {
            return Ok(());
        }
        match (self.has_reason, self.has_content) {
            (true, _) => {
                self.is_finished = true;
                sink(ReplyEvent::Finished);
                Ok(())
            }
            (false, true) => Err(ReplyError::Truncated),
            (false, false) => Err(ReplyError::Empty),
        }
    }

    /// Notes what has to be known of a chunk. Whether it has anything for the caller: words, or the end.
    fn look_at(&mut self, chunk: &Value) -> bool {
        let mut is_content = false;
        for choice in chunk.get("choices").and_then(Value::as_array).into_iter().flatten() {
            let is_end = choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
            let says_something = says_something(choice);
            self.has_reason |= is_end;
            self.has_content |= says_something;
            is_content |= is_end || says_something;
        }
        let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) else {
            return is_content;
        };
        let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        self.usage = Some(TokenCounts {
            prompt: count("/prompt_tokens"),
            completion: count("/completion_tokens"),
            reasoning: count("/completion_tokens_details/reasoning_tokens"),
            cached: count("/prompt_tokens_details/cached_tokens"),
        });
        is_content
    }
}

/// Whether a choice, of a chunk or of a completion, has anything for the caller.
fn says_something(choice: &Value) -> bool {
    let is_full = |value: &Value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    let delta = choice.get("delta").or_else(|| choice.get("message"));
    ["content", "reasoning_content", "tool_calls", "function_call", "refusal", "audio"]
        .iter()
        .any(|name| delta.and_then(|delta| delta.get(name)).is_some_and(is_full))
}

/// A failure in place of an answer: `{"error": …}`, or DashScope's own form.
fn refusal(value: &Value) -> Option<ReplyError> {
    let error = value.get("error").filter(|error| !error.is_null());
    let error = match error {
        Some(error) => error,
        None if value.get("code").is_some_and(Value::is_string) && value.get("choices").is_none() => value,
        None => return None,
    };
    let text = |name: &str| match error.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let code = if text("code").is_empty() { text("type") } else { text("code") };
    let details = error.as_str().map_or_else(|| text("message"), str::to_owned);
    Some(ReplyError::Refused { code, details, hours: None })
}

/// Hands on a stream, chunk by chunk, as `chat.completion.chunk` events that every client can read.
#[derive(Debug)]
pub struct RelayChunks {
    id: String,
    created: i64,
    model: String,
    include_usage: bool,
    /// The first event went out, with the role of the first choice.
    is_begun: bool,
    /// Choices whose role is out.
    with_role: HashSet<u64>,
    usage: Option<Value>,
    out: BytesMut,
}

impl RelayChunks {
    /// A stream for one request. Its chunks all carry this `id`, `created` and `model`: several upstreams, or
    /// attempts, may have a part in it.
    #[must_use]
    pub fn new(id: &str, created: i64, model: &str, include_usage: bool) -> Self {
        Self {
            id: id.to_owned(),
            created,
            model: model.to_owned(),
            include_usage,
            is_begun: false,
            with_role: HashSet::new(),
            usage: None,
            out: BytesMut::new(),
        }
    }

    fn chunk(&mut self, chunk: &Value) {
        let Value::Object(chunk) = chunk else {
            return;
        };
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(usage.clone());
        }
        let Some(choices) = chunk.get("choices").and_then(Value::as_array).filter(|choices| !choices.is_empty()) else {
            return;
        };
        let choices: Vec<Value> = choices.iter().zip(0..).map(|(choice, place)| self.choice(choice, place)).collect();
        let mut repaired = self.head_fields();
        for (name, value) in chunk {
            if !repaired.contains_key(name) && name != "usage" {
                repaired.insert(name.clone(), value.clone());
            }
        }
        repaired.insert("choices".to_owned(), choices.into());
        if self.include_usage {
            repaired.insert("usage".to_owned(), Value::Null);
        }
        write_event(&mut self.out, &Value::Object(repaired).to_string());
    }

    fn choice(&mut self, choice: &Value, place: u64) -> Value {
        let mut choice = choice.clone();
        let Value::Object(map) = &mut choice else {
            return choice;
        };
        let index = map.get("index").and_then(Value::as_u64).unwrap_or(place);
        map.insert("index".to_owned(), index.into());
        map.entry("finish_reason").or_insert(Value::Null);
        let delta = map.entry("delta").or_insert_with(|| json!({}));
        if let Value::Object(delta) = delta {
            delta.remove("role");
            if self.with_role.insert(index) {
                delta.insert("role".to_owned(), "assistant".into());
            }
        }
        choice
    }

    fn head_fields(&self) -> Map<String, Value> {
        let mut head = Map::new();
        head.insert("id".to_owned(), self.id.as_str().into());
        head.insert("object".to_owned(), "chat.completion.chunk".into());
        head.insert("created".to_owned(), self.created.into());
        head.insert("model".to_owned(), self.model.as_str().into());
        head
    }
}

impl EventSink for RelayChunks {
    fn head(&mut self) -> Bytes {
        self.is_begun = true;
        self.with_role.insert(0);
        let mut head = self.head_fields();
        let delta = json!({"role": "assistant", "content": ""});
        head.insert("choices".to_owned(), json!([{"index": 0, "delta": delta, "finish_reason": null}]));
        if self.include_usage {
            head.insert("usage".to_owned(), Value::Null);
        }
        let mut out = BytesMut::new();
        write_event(&mut out, &Value::Object(head).to_string());
        out.freeze()
    }

    fn finish(&mut self, _reason: FinishReason, _counts: Option<TokenCounts>) {
        if let Some(usage) = self.usage.take().filter(|_| self.include_usage) {
            let mut last = self.head_fields();
            last.insert("choices".to_owned(), json!([]));
            last.insert("usage".to_owned(), usage);
            write_event(&mut self.out, &Value::Object(last).to_string());
        }
        write_event(&mut self.out, "[DONE]");
    }

    fn fail(&mut self, error: &ErrorBody<'_>) {
        encode_error(error, &mut self.out);
    }

    fn take(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }
}

fn write_event(out: &mut BytesMut, data: &str) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}

impl ReplySink for RelayChunks {
    fn event(&mut self, event: ReplyEvent<'_>) {
        if let ReplyEvent::Chunk { json, .. } = event {
            self.chunk(json);
        }
    }

    fn ended(&self) -> Option<FinishReason> {
        None
    }

    fn held_bytes(&self) -> usize {
        self.out.len()
    }

    fn reset(&mut self) {
        self.out.clear();
        self.with_role.clear();
        self.with_role.extend(self.is_begun.then_some(0));
        self.usage = None;
    }
}

/// A whole completion, handed on.
#[derive(Debug, Default)]
pub struct RelayWhole(Option<Map<String, Value>>);

impl RelayWhole {
    /// The completion, with what the upstream left out.
    #[must_use]
    pub fn finish(self, id: &str, created: i64, model: &str) -> Vec<u8> {
        let mut completion = self.0.unwrap_or_default();
        if completion.get("id").and_then(Value::as_str).is_none_or(str::is_empty) {
            completion.insert("id".to_owned(), id.into());
        }
        if !completion.get("created").is_some_and(Value::is_number) {
            completion.insert("created".to_owned(), created.into());
        }
        completion.insert("object".to_owned(), "chat.completion".into());
        completion.insert("model".to_owned(), model.into());
        Value::Object(completion).to_string().into_bytes()
    }
}

impl ReplySink for RelayWhole {
    fn event(&mut self, event: ReplyEvent<'_>) {
        if let ReplyEvent::Chunk { json: Value::Object(completion), .. } = event {
            self.0 = Some(completion.clone());
        }
    }

    fn ended(&self) -> Option<FinishReason> {
        None
    }

    fn held_bytes(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        self.0 = None;
    }
}
