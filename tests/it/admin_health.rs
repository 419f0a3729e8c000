//! `GET /admin/health`: the owner's look at each account.

use std::collections::HashSet;

use reqwest::Response;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{AccountScript, ApiFailure, Endpoint, Era, Scenario, ScriptedFailure, ScriptedReply};

use crate::support::app::{KEY, Setup, TestApp, json_of, question};

const ADMIN_KEY: &str = "sk-of-the-owner";
const PATH: &str = "/admin/health";

/// Two web accounts and a static key.
async fn started() -> TestApp {
    let accounts = ["ada", "bob"].map(|name| AccountScript::new(name, Era::A));
    let simulator = Simulator::start(Scenario::with_accounts(accounts).paced_ms(0)).await.unwrap();
    let key = format!("{}@{}", simulator.keys().secret("kay"), simulator.urls().keys);
    Setup::default().with("ADMIN_SECRET_KEY", ADMIN_KEY).with("QWEN_API_KEYS", &key).start(simulator).await
}

async fn look(app: &TestApp, path: &str) -> Response {
    let response = app.client.get(app.url(path)).bearer_auth(ADMIN_KEY).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

async fn health(app: &TestApp, path: &str) -> Value {
    json_of(look(app, path).await).await
}

fn account(health: &Value, place: usize) -> &Value {
    &health["accounts"][place]
}

// S000-26, S000-27, S000-28
#[tokio::test]
async fn only_the_owner_gets_in() {
    let app = TestApp::quick().await;
    let response = app.get(PATH).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(json_of(response).await, json!({"error": "Admin endpoint not configured"}));
    let app = started().await;
    for (authorization, error) in [
        (None, "Missing Authorization header"),
        (Some(ADMIN_KEY.to_owned()), "Missing Authorization header"),
        (Some(format!("Basic {ADMIN_KEY}")), "Missing Authorization header"),
        (Some("Bearer ".to_owned()), "Missing Authorization header"),
        (Some("Bearer wrong".to_owned()), "Invalid admin key"),
        // A caller is no owner.
        (Some(format!("Bearer {KEY}")), "Invalid admin key"),
    ] {
        for path in [PATH, "/admin/settings", "/admin/nowhere"] {
            let mut request = app.client.get(app.url(path));
            if let Some(authorization) = &authorization {
                request = request.header("authorization", authorization);
            }
            let response = request.send().await.unwrap();
            assert_eq!((response.status().as_u16(), path), (401, path), "{authorization:?}");
            assert!(response.headers().contains_key("www-authenticate"));
            assert_eq!(json_of(response).await, json!({"error": error}), "{authorization:?}");
        }
    }
    // The owner's key opens nothing else, and the word is not case-sensitive.
    let response = app.client.get(app.url("/v1/models")).bearer_auth(ADMIN_KEY).send().await.unwrap();
    assert_eq!(response.status(), 401);
    let bearer = format!("bearer {ADMIN_KEY}");
    let response = app.client.get(app.url(PATH)).header("authorization", bearer).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(app.client.post(app.url(PATH)).bearer_auth(ADMIN_KEY).send().await.unwrap().status(), 405);
}

// S000-29, S000-30, S000-31
#[tokio::test]
async fn it_tells_what_is_known_and_asks_nobody() {
    let app = started().await;
    let before = app.simulator.record().requests_to(Endpoint::Settings).len();
    let health = health(&app, PATH).await;
    let keys: HashSet<&str> = health.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, HashSet::from(["summary", "accounts", "timestamp"]));
    assert!(health["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(
        health["summary"],
        json!({
            "total_accounts": 3, "healthy_accounts": 3, "failed_accounts": 0, "quota_exceeded_accounts": 0,
            "error_accounts": 0, "missing_credentials_accounts": 0, "failed_accounts_list": [],
        })
    );
    let web = account(&health, 0);
    let minutes = web["expiresIn"].as_str().unwrap().strip_suffix(" min").unwrap().parse::<u64>().unwrap();
    // A token that lasts thirty days.
    assert!((29 * 1440..=30 * 1440).contains(&minutes), "{web}");
    let expected = json!({
        "account": web["account"], "kind": "web", "status": "healthy", "expiresIn": web["expiresIn"], "error": null,
        "isFailed": false, "apiStatus": 200,
        "today": {"requests": 0, "promptTokens": 0, "completionTokens": 0, "cachedTokens": 0},
    });
    assert_eq!(web, &expected);
    let key = account(&health, 2);
    assert_eq!((&key["account"], &key["kind"], &key["expiresIn"]), (&json!("key-1"), &json!("key"), &json!("unknown")));
    assert_eq!(app.simulator.record().requests_to(Endpoint::Settings).len(), before);
    let text = health.to_string();
    assert!(app.simulator.record().secrets().iter().all(|secret| !text.contains(secret)) && !text.contains(ADMIN_KEY));
}

// S000-30, S000-36
#[tokio::test]
async fn an_account_without_quota_is_named() {
    let app = started().await;
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::error("RateLimited"));
    app.simulator.script().queue(Some("bob"), Endpoint::Completions, ScriptedReply::error("RateLimited"));
    app.chat(&question("x")).await;
    let health = health(&app, PATH).await;
    assert_eq!(health["summary"]["quota_exceeded_accounts"], 2, "{health}");
    assert_eq!(health["summary"]["healthy_accounts"], 1);
    let web = account(&health, 0);
    assert_eq!((&web["status"], &web["apiStatus"]), (&json!("quota_exceeded"), &json!(429)), "{web}");
    assert!(web["error"].is_string());
    // Pictures may still be made, but no chat goes there.
    assert_eq!((&web["isFailed"], &account(&health, 1)["isFailed"]), (&json!(true), &json!(true)), "{health}");
    let failed = health["accounts"].as_array().unwrap().iter().filter(|account| account["isFailed"] == true).count();
    assert_eq!(health["summary"]["failed_accounts"], failed);
    assert_eq!(health["summary"]["failed_accounts_list"].as_array().unwrap().len(), failed);
}

// S000-32, S000-33
#[tokio::test]
async fn a_probe_asks_and_marks_nobody() {
    let app = started().await;
    let asked = |endpoint| app.simulator.record().requests_to(endpoint).len();
    let (settings, models) = (asked(Endpoint::Settings), asked(Endpoint::KeyModels));
    let health = health(&app, "/admin/health?probe=1").await;
    assert_eq!(health["summary"]["healthy_accounts"], 3, "{health}");
    assert_eq!((asked(Endpoint::Settings), asked(Endpoint::KeyModels)), (settings + 2, models + 1));
    assert_eq!(app.turns(), 0, "a probe costs no quota");
    for _ in 0..6 {
        app.simulator.script().queue(Some("ada"), Endpoint::Settings, ScriptedReply::error("Unauthorized"));
        app.simulator.script().queue(Some("bob"), Endpoint::Settings, ScriptedReply::failing(ScriptedFailure::Reset));
        app.simulator.script().queue(None, Endpoint::KeyModels, ScriptedReply::api(ApiFailure::IncorrectKey));
        let health = self::health(&app, "/admin/health?probe=1").await;
        let found: Vec<_> = health["accounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|account| (account["status"].as_str().unwrap(), account["apiStatus"].as_u64().unwrap()))
            .collect();
        assert_eq!(found, [("error", 401), ("error", 0), ("error", 401)], "{health}");
        assert_eq!(health["summary"]["failed_accounts"], 0, "{health}");
        let text = health.to_string();
        assert!(app.simulator.record().secrets().iter().all(|secret| !text.contains(secret)), "{text}");
    }
    // Whatever the probes saw, the pool knows nothing of it.
    let health = self::health(&app, PATH).await;
    assert_eq!(health["summary"]["healthy_accounts"], 3, "{health}");
    app.assert_clean();
}

// S000-34
#[tokio::test]
async fn people_get_text_when_they_ask() {
    let app = started().await;
    for (path, accept, is_text) in [
        (PATH, None, false),
        (PATH, Some("*/*"), false),
        (PATH, Some("text/plain"), true),
        (PATH, Some("application/json, text/plain"), false),
        ("/admin/health?format=text", Some("application/json"), true),
        ("/admin/health?format=json", Some("text/plain"), false),
        ("/admin/health?format=%ff", None, false),
    ] {
        let mut request = app.client.get(app.url(path)).bearer_auth(ADMIN_KEY).header("user-agent", "curl/8.5.0");
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let text = response.text().await.unwrap();
        if is_text {
            assert!(content_type.starts_with("text/plain"), "{path} {accept:?}");
            assert!(text.contains("3 accounts, 3 healthy") && text.contains("key-1"), "{text}");
        } else {
            assert_eq!(content_type, "application/json", "{path} {accept:?}");
            assert!(text.starts_with('{'), "{text}");
        }
    }
}

// S000-06
#[tokio::test]
async fn it_tells_what_each_account_did_today() {
    let app = started().await;
    for model in ["qwen3-max", "key/qwen3.7-plus"] {
        let mut body = question("echo: x");
        body["model"] = json!(model);
        json_of(app.chat(&body).await).await;
    }
    let health = health(&app, PATH).await;
    let sum = |kind: &str, name: &str| -> u64 {
        let of_kind = health["accounts"].as_array().unwrap().iter().filter(|account| account["kind"] == kind);
        of_kind.map(|account| account["today"][name].as_u64().unwrap()).sum()
    };
    for kind in ["web", "key"] {
        assert_eq!(sum(kind, "requests"), 1, "{health}");
        assert!(sum(kind, "promptTokens") > 0 && sum(kind, "completionTokens") > 0, "{health}");
    }
    let response = app.client.get(app.url(PATH)).header("x-admin-key", ADMIN_KEY).send().await.unwrap();
    assert_eq!(response.status(), 200);
}
