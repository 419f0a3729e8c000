//! What the log tells of a request in debug mode, and of what callers ask when the owner wants that.

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Endpoint, Scenario, ScriptedReply};

use crate::support::app::question;
use crate::support::files::{image_part, with_parts};
use crate::support::program::{KEY, Program, settings};
use crate::support::raw::Raw;

async fn started(more: &[(&'static str, &str)]) -> (Simulator, Program) {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let mut settings = settings(&simulator, "json");
    settings.push(("QWEN_OSS_BASE_URL", simulator.urls().storage.to_string()));
    settings.retain(|(name, _)| *name != "LOG_LEVEL");
    settings.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let program = Program::start(&["serve"], &settings);
    (simulator, program)
}

async fn ask(program: &Program, path: &str, body: &Value) -> u16 {
    let address = program.address_beside("listening").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("http://{address}{path}")).bearer_auth(KEY).body(body.to_string());
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    response.text().await.unwrap();
    status
}

/// The lines of the log with this message.
fn lines(program: &Program, message: &str) -> Vec<Value> {
    let log = program.stderr();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"] == message).collect()
}

#[tokio::test]
async fn debug_mode_shows_each_call_with_its_end() {
    let (simulator, program) = started(&[("DEBUG_MODE", "true")]).await;
    simulator.script().queue(None, Endpoint::Completions, ScriptedReply::status(503));
    assert_eq!(
        ask(&program, "/v1/chat/completions", &with_parts("qwen3-vl-plus", "echo: x", vec![image_part(1)])).await,
        200
    );
    let calls = lines(&program, "upstream called");
    let has = |name: &str, method: &str, path: &str, status: u64| {
        calls.iter().any(|call| {
            (&call["upstream.name"], &call["http.method"], &call["http.path"], &call["http.status"])
                == (&json!(name), &json!(method), &json!(path), &json!(status))
                && call["duration_ms"].is_u64()
        })
    };
    for (name, method, path, status) in [
        ("web", "POST", "/api/v2/chats/new", 200),
        ("web", "POST", "/api/v2/files/getstsToken", 200),
        ("storage", "PUT", "/{object}", 200),
        ("web", "POST", "/api/v2/chat/completions", 503),
        ("web", "POST", "/api/v2/chat/completions", 200),
    ] {
        assert!(has(name, method, path, status), "{method} {path} {status}: {calls:?}");
    }
    let [retry] = lines(&program, "attempt failed").try_into().unwrap();
    assert!(retry["reason"].is_string() && retry["next"].is_string(), "{retry}");
    let handed_over = lines(&program, "file handed over");
    assert!(
        !handed_over.is_empty() && handed_over.iter().all(|line| line["file.kind"] == "picture"),
        "{handed_over:?}"
    );
    assert_eq!(lines(&program, "state written"), Vec::<Value>::new());
    assert!(!program.stderr().contains("chat_id="), "no query is in the log");
}

// S003-74
#[tokio::test]
async fn questions_are_logged_only_when_the_owner_says_so() {
    let long = format!("CANARY-QUESTION {}", "word ".repeat(100));
    let requests = [
        ("/v1/chat/completions", question(&long)),
        (
            "/v1/chat/completions",
            json!({"model": "qwen3-max", "messages": [
                {"role": "user", "content": "CANARY-OLDER"}, {"role": "assistant", "content": "Yes."},
                {"role": "user", "content": [{"type": "text", "text": "CANARY-QUESTION\nnewest"}]},
            ]}),
        ),
        (
            "/v1/messages",
            json!({"model": "qwen3-max", "max_tokens": 50, "messages": [{"role": "user", "content": "CANARY-QUESTION"}]}),
        ),
        ("/v1/responses", json!({"model": "qwen3-max", "input": "CANARY-QUESTION"})),
        ("/v1/completions", json!({"model": "qwen3-max", "prompt": "CANARY-QUESTION"})),
        ("/v1/images/generations", json!({"model": "qwen3-max", "prompt": "CANARY-QUESTION"})),
    ];
    for (more, is_logged) in [(&[("LOG_PROMPTS", "true")][..], true), (&[("DEBUG_MODE", "true")], false)] {
        let (_simulator, program) = started(more).await;
        for (path, body) in &requests {
            assert_eq!(ask(&program, path, body).await, 200, "{path}");
        }
        let questions = lines(&program, "question");
        if is_logged {
            assert_eq!(questions.len(), requests.len(), "{questions:?}");
            let shown = |place: usize| questions[place]["prompt"].as_str().unwrap().chars().count();
            assert!(shown(0) == 200 && questions.iter().all(|line| line["request.id"].is_string()), "{questions:?}");
            assert_eq!(questions[1]["prompt"], "CANARY-QUESTION newest");
            program.until_it_says("LOG_PROMPTS is true").await;
        } else {
            assert!(!program.stderr().contains("CANARY"), "{}", program.stderr());
        }
    }
}

#[tokio::test]
async fn a_long_method_is_cut_in_the_answer_and_in_the_log() {
    let (_simulator, program) = started(&[]).await;
    let address = program.address_beside("listening").await;
    let method = "M".repeat(4000);
    let mut client = Raw::connect(address).await;
    let head = format!(
        "{method} /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\
         content-length: 0\r\n\r\n"
    );
    client.send(head).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 405);
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("MMMM") && message.len() < 200, "{message}");
    program.until_it_says("\"request\"").await;
    assert!(!program.stderr().contains(&"M".repeat(21)), "{}", program.stderr());
}
