//! An answer of Anthropic's dialect as a stream of named events.
//!
//! A stream has one block open at a time, so the arguments of a second tool call wait for the end of the first.

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use serde_json::{Value, json};

use crate::chat::failure::Failure;
use crate::chat::reply::{Ending, ReplyEvent, ReplySink, Text};
use crate::dialect::anthropic::error::error_body;
use crate::dialect::anthropic::reply::calls::Calls;
use crate::dialect::anthropic::reply::message::{Message, MessageHead, SIGNATURE, Usage, empty_text, stop_reason};
use crate::dialect::anthropic::reply::search::{append_sources, search_blocks};
use crate::dialect::writer::{EVENT_TEXT_BYTES_MAX, StreamWriter};

/// The keep-alive of a silent stream.
const PING: Bytes = Bytes::from_static(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");

/// An answer on its way out as an event stream.
#[derive(Debug)]
pub(crate) struct MessageStream {
    head: MessageHead,
    out: BytesMut,
    /// Whether the event `message_start` was written.
    is_begun: bool,
    /// The index of the next block.
    next: usize,
    open: Option<Open>,
    calls: Calls,
    /// Position in `calls` of the call that is written now, or next.
    call: usize,
    late: String,
    is_refused: bool,
}

/// The kind of the open block.
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

    /// Writes a block whose content is complete.
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
        text.in_pieces(EVENT_TEXT_BYTES_MAX, |piece| self.delta(kind, key, piece));
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

    /// Writes what can be written of the calls, one call after the other. At the end all of them are complete.
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

    /// Returns `None`: `message_start` waits for the answer, which may come from another attempt.
    fn head(&mut self) -> Option<Bytes> {
        None
    }

    fn finish(&mut self, ending: &Ending) {
        self.write_calls(true);
        let has_text = self.open == Some(Open::Text);
        let mut late = std::mem::take(&mut self.late);
        append_sources(&ending.sources, has_text || !late.is_empty(), &mut late);
        // A message has at least one block, if only an empty text.
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
