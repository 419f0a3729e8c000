//! Who may call: one layer around every route, closed unless a path is named open.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN, WWW_AUTHENTICATE};

use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::secret::{AccessToken, ApiKey, Cookie};
use crate::base::session::Session;
use crate::chat::failure::Failure;
use crate::http::failure::ErrorCode;
use crate::http::serve::drain::Drain;
use crate::http::settings::HttpSettings;
use crate::http::state::AppState;
use crate::pool::CallerId;

/// What lies under this path is the owner's and wants the admin key, and no other.
const ADMIN_PATH: &str = "/admin";

/// The paths that need no key. Everything else does, whatever the method.
pub const PUBLIC_PATHS: [&str; 2] = ["/", "/health"];

/// Whether a path is for the owner: it needs the admin key, and no other will do. What is only served for debugging
/// is an unknown path otherwise, and treated as one.
fn is_for_owner(settings: &HttpSettings, path: &str) -> bool {
    path == "/auth" || (settings.debug_mode && path.starts_with("/v1/debug/"))
}

const CLIENT_FORMAT: &str = "In client mode send 'Authorization: Bearer TOKEN;COOKIE', or 'Bearer KEY;TOKEN;COOKIE' when the \
                             server has a key. Everything after the token is the cookie.";

/// Who calls, once they were let in.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Stands for the key that was used.
    pub id: CallerId,
    /// The caller's own credential, in client mode.
    pub own: Option<Arc<Session>>,
}

impl Caller {
    /// What the caller is called on disk: a hash of the key or, in client mode, of the credential. All callers of a
    /// server without keys are one, and whoever brings a renewed credential is another.
    pub(crate) fn hash(&self, keys: &[ApiKey]) -> CredentialKey {
        if let Some(own) = &self.own {
            return own.key().clone();
        }
        // The id is the key's place, counted from 1; hashing is left to those few who need it.
        let place = usize::try_from(self.id.0).ok().and_then(|place| place.checked_sub(1));
        CredentialKey::of(place.and_then(|place| keys.get(place)).map_or("", ApiKey::expose))
    }
}

/// The layer.
///
/// # Errors
/// 401 for a missing or wrong key, 403 for a foreign name or page on an open server, 503 for the owner's pages where
/// there are none.
pub async fn require_key(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Result<Response, Response> {
    match admit(&state.0.settings, request.uri().path(), request.headers()) {
        Ok(None) => Ok(next.run(request).await),
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
            Ok(next.run(request).await)
        }
        Err(error) => {
            Drain::refuse(request);
            Err(error.into_response())
        }
    }
}

/// Why somebody is not let in.
enum Refusal {
    Caller(Failure),
    Admin(AdminRefusal),
}

impl From<Failure> for Refusal {
    fn from(error: Failure) -> Self {
        Self::Caller(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Caller(error) => error.into_response(),
            Self::Admin(refusal) => refusal.into_response(),
        }
    }
}

/// Why somebody does not get to the owner's pages.
#[derive(Clone, Copy)]
enum AdminRefusal {
    NotConfigured,
    Missing,
    Wrong,
}

impl IntoResponse for AdminRefusal {
    /// These pages have an error shape of their own.
    fn into_response(self) -> Response {
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

fn admit_owner(settings: &HttpSettings, headers: &HeaderMap) -> Result<(), AdminRefusal> {
    let key = settings.admin_key.as_ref().ok_or(AdminRefusal::NotConfigured)?;
    let offered = bearer(headers).or_else(|| header_key(headers, "x-admin-key")).ok_or(AdminRefusal::Missing)?;
    if key.matches(offered) { Ok(()) } else { Err(AdminRefusal::Wrong) }
}

/// Who calls; `None` where nobody is asked.
fn admit(settings: &HttpSettings, path: &str, headers: &HeaderMap) -> Result<Option<Caller>, Refusal> {
    // Without a key, a page in the owner's browser must not reach this server: neither under a name of its own,
    // nor by a POST that needs no preflight, whose effect it has without reading the answer.
    if settings.keys.is_empty() && settings.server_mode && !settings.allow_open {
        if !is_own_name(headers) {
            return Err(Failure::wrong_host().into());
        }
        if !is_welcome_origin(headers, settings.cors_origins.as_deref()) {
            return Err(Failure::wrong_origin().into());
        }
    }
    if PUBLIC_PATHS.contains(&path) {
        return Ok(None);
    }
    if path.strip_prefix(ADMIN_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return admit_owner(settings, headers).map(|()| None).map_err(Refusal::Admin);
    }
    if is_for_owner(settings, path) {
        check_admin(settings, headers)?;
        return Ok(None);
    }
    let caller = if settings.server_mode { server_caller } else { client_caller };
    Ok(Some(caller(&settings.keys, headers)?))
}

/// Whether the owner asks: `ADMIN_SECRET_KEY` as `Authorization: Bearer`, or as `x-admin-key`.
///
/// # Errors
/// 503 when there is no admin key, 401 for a missing or wrong one.
fn check_admin(settings: &HttpSettings, headers: &HeaderMap) -> Result<(), Failure> {
    let Some(key) = &settings.admin_key else {
        return Err(Failure::no_admin_key());
    };
    let offered: Vec<&str> = bearer(headers).into_iter().chain(header_key(headers, "x-admin-key")).collect();
    if offered.iter().any(|offered| key.matches(offered)) {
        return Ok(());
    }
    Err(Failure::unauthenticated(if offered.is_empty() {
        "The admin key is missing: send it as 'Authorization: Bearer KEY' or as 'x-admin-key: KEY'."
    } else {
        "This is not the admin key. It is set by ADMIN_SECRET_KEY where the server runs."
    }))
}

fn server_caller(keys: &[ApiKey], headers: &HeaderMap) -> Result<Caller, Failure> {
    if keys.is_empty() {
        return Ok(Caller { id: CallerId(0), own: None });
    }
    let offered: Vec<&str> = bearer(headers).into_iter().chain(api_key(headers)).collect();
    let Some(place) = offered.iter().find_map(|offered| matching(keys, offered)) else {
        let message = if offered.is_empty() {
            "A key is missing: send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'."
        } else {
            "The key is not one of this server's keys. It is set by API_KEY where the server runs."
        };
        return Err(Failure::unauthenticated(message));
    };
    Ok(Caller { id: CallerId(place), own: None })
}

fn client_caller(keys: &[ApiKey], headers: &HeaderMap) -> Result<Caller, Failure> {
    let mut credential =
        bearer(headers).ok_or_else(|| Failure::unauthenticated(format!("A credential is missing. {CLIENT_FORMAT}")))?;
    if !keys.is_empty() && api_key(headers).and_then(|key| matching(keys, key)).is_none() {
        let (key, rest) = credential.split_once(';').unwrap_or((credential, ""));
        if matching(keys, key.trim()).is_none() {
            return Err(Failure::unauthenticated(format!("The key is missing or wrong. {CLIENT_FORMAT}")));
        }
        credential = rest;
    }
    let (token_text, cookie_text) = credential.split_once(';').unwrap_or((credential, ""));
    let wrong = |what: &str, why: &dyn std::fmt::Display| {
        Failure::unauthenticated(format!("The {what} {why}. {CLIENT_FORMAT}"))
    };
    let token = AccessToken::parse(token_text, now()).map_err(|why| wrong("token", &why))?;
    let cookie = match cookie_text.trim() {
        "" => None,
        text => Some(Cookie::parse(text).map_err(|why| wrong("cookie", &why))?),
    };
    let key = CredentialKey::of(credential);
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let own = Session::new(IdentityId::named("caller"), key, cookie.as_ref(), Some(token));
    Ok(Caller { id: CallerId(hasher.finish()), own: Some(Arc::new(own)) })
}

/// The place of the matching key, counted from 1. All keys are compared, so that time tells nothing.
fn matching(keys: &[ApiKey], offered: &str) -> Option<u64> {
    let mut found = None;
    for (place, key) in (1..).zip(keys) {
        if key.matches(offered) {
            found = Some(place);
        }
    }
    found
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = text(headers.get(AUTHORIZATION)?)?.trim();
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim()).filter(|rest| !rest.is_empty())
}

fn api_key(headers: &HeaderMap) -> Option<&str> {
    header_key(headers, "x-api-key")
}

fn header_key<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    text(headers.get(name)?).map(str::trim).filter(|key| !key.is_empty())
}

/// A key may have any letters, and one that looks like the right one is as wrong as any other.
fn text(value: &HeaderValue) -> Option<&str> {
    str::from_utf8(value.as_bytes()).ok()
}

/// Whether the request came under a name or address of this machine's loopback.
fn is_own_name(headers: &HeaderMap) -> bool {
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

/// Whether a page's origin is of this machine's loopback.
pub(crate) fn is_own_origin(origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(is_loopback)
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

fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
