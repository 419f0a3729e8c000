//! A small correct client for the simulator's own tests.

use std::time::Duration;

use http::Method;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::Simulator;
use crate::record::{EndedHow, RecordedRequest};
use crate::script::{AccountScript, Endpoint, Era, Scenario, ScriptedReply};

/// HTTP client with the cookie and the Bearer token of one account.
pub(crate) struct Caller<'a> {
    pub(crate) simulator: &'a Simulator,
    pub(crate) name: String,
    pub(crate) cookie: String,
    pub(crate) bearer: Option<String>,
    http: Client,
}

/// An answer, read to its end.
pub(crate) struct Read {
    pub(crate) status: u16,
    /// `x-actual-status-code` of the answer; 0 if it has none.
    pub(crate) effective: u16,
    pub(crate) content_type: String,
    pub(crate) set_cookies: Vec<String>,
    pub(crate) text: String,
}

impl Read {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub(crate) fn data(&self) -> Value {
        let json = self.json();
        assert_eq!(json["success"], true, "{json}");
        json["data"].clone()
    }

    /// Code of an error envelope.
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        assert_eq!(json["success"], false, "{json}");
        json["data"]["code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn details(&self) -> String {
        self.json()["data"]["details"].as_str().unwrap().to_owned()
    }
}

/// Two accounts, no waits.
pub(crate) async fn start() -> Simulator {
    let accounts = [AccountScript::new("ada", Era::A), AccountScript::new("bob", Era::B)];
    Simulator::start(Scenario::with_accounts(accounts)).await.unwrap()
}

impl<'a> Caller<'a> {
    /// With everything that a browser of this account would send.
    pub(crate) fn new(simulator: &'a Simulator, name: &str) -> Self {
        Self {
            simulator,
            name: name.to_owned(),
            cookie: simulator.accounts().cookie(name),
            bearer: Some(simulator.accounts().bearer(name)),
            http: Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap(),
        }
    }

    /// A request to the chat host without any credential or header.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        let url = self.simulator.urls().web.join(path).unwrap();
        self.http.request(method, url)
    }

    /// A request to the chat host as a browser sends it.
    pub(crate) fn polite(&self, method: Method, path: &str) -> RequestBuilder {
        self.dressed(self.bare(method, path))
            .header("sec-fetch-dest", "empty")
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-site", "same-origin")
    }

    /// A request to the auth host as a browser sends it, without Bearer.
    pub(crate) fn to_auth(&self, path: &str) -> RequestBuilder {
        let url = self.simulator.urls().auth.join(path).unwrap();
        let request = self.http.get(url).header("cookie", &self.cookie);
        headers(request).header("x-request-origin", "https://chat.qwen.ai")
    }

    fn dressed(&self, request: RequestBuilder) -> RequestBuilder {
        let mut request = headers(request);
        if !self.cookie.is_empty() {
            request = request.header("cookie", &self.cookie);
        }
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        request
    }

    pub(crate) async fn get(&self, path: &str) -> Read {
        read(self.polite(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Read {
        read(self.polite(Method::DELETE, path).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Read {
        let request = self.polite(Method::POST, path).header("content-type", "application/json");
        read(request.body(body.to_string()).send().await.unwrap()).await
    }

    /// A new chat's id.
    pub(crate) async fn chat(&self) -> String {
        self.chat_for("t2t").await
    }

    /// The id of a new chat of this type.
    pub(crate) async fn chat_for(&self, chat_type: &str) -> String {
        let body = json!({
            "title": "New Chat", "models": ["qwen3-max"], "chat_mode": "normal", "chat_type": chat_type,
            "timestamp": 1_790_000_000_000_u64, "project_id": "",
        });
        let read = self.post("/api/v2/chats/new", &body).await;
        read.data()["id"].as_str().unwrap().to_owned()
    }

    /// A completion as the site sends it, ready to go.
    pub(crate) fn completion(&self, chat: &str, body: &Value) -> RequestBuilder {
        let path = format!("/api/v2/chat/completions?chat_id={chat}");
        self.polite(Method::POST, &path)
            .header("content-type", "application/json")
            .header("version", "0.3.12")
            .header("x-accel-buffering", "no")
            .body(body.to_string())
    }

    pub(crate) async fn complete(&self, chat: &str, body: &Value) -> Read {
        read(self.completion(chat, body).send().await.unwrap()).await
    }

    /// One question in a new chat.
    pub(crate) async fn ask(&self, prompt: &str) -> Read {
        let chat = self.chat().await;
        self.complete(&chat, &question(&chat, prompt)).await
    }

    /// Asks once with this reply scripted.
    pub(crate) async fn ask_scripted(&self, reply: ScriptedReply) -> Read {
        let account = Some(self.name.as_str());
        self.simulator.script().queue(account, Endpoint::Completions, reply);
        self.ask("hello").await
    }

    /// A wish for a picture or a video in a new chat.
    pub(crate) async fn wish(&self, chat_type: &str, prompt: &str, files: Value) -> Read {
        let chat = self.chat_for(chat_type).await;
        self.complete(&chat, &media_question(&chat, chat_type, prompt, files)).await
    }

    /// The record of the last completion, once its answer is over.
    pub(crate) async fn last_completion(&self) -> RecordedRequest {
        let last = self.simulator.record().requests_to(Endpoint::Completions);
        let number = last.last().unwrap().number;
        let is_over = |request: &RecordedRequest| request.number == number && request.ended.is_some();
        self.simulator.record().wait_until(is_over, SOON).await.unwrap()
    }

    pub(crate) async fn last_end(&self) -> EndedHow {
        self.last_completion().await.ended.unwrap().how
    }
}

fn headers(request: RequestBuilder) -> RequestBuilder {
    request
        .header("accept", "application/json")
        .header("accept-language", "en-US,en;q=0.9")
        .header("user-agent", "Mozilla/5.0 (simulated)")
        .header("referer", "https://chat.qwen.ai/")
        .header("origin", "https://chat.qwen.ai")
        .header("source", "web")
        .header("timezone", "Sat Nov 21 2026 10:00:00 GMT+0000")
        .header("x-request-id", "7d1f1a52-33c0-4c6c-9a57-0d5f3f6f2a10")
}

/// The newest body of the site, for a text question without thinking.
pub(crate) fn question(chat: &str, prompt: &str) -> Value {
    json!({
        "stream": true, "version": "2.1", "incremental_output": true, "chatId": chat, "chat_id": chat,
        "parentId": "", "parent_id": null, "chat_mode": "normal", "model": "qwen3-max",
        "messages": [{
            "id": null, "fid": "0c7e1b11-93f8-4f0f-9a70-1d9d3a1f9b6f", "parentId": null, "parent_id": null,
            "childrenIds": ["6e5a3a5e-8a7e-4b67-a1b6-7f0b9a3f1c2d"], "role": "user", "content": prompt,
            "user_action": "chat", "files": [], "timestamp": 1_790_000_000, "models": ["qwen3-max"],
            "model": "", "chat_type": "t2t", "sub_chat_type": "t2t",
            "feature_config": {
                "thinking_enabled": false, "output_schema": "phase", "research_mode": "normal",
                "auto_thinking": false, "thinking_mode": "Fast", "auto_search": true,
            },
            "extra": { "meta": { "subChatType": "t2t" } },
        }],
        "timestamp": 1_790_000_000,
    })
}

/// A question with thinking.
pub(crate) fn deep_question(chat: &str, prompt: &str) -> Value {
    let mut body = question(chat, prompt);
    let features = &mut body["messages"][0]["feature_config"];
    features["thinking_enabled"] = json!(true);
    features["thinking_mode"] = json!("Thinking");
    features["thinking_format"] = json!("summary");
    body
}

/// A question that searches.
pub(crate) fn search_question(chat: &str, prompt: &str) -> Value {
    let mut body = deep_question(chat, prompt);
    let message = &mut body["messages"][0];
    message["chat_type"] = json!("search");
    message["sub_chat_type"] = json!("search");
    message["extra"]["meta"]["subChatType"] = json!("search");
    body
}

/// A wish for a picture or a video, 16:9.
pub(crate) fn media_question(chat: &str, chat_type: &str, prompt: &str, files: Value) -> Value {
    let mut body = question(chat, prompt);
    body["stream"] = json!(!chat_type.ends_with("2v"));
    body["size"] = json!("16:9");
    let message = &mut body["messages"][0];
    message["chat_type"] = json!(chat_type);
    message["sub_chat_type"] = json!(chat_type);
    message["extra"]["meta"] = json!({ "subChatType": chat_type, "size": "16:9" });
    message["files"] = files;
    body
}

pub(crate) async fn read(mut response: Response) -> Read {
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    let cookies = response.headers().get_all("set-cookie").iter();
    let mut read = Read {
        status: response.status().as_u16(),
        effective: header("x-actual-status-code").parse().unwrap_or_default(),
        content_type: header("content-type"),
        set_cookies: cookies.map(|value| value.to_str().unwrap().to_owned()).collect(),
        text: String::new(),
    };
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(_) => {
                bytes.extend_from_slice(TORN.as_bytes());
                break;
            }
        }
    }
    read.text = String::from_utf8_lossy(&bytes).into_owned();
    read
}

/// The frames of a stream that were JSON.
pub(crate) fn frames(text: &str) -> Vec<Value> {
    text.split("\n\n").filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok()).collect()
}

/// The answer with index "0" as a client would show it.
pub(crate) fn answer_of(text: &str) -> String {
    let frames = frames(text);
    let first = &frames[0]["response.created"]["response_id"];
    frames
        .iter()
        .filter(|frame| frame["response_id"] == *first)
        .map(|frame| &frame["choices"][0]["delta"])
        .filter(|delta| delta["phase"] == "answer")
        .map(|delta| delta["content"].as_str().unwrap())
        .collect()
}

/// Stands at the end of a text whose connection broke.
pub(crate) const TORN: &str = "\u{2702}";

/// Far longer than anything here takes, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
