//! Bodies that are passed on, and answers that are handed on.

use serde_json::{Value, json};

use crate::chat::reply::{Ending, FinishReason, ReplyError, ReplyEvent, ReplySink as _, TokenCounts};
use crate::chat::stages::{StagePlan, Stages};
use crate::dialect::openai::frames::FrameStream;
use crate::dialect::openai::reply::{ChunkEncoder, ChunkStream, WholeReply};
use crate::dialect::openai::request::ChatCompletionRequest;
use crate::dialect::writer::StreamWriter as _;
use crate::sse::{SseDecoder, SseError};
use crate::upstream::openai::decode::ChatDecoder;
use crate::upstream::openai::encode::{Profile, encode};

fn encoded(body: Value, profile: Profile) -> Value {
    let request = ChatCompletionRequest::verbatim(body).unwrap();
    let job = request.chat.relayed("up".to_owned());
    serde_json::from_slice(&encode(&job, request.stream, profile).unwrap()).unwrap()
}

#[test]
fn every_field_goes_up() {
    let body = json!({
        "model": "asked", "temperature": 0, "top_p": 0.0, "stop": ["a"], "seed": 1, "n": 2, "logprobs": true,
        "response_format": {"type": "json_object"}, "unknown": {"deep": [1]}, "max_tokens": null,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "tool_choice": "auto",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
            {"role": "tool", "tool_call_id": "1", "name": "f", "content": "r"},
        ],
    });
    let mut expected = body.clone();
    expected["model"] = json!("up");
    expected.as_object_mut().unwrap().remove("max_tokens");
    assert_eq!(encoded(body, Profile::Key), expected);
}

#[test]
fn what_is_changed_for_the_upstream() {
    let changed = |more: &Value, profile: Profile| {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut found = encoded(body, profile);
        let found = found.as_object_mut().unwrap();
        found.remove("messages");
        found.remove("model");
        Value::Object(found.clone())
    };
    // The portal gets only the words of its own; a key's endpoint gets the caller's words as well.
    let check = |more: Value, expected: Value| {
        assert_eq!(changed(&more, Profile::Portal), expected, "{more}");
        let mut for_key = more.clone();
        for_key.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
        for_key.as_object_mut().unwrap().retain(|name, _| name != "stream_options" || expected.get(name).is_some());
        assert_eq!(changed(&more, Profile::Key), for_key, "{more}");
    };
    check(json!({"stream": true}), json!({"stream": true, "stream_options": {"include_usage": true}}));
    check(
        json!({"stream": true, "stream_options": {"include_usage": false, "x": 1}}),
        json!({"stream": true, "stream_options": {"include_usage": true, "x": 1}}),
    );
    check(json!({"stream_options": {"include_usage": true}}), json!({}));
    check(json!({"reasoning_effort": "none"}), json!({"enable_thinking": false}));
    check(json!({"reasoning_effort": "low"}), json!({"enable_thinking": true, "thinking_budget": 1024}));
    check(json!({"reasoning": {"effort": "medium"}}), json!({"enable_thinking": true, "thinking_budget": 8192}));
    check(
        json!({"reasoning_effort": "high", "thinking_budget": 5}),
        json!({"enable_thinking": true, "thinking_budget": 5}),
    );
    check(json!({"reasoning_effort": "high", "enable_thinking": false}), json!({"enable_thinking": false}));
    check(json!({"include_reasoning": true, "reasoning_effort": "odd"}), json!({}));
}

#[test]
fn messages_for_the_portal() {
    let messages = |messages: Value| encoded(json!({ "messages": messages }), Profile::Portal)["messages"].clone();
    let cached = |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
    assert_eq!(
        messages(json!([{"role": "user", "content": "Hi"}])),
        json!([{"role": "system", "content": [cached("")]}, {"role": "user", "content": "Hi"}])
    );
    assert_eq!(
        messages(json!([
            {"role": "system", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]},
            {"role": "developer", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        ])),
        json!([
            {"role": "system", "content": [cached("a"), cached("b")]},
            {"role": "user", "content": "x\ny"},
            {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        ])
    );
    let listed = json!("[{\"role\":\"user\",\"content\":\"Hi\"}]");
    assert_eq!(messages(listed)[1]["content"], "Hi");
}

#[test]
fn bodies_that_are_not_passed_on() {
    for (body, expected) in [
        (json!([]), "InvalidBody -"),
        (json!({}), "Missing messages"),
        (json!({"messages": []}), "EmptyArray messages"),
        (json!({"messages": [5]}), "InvalidType messages[0]"),
        (json!({"messages": [{"content": "x"}]}), "Missing messages[0].role"),
        (json!({"messages": [{"role": "user"}], "model": 5}), "InvalidType model"),
        (json!({"messages": [{"role": "user"}], "model": ""}), "InvalidValue model"),
        (json!({"messages": [{"role": "user"}], "stream": "yes"}), "InvalidType stream"),
    ] {
        let error = ChatCompletionRequest::verbatim(body.clone()).unwrap_err();
        assert_eq!(format!("{:?} {}", error.kind, error.param.as_deref().unwrap_or("-")), expected, "{body}");
    }
}

fn chunks_of(id: &str, include_usage: bool) -> ChunkStream {
    let encoder = ChunkEncoder::new(id, 7, "asked", include_usage);
    ChunkStream::of_frames(encoder, FrameStream::new(id, 7, "asked", include_usage))
}

fn ending() -> Ending {
    Stages::new(&StagePlan::untouched(0)).finish(FinishReason::Stop, None, &mut |_| {})
}

/// The output for these events, and their end.
fn relayed(events: &[&str], include_usage: bool) -> (String, Result<(), ReplyError>, Option<TokenCounts>) {
    let mut decoder = ChatDecoder::default();
    let mut chunks = chunks_of("ours", include_usage);
    let mut outcome = Ok(());
    for event in events {
        outcome = outcome.and_then(|()| decoder.push(event.as_bytes(), &mut |event| chunks.event(event)));
    }
    outcome = outcome.and_then(|()| decoder.finish(&mut |_| {}));
    if outcome.is_ok() {
        chunks.finish(&ending());
    }
    let out = chunks.take().unwrap_or_default();
    (String::from_utf8(out.to_vec()).unwrap(), outcome, decoder.usage())
}

#[test]
fn chunks_are_repaired() {
    let events = [
        r#"{"choices":[{"delta":{"role":"assistant","content":""}}],"model":"m"}"#,
        r#"{"id":"late","created":5,"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"logprobs":{"x":1}}],"system_fingerprint":"f","usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm","content":null}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":2}}}"#,
        "[DONE]",
        "[DONE]",
    ];
    let (out, outcome, counts) = relayed(&events, true);
    assert_eq!(outcome, Ok(()));
    assert_eq!(counts, Some(TokenCounts { prompt: 3, completion: 4, reasoning: 0, cached: 2 }));
    insta::assert_snapshot!(out);
    let (out, ..) = relayed(&events, false);
    assert!(!out.contains("usage"), "{out}");
    assert_eq!(out.matches("[DONE]").count(), 1);
    assert_eq!(out.matches("\"role\"").count(), 1);
}

#[test]
fn the_role_goes_out_once_however_many_attempts_there_are() {
    let mut chunks = chunks_of("ours", false);
    let head = chunks.head().unwrap();
    assert!(head.ends_with(b"\n\n") && head.windows(6).any(|window| window == b"\"role\""));
    for _ in 0..2 {
        chunks.reset();
        let chunk = json!({"choices": [{"delta": {"role": "assistant", "content": "a"}}, {"index": 1, "delta": {"content": "b"}}]});
        ChatDecoder::default().push(chunk.to_string().as_bytes(), &mut |event| chunks.event(event)).unwrap();
        let out = String::from_utf8(chunks.take().unwrap().to_vec()).unwrap();
        assert_eq!(out.matches("role").count(), 1, "the second choice's: {out}");
    }
}

#[test]
fn how_a_stream_may_end() {
    let text = r#"{"choices":[{"delta":{"content":"Hi"}}]}"#;
    let end = r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#;
    let call =
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"1","function":{"name":"f","arguments":""}}]}}]}"#;
    for (events, expected) in [
        (&[text, end][..], Ok(())),
        (&[call, end, "[DONE]"], Ok(())),
        (&[text], Err(ReplyError::Truncated)),
        (&[text, "[DONE]"], Err(ReplyError::Truncated)),
        (&[], Err(ReplyError::Empty)),
        (&["[DONE]"], Err(ReplyError::Empty)),
        (&[r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#], Err(ReplyError::Empty)),
        (&[text, "{"], Err(ReplyError::Json)),
        (&[end], Err(ReplyError::Empty)),
        (&[r#"{"choices":[{"delta":{"content":""},"finish_reason":"stop"}]}"#, "[DONE]"], Err(ReplyError::Empty)),
        (&[r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#], Ok(())),
        (&[r#"{"choices":[{"delta":{},"finish_reason":""}]}"#], Err(ReplyError::Empty)),
        // Thoughts do not count as an answer.
        (&[r#"{"choices":[{"delta":{"reasoning_content":"hm"},"finish_reason":"stop"}]}"#], Err(ReplyError::Empty)),
        (&[r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#], Err(ReplyError::Truncated)),
        (&[r#"{"choices":[{"delta":{"reasoning_content":"hm"},"finish_reason":"length"}]}"#], Ok(())),
        (&[text, r#"{"choices":[{"delta":{},"finish_reason":"null"}]}"#, "[DONE]"], Err(ReplyError::Truncated)),
        (&[text, r#"{"choices":[{"delta":{},"finish_reason":"STOP"}]}"#, "[DONE]"], Ok(())),
        (&[text, r#"{"choices":[{"delta":{},"finish_reason":"abort"}]}"#, "[DONE]"], Err(ReplyError::Truncated)),
        (&[r#"{"choices":[{"delta":{},"finish_reason":"Error"}]}"#, "[DONE]"], Err(ReplyError::Truncated)),
    ] {
        assert_eq!(relayed(events, false).1, expected, "{events:?}");
    }
    let refused = |event: &str| match relayed(&[event], false).1 {
        Err(ReplyError::Refused { code, details, .. }) => format!("{code}: {details}"),
        other => format!("{other:?}"),
    };
    assert_eq!(refused(r#"{"error":{"code":"insufficient_quota","message":"m","type":"t"}}"#), "insufficient_quota: m");
    assert_eq!(refused(r#"{"error":{"message":"m","type":"t","code":null}}"#), "t: m");
    assert_eq!(refused(r#"{"error":"stream timeout"}"#), ": stream timeout");
    assert_eq!(refused(r#"{"code":"Throttling","message":"slow","request_id":"r"}"#), "Throttling: slow");
}

/// The deltas of these calls that a caller gets.
fn call_deltas(events: &[&str]) -> Vec<Value> {
    let (out, outcome, _) = relayed(events, false);
    assert_eq!(outcome, Ok(()));
    let chunks = out.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let calls = chunks.filter_map(|chunk| Some(chunk["choices"][0]["delta"]["tool_calls"].as_array()?.clone()));
    calls.flatten().collect()
}

/// Half a character, an odd word for the end, or content in parts must not damage the rest of the answer.
#[test]
fn odd_values_cost_no_more_than_themselves() {
    let said = |events: &[&str]| -> Vec<Value> {
        let (out, outcome, _) = relayed(events, false);
        assert_eq!(outcome, Ok(()), "{events:?}");
        let chunks = out.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        chunks.map(|chunk| chunk["choices"][0].clone()).collect()
    };
    let text = |events: &[&str]| -> String {
        said(events).iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect()
    };
    let ends = |word: &str| -> Vec<Value> {
        let end = format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":{}}}]}}"#, Value::from(word));
        let events = [r#"{"choices":[{"delta":{"content":"Hi"},"finish_reason":"null"}]}"#, &end, "[DONE]"];
        said(&events).iter().map(|choice| choice["finish_reason"].clone()).filter(|reason| !reason.is_null()).collect()
    };
    let end = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    for (piece, expected) in [
        (r#"a\ud83e"#, "a"),
        (r#"\ude00b"#, "b"),
        (r#"\ud83e\udd80 \ud83e"#, "🦀 "),
        (r#"\\ud83e \ud83e\\"#, "\\ud83e \u{fffd}\\"),
        (r#"\uD83E\n\u00e9"#, "\u{fffd}\né"),
    ] {
        let event = format!(r#"{{"choices":[{{"delta":{{"content":"{piece}"}}}}]}}"#);
        assert_eq!(text(&[&event, end]), expected, "{piece}");
    }
    // Halves in two frames, a pair in the first case only.
    for (first, second, expected) in [
        (r#"a\ud83e"#, r#"\udd80b"#, "a🦀b"),
        (r#"a\ud83e"#, r#"b\udd80"#, "ab"),
        (r#"a\ud83e"#, r#"\"\udd80b"#, "a\"b"),
        (r#"a\ud83e "#, r#"\udd80b"#, "a\u{fffd} b"),
        (r#"a\ud83d"#, r#"\ud83e"#, "a"),
    ] {
        let events =
            [first, second].map(|text| format!(r#"{{"choices":[{{"delta":{{"content":"{text}","x":"\\"}}}}]}}"#));
        let between = r#"{"choices":[{"delta":{"x":"y"}}]}"#;
        assert_eq!(text(&[&events[0], between, &events[1], end]), expected, "{first} {second}");
    }
    for odd in ["0", "{}", "false", "[\"stop\"]"] {
        let event = format!(r#"{{"choices":[{{"delta":{{"content":"a"}},"finish_reason":{odd}}}]}}"#);
        let reasons: Vec<Value> = said(&[&event, end]).iter().map(|choice| choice["finish_reason"].clone()).collect();
        assert_eq!(reasons, [Value::Null, json!("stop")], "{odd}");
    }
    let parts = r#"{"choices":[{"delta":{"content":[{"type":"text","text":"a"},{"text":"b"}]}}]}"#;
    assert_eq!(text(&[parts, end]), "ab");
    for (word, expected) in [
        ("stop", "stop"),
        ("STOP", "stop"),
        ("Eos_Token", "stop"),
        ("Content_Filter", "content_filter"),
        ("unheard_of", "stop"),
        ("max_tokens", "length"),
    ] {
        assert_eq!(ends(word), [expected], "{word}");
    }
    let calls = [
        r#"{"choices":[{"delta":{"tool_calls":{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":{"a":1}}}}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"","type":"","function":{"name":"g","arguments":"{"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"","type":"","function":{"name":"","arguments":"}"}}]}}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
    ];
    assert_eq!(
        Value::from(call_deltas(&calls)),
        json!([
            {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
            {"index": 1, "id": "call__1", "type": "function", "function": {"name": "g", "arguments": "{"}},
            {"index": 1, "function": {"arguments": "}"}},
        ])
    );
}

/// Bytes that are not UTF-8, inside a frame and where a piece of the stream ends.
#[test]
fn a_bad_byte_costs_one_character() {
    let stream = [
        &b"data: {\"choices\":[{\"delta\":{\"content\":\"a\xffb"[..],
        b" \xe8\x8c",
        b"\xb6 \xe8\x8c\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"\xb6!\"},\"finish_reason\":\"stop\"}]}\n\n",
    ]
    .concat();
    for size in 1..stream.len() {
        let (mut sse, mut decoder, mut text) = (SseDecoder::new(), ChatDecoder::default(), String::new());
        for piece in stream.chunks(size) {
            let mut sink = |event: ReplyEvent<'_>| {
                if let ReplyEvent::Text(said) = event {
                    said.append_to(&mut text);
                }
            };
            sse.push(piece, |data| {
                decoder.push(data, &mut sink).unwrap();
                Ok::<(), SseError>(())
            })
            .unwrap();
        }
        decoder.finish(&mut |_| {}).unwrap();
        assert_eq!(text, "a\u{fffd}b 茶 \u{fffd}\u{fffd}!", "{size}");
    }
}

#[test]
fn tool_calls_get_what_clients_need_to_join_them() {
    let end = r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#;
    let bare = [
        r#"{"id":"chatcmpl-9x","choices":[{"delta":{"tool_calls":[{"function":{"name":"ls","arguments":""}}]}}]}"#,
        r#"{"id":"chatcmpl-9x","choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{}"}}]}}]}"#,
        r#"{"id":"chatcmpl-9x","choices":[{"delta":{"tool_calls":[{"function":{"name":"cat","arguments":"{\"a\":1}"}}]}}]}"#,
        end,
    ];
    assert_eq!(
        Value::from(call_deltas(&bare)),
        json!([
            {"index": 0, "id": "call_chatcmpl9x_0", "type": "function", "function": {"name": "ls", "arguments": ""}},
            {"index": 0, "function": {"arguments": "{}"}},
            {"index": 1, "id": "call_chatcmpl9x_1", "type": "function", "function": {"name": "cat", "arguments": "{\"a\":1}"}},
        ])
    );
    // Ids without indexes tell two calls apart, however their pieces are mixed.
    let mixed = [
        r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f"}},{"id":"b","function":{"name":"g"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"id":"b","function":{"name":"g","arguments":"2"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","type":"function","function":{"arguments":"1"}}]}}]}"#,
        end,
    ];
    assert_eq!(
        Value::from(call_deltas(&mixed)),
        json!([
            {"index": 0, "id": "a", "type": "function", "function": {"name": "f"}},
            {"index": 1, "id": "b", "type": "function", "function": {"name": "g"}},
            {"index": 1, "function": {"arguments": "2"}},
            {"index": 0, "function": {"arguments": "1"}},
        ])
    );
    let (mut decoder, mut whole) = (ChatDecoder::default(), WholeReply::of_frames());
    let message = json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]});
    let body = json!({"id": "c-1", "choices": [{"message": message, "finish_reason": "tool_calls"}]});
    decoder.whole(body.to_string().as_bytes(), &mut |event: ReplyEvent<'_>| whole.event(event)).unwrap();
    let answer: Value = serde_json::from_slice(&whole.finish("ours", 7, "asked", &ending())).unwrap();
    assert_eq!(
        answer["choices"][0]["message"]["tool_calls"],
        json!([{"id": "call_c1_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}])
    );
}

#[test]
fn a_choice_ends_once() {
    let events = [
        r#"{"choices":[{"index":0,"delta":{"content":"Hi"}},{"index":1,"delta":{"content":"Ho"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#,
        r#"{"choices":[{"index":1,"delta":{},"finish_reason":"length"}]}"#,
        r#"{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}"#,
        "[DONE]",
        r#"{"choices":[{"index":0,"delta":{"content":"late"}}]}"#,
    ];
    let (out, outcome, _) = relayed(&events, false);
    assert_eq!(outcome, Ok(()));
    assert_eq!(
        (out.matches(r#""finish_reason":"stop""#).count(), out.matches(r#""finish_reason":"length""#).count()),
        (1, 1)
    );
    assert!(!out.contains("late"), "{out}");
}

#[test]
fn whole_completions() {
    let whole = |body: Value| {
        let (mut decoder, mut whole) = (ChatDecoder::default(), WholeReply::of_frames());
        decoder.whole(body.to_string().as_bytes(), &mut |event: ReplyEvent<'_>| whole.event(event))?;
        Ok::<Value, ReplyError>(serde_json::from_slice(&whole.finish("ours", 7, "asked", &ending())).unwrap())
    };
    let message =
        json!({"role": "assistant", "content": "Hi", "refusal": null, "reasoning_content": "hm", "tool_calls": []});
    let choices = json!([{"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"a": 1}}]);
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}});
    let answer =
        whole(json!({"id": "theirs", "created": 5, "object": "x", "model": "up", "choices": choices, "usage": usage}))
            .unwrap();
    assert_eq!(
        answer,
        json!({"id": "theirs", "created": 5, "object": "chat.completion", "model": "asked", "choices": choices, "usage": usage})
    );
    let answer = whole(json!({"choices": choices})).unwrap();
    assert_eq!((&answer["id"], &answer["created"]), (&json!("ours"), &json!(7)));
    for odd in [Value::Null, json!(""), json!("null"), json!(0)] {
        let said = json!({"role": "assistant", "content": "Hi"});
        let calls =
            json!({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]});
        let choices = json!([{"index": 0, "message": said, "finish_reason": odd}, {"index": 1, "message": calls}]);
        let answer = whole(json!({"choices": choices})).unwrap();
        let reasons = [0, 1].map(|place| answer["choices"][place]["finish_reason"].clone());
        assert_eq!(reasons, ["stop", "tool_calls"], "{odd}");
    }
    assert_eq!(whole(json!({"choices": []})), Err(ReplyError::Empty));
    for nothing in [json!({}), json!({"role": "assistant", "content": ""}), json!({"content": null, "reasoning": "hm"})]
    {
        let choices = json!([{"index": 0, "message": nothing, "finish_reason": "stop"}]);
        assert_eq!(whole(json!({"choices": choices})), Err(ReplyError::Empty));
    }
    assert_eq!(whole(json!({"choices": [{"index": 0, "finish_reason": "stop"}]})), Err(ReplyError::Empty));
    for (body, expected) in [
        ("", ReplyError::Empty),
        (" \n", ReplyError::Empty),
        ("{\"choices\":[{\"mes", ReplyError::Truncated),
        ("ok", ReplyError::Json),
    ] {
        assert_eq!(ChatDecoder::default().whole(body.as_bytes(), &mut |_| {}), Err(expected), "{body:?}");
    }
    assert_eq!(whole(json!([])), Err(ReplyError::Empty));
    assert!(matches!(whole(json!({"error": {"message": "m"}})), Err(ReplyError::Refused { .. })));
}
