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

/// A proxy that wants a login for everything, as RFC 9110 has it.
async fn demanding_proxy() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\
                              Content-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes()).await;
            }));
        }
    }));
    address
}

/// Callers, the log and `check` are told what is wrong on the way to the upstream, whose business it is and how to mend
/// it. No password of a proxy is shown.
#[tokio::test]
async fn faults_on_the_way_are_told_in_words() {
    const PASSWORD: &str = "CANARY-pass-31c9";
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let demanding = demanding_proxy().await;
    let proxy = |address: SocketAddr| format!("http://me:{PASSWORD}@{address}");
    let plain = simulator.urls().web.to_string();
    let as_https = plain.replace("http://", "https://");
    let nowhere = "https://qwen.invalid".to_owned();
    for (name, web, proxies, problem, mend) in [
        ("407 to CONNECT", &nowhere, vec![("HTTPS_PROXY", proxy(demanding))], "asks for a login (407)", "HTTPS_PROXY"),
        ("407 to a GET", &plain, vec![("HTTP_PROXY", proxy(demanding))], "asks for a login (407)", "HTTP_PROXY"),
        (
            "no proxy there",
            &nowhere,
            vec![("ALL_PROXY", proxy(closed))],
            "proxy of this server cannot be reached",
            "ALL_PROXY",
        ),
        ("no SOCKS proxy there", &nowhere, vec![("ALL_PROXY", format!("socks5h://{closed}"))], "proxy", "ALL_PROXY"),
        ("no such name", &nowhere, vec![], "the name of the host is not known (DNS)", "DNS"),
        ("nobody there", &format!("http://{closed}"), vec![], "nothing listens at its address and port", "port"),
        ("no TLS there", &as_https, vec![], "TLS", "https"),
    ] {
        let mut settings = settings(&simulator, "json");
        settings.retain(|(name, _)| *name != "QWEN_WEB_BASE_URL");
        settings.push(("QWEN_WEB_BASE_URL", web.trim_end_matches('/').to_owned()));
        settings.extend(proxies);
        let program = Program::start(&["serve"], &settings);
        let address = program.address_beside("listening").await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("http://{address}/v1/chat/completions")).bearer_auth(KEY);
        let answer = request.body(question("hello").to_string()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 502, "{name}");
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(problem) && message.contains(mend), "{name}: {message}");
        assert!(message.contains("the owner of this server can"), "{name}: {message}");
        assert_eq!(answer["error"]["code"], "upstream_error", "{name}");
        program.until_it_says(problem).await;
        let mut check = Program::start(&["check"], &settings);
        assert_eq!(check.code().await, 1, "{name}");
        let shown = check.stdout() + &check.stderr();
        assert!(shown.contains("unreachable") && shown.contains(problem) && shown.contains(mend), "{name}: {shown}");
        for told in [message, &program.stderr(), &program.stdout(), &shown] {
            assert!(!told.contains(PASSWORD), "{name}: {told}");
        }
    }
}
