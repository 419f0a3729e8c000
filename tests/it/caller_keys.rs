//! Keys of callers: their names, and what each may use.

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Endpoint, Scenario};

use crate::support::app::{Setup, TestApp, json_of, on_one_day, question};
use crate::support::files::{image_part, with_parts};

const ADMIN_KEY: &str = "sk-of-the-owner";

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

#[tokio::test]
async fn a_key_gets_no_answer_of_a_model_that_it_may_not_use() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let setup = Setup::default()
        .with("API_KEY", "coder=sk-c,both=sk-b,sk-all")
        .with("KEY_LIMITS", "coder:models=qwen3-coder-*;both:models=qwen3-coder-*|qwen3-vl-plus");
    let app = setup.start(simulator).await;
    let picture = image_part(1)["image_url"]["url"].as_str().unwrap().to_owned();
    let model = "qwen3-coder-plus";
    let source = picture.split_once(',').unwrap().1;
    let of_anthropic = json!([
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": source}},
        {"type": "text", "text": "What is it?"},
    ]);
    let of_responses =
        json!([{"type": "input_image", "image_url": picture}, {"type": "input_text", "text": "What is it?"}]);
    let requests = [
        ("/v1/chat/completions", with_parts(model, "What is it?", vec![image_part(1)])),
        ("/v1/responses", json!({"model": model, "input": [{"role": "user", "content": of_responses}]})),
        (
            "/v1/messages",
            json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": of_anthropic}]}),
        ),
    ];
    for (path, body) in &requests {
        let refused = post(&app, "sk-c", path, body).await;
        assert_eq!(refused.status(), 400, "{path}");
        let message = json_of(refused).await["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("your key may not use the model 'qwen3-vl-plus'"), "{path}: {message}");
    }
    assert_eq!(app.turns(), 0);
    for (path, body) in &requests {
        for key in ["sk-b", "sk-all"] {
            let answer = post(&app, key, path, body).await;
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.headers()["x-bridge-fallback-model"], "qwen3-vl-plus", "{path}");
        }
    }
    // Text needs no other model.
    let text = with_parts(model, "Hi", vec![]);
    assert_eq!(post(&app, "sk-c", "/v1/chat/completions", &text).await.status(), 200);
}

/// A call of the owner.
async fn owner(app: &TestApp, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = app.client.request(method.parse().unwrap(), app.url(path)).bearer_auth(ADMIN_KEY);
    let answer = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
    (answer.status().as_u16(), json_of(answer).await)
}

#[tokio::test]
async fn the_owner_makes_limits_and_revokes_keys_without_a_restart() {
    on_one_day().await;
    let setup = || Setup::default().with("ADMIN_SECRET_KEY", ADMIN_KEY).with("API_KEY", "laptop=sk-laptop");
    let app = setup().start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await;
    let wish = json!({"name": "phone", "limits": {"models": ["qwen3-max"]}});
    let (status, made) = owner(&app, "POST", "/admin/keys", wish.clone()).await;
    assert_eq!((status, &made["name"]), (201, &json!("phone")), "{made}");
    let key = made["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("sk-") && key.len() == 67, "256 bits in hex");
    // It works at once, within its limits.
    assert_eq!(post(&app, &key, "/v1/chat/completions", &question("echo: x")).await.status(), 200);
    assert_eq!(get(&app, &key, "/v1/models/qwen3-coder-plus").await.status(), 404);
    let (status, changed) =
        owner(&app, "PATCH", "/admin/keys/phone", json!({"limits": {"requests_per_day": 2, "models": []}})).await;
    assert_eq!((status, &changed["limits"]["requests_per_day"]), (200, &json!(2)), "{changed}");
    assert_eq!(get(&app, &key, "/v1/models/qwen3-coder-plus").await.status(), 200);
    assert_eq!(post(&app, &key, "/v1/chat/completions", &question("echo: x")).await.status(), 200);
    assert_eq!(post(&app, &key, "/v1/chat/completions", &question("echo: x")).await.status(), 429);
    let (_, list) = owner(&app, "GET", "/admin/keys", json!({})).await;
    let phone = &list["keys"][1];
    assert_eq!((&phone["name"], &phone["origin"]), (&json!("phone"), &json!("page")));
    assert!(phone["created_at"].is_i64() && phone["used_today"]["requests"] == 2, "{phone}");
    assert_eq!(phone["shown"], json!(format!("sk-…{}", key.chars().skip(63).collect::<String>())));
    assert!(!list.to_string().contains(&key));
    // What cannot be.
    for (method, path, body, expected) in [
        ("POST", "/admin/keys", wish, 409),
        ("POST", "/admin/keys", json!({"name": "laptop"}), 409),
        ("POST", "/admin/keys", json!({"name": "my phone"}), 400),
        ("POST", "/admin/keys", json!({"name": ""}), 400),
        ("POST", "/admin/keys", json!({}), 400),
        ("POST", "/admin/keys", json!(["phone"]), 400),
        ("POST", "/admin/keys", json!({"name": "x", "limits": {"requests": 5}}), 400),
        ("POST", "/admin/keys", json!({"name": "x", "limits": {"models": ["a*b"]}}), 400),
        ("PATCH", "/admin/keys/phone", json!({"limits": {"tokens_per_day": -1}}), 400),
        ("PATCH", "/admin/keys/phone", json!({"name": "tablet"}), 400),
        ("PATCH", "/admin/keys/laptop", json!({"limits": {}}), 409),
        ("DELETE", "/admin/keys/laptop", json!({}), 409),
        ("DELETE", "/admin/keys/tablet", json!({}), 404),
        ("PATCH", "/admin/keys/%ff", json!({"limits": {}}), 404),
    ] {
        let (status, answer) = owner(&app, method, path, body.clone()).await;
        assert_eq!(status, expected, "{method} {path} {body}: {answer}");
        assert!(answer["error"]["message"].is_string() && answer["request_id"].is_string(), "{answer}");
    }
    let stranger = app.client.post(app.url("/admin/keys")).bearer_auth(&key).body("{\"name\": \"x\"}");
    assert_eq!(stranger.send().await.unwrap().status(), 401, "a caller makes no keys");

    // It outlives a restart, and revoking ends it at once and for good.
    let (simulator, state_dir) = app.stop().await;
    let app = setup().in_dir(state_dir).start(simulator).await;
    assert_eq!(get(&app, &key, "/v1/models").await.status(), 200);
    assert_eq!(post(&app, &key, "/v1/chat/completions", &question("echo: x")).await.status(), 429, "as before");
    assert_eq!(owner(&app, "DELETE", "/admin/keys/phone", json!({})).await.0, 200);
    assert_eq!(get(&app, &key, "/v1/models").await.status(), 401);
    let (simulator, state_dir) = app.stop().await;
    let app = setup().in_dir(state_dir).start(simulator).await;
    assert_eq!(get(&app, &key, "/v1/models").await.status(), 401);
    assert_eq!(get(&app, "sk-laptop", "/v1/models").await.status(), 200);
}

#[tokio::test]
async fn the_first_key_ends_the_time_without_keys() {
    let setup = Setup::default().with("ADMIN_SECRET_KEY", ADMIN_KEY).without("API_KEY");
    let app = setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await;
    let open = async || app.client.get(app.url("/v1/models")).send().await.unwrap().status();
    assert_eq!(open().await, 200);
    let (_, made) = owner(&app, "POST", "/admin/keys", json!({"name": "phone"})).await;
    assert_eq!(open().await, 401);
    assert_eq!(get(&app, made["key"].as_str().unwrap(), "/v1/models").await.status(), 200);
    owner(&app, "DELETE", "/admin/keys/phone", json!({})).await;
    assert_eq!(open().await, 200);
}
