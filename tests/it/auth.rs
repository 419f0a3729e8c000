//! Who may call a server with keys, and a server without.

use std::collections::HashSet;

use serde_json::json;
use simulator::Simulator;
use simulator::script::{Endpoint, Scenario};

use crate::support::app::{KEY, Setup, TestApp, content, error_of, json_of, question};
use crate::support::oracle::until_all_healthy;
use crate::support::raw::Raw;

async fn started(setup: Setup) -> TestApp {
    setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await
}

/// The status of `GET /v1/models` with these headers.
async fn status_with(app: &TestApp, headers: &[(&str, &str)]) -> u16 {
    let mut request = app.client.get(app.url("/v1/models"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_right_key_is_right_wherever_it_stands() {
    let app = TestApp::quick().await;
    let bearer = |scheme: &str| format!("{scheme} {KEY}");
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer "] {
        assert_eq!(status_with(&app, &[("authorization", &bearer(scheme))]).await, 200, "{scheme}");
    }
    assert_eq!(status_with(&app, &[("x-api-key", KEY)]).await, 200);
    // One right key is enough.
    assert_eq!(status_with(&app, &[("authorization", "Bearer wrong"), ("x-api-key", KEY)]).await, 200);
    assert_eq!(status_with(&app, &[("authorization", &bearer("Bearer")), ("x-api-key", "wrong")]).await, 200);
    assert_eq!(status_with(&app, &[("authorization", "Basic eDp5"), ("x-api-key", KEY)]).await, 200);
}

#[tokio::test]
async fn all_key_settings_are_one_set() {
    let setup = Setup::default()
        .with("API_KEY", "sk-one, sk-two")
        .with("OPENAI_API_KEYS", "sk-three,sk-four")
        .with("OPENAI_API_KEY", "sk-five");
    let app = started(setup).await;
    for key in ["sk-one", "sk-two", "sk-three", "sk-four", "sk-five"] {
        assert_eq!(status_with(&app, &[("authorization", &format!("Bearer {key}"))]).await, 200, "{key}");
    }
    for key in ["sk-one, sk-two", "sk-one,sk-two", "sk-", "sk-six"] {
        assert_eq!(status_with(&app, &[("authorization", &format!("Bearer {key}"))]).await, 401, "{key}");
    }
}

#[tokio::test]
async fn wrong_keys_all_get_the_same_answer() {
    let app = TestApp::quick().await;
    let upper = KEY.to_uppercase();
    let look_alike = KEY.replace('k', "к");
    let long = "k".repeat(20_000);
    let wrong = [
        "x",
        KEY.strip_suffix('y').unwrap(),
        KEY.strip_prefix('s').unwrap(),
        &format!("{KEY}x"),
        &format!("{KEY} {KEY}"),
        &upper,
        &look_alike,
        &format!("Bearer {KEY}"),
        &format!("\"{KEY}\""),
        &format!("{KEY},"),
        &format!("{KEY};{KEY}"),
        &long,
    ]
    .map(str::to_owned);
    let mut bodies = HashSet::new();
    for key in &wrong {
        for (name, value) in [("authorization", format!("Bearer {key}")), ("x-api-key", key.clone())] {
            let request = app.client.post(app.url("/v1/chat/completions")).header(name, value.as_bytes());
            let response = request.body(question("x").to_string()).send().await.unwrap();
            assert_eq!(response.status(), 401, "{name}: {key}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let error = error_of(response).await;
            assert_eq!(error["type"], "authentication_error");
            assert_eq!((&error["code"], &error["param"]), (&json!("invalid_api_key"), &json!(null)));
            assert!(!error.to_string().contains(KEY), "the key is shown");
            bodies.insert(error.to_string());
        }
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn wrong_keys_are_counted_for_their_address_slowed_and_refused() {
    let admin = "sk-of-the-owner";
    let server = || Setup::default().with("ADMIN_SECRET_KEY", admin).with("TRUSTED_PROXIES", "127.0.0.0/8");
    let client_mode = || server().with("SERVER_MODE", "false");
    for (setup, path, name, wrong, right) in [
        (server(), "/v1/models", "authorization", "Bearer sk-guess", format!("Bearer {KEY}")),
        (server(), "/refresh-token", "x-api-key", "sk-guess", KEY.to_owned()),
        (server(), "/admin/health", "x-admin-key", "sk-guess", admin.to_owned()),
        (server(), "/auth?account=x", "authorization", "Bearer sk-guess", format!("Bearer {admin}")),
        (client_mode(), "/v1/models", "authorization", "Bearer sk-guess;token;a=b", String::new()),
    ] {
        let app = started(setup).await;
        let ask = async |from: &str, key: &str| {
            let request = app.client.get(app.url(path)).header("x-forwarded-for", from).header(name, key);
            request.send().await.unwrap()
        };
        let guesses = futures_util::future::join_all((0..60).map(|_| ask("192.0.2.1", wrong))).await;
        let (refused, answered): (Vec<_>, Vec<_>) = guesses.into_iter().partition(|guess| guess.status() == 429);
        assert!(answered.iter().all(|answer| answer.status() == 401), "{path}");
        assert!((30..40).contains(&answered.len()), "{path}: {} guesses were answered", answered.len());
        for refusal in refused {
            assert!((1..=6).contains(&refusal.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap()));
            assert_eq!(refusal.headers()["x-should-retry"], "false");
            let body = json_of(refusal).await;
            if path.starts_with("/admin") {
                assert_eq!(body, json!({"error": "Too many wrong keys"}));
            } else {
                assert_eq!(body["error"]["type"], "rate_limit_error");
                assert_eq!(body["error"]["code"], "too_many_wrong_keys");
            }
        }
        // Another address has a count of its own, and the right key is no guess.
        assert_eq!(ask("192.0.2.2", wrong).await.status(), 401, "{path}");
        if !right.is_empty() {
            let status = ask("192.0.2.1", &right).await.status();
            assert!(![401, 429].contains(&status.as_u16()), "{path}: {status}");
        }
        assert_eq!(app.client.get(app.url("/health")).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_missing_key_is_no_guess() {
    let app = TestApp::quick().await;
    for _ in 0..50 {
        assert_eq!(app.client.get(app.url("/v1/models")).send().await.unwrap().status(), 401);
    }
}

#[tokio::test]
async fn a_missing_key_is_asked_for() {
    let app = TestApp::quick().await;
    for headers in [
        &[][..],
        &[("authorization", "")],
        &[("authorization", "Bearer")],
        &[("authorization", KEY)],
        &[("authorization", "Basic eDp5")],
        &[("x-api-key", "")],
    ] {
        assert_eq!(status_with(&app, headers).await, 401, "{headers:?}");
    }
    let response = app.client.get(app.url("/v1/models")).send().await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    let error = error_of(response).await;
    assert_eq!(error["code"], "invalid_api_key");
    assert!(error["message"].as_str().unwrap().contains("Authorization: Bearer"));
}

#[tokio::test]
async fn everything_but_two_paths_is_closed() {
    let app = TestApp::quick().await;
    // Doubled slashes mean one.
    for path in ["/", "/health", "//", "//health"] {
        assert_eq!(app.client.get(app.url(path)).send().await.unwrap().status(), 200, "{path}");
    }
    for (method, path) in [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/qwen3-max"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/refresh-token"),
        ("GET", "/refresh-token"),
        ("GET", "/nowhere"),
        ("GET", "/health/"),
        ("GET", "/%68ealth"),
        ("GET", "/health/../v1/models"),
    ] {
        let mut client = Raw::connect(app.address).await;
        client.send(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, 401, "{method} {path}");
    }
    // The server refreshes one of the two accounts by itself when it starts.
    until_all_healthy(&app).await;
    assert_eq!(app.simulator.record().requests_to(Endpoint::Refresh).len(), 1, "a refresh without a key");
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn a_key_in_the_url_or_in_the_body_is_none() {
    let app = TestApp::quick().await;
    for query in [format!("?api_key={KEY}"), format!("?key={KEY}"), format!("?access_token={KEY}")] {
        let mut body = question("x");
        (body["api_key"], body["key"]) = (json!(KEY), json!(KEY));
        let request = app.client.post(app.url(&format!("/v1/chat/completions{query}")));
        let response = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 401, "{query}");
        assert!(!response.text().await.unwrap().contains(KEY));
    }
    let with_cookie = app.client.get(app.url("/v1/models")).header("cookie", format!("api_key={KEY}"));
    assert_eq!(with_cookie.send().await.unwrap().status(), 401);
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn the_callers_key_stays_here() {
    let app = TestApp::quick().await;
    let mut body = question("echo: x");
    (body["api_key"], body["key"]) = (json!(KEY), json!(KEY));
    assert_eq!(app.chat(&body).await.status(), 200);
    for request in app.simulator.record().requests() {
        assert!(request.headers.iter().all(|(_, value)| !value.contains(KEY)), "{request:?}");
        assert!(!request.path.contains(KEY));
        assert!(request.body.is_none_or(|body| !body.to_string().contains(KEY)));
    }
}

#[tokio::test]
async fn a_declared_flood_without_a_key_is_refused_at_once() {
    let app = TestApp::quick().await;
    for expect in ["", "expect: 100-continue\r\n"] {
        let mut client = Raw::connect(app.address).await;
        client
            .send(format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 {expect}content-length: 52428800\r\n\r\n"
            ))
            .await;
        // Not a byte of the body has been sent.
        let answer = client.answer().await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
        assert!(client.is_closed().await, "the connection waits for the flood");
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn a_client_that_sends_first_sees_why_it_is_refused() {
    let app = TestApp::quick().await;
    let body = vec![b' '; 4_000_000];
    let key = format!("x-api-key: {KEY}");
    for (path, key, status) in [
        ("/v1/chat/completions", "x-api-key: wrong", 401),
        ("/v1/nowhere", key.as_str(), 404),
        ("/v1/models", &key, 405),
        ("/v1/chat/completions", &key, 415),
    ] {
        let mut client = Raw::connect(app.address).await;
        let lines = format!("host: localhost\r\n{key}\r\ncontent-type: text/plain\r\ncontent-length: {}", body.len());
        client.send(format!("POST {path} HTTP/1.1\r\n{lines}\r\n\r\n")).await;
        assert!(client.try_send(&body).await, "{status}: closed on a client that was still sending");
        assert_eq!(client.answer().await.status, status);
        client.send("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200, "after a {status}");
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn without_a_key_only_this_machines_names_are_served() {
    let app = started(Setup::default().without("API_KEY")).await;
    let port = app.address.port();
    for host in [
        "localhost",
        "LOCALHOST",
        "127.0.0.1",
        "127.1.2.3",
        "[::1]",
        "app.localhost",
        &format!("localhost:{port}"),
        &format!("127.0.0.1:{port}"),
        &format!("[::1]:{port}"),
    ] {
        assert_eq!(status_with(&app, &[("host", host)]).await, 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "evillocalhost",
        "localhost@evil.example",
        "a b",
        "",
    ] {
        for path in ["/v1/models", "/", "/health"] {
            let response = app.client.get(app.url(path)).header("host", host).send().await.unwrap();
            assert_eq!(response.status(), 403, "{host} {path}");
            assert_eq!(error_of(response).await["code"], "host_not_allowed");
        }
    }
}

#[tokio::test]
async fn without_a_key_pages_from_elsewhere_cannot_spend_accounts() {
    let app = started(Setup::default().without("API_KEY")).await;
    for origin in ["https://evil.example", "http://localhost.evil.example", "null"] {
        // What a page can send without a preflight: a form, or a body without a type.
        for (path, content_type) in [
            ("/v1/chat/completions", None),
            ("/v1/chat/completions", Some("text/plain")),
            ("/v1/chat/completions", Some("application/x-www-form-urlencoded")),
            ("/refresh-token", None),
            ("/refresh-token", Some("text/plain")),
        ] {
            let mut request = app.client.post(app.url(path)).header("origin", origin);
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            let response = request.body(question("x").to_string()).send().await.unwrap();
            assert_eq!(response.status(), 403, "{origin} {path} {content_type:?}");
            assert!(!response.headers().contains_key("access-control-allow-origin"));
            assert_eq!(error_of(response).await["code"], "origin_not_allowed");
        }
    }
    assert_eq!(app.turns(), 0);
    until_all_healthy(&app).await;
    assert_eq!(app.simulator.record().requests_to(Endpoint::Refresh).len(), 1, "a page had the accounts refreshed");
    for origin in ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]", "tauri://localhost"] {
        let request = app.client.post(app.url("/v1/chat/completions")).header("origin", origin);
        let response = request.body(question("echo: x").to_string()).send().await.unwrap();
        assert_eq!(response.headers()["access-control-allow-origin"], origin);
        assert_eq!(content(&json_of(response).await), "x");
    }
}

#[tokio::test]
async fn a_configured_origin_may_use_a_server_without_a_key() {
    let app = started(Setup::default().without("API_KEY").with("CORS_ORIGINS", "https://chat.example")).await;
    let ask = |origin: &'static str| {
        let request = app.client.post(app.url("/v1/chat/completions")).header("origin", origin);
        request.body(question("echo: x").to_string()).send()
    };
    assert_eq!(ask("https://chat.example").await.unwrap().status(), 200);
    assert_eq!(ask("https://evil.example").await.unwrap().status(), 403);
}

#[tokio::test]
async fn an_open_server_serves_every_name() {
    let app = started(Setup::default().without("API_KEY").with("ALLOW_OPEN", "true")).await;
    for headers in [&[("host", "evil.example")][..], &[("origin", "https://evil.example")], &[]] {
        assert_eq!(status_with(&app, headers).await, 200, "{headers:?}");
    }
}

#[tokio::test]
async fn beyond_this_machine_a_key_is_made_and_kept() {
    let setup = || Setup::default().without("API_KEY").with("SERVER_HOST", "0.0.0.0");
    let ask = async |app: &TestApp, key: &str| {
        let url = format!("http://127.0.0.1:{}/v1/models", app.address.port());
        app.client.get(url).bearer_auth(key).send().await.unwrap().status()
    };
    let app = started(setup()).await;
    assert_eq!(ask(&app, "sk-guess").await, 401);
    let (simulator, state_dir) = app.stop().await;
    let files = std::fs::read_dir(state_dir.path()).unwrap();
    let kept: Vec<u8> = files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default()).collect();
    // The reserve of the state folder has random bytes, in which three letters may stand by chance.
    let is_key = |window: &&[u8]| window.starts_with(b"sk-") && window[3..].iter().all(u8::is_ascii_hexdigit);
    let key = kept.windows(3 + 64).find(is_key).expect("no key in the state folder");
    let key = str::from_utf8(key).unwrap().to_owned();
    let app = setup().in_dir(state_dir).start(simulator).await;
    assert_eq!(ask(&app, "sk-guess").await, 401);
    assert_eq!(ask(&app, &key).await, 200, "the key of the first start is forgotten");
}
