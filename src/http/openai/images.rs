//! `POST /v1/images/generations` and `POST /v1/images/edits`.

use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

use crate::chat::job::ChatJob;
use crate::chat::reply::{FinishReason, ReplyEvent, ReplySink};
use crate::dialect::openai::fields::{RequestError, type_name};
use crate::dialect::openai::images::ImagesRequest;
use crate::dialect::openai::parts::markdown_pictures;
use crate::files::blob::Blob;
use crate::gateway::answer::failover::Asker;
use crate::http::failure::ApiError;
use crate::http::openai::chat::{client_retries, note_headers, unix_seconds};
use crate::http::serve::access::RequestRecord;
use crate::http::serve::auth::Caller;
use crate::http::serve::json::read_json;
use crate::http::serve::multipart::{FormFile, is_form, read_form};
use crate::http::state::AppState;

/// How much of a text in place of a picture is looked at.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// The routes of this file.
pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/images/generations", post(create_image)).route("/v1/images/edits", post(edit_image))
}

async fn create_image(
    state: State<AppState>,
    caller: Extension<Caller>,
    record: Extension<RequestRecord>,
    request: Request,
) -> Result<Response, Response> {
    answer(state.0, caller.0, record.0, request, false).await
}

async fn edit_image(
    state: State<AppState>,
    caller: Extension<Caller>,
    record: Extension<RequestRecord>,
    request: Request,
) -> Result<Response, Response> {
    answer(state.0, caller.0, record.0, request, true).await
}

async fn answer(
    state: AppState,
    caller: Caller,
    record: RequestRecord,
    request: Request,
    is_edit: bool,
) -> Result<Response, Response> {
    let client_retries = client_retries(request.headers());
    let body = Body::read(&state, request).await?;
    let made = async {
        let files = body.files.iter().map(|file| (file.field.as_str(), file.name.as_str(), &file.content));
        let request = ImagesRequest::parse(&body.fields, &files.collect::<Vec<_>>(), &body.lifted, is_edit)?;
        drop(body);
        let (count, is_b64) = (request.count, request.is_b64);
        let catalogue = state.0.models.current().await;
        let mut job = request.resolve(&state.rules(&catalogue))?;
        record.model(&job.model);
        job.files = state.0.attachments.gather(std::mem::take(&mut job.files)).await?;
        let asker = Asker { caller: caller.id, own: caller.own, client_retries };
        let created = unix_seconds();
        // One picture too few is a wrong answer, so all of them have to be made.
        let turns = try_join_all((0..count).map(|_| pictures(&state, &job, &asker, &record)));
        let urls = tokio::select! {
            urls = turns => urls?.concat(),
            () = state.0.ending.cancelled() => return Err(ApiError::shutting_down()),
        };
        let entries = try_join_all(urls.into_iter().map(|url| entry(&state, url, is_b64))).await?;
        let body = json!({ "created": created, "data": entries });
        Ok((note_headers(&job), Json(body)).into_response())
    };
    made.await.map_err(ApiError::into_response)
}

/// One turn, and the links to what it made.
async fn pictures(
    state: &AppState,
    job: &ChatJob,
    asker: &Asker,
    record: &RequestRecord,
) -> Result<Vec<String>, ApiError> {
    let mut sink = Pictures::default();
    let answered = state.0.chats.complete(job, asker, &mut sink).await;
    let (turn, finished) = answered.map_err(|error| ApiError::from(&error))?;
    record.answered_by(turn.identity().as_str(), turn.attempts());
    if sink.urls.is_empty() {
        sink.urls.extend(markdown_pictures(&sink.text).map(str::to_owned));
    }
    if sink.urls.is_empty() {
        return Err(ApiError::no_picture(&sink.text, finished.reason == FinishReason::ContentFilter));
    }
    Ok(sink.urls)
}

async fn entry(state: &AppState, url: String, is_b64: bool) -> Result<Value, ApiError> {
    if !is_b64 {
        return Ok(json!({ "url": url }));
    }
    let result = state.0.attachments.result(&url).await.map_err(|_| ApiError::lost_result("picture"))?;
    Ok(json!({ "b64_json": STANDARD.encode(result.content) }))
}

/// A body in either form.
pub(crate) struct Body {
    pub(crate) fields: Map<String, Value>,
    pub(crate) files: Vec<FormFile>,
    pub(crate) lifted: Vec<Blob>,
}

impl Body {
    /// Reads JSON or a form.
    ///
    /// # Errors
    /// The ready answer.
    pub(crate) async fn read(state: &AppState, request: Request) -> Result<Self, Response> {
        if is_form(&request) {
            let form = read_form(request, &state.0.settings).await?;
            return Ok(Self { fields: form.fields, files: form.files, lifted: Vec::new() });
        }
        let body = read_json(request, &state.0.settings).await?;
        match body.value {
            Value::Object(fields) => Ok(Self { fields, files: Vec::new(), lifted: body.lifted }),
            other => Err(ApiError::from(RequestError::not_an_object(type_name(&other))).into_response()),
        }
    }
}

/// Collects the links of pictures, and the beginning of what is said instead.
#[derive(Default)]
struct Pictures {
    urls: Vec<String>,
    text: String,
}

impl ReplySink for Pictures {
    fn event(&mut self, event: ReplyEvent<'_>) {
        match event {
            ReplyEvent::Image { url } => self.urls.push(url.to_owned()),
            ReplyEvent::Text(text) if self.text.len() < TEXT_BYTES_MAX => text.append_to(&mut self.text),
            _ => {}
        }
    }

    fn ended(&self) -> Option<FinishReason> {
        None
    }

    fn held_bytes(&self) -> usize {
        self.urls.iter().map(String::len).sum()
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}
