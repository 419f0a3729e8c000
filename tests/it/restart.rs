//! What a server knows when it starts again, and what it does when it can do nothing.

use std::os::unix::fs::PermissionsExt as _;

use qwen_bridge::base::facts::IdentityFacts;
use qwen_bridge::base::secret::Cookie;
use qwen_bridge::pool::Now;
use qwen_bridge::store::Store;
use simulator::script::{
    AccountScript, Endpoint, Era, RawScript, RefreshRotation, Scenario, ScriptedFailure, ScriptedReply,
};
use simulator::{RecordedRequest, Simulator};
use tempfile::TempDir;

use crate::support::app::{KEY, PATIENCE, Setup, TestApp, json_of, question};
use crate::support::oracle::{FORMS, Form, ask, asked_accounts, counts, crew, health, until_all_healthy, until_health};
use crate::support::program::{self, Program};

fn era_b(name: &str, refresh_rotation: RefreshRotation) -> AccountScript {
    AccountScript { refresh_rotation, ..AccountScript::new(name, Era::B) }
}

#[tokio::test]
async fn a_kept_token_costs_no_call_at_the_next_start() {
    let scenario =
        Scenario::with_accounts([era_b("bob", RefreshRotation::Same), era_b("cem", RefreshRotation::Absent)]);
    let app = Setup::default().start(Simulator::start(scenario).await.unwrap()).await;
    until_all_healthy(&app).await;
    let (simulator, state_dir) = app.stop().await;
    assert_eq!(simulator.record().counts().refreshes, 2);
    let app = Setup::default().in_dir(state_dir).start(simulator).await;
    assert_eq!(counts(&app).await, (2, 0, 0), "ready at once");
    for form in FORMS {
        ask(&app, form, "echo: x").await.must_say("x");
    }
    assert_eq!(app.simulator.record().counts().refreshes, 2);
    assert_eq!(app.simulator.record().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rotated_session_goes_on_though_the_configured_cookie_is_the_old_one() {
    let scenario = Scenario::with_accounts([era_b("bob", RefreshRotation::New)]);
    let simulator = Simulator::start(scenario).await.unwrap();
    let old_cookie = simulator.accounts().cookie("bob");
    let app = Setup::default().with("COOKIE", &old_cookie).start(simulator).await;
    until_all_healthy(&app).await;
    let mut parts = app.stop().await;
    for round in 0..3 {
        assert_ne!(parts.0.accounts().cookie("bob"), old_cookie, "the old refresh token is revoked");
        // The access token is over too, so that everything hangs on the rotated refresh token.
        parts.0.accounts().expire("bob");
        let app = Setup::default().with("COOKIE", &old_cookie).in_dir(parts.1).start(parts.0).await;
        for form in FORMS {
            ask(&app, form, "echo: x").await.must_say("x");
        }
        assert_eq!(counts(&app).await, (1, 0, 0), "round {round}");
        parts = app.stop().await;
    }
}

#[tokio::test]
async fn a_killed_server_loses_no_rotated_session() {
    let scenario = Scenario::with_accounts([era_b("bob", RefreshRotation::New)]);
    let simulator = Simulator::start(scenario).await.unwrap();
    let old_cookie = simulator.accounts().cookie("bob");
    let app = Setup::default().with("COOKIE", &old_cookie).start(simulator).await;
    until_all_healthy(&app).await;
    let TestApp { simulator, state_dir, .. } = app;
    simulator.accounts().expire("bob");
    let app = Setup::default().with("COOKIE", &old_cookie).in_dir(state_dir).start(simulator).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
}

/// A refresh may rotate the refresh token and still bring no token to use.
#[tokio::test]
async fn a_killed_server_loses_no_rotation_of_a_refresh_that_failed() {
    let simulator = Simulator::start(Scenario::with_accounts([era_b("bob", RefreshRotation::New)])).await.unwrap();
    let old_cookie = simulator.accounts().cookie("bob");
    let body = r#"{"success":true,"data":{"refresh_token":"rotated"}}"#.to_owned();
    let raw = RawScript { status: 200, content_type: "application/json".to_owned(), body, base64: false };
    simulator.script().queue(None, Endpoint::Refresh, ScriptedReply::failing(ScriptedFailure::Raw(raw)));
    let app = Setup::default().with("COOKIE", &old_cookie).start(simulator).await;
    // It fails when the refresh has failed.
    assert_eq!(ask(&app, Form::Whole, "echo: x").await.status, 503);
    let TestApp { simulator, state_dir, .. } = app;
    let before = simulator.record().requests_to(Endpoint::Refresh).len();
    let app = Setup::default().with("COOKIE", &old_cookie).in_dir(state_dir).start(simulator).await;
    ask(&app, Form::Whole, "echo: x").await;
    let refreshes = app.simulator.record().requests_to(Endpoint::Refresh).split_off(before);
    let cookie = |request: &RecordedRequest| {
        request.headers.iter().find(|(name, _)| name == "cookie").map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let sent: Vec<String> = refreshes.iter().map(cookie).collect();
    assert!(sent.first().is_some_and(|cookie| cookie.contains("refresh_token=rotated")), "{sent:?}");
}

const ADMIN: &str = "sk-of-the-owner";

/// Asks until the upstream has given all the replies that wait, each of which fails one attempt.
async fn ask_until_used_up(simulator: &Simulator, address: std::net::SocketAddr, key: &str) {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    while simulator.script().left() > 0 {
        let request = client.post(format!("http://{address}/v1/chat/completions")).bearer_auth(key);
        let request = request.header("content-type", "application/json").body(question("echo: x").to_string());
        request.send().await.unwrap().bytes().await.unwrap();
    }
    // Writes are in order, so that everything before this one is on the disk when it is answered.
    let request = client.post(format!("http://{address}/admin/keys")).bearer_auth(ADMIN);
    let request = request.header("content-type", "application/json").body("{\"name\": \"made\"}");
    assert_eq!(request.send().await.unwrap().status(), 201);
}

/// `(reason, is it dated)` of the first account.
async fn first_account(app: &TestApp) -> (String, bool) {
    let request = app.client.get(app.url("/admin/accounts")).bearer_auth(ADMIN);
    let list = json_of(request.send().await.unwrap()).await;
    let first = &list["accounts"][0];
    (first["reason"].as_str().unwrap_or("-").to_owned(), first["next_at"].is_i64())
}

#[tokio::test]
async fn an_account_that_was_parked_stays_parked_after_a_kill() {
    let failed = || vec![ScriptedReply::status(503); 5];
    for (replies, reason) in [(failed(), "tripped"), (vec![ScriptedReply::error("Forbidden")], "refused")] {
        let simulator = Simulator::start(crew(2)).await.unwrap();
        let state_dir = tempfile::tempdir().unwrap();
        for reply in replies {
            simulator.script().queue(Some("ada"), Endpoint::Completions, reply);
        }
        let mut settings = program::settings(&simulator, "json");
        settings.push(("STATE_DIR", state_dir.path().display().to_string()));
        settings.push(("ADMIN_SECRET_KEY", ADMIN.to_owned()));
        let server = Program::start(&["serve"], &settings);
        ask_until_used_up(&simulator, server.address_beside("listening").await, program::KEY).await;
        server.signal("KILL");
        drop(server);

        let app = Setup::default().with("ADMIN_SECRET_KEY", ADMIN).in_dir(state_dir).start(simulator).await;
        assert_eq!(counts(&app).await, (1, 0, 1), "{reason}");
        assert_eq!(first_account(&app).await, (reason.to_owned(), true));
        let before = asked_accounts(&app.simulator).len();
        for form in FORMS {
            ask(&app, form, "echo: x").await.must_say("x");
        }
        assert!(asked_accounts(&app.simulator).iter().skip(before).all(|account| account == "bob"), "{reason}");

        // The owner knows better, and that outlives a kill too.
        let wake = app.client.post(app.url("/admin/accounts/identity-1/wake")).bearer_auth(ADMIN);
        assert_eq!(wake.send().await.unwrap().status(), 200);
        let (simulator, state_dir) = app.stop().await;
        let app = Setup::default().in_dir(state_dir).start(simulator).await;
        assert_eq!(counts(&app).await, (2, 0, 0), "{reason}");
    }
}

#[tokio::test]
async fn a_probe_that_worked_is_remembered_after_a_kill() {
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let setup = || Setup::default().with("ADMIN_SECRET_KEY", ADMIN);
    let app = setup().start(simulator).await;
    for _ in 0..5 {
        app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::status(503));
    }
    ask_until_used_up(&app.simulator, app.address, KEY).await;
    assert_eq!(counts(&app).await, (0, 0, 1));
    // The only account is probed before its time.
    ask(&app, Form::Stream, "echo: x").await.must_say("x");
    let request = app.client.post(app.url("/admin/keys")).bearer_auth(ADMIN);
    let request = request.header("content-type", "application/json").body("{\"name\": \"later\"}");
    assert_eq!(request.send().await.unwrap().status(), 201);
    // Dropped without a drain, as when the process is killed.
    let TestApp { simulator, state_dir, .. } = app;
    let app = setup().in_dir(state_dir).start(simulator).await;
    assert_eq!(counts(&app).await, (1, 0, 0));
}

/// An upstream with one account, and a state folder that says that the account's login is over.
async fn with_ada_dead() -> (Simulator, TempDir) {
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let state_dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(state_dir.path()).unwrap();
    let key = Cookie::parse(&simulator.accounts().cookie("ada")).unwrap().key();
    let facts = IdentityFacts { dead_since: Some(Now::read().unix), ..IdentityFacts::default() };
    store.save_facts(key, || facts);
    store.close().await;
    (simulator, state_dir)
}

#[tokio::test]
async fn a_new_cookie_in_the_configuration_wins_over_what_was_kept() {
    let (simulator, state_dir) = with_ada_dead().await;
    let newer = format!("{}; pasted=anew", simulator.accounts().cookie("ada"));
    let app = Setup::default().with("COOKIE", &newer).in_dir(state_dir).start(simulator).await;
    assert_eq!(counts(&app).await, (1, 0, 0));
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
}

#[tokio::test]
async fn a_dead_account_is_looked_at_once_at_a_start() {
    let (simulator, state_dir) = with_ada_dead().await;
    simulator.accounts().set_revoked("ada", true);
    let app = Setup::default().in_dir(state_dir).start(simulator).await;
    app.simulator.record().wait_until(|request| request.endpoint == Some(Endpoint::Auths), PATIENCE).await.unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&app, Form::Whole, "x").await.code(), "no_available_account");
    }
    assert_eq!(counts(&app).await, (0, 0, 1), "still dead");
    assert_eq!(app.simulator.record().requests_to(Endpoint::Auths).len(), 1);
    let (simulator, state_dir) = app.stop().await;
    simulator.accounts().set_revoked("ada", false);
    let app = Setup::default().in_dir(state_dir).start(simulator).await;
    until_all_healthy(&app).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
}

#[tokio::test]
async fn a_server_without_a_usable_account_starts_and_says_so() {
    let dead = |name: &str, era| AccountScript { revoked: true, ..AccountScript::new(name, era) };
    let scenario = Scenario::with_accounts([dead("bob", Era::B), dead("cem", Era::B)]);
    let app = Setup::default().start(Simulator::start(scenario).await.unwrap()).await;
    let body = health(&app).await;
    assert_eq!((&body["status"], &body["identityPool"]["healthy"]), (&"OK".into(), &0.into()), "{body}");
    for form in FORMS {
        let answer = ask(&app, form, "x").await;
        assert_eq!(answer.failure(), (503, "server_error", "no_available_account"), "{}", answer.raw);
    }
    let body = until_health(&app, |body| body["token"]["valid"] == false).await;
    assert_eq!(body["identityPool"]["total"], 2);
    assert_eq!(asked_accounts(&app.simulator).len(), 0);
}

#[tokio::test]
async fn a_server_without_any_account_starts_and_says_so() {
    let app = Setup::default().without("COOKIE").start(Simulator::start(crew(1)).await.unwrap()).await;
    let body = health(&app).await;
    assert_eq!(body["identityPool"]["total"], 0);
    assert_eq!(body["identityPool"]["initialized"], false);
    for form in FORMS {
        let answer = ask(&app, form, "x").await;
        assert_eq!(answer.failure(), (503, "server_error", "no_available_account"));
        assert!(answer.raw.contains("cookie"), "says how to mend it: {}", answer.raw);
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    let models = app.get("/v1/models").send().await.unwrap();
    assert_eq!(models.status(), 200);
}

#[tokio::test]
async fn a_server_whose_upstream_is_not_there_starts_and_says_so() {
    let simulator = Simulator::start(crew(2)).await.unwrap();
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let app =
        Setup::default().with("QWEN_WEB_BASE_URL", &closed).with("QWEN_AUTH_BASE_URL", &closed).start(simulator).await;
    for form in FORMS {
        let answer = ask(&app, form, "x").await;
        assert_eq!(answer.failure(), (502, "server_error", "upstream_error"), "{}", answer.raw);
    }
    let body = health(&app).await;
    assert_eq!((&body["identityPool"]["down"], &body["upstream"]["degraded"]), (&0.into(), &true.into()));
    assert_eq!(app.get("/v1/models").send().await.unwrap().status(), 200, "the built-in list");
}

#[tokio::test]
async fn the_state_is_for_its_owner_only() {
    let scenario = Scenario::with_accounts([era_b("bob", RefreshRotation::New)]);
    let app = Setup::default().start(Simulator::start(scenario).await.unwrap()).await;
    until_all_healthy(&app).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let check = |folder: &std::path::Path| {
        let mut files = 0;
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            files += 1;
        }
        assert!(files > 0);
    };
    check(app.state_dir.path());
    assert_eq!(mode(app.state_dir.path()), 0o700);
    let (_simulator, state_dir) = app.stop().await;
    check(state_dir.path());
    let all: Vec<u8> =
        state_dir.path().read_dir().unwrap().flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!all.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "a configured key is not copied");
}
