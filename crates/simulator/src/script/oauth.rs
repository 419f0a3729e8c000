//! How a scripted device login, and what the token endpoint of Qwen's OAuth gives, differ from the ordinary.

use serde::Deserialize;
use serde_json::{Value, json};

/// What a device login is like, at `device_code`; it counts for the whole login.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceScript {
    /// The code that the owner types. Left out: an invented one.
    pub user_code: Option<String>,
    /// How long the codes are good.
    pub expires_in: u64,
    /// Seconds between two polls; `null`: the answer does not say.
    pub interval: Option<u64>,
    /// The answer has no `verification_uri_complete`.
    pub lacks_complete_uri: bool,
    /// What the first polls are answered, one each.
    pub polls: Vec<OAuthFailure>,
    /// How many polls after these are told to wait.
    pub pending: u64,
    /// What the owner does then.
    pub approval: Approval,
    /// Who signs in. Left out: the first OAuth account.
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

/// What the owner does with a device login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Says yes.
    #[default]
    Granted,
    /// Says no.
    Denied,
    /// Waits until the test says something.
    Awaited,
}

/// What the token endpoint gives, at `device_token` and `refresh_token`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenScript {
    /// How long the access token lives, and is said to live. Left out: as the account has it.
    pub expires_in: Option<u64>,
    /// The answer does not say how long.
    pub lacks_expires_in: bool,
    /// What becomes of the refresh token. Left out: as the account has it.
    pub refresh_token: Option<TokenRotation>,
    /// Left out: as the account has it.
    pub resource_url: Option<ResourceUrl>,
    /// `access_token` is `null`, and nothing has happened: the next call is as good as this one.
    pub null_access_token: bool,
    /// What is left of the answer on its way. Whatever it is, the tokens have been given.
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
    /// The answer has none, and the old one stays good. After a device login there is none at all.
    Absent,
}

/// Where the answer says that the API is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceUrl {
    /// At the portal of this run.
    #[default]
    Portal,
    /// It does not say.
    Absent,
    /// Here: a bare host, or a URL.
    Other(String),
}

/// What is left of an answer on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenBody {
    /// All of it.
    #[default]
    Whole,
    /// Nothing but the head.
    Empty,
    /// The head, and then something that is not JSON.
    NotJson,
    /// Nothing: the connection is reset.
    Lost,
}

/// What the device and token endpoints say in the place of what they were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OAuthFailure {
    /// 400: the owner has not decided yet.
    AuthorizationPending,
    /// 400: poll less often.
    SlowDown,
    /// 429: poll less often.
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
    /// 401.
    Unauthorized,
    /// 429 that is no `slow_down`, with this `Retry-After`.
    RateLimited(String),
    /// 200 with `{"status":"pending"}`.
    PendingOk {
        /// With `"slowDown":true`.
        #[serde(default)]
        slow_down: bool,
    },
    /// 200 with this `error`.
    ErrorOk(String),
    /// Any other.
    Other(OAuthErrorScript),
}

/// A refusal in the form of RFC 6749.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuthErrorScript {
    /// The HTTP status.
    pub status: u16,
    /// `invalid_request`, …
    pub error: String,
    /// `error_description`; left out: there is none.
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
