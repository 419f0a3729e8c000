//! A picture or a video of the upstream's storage, streamed on to its reader: its link carries a key.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http::StatusCode;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;

use crate::chat::failure::Failure;
use crate::upstream::media::fetch::OpenResult;

/// The answer with an opened file, or the part of it that was asked for. A download that the end of the server
/// interrupts sees the connection close before the last byte.
pub(crate) fn send_on(opened: OpenResult, content_type: HeaderValue, ending: &CancellationToken) -> Response {
    let mut passed = opened.headers;
    if opened.status == StatusCode::RANGE_NOT_SATISFIABLE {
        let range = passed.remove(CONTENT_RANGE).map(|range| (CONTENT_RANGE, range));
        let mut refusal = Failure::range_not_satisfiable().into_response();
        refusal.headers_mut().extend(range);
        return refusal;
    }
    passed.insert(CONTENT_TYPE, content_type);
    let body = Body::from_stream(opened.body.into_data_stream().take_until(ending.clone().cancelled_owned()));
    (opened.status, passed, body).into_response()
}
