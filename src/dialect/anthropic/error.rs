//! A failure as Anthropic's error body: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

use serde::Serialize;

use crate::chat::failure::{Failure, FailureKind};

/// The field that asks the server to hold a conversation (the beta `message-threads-2026-08-12`).
pub(crate) const THREAD: &str = "thread";

/// The body of a failed request.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    /// Always `error`, by Anthropic's schema.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Class, message and details of the failure.
    pub error: ErrorDetail<'a>,
    /// The id of the request, as in the header `request-id`; null where it has none.
    pub request_id: Option<&'a str>,
}

/// Class, message and details of a failure.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorDetail<'a> {
    /// Anthropic's class, from [`error_type`], such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// For people; names the field at fault.
    pub message: &'a str,
    /// Details that SDKs act upon; absent for failures without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
}

/// Details that SDKs act upon.
#[derive(Debug, Serialize)]
pub(crate) struct Details {
    /// `thread_unsupported_request`: the SDK sends the whole conversation instead.
    pub error_code: &'static str,
}

/// Anthropic's class of a failure.
#[must_use]
pub(crate) fn error_type(kind: FailureKind) -> &'static str {
    use FailureKind as Kind;
    match kind {
        Kind::Unauthenticated => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::NotFound => "not_found_error",
        Kind::TooLarge => "request_too_large",
        Kind::Invalid
        | Kind::WrongMethod
        | Kind::BodyTimeout
        | Kind::Conflict
        | Kind::Gone
        | Kind::UnsupportedMedia
        | Kind::RangeNotSatisfiable => "invalid_request_error",
        Kind::RateLimited | Kind::QuotaExhausted => "rate_limit_error",
        Kind::Internal | Kind::NotImplemented | Kind::Upstream => "api_error",
        Kind::UpstreamTimeout => "timeout_error",
        Kind::Unavailable => "overloaded_error",
    }
}

/// The body of a failed request.
#[must_use]
pub(crate) fn error_body<'a>(failure: &'a Failure, request_id: Option<&'a str>) -> ErrorBody<'a> {
    let is_of_thread = failure.param.as_deref() == Some(THREAD);
    let details = is_of_thread.then_some(Details { error_code: "thread_unsupported_request" });
    let error = ErrorDetail { kind: error_type(failure.kind), message: &failure.message, details };
    ErrorBody { kind: "error", error, request_id }
}
