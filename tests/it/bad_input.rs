//! Requests that are wrong: each gets one clear error in OpenAI's shape, and costs nothing upstream.

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::Scenario;

use crate::support::app::{Setup, TestApp, checked_error, content, error_of, json_of, question};
use crate::support::raw::{self, Raw};

/// Fails unless these bytes are refused with 400 and leave the upstream alone. Gives the error.
async fn refused_body(app: &TestApp, body: impl Into<reqwest::Body>, what: &str) -> Value {
    let response = app.post("/v1/chat/completions", &Value::Null).body(body).send().await.unwrap();
    assert_eq!(response.status(), 400, "{what}");
    assert!(!response.headers().contains_key("retry-after"), "{what}");
    let error = error_of(response).await;
    assert_eq!(error["type"], "invalid_request_error", "{what}");
    error
}

/// The same for a good question in which these fields are wrong.
async fn refused(app: &TestApp, fields: &Value, param: &str, code: &str) {
    let mut body = question("x");
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    for stream in [false, true] {
        if body["stream"].is_boolean() || body.get("stream").is_none() {
            body["stream"] = json!(stream);
        }
        let error = refused_body(app, body.to_string(), &fields.to_string()).await;
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{fields}: {error}");
        assert!(error["message"].as_str().unwrap().contains(param), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_json_object() {
    let app = TestApp::quick().await;
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested_message = format!(r#"{{"messages":[{{"role":"user","content":{nested}}}]}}"#);
    let nested_objects = r#"{"a":"#.repeat(100_000);
    for body in [
        &b""[..],
        b" ",
        b"{",
        b"nope",
        b"{\"messages\":",
        b"{'messages':[]}",
        b"{\"messages\":[],}",
        b"[]",
        b"\"text\"",
        b"1",
        b"null",
        b"true",
        b"\xff\xfe",
        b"{\"model\":\"\xff\"}",
        b"\xef\xbb\xbf{}x",
        b"\0",
        b"{} {}",
        b"NaN",
        b"{\"temperature\":1e400,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud83d\"}]}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"\\udd80\\ud83e\"}]}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"\\x\"}]}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"raw \n line\"}]}",
        nested.as_bytes(),
        nested_message.as_bytes(),
        nested_objects.as_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let error = refused_body(&app, body.to_vec(), &shown).await;
        assert_eq!(error["param"], Value::Null, "{shown}");
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn a_body_that_is_not_there() {
    let app = TestApp::quick().await;
    for body in ["", " \r\n\t"] {
        let error = refused_body(&app, body, body).await;
        assert_eq!(error["code"], "invalid_json");
        assert!(error["message"].as_str().unwrap().contains("is empty"), "{error}");
    }
}

#[tokio::test]
async fn wrong_messages() {
    let app = TestApp::quick().await;
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    for (messages, param, code) in [
        (json!(null), "messages", "missing_required_parameter"),
        (json!({}), "messages", "invalid_type"),
        (json!(7), "messages", "invalid_type"),
        (json!("hello"), "messages", "invalid_type"),
        (json!([]), "messages", "empty_array"),
        (json!("[]"), "messages", "empty_array"),
        (json!(["hello"]), "messages[0]", "invalid_type"),
        (json!([null]), "messages[0]", "invalid_type"),
        (json!([{}]), "messages[0].role", "missing_required_parameter"),
        (json!([{"role": null, "content": "x"}]), "messages[0].role", "invalid_type"),
        (json!([{"role": 1, "content": "x"}]), "messages[0].role", "invalid_type"),
        (json!([{"role": "robot", "content": "x"}]), "messages[0].role", "invalid_value"),
        (json!([{"role": "User", "content": "x"}]), "messages[0].role", "invalid_value"),
        (json!([{"role": "user"}]), "messages[0].content", "missing_required_parameter"),
        (json!([{"role": "system"}]), "messages[0].content", "missing_required_parameter"),
        (json!([{"role": "tool", "tool_call_id": "c"}]), "messages[0].content", "missing_required_parameter"),
        (
            json!([{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "c", "content": "r"}]),
            "messages[1].tool_call_id",
            "invalid_value",
        ),
        (user(json!(null)), "messages[0].content", "invalid_type"),
        (user(json!(1)), "messages[0].content", "invalid_type"),
        (user(json!({"type": "text", "text": "x"})), "messages[0].content", "invalid_type"),
        (user(json!([1])), "messages[0].content[0]", "invalid_type"),
        (user(json!([{"text": "x"}])), "messages[0].content[0].type", "missing_required_parameter"),
        (user(json!([{"type": 1}])), "messages[0].content[0].type", "invalid_type"),
        (user(json!([{"type": "poem", "text": "x"}])), "messages[0].content[0].type", "invalid_value"),
        (user(json!([{"type": "text"}])), "messages[0].content[0].text", "missing_required_parameter"),
        (user(json!([{"type": "text", "text": 1}])), "messages[0].content[0].text", "invalid_type"),
        (
            user(json!([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:,"}}])),
            "messages[0].content[1]",
            "invalid_value",
        ),
        (
            user(json!([{"type": "input_audio", "input_audio": {}}])),
            "messages[0].content[0].input_audio.data",
            "missing_required_parameter",
        ),
        (
            user(json!([{"type": "file", "file": {"file_id": "f"}}])),
            "messages[0].content[0].file.file_id",
            "unsupported_parameter",
        ),
        (user(json!([{"type": "video_url"}])), "messages[0].content[0].url", "missing_required_parameter"),
        (user(json!("")), "messages", "invalid_value"),
        (user(json!(" \n")), "messages", "invalid_value"),
        (user(json!([])), "messages", "invalid_value"),
        (
            json!([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": {}}]),
            "messages[1].tool_calls",
            "invalid_type",
        ),
        (
            json!([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{"id": "c"}]}]),
            "messages[1].tool_calls[0].function",
            "missing_required_parameter",
        ),
    ] {
        refused(&app, &json!({"messages": messages}), param, code).await;
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn parameters_that_cannot_be_kept() {
    let app = TestApp::quick().await;
    let tool = json!([{"type": "function", "function": {"name": "f"}}]);
    for (fields, param, code) in [
        (json!({"n": 2}), "n", "unsupported_value"),
        (json!({"n": 128}), "n", "unsupported_value"),
        (json!({"logprobs": true}), "logprobs", "unsupported_parameter"),
        (json!({"top_logprobs": 5}), "top_logprobs", "unsupported_parameter"),
        (json!({"logprobs": true, "top_logprobs": 5}), "logprobs", "unsupported_parameter"),
        (json!({"modalities": ["text", "audio"]}), "modalities", "unsupported_value"),
        (json!({"audio": {"voice": "alloy", "format": "mp3"}}), "audio", "unsupported_parameter"),
        (json!({"tool_choice": "required"}), "tool_choice", "invalid_value"),
        (json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}), "tool_choice", "invalid_value"),
        (json!({"tools": tool, "tool_choice": {"function": {"name": "g"}}}), "tool_choice", "invalid_value"),
        (json!({"function_call": {"name": "f"}}), "function_call", "invalid_value"),
    ] {
        refused(&app, &fields, param, code).await;
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn parameters_that_make_no_sense() {
    let app = TestApp::quick().await;
    for (fields, param, code) in [
        (json!({"model": "  "}), "model", "invalid_value"),
        (json!({"model": 7}), "model", "invalid_type"),
        (json!({"model": ["qwen3-max"]}), "model", "invalid_type"),
        (json!({"stream": "yes"}), "stream", "invalid_type"),
        (json!({"stream": 1}), "stream", "invalid_type"),
        (json!({"stream_options": true}), "stream_options", "invalid_type"),
        (json!({"stream_options": {"include_usage": "yes"}}), "stream_options.include_usage", "invalid_type"),
        (json!({"stop": 1}), "stop", "invalid_type"),
        (json!({"stop": ["a", 1]}), "stop[1]", "invalid_type"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop", "invalid_value"),
        (json!({"max_tokens": 0}), "max_tokens", "invalid_value"),
        (json!({"max_tokens": -5}), "max_tokens", "invalid_value"),
        (json!({"max_tokens": "10"}), "max_tokens", "invalid_type"),
        (json!({"max_tokens": 1.5}), "max_tokens", "invalid_type"),
        (json!({"max_completion_tokens": 0}), "max_completion_tokens", "invalid_value"),
        (json!({"n": 0}), "n", "invalid_value"),
        (json!({"n": -1}), "n", "invalid_value"),
        (json!({"n": "1"}), "n", "invalid_type"),
        (json!({"n": 1.5}), "n", "invalid_type"),
        (json!({"temperature": "hot"}), "temperature", "invalid_type"),
        (json!({"temperature": 2.1}), "temperature", "invalid_value"),
        (json!({"temperature": -0.1}), "temperature", "invalid_value"),
        (json!({"top_p": 1.1}), "top_p", "invalid_value"),
        (json!({"presence_penalty": 2.5}), "presence_penalty", "invalid_value"),
        (json!({"frequency_penalty": -2.5}), "frequency_penalty", "invalid_value"),
        (json!({"seed": "lucky"}), "seed", "invalid_type"),
        (json!({"logit_bias": []}), "logit_bias", "invalid_type"),
        (json!({"logprobs": "yes"}), "logprobs", "invalid_type"),
        (json!({"response_format": "json"}), "response_format", "invalid_type"),
        (json!({"response_format": {}}), "response_format.type", "invalid_value"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type", "invalid_value"),
        (json!({"tools": {}}), "tools", "invalid_type"),
        (json!({"functions": "f"}), "functions", "invalid_type"),
        (json!({"modalities": "text"}), "modalities", "invalid_type"),
    ] {
        refused(&app, &fields, param, code).await;
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn a_prompt_that_does_not_fit() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = Setup::default().with("MAX_JSON", "50MB").start(simulator).await;
    // More than the model can read, and more than a file may have.
    for count in [1_000_000, 4_100_000] {
        let mut body = question("x");
        body["messages"] = json!([{"role": "user", "content": "word ".repeat(count)}]);
        for stream in [false, true] {
            body["stream"] = json!(stream);
            let error = refused_body(&app, body.to_string(), "too long").await;
            assert_eq!((&error["param"], &error["code"]), (&json!("messages"), &json!("context_length_exceeded")));
            // LiteLLM knows the case by these words.
            assert!(error["message"].as_str().unwrap().contains("maximum context length"), "{error}");
        }
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn a_long_conversation_that_fits_is_answered() {
    let app = TestApp::quick().await;
    let turn = |n: usize| {
        let role = if n.is_multiple_of(2) { "user" } else { "assistant" };
        json!({"role": role, "content": format!("turn {n} {}", "x".repeat(200))})
    };
    let messages: Vec<Value> = (0..301).map(turn).collect();
    assert_eq!(app.chat(&json!({"messages": messages})).await.status(), 200);
    let asked = app.asked();
    assert!(asked.prompt().contains("turn 0 ") && asked.prompt().contains("turn 300 "));
    app.assert_clean();
}

#[tokio::test]
async fn content_types() {
    let app = TestApp::quick().await;
    let ask = async |content_type: Option<&str>| {
        let mut request = app.client.post(app.url("/v1/chat/completions")).bearer_auth(crate::support::app::KEY);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        request.body(question("echo: x").to_string()).send().await.unwrap()
    };
    for content_type in [
        None,
        Some("application/json"),
        Some("application/json; charset=utf-8"),
        Some("application/json;charset=UTF-8"),
        Some("Application/JSON"),
        Some("text/json"),
        Some("application/vnd.api+json"),
    ] {
        assert_eq!(ask(content_type).await.status(), 200, "{content_type:?}");
    }
    let turns = app.turns();
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/octet-stream",
        "json",
    ] {
        let response = ask(Some(content_type)).await;
        assert_eq!(response.status(), 415, "{content_type}");
        let error = error_of(response).await;
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!((&error["code"], &error["param"]), (&json!("unsupported_media_type"), &Value::Null));
    }
    assert_eq!(app.turns(), turns);
}

#[tokio::test]
async fn paths_that_do_not_exist() {
    let app = TestApp::quick().await;
    for (path, hint) in [
        ("/health/", "slash"),
        ("/api/v1/chat/completions", "'/v1/chat/completions'"),
        ("/V1/Chat/Completions", "'/v1/chat/completions'"),
        ("/v1/chat/completion", "'/v1/chat/completions'"),
        ("/v1/chat/completions/now", ""),
        ("/v1", "base URL of OpenAI's clients"),
        ("/v1/", "slash"),
        ("/v1/", "base URL of OpenAI's clients"),
        ("//v1//", "base URL of OpenAI's clients"),
        ("/v1/audio/speech", ""),
        ("/.env", ""),
        ("/v1/%00%0a", ""),
    ] {
        for method in [reqwest::Method::GET, reqwest::Method::POST, reqwest::Method::DELETE] {
            let request = app.client.request(method.clone(), app.url(path)).bearer_auth(crate::support::app::KEY);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 404, "{method} {path}");
            let error = error_of(response).await;
            assert_eq!(error["type"], "invalid_request_error");
            assert_eq!((&error["code"], &error["param"]), (&json!("unknown_url"), &Value::Null), "{path}");
            assert!(error["message"].as_str().unwrap().contains(hint), "{path}: {error}");
        }
    }
    assert_eq!(app.turns(), 0);
}

/// What is left when a client joins its base URL and the endpoint in another way than it was meant.
#[tokio::test]
async fn paths_whose_meaning_is_certain_are_served() {
    let app = TestApp::quick().await;
    for path in [
        "/v1//chat/completions",
        "//v1/chat/completions",
        "/chat/completions",
        "/v1/v1/chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions/chat/completions",
        "/v1/chat/completions/v1/chat/completions",
        "/v1/chat/completions%20",
    ] {
        let response = app.post(path, &question("echo: here")).send().await.unwrap();
        assert_eq!(content(&json_of(response).await), "here", "{path}");
        // The key and the limits are those of the path that is meant.
        let response = app.client.post(app.url(path)).body("{}").send().await.unwrap();
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(app.get(path).send().await.unwrap().status(), 405, "{path}");
    }
    for path in ["/models", "/v1/models/", "/v1/chat/completions/models", "/v1//models"] {
        let list = json_of(app.get(path).send().await.unwrap()).await;
        assert_eq!(list["object"], "list", "{path}: {list}");
    }
    let response = app.client.post(app.url("/messages")).body("{}").send().await.unwrap();
    assert_eq!(json_of(response).await["type"], "error", "the dialect is that of the path that is meant");
    for path in ["//admin/health", "/admin//accounts"] {
        let response = app.get(path).send().await.unwrap();
        assert_eq!(response.status(), 503, "{path} needs the owner's key");
    }
}

#[tokio::test]
async fn bodies_with_a_byte_order_mark_or_in_utf16_are_read() {
    let app = TestApp::quick().await;
    let json = question("echo: 字😀é").to_string();
    let marked = format!("\u{feff}{json}");
    let utf16 = |text: &str, write: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(write).collect::<Vec<u8>>();
    for body in [
        marked.clone().into_bytes(),
        utf16(&marked, u16::to_le_bytes),
        utf16(&marked, u16::to_be_bytes),
        utf16(&json, u16::to_le_bytes),
        utf16(&json, u16::to_be_bytes),
    ] {
        let response = app.post("/v1/chat/completions", &Value::Null).body(body).send().await.unwrap();
        assert_eq!(content(&json_of(response).await), "字😀é");
    }
    let turns = app.turns();
    let mut cut = utf16(&marked, u16::to_le_bytes);
    cut.pop();
    let error = refused_body(&app, cut, "cut UTF-16").await;
    assert!(error["message"].as_str().unwrap().contains("UTF-16"), "{error}");
    assert_eq!(app.turns(), turns);
}

#[tokio::test]
async fn an_empty_model_is_none() {
    let app = TestApp::quick().await;
    let mut body = question("echo: x");
    body["model"] = json!("");
    let answer = json_of(app.chat(&body).await).await;
    assert_eq!((&answer["model"], content(&answer)), (&json!("qwen3-max"), "x"));
    let body = json!({"model": "", "input": "echo: y"});
    let answer = json_of(app.post("/v1/responses", &body).send().await.unwrap()).await;
    assert_eq!(answer["model"], "qwen3-max", "{answer}");
    let form = reqwest::multipart::Form::new().text("model", "").text("prompt", "waves");
    let response = app.client.post(app.url("/v1/videos")).bearer_auth(crate::support::app::KEY).multipart(form);
    let video = json_of(response.send().await.unwrap()).await;
    assert_eq!(video["object"], "video", "{video}");
}

#[tokio::test]
async fn errors_speak_the_dialect_of_their_path() {
    let app = TestApp::quick().await;
    for path in ["/v1/messages", "/v1/messages/count_tokens", "/v1/messages/"] {
        for (request, status, kind) in [
            (app.client.post(app.url(path)), 401, "authentication_error"),
            (app.post(&format!("{path}/nowhere"), &json!({})), 404, "not_found_error"),
        ] {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers()["content-type"], "application/json");
            let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
            let body = json_of(response).await;
            let message = body["error"]["message"].clone();
            assert!(message.as_str().is_some_and(|message| !message.is_empty()), "{body}");
            let error = json!({"type": kind, "message": message});
            assert_eq!(body, json!({"type": "error", "error": error, "request_id": id}), "{path}");
        }
    }
    // Names that merely begin like it are OpenAI's.
    let response = app.get("/v1/messagesx").send().await.unwrap();
    assert_eq!(error_of(response).await["code"], "unknown_url");
}

#[tokio::test]
async fn methods_that_are_not_for_a_path() {
    let app = TestApp::quick().await;
    for (method, path, allowed) in [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("PATCH", "/v1/chat/completions", "POST"),
        ("PROPFIND", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/qwen3-max", "GET"),
        ("POST", "/health", "GET"),
        ("POST", "/", "GET"),
        ("GET", "/refresh-token", "POST"),
    ] {
        let mut client = Raw::connect(app.address).await;
        client.send(raw::head(&format!("{method} {path}"), &["content-length: 0"])).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 405, "{method} {path}");
        let allow = answer.header("allow").unwrap_or_else(|| panic!("{method} {path}: no Allow"));
        assert!(allow.split(',').any(|allow| allow.trim() == allowed), "{method} {path}: {allow}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let error = checked_error(&answer.json());
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["code"], "method_not_supported");
        let message = error["message"].as_str().unwrap();
        assert!(!message.contains("Did you mean"), "{method} {path}: {message}");
    }
    // A base URL without its endpoint.
    let response = app.post("/", &question("x")).send().await.unwrap();
    assert!(error_of(response).await["message"].as_str().unwrap().contains("'/v1/chat/completions'"));
    // Base URLs that name the list of models, or another endpoint with ids.
    for (path, meant) in [
        ("/v1/models/chat/completions", "/v1/chat/completions"),
        ("/models/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/models/messages", "/v1/messages"),
        ("/v1/models/images/generations", "/v1/images/generations"),
    ] {
        let response = app.post(path, &question("x")).send().await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        let message = error_of(response).await["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&format!("Did you mean '{meant}'?")), "{path}: {message}");
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn head_and_options_anywhere_are_harmless() {
    let app = TestApp::quick().await;
    for (path, status) in [
        ("/", 200),
        ("/health", 200),
        ("/v1/models", 200),
        ("/v1/models/qwen3-max", 200),
        ("/v1/chat/completions", 405),
        ("/refresh-token", 405),
        ("/x", 404),
    ] {
        let mut client = Raw::connect(app.address).await;
        for _ in 0..2 {
            client.send(raw::head(&format!("HEAD {path}"), &[])).await;
            let answer = client.head().await;
            assert_eq!(answer.status, status, "HEAD {path}");
            assert!(answer.header("x-request-id").is_some());
            client.send(raw::head(&format!("OPTIONS {path}"), &[])).await;
            assert_eq!(client.answer().await.status, 204, "OPTIONS {path}");
        }
    }
    for (line, status) in
        [("OPTIONS *", 204), ("CONNECT localhost:1", 404), ("TRACE /", 405), ("GET http://evil.example/v1/models", 200)]
    {
        let mut client = Raw::connect(app.address).await;
        client.send(raw::head(line, &[])).await;
        assert_eq!(client.head().await.status, status, "{line}");
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn errors_show_nothing_that_harms() {
    let app = TestApp::quick().await;
    let path = "/v1/\u{1b}[31m<script>alert(1)</script>";
    let response = app.get(path).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(!response.text().await.unwrap().contains('\u{1b}'));
    let mut body = question("x");
    body["model"] = json!(format!("{}\u{1b}[31m\r\n", "m".repeat(1_000_000)));
    let response = app.chat(&body).await;
    assert_eq!(response.status(), 404);
    let text = response.text().await.unwrap();
    assert!(text.len() < 1_000, "{} bytes", text.len());
    assert_eq!(app.turns(), 0);
}
