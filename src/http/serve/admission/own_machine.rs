//! A server without a key serves this machine only: the check that refuses pages of other origins.
//!
//! A page in the owner's browser reaches a loopback server under a name of its own (DNS rebinding), or by a POST that
//! needs no preflight and has its effect although the page cannot read the answer.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};

use crate::chat::failure::Failure;
use crate::gateway::caller_keys::CallerKeys;
use crate::http::settings::HttpSettings;

/// Checks where a request comes from, while the server is open to this machine only.
///
/// # Errors
/// 403 for a foreign name or page.
pub(crate) fn check(settings: &HttpSettings, keys: &CallerKeys, headers: &HeaderMap) -> Result<(), Failure> {
    if !is_for_this_machine(settings, keys) {
        return Ok(());
    }
    if !is_own_name(headers) {
        return Err(Failure::wrong_host());
    }
    if !is_welcome_origin(headers, settings.cors_origins.as_deref()) {
        return Err(Failure::wrong_origin());
    }
    Ok(())
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
