//! `POST /v1/embeddings`: passed to an endpoint of static keys. The web chat has none, and none are made up.

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use http::header::CONTENT_TYPE;

use crate::chat::suffix::WEB_PREFIX;
use crate::dialect::openai::embeddings::{EMBEDDING_MODEL, EmbeddingsRequest};
use crate::gateway::answer::failover::Asker;
use crate::gateway::route::KEY_PREFIX;
use crate::http::failure::ApiError;
use crate::http::openai::chat::client_retries;
use crate::http::serve::access::RequestRecord;
use crate::http::serve::auth::Caller;
use crate::http::serve::json::read_json;
use crate::http::serve::lift::put_back;
use crate::http::state::AppState;

/// The routes of this file.
pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/embeddings", post(create_embeddings))
}

async fn create_embeddings(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Extension(record): Extension<RequestRecord>,
    request: Request,
) -> Result<Response, Response> {
    let client_retries = client_retries(request.headers());
    let mut body = read_json(request, &state.0.settings).await?;
    let answered = async {
        put_back(&mut body.value, &body.lifted).map_err(|_| ApiError::internal())?;
        let request = EmbeddingsRequest::parse(body.value)?;
        let keys = state.0.kinds.keys();
        if keys.is_empty() {
            return Err(ApiError::embeddings_not_supported());
        }
        let asked = request.model.as_deref().unwrap_or(EMBEDDING_MODEL);
        record.model(asked);
        let upstream_model = asked.strip_prefix(KEY_PREFIX).unwrap_or(asked);
        if asked.starts_with(WEB_PREFIX) || upstream_model.is_empty() {
            return Err(ApiError::model_not_found(asked));
        }
        let asker = Asker { caller: caller.id, own: None, client_retries };
        let passed = tokio::select! {
            passed = keys.pass("embeddings", request.encode(upstream_model), &asker) => passed,
            () = state.0.ending.cancelled() => return Err(ApiError::shutting_down()),
        };
        let answer = passed.map_err(|error| ApiError::from(&error))?;
        let answer = request.answer(&answer).map_err(|_| ApiError::unreadable_answer())?;
        Ok(([(CONTENT_TYPE, "application/json")], answer).into_response())
    };
    answered.await.map_err(ApiError::into_response)
}
