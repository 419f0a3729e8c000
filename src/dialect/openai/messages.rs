//! OpenAI's `messages` into the messages of a prompt and the files beside it: every role and every form of content
//! that clients replay.

use serde_json::Value;

use crate::chat::prompt::{Message, ToolCall};
use crate::dialect::openai::fields::{Fields, RequestError, RequestErrorKind, path};
use crate::dialect::openai::parts::{FilePart, file_part, markdown_pictures};
use crate::files::media_type::MediaKind;

/// The most bytes of a conversation, which then goes as a document.
pub const CONVERSATION_BYTES_MAX: usize = 20_000_000;

/// A conversation, read and checked except for what is in its files.
pub(crate) struct Conversation<'a> {
    /// The messages, with marks where files stood.
    pub(crate) messages: Vec<Message>,
    /// The files that go along, in order.
    pub(crate) files: Vec<PlacedFile<'a>>,
    /// Older files that have no room beside the newer ones. Their marks say so.
    pub(crate) omitted: usize,
    /// Markdown pictures in texts of users and assistants, in order. They are of use where pictures are changed.
    pub(crate) pictures_in_text: Vec<PlacedFile<'a>>,
    /// What the user says since the assistant's last message, without marks.
    pub(crate) turn_text: String,
}

/// A file and its place.
#[derive(Clone, Debug)]
pub(crate) struct PlacedFile<'a> {
    /// The field that it came in.
    pub(crate) at: String,
    /// What it is called in the prompt.
    pub(crate) label: String,
    /// The message that it stands in.
    pub(crate) message: usize,
    /// Whether it came after the assistant's last message.
    pub(crate) is_current: bool,
    pub(crate) part: FilePart<'a>,
}

/// A message whose text is not put together yet.
struct Draft<'a> {
    role: Role,
    segments: Vec<Segment<'a>>,
}

impl Draft<'_> {
    /// How much is said in it.
    fn text_bytes(&self) -> usize {
        let bytes = |segment: &Segment<'_>| match segment {
            Segment::Text(text) => text.len(),
            Segment::File { .. } => 0,
        };
        self.segments.iter().map(bytes).sum()
    }
}

enum Role {
    System,
    User,
    Assistant(Vec<ToolCall>),
    ToolResult { id: Option<String>, name: Option<String> },
}

enum Segment<'a> {
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

/// Reads the conversation.
pub(crate) fn conversation(list: &[Value]) -> Result<Conversation<'_>, RequestError> {
    let drafts: Vec<Draft<'_>> = list
        .iter()
        .enumerate()
        .map(|(place, entry)| draft(&format!("messages[{place}]"), entry))
        .collect::<Result<_, _>>()?;
    // Said before anything is copied: what does not fit may be as large as a body can be.
    fits(drafts.iter().map(Draft::text_bytes).sum())?;
    let turn = drafts.iter().rposition(|draft| matches!(draft.role, Role::Assistant(_))).map_or(0, |place| place + 1);
    let mut files = placed(&drafts, turn);
    let keeps = within_limits(&files)?;
    // A conversation that is one message goes as it is, without marks.
    let is_marked = drafts.len() > 1;
    let turn_text = turn_text(drafts.get(turn..).unwrap_or_default());
    let pictures_in_text = pictures_in_text(&drafts, turn);
    let mut marks = files.iter().zip(&keeps).map(|(file, keep)| mark(&file.label, *keep));
    let messages = drafts.into_iter().map(|draft| message(draft, is_marked, &mut marks)).collect();
    drop(marks);
    let mut keep = keeps.iter();
    let count = files.len();
    files.retain(|_| keep.next().is_none_or(|keep| *keep));
    Ok(Conversation { messages, omitted: count - files.len(), files, pictures_in_text, turn_text })
}

/// Refuses a conversation of so many bytes that the upstream takes it in no form.
///
/// # Errors
/// [`RequestErrorKind::TooLong`].
pub(crate) fn fits(bytes: usize) -> Result<(), RequestError> {
    if bytes <= CONVERSATION_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "This conversation takes {bytes} bytes, but the upstream's maximum context length for one request is \
         {CONVERSATION_BYTES_MAX} bytes. Shorten or drop older messages."
    );
    Err(RequestError::new(RequestErrorKind::TooLong, "messages", message))
}

fn placed<'a>(drafts: &[Draft<'a>], turn: usize) -> Vec<PlacedFile<'a>> {
    let mut files: Vec<PlacedFile<'a>> = Vec::new();
    let mut counts = [0; 4];
    for (message, draft) in drafts.iter().enumerate() {
        for segment in &draft.segments {
            let Segment::File { at, part } = segment else { continue };
            let kind = part.likely_kind();
            let (noun, count) = match (kind, &mut counts) {
                (MediaKind::Image, [count, _, _, _]) => ("image", count),
                (MediaKind::Video, [_, count, _, _]) => ("video", count),
                (MediaKind::Audio, [_, _, count, _]) => ("audio", count),
                (MediaKind::Document, [_, _, _, count]) => ("document", count),
            };
            *count += 1;
            let label = match part.name {
                // Quotes and brackets would end the mark.
                Some(name) => name.chars().filter(|c| !c.is_control() && !"\"<>".contains(*c)).take(100).collect(),
                None => format!("{noun}-{count}"),
            };
            files.push(PlacedFile { at: at.clone(), label, message, is_current: message >= turn, part: *part });
        }
    }
    files
}

/// Which files go along: all of this turn, which may not be too many, and the newest of the earlier ones.
fn within_limits(files: &[PlacedFile<'_>]) -> Result<Vec<bool>, RequestError> {
    let mut keeps = vec![false; files.len()];
    for kind in [MediaKind::Image, MediaKind::Video, MediaKind::Audio, MediaKind::Document] {
        let max = kind.count_max();
        let of_kind = || files.iter().zip(0..).filter(move |(file, _)| file.part.likely_kind() == kind);
        if let Some((excess, _)) = of_kind().filter(|(file, _)| file.is_current).nth(max) {
            let noun = kind.noun();
            let message = format!("'{}' is one {noun} too many: one turn takes {max} at most.", excess.at);
            return Err(RequestError::new(RequestErrorKind::TooManyFiles, &excess.at, message));
        }
        let mut places: Vec<usize> = of_kind().map(|(_, place)| place).collect();
        let newest = places.split_off(places.len().saturating_sub(max));
        newest.into_iter().for_each(|place| keeps.get_mut(place).into_iter().for_each(|keep| *keep = true));
    }
    Ok(keeps)
}

fn mark(label: &str, is_kept: bool) -> String {
    if is_kept { format!("<file name=\"{label}\"/>") } else { format!("<file name=\"{label}\" omitted=\"true\"/>") }
}

fn turn_text(turn: &[Draft<'_>]) -> String {
    let texts = turn.iter().filter(|draft| matches!(draft.role, Role::User)).map(|draft| {
        let texts = draft.segments.iter().filter_map(|segment| match segment {
            Segment::Text(text) => Some(*text),
            Segment::File { .. } => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    });
    texts.filter(|text| !text.trim().is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn pictures_in_text<'a>(drafts: &[Draft<'a>], turn: usize) -> Vec<PlacedFile<'a>> {
    let mut found = Vec::new();
    for (message, draft) in drafts.iter().enumerate() {
        if !matches!(draft.role, Role::User | Role::Assistant(_)) {
            continue;
        }
        for segment in &draft.segments {
            let Segment::Text(text) = segment else { continue };
            for payload in markdown_pictures(text) {
                let part = FilePart { payload, kind: Some(MediaKind::Image), claim: None, name: None, is_bare: false };
                let at = format!("messages[{message}].content");
                let label = format!("picture-{}", found.len() + 1);
                found.push(PlacedFile { at, label, message, is_current: message >= turn, part });
            }
        }
    }
    found
}

fn message(draft: Draft<'_>, is_marked: bool, marks: &mut impl Iterator<Item = String>) -> Message {
    let mut texts = Vec::with_capacity(draft.segments.len());
    for segment in draft.segments {
        match segment {
            Segment::Text(text) => texts.push(text.to_owned()),
            Segment::File { .. } => texts.extend(marks.next().filter(|_| is_marked)),
        }
    }
    let text = texts.join("\n");
    match draft.role {
        Role::System => Message::System(text),
        Role::User => Message::User(text),
        Role::Assistant(calls) => Message::Assistant { text, calls },
        Role::ToolResult { id, name } => Message::ToolResult { id, name, text },
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
        "assistant" => Role::Assistant(tool_calls(at, &fields)?),
        "tool" => Role::ToolResult { id: text_of("tool_call_id"), name: text_of("name") },
        "function" => Role::ToolResult { id: None, name: text_of("name") },
        _ => {
            return Err(RequestError::invalid_value(
                &role_at,
                "one of 'system', 'developer', 'user', 'assistant', 'tool'",
            ));
        }
    };
    let content_at = path(at, "content");
    let segments = match (map.get("content"), &role) {
        (None | Some(Value::Null), Role::Assistant(_)) => Vec::new(),
        (None, _) => return Err(RequestError::missing(&content_at)),
        (Some(content), _) => segments(&content_at, content)?,
    };
    Ok(Draft { role, segments })
}

fn segments<'a>(at: &str, content: &'a Value) -> Result<Vec<Segment<'a>>, RequestError> {
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
            let known = "one of 'text', 'image_url', 'input_audio', 'file', 'video_url'";
            return Err(RequestError::invalid_value(&kind_at, known));
        }
    };
    match map.get(field) {
        Some(Value::String(text)) => Ok(Some(Segment::Text(text))),
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
