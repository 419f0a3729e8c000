//! Stage: an answer that has to be JSON.
//!
//! Nothing goes out before the answer is complete and known to be JSON of the wanted form. A code fence and prose
//! around it are left out; the JSON itself goes out as the model wrote it, with its keys in their order.

use std::sync::Arc;

use serde_json::Value;

use crate::chat::conversation::OutputFormat;
use crate::chat::error::RequestError;
use crate::chat::reply::{RejectedAs, Rejection};
use crate::chat::tools::schema::{BadPatterns, SCHEMA_BYTES_MAX, Schema, SchemaFault, schema_of};

/// The largest answer that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest description of a fault that the model is told, in characters.
const WHY_CHARS_MAX: usize = 300;

/// The JSON that an answer has to be. Compiled once for a request, shared by its attempts.
#[derive(Clone)]
pub struct JsonForm {
    /// The root has to be an object.
    is_object: bool,
    schema: Option<Arc<Schema>>,
}

impl std::fmt::Debug for JsonForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonForm").field("is_object", &self.is_object).finish_non_exhaustive()
    }
}

impl JsonForm {
    /// The form that a request asks for; `None` for any text.
    ///
    /// # Errors
    /// The caller's schema is not a JSON Schema, or refers to another document.
    pub fn of(format: &OutputFormat) -> Result<Option<Self>, RequestError> {
        match format {
            OutputFormat::Text => Ok(None),
            OutputFormat::JsonObject => Ok(Some(Self { is_object: true, schema: None })),
            OutputFormat::JsonSchema { schema, at, .. } => {
                let unusable = |why: &str| {
                    let expected = format!("a JSON Schema that can be used; its parts {}", cut(why));
                    RequestError::invalid_value(at, &expected)
                };
                let schema = match schema {
                    Value::Object(schema) => schema_of(schema, &mut { SCHEMA_BYTES_MAX }, BadPatterns::Refused),
                    Value::Bool(true) => Ok(None),
                    _ => Err(SchemaFault::NotASchema("a schema is an object".to_owned())),
                };
                let schema = schema.map_err(|fault| unusable(&fault.to_string()))?;
                Ok(Some(Self { is_object: false, schema: schema.map(Arc::new) }))
            }
        }
    }

    /// The reason why a value does not have this form, in words for the model.
    fn fault(&self, value: &Value) -> Option<String> {
        if self.is_object && !value.is_object() {
            return Some("the answer has to be a JSON object".to_owned());
        }
        // A check that would take too long counts as passed, as with the arguments of tools.
        let schema = self.schema.as_ref().filter(|schema| schema.can_check(value))?;
        let why = schema.why(value);
        (!why.is_empty()).then(|| cut(&why))
    }
}

/// Keeps an answer until it is known to be JSON.
#[derive(Debug)]
pub(crate) struct JsonText {
    form: JsonForm,
    text: String,
    is_too_long: bool,
}

impl JsonText {
    /// The stage of an answer that begins.
    #[must_use]
    pub(crate) fn new(form: JsonForm) -> Self {
        Self { form, text: String::new(), is_too_long: false }
    }

    /// Takes the next piece of text.
    pub(crate) fn push(&mut self, piece: &str) {
        if self.text.len() + piece.len() > TEXT_BYTES_MAX {
            self.is_too_long = true;
        } else {
            self.text.push_str(piece);
        }
    }

    /// The JSON of the complete answer, as the model wrote it.
    ///
    /// # Errors
    /// [`Rejection`]: the fault of the answer.
    pub(crate) fn judge(&self) -> Result<&str, Rejection> {
        let rejection = |why: String| Rejection { kind: RejectedAs::StructuredOutput, why, text: self.text.clone() };
        if self.is_too_long {
            return Err(rejection("the answer is too long".to_owned()));
        }
        let mut fault = None;
        for json in candidates(&self.text) {
            let Ok(value) = serde_json::from_str::<Value>(json) else { continue };
            match self.form.fault(&value) {
                None => return Ok(json),
                Some(why) => fault = fault.or(Some(why)),
            }
        }
        Err(rejection(fault.unwrap_or_else(|| "the answer is not valid JSON".to_owned())))
    }
}

/// The places of a text that may be the JSON, most likely first: all of it, the inside of a fence, and the first value
/// that begins with a bracket.
fn candidates(text: &str) -> impl Iterator<Item = &str> {
    let whole = text.trim();
    let fenced = whole.split_once("```").and_then(|(_, rest)| {
        let (_, inside) = rest.split_once('\n')?;
        Some(inside.rsplit_once("```").map_or(inside, |(inside, _)| inside).trim())
    });
    let bracketed = whole.find(['{', '[']).and_then(|start| {
        let rest = whole.get(start..)?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
        values.next()?.ok()?;
        rest.get(..values.byte_offset())
    });
    [Some(whole), fenced, bracketed].into_iter().flatten()
}

fn cut(text: &str) -> String {
    text.chars().take(WHY_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(format: &OutputFormat, text: &str) -> Result<String, String> {
        let mut stage = JsonText::new(JsonForm::of(format).unwrap().unwrap());
        for piece in text.as_bytes().chunks(3).map(|piece| str::from_utf8(piece).unwrap()) {
            stage.push(piece);
        }
        stage.judge().map(str::to_owned).map_err(|rejection| rejection.why)
    }

    #[test]
    fn what_is_taken_out_of_an_answer() {
        let object = OutputFormat::JsonObject;
        let ok = |text: &str, expected: &str| assert_eq!(judged(&object, text), Ok(expected.to_owned()), "{text}");
        ok(r#"{"b": 1, "a": 2}"#, r#"{"b": 1, "a": 2}"#);
        ok("\n {\"a\":[]} \n", "{\"a\":[]}");
        ok("```json\n{\"a\": 1}\n```", "{\"a\": 1}");
        ok("Here it is:\n```\n{\"a\": 1}\n```\nGood luck.", "{\"a\": 1}");
        ok("Sure: {\"a\": {\"b\": \"}\"}} as asked.", "{\"a\": {\"b\": \"}\"}}");
        ok("```json\n{\"a\": 1}", "{\"a\": 1}");
        for bad in ["", "no", "{\"a\": ", "[1]", "5", "\"text\""] {
            assert!(judged(&object, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn schemas() {
        let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
        let of = |schema| OutputFormat::JsonSchema {
            name: "x".to_owned(),
            schema,
            at: "text.format.schema".to_owned(),
            strict: None,
        };
        let format = of(schema);
        assert_eq!(judged(&format, r#"{"n": 5}"#), Ok(r#"{"n": 5}"#.to_owned()));
        let why = judged(&format, r#"{"n": "5"}"#).unwrap_err();
        assert!(why.contains("/n"), "{why}");
        assert!(judged(&format, "{}").is_err());
        let unusable = JsonForm::of(&of(json!({"type": 5}))).unwrap_err();
        assert_eq!(unusable.param.as_deref(), Some("text.format.schema"));
        let mut deep = json!({});
        for _ in 0..150 {
            deep = json!({ "not": deep });
        }
        assert!(JsonForm::of(&of(deep)).is_err());
        let remote = json!({"$ref": "https://example.org/schema.json"});
        assert!(JsonForm::of(&of(remote)).is_err());
    }
}
