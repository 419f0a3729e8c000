//! Violations: what a correct client never does, as far as one request can tell.

use http::Method;

use crate::record::SiteHost;
use crate::script::Endpoint;
use crate::world::{Call, World};

/// Records the violations of a request. It is answered all the same, unless an endpoint refuses it.
pub(crate) fn inspect(world: &World, call: &Call, endpoint: Option<Endpoint>) {
    if let Some((one, other)) = &call.caller.mixed {
        world.violation(call, &format!("mixed identities: {one} and {other}"));
    }
    for name in FORGED {
        if call.has(name) {
            world.violation(call, &format!("forged anti-bot header {name}"));
        }
    }
    let Some(endpoint) = endpoint else {
        return;
    };
    let is_elsewhere = endpoint.is_elsewhere() && (call.caller.has_cookies || call.caller.has_bearer);
    if is_elsewhere || (endpoint.is_api() && (call.caller.has_cookies || call.caller.account.is_some())) {
        world.violation(call, "credentials of the site sent to another host");
    }
    if endpoint.is_oauth() && (call.caller.has_cookies || call.caller.has_bearer) {
        world.violation(call, "credentials of the site sent to the OAuth door");
    }
    let bearer = call.bearer().filter(|_| !endpoint.is_api());
    if bearer.is_some_and(|token| world.oauth.owner(token).is_some() || world.oauth.key_owner(token).is_some()) {
        world.violation(call, "an OAuth token or a key sent to the web chat");
    }
    let missing: Vec<_> = expected(call, endpoint).into_iter().filter(|name| !call.has(name)).collect();
    if !missing.is_empty() {
        world.violation(call, &format!("missing headers: {}", missing.join(", ")));
    }
}

/// The headers that a browser of this site would have sent.
fn expected(call: &Call, endpoint: Endpoint) -> Vec<&'static str> {
    // The list of models is public, and other hosts do not expect these headers.
    if endpoint == Endpoint::Models || endpoint.is_elsewhere() || endpoint.is_oauth() || endpoint.is_api() {
        return Vec::new();
    }
    let mut names = STANDARD.to_vec();
    match call.host {
        SiteHost::Auth => names.extend(["x-request-origin", "origin"]),
        SiteHost::Chat => names.extend(["sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site"]),
    }
    if call.method == Method::POST {
        names.extend(["origin", "content-type"]);
    }
    if endpoint == Endpoint::Completions {
        names.extend(["version", "x-accel-buffering"]);
    }
    names
}

const STANDARD: &[&str] = &["accept", "accept-language", "user-agent", "referer", "source", "timezone", "x-request-id"];

/// Only the site's own script can make these.
const FORGED: &[&str] = &["bx-ua", "bx-umidtoken"];
