//! The commands of the real program as a child process: how they begin, what they print and how they end.

use std::time::{Duration, Instant};

use serde_json::json;
use simulator::script::{Endpoint, ScriptedReply};

use crate::support::app::PATIENCE;
use crate::support::leaks::{Caller, simulator};
use crate::support::program::{KEY, Program, settings};

#[tokio::test]
async fn a_second_signal_ends_the_program_at_once() {
    let simulator = simulator().await;
    simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::numbered(5000).paced(Duration::from_millis(10))),
    );
    let mut program = Program::start(&["serve"], &settings(&simulator, "json"));
    let address = program.address_beside("listening").await;
    let asking = crate::support::app::spawn(async move {
        let mut caller = Caller::new(address, KEY);
        let body = json!({"model": "qwen3-max", "stream": true, "messages": [{"role": "user", "content": "x"}]});
        let request = caller.client.post(format!("http://{address}/v1/chat/completions")).bearer_auth(KEY);
        let _ = request
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap()
            .text()
            .await;
        caller.answers.clear();
    });
    simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await.unwrap();
    program.signal("TERM");
    program.until_it_says("asked to stop").await;
    assert!(program.is_running(), "it waits for the answer");
    program.signal("TERM");
    let begun = Instant::now();
    assert_eq!(program.code().await, 143);
    // The answer would go on for 50 seconds, the drain waits 30.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    asking.abort();
}

#[tokio::test]
async fn a_drain_that_takes_too_long_ends_in_time_with_code_0() {
    let simulator = simulator().await;
    simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::numbered(5000).paced(Duration::from_millis(10))),
    );
    let mut settings = settings(&simulator, "text");
    settings.push(("SHUTDOWN_TIMEOUT", "1s".to_owned()));
    let mut program = Program::start(&[], &settings);
    let address = program.address_beside("listening").await;
    let asking = crate::support::app::spawn(async move {
        let mut caller = Caller::new(address, KEY);
        caller.ask("x", true).await;
        caller.answers.remove(0)
    });
    simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await.unwrap();
    program.signal("TERM");
    let begun = Instant::now();
    assert_eq!(program.code().await, 0);
    // The answer would go on for 50 seconds.
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    let answer = asking.await.unwrap();
    assert!(answer.contains("shutting_down") && !answer.contains("[DONE]"), "{answer}");
}

#[tokio::test]
async fn healthcheck_asks_the_running_server() {
    let simulator = simulator().await;
    let mut settings = settings(&simulator, "text");
    let server = Program::start(&["serve"], &settings);
    let port = server.address_beside("listening").await.port().to_string();
    let mut good = Program::start(&["healthcheck", "--port", &port], &[]);
    assert_eq!(good.code().await, 0);
    settings.retain(|(name, _)| *name != "SERVER_PORT");
    settings.push(("SERVER_PORT", port));
    let mut same = Program::start(&["healthcheck"], &settings);
    assert_eq!(same.code().await, 0, "the server's own settings will do");
    drop(server);
    let mut bad = Program::start(&["healthcheck"], &settings);
    assert_eq!(bad.code().await, 1);
}

#[tokio::test]
async fn the_simulator_runs_alone_and_plays_a_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.json");
    std::fs::write(&file, r#"{"accounts":[{"name":"zoe"}],"replies":{"models":[{"fail":{"status":{"code":503}}}]}}"#)
        .unwrap();
    let mut program = Program::start(&["simulate", "--port", "0", "--scenario", file.to_str().unwrap()], &[]);
    let address = program.address_beside("QWEN_WEB_BASE_URL").await;
    program.until_it_says("zoe: ").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for expected in [503, 200] {
        let response = client.get(format!("http://{address}/api/models")).send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected);
    }
    program.signal("TERM");
    assert_eq!(program.code().await, 0);
    std::fs::write(&file, r#"{"acounts":[]}"#).unwrap();
    let mut program = Program::start(&["simulate", "--scenario", file.to_str().unwrap()], &[]);
    assert_ne!(program.code().await, 0);
    assert!(program.stderr().contains("acounts"), "{}", program.stderr());
}

#[tokio::test]
async fn a_health_check_that_fails_says_why() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut program = Program::start(&["healthcheck"], &[("SERVER_PORT", unused.port().to_string())]);
    assert_eq!(program.code().await, 1);
    let said = program.stderr();
    assert!(said.contains(&format!("http://{unused}/health")) && said.contains("refused"), "{said}");

    let simulator = simulator().await;
    let port = simulator.urls().web.port().unwrap();
    let mut program = Program::start(&["healthcheck"], &[("SERVER_PORT", port.to_string())]);
    assert_eq!(program.code().await, 1);
    assert!(program.stderr().contains("40"), "{}", program.stderr());
}
