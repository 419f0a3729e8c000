//! Types of the readers of all spellings: a call as it was written, and how far a piece of text can be judged.

/// A call as the model wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenCall {
    /// The tool as the model spelled it.
    pub name: String,
    /// JSON text, byte for byte as it was written; usually an object. Arguments that were written as tags are strings.
    pub arguments: String,
}

/// A call, or what makes it unreadable: a short sentence for the model.
pub type Found = Result<WrittenCall, String>;

/// Calls at the beginning of a text.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Bytes that the markup takes.
    pub(crate) len: usize,
    /// The calls in it, at least one.
    pub(crate) calls: Vec<Found>,
    /// The markup has all of its closing tags.
    pub(crate) is_closed: bool,
}

/// Judgement of the first bytes of markup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// More bytes are needed.
    More,
    /// The text is not the markup of a call.
    Text,
    /// The text is the markup of a call, or meant to be.
    Call,
}

/// The progress of a scan for the end of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// The value goes on.
    More,
    /// The value ends after this number of bytes.
    End(usize),
    /// Not JSON from this offset on.
    Broken(usize),
}

/// Longest name of a tool or a parameter, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 128;

/// The longest word behind the marks of a fence that holds calls.
pub(crate) const INFO_BYTES_MAX: usize = 32;

pub(crate) fn more_if(is_open: bool) -> Opening {
    if is_open { Opening::More } else { Opening::Text }
}

/// The word at the beginning of a text, as tags and functions are named.
pub(crate) fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

pub(crate) fn skip(text: &str, at: usize, is_skipped: impl Fn(char) -> bool) -> usize {
    text.len() - text.get(at..).unwrap_or_default().trim_start_matches(is_skipped).len()
}
