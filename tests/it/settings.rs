//! Settings that the owner changes on the page: in use at once, kept in the state, all of a change or nothing.

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::Scenario;

use crate::support::app::{KEY, Setup, TestApp, json_of, question};

const ADMIN: &str = "sk-admin-of-tests";

fn setup() -> Setup {
    Setup::default().reloading().with("ADMIN_SECRET_KEY", ADMIN).with("MAX_RETRIES", "5")
}

async fn start() -> TestApp {
    setup().start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await
}

async fn load(app: &TestApp) -> Value {
    json_of(app.client.get(app.url("/admin/settings")).bearer_auth(ADMIN).send().await.unwrap()).await
}

async fn setting(app: &TestApp, name: &str) -> Value {
    let all = load(app).await;
    all["settings"].as_array().unwrap().iter().find(|setting| setting["name"] == name).unwrap().clone()
}

/// Changes settings, if they are of this version; the status and the answer.
async fn change(app: &TestApp, values: &Value, version: Option<&str>) -> (u16, Value) {
    let mut request = app.client.patch(app.url("/admin/settings")).bearer_auth(ADMIN);
    if let Some(version) = version {
        request = request.header("if-match", format!("\"{version}\""));
    }
    let request = request.header("content-type", "application/json").body(values.to_string());
    let response = request.send().await.unwrap();
    (response.status().as_u16(), json_of(response).await)
}

async fn status_of_model(app: &TestApp, model: &str) -> u16 {
    let mut body = question("echo: x");
    body["model"] = json!(model);
    app.chat(&body).await.status().as_u16()
}

#[tokio::test]
async fn a_change_is_in_use_at_once_and_after_a_restart() {
    let app = start().await;
    assert_eq!(status_of_model(&app, "mine").await, 404);
    let (status, answer) = change(&app, &json!({"MODEL_MAP": ["mine=qwen3-max"], "MAX_RETRIES": 7}), None).await;
    assert_eq!((status, &answer["changed"]), (200, &json!(["MODEL_MAP", "MAX_RETRIES"])), "{answer}");
    assert_eq!(status_of_model(&app, "mine").await, 200);
    let map = setting(&app, "MODEL_MAP").await;
    assert_eq!((&map["value"], &map["origin"]), (&json!("mine=qwen3-max"), &json!("page")), "{map}");
    let audit = app.client.get(app.url("/admin/audit")).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(json_of(audit).await["changes"][0]["what"], "PATCH /admin/settings MODEL_MAP MAX_RETRIES");

    let (simulator, state_dir) = app.stop().await;
    let app = setup().in_dir(state_dir).start(simulator).await;
    assert_eq!(status_of_model(&app, "mine").await, 200);
    assert_eq!(setting(&app, "MAX_RETRIES").await["value"], "7");
    // Taken back, the environment's value holds, and where there is none the default.
    let (status, answer) = change(&app, &json!({"MODEL_MAP": null, "MAX_RETRIES": null}), None).await;
    assert_eq!(status, 200, "{answer}");
    let retries = setting(&app, "MAX_RETRIES").await;
    assert_eq!((&retries["value"], &retries["origin"]), (&json!("5"), &json!("environment")), "{retries}");
    assert_eq!(status_of_model(&app, "mine").await, 404);
}

#[tokio::test]
async fn a_change_with_faults_names_all_of_them_and_changes_nothing() {
    let app = start().await;
    let before = load(&app).await;
    let wrong = json!({
        "MAX_RETRIES": "many", "QUEUE_WAIT": "soon", "TRIP_AFTER": 1, "REASONING_FORMAT": "loud", "MAX_BODY": 3,
        "NO_SUCH": 1, "API_KEY": "sk-CANARY", "SERVER_PORT": 1, "CORS_ORIGINS": "*", "KEY_LIMITS": {"a": {"b": 1}},
        "MODEL_MAP": "mine=qwen3-max",
    });
    let (status, answer) = change(&app, &wrong, None).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_settings")), "{answer}");
    assert_eq!(message.lines().count(), 10, "{message}");
    for (name, _) in wrong.as_object().unwrap().iter().filter(|(name, _)| *name != "MODEL_MAP") {
        assert!(message.contains(name.as_str()), "{name}: {message}");
    }
    assert!(!message.contains("CANARY"), "{message}");
    assert_eq!(load(&app).await, before);
    assert_eq!(status_of_model(&app, "mine").await, 404);
    for wrong in [json!([]), json!("x"), json!(null)] {
        assert_eq!(change(&app, &wrong, None).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn of_two_owners_who_edit_at_once_the_second_looks_again() {
    let app = start().await;
    let seen = load(&app).await["version"].as_str().unwrap().to_owned();
    let (status, answer) = change(&app, &json!({"MAX_RETRIES": 3}), Some(&seen)).await;
    assert_eq!(status, 200, "{answer}");
    let newer = answer["version"].as_str().unwrap().to_owned();
    let (status, answer) = change(&app, &json!({"QUEUE_MAX": 3}), Some(&seen)).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("settings_changed")), "{answer}");
    assert!(answer["error"]["message_zh"].is_string(), "{answer}");
    assert_eq!(setting(&app, "QUEUE_MAX").await["origin"], "default");
    assert_eq!(change(&app, &json!({"QUEUE_MAX": 3}), Some(&newer)).await.0, 200);
    // Without a version the last one wins.
    assert_eq!(change(&app, &json!({"QUEUE_MAX": 4}), None).await.0, 200);
    assert_eq!(setting(&app, "QUEUE_MAX").await["value"], "4");
}

#[tokio::test]
async fn only_the_owner_changes_settings() {
    let app = start().await;
    for key in [None, Some(KEY)] {
        let mut request = app.client.patch(app.url("/admin/settings")).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        assert_eq!(request.body("{\"MAX_RETRIES\": 1}").send().await.unwrap().status(), 401);
    }
    assert_eq!(setting(&app, "MAX_RETRIES").await["value"], "5");
    // A server without files of its own, as the demo, says that it keeps no settings.
    let simulator = Simulator::start(Scenario::default()).await.unwrap();
    let fixed = Setup::default().with("ADMIN_SECRET_KEY", ADMIN).start(simulator).await;
    assert_eq!(change(&fixed, &json!({"MAX_RETRIES": 1}), None).await.0, 409);
}

#[tokio::test]
async fn a_setting_of_the_page_that_no_longer_fits_the_files_is_left_out_and_blocks_nothing() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = setup().with("API_KEY", &format!("laptop={KEY}")).start(simulator).await;
    let wanted = json!({"KEY_LIMITS": "laptop:requests=100/day", "MAX_RETRIES": 7});
    assert_eq!(change(&app, &wanted, None).await.0, 200);
    let (simulator, state_dir) = app.stop().await;
    // No key is called so any more.
    let app = setup().in_dir(state_dir).start(simulator).await;
    assert_eq!(setting(&app, "KEY_LIMITS").await["origin"], "default");
    assert_eq!(setting(&app, "MAX_RETRIES").await["value"], "7");
    let reloaded = json_of(app.client.post(app.url("/admin/reload")).bearer_auth(ADMIN).send().await.unwrap()).await;
    assert_eq!(reloaded["faults"], json!([]), "{reloaded}");
    assert_eq!(change(&app, &json!({"QUEUE_MAX": 3}), None).await.0, 200);
    assert_eq!(setting(&app, "MAX_RETRIES").await["value"], "7");
}
