//! `POST /v1/videos` and what belongs to it: videos as jobs, of which their callers alone hear.

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use serde::Serialize;
use serde_json::json;
use tracing::warn;

use crate::base::ids::UnixSeconds;
use crate::chat::error::RequestError;
use crate::chat::failure::Failure;
use crate::dialect::openai::videos::{
    IDEMPOTENCY_KEY_BYTES_MAX, VideoRequest, fingerprint, idempotency_hash, progress_after,
};
use crate::dialect::openai::wire::{Video, VideoError, VideoList};
use crate::gateway::requests::AskedFor;
use crate::gateway::videos::jobs::{NewVideo, Once, VideoJobError, VideoOwner};
use crate::http::call::{Call, log_question, note_headers, unix_seconds};
use crate::http::openai::images::Body;
use crate::http::results::send_on;
use crate::http::serve::admission::caller::Caller;
use crate::http::state::AppState;
use crate::store::{VideoJob, VideoState};
use crate::telemetry::ErrorChain;

/// Jobs on a page when the caller does not say.
const PAGE_DEFAULT: usize = 20;
/// The most jobs on a page.
const PAGE_MAX: usize = 100;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/videos", post(create_video).get(list_videos))
        .route("/v1/videos/{id}", get(retrieve_video).delete(delete_video))
        .route("/v1/videos/{id}/content", get(retrieve_content))
}

async fn create_video(call: Call, request: Request) -> Result<Response, Response> {
    call.record.asks(AskedFor::Video);
    let key = idempotency_key(request.headers()).map_err(Failure::into_response)?;
    let body = Body::read(&call.settings, request).await?;
    take_up(call, body, key).await.map_err(Failure::into_response)
}

async fn take_up(call: Call, body: Body, key: Option<String>) -> Result<Response, Failure> {
    let owner = owner(&call.caller);
    let files: Vec<_> =
        body.files.iter().map(|file| (file.field.as_str(), file.name.as_str(), &file.content)).collect();
    let request = VideoRequest::parse(&body.fields, &files, &body.lifted)?;
    let once = key.map(|key| Once {
        key: idempotency_hash(&owner.hash, &key),
        fingerprint: fingerprint(&body.fields, &files, &body.lifted),
    });
    drop(body);
    call.allow(request.model())?;
    let retries_max = call.retries_max();
    let Call { state, settings, answering, record, .. } = call;
    let size = request.size.clone();
    log_question(&settings, &record, || Some(request.prompt.clone()));
    let mut job = state.0.answers.media_request(&answering, |rules| request.resolve(rules)).await?;
    record.model(&job.model);
    record.trace().understood(&job.notes);
    let notes = note_headers(&job.notes);
    let known = once.as_ref().map(|once| state.0.videos.asked_before(&owner, once)).transpose()?.flatten();
    let video = match known {
        Some(known) => known,
        None => {
            job.files = state.0.attachments.gather(std::mem::take(&mut job.files)).await?;
            state.0.videos.create(NewVideo { owner, job, size, once, retries_max }).await?
        }
    };
    Ok((notes, json_of(&shown(&video))?).into_response())
}

async fn retrieve_video(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    json_of(&shown(&find(&state, &caller, id)?))
}

async fn list_videos(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let (mut after, mut limit, mut is_newest_first) = (None, PAGE_DEFAULT, true);
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "after" => after = Some(value.into_owned()),
            "limit" => {
                let wrong = || RequestError::invalid_value("limit", &format!("an integer from 1 to {PAGE_MAX}"));
                limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit)).ok_or_else(wrong)?;
            }
            "order" => match &*value {
                "asc" => is_newest_first = false,
                "desc" => is_newest_first = true,
                _ => return Err(RequestError::invalid_value("order", "'asc' or 'desc'").into()),
            },
            _ => {}
        }
    }
    let page = state.0.videos.list(&owner(&caller), after.as_deref(), limit, is_newest_first)?;
    json_of(&VideoList {
        object: "list",
        data: page.jobs.iter().map(shown).collect(),
        first_id: page.jobs.first().map(|job| job.id.as_str()),
        last_id: page.jobs.last().map(|job| job.id.as_str()),
        has_more: page.has_more,
    })
}

async fn delete_video(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let Path(id) = id.map_err(|_| Failure::video_not_found())?;
    state.0.videos.delete(&owner(&caller), &id).await?;
    json_of(&json!({ "id": id, "object": "video.deleted", "deleted": true }))
}

/// The video itself, from the upstream's storage through this server: its link carries a key.
async fn retrieve_content(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let job = find(&state, &caller, id)?;
    let query = query.unwrap_or_default();
    let mut variants = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "variant");
    if variants.any(|(_, value)| value != "video") {
        let why = "The upstream makes the video alone, without pictures of it.";
        return Err(RequestError::unsupported_value("variant", why).into());
    }
    let Some(link) = &job.link else {
        return Err(Failure::video_not_ready(status(&job), job.error.as_ref().map(|(_, why)| why.as_str())));
    };
    let opened = state.0.videos.open(link, headers.get(RANGE)).await;
    let opened = opened.map_err(|error| {
        warn!(video.id = %job.id, error = %ErrorChain(&error), "a video cannot be fetched from its link");
        Failure::lost_result("video")
    })?;
    Ok(send_on(opened, HeaderValue::from_static("video/mp4"), &state.0.ending))
}

fn find(state: &AppState, caller: &Caller, id: Result<Path<String>, PathRejection>) -> Result<VideoJob, Failure> {
    // Bytes that are not text once decoded name no video; the rejection itself would be plain text.
    let Path(id) = id.map_err(|_| Failure::video_not_found())?;
    Ok(state.0.videos.get(&owner(caller), &id)?)
}

fn owner(caller: &Caller) -> VideoOwner {
    let hash = caller.hash();
    VideoOwner { hash: hash.as_str().to_owned(), own: caller.own.clone() }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= IDEMPOTENCY_KEY_BYTES_MAX);
    match key {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Failure::invalid_idempotency_key(IDEMPOTENCY_KEY_BYTES_MAX)),
    }
}

fn shown(job: &VideoJob) -> Video<'_> {
    let until = job.completed_at.unwrap_or(UnixSeconds(unix_seconds()));
    let progress = match job.state {
        VideoState::Queued => 0,
        VideoState::Running | VideoState::Failed => progress_after(until.seconds_since(job.created_at)),
        VideoState::Completed => 100,
    };
    Video {
        id: &job.id,
        object: "video",
        model: &job.model,
        status: status(job),
        progress,
        created_at: job.created_at.0,
        completed_at: job.completed_at.map(|at| at.0),
        expires_at: None,
        prompt: &job.prompt,
        size: &job.size,
        seconds: &job.seconds,
        remixed_from_video_id: None,
        error: job.error.as_ref().map(|(code, message)| VideoError { code, message }),
    }
}

fn status(job: &VideoJob) -> &'static str {
    match job.state {
        VideoState::Queued => "queued",
        VideoState::Running => "in_progress",
        VideoState::Completed => "completed",
        VideoState::Failed => "failed",
    }
}

fn json_of(value: &impl Serialize) -> Result<Response, Failure> {
    let body = serde_json::to_vec(value).map_err(|_| Failure::internal())?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

impl From<VideoJobError> for Failure {
    fn from(error: VideoJobError) -> Self {
        match error {
            VideoJobError::NotFound => Self::video_not_found(),
            VideoJobError::KeyReused => Self::idempotency_key_reused(),
            VideoJobError::Busy => Self::too_many_videos(),
            VideoJobError::NotKept(_) | VideoJobError::Unreadable(_) => {
                warn!(error = %ErrorChain(&error), "a video job could not be stored, read or deleted");
                Self::internal()
            }
        }
    }
}
