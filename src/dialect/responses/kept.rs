//! Kept responses: the items of the input, each with an id, beside the response itself.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The items of a request's `input` as they are kept and listed: with ids, and with content as lists of parts.
/// `response_id` is the id of the response that they belong to.
#[must_use]
pub(crate) fn input_items(input: Option<&Value>, response_id: &str) -> Vec<Value> {
    let id = |kind: &str, place: usize| {
        let digits = response_id.strip_prefix("resp_").unwrap_or(response_id);
        format!("{}_{digits}in{place:02x}", id_prefix(kind))
    };
    match input {
        Some(Value::String(text)) => {
            let content = json!([{"type": "input_text", "text": text}]);
            vec![json!({
                "id": id("message", 0), "type": "message", "status": "completed", "role": "user", "content": content,
            })]
        }
        Some(Value::Array(list)) => {
            let maps = list.iter().filter_map(Value::as_object).enumerate();
            maps.map(|(place, item)| Value::Object(kept_item(item, |kind| id(kind, place)))).collect()
        }
        _ => Vec::new(),
    }
}

/// The items of a kept response: its input, then its output.
#[must_use]
pub(crate) fn items(input: &str, response: &str) -> (Vec<Value>, Vec<Value>) {
    #[derive(Deserialize)]
    struct Answered {
        output: Vec<Value>,
    }
    // Both were written by this server.
    let answered = serde_json::from_str(response).map_or_else(|_| Vec::new(), |answered: Answered| answered.output);
    (serde_json::from_str(input).unwrap_or_default(), answered)
}

fn kept_item(item: &Map<String, Value>, new_id: impl Fn(&str) -> String) -> Map<String, Value> {
    let mut item = item.clone();
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("message").to_owned();
    if !item.get("id").is_some_and(Value::is_string) {
        item.insert("id".to_owned(), new_id(&kind).into());
    }
    if kind == "message" {
        let is_said = item.get("role").is_some_and(|role| role == "assistant");
        if let Some(content) = item.get_mut("content") {
            *content = Value::Array(parts(content.take(), is_said));
        }
    }
    if kind != "reasoning" && !item.get("status").is_some_and(Value::is_string) {
        item.insert("status".to_owned(), "completed".into());
    }
    item.insert("type".to_owned(), kind.into());
    item
}

/// The content of a message as parts, with the keys that clients expect.
fn parts(content: Value, is_said: bool) -> Vec<Value> {
    let text = |text: Value| {
        let kind = if is_said { "output_text" } else { "input_text" };
        json!({"type": kind, "text": text})
    };
    let mut parts = match content {
        Value::Array(parts) => parts,
        other => vec![other],
    };
    for part in &mut parts {
        if part.is_string() {
            *part = text(part.take());
        }
        let Value::Object(map) = part else { continue };
        match map.get("type").and_then(Value::as_str) {
            Some("output_text") => {
                map.entry("annotations").or_insert_with(|| json!([]));
                map.entry("logprobs").or_insert_with(|| json!([]));
            }
            Some("input_image") => {
                map.entry("detail").or_insert_with(|| "auto".into());
            }
            _ => {}
        }
    }
    parts
}

fn id_prefix(kind: &str) -> &'static str {
    match kind {
        "message" => "msg",
        "function_call" => "fc",
        "function_call_output" => "fco",
        "custom_tool_call" => "ctc",
        "custom_tool_call_output" => "ctco",
        "reasoning" => "rs",
        _ => "item",
    }
}

/// The id of the response that an item of an output belongs to; `None` for an id that no response of this server
/// gave out.
#[must_use]
pub(crate) fn response_of_item(item_id: &str) -> Option<String> {
    let (_, digits) = item_id.split_once('_')?;
    let digits = digits.get(..RESPONSE_DIGITS)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| format!("resp_{digits}"))
}

/// The hexadecimal digits in the id of a response.
const RESPONSE_DIGITS: usize = 32;
