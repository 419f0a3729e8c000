//! The bytes of a request's body, within limits of size and time.

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};

use crate::http::drain::Drain;
use crate::http::error::ApiError;
use crate::http::settings::HttpSettings;

/// A whole body may take this many times the pause that one piece of it may take.
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
    /// A reader of this request's body, which is refused at once when it says of itself that it is too large.
    ///
    /// # Errors
    /// The ready answer: 413.
    pub(crate) fn new(request: Request, settings: &HttpSettings) -> Result<Self, Response> {
        let length = request.headers().get(CONTENT_LENGTH);
        let declared = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let reader = Self {
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
    /// The ready answer: 400, 408 or 413.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Response> {
        loop {
            let wait = self.pause.min(self.deadline.saturating_duration_since(Instant::now()));
            let frame = match timeout(wait, self.body.frame()).await {
                Err(_) => return Err(ApiError::body_timeout().into_response()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(ApiError::broken_body().into_response()),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.read = self.read.saturating_add(data.len());
            if self.read > self.limit {
                let rest = Self { body: std::mem::take(&mut self.body), drain: self.drain.take(), ..*self };
                return Err(rest.too_large());
            }
            return Ok(Some(data));
        }
    }

    fn too_large(self) -> Response {
        if let Some(drain) = &self.drain {
            drain.leave(self.body);
        }
        ([(CONNECTION, "close")], ApiError::body_too_large(self.limit)).into_response()
    }
}
