//! Answers that break off, hang, drip, never end or come in odd bytes: every one ends, and no loss goes unreported.
//!
//! Upper bounds of time are half of the shortest default timeout (`FIRST_EVENT_TIMEOUT`, 60 s): a test that meets
//! one has waited for the wrong thing.

use std::time::{Duration, Instant};

use base64::Engine as _;
use simulator::Simulator;
use simulator::script::{
    AccountScript, Content, CutHow, End, Endless, Endpoint, Era, Inserted, LineEnding, Packets, RawScript, Scenario,
    ScriptedFailure, ScriptedReply, StreamError,
};
use tokio::net::TcpListener;

use crate::support::app::{PATIENCE, Setup, TestApp, error_of, question, spawn};
use crate::support::oracle::{FORMS, Form, ask, asked_accounts, counts, crew, health, judge_numbered, until_health};

pub(crate) const PIECES: usize = 6;

pub(crate) async fn start(count: usize, setup: Setup) -> TestApp {
    setup
        .with("DEGRADE_AFTER", "1")
        .with("TRIP_AFTER", "1000")
        .start(Simulator::start(crew(count)).await.unwrap())
        .await
}

#[tokio::test]
async fn thoughts_alone_are_no_answer() {
    for form in FORMS {
        let app = start(3, Setup::default()).await;
        let thoughts = ScriptedReply::default()
            .reasoning(&[&[("Planning", "Only thoughts.")]])
            .with_stream(|stream| stream.content = Content::Reasoning);
        app.simulator.script().set_default(None, Endpoint::Completions, Some(thoughts));
        let answer = ask(&app, form, "x").await;
        assert_eq!(answer.code(), "upstream_empty", "{}", answer.raw);
        assert_eq!(answer.finish, None);
    }
}

/// With an account alone there is nothing to fail over to, and the caller hears of the failure itself.
#[tokio::test]
async fn an_account_alone_tells_what_broke() {
    let thoughts = ScriptedReply::default()
        .reasoning(&[&[("Planning", "Only thoughts.")]])
        .with_stream(|stream| stream.content = Content::Reasoning);
    for (reply, code) in [
        (ScriptedReply::numbered(PIECES).cut_after(3, CutHow::Fin), "upstream_truncated"),
        (thoughts, "upstream_empty"),
        (ScriptedReply::default().with_stream(|stream| stream.content = Content::Created), "upstream_empty"),
    ] {
        for form in FORMS {
            // Retries are left, but no account to use them on.
            let app = start(1, Setup::default()).await;
            app.simulator.script().set_default(None, Endpoint::Completions, Some(reply.clone()));
            let answer = ask(&app, form, "x").await;
            assert_eq!(answer.code(), code, "{}", answer.raw);
            assert!(answer.status == 502 || form == Form::Stream, "{}", answer.raw);
        }
    }
}

#[tokio::test]
async fn thoughts_alone_are_made_good_by_another_identity_in_a_whole_answer() {
    let app = start(2, Setup::default()).await;
    let thoughts = ScriptedReply::default()
        .reasoning(&[&[("Planning", "Only thoughts.")]])
        .with_stream(|stream| stream.content = Content::Reasoning);
    app.simulator.script().queue(None, Endpoint::Completions, thoughts);
    let answer = ask(&app, Form::Whole, "echo: saved").await;
    answer.must_say("saved");
    assert_eq!(answer.reasoning, "", "nothing of the failed attempt");
    assert_eq!(asked_accounts(&app.simulator), ["ada", "bob"]);
}

#[tokio::test]
async fn an_answer_ends_with_its_last_frame_even_if_the_connection_stays_open() {
    for form in FORMS {
        let app = start(2, Setup::default()).await;
        app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::numbered(PIECES).ending(End::Open));
        let answer = ask(&app, form, "x").await;
        assert_eq!(judge_numbered(&answer, PIECES), PIECES);
        assert!(answer.took < PATIENCE, "{:?}", answer.took);
        let closed =
            app.simulator.record().wait_until(|request| request.client_closed_at().is_some(), PATIENCE).await.unwrap();
        assert_eq!(closed.endpoint, Some(Endpoint::Completions));
        assert_eq!(app.simulator.record().requests_to(Endpoint::Stop).len(), 0, "it ended by itself");
        assert_eq!(counts(&app).await, (2, 0, 0));
    }
}

#[tokio::test]
async fn silence_before_the_first_event_meets_its_deadline() {
    for form in FORMS {
        for endpoint in [Endpoint::Completions, Endpoint::NewChat] {
            let app = start(3, Setup::default().with("FIRST_EVENT_TIMEOUT", "200ms")).await;
            app.simulator.script().set_default(None, endpoint, Some(ScriptedReply::failing(ScriptedFailure::Silence)));
            let answer = ask(&app, form, "x").await;
            assert_eq!(answer.failure(), (504, "server_error", "upstream_timeout"), "{}", answer.raw);
            assert_eq!(app.simulator.record().requests_to(endpoint).len(), 3);
            assert!(answer.took >= Duration::from_millis(600), "{:?}", answer.took);
            assert!(answer.took < PATIENCE, "{:?}", answer.took);
            assert_eq!(counts(&app).await, (1, 2, 0));
        }
    }
}

#[tokio::test]
async fn keep_alives_alone_do_not_count_as_a_first_event() {
    for what in [Inserted::KeepAlive, Inserted::Comment("still here".to_owned()), Inserted::StrayTrue] {
        for form in FORMS {
            let app = start(1, Setup::default().with("FIRST_EVENT_TIMEOUT", "300ms")).await;
            let endless = ScriptedReply::default()
                .with_stream(|stream| stream.content = Content::Created)
                .ending(End::Endless(Endless { what: what.clone(), every_ms: 10 }));
            app.simulator.script().set_default(None, Endpoint::Completions, Some(endless));
            let answer = ask(&app, form, "x").await;
            assert_eq!(answer.failure(), (504, "server_error", "upstream_timeout"), "{what:?} {}", answer.raw);
            assert!(answer.took < PATIENCE, "{:?}", answer.took);
        }
    }
}

#[tokio::test]
async fn one_byte_at_a_time_meets_the_first_deadline() {
    let app = start(1, Setup::default().with("FIRST_EVENT_TIMEOUT", "300ms")).await;
    let drip = ScriptedReply::numbered(PIECES).packets(Packets::Size(1)).paced(Duration::from_millis(20));
    app.simulator.script().set_default(None, Endpoint::Completions, Some(drip));
    let answer = ask(&app, Form::Stream, "x").await;
    assert_eq!(answer.failure(), (504, "server_error", "upstream_timeout"));
}

#[tokio::test]
async fn silence_in_the_middle_meets_the_idle_deadline() {
    for what in [None, Some(Inserted::Comment("still here".to_owned()))] {
        let app = start(2, Setup::default().with("IDLE_TIMEOUT", "300ms")).await;
        let end = match what.clone() {
            None => End::Stalled,
            Some(what) => End::Endless(Endless { what, every_ms: 10 }),
        };
        app.simulator.script().set_default(
            None,
            Endpoint::Completions,
            Some(ScriptedReply::numbered(PIECES).ending(end)),
        );
        let answer = ask(&app, Form::Stream, "x").await;
        assert_eq!(answer.failure(), (200, "server_error", "upstream_timeout"), "{}", answer.raw);
        judge_numbered(&answer, PIECES);
        assert!(answer.took < PATIENCE, "{:?}", answer.took);
        assert_eq!(counts(&app).await, (1, 1, 0));
        let answer = ask(&app, Form::Whole, "x").await;
        assert_eq!(answer.failure(), (504, "server_error", "upstream_timeout"), "{}", answer.raw);
        let stop =
            app.simulator.record().wait_until(|request| request.endpoint == Some(Endpoint::Stop), PATIENCE).await;
        assert!(stop.is_some(), "what we gave up on is stopped: {what:?}");
    }
}

#[tokio::test]
async fn the_policys_word_means_the_same_however_the_bytes_come() {
    for packets in [Packets::Frames, Packets::One, Packets::Size(19)] {
        for form in FORMS {
            let app = start(2, Setup::default()).await;
            let code = "data_inspection_failed".to_owned();
            let reply = ScriptedReply::pieces(["one ", "two "]).packets(packets.clone());
            let reply = reply.breaking(StreamError { after: 3, code, ..StreamError::default() });
            app.simulator.script().queue(None, Endpoint::Completions, reply);
            let answer = ask(&app, form, "x").await;
            assert_eq!(
                (answer.status, answer.content.as_str()),
                (200, "one two "),
                "{packets:?} {form:?} {}",
                answer.raw
            );
            assert!(answer.raw.contains("\"finish_reason\":\"content_filter\""), "{}", answer.raw);
        }
    }
}

#[tokio::test]
async fn a_stream_without_a_content_type_is_read_all_the_same() {
    let body = "data: {\"choices\": [{\"delta\": {\"role\": \"assistant\", \"content\": \"hi\", \"phase\": \"answer\", \
                \"status\": \"finished\"}}]}\n\n";
    for content_type in ["application/octet-stream", "text/plain; charset=utf-8", "TEXT/EVENT-STREAM"] {
        let app = start(1, Setup::default()).await;
        let content_type = content_type.to_owned();
        let raw = RawScript { status: 200, content_type, body: body.to_owned(), base64: false };
        app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::failing(ScriptedFailure::Raw(raw)));
        ask(&app, Form::Stream, "x").await.must_say("hi");
    }
}

#[tokio::test]
async fn an_answer_too_long_to_be_whole_is_not_collected_for_ever() {
    let app = TestApp::quick().await;
    let large = ScriptedReply::pieces(vec!["x".repeat(1024 * 1024); 40]);
    app.simulator.script().set_default(None, Endpoint::Completions, Some(large));
    let response = app.chat(&question("x")).await;
    assert_eq!(response.status(), 502);
    assert_eq!(error_of(response).await["code"], "upstream_error");
}

#[tokio::test]
async fn an_endless_answer_meets_the_deadline_of_the_whole() {
    let endless_answer = Inserted::UnknownPhase { phase: "answer".to_owned(), content: "on ".to_owned(), tool: false };
    // At leisure, and as fast as the connection takes it.
    for (what, every_ms) in [(&endless_answer, 10), (&Inserted::KeepAlive, 10), (&endless_answer, 0)] {
        for form in FORMS {
            let app = start(1, Setup::default().with("TOTAL_TIMEOUT", "700ms").with("CONNECT_TIMEOUT", "600ms")).await;
            let end = End::Endless(Endless { what: what.clone(), every_ms });
            app.simulator.script().set_default(
                None,
                Endpoint::Completions,
                Some(ScriptedReply::answer("on ").ending(end)),
            );
            let answer = ask(&app, form, "x").await;
            let status = if form == Form::Stream { 200 } else { 504 };
            assert_eq!(answer.failure(), (status, "server_error", "upstream_timeout"), "{what:?} {}", answer.raw);
            assert!((Duration::from_millis(700)..PATIENCE).contains(&answer.took), "{:?}", answer.took);
            let closed =
                app.simulator.record().wait_until(|request| request.client_closed_at().is_some(), PATIENCE).await;
            assert!(closed.is_some());
        }
    }
}

#[tokio::test]
async fn a_silent_auth_host_does_not_hold_a_request_beyond_its_deadline() {
    let scenario = Scenario::with_accounts([AccountScript::new("bob", Era::B)]);
    let simulator = Simulator::start(scenario).await.unwrap();
    simulator.script().set_default(None, Endpoint::Refresh, Some(ScriptedReply::failing(ScriptedFailure::Silence)));
    let app = Setup::default().with("FIRST_EVENT_TIMEOUT", "500ms").start(simulator).await;
    for form in FORMS {
        let answer = ask(&app, form, "x").await;
        assert!(answer.took < PATIENCE, "{:?}", answer.took);
        assert_eq!(answer.failure(), (503, "server_error", "no_available_account"), "{}", answer.raw);
    }
}

#[tokio::test]
async fn the_first_of_two_interleaved_answers_is_kept() {
    for form in FORMS {
        let app = start(1, Setup::default()).await;
        app.simulator.script().set_default(
            None,
            Endpoint::Completions,
            Some(ScriptedReply::answer("one answer only").with_stream(|stream| stream.two_answers = true)),
        );
        ask(&app, form, "x").await.must_say("one answer only");
    }
}

#[tokio::test]
async fn stray_values_and_keep_alives_change_nothing() {
    for form in FORMS {
        let app = start(1, Setup::default()).await;
        let reply = ScriptedReply::numbered(PIECES)
            .inserting(0, Inserted::Comment("hello".to_owned()))
            .inserting(1, Inserted::KeepAlive)
            .inserting(2, Inserted::StrayTrue)
            .inserting(3, Inserted::KeepAlive)
            .inserting(200, Inserted::StrayTrue);
        app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
        let answer = ask(&app, form, "x").await;
        assert_eq!(judge_numbered(&answer, PIECES), PIECES);
        assert_eq!(answer.error, None);
    }
}

#[tokio::test]
async fn done_before_the_last_frame_is_a_cut() {
    let app = start(1, Setup::default()).await;
    app.simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::numbered(PIECES).inserting(4, Inserted::Done).ending(End::Unfinished)),
    );
    let answer = ask(&app, Form::Stream, "x").await;
    assert_eq!(answer.failure(), (200, "server_error", "upstream_truncated"), "{}", answer.raw);
    assert_eq!(judge_numbered(&answer, PIECES), 3);
}

#[tokio::test]
async fn an_unknown_phase_is_shown_as_thought_and_counted() {
    for form in FORMS {
        let app = start(1, Setup::default()).await;
        assert_eq!(health(&app).await["upstream"]["unknownEvents"], 0);
        let unknown = |phase: &str, tool| Inserted::UnknownPhase {
            phase: phase.to_owned(),
            content: "pondering".to_owned(),
            tool,
        };
        let reply = ScriptedReply::answer("told")
            .inserting(1, unknown("DaydreamStage", false))
            .inserting(1, unknown("DaydreamTool", true));
        app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
        let answer = ask(&app, form, "x").await;
        answer.must_say("told");
        assert_eq!(answer.reasoning, "pondering");
        assert_eq!(health(&app).await["upstream"]["unknownEvents"], 2);
    }
}

#[tokio::test]
async fn line_ends_marks_and_packets_change_nothing() {
    const TEXT: &str = "Zürich 東京 🦀🦀 \"quoted\" \\ back\nnew line — end";
    let app = start(1, Setup::default()).await;
    for ending in [LineEnding::Lf, LineEnding::Crlf, LineEnding::Cr] {
        for bom in [false, true] {
            for packets in [Packets::Frames, Packets::One, Packets::Size(1), Packets::Size(2), Packets::Size(7)] {
                for form in FORMS {
                    let reply = ScriptedReply::answer(TEXT).packets(packets.clone()).with_stream(|stream| {
                        stream.line_ending = ending;
                        stream.bom = bom;
                    });
                    app.simulator.script().queue(None, Endpoint::Completions, reply);
                    let answer = ask(&app, form, "x").await;
                    assert_eq!(
                        (answer.content.as_str(), answer.finish.as_deref()),
                        (TEXT, Some("stop")),
                        "{ending:?} {bom} {packets:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = elsewhere.local_addr().unwrap();
    let listening = spawn(async move { elsewhere.accept().await.map(|_| ()) });
    for target in
        [format!("http://{address}/x"), format!("http://127.0.0.1:{}/", address.port()), "/api/v2/x".to_owned()]
    {
        for endpoint in [Endpoint::NewChat, Endpoint::Completions] {
            for form in FORMS {
                let app = start(2, Setup::default()).await;
                app.simulator.script().set_default(
                    None,
                    endpoint,
                    Some(ScriptedReply::failing(ScriptedFailure::Redirect(target.clone()))),
                );
                app.simulator.script().set_default(
                    None,
                    Endpoint::Models,
                    Some(ScriptedReply::failing(ScriptedFailure::Redirect(target.clone()))),
                );
                let answer = ask(&app, form, "x").await;
                assert_eq!(answer.failure(), (502, "server_error", "upstream_error"), "{}", answer.raw);
                let followed = app.simulator.record().requests().into_iter().any(|request| request.path.contains("/x"));
                assert!(!followed);
            }
        }
    }
    let scenario = Scenario::with_accounts([AccountScript::new("bob", Era::B)]);
    let simulator = Simulator::start(scenario).await.unwrap();
    let redirect = ScriptedReply::failing(ScriptedFailure::Redirect(format!("http://{address}/x")));
    simulator.script().set_default(None, Endpoint::Refresh, Some(redirect));
    let app = Setup::default().start(simulator).await;
    assert_eq!(ask(&app, Form::Whole, "x").await.code(), "no_available_account");
    assert!(!listening.is_finished(), "something was sent elsewhere");
    listening.abort();
}

#[tokio::test]
async fn a_huge_error_body_is_not_read_to_its_end() {
    for (status, content_type) in [(500, "application/json"), (200, "application/json"), (200, "text/plain")] {
        let app = start(1, Setup::default()).await;
        let body = "x".repeat(40 << 20);
        let raw = RawScript { status, content_type: content_type.to_owned(), body, base64: false };
        app.simulator.script().set_default(
            None,
            Endpoint::Completions,
            Some(ScriptedReply::failing(ScriptedFailure::Raw(raw))),
        );
        let answer = ask(&app, Form::Whole, "x").await;
        assert_eq!(answer.failure(), (502, "server_error", "upstream_error"));
        assert!(answer.raw.len() < 1000);
        assert!(answer.took < PATIENCE, "{:?}", answer.took);
    }
}

/// A small gzip file that is `bytes` zeros.
fn bomb(bytes: usize) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut pending, mut count) = (0_u64, 0_u32);
    let mut put = |value: u64, bits: u32, out: &mut Vec<u8>| {
        pending |= value << count;
        count += bits;
        while count >= 8 {
            out.push((pending & 0xff) as u8);
            pending >>= 8;
            count -= 8;
        }
    };
    // One last block with the fixed codes: a zero, then again and again 258 bytes from one byte ago.
    put(0b011, 3, &mut out);
    put(0b0000_1100, 8, &mut out);
    for _ in 0..bytes / 258 {
        put(0b1010_0011, 8, &mut out);
        put(0, 5, &mut out);
    }
    put(0, 7, &mut out);
    put(0, 8, &mut out);
    out
}

#[tokio::test]
async fn a_body_that_grows_when_unpacked_is_cut_off() {
    let body = base64::engine::general_purpose::STANDARD.encode(bomb(512 << 20));
    for content_type in ["application/json", "text/event-stream"] {
        let app = start(1, Setup::default()).await;
        let raw = RawScript { status: 200, content_type: content_type.to_owned(), body: body.clone(), base64: true };
        let reply = ScriptedReply::failing(ScriptedFailure::Raw(raw)).header("content-encoding", "gzip");
        app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
        let begun = Instant::now();
        let answer = ask(&app, Form::Whole, "x").await;
        assert_eq!((answer.status, answer.error.is_some()), (502, true), "{}", answer.raw);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        until_health(&app, |body| body["identityPool"]["degraded"] == 1).await;
    }
}

#[tokio::test]
async fn every_form_of_a_challenge_is_one() {
    let signed = r#"{"code": CODE,"dt":"success","ec":200,"result":{"code":CODE,"sig":"from bx"},"success":true}"#;
    for (content_type, body) in [
        ("application/json", signed.replace("CODE", "0")),
        ("application/json;charset=utf-8", signed.replace("CODE", "300")),
        ("text/event-stream", signed.replace("CODE", "0")),
        ("text/event-stream", format!("data: {}\n\n", signed.replace("CODE", "0"))),
        ("application/json", r#"{"success":false,"data":{"code":"FAIL_SYS_USER_VALIDATE","details":"x"}}"#.to_owned()),
        ("text/event-stream", "data: {\"ret\":[\"FAIL_SYS_USER_VALIDATE\",\"RGV587_ERROR::SM::x\"]}\n\n".to_owned()),
        (
            "text/event-stream",
            "data: {\"success\":false,\"data\":{\"code\":\"FAIL_SYS_USER_VALIDATE\"}}\n\n".to_owned(),
        ),
        ("text/html", "<!doctypehtml><script>baxiaCommon</script>".to_owned()),
        ("text/event-stream", "<!doctypehtml><meta name=\"aliyun_waf_aa\">".to_owned()),
        ("text/plain", "jsonp1({\"ret\":[\"FAIL_SYS_USER_VALIDATE\"]})".to_owned()),
        ("text/javascript", "location.href='/api/v2/chat/completions/_____tmd_____/punish?x5secdata=1'".to_owned()),
    ] {
        for form in FORMS {
            for endpoint in [Endpoint::Completions, Endpoint::NewChat] {
                let app = start(1, Setup::default()).await;
                let content_type = content_type.to_owned();
                let raw = RawScript { status: 200, content_type, body: body.clone(), base64: false };
                let reply = ScriptedReply::failing(ScriptedFailure::Raw(raw));
                app.simulator.script().set_default(None, endpoint, Some(reply));
                let answer = ask(&app, form, "x").await;
                if endpoint == Endpoint::NewChat && body.starts_with("data:") {
                    // A chat is not made by a stream.
                    continue;
                }
                assert_eq!(answer.failure(), (503, "server_error", "upstream_challenge"), "{body} {}", answer.raw);
                assert_eq!(app.simulator.record().requests_to(endpoint).len(), 1, "{body}");
            }
        }
    }
}

#[tokio::test]
async fn a_quota_is_one_in_the_envelope_and_in_the_stream() {
    for (content_type, body) in [
        ("application/json", r#"{"success":false,"data":{"code":"quota_limit"}}"#),
        ("text/event-stream", "data: {\"error\":{\"code\":\"quota_limit\",\"details\":\"x\"}}\n\n"),
        ("text/event-stream", "data: {\"error\":\"quotaLimited: no more today\"}\n\n"),
    ] {
        for form in FORMS {
            let app = start(1, Setup::default()).await;
            let (content_type, body) = (content_type.to_owned(), body.to_owned());
            let raw = RawScript { status: 200, content_type, body, base64: false };
            let reply = ScriptedReply::failing(ScriptedFailure::Raw(raw));
            app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
            let answer = ask(&app, form, "x").await;
            assert_eq!(answer.failure(), (429, "insufficient_quota", "insufficient_quota"), "{}", answer.raw);
        }
    }
}
