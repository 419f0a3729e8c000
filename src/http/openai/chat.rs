//! `POST /v1/chat/completions`.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::Value;
use uuid::Uuid;

use crate::chat::failure::Failure;
use crate::dialect::openai::frames::FrameStream;
use crate::dialect::openai::reply::{CallForm, ChunkEncoder, ChunkStream, WholeReply};
use crate::dialect::openai::request::ChatCompletionRequest;
use crate::gateway::requests::AskedFor;
use crate::gateway::route::Route;
use crate::http::call::{Call, json_response, note_headers, unix_seconds, usage_header};
use crate::http::serve::content::json::{JsonBody, read_json};
use crate::http::serve::content::lift::put_back;
use crate::http::state::AppState;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/v1/chat/completions", post(create_chat_completion))
}

async fn create_chat_completion(call: Call, request: Request) -> Result<Response, Response> {
    call.record.asks(AskedFor::Answer);
    let body = read_json(request, &call.settings).await?;
    answer(call, body).await.map_err(Failure::into_response)
}

async fn answer(call: Call, body: JsonBody) -> Result<Response, Failure> {
    let route = call.choose(body.value.get("model").and_then(Value::as_str)).await?;
    let ChatCompletionRequest { chat, stream, include_usage, is_legacy } = read(body, &route).await?;
    call.log_question(|| chat.newest_user_text());
    let prepared = call.state.0.answers.prepare(&call.answering, chat, route, |model| call.may_use(model)).await?;
    call.record.model(&prepared.model);
    let (id, created, model) =
        (format!("chatcmpl-{}", Uuid::new_v4().simple()), unix_seconds(), prepared.model.clone());
    let notes = note_headers(&prepared.notes);
    let form = if is_legacy { CallForm::FunctionCall } else { CallForm::ToolCalls };
    let mut response = if stream {
        let encoder = ChunkEncoder::new(&id, created, &model, include_usage).calls_as(form);
        let sink = if prepared.is_verbatim {
            ChunkStream::of_frames(encoder, FrameStream::new(&id, created, &model, include_usage))
        } else {
            ChunkStream::new(encoder)
        };
        call.stream(prepared, sink).await?
    } else {
        let mut sink = if prepared.is_verbatim { WholeReply::of_frames() } else { WholeReply::of_events(form) };
        let ending = call.whole(&prepared, &mut sink).await?;
        let mut response = json_response(sink.finish(&id, created, &model, &ending));
        response.headers_mut().extend(usage_header(ending.is_usage_estimated));
        response
    };
    response.headers_mut().extend(notes);
    Ok(response)
}

/// Reads the body for the upstream that it goes to. Decoding and hashing of large files would hold up other requests,
/// so that is done aside.
async fn read(mut body: JsonBody, route: &Route) -> Result<ChatCompletionRequest, Failure> {
    if let Route::Relay(..) = route {
        put_back(&mut body.value, &body.lifted).map_err(|_| Failure::internal())?;
        return Ok(ChatCompletionRequest::verbatim(body.value)?);
    }
    let parse = move || ChatCompletionRequest::parse(&body.value, &body.lifted);
    let (_share, request) = body.share.work(body.bytes, parse).await?;
    Ok(request?)
}
