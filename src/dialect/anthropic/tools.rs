//! The tools of a Messages request.
//!
//! Tools of the caller become tools of the conversation, `web_search` becomes a wish. Tools that only Anthropic's
//! models or servers know are left out and reported to the caller.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::chat::conversation::{ToolChoice, ToolSpec};
use crate::chat::error::{RequestError, path};
use crate::dialect::openai::fields::Fields;
use crate::dialect::openai::tools::{NAME_FORM, is_name};

/// Tools that are left out, under the name that tells callers of them. Their types end with a date.
const SKIPPED: [&str; 9] = [
    "tools.bash",
    "tools.code_execution",
    "tools.computer",
    "tools.mcp_toolset",
    "tools.memory",
    "tools.text_editor",
    "tools.tool_search",
    "tools.web_fetch",
    SEARCH,
];
const SEARCH: &str = "tools.web_search";

/// The tools of a request and its tool choice.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// The tools that the caller runs itself.
    pub(crate) specs: Vec<ToolSpec>,
    /// Which of them the answer may or must call.
    pub(crate) choice: ToolChoice,
    /// Whether an answer may hold at most one call (`disable_parallel_tool_use`).
    pub(crate) is_serial: bool,
    /// The name of the search tool, when the web is to be searched.
    pub(crate) search: Option<String>,
    /// Names for the types of tools that are left out.
    pub(crate) ignored: Vec<&'static str>,
}

impl Tools {
    /// Reads `tools` and `tool_choice`.
    ///
    /// # Errors
    /// The first fault, by the field that has it.
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, RequestError> {
        let mut tools = Self::default();
        let mut names = HashSet::new();
        match fields.get("tools") {
            None => {}
            Some(Value::Array(list)) => {
                for (place, tool) in list.iter().enumerate() {
                    let at = format!("tools[{place}]");
                    let Value::Object(map) = tool else {
                        return Err(RequestError::invalid_type(&at, "an object", tool));
                    };
                    let name = tools.tool(&at, &Fields(map))?;
                    if name.is_some_and(|name| !names.insert(name)) {
                        return Err(RequestError::invalid_value(&path(&at, "name"), "a name that no other tool has"));
                    }
                }
            }
            Some(other) => return Err(RequestError::invalid_type("tools", "an array", other)),
        }
        let has_skipped = !tools.ignored.is_empty();
        tools.choose(fields, has_skipped)?;
        if tools.search.is_some() && !tools.specs.is_empty() {
            // The caller's tools come first; a search beside them would take over the whole turn.
            tools.search = None;
            tools.ignored.push(SEARCH);
        }
        Ok(tools)
    }

    /// Reads a tool; returns its name if the caller runs it.
    fn tool<'a>(&mut self, at: &str, fields: &Fields<'a>) -> Result<Option<&'a str>, RequestError> {
        let kind = match fields.get("type") {
            None => "custom",
            Some(Value::String(kind)) => kind,
            Some(other) => return Err(RequestError::invalid_type(&path(at, "type"), "a string", other)),
        };
        if kind != "custom" {
            let is_kind = |name: &&&str| name.strip_prefix("tools.").is_some_and(|name| kind.starts_with(name));
            match SKIPPED.iter().find(is_kind) {
                Some(&SEARCH) => {
                    let name = fields.get("name").and_then(Value::as_str).unwrap_or("web_search");
                    self.search = Some(name.to_owned());
                }
                known => {
                    let name = known.copied().unwrap_or("tools");
                    if !self.ignored.contains(&name) {
                        self.ignored.push(name);
                    }
                }
            }
            return Ok(None);
        }
        let text = |name: &str| match fields.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(RequestError::invalid_type(&path(at, name), "a string", other)),
        };
        let name_at = path(at, "name");
        let name = text("name")?.ok_or_else(|| RequestError::missing(&name_at))?;
        if !is_name(name) {
            return Err(RequestError::invalid_value(&name_at, NAME_FORM));
        }
        let schema_at = path(at, "input_schema");
        let parameters: Map<String, Value> = match fields.get("input_schema") {
            None => return Err(RequestError::missing(&schema_at)),
            Some(Value::Object(schema)) => schema.clone(),
            Some(other) => return Err(RequestError::invalid_type(&schema_at, "an object (a JSON Schema)", other)),
        };
        let description = text("description")?.map(str::to_owned);
        let strict = fields.flag_in(at, "strict")?;
        self.specs.push(ToolSpec { name: name.to_owned(), description, parameters, parameters_at: schema_at, strict });
        Ok(Some(name))
    }

    fn choose(&mut self, fields: &Fields<'_>, has_skipped: bool) -> Result<(), RequestError> {
        const AT: &str = "tool_choice";
        let Some(choice) = fields.object(AT)? else { return Ok(()) };
        self.is_serial = choice.flag_in(AT, "disable_parallel_tool_use")? == Some(true);
        let is_searching = self.search.is_some();
        self.choice = match choice.get("type").and_then(Value::as_str) {
            Some("auto") => ToolChoice::Auto,
            Some("none") => {
                self.search = None;
                ToolChoice::None
            }
            Some("any") if !self.specs.is_empty() => ToolChoice::Required,
            Some("any") if is_searching || has_skipped => ToolChoice::Auto,
            Some("any") => {
                return Err(RequestError::invalid_value(AT, "'auto' or 'none' in a request without tools"));
            }
            Some("tool") => {
                let name = choice.get("name").and_then(Value::as_str);
                match name.filter(|name| self.specs.iter().any(|tool| tool.name == *name)) {
                    Some(name) => ToolChoice::Named(name.to_owned()),
                    None if is_searching && name == self.search.as_deref() => ToolChoice::Auto,
                    None => {
                        let at = path(AT, "name");
                        return Err(RequestError::invalid_value(&at, "the name of a tool of this request"));
                    }
                }
            }
            _ => return Err(RequestError::invalid_value(&path(AT, "type"), "'auto', 'any', 'tool' or 'none'")),
        };
        Ok(())
    }
}
