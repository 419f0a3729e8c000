//! A server that answers as a test says, down to the byte; each connection has a thread and carries one request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde_json::Value;
use url::Url;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Request target: path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server for tests. It lives as long as the test's process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers each request with the bytes that `answer` gives; its second argument counts the requests from 0 on.
    pub(crate) fn answering(answer: impl Fn(&Seen, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::writing(move |seen, count, stream| {
            let _ = stream.write_all(&answer(seen, count));
        })
    }

    /// Lets `write` write to the connection as it wants.
    pub(crate) fn writing(write: impl Fn(&Seen, usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::start(|_| true, write)
    }

    /// The same, but reads the bodies of some requests only; the argument counts them from 0 on.
    pub(crate) fn start(
        reads: impl Fn(usize) -> bool + Send + Sync + 'static,
        write: impl Fn(&Seen, usize, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = Self { address, seen: Arc::clone(&seen) };
        let act = Arc::new((reads, write));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, act) = (Arc::clone(&seen), Arc::clone(&act));
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let (reads, write) = &*act;
                    let reads_body = reads(seen.lock().len());
                    let Some(request) = read(&stream, reads_body) else { return };
                    let count = {
                        let mut seen = seen.lock();
                        seen.push(request.clone());
                        seen.len() - 1
                    };
                    write(&request, count, &mut stream);
                });
            }
        });
        server
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// Method and target of all requests so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.seen.lock().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }

    pub(crate) fn url(&self) -> Url {
        Url::parse(&format!("http://{}/", self.address)).unwrap()
    }
}

fn read(stream: &TcpStream, reads_body: bool) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HeaderMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = HeaderValue::from_str(value.trim()).unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value);
    }
    assert!(!headers.contains_key("transfer-encoding"), "bodies have a length");
    assert!(headers.get_all("content-length").iter().count() <= 1, "one length");
    let length = headers.get("content-length").map_or(0, |value| value.to_str().unwrap().parse().unwrap());
    let mut body = vec![0; if reads_body { length } else { 0 }];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { method, target, headers, body })
}

/// An HTTP answer with `content-length`, which closes its connection.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// An HTTP answer with this JSON as its body.
pub(crate) fn json(status: u16, body: &Value) -> Vec<u8> {
    answer(status, &[("content-type", "application/json")], body.to_string().as_bytes())
}
