//! Calls as JSON: one object, a list of them, or the message of an API that holds them.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr2;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::chat::tools::names::ToolNames;
use crate::chat::tools::shapes::written::{NAME_BYTES_MAX, Opening, Scanned, WrittenCall, more_if};

/// Finds the end of an object or a list in text that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JsonScan {
    at: usize,
    depth: usize,
    in_string: bool,
}

impl JsonScan {
    /// Goes on in `text`, which begins as at the last time. Line breaks within strings are let pass.
    pub(crate) fn go_on(&mut self, text: &str) -> Scanned {
        let bytes = text.as_bytes();
        while let Some(rest) = bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            if self.in_string {
                match memchr2(b'"', b'\\', rest) {
                    None => self.at = bytes.len(),
                    Some(place) if rest.get(place) == Some(&b'"') => {
                        self.in_string = false;
                        self.at += place + 1;
                    }
                    Some(place) if place + 1 == rest.len() => {
                        self.at += place;
                        return Scanned::More;
                    }
                    Some(place) => self.at += place + 2,
                }
                continue;
            }
            match rest.first() {
                Some(b'"') => self.in_string = true,
                Some(b'{' | b'[') => self.depth += 1,
                Some(b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Scanned::End(self.at + 1);
                    }
                }
                Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b'0'..=b'9' | b'+' | b'-' | b'.' | b'E') => {}
                Some(letter) if b"truefalsn".contains(letter) => {}
                _ => return Scanned::Broken(self.at),
            }
            self.at += 1;
        }
        Scanned::More
    }

    /// The bytes of the value, when it is complete.
    pub(crate) fn end(mut self, text: &str) -> Option<usize> {
        match self.go_on(text) {
            Scanned::End(len) => Some(len),
            Scanned::More | Scanned::Broken(_) => None,
        }
    }
}

/// The JSON text with line breaks and tabs inside of strings escaped. `Err`: the fault, as a short sentence.
pub(crate) fn json_text(text: &str) -> Result<Cow<'_, str>, String> {
    let error = match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => return Ok(Cow::Borrowed(text)),
        Err(error) => error,
    };
    let mut mended = String::with_capacity(text.len() + 16);
    let (mut in_string, mut is_escaped) = (false, false);
    for c in text.chars() {
        match c {
            '\n' | '\t' | '\r' if in_string && !is_escaped => {
                mended.push_str(match c {
                    '\n' => "\\n",
                    '\t' => "\\t",
                    _ => "\\r",
                });
                continue;
            }
            '"' if !is_escaped => in_string = !in_string,
            _ => {}
        }
        is_escaped = in_string && c == '\\' && !is_escaped;
        mended.push(c);
    }
    match serde_json::from_str::<&RawValue>(&mended) {
        Ok(_) => Ok(Cow::Owned(mended)),
        Err(_) => Err(error.to_string()),
    }
}

/// The calls of a JSON value.
#[derive(Debug, Default)]
pub(crate) struct JsonCalls {
    /// The calls, at least one.
    pub(crate) calls: Vec<WrittenCall>,
    /// A call has no arguments.
    pub(crate) lacks_arguments: bool,
}

impl JsonCalls {
    /// Whether the value can be nothing but calls of declared tools.
    pub(crate) fn are_declared(&self, names: &ToolNames) -> bool {
        !self.lacks_arguments && self.calls.iter().all(|call| names.has(&call.name))
    }
}

/// Reads the calls of a complete JSON value.
///
/// # Errors
/// The fault, as a short sentence.
pub(crate) fn json_calls(text: &str) -> Result<JsonCalls, String> {
    let text = json_text(text).map_err(|error| format!("the call is not valid JSON: {error}"))?;
    let mut found = JsonCalls::default();
    collect(&text, &mut found, 0).ok_or("the JSON is not a call: it needs \"name\" and \"arguments\"")?;
    Ok(found)
}

/// Lists and wrappers of calls are not nested any deeper.
const JSON_DEPTH_MAX: usize = 4;
const CALL_LISTS: [&str; 3] = ["tool_calls", "function_call", "function"];

const NAME_KEYS: [&str; 4] = ["name", "tool", "tool_name", "function"];
const ARGUMENT_KEYS: [&str; 5] = ["arguments", "parameters", "args", "input", "tool_input"];

/// Keys that a call or a message with calls may begin with.
const OTHER_KEYS: [&str; 5] = ["id", "type", "index", "role", "content"];

fn collect(json: &str, found: &mut JsonCalls, depth: usize) -> Option<()> {
    if depth > JSON_DEPTH_MAX {
        return None;
    }
    if json.trim_start().starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
        if items.is_empty() {
            return None;
        }
        return items.iter().try_for_each(|item| collect(item.get(), found, depth + 1));
    }
    let Entries(entries) = serde_json::from_str(json).ok()?;
    let value = |key: &str| entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.get());
    let is_nested = |value: &&str| value.starts_with(['{', '[']);
    if let Some(inner) = CALL_LISTS.iter().find_map(|key| value(key).filter(is_nested)) {
        return collect(inner, found, depth + 1);
    }
    let name: String = NAME_KEYS.iter().find_map(|key| serde_json::from_str(value(key)?).ok())?;
    let arguments = ARGUMENT_KEYS.iter().find_map(|key| value(key));
    found.lacks_arguments |= arguments.is_none();
    let arguments = arguments.filter(|arguments| *arguments != "null").unwrap_or("{}").to_owned();
    found.calls.push(WrittenCall { name, arguments });
    Some(())
}

/// The entries of an object in their order, their values as they were written.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// Decides from its first bytes whether JSON without tags can be calls of declared tools.
pub(crate) fn json_opening(text: &str, names: &ToolNames) -> Opening {
    let mut text = text;
    for _ in 0..=JSON_DEPTH_MAX {
        let inner = text.strip_prefix('[').map_or(text, str::trim_start);
        let Some(object) = inner.strip_prefix('{') else {
            return more_if(inner.is_empty());
        };
        let Some(key) = object.trim_start().strip_prefix('"') else {
            return more_if(object.trim_start().is_empty());
        };
        let Some((key, rest)) = key.split_once('"') else {
            return more_if(key.len() <= NAME_BYTES_MAX);
        };
        let is_name = NAME_KEYS.contains(&key);
        let is_list = CALL_LISTS.contains(&key);
        if !is_name && !is_list && !ARGUMENT_KEYS.contains(&key) && !OTHER_KEYS.contains(&key) {
            return Opening::Text;
        }
        let Some(value) = rest.trim_start().strip_prefix(':').map(str::trim_start) else {
            return more_if(rest.trim_start().is_empty());
        };
        match value.as_bytes().first() {
            None => return Opening::More,
            Some(b'"') if is_name => {
                let Some((name, _)) = value.get(1..).and_then(|name| name.split_once('"')) else {
                    return more_if(value.len() <= NAME_BYTES_MAX);
                };
                return if names.has(name) { Opening::Call } else { Opening::Text };
            }
            Some(b'{' | b'[') if is_list => text = value,
            Some(_) if is_name || is_list => return Opening::Text,
            Some(_) => return Opening::Call,
        }
    }
    Opening::Text
}

/// Writes a JSON object.
#[derive(Debug, Default)]
pub(crate) struct ObjectWriter {
    json: String,
}

impl ObjectWriter {
    pub(crate) fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.json(key, &quoted(value));
    }

    pub(crate) fn json(&mut self, key: &str, value: &str) {
        self.json.push(if self.json.is_empty() { '{' } else { ',' });
        self.json.push_str(&quoted(key));
        self.json.push(':');
        self.json.push_str(value);
    }

    pub(crate) fn finish(mut self) -> String {
        if self.json.is_empty() {
            self.json.push('{');
        }
        self.json.push('}');
        self.json
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
