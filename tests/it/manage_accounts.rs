//! Accounts in the hands of their owner: checked, added, changed and removed while the server runs.

use http::StatusCode;
use reqwest::Response;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::Scenario;

use crate::support::app::{Setup, TestApp, json_of};

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
