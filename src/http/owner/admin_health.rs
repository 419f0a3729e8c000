//! `GET /admin/health`: how each account is, for the owner. By default it tells what is known and makes no call;
//! `?probe=1` asks the upstream about each account once, by a call that changes nothing and costs no quota. Neither
//! counts for or against an account. The shapes are those of a forerunner, which its users' scripts read.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream::{self, StreamExt as _};
use http::header::{CONTENT_TYPE, HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::base::facts::{AccountKind, CoolingReason, Usage};
use crate::base::ids::UnixSeconds;
use crate::base::session::Session;
use crate::gateway::answer::error::ChatError;
use crate::http::owner::present::{moment, prefers};
use crate::http::state::AppState;
use crate::pool::{IdentityReason, IdentityStatus, IdentityView, Now};
use crate::store::Spent;
use crate::telemetry::ErrorChain;
use crate::upstream::error::UpstreamErrorKind;

/// Accounts that are asked at once.
const PROBES_MAX: usize = 4;
/// Time limit for one account, a token renewal included.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/health", get(admin_health))
}

/// The query of the route.
#[derive(Debug, Default, Deserialize)]
struct Wishes {
    probe: Option<String>,
    format: Option<String>,
}

/// The states of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum AccountStatus {
    Healthy,
    QuotaExceeded,
    Error,
    MissingCredentials,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    account: String,
    kind: &'static str,
    status: AccountStatus,
    /// `"14 min"`, `"expired"` or `"unknown"`.
    expires_in: String,
    error: Option<String>,
    /// Whether it is not used at present.
    is_failed: bool,
    /// The HTTP status that stands for `status`: 200, 429, 401, 500, or 0 for no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_status: Option<u16>,
    /// Its counts on this UTC day.
    today: Today,
}

/// Requests and tokens of one UTC day.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Today {
    requests: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    cached_tokens: u64,
}

async fn admin_health(
    State(state): State<AppState>,
    wishes: Result<Query<Wishes>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    // A monitor with an odd query gets the usual answer.
    let wishes = wishes.map_or_else(|_| Wishes::default(), |Query(wishes)| wishes);
    let is_active = wishes.probe.as_deref().is_some_and(|probe| matches!(probe, "1" | "true"));
    let accounts = accounts(&state, is_active).await;
    let now = Now::read().unix;
    let is_text = match wishes.format.as_deref() {
        Some("text") => true,
        Some("json") => false,
        _ => prefers(&headers, "text/plain"),
    };
    if is_text {
        return ([(CONTENT_TYPE, "text/plain; charset=utf-8")], as_text(&accounts, now)).into_response();
    }
    let body = json!({"summary": summary(&accounts), "accounts": accounts, "timestamp": moment(now)});
    Json(body).into_response()
}

impl From<Spent> for Today {
    fn from(spent: Spent) -> Self {
        let Spent { requests, prompt, completion, cached } = spent;
        Self { requests, prompt_tokens: prompt, completion_tokens: completion, cached_tokens: cached }
    }
}

async fn accounts(state: &AppState, is_active: bool) -> Vec<Account> {
    let now = Now::read();
    let spent = state.spent_today(now.unix);
    let mut asked = Vec::new();
    for (kind, pool) in state.pools() {
        let is_paused = pool.summary(now).paused_until.is_some();
        for (view, session) in pool.members(now) {
            // A challenged account gets no call until its owner has passed the check.
            let is_challenged = matches!(view.reason, Some(IdentityReason::Resting(_, CoolingReason::Challenge)));
            asked.push((kind, view, session, is_active && !is_paused && !is_challenged));
        }
    }
    let found = stream::iter(asked).map(async |(kind, view, session, is_active)| {
        let today = spent.get(&view.id).copied().unwrap_or_default().into();
        let known = Account { today, ..passive(kind, &view, now.unix) };
        if is_active { active(state, kind, known, &session).await } else { known }
    });
    found.buffered(PROBES_MAX).collect().await
}

/// The account's state as the pool knows it.
fn passive(kind: AccountKind, view: &IdentityView, now: UnixSeconds) -> Account {
    let (status, api_status) = match view.reason {
        Some(IdentityReason::LoginNeeded | IdentityReason::Refused) => (AccountStatus::Error, Some(401)),
        Some(IdentityReason::TokenMissing) => (AccountStatus::MissingCredentials, None),
        Some(IdentityReason::Resting(Usage::Chat, CoolingReason::Rate | CoolingReason::Quota)) => {
            (AccountStatus::QuotaExceeded, Some(429))
        }
        Some(
            IdentityReason::Resting(_, CoolingReason::Challenge | CoolingReason::Owner)
            | IdentityReason::Tripped
            | IdentityReason::Probing,
        ) => (AccountStatus::Error, Some(500)),
        // Still used for chats.
        Some(IdentityReason::Resting(..) | IdentityReason::Failing) | None => (AccountStatus::Healthy, Some(200)),
    };
    Account {
        account: view.id.to_string(),
        kind: kind.as_str(),
        status,
        expires_in: expires_in(view.token_expires_at, now),
        error: view.reason.map(|reason| reason.as_str().to_owned()),
        is_failed: is_unused(view),
        api_status,
        today: Today::default(),
    }
}

/// Whether no chat goes to it at present.
fn is_unused(view: &IdentityView) -> bool {
    let is_waited_for = matches!(
        view.reason,
        Some(IdentityReason::Resting(Usage::Chat, _) | IdentityReason::TokenMissing) if view.next_at.is_some()
    );
    view.status == IdentityStatus::Down || is_waited_for
}

/// The account's state as the upstream tells it now. The pool is not told of the result.
async fn active(state: &AppState, kind: AccountKind, known: Account, session: &Arc<Session>) -> Account {
    let asking = async {
        match kind {
            AccountKind::Web => state.0.chats.probe(session).await,
            AccountKind::OAuth => state.0.upstreams.oauth().probe(session).await,
            AccountKind::Key => state.0.upstreams.keys().probe(session).await,
        }
    };
    let (status, api_status, error) = match timeout(PROBE_TIMEOUT, asking).await {
        Ok(Ok(())) => (AccountStatus::Healthy, 200, None),
        Ok(Err(error)) => {
            let (status, api_status) = verdict(&error);
            (status, api_status, Some(ErrorChain(&error).to_string()))
        }
        Err(_) => (AccountStatus::Error, 0, Some("the upstream did not answer in time".to_owned())),
    };
    // A new token may have been fetched for the question.
    let ends_at = session.token().and_then(|token| token.expires_at());
    let expires_in = expires_in(ends_at, Now::read().unix);
    Account { status, api_status: Some(api_status), error, expires_in, ..known }
}

fn verdict(error: &ChatError) -> (AccountStatus, u16) {
    use UpstreamErrorKind as Kind;
    let upstream = match error {
        ChatError::Upstream { error, .. } => error,
        ChatError::Session(error, _) => match error.upstream() {
            Some(error) => error,
            None => return (AccountStatus::Error, 401),
        },
        ChatError::OwnCredential(_) | ChatError::Lease(..) => return (AccountStatus::Error, 401),
        ChatError::AccountGone | ChatError::NotKept(_) | ChatError::Rejected(_) => return (AccountStatus::Error, 500),
    };
    match upstream.kind {
        Kind::Unauthorized | Kind::Forbidden => (AccountStatus::Error, 401),
        Kind::RateLimited | Kind::QuotaExhausted { .. } | Kind::ModelQuotaExhausted => {
            (AccountStatus::QuotaExceeded, 429)
        }
        Kind::Timeout => (AccountStatus::Error, 0),
        Kind::Unavailable if upstream.source.is_some() => (AccountStatus::Error, 0),
        _ => (AccountStatus::Error, 500),
    }
}

fn expires_in(at: Option<UnixSeconds>, now: UnixSeconds) -> String {
    match at.map(|at| at.seconds_since(now)) {
        None => "unknown".to_owned(),
        Some(0) => "expired".to_owned(),
        Some(seconds) => format!("{} min", seconds / 60),
    }
}

fn summary(accounts: &[Account]) -> Value {
    let count = |status| accounts.iter().filter(|account| account.status == status).count();
    let failed: Vec<&str> =
        accounts.iter().filter(|account| account.is_failed).map(|account| account.account.as_str()).collect();
    json!({
        "total_accounts": accounts.len(),
        "healthy_accounts": count(AccountStatus::Healthy),
        "failed_accounts": failed.len(),
        "quota_exceeded_accounts": count(AccountStatus::QuotaExceeded),
        "error_accounts": count(AccountStatus::Error),
        "missing_credentials_accounts": count(AccountStatus::MissingCredentials),
        "failed_accounts_list": failed,
    })
}

/// The accounts as text for people, one line each.
fn as_text(accounts: &[Account], now: UnixSeconds) -> String {
    let healthy = accounts.iter().filter(|account| account.status == AccountStatus::Healthy).count();
    let failed = accounts.iter().filter(|account| account.is_failed).count();
    let (at, count) = (moment(now), accounts.len());
    let mut text = format!("{at}: {count} accounts, {healthy} healthy, {failed} not used at present\n\n");
    for account in accounts {
        let status = match account.status {
            AccountStatus::Healthy => "healthy",
            AccountStatus::QuotaExceeded => "quota exceeded",
            AccountStatus::Error => "error",
            AccountStatus::MissingCredentials => "no token yet",
        };
        let not_used = if account.is_failed { "not used" } else { "" };
        let error = account.error.as_deref().unwrap_or_default();
        let Account { account, kind, expires_in, .. } = account;
        let line = format!("{account:<16} {kind:<6} {status:<15} {expires_in:<10} {not_used:<9} {error}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // S000-31
    #[test]
    fn minutes_are_rounded_down() {
        let now = UnixSeconds(1000);
        for (at, expected) in [
            (None, "unknown"),
            (Some(999), "expired"),
            (Some(1000), "expired"),
            (Some(1059), "0 min"),
            (Some(1000 + 14 * 60 + 59), "14 min"),
        ] {
            assert_eq!(expires_in(at.map(UnixSeconds), now), expected, "{at:?}");
        }
    }
}
