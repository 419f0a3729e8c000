//! OpenAI's older `POST /v1/completions`: each prompt is a chat of one user message, and the answers come back as
//! plain texts, without thoughts.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use crate::base::text::pieces;
use crate::chat::error::{RequestError, RequestErrorKind, type_name};
use crate::chat::failure::Failure;
use crate::chat::reply::{Ending, ReplyEvent, ReplySink};
use crate::dialect::openai::error::error_body;
use crate::dialect::openai::fields::{Fields, integer};
use crate::dialect::openai::reply::encode_error;
use crate::dialect::openai::wire::{CompletionUsage, TextChoice, TextCompletion};
use crate::dialect::writer::{EVENT_TEXT_BYTES_MAX, StreamWriter};

/// The most prompts of one request; each of them is a turn of its own.
pub(crate) const PROMPTS_MAX: usize = 8;

/// Fields of chats, which have no meaning here and would change the question.
const CHAT_ONLY: [&str; 10] = [
    "messages",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "parallel_tool_calls",
    "modalities",
    "audio",
    "reasoning_format",
    "size",
];

/// The body of `POST /v1/completions`, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompletionsRequest {
    /// The prompts, at least one and at most [`PROMPTS_MAX`], none of them blank.
    pub prompts: Vec<String>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether the stream ends with a chunk of counts.
    pub include_usage: bool,
    /// Whether `prompt` was a list: errors name `prompt[…]` instead of `prompt`.
    is_list: bool,
    /// The fields that go to the chat unchanged.
    body: Map<String, Value>,
}

impl CompletionsRequest {
    /// Reads the body of `POST /v1/completions`.
    ///
    /// # Errors
    /// The first fault found, by the field that has it.
    pub(crate) fn parse(body: Value) -> Result<Self, RequestError> {
        let mut body = match body {
            Value::Object(body) => body,
            other => return Err(RequestError::not_an_object(type_name(&other))),
        };
        let fields = Fields(&body);
        let (prompts, is_list) = prompts(&fields)?;
        refuse_unsupported(&fields)?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        let include_usage = match fields.object("stream_options")? {
            Some(options) => options.flag_in("stream_options", "include_usage")?.unwrap_or(false),
            None => false,
        };
        for name in CHAT_ONLY.iter().chain(&["prompt", "echo", "suffix", "best_of", "n", "logprobs"]) {
            body.remove(*name);
        }
        Ok(Self { prompts, stream, include_usage, is_list, body })
    }

    /// The model as asked; `None` for the default, or if the field is not a string.
    #[must_use]
    pub(crate) fn model(&self) -> Option<&str> {
        self.body.get("model").and_then(Value::as_str)
    }

    /// The body of the chat that a prompt stands for.
    #[must_use]
    pub(crate) fn chat(&self, prompt: &str) -> Value {
        let mut body = self.body.clone();
        body.insert("messages".to_owned(), json!([{"role": "user", "content": prompt}]));
        Value::Object(body)
    }

    /// Makes an error about the chat's message one about the prompt that it came from.
    #[must_use]
    pub(crate) fn blame(&self, place: usize, error: RequestError) -> RequestError {
        if error.param.as_ref().is_none_or(|param| !param.starts_with("messages")) {
            return error;
        }
        RequestError { param: Some(at(self.is_list, place)), ..error }
    }
}

fn at(is_list: bool, place: usize) -> String {
    if is_list { format!("prompt[{place}]") } else { "prompt".to_owned() }
}

fn prompts(fields: &Fields<'_>) -> Result<(Vec<String>, bool), RequestError> {
    const EXPECTED: &str = "a string or an array of strings";
    let tokens = || RequestError::unsupported_value("prompt", "Prompts of token ids cannot be read; send text.");
    let (prompts, is_list) = match fields.get("prompt") {
        None => return Err(RequestError::missing("prompt")),
        Some(Value::String(text)) => (vec![text.clone()], false),
        Some(Value::Array(list)) if list.is_empty() => {
            let message = "'prompt' is empty: expected at least one prompt.".to_owned();
            return Err(RequestError::new(RequestErrorKind::EmptyArray, "prompt", message));
        }
        Some(Value::Array(list)) => {
            let text = |(place, entry): (usize, &Value)| match entry {
                Value::String(text) => Ok(text.clone()),
                Value::Number(_) | Value::Array(_) => Err(tokens()),
                other => Err(RequestError::invalid_type(&at(true, place), "a string", other)),
            };
            (list.iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?, true)
        }
        Some(other) => return Err(RequestError::invalid_type("prompt", EXPECTED, other)),
    };
    if prompts.len() > PROMPTS_MAX {
        return Err(RequestError::invalid_value("prompt", &format!("at most {PROMPTS_MAX} prompts")));
    }
    if let Some(place) = prompts.iter().position(|prompt| prompt.trim().is_empty()) {
        return Err(RequestError::invalid_value(&at(is_list, place), "a prompt with text in it"));
    }
    Ok((prompts, is_list))
}

/// Parameters that change the answer and cannot be kept. Values that ask for nothing are fine.
fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), RequestError> {
    if fields.flag("echo")? == Some(true) {
        return Err(RequestError::unsupported("echo", "The prompt is not repeated; put it before the text yourself."));
    }
    if fields.text("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(RequestError::unsupported("suffix", "Nothing can be inserted before a given end."));
    }
    for name in ["n", "best_of"] {
        let Some(value) = fields.get(name) else { continue };
        match integer(value) {
            Some(1) => {}
            Some(2..) => {
                let why = "One choice is made for each prompt; give several prompts for several choices.";
                return Err(RequestError::unsupported_value(name, why));
            }
            Some(_) => return Err(RequestError::invalid_value(name, "1")),
            None => return Err(RequestError::invalid_type(name, "an integer", value)),
        }
    }
    // 0 asks for the probabilities of what was said.
    if fields.get("logprobs").is_some_and(|value| *value != Value::Bool(false)) {
        return Err(RequestError::unsupported("logprobs", "The upstream gives no log probabilities."));
    }
    Ok(())
}

/// The text of one answer. The stages before it have to drop thoughts.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextReply {
    /// Text that was not taken yet.
    text: String,
}

impl ReplySink for TextReply {
    fn event(&mut self, event: ReplyEvent<'_>) {
        if let ReplyEvent::Text(text) = event {
            text.append_to(&mut self.text);
        }
    }

    fn held_bytes(&self) -> usize {
        self.text.len()
    }

    fn reset(&mut self) {
        self.text.clear();
    }
}

/// The fields that all answers of one request share.
#[derive(Clone, Debug)]
pub(crate) struct TextHead {
    /// Id of the completion, `cmpl-…`.
    pub id: String,
    /// `created` of every chunk, in Unix seconds.
    pub created: i64,
    /// The model's name as the caller wrote it.
    pub model: String,
}

impl TextHead {
    fn completion<'a>(&'a self, choices: Vec<TextChoice<'a>>, usage: Option<Option<CompletionUsage>>) -> String {
        let completion = TextCompletion {
            id: &self.id,
            object: "text_completion",
            created: self.created,
            model: &self.model,
            choices,
            usage,
        };
        // Plain strings and numbers always serialise.
        serde_json::to_string(&completion).unwrap_or_default()
    }
}

/// The whole answer to all prompts, each text with the end of its turn.
#[must_use]
pub(crate) fn whole(head: &TextHead, texts: &[(TextReply, Ending)]) -> String {
    let mut usage = None;
    let choices = texts.iter().zip(0..).map(|((reply, ending), index)| {
        usage = Some(CompletionUsage::from(&ending.usage).and(usage));
        TextChoice { text: &reply.text, index, logprobs: None, finish_reason: Some(ending.reason.as_str()) }
    });
    let choices = choices.collect();
    head.completion(choices, Some(usage))
}

/// The answers as a stream of `text_completion` chunks: one prompt after the other, each with its index.
#[derive(Debug)]
pub(crate) struct TextStream {
    head: TextHead,
    include_usage: bool,
    current: TextReply,
    index: u32,
    /// Number of prompts whose answers have not begun.
    waiting: usize,
    usage: Option<CompletionUsage>,
    out: BytesMut,
}

impl TextStream {
    /// A stream of the answers to `prompts` prompts, in their order.
    #[must_use]
    pub(crate) fn new(head: TextHead, include_usage: bool, prompts: usize) -> Self {
        let waiting = prompts.saturating_sub(1);
        let current = TextReply::default();
        Self { head, include_usage, current, index: 0, waiting, usage: None, out: BytesMut::new() }
    }

    fn chunk(&self, text: &str, finish_reason: Option<&'static str>) -> String {
        let choice = TextChoice { text, index: self.index, logprobs: None, finish_reason };
        self.head.completion(vec![choice], self.include_usage.then_some(None))
    }

    /// Writes the collected text in chunks of at most [`EVENT_TEXT_BYTES_MAX`] bytes.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.current.text);
        for piece in pieces(&text, EVENT_TEXT_BYTES_MAX) {
            let chunk = self.chunk(piece, None);
            write_event(&mut self.out, &chunk);
        }
    }
}

fn write_event(out: &mut BytesMut, data: &str) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}

impl StreamWriter for TextStream {
    fn head(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        write_event(&mut out, &self.chunk("", None));
        Some(out.freeze())
    }

    /// Ends one prompt's answer. The next one's begins in the same stream, and the last one ends it.
    fn finish(&mut self, ending: &Ending) {
        self.flush();
        let last = self.chunk("", Some(ending.reason.as_str()));
        write_event(&mut self.out, &last);
        self.usage = Some(CompletionUsage::from(&ending.usage).and(self.usage));
        if self.waiting > 0 {
            self.waiting -= 1;
            self.index += 1;
            return;
        }
        if self.include_usage {
            let usage = self.head.completion(Vec::new(), Some(self.usage));
            write_event(&mut self.out, &usage);
        }
        write_event(&mut self.out, "[DONE]");
    }

    fn fail(&mut self, failure: &Failure, request_id: &str) {
        self.flush();
        encode_error(&error_body(failure, Some(request_id)), &mut self.out);
    }

    fn take(&mut self) -> Option<Bytes> {
        self.flush();
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }
}

impl ReplySink for TextStream {
    fn event(&mut self, event: ReplyEvent<'_>) {
        self.current.event(event);
    }

    fn held_bytes(&self) -> usize {
        self.current.held_bytes() + self.out.len()
    }

    fn reset(&mut self) {
        self.current.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<CompletionsRequest, RequestError> {
        CompletionsRequest::parse(body)
    }

    #[test]
    fn prompts_in_every_form() {
        assert_eq!(parse(json!({"prompt": "a"})).unwrap().prompts, ["a"]);
        assert_eq!(parse(json!({"prompt": ["a", "b"]})).unwrap().prompts, ["a", "b"]);
        let harmless = json!({
            "prompt": "a", "n": 1, "best_of": 1.0, "echo": false, "suffix": "", "logprobs": null, "stream": null,
        });
        assert!(parse(harmless).is_ok());
        let many = vec!["a"; PROMPTS_MAX + 1];
        for (body, kind, param) in [
            (json!({}), RequestErrorKind::Missing, "prompt"),
            (json!({"prompt": null}), RequestErrorKind::Missing, "prompt"),
            (json!({"prompt": 1}), RequestErrorKind::InvalidType, "prompt"),
            (json!({"prompt": []}), RequestErrorKind::EmptyArray, "prompt"),
            (json!({"prompt": [1, 2]}), RequestErrorKind::UnsupportedValue, "prompt"),
            (json!({"prompt": [[1], [2]]}), RequestErrorKind::UnsupportedValue, "prompt"),
            (json!({"prompt": ["a", true]}), RequestErrorKind::InvalidType, "prompt[1]"),
            (json!({"prompt": ["a", " "]}), RequestErrorKind::InvalidValue, "prompt[1]"),
            (json!({"prompt": ""}), RequestErrorKind::InvalidValue, "prompt"),
            (json!({"prompt": many}), RequestErrorKind::InvalidValue, "prompt"),
            (json!({"prompt": "a", "echo": true}), RequestErrorKind::UnsupportedParameter, "echo"),
            (json!({"prompt": "a", "suffix": "b"}), RequestErrorKind::UnsupportedParameter, "suffix"),
            (json!({"prompt": "a", "best_of": 2}), RequestErrorKind::UnsupportedValue, "best_of"),
            (json!({"prompt": "a", "n": 0}), RequestErrorKind::InvalidValue, "n"),
            (json!({"prompt": "a", "n": "2"}), RequestErrorKind::InvalidType, "n"),
            (json!({"prompt": "a", "logprobs": 0}), RequestErrorKind::UnsupportedParameter, "logprobs"),
            (json!({"prompt": "a", "stream": "yes"}), RequestErrorKind::InvalidType, "stream"),
        ] {
            let error = parse(body.clone()).unwrap_err();
            assert_eq!((error.kind, error.param.as_deref()), (kind, Some(param)), "{body}");
        }
        assert_eq!(parse(json!([])).unwrap_err().kind, RequestErrorKind::InvalidBody);
    }

    #[test]
    fn a_prompt_is_a_chat_of_one_message() {
        let body = json!({"prompt": ["a", "b"], "model": "m", "max_tokens": 5, "stop": ["x"], "tools": [1], "n": 1});
        let request = parse(body).unwrap();
        let expected =
            json!({"model": "m", "max_tokens": 5, "stop": ["x"], "messages": [{"role": "user", "content": "b"}]});
        assert_eq!(request.chat(&request.prompts[1]), expected);
        let blamed = request.blame(1, RequestError::missing("messages[0].content"));
        assert_eq!(blamed.param.as_deref(), Some("prompt[1]"));
        assert_eq!(request.blame(1, RequestError::missing("stop")).param.as_deref(), Some("stop"));
    }
}
