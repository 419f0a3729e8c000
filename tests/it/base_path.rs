//! `BASE_PATH`: the whole server below a path.

use serde_json::json;
use simulator::Simulator;
use simulator::script::Scenario;

use crate::support::app::{KEY, Setup, error_of, json_of, question};

#[tokio::test]
async fn everything_lies_below_the_base_path() {
    let setup = Setup::default().with("BASE_PATH", "/team/qwen").with("ADMIN_SECRET_KEY", "sk-of-the-owner");
    let app = setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await;
    for (path, status) in [
        ("/team/qwen/", 200),
        ("/team/qwen", 200),
        ("/team/qwen/health", 200),
        ("/team/qwen/ready", 200),
        ("/health", 200),
        ("/ready", 200),
        ("/team/qwen/v1/models", 200),
        ("//team/qwen//v1/models", 200),
        ("/team/qwen/v1/v1/models", 200),
        ("/team/qwen/admin", 200),
        ("/team/qwen/admin/assets/page.css", 200),
        ("/", 404),
        ("/v1/models", 404),
        ("/admin", 404),
        ("/admin/health", 404),
        ("/health/detailed", 404),
        ("/team/qwenx/v1/models", 404),
        ("/team", 404),
    ] {
        let response = app.get(path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        if status == 404 {
            let error = error_of(response).await;
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("/team/qwen/") && message.contains(&format!("'{path}'")), "{message}");
        }
    }
    let request = app.client.post(app.url("/team/qwen/v1/chat/completions")).bearer_auth(KEY);
    let response = request.header("content-type", "application/json").body(question("echo: x").to_string());
    assert_eq!(json_of(response.send().await.unwrap()).await["choices"][0]["message"]["content"], json!("x"));
    // What lies beside the base path is as closed as any unknown path.
    assert_eq!(app.client.get(app.url("/v1/models")).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_browser_is_led_to_the_front_page_with_the_slash_that_its_links_need() {
    let app = Setup::default().with("BASE_PATH", "/qwen").start(Simulator::start(Scenario::default()).await.unwrap());
    let app = app.await;
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let response = client.get(app.url("/qwen")).header("accept", "text/html").send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["location"]), (308, &"/qwen/".parse().unwrap()));
    let response = client.get(app.url("/qwen/")).header("accept", "text/html").send().await.unwrap();
    assert_eq!(response.status(), 200);
}
