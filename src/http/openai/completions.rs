//! `POST /v1/completions`, the older dialect: each prompt is a chat of one message, on whichever kind of upstream has
//! the model. Whole answers are made side by side; a stream answers one prompt after the other.

use std::collections::VecDeque;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures_util::future::try_join_all;
use http::header::{CONTENT_TYPE, HeaderMap};
use uuid::Uuid;

use crate::chat::job::{ChatJob, ChatRequest, ReasoningFormat};
use crate::chat::reply::ReplySink;
use crate::dialect::openai::completions::{CompletionsRequest, TextHead, TextReply, TextStream, whole};
use crate::dialect::openai::reply::{EventSink as _, ReplyShaper};
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::failover::Asker;
use crate::gateway::answer::relay::{RelayGateway, RelayJob};
use crate::gateway::answer::turn::{Finished, Turn};
use crate::gateway::route::Route;
use crate::http::failure::ApiError;
use crate::http::openai::chat::{client_retries, event_stream, note_headers, unix_seconds};
use crate::http::serve::access::RequestRecord;
use crate::http::serve::auth::Caller;
use crate::http::serve::json::read_json;
use crate::http::serve::lift::put_back;
use crate::http::serve::server::PollCount;
use crate::http::state::AppState;
use crate::http::stream::{Following, Opening};
use crate::upstream::openai::translate::RelayRequest;

/// The routes of this file.
pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/completions", post(create_completion))
}

async fn create_completion(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Extension(record): Extension<RequestRecord>,
    Extension(polls): Extension<PollCount>,
    request: Request,
) -> Result<Response, Response> {
    let client_retries = client_retries(request.headers());
    let mut body = read_json(request, &state.0.settings).await?;
    let answered = async {
        // A prompt is text, whatever stands in it.
        put_back(&mut body.value, &body.lifted).map_err(|_| ApiError::internal())?;
        let request = CompletionsRequest::parse(body.value)?;
        let (model, turns, notes) = turns(&state, &request).await?;
        record.model(&model);
        let asker = Asker { caller: caller.id, own: caller.own, client_retries };
        let head = TextHead { id: format!("cmpl-{}", Uuid::new_v4().simple()), created: unix_seconds(), model };
        let mut response = if request.stream {
            record.streamed();
            stream(&state, turns, asker, (head, request.include_usage), record, polls).await?
        } else {
            complete(&state, &turns, &asker, &head, &record).await?
        };
        response.headers_mut().extend(notes);
        Ok(response)
    };
    answered.await.map_err(ApiError::into_response)
}

/// One prompt, ready to be answered.
enum PromptTurn {
    /// By the web chat.
    Web(Box<ChatJob>),
    /// By an upstream that speaks OpenAI's dialect.
    Relay(RelayGateway, Box<RelayJob>),
}

impl PromptTurn {
    /// What shapes the answer. Thoughts are not shown, since a text has no place for them.
    fn text(&self) -> TextReply {
        TextReply::new(match self {
            Self::Web(job) => ReplyShaper::new(job),
            Self::Relay(_, job) => ReplyShaper::without_limits(job.request.bytes()),
        })
    }

    async fn open(
        &self,
        state: &AppState,
        asker: &Asker,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<Turn, ChatError> {
        match self {
            Self::Web(job) => state.0.chats.open(job, asker, sink).await,
            Self::Relay(gateway, job) => gateway.open(job, asker, sink).await,
        }
    }

    async fn complete(
        &self,
        state: &AppState,
        asker: &Asker,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<(Turn, Finished), ChatError> {
        match self {
            Self::Web(job) => state.0.chats.complete(job, asker, sink).await,
            Self::Relay(gateway, job) => gateway.complete(job, asker, sink).await,
        }
    }
}

/// The turns of all prompts, the model as the answer names it, and the headers that tell how it was understood.
async fn turns(
    state: &AppState,
    request: &CompletionsRequest,
) -> Result<(String, Vec<PromptTurn>, HeaderMap), ApiError> {
    let asked = request.model();
    let chats = request.prompts.iter().map(|prompt| request.chat(prompt)).enumerate();
    let mut turns = Vec::with_capacity(request.prompts.len());
    let (mut model, mut notes) = (String::new(), HeaderMap::new());
    match state.0.kinds.choose(asked).await {
        Route::Nobody => return Err(ApiError::model_not_found(asked.unwrap_or_default())),
        Route::Relay(gateway, upstream_model) => {
            for (place, chat) in chats {
                let relayed = RelayRequest::parse(chat).map_err(|error| request.blame(place, error))?;
                model = relayed.model.clone().unwrap_or_else(|| upstream_model.clone());
                let job = RelayJob { model: model.clone(), upstream_model: upstream_model.clone(), request: relayed };
                turns.push(PromptTurn::Relay(gateway.clone(), Box::new(job)));
            }
        }
        Route::Web => {
            let catalogue = state.0.models.current().await;
            let rules = state.rules(&catalogue);
            for (place, chat) in chats {
                let blamed = |error| request.blame(place, error);
                let parsed = ChatRequest::parse(&chat, &[]).map_err(blamed)?;
                let mut job = parsed.resolve(&rules).map_err(blamed)?;
                job.reasoning_format = ReasoningFormat::Hidden;
                job.files = state.0.attachments.gather(std::mem::take(&mut job.files)).await?;
                model.clone_from(&job.model);
                notes = note_headers(&job);
                turns.push(PromptTurn::Web(Box::new(job)));
            }
        }
    }
    Ok((model, turns, notes))
}

async fn complete(
    state: &AppState,
    turns: &[PromptTurn],
    asker: &Asker,
    head: &TextHead,
    record: &RequestRecord,
) -> Result<Response, ApiError> {
    // One text too few is a wrong answer, so all of them have to be made.
    let answers = try_join_all(turns.iter().map(async |prompt| {
        let mut text = prompt.text();
        let answered = prompt.complete(state, asker, &mut text).await;
        let (turn, finished) = answered.map_err(|error| ApiError::from(&error))?;
        record.answered_by(turn.identity().as_str(), turn.attempts());
        Ok::<_, ApiError>((text, finished.reason, finished.counts))
    }));
    let texts = tokio::select! {
        texts = answers => texts?,
        () = state.0.ending.cancelled() => return Err(ApiError::shutting_down()),
    };
    Ok(([(CONTENT_TYPE, "application/json")], whole(head, texts)).into_response())
}

async fn stream(
    state: &AppState,
    turns: Vec<PromptTurn>,
    asker: Asker,
    (head, include_usage): (TextHead, bool),
    record: RequestRecord,
    polls: PollCount,
) -> Result<Response, ApiError> {
    let texts = turns.iter().map(PromptTurn::text).collect();
    let mut sink = TextStream::new(head, include_usage, texts).ok_or_else(ApiError::internal)?;
    let head = sink.head();
    let (mut waiting, shared) = (VecDeque::from(turns), state.clone());
    let mut following: Following<TextStream> = Box::new(move |mut sink| {
        let (turn, state, asker) = (waiting.pop_front()?, shared.clone(), asker.clone());
        let opening: Opening<TextStream> = Box::pin(async move {
            let opened = turn.open(&state, &asker, &mut sink).await;
            (opened, sink)
        });
        Some(opening)
    });
    let opening = following(sink).ok_or_else(ApiError::internal)?;
    event_stream(state, head, opening, Some(following), record, polls).await
}
