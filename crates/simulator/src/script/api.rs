//! How the OpenAI-shaped endpoints – the portal and the one with static keys – differ from the ordinary by script.

use serde::Deserialize;
use serde_json::{Value, json};

/// How the portal behaves towards every account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortalScript {
    /// Logins and refreshes succeed, and every chat is told that its token is invalid.
    pub free_tier_closed: bool,
    /// Refuses requests whose first message is not a system message of parts with `cache_control`.
    pub needs_system_parts: bool,
    /// Requests without the headers of the vendor's own client have no quota.
    pub needs_identity: bool,
    /// Gives a list of models, in the place of 404.
    pub lists_models: bool,
    /// The models it serves; empty: any.
    pub models: Vec<String>,
}

/// What a completion of an OpenAI-shaped endpoint is like, beyond its stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChatScript {
    /// Tools to call. Left out: those that the prompt asks for with `call: NAME {"some": "arguments"}`.
    pub tool_calls: Option<Vec<ToolCallScript>>,
    /// `finish_reason`. Left out: the one that fits.
    pub finish: Option<String>,
    /// What a chunk has beside its delta.
    pub chunks: ChunkForm,
    /// When there are figures in a stream.
    pub usage_chunk: UsageChunk,
    /// The stream ends without `[DONE]`.
    pub lacks_done: bool,
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCallScript {
    /// Which tool.
    pub name: String,
    /// JSON, or what a model takes for it.
    #[serde(default)]
    pub arguments: String,
    /// Left out: an invented one.
    #[serde(default)]
    pub id: Option<String>,
}

/// What a chunk has beside its delta.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkForm {
    /// Everything, and the first one a role.
    #[default]
    Usual,
    /// Neither `id` nor `created` nor a role.
    Bare,
    /// A role in each.
    RoleOnEach,
}

/// When there are figures in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageChunk {
    /// If `stream_options.include_usage` asks for them.
    #[default]
    AsAsked,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What an OpenAI-shaped endpoint says in the place of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiFailure {
    /// 401 `invalid_api_key`: expired, revoked, or the free tier is closed.
    InvalidToken,
    /// 401 as for an unknown key.
    IncorrectKey,
    /// 429 `insufficient_quota`: "Free allocated quota exceeded."
    Quota,
    /// The same as 403.
    #[serde(rename = "quota_403")]
    Quota403,
    /// 429 `insufficient_quota`: "You exceeded your current quota, …".
    CurrentQuota,
    /// 403 `AllocationQuota.FreeTierOnly`.
    FreeTierOnly,
    /// 429 `Throttling.RateQuota` with this `Retry-After`; empty: without.
    Throttled(String),
    /// 429 `rate_limit_exceeded` with this `Retry-After`; empty: without.
    RateLimited(String),
    /// 429: this window of the Coding Plan is used up.
    Window(PlanWindow),
    /// 400 `invalid_parameter_error` "bad request".
    InvalidParameter,
    /// 400 `InvalidParameter`: more than so many tokens.
    ContextOverflow(u64),
    /// 400: the model is not for this kind of credential.
    ModelNotSupported,
    /// 404 `model_not_found`.
    ModelNotFound,
    /// 504 with the text `stream timeout`.
    StreamTimeout,
    /// 504 with the JSON string `"stream timeout"`.
    StreamTimeoutJson,
    /// 400 `data_inspection_failed`.
    Inspection,
    /// 500, 502, 503, … with an error body.
    Server(u16),
    /// Any other.
    Other(ApiErrorScript),
}

/// A window of the Coding Plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanWindow {
    /// Five hours.
    Hour,
    /// From Monday on.
    Week,
    /// From the day of the subscription on.
    Month,
}

/// An error of an OpenAI-shaped endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiErrorScript {
    /// The HTTP status.
    pub status: u16,
    /// `code`; left out: `null`.
    #[serde(default)]
    pub code: Option<String>,
    /// `type`; left out: as `code`.
    #[serde(default)]
    pub kind: Option<String>,
    /// `message`.
    #[serde(default)]
    pub message: String,
    /// `Retry-After` values, one header each; any text.
    #[serde(default)]
    pub retry_after: Vec<String>,
    /// How it is written.
    #[serde(default)]
    pub form: ApiErrorForm,
}

/// How an error is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiErrorForm {
    /// `{"error":{…},"request_id":…}`.
    #[default]
    Object,
    /// The same with an `id` like that of an answer.
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
