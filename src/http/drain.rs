//! Bodies that nobody wants: read on for a while after the answer went out, and thrown away.
//!
//! Closing a connection on a client that is still sending would make many of them miss the answer, since they
//! first send and then read. The answer itself must not wait for that: others send nothing more once they have it.
//! So a handler leaves the body here, and the connection's own task reads it beside the answer.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Buf as _;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long an unwanted body is read, and how much of it.
const TIME_MAX: Duration = Duration::from_secs(10);
const BYTES_MAX: usize = 256 * 1024 * 1024;

/// Where the handlers of one connection leave a body; an extension of its requests.
#[derive(Clone, Debug)]
pub struct Drain(mpsc::Sender<Body>);

/// The connection's end of a [`Drain`].
#[derive(Debug)]
pub struct Unwanted(mpsc::Receiver<Body>);

impl Drain {
    /// A drain for one connection.
    #[must_use]
    pub fn new() -> (Self, Unwanted) {
        // A connection has one request at a time, so there is room for its body.
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), Unwanted(receiver))
    }

    /// The drain of this request's connection.
    #[must_use]
    pub fn of(request: &Request) -> Option<Self> {
        request.extensions().get::<Self>().cloned()
    }

    /// Leaves a body. If there is no room it is dropped, which closes the connection.
    pub fn leave(&self, body: Body) {
        let _ = self.0.try_send(body);
    }
}

impl Unwanted {
    /// Reads what is left here, for as long as it is polled.
    pub async fn run(mut self) -> Infallible {
        while let Some(body) = self.0.recv().await {
            // Whatever is left after that is cut off with the connection.
            let _ = timeout(TIME_MAX, discard(body)).await;
        }
        pending().await
    }
}

async fn discard(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await
        && bytes < BYTES_MAX
    {
        bytes += frame.data_ref().map_or(0, |data| data.remaining());
    }
}
