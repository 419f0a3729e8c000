//! Videos and the reading of chats.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::chat::aspect::Aspect;
use crate::chat::job::MediaJob;
use crate::chat::suffix::Product;
use crate::upstream::error::UpstreamErrorKind as Kind;
use crate::upstream::tests::server::{Server, answer, json as reply};
use crate::upstream::tests::{session, web};
use crate::upstream::web::request::WebRequest;
use crate::upstream::web::tasks::TaskStatus;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

pub(super) fn job() -> WebRequest {
    let media = MediaJob {
        model: "m-video".to_owned(),
        upstream_model: "m".to_owned(),
        product: Product::Video,
        aspect: Aspect::Tall,
        prompt: "Waves".to_owned(),
        files: Vec::new(),
        ignored: Vec::new(),
    };
    WebRequest::media(media).unwrap()
}

#[tokio::test]
async fn starting() {
    let task = |extra: Value| json!({"success": true, "data": {"chat_id": "c", "messages": [{"extra": extra}]}});
    let cases: [(Vec<u8>, Result<&str, Kind>); 12] = [
        (reply(200, &task(json!({"wanx": {"task_id": "e6b0a76d-1"}}))), Ok("e6b0a76d-1")),
        (reply(200, &task(json!({"aipodcast": {"task_id": "p1"}}))), Ok("p1")),
        (reply(200, &json!({"data": {"task_id": "d1"}})), Ok("d1")),
        (reply(200, &task(json!({"wanx": {"task_id": "../../x"}}))), Err(Kind::Protocol)),
        (reply(200, &task(json!(null))), Err(Kind::Protocol)),
        (reply(200, &json!({"success": true, "data": {}})), Err(Kind::Protocol)),
        (
            reply(200, &json!({"success": false, "data": {"code": "RateLimited", "num": 7}})),
            Err(Kind::QuotaExhausted { hours: Some(7) }),
        ),
        (reply(401, &json!({"detail": "401"})), Err(Kind::Unauthorized)),
        (
            answer(
                200,
                &[("content-type", "text/event-stream")],
                b"data: {\"error\":{\"code\":\"invalid_input\"}}\n\n",
            ),
            Err(Kind::InvalidRequest),
        ),
        (
            answer(
                200,
                &[("content-type", "text/event-stream")],
                b"data: {\"response.created\":{}}\n\ndata: {\"data\":{\"task_id\":\"s1\"}}",
            ),
            Ok("s1"),
        ),
        (answer(200, &[("content-type", "text/html")], b"<html>punish"), Err(Kind::Challenged)),
        (answer(500, &[], b""), Err(Kind::Unavailable)),
    ];
    for (bytes, expected) in cases {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let server = Server::answering(move |_, _| bytes.clone());
        let upstream = web(server.url(), None);
        let started = upstream.start_video(&session(), &job(), &[], "chat-1", soon()).await;
        assert_eq!(started.as_deref().map_err(|error| error.kind), expected, "{shown}");
        let seen = server.seen();
        assert_eq!(seen[0].target, "/api/v2/chat/completions?chat_id=chat-1");
        assert_eq!(seen[0].header("referer"), "https://chat.qwen.ai/c/chat-1");
        assert_eq!(seen[0].header("x-accel-buffering"), "no");
        assert_eq!(seen[0].header("authorization"), "Bearer SESSION-canary");
        let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
        assert_eq!(
            (&body["stream"], &body["size"], &body["messages"][0]["chat_type"]),
            (&json!(false), &json!("9:16"), &json!("t2v"))
        );
    }
}

#[tokio::test]
async fn a_video_that_is_not_started_in_time() {
    let server = Server::writing(|_, _, _| std::thread::park());
    let upstream = web(server.url(), None);
    let deadline = Instant::now() + Duration::from_millis(50);
    let error = upstream.start_video(&session(), &job(), &[], "c", deadline).await.unwrap_err();
    assert_eq!(error.kind, Kind::Timeout);
}

/// Checks the answers of both routes: the order of the calls, and the result.
async fn check(v2: Vec<u8>, v1: Vec<u8>, calls: usize, expected: Result<&str, Kind>) {
    let shown = String::from_utf8_lossy(&v2).into_owned();
    let server = Server::answering(move |seen, _| if seen.target.contains("/v2/") { v2.clone() } else { v1.clone() });
    let told = web(server.url(), None).task_status(&session(), "task-1").await;
    let told = told.map(|told| match told {
        TaskStatus::Running => "running".to_owned(),
        TaskStatus::Done { url } => url,
        TaskStatus::Failed(error) => format!("failed {} {}", error.kind.code(), error.code.unwrap_or("-")),
    });
    assert_eq!(told.as_ref().map(String::as_str).map_err(|error| error.kind), expected, "{shown}");
    let routes = ["GET /api/v2/task/status/task-1", "GET /api/v1/tasks/status/task-1"];
    assert_eq!(server.calls(), routes[..calls], "{shown}");
}

#[tokio::test]
async fn following() {
    let v2 = |data: Value| reply(200, &json!({"success": true, "data": data}));
    let none = || reply(404, &json!({"detail": "Not Found"}));
    let lost = || {
        let body = json!({"success": false, "data": {"code": "Not_Found", "details": "Task not found"}});
        answer(200, &[("x-actual-status-code", "404")], body.to_string().as_bytes())
    };
    for word in ["running", "pending", "queued", "processing", "Running"] {
        check(v2(json!({"task_status": word, "content": ""})), none(), 1, Ok("running")).await;
    }
    let url = "https://cdn.qwenlm.ai/output/u/t2v/c/t.mp4?key=x";
    check(v2(json!({"task_status": "success", "content": url})), none(), 1, Ok(url)).await;
    check(v2(json!({"task_status": "success", "content": "no link"})), none(), 2, Err(Kind::Protocol)).await;
    check(v2(json!({"task_status": "failed", "message": "no\nluck"})), none(), 1, Ok("failed unavailable -")).await;
    check(v2(json!({"task_status": "exploded"})), none(), 1, Ok("failed unavailable -")).await;
    for (data, expected) in [
        (json!({"code": "DataInspectionFailed", "message": "x"}), "failed content_policy DataInspectionFailed"),
        (json!({"code": "invalid_parameter", "message": "x"}), "failed invalid_request invalid_parameter"),
        (json!({"code": "quota_limit"}), "failed quota_exhausted quota_limit"),
        (json!({"code": "Unauthorized", "message": "x"}), "failed unavailable Unauthorized"),
    ] {
        let mut data = data;
        data["task_status"] = json!("failed");
        check(v2(data), none(), 1, Ok(expected)).await;
    }
    check(v2(json!({"other": 1})), none(), 2, Err(Kind::Protocol)).await;
    let flat = reply(200, &json!({"chat_type": "t2v", "task_status": "success", "content": url}));
    check(lost(), flat.clone(), 2, Ok(url)).await;
    check(none(), flat.clone(), 2, Ok(url)).await;
    check(answer(404, &[("content-type", "text/html")], b"<html>404"), flat.clone(), 2, Ok(url)).await;
    check(lost(), none(), 2, Err(Kind::LostChat)).await;
    check(none(), none(), 2, Err(Kind::LostChat)).await;
    check(lost(), answer(404, &[], b"<html>404"), 2, Err(Kind::LostChat)).await;
    check(lost(), reply(401, &json!({})), 2, Err(Kind::Unauthorized)).await;
    check(reply(401, &json!({})), flat.clone(), 1, Err(Kind::Unauthorized)).await;
    check(answer(404, &[("content-type", "text/html")], b"<html>punish"), flat.clone(), 1, Err(Kind::Challenged)).await;
    check(answer(502, &[], b""), none(), 2, Err(Kind::Unavailable)).await;
    check(answer(502, &[], b""), answer(429, &[], b""), 2, Err(Kind::RateLimited)).await;
    for broken in [answer(502, &[], b""), answer(405, &[], b"{}"), v2(json!({})), v2(json!({"task_status": "success"}))]
    {
        check(broken, flat.clone(), 2, Ok(url)).await;
    }
}

#[tokio::test]
async fn ids_cannot_lead_elsewhere() {
    let server = Server::answering(|_, _| reply(200, &json!({})));
    let upstream = web(server.url(), None);
    for id in ["", "../x", "a/b", "a?b"] {
        assert_eq!(upstream.task_status(&session(), id).await.unwrap_err().kind, Kind::LostChat);
        assert_eq!(upstream.chat_detail(&session(), id).await.unwrap_err().kind, Kind::LostChat);
    }
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn reading_a_chat() {
    let server = Server::answering(|_, count| match count {
        0 => reply(200, &json!({"success": true, "data": {"id": "c", "chat": {}}})),
        1 => reply(200, &json!({"id": "c"})),
        _ => reply(200, &json!({"success": false, "data": {"code": "Not_Found"}})),
    });
    let upstream = web(server.url(), None);
    assert_eq!(upstream.chat_detail(&session(), "c").await.unwrap(), json!({"id": "c", "chat": {}}));
    assert_eq!(upstream.chat_detail(&session(), "c").await.unwrap(), json!({"id": "c"}));
    assert_eq!(upstream.chat_detail(&session(), "c").await.unwrap_err().kind, Kind::LostChat);
    assert_eq!(server.calls()[0], "GET /api/v2/chats/c");
}
