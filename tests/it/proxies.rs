//! The proxies that the environment names, in the real program.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use simulator::Simulator;
use simulator::script::Scenario;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::support::app::{content, question, spawn};
use crate::support::program::{KEY, Program, settings};

/// A SOCKS5 proxy without a password, and how many connections it made.
struct Socks {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Socks {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        drop(spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(spawn(serve(stream, Arc::clone(&counter))));
            }
        }));
        Self { address, connections }
    }
}

/// RFC 1928: a greeting, `CONNECT` to an address or a name, then bytes in both directions.
async fn serve(mut stream: TcpStream, connections: Arc<AtomicUsize>) {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await.unwrap();
    let mut methods = vec![0; usize::from(greeting[1])];
    stream.read_exact(&mut methods).await.unwrap();
    stream.write_all(&[5, 0]).await.unwrap();
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.unwrap();
    let host = match head[3] {
        1 => {
            let mut address = [0; 4];
            stream.read_exact(&mut address).await.unwrap();
            Ipv4Addr::from(address).to_string()
        }
        3 => {
            let mut name = vec![0; usize::from(stream.read_u8().await.unwrap())];
            stream.read_exact(&mut name).await.unwrap();
            String::from_utf8(name).unwrap()
        }
        other => panic!("an address of kind {other}"),
    };
    let port = stream.read_u16().await.unwrap();
    let mut target = TcpStream::connect((host.as_str(), port)).await.unwrap();
    connections.fetch_add(1, Ordering::SeqCst);
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    let _ = copy_bidirectional(&mut stream, &mut target).await;
}

/// An answer of the program with these proxies in its environment.
async fn ask_with(proxies: &[(&'static str, String)]) {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let mut settings = settings(&simulator, "json");
    settings.extend(proxies.iter().cloned());
    let program = Program::start(&["serve"], &settings);
    let address = program.address_beside("listening").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("http://{address}/v1/chat/completions")).bearer_auth(KEY);
    let answer = request.body(question("echo: there").to_string()).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(content(&answer), "there", "{}", program.stderr());
}

#[tokio::test]
async fn a_socks_proxy_carries_the_calls() {
    for scheme in ["socks5h", "socks5"] {
        let proxy = Socks::start().await;
        ask_with(&[("ALL_PROXY", format!("{scheme}://{}", proxy.address))]).await;
        assert!(proxy.connections.load(Ordering::SeqCst) > 0, "{scheme}");
    }
}

/// Also for the literal addresses at which a recording proxy or a simulator stands.
#[tokio::test]
async fn no_proxy_for_all_is_for_literal_addresses_too() {
    for list in ["*", "localhost, *"] {
        let proxy = Socks::start().await;
        let address = format!("http://{}", proxy.address);
        ask_with(&[("HTTP_PROXY", address.clone()), ("ALL_PROXY", address), ("NO_PROXY", list.to_owned())]).await;
        assert_eq!(proxy.connections.load(Ordering::SeqCst), 0, "{list}");
    }
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_refused_at_the_start() {
    for (name, value) in
        [("ALL_PROXY", "socks9://127.0.0.1:1"), ("https_proxy", "127.0.0.1:1:2"), ("HTTP_PROXY", "http://")]
    {
        let mut program = Program::start(&["serve"], &[(name, value.to_owned())]);
        assert_eq!(program.code().await, 64, "{name}={value}");
        assert!(program.stderr().contains(name), "{}", program.stderr());
    }
}
