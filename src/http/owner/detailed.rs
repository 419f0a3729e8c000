//! `GET /health/detailed`: what monitors with a key may see. Counts and states, never a secret, and no upstream call.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use crate::http::state::AppState;
use crate::pool::{IdentityStatus, IdentityView, Now, PoolSummary};

/// The routes of this file.
pub fn routes() -> Router<AppState> {
    Router::new().route("/health/detailed", get(detailed))
}

async fn detailed(State(state): State<AppState>) -> Json<Value> {
    let (now, settings, counts) = (Now::read(), &state.0.settings, state.0.counters.now());
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
        // As of all endpoints that only look: the process lives.
        "status": "healthy",
        "timestamp": now.unix.0,
        "version": env!("CARGO_PKG_VERSION"),
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

/// The account that lasts longest; one that does not say when it ends lasts.
fn rank(view: &IdentityView) -> i64 {
    view.token_expires_at.map_or(i64::MAX, |at| at.0)
}

/// The best account, in the words of a forerunner; milliseconds since 1970 as in files of credentials.
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

/// As `1d2h3m4s`, from the largest unit that counts.
fn uptime(seconds: u64) -> String {
    let parts = [(seconds / 86_400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let parts = parts.into_iter().skip_while(|(count, unit)| *count == 0 && *unit != 's');
    parts.map(|(count, unit)| format!("{count}{unit}")).collect()
}

/// The memory that this process really takes; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::uptime;

    #[test]
    fn uptime_in_words() {
        for (seconds, expected) in [(0, "0s"), (59, "59s"), (60, "1m0s"), (3_661, "1h1m1s"), (86_400, "1d0h0m0s")] {
            assert_eq!(uptime(seconds), expected);
        }
    }
}
