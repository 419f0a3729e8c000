//! When the upstream wants a human: the identity is parked, hardly anything is sent, and nothing is passed on.

use std::time::Duration;

use serde_json::json;
use simulator::Simulator;
use simulator::script::{AccountScript, ChallengeForm, Endpoint, Era, Scenario, ScriptedReply};

use crate::support::app::{PATIENCE, Setup, TestApp, json_of};
use crate::support::oracle::{FORMS, Form, ask, asked_accounts, counts, crew, health, until};

const FACES: [(ChallengeForm, u16); 5] = [
    (ChallengeForm::Json, 200),
    (ChallengeForm::Json, 403),
    (ChallengeForm::Html, 200),
    (ChallengeForm::Html, 403),
    (ChallengeForm::Html, 405),
];

async fn start(count: usize) -> TestApp {
    Setup::default().start(Simulator::start(crew(count)).await.unwrap()).await
}

#[tokio::test]
async fn a_challenged_identity_is_parked_and_another_one_answers() {
    for (form_of_challenge, status) in FACES {
        for endpoint in [Endpoint::NewChat, Endpoint::Completions] {
            for form in FORMS {
                let app = start(3).await;
                app.simulator.script().queue(
                    Some("ada"),
                    endpoint,
                    ScriptedReply::challenge(form_of_challenge, status),
                );
                ask(&app, form, "echo: x").await.must_say("x");
                assert_eq!(counts(&app).await, (2, 0, 1), "{form_of_challenge:?} {status} {endpoint:?}");
                for _ in 0..4 {
                    ask(&app, form, "echo: x").await.must_say("x");
                }
                let chats = app.simulator.record().requests_to(Endpoint::NewChat);
                let ada = chats.iter().filter(|request| request.is("ada", Endpoint::NewChat)).count();
                assert_eq!(ada, 1, "she is left alone");
                assert_eq!(app.simulator.record().violations(), Vec::<String>::new());
            }
        }
    }
}

#[tokio::test]
async fn two_challenged_identities_pause_everything() {
    for (form_of_challenge, status) in FACES {
        for endpoint in [Endpoint::NewChat, Endpoint::Completions] {
            for form in FORMS {
                let app = start(4).await;
                app.simulator.script().set_default(
                    None,
                    endpoint,
                    Some(ScriptedReply::challenge(form_of_challenge, status)),
                );
                let answer = ask(&app, form, "x").await;
                let case = format!("{form_of_challenge:?} {status} {endpoint:?} {form:?}");
                assert_eq!(answer.failure(), (503, "server_error", "upstream_challenge"), "{case}");
                assert!(answer.raw.contains("chat.qwen.ai"), "says what to do: {}", answer.raw);
                assert_eq!(app.simulator.record().requests_to(endpoint).len(), 2, "{case}");
                // Nothing at all is sent now, not even for those who were not challenged.
                for _ in 0..5 {
                    let refused = ask(&app, form, "x").await;
                    assert_eq!(refused.failure(), (503, "server_error", "upstream_challenge"), "{case}");
                    assert!(refused.retry_after().is_some_and(|seconds| (1..=61).contains(&seconds)), "{case}");
                }
                assert_eq!(app.simulator.record().requests_to(endpoint).len(), 2, "{case}");
                assert_eq!(health(&app).await["upstream"]["paused"], true, "{case}");
                assert_eq!(counts(&app).await, (2, 0, 2), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_challenge_under_a_streams_content_type_is_one_too() {
    for (form_of_challenge, status) in [(ChallengeForm::Json, 200), (ChallengeForm::Html, 200)] {
        for form in FORMS {
            let app = start(2).await;
            let reply = ScriptedReply::challenge(form_of_challenge, status).header("content-type", "text/event-stream");
            app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
            let answer = ask(&app, form, "x").await;
            assert_eq!(answer.failure(), (503, "server_error", "upstream_challenge"), "{form_of_challenge:?}");
            assert_eq!(counts(&app).await, (0, 0, 2));
        }
    }
}

#[tokio::test]
async fn one_account_alone_rests_and_the_answer_says_for_how_long() {
    for form in FORMS {
        let app = start(1).await;
        app.simulator.script().set_default(
            None,
            Endpoint::Completions,
            Some(ScriptedReply::challenge(ChallengeForm::Json, 200)),
        );
        for _ in 0..3 {
            let answer = ask(&app, form, "x").await;
            assert_eq!(answer.failure(), (503, "server_error", "upstream_challenge"));
            assert!(answer.retry_after().is_some_and(|seconds| (290..=300).contains(&seconds)), "{:?}", answer.headers);
            assert_eq!(answer.header("x-should-retry"), Some("false"));
        }
        assert_eq!(asked_accounts(&app.simulator).len(), 1);
    }
}

#[tokio::test]
async fn a_challenge_survives_a_restart() {
    let app = start(1).await;
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::challenge(ChallengeForm::Html, 405));
    assert_eq!(ask(&app, Form::Whole, "x").await.code(), "upstream_challenge");
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().in_dir(state_dir).start(simulator).await;
    assert_eq!(ask(&app, Form::Whole, "x").await.code(), "upstream_challenge");
    assert_eq!(asked_accounts(&app.simulator).len(), 1);
}

#[tokio::test]
async fn a_rest_after_a_challenge_ends_by_itself() {
    let simulator = Simulator::start(crew(1)).await.unwrap();
    simulator.script().queue(None, Endpoint::Completions, ScriptedReply::challenge(ChallengeForm::Json, 200));
    let app = Setup::default().with("CHALLENGE_REST", "1s").start(simulator).await;
    assert_eq!(ask(&app, Form::Whole, "echo: x").await.code(), "upstream_challenge");
    crate::support::oracle::until_health(&app, |body| body["identityPool"]["healthy"] == 1).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
}

#[tokio::test]
async fn a_challenge_that_the_size_of_the_request_draws_parks_nobody() {
    for form in FORMS {
        let app = start(3).await;
        app.simulator.script().set_default(
            None,
            Endpoint::Completions,
            Some(ScriptedReply::challenge(ChallengeForm::Json, 200)),
        );
        let text = "word ".repeat(21 * 1024);
        let body = json!({"model": "qwen3-max", "messages": [{"role": "user", "content": text}]});
        let answer = crate::support::oracle::send(&app, form, body).await;
        assert_eq!(answer.failure(), (413, "invalid_request_error", "context_length_exceeded"), "{}", answer.raw);
        assert_eq!(asked_accounts(&app.simulator).len(), 1);
        assert_eq!(counts(&app).await, (3, 0, 0));
    }
}

#[tokio::test]
async fn chats_of_a_challenged_account_are_deleted_when_its_rest_is_over() {
    for endpoint in [Endpoint::Completions, Endpoint::DeleteChat] {
        let simulator = Simulator::start(crew(1)).await.unwrap();
        simulator.script().queue(None, endpoint, ScriptedReply::challenge(ChallengeForm::Json, 200));
        let app = Setup::default().with("CHALLENGE_REST", "5s").with("CONTINUE_CHATS", "false").start(simulator).await;
        let answer = ask(&app, Form::Whole, "echo: x").await;
        let is_asked = |request: &simulator::RecordedRequest| request.endpoint == Some(endpoint);
        let challenged = app.simulator.record().wait_until(is_asked, PATIENCE).await.unwrap();
        if endpoint == Endpoint::DeleteChat {
            answer.must_say("x");
            crate::support::oracle::until_health(&app, |body| body["identityPool"]["down"] == 1).await;
        }
        let deletes = || app.simulator.record().requests_to(Endpoint::DeleteChat);
        until("the chat to be deleted", || app.simulator.record().counts().deletes == 1).await;
        let since = deletes().last().unwrap().received_at - challenged.received_at;
        assert!(since >= Duration::from_secs(5), "{endpoint:?} {since:?}");
        assert_eq!(deletes().len(), 1 + usize::from(endpoint == Endpoint::DeleteChat), "{endpoint:?}");
        assert_eq!(app.simulator.record().requests_to(Endpoint::Stop).len(), 0, "{endpoint:?}");
    }
}

#[tokio::test]
async fn no_chat_is_deleted_while_everything_is_paused() {
    let app = Setup::default().with("CONTINUE_CHATS", "false").start(Simulator::start(crew(3)).await.unwrap()).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    let challenge = ScriptedReply::challenge(ChallengeForm::Json, 200);
    app.simulator.script().set_default(None, Endpoint::Completions, Some(challenge));
    assert_eq!(ask(&app, Form::Whole, "x").await.code(), "upstream_challenge");
    // A stop deletes what it can without further delay.
    let (simulator, _state_dir) = app.stop().await;
    assert_eq!(simulator.record().requests_to(Endpoint::DeleteChat).len(), 0);
}

#[tokio::test]
async fn the_token_of_a_challenged_account_is_renewed_when_its_rest_is_over() {
    let simulator = Simulator::start(Scenario::with_accounts([AccountScript::new("bob", Era::B)])).await.unwrap();
    simulator.script().queue(None, Endpoint::NewChat, ScriptedReply::challenge(ChallengeForm::Json, 200));
    // Due again after three seconds.
    let setup = Setup::default().with("TOKEN_REFRESH_INTERVAL_HOURS", "0.001");
    let app = setup.with("CHALLENGE_REST", "8s").start(simulator).await;
    assert_eq!(ask(&app, Form::Whole, "x").await.code(), "upstream_challenge");
    let challenged = app.simulator.record().requests_to(Endpoint::NewChat).remove(0).received_at;
    let before = app.simulator.record().requests_to(Endpoint::Refresh).len();
    let told = json_of(app.post("/refresh-token", &json!({})).send().await.unwrap()).await;
    assert_eq!(told["success"], false, "{told}");
    assert!(told["identities"][0]["error"].as_str().unwrap().contains("until its rest is over"), "{told}");
    until("a renewal", || app.simulator.record().requests_to(Endpoint::Refresh).len() > before).await;
    let renewed = app.simulator.record().requests_to(Endpoint::Refresh).remove(before).received_at;
    assert!(renewed - challenged >= Duration::from_secs(8), "{:?}", renewed - challenged);
}
