//! A failure as OpenAI's error body: `{"error": {"message", "type", "param", "code"}, "request_id"}`.

use crate::chat::failure::{Failure, FailureKind};
use crate::dialect::openai::wire::{ErrorBody, ErrorDetail};

/// OpenAI's class of a failure.
#[must_use]
pub(crate) fn error_type(kind: FailureKind) -> &'static str {
    use FailureKind as Kind;
    match kind {
        Kind::Unauthenticated => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::Invalid
        | Kind::NotFound
        | Kind::WrongMethod
        | Kind::BodyTimeout
        | Kind::Conflict
        | Kind::Gone
        | Kind::TooLarge
        | Kind::UnsupportedMedia
        | Kind::RangeNotSatisfiable => "invalid_request_error",
        Kind::RateLimited => "rate_limit_error",
        Kind::QuotaExhausted => "insufficient_quota",
        Kind::Internal | Kind::NotImplemented | Kind::Upstream | Kind::Unavailable | Kind::UpstreamTimeout => {
            "server_error"
        }
    }
}

/// The body of a failed request. `request_id` is `None` where the request has no id.
#[must_use]
pub(crate) fn error_body<'a>(failure: &'a Failure, request_id: Option<&'a str>) -> ErrorBody<'a> {
    ErrorBody {
        error: ErrorDetail {
            message: &failure.message,
            message_zh: failure.words.as_ref().map(|words| words.zh.as_str()),
            kind: failure.class.unwrap_or(error_type(failure.kind)),
            param: failure.param.as_deref(),
            code: Some(failure.code),
        },
        request_id,
    }
}
