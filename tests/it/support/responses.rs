//! Responses of this server, streamed and whole, read as clients read them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::app::{TestApp, error_of, json_of};

/// The events of a stream, checked by the rules of the official SDKs while they are read.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) all: Vec<Value>,
}

impl Events {
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with("\n\n"), "the last event has no blank line: {text:?}");
        let mut all = Vec::new();
        for event in text.split_terminator("\n\n").filter(|event| !event.starts_with(':')) {
            let (name, data) = event.split_once('\n').unwrap_or_else(|| panic!("{event:?}"));
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{event}");
            assert_eq!(data["sequence_number"], all.len(), "{event}");
            all.push(data);
        }
        let events = Self { all };
        events.check();
        events
    }

    /// Each item begins once, gets its pieces while it is open, ends as the sum of them, and is in the final output.
    pub(crate) fn check(&self) {
        assert_eq!(self.names()[..2], ["response.created", "response.in_progress"]);
        for event in &self.all[..2] {
            assert_eq!(
                (&event["response"]["status"], &event["response"]["output"]),
                (&json!("in_progress"), &json!([]))
            );
            assert_response(&event["response"]);
        }
        let mut open: BTreeMap<u64, (Value, String)> = BTreeMap::new();
        let mut done: Vec<Value> = Vec::new();
        for event in &self.all[2..self.all.len() - 1] {
            let index = event["output_index"].as_u64().unwrap_or_else(|| panic!("{event}"));
            match event["type"].as_str().unwrap() {
                "response.output_item.added" => {
                    let item = event["item"].clone();
                    assert!(item["type"] == "reasoning" || item["status"] == "in_progress", "{event}");
                    assert!(open.insert(index, (item, String::new())).is_none(), "{event}");
                }
                "response.output_item.done" => {
                    let (added, _) = open.remove(&index).unwrap_or_else(|| panic!("{event}"));
                    for key in ["id", "type", "call_id", "name"] {
                        assert_eq!(added[key], event["item"][key], "{event}");
                    }
                    done.push(event["item"].clone());
                }
                name => {
                    let (item, text) = open.get_mut(&index).unwrap_or_else(|| panic!("{event}"));
                    assert_eq!(event["item_id"], item["id"], "{event}");
                    if name.ends_with(".delta") {
                        let delta = event["delta"].as_str().unwrap();
                        assert!(!delta.is_empty(), "{event}");
                        text.push_str(delta);
                    }
                    let whole = ["text", "arguments", "input", "refusal"].iter().find_map(|key| event[*key].as_str());
                    if let Some(whole) = whole.filter(|_| name.ends_with(".done")) {
                        assert_eq!(whole, text, "{event}");
                    }
                    if name.contains("output_text.d") {
                        assert_eq!(event["logprobs"], json!([]), "{event}");
                    }
                }
            }
        }
        let response = self.response();
        assert_response(response);
        let status = response["status"].as_str().unwrap();
        assert_eq!(self.all.last().unwrap()["type"], format!("response.{status}"));
        if status != "failed" {
            assert!(open.is_empty(), "{open:?}");
            assert_eq!(response["output"], json!(done));
        }
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.all.iter().map(|event| event["type"].as_str().unwrap()).collect()
    }

    /// The names, of events in a row with one name the first only.
    pub(crate) fn outline(&self) -> Vec<&str> {
        let mut names = self.names();
        names.dedup();
        names
    }

    /// The response of the last event.
    pub(crate) fn response(&self) -> &Value {
        &self.all.last().unwrap()["response"]
    }
}

/// What OpenAI's schema requires of every response.
pub(crate) fn assert_response(response: &Value) {
    let map = response.as_object().unwrap_or_else(|| panic!("{response}"));
    for key in [
        "id",
        "object",
        "created_at",
        "status",
        "error",
        "incomplete_details",
        "instructions",
        "model",
        "tools",
        "output",
        "parallel_tool_calls",
        "metadata",
        "tool_choice",
        "temperature",
        "top_p",
        "usage",
        "text",
        "reasoning",
        "previous_response_id",
    ] {
        assert!(map.contains_key(key), "no {key}: {response}");
    }
    assert!(response["id"].as_str().unwrap().starts_with("resp_"));
    assert_eq!(response["object"], "response");
    let is_over = response["status"] == "completed" || response["status"] == "incomplete";
    assert_eq!(response["usage"].is_object(), is_over, "{response}");
    if is_over {
        let count =
            |at: &str| response["usage"].pointer(at).unwrap_or_else(|| panic!("{at}: {response}")).as_u64().unwrap();
        assert!(count("/input_tokens") > 0 && count("/output_tokens") > 0);
        assert_eq!(count("/input_tokens") + count("/output_tokens"), count("/total_tokens"));
        count("/input_tokens_details/cached_tokens");
        count("/output_tokens_details/reasoning_tokens");
    }
    let mut ids: Vec<&str> = output(response).iter().map(|item| item["id"].as_str().unwrap()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "ids are unique: {response}");
}

pub(crate) fn output(response: &Value) -> &[Value] {
    response["output"].as_array().unwrap()
}

/// The text of all messages.
pub(crate) fn text(response: &Value) -> String {
    let parts = output(response).iter().filter(|item| item["type"] == "message").flat_map(|item| {
        assert_eq!(item["role"], "assistant");
        item["content"].as_array().unwrap()
    });
    parts.filter_map(|part| part["text"].as_str()).collect()
}

impl TestApp {
    /// A whole response.
    pub(crate) async fn respond(&self, body: &Value) -> Value {
        let response = self.post("/v1/responses", body).send().await.unwrap();
        let status = response.status();
        let body = json_of(response).await;
        assert_eq!(status, 200, "{body}");
        assert_response(&body);
        body
    }

    /// A streamed response, read to its end.
    pub(crate) async fn respond_streamed(&self, body: &Value) -> Events {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let response = self.post("/v1/responses", &body).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, 200, "{text}");
        Events::parse(&text)
    }

    /// The error that a body gets.
    pub(crate) async fn refused(&self, body: &Value) -> (u16, Value) {
        let response = self.post("/v1/responses", body).send().await.unwrap();
        (response.status().as_u16(), error_of(response).await)
    }
}

pub(crate) fn ask(input: impl Into<Value>) -> Value {
    json!({"model": "qwen3-max", "input": input.into()})
}
