//! Answers of chat.qwen.ai other than streams: read whole, with a bound, and distinguished from failures.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use crate::base::ids::UnixSeconds;
use crate::upstream::classify::classify_body;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};

/// Most decoded bytes that are read of an answer other than a stream.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest `Retry-After` that is accepted.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(25 * 3600);

/// An answer read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) retry_after: Option<Duration>,
    /// Time of the answer by the upstream's clock, from `Date`.
    pub(crate) date: Option<UnixSeconds>,
    pub(crate) body: Vec<u8>,
}

/// The logical status: HTTP is 200 for most errors, and a header tells the truth.
pub(crate) fn effective_status(response: &reqwest::Response) -> u16 {
    let told =
        response.headers().get("x-actual-status-code").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    told.unwrap_or_else(|| response.status().as_u16())
}

/// Whether an answer may be an event stream by its own word, or says nothing of use; then its first bytes decide.
pub(crate) fn may_be_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(essence.as_str(), "text/event-stream" | "" | "application/octet-stream" | "text/plain")
}

/// Reads an answer to its end.
///
/// # Errors
/// `Protocol` when it is longer than [`BODY_BYTES_MAX`], else a failure of the transport.
pub(crate) async fn read(doing: &'static str, response: reqwest::Response) -> Result<Answer, UpstreamError> {
    let status = effective_status(&response);
    let headers = response.headers();
    let content_type =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let date = date_of(headers);
    // A date in `Retry-After` is one of the upstream's clock.
    let its_now = date
        .and_then(|date| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(date.0).unwrap_or(0))));
    let its_now = its_now.unwrap_or_else(SystemTime::now);
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, its_now));
    let is_redirect = response.status().is_redirection();
    let response: http::Response<reqwest::Body> = response.into();
    let collected = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = match collected {
        Ok(collected) => collected.to_bytes().to_vec(),
        Err(error) => {
            return Err(match error.downcast::<reqwest::Error>() {
                Ok(error) => UpstreamError::transport(doing, *error),
                Err(_) => UpstreamError::new(doing, UpstreamErrorKind::Protocol),
            });
        }
    };
    // This API does not redirect, so a redirect comes from something else and is not followed.
    let status = if is_redirect { StatusCode::BAD_GATEWAY.as_u16() } else { status };
    Ok(Answer { status, content_type, retry_after, date, body })
}

/// Time of an answer by the upstream's clock, from `Date`.
pub(crate) fn date_of(headers: &HeaderMap) -> Option<UnixSeconds> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let since = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(UnixSeconds(i64::try_from(since.as_secs()).ok()?))
}

/// The failure that an answer tells of, with its `Retry-After`; `None` for a successful one.
pub(crate) fn failure(doing: &'static str, answer: &Answer) -> Option<UpstreamError> {
    let mut error = classify_body(doing, answer.status, &answer.content_type, &answer.body)?;
    error.retry_after = answer.retry_after;
    Some(error)
}

/// Whether the route, or what it was asked for, is not there.
pub(crate) fn is_missing(doing: &'static str, answer: &Answer) -> bool {
    let error = failure(doing, answer);
    // A page of the risk engine or a refused token may come with any status.
    let by_status = |kind| answer.status == 404 && kind == UpstreamErrorKind::Unavailable;
    error.is_some_and(|error| error.kind == UpstreamErrorKind::LostChat || by_status(error.kind))
}

/// The JSON of a successful answer.
///
/// # Errors
/// The failure that it tells of; `Protocol` when it is not JSON.
pub(crate) fn envelope(doing: &'static str, answer: &Answer) -> Result<Value, UpstreamError> {
    if let Some(error) = failure(doing, answer) {
        return Err(error);
    }
    serde_json::from_slice(&answer.body).map_err(|_| UpstreamError::new(doing, UpstreamErrorKind::Protocol))
}

/// `Retry-After` in seconds or as a date, at most [`RETRY_AFTER_MAX`]; `None` for anything that is neither.
pub(crate) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_values() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        let seconds = Duration::from_secs;
        for (text, expected) in [
            ("120", Some(seconds(120))),
            (" 0 ", Some(seconds(0))),
            ("-5", None),
            ("1e9", None),
            ("1.5", None),
            ("99999999999", Some(RETRY_AFTER_MAX)),
            ("Wed, 21 Oct 2026 07:29:00 GMT", Some(seconds(60))),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(seconds(0))),
            ("Tue, 21 Oct 2036 07:28:00 GMT", Some(RETRY_AFTER_MAX)),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), expected, "{text:?}");
        }
    }
}
