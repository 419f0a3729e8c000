//! An answer of Anthropic's dialect as one JSON object.

use serde_json::json;

use crate::chat::reply::{Ending, ReplyEvent, ReplySink};
use crate::dialect::anthropic::reply::calls::Calls;
use crate::dialect::anthropic::reply::message::{Message, MessageHead, SIGNATURE, Usage, empty_text, stop_reason};
use crate::dialect::anthropic::reply::search::{append_sources, search_blocks};

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
