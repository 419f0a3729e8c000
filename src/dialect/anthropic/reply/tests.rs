//! Streams and whole messages of the same answers.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::chat::failure::{Failure, FailureKind};
use crate::chat::reply::{Ending, FinishReason, ReplyEvent, ReplySink, Source, Text, TokenCounts};
use crate::dialect::anthropic::reply::message::MessageHead;
use crate::dialect::anthropic::reply::stream::MessageStream;
use crate::dialect::anthropic::reply::whole::WholeMessage;
use crate::dialect::anthropic::request::SearchTool;
use crate::dialect::writer::StreamWriter;

fn head(search: bool) -> MessageHead {
    let tool = SearchTool { name: "web_search".to_owned(), query: "q".to_owned() };
    MessageHead { id: "msg_1".to_owned(), model: "m".to_owned(), prompt_tokens: 7, search: search.then_some(tool) }
}

fn ending(reason: FinishReason) -> Ending {
    let usage = TokenCounts { prompt: 9, completion: 4, reasoning: 1, cached: 5 };
    Ending { reason, stop_sequence: None, usage, is_usage_estimated: false, sources: Vec::new(), citations: Vec::new() }
}

fn text(text: &'static str) -> ReplyEvent<'static> {
    ReplyEvent::Text(Text::Plain(text))
}

fn call(index: u32, id: &'static str, name: &'static str) -> ReplyEvent<'static> {
    ReplyEvent::ToolCall { index, id, name }
}

fn arguments(index: u32, json: &'static str) -> ReplyEvent<'static> {
    ReplyEvent::ToolArguments { index, json }
}

/// The stream of an answer, each event in short, and the whole message, which has to be the sum of the stream.
fn write(events: impl Fn() -> Vec<ReplyEvent<'static>>, ending: &Ending, search: bool) -> (String, Value) {
    let mut stream = MessageStream::new(head(search));
    assert_eq!(stream.head(), None);
    events().into_iter().for_each(|event| stream.event(event));
    stream.finish(ending);
    let bytes = stream.take().unwrap();
    let (outline, mut streamed) = read(str::from_utf8(&bytes).unwrap());
    let mut whole = WholeMessage::default();
    events().into_iter().for_each(|event| whole.event(event));
    let whole: Value = serde_json::from_slice(&whole.finish(&head(search), ending)).unwrap();
    if let Some(content) = streamed["content"].as_array_mut() {
        content.iter_mut().filter_map(|block| block.as_object_mut()).for_each(|block| {
            block.remove("partial");
        });
    }
    assert_eq!(streamed, whole);
    (outline, whole)
}

/// Puts a message together as the SDKs do.
fn read(stream: &str) -> (String, Value) {
    let (mut outline, mut message) = (String::new(), Value::Null);
    for event in stream.split_terminator("\n\n") {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        assert_eq!(data["type"], name);
        let index = usize::try_from(data["index"].as_u64().unwrap_or(0)).unwrap();
        match name {
            "message_start" => {
                message = data["message"].clone();
                outline.push_str("start");
            }
            "content_block_start" => {
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(content.len(), index);
                content.push(data["content_block"].clone());
                write!(outline, " {}(", data["content_block"]["type"].as_str().unwrap()).unwrap();
            }
            "content_block_delta" => {
                let block = &mut message["content"][index];
                let delta = &data["delta"];
                let (key, piece) = match delta["type"].as_str().unwrap() {
                    "text_delta" => ("text", &delta["text"]),
                    "thinking_delta" => ("thinking", &delta["thinking"]),
                    "signature_delta" => ("signature", &delta["signature"]),
                    "input_json_delta" => ("partial", &delta["partial_json"]),
                    other => panic!("{other}"),
                };
                let sum = format!("{}{}", block[key].as_str().unwrap_or_default(), piece.as_str().unwrap());
                block[key] = sum.clone().into();
                if key == "partial" {
                    block["input"] = serde_json::from_str(&sum).unwrap_or_default();
                }
                write!(outline, "{},", piece.as_str().unwrap()).unwrap();
            }
            "content_block_stop" => outline.push(')'),
            "message_delta" => {
                for key in ["stop_reason", "stop_sequence"] {
                    message[key] = data["delta"][key].clone();
                }
                message["usage"] = data["usage"].clone();
                write!(outline, " {}", data["delta"]["stop_reason"].as_str().unwrap()).unwrap();
            }
            "message_stop" => outline.push_str(" stop"),
            other => panic!("{other}"),
        }
    }
    (outline, message)
}

#[test]
fn the_wire() {
    let mut stream = MessageStream::new(head(false));
    stream.event(ReplyEvent::Reasoning(Text::Plain("hm")));
    stream.event(ReplyEvent::Text(Text::Literal("\"a\\n\"")));
    stream.finish(&ending(FinishReason::Stop));
    insta::assert_snapshot!(str::from_utf8(&stream.take().unwrap()).unwrap(), @r#"
    event: message_start
    data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":7,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}}

    event: content_block_start
    data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"cXdlbi1icmlkZ2U="}}

    event: content_block_stop
    data: {"type":"content_block_stop","index":0}

    event: content_block_start
    data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

    event: content_block_delta
    data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a\n"}}

    event: content_block_stop
    data: {"type":"content_block_stop","index":1}

    event: message_delta
    data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":9,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":4}}

    event: message_stop
    data: {"type":"message_stop"}
    "#);
}

#[test]
fn texts_and_thoughts() {
    let (outline, _) = write(|| vec![text("a"), text("b")], &ending(FinishReason::Stop), false);
    assert_eq!(outline, "start text(a,b,) end_turn stop");
    let thoughts = || vec![ReplyEvent::Reasoning(Text::Plain("hm")), text("a")];
    let (outline, _) = write(thoughts, &ending(FinishReason::Length), false);
    assert_eq!(outline, "start thinking(hm,cXdlbi1icmlkZ2U=,) text(a,) max_tokens stop");
    let (outline, whole) = write(Vec::new, &ending(FinishReason::Stop), false);
    assert_eq!(outline, "start text() end_turn stop");
    assert_eq!(whole["content"], json!([{"type": "text", "text": ""}]));
    let (outline, _) = write(|| vec![ReplyEvent::Refusal(Text::Plain("no"))], &ending(FinishReason::Stop), false);
    assert_eq!(outline, "start text(no,) refusal stop");
}

#[test]
fn reasons() {
    let reason = |ending: &Ending| {
        let (_, whole) = write(|| vec![text("a")], ending, false);
        (whole["stop_reason"].as_str().unwrap().to_owned(), whole["stop_sequence"].clone())
    };
    let met = Ending { stop_sequence: Some("END".to_owned()), ..ending(FinishReason::Stop) };
    assert_eq!(reason(&met), ("stop_sequence".to_owned(), json!("END")));
    for (finish, word) in [
        (FinishReason::Stop, "end_turn"),
        (FinishReason::Length, "max_tokens"),
        (FinishReason::ContentFilter, "refusal"),
        (FinishReason::ToolCalls, "end_turn"),
    ] {
        assert_eq!(reason(&ending(finish)), (word.to_owned(), Value::Null));
    }
}

#[test]
fn calls_of_tools() {
    let done = |index| ReplyEvent::ToolCallDone { index };
    let one = || vec![text("I look."), call(0, "t1", "look"), arguments(0, "{\"a\":"), arguments(0, "1}"), done(0)];
    let (outline, whole) = write(one, &ending(FinishReason::ToolCalls), false);
    assert_eq!(outline, r#"start text(I look.,) tool_use({"a":,1},) tool_use stop"#);
    assert_eq!(whole["content"][1], json!({"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}}));
    // Some upstreams end all calls with the answer, or write them side by side.
    let mixed = || {
        vec![
            call(0, "t1", "look"),
            arguments(0, "{"),
            call(1, "", "see"),
            arguments(1, "{}"),
            arguments(0, "}"),
            text("late"),
            done(0),
            done(1),
        ]
    };
    let (outline, whole) = write(mixed, &ending(FinishReason::Stop), false);
    assert_eq!(outline, "start tool_use({,},) tool_use({},) text(late,) tool_use stop");
    assert_eq!(whole["content"][1]["id"], "toolu_11");
    // Without arguments, without an end, without a name.
    let odd = || vec![call(1, "t", "look"), call(2, "u", "")];
    let (outline, whole) = write(odd, &ending(FinishReason::ToolCalls), false);
    assert_eq!(outline, "start tool_use() tool_use stop");
    assert_eq!(whole["content"], json!([{"type": "tool_use", "id": "t", "name": "look", "input": {}}]));
    let mut cut = WholeMessage::default();
    cut.event(call(0, "t", "look"));
    cut.event(arguments(0, "{\"a\": [1, "));
    let cut: Value = serde_json::from_slice(&cut.finish(&head(false), &ending(FinishReason::Length))).unwrap();
    assert_eq!(
        (&cut["stop_reason"], &cut["content"][0]["input"]["arguments"]),
        (&json!("max_tokens"), &json!("{\"a\": [1, "))
    );
}

#[test]
fn pages_of_a_search() {
    let source = |url: &str, title: &str| Source { url: url.to_owned(), title: title.to_owned() };
    let sources = vec![source("https://e.org/(1)", "One [1]"), source("", "gone"), source("https://e.org/3", "3")];
    let found = Ending { sources, ..ending(FinishReason::Stop) };
    let (_, whole) = write(|| vec![text("a [[3]]")], &found, false);
    insta::assert_snapshot!(whole["content"][0]["text"].as_str().unwrap(), @r"
    a [[3]]

    Sources:
    1. [One  1](https://e.org/%281%29)
    3. [3](https://e.org/3)
    ");
    assert_eq!(whole["content"].as_array().unwrap().len(), 1);
    let (outline, whole) = write(|| vec![text("a")], &found, true);
    assert!(outline.contains(") server_tool_use() web_search_tool_result() end_turn stop"), "{outline}");
    let [_, used, result] = whole["content"].as_array().unwrap().as_slice() else { panic!("{whole}") };
    assert_eq!((&used["input"], &used["id"]), (&json!({"query": "q"}), &result["tool_use_id"]));
    assert_eq!(result["content"].as_array().unwrap().len(), 2);
    assert_eq!(whole["usage"]["server_tool_use"], json!({"web_search_requests": 1}));
    let (_, whole) = write(|| vec![text("a")], &ending(FinishReason::Stop), true);
    assert_eq!(whole["content"].as_array().unwrap().len(), 1);
}

#[test]
fn long_texts_are_more_events() {
    let mut stream = MessageStream::new(head(false));
    let long = "\u{1}é".repeat(9000);
    stream.event(ReplyEvent::Text(Text::Plain(&long)));
    stream.finish(&ending(FinishReason::Stop));
    let bytes = stream.take().unwrap();
    let stream = str::from_utf8(&bytes).unwrap();
    assert!(stream.lines().all(|line| line.len() < 64 * 1024));
    assert_eq!(read(stream).1["content"][0]["text"], long);
}

#[test]
fn attempts_and_failures() {
    let mut stream = MessageStream::new(head(false));
    stream.event(ReplyEvent::Reasoning(Text::Plain("lost")));
    stream.event(call(0, "t", "lost"));
    stream.reset();
    assert_eq!((stream.take(), stream.held_bytes()), (None, 0));
    stream.event(text("a"));
    stream.fail(&Failure::new(FailureKind::Upstream, "upstream_error", "It broke."), "id-1");
    let bytes = stream.take().unwrap();
    let written = str::from_utf8(&bytes).unwrap();
    let expected = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"It \
                    broke.\"},\"request_id\":\"id-1\"}\n\n";
    assert!(written.starts_with("event: message_start\n") && written.ends_with(expected), "{written}");
    assert_eq!(MessageStream::keepalive(), "event: ping\ndata: {\"type\":\"ping\"}\n\n");
}
