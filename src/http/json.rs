//! Request bodies: read within limits of size and time, then parsed, with errors in the callers' dialect.

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::http::drain::Drain;
use crate::http::error::ApiError;
use crate::http::settings::HttpSettings;

/// A whole body may take this many times the pause that one piece of it may take.
const WHOLE_BODY_FACTOR: u32 = 4;

/// Reads a JSON body.
///
/// # Errors
/// The ready answer: 400, 408, 413 or 415 in OpenAI's shape.
pub async fn read_json(request: Request, settings: &HttpSettings) -> Result<Value, Response> {
    let limit = settings.body_bytes_max;
    let content_type = request.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?").to_owned());
    if let Some(content_type) = content_type.filter(|content_type| !is_json(content_type)) {
        Drain::refuse(request);
        return Err(ApiError::wrong_content_type(&content_type).into_response());
    }
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let drain = Drain::of(&request);
    let mut body = request.into_body();
    let too_large = |body| {
        if let Some(drain) = &drain {
            drain.leave(body);
        }
        ([(CONNECTION, "close")], ApiError::body_too_large(limit)).into_response()
    };
    if declared.is_some_and(|bytes| bytes > limit as u64) {
        return Err(too_large(body));
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
                return Err(too_large(body));
            }
            bytes.extend_from_slice(&data);
        }
    }
    parse(&bytes).map_err(|error| error.into_response())
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    if bytes.trim_ascii().is_empty() {
        return Err(ApiError::empty_body());
    }
    serde_json::from_slice(bytes).map_err(|error| ApiError::invalid_json(error.line(), error.column()))
}

/// `application/json` and its kin, parameters and case aside. No content type at all passes too.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.is_empty() || essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}
