//! Our own accept loop: HTTP/1.1 with the limits that the ready-made one lacks.
//!
//! A connection is closed when no request head arrives in time (also before the first byte), when its peer does not
//! read what is ready for it, and when it has no request while its place is needed; otherwise one such peer would hold
//! an identity for ever, or idle connections would lock out all other callers.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request};
use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutWriter;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::base::live::Live;
use crate::http::serve::record::observers::{CountedConnection, Observers};
use crate::http::serve::socket::connections::{Busy, Connections, Limits, NoPlace, Place, Wish};
use crate::http::serve::socket::drain::Drain;
use crate::http::settings::HttpSettings;
use crate::shutdown::Supervisor;

/// Most headers of one request.
const HEADERS_MAX: usize = 64;
/// Bytes of a request's head, and of what waits to be written.
const BUFFER_BYTES_MAX: usize = 32 * 1024;
/// The pause after a connection could not be accepted, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Number of polls of a connection's task. A body may be polled more than once in one poll of its task; this tells
/// whether other tasks have run in between.
#[derive(Clone, Debug, Default)]
pub(crate) struct PollCount(Arc<AtomicU64>);

impl PollCount {
    /// Number of polls so far.
    #[must_use]
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Extension of a request that came when every place was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverCapacity;

/// Serves connections, as tasks of `supervisor`, until it stops; then closes idle ones and lets the others finish what
/// they do.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    settings: &Live<HttpSettings>,
    observers: &Arc<Observers>,
    supervisor: &Supervisor,
) {
    let stop = supervisor.stopping();
    let descriptors = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let places = Connections::new(Limits::new(descriptors, &settings.now().trusted_proxies));
    let mut refused = false;
    let was_told = Arc::new(AtomicBool::new(false));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return places.stop(),
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !std::mem::replace(&mut refused, true) {
                    warn!(%error, "connection not accepted, pausing");
                }
                places.close_idle();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        refused = false;
        let place = loop {
            match places.admit(peer.ip()) {
                // Some other connection ends or may be closed soon; those behind this one wait in the kernel.
                Err(NoPlace::Full) if !stop.is_cancelled() => {
                    // Of those that have just come, one may be closed after a while although nothing ends.
                    let _ = timeout(ACCEPT_PAUSE, places.changed()).await;
                }
                admitted => break admitted,
            }
        };
        let Ok(place) = place else {
            debug!(%peer, "connection closed, since its address has too many");
            continue;
        };
        let (router, was_told) = (router.clone(), Arc::clone(&was_told));
        let counted = CountedConnection::new(observers);
        let settings = settings.now();
        let (read_timeout, write_timeout) = (settings.read_timeout, settings.write_timeout);
        supervisor.spawn("connection", async move {
            let _counted = counted;
            let outcome = serve_connection(stream, peer, place, router, read_timeout, write_timeout).await;
            if let Err(error) = outcome {
                tell(&error, peer, &was_told);
            }
        });
    }
}

/// The body of an answer, whose connection is busy until it is dropped.
struct Held {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    router: Router,
    read_timeout: Duration,
    write_timeout: Duration,
) -> Result<(), hyper::Error> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "connection closed before it began");
        return Ok(());
    }
    let (place, is_reserve) = (&place, place.is_reserve);
    let drain = Drain::default();
    let left = drain.clone();
    let polls = PollCount::default();
    let counted = polls.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(drain.clone());
        request.extensions_mut().insert(counted.clone());
        if is_reserve {
            request.extensions_mut().insert(OverCapacity);
        }
        let (busy, answering) = (place.busy(), router.clone().oneshot(request));
        async move {
            let mut response = answering.await?;
            if is_reserve {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| Held { body, _busy: busy }))
        }
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
    let mut is_stopping = false;
    poll_fn(|cx| {
        polls.0.fetch_add(1, Ordering::Relaxed);
        match place.poll_wish(cx) {
            Wish::Close => {
                debug!(%peer, "idle connection closed, since its place is needed");
                return Poll::Ready(Ok(()));
            }
            // The rest of a first head may never come.
            Wish::Finish if !is_stopping && !place.had_request() => return Poll::Ready(Ok(())),
            Wish::Finish if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            Wish::Finish | Wish::GoOn => {}
        }
        let served = connection.as_mut().poll(cx);
        if served.is_pending() {
            left.poll(cx);
        }
        served
    })
    .await
}

/// Logs how a connection ended. One that does not speak HTTP is remarked upon once in the life of the server: it is
/// most often a client whose base URL has the wrong scheme, which itself only sees a failed handshake.
fn tell(error: &hyper::Error, peer: SocketAddr, was_told: &AtomicBool) {
    if error.is_parse() && !was_told.swap(true, Ordering::Relaxed) {
        warn!(
            peer.address = %peer.ip(),
            "a client sent something that is not HTTP: this port speaks plain HTTP, so a client's base URL has to begin \
             with http:// unless a proxy in front of it speaks TLS"
        );
    }
    debug!(%error, "connection ended");
}
