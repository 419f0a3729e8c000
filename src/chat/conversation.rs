//! A conversation, independent of any dialect: messages of text and files, and what the answer has to be.
//!
//! A dialect reads a caller's body into a [`Conversation`]; an upstream writes its request from it. Limits of an
//! upstream (sizes, counts, roles it lacks) are not known here.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::chat::error::RequestError;
use crate::files::attachment::JobFile;

/// A conversation that was checked for form; limits of upstreams are not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// The messages, oldest first; at least one with text or a file.
    pub messages: Vec<Message>,
    /// The tools that the model may call.
    pub tools: Vec<ToolSpec>,
    /// Which tools the answer may or must call.
    pub tool_choice: ToolChoice,
    /// Whether one answer may hold several calls.
    pub parallel_tool_calls: bool,
    /// The form of the answer's text.
    pub output: OutputFormat,
}

impl Conversation {
    /// A conversation of these messages, without tools.
    #[must_use]
    pub fn of(messages: Vec<Message>) -> Self {
        Self { messages, parallel_tool_calls: true, ..Self::default() }
    }

    /// Checks that each result of a tool answers a call that the assistant made before it.
    ///
    /// # Errors
    /// [`RequestErrorKind::InvalidValue`](crate::chat::error::RequestErrorKind::InvalidValue), by the message.
    pub fn check_results(&self) -> Result<(), RequestError> {
        let mut calls = HashSet::new();
        for (place, message) in self.messages.iter().enumerate() {
            match &message.role {
                Role::Assistant { calls: made } => calls.extend(made.iter().map(|call| call.id.as_str())),
                Role::ToolResult { call_id: Some(id), .. } if !calls.contains(id.as_str()) => {
                    let expected = "the id of a tool call that an earlier assistant message made";
                    return Err(RequestError::invalid_value(&format!("messages[{place}].tool_call_id"), expected));
                }
                Role::System | Role::User | Role::ToolResult { .. } => {}
            }
        }
        Ok(())
    }

    /// The messages after the assistant's last one: the turn to be answered.
    #[must_use]
    pub fn turn(&self) -> &[Message] {
        self.messages.get(self.turn_start()..).unwrap_or_default()
    }

    /// The place of the first message of the turn.
    #[must_use]
    pub fn turn_start(&self) -> usize {
        let is_answer = |message: &Message| matches!(message.role, Role::Assistant { .. });
        self.messages.iter().rposition(is_answer).map_or(0, |place| place + 1)
    }

    /// All texts: of the messages, and the arguments of calls in them.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.messages.iter().flat_map(|message| {
            let calls = match &message.role {
                Role::Assistant { calls, .. } => calls.as_slice(),
                _ => &[],
            };
            let parts = message.parts.iter().filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::File(_) => None,
            });
            parts.chain(calls.iter().map(|call| call.arguments.as_str()))
        })
    }

    /// All files with the place of their message, in order.
    pub fn files(&self) -> impl Iterator<Item = (usize, &NamedFile)> {
        self.messages.iter().enumerate().flat_map(|(place, message)| {
            message.parts.iter().filter_map(move |part| match part {
                Part::Text(_) => None,
                Part::File(file) => Some((place, file)),
            })
        })
    }
}

/// One message of one author.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The author of the message.
    pub role: Role,
    /// Texts and files of the message, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// A user's message of one text.
    #[must_use]
    pub fn user(text: String) -> Self {
        Self { role: Role::User, parts: vec![Part::Text(text)] }
    }

    /// The bytes of its texts.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::File(_) => 0,
        };
        self.parts.iter().map(bytes).sum()
    }
}

/// The author of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// Instructions: `system` or `developer`.
    System,
    /// The person, or the program that stands for it.
    User,
    /// The model, with the calls that it made.
    Assistant {
        /// Tool calls of the message, in order.
        calls: Vec<ToolCall>,
    },
    /// The result of a tool call.
    ToolResult {
        /// The id of the call that it answers.
        call_id: Option<String>,
        /// The name of the tool.
        name: Option<String>,
    },
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text as the caller wrote it.
    Text(String),
    /// A picture, document, sound or video.
    File(NamedFile),
}

/// A file of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedFile {
    /// Name of the file in the conversation: the caller's name for it, or `image-1`, `document-2` and so on, without
    /// control characters, quotes or angle brackets.
    pub label: String,
    /// Its bytes, its address, or the upstream's link to it.
    pub file: JobFile,
}

/// A call that the model made earlier in the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Its id; empty where the caller's dialect gave none.
    pub id: String,
    /// The name of the tool.
    pub name: String,
    /// The arguments as the model wrote them: usually a JSON object.
    pub arguments: String,
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Its name, unique in the request.
    pub name: String,
    /// Description for the model: its effect and its use.
    pub description: Option<String>,
    /// The JSON Schema of its arguments; empty when it takes none.
    pub parameters: Map<String, Value>,
    /// Path of that schema in the caller's body, such as `tools[0].function.parameters`; errors name it.
    pub parameters_at: String,
    /// Whether the arguments have to follow the schema exactly.
    pub strict: Option<bool>,
}

/// Which tools an answer has to call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides whether to call tools.
    #[default]
    Auto,
    /// The model must not call any of the declared tools.
    None,
    /// The answer must call at least one tool.
    Required,
    /// The answer must call the tool of this name.
    Named(String),
}

/// The form of an answer's text.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum OutputFormat {
    /// Any text; nothing is checked.
    #[default]
    Text,
    /// A JSON object of any shape.
    JsonObject,
    /// JSON that follows a schema.
    JsonSchema {
        /// The caller's name for the schema.
        name: String,
        /// The JSON Schema that the answer has to follow.
        schema: Value,
        /// The caller's field that has the schema: errors name it.
        at: String,
        /// Whether the schema has to be followed exactly.
        strict: Option<bool>,
    },
}
