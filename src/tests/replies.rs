//! Events into OpenAI's answers: places of thoughts, long text, counts, citations, limits.

use serde_json::{Value, json};

use crate::chat::reply::{FinishReason, ReplyEvent, ReplySink, Source, Text, TokenCounts};
use crate::chat::stages::Stages;
use crate::dialect::openai::reply::{CallForm, ChunkEncoder, ChunkStream, WholeReply, encode_error};
use crate::dialect::openai::wire::{ErrorBody, ErrorDetail};
use crate::dialect::writer::StreamWriter as _;

use super::job;

/// The deltas of the stream between the role and the end, as JSON, and the last two chunks' ending.
fn run(more: Value, events: &[ReplyEvent<'_>], counts: Option<TokenCounts>) -> (Vec<Value>, String, Value) {
    let mut stages = Stages::new(&job(&more));
    let mut stream = ChunkStream::new(ChunkEncoder::new("chatcmpl-1", 7, "m", true));
    let mut whole = WholeReply::of_events(CallForm::ToolCalls);
    let mut show = |event: ReplyEvent<'_>| {
        stream.event(super::again(&event));
        whole.event(event);
    };
    for event in events {
        stages.push(super::again(event), &mut show);
    }
    let ending = stages.finish(FinishReason::Stop, counts, &mut show);
    stream.finish(&ending);
    let bytes = [stream.head().unwrap(), stream.take().unwrap()].concat();
    assert!(stream.take().is_none());
    let text = str::from_utf8(&bytes).unwrap();
    let mut lines: Vec<&str> = text.split_terminator("\n\n").map(|line| line.strip_prefix("data: ").unwrap()).collect();
    assert!(lines.iter().all(|line| line.len() < 64 * 1024 - 6), "no line is over 64 KiB");
    assert_eq!(lines.pop(), Some("[DONE]"));
    let chunks: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [role, middle @ .., end, usage] = chunks.as_slice() else { panic!("{text}") };
    assert_eq!(role["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(end["choices"][0]["delta"], json!({}));
    assert_eq!(usage["choices"], json!([]));
    let reason = end["choices"][0]["finish_reason"].as_str().unwrap().to_owned();
    let whole: Value = serde_json::from_slice(&whole.finish("i", 7, "m", &ending)).unwrap();
    assert_eq!(whole["choices"][0]["finish_reason"], reason.as_str());
    assert_eq!(whole["usage"], usage["usage"], "streamed and whole agree");
    (middle.iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect(), reason, whole)
}

fn say(text: &str) -> ReplyEvent<'_> {
    ReplyEvent::Text(Text::Plain(text))
}

fn think(text: &str) -> ReplyEvent<'_> {
    ReplyEvent::Reasoning(Text::Plain(text))
}

/// The whole answer as `reasoning / content`; the stream has to be equal.
fn check(more: Value, events: &[ReplyEvent<'_>], expected: &str) {
    let (deltas, reason, whole) = run(more, events, None);
    let joined = |field: &str| deltas.iter().filter_map(|delta| delta[field].as_str()).collect::<String>();
    let streamed = format!("{} / {}", joined("reasoning_content"), joined("content"));
    let message = &whole["choices"][0]["message"];
    let reasoning = message["reasoning_content"].as_str().unwrap_or_default();
    assert_eq!(streamed, format!("{reasoning} / {}", message["content"].as_str().unwrap()));
    assert_eq!(format!("{streamed} / {reason}"), expected);
    assert!(deltas.iter().all(|delta| delta["content"] != ""), "no piece is empty: {deltas:?}");
}

#[test]
fn places_of_thoughts() {
    check(json!({}), &[think("a"), think("b"), say("c"), say("d")], "ab / cd / stop");
    check(json!({}), &[think("a"), say("c"), think("late"), say("d")], "a / cd / stop");
    check(json!({"reasoning_format": "hidden"}), &[think("a"), say("c")], " / c / stop");
    check(
        json!({"reasoning_format": "raw"}),
        &[think("a"), think("b"), say("c")],
        " / <think>\nab\n</think>\n\nc / stop",
    );
    check(json!({"reasoning_format": "raw"}), &[think("a")], " / <think>\na\n</think> / stop");
    check(json!({"reasoning_format": "raw"}), &[say("c")], " / c / stop");
    let (deltas, ..) = run(json!({}), &[think("a"), say("c")], None);
    assert_eq!(deltas, [json!({"content": null, "reasoning_content": "a"}), json!({"content": "c"})]);
}

#[test]
fn pictures() {
    let image = |url| ReplyEvent::Image { url };
    check(json!({}), &[image("u"), image("v")], " / ![image](u)\n\n![image](v) / stop");
    check(json!({}), &[say("a"), image("u"), say("b"), say("c")], " / a\n\n![image](u)\n\nbc / stop");
    check(
        json!({"reasoning_format": "raw"}),
        &[think("a"), image("u")],
        " / <think>\na\n</think>\n\n![image](u) / stop",
    );
}

#[test]
fn limits() {
    check(json!({"stop": "END"}), &[think("END"), say("a E"), say("ND b")], "END / a  / stop");
    check(json!({"stop": "END"}), &[say("a EN")], " / a EN / stop");
    check(json!({"max_tokens": 1}), &[think("thoughts are free"), say("one two")], "thoughts are free / one  / length");
    check(json!({"max_tokens": 1}), &[ReplyEvent::Text(Text::Literal(r#""\u4f60\u597d""#))], " / 你 / length");
}

#[test]
fn long_text_comes_in_lines_that_clients_can_read() {
    for unit in ["x", "世", "\u{1f600}", "\u{1}", "\"", "a世"] {
        let text = unit.repeat(100_000 / unit.len());
        let literal = serde_json::to_string(&text).unwrap();
        for event in [ReplyEvent::Text(Text::Plain(&text)), ReplyEvent::Text(Text::Literal(&literal)), think(&text)] {
            let (deltas, ..) = run(json!({}), &[event], None);
            let field = if deltas[0]["content"].is_null() { "reasoning_content" } else { "content" };
            let joined: String = deltas.iter().map(|delta| delta[field].as_str().unwrap()).collect();
            assert_eq!(joined, text);
        }
    }
}

#[test]
fn usage() {
    let check = |more: Value, events: &[ReplyEvent<'_>], counts: Option<(u64, u64, u64, u64)>, expected: [u64; 5]| {
        let counts =
            counts.map(|(prompt, completion, reasoning, cached)| TokenCounts { prompt, completion, reasoning, cached });
        let usage = &run(more, events, counts).2["usage"];
        let found = [
            &usage["prompt_tokens"],
            &usage["completion_tokens"],
            &usage["total_tokens"],
            &usage["completion_tokens_details"]["reasoning_tokens"],
            &usage["prompt_tokens_details"]["cached_tokens"],
        ];
        assert_eq!(found.map(|count| count.as_u64().unwrap()), expected);
    };
    let events = [think("two words"), say("word")];
    check(json!({}), &events, Some((100, 20, 5, 9)), [100, 20, 120, 5, 9]);
    check(json!({}), &events, Some((100, 20, 0, 0)), [100, 20, 120, 2, 0]);
    check(json!({}), &events, Some((0, 0, 0, 0)), [1, 3, 4, 2, 0]);
    check(json!({}), &events, None, [1, 3, 4, 2, 0]);
    check(json!({}), &events, Some((4, 2, 9, 9)), [4, 2, 6, 2, 4]);
    check(json!({}), &[say("x")], None, [1, 1, 2, 0, 0]);
    // Cut by us: the upstream goes on counting what the caller does not get.
    check(json!({"stop": "d"}), &events, Some((100, 20, 5, 0)), [100, 6, 106, 5, 0]);
}

#[test]
fn citations() {
    let source = |url: &str| ReplyEvent::Source(Source { url: url.to_owned(), title: format!("T{url}") });
    let check = |more: Value, text: &str, urls: &[&str], expected: &str| {
        let mut events: Vec<ReplyEvent<'_>> = urls.iter().map(|url| source(url)).collect();
        events.extend(text.split('|').map(say));
        let (deltas, _, whole) = run(more, &events, None);
        let streamed = deltas.iter().find_map(|delta| delta["annotations"].as_array()).cloned().unwrap_or_default();
        let message = &whole["choices"][0]["message"];
        let plain = message["annotations"].as_array().cloned().unwrap_or_default();
        assert_eq!(message.get("annotations").is_some(), !plain.is_empty(), "no empty list");
        let mut words = Vec::new();
        for (place, (streamed, plain)) in streamed.iter().zip(&plain).enumerate() {
            assert_eq!((&streamed["index"], plain.get("index")), (&json!(place), None));
            assert_eq!(streamed["url_citation"], plain["url_citation"]);
            let citation = &plain["url_citation"];
            words.push(format!(
                "{}-{} {}",
                citation["start_index"],
                citation["end_index"],
                citation["url"].as_str().unwrap()
            ));
        }
        assert_eq!(streamed.len(), plain.len());
        assert_eq!(words.join(", "), expected, "{text} {urls:?}");
    };
    let search = || json!({"enable_search": true});
    check(search(), "a[[1]] [|[2]|].", &["u", "v"], "1-6 u, 7-12 v");
    check(search(), "世[[2]][[1]]", &["u", "v"], "1-6 v, 6-11 u");
    check(search(), "[[[1]] [[1[[2]] [1] [[]] [[x]] [[0]] [[9]]", &["u", "v"], "1-6 u, 10-15 v");
    check(search(), "no marks", &["u", "u", ""], "8-8 u");
    check(search(), "[[3]]", &["u", "", "u"], "0-5 u");
    check(search(), "[[2]]", &["u", ""], "5-5 u");
    check(search(), "[[99999999999999999999]]", &["u"], "24-24 u");
    check(search(), "x", &[], "");
    check(json!({}), "x [[1]]", &["u", "v"], "0-0 u, 0-0 v");
}

#[test]
fn another_attempt_begins_anew() {
    let mut stream = ChunkStream::new(ChunkEncoder::new("i", 7, "m", false));
    stream.event(say("gone"));
    stream.reset();
    assert!(stream.take().is_none(), "nothing of it is left");
    stream.event(say("x"));
    let bytes = stream.take().unwrap();
    assert!(!str::from_utf8(&bytes).unwrap().contains("gone"));
    let mut whole = WholeReply::of_events(CallForm::ToolCalls);
    whole.event(say("gone"));
    whole.reset();
    whole.event(say("b"));
    let ending = Stages::new(&job(&json!({}))).finish(FinishReason::Stop, None, &mut |_| {});
    let whole: Value = serde_json::from_slice(&whole.finish("i", 7, "m", &ending)).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "b");
}

#[test]
fn a_stop_sequence_ends_the_answer_at_once() {
    let mut stages = Stages::new(&job(&json!({"stop": "x"})));
    stages.push(say("a"), &mut |_| {});
    assert_eq!(stages.ended(), None);
    stages.push(say("bx"), &mut |_| {});
    assert_eq!(stages.ended(), Some(FinishReason::Stop));
}

#[test]
fn one_estimate_serves_the_limit_and_the_counts() {
    let text = "字".repeat(2000);
    let (_, reason, whole) = run(json!({"max_tokens": 1000}), &[say(&text)], None);
    assert_eq!((reason.as_str(), &whole["usage"]["completion_tokens"]), ("length", &json!(1000)));
}

#[test]
fn what_the_upstream_counts_is_not_estimated() {
    let counted = |completion| TokenCounts { prompt: 7, completion, reasoning: 0, cached: 0 };
    let usage = |more: Value, last: Option<TokenCounts>| {
        let mut stages = Stages::new(&job(&more));
        stages.push(say("one "), &mut |_| {});
        assert!(!stages.is_counted());
        stages.note_counts(counted(2));
        stages.push(say("two three four"), &mut |_| {});
        assert!(stages.is_counted());
        let ending = stages.finish(FinishReason::Stop, last, &mut |_| {});
        (ending.usage.completion, ending.is_usage_estimated)
    };
    assert_eq!(usage(json!({}), Some(counted(9))), (9, false));
    // Counts that are lost on the way: at least what was known of them.
    assert_eq!(usage(json!({}), Some(counted(0))), (2, true));
    // The upstream does not count what is cut here.
    assert_eq!(usage(json!({"max_tokens": 3}), Some(counted(9))), (3, true));
}

#[test]
fn tool_calls_in_pieces_and_whole() {
    let events = [
        say("Let me look."),
        ReplyEvent::ToolCall { index: 0, id: "call_1", name: "ls" },
        ReplyEvent::ToolArguments { index: 0, json: "{\"path\":" },
        ReplyEvent::ToolArguments { index: 0, json: "\".\"}" },
        ReplyEvent::ToolCallDone { index: 0 },
        ReplyEvent::ToolCall { index: 1, id: "call_2", name: "pwd" },
        ReplyEvent::ToolArguments { index: 1, json: "{}" },
    ];
    let (deltas, _, whole) = run(json!({}), &events, None);
    let pieces: Vec<&Value> = deltas.iter().filter_map(|delta| delta["tool_calls"].get(0)).collect();
    assert_eq!(
        pieces,
        [
            &json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "ls", "arguments": ""}}),
            &json!({"index": 0, "function": {"arguments": "{\"path\":"}}),
            &json!({"index": 0, "function": {"arguments": "\".\"}"}}),
            &json!({"index": 1, "id": "call_2", "type": "function", "function": {"name": "pwd", "arguments": ""}}),
            &json!({"index": 1, "function": {"arguments": "{}"}}),
        ]
    );
    assert_eq!(
        whole["choices"][0]["message"]["tool_calls"],
        json!([
            {"id": "call_1", "type": "function", "function": {"name": "ls", "arguments": "{\"path\":\".\"}"}},
            {"id": "call_2", "type": "function", "function": {"name": "pwd", "arguments": "{}"}},
        ])
    );
    let (.., silent) = run(json!({}), &events[1..], None);
    assert_eq!(silent["choices"][0]["message"]["content"], Value::Null);
}

#[test]
fn without_usage_no_chunk_lacks_choices() {
    let mut stream = ChunkStream::new(ChunkEncoder::new("i", 7, "m \"q\"", false));
    let head = stream.head().unwrap();
    stream.event(say("x"));
    let ending = Stages::new(&job(&json!({}))).finish(FinishReason::ContentFilter, None, &mut |_| {});
    stream.finish(&ending);
    let error = ErrorDetail { message: "m", kind: "server_error", param: None, code: Some("c"), message_zh: None };
    let mut out = bytes::BytesMut::new();
    encode_error(&ErrorBody { error, request_id: None }, &mut out);
    let text = [head, stream.take().unwrap(), out.freeze()].concat();
    insta::assert_snapshot!(str::from_utf8(&text).unwrap());
}
