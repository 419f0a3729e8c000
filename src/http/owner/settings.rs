//! `GET /admin/settings`: each setting with the value that is in use and where that comes from. Secrets are masked.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::http::owner::present::not_stored;
use crate::http::state::AppState;

/// The route of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/settings", get(settings))
}

async fn settings(State(state): State<AppState>) -> Response {
    let settings = state.0.owner.settings.now();
    not_stored(Json(json!({ "settings": *settings })).into_response())
}
