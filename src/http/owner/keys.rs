//! `GET /admin/keys`: the callers' keys with their limits and what they used today.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::CACHE_CONTROL;
use serde_json::{Value, json};

use crate::gateway::caller_keys::CallerKey;
use crate::http::state::AppState;
use crate::pool::Now;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/keys", get(list_keys))
}

async fn list_keys(State(state): State<AppState>) -> Response {
    let keys: Vec<Value> = state.0.keys.all().iter().map(|key| shown(&state, key)).collect();
    ([(CACHE_CONTROL, "no-store")], Json(json!({ "keys": keys }))).into_response()
}

fn shown(state: &AppState, key: &CallerKey) -> Value {
    let used = state.0.usage.used_today(&key.name, Now::read().unix);
    json!({
        "name": key.name.as_str(),
        "origin": key.origin.as_str(),
        "shown": key.shown,
        "limits": key.limits,
        "used_today": {"requests": used.requests, "tokens": used.tokens},
        "last_used_at": state.0.usage.last_used(&key.name).map(|at| at.0),
    })
}
