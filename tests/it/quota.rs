//! Rates and quotas: the identity rests until their end, callers are told when that is, and a restart keeps it.

use simulator::Simulator;
use simulator::script::{
    AccountScript, BodyForm, Endpoint, Era, ErrorScript, Scenario, ScriptedFailure, ScriptedReply, StatusScript,
    StreamError,
};

use crate::support::app::{Setup, TestApp};
use crate::support::files::{image_part, with_parts};
use crate::support::oracle::{Answer, FORMS, Form, ask, asked_accounts, counts, crew, send, until, until_health};

const HOUR: u64 = 3600;

/// Seconds that may pass between a refusal upstream and the answer that tells of it.
const SLACK: u64 = 60;

fn out_for(hours: u64) -> ScriptedReply {
    ScriptedReply::error_with(ErrorScript {
        code: "RateLimited".to_owned(),
        num: Some(hours),
        ..ErrorScript::default()
    })
}

fn too_many(retry_after: &[&str]) -> ScriptedReply {
    let retry_after = retry_after.iter().map(|text| (*text).to_owned()).collect();
    ScriptedReply::failing(ScriptedFailure::Status(StatusScript {
        code: 429,
        retry_after,
        body: BodyForm::Json,
        text: None,
    }))
}

async fn start(count: usize) -> TestApp {
    Setup::default().start(Simulator::start(crew(count)).await.unwrap()).await
}

#[track_caller]
fn must_be_out(answer: &Answer, seconds: std::ops::RangeInclusive<u64>) {
    assert_eq!(answer.failure(), (429, "insufficient_quota", "insufficient_quota"), "{}", answer.raw);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let told = answer.retry_after().unwrap();
    assert!(seconds.contains(&told), "{told} is not in {seconds:?}");
}

#[tokio::test]
async fn a_quota_of_hours_is_told_and_nothing_is_sent_until_then() {
    for form in FORMS {
        let app = start(1).await;
        app.simulator.script().queue(None, Endpoint::Completions, out_for(2));
        must_be_out(&ask(&app, form, "x").await, 2 * HOUR - SLACK..=2 * HOUR);
        // What goes on in the background: the refused turn's chat is deleted.
        until("the chat to be deleted", || app.simulator.record().counts().deletes == 1).await;
        let sent = app.simulator.record().counts().requests;
        for _ in 0..5 {
            must_be_out(&ask(&app, form, "x").await, 2 * HOUR - SLACK..=2 * HOUR);
        }
        assert_eq!(app.simulator.record().counts().requests, sent, "something was sent");
        assert_eq!(counts(&app).await, (0, 1, 0));
    }
}

#[tokio::test]
async fn the_soonest_of_several_quotas_is_told_whatever_the_order() {
    for hours in [[2, 5], [5, 2]] {
        for form in FORMS {
            let app = start(2).await;
            for (name, hours) in ["ada", "bob"].into_iter().zip(hours) {
                app.simulator.script().queue(Some(name), Endpoint::Completions, out_for(hours));
            }
            must_be_out(&ask(&app, form, "x").await, 2 * HOUR - SLACK..=2 * HOUR);
            must_be_out(&ask(&app, form, "x").await, 2 * HOUR - SLACK..=2 * HOUR);
        }
    }
}

#[tokio::test]
async fn as_long_as_somebody_has_quota_left_nobody_is_told_to_go_away_for_hours() {
    for form in FORMS {
        let app = start(4).await;
        for name in ["ada", "bob", "cem"] {
            app.simulator.script().queue(Some(name), Endpoint::Completions, out_for(6));
        }
        // All attempts of this request met an empty quota, but there is a fourth account.
        let answer = ask(&app, form, "echo: x").await;
        assert_eq!(answer.failure(), (429, "rate_limit_error", "rate_limit_exceeded"), "{}", answer.raw);
        assert!(answer.retry_after().unwrap() <= 60, "{:?}", answer.headers);
        assert_eq!(answer.header("x-should-retry"), Some("true"));
        ask(&app, form, "echo: x").await.must_say("x");
        assert_eq!(asked_accounts(&app.simulator).last().unwrap(), "dua");
    }
}

#[tokio::test]
async fn a_quota_is_told_although_another_account_gets_no_token() {
    // The refresh is refused once or for good, or fails in passing.
    for reply in [ScriptedReply::error("Unauthorized"), ScriptedReply::status(503)] {
        for form in FORMS {
            let accounts = [
                AccountScript::new("ada", Era::A),
                AccountScript::new("bob", Era::A),
                AccountScript::new("cem", Era::B),
            ];
            let simulator = Simulator::start(Scenario::with_accounts(accounts)).await.unwrap();
            simulator.script().set_default(Some("cem"), Endpoint::Refresh, Some(reply.clone()));
            let app = Setup::default().start(simulator).await;
            for (name, hours) in [("ada", 5), ("bob", 2)] {
                app.simulator.script().queue(Some(name), Endpoint::Completions, out_for(hours));
            }
            for _ in 0..3 {
                must_be_out(&ask(&app, form, "x").await, 2 * HOUR - SLACK..=2 * HOUR);
            }
            assert_eq!(asked_accounts(&app.simulator).len(), 2);
        }
    }
}

#[tokio::test]
async fn a_quota_is_told_although_another_account_is_refused() {
    for form in FORMS {
        let app = start(2).await;
        app.simulator.script().queue(Some("ada"), Endpoint::Completions, out_for(2));
        app.simulator.script().set_default(Some("bob"), Endpoint::Completions, Some(ScriptedReply::error("Forbidden")));
        for _ in 0..3 {
            must_be_out(&ask(&app, form, "x").await, 2 * HOUR - SLACK..=2 * HOUR);
        }
    }
}

#[tokio::test]
async fn a_quota_is_kept_over_a_restart() {
    let app = start(2).await;
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, out_for(3));
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().in_dir(state_dir).start(simulator).await;
    assert_eq!(counts(&app).await, (1, 1, 0));
    for _ in 0..4 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    assert_eq!(asked_accounts(&app.simulator), ["ada", "bob", "bob", "bob", "bob", "bob"]);
    app.simulator.script().queue(Some("bob"), Endpoint::Completions, out_for(1));
    must_be_out(&ask(&app, Form::Stream, "x").await, HOUR - SLACK..=HOUR);
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().in_dir(state_dir).start(simulator).await;
    must_be_out(&ask(&app, Form::Stream, "x").await, HOUR - SLACK..=HOUR);
    assert_eq!(asked_accounts(&app.simulator).len(), 7);
}

#[tokio::test]
async fn a_quota_that_ends_in_the_middle_of_an_answer_is_kept_too() {
    let app = start(1).await;
    let error = StreamError { after: 5, code: "RateLimited".to_owned(), num: Some(4), ..StreamError::default() };
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::numbered(20).breaking(error));
    let answer = ask(&app, Form::Stream, "x").await;
    assert_eq!(answer.failure(), (200, "insufficient_quota", "insufficient_quota"), "{}", answer.raw);
    assert_eq!(counts(&app).await, (0, 1, 0));
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().in_dir(state_dir).start(simulator).await;
    must_be_out(&ask(&app, Form::Stream, "x").await, 4 * HOUR - SLACK..=4 * HOUR);
    assert_eq!(asked_accounts(&app.simulator).len(), 1);
}

#[tokio::test]
async fn retry_after_is_read_in_all_its_forms() {
    let day = 25 * HOUR;
    for (values, expected) in [
        (vec!["120"], 119..=127),
        (vec!["7"], 6..=8),
        (vec!["0"], 1..=2),
        (vec!["-5"], 59..=64),
        (vec!["1e9"], 59..=64),
        (vec!["1.5"], 59..=64),
        (vec!["soon"], 59..=64),
        (vec![""], 59..=64),
        (vec!["99999999999999999999999"], 59..=64),
        (vec!["9999999999"], day - 5..=day + day / 20),
        (vec!["Wed, 21 Oct 2015 07:28:00 GMT"], 1..=2),
        (vec!["Wed, 21 Oct 2099 07:28:00 GMT"], day - 5..=day + day / 20),
        (vec!["30", "90"], 29..=95),
        (vec![], 59..=64),
    ] {
        let app = start(1).await;
        app.simulator.script().set_default(None, Endpoint::Completions, Some(too_many(&values)));
        for _ in 0..2 {
            let answer = ask(&app, Form::Whole, "x").await;
            assert_eq!(answer.failure(), (429, "rate_limit_error", "rate_limit_exceeded"), "{values:?}");
            let told = answer.retry_after().unwrap();
            assert!(expected.contains(&told), "{values:?}: {told}");
            assert_eq!(answer.header("x-should-retry"), Some(if told > 60 { "false" } else { "true" }), "{values:?}");
        }
        assert_eq!(asked_accounts(&app.simulator).len(), 1, "{values:?}");
        assert_eq!(counts(&app).await, (0, 1, 0));
    }
}

#[tokio::test]
async fn a_short_rest_ends_by_itself() {
    let app = start(1).await;
    app.simulator.script().queue(None, Endpoint::Completions, too_many(&["1"]));
    let refused = ask(&app, Form::Whole, "echo: x").await;
    assert_eq!(refused.code(), "rate_limit_exceeded");
    until_health(&app, |body| body["identityPool"]["healthy"] == 1).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
}

#[tokio::test]
async fn a_spent_quota_of_uploads_leaves_texts_alone() {
    for form in FORMS {
        let app = start(2).await;
        let with_file = || with_parts("qwen3-vl-plus", "What is it?", vec![image_part(1)]);
        app.simulator.script().set_default(Some("ada"), Endpoint::Sts, Some(out_for(3)));
        for _ in 0..3 {
            assert_eq!(send(&app, form, with_file()).await.status, 200, "the other account takes the file");
        }
        app.simulator.script().set_default(Some("bob"), Endpoint::Sts, Some(out_for(2)));
        let other_file = || with_parts("qwen3-vl-plus", "What is it?", vec![image_part(2)]);
        must_be_out(&send(&app, form, other_file()).await, 2 * HOUR - SLACK..=2 * HOUR);
        let sent = app.simulator.record().requests_to(Endpoint::Sts).len();
        must_be_out(&send(&app, form, other_file()).await, 2 * HOUR - SLACK..=2 * HOUR);
        assert_eq!(app.simulator.record().requests_to(Endpoint::Sts).len(), sent, "no account is asked again");
        let before = asked_accounts(&app.simulator).len();
        for _ in 0..4 {
            ask(&app, form, "echo: x").await.must_say("x");
        }
        let mut asked = asked_accounts(&app.simulator).split_off(before);
        asked.sort();
        assert_eq!(asked, ["ada", "ada", "bob", "bob"], "texts go to both");
        // Still so after a restart.
        let (simulator, state_dir) = app.stop().await;
        let app = Setup::default().in_dir(state_dir).start(simulator).await;
        must_be_out(&send(&app, form, other_file()).await, 2 * HOUR - SLACK..=2 * HOUR);
        ask(&app, form, "echo: x").await.must_say("x");
    }
}
