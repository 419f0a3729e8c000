//! `POST /refresh-token`: renews the token of every account now, of the web chat and of OAuth. Needs a key of the
//! callers.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};

use crate::chat::failure::Failure;
use crate::gateway::accounts::error::Forced;
use crate::http::owner::health::best_token;
use crate::http::owner::present::moment;
use crate::http::state::AppState;
use crate::pool::Now;
use crate::telemetry::ErrorChain;

/// The route of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/refresh-token", post(refresh_token))
}

async fn refresh_token(State(state): State<AppState>) -> Result<Response, Failure> {
    if !state.settings().server_mode {
        return Err(Failure::not_in_client_mode());
    }
    let (web, oauth) = tokio::join!(state.0.web_accounts.refresh_all(), state.0.accounts.refresh_all());
    let now = Now::read();
    let results: Vec<_> = web.into_iter().chain(oauth).collect();
    let good = results.iter().filter(|forced| forced.result.is_ok()).count();
    let keys = state.0.upstreams.keys().pool().summary(now).total;
    let success = good > 0 || results.is_empty() && keys > 0;
    let mut message = format!("{good} of {} accounts have a fresh token", results.len());
    if keys > 0 {
        message.push_str(&format!("; {keys} static keys have none to renew"));
    }
    if let Some(age) = results.iter().map(|forced| forced.age).max().filter(|age| !age.is_zero()) {
        message.push_str(&format!("; asked {} s ago, a refresh is made at most every ten seconds", age.as_secs()));
    }
    let identities: Vec<Value> = results.iter().map(told).collect();
    let mut body = json!({
        "success": success,
        "message": message,
        "timestamp": moment(now.unix),
        "token": best_token(&state.views(now), now.unix),
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

/// The result of one account's refresh, with its age if it was before this request.
fn told(forced: &Forced) -> Value {
    let Forced { identity, age, result } = forced;
    let mut told = json!({"id": identity.as_str(), "success": result.is_ok()});
    if let Some(told) = told.as_object_mut() {
        if let Err(error) = result {
            told.insert("error".to_owned(), json!(ErrorChain(error).to_string()));
        }
        if !age.is_zero() {
            told.insert("asked_seconds_ago".to_owned(), json!(age.as_secs()));
        }
    }
    told
}
