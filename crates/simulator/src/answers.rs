//! Heads and bodies of answers: envelopes, flat objects, refusals of the edge and of the risk engine.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::errors::{OssError, RATE_TEMPLATE, details_of, oss_error_xml, status_of};
use crate::script::{
    ApiFailure, BodyForm, Challenge, ChallengeForm, ErrorScript, OAuthFailure, RawScript, ScriptedFailure, StatusScript,
};
use crate::web::chats::Turn;
use crate::web::stream::steps::Step;

/// An answer before it is bound to its connection.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `x-actual-status-code`; only `/api/v2/` has it.
    pub(crate) effective_status: Option<u16>,
    pub(crate) headers: Vec<(String, String)>,
    /// Headers of the scripted reply; each replaces the ordinary header of the same name.
    pub(crate) scripted_headers: BTreeMap<String, String>,
    pub(crate) payload: Payload,
    /// The id of an answer that streams without a turn in a chat.
    pub(crate) stream_id: Option<String>,
}

/// The part of an answer after its head.
pub(crate) enum Payload {
    Whole(Bytes),
    Steps {
        steps: Vec<Step>,
        turn: Option<Box<Turn>>,
    },
    /// The connection is reset; neither a head nor a body is sent.
    Reset,
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            effective_status: None,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            scripted_headers: BTreeMap::new(),
            payload: Payload::Whole(body.into()),
            stream_id: None,
        }
    }

    /// This answer with the headers of a script.
    pub(crate) fn with_headers(mut self, headers: &BTreeMap<String, String>) -> Self {
        self.scripted_headers.clone_from(headers);
        self
    }

    /// Answer of `/api/v2/`: HTTP 200, `x-actual-status-code: 200`, `{"success":true,"request_id":…,"data":…}`.
    pub(crate) fn envelope(request_id: &str, data: &Value) -> Self {
        let id = Value::from(request_id);
        let body = format!("{{\"success\":true,\"request_id\":{id},\"data\":{data}}}");
        Self { effective_status: Some(200), ..Self::new(200, JSON, body) }
    }

    /// A v2 error with the text and status that go with its code.
    pub(crate) fn refusal(request_id: &str, code: &str) -> Self {
        Self::refusal_with(request_id, code, details_of(code))
    }

    /// A v2 error with another text.
    pub(crate) fn refusal_with(request_id: &str, code: &str, details: &str) -> Self {
        let error = ErrorScript { code: code.to_owned(), details: Some(details.to_owned()), ..ErrorScript::default() };
        Self::error(request_id, &error)
    }

    /// A v2 error as scripted.
    pub(crate) fn error(request_id: &str, error: &ErrorScript) -> Self {
        let details = error.details.as_deref().unwrap_or(details_of(&error.code));
        let mut data = Map::new();
        data.insert("code".to_owned(), json!(error.code));
        data.insert("details".to_owned(), json!(details));
        let is_rate = error.code == "RateLimited" && error.num.is_some();
        let template = error.template.as_deref().or(is_rate.then_some(RATE_TEMPLATE));
        if let Some(template) = template {
            data.insert("template".to_owned(), json!(template));
        }
        if let Some(num) = error.num {
            data.insert("num".to_owned(), json!(num));
        }
        let id = Value::from(request_id);
        let body = if error.top_level {
            data.insert("success".to_owned(), json!(false));
            data.insert("request_id".to_owned(), id);
            Value::Object(data).to_string()
        } else {
            let data = Value::Object(data);
            format!("{{\"success\":false,\"request_id\":{id},\"data\":{data}}}")
        };
        let effective = error.effective_status.unwrap_or(status_of(&error.code));
        Self { effective_status: Some(effective), ..Self::new(200, JSON, body) }
    }

    /// A v1 answer: no envelope, and the status is the status.
    pub(crate) fn flat(status: u16, body: &Value) -> Self {
        Self::new(status, JSON, body.to_string())
    }

    /// A challenge of the risk engine in place of an answer.
    pub(crate) fn challenge(challenge: Challenge, path: &str) -> Self {
        let path = path.split('?').next().unwrap_or(path);
        match challenge.form {
            ChallengeForm::Json => Self::new(
                challenge.status,
                "application/json;charset=utf-8",
                format!(
                    "{{\"ret\":[\"FAIL_SYS_USER_VALIDATE\",\"RGV587_ERROR::SM::哎呀,人太多啦,请稍后再试\"],\
                     \"data\":{{\"url\":\"https://chat.qwen.ai:443/{path}/_____tmd_____/punish?x5secdata={SECDATA}\
                     __bx__chat.qwen.ai:443{path}&x5step=2&action=captcha&pureCaptcha=\"}}}}"
                ),
            ),
            ChallengeForm::Html => Self::new(
                challenge.status,
                "text/html; charset=utf-8",
                format!(
                    "<!doctypehtml><html><head><meta charset=\"utf-8\"><meta name=\"aliyun_waf_aa\" \
                     content=\"{SECDATA}\"><meta name=\"aliyun_waf_bb\" content=\"simulated\"><title>Access \
                     Verification</title></head><body><div id=\"baxia-punish\">Please slide to verify</div><script>\
                     sessionStorage.x5referer=location.href;var next=\"{path}/_____tmd_____/punish?x5secdata={SECDATA}\"\
                     </script></body></html>"
                ),
            ),
        }
    }

    /// A body of any length that says it is a stream, or not.
    pub(crate) fn steps(content_type: &str, steps: Vec<Step>, turn: Option<Turn>) -> Self {
        Self {
            effective_status: Some(200),
            payload: Payload::Steps { steps, turn: turn.map(Box::new) },
            ..Self::new(200, content_type, Bytes::new())
        }
    }

    /// A stream of an OpenAI-shaped endpoint, or a whole answer of it in steps.
    pub(crate) fn api_steps(content_type: &str, steps: Vec<Step>, stream_id: Option<String>) -> Self {
        Self { effective_status: None, stream_id, ..Self::steps(content_type, steps, None) }
    }

    /// HTTP 200 with this content type and body.
    pub(crate) fn text(content_type: &str, body: &str) -> Self {
        Self::new(200, content_type, body.to_owned())
    }

    /// An error of the object storage or of the CDN.
    pub(crate) fn oss_error(error: OssError) -> Self {
        Self::new(error.status, "application/xml", oss_error_xml(error.code, error.message))
    }

    /// Answer to a stored upload: HTTP 200, no body, no content type.
    pub(crate) fn oss_done() -> Self {
        Self { headers: Vec::new(), ..Self::new(200, "", Bytes::new()) }
    }

    /// A file, or the range of it that was asked for.
    pub(crate) fn part(content_type: &str, file: &Bytes, range: Option<&str>) -> Self {
        let length = file.len();
        let mut answer = match range.and_then(|range| range.strip_prefix("bytes=")) {
            None => Self::new(200, content_type, file.clone()),
            Some(range) => match bounds(range, length) {
                Some((first, end)) => {
                    let mut answer = Self::new(206, content_type, file.slice(first..end));
                    let part = format!("bytes {first}-{}/{length}", end.saturating_sub(1));
                    answer.headers.push(("content-range".to_owned(), part));
                    answer
                }
                None => {
                    let mut answer = Self::new(416, "application/xml", Bytes::new());
                    answer.headers.push(("content-range".to_owned(), format!("bytes */{length}")));
                    answer
                }
            },
        };
        answer.headers.push(("accept-ranges".to_owned(), "bytes".to_owned()));
        answer
    }

    /// A scripted failure; `None` for a silence, which depends on the endpoint.
    pub(crate) fn failure(failure: &ScriptedFailure, request_id: &str, path: &str) -> Option<Self> {
        match failure {
            ScriptedFailure::Error(error) => Some(Self::error(request_id, error)),
            ScriptedFailure::Status(status) => Some(Self::status(status)),
            ScriptedFailure::Challenge(challenge) => Some(Self::challenge(*challenge, path)),
            ScriptedFailure::Redirect(url) => {
                let mut answer = Self::new(302, "text/html", Bytes::new());
                answer.headers.push(("location".to_owned(), url.clone()));
                Some(answer)
            }
            ScriptedFailure::Reset => Some(Self { payload: Payload::Reset, ..Self::new(200, JSON, Bytes::new()) }),
            ScriptedFailure::Silence => None,
            ScriptedFailure::Raw(raw) => Some(Self::raw(raw)),
            ScriptedFailure::OAuth(failure) => Some(Self::oauth(failure)),
            ScriptedFailure::Api(failure) => Some(Self::api(failure, request_id)),
        }
    }

    /// A refusal of the OAuth endpoints.
    pub(crate) fn oauth(failure: &OAuthFailure) -> Self {
        let refusal = failure.spelled();
        Self::new(refusal.status, JSON, refusal.body.to_string()).waiting(&refusal.retry_after)
    }

    /// An error of an OpenAI-shaped endpoint.
    pub(crate) fn api(failure: &ApiFailure, request_id: &str) -> Self {
        let error = failure.spelled();
        let (content_type, body) = error.body(request_id);
        Self::new(error.status, content_type, body).waiting(&error.retry_after)
    }

    fn waiting(mut self, retry_after: &[String]) -> Self {
        let waits = retry_after.iter().map(|value| ("retry-after".to_owned(), value.clone()));
        self.headers.extend(waits);
        self
    }

    fn status(script: &StatusScript) -> Self {
        let code = script.code;
        let reason =
            http::StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown");
        let text = script.text.clone();
        let (content_type, body) = match script.body {
            BodyForm::Json => {
                let body = text.unwrap_or_else(|| json!({ "detail": reason }).to_string());
                (JSON, body)
            }
            BodyForm::Plain => ("text/plain", text.unwrap_or_else(|| reason.to_owned())),
            BodyForm::Html => {
                let page = || {
                    format!(
                        "<html><head><title>{code} {reason}</title></head><body><center><h1>{code} {reason}</h1>\
                         </center></body></html>"
                    )
                };
                ("text/html", text.unwrap_or_else(page))
            }
            BodyForm::Empty => ("text/plain", String::new()),
        };
        Self::new(code, content_type, body).waiting(&script.retry_after)
    }

    fn raw(raw: &RawScript) -> Self {
        let body =
            if raw.base64 { STANDARD.decode(&raw.body).unwrap_or_default() } else { raw.body.clone().into_bytes() };
        Self::new(raw.status, &raw.content_type, body)
    }
}

/// First byte and end of a range, of which there may be only one.
fn bounds(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.split_once('-')?;
    let (first, end) = if first.is_empty() {
        let tail: usize = last.parse().ok()?;
        (length.saturating_sub(tail), length)
    } else {
        let end = if last.is_empty() { length } else { last.parse::<usize>().ok()?.saturating_add(1) };
        (first.parse().ok()?, end.min(length))
    };
    (first < end).then_some((first, end))
}

/// The content type of an ordinary answer.
pub(crate) const JSON: &str = "application/json";

/// The content type of a stream.
pub(crate) const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// Stands in for the token of the slider in a challenge of the risk engine.
const SECDATA: &str =
    "xdSIMULATED5f0a9simulatedSIMULATED1c77simulatedSIMULATEDb24esimulatedSIMULATED90d3simulatedSIMULATEDe6simulated";
