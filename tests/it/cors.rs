//! Browsers: preflights, and the headers without which a page sees nothing.

use std::collections::HashSet;

use reqwest::{Method, Response};
use serde_json::json;
use simulator::Simulator;
use simulator::script::Scenario;

use crate::support::app::{Setup, TestApp, question};

const PAGE: &str = "https://page.example";

async fn started(setup: Setup) -> TestApp {
    setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await
}

async fn preflight(app: &TestApp, path: &str, origin: &str, headers: Option<&str>) -> Response {
    let mut request = app.client.request(Method::OPTIONS, app.url(path));
    request = request.header("origin", origin).header("access-control-request-method", "POST");
    if let Some(headers) = headers {
        request = request.header("access-control-request-headers", headers);
    }
    request.send().await.unwrap()
}

fn words(response: &Response, name: &str) -> HashSet<String> {
    let values = response.headers().get_all(name).iter();
    values.flat_map(|value| value.to_str().unwrap().split(',')).map(|word| word.trim().to_ascii_lowercase()).collect()
}

#[tokio::test]
async fn a_preflight_needs_no_key() {
    let app = TestApp::quick().await;
    let asked = "authorization,content-type,x-stainless-lang,x-stainless-retry-count,x-something-new";
    for path in ["/v1/chat/completions", "/v1/models", "/refresh-token", "/nowhere", "/"] {
        let response = preflight(&app, path, PAGE, Some(asked)).await;
        assert_eq!(response.status(), 204, "{path}");
        assert!(["*", PAGE].contains(&response.headers()["access-control-allow-origin"].to_str().unwrap()));
        assert!(words(&response, "access-control-allow-methods").is_superset(&HashSet::from([
            "get".to_owned(),
            "post".to_owned(),
            "delete".to_owned(),
        ])));
        let allowed = words(&response, "access-control-allow-headers");
        for name in asked.split(',') {
            assert!(allowed.contains(name), "{path}: {name} is not allowed by name: {allowed:?}");
        }
        assert_eq!(response.headers()["access-control-max-age"], "86400");
        assert!(response.headers().contains_key("x-request-id"));
        assert_eq!(response.text().await.unwrap(), "");
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn a_preflight_without_a_wish_names_the_usual_headers() {
    let app = TestApp::quick().await;
    let response = preflight(&app, "/v1/chat/completions", PAGE, None).await;
    assert_eq!(response.status(), 204);
    let allowed = words(&response, "access-control-allow-headers");
    assert!(["authorization", "content-type", "x-api-key"].iter().all(|name| allowed.contains(*name)), "{allowed:?}");
}

#[tokio::test]
async fn every_answer_can_be_read_by_a_page() {
    let app = TestApp::quick().await;
    let stream = json!({"messages": [{"role": "user", "content": "echo: x"}], "stream": true});
    let unknown_model = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]});
    for (request, status) in [
        (app.get("/v1/models"), 200),
        (app.get("/health"), 200),
        (app.post("/v1/chat/completions", &question("echo: x")), 200),
        (app.post("/v1/chat/completions", &stream), 200),
        (app.post("/v1/chat/completions", &json!({})), 400),
        (app.client.get(app.url("/v1/models")), 401),
        (app.client.get(app.url("/nowhere")), 401),
        (app.get("/nowhere"), 404),
        (app.post("/v1/chat/completions", &unknown_model), 404),
        (app.get("/v1/chat/completions"), 405),
        (app.post("/v1/chat/completions", &json!({})).header("content-encoding", "compress"), 415),
        (app.client.post(app.url("/v1/chat/completions")).header("x-api-key", crate::support::app::KEY).body("x"), 400),
    ] {
        let response = request.header("origin", PAGE).send().await.unwrap();
        let url = response.url().clone();
        assert_eq!(response.status(), status, "{url}");
        let origin = response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap());
        assert!(origin.is_some_and(|origin| ["*", PAGE].contains(&origin)), "{status} {url}: {origin:?}");
        let exposed = words(&response, "access-control-expose-headers");
        for name in ["x-request-id", "retry-after", "x-should-retry", "x-bridge-ignored"] {
            assert!(exposed.contains(name), "{status} {url}: {name} is hidden: {exposed:?}");
        }
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
    }
}

#[tokio::test]
async fn the_owners_routes_are_for_no_page() {
    let admin = "sk-of-the-owner";
    let setup = Setup::default().with("ADMIN_SECRET_KEY", admin).with("DEBUG_MODE", "true");
    for app in [started(setup).await, started(Setup::default().with("CORS_ORIGINS", PAGE)).await] {
        let is_set_up = app.client.get(app.url("/admin/health")).send().await.unwrap().status() == 401;
        for path in [
            "/admin",
            "/admin/",
            "/admin/health",
            "/admin/health?probe=1",
            "/admin/nowhere",
            "/auth",
            "/auth?account=x",
            "/v1/debug/token",
            "/v1/debug/auth/initiate",
            "/v1/debug/account/x",
            "/v1/debug/nowhere",
            "/v1/debug",
            "/v1/debug/",
        ] {
            // Without DEBUG_MODE the debug routes are unknown paths like others.
            if !is_set_up && path.starts_with("/v1/debug") {
                continue;
            }
            for response in [
                preflight(&app, path, PAGE, Some("x-admin-key")).await,
                app.client.get(app.url(path)).header("origin", PAGE).send().await.unwrap(),
                app.client.get(app.url(path)).header("origin", PAGE).bearer_auth(admin).send().await.unwrap(),
                app.client.delete(app.url(path)).header("origin", PAGE).bearer_auth(admin).send().await.unwrap(),
            ] {
                let shared = response.headers().keys().find(|name| name.as_str().starts_with("access-control-"));
                assert_eq!(shared, None, "{path} {}", response.status());
                assert_ne!(response.status(), 204, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn configured_origins_are_the_only_ones() {
    let app = started(Setup::default().with("CORS_ORIGINS", "https://a.example,https://b.example:8443")).await;
    for (origin, is_allowed) in [
        ("https://a.example", true),
        ("https://b.example:8443", true),
        ("https://b.example", false),
        ("http://a.example", false),
        ("https://a.example.evil.example", false),
        ("null", false),
    ] {
        let response = app.get("/v1/models").header("origin", origin).send().await.unwrap();
        let allowed = response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap());
        assert_eq!(allowed, is_allowed.then_some(origin));
        assert!(words(&response, "vary").contains("origin"), "a cache would mix up origins");
        let response = preflight(&app, "/v1/models", origin, None).await;
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), is_allowed, "{origin}");
    }
}

#[tokio::test]
async fn without_a_key_only_pages_of_this_machine_can_read() {
    let app = started(Setup::default().without("API_KEY")).await;
    for (origin, is_allowed) in [
        ("http://localhost:3000", true),
        ("http://127.0.0.1", true),
        ("http://[::1]:8080", true),
        ("https://page.example", false),
        ("http://localhost.evil.example", false),
        ("http://127.0.0.1.evil.example", false),
        ("null", false),
    ] {
        for response in [
            app.client.get(app.url("/v1/models")).header("origin", origin).send().await.unwrap(),
            preflight(&app, "/v1/chat/completions", origin, None).await,
        ] {
            let allowed = response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert_eq!(allowed, is_allowed.then_some(origin), "{origin}");
        }
    }
    let open = started(Setup::default().without("API_KEY").with("ALLOW_OPEN", "true")).await;
    let response = open.client.get(open.url("/v1/models")).header("origin", PAGE).send().await.unwrap();
    assert!(response.headers().contains_key("access-control-allow-origin"));
}
