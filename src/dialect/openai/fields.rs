//! Reading a caller's JSON field by field, and what may be wrong with it.

use serde_json::{Map, Value};

/// What is wrong with a request. Always the caller's fault, and nothing has reached the upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// The field, as `messages[0].content[1].type`; `None` for the body as a whole.
    pub param: Option<String>,
    /// What kind of fault.
    pub kind: RequestErrorKind,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// Kinds of faults in a request; each has a `code` of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestErrorKind {
    /// The body is no JSON object.
    InvalidBody,
    /// A field that has to be there is not.
    Missing,
    /// A field has a value of the wrong type.
    InvalidType,
    /// A field has a value that makes no sense.
    InvalidValue,
    /// A list has to have something in it.
    EmptyArray,
    /// A parameter cannot be honoured.
    UnsupportedParameter,
    /// A parameter cannot be honoured with this value.
    UnsupportedValue,
    /// No upstream has this model.
    ModelNotFound,
    /// The prompt does not fit.
    TooLong,
    /// A file is damaged, or its encoding is.
    InvalidFile,
    /// A file is of a type that cannot be handed on.
    UnsupportedFile,
    /// A file is too large, in bytes or in pixels.
    FileTooLarge,
    /// A file cannot be had from where the caller said.
    FileUnreachable,
    /// More files than the upstream takes.
    TooManyFiles,
}

impl RequestError {
    pub(crate) fn new(kind: RequestErrorKind, param: &str, message: String) -> Self {
        Self { param: Some(param.to_owned()), kind, message }
    }

    pub(crate) fn not_an_object(found: &str) -> Self {
        let message = format!("The request body has to be a JSON object, but it is {found}.");
        Self { param: None, kind: RequestErrorKind::InvalidBody, message }
    }

    pub(crate) fn missing(param: &str) -> Self {
        Self::new(RequestErrorKind::Missing, param, format!("Missing required parameter: '{param}'."))
    }

    pub(crate) fn invalid_type(param: &str, expected: &str, found: &Value) -> Self {
        let message = format!("Invalid type for '{param}': expected {expected}, but got {}.", type_name(found));
        Self::new(RequestErrorKind::InvalidType, param, message)
    }

    pub(crate) fn invalid_value(param: &str, expected: &str) -> Self {
        Self::new(RequestErrorKind::InvalidValue, param, format!("Invalid value for '{param}': expected {expected}."))
    }

    pub(crate) fn unsupported(param: &str, why: &str) -> Self {
        Self::new(RequestErrorKind::UnsupportedParameter, param, format!("Unsupported parameter: '{param}'. {why}"))
    }

    pub(crate) fn unsupported_value(param: &str, why: &str) -> Self {
        Self::new(RequestErrorKind::UnsupportedValue, param, format!("Unsupported value: '{param}'. {why}"))
    }
}

/// Reads fields of a JSON object; null always means absent.
pub(crate) struct Fields<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, RequestError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(RequestError::invalid_type(name, "a string", other)),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, RequestError> {
        self.flag_in("", name)
    }

    pub(crate) fn flag_in(&self, parent: &str, name: &str) -> Result<Option<bool>, RequestError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(RequestError::invalid_type(&path(parent, name), "a boolean", other)),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, RequestError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields(map))),
            Some(other) => Err(RequestError::invalid_type(name, "an object", other)),
        }
    }

    pub(crate) fn count(&self, name: &str, min: u32) -> Result<Option<u32>, RequestError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let Some(number) = integer(value) else {
            return Err(RequestError::invalid_type(name, "an integer", value));
        };
        match u32::try_from(number) {
            Ok(number) if number >= min => Ok(Some(number)),
            _ if number > 0 => Ok(Some(u32::MAX)),
            _ => Err(RequestError::invalid_value(name, &format!("an integer of at least {min}"))),
        }
    }
}

/// An integer, also when a client wrote it as `1.0`.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "whole and within range by the check before it")]
    value.as_i64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i64))
}

pub(crate) fn path(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
