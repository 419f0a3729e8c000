//! Requests of the owner's page: which session they belong to, and whether the page itself made them.

use axum::extract::Request;
use http::Method;
use http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};

use crate::http::serve::admission::guard::KeyGuard;
use crate::http::serve::admission::own_machine;
use crate::http::serve::admission::sessions::{PageSession, Way};
use crate::pool::Now;

/// The header of the CSRF token.
const CSRF: &str = "x-csrf-token";

/// Reasons why a request with a session's cookie is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageFault {
    /// It comes from a page of another origin, or under a name that the session is not for.
    Foreign,
    /// It lacks the CSRF token of its session.
    NoToken,
}

/// The session of the page that a request belongs to.
pub(crate) fn page_session(guard: &KeyGuard, headers: &HeaderMap) -> Option<PageSession> {
    guard.sessions().of(headers, guard.admin_key(), Now::read().unix)
}

/// Whether the owner's page makes this request for itself: by a session, with its token.
pub(crate) fn is_by_page(guard: &KeyGuard, request: &Request) -> bool {
    page_session(guard, request.headers()).is_some_and(|session| check_page(&session, request, true).is_ok())
}

/// Whether a method changes something.
pub(crate) fn is_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Checks that a request of a session comes from the server's own page, and, if it needs one, that it has the token.
///
/// # Errors
/// [`PageFault`].
pub(crate) fn check_page(session: &PageSession, request: &Request, needs_token: bool) -> Result<(), PageFault> {
    let headers = request.headers();
    if session.way == Way::Link && !is_of_this_machine(headers) || needs_token && !is_from_own_page(headers) {
        return Err(PageFault::Foreign);
    }
    let has_token =
        || headers.get(CSRF).and_then(|offered| offered.to_str().ok()).is_some_and(|token| session.is_csrf(token));
    if needs_token && !has_token() {
        return Err(PageFault::NoToken);
    }
    Ok(())
}

/// Whether the request came under a name of this machine, and from no page or from one of this machine.
pub(crate) fn is_of_this_machine(headers: &HeaderMap) -> bool {
    own_machine::is_own_name(headers) && headers.get_all(ORIGIN).iter().all(own_machine::is_own_origin)
}

/// Whether the request comes from no page, or from one of the same host and port. The scheme is left aside: behind a
/// proxy that ends TLS the server does not see it.
pub(crate) fn is_from_own_page(headers: &HeaderMap) -> bool {
    let host = headers.get("x-forwarded-host").or_else(|| headers.get(HOST)).and_then(|host| host.to_str().ok());
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| url::Url::parse(origin).ok())?;
        let host = url::Url::parse(&format!("{}://{}/", origin.scheme(), host?)).ok()?;
        let authority = |url: &url::Url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?));
        Some(authority(&origin)? == authority(&host)?)
    };
    headers.get_all(ORIGIN).iter().all(|origin| is_own(origin) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_page_is_of_the_same_host_and_port() {
        let check = |host: &str, origin: &str, expected: bool| {
            let value = |text: &str| HeaderValue::try_from(text).unwrap();
            let headers = HeaderMap::from_iter([(HOST, value(host)), (ORIGIN, value(origin))]);
            assert_eq!(is_from_own_page(&headers), expected, "{origin} at {host}");
        };
        check("127.0.0.1:8000", "http://127.0.0.1:8000", true);
        check("Bridge.example", "https://bridge.example", true);
        check("bridge.example:443", "https://bridge.example", true);
        check("[::1]:8000", "http://[::1]:8000", true);
        for (host, origin) in [
            ("127.0.0.1:8000", "http://127.0.0.1:8001"),
            ("127.0.0.1:8000", "http://localhost:8000"),
            ("bridge.example", "https://evil.example"),
            ("bridge.example", "https://bridge.example.evil.example"),
            ("bridge.example", "null"),
            ("bridge.example", ""),
            ("", "https://bridge.example"),
        ] {
            check(host, origin, false);
        }
        assert!(is_from_own_page(&HeaderMap::new()));
    }
}
