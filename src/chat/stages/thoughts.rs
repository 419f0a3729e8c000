//! Stage: the place of thoughts.

use crate::chat::job::ReasoningFormat;
use crate::chat::reply::{ReplyEvent, Text};

/// Puts thoughts where the caller wants them. Thoughts that come after the first text of the answer are left out:
/// clients close the block of thoughts at the first text, and some fail on a second block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thoughts {
    format: ReasoningFormat,
    /// A `<think>` tag is open in the content.
    is_open: bool,
    /// The answer proper has begun.
    is_answering: bool,
}

impl Thoughts {
    /// The stage of an answer that begins.
    #[must_use]
    pub(crate) fn new(format: ReasoningFormat) -> Self {
        Self { format, is_open: false, is_answering: false }
    }

    /// Takes an event and hands on the resulting events.
    pub(crate) fn push(&mut self, event: ReplyEvent<'_>, out: &mut impl FnMut(ReplyEvent<'_>)) {
        match event {
            ReplyEvent::Reasoning(_) if self.is_answering => {}
            ReplyEvent::Reasoning(text) => match self.format {
                ReasoningFormat::Parsed => out(ReplyEvent::Reasoning(text)),
                ReasoningFormat::Hidden => {}
                ReasoningFormat::Raw => {
                    if !std::mem::replace(&mut self.is_open, true) {
                        out(ReplyEvent::Text(Text::Plain("<think>\n")));
                    }
                    out(ReplyEvent::Text(text));
                }
            },
            ReplyEvent::Text(_) | ReplyEvent::ToolCall { .. } | ReplyEvent::Refusal(_) => {
                self.is_answering = true;
                if std::mem::take(&mut self.is_open) {
                    out(ReplyEvent::Text(Text::Plain("\n</think>\n\n")));
                }
                out(event);
            }
            other => out(other),
        }
    }

    /// Closes a tag that is still open.
    pub(crate) fn finish(&mut self, out: &mut impl FnMut(ReplyEvent<'_>)) {
        if std::mem::take(&mut self.is_open) {
            out(ReplyEvent::Text(Text::Plain("\n</think>")));
        }
    }
}
