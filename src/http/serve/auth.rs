//! The callers' keys and, in client mode, their credentials: the layer around everything that is not public.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::secret::{AccessToken, ApiKey, Cookie};
use crate::base::session::Session;
use crate::chat::failure::Failure;
use crate::http::serve::drain::Drain;
use crate::http::state::AppState;
use crate::pool::CallerId;

const CLIENT_FORMAT: &str = "In client mode send 'Authorization: Bearer TOKEN;COOKIE', or 'Bearer KEY;TOKEN;COOKIE' when the \
                             server has a key. Everything after the token is the cookie.";

/// A caller whose key or credential was accepted.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Stands for the key that was used.
    pub id: CallerId,
    /// The caller's own credential, in client mode.
    pub own: Option<Arc<Session>>,
}

impl Caller {
    /// The caller's name on disk: a hash of the key or, in client mode, of the credential. All callers of a server
    /// without keys share one; a renewed credential has another.
    pub(crate) fn hash(&self, keys: &[ApiKey]) -> CredentialKey {
        if let Some(own) = &self.own {
            return own.key().clone();
        }
        // The id is the key's place, counted from 1. Only a few routes need the hash.
        let place = usize::try_from(self.id.0).ok().and_then(|place| place.checked_sub(1));
        CredentialKey::of(place.and_then(|place| keys.get(place)).map_or("", ApiKey::expose))
    }
}

/// The layer: 401 for a missing or wrong key. It stands before anything reads the body.
pub(crate) async fn require_key(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let settings = &state.0.settings;
    let caller = if settings.server_mode { server_caller } else { client_caller };
    match caller(&settings.keys, request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => {
            Drain::refuse(request);
            failure.into_response()
        }
    }
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

/// The place of the matching key, counted from 1. All keys are compared, so that the time taken does not tell which.
fn matching(keys: &[ApiKey], offered: &str) -> Option<u64> {
    let mut found = None;
    for (place, key) in (1..).zip(keys) {
        if key.matches(offered) {
            found = Some(place);
        }
    }
    found
}

/// The token of `Authorization: Bearer`, the scheme in any case; `None` when there is none or it is empty.
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
