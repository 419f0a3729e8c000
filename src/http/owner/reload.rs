//! `/admin/reload`: reads the settings anew, and tells how the last time went.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use serde_json::Value;

use crate::base::bilingual::Bilingual;
use crate::chat::failure::{Failure, FailureKind};
use crate::http::owner::accounts::routes::answer;
use crate::http::state::AppState;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/reload", get(last).post(reload))
}

/// The result of the last reload; `null` before the first.
async fn last(State(state): State<AppState>) -> Response {
    let last = state.0.reloads.last();
    answer(StatusCode::OK, &last.map_or(Value::Null, |last| serde_json::json!(last)))
}

async fn reload(State(state): State<AppState>) -> Response {
    match state.0.reloads.ask().await {
        Some(outcome) => answer(StatusCode::OK, &outcome),
        None => {
            let words =
                Bilingual::new("This server has no files of settings to read.", "此服务没有可重新读取的配置文件。");
            Failure::bilingual(FailureKind::Conflict, "nothing_to_reload", words).into_response()
        }
    }
}
