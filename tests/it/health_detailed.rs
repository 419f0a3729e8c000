//! `GET /health/detailed`: metrics, for callers with a key.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Endpoint, Inserted, Scenario, ScriptedReply};

use crate::support::app::{KEY, PATIENCE, Setup, TestApp, json_of, question, with_keys};

const PATH: &str = "/health/detailed";

async fn detailed(app: &TestApp) -> Value {
    let response = app.get(PATH).send().await.unwrap();
    assert_eq!(response.status(), 200);
    json_of(response).await
}

// S004-15
#[tokio::test]
async fn it_has_the_shape_that_monitors_know() {
    let app = with_keys(Scenario::default()).await;
    assert_eq!(app.client.get(app.url(PATH)).send().await.unwrap().status(), 401);
    let health = detailed(&app).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(health["status"], "healthy");
    assert!((now - 30..=now).contains(&health["timestamp"].as_u64().unwrap()), "{health}");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["uptime"].as_str().unwrap().ends_with('s'));
    let config = json!({"debug_mode": false, "log_level": "info", "server_host": "127.0.0.1", "server_port": 0});
    assert_eq!(health["config"], config);
    assert_eq!(health["auth_status"], "authenticated");
    let info: HashSet<&str> = health["auth_info"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(info, HashSet::from(["token_type", "expiry_date", "resource_url", "has_token", "is_expired"]));
    assert_eq!(health["auth_info"]["is_expired"], false);
    assert!(health.get("auth_error").is_none());
    let text = health.to_string();
    assert!(app.simulator.record().secrets().iter().all(|secret| !text.contains(secret)) && !text.contains(KEY));
}

// S004-16
#[tokio::test]
async fn it_counts() {
    let app = with_keys(Scenario::default()).await;
    let unknown = Inserted::UnknownPhase { phase: "Daydream".to_owned(), content: "hm".to_owned(), tool: false };
    let reply = ScriptedReply::answer("x").inserting(1, unknown);
    app.simulator.script().queue(None, Endpoint::Completions, reply);
    app.ask("x").await;
    app.chat(&json!({})).await;
    app.simulator.script().queue(
        None,
        Endpoint::Completions,
        ScriptedReply::numbered(50).paced(Duration::from_millis(200)),
    );
    let mut body = question("x");
    body["stream"] = json!(true);
    let stream = app.chat(&body).await;
    let health = detailed(&app).await;
    assert_eq!(health["streams"]["open"], 1, "{health}");
    assert_eq!(health["identity_pool"]["web"]["total"], 2);
    assert_eq!(health["identity_pool"]["web"]["in_flight"], 1);
    assert_eq!(health["identity_pool"]["key"]["healthy"], 1);
    assert_eq!(health["upstreams"]["web"], json!({"state": "ok", "paused_until": null}));
    let requests = &health["requests"];
    // The stream, and this look itself.
    assert_eq!((&requests["total"], &requests["open"]), (&json!(4), &json!(2)), "{health}");
    assert_eq!((&requests["by_status"]["2xx"], &requests["by_status"]["4xx"]), (&json!(1), &json!(1)));
    assert_eq!(health["drift"], json!({"web": {"Daydream": 1}, "key": {}}));
    if cfg!(target_os = "linux") {
        assert!(health["memory"]["rss_bytes"].as_u64().unwrap() > 1_000_000);
    }
    drop(stream);
    let deadline = Instant::now() + PATIENCE;
    while detailed(&app).await["streams"]["open"] != 0 {
        assert!(Instant::now() < deadline, "the stream is still counted as open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// S004-15
#[tokio::test]
async fn without_an_account_it_says_so() {
    let simulator = Simulator::start(Scenario::default()).await.unwrap();
    let app = Setup::default().without("COOKIE").start(simulator).await;
    let health = detailed(&app).await;
    assert_eq!((&health["status"], &health["auth_status"]), (&json!("healthy"), &json!("unauthenticated")));
    assert_eq!(health["auth_error"], "no account is configured");
    assert!(health.get("auth_info").is_none());
    assert_eq!(health["upstreams"]["key"]["state"], "not_configured");
}
