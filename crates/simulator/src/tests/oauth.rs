//! Device logins and refreshes.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::script::{
    ApiFailure, Approval, BodyForm, ChunkForm, CutHow, Endpoint, KeyScript, OAuthAccount, OAuthErrorScript,
    OAuthFailure, PortalScript, ResourceUrl, Scenario, ScriptedFailure, ScriptedReply, StatusScript, TokenBody,
    TokenRotation, TokenScript,
};
use crate::tests::client::{Read, SOON, read};
use crate::tests::documentation::example;
use crate::{RecordedRequest, Simulator, TokenLife};

const CLIENT: &str = "f0304373b74a44d2b584a3fb70ca9e56";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const SCOPE: &str = "openid profile email model.completion";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

async fn start() -> Simulator {
    let accounts = [OAuthAccount::new("cleo"), OAuthAccount::new("dora")];
    Simulator::start(Scenario::with_oauth(accounts)).await.unwrap()
}

async fn form(simulator: &Simulator, path: &str, fields: &[(&str, &str)]) -> reqwest::Result<Read> {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let url = simulator.urls().web.join(path).unwrap();
    let request = Client::builder().no_proxy().build()?.post(url).header("accept", "application/json");
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
    Ok(read(request.send().await?).await)
}

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

async fn begin(simulator: &Simulator) -> Value {
    let challenge = challenge();
    let fields =
        [("client_id", CLIENT), ("scope", SCOPE), ("code_challenge", &challenge), ("code_challenge_method", "S256")];
    let read = form(simulator, "/api/v1/oauth2/device/code", &fields).await.unwrap();
    assert_eq!((read.status, read.effective), (200, 0));
    read.json()
}

async fn poll_with(simulator: &Simulator, codes: &Value, verifier: &str) -> Read {
    let device_code = codes["device_code"].as_str().unwrap();
    let fields =
        [("grant_type", GRANT), ("client_id", CLIENT), ("device_code", device_code), ("code_verifier", verifier)];
    form(simulator, "/api/v1/oauth2/token", &fields).await.unwrap()
}

async fn poll(simulator: &Simulator, codes: &Value) -> Read {
    poll_with(simulator, codes, VERIFIER).await
}

async fn try_refresh(simulator: &Simulator, token: &str) -> reqwest::Result<Read> {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", CLIENT)];
    form(simulator, "/api/v1/oauth2/token", &fields).await
}

async fn refresh(simulator: &Simulator, token: &str) -> Read {
    try_refresh(simulator, token).await.unwrap()
}

fn credentials(simulator: &Simulator, account: &str) -> Value {
    serde_json::from_str(&simulator.oauth().credentials(account, TokenLife::Fresh)).unwrap()
}

fn text<'a>(json: &'a Value, key: &str) -> &'a str {
    json[key].as_str().unwrap()
}

/// A login without waits.
fn at_once() -> ScriptedReply {
    ScriptedReply::device(|device| (device.pending, device.interval) = (0, Some(0)))
}

async fn is_good(simulator: &Simulator, token: &str) -> bool {
    let url = format!("{}/chat/completions", simulator.urls().portal);
    let body = json!({ "model": "coder-model", "messages": [{ "role": "user", "content": "echo: x" }] });
    let request = Client::new().post(url).bearer_auth(token).body(body.to_string());
    request.send().await.unwrap().status() == 200
}

#[tokio::test]
async fn a_login_waits_once_and_succeeds() {
    let simulator = start().await;
    simulator.script().queue(None, Endpoint::DeviceCode, ScriptedReply::device(|device| device.interval = Some(0)));
    let codes = begin(&simulator).await;
    let user_code = text(&codes, "user_code");
    assert!(user_code.contains(['_', '-']), "{user_code}");
    assert_eq!((&codes["expires_in"], &codes["interval"]), (&json!(900), &json!(0)));
    let complete = text(&codes, "verification_uri_complete");
    assert_eq!(complete, format!("{}?user_code={user_code}&client=qwen-code", text(&codes, "verification_uri")));
    let pending = poll(&simulator, &codes).await;
    assert_eq!((pending.status, text(&pending.json(), "error")), (400, "authorization_pending"));
    let read = poll(&simulator, &codes).await;
    let tokens = read.json();
    assert_eq!((read.status, text(&tokens, "token_type")), (200, "Bearer"));
    assert_eq!(text(&tokens, "resource_url"), simulator.urls().portal.as_str());
    assert!(simulator.urls().portal.path() == "/portal/v1" && tokens["expires_in"] == 21_600);
    assert!(!text(&tokens, "access_token").contains('.'), "opaque");
    assert!(is_good(&simulator, text(&tokens, "access_token")).await);
    assert_eq!(simulator.record().violations(), Vec::<String>::new());
    let secrets = simulator.record().secrets();
    for secret in [text(&codes, "device_code"), text(&tokens, "access_token"), text(&tokens, "refresh_token"), VERIFIER]
    {
        assert!(secrets.iter().any(|known| known == secret), "{secret}");
    }
    let polls = simulator.record().requests_to(Endpoint::DeviceToken);
    assert!(polls.iter().all(|request| request.is("cleo", Endpoint::DeviceToken)));
    assert_eq!(polls[0].body.as_ref().unwrap()["grant_type"], GRANT);
    let counters = simulator.record().counts();
    assert_eq!((counters.device_logins, counters.polls, counters.oauth_refreshes), (1, 2, 0));
    let again = poll(&simulator, &codes).await;
    assert_eq!((again.status, text(&again.json(), "error")), (400, "invalid_grant"));
    assert_eq!(simulator.record().violations().len(), 1);
}

#[tokio::test]
async fn a_login_is_checked() {
    let simulator = start().await;
    let challenge = challenge();
    let good =
        [("client_id", CLIENT), ("scope", SCOPE), ("code_challenge", &*challenge), ("code_challenge_method", "S256")];
    for (place, value, error) in [
        (0, "", "invalid_request"),
        (0, "another-client", "invalid_client"),
        (1, "", "invalid_request"),
        (1, "openid", "invalid_scope"),
        (2, "", "invalid_request"),
        (2, "[object Promise]", "invalid_request"),
        (3, "plain", "invalid_request"),
    ] {
        let mut fields = good;
        fields[place].1 = value;
        let read = form(&simulator, "/api/v1/oauth2/device/code", &fields).await.unwrap();
        assert_eq!((read.status, text(&read.json(), "error")), (400, error), "{fields:?}");
        assert!(read.json()["error_description"].is_string());
    }
    let url = simulator.urls().web.join("/api/v1/oauth2/device/code").unwrap();
    let body = json!({ "client_id": CLIENT, "scope": SCOPE, "code_challenge": challenge }).to_string();
    let request = Client::new().post(url).header("content-type", "application/json").body(body);
    let read = read(request.send().await.unwrap()).await;
    assert_eq!((read.status, text(&read.json(), "error")), (400, "invalid_request"));

    simulator.script().queue(None, Endpoint::DeviceCode, at_once());
    let codes = begin(&simulator).await;
    let wrong = poll_with(&simulator, &codes, &VERIFIER.replace('d', "e")).await;
    assert_eq!((wrong.status, text(&wrong.json(), "error")), (400, "invalid_grant"));
    assert!(simulator.record().violations()[0].contains("does not fit the challenge"));
    let unknown = poll(&simulator, &json!({ "device_code": "x" })).await;
    assert_eq!((unknown.status, text(&unknown.json(), "error")), (400, "invalid_grant"));
    let fields = [("grant_type", "password"), ("client_id", CLIENT)];
    let read = form(&simulator, "/api/v1/oauth2/token", &fields).await.unwrap();
    assert_eq!(text(&read.json(), "error"), "unsupported_grant_type");
    assert_eq!(poll(&simulator, &codes).await.status, 200);
}

#[tokio::test]
async fn polls_end_as_scripted() {
    let simulator = start().await;
    let other = OAuthErrorScript { status: 418, error: "teapot".into(), ..OAuthErrorScript::default() };
    let polls = vec![
        (OAuthFailure::AuthorizationPending, 400, json!("authorization_pending")),
        (OAuthFailure::SlowDown, 400, json!("slow_down")),
        (OAuthFailure::SlowDown429, 429, json!("slow_down")),
        (OAuthFailure::ExpiredToken, 400, json!("expired_token")),
        (OAuthFailure::AccessDenied, 400, json!("access_denied")),
        (OAuthFailure::InvalidGrant, 400, json!("invalid_grant")),
        (OAuthFailure::Unauthorized, 401, json!("invalid_client")),
        (OAuthFailure::RateLimited("7".into()), 429, json!("too_many_requests")),
        (OAuthFailure::PendingOk { slow_down: true }, 200, Value::Null),
        (OAuthFailure::ErrorOk("server_busy".into()), 200, json!("server_busy")),
        (OAuthFailure::Other(other), 418, json!("teapot")),
    ];
    // In the flow first, then by the queue of the endpoint.
    let mut flow = at_once();
    flow.device.polls = polls.iter().map(|(failure, ..)| failure.clone()).collect();
    simulator.script().queue(None, Endpoint::DeviceCode, flow);
    let codes = begin(&simulator).await;
    for (failure, ..) in &polls {
        simulator.script().queue(None, Endpoint::DeviceToken, ScriptedReply::oauth(failure.clone()));
    }
    for (failure, status, error) in polls.iter().chain(&polls) {
        let read = poll(&simulator, &codes).await;
        assert_eq!((read.status, &read.json()["error"]), (*status, error), "{failure:?}");
        if *failure == (OAuthFailure::PendingOk { slow_down: true }) {
            assert_eq!(read.json(), json!({ "status": "pending", "slowDown": true }));
        }
    }
    let html = StatusScript { code: 502, retry_after: Vec::new(), body: BodyForm::Html, text: None };
    simulator.script().queue(None, Endpoint::DeviceToken, ScriptedReply::failing(ScriptedFailure::Status(html)));
    simulator.script().queue(None, Endpoint::DeviceToken, ScriptedReply::status(503));
    simulator.script().queue(
        Some("cleo"),
        Endpoint::DeviceToken,
        ScriptedReply::token(|token| token.null_access_token = true),
    );
    assert!(poll(&simulator, &codes).await.json()["access_token"].is_null());
    assert!(poll(&simulator, &codes).await.text.starts_with("<html>"));
    assert_eq!(poll(&simulator, &codes).await.status, 503);
    simulator.script().queue(
        None,
        Endpoint::DeviceToken,
        ScriptedReply::token(|token| {
            token.refresh_token = Some(TokenRotation::Absent);
            token.expires_in = Some(77);
            token.resource_url = Some(ResourceUrl::Other("portal.qwen.ai".into()));
        }),
    );
    let tokens = poll(&simulator, &codes).await.json();
    assert_eq!((&tokens["expires_in"], &tokens["resource_url"]), (&json!(77), &json!("portal.qwen.ai")));
    assert!(tokens.get("refresh_token").is_none());
    assert_eq!((simulator.script().left(), simulator.record().violations()), (0, Vec::new()));
}

#[tokio::test]
async fn owners_decide() {
    let simulator = start().await;
    let awaited = |code: &'static str| {
        ScriptedReply::device(move |device| {
            (device.approval, device.interval, device.pending) = (Approval::Awaited, Some(0), 0);
            device.user_code = Some(code.to_owned());
        })
    };
    simulator.script().queue(None, Endpoint::DeviceCode, awaited("YES-1"));
    simulator.script().queue(None, Endpoint::DeviceCode, awaited("NO-2"));
    let (yes, no) = (begin(&simulator).await, begin(&simulator).await);
    assert_eq!(simulator.oauth().user_codes(), ["YES-1", "NO-2"]);
    for codes in [&yes, &no] {
        assert_eq!(text(&poll(&simulator, codes).await.json(), "error"), "authorization_pending");
    }
    assert!(
        !simulator.oauth().approve("YES-1", "unknown")
            && !simulator.oauth().approve("MAYBE", "dora")
            && !simulator.oauth().deny("MAYBE")
    );
    assert!(simulator.oauth().approve("YES-1", "dora") && simulator.oauth().deny("NO-2"));
    let tokens = poll(&simulator, &yes).await.json();
    assert_eq!(text(&poll(&simulator, &no).await.json(), "error"), "access_denied");
    refresh(&simulator, text(&tokens, "refresh_token")).await.json();
    assert_eq!(simulator.record().requests_to(Endpoint::RefreshToken)[0].account.as_deref(), Some("dora"));
    assert!(!simulator.oauth().deny("YES-1"), "it is over");
    assert_eq!(simulator.oauth().user_codes(), ["NO-2"]);

    simulator.script().queue(None, Endpoint::DeviceCode, ScriptedReply::device(|device| device.expires_in = 0));
    let codes = begin(&simulator).await;
    assert_eq!(text(&poll(&simulator, &codes).await.json(), "error"), "expired_token");
    assert_eq!(simulator.record().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn hasty_polls_are_noted() {
    let simulator = start().await;
    let codes = begin(&simulator).await;
    poll(&simulator, &codes).await;
    poll(&simulator, &codes).await;
    assert!(
        simulator.record().violations()[0].contains("the interval is 2 s"),
        "{:?}",
        simulator.record().violations()
    );
}

#[tokio::test]
async fn a_refresh_token_is_good_once() {
    let simulator = start().await;
    let first = credentials(&simulator, "cleo");
    let old = text(&first, "refresh_token");
    assert!(old.contains('+') && old.contains('/') && old.contains('='), "{old}");
    let tokens = refresh(&simulator, old).await.json();
    let new = text(&tokens, "refresh_token");
    assert!(new != old && tokens["access_token"] != first["access_token"]);
    assert!(is_good(&simulator, text(&tokens, "access_token")).await);
    let dead = refresh(&simulator, old).await;
    let body = json!({ "error": "invalid_request", "error_description": "Invalid refresh token or client_id" });
    assert_eq!((dead.status, dead.json()), (400, body.clone()));
    assert_eq!(simulator.record().violations().len(), 1);
    assert!(simulator.record().violations()[0].contains("reuse of a rotated refresh token"));
    assert_eq!(refresh(&simulator, "never seen").await.json(), body);
    assert_eq!(refresh(&simulator, new).await.status, 200);
    assert_eq!((simulator.record().violations().len(), simulator.record().counts().oauth_refreshes), (1, 4));
}

#[tokio::test]
async fn refreshes_go_as_scripted() {
    let same = OAuthAccount { refresh_rotation: TokenRotation::Same, ..OAuthAccount::new("cleo") };
    let absent = OAuthAccount {
        refresh_rotation: TokenRotation::Absent,
        resource_url: ResourceUrl::Absent,
        access_token_seconds: 60,
        ..OAuthAccount::new("dora")
    };
    let simulator = Simulator::start(Scenario::with_oauth([same, absent])).await.unwrap();
    let old = text(&credentials(&simulator, "cleo"), "refresh_token").to_owned();
    assert_eq!(refresh(&simulator, &old).await.json()["refresh_token"], old.as_str());
    let doras = credentials(&simulator, "dora");
    assert!(doras.get("resource_url").is_none());
    let tokens = refresh(&simulator, text(&doras, "refresh_token")).await.json();
    assert!(tokens.get("refresh_token").is_none() && tokens.get("resource_url").is_none());
    assert_eq!(tokens["expires_in"], 60);
    assert_eq!(refresh(&simulator, text(&doras, "refresh_token")).await.status, 200);

    let script = |change: fn(&mut TokenScript)| {
        simulator.script().queue(Some("cleo"), Endpoint::RefreshToken, ScriptedReply::token(change));
    };
    script(|token| token.resource_url = Some(ResourceUrl::Other("https://elsewhere.example/".into())));
    assert_eq!(refresh(&simulator, &old).await.json()["resource_url"], "https://elsewhere.example/");
    script(|token| token.lacks_expires_in = true);
    assert!(refresh(&simulator, &old).await.json().get("expires_in").is_none());
    script(|token| token.body = TokenBody::Empty);
    script(|token| token.body = TokenBody::NotJson);
    script(|token| token.null_access_token = true);
    let empty = refresh(&simulator, &old).await;
    assert_eq!((empty.status, &*empty.text), (200, ""));
    assert!(refresh(&simulator, &old).await.text.starts_with("<!doctype"));
    assert!(refresh(&simulator, &old).await.json()["access_token"].is_null());
    simulator.script().queue(None, Endpoint::RefreshToken, ScriptedReply::status(500));
    simulator.script().queue(None, Endpoint::RefreshToken, ScriptedReply::oauth(OAuthFailure::InvalidRefreshToken));
    assert_eq!(refresh(&simulator, &old).await.status, 500);
    assert_eq!(refresh(&simulator, &old).await.status, 400);
    assert_eq!(refresh(&simulator, &old).await.status, 200, "no failure has killed it");
    // The token is rotated and the answer lost: the client cannot know the new one.
    script(|token| (token.refresh_token, token.body) = (Some(TokenRotation::New), TokenBody::Lost));
    assert!(try_refresh(&simulator, &old).await.is_err());
    assert_eq!(refresh(&simulator, &old).await.status, 400);
    assert_eq!(simulator.record().violations().len(), 1);
}

#[tokio::test]
async fn a_refresh_counts_even_if_nobody_waits_for_it() {
    let simulator = start().await;
    let old = text(&credentials(&simulator, "cleo"), "refresh_token").to_owned();
    let slow = ScriptedReply::default().delayed(Duration::from_millis(300));
    simulator.script().queue(Some("cleo"), Endpoint::RefreshToken, slow.clone());
    let arrived = |request: &RecordedRequest| request.is("cleo", Endpoint::RefreshToken);
    tokio::select! {
        _ = refresh(&simulator, &old) => panic!("answered too early"),
        request = simulator.record().wait_until(arrived, SOON) => assert!(request.is_some()),
    }
    assert_eq!(refresh(&simulator, &old).await.status, 400);
    assert_eq!(simulator.record().violations().len(), 1);
    // The file would have the new one if it had arrived; of two at the same time one gets it.
    let new = text(&credentials(&simulator, "cleo"), "refresh_token").to_owned();
    simulator.script().queue(Some("cleo"), Endpoint::RefreshToken, slow);
    let (one, other) = tokio::join!(refresh(&simulator, &new), refresh(&simulator, &new));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!((statuses, simulator.record().violations().len()), ([200, 400], 2));
}

#[tokio::test]
async fn credentials_are_a_file_of_the_vendor() {
    let simulator = start().await;
    let now = crate::clock::now_ms();
    let of = |life| serde_json::from_str::<Value>(&simulator.oauth().credentials("cleo", life)).unwrap();
    let fresh = of(TokenLife::Fresh);
    assert_eq!(fresh, credentials(&simulator, "cleo"), "the same again");
    assert_eq!((text(&fresh, "token_type"), text(&fresh, "scope")), ("Bearer", SCOPE));
    assert_eq!(text(&fresh, "resource_url"), simulator.urls().portal.as_str());
    for (life, from, to, good) in [
        (TokenLife::Fresh, 21_500_000_i64, 21_700_000, true),
        (TokenLife::AboutToExpire, 10_000, 80_000, true),
        (TokenLife::Expired, -4_000_000, -3_000_000, false),
    ] {
        let credentials = of(life);
        let left = credentials["expiry_date"].as_i64().unwrap() - i64::try_from(now).unwrap();
        assert!((from..to).contains(&left), "{life:?}: {left}");
        assert_eq!(is_good(&simulator, text(&credentials, "access_token")).await, good, "{life:?}");
        assert_eq!(credentials["refresh_token"], fresh["refresh_token"]);
    }
    simulator.oauth().expire("cleo");
    assert!(!is_good(&simulator, text(&fresh, "access_token")).await);
    let renewed = refresh(&simulator, text(&fresh, "refresh_token")).await.json();
    assert!(is_good(&simulator, text(&renewed, "access_token")).await);
    simulator.oauth().set_revoked("cleo", true);
    assert!(!is_good(&simulator, text(&renewed, "access_token")).await);
    assert_eq!(refresh(&simulator, text(&renewed, "refresh_token")).await.status, 400);
    simulator.oauth().set_revoked("cleo", false);
    assert_eq!(simulator.oauth().credentials("unknown", TokenLife::Fresh), "");
    assert_eq!(simulator.record().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn credentials_of_the_site_stay_away() {
    let scenario = Scenario { pace_ms: 0, ..Scenario::default() };
    let simulator = Simulator::start(scenario).await.unwrap();
    assert_eq!((simulator.accounts().names().len(), simulator.oauth().names(), simulator.keys().names()), {
        (2, vec!["cleo".to_owned(), "dora".to_owned()], vec!["kay".to_owned()])
    });
    let url = simulator.urls().web.join("/api/v1/oauth2/token").unwrap();
    let cookie = simulator.accounts().cookie("ada");
    Client::new().post(url).header("cookie", &cookie).send().await.unwrap();
    let url = format!("{}/models", simulator.urls().portal);
    Client::new().get(url).header("cookie", cookie).send().await.unwrap();
    let url = simulator.urls().web.join("/api/models").unwrap();
    let token = text(&credentials(&simulator, "cleo"), "access_token").to_owned();
    Client::new().get(url).bearer_auth(token).send().await.unwrap();
    let found = simulator.record().violations();
    let parts = ["sent to the OAuth door", "sent to another host", "sent to the web chat"];
    assert_eq!(found.len(), parts.len(), "{found:?}");
    assert!(found.iter().zip(parts).all(|(found, part)| found.contains(part)), "{found:?}");
}

#[test]
fn the_oauth_scenario_of_the_documentation_is_what_rust_builds() {
    let cleo = OAuthAccount {
        access_token_seconds: 60,
        resource_url: ResourceUrl::Other("x.example".into()),
        ..OAuthAccount::new("cleo")
    };
    let lost = ScriptedReply::token(|token| token.body = TokenBody::Lost).delayed(Duration::from_millis(500));
    let bare = ScriptedReply::default().with_chat(|chat| (chat.chunks, chat.lacks_done) = (ChunkForm::Bare, true));
    let cleo = cleo
        .replying(Endpoint::RefreshToken, lost)
        .replying(Endpoint::PortalChat, ScriptedReply::api(ApiFailure::Throttled("7".into())))
        .replying(Endpoint::PortalChat, ScriptedReply::pieces(["half ", "an answer"]).cut_after(2, CutHow::Fin))
        .replying(Endpoint::PortalChat, bare);
    let login = ScriptedReply::device(|device| {
        device.polls = vec![OAuthFailure::SlowDown, OAuthFailure::SlowDown429];
        device.approval = Approval::Denied;
    });
    let kay = KeyScript { chats_per_window: Some(1_200), ..KeyScript::new("kay") };
    let built = Scenario { oauth_accounts: vec![cleo], keys: vec![kay], ..Scenario::default() }
        .portal(PortalScript { needs_system_parts: true, ..PortalScript::default() })
        .replying(Endpoint::DeviceCode, login)
        .replying(Endpoint::DeviceToken, ScriptedReply::oauth(OAuthFailure::RateLimited("30".into())));
    assert_eq!(Scenario::from_json(example("OAuth and keys")).unwrap(), built);
}
