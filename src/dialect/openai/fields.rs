//! Reading a caller's JSON field by field.

use serde_json::{Map, Value};

use crate::chat::error::{RequestError, path};

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
