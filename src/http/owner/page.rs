//! The page: `GET /` for people (JSON for programs), and the owner's page at `GET /admin` with its files.
//!
//! The files are embedded in the program and hold no data, so they need no key; what the page shows comes from the
//! owner's routes. Nothing is loaded from elsewhere: pictures and videos that the upstream made come through
//! `GET /admin/media`.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::chat::failure::Failure;
use crate::http::owner::present::{SERVICE, VERSION, prefers};
use crate::http::state::AppState;
use crate::pool::Now;

/// Extension of a request for the base path without the slash at its end.
#[derive(Clone, Copy)]
pub(crate) struct NoSlash;

/// A file of the page.
struct File {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const fn script(name: &'static str, text: &'static str) -> File {
    File { name, content_type: "text/javascript; charset=utf-8", text }
}

const HTML: &str = "text/html; charset=utf-8";
const WELCOME: &str = include_str!("assets/welcome.html");
const ADMIN: &str = include_str!("assets/admin.html");

/// The files below `/admin/assets/`.
const FILES: &[File] = &[
    File { name: "page.css", content_type: "text/css; charset=utf-8", text: include_str!("assets/page.css") },
    File { name: "icon.svg", content_type: "image/svg+xml", text: include_str!("assets/icon.svg") },
    script("accounts.js", include_str!("assets/accounts.js")),
    script("admin.js", include_str!("assets/admin.js")),
    script("api.js", include_str!("assets/api.js")),
    script("audit.js", include_str!("assets/audit.js")),
    script("charts.js", include_str!("assets/charts.js")),
    script("clients.js", include_str!("assets/clients.js")),
    script("dom.js", include_str!("assets/dom.js")),
    script("gallery.js", include_str!("assets/gallery.js")),
    script("keys.js", include_str!("assets/keys.js")),
    script("live.js", include_str!("assets/live.js")),
    script("models.js", include_str!("assets/models.js")),
    script("overview.js", include_str!("assets/overview.js")),
    script("paste.js", include_str!("assets/paste.js")),
    script("playground.js", include_str!("assets/playground.js")),
    script("settings.js", include_str!("assets/settings.js")),
    script("settings_zh.js", include_str!("assets/settings_zh.js")),
    script("usage.js", include_str!("assets/usage.js")),
    script("welcome.js", include_str!("assets/welcome.js")),
];

/// The front page, which needs no key.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/", get(index))
}

/// The owner's page and its files, which need no key either. No page of another origin can read them.
pub(crate) fn owner_routes() -> Router<AppState> {
    Router::new()
        .route("/admin", get(admin))
        .route("/admin/", get(without_slash))
        .route("/admin/assets/{file}", get(asset))
}

async fn index(State(state): State<AppState>, no_slash: Option<Extension<NoSlash>>, headers: HeaderMap) -> Response {
    let mut response = if !prefers(&headers, "text/html") {
        Json(about(&state)).into_response()
    } else if no_slash.is_some() {
        redirect(&format!("{}/", state.settings().base_path))
    } else {
        html(&welcome(&state), &headers)
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

async fn admin(headers: HeaderMap) -> Response {
    html(ADMIN, &headers)
}

/// Redirects to the address without the slash, the only one that the page's relative links fit.
async fn without_slash() -> Response {
    redirect("../admin")
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => answer(file.content_type, file.text, &headers),
        None => Failure::unknown_path(&format!("/admin/assets/{name}")).into_response(),
    }
}

fn redirect(location: &str) -> Response {
    let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// A page with the policy that keeps foreign scripts, styles and frames out of it.
fn html(text: &str, headers: &HeaderMap) -> Response {
    let mut response = answer(HTML, text, headers);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// What the pages may load. Files that are shown before they are sent are `data:` and `blob:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'; img-src 'self' data: blob:; media-src 'self' blob:";

/// A file that the browser may keep if it revalidates it each time.
fn answer(content_type: &'static str, text: &str, headers: &HeaderMap) -> Response {
    let tag = base16ct::lower::encode_string(Sha256::digest(text.as_bytes()).get(..16).unwrap_or_default());
    let tag = format!("\"{tag}\"");
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, HeaderValue::from_static(content_type))], text.to_owned()).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    response
}

/// The front page with the server's state filled in, so that it is useful without scripts.
fn welcome(state: &AppState) -> String {
    let summary = state.summary(Now::read());
    let ready = summary.total - summary.down;
    let (light, line, line_zh) = if !state.settings().server_mode {
        ("good", "Each caller brings an account of their own".to_owned(), "每位调用者使用自己的账号".to_owned())
    } else if summary.total == 0 {
        ("none", "No account yet".to_owned(), "还没有账号".to_owned())
    } else {
        let light = match ready {
            0 => "bad",
            ready if ready < summary.total => "part",
            _ => "good",
        };
        let noun = if summary.total == 1 { "account" } else { "accounts" };
        (
            light,
            format!("{ready} of {} {noun} ready", summary.total),
            format!("{} 个账号中有 {ready} 个可用", summary.total),
        )
    };
    let is_keyless = state.0.keys.is_empty();
    [
        ("{{version}}", VERSION),
        ("{{light}}", light),
        ("{{line}}", &line),
        ("{{line-zh}}", &line_zh),
        ("{{keyless}}", if is_keyless { "true" } else { "false" }),
    ]
    .into_iter()
    .fold(WELCOME.to_owned(), |page, (name, text)| page.replace(name, text))
}

fn about(state: &AppState) -> Value {
    let settings = &state.settings();
    let format = if settings.server_mode {
        "Authorization: Bearer KEY, or x-api-key: KEY"
    } else {
        "Authorization: Bearer [KEY;]TOKEN;COOKIE"
    };
    let mut about = json!({
        "name": SERVICE,
        "version": VERSION,
        "message": "Your own Qwen accounts as an API for OpenAI and Anthropic clients.",
        "endpoints": {
            "chat_completions": "POST /v1/chat/completions",
            "responses": "POST /v1/responses",
            "messages": "POST /v1/messages",
            "count_tokens": "POST /v1/messages/count_tokens",
            "completions": "POST /v1/completions",
            "embeddings": "POST /v1/embeddings",
            "images": "POST /v1/images/generations",
            "image_edits": "POST /v1/images/edits",
            "videos": "POST /v1/videos",
            "models": "GET /v1/models",
            "health": "GET /health",
            "ready": "GET /ready",
            "health_detailed": "GET /health/detailed",
            "admin_health": "GET /admin/health",
            "refresh_token": "POST /refresh-token",
            "auth": "GET /auth",
        },
        "authentication": {
            "required": !state.0.keys.is_empty() || !settings.server_mode,
            "type": format,
        },
    });
    if settings.debug_mode
        && let Some(Value::Object(endpoints)) = about.get_mut("endpoints")
    {
        let debug = json!({
            "token_status": "GET /v1/debug/token",
            "token_forget": "DELETE /v1/debug/token",
            "auth_test": "GET /v1/debug/auth/test",
            "auth_initiate": "POST /v1/debug/auth/initiate",
            "auth_poll": "POST /v1/debug/auth/poll",
            "account": "GET /v1/debug/account/{id}",
        });
        endpoints.insert("debug".to_owned(), debug);
    }
    about
}
