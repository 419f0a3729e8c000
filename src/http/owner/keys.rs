//! `/admin/keys`: the callers' keys with their limits and what they used today; keys are made, limited and revoked here.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, patch};
use axum::{Json, Router};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{error, info};

use crate::base::caller_key::{KeyLimits, KeyName};
use crate::chat::failure::Failure;
use crate::gateway::caller_keys::{CallerKey, KeyError};
use crate::http::serve::content::json::read_json;
use crate::http::state::AppState;
use crate::pool::Now;
use crate::telemetry::ErrorChain;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/admin/keys", get(list_keys).post(make_key))
        .route("/admin/keys/{name}", patch(limit_key).delete(revoke_key))
}

/// A key to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    name: KeyName,
    #[serde(default)]
    limits: KeyLimits,
}

/// A change of a key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    limits: KeyLimits,
}

async fn list_keys(State(state): State<AppState>) -> Response {
    let keys: Vec<Value> = state.0.keys.all().iter().map(|key| shown(&state, key)).collect();
    answer(StatusCode::OK, &json!({ "keys": keys }))
}

async fn make_key(State(state): State<AppState>, request: Request) -> Result<Response, Response> {
    let NewKey { name, limits } = read(&state, request).await?;
    checked(&limits).map_err(Failure::into_response)?;
    let now = Now::read().unix;
    let made = state.0.keys.make(&state.0.store, name.clone(), limits, now).await.map_err(|error| refusal(&error))?;
    info!(key.name = %name, "the owner made a key for callers");
    Ok(answer(StatusCode::CREATED, &json!({"name": name.as_str(), "key": made.expose()})))
}

async fn limit_key(
    State(state): State<AppState>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Response> {
    let name = known(&state, name).map_err(Failure::into_response)?;
    let Change { limits } = read(&state, request).await?;
    checked(&limits).map_err(Failure::into_response)?;
    state.0.keys.limit(&state.0.store, &name, limits).await.map_err(|error| refusal(&error))?;
    let key = state.0.keys.named(&name).ok_or_else(|| refusal(&KeyError::Unknown(name)))?;
    info!(key.name = %key.name, "the owner changed the limits of a key");
    Ok(answer(StatusCode::OK, &shown(&state, &key)))
}

async fn revoke_key(
    State(state): State<AppState>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Response> {
    let name = known(&state, name).map_err(Failure::into_response)?;
    state.0.keys.revoke(&state.0.store, &name).await.map_err(|error| refusal(&error))?;
    info!(key.name = %name, "the owner revoked a key");
    Ok(answer(StatusCode::OK, &json!({"name": name.as_str(), "revoked": true})))
}

/// The name in a path, if a key has it.
fn known(state: &AppState, name: Result<Path<String>, PathRejection>) -> Result<KeyName, Failure> {
    let name = name.ok().and_then(|Path(name)| name.parse::<KeyName>().ok());
    let key = name.as_ref().and_then(|name| state.0.keys.named(name));
    match key {
        Some(key) => Ok(key.name.clone()),
        None => Err(Failure::unknown_key()),
    }
}

async fn read<T: DeserializeOwned>(state: &AppState, request: Request) -> Result<T, Response> {
    let body = read_json(request, &state.settings()).await?;
    // A list of the fields would do for serde.
    if !body.value.is_object() {
        return Err(Failure::wrong_body("it is not an object").into_response());
    }
    serde_json::from_value(body.value).map_err(|why| Failure::wrong_body(&why.to_string()).into_response())
}

fn checked(limits: &KeyLimits) -> Result<(), Failure> {
    limits.check().map_err(|why| Failure::wrong_body(&why).about("limits"))
}

fn refusal(why: &KeyError) -> Response {
    if let KeyError::NotKept(_) = why {
        error!(error = %ErrorChain(why), "a change of a caller's key cannot be written down");
    }
    Failure::of_keys(why).into_response()
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
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
        "created_at": key.created_at.map(|at| at.0),
    })
}
