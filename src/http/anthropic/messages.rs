//! `POST /v1/messages`: Anthropic's dialect, on every kind of upstream.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use uuid::Uuid;

use crate::chat::failure::Failure;
use crate::dialect::anthropic::reply::message::MessageHead;
use crate::dialect::anthropic::reply::stream::MessageStream;
use crate::dialect::anthropic::reply::whole::WholeMessage;
use crate::dialect::anthropic::request::{MessagesRequest, Purpose};
use crate::gateway::requests::AskedFor;
use crate::http::call::{Call, json_response, note_headers, usage_header};
use crate::http::serve::content::json::{JsonBody, read_json};
use crate::http::state::AppState;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/v1/messages", post(create_message))
}

async fn create_message(call: Call, request: Request) -> Result<Response, Response> {
    call.record.asks(AskedFor::Answer);
    let body = read_json(request, &call.settings).await?;
    answer(call, body).await.map_err(Failure::into_response)
}

async fn answer(call: Call, body: JsonBody) -> Result<Response, Failure> {
    let MessagesRequest { chat, stream, search } = read(body, Purpose::Answer).await?;
    let route = call.choose(chat.model.as_deref()).await?;
    call.log_question(|| chat.newest_user_text());
    let prepared = call.state.0.answers.prepare(&call.answering, chat, route, |model| call.may_use(model)).await?;
    call.record.model(&prepared.model);
    let head = MessageHead {
        id: format!("msg_{}", Uuid::new_v4().simple()),
        model: prepared.model.clone(),
        prompt_tokens: prepared.prompt_tokens(),
        search,
    };
    let notes = note_headers(&prepared.notes);
    let mut response = if stream {
        call.stream(prepared, MessageStream::new(head)).await?
    } else {
        let mut reply = WholeMessage::default();
        let ending = call.whole(&prepared, &mut reply).await?;
        let mut response = json_response(reply.finish(&head, &ending));
        response.headers_mut().extend(usage_header(ending.is_usage_estimated));
        response
    };
    response.headers_mut().extend(notes);
    Ok(response)
}

/// Reads the body. Decoding and hashing of large files would hold up other requests, so that is done aside.
pub(super) async fn read(body: JsonBody, purpose: Purpose) -> Result<MessagesRequest, Failure> {
    let parse = move || MessagesRequest::parse(&body.value, purpose, &body.lifted);
    let (_share, request) = body.share.work(body.bytes, parse).await?;
    Ok(request?)
}
