//! The real server and the simulator, each on a free port, for one test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use qwen_bridge::app::App;
use qwen_bridge::base::ids::UnixSeconds;
use qwen_bridge::config::{Config, Sources};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Endpoint, Scenario, UsageScript};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The key of every test server that is not told otherwise.
pub(crate) const KEY: &str = "sk-test-key";

/// How long a test waits for an event before it fails. Far more than any event takes, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. Dropping it ends the server without draining.
pub(crate) struct TestApp {
    pub simulator: Simulator,
    pub address: SocketAddr,
    /// Of `METRICS_ADDRESS`, if that is set.
    pub metrics_address: Option<SocketAddr>,
    pub client: reqwest::Client,
    pub state_dir: TempDir,
    stop: CancellationToken,
    server: AbortOnDrop,
}

/// A task that does not outlive its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a test server differs from the usual one.
#[derive(Default)]
pub(crate) struct Setup {
    settings: BTreeMap<String, String>,
    removed: Vec<String>,
    state_dir: Option<TempDir>,
    is_reloading: bool,
}

impl Setup {
    /// Sets a setting by its name.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Leaves a setting at its default that test servers otherwise have.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.removed.push(name.to_owned());
        self
    }

    /// Takes up changed settings while it runs. It watches files, so only tests of that ask for it.
    pub(crate) fn reloading(mut self) -> Self {
        self.is_reloading = true;
        self
    }

    /// Uses the state folder of an earlier server, as after a restart.
    pub(crate) fn in_dir(mut self, state_dir: TempDir) -> Self {
        self.state_dir = Some(state_dir);
        self
    }

    /// Starts the server in front of this simulator.
    pub(crate) async fn start(self, simulator: Simulator) -> TestApp {
        let state_dir = self.state_dir.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let cookies: Vec<String> =
            simulator.accounts().names().iter().map(|account| simulator.accounts().cookie(account)).collect();
        let mut env = BTreeMap::from(
            [
                ("API_KEY", KEY.to_owned()),
                ("COOKIE", cookies.join("|||")),
                ("QWEN_WEB_BASE_URL", simulator.urls().web.to_string()),
                ("QWEN_AUTH_BASE_URL", simulator.urls().auth.to_string()),
                ("QWEN_OSS_BASE_URL", simulator.urls().storage.to_string()),
                ("SERVER_PORT", "0".to_owned()),
                ("STATE_DIR", state_dir.path().display().to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        env.extend(self.settings);
        for name in self.removed {
            env.remove(&name);
        }
        let sources = Sources { env, ..Sources::empty(UnixSeconds(jiff::Timestamp::now().as_second())) };
        let config = Config::load(&sources).unwrap();
        let app = match self.is_reloading {
            true => App::build_reloading(config, move || sources.clone(), None).await,
            false => App::build(config).await,
        };
        let app = app.unwrap();
        let (address, metrics_address) = (app.address(), app.metrics_address());
        let stop = CancellationToken::new();
        let server = AbortOnDrop(spawn(app.serve(stop.clone().cancelled_owned())));
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        TestApp { simulator, address, metrics_address, client, state_dir, stop, server }
    }
}

/// A server with the web accounts of the scenario and all of its keys.
pub(crate) async fn with_keys(scenario: Scenario) -> TestApp {
    let simulator = Simulator::start(scenario.paced_ms(0)).await.unwrap();
    let base = simulator.urls().keys;
    let keys: Vec<String> =
        simulator.keys().names().iter().map(|name| format!("{}@{base}", simulator.keys().secret(name))).collect();
    Setup::default().with("QWEN_API_KEYS", &keys.join(",")).start(simulator).await
}

impl TestApp {
    /// A usual server in front of a simulator with this scenario.
    pub(crate) async fn start(scenario: Scenario) -> Self {
        Setup::default().start(Simulator::start(scenario).await.unwrap()).await
    }

    /// A usual server in front of two accounts without pauses between frames.
    pub(crate) async fn quick() -> Self {
        Self::start(Scenario::default().paced_ms(0)).await
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A GET with the key.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path)).bearer_auth(KEY)
    }

    /// A POST with the key and a JSON body.
    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client
            .post(self.url(path))
            .bearer_auth(KEY)
            .header("content-type", "application/json")
            .body(body.to_string())
    }

    /// A chat completion, as asked for by `body`.
    pub(crate) async fn chat(&self, body: &Value) -> Response {
        self.post("/v1/chat/completions", body).send().await.unwrap()
    }

    /// A whole answer to one user message.
    pub(crate) async fn ask(&self, text: &str) -> Value {
        let response = self.chat(&question(text)).await;
        let status = response.status();
        let body = json_of(response).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// A streamed answer, read to its end.
    pub(crate) async fn stream(&self, body: &Value) -> Transcript {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let response = self.chat(&body).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, 200, "{text}");
        Transcript::parse(&text)
    }

    /// Everything that callers' chats have cost upstream so far: chats begun and questions asked.
    pub(crate) fn turns(&self) -> usize {
        let count = |endpoint| self.simulator.record().requests_to(endpoint).len();
        count(Endpoint::NewChat) + count(Endpoint::Completions)
    }

    /// The last question as the upstream got it.
    pub(crate) fn asked(&self) -> Asked {
        let requests = self.simulator.record().requests_to(Endpoint::Completions);
        Asked(requests.last().expect("nothing was asked").body.clone().expect("a body that is no JSON"))
    }

    /// Fails if anything was sent upstream that no honest client sends.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.simulator.record().violations(), Vec::<String>::new());
    }

    /// Asks the server to stop and waits for its end. Gives back what a next server needs.
    pub(crate) async fn stop(mut self) -> (Simulator, TempDir) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(60), &mut self.server.0)
            .await
            .expect("the server did not stop")
            .unwrap();
        (self.simulator, self.state_dir)
    }

    /// Asks the server to stop, without waiting.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }
}

/// A question as the upstream got it.
pub(crate) struct Asked(pub Value);

impl Asked {
    /// The one message.
    pub(crate) fn message(&self) -> &Value {
        &self.0["messages"][0]
    }

    /// The prompt.
    pub(crate) fn prompt(&self) -> &str {
        self.message()["content"].as_str().unwrap()
    }

    /// Whether thinking was asked for, and which way.
    pub(crate) fn thinking(&self) -> (bool, &str) {
        let config = &self.message()["feature_config"];
        (config["thinking_enabled"].as_bool().unwrap(), config["thinking_mode"].as_str().unwrap())
    }

    /// The kind of chat.
    pub(crate) fn chat_type(&self) -> &str {
        self.message()["chat_type"].as_str().unwrap()
    }
}

/// The error of an answer, after a look at its shape.
pub(crate) async fn error_of(response: Response) -> Value {
    assert_eq!(response.headers()["content-type"], "application/json");
    let id = response.headers()["x-request-id"].clone();
    let body = json_of(response).await;
    assert_eq!(body["request_id"], id.to_str().unwrap(), "{body}");
    checked_error(&body)
}

/// The error in a body, which has OpenAI's four keys and no more, beside the id of the request.
pub(crate) fn checked_error(body: &Value) -> Value {
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    assert!(body["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{body}");
    let error = body["error"].as_object().unwrap_or_else(|| panic!("{body}"));
    let mut keys: Vec<_> = error.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["code", "message", "param", "type"], "{body}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert!(error["type"].is_string(), "{body}");
    assert!(error["param"].is_string() || error["param"].is_null(), "{body}");
    assert!(error["code"].is_string() || error["code"].is_null(), "{body}");
    body["error"].clone()
}

/// Lets a test that counts by the day run on one: within the last minute of a day (UTC) it waits for the next one.
pub(crate) async fn on_one_day() {
    let into_day = jiff::Timestamp::now().as_second().rem_euclid(86_400);
    if let Ok(left @ ..=60) = u64::try_from(86_400 - into_day) {
        tokio::time::sleep(Duration::from_secs(left)).await;
    }
}

/// The body of a request with one user message.
pub(crate) fn question(text: &str) -> Value {
    json!({"model": "qwen3-max", "messages": [{"role": "user", "content": text}]})
}

/// The JSON of an answer, with its text in the panic if it is none.
pub(crate) async fn json_of(response: Response) -> Value {
    let text = response.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The text of a whole answer.
pub(crate) fn content(completion: &Value) -> &str {
    completion["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{completion}"))
}

/// A usage to script, whose figures all differ.
pub(crate) const USAGE: UsageScript =
    UsageScript { input_tokens: 41, output_tokens: 17, reasoning_tokens: 5, cached_tokens: 3, image_tokens: 0 };

/// How callers are told of a usage.
pub(crate) fn told(usage: UsageScript) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    })
}

/// A stream as a client sees it.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    pub chunks: Vec<Value>,
    pub comments: usize,
    pub is_done: bool,
}

impl Transcript {
    /// Parses a whole event stream the way strict clients do, and fails where they would.
    pub(crate) fn parse(text: &str) -> Self {
        let mut transcript = Self::default();
        assert!(text.is_empty() || text.ends_with("\n\n"), "the last event has no blank line: {text:?}");
        for event in text.split_terminator("\n\n") {
            if event.starts_with(':') {
                transcript.comments += 1;
                continue;
            }
            assert!(!transcript.is_done, "something follows [DONE]: {event}");
            let data = event.strip_prefix("data: ").unwrap_or_else(|| panic!("not a data line: {event:?}"));
            assert!(data.len() < 64 * 1024, "a line of {} bytes", data.len());
            if data == "[DONE]" {
                transcript.is_done = true;
            } else {
                transcript.chunks.push(serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")));
            }
        }
        transcript
    }

    fn joined(&self, key: &str) -> String {
        self.chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][key].as_str()).collect()
    }

    /// The text.
    pub(crate) fn content(&self) -> String {
        self.joined("content")
    }

    /// The thoughts.
    pub(crate) fn reasoning(&self) -> String {
        self.joined("reasoning_content")
    }

    /// Every `finish_reason` that is not null.
    pub(crate) fn finish_reasons(&self) -> Vec<&str> {
        self.chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect()
    }

    /// The error frame, if there is one.
    pub(crate) fn error(&self) -> Option<&Value> {
        self.chunks.iter().find_map(|chunk| chunk.get("error"))
    }
}

/// Tests own their server by its handle; the ban on bare spawning is for the product.
#[expect(clippy::disallowed_methods, reason = "a test's server is awaited or dropped by its handle")]
pub(crate) fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(task)
}
