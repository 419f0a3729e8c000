//! Reply events into the events of the Responses dialect: order, items, resets.

use serde_json::{Value, json};

use crate::chat::reply::{Citation, Ending, FinishReason, ReplyEvent, ReplySink as _, Source, Text, TokenCounts};
use crate::dialect::responses::reply::{ResponseHead, ResponseReply};
use crate::dialect::responses::request::ResponsesRequest;

fn head(freeform: &[&str]) -> ResponseHead {
    let request = ResponsesRequest::parse(&json!({"input": "x"}), &[], &[]).unwrap();
    ResponseHead {
        id: format!("resp_{}", "0".repeat(32)),
        created_at: 1,
        model: "m".to_owned(),
        echo: request.echo,
        freeform: freeform.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn ending(reason: FinishReason) -> Ending {
    let usage = TokenCounts { prompt: 1, completion: 2, reasoning: 0, cached: 0 };
    Ending { reason, stop_sequence: None, usage, is_usage_estimated: false, sources: Vec::new(), citations: Vec::new() }
}

/// The events, one a line: name, place, and what is said.
fn outline(bytes: &[u8]) -> String {
    let text = str::from_utf8(bytes).unwrap();
    let events = text.split_terminator("\n\n").map(|event| {
        let data: Value = serde_json::from_str(event.split_once("data: ").unwrap().1).unwrap();
        let name = data["type"].as_str().unwrap().strip_prefix("response.").unwrap().to_owned();
        let said = ["delta", "text", "arguments", "input", "refusal", "annotation", "part", "item"];
        let said = said.iter().find_map(|key| data.get(*key)).map(|said| match said {
            Value::Object(map) => {
                let mut map = map.clone();
                map.retain(|key, _| !["id", "logprobs", "role"].contains(&key.as_str()));
                format!(" {}", Value::Object(map))
            }
            other => format!(" {other}"),
        });
        let place = data["output_index"].as_u64().map_or(String::new(), |index| format!(" {index}"));
        format!("{} {name}{place}{}\n", data["sequence_number"], said.unwrap_or_default())
    });
    events.collect()
}

fn streamed(freeform: &[&str], events: &[ReplyEvent<'_>], reason: FinishReason) -> String {
    let mut reply = ResponseReply::streamed(head(freeform));
    reply.head();
    for event in events {
        reply.event(copy(event));
    }
    reply.finish(&ending(reason));
    outline(&reply.take().unwrap())
}

fn copy<'a>(event: &ReplyEvent<'a>) -> ReplyEvent<'a> {
    match event {
        ReplyEvent::Text(text) => ReplyEvent::Text(*text),
        ReplyEvent::Reasoning(text) => ReplyEvent::Reasoning(*text),
        ReplyEvent::Refusal(text) => ReplyEvent::Refusal(*text),
        ReplyEvent::ToolCall { index, id, name } => ReplyEvent::ToolCall { index: *index, id, name },
        ReplyEvent::ToolArguments { index, json } => ReplyEvent::ToolArguments { index: *index, json },
        ReplyEvent::ToolCallDone { index } => ReplyEvent::ToolCallDone { index: *index },
        _ => ReplyEvent::Activity,
    }
}

const fn text(text: &str) -> ReplyEvent<'_> {
    ReplyEvent::Text(Text::Plain(text))
}

const fn call<'a>(index: u32, id: &'a str, name: &'a str) -> ReplyEvent<'a> {
    ReplyEvent::ToolCall { index, id, name }
}

const fn arguments(index: u32, json: &str) -> ReplyEvent<'_> {
    ReplyEvent::ToolArguments { index, json }
}

const fn done<'a>(index: u32) -> ReplyEvent<'a> {
    ReplyEvent::ToolCallDone { index }
}

#[test]
fn thoughts_text_and_calls() {
    let events = [
        ReplyEvent::Reasoning(Text::Plain("hm")),
        text("a"),
        ReplyEvent::Text(Text::Literal(r#""\"b\"""#)),
        call(0, "c0", "f"),
        arguments(0, "{\"x\":"),
        arguments(0, "1}"),
        done(0),
        call(1, "", "g"),
        done(1),
        ReplyEvent::Refusal(Text::Plain("no")),
    ];
    insta::assert_snapshot!(streamed(&[], &events, FinishReason::ToolCalls));
}

#[test]
fn calls_beside_each_other() {
    let events = [
        call(0, "c0", ""),
        call(0, "", "f"),
        call(1, "c1", "patch"),
        arguments(1, "{\"inp"),
        arguments(0, "{}"),
        arguments(1, "ut\":\"a\\nb\"}"),
        done(0),
        done(1),
        arguments(1, "late"),
        call(300, "c300", "too many"),
    ];
    insta::assert_snapshot!(streamed(&["patch"], &events, FinishReason::ToolCalls));
}

#[test]
fn what_is_cut_is_incomplete() {
    insta::assert_snapshot!(streamed(&[], &[text("a"), call(0, "c", "f"), arguments(0, "{\"x")], FinishReason::Length));
}

#[test]
fn a_long_text_goes_in_several_deltas() {
    let long = "ü\"".repeat(10_000);
    let mut reply = ResponseReply::streamed(head(&[]));
    reply.event(text(&long));
    let bytes = reply.take().unwrap();
    let lines: Vec<&str> = str::from_utf8(&bytes).unwrap().lines().collect();
    assert!(lines.iter().all(|line| line.len() < 64 * 1024));
    let deltas: String = lines
        .iter()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str::<Value>(data).unwrap()["delta"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(deltas, long);
}

#[test]
fn another_attempt_begins_again_after_the_head() {
    let mut reply = ResponseReply::streamed(head(&[]));
    let first = reply.head();
    assert!(outline(&first).starts_with("0 created\n1 in_progress\n"), "{}", outline(&first));
    reply.event(text("lost"));
    reply.event(call(0, "c", "f"));
    assert!(reply.held_bytes() > 0);
    reply.reset();
    assert_eq!((reply.held_bytes(), reply.take()), (0, None));
    reply.event(text("kept"));
    let json = reply.finish(&ending(FinishReason::Stop)).json.clone();
    let events = outline(&reply.take().unwrap());
    assert!(events.starts_with("2 output_item.added 0"), "{events}");
    let response: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(response["output"].as_array().unwrap().len(), 1);
    assert_eq!(response["output"][0]["content"][0]["text"], "kept");
}

#[test]
fn streamed_and_whole_are_the_same_response() {
    let events = [
        ReplyEvent::Reasoning(Text::Plain("hm")),
        text("a"),
        call(0, "c0", "patch"),
        arguments(0, "{\"input\":\"p\"}"),
        done(0),
        call(1, "c1", "f"),
    ];
    let mut jsons = Vec::new();
    for mut reply in [ResponseReply::streamed(head(&["patch"])), ResponseReply::whole(head(&["patch"]))] {
        events.iter().for_each(|event| reply.event(copy(event)));
        jsons.push(reply.finish(&ending(FinishReason::ToolCalls)).json.clone());
    }
    assert_eq!(jsons[0], jsons[1]);
}

#[test]
fn citations_are_counted_from_the_beginning_of_their_message() {
    let source = |place: usize| Source { url: format!("https://e.org/{place}"), title: "T".to_owned() };
    let citations = vec![Citation { start: 1, end: 2, source: 0 }, Citation { start: 4, end: 7, source: 1 }];
    let mut reply = ResponseReply::whole(head(&[]));
    for event in [text("ünd"), call(0, "c", "f"), done(0), text("b[[2]]")] {
        reply.event(event);
    }
    let ending = Ending { sources: vec![source(1), source(2)], citations, ..ending(FinishReason::Stop) };
    let response: Value = serde_json::from_str(&reply.finish(&ending).json).unwrap();
    let annotation =
        json!({"type": "url_citation", "start_index": 1, "end_index": 4, "url": "https://e.org/2", "title": "T"});
    assert_eq!(response["output"][0]["content"][0]["annotations"], json!([]), "it ended before its sources were known");
    assert_eq!(response["output"][2]["content"][0]["annotations"], json!([annotation]));
}

#[test]
fn words_for_failures() {
    for (code, is_callers, word) in [
        ("rate_limit_exceeded", false, "rate_limit_exceeded"),
        ("server_busy", false, "rate_limit_exceeded"),
        ("insufficient_quota", false, "insufficient_quota"),
        ("context_length_exceeded", true, "context_length_exceeded"),
        ("content_filter", true, "invalid_prompt"),
        ("upstream_timeout", false, "server_error"),
        ("no_available_account", false, "server_error"),
    ] {
        let mut reply = ResponseReply::streamed(head(&[]));
        reply.event(text("a"));
        reply.event(call(0, "c", "f"));
        reply.event(call(1, "", ""));
        let failed = reply.fail(code, "Why.", is_callers).clone();
        assert_eq!(failed.status, "failed");
        let response: Value = serde_json::from_str(&failed.json).unwrap();
        let message = if word == code { "Why.".to_owned() } else { format!("Why. ({code})") };
        assert_eq!(response["error"], json!({"code": word, "message": message}));
        let output = response["output"].as_array().unwrap();
        let kinds: Vec<_> = output.iter().map(|item| (item["type"].as_str().unwrap(), &item["status"])).collect();
        let incomplete = json!("incomplete");
        // The text ended when the call began; a call without a name was never told of.
        assert_eq!(kinds, [("message", &json!("completed")), ("function_call", &incomplete)]);
        assert!(outline(&reply.take().unwrap()).ends_with(" failed\n"));
    }
}
