//! Changed files of settings are taken up while the server runs: whole, checked, and without a word for a faulty one.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::TokenLife;
use simulator::script::{Endpoint, KeyScript, RawScript, Scenario, ScriptedFailure, ScriptedReply};
use tempfile::TempDir;

use crate::support::app::{PATIENCE, json_of, question};
use crate::support::oracle::{crew, until};
use crate::support::program::Program;

pub(crate) const ADMIN: &str = "sk-admin-of-tests";

/// The program in a folder with a `cookie.txt` and a `.env` of its own.
pub(crate) struct Server {
    pub program: Program,
    pub address: SocketAddr,
    pub client: reqwest::Client,
    pub simulator: Simulator,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(crew(3)).await
    }

    async fn start_with(scenario: Scenario) -> Self {
        let simulator = Simulator::start(scenario.paced_ms(0)).await.unwrap();
        Self::start_in(TempDir::new().unwrap(), simulator, &[]).await
    }

    /// The program in this folder, with further settings.
    async fn start_in(folder: TempDir, simulator: Simulator, more: &[(&str, &str)]) -> Self {
        fs::write(folder.path().join("cookie.txt"), simulator.accounts().cookie("ada")).unwrap();
        fs::write(folder.path().join(".env"), "API_KEY=laptop=sk-one").unwrap();
        let mut settings = vec![
            ("ADMIN_SECRET_KEY", ADMIN.to_owned()),
            ("QWEN_WEB_BASE_URL", simulator.urls().web.to_string()),
            ("QWEN_AUTH_BASE_URL", simulator.urls().auth.to_string()),
            ("QWEN_OAUTH_BASE_URL", simulator.urls().web.to_string()),
            ("SERVER_PORT", "0".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
        ];
        settings.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let program = Program::start_in(folder, &["serve"], &settings);
        let address = program.address_beside("listening").await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { program, address, client, simulator }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.program.folder().join(name)
    }

    fn cookie(&self, account: &str) -> String {
        self.simulator.accounts().cookie(account)
    }

    pub(crate) async fn call(&self, method: &str, path: &str) -> Value {
        let url = format!("http://{}{path}", self.address);
        json_of(self.client.request(method.parse().unwrap(), url).bearer_auth(ADMIN).send().await.unwrap()).await
    }

    /// What the page shows of a setting.
    pub(crate) async fn setting(&self, name: &str) -> Value {
        let all = self.call("GET", "/admin/settings").await;
        all["settings"].as_array().unwrap().iter().find(|setting| setting["name"] == name).unwrap().clone()
    }

    /// A chat completion with the first key.
    pub(crate) async fn chat(&self, body: &Value) -> reqwest::Response {
        let url = format!("http://{}/v1/chat/completions", self.address);
        let request = self.client.post(url).bearer_auth("sk-one").header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap()
    }

    /// The ids of the accounts.
    async fn accounts(&self) -> Vec<String> {
        let list = self.call("GET", "/admin/accounts").await;
        list["accounts"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    }

    async fn until_accounts(&self, expected: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        while self.accounts().await != expected {
            assert!(Instant::now() < deadline, "never {expected:?}: {}", self.program.stderr());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a setting has this value on the page.
    async fn until_setting(&self, name: &str, value: Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let setting = self.setting(name).await;
            if setting["value"] == value {
                return;
            }
            assert!(Instant::now() < deadline, "never {name}={value}: {setting} {}", self.program.stderr());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_fault(&self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = self.call("GET", "/admin/reload").await;
            if last["faults"].as_array().is_some_and(|faults| !faults.is_empty()) {
                return last;
            }
            assert!(Instant::now() < deadline, "no fault: {last} {}", self.program.stderr());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The list of models, as text.
    async fn models(&self) -> String {
        let url = format!("http://{}/v1/models", self.address);
        json_of(self.client.get(url).bearer_auth("sk-one").send().await.unwrap()).await.to_string()
    }

    async fn status_with(&self, key: &str) -> u16 {
        let url = format!("http://{}/v1/models", self.address);
        self.client.get(url).bearer_auth(key).send().await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn a_changed_cookie_file_is_taken_up_and_a_faulty_one_changes_nothing() {
    let server = Server::start().await;
    assert_eq!(server.accounts().await, ["identity-1"]);
    assert_eq!(server.call("GET", "/admin/reload").await, Value::Null);
    fs::write(server.file("cookie.txt"), format!("{}\n{}\n", server.cookie("ada"), server.cookie("bob"))).unwrap();
    server.until_accounts(&["identity-1", "identity-2"]).await;

    // Editors write another file and put it in the place of the old one.
    fs::write(server.file("cookie.new"), "words and words\n".repeat(10)).unwrap();
    fs::rename(server.file("cookie.new"), server.file("cookie.txt")).unwrap();
    let last = server.until_fault().await;
    assert_eq!(last["faults"].as_array().unwrap().len(), 1, "{last}");
    assert!(last["faults"][0].as_str().unwrap().contains("cookie.txt lines 1 to 10: is not a Cookie header"), "{last}");
    assert_eq!(server.accounts().await, ["identity-1", "identity-2"]);

    // Another session of Bob's is still Bob; Ada is gone, Cem is new.
    let lines = format!("{}; newer=1\n{}\n", server.cookie("bob"), server.cookie("cem"));
    fs::write(server.file("cookie.txt"), lines).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let last = loop {
        let last = server.call("GET", "/admin/reload").await;
        if last["changed"].as_array().is_some_and(|changed| !changed.is_empty()) && last["faults"] == json!([]) {
            break last;
        }
        assert!(Instant::now() < deadline, "{last}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let words = ["identity-2 has a new session", "identity-1 removed", "identity-1 added"];
    assert_eq!(last["changed"], json!(words), "{last}");
    assert!(!server.program.stderr().contains("eyJ"), "no secret in the log");
}

#[tokio::test]
async fn keys_are_taken_up_and_what_needs_a_restart_is_named() {
    let server = Server::start().await;
    assert_eq!((server.status_with("sk-one").await, server.status_with("sk-two").await), (200, 401));
    fs::write(server.file(".env"), "API_KEY=laptop=sk-two\nCORS_ORIGINS=https://a.example\n").unwrap();
    let outcome = server.call("POST", "/admin/reload").await;
    assert_eq!(outcome["needs_restart"], json!(["CORS_ORIGINS"]), "{outcome}");
    assert_eq!((server.status_with("sk-one").await, server.status_with("sk-two").await), (401, 200));
    // Without a key the server would be open: that is no small change.
    fs::write(server.file(".env"), "").unwrap();
    let outcome = server.call("POST", "/admin/reload").await;
    assert_eq!(outcome["needs_restart"], json!(["API_KEY"]), "{outcome}");
    assert_eq!((server.status_with("sk-one").await, server.status_with("sk-two").await), (401, 200));
    // Ten faults at once.
    let faulty: String = (0..10).map(|number| format!("\"NO_SETTING_{number}\": 1, ")).collect();
    fs::write(server.file("config.json"), format!("{{{faulty}}}")).unwrap();
    let outcome = server.call("POST", "/admin/reload").await;
    assert_eq!(outcome["faults"].as_array().unwrap().len(), 10, "{outcome}");
    assert_eq!((server.status_with("sk-one").await, server.status_with("sk-two").await), (401, 200));
    assert_eq!(server.accounts().await, ["identity-1"]);
}

#[tokio::test]
async fn a_hangup_reloads_and_does_not_end_the_program() {
    let mut server = Server::start().await;
    fs::write(server.file(".env"), "API_KEY=laptop=sk-two").unwrap();
    server.program.signal("HUP");
    let deadline = Instant::now() + PATIENCE;
    while server.status_with("sk-two").await != 200 {
        assert!(Instant::now() < deadline && server.program.is_running(), "{}", server.program.stderr());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Settings that hold for requests that begin after the reload.
#[tokio::test]
async fn settings_hold_for_the_next_request() {
    let server = Server::start().await;
    let mut body = question("echo: hello");
    body["model"] = json!("mine");
    assert_eq!(server.chat(&body).await.status(), 404);
    assert!(!server.program.stderr().contains("\"level\":\"DEBUG\""));
    let settings = "MODEL_MAP=mine=qwen3-max\nRATE_LIMIT_RPS=0.01\nRATE_LIMIT_BURST=3\nMAX_JSON=2kB\nLOG_LEVEL=debug\n\
                    KEEP_CHATS=true\nMAX_IN_FLIGHT=7\nVISION_FALLBACK_MODEL=\nUSAGE_DAYS=10\n";
    fs::write(server.file(".env"), format!("API_KEY=laptop=sk-one\n{settings}")).unwrap();
    let outcome = server.call("POST", "/admin/reload").await;
    assert_eq!((&outcome["needs_restart"], &outcome["faults"]), (&json!([]), &json!([])), "{outcome}");
    for name in settings.lines().map(|line| line.split('=').next().unwrap()) {
        // The watch of the files may have come first, so the outcome need not name it.
        let setting = server.setting(name).await;
        assert_eq!((&setting["origin"], &setting["pending"]), (&json!(".env"), &Value::Null), "{setting}");
    }
    let answer = server.chat(&body).await;
    assert_eq!(
        (answer.status(), &answer.headers()["x-ratelimit-limit"]),
        (StatusCode::OK, &HeaderValue::from_static("3"))
    );
    let mut large = body.clone();
    large["messages"][0]["content"] = json!("x".repeat(3000));
    assert_eq!(server.chat(&large).await.status(), 413);
    assert_eq!(server.chat(&body).await.status(), 200);
    assert_eq!(server.chat(&body).await.status(), 429);
    server.program.until_it_says("\"level\":\"DEBUG\"").await;
    assert!(server.simulator.stored().chats(None).iter().any(|chat| !chat.is_old), "chats are kept");
    // Without them all is as before, and no bucket is left.
    fs::write(server.file(".env"), "API_KEY=laptop=sk-one\n").unwrap();
    server.call("POST", "/admin/reload").await;
    let answer = server.chat(&body).await;
    assert_eq!((answer.status(), answer.headers().get("x-ratelimit-limit")), (StatusCode::NOT_FOUND, None));
}

#[tokio::test]
async fn a_request_in_flight_ends_on_the_settings_it_began_with() {
    let server = Server::start().await;
    let pausing = || ScriptedReply::pieces(["one ", "two"]).pausing(1, Duration::from_millis(2500));
    server.simulator.script().queue(None, Endpoint::Completions, pausing());
    let mut body = question("count");
    body["stream"] = json!(true);
    let mut early = server.chat(&body).await;
    let first = early.chunk().await.unwrap().unwrap();
    fs::write(server.file(".env"), "API_KEY=laptop=sk-one\nIDLE_TIMEOUT=1s\n").unwrap();
    server.call("POST", "/admin/reload").await;
    let mut text = String::from_utf8(first.to_vec()).unwrap();
    while let Some(chunk) = early.chunk().await.unwrap() {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(text.contains("two") && text.ends_with("data: [DONE]\n\n"), "{text}");
    // The next one is given up in the same pause.
    server.simulator.script().queue(None, Endpoint::Completions, pausing());
    let late = server.chat(&body).await.text().await.unwrap();
    assert!(!late.contains("two") && late.contains("timeout"), "{late}");
}

#[tokio::test]
async fn the_page_shows_the_settings_that_are_in_use() {
    let server = Server::start().await;
    let env = "API_KEY=laptop=sk-one\nKEY_LIMITS=laptop:requests=50/day\nCORS_ORIGINS=https://a.example\n";
    fs::write(server.file(".env"), env).unwrap();
    server.call("POST", "/admin/reload").await;
    let limits = server.setting("KEY_LIMITS").await;
    assert_eq!(limits["value"], "laptop:requests=50/day", "{limits}");
    assert_eq!((&limits["origin"], &limits["pending"]), (&json!(".env"), &Value::Null), "{limits}");
    // This one waits for a restart, and the page says what for.
    let origins = server.setting("CORS_ORIGINS").await;
    assert_eq!((&origins["value"], &origins["origin"]), (&json!("*"), &json!("default")), "{origins}");
    assert_eq!(origins["pending"], json!({"value": "https://a.example", "origin": ".env"}), "{origins}");
    // A secret is not shown, in use or not.
    fs::write(server.file(".env"), "API_KEY=laptop=sk-one\nQWEN_WEB_HEADERS={\"x-a\": \"CANARY\"}\n").unwrap();
    server.call("POST", "/admin/reload").await;
    let headers = server.setting("QWEN_WEB_HEADERS").await;
    assert!(!headers.to_string().contains("CANARY") && headers["pending"]["origin"] == ".env", "{headers}");
    // Taken back, nothing waits any more.
    let origins = server.setting("CORS_ORIGINS").await;
    assert_eq!((&origins["value"], &origins["pending"]), (&json!("*"), &Value::Null), "{origins}");
}

#[tokio::test]
async fn static_keys_and_given_oauth_accounts_come_and_go() {
    let scenario = Scenario::default().key(KeyScript::new("lee"));
    let server = Server::start_with(scenario).await;
    let base = server.simulator.urls().keys;
    let key = |name: &str| format!("{}@{base}", server.simulator.keys().secret(name));
    let reload = async |settings: &str| {
        fs::write(server.file(".env"), format!("API_KEY=laptop=sk-one\n{settings}\n")).unwrap();
        let outcome = server.call("POST", "/admin/reload").await;
        assert_eq!((&outcome["faults"], &outcome["needs_restart"]), (&json!([]), &json!([])), "{outcome}");
        server.accounts().await
    };
    let mut body = question("echo: x");
    body["model"] = json!("key/qwen3.7-plus");
    assert_eq!(server.chat(&body).await.status(), 404);
    assert_eq!(reload(&format!("QWEN_API_KEYS={}", key("kay"))).await, ["identity-1", "key-1"]);
    assert_eq!(server.chat(&body).await.status(), 200);
    // The second key stays under its name when the first one goes, and another one takes the free name.
    let both = format!("QWEN_API_KEYS={},{}", key("kay"), key("lee"));
    assert_eq!(reload(&both).await, ["identity-1", "key-1", "key-2"]);
    assert_eq!(reload(&format!("QWEN_API_KEYS={}", key("lee"))).await, ["identity-1", "key-2"]);
    assert_eq!(reload(&both).await, ["identity-1", "key-1", "key-2"]);
    assert_eq!(server.chat(&body).await.status(), 200);
    let credentials = server.simulator.oauth().credentials("cleo", TokenLife::Fresh);
    let with_cleo = format!("QWEN_OAUTH_CREDS='{credentials}'");
    assert_eq!(reload(&with_cleo).await, ["identity-1", "oauth:env-1"]);
    assert_eq!(reload("").await, ["identity-1"]);
    assert_eq!(server.chat(&body).await.status(), 404);
    assert_eq!(reload(&with_cleo).await, ["identity-1", "oauth:env-1"]);
}

/// A list of models that has this one.
fn listing(model: &str) -> ScriptedReply {
    let body = json!({"object": "list", "data": [{"id": model, "object": "model"}]}).to_string();
    let raw = RawScript { status: 200, content_type: "application/json".to_owned(), body, base64: false };
    ScriptedReply::failing(ScriptedFailure::Raw(raw))
}

#[tokio::test]
async fn keys_that_change_while_their_models_are_listed_are_neither_missed_nor_remembered() {
    let server = Server::start_with(Scenario::default().key(KeyScript::new("lee"))).await;
    let (base, script) = (server.simulator.urls().keys, server.simulator.script());
    let key = |name: &str| format!("{}@{base}", server.simulator.keys().secret(name));
    let reload = async |keys: &[String]| {
        let settings = format!("API_KEY=laptop=sk-one\nQWEN_API_KEYS={}\n", keys.join(","));
        fs::write(server.file(".env"), settings).unwrap();
        let outcome = server.call("POST", "/admin/reload").await;
        assert_eq!(outcome["faults"], json!([]), "{outcome}");
    };
    let (kay, lee) = (key("kay"), key("lee"));
    script.set_default(Some("kay"), Endpoint::KeyModels, Some(listing("of-kay")));
    script.set_default(Some("lee"), Endpoint::KeyModels, Some(listing("of-lee")));
    let lists = |name: &str| {
        let requests = server.simulator.record().requests_to(Endpoint::KeyModels);
        requests.iter().filter(|request| request.is(name, Endpoint::KeyModels)).count()
    };
    // The list of the one key is asked for after the first change, and takes its time; meanwhile the second one comes.
    let change_twice = async |slow: &str, model: &str, changes: [&[String]; 2]| {
        script.queue(Some(slow), Endpoint::KeyModels, listing(model).delayed(Duration::from_secs(1)));
        let before = lists(slow);
        reload(changes[0]).await;
        let change = async {
            until("asked for models", || lists(slow) > before).await;
            reload(changes[1]).await;
        };
        tokio::join!(server.models(), change);
        server.models().await
    };
    let (one, both) = (std::slice::from_ref(&kay), [kay.clone(), lee]);
    let listed = change_twice("kay", "of-kay", [one, &both]).await;
    assert!(listed.contains("of-kay") && listed.contains("of-lee"), "{listed}");
    // The list of a key that is gone keeps no other key from being asked.
    reload(one).await;
    let listed = change_twice("lee", "of-lee", [&both, one]).await;
    assert!(listed.contains("of-kay") && !listed.contains("of-lee"), "{listed}");
    let mut body = question("echo: x");
    body["model"] = json!("key/of-lee");
    let answer = server.chat(&body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

#[tokio::test]
async fn a_change_on_the_page_does_not_believe_a_cookie_file_that_is_being_written() {
    let server = Server::start().await;
    fs::write(server.file("cookie.txt"), "").unwrap();
    let url = format!("http://{}/admin/settings", server.address);
    let request = server.client.patch(url).bearer_auth(ADMIN).header("content-type", "application/json");
    let answer = request.body("{\"MAX_RETRIES\": 7}").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("the cookie file is empty"));
    assert_eq!(server.accounts().await, ["identity-1"]);
}

#[tokio::test]
async fn a_reload_that_is_asked_for_does_not_believe_an_emptied_cookie_file() {
    let server = Server::start().await;
    let empty = |text: Option<&str>| match text {
        Some(text) => fs::write(server.file("cookie.txt"), text).unwrap(),
        None => fs::remove_file(server.file("cookie.txt")).unwrap(),
    };
    for text in [Some(""), Some(" \n\n"), None] {
        empty(text);
        let outcome = server.call("POST", "/admin/reload").await;
        let fault = outcome["faults"][0].as_str().unwrap_or_else(|| panic!("{outcome}"));
        assert!(fault.contains("the cookie file is empty") && fault.contains("10 s"), "{fault}");
        assert_eq!(outcome["changed"], json!([]));
        assert_eq!(server.accounts().await, ["identity-1"], "{text:?}");
        fs::write(server.file("cookie.txt"), server.cookie("ada")).unwrap();
        let outcome = server.call("POST", "/admin/reload").await;
        assert_eq!((&outcome["faults"], &outcome["changed"]), (&json!([]), &json!([])), "{text:?}");
    }
    empty(Some(""));
    server.program.signal("HUP");
    assert!(server.until_fault().await["faults"][0].as_str().unwrap().contains("the cookie file is empty"));
    assert_eq!(server.accounts().await, ["identity-1"]);
}

#[tokio::test]
async fn models_that_a_reload_names_are_looked_at() {
    let server = Server::start().await;
    let reload = async |settings: &str| {
        fs::write(server.file(".env"), format!("API_KEY=laptop=sk-one\n{settings}")).unwrap();
        server.call("POST", "/admin/reload").await
    };
    reload("MODEL_MAP=mine=qwen-of-nobody").await;
    server.program.until_it_says("MODEL_MAP names a model that no upstream has").await;
    reload("DEFAULT_MODEL=qwen-of-nobody").await;
    server.program.until_it_says("DEFAULT_MODEL names a model that no upstream has").await;
    let warnings = server.program.stderr().lines().filter(|line| line.contains("names a model")).count();
    assert_eq!(warnings, 2, "each once");
}

#[tokio::test]
async fn debug_mode_waits_for_a_restart_as_a_whole() {
    let server = Server::start().await;
    fs::write(server.file(".env"), "API_KEY=laptop=sk-one\nDEBUG_MODE=true").unwrap();
    assert_eq!(server.call("POST", "/admin/reload").await["needs_restart"], json!(["DEBUG_MODE"]));
    for _ in 0..2 {
        assert_eq!(server.chat(&question("echo: hello")).await.status(), 200);
    }
    assert!(!server.program.stderr().contains("\"level\":\"DEBUG\""));
    assert_eq!(server.setting("DEBUG_MODE").await["pending"]["value"], "true");
    // What LOG_LEVEL says holds at once all the same.
    fs::write(server.file(".env"), "API_KEY=laptop=sk-one\nDEBUG_MODE=true\nLOG_LEVEL=debug").unwrap();
    server.call("POST", "/admin/reload").await;
    assert_eq!(server.chat(&question("echo: hello")).await.status(), 200);
    server.program.until_it_says("\"level\":\"DEBUG\"").await;
}

#[tokio::test]
async fn another_cookie_file_is_watched_from_then_on() {
    let server = Server::start().await;
    let until_count = async |count: usize| {
        let deadline = Instant::now() + PATIENCE;
        while server.accounts().await.len() != count {
            assert!(Instant::now() < deadline, "never {count}: {}", server.program.stderr());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    fs::write(server.file("other.txt"), format!("{}\n{}\n", server.cookie("ada"), server.cookie("bob"))).unwrap();
    fs::write(server.file(".env"), "API_KEY=laptop=sk-one\nCOOKIE_FILE=other.txt").unwrap();
    until_count(2).await;
    let lines = [server.cookie("ada"), server.cookie("bob"), server.cookie("cem")].join("\n");
    fs::write(server.file("other.txt"), lines).unwrap();
    until_count(3).await;
}

/// No signal and no request asks for any of this.
#[tokio::test]
async fn the_watch_alone_takes_up_env_and_config_files_that_come_change_and_go() {
    let server = Server::start().await;
    assert_eq!(server.setting("MAX_RETRIES").await["origin"], "default");
    let write = |name: &str, text: &str| fs::write(server.file(name), text).unwrap();
    // None was there at the start.
    write("config.json", r#"{"MAX_RETRIES": 7}"#);
    server.until_setting("MAX_RETRIES", json!("7")).await;
    assert_eq!(server.setting("MAX_RETRIES").await["origin"], "file");
    write("config.json", r#"{"MAX_RETRIES": 8}"#);
    server.until_setting("MAX_RETRIES", json!("8")).await;
    // `.env` wins over it, also when it comes by a rename, as `sed -i` and editors write.
    fs::write(server.file(".env.swp"), "API_KEY=laptop=sk-one\nMAX_RETRIES=9\n").unwrap();
    fs::rename(server.file(".env.swp"), server.file(".env")).unwrap();
    server.until_setting("MAX_RETRIES", json!("9")).await;
    assert_eq!(server.setting("MAX_RETRIES").await["origin"], ".env");
    write(".env", "API_KEY=laptop=sk-two\n");
    server.until_setting("MAX_RETRIES", json!("8")).await;
    assert_eq!((server.status_with("sk-one").await, server.status_with("sk-two").await), (401, 200));
    fs::remove_file(server.file("config.json")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while server.setting("MAX_RETRIES").await["origin"] != "default" {
        assert!(Instant::now() < deadline, "{}", server.program.stderr());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!server.program.stderr().contains("asked to reload"), "{}", server.program.stderr());
}

/// How Kubernetes updates a mounted volume: the files are links through `..data`, and one rename puts
/// another folder behind all of them.
#[cfg(unix)]
#[tokio::test]
async fn a_mounted_volume_of_kubernetes_is_taken_up_when_its_data_link_is_swapped() {
    use std::os::unix::fs::symlink;
    let simulator = Simulator::start(crew(3).paced_ms(0)).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mount = folder.path().join("mount");
    fs::create_dir(&mount).unwrap();
    let cookies = ["ada", "bob", "cem"].map(|account| simulator.accounts().cookie(account));
    // Version n has n accounts.
    let swap = |version: usize| {
        let name = format!("..2026_{version}");
        fs::create_dir(mount.join(&name)).unwrap();
        fs::write(mount.join(&name).join("cookie.txt"), cookies[..version].join("\n")).unwrap();
        fs::write(mount.join(&name).join("config.json"), format!("{{\"MAX_RETRIES\": {version}}}")).unwrap();
        symlink(&name, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        if version > 1 {
            fs::remove_dir_all(mount.join(format!("..2026_{}", version - 1))).unwrap();
        }
    };
    swap(1);
    for name in ["cookie.txt", "config.json"] {
        symlink(format!("..data/{name}"), mount.join(name)).unwrap();
    }
    let files = [("COOKIE_FILE", "mount/cookie.txt"), ("CONFIG_FILE", "mount/config.json")];
    let server = Server::start_in(folder, simulator, &files).await;
    assert_eq!(server.accounts().await, ["identity-1"]);
    swap(2);
    server.until_accounts(&["identity-1", "identity-2"]).await;
    server.until_setting("MAX_RETRIES", json!("2")).await;
    // A watch of the folder that is gone by now would miss the next one.
    swap(3);
    server.until_accounts(&["identity-1", "identity-2", "identity-3"]).await;
    server.until_setting("MAX_RETRIES", json!("3")).await;
}

/// A link into a folder of dotfiles, say, whose file is written in its place.
#[cfg(unix)]
#[tokio::test]
async fn a_file_behind_a_link_is_watched_where_it_lies() {
    let simulator = Simulator::start(crew(3).paced_ms(0)).await.unwrap();
    let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let kept = elsewhere.path().join("accounts");
    let cookie = |account: &str| simulator.accounts().cookie(account);
    fs::write(&kept, cookie("ada")).unwrap();
    let (two, three) =
        ([cookie("ada"), cookie("bob")].join("\n"), [cookie("ada"), cookie("bob"), cookie("cem")].join("\n"));
    std::os::unix::fs::symlink(&kept, folder.path().join("linked.txt")).unwrap();
    let server = Server::start_in(folder, simulator, &[("COOKIE_FILE", "linked.txt")]).await;
    assert_eq!(server.accounts().await, ["identity-1"]);
    fs::write(&kept, two).unwrap();
    server.until_accounts(&["identity-1", "identity-2"]).await;
    fs::write(elsewhere.path().join("new"), three).unwrap();
    fs::rename(elsewhere.path().join("new"), &kept).unwrap();
    server.until_accounts(&["identity-1", "identity-2", "identity-3"]).await;
}
