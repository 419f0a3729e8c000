//! `GET /v1/models` and `/v1/models/{id}`: never fails, even if the upstream does. The names of `MODEL_MAP` are listed
//! with `?aliases=true` only. A caller whose key is limited to some models sees those.

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;

use crate::chat::failure::Failure;
use crate::chat::models::{CREATED_DEFAULT, ModelInfo, nearest, with_variants};
use crate::dialect::openai::wire::{Model, ModelList};
use crate::gateway::catalogue::Catalogue;
use crate::http::call::may_use;
use crate::http::serve::admission::caller::Caller;
use crate::http::state::AppState;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/v1/models", get(list_models)).route("/v1/models/{*id}", get(retrieve_model))
}

async fn list_models(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let answering = state.0.answers.settings();
    let catalogue = state.0.models.current().await;
    let names = web_names(&state, &catalogue);
    let others = state.0.upstreams.other_names().await;
    let listing = &state.0.owner.listing;
    let listed = names.iter().filter(|(id, info)| listing.has(id, &info.id));
    let mut data: Vec<Model<'_>> = listed.map(|(id, info)| model(id, info)).collect();
    data.extend(others.iter().filter(|id| listing.has(id, id)).map(|id| other(id)));
    if query.is_some_and(|query| query.split('&').any(|field| field == "aliases=true")) {
        for (alias, target) in answering.model_map.entries() {
            if data.iter().all(|listed| listed.id != alias) {
                let info = names.iter().find(|(name, _)| name == target);
                data.push(info.map_or_else(|| other(alias), |(_, info)| model(alias, info)));
            }
        }
    }
    data.retain(|model| may_use(&caller, &answering, model.id));
    json(&ModelList { object: "list", data })
}

async fn retrieve_model(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    // Bytes that are not text once decoded name no model; the rejection itself would be plain text.
    let Ok(Path(id)) = id else {
        return Err(Failure::model_not_found("\u{fffd}", ""));
    };
    let answering = state.0.answers.settings();
    if !may_use(&caller, &answering, &id) {
        return Err(Failure::model_not_for_key(caller.key_name(), &id));
    }
    let catalogue = state.0.models.current().await;
    let names = web_names(&state, &catalogue);
    let target = answering.model_map.apply(&id);
    if let Some((_, info)) = names.iter().find(|(name, _)| name == target) {
        return json(&model(&id, info));
    }
    let mut alike = names.iter().filter(|(name, _)| name.eq_ignore_ascii_case(target));
    if let (Some((name, info)), None) = (alike.next(), alike.next()) {
        return json(&model(name, info));
    }
    let others = state.0.upstreams.other_names().await;
    if others.iter().any(|name| name == target) {
        return json(&other(&id));
    }
    let nearest = nearest(target, names.iter().map(|(name, _)| name).chain(&others).map(String::as_str));
    let hint = nearest.map(|name| format!("Did you mean '{name}'?")).unwrap_or_default();
    Err(Failure::model_not_found(&id, &hint))
}

/// The names of the web chat's models, unless no account could answer them.
fn web_names<'a>(state: &AppState, catalogue: &'a Catalogue) -> Vec<(String, &'a ModelInfo)> {
    if state.0.upstreams.lists_web() { with_variants(&catalogue.models) } else { Vec::new() }
}

/// A model of another kind of upstream, which tells no more than the name.
fn other(id: &str) -> Model<'_> {
    Model { id, object: "model", created: CREATED_DEFAULT, owned_by: "qwen", context_length: None }
}

fn model<'a>(id: &'a str, info: &'a ModelInfo) -> Model<'a> {
    Model { id, object: "model", created: info.created, owned_by: &info.owned_by, context_length: info.context_length }
}

fn json(value: &impl serde::Serialize) -> Result<Response, Failure> {
    let body = serde_json::to_vec(value).map_err(|_| Failure::internal())?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}
