//! `POST /v1/embeddings`: vectors of an endpoint with a key, or none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use simulator::script::{ApiFailure, Endpoint, Scenario, ScriptedReply};

use crate::support::app::{TestApp, error_of, json_of, with_keys};

const PATH: &str = "/v1/embeddings";

fn numbers(embedding: &Value) -> Vec<f64> {
    embedding.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

// S002-09
#[tokio::test]
async fn vectors_come_from_the_endpoint_with_a_key() {
    let app = with_keys(Scenario::default()).await;
    for (asked, sent) in [
        (None, "text-embedding-v4"),
        (Some("text-embedding-v3"), "text-embedding-v3"),
        (Some("key/text-embedding-v3"), "text-embedding-v3"),
    ] {
        let mut body = json!({"input": ["one", "two"], "dimensions": 8, "user": "u", "of_the_future": [1]});
        if let Some(model) = asked {
            body["model"] = json!(model);
        }
        let answer = json_of(app.post(PATH, &body).send().await.unwrap()).await;
        assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!(asked.unwrap_or(sent))));
        let data = answer["data"].as_array().unwrap();
        let places: Vec<_> = data.iter().map(|entry| (&entry["index"], &entry["object"])).collect();
        assert_eq!(places, [(&json!(0), &json!("embedding")), (&json!(1), &json!("embedding"))]);
        assert!(data.iter().all(|entry| numbers(&entry["embedding"]).len() == 8));
        assert_eq!(answer["usage"], json!({"prompt_tokens": 2, "total_tokens": 2}));
        // What was asked is what went up.
        body["model"] = json!(sent);
        assert_eq!(app.simulator.record().requests_to(Endpoint::KeyEmbeddings).pop().unwrap().body.unwrap(), body);
    }
    app.assert_clean();
}

#[tokio::test]
async fn base64_is_what_sdks_ask_for() {
    let app = with_keys(Scenario::default()).await;
    let plain = json_of(app.post(PATH, &json!({"input": "one"})).send().await.unwrap()).await;
    let body = json!({"input": "one", "encoding_format": "base64"});
    let packed = json_of(app.post(PATH, &body).send().await.unwrap()).await;
    let bytes = STANDARD.decode(packed["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let unpacked = bytes.chunks_exact(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap())));
    let distance = unpacked.zip(numbers(&plain["data"][0]["embedding"])).map(|(one, other)| (one - other).abs());
    assert!(distance.fold(0.0, f64::max) < 1e-6);
}

// S002-09
#[tokio::test]
async fn without_a_key_none_are_made_up() {
    let app = TestApp::quick().await;
    let response = app.post(PATH, &json!({"input": "one"})).send().await.unwrap();
    assert_eq!(response.status(), 501);
    assert_eq!(response.headers()["x-should-retry"], "false");
    let error = error_of(response).await;
    assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("embeddings_not_supported")));
    assert!(error["message"].as_str().unwrap().contains("QWEN_API_KEYS"), "{error}");
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn bad_input_reaches_nobody() {
    let app = with_keys(Scenario::default()).await;
    for (body, status, code, param) in [
        (json!({}), 400, "missing_required_parameter", json!("input")),
        (json!({"input": null}), 400, "missing_required_parameter", json!("input")),
        (json!({"input": 1}), 400, "invalid_type", json!("input")),
        (json!({"input": ""}), 400, "invalid_value", json!("input")),
        (json!({"input": []}), 400, "empty_array", json!("input")),
        (json!({"input": ["x", ""]}), 400, "invalid_value", json!("input[1]")),
        (json!({"input": ["x", {}]}), 400, "invalid_type", json!("input[1]")),
        (json!({"input": [1, 2]}), 400, "unsupported_value", json!("input")),
        (json!({"input": [[1, 2]]}), 400, "unsupported_value", json!("input")),
        (json!({"input": "x", "model": 1}), 400, "invalid_type", json!("model")),
        (json!({"input": "x", "model": " "}), 400, "invalid_value", json!("model")),
        (json!({"input": "x", "model": "key/"}), 404, "model_not_found", json!("model")),
        (json!({"input": "x", "model": "web/qwen3-max"}), 404, "model_not_found", json!("model")),
        (json!({"input": "x", "encoding_format": "hex"}), 400, "invalid_value", json!("encoding_format")),
        (json!({"input": "x", "dimensions": 0}), 400, "invalid_value", json!("dimensions")),
        (json!({"input": "x", "dimensions": "8"}), 400, "invalid_type", json!("dimensions")),
        (json!("x"), 400, "invalid_type", Value::Null),
    ] {
        let response = app.post(PATH, &body).send().await.unwrap();
        assert_eq!(response.status(), status, "{body}");
        let error = error_of(response).await;
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &param), "{body}");
    }
    assert_eq!(app.simulator.record().requests_to(Endpoint::KeyEmbeddings).len(), 0);
}

#[tokio::test]
async fn failures_of_the_endpoint_keep_their_class() {
    for (reply, status, code) in [
        (ScriptedReply::api(ApiFailure::Quota), 429, "insufficient_quota"),
        (ScriptedReply::api(ApiFailure::InvalidParameter), 400, "rejected_by_upstream"),
        (ScriptedReply::status(502), 502, "upstream_error"),
    ] {
        let app = with_keys(Scenario::default()).await;
        for _ in 0..3 {
            app.simulator.script().queue(None, Endpoint::KeyEmbeddings, reply.clone());
        }
        let response = app.post(PATH, &json!({"input": "one"})).send().await.unwrap();
        assert_eq!(response.status(), status, "{code}");
        assert_eq!(error_of(response).await["code"], code);
    }
}
