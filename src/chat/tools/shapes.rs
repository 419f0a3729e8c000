//! The spellings of calls, read from text that is there as a whole.
//!
//! The prompt asks for `<tool_call>{"name": …, "arguments": {…}}</tool_call>`; models also write what they were
//! trained on. `opening` decides from the first bytes whether markup can be a call, `tagged`, `json_calls`,
//! `fenced_calls` and `argument_list` read it. All of them see a prefix or the whole of the same text and never
//! change their mind when more of it comes.

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr2, memmem};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::chat::tools::names::ToolNames;

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

/// What the first bytes of markup say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// More bytes are needed.
    More,
    /// It is text.
    Text,
    /// It is the markup of a call, or meant to be.
    Call,
}

/// Tags around one or several calls, with the tags that close them.
const WRAPPERS: [(&str, &str); 4] = [
    ("<tool_call>", "</tool_call>"),
    ("<tool_calls>", "</tool_calls>"),
    ("<function_call>", "</function_call>"),
    ("<function_calls>", "</function_calls>"),
];
const FUNCTION: &str = "<function=";
const INVOKE: &str = "<invoke ";
const FUNCTION_ENDS: [&str; 2] = ["</function>", "</invoke>"];
const PARAMETER: &str = "<parameter";
const PARAMETER_END: &str = "</parameter>";
/// A longer name of a tool or a parameter is none.
const NAME_BYTES_MAX: usize = 128;

/// Decides whether text that begins with `<` is the markup of a call.
pub(crate) fn opening(text: &str, names: &ToolNames, is_line_start: bool) -> Opening {
    for (tag, end) in WRAPPERS {
        if tag.starts_with(text) {
            return Opening::More;
        }
        if let Some(body) = text.strip_prefix(tag) {
            return wrapped_opening(body, end, names, is_line_start);
        }
    }
    if FUNCTION.starts_with(text) || INVOKE.starts_with(text) {
        return Opening::More;
    }
    if text.starts_with(FUNCTION) || text.starts_with(INVOKE) {
        let Some((tag, body)) = text.split_once('>') else {
            return more_if(tag_is_short(text));
        };
        if !tag_is_short(tag) || tag_name(tag).is_none() {
            return Opening::Text;
        }
        let body = body.trim_start();
        let begins = |start: &str| body.starts_with(start);
        if begins("{") || begins(PARAMETER) || FUNCTION_ENDS.iter().any(|end| begins(end)) {
            return Opening::Call;
        }
        let may_begin = |start: &str| start.starts_with(body);
        return more_if(may_begin(PARAMETER) || FUNCTION_ENDS.iter().any(|end| may_begin(end)));
    }
    bare_opening(text, names)
}

fn more_if(is_open: bool) -> Opening {
    if is_open { Opening::More } else { Opening::Text }
}

fn tag_is_short(tag: &str) -> bool {
    tag.len() <= NAME_BYTES_MAX + FUNCTION.len() && !tag.contains('\n') && tag.rfind('<') == Some(0)
}

fn wrapped_opening(body: &str, end: &str, names: &ToolNames, is_line_start: bool) -> Opening {
    let inner = body.trim_start();
    match inner.as_bytes().first() {
        None => Opening::More,
        Some(b'{' | b'[') => Opening::Call,
        Some(b'`') => {
            let ticks = inner.trim_start_matches('`');
            match (inner.len() - ticks.len(), ticks.split_once('\n')) {
                (1 | 2, _) if ticks.is_empty() => Opening::More,
                (3.., None) => more_if(ticks.len() <= INFO_BYTES_MAX),
                (3.., Some((_, code))) => match code.trim_start().as_bytes().first() {
                    None => Opening::More,
                    Some(b'{' | b'[') => Opening::Call,
                    Some(_) => Opening::Text,
                },
                _ => Opening::Text,
            }
        }
        Some(b'<') if end.starts_with(inner) => Opening::More,
        Some(b'<') if inner.starts_with(end) => Opening::Text,
        Some(b'<') => opening(inner, names, is_line_start),
        // Words at the beginning of a line, up to the closing tag, were meant to be a call; within a line they talk of one.
        Some(_) if is_line_start => match (memmem::find(inner.as_bytes(), end.as_bytes()), inner.find("\n\n")) {
            (Some(closed), Some(blank)) if blank < closed => Opening::Text,
            (Some(_), _) => Opening::Call,
            (None, blank) => more_if(blank.is_none()),
        },
        Some(_) => Opening::Text,
    }
}

fn bare_opening(text: &str, names: &ToolNames) -> Opening {
    let Some(rest) = text.strip_prefix('<') else {
        return Opening::Text;
    };
    let name = word(rest);
    let Some(after) = rest.get(name.len()..).filter(|after| !after.is_empty()) else {
        return more_if(name.len() <= NAME_BYTES_MAX && names.may_become(name));
    };
    let after = after.trim_start_matches(' ');
    if name.is_empty() || !names.has(name) {
        return Opening::Text;
    }
    if let Some(end) = after.strip_prefix('/') {
        return match end.as_bytes().first() {
            None => Opening::More,
            Some(b'>') => Opening::Call,
            Some(_) => Opening::Text,
        };
    }
    let Some(body) = after.strip_prefix('>') else {
        return more_if(after.is_empty());
    };
    let body = body.trim_start();
    match body.as_bytes() {
        [] | [b'<'] => Opening::More,
        [b'{', ..] => Opening::Call,
        [b'<', next, ..] if next.is_ascii_alphabetic() || matches!(next, b'/' | b'_') => Opening::Call,
        _ => Opening::Text,
    }
}

/// The word at the beginning of a text, as tags and functions are named.
pub(crate) fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// `NAME` of `<function=NAME`, or of `<invoke name="NAME"` and `<parameter name="NAME" …`.
fn tag_name(tag: &str) -> Option<&str> {
    let (_, name) = tag.split_once('=')?;
    let name = name.trim();
    let name = match name.as_bytes().first()? {
        quote @ (b'"' | b'\'') => name.get(1..)?.split(char::from(*quote)).next()?,
        _ => name.split_whitespace().next()?,
    };
    (!name.is_empty() && name.len() <= NAME_BYTES_MAX).then_some(name)
}

/// Reads the markup at the beginning of a text. `None`: it is text after all. Closing tags that are missing at the end
/// of the text, or before other words, count as being there.
pub(crate) fn tagged(text: &str, names: &ToolNames, is_line_start: bool) -> Option<Shape> {
    for (tag, end) in WRAPPERS {
        if let Some(body) = text.strip_prefix(tag) {
            let mut shape = wrapped(body, end, names, is_line_start)?;
            shape.len += tag.len();
            return Some(shape);
        }
    }
    if text.starts_with(FUNCTION) || text.starts_with(INVOKE) { function(text, names) } else { bare(text, names) }
}

fn wrapped(body: &str, end: &str, names: &ToolNames, is_line_start: bool) -> Option<Shape> {
    let mut calls = Vec::new();
    let mut open = 1_usize;
    let mut at = 0;
    while open > 0 {
        at = skip(body, at, |c| c.is_whitespace() || c == ',');
        let rest = body.get(at..).unwrap_or_default();
        if let Some((_, end)) = WRAPPERS.iter().find(|(_, end)| rest.starts_with(end)) {
            open -= 1;
            at += end.len();
        } else if let Some((tag, _)) = WRAPPERS.iter().find(|(tag, _)| rest.starts_with(tag)) {
            open += 1;
            at += tag.len();
        } else if rest.starts_with("```") {
            at += if calls.is_empty() { rest.find('\n').unwrap_or(rest.len()) } else { 3 };
        } else if rest.starts_with(['{', '[']) {
            let value = JsonScan::default().end(rest).and_then(|len| Some((len, rest.get(..len)?)));
            let read = value.map(|(len, json)| (len, json_calls(json)));
            if let Some((len, Ok(found))) = read {
                calls.extend(found.calls.into_iter().map(Ok));
                at += len;
            } else {
                let why = match read {
                    Some((_, Err(why))) => why,
                    _ => "the JSON of the call is broken or not complete".to_owned(),
                };
                calls.push(Err(why));
                let closed = memmem::find(rest.as_bytes(), end.as_bytes()).map(|place| place + end.len());
                at += closed.unwrap_or(rest.len());
                return Some(Shape { len: at, calls, is_closed: closed.is_some() });
            }
        } else if let Some(shape) = rest.starts_with('<').then(|| tagged_inside(rest, names)).flatten() {
            calls.extend(shape.calls);
            at += shape.len;
        } else if calls.is_empty() {
            let closed = memmem::find(rest.as_bytes(), end.as_bytes()).filter(|_| is_line_start)?;
            calls.push(Err("between the tags stands no JSON object".to_owned()));
            return Some(Shape { len: at + closed + end.len(), calls, is_closed: true });
        } else if let Some(stray) =
            rest.starts_with(['}', ']', '"', ':']).then(|| memmem::find(rest.as_bytes(), end.as_bytes())).flatten()
        {
            calls = vec![Err("behind the JSON of the call stands more, which is no call".to_owned())];
            return Some(Shape { len: at + stray + end.len(), calls, is_closed: true });
        } else {
            break;
        }
    }
    (!calls.is_empty()).then_some(Shape { len: at, calls, is_closed: open == 0 })
}

fn tagged_inside(text: &str, names: &ToolNames) -> Option<Shape> {
    if text.starts_with(FUNCTION) || text.starts_with(INVOKE) { function(text, names) } else { bare(text, names) }
}

/// `<function=NAME>` or `<invoke name="NAME">`, with parameters as tags or as a JSON object.
fn function(text: &str, names: &ToolNames) -> Option<Shape> {
    let (tag, body) = text.split_once('>')?;
    let name = tag_name(tag)?.to_owned();
    let mut at = skip(body, 0, char::is_whitespace);
    let rest = body.get(at..)?;
    let arguments = if rest.starts_with('{') {
        let Some(len) = JsonScan::default().end(rest) else {
            let calls = vec![Err(format!("the arguments of '{name}' are not valid JSON"))];
            return Some(Shape { len: text.len(), calls, is_closed: false });
        };
        at += len;
        json_text(rest.get(..len)?).map(Cow::into_owned)
    } else {
        if rest.is_empty() && !names.has(&name) {
            return None;
        }
        let mut object = ObjectWriter::default();
        while let Some((key, value, len)) = parameter(body.get(at..)?) {
            object.text(key, value);
            at = skip(body, at + len, char::is_whitespace);
        }
        if object.is_empty() && !rest.is_empty() && !FUNCTION_ENDS.iter().any(|end| rest.starts_with(end)) {
            return None;
        }
        Ok(object.finish())
    };
    let after = skip(body, at, char::is_whitespace);
    let rest = body.get(after..)?;
    let end = FUNCTION_ENDS.iter().find(|end| rest.starts_with(**end));
    let len = tag.len() + 1 + end.map_or(at, |end| after + end.len());
    let call = match arguments {
        Ok(arguments) => Ok(WrittenCall { name, arguments }),
        Err(why) => Err(format!("the arguments of '{name}' are not valid JSON: {why}")),
    };
    Some(Shape { len, calls: vec![call], is_closed: end.is_some() })
}

/// A parameter at the beginning of a text: key, value and bytes.
fn parameter(text: &str) -> Option<(&str, &str, usize)> {
    let (tag, body) = text.strip_prefix(PARAMETER).and(text.split_once('>'))?;
    let key = tag_name(tag)?;
    let (value, len) = parameter_value(body);
    Some((key, one_line_break_off(value), tag.len() + 1 + len))
}

/// A value up to the closing tag that the next parameter or the end of the function follows; other closing tags belong
/// to the value.
fn parameter_value(body: &str) -> (&str, usize) {
    const NEXT: [&str; 7] =
        ["<parameter=", "<parameter ", "</function>", "</invoke>", "</tool_call>", "</function_calls>", "<tool_call>"];
    let ends = |close: &'static str| {
        memmem::find_iter(body.as_bytes(), close).find_map(move |place| {
            let next = body.get(place + close.len()..)?.trim_start();
            let is_end = next.is_empty() || NEXT.iter().any(|tag| next.starts_with(tag));
            is_end.then_some(place)
        })
    };
    if let Some(place) = ends(PARAMETER_END) {
        return (body.get(..place).unwrap_or_default(), place + PARAMETER_END.len());
    }
    // The closing tag of the parameter was left out: the one of the function ends it.
    let place = FUNCTION_ENDS.iter().filter_map(|end| ends(end)).min().unwrap_or(body.len());
    (body.get(..place).unwrap_or_default(), place)
}

/// Models put values on lines of their own.
fn one_line_break_off(value: &str) -> &str {
    let value = value.strip_prefix('\n').unwrap_or(value);
    value.strip_suffix('\n').unwrap_or(value)
}

/// `<NAME>` with a JSON object or with an element for each argument, and nothing else.
fn bare(text: &str, names: &ToolNames) -> Option<Shape> {
    let rest = text.strip_prefix('<')?;
    let name = Some(word(rest)).filter(|name| names.has(name))?;
    let call = |arguments: String| vec![Ok(WrittenCall { name: name.to_owned(), arguments })];
    let after = rest.get(name.len()..)?.trim_start_matches(' ');
    if let Some(after) = after.strip_prefix("/>") {
        return Some(Shape { len: text.len() - after.len(), calls: call("{}".to_owned()), is_closed: true });
    }
    let mut left = after.strip_prefix('>')?.trim_start();
    let end = format!("</{name}>");
    let arguments = if left.starts_with('{') {
        let len = JsonScan::default().end(left)?;
        let arguments = json_text(left.get(..len)?).ok()?.into_owned();
        left = left.get(len..)?.trim_start();
        arguments
    } else {
        let mut object = ObjectWriter::default();
        while !left.starts_with(&end) && !left.is_empty() {
            if let Some((key, value, len)) = parameter(left) {
                object.text(key, value);
                left = left.get(len..)?.trim_start();
                continue;
            }
            let key = word(left.strip_prefix('<')?);
            let value = left.get(key.len() + 1..)?.strip_prefix('>').filter(|_| !key.is_empty())?;
            let close = format!("</{key}>");
            let place = memmem::find_iter(value.as_bytes(), close.as_bytes()).find(|place| {
                let next = value.get(place + close.len()..).unwrap_or_default().trim_start();
                next.is_empty() || next.starts_with('<')
            })?;
            object.text(key, one_line_break_off(value.get(..place)?));
            left = value.get(place + close.len()..)?.trim_start();
        }
        if object.is_empty() && left.is_empty() {
            return None;
        }
        object.finish()
    };
    match left.strip_prefix(end.as_str()) {
        Some(after) => Some(Shape { len: text.len() - after.len(), calls: call(arguments), is_closed: true }),
        None if left.is_empty() => Some(Shape { len: text.len(), calls: call(arguments), is_closed: false }),
        None => None,
    }
}

fn skip(text: &str, at: usize, is_skipped: impl Fn(char) -> bool) -> usize {
    text.len() - text.get(at..).unwrap_or_default().trim_start_matches(is_skipped).len()
}

/// Writes a JSON object.
#[derive(Debug, Default)]
struct ObjectWriter {
    json: String,
}

impl ObjectWriter {
    fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    fn text(&mut self, key: &str, value: &str) {
        self.json(key, &quoted(value));
    }

    fn json(&mut self, key: &str, value: &str) {
        self.json.push(if self.json.is_empty() { '{' } else { ',' });
        self.json.push_str(&quoted(key));
        self.json.push(':');
        self.json.push_str(value);
    }

    fn finish(mut self) -> String {
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

/// Finds the end of an object or a list in text that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JsonScan {
    at: usize,
    depth: usize,
    in_string: bool,
}

/// How far a [`JsonScan`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// The value goes on.
    More,
    /// The value is this long.
    End(usize),
    /// It is no JSON from here on.
    Broken(usize),
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

    fn end(mut self, text: &str) -> Option<usize> {
        match self.go_on(text) {
            Scanned::End(len) => Some(len),
            Scanned::More | Scanned::Broken(_) => None,
        }
    }
}

/// The JSON text itself, with line breaks and tabs inside of strings escaped. `Err`: what is wrong with it.
fn json_text(text: &str) -> Result<Cow<'_, str>, String> {
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
/// What is wrong, as a short sentence.
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

/// What a fenced block holds.
#[derive(Debug)]
pub(crate) enum Fenced {
    /// Calls of declared tools and nothing else.
    Calls(Vec<WrittenCall>),
    /// The beginning of such calls.
    Open,
    /// Something else.
    Other,
}

/// The longest word behind the marks of a fence that holds calls.
pub(crate) const INFO_BYTES_MAX: usize = 32;

/// Reads the inside of a fenced block. `is_whole`: a closing tag that is missing at its end counts as being there.
pub(crate) fn fenced_calls(content: &str, names: &ToolNames, is_whole: bool) -> Fenced {
    let mut calls = Vec::new();
    let mut at = 0;
    loop {
        at = skip(content, at, |c| c.is_whitespace() || c == ',');
        let rest = content.get(at..).unwrap_or_default();
        // The closing marks may stand behind the JSON on its line.
        if rest.is_empty() || (is_whole && rest.trim_end().bytes().all(|byte| byte == b'`')) {
            return if calls.is_empty() { Fenced::Other } else { Fenced::Calls(calls) };
        }
        if rest.starts_with('<') {
            let declared = |call: Found| call.ok().filter(|call| names.has(&call.name));
            let Some(shape) = tagged(rest, names, true) else {
                return Fenced::Other;
            };
            if !shape.is_closed && !is_whole {
                return Fenced::Open;
            }
            let Some(found) = shape.calls.into_iter().map(declared).collect::<Option<Vec<_>>>() else {
                return Fenced::Other;
            };
            calls.extend(found);
            at += shape.len;
            continue;
        }
        let name = word(rest);
        if let Some(list) = rest.get(name.len()..).filter(|list| list.starts_with('(') && names.has(name)) {
            let len = match ListScan::default().go_on(list) {
                Scanned::End(len) => len,
                Scanned::More | Scanned::Broken(_) => return Fenced::Open,
            };
            let Some(arguments) = list.get(..len).and_then(argument_list) else {
                return Fenced::Other;
            };
            calls.push(WrittenCall { name: name.to_owned(), arguments });
            at += name.len() + len;
            continue;
        }
        if !rest.starts_with(['{', '[']) {
            return Fenced::Other;
        }
        let len = match JsonScan::default().go_on(rest) {
            Scanned::End(len) => len,
            Scanned::More => return Fenced::Open,
            Scanned::Broken(_) => return Fenced::Other,
        };
        match json_calls(rest.get(..len).unwrap_or_default()) {
            Ok(found) if found.are_declared(names) => calls.extend(found.calls),
            Ok(_) | Err(_) => return Fenced::Other,
        }
        at += len;
    }
}

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
