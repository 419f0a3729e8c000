//! The owner's login to the page: sessions by cookie, CSRF tokens, the printed link, and the list of changes.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::Scenario;
use tokio::sync::Notify;

use crate::support::app::{KEY, Setup, TestApp, checked_error, error_of, json_of, question};
use crate::support::program::Program;

const ADMIN: &str = "sk-of-the-owner";
const SESSION: &str = "/admin/session";

async fn started(setup: Setup) -> TestApp {
    setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await
}

async fn owned() -> TestApp {
    started(Setup::default().with("ADMIN_SECRET_KEY", ADMIN)).await
}

/// A session, as a browser keeps it.
struct Browser<'a> {
    app: &'a TestApp,
    cookie: String,
    csrf: String,
}

impl<'a> Browser<'a> {
    async fn log_in(app: &'a TestApp) -> Self {
        Self::of(app, post(app, &json!({ "key": ADMIN })).await).await
    }

    async fn of(app: &'a TestApp, response: Response) -> Self {
        assert_eq!(response.status(), 200);
        let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let csrf = json_of(response).await["csrf"].as_str().unwrap().to_owned();
        Self { app, cookie, csrf }
    }

    /// A request with the cookie.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.app.client.request(method, self.app.url(path)).header("cookie", &self.cookie)
    }

    async fn status(&self, path: &str) -> u16 {
        self.request(Method::GET, path).send().await.unwrap().status().as_u16()
    }
}

async fn post(app: &TestApp, body: &Value) -> Response {
    let request = app.client.post(app.url(SESSION)).header("content-type", "application/json");
    request.body(body.to_string()).send().await.unwrap()
}

async fn look(browser: &Browser<'_>) -> Value {
    json_of(browser.request(Method::GET, SESSION).send().await.unwrap()).await
}

#[tokio::test]
async fn a_login_sets_a_cookie_that_scripts_and_other_sites_do_not_get() {
    let app = owned().await;
    let response = post(&app, &json!({ "key": ADMIN })).await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/;"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains(ADMIN), "{cookie}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let browser = Browser::of(&app, response).await;
    assert_eq!(browser.status("/admin/health").await, 200);
    let told = look(&browser).await;
    assert_eq!((&told["logged_in"], &told["csrf"]), (&json!(true), &json!(browser.csrf)));
    // Behind a proxy that ends TLS the cookie stays on TLS, and it is for the base path only.
    let setup = Setup::default().with("ADMIN_SECRET_KEY", ADMIN).with("TRUSTED_PROXIES", "127.0.0.0/8");
    let app = started(setup.with("BASE_PATH", "/qwen/")).await;
    let request = app.client.post(app.url("/qwen/admin/session")).header("x-forwarded-proto", "https");
    let response = request.header("content-type", "application/json").body(json!({"key": ADMIN}).to_string());
    let cookie = response.send().await.unwrap().headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("; Path=/qwen;") && cookie.contains("; Secure"), "{cookie}");
}

#[tokio::test]
async fn without_a_session_the_page_learns_only_whether_a_key_is_needed() {
    for (setup, needs_key) in [(Setup::default(), false), (Setup::default().with("ADMIN_SECRET_KEY", ADMIN), true)] {
        let app = started(setup).await;
        let told = json_of(app.client.get(app.url(SESSION)).send().await.unwrap()).await;
        assert_eq!((&told["logged_in"], &told["needs_key"]), (&json!(false), &json!(needs_key)));
        assert!(told.get("csrf").is_none(), "{told}");
        let status = if needs_key { 401 } else { 503 };
        assert_eq!(app.client.get(app.url("/admin/audit")).send().await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn a_session_ends_at_logout_and_with_the_process() {
    let app = owned().await;
    let (first, second) = (Browser::log_in(&app).await, Browser::log_in(&app).await);
    let response = first.request(Method::DELETE, SESSION).header("x-csrf-token", &first.csrf).send().await.unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(response.status() == 200 && cookie.contains("Max-Age=0"), "{cookie}");
    assert_eq!((first.status("/admin/audit").await, second.status("/admin/audit").await), (401, 200));
    assert_eq!(look(&first).await["logged_in"], false);
    let cookie = second.cookie.clone();
    let (simulator, dir) = app.stop().await;
    let app = Setup::default().with("ADMIN_SECRET_KEY", ADMIN).in_dir(dir).start(simulator).await;
    let after = app.client.get(app.url("/admin/audit")).header("cookie", cookie).send().await.unwrap();
    assert_eq!(after.status(), 401);
}

#[tokio::test]
async fn a_change_by_the_session_needs_its_token_and_our_own_origin() {
    let app = owned().await;
    let (browser, other) = (Browser::log_in(&app).await, Browser::log_in(&app).await);
    let own = format!("http://{}", app.address);
    let port = format!("http://127.0.0.1:{}", app.address.port().wrapping_add(1));
    for (token, origin, expected) in [
        (Some(&browser.csrf), None, Ok(())),
        (Some(&browser.csrf), Some(own.as_str()), Ok(())),
        (None, Some(own.as_str()), Err("csrf_token_missing")),
        (None, None, Err("csrf_token_missing")),
        (Some(&String::new()), None, Err("csrf_token_missing")),
        (Some(&other.csrf), Some(own.as_str()), Err("csrf_token_missing")),
        (Some(&browser.csrf), Some("https://evil.example"), Err("origin_not_allowed")),
        (Some(&browser.csrf), Some("null"), Err("origin_not_allowed")),
        (Some(&browser.csrf), Some(port.as_str()), Err("origin_not_allowed")),
    ] {
        // A path that is none: the check comes first.
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let mut request = browser.request(method, "/admin/nowhere");
            if let Some(token) = token {
                request = request.header("x-csrf-token", token);
            }
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let response = request.send().await.unwrap();
            match expected {
                Ok(()) => assert_eq!(response.status(), 404, "{origin:?}"),
                Err(code) => {
                    assert_eq!(response.status(), 403, "{origin:?}");
                    assert_eq!(error_of(response).await["code"], code, "{token:?} {origin:?}");
                }
            }
        }
    }
    // Nor can a page of another origin log its reader in.
    let request = app.client.post(app.url(SESSION)).header("origin", "https://evil.example");
    let request = request.header("content-type", "application/json").body(json!({ "key": ADMIN }).to_string());
    let response = request.send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("set-cookie")), (403, None));
}

#[tokio::test]
async fn only_a_trusted_proxy_names_the_host_of_the_page() {
    for (proxies, is_believed) in [("", false), ("10.0.0.0/8", false), ("127.0.0.0/8", true)] {
        let app = started(Setup::default().with("ADMIN_SECRET_KEY", ADMIN).with("TRUSTED_PROXIES", proxies)).await;
        let browser = Browser::log_in(&app).await;
        for (forwarded, origin, is_own) in [
            ("bridge.example", "https://bridge.example", is_believed),
            ("evil.example", "https://bridge.example", false),
        ] {
            let ask = |request: RequestBuilder| {
                let request = request.header("x-forwarded-host", forwarded).header("origin", origin);
                request.header("content-type", "application/json").send()
            };
            let change = browser.request(Method::POST, "/admin/nowhere").header("x-csrf-token", &browser.csrf);
            let status = ask(change).await.unwrap().status();
            assert_eq!(status, if is_own { 404 } else { 403 }, "{proxies} {forwarded}");
            let login = app.client.post(app.url(SESSION)).body(json!({ "key": ADMIN }).to_string());
            assert_eq!(ask(login).await.unwrap().status(), if is_own { 200 } else { 403 }, "{proxies} {forwarded}");
        }
    }
}

#[tokio::test]
async fn a_key_in_a_header_needs_neither_token_nor_origin() {
    let app = owned().await;
    let browser = Browser::log_in(&app).await;
    for request in [
        app.client.post(app.url("/admin/nowhere")).bearer_auth(ADMIN),
        app.client.post(app.url("/admin/nowhere")).header("x-admin-key", ADMIN).header("origin", "https://a.example"),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 404);
    }
    // A wrong key is no better for the cookie beside it.
    let wrong = browser.request(Method::GET, "/admin/audit").bearer_auth("sk-guess").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
}

#[tokio::test]
async fn wrong_keys_of_the_login_are_slowed_and_none_is_no_guess() {
    let app = owned().await;
    for body in [json!({}), json!({"key": ""}), json!({"key": 7}), json!([])] {
        for _ in 0..10 {
            assert_eq!(post(&app, &body).await.status(), 401, "{body}");
        }
    }
    let wrong = json!({"key": "sk-guess"});
    let guesses = futures_util::future::join_all((0..50).map(|_| post(&app, &wrong))).await;
    let (refused, answered): (Vec<_>, Vec<_>) = guesses.into_iter().partition(|guess| guess.status() == 429);
    assert!(answered.iter().all(|answer| answer.status() == 401));
    assert!((30..40).contains(&answered.len()), "{} guesses were answered", answered.len());
    for refusal in refused {
        assert!(refusal.headers().contains_key("retry-after"));
        assert_eq!(json_of(refusal).await, json!({"error": "Too many wrong keys"}));
    }
    assert_eq!(post(&app, &json!({ "key": ADMIN })).await.status(), 200, "the right key is let in after a wait");
}

/// A server without a key of its owner, and the secret of the link that it printed.
struct Linked {
    address: String,
    secret: String,
    _server: Program,
    _simulator: Simulator,
    _dir: tempfile::TempDir,
}

impl Linked {
    async fn start() -> Self {
        let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let settings = [
            ("API_KEY", KEY.to_owned()),
            ("SERVER_PORT", "0".to_owned()),
            ("STATE_DIR", dir.path().display().to_string()),
            ("QWEN_WEB_BASE_URL", simulator.urls().web.to_string()),
            ("QWEN_AUTH_BASE_URL", simulator.urls().auth.to_string()),
        ];
        let server = Program::start(&["serve"], &settings);
        let address = server.address_beside("listening").await.to_string();
        let printed = server.stdout();
        let link = printed.lines().map(str::trim).find(|line| line.contains("/admin#link=")).unwrap();
        let secret = link.strip_prefix(&format!("http://{address}/admin#link=")).unwrap().to_owned();
        Self { address, secret, _server: server, _simulator: simulator, _dir: dir }
    }
}

#[tokio::test]
async fn the_printed_link_opens_the_page_once_and_on_this_machine_only() {
    let Linked { address, secret, .. } = &Linked::start().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let open = |headers: &[(&str, &str)], secret: &str| {
        let request = client.post(format!("http://{address}{SESSION}")).header("content-type", "application/json");
        let request = request.body(json!({ "link": secret }).to_string());
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    for headers in [
        &[("host", "evil.example")][..],
        &[("host", "evil.example"), ("origin", "http://evil.example")],
        &[("origin", "https://evil.example")],
    ] {
        let response = open(headers, secret).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get("set-cookie")), (403, None), "{headers:?}");
    }
    assert_eq!(open(&[], "wrong").send().await.unwrap().status(), 401);
    let response = open(&[("origin", &format!("http://{address}"))], secret).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(open(&[], secret).send().await.unwrap().status(), 401, "once");
    let ask = |host: Option<&str>| {
        let request = client.get(format!("http://{address}/admin/health")).header("cookie", &cookie);
        host.map_or(request.try_clone().unwrap(), |host| request.header("host", host))
    };
    assert_eq!(ask(None).send().await.unwrap().status(), 200);
    assert_eq!(ask(Some("evil.example")).send().await.unwrap().status(), 403, "a name that was bound to this machine");
    // No key was made, so keys are still not taken.
    let response = client.get(format!("http://{address}/admin/health")).bearer_auth("x").send().await.unwrap();
    assert_eq!(response.status(), 503);
}

#[tokio::test]
async fn a_link_that_was_refused_beside_a_guesser_opens_the_page_later() {
    let Linked { address, secret, .. } = &Linked::start().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let open = async |secret: &str| {
        let request = client.post(format!("http://{address}{SESSION}")).header("content-type", "application/json");
        request.body(json!({ "link": secret }).to_string()).send().await.unwrap().status().as_u16()
    };
    for _ in 0..30 {
        assert_eq!(open("wrong").await, 401);
    }
    // Guesses that keep all places taken in which one waits to be checked. The first that is answered found none free.
    let are_taken = Notify::new();
    let guesses = futures_util::future::join_all((0..12).map(async |_| {
        loop {
            open("wrong").await;
            are_taken.notify_one();
        }
    }));
    let refused = async {
        are_taken.notified().await;
        open(secret).await
    };
    let status = tokio::select! {
        status = refused => status,
        _ = guesses => unreachable!(),
    };
    assert_eq!(status, 429);
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        match open(secret).await {
            429 if Instant::now() < deadline => {}
            status => break status,
        }
    };
    assert_eq!(status, 200, "the link was not spent");
    assert_ne!(open(secret).await, 200, "once");
}

#[tokio::test]
async fn beyond_this_machine_a_key_of_the_owner_is_made_and_shown_once() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("API_KEY", KEY.to_owned()),
        ("SERVER_HOST", "0.0.0.0".to_owned()),
        ("SERVER_PORT", "0".to_owned()),
        ("STATE_DIR", dir.path().display().to_string()),
        ("QWEN_WEB_BASE_URL", simulator.urls().web.to_string()),
        ("QWEN_AUTH_BASE_URL", simulator.urls().auth.to_string()),
    ];
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut key = String::new();
    for start in 0..2 {
        let server = Program::start(&["serve"], &settings);
        server.until_it_says("listening").await;
        let log = server.stderr();
        let port: String = log.split("0.0.0.0:").nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
        let printed = server.stdout();
        assert!(!printed.contains("#link="), "{printed}");
        let shown = printed.lines().map(str::trim).find(|line| line.starts_with("owner-"));
        assert_eq!(shown.is_some(), start == 0, "{printed}");
        key = shown.map_or(key, str::to_owned);
        let health = client.get(format!("http://127.0.0.1:{port}/admin/health")).bearer_auth(&key);
        assert_eq!(health.send().await.unwrap().status(), 200);
        assert!(!server.stderr().contains(&key), "the key is in the log");
    }
}

#[tokio::test]
async fn the_page_chats_without_a_callers_key() {
    let app = owned().await;
    let browser = Browser::log_in(&app).await;
    let ask = |token: Option<&str>| {
        let request = browser.request(Method::POST, "/v1/chat/completions").header("content-type", "application/json");
        let request = request.body(question("echo: hello").to_string());
        token.map_or(request.try_clone().unwrap(), |token| request.header("x-csrf-token", token))
    };
    let response = ask(Some(&browser.csrf)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(json_of(response).await["choices"][0]["message"]["content"], "hello");
    for request in [
        ask(None),
        ask(Some("x")),
        ask(Some(&browser.csrf)).header("origin", "https://evil.example"),
        ask(Some(&browser.csrf)).bearer_auth("sk-guess"),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
}

#[tokio::test]
async fn changes_are_listed_with_who_made_them() {
    let app = owned().await;
    let browser = Browser::log_in(&app).await;
    // A change that failed changed nothing.
    let failed = browser.request(Method::POST, "/admin/nowhere").header("x-csrf-token", &browser.csrf);
    assert_eq!(failed.send().await.unwrap().status(), 404);
    let second = Browser::log_in(&app).await;
    second.request(Method::DELETE, SESSION).header("x-csrf-token", &second.csrf).send().await.unwrap();
    let listed = async |app: &TestApp| {
        let audit = app.client.get(app.url("/admin/audit")).bearer_auth(ADMIN).send().await.unwrap();
        json_of(audit).await["changes"].as_array().unwrap().clone()
    };
    let changes = listed(&app).await;
    let told: Vec<_> = changes.iter().map(|change| (change["who"].clone(), change["what"].clone())).collect();
    assert_eq!(
        told,
        [
            (json!("page session 2"), json!("DELETE /admin/session")),
            (json!("page session 2"), json!("POST /admin/session")),
            (json!("page session 1"), json!("POST /admin/session")),
        ]
    );
    assert!(changes.iter().all(|change| change["at"].is_i64()), "{changes:?}");
    let (simulator, dir) = app.stop().await;
    let app = Setup::default().with("ADMIN_SECRET_KEY", ADMIN).in_dir(dir).start(simulator).await;
    assert_eq!(listed(&app).await, changes, "after a restart");
}

#[tokio::test]
async fn refused_sessions_keep_the_shape_of_errors() {
    let app = owned().await;
    let browser = Browser::log_in(&app).await;
    let response = browser.request(Method::DELETE, SESSION).send().await.unwrap();
    assert_eq!(response.status(), 403);
    let body = json_of(response).await;
    assert_eq!(checked_error(&body)["code"], "csrf_token_missing");
    assert_eq!(browser.status("/admin/audit").await, 200, "the session goes on");
}
