//! OpenAI's `messages` into the messages of a conversation: every role and every form of content that clients replay.

use serde_json::{Map, Value};

use crate::chat::conversation::{Message, NamedFile, Part, Role, ToolCall};
use crate::chat::error::{RequestError, RequestErrorKind, path};
use crate::chat::file_part::FilePart;
use crate::dialect::openai::fields::Fields;
use crate::dialect::openai::parts::file_part;
use crate::files::blob::Blob;
use crate::files::media_type::MediaKind;

/// A message whose files are not loaded yet.
pub(crate) struct Draft<'a> {
    pub(crate) role: Role,
    pub(crate) segments: Vec<Segment<'a>>,
}

impl Draft<'_> {
    /// Whether there is something to answer in it: text that is not blank, a file, or a call.
    pub(crate) fn says_something(&self) -> bool {
        let is_said = |segment: &Segment<'_>| match segment {
            Segment::Text(text) => !text.trim().is_empty(),
            Segment::File { .. } => true,
        };
        let has_calls = matches!(&self.role, Role::Assistant { calls } if !calls.is_empty());
        has_calls || self.segments.iter().any(is_said)
    }
}

/// A piece of a message: text, or a file that is not loaded yet.
pub(crate) enum Segment<'a> {
    Text(&'a str),
    File { at: String, part: FilePart<'a> },
}

/// The list of messages. `parsed` keeps a list that came as JSON in a string, as workflow tools hand it over.
pub(crate) fn list<'a>(fields: &Fields<'a>, parsed: &'a mut Option<Vec<Value>>) -> Result<&'a [Value], RequestError> {
    let list = match fields.get("messages") {
        None => return Err(RequestError::missing("messages")),
        Some(Value::Array(list)) => list,
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Array(list)) => parsed.insert(list),
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
    Ok(list)
}

/// Looks at the messages as far as an upstream of its own dialect leaves that to us: each is an object with a role.
pub(crate) fn check_roles(list: &[Value]) -> Result<(), RequestError> {
    for (place, entry) in list.iter().enumerate() {
        let at = format!("messages[{place}]");
        let Value::Object(map) = entry else {
            return Err(RequestError::invalid_type(&at, "an object", entry));
        };
        match map.get("role") {
            Some(Value::String(_)) => {}
            None => return Err(RequestError::missing(&path(&at, "role"))),
            Some(other) => return Err(RequestError::invalid_type(&path(&at, "role"), "a string", other)),
        }
    }
    Ok(())
}

/// Reads the messages, without the bytes of their files.
///
/// # Errors
/// The first fault, by the field that has it; [`RequestErrorKind::InvalidValue`] when no message says anything.
pub(crate) fn drafts(list: &[Value]) -> Result<Vec<Draft<'_>>, RequestError> {
    let drafts: Vec<Draft<'_>> = list
        .iter()
        .enumerate()
        .map(|(place, entry)| draft(&format!("messages[{place}]"), entry))
        .collect::<Result<_, _>>()?;
    if !drafts.iter().any(Draft::says_something) {
        return Err(RequestError::invalid_value("messages", "at least one message with text or a file in it"));
    }
    Ok(drafts)
}

/// Loads the files of the messages. `lifted` holds what was taken out of the body while it was read.
///
/// # Errors
/// An error about a file, named by the field that has it.
pub(crate) fn messages(drafts: Vec<Draft<'_>>, lifted: &[Blob]) -> Result<Vec<Message>, RequestError> {
    let mut labels = Labels::default();
    let mut messages = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let mut parts = Vec::with_capacity(draft.segments.len());
        for segment in draft.segments {
            parts.push(match segment {
                Segment::Text(text) => Part::Text(text.to_owned()),
                Segment::File { at, part } => {
                    let label = labels.next(&part);
                    let file = part.load(&at, &label, lifted)?;
                    Part::File(NamedFile { label, file })
                }
            });
        }
        messages.push(Message { role: draft.role, parts });
    }
    Ok(messages)
}

/// Names for the files of one conversation, counted by kind.
#[derive(Default)]
struct Labels {
    images: usize,
    videos: usize,
    sounds: usize,
    documents: usize,
}

impl Labels {
    fn next(&mut self, part: &FilePart<'_>) -> String {
        let (noun, count) = match part.likely_kind() {
            MediaKind::Image => ("image", &mut self.images),
            MediaKind::Video => ("video", &mut self.videos),
            MediaKind::Audio => ("audio", &mut self.sounds),
            MediaKind::Document => ("document", &mut self.documents),
        };
        *count += 1;
        match part.name {
            // Quotes and brackets would end the mark that stands for the file in a prompt.
            Some(name) => name.chars().filter(|c| !c.is_control() && !"\"<>".contains(*c)).take(100).collect(),
            None => format!("{noun}-{count}"),
        }
    }
}

fn draft<'a>(at: &str, entry: &'a Value) -> Result<Draft<'a>, RequestError> {
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
    let role = match role {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant { calls: tool_calls(at, &fields)? },
        "tool" => {
            let call_id = text_in(at, map, "tool_call_id")?.map(str::to_owned);
            Role::ToolResult { call_id, name: text_of("name") }
        }
        "function" => Role::ToolResult { call_id: None, name: text_of("name") },
        _ => {
            return Err(RequestError::invalid_value(
                &role_at,
                "one of 'system', 'developer', 'user', 'assistant', 'tool'",
            ));
        }
    };
    let content_at = path(at, "content");
    let segments = match (map.get("content"), &role) {
        (None | Some(Value::Null), Role::Assistant { .. }) => Vec::new(),
        (None, _) => return Err(RequestError::missing(&content_at)),
        (Some(content), _) => segments(&content_at, content)?,
    };
    Ok(Draft { role, segments })
}

/// Reads the content of a message: a text, or a list of parts.
///
/// # Errors
/// The first fault, by the field that has it.
pub(crate) fn segments<'a>(at: &str, content: &'a Value) -> Result<Vec<Segment<'a>>, RequestError> {
    match content {
        Value::String(text) => Ok(vec![Segment::Text(text)]),
        Value::Array(parts) => {
            let mut segments = Vec::with_capacity(parts.len());
            for (place, part) in parts.iter().enumerate() {
                segments.extend(segment(&format!("{at}[{place}]"), part)?);
            }
            Ok(segments)
        }
        other => Err(RequestError::invalid_type(at, "a string or an array of content parts", other)),
    }
}

/// One content part; `None` for a part that history may carry and that means nothing here.
fn segment<'a>(at: &str, part: &'a Value) -> Result<Option<Segment<'a>>, RequestError> {
    let Value::Object(map) = part else {
        return match part {
            Value::String(text) => Ok(Some(Segment::Text(text))),
            other => Err(RequestError::invalid_type(at, "an object", other)),
        };
    };
    let kind_at = path(at, "type");
    let kind = match map.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        None | Some(Value::Null) => return Err(RequestError::missing(&kind_at)),
        Some(other) => return Err(RequestError::invalid_type(&kind_at, "a string", other)),
    };
    if let Some(part) = file_part(at, kind, map) {
        return Ok(Some(Segment::File { at: at.to_owned(), part: part? }));
    }
    let field = match kind {
        "text" | "input_text" | "output_text" => "text",
        "refusal" => "refusal",
        // Thoughts in a replayed history are not sent back to the model.
        "reasoning" | "thinking" | "redacted_thinking" => return Ok(None),
        _ => {
            let known = "one of 'text' ('input_text', 'output_text'), 'image_url' ('input_image'), 'input_audio', \
                         'file' ('input_file'), 'video_url' ('input_video')";
            return Err(RequestError::invalid_value(&kind_at, known));
        }
    };
    match map.get(field) {
        Some(Value::String(text)) => Ok(Some(Segment::Text(text))),
        None | Some(Value::Null) => Err(RequestError::missing(&path(at, field))),
        Some(other) => Err(RequestError::invalid_type(&path(at, field), "a string", other)),
    }
}

/// A text of an entry of the history; `None` when it is absent or null.
fn text_in<'a>(at: &str, map: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, RequestError> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(RequestError::invalid_type(&path(at, name), "a string", other)),
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
        let Value::Object(call) = call else {
            return Err(RequestError::invalid_type(&at, "an object", call));
        };
        let function_at = path(&at, "function");
        let function = match call.get("function") {
            None | Some(Value::Null) => return Err(RequestError::missing(&function_at)),
            Some(Value::Object(function)) => function,
            Some(other) => return Err(RequestError::invalid_type(&function_at, "an object", other)),
        };
        let id = text_in(&at, call, "id")?.unwrap_or_default().to_owned();
        let name = text_in(&function_at, function, "name")?;
        let name = name.ok_or_else(|| RequestError::missing(&path(&function_at, "name")))?.to_owned();
        let arguments = match function.get("arguments") {
            Some(Value::String(arguments)) => arguments.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        calls.push(ToolCall { id, name, arguments });
    }
    if let Some(Value::Object(call)) = fields.get("function_call") {
        let text = |name: &str| call.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        calls.push(ToolCall { id: String::new(), name: text("name"), arguments: text("arguments") });
    }
    Ok(calls)
}
