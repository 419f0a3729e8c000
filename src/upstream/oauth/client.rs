//! The OAuth endpoints of chat.qwen.ai: device login and the refresh of tokens.
//!
//! Bodies are forms, answers are JSON, except when the risk engine sends a page. Clients have seen different statuses
//! for the two slow-downs, so the word decides and not the number.

use std::fmt;
use std::time::Duration;

use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;
use uuid::Uuid;

use crate::base::ids::UnixSeconds;
use crate::base::oauth::{OAuthCredentials, RefreshToken, TokenGrant, UnixMillis};
use crate::base::secret::AccessToken;
use crate::upstream::call_log::CallLog;
use crate::upstream::classify::{classify_body, is_challenge};
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::settings::OAuthSettings;
use crate::upstream::web::answer::{Answer, read};
use crate::upstream::web::client::WebClientError;
use crate::upstream::words::known_code;

const LOGIN: &str = "beginning a login";
const POLLING: &str = "waiting for a login";
const PROBING: &str = "asking whether the token is taken";
const REFRESHING: &str = "refreshing a token";
/// Time limit of one call. Shorter than the ten seconds after which other programs regard a lock on the credentials as
/// abandoned.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// Wait between two polls when the answer has no interval (RFC 8628, section 3.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// Lifetime of a code whose answer has none.
const CODE_LIFETIME: Duration = Duration::from_secs(600);

/// The longest code that is shown to an owner to type in.
const USER_CODE_CHARS_MAX: usize = 64;

/// The client of the OAuth endpoints.
#[derive(Debug)]
pub(crate) struct QwenOAuth {
    client: reqwest::Client,
    settings: OAuthSettings,
}

/// A login that waits for its owner.
#[derive(Clone)]
pub(crate) struct DeviceCode {
    /// The secret to poll with.
    pub device_code: SecretString,
    /// The code that the owner types in.
    pub user_code: String,
    /// URL where the owner types it in.
    pub verification_uri: String,
    /// The same URL with the code in it.
    pub verification_uri_complete: String,
    /// Lifetime of the code.
    pub expires_in: Duration,
    /// Wait between two polls.
    pub interval: Duration,
}

/// The outcome of a poll.
#[derive(Debug)]
pub(crate) enum Poll {
    /// The owner has not decided yet.
    Pending,
    /// The owner has not decided yet, and polls come too often.
    SlowDown,
    /// The owner approved the login; the credentials are new.
    Granted(Box<OAuthCredentials>),
    /// The owner denied the login.
    Denied,
    /// The code has expired.
    Expired,
    /// Too many requests; not to be polled again.
    RateLimited {
        /// Wait that the answer asks for, if any.
        retry_after: Option<Duration>,
    },
    /// The endpoint refuses for another reason.
    Failed {
        /// Sentence of this program about the refusal.
        message: String,
    },
    /// The poll was not answered; another one may be.
    Unreachable(UpstreamError),
}

/// Reasons why a refresh brought no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshFailure {
    /// The refresh token is refused permanently: the owner has to log in again.
    #[error("the refresh token is refused{}", in_brackets(*code))]
    Dead {
        /// The endpoint's code, if it is a known one.
        code: Option<&'static str>,
    },
    /// A failure that does not tell about the refresh token.
    #[error(transparent)]
    Transient(UpstreamError),
}

impl QwenOAuth {
    /// A client for these settings.
    ///
    /// # Errors
    /// [`WebClientError`].
    pub(crate) fn new(settings: OAuthSettings) -> Result<Self, WebClientError> {
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.connect_timeout.min(CALL_TIMEOUT))
            .timeout(CALL_TIMEOUT);
        let builder = if settings.is_direct { builder.no_proxy() } else { builder };
        // A simulator on this machine needs no certificates, and a machine without any can still run one.
        let builder = if settings.base.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let client = builder.build().map_err(WebClientError::Client)?;
        Ok(Self { client, settings })
    }

    /// Begins a login.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn device_code(&self, challenge: &str) -> Result<DeviceCode, UpstreamError> {
        let form = [
            ("client_id", self.settings.client_id.as_str()),
            ("scope", &self.settings.scope),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256"),
        ];
        let answer = self.call(LOGIN, "/api/v1/oauth2/device/code", &form).await?;
        let value = told(LOGIN, &answer)?;
        DeviceCode::of(&value).ok_or_else(|| {
            let error = OAuthError::of(&value);
            let kind = if error.code.is_empty() { UpstreamErrorKind::Protocol } else { UpstreamErrorKind::Unavailable };
            let kind = if answer.status == 429 { UpstreamErrorKind::RateLimited } else { kind };
            UpstreamError { retry_after: answer.retry_after, ..error.told(LOGIN, kind) }
        })
    }

    /// Asks once whether the owner has decided.
    pub(crate) async fn poll(&self, device_code: &SecretString, verifier: &SecretString, now: UnixMillis) -> Poll {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", &self.settings.client_id),
            ("device_code", device_code.expose_secret()),
            ("code_verifier", verifier.expose_secret()),
        ];
        let answer = match self.token(POLLING, &form).await {
            Ok(answer) => answer,
            Err(error) => return Poll::Unreachable(error),
        };
        let value = match told(POLLING, &answer) {
            Ok(value) => value,
            Err(error) if answer.status == 401 && error.kind == UpstreamErrorKind::Unauthorized => {
                return Poll::Expired;
            }
            Err(error) if answer.status == 429 && error.kind == UpstreamErrorKind::RateLimited => {
                return Poll::RateLimited { retry_after: answer.retry_after };
            }
            Err(error) => return Poll::Unreachable(error),
        };
        polled(&value, &answer, now)
    }

    /// Trades a refresh token for a new access token.
    ///
    /// # Errors
    /// [`RefreshFailure`].
    pub(crate) async fn refresh(
        &self,
        refresh_token: &RefreshToken,
        now: UnixSeconds,
    ) -> Result<TokenGrant, RefreshFailure> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", self.settings.client_id.as_str()),
            ("refresh_token", refresh_token.expose()),
        ];
        let answer = self.token(REFRESHING, &form).await.map_err(RefreshFailure::Transient)?;
        let value = match told(REFRESHING, &answer) {
            Ok(value) => value,
            Err(error) if error.kind == UpstreamErrorKind::Unauthorized => {
                return Err(RefreshFailure::Dead { code: None });
            }
            Err(error) => return Err(RefreshFailure::Transient(error)),
        };
        let error = OAuthError::of(&value);
        if (200..300).contains(&answer.status)
            && error.code.is_empty()
            && let Some(grant) = TokenGrant::parse(&value, now)
        {
            return Ok(grant);
        }
        let is_passing = matches!(error.code.as_str(), "slow_down" | "temporarily_unavailable" | "server_error");
        let is_refused = match answer.status {
            400 | 401 => !is_passing,
            200..300 => matches!(error.code.as_str(), "invalid_grant" | "invalid_request" | "invalid_token"),
            _ => false,
        };
        if is_refused {
            return Err(RefreshFailure::Dead { code: known_code(&error.code) });
        }
        let kind = match answer.status {
            429 => UpstreamErrorKind::RateLimited,
            200..300 if error.code.is_empty() => UpstreamErrorKind::Protocol,
            _ => UpstreamErrorKind::Unavailable,
        };
        Err(RefreshFailure::Transient(UpstreamError {
            retry_after: answer.retry_after,
            ..error.told(REFRESHING, kind)
        }))
    }

    /// Asks the API of an account whether its token is accepted, by a call that changes nothing. The call is not
    /// documented, so only a refusal of the token is certain.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn probe(&self, api_base: &Url, token: &AccessToken) -> Result<(), UpstreamError> {
        let mut url = api_base.clone();
        url.set_path(&format!("{}/models", api_base.path().trim_end_matches('/')));
        let mut request = reqwest::Request::new(Method::GET, url);
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| UpstreamError::new(PROBING, UpstreamErrorKind::Protocol))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let sent = CallLog::execute(&self.client, "oauth", request)
            .await
            .map_err(|error| UpstreamError::transport(PROBING, error))?;
        let answer = read(PROBING, sent).await?;
        // The portal has no such list, and answers 404 only after it accepted the token.
        if answer.status == 404 && answer.content_type.contains("json") {
            return Ok(());
        }
        classify_body(PROBING, answer.status, &answer.content_type, &answer.body).map_or(Ok(()), Err)
    }

    async fn token(&self, doing: &'static str, form: &[(&str, &str)]) -> Result<Answer, UpstreamError> {
        self.call(doing, "/api/v1/oauth2/token", form).await
    }

    async fn call(&self, doing: &'static str, path: &str, form: &[(&str, &str)]) -> Result<Answer, UpstreamError> {
        let base = &self.settings.base;
        let mut request = reqwest::Request::new(Method::POST, base.join(path).unwrap_or_else(|_| base.clone()));
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if doing == LOGIN
            && let Ok(id) = HeaderValue::try_from(Uuid::new_v4().to_string())
        {
            headers.insert("x-request-id", id);
        }
        let body = Serializer::new(String::new()).extend_pairs(form).finish();
        *request.body_mut() = Some(body.into());
        let call = async {
            let sent = CallLog::execute(&self.client, "oauth", request).await;
            read(doing, sent.map_err(|error| UpstreamError::transport(doing, error))?).await
        };
        // The client has the same limit, but a paused test clock does not move that one.
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer,
            Err(_) => Err(UpstreamError::new(doing, UpstreamErrorKind::Timeout)),
        }
    }
}

impl DeviceCode {
    fn of(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        let seconds = |name: &str| {
            let number = value.get(name)?;
            let number = number.as_f64().or_else(|| number.as_str()?.trim().parse().ok())?;
            (0.0..1e7).contains(&number).then(|| Duration::from_secs_f64(number))
        };
        let (device_code, user_code) = (text("device_code")?, text("user_code").unwrap_or_default());
        let verification_uri = web_address(text("verification_uri").unwrap_or(VERIFICATION_URI))?;
        let complete = match text("verification_uri_complete") {
            Some(complete) => web_address(complete)?,
            None => {
                let mut url = verification_uri.clone();
                url.query_pairs_mut().append_pair("user_code", user_code).append_pair("client", "qwen-code");
                url
            }
        };
        Some(Self {
            device_code: SecretString::from(device_code),
            user_code: user_code.chars().filter(|c| matches!(c, ' '..='~')).take(USER_CODE_CHARS_MAX).collect(),
            verification_uri: verification_uri.into(),
            verification_uri_complete: complete.into(),
            expires_in: seconds("expires_in").filter(|length| !length.is_zero()).unwrap_or(CODE_LIFETIME),
            interval: seconds("interval").filter(|length| !length.is_zero()).unwrap_or(INTERVAL),
        })
    }
}

impl fmt::Debug for DeviceCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCode")
            .field("expires_in", &self.expires_in)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// A URL that a browser may be sent to: http or https, with a host.
fn web_address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "https" | "http") && url.has_host()).then_some(url)
}

/// `error` and `error_description` of an answer.
struct OAuthError {
    code: String,
    description: String,
}

impl OAuthError {
    fn of(value: &Value) -> Self {
        let error = value.get("error").filter(|error| !error.is_null());
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().trim().to_owned();
        // The chat's own endpoints nest their errors, and some proxies do.
        let (code, description) = match error {
            Some(Value::Object(nested)) => (text(nested.get("code")), text(nested.get("message"))),
            other => (text(other), text(value.get("error_description"))),
        };
        let code = if code.is_empty() && error.is_some() { "error".to_owned() } else { code };
        Self { code, description }
    }

    fn told(&self, doing: &'static str, kind: UpstreamErrorKind) -> UpstreamError {
        UpstreamError::told(doing, kind, &self.code, &self.description)
    }
}

/// The table of the device grant: from an answer of the token endpoint to the state of a login.
fn polled(value: &Value, answer: &Answer, now: UnixMillis) -> Poll {
    let error = OAuthError::of(value);
    let is_slow = value.get("slowDown").and_then(Value::as_bool) == Some(true);
    match (answer.status, error.code.as_str()) {
        (_, "slow_down") => Poll::SlowDown,
        (_, "authorization_pending") => Poll::Pending,
        (_, "access_denied") => Poll::Denied,
        (401, _) | (_, "expired_token") => Poll::Expired,
        (429, _) => Poll::RateLimited { retry_after: answer.retry_after },
        (500.., _) => Poll::Unreachable(error.told(POLLING, UpstreamErrorKind::Unavailable)),
        (200..300, "") if value.get("status").and_then(Value::as_str) == Some("pending") => {
            if is_slow {
                Poll::SlowDown
            } else {
                Poll::Pending
            }
        }
        (200..300, "") => match TokenGrant::parse(value, now.seconds()) {
            Some(grant) => Poll::Granted(Box::new(OAuthCredentials::granted(grant, now))),
            None => Poll::Pending,
        },
        (status, code) => {
            let message = format!("the login was refused with status {status}{}", in_brackets(known_code(code)));
            Poll::Failed { message }
        }
    }
}

/// The JSON of an answer, whatever its status; an answer without JSON is an error by its status.
fn told(doing: &'static str, answer: &Answer) -> Result<Value, UpstreamError> {
    let failure = |kind| UpstreamError { retry_after: answer.retry_after, ..UpstreamError::new(doing, kind) };
    let parsed = serde_json::from_slice::<Value>(&answer.body).ok().filter(Value::is_object);
    match parsed {
        // `ret` marks a page of the risk engine in JSON.
        Some(value) if is_challenge(&value) || value.get("ret").is_some() => {
            let error = classify_body(doing, answer.status, &answer.content_type, &answer.body);
            Err(error.unwrap_or_else(|| failure(UpstreamErrorKind::Protocol)))
        }
        Some(value) => Ok(value),
        None => {
            let error = classify_body(doing, answer.status, &answer.content_type, &answer.body);
            let error = error.unwrap_or_else(|| failure(UpstreamErrorKind::Protocol));
            Err(UpstreamError { retry_after: answer.retry_after, ..error })
        }
    }
}

fn in_brackets(code: Option<&str>) -> String {
    code.map(|code| format!(" ({code})")).unwrap_or_default()
}

/// Page where a login is confirmed if the answer has none.
const VERIFICATION_URI: &str = "https://chat.qwen.ai/authorize";
