use http::Method;
use serde_json::json;

use crate::Simulator;
use crate::script::{AccountScript, Endpoint, Era, RefreshRotation, Scenario};
use crate::tests::client::{Caller, frames, question, read, start};

async fn with(account: AccountScript) -> Simulator {
    Simulator::start(Scenario::with_accounts([account])).await.unwrap()
}

#[tokio::test]
async fn era_a_lives_by_its_cookie() {
    let simulator = start().await;
    let mut caller = Caller::new(&simulator, "ada");
    caller.bearer = None;
    let me = caller.get("/api/v1/auths/").await;
    assert_eq!((me.status, me.effective), (200, 0));
    let token = me.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(me.json()["role"], "user");
    let cookie = format!("token={token}; ");
    assert!(me.set_cookies.iter().any(|line| line.starts_with(&cookie)));
    assert_ne!(caller.cookie, simulator.accounts().cookie("ada"), "rotated");
    assert!(frames(&caller.ask("hi").await.text).len() > 4, "the old one still works");
    caller.cookie = "cna=1".into();
    let refused = caller.get("/api/v1/auths/").await;
    assert_eq!(refused.status, 401);
    assert!(refused.json()["detail"].is_string());
    assert!(refused.json().get("success").is_none());
}

#[tokio::test]
async fn an_old_session_may_die() {
    let simulator = with(AccountScript { old_session_dies: true, ..AccountScript::new("ada", Era::A) }).await;
    let mut caller = Caller::new(&simulator, "ada");
    caller.bearer = None;
    assert_eq!(caller.get("/api/v1/auths/").await.status, 200);
    assert_eq!(caller.get("/api/v1/auths/").await.status, 401);
    caller.cookie = simulator.accounts().cookie("ada");
    assert_eq!(caller.get("/api/v1/auths/").await.status, 200);
}

#[tokio::test]
async fn era_b_refreshes() {
    let simulator = with(AccountScript {
        access_token_seconds: 900,
        refresh_rotation: RefreshRotation::New,
        ..AccountScript::new("bob", Era::B)
    })
    .await;
    let mut caller = Caller::new(&simulator, "bob");
    caller.bearer = None;
    assert!(!caller.cookie.contains("; token="));
    let signed_out = caller.get("/api/v2/chats/").await;
    assert_eq!((signed_out.code().as_str(), signed_out.effective), ("Unauthorized", 401));

    let url = "/api/v2/auths/refresh";
    let grant = read(caller.to_auth(url).send().await.unwrap()).await;
    let data = grant.data();
    caller.bearer = Some(data["access_token"].as_str().unwrap().to_owned());
    let left = data["expires_at"].as_u64().unwrap() - jiff::Timestamp::now().as_second() as u64;
    assert!((895..=901).contains(&left), "{left}");
    let new_cookie = format!("refresh_token={}; ", data["refresh_token"].as_str().unwrap());
    assert!(grant.set_cookies.iter().any(|line| line.starts_with(&new_cookie)));
    assert!(frames(&caller.ask("hi").await.text).len() > 4);

    let again = read(caller.to_auth(url).send().await.unwrap()).await;
    assert_eq!((again.code().as_str(), again.effective), ("Unauthorized", 401));
    assert_eq!(again.details(), "令牌已撤销，请重新登录");
    caller.cookie = simulator.accounts().cookie("bob");
    read(caller.to_auth(url).send().await.unwrap()).await.data();
    assert_eq!(simulator.record().counts().refreshes, 3);
    assert!(simulator.record().violations().is_empty(), "{:?}", simulator.record().violations());
}

#[tokio::test]
async fn refresh_wants_its_headers() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "bob");
    let url = simulator.urls().auth.join("/api/v2/auths/refresh").unwrap();
    let bare = || reqwest::Client::new().get(url.clone()).header("cookie", &caller.cookie);
    let refused = read(bare().send().await.unwrap()).await;
    assert_eq!((refused.details().as_str(), refused.status), ("Missing origin", 200));
    let from = || bare().header("x-request-origin", "https://chat.qwen.ai");
    let refused = read(from().send().await.unwrap()).await;
    assert_eq!(refused.details(), "Invalid request header");
    let refused = read(from().header("timezone", "x").send().await.unwrap()).await;
    assert_eq!(refused.details(), "Invalid request header");
    let granted = from().header("timezone", "x").header("x-request-id", "y");
    let data = read(granted.send().await.unwrap()).await.data();
    assert_eq!(data["refresh_token"].as_str().map(|token| caller.cookie.contains(token)), Some(true));
    assert!(simulator.record().violations()[0].contains("missing headers"));
}

#[tokio::test]
async fn the_auth_host_knows_who_is_signed_in() {
    let simulator = start().await;
    let mut caller = Caller::new(&simulator, "bob");
    let me = read(caller.to_auth("/api/v2/auths/").send().await.unwrap()).await.data();
    assert_eq!(me["id"], simulator.accounts().user_id("bob"));
    caller.cookie = "cna=1".into();
    let guest = read(caller.to_auth("/api/v2/auths/").send().await.unwrap()).await;
    assert_eq!((guest.code().as_str(), guest.effective), ("Unauthorized", 401));
}

#[tokio::test]
async fn expired_and_revoked_are_told_apart() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "bob");
    simulator.accounts().expire("bob");
    let expired = caller.get("/api/v2/chats/").await;
    assert_eq!((expired.status, expired.effective), (200, 401));
    assert_eq!(expired.code(), "unauthorized");
    assert_eq!(expired.details(), "Token has expired, please log in again.");
    read(caller.to_auth("/api/v2/auths/refresh").send().await.unwrap()).await.data();
    simulator.accounts().set_revoked("bob", true);
    let revoked = read(caller.to_auth("/api/v2/auths/refresh").send().await.unwrap()).await;
    assert_eq!(revoked.code(), "Unauthorized");
    simulator.accounts().set_revoked("bob", false);
    read(caller.to_auth("/api/v2/auths/refresh").send().await.unwrap()).await.data();
}

#[tokio::test]
async fn accounts_may_start_expired_or_short_lived() {
    let mut scenario = Scenario::with_accounts([
        AccountScript { expired: true, ..AccountScript::new("ada", Era::A) },
        AccountScript { revoked: true, ..AccountScript::new("eve", Era::A) },
        AccountScript { access_token_seconds: 0, ..AccountScript::new("bob", Era::B) },
    ]);
    scenario.accounts[2].gives_expires_at = false;
    let simulator = Simulator::start(scenario).await.unwrap();
    for (name, code) in [("ada", "unauthorized"), ("eve", "Unauthorized"), ("bob", "unauthorized")] {
        assert_eq!(Caller::new(&simulator, name).get("/api/v2/chats/").await.code(), code, "{name}");
    }
    let bob = Caller::new(&simulator, "bob");
    let grant = read(bob.to_auth("/api/v2/auths/refresh").send().await.unwrap()).await;
    assert!(grant.data().get("expires_at").is_none());
}

#[tokio::test]
async fn bearer_without_a_jar_is_challenged_only_on_completions() {
    let simulator = start().await;
    let mut caller = Caller::new(&simulator, "ada");
    caller.cookie = String::new();
    let chat = caller.chat().await;
    let challenged = caller.complete(&chat, &question(&chat, "x")).await;
    assert_eq!((challenged.status, challenged.effective), (200, 0));
    assert_eq!(challenged.content_type, "application/json;charset=utf-8");
    let json = challenged.json();
    assert_eq!(json["ret"][0], "FAIL_SYS_USER_VALIDATE");
    assert!(json["ret"][1].as_str().unwrap().starts_with("RGV587_ERROR::SM::"));
    assert!(json["data"]["url"].as_str().unwrap().contains("/_____tmd_____/punish?x5secdata="));
}

#[tokio::test]
async fn a_session_cookie_of_era_b_does_not_complete() {
    let simulator = with(AccountScript { has_session_cookie: true, ..AccountScript::new("bob", Era::B) }).await;
    let mut caller = Caller::new(&simulator, "bob");
    caller.bearer = None;
    let chat = caller.chat().await;
    let refused = caller.complete(&chat, &question(&chat, "x")).await;
    assert_eq!((refused.code().as_str(), refused.effective), ("Unauthorized", 401));
}

#[tokio::test]
async fn mixed_identities_are_refused_and_recorded() {
    let simulator = start().await;
    let mut caller = Caller::new(&simulator, "ada");
    caller.bearer = Some(simulator.accounts().bearer("bob"));
    let refused = caller.get("/api/v2/chats/").await;
    assert_eq!(refused.code(), "Unauthorized");
    assert!(simulator.record().violations()[0].contains("mixed identities: ada and bob"));
    assert_eq!(simulator.record().requests()[0].account.as_deref(), Some("ada"));
}

#[tokio::test]
async fn the_jar_is_fed_once() {
    let simulator = start().await;
    let mut caller = Caller::new(&simulator, "ada");
    let first = caller.get("/api/v2/chats/").await;
    let line = first.set_cookies.iter().find(|line| line.starts_with("acw_tc=")).unwrap();
    let pair = line.split(';').next().unwrap();
    assert!(!first.set_cookies.iter().any(|line| line.starts_with("x-ap=")));
    let kept: Vec<_> = caller.cookie.split("; ").filter(|one| !one.starts_with("acw_tc=")).collect();
    caller.cookie = format!("{}; {pair}", kept.join("; "));
    assert!(caller.get("/api/v2/chats/").await.set_cookies.is_empty());
    let signed_out = caller.bare(Method::GET, "/api/models").send().await.unwrap();
    assert_eq!(read(signed_out).await.set_cookies.len(), 2);
}

#[tokio::test]
async fn forged_and_missing_headers_are_noticed() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let request = caller.bare(Method::POST, "/api/v2/chats/new").header("cookie", &caller.cookie);
    let request = request.header("bx-ua", "231!made-up").body(json!({ "models": [] }).to_string());
    read(request.send().await.unwrap()).await.data();
    let violations = simulator.record().violations();
    assert!(violations[0].contains("forged anti-bot header bx-ua"), "{violations:?}");
    assert!(violations[1].contains("sec-fetch-site"), "{violations:?}");
    assert_eq!(simulator.record().requests_to(Endpoint::NewChat).len(), 1);
}

#[tokio::test]
async fn every_secret_is_known() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "bob");
    let refresh = caller.to_auth("/api/v2/auths/refresh");
    let data = read(refresh.send().await.unwrap()).await.data();
    let secrets = simulator.record().secrets();
    for token in [&data["access_token"], &data["refresh_token"]] {
        assert!(secrets.iter().any(|secret| *token == **secret));
    }
    assert!(secrets.contains(&simulator.accounts().bearer("ada")));
}
