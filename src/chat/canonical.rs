//! JSON in one spelling: equal values have equal text. For hashes, not for the wire.

use serde_json::Value;

/// The arguments of a call in canonical form. Text that is not JSON is unchanged; empty text is `{}`.
pub(crate) fn arguments_text(arguments: &str) -> String {
    match arguments.trim() {
        "" => "{}".to_owned(),
        text => serde_json::from_str::<Value>(text).map_or_else(|_| text.to_owned(), |value| canonical_text(&value)),
    }
}

/// A value in canonical form: sorted keys, no white space, whole numbers as such.
pub(crate) fn canonical_text(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    text
}

/// Appends a value in canonical form.
pub(crate) fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(list) => {
            out.push('[');
            for entry in list {
                canonical(entry, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (key, value) in entries {
                canonical(&Value::from(key.as_str()), out);
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Number(number) => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < WHOLE_MAX);
            match whole {
                #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
                Some(float) => out.push_str(&(float as i64).to_string()),
                None => out.push_str(&number.to_string()),
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

/// 2^53: whole numbers below it are exact in every JSON library.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
