//! Values of the upstream's JSON whose type is not certain: read by their meaning, in any spelling.

use std::borrow::Cow;

use memchr::memchr;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::chat::reply::unescape;
use crate::upstream::web::decode::frames::ContentList;

/// A string without its quotes, or a number or flag as it is written.
pub(crate) fn scalar(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    match text.as_bytes() {
        [b'"', inner @ .., b'"'] if inner.contains(&b'\\') => plain(raw).map(Cow::Owned),
        [b'"', .., b'"'] => text.get(1..text.len() - 1).map(Cow::Borrowed),
        [b'{' | b'[', ..] => None,
        _ => Some(Cow::Borrowed(text)),
    }
}

/// Whether a value is this text, a string without escapes.
pub(crate) fn is_text(raw: &RawValue, text: &str) -> bool {
    raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) == Some(text)
}

/// A JSON string as plain text; `None` for any other value. Halves of surrogate pairs at its ends are left out.
pub(crate) fn plain(raw: &RawValue) -> Option<String> {
    raw.get().starts_with('"').then(|| unescaped(raw.get(), &mut None))
}

/// The strings of a list, of `{"content": […]}`, or of one string. An entry that is not a string keeps its place, as an
/// empty one.
pub(crate) fn strings(raw: &RawValue) -> Vec<String> {
    let text = raw.get();
    if text.starts_with('{') {
        let inner = serde_json::from_str::<ContentList<'_>>(text).ok().and_then(|list| list.content);
        return inner.filter(|inner| !inner.get().starts_with('{')).map(strings).unwrap_or_default();
    }
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(list) => list.into_iter().map(|item| plain(item).unwrap_or_default()).collect(),
        Err(_) => plain(raw).into_iter().collect(),
    }
}

/// The text of content in blocks.
pub(crate) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().map(text_of).collect(),
        Value::Object(block) => block.get("text").or_else(|| block.get("content")).map(text_of).unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

/// A count that may be a number of any kind, or a numeric string.
pub(crate) fn count(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().and_then(whole)),
        Value::String(text) => text.trim().parse().ok().or_else(|| text.trim().parse().ok().and_then(whole)),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number.filter(|number| *number < COUNT_MAX)
}

/// A count above this is nonsense; sums of counts below it cannot overflow.
pub(crate) const COUNT_MAX: u64 = 1 << 52;

/// A fraction counts as one more; what is below zero or no number does not count.
pub(crate) fn whole(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not below zero, and it saturates")]
    (number >= 0.0).then_some(number.ceil() as u64)
}

/// Whether a string literal has an escaped surrogate, which may stand alone at its end or beginning.
pub(crate) fn has_surrogate(literal: &str) -> bool {
    memchr(b'\\', literal.as_bytes()).is_some() && (literal.contains("\\ud") || literal.contains("\\uD"))
}

/// Undoes the escapes of a literal whose surrogate pairs may be cut between two pieces.
pub(crate) fn unescaped(literal: &str, half: &mut Option<u16>) -> String {
    let inner = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(literal);
    let mut text = String::with_capacity(inner.len());
    unescape(inner, half, &mut text);
    text
}
