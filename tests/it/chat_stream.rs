//! Streamed answers.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{
    CutHow, End, Endless, Endpoint, Inserted, LineEnding, Packets, Scenario, ScriptedReply, StreamError,
};

use crate::support::app::{
    KEY, PATIENCE, Setup, TestApp, Transcript, USAGE, checked_error, error_of, json_of, question, spawn, told,
};
use crate::support::raw::{self, Raw};

/// A server in front of the usual accounts, with this reply to the next request.
async fn answering(setup: Setup, reply: ScriptedReply) -> TestApp {
    let scenario = Scenario::default().paced_ms(0).replying(Endpoint::Completions, reply);
    setup.start(Simulator::start(scenario).await.unwrap()).await
}

/// What holds for every stream that ends well, by the rules of strict clients.
fn assert_strict(transcript: &Transcript, has_usage: bool) {
    let chunks = &transcript.chunks;
    let first = &chunks[0];
    let id = first["id"].as_str().unwrap();
    assert!(id.starts_with("chatcmpl-") && id.len() >= 29, "{id}");
    assert!(u32::try_from(first["created"].as_u64().unwrap()).is_ok());
    let last_place = chunks.len() - 1;
    for (place, chunk) in chunks.iter().enumerate() {
        for key in ["id", "created", "model"] {
            assert_eq!(chunk[key], first[key], "{chunk}");
        }
        assert_eq!(chunk["object"], "chat.completion.chunk");
        let choices = chunk["choices"].as_array().unwrap_or_else(|| panic!("{chunk}"));
        let is_usage = has_usage && place == last_place;
        assert_eq!(choices.len(), usize::from(!is_usage), "{chunk}");
        assert_eq!(chunk.get("usage").is_some(), has_usage, "{chunk}");
        assert_eq!(chunk["usage"].is_object(), is_usage, "{chunk}");
        let Some(choice) = choices.first() else {
            continue;
        };
        assert_eq!(choice["index"], 0);
        assert!(choice.get("finish_reason").is_some(), "{chunk}");
        let is_finish = place == last_place - usize::from(has_usage);
        assert_eq!(choice["finish_reason"].is_string(), is_finish, "{chunk}");
        let delta = choice["delta"].as_object().unwrap_or_else(|| panic!("{chunk}"));
        assert_eq!(delta.contains_key("role"), place == 0, "{chunk}");
        assert_eq!(delta.is_empty(), is_finish, "{chunk}");
        for key in ["tool_calls", "function_call", "audio", "refusal"] {
            assert!(!delta.contains_key(key), "{chunk}");
        }
        if place > 0 && !is_finish {
            let text = delta.get("content").filter(|text| !text.is_null()).or(delta.get("reasoning_content"));
            let is_piece = text.and_then(Value::as_str).is_some_and(|text| !text.is_empty());
            assert!(is_piece || delta.contains_key("annotations"), "{chunk}");
        }
    }
    assert!(transcript.is_done);
}

fn streamed(text: &str) -> Value {
    let mut body = question(text);
    body["stream"] = json!(true);
    body
}

#[tokio::test]
async fn a_question_gets_a_streamed_answer() {
    let app = TestApp::quick().await;
    let transcript = app.stream(&question("echo: 你好, wörld 🙂")).await;
    assert_eq!(transcript.content(), "你好, wörld 🙂");
    assert_eq!(transcript.finish_reasons(), ["stop"]);
    assert!(transcript.is_done);
    assert_eq!(transcript.chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(transcript.chunks[0]["model"], "qwen3-max");
    assert_strict(&transcript, false);
    app.assert_clean();
}

#[tokio::test]
async fn a_stream_has_the_headers_of_one() {
    let app = TestApp::quick().await;
    let response = app.chat(&streamed("echo: x")).await;
    let headers = response.headers();
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    assert!(headers["cache-control"].to_str().unwrap().contains("no-cache"));
    assert_eq!(headers["x-accel-buffering"], "no");
    assert!(!headers.contains_key("content-length") && !headers.contains_key("content-encoding"));
    assert!(headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn accept_does_not_choose_the_form() {
    let app = TestApp::quick().await;
    for accept in ["application/json", "*/*", "text/event-stream", "text/html"] {
        let stream = app.post("/v1/chat/completions", &streamed("echo: x")).header("accept", accept);
        let text = stream.send().await.unwrap().text().await.unwrap();
        assert_eq!(Transcript::parse(&text).content(), "x", "{accept}");
        let whole = app.post("/v1/chat/completions", &question("echo: x")).header("accept", accept);
        assert_eq!(json_of(whole.send().await.unwrap()).await["object"], "chat.completion", "{accept}");
    }
}

#[tokio::test]
async fn usage_comes_when_it_is_asked_for() {
    let app = TestApp::quick().await;
    let reply = ScriptedReply::answer("other words").with_stream(|stream| stream.usage = Some(USAGE));
    app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
    let mut body = question("some words");
    body["stream_options"] = json!({"include_usage": true, "include_obfuscation": true, "unknown": 1});
    let transcript = app.stream(&body).await;
    assert_strict(&transcript, true);
    assert_eq!(transcript.chunks.last().unwrap()["usage"], told(USAGE));
    assert_eq!(app.ask("some words").await["usage"], told(USAGE), "plain and streamed differ");
}

#[tokio::test]
async fn no_usage_unless_it_is_asked_for() {
    let app = TestApp::quick().await;
    for options in [json!(null), json!({}), json!({"include_usage": false}), json!({"include_usage": null})] {
        let mut body = question("echo: x");
        body["stream_options"] = options;
        assert_strict(&app.stream(&body).await, false);
    }
}

#[tokio::test]
async fn stream_options_without_a_stream_mean_nothing() {
    let app = TestApp::quick().await;
    for stream in [json!(false), json!(null)] {
        let mut body = question("echo: x");
        body["stream"] = stream;
        body["stream_options"] = json!({"include_usage": true});
        assert_eq!(json_of(app.chat(&body).await).await["object"], "chat.completion");
    }
}

#[tokio::test]
async fn any_packets_of_the_upstream_give_the_same_text() {
    let text = "Zwölf Boxkämpfer – 十二个拳击手 🥊👨‍👩‍👧 jagen.";
    for (packets, ending) in [
        (Packets::Size(1), LineEnding::Lf),
        (Packets::Size(7), LineEnding::Crlf),
        (Packets::Size(13), LineEnding::Cr),
        (Packets::One, LineEnding::Lf),
    ] {
        let reply = ScriptedReply::answer(text).packets(packets.clone()).with_stream(|stream| {
            stream.line_ending = ending;
            stream.bom = true;
        });
        let app = answering(Setup::default(), reply).await;
        let transcript = app.stream(&question("x")).await;
        assert_eq!(transcript.content(), text, "{packets:?}");
        assert_strict(&transcript, false);
    }
}

#[tokio::test]
async fn a_long_piece_becomes_several_chunks() {
    let text = "\u{1}字\"".repeat(40_000);
    let app = answering(Setup::default(), ScriptedReply::pieces([text.clone()])).await;
    // The transcript refuses lines of 64 KiB.
    let transcript = app.stream(&question("x")).await;
    assert_eq!(transcript.content(), text);
    assert_strict(&transcript, false);
}

#[tokio::test]
async fn text_goes_out_as_it_comes() {
    let reply = ScriptedReply::pieces(["first ", "second"]).pausing(2, Duration::from_secs(600));
    let app = answering(Setup::default(), reply).await;
    let mut response = app.chat(&streamed("x")).await;
    let mut seen = String::new();
    while !seen.contains("first ") {
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await.expect("nothing is flushed");
        seen.push_str(str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
    }
    assert!(seen.contains(r#""role":"assistant""#));
    assert!(!app.simulator.record().requests_to(Endpoint::Completions)[0].finish_sent);
}

#[tokio::test]
async fn the_body_ends_with_the_answer_even_if_the_upstream_stays() {
    let app = answering(Setup::default(), ScriptedReply::answer("x").ending(End::Open)).await;
    let transcript = tokio::time::timeout(PATIENCE, app.stream(&question("x"))).await.expect("the body does not end");
    assert_strict(&transcript, false);
}

#[tokio::test]
async fn a_caller_who_leaves_stops_the_upstream() {
    let chatter = Inserted::UnknownPhase { phase: "answer".to_owned(), content: "and on ".to_owned(), tool: false };
    let reply = ScriptedReply::answer("on ").ending(End::Endless(Endless { what: chatter, every_ms: 5 }));
    let app = answering(Setup::default(), reply).await;
    let mut response = app.chat(&streamed("x")).await;
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    let counters = app.simulator.record().wait_for_counts(|counters| counters.open_streams == 0, PATIENCE).await;
    assert!(counters.is_some(), "the upstream goes on");
    assert!(app.simulator.record().requests_to(Endpoint::Completions).iter().all(|request| !request.finish_sent));
    assert_eq!(app.stream(&question("echo: well")).await.content(), "well");
    app.assert_clean();
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_first_word_stops_the_upstream() {
    for hold in ["0", "60s"] {
        let reply = ScriptedReply::answer("x").with_stream(|stream| stream.first_event_ms = 600_000);
        let app = answering(Setup::default().with("HEADERS_HOLD", hold), reply).await;
        let mut client = Raw::connect(app.address).await;
        client.send(raw::chat(&streamed("x"))).await;
        let asked = app.simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await;
        assert!(asked.is_some(), "{hold}");
        drop(client);
        let left = app.simulator.record().wait_for_counts(|counters| counters.open_streams == 0, PATIENCE).await;
        assert!(left.is_some(), "{hold}: the upstream goes on");
    }
}

#[tokio::test]
async fn twenty_streams_at_once_are_not_mixed_up() {
    let setup = Setup::default().with("MAX_IN_FLIGHT", "20");
    let app = std::sync::Arc::new(setup.start(Simulator::start(Scenario::default()).await.unwrap()).await);
    let streams = (0..20).map(|number| {
        let app = std::sync::Arc::clone(&app);
        spawn(async move {
            let text = format!("stream number {number} with its own words");
            let transcript = app.stream(&question(&format!("echo: {text}"))).await;
            assert_eq!(transcript.content(), text);
            transcript.chunks[0]["id"].as_str().unwrap().to_owned()
        })
    });
    let mut ids = HashSet::new();
    for stream in streams.collect::<Vec<_>>() {
        ids.insert(stream.await.unwrap());
    }
    assert_eq!(ids.len(), 20);
    app.assert_clean();
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive() {
    for (hold, comments_min) in [("0", 2), ("30ms", 2), ("60s", 0)] {
        let setup = Setup::default().with("HEADERS_HOLD", hold).with("KEEPALIVE_INTERVAL", "20ms");
        let reply = ScriptedReply::answer("late").with_stream(|stream| stream.first_event_ms = 300);
        let app = answering(setup, reply).await;
        let transcript = app.stream(&question("x")).await;
        assert!(transcript.comments >= comments_min, "{hold}: {}", transcript.comments);
        assert_eq!(transcript.content(), "late");
        assert_strict(&transcript, false);
    }
}

#[tokio::test]
async fn a_pause_inside_an_answer_is_kept_alive() {
    let reply = ScriptedReply::pieces(["a", "b"]).pausing(2, Duration::from_millis(300));
    let app = answering(Setup::default().with("KEEPALIVE_INTERVAL", "20ms"), reply).await;
    let transcript = app.stream(&question("x")).await;
    assert!(transcript.comments >= 2, "{}", transcript.comments);
    assert_eq!(transcript.content(), "ab");
    assert_strict(&transcript, false);
}

#[tokio::test]
async fn the_role_does_not_wait_for_the_first_word() {
    let setup = Setup::default().with("HEADERS_HOLD", "0").with("KEEPALIVE_INTERVAL", "10m");
    let reply = ScriptedReply::answer("x").with_stream(|stream| stream.first_event_ms = 600_000);
    let app = answering(setup, reply).await;
    let mut client = Raw::connect(app.address).await;
    client.send(raw::chat(&streamed("x"))).await;
    assert_eq!(client.head().await.status, 200);
    client.until("\"delta\":{\"role\":\"assistant\",\"content\":\"\"}").await;
}

#[tokio::test]
async fn nobody_hears_nothing_for_longer_than_the_interval() {
    let setup = Setup::default().with("KEEPALIVE_INTERVAL", "300ms");
    let reply = ScriptedReply::answer("x").with_stream(|stream| stream.first_event_ms = 600_000);
    let app = answering(setup, reply).await;
    let mut client = Raw::connect(app.address).await;
    client.send(raw::chat(&streamed("x"))).await;
    assert_eq!(client.head().await.status, 200);
    client.until(": keepalive\n\n").await;
}

#[tokio::test]
async fn a_failure_before_the_first_word_has_a_status() {
    let app = TestApp::quick().await;
    app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::status(500)));
    let streamed = app.chat(&streamed("x")).await;
    let whole = app.chat(&question("x")).await;
    assert_eq!((streamed.status(), whole.status()), (whole.status(), streamed.status()));
    assert_eq!(streamed.status(), 502);
    assert_eq!(streamed.headers()["x-should-retry"], "false");
    let error = error_of(streamed).await;
    assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("upstream_error")));
    assert_eq!(error_of(whole).await["code"], error["code"]);
}

#[tokio::test]
async fn a_failure_after_the_headers_is_a_frame() {
    let setup = Setup::default().with("HEADERS_HOLD", "0");
    let app = setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await;
    app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::status(500)));
    let transcript = app.stream(&question("x")).await;
    let frame = transcript.chunks.last().unwrap();
    assert_eq!(checked_error(frame)["code"], "upstream_error");
    assert!(!transcript.is_done && transcript.finish_reasons().is_empty());
}

#[tokio::test]
async fn a_failure_after_content_is_a_frame_without_done() {
    let broken = StreamError { after: 3, code: "internal_error".to_owned(), ..StreamError::default() };
    let torn = ["upstream_truncated", "upstream_error"];
    for (reply, codes) in [
        (ScriptedReply::pieces(["one ", "two ", "three"]).cut_after(3, CutHow::Fin), &torn[..]),
        (ScriptedReply::pieces(["one ", "two ", "three"]).cut_after(3, CutHow::Reset), &torn),
        (ScriptedReply::pieces(["one ", "two ", "three"]).cut_after(3, CutHow::CleanEnd), &["upstream_truncated"]),
        (ScriptedReply::pieces(["one ", "two ", "three"]).ending(End::Unfinished), &["upstream_truncated"]),
        (ScriptedReply::pieces(["one ", "two ", "three"]).breaking(broken), &["upstream_error"]),
    ] {
        let app = answering(Setup::default(), reply.clone()).await;
        let transcript = app.stream(&question("x")).await;
        assert!(transcript.content().starts_with("one two "), "{reply:?}");
        let error = checked_error(transcript.chunks.last().unwrap());
        assert_eq!(error["type"], "server_error", "{reply:?}");
        assert!(codes.contains(&error["code"].as_str().unwrap()), "{reply:?}: {error}");
        assert!(!transcript.is_done && transcript.finish_reasons().is_empty(), "{reply:?}");
        assert_eq!(app.simulator.record().requests_to(Endpoint::Completions).len(), 1, "tried again after content");
    }
}

#[tokio::test]
async fn an_upstream_that_falls_silent_is_a_timeout() {
    let reply = ScriptedReply::pieces(["one"]).ending(End::Stalled);
    let app = answering(Setup::default().with("IDLE_TIMEOUT", "100ms"), reply).await;
    let transcript = app.stream(&question("x")).await;
    assert_eq!(transcript.content(), "one");
    assert_eq!(transcript.error().unwrap()["code"], "upstream_timeout");
    assert!(!transcript.is_done);
}

#[tokio::test]
async fn stop_sequences_cut_across_pieces() {
    let chatter = Inserted::UnknownPhase { phase: "answer".to_owned(), content: "tail ".to_owned(), tool: false };
    let endless = End::Endless(Endless { what: chatter, every_ms: 2 });
    for stop in [json!("END"), json!(["never", "END"]), json!(["", "END"])] {
        let app =
            answering(Setup::default(), ScriptedReply::pieces(["one E", "N", "D two"]).ending(endless.clone())).await;
        let mut body = question("x");
        body["stop"] = stop;
        let transcript = app.stream(&body).await;
        assert_eq!(transcript.content(), "one ");
        assert_eq!(transcript.finish_reasons(), ["stop"]);
        assert_strict(&transcript, false);
        let stopped = app.simulator.record().wait_for_counts(|counters| counters.open_streams == 0, PATIENCE).await;
        assert!(stopped.is_some(), "the upstream goes on");
        app.assert_clean();
    }
}

#[tokio::test]
async fn what_only_looks_like_a_stop_sequence_is_shown() {
    let app = answering(Setup::default(), ScriptedReply::pieces(["one E", "N", "T", "ER E"])).await;
    let mut body = question("x");
    body["stop"] = json!(["END"]);
    let transcript = app.stream(&body).await;
    assert_eq!(transcript.content(), "one ENTER E");
    assert_eq!(transcript.finish_reasons(), ["stop"]);
}

#[tokio::test]
async fn max_tokens_cut_and_say_so() {
    let chatter = Inserted::UnknownPhase { phase: "answer".to_owned(), content: "tail ".to_owned(), tool: false };
    let endless = End::Endless(Endless { what: chatter, every_ms: 2 });
    for (name, tokens) in [("max_tokens", json!(2)), ("max_completion_tokens", json!(2)), ("max_tokens", json!(2.0))] {
        let reply = ScriptedReply::pieces(["on", "e tw", "o th", "ree"]).ending(endless.clone());
        let app = answering(Setup::default(), reply).await;
        let mut body = question("x");
        body[name] = tokens;
        body["stream_options"] = json!({"include_usage": true});
        let transcript = app.stream(&body).await;
        assert_eq!(transcript.content(), "one two ");
        assert_eq!(transcript.finish_reasons(), ["length"]);
        assert_eq!(transcript.chunks.last().unwrap()["usage"]["completion_tokens"], 2);
        assert_strict(&transcript, true);
        let stopped = app.simulator.record().wait_for_counts(|counters| counters.open_streams == 0, PATIENCE).await;
        assert!(stopped.is_some(), "the upstream goes on");
        app.assert_clean();
    }
}

#[tokio::test]
async fn a_connection_serves_on_after_a_stream_and_after_errors() {
    let app = TestApp::quick().await;
    let mut client = Raw::connect(app.address).await;
    for round in 0..3 {
        client.send(raw::chat(&streamed(&format!("echo: round {round}")))).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200);
        assert!(Transcript::parse(str::from_utf8(&answer.body).unwrap()).is_done);
        client.send(raw::chat(&json!({"messages": []}))).await;
        assert_eq!(client.answer().await.status, 400);
        client.send(raw::head("GET /nowhere", &[])).await;
        assert_eq!(client.answer().await.status, 404);
        client.send(raw::head("GET /v1/chat/completions", &[])).await;
        assert_eq!(client.answer().await.status, 405);
        client.send("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 401);
    }
    client.send(raw::chat(&question("echo: last"))).await;
    assert_eq!(client.answer().await.json()["choices"][0]["message"]["content"], "last");
}

#[tokio::test]
async fn an_old_client_gets_its_stream_until_the_connection_closes() {
    let app = TestApp::quick().await;
    let mut client = Raw::connect(app.address).await;
    let body = streamed("echo: old").to_string();
    client
        .send(format!(
            "POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    let head = client.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("transfer-encoding"), None);
    let body = client.rest().await;
    assert_eq!(Transcript::parse(str::from_utf8(&body).unwrap()).content(), "old");
}

#[tokio::test]
async fn a_server_that_ends_tells_its_streams() {
    for hold in ["0", "10s"] {
        let setup = Setup::default().with("SHUTDOWN_TIMEOUT", "0").with("HEADERS_HOLD", hold);
        let reply = ScriptedReply::pieces(["one ", "two"]).pausing(2, Duration::from_secs(600));
        let app = answering(setup, reply).await;
        let mut response = app.chat(&streamed("x")).await;
        let mut seen = String::new();
        while !seen.contains("one ") {
            seen.push_str(str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
        }
        app.begin_stop();
        seen.push_str(&response.text().await.unwrap());
        let transcript = Transcript::parse(&seen);
        assert_eq!(transcript.error().unwrap()["code"], "shutting_down");
        assert!(!transcript.is_done && transcript.finish_reasons().is_empty());
        app.stop().await;
    }
}
