//! Calls in tags: `<tool_call>`, `<function=…>`, `<invoke …>`, and tags named like a declared tool.

use std::borrow::Cow;

use memchr::memmem;

use crate::chat::tools::names::ToolNames;
use crate::chat::tools::shapes::json::{JsonScan, ObjectWriter, json_calls, json_text};
use crate::chat::tools::shapes::written::{
    INFO_BYTES_MAX, NAME_BYTES_MAX, Opening, Shape, WrittenCall, more_if, skip, word,
};

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
            calls = vec![Err("text that is not a call follows the JSON of the call".to_owned())];
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

/// Models put values on lines of their own. A line break at one end only belongs to the value.
fn one_line_break_off(value: &str) -> &str {
    value.strip_prefix('\n').and_then(|value| value.strip_suffix('\n')).unwrap_or(value)
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
