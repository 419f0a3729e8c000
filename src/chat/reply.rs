//! The neutral form of an answer: the events between an upstream and a dialect.

use std::borrow::Cow;

use memchr::memchr;
use serde_json::{Map, Value};

use crate::base::text::pieces;

/// A piece of text, either as the JSON string literal that the upstream sent or as plain text.
///
/// Most text is only handed on, and a literal can be spliced into the outgoing JSON as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// A valid JSON string literal with its quotes and without lone surrogates.
    Literal(&'a str),
    /// Text without any escapes.
    Plain(&'a str),
}

impl<'a> Text<'a> {
    /// The text itself; borrowed unless escapes have to be undone.
    #[must_use]
    pub fn plain(self) -> Cow<'a, str> {
        match self {
            Self::Plain(text) => Cow::Borrowed(text),
            Self::Literal(literal) => {
                let inner = inner(literal);
                if memchr(b'\\', inner.as_bytes()).is_none() {
                    return Cow::Borrowed(inner);
                }
                let mut text = String::with_capacity(inner.len());
                unescape(inner, &mut None, &mut text);
                Cow::Owned(text)
            }
        }
    }

    /// Appends the text, escapes undone.
    pub fn append_to(self, out: &mut String) {
        match self {
            Self::Plain(text) => out.push_str(text),
            Self::Literal(literal) => unescape(inner(literal), &mut None, out),
        }
    }

    /// Hands on the text in pieces, escapes undone, without a copy.
    pub(crate) fn for_each_piece(self, sink: &mut impl FnMut(&str)) {
        match self {
            Self::Plain(text) => sink(text),
            Self::Literal(literal) => unescape_into(inner(literal), &mut None, sink),
        }
    }

    /// Hands on the text as it is, or, if it is longer than `bytes_max` bytes, in pieces of at most that size, escapes
    /// undone, cut between characters. Escapes of a literal count as they are written.
    pub(crate) fn in_pieces(self, bytes_max: usize, mut sink: impl FnMut(Text<'_>)) {
        let bytes = match self {
            Self::Plain(text) => text.len(),
            Self::Literal(literal) => inner(literal).len(),
        };
        if bytes <= bytes_max {
            sink(self);
        } else {
            pieces(&self.plain(), bytes_max).for_each(|piece| sink(Text::Plain(piece)));
        }
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(self) -> bool {
        match self {
            Self::Plain(text) => text.is_empty(),
            Self::Literal(literal) => literal.len() <= 2,
        }
    }
}

/// A string literal without its quotes.
fn inner(literal: &str) -> &str {
    literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(literal)
}

/// Appends the text of a valid literal whose quotes are off.
///
/// `half` is the first half of a surrogate pair from the literal before, and becomes one whose second half may be
/// in the next. A half that stays alone becomes U+FFFD.
pub(crate) fn unescape(literal: &str, half: &mut Option<u16>, out: &mut String) {
    unescape_into(literal, half, &mut |piece| out.push_str(piece));
}

fn unescape_into(literal: &str, half: &mut Option<u16>, out: &mut impl FnMut(&str)) {
    let mut rest = literal;
    while let Some(place) = memchr(b'\\', rest.as_bytes()) {
        let (before, escape) = rest.split_at(place);
        push(before, half, out);
        let mut characters = escape.chars();
        let named = match characters.by_ref().nth(1) {
            Some('n') => "\n",
            Some('t') => "\t",
            Some('r') => "\r",
            Some('b') => "\u{8}",
            Some('f') => "\u{c}",
            Some('u') => {
                let unit = escape.get(2..6).and_then(|hex| u16::from_str_radix(hex, 16).ok());
                push_unit(unit.unwrap_or(REPLACEMENT), half, out);
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            // A quote, a slash or a backslash stands for itself.
            _ => escape.get(1..2).unwrap_or_default(),
        };
        push(named, half, out);
        rest = characters.as_str();
    }
    push(rest, half, out);
}

const REPLACEMENT: u16 = 0xfffd;

fn push(text: &str, half: &mut Option<u16>, out: &mut impl FnMut(&str)) {
    if !text.is_empty() {
        if half.take().is_some() {
            push_char(char::REPLACEMENT_CHARACTER, out);
        }
        out(text);
    }
}

fn push_char(character: char, out: &mut impl FnMut(&str)) {
    out(character.encode_utf8(&mut [0; 4]));
}

fn push_unit(unit: u16, half: &mut Option<u16>, out: &mut impl FnMut(&str)) {
    let pair = half.take().into_iter().chain([unit]);
    for character in char::decode_utf16(pair) {
        match character {
            Ok(character) => push_char(character, out),
            Err(lone) if lone.unpaired_surrogate() == unit && unit < 0xdc00 => *half = Some(unit),
            Err(_) => push_char(char::REPLACEMENT_CHARACTER, out),
        }
    }
}

/// One event of an answer, in order.
#[derive(Debug, PartialEq)]
pub enum ReplyEvent<'a> {
    /// The upstream took the request; `response_id` names the answer (needed to stop or continue it).
    Started {
        /// The upstream's id of the answer.
        response_id: &'a str,
    },
    /// More text of the answer.
    Text(Text<'a>),
    /// More text of the thoughts before the answer or between its parts.
    Reasoning(Text<'a>),
    /// A tool call begins, or its id or name arrives later than its beginning.
    ToolCall {
        /// Position of the call in the answer, from 0.
        index: u32,
        /// Its id; empty when this event does not bring it.
        id: &'a str,
        /// Name of the tool; empty when this event does not bring it.
        name: &'a str,
    },
    /// More of the arguments of a call.
    ToolArguments {
        /// Position of the call in the answer, from 0.
        index: u32,
        /// A piece of JSON text, never empty.
        json: &'a str,
    },
    /// A call is complete.
    ToolCallDone {
        /// Position of the call in the answer, from 0.
        index: u32,
    },
    /// More of the model's own refusal to answer.
    Refusal(Text<'a>),
    /// A picture; each picture comes once.
    Image {
        /// URL of the picture.
        url: &'a str,
    },
    /// A video whose making is finished.
    Video {
        /// URL of the video.
        url: &'a str,
    },
    /// The fields of a frame that no other event carries.
    Extra(Extra<'a>),
    /// A page that a search found; the first one is `[[1]]` in the text.
    Source(Source),
    /// A built-in tool is at work; nothing to show, but the upstream is alive.
    Activity,
    /// A frame that this version does not know. Counted, to notice changes of the protocol.
    Unknown {
        /// The phase or the kind of frame, cut to a short word.
        what: &'a str,
    },
    /// The upstream finished the answer.
    Finished {
        /// The reason that the upstream gives.
        reason: FinishReason,
    },
}

/// The rest of an upstream's frame, for a caller of the same dialect; other dialects ignore it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extra<'a> {
    /// The frame without the texts, arguments, ids and names that went out as events.
    pub frame: &'a Map<String, Value>,
    /// Whether the rest alone has something for the caller, such as a further choice or the end of one.
    pub is_content: bool,
    /// The field of the first choice that its [`ReplyEvent::Reasoning`] stood in.
    pub thoughts: &'static str,
}

impl ReplyEvent<'_> {
    /// Whether the caller gets to see something with this event; the first such event ends failover.
    #[must_use]
    pub fn is_content(&self) -> bool {
        match self {
            Self::Text(_)
            | Self::Reasoning(_)
            | Self::ToolCall { .. }
            | Self::ToolArguments { .. }
            | Self::Refusal(_)
            | Self::Image { .. }
            | Self::Video { .. } => true,
            Self::Extra(extra) => extra.is_content,
            Self::Started { .. }
            | Self::ToolCallDone { .. }
            | Self::Source(_)
            | Self::Activity
            | Self::Unknown { .. }
            | Self::Finished { .. } => false,
        }
    }
}

/// A page that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its address; empty for a hit that names no page and only keeps its place in the count.
    pub url: String,
    /// Its title, or the address again.
    pub title: String,
}

/// Reasons why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// It was complete, or a stop sequence was met.
    Stop,
    /// The caller's token limit was met.
    Length,
    /// The upstream's content policy cut it.
    ContentFilter,
    /// The model waits for the results of its tool calls.
    ToolCalls,
}

impl FinishReason {
    /// `finish_reason` in OpenAI's dialect.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// Token counts of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Tokens of the prompt, at least 1.
    pub prompt: u64,
    /// Tokens of the answer with its reasoning, at least 1.
    pub completion: u64,
    /// The part of `completion` that was thinking.
    pub reasoning: u64,
    /// The part of `prompt` that came from a cache.
    pub cached: u64,
}

impl TokenCounts {
    /// The sum of both, for an answer that took two tries.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            prompt: self.prompt + other.prompt,
            completion: self.completion + other.completion,
            reasoning: self.reasoning + other.reasoning,
            cached: self.cached + other.cached,
        }
    }
}

/// Failures of an upstream's stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A frame is not JSON, or JSON of an impossible shape.
    #[error("a frame of the upstream's stream cannot be read")]
    Json,
    /// The upstream refused or failed inside the stream.
    #[error("the upstream reported {code}")]
    Refused {
        /// The upstream's code, `error` when it gave none.
        code: String,
        /// The upstream's text, uncleaned: not for callers or logs as it is.
        details: String,
        /// `num` of the error: hours until the quota returns.
        hours: Option<u64>,
    },
    /// The risk engine answered inside the stream.
    #[error("the upstream wants a human to pass its check")]
    Challenged,
    /// The stream ended without its last frame.
    #[error("the upstream broke off its answer")]
    Truncated,
    /// The answer ended without any content.
    #[error("the upstream gave an empty answer")]
    Empty,
}

/// The end of an answer and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The reason that the caller is told.
    pub reason: FinishReason,
    /// The stop sequence that was met, where this server looks for them itself.
    pub stop_sequence: Option<String>,
    /// Tokens of the turn: the upstream's counts, or estimates where it gave none.
    pub usage: TokenCounts,
    /// Whether any of them is an estimate.
    pub is_usage_estimated: bool,
    /// Pages that a search found.
    pub sources: Vec<Source>,
    /// The places of the content that cite pages, in the order of the text.
    pub citations: Vec<Citation>,
}

/// A place of the content that cites a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Citation {
    /// The first character, counted from 0.
    pub start: usize,
    /// The character after the last.
    pub end: usize,
    /// The place of the page in [`Ending::sources`].
    pub source: usize,
}

/// A complete answer that is not of the form that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The form that was asked for.
    pub kind: RejectedAs,
    /// The fault, in words for the model.
    pub why: String,
    /// The answer as the upstream sent it.
    pub text: String,
}

/// The form that an answer should have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedAs {
    /// Calls of declared tools with valid arguments.
    ToolCall,
    /// JSON in the requested form.
    StructuredOutput,
}

impl RejectedAs {
    /// `code` of the failure when the second try was rejected too.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::ToolCall => "tool_call_invalid",
            Self::StructuredOutput => "structured_output_invalid",
        }
    }
}

/// A receiver of an answer: writes a stream, or collects a whole.
pub trait ReplySink {
    /// Takes the next event.
    fn event(&mut self, event: ReplyEvent<'_>);

    /// Bytes that are buffered and not taken yet.
    fn held_bytes(&self) -> usize;

    /// Forgets everything since the beginning, because another attempt answers in place of this one.
    fn reset(&mut self);
}
