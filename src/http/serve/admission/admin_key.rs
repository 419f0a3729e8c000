//! The owner's key and the session of the owner's page: the one check in front of the owner's routes.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::json;

use crate::chat::failure::Failure;
use crate::http::failure::ErrorCode;
use crate::http::serve::admission::auth::{bearer, header_key};
use crate::http::serve::admission::guard::KeyGuard;
use crate::http::serve::admission::page_check::{PageFault, check_page, is_change, page_session};
use crate::http::serve::admission::sessions::{PageSession, Way};
use crate::http::serve::admission::wrong_keys::RightKey;
use crate::http::serve::socket::drain::Drain;

/// The path of the owner's page. It and what lies below it answer with the error bodies of a forerunner.
const ADMIN_PATH: &str = "/admin";

/// The way in which a request passed the check: an extension of the request.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// The request carries `ADMIN_SECRET_KEY`.
    Key,
    /// The request belongs to a session of the page.
    Page(PageSession),
}

impl Owner {
    /// As the audit list names it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Key => "key".to_owned(),
            Self::Page(session) => match session.way {
                Way::Key => format!("page session {}", session.number),
                Way::Link => format!("link session {}", session.number),
            },
        }
    }
}

/// Lets a request through that carries `ADMIN_SECRET_KEY`, as `Authorization: Bearer` or as `x-admin-key`, or the
/// cookie of the page's session. An [`Owner`] becomes an extension of it.
///
/// # Errors
/// 401, 403 for a change from elsewhere, 429 after too many wrong keys, or 503 where no key is set.
pub(crate) async fn require_admin_key(guard: &KeyGuard, mut request: Request) -> Result<Request, Response> {
    let is_page = is_below_admin(request.uri().path());
    let answer = |refusal: AdminRefusal| refusal.into_response(is_page);
    match check(guard, &request) {
        Ok(owner) => {
            // The key of a session was looked at when it began.
            if matches!(owner, Owner::Key)
                && let Err(wait) = guard.admit(guard.address(&request), RightKey::Admin).await
            {
                Drain::refuse(request);
                return Err(answer(AdminRefusal::TooManyWrong(wait)));
            }
            request.extensions_mut().insert(owner);
            Ok(request)
        }
        Err(refusal) => {
            let is_wrong = refusal == AdminRefusal::Wrong;
            let answer = |wait: Option<Duration>| answer(wait.map_or(refusal, AdminRefusal::TooManyWrong));
            Err(guard.refuse(request, is_wrong, answer).await)
        }
    }
}

/// Whether a path is the owner's page or below it.
fn is_below_admin(path: &str) -> bool {
    path.strip_prefix(ADMIN_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Reasons why a request does not reach the owner's routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminRefusal {
    /// `ADMIN_SECRET_KEY` is not set.
    NotConfigured,
    /// The request carries no key.
    Missing,
    /// The request carries a key, but not this one.
    Wrong,
    /// Its address sent too many wrong ones. The next may come after this time.
    TooManyWrong(Duration),
    /// The session of the page is used from a page of another origin, or under a name it is not for.
    ForeignPage,
    /// The request changes something and lacks the CSRF token of its session.
    NoCsrfToken,
}

fn check(guard: &KeyGuard, request: &Request) -> Result<Owner, AdminRefusal> {
    let headers = request.headers();
    let mut offered = bearer(headers).into_iter().chain(header_key(headers, "x-admin-key")).peekable();
    if offered.peek().is_some() {
        let key = guard.admin_key().ok_or(AdminRefusal::NotConfigured)?;
        return if offered.any(|offered| key.matches(offered)) { Ok(Owner::Key) } else { Err(AdminRefusal::Wrong) };
    }
    let Some(session) = page_session(guard, headers) else {
        let missing = guard.admin_key().map(|_| AdminRefusal::Missing);
        return Err(missing.unwrap_or(AdminRefusal::NotConfigured));
    };
    check_page(guard.settings(), &session, request, is_change(request.method())).map_err(AdminRefusal::from)?;
    Ok(Owner::Page(session))
}

impl From<PageFault> for AdminRefusal {
    fn from(fault: PageFault) -> Self {
        match fault {
            PageFault::Foreign => Self::ForeignPage,
            PageFault::NoToken => Self::NoCsrfToken,
        }
    }
}

impl AdminRefusal {
    /// The answer. Below `/admin` missing and wrong keys have the body of a forerunner.
    pub(crate) fn into_response(self, is_page: bool) -> Response {
        if is_page { self.as_forerunner() } else { self.as_failure().into_response() }
    }

    fn as_failure(self) -> Failure {
        match self {
            Self::NotConfigured => Failure::no_admin_key(),
            Self::Missing => Failure::unauthenticated(
                "The admin key is missing: send it as 'Authorization: Bearer KEY' or as 'x-admin-key: KEY'.",
            ),
            Self::Wrong => Failure::unauthenticated(
                "This is not the admin key. It is set by ADMIN_SECRET_KEY where the server runs.",
            ),
            Self::TooManyWrong(wait) => Failure::too_many_wrong_keys(wait),
            Self::ForeignPage => Failure::foreign_page(),
            Self::NoCsrfToken => Failure::missing_csrf_token(),
        }
    }

    /// The same status and headers with `{"error": "…"}`, which the scripts of a forerunner's users read.
    fn as_forerunner(self) -> Response {
        let (code, message) = match self {
            Self::NotConfigured => ("admin_not_configured", "Admin endpoint not configured"),
            Self::Missing => ("admin_key_missing", "Missing Authorization header"),
            Self::Wrong => ("invalid_admin_key", "Invalid admin key"),
            Self::TooManyWrong(_) => ("too_many_wrong_keys", "Too many wrong keys"),
            // The forerunner has no page, so its scripts do not meet these.
            Self::ForeignPage | Self::NoCsrfToken => return self.as_failure().into_response(),
        };
        let mut response = self.as_failure().into_response();
        response.extensions_mut().remove::<Failure>();
        response.extensions_mut().insert(ErrorCode(code));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = Body::from(json!({ "error": message }).to_string());
        response
    }
}
