//! `GET /`, `GET /health` and `POST /refresh-token`: what people and monitors look at. Counts and flags only,
//! never a secret; only the refresh makes upstream calls.

use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::base::ids::UnixSeconds;
use crate::chat::failure::Failure;
use crate::http::state::AppState;
use crate::pool::{IdentityView, Now};
use crate::telemetry::ErrorChain;

const SERVICE: &str = "qwen-bridge";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// A token with less than this left is shown as due for a refresh.
const REFRESH_SOON_SECONDS: u64 = 180;

/// The routes of this file.
pub fn routes() -> Router<AppState> {
    Router::new().route("/", get(index)).route("/health", get(health)).route("/refresh-token", post(refresh_token))
}

async fn index(State(state): State<AppState>, headers: HeaderMap) -> Response {
    if !prefers_html(&headers) {
        return Json(about(&state)).into_response();
    }
    let policy = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    ([(CONTENT_SECURITY_POLICY, policy)], Html(status_page(&state))).into_response()
}

fn about(state: &AppState) -> Value {
    let settings = &state.0.settings;
    let format = if settings.server_mode {
        "Authorization: Bearer KEY, or x-api-key: KEY"
    } else {
        "Authorization: Bearer [KEY;]TOKEN;COOKIE"
    };
    let mut about = json!({
        "name": SERVICE,
        "version": VERSION,
        "message": "Your own Qwen accounts as an API for OpenAI clients.",
        "endpoints": {
            "chat_completions": "POST /v1/chat/completions",
            "responses": "POST /v1/responses",
            "completions": "POST /v1/completions",
            "embeddings": "POST /v1/embeddings",
            "images": "POST /v1/images/generations",
            "image_edits": "POST /v1/images/edits",
            "videos": "POST /v1/videos",
            "models": "GET /v1/models",
            "health": "GET /health",
            "health_detailed": "GET /health/detailed",
            "admin_health": "GET /admin/health",
            "refresh_token": "POST /refresh-token",
            "auth": "GET /auth",
        },
        "authentication": {
            "required": !settings.keys.is_empty() || !settings.server_mode,
            "type": format,
        },
    });
    if settings.debug_mode
        && let Some(Value::Object(endpoints)) = about.get_mut("endpoints")
    {
        let debug = json!({
            "token_status": "GET /v1/debug/token",
            "token_forget": "DELETE /v1/debug/token",
            "auth_test": "GET /v1/debug/auth/test",
            "auth_initiate": "POST /v1/debug/auth/initiate",
            "auth_poll": "POST /v1/debug/auth/poll",
            "account": "GET /v1/debug/account/{id}",
        });
        endpoints.insert("debug".to_owned(), debug);
    }
    about
}

/// The page needs nothing from elsewhere: no script, no font, no picture.
fn status_page(state: &AppState) -> String {
    let settings = &state.0.settings;
    let now = Now::read();
    let summary = state
        .0
        .pool
        .summary(now)
        .and(state.0.upstreams.oauth().pool().summary(now))
        .and(state.0.upstreams.keys().pool().summary(now));
    let mode = if settings.server_mode {
        "server: this machine's accounts answer"
    } else {
        "client: each caller brings a credential"
    };
    let key = if settings.keys.is_empty() { "no key needed" } else { "a key is needed" };
    let accounts = if settings.server_mode {
        format!(
            "<tr><th>accounts</th><td>{} healthy, {} degraded, {} down</td></tr>",
            summary.healthy, summary.degraded, summary.down
        )
    } else {
        String::new()
    };
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{SERVICE}</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#222}}\
         th{{text-align:left;padding-right:2rem;font-weight:600}}code{{background:#f2f2f2;padding:.1em .3em}}</style>\
         <h1>{SERVICE} {VERSION}</h1><p>Your own Qwen accounts as an API for OpenAI clients.</p>\
         <table><tr><th>mode</th><td>{mode}</td></tr><tr><th>key</th><td>{key}</td></tr>{accounts}</table>\
         <h2>Endpoints</h2><ul><li><code>POST /v1/chat/completions</code></li>\
         <li><code>POST /v1/responses</code></li><li><code>POST /v1/completions</code></li><li><code>POST /v1/embeddings</code></li>\
         <li><code>POST /v1/images/generations</code></li>\
         <li><code>POST /v1/images/edits</code></li><li><code>POST /v1/videos</code></li>\
         <li><code>GET /v1/models</code></li>\
         <li><code>GET /health</code></li><li><code>POST /refresh-token</code></li><li><code>GET /auth</code></li></ul></html>"
    )
}

/// Whether a browser asks: HTML is named, and before JSON.
fn prefers_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    match (accept.find("text/html"), accept.find("application/json")) {
        (Some(html), Some(json)) => html < json,
        (html, _) => html.is_some(),
    }
}

async fn health(State(state): State<AppState>) -> Json<Value> {
    let settings = &state.0.settings;
    let now = Now::read();
    let summary = state
        .0
        .pool
        .summary(now)
        .and(state.0.upstreams.oauth().pool().summary(now))
        .and(state.0.upstreams.keys().pool().summary(now));
    Json(json!({
        "status": "OK",
        "service": SERVICE,
        "timestamp": timestamp(now.unix),
        "version": VERSION,
        "config": {
            "apiKeyEnabled": !settings.keys.is_empty(),
            "serverMode": settings.server_mode,
            "debugMode": settings.debug_mode,
            "autoRefreshToken": state.0.auto_refresh,
        },
        "token": best_token(&state.0.pool.views(now), now.unix),
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
        },
    }))
}

/// The token that lasts longest, in the words of this project's forerunner.
fn best_token(views: &[IdentityView], now: UnixSeconds) -> Value {
    let best = views.iter().filter_map(|view| view.token_expires_at).max();
    let remaining = best.map(|at| at.seconds_since(now));
    let is_valid = remaining.is_some_and(|seconds| seconds > 0);
    let needs_refresh = remaining.is_none_or(|seconds| seconds < REFRESH_SOON_SECONDS);
    json!({
        "valid": is_valid,
        "expired": remaining == Some(0),
        "remainingTime": remaining.unwrap_or(0).saturating_mul(1000),
        "formattedTime": remaining.map_or_else(|| "N/A".to_owned(), formatted),
        "needsRefresh": needs_refresh,
        "reason": match (is_valid, needs_refresh) {
            (true, false) => "the token is valid",
            (true, true) => "the token ends soon",
            (false, _) if best.is_some() => "the token has expired",
            (false, _) => "no token yet",
        },
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

async fn refresh_token(State(state): State<AppState>) -> Result<Response, Failure> {
    if !state.0.settings.server_mode {
        return Err(Failure::not_in_client_mode());
    }
    let results = state.0.refresher.refresh_all().await;
    let now = Now::read();
    let good = results.iter().filter(|(_, result)| result.is_ok()).count();
    let identities: Vec<Value> = results
        .iter()
        .map(|(id, result)| match result {
            Ok(()) => json!({"id": id.as_str(), "success": true}),
            Err(error) => {
                json!({"id": id.as_str(), "success": false, "error": ErrorChain(error).to_string()})
            }
        })
        .collect();
    let success = good > 0;
    let mut body = json!({
        "success": success,
        "message": format!("{good} of {} accounts have a fresh token", results.len()),
        "timestamp": timestamp(now.unix),
        "token": best_token(&state.0.pool.views(now), now.unix),
        "identities": identities,
    });
    if !success {
        let why = if results.is_empty() { "no account is configured" } else { "no account could be refreshed" };
        if let Some(body) = body.as_object_mut() {
            body.insert("error".to_owned(), json!(why));
        }
    }
    let status = if success { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    Ok((status, Json(body)).into_response())
}

/// A moment as people and programs read it: ISO 8601, in UTC.
pub(crate) fn timestamp(now: UnixSeconds) -> String {
    jiff::Timestamp::from_second(now.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::formatted;

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
}
