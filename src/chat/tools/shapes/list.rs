//! Calls as functions: `NAME(…)` with one JSON object or with `key=value`, as JSON or as Python writes values.

use std::borrow::Cow;

use crate::chat::tools::shapes::json::{JsonScan, ObjectWriter, json_text};
use crate::chat::tools::shapes::written::{Opening, Scanned, word};

/// Finds the closing bracket of `NAME(…)` in text that comes in pieces, which begins with the opening one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListScan {
    at: usize,
    depth: usize,
    quote: Option<u8>,
    is_escaped: bool,
}

impl ListScan {
    /// Goes on in `text`, which begins as at the last time.
    pub(crate) fn go_on(&mut self, text: &str) -> Scanned {
        for byte in text.as_bytes().get(self.at..).unwrap_or_default() {
            self.at += 1;
            match (self.quote, byte) {
                (Some(_), _) if self.is_escaped => self.is_escaped = false,
                (Some(_), b'\\') => self.is_escaped = true,
                (Some(quote), byte) => self.quote = Some(quote).filter(|quote| quote != byte),
                (None, b'"' | b'\'') => self.quote = Some(*byte),
                (None, b'(' | b'[' | b'{') => self.depth += 1,
                (None, b')' | b']' | b'}') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Scanned::End(self.at);
                    }
                }
                (None, _) => {}
            }
        }
        Scanned::More
    }
}

/// Decides from its first bytes whether text behind a declared name, from `(` on, can be its arguments.
pub(crate) fn list_opening(text: &str) -> Opening {
    let inner = text.strip_prefix('(').unwrap_or(text).trim_start();
    let key = word(inner);
    let after = inner.get(key.len()..).unwrap_or_default().trim_start();
    match (key, after.as_bytes()) {
        ("", []) | (_, [] | [b'=']) => Opening::More,
        ("", [b')' | b'{', ..]) => Opening::Call,
        ("", _) => Opening::Text,
        (_, [b'=', next, ..]) if *next != b'=' => Opening::Call,
        _ => Opening::Text,
    }
}

/// Reads `(…)`: nothing, one JSON object, or `key=value` with values of JSON or Python. `None`: it is something else.
pub(crate) fn argument_list(text: &str) -> Option<String> {
    let mut rest = text.strip_prefix('(')?.strip_suffix(')')?.trim();
    if rest.starts_with('{') {
        return json_text(rest).ok().map(Cow::into_owned);
    }
    let mut object = ObjectWriter::default();
    while !rest.is_empty() {
        let key = Some(word(rest)).filter(|key| !key.is_empty())?;
        let value = rest.get(key.len()..)?.trim_start().strip_prefix('=')?.trim_start();
        let (json, len) = python_value(value)?;
        object.json(key, &json);
        rest = value.get(len..)?.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    Some(object.finish())
}

/// The value at the beginning of a text as JSON, and its bytes.
fn python_value(text: &str) -> Option<(Cow<'_, str>, usize)> {
    match text.as_bytes().first()? {
        b'{' | b'[' => {
            let len = JsonScan::default().end(text)?;
            Some((json_text(text.get(..len)?).ok()?, len))
        }
        quote @ (b'"' | b'\'') => {
            let mut is_escaped = false;
            let end = text.bytes().skip(1).position(|byte| {
                let is_end = byte == *quote && !is_escaped;
                is_escaped = byte == b'\\' && !is_escaped;
                is_end
            })? + 1;
            let inner = text.get(1..end)?;
            let json = if *quote == b'"' {
                format!("\"{inner}\"")
            } else {
                let unescaped = inner.replace("\\'", "'");
                format!("\"{}\"", unescaped.replace("\\\"", "\"").replace('"', "\\\""))
            };
            Some((Cow::Owned(json_text(&json).ok()?.into_owned()), end + 1))
        }
        _ => {
            let len = text.find([',', ' ', '\n', '\t', '\r']).unwrap_or(text.len());
            let written = text.get(..len)?;
            let json = match written {
                "True" => "true",
                "False" => "false",
                "None" => "null",
                other => other,
            };
            json_text(json).ok().map(|json| (json, len))
        }
    }
}
