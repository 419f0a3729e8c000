//! Our own accept loop: HTTP/1.1 with the limits that the ready-made one lacks.
//!
//! A connection is closed when no request head arrives in time (also before the first byte), and when its peer
//! does not read what is ready for it; otherwise one such peer would hold an identity for ever.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::http::serve::drain::Drain;
use crate::http::settings::HttpSettings;
use crate::shutdown::Supervisor;

/// Open connections at once; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 20_000;
/// Headers of one request.
const HEADERS_MAX: usize = 64;
/// Bytes of a request's head, and of what waits to be written.
const BUFFER_BYTES_MAX: usize = 32 * 1024;
/// The pause after the system refused a connection, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a connection's task has been polled. A body may be polled more than once in one poll of its task; this
/// tells it whether others have run in between.
#[derive(Clone, Debug, Default)]
pub struct PollCount(Arc<AtomicU64>);

impl PollCount {
    /// The count so far.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves connections until `stop`, then closes idle ones and lets the others finish what they do. The
/// connections are tasks of `supervisor`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: &HttpSettings,
    supervisor: &Supervisor,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (read_timeout, write_timeout) = (settings.read_timeout, settings.write_timeout);
    let mut refused = false;
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !std::mem::replace(&mut refused, true) {
                    warn!(%error, "connection not accepted, pausing");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        refused = false;
        let (router, stop) = (router.clone(), stop.clone());
        supervisor.spawn("connection", async move {
            serve_connection(stream, peer, router, read_timeout, write_timeout, stop).await;
            drop(place);
        });
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    read_timeout: Duration,
    write_timeout: Duration,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "connection closed before it began");
        return;
    }
    let (drain, unwanted) = Drain::new();
    let polls = PollCount::default();
    let counted = polls.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(drain.clone());
        request.extensions_mut().insert(counted.clone());
        router.clone().oneshot(request)
    });
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(write_timeout));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(read_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
    );
    let mut stopped = pin!(stop.cancelled());
    let mut is_stopping = false;
    let serving = poll_fn(|cx| {
        polls.0.fetch_add(1, Ordering::Relaxed);
        if !is_stopping && stopped.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    let outcome = tokio::select! {
        outcome = serving => outcome,
        never = unwanted.run() => match never {},
    };
    if let Err(error) = outcome {
        debug!(%error, "connection ended");
    }
}
