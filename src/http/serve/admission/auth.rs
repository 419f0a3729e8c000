//! The callers' keys and, in client mode, their credentials: the check in front of everything that is not public.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::base::caller_key::KeyName;
use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::secret::{AccessToken, Cookie};
use crate::base::session::Session;
use crate::chat::failure::Failure;
use crate::gateway::caller_keys::{CallerKey, CallerKeys};
use crate::http::serve::admission::caller::Caller;
use crate::http::serve::admission::guard::KeyGuard;
use crate::http::serve::admission::page_check::is_by_page;
use crate::http::serve::admission::wrong_keys::RightKey;
use crate::http::serve::record::access::RequestRecord;
use crate::http::serve::socket::drain::Drain;
use crate::pool::CallerId;

const CLIENT_FORMAT: &str = "In client mode send 'Authorization: Bearer TOKEN;COOKIE', or 'Bearer KEY;TOKEN;COOKIE' when the \
                             server has a key. Everything after the token is the cookie.";

/// Lets a caller in, who becomes an extension of the request. It stands before anything reads the body.
///
/// # Errors
/// 401 for a missing or wrong key, 429 for too many wrong ones.
pub(crate) async fn require_key(guard: &KeyGuard, mut request: Request) -> Result<Request, Response> {
    let is_server = guard.settings().server_mode;
    let offers_key = bearer(request.headers()).or_else(|| api_key(request.headers())).is_some();
    if is_server && !offers_key && is_by_page(guard, &request) {
        if let Some(record) = request.extensions().get::<RequestRecord>() {
            record.admitted(Some(KeyName::page()));
        }
        request.extensions_mut().insert(Caller::PAGE);
        return Ok(request);
    }
    let admitted = if is_server { server_caller } else { client_caller };
    match admitted(guard.keys(), request.headers()) {
        Ok(caller) => {
            if let Some(key) = &caller.key
                && let Err(wait) = guard.admit(guard.address(&request), RightKey::Caller(key.id.0)).await
            {
                Drain::refuse(request);
                return Err(Failure::too_many_wrong_keys(wait).into_response());
            }
            if let Some(record) = request.extensions().get::<RequestRecord>() {
                record.admitted(caller.key.as_ref().map(|key| key.name.clone()));
            }
            request.extensions_mut().insert(caller);
            Ok(request)
        }
        Err(Refusal { failure, is_wrong_key }) => {
            let answer = |wait: Option<Duration>| wait.map_or(failure, Failure::too_many_wrong_keys).into_response();
            Err(guard.refuse(request, is_wrong_key, answer).await)
        }
    }
}

/// The reason why a caller is not let in.
struct Refusal {
    failure: Failure,
    /// A key of this server was asked for, and another was sent.
    is_wrong_key: bool,
}

impl Refusal {
    fn new(message: impl Into<String>) -> Self {
        Self { failure: Failure::unauthenticated(message), is_wrong_key: false }
    }
}

fn server_caller(keys: &CallerKeys, headers: &HeaderMap) -> Result<Caller, Refusal> {
    if keys.is_empty() {
        return Ok(Caller { id: CallerId(0), own: None, key: None });
    }
    let offered: Vec<&str> = bearer(headers).into_iter().chain(api_key(headers)).collect();
    if offered.is_empty() {
        return Err(Refusal::new("A key is missing: send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'."));
    }
    let Some(key) = offered.iter().find_map(|offered| keys.find(offered)) else {
        let message = "The key is not one of this server's keys. It is set by API_KEY where the server runs.";
        return Err(Refusal { is_wrong_key: true, ..Refusal::new(message) });
    };
    Ok(Caller { id: key.id, own: None, key: Some(key) })
}

fn client_caller(keys: &CallerKeys, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let mut credential =
        bearer(headers).ok_or_else(|| Refusal::new(format!("A credential is missing. {CLIENT_FORMAT}")))?;
    let mut ours: Option<Arc<CallerKey>> = None;
    if !keys.is_empty() {
        ours = api_key(headers).and_then(|key| keys.find(key));
        if ours.is_none() {
            let (key, rest) = credential.split_once(';').unwrap_or((credential, ""));
            ours = keys.find(key.trim());
            credential = rest;
        }
        if ours.is_none() {
            let message = format!("The key is missing or wrong. {CLIENT_FORMAT}");
            return Err(Refusal { is_wrong_key: true, ..Refusal::new(message) });
        }
    }
    let (token_text, cookie_text) = credential.split_once(';').unwrap_or((credential, ""));
    let wrong = |what: &str, why: &dyn Display| Refusal::new(format!("The {what} {why}. {CLIENT_FORMAT}"));
    let token = AccessToken::parse(token_text, now()).map_err(|why| wrong("token", &why))?;
    let cookie = match cookie_text.trim() {
        "" => None,
        text => Some(Cookie::parse(text).map_err(|why| wrong("cookie", &why))?),
    };
    let key = CredentialKey::of(credential);
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let own = Session::new(IdentityId::named("caller"), key, cookie.as_ref(), Some(token));
    Ok(Caller { id: CallerId(hasher.finish()), own: Some(Arc::new(own)), key: ours })
}

/// The token of `Authorization: Bearer`, the scheme in any case; `None` if it is missing or empty.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = text(headers.get(AUTHORIZATION)?)?.trim();
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim()).filter(|rest| !rest.is_empty())
}

fn api_key(headers: &HeaderMap) -> Option<&str> {
    header_key(headers, "x-api-key")
}

/// A key in a header of its own; `None` when it is absent or empty.
pub(crate) fn header_key<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    text(headers.get(name)?).map(str::trim).filter(|key| !key.is_empty())
}

/// A header as text: keys may hold any UTF-8.
fn text(value: &HeaderValue) -> Option<&str> {
    str::from_utf8(value.as_bytes()).ok()
}

fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
