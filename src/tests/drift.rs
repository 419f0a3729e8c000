//! Frames that no recording has: nothing panics, and an odd member costs no more than itself.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::chat::reply::ReplyError;
use crate::upstream::web::decode::QwenReplyDecoder;

use super::{answer, described, job};

/// Frames one after the other, and the events that they give, joined by ` | `; an error comes last, as `! …`.
pub(super) fn check(frames: &[&str], expected: &str) {
    let mut decoder = QwenReplyDecoder::new();
    let mut events = Vec::new();
    for frame in frames {
        let outcome = decoder.push(frame.as_bytes(), &mut |event| events.push(described(&event)));
        if let Err(error) = outcome {
            events.push(match error {
                ReplyError::Refused { code, details, hours } => format!("! {code}: {details} {hours:?}"),
                other => format!("! {other:?}"),
            });
            break;
        }
    }
    assert_eq!(events.join(" | "), expected, "{frames:?}");
}

/// A delta, as the one of a frame.
pub(super) fn check_delta(delta: &str, expected: &str) {
    check(&[&format!("{{\"choices\": [{{\"delta\": {delta}}}]}}")], expected);
}

pub(super) const A: &str = r#"{"response.created": {"response_id": "A", "response_index": "0"}}"#;
const B: &str = r#"{"response.created": {"response_id": "B", "response_index": "1"}}"#;
pub(super) const A_SAYS: &str = r#"{"choices": [{"delta": {"content": "a", "phase": "answer"}}], "response_id": "A"}"#;
const B_SAYS: &str = r#"{"choices": [{"delta": {"content": "b", "phase": "answer"}}], "response_id": "B"}"#;
pub(super) const END: &str = r#"{"choices": [{"delta": {"content": "", "phase": "answer", "status": "finished"}}]}"#;

#[test]
fn choices_and_deltas() {
    check(&[r#"{"choices": []}"#], "Activity");
    check(&[r#"{"choices": null}"#], "Activity");
    check(&[r#"{"choices": 5}"#], "Activity");
    check(&[r#"{"choices": [null]}"#], "Activity");
    check(&[r#"{"choices": ["x", {"delta": {"content": "y"}}]}"#], "Activity");
    check(&[r#"{"choices": {"delta": {"content": "y"}}}"#], "Text \"y\"");
    check(&[r#"{"choices": [{"delta": {"content": "y"}}, {"delta": {"content": "z"}}]}"#], "Text \"y\"");
    check(
        &[r#"{"choices": [{"index": 0, "logprobs": null, "delta": {"content": "y"}, "finish_reason": null}]}"#],
        "Text \"y\"",
    );
    check(&[r#"{"choices": [{"delta": {"content": "y"}}], "choices": [{"delta": {"content": "z"}}]}"#], "Text \"z\"");
    check(&[r#"{"\u0063hoices": [{"delta": {"content": "y"}}]}"#], "Text \"y\"");
    check(&["{}"], "Unknown { what: \"frame\" }");
    for delta in ["null", "[]", "5", "\"y\"", "true", "1.5", "-1"] {
        check_delta(delta, "Activity");
    }
}

#[test]
fn members_of_a_delta() {
    check_delta(
        r#"{"content": "y", "phase": null, "status": null, "role": null, "extra": null, "function_call": null}"#,
        "Text \"y\"",
    );
    check_delta(r#"{"content": "y", "phase": "", "role": 5}"#, "Text \"y\"");
    check_delta(r#"{"content": "y", "phase": "answer", "function_call": {}}"#, "Text \"y\"");
    check_delta(r#"{"content": "y", "phase": "\u0061nswer", "status": "finishe\u0064"}"#, "Text \"y\" | Finished");
    check_delta(r#"{"content": "y", "phase": 5}"#, "Unknown { what: \"5\" } | Reasoning \"y\" | Activity");
    check_delta(r#"{"content": "y", "phase": ["answer"]}"#, "Text \"y\"");
    check_delta(r#"{"content": ["y", {"type": "text", "text": "z"}]}"#, "Text \"yz\"");
    check_delta(r#"{"content": {"content": [{"text": "z"}]}}"#, "Text \"z\"");
    for content in ["5", "true", "[]", "{}", "[[null]]"] {
        check_delta(&format!("{{\"content\": {content}}}"), "Unknown { what: \"content\" }");
    }
    check_delta(r#"{"content": "x", "phase": "web_search", "function_call": {"arguments": {}}}"#, "Activity");
    check_delta(
        r#"{"content": "x", "phase": "answer", "role": "function"}"#,
        "Unknown { what: \"answer\" } | Activity",
    );
    check_delta(r#"{"content": "why", "status": "error"}"#, "! error: why None");
    check_delta(
        r#"{"phase": "image_gen", "content": "https://a/1 https://a/2\nftp://x"}"#,
        "Image { url: \"https://a/1\" } | Image { url: \"https://a/2\" } | Unknown { what: \"image\" }",
    );
    check_delta(
        r#"{"phase": "image_gen", "content": "https://a/1?key=a.b.<c d e=4> https://a/2"}"#,
        "Image { url: \"https://a/1?key=a.b.<c d e=4>\" } | Image { url: \"https://a/2\" }",
    );
}

#[test]
fn extras() {
    let summary = |extra: &str, expected: &str| {
        check_delta(&format!("{{\"phase\": \"thinking_summary\", \"extra\": {extra}}}"), expected);
    };
    summary(
        r#"{"summary_title": {"content": ["T"]}, "summary_thought": {"content": ["t"]}, "web_search_info": 5, "x": {}}"#,
        r#"Reasoning "**T**\n\nt""#,
    );
    summary(r#"{"summary_title": 5, "summary_thought": {"content": ["t"]}}"#, "Reasoning \"t\"");
    summary(r#"{"summary_title": ["T"], "summary_thought": "t"}"#, r#"Reasoning "**T**\n\nt""#);
    summary(
        r#"{"summary_title": {"content": [null, "U"]}, "summary_thought": {"content": ["t", null]}}"#,
        "Reasoning \"t\"",
    );
    summary(r#"{"summary_title": {"content": {"content": {}}}}"#, "");
    summary("[1]", "");
    check_delta(r#"{"phase": "thinking_summary", "content": "t"}"#, "Reasoning \"t\"");
    let search = |extra: &str, expected: &str| {
        check_delta(&format!("{{\"phase\": \"web_search\", \"role\": \"function\", \"extra\": {extra}}}"), expected);
    };
    let page = |n: u32, title: &str| format!(r#"Source(Source {{ url: "http://{n}", title: "{title}" }}) | "#);
    let hits = r#"{"web_search_info": [{"url": "http://1", "title": null}, {"url": "http://2", "title": "T", "date": 5}], "tool_result": null}"#;
    search(hits, &format!("{}{}Activity", page(1, "http://1"), page(2, "T")));
    search(
        r#"{"tool_result": {"docs": [{"url": "http://1", "title": " "}]}, "web_search_info": {"docs": []}}"#,
        &format!("{}Activity", page(1, "http://1")),
    );
    search(
        r#"{"tool_result": [{"url": "http://1", "title": 5}], "web_search_info": "x"}"#,
        &format!("{}Activity", page(1, "http://1")),
    );
    search(
        r#"{"image_list": ["https://a/1", {"image": "https://a/2"}, {"image": null}, 5]}"#,
        "Image { url: \"https://a/1\" } | Image { url: \"https://a/2\" } | Activity",
    );
    for extra in [
        "null",
        "5",
        "[]",
        "\"x\"",
        "{}",
        r#"{"web_search_info": null, "tool_result": {"docs": null}, "image_list": {}}"#,
    ] {
        search(extra, "Activity");
    }
}

#[test]
fn answers_side_by_side() {
    let started = |id: &str| format!("Started {{ response_id: {id:?} }}");
    check(&[A, A, A_SAYS, END], &format!("{} | Text \"a\" | Finished", started("A")));
    check(&[A, B, B_SAYS, A_SAYS, B_SAYS, END], &format!("{} | Text \"a\" | Finished", started("A")));
    check(&[B, A, B_SAYS, A_SAYS], &format!("{} | {} | Text \"a\"", started("B"), started("A")));
    check(&[B, B_SAYS, A, A_SAYS, END], &format!("{} | Text \"b\" | Finished", started("B")));
    check(&[B_SAYS, END], &format!("{} | Text \"b\" | Finished", started("B")));
    check(&[A, B_SAYS, A_SAYS, END], &format!("{} | {} | Text \"b\" | Finished", started("A"), started("B")));
    check(
        &[A, A_SAYS, r#"{"error": "other", "response_id": "B"}"#, END],
        &format!("{} | Text \"a\" | Finished", started("A")),
    );
    for index in ["0", "\"0\"", "\"\\u0030\"", "null", "{}"] {
        let created = format!(r#"{{"response.created": {{"response_id": "A", "response_index": {index}}}}}"#);
        check(&[B, &created, B_SAYS, A_SAYS], &format!("{} | {} | Text \"a\"", started("B"), started("A")));
    }
    let numbered = r#"{"response.created": {"response_id": 7, "response_index": 1}, "choices": [{"delta": {"content": "y"}}], "response_id": 7}"#;
    check(&[numbered], &format!("{} | Text \"y\"", started("7")));
    check(&[r#"{"response.created": true, "choices": [{"delta": {"content": "y"}}]}"#], "Text \"y\"");
    check(&[r#"{"response.created": {"response_id": null}}"#], "");
    check(&[r#"{"choices": [{"delta": {"content": "y"}}], "response_id": {"x": 1}}"#], "Text \"y\"");
}

#[test]
fn ends() {
    check(&[END], "! Empty");
    check(&["[DONE]"], "! Empty");
    check(&[A_SAYS, "[DONE]"], "Started { response_id: \"A\" } | Text \"a\" | ! Truncated");
    check(&[A_SAYS, END, END, A_SAYS, "[DONE]", "{"], "Started { response_id: \"A\" } | Text \"a\" | Finished");
    check(&[&format!("{A_SAYS}\n{END}\n[DONE]")], "Started { response_id: \"A\" } | Text \"a\" | Finished");
    check(&[&format!("{A_SAYS} [DONE]")], "Started { response_id: \"A\" } | Text \"a\" | ! Truncated");
    check(
        &["true", "", " ", "null", "[1]", "ping"],
        "Activity | Unknown { what: \"scalar\" } | Unknown { what: \"scalar\" } | Unknown { what: \"scalar\" }",
    );
    check(&[r#"{"choices": [{"delta""#], "! Json");
    check(&["{]"], "! Json");
}

#[test]
fn errors() {
    check(&[r#"{"error": "Internal error!"}"#], "! error: Internal error! None");
    check(&[r#"{"error": "no", "code": "RateLimited"}"#], "! RateLimited: no None");
    check(&[r#"{"error": {"code": "x", "message": "m", "num": "6"}}"#], "! x: m Some(6)");
    check(&[r#"{"error": {"code": 500, "details": ["a"], "num": 1.5}}"#], "! 500: [\"a\"] Some(2)");
    check(&[r#"{"error": {"details": null}}"#], "! error:  None");
    check(&[r#"{"error": 7}"#], "! error: 7 None");
    for none in ["null", "false", "{}", "\"\"", "0"] {
        check(&[&format!(r#"{{"error": {none}, "choices": [{{"delta": {{"content": "y"}}}}]}}"#)], "Text \"y\"");
    }
    check(&[r#"{"success": false}"#], "! error:  None");
    check(&[r#"{"success": "false", "data": {"code": "c", "details": "d", "num": -1}}"#], "! c: d None");
    check(&[r#"{"success": false, "data": "x", "code": "Unauthorized", "details": "d"}"#], "! Unauthorized: d None");
    check(
        &[r#"{"success": false, "data": {"details": "d", "num": 3}, "code": "RateLimited"}"#],
        "! RateLimited: d Some(3)",
    );
    check(&[r#"{"code": "Unauthorized", "details": "d"}"#], "! Unauthorized: d None");
    check(&[r#"{"success": true, "data": {}}"#], "Unknown { what: \"frame\" }");
    check(&[r#"{"ret": ["FAIL_SYS_USER_VALIDATE"]}"#], "! Challenged");
    check(&[r#"{"ret": "RGV587_ERROR"}"#], "! Challenged");
    check(&[r#"{"ret": ["SUCCESS"]}"#], "Unknown { what: \"frame\" }");
}

#[test]
fn counts() {
    let check = |usage: &str, expected: Option<(u64, u64, u64, u64)>| {
        let mut decoder = QwenReplyDecoder::new();
        let frame = format!(r#"{{"choices": [], "usage": {usage}}}"#);
        decoder.push(frame.as_bytes(), &mut |_| ()).unwrap();
        let counts = decoder.usage().map(|counts| (counts.prompt, counts.completion, counts.reasoning, counts.cached));
        assert_eq!(counts, expected, "{usage}");
    };
    check("null", None);
    check("{}", None);
    check("{ }", None);
    check("5", None);
    check(r#"{"input_tokens": 5, "output_tokens": 7}"#, Some((5, 7, 0, 0)));
    check(
        r#"{"input_tokens": "5", "output_tokens": 7.0, "output_tokens_details": {"reasoning_tokens": "2"}}"#,
        Some((5, 7, 2, 0)),
    );
    check(
        r#"{"input_tokens": null, "output_tokens": 7, "output_tokens_details": null, "prompt_tokens_details": []}"#,
        Some((0, 7, 0, 0)),
    );
    check(
        r#"{"input_tokens": 5, "output_tokens": 1, "output_tokens_details": {"reasoning_tokens": 9}, "cached_tokens": 3}"#,
        Some((5, 1, 1, 3)),
    );
    check(r#"{"input_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}"#, Some((5, 0, 0, 5)));
    check(
        r#"{"input_tokens": -5, "output_tokens": 1e300, "prompt_tokens_details": {"cached_tokens": "x"}}"#,
        Some((0, 0, 0, 0)),
    );
}

#[test]
fn a_broken_character_costs_one_character() {
    let mut decoder = QwenReplyDecoder::new();
    let mut events = Vec::new();
    let frame = b"{\"choices\": [{\"delta\": {\"content\": \"a\xffb\"}}]}";
    decoder.push(frame, &mut |event| events.push(described(&event))).unwrap();
    assert_eq!(events, ["Text \"a\u{fffd}b\""]);
}

#[test]
fn halves_of_characters() {
    let say = |phase: &str, literal: &str| {
        format!(r#"{{"choices": [{{"delta": {{"phase": "{phase}", "content": {literal}}}}}]}}"#)
    };
    check(
        &[&say("answer", r#""a\ud83d""#), &say("answer", "\"\""), &say("answer", r#""\ude42b""#)],
        "Text \"a\" | Text \"\u{1f642}b\"",
    );
    check(&[&say("answer", r#""a\ud83d""#), &say("answer", "\"b\"")], "Text \"a\" | Text \"\u{fffd}b\"");
    check(&[&say("think", r#""a\ud83d""#), &say("answer", "\"b\"")], "Reasoning \"a\" | Text \"b\"");
    check(&[&say("answer", r#""\\ud83d""#)], "Text \"\\\\ud83d\"");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof!["answer", "thinking_summary", "web_search", "finished", "function", "A", ".{0,8}"]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof!["content", "docs", "url", "title", "code", "details", "delta", "[a-z]{1,3}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let line = [b"data: {\"choices\": [{\"delta\": {\"content\": \"", bytes.as_slice(), b"\"}}]}\n\n"].concat();
        let job = job(&json!({}));
        answer(&[&bytes, b"\n\n", &line, &line], &job).chunks();
    }

    #[test]
    fn any_value_anywhere(
        place in prop::sample::select(vec![
            "/choices", "/choices/0", "/choices/0/delta", "/choices/0/delta/role", "/choices/0/delta/content",
            "/choices/0/delta/phase", "/choices/0/delta/status", "/choices/0/delta/extra", "/choices/0/delta/function_call",
            "/response_id", "/usage", "/timestamp", "/success", "/data", "/code", "/details", "/ret", "/error",
            "/response.created", "/response.info", "/choices/0/delta/extra/summary_title",
            "/choices/0/delta/extra/summary_thought", "/choices/0/delta/extra/web_search_info",
            "/choices/0/delta/extra/tool_result", "/choices/0/delta/extra/image_list", "/response.created/response_index",
        ]),
        phase in prop::sample::select(vec!["answer", "think", "thinking_summary", "web_search", "image_gen", "odd"]),
        value in any_json(),
    ) {
        let mut frame = json!({
            "choices": [{"delta": {"role": "assistant", "content": "y", "phase": phase, "status": "typing", "function_call": null,
                "extra": {"summary_title": null, "summary_thought": null, "web_search_info": null, "tool_result": null, "image_list": null}}}],
            "response_id": "A", "usage": null, "timestamp": 1, "success": true, "data": null, "code": null, "details": null,
            "ret": null, "error": null, "response.created": {"response_index": "0"}, "response.info": null,
        });
        *frame.pointer_mut(place).unwrap() = value;
        let stream = format!("data: {A}\n\ndata: {frame}\n\ndata: {A_SAYS}\n\ndata: {END}\n\n");
        let answer = answer(&[stream.as_bytes()], &job(&json!({})));
        answer.chunks();
        if place.ends_with("usage") || place.ends_with("timestamp") || place.ends_with("response.info") {
            prop_assert_eq!(answer.outcome, Ok(()));
        }
    }
}

#[test]
fn a_stopped_answer_is_not_complete() {
    let inside = r#"{"response.stopped": {"response_id": "A"}}"#;
    let beside = r#"{"response.stopped": {}, "response_id": "A"}"#;
    let other = r#"{"response.stopped": {"response_id": "B"}}"#;
    for stopped in [inside, beside] {
        check(&[A, A_SAYS, stopped, END], "Started { response_id: \"A\" } | Text \"a\" | Activity | ! Truncated");
    }
    check(&[A, A_SAYS, other, END], "Started { response_id: \"A\" } | Text \"a\" | Activity | Finished");
}

#[test]
fn a_challenge_in_a_frame() {
    for frame in [
        r#"{"code":0,"dt":"success","ec":200,"result":{"code":0,"sig":"from bx"},"success":true}"#,
        r#"{"sig":"from bx","choices":[]}"#,
        r#"{"data":{"code":"FAIL_SYS_USER_VALIDATE"},"success":true}"#,
        r#"{"ret":["RGV587_ERROR::SM::x"],"data":{"url":"https://x.example/_____tmd_____/punish"}}"#,
    ] {
        check(&[frame], "! Challenged");
        check(&[A, A_SAYS, frame], "Started { response_id: \"A\" } | Text \"a\" | ! Challenged");
    }
    check(&[r#"{"success":true,"data":{"id":"from bx"}}"#], "Unknown { what: \"frame\" }");
    // The model's text is an answer, even with such words in it.
    check_delta(r#"{"content": "FAIL_SYS_USER_VALIDATE from bx"}"#, "Text \"FAIL_SYS_USER_VALIDATE from bx\"");
}

#[test]
fn an_answer_that_is_a_bare_link_to_a_picture() {
    let says = |text: &str| format!(r#"{{"choices": [{{"delta": {{"content": "{text}", "phase": "answer"}}}}]}}"#);
    let picture = |url: &str| format!("Image {{ url: \"{url}\" }}");
    let (made, other) = ("https://cdn.qwenlm.ai/output/u/t2i/a.png?key=ey", "https://cdn.qwenlm.ai/output/u/b");
    check(&[&says(made), END], &format!("{} | Finished", picture(made)));
    let (begin, rest) = made.split_at(20);
    check(
        &[&says("htt"), &says(begin.trim_start_matches("htt")), &says(rest), END],
        &format!("{} | Finished", picture(made)),
    );
    check(&[&says(&format!("{made}\\n{other}")), END], &format!("{} | {} | Finished", picture(made), picture(other)));
    // Text beside links, and links to other hosts, stay text.
    check(&[&says("ht"), &says("ml is a format"), END], "Text \"ht\" | Text \"ml is a format\" | Finished");
    check(&[&says("\\n\\n"), &says("Hi"), END], "Text \"\\n\\n\" | Text \"Hi\" | Finished");
    let about = format!("{made} shows a cat");
    check(&[&says(made), &says(" shows a cat"), END], &format!("Text {made:?} | Text \" shows a cat\" | Finished"));
    check(&[&says(&about), END], &format!("Text {about:?} | Finished"));
    for elsewhere in ["https://cdn.qwenlm.ai/a.mp4", "https://cdn.qwenlm.ai/", "https://x.example/a.png"] {
        check(&[&says(elsewhere), END], &format!("Text {elsewhere:?} | Finished"));
    }
    // Half a character behind what may become a link.
    check(&[&says("h\\ud83d"), &says("\\ude00"), END], "Text \"h\" | Text \"😀\" | Finished");
    // A link that was cut does not count as an answer.
    check(&[&says("https://cdn.qwenlm.ai/a.p"), "[DONE]"], "! Truncated");
}
