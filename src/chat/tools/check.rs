//! Checks calls against the tools that a caller declared.
//!
//! A [`ToolSet`] is compiled once for a distinct set of tools, under its [`ToolSetKey`], and checks any number of
//! calls. A name that differs in case or separators is repaired, and so are arguments that are wrong in form only
//! (`mend`).

use crate::chat::conversation::ToolSpec;
use crate::chat::tools::names::ToolNames;
use crate::chat::tools::schema::{BadPatterns, SCHEMA_BYTES_MAX, Schema, SchemaFault, schema_of, shortened};
use crate::chat::tools::shapes::written::WrittenCall;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// Most levels of nesting in the arguments of a call.
const ARGUMENTS_DEPTH_MAX: usize = 64;

/// Most tool names in a sentence for the model.
const NAMES_MAX: usize = 64;

/// Tells tool sets apart: equal for equal names and schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ToolSetKey([u8; 32]);

impl ToolSetKey {
    /// The key of these tools.
    #[must_use]
    pub fn of(tools: &[ToolSpec]) -> Self {
        let mut digest = Sha256::new();
        for tool in tools {
            digest.update(tool.name.len().to_le_bytes());
            digest.update(tool.name.as_bytes());
            // Writing a map of strings as JSON cannot fail.
            let schema = serde_json::to_vec(&tool.parameters).unwrap_or_default();
            digest.update(schema.len().to_le_bytes());
            digest.update(schema);
        }
        Self(digest.finalize().into())
    }
}

/// A fault of the declared tools.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the parameters of the tool '{name}' {fault}")]
pub struct ToolSetError {
    /// The place of the tool among those that were declared.
    pub place: usize,
    /// The name of the tool as it was declared.
    pub name: String,
    /// The fault of its `parameters`.
    pub fault: SchemaFault,
}

/// Declared tools, ready to check calls.
pub struct ToolSet {
    key: ToolSetKey,
    names: Arc<ToolNames>,
    /// In the order of the names; `None` where any object is right.
    schemas: Vec<Option<Schema>>,
    /// Bytes of the schemas, which count towards [`SCHEMA_BYTES_MAX`].
    bytes: usize,
}

impl fmt::Debug for ToolSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolSet").field("names", &self.names.all()).finish_non_exhaustive()
    }
}

impl PartialEq for ToolSet {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for ToolSet {}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// A call of a declared tool with arguments that follow its schema.
    Valid {
        /// The name as declared.
        name: String,
        /// A JSON object: byte for byte as the model wrote it, unless something was repaired.
        arguments: String,
        /// Whether name or arguments were repaired.
        is_repaired: bool,
    },
    /// A call that cannot be repaired.
    Invalid {
        /// A short sentence for the model that names the fault.
        why: String,
    },
}

impl ToolSet {
    /// Compiles the schemas of these tools.
    ///
    /// # Errors
    /// [`ToolSetError`]: the first schema that cannot be used.
    pub fn compile(tools: &[ToolSpec]) -> Result<Self, ToolSetError> {
        let mut bytes_left = SCHEMA_BYTES_MAX;
        let compile = |(place, tool): (usize, &ToolSpec)| {
            let error = |fault| ToolSetError { place, name: tool.name.clone(), fault };
            schema_of(&tool.parameters, &mut bytes_left, BadPatterns::Dropped).map_err(error)
        };
        let schemas = tools.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        let names = ToolNames::new(tools.iter().map(|tool| tool.name.clone())).into();
        Ok(Self { key: ToolSetKey::of(tools), names, schemas, bytes: SCHEMA_BYTES_MAX - bytes_left })
    }

    /// The key under which it was compiled.
    #[must_use]
    pub fn key(&self) -> ToolSetKey {
        self.key
    }

    /// The bytes of its schemas, without white space and punctuation.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The declared names, with the spellings that are repaired to them.
    #[must_use]
    pub fn names(&self) -> &Arc<ToolNames> {
        &self.names
    }

    /// Checks a call, and repairs what is wrong in form only.
    #[must_use]
    pub fn check(&self, call: &WrittenCall) -> Checked {
        match self.checked(call) {
            Ok((name, arguments)) => {
                let is_repaired = name != call.name || arguments != call.arguments;
                Checked::Valid { name, arguments, is_repaired }
            }
            Err(why) => Checked::Invalid { why: shortened(why) },
        }
    }

    fn checked(&self, call: &WrittenCall) -> Result<(String, String), String> {
        let declared = self.names.place(&call.name).and_then(|place| Some((place, self.names.all().get(place)?)));
        let Some((place, name)) = declared else {
            return Err(self.no_tool(&call.name));
        };
        let wrong = |why: String| format!("the arguments of '{name}' are wrong: {why}");
        let parse = |text: &str| {
            serde_json::from_str::<Value>(text).map_err(|error| wrong(format!("they are not valid JSON ({error})")))
        };
        let schema = self.schemas.get(place).and_then(Option::as_ref);
        let mut text = call.arguments.clone();
        let mut value = parse(&text)?;
        if let Value::String(inner) = value {
            text = if inner.trim().is_empty() { "{}".to_owned() } else { inner };
            value = match (serde_json::from_str(&text), schema.and_then(Schema::only_text)) {
                (Ok(value @ Value::Object(_)), _) => value,
                (_, Some(key)) => {
                    let value = Value::Object(Map::from_iter([(key.to_owned(), Value::String(text))]));
                    text = value.to_string();
                    value
                }
                (_, None) => parse(&text)?,
            };
        }
        let Value::Object(arguments) = &value else {
            return Err(wrong("they have to be a JSON object".to_owned()));
        };
        if depth_of(&value) > ARGUMENTS_DEPTH_MAX {
            return Err(wrong(format!("they are nested deeper than {ARGUMENTS_DEPTH_MAX} levels")));
        }
        let Some(schema) = schema.filter(|schema| schema.can_check(&value)) else {
            return Ok((name.clone(), text));
        };
        let renamed = schema.renamed(arguments);
        if renamed.is_none() && schema.faults(&value).is_empty() {
            return Ok((name.clone(), text));
        }
        let mended = schema.mended(renamed.map_or_else(|| value.clone(), Value::Object));
        match mended.ok_or_else(|| schema.why(&value)) {
            Ok(mended) => Ok((name.clone(), mended.to_string())),
            Err(why) => Err(wrong(why)),
        }
    }

    fn no_tool(&self, name: &str) -> String {
        let names: Vec<&str> = self.names.all().iter().take(NAMES_MAX).map(String::as_str).collect();
        format!("there is no tool '{}'; the tools are {}", shortened(name.to_owned()), names.join(", "))
    }
}

/// The levels of a value, without recursion.
fn depth_of(value: &Value) -> usize {
    let (mut deepest, mut open) = (0, vec![(1, value)]);
    while let Some((depth, value)) = open.pop() {
        deepest = deepest.max(depth);
        match value {
            Value::Object(entries) => open.extend(entries.values().map(|value| (depth + 1, value))),
            Value::Array(items) => open.extend(items.iter().map(|value| (depth + 1, value))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool(name: &str, parameters: Value) -> ToolSpec {
        let Value::Object(parameters) = parameters else { panic!("{parameters}") };
        ToolSpec { name: name.to_owned(), description: None, parameters, parameters_at: String::new(), strict: None }
    }

    fn set() -> ToolSet {
        let read = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {
                "file_path": {"type": "string"},
                "limit": {"type": "integer", "minimum": 1},
                "ratio": {"type": "number"},
                "all": {"type": "boolean"},
                "paths": {"type": "array", "items": {"type": "string"}},
                "lines": {"type": "array", "items": {"type": "integer"}},
                "options": {"$ref": "#/definitions/Options"},
                "mode": {"enum": ["fast", "slow"]},
                "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "any": {},
            },
            "required": ["file_path"],
            "additionalProperties": false,
            "definitions": {"Options": {
                "type": "object",
                "properties": {"sort-by": {"type": "string"}, "next": {"$ref": "#/definitions/Options"}},
                "required": ["sort-by"],
            }},
        });
        let edit = json!({"type": "object", "properties": {"oldText": {"type": "string"}, "old_text": {"type": "string"}, "n": {}}});
        let patch = json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]});
        let tools = [tool("read_file", read), tool("now", json!({})), tool("edit", edit), tool("patch", patch)];
        ToolSet::compile(&tools).unwrap()
    }

    fn checked(name: &str, arguments: &str) -> String {
        match set().check(&WrittenCall { name: name.to_owned(), arguments: arguments.to_owned() }) {
            Checked::Valid { name, arguments, .. } => format!("{name}{arguments}"),
            Checked::Invalid { why } => format!("! {why}"),
        }
    }

    fn check(name: &str, arguments: &str, expected: &str) {
        assert_eq!(checked(name, arguments), expected, "{name}{arguments}");
    }

    #[test]
    fn right_calls_stay_as_they_are() {
        check("now", "{}", "now{}");
        check("now", "{\"b\": 1e3,\n \"a\": \"\\u4f60 \\/\"}", "now{\"b\": 1e3,\n \"a\": \"\\u4f60 \\/\"}");
        check("read_file", "{\"limit\": 3, \"file_path\" : \"a\"}", "read_file{\"limit\": 3, \"file_path\" : \"a\"}");
    }

    #[test]
    fn repairs() {
        let read = |arguments: &str, expected: &str| check("read_file", arguments, &format!("read_file{expected}"));
        check("Read-File", r#"{"file_path":"a"}"#, r#"read_file{"file_path":"a"}"#);
        read(r#"{"file_path":"a","limit":"3"}"#, r#"{"file_path":"a","limit":3}"#);
        read(r#"{"file_path":"a","ratio":" 0.5 "}"#, r#"{"file_path":"a","ratio":0.5}"#);
        read(r#"{"file_path":"a","all":"true"}"#, r#"{"file_path":"a","all":true}"#);
        read(r#"{"file_path":"a","paths":"b"}"#, r#"{"file_path":"a","paths":["b"]}"#);
        read(r#"{"file_path":"a","paths":"[\"b\", \"c\"]"}"#, r#"{"file_path":"a","paths":["b","c"]}"#);
        read(r#"{"file_path":"a","lines":"7"}"#, r#"{"file_path":"a","lines":[7]}"#);
        read(r#"{"file_path":"a","options":"{\"sort-by\": \"x\"}"}"#, r#"{"file_path":"a","options":{"sort-by":"x"}}"#);
        read(r#"{"file_path":"a","options":{"sort_by":"x"}}"#, r#"{"file_path":"a","options":{"sort-by":"x"}}"#);
        read(
            r#"{"file_path":"a","options":{"sort-by":"x","next":{"sortBy":"y"}}}"#,
            r#"{"file_path":"a","options":{"sort-by":"x","next":{"sort-by":"y"}}}"#,
        );
        read(r#"{"file_path":"a","either":"3"}"#, r#"{"file_path":"a","either":3}"#);
        read(r#"{"file_path":"a","either":"null"}"#, r#"{"file_path":"a","either":null}"#);
        read(r#"{"filePath":"a","Limit":2}"#, r#"{"file_path":"a","limit":2}"#);
        read(r#"{"file_path":7}"#, r#"{"file_path":"7"}"#);
        read(r#""{\"file_path\": \"a\"}""#, r#"{"file_path": "a"}"#);
        // A text alone is the one argument of a tool that takes a text and nothing else.
        check("patch", r#""*** Begin\n+ 1""#, r#"patch{"input":"*** Begin\n+ 1"}"#);
        check("patch", r#""17""#, r#"patch{"input":"17"}"#);
        check("patch", r#""{\"input\": \"a\"}""#, r#"patch{"input": "a"}"#);
        read(
            r#"{"file_path":"a","limit":null,"options":{"sort-by":"b","next":null}}"#,
            r#"{"file_path":"a","options":{"sort-by":"b"}}"#,
        );
        check("now", r#""""#, "now{}");
        check("edit", r#"{"N": 1}"#, r#"edit{"n":1}"#);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |why: &str| format!("! the arguments of 'read_file' are wrong: {why}");
        check("gone", "{}", "! there is no tool 'gone'; the tools are read_file, now, edit, patch");
        check("read_file", "{}", &wrong("\"file_path\" is a required property"));
        check("read_file", "[]", &wrong("they have to be a JSON object"));
        check("read_file", r#""a.rs""#, &wrong("they are not valid JSON (expected value at line 1 column 1)"));
        check(
            "read_file",
            r#"{"file_path":"a","limit":"three"}"#,
            &wrong("at '/limit', value is not of type \"integer\""),
        );
        check(
            "read_file",
            r#"{"file_path":"a","limit":0}"#,
            &wrong("at '/limit', value is less than the minimum of 1"),
        );
        check(
            "read_file",
            r#"{"file_path":"a","mode":"medium"}"#,
            &wrong("at '/mode', value is not one of \"fast\" or \"slow\""),
        );
        check(
            "read_file",
            r#"{"file_path":"a","other":1}"#,
            &wrong("Additional properties are not allowed ('other' was unexpected)"),
        );
        check("read_file", r#"{"file_path":null}"#, &wrong("at '/file_path', value is not of type \"string\""));
        check("read_file", r#"{"file_path":["a"]}"#, &wrong("at '/file_path', value is not of type \"string\""));
        assert!(checked("read_file", r#"{"filePath":"a","FILE_PATH":"b"}"#).starts_with('!'));
        assert!(checked("read_file", &"[".repeat(10_000)).starts_with('!'));
        assert!(checked("read_file", &"{\"a\":".repeat(10_000)).len() < 600);
        check("edit", r#"{"Old_Text": "x"}"#, r#"edit{"Old_Text": "x"}"#);
    }

    fn fault(schema: Value) -> Option<SchemaFault> {
        ToolSet::compile(&[tool("ok", json!({})), tool("x", schema)]).err().map(|error| {
            assert_eq!((error.place, error.name.as_str()), (1, "x"));
            error.fault
        })
    }

    fn nested(levels: usize) -> Value {
        let around = |inner, _| Value::Object(Map::from_iter([("items".to_owned(), inner)]));
        (0..levels).fold(json!({"type": "string"}), around)
    }

    #[test]
    fn schemas_that_cannot_be_used() {
        let reference = |to: &str| Some(SchemaFault::Reference(to.to_owned()));
        assert!(matches!(fault(json!({"type": "strin"})), Some(SchemaFault::NotASchema(_))));
        assert!(matches!(fault(json!({"properties": []})), Some(SchemaFault::NotASchema(_))));
        assert_eq!(fault(json!({"$ref": "https://example.com/a.json"})), reference("https://example.com/a.json"));
        assert_eq!(fault(json!({"$ref": "file:///etc/passwd"})), reference("file:///etc/passwd"));
        assert_eq!(fault(json!({"$ref": "#/$defs/none"})), reference("#/$defs/none"));
        assert!(matches!(fault(json!({"$ref": "#"})), Some(SchemaFault::Circle(_))));
        let circle = json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}});
        assert!(matches!(fault(circle), Some(SchemaFault::Circle(_))));
        // Dropping such a value takes more stack than a test's thread has.
        let deep = std::thread::Builder::new().stack_size(64 << 20).spawn(|| fault(nested(10_000))).unwrap();
        assert_eq!(deep.join().unwrap(), Some(SchemaFault::TooDeep));
        let maze: Map<String, Value> = (0..30)
            .map(|level| {
                (format!("a{level}"), json!({"anyOf": vec![json!({"$ref": format!("#/$defs/a{}", level + 1)}); 3]}))
            })
            .chain([("a30".to_owned(), json!({"type": "string"}))])
            .collect();
        assert_eq!(fault(json!({"$defs": maze})), Some(SchemaFault::TooDeep));
        assert_eq!(fault(json!({"description": "x".repeat(1_000_000)})), Some(SchemaFault::TooLarge));
        assert!(matches!(fault(json!({"pattern": "(a{1000}){1000}"})), None | Some(SchemaFault::NotASchema(_))));
    }

    #[test]
    fn schemas_as_programs_send_them() {
        for schema in [
            json!({"type": "object"}),
            json!({"type": "object", "properties": {}, "$schema": "https://json-schema.org/draft/2020-12/schema"}),
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"a": {"type": ["string", "null"]}}}),
            json!({"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}, "url": {"format": "uri"}}}),
            json!({"properties": {"a": {"pattern": "^(?=x)[\\p{L}]+$"}, "b": {"pattern": "(?<!a"}, "c": {"format": "unheard-of"}}}),
            json!({"properties": {"tree": {"$ref": "#/$defs/tree"}}, "$defs": {"tree": {"properties": {"down": {"$ref": "#/$defs/tree"}}}}}),
            json!({"properties": {"down": {"$ref": "#"}}}),
            json!({"$schema": "https://example.com/schema", "type": "object"}),
            json!({"$defs": {"a": {"$anchor": "here", "type": "object"}}, "$ref": "#here"}),
            nested(90),
        ] {
            assert_eq!(fault(schema.clone()), None, "{schema}");
        }
    }

    #[test]
    fn long_searches_of_patterns_end() {
        let text = "a".repeat(5_000);
        for pattern in ["^(a+)+$", "^(a+)+(?=b)$", "^(a|aa)+(?!a)b$", "^(a*)*\\1b$", "(a?){400}b(?=c)"] {
            let schema = json!({"properties": {"a": {"pattern": pattern}}});
            let set = ToolSet::compile(&[tool("x", schema)]).unwrap();
            let arguments = json!({"a": text}).to_string();
            let checked = set.check(&WrittenCall { name: "x".to_owned(), arguments });
            if let Checked::Invalid { why } = checked {
                assert!(why.contains("does not match"), "{why}");
            }
        }
    }

    #[test]
    fn arguments_that_would_take_forever_pass_unchecked() {
        let branch = json!({"properties": {"a": {"$ref": "#"}, "n": {"type": "integer"}}});
        let set = ToolSet::compile(&[tool("x", json!({"anyOf": vec![branch; 8]}))]).unwrap();
        let check = |depth: usize| {
            let arguments = format!("{}{{\"n\":\"x\"}}{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            set.check(&WrittenCall { name: "x".to_owned(), arguments })
        };
        assert!(matches!(check(3), Checked::Invalid { .. }));
        assert!(matches!(check(40), Checked::Valid { .. }));
        assert!(matches!(check(100), Checked::Invalid { why } if why.contains("levels")));
    }

    #[test]
    fn keys_tell_sets_apart() {
        let key = |name: &str, parameters: Value| ToolSetKey::of(&[tool(name, parameters)]);
        assert_eq!(key("a", json!({"b": 1, "c": 2})), key("a", json!({"b": 1, "c": 2})));
        assert_ne!(key("a", json!({})), key("b", json!({})));
        assert_ne!(key("a", json!({})), key("a", json!({"b": 1})));
        assert_eq!(set().key(), set().key());
    }
}
