//! The common part of the owner's answers: the program's name, moments, and the requested form.

use axum::response::Response;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderMap, HeaderValue};

use crate::base::ids::UnixSeconds;

/// The name of the program.
pub(crate) const SERVICE: &str = "qwen-bridge";
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A moment as RFC 3339 in UTC.
pub(crate) fn moment(at: UnixSeconds) -> String {
    jiff::Timestamp::from_second(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// The answer with `Cache-Control: no-store`.
pub(crate) fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether `Accept` names this media type, and before JSON.
pub(crate) fn prefers(headers: &HeaderMap, media_type: &str) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    match (accept.find(media_type), accept.find("application/json")) {
        (Some(named), Some(json)) => named < json,
        (named, _) => named.is_some(),
    }
}
