//! The words and headers of refusals, by which people and SDKs know what to do: when to come again, where a body is
//! broken, which path was meant.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{ChallengeForm, Endpoint, ScriptedFailure, ScriptedReply};

use crate::breaker::until_queued;
use crate::support::app::{PATIENCE, Setup, TestApp, json_of, question, spawn};
use crate::support::oracle::crew;

/// A request to each family of routes that asks a model for a text.
fn asking() -> [(&'static str, Value); 4] {
    let messages = json!([{"role": "user", "content": "x"}]);
    [
        ("/v1/chat/completions", question("x")),
        ("/v1/completions", json!({"model": "qwen3-max", "prompt": "x"})),
        ("/v1/messages", json!({"model": "qwen3-max", "max_tokens": 9, "messages": messages})),
        ("/v1/responses", json!({"model": "qwen3-max", "input": "x"})),
    ]
}

async fn started(setup: Setup) -> TestApp {
    setup.start(Simulator::start(crew(1)).await.unwrap()).await
}

/// `Retry-After`, after a look at `x-should-retry`: SDKs sleep for as long as they are told, but for no more than a
/// minute.
fn told(response: &Response, what: &str) -> u64 {
    let header = |name: &str| {
        let value = response.headers().get(name).unwrap_or_else(|| panic!("{what}: no {name}"));
        value.to_str().unwrap().to_owned()
    };
    let wait: u64 = header("retry-after").parse().unwrap();
    assert_eq!(header("x-should-retry"), if wait > 60 { "false" } else { "true" }, "{what}: {wait} s");
    wait
}

#[tokio::test]
async fn a_rest_is_told_with_its_true_end_in_every_dialect() {
    for (base, seconds) in [("20s", 10..=50), ("5m", 240..=720)] {
        let setup = Setup::default().with("DEGRADE_AFTER", "1").with("TRIP_AFTER", "1").with("MAX_RETRIES", "0");
        let app = started(setup.with("COOLDOWN_BASE", base)).await;
        app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::status(500)));
        app.chat(&question("x")).await;
        let mut probes = 0;
        let mut waits = Vec::new();
        for (path, body) in asking() {
            for stream in [false, true] {
                let mut body = body.clone();
                body["stream"] = json!(stream);
                let mut response = app.post(path, &body).send().await.unwrap();
                // An account that is alone is probed early, once in five seconds: that request meets the upstream, and
                // doubles the pause.
                if !response.headers().contains_key("retry-after") {
                    probes += 1;
                    response = app.post(path, &body).send().await.unwrap();
                }
                let what = format!("{path} {base} {stream}");
                assert_eq!(response.status().as_u16() / 100, 5, "{what}");
                let wait = told(&response, &what);
                assert!(seconds.contains(&wait), "{what}: {wait}");
                waits.push(wait);
                let error = json_of(response).await["error"].clone();
                assert!(error["message"].as_str().is_some_and(|words| words.ends_with('.')), "{what}: {error}");
            }
        }
        assert!(probes > 1 || waits.is_sorted_by(|one, next| one >= next), "one end for all: {waits:?}");
        let asked = app.simulator.record().requests_to(Endpoint::Completions).len();
        assert_eq!(asked, 1 + probes, "nothing else is sent meanwhile");
    }
}

#[tokio::test]
async fn a_challenge_and_a_full_queue_are_told_with_their_true_end_in_every_dialect() {
    let app = started(Setup::default().with("CHALLENGE_REST", "5m").with("MAX_RETRIES", "0")).await;
    let challenge = ScriptedReply::challenge(ChallengeForm::Html, 200);
    app.simulator.script().queue(None, Endpoint::Completions, challenge);
    app.chat(&question("x")).await;
    for (path, body) in asking() {
        let response = app.post(path, &body).send().await.unwrap();
        let wait = told(&response, path);
        assert!((240..=360).contains(&wait), "{path}: {wait}");
    }

    let setup = Setup::default().with("MAX_IN_FLIGHT", "1").with("QUEUE_MAX", "1").with("QUEUE_WAIT", "60s");
    let app = started(setup).await;
    let silence = ScriptedReply::failing(ScriptedFailure::Silence);
    app.simulator.script().set_default(None, Endpoint::Completions, Some(silence));
    let held = spawn(app.post("/v1/chat/completions", &question("hold")).send());
    app.simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await.unwrap();
    let queued = spawn(app.post("/v1/chat/completions", &question("wait")).send());
    until_queued(&app, 1).await;
    for (path, body) in asking() {
        let response = app.post(path, &body).send().await.unwrap();
        assert_eq!(response.status(), 429, "{path}");
        assert!(told(&response, path) <= 60, "{path}");
    }
    held.abort();
    queued.abort();
}

#[tokio::test]
async fn broken_json_is_told_with_line_and_column_in_every_dialect() {
    let app = TestApp::quick().await;
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/images/generations",
        "/v1/videos",
    ] {
        for (body, place) in [
            ("{\n  \"model\": \"qwen3-max\",,\n}", "line 2, column 24"),
            ("{\"model\": 'qwen3-max'}", "line 1, column 11"),
            ("{\n\n  \"model\": \"qwen3-max\"", "line 3, column 22"),
            ("{\"model\": \"ü字🦀\", x}", "line 1, column "),
        ] {
            let response = app.post(path, &json!(null)).body(body).send().await.unwrap();
            assert_eq!(response.status(), 400, "{path} {body}");
            let told = json_of(response).await;
            let message = told["error"]["message"].as_str().unwrap_or_else(|| panic!("{told}"));
            assert!(message.contains("not valid JSON") && message.contains(place), "{path} {body}: {message}");
        }
    }
    assert_eq!(app.turns(), 0);
}

/// A base URL with `/v1` where the client adds it, or without it where it does not.
#[tokio::test]
async fn v1_forgotten_or_doubled_is_understood_by_every_family_of_routes() {
    let app = TestApp::quick().await;
    let mut routes: Vec<(Method, &str, Option<Value>)> =
        asking().into_iter().map(|(path, body)| (Method::POST, path, Some(body))).collect();
    let count = json!({"model": "qwen3-max", "messages": [{"role": "user", "content": "x"}]});
    routes.extend([
        (Method::POST, "/v1/messages/count_tokens", Some(count)),
        (Method::POST, "/v1/images/generations", Some(json!({"model": "qwen3-max", "prompt": "x"}))),
        (Method::POST, "/v1/videos", Some(json!({"model": "qwen3-max", "prompt": "x", "seconds": "77"}))),
        (Method::POST, "/v1/embeddings", Some(json!({"model": "text-embedding-v4", "input": "x"}))),
        (Method::GET, "/v1/models", None),
        (Method::GET, "/v1/models/qwen3-max", None),
        (Method::GET, "/v1/videos", None),
        (Method::GET, "/v1/videos/video_nowhere", None),
        (Method::GET, "/v1/responses/resp_nowhere", None),
        (Method::GET, "/v1/responses/resp_nowhere/input_items", None),
    ]);
    let ask = async |method: &Method, path: &str, body: &Option<Value>| {
        let mut request = app.client.request(method.clone(), app.url(path)).bearer_auth(crate::support::app::KEY);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.timeout(Duration::from_secs(60)).send().await.unwrap();
        let status = response.status();
        let body = json_of(response).await;
        (status, body["error"]["code"].clone(), body["error"]["type"].clone(), body["object"].clone())
    };
    for (method, path, body) in &routes {
        let plain = ask(method, path, body).await;
        assert_ne!(plain.1, "unknown_url", "{path}: {plain:?}");
        let rest = path.strip_prefix("/v1").unwrap();
        for other in [rest.to_owned(), format!("/v1/v1{rest}"), format!("//v1{rest}"), format!("/v1/{rest}")] {
            assert_eq!(ask(method, &other, body).await, plain, "{method} {other}");
        }
    }
}
