//! Files that callers name by their address: what is fetched, and that nothing else is ever reached.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::Scenario;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::app::{KEY, PATIENCE, Setup, TestApp, content, error_of, json_of, spawn};
use crate::support::files::bomb;
use crate::support::files::{OMNI, hash, png, with_parts};
use crate::support::program::{self, Program, settings};

/// What a server says at one path.
enum Page {
    /// A head, and these bytes; then the connection is closed.
    Whole(String, Vec<u8>),
    /// A head without a length, and bytes for as long as they are read.
    Endless(Vec<u8>),
    /// A head, and then nothing for ever.
    Silent,
}

/// A server of files on this machine.
struct Origin {
    address: SocketAddr,
    /// The heads of all requests.
    heads: Arc<Mutex<Vec<String>>>,
    /// Bytes of endless pages that were taken.
    taken: Arc<AtomicU64>,
    /// Told when the reader of an endless or silent page has left.
    left: Arc<Notify>,
    /// Told when anything was asked for.
    asked: Arc<Notify>,
}

impl Origin {
    async fn start(host: &str, pages: impl FnOnce(SocketAddr) -> Vec<(&'static str, Page)>) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages: Arc<BTreeMap<&str, Page>> = Arc::new(pages(address).into_iter().collect());
        let origin =
            Self { address, heads: Arc::default(), taken: Arc::default(), left: Arc::default(), asked: Arc::default() };
        let (heads, taken) = (Arc::clone(&origin.heads), Arc::clone(&origin.taken));
        let (left, asked) = (Arc::clone(&origin.left), Arc::clone(&origin.asked));
        spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (pages, heads, taken) = (Arc::clone(&pages), Arc::clone(&heads), Arc::clone(&taken));
                let (left, asked) = (Arc::clone(&left), Arc::clone(&asked));
                spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    heads.lock().push(head);
                    asked.notify_one();
                    // A client that leaves early is no fault of this server.
                    match pages.get(path.as_str()) {
                        Some(Page::Whole(head, body)) => {
                            let _ = socket.write_all(&[head.as_bytes(), b"\r\n\r\n", body].concat()).await;
                        }
                        Some(Page::Endless(piece)) => {
                            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                            while socket.write_all(piece).await.is_ok() {
                                taken.fetch_add(piece.len() as u64, Ordering::SeqCst);
                            }
                            left.notify_one();
                        }
                        Some(Page::Silent) => {
                            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n").await;
                            let _ = socket.read(&mut [0]).await;
                            left.notify_one();
                        }
                        None => {
                            let _ = socket.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
                        }
                    }
                });
            }
        });
        origin
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().clone()
    }
}

fn ok(lines: &str, body: &[u8]) -> Page {
    Page::Whole(format!("HTTP/1.1 200 OK\r\ncontent-length: {}{lines}", body.len()), body.to_vec())
}

fn to(location: &str) -> Page {
    Page::Whole(format!("HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: {location}"), Vec::new())
}

async fn app_with(fetch: &str) -> TestApp {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    Setup::default().with("MEDIA_FETCH", fetch).start(simulator).await
}

fn picture(url: &str) -> Value {
    with_parts("qwen3-vl-plus", "What is it?", vec![json!({"type": "image_url", "image_url": {"url": url}})])
}

fn video(url: &str) -> Value {
    with_parts(OMNI, "What is it?", vec![json!({"type": "video_url", "video_url": {"url": url}})])
}

fn document(url: &str) -> Value {
    with_parts(OMNI, "What is it?", vec![json!({"type": "input_file", "file_url": url})])
}

fn history(url: &str) -> Value {
    json!({"model": "qwen3-max-image_edit", "messages": [
        {"role": "user", "content": "A boat"},
        {"role": "assistant", "content": format!("![image]({url})")},
        {"role": "user", "content": "Make it blue"},
    ]})
}

/// The error of a request that has to be refused with 400.
async fn refusal(app: &TestApp, body: &Value) -> Value {
    let response = app.chat(body).await;
    assert_eq!(response.status(), 400, "{body}");
    error_of(response).await
}

fn assert_nothing_went_up(app: &TestApp) {
    assert_eq!(app.simulator.stored().uploads().len(), 0);
    assert_eq!(app.turns(), 0);
    app.assert_clean();
}

#[tokio::test]
async fn files_of_a_listed_host() {
    let origin = Origin::start("127.0.0.1", |address| {
        vec![
            ("/a.png", ok("\r\ncontent-type: image/png", &png(1))),
            ("/1/a.png", to("/a.png")),
            ("/2/a.png", to("../1/a.png")),
            ("/3/a.png", to(&format!("http://0x7f.1:{}/2/a.png", address.port()))),
            ("/4/a.png", to("/3/a.png")),
            ("/lies.html", ok("\r\ncontent-type: text/html; charset=utf-8", &png(2))),
            ("/nameless", ok("", &png(3))),
            ("/papers/Gr%C3%BC%C3%9Fe.md?key=secret", ok("\r\ncontent-type: image/png", b"# Words")),
        ]
    })
    .await;
    let app = app_with(&format!("public, {}", origin.address)).await;
    for (path, number) in
        [("/a.png", 1), ("/1/a.png", 1), ("/2/a.png", 1), ("/3/a.png", 1), ("/lies.html", 2), ("/nameless", 3)]
    {
        let answer = json_of(app.chat(&picture(&origin.url(path))).await).await;
        assert!(content(&answer).contains(&hash(&png(number))), "{path}: {answer}");
    }
    assert_eq!(refusal(&app, &picture(&origin.url("/4/a.png"))).await["code"], "file_unreachable");
    let answer = json_of(app.chat(&document(&origin.url("/papers/Gr%C3%BC%C3%9Fe.md?key=secret"))).await).await;
    assert!(content(&answer).contains("1 document"), "{answer}");
    let uploads = app.simulator.stored().uploads();
    assert!(uploads.iter().all(|upload| upload.name.ends_with(".png") == (upload.filetype == "image")));
    let (paper, pictures) = uploads.split_last().unwrap();
    assert!(pictures.iter().all(|upload| upload.content_type == "image/png"), "{pictures:?}");
    assert_eq!((paper.name.as_str(), paper.content_type.as_str()), ("Grüße.md", "text/markdown"));
    for head in origin.heads() {
        let lower = head.to_ascii_lowercase();
        for name in ["cookie:", "authorization:", "referer:", "origin:", KEY] {
            assert!(!lower.contains(name), "{head}");
        }
        assert!(lower.contains("accept-encoding: identity") && lower.contains("user-agent: qwen-bridge/"), "{head}");
    }
    app.assert_clean();
}

/// Who holds a key must not learn what else is in our network, so these all sound the same.
#[tokio::test]
async fn refused_and_unreachable_and_useless_sound_alike() {
    let elsewhere = Origin::start("127.0.0.1", |_| vec![("/a.png", ok("", &png(1)))]).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (other, other_port) = (elsewhere.url("/a.png"), elsewhere.address.port());
    let origin = Origin::start("127.0.0.1", |own| {
        let localhost = format!("http://localhost:{}/a.png", own.port());
        let gzip = ok("\r\ncontent-encoding: gzip", &png(1));
        let mut torn = png(1);
        torn.truncate(40);
        vec![
            ("/a.png", ok("", &png(1))),
            ("/to/other", to(&other)),
            ("/to/other/short", to(&format!("//127.1:{other_port}/a.png"))),
            ("/to/metadata", to("http://169.254.169.254/latest/meta-data")),
            ("/to/v6", to(&format!("http://[::1]:{other_port}/a.png"))),
            ("/to/localhost", to(&localhost)),
            ("/to/ftp", to("ftp://127.0.0.1/a.png")),
            ("/to/file", to("file:///etc/passwd")),
            ("/to/user", to(&format!("http://u:p@127.0.0.1:{}/a.png", own.port()))),
            ("/to/nothing", to("http://")),
            ("/to/itself", to("/to/itself")),
            ("/to/data", to("data:image/png;base64,AAAA")),
            ("/gzip", gzip),
            ("/empty", ok("\r\ncontent-type: image/png", b"")),
            ("/none", Page::Whole("HTTP/1.1 204 No Content".into(), Vec::new())),
            ("/part", Page::Whole("HTTP/1.1 206 Partial Content\r\ncontent-length: 3".into(), b"abc".to_vec())),
            ("/page.png", ok("\r\ncontent-type: image/png", b"<html>Log in first</html>")),
            ("/paper.png", ok("\r\ncontent-type: image/png", b"%PDF-1.7 a paper")),
            ("/torn.png", ok("\r\ncontent-type: image/png", &torn)),
            ("/short.png", Page::Whole("HTTP/1.1 200 OK\r\ncontent-length: 5000".into(), png(1))),
            ("/junk", Page::Whole("SSH-2.0-OpenSSH_9.9".into(), Vec::new())),
        ]
    })
    .await;
    let app = app_with(&format!("{}, {closed}", origin.address)).await;
    let mut urls: Vec<String> = [
        "/to/other",
        "/to/other/short",
        "/to/metadata",
        "/to/v6",
        "/to/localhost",
        "/to/ftp",
        "/to/file",
        "/to/user",
        "/to/nothing",
        "/to/itself",
        "/to/data",
        "/gzip",
        "/empty",
        "/none",
        "/part",
        "/page.png",
        "/paper.png",
        "/torn.png",
        "/short.png",
        "/junk",
        "/missing",
    ]
    .map(|path| origin.url(path))
    .into();
    let port = origin.address.port();
    urls.extend([
        elsewhere.url("/a.png"),
        format!("http://{closed}/a.png"),
        format!("http://u:p@127.0.0.1:{port}/a.png"),
        format!("http://127.0.0.1:{port}@127.0.0.1:{other_port}/a.png"),
        format!("http://localhost:{port}/a.png"),
        format!("https://{closed}/a.png"),
        "http://example.com/a.png".to_owned(),
    ]);
    let expected = refusal(&app, &picture("http://127.0.0.1/a.png")).await;
    assert_eq!((&expected["code"], &expected["param"]), (&json!("file_unreachable"), &json!("messages[0].content[1]")));
    for url in urls {
        assert_eq!(refusal(&app, &picture(&url)).await, expected, "{url}");
    }
    assert_eq!(elsewhere.heads(), Vec::<String>::new());
    assert_nothing_went_up(&app);
    // The same server, when nothing is wrong.
    assert_eq!(app.chat(&picture(&origin.url("/a.png"))).await.status(), 200);
}

#[tokio::test]
async fn what_is_too_large_is_not_read_to_its_end() {
    let mut large = png(1);
    large.resize(30_000_000, 0);
    let origin = Origin::start("127.0.0.1", |_| {
        vec![
            ("/endless", Page::Endless(vec![0xff; 64 * 1024])),
            ("/10gb", Page::Whole("HTTP/1.1 200 OK\r\ncontent-length: 10000000000".into(), png(1))),
            ("/30mb", ok("", &large)),
            ("/bomb", ok("", &bomb(12_000, 12_000))),
        ]
    })
    .await;
    let app = app_with(&origin.address.to_string()).await;
    for (path, words) in [
        ("/endless", "20000000 bytes"),
        ("/10gb", "20000000 bytes"),
        ("/30mb", "20000000 bytes"),
        ("/bomb", "12000 by"),
    ] {
        let error = refusal(&app, &picture(&origin.url(path))).await;
        assert_eq!(error["code"], "file_too_large", "{path}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{path}: {error}");
    }
    timeout(PATIENCE, origin.left.notified()).await.expect("the endless page is still being read");
    let taken = origin.taken.load(Ordering::SeqCst);
    // Sockets hold some megabytes that are not read yet.
    assert!((20_000_000..40_000_000).contains(&taken), "{taken}");
    assert_nothing_went_up(&app);
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_fetching_along() {
    let origin = Origin::start("127.0.0.1", |_| vec![("/silent", Page::Silent)]).await;
    let app = app_with(&origin.address.to_string()).await;
    let request = app.post("/v1/chat/completions", &picture(&origin.url("/silent")));
    let asking = spawn(async move { request.send().await.map(|_| ()) });
    timeout(PATIENCE, origin.asked.notified()).await.expect("no request came");
    asking.abort();
    timeout(Duration::from_secs(2), origin.left.notified()).await.expect("the fetching goes on");
    assert_nothing_went_up(&app);
}

/// Takes connections on every address of this machine, at ports that a caller may name, and counts them.
struct Trap {
    port: u16,
    sprung: Arc<AtomicUsize>,
}

impl Trap {
    async fn set() -> Self {
        let sprung = Arc::new(AtomicUsize::new(0));
        let first = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        // IPv6 may be missing. The usual port, which the rules do not mind, belongs to root, or to another program.
        for address in [format!("[::1]:{port}"), "0.0.0.0:80".to_owned(), "[::1]:80".to_owned()] {
            listeners.extend(TcpListener::bind(address).await.ok());
        }
        for listener in listeners {
            let sprung = Arc::clone(&sprung);
            spawn(async move {
                while listener.accept().await.is_ok() {
                    sprung.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { port, sprung }
    }
}

/// Spellings of hosts that no caller may have fetched.
const HOSTS: [&str; 72] = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "0x7f.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "0X7F000001",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "127．0．0．1",
    "%31%32%37.0.0.1",
    "0",
    "0.0.0.0",
    "0x0",
    "00000000",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "ｌｏｃａｌｈｏｓｔ",
    "l%6fcalhost",
    "a.localhost",
    "localhost.localdomain",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::FFFF:0.0.0.0]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001::1]",
    "[::ffff:0:127.0.0.1]",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "169.254.43518",
    "0251.0376.0251.0376",
    "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "metadata.google.internal",
    "metadata",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "3232235521",
    "100.64.0.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "255.255.255.255",
    "[fc00::1]",
    "[fe80::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "printer.local",
    "router.home.arpa",
    "u:p@127.0.0.1",
    "example.com@127.0.0.1",
];

#[tokio::test]
async fn no_spelling_leads_to_an_address_that_is_not_public() {
    let trap = Trap::set().await;
    let app = app_with("public").await;
    for entry in [picture, history, video, document] {
        let expected = refusal(&app, &entry("http://127.0.0.1/x.png")).await;
        assert_eq!(expected["code"], "file_unreachable");
        for host in HOSTS {
            for url in [format!("http://{host}/x.png"), format!("http://{host}:{}/x.png", trap.port)] {
                assert_eq!(refusal(&app, &entry(&url)).await, expected, "{url}");
            }
        }
    }
    assert_eq!(trap.sprung.load(Ordering::SeqCst), 0, "an address was connected to");
    TcpStream::connect(("127.0.0.1", trap.port)).await.unwrap();
    assert_nothing_went_up(&app);
}

#[tokio::test]
async fn nothing_is_fetched_when_that_is_off() {
    let origin = Origin::start("127.0.0.1", |_| vec![("/a.png", ok("", &png(1)))]).await;
    for fetch in ["off", "public", "127.0.0.1", "localhost", "*.example.com"] {
        let app = app_with(fetch).await;
        for body in [picture, history, video, document].map(|entry| entry(&origin.url("/a.png"))) {
            assert_eq!(refusal(&app, &body).await["code"], "file_unreachable", "{fetch}");
        }
        assert_nothing_went_up(&app);
    }
    assert_eq!(origin.heads(), Vec::<String>::new());
}

/// A proxy would resolve names by itself, past every check.
#[tokio::test]
async fn proxies_are_not_for_media() {
    // An address of its own, since exceptions from proxies know no ports.
    let origin = Origin::start("127.0.0.2", |_| vec![("/a.png", ok("", &png(1)))]).await;
    let proxy = Origin::start("127.0.0.1", |_| Vec::new()).await;
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let start = |no_proxy: &str| {
        let mut settings = settings(&simulator, "json");
        let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
        settings.extend(names.map(|name| (name, format!("http://{}", proxy.address))));
        settings.extend([
            ("QWEN_OSS_BASE_URL", simulator.urls().storage.to_string()),
            ("MEDIA_FETCH", origin.address.to_string()),
            ("NO_PROXY", no_proxy.to_owned()),
        ]);
        Program::start(&["serve"], &settings)
    };
    let program = start("127.0.0.1");
    let url = format!("http://{}/v1/chat/completions", program.address_beside("listening").await);
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let request = client.post(url).bearer_auth(program::KEY).header("content-type", "application/json");
    let response = request.body(picture(&origin.url("/a.png")).to_string()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!((origin.heads().len(), proxy.heads()), (1, Vec::new()));
    // It is one that would have been used: without the exception the upstream is looked for there.
    let _program = start("127.0.0.9");
    timeout(PATIENCE, proxy.asked.notified()).await.expect("the proxy is not used at all");
}
