//! OpenAI's `messages` into the messages of a prompt: every role and every form of content that clients replay.

use serde_json::{Map, Value};

use crate::transform::fields::{Fields, RequestError, RequestErrorKind, path};
use crate::transform::prompt::{Message, ToolCall};

pub(crate) fn messages(fields: &Fields<'_>) -> Result<Vec<Message>, RequestError> {
    let parsed;
    let list = match fields.get("messages") {
        None => return Err(RequestError::missing("messages")),
        Some(Value::Array(list)) => list,
        // Workflow tools hand the list over as JSON in a string.
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Array(list)) => {
                parsed = list;
                &parsed
            }
            _ => {
                return Err(RequestError::invalid_type("messages", "an array", &Value::String(String::new())));
            }
        },
        Some(other) => return Err(RequestError::invalid_type("messages", "an array", other)),
    };
    if list.is_empty() {
        let message = "'messages' is empty: expected at least one message.".to_owned();
        return Err(RequestError::new(RequestErrorKind::EmptyArray, "messages", message));
    }
    list.iter().enumerate().map(|(place, entry)| message(&format!("messages[{place}]"), entry)).collect()
}

fn message(at: &str, entry: &Value) -> Result<Message, RequestError> {
    let Value::Object(map) = entry else {
        return Err(RequestError::invalid_type(at, "an object", entry));
    };
    let fields = Fields(map);
    let role_at = path(at, "role");
    let role = match map.get("role") {
        None => return Err(RequestError::missing(&role_at)),
        Some(Value::String(role)) => role.as_str(),
        Some(other) => return Err(RequestError::invalid_type(&role_at, "a string", other)),
    };
    let text_of = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    match role {
        "system" | "developer" => Ok(Message::System(required_content(at, map)?)),
        "user" => Ok(Message::User(required_content(at, map)?)),
        "assistant" => {
            let calls = tool_calls(at, &fields)?;
            let text = match map.get("content") {
                None | Some(Value::Null) => String::new(),
                Some(content) => content_text(&path(at, "content"), content)?,
            };
            Ok(Message::Assistant { text, calls })
        }
        "tool" => Ok(Message::ToolResult {
            id: text_of("tool_call_id"),
            name: text_of("name"),
            text: required_content(at, map)?,
        }),
        "function" => Ok(Message::ToolResult { id: None, name: text_of("name"), text: required_content(at, map)? }),
        _ => Err(RequestError::invalid_value(&role_at, "one of 'system', 'developer', 'user', 'assistant', 'tool'")),
    }
}

fn required_content(at: &str, map: &Map<String, Value>) -> Result<String, RequestError> {
    let at = path(at, "content");
    match map.get("content") {
        None => Err(RequestError::missing(&at)),
        Some(content) => content_text(&at, content),
    }
}

fn content_text(at: &str, content: &Value) -> Result<String, RequestError> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let mut texts = Vec::with_capacity(parts.len());
            for (place, part) in parts.iter().enumerate() {
                texts.extend(part_text(&format!("{at}[{place}]"), part)?);
            }
            Ok(texts.join("\n"))
        }
        other => Err(RequestError::invalid_type(at, "a string or an array of content parts", other)),
    }
}

/// The text of a content part; `None` for a part that history may carry and that means nothing here.
fn part_text(at: &str, part: &Value) -> Result<Option<String>, RequestError> {
    let Value::Object(map) = part else {
        return match part {
            Value::String(text) => Ok(Some(text.clone())),
            other => Err(RequestError::invalid_type(at, "an object", other)),
        };
    };
    let kind_at = path(at, "type");
    let kind = match map.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        None | Some(Value::Null) => return Err(RequestError::missing(&kind_at)),
        Some(other) => return Err(RequestError::invalid_type(&kind_at, "a string", other)),
    };
    let field = match kind {
        "text" | "input_text" | "output_text" => "text",
        "refusal" => "refusal",
        // Thoughts in a replayed history are not sent back to the model.
        "reasoning" | "thinking" | "redacted_thinking" => return Ok(None),
        "image_url" | "image" | "input_image" | "input_audio" | "file" | "input_file" | "video_url" | "input_video" => {
            let why = format!("Content of type '{kind}' is not supported by this version; send text only.");
            return Err(RequestError::unsupported_value(at, &why));
        }
        _ => return Err(RequestError::invalid_value(&kind_at, "'text'")),
    };
    match map.get(field) {
        Some(Value::String(text)) => Ok(Some(text.clone())),
        None | Some(Value::Null) => Err(RequestError::missing(&path(at, field))),
        Some(other) => Err(RequestError::invalid_type(&path(at, field), "a string", other)),
    }
}

fn tool_calls(at: &str, fields: &Fields<'_>) -> Result<Vec<ToolCall>, RequestError> {
    let calls_at = path(at, "tool_calls");
    let mut entries: Vec<(String, &Value)> = Vec::new();
    match fields.get("tool_calls") {
        None => {}
        Some(Value::Array(list)) => {
            entries.extend(list.iter().enumerate().map(|(place, call)| (format!("{calls_at}[{place}]"), call)));
        }
        Some(other) => return Err(RequestError::invalid_type(&calls_at, "an array", other)),
    }
    let mut calls = Vec::with_capacity(entries.len());
    for (at, call) in entries {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(function) = call.get("function").filter(|function| function.is_object()) else {
            return Err(RequestError::missing(&path(&at, "function")));
        };
        let arguments = match function.get("arguments") {
            Some(Value::String(arguments)) => arguments.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        calls.push(ToolCall { id: text(call.get("id")), name: text(function.get("name")), arguments });
    }
    if let Some(Value::Object(call)) = fields.get("function_call") {
        let text = |name: &str| call.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        calls.push(ToolCall { id: String::new(), name: text("name"), arguments: text("arguments") });
    }
    Ok(calls)
}
