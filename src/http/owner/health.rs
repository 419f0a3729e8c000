//! `GET /health` and `GET /ready` without a key, `GET /health/detailed` for monitors with a key: counts and states, never
//! a secret, and no upstream call.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use http::header::RETRY_AFTER;
use serde_json::{Map, Value, json};

use crate::base::facts::{AccountKind, Usage};
use crate::base::ids::UnixSeconds;
use crate::http::owner::present::{SERVICE, VERSION, moment};
use crate::http::state::AppState;
use crate::pool::{IdentityReason, IdentityStatus, IdentityView, Now, PoolSummary};
use crate::store::{StorageFault, StorageStatus};

/// A token with less than this left is shown as due for a refresh.
const REFRESH_SOON_SECONDS: u64 = 180;

/// The routes of this file that need no key.
pub(crate) fn public_routes() -> Router<AppState> {
    Router::new().route("/health", get(health)).route("/ready", get(ready))
}

/// The route of this file that needs a key.
pub(crate) fn caller_routes() -> Router<AppState> {
    Router::new().route("/health/detailed", get(detailed))
}

async fn health(State(state): State<AppState>) -> Json<Value> {
    let settings = &state.settings();
    let now = Now::read();
    let summary = state.summary(now);
    Json(json!({
        "status": "OK",
        "service": SERVICE,
        "timestamp": moment(now.unix),
        "version": VERSION,
        "config": {
            "apiKeyEnabled": !state.0.keys.is_empty(),
            "serverMode": settings.server_mode,
            "debugMode": settings.debug_mode,
            "autoRefreshToken": state.0.auto_refresh,
        },
        "token": best_token(&state.views(now), now.unix),
        "identityPool": {
            "total": summary.total,
            "healthy": summary.healthy,
            "degraded": summary.degraded,
            "down": summary.down,
            "initialized": summary.total > 0,
        },
        "upstream": {
            "degraded": summary.upstream_degraded,
            "paused": summary.paused_until.is_some(),
            "unknownEvents": state.0.chats.drift().total(),
            // Positive when this machine's clock is ahead.
            "clockSkewSeconds": state.0.chats.clock_skew(),
        },
        "storage": storage(&state.0.store.status()),
    }))
}

/// 200 while an account can answer, else 503 with the reason. In client mode the callers bring accounts, so that it is
/// 200 unless all requests are paused.
async fn ready(State(state): State<AppState>) -> Response {
    let now = Now::read();
    let summary = state.summary(now);
    // An account may be degraded and yet not be lent: its token was refused, or it has no quota left.
    let can_answer = state.pools().iter().any(|(_, pool)| pool.outlook(Usage::Chat, now).is_none());
    let usable = if can_answer { summary.healthy + summary.degraded } else { 0 };
    let pause = summary.paused_until.map(|until| until.seconds_since(now.unix)).filter(|seconds| *seconds > 0);
    let reason = match pause {
        _ if can_answer => None,
        Some(_) => Some("paused"),
        None if !state.settings().server_mode => None,
        None if summary.total == 0 => Some("no_account"),
        None => Some("no_usable_account"),
    };
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accounts = json!({"total": summary.total, "usable": usable});
    let body = json!({"ready": reason.is_none(), "reason": reason, "accounts": accounts});
    let mut response = (status, Json(body)).into_response();
    if let Some(seconds) = pause {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// The state of the store: `disk`, `memory` (the state folder cannot be used) or `failing` (the state file cannot be
/// written at the moment). `waiting` facts go to the disk when that works again, `lost` ones do not.
fn storage(status: &StorageStatus) -> Value {
    json!({
        "state": status.state.as_str(),
        "cause": status.fault.map(StorageFault::as_str),
        "waiting": status.waiting,
        "lost": status.lost,
    })
}

/// The token that lasts longest of those that can be used, with the keys of a forerunner.
pub(crate) fn best_token(views: &[(AccountKind, IdentityView)], now: UnixSeconds) -> Value {
    let is_good = |view: &IdentityView| {
        !matches!(
            view.reason,
            Some(IdentityReason::LoginNeeded | IdentityReason::TokenMissing | IdentityReason::Refused)
        )
    };
    let good = || views.iter().filter(|(_, view)| is_good(view));
    let of_accounts = || good().filter(|(kind, _)| *kind != AccountKind::Key);
    // A token that does not say when it ends lasts longest.
    let best = of_accounts().map(|(_, view)| view.token_expires_at.map_or(u64::MAX, |at| at.seconds_since(now))).max();
    let all_over = || views.iter().any(|(_, view)| view.token_expires_at.is_some());
    let needs_login = || views.iter().any(|(_, view)| view.reason == Some(IdentityReason::LoginNeeded));
    let is_refused = || views.iter().any(|(_, view)| view.reason == Some(IdentityReason::Refused));
    let (is_valid, needs_refresh, remaining, reason) = match best {
        Some(u64::MAX) => (true, false, None, "the token does not say when it ends"),
        Some(0) => (false, true, Some(0), "the token has expired"),
        Some(seconds) if seconds < REFRESH_SOON_SECONDS => (true, true, Some(seconds), "the token ends soon"),
        Some(seconds) => (true, false, Some(seconds), "the token is valid"),
        None if good().next().is_some() => (true, false, None, "a static key does not end"),
        None if needs_login() => (false, true, None, "an account has to be logged in again"),
        None if is_refused() => (false, true, None, "the upstream refuses the token"),
        None if all_over() => (false, true, Some(0), "the token has expired"),
        None => (false, true, None, "no token yet"),
    };
    json!({
        "valid": is_valid,
        "expired": remaining == Some(0),
        "remainingTime": remaining.unwrap_or(0).saturating_mul(1000),
        "formattedTime": remaining.map_or_else(|| "N/A".to_owned(), formatted),
        "needsRefresh": needs_refresh,
        "reason": reason,
    })
}

fn formatted(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds % 86_400 / 3600, seconds % 3600 / 60);
    match (days, hours) {
        _ if seconds == 0 => "expired".to_owned(),
        (0, 0) => format!("{minutes} minutes"),
        (0, hours) => format!("{hours} hours {minutes} minutes"),
        (days, hours) => format!("{days} days {hours} hours"),
    }
}

async fn detailed(State(state): State<AppState>) -> Json<Value> {
    let (now, settings, counts) = (Now::read(), &state.settings(), state.0.observers.counters.now());
    let (mut pools, mut upstreams) = (Map::new(), Map::new());
    let mut views = Vec::new();
    for (kind, pool) in state.pools() {
        let summary = pool.summary(now);
        pools.insert(kind.as_str().to_owned(), pool_counts(&summary));
        upstreams.insert(kind.as_str().to_owned(), upstream(&summary));
        views.extend(pool.views(now));
    }
    let drift = [("web", state.0.chats.drift().counts()), ("key", state.0.upstreams.keys().drift().counts())];
    let [informational, success, redirect, client_error, server_error] = counts.by_class;
    let usable = views.iter().filter(|view| view.status != IdentityStatus::Down).max_by_key(|view| rank(view));
    let mut body = json!({
        // Says that the process lives; `auth_status` says whether it can answer.
        "status": "healthy",
        "timestamp": now.unix.0,
        "version": VERSION,
        "uptime": uptime(counts.uptime.as_secs()),
        "uptime_seconds": counts.uptime.as_secs(),
        "config": {
            "debug_mode": settings.debug_mode,
            "log_level": settings.log_level,
            "server_host": settings.listen.ip().to_string(),
            "server_port": settings.listen.port(),
        },
        "auth_status": if usable.is_some() { "authenticated" } else { "unauthenticated" },
        "identity_pool": pools,
        "upstreams": upstreams,
        "drift": drift.into_iter().map(|(kind, counts)| (kind.to_owned(), json!(counts))).collect::<Map<_, _>>(),
        "storage": storage(&state.0.store.status()),
        "memory": {"rss_bytes": resident_bytes()},
        "streams": {"open": counts.open_streams},
        "requests": {
            "total": counts.requests,
            "open": counts.open_requests,
            "by_status": {
                "1xx": informational, "2xx": success, "3xx": redirect, "4xx": client_error, "5xx": server_error,
            },
        },
    });
    if let Some(body) = body.as_object_mut() {
        match usable {
            Some(view) => body.insert("auth_info".to_owned(), auth_info(view, now)),
            None => body.insert("auth_error".to_owned(), auth_error(&views).into()),
        };
    }
    Json(body)
}

/// By when its token ends, latest last; a token that does not say when it ends is the latest.
fn rank(view: &IdentityView) -> i64 {
    view.token_expires_at.map_or(i64::MAX, |at| at.0)
}

/// The account whose token lasts longest, with the keys of a forerunner. `expiry_date` is in milliseconds since
/// 1970, as in files of credentials.
fn auth_info(view: &IdentityView, now: Now) -> Value {
    let ends_at = view.token_expires_at;
    json!({
        "token_type": "Bearer",
        "expiry_date": ends_at.map(|at| at.0.saturating_mul(1000)),
        "resource_url": null,
        "has_token": ends_at.is_some() || view.reason.is_none(),
        "is_expired": ends_at.is_some_and(|at| at.seconds_since(now.unix) == 0),
    })
}

fn auth_error(views: &[IdentityView]) -> String {
    match views.first() {
        None => "no account is configured".to_owned(),
        Some(view) => {
            let why = view.reason.map_or("down", |reason| reason.as_str());
            format!("no account can be used; {}: {why}", view.id)
        }
    }
}

fn pool_counts(summary: &PoolSummary) -> Value {
    json!({
        "total": summary.total,
        "healthy": summary.healthy,
        "degraded": summary.degraded,
        "down": summary.down,
        "in_flight": summary.in_flight,
        "queued": summary.queued,
    })
}

fn upstream(summary: &PoolSummary) -> Value {
    let state = match (summary.total, summary.paused_until.is_some(), summary.upstream_degraded) {
        (0, ..) => "not_configured",
        (_, true, _) => "paused",
        (_, false, true) => "degraded",
        (_, false, false) => "ok",
    };
    json!({"state": state, "paused_until": summary.paused_until.map(|at| at.0)})
}

/// As `1d2h3m4s`, from the largest unit that is not zero.
fn uptime(seconds: u64) -> String {
    let parts = [(seconds / 86_400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let parts = parts.into_iter().skip_while(|(count, unit)| *count == 0 && *unit != 's');
    parts.map(|(count, unit)| format!("{count}{unit}")).collect()
}

/// The resident memory of this process in bytes; `None` where the system does not tell.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::{formatted, uptime};

    #[test]
    fn remaining_time_in_words() {
        for (seconds, expected) in [
            (0, "expired"),
            (59, "0 minutes"),
            (840, "14 minutes"),
            (3_660, "1 hours 1 minutes"),
            (7 * 86_400 + 3600, "7 days 1 hours"),
        ] {
            assert_eq!(formatted(seconds), expected);
        }
    }

    #[test]
    fn uptime_in_words() {
        for (seconds, expected) in [(0, "0s"), (59, "59s"), (60, "1m0s"), (3_661, "1h1m1s"), (86_400, "1d0h0m0s")] {
            assert_eq!(uptime(seconds), expected);
        }
    }
}
