//! What each account did on each day: counted for callers' requests, and kept over a restart.

use std::path::Path;

use qwen_bridge::base::ids::{CredentialKey, UnixSeconds};
use qwen_bridge::base::secret::{Cookie, UpstreamKey};
use qwen_bridge::base::seed::StaticKey;
use qwen_bridge::store::{Spent, Store, UtcDay};
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Endpoint, Scenario, ScriptedReply, UsageScript};

use crate::support::app::{Setup, USAGE, json_of, question};
use crate::support::oracle::crew;

/// What the state file of a server that has stopped says of an account for today.
fn kept(state_dir: &Path, key: &CredentialKey) -> Spent {
    let (store, _) = Store::open(state_dir).unwrap();
    let days = store.days(key);
    let today = UtcDay::of(UnixSeconds(jiff::Timestamp::now().as_second()));
    assert!(days.iter().all(|day| day.day.begin().0 >= today.begin().0 - 86_400), "{days:?}");
    // Midnight may pass while a test runs.
    days.iter().fold(Spent::default(), |sum, day| sum.plus(day.spent))
}

fn web_key(simulator: &Simulator, account: &str) -> CredentialKey {
    Cookie::parse(&simulator.accounts().cookie(account)).unwrap().key()
}

/// What callers were told, as one answered request.
fn told(usage: &Value) -> Spent {
    let count = |at: &str| usage.pointer(at).and_then(Value::as_u64).unwrap_or(0);
    let cached = count("/prompt_tokens_details/cached_tokens");
    Spent { requests: 1, prompt: count("/prompt_tokens"), completion: count("/completion_tokens"), cached }
}

#[tokio::test]
async fn s000_06_counts_of_each_account_survive_a_restart() {
    let mut app = Setup::default().start(Simulator::start(crew(2)).await.unwrap()).await;
    let reply = ScriptedReply::answer("x").with_stream(|stream| stream.usage = Some(USAGE));
    app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
    let mut sum = [Spent::default(); 2];
    for run in 0..2 {
        for turn in 0..4 {
            let usage = if turn < 2 {
                app.ask("echo: some words").await["usage"].clone()
            } else {
                let mut body = question("echo: more words");
                body["stream_options"] = json!({"include_usage": true});
                app.stream(&body).await.chunks.last().unwrap()["usage"].clone()
            };
            let spent = told(&usage);
            assert_eq!((spent.prompt, spent.completion), (USAGE.input_tokens, USAGE.output_tokens), "{usage}");
            // Round robin, from the first on after a restart.
            sum[turn % 2] = sum[turn % 2].plus(spent);
        }
        let (simulator, state_dir) = app.stop().await;
        for (account, sum) in ["ada", "bob"].into_iter().zip(sum) {
            assert_eq!(kept(state_dir.path(), &web_key(&simulator, account)), sum, "{account} in run {run}");
        }
        app = Setup::default().in_dir(state_dir).start(simulator).await;
    }
}

#[tokio::test]
async fn s000_06_an_attempt_that_failed_is_charged_to_nobody() {
    let app = Setup::default().start(Simulator::start(crew(2)).await.unwrap()).await;
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::status(502));
    let usage = app.ask("echo: x").await["usage"].clone();
    let (simulator, state_dir) = app.stop().await;
    assert_eq!(kept(state_dir.path(), &web_key(&simulator, "ada")), Spent::default());
    assert_eq!(kept(state_dir.path(), &web_key(&simulator, "bob")), told(&usage));
}

#[tokio::test]
async fn s000_06_keys_are_counted_too_and_callers_own_credentials_are_not() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let name = simulator.keys().names().remove(0);
    let key = simulator.keys().secret(&name);
    let setup = Setup::default().with("QWEN_API_KEYS", &format!("{key}@{}", simulator.urls().keys));
    let app = setup.start(simulator).await;
    let mut body = question("echo: x");
    body["model"] = json!("key/qwen3.7-plus");
    let usage = json_of(app.chat(&body).await).await["usage"].clone();
    // Without asking for it, a stream's usage is counted all the same.
    app.stream(&body).await;
    let (simulator, state_dir) = app.stop().await;
    let static_key = StaticKey { key: UpstreamKey::parse(&key).unwrap(), base: simulator.urls().keys };
    let counted = kept(state_dir.path(), &static_key.credential());
    assert_eq!(counted, told(&usage).plus(told(&usage)));

    let app = Setup::default().with("SERVER_MODE", "false").without("API_KEY").start(simulator).await;
    let account = app.simulator.accounts().names().remove(0);
    let credential =
        format!("{};{}", app.simulator.accounts().bearer(&account), app.simulator.accounts().cookie(&account));
    let request = app.client.post(app.url("/v1/chat/completions")).bearer_auth(credential);
    let request = request.header("content-type", "application/json").body(question("echo: x").to_string());
    assert_eq!(request.send().await.unwrap().status(), 200);
    let (_, state_dir) = app.stop().await;
    let file = rusqlite::Connection::open(state_dir.path().join("state.db")).unwrap();
    let rows: i64 = file.query_row("SELECT count(*) FROM days", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn estimated_counts_are_named_so() {
    let messages = json!([{"role": "user", "content": "echo: one two"}]);
    for (path, wish) in [
        ("/v1/chat/completions", json!({"messages": messages})),
        ("/v1/responses", json!({"input": "echo: one two"})),
        ("/v1/messages", json!({"messages": messages, "max_tokens": 100})),
        ("/v1/completions", json!({"prompt": "echo: one two"})),
    ] {
        let none =
            UsageScript { input_tokens: 0, output_tokens: 0, reasoning_tokens: 0, cached_tokens: 0, image_tokens: 0 };
        let partly = UsageScript { input_tokens: 7, ..none };
        for (usage, is_estimated) in [(USAGE, false), (none, true), (partly, true)] {
            let app = Setup::default().start(Simulator::start(crew(1)).await.unwrap()).await;
            let reply = ScriptedReply::answer("one two").with_stream(|stream| stream.usage = Some(usage));
            app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
            let mut body = wish.clone();
            body["model"] = json!("qwen3-max");
            let response = app.post(path, &body).send().await.unwrap();
            let named = response.headers().get("x-bridge-usage").map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(named.as_deref(), is_estimated.then_some("estimated"), "{path} {usage:?}");
            assert_eq!(response.status(), 200);
        }
        // An answer that is cut here is counted here.
        let app = Setup::default().start(Simulator::start(crew(1)).await.unwrap()).await;
        let mut body = wish.clone();
        body["model"] = json!("qwen3-max");
        body[if path == "/v1/responses" { "max_output_tokens" } else { "max_tokens" }] = json!(1);
        let response = app.post(path, &body).send().await.unwrap();
        assert_eq!(response.headers()["x-bridge-usage"], "estimated", "{path}");
    }
}
