//! Bodies and connections at their limits, by clients without manners.

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use simulator::script::{End, Endless, Endpoint, Inserted, Scenario, ScriptedReply};
use simulator::{CallCounts, Simulator};
use tokio::time::timeout;

use crate::support::app::{KEY, PATIENCE, Setup, TestApp, checked_error, content, error_of, json_of, question};
use crate::support::program::{self, Program};
use crate::support::raw::{self, Answer, Raw};

async fn started(setup: Setup) -> TestApp {
    setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The head of a chat request with JSON and these further lines.
fn chat_head(lines: &[&str]) -> String {
    let lines: Vec<&str> = ["content-type: application/json"].into_iter().chain(lines.iter().copied()).collect();
    raw::head("POST /v1/chat/completions", &lines)
}

fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(checked_error(&answer.json())["code"], code);
}

/// The server still answers, on a new connection.
async fn assert_well(app: &TestApp) {
    assert_eq!(content(&app.ask("echo: well").await), "well");
}

/// What a caller who reads nothing may cost in this program's memory, in KiB. Most of it is what the HTTP client has read
/// of a very fast upstream.
const READER_KIB_MAX: u64 = 700;
/// What the system may keep of the answer for such a caller, in bytes.
const SOCKET_BYTES_MAX: u64 = 320 * 1024;

/// The encodings in which bodies are read, each with a way to encode.
type Encode = fn(&[u8]) -> Vec<u8>;

const ENCODINGS: [(&str, Encode); 2] = [("gzip", gzip), ("zstd", zstd)];

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

#[tokio::test]
async fn encoded_bodies_are_read() {
    let app = TestApp::quick().await;
    for (name, encode) in ENCODINGS {
        let body = encode(question("echo: packed 字").to_string().as_bytes());
        let request = app.post("/v1/chat/completions", &json!(null)).header("content-encoding", name).body(body);
        assert_eq!(content(&json_of(request.send().await.unwrap()).await), "packed 字", "{name}");
    }
    let plain = app.post("/v1/chat/completions", &question("echo: x")).header("content-encoding", "identity");
    assert_eq!(plain.send().await.unwrap().status(), 200);
    for (name, encode) in [("GZIP", gzip as Encode), ("x-gzip", gzip), ("identity, Gzip", gzip), ("ZSTD", zstd)] {
        let body = encode(question("echo: named").to_string().as_bytes());
        let request = app.post("/v1/chat/completions", &json!(null)).header("content-encoding", name).body(body);
        assert_eq!(content(&json_of(request.send().await.unwrap()).await), "named", "{name}");
    }
}

/// What parallel compressors write, and what two compressed files put together are.
#[tokio::test]
async fn bodies_of_several_compressed_parts_are_read_whole() {
    let app = TestApp::quick().await;
    let text = question("echo: one and two").to_string();
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    for (name, encode) in ENCODINGS {
        let body = [encode(first), encode(b""), encode(second)].concat();
        let request = app.post("/v1/chat/completions", &json!(null)).header("content-encoding", name).body(body);
        assert_eq!(content(&json_of(request.send().await.unwrap()).await), "one and two", "{name}");
        let cut = [encode(first), encode(second)[..9].to_vec()].concat();
        let request = app.post("/v1/chat/completions", &json!(null)).header("content-encoding", name).body(cut);
        assert_eq!(request.send().await.unwrap().status(), 400, "{name}");
    }
}

#[tokio::test]
async fn a_bomb_is_measured_unpacked() {
    let app = started(Setup::default().with("MAX_BODY", "100KB")).await;
    let mut text = question("x").to_string().into_bytes();
    text.resize(20_000_000, b' ');
    for (name, encode) in ENCODINGS {
        let bomb = encode(&text);
        assert!(bomb.len() < 50_000, "{} bytes are no bomb", bomb.len());
        let request = app.post("/v1/chat/completions", &json!(null)).header("content-encoding", name).body(bomb);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 413, "{name}");
        assert_eq!(error_of(response).await["code"], "request_too_large");
    }
    assert_eq!(app.turns(), 0);
    assert_well(&app).await;
}

#[tokio::test]
async fn bodies_that_are_not_what_their_encoding_says() {
    let app = TestApp::quick().await;
    for (name, encode) in ENCODINGS {
        let good = encode(question("x").to_string().as_bytes());
        let mut damaged = good.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        let half = good[..good.len() / 2].to_vec();
        for body in [b"not encoded".to_vec(), half, damaged, question("x").to_string().into()] {
            let request = app.post("/v1/chat/completions", &json!(null)).header("content-encoding", name).body(body);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 400, "{name}");
            assert_eq!(error_of(response).await["type"], "invalid_request_error");
        }
    }
    for encoding in ["br", "compress", "gzip, gzip", "nonsense"] {
        let request = app.post("/v1/chat/completions", &question("x")).header("content-encoding", encoding);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 415, "{encoding}");
        let accepted = response.headers()["accept-encoding"].to_str().unwrap();
        assert!(accepted.contains("gzip") && accepted.contains("zstd"), "{accepted}");
        assert_eq!(error_of(response).await["code"], "unsupported_encoding");
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn a_body_that_waits_to_be_asked_is_asked_for() {
    let app = TestApp::quick().await;
    let body = question("echo: polite").to_string();
    let mut client = Raw::connect(app.address).await;
    client.send(chat_head(&["expect: 100-continue", &format!("content-length: {}", body.len())])).await;
    assert_eq!(client.head().await.status, 100);
    client.send(&body).await;
    assert_eq!(client.answer().await.json()["choices"][0]["message"]["content"], "polite");
    client.send(raw::chat(&question("echo: again"))).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_body_in_chunks_is_a_body() {
    let app = TestApp::quick().await;
    let body = question("echo: in chunks 字").to_string();
    let mut client = Raw::connect(app.address).await;
    for size in [1, 7, 1000] {
        client.send(chat_head(&["transfer-encoding: chunked"])).await;
        for chunk in body.as_bytes().chunks(size) {
            client.send(format!("{:x}\r\n", chunk.len())).await;
            client.send(chunk).await;
            client.send("\r\n").await;
        }
        client.send("0\r\nx-trailer: yes\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!(answer.json()["choices"][0]["message"]["content"], "in chunks 字");
    }
}

#[tokio::test]
async fn a_declared_length_over_the_limit_is_refused_unread() {
    let app = started(Setup::default().with("MAX_BODY", "100KB")).await;
    for expect in [&[][..], &["expect: 100-continue"]] {
        let mut client = Raw::connect(app.address).await;
        client.send(chat_head(&[expect, &["content-length: 60000000"]].concat())).await;
        // The answer is whole although nothing of the body was sent, and nothing of it was asked for.
        let answer = timeout(PATIENCE / 2, client.answer()).await.expect("the answer waits for the body");
        assert_refused(&answer, 413, "request_too_large");
    }
    assert_eq!(app.turns(), 0);
    assert_well(&app).await;
}

#[tokio::test]
async fn a_client_that_sends_first_and_reads_then_sees_the_refusal() {
    let app = started(Setup::default().with("MAX_BODY", "100KB")).await;
    let body = vec![b' '; 8_000_000];
    let mut client = Raw::connect(app.address).await;
    client.send(chat_head(&[&format!("content-length: {}", body.len())])).await;
    client.send(&body).await;
    assert_refused(&client.answer().await, 413, "request_too_large");
    // Used again or closed, but no other request is made of what was sent.
    if client.try_send(raw::chat(&question("echo: again"))).await {
        let rest = String::from_utf8(client.rest_or_answer().await).unwrap();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 200"), "{rest}");
    }
    assert_well(&app).await;
}

#[tokio::test]
async fn chunks_are_counted() {
    let app = started(Setup::default().with("MAX_BODY", "100KB")).await;
    let mut client = Raw::connect(app.address).await;
    client.send(chat_head(&["transfer-encoding: chunked"])).await;
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    for _ in 0..7 {
        client.send(&chunk).await;
    }
    // The body goes on, but the answer is there.
    let answer = timeout(PATIENCE / 2, client.answer()).await.expect("the answer waits for the body");
    assert_refused(&answer, 413, "request_too_large");
    assert_eq!(app.turns(), 0);
    assert_well(&app).await;
}

#[tokio::test]
async fn a_body_at_the_limit_passes() {
    let app = started(Setup::default().with("MAX_BODY", "100KB")).await;
    let mut body = question("echo: full").to_string();
    body.extend(std::iter::repeat_n(' ', 100_000 - body.len()));
    let response = app.post("/v1/chat/completions", &json!(null)).body(body.clone()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    // Whether 100KB counts by tens or by twos: a fifth more is too much.
    body.extend(std::iter::repeat_n(' ', 20_000));
    let response = app.post("/v1/chat/completions", &json!(null)).body(body).send().await.unwrap();
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn twelve_megabytes_pass_by_default() {
    let app = TestApp::quick().await;
    let mut body = question("echo: large").to_string();
    body.extend(std::iter::repeat_n(' ', 12_000_000));
    let response = app.post("/v1/chat/completions", &json!(null)).body(body).send().await.unwrap();
    assert_eq!(content(&json_of(response).await), "large");
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let app = started(Setup::default().with("READ_TIMEOUT", "100ms")).await;
    for (head, body) in
        [(chat_head(&["content-length: 100"]), "{\"mess"), (chat_head(&["transfer-encoding: chunked"]), "5\r\n{\"mes")]
    {
        let mut client = Raw::connect(app.address).await;
        client.send(head + body).await;
        let answer = client.answer().await;
        assert_refused(&answer, 408, "request_timeout");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert!(client.is_closed().await);
    }
    assert_eq!(app.turns(), 0);
    assert_well(&app).await;
}

#[tokio::test]
async fn a_body_that_drips_is_given_up() {
    let app = started(Setup::default().with("READ_TIMEOUT", "150ms")).await;
    let mut client = Raw::connect(app.address).await;
    client.send(chat_head(&["content-length: 100000"])).await;
    let mut drops = 0;
    // Each byte comes well within the pause that is allowed, but there is no end to it.
    while drops < 200 && client.try_send(" ").await {
        drops += 1;
        if timeout(Duration::from_millis(30), client.arrived()).await.is_ok() {
            break;
        }
    }
    assert!(drops < 200, "a dripping body is read for ever");
    assert_refused(&client.answer().await, 408, "request_timeout");
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_nobodys_request() {
    let app = TestApp::quick().await;
    let mut client = Raw::connect(app.address).await;
    let body = question("x").to_string();
    client.send(chat_head(&[&format!("content-length: {}", body.len() + 10)]) + &body).await;
    client.end().await;
    let rest = String::from_utf8(client.rest().await).unwrap();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400"), "{rest}");
    let mut client = Raw::connect(app.address).await;
    client.send(chat_head(&["transfer-encoding: chunked"]) + "zz\r\n{}\r\n0\r\n\r\n").await;
    assert_refused(&client.answer().await, 400, "invalid_body");
    assert_eq!(app.turns(), 0);
    assert_well(&app).await;
}

/// An answer that goes on as fast as it is read.
fn endless() -> ScriptedReply {
    let what = Inserted::UnknownPhase { phase: "answer".to_owned(), content: "on ".to_owned(), tool: false };
    ScriptedReply::answer("on ").ending(End::Endless(Endless { what, every_ms: 0 }))
}

/// A request for a stream.
fn streamed_with(key: &str) -> String {
    let mut body = question("x");
    body["stream"] = json!(true);
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_caller_who_does_not_read_is_given_up() {
    let app = started(Setup::default().with("WRITE_TIMEOUT", "300ms")).await;
    app.simulator.script().queue(None, Endpoint::Completions, endless());
    let mut client = Raw::connect(app.address).await;
    client.send(streamed_with(KEY)).await;
    let closed = app.simulator.record().wait_until(|request| request.client_closed_at().is_some(), PATIENCE).await;
    assert_eq!(closed.and_then(|request| request.endpoint), Some(Endpoint::Completions));
    drop(client);
    assert_well(&app).await;
}

#[tokio::test]
async fn callers_who_do_not_read_cost_little_memory() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    simulator.script().set_default(None, Endpoint::Completions, Some(endless()));
    let mut settings = program::settings(&simulator, "json");
    settings.retain(|(name, _)| *name != "LOG_LEVEL");
    settings.push(("MAX_IN_FLIGHT", "100".to_owned()));
    let server = Program::start(&["serve"], &settings);
    let address = server.address_beside("listening").await;
    let mut held = Vec::new();
    let mut open = async |count: u64| {
        for _ in 0..count {
            let mut client = Raw::connect(address).await;
            client.send(streamed_with(program::KEY)).await;
            held.push(client);
        }
        let begun = |counters: &CallCounts| counters.open_streams == held.len() as u64;
        assert!(simulator.record().wait_for_counts(begun, PATIENCE).await.is_some());
        // Until the upstream can send no more, because nothing is taken from it.
        let sent = || simulator.record().requests().iter().map(|request| request.bytes_sent).sum::<u64>();
        let (mut before, mut quiet, deadline) = (sent(), 0, Instant::now() + PATIENCE * 6);
        while quiet < 10 {
            assert!(Instant::now() < deadline, "the upstream is never held up: {before} bytes were sent");
            tokio::time::sleep(Duration::from_millis(50)).await;
            quiet = if sent() == before { quiet + 1 } else { 0 };
            before = sent();
        }
        server.memory_kib("VmRSS:")
    };
    // The first ones pay for threads, code and the list of models.
    let first = open(4).await;
    let each_kib = open(40).await.saturating_sub(first) / 40;
    assert!(each_kib <= READER_KIB_MAX, "{each_kib} KiB for each");
    let waiting = server.bytes_waiting_to_be_read(address.port());
    assert!(waiting.len() == 44 && waiting.iter().all(|bytes| (1..=SOCKET_BYTES_MAX).contains(bytes)), "{waiting:?}");
}

#[tokio::test]
async fn heads_that_do_not_come_are_given_up() {
    let app = started(Setup::default().with("READ_TIMEOUT", "100ms")).await;
    for half in ["", "G", "GET /health HTT", "GET /health HTTP/1.1\r\nhost: local", "PRI * HT", "\r\n"] {
        let mut client = Raw::connect(app.address).await;
        client.send(half).await;
        let rest = String::from_utf8(client.rest().await).unwrap();
        assert!(!rest.starts_with("HTTP/1.1 2") && !rest.starts_with("HTTP/1.1 5"), "{half:?}: {rest}");
    }
    // An idle connection after an answer is no different.
    let mut client = Raw::connect(app.address).await;
    client.send("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert!(client.is_closed().await);
    assert_well(&app).await;
}

#[tokio::test]
async fn junk_is_no_request() {
    let app = TestApp::quick().await;
    let many = format!("GET /health HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-one: 1\r\n".repeat(101));
    let large = format!("GET /health HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(64 * 1024));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(70_000));
    let smuggled = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let both = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\n\r\n{smuggled}"
    );
    let two = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\ncontent-length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    );
    let odd = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n{smuggled}");
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello tls"[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"G\xffT /health HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nx-nul: a\0b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 1e3\r\n\r\n",
        many.as_bytes(),
        large.as_bytes(),
        long.as_bytes(),
        both.as_bytes(),
        two.as_bytes(),
        odd.as_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        let mut client = Raw::connect(app.address).await;
        // The server may hang up before it has all of it.
        client.try_send(bytes).await;
        client.end().await;
        let rest = String::from_utf8(client.rest().await).unwrap();
        assert!(!rest.contains("HTTP/1.1 2"), "{shown:?}: a request was made of it: {rest}");
        assert!(!rest.contains("HTTP/1.1 5"), "{shown:?}: {rest}");
        assert!(rest.matches("HTTP/1.1 ").count() <= 1, "{shown:?}: {rest}");
    }
    assert_eq!(app.turns(), 0);
    assert_well(&app).await;
}

#[tokio::test]
async fn silent_connections_are_in_nobodys_way() {
    let app = TestApp::quick().await;
    let mut silent = Vec::new();
    for place in 0..200 {
        let mut client = Raw::connect(app.address).await;
        client.send(["", "GET", "GET / HTTP/1.1\r\nhost"][place % 3]).await;
        silent.push(client);
    }
    assert_well(&app).await;
}

#[tokio::test]
async fn one_connection_after_a_refused_body() {
    let app = TestApp::quick().await;
    let mut client = Raw::connect(app.address).await;
    for _ in 0..3 {
        let length = format!("content-length: {}", 20);
        let lines = ["content-type: text/plain", &length];
        client.send(raw::head("POST /v1/chat/completions", &lines) + &"x".repeat(20)).await;
        assert_refused(&client.answer().await, 415, "unsupported_media_type");
        let wrong = format!("POST /v1/models HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}x\r\ncontent-length: 3\r\n\r\nabc");
        client.send(wrong).await;
        assert_refused(&client.answer().await, 401, "invalid_api_key");
        client.send(raw::head("POST /nowhere", &["content-length: 3"]) + "abc").await;
        assert_refused(&client.answer().await, 404, "unknown_url");
    }
    client.send(raw::chat(&question("echo: last"))).await;
    assert_eq!(client.answer().await.json()["choices"][0]["message"]["content"], "last");
}
