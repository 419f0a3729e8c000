//! The owner's gallery: what was made is there wherever it was made, across restarts, and nothing of what was asked.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{AccountScript, Endpoint, Era, Scenario};

use crate::support::app::{KEY, Setup, TestApp, error_of, json_of};
use crate::support::oracle::until_all_healthy;
use crate::videos::{VIDEO_PATIENCE, soon};

const ADMIN: &str = "sk-of-the-owner";

fn setup() -> Setup {
    Setup::default().with("ADMIN_SECRET_KEY", ADMIN)
}

async fn simulator() -> Simulator {
    let accounts = [AccountScript::new("ada", Era::A), AccountScript::new("bob", Era::A)];
    Simulator::start(Scenario::with_accounts(accounts).paced_ms(0)).await.unwrap()
}

async fn get(app: &TestApp, path: &str) -> reqwest::Response {
    app.client.get(app.url(path)).bearer_auth(ADMIN).send().await.unwrap()
}

async fn items(app: &TestApp) -> Vec<Value> {
    let body = json_of(get(app, "/admin/gallery").await).await;
    body["items"].as_array().unwrap().clone()
}

/// Waits until the gallery has so many items. The entry is made when the answer has ended.
async fn until_items(app: &TestApp, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + VIDEO_PATIENCE;
    loop {
        let items = items(app).await;
        if items.len() == count {
            return items;
        }
        assert!(items.len() < count && Instant::now() < deadline, "{count} wanted: {items:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn post(app: &TestApp, path: &str, body: &Value) -> String {
    let response = app.post(path, body).send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(status, 200, "{path}: {text}");
    text
}

fn media(url: &str) -> String {
    format!("/admin/media?{}", url::form_urlencoded::Serializer::new(String::new()).append_pair("url", url).finish())
}

#[tokio::test]
async fn pictures_are_kept_wherever_they_are_made() {
    let app = setup().start(simulator().await).await;
    assert_eq!(items(&app).await, Vec::<Value>::new());
    let asked = |model: &str, stream: bool| json!({"model": model, "stream": stream, "max_tokens": 100, "messages": [{"role": "user", "content": "A lighthouse"}]});
    let requests = [
        ("/v1/images/generations", json!({"model": "qwen3-max", "prompt": "A lighthouse"})),
        ("/v1/chat/completions", asked("qwen3-max-image", false)),
        ("/v1/chat/completions", asked("qwen3-max-image", true)),
        ("/v1/responses", json!({"model": "qwen3-max-image", "input": "A lighthouse"})),
        ("/v1/messages", asked("qwen3-max-image", false)),
    ];
    let mut told = Vec::new();
    for (number, (path, body)) in requests.iter().enumerate() {
        told.push(post(&app, path, body).await);
        until_items(&app, number + 1).await;
    }
    let items = items(&app).await;
    for item in &items {
        let url = item["url"].as_str().unwrap();
        assert_eq!(item["kind"], "image");
        assert!(item["model"].as_str().unwrap().starts_with("qwen3-max"), "{item}");
        assert!(item["ends_at"].as_i64().unwrap() > item["at"].as_i64().unwrap(), "{item}");
        let shown = get(&app, &media(url)).await;
        assert_eq!((shown.status().as_u16(), &shown.headers()["content-type"]), (200, &"image/png".parse().unwrap()));
        assert_eq!(shown.headers()["content-security-policy"], "default-src 'none'; sandbox");
        assert!(shown.bytes().await.unwrap().starts_with(b"\x89PNG"));
    }
    let urls: Vec<&str> = items.iter().map(|item| item["url"].as_str().unwrap()).collect();
    assert!(told[0].contains(urls[4]), "newest first: {urls:?}");
    assert!(!format!("{items:?}").contains("lighthouse"), "{items:?}");
}

#[tokio::test]
async fn videos_are_kept_wherever_they_are_made() {
    let simulator = simulator().await;
    simulator.script().set_default(None, Endpoint::Completions, Some(soon()));
    let app = setup().start(simulator).await;
    let video = json!({"model": "qwen3-max", "prompt": "A boat at sea"});
    post(&app, "/v1/videos", &video).await;
    until_items(&app, 1).await;
    let chat = json!({"model": "qwen3-max-video", "messages": [{"role": "user", "content": "A boat at sea"}]});
    post(&app, "/v1/chat/completions", &chat).await;
    let items = until_items(&app, 2).await;
    for item in &items {
        assert_eq!(item["kind"], "video");
        let url = media(item["url"].as_str().unwrap());
        let part = app.client.get(app.url(&url)).bearer_auth(ADMIN).header("range", "bytes=4-7").send().await.unwrap();
        assert_eq!((part.status().as_u16(), &part.headers()["content-type"]), (206, &"video/mp4".parse().unwrap()));
        assert_eq!(part.bytes().await.unwrap(), "ftyp");
        let file = get(&app, &format!("{url}&download=1")).await;
        let name = file.headers()["content-disposition"].to_str().unwrap();
        assert!(name.starts_with("attachment; filename=\"") && name.ends_with(".mp4\""), "{name}");
    }
    assert!(!format!("{items:?}").contains("boat"), "{items:?}");
}

#[tokio::test]
async fn a_range_behind_the_end_is_refused_as_the_storage_refuses_it() {
    let simulator = simulator().await;
    simulator.script().set_default(None, Endpoint::Completions, Some(soon()));
    let app = setup().start(simulator).await;
    post(&app, "/v1/images/generations", &json!({"model": "qwen3-max", "prompt": "A lighthouse"})).await;
    post(&app, "/v1/videos", &json!({"model": "qwen3-max", "prompt": "A boat at sea"})).await;
    for item in until_items(&app, 2).await {
        let url = media(item["url"].as_str().unwrap());
        let length = get(&app, &url).await.bytes().await.unwrap().len();
        for url in [url.clone(), format!("{url}&download=1")] {
            let request = app.client.get(app.url(&url)).bearer_auth(ADMIN);
            let outside = request.header("range", format!("bytes={length}-")).send().await.unwrap();
            assert_eq!(outside.status(), 416, "{url}");
            assert_eq!(outside.headers()["content-range"], format!("bytes */{length}"));
            assert_eq!(outside.headers()["cache-control"], "no-store");
            assert!(!outside.headers().contains_key("content-disposition"), "the refusal is no file");
            assert_eq!(error_of(outside).await["code"], "range_not_satisfiable");
        }
    }
}

#[tokio::test]
async fn a_restart_keeps_the_gallery() {
    let app = setup().start(simulator().await).await;
    for path in ["/v1/images/generations", "/v1/chat/completions"] {
        let messages = json!([{"role": "user", "content": "A lighthouse"}]);
        let body = if path.contains("chat") {
            json!({"model": "qwen3-max-image", "messages": messages})
        } else {
            json!({"model": "qwen3-max", "prompt": "A lighthouse"})
        };
        post(&app, path, &body).await;
    }
    let before = until_items(&app, 2).await;
    let (simulator, state_dir) = app.stop().await;
    let app = setup().in_dir(state_dir).start(simulator).await;
    until_all_healthy(&app).await;
    assert_eq!(items(&app).await, before);
}

#[tokio::test]
async fn only_what_was_made_is_shown_and_only_to_the_owner() {
    let app = setup().start(simulator().await).await;
    let made = post(&app, "/v1/images/generations", &json!({"model": "qwen3-max", "prompt": "x"})).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    let url = made["data"][0]["url"].as_str().unwrap();
    let web = app.simulator.urls().web.to_string();
    for wrong in ["", "x", "file:///etc/passwd", "http://127.0.0.1:1/a.png", "https://example.org/a.png", &web] {
        let refused = get(&app, &media(wrong)).await;
        assert_eq!(refused.status(), 400, "{wrong}");
    }
    assert_eq!(get(&app, "/admin/media").await.status(), 400);
    // A link of the upstream's own that it does not know.
    let unknown = url.split('?').next().unwrap();
    assert_eq!(get(&app, &media(unknown)).await.status(), 502);
    for key in [None, Some(KEY)] {
        let mut request = app.client.get(app.url(&media(url)));
        request = key.map_or(request.try_clone().unwrap(), |key| request.bearer_auth(key));
        assert_eq!(request.send().await.unwrap().status(), 401, "{key:?}");
    }
}
