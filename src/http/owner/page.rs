//! `GET /`: what this server is and which routes it has, as JSON, or as a page for browsers. Counts and flags only,
//! never a secret, and no upstream call.

use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::http::owner::present::{SERVICE, VERSION, prefers};
use crate::http::state::AppState;
use crate::pool::Now;

/// The route of this file, which needs no key.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/", get(index))
}

async fn index(State(state): State<AppState>, headers: HeaderMap) -> Response {
    if !prefers(&headers, "text/html") {
        return Json(about(&state)).into_response();
    }
    let policy = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    ([(CONTENT_SECURITY_POLICY, policy)], Html(status_page(&state))).into_response()
}

fn about(state: &AppState) -> Value {
    let settings = &state.0.settings;
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

/// A page without scripts, fonts and pictures, which loads nothing from elsewhere.
fn status_page(state: &AppState) -> String {
    let settings = &state.0.settings;
    let summary = state.summary(Now::read());
    let mode = if settings.server_mode {
        "server: this machine's accounts answer"
    } else {
        "client: each caller brings a credential"
    };
    let key = if state.0.keys.is_empty() { "no key needed" } else { "a key is needed" };
    let accounts = if settings.server_mode {
        format!(
            "<tr><th>accounts</th><td>{} healthy, {} degraded, {} down</td></tr>",
            summary.healthy, summary.degraded, summary.down
        )
    } else {
        String::new()
    };
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{SERVICE}</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#222}}\
         th{{text-align:left;padding-right:2rem;font-weight:600}}code{{background:#f2f2f2;padding:.1em .3em}}</style>\
         <h1>{SERVICE} {VERSION}</h1><p>Your own Qwen accounts as an API for OpenAI and Anthropic clients.</p>\
         <table><tr><th>mode</th><td>{mode}</td></tr><tr><th>key</th><td>{key}</td></tr>{accounts}</table>\
         <h2>Endpoints</h2><ul><li><code>POST /v1/chat/completions</code></li>\
         <li><code>POST /v1/responses</code></li><li><code>POST /v1/messages</code></li>\
         <li><code>POST /v1/messages/count_tokens</code></li>\
         <li><code>POST /v1/completions</code></li><li><code>POST /v1/embeddings</code></li>\
         <li><code>POST /v1/images/generations</code></li>\
         <li><code>POST /v1/images/edits</code></li><li><code>POST /v1/videos</code></li>\
         <li><code>GET /v1/models</code></li>\
         <li><code>GET /health</code></li><li><code>POST /refresh-token</code></li><li><code>GET /auth</code></li></ul></html>"
    )
}
