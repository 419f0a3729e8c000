//! The owner's key: the one check in front of the owner's routes.

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use crate::chat::failure::Failure;
use crate::http::failure::ErrorCode;
use crate::http::serve::auth::{bearer, header_key};
use crate::http::serve::drain::Drain;
use crate::http::settings::HttpSettings;
use crate::http::state::AppState;

/// The path of the owner's page. It and what lies below it answer with the error bodies of a forerunner.
const ADMIN_PATH: &str = "/admin";

/// The layer around the owner's routes: lets a request through that carries `ADMIN_SECRET_KEY`, as
/// `Authorization: Bearer` or as `x-admin-key`; otherwise 401, or 503 where no such key is set.
pub(crate) async fn require_admin_key(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match check(&state.0.settings, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let path = request.uri().path();
            let is_page = path.strip_prefix(ADMIN_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            let response = if is_page { refusal.as_forerunner() } else { refusal.as_failure().into_response() };
            Drain::refuse(request);
            response
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
        }
    }

    /// `{"error": "…"}`, which the scripts of a forerunner's users read.
    fn as_forerunner(self) -> Response {
        let (status, code, message) = match self {
            Self::NotConfigured => {
                (StatusCode::SERVICE_UNAVAILABLE, "admin_not_configured", "Admin endpoint not configured")
            }
            Self::Missing => (StatusCode::UNAUTHORIZED, "admin_key_missing", "Missing Authorization header"),
            Self::Wrong => (StatusCode::UNAUTHORIZED, "invalid_admin_key", "Invalid admin key"),
        };
        let mut response = (status, Json(serde_json::json!({ "error": message }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(ErrorCode(code));
        response
    }
}
