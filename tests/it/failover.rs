//! Which failures go to another identity, how often, who pays, and what the caller is told.

use std::collections::BTreeSet;

use simulator::Simulator;
use simulator::script::{
    BodyForm, Content, Endpoint, ErrorForm, ErrorScript, ScriptedFailure, ScriptedReply, StatusScript, StreamError,
};

use crate::support::app::{Setup, TestApp};
use crate::support::oracle::{
    Answer, FORMS, Form, accounts_of, ask, asked_accounts, asked_chats, counts, crew, health,
};

/// What a kind of failure does, with three good identities configured and the failure on every one of them.
#[derive(Clone, Copy, Debug)]
struct Expected {
    status: u16,
    kind: &'static str,
    code: &'static str,
    /// Calls of the failing endpoint for one request.
    calls: usize,
    /// (healthy, degraded, down) after it, when one failure makes an identity degraded.
    counts: (u64, u64, u64),
    /// Whether one good identity behind the failing one saves the request.
    is_saved: bool,
}

const fn expected(status: u16, kind: &'static str, code: &'static str) -> Expected {
    Expected { status, kind, code, calls: 1, counts: (3, 0, 0), is_saved: false }
}

/// Two of three pay for it; the third time it is the upstream's.
const TRANSIENT: Expected =
    Expected { calls: 3, counts: (1, 2, 0), is_saved: true, ..expected(502, "server_error", "upstream_error") };
const QUOTA: Expected = Expected {
    calls: 3,
    counts: (0, 3, 0),
    is_saved: true,
    ..expected(429, "insufficient_quota", "insufficient_quota")
};
const RATE: Expected = Expected {
    calls: 3,
    counts: (0, 3, 0),
    is_saved: true,
    ..expected(429, "rate_limit_error", "rate_limit_exceeded")
};
const INVALID: Expected = expected(400, "invalid_request_error", "rejected_by_upstream");
const POLICY: Expected = expected(400, "invalid_request_error", "content_filter");
/// A new chat of the same identity is tried once.
const LOST: Expected = Expected { calls: 2, ..expected(502, "server_error", "upstream_error") };
const FORBIDDEN: Expected =
    Expected { calls: 3, counts: (0, 0, 3), is_saved: true, ..expected(503, "server_error", "no_available_account") };

fn envelope(code: &str, details: Option<&str>, num: Option<u64>) -> ScriptedReply {
    ScriptedReply::error_with(ErrorScript {
        code: code.to_owned(),
        details: details.map(str::to_owned),
        num,
        ..ErrorScript::default()
    })
}

fn envelopes() -> Vec<(ScriptedReply, Expected)> {
    let upper = "You've reached the upper limit for today's usage.";
    vec![
        (envelope("RateLimited", Some(upper), Some(2)), QUOTA),
        (envelope("RateLimited", Some("今日生图额度已用完，登录后可继续生图。"), None), QUOTA),
        (envelope("ParallelLimited", None, None), RATE),
        (envelope("Too_Many_Requests", None, None), RATE),
        (envelope("quotaLimited", None, None), QUOTA),
        (envelope("ExceedLimit", None, None), QUOTA),
        (envelope("quota_exhausted", None, None), QUOTA),
        (envelope("Bad_Request", Some("The chat is in progress!"), None), LOST),
        (envelope("Bad_Request", Some("Invalid input too many messages."), None), INVALID),
        (envelope("Bad_Request", Some("Internal error, please try again later."), None), TRANSIENT),
        (envelope("Bad_Request", Some("parent_id 1234 is not exist"), None), LOST),
        (envelope("Bad_Request", Some("chat 1234 is not exist"), None), LOST),
        (envelope("Bad_Request", Some("Invalid file information!"), None), INVALID),
        (envelope("RequestValidationError", None, None), INVALID),
        (envelope("PARENT_NOT_FOUND", None, None), LOST),
        (envelope("CHAT_NOT_FOUND", None, None), LOST),
        (envelope("Not_Found", None, None), LOST),
        (envelope("Forbidden", None, None), FORBIDDEN),
        (envelope("invalid_input", None, None), INVALID),
        (envelope("internal_error", None, None), TRANSIENT),
        (envelope("Internal_Server_Error", None, None), TRANSIENT),
        (envelope("codeadapter", None, None), TRANSIENT),
        (
            envelope("internal_error", Some("Allocated quota exceeded, please increase your quota limit."), None),
            TRANSIENT,
        ),
        (envelope("data_inspection_failed", None, None), POLICY),
        (envelope("something_new", Some("never seen"), None), TRANSIENT),
    ]
}

fn statuses() -> Vec<(ScriptedReply, Expected)> {
    let status = |code, body| {
        ScriptedReply::failing(ScriptedFailure::Status(StatusScript {
            code,
            retry_after: Vec::new(),
            body,
            text: None,
        }))
    };
    vec![
        (status(403, BodyForm::Json), FORBIDDEN),
        (status(429, BodyForm::Json), RATE),
        (status(429, BodyForm::Html), RATE),
        (status(500, BodyForm::Json), TRANSIENT),
        (status(502, BodyForm::Html), TRANSIENT),
        (status(503, BodyForm::Plain), TRANSIENT),
        (status(504, BodyForm::Empty), TRANSIENT),
        (status(404, BodyForm::Html), TRANSIENT),
        (ScriptedReply::failing(ScriptedFailure::Reset), TRANSIENT),
    ]
}

fn in_stream() -> Vec<(ScriptedReply, Expected)> {
    let error = |form, code: &str, details: &str, num| {
        ScriptedReply::default().breaking(StreamError {
            after: 1,
            form,
            code: code.to_owned(),
            details: details.to_owned(),
            num,
        })
    };
    let content = |content| ScriptedReply::streaming(|stream| stream.content = content);
    let empty = Expected { code: "upstream_empty", ..TRANSIENT };
    vec![
        (error(ErrorForm::Text, "", "Internal error!", None), TRANSIENT),
        (error(ErrorForm::Object, "internal_error", "Allocated quota exceeded", None), TRANSIENT),
        (error(ErrorForm::Object, "invalid_input", "输入或附件无效。请检查后重试。", None), INVALID),
        (error(ErrorForm::Object, "data_inspection_failed", "", None), POLICY),
        (error(ErrorForm::Object, "codeadapter", "connection failed", None), TRANSIENT),
        (error(ErrorForm::Envelope, "RateLimited", "", Some(2)), QUOTA),
        (error(ErrorForm::Envelope, "Too_Many_Requests", "", None), RATE),
        (error(ErrorForm::Envelope, "internal_error", "", None), TRANSIENT),
        (content(Content::Created), empty),
    ]
}

async fn start(simulator: Simulator) -> TestApp {
    Setup::default().with("DEGRADE_AFTER", "1").start(simulator).await
}

/// The failure on every identity.
async fn check_everywhere(endpoint: Endpoint, reply: &ScriptedReply, form: Form, expected: Expected) {
    let simulator = Simulator::start(crew(3)).await.unwrap();
    simulator.script().set_default(None, endpoint, Some(reply.clone()));
    let app = start(simulator).await;
    let answer = ask(&app, form, "echo: x").await;
    let case = format!("{endpoint:?} {form:?} {:?} {:?}", reply.fail, reply.stream.error);
    assert_eq!(answer.failure(), (expected.status, expected.kind, expected.code), "{case}");
    let calls = app.simulator.record().requests_to(endpoint);
    assert_eq!(calls.len(), expected.calls, "{case}");
    if expected.is_saved {
        let distinct: BTreeSet<String> = accounts_of(&calls).into_iter().collect();
        assert_eq!(distinct.len(), calls.len(), "an identity was asked twice: {case}");
    }
    assert_eq!(counts(&app).await, expected.counts, "{case}");
    assert_eq!(health(&app).await["upstream"]["degraded"], expected.counts == TRANSIENT.counts, "{case}");
    must_tell_when(&answer, &case);
    assert_eq!(app.simulator.record().violations(), Vec::<String>::new(), "{case}");
}

/// The failure on the first identity only.
async fn check_first(endpoint: Endpoint, reply: &ScriptedReply, form: Form, expected: Expected) {
    let simulator = Simulator::start(crew(3)).await.unwrap();
    simulator.script().queue(Some("ada"), endpoint, reply.clone());
    let app = start(simulator).await;
    let answer = ask(&app, form, "echo: saved").await;
    let case = format!("{endpoint:?} {form:?} {:?} {:?}", reply.fail, reply.stream.error);
    if expected.calls > 1 {
        answer.must_say("saved");
    } else {
        assert_eq!(answer.failure(), (expected.status, expected.kind, expected.code), "{case}");
    }
    let chats = asked_chats(&app.simulator);
    let distinct: BTreeSet<_> = chats.iter().collect();
    assert_eq!(distinct.len(), chats.len(), "a chat was asked in twice: {case}");
    let pays = match expected.counts {
        (3, 0, 0) => (3, 0, 0),
        (0, 0, 3) => (2, 0, 1),
        _ => (2, 1, 0),
    };
    assert_eq!(counts(&app).await, pays, "{case}");
    assert_eq!(app.simulator.record().violations(), Vec::<String>::new(), "{case}");
}

/// SDKs repeat what they may repeat, and sleep for whatever they are told.
fn must_tell_when(answer: &Answer, case: &str) {
    match answer.code() {
        "upstream_error" | "upstream_empty" | "upstream_timeout" | "upstream_truncated" | "insufficient_quota" => {
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{case}");
        }
        "rate_limit_exceeded" => assert!(answer.retry_after().is_some(), "{case}"),
        _ => {}
    }
}

#[tokio::test]
async fn every_envelope_on_every_identity() {
    for (reply, expected) in envelopes() {
        for form in FORMS {
            check_everywhere(Endpoint::Completions, &reply, form, expected).await;
            check_everywhere(Endpoint::NewChat, &reply, form, expected).await;
        }
    }
}

#[tokio::test]
async fn every_envelope_on_one_identity() {
    for (reply, expected) in envelopes() {
        for form in FORMS {
            check_first(Endpoint::Completions, &reply, form, expected).await;
        }
        check_first(Endpoint::NewChat, &reply, Form::Whole, expected).await;
    }
}

#[tokio::test]
async fn every_status_of_the_edge() {
    for (reply, expected) in statuses() {
        for form in FORMS {
            check_everywhere(Endpoint::Completions, &reply, form, expected).await;
            check_first(Endpoint::Completions, &reply, form, expected).await;
            check_first(Endpoint::NewChat, &reply, form, expected).await;
        }
    }
}

#[tokio::test]
async fn every_error_inside_a_stream_before_its_content() {
    for (reply, expected) in in_stream() {
        for form in FORMS {
            check_everywhere(Endpoint::Completions, &reply, form, expected).await;
            check_first(Endpoint::Completions, &reply, form, expected).await;
        }
    }
}

#[tokio::test]
async fn the_details_may_stand_beside_success() {
    for form in FORMS {
        let reply = ScriptedReply::error_with(ErrorScript {
            code: "RateLimited".to_owned(),
            num: Some(3),
            top_level: true,
            ..ErrorScript::default()
        });
        check_everywhere(Endpoint::Completions, &reply, form, QUOTA).await;
    }
}

#[tokio::test]
async fn max_retries_bounds_the_attempts() {
    for (retries, calls) in [("0", 1), ("1", 2), ("2", 3), ("4", 3)] {
        let simulator = Simulator::start(crew(5)).await.unwrap();
        simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::status(500)));
        let app = Setup::default().with("MAX_RETRIES", retries).start(simulator).await;
        assert_eq!(ask(&app, Form::Whole, "x").await.code(), "upstream_error");
        // With four retries the third identity shows that it is the upstream, and that ends it.
        assert_eq!(asked_accounts(&app.simulator).len(), calls, "{retries}");
    }
}

#[tokio::test]
async fn a_client_that_repeats_by_itself_has_fewer_attempts_here() {
    let simulator = Simulator::start(crew(5)).await.unwrap();
    simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::status(500)));
    let app = Setup::default().start(simulator).await;
    for (count, total) in [("1", 2), ("2", 3), ("99", 4)] {
        let request = app.post("/v1/chat/completions", &crate::support::app::question("x"));
        crate::support::oracle::read(request.header("x-stainless-retry-count", count), Form::Whole).await;
        assert_eq!(asked_accounts(&app.simulator).len(), total, "{count}");
    }
}

#[tokio::test]
async fn an_error_after_content_is_told_and_never_repeated_in_a_stream() {
    for after in [2, 3, 20] {
        for form in [ErrorForm::Text, ErrorForm::Object, ErrorForm::Envelope] {
            let simulator = Simulator::start(crew(3)).await.unwrap();
            let broken = ScriptedReply::numbered(60).breaking(StreamError {
                after,
                form,
                code: "internal_error".to_owned(),
                ..StreamError::default()
            });
            simulator.script().queue(Some("ada"), Endpoint::Completions, broken);
            let app = start(simulator).await;
            let answer = ask(&app, Form::Stream, "x").await;
            assert_eq!(answer.failure(), (200, "server_error", "upstream_error"), "{}", answer.raw);
            assert_eq!(crate::support::oracle::judge_numbered(&answer, 60), after - 1);
            assert_eq!(asked_accounts(&app.simulator), ["ada"]);
            assert_eq!(counts(&app).await, (2, 1, 0));
        }
    }
}

#[tokio::test]
async fn a_whole_answer_that_broke_is_made_once_more_elsewhere() {
    let simulator = Simulator::start(crew(3)).await.unwrap();
    let broken = StreamError { after: 9, code: "internal_error".to_owned(), ..StreamError::default() };
    simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::numbered(60).breaking(broken));
    simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::numbered(60)));
    let app = start(simulator).await;
    let answer = ask(&app, Form::Whole, "x").await;
    assert_eq!(crate::support::oracle::judge_numbered(&answer, 60), 60);
    assert_eq!(asked_accounts(&app.simulator), ["ada", "bob"]);
    assert_eq!(counts(&app).await, (2, 1, 0));
}

#[tokio::test]
async fn the_policy_ends_an_answer_that_had_begun() {
    for form in FORMS {
        let simulator = Simulator::start(crew(2)).await.unwrap();
        let refused = StreamError { after: 31, code: "data_inspection_failed".to_owned(), ..StreamError::default() };
        simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::numbered(60).breaking(refused));
        let app = start(simulator).await;
        let answer = ask(&app, form, "x").await;
        assert_eq!((answer.status, answer.finish.as_deref()), (200, Some("content_filter")), "{}", answer.raw);
        assert_eq!(answer.content.matches('⟨').count(), 30);
        assert_eq!(asked_accounts(&app.simulator), ["ada"]);
        assert_eq!(counts(&app).await, (2, 0, 0));
    }
}

#[tokio::test]
async fn a_storm_of_refusals_by_policy_leaves_the_pool_alone() {
    let simulator = Simulator::start(crew(2)).await.unwrap();
    simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::error("data_inspection_failed")));
    let app = start(simulator).await;
    for _ in 0..50 {
        assert_eq!(ask(&app, Form::Whole, "x").await.code(), "content_filter");
    }
    assert_eq!(counts(&app).await, (2, 0, 0));
    assert_eq!(asked_accounts(&app.simulator).len(), 50);
}

#[tokio::test]
async fn what_the_upstream_says_is_cut_and_cleaned() {
    let long = format!("see https://help.example.com/?secret=1 \u{1b}[31m{}", "word ".repeat(200));
    let simulator = Simulator::start(crew(1)).await.unwrap();
    simulator.script().set_default(None, Endpoint::Completions, Some(envelope("invalid_input", Some(&long), None)));
    let app = start(simulator).await;
    let answer = ask(&app, Form::Whole, "x").await;
    let message = answer.error.as_ref().unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("word word"), "{message}");
    assert!(!message.contains("help.example.com") && !message.contains('\u{1b}') && message.len() < 300, "{message}");
}

#[tokio::test]
async fn in_a_stream_whose_headers_are_out_an_early_error_is_a_frame() {
    let simulator = Simulator::start(crew(3)).await.unwrap();
    simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::status(500)));
    let app = Setup::default().with("HEADERS_HOLD", "0").start(simulator).await;
    let answer = ask(&app, Form::Stream, "x").await;
    assert_eq!(answer.failure(), (200, "server_error", "upstream_error"));
    assert_eq!(asked_accounts(&app.simulator).len(), 3, "failover goes on behind the headers");
}

#[tokio::test]
async fn retries_of_the_whole_pool_have_a_budget() {
    let simulator = Simulator::start(crew(8)).await.unwrap();
    // Each fails in its own way, so that the rule of correlated failures stays out of it.
    for (name, reply) in [
        ("ada", ScriptedReply::status(500)),
        ("bob", ScriptedReply::streaming(|stream| stream.content = Content::Created)),
        (
            "cem",
            ScriptedReply::failing(ScriptedFailure::Raw(simulator::script::RawScript {
                status: 200,
                content_type: "application/json".to_owned(),
                body: "no json".to_owned(),
                base64: false,
            })),
        ),
        ("dua", ScriptedReply::numbered(3).cut_at_byte(150, simulator::script::CutHow::CleanEnd)),
    ] {
        simulator.script().set_default(Some(name), Endpoint::Completions, Some(reply));
    }
    let simulator_names = ["eli", "fay", "gus", "hal"];
    for name in simulator_names {
        simulator.script().set_default(Some(name), Endpoint::Completions, Some(ScriptedReply::status(500)));
    }
    let app = Setup::default().with("TRIP_AFTER", "1000").start(simulator).await;
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        assert_ne!(ask(&app, Form::Whole, "x").await.error, None);
    }
    let retries = asked_accounts(&app.simulator).len() - 100;
    let allowed = 30 + 50 + 3 * (begun.elapsed().as_secs() as usize + 1);
    assert!(retries <= allowed, "{retries} retries, {allowed} allowed");
}
