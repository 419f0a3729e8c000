//! Answers that break off at any byte: another account makes them good, or the caller is told.

use simulator::script::{CutHow, Endpoint, Packets, ScriptedReply};

use crate::support::app::{Setup, TestApp};
use crate::support::oracle::{Form, ask, judge_numbered};
use crate::upstream_faults::{PIECES, start};

/// How many bytes the numbered stream of these tests has.
async fn length(app: &TestApp) -> usize {
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::numbered(PIECES));
    let answer = ask(app, Form::Whole, "x").await;
    assert_eq!(judge_numbered(&answer, PIECES), PIECES);
    let sent = app.simulator.record().requests_to(Endpoint::Completions).last().unwrap().bytes_sent;
    usize::try_from(sent).unwrap()
}

async fn check_cuts(how: CutHow, form: Form) {
    let alone = start(1, Setup::default().with("MAX_RETRIES", "0")).await;
    let several = start(3, Setup::default()).await;
    let length = length(&alone).await;
    let (mut before, mut after) = (0, 0);
    for step in 0..40 {
        let at = step * length / 40;
        for packets in [Packets::Frames, Packets::Size(19)] {
            let cut = ScriptedReply::numbered(PIECES).cut_at_byte(at, how).packets(packets);
            let case = format!("{how:?} {form:?} at {at} of {length}");
            // No other account can take over: the caller is told.
            alone.simulator.script().queue(None, Endpoint::Completions, cut.clone());
            let answer = ask(&alone, form, "x").await;
            let pieces = judge_numbered(&answer, PIECES);
            assert!(answer.error.is_some(), "a silent cut: {case} {}", answer.raw);
            // A reset takes with it what has arrived and was not read, even the head.
            let may_lack_head = answer.status != 200 && (at == 0 || how == CutHow::Reset);
            let expected = match answer.code() {
                "upstream_truncated" => true,
                "upstream_empty" => answer.status != 200,
                "upstream_error" => may_lack_head,
                _ => false,
            };
            assert!(expected, "{case} {}", answer.raw);
            if answer.status == 200 {
                assert!(pieces > 0 && form == Form::Stream, "{case}");
                after += 1;
            } else {
                assert_eq!((answer.status, pieces), (502, 0), "{case}");
                before += 1;
            }
            // Another account can: a whole answer is whole, a stream is whole or says that it broke.
            several.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::numbered(PIECES)));
            // One good request for each retry, so that the pool's budget for retries lasts.
            assert_eq!(judge_numbered(&ask(&several, form, "x").await, PIECES), PIECES);
            several.simulator.script().queue(None, Endpoint::Completions, cut);
            let answer = ask(&several, form, "x").await;
            let pieces = judge_numbered(&answer, PIECES);
            match form {
                Form::Whole => assert_eq!(pieces, PIECES, "{case}"),
                Form::Stream if answer.error.is_some() => {
                    assert_eq!((answer.status, answer.code()), (200, "upstream_truncated"), "{case}");
                    assert!(pieces > 0, "{case}");
                }
                Form::Stream => assert_eq!(pieces, PIECES, "{case}"),
            }
        }
    }
    assert!(before > 10, "{before}");
    assert!(form == Form::Whole || after > 20, "{after}");
    assert_eq!(several.simulator.record().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stream_cut_by_a_clean_end() {
    check_cuts(CutHow::CleanEnd, Form::Stream).await;
}

#[tokio::test]
async fn a_stream_cut_by_a_closed_connection() {
    check_cuts(CutHow::Fin, Form::Stream).await;
}

#[tokio::test]
async fn a_stream_cut_by_a_reset() {
    check_cuts(CutHow::Reset, Form::Stream).await;
}

#[tokio::test]
async fn a_whole_answer_cut_by_a_clean_end() {
    check_cuts(CutHow::CleanEnd, Form::Whole).await;
}

#[tokio::test]
async fn a_whole_answer_cut_by_a_closed_connection() {
    check_cuts(CutHow::Fin, Form::Whole).await;
}

#[tokio::test]
async fn a_whole_answer_cut_by_a_reset() {
    check_cuts(CutHow::Reset, Form::Whole).await;
}
