//! The tools of a Responses request.
//!
//! Functions become tools as they are, freeform (`custom`) tools become tools with one string `input`, and
//! `web_search` becomes a wish. What only OpenAI's own platform has is left out and named to the caller.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::chat::conversation::{ToolChoice, ToolSpec};
use crate::chat::error::{RequestError, path};
use crate::dialect::openai::fields::Fields;
use crate::dialect::openai::tools::{NAME_FORM, is_name};

/// Types of tools that are left out, under the name that tells callers of them.
const SKIPPED: [&str; 13] = [
    "tools.apply_patch",
    "tools.code_interpreter",
    "tools.computer",
    "tools.computer_use_preview",
    "tools.file_search",
    "tools.image_generation",
    "tools.local_shell",
    "tools.mcp",
    "tools.namespace",
    "tools.programmatic_tool_calling",
    "tools.shell",
    "tools.tool_search",
    "tools.web_fetch",
];

/// The tools of a request, and which of them have to be called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tools {
    /// Functions and freeform tools.
    pub(crate) specs: Vec<ToolSpec>,
    /// The names of the freeform tools.
    pub(crate) freeform: Vec<String>,
    /// Which of them the answer may or must call.
    pub(crate) choice: ToolChoice,
    /// Whether the web is to be searched.
    pub(crate) search: bool,
    /// Types of tools that are left out.
    pub(crate) ignored: Vec<&'static str>,
    /// The tools that have an effect, as the response repeats them.
    pub(crate) echo: Vec<Value>,
}

impl Tools {
    /// Reads `tools` and `tool_choice`.
    ///
    /// # Errors
    /// The first fault, by the field that has it.
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, RequestError> {
        let mut tools = Self {
            specs: Vec::new(),
            freeform: Vec::new(),
            choice: ToolChoice::Auto,
            search: false,
            ignored: Vec::new(),
            echo: Vec::new(),
        };
        match fields.get("tools") {
            None => {}
            Some(Value::Array(list)) => {
                for (place, tool) in list.iter().enumerate() {
                    tools.tool(&format!("tools[{place}]"), tool)?;
                }
            }
            Some(other) => return Err(RequestError::invalid_type("tools", "an array", other)),
        }
        let mut names = HashSet::new();
        if let Some(twice) = tools.specs.iter().find(|spec| !names.insert(spec.name.as_str())) {
            let expected = format!("tools of different names, and there are two of '{}'", twice.name);
            return Err(RequestError::invalid_value("tools", &expected));
        }
        tools.choose(fields.get("tool_choice"))?;
        if tools.search && !tools.specs.is_empty() {
            // The caller's functions come first; a search beside them would take over the whole turn.
            tools.search = false;
            tools.ignored.push("tools.web_search");
            tools.echo.retain(|tool| !tool.get("type").and_then(Value::as_str).is_some_and(is_search));
        }
        Ok(tools)
    }

    fn tool(&mut self, at: &str, tool: &Value) -> Result<(), RequestError> {
        let Value::Object(map) = tool else {
            return Err(RequestError::invalid_type(at, "an object", tool));
        };
        let kind = match map.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            None | Some(Value::Null) => return Err(RequestError::missing(&path(at, "type"))),
            Some(other) => return Err(RequestError::invalid_type(&path(at, "type"), "a string", other)),
        };
        match kind {
            "function" => {
                // Some clients nest the function as chat completions do.
                let (at, map) = match map.get("function") {
                    Some(Value::Object(nested)) => (path(at, "function"), nested),
                    _ => (at.to_owned(), map),
                };
                let spec = function(&at, &Fields(map))?;
                let mut echo = map.clone();
                echo.insert("type".to_owned(), "function".into());
                echo.entry("strict").or_insert(Value::Null);
                echo.entry("parameters").or_insert(Value::Null);
                self.echo.push(Value::Object(echo));
                self.specs.push(spec);
            }
            "custom" => {
                let spec = freeform(at, &Fields(map))?;
                self.freeform.push(spec.name.clone());
                self.specs.push(spec);
                self.echo.push(tool.clone());
            }
            kind if is_search(kind) => {
                self.search = true;
                self.echo.push(tool.clone());
            }
            other => {
                let known = SKIPPED.iter().find(|name| name.strip_prefix("tools.") == Some(other));
                let name = known.unwrap_or(&"tools");
                if !self.ignored.contains(name) {
                    self.ignored.push(name);
                }
            }
        }
        Ok(())
    }

    fn choose(&mut self, choice: Option<&Value>) -> Result<(), RequestError> {
        const AT: &str = "tool_choice";
        let Some(choice) = choice else { return Ok(()) };
        let map = match choice {
            Value::String(word) => {
                self.choice = match word.as_str() {
                    "auto" => ToolChoice::Auto,
                    "none" => {
                        self.search = false;
                        ToolChoice::None
                    }
                    "required" => return self.require(),
                    _ => return Err(RequestError::invalid_value(AT, "'none', 'auto', 'required' or a tool")),
                };
                return Ok(());
            }
            Value::Object(map) => map,
            other => return Err(RequestError::invalid_type(AT, "a string or an object", other)),
        };
        match map.get("type").and_then(Value::as_str) {
            Some("function" | "custom") => {
                self.choice = ToolChoice::Named(self.named(&path(AT, "name"), map)?);
                Ok(())
            }
            Some("allowed_tools") => self.allow(map),
            Some(kind) if is_search(kind) => Ok(()),
            Some(_) => {
                Err(RequestError::unsupported_value(AT, "Only functions and freeform tools can be asked for by name."))
            }
            None => Err(RequestError::missing(&path(AT, "type"))),
        }
    }

    /// Reads `{"type": "allowed_tools", "mode": …, "tools": […]}`.
    fn allow(&mut self, map: &Map<String, Value>) -> Result<(), RequestError> {
        let at = "tool_choice.tools";
        let Some(Value::Array(list)) = map.get("tools") else {
            return Err(RequestError::missing(at));
        };
        let mut names = HashSet::new();
        let mut has_search = false;
        for (place, entry) in list.iter().enumerate() {
            let at = format!("{at}[{place}]");
            let Value::Object(entry) = entry else {
                return Err(RequestError::invalid_type(&at, "an object", entry));
            };
            match entry.get("type").and_then(Value::as_str) {
                Some("function" | "custom") => {
                    names.insert(self.named(&path(&at, "name"), entry)?);
                }
                kind => has_search |= kind.is_some_and(is_search),
            }
        }
        self.specs.retain(|spec| names.contains(&spec.name));
        self.search &= has_search;
        match map.get("mode").and_then(Value::as_str) {
            Some("auto") | None => Ok(()),
            Some("required") => self.require(),
            Some(_) => Err(RequestError::invalid_value("tool_choice.mode", "'auto' or 'required'")),
        }
    }

    fn require(&mut self) -> Result<(), RequestError> {
        if self.specs.is_empty() && !self.search {
            return Err(RequestError::invalid_value("tool_choice", "'auto' or 'none', since there is no tool to call"));
        }
        if !self.specs.is_empty() {
            self.choice = ToolChoice::Required;
        }
        Ok(())
    }

    /// The name of a tool of this request.
    fn named(&self, at: &str, map: &Map<String, Value>) -> Result<String, RequestError> {
        let name = name(at, &Fields(map))?;
        if self.specs.iter().any(|spec| spec.name == name) {
            return Ok(name.to_owned());
        }
        Err(RequestError::invalid_value(at, "the name of one of 'tools'"))
    }
}

fn is_search(kind: &str) -> bool {
    kind.starts_with("web_search")
}

fn name<'a>(at: &str, fields: &Fields<'a>) -> Result<&'a str, RequestError> {
    match fields.get("name") {
        Some(Value::String(name)) if is_name(name) => Ok(name),
        Some(Value::String(_)) => Err(RequestError::invalid_value(at, NAME_FORM)),
        Some(other) => Err(RequestError::invalid_type(at, "a string", other)),
        None => Err(RequestError::missing(at)),
    }
}

fn function(at: &str, fields: &Fields<'_>) -> Result<ToolSpec, RequestError> {
    let parameters = match fields.get("parameters") {
        None => Map::new(),
        Some(Value::Object(schema)) => schema.clone(),
        Some(other) => {
            return Err(RequestError::invalid_type(&path(at, "parameters"), "an object (a JSON Schema)", other));
        }
    };
    Ok(ToolSpec {
        name: name(&path(at, "name"), fields)?.to_owned(),
        description: description(at, fields)?,
        parameters,
        parameters_at: path(at, "parameters"),
        strict: fields.flag_in(at, "strict")?,
    })
}

/// A freeform tool as a function with one string.
fn freeform(at: &str, fields: &Fields<'_>) -> Result<ToolSpec, RequestError> {
    let input = match fields.get("format") {
        Some(Value::Object(format)) => match format.get("definition").and_then(Value::as_str) {
            Some(definition) => {
                let syntax = format.get("syntax").and_then(Value::as_str).unwrap_or("lark");
                format!("The whole input as plain text, which has to follow this {syntax} grammar:\n{definition}")
            }
            None => "The whole input as plain text.".to_owned(),
        },
        None => "The whole input as plain text.".to_owned(),
        Some(other) => return Err(RequestError::invalid_type(&path(at, "format"), "an object", other)),
    };
    let schema = json!({
        "type": "object",
        "properties": {FREEFORM_INPUT: {"type": "string", "description": input}},
        "required": [FREEFORM_INPUT],
        "additionalProperties": false,
    });
    let parameters = match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    };
    let name = name(&path(at, "name"), fields)?.to_owned();
    let description = description(at, fields)?;
    Ok(ToolSpec { name, description, parameters, parameters_at: path(at, "format"), strict: None })
}

/// The one parameter of a freeform tool.
const FREEFORM_INPUT: &str = "input";

/// The input of a freeform tool out of the arguments that the model wrote: the string `input`, or whatever else it
/// wrote in its place.
pub(crate) fn freeform_input(arguments: &str) -> String {
    match serde_json::from_str(arguments) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(mut map)) => {
            let only = (map.len() == 1).then(|| map.keys().next().cloned()).flatten();
            let key = if map.contains_key(FREEFORM_INPUT) { Some(FREEFORM_INPUT.to_owned()) } else { only };
            match key.and_then(|key| map.shift_remove(&key)) {
                Some(Value::String(text)) => text,
                _ => arguments.to_owned(),
            }
        }
        _ => arguments.to_owned(),
    }
}

fn description(at: &str, fields: &Fields<'_>) -> Result<Option<String>, RequestError> {
    match fields.get("description") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(RequestError::invalid_type(&path(at, "description"), "a string", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_freeform_tools() {
        for (arguments, input) in [
            (r#"{"input":"*** Begin"}"#, "*** Begin"),
            (r#"{"input":"a","why":"b"}"#, "a"),
            (r#"{"patch":"a\nb"}"#, "a\nb"),
            (r#""plain""#, "plain"),
            ("*** Begin Patch", "*** Begin Patch"),
            (r#"{"input":1}"#, r#"{"input":1}"#),
            ("", ""),
        ] {
            assert_eq!(freeform_input(arguments), input, "{arguments}");
        }
    }
}
