//! Answers of an upstream that speaks OpenAI's dialect, into reply events.
//!
//! Texts, tool calls and refusals of the first choice become events. The rest of each frame follows them as
//! [`ReplyEvent::Extra`], so that a caller of the same dialect loses nothing.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::chat::reply::{Extra, FinishReason, ReplyError, ReplyEvent, Text, TokenCounts};
use crate::upstream::classify::is_challenge;

/// Decodes one answer: the events of a stream, or a whole completion.
#[derive(Debug, Default)]
pub(crate) struct ChatDecoder {
    is_finished: bool,
    /// Whether the upstream gave the answer up.
    is_aborted: bool,
    /// The reason why the first choice ended; `None` before.
    reason: Option<FinishReason>,
    has_content: bool,
    /// Whether anything but thoughts was said.
    has_answer: bool,
    usage: Option<TokenCounts>,
    /// Calls that have begun, to end them with the answer.
    calls: Vec<Call>,
    /// Choices after the first that have ended.
    ended: Vec<u64>,
    /// The first half of a character, whose second half may be in the next frame.
    half: Option<u16>,
}

/// A tool call that has begun.
#[derive(Debug)]
struct Call {
    index: u32,
    id: String,
    name: String,
}

impl ChatDecoder {
    /// Whether nothing more counts.
    #[must_use]
    pub(crate) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// The counts, once the upstream has told them.
    #[must_use]
    pub(crate) fn usage(&self) -> Option<TokenCounts> {
        self.usage
    }

    /// Takes the data of one event.
    ///
    /// # Errors
    /// [`ReplyError`]: unreadable, or a failure that the upstream reports.
    pub(crate) fn push(&mut self, data: &[u8], sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        let data = data.trim_ascii();
        if data.is_empty() || self.is_finished {
            return Ok(());
        }
        if data == b"[DONE]" {
            return self.finish(sink);
        }
        let frame = read(data, &mut self.half)?;
        self.frame(frame, "delta", sink)
    }

    /// Takes a whole completion.
    ///
    /// # Errors
    /// As [`ChatDecoder::push`]; [`ReplyError::Empty`] for a completion that says nothing, [`ReplyError::Truncated`] for
    /// the beginning of one, [`ReplyError::Challenged`] for a word of the risk engine in its place.
    pub(crate) fn whole(&mut self, body: &[u8], sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        if body.trim_ascii().is_empty() {
            return Err(ReplyError::Empty);
        }
        let is_torn = || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err_and(|error| error.is_eof());
        let completion = read(body, &mut self.half).map_err(|error| match error {
            ReplyError::Json if is_torn() => ReplyError::Truncated,
            error => error,
        })?;
        if completion.get("choices").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            let is_challenged = is_challenge(&Value::Object(completion));
            return Err(if is_challenged { ReplyError::Challenged } else { ReplyError::Empty });
        }
        self.frame(completion, "message", sink)?;
        self.reason = self.reason.or(Some(FinishReason::Stop));
        self.finish(sink)
    }

    /// Ends the stream, by its mark or where it ended. A reason to finish makes it whole even without the mark.
    ///
    /// # Errors
    /// [`ReplyError::Truncated`] or [`ReplyError::Empty`].
    pub(crate) fn finish(&mut self, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        if self.is_finished {
            return Ok(());
        }
        match self.reason {
            None if self.has_content => Err(ReplyError::Truncated),
            None => Err(ReplyError::Empty),
            // A limit or a policy may leave nothing to say; any other answer says something, and thoughts are none.
            Some(FinishReason::Stop | FinishReason::ToolCalls) if !self.has_answer => Err(ReplyError::Empty),
            Some(reason) => {
                let mut calls = std::mem::take(&mut self.calls);
                if matches!(reason, FinishReason::Length | FinishReason::ContentFilter) {
                    // The cut may have gone through the arguments of the last one.
                    calls.pop();
                }
                for call in calls {
                    sink(ReplyEvent::ToolCallDone { index: call.index });
                }
                self.is_finished = true;
                sink(ReplyEvent::Finished { reason });
                Ok(())
            }
        }
    }

    /// Reads a chunk or a completion, whose choices have what is said under `key`.
    ///
    /// # Errors
    /// [`ReplyError::Truncated`]: the upstream gave up.
    fn frame(
        &mut self,
        mut frame: Map<String, Value>,
        key: &str,
        sink: &mut impl FnMut(ReplyEvent<'_>),
    ) -> Result<(), ReplyError> {
        if let Some(usage) = frame.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(counts(usage));
        }
        let answer_id = frame.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut is_content = false;
        let mut thoughts = THOUGHTS;
        for (choice, place) in frame.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten().zip(0..) {
            is_content |= self.choice(choice, place, key, &answer_id, &mut thoughts, sink);
        }
        sink(ReplyEvent::Extra(Extra { frame: &frame, is_content, thoughts }));
        if self.is_aborted { Err(ReplyError::Truncated) } else { Ok(()) }
    }

    /// Takes what has a neutral name out of the first choice, and notes where its thoughts stood. Whether the rest has
    /// something for the caller.
    fn choice(
        &mut self,
        choice: &mut Value,
        place: u64,
        key: &str,
        answer_id: &str,
        thoughts: &mut &'static str,
        sink: &mut impl FnMut(ReplyEvent<'_>),
    ) -> bool {
        let Value::Object(choice) = choice else { return false };
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(place);
        let is_first = index == 0;
        let reason = choice.get("finish_reason").and_then(Value::as_str);
        self.is_aborted |= reason.is_some_and(is_abort);
        let reason = reason.and_then(standard_reason);
        // A choice ends once: some upstreams end it again in the frame with the counts.
        let has_ended = if is_first { self.reason.is_some() } else { self.ended.contains(&index) };
        let reason = reason.filter(|_| !has_ended);
        if choice.contains_key("finish_reason") {
            choice.insert("finish_reason".to_owned(), reason.map_or(Value::Null, Value::from));
        }
        let reason = reason.map(reason_of);
        if let Some(Value::Object(said)) = choice.get_mut(key) {
            if is_first {
                let is_short = said.get(SHORT_THOUGHTS).is_some_and(|value| value.is_string() && is_full(value));
                // Some upstreams say the same under both names.
                if is_short && !said.get(THOUGHTS).is_some_and(is_full) {
                    *thoughts = SHORT_THOUGHTS;
                }
                self.text(said, thoughts, sink);
                self.text(said, "content", sink);
                self.text(said, "refusal", sink);
                self.function_call(said, key == "delta", answer_id, sink);
                self.tool_calls(said, key == "delta", answer_id, sink);
            }
            let says = |name: &str| said.get(name).is_some_and(is_full);
            self.has_answer |= ["content", "tool_calls", "function_call", "refusal", "audio"].into_iter().any(says);
            self.has_content |= self.has_answer || says(THOUGHTS) || says(SHORT_THOUGHTS);
        }
        if is_first {
            self.reason = self.reason.or(reason);
        } else if reason.is_some() && self.ended.len() < CHOICES_MAX {
            self.ended.push(index);
        }
        let is_rest_full =
            !is_first && choice.get(key).and_then(Value::as_object).is_some_and(|said| said.values().any(is_full));
        // The end of an answer without content is not an answer.
        (reason.is_some() && self.has_content) || is_rest_full
    }

    fn text(&mut self, said: &mut Map<String, Value>, name: &str, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        if let Some(text) = said.get(name).and_then(text_of_parts) {
            said.insert(name.to_owned(), text.into());
        }
        let Some(Value::String(text)) = said.get(name) else { return };
        if text.is_empty() {
            return;
        }
        self.has_content = true;
        self.has_answer |= matches!(name, "content" | "refusal");
        let text = Text::Plain(text);
        sink(match name {
            "content" => ReplyEvent::Text(text),
            "refusal" => ReplyEvent::Refusal(text),
            _ => ReplyEvent::Reasoning(text),
        });
        said.remove(name);
    }

    /// Takes ids, names and arguments out of a list of calls. What clients need to tell calls apart is put in where the
    /// upstream left it out: `index` in a stream, and `id` and `type` where a call begins.
    fn tool_calls(
        &mut self,
        said: &mut Map<String, Value>,
        is_stream: bool,
        answer_id: &str,
        sink: &mut impl FnMut(ReplyEvent<'_>),
    ) {
        if let Some(call) = said.get_mut("tool_calls").filter(|call| call.is_object()) {
            *call = Value::Array(vec![call.take()]);
        }
        let Some(Value::Array(calls)) = said.get_mut("tool_calls") else { return };
        for (entry, place) in calls.iter_mut().zip(0_u32..) {
            let Value::Object(entry) = entry else { continue };
            self.has_content = true;
            self.has_answer = true;
            let mut id = taken(entry, "id");
            let (mut name, arguments) = match entry.get_mut("function") {
                Some(Value::Object(function)) => {
                    let arguments = function.get_mut("arguments");
                    if let Some(arguments) = arguments.filter(|json| json.is_object() || json.is_array()) {
                        *arguments = arguments.to_string().into();
                    }
                    (taken(function, "name"), taken(function, "arguments"))
                }
                _ => (None, None),
            };
            let index = entry.get("index").and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok());
            let index = index.unwrap_or_else(|| self.index_of(id.as_deref(), name.is_some(), is_stream, place));
            if is_stream {
                entry.insert("index".to_owned(), index.into());
            }
            if let Some(call) = self.calls.iter().find(|call| call.index == index) {
                // Clients join what comes in pieces, so what is told again would stand twice.
                id = id.filter(|id| *id != call.id);
                name = name.filter(|name| *name != call.name);
                entry.retain(|key, _| !matches!(key.as_str(), "id" | "type"));
                if let Some(Value::Object(function)) = entry.get_mut("function") {
                    function.remove("name");
                }
            } else {
                let id = id.get_or_insert_with(|| made_id(answer_id, index));
                if entry.get("type").and_then(Value::as_str).is_none_or(str::is_empty) {
                    entry.insert("type".to_owned(), "function".into());
                }
                if self.calls.len() < CALLS_MAX {
                    let name = name.clone().unwrap_or_default();
                    self.calls.push(Call { index, id: id.clone(), name });
                }
            }
            if id.is_some() || name.is_some() {
                let (id, name) = (id.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default());
                sink(ReplyEvent::ToolCall { index, id, name });
            }
            if let Some(json) = &arguments {
                sink(ReplyEvent::ToolArguments { index, json });
            }
        }
    }

    /// Tells a call of the older form, `function_call`, as events too. It stays in its frame, for callers who asked in
    /// that form.
    fn function_call(
        &mut self,
        said: &Map<String, Value>,
        is_stream: bool,
        answer_id: &str,
        sink: &mut impl FnMut(ReplyEvent<'_>),
    ) {
        let is_told = |name: &str| said.get(name).is_some_and(is_full);
        if is_told("function_call") && !is_told("tool_calls") {
            let calls = json!([{"index": 0, "function": said.get("function_call")}]);
            let mut calls = Map::from_iter([("tool_calls".to_owned(), calls)]);
            self.tool_calls(&mut calls, is_stream, answer_id, sink);
        }
    }

    /// The index of a call that came without one: a known id goes on with its call, a new id or a name begins the next,
    /// and arguments alone belong to the call before.
    fn index_of(&self, id: Option<&str>, has_name: bool, is_stream: bool, place: u32) -> u32 {
        if !is_stream {
            return place;
        }
        if let Some(known) = self.calls.iter().find(|call| id == Some(call.id.as_str())) {
            return known.index;
        }
        match self.calls.last() {
            None => place,
            Some(last) if id.is_some() || has_name => last.index.saturating_add(1),
            Some(last) => last.index,
        }
    }
}

/// An id for a call that came without one: the same for each reader of the answer, another one for each call.
fn made_id(answer_id: &str, index: u32) -> String {
    let answer: String = answer_id.chars().filter(char::is_ascii_alphanumeric).take(48).collect();
    format!("call_{answer}_{index}")
}

/// The field of thoughts in most upstreams' answers.
const THOUGHTS: &str = "reasoning_content";
/// The field of thoughts in answers of `OpenRouter`, Ollama and newer versions of vLLM.
const SHORT_THOUGHTS: &str = "reasoning";
/// The most choices of one answer whose end is remembered.
const CHOICES_MAX: usize = 128;
/// The most calls of one answer that are ended one by one.
const CALLS_MAX: usize = 256;

/// A non-empty string, taken out of an object.
fn taken(map: &mut Map<String, Value>, name: &str) -> Option<String> {
    if map.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
        return None;
    }
    match map.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn read(data: &[u8], half: &mut Option<u16>) -> Result<Map<String, Value>, ReplyError> {
    // A broken character in one place must not cost the whole answer.
    let text = str::from_utf8(data).map_or_else(|_| String::from_utf8_lossy(data), Cow::Borrowed);
    let value: Value = match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(_) => serde_json::from_str(&whole_characters(&text, half)).map_err(|_| ReplyError::Json)?,
    };
    if let Some(error) = refusal(&value) {
        return Err(error);
    }
    match value {
        Value::Object(frame) => Ok(frame),
        // A stray scalar says nothing.
        _ => Ok(Map::new()),
    }
}

/// The text without escaped halves of characters, which no JSON reader takes.
///
/// A first half at the end of a string is left out and waits in `half`: it goes with a second half that begins a string
/// of a later frame. Any other first half becomes U+FFFD, any other second half is left out.
fn whole_characters(text: &str, half: &mut Option<u16>) -> String {
    let unit_of = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok().filter(|unit| (0xd800..0xe000).contains(unit))
    };
    let waiting = half.take();
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
        whole.push_str(before);
        let behind = from.get(6..).unwrap_or_default();
        let taken = match unit_of(from) {
            Some(0xd800..0xdc00) if unit_of(behind).is_some_and(|unit| unit >= 0xdc00) => 12,
            Some(unit) => {
                let begins_string = whole.ends_with('"') && !whole.ends_with("\\\"");
                match waiting {
                    _ if unit < 0xdc00 && behind.starts_with('"') => *half = Some(unit),
                    _ if unit < 0xdc00 => whole.push(char::REPLACEMENT_CHARACTER),
                    Some(first) if begins_string => whole.extend(char::decode_utf16([first, unit]).flatten()),
                    _ => {}
                }
                rest = behind;
                continue;
            }
            // A backslash and what it escapes.
            None => 1 + from.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (escape, after) = from.split_at_checked(taken).unwrap_or((from, ""));
        whole.push_str(escape);
        rest = after;
    }
    whole.push_str(rest);
    whole
}

/// The text of content that comes as a list of parts, all of which are text.
fn text_of_parts(content: &Value) -> Option<String> {
    let parts = content.as_array().filter(|parts| !parts.is_empty())?;
    let text = |part: &Value| match part.get("type").and_then(Value::as_str) {
        Some("text" | "output_text") | None => Some(part.get("text")?.as_str()?.to_owned()),
        Some(_) => None,
    };
    parts.iter().map(text).collect()
}

/// A reason as OpenAI spells it, since clients know no other words. `None` for no end: an empty text, the `null` that
/// DashScope writes as a text, or a word of [`is_abort`].
fn standard_reason(word: &str) -> Option<&'static str> {
    if is_abort(word) {
        return None;
    }
    match word.trim().to_ascii_lowercase().as_str() {
        "" | "null" | "none" => None,
        "length" | "max_tokens" | "model_length" => Some("length"),
        "content_filter" | "sensitive" => Some("content_filter"),
        "tool_calls" | "tool_use" => Some("tool_calls"),
        "function_call" => Some("function_call"),
        _ => Some("stop"),
    }
}

/// Whether a reason says that the upstream gave the answer up: vLLM and `SGLang` say `abort` or `error`, `DeepSeek` says
/// `insufficient_system_resource`.
fn is_abort(word: &str) -> bool {
    ["abort", "error", "insufficient_system_resource"].iter().any(|abort| word.trim().eq_ignore_ascii_case(abort))
}

fn reason_of(word: &str) -> FinishReason {
    match word {
        "length" => FinishReason::Length,
        "content_filter" => FinishReason::ContentFilter,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    }
}

fn counts(usage: &Value) -> TokenCounts {
    let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    TokenCounts {
        prompt: count("/prompt_tokens"),
        completion: count("/completion_tokens"),
        reasoning: count("/completion_tokens_details/reasoning_tokens"),
        cached: count("/prompt_tokens_details/cached_tokens"),
    }
}

/// Whether a value has anything for the caller.
fn is_full(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A failure in place of an answer: `{"error": …}`, or DashScope's own form.
pub(crate) fn refusal(value: &Value) -> Option<ReplyError> {
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
