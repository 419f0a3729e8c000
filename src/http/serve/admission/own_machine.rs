//! A server without a key serves this machine only: the layer that refuses pages of other origins.
//!
//! A page in the owner's browser reaches a loopback server under a name of its own (DNS rebinding), or by a POST that
//! needs no preflight and has its effect although the page cannot read the answer.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};

use crate::chat::failure::Failure;
use crate::gateway::caller_keys::CallerKeys;
use crate::http::serve::socket::drain::Drain;
use crate::http::settings::HttpSettings;
use crate::http::state::AppState;

/// The layer, around every route. 403 for a foreign name or page while the server is open to this machine only.
pub(crate) async fn only_own_machine(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let settings = &state.settings();
    if !is_for_this_machine(settings, &state.0.keys) {
        return next.run(request).await;
    }
    let refusal = if !is_own_name(request.headers()) {
        Failure::wrong_host()
    } else if !is_welcome_origin(request.headers(), settings.cors_origins.as_deref()) {
        Failure::wrong_origin()
    } else {
        return next.run(request).await;
    };
    Drain::refuse(request);
    refusal.into_response()
}

/// Whether the server has no key and was not opened to others knowingly.
pub(crate) fn is_for_this_machine(settings: &HttpSettings, keys: &CallerKeys) -> bool {
    keys.is_empty() && settings.server_mode && !settings.allow_open
}

/// Whether a page's origin is of this machine's loopback.
pub(crate) fn is_own_origin(origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(is_loopback)
}

/// Whether the request came under a name or address of this machine's loopback.
pub(crate) fn is_own_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else {
        return true;
    };
    host.to_str().is_ok_and(|host| is_loopback(&format!("http://{host}/")))
}

/// Whether the request comes from no page, from one of this machine, or from one that is named in the settings.
fn is_welcome_origin(headers: &HeaderMap, configured: Option<&[String]>) -> bool {
    let is_configured = |origin: &HeaderValue| {
        configured.is_some_and(|configured| configured.iter().any(|named| named.as_bytes() == origin.as_bytes()))
    };
    headers.get_all(ORIGIN).iter().all(|origin| is_own_origin(origin) || is_configured(origin))
}

fn is_loopback(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else {
        return false;
    };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}
