//! The items of a response's output while it is written: thoughts, messages and tool calls.

use crate::dialect::responses::tools::freeform_input;
use crate::dialect::responses::wire::{ContentPart, OutputItem, SummaryText, UrlCitation};

/// One item of the output.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) content: Content,
}

/// The state of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Open,
    Completed,
    Incomplete,
}

/// The content of an item.
#[derive(Debug)]
pub(crate) enum Content {
    Reasoning(String),
    Message(Vec<Part>),
    Call(Call),
}

/// A part of a message.
#[derive(Debug)]
pub(crate) enum Part {
    Text { text: String, annotations: Vec<UrlCitation> },
    Refusal(String),
}

/// A call of a function or of a freeform tool.
#[derive(Debug)]
pub(crate) struct Call {
    /// Position of the call in the answer, from 0, as events name it.
    pub(crate) index: u32,
    pub(crate) call_id: String,
    pub(crate) name: String,
    /// JSON text; the plain input once a freeform call is over.
    pub(crate) arguments: String,
    pub(crate) is_freeform: bool,
    /// Whether the event that opens it was written.
    pub(crate) is_announced: bool,
}

/// Arguments of a call without arguments.
const NO_ARGUMENTS: &str = "{}";

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

impl Call {
    /// Makes the arguments what the caller gets: JSON, or the input of a freeform tool. Gives whether none of it was
    /// told while it came.
    pub(crate) fn complete(&mut self, status: Status) -> bool {
        if self.is_freeform {
            self.arguments = freeform_input(&self.arguments);
            return !self.arguments.is_empty();
        }
        let is_empty = self.arguments.is_empty() && status == Status::Completed;
        if is_empty {
            self.arguments.push_str(NO_ARGUMENTS);
        }
        is_empty
    }
}

impl Item {
    pub(crate) fn wire(&self) -> OutputItem<'_> {
        let Self { id, status, content } = self;
        let status = status.as_str();
        match content {
            Content::Reasoning(text) => {
                let summary = if text.is_empty() { Vec::new() } else { vec![SummaryText { text }] };
                OutputItem::Reasoning { id, summary }
            }
            Content::Message(parts) => {
                OutputItem::Message { id, status, role: "assistant", content: parts.iter().map(Part::wire).collect() }
            }
            Content::Call(Call { call_id, name, arguments, is_freeform: true, .. }) => {
                // The input of an open call is not complete, so it is shown empty.
                let input = if self.status == Status::Open { "" } else { arguments };
                OutputItem::CustomToolCall { id, status, call_id, name, input }
            }
            Content::Call(Call { call_id, name, arguments, .. }) => {
                OutputItem::FunctionCall { id, status, call_id, name, arguments }
            }
        }
    }

    /// Characters of text, as citations count them.
    pub(crate) fn characters(&self) -> usize {
        let of_part = |part: &Part| match part {
            Part::Text { text, .. } => text.chars().count(),
            Part::Refusal(_) => 0,
        };
        match &self.content {
            Content::Message(parts) => parts.iter().map(of_part).sum(),
            Content::Reasoning(_) | Content::Call(_) => 0,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.content {
            Content::Reasoning(text) => text.len(),
            Content::Message(parts) => parts.iter().map(|part| part.words().len()).sum(),
            Content::Call(call) => call.name.len() + call.arguments.len(),
        }
    }
}

impl Part {
    pub(crate) fn wire(&self) -> ContentPart<'_> {
        match self {
            Self::Text { text, annotations } => ContentPart::OutputText { text, annotations, logprobs: [] },
            Self::Refusal(refusal) => ContentPart::Refusal { refusal },
        }
    }

    pub(crate) fn words(&self) -> &str {
        match self {
            Self::Text { text, .. } | Self::Refusal(text) => text,
        }
    }
}
