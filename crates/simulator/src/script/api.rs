//! Scripts for the OpenAI-shaped endpoints: the portal and the endpoint of static keys.

use serde::Deserialize;
use serde_json::{Value, json};

/// The script of the portal, for every account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortalScript {
    /// Logins and refreshes succeed, and every chat is told that its token is invalid.
    pub free_tier_closed: bool,
    /// Refuses requests whose first message is not a system message of parts with `cache_control`.
    pub needs_system_parts: bool,
    /// Requests without the headers of the vendor's own client have no quota.
    pub needs_identity: bool,
    /// `GET models` answers with a list; `false`: with 404.
    pub lists_models: bool,
    /// Ids of the models it serves; empty: any model.
    pub models: Vec<String>,
}

/// The script of an OpenAI-shaped completion, beyond its stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChatScript {
    /// Tools to call. Left out: those that the prompt asks for with `call: NAME {"some": "arguments"}`.
    pub tool_calls: Option<Vec<ToolCallScript>>,
    /// `finish_reason` of the answer. Left out: `tool_calls`, `length` or `stop`, as the answer ended.
    pub finish: Option<String>,
    /// Fields of each chunk beside its `delta`. Left out: [`ChunkForm::Usual`].
    pub chunks: ChunkForm,
    /// Whether a stream has a chunk with `usage`. Left out: [`UsageChunk::AsAsked`].
    pub usage_chunk: UsageChunk,
    /// The stream ends without `[DONE]`.
    pub lacks_done: bool,
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCallScript {
    /// `function.name` of the call; any text.
    pub name: String,
    /// `function.arguments`: JSON as text, or text that is not valid JSON.
    #[serde(default)]
    pub arguments: String,
    /// `id` of the call. Left out: made from the id of the answer and the call's position.
    #[serde(default)]
    pub id: Option<String>,
}

/// The fields of a chunk beside its `delta`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkForm {
    /// `id`, `created` and the other fields in each chunk; `role` in the first delta.
    #[default]
    Usual,
    /// No `id`, no `created`, no `role`.
    Bare,
    /// As [`Self::Usual`], with `role` in every delta.
    RoleOnEach,
}

/// Whether a stream has a chunk with `usage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageChunk {
    /// If `stream_options.include_usage` asks for them.
    #[default]
    AsAsked,
    /// Every stream has a usage chunk, whether asked for or not.
    Always,
    /// No stream has a usage chunk, even if asked for.
    Never,
}

/// Errors of the OpenAI-shaped endpoints, given in place of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiFailure {
    /// 401 `invalid_api_key`: expired, revoked, or the free tier is closed.
    InvalidToken,
    /// 401 as for an unknown key.
    IncorrectKey,
    /// 429 `insufficient_quota`: "Free allocated quota exceeded."
    Quota,
    /// 403 `insufficient_quota`: "Free allocated quota exceeded."
    #[serde(rename = "quota_403")]
    Quota403,
    /// 429 `insufficient_quota`: "You exceeded your current quota, …".
    CurrentQuota,
    /// 403 `AllocationQuota.FreeTierOnly`: the free quota of the model is used up and paid use is off.
    FreeTierOnly,
    /// 429 `Throttling.RateQuota` with this `Retry-After`; empty: without.
    Throttled(String),
    /// 429 `rate_limit_exceeded` with this `Retry-After`; empty: without.
    RateLimited(String),
    /// 429: this window of the Coding Plan is used up.
    Window(PlanWindow),
    /// 400 `invalid_parameter_error` "bad request".
    InvalidParameter,
    /// 400 `InvalidParameter`: the input has more than this number of tokens.
    ContextOverflow(u64),
    /// 400: the model is not for this kind of credential.
    ModelNotSupported,
    /// 404 `model_not_found`: the model does not exist, or the credential may not use it.
    ModelNotFound,
    /// 504 with the text `stream timeout`.
    StreamTimeout,
    /// 504 with the JSON string `"stream timeout"`.
    StreamTimeoutJson,
    /// 400 `data_inspection_failed`: the content filter refused the input.
    Inspection,
    /// 500, 502, 503, … with an error body.
    Server(u16),
    /// Any other error, spelled out field by field.
    Other(ApiErrorScript),
}

/// A quota window of the Coding Plan, named in the message of the 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanWindow {
    /// `hour`: a rolling window of five hours.
    Hour,
    /// `week`: the calendar week, from Monday on.
    Week,
    /// `month`: since the day of the subscription.
    Month,
}

/// An error of an OpenAI-shaped endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiErrorScript {
    /// HTTP status of the answer.
    pub status: u16,
    /// `code`; left out: `null`.
    #[serde(default)]
    pub code: Option<String>,
    /// `type`; left out: as `code`.
    #[serde(default)]
    pub kind: Option<String>,
    /// `message` of the error; empty by default.
    #[serde(default)]
    pub message: String,
    /// `Retry-After` values, one header each; any text.
    #[serde(default)]
    pub retry_after: Vec<String>,
    /// Shape of the body. Left out: [`ApiErrorForm::Object`].
    #[serde(default)]
    pub form: ApiErrorForm,
}

/// The shape of an error's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiErrorForm {
    /// JSON object `{"error":{"code":…,"message":…,"type":…,"param":null},"request_id":…}`.
    #[default]
    Object,
    /// As [`Self::Object`], with an `id` that begins with `chatcmpl-`.
    WithId,
    /// `{"code":…,"message":…,"request_id":…}`, as the native API of DashScope.
    Flat,
    /// The message as a JSON string.
    JsonString,
    /// The message as plain text.
    Plain,
}

impl ApiErrorScript {
    /// An error with one text for `code` and `type`.
    #[must_use]
    pub fn new(status: u16, code: &str, message: &str) -> Self {
        Self { status, code: Some(code.to_owned()), message: message.to_owned(), ..Self::default() }
    }

    /// This error with another `type`.
    #[must_use]
    pub fn kind(mut self, kind: &str) -> Self {
        self.kind = Some(kind.to_owned());
        self
    }

    /// This error written in another way.
    #[must_use]
    pub fn form(mut self, form: ApiErrorForm) -> Self {
        self.form = form;
        self
    }

    fn waiting(mut self, retry_after: &str) -> Self {
        if !retry_after.is_empty() {
            self.retry_after.push(retry_after.to_owned());
        }
        self
    }

    /// Content type and body.
    pub(crate) fn body(&self, request_id: &str) -> (&'static str, String) {
        let Self { code, message, .. } = self;
        let kind = self.kind.as_ref().or(code.as_ref());
        let mut object = json!({
            "error": { "code": code, "message": message, "type": kind, "param": null }, "request_id": request_id,
        });
        let json = match self.form {
            ApiErrorForm::Plain => return ("text/plain; charset=utf-8", message.clone()),
            ApiErrorForm::Object => object,
            ApiErrorForm::WithId => {
                if let Some(object) = object.as_object_mut() {
                    let id = format!("chatcmpl-{request_id}");
                    object.insert("id".to_owned(), json!(id));
                }
                object
            }
            ApiErrorForm::Flat => json!({ "code": code, "message": message, "request_id": request_id }),
            ApiErrorForm::JsonString => Value::from(message.as_str()),
        };
        ("application/json", json.to_string())
    }
}

impl ApiFailure {
    pub(crate) fn spelled(&self) -> ApiErrorScript {
        match self {
            Self::InvalidToken => ApiErrorScript::new(401, "invalid_api_key", "invalid access token or token expired")
                .kind(INVALID_REQUEST),
            Self::IncorrectKey => {
                ApiErrorScript::new(401, "invalid_api_key", "Incorrect API key provided.").kind(INVALID_REQUEST)
            }
            Self::Quota => ApiErrorScript::new(429, QUOTA, "Free allocated quota exceeded."),
            Self::Quota403 => ApiErrorScript::new(403, QUOTA, "Free allocated quota exceeded."),
            Self::CurrentQuota => ApiErrorScript::new(
                429,
                QUOTA,
                "You exceeded your current quota, please check your plan and billing details.",
            ),
            Self::FreeTierOnly => ApiErrorScript::new(
                403,
                "AllocationQuota.FreeTierOnly",
                "The free tier of the model has been exhausted. If you wish to continue access the model on a paid \
                 basis, please disable the \"use free tier only\" mode in the management console.",
            ),
            Self::Throttled(wait) => ApiErrorScript::new(
                429,
                "Throttling.RateQuota",
                "Requests rate limit exceeded, please try again later.",
            )
            .waiting(wait),
            Self::RateLimited(wait) => {
                ApiErrorScript::new(429, "rate_limit_exceeded", "Requests throttling triggered.").waiting(wait)
            }
            Self::Window(window) => {
                let name = match window {
                    PlanWindow::Hour => "hour",
                    PlanWindow::Week => "week",
                    PlanWindow::Month => "month",
                };
                let message = format!("{name} allocated quota exceeded.");
                ApiErrorScript::new(429, "Throttling.AllocationQuota", &message)
            }
            Self::InvalidParameter => {
                ApiErrorScript::new(400, "invalid_parameter_error", "bad request").kind(INVALID_REQUEST)
            }
            Self::ContextOverflow(most) => {
                let message = format!("Range of input length should be [1, {most}]");
                ApiErrorScript::new(400, "InvalidParameter", &message).kind(INVALID_REQUEST)
            }
            Self::ModelNotSupported => {
                ApiErrorScript::new(400, "invalid_parameter_error", "model not supported").kind(INVALID_REQUEST)
            }
            Self::ModelNotFound => {
                let message = "The model does not exist or you do not have access to it.";
                ApiErrorScript::new(404, "model_not_found", message).kind(INVALID_REQUEST)
            }
            Self::StreamTimeout => {
                let error =
                    ApiErrorScript { status: 504, message: "stream timeout".to_owned(), ..ApiErrorScript::default() };
                error.form(ApiErrorForm::Plain)
            }
            Self::StreamTimeoutJson => Self::StreamTimeout.spelled().form(ApiErrorForm::JsonString),
            Self::Inspection => {
                ApiErrorScript::new(400, "data_inspection_failed", "Input text data may contain inappropriate content.")
            }
            Self::Server(status) => {
                ApiErrorScript::new(*status, "internal_error", "An internal error has occured, please try again later.")
            }
            Self::Other(error) => error.clone(),
        }
    }
}

const INVALID_REQUEST: &str = "invalid_request_error";
const QUOTA: &str = "insufficient_quota";
