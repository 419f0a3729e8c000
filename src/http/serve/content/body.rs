//! The bytes of a request's body, within limits of size and time.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http_body_util::BodyExt as _;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout};

use crate::chat::failure::Failure;
use crate::http::serve::socket::drain::Drain;
use crate::http::settings::HttpSettings;

/// Factor of `READ_TIMEOUT` for a whole body.
const WHOLE_BODY_FACTOR: u32 = 4;

/// Reads a body piece by piece.
pub(crate) struct BodyReader {
    body: axum::body::Body,
    drain: Option<Drain>,
    read: usize,
    limit: usize,
    pause: std::time::Duration,
    deadline: Instant,
}

impl BodyReader {
    /// A reader of this request's body. A body whose declared length is too large is refused unread.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`].
    pub(crate) fn new(request: Request, settings: &HttpSettings) -> Result<Self, BodyError> {
        let length = request.headers().get(CONTENT_LENGTH);
        let declared = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let mut reader = Self {
            drain: Drain::of(&request),
            body: request.into_body(),
            read: 0,
            limit: settings.body_bytes_max,
            pause: settings.read_timeout,
            deadline: Instant::now() + settings.read_timeout * WHOLE_BODY_FACTOR,
        };
        if declared.is_some_and(|bytes| bytes > reader.limit as u64) { Err(reader.too_large()) } else { Ok(reader) }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`BodyError`].
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            // A body that is decoded here may have much to give at once.
            consume_budget().await;
            let wait = self.pause.min(self.deadline.saturating_duration_since(Instant::now()));
            let frame = match timeout(wait, self.body.frame()).await {
                Err(_) => return Err(BodyError::Timeout),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(BodyError::Broken),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.read = self.read.saturating_add(data.len());
            if self.read > self.limit {
                return Err(self.too_large());
            }
            return Ok(Some(data));
        }
    }

    /// Refuses the body for this reason. The rest of it is left to the connection, which ends with the answer.
    pub(crate) fn abandon(mut self, failure: Failure) -> Response {
        self.leave();
        ([(CONNECTION, "close")], failure).into_response()
    }

    fn too_large(&mut self) -> BodyError {
        self.leave();
        BodyError::TooLarge(self.limit)
    }

    fn leave(&mut self) {
        if let Some(drain) = &self.drain {
            drain.leave(std::mem::take(&mut self.body));
        }
    }
}

/// Reasons why a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It has more bytes than this.
    TooLarge(usize),
    /// It stalls, or takes too long as a whole.
    Timeout,
    /// The connection broke, or its framing is wrong.
    Broken,
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        match self {
            Self::TooLarge(limit) => ([(CONNECTION, "close")], Failure::body_too_large(limit)).into_response(),
            Self::Timeout => Failure::body_timeout().into_response(),
            Self::Broken => Failure::broken_body().into_response(),
        }
    }
}
