//! Answers of an upstream that speaks OpenAI's dialect, into reply events.
//!
//! Texts, tool calls and refusals of the first choice become events. The rest of each frame follows them as
//! [`ReplyEvent::Extra`], so that a caller of the same dialect loses nothing.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::chat::reply::{Extra, FinishReason, ReplyError, ReplyEvent, Text, TokenCounts};

/// Decodes one answer: the events of a stream, or a whole completion.
#[derive(Debug, Default)]
pub struct ChatDecoder {
    is_finished: bool,
    /// Why the first choice ended, once it did.
    reason: Option<FinishReason>,
    has_content: bool,
    usage: Option<TokenCounts>,
    /// Calls that have begun, to end them with the answer.
    calls: Vec<u32>,
}

impl ChatDecoder {
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
        if data.is_empty() || self.is_finished {
            return Ok(());
        }
        if data == b"[DONE]" {
            return self.finish(sink);
        }
        self.frame(read(data)?, "delta", sink);
        Ok(())
    }

    /// Takes a whole completion.
    ///
    /// # Errors
    /// As [`ChatDecoder::push`]; [`ReplyError::Empty`] without a choice.
    pub fn whole(&mut self, body: &[u8], sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        let completion = read(body)?;
        if completion.get("choices").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            return Err(ReplyError::Empty);
        }
        self.frame(completion, "message", sink);
        self.end(self.reason.unwrap_or(FinishReason::Stop), sink);
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
        match (self.reason, self.has_content) {
            (Some(reason), _) => {
                self.end(reason, sink);
                Ok(())
            }
            (None, true) => Err(ReplyError::Truncated),
            (None, false) => Err(ReplyError::Empty),
        }
    }

    fn end(&mut self, reason: FinishReason, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        for index in std::mem::take(&mut self.calls) {
            sink(ReplyEvent::ToolCallDone { index });
        }
        self.is_finished = true;
        sink(ReplyEvent::Finished { reason });
    }

    /// Reads a chunk or a completion, whose choices have what is said under `key`.
    fn frame(&mut self, mut frame: Map<String, Value>, key: &str, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        if let Some(usage) = frame.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(counts(usage));
        }
        let mut is_content = false;
        for (choice, place) in frame.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten().zip(0..) {
            is_content |= self.choice(choice, place, key, sink);
        }
        sink(ReplyEvent::Extra(Extra { frame: &frame, is_content }));
    }

    /// Takes what has a neutral name out of the first choice. Whether the rest has something for the caller.
    fn choice(&mut self, choice: &mut Value, place: u64, key: &str, sink: &mut impl FnMut(ReplyEvent<'_>)) -> bool {
        let Value::Object(choice) = choice else { return false };
        let is_first = choice.get("index").and_then(Value::as_u64).unwrap_or(place) == 0;
        let reason = choice.get("finish_reason").and_then(Value::as_str).filter(|reason| !reason.is_empty());
        let reason = reason.map(reason_of);
        if reason.is_none() && choice.get("finish_reason").is_some_and(Value::is_string) {
            // An empty string is no end.
            choice.insert("finish_reason".to_owned(), Value::Null);
        }
        if let Some(Value::Object(said)) = choice.get_mut(key) {
            if is_first {
                self.text(said, "reasoning_content", sink);
                self.text(said, "content", sink);
                self.text(said, "refusal", sink);
                self.tool_calls(said, sink);
            }
            self.has_content |= ["content", "reasoning_content", "tool_calls", "function_call", "refusal", "audio"]
                .iter()
                .any(|name| said.get(*name).is_some_and(is_full));
        }
        if is_first {
            self.reason = self.reason.or(reason);
        }
        let is_rest_full =
            !is_first && choice.get(key).and_then(Value::as_object).is_some_and(|said| said.values().any(is_full));
        reason.is_some() || is_rest_full
    }

    fn text(&mut self, said: &mut Map<String, Value>, name: &str, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let Some(Value::String(text)) = said.get(name) else { return };
        if text.is_empty() {
            return;
        }
        self.has_content = true;
        let text = Text::Plain(text);
        sink(match name {
            "content" => ReplyEvent::Text(text),
            "refusal" => ReplyEvent::Refusal(text),
            _ => ReplyEvent::Reasoning(text),
        });
        said.remove(name);
    }

    fn tool_calls(&mut self, said: &mut Map<String, Value>, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let Some(Value::Array(calls)) = said.get_mut("tool_calls") else { return };
        for (call, place) in calls.iter_mut().zip(0_u32..) {
            let Value::Object(call) = call else { continue };
            self.has_content = true;
            let index = call.get("index").and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok());
            let index = index.unwrap_or(place);
            if !self.calls.contains(&index) && self.calls.len() < CALLS_MAX {
                self.calls.push(index);
            }
            let id = taken(call, "id");
            let (name, arguments) = match call.get_mut("function") {
                Some(Value::Object(function)) => (taken(function, "name"), taken(function, "arguments")),
                _ => (None, None),
            };
            if id.is_some() || name.is_some() {
                let (id, name) = (id.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default());
                sink(ReplyEvent::ToolCall { index, id, name });
            }
            if let Some(json) = &arguments {
                sink(ReplyEvent::ToolArguments { index, json });
            }
        }
    }
}

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

fn read(data: &[u8]) -> Result<Map<String, Value>, ReplyError> {
    // A broken character in one place is no reason to lose the answer.
    let text = str::from_utf8(data).map_or_else(|_| String::from_utf8_lossy(data), Cow::Borrowed);
    let value: Value = serde_json::from_str(&text).map_err(|_| ReplyError::Json)?;
    if let Some(error) = refusal(&value) {
        return Err(error);
    }
    match value {
        Value::Object(frame) => Ok(frame),
        // A stray scalar says nothing.
        _ => Ok(Map::new()),
    }
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
