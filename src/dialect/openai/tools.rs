//! OpenAI's `tools`, `tool_choice` and their older forms into the middle.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::chat::conversation::{Conversation, OutputFormat, ToolChoice, ToolSpec};
use crate::chat::error::{RequestError, path};
use crate::dialect::openai::fields::Fields;

/// The longest name of a tool. OpenAI allows 64 characters; some clients put a server's name in front.
const NAME_CHARS_MAX: usize = 128;
/// The form of names that [`is_name`] accepts, in words.
pub(crate) const NAME_FORM: &str = "1 to 128 letters, digits, '_', '-', '.', ':' or '/'";

/// The tools of a request and the form of its answer.
#[derive(Debug, Default)]
pub(crate) struct ToolWishes {
    tools: Vec<ToolSpec>,
    choice: ToolChoice,
    is_serial: bool,
    output: OutputFormat,
    /// The tools came as `functions`, so calls go back as `function_call`.
    pub(crate) is_legacy: bool,
}

impl ToolWishes {
    /// Reads `tools` or `functions`, `tool_choice` or `function_call`, `parallel_tool_calls` and `response_format`.
    ///
    /// # Errors
    /// The first fault, by the field that has it.
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, RequestError> {
        let tools = list(fields, "tools")?;
        let functions = list(fields, "functions")?;
        let is_legacy = tools.is_empty() && !functions.is_empty();
        let (name, entries) = if is_legacy { ("functions", functions) } else { ("tools", tools) };
        let read = |(place, entry): (usize, &Value)| {
            let at = format!("{name}[{place}]");
            if is_legacy { function(&at, entry) } else { tool(&at, entry) }
        };
        let mut tools: Vec<ToolSpec> = entries.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let mut names = HashSet::new();
        for (place, tool) in tools.iter().enumerate() {
            if !names.insert(tool.name.as_str()) {
                let at = format!("{name}[{place}]");
                return Err(RequestError::invalid_value(&at, "a tool whose name no other tool has"));
            }
        }
        let choice = choice(fields, &mut tools)?;
        let is_serial = fields.flag("parallel_tool_calls")? == Some(false);
        Ok(Self { choice, is_serial, output: output(fields)?, is_legacy, tools })
    }

    /// Adds the wishes to a conversation.
    pub(crate) fn apply(self, conversation: &mut Conversation) {
        conversation.tools = self.tools;
        conversation.tool_choice = self.choice;
        conversation.parallel_tool_calls = !self.is_serial && !self.is_legacy;
        conversation.output = self.output;
    }
}

fn list<'a>(fields: &Fields<'a>, name: &str) -> Result<&'a [Value], RequestError> {
    match fields.get(name) {
        None => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(RequestError::invalid_type(name, "an array", other)),
    }
}

fn tool(at: &str, entry: &Value) -> Result<ToolSpec, RequestError> {
    let Value::Object(map) = entry else {
        return Err(RequestError::invalid_type(at, "an object", entry));
    };
    match map.get("type").and_then(Value::as_str) {
        Some("function") | None => {}
        Some(_) => return Err(RequestError::invalid_value(&path(at, "type"), "'function'")),
    }
    let at = path(at, "function");
    match map.get("function") {
        Some(inner) => function(&at, inner),
        None => Err(RequestError::missing(&at)),
    }
}

/// A function's name, description and parameters.
fn function(at: &str, entry: &Value) -> Result<ToolSpec, RequestError> {
    let Value::Object(map) = entry else {
        return Err(RequestError::invalid_type(at, "an object", entry));
    };
    let name_at = path(at, "name");
    let name = match map.get("name") {
        None | Some(Value::Null) => return Err(RequestError::missing(&name_at)),
        Some(Value::String(name)) => name,
        Some(other) => return Err(RequestError::invalid_type(&name_at, "a string", other)),
    };
    if !is_name(name) {
        return Err(RequestError::invalid_value(&name_at, NAME_FORM));
    }
    let description = match map.get("description") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => return Err(RequestError::invalid_type(&path(at, "description"), "a string", other)),
    };
    let parameters = match map.get("parameters") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(schema)) => schema.clone(),
        Some(other) => return Err(RequestError::invalid_type(&path(at, "parameters"), "an object", other)),
    };
    let strict = Fields(map).flag_in(at, "strict")?;
    Ok(ToolSpec { name: name.clone(), description, parameters, parameters_at: path(at, "parameters"), strict })
}

/// Whether a name can stand in a prompt and be found again.
pub(crate) fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "_-.:/".contains(c);
    !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX && name.chars().all(is_plain)
}

/// Reads the tool choice. `allowed_tools` leaves only the tools that it names.
fn choice(fields: &Fields<'_>, tools: &mut Vec<ToolSpec>) -> Result<ToolChoice, RequestError> {
    const EXPECTED: &str = "'none', 'auto', 'required' or a tool of this request";
    let (at, value) = match (fields.get("tool_choice"), fields.get("function_call")) {
        (Some(value), _) => ("tool_choice", value),
        (None, Some(value)) => ("function_call", value),
        (None, None) => return Ok(ToolChoice::Auto),
    };
    let name = match value {
        Value::String(word) => match word.as_str() {
            "none" => return Ok(ToolChoice::None),
            "auto" => return Ok(ToolChoice::Auto),
            // `any` is what some gateways write.
            "required" | "any" if !tools.is_empty() => return Ok(ToolChoice::Required),
            "required" | "any" => {
                return Err(RequestError::invalid_value(at, "'none' or 'auto' in a request without tools"));
            }
            _ => return Err(RequestError::invalid_value(at, EXPECTED)),
        },
        Value::Object(map) if map.get("type").and_then(Value::as_str) == Some("allowed_tools") => {
            return allowed(&path(at, "allowed_tools"), map.get("allowed_tools"), tools);
        }
        Value::Object(map) => {
            let function = map.get("function").and_then(Value::as_object).unwrap_or(map);
            function.get("name").and_then(Value::as_str)
        }
        other => return Err(RequestError::invalid_type(at, "a string or an object", other)),
    };
    match name.filter(|name| tools.iter().any(|tool| tool.name == *name)) {
        Some(name) => Ok(ToolChoice::Named(name.to_owned())),
        None => Err(RequestError::invalid_value(at, EXPECTED)),
    }
}

/// Reads `{"mode": "auto" | "required", "tools": [{"type": "function", "function": {"name": …}}]}`.
fn allowed(at: &str, value: Option<&Value>, tools: &mut Vec<ToolSpec>) -> Result<ToolChoice, RequestError> {
    let map = match value {
        None | Some(Value::Null) => return Err(RequestError::missing(at)),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(RequestError::invalid_type(at, "an object", other)),
    };
    let tools_at = path(at, "tools");
    let entries = match map.get("tools") {
        None | Some(Value::Null) => return Err(RequestError::missing(&tools_at)),
        Some(Value::Array(entries)) if entries.is_empty() => {
            return Err(RequestError::invalid_value(&tools_at, "at least one tool"));
        }
        Some(Value::Array(entries)) => entries,
        Some(other) => return Err(RequestError::invalid_type(&tools_at, "an array", other)),
    };
    let mut names = HashSet::new();
    for (place, entry) in entries.iter().enumerate() {
        let name = entry.get("function").unwrap_or(entry).get("name").and_then(Value::as_str);
        match name.filter(|name| tools.iter().any(|tool| tool.name == *name)) {
            Some(name) => names.insert(name),
            None => {
                return Err(RequestError::invalid_value(&format!("{tools_at}[{place}]"), "a tool of this request"));
            }
        };
    }
    tools.retain(|tool| names.contains(tool.name.as_str()));
    match map.get("mode").and_then(Value::as_str) {
        Some("auto") | None => Ok(ToolChoice::Auto),
        Some("required") => Ok(ToolChoice::Required),
        Some(_) => Err(RequestError::invalid_value(&path(at, "mode"), "'auto' or 'required'")),
    }
}

fn output(fields: &Fields<'_>) -> Result<OutputFormat, RequestError> {
    let Some(format) = fields.object("response_format")? else {
        return Ok(OutputFormat::Text);
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(OutputFormat::Text),
        Some("json_object") => Ok(OutputFormat::JsonObject),
        Some("json_schema") => {
            let at = "response_format.json_schema";
            let Some(Value::Object(inner)) = format.get("json_schema") else {
                return Err(RequestError::missing(at));
            };
            let name = inner.get("name").and_then(Value::as_str).unwrap_or("answer").to_owned();
            let schema = match inner.get("schema") {
                Some(schema @ Value::Object(_)) => schema.clone(),
                None | Some(Value::Null) => Value::Object(Map::new()),
                Some(other) => return Err(RequestError::invalid_type(&path(at, "schema"), "an object", other)),
            };
            let strict = Fields(inner).flag_in(at, "strict")?;
            Ok(OutputFormat::JsonSchema { name, schema, at: "response_format".to_owned(), strict })
        }
        _ => Err(RequestError::invalid_value("response_format.type", "'text', 'json_object' or 'json_schema'")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<ToolWishes, RequestError> {
        ToolWishes::read(&Fields(body.as_object().unwrap()))
    }

    fn check(body: Value, expected: &str) {
        let found = match read(&body) {
            Ok(wishes) => {
                let names: Vec<&str> = wishes.tools.iter().map(|tool| tool.name.as_str()).collect();
                format!("{} {:?} {:?}", names.join(","), wishes.choice, wishes.output)
            }
            Err(error) => format!("! {:?} {}", error.kind, error.param.unwrap()),
        };
        assert_eq!(found, expected, "{body}");
    }

    fn f(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
    }

    #[test]
    fn tools_and_choices() {
        check(json!({}), " Auto Text");
        check(json!({"tools": []}), " Auto Text");
        check(json!({"tools": [f("a"), f("b-c")]}), "a,b-c Auto Text");
        check(json!({"tools": [f("a"), f("A")]}), "a,A Auto Text");
        check(json!({"tools": [f("a"), f("a")]}), "! InvalidValue tools[1]");
        check(json!({"tools": {}}), "! InvalidType tools");
        check(json!({"tools": [5]}), "! InvalidType tools[0]");
        check(json!({"tools": [{"type": "function"}]}), "! Missing tools[0].function");
        check(json!({"tools": [{"type": "function", "function": {}}]}), "! Missing tools[0].function.name");
        check(json!({"tools": [f("")]}), "! InvalidValue tools[0].function.name");
        check(json!({"tools": [f("a b")]}), "! InvalidValue tools[0].function.name");
        check(json!({"tools": [f("a<b")]}), "! InvalidValue tools[0].function.name");
        check(json!({"tools": [{"type": "teapot"}]}), "! InvalidValue tools[0].type");
        check(
            json!({"tools": [{"function": {"name": "a", "parameters": []}}]}),
            "! InvalidType tools[0].function.parameters",
        );
        check(json!({"tools": [f("a")], "tool_choice": "none"}), "a None Text");
        check(json!({"tools": [f("a")], "tool_choice": "required"}), "a Required Text");
        check(json!({"tool_choice": "required"}), "! InvalidValue tool_choice");
        check(json!({"tools": [f("a")], "tool_choice": "maybe"}), "! InvalidValue tool_choice");
        let named = |name: &str| json!({"type": "function", "function": {"name": name}});
        check(json!({"tools": [f("a")], "tool_choice": named("a")}), "a Named(\"a\") Text");
        check(json!({"tools": [f("a")], "tool_choice": named("b")}), "! InvalidValue tool_choice");
        check(json!({"tools": [f("a")], "tool_choice": 5}), "! InvalidType tool_choice");
        let allowed = |mode: &str, names: &[&str]| {
            let tools: Vec<Value> = names.iter().map(|name| named(name)).collect();
            let choice = json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}});
            json!({"tools": [f("a"), f("b"), f("c")], "tool_choice": choice})
        };
        check(allowed("auto", &["c", "a"]), "a,c Auto Text");
        check(allowed("required", &["b"]), "b Required Text");
        check(allowed("auto", &["a", "x"]), "! InvalidValue tool_choice.allowed_tools.tools[1]");
        check(allowed("auto", &[]), "! InvalidValue tool_choice.allowed_tools.tools");
        check(allowed("maybe", &["a"]), "! InvalidValue tool_choice.allowed_tools.mode");
        let bare = json!({"tools": [f("a")], "tool_choice": {"type": "allowed_tools"}});
        check(bare, "! Missing tool_choice.allowed_tools");
        check(json!({"functions": [{"name": "a"}], "function_call": {"name": "a"}}), "a Named(\"a\") Text");
        assert!(read(&json!({"functions": [{"name": "a"}]})).unwrap().is_legacy);
    }

    #[test]
    fn forms_of_answers() {
        check(json!({"response_format": {"type": "text"}}), " Auto Text");
        check(json!({"response_format": {"type": "json_object"}}), " Auto JsonObject");
        check(
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}}),
            " Auto JsonSchema { name: \"n\", schema: Object {}, at: \"response_format\", strict: None }",
        );
        check(json!({"response_format": {"type": "json_schema"}}), "! Missing response_format.json_schema");
        check(json!({"response_format": {"type": "yaml"}}), "! InvalidValue response_format.type");
        check(json!({"response_format": "text"}), "! InvalidType response_format");
    }
}
