//! `GET /admin/requests` and `/admin/events`: what happened to a request, without anything that it says.

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Endpoint, ErrorScript, ScriptedReply};

use crate::support::app::{PATIENCE, Setup, TestApp, json_of, question, spawn};
use crate::support::oracle::crew;

const ADMIN_KEY: &str = "sk-of-the-owner";

async fn started(accounts: usize) -> TestApp {
    Setup::default().with("ADMIN_SECRET_KEY", ADMIN_KEY).start(Simulator::start(crew(accounts)).await.unwrap()).await
}

async fn look(app: &TestApp, path: &str) -> Response {
    app.client.get(app.url(path)).bearer_auth(ADMIN_KEY).send().await.unwrap()
}

/// The list, once this many requests have ended: the record is closed just after the caller has the last byte.
async fn recent(app: &TestApp, count: usize) -> Vec<Value> {
    let listed = async {
        loop {
            let list = json_of(look(app, "/admin/requests").await).await;
            let recent = list["recent"].as_array().unwrap();
            if recent.len() >= count {
                return recent.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, listed).await.expect("the requests are listed")
}

fn steps(explained: &Value) -> Vec<&str> {
    explained["timeline"].as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_answered_request_is_told_with_its_account_and_tokens() {
    let app = started(2).await;
    let mut body = question("echo: a secret question");
    body["temperature"] = json!(0.3);
    let answer = app.post("/v1/chat/completions", &body).header("x-request-id", "mine-1").send().await.unwrap();
    let usage = json_of(answer).await["usage"].clone();
    let requests = recent(&app, 1).await;
    let request = &requests[0];
    for (name, expected) in [
        ("id", json!("mine-1")),
        ("route", json!("/v1/chat/completions")),
        ("key", json!("key-1")),
        ("asked_for", json!("answer")),
        ("account", json!("identity-1")),
        ("kind", json!("web")),
        ("stream", json!(false)),
        ("status", json!(200)),
        ("outcome", json!("ok")),
        ("attempts", json!(1)),
        ("prompt_tokens", usage["prompt_tokens"].clone()),
        ("completion_tokens", usage["completion_tokens"].clone()),
    ] {
        assert_eq!(request[name], expected, "{name} of {request}");
    }
    assert!(request["first_token_ms"].as_u64() <= request["total_ms"].as_u64(), "{request}");
    let text = look(&app, "/admin/requests/mine-1").await.text().await.unwrap();
    assert!(!text.contains("secret question"), "{text}");
    let explained: Value = serde_json::from_str(&text).unwrap();
    assert!(steps(&explained).starts_with(&["chosen"]), "{explained}");
    assert!(steps(&explained).ends_with(&["first_content"]) || steps(&explained).ends_with(&["answered"]));
    assert_eq!(explained["notes"][0], json!({"name": "ignored", "value": "temperature"}));
}

#[tokio::test]
async fn a_failover_is_told_step_by_step() {
    let app = started(3).await;
    let busy = ErrorScript { code: "RateLimited".to_owned(), num: Some(2), ..ErrorScript::default() };
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::error_with(busy));
    let response = app.post("/v1/chat/completions", &question("echo: x")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    // The first account rests now, and the next request passes it over.
    app.ask("echo: y").await;
    let requests = recent(&app, 2).await;
    let id = requests[1]["id"].as_str().unwrap();
    let explained = json_of(look(&app, &format!("/admin/requests/{id}")).await).await;
    let failed = explained["timeline"].as_array().unwrap().iter().find(|entry| entry["what"] == "failed").unwrap();
    assert_eq!(
        (&failed["account"], &failed["class"], &failed["next"], &failed["asked"]),
        (&json!("identity-1"), &json!("quota_exhausted"), &json!("next_identity"), &json!(true))
    );
    assert_eq!((&requests[1]["attempts"], &requests[1]["account"]), (&json!(2), &json!("identity-2")));
    assert!(requests[1]["advice"]["en"].as_str().unwrap().contains("another attempt"), "{}", requests[1]);
    let id = requests[0]["id"].as_str().unwrap();
    let explained = json_of(look(&app, &format!("/admin/requests/{id}")).await).await;
    let passed = &explained["timeline"][0];
    assert_eq!(
        (&passed["what"], &passed["account"], &passed["reason"]),
        (&json!("passed_over"), &json!("identity-1"), &json!("quota_exhausted"))
    );
}

#[tokio::test]
async fn refused_requests_are_told_under_the_id_in_their_error() {
    let app = started(1).await;
    let wrong_key =
        app.client.post(app.url("/v1/chat/completions")).bearer_auth("wrong").body("{}").send().await.unwrap();
    assert_eq!(wrong_key.status(), 401);
    let error = json_of(wrong_key).await;
    let id =
        error["error"]["request_id"].as_str().or(error["request_id"].as_str()).expect("the error names it").to_owned();
    let broken = app.post("/v1/messages", &json!("x")).body("{").send().await.unwrap();
    assert_eq!(broken.status(), 400);
    // What asks no model is not kept.
    assert_eq!(app.get("/v1/models").send().await.unwrap().status(), 200);
    let requests = recent(&app, 2).await;
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert_eq!((&requests[1]["id"], &requests[1]["outcome"]), (&json!(id), &json!("invalid_api_key")));
    assert_eq!((&requests[1]["key"], &requests[1]["account"]), (&Value::Null, &Value::Null));
    assert_eq!((&requests[0]["outcome"], &requests[0]["key"]), (&json!("invalid_json"), &json!("key-1")));
    let failed = json_of(look(&app, "/admin/requests?class=failed&key=key-1").await).await;
    assert_eq!(failed["recent"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn wrong_questions_get_plain_words() {
    let app = started(1).await;
    for (path, status, code) in [
        ("/admin/requests?limit=0", 400, "invalid_value"),
        ("/admin/requests?limit=many", 400, "invalid_value"),
        ("/admin/requests?colour=red", 400, "invalid_value"),
        ("/admin/requests/never-made", 404, "request_not_found"),
    ] {
        let response = look(&app, path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(json_of(response).await["error"]["code"], code, "{path}");
    }
    let response = app.get("/admin/requests").send().await.unwrap();
    assert_eq!(response.status(), 401, "a caller is no owner");
}

#[tokio::test]
async fn who_looks_on_hears_of_a_request_when_it_begins_and_when_it_ends() {
    let app = started(1).await;
    let mut events = look(&app, "/admin/events").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let silent = ScriptedReply::default().with_stream(|stream| stream.first_event_ms = 600_000);
    app.simulator.script().set_default(None, Endpoint::Completions, Some(silent));
    let asking = app.post("/v1/chat/completions", &question("echo: x")).header("x-request-id", "seen").send();
    let asking = spawn(asking);
    let mut heard = String::new();
    while !heard.contains("qwen3-max") {
        let chunk = tokio::time::timeout(PATIENCE, events.chunk()).await.unwrap().unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(heard.contains("event: request") && heard.contains("\"outcome\":\"open\""), "{heard}");
    let open = json_of(look(&app, "/admin/requests").await).await;
    assert_eq!((&open["open"][0]["id"], &open["open"][0]["status"]), (&json!("seen"), &Value::Null));
    assert_eq!(json_of(look(&app, "/admin/requests/seen").await).await["outcome"], "open");
    asking.abort();
    while !heard.contains("\"outcome\":\"caller_left\"") {
        let chunk = tokio::time::timeout(PATIENCE, events.chunk()).await.unwrap().unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    recent(&app, 1).await;
    assert_eq!(json_of(look(&app, "/admin/requests").await).await["open"], json!([]));
}

#[tokio::test]
async fn who_looks_on_hears_of_accounts_when_they_change() {
    let app = started(2).await;
    let mut events = look(&app, "/admin/events").await;
    let mut heard = String::new();
    while !heard.contains("\"healthy\":2") {
        let chunk = tokio::time::timeout(PATIENCE, events.chunk()).await.unwrap().unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(heard.contains("event: accounts"), "{heard}");
    let busy = ErrorScript { code: "RateLimited".to_owned(), num: Some(2), ..ErrorScript::default() };
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::error_with(busy));
    app.ask("echo: x").await;
    while !heard.contains("\"reason\":\"quota_exhausted\"") {
        let chunk = tokio::time::timeout(PATIENCE, events.chunk()).await.unwrap().unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[tokio::test]
async fn a_caller_who_leaves_is_told_apart_and_paid_for() {
    let app = started(1).await;
    let mut body = question("count to a thousand");
    body["stream"] = json!(true);
    let stall = ScriptedReply::numbered(60).pausing(8, Duration::from_secs(600));
    app.simulator.script().set_default(None, Endpoint::Completions, Some(stall));
    let mut response = app.post("/v1/chat/completions", &body).send().await.unwrap();
    let mut heard = String::new();
    while !heard.contains("content\":\"") {
        heard.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
    }
    drop(response);
    let request = recent(&app, 1).await.remove(0);
    assert_eq!((&request["outcome"], &request["stream"]), (&json!("caller_left"), &json!(true)));
    assert!(request["completion_tokens"].as_u64().unwrap() > 0, "{request}");
}
