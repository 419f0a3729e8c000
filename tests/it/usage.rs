//! What callers used: counted for each request that asks a model, by key, model, account and kind.

use std::path::Path;

use qwen_bridge::base::ids::UnixSeconds;
use qwen_bridge::store::{Store, UsageKey, UsageSums, UtcDay};
use reqwest::Response;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Endpoint, Scenario, ScriptedReply};

use crate::support::app::{PATIENCE, Setup, TestApp, USAGE, json_of, on_one_day, question};
use crate::support::oracle::{crew, until};
use crate::support::program::{self, Program};

const ADMIN_KEY: &str = "sk-of-the-owner";

fn setup() -> Setup {
    Setup::default().with("ADMIN_SECRET_KEY", ADMIN_KEY).with("API_KEY", "laptop=sk-laptop,phone=sk-phone")
}

async fn look(app: &TestApp, path: &str) -> Response {
    app.client.get(app.url(path)).bearer_auth(ADMIN_KEY).send().await.unwrap()
}

async fn post(app: &TestApp, key: &str, path: &str, body: &Value) -> Response {
    let request = app.client.post(app.url(path)).bearer_auth(key).header("content-type", "application/json");
    request.body(body.to_string()).send().await.unwrap()
}

/// The usage, once so many requests are counted: a request is counted just after its caller has the last byte.
async fn usage(app: &TestApp, query: &str, requests: u64) -> Value {
    let counted = async {
        loop {
            let usage = json_of(look(app, &format!("/admin/usage{query}")).await).await;
            if usage["total"]["requests"].as_u64().unwrap() >= requests {
                return usage;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("the requests are counted")
}

fn row<'a>(usage: &'a Value, by: &str, name: &str) -> &'a Value {
    usage["rows"].as_array().unwrap().iter().find(|row| row[by] == name).unwrap_or_else(|| panic!("{name}: {usage}"))
}

#[tokio::test]
async fn each_request_is_counted_once_however_it_ends() {
    let app = setup().start(Simulator::start(crew(1)).await.unwrap()).await;
    let reply = ScriptedReply::answer("x").with_stream(|stream| stream.usage = Some(USAGE));
    app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
    // Answered, whole and streamed.
    assert_eq!(post(&app, "sk-laptop", "/v1/chat/completions", &question("echo: x")).await.status(), 200);
    let mut streamed = question("echo: x");
    streamed["stream"] = json!(true);
    post(&app, "sk-laptop", "/v1/chat/completions", &streamed).await.text().await.unwrap();
    // Refused before anything was asked: a wrong body, an unknown model.
    assert_eq!(post(&app, "sk-laptop", "/v1/messages", &json!({"messages": 5})).await.status(), 400);
    let mut unknown = question("echo: x");
    unknown["model"] = json!("=made-up");
    assert_eq!(post(&app, "sk-phone", "/v1/chat/completions", &unknown).await.status(), 404);
    // Failed.
    app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::status(502)));
    assert_eq!(post(&app, "sk-phone", "/v1/chat/completions", &question("echo: x")).await.status(), 502);
    // Not counted: a wrong key, and what asks no model.
    assert_eq!(post(&app, "sk-wrong", "/v1/chat/completions", &question("echo: x")).await.status(), 401);
    assert_eq!(post(&app, "sk-phone", "/v1/messages/count_tokens", &question("echo: x")).await.status(), 200);
    assert_eq!(app.client.get(app.url("/v1/models")).bearer_auth("sk-phone").send().await.unwrap().status(), 200);

    let by_key = usage(&app, "?by=key", 5).await;
    assert_eq!(by_key["total"]["requests"], 5);
    let laptop = row(&by_key, "key", "laptop");
    assert_eq!(laptop["requests"], 3);
    assert_eq!(laptop["prompt_tokens"], 2 * USAGE.input_tokens);
    assert_eq!(laptop["completion_tokens"], 2 * USAGE.output_tokens);
    assert_eq!(laptop["reasoning_tokens"], 2 * USAGE.reasoning_tokens);
    assert_eq!(laptop["cached_tokens"], 2 * USAGE.cached_tokens);
    assert_eq!(laptop["errors"].as_object().unwrap().values().sum_of(), 1, "{laptop}");
    assert!(laptop["total_ms"]["p95"].is_u64() && laptop["first_token_ms"]["p50"].is_u64(), "{laptop}");
    let phone = row(&by_key, "key", "phone");
    assert_eq!((&phone["requests"], &phone["errors"]["model_not_found"]), (&json!(2), &json!(1)), "{phone}");
    assert_eq!(phone["errors"]["upstream_error"], 1, "{phone}");
    let by_account = usage(&app, "?by=account", 5).await;
    assert_eq!(row(&by_account, "account", "identity-1")["requests"], 3);
    assert_eq!(row(&by_account, "account", "(none)")["requests"], 2);
    let by_model = usage(&app, "?by=model", 5).await;
    assert_eq!(row(&by_model, "model", "qwen3-max")["requests"], 3, "{by_model}");
    let by_kind = usage(&app, "?by=kind", 5).await;
    assert_eq!(row(&by_kind, "kind", "web")["requests"], 3);
    let by_day = usage(&app, "", 5).await;
    assert_eq!(by_day["by"], "day");
    assert_eq!(row(&by_day, "day", by_day["to"].as_str().unwrap())["requests"], 5);
    app.assert_clean();

    // After a restart, too, as JSON and as a table.
    let (simulator, state_dir) = app.stop().await;
    let app = setup().in_dir(state_dir).start(simulator).await;
    assert_eq!(usage(&app, "?by=key", 5).await["rows"], by_key["rows"]);
    let table = look(&app, "/admin/usage?by=key&format=csv").await;
    assert_eq!(table.headers()["content-type"], "text/csv; charset=utf-8");
    let table = table.text().await.unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("key,requests,prompt_tokens,"), "{table}");
    assert!(lines.len() == 3 && lines[1].starts_with("laptop,3,"), "{table}");
}

trait SumOf {
    fn sum_of(self) -> u64;
}

impl<'a, I: Iterator<Item = &'a Value>> SumOf for I {
    fn sum_of(self) -> u64 {
        self.filter_map(Value::as_u64).sum()
    }
}

/// The days that have usage, and the requests of each.
async fn days(app: &TestApp) -> Vec<(String, u64)> {
    let usage = json_of(look(app, "/admin/usage?from=2000-01-01&by=day").await).await;
    let rows = usage["rows"].as_array().unwrap().iter();
    rows.map(|row| (row["day"].as_str().unwrap().to_owned(), row["requests"].as_u64().unwrap())).collect()
}

#[tokio::test]
async fn days_that_are_older_than_the_setting_are_deleted() {
    let state_dir = tempfile::tempdir().unwrap();
    let now = UnixSeconds(jiff::Timestamp::now().as_second());
    let ago = |days: i64| now.plus(-86_400 * days);
    let day = |days| UtcDay::of(ago(days)).date();
    let (store, _) = Store::open(state_dir.path()).unwrap();
    for (back, requests) in [(1, 1), (8, 2), (12, 3), (400, 4)] {
        let key = UsageKey {
            day: UtcDay::of(ago(back)),
            key: "laptop".to_owned(),
            model: "qwen3-max".to_owned(),
            account: String::new(),
            kind: "web".to_owned(),
        };
        store.count_usage(key, &UsageSums { requests, ..UsageSums::default() }, ago(back));
    }
    store.close().await;
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let setup = setup().reloading().with("USAGE_DAYS", "10").in_dir(state_dir);
    let app = setup.start(simulator).await;
    // Deleted at the start, just after the server listens.
    let until = async |expected: &[(String, u64)]| {
        let deleted = async {
            while days(&app).await != expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, deleted).await.unwrap_or_else(|_| panic!("never {expected:?}"));
    };
    until(&[(day(8), 2), (day(1), 1)]).await;
    let change = app.client.patch(app.url("/admin/settings")).bearer_auth(ADMIN_KEY);
    let change = change.header("content-type", "application/json").body("{\"USAGE_DAYS\": 3}");
    assert_eq!(change.send().await.unwrap().status(), 200);
    until(&[(day(1), 1)]).await;
    let (_, state_dir) = app.stop().await;
    let state = rusqlite::Connection::open(state_dir.path().join("state.db")).unwrap();
    let left: i64 = state.query_row("SELECT count(*) FROM usage", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1, "they are not only hidden");
}

/// Requests that are counted in the state file, which another process may be writing.
fn requests_on_disk(state_dir: &Path) -> u64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let state = rusqlite::Connection::open_with_flags(state_dir.join("state.db"), flags).unwrap();
    let sum = state.query_row("SELECT coalesce(sum(requests), 0) FROM usage", [], |row| row.get::<_, i64>(0));
    sum.unwrap_or(0).unsigned_abs()
}

#[tokio::test]
async fn a_kill_loses_no_usage_but_that_of_the_last_moment() {
    let simulator = Simulator::start(crew(1).paced_ms(0)).await.unwrap();
    let state_dir = tempfile::tempdir().unwrap();
    let mut settings = program::settings(&simulator, "json");
    settings.push(("STATE_DIR", state_dir.path().display().to_string()));
    let server = Program::start(&["serve"], &settings);
    let address = server.address_beside("listening").await;
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    for _ in 0..5 {
        let request = client.post(format!("http://{address}/v1/chat/completions")).bearer_auth(program::KEY);
        let request = request.header("content-type", "application/json").body(question("echo: x").to_string());
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    // The server writes them down by itself, and not only when it stops.
    until("the requests to be written down", || requests_on_disk(state_dir.path()) == 5).await;
    server.signal("KILL");
    drop(server);
    let setup = Setup::default().with("ADMIN_SECRET_KEY", ADMIN_KEY).in_dir(state_dir);
    let app = setup.start(simulator).await;
    assert_eq!(usage(&app, "", 5).await["total"]["requests"], 5);
    app.ask("echo: x").await;
    assert_eq!(usage(&app, "", 6).await["total"]["requests"], 6, "and counts on");
}

#[tokio::test]
async fn a_stream_that_its_caller_leaves_is_counted() {
    let scenario = Scenario::default().paced_ms(50);
    let app = setup().start(Simulator::start(scenario).await.unwrap()).await;
    let mut body = question("echo: one two three four five six seven eight nine ten");
    body["stream"] = json!(true);
    let mut answer = post(&app, "sk-laptop", "/v1/chat/completions", &body).await;
    answer.chunk().await.unwrap().unwrap();
    drop(answer);
    let usage = usage(&app, "?by=key", 1).await;
    assert_eq!(row(&usage, "key", "laptop")["errors"], json!({"caller_left": 1}), "{usage}");
}

#[tokio::test]
async fn a_request_beyond_the_rate_is_counted_with_keys_and_without() {
    for has_keys in [true, false] {
        let setup = setup().with("RATE_LIMIT_RPS", "0.001").with("RATE_LIMIT_BURST", "1");
        let setup = if has_keys { setup } else { setup.with("API_KEY", "") };
        let app = setup.start(Simulator::start(crew(1)).await.unwrap()).await;
        for (path, status) in [("/v1/chat/completions", 200), ("/v1/chat/completions", 429), ("/v1/messages", 429)] {
            assert_eq!(post(&app, "sk-laptop", path, &question("echo: x")).await.status(), status, "{path}");
        }
        // What asks no model is not counted, refused or not; nor is a wrong key.
        assert_eq!(post(&app, "sk-laptop", "/v1/messages/count_tokens", &question("x")).await.status(), 429);
        if has_keys {
            assert_eq!(post(&app, "sk-wrong", "/v1/chat/completions", &question("x")).await.status(), 401);
        }
        // Only a further answer shows that everything before it was counted.
        let by_key = usage(&app, "?by=key", 3).await;
        let name = if has_keys { "laptop" } else { "(none)" };
        let counted = row(&by_key, "key", name);
        assert_eq!((&counted["requests"], &counted["errors"]), (&json!(3), &json!({"rate_limit_exceeded": 2})));
        assert_eq!(by_key["total"]["requests"], 3, "{by_key}");
    }
}

#[tokio::test]
async fn nonsense_and_strangers_are_refused() {
    let app = setup().start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await;
    for query in [
        "by=hour",
        "by=",
        "from=tomorrow",
        "from=2026-13-01",
        "to=2026-02-30",
        "format=xml",
        "from=2026-02-02&to=2026-02-01",
        "by=day&by=key",
        "until=2026-01-01",
        "from=20260101",
        "from=",
    ] {
        let answer = look(&app, &format!("/admin/usage?{query}")).await;
        assert_eq!(answer.status(), 400, "{query}");
        let body = json_of(answer).await;
        assert!(body["error"]["message"].is_string() && body["request_id"].is_string(), "{query}: {body}");
    }
    for path in ["/admin/usage", "/admin/keys"] {
        let stranger = app.client.get(app.url(path)).bearer_auth("sk-laptop").send().await.unwrap();
        assert_eq!(stranger.status(), 401, "{path}: a caller is not the owner");
    }
    let empty = json_of(look(&app, "/admin/usage?from=2020-01-01&to=2020-01-31").await).await;
    assert_eq!((&empty["rows"], &empty["total"]["requests"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn a_key_is_refused_beyond_its_requests_and_tokens_of_a_day() {
    on_one_day().await;
    let limits = "laptop:requests=2/day;phone:tokens=10/day";
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = setup().with("KEY_LIMITS", limits).start(simulator).await;
    let ask =
        async |app: &TestApp, key: &str| post(app, key, "/v1/chat/completions", &question("echo: some words")).await;
    let refused = async |answer: Response, what: &str| {
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["x-should-retry"], "false");
        let wait: i64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        let now = jiff::Timestamp::now().as_second();
        // The wait is rounded up, and a moment has passed since.
        assert!((now + wait) % 86_400 < 30 && wait <= 86_400, "{wait} s do not end at midnight UTC");
        let error = json_of(answer).await["error"].clone();
        assert_eq!((&error["code"], &error["type"]), (&json!("key_limit_reached"), &json!("insufficient_quota")));
        let message = error["message"].as_str().unwrap().to_owned();
        assert!(message.contains(what) && message.contains("midnight UTC"), "{message}");
    };
    assert_eq!(ask(&app, "sk-laptop").await.status(), 200);
    assert_eq!(post(&app, "sk-laptop", "/v1/messages/count_tokens", &question("echo: x")).await.status(), 200);
    assert_eq!(post(&app, "sk-laptop", "/v1/responses", &json!({"input": "echo: x"})).await.status(), 200);
    refused(ask(&app, "sk-laptop").await, "'laptop' has used its 2 requests of today").await;
    refused(post(&app, "sk-laptop", "/v1/images/generations", &json!({"prompt": "x"})).await, "2 requests").await;
    assert_eq!(app.client.get(app.url("/v1/models")).bearer_auth("sk-laptop").send().await.unwrap().status(), 200);
    // The answer that passes the limit is whole; the next one is refused.
    assert_eq!(ask(&app, "sk-phone").await.status(), 200);
    usage(&app, "", 5).await;
    refused(ask(&app, "sk-phone").await, "'phone' has used its 10 tokens of today").await;
    let counted = usage(&app, "?by=key", 6).await;
    assert_eq!(row(&counted, "key", "laptop")["errors"]["key_limit_reached"], 2);
    let keys = json_of(look(&app, "/admin/keys").await).await;
    let laptop = &keys["keys"][0];
    assert_eq!((&laptop["name"], &laptop["origin"]), (&json!("laptop"), &json!("file")));
    assert_eq!(laptop["limits"], json!({"requests_per_day": 2, "tokens_per_day": null, "models": []}));
    assert_eq!(laptop["used_today"]["requests"], 2);
    assert!(laptop["last_used_at"].is_i64(), "{keys}");
    assert!(!keys.to_string().contains("sk-laptop"), "{keys}");
    // A restart gives nothing back.
    let (simulator, state_dir) = app.stop().await;
    let app = setup().with("KEY_LIMITS", limits).in_dir(state_dir).start(simulator).await;
    refused(ask(&app, "sk-laptop").await, "2 requests").await;
    refused(ask(&app, "sk-phone").await, "10 tokens").await;
}
