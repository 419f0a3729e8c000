//! `GET /admin/gallery`: pictures and videos that were made, newest first, while their links live; and `GET /admin/media`,
//! through which the page shows them, so that the browser never contacts the upstream's storage.

use std::cmp::Reverse;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use serde_json::{Value, json};
use tracing::warn;
use url::Url;

use crate::base::ids::UnixSeconds;
use crate::chat::error::RequestError;
use crate::chat::failure::Failure;
use crate::gateway::gallery::{is_same, item};
use crate::http::owner::present::not_stored;
use crate::http::results::send_on;
use crate::http::state::AppState;
use crate::pool::Now;
use crate::store::{MadeItem, MadeKind};
use crate::telemetry::ErrorChain;

/// Types that a browser shows as a picture or a video, by the endings of names.
const SHOWN: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("avif", "image/avif"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("mov", "video/quicktime"),
];

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/gallery", get(gallery)).route("/admin/media", get(media))
}

async fn gallery(State(state): State<AppState>) -> Response {
    let items: Vec<Value> = items(&state, Now::read().unix).iter().map(shown).collect();
    not_stored(Json(json!({ "items": items })).into_response())
}

/// What was made in answers and by jobs of videos, newest first.
fn items(state: &AppState, now: UnixSeconds) -> Vec<MadeItem> {
    let mut items = state.0.owner.gallery.items(now);
    for video in state.0.videos.finished() {
        let made = item(MadeKind::Video, video.link, &video.model, video.completed_at);
        let made = made.filter(|made| made.ends_at > now && !items.iter().any(|known| is_same(known, made)));
        items.extend(made);
    }
    items.sort_by_key(|item| Reverse(item.at));
    items
}

fn shown(item: &MadeItem) -> Value {
    json!({
        "kind": item.kind.as_str(),
        "url": item.link.expose(),
        "model": item.model,
        "at": item.at.0,
        "ends_at": item.ends_at.0,
    })
}

/// The picture or video behind the link `url`, or the range of it that the request asks for; with `download` as a file to
/// be saved. The link has to be of the upstream's own storage, or one of the gallery.
async fn media(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let query = query.unwrap_or_default();
    let value = |wanted: &str| url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == wanted);
    let Some((_, link)) = value("url") else {
        return Err(RequestError::missing("url").into());
    };
    let is_known = || items(&state, Now::read().unix).iter().any(|item| item.link.expose() == link.as_ref());
    if !state.0.attachments.is_own_link(&link) && !is_known() {
        return Err(RequestError::invalid_value("url", "a link of the gallery").into());
    }
    let opened = state.0.attachments.open_result(&link, headers.get(RANGE)).await.map_err(|error| {
        warn!(error = %ErrorChain(&error), "a picture or a video cannot be fetched from its link");
        Failure::lost_result("file")
    })?;
    if opened.status == StatusCode::RANGE_NOT_SATISFIABLE {
        // The refusal is no file: its type is that of the storage's error page.
        return Ok(not_stored(send_on(opened, HeaderValue::from_static("application/octet-stream"), &state.0.ending)));
    }
    let name = file_name(&link);
    let told = opened.headers.get(CONTENT_TYPE).and_then(|told| told.to_str().ok());
    let Some(content_type) = shown_type(told, &name) else {
        warn!("a link of the gallery leads neither to a picture nor to a video");
        return Err(Failure::lost_result("file"));
    };
    let mut response = send_on(opened, HeaderValue::from_static(content_type), &state.0.ending);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    if value("download").is_some()
        && let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{name}\""))
    {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    Ok(not_stored(response))
}

/// The last part of a link's path, as the name of a file: letters, digits, `.`, `-` and `_`.
fn file_name(link: &str) -> String {
    let last = Url::parse(link).ok().and_then(|url| Some(url.path_segments()?.next_back()?.to_owned()));
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = last.unwrap_or_default().chars().filter(plain).take(100).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "made".to_owned() } else { name.to_owned() }
}

/// The type to show a file as: what the storage says, if that is a picture or a video, else what the name says.
fn shown_type(told: Option<&str>, name: &str) -> Option<&'static str> {
    let told = told.map(|told| told.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let is_vague = told.as_deref().is_none_or(|told| matches!(told, "" | "application/octet-stream"));
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).filter(|_| is_vague);
    SHOWN
        .iter()
        .find(|(known, media)| told.as_deref() == Some(media) || ending.as_deref() == Some(known))
        .map(|(_, media)| *media)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_and_videos_are_shown() {
        let check = |told: Option<&str>, name: &str, expected: Option<&str>| {
            assert_eq!(shown_type(told, name), expected, "{told:?} {name}");
        };
        check(Some("image/png"), "x", Some("image/png"));
        check(Some("Video/MP4; codecs=x"), "x", Some("video/mp4"));
        check(Some("application/octet-stream"), "a.WEBP", Some("image/webp"));
        check(None, "a.mp4", Some("video/mp4"));
        for (told, name) in [
            (Some("image/svg+xml"), "a.svg"),
            (Some("text/html"), "a.png"),
            (None, "a.html"),
            (None, "png"),
            (Some("application/octet-stream"), "a"),
        ] {
            check(told, name, None);
        }
    }

    #[test]
    fn names_of_files_are_plain() {
        for (link, name) in [
            ("https://cdn.example/output/u/t2i/r/1a.png?key=x", "1a.png"),
            ("https://cdn.example/a%22b%0d.png", "a22b0d.png"),
            ("https://cdn.example/", "made"),
            ("nothing", "made"),
        ] {
            assert_eq!(file_name(link), name, "{link}");
        }
    }
}
