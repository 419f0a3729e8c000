//! Answers over keys that end early, are cut, or spell their fields in odd ways: each caller gets them in the form of
//! its own dialect.

use serde_json::{Value, json};
use simulator::script::{Endpoint, RawScript, Scenario, ScriptedFailure, ScriptedReply, StreamError, UsageChunk};

use crate::responses::ask_key;
use crate::support::app::{TestApp, Transcript, json_of, with_keys};
use crate::support::responses::{Events, output};

const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/messages", "/v1/responses"];

/// Sets the upstream's answer to these bytes.
fn script(app: &TestApp, content_type: &str, body: String) {
    let raw = RawScript { status: 200, content_type: content_type.to_owned(), body, base64: false };
    let reply = ScriptedReply::failing(ScriptedFailure::Raw(raw));
    app.simulator.script().set_default(None, Endpoint::KeyChat, Some(reply));
}

/// Sets the upstream's answer to a stream of these frames.
fn script_stream(app: &TestApp, frames: &[Value]) {
    let frames: String = frames.iter().map(|frame| format!("data: {frame}\n\n")).collect();
    script(app, "text/event-stream", format!("{frames}data: [DONE]\n\n"));
}

/// Sets the upstream's answer to a completion with this message.
fn script_whole(app: &TestApp, message: &Value, reason: &str) {
    let choices = json!([{"index": 0, "message": message, "finish_reason": reason}]);
    script(app, "application/json", json!({"id": "u", "choices": choices}).to_string());
}

fn frame(delta: &Value, reason: Option<&str>) -> Value {
    json!({"id": "u", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
}

/// A delta with one piece of a call.
fn call(piece: &Value) -> Value {
    json!({"tool_calls": [piece]})
}

fn begun(name: &str, arguments: &str) -> Value {
    call(&json!({"index": 0, "id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}))
}

fn more(function: &Value) -> Value {
    call(&json!({"index": 0, "function": function}))
}

fn body(stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "x"}]);
    json!({"model": "key/qwen3.7-plus", "messages": messages, "max_tokens": 4096, "input": "x", "stream": stream})
}

/// Status and body of an answer.
async fn told(app: &TestApp, path: &str, stream: bool) -> (u16, String) {
    let mut body = body(stream);
    body["tools"] = match path {
        "/v1/chat/completions" => json!([{"type": "function", "function": {"name": "Bash"}}]),
        "/v1/messages" => json!([{"name": "Bash", "input_schema": {"type": "object"}}]),
        _ => json!([{"type": "function", "name": "Bash", "parameters": {"type": "object"}}]),
    };
    let response = app.post(path, &body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn chat_stream(app: &TestApp) -> Transcript {
    let (status, text) = told(app, "/v1/chat/completions", true).await;
    assert_eq!(status, 200, "{text}");
    Transcript::parse(&text)
}

async fn response_events(app: &TestApp) -> Events {
    let (status, text) = told(app, "/v1/responses", true).await;
    assert_eq!(status, 200, "{text}");
    Events::parse(&text)
}

#[tokio::test]
async fn a_stream_that_the_policy_cuts_has_its_end() {
    let app = with_keys(Scenario::default()).await;
    let reply = ScriptedReply::default().with_stream(|stream| {
        stream.pieces = Some(["Hello ", "wor", "ld", "end"].map(str::to_owned).to_vec());
        let code = "data_inspection_failed".to_owned();
        stream.error = Some(StreamError { after: 3, code, details: "out".to_owned(), ..StreamError::default() });
    });
    app.simulator.script().set_default(None, Endpoint::KeyChat, Some(reply));
    let mut body = body(true);
    let transcript = app.stream(&body).await;
    assert!(transcript.is_done && transcript.error().is_none(), "{transcript:?}");
    let last = transcript.chunks.last().unwrap();
    assert_eq!(last["choices"], json!([{"index": 0, "delta": {}, "finish_reason": "content_filter"}]));
    assert!(transcript.content().starts_with("Hello "), "{transcript:?}");
    assert_eq!(transcript.finish_reasons(), ["content_filter"]);
    body["stream_options"] = json!({"include_usage": true});
    let transcript = app.stream(&body).await;
    assert_eq!(transcript.finish_reasons(), ["content_filter"]);
    assert_usage_at_end(&transcript);
}

#[tokio::test]
async fn usage_is_estimated_where_the_upstream_gives_none() {
    let app = with_keys(Scenario::default()).await;
    let reply = ScriptedReply::answer("Hello").with_chat(|chat| chat.usage_chunk = UsageChunk::Never);
    app.simulator.script().set_default(None, Endpoint::KeyChat, Some(reply));
    let mut body = body(true);
    body["stream_options"] = json!({"include_usage": true});
    let transcript = app.stream(&body).await;
    assert_eq!(transcript.finish_reasons(), ["stop"]);
    assert_usage_at_end(&transcript);
}

#[track_caller]
fn assert_usage_at_end(transcript: &Transcript) {
    let last = transcript.chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]), "{transcript:?}");
    let [prompt, completion, total] =
        ["prompt_tokens", "completion_tokens", "total_tokens"].map(|name| last["usage"][name].as_u64().unwrap());
    assert!(prompt > 0 && completion > 0 && total == prompt + completion, "{last}");
}

/// The arguments of the call that the limit cut are no JSON; the calls before it are complete.
#[tokio::test]
async fn a_call_that_a_limit_cuts_is_incomplete() {
    let app = with_keys(Scenario::default()).await;
    let second =
        json!({"index": 1, "id": "d", "type": "function", "function": {"name": "Bash", "arguments": "{\"comm"}});
    for reason in ["length", "content_filter"] {
        script_stream(
            &app,
            &[frame(&begun("Bash", "{}"), None), frame(&call(&second), None), frame(&json!({}), Some(reason))],
        );
        let events = response_events(&app).await;
        let done = events.names().iter().filter(|name| **name == "response.function_call_arguments.done").count();
        assert_eq!(done, 1, "{events:?}");
        let streamed = events.response().clone();
        let message = json!({"role": "assistant", "tool_calls": [begun("Bash", "{}")["tool_calls"][0], second]});
        script_whole(&app, &message, reason);
        let whole: Value = serde_json::from_str(&told(&app, "/v1/responses", false).await.1).unwrap();
        for response in [streamed, whole] {
            let told: Vec<_> = output(&response).iter().map(|item| (&item["status"], &item["arguments"])).collect();
            let expected = [(&json!("completed"), &json!("{}")), (&json!("incomplete"), &json!("{\"comm"))];
            assert_eq!(told, expected, "{reason}: {response}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_the_upstream_aborts_has_failed() {
    let said = json!({"role": "assistant", "content": "half an ans"});
    for word in ["error", "abort", "insufficient_system_resource"] {
        // Each begins with a key that has not failed yet.
        let app = with_keys(Scenario::default()).await;
        script_stream(&app, &[frame(&said, None), frame(&json!({}), Some(word))]);
        for path in PATHS {
            let (status, text) = told(&app, path, true).await;
            assert!(status == 502 || text.contains("\"error\""), "{word} {path}: {text}");
            assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{word} {path}: {text}");
            assert!(!text.contains("response.completed"), "{word} {path}: {text}");
        }
        let app = with_keys(Scenario::default()).await;
        script_whole(&app, &said, word);
        for path in PATHS {
            let (status, text) = told(&app, path, false).await;
            assert_eq!(status, 502, "{word} {path}: {text}");
        }
    }
}

/// The item has what the deltas before it told.
#[tokio::test]
async fn a_freeform_call_that_a_limit_cuts_tells_its_input() {
    let app = with_keys(Scenario::default()).await;
    script_stream(&app, &[frame(&begun("patch", "{\"input\":\"par"), None), frame(&json!({}), Some("length"))]);
    let events = app.respond_streamed(&ask_key("x", json!([{"type": "custom", "name": "patch"}]))).await;
    assert!(!events.names().contains(&"response.custom_tool_call_input.done"), "{events:?}");
    let deltas = events.all.iter().filter(|event| event["type"] == "response.custom_tool_call_input.delta");
    let told: String = deltas.filter_map(|event| event["delta"].as_str()).collect();
    let [call] = output(events.response()) else { panic!("{events:?}") };
    assert_eq!((&call["status"], &call["input"]), (&json!("incomplete"), &json!(told)));
    assert!(!told.is_empty(), "{call}");
}

#[tokio::test]
async fn words_for_the_end_are_those_that_clients_know() {
    let app = with_keys(Scenario::default()).await;
    let said = json!({"role": "assistant", "content": "Hi"});
    for (word, expected) in [
        ("sensitive", ["content_filter", "refusal", "content_filter"]),
        ("eos_token", ["stop", "end_turn", "completed"]),
        ("MAX_TOKENS", ["length", "max_tokens", "max_output_tokens"]),
        ("unheard_of", ["stop", "end_turn", "completed"]),
    ] {
        for stream in [true, false] {
            if stream {
                script_stream(&app, &[frame(&said, None), frame(&json!({}), Some(word))]);
            } else {
                script_whole(&app, &said, word);
            }
            for (path, expected) in PATHS.iter().zip(expected) {
                let (status, text) = told(&app, path, stream).await;
                assert_eq!(status, 200, "{text}");
                assert!(text.contains(&format!("\":\"{expected}\"")) && !text.contains(word), "{word} {path}: {text}");
            }
        }
    }
}

/// Callers of every dialect but the upstream's own get the call as a call of a tool.
#[tokio::test]
async fn the_older_function_call_is_a_call() {
    let app = with_keys(Scenario::default()).await;
    let pieces = [
        json!({"name": "Bash", "arguments": ""}),
        json!({"arguments": "{\"command\":"}),
        json!({"arguments": "\"ls\"}"}),
    ];
    let mut frames: Vec<Value> = pieces.iter().map(|piece| frame(&json!({"function_call": piece}), None)).collect();
    frames.push(frame(&json!({}), Some("function_call")));
    let message = json!({"role": "assistant", "content": null, "function_call": {"name": "Bash", "arguments": "{\"command\":\"ls\"}"}});
    for stream in [true, false] {
        if stream {
            script_stream(&app, &frames);
        } else {
            script_whole(&app, &message, "function_call");
        }
        let (_, text) = told(&app, "/v1/messages", stream).await;
        for part in ["\"tool_use\"", "\"name\":\"Bash\"", "\"stop_reason\":\"tool_use\""] {
            assert!(text.contains(part), "{part} {text}");
        }
        let (_, text) = told(&app, "/v1/responses", stream).await;
        let response =
            if stream { Events::parse(&text).response().clone() } else { serde_json::from_str(&text).unwrap() };
        let [item] = output(&response) else { panic!("{response}") };
        assert_eq!((&item["name"], &item["arguments"]), (&json!("Bash"), &json!("{\"command\":\"ls\"}")));
        assert!(item["call_id"].as_str().is_some_and(|id| !id.is_empty()), "{response}");
        let (_, text) = told(&app, "/v1/chat/completions", stream).await;
        assert!(text.contains("\"function_call\":{") && !text.contains("tool_calls"), "{text}");
    }
}

#[tokio::test]
async fn a_character_in_two_frames_is_one_character() {
    let app = with_keys(Scenario::default()).await;
    let text = |field: &str, text: &str| {
        format!("data: {{\"id\":\"u\",\"choices\":[{{\"index\":0,\"delta\":{{\"{field}\":\"{text}\"}}}}]}}\n\n")
    };
    let end = frame(&json!({}), Some("stop"));
    let thoughts = [text("reasoning_content", r"t\ud83e"), text("reasoning_content", r"\udd80u")].concat();
    let stream =
        [thoughts, text("content", r"a\ud83e"), text("content", r"\udd80b"), format!("data: {end}\n\n")].concat();
    script(&app, "text/event-stream", stream);
    let transcript = chat_stream(&app).await;
    assert_eq!((transcript.reasoning().as_str(), transcript.content().as_str()), ("t🦀u", "a🦀b"));
    let events = response_events(&app).await;
    assert!(events.response().to_string().contains("a🦀b"), "{events:?}");
}

#[tokio::test]
async fn a_name_in_two_frames_is_one_name() {
    let app = with_keys(Scenario::default()).await;
    let second =
        call(&json!({"index": 1, "id": "d", "type": "function", "function": {"name": "Bash", "arguments": ""}}));
    let frames = [
        frame(&begun("Ba", ""), None),
        frame(&more(&json!({"name": "sh"})), None),
        frame(&second, None),
        frame(&more(&json!({"arguments": "{}"})), None),
        frame(&json!({}), Some("tool_calls")),
    ];
    script_stream(&app, &frames);
    let events = response_events(&app).await;
    let names = output(events.response()).iter().map(|item| item["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["Bash", "Bash"]);
    let added = events.all.iter().filter(|event| event["type"] == "response.output_item.added");
    assert_eq!(added.map(|event| event["output_index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1]);
}

/// Clients join the strings of a call's deltas.
#[tokio::test]
async fn a_call_has_its_type_once_and_valid_arguments() {
    let app = with_keys(Scenario::default()).await;
    let typed = call(&json!({"index": 0, "type": "function", "function": {"arguments": "{\"a\":1}"}}));
    let silent = |index: u32| json!({"index": index, "id": format!("n{index}"), "type": "function", "function": {"name": "Bash", "arguments": ""}});
    let frames = [
        frame(&begun("Bash", ""), None),
        frame(&typed, None),
        frame(&call(&silent(1)), None),
        frame(&call(&silent(2)), Some("tool_calls")),
    ];
    script_stream(&app, &frames);
    let transcript = chat_stream(&app).await;
    let mut calls: Vec<[String; 3]> = Vec::new();
    for piece in
        transcript.chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array()).flatten()
    {
        let index = usize::try_from(piece["index"].as_u64().unwrap()).unwrap();
        calls.resize_with(calls.len().max(index + 1), Default::default);
        for (to, at) in calls[index].iter_mut().zip(["/type", "/function/name", "/function/arguments"]) {
            to.push_str(piece.pointer(at).and_then(Value::as_str).unwrap_or_default());
        }
    }
    let expected = ["{\"a\":1}", "{}", "{}"].map(|arguments| ["function", "Bash", arguments].map(str::to_owned));
    assert_eq!(calls, expected);
    let last = transcript.chunks.last().unwrap();
    assert_eq!(
        (&last["choices"][0]["delta"], &last["choices"][0]["finish_reason"]),
        (&json!({}), &json!("tool_calls"))
    );
    let message = json!({"role": "assistant", "content": null, "tool_calls": [silent(0), silent(1)]});
    script_whole(&app, &message, "tool_calls");
    let whole: Value = serde_json::from_str(&told(&app, "/v1/chat/completions", false).await.1).unwrap();
    let calls = whole["choices"][0]["message"]["tool_calls"].as_array().unwrap();
    assert!(calls.len() == 2 && calls.iter().all(|call| call["function"]["arguments"] == "{}"), "{whole}");
    // Nothing is made up for a call that the limit cut before its arguments.
    script_whole(&app, &message, "length");
    let whole: Value = serde_json::from_str(&told(&app, "/v1/chat/completions", false).await.1).unwrap();
    let calls = &whole["choices"][0]["message"]["tool_calls"];
    assert_eq!((&calls[0]["function"]["arguments"], &calls[1]["function"]["arguments"]), (&json!("{}"), &json!("")));
}

#[tokio::test]
async fn a_bare_completion_gets_every_required_field() {
    let app = with_keys(Scenario::default()).await;
    script(&app, "application/json", json!({"choices": [{"message": {"content": "ok"}}]}).to_string());
    let answer = json_of(app.chat(&body(false)).await).await;
    assert_eq!(
        answer["choices"],
        json!([{
            "index": 0, "message": {"role": "assistant", "content": "ok", "refusal": null},
            "logprobs": null, "finish_reason": "stop",
        }])
    );
    let usage = &answer["usage"];
    let [prompt, completion, total] =
        ["prompt_tokens", "completion_tokens", "total_tokens"].map(|name| usage[name].as_u64().unwrap());
    assert!(prompt > 0 && completion > 0 && total == prompt + completion, "{usage}");
}

#[tokio::test]
async fn thoughts_and_text_of_one_frame_go_out_apart() {
    let app = with_keys(Scenario::default()).await;
    for field in ["reasoning_content", "reasoning"] {
        let both = json!({"role": "assistant", "content": "Yes.", field: "Hm."});
        script_stream(&app, &[frame(&both, Some("stop"))]);
        let transcript = chat_stream(&app).await;
        let deltas: Vec<_> = transcript.chunks.iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect();
        let place =
            |name: &str| deltas.iter().position(|delta| delta[name].as_str().is_some_and(|text| !text.is_empty()));
        assert!(place(field).unwrap() < place("content").unwrap(), "{deltas:?}");
        assert_eq!((transcript.finish_reasons(), transcript.content().as_str()), (vec!["stop"], "Yes."));
    }
}
