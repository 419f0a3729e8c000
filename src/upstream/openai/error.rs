//! Failures of upstreams of OpenAI's dialect: the portal for OAuth accounts and the endpoints for keys.
//!
//! Quota is looked for before everything else: it comes as 401, 403 or 429, and a new token does not bring it back.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::chat::reply::ReplyError;
use crate::upstream::classify::{PROXY_LOGIN, is_challenge, is_marked, speaks_of_model};
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::openai::decode::refusal;
use crate::upstream::way::WayFault;

/// The error for an answer other than a completion.
#[must_use]
pub(crate) fn classify_answer(doing: &'static str, status: u16, content_type: &str, body: &[u8]) -> UpstreamError {
    if status == PROXY_LOGIN {
        return UpstreamError::on_the_way(doing, WayFault::ProxyLogin);
    }
    let is_html = content_type.contains("html") || body.trim_ascii_start().starts_with(b"<");
    if is_html {
        // A page of a gateway or of another vendor is not a challenge; only the marks of the risk engine make it one.
        let kind = match status {
            _ if is_marked(body) => UpstreamErrorKind::Challenged,
            401 => UpstreamErrorKind::Unauthorized,
            403 | 404 | 429 | 500.. => by_status(status),
            _ => UpstreamErrorKind::Unavailable,
        };
        return UpstreamError::new(doing, kind);
    }
    // Some gateways in front answer in plain words, which tell the class and are not repeated.
    let plain = || String::from_utf8_lossy(body).chars().take(500).collect::<String>();
    let value = match serde_json::from_slice(body) {
        Ok(Value::String(_)) | Err(_) => return UpstreamError::new(doing, classify(status, "", "", &plain())),
        Ok(value) => value,
    };
    if is_challenge(&value) {
        return UpstreamError::new(doing, UpstreamErrorKind::Challenged);
    }
    let error: &Value = value.get("error").filter(|error| !error.is_null()).unwrap_or(&value);
    let text = |name: &str| match error.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let message = error.as_str().map_or_else(|| text("message"), str::to_owned);
    let kind = classify(status, &text("code"), &text("type"), &message);
    let code = if text("code").is_empty() { text("type") } else { text("code") };
    UpstreamError::told(doing, kind, &code, &message)
}

/// The error for an answer that cannot be read to its end, streamed or whole.
#[must_use]
pub(crate) fn of_reply(error: &ReplyError) -> UpstreamError {
    match error {
        ReplyError::Refused { code, details, .. } => {
            UpstreamError::told(READING, classify(200, code, "", details), code, details)
        }
        ReplyError::Json | ReplyError::Challenged | ReplyError::Truncated | ReplyError::Empty => {
            UpstreamError::in_stream(error)
        }
    }
}

/// The error for a body that came with status 200 in place of an answer; `None` for JSON that tells of no failure.
#[must_use]
pub(crate) fn of_body(body: &[u8]) -> Option<UpstreamError> {
    let is_page = body.trim_ascii_start().starts_with(b"<");
    let kind = match serde_json::from_slice(body) {
        Ok(value) if is_challenge(&value) => UpstreamErrorKind::Challenged,
        Ok(value) => return refusal(&value).map(|error| of_reply(&error)),
        Err(_) if is_marked(body) => UpstreamErrorKind::Challenged,
        Err(_) if is_page => UpstreamErrorKind::Unavailable,
        Err(_) => UpstreamErrorKind::Protocol,
    };
    Some(UpstreamError::new(READING, kind))
}

/// Checks that a body with status 200 is a list of results, such as vectors.
///
/// # Errors
/// [`UpstreamError`]: it tells of a failure, or is something else.
pub(crate) fn check_list(body: &[u8]) -> Result<(), UpstreamError> {
    #[derive(Deserialize)]
    struct List {
        #[expect(dead_code, reason = "its form is all that counts")]
        data: Vec<IgnoredAny>,
    }
    if serde_json::from_slice::<List>(body).is_ok() {
        return Ok(());
    }
    Err(of_body(body).unwrap_or_else(|| UpstreamError::new(READING, UpstreamErrorKind::Protocol)))
}

const READING: &str = "reading an answer";

/// The table: status, code, type and text into a kind. Numbers inside a text mean nothing.
#[must_use]
pub(crate) fn classify(status: u16, code: &str, kind: &str, message: &str) -> UpstreamErrorKind {
    use UpstreamErrorKind as Kind;
    let (code, kind, message) = (code.to_ascii_lowercase(), kind.to_ascii_lowercase(), message.to_lowercase());
    let is = |word: &str| code == word || kind == word;
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let is_throttled = code.starts_with("throttling")
        || is("rate_limit_exceeded")
        || is("rate_limit_error")
        || says(&["too many requests", "throttling triggered", "rate limit"]);
    let is_quota = is("insufficient_quota") || is("quota_exceeded") || says(&QUOTA_TEXTS);
    let is_length = is("context_length_exceeded")
        || says(&["range of input length", "maximum context length", "context length exceeded"]);
    let is_content = is("data_inspection_failed") || is("datainspectionfailed") || is("content_filter");
    match status {
        // A model's free quota, which each model has for itself.
        _ if is("allocationquota.freetieronly") || is_quota && says(&["of the model", "for this model", "模型"]) => {
            Kind::ModelQuotaExhausted
        }
        _ if is_quota => Kind::QuotaExhausted { hours: None },
        _ if is_throttled => Kind::RateLimited,
        _ if is_content => Kind::ContentPolicy,
        // Gateways with keys of their own refuse a model with 401.
        _ if DENIED_CODES.iter().any(|denied| is(denied)) || says(&["not allowed to access model"]) => {
            Kind::ModelDenied
        }
        _ if is("invalid_api_key") || is("invalid_token") || says(&["invalid access token", "token expired"]) => {
            Kind::Unauthorized
        }
        _ if is_length => Kind::TooLong,
        _ if is("model_not_found") || says(&LACKING_TEXTS) => Kind::ModelNotFound,
        // DashScope's code for an unpaid bill, with status 400: it concerns the account, not the request.
        _ if is("arrearage") => Kind::Forbidden,
        // The same of other vendors.
        402 => Kind::Forbidden,
        403 if speaks_of_model(&code, &message) || speaks_of_model(&kind, "") => Kind::ModelDenied,
        504 => Kind::Timeout,
        _ if says(&["stream timeout"]) => Kind::Timeout,
        400 | 409 | 413 | 422 => Kind::InvalidRequest,
        200..400 if is("invalid_parameter_error") || is("invalidparameter") || is("invalid_request_error") => {
            Kind::InvalidRequest
        }
        _ => by_status(status),
    }
}

/// Codes of an account that may not use the model that was asked for, in lower case.
const DENIED_CODES: [&str; 7] = [
    "model.accessdenied",
    "model_access_denied",
    "accessdenied.unpurchased",
    "model_not_allowed",
    // LiteLLM.
    "key_model_access_denied",
    "team_model_access_denied",
    "user_model_access_denied",
];

/// Words of a quota that is used up, in lower case.
const QUOTA_TEXTS: [&str; 6] = [
    "free allocated quota exceeded",
    "allocated quota exceeded",
    "exceeded your current quota",
    "free tier of the model has been exhausted",
    "免费额度",
    "额度已用",
];

/// Words of an endpoint that does not have the model, in lower case. The last two are of gateways, with status 503.
const LACKING_TEXTS: [&str; 7] = [
    "model not supported",
    "model does not exist",
    "model not exist",
    "模型不存在",
    "not a valid model",
    "无可用渠道",
    "no available channel for model",
];

fn by_status(status: u16) -> UpstreamErrorKind {
    match status {
        401 => UpstreamErrorKind::Unauthorized,
        403 => UpstreamErrorKind::Forbidden,
        404 => UpstreamErrorKind::ModelNotFound,
        408 | 504 => UpstreamErrorKind::Timeout,
        429 => UpstreamErrorKind::RateLimited,
        _ => UpstreamErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::UpstreamErrorKind as Kind;
    use super::*;
    use crate::upstream::openai::decode::ChatDecoder;

    #[test]
    fn the_table() {
        let quota = Kind::QuotaExhausted { hours: None };
        for (status, code, kind, message, expected) in [
            (
                401,
                "invalid_api_key",
                "invalid_request_error",
                "invalid access token or token expired",
                Kind::Unauthorized,
            ),
            (401, "", "", "Incorrect API key provided.", Kind::Unauthorized),
            (401, "insufficient_quota", "", "", quota),
            (403, "insufficient_quota", "", "", quota),
            (403, "AllocationQuota.FreeTierOnly", "", "", Kind::ModelQuotaExhausted),
            (429, "insufficient_quota", "", "The free quota of the model is used up.", Kind::ModelQuotaExhausted),
            (403, "", "", "The free tier of the model has been exhausted.", Kind::ModelQuotaExhausted),
            (403, "", "", "该模型的免费额度已用尽", Kind::ModelQuotaExhausted),
            (429, "", "", "您的免费额度已用完", quota),
            (401, "401", "team_model_access_denied", "no", Kind::ModelDenied),
            (401, "401", "key_model_access_denied", "key not allowed to access model", Kind::ModelDenied),
            (401, "401", "auth_error", "team not allowed to access model. Tried to access x", Kind::ModelDenied),
            (403, "", "", "无权访问该模型", Kind::ModelDenied),
            (403, "", "", "Please activate Model Studio first.", Kind::Forbidden),
            (400, "1211", "", "模型不存在，请检查模型代码", Kind::ModelNotFound),
            (400, "400", "", "x/y is not a valid model ID", Kind::ModelNotFound),
            (503, "", "one_api_error", "当前分组 default 下对于模型 x 无可用渠道", Kind::ModelNotFound),
            (402, "", "", "Insufficient Balance", Kind::Forbidden),
            (403, "", "", "invalid api-key", Kind::Forbidden),
            (403, "", "", "access to model denied", Kind::ModelDenied),
            (403, "AccessDenied.Unpurchased", "", "Access denied.", Kind::ModelDenied),
            (403, "Model.AccessDenied", "", "", Kind::ModelDenied),
            (403, "", "model_error", "no", Kind::ModelDenied),
            (403, "AccessDenied", "", "Access denied.", Kind::Forbidden),
            (403, "model_not_found", "", "Project has no access to model x", Kind::ModelNotFound),
            (200, "Model.AccessDenied", "", "", Kind::ModelDenied),
            (400, "Arrearage", "", "Access denied, make sure your account is in good standing.", Kind::Forbidden),
            (429, "insufficient_quota", "insufficient_quota", "Free allocated quota exceeded.", quota),
            (429, "", "", "hour allocated quota exceeded", quota),
            (429, "rate_limit_exceeded", "", "", Kind::RateLimited),
            (429, "Throttling.RateQuota", "", "", Kind::RateLimited),
            (429, "", "", "Too many requests", Kind::RateLimited),
            (400, "invalid_parameter_error", "invalid_request_error", "bad request", Kind::InvalidRequest),
            (400, "InvalidParameter", "", "Range of input length should be [1, 129024]", Kind::TooLong),
            (400, "", "", "model not supported", Kind::ModelNotFound),
            (404, "model_not_found", "", "", Kind::ModelNotFound),
            (400, "data_inspection_failed", "", "", Kind::ContentPolicy),
            (422, "", "", "", Kind::InvalidRequest),
            (504, "", "", "stream timeout", Kind::Timeout),
            (200, "", "", "stream timeout", Kind::Timeout),
            (200, "internal_error", "", "request 401 of 429", Kind::Unavailable),
            (500, "", "", "", Kind::Unavailable),
            (502, "", "", "", Kind::Unavailable),
            (503, "", "", "", Kind::Unavailable),
        ] {
            assert_eq!(classify(status, code, kind, message), expected, "{status} {code} {kind} {message}");
        }
    }

    #[test]
    fn bodies_with_status_200() {
        let check = |body: &str, expected: Option<Kind>| {
            assert_eq!(of_body(body.as_bytes()).map(|error| error.kind), expected, "{body}");
        };
        check(r#"{"choices": []}"#, None);
        check(r#"{"error": null, "code": "", "choices": [{}]}"#, None);
        check(r#"{"error": {"code": "context_length_exceeded"}}"#, Some(Kind::TooLong));
        check(r#"{"error": {"type": "insufficient_quota"}}"#, Some(Kind::QuotaExhausted { hours: None }));
        check(r#"{"code": "Throttling.RateQuota", "message": "slow"}"#, Some(Kind::RateLimited));
        check(r#"{"error": "stream timeout"}"#, Some(Kind::Timeout));
        check(r#"{"ret": ["FAIL_SYS_USER_VALIDATE"]}"#, Some(Kind::Challenged));
        check("<html>punish</html>", Some(Kind::Challenged));
        check("<html>502</html>", Some(Kind::Unavailable));
        check("{\"choices\":", Some(Kind::Protocol));
        let challenged = ChatDecoder::default().whole(br#"{"ret": ["FAIL_SYS_USER_VALIDATE"]}"#, &mut |_| {});
        assert_eq!(of_reply(&challenged.unwrap_err()).kind, Kind::Challenged);
        let list = |body: &str| check_list(body.as_bytes()).err().map(|error| error.kind);
        assert_eq!(list(r#"{"data": [{"embedding": [1]}]}"#), None);
        assert_eq!(list(r#"{"object": "list"}"#), Some(Kind::Protocol));
        assert_eq!(list(r#"{"error": {"code": "invalid_api_key"}}"#), Some(Kind::Unauthorized));
    }

    #[test]
    fn answers_in_every_form() {
        let check = |status: u16, content_type: &str, body: &str, expected: Kind, told: &str| {
            let error = classify_answer("asking", status, content_type, body.as_bytes());
            let found = format!("{}: {}", error.code.unwrap_or("-"), error.quote.raw());
            assert_eq!((error.kind, found.as_str()), (expected, told), "{status} {body}");
        };
        let json = "application/json";
        check(
            401,
            json,
            r#"{"error":{"code":"invalid_api_key","message":"no"}}"#,
            Kind::Unauthorized,
            "invalid_api_key: no",
        );
        check(504, "text/plain", "stream timeout", Kind::Timeout, "-: ");
        check(504, json, "\"stream timeout\"", Kind::Timeout, "-: ");
        check(500, json, r#"{"code":"Throttling","message":"slow"}"#, Kind::RateLimited, "Throttling: slow");
        check(502, "text/html", "<html>502 Bad Gateway</html>", Kind::Unavailable, "-: ");
        check(200, "text/html", "<html>punish</html>", Kind::Challenged, "-: ");
        check(502, "text/html", "<meta name=\"aliyun_waf_aa\">", Kind::Challenged, "-: ");
        check(200, "text/html", "<html>Sign in to the proxy</html>", Kind::Unavailable, "-: ");
        check(302, "text/plain", "<!doctype html>Moved", Kind::Unavailable, "-: ");
        check(403, "text/html", "<html>403 Forbidden</html>", Kind::Forbidden, "-: ");
        check(403, json, r#"{"ret":["FAIL_SYS_USER_VALIDATE"]}"#, Kind::Challenged, "-: ");
        check(400, json, "", Kind::InvalidRequest, "-: ");
    }
}
