//! Reads unwanted request bodies for a while after the answer went out, and discards them.
//!
//! Closing a connection on a client that is still sending would make many of them miss the answer, since they
//! first send and then read. The answer itself must not wait for that: others send nothing more once they have it.
//! So a handler leaves the body here, and the connection's own task reads it beside the answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Buf as _;
use http::header::EXPECT;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::time::timeout;

/// Longest time for which an unwanted body is read.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Most bytes of a too large body that are read.
const LARGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes read of a body whose request was refused: a wrong key, path or method.
const REFUSED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The place for the bodies that the handlers of one connection leave; an extension of its requests. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Drain(Arc<Mutex<Option<Reading>>>);

/// Reads an unwanted body.
type Reading = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Drain {
    /// The drain of this request's connection.
    #[must_use]
    pub(crate) fn of(request: &Request) -> Option<Self> {
        request.extensions().get::<Self>().cloned()
    }

    /// Leaves the rest of a body that is too large.
    pub(crate) fn leave(&self, body: Body) {
        self.put(body, LARGE_BYTES_MAX);
    }

    /// Leaves the body of a request that is refused without a look at it.
    pub(crate) fn refuse(request: Request) {
        // A client that waits for `100 Continue` has not sent its body yet.
        if let Some(drain) = Self::of(&request).filter(|_| !request.headers().contains_key(EXPECT)) {
            drain.put(request.into_body(), REFUSED_BYTES_MAX);
        }
    }

    /// A connection has one request at a time, so there is room for its body.
    fn put(&self, body: Body, bytes_max: usize) {
        *self.0.lock() = Some(Box::pin(async move {
            // The rest is cut off with the connection.
            let _ = timeout(TIME_MAX, discard(body, bytes_max)).await;
        }));
    }

    /// Reads what was left here. Handlers run inside of their connection's poll, so that one call after each of those
    /// sees all bodies.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) {
        let Some(mut reading) = self.0.lock().take() else { return };
        if reading.as_mut().poll(cx).is_pending() {
            *self.0.lock() = Some(reading);
        }
    }
}

async fn discard(mut body: Body, bytes_max: usize) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await
        && bytes < bytes_max
    {
        bytes += frame.data_ref().map_or(0, |data| data.remaining());
    }
}
