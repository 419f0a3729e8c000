//! `system` and `messages` into the messages of a conversation.
//!
//! Tool results are blocks of a user's message here; in the conversation each is a message of its own, before the rest
//! of the user's message. Thoughts, and blocks of Anthropic's own tools, are not sent to the model.

use std::collections::HashMap;

use serde_json::Value;

use crate::chat::conversation::{Role, ToolCall};
use crate::chat::error::{RequestError, RequestErrorKind, path};
use crate::chat::file_part::FilePart;
use crate::dialect::openai::fields::Fields;
use crate::dialect::openai::messages::{Draft, Segment};
use crate::files::media_type::MediaKind;

/// Prefix of the one system block of Claude Code that is meant for the server, not for the model. It changes with each
/// request.
const BILLING_PREFIX: &str = "x-anthropic-billing-header:";
/// Prefix of the result of a tool that failed.
const FAILED: &str = "The tool failed:";

/// Reads `system` and `messages`, without the bytes of their files.
///
/// # Errors
/// The first fault, by the field that has it.
pub(crate) fn drafts<'a>(fields: &Fields<'a>) -> Result<Vec<Draft<'a>>, RequestError> {
    let list = match fields.get("messages") {
        None => return Err(RequestError::missing("messages")),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(RequestError::invalid_type("messages", "an array", other)),
    };
    if list.is_empty() {
        let message = "'messages' is empty: expected at least one message.".to_owned();
        return Err(RequestError::new(RequestErrorKind::EmptyArray, "messages", message));
    }
    let mut reader = Reader::default();
    if let Some(system) = fields.get("system") {
        reader.system("system", system)?;
    }
    for (place, entry) in list.iter().enumerate() {
        reader.message(&format!("messages[{place}]"), entry)?;
    }
    let is_answerable = |draft: &Draft<'_>| draft.says_something() || matches!(draft.role, Role::ToolResult { .. });
    if !reader.drafts.iter().any(is_answerable) {
        return Err(RequestError::invalid_value("messages", "at least one message with text or a file in it"));
    }
    Ok(reader.drafts)
}

/// Reads messages one after the other.
#[derive(Default)]
struct Reader<'a> {
    drafts: Vec<Draft<'a>>,
    /// The names of the tools that were called, by the id of the call.
    calls: HashMap<&'a str, &'a str>,
}

impl<'a> Reader<'a> {
    fn push(&mut self, role: Role, segments: Vec<Segment<'a>>) {
        self.drafts.push(Draft { role, segments });
    }

    fn system(&mut self, at: &str, content: &'a Value) -> Result<(), RequestError> {
        let mut segments = Vec::new();
        for block in blocks(at, content)? {
            if block.kind != "text" {
                return Err(RequestError::invalid_value(&block.path("type"), "'text'"));
            }
            let text = block.text("text")?;
            if !text.is_empty() && !text.starts_with(BILLING_PREFIX) {
                segments.push(Segment::Text(text));
            }
        }
        if !segments.is_empty() {
            self.push(Role::System, segments);
        }
        Ok(())
    }

    fn message(&mut self, at: &str, entry: &'a Value) -> Result<(), RequestError> {
        let Value::Object(map) = entry else {
            return Err(RequestError::invalid_type(at, "an object", entry));
        };
        let fields = Fields(map);
        let role_at = path(at, "role");
        let role = match fields.get("role") {
            None => return Err(RequestError::missing(&role_at)),
            Some(Value::String(role)) => role.as_str(),
            Some(other) => return Err(RequestError::invalid_type(&role_at, "a string", other)),
        };
        let content_at = path(at, "content");
        let content = fields.get("content").ok_or_else(|| RequestError::missing(&content_at))?;
        match role {
            "user" => self.user(&content_at, content),
            "assistant" => self.assistant(&content_at, content),
            "system" => self.system(&content_at, content),
            _ => Err(RequestError::invalid_value(&role_at, "'user', 'assistant' or 'system'")),
        }
    }

    fn user(&mut self, at: &str, content: &'a Value) -> Result<(), RequestError> {
        let (mut segments, mut results) = (Vec::new(), Vec::new());
        for block in blocks(at, content)? {
            match block.kind {
                "tool_result" => results.push(self.result(&block)?),
                _ => said(&block, &mut segments)?,
            }
        }
        let has_results = !results.is_empty();
        self.drafts.extend(results);
        if !segments.is_empty() || !has_results {
            self.push(Role::User, segments);
        }
        Ok(())
    }

    fn result(&self, result: &Block<'a>) -> Result<Draft<'a>, RequestError> {
        let id = result.text("tool_use_id")?;
        let Some(name) = self.calls.get(id) else {
            let shown: String = id.chars().take(100).collect();
            let expected = format!("the id of a 'tool_use' block before it, and there is no '{shown}'");
            return Err(RequestError::invalid_value(&result.path("tool_use_id"), &expected));
        };
        let mut segments = Vec::new();
        if result.get("is_error") == Some(&Value::Bool(true)) {
            segments.push(Segment::Text(FAILED));
        }
        if let Some(content) = result.get("content") {
            for block in blocks(&result.path("content"), content)? {
                said(&block, &mut segments)?;
            }
        }
        Ok(Draft { role: Role::ToolResult { call_id: Some(id.to_owned()), name: Some((*name).to_owned()) }, segments })
    }

    fn assistant(&mut self, at: &str, content: &'a Value) -> Result<(), RequestError> {
        let (mut segments, mut calls) = (Vec::new(), Vec::new());
        for block in blocks(at, content)? {
            if block.kind != "tool_use" {
                said(&block, &mut segments)?;
                continue;
            }
            let (id, name) = (block.text("id")?, block.text("name")?);
            let arguments = match block.get("input") {
                None => "{}".to_owned(),
                Some(input @ Value::Object(_)) => input.to_string(),
                Some(other) => return Err(RequestError::invalid_type(&block.path("input"), "an object", other)),
            };
            self.calls.insert(id, name);
            calls.push(ToolCall { id: id.to_owned(), name: name.to_owned(), arguments });
        }
        if !segments.is_empty() || !calls.is_empty() {
            self.push(Role::Assistant { calls }, segments);
        }
        Ok(())
    }
}

/// A block of content.
struct Block<'a> {
    /// Path in the body, such as `messages[0].content[1]`; errors name it.
    at: String,
    /// Its `type`; `text` for a block that is a mere string.
    kind: &'a str,
    /// The block: an object, or a text that stands for a block of text.
    value: &'a Value,
}

impl<'a> Block<'a> {
    fn path(&self, name: &str) -> String {
        path(&self.at, name)
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.value.get(name).filter(|value| !value.is_null())
    }

    /// The string in a field of the block.
    fn text(&self, name: &str) -> Result<&'a str, RequestError> {
        match (self.value, self.get(name)) {
            (Value::String(text), _) | (_, Some(Value::String(text))) => Ok(text),
            (_, None) => Err(RequestError::missing(&self.path(name))),
            (_, Some(other)) => Err(RequestError::invalid_type(&self.path(name), "a string", other)),
        }
    }
}

/// The blocks of content, which may be one text.
fn blocks<'a>(at: &str, content: &'a Value) -> Result<Vec<Block<'a>>, RequestError> {
    let list = match content {
        Value::String(_) => return Ok(vec![Block { at: at.to_owned(), kind: "text", value: content }]),
        Value::Array(list) => list,
        other => return Err(RequestError::invalid_type(at, "a string or an array of content blocks", other)),
    };
    let mut blocks = Vec::with_capacity(list.len());
    for (place, value) in list.iter().enumerate() {
        let at = format!("{at}[{place}]");
        match (value, value.get("type")) {
            (Value::Object(_), Some(Value::String(kind))) => blocks.push(Block { at, kind, value }),
            (Value::Object(_), None | Some(Value::Null)) => return Err(RequestError::missing(&path(&at, "type"))),
            (Value::Object(_), Some(other)) => {
                return Err(RequestError::invalid_type(&path(&at, "type"), "a string", other));
            }
            (other, _) => return Err(RequestError::invalid_type(&at, "an object", other)),
        }
    }
    Ok(blocks)
}

/// Adds the texts and files of a block.
fn said<'a>(block: &Block<'a>, segments: &mut Vec<Segment<'a>>) -> Result<(), RequestError> {
    match block.kind {
        "text" => segments.push(Segment::Text(block.text("text")?)),
        "image" => segments.push(file(block, MediaKind::Image, None)?),
        "document" => document(block, segments)?,
        "search_result" => {
            for field in ["title", "source"] {
                segments.push(Segment::Text(block.text(field)?));
            }
            if let Some(content) = block.get("content") {
                for block in blocks(&block.path("content"), content)? {
                    said(&block, segments)?;
                }
            }
        }
        // Thoughts are not replayed, and blocks of Anthropic's tools mean nothing to another model.
        "thinking" | "redacted_thinking" | "server_tool_use" | "mcp_tool_use" | "tool_reference"
        | "container_upload" | "compaction" => {}
        kind if kind.ends_with("_tool_result") && kind != "tool_result" => {}
        _ => {
            let known = "one of 'text', 'image', 'document', 'search_result', 'tool_use' (of the assistant), \
                         'tool_result' (of the user), 'thinking'";
            return Err(RequestError::invalid_value(&block.path("type"), known));
        }
    }
    Ok(())
}

/// A document: a file, or text inside the message.
fn document<'a>(block: &Block<'a>, segments: &mut Vec<Segment<'a>>) -> Result<(), RequestError> {
    let title = block.get("title").and_then(Value::as_str).filter(|title| !title.trim().is_empty());
    let context = block.get("context").and_then(Value::as_str).map(Segment::Text);
    let source = source(block)?;
    match source.kind {
        "text" => {
            segments.extend(title.map(Segment::Text));
            segments.extend(context);
            segments.push(Segment::Text(source.text("data")?));
        }
        "content" => {
            segments.extend(title.map(Segment::Text));
            segments.extend(context);
            let at = source.path("content");
            let content = source.get("content").ok_or_else(|| RequestError::missing(&at))?;
            for block in blocks(&at, content)? {
                said(&block, segments)?;
            }
        }
        _ => {
            segments.extend(context);
            segments.push(file(block, MediaKind::Document, title)?);
        }
    }
    Ok(())
}

/// The `source` of an image or a document.
fn source<'a>(block: &Block<'a>) -> Result<Block<'a>, RequestError> {
    let at = block.path("source");
    let value = block.get("source").ok_or_else(|| RequestError::missing(&at))?;
    match (value, value.get("type")) {
        (Value::Object(_), Some(Value::String(kind))) => Ok(Block { at, kind, value }),
        (Value::Object(_), _) => Err(RequestError::missing(&path(&at, "type"))),
        (other, _) => Err(RequestError::invalid_type(&at, "an object", other)),
    }
}

fn file<'a>(block: &Block<'a>, kind: MediaKind, name: Option<&'a str>) -> Result<Segment<'a>, RequestError> {
    let source = source(block)?;
    let (payload, is_bare) = match source.kind {
        "base64" => (source.text("data")?, true),
        "url" => (source.text("url")?, false),
        "file" => {
            let why = "There are no stored files here; send the file itself as 'base64' or by its address as 'url'.";
            return Err(RequestError::unsupported(&source.at, why));
        }
        _ => return Err(RequestError::invalid_value(&source.path("type"), "'base64' or 'url'")),
    };
    let claim = source.get("media_type").and_then(Value::as_str);
    let part = FilePart { payload, kind: Some(kind), claim, name, is_bare };
    Ok(Segment::File { at: block.at.clone(), part })
}
