//! The one place that gives a failure its status and headers: `Retry-After`, `x-should-retry`, `WWW-Authenticate`.
//!
//! The words of this server's own refusals are in `refusals`, those of what the gateway reports in `outcomes`. A
//! handler answers with the [`Failure`]; `write_body` has the dialect of the path write the body on the way out.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};

use crate::chat::failure::{Failure, FailureKind};
use crate::dialect::Dialect;

/// The status of a failed request. In a stream that has begun, the same failure travels without it.
#[must_use]
pub(crate) fn status(kind: FailureKind) -> StatusCode {
    use FailureKind as Kind;
    match kind {
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
        Kind::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Gone => StatusCode::GONE,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        Kind::RateLimited | Kind::QuotaExhausted => StatusCode::TOO_MANY_REQUESTS,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::Upstream => StatusCode::BAD_GATEWAY,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

impl IntoResponse for Failure {
    /// Status and headers, with the failure as an extension of the answer. The body is empty until `write_body`.
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.is_final {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        } else if self.retry_after.is_some() {
            headers.insert("x-should-retry", HeaderValue::from_static("true"));
        }
        if self.kind == FailureKind::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let mut response = (status(self.kind), headers).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the body of a failed request in the dialect of its path. Gives the code of the failure; `None` for an
/// answer that is none, or that has a body of its own.
pub(crate) fn write_body(response: &mut Response, dialect: Dialect, request_id: &str) -> Option<&'static str> {
    let Some(failure) = response.extensions_mut().remove::<Failure>() else {
        return response.extensions().get::<ErrorCode>().map(|code| code.0);
    };
    *response.body_mut() = Body::from(dialect.error_body(&failure, request_id));
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(failure.code)
}

/// The code of a failure that wrote its body itself, for the request's log line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorCode(pub &'static str);

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::dialect::{anthropic, openai};

    #[test]
    fn every_kind_has_a_status_and_a_class_in_each_dialect() {
        let mut table = String::new();
        for kind in FailureKind::ALL {
            let (openai, anthropic) = (openai::error::error_type(kind), anthropic::error::error_type(kind));
            writeln!(table, "{} {kind:?} {openai} {anthropic}", status(kind).as_u16()).unwrap();
        }
        insta::assert_snapshot!(table, @r"
        401 Unauthenticated authentication_error authentication_error
        403 Forbidden permission_error permission_error
        400 Invalid invalid_request_error invalid_request_error
        404 NotFound invalid_request_error not_found_error
        405 WrongMethod invalid_request_error invalid_request_error
        408 BodyTimeout invalid_request_error invalid_request_error
        409 Conflict invalid_request_error invalid_request_error
        410 Gone invalid_request_error invalid_request_error
        413 TooLarge invalid_request_error request_too_large
        415 UnsupportedMedia invalid_request_error invalid_request_error
        416 RangeNotSatisfiable invalid_request_error invalid_request_error
        429 RateLimited rate_limit_error rate_limit_error
        429 QuotaExhausted insufficient_quota rate_limit_error
        500 Internal server_error api_error
        501 NotImplemented server_error api_error
        502 Upstream server_error api_error
        503 Unavailable server_error overloaded_error
        504 UpstreamTimeout server_error timeout_error
        ");
    }

    #[test]
    fn when_to_try_again() {
        use std::time::Duration;
        let check = |failure: Failure, retry_after: Option<&str>, should_retry: Option<&str>| {
            let response = failure.clone().into_response();
            let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!((header("retry-after"), header("x-should-retry")), (retry_after, should_retry), "{failure:?}");
        };
        let failure = || Failure::new(FailureKind::Unavailable, "no_available_account", "None.");
        let after = |millis| failure().after(Some(Duration::from_millis(millis)));
        check(failure(), None, None);
        check(failure().finally(), None, Some("false"));
        check(failure().after(None), None, Some("false"));
        check(after(0), Some("1"), Some("true"));
        check(after(1_001), Some("2"), Some("true"));
        check(after(60_000), Some("60"), Some("true"));
        check(after(60_001), Some("61"), Some("false"));
        check(after(5_000).finally(), Some("5"), Some("false"));
    }
}
