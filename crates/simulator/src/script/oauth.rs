//! Scripts for device logins and for the token endpoint of Qwen's OAuth.

use serde::Deserialize;
use serde_json::{Value, json};

/// The script of a device login, at `device_code`; it is valid for the whole login.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceScript {
    /// The code that the owner types. Left out: an invented one.
    pub user_code: Option<String>,
    /// Lifetime of both codes in seconds. Left out: 900.
    pub expires_in: u64,
    /// `interval`: seconds between two polls; `null`: the answer has none. Left out: 2.
    pub interval: Option<u64>,
    /// The answer has no `verification_uri_complete`.
    pub lacks_complete_uri: bool,
    /// Failures that answer the first polls, one for each poll.
    pub polls: Vec<OAuthFailure>,
    /// Polls after these that answer `authorization_pending`. Left out: 1.
    pub pending: u64,
    /// The owner's decision after these polls.
    pub approval: Approval,
    /// Name of the OAuth account that signs in. Left out: the first one.
    pub account: Option<String>,
}

impl Default for DeviceScript {
    fn default() -> Self {
        Self {
            user_code: None,
            expires_in: 900,
            interval: Some(2),
            lacks_complete_uri: false,
            polls: Vec::new(),
            pending: 1,
            approval: Approval::default(),
            account: None,
        }
    }
}

/// The owner's decision about a device login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// The owner approves; the next poll gets tokens.
    #[default]
    Granted,
    /// The owner denies; the next poll gets `access_denied`.
    Denied,
    /// Undecided until `OAuthAccounts::approve` or `deny` is called; polls get `authorization_pending`.
    Awaited,
}

/// The script of a token answer, at `device_token` and `refresh_token`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenScript {
    /// Lifetime of the access token in seconds, also its `expires_in`. Left out: the account's.
    pub expires_in: Option<u64>,
    /// Whether the answer lacks `expires_in`.
    pub lacks_expires_in: bool,
    /// What happens to the refresh token. Left out: the account's `refresh_rotation`.
    pub refresh_token: Option<TokenRotation>,
    /// Left out: as the account has it.
    pub resource_url: Option<ResourceUrl>,
    /// Whether `access_token` is `null`; no token is given or rotated, so that the call can be repeated.
    pub null_access_token: bool,
    /// How much of the answer arrives. The tokens are given in every case.
    pub body: TokenBody,
}

/// What a refresh does to the refresh token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenRotation {
    /// The answer has a new one, and the old one is dead at once.
    #[default]
    New,
    /// The answer repeats it.
    Same,
    /// The answer has none, and the old one stays valid. After a device login the account has no refresh token.
    Absent,
}

/// The `resource_url` of a token answer: where the API is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceUrl {
    /// At the portal of this run.
    #[default]
    Portal,
    /// The answer has no `resource_url`.
    Absent,
    /// This text: a bare host, or a URL.
    Other(String),
}

/// How much of an answer arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenBody {
    /// Head and body, unchanged.
    #[default]
    Whole,
    /// The head, with an empty body.
    Empty,
    /// The head, with a body that is not JSON.
    NotJson,
    /// Neither: the connection is reset.
    Lost,
}

/// Failures of the device and token endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OAuthFailure {
    /// 400: the owner has not decided yet.
    AuthorizationPending,
    /// 400 `slow_down`: the client polls too often.
    SlowDown,
    /// 429 `slow_down`: the client polls too often.
    #[serde(rename = "slow_down_429")]
    SlowDown429,
    /// 400: the device code is over.
    ExpiredToken,
    /// 400: the owner said no.
    AccessDenied,
    /// 400: the code is unknown.
    InvalidGrant,
    /// 400: what a dead refresh token is told.
    InvalidRefreshToken,
    /// 401 `invalid_client`: the device code has expired or is invalid.
    Unauthorized,
    /// 429 `too_many_requests` with this `Retry-After`.
    RateLimited(String),
    /// 200 with `{"status":"pending"}` in place of an OAuth error.
    PendingOk {
        /// Whether the body also has `"slowDown":true`. Left out: `false`.
        #[serde(default)]
        slow_down: bool,
    },
    /// 200 with this `error`.
    ErrorOk(String),
    /// Any other refusal, spelled out field by field.
    Other(OAuthErrorScript),
}

/// A refusal in the form of RFC 6749.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuthErrorScript {
    /// HTTP status of the answer.
    pub status: u16,
    /// `error` of the body, such as `invalid_request`.
    pub error: String,
    /// `error_description` of the body; left out: the body has none.
    #[serde(default)]
    pub description: Option<String>,
    /// `Retry-After` values, one header each; any text.
    #[serde(default)]
    pub retry_after: Vec<String>,
}

impl OAuthErrorScript {
    /// A refusal with a description.
    #[must_use]
    pub fn new(status: u16, error: &str, description: &str) -> Self {
        Self { status, error: error.to_owned(), description: Some(description.to_owned()), retry_after: Vec::new() }
    }

    fn body(&self) -> Value {
        match &self.description {
            Some(description) => json!({ "error": self.error, "error_description": description }),
            None => json!({ "error": self.error }),
        }
    }
}

/// A refusal as it goes over the wire.
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) retry_after: Vec<String>,
}

impl OAuthFailure {
    pub(crate) fn spelled(&self) -> Refusal {
        let error = match self {
            Self::AuthorizationPending => {
                OAuthErrorScript::new(400, "authorization_pending", "The authorization request is still pending")
            }
            Self::SlowDown => OAuthErrorScript::new(400, "slow_down", SLOW_DOWN),
            Self::SlowDown429 => OAuthErrorScript::new(429, "slow_down", SLOW_DOWN),
            Self::ExpiredToken => OAuthErrorScript::new(400, "expired_token", "The device code has expired"),
            Self::AccessDenied => OAuthErrorScript::new(400, "access_denied", "The request was denied by the user"),
            Self::InvalidGrant => OAuthErrorScript::new(400, "invalid_grant", "Invalid device code"),
            Self::InvalidRefreshToken => {
                OAuthErrorScript::new(400, "invalid_request", "Invalid refresh token or client_id")
            }
            Self::Unauthorized => OAuthErrorScript::new(401, "invalid_client", "Device code expired or invalid"),
            Self::RateLimited(wait) => OAuthErrorScript {
                retry_after: vec![wait.clone()],
                ..OAuthErrorScript::new(429, "too_many_requests", "Too many requests")
            },
            Self::PendingOk { slow_down } => {
                let body = if *slow_down {
                    json!({ "status": "pending", "slowDown": true })
                } else {
                    json!({ "status": "pending" })
                };
                return Refusal { status: 200, body, retry_after: Vec::new() };
            }
            Self::ErrorOk(error) => OAuthErrorScript::new(200, error, "As the script wants it"),
            Self::Other(error) => error.clone(),
        };
        Refusal { status: error.status, body: error.body(), retry_after: error.retry_after }
    }
}

const SLOW_DOWN: &str = "Polling too frequently";
