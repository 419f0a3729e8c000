//! `GET /admin/gallery`: pictures and videos that were made, newest first, while their links live.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::http::owner::present::not_stored;
use crate::http::serve::record::gallery::{Item, shown};
use crate::http::state::AppState;
use crate::pool::Now;

/// Longest lifetime of the upstream's links in seconds: seven days.
const LINK_SECONDS: i64 = 7 * 24 * 60 * 60;

/// The route of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/gallery", get(gallery))
}

async fn gallery(State(state): State<AppState>) -> Response {
    let oldest = Now::read().unix.0 - LINK_SECONDS;
    let mut items = state.0.owner.gallery.items();
    items.extend(state.0.videos.finished().into_iter().map(|video| Item {
        kind: "video",
        url: video.link,
        prompt: Some(shown(&video.prompt)),
        model: video.model,
        at: video.completed_at.0,
    }));
    items.retain(|item| item.at > oldest);
    items.sort_by_key(|item| std::cmp::Reverse(item.at));
    not_stored(Json(json!({ "items": items })).into_response())
}
