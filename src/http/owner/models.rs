//! `/admin/models`: the catalogue with what each model can do, and which of its names `/v1/models` lists.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use crate::chat::failure::{Failure, FailureKind};
use crate::chat::models::{ModelInfo, Thinking, with_variants};
use crate::chat::suffix::{Product, Work};
use crate::http::owner::present::not_stored;
use crate::http::serve::content::json::read_json;
use crate::http::state::AppState;
use crate::store::Note;
use crate::telemetry::ErrorChain;

/// Names that one request may switch.
const SWITCHED_MAX: usize = 1000;
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// The route of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/models", get(models).patch(switch))
}

async fn models(State(state): State<AppState>) -> Response {
    not_stored(Json(told(&state).await).into_response())
}

/// The body of a change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Names, and whether they are listed from now on.
    listed: BTreeMap<String, bool>,
}

async fn switch(State(state): State<AppState>, request: Request) -> Result<Response, Response> {
    let body = read_json(request, &state.settings()).await?;
    let refused = |message: &str| Failure::new(FailureKind::Invalid, "invalid_value", message).into_response();
    let Ok(Change { listed }) = serde_json::from_value(body.value) else {
        return Err(refused("Send {\"listed\": {\"NAME\": true or false}}."));
    };
    if listed.len() > SWITCHED_MAX || listed.keys().any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
        return Err(refused("There are too many names, or one is empty or too long."));
    }
    let text = state.0.owner.listing.decide(listed);
    if let Err(error) = state.0.store.save_note(Note::ListedModels, text).await {
        warn!(error = %ErrorChain(&error), "which models are listed was not written down");
    }
    Ok(not_stored(Json(told(&state).await).into_response()))
}

async fn told(state: &AppState) -> Value {
    let kinds = &state.0.upstreams;
    let mut models = Vec::new();
    if kinds.lists_web() {
        let catalogue = state.0.models.current().await;
        let names = with_variants(&catalogue.models);
        for info in &catalogue.models {
            let variants: Vec<Value> = names
                .iter()
                .filter(|(name, of)| of.id == info.id && *name != info.id)
                .map(|(name, _)| json!({"id": name, "listed": state.0.owner.listing.has(name, &info.id)}))
                .collect();
            models.push(json!({
                "id": info.id,
                "kind": "web",
                "abilities": abilities(info),
                "context": info.context_length,
                "listed": state.0.owner.listing.has(&info.id, &info.id),
                "variants": variants,
            }));
        }
    }
    for id in kinds.other_names().await {
        let listed = state.0.owner.listing.has(&id, &id);
        models
            .push(json!({"id": id, "kind": "api", "abilities": [], "context": null, "listed": listed, "variants": []}));
    }
    let answering = state.0.answers.settings();
    let aliases: BTreeMap<&str, &str> = answering.model_map.entries().collect();
    json!({ "models": models, "aliases": aliases })
}

/// The abilities of a model, as words that the page has pictures for.
fn abilities(info: &ModelInfo) -> Vec<&'static str> {
    let takes = &info.abilities;
    [
        (info.thinking != Thinking::Never, "thinking"),
        (info.search, "search"),
        (takes.image == Some(true), "image_input"),
        (takes.video == Some(true), "video_input"),
        (takes.audio == Some(true), "audio_input"),
        (takes.document == Some(true), "document_input"),
        (info.makes.has(Product::Image), "image"),
        (info.makes.has(Product::ImageEdit), "image_edit"),
        (info.makes.has(Product::Video), "video"),
        (info.writes.contains(&Work::Research), "deep_research"),
    ]
    .into_iter()
    .filter_map(|(has, ability)| has.then_some(ability))
    .collect()
}
