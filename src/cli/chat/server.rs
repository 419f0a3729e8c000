//! The running server as `chat` calls it: addresses, the key, the stream of an answer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Client, Method, RequestBuilder, Response};
use serde_json::Value;
use url::{Host, Url};

use crate::base::secret::ApiKey;
use crate::cli::chat::error::{ChatError, Refusal};
use crate::sse::{SseDecoder, SseError};
use crate::upstream::way::WayFault;

/// Time limit for a connection, and for an answer that is not streamed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause within a stream. The server sends a comment every 15 s by default.
const SILENCE_MAX: Duration = Duration::from_secs(180);
/// The largest body of an error, of a list of models, in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The largest picture or video that is fetched, in bytes.
const MADE_BYTES_MAX: usize = 500 * 1024 * 1024;
/// Bytes of a body that are sent at once, so that progress can be shown.
const PIECE_BYTES: usize = 64 * 1024;
/// The header with the id of a request.
const REQUEST_ID: &str = "x-request-id";

/// Client of a running server.
pub(crate) struct Server {
    client: Client,
    /// URL of the server, without `/v1`.
    base: String,
    key: Option<ApiKey>,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// The name of the model that answers.
    Model(String),
    /// A piece of the model's thoughts.
    Thought(String),
    /// A piece of the answer's text.
    Text(String),
    /// A page that the answer goes back to: title and address.
    Source(String, String),
    /// `finish_reason`: why the answer ended.
    Finish(String),
    /// Tokens of the answer, by the server's usage.
    Tokens(u64),
}

impl Server {
    /// The server at an address (`--url`, with or without a scheme and `/v1`).
    ///
    /// # Errors
    /// [`ChatError::Address`], [`ChatError::Client`].
    pub(crate) fn at(address: &str, key: Option<ApiKey>) -> Result<Self, ChatError> {
        Self::reached(address, key, false)
    }

    /// The server at an address; without a proxy if it is this machine's own.
    fn reached(address: &str, key: Option<ApiKey>, is_own: bool) -> Result<Self, ChatError> {
        let wrong = || ChatError::Address(address.to_owned());
        let full = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let url = Url::parse(&full).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong());
        }
        let is_near = is_own
            || match url.host() {
                Some(Host::Domain(name)) => name == "localhost",
                Some(Host::Ipv4(address)) => address.is_loopback(),
                Some(Host::Ipv6(address)) => address.is_loopback(),
                None => return Err(wrong()),
            };
        let mut builder = Client::builder().connect_timeout(TIMEOUT).read_timeout(SILENCE_MAX);
        if is_near {
            // This machine is reached without a proxy.
            builder = builder.no_proxy();
        }
        if url.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        let base = full.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches('/').to_owned();
        Ok(Self { client: builder.build().map_err(ChatError::Client)?, base, key })
    }

    /// The server of this machine that listens here, under its base path.
    ///
    /// # Errors
    /// As [`Server::at`].
    pub(crate) fn near(listen: SocketAddr, base_path: &str, key: Option<ApiKey>) -> Result<Self, ChatError> {
        Self::reached(&format!("http://{listen}{base_path}"), key, true)
    }

    /// Its base URL, as clients are told it.
    pub(crate) fn base_url(&self) -> String {
        format!("{}/v1", self.base)
    }

    /// The names of its models.
    ///
    /// # Errors
    /// [`ChatError`]: it does not answer, or refuses.
    pub(crate) async fn models(&self) -> Result<Vec<String>, ChatError> {
        let response = self.send(self.request(Method::GET, "/models").timeout(TIMEOUT)).await?;
        let status = response.status();
        let body = text(response).await?;
        let list = serde_json::from_str::<Value>(&body).ok();
        let data = list.as_ref().and_then(|list| list.get("data")?.as_array());
        let data = data.ok_or_else(|| ChatError::Stranger(self.base_url(), status))?;
        Ok(data.iter().filter_map(|model| model.get("id")?.as_str()).map(str::to_owned).collect())
    }

    /// Whether it has a model of this name.
    ///
    /// # Errors
    /// [`ChatError::Refused`] with the server's hint if it has none, else as [`Server::models`].
    pub(crate) async fn must_have(&self, model: &str) -> Result<(), ChatError> {
        let mut url = Url::parse(&self.base_url()).map_err(|_| ChatError::Address(self.base.clone()))?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.push("models").push(model);
        }
        self.send(self.keyed(self.client.get(url)).timeout(TIMEOUT)).await.map(|_| ())
    }

    /// Asks for an answer as a stream. `sent` counts the bytes of the body that are on their way.
    ///
    /// # Errors
    /// As [`Server::models`].
    pub(crate) async fn ask(&self, body: Bytes, sent: &Arc<AtomicU64>) -> Result<AnswerStream, ChatError> {
        let counter = Arc::clone(sent);
        let pieces = (0..body.len().div_ceil(PIECE_BYTES)).map(move |piece| {
            let start = piece * PIECE_BYTES;
            let bytes = body.slice(start..body.len().min(start + PIECE_BYTES));
            counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok::<_, std::io::Error>(bytes)
        });
        let request = self.request(Method::POST, "/chat/completions").header("content-type", "application/json");
        let response = self.send(request.body(Body::wrap_stream(stream::iter(pieces)))).await?;
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(|value| value.starts_with("text/event-stream")) {
            return Err(ChatError::Stranger(self.base_url(), response.status()));
        }
        Ok(AnswerStream {
            request_id: request_id(&response),
            response,
            decoder: SseDecoder::new(),
            pieces: VecDeque::new(),
            is_done: false,
            fault: None,
        })
    }

    /// Fetches what was made from the link of an answer. The key is sent to the server itself only.
    ///
    /// # Errors
    /// [`ChatError::Fetch`].
    pub(crate) async fn fetch(&self, link: &str) -> Result<Vec<u8>, ChatError> {
        let failed = |error: reqwest::Error| ChatError::Fetch(link.to_owned(), error.without_url());
        // Links lead to the upstream's storage, by whichever way this machine has.
        let client = Client::builder().connect_timeout(TIMEOUT).read_timeout(SILENCE_MAX).build();
        let request = client.map_err(ChatError::Client)?.get(link).send().await;
        let mut response = request.and_then(Response::error_for_status).map_err(failed)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > MADE_BYTES_MAX {
                let too_large = std::io::ErrorKind::FileTooLarge.into();
                return Err(ChatError::Save(link.to_owned(), too_large));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.keyed(self.client.request(method, format!("{}{path}", self.base_url())))
    }

    fn keyed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ChatError> {
        let unreachable = |error: reqwest::Error| match WayFault::of(&error) {
            Some(WayFault::Tls) => ChatError::NoTls(self.base_url()),
            // It was there, and went away.
            None if !error.is_connect() && !error.is_timeout() => ChatError::Broken(None, Some(error.without_url())),
            _ => ChatError::Unreachable(self.base_url(), error.without_url()),
        };
        let response = request.send().await.map_err(unreachable)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, id) = (response.status(), request_id(&response));
        let body = text(response).await?;
        let refusal = serde_json::from_str(&body).ok().and_then(|body: Value| refusal_of(&body));
        let refusal = refusal.ok_or_else(|| ChatError::Stranger(self.base_url(), status))?;
        let request_id = refusal.request_id.or(id);
        Err(ChatError::Refused(Refusal { status: Some(status.as_u16()), request_id, ..refusal }))
    }
}

/// An answer under way. Dropping it tells the server that the caller left.
pub(crate) struct AnswerStream {
    response: Response,
    request_id: Option<String>,
    decoder: SseDecoder,
    pieces: VecDeque<Piece>,
    is_done: bool,
    /// The fault that ended the answer, shown after the parts that came before it.
    fault: Option<ChatError>,
}

impl AnswerStream {
    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// [`ChatError::Refused`] for an error within the stream, [`ChatError::Broken`] when it ends before its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, ChatError> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some(piece));
            }
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            if self.is_done {
                return Ok(None);
            }
            let broken = |error| ChatError::Broken(self.request_id.clone(), error);
            let chunk = self.response.chunk().await.map_err(|error| broken(Some(error.without_url())))?;
            let Some(chunk) = chunk else { return Err(broken(None)) };
            let (pieces, is_done) = (&mut self.pieces, &mut self.is_done);
            let taken = self.decoder.push(&chunk, |event| take(event, pieces, is_done));
            // The parts before the fault are shown first.
            self.fault = taken.err().map(|fault| match fault {
                Fault::Told(refusal) => {
                    let request_id = refusal.request_id.or_else(|| self.request_id.clone());
                    ChatError::Refused(Refusal { request_id, ..refusal })
                }
                Fault::Unreadable => ChatError::Broken(self.request_id.clone(), None),
            });
        }
    }
}

/// Reasons why an event ends the answer.
enum Fault {
    Told(Refusal),
    Unreadable,
}

impl From<SseError> for Fault {
    fn from(_: SseError) -> Self {
        Self::Unreadable
    }
}

/// Reads one event into parts of the answer.
fn take(event: &[u8], pieces: &mut VecDeque<Piece>, is_done: &mut bool) -> Result<(), Fault> {
    if event == b"[DONE]" {
        *is_done = true;
        return Ok(());
    }
    let chunk: Value = serde_json::from_slice(event).map_err(|_| Fault::Unreadable)?;
    if let Some(refusal) = refusal_of(&chunk) {
        return Err(Fault::Told(refusal));
    }
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    pieces.extend(chunk.get("model").and_then(text).map(Piece::Model));
    if let Some(choice) = chunk.pointer("/choices/0") {
        let of = |name: &str| choice.get("delta").and_then(|delta| delta.get(name));
        pieces.extend(of("reasoning_content").and_then(text).map(Piece::Thought));
        pieces.extend(of("content").and_then(text).map(Piece::Text));
        for annotation in of("annotations").and_then(Value::as_array).into_iter().flatten() {
            let source = annotation.get("url_citation").unwrap_or(annotation);
            if let Some(url) = source.get("url").and_then(text) {
                let title = source.get("title").and_then(text).unwrap_or_default();
                pieces.push_back(Piece::Source(title, url));
            }
        }
        pieces.extend(choice.get("finish_reason").and_then(text).map(Piece::Finish));
    }
    let tokens = chunk.pointer("/usage/completion_tokens").and_then(Value::as_u64);
    pieces.extend(tokens.map(Piece::Tokens));
    Ok(())
}

/// `{"error": {"message", "code"}, "request_id"}`, wherever it stands.
fn refusal_of(body: &Value) -> Option<Refusal> {
    let error = body.get("error").filter(|error| !error.is_null())?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let message = if error.is_string() { text(Some(error)) } else { text(error.get("message")) };
    let id = body.get("request_id").or_else(|| error.get("request_id"));
    Some(Refusal { status: None, message, code: text(error.get("code")), request_id: id.map(|id| text(Some(id))) })
}

fn request_id(response: &Response) -> Option<String> {
    response.headers().get(REQUEST_ID)?.to_str().ok().map(str::to_owned)
}

/// A body of at most [`BODY_BYTES_MAX`]; what is beyond is left out.
async fn text(mut response: Response) -> Result<String, ChatError> {
    let mut bytes = Vec::new();
    while bytes.len() < BODY_BYTES_MAX {
        let chunk = response.chunk().await;
        let Some(chunk) = chunk.map_err(|error| ChatError::Broken(None, Some(error.without_url())))? else { break };
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (given, base) in [
            ("localhost:8000", "http://localhost:8000/v1"),
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
            ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
            ("https://example.org/qwen/v1/", "https://example.org/qwen/v1"),
            ("[::1]:9", "http://[::1]:9/v1"),
        ] {
            assert_eq!(Server::at(given, None).unwrap().base_url(), base, "{given}");
        }
        for wrong in ["", "ftp://example.org", "http://", "http://user:secret@example.org"] {
            assert!(matches!(Server::at(wrong, None), Err(ChatError::Address(_))), "{wrong}");
        }
    }

    #[test]
    fn events_become_parts_of_an_answer() {
        let mut pieces = VecDeque::new();
        let mut is_done = false;
        let mut read = |event: &str| take(event.as_bytes(), &mut pieces, &mut is_done).is_ok();
        assert!(read(r#"{"model":"m","choices":[{"delta":{"reasoning_content":"hm","content":""}}]}"#));
        assert!(read(
            r#"{"choices":[{"delta":{"content":"a","annotations":[{"type":"url_citation","url_citation":{"url":"u","title":"t"}}]},"finish_reason":"stop"}]}"#
        ));
        assert!(read(r#"{"choices":[],"usage":{"completion_tokens":3}}"#));
        assert!(!read("nonsense"));
        assert!(!read(r#"{"error":{"message":"x"}}"#));
        assert!(read("[DONE]"));
        assert!(is_done);
        let expected = [
            Piece::Model("m".to_owned()),
            Piece::Thought("hm".to_owned()),
            Piece::Text("a".to_owned()),
            Piece::Source("t".to_owned(), "u".to_owned()),
            Piece::Finish("stop".to_owned()),
            Piece::Tokens(3),
        ];
        assert_eq!(Vec::from(pieces), expected);
    }
}
