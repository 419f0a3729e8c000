//! Answers in Anthropic's dialect: a stream of named events, or a whole `message`.
//!
//! Both say the same in the same order: thoughts, text, calls of tools, then what came late: text behind a call, and
//! the pages of a search. A stream has one block open at a time, so the arguments of a second call wait for the end of
//! the first.

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::chat::failure::Failure;
use crate::chat::reply::{Ending, FinishReason, ReplyEvent, ReplySink, Source, Text, TokenCounts};
use crate::dialect::anthropic::error::error_body;
use crate::dialect::anthropic::request::SearchTool;
use crate::dialect::writer::StreamWriter;

/// What is sent on a silent stream.
const PING: Bytes = Bytes::from_static(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
/// Thoughts of other models have no signature of Anthropic's, but SDKs want one: any base64 text.
const SIGNATURE: &str = "cXdlbi1icmlkZ2U=";
/// The most text that one delta carries, in bytes as plain text: with every escape the line stays under 64 KiB.
const DELTA_BYTES_MAX: usize = 10 * 1024;
/// The most tool calls of one answer.
const CALLS_MAX: usize = 256;

/// What a message carries beside its content.
#[derive(Clone, Debug)]
pub(crate) struct MessageHead {
    /// `msg_…`.
    pub id: String,
    /// The name that was asked for.
    pub model: String,
    /// An estimate of the prompt's tokens: a stream names them before the upstream has counted.
    pub prompt_tokens: u64,
    /// The search tool that the caller declared.
    pub search: Option<SearchTool>,
}

/// An answer on its way out as an event stream.
#[derive(Debug)]
pub(crate) struct MessageStream {
    head: MessageHead,
    out: BytesMut,
    /// `message_start` was written.
    is_begun: bool,
    /// The index of the next block.
    next: usize,
    open: Option<Open>,
    calls: Calls,
    /// The place of the call that is written, or will be next.
    call: usize,
    late: String,
    is_refused: bool,
}

/// The block that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    ToolUse,
}

impl MessageStream {
    /// A stream of an answer that begins.
    #[must_use]
    pub(crate) fn new(head: MessageHead) -> Self {
        Self {
            head,
            out: BytesMut::new(),
            is_begun: false,
            next: 0,
            open: None,
            calls: Calls::default(),
            call: 0,
            late: String::new(),
            is_refused: false,
        }
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        let usage = Usage::new(self.head.prompt_tokens.max(1), 1, 0);
        let message = Message {
            id: &self.head.id,
            kind: "message",
            role: "assistant",
            model: &self.head.model,
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage,
        };
        write_event(&mut self.out, "message_start", &json!({"message": message}));
    }

    /// Opens a block, if it is not open already, and closes the one before it.
    fn open(&mut self, block: Open, content: impl FnOnce() -> Value) {
        if self.open == Some(block) && block != Open::ToolUse {
            return;
        }
        self.begin();
        self.close();
        self.open = Some(block);
        let start = json!({"index": self.next, "content_block": content()});
        write_event(&mut self.out, "content_block_start", &start);
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open == Open::Thinking {
            self.delta("signature_delta", "signature", Text::Plain(SIGNATURE));
        }
        write_event(&mut self.out, "content_block_stop", &json!({"index": self.next}));
        self.next += 1;
    }

    /// A block that is complete at once.
    fn block(&mut self, content: &Value) {
        self.begin();
        self.close();
        let index = self.next;
        write_event(&mut self.out, "content_block_start", &json!({"index": index, "content_block": content}));
        write_event(&mut self.out, "content_block_stop", &json!({"index": index}));
        self.next += 1;
    }

    fn text(&mut self, text: Text<'_>) {
        self.open(Open::Text, empty_text);
        self.pieces("text_delta", "text", text);
    }

    /// Writes a text as one delta of the open block, or as several when it is long.
    fn pieces(&mut self, kind: &str, key: &str, text: Text<'_>) {
        let bytes = match text {
            Text::Plain(text) => text.len(),
            Text::Literal(literal) => literal.len().saturating_sub(2),
        };
        if bytes <= DELTA_BYTES_MAX {
            self.delta(kind, key, text);
            return;
        }
        let plain = text.plain();
        let mut rest: &str = &plain;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rest.floor_char_boundary(DELTA_BYTES_MAX));
            rest = tail;
            self.delta(kind, key, Text::Plain(head));
        }
    }

    fn delta(&mut self, kind: &str, key: &str, text: Text<'_>) {
        let index = self.next;
        // Writing into memory cannot fail.
        let _ = write!(
            self.out,
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\
             \"type\":\"{kind}\",\"{key}\":"
        );
        match text {
            Text::Literal(literal) => self.out.put_slice(literal.as_bytes()),
            Text::Plain(plain) => append(&mut self.out, plain),
        }
        self.out.put_slice(b"}}\n\n");
    }

    /// Writes what may be written of the calls: they go out one after the other. At the end all of them are complete.
    fn write_calls(&mut self, is_end: bool) {
        while let Some(call) = self.calls.0.get_mut(self.call) {
            let is_done = call.is_done || is_end;
            if !call.is_open && (!call.arguments.is_empty() || is_done) && !call.name.is_empty() {
                call.is_open = true;
                let (id, name) = (call.id(&self.head.id, self.call), call.name.clone());
                self.open(Open::ToolUse, || json!({"type": "tool_use", "id": id, "name": name, "input": {}}));
            }
            let Some(call) = self.calls.0.get_mut(self.call).filter(|call| call.is_open || is_done) else { return };
            if call.is_open {
                let json = std::mem::take(&mut call.arguments);
                if !json.is_empty() {
                    self.pieces("input_json_delta", "partial_json", Text::Plain(&json));
                }
            }
            if !is_done {
                return;
            }
            self.call += 1;
            if self.open == Some(Open::ToolUse) {
                self.close();
            }
        }
    }
}

impl ReplySink for MessageStream {
    fn event(&mut self, event: ReplyEvent<'_>) {
        match event {
            ReplyEvent::Reasoning(text) => {
                self.open(Open::Thinking, || json!({"type": "thinking", "thinking": "", "signature": ""}));
                self.pieces("thinking_delta", "thinking", text);
            }
            ReplyEvent::Text(text) | ReplyEvent::Refusal(text) => {
                self.is_refused |= matches!(event, ReplyEvent::Refusal(_));
                if self.calls.0.is_empty() { self.text(text) } else { text.append_to(&mut self.late) }
            }
            ReplyEvent::ToolCall { .. } | ReplyEvent::ToolArguments { .. } | ReplyEvent::ToolCallDone { .. } => {
                self.begin();
                self.calls.event(&event);
                self.write_calls(false);
            }
            ReplyEvent::Started { .. }
            | ReplyEvent::Image { .. }
            | ReplyEvent::Video { .. }
            | ReplyEvent::Extra(_)
            | ReplyEvent::Source(_)
            | ReplyEvent::Activity
            | ReplyEvent::Unknown { .. }
            | ReplyEvent::Finished { .. } => {}
        }
    }

    fn held_bytes(&self) -> usize {
        self.out.len()
    }

    fn reset(&mut self) {
        *self = Self::new(self.head.clone());
    }
}

impl StreamWriter for MessageStream {
    fn keepalive() -> Bytes {
        PING
    }

    /// None: `message_start` waits for the answer, which may come from another attempt.
    fn head(&mut self) -> Option<Bytes> {
        None
    }

    fn finish(&mut self, ending: &Ending) {
        self.write_calls(true);
        let has_text = self.open == Some(Open::Text);
        let mut late = std::mem::take(&mut self.late);
        append_sources(&ending.sources, has_text || !late.is_empty(), &mut late);
        // A message without content is none.
        if !late.is_empty() || (self.next == 0 && self.open.is_none()) {
            self.open(Open::Text, empty_text);
        }
        if !late.is_empty() {
            self.pieces("text_delta", "text", Text::Plain(&late));
        }
        let searched = search_blocks(&self.head, &ending.sources);
        for block in searched.iter().flatten() {
            self.block(block);
        }
        self.close();
        let (reason, sequence) = stop_reason(ending, self.calls.any(), self.is_refused);
        let usage = Usage::of(ending.usage, searched.is_some());
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        write_event(&mut self.out, "message_delta", &json!({"delta": delta, "usage": usage}));
        write_event(&mut self.out, "message_stop", &json!({}));
    }

    fn fail(&mut self, failure: &Failure, request_id: &str) {
        self.out.put_slice(b"event: error\ndata: ");
        append(&mut self.out, &error_body(failure, Some(request_id)));
        self.out.put_slice(b"\n\n");
    }

    fn take(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }
}

/// An answer as a whole.
#[derive(Debug, Default)]
pub(crate) struct WholeMessage {
    thinking: String,
    text: String,
    calls: Calls,
    late: String,
    is_refused: bool,
}

impl WholeMessage {
    /// The JSON of the message.
    #[must_use]
    pub(crate) fn finish(mut self, head: &MessageHead, ending: &Ending) -> Vec<u8> {
        let mut content = Vec::new();
        if !self.thinking.is_empty() {
            content.push(json!({"type": "thinking", "thinking": self.thinking, "signature": SIGNATURE}));
        }
        let has_calls = self.calls.any();
        let text = if has_calls { &mut self.late } else { &mut self.text };
        let before = !text.is_empty();
        append_sources(&ending.sources, before, text);
        if !self.text.is_empty() {
            content.push(json!({"type": "text", "text": self.text}));
        }
        for (place, call) in self.calls.0.iter().enumerate().filter(|(_, call)| !call.name.is_empty()) {
            let id = call.id(&head.id, place);
            content.push(json!({"type": "tool_use", "id": id, "name": call.name, "input": call.input()}));
        }
        if !self.late.is_empty() {
            content.push(json!({"type": "text", "text": self.late}));
        }
        if content.is_empty() {
            content.push(empty_text());
        }
        let searched = search_blocks(head, &ending.sources);
        let has_searched = searched.is_some();
        content.extend(searched.into_iter().flatten());
        let (stop_reason, stop_sequence) = stop_reason(ending, has_calls, self.is_refused);
        let message = Message {
            id: &head.id,
            kind: "message",
            role: "assistant",
            model: &head.model,
            content,
            stop_reason: Some(stop_reason),
            stop_sequence,
            usage: Usage::of(ending.usage, has_searched),
        };
        // Plain strings and numbers always serialise.
        serde_json::to_vec(&message).unwrap_or_default()
    }
}

impl ReplySink for WholeMessage {
    fn event(&mut self, event: ReplyEvent<'_>) {
        match event {
            ReplyEvent::Reasoning(text) => text.append_to(&mut self.thinking),
            ReplyEvent::Text(text) | ReplyEvent::Refusal(text) => {
                self.is_refused |= matches!(event, ReplyEvent::Refusal(_));
                text.append_to(if self.calls.0.is_empty() { &mut self.text } else { &mut self.late });
            }
            ReplyEvent::ToolCall { .. } | ReplyEvent::ToolArguments { .. } | ReplyEvent::ToolCallDone { .. } => {
                self.calls.event(&event);
            }
            ReplyEvent::Started { .. }
            | ReplyEvent::Image { .. }
            | ReplyEvent::Video { .. }
            | ReplyEvent::Extra(_)
            | ReplyEvent::Source(_)
            | ReplyEvent::Activity
            | ReplyEvent::Unknown { .. }
            | ReplyEvent::Finished { .. } => {}
        }
    }

    fn held_bytes(&self) -> usize {
        self.thinking.len() + self.text.len() + self.late.len() + self.calls.bytes()
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

/// The calls of an answer, by their index.
#[derive(Debug, Default)]
struct Calls(Vec<Call>);

#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    /// What is not written yet.
    arguments: String,
    /// Its block was begun.
    is_open: bool,
    is_done: bool,
}

impl Calls {
    fn event(&mut self, event: &ReplyEvent<'_>) {
        match event {
            ReplyEvent::ToolCall { index, id, name } => {
                if let Some(call) = self.at(*index) {
                    call.id.push_str(id);
                    call.name.push_str(name);
                }
            }
            ReplyEvent::ToolArguments { index, json } => {
                if let Some(call) = self.at(*index) {
                    call.arguments.push_str(json);
                }
            }
            ReplyEvent::ToolCallDone { index } => {
                if let Some(call) = self.at(*index) {
                    call.is_done = true;
                }
            }
            _ => {}
        }
    }

    fn at(&mut self, index: u32) -> Option<&mut Call> {
        let place = usize::try_from(index).ok().filter(|place| *place < CALLS_MAX)?;
        if self.0.len() <= place {
            self.0.resize_with(place + 1, Call::default);
        }
        self.0.get_mut(place)
    }

    /// Whether there is a call. One without a name cannot be made.
    fn any(&self) -> bool {
        self.0.iter().any(|call| !call.name.is_empty())
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len()).sum()
    }
}

impl Call {
    /// The upstream's id; where it gave none, one of the message's.
    fn id(&self, message_id: &str, place: usize) -> String {
        if !self.id.is_empty() {
            return self.id.clone();
        }
        let unique = message_id.strip_prefix("msg_").unwrap_or(message_id);
        format!("toolu_{unique}{place}")
    }

    /// The arguments as an object. Text that is none, such as arguments that the token limit cut, stands in one key.
    fn input(&self) -> Value {
        if self.arguments.trim().is_empty() {
            return Value::Object(Map::new());
        }
        match serde_json::from_str(&self.arguments) {
            Ok(Value::Object(input)) => Value::Object(input),
            _ => json!({"arguments": self.arguments}),
        }
    }
}

/// Anthropic's words for the end of an answer: the reason, and the stop sequence that was met.
fn stop_reason(ending: &Ending, has_calls: bool, is_refused: bool) -> (&'static str, Option<&str>) {
    match ending.reason {
        FinishReason::Length => ("max_tokens", None),
        FinishReason::ContentFilter => ("refusal", None),
        FinishReason::Stop | FinishReason::ToolCalls if has_calls => ("tool_use", None),
        FinishReason::Stop | FinishReason::ToolCalls if is_refused => ("refusal", None),
        FinishReason::Stop | FinishReason::ToolCalls => match &ending.stop_sequence {
            Some(sequence) => ("stop_sequence", Some(sequence)),
            None => ("end_turn", None),
        },
    }
}

fn empty_text() -> Value {
    json!({"type": "text", "text": ""})
}

/// Lists the pages of a search as Markdown links. Their numbers are those of marks like `[[1]]` in the text.
fn append_sources(sources: &[Source], is_behind_text: bool, out: &mut String) {
    let pages = sources.iter().zip(1..).filter(|(source, _)| !source.url.is_empty());
    for (place, (source, number)) in pages.enumerate() {
        if place == 0 {
            out.push_str(if is_behind_text { "\n\nSources:" } else { "Sources:" });
        }
        let title: String = source.title.chars().map(|c| if "[]\r\n".contains(c) { ' ' } else { c }).collect();
        let url = source.url.replace('(', "%28").replace(')', "%29").replace(' ', "%20");
        // Writing into memory cannot fail.
        let _ = write!(out, "\n{number}. [{}]({url})", title.trim());
    }
}

/// The blocks of a search, for callers who declared the tool; `None` where nothing was searched.
fn search_blocks(head: &MessageHead, sources: &[Source]) -> Option<[Value; 2]> {
    let tool = head.search.as_ref().filter(|_| !sources.is_empty())?;
    let id = format!("srvtoolu_{}", head.id.strip_prefix("msg_").unwrap_or(&head.id));
    let results: Vec<Value> = sources
        .iter()
        .filter(|source| !source.url.is_empty())
        .map(|source| {
            json!({
                "type": "web_search_result", "url": source.url, "title": source.title, "encrypted_content": "",
                "page_age": null,
            })
        })
        .collect();
    Some([
        json!({"type": "server_tool_use", "id": id, "name": tool.name, "input": {"query": tool.query}}),
        json!({"type": "web_search_tool_result", "tool_use_id": id, "content": results}),
    ])
}

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Value>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    usage: Usage,
}

/// Token counts. All of the prompt is in `input_tokens`: clients that watch the size of the conversation look at it
/// alone.
#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_tool_use: Option<ServerToolUse>,
}

#[derive(Serialize)]
struct ServerToolUse {
    web_search_requests: u64,
}

impl Usage {
    fn new(input_tokens: u64, output_tokens: u64, searches: u64) -> Self {
        let server_tool_use = (searches > 0).then_some(ServerToolUse { web_search_requests: searches });
        Self {
            input_tokens,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: 0,
            output_tokens,
            server_tool_use,
        }
    }

    fn of(counts: TokenCounts, has_searched: bool) -> Self {
        Self::new(counts.prompt, counts.completion, u64::from(has_searched))
    }
}

/// Writes an event; its data is an object beside the type.
fn write_event(out: &mut BytesMut, name: &str, body: &Value) {
    let _ = write!(out, "event: {name}\ndata: {{\"type\":\"{name}\"");
    for (key, value) in body.as_object().into_iter().flatten() {
        let _ = write!(out, ",\"{key}\":");
        append(out, value);
    }
    out.put_slice(b"}\n\n");
}

fn append<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    // Writing these types into memory cannot fail.
    let _ = serde_json::to_writer(out.writer(), value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::failure::FailureKind;

    fn head(search: bool) -> MessageHead {
        let tool = SearchTool { name: "web_search".to_owned(), query: "q".to_owned() };
        MessageHead { id: "msg_1".to_owned(), model: "m".to_owned(), prompt_tokens: 7, search: search.then_some(tool) }
    }

    fn ending(reason: FinishReason) -> Ending {
        let usage = TokenCounts { prompt: 9, completion: 4, reasoning: 1, cached: 5 };
        Ending {
            reason,
            stop_sequence: None,
            usage,
            is_usage_estimated: false,
            sources: Vec::new(),
            citations: Vec::new(),
        }
    }

    fn text(text: &'static str) -> ReplyEvent<'static> {
        ReplyEvent::Text(Text::Plain(text))
    }

    fn call(index: u32, id: &'static str, name: &'static str) -> ReplyEvent<'static> {
        ReplyEvent::ToolCall { index, id, name }
    }

    fn arguments(index: u32, json: &'static str) -> ReplyEvent<'static> {
        ReplyEvent::ToolArguments { index, json }
    }

    /// The stream of an answer, each event in short, and the whole message, which has to be the sum of the stream.
    fn write(events: impl Fn() -> Vec<ReplyEvent<'static>>, ending: &Ending, search: bool) -> (String, Value) {
        let mut stream = MessageStream::new(head(search));
        assert_eq!(stream.head(), None);
        events().into_iter().for_each(|event| stream.event(event));
        stream.finish(ending);
        let bytes = stream.take().unwrap();
        let (outline, mut streamed) = read(str::from_utf8(&bytes).unwrap());
        let mut whole = WholeMessage::default();
        events().into_iter().for_each(|event| whole.event(event));
        let whole: Value = serde_json::from_slice(&whole.finish(&head(search), ending)).unwrap();
        if let Some(content) = streamed["content"].as_array_mut() {
            content.iter_mut().filter_map(|block| block.as_object_mut()).for_each(|block| {
                block.remove("partial");
            });
        }
        assert_eq!(streamed, whole);
        (outline, whole)
    }

    /// Puts a message together as the SDKs do.
    fn read(stream: &str) -> (String, Value) {
        let (mut outline, mut message) = (String::new(), Value::Null);
        for event in stream.split_terminator("\n\n") {
            let (name, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            let name = name.strip_prefix("event: ").unwrap();
            assert_eq!(data["type"], name);
            let index = usize::try_from(data["index"].as_u64().unwrap_or(0)).unwrap();
            match name {
                "message_start" => {
                    message = data["message"].clone();
                    outline.push_str("start");
                }
                "content_block_start" => {
                    let content = message["content"].as_array_mut().unwrap();
                    assert_eq!(content.len(), index);
                    content.push(data["content_block"].clone());
                    write!(outline, " {}(", data["content_block"]["type"].as_str().unwrap()).unwrap();
                }
                "content_block_delta" => {
                    let block = &mut message["content"][index];
                    let delta = &data["delta"];
                    let (key, piece) = match delta["type"].as_str().unwrap() {
                        "text_delta" => ("text", &delta["text"]),
                        "thinking_delta" => ("thinking", &delta["thinking"]),
                        "signature_delta" => ("signature", &delta["signature"]),
                        "input_json_delta" => ("partial", &delta["partial_json"]),
                        other => panic!("{other}"),
                    };
                    let sum = format!("{}{}", block[key].as_str().unwrap_or_default(), piece.as_str().unwrap());
                    block[key] = sum.clone().into();
                    if key == "partial" {
                        block["input"] = serde_json::from_str(&sum).unwrap_or_default();
                    }
                    write!(outline, "{},", piece.as_str().unwrap()).unwrap();
                }
                "content_block_stop" => outline.push(')'),
                "message_delta" => {
                    for key in ["stop_reason", "stop_sequence"] {
                        message[key] = data["delta"][key].clone();
                    }
                    message["usage"] = data["usage"].clone();
                    write!(outline, " {}", data["delta"]["stop_reason"].as_str().unwrap()).unwrap();
                }
                "message_stop" => outline.push_str(" stop"),
                other => panic!("{other}"),
            }
        }
        (outline, message)
    }

    #[test]
    fn the_wire() {
        let mut stream = MessageStream::new(head(false));
        stream.event(ReplyEvent::Reasoning(Text::Plain("hm")));
        stream.event(ReplyEvent::Text(Text::Literal("\"a\\n\"")));
        stream.finish(&ending(FinishReason::Stop));
        insta::assert_snapshot!(str::from_utf8(&stream.take().unwrap()).unwrap(), @r#"
        event: message_start
        data: {"type":"message_start","message":{"content":[],"id":"msg_1","model":"m","role":"assistant","stop_reason":null,"stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":7,"output_tokens":1}}}

        event: content_block_start
        data: {"type":"content_block_start","content_block":{"signature":"","thinking":"","type":"thinking"},"index":0}

        event: content_block_delta
        data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}

        event: content_block_delta
        data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"cXdlbi1icmlkZ2U="}}

        event: content_block_stop
        data: {"type":"content_block_stop","index":0}

        event: content_block_start
        data: {"type":"content_block_start","content_block":{"text":"","type":"text"},"index":1}

        event: content_block_delta
        data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a\n"}}

        event: content_block_stop
        data: {"type":"content_block_stop","index":1}

        event: message_delta
        data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":9,"output_tokens":4}}

        event: message_stop
        data: {"type":"message_stop"}
        "#);
    }

    #[test]
    fn texts_and_thoughts() {
        let (outline, _) = write(|| vec![text("a"), text("b")], &ending(FinishReason::Stop), false);
        assert_eq!(outline, "start text(a,b,) end_turn stop");
        let thoughts = || vec![ReplyEvent::Reasoning(Text::Plain("hm")), text("a")];
        let (outline, _) = write(thoughts, &ending(FinishReason::Length), false);
        assert_eq!(outline, "start thinking(hm,cXdlbi1icmlkZ2U=,) text(a,) max_tokens stop");
        let (outline, whole) = write(Vec::new, &ending(FinishReason::Stop), false);
        assert_eq!(outline, "start text() end_turn stop");
        assert_eq!(whole["content"], json!([{"type": "text", "text": ""}]));
        let (outline, _) = write(|| vec![ReplyEvent::Refusal(Text::Plain("no"))], &ending(FinishReason::Stop), false);
        assert_eq!(outline, "start text(no,) refusal stop");
    }

    #[test]
    fn reasons() {
        let reason = |ending: &Ending| {
            let (_, whole) = write(|| vec![text("a")], ending, false);
            (whole["stop_reason"].as_str().unwrap().to_owned(), whole["stop_sequence"].clone())
        };
        let met = Ending { stop_sequence: Some("END".to_owned()), ..ending(FinishReason::Stop) };
        assert_eq!(reason(&met), ("stop_sequence".to_owned(), json!("END")));
        for (finish, word) in [
            (FinishReason::Stop, "end_turn"),
            (FinishReason::Length, "max_tokens"),
            (FinishReason::ContentFilter, "refusal"),
            (FinishReason::ToolCalls, "end_turn"),
        ] {
            assert_eq!(reason(&ending(finish)), (word.to_owned(), Value::Null));
        }
    }

    #[test]
    fn calls_of_tools() {
        let done = |index| ReplyEvent::ToolCallDone { index };
        let one = || vec![text("I look."), call(0, "t1", "look"), arguments(0, "{\"a\":"), arguments(0, "1}"), done(0)];
        let (outline, whole) = write(one, &ending(FinishReason::ToolCalls), false);
        assert_eq!(outline, r#"start text(I look.,) tool_use({"a":,1},) tool_use stop"#);
        assert_eq!(whole["content"][1], json!({"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}}));
        // Some upstreams end all calls with the answer, or write them side by side.
        let mixed = || {
            vec![
                call(0, "t1", "look"),
                arguments(0, "{"),
                call(1, "", "see"),
                arguments(1, "{}"),
                arguments(0, "}"),
                text("late"),
                done(0),
                done(1),
            ]
        };
        let (outline, whole) = write(mixed, &ending(FinishReason::Stop), false);
        assert_eq!(outline, "start tool_use({,},) tool_use({},) text(late,) tool_use stop");
        assert_eq!(whole["content"][1]["id"], "toolu_11");
        // Without arguments, without an end, without a name.
        let odd = || vec![call(1, "t", "look"), call(2, "u", "")];
        let (outline, whole) = write(odd, &ending(FinishReason::ToolCalls), false);
        assert_eq!(outline, "start tool_use() tool_use stop");
        assert_eq!(whole["content"], json!([{"type": "tool_use", "id": "t", "name": "look", "input": {}}]));
        let mut cut = WholeMessage::default();
        cut.event(call(0, "t", "look"));
        cut.event(arguments(0, "{\"a\": [1, "));
        let cut: Value = serde_json::from_slice(&cut.finish(&head(false), &ending(FinishReason::Length))).unwrap();
        assert_eq!(
            (&cut["stop_reason"], &cut["content"][0]["input"]["arguments"]),
            (&json!("max_tokens"), &json!("{\"a\": [1, "))
        );
    }

    #[test]
    fn pages_of_a_search() {
        let source = |url: &str, title: &str| Source { url: url.to_owned(), title: title.to_owned() };
        let sources = vec![source("https://e.org/(1)", "One [1]"), source("", "gone"), source("https://e.org/3", "3")];
        let found = Ending { sources, ..ending(FinishReason::Stop) };
        let (_, whole) = write(|| vec![text("a [[3]]")], &found, false);
        insta::assert_snapshot!(whole["content"][0]["text"].as_str().unwrap(), @r"
        a [[3]]

        Sources:
        1. [One  1](https://e.org/%281%29)
        3. [3](https://e.org/3)
        ");
        assert_eq!(whole["content"].as_array().unwrap().len(), 1);
        let (outline, whole) = write(|| vec![text("a")], &found, true);
        assert!(outline.contains(") server_tool_use() web_search_tool_result() end_turn stop"), "{outline}");
        let [_, used, result] = whole["content"].as_array().unwrap().as_slice() else { panic!("{whole}") };
        assert_eq!((&used["input"], &used["id"]), (&json!({"query": "q"}), &result["tool_use_id"]));
        assert_eq!(result["content"].as_array().unwrap().len(), 2);
        assert_eq!(whole["usage"]["server_tool_use"], json!({"web_search_requests": 1}));
        let (_, whole) = write(|| vec![text("a")], &ending(FinishReason::Stop), true);
        assert_eq!(whole["content"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn long_texts_are_more_events() {
        let mut stream = MessageStream::new(head(false));
        let long = "\u{1}é".repeat(9000);
        stream.event(ReplyEvent::Text(Text::Plain(&long)));
        stream.finish(&ending(FinishReason::Stop));
        let bytes = stream.take().unwrap();
        let stream = str::from_utf8(&bytes).unwrap();
        assert!(stream.lines().all(|line| line.len() < 64 * 1024));
        assert_eq!(read(stream).1["content"][0]["text"], long);
    }

    #[test]
    fn attempts_and_failures() {
        let mut stream = MessageStream::new(head(false));
        stream.event(ReplyEvent::Reasoning(Text::Plain("lost")));
        stream.event(call(0, "t", "lost"));
        stream.reset();
        assert_eq!((stream.take(), stream.held_bytes()), (None, 0));
        stream.event(text("a"));
        stream.fail(&Failure::new(FailureKind::Upstream, "upstream_error", "It broke."), "id-1");
        let bytes = stream.take().unwrap();
        let written = str::from_utf8(&bytes).unwrap();
        let expected = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"It \
                        broke.\"},\"request_id\":\"id-1\"}\n\n";
        assert!(written.starts_with("event: message_start\n") && written.ends_with(expected), "{written}");
        assert_eq!(MessageStream::keepalive(), "event: ping\ndata: {\"type\":\"ping\"}\n\n");
    }
}
