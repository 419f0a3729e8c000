//! The owner's page: its files, and what keeps foreign things out of them.

use std::collections::{BTreeMap, BTreeSet};

use qwen_bridge::app::App;
use qwen_bridge::base::ids::UnixSeconds;
use qwen_bridge::config::{Config, Sources};
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::Scenario;

use crate::support::app::{KEY, Setup, TestApp, json_of};

const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// The files that a text of the page names: in attributes, and in imports of scripts.
fn named(text: &str) -> BTreeSet<String> {
    let pieces = text.split(['"', '\'']);
    let names = pieces.filter(|piece| {
        let name = piece.rsplit('/').next().unwrap();
        [".js", ".css", ".svg"].iter().any(|end| name.ends_with(end))
            && piece.len() < 80
            && !piece.contains(char::is_whitespace)
    });
    names.map(|name| name.rsplit('/').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_server_on_all_addresses_names_one_that_can_be_opened() {
    for (host, shown) in [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("127.0.0.2", "127.0.0.2")] {
        if std::net::TcpListener::bind((host, 0)).is_err() {
            // This machine has no IPv6.
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let settings = [
            ("SERVER_HOST", host),
            ("SERVER_PORT", "0"),
            ("API_KEY", KEY),
            ("ADMIN_SECRET_KEY", "sk-of-the-owner"),
            ("BASE_PATH", "/qwen"),
            ("STATE_DIR", folder.path().to_str().unwrap()),
        ];
        let env: BTreeMap<String, String> =
            settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let sources = Sources { env, ..Sources::empty(UnixSeconds(1_800_000_000)) };
        let app = App::build(Config::load(&sources).unwrap()).await.unwrap();
        let begin = format!("http://{shown}:{}/qwen", app.address().port());
        assert_eq!((app.base_url(), app.page_link()), (format!("{begin}/v1"), format!("{begin}/admin")));
    }
}

#[tokio::test]
async fn the_page_needs_no_key_and_nothing_from_elsewhere() {
    let app = TestApp::quick().await;
    let get = async |path: &str| {
        let response = app.client.get(app.url(path)).header("accept", BROWSER).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        (response.headers().clone(), response.text().await.unwrap())
    };
    for path in ["/", "/admin"] {
        let (headers, page) = get(path).await;
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        let policy = headers["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "img-src 'self' data: blob:;",
            "media-src 'self' blob:",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("//"), "{policy}");
        assert!(!page.contains(KEY) && !page.contains("//"), "{page}");
        let mut files = named(&page);
        assert!(files.len() >= 2, "{files:?}");
        let mut seen = BTreeSet::new();
        let mut first_view = page.len();
        while let Some(file) = files.pop_first() {
            if !seen.insert(file.clone()) {
                continue;
            }
            let (headers, text) = get(&format!("/admin/assets/{file}")).await;
            let is_script = file.ends_with(".js");
            let expected =
                if is_script { "text/javascript; charset=utf-8" } else { headers["content-type"].to_str().unwrap() };
            assert_eq!(headers["content-type"], expected);
            first_view += text.len();
            files.extend(named(&text));
            // Text nodes only: nothing that the upstream or a caller said is read as HTML or run.
            for way in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"]
            {
                assert!(!text.contains(way), "{way} in {file}");
            }
        }
        assert!(first_view < 150 * 1024, "{path} and all that it may load: {first_view} bytes");
    }
}

#[tokio::test]
async fn a_browser_asks_whether_its_copy_of_a_file_is_still_right() {
    let app = TestApp::quick().await;
    for path in ["/admin", "/admin/assets/page.css"] {
        let first = app.client.get(app.url(path)).send().await.unwrap();
        assert_eq!(first.headers()["cache-control"], "no-cache");
        let tag = first.headers()["etag"].clone();
        let again = app.client.get(app.url(path)).header("if-none-match", &tag).send().await.unwrap();
        assert_eq!((again.status().as_u16(), &again.headers()["etag"]), (304, &tag));
        let other = app.client.get(app.url(path)).header("if-none-match", "\"x\"").send().await.unwrap();
        assert_eq!(other.status(), 200);
    }
}

#[tokio::test]
async fn what_is_no_file_of_the_page_is_not_found() {
    let app = TestApp::quick().await;
    for path in ["/admin/assets/nowhere.js", "/admin/assets/..%2fpage.rs", "/admin/assets/%ff"] {
        let status = app.client.get(app.url(path)).send().await.unwrap().status().as_u16();
        assert!([400, 404, 503].contains(&status), "{path}: {status}");
    }
    assert_eq!(app.client.post(app.url("/admin")).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn each_setting_is_described_in_chinese_as_well() {
    let admin = "sk-of-the-owner";
    let app = Setup::default().with("ADMIN_SECRET_KEY", admin);
    let app = app.start(Simulator::start(Scenario::default()).await.unwrap()).await;
    let body = json_of(app.client.get(app.url("/admin/settings")).bearer_auth(admin).send().await.unwrap()).await;
    let names: Vec<_> = body["settings"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    let response = app.client.get(app.url("/admin/assets/settings_zh.js")).send().await.unwrap();
    let chinese = response.text().await.unwrap();
    let rows = chinese.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(": '"));
    let described: Vec<_> = rows.map(|(name, _)| name).collect();
    assert_eq!(described, names, "in the order of the table of settings");
}

#[tokio::test]
async fn settings_are_shown_with_their_origin_and_without_secrets() {
    let admin = "sk-of-the-owner";
    let setup = Setup::default()
        .with("ADMIN_SECRET_KEY", admin)
        .with("MAX_RETRIES", "3")
        .with("QWEN_WEB_HEADERS", r#"{"x-secret": "hush-1"}"#);
    let app = setup.start(Simulator::start(Scenario::default()).await.unwrap()).await;
    let response = app.client.get(app.url("/admin/settings")).bearer_auth(admin).send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body = json_of(response).await;
    let text = body.to_string();
    let secrets = app.simulator.record().secrets();
    assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
    assert!(![admin, KEY, "hush-1"].iter().any(|secret| text.contains(secret)), "{text}");
    let of = |name: &str| -> Value {
        let settings = body["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["name"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    let retries = of("MAX_RETRIES");
    assert_eq!((&retries["value"], &retries["default"]), (&json!("3"), &json!("2")));
    assert_eq!(retries["origin"], "environment");
    assert!(retries["about"].as_str().is_some_and(|about| !about.is_empty()));
    let queue = of("QUEUE_MAX");
    assert_eq!((&queue["value"], &queue["origin"]), (&queue["default"], &json!("default")));
    assert_eq!(of("API_KEY")["value"], "••••••••");
    assert_eq!(of("QWEN_API_KEYS")["value"], Value::Null);
}
