//! The whole server as a process of its own, between the simulator and many clients over loopback, beside a plain
//! hyper pipe that hands on the bytes of the same answers in OpenAI's shape and translates nothing.
//!
//! `cargo bench --bench relay` runs everything; `cargo bench --bench relay -- NAME` one row. CPU and memory are read
//! from `/proc`, so the figures exist on Linux only. Compare the ratios of one run: machines are noisy.
//!
//! One file, although long: a bench is one program, and its rows share the server and the pipe.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its table")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "not part of the product: a failed run has to stop loudly"
)]

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use simulator::Simulator;
use simulator::script::{AccountScript, Bench, End, Endpoint, Era, Scenario, ScriptedReply};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

const ACCOUNTS: usize = 10;
const KEY: &str = "bench";
/// Bytes of content of an event.
const CONTENT_BYTES: usize = 40;
/// Idle streams that are opened together.
const OPENED_AT_ONCE: usize = 10;
/// What a video begins with; a multiple of three, as the blocks are, so that its base64 can be put together.
const VIDEO_HEAD: &[u8] = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2mp41\0\0";
const BLOCK_BYTES: usize = 60_000;
/// As far as the sides of a JPEG are told.
const JPEG_HEAD: &[u8] = &[0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0];

/// One row of the table.
struct Load {
    name: &'static str,
    events: usize,
    per_packet: usize,
    clients: usize,
    /// Answers of each client.
    rounds: usize,
    pace: Duration,
    stream: bool,
}

const fn load(name: &'static str, events: usize, per_packet: usize, clients: usize, rounds: usize) -> Load {
    Load { name, events, per_packet, clients, rounds, pace: Duration::ZERO, stream: true }
}

static LOADS: [Load; 7] = [
    load("2000 events, 1 client", 2000, 1, 1, 20),
    load("2000 events, 16 clients", 2000, 1, 16, 40),
    load("2000 events, 32 a packet", 2000, 32, 16, 12),
    load("64 events, 32 clients", 64, 1, 32, 60),
    Load { stream: false, ..load("64 events, whole", 64, 1, 32, 300) },
    Load { pace: Duration::from_millis(20), ..load("100 paced streams", 150, 1, 100, 1) },
    Load { pace: Duration::from_millis(100), ..load("1000 paced streams", 60, 1, 1000, 1) },
];

/// What a load cost.
struct Cost {
    cpu: Duration,
    requests: usize,
    events: usize,
    /// Of each request, the time to the first content; sorted.
    first: Vec<Duration>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match args.as_slice() {
        [mode, upstream] if mode == "--pipe" => runtime.block_on(pipe(upstream.parse().unwrap())),
        _ => runtime.block_on(compare(args.first().map(String::as_str))),
    }
}

async fn compare(only: Option<&str>) {
    println!("{:<26} {:>12} {:>12} {:>7} {:>12} {:>12}", "load", "bridge", "pipe", "ratio", "first p50", "first p99");
    for load in LOADS.iter().filter(|load| only.is_none_or(|only| load.name.contains(only))) {
        let bridge = Server::bridge(load.reply()).await;
        let cost = run(&bridge, load).await;
        drop(bridge);
        let plain = Server::pipe(load).await;
        let base = run(&plain, load).await;
        drop(plain);
        let by_event = load.stream && (load.events >= 100 || load.pace > Duration::ZERO);
        let unit = |cost: &Cost| micros(cost.cpu) / (if by_event { cost.events } else { cost.requests }) as f64;
        println!(
            "{:<26} {:>9.2} µs {:>9.2} µs {:>7.2} {:>9.2} ms {:>9.2} ms  per {}",
            load.name,
            unit(&cost),
            unit(&base),
            unit(&cost) / unit(&base),
            millis(cost.first[cost.first.len() / 2]),
            millis(cost.first[cost.first.len() * 99 / 100]),
            if by_event { "event" } else { "request" },
        );
    }
    if only.is_none_or(|only| "memory".contains(only)) {
        memory().await;
    }
    if only.is_none_or(|only| "files".contains(only)) {
        files().await;
    }
}

/// Memory that large files take on their way through, and how long they take: a video of 100 MB, from an address and
/// in the body, and pictures of 20 MB of eight callers at once.
async fn files() {
    let address = video_server().await;
    let settings = [("MEDIA_FETCH", address.to_string()), ("MAX_BODY", "200MB".to_owned())];
    let server = Server::bridge_with(ScriptedReply::numbered(3), &settings).await;
    let by_address = |blocks: usize| Upload {
        kind: "video_url",
        head: format!("http://{address}/{blocks}.mp4"),
        blocks: 0,
        tail: String::new(),
    };
    let inline = |blocks: usize| Upload {
        kind: "video_url",
        head: ["data:video/mp4;base64,", &STANDARD.encode(VIDEO_HEAD)].concat(),
        blocks,
        tail: String::new(),
    };
    let picture = |blocks: usize| Upload {
        kind: "image_url",
        head: ["data:image/jpeg;base64,", &STANDARD.encode(JPEG_HEAD)].concat(),
        blocks,
        // What is between does not matter; only the end makes each one different.
        tail: STANDARD.encode([0xff, 0xd9, fastrand::u8(..)]),
    };
    let video_blocks = 100_000_000 / BLOCK_BYTES;
    // Small ones beforehand: connections, threads and code are there.
    for upload in [inline(1), by_address(1), picture(1)] {
        upload.send(server.address).await;
    }
    let pictures = (0..8).map(|_| picture(19_900_000 / BLOCK_BYTES)).collect();
    for (what, uploads) in [
        ("video of 100 MB by its address", vec![by_address(video_blocks)]),
        ("video of 100 MB inline", vec![inline(video_blocks)]),
        ("8 pictures of 20 MB at once", pictures),
    ] {
        server.forget_peak();
        let (before, began) = (server.peak_kib(), Instant::now());
        let sent: Vec<_> = uploads.into_iter().map(|upload| tokio::spawn(upload.send(server.address))).collect();
        for sent in sent {
            sent.await.unwrap();
        }
        let (added, took) = ((server.peak_kib() - before) as f64 / 1024.0, began.elapsed().as_secs_f64());
        println!("{what}: {added:.1} MiB at most, {took:.2} s");
    }
}

/// A question about a file, whose address is `head`, so many blocks of nothing, and `tail`.
struct Upload {
    kind: &'static str,
    head: String,
    blocks: usize,
    tail: String,
}

impl Upload {
    async fn send(self, address: SocketAddr) {
        let Self { kind, head, blocks, tail } = self;
        let block = STANDARD.encode([0; BLOCK_BYTES]);
        let before = format!(
            "{{\"model\":\"qwen3.5-omni-plus\",\"messages\":[{{\"role\":\"user\",\"content\":[{{\"type\":\"{kind}\",\
             \"{kind}\":{{\"url\":\"{head}"
        );
        let after = format!("{tail}\"}}}}]}}]}}");
        let length = before.len() + block.len() * blocks + after.len();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{before}"
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..blocks {
            stream.write_all(block.as_bytes()).await.unwrap();
        }
        stream.write_all(after.as_bytes()).await.unwrap();
        let mut answer = Answer::default();
        let mut buffer = vec![0; 64 * 1024];
        while !answer.is_over() {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the server hung up: {}", String::from_utf8_lossy(&answer.tail));
            answer.take(&buffer[..count]);
        }
    }
}

/// Gives out `/BLOCKS.mp4`: a head, and so many blocks of nothing.
async fn video_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    socket.read_buf(&mut head).await.unwrap();
                }
                let head = String::from_utf8(head).unwrap();
                let blocks: usize = head.split(['/', '.']).nth(1).unwrap().parse().unwrap();
                let length = VIDEO_HEAD.len() + blocks * BLOCK_BYTES;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                socket.write_all(&[head.as_bytes(), VIDEO_HEAD].concat()).await.unwrap();
                let block = vec![0; BLOCK_BYTES];
                for _ in 0..blocks {
                    socket.write_all(&block).await.unwrap();
                }
            });
        }
    });
    address
}

/// Memory per open stream that has fallen silent.
async fn memory() {
    for streams in [100, 1000] {
        let server = Server::bridge(ScriptedReply::numbered(3).paced(Duration::ZERO).ending(End::Stalled)).await;
        let at_rest = server.resident_kib();
        let mut open = Vec::new();
        // A few at a time: a burst opens more connections upstream than there are streams, by chance.
        while open.len() < streams {
            let first = open.len();
            for _ in 0..OPENED_AT_ONCE {
                let mut client = TcpStream::connect(server.address).await.unwrap();
                client.write_all(question(true).as_bytes()).await.unwrap();
                open.push(client);
            }
            for client in &mut open[first..] {
                let mut seen = Vec::new();
                while memchr::memmem::find(&seen, ":2⟩".as_bytes()).is_none() {
                    let mut piece = [0; 4096];
                    let count = client.read(&mut piece).await.unwrap();
                    assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
                    seen.extend_from_slice(&piece[..count]);
                }
            }
        }
        let each = (server.resident_kib() - at_rest) as f64 / streams as f64;
        println!("{streams} idle open streams: {each:.1} KiB each, {at_rest} KiB at rest");
    }
}

impl Load {
    fn reply(&self) -> ScriptedReply {
        let bench = Bench { events: self.events, content_bytes: CONTENT_BYTES, per_packet: self.per_packet };
        ScriptedReply::bench(bench).paced(self.pace)
    }
}

/// A server process under load, and what stands behind it.
struct Server {
    child: Child,
    address: SocketAddr,
    _state: Option<tempfile::TempDir>,
    _simulator: Option<Simulator>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn bridge(reply: ScriptedReply) -> Self {
        Self::bridge_with(reply, &[]).await
    }

    async fn bridge_with(reply: ScriptedReply, settings: &[(&str, String)]) -> Self {
        let accounts = (0..ACCOUNTS).map(|place| AccountScript::new(&format!("bench{place}"), Era::A));
        let mut scenario = Scenario::with_accounts(accounts);
        scenario.records_max = 1;
        let simulator = Simulator::start(scenario).await.unwrap();
        simulator.script().set_default(None, Endpoint::Completions, Some(reply));
        let cookies: Vec<String> =
            simulator.accounts().names().iter().map(|name| simulator.accounts().cookie(name)).collect();
        let state = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwen-bridge"));
        command
            .env_clear()
            .env("API_KEY", KEY)
            .env("COOKIE", cookies.join("|||"))
            .env("QWEN_WEB_BASE_URL", simulator.urls().web.to_string())
            .env("QWEN_AUTH_BASE_URL", simulator.urls().auth.to_string())
            .env("QWEN_OSS_BASE_URL", simulator.urls().storage.to_string())
            .env("STATE_DIR", state.path())
            .env("SERVER_PORT", "0")
            .env("MAX_IN_FLIGHT", "1000")
            .env("LOG_FORMAT", "json")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = log
            .by_ref()
            .find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line.unwrap()).ok()?;
                let text = line.pointer("/fields/address").or_else(|| line.pointer("/address"))?.as_str()?.to_owned();
                text.parse().ok()
            })
            .expect("the server tells where it listens");
        // The rest of the log is read, so that the server never waits for it.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, address, _state: Some(state), _simulator: Some(simulator) }
    }

    /// The pipe, in front of a server that already speaks OpenAI's shape.
    async fn pipe(load: &Load) -> Self {
        let upstream = plain_upstream(load).await;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--pipe", &upstream.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap(), _state: None, _simulator: None }
    }

    /// CPU time of all threads so far.
    fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    fn resident_kib(&self) -> i64 {
        self.status_kib("VmRSS:")
    }

    /// The most that it has ever had in memory.
    fn peak_kib(&self) -> i64 {
        self.status_kib("VmHWM:")
    }

    /// Lets the peak begin anew, at what is in memory now.
    fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    fn status_kib(&self, name: &str) -> i64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

async fn run(server: &Server, load: &'static Load) -> Cost {
    // One request beforehand: connections, catalogue and code are warm.
    ask(server.address, load, 1).await;
    let before = server.cpu();
    let clients: Vec<_> = (0..load.clients).map(|_| tokio::spawn(ask(server.address, load, load.rounds))).collect();
    let mut first = Vec::new();
    for client in clients {
        first.extend(client.await.unwrap());
    }
    first.sort_unstable();
    let requests = load.clients * load.rounds;
    Cost { cpu: server.cpu() - before, requests, events: requests * load.events, first }
}

/// Asks `rounds` times on one connection; the time to the first content of each answer.
async fn ask(address: SocketAddr, load: &'static Load, rounds: usize) -> Vec<Duration> {
    let mut first = Vec::with_capacity(rounds);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = question(load.stream);
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..rounds {
        let began = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Answer::default();
        let mut seen_content = None;
        while !answer.is_over() {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the server hung up: {}", String::from_utf8_lossy(&answer.tail));
            answer.take(&buffer[..count]);
            if seen_content.is_none() && answer.has_content() {
                seen_content = Some(began.elapsed());
            }
        }
        first.push(seen_content.unwrap_or_else(|| began.elapsed()));
    }
    first
}

/// Just enough of an HTTP client to see where an answer begins to speak and where it ends.
#[derive(Default)]
struct Answer {
    tail: Vec<u8>,
    /// Set once the head is read: the declared length, or `None` for chunks.
    length: Option<Option<usize>>,
    body_bytes: usize,
}

impl Answer {
    fn take(&mut self, piece: &[u8]) {
        if self.length.is_some() {
            self.body_bytes += piece.len();
            let keep = self.tail.len().min(256);
            self.tail.drain(..self.tail.len() - keep);
            self.tail.extend_from_slice(piece);
            return;
        }
        self.tail.extend_from_slice(piece);
        let Some(end) = memchr::memmem::find(&self.tail, b"\r\n\r\n") else { return };
        let head = String::from_utf8_lossy(&self.tail[..end]).to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(&self.tail));
        let declared = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        self.length = Some(declared);
        self.body_bytes = self.tail.len() - end - 4;
    }

    fn has_content(&self) -> bool {
        let mut places = memchr::memmem::find_iter(&self.tail, b"\"content\":\"");
        places.any(|place| self.tail.get(place + 11).is_some_and(|byte| *byte != b'"'))
    }

    fn is_over(&self) -> bool {
        match self.length {
            None => false,
            Some(Some(length)) => self.body_bytes >= length,
            Some(None) => self.tail.ends_with(b"0\r\n\r\n"),
        }
    }
}

fn question(stream: bool) -> String {
    let body = format!(
        "{{\"model\":\"qwen3-max\",\"stream\":{stream},\"messages\":[{{\"role\":\"user\",\"content\":\"Say something.\"}}]}}"
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A server whose answers are already in OpenAI's shape, with the packets and pace of the load.
async fn plain_upstream(load: &Load) -> SocketAddr {
    let text = "x".repeat(CONTENT_BYTES);
    let event = format!(
        "data: {{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\
         \"created\":1790000000,\"model\":\"qwen3-max\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\
         \"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
    );
    let packet = Bytes::from(event.repeat(load.per_packet));
    let whole = format!("{{\"choices\":[{{\"message\":{{\"content\":\"{}\"}}}}]}}", text.repeat(load.events));
    let whole = Bytes::from(whole);
    let packets = load.events.div_ceil(load.per_packet);
    let (pace, stream) = (load.pace, load.stream);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let (packet, whole) = (packet.clone(), whole.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (packet, whole) = (packet.clone(), whole.clone());
                async move {
                    request.into_body().collect().await?;
                    let body = if stream {
                        BoxBody::new(Packets { packet, left: packets, pace, timer: None })
                    } else {
                        BoxBody::new(Full::new(whole))
                    };
                    Ok::<_, hyper::Error>(Response::new(body))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    address
}

struct Packets {
    packet: Bytes,
    left: usize,
    pace: Duration,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Body for Packets {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_pending()) {
            return Poll::Pending;
        }
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.timer = (self.pace > Duration::ZERO).then(|| Box::pin(sleep(self.pace)));
        Poll::Ready(Some(Ok(Frame::data(self.packet.clone()))))
    }
}

/// The pipe: reads a request whole, sends it on, hands back the answer's frames as they come.
async fn pipe(upstream: SocketAddr) {
    let executor = hyper_util::rt::TokioExecutor::new();
    let client = hyper_util::client::legacy::Client::builder(executor).build_http::<Full<Bytes>>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let client = client.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let client = client.clone();
            async move {
                let (parts, body) = request.into_parts();
                let mut onward = Request::new(Full::new(body.collect().await.unwrap().to_bytes()));
                *onward.method_mut() = parts.method;
                *onward.uri_mut() = format!("http://{upstream}{}", parts.uri.path()).parse().unwrap();
                client.request(onward).await
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
