//! A client without manners: bytes on a socket, and answers as they come.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::app::{KEY, PATIENCE};

/// A connection to the server.
pub(crate) struct Raw {
    stream: TcpStream,
    /// What has come and was not yet read as an answer.
    unread: Vec<u8>,
}

/// An answer as it stood on the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    /// The head with lower-case names, one line each.
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Raw {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), unread: Vec::new() }
    }

    /// Sends these bytes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends these bytes, unless the server has already closed the connection.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Waits for more; false at the end of the connection, however it ended.
    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.expect("the server says nothing");
        read.unwrap_or(0) > 0
    }

    /// Waits until there is something to read, if only the end.
    pub(crate) async fn arrived(&mut self) {
        if self.unread.is_empty() {
            self.more().await;
        }
    }

    /// Whether the server has said nothing yet that was not read.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.unread.is_empty() && self.stream.try_read_buf(&mut self.unread).is_err()
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn end(&mut self) {
        // A connection that the server has closed has ended, too.
        let _ = self.stream.shutdown().await;
    }

    /// What comes next: an answer's head, or nothing.
    pub(crate) async fn rest_or_answer(&mut self) -> Vec<u8> {
        self.arrived().await;
        std::mem::take(&mut self.unread)
    }

    /// Everything until the server closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.unread)
    }

    /// Whether the server has closed without a further word.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.more().await
    }

    /// Waits until this text has come, and takes everything up to its end.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        loop {
            let found = self.unread.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(place) = found {
                let rest = self.unread.split_off(place + text.len());
                return String::from_utf8(std::mem::replace(&mut self.unread, rest)).unwrap();
            }
            assert!(self.more().await, "no {text:?} in {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// Reads the head of an answer; the body is left unread.
    pub(crate) async fn head(&mut self) -> Answer {
        let head = self.until("\r\n\r\n").await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let lower = head.lines().map(|line| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}\n", name.to_ascii_lowercase()),
            None => format!("{line}\n"),
        });
        Answer { status, head: lower.collect(), body: Vec::new() }
    }

    /// Reads a whole answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(self.until("\r\n").await.trim_end(), 16).unwrap();
                let chunk = self.take(size + 2).await;
                answer.body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    return answer;
                }
            }
        }
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        answer.body = self.take(length).await;
        answer
    }

    async fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.unread.len() < bytes {
            assert!(self.more().await, "the answer broke off: {:?}", String::from_utf8_lossy(&self.unread));
        }
        let rest = self.unread.split_off(bytes);
        std::mem::replace(&mut self.unread, rest)
    }
}

/// The head of a request with the key, a host, and these further lines.
pub(crate) fn head(request_line: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{request_line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n{lines}\r\n")
}

/// A whole chat request with this body.
pub(crate) fn chat(body: &Value) -> String {
    let body = body.to_string();
    let length = format!("content-length: {}", body.len());
    head("POST /v1/chat/completions", &["content-type: application/json", &length]) + &body
}
