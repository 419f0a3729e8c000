//! Takes large files out of a JSON body while it arrives: base64 is decoded once, on the way, and what is left is
//! small JSON. A body of hundreds of megabytes passes without ever being in memory.
//!
//! Lifted is a long string that is a base64 `data:` URI, or that stands under one of the keys that are for bare
//! base64. Its text is replaced by [`LIFTED_PREFIX`] and the place of its bytes. What is left has a limit of its own,
//! and `shape` counts what it is made of.

use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::{memchr, memchr2};
use serde_json::Value;

use crate::chat::file_part::LIFTED_PREFIX;
use crate::files::blob::{Blob, BlobWriter};
use crate::http::serve::content::shape::{Shape, ShapeError};

/// Strings shorter than this stay where they are.
const LIFT_BYTES_MIN: usize = 64 * 1024;
/// Largest offset of `;base64,` in a string, in bytes.
const URI_HEAD_MAX: usize = 200;
/// The keys under which bare base64 is expected.
const BARE_KEYS: [&[u8]; 4] = [b"file_data", b"data", b"b64_json", b"image"];
/// The keys under which a string is always text, even if it looks like a file.
const TEXT_KEYS: [&[u8]; 4] = [b"content", b"text", b"prompt", b"arguments"];

/// White space between tokens that is copied as it is, so that the positions in error messages are right. Beyond that
/// one byte stands for a run of it.
const SPACE_BYTES_MAX: usize = 1024 * 1024;

/// Copies JSON and takes files out of it.
pub(crate) struct Lifter {
    dir: PathBuf,
    json: Vec<u8>,
    json_bytes_max: usize,
    state: State,
    shape: Shape,
    /// The last string that ended, in `json`, without its quotes.
    last: Range<usize>,
    space_bytes: usize,
    lifted: Vec<Blob>,
    /// Bytes of the files that are kept in memory.
    memory_bytes: usize,
}

/// Reasons why reading a body stops.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiftError {
    /// A large file cannot be written to disk.
    #[error("a large file of the request cannot be written to STATE_DIR")]
    Disk(#[from] io::Error),
    /// The JSON that is left is larger than its limit.
    #[error("the JSON is too large")]
    TooLarge,
    /// The JSON has too many parts.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// A body that was read to its end.
#[derive(Debug)]
pub(crate) struct Lifted {
    /// The JSON that is left.
    pub(crate) json: Vec<u8>,
    /// The files that were taken out of it.
    pub(crate) files: Vec<Blob>,
    /// Memory cost of the parsed JSON without its strings, in bytes.
    pub(crate) cost: usize,
}

enum State {
    Outside,
    /// In a string that began at this place of `json`; whether it was looked at already.
    Text {
        start: usize,
        is_seen: bool,
        is_escaped: bool,
    },
    Lifting(Lifting),
}

/// A string whose bytes are being decoded.
struct Lifting {
    writer: BlobWriter,
    /// Up to three characters that wait for a fourth.
    rest: Vec<u8>,
    /// Padding was seen: nothing may follow.
    is_ended: bool,
    is_broken: bool,
    is_escaped: bool,
}

impl Lifter {
    /// A lifter that puts large files into `dir` and leaves at most `json_bytes_max` of JSON.
    pub(crate) fn new(dir: &Path, json_bytes_max: usize) -> Self {
        Self {
            dir: dir.to_owned(),
            json: Vec::new(),
            json_bytes_max,
            state: State::Outside,
            shape: Shape::default(),
            last: 0..0,
            space_bytes: 0,
            lifted: Vec::new(),
            memory_bytes: 0,
        }
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// [`LiftError`]; the body is not to be read on.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), LiftError> {
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                State::Outside => self.outside(bytes)?,
                State::Text { .. } => self.text(bytes)?,
                State::Lifting(_) => self.lifting(bytes)?,
            };
            if self.json.len() > self.json_bytes_max {
                return Err(LiftError::TooLarge);
            }
        }
        Ok(())
    }

    /// Bytes of memory that the body takes so far.
    pub(crate) fn resident_bytes(&self) -> usize {
        self.json.capacity().saturating_add(self.memory_bytes)
    }

    /// The JSON that is left, and the files.
    pub(crate) fn finish(self) -> Lifted {
        Lifted { cost: self.shape.cost(), json: self.json, files: self.lifted }
    }

    /// Up to the next string.
    fn outside<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], LiftError> {
        let quote = memchr(b'"', bytes);
        let (run, after) = bytes.split_at(quote.unwrap_or(bytes.len()));
        self.shape.outside(run, self.json.get(self.last.clone()).unwrap_or_default())?;
        if self.space_bytes <= SPACE_BYTES_MAX {
            self.space_bytes += run.iter().filter(|byte| byte.is_ascii_whitespace()).count();
            self.json.extend_from_slice(run);
        } else {
            for byte in run {
                let is_doubled = byte.is_ascii_whitespace() && self.json.last().is_some_and(u8::is_ascii_whitespace);
                if !is_doubled {
                    self.json.push(*byte);
                }
            }
        }
        let Some((quote, after)) = after.split_first() else {
            return Ok(after);
        };
        self.json.push(*quote);
        self.state = State::Text { start: self.json.len(), is_seen: false, is_escaped: false };
        Ok(after)
    }

    fn text<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let State::Text { start, is_seen, is_escaped } = &mut self.state else {
            return Ok(bytes);
        };
        if std::mem::take(is_escaped) {
            let (escape, after) = bytes.split_at(1);
            self.json.extend_from_slice(escape);
            return Ok(after);
        }
        let found = memchr2(b'"', b'\\', bytes);
        let (run, after) = bytes.split_at(found.unwrap_or(bytes.len()));
        self.json.extend_from_slice(run);
        if !*is_seen && self.json.len() - *start >= LIFT_BYTES_MIN {
            *is_seen = true;
            let start = *start;
            if let Some(encoded) = encoded_from(&self.json, start) {
                let head = self.json.split_off(encoded);
                self.state = State::Lifting(Lifting::new(&self.dir));
                let mut head = head.as_slice();
                while !head.is_empty() {
                    head = self.lifting(head)?;
                }
                return Ok(after);
            }
        }
        let Some((mark, after)) = after.split_first() else {
            return Ok(after);
        };
        match (mark, &mut self.state) {
            (b'\\', State::Text { is_escaped, .. }) => *is_escaped = true,
            (_, State::Text { start, .. }) => {
                self.last = *start..self.json.len();
                self.state = State::Outside;
            }
            _ => {}
        }
        self.json.push(*mark);
        Ok(after)
    }

    fn lifting<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let State::Lifting(lifting) = &mut self.state else {
            return Ok(bytes);
        };
        if std::mem::take(&mut lifting.is_escaped) {
            let (escape, after) = bytes.split_at(1);
            match escape {
                // A slash may be escaped; no other character of base64 needs it.
                b"/" => lifting.push(escape)?,
                // Mail programs and shells wrap lines.
                b"n" | b"r" | b"t" => {}
                _ => lifting.is_broken = true,
            }
            return Ok(after);
        }
        let found = memchr2(b'"', b'\\', bytes);
        let (run, after) = bytes.split_at(found.unwrap_or(bytes.len()));
        lifting.push(run)?;
        let Some((mark, after)) = after.split_first() else {
            return Ok(after);
        };
        if *mark == b'\\' {
            lifting.is_escaped = true;
            return Ok(after);
        }
        let State::Lifting(lifting) = std::mem::replace(&mut self.state, State::Outside) else {
            return Ok(after);
        };
        // Any other word than a number says that the text was no base64.
        let place = match lifting.finish() {
            Some(blob) => {
                self.memory_bytes += blob.in_memory().map_or(0, Bytes::len);
                self.lifted.push(blob);
                (self.lifted.len() - 1).to_string()
            }
            None => "broken".to_owned(),
        };
        self.last = 0..0;
        let escaped = LIFTED_PREFIX.replace('\0', "\\u0000");
        self.json.extend_from_slice(format!("{escaped}{place}\"").as_bytes());
        Ok(after)
    }
}

/// Puts the files back where they were, for an upstream that takes the body as it came.
///
/// # Errors
/// The disk's.
pub(crate) fn put_back(value: &mut Value, lifted: &[Blob]) -> io::Result<()> {
    match value {
        Value::String(text) => {
            let Some(at) = text.find(LIFTED_PREFIX) else {
                return Ok(());
            };
            let place = text.get(at + LIFTED_PREFIX.len()..).and_then(|place| place.parse::<usize>().ok());
            if let Some(blob) = place.and_then(|place| lifted.get(place)) {
                text.truncate(at);
                append_base64(text, blob)?;
            }
            Ok(())
        }
        Value::Array(list) => list.iter_mut().try_for_each(|entry| put_back(entry, lifted)),
        Value::Object(map) => map.values_mut().try_for_each(|entry| put_back(entry, lifted)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Appends a file piece by piece: it may be a large one on disk.
fn append_base64(text: &mut String, blob: &Blob) -> io::Result<()> {
    // Whole groups of three bytes, so that no piece but the last has padding.
    const PIECE_BYTES: u64 = 48 * 1024;
    let mut reader = blob.reader();
    let mut piece = Vec::new();
    text.reserve_exact(usize::try_from(blob.len().div_ceil(3) * 4).unwrap_or(0));
    loop {
        piece.clear();
        reader.by_ref().take(PIECE_BYTES).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Ok(());
        }
        STANDARD.encode_string(&piece, text);
    }
}

/// Offset at which the base64 of the string at `start` begins, if it is a string to be lifted.
fn encoded_from(json: &[u8], start: usize) -> Option<usize> {
    let (before, text) = json.split_at_checked(start)?;
    let is_under = |names: &[&[u8]]| {
        let before = before.strip_suffix(b"\"").map(<[u8]>::trim_ascii_end);
        let before = before.and_then(|before| before.strip_suffix(b":")).map(<[u8]>::trim_ascii_end);
        let key = before.and_then(|before| before.strip_suffix(b"\""));
        let is_key =
            |name: &&[u8]| key.and_then(|key| key.strip_suffix(*name)).is_some_and(|rest| rest.ends_with(b"\""));
        names.iter().any(is_key)
    };
    let head = text.get(..URI_HEAD_MAX.min(text.len()))?;
    if head.get(..5)?.eq_ignore_ascii_case(b"data:") {
        let marker = b";base64,";
        let at = head.windows(marker.len()).position(|window| window.eq_ignore_ascii_case(marker))?;
        return (!is_under(&TEXT_KEYS)).then_some(start + at + marker.len());
    }
    // Line ends are escaped in JSON.
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\\".contains(byte);
    (is_under(&BARE_KEYS) && text.iter().all(is_base64)).then_some(start)
}

impl Lifting {
    fn new(dir: &Path) -> Self {
        let writer = BlobWriter::new(dir);
        Self { writer, rest: Vec::new(), is_ended: false, is_broken: false, is_escaped: false }
    }

    fn push(&mut self, encoded: &[u8]) -> io::Result<()> {
        if self.is_broken || encoded.is_empty() {
            return Ok(());
        }
        if memchr(b' ', encoded).is_some() {
            return encoded.split(|byte| *byte == b' ').try_for_each(|run| self.push(run));
        }
        let mut encoded = encoded;
        // The waiting part is completed first, so that the rest can be decoded in place.
        if !self.rest.is_empty() {
            let missing = (4 - self.rest.len()).min(encoded.len());
            let (first, after) = encoded.split_at(missing);
            self.rest.extend_from_slice(first);
            encoded = after;
            if self.rest.len() < 4 {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.rest);
            self.decode(&whole)?;
        }
        let (whole, rest) = encoded.split_at(encoded.len() - encoded.len() % 4);
        self.decode(whole)?;
        self.rest.extend_from_slice(rest);
        Ok(())
    }

    fn decode(&mut self, whole: &[u8]) -> io::Result<()> {
        if whole.is_empty() || self.is_broken {
            return Ok(());
        }
        match STANDARD.decode(whole) {
            Ok(bytes) if !self.is_ended => {
                self.is_ended = whole.ends_with(b"=");
                self.writer.push(&bytes)
            }
            _ => {
                self.is_broken = true;
                Ok(())
            }
        }
    }

    fn finish(self) -> Option<Blob> {
        (!self.is_broken && self.rest.is_empty()).then(|| self.writer.finish())
    }
}

#[cfg(test)]
mod tests;
