//! Answers over keys that end early, are cut, or spell their fields in odd ways: each caller gets them in the form of
//! its own dialect.

use serde_json::{Value, json};
use simulator::script::{Endpoint, Scenario, ScriptedReply, StreamError, UsageChunk};

use crate::support::app::{Transcript, with_keys};

fn body(stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "x"}]);
    json!({"model": "key/qwen3.7-plus", "messages": messages, "max_tokens": 4096, "input": "x", "stream": stream})
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
