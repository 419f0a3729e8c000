//! `POST /v1/completions`: prompts in place of conversations.

use std::collections::{BTreeMap, HashSet};

use reqwest::Response;
use serde_json::{Value, json};
use simulator::script::{CutHow, Endpoint, ErrorScript, Scenario, ScriptedReply, ThinkingForm};

use crate::support::app::{TestApp, Transcript, error_of, json_of, with_keys};

const PATH: &str = "/v1/completions";

async fn post(app: &TestApp, body: &Value) -> Response {
    app.post(PATH, body).send().await.unwrap()
}

async fn answer(app: &TestApp, body: &Value) -> Value {
    let response = post(app, body).await;
    let status = response.status();
    let answer = json_of(response).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn stream(app: &TestApp, body: &Value) -> Transcript {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let response = post(app, &body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Transcript::parse(&response.text().await.unwrap())
}

/// A failure that is the request's own fault.
fn refused() -> ScriptedReply {
    let details = Some("Invalid input too many messages.".to_owned());
    ScriptedReply::error_with(ErrorScript { code: "Bad_Request".to_owned(), details, ..ErrorScript::default() })
}

/// The texts of a stream by their index.
fn texts(transcript: &Transcript) -> BTreeMap<u64, String> {
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    for choice in transcript.chunks.iter().filter_map(|chunk| chunk["choices"].get(0)) {
        texts.entry(choice["index"].as_u64().unwrap()).or_default().push_str(choice["text"].as_str().unwrap());
    }
    texts
}

fn finish_reasons(transcript: &Transcript) -> Vec<(u64, &str)> {
    let choices = transcript.chunks.iter().filter_map(|chunk| chunk["choices"].get(0));
    choices.filter_map(|choice| Some((choice["index"].as_u64()?, choice["finish_reason"].as_str()?))).collect()
}

// S004-21, S004-22
#[tokio::test]
async fn a_prompt_is_answered_by_either_kind() {
    let app = with_keys(Scenario::default()).await;
    for model in [Some("qwen3-max"), Some("key/qwen3.7-plus"), None] {
        let mut body = json!({"prompt": "echo: Grüße 字", "max_tokens": 150, "temperature": 0.7});
        if let Some(model) = model {
            body["model"] = json!(model);
        }
        let answer = answer(&app, &body).await;
        let keys: HashSet<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, HashSet::from(["id", "object", "created", "model", "choices", "usage"]));
        assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"), "{answer}");
        assert_eq!(answer["object"], "text_completion");
        assert!(answer["created"].as_u64().is_some_and(|created| u32::try_from(created).is_ok()));
        assert_eq!(answer["model"], model.unwrap_or("qwen3-max"));
        let choice = json!({"text": "Grüße 字", "index": 0, "logprobs": null, "finish_reason": "stop"});
        assert_eq!(answer["choices"], json!([choice]));
        let count = |name: &str| answer["usage"][name].as_u64().filter(|count| *count > 0).unwrap();
        assert_eq!(count("total_tokens"), count("prompt_tokens") + count("completion_tokens"));
    }
    // Both kinds got one user message.
    assert_eq!(app.asked().prompt(), "echo: Grüße 字");
    let sent = app.simulator.record().requests_to(Endpoint::KeyChat).pop().unwrap().body.unwrap();
    assert_eq!(sent["messages"], json!([{"role": "user", "content": "echo: Grüße 字"}]));
    assert_eq!((&sent["max_tokens"], &sent["temperature"]), (&json!(150), &json!(0.7)));
    assert!(sent.get("prompt").is_none());
    app.assert_clean();
}

// S004-24
#[tokio::test]
async fn a_list_of_prompts_gives_as_many_choices() {
    let app = with_keys(Scenario::default()).await;
    for model in ["qwen3-max", "key/qwen3.7-plus"] {
        let body = json!({"model": model, "prompt": ["echo: one", "echo: two", "echo: three"]});
        let whole = answer(&app, &body).await;
        let said: Vec<_> = whole["choices"].as_array().unwrap().iter().map(|choice| choice["text"].clone()).collect();
        assert_eq!(said, ["one", "two", "three"], "{model}");
        let places: Vec<_> =
            whole["choices"].as_array().unwrap().iter().map(|choice| choice["index"].clone()).collect();
        assert_eq!(places, [0, 1, 2]);
        let single = answer(&app, &json!({"model": model, "prompt": ["echo: one"]})).await;
        assert!(whole["usage"]["total_tokens"].as_u64() > single["usage"]["total_tokens"].as_u64());
        let transcript = stream(&app, &body).await;
        assert!(transcript.is_done && transcript.error().is_none(), "{transcript:?}");
        let expected = [(0, "one"), (1, "two"), (2, "three")].map(|(index, text)| (index, text.to_owned()));
        assert_eq!(texts(&transcript), BTreeMap::from(expected), "{model}");
        assert_eq!(finish_reasons(&transcript), [(0, "stop"), (1, "stop"), (2, "stop")]);
    }
    app.assert_clean();
}

// S004-23
#[tokio::test]
async fn a_stream_has_chunks_of_its_own_dialect() {
    let app = with_keys(Scenario::default()).await;
    for model in ["qwen3-max", "key/qwen3.7-plus"] {
        let mut body = json!({"model": model, "prompt": "echo: a longer text, in several pieces"});
        let transcript = stream(&app, &body).await;
        assert!(transcript.is_done && transcript.chunks.len() > 2, "{transcript:?}");
        assert_eq!(texts(&transcript)[&0], "a longer text, in several pieces");
        let ids: HashSet<String> = transcript.chunks.iter().map(|chunk| chunk["id"].to_string()).collect();
        assert_eq!(ids.len(), 1);
        for chunk in &transcript.chunks {
            assert_eq!((&chunk["object"], &chunk["model"]), (&json!("text_completion"), &json!(model)), "{chunk}");
            assert!(chunk.get("usage").is_none() && chunk["choices"].as_array().unwrap().len() == 1, "{chunk}");
            assert!(chunk["choices"][0].get("delta").is_none() && chunk["choices"][0]["logprobs"].is_null());
        }
        body["prompt"] = json!(["echo: one", "echo: two"]);
        body["stream_options"] = json!({"include_usage": true});
        let transcript = stream(&app, &body).await;
        let (last, others) = transcript.chunks.split_last().unwrap();
        assert_eq!(last["choices"], json!([]));
        assert!(last["usage"]["total_tokens"].as_u64().unwrap() > 2, "{last}");
        assert!(others.iter().all(|chunk| chunk.get("usage").is_some_and(Value::is_null)));
    }
}

#[tokio::test]
async fn limits_hold_and_thoughts_stay_inside() {
    let app = TestApp::quick().await;
    let cut = answer(&app, &json!({"prompt": "echo: one END two", "stop": "END"})).await;
    assert_eq!(cut["choices"][0]["text"], "one ");
    let transcript = stream(&app, &json!({"prompt": "echo: one two", "max_tokens": 1})).await;
    assert_eq!(texts(&transcript)[&0], "one ");
    assert_eq!(finish_reasons(&transcript), [(0, "length")]);
    let response = post(&app, &json!({"prompt": "echo: x", "temperature": 0.5})).await;
    assert_eq!(response.headers()["x-bridge-ignored"], "temperature");
    for form in [ThinkingForm::Summary, ThinkingForm::Raw] {
        let thoughtful = ScriptedReply::answer("The answer.")
            .reasoning(&[&[("Looking", "First I look.")]])
            .with_stream(|stream| stream.thinking = Some(form));
        app.simulator.script().set_default(None, Endpoint::Completions, Some(thoughtful));
        let body = json!({"prompt": "x", "enable_thinking": true});
        assert_eq!(answer(&app, &body).await["choices"][0]["text"], "The answer.", "{form:?}");
        assert_eq!(texts(&stream(&app, &body).await)[&0], "The answer.", "{form:?}");
    }
}

// S004-24, S004-25
#[tokio::test]
async fn what_cannot_be_kept_is_refused_by_name() {
    let app = TestApp::quick().await;
    for (body, status, code, param) in [
        (json!({}), 400, "missing_required_parameter", json!("prompt")),
        (json!({"prompt": [1, 2, 3]}), 400, "unsupported_value", json!("prompt")),
        (json!({"prompt": [[1, 2], [3]]}), 400, "unsupported_value", json!("prompt")),
        (json!({"prompt": {}}), 400, "invalid_type", json!("prompt")),
        (json!({"prompt": []}), 400, "empty_array", json!("prompt")),
        (json!({"prompt": vec!["x"; 9]}), 400, "invalid_value", json!("prompt")),
        (json!({"prompt": "x", "echo": true}), 400, "unsupported_parameter", json!("echo")),
        (json!({"prompt": "x", "suffix": "y"}), 400, "unsupported_parameter", json!("suffix")),
        (json!({"prompt": "x", "best_of": 3}), 400, "unsupported_value", json!("best_of")),
        (json!({"prompt": "x", "n": 2}), 400, "unsupported_value", json!("n")),
        (json!({"prompt": "x", "logprobs": 5}), 400, "unsupported_parameter", json!("logprobs")),
        (json!({"prompt": "x", "temperature": "hot"}), 400, "invalid_type", json!("temperature")),
        (json!({"prompt": "x", "model": "qwen-turbo"}), 404, "model_not_found", json!("model")),
        (json!({"prompt": "x", "model": "key/any"}), 404, "model_not_found", json!("model")),
        (json!([]), 400, "invalid_type", Value::Null),
    ] {
        let response = post(&app, &body).await;
        assert_eq!(response.status(), status, "{body}");
        let error = error_of(response).await;
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &param), "{body}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let response = app.post(PATH, &json!(null)).body("{").send().await.unwrap();
    assert_eq!((response.status().as_u16(), error_of(response).await["code"].clone()), (400, json!("invalid_json")));
    assert_eq!(app.get(PATH).send().await.unwrap().status(), 405);
    assert_eq!(app.turns(), 0);
}

// S004-26, S004-27
#[tokio::test]
async fn a_failure_keeps_its_class() {
    for (reply, status, code) in
        [(refused(), 400, "rejected_by_upstream"), (ScriptedReply::status(502), 502, "upstream_error")]
    {
        for stream in [false, true] {
            let app = TestApp::quick().await;
            for _ in 0..3 {
                app.simulator.script().queue(None, Endpoint::Completions, reply.clone());
            }
            let response = post(&app, &json!({"prompt": "x", "stream": stream})).await;
            assert_eq!(response.status(), status, "{code} {stream}");
            assert_eq!(error_of(response).await["code"], code);
        }
    }
    let app = TestApp::quick().await;
    let cut = ScriptedReply::pieces(["a", "b", "c"]).cut_after(3, CutHow::Fin);
    app.simulator.script().queue(None, Endpoint::Completions, cut);
    let transcript = stream(&app, &json!({"prompt": ["x", "echo: never"]})).await;
    assert!(!transcript.is_done && finish_reasons(&transcript).is_empty(), "{transcript:?}");
    assert_eq!(transcript.error().unwrap()["code"], "upstream_truncated");
    // The first prompt is answered well, the second one's failure comes after the first byte.
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::answer("well"));
    app.simulator.script().queue(None, Endpoint::Completions, refused());
    let transcript = stream(&app, &json!({"prompt": ["x", "y"]})).await;
    assert_eq!(texts(&transcript)[&0], "well");
    assert_eq!((finish_reasons(&transcript), transcript.is_done), (vec![(0, "stop")], false));
    assert_eq!(transcript.error().unwrap()["code"], "rejected_by_upstream");
}
