//! `POST /v1/embeddings`: the body goes up nearly as it came, and the vectors come down as they are.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::chat::error::{RequestError, RequestErrorKind, type_name};
use crate::chat::reply::ReplyError;
use crate::dialect::openai::fields::{Fields, integer};

/// Asked for in place of nothing.
pub(crate) const EMBEDDING_MODEL: &str = "text-embedding-v4";

/// A request whose own words are in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EmbeddingsRequest {
    /// The model as asked; `None` for the default.
    pub model: Option<String>,
    /// Whether the vectors are to come as base64 of 32-bit numbers, lowest byte first.
    is_base64: bool,
    body: Map<String, Value>,
}

impl EmbeddingsRequest {
    /// Reads the body of `POST /v1/embeddings`.
    ///
    /// # Errors
    /// The first fault found, by the field that has it.
    pub(crate) fn parse(body: Value) -> Result<Self, RequestError> {
        let mut body = match body {
            Value::Object(body) => body,
            other => return Err(RequestError::not_an_object(type_name(&other))),
        };
        // Null means absent everywhere, and some upstreams refuse it.
        body.retain(|_, value| !value.is_null());
        let fields = Fields(&body);
        check_input(&fields)?;
        let model = fields.text("model")?.map(|model| model.trim().to_owned());
        if model.as_ref().is_some_and(String::is_empty) {
            return Err(RequestError::invalid_value("model", "the name of a model, or none at all for the default"));
        }
        let is_base64 = match fields.text("encoding_format")? {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(RequestError::invalid_value("encoding_format", "'float' or 'base64'")),
        };
        if let Some(dimensions) = fields.get("dimensions") {
            match integer(dimensions) {
                Some(1..) => {}
                Some(_) => return Err(RequestError::invalid_value("dimensions", "an integer of at least 1")),
                None => return Err(RequestError::invalid_type("dimensions", "an integer", dimensions)),
            }
        }
        fields.text("user")?;
        // Not every upstream knows base64, though SDKs ask for it unless told otherwise; that form is made here.
        body.shift_remove("encoding_format");
        Ok(Self { model, is_base64, body })
    }

    /// The body for the upstream, under the name that the upstream has for the model.
    #[must_use]
    pub(crate) fn encode(&self, upstream_model: &str) -> Vec<u8> {
        let mut body = self.body.clone();
        body.insert("model".to_owned(), upstream_model.into());
        Value::Object(body).to_string().into_bytes()
    }

    /// The upstream's answer for the caller: its numbers digit by digit, under the model's name as it was asked for.
    ///
    /// # Errors
    /// [`ReplyError::Json`]: it is not a list of vectors.
    pub(crate) fn answer(&self, body: &[u8]) -> Result<Vec<u8>, ReplyError> {
        let mut answer: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).map_err(|_| ReplyError::Json)?;
        let data = answer.get("data").filter(|data| data.get().starts_with('[')).ok_or(ReplyError::Json)?;
        if self.is_base64 {
            let mut entries: Vec<Value> = serde_json::from_str(data.get()).map_err(|_| ReplyError::Json)?;
            for vector in entries.iter_mut().filter_map(|entry| entry.get_mut("embedding")) {
                if let Value::Array(numbers) = vector {
                    *vector = Value::String(base64(numbers).ok_or(ReplyError::Json)?);
                }
            }
            answer.insert("data".to_owned(), to_raw_value(&entries).map_err(|_| ReplyError::Json)?);
        }
        if let Some(model) = &self.model {
            answer.insert("model".to_owned(), to_raw_value(model).map_err(|_| ReplyError::Json)?);
        }
        serde_json::to_vec(&answer).map_err(|_| ReplyError::Json)
    }
}

/// Numbers as base64; `None` if one of them is not a number.
fn base64(numbers: &[Value]) -> Option<String> {
    let mut bytes = Vec::with_capacity(numbers.len() * 4);
    for number in numbers {
        #[expect(clippy::cast_possible_truncation, reason = "the precision that this form has")]
        let number = number.as_f64()? as f32;
        bytes.extend(number.to_le_bytes());
    }
    Some(STANDARD.encode(bytes))
}

fn check_input(fields: &Fields<'_>) -> Result<(), RequestError> {
    let check = |at: &str, text: &str| match text.is_empty() {
        true => Err(RequestError::invalid_value(at, "a text that is not empty")),
        false => Ok(()),
    };
    let list = match fields.get("input") {
        None => return Err(RequestError::missing("input")),
        Some(Value::String(text)) => return check("input", text),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(RequestError::invalid_type("input", "a string or an array of strings", other)),
    };
    if list.is_empty() {
        let message = "'input' is empty: expected at least one text.".to_owned();
        return Err(RequestError::new(RequestErrorKind::EmptyArray, "input", message));
    }
    for (place, entry) in list.iter().enumerate() {
        let at = format!("input[{place}]");
        match entry {
            Value::String(text) => check(&at, text)?,
            Value::Number(_) | Value::Array(_) => {
                let why = "Token ids are those of another tokenizer; send text.";
                return Err(RequestError::unsupported_value("input", why));
            }
            other => return Err(RequestError::invalid_type(&at, "a string", other)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_keep_their_digits() {
        let body = br#"{"object":"list","data":[{"index":0,"embedding":[0.10000000000000000001,-2]}],"model":"m"}"#;
        let answer = |request: Value| {
            let request = EmbeddingsRequest::parse(request).unwrap();
            request.answer(body).map(|answer| String::from_utf8(answer).unwrap())
        };
        let kept = answer(json!({"input": "x", "model": "key/m"})).unwrap();
        assert!(kept.contains("[0.10000000000000000001,-2]") && kept.contains("\"model\":\"key/m\""), "{kept}");
        assert!(answer(json!({"input": "x"})).unwrap().contains("\"model\":\"m\""));
        let encoded = answer(json!({"input": "x", "encoding_format": "base64"})).unwrap();
        let expected = STANDARD.encode([0.1_f32.to_le_bytes(), (-2_f32).to_le_bytes()].concat());
        assert!(encoded.contains(&expected), "{encoded}");
        let request = EmbeddingsRequest::parse(json!({"input": "x", "encoding_format": "base64"})).unwrap();
        for odd in ["", "[]", "{}", r#"{"data":{}}"#, r#"{"data":[{"embedding":["x"]}]}"#] {
            assert_eq!(request.answer(odd.as_bytes()), Err(ReplyError::Json), "{odd}");
        }
    }
}
