//! The events of a streamed response: numbered, each with its name twice, in `event:` and in the data.

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;

use crate::chat::reply::Text;
use crate::dialect::responses::wire::{ContentPart, OutputItem, SummaryText, UrlCitation};
use crate::dialect::writer::EVENT_TEXT_BYTES_MAX;

/// Writes events and counts them.
#[derive(Debug, Default)]
pub(crate) struct Events {
    out: BytesMut,
    /// The number of the next event.
    sequence: u64,
    /// The number of the first event after the head, where another attempt begins again.
    first: u64,
}

/// The text of the response that a delta belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeltaOf<'a> {
    /// The name of the event.
    pub(crate) name: &'static str,
    pub(crate) item_id: &'a str,
    /// The place of the item.
    pub(crate) output_index: usize,
    /// `content_index` or `summary_index` with its value; arguments of calls have neither.
    pub(crate) index: Option<(&'static str, usize)>,
    /// Whether the event has `logprobs`.
    pub(crate) has_logprobs: bool,
}

impl Events {
    /// Writes an event whose data is `body` beside its name and number.
    pub(crate) fn write(&mut self, name: &'static str, body: &impl Serialize) {
        let event = Event { kind: name, sequence_number: self.begin(name), body };
        append(&mut self.out, &event);
        self.out.put_slice(b"\n\n");
    }

    /// Writes an event that carries a whole response, which is JSON already.
    pub(crate) fn response(&mut self, name: &'static str, response: &str) {
        let sequence = self.begin(name);
        // Writing into memory cannot fail.
        let _ = write!(self.out, r#"{{"type":"{name}","sequence_number":{sequence},"response":{response}}}"#);
        self.out.put_slice(b"\n\n");
    }

    /// Writes a text as one delta, or as several when it is long.
    pub(crate) fn delta(&mut self, of: DeltaOf<'_>, text: Text<'_>) {
        text.in_pieces(EVENT_TEXT_BYTES_MAX, |piece| self.one_delta(of, piece));
    }

    fn one_delta(&mut self, of: DeltaOf<'_>, text: Text<'_>) {
        let DeltaOf { name, item_id, output_index, index, has_logprobs } = of;
        let sequence = self.begin(name);
        let _ = write!(
            self.out,
            r#"{{"type":"{name}","sequence_number":{sequence},"item_id":"{item_id}","output_index":{output_index},"#
        );
        if let Some((key, index)) = index {
            let _ = write!(self.out, r#""{key}":{index},"#);
        }
        self.out.put_slice(b"\"delta\":");
        match text {
            Text::Literal(literal) => self.out.put_slice(literal.as_bytes()),
            Text::Plain(plain) => append(&mut self.out, plain),
        }
        self.out.put_slice(if has_logprobs { b",\"logprobs\":[]}\n\n" } else { b"}\n\n" });
    }

    /// Ends the head: what comes from here on is forgotten by [`Events::reset`].
    pub(crate) fn end_head(&mut self) -> Bytes {
        self.first = self.sequence;
        self.out.split().freeze()
    }

    /// Forgets all events after the head.
    pub(crate) fn reset(&mut self) {
        self.out.clear();
        self.sequence = self.first;
    }

    /// Number of bytes that are ready to be sent.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes what is ready; `None` when there is nothing.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }

    /// Begins an event and gives its number.
    fn begin(&mut self, name: &str) -> u64 {
        for piece in ["event: ", name, "\ndata: "] {
            self.out.put_slice(piece.as_bytes());
        }
        let sequence = self.sequence;
        self.sequence += 1;
        sequence
    }
}

/// An item that was added, or is done.
#[derive(Serialize)]
pub(crate) struct ItemEvent<'a> {
    pub(crate) output_index: usize,
    pub(crate) item: OutputItem<'a>,
}

/// A part of a summary of thoughts that was added, or is done.
#[derive(Serialize)]
pub(crate) struct PartEvent<'a> {
    pub(crate) item_id: &'a str,
    pub(crate) output_index: usize,
    pub(crate) summary_index: usize,
    pub(crate) part: SummaryText<'a>,
}

/// The whole text of a summary of thoughts.
#[derive(Serialize)]
pub(crate) struct SummaryDone<'a> {
    pub(crate) item_id: &'a str,
    pub(crate) output_index: usize,
    pub(crate) summary_index: usize,
    pub(crate) text: &'a str,
}

/// A part of a message that was added, or is done.
#[derive(Serialize)]
pub(crate) struct ContentEvent<'a> {
    pub(crate) item_id: &'a str,
    pub(crate) output_index: usize,
    pub(crate) content_index: usize,
    pub(crate) part: ContentPart<'a>,
}

/// The whole text of a part.
#[derive(Serialize)]
pub(crate) struct TextDone<'a> {
    pub(crate) item_id: &'a str,
    pub(crate) output_index: usize,
    pub(crate) content_index: usize,
    pub(crate) text: &'a str,
    pub(crate) logprobs: [(); 0],
}

/// The whole text of a refusal.
#[derive(Serialize)]
pub(crate) struct RefusalDone<'a> {
    pub(crate) item_id: &'a str,
    pub(crate) output_index: usize,
    pub(crate) content_index: usize,
    pub(crate) refusal: &'a str,
}

/// A citation in a text.
#[derive(Serialize)]
pub(crate) struct AnnotationEvent<'a> {
    pub(crate) item_id: &'a str,
    pub(crate) output_index: usize,
    pub(crate) content_index: usize,
    pub(crate) annotation_index: usize,
    pub(crate) annotation: &'a UrlCitation,
}

/// The end of a call: name and arguments of a function, or the input of a freeform tool.
#[derive(Serialize)]
pub(crate) struct CallDone<'a> {
    pub(crate) item_id: &'a str,
    pub(crate) output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<&'a str>,
}

#[derive(Serialize)]
struct Event<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    #[serde(flatten)]
    body: &'a T,
}

fn append<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    // Writing these types into memory cannot fail.
    let _ = serde_json::to_writer(out.writer(), value);
}
