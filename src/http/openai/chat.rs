//! `POST /v1/chat/completions`.

use std::time::SystemTime;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use crate::chat::job::{ChatJob, ChatRequest, PROMPT_FILE};
use crate::dialect::openai::reply::{ChunkEncoder, ChunkStream, EventSink, WholeReply};
use crate::gateway::answer::failover::Asker;
use crate::gateway::answer::relay::{RelayGateway, RelayJob};
use crate::gateway::route::Route;
use crate::http::failure::ApiError;
use crate::http::serve::access::RequestRecord;
use crate::http::serve::auth::Caller;
use crate::http::serve::json::{JsonBody, read_json};
use crate::http::serve::lift::put_back;
use crate::http::serve::server::PollCount;
use crate::http::state::AppState;
use crate::http::stream::{Following, Opening, ReplyBody, StreamContext};
use crate::upstream::openai::translate::{RelayChunks, RelayRequest, RelayWhole};

/// A body of this size is worth a thread of its own.
const LARGE_BODY_BYTES: usize = 256 * 1024;

/// The routes of this file.
pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/chat/completions", post(create_chat_completion))
}

async fn create_chat_completion(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Extension(record): Extension<RequestRecord>,
    Extension(polls): Extension<PollCount>,
    request: Request,
) -> Result<Response, Response> {
    let client_retries = client_retries(request.headers());
    let mut body = read_json(request, &state.0.settings).await?;
    let asked = body.value.get("model").and_then(Value::as_str);
    match state.0.kinds.choose(asked).await {
        Route::Web => {}
        Route::Nobody => return Err(ApiError::model_not_found(asked.unwrap_or_default()).into_response()),
        Route::Relay(gateway, upstream_model) => {
            let restored = put_back(&mut body.value, &body.lifted).map_err(|_| ApiError::internal());
            restored.map_err(ApiError::into_response)?;
            let asker = Asker { caller: caller.id, own: None, client_retries };
            let answered = relay(&state, gateway, upstream_model, body.value, asker, record, polls).await;
            return answered.map_err(ApiError::into_response);
        }
    }
    let (job, is_streamed, include_usage) = check(&state, body).await.map_err(ApiError::into_response)?;
    record.model(&job.model);
    let asker = Asker { caller: caller.id, own: caller.own, client_retries };
    let id = format!("chatcmpl-{}", Uuid::new_v4().simple());
    let created = unix_seconds();
    let notes = note_headers(&job);
    let mut response = if is_streamed {
        record.streamed();
        let encoder = ChunkEncoder::new(&id, created, &job.model, include_usage);
        stream(&state, job, asker, encoder, record, polls).await
    } else {
        whole(&state, &job, &asker, &id, created, &record).await
    }
    .map_err(ApiError::into_response)?;
    response.headers_mut().extend(notes);
    Ok(response)
}

async fn check(state: &AppState, body: JsonBody) -> Result<(ChatJob, bool, bool), ApiError> {
    let request = parse(body).await?;
    let (is_streamed, include_usage) = (request.stream, request.include_usage);
    let catalogue = state.0.models.current().await;
    let mut job = request.resolve(&state.rules(&catalogue))?;
    job.files = state.0.attachments.gather(std::mem::take(&mut job.files)).await?;
    Ok((job, is_streamed, include_usage))
}

/// Decoding and hashing of large files would hold up everybody else, so that is done aside.
async fn parse(body: JsonBody) -> Result<ChatRequest, ApiError> {
    let is_large = body.bytes > LARGE_BODY_BYTES;
    let parse = move || ChatRequest::parse(&body.value, &body.lifted);
    if !is_large {
        return Ok(parse()?);
    }
    Ok(tokio::task::spawn_blocking(parse).await.map_err(|_| ApiError::internal())??)
}

/// The web chat's answer as a stream.
async fn stream(
    state: &AppState,
    job: ChatJob,
    asker: Asker,
    encoder: ChunkEncoder,
    record: RequestRecord,
    polls: PollCount,
) -> Result<Response, ApiError> {
    let chats = state.0.chats.clone();
    let mut sink = ChunkStream::new(&job, encoder);
    let head = sink.head();
    let opening: Opening<ChunkStream> = Box::pin(async move {
        let opened = chats.open(&job, &asker, &mut sink).await;
        (opened, sink)
    });
    event_stream(state, head, opening, None, record, polls).await
}

/// Waits for the first content as long as the status may wait; from then on the answer's body goes on waiting. Answers
/// that follow in the same stream cannot change its status any more.
pub(crate) async fn event_stream<S: EventSink + Unpin + Send + 'static>(
    state: &AppState,
    head: Bytes,
    mut opening: Opening<S>,
    following: Option<Following<S>>,
    record: RequestRecord,
    polls: PollCount,
) -> Result<Response, ApiError> {
    // No caller hears nothing for longer than the interval, headers included.
    let hold = state.0.settings.headers_hold.min(state.0.settings.keepalive_interval);
    let context = StreamContext {
        head,
        record,
        keepalive: state.0.settings.keepalive_interval,
        ending: state.0.ending.clone(),
        polls,
    };
    let opened = tokio::select! {
        opened = timeout(hold, &mut opening) => opened,
        () = state.0.ending.cancelled() => return Err(ApiError::shutting_down()),
    };
    let body = match opened {
        Ok((Ok(turn), sink)) => ReplyBody::streaming(turn, sink, context),
        Ok((Err(error), _)) => return Err((&error).into()),
        Err(_) => ReplyBody::opening(opening, context),
    }
    .followed_by(following);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok((headers, axum::body::Body::new(body)).into_response())
}

/// The answer of an upstream that speaks the same dialect.
async fn relay(
    state: &AppState,
    gateway: RelayGateway,
    upstream_model: String,
    body: Value,
    asker: Asker,
    record: RequestRecord,
    polls: PollCount,
) -> Result<Response, ApiError> {
    let request = RelayRequest::parse(body)?;
    let model = request.model.clone().unwrap_or_else(|| upstream_model.clone());
    record.model(&model);
    let (id, created) = (format!("chatcmpl-{}", Uuid::new_v4().simple()), unix_seconds());
    let job = RelayJob { model, upstream_model, request };
    if job.request.stream {
        record.streamed();
        let mut sink = RelayChunks::new(&id, created, &job.model, job.request.include_usage);
        let head = sink.head();
        let opening: Opening<RelayChunks> = Box::pin(async move {
            let opened = gateway.open(&job, &asker, &mut sink).await;
            (opened, sink)
        });
        return event_stream(state, head, opening, None, record, polls).await;
    }
    let mut sink = RelayWhole::default();
    let answered = tokio::select! {
        answered = gateway.complete(&job, &asker, &mut sink) => answered,
        () = state.0.ending.cancelled() => return Err(ApiError::shutting_down()),
    };
    let (turn, _) = answered.map_err(|error| ApiError::from(&error))?;
    record.answered_by(turn.identity().as_str(), turn.attempts());
    Ok(([(CONTENT_TYPE, "application/json")], sink.finish(&id, created, &job.model)).into_response())
}

async fn whole(
    state: &AppState,
    job: &ChatJob,
    asker: &Asker,
    id: &str,
    created: i64,
    record: &RequestRecord,
) -> Result<Response, ApiError> {
    let mut sink = WholeReply::new(job);
    let answered = tokio::select! {
        answered = state.0.chats.complete(job, asker, &mut sink) => answered,
        () = state.0.ending.cancelled() => return Err(ApiError::shutting_down()),
    };
    let (turn, finished) = answered.map_err(|error| ApiError::from(&error))?;
    record.answered_by(turn.identity().as_str(), turn.attempts());
    let body = sink.finish(id, created, &job.model, finished.reason, finished.counts);
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// How often the caller's SDK has tried this request already.
pub(crate) fn client_retries(headers: &HeaderMap) -> u32 {
    let value = headers.get("x-stainless-retry-count").and_then(|value| value.to_str().ok());
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// What a caller has to know about how the request was understood.
pub(crate) fn note_headers(job: &ChatJob) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut note = |name: &'static str, value: String| {
        headers.extend(HeaderValue::try_from(value).ok().map(|value| (HeaderName::from_static(name), value)));
    };
    if !job.ignored.is_empty() {
        note(IGNORED, job.ignored.join(","));
    }
    if let Some(model) = &job.notes.fallback_model {
        note(FALLBACK_MODEL, model.clone());
    }
    if job.notes.omitted_files > 0 {
        note(OMITTED_FILES, job.notes.omitted_files.to_string());
    }
    if job.notes.has_prompt_file {
        note(PROMPT_AS_FILE, PROMPT_FILE.to_owned());
    }
    if let Some(aspect) = job.aspect() {
        note(ASPECT_RATIO, aspect.to_string());
    }
    headers
}

/// Parameters that were taken without effect.
pub(crate) const IGNORED: &str = "x-bridge-ignored";
/// The model that answers in place of the one that was asked for, which cannot take the files.
pub(crate) const FALLBACK_MODEL: &str = "x-bridge-fallback-model";
/// How many older files had no room beside the newer ones.
pub(crate) const OMITTED_FILES: &str = "x-bridge-omitted-files";
/// The name of the file that the conversation went as, being too long for a prompt.
pub(crate) const PROMPT_AS_FILE: &str = "x-bridge-prompt-file";
/// The ratio of the picture or video, which may be only near to the size that was asked for.
pub(crate) const ASPECT_RATIO: &str = "x-bridge-aspect-ratio";

pub(crate) fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
