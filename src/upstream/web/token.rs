//! Access tokens: where one comes from depends on what the browser's cookie jar holds.
//!
//! Newer sessions have a `refresh_token` cookie, which the auth host exchanges for a token of about 15 minutes.
//! Older ones have the token itself as a cookie, good for days, which `GET /api/v1/auths/` renews. That call
//! changes the session's cookie and can log the owner's open page out, so it is made only when there is need.

use http::Method;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::base::ids::UnixSeconds;
use crate::base::secret::AccessToken;
use crate::base::session::Session;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::answer::envelope;
use crate::upstream::web::client::{Credential, Host, QwenWeb};

const DOING: &str = "refreshing a token";

/// The token that a session's jar itself holds, if it is still good and there is nothing to renew it with.
pub(crate) fn token_in_jar(session: &Session, now: UnixSeconds) -> Option<AccessToken> {
    if session.cookie("refresh_token").is_some() {
        return None;
    }
    let token = AccessToken::parse(session.cookie("token")?.expose_secret(), now).ok()?;
    token.is_live(now).then_some(token)
}

impl QwenWeb {
    /// Gets a new access token for this session; cookies that come with it go into the jar.
    ///
    /// # Errors
    /// [`UpstreamErrorKind::Unauthorized`] or [`UpstreamErrorKind::Forbidden`] when the session is refused for
    /// good; any other kind says nothing about the session.
    pub(crate) async fn exchange(&self, session: &Session, now: UnixSeconds) -> Result<AccessToken, UpstreamError> {
        if session.cookie("refresh_token").is_some() {
            let refused = match self.refresh(session, now).await {
                Err(error) if is_refusal(&error) => error,
                other => return other,
            };
            // A jar may hold both forms; the older one is worth one try.
            let has_token = session.cookie("token").is_some();
            return if has_token { self.renew(session, now).await } else { Err(refused) };
        }
        match self.renew(session, now).await {
            Err(error) if is_refusal(&error) => self.refresh(session, now).await.map_err(|_| error),
            other => other,
        }
    }

    /// The newer form: `GET /api/v2/auths/refresh` on the auth host.
    async fn refresh(&self, session: &Session, now: UnixSeconds) -> Result<AccessToken, UpstreamError> {
        let answer = self
            .call(DOING, Host::Auth, Method::GET, "/api/v2/auths/refresh", Credential::Cookies(session), None)
            .await?;
        let value = envelope(DOING, &answer)?;
        let data = value.get("data").unwrap_or(&value);
        if let Some(rotated) = data.get("refresh_token").and_then(Value::as_str).filter(|token| !token.is_empty()) {
            session.set_cookie("refresh_token", rotated);
        }
        self.token_of(data, &["access_token", "token"], now)
    }

    /// The older form: `GET /api/v1/auths/` on the web host.
    async fn renew(&self, session: &Session, now: UnixSeconds) -> Result<AccessToken, UpstreamError> {
        let answer =
            self.call(DOING, Host::Web, Method::GET, "/api/v1/auths/", Credential::Cookies(session), None).await?;
        let value = envelope(DOING, &answer)?;
        let token = self.token_of(&value, &["token", "access_token"], now).or_else(|error| {
            value.get("data").map_or(Err(error), |data| self.token_of(data, &["token", "access_token"], now))
        })?;
        if session.cookie("token").is_some() {
            session.set_cookie("token", token.expose());
        }
        Ok(token)
    }

    /// The token in an answer that came at `now` of this machine. Its end is a moment of the upstream's clock, and is
    /// kept as one of this machine's.
    fn token_of(&self, value: &Value, names: &[&str], now: UnixSeconds) -> Result<AccessToken, UpstreamError> {
        let ahead = self.clock_skew();
        let text = names.iter().find_map(|name| value.get(name).and_then(Value::as_str));
        let token = text.and_then(|text| AccessToken::parse(text, now.plus(ahead.saturating_neg())).ok());
        let token = token.map(|token| token.seen_from(ahead)).filter(|token| token.is_live(now));
        token.ok_or_else(|| UpstreamError::new(DOING, UpstreamErrorKind::Protocol))
    }
}

/// Whether the upstream says that the session itself is not accepted.
#[must_use]
pub(crate) fn is_refusal(error: &UpstreamError) -> bool {
    matches!(error.kind, UpstreamErrorKind::Unauthorized | UpstreamErrorKind::Forbidden)
}
