//! `POST /v1/completions`, the older dialect: each prompt is a chat of one message, on whichever kind of upstream has
//! the model. Whole answers are made side by side; a stream answers one prompt after the other.

use std::collections::VecDeque;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures_util::future::try_join_all;
use uuid::Uuid;

use crate::chat::error::RequestError;
use crate::chat::failure::Failure;
use crate::chat::job::ReasoningFormat;
use crate::dialect::openai::completions::{CompletionsRequest, TextHead, TextReply, TextStream, whole};
use crate::dialect::openai::request::ChatCompletionRequest;
use crate::dialect::writer::StreamWriter as _;
use crate::gateway::answer::run::Prepared;
use crate::gateway::requests::AskedFor;
use crate::gateway::route::Route;
use crate::http::call::{Call, json_response, note_headers, unix_seconds, usage_header};
use crate::http::serve::content::json::{JsonBody, read_json};
use crate::http::serve::content::lift::put_back;
use crate::http::state::AppState;
use crate::http::stream::Following;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/v1/completions", post(create_completion))
}

async fn create_completion(mut call: Call, request: Request) -> Result<Response, Response> {
    call.record.asks(AskedFor::Answer);
    call.is_continuable = false;
    let body = read_json(request, &call.settings).await?;
    answer(call, body).await.map_err(Failure::into_response)
}

async fn answer(call: Call, mut body: JsonBody) -> Result<Response, Failure> {
    // A prompt is text, even if it looks like something else.
    put_back(&mut body.value, &body.lifted).map_err(|_| Failure::internal())?;
    let request = CompletionsRequest::parse(body.value)?;
    let turns = turns(&call, &request).await?;
    let first = turns.first().ok_or_else(Failure::internal)?;
    let (model, notes) = (first.model.clone(), note_headers(&first.notes));
    call.record.model(&model);
    let head = TextHead { id: format!("cmpl-{}", Uuid::new_v4().simple()), created: unix_seconds(), model };
    let mut response = if request.stream {
        stream(call, turns, head, request.include_usage).await?
    } else {
        // One text too few is a wrong answer, so all of them have to be made.
        let answers = try_join_all(turns.iter().map(async |prompt| {
            let mut text = TextReply::default();
            let ending = call.whole(prompt, &mut text).await?;
            Ok::<_, Failure>((text, ending))
        }));
        let answers = answers.await?;
        let is_estimated = answers.iter().any(|(_, ending)| ending.is_usage_estimated);
        let mut response = json_response(whole(&head, &answers));
        response.headers_mut().extend(usage_header(is_estimated));
        response
    };
    response.headers_mut().extend(notes);
    Ok(response)
}

/// The turns of all prompts, in their order.
async fn turns(call: &Call, request: &CompletionsRequest) -> Result<Vec<Prepared>, Failure> {
    let route = call.choose(request.model()).await?;
    let mut turns = Vec::with_capacity(request.prompts.len());
    for (place, prompt) in request.prompts.iter().enumerate() {
        let blamed = |error: RequestError| request.blame(place, error);
        let body = request.chat(prompt);
        let read = match route {
            Route::Relay(..) => ChatCompletionRequest::verbatim(body),
            Route::Web => ChatCompletionRequest::parse(&body, &[]),
        };
        let mut chat = read.map_err(blamed)?.chat;
        // A text has no place for thoughts.
        chat.wishes.reasoning_format = Some(ReasoningFormat::Hidden);
        call.log_question(|| chat.newest_user_text());
        let prepared =
            call.state.0.answers.prepare(&call.answering, chat, route.clone(), |model| call.may_use(model)).await;
        turns.push(prepared.map_err(blamed)?);
    }
    Ok(turns)
}

async fn stream(call: Call, turns: Vec<Prepared>, head: TextHead, include_usage: bool) -> Result<Response, Failure> {
    let mut sink = TextStream::new(head, include_usage, turns.len());
    let head = sink.head();
    let (mut waiting, opener) = (VecDeque::from(turns), call.opener());
    let mut following: Following<TextStream> = Box::new(move |sink| Some(opener.open(waiting.pop_front()?, sink)));
    let opening = following(sink).ok_or_else(Failure::internal)?;
    call.event_stream(head, opening, Some(following)).await
}
