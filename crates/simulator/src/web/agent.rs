//! The built-in answer to a prompt that shows tools: a sensible call, or an answer that uses the newest results.

use serde_json::{Map, Value, json};

use crate::script::{CallShape, ModelCall, ToolScript};
use crate::web::prompt::{Tool, newest_results, newest_user_message, tools, working_directory};

/// What the model says; `None` where the prompt shows no tools, or none that fits.
pub(crate) fn answer(prompt: &str) -> Option<String> {
    let tools = tools(prompt);
    if tools.is_empty() {
        return None;
    }
    let results = newest_results(prompt);
    if !results.is_empty() {
        return Some(report(&results));
    }
    let message = newest_user_message(prompt);
    if message.contains("echo:") {
        return None;
    }
    let asked = asked(message, &tools);
    let calls = if asked.is_empty() { vec![chosen(prompt, message, &tools)?] } else { asked };
    Some(ToolScript::new(CallShape::Documented, calls).text())
}

/// An answer that quotes what the tools returned.
fn report(results: &[(String, &str)]) -> String {
    let quoted = results.iter().map(|(name, result)| {
        let name = if name.is_empty() { "The tool".to_owned() } else { format!("The tool `{name}`") };
        let shown: String = result.chars().take(RESULT_CHARS_MAX).collect();
        let rest = if shown.len() < result.len() { " […]" } else { "" };
        format!("{name} returned:\n\n{shown}{rest}")
    });
    let quoted: Vec<_> = quoted.collect();
    format!("{}\n\nThis is a simulated answer: no model was asked.", quoted.join("\n\n"))
}

/// Lines `call: NAME ARGUMENTS` of the message, as far as there are such tools.
fn asked(message: &str, tools: &[Tool]) -> Vec<ModelCall> {
    let lines = message.lines().filter_map(|line| line.trim().strip_prefix("call:"));
    let calls = lines.filter_map(|line| {
        let line = line.trim();
        let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, "{}"));
        tools.iter().any(|tool| tool.name == name).then(|| ModelCall::raw(name, arguments.trim()))
    });
    calls.collect()
}

/// The tool that has to be called, else one that lists a folder, else one that the message names.
fn chosen(prompt: &str, message: &str, tools: &[Tool]) -> Option<ModelCall> {
    let folder = working_directory(prompt).unwrap_or(".");
    let named = |name: &str| tools.iter().find(|tool| simple(&tool.name) == name);
    let forced = tools.iter().find(|tool| prompt.contains(&format!("has to call the tool {}.", tool.name)));
    let lists = LISTING.iter().find_map(|name| named(name));
    let runs = SHELLS.iter().find_map(|name| named(name));
    let lower = message.to_lowercase();
    let speaks_of = |tool: &&Tool| {
        let mut words = tool.name.split(['_', '-', '.']).filter(|word| word.len() >= 4);
        words.any(|word| lower.contains(&word.to_lowercase()))
    };
    let required = || tools.first().filter(|_| prompt.contains("The next message has to call a tool."));
    let tool = forced.or(lists).or(runs).or_else(|| tools.iter().find(speaks_of)).or_else(required)?;
    Some(ModelCall::new(&tool.name, filled(&tool.parameters, &Wish { root: &tool.parameters, folder, message })))
}

/// A name without case and separators.
fn simple(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// What invented arguments depend on.
struct Wish<'a> {
    /// The whole schema, for `$ref`.
    root: &'a Value,
    folder: &'a str,
    message: &'a str,
}

/// An object with every required property, and those that say where to look.
fn filled(schema: &Value, wish: &Wish<'_>) -> Value {
    value_for("", schema, wish, 0)
}

fn value_for(key: &str, schema: &Value, wish: &Wish<'_>, depth: usize) -> Value {
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    if let Some(pointer) = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#')) {
        return wish.root.pointer(pointer).map_or(Value::Null, |schema| value_for(key, schema, wish, depth + 1));
    }
    if let Some(given) = schema.get("const").or_else(|| schema.get("enum")?.get(0)).or_else(|| schema.get("default")) {
        return given.clone();
    }
    for variants in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema.get(variants).and_then(|variants| variants.get(0)) {
            return value_for(key, first, wish, depth + 1);
        }
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        Some(kind) => kind.as_str(),
        None if schema.get("properties").is_some() || key.is_empty() => Some("object"),
        None => None,
    };
    match kind {
        Some("object") => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            let required: Vec<&str> = required.filter_map(Value::as_str).collect();
            let none = Map::new();
            let wanted = properties.unwrap_or(&none).iter().filter(|(name, _)| required.contains(&name.as_str()));
            Value::Object(wanted.map(|(name, of)| (name.clone(), value_for(name, of, wish, depth + 1))).collect())
        }
        Some("array") => {
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
            let count = if simple(key) == "command" { 1 } else { usize::try_from(least.min(8)).unwrap_or(0) };
            let items = schema.get("items").cloned().unwrap_or_else(|| json!({ "type": "string" }));
            Value::Array((0..count).map(|_| value_for(key, &items, wish, depth + 1)).collect())
        }
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("boolean") => json!(false),
        Some("null") => Value::Null,
        _ => text_for(&simple(key), schema, wish),
    }
}

fn text_for(key: &str, schema: &Value, wish: &Wish<'_>) -> Value {
    let text = match key {
        "command" | "cmd" | "script" | "input" => "ls",
        "pattern" | "glob" => "*",
        "description" | "explanation" | "reason" | "justification" => "List the files of the folder",
        _ if ["path", "dir", "directory", "folder", "cwd"].iter().any(|end| key.ends_with(end)) => wish.folder,
        _ => wish.message,
    };
    let limit = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|length| usize::try_from(length).ok());
    let mut text: String = text.chars().take(limit("maxLength").unwrap_or(TEXT_CHARS_MAX)).collect();
    while text.chars().count() < limit("minLength").unwrap_or(0).min(TEXT_CHARS_MAX) {
        text.push('.');
    }
    Value::from(text)
}

/// Tools that list a folder, without case and separators, best first.
const LISTING: &[&str] =
    &["listfiles", "listdirectory", "listdir", "ls", "listfolder", "readdirectory", "listdirectorycontents"];

/// Tools that run a command, likewise.
const SHELLS: &[&str] = &["bash", "shell", "runshellcommand", "executecommand", "shellcommand", "execcommand", "exec"];

/// Nested schemas deeper than this are filled with `null`.
const DEPTH_MAX: usize = 16;

/// How much of a result is quoted.
const RESULT_CHARS_MAX: usize = 2_000;

/// How long an invented text may be.
const TEXT_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(tools: &[Value], rest: &str) -> String {
        let lines: Vec<String> = tools.iter().map(Value::to_string).collect();
        format!("Head.\n\n<tools>\n{}\n</tools>\n\nHow to call.\n\n{rest}", lines.join("\n"))
    }

    fn tool(name: &str, properties: &Value, required: &[&str]) -> Value {
        let parameters = json!({ "type": "object", "properties": properties, "required": required });
        json!({ "name": name, "description": "d", "parameters": parameters })
    }

    fn call_of(tools: &[Value], rest: &str) -> Value {
        let said = answer(&prompt(tools, rest)).unwrap();
        let json = said.strip_prefix("<tool_call>").and_then(|rest| rest.strip_suffix("</tool_call>"));
        serde_json::from_str(json.unwrap_or_else(|| panic!("{said}"))).unwrap()
    }

    const USER: &str = "<user>\nWhat is here?\n</user>\n\nWrite on.";

    #[test]
    fn a_folder_is_listed_with_the_tool_that_is_there() {
        let weather = tool("get_weather", &json!({ "city": { "type": "string" } }), &["city"]);
        let text = json!({ "type": "string" });
        for (tool, name, arguments) in [
            (tool("list_files", &json!({ "path": text }), &["path"]), "list_files", json!({ "path": "." })),
            (
                tool("Bash", &json!({ "command": text, "timeout": { "type": "number" } }), &["command"]),
                "Bash",
                json!({ "command": "ls" }),
            ),
            (
                tool("shell", &json!({ "command": { "type": "array", "items": text } }), &["command"]),
                "shell",
                json!({ "command": ["ls"] }),
            ),
            (tool("LS", &json!({ "path": text }), &[]), "LS", json!({})),
        ] {
            let call = call_of(&[weather.clone(), tool], USER);
            assert_eq!(call, json!({ "name": name, "arguments": arguments }));
        }
        let list = tool("list_directory", &json!({ "path": text }), &["path"]);
        let rest = "<system>\nWorking directory: /home/ada/app\n</system>\n\n<user>\nHi\n</user>";
        assert_eq!(call_of(&[list], rest)["arguments"]["path"], "/home/ada/app");
    }

    #[test]
    fn arguments_follow_the_schema() {
        let properties = json!({
            "mode": { "enum": ["fast", "slow"] }, "count": { "type": "integer", "minimum": 3 },
            "deep": { "$ref": "#/$defs/deep" }, "either": { "anyOf": [{ "type": "boolean" }, { "type": "null" }] },
            "many": { "type": "array", "minItems": 2, "items": { "const": 7 } }, "left_out": { "type": "string" },
            "short": { "type": "string", "maxLength": 4 }, "loop": { "$ref": "#/$defs/loop" },
        });
        let mut tool = tool("ls", &properties, &["mode", "count", "deep", "either", "many", "short", "loop"]);
        tool["parameters"]["$defs"] = json!({
            "deep": { "type": "object", "properties": { "dir": { "type": "string" } }, "required": ["dir"] },
            "loop": { "$ref": "#/$defs/loop" },
        });
        let expected = json!({
            "mode": "fast", "count": 3, "deep": { "dir": "." }, "either": false, "many": [7, 7], "short": "What",
            "loop": null,
        });
        assert_eq!(call_of(&[tool], USER)["arguments"], expected);
    }

    #[test]
    fn a_tool_that_is_named_or_required_is_called() {
        let tools = ["get_weather", "send_mail"].map(|name| tool(name, &json!({ "q": { "type": "string" } }), &["q"]));
        assert_eq!(call_of(&tools, "<user>\nHow is the weather?\n</user>")["name"], "get_weather");
        assert_eq!(
            call_of(&tools, "The next message has to call a tool.\n\n<user>\nHi\n</user>")["name"],
            "get_weather"
        );
        let named = "The next message has to call the tool send_mail.\n\n<user>\nHi\n</user>";
        assert_eq!(call_of(&tools, named)["name"], "send_mail");
        let asked = "<user>\ncall: send_mail {\"q\": 1}\n</user>";
        assert_eq!(call_of(&tools, asked), json!({ "name": "send_mail", "arguments": { "q": 1 } }));
        for rest in ["<user>\nHello\n</user>", "<user>\necho: weather\n</user>"] {
            assert_eq!(answer(&prompt(&tools, rest)), None, "{rest}");
        }
        assert_eq!(answer("<user>\nHow is the weather?\n</user>"), None);
    }

    #[test]
    fn a_result_is_used() {
        let tools = [tool("ls", &json!({}), &[])];
        let call = "<user>\nHi\n</user>\n\n<assistant>\n<tool_call>{\"name\": \"ls\"}</tool_call>\n</assistant>";
        let result = "<tool_result id=\"a\" name=\"ls\">\na.txt\nb.txt\n</tool_result>";
        let said = answer(&prompt(&tools, &format!("{call}\n\n{result}\n\nWrite on."))).unwrap();
        assert!(said.starts_with("The tool `ls` returned:\n\na.txt\nb.txt\n\nThis is a simulated"), "{said}");
        // A result of an earlier turn answers nothing new.
        let later = format!("{call}\n\n{result}\n\n<assistant>\nTwo files.\n</assistant>\n\n<user>\nAgain\n</user>");
        assert_eq!(call_of(&tools, &later)["name"], "ls");
    }
}
