//! Refusals by this side of HTTP: each message names the fault and its remedy.
//!
//! This is one long file because it is a list: each refusal is a few lines of text.

use std::fmt::Display;
use std::time::Duration;

use http::Method;

use crate::base::caller_key::KeyName;
use crate::chat::failure::{Failure, FailureKind, WAIT_MAX};
use crate::gateway::caller_keys::{KeyError, KeyOrigin};
use crate::gateway::usage::{LIMIT_CODE, LimitReached};
use crate::http::serve::paths::nearest;
use crate::upstream::words::cleaned;

/// Most characters of a caller's path or model that a message repeats.
const SHOWN_MAX: usize = 100;
/// Most characters of a caller's method that a message repeats. The longest of a standard has 16.
pub(crate) const SHOWN_METHOD_MAX: usize = 20;
/// Most characters of a caller's content type that a message repeats.
const SHOWN_TYPE_MAX: usize = 60;

/// Refusals of callers, by key, host, origin or rate.
impl Failure {
    /// The key is missing or wrong, or the client-mode credential has the wrong form.
    #[must_use]
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Unauthenticated, "invalid_api_key", message)
    }

    /// The `Host` header names a host that an open server on loopback does not have.
    #[must_use]
    pub fn wrong_host() -> Self {
        let message = "This server runs without a key and answers only to names of this machine (localhost). \
                       Set API_KEY to reach it under another name.";
        Self::new(FailureKind::Forbidden, "host_not_allowed", message)
    }

    /// The `Origin` header names a page that an open server on loopback does not serve.
    #[must_use]
    pub fn wrong_origin() -> Self {
        let message = "This server runs without a key and answers only to pages of this machine (localhost). Set \
                       API_KEY, or name the page's origin in CORS_ORIGINS.";
        Self::new(FailureKind::Forbidden, "origin_not_allowed", message)
    }

    /// The owner's routes are closed because no admin key is set.
    #[must_use]
    pub fn no_admin_key() -> Self {
        let message = "This route is for the owner of the server and is closed: set ADMIN_SECRET_KEY where the server \
                       runs, then send it as 'Authorization: Bearer KEY' or as 'x-admin-key: KEY'.";
        Self::new(FailureKind::Unavailable, "admin_key_not_set", message).finally()
    }

    /// The caller's key has used up its daily limit (`KEY_LIMITS`).
    #[must_use]
    pub(crate) fn key_limit_reached(reached: &LimitReached) -> Self {
        let LimitReached { key, what, limit, wait } = reached;
        let message = format!(
            "Your key '{key}' has used its {limit} {what} of today. It can be used again after midnight UTC; the owner of \
             this server can allow more (KEY_LIMITS)."
        );
        Self::new(FailureKind::QuotaExhausted, LIMIT_CODE, message).after(Some(*wait)).finally()
    }

    /// A change came from a page of another origin, or the session of the printed link is used under a foreign name.
    #[must_use]
    pub fn foreign_page() -> Self {
        let message = "The owner's routes take a session from their own page only, and a session of the printed link \
                       only under a name of this machine (localhost). Scripts send the admin key as \
                       'Authorization: Bearer KEY'.";
        Self::new(FailureKind::Forbidden, "origin_not_allowed", message)
    }

    /// A change by the page's session lacks the token, or has one of another session.
    #[must_use]
    pub fn missing_csrf_token() -> Self {
        let message = "The header x-csrf-token is missing or is not the token of this session. Reload the page; \
                       GET /admin/session gives the token.";
        Self::new(FailureKind::Forbidden, "csrf_token_missing", message)
    }

    /// The path is not below `BASE_PATH`.
    #[must_use]
    pub fn outside_base_path(path: &str, base: &str) -> Self {
        let shown: String = path.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
        let message = format!("There is no '{shown}' here. This server answers below '{base}/' (BASE_PATH).");
        Self::new(FailureKind::NotFound, "unknown_url", message)
    }

    /// The caller sends more requests than `RATE_LIMIT_RPS` allows.
    #[must_use]
    pub fn too_many_requests(wait: Duration) -> Self {
        let message = "Rate limit exceeded: this server takes no more requests from you for now (RATE_LIMIT_RPS). Wait \
                       for the time that Retry-After names.";
        Self::new(FailureKind::RateLimited, "rate_limit_exceeded", message).after(Some(wait))
    }

    /// Too many wrong keys came from the caller's address.
    #[must_use]
    pub fn too_many_wrong_keys(wait: Duration) -> Self {
        let message = "Too many wrong keys came from your address. Wait for the time that Retry-After names, and send \
                       the right key.";
        Self::new(FailureKind::RateLimited, "too_many_wrong_keys", message).after(Some(wait)).finally()
    }

    /// The route needs accounts of the server, which client mode does not have.
    #[must_use]
    pub fn not_in_client_mode() -> Self {
        let message = "In client mode the server keeps no accounts, so there is nothing to refresh or to log in.";
        Self::new(FailureKind::Invalid, "client_mode", message)
    }
}

/// Refusals of paths and methods.
impl Failure {
    /// No route has this path; the message suggests the most similar one.
    #[must_use]
    pub fn unknown_path(path: &str) -> Self {
        let shown: String = path.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
        let hint = match nearest(path) {
            Some(endpoint) => format!(" Did you mean '{endpoint}'?"),
            None if is_base_url(path) => {
                " This is the base URL of OpenAI's clients, best written without a slash at the end; they add \
                 '/chat/completions' to it. The base URL of Anthropic's clients has no '/v1'."
                    .to_owned()
            }
            None if path.len() > 1 && path.ends_with('/') => " Try it without the slash at the end.".to_owned(),
            None => " GET / lists the endpoints.".to_owned(),
        };
        Self::new(FailureKind::NotFound, "unknown_url", format!("There is no '{shown}' here.{hint}"))
    }

    /// The path exists, but not for this method. A path that ends as an endpoint does, such as
    /// `/v1/models/chat/completions`, may have been meant as that endpoint.
    #[must_use]
    pub fn wrong_method(method: &Method, path: &str) -> Self {
        let shown: String = method.as_str().chars().take(SHOWN_METHOD_MAX).collect();
        let hint = match nearest(path) {
            Some(endpoint) => format!(" Did you mean '{endpoint}'?"),
            None if path == "/" && method == Method::POST => {
                " Chats go to '/v1/chat/completions' or '/v1/messages': the base URL of OpenAI's clients ends with \
                 '/v1'."
                    .to_owned()
            }
            None => String::new(),
        };
        let message = format!("{shown} is not supported for this path; the header Allow names what is.{hint}");
        Self::new(FailureKind::WrongMethod, "method_not_supported", message)
    }
}

/// Whether the path is a base URL that clients put in front of an endpoint.
fn is_base_url(path: &str) -> bool {
    path.trim_matches('/') == "v1"
}

impl Failure {
    /// The body is larger than `MAX_BODY`.
    #[must_use]
    pub fn body_too_large(limit_bytes: usize) -> Self {
        let message = format!("The request body is larger than {limit_bytes} bytes (MAX_BODY).");
        Self::new(FailureKind::TooLarge, "request_too_large", message)
    }

    /// A text field of a form is longer than what is read of one.
    #[must_use]
    pub fn field_too_large(field: &str, limit_bytes: usize) -> Self {
        let shown: String = field.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
        let message = format!("The form's field '{shown}' is larger than {limit_bytes} bytes. Send a shorter text.");
        Self::new(FailureKind::TooLarge, "request_too_large", message)
    }

    /// The JSON without its files is larger than `MAX_JSON`.
    #[must_use]
    pub fn json_too_large(limit_bytes: usize) -> Self {
        let message = format!(
            "The request body is larger than {limit_bytes} bytes without the files in it (MAX_JSON). Send long texts \
             as files, or fewer messages."
        );
        Self::new(FailureKind::TooLarge, "request_too_large", message)
    }

    /// The body has more keys or values than the limit, which `message` names.
    #[must_use]
    pub fn too_complex(message: impl Into<String>) -> Self {
        Self::new(FailureKind::TooLarge, "request_too_large", message)
    }

    /// The body has a list that is too long, or is nested too deeply. `message` names the limit.
    #[must_use]
    pub fn invalid_shape(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(FailureKind::Invalid, code, message)
    }

    /// The bodies under way take all the memory that is meant for them.
    #[must_use]
    pub fn too_many_bodies() -> Self {
        let message = "This server is reading as many large requests as it can at once. Try again in a moment.";
        Self::new(FailureKind::RateLimited, "server_busy", message).after(Some(Duration::from_secs(1)))
    }

    /// Every place for a connection is taken by one with a request under way.
    #[must_use]
    pub fn too_many_connections() -> Self {
        let message = "This server has as many requests under way as it can hold. Try again in a moment.";
        Self::new(FailureKind::RateLimited, "server_busy", message).after(Some(Duration::from_secs(1)))
    }

    /// The content type is not one of JSON.
    #[must_use]
    pub fn wrong_content_type(content_type: &str) -> Self {
        let shown: String = content_type.chars().filter(|c| !c.is_control()).take(SHOWN_TYPE_MAX).collect();
        let message = format!("The content type '{shown}' is not supported; send 'application/json'.");
        Self::new(FailureKind::UnsupportedMedia, "unsupported_media_type", message)
    }

    /// The body is encoded in a way that is not decoded here.
    #[must_use]
    pub fn unsupported_encoding() -> Self {
        let message = "The Content-Encoding of the request body is not supported; send it plain, or with gzip or zstd.";
        Self::new(FailureKind::UnsupportedMedia, "unsupported_encoding", message)
    }

    /// The body cannot be read as JSON.
    #[must_use]
    pub fn invalid_json(line: usize, column: usize) -> Self {
        let message = format!("The request body is not valid JSON (line {line}, column {column}).");
        Self::new(FailureKind::Invalid, "invalid_json", message)
    }

    /// The body begins as UTF-16 does and is not valid UTF-16.
    #[must_use]
    pub fn broken_utf16() -> Self {
        let message = "The request body begins like UTF-16 and cannot be read as such; send JSON as UTF-8.";
        Self::new(FailureKind::Invalid, "invalid_json", message)
    }

    /// The request has no body.
    #[must_use]
    pub fn empty_body() -> Self {
        Self::new(FailureKind::Invalid, "invalid_json", "The request body is empty; send a JSON object.")
    }

    /// The body cannot be read as a form.
    #[must_use]
    pub fn broken_form() -> Self {
        let message = "The body is not a readable multipart form. Send each field as its own part, with the boundary \
                       that the content type names.";
        Self::new(FailureKind::Invalid, "invalid_form", message)
    }

    /// The body broke off, or cannot be decoded.
    #[must_use]
    pub fn broken_body() -> Self {
        let message = "The request body broke off or is not encoded as its Content-Encoding says.";
        Self::new(FailureKind::Invalid, "invalid_body", message)
    }

    /// The body did not arrive within `READ_TIMEOUT`.
    #[must_use]
    pub fn body_timeout() -> Self {
        let message = "The request body did not arrive in time.";
        Self::new(FailureKind::BodyTimeout, "request_timeout", message).finally()
    }
}

/// Refusals about models, pictures, embeddings and videos.
impl Failure {
    /// No upstream has this model. `hint` follows as a sentence of its own, unless it is empty.
    #[must_use]
    pub fn model_not_found(id: &str, hint: &str) -> Self {
        let shown: String = id.chars().take(SHOWN_MAX).collect();
        let gap = if hint.is_empty() { "" } else { " " };
        let message =
            format!("The model '{shown}' does not exist.{gap}{hint} GET /v1/models lists the names that can be used.");
        Self::new(FailureKind::NotFound, "model_not_found", message).about("model")
    }

    /// The caller's key does not allow this model; its list of models does not have it.
    #[must_use]
    pub fn model_not_for_key(key: Option<&KeyName>, id: &str) -> Self {
        let shown: String = id.chars().take(SHOWN_MAX).collect();
        let key = key.map(|name| format!(" '{name}'")).unwrap_or_default();
        let message = format!(
            "Your key{key} may not use the model '{shown}'. GET /v1/models lists those that it may; the owner of this server \
             can allow more (KEY_LIMITS)."
        );
        Self::new(FailureKind::NotFound, "model_not_found", message).about("model")
    }

    /// The upstream answered without a picture. `text` is its answer.
    #[must_use]
    pub fn no_picture(text: &str, is_refused: bool) -> Self {
        let said = cleaned(text, &[], &[]);
        if is_refused {
            let message = format!("The upstream's content policy refuses this picture. {said}");
            return Self::new(FailureKind::Invalid, "content_filter", message.trim());
        }
        let message = if said.is_empty() {
            "The upstream made no picture.".to_owned()
        } else {
            format!("The upstream made no picture, but answered: {said}")
        };
        // The same prompt would get the same answer, and be charged again.
        Self::new(FailureKind::Upstream, "upstream_empty", message).finally()
    }

    /// The upstream made a picture or video that cannot be fetched from its link. `noun` names which.
    #[must_use]
    pub fn lost_result(noun: &str) -> Self {
        let message = format!("The upstream made the {noun}, but it cannot be fetched from the upstream's storage.");
        // Another try would make and charge another one.
        Self::new(FailureKind::Upstream, "upstream_error", message).finally()
    }

    /// No upstream that makes embeddings is configured.
    #[must_use]
    pub fn embeddings_not_supported() -> Self {
        let message = "The web chat makes no embeddings. The owner of this server can name an endpoint that does, \
                       with its key, in QWEN_API_KEYS.";
        Self::new(FailureKind::NotImplemented, "embeddings_not_supported", message).finally()
    }

    /// The upstream's answer is not of the form that was asked for.
    #[must_use]
    pub fn unreadable_answer() -> Self {
        let message = "The upstream gave an answer that cannot be read. This is not the fault of your request; try \
                       again later.";
        Self::new(FailureKind::Upstream, "upstream_error", message).finally()
    }
}

impl Failure {
    /// The caller has no video of this id; the answer does not tell whether another caller has.
    #[must_use]
    pub fn video_not_found() -> Self {
        let message = "There is no video of this id that belongs to your key. Videos are kept for seven days.";
        Self::new(FailureKind::NotFound, "video_not_found", message)
    }

    /// The video has no content, or not yet. `status` is its state, `why` the reason of a failure.
    #[must_use]
    pub fn video_not_ready(status: &str, why: Option<&str>) -> Self {
        let message = match why {
            None => format!("This video is not ready: its status is '{status}'. Poll until it is 'completed'."),
            Some(why) => format!("There is no video, its status is '{status}': {why}"),
        };
        Self::new(FailureKind::Invalid, "video_not_ready", message)
    }

    /// The most videos are in the making already.
    #[must_use]
    pub fn too_many_videos() -> Self {
        let message = "This server is making as many videos as it can at once. Try again when one of them is done.";
        Self::new(FailureKind::RateLimited, "server_busy", message).after(Some(WAIT_MAX))
    }

    /// An idempotency key came with two different bodies.
    #[must_use]
    pub fn idempotency_key_reused() -> Self {
        let message = "This Idempotency-Key was used with another request body before. Use a new key for a new \
                       request, and the same body for a retry.";
        Self::new(FailureKind::Invalid, "idempotency_key_reuse", message)
    }

    /// An idempotency key that is empty, too long or not text.
    #[must_use]
    pub fn invalid_idempotency_key(bytes_max: usize) -> Self {
        let message = format!("The Idempotency-Key has to be a text of 1 to {bytes_max} bytes.");
        Self::new(FailureKind::Invalid, "invalid_idempotency_key", message)
    }

    /// The requested range lies outside of the file.
    #[must_use]
    pub fn range_not_satisfiable() -> Self {
        let message = "The file is shorter than the range that was asked for.";
        Self::new(FailureKind::RangeNotSatisfiable, "range_not_satisfiable", message)
    }
}

/// Refusals about kept responses.
impl Failure {
    /// The caller has no response of this id; the answer does not tell whether another caller has.
    #[must_use]
    pub fn response_not_found(id: &str) -> Self {
        let shown: String = id.chars().take(SHOWN_MAX).collect();
        let message = format!(
            "There is no response '{shown}' that belongs to your key. It was never kept, was deleted, or is older than \
             KEEP_RESPONSES allows."
        );
        Self::new(FailureKind::NotFound, "response_not_found", message)
    }

    /// The response to be continued, or one that it continues, is not kept.
    #[must_use]
    pub fn previous_response_not_found(id: &str) -> Self {
        let shown: String = id.chars().take(SHOWN_MAX).collect();
        let message = format!(
            "The response '{shown}' cannot be continued: it, or one that it continues, was never kept, was deleted, is \
             older than KEEP_RESPONSES allows, or does not belong to your key. Send the whole conversation in 'input'."
        );
        Self::new(FailureKind::Invalid, "previous_response_not_found", message).about("previous_response_id")
    }
}

/// Refusals about logins of OAuth accounts.
impl Failure {
    /// The state of a login was asked for without its id.
    #[must_use]
    pub fn no_flow_id() -> Self {
        let message = "The field flow_id is missing. Send the one that the login was started with: \
                       {\"flow_id\": \"…\"}.";
        let failure = Self::new(FailureKind::Invalid, "missing_required_parameter", message).about("flow_id");
        failure.typed("invalid_request")
    }

    /// The login does not exist, or has ended.
    #[must_use]
    pub fn login_not_found() -> Self {
        let message = "There is no login with this flow_id, or it ended long ago. Start a new one.";
        Self::new(FailureKind::NotFound, "login_not_found", message)
    }

    /// The text is not a valid account name. `why` describes the form of names.
    #[must_use]
    pub fn invalid_account(why: impl Display) -> Self {
        Self::new(FailureKind::Invalid, "invalid_value", sentence(&why.to_string())).about("account")
    }
}

/// Refusals on the owner's routes.
impl Failure {
    /// A key cannot be made, changed or revoked.
    #[must_use]
    pub(crate) fn of_keys(error: &KeyError) -> Self {
        let said = sentence(&error.to_string());
        match error {
            KeyError::Unknown(_) => Self::unknown_key(),
            KeyError::Taken(_) => {
                let message = format!("{said} Choose another name, or revoke that key first.");
                Self::new(FailureKind::Conflict, "key_exists", message).about("name")
            }
            KeyError::NotOfThePage(_, origin) => {
                let mend = match origin {
                    KeyOrigin::Generated => "Set API_KEY, and it is not used any more.",
                    KeyOrigin::File | KeyOrigin::Page => {
                        "Change API_KEY and KEY_LIMITS where the server runs: its environment, .env or config.json."
                    }
                };
                Self::new(FailureKind::Conflict, "key_not_of_the_page", format!("{said} {mend}"))
            }
            KeyError::TooMany => {
                let message = format!("{said} Revoke some that are not used any more.");
                Self::new(FailureKind::Conflict, "too_many_keys", message)
            }
            KeyError::NotKept(_) => Self::internal(),
        }
    }

    /// No key has the name in the path of an owner's route.
    #[must_use]
    pub(crate) fn unknown_key() -> Self {
        let message = "No key has this name. GET /admin/keys lists them.";
        Self::new(FailureKind::NotFound, "key_not_found", message)
    }

    /// The body of a request to one of the owner's routes has a wrong field.
    #[must_use]
    pub(crate) fn wrong_body(why: &str) -> Self {
        Self::new(FailureKind::Invalid, "invalid_value", format!("The body cannot be used: {why}."))
    }

    /// The query of a request has a parameter that is unknown or cannot be read.
    #[must_use]
    pub(crate) fn wrong_query(why: &str) -> Self {
        let end = if why.ends_with('.') { "" } else { "." };
        Self::new(FailureKind::Invalid, "invalid_value", format!("The query cannot be read: {why}{end}"))
    }

    /// No request with this id is kept; `kept_max` ended ones are.
    #[must_use]
    pub(crate) fn request_not_kept(kept_max: usize) -> Self {
        let message = format!("No request with this id is kept. The last {kept_max} are, until the server stops.");
        Self::new(FailureKind::NotFound, "request_not_found", message)
    }
}

/// Failures of the server itself.
impl Failure {
    /// The server is stopping; answered with a retry after one second.
    #[must_use]
    pub fn shutting_down() -> Self {
        let message = "The server is shutting down and ended this answer. Try again in a moment.";
        Self::new(FailureKind::Unavailable, "shutting_down", message).after(Some(Duration::from_secs(1)))
    }

    /// A fault of this server.
    #[must_use]
    pub fn internal() -> Self {
        let message = "Something went wrong inside this server. Its log tells more under the request's id.";
        Self::new(FailureKind::Internal, "internal_error", message)
    }
}

/// The text of an error as a sentence, with a capital letter and a full stop.
pub(crate) fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}
