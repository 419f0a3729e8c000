//! Callers that leave: the upstream's work ends, what was begun is cleaned up, and no identity is blamed.

use std::time::{Duration, Instant};

use serde_json::json;
use simulator::Simulator;
use simulator::script::{End, Endpoint, ScriptedFailure, ScriptedReply};

use crate::support::app::{PATIENCE, Setup, TestApp, question, spawn};
use crate::support::oracle::{FORMS, Form, ask, asked_accounts, counts, crew, until};

/// Soon after a caller has left: far from every timeout, and enough for a busy machine.
const SOON: Duration = Duration::from_secs(5);

async fn start() -> TestApp {
    Setup::default()
        .with("DEGRADE_AFTER", "1")
        .with("MAX_IN_FLIGHT", "1")
        .with("QUEUE_MAX", "0")
        .start(Simulator::start(crew(1)).await.unwrap())
        .await
}

/// Asks, leaves as soon as `is_time` is true for a request to the upstream, and returns that moment.
async fn leave_when(app: &TestApp, form: Form, is_time: impl FnMut(&simulator::RecordedRequest) -> bool) -> Instant {
    let mut body = question("a long story");
    body["stream"] = json!(form == Form::Stream);
    let request = app.post("/v1/chat/completions", &body);
    let asking = spawn(async move {
        if let Ok(response) = request.send().await {
            let _ = response.text().await;
        }
    });
    app.simulator.record().wait_until(is_time, PATIENCE).await.expect("the moment to leave");
    asking.abort();
    let _ = asking.await;
    Instant::now()
}

/// Checks that the completion was closed in time, its answer stopped, its chat deleted and no identity blamed.
async fn must_be_cleaned_up(app: &TestApp, left_at: Instant, case: &str) {
    let closed = app
        .simulator
        .record()
        .wait_until(|request| request.endpoint == Some(Endpoint::Completions) && request.ended.is_some(), PATIENCE)
        .await
        .unwrap();
    let ended_at = closed.ended.unwrap().at;
    assert!(ended_at.saturating_duration_since(left_at) <= SOON, "{case}: {:?}", ended_at - left_at);
    let stop = app.simulator.record().wait_until(|request| request.endpoint == Some(Endpoint::Stop), PATIENCE).await;
    let stop = stop.unwrap_or_else(|| panic!("no stop call: {case}"));
    assert!(stop.received_at.saturating_duration_since(left_at) <= SOON, "{case}");
    let asked = closed.body.unwrap();
    assert_eq!(stop.body.unwrap()["chat_id"], asked["chat_id"], "{case}");
    assert_eq!(counts(app).await, (1, 0, 0), "{case}");
    until("the chat to be deleted", || app.simulator.stored().chats(None).iter().all(|chat| chat.is_old)).await;
    // The place is free again: with one place and no queue the next one is served.
    app.simulator.script().set_default(None, Endpoint::Completions, None);
    ask(app, Form::Whole, "echo: next").await.must_say("next");
    assert_eq!(app.simulator.record().violations(), Vec::<String>::new(), "{case}");
}

#[tokio::test]
async fn leaving_before_the_first_event() {
    for form in FORMS {
        let app = start().await;
        let silent = ScriptedReply::default().with_stream(|stream| stream.first_event_ms = 60_000);
        app.simulator.script().set_default(None, Endpoint::Completions, Some(silent));
        let left_at = leave_when(&app, form, |request| {
            request.endpoint == Some(Endpoint::Completions) && request.status.is_some()
        })
        .await;
        must_be_cleaned_up(&app, left_at, &format!("{form:?}")).await;
    }
}

#[tokio::test]
async fn leaving_before_the_head_of_the_answer() {
    for form in FORMS {
        let app = start().await;
        let slow = ScriptedReply::default().delayed(Duration::from_secs(60));
        app.simulator.script().set_default(None, Endpoint::Completions, Some(slow));
        let left_at = leave_when(&app, form, |request| request.endpoint == Some(Endpoint::Completions)).await;
        must_be_cleaned_up(&app, left_at, &format!("{form:?}")).await;
    }
}

#[tokio::test]
async fn leaving_when_the_headers_are_out_and_nothing_else() {
    let app = Setup::default()
        .with("HEADERS_HOLD", "0")
        .with("DEGRADE_AFTER", "1")
        .start(Simulator::start(crew(1)).await.unwrap())
        .await;
    app.simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::failing(ScriptedFailure::Silence)),
    );
    let left_at = leave_when(&app, Form::Stream, |request| {
        request.endpoint == Some(Endpoint::Completions) && request.status.is_some()
    })
    .await;
    must_be_cleaned_up(&app, left_at, "hold 0").await;
}

#[tokio::test]
async fn leaving_in_the_middle() {
    for form in FORMS {
        for reply in [
            ScriptedReply::numbered(2000).paced(Duration::from_millis(5)),
            ScriptedReply::numbered(20).ending(End::Stalled),
        ] {
            let app = start().await;
            app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
            let left_at = leave_when(&app, form, |request| request.packets_sent >= 12).await;
            must_be_cleaned_up(&app, left_at, &format!("{form:?}")).await;
        }
    }
}

#[tokio::test]
async fn the_stop_call_names_the_answer() {
    let app = start().await;
    app.simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::numbered(2000).paced(Duration::from_millis(5))),
    );
    leave_when(&app, Form::Stream, |request| request.packets_sent >= 12).await;
    let stop =
        app.simulator.record().wait_until(|request| request.endpoint == Some(Endpoint::Stop), PATIENCE).await.unwrap();
    let asked = app.simulator.record().requests_to(Endpoint::Completions).remove(0);
    assert_eq!(stop.body.unwrap()["response_id"].as_str(), asked.response_id.as_deref());
}

#[tokio::test]
async fn leaving_while_the_chat_is_made_leaves_no_chat_behind() {
    for form in FORMS {
        let app = start().await;
        app.simulator.script().queue(
            None,
            Endpoint::NewChat,
            ScriptedReply::default().delayed(Duration::from_millis(700)),
        );
        leave_when(&app, form, |request| request.endpoint == Some(Endpoint::NewChat)).await;
        // The place is free while the call goes on: only its answer can tell which chat has to be deleted.
        ask(&app, Form::Whole, "echo: next").await.must_say("next");
        let made = app
            .simulator
            .record()
            .wait_until(
                |request| request.endpoint == Some(Endpoint::NewChat) && request.number < 4 && request.ended.is_some(),
                PATIENCE,
            )
            .await
            .unwrap();
        assert_eq!(made.client_closed_at(), None, "the call was cut off, and the upstream may have made the chat");
        // The chat of the other answer is kept, to be continued.
        until("the chat to be deleted", || app.simulator.record().counts().deletes == 1).await;
        let chats = app.simulator.stored().chats(None).into_iter().filter(|chat| !chat.is_old);
        assert_eq!(chats.map(|chat| chat.messages.len()).collect::<Vec<_>>(), [2]);
        assert_eq!(asked_accounts(&app.simulator).len(), 1, "nothing is asked in it");
        assert_eq!(counts(&app).await, (1, 0, 0));
    }
}

#[tokio::test]
async fn leaving_the_queue() {
    let app = Setup::default()
        .with("MAX_IN_FLIGHT", "1")
        .with("QUEUE_MAX", "1")
        .start(Simulator::start(crew(1)).await.unwrap())
        .await;
    app.simulator.script().queue(
        None,
        Endpoint::Completions,
        ScriptedReply::numbered(200).paced(Duration::from_millis(15)),
    );
    let first = ask(&app, Form::Stream, "x");
    let others = async {
        app.simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await.unwrap();
        for _ in 0..5 {
            let request = app.post("/v1/chat/completions", &question("x"));
            let waiting = tokio::time::timeout(Duration::from_millis(50), request.send()).await;
            assert!(waiting.is_err(), "the only place in the queue is free again");
        }
    };
    let (first, ()) = tokio::join!(first, others);
    assert_eq!(crate::support::oracle::judge_numbered(&first, 200), 200);
    assert_eq!(asked_accounts(&app.simulator).len(), 1);
}
