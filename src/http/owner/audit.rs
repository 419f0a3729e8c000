//! `GET /admin/audit`: the changes that owners made, and the layer that notes them.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tracing::{info, warn};

use crate::http::owner::present::not_stored;
use crate::http::serve::admission::admin_key::Owner;
use crate::http::serve::admission::page_check::is_change;
use crate::http::state::AppState;
use crate::pool::Now;
use crate::store::Note;
use crate::telemetry::ErrorChain;

/// The ends of paths whose POST changes nothing.
const QUESTIONS: &[&str] = &["/check", "/test"];
/// Most characters of a path that are noted.
const PATH_CHARS_MAX: usize = 120;

/// What a change was about, beside its path; an extension of the response. Never a value, which may be a secret.
#[derive(Clone)]
pub(crate) struct Detail(pub(crate) String);

/// The route of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/audit", get(audit))
}

async fn audit(State(state): State<AppState>) -> Response {
    not_stored(Json(json!({ "changes": state.0.owner.audit.changes() })).into_response())
}

/// The layer behind the check of the owner: notes each change that succeeded.
pub(crate) async fn note_changes(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_noted = is_change(request.method()) && !QUESTIONS.iter().any(|end| path.ends_with(end));
    let change = request.extensions().get::<Owner>().filter(|_| is_noted).map(|owner| {
        let path: String = path.chars().take(PATH_CHARS_MAX).collect();
        (owner.name(), format!("{} {path}", request.method()))
    });
    let response = next.run(request).await;
    if let Some((who, mut what)) = change.filter(|_| response.status().is_success()) {
        if let Some(Detail(detail)) = response.extensions().get() {
            what = format!("{what} {detail}");
        }
        note(&state, who, what).await;
    }
    response
}

/// Notes one change in the list, the log and the state file.
pub(crate) async fn note(state: &AppState, who: String, what: String) {
    info!(owner = who, change = what, "changed by the owner");
    let text = state.0.owner.audit.add(Now::read().unix, who, what);
    if let Err(error) = state.0.store.save_note(Note::Audit, text).await {
        warn!(error = %ErrorChain(&error), "the list of changes was not written down");
    }
}
