//! Fenced blocks that hold calls in any of the other spellings, and nothing else.

use crate::chat::tools::names::ToolNames;
use crate::chat::tools::shapes::json::{JsonScan, json_calls};
use crate::chat::tools::shapes::list::{ListScan, argument_list};
use crate::chat::tools::shapes::tags::tagged;
use crate::chat::tools::shapes::written::{Found, Scanned, WrittenCall, skip, word};

/// The content of a fenced block.
#[derive(Debug)]
pub(crate) enum Fenced {
    /// Calls of declared tools and nothing else.
    Calls(Vec<WrittenCall>),
    /// The beginning of such calls.
    Open,
    /// Text that is not a call, or calls beside other text.
    Other,
}

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
