//! How a caller's tools are described to the web chat. `docs/tools.md` documents it.
//!
//! [`tool_prompt`] writes them into the prompt: one line of JSON for each tool between `<tools>` tags, then how a call
//! is written. A long list is shortened in a fixed order until it fits [`TOOLS_JSON_BYTES_MAX`]: prose first, then
//! rarely used keywords of schemas, then everything but names and required parameters. Names, required parameters and
//! enums always stay. [`native_tools`] writes the same tools, shortened as far, as a declaration beside the prompt, for
//! accounts whose chats take one.

use serde_json::{Map, Value, json};

use crate::chat::conversation::{Conversation, Message, Role, ToolChoice, ToolSpec};
use crate::chat::error::{RequestError, RequestErrorKind};
use crate::upstream::web::limits::{TOOLS_JSON_BYTES_MAX, json_len};

/// `WEB_TOOLS`: the treatment of a request's tools for the web chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WebTools {
    /// They are described in the prompt, and calls are read out of the answer's text.
    #[default]
    Prompt,
    /// They are declared to accounts whose chats take declarations, and described in the prompt for the others.
    Native,
    /// They are ignored, and named in `x-bridge-ignored`.
    Off,
}

/// How much a list of tools was shortened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shortening {
    /// The whole list was kept.
    None,
    /// Examples were dropped, descriptions cut.
    Prose,
    /// Of schemas, only the keywords that say which values are allowed were kept.
    Keywords,
    /// Only names, required parameters and their enums were kept.
    Index,
}

impl Shortening {
    /// Value for the header that tells the caller; `None` if the whole list was kept.
    #[must_use]
    pub(crate) fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Prose => Some("prose"),
            Self::Keywords => Some("keywords"),
            Self::Index => Some("index"),
        }
    }
}

/// The part of a prompt that asks for tool calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolPrompt {
    /// The tools and the form of a call; empty if the answer may not call any.
    pub text: String,
    /// Sentence after the last message; empty: the same as without tools.
    pub reminder: &'static str,
    /// Sentence after the messages of a later turn, whose chat has `text` already; empty as in `reminder`.
    pub later: String,
    /// How much the list of tools was shortened.
    pub shortening: Shortening,
}

impl ToolPrompt {
    /// Whether it adds nothing to a prompt.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.reminder.is_empty()
    }
}

/// Tools that are declared to the web chat instead of being written into the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NativeTools {
    /// The value of `local_mcp`.
    pub declared: Value,
    /// Text of the prompt beside the declaration: which tool has to be called, and how earlier calls are shown.
    pub prompt: ToolPrompt,
}

/// Name of the one server in the declaration, as the upstream's own clients send it.
const SERVER: &str = "LocalTools";

/// Declares the tools of a conversation, which has some, shortened as they are in its prompt.
#[must_use]
pub(crate) fn native_tools(conversation: &Conversation, shortening: Shortening) -> NativeTools {
    let tool = |tool: &ToolSpec| {
        let mut schema = shortened_schema(tool, shortening);
        if schema.as_object().is_some_and(Map::is_empty) {
            schema = json!({"type": "object", "properties": {}});
        }
        let description = shortened_description(tool, shortening);
        (tool.name.clone(), json!({"description": description, "input_schema": schema}))
    };
    let tools: Map<String, Value> = conversation.tools.iter().map(tool).collect();
    let mut sentences = Vec::new();
    let has_calls = |message: &Message| matches!(&message.role, Role::Assistant { calls } if !calls.is_empty());
    if conversation.messages.iter().any(has_calls) {
        sentences.push(
            "Earlier tool calls are shown in <tool_call> blocks and their results in <tool_result> blocks. New calls \
             are made with the tools, not written down."
                .to_owned(),
        );
    }
    let demand = match &conversation.tool_choice {
        ToolChoice::Required => Some("The next message has to call a tool.".to_owned()),
        ToolChoice::Named(name) => Some(format!("The next message has to call the tool {name}.")),
        ToolChoice::Auto | ToolChoice::None => None,
    };
    sentences.extend(demand.clone());
    sentences.extend((!conversation.parallel_tool_calls).then(|| "It calls one tool at most.".to_owned()));
    let later = demand.unwrap_or_default();
    let prompt = ToolPrompt { text: sentences.join(" "), reminder: "", later, shortening };
    let declared = Value::Object(Map::from_iter([(SERVER.to_owned(), Value::Object(tools))]));
    NativeTools { declared, prompt }
}

/// Writes the part for a conversation; `None` when it has no tools or wants none called.
///
/// # Errors
/// [`RequestErrorKind::TooLong`]: even the names do not fit.
pub(crate) fn tool_prompt(conversation: &Conversation) -> Result<Option<ToolPrompt>, RequestError> {
    if conversation.tools.is_empty() || conversation.tool_choice == ToolChoice::None {
        return Ok(None);
    }
    let levels = [Shortening::None, Shortening::Prose, Shortening::Keywords, Shortening::Index];
    for shortening in levels {
        let list = list(&conversation.tools, shortening);
        if json_len(&list) <= TOOLS_JSON_BYTES_MAX {
            let text = format!("<tools>\n{list}\n</tools>\n\n{}", how_to_call(conversation));
            let reminder = match conversation.tool_choice {
                ToolChoice::Required | ToolChoice::Named(_) => MUST_CALL,
                ToolChoice::Auto | ToolChoice::None => MAY_CALL,
            };
            let later = match &conversation.tool_choice {
                ToolChoice::Named(name) => format!("{reminder} It has to call the tool {name}."),
                ToolChoice::Auto | ToolChoice::None | ToolChoice::Required => reminder.to_owned(),
            };
            return Ok(Some(ToolPrompt { text, reminder, later, shortening }));
        }
    }
    let message = format!(
        "The {} tools of this request do not fit into a prompt, not even their names and required parameters. Send fewer.",
        conversation.tools.len()
    );
    Err(RequestError::new(RequestErrorKind::TooLong, "tools", message))
}

const MAY_CALL: &str = "Write the assistant's next message: an answer, or tool calls in <tool_call> blocks.";
const MUST_CALL: &str = "Write the assistant's next message now. It has to be a tool call in a <tool_call> block.";

fn how_to_call(conversation: &Conversation) -> String {
    let mut text = "The assistant can call the tools listed in <tools>, one JSON object a line. A call is written as\n\
                    <tool_call>{\"name\": \"NAME\", \"arguments\": {…}}</tool_call>\n\
                    with arguments that follow the tool's parameters. "
        .to_owned();
    text.push_str(if conversation.parallel_tool_calls {
        "Several calls are several blocks. "
    } else {
        "Write one call at most. "
    });
    text.push_str(
        "After the last call the message ends; the results come in <tool_result> blocks. Results are never made up, \
         and no tool outside the list is called.",
    );
    match &conversation.tool_choice {
        ToolChoice::Required => text.push_str(" The next message has to call a tool."),
        ToolChoice::Named(name) => {
            text.push_str(" The next message has to call the tool ");
            text.push_str(name);
            text.push('.');
        }
        ToolChoice::Auto | ToolChoice::None => {}
    }
    text
}

/// A schema as a prompt shows it, shortened if it is longer than a list of tools may be.
pub(crate) fn schema_text(schema: &Value) -> String {
    let whole = schema.to_string();
    if json_len(&whole) <= TOOLS_JSON_BYTES_MAX { whole } else { shortened(schema, &[], 0).to_string() }
}

fn list(tools: &[ToolSpec], shortening: Shortening) -> String {
    let lines: Vec<String> = tools.iter().map(|tool| line(tool, shortening)).collect();
    lines.join("\n")
}

/// One tool as a line of JSON. The name comes first, since models look for it.
fn line(tool: &ToolSpec, shortening: Shortening) -> String {
    let description = shortened_description(tool, shortening);
    let schema = shortened_schema(tool, shortening);
    let name = Value::from(tool.name.as_str());
    if description.is_empty() {
        return format!("{{\"name\":{name},\"parameters\":{schema}}}");
    }
    format!("{{\"name\":{name},\"description\":{},\"parameters\":{schema}}}", Value::from(description))
}

fn shortened_description(tool: &ToolSpec, shortening: Shortening) -> String {
    match (&tool.description, shortening) {
        (None, _) | (_, Shortening::Index) => String::new(),
        (Some(text), Shortening::None) => text.clone(),
        (Some(text), Shortening::Prose) => cut(text, 600),
        (Some(text), Shortening::Keywords) => cut(text, 160),
    }
}

fn shortened_schema(tool: &ToolSpec, shortening: Shortening) -> Value {
    let schema = Value::Object(tool.parameters.clone());
    match shortening {
        Shortening::None => schema,
        Shortening::Prose => shortened(&schema, &PROSE, 120),
        Shortening::Keywords => shortened(&schema, &[], 0),
        Shortening::Index => index(&schema),
    }
}

/// Keywords that are kept in any shortened schema: they say which values are allowed.
const KEPT: [&str; 18] = [
    "$defs",
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "definitions",
    "enum",
    "items",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "oneOf",
    "prefixItems",
    "properties",
    "required",
    "type",
];

/// Further keywords that are kept while only prose is shortened.
const PROSE: [&str; 8] =
    ["default", "description", "format", "maxLength", "minLength", "not", "pattern", "patternProperties"];

/// Keywords whose value maps names to schemas.
const MAPS: [&str; 4] = ["properties", "$defs", "definitions", "patternProperties"];

/// Nested schemas deeper than this are replaced by `{}`, which allows everything.
const DEPTH_MAX: usize = 64;

/// A schema with the keywords of [`KEPT`] and `more`, its descriptions cut to `description_bytes`.
fn shortened(schema: &Value, more: &[&str], description_bytes: usize) -> Value {
    fn walk(schema: &Value, more: &[&str], bytes: usize, depth: usize) -> Value {
        if depth > DEPTH_MAX {
            return json!({});
        }
        match schema {
            Value::Object(map) => {
                let mut kept = Map::new();
                for (key, value) in map {
                    if !KEPT.contains(&key.as_str()) && !more.contains(&key.as_str()) {
                        continue;
                    }
                    let value = match value {
                        Value::Object(inner) if MAPS.contains(&key.as_str()) => {
                            let walked =
                                inner.iter().map(|(name, inner)| (name.clone(), walk(inner, more, bytes, depth + 1)));
                            Value::Object(walked.collect())
                        }
                        Value::String(text) if key == "description" => cut(text, bytes).into(),
                        Value::Object(_) | Value::Array(_)
                            if !matches!(key.as_str(), "enum" | "const" | "required" | "default") =>
                        {
                            walk(value, more, bytes, depth + 1)
                        }
                        other => other.clone(),
                    };
                    kept.insert(key.clone(), value);
                }
                Value::Object(kept)
            }
            Value::Array(list) => list.iter().map(|entry| walk(entry, more, bytes, depth + 1)).collect(),
            other => other.clone(),
        }
    }
    walk(schema, more, description_bytes, 0)
}

/// The required parameters with their types and enums.
fn index(schema: &Value) -> Value {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut properties = Map::new();
    for name in required.iter().filter_map(Value::as_str) {
        let Some(Value::Object(property)) = schema.get("properties").and_then(|all| all.get(name)) else { continue };
        let kept = ["type", "enum", "const"].into_iter();
        let kept = kept.filter_map(|key| Some((key.to_owned(), property.get(key)?.clone()))).collect();
        properties.insert(name.to_owned(), Value::Object(kept));
    }
    if required.is_empty() {
        return json!({"type": "object"});
    }
    json!({"type": "object", "properties": properties, "required": required})
}

/// The beginning of a text, at most `bytes` long, cut at the end of a sentence or word if possible.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let head = text.get(..text.floor_char_boundary(bytes)).unwrap_or_default();
    let sentence = head.rfind(". ").map(|place| place + 1).or_else(|| head.rfind('\n')).filter(|end| *end * 2 > bytes);
    let end = sentence.or_else(|| head.rfind(' ')).unwrap_or(head.len());
    head.get(..end).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(tools: Vec<ToolSpec>) -> Conversation {
        Conversation { tools, ..Conversation::of(Vec::new()) }
    }

    fn tool(name: &str, description: &str, parameters: Value) -> ToolSpec {
        let Value::Object(parameters) = parameters else { panic!("{parameters}") };
        ToolSpec {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            parameters,
            parameters_at: String::new(),
            strict: None,
        }
    }

    fn schema(prose: &str) -> Value {
        json!({
            "type": "object", "title": "Args", "examples": [{"path": "x"}], "required": ["path", "mode"],
            "properties": {
                "path": {"type": "string", "description": prose},
                "mode": {"type": "string", "enum": ["read", "write"], "description": prose},
                "description": {"type": "string", "description": prose, "pattern": "^a"},
                "depth": {"$ref": "#/$defs/depth"},
            },
            "$defs": {"depth": {"type": "integer", "minimum": 0, "description": prose}},
        })
    }

    #[test]
    fn a_small_list_stays_as_it_is() {
        let prompt =
            tool_prompt(&conversation(vec![tool("ls", "Lists.", json!({"type": "object"}))])).unwrap().unwrap();
        assert_eq!(prompt.shortening, Shortening::None);
        insta::assert_snapshot!(prompt.text, @r#"
        <tools>
        {"name":"ls","description":"Lists.","parameters":{"type":"object"}}
        </tools>

        The assistant can call the tools listed in <tools>, one JSON object a line. A call is written as
        <tool_call>{"name": "NAME", "arguments": {…}}</tool_call>
        with arguments that follow the tool's parameters. Several calls are several blocks. After the last call the message ends; the results come in <tool_result> blocks. Results are never made up, and no tool outside the list is called.
        "#);
    }

    #[test]
    fn a_declaration_has_the_same_tools() {
        let clock = ToolSpec { description: None, ..tool("clock", "", json!({})) };
        let asked = conversation(vec![tool("ls", "Lists.", schema("prose")), clock]);
        let NativeTools { declared, prompt } = native_tools(&asked, Shortening::None);
        let empty = json!({"type": "object", "properties": {}});
        let expected = json!({"LocalTools": {
            "ls": {"description": "Lists.", "input_schema": schema("prose")},
            "clock": {"description": "", "input_schema": empty},
        }});
        assert_eq!((declared, prompt.is_empty(), prompt.later.as_str()), (expected, true, ""));
        let declared = native_tools(&asked, Shortening::Index).declared;
        assert_eq!(declared["LocalTools"]["ls"]["description"], "");
        assert_eq!(declared["LocalTools"]["ls"]["input_schema"]["required"], json!(["path", "mode"]));
        let named =
            Conversation { tool_choice: ToolChoice::Named("ls".to_owned()), parallel_tool_calls: false, ..asked };
        let prompt = native_tools(&named, Shortening::None).prompt;
        assert_eq!(prompt.text, "The next message has to call the tool ls. It calls one tool at most.");
        assert_eq!(prompt.later, "The next message has to call the tool ls.");
    }

    #[test]
    fn no_tools_no_part() {
        assert_eq!(tool_prompt(&conversation(vec![])).unwrap(), None);
        let none =
            Conversation { tool_choice: ToolChoice::None, ..conversation(vec![tool("ls", "Lists.", json!({}))]) };
        assert_eq!(tool_prompt(&none).unwrap(), None);
    }

    #[test]
    fn what_goes_first_and_what_always_stays() {
        let prose = "A sentence of prose. ".repeat(40);
        for (count, expected) in
            [(10, Shortening::None), (28, Shortening::Prose), (80, Shortening::Keywords), (200, Shortening::Index)]
        {
            let tools = (0..count).map(|place| tool(&format!("tool_{place}"), &prose, schema(&prose))).collect();
            let prompt = tool_prompt(&conversation(tools)).unwrap().unwrap();
            assert_eq!(prompt.shortening, expected, "{count}");
            let lines: Vec<Value> = prompt
                .text
                .lines()
                .filter(|line| line.starts_with("{\""))
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(lines.len(), count);
            for (place, line) in lines.iter().enumerate() {
                assert_eq!(line["name"], format!("tool_{place}"));
                let parameters = &line["parameters"];
                assert_eq!(parameters["required"], json!(["path", "mode"]));
                assert_eq!(parameters["properties"]["mode"]["enum"], json!(["read", "write"]));
                let is_index = expected == Shortening::Index;
                assert_eq!(parameters["properties"].get("description").is_none(), is_index, "a property of that name");
                assert_eq!(parameters.get("examples").is_some(), expected == Shortening::None);
            }
        }
        let many = (0..5000).map(|place| tool(&format!("tool_{place}"), &prose, schema(&prose))).collect();
        let error = tool_prompt(&conversation(many)).unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (RequestErrorKind::TooLong, Some("tools")));
    }

    #[test]
    fn cuts() {
        assert_eq!(cut("Short.", 10), "Short.");
        assert_eq!(cut("First one. Second sentence here.", 16), "First one.");
        assert_eq!(cut("word another", 8), "word");
        assert_eq!(cut("字字字字", 7), "字字");
    }
}
