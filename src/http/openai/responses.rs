//! `POST /v1/responses` and what belongs to it: OpenAI's newer dialect, on every kind of upstream.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use crate::chat::error::RequestError;
use crate::chat::failure::Failure;
use crate::chat::reply::{Ending, ReplyEvent, ReplySink};
use crate::dialect::openai::error::error_type;
use crate::dialect::responses::reply::{ResponseHead, ResponseReply};
use crate::dialect::responses::request::{ResponsesRequest, blame, previous_response_id};
use crate::dialect::writer::StreamWriter;
use crate::http::call::{Call, json_response, note_headers, unix_seconds};
use crate::http::failure::ApiError;
use crate::http::serve::json::{JsonBody, read_json};
use crate::http::state::AppState;

/// A body of this size is read on a thread of its own.
const LARGE_BODY_BYTES: usize = 256 * 1024;

/// The routes of this file.
pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/responses", post(create_response))
}

async fn create_response(call: Call, request: Request) -> Result<Response, Response> {
    let body = read_json(request, &call.state.0.settings).await?;
    answer(call, body).await.map_err(ApiError::into_response)
}

async fn answer(call: Call, body: JsonBody) -> Result<Response, ApiError> {
    let route = call.state.0.upstreams.choose(body.value.get("model").and_then(Value::as_str)).await?;
    if previous_response_id(&body.value)?.is_some() {
        let why = "Responses are not kept by this version; send the whole conversation in 'input'.";
        return Err(RequestError::unsupported("previous_response_id", why).into());
    }
    let ResponsesRequest { chat, stream, mut echo, freeform } = read(body).await?;
    echo.store = false;
    let prepared = call.state.0.answers.prepare(chat, route).await.map_err(blame)?;
    call.record.model(&prepared.model);
    let head = ResponseHead {
        id: format!("resp_{}", Uuid::new_v4().simple()),
        created_at: unix_seconds(),
        model: prepared.model.clone(),
        echo,
        freeform,
    };
    let notes = note_headers(&prepared.notes);
    let mut response = if stream {
        call.stream(prepared, ResponseStream(ResponseReply::streamed(head))).await?
    } else {
        let mut reply = ResponseReply::whole(head);
        let ending = call.whole(&prepared, &mut reply).await?;
        let finished = reply.finish(&ending);
        json_response(finished.json.clone())
    };
    response.headers_mut().extend(notes);
    Ok(response)
}

/// Reads the body. Decoding and hashing of large files would hold up other requests, so that is done aside.
async fn read(body: JsonBody) -> Result<ResponsesRequest, ApiError> {
    let is_large = body.bytes > LARGE_BODY_BYTES;
    let parse = move || ResponsesRequest::parse(&body.value, &[], &body.lifted);
    if !is_large {
        return Ok(parse()?);
    }
    Ok(tokio::task::spawn_blocking(parse).await.map_err(|_| ApiError::internal())??)
}

/// A response on its way out.
struct ResponseStream(ResponseReply);

impl ReplySink for ResponseStream {
    fn event(&mut self, event: ReplyEvent<'_>) {
        self.0.event(event);
    }

    fn held_bytes(&self) -> usize {
        self.0.held_bytes()
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

impl StreamWriter for ResponseStream {
    fn head(&mut self) -> Option<Bytes> {
        Some(self.0.head())
    }

    fn finish(&mut self, ending: &Ending) {
        self.0.finish(ending);
    }

    fn fail(&mut self, failure: &Failure, _: &str) {
        let is_callers = error_type(failure.kind) == "invalid_request_error";
        self.0.fail(failure.code, &failure.message, is_callers);
    }

    fn take(&mut self) -> Option<Bytes> {
        self.0.take()
    }
}
