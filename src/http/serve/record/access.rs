//! The frame of every request: its id, the headers of every answer, and its one line in the log.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_HEADERS, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tracing::info;
use uuid::Uuid;

use crate::base::caller_key::KeyName;
use crate::dialect::Dialect;
use crate::gateway::accounts::book::AccountBook;
use crate::gateway::answer::trace::Trace;
use crate::gateway::requests::{AskedFor, EndedRequest, Place, RequestHead, SpanParent};
use crate::http::failure::write_body;
use crate::http::refusals::SHOWN_METHOD_MAX;
use crate::http::serve::record::observers::Observers;
use crate::http::settings::HttpSettings;
use crate::http::state::AppState;
use crate::telemetry::ACCESS_LINE;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The same header under Anthropic's name, on Anthropic's routes.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Route of a path that no route has.
const NO_ROUTE: &str = "other";
/// Prefix of the headers that tell how a request was understood.
pub(crate) const NOTE_PREFIX: &str = "x-bridge-";
/// Most characters of such a header that are kept.
const NOTE_CHARS_MAX: usize = 200;

/// The facts of a request for its log line. Handlers fill it in; it is written when the answer's body ends or is
/// dropped.
#[derive(Clone, Debug)]
pub(crate) struct RequestRecord(Arc<Record>);

#[derive(Debug)]
struct Record {
    id: String,
    path: String,
    /// The caller's address, by the trusted proxies.
    peer: IpAddr,
    observers: Arc<Observers>,
    /// Knows the owner's names of accounts; `None` in tests of other things.
    book: Option<AccountBook>,
    trace: Trace,
    head: Arc<Mutex<RequestHead>>,
    /// Entry among the open requests, for a request to a model.
    place: OnceLock<Place>,
    end: Mutex<End>,
}

#[derive(Debug, Default)]
struct End {
    status: u16,
    code: Option<&'static str>,
    is_complete: bool,
}

impl RequestRecord {
    /// Id of the request, as the caller was told.
    #[must_use]
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    /// Notes that the caller was admitted: with the key of this name, or with `None` by a credential or without a key.
    pub(crate) fn admitted(&self, key: Option<KeyName>) {
        let mut head = self.0.head.lock();
        (head.is_admitted, head.key) = (true, key);
    }

    /// Notes the product that the request asks a model for.
    pub(crate) fn asks(&self, what: AskedFor) {
        self.0.head.lock().asked_for = Some(what);
        let place =
            self.0.place.get_or_init(|| self.0.observers.requests.open(Arc::clone(&self.0.head), self.0.trace.clone()));
        place.changed();
    }

    /// Notes the model that was asked for.
    pub(crate) fn model(&self, model: &str) {
        self.0.head.lock().model = Some(model.chars().take(100).collect());
        if let Some(place) = self.0.place.get() {
            place.changed();
        }
    }

    /// The history of the request, which the gateway fills and the log line is made from.
    #[must_use]
    pub(crate) fn trace(&self) -> Trace {
        self.0.trace.clone()
    }

    /// Notes that the answer is a stream.
    pub(crate) fn streamed(&self) {
        if !std::mem::replace(&mut self.0.head.lock().is_streamed, true) {
            self.0.observers.counters.stream_began();
        }
    }

    /// Keeps the headers that tell how the request was understood.
    fn note_answer(&self, headers: &HeaderMap) {
        if self.0.place.get().is_none() {
            return;
        }
        let notes = headers.iter().filter_map(|(name, value)| {
            let note = name.as_str().strip_prefix(NOTE_PREFIX)?;
            Some((note.to_owned(), value.to_str().ok()?.chars().take(NOTE_CHARS_MAX).collect()))
        });
        self.0.head.lock().notes = notes.collect();
    }

    /// Notes an error at the end of an answer whose status was a success.
    pub(crate) fn failed(&self, code: &'static str) {
        self.0.end.lock().code = Some(code);
    }
}

impl Record {
    /// Logs a short form of the line, which terminals show in place of the long one.
    fn log_for_terminals(&self, ended: &EndedRequest) {
        if !tracing::enabled!(target: ACCESS_LINE, tracing::Level::INFO) {
            return;
        }
        let EndedRequest { head, history, .. } = ended;
        let name = |identity| self.book.as_ref().map_or_else(|| format!("{identity}"), |book| book.name_of(identity));
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        info!(
            target: ACCESS_LINE,
            method = head.method,
            path = self.path,
            http.status = ended.status,
            model = head.model.as_deref(),
            account = history.account.as_ref().map(|(_, identity)| name(identity)),
            tokens_in = history.tokens.prompt,
            tokens_out = history.tokens.completion,
            first_ms = history.first_content.map(millis),
            total_ms = millis(ended.total),
            outcome = ended.outcome,
            "request"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let end = self.end.get_mut();
        let outcome = match (end.code, end.is_complete) {
            (Some(code), _) => code,
            (None, true) => "ok",
            (None, false) => "caller_left",
        };
        drop(self.place.take());
        let head = std::mem::take(&mut *self.head.lock());
        let ended = EndedRequest {
            head,
            status: end.status,
            outcome,
            total: self.trace.began().elapsed(),
            history: self.trace.take(),
        };
        let EndedRequest { head, total, history, .. } = &ended;
        info!(
            request.id = %self.id,
            http.method = head.method,
            http.path = self.path,
            peer.address = %self.peer,
            http.status = ended.status,
            model.name = head.model.as_deref(),
            identity.id = history.account.as_ref().map(|(_, identity)| tracing::field::display(identity)),
            attempts = history.attempts,
            stream = head.is_streamed,
            outcome,
            duration_ms = u64::try_from(total.as_millis()).unwrap_or(u64::MAX),
            "request"
        );
        self.log_for_terminals(&ended);
        let head = &ended.head;
        let is_kept = head.asked_for.is_some() || (head.method == "POST" && self.path.starts_with("/v1/"));
        self.observers.ended(ended, is_kept);
    }
}

pub(crate) async fn access(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    state.0.observers.counters.request_began();
    let head = RequestHead {
        id: id.clone(),
        came_at: SystemTime::now(),
        method: request.method().as_str().chars().take(SHOWN_METHOD_MAX).collect(),
        route: request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str).to_owned(),
        parent: span_parent(request.headers()),
        ..RequestHead::default()
    };
    let record = RequestRecord(Arc::new(Record {
        id,
        path: request.uri().path().chars().take(200).collect(),
        peer: caller_address(&state.settings(), &request),
        observers: Arc::clone(&state.0.observers),
        book: Some(state.0.book.clone()),
        trace: Trace::default(),
        head: Arc::new(Mutex::new(head)),
        place: OnceLock::new(),
        end: Mutex::default(),
    }));
    let is_preflight = request.method() == Method::OPTIONS;
    let is_tls = is_behind_tls(&state, &request);
    let dialect = Dialect::of_path(request.uri().path());
    request.extensions_mut().insert(record.clone());
    let mut response = next.run(request).await;
    let code = write_body(&mut response, dialect, record.id());
    if is_preflight && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().remove(CONTENT_LENGTH);
        let fallback = HeaderValue::from_static("authorization, content-type, x-api-key");
        response.headers_mut().entry(ACCESS_CONTROL_ALLOW_HEADERS).or_insert(fallback);
    }
    let headers = response.headers_mut();
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("x-frame-options", HeaderValue::from_static("DENY"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    if is_tls {
        headers.insert("strict-transport-security", HeaderValue::from_static("max-age=15552000"));
    }
    if let Ok(id) = HeaderValue::try_from(record.id()) {
        if dialect == Dialect::Anthropic {
            headers.insert(ANTHROPIC_REQUEST_ID, id.clone());
        }
        headers.insert(REQUEST_ID, id);
    }
    {
        let mut end = record.0.end.lock();
        end.status = response.status().as_u16();
        if code.is_some() {
            end.code = code;
        }
    }
    record.note_answer(response.headers());
    let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    response.map(|body| Body::new(RecordedBody { body, bytes_left: length, record }))
}

/// The caller's own span from `traceparent`, `00-TRACE-SPAN-FLAGS` in lower-case hexadecimal (W3C Trace Context).
fn span_parent(headers: &HeaderMap) -> Option<SpanParent> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = value.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let is_sized = version.len() == 2 && version != "ff" && trace.len() == 32 && span.len() == 16;
    let parent = SpanParent { trace: u128::from_str_radix(trace, 16).ok()?, span: u64::from_str_radix(span, 16).ok()? };
    (is_sized && parent.trace > 0 && parent.span > 0).then_some(parent)
}

/// The caller's own id if it is a plain word, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let offered = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    offered.filter(is_plain).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

/// Whether a trusted proxy tells that the caller uses TLS.
pub(crate) fn is_behind_tls(state: &AppState, request: &Request) -> bool {
    let proto = request.headers().get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    proto == Some("https") && is_from_trusted_proxy(&state.settings(), request)
}

/// Whether the connection comes from one of `TRUSTED_PROXIES`.
pub(crate) fn is_from_trusted_proxy(settings: &HttpSettings, request: &Request) -> bool {
    peer(request).is_some_and(|peer| is_trusted(settings, peer))
}

/// Client IP: the right-most `X-Forwarded-For` entry that is not a trusted proxy, else the peer of the connection.
pub(crate) fn caller_address(settings: &HttpSettings, request: &Request) -> IpAddr {
    let mut address = peer(request).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let lines = |name: &str| request.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let forwarded: Vec<&str> = lines("x-forwarded-for").flat_map(|line| line.split(',')).map(str::trim).collect();
    // Each proxy appends the peer it saw; entries left of the first untrusted one may be forged.
    let mut heard = forwarded.into_iter().rev();
    while is_trusted(settings, address) {
        let Some(said) = heard.next() else {
            let said = lines("x-real-ip").next().and_then(parse_address);
            return said.filter(|_| peer(request) == Some(address)).unwrap_or(address);
        };
        let Some(next) = parse_address(said) else {
            break;
        };
        address = next;
    }
    address
}

/// Parses an address as proxies write it, with or without a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// IP of the connection's peer.
fn peer(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical())
}

fn is_trusted(settings: &HttpSettings, address: IpAddr) -> bool {
    settings.trusted_proxies.iter().any(|net| net.contains(&address))
}

/// Passes a body on and keeps the record until it has ended.
struct RecordedBody {
    body: Body,
    /// Bytes left of the length in the head. Hyper stops polling once it has them.
    bytes_left: Option<u64>,
    record: RequestRecord,
}

impl RecordedBody {
    fn note_end(&self) {
        if self.body.is_end_stream() || self.bytes_left == Some(0) {
            self.record.0.end.lock().is_complete = true;
        }
    }
}

impl HttpBody for RecordedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => this.record.0.end.lock().is_complete = true,
            Poll::Ready(Some(frame)) => {
                let bytes = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
                this.bytes_left = this.bytes_left.map(|left| left.saturating_sub(bytes as u64));
                this.note_end();
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // Hyper may never poll an empty body, so this look counts as its end.
        self.note_end();
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::stream;
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_callers_span_is_read_if_it_is_one() {
        let read = |value: &str| {
            span_parent(&HeaderMap::from_iter([(
                HeaderName::from_static("traceparent"),
                HeaderValue::from_str(value).unwrap(),
            )]))
        };
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = SpanParent { trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span: 0xb7ad_6b71_6920_3331 };
        assert_eq!(read(good), Some(parent));
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "00-0af7-b7ad-01",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_answer_of_known_length_is_complete_with_its_last_byte() {
        for (length, is_complete) in [(Some(6), true), (Some(7), false), (None, false)] {
            let record = RequestRecord(Arc::new(Record {
                id: "id".to_owned(),
                path: "/".to_owned(),
                peer: Ipv4Addr::LOCALHOST.into(),
                observers: Arc::default(),
                book: None,
                trace: Trace::default(),
                head: Arc::default(),
                place: OnceLock::new(),
                end: Mutex::default(),
            }));
            let pieces = ["abc", "def"].map(|piece| Ok::<_, axum::Error>(Bytes::from_static(piece.as_bytes())));
            let body = Body::from_stream(stream::iter(pieces));
            let mut body = RecordedBody { body, bytes_left: length, record: record.clone() };
            // Hyper stops polling once it has the bytes that the head named.
            for _ in 0..2 {
                body.frame().await.unwrap().unwrap();
            }
            assert_eq!(record.0.end.lock().is_complete, is_complete, "{length:?}");
        }
    }
}
