//! Sockets: two listeners, one hyper connection for each client, and requests on their way to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::answers::{Answer, Payload};
use crate::api::authorize;
use crate::api::{device, portal};
use crate::manners::inspect;
use crate::record::{EndedHow, RecordedRequest, SiteHost, Ticket};
use crate::routes::endpoint_of;
use crate::script::queues::Stage;
use crate::script::{Endpoint, ScriptedReply};
use crate::storage::oss::put;
use crate::web::completions::complete;
use crate::web::jar::{REGION, acw_tc};
use crate::web::site::{answer, nowhere};
use crate::web::stream::steps::{Fuse, ScriptedBody, Torn};
use crate::world::{Call, World};

/// Accepts connections until it is stopped.
pub(crate) async fn listen(
    listener: TcpListener,
    host: SiteHost,
    world: Arc<World>,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // No file descriptor left, most likely: let others close theirs.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let world = Arc::clone(&world);
        let stop = stop.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serve(stream, host, world) => {}
            }
        });
    }
}

/// Binds a loopback port.
pub(crate) async fn bind(port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn serve(stream: TcpStream, host: SiteHost, world: Arc<World>) {
    // A packet that is flushed is a packet that leaves.
    let _ = stream.set_nodelay(true);
    let open = OpenConnection::count(Arc::clone(&world));
    let fuse = Arc::new(Fuse::default());
    let wire = Wire { stream, fuse: Arc::clone(&fuse) };
    let service = service_fn(|request| {
        let world = Arc::clone(&world);
        let fuse = Arc::clone(&fuse);
        async move { handle(world, host, fuse, request).await }
    });
    // An error here is a client that left or a body that was torn; both are in the journal.
    let _ = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(wire), service).await;
    drop(open);
}

async fn handle(
    world: Arc<World>,
    host: SiteHost,
    fuse: Arc<Fuse>,
    request: Request<Incoming>,
) -> Result<Response<ScriptedBody>, Torn> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or_else(|| parts.uri.path().to_owned(), ToString::to_string);
    let mut endpoint = endpoint_of(host, &parts.method, &path);
    let (body, upload) = if endpoint == Some(Endpoint::OssPut) {
        (Bytes::new(), Some(body))
    } else {
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        (body.map_err(|_| Torn)?.to_bytes(), None)
    };
    let mut caller = world.accounts.caller(&parts.headers);
    let owner = endpoint.and_then(|endpoint| world.owner(endpoint, &path, &parts.headers));
    if owner.is_some() {
        caller.account = owner;
    }
    let request_id = parts
        .headers
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
    let mut call = Call {
        number: 0,
        host,
        method: parts.method,
        path,
        headers: parts.headers,
        body,
        request_id,
        caller,
        guest: None,
    };
    if endpoint == Some(Endpoint::DeviceToken) && call.form("grant_type").as_deref() == Some("refresh_token") {
        endpoint = Some(Endpoint::RefreshToken);
    }
    call.guest = endpoint.and_then(|endpoint| world.guest(endpoint, &call));
    let ticket = world.journal.open(recorded(&call, endpoint));
    call.number = ticket.number();
    inspect(&world, &call, endpoint);
    let attempt = count(&world, endpoint);
    let answer = match upload {
        Some(body) => put(&world, &call, body, &ticket).await.inspect_err(|_| fuse.light())?,
        None => decide(&world, &call, endpoint, attempt).await,
    };
    let is_of_site = !endpoint.is_some_and(|endpoint| endpoint.is_elsewhere() || endpoint.is_api());
    let mut response = respond(&call, answer, ticket, &fuse, is_of_site)?;
    if world.clock_ahead_seconds != 0 {
        // Without one, hyper writes the right one.
        append(response.headers_mut(), "date", &date(world.clock_ahead_seconds));
    }
    Ok(response)
}

/// The time of a clock that is so many seconds ahead, as an HTTP date.
fn date(ahead: i64) -> String {
    let shift = Duration::from_secs(ahead.unsigned_abs());
    let now = SystemTime::now();
    let shown = if ahead < 0 { now.checked_sub(shift) } else { now.checked_add(shift) };
    httpdate::fmt_http_date(shown.unwrap_or(now))
}

async fn decide(world: &World, call: &Call, endpoint: Option<Endpoint>, attempt: u64) -> Answer {
    let Some(endpoint) = endpoint else {
        return if call.bare_path() == authorize::PATH { authorize::answer(world, call) } else { nowhere(call) };
    };
    if let Some(reply) = world.reply(call, endpoint, Stage::Edge)
        && let Some(answer) = refused(&reply, call)
    {
        tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
        return answer.with_headers(&reply.headers);
    }
    match endpoint {
        Endpoint::Completions => complete(world, call, attempt).await,
        _ if endpoint.is_oauth() => device::answer(world, call, endpoint).await,
        _ if endpoint.is_api() => portal::answer(world, call, endpoint, attempt).await,
        _ => answer(world, call, endpoint).await,
    }
}

fn refused(reply: &ScriptedReply, call: &Call) -> Option<Answer> {
    let failure = reply.fail.as_ref()?;
    Answer::failure(failure, &call.request_id, &call.path)
}

fn respond(
    call: &Call,
    answer: Answer,
    mut ticket: Ticket,
    fuse: &Arc<Fuse>,
    is_of_site: bool,
) -> Result<Response<ScriptedBody>, Torn> {
    let status = answer.status;
    let mut body = match answer.payload {
        Payload::Reset => {
            fuse.light();
            ticket.ended(EndedHow::Torn);
            return Err(Torn);
        }
        Payload::Whole(bytes) => {
            ticket.answered(status, answer.effective_status.unwrap_or(status));
            ScriptedBody::whole(bytes, ticket, Arc::clone(fuse))
        }
        Payload::Steps { steps, turn } => {
            let id = turn.as_ref().map(|turn| &turn.response_id).or(answer.stream_id.as_ref());
            if let Some(id) = id {
                ticket.streams(id);
            }
            ticket.answered(status, answer.effective_status.unwrap_or(status));
            ScriptedBody::stepwise(steps, turn.map(|turn| *turn), ticket, Arc::clone(fuse))
        }
    };
    if answer.scripted_headers.contains_key("content-length") {
        body.forget_length();
    }
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    for (name, value) in &answer.headers {
        append(headers, name, value);
    }
    if let Some(effective) = answer.effective_status {
        append(headers, "x-actual-status-code", &effective.to_string());
    }
    if is_of_site {
        sign_of_edge(call, headers);
    }
    for (name, value) in &answer.scripted_headers {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            headers.remove(&name);
        }
        append(headers, name, value);
    }
    Ok(response)
}

/// Adds the headers that the edge of the site puts on every answer.
fn sign_of_edge(call: &Call, headers: &mut HeaderMap) {
    append(headers, "ga-ap", REGION);
    let edge = acw_tc(call.account_name());
    if call.caller.acw_tc.as_deref() != Some(&*edge) {
        let cookie = format!("acw_tc={edge}; path=/; HttpOnly; Max-Age=1800");
        append(headers, "set-cookie", &cookie);
    }
    if !call.caller.has_region {
        let cookie = format!("x-ap={REGION}; path=/; Max-Age=86400");
        append(headers, "set-cookie", &cookie);
    }
}

fn append(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes());
    // Scripts may send what a careless server would: any bytes that HTTP can carry.
    let value = HeaderValue::from_bytes(value.as_bytes());
    if let (Ok(name), Ok(value)) = (name, value) {
        headers.append(name, value);
    }
}

fn recorded(call: &Call, endpoint: Option<Endpoint>) -> RecordedRequest {
    let headers = call.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    RecordedRequest {
        number: 0,
        host: call.host,
        endpoint,
        account: call.account_name().map(str::to_owned),
        method: call.method.to_string(),
        path: call.path.clone(),
        headers: headers.collect(),
        body: call.json().or_else(|| fields(call)),
        body_bytes: call.body.len(),
        received_at: Instant::now(),
        status: None,
        effective_status: None,
        response_id: None,
        packets_sent: 0,
        bytes_sent: 0,
        finish_sent: false,
        ended: None,
    }
}

/// A form as an object.
fn fields(call: &Call) -> Option<Value> {
    let content_type = call.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    if !content_type.starts_with("application/x-www-form-urlencoded") {
        return None;
    }
    let fields = url::form_urlencoded::parse(&call.body);
    Some(Value::Object(fields.map(|(name, value)| (name.into_owned(), Value::from(value))).collect()))
}

/// Counts a call; for a completion, which one it is.
fn count(world: &World, endpoint: Option<Endpoint>) -> u64 {
    let tallies = &world.journal.tallies;
    match endpoint {
        Some(Endpoint::Completions) => tallies.completions.fetch_add(1, Ordering::SeqCst) + 1,
        Some(Endpoint::Sts | Endpoint::StsV1) => tallies.grants.fetch_add(1, Ordering::SeqCst) + 1,
        Some(Endpoint::OssPut) => tallies.puts.fetch_add(1, Ordering::SeqCst) + 1,
        Some(Endpoint::DeviceCode) => tallies.device_logins.fetch_add(1, Ordering::SeqCst) + 1,
        Some(Endpoint::DeviceToken) => tallies.polls.fetch_add(1, Ordering::SeqCst) + 1,
        Some(Endpoint::RefreshToken) => tallies.oauth_refreshes.fetch_add(1, Ordering::SeqCst) + 1,
        Some(Endpoint::PortalChat | Endpoint::KeyChat) => tallies.api_chats.fetch_add(1, Ordering::SeqCst) + 1,
        Some(Endpoint::Refresh) => tallies.refreshes.fetch_add(1, Ordering::SeqCst) + 1,
        _ => 0,
    }
}

struct OpenConnection(Arc<World>);

impl OpenConnection {
    fn count(world: Arc<World>) -> Self {
        let open = &world.journal.tallies.open_connections;
        open.fetch_add(1, Ordering::SeqCst);
        world.journal.changed();
        Self(world)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let open = &self.0.journal.tallies.open_connections;
        open.fetch_sub(1, Ordering::SeqCst);
        self.0.journal.changed();
    }
}

/// A connection that can be made to end with RST.
struct Wire {
    stream: TcpStream,
    fuse: Arc<Fuse>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.fuse.is_lit() {
            // Without it the client sees a FIN, which a test would notice.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// More than any client should send; the risk engine refuses far less.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
