//! Anthropic's Messages API, streamed and whole, on every kind of upstream, and `count_tokens`.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{
    CutHow, Endpoint, Scenario, ScriptedFailure, ScriptedReply, SearchResult, SearchScript, StreamError,
};

use crate::support::app::{KEY, Setup, TestApp, json_of, with_keys};
use crate::support::files::{hash, png};
use crate::support::messages::{Streamed, error_of, text};

pub(crate) fn ask(text: &str) -> Value {
    json!({"model": "qwen3-max", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

fn ask_key(text: &str) -> Value {
    let mut body = ask(text);
    body["model"] = json!("key/qwen3.7-plus");
    body
}

async fn answering(setup: Setup, reply: ScriptedReply) -> TestApp {
    let app = setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await;
    app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
    app
}

#[tokio::test]
async fn a_text_gets_a_message() {
    let app = TestApp::quick().await;
    let message = app.both(&ask("echo: Grüße 🙂")).await;
    assert_eq!(message["content"], json!([{"type": "text", "text": "Grüße 🙂"}]));
    assert_eq!(message["stop_reason"], "end_turn");
    let streamed = app.message_streamed(&ask("echo: 你好, wörld")).await;
    assert_eq!(
        streamed.outline(),
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(text(&streamed.message), "你好, wörld");
    assert_eq!(app.asked().prompt(), "echo: 你好, wörld");
    let over_key = with_keys(Scenario::default()).await;
    assert_eq!(text(&over_key.both(&ask_key("echo: Grüße 🙂")).await), "Grüße 🙂");
    app.assert_clean();
}

#[tokio::test]
async fn a_key_in_either_header() {
    let app = TestApp::quick().await;
    let post = || app.client.post(app.url("/v1/messages")).header("content-type", "application/json");
    let body = ask("echo: x").to_string();
    let response = post().header("x-api-key", KEY).header("anthropic-version", "2023-06-01").body(body.clone()).send();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["request-id"], response.headers()["x-request-id"]);
    let (status, kind, _) = error_of(post().body(body).send().await.unwrap()).await;
    assert_eq!((status, kind.as_str()), (401, "authentication_error"));
}

#[tokio::test]
async fn thoughts_are_a_block_with_a_signature() {
    let app = with_keys(Scenario::default()).await;
    for mut body in [ask("echo: x"), ask_key("echo: x")] {
        body["thinking"] = json!({"type": "enabled", "budget_tokens": 2000});
        let message = app.both(&body).await;
        let kinds: Vec<_> = message["content"].as_array().unwrap().iter().map(|block| &block["type"]).collect();
        assert_eq!(kinds, ["thinking", "text"], "{message}");
        assert!(!message["content"][0]["thinking"].as_str().unwrap().is_empty());
        body["thinking"]["display"] = json!("omitted");
        let message = app.both(&body).await;
        assert_eq!(message["content"], json!([{"type": "text", "text": "x"}]));
        body["thinking"] = json!({"type": "disabled"});
        assert_eq!(app.both(&body).await["content"], json!([{"type": "text", "text": "x"}]));
    }
}

#[tokio::test]
async fn how_an_answer_ends() {
    let app = TestApp::quick().await;
    let mut body = ask("echo: one two three four five six seven");
    body["max_tokens"] = json!(2);
    let message = app.both(&body).await;
    assert_eq!((text(&message).as_str(), &message["stop_reason"]), ("one two ", &json!("max_tokens")));
    let mut body = ask("echo: one END two");
    body["stop_sequences"] = json!(["NEVER", "END"]);
    let message = app.both(&body).await;
    assert_eq!((text(&message).as_str(), &message["stop_reason"]), ("one ", &json!("stop_sequence")));
    assert_eq!(message["stop_sequence"], "END");
    let refused = StreamError { after: 3, code: "data_inspection_failed".to_owned(), ..StreamError::default() };
    let app = answering(Setup::default(), ScriptedReply::pieces(["one ", "two "]).breaking(refused)).await;
    let streamed = app.message_streamed(&ask("x")).await;
    assert_eq!(streamed.message["stop_reason"], "refusal");
}

#[tokio::test]
async fn what_claude_code_sends() {
    let app = TestApp::quick().await;
    let ephemeral = json!({"type": "ephemeral"});
    let body = json!({
        "model": "qwen3-max", "max_tokens": 32000, "stream": true, "metadata": {"user_id": "u"},
        "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=0;"},
            {"type": "text", "text": "You are an agent.", "cache_control": ephemeral},
        ],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "First."},
                {"type": "text", "text": "echo: hello", "cache_control": ephemeral},
            ]},
            {"role": "system", "content": "Late words."},
        ],
    });
    let response = app.post("/v1/messages?beta=true", &body).send().await.unwrap();
    assert_eq!(response.headers()["x-bridge-ignored"], "output_config.effort");
    let streamed = Streamed::parse(&response.text().await.unwrap());
    assert_eq!(streamed.message["stop_reason"], "end_turn");
    let asked = app.asked();
    for part in ["<system>\nYou are an agent.\n</system>", "<user>\nFirst.\necho: hello\n</user>", "Late words."] {
        assert!(asked.prompt().contains(part), "{part}: {}", asked.prompt());
    }
    assert!(!asked.prompt().contains("billing"), "{}", asked.prompt());
    let mut body = ask("echo: x");
    body["temperature"] = json!(0.5);
    body["top_k"] = json!(5);
    body["unknown"] = json!({"a": 1});
    let response = app.post("/v1/messages", &body).send().await.unwrap();
    assert_eq!(response.headers()["x-bridge-ignored"], "temperature,top_k");
    app.assert_clean();
}

fn weather() -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!({"name": "weather", "description": "Weather.", "input_schema": schema})
}

pub(crate) fn sent_to_key(app: &TestApp) -> Value {
    app.simulator.record().requests_to(Endpoint::KeyChat).pop().unwrap().body.unwrap()
}

#[tokio::test]
async fn tools_are_called_over_keys() {
    let app = with_keys(Scenario::default()).await;
    let mut body = ask_key("call: weather {\"city\": \"Oslo\"}");
    body["tools"] = json!([weather(), {"type": "code_execution_20250825", "name": "code_execution"}]);
    body["tool_choice"] = json!({"type": "any", "disable_parallel_tool_use": true});
    (body["temperature"], body["top_p"], body["top_k"]) = (json!(0.25), json!(0.5), json!(40));
    let message = app.both(&body).await;
    let [call] = message["content"].as_array().unwrap().as_slice() else { panic!("{message}") };
    assert_eq!(
        (&call["type"], &call["name"], &call["input"]),
        (&json!("tool_use"), &json!("weather"), &json!({"city": "Oslo"}))
    );
    let sent = sent_to_key(&app);
    assert_eq!(sent["tools"][0]["function"]["parameters"], weather()["input_schema"]);
    assert_eq!((&sent["tool_choice"], &sent["parallel_tool_calls"]), (&json!("required"), &json!(false)));
    assert_eq!((&sent["temperature"], &sent["top_p"], &sent["top_k"]), (&json!(0.25), &json!(0.5), &json!(40)));
    let response = app.post("/v1/messages", &body).send().await.unwrap();
    assert_eq!(response.headers()["x-bridge-ignored"], "tools.code_execution");

    // The loop ends in text.
    let result = json!([
        {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "3 °C"}]},
        {"type": "text", "text": "echo: done"},
    ]);
    body["tool_choice"] = json!({"type": "auto"});
    body["messages"] = json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, call]},
        {"role": "user", "content": result},
    ]);
    assert_eq!(text(&app.both(&body).await), "done");
    let messages = sent_to_key(&app)["messages"].clone();
    let roles: Vec<&str> =
        messages.as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "user"]);
    assert_eq!(messages[1]["tool_calls"][0]["id"], call["id"]);
    assert_eq!((&messages[2]["tool_call_id"], &messages[2]["content"]), (&call["id"], &json!("3 °C")));
}

#[tokio::test]
async fn tools_are_called_over_the_web_chat() {
    let call = r#"<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>"#;
    for (answer, kinds) in [
        (call.to_owned(), &["tool_use"][..]),
        (format!("I look.\n\n{call}"), &["text", "tool_use"]),
        (format!("{call}\n{call}"), &["tool_use", "tool_use"]),
    ] {
        let pieces: Vec<String> =
            answer.chars().collect::<Vec<_>>().chunks(3).map(|piece| piece.iter().collect()).collect();
        let app = answering(Setup::default(), ScriptedReply::pieces(pieces)).await;
        let mut body = ask("Weather?");
        body["tools"] = json!([weather()]);
        let message = app.both(&body).await;
        let content = message["content"].as_array().unwrap();
        let found: Vec<&str> = content.iter().map(|block| block["type"].as_str().unwrap()).collect();
        assert_eq!(found, kinds, "{message}");
        let last = content.last().unwrap();
        assert_eq!((&last["name"], &last["input"]), (&json!("weather"), &json!({"city": "Oslo"})));
        assert!(!text(&message).contains("tool_call"), "{message}");
        assert!(app.asked().prompt().contains("weather"), "{}", app.asked().prompt());

        // Its result goes back, and the tools count as part of what is sent.
        let history = json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": content},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": last["id"], "content": "3 °C"}]},
        ]);
        body["messages"] = json!(history.as_array().unwrap());
        if found == ["tool_use", "tool_use"] {
            body["messages"][1]["content"] = json!([last]);
        }
        app.message(&body).await;
        assert!(app.asked().prompt().contains("3 °C"), "{}", app.asked().prompt());
        let with_tools = app.count(&body).await;
        body["tools"] = json!([]);
        assert!(with_tools > app.count(&body).await + 20);
    }
}

#[tokio::test]
async fn calls_of_the_history_go_into_the_prompt_of_the_web_chat() {
    let app = TestApp::quick().await;
    let mut body = ask("echo: x");
    body["messages"] = json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [{
            "type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"},
        }]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "3 °C", "is_error": true},
        ]},
    ]);
    app.message(&body).await;
    let asked = app.asked();
    for part in ["weather", "Oslo", "3 °C", "The tool failed:"] {
        assert!(asked.prompt().contains(part), "{part}: {}", asked.prompt());
    }
}

#[tokio::test]
async fn pictures_in_messages_and_in_results() {
    let app = TestApp::quick().await;
    let base64 = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let picture = |number: u8| {
        let source = json!({"type": "base64", "media_type": "image/png", "data": base64(&png(number))});
        json!({"type": "image", "source": source})
    };
    let document = json!({"type": "base64", "media_type": "text/plain", "data": base64(b"Hello")});
    let mut body = ask("");
    body["model"] = json!("qwen3-vl-plus");
    body["messages"] = json!([
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "seen"}, picture(1)]},
            picture(2),
            {"type": "document", "title": "notes.txt", "source": document},
            {"type": "text", "text": "echo: x"},
        ]},
    ]);
    let said = text(&app.message(&body).await);
    for part in ["2 pictures", "1 document", "notes.txt", &hash(&png(1)), &hash(&png(2)), &hash(b"Hello")] {
        assert!(said.contains(part), "{part}: {said}");
    }
    app.assert_clean();
}

#[tokio::test]
async fn pages_of_a_search_are_linked() {
    let page = |number: usize| SearchResult {
        url: format!("https://source.example/{number}"),
        title: format!("Source {number}"),
        ..SearchResult::default()
    };
    let reply = ScriptedReply::answer("Water boils.[[2]]").with_stream(|stream| {
        let results = vec![page(1), page(2)];
        stream.searches =
            Some(vec![SearchScript { queries: vec!["q".to_owned()], results, ..SearchScript::default() }]);
    });
    let app = answering(Setup::default(), reply).await;
    let linked = "Water boils.[[2]]\n\nSources:\n1. [Source 1](https://source.example/1)\n2. [Source \
                  2](https://source.example/2)";
    let mut body = ask("Does it?");
    body["model"] = json!("qwen3-max-search");
    assert_eq!(app.both(&body).await["content"], json!([{"type": "text", "text": linked}]));
    let mut body = ask("Does it?");
    body["tools"] = json!([{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}]);
    let message = app.both(&body).await;
    assert_eq!(app.asked().chat_type(), "search");
    let [said, used, result] = message["content"].as_array().unwrap().as_slice() else { panic!("{message}") };
    assert_eq!(said["text"], linked);
    assert_eq!((&used["type"], &used["name"]), (&json!("server_tool_use"), &json!("web_search")));
    assert_eq!((&result["type"], &result["tool_use_id"]), (&json!("web_search_tool_result"), &used["id"]));
    assert_eq!(result["content"][1]["url"], "https://source.example/2");
}

#[tokio::test]
async fn a_silent_upstream_is_bridged_with_pings() {
    let reply = ScriptedReply::pieces(["one"]).pausing(0, Duration::from_millis(300));
    for hold in ["0", "10s"] {
        let setup = Setup::default().with("KEEPALIVE_INTERVAL", "20ms").with("HEADERS_HOLD", hold);
        let app = answering(setup, reply.clone()).await;
        let mut body = ask("x");
        body["stream"] = json!(true);
        let response = app.post("/v1/messages", &body).send().await.unwrap();
        let stream = response.text().await.unwrap();
        assert!(stream.starts_with("event: ping\n"), "from the start: {stream}");
        let streamed = Streamed::parse(&stream);
        assert!(streamed.pings > 2, "{stream}");
        assert_eq!(text(&streamed.message), "one");
    }
    // An answer that comes at once begins without one.
    let app = TestApp::quick().await;
    assert_eq!(app.message_streamed(&ask("echo: x")).await.pings, 0);
}

#[tokio::test]
async fn a_failure_after_a_ping_is_an_event() {
    let reply = ScriptedReply::failing(ScriptedFailure::Silence);
    let setup = Setup::default().with("KEEPALIVE_INTERVAL", "20ms").with("HEADERS_HOLD", "0");
    let app = answering(setup.with("FIRST_EVENT_TIMEOUT", "200ms").with("MAX_RETRIES", "0"), reply).await;
    let streamed = app.message_streamed(&ask("x")).await;
    assert_eq!(streamed.names, ["error"]);
    let error = streamed.error.unwrap();
    assert_eq!(error["type"], "timeout_error");
    assert!(!error["message"].as_str().unwrap().is_empty());

    let reply = ScriptedReply::pieces(["one ", "two ", "three"]).cut_after(3, CutHow::CleanEnd);
    let app = answering(Setup::default(), reply).await;
    let streamed = app.message_streamed(&ask("x")).await;
    assert_eq!(
        (streamed.names.last().unwrap().as_str(), &streamed.error.unwrap()["type"]),
        ("error", &json!("api_error"))
    );
    assert!(!streamed.names.iter().any(|name| name == "message_delta"), "{:?}", streamed.names);
}

#[tokio::test]
async fn failures_have_anthropics_shape() {
    let app = TestApp::quick().await;
    let mut no_limit = ask("x");
    no_limit.as_object_mut().unwrap().remove("max_tokens");
    let mut unknown = ask("x");
    unknown["model"] = json!("no-such-model");
    let mut part = ask("x");
    part["messages"][0]["content"] = json!([{"type": "teapot"}]);
    let with = |field: &str, value: Value| {
        let mut body = ask("x");
        body[field] = value;
        body
    };
    let server = json!({"type": "code_execution_20250825", "name": "code_execution"});
    let tool = |schema: Value| json!({"name": "a", "input_schema": schema});
    for (body, status, kind, word) in [
        (no_limit, 400, "invalid_request_error", "max_tokens"),
        (unknown, 404, "not_found_error", "no-such-model"),
        (part, 400, "invalid_request_error", "messages[0].content[0].type"),
        (
            with("tools", json!([server, tool(json!({"type": 5}))])),
            400,
            "invalid_request_error",
            "'tools[1].input_schema'",
        ),
        (
            with("output_config", json!({"format": {"type": "json_schema", "schema": {"type": 5}}})),
            400,
            "invalid_request_error",
            "'output_config.format.schema'",
        ),
        (json!([]), 400, "invalid_request_error", "object"),
    ] {
        let (found, error, message) = error_of(app.post("/v1/messages", &body).send().await.unwrap()).await;
        assert_eq!((found, error.as_str()), (status, kind), "{body}: {message}");
        assert!(message.contains(word), "{message}");
    }
    let send = |method: Method, path: &str, kind: &str, body: &str| {
        let request = app.client.request(method, app.url(path)).bearer_auth(KEY).header("content-type", kind);
        request.body(body.to_owned()).send()
    };
    for (method, path, kind, body, status, error) in [
        (Method::POST, "/v1/messages", "application/json", "{", 400, "invalid_request_error"),
        (Method::POST, "/v1/messages", "text/csv", "{}", 415, "invalid_request_error"),
        (Method::GET, "/v1/messages", "application/json", "", 405, "invalid_request_error"),
        (Method::GET, "/v1/messages/count_tokens", "application/json", "", 405, "invalid_request_error"),
        (Method::POST, "/v1/messages/batches", "application/json", "{}", 404, "not_found_error"),
    ] {
        let (found, class, message) = error_of(send(method, path, kind, body).await.unwrap()).await;
        assert_eq!((found, class.as_str()), (status, error), "{path}: {message}");
    }
    let small =
        Setup::default().with("MAX_BODY", "1KiB").start(Simulator::start(Scenario::default()).await.unwrap()).await;
    let large = small.post("/v1/messages", &ask(&"x".repeat(5000))).send().await.unwrap();
    let (status, kind, _) = error_of(large).await;
    assert_eq!((status, kind.as_str()), (413, "request_too_large"));
    for (reply, status, kind) in
        [(ScriptedReply::status(502), 502, "api_error"), (ScriptedReply::error("RateLimited"), 429, "rate_limit_error")]
    {
        let app = answering(Setup::default(), reply).await;
        for stream in [false, true] {
            let mut body = ask("x");
            body["stream"] = json!(stream);
            let (found, error, message) = error_of(app.post("/v1/messages", &body).send().await.unwrap()).await;
            assert_eq!((found, error.as_str()), (status, kind), "{message}");
        }
    }
}

#[tokio::test]
async fn a_thread_that_the_server_would_hold_is_refused_as_sdks_expect_it() {
    let app = TestApp::quick().await;
    for stream in [false, true] {
        for thread in [json!({"type": "create"}), json!({"type": "continue", "previous_message_id": "msg_1"})] {
            let mut body = ask("x");
            (body["thread"], body["stream"]) = (thread, json!(stream));
            let response = app.post("/v1/messages?beta=true", &body).send().await.unwrap();
            assert_eq!(response.status(), 400, "{body}");
            let error = &json_of(response).await["error"];
            assert_eq!(error["type"], "invalid_request_error");
            assert!(error["message"].as_str().unwrap().contains("'thread'"), "{error}");
            // From this the SDK knows to send the whole conversation instead.
            assert_eq!(error["details"]["error_code"], "thread_unsupported_request", "{error}");
        }
    }
    let mut without = ask("x");
    without["thread"] = Value::Null;
    app.message(&without).await;
}

#[tokio::test]
async fn tokens_are_counted_as_they_would_be_sent() {
    let app = with_keys(Scenario::default()).await;
    for mut body in [ask("echo: How many are 你好?"), ask_key("echo: How many are 你好?")] {
        let plain = app.count(&body).await;
        body["system"] = json!("Be brief, and say it in words.");
        let with_system = app.count(&body).await;
        assert!(with_system > plain, "{with_system} > {plain}");
        body.as_object_mut().unwrap().remove("max_tokens");
        assert_eq!(app.count(&body).await, with_system);
    }
    let mut body = ask_key("x");
    let without_tools = app.count(&body).await;
    body["tools"] = json!([weather()]);
    let with_tools = app.count(&body).await;
    assert!(with_tools > without_tools + 20, "{with_tools} > {without_tools}");
    let turns = app.turns();
    let mut long = ask(&"Words, and more of them. ".repeat(20_000));
    assert!(app.count(&long).await >= 120_000, "what goes as a file counts as well");
    long["messages"] = json!([]);
    let (status, kind, _) = error_of(app.post("/v1/messages/count_tokens", &long).send().await.unwrap()).await;
    assert_eq!((status, kind.as_str()), (400, "invalid_request_error"));
    assert_eq!(app.turns(), turns, "nothing is asked");
}
