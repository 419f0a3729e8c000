//! `/admin/settings`: each setting with the value that is in use and where that comes from, secrets masked; and the way to
//! change those that need no restart.

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{ETAG, HeaderMap, HeaderValue, IF_MATCH};
use serde_json::{Value, json};

use crate::base::bilingual::Bilingual;
use crate::chat::failure::{Failure, FailureKind};
use crate::gateway::reloads::{ChangeRefused, Outcome, SettingsChange};
use crate::http::owner::audit::Detail;
use crate::http::owner::present::not_stored;
use crate::http::serve::content::json::read_json;
use crate::http::settings::version_of;
use crate::http::state::AppState;

/// The route of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/settings", get(settings).patch(change))
}

async fn settings(State(state): State<AppState>) -> Response {
    told(&state, None)
}

/// Takes `{"NAME": value or null, …}`: all of it, or nothing. With `If-Match` only if the settings are still those of
/// that version.
async fn change(State(state): State<AppState>, request: Request) -> Result<Response, Response> {
    let version = version_in(request.headers());
    let Value::Object(values) = read_json(request, &state.settings()).await?.value else {
        let message = "Send an object of settings and their new values, null to take a value back.";
        return Err(Failure::new(FailureKind::Invalid, "invalid_value", message).into_response());
    };
    let names = values.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    match state.0.reloads.change(SettingsChange { values, version }).await {
        Some(Ok(outcome)) => {
            let mut response = told(&state, Some(&outcome));
            response.extensions_mut().insert(Detail(names));
            Ok(response)
        }
        Some(Err(refused)) => Err(failure(refused).into_response()),
        None => {
            let words =
                Bilingual::new("The settings of this server cannot be changed here.", "此服务的设置无法在此更改。");
            Err(Failure::bilingual(FailureKind::Conflict, "nothing_to_change", words).into_response())
        }
    }
}

fn failure(refused: ChangeRefused) -> Failure {
    match refused {
        ChangeRefused::Outdated => Failure::bilingual(
            FailureKind::Conflict,
            "settings_changed",
            Bilingual::new(
                "The settings have changed since they were loaded. Load them again, look at what is different, and repeat your change.",
                "设置在加载之后已被更改。请重新加载,查看差异后再次提交。",
            ),
        ),
        ChangeRefused::Faults(faults) => Failure::new(FailureKind::Invalid, "invalid_settings", faults.join("\n")),
        ChangeRefused::NotKept => Failure::bilingual(
            FailureKind::Unavailable,
            "state_not_writable",
            Bilingual::new(
                "The state cannot be written, so nothing was changed. The log says why.",
                "状态无法写入,因此未做任何更改。原因见日志。",
            ),
        ),
    }
}

/// The settings and their version; after a change what became of it too.
fn told(state: &AppState, outcome: Option<&Outcome>) -> Response {
    let settings = state.0.owner.settings.now();
    let version = version_of(&settings);
    let mut body = json!({ "version": version, "settings": *settings });
    if let (Some(outcome), Some(body)) = (outcome, body.as_object_mut()) {
        body.insert("changed".to_owned(), json!(outcome.changed));
        body.insert("needs_restart".to_owned(), json!(outcome.needs_restart));
    }
    let mut response = not_stored(Json(body).into_response());
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// The version that `If-Match` names; `None` for any.
fn version_in(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(IF_MATCH)?.to_str().unwrap_or_default().trim();
    let text = text.strip_prefix("W/").unwrap_or(text);
    (text != "*").then(|| text.trim_matches('"').to_owned())
}
