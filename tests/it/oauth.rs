//! OAuth accounts: the portal that speaks OpenAI's dialect itself, with tokens that are renewed.

use std::path::Path;

use serde_json::{Value, json};
use simulator::script::{ApiErrorScript, ApiFailure, Endpoint, PortalScript, Scenario, ScriptedReply};
use simulator::{Simulator, TokenLife};
use tempfile::TempDir;

use crate::support::app::{PATIENCE, Setup, TestApp, content, error_of, json_of, question};

fn put(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(format!("oauth_creds_{name}.json")), text).unwrap();
}

const ADMIN: &str = "sk-of-the-owner";

/// A server with these OAuth accounts, in files of its own, and no other.
async fn with_accounts(scenario: Scenario, accounts: &[(&str, TokenLife)]) -> (TestApp, TempDir) {
    with_accounts_and(scenario, accounts, |setup| setup).await
}

/// The same with other settings.
async fn with_accounts_and(
    scenario: Scenario,
    accounts: &[(&str, TokenLife)],
    change: impl FnOnce(Setup) -> Setup,
) -> (TestApp, TempDir) {
    let simulator = Simulator::start(scenario.paced_ms(0)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (account, life) in accounts {
        put(dir.path(), account, &simulator.oauth().credentials(account, *life));
    }
    let setup = Setup::default()
        .without("COOKIE")
        .with("QWEN_DIR", &dir.path().display().to_string())
        .with("QWEN_OAUTH_BASE_URL", simulator.urls().web.as_str());
    (change(setup).start(simulator).await, dir)
}

fn ask(text: &str) -> Value {
    let mut body = question(text);
    body["model"] = json!("qwen3-coder-plus");
    body
}

#[tokio::test]
async fn an_account_answers_whole_and_streamed() {
    let (app, _dir) = with_accounts(Scenario::default(), &[("cleo", TokenLife::Fresh)]).await;
    let mut body = ask("echo: Grüße");
    body["temperature"] = json!(0);
    let answer = json_of(app.chat(&body).await).await;
    assert_eq!(content(&answer), "Grüße");
    let transcript = app.stream(&body).await;
    assert_eq!((transcript.content().as_str(), transcript.is_done), ("Grüße", true));
    let sent = app.simulator.record().requests_to(Endpoint::PortalChat).pop().unwrap().body.unwrap();
    assert_eq!(sent["temperature"], 0);
    assert_eq!(sent["messages"][0]["role"], "system");
    assert_eq!(sent["messages"][0]["content"][0]["cache_control"]["type"], "ephemeral");
    app.assert_clean();
}

/// The owner's default model chooses among all kinds of upstream, by prefix and by another name too.
#[tokio::test]
async fn the_owners_default_model_is_asked_for() {
    let without_a_model = json!({"messages": [{"role": "user", "content": "echo: x"}]});
    for (default, asked) in [
        ("", "qwen3-coder-plus"),
        ("qwen3-coder-flash", "qwen3-coder-flash"),
        ("oauth/qwen3-coder-flash", "qwen3-coder-flash"),
        ("mine", "qwen3-coder-flash"),
    ] {
        let change =
            |setup: Setup| setup.with("DEFAULT_MODEL", default).with("MODEL_MAP", "mine=oauth/qwen3-coder-flash");
        let (app, _dir) = with_accounts_and(Scenario::default(), &[("cleo", TokenLife::Fresh)], change).await;
        assert_eq!(content(&json_of(app.chat(&without_a_model).await).await), "x", "{default}");
        let sent = app.simulator.record().requests_to(Endpoint::PortalChat).pop().unwrap().body.unwrap();
        assert_eq!(sent["model"], asked, "{default}");
    }
    let (app, _dir) = with_accounts_and(Scenario::default(), &[("cleo", TokenLife::Fresh)], |setup| {
        setup.with("DEFAULT_MODEL", "no-such-model")
    })
    .await;
    let error = error_of(app.chat(&without_a_model).await).await;
    assert_eq!(error["code"], "model_not_found");
    assert!(error["message"].as_str().unwrap().contains("no-such-model"), "{error}");
}

/// Beside accounts of the web chat, too.
#[tokio::test]
async fn a_default_model_of_oauth_accounts_beside_the_web_chat() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "cleo", &simulator.oauth().credentials("cleo", TokenLife::Fresh));
    let setup = Setup::default()
        .with("QWEN_DIR", &dir.path().display().to_string())
        .with("QWEN_OAUTH_BASE_URL", simulator.urls().web.as_str())
        .with("DEFAULT_MODEL", "oauth/qwen3-coder-plus");
    let app = setup.start(simulator).await;
    let answer = json_of(app.chat(&json!({"messages": [{"role": "user", "content": "echo: x"}]})).await).await;
    assert_eq!(content(&answer), "x");
    assert_eq!(app.simulator.record().requests_to(Endpoint::PortalChat).len(), 1);
}

#[tokio::test]
async fn a_token_that_has_ended_is_renewed_before_it_is_used() {
    let (app, dir) = with_accounts(Scenario::default(), &[("cleo", TokenLife::Expired)]).await;
    let answer = json_of(app.chat(&ask("echo: x")).await).await;
    assert_eq!(content(&answer), "x");
    assert_eq!(app.simulator.record().counts().oauth_refreshes, 1);
    let kept: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("oauth_creds_cleo.json")).unwrap()).unwrap();
    let first: Value = serde_json::from_str(&app.simulator.oauth().credentials("cleo", TokenLife::Expired)).unwrap();
    assert_ne!(kept["access_token"], first["access_token"]);
    app.assert_clean();
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_same_account_answers() {
    let (app, _dir) = with_accounts(Scenario::default(), &[("cleo", TokenLife::Fresh)]).await;
    app.simulator.oauth().expire("cleo");
    let answer = json_of(app.chat(&ask("echo: x")).await).await;
    assert_eq!(content(&answer), "x");
    assert_eq!(app.simulator.record().requests_to(Endpoint::PortalChat).len(), 2);
    app.assert_clean();
}

#[tokio::test]
async fn another_account_takes_over() {
    // S000-42, S000-44, S000-45: the second account answers what the first could not.
    for failure in [ApiFailure::Quota, ApiFailure::Server(502), ApiFailure::Throttled("60".to_owned())] {
        let accounts = [("cleo", TokenLife::Fresh), ("dora", TokenLife::Fresh)];
        let (app, _dir) = with_accounts(Scenario::default(), &accounts).await;
        app.simulator.script().queue(None, Endpoint::PortalChat, ScriptedReply::api(failure.clone()));
        let answer = json_of(app.chat(&ask("echo: x")).await).await;
        assert_eq!(content(&answer), "x", "{failure:?}");
        let asked = app.simulator.record().requests_to(Endpoint::PortalChat);
        assert_eq!(asked.len(), 2, "{failure:?}");
        assert_ne!(asked[0].account, asked[1].account, "{failure:?}");
    }
}

#[tokio::test]
async fn a_spent_quota_rests_until_midnight_and_over_a_restart() {
    // S000-44, S000-49, S000-50: with a word for quota it is the day that is over, whatever the status is.
    for failure in [ApiFailure::Quota, ApiFailure::Quota403, ApiFailure::CurrentQuota] {
        let left = || 86_400 - jiff::Timestamp::now().as_second().rem_euclid(86_400).unsigned_abs();
        if left() < 60 {
            return;
        }
        let accounts = [("cleo", TokenLife::Fresh), ("dora", TokenLife::Fresh)];
        let (app, dir) = with_accounts(Scenario::default(), &accounts).await;
        app.simulator.script().queue(None, Endpoint::PortalChat, ScriptedReply::api(failure.clone()));
        app.simulator.script().queue(None, Endpoint::PortalChat, ScriptedReply::api(failure.clone()));
        let told = async |app: &TestApp| {
            let response = app.chat(&ask("echo: x")).await;
            assert_eq!(response.status(), 429, "{failure:?}");
            let told: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert_eq!(error_of(response).await["code"], "insufficient_quota", "{failure:?}");
            told
        };
        let first = told(&app).await;
        assert!((left()..=left() + 10).contains(&first), "{first}");
        let (simulator, state_dir) = app.stop().await;
        let setup = Setup::default()
            .without("COOKIE")
            .with("QWEN_DIR", &dir.path().display().to_string())
            .with("QWEN_OAUTH_BASE_URL", simulator.urls().web.as_str());
        let app = setup.in_dir(state_dir).start(simulator).await;
        let second = told(&app).await;
        assert!((left()..=first).contains(&second), "{second}");
        assert_eq!(app.simulator.record().requests_to(Endpoint::PortalChat).len(), 2, "{failure:?}");
    }
}

#[tokio::test]
async fn a_portal_that_takes_no_tokens_is_named() {
    let (app, _dir) = with_accounts(Scenario::default(), &[("cleo", TokenLife::Fresh)]).await;
    app.simulator.oauth().set_portal(PortalScript { free_tier_closed: true, ..PortalScript::default() });
    let response = app.chat(&ask("echo: x")).await;
    assert_eq!(response.status(), 503);
    assert_eq!(error_of(response).await["code"], "no_available_account");
    app.assert_clean();
}

#[tokio::test]
async fn a_login_that_is_over_is_not_drawn_again_however_fresh_its_token_looks() {
    // Without any retry: nothing was sent that cost one.
    let (app, dir) =
        with_accounts_and(Scenario::default(), &[("cleo", TokenLife::Fresh), ("dora", TokenLife::Fresh)], |setup| {
            setup.with("MAX_RETRIES", "0").with("ADMIN_SECRET_KEY", ADMIN)
        })
        .await;
    app.simulator.oauth().set_revoked("cleo", true);
    for round in 0..30 {
        let answer = json_of(app.chat(&ask("echo: x")).await).await;
        assert_eq!(content(&answer), "x", "{round}");
    }
    let of_cleo = || {
        let asked = app.simulator.record().requests_to(Endpoint::PortalChat);
        asked.iter().filter(|request| request.account.as_deref() == Some("cleo")).count()
    };
    assert_eq!(of_cleo(), 1);
    let owner = async |path: &str| {
        let request = app.client.get(app.url(path)).bearer_auth(ADMIN);
        json_of(request.send().await.unwrap()).await
    };
    let seen = owner("/admin/health").await;
    let of = |name: &str| {
        let accounts = seen["accounts"].as_array().unwrap();
        accounts.iter().find(|account| account["account"] == name).unwrap().clone()
    };
    assert_eq!(of("oauth:cleo")["error"], "login_needed", "{seen}");
    assert_eq!((&of("oauth:dora")["status"], &of("oauth:cleo")["isFailed"]), (&json!("healthy"), &json!(true)));
    assert_eq!(owner("/auth?account=cleo").await["authenticated"], false);
    // A new login in the file is taken up by itself.
    app.simulator.oauth().set_revoked("cleo", false);
    put(dir.path(), "cleo", &app.simulator.oauth().credentials("cleo", TokenLife::Fresh));
    let mut left = PATIENCE.as_millis() / 50;
    while of_cleo() < 2 {
        left = left.checked_sub(1).expect("never drawn again");
        json_of(app.chat(&ask("echo: x")).await).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_model_that_no_account_may_use_marks_no_account() {
    let accounts = [("cleo", TokenLife::Fresh), ("dora", TokenLife::Fresh)];
    let (app, _dir) = with_accounts(Scenario::default(), &accounts).await;
    let denied = ApiErrorScript::new(403, "", "You have no access to the model.");
    app.simulator.script().set_default(None, Endpoint::PortalChat, Some(ScriptedReply::api(ApiFailure::Other(denied))));
    for _ in 0..3 {
        let response = app.chat(&ask("x")).await;
        assert_eq!(response.status(), 403);
        assert_eq!(error_of(response).await["code"], "model_access_denied");
    }
    app.simulator.script().set_default(None, Endpoint::PortalChat, None);
    let health = json_of(app.get("/health").send().await.unwrap()).await;
    assert_eq!(health["identityPool"]["healthy"], 2, "{health}");
    assert_eq!(content(&json_of(app.chat(&ask("echo: x")).await).await), "x");
}

#[tokio::test]
async fn what_a_server_with_oauth_accounts_alone_says() {
    let owned = |setup: Setup| setup.with("ADMIN_SECRET_KEY", ADMIN);
    let (app, _dir) = with_accounts_and(Scenario::default(), &[("cleo", TokenLife::Fresh)], owned).await;
    // The portal has no list of models, and a probe takes that for what it is.
    let probe = app.client.get(app.url("/admin/health?probe=1")).bearer_auth(ADMIN);
    let probed = json_of(probe.send().await.unwrap()).await;
    assert_eq!(probed["accounts"][0]["status"], "healthy", "{probed}");
    let health = json_of(app.get("/health").send().await.unwrap()).await;
    assert_eq!(health["token"]["valid"], true, "{health}");
    let listed = json_of(app.get("/v1/models").send().await.unwrap()).await;
    for model in listed["data"].as_array().unwrap() {
        let mut body = question("echo: x");
        body["model"] = model["id"].clone();
        assert_eq!(app.chat(&body).await.status(), 200, "{model}");
    }
    let refreshed = app.post("/refresh-token", &json!({})).send().await.unwrap();
    assert_eq!(refreshed.status(), 200);
    let body = json_of(refreshed).await;
    assert_eq!((&body["identities"][0]["id"], &body["identities"][0]["success"]), (&json!("oauth:cleo"), &json!(true)));
    assert_eq!(app.simulator.record().counts().oauth_refreshes, 1);
    app.simulator.oauth().set_revoked("cleo", true);
    for _ in 0..2 {
        let response = app.chat(&ask("x")).await;
        assert_eq!(response.status(), 503);
        let message = error_of(response).await["message"].as_str().unwrap().to_owned();
        assert!(message.contains("auth add") && !message.contains("cookie"), "{message}");
    }
    let health = json_of(app.get("/health").send().await.unwrap()).await;
    assert_eq!(health["token"]["valid"], false, "{health}");
}

#[tokio::test]
async fn accounts_come_and_go_while_the_server_runs() {
    let (app, dir) = with_accounts(Scenario::default(), &[]).await;
    let total = async || json_of(app.get("/health").send().await.unwrap()).await["identityPool"]["total"].clone();
    assert_eq!(total().await, 0);
    put(dir.path(), "cleo", &app.simulator.oauth().credentials("cleo", TokenLife::Fresh));
    let until = async |wanted: u64| {
        tokio::time::timeout(PATIENCE, async {
            while total().await != wanted {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await
        .expect("the change was not noticed");
    };
    until(1).await;
    assert_eq!(content(&json_of(app.chat(&ask("echo: x")).await).await), "x");
    std::fs::remove_file(dir.path().join("oauth_creds_cleo.json")).unwrap();
    until(0).await;
}

#[tokio::test]
async fn tools_pass_through() {
    // S002-12
    let (app, _dir) = with_accounts(Scenario::default(), &[("cleo", TokenLife::Fresh)]).await;
    let mut body = ask("call: weather {\"city\": \"Oslo\"}");
    body["tools"] = json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]);
    let answer = json_of(app.chat(&body).await).await;
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "weather");
    assert_eq!(app.stream(&body).await.finish_reasons(), ["tool_calls"]);
}

#[tokio::test]
async fn an_account_that_cannot_be_renewed_leaves_the_request_to_another() {
    // S000-40
    let accounts = [("cleo", TokenLife::Expired), ("dora", TokenLife::Fresh)];
    let (app, _dir) = with_accounts(Scenario::default(), &accounts).await;
    app.simulator.script().set_default(Some("cleo"), Endpoint::RefreshToken, Some(ScriptedReply::status(503)));
    for _ in 0..6 {
        let answer = json_of(app.chat(&ask("echo: x")).await).await;
        assert_eq!(content(&answer), "x");
    }
    let asked = app.simulator.record().requests_to(Endpoint::PortalChat);
    assert!(asked.iter().all(|request| request.account.as_deref() == Some("dora")), "{asked:?}");
}

/// The body of a workflow tool: plain JSON without a key, the messages maybe as text.
#[tokio::test]
async fn a_workflow_tool_is_served() {
    // S004-62, S004-63, S004-64
    let (app, _dir) = with_accounts(Scenario::default(), &[("cleo", TokenLife::Fresh)]).await;
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "echo: Hello"}]);
    for messages in [messages.clone(), json!(messages.to_string())] {
        let mut body =
            json!({"model": "qwen3-coder-plus", "max_tokens": 150, "temperature": 0.7, "messages": messages});
        let answer = json_of(app.chat(&body).await).await;
        assert_eq!(answer["choices"][0]["message"]["content"], "Hello");
        body["model"] = json!("qwen-turbo");
        let response = app.chat(&body).await;
        assert_eq!(response.status(), 404);
        assert_eq!(error_of(response).await["code"], "model_not_found");
    }
}
