//! What people and monitors look at, and the headers of every answer.

use std::collections::HashSet;

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{AccountScript, Endpoint, Era, Scenario, ScriptedReply};

use crate::support::app::{KEY, Setup, TestApp, error_of, json_of, question};

fn keys(value: &Value) -> HashSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect()
}

async fn health(app: &TestApp) -> Value {
    let response = app.client.get(app.url("/health")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    json_of(response).await
}

async fn with_accounts(accounts: Vec<AccountScript>) -> TestApp {
    Setup::default().start(Simulator::start(Scenario::with_accounts(accounts)).await.unwrap()).await
}

#[tokio::test]
async fn health_has_the_keys_that_monitors_know() {
    let app = with_accounts(vec![AccountScript::new("ada", Era::A)]).await;
    let health = health(&app).await;
    assert_eq!(
        keys(&health),
        HashSet::from([
            "status",
            "service",
            "timestamp",
            "version",
            "config",
            "token",
            "identityPool",
            "upstream",
            "storage"
        ])
    );
    assert_eq!(health["storage"], json!({"state": "disk", "cause": null, "waiting": 0, "lost": 0}));
    assert_eq!((&health["status"], &health["service"]), (&json!("OK"), &json!("qwen-bridge")));
    assert!(health["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(
        health["config"],
        json!({"apiKeyEnabled": true, "serverMode": true, "debugMode": false, "autoRefreshToken": true})
    );
    let token = &health["token"];
    assert_eq!(
        keys(token),
        HashSet::from(["valid", "expired", "remainingTime", "formattedTime", "needsRefresh", "reason"])
    );
    assert_eq!((&token["valid"], &token["expired"]), (&json!(true), &json!(false)));
    // Milliseconds of a token that lasts thirty days.
    assert!(token["remainingTime"].as_u64().unwrap() > 29 * 86_400_000);
    let formatted = token["formattedTime"].as_str().unwrap();
    assert!(formatted.starts_with("29 days") || formatted == "30 days 0 hours", "{token}");
    assert_eq!(token["needsRefresh"], false);
    assert_eq!(
        health["identityPool"],
        json!({"total": 1, "healthy": 1, "degraded": 0, "down": 0, "initialized": true})
    );
    let text = health.to_string();
    assert!(app.simulator.record().secrets().iter().all(|secret| !text.contains(secret)) && !text.contains(KEY));
}

#[tokio::test]
async fn health_is_well_without_any_account() {
    let app = with_accounts(Vec::new()).await;
    let health = health(&app).await;
    assert_eq!(
        health["token"],
        json!({
            "valid": false, "expired": false, "remainingTime": 0, "formattedTime": "N/A", "needsRefresh": true,
            "reason": "no token yet",
        })
    );
    assert_eq!(
        health["identityPool"],
        json!({"total": 0, "healthy": 0, "degraded": 0, "down": 0, "initialized": false})
    );
    let response = app.chat(&question("x")).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["x-should-retry"], "false");
    let error = error_of(response).await;
    assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("no_available_account")));
}

#[tokio::test]
async fn health_says_how_the_server_is_set_up() {
    let setup = Setup::default()
        .without("API_KEY")
        .with("DEBUG_MODE", "true")
        .with("AUTO_REFRESH_TOKEN", "false")
        .with("SERVER_MODE", "false");
    let app = setup.start(Simulator::start(Scenario::default()).await.unwrap()).await;
    assert_eq!(
        health(&app).await["config"],
        json!({"apiKeyEnabled": false, "serverMode": false, "debugMode": true, "autoRefreshToken": false})
    );
}

#[tokio::test]
async fn health_does_not_call_the_upstream() {
    let app = with_accounts(vec![AccountScript::new("ada", Era::A)]).await;
    // The catalogue is fetched once at the start; after that nothing is owed.
    assert_eq!(app.get("/v1/models").send().await.unwrap().status(), 200);
    let requests = app.simulator.record().requests().len();
    for _ in 0..5 {
        health(&app).await;
        app.client.get(app.url("/")).send().await.unwrap();
    }
    let made: Vec<_> =
        app.simulator.record().requests().into_iter().skip(requests).map(|request| request.endpoint).collect();
    // The janitor may look for old chats of its own at any time.
    assert!(made.iter().all(|endpoint| *endpoint == Some(Endpoint::ListChats)), "{made:?}");
}

#[tokio::test]
async fn the_front_page_is_json_unless_a_browser_asks() {
    let app = TestApp::quick().await;
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (accept, is_html) in [
        (None, false),
        (Some("*/*"), false),
        (Some("application/json"), false),
        (Some("application/json, text/html"), false),
        (Some(browser), true),
        (Some("TEXT/HTML"), true),
    ] {
        let mut request = app.client.get(app.url("/"));
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        if !is_html {
            assert_eq!(content_type, "application/json", "{accept:?}");
            let body = json_of(response).await;
            assert_eq!(keys(&body), HashSet::from(["name", "version", "message", "endpoints", "authentication"]));
            assert_eq!(body["name"], "qwen-bridge");
            assert_eq!(body["authentication"]["required"], true);
            assert_eq!(body["endpoints"]["chat_completions"], "POST /v1/chat/completions");
            assert_eq!(body["endpoints"]["responses"], "POST /v1/responses");
            continue;
        }
        assert!(content_type.starts_with("text/html"), "{accept:?}");
        assert!(response.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
        let page = response.text().await.unwrap();
        // The page needs nothing from elsewhere.
        for outside in ["http://", "https://", "//", "@import", "<style", "style=", "onclick", "{{"] {
            assert!(!page.contains(outside), "{outside} in {page}");
        }
        assert!(page.contains("2 of 2 accounts ready") && !page.contains(KEY), "{page}");
    }
}

#[tokio::test]
async fn every_answer_has_the_headers_of_a_careful_server() {
    let app = TestApp::quick().await;
    let mut stream = question("echo: x");
    stream["stream"] = json!(true);
    let mut ids = HashSet::new();
    for request in [
        app.get("/"),
        app.get("/health"),
        app.get("/v1/models"),
        app.get("/nowhere"),
        app.client.get(app.url("/v1/models")),
        app.post("/v1/chat/completions", &question("echo: x")),
        app.post("/v1/chat/completions", &stream),
        app.post("/v1/chat/completions", &json!([])),
        app.post("/v1/chat/completions", &json!({})).header("content-type", "text/plain"),
        app.post("/v1/models", &json!({})),
        app.client.head(app.url("/health")),
        app.client.request(reqwest::Method::OPTIONS, app.url("/v1/models")),
    ] {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers());
        assert_eq!(headers["x-content-type-options"], "nosniff", "{status}");
        assert_eq!(headers["x-frame-options"], "DENY", "{status}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{status}");
        assert!(!headers.contains_key("strict-transport-security"), "{status}");
        assert!(!headers.contains_key("server") && !headers.contains_key("x-powered-by"));
        assert!(ids.insert(headers["x-request-id"].to_str().unwrap().to_owned()), "an id came twice");
    }
}

#[tokio::test]
async fn transport_security_is_promised_behind_a_trusted_proxy_only() {
    for (networks, proto, is_promised) in [
        ("127.0.0.0/8", Some("https"), true),
        ("127.0.0.0/8", Some("http"), false),
        ("127.0.0.0/8", None, false),
        ("10.0.0.0/8", Some("https"), false),
    ] {
        let setup = Setup::default().with("TRUSTED_PROXIES", networks);
        let app = setup.start(Simulator::start(Scenario::default()).await.unwrap()).await;
        let mut request = app.get("/health");
        if let Some(proto) = proto {
            request = request.header("x-forwarded-proto", proto);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers().contains_key("strict-transport-security"), is_promised, "{networks} {proto:?}");
    }
}

#[tokio::test]
async fn a_callers_request_id_is_kept_if_it_is_plain() {
    let app = TestApp::quick().await;
    let long = "x".repeat(129);
    let longest = "x".repeat(128);
    for (offered, is_kept) in [
        ("abc-123_X.y:z", true),
        (longest.as_str(), true),
        (&long, false),
        ("", false),
        ("two words", false),
        ("a\tb", false),
        ("<script>", false),
        ("ü", false),
        ("a,b", false),
    ] {
        for path in ["/health", "/v1/models", "/nowhere"] {
            let response = app.get(path).header("x-request-id", offered.as_bytes()).send().await.unwrap();
            let id = response.headers()["x-request-id"].to_str().unwrap();
            assert_eq!(id == offered, is_kept, "{offered}");
            assert!(is_kept || uuid::Uuid::parse_str(id).is_ok(), "{offered} became {id}");
        }
    }
}

#[tokio::test]
async fn a_refresh_renews_every_account() {
    let app = TestApp::quick().await;
    assert_eq!(app.client.post(app.url("/refresh-token")).send().await.unwrap().status(), 401);
    let response = app.post("/refresh-token", &json!({})).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let body = json_of(response).await;
    assert_eq!(keys(&body), HashSet::from(["success", "message", "timestamp", "token", "identities"]));
    assert_eq!(body["success"], true);
    assert_eq!(body["token"]["valid"], true);
    assert!(keys(&body["token"]).is_superset(&HashSet::from(["valid", "remainingTime", "formattedTime"])));
    let identities = body["identities"].as_array().unwrap();
    assert_eq!(identities.len(), 2);
    assert!(identities.iter().all(|identity| identity["success"] == true && identity["id"].is_string()), "{body}");
    let text = body.to_string();
    assert!(app.simulator.record().secrets().iter().all(|secret| !text.contains(secret)));
    app.assert_clean();
}

#[tokio::test]
async fn ready_while_an_account_can_answer() {
    async fn ready(app: &TestApp) -> (u16, Value) {
        let response = app.client.get(app.url("/ready")).send().await.unwrap();
        (response.status().as_u16(), json_of(response).await)
    }
    let app = with_accounts(vec![AccountScript::new("ada", Era::A)]).await;
    let accounts = json!({"total": 1, "usable": 1});
    assert_eq!(ready(&app).await, (200, json!({"ready": true, "reason": null, "accounts": accounts})));
    assert_eq!(app.client.head(app.url("/ready")).send().await.unwrap().status(), 200);
    assert_eq!(app.client.post(app.url("/ready")).send().await.unwrap().status(), 405);

    app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::status(503)));
    for _ in 0..20 {
        app.chat(&question("x")).await;
    }
    let accounts = json!({"total": 1, "usable": 0});
    assert_eq!(ready(&app).await, (503, json!({"ready": false, "reason": "no_usable_account", "accounts": accounts})));

    // An account that is only degraded may be unable to answer as well.
    let refused = AccountScript { revoked: true, ..AccountScript::new("ada", Era::B) };
    let app = with_accounts(vec![refused]).await;
    error_of(app.chat(&question("x")).await).await;
    assert_eq!(ready(&app).await, (503, json!({"ready": false, "reason": "no_usable_account", "accounts": accounts})));

    let app = with_accounts(Vec::new()).await;
    let none = json!({"total": 0, "usable": 0});
    assert_eq!(ready(&app).await, (503, json!({"ready": false, "reason": "no_account", "accounts": none})));
    let simulator = Simulator::start(Scenario::with_accounts(vec![AccountScript::new("ada", Era::A)])).await.unwrap();
    let app = Setup::default().with("SERVER_MODE", "false").start(simulator).await;
    assert_eq!(ready(&app).await.0, 200, "callers bring their accounts");
}

#[tokio::test]
async fn a_refresh_that_fails_says_so() {
    let revoked = |name, era| AccountScript { revoked: true, ..AccountScript::new(name, era) };
    for accounts in [vec![revoked("ada", Era::A), revoked("bob", Era::B)], Vec::new()] {
        let app = with_accounts(accounts.clone()).await;
        let response = app.post("/refresh-token", &json!({})).send().await.unwrap();
        assert_eq!(response.status(), 500);
        let body = json_of(response).await;
        assert!(keys(&body).is_superset(&HashSet::from(["success", "message", "error", "timestamp"])));
        assert_eq!(body["success"], false);
        assert!(body["error"].is_string());
        assert_eq!(body["identities"].as_array().unwrap().len(), accounts.len());
        let text = body.to_string();
        assert!(app.simulator.record().secrets().iter().all(|secret| !text.contains(secret)));
    }
}

#[tokio::test]
async fn a_refresh_of_some_is_a_success() {
    let revoked = AccountScript { revoked: true, ..AccountScript::new("bob", Era::B) };
    let app = with_accounts(vec![AccountScript::new("ada", Era::A), revoked]).await;
    let response = app.post("/refresh-token", &json!({})).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let body = json_of(response).await;
    let successes: Vec<_> = body["identities"].as_array().unwrap().iter().map(|one| one["success"].clone()).collect();
    assert_eq!(successes, [json!(true), json!(false)]);
}
