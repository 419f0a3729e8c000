//! `POST /v1/images/generations` and `POST /v1/images/edits`.

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

use crate::chat::error::{RequestError, type_name};
use crate::chat::failure::Failure;
use crate::chat::file_part::markdown_pictures;
use crate::chat::reply::{FinishReason, ReplyEvent, ReplySink};
use crate::dialect::openai::images::ImagesRequest;
use crate::files::blob::Blob;
use crate::gateway::answer::run::Prepared;
use crate::gateway::requests::AskedFor;
use crate::http::call::{Call, note_headers, unix_seconds};
use crate::http::serve::content::json::read_json;
use crate::http::serve::content::multipart::{FormFile, is_form, read_form};
use crate::http::settings::HttpSettings;
use crate::http::state::AppState;
use crate::store::MadeKind;

/// Most bytes of a text in place of a picture that are read.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/v1/images/generations", post(create_image)).route("/v1/images/edits", post(edit_image))
}

async fn create_image(call: Call, request: Request) -> Result<Response, Response> {
    call.record.asks(AskedFor::Picture);
    let body = Body::read(&call.settings, request).await?;
    answer(call, body, false).await.map_err(Failure::into_response)
}

async fn edit_image(call: Call, request: Request) -> Result<Response, Response> {
    call.record.asks(AskedFor::Picture);
    let body = Body::read(&call.settings, request).await?;
    answer(call, body, true).await.map_err(Failure::into_response)
}

async fn answer(call: Call, body: Body, is_edit: bool) -> Result<Response, Failure> {
    let files = body.files.iter().map(|file| (file.field.as_str(), file.name.as_str(), &file.content));
    let request = ImagesRequest::parse(&body.fields, &files.collect::<Vec<_>>(), &body.lifted, is_edit)?;
    drop(body);
    call.allow(request.model())?;
    let (count, is_b64) = (request.count, request.is_b64);
    call.log_question(|| Some(request.prompt.clone()));
    let prepared = call.state.0.answers.prepare_media(&call.answering, |rules| request.resolve(rules)).await?;
    call.record.model(&prepared.model);
    let created = unix_seconds();
    // One picture too few is a wrong answer, so all of them have to be made.
    let urls = try_join_all((0..count).map(|_| pictures(&call, &prepared))).await?.concat();
    let entries = try_join_all(urls.into_iter().map(|url| entry(&call.state, url, is_b64))).await?;
    let body = json!({ "created": created, "data": entries });
    Ok((note_headers(&prepared.notes), Json(body)).into_response())
}

/// One turn, and the links to what it made.
async fn pictures(call: &Call, prepared: &Prepared) -> Result<Vec<String>, Failure> {
    let mut sink = Pictures::default();
    let ending = call.whole(prepared, &mut sink).await?;
    if sink.urls.is_empty() {
        sink.urls.extend(markdown_pictures(&sink.text).map(str::to_owned));
        let trace = call.record.trace();
        sink.urls.iter().for_each(|link| trace.made(MadeKind::Image, link));
    }
    if sink.urls.is_empty() {
        return Err(Failure::no_picture(&sink.text, ending.reason == FinishReason::ContentFilter));
    }
    Ok(sink.urls)
}

async fn entry(state: &AppState, url: String, is_b64: bool) -> Result<Value, Failure> {
    if !is_b64 {
        return Ok(json!({ "url": url }));
    }
    let result = state.0.attachments.result(&url).await.map_err(|_| Failure::lost_result("picture"))?;
    Ok(json!({ "b64_json": STANDARD.encode(result) }))
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
    pub(crate) async fn read(settings: &HttpSettings, request: Request) -> Result<Self, Response> {
        if is_form(&request) {
            let form = read_form(request, settings).await?;
            return Ok(Self { fields: form.fields, files: form.files, lifted: Vec::new() });
        }
        let body = read_json(request, settings).await?;
        match body.value {
            Value::Object(fields) => Ok(Self { fields, files: Vec::new(), lifted: body.lifted }),
            other => Err(Failure::from(RequestError::not_an_object(type_name(&other))).into_response()),
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

    fn held_bytes(&self) -> usize {
        self.urls.iter().map(String::len).sum()
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}
