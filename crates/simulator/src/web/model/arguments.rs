//! Invented values that follow a JSON Schema: the arguments of a call, or a JSON answer.

use serde_json::{Map, Value, json};

/// The texts from which values are invented.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    /// Path for properties that name a file or folder.
    pub(crate) path: &'a str,
    /// Whether a property that takes the path is filled even where it may be left out.
    pub(crate) fills_path: bool,
    /// Command line for properties of a shell tool.
    pub(crate) command: &'a str,
    /// Text for properties that hold the content of a file.
    pub(crate) content: &'a str,
    /// Purpose of the call in a few words, for properties such as `description`.
    pub(crate) purpose: &'a str,
    /// Text for every other property of type string.
    pub(crate) message: &'a str,
}

/// A value with every required property, and those that the wish fills.
pub(crate) fn filled(schema: &Value, wish: &Wish<'_>) -> Value {
    Filler { root: schema, wish }.value("", schema, 0)
}

/// A name without case and separators.
pub(crate) fn simple(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Whether a property of this simple name takes the path of a file or folder.
fn is_path(key: &str) -> bool {
    ["path", "dir", "directory", "folder", "cwd", "file", "filename"].iter().any(|end| key.ends_with(end))
}

/// Whether a list of this simple name is of no use when it is empty.
fn needs_an_item(key: &str) -> bool {
    ["command", "commands", "files", "paths", "filepaths"].contains(&key)
}

struct Filler<'a> {
    /// The whole schema, for `$ref`.
    root: &'a Value,
    wish: &'a Wish<'a>,
}

impl Filler<'_> {
    fn value(&self, key: &str, schema: &Value, depth: usize) -> Value {
        if depth > DEPTH_MAX {
            return Value::Null;
        }
        if let Some(pointer) = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#')) {
            return self.root.pointer(pointer).map_or(Value::Null, |schema| self.value(key, schema, depth + 1));
        }
        let given = schema.get("const").or_else(|| schema.get("enum")?.get(0)).or_else(|| schema.get("default"));
        if let Some(given) = given {
            return given.clone();
        }
        for variants in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema.get(variants).and_then(|variants| variants.get(0)) {
                return self.value(key, first, depth + 1);
            }
        }
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
            Some(kind) => kind.as_str(),
            None if schema.get("properties").is_some() || key.is_empty() => Some("object"),
            None => None,
        };
        match kind {
            Some("object") => self.object(schema, depth),
            Some("array") => self.array(key, schema, depth),
            Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
            Some("boolean") => json!(false),
            Some("null") => Value::Null,
            _ => self.text(&simple(key), schema),
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let required: Vec<&str> = required.filter_map(Value::as_str).collect();
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let fills = |name: &str| self.wish.fills_path && is_path(&simple(name));
        let wanted = properties.iter().filter(|(name, _)| required.contains(&name.as_str()) || fills(name));
        Value::Object(wanted.map(|(name, of)| (name.clone(), self.value(name, of, depth + 1))).collect())
    }

    fn array(&self, key: &str, schema: &Value, depth: usize) -> Value {
        let simple = simple(key);
        if simple == "command" && self.wish.command.contains(' ') {
            // The words of one command, not a list of commands.
            return json!(["bash", "-lc", self.wish.command]);
        }
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let count = usize::try_from(least.min(8)).unwrap_or(0).max(usize::from(needs_an_item(&simple)));
        let items = schema.get("items").cloned().unwrap_or_else(|| json!({ "type": "string" }));
        Value::Array((0..count).map(|_| self.value(key, &items, depth + 1)).collect())
    }

    fn text(&self, key: &str, schema: &Value) -> Value {
        let wish = self.wish;
        let text = match key {
            "command" | "commands" | "cmd" | "script" | "input" => wish.command,
            "pattern" | "glob" => "*",
            "description" | "explanation" | "reason" | "justification" => wish.purpose,
            "content" | "contents" | "newtext" | "filetext" | "newcontent" => wish.content,
            "files" | "paths" | "filepaths" => wish.path,
            _ if is_path(key) => wish.path,
            _ => wish.message,
        };
        let limit = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        let mut text: String = text.chars().take(limit("maxLength").unwrap_or(TEXT_CHARS_MAX)).collect();
        while text.chars().count() < limit("minLength").unwrap_or(0).min(TEXT_CHARS_MAX) {
            text.push('.');
        }
        Value::from(text)
    }
}

/// Nested schemas deeper than this are filled with `null`.
const DEPTH_MAX: usize = 16;

/// Longest invented text, in characters.
const TEXT_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    const WISH: Wish<'_> = Wish {
        path: "/home/ada/notes.txt",
        fills_path: true,
        command: "cat notes.txt",
        content: "Some text",
        purpose: "Read a file",
        message: "What is here?",
    };

    #[test]
    fn values_follow_the_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "mode": { "enum": ["fast", "slow"] }, "count": { "type": "integer", "minimum": 3 },
                "deep": { "$ref": "#/$defs/deep" }, "either": { "anyOf": [{ "type": "boolean" }, { "type": "null" }] },
                "many": { "type": "array", "minItems": 2, "items": { "const": 7 } }, "left_out": { "type": "string" },
                "short": { "type": "string", "maxLength": 4 }, "loop": { "$ref": "#/$defs/loop" },
            },
            "required": ["mode", "count", "deep", "either", "many", "short", "loop"],
            "$defs": {
                "deep": { "type": "object", "properties": { "dir": { "type": "string" } }, "required": ["dir"] },
                "loop": { "$ref": "#/$defs/loop" },
            },
        });
        let expected = json!({
            "mode": "fast", "count": 3, "deep": { "dir": "." }, "either": false, "many": [7, 7], "short": "What",
            "loop": null,
        });
        assert_eq!(filled(&schema, &Wish { path: ".", fills_path: false, ..WISH }), expected);
    }

    #[test]
    fn paths_and_commands_go_where_a_tool_takes_them() {
        let text = json!({ "type": "string" });
        let list = json!({ "type": "array", "items": text });
        let of_files = json!({ "type": "object", "properties": { "path": text }, "required": ["path"] });
        for (properties, required, expected) in [
            (json!({ "file_path": text, "limit": text }), vec![], json!({ "file_path": WISH.path })),
            (json!({ "filePath": text }), vec!["filePath"], json!({ "filePath": WISH.path })),
            (json!({ "paths": list }), vec!["paths"], json!({ "paths": [WISH.path] })),
            (
                json!({ "files": { "type": "array", "items": of_files } }),
                vec!["files"],
                json!({ "files": [{ "path": WISH.path }] }),
            ),
            (json!({ "commands": list }), vec!["commands"], json!({ "commands": ["cat notes.txt"] })),
            (json!({ "command": list }), vec!["command"], json!({ "command": ["bash", "-lc", "cat notes.txt"] })),
            (json!({ "cmd": text, "justification": text }), vec!["cmd"], json!({ "cmd": "cat notes.txt" })),
            (
                json!({ "path": text, "new_text": text, "old_text": text }),
                vec!["path", "new_text"],
                json!({ "path": WISH.path, "new_text": "Some text" }),
            ),
        ] {
            let schema = json!({ "type": "object", "properties": properties, "required": required });
            assert_eq!(filled(&schema, &WISH), expected, "{schema}");
        }
    }
}
