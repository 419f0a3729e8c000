//! Request bodies: read within limits of size and time, then parsed, with errors in the callers' dialect.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::http::HttpSettings;
use crate::http::error::ApiError;

/// A whole body may take this many times the pause that one piece of it may take.
const WHOLE_BODY_FACTOR: u32 = 4;
/// How long, and how much, an unwanted body is still read, so that a client which first sends and then reads gets
/// to see the answer.
const DRAIN_TIME: Duration = Duration::from_secs(10);
const DRAIN_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Reads a JSON body.
///
/// # Errors
/// The ready answer: 400, 408, 413 or 415 in OpenAI's shape.
pub async fn read_json(request: Request, settings: &HttpSettings) -> Result<Value, Response> {
    let limit = settings.body_bytes_max;
    let content_type = request.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?").to_owned());
    if let Some(content_type) = content_type.filter(|content_type| !is_json(content_type)) {
        return Err(ApiError::wrong_content_type(&content_type).into_response());
    }
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let mut body = request.into_body();
    if declared.is_some_and(|bytes| bytes > limit as u64) {
        return Err(while_draining(ApiError::body_too_large(limit), body));
    }
    let deadline = Instant::now() + settings.read_timeout * WHOLE_BODY_FACTOR;
    let mut bytes = BytesMut::new();
    loop {
        let wait = settings.read_timeout.min(deadline.saturating_duration_since(Instant::now()));
        let frame = match timeout(wait, body.frame()).await {
            Err(_) => return Err(ApiError::body_timeout().into_response()),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(ApiError::broken_body().into_response()),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(while_draining(ApiError::body_too_large(limit), body));
            }
            bytes.extend_from_slice(&data);
        }
    }
    parse(&bytes).map_err(|error| error.into_response())
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| ApiError::invalid_json(error.line(), error.column()))
}

/// `application/json` and its kin, parameters and case aside. No content type at all passes too.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.is_empty() || essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

/// Answers at once and goes on reading the body for a while, throwing it away. Closing a connection on a client
/// that is still sending would make many of them miss the answer.
fn while_draining(error: ApiError, body: Body) -> Response {
    let response = error.into_response();
    let (mut parts, answer) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert("connection", http::HeaderValue::from_static("close"));
    let timer = Box::pin(tokio::time::sleep(DRAIN_TIME));
    Response::from_parts(parts, Body::new(DrainingBody { answer, said: false, unwanted: body, drained: 0, timer }))
}

struct DrainingBody {
    answer: Body,
    said: bool,
    unwanted: Body,
    drained: usize,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl HttpBody for DrainingBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if !this.said {
            match Pin::new(&mut this.answer).poll_frame(cx) {
                Poll::Ready(None) => this.said = true,
                other => return other,
            }
        }
        loop {
            match Pin::new(&mut this.unwanted).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if this.drained < DRAIN_BYTES_MAX => {
                    this.drained += frame.data_ref().map_or(0, Bytes::len);
                }
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => return this.timer.as_mut().poll(cx).map(|()| None),
            }
        }
    }
}
