//! A stop in order: running answers may finish within the grace, later ones are told, new connections are refused.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{End, Endless, Endpoint, Inserted, ScriptedFailure, ScriptedReply};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::app::{PATIENCE, Setup, TestApp, spawn};
use crate::support::oracle::{Answer, FORMS, Form, ask, crew, judge_numbered};

async fn start(shutdown_timeout: &str) -> TestApp {
    let simulator = Simulator::start(crew(2)).await.unwrap();
    Setup::default().with("SHUTDOWN_TIMEOUT", shutdown_timeout).with("MAX_IN_FLIGHT", "100").start(simulator).await
}

/// Asks, begins to stop when the stream runs, and returns the answer and the moment at which the stop began.
async fn stop_while_asking(app: &TestApp, form: Form) -> (Answer, Instant) {
    let asking = ask(app, form, "x");
    let stopping = async {
        app.simulator.record().wait_until(|request| request.packets_sent >= 5, PATIENCE).await.unwrap();
        let stopped_at = Instant::now();
        app.begin_stop();
        stopped_at
    };
    tokio::join!(asking, stopping)
}

#[tokio::test]
async fn an_answer_that_runs_may_finish() {
    for form in FORMS {
        let app = start("40s").await;
        app.simulator.script().set_default(
            None,
            Endpoint::Completions,
            Some(ScriptedReply::numbered(80).paced(Duration::from_millis(10))),
        );
        let (answer, stopped_at) = stop_while_asking(&app, form).await;
        assert_eq!(judge_numbered(&answer, 80), 80);
        assert_eq!(answer.finish.as_deref(), Some("stop"));
        let (simulator, _) = app.stop().await;
        let took = stopped_at.elapsed();
        assert!(took < Duration::from_secs(30), "it ends with the last answer: {took:?}");
        // The chat of a complete answer may be continued after the next start.
        assert_eq!(simulator.stored().chats(None).iter().filter(|chat| !chat.is_old).count(), 1);
        assert_eq!(simulator.record().violations(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_told() {
    let endless_answer = Inserted::UnknownPhase { phase: "answer".to_owned(), content: "on ".to_owned(), tool: false };
    for reply in [
        ScriptedReply::numbered(2000).paced(Duration::from_millis(10)),
        ScriptedReply::numbered(10).ending(End::Stalled),
        ScriptedReply::numbered(10).ending(End::Endless(Endless { what: endless_answer, every_ms: 0 })),
    ] {
        for form in FORMS {
            let app = start("500ms").await;
            app.simulator.script().set_default(None, Endpoint::Completions, Some(reply.clone()));
            let (answer, stopped_at) = stop_while_asking(&app, form).await;
            let status = if form == Form::Stream { 200 } else { 503 };
            assert_eq!(answer.failure(), (status, "server_error", "shutting_down"), "{}", answer.raw);
            assert!(!answer.is_done);
            assert!(stopped_at.elapsed() >= Duration::from_millis(500), "{:?}", stopped_at.elapsed());
            let (simulator, _) = app.stop().await;
            assert!(stopped_at.elapsed() < Duration::from_secs(15), "{:?}", stopped_at.elapsed());
            assert!(!simulator.record().requests_to(Endpoint::Stop).is_empty(), "the upstream is told to stop");
        }
    }
}

#[tokio::test]
async fn an_answer_that_has_not_begun_is_told_too() {
    for (form, hold) in [(Form::Whole, "10s"), (Form::Stream, "10s"), (Form::Stream, "0")] {
        let simulator = Simulator::start(crew(1)).await.unwrap();
        let app = Setup::default().with("SHUTDOWN_TIMEOUT", "300ms").with("HEADERS_HOLD", hold).start(simulator).await;
        app.simulator.script().set_default(
            None,
            Endpoint::Completions,
            Some(ScriptedReply::failing(ScriptedFailure::Silence)),
        );
        let asking = ask(&app, form, "x");
        let stopping = async {
            app.simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await.unwrap();
            app.begin_stop();
            Instant::now()
        };
        let (answer, stopped_at) = tokio::join!(asking, stopping);
        assert_eq!(answer.code(), "shutting_down", "{form:?} {hold} {}", answer.raw);
        app.stop().await;
        assert!(stopped_at.elapsed() < Duration::from_secs(15), "{:?}", stopped_at.elapsed());
    }
}

/// The last event of a stream: its name and its data.
fn last_event(stream: &str) -> (&str, Value) {
    let (_, last) = stream.trim_end().rsplit_once("\n\n").unwrap();
    let (name, data) = last.split_once('\n').unwrap_or_else(|| panic!("{stream}"));
    let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("{stream}"));
    (name.strip_prefix("event: ").unwrap(), serde_json::from_str(data).unwrap())
}

#[tokio::test]
async fn a_stream_of_another_dialect_is_told_in_its_own_words() {
    let input = json!("x");
    let messages = json!([{"role": "user", "content": "x"}]);
    for (path, wish, name, code) in [
        ("/v1/responses", ("input", &input), "response.failed", "/response/error/code"),
        ("/v1/messages", ("messages", &messages), "error", "/error/type"),
    ] {
        for reply in
            [ScriptedReply::numbered(10).ending(End::Stalled), ScriptedReply::failing(ScriptedFailure::Silence)]
        {
            let simulator = Simulator::start(crew(1)).await.unwrap();
            let setup = Setup::default().with("SHUTDOWN_TIMEOUT", "300ms").with("HEADERS_HOLD", "0");
            let app = setup.start(simulator).await;
            app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
            let body = json!({"model": "qwen3-max", "max_tokens": 100, "stream": true, wish.0: wish.1});
            let asking = async { app.post(path, &body).send().await.unwrap().text().await.unwrap() };
            let stopping = async {
                app.simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await.unwrap();
                app.begin_stop();
            };
            let (stream, ()) = tokio::join!(asking, stopping);
            let (found, data) = last_event(&stream);
            assert_eq!(found, name, "{stream}");
            let code = data.pointer(code).unwrap_or_else(|| panic!("{data}"));
            assert!(["server_error", "overloaded_error"].contains(&code.as_str().unwrap()), "{data}");
            assert!(data.to_string().contains("stopping") || data.to_string().contains("shut"), "{data}");
            app.stop().await;
        }
    }
}

#[tokio::test]
async fn new_connections_are_refused_and_bad_ones_do_not_hold_the_stop() {
    let app = start("600s").await;
    app.simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::numbered(60).paced(Duration::from_millis(10))),
    );
    let mut half = TcpStream::connect(app.address).await.unwrap();
    half.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let mut idle = TcpStream::connect(app.address).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let (answer, stopped_at) = stop_while_asking(&app, Form::Stream).await;
    assert_eq!(judge_numbered(&answer, 60), 60);
    assert!(TcpStream::connect(app.address).await.is_err(), "it listens no more");
    app.stop().await;
    assert!(stopped_at.elapsed() < Duration::from_secs(30), "{:?}", stopped_at.elapsed());
}

#[tokio::test]
async fn many_answers_end_each_in_its_own_way() {
    let app = start("6s").await;
    app.simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::numbered(40).pausing(5, Duration::from_secs(2))),
    );
    for _ in 0..20 {
        app.simulator.script().queue(
            Some("ada"),
            Endpoint::Completions,
            ScriptedReply::numbered(4000).paced(Duration::from_millis(20)),
        );
    }
    let asking = futures_util::future::join_all((0..40).map(|_| ask(&app, Form::Stream, "x")));
    let stopping = async {
        app.simulator.record().wait_for_counts(|counters| counters.open_streams == 40, PATIENCE).await.unwrap();
        app.begin_stop();
    };
    let (answers, ()) = tokio::join!(asking, stopping);
    let (whole, told): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.finish.is_some());
    assert_eq!((whole.len(), told.len()), (20, 20));
    whole.iter().for_each(|answer| assert_eq!(judge_numbered(answer, 40), 40));
    told.iter().for_each(|answer| assert_eq!(answer.failure(), (200, "server_error", "shutting_down")));
    app.stop().await;
}

#[tokio::test]
async fn a_server_with_nothing_to_do_stops_at_once() {
    let app = start("30s").await;
    let begun = Instant::now();
    let stopped = spawn(app.stop());
    stopped.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}
