//! How often one caller may ask. The passing of time is tested beside the code; here is what callers see.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::{Method, Response};
use serde_json::json;
use simulator::Simulator;
use simulator::script::Scenario;

use crate::support::app::{KEY, Setup, TestApp, error_of, question};

/// A rate so low that nothing comes back while a test runs.
async fn started(setup: Setup) -> TestApp {
    let setup = setup.with("RATE_LIMIT_RPS", "0.001").with("RATE_LIMIT_BURST", "3");
    setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await
}

fn number(response: &Response, name: &str) -> u64 {
    response.headers()[name].to_str().unwrap().parse().unwrap()
}

// S004-29, S004-30, S004-31, S004-32
#[tokio::test]
async fn a_burst_and_then_429() {
    let app = started(Setup::default()).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let stream = json!({"messages": [{"role": "user", "content": "echo: x"}], "stream": true});
    for (request, status, remaining) in [
        (app.get("/v1/models"), 200, 2),
        (app.post("/v1/chat/completions", &stream), 200, 1),
        // Faults count too: they are requests.
        (app.post("/v1/chat/completions", &json!({})), 400, 0),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(
            (number(&response, "x-ratelimit-limit"), number(&response, "x-ratelimit-remaining")),
            (3, remaining)
        );
        let reset = number(&response, "x-ratelimit-reset");
        // A thousand seconds for each that is missing.
        assert!((now + (3 - remaining) * 1000..now + (3 - remaining) * 1000 + 30).contains(&reset), "{reset} {now}");
        response.bytes().await.unwrap();
    }
    let turns = app.turns();
    let response = app.chat(&question("x")).await;
    assert_eq!(response.status(), 429);
    assert!((990..=1000).contains(&number(&response, "retry-after")));
    assert_eq!(number(&response, "x-ratelimit-remaining"), 0);
    // Too long to sleep through.
    assert_eq!(response.headers()["x-should-retry"], "false");
    let error = error_of(response).await;
    assert_eq!((&error["type"], &error["code"]), (&json!("rate_limit_error"), &json!("rate_limit_exceeded")));
    assert!(error["message"].as_str().unwrap().starts_with("Rate limit exceeded"));
    assert!(error["param"].is_null());
    assert_eq!(app.turns(), turns);
    // What is not under /v1/ goes on, and says nothing of limits.
    for path in ["/", "/health"] {
        let response = app.client.get(app.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("x-ratelimit-limit"));
    }
    for headers in [vec![("origin", "https://page.example"), ("access-control-request-method", "POST")], vec![]] {
        let mut request = app.client.request(Method::OPTIONS, app.url("/v1/models")).bearer_auth(KEY);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        assert_ne!(request.send().await.unwrap().status(), 429);
    }
}

// S004-29
#[tokio::test]
async fn each_key_has_its_own_burst() {
    let app = started(Setup::default().with("API_KEY", "sk-of-the-first-one,sk-of-the-second-one")).await;
    let get = |key: &str| app.client.get(app.url("/v1/models")).bearer_auth(key).send();
    // Wrong keys count for the address that they come from, and take nothing from a key.
    for (status, remaining) in [(401, 2), (401, 1), (401, 0), (429, 0), (429, 0)] {
        let response = get("wrong").await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(number(&response, "x-ratelimit-remaining"), remaining);
    }
    for key in ["sk-of-the-first-one", "sk-of-the-second-one"] {
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(get(key).await.unwrap().status().as_u16());
        }
        assert_eq!(statuses, [200, 200, 200, 429], "{key}");
    }
}

#[tokio::test]
async fn whatever_is_refused_counts_for_its_address() {
    let admin = "sk-of-the-owner";
    let app = started(Setup::default().with("ADMIN_SECRET_KEY", admin).with("DEBUG_MODE", "true")).await;
    // No key at all, a caller's key on a route of the owner, a wrong one.
    let refused = || {
        [
            app.client.get(app.url("/v1/models")),
            app.client.get(app.url("/v1/debug/token")).bearer_auth(KEY),
            app.client.post(app.url("/v1/chat/completions")).header("x-api-key", "wrong"),
        ]
    };
    for request in refused() {
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    for request in refused() {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 429);
        assert!((990..=1000).contains(&number(&response, "retry-after")));
        assert_eq!(error_of(response).await["code"], "rate_limit_exceeded");
    }
    assert_eq!(app.get("/v1/models").send().await.unwrap().status(), 200);

    // In client mode, a credential that is none.
    let app = started(Setup::default().without("API_KEY").with("SERVER_MODE", "false")).await;
    for status in [401, 401, 401, 429] {
        let request = app.client.get(app.url("/v1/models")).bearer_auth("a b;c");
        assert_eq!(request.send().await.unwrap().status(), status);
    }
}

// S004-33
#[tokio::test]
async fn addresses_are_believed_from_proxies_only() {
    for (proxies, expected) in [(None, [200, 200, 200, 429]), (Some("127.0.0.0/8"), [200; 4])] {
        let mut setup = Setup::default().without("API_KEY");
        if let Some(proxies) = proxies {
            setup = setup.with("TRUSTED_PROXIES", proxies);
        }
        let app = started(setup).await;
        let mut statuses = Vec::new();
        for place in 1..=4 {
            let request = app.client.get(app.url("/v1/models")).header("x-forwarded-for", format!("192.0.2.{place}"));
            statuses.push(request.send().await.unwrap().status().as_u16());
        }
        assert_eq!(statuses, expected, "{proxies:?}");
    }
}

#[tokio::test]
async fn without_a_setting_there_is_no_limit() {
    let app = TestApp::quick().await;
    for _ in 0..30 {
        let response = app.get("/v1/models").header("origin", "https://page.example").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("x-ratelimit-limit"));
        let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap().to_ascii_lowercase();
        assert!(["limit", "remaining", "reset"].iter().all(|word| exposed.contains(&format!("x-ratelimit-{word}"))));
    }
}
