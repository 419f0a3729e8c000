//! Accounts in files and settings: found, renewed, changed by others, over.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::base::facts::Usage;
use crate::base::ids::{CredentialKey, IdentityId};
use crate::base::oauth::{AccountId, RefreshToken};
use crate::gateway::accounts::error::RefreshError;
use crate::gateway::tests::{Endpoint, Home, content, id, login, until};
use crate::pool::{CallerId, CredentialState, Now, Outcome, Wanted};
use crate::upstream::tests::server::json as answer;

#[tokio::test]
async fn accounts_come_from_files_and_settings() {
    let (endpoint, mut home) = (Endpoint::new(), Home::new());
    home.own().write(&id("work"), login("w", 3600)).await.unwrap();
    home.own().write(&AccountId::unnamed(), login("d", -5)).await.unwrap();
    home.shared().write(&AccountId::unnamed(), login("s", 3600)).await.unwrap();
    home.given = vec![login("g", 3600), login("w", 3600)];
    let process = home.start(&endpoint).await;
    assert_eq!(
        process.states(),
        "oauth:default expired, oauth:env-1 ready, oauth:qwen-cli ready, oauth:work ready",
        "the same login counts once"
    );
    assert_eq!(process.token("oauth:work"), "access-w-0");
    assert!(process.session("oauth:work").cookie_header().is_none());
    assert_eq!(process.pool.summary(Now::read()).total, 4);
    assert_eq!(process.accounts.faults().len(), 1);
    assert_eq!(endpoint.calls(), 0, "the upstream is not asked at the start");
    let base = |name: &str| process.accounts.api_base(&IdentityId::named(name)).map(|base| base.unwrap().to_string());
    assert_eq!(base("oauth:work").unwrap(), "https://portal.qwen.ai/v1");
    assert_eq!(base("oauth:unknown"), None);
    process.stop().await;
}

#[tokio::test]
async fn a_refresh_is_made_once_and_written_before_it_is_used() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("a", 20)).await.unwrap();
    let process = home.start(&endpoint).await;
    let session = process.session("oauth:a");
    let waiting = (0..20).map(|_| process.accounts.ensure_fresh(&session));
    for result in futures_util::future::join_all(waiting).await {
        result.unwrap();
    }
    assert_eq!((endpoint.calls(), process.token("oauth:a").as_str()), (1, "access-a-1"));
    let path = home.own().path_of(&id("a"));
    let written = content(&path);
    assert_eq!((&written["refresh_token"], &written["note"]), (&json!("a-1"), &json!("kept")));
    assert_eq!(written["resource_url"], "portal.qwen.ai");
    assert!(!path.with_file_name("oauth_creds_a.lock").exists());
    process.accounts.ensure_fresh(&session).await.unwrap();
    assert_eq!(endpoint.calls(), 1, "good for an hour");
    process.replace("oauth:a").await.unwrap();
    assert_eq!((endpoint.calls(), process.token("oauth:a").as_str()), (2, "access-a-2"));
    process.accounts.replace(&session, 1).await.unwrap();
    assert_eq!(endpoint.calls(), 2, "the refused token is not in use any more");
    process.stop().await;
}

#[tokio::test]
async fn two_processes_refresh_one_account_once() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.shared().write(&AccountId::unnamed(), login("s", -1)).await.unwrap();
    let (one, other) = (home.start_with(&endpoint, "state-1").await, home.start_with(&endpoint, "state-2").await);
    let (first, second) = tokio::join!(one.replace("oauth:qwen-cli"), other.replace("oauth:qwen-cli"));
    first.unwrap();
    second.unwrap();
    assert_eq!(endpoint.calls(), 1);
    assert_eq!(
        (one.token("oauth:qwen-cli"), other.token("oauth:qwen-cli")),
        ("access-s-1".into(), "access-s-1".into())
    );
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_dead_login_is_not_tried_again_until_its_file_changes() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("a", -1)).await.unwrap();
    endpoint.newest.lock().insert("a".to_owned(), 7);
    let process = home.start(&endpoint).await;
    let key = process.session("oauth:a").key().clone();
    let error = process.replace("oauth:a").await.unwrap_err();
    assert!(matches!(error, RefreshError::Refused { .. }), "{error}");
    assert_eq!(process.states(), "oauth:a needs_login");
    assert_eq!(process.pool.credential(&key), Some(CredentialState::Dead));
    process.replace("oauth:a").await.unwrap_err();
    assert_eq!(endpoint.calls(), 1);
    assert!(home.own().path_of(&id("a")).exists(), "the file is its owner's");
    process.stop().await;

    let process = home.start(&endpoint).await;
    assert_eq!(process.states(), "oauth:a needs_login", "remembered");
    process.replace("oauth:a").await.unwrap_err();
    assert_eq!(endpoint.calls(), 1);
    process.accounts.log_in(&id("a"), login("b", 3600)).await.unwrap();
    assert_eq!(process.states(), "oauth:a ready");
    assert_eq!(process.pool.credential(&key), Some(CredentialState::Ready));
    assert_eq!(process.token("oauth:a"), "access-b-0");
    process.stop().await;
}

#[tokio::test]
async fn what_tells_nothing_of_the_login_is_tried_again_later() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("a", 20)).await.unwrap();
    let process = home.start(&endpoint).await;
    let session = process.session("oauth:a");
    let html =
        b"HTTP/1.1 400 X\r\ncontent-type: text/html\r\ncontent-length: 14\r\nconnection: close\r\n\r\n<html>captcha>"
            .to_vec();
    *endpoint.instead.lock() = vec![answer(503, &json!({})), html];
    process.accounts.ensure_fresh(&session).await.unwrap();
    assert_eq!((endpoint.calls(), process.token("oauth:a").as_str()), (1, "access-a-0"), "the old one serves on");
    let error = process.replace("oauth:a").await.unwrap_err();
    assert!(matches!(error, RefreshError::Failed { source: Some(_), .. }), "{error}");
    assert_eq!(process.states(), "oauth:a ready");
    process.replace("oauth:a").await.unwrap();
    assert_eq!(process.token("oauth:a"), "access-a-1");
    process.stop().await;
}

#[tokio::test]
async fn files_that_come_change_and_go_are_noticed() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    let process = home.start(&endpoint).await;
    process.supervisor.spawn("accounts", process.accounts.clone().run(process.supervisor.stopping()));
    home.shared().write(&AccountId::unnamed(), login("s", 3600)).await.unwrap();
    until("a new file", || process.states() == "oauth:qwen-cli ready").await;
    home.shared().write(&AccountId::unnamed(), login("t", 3600)).await.unwrap();
    until("a changed file", || process.token("oauth:qwen-cli") == "access-t-0").await;
    let path = home.shared().path_of(&AccountId::unnamed());
    fs::write(&path, "{\"access_token\": \"hush").unwrap();
    until("a torn file", || !process.accounts.faults().is_empty()).await;
    assert!(!format!("{:?}", process.accounts.faults()).contains("hush"));
    assert_eq!(
        (process.states().as_str(), process.token("oauth:qwen-cli").as_str()),
        ("oauth:qwen-cli ready", "access-t-0")
    );
    home.shared().write(&AccountId::unnamed(), login("u", 3600)).await.unwrap();
    until("a mended file", || process.token("oauth:qwen-cli") == "access-u-0" && process.accounts.faults().is_empty())
        .await;
    fs::remove_file(&path).unwrap();
    until("a file that went", || process.pool.sessions().is_empty()).await;
    assert_eq!(process.states(), "");
    assert_eq!(endpoint.calls(), 0);
    process.stop().await;
}

#[tokio::test]
async fn tokens_are_renewed_before_they_end() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("a", -1)).await.unwrap();
    home.own().write(&id("b"), login("b", 3600)).await.unwrap();
    home.own().write(&id("c"), login("c", 3)).await.unwrap();
    let process = home.start(&endpoint).await;
    process.supervisor.spawn("accounts", process.accounts.clone().run(process.supervisor.stopping()));
    until("two refreshes", || process.token("oauth:a") == "access-a-1" && process.token("oauth:c") == "access-c-1")
        .await;
    assert_eq!((endpoint.calls(), process.token("oauth:b").as_str()), (2, "access-b-0"));
    process.stop().await;
}

#[tokio::test]
async fn given_credentials_are_kept_until_they_change() {
    let (endpoint, mut home) = (Endpoint::new(), Home::new());
    home.given = vec![login("g", -1)];
    let process = home.start(&endpoint).await;
    process.replace("oauth:env-1").await.unwrap();
    assert_eq!(process.token("oauth:env-1"), "access-g-1");
    process.stop().await;

    let process = home.start(&endpoint).await;
    assert_eq!((process.token("oauth:env-1").as_str(), process.states().as_str()), ("access-g-1", "oauth:env-1 ready"));
    process.replace("oauth:env-1").await.unwrap();
    process.stop().await;
    assert_eq!(endpoint.newest.lock()["g"], 2);

    home.given = vec![login("h", 3600)];
    let process = home.start(&endpoint).await;
    assert_eq!(process.token("oauth:env-1"), "access-h-0");
    process.stop().await;
}

#[tokio::test]
async fn a_refused_token_is_told_from_a_login_that_is_over() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("a", 3600)).await.unwrap();
    let process = home.start(&endpoint).await;
    let session = process.session("oauth:a");
    // Good for an hour by its own word, and refused all the same.
    process.accounts.doubt(&session, session.token_generation());
    assert_eq!(process.states(), "oauth:a expired");
    process.replace("oauth:a").await.unwrap();
    assert_eq!(process.states(), "oauth:a ready", "a refresh is worth a try");
    let wanted = Wanted {
        caller: CallerId(1),
        usage: Usage::Chat,
        uploads: false,
        preferred: None,
        tried: Vec::new(),
        deadline: std::time::Instant::now() + std::time::Duration::from_secs(60),
    };
    let now = Now::read();
    process.pool.try_lease(&wanted, now).unwrap().finish(Outcome::TokenRefused, now);
    assert_eq!(process.states(), "oauth:a portal_refuses");
    let view = &process.accounts.views(Now::read())[0];
    assert!(view.state.advice().contains("free tier closed 2026-04-15"));
    assert_eq!(process.pool.credential(session.key()), Some(CredentialState::Ready), "looked at again by itself");
    process.accounts.log_in(&id("a"), login("b", 3600)).await.unwrap();
    assert_eq!(process.states(), "oauth:a ready");
    process.stop().await;
}

#[tokio::test]
async fn a_token_that_is_refused_and_cannot_be_renewed_is_not_used_until_its_file_changes() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("a", 3600)).await.unwrap();
    endpoint.newest.lock().insert("a".to_owned(), 7);
    let process = home.start(&endpoint).await;
    let session = process.session("oauth:a");
    process.replace("oauth:a").await.unwrap_err();
    assert_eq!(process.states(), "oauth:a ready", "a token that was not refused serves to its end");
    process.accounts.doubt(&session, session.token_generation());
    process.replace("oauth:a").await.unwrap_err();
    assert_eq!(process.states(), "oauth:a needs_login");
    assert_eq!(process.pool.credential(session.key()), Some(CredentialState::Dead));
    process.accounts.ensure_fresh(&session).await.unwrap_err();
    process.stop().await;

    let process = home.start(&endpoint).await;
    assert_eq!((process.states().as_str(), endpoint.calls()), ("oauth:a needs_login", 1), "remembered");
    process.accounts.log_in(&id("a"), login("b", 3600)).await.unwrap();
    assert_eq!(process.states(), "oauth:a ready");
    process.stop().await;
}

#[tokio::test]
async fn a_spent_token_that_comes_back_is_replaced_by_its_successor() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("a", 20)).await.unwrap();
    let path = home.own().path_of(&id("a"));
    let before = fs::read(&path).unwrap();
    let process = home.start(&endpoint).await;
    process.replace("oauth:a").await.unwrap();
    // An editor that was opened before the refresh and saves after it.
    fs::write(&path, before).unwrap();
    process.supervisor.spawn("accounts", process.accounts.clone().run(process.supervisor.stopping()));
    until("the successor", || content(&path)["refresh_token"] == "a-1").await;
    assert_eq!(process.token("oauth:a"), "access-a-1");
    process.stop().await;
}

#[tokio::test]
async fn a_token_of_another_account_is_never_used() {
    let token = |account: &str| {
        let claims = json!({"id": account, "exp": Now::read().unix.0 + 3600}).to_string();
        format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims))
    };
    let (endpoint, home) = (Endpoint::new(), Home::new());
    let mine = json!({"access_token": token("me"), "refresh_token": "a-0", "expiry_date": 1}).to_string();
    fs::create_dir_all(home.own().dir()).unwrap();
    fs::write(home.own().path_of(&id("a")), mine).unwrap();
    let process = home.start(&endpoint).await;
    let theirs = json!({"access_token": token("you"), "refresh_token": "b-1", "expires_in": 3600});
    endpoint.instead.lock().push(answer(200, &theirs));
    assert!(process.replace("oauth:a").await.is_err());
    assert_eq!(process.states(), "oauth:a needs_login");
    assert_ne!(process.session("oauth:a").token().map(|it| it.expose().to_owned()), Some(token("you")));
    assert_eq!(content(&home.own().path_of(&id("a")))["refresh_token"], "a-0", "the file stays as it was");
    process.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_written_does_not_cost_the_login() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("a", 20)).await.unwrap();
    let path = home.own().path_of(&id("a"));
    let process = home.start(&endpoint).await;
    let (before, torn) = (fs::read(&path).unwrap(), path.clone());
    *endpoint.during.lock() = Some(Box::new(move || fs::write(&torn, "{").unwrap()));
    process.replace("oauth:a").await.unwrap();
    assert_eq!((process.token("oauth:a").as_str(), fs::read(&path).unwrap().as_slice()), ("access-a-1", &b"{"[..]));
    process.stop().await;
    fs::write(&path, before).unwrap();
    let process = home.start(&endpoint).await;
    assert_eq!((process.token("oauth:a").as_str(), endpoint.calls()), ("access-a-1", 1), "the state file had it");
    process.replace("oauth:a").await.unwrap();
    assert_eq!(content(&path)["refresh_token"], "a-2", "and in the end the file has it too");
    process.stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_cannot_be_written_does_not_stop_renewals() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    // Nothing is forbidden to root, so the test runs once more as another user.
    const NOBODY: u32 = 65_534;
    if rustix::process::geteuid().is_root() {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "gateway::tests::oauth::a_folder_that_cannot_be_written_does_not_stop_renewals";
        let ran = again.args(["--exact", name]).uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
        return;
    }
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("a", 20)).await.unwrap();
    let path = home.own().path_of(&id("a"));
    let before = fs::read(&path).unwrap();
    let dir = home.own().dir().to_owned();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o500)).unwrap();
    let process = home.start(&endpoint).await;
    process.replace("oauth:a").await.unwrap();
    assert_eq!((process.token("oauth:a").as_str(), process.states().as_str()), ("access-a-1", "oauth:a ready"));
    process.replace("oauth:a").await.unwrap();
    assert_eq!(process.token("oauth:a"), "access-a-2");
    assert_eq!(fs::read(&path).unwrap(), before, "the file stays as it was");
    process.stop().await;
    let process = home.start(&endpoint).await;
    assert_eq!(process.token("oauth:a"), "access-a-2", "the state file had it");
    process.stop().await;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_login_that_comes_during_a_refresh_wins() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("a", 20)).await.unwrap();
    let path = home.own().path_of(&id("a"));
    let process = home.start(&endpoint).await;
    let (target, text) = (path.clone(), login("b", 3600).to_json());
    *endpoint.during.lock() = Some(Box::new(move || {
        use secrecy::ExposeSecret as _;
        fs::write(&target, text.expose_secret()).unwrap();
    }));
    process.replace("oauth:a").await.unwrap();
    assert_eq!((process.token("oauth:a").as_str(), &content(&path)["refresh_token"]), ("access-b-0", &json!("b-0")));
    process.stop().await;
}

#[tokio::test]
async fn an_account_whose_file_goes_during_a_refresh_is_gone() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("a", 20)).await.unwrap();
    let process = home.start(&endpoint).await;
    home.own().remove(&id("a")).await.unwrap();
    let error = process.replace("oauth:a").await.unwrap_err();
    assert!(matches!(error, RefreshError::Gone { .. }), "{error}");
    assert!(process.pool.sessions().is_empty());
    assert_eq!(endpoint.calls(), 0);
    process.stop().await;
}

#[tokio::test]
async fn nothing_secret_is_in_what_people_see() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    home.own().write(&id("a"), login("hush", -1)).await.unwrap();
    endpoint.newest.lock().insert("hush".to_owned(), 7);
    let process = home.start(&endpoint).await;
    let error = process.replace("oauth:a").await.unwrap_err();
    let shown = format!("{error} {error:?} {:?} {:?}", process.accounts.views(Now::read()), process.accounts.faults());
    assert!(!shown.contains("hush"), "{shown}");
    let refresh_key = RefreshToken::parse("hush-0").unwrap().key();
    assert_ne!(refresh_key, CredentialKey::of("hush-0"), "a token is not mistaken for a cookie of the same text");
    assert!(endpoint.seen().iter().all(|seen| seen.target == "/api/v1/oauth2/token"));
    process.stop().await;
}
