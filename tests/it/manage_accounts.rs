//! Accounts in the hands of their owner: checked, added, changed and removed while the server runs.

use std::time::Duration;

use http::StatusCode;
use reqwest::Response;
use serde_json::{Value, json};
use simulator::script::{
    AccountScript, Approval, Endpoint, Era, RawScript, RefreshRotation, Scenario, ScriptedFailure, ScriptedReply,
};
use simulator::{Simulator, TokenLife};

use crate::support::app::{PATIENCE, Setup, TestApp, json_of, question};
use crate::support::oracle::{FORMS, Form, ask, asked_accounts, crew, until, until_all_healthy};

const ADMIN: &str = "sk-admin-of-tests";

async fn start(change: impl FnOnce(Setup) -> Setup) -> TestApp {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    change(Setup::default().with("ADMIN_SECRET_KEY", ADMIN)).start(simulator).await
}

async fn call(app: &TestApp, method: &str, path: &str, body: &Value) -> Response {
    let request = app.client.request(method.parse().unwrap(), app.url(path)).bearer_auth(ADMIN);
    request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
}

#[tokio::test]
async fn a_paste_is_told_offline_in_both_languages() {
    let app = start(|setup| setup.without("COOKIE")).await;
    let check = async |text: &str| {
        let response = call(&app, "POST", "/admin/accounts/check", &json!({"text": text})).await;
        assert_eq!(
            (response.status(), &response.headers()["cache-control"]),
            (StatusCode::OK, &"no-store".parse().unwrap())
        );
        json_of(response).await
    };
    let cookie = app.simulator.accounts().cookie("ada");
    let told = check(&format!("curl 'https://chat.qwen.ai/' \\\n  -H 'cookie: {cookie}'")).await;
    assert_eq!(
        (&told["is_usable"], &told["kind"], &told["missing"]),
        (&json!(true), &json!("web"), &Value::Null),
        "{told}"
    );
    assert!(told["recognised"]["en"].as_str().unwrap().starts_with("a cURL command with "), "{told}");
    assert!(told["recognised"]["zh"].as_str().unwrap().starts_with("cURL 命令"), "{told}");
    assert!(!told.to_string().contains("eyJ"), "{told}");
    let told = check("cna=1; isg=2").await;
    assert_eq!(told["is_usable"], false);
    for language in ["en", "zh"] {
        assert!(told["missing"][language].as_str().unwrap().contains("refresh_token"), "{told}");
    }
    let told = check("what is this").await;
    assert_eq!((&told["is_usable"], &told["kind"]), (&json!(false), &Value::Null), "{told}");
    let asked = app.simulator.record().requests();
    assert!(asked.iter().all(|request| request.account.is_none()), "the upstream is not asked");
}

#[tokio::test]
async fn what_is_no_paste_is_refused_in_plain_words() {
    let app = start(|setup| setup.with("MAX_JSON", "2MB")).await;
    let recording = json!({"text": format!("{{\"log\": \"{}\"}}", "x".repeat(3_000_000))});
    let refused = call(&app, "POST", "/admin/accounts/check", &recording).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let error = json_of(refused).await;
    assert!(error["error"]["message"].as_str().unwrap().contains("Copy as cURL"), "{error}");
    assert!(error["error"]["message_zh"].as_str().unwrap().contains("cURL"), "{error}");
    assert!(error["request_id"].is_string(), "{error}");
    let refused = call(&app, "POST", "/admin/accounts/check", &json!({"texts": 1})).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(json_of(refused).await["error"]["code"], "text_missing");
}

/// A server with the accounts of this scenario, of which the first is in its settings.
async fn with_first(scenario: Scenario) -> TestApp {
    let simulator = Simulator::start(scenario.paced_ms(0)).await.unwrap();
    let first = simulator.accounts().names().remove(0);
    let cookie = simulator.accounts().cookie(&first);
    Setup::default().with("ADMIN_SECRET_KEY", ADMIN).with("COOKIE", &cookie).start(simulator).await
}

async fn again(app: TestApp) -> TestApp {
    let (simulator, dir) = app.stop().await;
    let first = simulator.accounts().names().remove(0);
    let cookie = simulator.accounts().cookie(&first);
    Setup::default().with("ADMIN_SECRET_KEY", ADMIN).with("COOKIE", &cookie).in_dir(dir).start(simulator).await
}

/// The answer to a call, after its status.
async fn told(app: &TestApp, method: &str, path: &str, body: Value) -> (u16, Value) {
    let response = call(app, method, path, &body).await;
    (response.status().as_u16(), json_of(response).await)
}

/// `id label origin status` of each account.
async fn listed(app: &TestApp) -> Vec<String> {
    let (status, list) = told(app, "GET", "/admin/accounts", json!({})).await;
    assert_eq!(status, 200, "{list}");
    assert!(!list.to_string().contains("eyJ"), "{list}");
    let accounts = list["accounts"].as_array().unwrap();
    assert_eq!(list["summary"]["total"], accounts.len());
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    accounts.iter().map(|it| ["id", "label", "origin", "status"].map(|name| text(&it[name])).join(" ")).collect()
}

#[tokio::test]
async fn accounts_come_and_go_while_the_server_runs_and_are_there_after_a_restart() {
    let app = with_first(crew(3)).await;
    assert_eq!(listed(&app).await, ["identity-1 - file healthy"]);
    let cookie = |name: &str| app.simulator.accounts().cookie(name);
    let pasted = format!("curl 'https://chat.qwen.ai/' -H 'cookie: {}'", cookie("bob"));
    let (status, account) = told(&app, "POST", "/admin/accounts", json!({"text": pasted, "label": " Work "})).await;
    assert_eq!(status, 201, "{account}");
    assert_eq!(
        (&account["id"], &account["label"], &account["kind"]),
        (&json!("account-1"), &json!("Work"), &json!("web"))
    );
    assert_eq!(account["advice"]["zh"], "无需处理。", "{account}");
    assert_eq!(account["hours"].as_array().unwrap().len(), 24);
    for _ in 0..4 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    let mut asked = asked_accounts(&app.simulator);
    asked.sort();
    assert_eq!(asked, ["ada", "ada", "bob", "bob"]);

    // The same account again, from the page or from a file.
    let (status, refused) = told(&app, "POST", "/admin/accounts", json!({"text": cookie("bob")})).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("account_exists")), "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("account-1"), "{refused}");
    assert!(refused["error"]["message_zh"].as_str().unwrap().contains("account-1"), "{refused}");
    let (status, refused) = told(&app, "POST", "/admin/accounts", json!({"text": cookie("ada")})).await;
    assert!(status == 409 && refused["error"]["message"].as_str().unwrap().contains("identity-1"), "{refused}");
    let (status, refused) = told(&app, "POST", "/admin/accounts", json!({"text": "cna=1; isg=2"})).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("not_a_credential")), "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("`refresh_token` is missing"), "{refused}");

    // Names, replacing and removing.
    let (_, account) = told(&app, "PATCH", "/admin/accounts/identity-1", json!({"label": "家"})).await;
    assert_eq!(account["label"], "家");
    let (status, refused) = told(&app, "PATCH", "/admin/accounts/identity-1", json!({"label": "x".repeat(61)})).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("invalid_label")), "{refused}");
    let other = json!({"text": cookie("cem")});
    let (status, refused) = told(&app, "PUT", "/admin/accounts/account-1", other.clone()).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("other_account")), "{refused}");
    let newer = json!({"text": format!("{}; newer=1", cookie("bob"))});
    let (status, account) = told(&app, "PUT", "/admin/accounts/account-1", newer.clone()).await;
    assert_eq!((status, &account["id"], &account["label"]), (200, &json!("account-1"), &json!("Work")), "{account}");
    for (method, body) in [("DELETE", json!({})), ("PUT", newer)] {
        let (status, refused) = told(&app, method, "/admin/accounts/identity-1", body).await;
        assert_eq!((status, &refused["error"]["code"]), (409, &json!("account_of_file")), "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains("cookie.txt"), "{refused}");
    }
    assert_eq!(told(&app, "DELETE", "/admin/accounts/nobody", json!({})).await.0, 404);

    let app = again(app).await;
    assert_eq!(listed(&app).await, ["identity-1 家 file healthy", "account-1 Work page healthy"]);
    assert_eq!(told(&app, "DELETE", "/admin/accounts/account-1", json!({})).await.0, 200);
    assert_eq!(listed(&app).await, ["identity-1 家 file healthy"]);
    let app = again(app).await;
    assert_eq!(listed(&app).await, ["identity-1 家 file healthy"]);
    assert_eq!(app.simulator.record().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn chats_follow_an_account_to_its_new_cookie_and_go_with_it() {
    let app = start(|setup| setup.without("COOKIE")).await;
    let name = app.simulator.accounts().names().remove(0);
    let cookie = |more: &str| json!({"text": format!("{}{more}", app.simulator.accounts().cookie(&name))});
    assert_eq!(told(&app, "POST", "/admin/accounts", cookie("")).await.0, 201);
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    assert_eq!(told(&app, "PUT", "/admin/accounts/account-1", cookie("; newer=1")).await.0, 200);
    let (simulator, dir) = app.stop().await;
    assert_eq!(simulator.record().counts().deletes, 0, "it is kept for now");
    let setup = Setup::default().with("ADMIN_SECRET_KEY", ADMIN).without("COOKIE");
    let app = setup.in_dir(dir).start(simulator).await;
    assert_eq!(told(&app, "DELETE", "/admin/accounts/account-1", json!({})).await.0, 200);
    until("the chat to be deleted", || app.simulator.record().counts().deletes == 1).await;
    assert_eq!(app.simulator.record().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn an_empty_server_answers_once_it_has_its_first_account() {
    let app = start(|setup| setup.without("COOKIE")).await;
    assert_eq!(listed(&app).await, Vec::<String>::new());
    let name = app.simulator.accounts().names().remove(0);
    let body = json!({"text": app.simulator.accounts().cookie(&name)});
    let (status, account) = told(&app, "POST", "/admin/accounts", body).await;
    assert_eq!(status, 201, "{account}");
    ask(&app, Form::Stream, "echo: x").await.must_say("x");
}

#[tokio::test]
async fn a_login_that_the_upstream_refuses_is_not_kept() {
    let app = with_first(crew(2)).await;
    let cookie = app.simulator.accounts().cookie("bob");
    app.simulator.accounts().set_revoked("bob", true);
    let (status, refused) = told(&app, "POST", "/admin/accounts", json!({"text": cookie})).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("login_refused")), "{refused}");
    assert_eq!(listed(&app).await, ["identity-1 - file healthy"]);
    let app = again(app).await;
    assert_eq!(listed(&app).await, ["identity-1 - file healthy"]);
}

#[tokio::test]
async fn an_account_answers_nothing_before_its_test_call_has_passed() {
    let app = with_first(crew(2)).await;
    let cookie = app.simulator.accounts().cookie("bob");
    let slow = ScriptedReply::default().delayed(Duration::from_secs(3600));
    app.simulator.script().queue(Some("bob"), Endpoint::Settings, slow);
    let pasted = json!({"text": cookie.clone()});
    let adding = call(&app, "POST", "/admin/accounts", &pasted);
    let asking = async {
        app.simulator.record().wait_until(|request| request.is("bob", Endpoint::Settings), PATIENCE).await.unwrap();
        for form in FORMS.into_iter().chain(FORMS) {
            ask(&app, form, "echo: x").await.must_say("x");
        }
        assert!(asked_accounts(&app.simulator).iter().all(|account| account == "ada"));
        assert_eq!(listed(&app).await, ["identity-1 - file healthy"]);
        // It is known meanwhile, so that it is not added twice.
        let (status, refused) = told(&app, "POST", "/admin/accounts", json!({"text": cookie.clone()})).await;
        assert_eq!((status, &refused["error"]["code"]), (409, &json!("account_exists")), "{refused}");
    };
    // The owner closes the page: what cannot be asked about is kept.
    tokio::select! {
        _ = adding => panic!("the test call did not wait"),
        () = asking => {}
    }
    let added = async {
        while listed(&app).await.len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, added).await.expect("the account is never in use");
    for _ in 0..2 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    assert!(asked_accounts(&app.simulator).contains(&"bob".to_owned()));
}

#[tokio::test]
async fn an_account_is_tested_sent_to_rest_and_woken() {
    let app = with_first(crew(1)).await;
    let at = |action: &str| format!("/admin/accounts/identity-1/{action}");
    let (status, tried) = told(&app, "POST", &at("test"), json!({})).await;
    assert_eq!((status, &tried["ok"]), (200, &json!(true)), "{tried}");
    let (status, account) = told(&app, "POST", &at("rest"), json!({"seconds": 60})).await;
    assert_eq!((status, &account["reason"], &account["status"]), (200, &json!("resting"), &json!("down")), "{account}");
    assert_eq!(account["cooling"]["chat"]["reason"], "owner", "{account}");
    assert_eq!(ask(&app, Form::Whole, "x").await.failure().0, 503);
    let app = again(app).await;
    assert_eq!(listed(&app).await, ["identity-1 - file down"], "a rest outlives a restart");
    let (_, account) = told(&app, "POST", &at("wake"), json!({})).await;
    assert_eq!((&account["reason"], &account["status"]), (&Value::Null, &json!("healthy")), "{account}");
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    for seconds in [json!(0), json!(90_001), json!("60"), Value::Null] {
        let (status, refused) = told(&app, "POST", &at("rest"), json!({"seconds": seconds})).await;
        assert_eq!((status, &refused["error"]["param"]), (400, &json!("seconds")), "{refused}");
    }
    app.simulator.accounts().set_revoked("ada", true);
    let (status, tried) = told(&app, "POST", &at("test"), json!({})).await;
    assert_eq!((status, &tried["ok"]), (200, &json!(false)), "{tried}");
    assert!(tried["message"]["en"].as_str().unwrap().contains("log in again"), "{tried}");
    let (status, tried) = told(&app, "POST", &at("renew"), json!({})).await;
    assert_eq!((status, &tried["ok"]), (200, &json!(false)), "{tried}");
}

/// What a renewal brought may be refused; the session before it is then used again.
#[tokio::test]
async fn a_renewal_that_spoilt_the_session_is_undone() {
    let mut bob = AccountScript::new("bob", Era::B);
    bob.refresh_rotation = RefreshRotation::New;
    let app = with_first(Scenario::with_accounts([bob])).await;
    until_all_healthy(&app).await;
    // The configured refresh token is spent by now; the next renewal brings one that is worth nothing.
    let body = json!({"success": true, "data": {"access_token": app.simulator.accounts().bearer("bob"), "refresh_token": "spoilt"}});
    let content_type = "application/json".to_owned();
    let raw = RawScript { status: 200, content_type, body: body.to_string(), base64: false };
    app.simulator.script().queue(Some("bob"), Endpoint::Refresh, ScriptedReply::failing(ScriptedFailure::Raw(raw)));
    assert_eq!(told(&app, "POST", "/admin/accounts/identity-1/renew", json!({})).await.1["ok"], true);
    app.simulator.accounts().expire("bob");
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
}

/// Whether the newest renewal was asked for with the refresh token `spoilt`; `None` before the first.
fn is_spoilt(app: &TestApp) -> Option<bool> {
    let renewals = app.simulator.record().requests_to(Endpoint::Refresh);
    let is_spoilt = |(name, value): &(String, String)| name == "cookie" && value.contains("refresh_token=spoilt");
    Some(renewals.last()?.headers.iter().any(is_spoilt))
}

#[tokio::test]
async fn a_bad_renewal_is_undone_by_hand() {
    let mut bob = AccountScript::new("bob", Era::B);
    bob.refresh_rotation = RefreshRotation::Same;
    let app = with_first(Scenario::with_accounts([bob])).await;
    until_all_healthy(&app).await;
    let at = |action: &str| format!("/admin/accounts/identity-1/{action}");
    let has_earlier = async |app: &TestApp| {
        told(app, "GET", "/admin/accounts", json!({})).await.1["accounts"][0]["has_earlier_session"].clone()
    };
    assert_eq!(has_earlier(&app).await, json!(false), "the refresh token has stayed the same");
    let (status, refused) = told(&app, "POST", &at("restore-session"), json!({})).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("no_earlier_session")), "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("identity-1"), "{refused}");
    assert!(refused["error"]["message_zh"].as_str().unwrap().contains("identity-1"), "{refused}");
    assert_eq!(told(&app, "POST", "/admin/accounts/nobody/restore-session", json!({})).await.0, 404);

    // A renewal brings another refresh token, which nothing has refused yet.
    let body = json!({"success": true, "data": {"access_token": app.simulator.accounts().bearer("bob"), "refresh_token": "spoilt"}});
    let content_type = "application/json".to_owned();
    let raw = RawScript { status: 200, content_type, body: body.to_string(), base64: false };
    app.simulator.script().queue(Some("bob"), Endpoint::Refresh, ScriptedReply::failing(ScriptedFailure::Raw(raw)));
    assert_eq!(told(&app, "POST", &at("renew"), json!({})).await.1["ok"], true);
    assert_eq!(has_earlier(&app).await, json!(true));
    let app = again(app).await;
    assert_eq!(has_earlier(&app).await, json!(true), "it outlives a restart");
    let (status, account) = told(&app, "POST", &at("restore-session"), json!({})).await;
    assert_eq!((status, &account["id"], &account["kind"]), (200, &json!("identity-1"), &json!("web")), "{account}");
    assert!(!account.to_string().contains("eyJ"), "{account}");
    until_all_healthy(&app).await;
    assert_eq!(is_spoilt(&app), Some(false), "the good session was renewed");
    ask(&app, Form::Whole, "echo: x").await.must_say("x");

    // The session that was left is kept, and can be taken back.
    assert_eq!(has_earlier(&app).await, json!(true));
    app.simulator.script().set_default(Some("bob"), Endpoint::Refresh, Some(ScriptedReply::status(503)));
    assert_eq!(told(&app, "POST", &at("restore-session"), json!({})).await.0, 200);
    until("the session that was left to be renewed", || is_spoilt(&app) == Some(true)).await;
    let (_, audit) = told(&app, "GET", "/admin/audit", json!({})).await;
    let noted = audit["changes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|change| change["what"].as_str().is_some_and(|what| what.ends_with("/identity-1/restore-session")));
    assert_eq!(noted.count(), 2, "{audit}");
}

#[tokio::test]
async fn an_account_that_is_no_web_account_has_no_earlier_session() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let key = format!("{}@{}", simulator.keys().secret("kay"), simulator.urls().keys);
    let setup = Setup::default().with("ADMIN_SECRET_KEY", ADMIN).with("QWEN_API_KEYS", &key);
    let app = setup.start(simulator).await;
    let (status, refused) = told(&app, "POST", "/admin/accounts/key-1/restore-session", json!({})).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("no_earlier_session")), "{refused}");
}

#[tokio::test]
async fn an_oauth_account_answers_nothing_before_its_test_call_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    let files = || dir.path().read_dir().unwrap().count();
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let credentials = json!({"text": simulator.oauth().credentials("cleo", TokenLife::Fresh), "label": "cleo"});
    let web = simulator.urls().web.to_string();
    let setup = Setup::default().without("COOKIE").with("ADMIN_SECRET_KEY", ADMIN);
    let setup = setup.with("QWEN_DIR", &dir.path().display().to_string()).with("QWEN_OAUTH_BASE_URL", &web);
    let app = setup.start(simulator).await;
    let mut asked = question("echo: x");
    asked["model"] = json!("oauth/qwen3-coder-plus");

    // A login that the portal refuses is kept nowhere.
    app.simulator.script().queue(None, Endpoint::PortalModels, ScriptedReply::status(401));
    let (status, refused) = told(&app, "POST", "/admin/accounts", credentials.clone()).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("login_refused")), "{refused}");
    assert_eq!((files(), listed(&app).await), (0, Vec::new()));

    let slow = ScriptedReply::status(404).delayed(Duration::from_secs(3600));
    app.simulator.script().queue(None, Endpoint::PortalModels, slow);
    let adding = call(&app, "POST", "/admin/accounts", &credentials);
    let asking = async {
        until("the test call", || app.simulator.record().requests_to(Endpoint::PortalModels).len() == 2).await;
        assert_eq!(files(), 1, "it is written down");
        assert_ne!(app.chat(&asked).await.status(), 200);
        assert_eq!(listed(&app).await, Vec::<String>::new());
    };
    tokio::select! {
        _ = adding => panic!("the test call did not wait"),
        () = asking => {}
    }
    let added = async {
        while listed(&app).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, added).await.expect("the account is never in use");
    assert_eq!(listed(&app).await, ["oauth:cleo cleo page healthy"]);
    assert_eq!(app.chat(&asked).await.status(), 200);
}

#[tokio::test]
async fn an_oauth_account_logs_in_from_the_page_and_is_removed_there() {
    let dir = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let web = simulator.urls().web.to_string();
    let setup = Setup::default().without("COOKIE").with("ADMIN_SECRET_KEY", ADMIN);
    let setup = setup.with("QWEN_DIR", &dir.path().display().to_string()).with("QWEN_OAUTH_BASE_URL", &web);
    let app = setup.start(simulator).await;
    let waiting = ScriptedReply::device(|device| device.approval = Approval::Awaited);
    app.simulator.script().queue(None, Endpoint::DeviceCode, waiting);
    let (status, login) = told(&app, "POST", "/admin/logins", json!({"id": "work"})).await;
    assert_eq!(status, 201, "{login}");
    assert!(login["qr_svg"].as_str().unwrap().contains("<svg"), "{login}");
    let path = format!("/admin/logins/{}", login["login"].as_str().unwrap());
    assert_eq!(told(&app, "GET", &path, json!({})).await.1["state"], "waiting");
    assert_eq!(told(&app, "DELETE", &path, json!({})).await.0, 200);
    let (_, state) = told(&app, "GET", &path, json!({})).await;
    assert_eq!((&state["state"], &state["error"]["zh"]), (&json!("failed"), &json!("登录已取消。")), "{state}");

    let (_, login) = told(&app, "POST", "/admin/logins", json!({"id": "work"})).await;
    let path = format!("/admin/logins/{}", login["login"].as_str().unwrap());
    let ended = async {
        loop {
            let (_, state) = told(&app, "GET", &path, json!({})).await;
            if state["state"] != "waiting" {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let state = tokio::time::timeout(PATIENCE, ended).await.expect("the login did not end");
    assert_eq!((&state["state"], &state["account"]), (&json!("done"), &json!("oauth:work")), "{state}");
    assert_eq!(listed(&app).await, ["oauth:work - page healthy"]);
    assert_eq!(told(&app, "DELETE", "/admin/accounts/oauth:work", json!({})).await.0, 200);
    assert_eq!(listed(&app).await, Vec::<String>::new());
    assert_eq!(told(&app, "GET", "/admin/logins/none", json!({})).await.0, 404);
}
