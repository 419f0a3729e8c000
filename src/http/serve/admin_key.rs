//! The owner's key: the one check in front of the owner's routes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::json;

use crate::chat::failure::Failure;
use crate::http::failure::ErrorCode;
use crate::http::serve::auth::{bearer, header_key};
use crate::http::serve::drain::Drain;
use crate::http::serve::guard::KeyGuard;
use crate::http::serve::wrong_keys::RightKey;
use crate::http::settings::HttpSettings;

/// The path of the owner's page. It and what lies below it answer with the error bodies of a forerunner.
const ADMIN_PATH: &str = "/admin";

/// The layer around the owner's routes: lets a request through that carries `ADMIN_SECRET_KEY`, as
/// `Authorization: Bearer` or as `x-admin-key`; otherwise 401, 429 after too many wrong ones, or 503 where no such key
/// is set.
pub(crate) async fn require_admin_key(State(guard): State<Arc<KeyGuard>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_page = path.strip_prefix(ADMIN_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let answer = |refusal: AdminRefusal| {
        if is_page { refusal.as_forerunner() } else { refusal.as_failure().into_response() }
    };
    match check(guard.settings(), request.headers()) {
        Ok(()) => match guard.admit(guard.address(&request), RightKey::Admin).await {
            Ok(()) => next.run(request).await,
            Err(wait) => {
                Drain::refuse(request);
                answer(AdminRefusal::TooManyWrong(wait))
            }
        },
        Err(refusal) => {
            let is_wrong = refusal == AdminRefusal::Wrong;
            let answer = |wait: Option<Duration>| answer(wait.map_or(refusal, AdminRefusal::TooManyWrong));
            guard.refuse(request, is_wrong, answer).await
        }
    }
}

/// Why a request does not reach the owner's routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdminRefusal {
    /// `ADMIN_SECRET_KEY` is not set.
    NotConfigured,
    /// The request carries no key.
    Missing,
    /// The request carries a key, but not this one.
    Wrong,
    /// Its address sent too many wrong ones. The next may come after this time.
    TooManyWrong(Duration),
}

fn check(settings: &HttpSettings, headers: &HeaderMap) -> Result<(), AdminRefusal> {
    let key = settings.admin_key.as_ref().ok_or(AdminRefusal::NotConfigured)?;
    let mut offered = bearer(headers).into_iter().chain(header_key(headers, "x-admin-key")).peekable();
    if offered.peek().is_none() {
        return Err(AdminRefusal::Missing);
    }
    if offered.any(|offered| key.matches(offered)) { Ok(()) } else { Err(AdminRefusal::Wrong) }
}

impl AdminRefusal {
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
        }
    }

    /// The same status and headers with `{"error": "…"}`, which the scripts of a forerunner's users read.
    fn as_forerunner(self) -> Response {
        let (code, message) = match self {
            Self::NotConfigured => ("admin_not_configured", "Admin endpoint not configured"),
            Self::Missing => ("admin_key_missing", "Missing Authorization header"),
            Self::Wrong => ("invalid_admin_key", "Invalid admin key"),
            Self::TooManyWrong(_) => ("too_many_wrong_keys", "Too many wrong keys"),
        };
        let mut response = self.as_failure().into_response();
        response.extensions_mut().remove::<Failure>();
        response.extensions_mut().insert(ErrorCode(code));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = Body::from(json!({ "error": message }).to_string());
        response
    }
}
