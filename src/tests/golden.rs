//! Streams of an upstream that speaks OpenAI's dialect: an OpenAI caller gets every field of every frame, and for
//! callers of other dialects everything that has a neutral name comes as events.

use serde_json::{Value, json};

use crate::chat::reply::{FinishReason, ReplyEvent, ReplySink as _};
use crate::chat::stages::{StagePlan, Stages};
use crate::dialect::openai::frames::FrameStream;
use crate::dialect::openai::reply::{ChunkEncoder, ChunkStream, WholeReply};
use crate::dialect::writer::StreamWriter as _;
use crate::sse::{SseDecoder, SseError};
use crate::upstream::openai::decode::ChatDecoder;

/// Data lines of a stream, parsed; the end mark as a string.
fn frames(stream: &str) -> Vec<Value> {
    let data = stream.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data))).collect()
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/fixtures/openai/{name}.sse", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn decode(stream: &str, sink: &mut impl FnMut(ReplyEvent<'_>)) {
    let (mut sse, mut decoder) = (SseDecoder::new(), ChatDecoder::default());
    // Frames come in pieces that cut characters.
    for piece in stream.as_bytes().chunks(7) {
        sse.push(piece, |data| {
            decoder.push(data, sink).unwrap();
            Ok::<(), SseError>(())
        })
        .unwrap();
    }
    decoder.finish(sink).unwrap();
    assert!(decoder.is_finished());
}

/// A frame with what is repaired on the way: one id, words for the end that clients know, and the role of the first
/// choice, which goes out before any frame.
fn repaired(mut frame: Value) -> Value {
    let Some(map) = frame.as_object_mut() else { return frame };
    map.insert("id".to_owned(), json!("ours"));
    map.insert("usage".to_owned(), Value::Null);
    for choice in map["choices"].as_array_mut().unwrap() {
        if choice["finish_reason"] == "eos_token" {
            choice["finish_reason"] = json!("stop");
        }
        if choice["index"] == 0 {
            choice["delta"].as_object_mut().unwrap().remove("role");
        }
    }
    frame
}

#[test]
fn an_openai_caller_loses_nothing() {
    for name in ["logprobs", "tool_calls", "reasoning", "reasoning_short", "unknown"] {
        let stream = fixture(name);
        let encoder = ChunkEncoder::new("ours", 7, "asked", true);
        let mut chunks = ChunkStream::of_frames(encoder, FrameStream::new("ours", 7, "asked", true));
        let mut stages = Stages::new(&StagePlan::untouched(0));
        chunks.head();
        decode(&stream, &mut |event| stages.push(event, &mut |event| chunks.event(event)));
        let ending = stages.finish(FinishReason::Stop, None, &mut |_| {});
        chunks.finish(&ending);
        let out = chunks.take().unwrap();
        let (mut usage, mut expected) = (None, Vec::new());
        for frame in frames(&stream) {
            if frame["choices"] == json!([]) {
                usage = Some(frame["usage"].clone());
                continue;
            }
            expected.push(repaired(frame));
        }
        let mut found = frames(str::from_utf8(&out).unwrap());
        let last = found.remove(found.len() - 2);
        assert_eq!(last["choices"], json!([]), "{name}");
        match usage {
            Some(usage) => assert_eq!(last["usage"], usage, "{name}"),
            None => assert!(last["usage"]["completion_tokens"].as_u64() > Some(0), "estimated: {last}"),
        }
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn another_dialect_gets_events() {
    let spoken = |name: &str| {
        let mut words = Vec::new();
        decode(&fixture(name), &mut |event| match event {
            ReplyEvent::Extra(_) => {}
            ReplyEvent::Finished { reason } => words.push(format!("Finished {}", reason.as_str())),
            event => words.push(super::described(&event)),
        });
        words.join(" | ")
    };
    assert_eq!(spoken("logprobs"), r#"Text "Warm" | Text " soup" | Finished stop"#);
    assert_eq!(
        spoken("tool_calls"),
        concat!(
            r#"Text "I look." | ToolCall { index: 0, id: "call_a", name: "list_files" }"#,
            r#" | ToolArguments { index: 0, json: "{\"path\":" } | ToolArguments { index: 0, json: " \"ü/茶\"}" }"#,
            r#" | ToolCall { index: 1, id: "call_b", name: "clock" } | ToolArguments { index: 1, json: "{}" }"#,
            r#" | ToolCallDone { index: 0 } | ToolCallDone { index: 1 } | Finished tool_calls"#
        )
    );
    assert_eq!(
        spoken("reasoning"),
        r#"Reasoning "Let me" | Reasoning " see." | Text "Yes" | Text "!" | Finished length"#
    );
    // The same thought under both names is one thought.
    assert_eq!(
        spoken("reasoning_short"),
        r#"Reasoning "Let me" | Reasoning " see." | Reasoning " So:" | Text "Yes" | Finished stop"#
    );
    assert_eq!(
        spoken("unknown"),
        concat!(
            r#"Text "a" | Text "b" | Refusal(Plain("No.")) | ToolCall { index: 0, id: "call_theirs_0", name: "f" }"#,
            r#" | ToolArguments { index: 0, json: "{}" } | ToolCallDone { index: 0 } | Finished stop"#
        )
    );
}

#[test]
fn a_whole_completion_loses_nothing() {
    let both = json!({"reasoning_content": "hm", "reasoning": "hm", "reasoning_details": [{"text": "hm"}]});
    for thoughts in
        [json!({"reasoning_content": "hm"}), json!({"reasoning": "hm"}), json!({"reasoning": {"a": 1}}), both]
    {
        check_whole(&thoughts);
    }
}

#[track_caller]
fn check_whole(thoughts: &Value) {
    let mut message = json!({
        "role": "assistant", "content": "Done.", "refusal": null, "mood": "calm",
        "tool_calls": [{"id": "c", "type": "function", "vendor": 1, "function": {"name": "f", "arguments": "{\"a\": 1}"}}],
    });
    message.as_object_mut().unwrap().extend(thoughts.as_object().unwrap().clone());
    let said = json!({"role": "assistant", "content": "Other.", "refusal": null});
    let other = json!({"index": 1, "message": said, "logprobs": null, "finish_reason": "stop"});
    let completion = json!({
        "id": "theirs", "object": "chat.completion", "created": 5, "model": "asked", "system_fingerprint": "fp",
        "choices": [{"index": 0, "message": message, "logprobs": {"content": []}, "finish_reason": "tool_calls"}, other],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "vendor": {}},
    });
    let mut whole = WholeReply::of_frames();
    ChatDecoder::default().whole(completion.to_string().as_bytes(), &mut |event| whole.event(event)).unwrap();
    let ending = Stages::new(&StagePlan::untouched(0)).finish(FinishReason::Stop, None, &mut |_| {});
    let found: Value = serde_json::from_slice(&whole.finish("ours", 7, "asked", &ending)).unwrap();
    assert_eq!(found, completion);
}
