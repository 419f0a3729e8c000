//! Lines that are safe to write: no value breaks one, forges one or steers a terminal, and none is too long.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use serde_json::Value;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The longest line in bytes, its newline included.
pub const EVENT_BYTES_MAX: usize = 8 * 1024;

/// Makes the writers of a [`MakeWriter`] write safe lines.
pub(crate) struct SafeLines<M> {
    pub(crate) inner: M,
    /// Whether lines are JSON objects.
    pub(crate) is_json: bool,
}

impl<'writer, M: MakeWriter<'writer>> MakeWriter<'writer> for SafeLines<M> {
    type Writer = SafeLine<M::Writer>;

    fn make_writer(&'writer self) -> Self::Writer {
        SafeLine { inner: self.inner.make_writer(), is_json: self.is_json }
    }

    fn make_writer_for(&'writer self, metadata: &Metadata<'_>) -> Self::Writer {
        SafeLine { inner: self.inner.make_writer_for(metadata), is_json: self.is_json }
    }
}

pub(crate) struct SafeLine<W> {
    inner: W,
    is_json: bool,
}

impl<W: io::Write> io::Write for SafeLine<W> {
    /// Takes one whole event, its newline included: tracing-subscriber formats into a buffer and writes that once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let is_plain = |text: &[u8]| text.iter().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'));
        if event.len() <= EVENT_BYTES_MAX && event.strip_suffix(b"\n").is_some_and(is_plain) {
            // As most lines are.
            self.inner.write_all(event)?;
            return Ok(event.len());
        }
        let text = String::from_utf8_lossy(event);
        let line = safe_line(text.strip_suffix('\n').unwrap_or(&text), self.is_json);
        self.inner.write_all(&[line.as_bytes(), b"\n"].concat())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A formatted event as a line that is safe to write, without its newline and short of [`EVENT_BYTES_MAX`].
fn safe_line(event: &str, is_json: bool) -> Cow<'_, str> {
    let line = escaped(event);
    if line.len() < EVENT_BYTES_MAX {
        return line;
    }
    Cow::Owned(if is_json { shortened(event) } else { cut(&line, EVENT_BYTES_MAX - 1) })
}

/// The text with each unsafe character as a JSON escape, which is valid in JSON strings and readable elsewhere.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if is_unsafe(c) => {
                // All of them are in the basic plane, so four digits are enough.
                let _ = write!(safe, "\\u{:04x}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Control characters (C0, DEL, C1), line separators, and marks that change the reading direction.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The beginning of a text in at most `bytes_max` bytes, with `…` at its end when something was cut off.
pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(MARK.len()));
    format!("{}{MARK}", text.get(..end).unwrap_or_default())
}

/// A JSON event that is too long, with values cut until it fits: first long values, then the spans, then all.
fn shortened(event: &str) -> String {
    const STEPS: [(usize, bool); 4] = [(512, true), (512, false), (64, false), (8, false)];
    // The formatter writes objects only.
    let Ok(Value::Object(event)) = serde_json::from_str(event) else {
        return String::new();
    };
    let mut line = String::new();
    for (bytes_max, has_spans) in STEPS {
        let mut event = event.clone();
        if !has_spans {
            event.remove("spans");
        }
        let mut event = Value::Object(event);
        cut_strings(&mut event, bytes_max);
        line = escaped(&event.to_string()).into_owned();
        if line.len() < EVENT_BYTES_MAX {
            break;
        }
    }
    line
}

fn cut_strings(value: &mut Value, bytes_max: usize) {
    match value {
        Value::String(text) => *text = cut(text, bytes_max),
        Value::Array(values) => values.iter_mut().for_each(|value| cut_strings(value, bytes_max)),
        Value::Object(values) => values.values_mut().for_each(|value| cut_strings(value, bytes_max)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
