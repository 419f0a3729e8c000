//! Keys of callers: their names, and what each may use.

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Endpoint, Scenario};

use crate::support::app::{Setup, TestApp, json_of, question};

/// Answers a request of the caller with this key.
async fn post(app: &TestApp, key: &str, path: &str, body: &Value) -> reqwest::Response {
    let request = app.client.post(app.url(path)).bearer_auth(key).header("content-type", "application/json");
    request.body(body.to_string()).send().await.unwrap()
}

async fn get(app: &TestApp, key: &str, path: &str) -> reqwest::Response {
    app.client.get(app.url(path)).bearer_auth(key).send().await.unwrap()
}

#[tokio::test]
async fn a_key_that_gets_a_name_keeps_its_responses() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = Setup::default().with("API_KEY", "sk-one,sk-two").start(simulator).await;
    let asked = post(&app, "sk-two", "/v1/responses", &json!({"model": "qwen3-max", "input": "echo: x"})).await;
    let id = json_of(asked).await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/responses/{id}");
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().with("API_KEY", "phone=sk-two,laptop=sk-one").in_dir(state_dir).start(simulator).await;
    assert_eq!(json_of(get(&app, "sk-two", &path).await).await["id"], json!(id));
    assert_eq!(get(&app, "sk-one", &path).await.status(), 404, "the response of another key");
    assert_eq!(get(&app, "phone=sk-two", &path).await.status(), 401, "the name is no part of the key");
    let next = json!({"model": "qwen3-max", "input": "echo: y", "previous_response_id": id});
    assert_eq!(post(&app, "sk-two", "/v1/responses", &next).await.status(), 200);
}

#[tokio::test]
async fn a_key_may_be_limited_to_some_models() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let setup = Setup::default()
        .with("API_KEY", "laptop=sk-l,sk-all")
        .with("KEY_LIMITS", "laptop:models=qwen3-max|qwen3-vl-*")
        .with("MODEL_MAP", "gpt-4o=qwen3-max,gpt-3=qwen3-coder-plus")
        .with("DEFAULT_MODEL", "qwen3-max");
    let app = setup.start(simulator).await;
    let ask = async |key: &str, path: &str, model: &str| {
        let mut body = match path {
            "/v1/responses" => json!({"input": "echo: x"}),
            "/v1/completions" => json!({"prompt": "echo: x"}),
            "/v1/images/generations" => json!({"prompt": "a cat"}),
            "/v1/videos" => json!({"prompt": "a cat"}),
            "/v1/messages" => json!({"max_tokens": 9, "messages": question("echo: x")["messages"]}),
            _ => question("echo: x"),
        };
        match model {
            "" => drop(body.as_object_mut().unwrap().remove("model")),
            model => body["model"] = json!(model),
        }
        post(&app, key, path, &body).await
    };
    for (model, is_allowed) in [
        ("qwen3-max", true),
        ("web/qwen3-max", true),
        ("gpt-4o", true),
        ("", true),
        ("qwen3-vl-plus", true),
        ("qwen3-coder-plus", false),
        ("gpt-3", false),
        ("qwen3-max-thinking", false),
    ] {
        let answer = ask("sk-l", "/v1/chat/completions", model).await;
        assert_eq!(answer.status(), if is_allowed { 200 } else { 404 }, "{model:?}");
        assert_eq!(ask("sk-all", "/v1/chat/completions", model).await.status(), 200, "{model:?}");
    }
    let sent = app.simulator.record().requests_to(Endpoint::Completions).len();
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/images/generations",
        "/v1/videos",
    ] {
        let answer = ask("sk-l", path, "qwen3-coder-plus").await;
        assert_eq!(answer.status(), 404, "{path}");
        let error = json_of(answer).await["error"].clone();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("Your key 'laptop' may not use the model 'qwen3-coder-plus'"), "{path}: {message}");
    }
    assert_eq!(app.simulator.record().requests_to(Endpoint::Completions).len(), sent);
    // The list is of what may be used.
    let listed = async |key: &str, path: &str| -> Vec<String> {
        let list = json_of(get(&app, key, path).await).await;
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    let mine = listed("sk-l", "/v1/models?aliases=true").await;
    assert!(mine.iter().all(|id| id == "qwen3-max" || id.starts_with("qwen3-vl-") || id == "gpt-4o"), "{mine:?}");
    assert!(mine.iter().any(|id| id == "qwen3-max") && mine.iter().any(|id| id == "gpt-4o"), "{mine:?}");
    assert!(listed("sk-all", "/v1/models").await.len() > mine.len());
    assert_eq!(get(&app, "sk-l", "/v1/models/qwen3-coder-plus").await.status(), 404);
    assert_eq!(get(&app, "sk-l", "/v1/models/qwen3-max").await.status(), 200);
    assert_eq!(get(&app, "sk-all", "/v1/models/qwen3-coder-plus").await.status(), 200);
}
