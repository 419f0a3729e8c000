//! The only place where a failure becomes a status and OpenAI's error body.
//!
//! Each message says what was wrong, whose fault it is and how to mend it. Nothing of the upstream but its short
//! cleaned text gets in, and no cause is sent along.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};

use crate::base::facts::CoolingReason;
use crate::chat::error::{RequestError, RequestErrorKind};
use crate::dialect::openai::wire::{ErrorBody, ErrorDetail};
use crate::gateway::accounts::device_login::{LoginFailure, StartError};
use crate::gateway::accounts::oauth_account::AccountError;
use crate::gateway::accounts::web::RefreshError;
use crate::gateway::answer::error::ChatError;
use crate::gateway::route::NoUpstream;
use crate::pool::LeaseError;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind, presentable};

/// The longest wait that a client is asked to sit through by itself; SDKs sleep for whatever they are told.
const WAIT_SECONDS_MAX: u64 = 60;

/// A failure as a caller sees it.
#[derive(Debug)]
pub struct ApiError {
    /// The status; in a stream that has begun, the same failure travels without it.
    pub status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    retry_after: Option<Duration>,
    /// The client is told not to try again by itself.
    is_final: bool,
}

const INVALID_REQUEST: &str = "invalid_request_error";
const SERVER_ERROR: &str = "server_error";

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: Some(code),
            param: None,
            message: message.into(),
            retry_after: None,
            is_final: false,
        }
    }

    fn finally(self) -> Self {
        Self { is_final: true, ..self }
    }

    fn after(self, wait: Option<Duration>) -> Self {
        let is_long = wait.is_none_or(|wait| wait.as_secs() > WAIT_SECONDS_MAX);
        Self { retry_after: wait, is_final: self.is_final || is_long, ..self }
    }

    /// The key is missing or wrong, or the client-mode credential has the wrong form.
    #[must_use]
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", message)
    }

    /// The request came under a name that an open server on loopback does not have.
    #[must_use]
    pub fn wrong_host() -> Self {
        let message = "This server runs without a key and answers only to names of this machine (localhost). \
                       Set API_KEY to reach it under another name.";
        Self::new(StatusCode::FORBIDDEN, "permission_error", "host_not_allowed", message)
    }

    /// The request came from a page that an open server on loopback does not serve.
    #[must_use]
    pub fn wrong_origin() -> Self {
        let message = "This server runs without a key and answers only to pages of this machine (localhost). Set \
                       API_KEY, or name the page's origin in CORS_ORIGINS.";
        Self::new(StatusCode::FORBIDDEN, "permission_error", "origin_not_allowed", message)
    }

    /// No such path.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        let shown: String = path.chars().filter(|c| !c.is_control()).take(100).collect();
        let hint = if path.contains("/v1/v1") {
            " The base URL seems to have '/v1' twice."
        } else if path.len() > 1 && path.ends_with('/') {
            " Try it without the slash at the end."
        } else {
            " GET / lists the endpoints."
        };
        Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, "unknown_url", format!("There is no '{shown}' here.{hint}"))
    }

    /// The path exists, but not for this method.
    #[must_use]
    pub fn wrong_method(method: &http::Method) -> Self {
        let message = format!("{method} is not supported for this path; the header Allow names what is.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID_REQUEST, "method_not_supported", message)
    }

    /// The body is larger than the limit.
    #[must_use]
    pub fn body_too_large(limit_bytes: usize) -> Self {
        let message = format!("The request body is larger than {limit_bytes} bytes (MAX_BODY).");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, "request_too_large", message)
    }

    /// The body is no JSON by its own word.
    #[must_use]
    pub fn wrong_content_type(content_type: &str) -> Self {
        let shown: String = content_type.chars().filter(|c| !c.is_control()).take(60).collect();
        let message = format!("The content type '{shown}' is not supported; send 'application/json'.");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST, "unsupported_media_type", message)
    }

    /// The body is encoded in a way that is not decoded here.
    #[must_use]
    pub fn unsupported_encoding() -> Self {
        let message = "The Content-Encoding of the request body is not supported; send it plain or with gzip.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST, "unsupported_encoding", message)
    }

    /// The body is no JSON.
    #[must_use]
    pub fn invalid_json(line: usize, column: usize) -> Self {
        let message = format!("The request body is not valid JSON (line {line}, column {column}).");
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "invalid_json", message)
    }

    /// There is no body.
    #[must_use]
    pub fn empty_body() -> Self {
        let message = "The request body is empty; send a JSON object.";
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "invalid_json", message)
    }

    /// The upstream answered, but not with a picture.
    #[must_use]
    pub fn no_picture(text: &str, is_refused: bool) -> Self {
        let said: String = presentable(text);
        if is_refused {
            let message = format!("The upstream's content policy refuses this picture. {said}");
            return Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "content_filter", message.trim().to_owned());
        }
        let message = if said.is_empty() {
            "The upstream made no picture.".to_owned()
        } else {
            format!("The upstream made no picture, but answered: {said}")
        };
        // The same words would get the same answer, and cost once more.
        Self::new(StatusCode::BAD_GATEWAY, SERVER_ERROR, "upstream_empty", message).finally()
    }

    /// The upstream made something, but it cannot be fetched from where it says.
    #[must_use]
    pub fn lost_result(noun: &str) -> Self {
        let message = format!("The upstream made the {noun}, but it cannot be fetched from the upstream's storage.");
        Self::new(StatusCode::BAD_GATEWAY, SERVER_ERROR, "upstream_error", message)
    }

    /// There is no such video, or it is somebody else's: nobody is told which.
    #[must_use]
    pub fn video_not_found() -> Self {
        let message = "There is no video of this id that belongs to your key. Videos are kept for seven days.";
        Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, "video_not_found", message)
    }

    /// The video has no content, or not yet. `status` is its state, `why` what went wrong.
    #[must_use]
    pub fn video_not_ready(status: &str, why: Option<&str>) -> Self {
        let message = match why {
            None => {
                format!("This video is not made yet, its status is '{status}'. Ask after it until it is 'completed'.")
            }
            Some(why) => format!("There is no video, its status is '{status}': {why}"),
        };
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "video_not_ready", message)
    }

    /// More videos are in the making than this server takes.
    #[must_use]
    pub fn too_many_videos() -> Self {
        let message = "This server makes as many videos as it can at once. Try again when one of them is done.";
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "server_busy", message);
        error.after(Some(Duration::from_secs(WAIT_SECONDS_MAX)))
    }

    /// An idempotency key came with two different bodies.
    #[must_use]
    pub fn idempotency_key_reused() -> Self {
        let message = "This Idempotency-Key was used with another request body before. Take a new key for a new \
                       request, and send the same body when you try one again.";
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "idempotency_key_reuse", message)
    }

    /// An idempotency key that is too long or no text.
    #[must_use]
    pub fn invalid_idempotency_key(bytes_max: usize) -> Self {
        let message = format!("The Idempotency-Key has to be a text of 1 to {bytes_max} bytes.");
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "invalid_idempotency_key", message)
    }

    /// A range that lies outside of the file.
    #[must_use]
    pub fn range_not_satisfiable() -> Self {
        let message = "The file is shorter than the range that was asked for.";
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, INVALID_REQUEST, "range_not_satisfiable", message)
    }

    /// Code and message, for where a failure is told without a status.
    #[must_use]
    pub fn told(error: &ChatError) -> (String, String) {
        let error = Self::from(error);
        (error.code().to_owned(), error.message)
    }

    /// The body is no form that can be read.
    #[must_use]
    pub fn broken_form() -> Self {
        let message = "The body is not a readable multipart form. Send each field as its own part, with the boundary \
                       that the content type names.";
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "invalid_form", message)
    }

    /// The body broke off, or cannot be decoded.
    #[must_use]
    pub fn broken_body() -> Self {
        let message = "The request body broke off or is not encoded as its Content-Encoding says.";
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "invalid_body", message)
    }

    /// The body did not come in time.
    #[must_use]
    pub fn body_timeout() -> Self {
        let message = "The request body did not arrive in time.";
        Self::new(StatusCode::REQUEST_TIMEOUT, INVALID_REQUEST, "request_timeout", message).finally()
    }

    /// A model that is not in the list.
    #[must_use]
    pub fn model_not_found(id: &str) -> Self {
        let shown: String = id.chars().take(100).collect();
        let message = format!("The model '{shown}' does not exist. GET /v1/models lists the names that can be used.");
        let error = Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, "model_not_found", message);
        Self { param: Some("model".to_owned()), ..error }
    }

    /// The caller asks more often than `RATE_LIMIT_RPS` allows.
    #[must_use]
    pub fn too_many_requests(wait: Duration) -> Self {
        let message = "Rate limit exceeded: this server takes no more requests from you for now (RATE_LIMIT_RPS). Wait \
                       for the time that Retry-After names.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded", message).after(Some(wait))
    }

    /// Nobody who could make embeddings is configured.
    #[must_use]
    pub fn embeddings_not_supported() -> Self {
        let message = "The web chat makes no embeddings. The owner of this server can name an endpoint that does, \
                       with its key, in QWEN_API_KEYS.";
        Self::new(StatusCode::NOT_IMPLEMENTED, SERVER_ERROR, "embeddings_not_supported", message).finally()
    }

    /// The upstream answered with something else than what was asked for.
    #[must_use]
    pub fn unreadable_answer() -> Self {
        let message = "The upstream gave an answer that cannot be read. This is not the fault of your request; try \
                       again later.";
        Self::new(StatusCode::BAD_GATEWAY, SERVER_ERROR, "upstream_error", message).finally()
    }

    /// This server has no identities of its own to act on.
    #[must_use]
    pub fn not_in_client_mode() -> Self {
        let message = "In client mode the server keeps no accounts, so there is nothing to refresh or to log in.";
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "client_mode", message)
    }

    /// The owner's routes are closed because there is no key for them.
    #[must_use]
    pub fn no_admin_key() -> Self {
        let message = "This route is for the owner of the server and is closed: set ADMIN_SECRET_KEY where the server \
                       runs, then send it as 'Authorization: Bearer KEY' or as 'x-admin-key: KEY'.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, "admin_key_not_set", message).finally()
    }

    /// The same failure under another word for what failed, as some clients know it.
    #[must_use]
    pub fn typed(self, kind: &'static str) -> Self {
        Self { kind, ..self }
    }

    /// A login was asked after without saying which.
    #[must_use]
    pub fn no_flow_id() -> Self {
        let message = "Which login? Send the flow_id that its beginning was answered with: {\"flow_id\": \"…\"}.";
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_request", "missing_required_parameter", message);
        Self { param: Some("flow_id".to_owned()), ..error }
    }

    /// There is no such login, or not any more.
    #[must_use]
    pub fn login_not_found() -> Self {
        let message = "There is no login of this flow_id, or it ended long ago. Begin one anew.";
        Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, "login_not_found", message)
    }

    /// A text that is no name of an account. `why` says what one is.
    #[must_use]
    pub fn invalid_account(why: impl std::fmt::Display) -> Self {
        let message = sentence(&why.to_string());
        let error = Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "invalid_value", message);
        Self { param: Some("account".to_owned()), ..error }
    }

    /// Whoever logs accounts in failed.
    #[must_use]
    pub fn of_login_service(error: &UpstreamError) -> Self {
        use UpstreamErrorKind as Kind;
        let said = if error.detail.is_empty() { String::new() } else { format!(" It said: {}", error.detail) };
        match error.kind {
            Kind::Challenged => Self::challenged(None),
            Kind::RateLimited | Kind::QuotaExhausted { .. } => Self::logins_limited(error.retry_after),
            Kind::Timeout => {
                let message = "Qwen's login service did not answer in time. Try again in a moment.";
                Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER_ERROR, "upstream_timeout", message).finally()
            }
            _ => {
                let message = format!(
                    "Qwen's login service failed. Try again in a moment; if that does not help, see whether this \
                     machine reaches it (QWEN_OAUTH_BASE_URL).{said}"
                );
                Self::new(StatusCode::BAD_GATEWAY, SERVER_ERROR, "upstream_error", message).finally()
            }
        }
    }

    fn logins_limited(wait: Option<Duration>) -> Self {
        let message = "Qwen's login service has had enough of logins for now. Begin one anew later.";
        let wait = wait.unwrap_or(Duration::from_secs(WAIT_SECONDS_MAX));
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded", message).after(Some(wait))
    }

    /// The server is going down.
    #[must_use]
    pub fn shutting_down() -> Self {
        let message = "The server is shutting down and ended this answer. Try again in a moment.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, "shutting_down", message)
            .after(Some(Duration::from_secs(1)))
    }

    /// A bug of ours.
    #[must_use]
    pub fn internal() -> Self {
        let message = "Something went wrong inside this server. Its log tells more under the request's id.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER_ERROR, "internal_error", message)
    }

    /// The word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code.unwrap_or("error")
    }

    /// The error body.
    #[must_use]
    pub fn body(&self) -> ErrorBody<'_> {
        ErrorBody {
            error: ErrorDetail {
                message: &self.message,
                kind: self.kind,
                param: self.param.as_deref(),
                code: self.code,
            },
        }
    }

    fn of_upstream(error: &UpstreamError, attempts: u32) -> Self {
        use UpstreamErrorKind as Kind;
        let said = if error.detail.is_empty() { String::new() } else { format!(" It said: {}", error.detail) };
        let tries = if attempts > 1 { format!(" on {attempts} attempts") } else { String::new() };
        let failed = |code, what: &str| {
            let message = format!("{what}{tries}. This is not the fault of your request; try again later.{said}");
            Self::new(StatusCode::BAD_GATEWAY, SERVER_ERROR, code, message).finally()
        };
        match error.kind {
            Kind::Unauthorized | Kind::Forbidden => Self::no_account("The upstream refuses the account's session."),
            Kind::RateLimited => {
                let message = format!("The upstream limits how often it may be asked.{said}");
                let wait = error.retry_after.unwrap_or(Duration::from_secs(WAIT_SECONDS_MAX));
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded", message)
                    .after(Some(wait))
            }
            Kind::QuotaExhausted { hours } => {
                let message = format!("The upstream's quota of every account is used up.{said}");
                let wait = hours.map(|hours| Duration::from_secs(hours.saturating_mul(3600))).or(error.retry_after);
                let error =
                    Self::new(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", "insufficient_quota", message);
                error.after(wait).finally()
            }
            Kind::Challenged => Self::challenged(None),
            Kind::ContentPolicy => {
                let message = format!("The upstream's content policy refused this conversation.{said}");
                Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "content_filter", message)
            }
            Kind::InvalidRequest => {
                let message = format!("The upstream finds this request wrong.{said}");
                Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "rejected_by_upstream", message)
            }
            Kind::ModelNotFound => {
                let message = format!("The upstream does not have this model.{said}");
                let error = Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, "model_not_found", message);
                Self { param: Some("model".to_owned()), ..error }
            }
            Kind::TooLarge => {
                let message = "The upstream refuses a request of this size: shorten or drop older messages to stay \
                               under its maximum context length for one request, about 100 kB.";
                let error =
                    Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, "context_length_exceeded", message);
                Self { param: Some("messages".to_owned()), ..error }
            }
            Kind::TooLong => {
                let message = format!("The messages are longer than this model's maximum context length.{said}");
                let error = Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "context_length_exceeded", message);
                Self { param: Some("messages".to_owned()), ..error }
            }
            Kind::Timeout => {
                let message =
                    format!("The upstream did not answer in time{tries}. Try again later, or ask for less.{said}");
                Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER_ERROR, "upstream_timeout", message).finally()
            }
            Kind::Truncated => failed("upstream_truncated", "The upstream broke off its answer"),
            Kind::Empty => failed("upstream_empty", "The upstream gave an empty answer"),
            Kind::LostChat | Kind::BusyChat | Kind::Unavailable | Kind::Protocol => {
                failed("upstream_error", "The upstream failed")
            }
        }
    }

    fn no_account(why: &str) -> Self {
        let message = format!(
            "{why} The owner of this server has to log the account in again: with a new cookie from chat.qwen.ai, with \
             `qwen-bridge auth add`, or with a new key, whichever it has."
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, "no_available_account", message).finally()
    }

    fn challenged(wait: Option<Duration>) -> Self {
        let message = "The upstream wants a human: the owner of this server has to open chat.qwen.ai in a browser, \
                       pass its check and wait a few minutes. Nothing is sent meanwhile.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, "upstream_challenge", message).after(wait)
    }
}

impl From<&StartError> for ApiError {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::TooMany => {
                let message = format!(
                    "{}. An unfinished one ends when its code does.",
                    sentence(&error.to_string()).trim_end_matches('.')
                );
                let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "server_busy", message);
                error.after(Some(Duration::from_secs(WAIT_SECONDS_MAX)))
            }
            StartError::Upstream(error) => Self::of_login_service(error),
        }
    }
}

impl From<&LoginFailure> for ApiError {
    fn from(failure: &LoginFailure) -> Self {
        let over = |status, code, message: &str| Self::new(status, INVALID_REQUEST, code, message).finally();
        match failure {
            LoginFailure::Denied => {
                let message = "The owner of the account said no. Begin a login anew and agree to it in the browser.";
                over(StatusCode::BAD_REQUEST, "login_denied", message)
            }
            LoginFailure::Expired => {
                let message = "The code of this login is not good any more. Begin one anew and agree to it in time.";
                over(StatusCode::GONE, "login_expired", message)
            }
            LoginFailure::Cancelled => {
                let message = "This login was taken back: a later one of the same account was begun, or the server \
                               stops. Go on with that one.";
                over(StatusCode::GONE, "login_cancelled", message)
            }
            LoginFailure::RateLimited { retry_after } => Self::logins_limited(*retry_after),
            LoginFailure::Failed(why) => {
                let message = format!("Nothing came of this login: {} Begin one anew.", sentence(why));
                Self::new(StatusCode::BAD_GATEWAY, SERVER_ERROR, "login_failed", message).finally()
            }
        }
    }
}

impl From<&AccountError> for ApiError {
    fn from(error: &AccountError) -> Self {
        match error {
            AccountError::Upstream(_, error) => Self::of_login_service(error),
            AccountError::NeedsLogin(_) | AccountError::Gone(_) | AccountError::File(..) | AccountError::Failed(_) => {
                let message = format!("{} The server's log tells more.", sentence(&error.to_string()));
                let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, "no_available_account", message);
                error.after(Some(Duration::from_secs(30)))
            }
        }
    }
}

impl From<NoUpstream> for ApiError {
    fn from(missing: NoUpstream) -> Self {
        Self::model_not_found(&missing.0)
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let (status, code) = match error.kind {
            RequestErrorKind::InvalidBody => (StatusCode::BAD_REQUEST, "invalid_type"),
            RequestErrorKind::Missing => (StatusCode::BAD_REQUEST, "missing_required_parameter"),
            RequestErrorKind::InvalidType => (StatusCode::BAD_REQUEST, "invalid_type"),
            RequestErrorKind::InvalidValue => (StatusCode::BAD_REQUEST, "invalid_value"),
            RequestErrorKind::EmptyArray => (StatusCode::BAD_REQUEST, "empty_array"),
            RequestErrorKind::UnsupportedParameter => (StatusCode::BAD_REQUEST, "unsupported_parameter"),
            RequestErrorKind::UnsupportedValue => (StatusCode::BAD_REQUEST, "unsupported_value"),
            RequestErrorKind::ModelNotFound => (StatusCode::NOT_FOUND, "model_not_found"),
            RequestErrorKind::TooLong => (StatusCode::BAD_REQUEST, "context_length_exceeded"),
            RequestErrorKind::InvalidFile => (StatusCode::BAD_REQUEST, "invalid_file"),
            RequestErrorKind::UnsupportedFile => (StatusCode::BAD_REQUEST, "unsupported_file_type"),
            RequestErrorKind::FileTooLarge => (StatusCode::BAD_REQUEST, "file_too_large"),
            RequestErrorKind::FileUnreachable => (StatusCode::BAD_REQUEST, "file_unreachable"),
            RequestErrorKind::TooManyFiles => (StatusCode::BAD_REQUEST, "too_many_files"),
        };
        Self { param: error.param, ..Self::new(status, INVALID_REQUEST, code, error.message) }
    }
}

impl From<LeaseError> for ApiError {
    fn from(error: LeaseError) -> Self {
        let message = sentence(&error.to_string());
        let unavailable =
            || Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, "no_available_account", message.clone());
        let limited = |kind, code| Self::new(StatusCode::TOO_MANY_REQUESTS, kind, code, message.clone());
        match error {
            LeaseError::NoneConfigured => unavailable().finally(),
            LeaseError::Unusable { retry_after, .. } => unavailable().after(retry_after),
            LeaseError::AllTried => unavailable().finally(),
            LeaseError::Busy { retry_after } => limited("rate_limit_error", "server_busy").after(Some(retry_after)),
            LeaseError::Resting { reason: CoolingReason::Rate, retry_after } => {
                limited("rate_limit_error", "rate_limit_exceeded").after(Some(retry_after))
            }
            LeaseError::Resting { reason: CoolingReason::Quota, retry_after } => {
                limited("insufficient_quota", "insufficient_quota").after(Some(retry_after)).finally()
            }
            LeaseError::Resting { reason: CoolingReason::Challenge, retry_after }
            | LeaseError::Paused { retry_after } => Self::challenged(Some(retry_after)),
        }
    }
}

impl From<&ChatError> for ApiError {
    fn from(error: &ChatError) -> Self {
        match error {
            ChatError::Lease(error) => (*error).into(),
            ChatError::Upstream { error, attempts } => Self::of_upstream(error, *attempts),
            ChatError::OwnCredential(_) => Self::new(
                StatusCode::UNAUTHORIZED,
                "authentication_error",
                "upstream_unauthorized",
                "The upstream refuses the token and cookie that you sent. Log in at chat.qwen.ai and copy them anew.",
            ),
            ChatError::AccountGone => Self::no_account("The account that this was begun in was removed."),
            ChatError::NotKept(_) => Self::internal(),
            ChatError::Session(RefreshError::Refused { .. }) => {
                Self::no_account("The upstream refuses the account's session.")
            }
            ChatError::Session(RefreshError::Failed { .. }) => {
                let message =
                    "No account has a usable token right now; a new one is being fetched. Try again in a moment.";
                let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, "no_available_account", message);
                error.after(Some(Duration::from_secs(30)))
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.is_final {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        } else if self.retry_after.is_some() {
            headers.insert("x-should-retry", HeaderValue::from_static("true"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // An error body is plain strings and always serialises.
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (self.status, headers, body).into_response();
        response.extensions_mut().insert(ErrorCode(self.code()));
        response
    }
}

/// An error's words as a sentence for people.
fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// The code of an error answer, for the request's log line.
#[derive(Clone, Copy, Debug)]
pub struct ErrorCode(pub &'static str);
