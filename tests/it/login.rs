//! OAuth accounts in the eyes of the server's owner: what there is, and logging one in from afar.

use std::time::Duration;

use serde_json::{Value, json};
use simulator::TokenLife;
use simulator::script::{Approval, ChallengeForm, Endpoint, OAuthErrorScript, OAuthFailure, ScriptedReply};

use crate::support::app::{KEY, PATIENCE, content, error_of, json_of, question};
use crate::support::owned::{ADMIN, Owned, owned, put};

/// Every route of the owner.
const ROUTES: [(&str, &str); 7] = [
    ("GET", "/auth"),
    ("POST", "/v1/debug/auth/initiate"),
    ("POST", "/v1/debug/auth/poll"),
    ("GET", "/v1/debug/auth/test"),
    ("GET", "/v1/debug/token"),
    ("DELETE", "/v1/debug/token"),
    ("GET", "/v1/debug/account/cleo"),
];

#[tokio::test]
async fn only_the_owner_comes_in() {
    // S000-24, S000-25, S000-27, S000-28
    let owned = owned(&[("cleo", TokenLife::Fresh)], |setup| setup).await;
    let app = &owned.app;
    for (method, path) in ROUTES {
        let send = async |name: &str, value: &str| {
            let request = app.client.request(method.parse().unwrap(), app.url(path));
            let request = if name.is_empty() { request } else { request.header(name, value) };
            request.send().await.unwrap()
        };
        for (name, value) in [
            ("", String::new()),
            ("authorization", format!("Bearer {KEY}")),
            ("authorization", format!("Basic {ADMIN}")),
            ("authorization", format!("Bearer {ADMIN}x")),
            ("x-api-key", ADMIN.to_owned()),
            ("x-admin-key", KEY.to_owned()),
            ("x-admin-key", " ".to_owned()),
        ] {
            let response = send(name, &value).await;
            assert_eq!(response.status(), 401, "{method} {path} with {name}: {value}");
            let error = error_of(response).await;
            assert_eq!((&error["type"], &error["code"]), (&json!("authentication_error"), &json!("invalid_api_key")));
            assert!(error["message"].as_str().unwrap().contains("admin key"), "{error}");
        }
        for (name, value) in [("authorization", format!("bearer {ADMIN}")), ("x-admin-key", ADMIN.to_owned())] {
            assert_ne!(send(name, &value).await.status(), 401, "{method} {path} with {name}");
        }
    }
    // The admin key is no key for chats.
    let response = app.client.get(app.url("/v1/models")).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn without_an_admin_key_the_routes_stay_closed() {
    // S000-26
    let owned = owned(&[("cleo", TokenLife::Fresh)], |setup| setup.without("ADMIN_SECRET_KEY")).await;
    for (method, path) in ROUTES {
        let response = owned.call(method, path, None).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-should-retry"]),
            (503, &"false".parse().unwrap())
        );
        let error = error_of(response).await;
        assert_eq!(error["code"], "admin_key_not_set");
        assert!(error["message"].as_str().unwrap().contains("ADMIN_SECRET_KEY"), "{error}");
    }
}

#[tokio::test]
async fn debug_routes_are_there_in_debug_mode_only() {
    // S000-17, S000-19: and never under another path.
    let usual = owned(&[("cleo", TokenLife::Fresh)], |setup| setup.without("DEBUG_MODE")).await;
    for (method, path) in ROUTES.into_iter().filter(|(_, path)| path.starts_with("/v1/debug/")) {
        assert_eq!(usual.call(method, path, None).await.status(), 401, "{path}: as any path with the wrong key");
        let request = usual.app.client.request(method.parse().unwrap(), usual.app.url(path)).bearer_auth(KEY);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(error_of(response).await["code"], "unknown_url");
    }
    let owned = owned(&[("cleo", TokenLife::Fresh)], |setup| setup).await;
    for path in ["/debug/token", "/debug/auth/test", "/debug/account/cleo"] {
        assert_eq!(owned.app.get(path).send().await.unwrap().status(), 404, "{path}");
    }
    for path in ["/v1/debug", "/v1/debug/nothing"] {
        assert_eq!(owned.call("GET", path, None).await.status(), 404, "{path}");
    }
    assert_eq!(owned.call("POST", "/auth", None).await.status(), 405);
}

#[tokio::test]
async fn the_front_page_lists_what_there_is() {
    // S000-02
    let endpoints = async |owned: &Owned| json_of(owned.app.get("/").send().await.unwrap()).await["endpoints"].clone();
    let in_debug_mode = endpoints(&owned(&[], |setup| setup).await).await;
    assert_eq!(in_debug_mode["auth"], "GET /auth");
    for key in ["token_status", "auth_test", "auth_initiate", "auth_poll"] {
        assert!(in_debug_mode["debug"][key].as_str().unwrap().contains("/v1/debug/"), "{in_debug_mode}");
    }
    let usual = endpoints(&owned(&[], |setup| setup.without("DEBUG_MODE")).await).await;
    assert_eq!((&usual["auth"], usual.get("debug")), (&json!("GET /auth"), None));
}

#[tokio::test]
async fn auth_names_the_account_that_is_usable() {
    // S004-17
    for life in [TokenLife::Fresh, TokenLife::Expired] {
        let owned = owned(&[("cleo", life)], |setup| setup).await;
        let answer = owned.get("/auth").await;
        assert_eq!(
            answer,
            json!({
                "authenticated": true, "message": "The account oauth:cleo is logged in.",
                "resource_url": owned.app.simulator.urls().portal.as_str(),
            })
        );
        assert!(owned.app.simulator.oauth().user_codes().is_empty());
        owned.app.assert_clean();
    }
}

#[tokio::test]
async fn a_look_at_the_head_begins_no_login() {
    let owned = owned(&[], |setup| setup).await;
    owned.next_login(Approval::Awaited);
    let head = owned.app.client.head(owned.app.url("/auth")).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(owned.app.simulator.record().requests_to(Endpoint::DeviceCode).len(), 0);
    owned.get("/auth").await;
    assert_eq!(owned.app.simulator.record().requests_to(Endpoint::DeviceCode).len(), 1);
}

#[tokio::test]
async fn auth_begins_a_login_and_returns_at_once() {
    // S004-18, S004-38
    let owned = owned(&[], |setup| setup).await;
    owned.next_login(Approval::Awaited);
    let begun = owned.get("/auth").await;
    let codes = owned.app.simulator.oauth().user_codes();
    assert_eq!(
        (&begun["authenticated"], &begun["status"], &begun["user_code"]),
        (&json!(false), &json!("authentication_initiated"), &json!(codes[0]))
    );
    let link = begun["verification_uri_complete"].as_str().unwrap();
    assert!(link.contains(&codes[0]) && link.starts_with(begun["verification_uri"].as_str().unwrap()), "{begun}");
    assert!((1..=900).contains(&begun["expires_in"].as_u64().unwrap()), "{begun}");
    assert_eq!(begun["interval"], 2);
    let mut keys: Vec<_> = begun.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = "authenticated expires_in flow_id interval message status user_code verification_uri \
                    verification_uri_complete";
    assert_eq!(keys.join(" "), expected);
    owned.assert_keeps_secrets(&begun.to_string());

    // A caller that asks again, even at the same time, is shown the same login.
    let (second, third) = tokio::join!(owned.get("/auth"), owned.get("/auth"));
    assert_eq!((&second["flow_id"], &third["flow_id"]), (&begun["flow_id"], &begun["flow_id"]));
    assert_eq!(owned.app.simulator.record().requests_to(Endpoint::DeviceCode).len(), 1);

    assert_eq!(owned.poll(&begun).await.status(), 202);
    assert!(owned.app.simulator.oauth().approve(&codes[0], "cleo"));
    let done = owned.end_of(&begun).await;
    assert_eq!(done.status(), 200);
    assert_eq!(
        json_of(done).await,
        json!({"status": "success", "message": "The account oauth:default is logged in and in use."})
    );
    assert_eq!(owned.get("/auth").await["authenticated"], true);
    assert!(owned.dir.path().join("oauth_creds.json").exists());
    let mut chat = question("echo: hello");
    chat["model"] = json!("qwen3-coder-plus");
    assert_eq!(content(&json_of(owned.app.chat(&chat).await).await), "hello");
    owned.app.assert_clean();
}

#[tokio::test]
async fn two_who_ask_at_once_begin_one_login() {
    let owned = owned(&[], |setup| setup).await;
    owned.next_login(Approval::Awaited);
    let (first, second) = tokio::join!(owned.get("/auth"), owned.get("/auth"));
    assert_eq!(first["flow_id"], second["flow_id"]);
    assert_eq!(owned.app.simulator.oauth().user_codes().len(), 1);
}

#[tokio::test]
async fn a_login_by_two_calls() {
    // S001-17, S001-18, S002-17, S002-18: the flow_id is all that has to be kept.
    let owned = owned(&[], |setup| setup).await;
    owned.next_login(Approval::Awaited);
    let begun = owned.initiate("me@example.com").await;
    assert_eq!(begun.status(), 200);
    let begun = json_of(begun).await;
    assert_eq!(begun["status"], "pending");
    owned.assert_keeps_secrets(&begun.to_string());
    let pending = owned.poll(&begun).await;
    assert_eq!((pending.status().as_u16(), json_of(pending).await["status"].clone()), (202, json!("pending")));
    assert!(owned.app.simulator.oauth().approve(begun["user_code"].as_str().unwrap(), "cleo"));
    let done = json_of(owned.end_of(&begun).await).await;
    assert_eq!(done["status"], "success");
    owned.assert_keeps_secrets(&done.to_string());
    // It can be asked after again, and the account is there under its name.
    assert_eq!(owned.poll(&begun).await.status(), 200);
    assert_eq!(owned.get("/v1/debug/account/me@example.com").await["status"], "found");
    assert_eq!(owned.get("/auth?account=me@example.com").await["authenticated"], true);
    owned.app.assert_clean();
}

#[tokio::test]
async fn how_a_login_ends_without_success() {
    // S001-19, S004-43: each end says what to do, in an answer of its own.
    let check = async |failure: OAuthFailure, status: u16, code: &str, words: &str| {
        let owned = owned(&[], |setup| setup).await;
        let device = ScriptedReply::device(|device| device.polls = vec![failure.clone()]);
        owned.app.simulator.script().queue(None, Endpoint::DeviceCode, device);
        let begun = json_of(owned.initiate("default").await).await;
        let end = owned.end_of(&begun).await;
        assert_eq!(end.status(), status, "{failure:?}");
        let error = error_of(end).await;
        assert_eq!((&error["type"], &error["code"]), (&json!("auth_poll_error"), &json!(code)), "{failure:?}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        owned.assert_keeps_secrets(&error.to_string());
    };
    tokio::join!(
        check(OAuthFailure::AccessDenied, 400, "login_denied", "refused"),
        check(OAuthFailure::ExpiredToken, 410, "login_expired", "Start a new"),
        check(OAuthFailure::InvalidGrant, 502, "login_failed", "Start a new"),
        check(OAuthFailure::RateLimited("30".to_owned()), 429, "rate_limit_exceeded", "later"),
    );
}

#[tokio::test]
async fn a_login_that_gave_way_to_another() {
    let owned = owned(&[], |setup| setup).await;
    owned.next_login(Approval::Awaited);
    owned.next_login(Approval::Awaited);
    let first = json_of(owned.initiate("a").await).await;
    let second = json_of(owned.initiate("a").await).await;
    let response = owned.poll(&first).await;
    assert_eq!(response.status(), 410);
    assert_eq!(error_of(response).await["code"], "login_cancelled");
    assert_eq!(owned.poll(&second).await.status(), 202);
}

#[tokio::test]
async fn what_is_asked_wrongly() {
    // S001-18
    let owned = owned(&[], |setup| setup).await;
    let poll = "/v1/debug/auth/poll";
    for body in [None, Some(json!({})), Some(json!({"flow_id": ""})), Some(json!({"flow_id": 7})), Some(json!([]))] {
        let response = owned.call("POST", poll, body).await;
        assert_eq!(response.status(), 400);
        let error = error_of(response).await;
        assert_eq!((&error["type"], &error["param"]), (&json!("invalid_request"), &json!("flow_id")));
    }
    let response = owned.call("POST", poll, Some(json!({"flow_id": "unknown"}))).await;
    assert_eq!(response.status(), 404);
    let error = error_of(response).await;
    assert_eq!((&error["type"], &error["code"]), (&json!("auth_poll_error"), &json!("login_not_found")));
    for account in [json!("../x"), json!(""), json!(5)] {
        let response = owned.call("POST", "/v1/debug/auth/initiate", Some(json!({"account": account}))).await;
        assert_eq!(response.status(), 400);
        assert_eq!(error_of(response).await["param"], "account");
    }
    assert_eq!(owned.call("GET", "/auth?account=a%2Fb", None).await.status(), 400);
    assert_eq!(owned.call("GET", "/v1/debug/account/a%2Fb", None).await.status(), 400);
    assert!(owned.app.simulator.record().requests_to(Endpoint::DeviceCode).is_empty());
}

#[tokio::test]
async fn only_so_many_logins_at_once() {
    let owned = owned(&[], |setup| setup).await;
    for number in 0..8 {
        owned.next_login(Approval::Awaited);
        assert_eq!(owned.initiate(&format!("a{number}")).await.status(), 200);
    }
    let response = owned.initiate("one-more").await;
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"60".parse().unwrap()));
    let error = error_of(response).await;
    assert_eq!((&error["type"], &error["code"]), (&json!("auth_initiate_error"), &json!("server_busy")));
    let response = owned.call("GET", "/auth", None).await;
    assert_eq!(response.status(), 429);
    assert_eq!(error_of(response).await["type"], "rate_limit_error");
}

#[tokio::test]
async fn when_the_login_service_fails() {
    // S001-19
    let broken = OAuthFailure::Other(OAuthErrorScript::new(500, "server_error", "Something broke"));
    for (reply, status, code) in [
        (ScriptedReply::challenge(ChallengeForm::Html, 200), 503, "upstream_challenge"),
        (ScriptedReply::oauth(broken), 502, "upstream_error"),
        (ScriptedReply::oauth(OAuthFailure::RateLimited("7".to_owned())), 429, "rate_limit_exceeded"),
    ] {
        let owned = owned(&[], |setup| setup).await;
        owned.app.simulator.script().queue(None, Endpoint::DeviceCode, reply.clone());
        let response = owned.initiate("default").await;
        assert_eq!(response.status(), status, "{code}");
        let error = error_of(response).await;
        assert_eq!((&error["type"], &error["code"]), (&json!("auth_initiate_error"), &json!(code)));
        owned.app.simulator.script().queue(None, Endpoint::DeviceCode, reply);
        let response = owned.call("GET", "/auth", None).await;
        assert_eq!(response.status(), status, "{code}");
        let error = error_of(response).await;
        assert_eq!(error["code"], code);
        owned.assert_keeps_secrets(&error.to_string());
        // A failed beginning takes no place.
        assert_eq!(owned.initiate("default").await.status(), 200);
    }
}

#[tokio::test]
async fn the_login_service_out_of_reach() {
    let owned = owned(&[], |setup| setup.with("QWEN_OAUTH_BASE_URL", "http://127.0.0.1:1")).await;
    for (method, path) in [("GET", "/auth"), ("POST", "/v1/debug/auth/initiate")] {
        let response = owned.call(method, path, None).await;
        assert_eq!(response.status(), 502);
        let error = error_of(response).await;
        assert_eq!(error["code"], "upstream_error");
        assert!(error["message"].as_str().unwrap().contains("QWEN_OAUTH_BASE_URL"), "{error}");
    }
}

#[tokio::test]
async fn whether_an_account_is_usable() {
    // S001-16, S001-21
    let usable = owned(&[("cleo", TokenLife::Expired)], |setup| setup).await;
    assert_eq!(
        usable.get("/v1/debug/auth/test").await,
        json!({"status": "authenticated", "message": "The account oauth:cleo is logged in.", "has_token": true})
    );
    assert_eq!(usable.app.simulator.record().counts().oauth_refreshes, 1);

    let check = async |owned: &Owned, word: &str| {
        let response = owned.call("GET", "/v1/debug/auth/test", None).await;
        assert_eq!(response.status(), 401);
        let answer = json_of(response).await;
        assert_eq!((&answer["status"], &answer["has_token"]), (&json!(word), &json!(false)), "{answer}");
        assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()));
    };
    check(&owned(&[], |setup| setup).await, "not_authenticated").await;
    let dead = owned(&[], |setup| setup.with("QWEN_OAUTH_CREDS", r#"{"refresh_token": "long-gone"}"#)).await;
    check(&dead, "not_authenticated").await;
    let expired = [("cleo", TokenLife::Expired)];
    let cut_off = owned(&expired, |setup| setup.with("QWEN_OAUTH_BASE_URL", "http://127.0.0.1:1")).await;
    check(&cut_off, "authentication_failed").await;
    // The owner is not asked to log in again because the way to the upstream is cut.
    assert_eq!(cut_off.call("GET", "/auth", None).await.status(), 502);
}

#[tokio::test]
async fn the_token_in_memory() {
    // S000-17, S001-14, S001-15
    let owned = owned(&[("cleo", TokenLife::Fresh)], |setup| setup).await;
    let held = owned.get("/v1/debug/token").await;
    assert_eq!(
        (&held["service"], &held["status"], &held["cached"], &held["is_expired"], &held["account"]),
        (&json!("qwen-bridge"), &json!("active"), &json!(true), &json!(false), &json!("oauth:cleo"))
    );
    let moment = |name: &str| held[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    let left = held["time_until_expiry_seconds"].as_i64().unwrap();
    let now = jiff::Timestamp::now().as_second();
    assert!((moment("cached_at") - now).abs() < 60, "{held}");
    assert!(left > 0 && (moment("expires_at") - now - left).abs() < 60, "{held}");
    assert!(held.get("message").is_none());
    owned.assert_keeps_secrets(&held.to_string());

    let file = owned.dir.path().join("oauth_creds_cleo.json");
    let before = std::fs::read_to_string(&file).unwrap();
    let forgotten = owned.call("DELETE", "/v1/debug/token", None).await;
    assert_eq!(forgotten.status(), 200);
    assert_eq!(json_of(forgotten).await["status"], "success");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "the file is left alone");
    let none = owned.get("/v1/debug/token").await;
    assert_eq!((&none["cached"], none["message"].is_string()), (&json!(false), true));
    assert!(none.get("expires_at").is_none() && none.get("is_expired").is_none(), "{none}");

    let mut chat = question("echo: hello");
    chat["model"] = json!("qwen3-coder-plus");
    assert_eq!(content(&json_of(owned.app.chat(&chat).await).await), "hello");
    assert_eq!(owned.app.simulator.record().counts().oauth_refreshes, 1);
    assert_eq!(owned.get("/v1/debug/token").await["cached"], true);
    owned.app.assert_clean();
}

#[tokio::test]
async fn nothing_to_forget() {
    // S001-15
    let owned = owned(&[], |setup| setup).await;
    let none = owned.get("/v1/debug/token").await;
    assert_eq!((&none["cached"], none["message"].is_string()), (&json!(false), true));
    let answer = owned.call("DELETE", "/v1/debug/token", None).await;
    assert_eq!((answer.status().as_u16(), json_of(answer).await["status"].clone()), (200, json!("success")));
    // A token that nothing can come after is kept.
    let simulator = &owned.app.simulator;
    let mut credentials: Value =
        serde_json::from_str(&simulator.oauth().credentials("cleo", TokenLife::Fresh)).unwrap();
    credentials.as_object_mut().unwrap().remove("refresh_token");
    put(owned.dir.path(), "cleo", &credentials.to_string());
    tokio::time::timeout(PATIENCE, async {
        while owned.get("/v1/debug/token").await["cached"] != true {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the account was not noticed");
    owned.call("DELETE", "/v1/debug/token", None).await;
    assert_eq!(owned.get("/v1/debug/token").await["cached"], true);
}

#[tokio::test]
async fn what_is_known_of_an_account() {
    // S000-18
    let owned = owned(&[("cleo", TokenLife::Fresh), ("dora", TokenLife::Expired)], |setup| setup).await;
    let found = owned.get("/v1/debug/account/cleo").await;
    assert_eq!((&found["account"], &found["status"]), (&json!("cleo"), &json!("found")));
    let credentials = &found["credentials"];
    let mut keys: Vec<_> = credentials.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = "expiry_date expiry_date_iso has_access_token has_refresh_token is_expired resource_url \
                    time_until_expiry_min time_until_expiry_ms token_type";
    assert_eq!(keys.join(" "), expected);
    assert_eq!((&credentials["has_access_token"], &credentials["has_refresh_token"]), (&json!(true), &json!(true)));
    assert_eq!((&credentials["token_type"], &credentials["is_expired"]), (&json!("Bearer"), &json!(false)));
    let (ms, min) = (&credentials["time_until_expiry_ms"], &credentials["time_until_expiry_min"]);
    assert_eq!(ms.as_i64().unwrap() / 60_000, min.as_i64().unwrap());
    let iso: jiff::Timestamp = credentials["expiry_date_iso"].as_str().unwrap().parse().unwrap();
    assert_eq!(iso.as_second(), credentials["expiry_date"].as_i64().unwrap() / 1000);
    assert_eq!(credentials["resource_url"], owned.app.simulator.urls().portal.as_str());
    owned.assert_keeps_secrets(&found.to_string());
    assert_eq!(owned.get("/v1/debug/account/oauth:cleo").await["status"], "found");

    let missing = owned.get("/v1/debug/account/unknown").await;
    assert_eq!((&missing["account"], &missing["status"]), (&json!("unknown"), &json!("not_found")));
    assert!(missing["message"].as_str().unwrap().contains("auth add unknown") && missing.get("credentials").is_none());
}

#[tokio::test]
async fn client_mode_has_no_accounts_to_log_in() {
    let owned = owned(&[], |setup| setup.with("SERVER_MODE", "false")).await;
    for (method, path) in [("GET", "/auth"), ("POST", "/v1/debug/auth/initiate")] {
        let response = owned.call(method, path, None).await;
        assert_eq!(response.status(), 400);
        assert_eq!(error_of(response).await["code"], "client_mode");
    }
}
