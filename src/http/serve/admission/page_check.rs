//! Requests of the owner's page: which session they belong to, and whether the page itself made them.

use axum::extract::Request;
use http::Method;
use http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};

use crate::http::serve::admission::guard::KeyGuard;
use crate::http::serve::admission::own_machine;
use crate::http::serve::admission::sessions::{PageSession, Way};
use crate::http::serve::record::access::is_from_trusted_proxy;
use crate::http::settings::HttpSettings;
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
    let session = page_session(guard, request.headers());
    session.is_some_and(|session| check_page(guard.settings(), &session, request, true).is_ok())
}

/// Whether a method changes something.
pub(crate) fn is_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Checks that a request of a session comes from the server's own page, and, if it needs one, that it has the token.
///
/// # Errors
/// [`PageFault`].
pub(crate) fn check_page(
    settings: &HttpSettings,
    session: &PageSession,
    request: &Request,
    needs_token: bool,
) -> Result<(), PageFault> {
    let headers = request.headers();
    if session.way == Way::Link && !is_of_this_machine(headers) || needs_token && !is_from_own_page(settings, request) {
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
pub(crate) fn is_from_own_page(settings: &HttpSettings, request: &Request) -> bool {
    is_of_own_host(request.headers(), is_from_trusted_proxy(settings, request))
}

/// As [`is_from_own_page`]. The host is that of `Host`, or of `X-Forwarded-Host` where a trusted proxy set it: any other
/// sender of that header could name the host of its own page.
fn is_of_own_host(headers: &HeaderMap, is_from_proxy: bool) -> bool {
    let forwarded = headers.get("x-forwarded-host").filter(|_| is_from_proxy);
    let host = forwarded.or_else(|| headers.get(HOST)).and_then(|host| host.to_str().ok());
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
    use http::HeaderName;

    use super::*;

    #[test]
    fn the_own_page_is_of_the_same_host_and_port() {
        let check = |host: &str, origin: &str, expected: bool| {
            let value = |text: &str| HeaderValue::try_from(text).unwrap();
            let headers = HeaderMap::from_iter([(HOST, value(host)), (ORIGIN, value(origin))]);
            assert_eq!(is_of_own_host(&headers, false), expected, "{origin} at {host}");
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
        assert!(is_of_own_host(&HeaderMap::new(), false));
    }

    #[test]
    fn a_forwarded_host_counts_only_from_a_trusted_proxy() {
        let headers = |forwarded: &'static str| {
            let value = HeaderValue::from_static;
            HeaderMap::from_iter([
                (HOST, value("10.0.0.2:8000")),
                (HeaderName::from_static("x-forwarded-host"), value(forwarded)),
                (ORIGIN, value("https://bridge.example")),
            ])
        };
        assert!(is_of_own_host(&headers("bridge.example"), true));
        assert!(!is_of_own_host(&headers("bridge.example"), false));
        assert!(!is_of_own_host(&headers("other.example"), true));
    }
}
