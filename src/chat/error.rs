//! Faults of a caller's request, for every dialect.

use serde_json::Value;

/// A fault of a request: the caller's, found before anything was sent upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// The field, as `messages[0].content[1].type`; `None` for the body as a whole.
    pub param: Option<String>,
    /// The kind of fault, from which `code` and status follow.
    pub kind: RequestErrorKind,
    /// The fault and its remedy, for the caller.
    pub message: String,
}

/// Kinds of faults in a request; each has a `code` of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestErrorKind {
    /// The body is not a JSON object.
    InvalidBody,
    /// A required field is missing.
    Missing,
    /// A field has a value of the wrong type.
    InvalidType,
    /// A field has a value that makes no sense.
    InvalidValue,
    /// A list that needs at least one entry is empty.
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

/// The path of a field below `parent`, as `messages[0].content`.
pub(crate) fn path(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// The JSON type of a value, as an error message names it.
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
