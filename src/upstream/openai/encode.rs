//! Encodes a job for an upstream that speaks OpenAI's dialect: the portal of OAuth accounts, or an endpoint of static
//! keys.
//!
//! A caller's own body keeps all its fields. Only what such an upstream needs is changed: the model's name, the fields
//! about thinking, and for the portal the form of the system message. A conversation of another dialect is written as
//! messages.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::chat::conversation::{Conversation, Message, OutputFormat, Part, Role, ToolCall, ToolChoice, ToolSpec};
use crate::chat::job::{ChatJob, Question, ThinkingWish, Wishes};
use crate::chat::tokens::estimate_tokens;
use crate::files::attachment::{Attachment, JobFile};
use crate::files::media_type::MediaKind;

/// The kinds of endpoints that speak OpenAI's dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The portal for OAuth accounts, which wants one system message in front, as a list of cacheable parts.
    Portal,
    /// An endpoint for static keys.
    Key,
}

/// The body for the upstream, under the name that the upstream has for the model.
///
/// # Errors
/// A file of the conversation cannot be read.
pub(crate) fn encode(job: &ChatJob, stream: bool, profile: Profile) -> io::Result<Vec<u8>> {
    let mut body = match &job.question {
        Question::Verbatim(body) => body.clone(),
        Question::Conversation(conversation) => body_of(conversation, &job.wishes)?,
    };
    body.insert("model".to_owned(), job.upstream_model.as_str().into());
    thinking(&mut body, &job.upstream_model, profile);
    if stream {
        body.insert("stream".to_owned(), true.into());
        // Counts are always asked for, so that they can be counted here.
        let options = body.entry("stream_options").or_insert_with(|| json!({}));
        if let Value::Object(options) = options {
            options.insert("include_usage".to_owned(), true.into());
        }
    } else {
        body.shift_remove("stream_options");
    }
    if profile == Profile::Portal
        && let Some(Value::Array(messages)) = body.get_mut("messages")
    {
        *messages = for_portal(std::mem::take(messages));
    }
    Ok(Value::Object(body).to_string().into_bytes())
}

/// An estimate of the prompt's tokens, for answers whose upstream gives no counts.
#[must_use]
pub(crate) fn prompt_tokens(question: &Question) -> u64 {
    match question {
        Question::Verbatim(body) => {
            let fields = ["messages", "tools"].iter().filter_map(|name| body.get(*name));
            fields.map(|field| estimate_tokens(&field.to_string())).sum()
        }
        Question::Conversation(conversation) => {
            let texts = conversation.messages.iter().flat_map(|message| &message.parts);
            let texts = texts.map(|part| match part {
                Part::Text(text) => estimate_tokens(text),
                Part::File(_) => 0,
            });
            let calls = conversation.messages.iter().flat_map(|message| match &message.role {
                Role::Assistant { calls } => calls.as_slice(),
                Role::System | Role::User | Role::ToolResult { .. } => &[],
            });
            let calls = calls.map(|call| estimate_tokens(&call.name) + estimate_tokens(&call.arguments));
            let tools = conversation.tools.iter().map(|spec| estimate_tokens(&tool(spec).to_string()));
            texts.chain(calls).chain(tools).sum()
        }
    }
}

fn body_of(conversation: &Conversation, wishes: &Wishes) -> io::Result<Map<String, Value>> {
    let mut body = Map::new();
    let messages = conversation.messages.iter().map(message).collect::<io::Result<Vec<_>>>()?;
    body.insert("messages".to_owned(), messages.into());
    if !conversation.tools.is_empty() {
        body.insert("tools".to_owned(), conversation.tools.iter().map(tool).collect());
        let choice = match &conversation.tool_choice {
            ToolChoice::Auto => json!("auto"),
            ToolChoice::None => json!("none"),
            ToolChoice::Required => json!("required"),
            ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
        };
        body.insert("tool_choice".to_owned(), choice);
        if !conversation.parallel_tool_calls {
            body.insert("parallel_tool_calls".to_owned(), false.into());
        }
    }
    match &conversation.output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => {
            body.insert("response_format".to_owned(), json!({"type": "json_object"}));
        }
        OutputFormat::JsonSchema { name, schema, strict, .. } => {
            let schema = json!({"name": name, "schema": schema, "strict": strict});
            body.insert("response_format".to_owned(), json!({"type": "json_schema", "json_schema": schema}));
        }
    }
    body.extend(wishes.sampling.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    if !wishes.stop.is_empty() {
        body.insert("stop".to_owned(), json!(wishes.stop));
    }
    if let Some(tokens) = wishes.tokens_max {
        body.insert("max_tokens".to_owned(), tokens.into());
    }
    match wishes.thinking {
        Some((ThinkingWish::On, _)) => {
            body.insert("enable_thinking".to_owned(), true.into());
        }
        Some((ThinkingWish::Off, _)) => {
            body.insert("enable_thinking".to_owned(), false.into());
        }
        Some((ThinkingWish::Auto, _)) | None => {}
    }
    if let Some(budget) = wishes.thinking_budget {
        body.insert("thinking_budget".to_owned(), budget.into());
    }
    if wishes.searches() {
        body.insert("enable_search".to_owned(), true.into());
    }
    Ok(body)
}

fn message(message: &Message) -> io::Result<Value> {
    let content = content(&message.parts)?;
    Ok(match &message.role {
        Role::System => json!({"role": "system", "content": content}),
        Role::User => json!({"role": "user", "content": content}),
        Role::Assistant { calls } if calls.is_empty() => json!({"role": "assistant", "content": content}),
        Role::Assistant { calls } => {
            let content = if message.parts.is_empty() { Value::Null } else { content };
            let calls: Vec<Value> = calls.iter().map(call).collect();
            json!({"role": "assistant", "content": content, "tool_calls": calls})
        }
        Role::ToolResult { call_id, .. } => json!({"role": "tool", "tool_call_id": call_id, "content": content}),
    })
}

/// Plain text where there is nothing else, since not every upstream takes parts in every role.
fn content(parts: &[Part]) -> io::Result<Value> {
    let texts: Option<Vec<&str>> = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::File(_) => None,
        })
        .collect();
    if let Some(texts) = texts {
        return Ok(texts.join("\n").into());
    }
    let part = |part: &Part| match part {
        Part::Text(text) => Ok(json!({"type": "text", "text": text})),
        Part::File(file) => file_part(&file.label, &file.file),
    };
    Ok(Value::Array(parts.iter().map(part).collect::<io::Result<_>>()?))
}

fn file_part(label: &str, file: &JobFile) -> io::Result<Value> {
    let url = match file {
        JobFile::Remote(remote) | JobFile::Link(remote) => remote.url.clone(),
        JobFile::Ready(attachment) => data_uri(attachment)?,
    };
    Ok(match file.kind() {
        MediaKind::Image => json!({"type": "image_url", "image_url": {"url": url}}),
        MediaKind::Video => json!({"type": "video_url", "video_url": {"url": url}}),
        MediaKind::Audio => json!({"type": "input_audio", "input_audio": {"data": url}}),
        MediaKind::Document => json!({"type": "file", "file": {"filename": label, "file_data": url}}),
    })
}

fn data_uri(attachment: &Attachment) -> io::Result<String> {
    let bytes = attachment.content.head(usize::MAX)?;
    Ok(format!("data:{};base64,{}", attachment.content_type, STANDARD.encode(bytes)))
}

fn call(call: &ToolCall) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
}

fn tool(tool: &ToolSpec) -> Value {
    let mut function = Map::new();
    function.insert("name".to_owned(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), description.as_str().into());
    }
    function.insert("parameters".to_owned(), Value::Object(tool.parameters.clone()));
    if let Some(strict) = tool.strict {
        function.insert("strict".to_owned(), strict.into());
    }
    json!({"type": "function", "function": function})
}

/// Says OpenAI's words about thinking in DashScope's. An explicit switch of the upstream's own wins. The portal refuses
/// OpenAI's words; an endpoint of static keys gets them too, as they came, since it may know nothing else.
fn thinking(body: &mut Map<String, Value>, model: &str, profile: Profile) {
    // The newest models take the effort as it is, and nothing beside it.
    if model.starts_with("qwen3.8") {
        return;
    }
    let nested = || body.get("reasoning").and_then(|reasoning| reasoning.get("effort"));
    let effort = body.get("reasoning_effort").or_else(nested).cloned();
    if profile == Profile::Portal {
        for word in ["reasoning_effort", "reasoning", "include_reasoning"] {
            body.remove(word);
        }
    }
    if body.contains_key("enable_thinking") {
        return;
    }
    let (on, budget) = match effort.as_ref().and_then(Value::as_str) {
        Some("none") => (false, None),
        Some("minimal" | "low") => (true, Some(1024)),
        Some("medium") => (true, Some(8192)),
        Some("high" | "xhigh") => (true, None),
        _ => return,
    };
    body.insert("enable_thinking".to_owned(), on.into());
    if let Some(budget) = budget {
        body.entry("thinking_budget").or_insert_with(|| budget.into());
    }
}

/// All system messages as one list of cacheable parts in front, and texts of users as plain strings.
fn for_portal(messages: Vec<Value>) -> Vec<Value> {
    let ephemeral = json!({"type": "ephemeral"});
    let mut system = Vec::new();
    let mut others = Vec::new();
    for mut message in messages {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        if matches!(role, "system" | "developer") {
            match message.get_mut("content").map(Value::take) {
                Some(Value::Array(parts)) => system.extend(parts),
                Some(Value::String(text)) => system.push(json!({"type": "text", "text": text})),
                _ => {}
            }
            continue;
        }
        let texts = message.get("content").and_then(Value::as_array).and_then(|parts| texts(parts));
        if let (Some(texts), Value::Object(message)) = (texts, &mut message) {
            message.insert("content".to_owned(), texts.into());
        }
        others.push(message);
    }
    if system.is_empty() {
        // An empty part is accepted, a missing system message is not.
        system.push(json!({"type": "text", "text": ""}));
    }
    for part in &mut system {
        if let Value::Object(part) = part {
            part.entry("cache_control").or_insert_with(|| ephemeral.clone());
        }
    }
    others.insert(0, json!({"role": "system", "content": system}));
    others
}

/// The texts of parts that are nothing else.
fn texts(parts: &[Value]) -> Option<String> {
    let text = |part: &Value| (part.get("type")? == "text").then(|| part.get("text")?.as_str().map(str::to_owned))?;
    parts.iter().map(text).collect::<Option<Vec<_>>>().map(|texts| texts.join("\n"))
}
