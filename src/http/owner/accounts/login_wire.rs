//! What the owner of a server reads about OAuth accounts. The keys of the answers are those of this project's
//! forerunners; none of them holds a token.

use serde::Serialize;

/// `GET /auth` when an account is usable.
#[derive(Debug, Serialize)]
pub(crate) struct Authenticated<'a> {
    /// `true`.
    pub authenticated: bool,
    /// Which account, for people.
    pub message: &'a str,
    /// Where it chats; null when its credentials name a place that gets no token.
    pub resource_url: Option<&'a str>,
}

/// `GET /auth` when a login is needed.
#[derive(Debug, Serialize)]
pub(crate) struct NotAuthenticated<'a> {
    /// `false`.
    pub authenticated: bool,
    /// What to do, for people.
    pub message: &'a str,
    /// `authentication_initiated`.
    pub status: &'static str,
    /// What to do it with.
    #[serde(flatten)]
    pub login: Login<'a>,
}

/// `POST /v1/debug/auth/initiate`.
#[derive(Debug, Serialize)]
pub(crate) struct Initiated<'a> {
    /// `pending`.
    pub status: &'static str,
    /// What to do, for people.
    pub message: &'a str,
    /// What to do it with.
    #[serde(flatten)]
    pub login: Login<'a>,
}

/// A login that waits for its owner.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Login<'a> {
    /// Where the owner types the code in.
    pub verification_uri: &'a str,
    /// The same with the code in it.
    pub verification_uri_complete: &'a str,
    pub user_code: &'a str,
    /// Seconds that the owner has left.
    pub expires_in: u64,
    /// Seconds between two questions how it goes.
    pub interval: u64,
    /// By which to ask how it goes.
    pub flow_id: &'a str,
}

/// `POST /v1/debug/auth/poll` without an error, and `DELETE /v1/debug/token`.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome<'a> {
    /// `pending` or `success`.
    pub status: &'static str,
    /// What that means, for people.
    pub message: &'a str,
}

/// `GET /v1/debug/auth/test`.
#[derive(Debug, Serialize)]
pub(crate) struct AuthTest<'a> {
    /// `authenticated`, `not_authenticated` or `authentication_failed`.
    pub status: &'static str,
    /// Which account, or why not.
    pub message: &'a str,
    /// Whether there is a token that is good by its own word.
    pub has_token: bool,
}

/// `GET /v1/debug/token`.
#[derive(Debug, Serialize)]
pub(crate) struct TokenReport<'a> {
    pub service: &'static str,
    /// `active`.
    pub status: &'static str,
    /// Whether a token is in memory.
    pub cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<&'a str>,
    /// Since when, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_at: Option<String>,
    /// Its end, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Whole seconds until then; negative afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_until_expiry_seconds: Option<i64>,
    /// Whether it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_expired: Option<bool>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'static str>,
}

/// `GET /v1/debug/account/{id}`.
#[derive(Debug, Serialize)]
pub(crate) struct AccountReport<'a> {
    /// The name that was asked for.
    pub account: &'a str,
    /// `found` or `not_found`.
    pub status: &'static str,
    /// What to do when there is none, or when it is not usable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What is known of its credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsReport<'a>>,
}

/// What is known of credentials, without the secrets in them.
#[derive(Debug, Serialize)]
pub(crate) struct CredentialsReport<'a> {
    /// Whether there is an access token.
    pub has_access_token: bool,
    /// Whether it can be renewed.
    pub has_refresh_token: bool,
    /// `Bearer`.
    pub token_type: &'a str,
    /// Milliseconds since 1970.
    pub expiry_date: Option<i64>,
    /// The same, RFC 3339.
    pub expiry_date_iso: Option<String>,
    /// Milliseconds until then; negative afterwards.
    pub time_until_expiry_ms: Option<i64>,
    /// The same in whole minutes.
    pub time_until_expiry_min: Option<i64>,
    /// Whether the access token is over.
    pub is_expired: Option<bool>,
    /// Where the account chats.
    pub resource_url: Option<&'a str>,
}
