//! Classification of the upstream's errors: one table.
//!
//! The upstream says most of its errors with HTTP 200, in five different forms; [`classify`] brings them all to
//! one [`UpstreamError`]. Only the fields made for it (`code`, `details`, `message`, `ret`) are matched, never a
//! whole body.

use serde_json::Value;

use crate::chat::reply::ReplyError;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::way::WayFault;
use crate::upstream::words::known_code;

/// The fields in which an answer reports an error.
#[derive(Debug)]
pub(crate) struct Said<'a> {
    /// `code` of the answer, empty without one.
    pub code: &'a str,
    /// Text of the answer, in `details` or `message`; empty without one.
    pub details: &'a str,
    /// `num` of the answer: hours until the quota returns.
    pub hours: Option<u64>,
}

/// The table: from effective status, code and text to a kind.
#[must_use]
pub(crate) fn classify(status: u16, said: &Said<'_>) -> UpstreamErrorKind {
    use UpstreamErrorKind as Kind;
    let code = said.code.to_ascii_lowercase().replace([' ', '-'], "_");
    let details = said.details.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| details.contains(word));
    let quota = Kind::QuotaExhausted { hours: said.hours };
    let by_status = match status {
        401 => Kind::Unauthorized,
        403 if speaks_of_model(said.code, said.details) => Kind::ModelDenied,
        403 => Kind::Forbidden,
        404 if speaks_of_model(said.code, said.details) => Kind::ModelNotFound,
        413 => Kind::TooLarge,
        429 => Kind::RateLimited,
        _ => Kind::Unavailable,
    };
    // A stream may carry code and text as one: "RateLimited: …".
    if matches!(code.as_str(), "" | "error")
        && let Some((code, details)) = said.details.split_once(':')
        && let Some(code) = known_code(code)
    {
        return classify(status, &Said { code, details, hours: said.hours });
    }
    match code.as_str() {
        "fail_sys_user_validate" => Kind::Challenged,
        "unauthorized" | "401" | "invalid_token" | "token_expired" => Kind::Unauthorized,
        "forbidden" | "403" if speaks_of_model("", said.details) => Kind::ModelDenied,
        "forbidden" | "403" => Kind::Forbidden,
        "ratelimited" if says(&["401", "unauthorized"]) => Kind::Unauthorized,
        "ratelimited" if said.hours.is_some() || says(&["upper limit", "usage", "quota", "额度"]) => quota,
        "ratelimited" | "rate_limited" | "parallellimited" | "too_many_requests" | "429" => Kind::RateLimited,
        "quotalimited" | "quota_limit" | "exceedlimit" | "quota_exhausted" | "insufficient_quota" => quota,
        "chat_not_found" | "parent_not_found" => Kind::LostChat,
        "not_found" | "404" if says(&["model"]) => Kind::ModelNotFound,
        "model_not_found" => Kind::ModelNotFound,
        "not_found" | "404" => Kind::LostChat,
        "bad_request" | "400" if says(&["in progress"]) => Kind::BusyChat,
        "bad_request" | "400" if says(&["model"]) && says(&["not exist"]) => Kind::ModelNotFound,
        "bad_request" | "400" if says(&["not exist", "deleted"]) => Kind::LostChat,
        "bad_request" | "400" if says(&["too many messages", "invalid file", "something wrong with request"]) => {
            Kind::InvalidRequest
        }
        "requestvalidationerror" | "invalid_input" | "invalid_parameter" => Kind::InvalidRequest,
        "data_inspection_failed" | "datainspectionfailed" | "content_filter" => Kind::ContentPolicy,
        // "Allocated quota exceeded" is the upstream's own capacity, not the account's quota.
        "internal_error" | "internal_server_error" | "codeadapter" | "bad_request" | "400" => Kind::Unavailable,
        _ if says(&["token has expired", "please log in", "重新登录"]) => Kind::Unauthorized,
        _ if says(&["activation", "pending approval"]) => Kind::Forbidden,
        _ if says(&["upper limit for today", "today's usage"]) => quota,
        _ if says(&["in progress"]) => Kind::BusyChat,
        _ => by_status,
    }
}

/// Names of services in lower case: an account that may not use one may use no model at all.
const NO_MODELS: [&str; 4] = ["model studio", "modelstudio", "modelscope", "大模型服务"];

/// Whether a refusal with status 403 or 404 is one of the model that was asked for, and not of the account or the route.
pub(crate) fn speaks_of_model(code: &str, text: &str) -> bool {
    let speaks = |said: &str| {
        let said = NO_MODELS.iter().fold(said.to_lowercase(), |said, name| said.replace(name, ""));
        said.contains("model") || said.contains("模型")
    };
    speaks(code) || speaks(text)
}

/// Classifies an answer that is not an event stream, in any of its forms. `None` for a successful envelope.
#[must_use]
pub(crate) fn classify_body(
    doing: &'static str,
    status: u16,
    content_type: &str,
    body: &[u8],
) -> Option<UpstreamError> {
    if status == PROXY_LOGIN {
        return Some(UpstreamError::on_the_way(doing, WayFault::ProxyLogin));
    }
    let is_html = content_type.contains("html") || body.trim_ascii_start().starts_with(b"<");
    if is_html {
        return Some(UpstreamError::new(doing, classify_html(status, body)));
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let kind = match status {
            // A script, or JSON that is passed to a function of one.
            _ if is_marked(body) => UpstreamErrorKind::Challenged,
            200..300 => UpstreamErrorKind::Protocol,
            _ => classify(status, &Said { code: "", details: "", hours: None }),
        };
        return Some(UpstreamError::new(doing, kind));
    };
    if is_challenge(&value) {
        return Some(UpstreamError::new(doing, UpstreamErrorKind::Challenged));
    }
    let data = value.get("data").filter(|data| data.get("code").is_some()).unwrap_or(&value);
    let error = data.get("error").unwrap_or(data);
    let failed = value.get("success").and_then(Value::as_bool) == Some(false);
    if !failed && (200..300).contains(&status) && value.get("error").is_none_or(Value::is_null) {
        return None;
    }
    let code = text_of(error, &["code"]);
    let details = match error {
        Value::String(text) => text.clone(),
        other => text_of(other, &["details", "message", "detail", "msg"]),
    };
    let hours = error.get("num").and_then(|num| num.as_u64().or_else(|| num.as_str()?.trim().parse().ok()));
    let kind = classify(status, &Said { code: &code, details: &details, hours });
    Some(UpstreamError::told(doing, kind, &code, &details))
}

fn text_of(value: &Value, names: &[&str]) -> String {
    let found = names.iter().find_map(|name| value.get(name).filter(|value| !value.is_null()));
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Whether JSON is an answer of the risk engine, which comes in four forms, one of them with `success: true`: a mark in
/// `ret`, in `code`, in the link of `data`, or the signature `from bx`.
pub(crate) fn is_challenge(value: &Value) -> bool {
    let marked = |value: &Value| match value {
        Value::String(text) => is_marked(text.as_bytes()),
        Value::Array(list) => list.iter().any(|text| text.as_str().is_some_and(|text| is_marked(text.as_bytes()))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    let within = value.get("data").and_then(|data| data.get("result"));
    let places = [Some(value), value.get("data"), value.get("result"), value.get("error"), within];
    places.into_iter().flatten().any(|place| {
        let is_signed = place
            .get("sig")
            .and_then(Value::as_str)
            .is_some_and(|sig| sig.trim().eq_ignore_ascii_case(CHALLENGE_SIGNATURE));
        is_signed || ["ret", "code", "url"].iter().any(|name| place.get(name).is_some_and(marked))
    })
}

/// The status with which a proxy asks for a login. Upstreams never send it.
pub(crate) const PROXY_LOGIN: u16 = 407;

/// Whether a text holds a word of the risk engine, in any case.
pub(crate) fn is_marked(text: &[u8]) -> bool {
    let lower = text.to_ascii_lowercase();
    CHALLENGE_MARKS.iter().any(|mark| memchr::memmem::find(&lower, mark.as_bytes()).is_some())
}

/// Signature of answers of the risk engine that otherwise look like success (captured in September 2026).
const CHALLENGE_SIGNATURE: &str = "from bx";

/// Words of the risk engine in lower case, from recorded answers.
const CHALLENGE_MARKS: [&str; 11] = [
    "aliyun_waf",
    "_____tmd_____",
    "punish",
    "x5sec",
    "rgv587",
    "fail_sys_",
    "captcha",
    "baxia",
    "access verification",
    "阿里云安全验证",
    "gridconnectget",
];

/// Classifies a page in place of JSON or events: a challenge, unless the status tells of a failing proxy.
fn classify_html(status: u16, body: &[u8]) -> UpstreamErrorKind {
    match status {
        _ if is_marked(body) => UpstreamErrorKind::Challenged,
        401 => UpstreamErrorKind::Unauthorized,
        404 | 500.. => UpstreamErrorKind::Unavailable,
        429 => UpstreamErrorKind::RateLimited,
        _ => UpstreamErrorKind::Challenged,
    }
}

impl UpstreamError {
    /// The error for a failure within a stream.
    #[must_use]
    pub fn in_stream(error: &ReplyError) -> Self {
        let doing = "reading an answer";
        match error {
            ReplyError::Json => Self::new(doing, UpstreamErrorKind::Protocol),
            ReplyError::Challenged => Self::new(doing, UpstreamErrorKind::Challenged),
            ReplyError::Truncated => Self::new(doing, UpstreamErrorKind::Truncated),
            ReplyError::Empty => Self::new(doing, UpstreamErrorKind::Empty),
            ReplyError::Refused { code, details, hours } => {
                let said = Said { code, details, hours: *hours };
                Self::told(doing, classify(200, &said), code, details)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::UpstreamErrorKind as Kind;
    use super::*;

    #[test]
    fn the_table() {
        let check = |status: u16, code: &str, details: &str, hours: Option<u64>, expected: Kind| {
            assert_eq!(classify(status, &Said { code, details, hours }), expected, "{status} {code} {details}");
        };
        check(
            200,
            "RateLimited",
            "You've reached the upper limit for today's usage.",
            Some(6),
            Kind::QuotaExhausted { hours: Some(6) },
        );
        check(200, "RateLimited", "quota exceeded", None, Kind::QuotaExhausted { hours: None });
        check(200, "RateLimited", "slow down", None, Kind::RateLimited);
        check(200, "RateLimited", "401 Unauthorized", None, Kind::Unauthorized);
        check(200, "ParallelLimited", "", None, Kind::RateLimited);
        check(200, "Too_Many_Requests", "", None, Kind::RateLimited);
        check(429, "", "", None, Kind::RateLimited);
        check(200, "quota_limit", "", None, Kind::QuotaExhausted { hours: None });
        check(200, "FAIL_SYS_USER_VALIDATE", "x", None, Kind::Challenged);
        check(200, "error", "RateLimited: slow down", None, Kind::RateLimited);
        check(200, "", "quotaLimited: x", None, Kind::QuotaExhausted { hours: None });
        check(200, "error", "ParallelLimited:", None, Kind::RateLimited);
        check(200, "error", "Internal error: RateLimited", None, Kind::Unavailable);
        check(200, "Bad_Request", "Something wrong with request!", None, Kind::InvalidRequest);
        check(200, "ExceedLimit", "", None, Kind::QuotaExhausted { hours: None });
        check(200, "Bad_Request", "The chat is in progress!", None, Kind::BusyChat);
        check(200, "Bad_Request", "Invalid input too many messages.", None, Kind::InvalidRequest);
        check(200, "Bad_Request", "Internal error, try again", None, Kind::Unavailable);
        check(200, "Bad_Request", "internal error", None, Kind::Unavailable);
        check(200, "Bad_Request", "model abc is not exist", None, Kind::ModelNotFound);
        check(200, "Bad_Request", "chat abc is not exist", None, Kind::LostChat);
        check(400, "RequestValidationError", "[\"Field 'chat_id': Field required\"]", None, Kind::InvalidRequest);
        check(404, "CHAT_NOT_FOUND", "This chat has been deleted.", None, Kind::LostChat);
        check(404, "PARENT_NOT_FOUND", "", None, Kind::LostChat);
        check(404, "Not_Found", "Model not found", None, Kind::ModelNotFound);
        check(404, "", "Model not found", None, Kind::ModelNotFound);
        check(404, "", "模型已下线", None, Kind::ModelNotFound);
        check(404, "", "Not Found", None, Kind::Unavailable);
        check(200, "unauthorized", "Token has expired, please log in again.", None, Kind::Unauthorized);
        check(401, "", "", None, Kind::Unauthorized);
        check(403, "Forbidden", "", None, Kind::Forbidden);
        check(403, "Forbidden", "You have no access to this model.", None, Kind::ModelDenied);
        check(200, "Forbidden", "该账号无权使用此模型", None, Kind::ModelDenied);
        check(403, "", "Your account is pending activation", None, Kind::Forbidden);
        check(403, "", "Please activate Model Studio for this account.", None, Kind::Forbidden);
        check(403, "", "请先开通大模型服务平台", None, Kind::Forbidden);
        check(403, "", "Activate Model Studio to use this model.", None, Kind::ModelDenied);
        check(200, "invalid_input", "输入或附件无效。请检查后重试。", None, Kind::InvalidRequest);
        check(200, "data_inspection_failed", "内容安全警告", None, Kind::ContentPolicy);
        check(
            200,
            "internal_error",
            "Allocated quota exceeded, please increase your quota limit.",
            None,
            Kind::Unavailable,
        );
        check(200, "Internal_Server_Error", "Internal Error", None, Kind::Unavailable);
        check(200, "codeadapter", "connection failed", None, Kind::Unavailable);
        check(200, "error", "Internal error!", None, Kind::Unavailable);
        check(200, "error", "too many tokens to login", None, Kind::Unavailable);
        check(502, "", "", None, Kind::Unavailable);
        check(418, "Brand_New_Code", "?", None, Kind::Unavailable);
    }

    #[test]
    fn bodies() {
        let check = |status: u16, content_type: &str, body: &str, expected: Option<Kind>| {
            let kind = classify_body("testing", status, content_type, body.as_bytes()).map(|error| error.kind);
            assert_eq!(kind, expected, "{status} {content_type} {body}");
        };
        let json = "application/json;charset=utf-8";
        check(200, json, r#"{"success":true,"data":{"id":"x"}}"#, None);
        check(200, json, r#"{"success":false,"data":{"code":"unauthorized","details":"…"}}"#, Some(Kind::Unauthorized));
        check(200, json, r#"{"success":false,"code":"Unauthorized"}"#, Some(Kind::Unauthorized));
        check(404, json, r#"{"success":false,"data":{"code":"Not_Found","details":"x"}}"#, Some(Kind::LostChat));
        check(
            200,
            json,
            r#"{"ret":["FAIL_SYS_USER_VALIDATE","RGV587_ERROR::SM::x"],"data":{"url":"https://h/x"}}"#,
            Some(Kind::Challenged),
        );
        for code in [0, 300] {
            let body = format!(
                r#"{{"code":{code},"dt":"success","ec":200,"result":{{"code":{code},"sig":"from bx"}},"success":true}}"#
            );
            check(200, json, &body, Some(Kind::Challenged));
            check(200, "text/plain", &body.replace(':', " : "), Some(Kind::Challenged));
        }
        check(200, json, r#"{"success":true,"sig":"from bx"}"#, Some(Kind::Challenged));
        check(200, json, r#"{"success":true,"result":{"sig":"From BX "}}"#, Some(Kind::Challenged));
        check(200, json, r#"{"success":true,"data":{"result":{"sig":"from bx"}}}"#, Some(Kind::Challenged));
        check(200, json, r#"{"ret":"FAIL_SYS_USER_VALIDATE::x"}"#, Some(Kind::Challenged));
        check(200, json, r#"jsonp1({"ret":["FAIL_SYS_USER_VALIDATE"]})"#, Some(Kind::Challenged));
        check(200, "text/javascript", "location.href='/_____tmd_____/punish?x5secdata=1'", Some(Kind::Challenged));
        check(200, json, r#"{"success":true,"result":{"sig":"something else"},"data":{"id":"from bx"}}"#, None);
        for code in ["FAIL_SYS_USER_VALIDATE", "fail_sys_user_validate"] {
            let body = format!(r#"{{"success":false,"data":{{"code":"{code}","details":"x"}}}}"#);
            check(200, json, &body, Some(Kind::Challenged));
        }
        check(200, json, r#"{"data":{"url":"https://h/_____tmd_____/punish?x5secdata=1"}}"#, Some(Kind::Challenged));
        check(
            200,
            json,
            r#"{"success":false,"data":{"code":"quota_limit"}}"#,
            Some(Kind::QuotaExhausted { hours: None }),
        );
        check(502, "text/html", "<html>BAXIA-dialog</html>", Some(Kind::Challenged));
        check(503, "text/html", "<html>阿里云安全验证</html>", Some(Kind::Challenged));
        check(200, json, r#"{"error":"Internal error!"}"#, Some(Kind::Unavailable));
        check(401, json, r#"{"detail":"not signed in"}"#, Some(Kind::Unauthorized));
        check(200, "text/html", "<!doctypehtml><meta name=\"aliyun_waf_aa\">", Some(Kind::Challenged));
        check(405, "text/html; charset=utf-8", "<html></html>", Some(Kind::Challenged));
        check(401, "text/html", "<html>sign in</html>", Some(Kind::Unauthorized));
        check(401, "text/html", "<html>captcha</html>", Some(Kind::Challenged));
        check(504, "text/html", "<html>Gateway Time-out</html>", Some(Kind::Unavailable));
        check(500, "text/plain", "oops", Some(Kind::Unavailable));
        check(200, "application/json", "{torn", Some(Kind::Protocol));
    }
}
