//! `/admin/accounts`: what the owner's page does with accounts. No answer holds a credential.

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde::Serialize;
use serde_json::Value;

use crate::base::bilingual::Bilingual;
use crate::base::facts::AccountKind;
use crate::base::ids::UnixSeconds;
use crate::chat::failure::{Failure, FailureKind};
use crate::http::serve::bodies::Bodies;
use crate::http::serve::json::read_json;
use crate::http::state::AppState;
use crate::pasted::report::{Report, report};
use crate::pool::Now;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/accounts/check", post(check))
}

/// `POST /admin/accounts/check`: what a pasted text is.
#[derive(Serialize)]
struct Checked {
    recognised: Bilingual,
    missing: Option<Bilingual>,
    /// `web` or `oauth`.
    kind: Option<&'static str>,
    label: Option<String>,
    /// Unix seconds.
    token_expires_at: Option<UnixSeconds>,
    is_usable: bool,
}

async fn check(State(state): State<AppState>, request: Request) -> Result<Response, Response> {
    let pasted = Paste::read(&state, request).await?;
    let Report { recognised, missing, kind, label, expires_at, credential } = pasted.report;
    let kind = kind.map(AccountKind::as_str);
    let is_usable = credential.is_some();
    Ok(answer(StatusCode::OK, &Checked { recognised, missing, kind, label, token_expires_at: expires_at, is_usable }))
}

/// A body with a pasted text.
struct Paste {
    report: Report,
}

impl Paste {
    /// Reads `{"text": …}`, and what the text is.
    ///
    /// # Errors
    /// The ready answer.
    async fn read(state: &AppState, request: Request) -> Result<Self, Response> {
        let bodies = Bodies::of(&request);
        let mut body = read_body(state, request).await?;
        let Some(Value::String(text)) = body.get_mut("text").map(Value::take) else {
            let words = Bilingual::new("`text` is missing: the pasted text.", "缺少 text：粘贴的内容。");
            return Err(Failure::bilingual(FailureKind::Invalid, "text_missing", words).about("text").into_response());
        };
        let now = Now::read().unix;
        // A recording of many megabytes takes a while.
        let report = if text.len() > LARGE_BYTES {
            bodies.aside(move || report(&text, now)).await.map_err(Failure::into_response)?
        } else {
            report(&text, now)
        };
        Ok(Self { report })
    }
}

/// The JSON of a body. One that is too large is answered in words that fit a paste.
async fn read_body(state: &AppState, request: Request) -> Result<Value, Response> {
    match read_json(request, &state.0.settings).await {
        Ok(body) => Ok(body.value),
        Err(refusal) if refusal.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let limit = state.0.settings.json_bytes_max / 1_000_000;
            let words = Bilingual::new(
                format!(
                    "The text is larger than {limit} MB (MAX_JSON). Instead of a whole recording, right-click one request to \
                     chat.qwen.ai in the developer tools and use Copy as cURL."
                ),
                format!(
                    "内容超过 {limit} MB（MAX_JSON）。不必粘贴整个网络记录：在开发者工具里右键点击一个发往 chat.qwen.ai 的请求，选择“复制为 cURL”。"
                ),
            );
            Err(Failure::bilingual(FailureKind::TooLarge, "paste_too_large", words).into_response())
        }
        Err(refusal) => Err(refusal),
    }
}

/// An answer that no cache keeps.
fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A text of this size is read on a thread of its own.
const LARGE_BYTES: usize = 256 * 1024;
