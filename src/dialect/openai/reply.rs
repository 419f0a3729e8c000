//! Answers in OpenAI's dialect: a stream of `chat.completion.chunk` events, or a whole `chat.completion`.
//!
//! An upstream that speaks the dialect itself gives frames beside its events; from those the answer is put together
//! again as it came ([`crate::dialect::openai::frames`]).

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use crate::chat::failure::Failure;
use crate::chat::reply::{Ending, FinishReason, ReplyEvent, ReplySink, Text};
use crate::dialect::openai::error::error_body;
use crate::dialect::openai::frames::{FrameStream, FrameWhole};
use crate::dialect::openai::wire::{
    Annotation, ChatCompletion, CompletionChoice, CompletionMessage, CompletionUsage, ErrorBody, FunctionCall,
    FunctionDelta, MessageToolCall, ToolCallDelta, UrlCitation,
};
use crate::dialect::writer::{EVENT_TEXT_BYTES_MAX, StreamWriter};

/// The form in which tool calls are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallForm {
    /// `tool_calls`, any number of them.
    #[default]
    ToolCalls,
    /// The older `function_call`, one at most: for callers who sent `functions`.
    FunctionCall,
}

impl CallForm {
    /// The word for the end of an answer.
    fn finish_reason(self, reason: FinishReason) -> &'static str {
        match (self, reason) {
            (Self::FunctionCall, FinishReason::ToolCalls) => "function_call",
            (_, reason) => reason.as_str(),
        }
    }
}

/// Writes one answer as a stream of `chat.completion.chunk` events.
#[derive(Debug)]
pub struct ChunkEncoder {
    /// Everything of a chunk before its delta.
    head: Vec<u8>,
    /// Everything of a chunk before its choices.
    head_bare: Vec<u8>,
    include_usage: bool,
    form: CallForm,
}

impl ChunkEncoder {
    /// An encoder whose chunks all carry this `id`, `created` and `model`.
    #[must_use]
    pub fn new(id: &str, created: i64, model: &str, include_usage: bool) -> Self {
        let mut head_bare = b"data: {\"id\":".to_vec();
        append_json(&mut head_bare, id);
        head_bare.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        append_json(&mut head_bare, &created);
        head_bare.extend_from_slice(b",\"model\":");
        append_json(&mut head_bare, model);
        let mut head = head_bare.clone();
        head.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{");
        Self { head, head_bare, include_usage, form: CallForm::ToolCalls }
    }

    /// Writes calls in this form.
    #[must_use]
    pub fn calls_as(self, form: CallForm) -> Self {
        Self { form, ..self }
    }

    /// The first chunk: the role. Commits nothing, and shows the caller that the answer is under way.
    pub fn role(&self, out: &mut BytesMut) {
        self.delta(out, |out| {
            out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\"");
        });
    }

    /// Writes the content of an event, in as many chunks as its length needs.
    pub fn event(&self, event: &ReplyEvent<'_>, out: &mut BytesMut) {
        // A thought's chunk has a null content, and a text's chunk no reasoning key: programs that look at one
        // only when the other is empty get the right one, and none sees an empty string between the phases.
        match event {
            ReplyEvent::Text(text) => self.text(b"\"content\":", *text, out),
            ReplyEvent::Reasoning(text) => self.text(b"\"content\":null,\"reasoning_content\":", *text, out),
            ReplyEvent::Refusal(text) => self.text(b"\"refusal\":", *text, out),
            ReplyEvent::ToolCall { index, id, name } => {
                let function = FunctionDelta { name: some(name), arguments: some(name).map(|_| "") };
                self.tool_call(
                    &ToolCallDelta { index: *index, id: some(id), kind: some(id).map(|_| "function"), function },
                    out,
                );
            }
            ReplyEvent::ToolArguments { index, json } => {
                let function = FunctionDelta { name: None, arguments: Some(json) };
                self.tool_call(&ToolCallDelta { index: *index, id: None, kind: None, function }, out);
            }
            ReplyEvent::Started { .. }
            | ReplyEvent::ToolCallDone { .. }
            | ReplyEvent::Image { .. }
            | ReplyEvent::Video { .. }
            | ReplyEvent::Extra(_)
            | ReplyEvent::Source(_)
            | ReplyEvent::Activity
            | ReplyEvent::Unknown { .. }
            | ReplyEvent::Finished { .. } => {}
        }
    }

    fn tool_call(&self, call: &ToolCallDelta<'_>, out: &mut BytesMut) {
        if self.form == CallForm::FunctionCall {
            if call.index == 0 {
                self.delta(out, |out| {
                    out.extend_from_slice(b"\"function_call\":");
                    append_json_bytes(out, &call.function);
                });
            }
            return;
        }
        self.delta(out, |out| {
            out.extend_from_slice(b"\"tool_calls\":[");
            append_json_bytes(out, call);
            out.extend_from_slice(b"]");
        });
    }

    fn text(&self, key: &[u8], text: Text<'_>, out: &mut BytesMut) {
        text.in_pieces(EVENT_TEXT_BYTES_MAX, |piece| {
            self.delta(out, |out| {
                out.extend_from_slice(key);
                append_text(out, piece);
            });
        });
    }

    /// The end: citations if there are any, the one `finish_reason`, the counts if asked for, `[DONE]`.
    pub fn finish(&self, ending: &Ending, out: &mut BytesMut) {
        let annotations = annotations(ending, true);
        if !annotations.is_empty() {
            self.delta(out, |out| {
                out.extend_from_slice(b"\"annotations\":");
                append_json_bytes(out, &annotations);
            });
        }
        out.extend_from_slice(&self.head_bare);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":");
        append_json_bytes(out, self.form.finish_reason(ending.reason));
        out.extend_from_slice(if self.include_usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" });
        if self.include_usage {
            out.extend_from_slice(&self.head_bare);
            out.extend_from_slice(b",\"choices\":[],\"usage\":");
            append_json_bytes(out, &CompletionUsage::from(&ending.usage));
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn delta(&self, out: &mut BytesMut, content: impl FnOnce(&mut BytesMut)) {
        out.extend_from_slice(&self.head);
        content(out);
        out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":null}]");
        out.extend_from_slice(if self.include_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" });
    }
}

/// An error as the last event of a stream: no `finish_reason`, no `[DONE]`. SDKs raise it.
pub fn encode_error(error: &ErrorBody<'_>, out: &mut BytesMut) {
    out.extend_from_slice(b"data: ");
    append_json_bytes(out, error);
    out.extend_from_slice(b"\n\n");
}

/// An answer as a stream: what is ready to be sent gathers in `out`.
#[derive(Debug)]
pub struct ChunkStream {
    encoder: ChunkEncoder,
    /// For an upstream of the same dialect.
    frames: Option<FrameStream>,
    out: BytesMut,
}

impl ChunkStream {
    /// A stream that is written from events.
    #[must_use]
    pub fn new(encoder: ChunkEncoder) -> Self {
        Self { encoder, frames: None, out: BytesMut::new() }
    }

    /// A stream that is put together again from the frames of an upstream of the same dialect.
    #[must_use]
    pub fn of_frames(encoder: ChunkEncoder, frames: FrameStream) -> Self {
        Self { encoder, frames: Some(frames), out: BytesMut::new() }
    }
}

impl StreamWriter for ChunkStream {
    /// The chunk with the role.
    fn head(&mut self) -> Option<Bytes> {
        if let Some(frames) = &mut self.frames {
            frames.begin();
        }
        let mut head = BytesMut::new();
        self.encoder.role(&mut head);
        Some(head.freeze())
    }

    fn finish(&mut self, ending: &Ending) {
        match &mut self.frames {
            Some(frames) => frames.finish(ending, &mut self.out),
            None => self.encoder.finish(ending, &mut self.out),
        }
    }

    fn fail(&mut self, failure: &Failure, request_id: &str) {
        encode_error(&error_body(failure, Some(request_id)), &mut self.out);
    }

    fn take(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }
}

impl ReplySink for ChunkStream {
    fn event(&mut self, event: ReplyEvent<'_>) {
        match &mut self.frames {
            Some(frames) => frames.event(&event, &mut self.out),
            None => self.encoder.event(&event, &mut self.out),
        }
    }

    fn held_bytes(&self) -> usize {
        self.out.len()
    }

    fn reset(&mut self) {
        self.out.clear();
        if let Some(frames) = &mut self.frames {
            frames.reset();
        }
    }
}

/// An answer as a whole.
#[derive(Debug)]
pub enum WholeReply {
    /// The answer is put together from events.
    Events(Collected),
    /// For an upstream of the same dialect: its own completion.
    Frames(FrameWhole),
}

/// The answer so far.
#[derive(Debug, Default)]
pub struct Collected {
    content: String,
    reasoning: String,
    refusal: String,
    calls: Vec<WholeCall>,
    form: CallForm,
}

#[derive(Debug, Default)]
struct WholeCall {
    id: String,
    name: String,
    arguments: String,
}

impl WholeReply {
    /// A completion that is put together from events.
    #[must_use]
    pub fn of_events(form: CallForm) -> Self {
        Self::Events(Collected { form, ..Collected::default() })
    }

    /// The completion of an upstream of the same dialect.
    #[must_use]
    pub fn of_frames() -> Self {
        Self::Frames(FrameWhole::default())
    }

    /// The JSON of the completion.
    #[must_use]
    pub fn finish(self, id: &str, created: i64, model: &str, ending: &Ending) -> Vec<u8> {
        match self {
            Self::Events(collected) => collected.finish(id, created, model, ending),
            Self::Frames(frames) => frames.finish(id, created, model, ending),
        }
    }
}

impl ReplySink for WholeReply {
    fn event(&mut self, event: ReplyEvent<'_>) {
        match self {
            Self::Events(collected) => collected.event(&event),
            Self::Frames(frames) => frames.event(&event),
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Events(collected) => collected.held_bytes(),
            Self::Frames(frames) => frames.held_bytes(),
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Events(collected) => *collected = Collected { form: collected.form, ..Collected::default() },
            Self::Frames(frames) => *frames = FrameWhole::default(),
        }
    }
}

impl Collected {
    fn finish(&self, id: &str, created: i64, model: &str, ending: &Ending) -> Vec<u8> {
        let calls = self.calls.iter().map(|call| MessageToolCall {
            id: &call.id,
            kind: "function",
            function: FunctionCall { name: &call.name, arguments: &call.arguments },
        });
        let mut calls: Vec<_> = calls.collect();
        let is_silent = self.content.is_empty() && (!calls.is_empty() || !self.refusal.is_empty());
        let function_call = match self.form {
            CallForm::ToolCalls => None,
            CallForm::FunctionCall => {
                calls.clear();
                self.calls.first().map(|call| FunctionCall { name: &call.name, arguments: &call.arguments })
            }
        };
        let completion = ChatCompletion {
            id,
            object: "chat.completion",
            created,
            model,
            choices: [CompletionChoice {
                index: 0,
                message: CompletionMessage {
                    role: "assistant",
                    content: (!is_silent).then_some(&self.content),
                    refusal: some(&self.refusal),
                    reasoning_content: some(&self.reasoning),
                    tool_calls: calls,
                    function_call,
                    annotations: annotations(ending, false),
                },
                finish_reason: self.form.finish_reason(ending.reason),
                logprobs: None,
            }],
            usage: CompletionUsage::from(&ending.usage),
        };
        let mut out = Vec::new();
        append_json(&mut out, &completion);
        out
    }

    fn event(&mut self, event: &ReplyEvent<'_>) {
        match event {
            ReplyEvent::Text(text) => text.append_to(&mut self.content),
            ReplyEvent::Reasoning(text) => text.append_to(&mut self.reasoning),
            ReplyEvent::Refusal(text) => text.append_to(&mut self.refusal),
            ReplyEvent::ToolCall { index, id, name } => {
                if let Some(call) = self.call(*index) {
                    call.id.push_str(id);
                    call.name.push_str(name);
                }
            }
            ReplyEvent::ToolArguments { index, json } => {
                if let Some(call) = self.call(*index) {
                    call.arguments.push_str(json);
                }
            }
            ReplyEvent::Started { .. }
            | ReplyEvent::ToolCallDone { .. }
            | ReplyEvent::Image { .. }
            | ReplyEvent::Video { .. }
            | ReplyEvent::Extra(_)
            | ReplyEvent::Source(_)
            | ReplyEvent::Activity
            | ReplyEvent::Unknown { .. }
            | ReplyEvent::Finished { .. } => {}
        }
    }

    fn call(&mut self, index: u32) -> Option<&mut WholeCall> {
        let place = usize::try_from(index).ok().filter(|place| *place < CALLS_MAX)?;
        if self.calls.len() <= place {
            self.calls.resize_with(place + 1, WholeCall::default);
        }
        self.calls.get_mut(place)
    }

    fn held_bytes(&self) -> usize {
        let calls: usize = self.calls.iter().map(|call| call.name.len() + call.arguments.len()).sum();
        self.content.len() + self.reasoning.len() + self.refusal.len() + calls
    }
}

/// The most tool calls of one answer that are collected.
const CALLS_MAX: usize = 256;

/// `None` for an empty text.
fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn annotations(ending: &Ending, indexed: bool) -> Vec<Annotation<'_>> {
    let cited = ending.citations.iter().filter_map(|cited| Some((cited, ending.sources.get(cited.source)?)));
    cited
        .enumerate()
        .map(|(place, (cited, source))| Annotation {
            index: indexed.then_some(place),
            kind: "url_citation",
            url_citation: UrlCitation {
                start_index: cited.start,
                end_index: cited.end,
                title: &source.title,
                url: &source.url,
            },
        })
        .collect()
}

fn append_text(out: &mut BytesMut, text: Text<'_>) {
    match text {
        Text::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
        Text::Plain(plain) => append_json_bytes(out, plain),
    }
}

fn append_json_bytes<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    // Writing these types into memory cannot fail.
    let _ = serde_json::to_writer(bytes::BufMut::writer(&mut *out), value);
}

fn append_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let _ = serde_json::to_writer(&mut *out, value);
}
