//! Connections beyond what the system or one caller may have: the server says how it is, and names its own faults.

use std::net::SocketAddr;

use futures_util::future::join_all;
use serde_json::Value;
use simulator::Simulator;
use simulator::script::{End, Endpoint, ScriptedReply};

use crate::support::app::{PATIENCE, json_of, question};
use crate::support::oracle::crew;
use crate::support::program::{KEY, Program, settings};
use crate::support::raw::{Raw, head};

/// The real server with so few descriptors, and where it listens.
async fn start(descriptors: u32, simulator: &Simulator) -> (Program, SocketAddr) {
    let mut settings = settings(simulator, "json");
    settings.push(("MAX_IN_FLIGHT", "100".to_owned()));
    let program = Program::serve_with_descriptors(descriptors, &settings);
    let address = program.address_beside("listening").await;
    (program, address)
}

/// Asks on a connection of its own.
async fn health(address: SocketAddr) -> u16 {
    let client = reqwest::Client::new();
    client.get(format!("http://{address}/health")).timeout(PATIENCE).send().await.unwrap().status().as_u16()
}

/// The answer; `None` when the connection was closed without one.
async fn try_chat(client: &reqwest::Client, address: SocketAddr, text: &str) -> Option<(u16, Value)> {
    let request = client.post(format!("http://{address}/v1/chat/completions")).bearer_auth(KEY);
    let request = request.header("content-type", "application/json").body(question(text).to_string());
    let response = request.send().await.ok()?;
    Some((response.status().as_u16(), json_of(response).await))
}

async fn chat(client: &reqwest::Client, address: SocketAddr, text: &str) -> (u16, Value) {
    try_chat(client, address, text).await.unwrap()
}

#[tokio::test]
async fn idle_connections_make_room() {
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let (_program, address) = start(64, &simulator).await;
    // Some never say a word, some had an answer and stay, some stop in the middle of a head.
    let mut idle = Vec::new();
    for number in 0..120 {
        let mut connection = Raw::connect(address).await;
        match number % 3 {
            0 => {}
            1 => {
                connection.try_send(head("GET /health", &[])).await;
            }
            _ => {
                connection.try_send("GET /health HT").await;
            }
        }
        idle.push(connection);
    }
    for _ in 0..3 {
        assert_eq!(health(address).await, 200);
    }
    let (status, body) = chat(&reqwest::Client::new(), address, "echo: still here").await;
    assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &"still here".into()), "{body}");
    drop(idle);
}

#[tokio::test]
async fn health_answers_when_all_connections_are_busy() {
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let endless = ScriptedReply::numbered(3).ending(End::Stalled);
    simulator.script().set_default(None, Endpoint::Completions, Some(endless));
    let (program, address) = start(64, &simulator).await;
    let mut held = Vec::new();
    let body = question("hold").to_string();
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    for count in 1..=18 {
        let mut connection = Raw::connect(address).await;
        connection.send(&request).await;
        let begun = simulator.record().wait_for_counts(|counters| counters.open_streams == count, PATIENCE).await;
        assert!(begun.is_some(), "{count} {}", program.stderr());
        held.push(connection);
    }
    assert_eq!(health(address).await, 200);
    let (status, answer) = chat(&reqwest::Client::new(), address, "one more").await;
    assert_eq!((status, &answer["error"]["code"]), (429, &"server_busy".into()), "{answer}");
    assert_eq!(health(address).await, 200);
}

#[tokio::test]
async fn health_answers_when_more_bodies_come_than_there_are_places_and_none_ends() {
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let (program, address) = start(64, &simulator).await;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: 5000\r\n\r\n{{\"mess"
    );
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut connection = Raw::connect(address).await;
        connection.try_send(&request).await;
        held.push(connection);
    }
    for _ in 0..3 {
        assert_eq!(health(address).await, 200, "{}", program.stderr());
    }
    // Those beyond the places are told, as are those who come now.
    let (status, answer) = chat(&reqwest::Client::new(), address, "one more").await;
    assert_eq!((status, &answer["error"]["code"]), (429, &"server_busy".into()), "{answer}");
    drop(held);
}

#[tokio::test]
async fn running_out_of_descriptors_is_not_the_upstreams_fault() {
    let simulator = Simulator::start(crew(2)).await.unwrap();
    let endless = ScriptedReply::numbered(3).ending(End::Stalled);
    simulator.script().set_default(None, Endpoint::Completions, Some(endless));
    let (program, address) = start(1024, &simulator).await;
    assert_eq!(health(address).await, 200);
    // So few more that those of the callers are there, and those to the upstream are not.
    program.limit_descriptors(program.descriptors() + 4);
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let asked = futures_util::future::select_ok((0..16).map(|_| {
        let client = client.clone();
        Box::pin(async move {
            let (status, body) = try_chat(&client, address, "x").await.unwrap_or_default();
            if body["error"]["code"] == "internal_error" { Ok(status) } else { Err(body) }
        })
    }));
    let (status, _) = asked.await.unwrap_or_else(|body| panic!("{body} {}", program.stderr()));
    assert_eq!(status, 500);
    let log = program.stderr();
    assert!(log.contains("this server may open no further connection") && !log.contains("upstream_error"), "{log}");
}

#[tokio::test]
async fn many_connections_of_this_machine_are_welcome() {
    let app = crate::support::app::TestApp::quick().await;
    let address: SocketAddr = app.url("").trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let all = join_all((0..600).map(|_| Raw::connect(address))).await;
    assert_eq!(app.get("/health").send().await.unwrap().status(), 200);
    drop(all);
}

#[tokio::test]
async fn a_client_that_speaks_tls_to_a_plain_port_is_named_once() {
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let (program, address) = start(256, &simulator).await;
    // The beginning of a TLS handshake, and bytes of no protocol.
    let hello: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 secret\r\n\r\n";
    for greeting in [hello, hello, b"\x00\x01nonsense\r\n\r\n"] {
        let mut client = Raw::connect(address).await;
        client.send(greeting).await;
        client.rest().await;
    }
    program.until_it_says("is not HTTP").await;
    assert_eq!(health(address).await, 200);
    let log = program.stderr();
    assert_eq!(log.matches("is not HTTP").count(), 1, "{log}");
    assert!(log.contains("begin with http://") && !log.contains("secret"), "{log}");
}
