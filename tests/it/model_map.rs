//! Other names for models, in all dialects.

use serde_json::json;
use simulator::Simulator;
use simulator::script::Scenario;

use crate::messages::{ask, sent_to_key};
use crate::support::app::{Setup, json_of};
use crate::support::messages::{error_of, text};

#[tokio::test]
async fn other_names_for_models() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let base = simulator.urls().keys;
    let keys: Vec<String> =
        simulator.keys().names().iter().map(|name| format!("{}@{base}", simulator.keys().secret(name))).collect();
    let map = "claude-key*=key/qwen3.7-plus, claude-*=qwen3-max, gpt-4o=qwen3-vl-plus, gone=no-such-model";
    let app = Setup::default().with("MODEL_MAP", map).with("QWEN_API_KEYS", &keys.join(",")).start(simulator).await;
    let mut body = ask("echo: x");
    body["model"] = json!("claude-sonnet-4-5");
    assert_eq!(text(&app.both(&body).await), "x");
    assert_eq!(app.asked().0["model"], "qwen3-max");
    assert!(app.count(&body).await > 0);
    body["model"] = json!("claude-key-1");
    assert_eq!(text(&app.both(&body).await), "x");
    assert_eq!(sent_to_key(&app)["model"], "qwen3.7-plus");
    // All dialects.
    body["model"] = json!("gpt-4o");
    let answer = json_of(app.chat(&body).await).await;
    assert_eq!((&answer["model"], &app.asked().0["model"]), (&json!("gpt-4o"), &json!("qwen3-vl-plus")));
    let response = json!({"model": "claude-x", "input": "echo: x"});
    assert_eq!(app.post("/v1/responses", &response).send().await.unwrap().status(), 200);
    assert_eq!(app.asked().0["model"], "qwen3-max");
    for model in ["gpt-4o-mini", "gone", "claude"] {
        body["model"] = json!(model);
        let (status, kind, message) = error_of(app.post("/v1/messages", &body).send().await.unwrap()).await;
        assert_eq!((status, kind.as_str()), (404, "not_found_error"), "{model}");
        assert!(message.contains(model), "{message}");
    }
    // Listed only when asked for.
    let listed = async |path: &str| {
        let list = json_of(app.get(path).send().await.unwrap()).await;
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let (usual, with_aliases) = (listed("/v1/models").await, listed("/v1/models?aliases=true").await);
    assert_eq!(with_aliases.strip_prefix(usual.as_slice()).unwrap(), ["claude-key*", "claude-*", "gpt-4o", "gone"]);
    assert_eq!(listed("/v1/models?aliases=false").await, usual);
    let found = json_of(app.get("/v1/models/claude-sonnet-4-5").send().await.unwrap()).await;
    assert_eq!(found["id"], "claude-sonnet-4-5");
}

#[tokio::test]
async fn a_name_of_another_maker_is_told_how_to_be_mapped() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = Setup::default().with("MODEL_MAP", "gone=no-such-model").start(simulator).await;
    let mut body = ask("echo: x");
    for (model, advice) in [
        ("claude-sonnet-4-5", Some("MODEL_MAP=claude-sonnet-4-5=qwen3")),
        ("gpt-4o", Some("MODEL_MAP=gpt-4o=qwen3")),
        // A slip of one of our names, and a name that is mapped already.
        ("qwen3-maxx", None),
        ("gone", None),
    ] {
        body["model"] = json!(model);
        let (status, _, message) = error_of(app.post("/v1/messages", &body).send().await.unwrap()).await;
        assert_eq!(status, 404, "{model}");
        assert_eq!(message.contains("can set MODEL_MAP="), advice.is_some(), "{message}");
        assert!(message.contains(advice.unwrap_or("GET /v1/models")), "{message}");
    }
}
