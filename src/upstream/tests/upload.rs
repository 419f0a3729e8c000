//! Handing files over.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::files::attachment::{Attachment, MediaKind};
use crate::files::blob::{Blob, BlobWriter, MEMORY_BYTES_MAX};
use crate::upstream::error::{UpstreamError, UpstreamErrorKind as Kind};
use crate::upstream::tests::server::{Seen, Server, answer, json as reply};
use crate::upstream::tests::{session, web};
use crate::upstream::web::upload::{Pace, Uploaded};

const AT: &str = "messages[0].content[1]";
const SECRETS: [&str; 3] = ["SECRET-canary", "TOKEN-canary", "LINK-canary"];

fn pace() -> Pace {
    let wait = Duration::from_millis(5);
    Pace { backoff: [wait, wait], idle: Duration::from_secs(5), poll: (wait, wait), reading: 40 * wait }
}

fn file(kind: MediaKind, content: Blob) -> Attachment {
    Attachment { at: AT.to_owned(), name: "a_b.png".to_owned(), kind, content_type: "image/png".to_owned(), content }
}

fn sts(count: usize) -> Value {
    json!({"access_key_id": format!("STS.{count}"), "access_key_secret": "SECRET-canary",
        "security_token": "TOKEN-canary",
        "file_url": "https://qwen-webui-prod.oss-accelerate.aliyuncs.com/u-1/f-1_a_b.png?x-oss-expires=300&t=LINK-canary",
        "file_path": "u-1/f-1_a b.png", "file_id": "f-1", "bucketname": "qwen-webui-prod",
        "region": "oss-ap-southeast-1", "endpoint": "oss-accelerate.aliyuncs.com"})
}

/// A site which lends credentials, and documents which are read at the third question.
fn site() -> Server {
    Server::answering(|seen, count| match seen.target.as_str() {
        "/api/v2/files/getstsToken" => reply(200, &json!({"success": true, "data": sts(count)})),
        "/api/v2/files/parse" => reply(200, &json!({"success": true, "data": {}})),
        "/api/v2/files/parse/status" => {
            let status = if count < 4 { "running" } else { "success" };
            reply(200, &json!({"success": true, "data": [{"file_id": "f-1", "status": status}]}))
        }
        _ => reply(404, &json!({})),
    })
}

async fn upload(site: &Server, storage: &Server, file: &Attachment) -> Result<Uploaded, UpstreamError> {
    let upstream = web(site.url(), Some(storage.url()));
    let deadline = Instant::now() + Duration::from_secs(10);
    let outcome = upstream.upload_paced(&session(), file, deadline, &pace()).await;
    let shown = match &outcome {
        Ok(uploaded) => format!("{uploaded:?}"),
        Err(error) => format!("{error:?} {error}"),
    };
    assert!(SECRETS.iter().all(|secret| !shown.contains(secret)), "{shown}");
    outcome
}

/// Checks the storage's answers to each try: the number of tries and credentials, and the result.
async fn check(
    act: impl Fn(&Seen, usize, &mut TcpStream) + Send + Sync + 'static,
    tries: usize,
    credentials: usize,
    expected: Result<(), (Kind, &str)>,
) {
    let (site, storage) = (site(), Server::writing(act));
    let outcome = upload(&site, &storage, &file(MediaKind::Image, Blob::from(vec![1; 1000]))).await;
    match (outcome, expected) {
        (Ok(_), Ok(())) => {}
        (Err(error), Err((kind, words))) => {
            assert_eq!((error.kind, error.note), (kind, format!("{AT} could not be handed over ({words})")));
        }
        (outcome, expected) => panic!("{outcome:?} instead of {expected:?}"),
    }
    assert_eq!((storage.calls().len(), site.calls().len()), (tries, credentials), "{expected:?}");
}

fn statuses(statuses: &'static [u16]) -> impl Fn(&Seen, usize, &mut TcpStream) + Send + Sync + 'static {
    move |_, count, stream| {
        let body = b"<?xml version=\"1.0\"?><Error><Code>SomeCode</Code><Message>TOKEN-canary</Message></Error>";
        let status = statuses.get(count).or(statuses.last()).unwrap();
        let _ = std::io::Write::write_all(stream, &answer(*status, &[], body));
    }
}

#[tokio::test]
async fn a_picture() {
    let (site, storage) = (site(), Server::answering(|_, _| answer(200, &[], b"")));
    let before = Instant::now();
    let uploaded = upload(&site, &storage, &file(MediaKind::Image, Blob::from(b"\x89PNG".to_vec()))).await.unwrap();
    let Uploaded { file, lives_for } = uploaded;
    assert_eq!((file.file_id.as_str(), file.user_id.as_deref()), ("f-1", Some("u-1")));
    assert_eq!((file.name.as_str(), file.size, file.kind), ("a_b.png", 4, MediaKind::Image));
    assert!(file.url.ends_with("LINK-canary"));
    let longest = Duration::from_secs(270);
    assert!(lives_for <= longest && lives_for + before.elapsed() >= longest, "{lives_for:?}");

    let asked = &site.seen()[0];
    assert_eq!(asked.json(), json!({"filename": "a_b.png", "filesize": "4", "filetype": "image"}));
    assert_eq!(asked.header("authorization"), "Bearer SESSION-canary");
    let put = &storage.seen()[0];
    assert_eq!((put.method.as_str(), put.target.as_str()), ("PUT", "/u-1/f-1_a%20b.png"));
    assert_eq!(put.body, b"\x89PNG");
    assert_eq!(put.header("content-length"), "4");
    assert_eq!(put.header("content-type"), "image/png");
    assert_eq!(put.header("x-oss-content-sha256"), "UNSIGNED-PAYLOAD");
    assert_eq!(put.header("x-oss-security-token"), "TOKEN-canary");
    assert_eq!(put.header("cookie"), "");
    let day = put.header("x-oss-date").get(..8).unwrap().to_owned();
    let scope = format!("OSS4-HMAC-SHA256 Credential=STS.0/{day}/ap-southeast-1/oss/aliyun_v4_request,Signature=");
    assert!(put.header("authorization").starts_with(&scope), "{}", put.header("authorization"));
    assert!(!format!("{put:?}").contains("SESSION-canary"));
}

#[tokio::test]
async fn a_large_file_and_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = BlobWriter::new(dir.path());
    let content: Vec<u8> = (0..3 * MEMORY_BYTES_MAX + 77).map(|at| u8::try_from(at % 251).unwrap()).collect();
    writer.push(&content).unwrap();
    let large = (writer.finish(), content.clone());
    for (blob, content) in [large, (Blob::from(content.clone()), content), (Blob::from(Vec::new()), Vec::new())] {
        let (site, storage) = (site(), Server::answering(|_, _| answer(200, &[], b"")));
        upload(&site, &storage, &file(MediaKind::Video, blob)).await.unwrap();
        assert_eq!(site.seen()[0].json()["filetype"], "video");
        assert_eq!(site.seen()[0].json()["filesize"], content.len().to_string());
        assert!(storage.seen()[0].body == content);
    }
}

#[tokio::test]
async fn what_is_tried_again() {
    check(statuses(&[500, 503, 200]), 3, 1, Ok(())).await;
    check(statuses(&[429, 408, 200]), 3, 1, Ok(())).await;
    check(statuses(&[503]), 3, 1, Err((Kind::Unavailable, "storage answered 503 SomeCode"))).await;
    check(statuses(&[403, 200]), 2, 2, Ok(())).await;
    check(statuses(&[403]), 2, 2, Err((Kind::Unavailable, "storage answered 403 SomeCode"))).await;
    check(statuses(&[500, 403, 200]), 3, 2, Ok(())).await;
    check(statuses(&[403, 500, 500]), 3, 2, Err((Kind::Unavailable, "storage answered 500 SomeCode"))).await;
    check(statuses(&[400]), 1, 1, Err((Kind::Unavailable, "storage answered 400 SomeCode"))).await;
    check(statuses(&[307]), 1, 1, Err((Kind::Unavailable, "storage answered 307 SomeCode"))).await;
    let broken = "the connection to the storage failed";
    check(|_, _, _| {}, 3, 1, Err((Kind::Unavailable, broken))).await;
}

#[tokio::test]
async fn a_storage_that_stands_still() {
    let (site, storage) = (site(), Server::start(|_| false, |_, _, _| std::thread::park()));
    let upstream = web(site.url(), Some(storage.url()));
    let pace = Pace { idle: Duration::from_millis(100), ..pace() };
    let file = file(MediaKind::Image, Blob::from(vec![1; 8 * 1024 * 1024]));
    let deadline = Instant::now() + Duration::from_secs(60);
    let error = upstream.upload_paced(&session(), &file, deadline, &pace).await.unwrap_err();
    let detail = format!("{AT} could not be handed over (the storage stood still)");
    assert_eq!((error.kind, error.note, storage.calls().len()), (Kind::Unavailable, detail, 3));
}

/// Whether the answer or the closed connection is noticed first is a matter of luck; it has to end well either way.
#[tokio::test]
async fn a_refusal_in_the_middle() {
    let early = |_: &Seen, count: usize, stream: &mut TcpStream| {
        let _ = std::io::Write::write_all(stream, &answer(if count == 0 { 403 } else { 200 }, &[], b""));
    };
    let (site, storage) = (site(), Server::start(|count| count > 0, early));
    let content = vec![1; 8 * 1024 * 1024];
    upload(&site, &storage, &file(MediaKind::Image, Blob::from(content.clone()))).await.unwrap();
    assert_eq!(storage.calls().len(), 2);
    assert!(storage.seen()[1].body == content);
}

#[tokio::test]
async fn the_deadline_ends_everything() {
    let (site, storage) = (site(), Server::writing(|_, _, _| std::thread::park()));
    let upstream = web(site.url(), Some(storage.url()));
    let deadline = Instant::now() + Duration::from_millis(100);
    let file = file(MediaKind::Image, Blob::from(vec![1]));
    let error = upstream.upload(&session(), &file, deadline).await.unwrap_err();
    assert_eq!((error.kind, error.note), (Kind::Timeout, format!("{AT} could not be handed over in time")));
}

#[tokio::test]
async fn documents_are_waited_for() {
    let (site, storage) = (site(), Server::answering(|_, _| answer(200, &[], b"")));
    upload(&site, &storage, &file(MediaKind::Document, Blob::from(vec![1]))).await.unwrap();
    let seen = site.seen();
    assert_eq!(seen[0].json()["filetype"], "file");
    assert_eq!((seen[1].target.as_str(), seen[1].json()), ("/api/v2/files/parse", json!({"file_id": "f-1"})));
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[4].json(), json!({"file_id_list": ["f-1"]}));
}

#[tokio::test]
async fn documents_that_cannot_be_read() {
    let check = async |states: fn(usize) -> Vec<u8>, expected: Option<(Kind, &str)>| {
        let site = Server::answering(move |seen, count| match seen.target.as_str() {
            "/api/v2/files/getstsToken" => reply(200, &json!({"success": true, "data": sts(count)})),
            "/api/v2/files/parse" => reply(200, &json!({"success": true, "data": {}})),
            _ => states(count - 2),
        });
        let storage = Server::answering(|_, _| answer(200, &[], b""));
        let outcome = upload(&site, &storage, &file(MediaKind::Document, Blob::from(vec![1]))).await;
        let expected = expected.map(|(kind, words)| (kind, format!("{AT} {words}")));
        let found = outcome.err().map(|mut error| {
            error.clean(&[], Vec::new);
            (error.kind, format!("{} {}", error.note, error.words()).trim_end().to_owned())
        });
        assert_eq!(found, expected);
    };
    check(
        |_| reply(200, &json!({"data": [{"file_id": "f-1", "status": "failed", "error_msg": "page 3 is torn"}]})),
        Some((Kind::InvalidRequest, "could not be read by the upstream page 3 is torn")),
    )
    .await;
    check(
        |_| reply(200, &json!({"data": {"status": "pending"}})),
        Some((Kind::Timeout, "was not read by the upstream in time")),
    )
    .await;
    check(
        |count| if count < 2 { answer(502, &[], b"") } else { reply(200, &json!({"data": {"status": "success"}})) },
        None,
    )
    .await;
}

#[tokio::test]
async fn credentials_of_the_older_route() {
    for missing in [
        reply(404, &json!({"detail": "Not Found"})),
        answer(404, &[("content-type", "text/html")], b"<html>404"),
        reply(200, &json!({"success": false, "data": {"code": "Not_Found"}})),
        reply(405, &json!({"detail": "Method Not Allowed"})),
        reply(500, &json!({"detail": "Internal Server Error"})),
        reply(200, &json!({"success": true, "data": {}})),
        answer(200, &[("content-type", "application/json")], b"{"),
    ] {
        let missing = Arc::new(missing);
        let site =
            Server::answering(
                move |seen, count| {
                    if seen.target.contains("/v1/") { reply(200, &sts(count)) } else { missing.to_vec() }
                },
            );
        let storage = Server::answering(|_, _| answer(200, &[], b""));
        upload(&site, &storage, &file(MediaKind::Audio, Blob::from(vec![1]))).await.unwrap();
        assert_eq!(site.calls(), ["POST /api/v2/files/getstsToken", "POST /api/v1/files/getstsToken"]);
        assert_eq!(site.seen()[1].json()["filetype"], "audio");
    }
}

#[tokio::test]
async fn refused_credentials() {
    let check = async |bytes: Vec<u8>, calls: usize, kind: Kind, detail: &str| {
        let site = Server::answering(move |_, _| bytes.clone());
        let storage = Server::answering(|_, _| answer(200, &[], b""));
        let error = upload(&site, &storage, &file(MediaKind::Image, Blob::from(vec![1]))).await.unwrap_err();
        assert_eq!((error.kind, error.note.as_str()), (kind, detail));
        assert_eq!((site.calls().len(), storage.calls().len()), (calls, 0));
    };
    check(reply(401, &json!({})), 1, Kind::Unauthorized, "").await;
    check(reply(429, &json!({})), 1, Kind::RateLimited, "").await;
    check(reply(503, &json!({})), 2, Kind::Unavailable, "").await;
    check(reply(404, &json!({})), 2, Kind::Protocol, "the upstream has no route for uploads").await;
    check(reply(200, &json!({"success": true, "data": {}})), 2, Kind::Protocol, "the upload credential has no key id")
        .await;
    let invalid = json!({"success": false, "data": {"code": "Bad_Request", "details": "Invalid file information!"}});
    check(reply(200, &invalid), 1, Kind::InvalidRequest, &format!("{AT} was not accepted")).await;
}
