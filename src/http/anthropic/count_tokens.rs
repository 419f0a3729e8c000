//! `POST /v1/messages/count_tokens`: an estimate of what the same body would send upstream as its prompt.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::json;

use crate::chat::failure::Failure;
use crate::dialect::anthropic::request::Purpose;
use crate::http::anthropic::messages::read;
use crate::http::call::{Call, json_response, usage_header};
use crate::http::serve::content::json::{JsonBody, read_json};
use crate::http::state::AppState;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/v1/messages/count_tokens", post(count_tokens))
}

async fn count_tokens(call: Call, request: Request) -> Result<Response, Response> {
    let body = read_json(request, &call.settings).await?;
    count(&call, body).await.map_err(Failure::into_response)
}

async fn count(call: &Call, body: JsonBody) -> Result<Response, Failure> {
    let chat = read(body, Purpose::Count).await?.chat;
    let route = call.choose(chat.model.as_deref()).await?;
    let tokens = call.state.0.answers.count(&call.answering, chat, &route).await?;
    let mut response = json_response(json!({"input_tokens": tokens.max(1)}).to_string());
    response.headers_mut().extend(usage_header(true));
    Ok(response)
}
