use std::time::{Duration, Instant};

use crate::record::{EndedHow, RecordedRequest};
use crate::script::{
    BodyForm, ChallengeForm, Content, CutHow, End, Endless, Endpoint, ErrorForm, ErrorScript, Inserted, RawScript,
    ScriptedFailure, ScriptedReply, StatusScript, StreamError,
};
use crate::tests::client::{Caller, SOON, TORN, answer_of, frames, question, read, start};

#[tokio::test]
async fn envelopes_in_place_of_a_stream() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    for (code, effective) in [
        ("RateLimited", 429),
        ("Bad_Request", 400),
        ("Unauthorized", 401),
        ("Forbidden", 403),
        ("CHAT_NOT_FOUND", 404),
        ("data_inspection_failed", 400),
        ("internal_error", 500),
    ] {
        let read = caller.ask_scripted(ScriptedReply::error(code)).await;
        assert_eq!((read.status, read.effective, read.code().as_str()), (200, effective, code));
        assert!(!read.details().is_empty());
    }
    let script = ErrorScript {
        code: "RateLimited".into(),
        details: Some("Later.".into()),
        num: Some(6),
        effective_status: Some(200),
        ..ErrorScript::default()
    };
    let read = caller.ask_scripted(ScriptedReply::error_with(script.clone())).await;
    assert_eq!((read.effective, read.json()["data"]["num"].as_u64()), (200, Some(6)));
    assert!(read.json()["data"]["template"].as_str().unwrap().contains("{{num}} hours"));
    let top = ErrorScript { top_level: true, ..script };
    let read = caller.ask_scripted(ScriptedReply::error_with(top)).await;
    assert_eq!(read.json()["code"], "RateLimited");
    assert!(read.json().get("data").is_none());
    let chats = simulator.stored().chats(Some("ada"));
    assert!(chats.iter().all(|chat| !chat.is_busy));
}

#[tokio::test]
async fn real_statuses() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    for code in [401, 403, 429, 500, 502, 503, 504] {
        let read = caller.ask_scripted(ScriptedReply::status(code)).await;
        assert_eq!((read.status, read.effective), (code, 0));
        assert!(read.json()["detail"].is_string());
    }
    for (body, content_type) in
        [(BodyForm::Html, "text/html"), (BodyForm::Plain, "text/plain"), (BodyForm::Empty, "text/plain")]
    {
        let status = StatusScript { code: 502, retry_after: vec!["120".into(), "soon".into()], body, text: None };
        simulator.script().queue(None, Endpoint::Completions, ScriptedReply::failing(ScriptedFailure::Status(status)));
        let chat = caller.chat().await;
        let response = caller.completion(&chat, &question(&chat, "x")).send().await.unwrap();
        let waits: Vec<_> = response.headers().get_all("retry-after").iter().collect();
        assert_eq!(waits, ["120", "soon"]);
        assert_eq!(read(response).await.content_type, content_type);
    }
}

#[tokio::test]
async fn challenges_redirects_and_raw_bodies() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    for status in [200, 403, 405] {
        let page = caller.ask_scripted(ScriptedReply::challenge(ChallengeForm::Html, status)).await;
        assert_eq!(page.status, status);
        assert!(page.content_type.starts_with("text/html"));
        assert!(page.text.starts_with("<!doctypehtml>") && page.text.contains("aliyun_waf_aa"));
    }
    let json = caller.ask_scripted(ScriptedReply::challenge(ChallengeForm::Json, 200)).await;
    assert!(json.text.contains("RGV587") && (380..430).contains(&json.text.len()), "{}", json.text.len());

    let there = "http://127.0.0.1:9/elsewhere".to_owned();
    simulator.script().queue(
        None,
        Endpoint::Completions,
        ScriptedReply::failing(ScriptedFailure::Redirect(there.clone())),
    );
    let chat = caller.chat().await;
    let response = caller.completion(&chat, &question(&chat, "x")).send().await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["location"], there.as_str());

    let raw =
        RawScript { status: 200, content_type: "text/event-stream".into(), body: "ZGF0YTog/w==".into(), base64: true };
    let reply = ScriptedReply::failing(ScriptedFailure::Raw(raw)).header("x-more", "1");
    simulator.script().queue(None, Endpoint::Completions, reply);
    let response = caller.completion(&chat, &question(&chat, "x")).send().await.unwrap();
    assert_eq!(response.headers()["x-more"], "1");
    assert_eq!(response.bytes().await.unwrap(), &b"data: \xff"[..]);
}

#[tokio::test]
async fn other_endpoints_fail_too() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    for (endpoint, path) in [
        (Endpoint::Auths, "/api/v1/auths/"),
        (Endpoint::Models, "/api/models"),
        (Endpoint::ListChats, "/api/v2/chats/"),
        (Endpoint::Settings, "/api/v2/users/user/settings"),
    ] {
        simulator.script().queue(Some("ada"), endpoint, ScriptedReply::status(503));
        simulator.script().queue(None, endpoint, ScriptedReply::error("Forbidden").header("x-more", "1"));
        assert_eq!(caller.get(path).await.status, 503);
        let refused = caller.get(path).await;
        assert_eq!((refused.effective, refused.code().as_str()), (403, "Forbidden"));
        assert_eq!(caller.get(path).await.status, 200);
    }
    simulator.script().queue(Some("bob"), Endpoint::Refresh, ScriptedReply::error("Unauthorized"));
    let bob = Caller::new(&simulator, "bob");
    let refresh = || async { read(bob.to_auth("/api/v2/auths/refresh").send().await.unwrap()).await };
    assert_eq!(refresh().await.code(), "Unauthorized");
    refresh().await.data();
    simulator.script().queue(Some("ada"), Endpoint::NewChat, ScriptedReply::failing(ScriptedFailure::Reset));
    let body = serde_json::json!({ "models": ["x"] }).to_string();
    let request = caller.polite(http::Method::POST, "/api/v2/chats/new").body(body);
    assert!(request.send().await.is_err());
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    simulator.script().queue(None, Endpoint::Completions, ScriptedReply::failing(ScriptedFailure::Reset));
    let chat = caller.chat().await;
    let error = caller.completion(&chat, &question(&chat, "x")).send().await.unwrap_err();
    assert!(format!("{error:?}").contains("ConnectionReset"), "{error:?}");
    assert_eq!(caller.last_end().await, EndedHow::Torn);
}

#[tokio::test]
async fn streams_are_torn_anywhere() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let reply = || ScriptedReply::pieces(["äöü", "def"]);
    for (how, is_torn) in [(CutHow::Fin, true), (CutHow::Reset, true), (CutHow::CleanEnd, false)] {
        let text = caller.ask_scripted(reply().cut_at_byte(300, how)).await.text;
        assert_eq!(text.ends_with(TORN), is_torn, "{how:?}");
        if how != CutHow::Reset {
            // A reset may overtake what was sent before it.
            let expected = if is_torn { 300 + TORN.len() } else { 300 };
            assert_eq!(text.len(), expected, "{how:?}");
        }
        let record = caller.last_completion().await;
        assert_eq!((record.bytes_sent, record.finish_sent), (300, false));
        let end = if is_torn { EndedHow::Torn } else { EndedHow::Completed };
        assert_eq!(record.ended.unwrap().how, end);

        let text = caller.ask_scripted(reply().cut_after(2, how)).await.text;
        if how != CutHow::Reset {
            assert_eq!(answer_of(&text), "äöü");
        }
    }
    for at_byte in [0, 1] {
        let cut = reply().cut_at_byte(at_byte, CutHow::CleanEnd);
        assert_eq!(caller.ask_scripted(cut).await.text.len(), at_byte);
    }
    let whole = caller.ask_scripted(reply().cut_after(6, CutHow::Fin)).await.text;
    assert!(whole.contains("finished") && whole.ends_with(TORN));
    assert!(caller.last_completion().await.finish_sent);
}

#[tokio::test]
async fn fin_and_rst_are_told_apart() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    for (how, is_reset) in [(CutHow::Fin, false), (CutHow::Reset, true)] {
        let reply = ScriptedReply::answer("x").cut_after(2, how);
        simulator.script().queue(None, Endpoint::Completions, reply);
        let chat = caller.chat().await;
        let request = caller.completion(&chat, &question(&chat, "x"));
        let mut response = request.send().await.unwrap();
        let error = loop {
            match response.chunk().await {
                Ok(chunk) => assert!(chunk.is_some(), "the body ended well"),
                Err(error) => break error,
            }
        };
        let error = format!("{error:?}");
        assert_eq!(error.contains("ConnectionReset"), is_reset, "{error}");
    }
}

#[tokio::test]
async fn errors_inside_a_stream() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let broken = |after, form| {
        ScriptedReply::pieces(["a", "b", "c"]).breaking(StreamError {
            after,
            form,
            code: "internal_error".into(),
            ..StreamError::default()
        })
    };
    let first = caller.ask_scripted(broken(0, ErrorForm::Text)).await.text;
    assert_eq!(first, "data: {\"error\":\"Internal Error\"}\n\n");
    let later = caller.ask_scripted(broken(3, ErrorForm::Object)).await.text;
    assert_eq!(answer_of(&later), "ab");
    assert_eq!(frames(&later)[3]["error"]["code"], "internal_error");
    let envelope = caller.ask_scripted(broken(1, ErrorForm::Envelope)).await.text;
    assert_eq!(frames(&envelope)[1]["success"], false);
    assert!(!caller.last_completion().await.finish_sent);
}

#[tokio::test]
async fn connections_stay_open_or_silent() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let send = || async { caller.completion(&chat, &question(&chat, "x")).send().await.unwrap() };
    simulator.script().queue(None, Endpoint::Completions, ScriptedReply::pieces(["a"]).ending(End::Open));
    let mut response = send().await;
    let mut text = String::new();
    while !text.contains("\"finished\"") {
        let chunk = response.chunk().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let more = tokio::time::timeout(Duration::from_millis(100), response.chunk()).await;
    assert!(more.is_err(), "nothing more, and no end");
    assert!(!simulator.stored().chats(Some("ada")).last().unwrap().is_busy, "the turn is over");
    drop(response);
    assert_eq!(caller.last_end().await, EndedHow::ClientClosed);
    assert!(caller.last_completion().await.finish_sent);

    simulator.script().queue(None, Endpoint::Completions, ScriptedReply::failing(ScriptedFailure::Silence));
    let mut response = send().await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let more = tokio::time::timeout(Duration::from_millis(100), response.chunk()).await;
    assert!(more.is_err());
}

#[tokio::test]
async fn waits_are_kept() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let ms = Duration::from_millis;
    let slow = ScriptedReply::pieces(["a", "b"])
        .delayed(ms(60))
        .pausing(2, ms(80))
        .with_stream(|stream| stream.first_event_ms = 70);
    let chat = caller.chat().await;
    simulator.script().queue(None, Endpoint::Completions, slow);
    let begin = Instant::now();
    let mut response = caller.completion(&chat, &question(&chat, "x")).send().await.unwrap();
    assert!(begin.elapsed() >= ms(60));
    response.chunk().await.unwrap();
    assert!(begin.elapsed() >= ms(130));
    while response.chunk().await.unwrap().is_some() {}
    assert!(begin.elapsed() >= ms(210));

    let begin = Instant::now();
    caller.ask_scripted(ScriptedReply::pieces(["a", "b"]).paced(ms(20))).await;
    assert!(begin.elapsed() >= ms(100), "five waits between six frames");
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_at_once() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let closed = |request: &RecordedRequest| request.client_closed_at().is_some();
    // While the head is still to come.
    simulator.script().queue(None, Endpoint::NewChat, ScriptedReply::default().delayed(Duration::from_secs(600)));
    let body = serde_json::json!({ "models": ["x"] });
    let request = caller.post("/api/v2/chats/new", &body);
    assert!(tokio::time::timeout(Duration::from_millis(100), request).await.is_err());
    let record = simulator.record().wait_until(closed, SOON).await.unwrap();
    assert_eq!((record.endpoint, record.status), (Some(Endpoint::NewChat), None));

    // In the middle of a stream.
    let chat = caller.chat().await;
    let reply = ScriptedReply::answer("abc").ending(End::Stalled);
    simulator.script().queue(None, Endpoint::Completions, reply);
    let mut response = caller.completion(&chat, &question(&chat, "x")).send().await.unwrap();
    response.chunk().await.unwrap();
    assert_eq!(simulator.record().counts().open_streams, 1);
    let left_at = Instant::now();
    drop(response);
    let is_it = |request: &RecordedRequest| request.endpoint == Some(Endpoint::Completions) && closed(request);
    let record = simulator.record().wait_until(is_it, SOON).await.unwrap();
    let after = record.client_closed_at().unwrap().duration_since(left_at);
    assert!(after < Duration::from_secs(1), "{after:?}");
    assert_eq!(simulator.record().counts().open_streams, 0);
}

#[tokio::test]
async fn a_stream_may_never_end() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let endless = |what| Endless { what, every_ms: 1 };
    let comments = ScriptedReply::answer("").with_stream(|stream| {
        stream.content = Content::Created;
        stream.end = End::Endless(endless(Inserted::Comment("still here".into())));
    });
    let words = ScriptedReply::pieces(["a"]).ending(End::Endless(endless(Inserted::UnknownPhase {
        phase: "answer".into(),
        content: "b".into(),
        tool: false,
    })));
    for (reply, part) in [(comments, ": still here\n\n"), (words, "\"content\": \"b\", \"phase\": \"answer\"")] {
        simulator.script().queue(None, Endpoint::Completions, reply);
        let chat = caller.chat().await;
        let request = caller.completion(&chat, &question(&chat, "x"));
        let mut response = request.send().await.unwrap();
        let mut text = String::new();
        while text.matches(part).count() < 20 {
            let chunk = response.chunk().await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        assert!(!text.contains("finished"));
    }
}

#[tokio::test]
async fn a_content_length_may_lie() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let lie = ScriptedReply::error("internal_error").header("content-length", "9999");
    let text = caller.ask_scripted(lie).await.text;
    assert!(text.starts_with("{\"success\":false") && text.ends_with(TORN));
}

#[tokio::test]
async fn what_is_not_simulated_can_be_refused_by_script() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    simulator.script().queue(None, Endpoint::Completions, ScriptedReply::error("RateLimited"));
    simulator.script().queue(None, Endpoint::Completions, ScriptedReply::answer("for text"));
    let chat = caller.chat_for("travel").await;
    let mut body = question(&chat, "cats");
    let message = &mut body["messages"][0];
    message["chat_type"] = "travel".into();
    message["sub_chat_type"] = "travel".into();
    message["extra"]["meta"]["subChatType"] = "travel".into();
    assert_eq!(caller.complete(&chat, &body).await.code(), "RateLimited");
    assert_eq!(caller.complete(&chat, &body).await.code(), "internal_error");
    assert_eq!(answer_of(&caller.ask("x").await.text), "for text");
    assert!(simulator.record().violations().is_empty());
}
