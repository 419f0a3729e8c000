//! `POST /refresh-token`: renews the token of every account now. Needs a key of the callers.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};

use crate::chat::failure::Failure;
use crate::http::owner::health::best_token;
use crate::http::owner::present::moment;
use crate::http::state::AppState;
use crate::pool::Now;
use crate::telemetry::ErrorChain;

/// The route of this file.
pub fn routes() -> Router<AppState> {
    Router::new().route("/refresh-token", post(refresh_token))
}

async fn refresh_token(State(state): State<AppState>) -> Result<Response, Failure> {
    if !state.0.settings.server_mode {
        return Err(Failure::not_in_client_mode());
    }
    let results = state.0.web_accounts.refresh_all().await;
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
        "timestamp": moment(now.unix),
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
