//! The tool calls of an answer, gathered by their index.

use serde_json::{Map, Value, json};

use crate::chat::reply::ReplyEvent;

/// The most tool calls of one answer.
const CALLS_MAX: usize = 256;

/// The calls of an answer, by their index.
#[derive(Debug, Default)]
pub(crate) struct Calls(pub(crate) Vec<Call>);

#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Arguments that were not written yet.
    pub(crate) arguments: String,
    /// Whether its block was opened.
    pub(crate) is_open: bool,
    pub(crate) is_done: bool,
}

impl Calls {
    pub(crate) fn event(&mut self, event: &ReplyEvent<'_>) {
        match event {
            ReplyEvent::ToolCall { index, id, name } => {
                if let Some(call) = self.at(*index) {
                    call.id.push_str(id);
                    call.name.push_str(name);
                }
            }
            ReplyEvent::ToolArguments { index, json } => {
                if let Some(call) = self.at(*index) {
                    call.arguments.push_str(json);
                }
            }
            ReplyEvent::ToolCallDone { index } => {
                if let Some(call) = self.at(*index) {
                    call.is_done = true;
                }
            }
            _ => {}
        }
    }

    fn at(&mut self, index: u32) -> Option<&mut Call> {
        let place = usize::try_from(index).ok().filter(|place| *place < CALLS_MAX)?;
        if self.0.len() <= place {
            self.0.resize_with(place + 1, Call::default);
        }
        self.0.get_mut(place)
    }

    /// Whether there is a call. One without a name cannot be made.
    pub(crate) fn any(&self) -> bool {
        self.0.iter().any(|call| !call.name.is_empty())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len()).sum()
    }
}

impl Call {
    /// The upstream's id; where it gave none, one of the message's.
    pub(crate) fn id(&self, message_id: &str, place: usize) -> String {
        if !self.id.is_empty() {
            return self.id.clone();
        }
        let unique = message_id.strip_prefix("msg_").unwrap_or(message_id);
        format!("toolu_{unique}{place}")
    }

    /// The arguments as an object. Other text, such as arguments that the token limit cut, stands in one key.
    pub(crate) fn input(&self) -> Value {
        if self.arguments.trim().is_empty() {
            return Value::Object(Map::new());
        }
        match serde_json::from_str(&self.arguments) {
            Ok(Value::Object(input)) => Value::Object(input),
            _ => json!({"arguments": self.arguments}),
        }
    }
}
