//! The JSON shapes in which owners read about OAuth accounts. The keys are those of this project's forerunners; no
//! answer holds a token.

use serde::Serialize;

/// The body of `GET /auth` when an account is usable.
#[derive(Debug, Serialize)]
pub(crate) struct Authenticated<'a> {
    /// Always `true` in this answer.
    pub authenticated: bool,
    /// Sentence that names the account.
    pub message: &'a str,
    /// URL of the account's API; `null` when its credentials name a host that gets no token.
    pub resource_url: Option<&'a str>,
}

/// The body of `GET /auth` when a login is needed.
#[derive(Debug, Serialize)]
pub(crate) struct NotAuthenticated<'a> {
    /// Always `false` in this answer.
    pub authenticated: bool,
    /// Instruction for the owner.
    pub message: &'a str,
    /// Always `authentication_initiated`: a login has begun.
    pub status: &'static str,
    /// Codes and links of the login.
    #[serde(flatten)]
    pub login: Login<'a>,
}

/// The body of `POST /v1/debug/auth/initiate`.
#[derive(Debug, Serialize)]
pub(crate) struct Initiated<'a> {
    /// Always `pending`: the owner has to confirm the login.
    pub status: &'static str,
    /// Instruction for the owner.
    pub message: &'a str,
    /// Codes and links of the login.
    #[serde(flatten)]
    pub login: Login<'a>,
}

/// A login that waits for its owner.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Login<'a> {
    /// URL where the owner types the code in.
    pub verification_uri: &'a str,
    /// The same URL with the code in it.
    pub verification_uri_complete: &'a str,
    pub user_code: &'a str,
    /// Seconds that the owner has left.
    pub expires_in: u64,
    /// Seconds between two polls of its state.
    pub interval: u64,
    /// Id by which its state is polled.
    pub flow_id: &'a str,
}

/// The body of `POST /v1/debug/auth/poll` without an error, and of `DELETE /v1/debug/token`.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome<'a> {
    /// `pending`, or `success` when the login has ended.
    pub status: &'static str,
    /// The status as a sentence for people.
    pub message: &'a str,
}

/// The body of `GET /v1/debug/auth/test`.
#[derive(Debug, Serialize)]
pub(crate) struct AuthTest<'a> {
    /// `authenticated`, `not_authenticated` or `authentication_failed`.
    pub status: &'static str,
    /// Name of the account, or the reason of the failure.
    pub message: &'a str,
    /// Whether the account has a token that has not expired.
    pub has_token: bool,
}

/// The body of `GET /v1/debug/token`.
#[derive(Debug, Serialize)]
pub(crate) struct TokenReport<'a> {
    pub service: &'static str,
    /// Always `active`, as the forerunner sent it.
    pub status: &'static str,
    /// Whether a token is in memory.
    pub cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<&'a str>,
    /// Moment at which the token was taken over, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_at: Option<String>,
    /// End of the token, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Whole seconds until the end; negative afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_until_expiry_seconds: Option<i64>,
    /// Whether the token has expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_expired: Option<bool>,
    /// Reason why no token is in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'static str>,
}

/// The body of `GET /v1/debug/account/{id}`.
#[derive(Debug, Serialize)]
pub(crate) struct AccountReport<'a> {
    /// Id of the account in the request.
    pub account: &'a str,
    /// `found`, or `not_found` for an unknown id.
    pub status: &'static str,
    /// Advice when the account is missing or not usable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Facts about its credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsReport<'a>>,
}

/// Facts about credentials, without the secrets in them.
#[derive(Debug, Serialize)]
pub(crate) struct CredentialsReport<'a> {
    /// Whether they hold an access token.
    pub has_access_token: bool,
    /// Whether they hold a refresh token, by which they can be renewed.
    pub has_refresh_token: bool,
    /// `token_type` of the credentials, such as `Bearer`.
    pub token_type: &'a str,
    /// End of the access token, in Unix milliseconds.
    pub expiry_date: Option<i64>,
    /// The same moment in RFC 3339.
    pub expiry_date_iso: Option<String>,
    /// Milliseconds until the end; negative afterwards.
    pub time_until_expiry_ms: Option<i64>,
    /// The same time in whole minutes.
    pub time_until_expiry_min: Option<i64>,
    /// Whether the access token has expired.
    pub is_expired: Option<bool>,
    /// URL of the account's API, as the credentials name it.
    pub resource_url: Option<&'a str>,
}
