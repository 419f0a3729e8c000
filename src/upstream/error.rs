//! What can go wrong upstream, whose fault it is, and what to do next: one table.
//!
//! The upstream says most of its errors with HTTP 200, in five different forms; [`classify`] brings them all to
//! one [`UpstreamError`]. Only the fields made for it (`code`, `details`, `message`, `ret`) are matched, never a
//! whole body.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;
use std::{fmt, io};

use secrecy::SecretString;
use serde_json::Value;

use crate::chat::reply::ReplyError;
use crate::upstream::words::{Quote, known_code};

/// A failed call of the upstream. Shown and logged, it holds words of this program and known codes only.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {kind}{}", Hints(.note, *.code))]
pub struct UpstreamError {
    /// What was being done, as `creating a chat`.
    pub doing: &'static str,
    /// The class of the failure.
    pub kind: UpstreamErrorKind,
    /// What this program knows beside the class, as which file of the request failed; never the upstream's words.
    pub note: String,
    /// The upstream's code, if it is one that upstreams are known to use.
    pub code: Option<&'static str>,
    /// What the upstream wrote.
    pub quote: Quote,
    /// A file could not be handed over; what the file was for is not concerned.
    pub is_of_upload: bool,
    /// When the upstream said to come back.
    pub retry_after: Option<Duration>,
    /// The transport's error, if that was it.
    #[source]
    pub source: Option<reqwest::Error>,
}

/// Kinds of failures. Each has one blame and one remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamErrorKind {
    /// The access token is expired or refused: refresh once, then another identity.
    Unauthorized,
    /// The account may not do this: it waits for activation, or is closed.
    Forbidden,
    /// The account may not use this model; it may use others, and another account may use this one.
    ModelDenied,
    /// Too many requests.
    RateLimited,
    /// The quota is gone for this many hours, when the upstream says so.
    QuotaExhausted {
        /// Hours until it returns.
        hours: Option<u64>,
    },
    /// The quota of the model that was asked for is gone; the same identity may have some of others.
    ModelQuotaExhausted,
    /// The risk engine wants a human. Never answered, never retried into.
    Challenged,
    /// The chat is not there (any more), or belongs to another account.
    LostChat,
    /// An earlier answer of the chat is still being made.
    BusyChat,
    /// The content policy refused.
    ContentPolicy,
    /// The upstream finds the request itself wrong.
    InvalidRequest,
    /// The upstream does not have the model.
    ModelNotFound,
    /// The risk engine refuses the size of the request, on every account.
    TooLarge,
    /// More than the model reads.
    TooLong,
    /// Connection, TLS, DNS, 5xx, overload, or an error without information.
    Unavailable,
    /// A deadline of ours passed.
    Timeout,
    /// The answer broke off before its last frame.
    Truncated,
    /// An answer without content.
    Empty,
    /// Something that this version cannot read.
    Protocol,
    /// This process may open no further connection: a fault of the server, not of the upstream.
    OutOfDescriptors,
}

/// What a failure is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The request, or this server: no identity is marked.
    Caller,
    /// The identity: its credential, its quota, its standing.
    Identity,
    /// The upstream as a whole, or the way to it; counted on the identity until it shows on several.
    Upstream,
}

impl fmt::Display for UpstreamErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unauthorized => "the access token was refused",
            Self::Forbidden => "the account may not do this",
            Self::ModelDenied => "the account may not use this model",
            Self::RateLimited => "too many requests",
            Self::QuotaExhausted { .. } => "the quota is used up",
            Self::ModelQuotaExhausted => "the quota of this model is used up",
            Self::Challenged => "the upstream wants a human to pass its check",
            Self::LostChat => "the chat is gone",
            Self::BusyChat => "the chat is still busy",
            Self::ContentPolicy => "refused by the upstream's content policy",
            Self::InvalidRequest => "the upstream finds the request wrong",
            Self::ModelNotFound => "the upstream does not have this model",
            Self::TooLarge => "the request is too large for the upstream",
            Self::TooLong => "the request is longer than the model reads",
            Self::Unavailable => "the upstream failed",
            Self::Timeout => "the upstream did not answer in time",
            Self::Truncated => "the upstream broke off its answer",
            Self::Empty => "the upstream gave an empty answer",
            Self::Protocol => "the upstream's answer cannot be read",
            Self::OutOfDescriptors => "this server may open no further connection",
        })
    }
}

impl UpstreamErrorKind {
    /// What a failure of this kind is charged to.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::ContentPolicy
            | Self::InvalidRequest
            | Self::ModelNotFound
            | Self::ModelDenied
            | Self::TooLarge
            | Self::TooLong
            | Self::LostChat
            | Self::BusyChat
            | Self::OutOfDescriptors => Blame::Caller,
            Self::Unauthorized
            | Self::Forbidden
            | Self::RateLimited
            | Self::QuotaExhausted { .. }
            | Self::ModelQuotaExhausted
            | Self::Challenged => Blame::Identity,
            Self::Unavailable | Self::Timeout | Self::Truncated | Self::Empty | Self::Protocol => Blame::Upstream,
        }
    }

    /// Whether the upstream's text tells the caller what to change: a wrong request, the content policy, a quota, a
    /// length. Elsewhere the class says all.
    #[must_use]
    pub fn has_helpful_text(self) -> bool {
        matches!(
            self,
            Self::InvalidRequest
                | Self::ContentPolicy
                | Self::QuotaExhausted { .. }
                | Self::ModelQuotaExhausted
                | Self::TooLong
        )
    }

    /// A short word for logs, metrics and the rule of correlated failures.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::ModelDenied => "model_denied",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted { .. } => "quota_exhausted",
            Self::ModelQuotaExhausted => "model_quota_exhausted",
            Self::Challenged => "challenged",
            Self::LostChat => "lost_chat",
            Self::BusyChat => "busy_chat",
            Self::ContentPolicy => "content_policy",
            Self::InvalidRequest => "invalid_request",
            Self::ModelNotFound => "model_not_found",
            Self::TooLarge => "too_large",
            Self::TooLong => "too_long",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Empty => "empty",
            Self::Protocol => "protocol",
            Self::OutOfDescriptors => "out_of_descriptors",
        }
    }
}

impl UpstreamError {
    /// An error of which the upstream said nothing.
    #[must_use]
    pub fn new(doing: &'static str, kind: UpstreamErrorKind) -> Self {
        let quote = Quote::default();
        let (note, is_of_upload) = (String::new(), false);
        Self { doing, kind, note, code: None, quote, is_of_upload, retry_after: None, source: None }
    }

    /// An error with words of this program beside its class.
    #[must_use]
    pub fn noted(doing: &'static str, kind: UpstreamErrorKind, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..Self::new(doing, kind) }
    }

    /// An error with the code and the text that the upstream gave.
    #[must_use]
    pub fn told(doing: &'static str, kind: UpstreamErrorKind, code: &str, text: &str) -> Self {
        Self { code: known_code(code), quote: Quote::of(text), ..Self::new(doing, kind) }
    }

    /// Whether nothing of the failure is the upstream's own word: a gateway in between may have answered.
    #[must_use]
    pub fn is_wordless(&self) -> bool {
        self.quote.is_empty() && self.code.is_none()
    }

    /// Whether the connection could not even be made, so that nothing was asked of the upstream.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.source.as_ref().is_some_and(reqwest::Error::is_connect)
    }

    /// Makes the upstream's text fit to be shown, in the classes where it helps the caller to mend the request.
    ///
    /// `secrets` are those of the identity that was used, `asked` the texts of the request. Until this was called,
    /// [`UpstreamError::words`] is empty.
    pub fn clean(&mut self, secrets: &[SecretString], asked: &[Cow<'_, str>]) {
        if self.kind.has_helpful_text() {
            self.quote.clean(secrets, asked);
        }
    }

    /// The cleaned text of the upstream; empty where it does not help.
    #[must_use]
    pub fn words(&self) -> &str {
        self.quote.shown()
    }

    /// A failure of the transport. The address is taken out of it: addresses may carry secrets.
    #[must_use]
    pub fn transport(doing: &'static str, error: reqwest::Error) -> Self {
        let kind = if error.is_timeout() {
            UpstreamErrorKind::Timeout
        } else if is_out_of_descriptors(&error) {
            UpstreamErrorKind::OutOfDescriptors
        } else {
            UpstreamErrorKind::Unavailable
        };
        Self { source: Some(error.without_url()), ..Self::new(doing, kind) }
    }

    /// A failure that the stream itself told of, or was.
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

/// Whether the system refused a socket or a file because this process, or the machine, has too many open.
fn is_out_of_descriptors(error: &(dyn Error + 'static)) -> bool {
    let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    // ENFILE and EMFILE have these numbers on every Unix.
    let is_it = cfg!(unix) && matches!(code, Some(23 | 24));
    is_it || error.source().is_some_and(is_out_of_descriptors)
}

/// What an answer said of itself.
#[derive(Debug)]
pub(crate) struct Said<'a> {
    /// `code`, empty when there is none.
    pub code: &'a str,
    /// `details` or `message`.
    pub details: &'a str,
    /// `num`.
    pub hours: Option<u64>,
}

/// The table: effective status, code and text into a kind.
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

/// Whether a refusal with status 403 is one of the model that was asked for, and not of the account.
pub(crate) fn speaks_of_model(code: &str, text: &str) -> bool {
    [code, text].iter().any(|said| said.to_lowercase().contains("model") || said.contains("模型"))
}

/// An answer that is no event stream, in any of its forms, into an error. `None` for a successful envelope.
#[must_use]
pub(crate) fn classify_body(
    doing: &'static str,
    status: u16,
    content_type: &str,
    body: &[u8],
) -> Option<UpstreamError> {
    let is_html = content_type.contains("html") || body.trim_ascii_start().starts_with(b"<");
    if is_html {
        return Some(UpstreamError::new(doing, classify_html(status, body)));
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let kind = match status {
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
    let places = [Some(value), value.get("data"), value.get("result"), value.get("error")];
    places.into_iter().flatten().any(|place| {
        let is_signed = place.get("sig").and_then(Value::as_str).is_some_and(|sig| sig.trim() == CHALLENGE_SIGNATURE);
        is_signed || ["ret", "code", "url"].iter().any(|name| place.get(name).is_some_and(marked))
    })
}

/// Whether a text holds a word of the risk engine, in any case.
fn is_marked(text: &[u8]) -> bool {
    let lower = text.to_ascii_lowercase();
    CHALLENGE_MARKS.iter().any(|mark| memchr::memmem::find(&lower, mark.as_bytes()).is_some())
}

/// What the risk engine signs an answer with that otherwise looks like success (captured in September 2026).
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

/// A page where JSON or events were due: a challenge, unless the status says that a proxy in between failed.
fn classify_html(status: u16, body: &[u8]) -> UpstreamErrorKind {
    match status {
        _ if is_marked(body) => UpstreamErrorKind::Challenged,
        401 => UpstreamErrorKind::Unauthorized,
        404 | 500.. => UpstreamErrorKind::Unavailable,
        429 => UpstreamErrorKind::RateLimited,
        _ => UpstreamErrorKind::Challenged,
    }
}

/// Shows a note and a code in brackets, or nothing.
struct Hints<'a>(&'a str, Option<&'static str>);

impl fmt::Display for Hints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            ("", None) => Ok(()),
            ("", Some(code)) => write!(f, " ({code})"),
            (note, None) => write!(f, " ({note})"),
            (note, Some(code)) => write!(f, " ({note}, {code})"),
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
        check(200, "unauthorized", "Token has expired, please log in again.", None, Kind::Unauthorized);
        check(401, "", "", None, Kind::Unauthorized);
        check(403, "Forbidden", "", None, Kind::Forbidden);
        check(403, "Forbidden", "You have no access to this model.", None, Kind::ModelDenied);
        check(200, "Forbidden", "该账号无权使用此模型", None, Kind::ModelDenied);
        check(403, "", "Your account is pending activation", None, Kind::Forbidden);
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
