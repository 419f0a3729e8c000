//! `POST /v1/embeddings`: passed to an endpoint of static keys. The web chat has none, and none are made up.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;

use crate::chat::failure::Failure;
use crate::chat::suffix::WEB_PREFIX;
use crate::dialect::openai::embeddings::{EMBEDDING_MODEL, EmbeddingsRequest};
use crate::gateway::requests::AskedFor;
use crate::gateway::route::KEY_PREFIX;
use crate::http::call::{Call, json_response};
use crate::http::serve::content::json::{JsonBody, read_json};
use crate::http::serve::content::lift::put_back;
use crate::http::state::AppState;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/v1/embeddings", post(create_embeddings))
}

async fn create_embeddings(call: Call, request: Request) -> Result<Response, Response> {
    call.record.asks(AskedFor::Embedding);
    let body = read_json(request, &call.settings).await?;
    answer(&call, body).await.map_err(Failure::into_response)
}

async fn answer(call: &Call, mut body: JsonBody) -> Result<Response, Failure> {
    put_back(&mut body.value, &body.lifted).map_err(|_| Failure::internal())?;
    let request = EmbeddingsRequest::parse(body.value)?;
    let keys = call.state.0.upstreams.keys();
    if keys.is_empty() {
        return Err(Failure::embeddings_not_supported());
    }
    let asked = request.model.as_deref().unwrap_or(EMBEDDING_MODEL);
    call.record.model(asked);
    call.allow(Some(asked))?;
    let upstream_model = asked.strip_prefix(KEY_PREFIX).unwrap_or(asked);
    if asked.starts_with(WEB_PREFIX) || upstream_model.is_empty() {
        return Err(Failure::model_not_found(asked, "Embeddings are made by the upstreams of QWEN_API_KEYS only."));
    }
    let context = call.context();
    let answer =
        call.until_the_end(keys.pass("embeddings", upstream_model, request.encode(upstream_model), &context)).await?;
    Ok(json_response(request.answer(&answer).map_err(|_| Failure::unreadable_answer())?))
}
