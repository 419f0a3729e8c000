//! The items of a Responses request into the messages of a conversation.
//!
//! Calls of tools are items of their own here; in the conversation they belong to the assistant's message before
//! them. Reasoning items are not sent back to the model.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::chat::conversation::{Role, ToolCall};
use crate::chat::error::{RequestError, path};
use crate::dialect::openai::fields::Fields;
use crate::dialect::openai::messages::{Draft, Segment, segments};

/// Items of tools that only OpenAI's own platform has, under the name that tells callers of them. A history may carry
/// them; they are left out.
const SKIPPED: [&str; 20] = [
    "input.additional_tools",
    "input.apply_patch_call",
    "input.apply_patch_call_output",
    "input.code_interpreter_call",
    "input.compaction",
    "input.compaction_trigger",
    "input.computer_call",
    "input.computer_call_output",
    "input.file_search_call",
    "input.image_generation_call",
    "input.local_shell_call",
    "input.local_shell_call_output",
    "input.mcp_approval_request",
    "input.mcp_approval_response",
    "input.mcp_call",
    "input.mcp_list_tools",
    "input.shell_call",
    "input.shell_call_output",
    "input.tool_search_call",
    "input.tool_search_output",
];

/// Reads items one after the other.
#[derive(Default)]
pub(crate) struct ItemReader<'a> {
    drafts: Vec<Draft<'a>>,
    /// The names of the tools that were called, by the id of the call.
    calls: HashMap<&'a str, &'a str>,
    ignored: Vec<&'static str>,
}

impl<'a> ItemReader<'a> {
    /// Takes a text of `role`.
    pub(crate) fn text(&mut self, role: Role, text: &'a str) {
        self.drafts.push(Draft { role, segments: vec![Segment::Text(text)] });
    }

    /// Takes the next item, which stands at `at`.
    ///
    /// # Errors
    /// The first fault, by the field that has it.
    pub(crate) fn item(&mut self, at: &str, item: &'a Value) -> Result<(), RequestError> {
        let Value::Object(map) = item else {
            return Err(RequestError::invalid_type(at, "an object", item));
        };
        let fields = Fields(map);
        let kind_at = path(at, "type");
        match item_type(&fields, &kind_at)? {
            "message" => self.message(at, &fields),
            "function_call" => {
                let arguments = match fields.get("arguments") {
                    Some(Value::String(arguments)) => arguments.clone(),
                    Some(other) => other.to_string(),
                    None => String::new(),
                };
                self.call(at, &fields, arguments)
            }
            "custom_tool_call" => {
                let input = required(&fields, at, "input")?;
                self.call(at, &fields, json!({"input": input}).to_string())
            }
            "function_call_output" | "custom_tool_call_output" => self.output(at, &fields),
            "reasoning" | "web_search_call" => Ok(()),
            "item_reference" => Err(unknown_reference(at, &fields)),
            other => match SKIPPED.iter().find(|name| name.strip_prefix("input.") == Some(other)) {
                Some(name) => {
                    if !self.ignored.contains(name) {
                        self.ignored.push(name);
                    }
                    Ok(())
                }
                None => {
                    let known = "one of 'message', 'function_call', 'function_call_output', 'custom_tool_call', \
                                 'custom_tool_call_output', 'reasoning', 'item_reference'";
                    Err(RequestError::invalid_value(&kind_at, known))
                }
            },
        }
    }

    /// The messages, and the types of items that were left out.
    pub(crate) fn finish(self) -> (Vec<Draft<'a>>, Vec<&'static str>) {
        (self.drafts, self.ignored)
    }

    fn message(&mut self, at: &str, fields: &Fields<'a>) -> Result<(), RequestError> {
        let role_at = path(at, "role");
        let role = match fields.get("role") {
            None => return Err(RequestError::missing(&role_at)),
            Some(Value::String(role)) => role.as_str(),
            Some(other) => return Err(RequestError::invalid_type(&role_at, "a string", other)),
        };
        let role = match role {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant { calls: Vec::new() },
            _ => {
                let known = "one of 'user', 'assistant', 'system', 'developer'";
                return Err(RequestError::invalid_value(&role_at, known));
            }
        };
        let content_at = path(at, "content");
        let content = fields.get("content").ok_or_else(|| RequestError::missing(&content_at))?;
        let segments = segments(&content_at, content)?;
        // A text between a call and its result belongs to the message that made the call.
        if let (Role::Assistant { .. }, Some(Draft { role: Role::Assistant { calls }, segments: said })) =
            (&role, self.drafts.last_mut())
            && !calls.is_empty()
        {
            said.extend(segments);
            return Ok(());
        }
        self.drafts.push(Draft { role, segments });
        Ok(())
    }

    fn call(&mut self, at: &str, fields: &Fields<'a>, arguments: String) -> Result<(), RequestError> {
        let (id, name) = (required(fields, at, "call_id")?, required(fields, at, "name")?);
        self.calls.insert(id, name);
        let call = ToolCall { id: id.to_owned(), name: name.to_owned(), arguments };
        match self.drafts.last_mut() {
            Some(Draft { role: Role::Assistant { calls }, .. }) => calls.push(call),
            _ => self.drafts.push(Draft { role: Role::Assistant { calls: vec![call] }, segments: Vec::new() }),
        }
        Ok(())
    }

    fn output(&mut self, at: &str, fields: &Fields<'a>) -> Result<(), RequestError> {
        let id = required(fields, at, "call_id")?;
        let Some(name) = self.calls.get(id) else {
            let at = path(at, "call_id");
            let shown: String = id.chars().take(100).collect();
            let expected = format!("the 'call_id' of a call before it, and there is no call '{shown}'");
            return Err(RequestError::invalid_value(&at, &expected));
        };
        let output_at = path(at, "output");
        let segments = match fields.get("output") {
            None => return Err(RequestError::missing(&output_at)),
            Some(output) => segments(&output_at, output)?,
        };
        let role = Role::ToolResult { call_id: Some(id.to_owned()), name: Some((*name).to_owned()) };
        self.drafts.push(Draft { role, segments });
        Ok(())
    }
}

/// The type of an item; `type` may be left out of messages and of references.
fn item_type<'a>(fields: &Fields<'a>, at: &str) -> Result<&'a str, RequestError> {
    match fields.get("type") {
        Some(Value::String(kind)) => Ok(kind),
        Some(other) => Err(RequestError::invalid_type(at, "a string", other)),
        None if fields.get("role").is_none() && fields.get("id").is_some() => Ok("item_reference"),
        None => Ok("message"),
    }
}

/// The id of an item that is only named: `{"type": "item_reference", "id": …}`.
#[must_use]
pub(crate) fn reference(item: &Value) -> Option<&str> {
    let fields = Fields(item.as_object()?);
    let is_reference = item_type(&fields, "").is_ok_and(|kind| kind == "item_reference");
    if is_reference { fields.get("id").and_then(Value::as_str) } else { None }
}

fn unknown_reference(at: &str, fields: &Fields<'_>) -> RequestError {
    let id: String = fields.get("id").and_then(Value::as_str).unwrap_or_default().chars().take(100).collect();
    let expected = format!("the id of an item of a stored response that belongs to your key, and '{id}' is none");
    RequestError::invalid_value(&path(at, "id"), &expected)
}

fn required<'a>(fields: &Fields<'a>, at: &str, name: &str) -> Result<&'a str, RequestError> {
    match fields.get(name) {
        None => Err(RequestError::missing(&path(at, name))),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(RequestError::invalid_type(&path(at, name), "a string", other)),
    }
}
