//! Callers who bring their own credential.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{
    AccountScript, Endpoint, Era, RawScript, RefreshRotation, Scenario, ScriptedFailure, ScriptedReply,
};

use crate::support::app::{KEY, Setup, TestApp, content, error_of, json_of, question};

async fn client_mode(setup: Setup) -> TestApp {
    let accounts = [AccountScript::new("ada", Era::A), AccountScript::new("eve", Era::A)];
    let simulator = Simulator::start(Scenario::with_accounts(accounts)).await.unwrap();
    setup.with("SERVER_MODE", "false").start(simulator).await
}

async fn ask(app: &TestApp, credential: &str, body: &Value) -> reqwest::Response {
    let request = app.client.post(app.url("/v1/chat/completions")).bearer_auth(credential);
    request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
}

fn pairs(cookie: &str) -> BTreeMap<&str, &str> {
    cookie.split(';').filter_map(|pair| pair.trim().split_once('=')).collect()
}

/// All bytes of all files below a folder.
fn bytes_below(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(bytes_below(&path));
        } else {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
    bytes
}

fn contains(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

#[tokio::test]
async fn limits_of_keys_change_while_the_server_runs() {
    let setup =
        Setup::default().reloading().with("API_KEY", "laptop=sk-laptop").with("ADMIN_SECRET_KEY", "sk-of-the-owner");
    let app = client_mode(setup).await;
    let credential =
        format!("sk-laptop;{};{}", app.simulator.accounts().bearer("eve"), app.simulator.accounts().cookie("eve"));
    assert_eq!(ask(&app, &credential, &question("echo: one")).await.status(), 200);
    let request = app.client.patch(app.url("/admin/settings")).bearer_auth("sk-of-the-owner");
    let request = request.header("content-type", "application/json");
    let changed = json_of(request.body("{\"KEY_LIMITS\": \"laptop:requests=1/day\"}").send().await.unwrap()).await;
    assert_eq!(changed["changed"], json!(["KEY_LIMITS"]), "{changed}");
    let refused = ask(&app, &credential, &question("echo: two")).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(error_of(refused).await["code"], "key_limit_reached");
}

#[tokio::test]
async fn the_callers_credential_is_used_whole() {
    for (setup, has_key) in [(Setup::default().without("API_KEY"), false), (Setup::default(), true)] {
        let app = client_mode(setup).await;
        let cookie = format!("{}; x=a=b; last=\"q\"", app.simulator.accounts().cookie("eve"));
        let credential = format!("{};{cookie}", app.simulator.accounts().bearer("eve"));
        let credential = if has_key { format!("{KEY};{credential}") } else { credential };
        let answer = json_of(ask(&app, &credential, &question("echo: mine")).await).await;
        assert_eq!(content(&answer), "mine");
        let requests = app.simulator.record().requests_to(Endpoint::Completions);
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].account.as_deref(), Some("eve"));
        // Later ones also have what the upstream set meanwhile.
        let first = app.simulator.record().requests_to(Endpoint::NewChat).remove(0);
        let sent = first.header("cookie").unwrap();
        for (name, value) in pairs(&cookie) {
            assert_eq!(pairs(sent).get(name), Some(&value), "{name} of {sent}");
        }
        let everything: Vec<String> =
            app.simulator.record().requests().iter().map(|request| format!("{request:?}")).collect();
        assert!(everything.iter().all(|request| !request.contains(KEY)), "our key went upstream");
        assert_eq!(app.simulator.record().requests_to(Endpoint::Auths).len(), 0);
        app.assert_clean();
    }
}

#[tokio::test]
async fn the_servers_own_accounts_are_not_used() {
    let app = client_mode(Setup::default()).await;
    let credential =
        format!("{KEY};{};{}", app.simulator.accounts().bearer("eve"), app.simulator.accounts().cookie("eve"));
    app.simulator.script().set_default(Some("eve"), Endpoint::Completions, Some(ScriptedReply::status(500)));
    for stream in [false, true] {
        let mut body = question("x");
        body["stream"] = json!(stream);
        let response = ask(&app, &credential, &body).await;
        assert_eq!(response.status(), 502);
        assert_eq!(error_of(response).await["code"], "upstream_error");
    }
    let accounts: Vec<_> =
        app.simulator.record().requests().into_iter().filter_map(|request| request.account).collect();
    assert!(!accounts.is_empty() && accounts.iter().all(|account| account == "eve"), "{accounts:?}");
    let health = json_of(app.client.get(app.url("/health")).send().await.unwrap()).await;
    assert_eq!(health["identityPool"]["total"], 0);
    assert_eq!(health["config"]["serverMode"], false);
}

/// S003-35: the cookie may be left out, with or without the semicolon before it.
#[tokio::test]
async fn a_token_alone_is_a_credential() {
    let app = client_mode(Setup::default()).await;
    let token = app.simulator.accounts().bearer("eve");
    for credential in [format!("{KEY};{token}"), format!("{KEY};{token};"), format!("{KEY}; {token} ; ")] {
        let answer = json_of(ask(&app, &credential, &question("echo: mine")).await).await;
        assert_eq!(content(&answer), "mine");
        let asked = app.simulator.record().requests_to(Endpoint::Completions).pop().unwrap();
        assert_eq!(asked.account.as_deref(), Some("eve"));
    }
}

#[tokio::test]
async fn the_key_may_stand_apart() {
    let app = client_mode(Setup::default()).await;
    let credential = format!("{};{}", app.simulator.accounts().bearer("eve"), app.simulator.accounts().cookie("eve"));
    let request = app.client.post(app.url("/v1/chat/completions")).header("x-api-key", KEY).bearer_auth(credential);
    let response = request.body(question("echo: x").to_string()).send().await.unwrap();
    assert_eq!(content(&json_of(response).await), "x");
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let app = client_mode(Setup::default()).await;
    let (token, cookie) = (app.simulator.accounts().bearer("eve"), app.simulator.accounts().cookie("eve"));
    for credential in [
        format!("{token};{cookie}"),
        format!("wrong;{token};{cookie}"),
        KEY.to_owned(),
        format!("{KEY};"),
        format!("{KEY};;{cookie}"),
        format!("{KEY};to ken;{cookie}"),
        format!("{KEY};{token};no pair at all"),
        "x".to_owned(),
    ] {
        let response = ask(&app, &credential, &question("x")).await;
        assert_eq!(response.status(), 401, "{credential}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let error = error_of(response).await;
        assert_eq!((&error["type"], &error["code"]), (&json!("authentication_error"), &json!("invalid_api_key")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("KEY;TOKEN;COOKIE"), "{message}");
        assert!(!message.contains(&token) && !message.contains(&cookie) && !message.contains(KEY), "{message}");
    }
    for path in ["/v1/models", "/v1/chat/completions", "/refresh-token"] {
        assert_eq!(app.client.get(app.url(path)).send().await.unwrap().status(), 401, "{path}");
    }
    let with_key_only = app.client.get(app.url("/v1/models")).header("x-api-key", KEY).send().await.unwrap();
    assert_eq!(with_key_only.status(), 401);
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn an_account_that_may_not_is_the_callers_own_affair() {
    let app = client_mode(Setup::default()).await;
    let credential =
        format!("{KEY};{};{}", app.simulator.accounts().bearer("eve"), app.simulator.accounts().cookie("eve"));
    app.simulator.script().queue(Some("eve"), Endpoint::Completions, ScriptedReply::error("Forbidden"));
    let response = ask(&app, &credential, &question("x")).await;
    assert_eq!(response.status(), 401);
    assert_eq!(error_of(response).await["code"], "upstream_unauthorized");
}

#[tokio::test]
async fn the_callers_own_refresh_cookie_renews_and_is_shared_with_nobody() {
    let accounts = ["eve", "fay"].map(|name| AccountScript::new(name, Era::B));
    let simulator = Simulator::start(Scenario::with_accounts(accounts)).await.unwrap();
    let app = Setup::default().with("SERVER_MODE", "false").start(simulator).await;
    let of = |name: &str| {
        let (bearer, cookie) = (app.simulator.accounts().bearer(name), app.simulator.accounts().cookie(name));
        (format!("{KEY};{bearer};{cookie}"), format!("{KEY};{bearer};cna=1"))
    };
    let (credential, bare) = of("eve");
    let refreshes = || app.simulator.record().requests_to(Endpoint::Refresh).len();
    assert_eq!(ask(&app, &credential, &question("echo: x")).await.status(), 200);
    assert_eq!(refreshes(), 0);
    app.simulator.accounts().expire("eve");
    for stream in [false, true, false] {
        let mut body = question("echo: x");
        body["stream"] = json!(stream);
        let response = ask(&app, &credential, &body).await;
        assert_eq!(response.status(), 200, "{stream}");
        assert!(response.text().await.unwrap().contains('x'));
    }
    assert_eq!(refreshes(), 1, "what it brought is kept");
    // The same token without the cookie is another credential, and gets nothing of it.
    assert_eq!(ask(&app, &bare, &question("x")).await.status(), 401);
    let (other, _) = of("fay");
    assert_eq!(ask(&app, &other, &question("echo: x")).await.status(), 200);
    assert_eq!(refreshes(), 1);
    let renewed = app.simulator.accounts().bearer("eve");
    assert!(!contains(&bytes_below(app.state_dir.path()), &renewed), "nothing is written down");
    // A refresh cookie that is refused is the caller's affair.
    app.simulator.accounts().set_revoked("eve", true);
    let response = ask(&app, &credential, &question("x")).await;
    assert_eq!(response.status(), 401);
    assert_eq!(error_of(response).await["code"], "upstream_unauthorized");
    app.assert_clean();
}

#[tokio::test]
async fn requests_of_one_caller_that_come_together_share_one_renewal() {
    for rotation in [RefreshRotation::Absent, RefreshRotation::Same, RefreshRotation::New] {
        let account = AccountScript { refresh_rotation: rotation, ..AccountScript::new("eve", Era::B) };
        let simulator = Simulator::start(Scenario::with_accounts([account])).await.unwrap();
        let app = Setup::default().with("SERVER_MODE", "false").start(simulator).await;
        let (bearer, cookie) = (app.simulator.accounts().bearer("eve"), app.simulator.accounts().cookie("eve"));
        let credential = format!("{KEY};{bearer};{cookie}");
        app.simulator.accounts().expire("eve");
        // So slow that most have been refused before it is answered, and one is refused long after.
        let after = |seconds, reply: ScriptedReply| reply.delayed(std::time::Duration::from_secs(seconds));
        app.simulator.script().queue(None, Endpoint::Refresh, after(1, ScriptedReply::default()));
        app.simulator.script().queue(None, Endpoint::NewChat, after(3, ScriptedReply::status(401)));
        let body = question("echo: x");
        let answers = futures_util::future::join_all((0..6).map(|_| ask(&app, &credential, &body))).await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status().as_u16()).collect();
        assert_eq!(statuses, [200; 6], "{rotation:?}");
        assert_eq!(app.simulator.record().requests_to(Endpoint::Refresh).len(), 1, "{rotation:?}");
    }
}

#[tokio::test]
async fn a_renewal_that_brings_another_account_is_not_used() {
    let accounts = ["eve", "fay"].map(|name| AccountScript::new(name, Era::B));
    let simulator = Simulator::start(Scenario::with_accounts(accounts)).await.unwrap();
    let app = Setup::default().with("SERVER_MODE", "false").start(simulator).await;
    let (bearer, cookie) = (app.simulator.accounts().bearer("eve"), app.simulator.accounts().cookie("eve"));
    let credential = format!("{KEY};{bearer};{cookie}");
    app.simulator.accounts().expire("eve");
    let fays = app.simulator.accounts().bearer("fay");
    let body = json!({"success": true, "data": {"access_token": fays}}).to_string();
    let raw = RawScript { status: 200, content_type: "application/json".to_owned(), body, base64: false };
    app.simulator.script().queue(None, Endpoint::Refresh, ScriptedReply::failing(ScriptedFailure::Raw(raw)));
    let response = ask(&app, &credential, &question("echo: x")).await;
    assert_eq!(response.status(), 401);
    assert_eq!(error_of(response).await["code"], "upstream_unauthorized");
    for request in app.simulator.record().requests() {
        assert!(request.header("authorization").is_none_or(|bearer| !bearer.contains(&fays)), "{request:?}");
    }
    // The next renewal is answered for the right account.
    assert_eq!(content(&json_of(ask(&app, &credential, &question("echo: x")).await).await), "x");
}

#[tokio::test]
async fn a_refused_credential_is_the_callers_own_affair() {
    let app = client_mode(Setup::default()).await;
    let credential =
        format!("{KEY};{};{}", app.simulator.accounts().bearer("eve"), app.simulator.accounts().cookie("eve"));
    app.simulator.accounts().set_revoked("eve", true);
    for stream in [false, true] {
        let mut body = question("x");
        body["stream"] = json!(stream);
        let response = ask(&app, &credential, &body).await;
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let error = error_of(response).await;
        assert_eq!((&error["type"], &error["code"]), (&json!("authentication_error"), &json!("upstream_unauthorized")));
    }
    assert_eq!(app.simulator.record().requests_to(Endpoint::Refresh).len(), 0);
    assert_eq!(app.simulator.record().requests_to(Endpoint::Auths).len(), 0);
}

#[tokio::test]
async fn the_callers_credential_is_written_nowhere() {
    let app = client_mode(Setup::default()).await;
    let (token, cookie) =
        (app.simulator.accounts().bearer("eve"), format!("{}; mark=c4n4ry", app.simulator.accounts().cookie("eve")));
    let credential = format!("{KEY};{token};{cookie}");
    assert_eq!(ask(&app, &credential, &question("echo: x")).await.status(), 200);
    app.simulator.script().set_default(Some("eve"), Endpoint::Completions, Some(ScriptedReply::error("RateLimited")));
    assert_eq!(ask(&app, &credential, &question("x")).await.status(), 429);
    let (_simulator, state_dir) = app.stop().await;
    let written = bytes_below(state_dir.path());
    assert!(!written.is_empty(), "there is no state folder to look at");
    for secret in [&token, "c4n4ry"] {
        assert!(!contains(&written, secret), "a secret in the state folder");
    }
}

#[tokio::test]
async fn there_is_nothing_to_refresh() {
    let app = client_mode(Setup::default()).await;
    let credential =
        format!("{KEY};{};{}", app.simulator.accounts().bearer("eve"), app.simulator.accounts().cookie("eve"));
    let response = app.client.post(app.url("/refresh-token")).bearer_auth(credential).send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(error_of(response).await["code"], "client_mode");
}

#[tokio::test]
async fn conversations_go_on_in_the_callers_account_and_leave_nothing_behind() {
    let app = client_mode(Setup::default().without("API_KEY")).await;
    let credential = |name: &str| {
        let accounts = app.simulator.accounts();
        format!("{};{}", accounts.bearer(name), accounts.cookie(name))
    };
    let talk = json!([
        {"role": "user", "content": "echo: one"}, {"role": "assistant", "content": "one"},
        {"role": "user", "content": "echo: two"},
    ]);
    let body = |count: usize| json!({"model": "qwen3-max", "messages": talk.as_array().unwrap()[..count]});
    for name in ["eve", "ada", "eve", "ada"] {
        let count = if app.simulator.record().counts().completions < 2 { 1 } else { 3 };
        assert_eq!(ask(&app, &credential(name), &body(count)).await.status(), 200);
    }
    let sent = app.simulator.record().requests_to(Endpoint::Completions);
    for (first, second) in [(0, 2), (1, 3)] {
        let chat = |place: usize| sent[place].body.as_ref().unwrap()["chat_id"].clone();
        assert_eq!((&sent[first].account, chat(first)), (&sent[second].account, chat(second)));
        assert_eq!(sent[second].body.as_ref().unwrap()["messages"][0]["content"], "echo: two");
    }
    let secrets: Vec<String> = ["eve", "ada"].map(credential).to_vec();
    let (simulator, state_dir) = app.stop().await;
    // These chats are in no ledger, so the stop itself deletes them.
    assert!(simulator.stored().chats(None).iter().all(|chat| chat.is_old));
    let kept = bytes_below(state_dir.path());
    for secret in secrets.iter().flat_map(|secret| secret.split([';', '='])).filter(|part| part.len() > 20) {
        assert!(!contains(&kept, secret));
    }
}
