//! Messages of this server, streamed and whole, read as Anthropic's clients read them.

use reqwest::Response;
use serde_json::{Value, json};

use crate::support::app::{TestApp, json_of};

/// A stream, read by the rules of the official SDKs.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// The names of the events, without pings.
    pub(crate) names: Vec<String>,
    pub(crate) pings: usize,
    /// The message as an SDK puts it together.
    pub(crate) message: Value,
    /// The last event of a stream that failed.
    pub(crate) error: Option<Value>,
}

impl Streamed {
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with("\n\n"), "the last event has no blank line: {text:?}");
        let mut read = Self { names: Vec::new(), pings: 0, message: Value::Null, error: None };
        let mut open: Option<(u64, String)> = None;
        for event in text.split_terminator("\n\n") {
            assert!(event.len() < 64 * 1024, "a line of {} bytes", event.len());
            let (name, data) = event.split_once('\n').unwrap_or_else(|| panic!("{event:?}"));
            let name = name.strip_prefix("event: ").unwrap_or_else(|| panic!("{event:?}"));
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(data["type"], name, "{event}");
            if name == "ping" {
                read.pings += 1;
                continue;
            }
            assert!(read.error.is_none() && read.names.last().is_none_or(|last| last != "message_stop"), "{text}");
            read.names.push(name.to_owned());
            let index = data["index"].as_u64();
            match name {
                "message_start" => {
                    read.message = data["message"].clone();
                    assert_eq!(read.names.len(), 1);
                    assert_eq!((&read.message["content"], &read.message["stop_reason"]), (&json!([]), &Value::Null));
                    assert!(read.message["usage"]["input_tokens"].as_u64().unwrap() > 0, "{data}");
                    assert!(read.message["usage"]["output_tokens"].is_u64(), "{data}");
                }
                "content_block_start" => {
                    assert!(open.is_none(), "one block at a time: {text}");
                    let content = read.message["content"].as_array_mut().unwrap();
                    assert_eq!(index, Some(content.len() as u64), "{event}");
                    let block = &data["content_block"];
                    match block["type"].as_str().unwrap() {
                        "text" => assert_eq!(block["text"], "", "{event}"),
                        "thinking" => assert_eq!((&block["thinking"], &block["signature"]), (&json!(""), &json!(""))),
                        "tool_use" => {
                            assert!(block["id"].is_string() && block["name"].is_string(), "{event}");
                            assert_eq!(block["input"], json!({}), "{event}");
                        }
                        _ => {}
                    }
                    content.push(block.clone());
                    open = Some((index.unwrap(), String::new()));
                }
                "content_block_delta" => {
                    let (at, json) = open.as_mut().unwrap_or_else(|| panic!("{event}"));
                    assert_eq!(index, Some(*at), "{event}");
                    let block = read.message["content"].as_array_mut().unwrap().last_mut().unwrap();
                    let delta = &data["delta"];
                    for (kind, key) in
                        [("text_delta", "text"), ("thinking_delta", "thinking"), ("signature_delta", "signature")]
                    {
                        if delta["type"] == kind {
                            let piece = delta[key].as_str().unwrap();
                            assert!(!piece.is_empty(), "{event}");
                            block[key] = format!("{}{piece}", block[key].as_str().unwrap()).into();
                        }
                    }
                    if delta["type"] == "input_json_delta" {
                        json.push_str(delta["partial_json"].as_str().unwrap());
                    }
                }
                "content_block_stop" => {
                    let (at, json) = open.take().unwrap_or_else(|| panic!("{event}"));
                    assert_eq!(index, Some(at), "{event}");
                    if !json.is_empty() {
                        let block = read.message["content"].as_array_mut().unwrap().last_mut().unwrap();
                        block["input"] = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
                    }
                }
                "message_delta" => {
                    assert!(open.is_none(), "{text}");
                    for key in ["stop_reason", "stop_sequence"] {
                        read.message[key] = data["delta"][key].clone();
                    }
                    read.message["usage"] = data["usage"].clone();
                }
                "message_stop" => {}
                "error" => read.error = Some(data["error"].clone()),
                other => panic!("{other}"),
            }
        }
        if read.error.is_none() {
            assert_eq!(read.names.iter().rev().take(2).collect::<Vec<_>>(), ["message_stop", "message_delta"]);
            assert_message(&read.message);
        }
        read
    }

    /// The names, of events in a row with one name the first only.
    pub(crate) fn outline(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        names.dedup();
        names
    }
}

/// What holds for every message.
pub(crate) fn assert_message(message: &Value) {
    assert!(message["id"].as_str().unwrap().starts_with("msg_"), "{message}");
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    let content = message["content"].as_array().unwrap();
    assert!(!content.is_empty(), "{message}");
    for block in content.iter().filter(|block| block["type"] == "thinking") {
        assert!(!block["signature"].as_str().unwrap().is_empty(), "{message}");
    }
    let has_calls = content.iter().any(|block| block["type"] == "tool_use");
    assert_eq!(message["stop_reason"] == "tool_use", has_calls, "{message}");
    assert_eq!(message["stop_sequence"].is_null(), message["stop_reason"] != "stop_sequence", "{message}");
    for key in ["input_tokens", "output_tokens"] {
        assert!(message["usage"][key].as_u64().unwrap() > 0, "{message}");
    }
}

/// The text of a message.
pub(crate) fn text(message: &Value) -> String {
    let blocks = message["content"].as_array().unwrap().iter().filter(|block| block["type"] == "text");
    blocks.map(|block| block["text"].as_str().unwrap()).collect()
}

impl TestApp {
    pub(crate) async fn message(&self, body: &Value) -> Value {
        let response = self.post("/v1/messages", body).send().await.unwrap();
        let status = response.status();
        let message = json_of(response).await;
        assert_eq!(status, 200, "{message}");
        assert_message(&message);
        assert_eq!(message["model"], body["model"]);
        message
    }

    pub(crate) async fn message_streamed(&self, body: &Value) -> Streamed {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let response = self.post("/v1/messages?beta=true", &body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Streamed::parse(&response.text().await.unwrap())
    }

    /// Both ways of answering, which have to say the same.
    pub(crate) async fn both(&self, body: &Value) -> Value {
        let whole = self.message(body).await;
        let streamed = self.message_streamed(body).await.message;
        for key in ["content", "stop_reason", "stop_sequence", "model", "usage"] {
            assert_eq!(without_ids(&streamed[key]), without_ids(&whole[key]), "{key}: {body}");
        }
        whole
    }

    pub(crate) async fn count(&self, body: &Value) -> u64 {
        let response = self.post("/v1/messages/count_tokens", body).send().await.unwrap();
        let status = response.status();
        assert_eq!(response.headers()["x-bridge-usage"], "estimated");
        let counted = json_of(response).await;
        assert_eq!((status.as_u16(), counted.as_object().unwrap().len()), (200, 1), "{counted}");
        counted["input_tokens"].as_u64().unwrap()
    }
}

/// Ids differ from answer to answer.
pub(crate) fn without_ids(value: &Value) -> Value {
    let mut value = value.clone();
    for block in value.as_array_mut().into_iter().flatten() {
        for key in ["id", "tool_use_id"] {
            block.as_object_mut().unwrap().remove(key);
        }
    }
    value
}

/// The error of an answer, after a look at its shape.
pub(crate) async fn error_of(response: Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    let id = response.headers()["request-id"].to_str().unwrap().to_owned();
    assert_eq!(response.headers()["x-request-id"], id);
    let body = json_of(response).await;
    assert_eq!((&body["type"], &body["request_id"]), (&json!("error"), &json!(id)), "{body}");
    assert_eq!((body.as_object().unwrap().len(), body["error"].as_object().unwrap().len()), (3, 2), "{body}");
    let word = |key: &str| body["error"][key].as_str().unwrap().to_owned();
    (status, word("type"), word("message"))
}
