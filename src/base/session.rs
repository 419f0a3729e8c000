//! One account's live session: its cookie jar and its newest access token, lent out together so that they are
//! never mixed with another account's.

use std::fmt;

use cookie_store::{CookieStore, RawCookie};
use http::header::{HeaderMap, HeaderValue, SET_COOKIE};
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::secret::{AccessToken, Cookie};

/// The jar and the token of one identity. Shared by the pool, which lends it, and the upstream, which uses it.
pub struct Session {
    identity: IdentityId,
    key: CredentialKey,
    site: Url,
    state: Mutex<State>,
}

struct State {
    jar: CookieStore,
    token: Option<AccessToken>,
    /// Grows with each installed token, so that waiters can see that another task refreshed.
    token_generation: u64,
    /// Grows with each change of jar or token, so that a writer knows whether there is something to save.
    revision: u64,
    /// The Cookie header before the last renewal that changed how the session signs in.
    earlier: Option<SecretString>,
}

/// The state that a session needs to continue after a restart.
pub struct SessionSnapshot {
    /// The jar as one Cookie header.
    pub cookies: SecretString,
    /// The access token, if there is one.
    pub token: Option<SecretString>,
    /// The jar before its last renewal, to go back to when the upstream refuses what that brought.
    pub earlier: Option<SecretString>,
}

impl Session {
    /// A session that starts with a configured cookie, a token, or both.
    #[must_use]
    pub fn new(identity: IdentityId, key: CredentialKey, cookie: Option<&Cookie>, token: Option<AccessToken>) -> Self {
        let site = site();
        let mut jar = CookieStore::new();
        if let Some(cookie) = cookie {
            fill(&mut jar, &site, cookie.expose());
        }
        // A token given without its browser's jar: the site keeps the same JWT in the cookie `token`.
        if let (None, Some(token)) = (cookie, &token) {
            fill(&mut jar, &site, &format!("token={}", token.expose()));
        }
        let token_generation = u64::from(token.is_some());
        Self {
            identity,
            key,
            site,
            state: Mutex::new(State { jar, token, token_generation, revision: 0, earlier: None }),
        }
    }

    /// Name of the session's identity.
    #[must_use]
    pub fn identity(&self) -> &IdentityId {
        &self.identity
    }

    /// Name of the credential on disk.
    #[must_use]
    pub fn key(&self) -> &CredentialKey {
        &self.key
    }

    /// The `Cookie` header to send, marked sensitive; `None` when the jar is empty.
    #[must_use]
    pub fn cookie_header(&self) -> Option<HeaderValue> {
        let text = self.cookie_text();
        if text.is_empty() {
            return None;
        }
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The `Authorization` header to send, marked sensitive; `None` without a token.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        let state = self.state.lock();
        let mut value = HeaderValue::from_str(&format!("Bearer {}", state.token.as_ref()?.expose())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// A copy of the newest token.
    #[must_use]
    pub fn token(&self) -> Option<AccessToken> {
        self.state.lock().token.clone()
    }

    /// Number of tokens installed so far.
    #[must_use]
    pub fn token_generation(&self) -> u64 {
        self.state.lock().token_generation
    }

    /// Number of changes of jar or token so far.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.state.lock().revision
    }

    /// Puts a newer token in the place of the old one.
    pub fn install_token(&self, token: AccessToken) {
        let mut state = self.state.lock();
        state.token = Some(token);
        state.token_generation += 1;
        state.revision += 1;
    }

    /// Takes the token away, so that the next use has to get a new one. Does not count as installing a token: tasks that
    /// wait for one go on waiting.
    pub fn forget_token(&self) {
        let mut state = self.state.lock();
        if state.token.take().is_some() {
            state.revision += 1;
        }
    }

    /// The value of one cookie.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<SecretString> {
        let state = self.state.lock();
        let mut values = state.jar.get_request_values(&self.site);
        values.find(|(found, _)| *found == name).map(|(_, value)| SecretString::from(value))
    }

    /// Every secret of this session: the token, and the value of each cookie.
    #[must_use]
    pub fn secrets(&self) -> Vec<SecretString> {
        let state = self.state.lock();
        let token = state.token.as_ref().map(|token| SecretString::from(token.expose()));
        let cookies = state.jar.get_request_values(&self.site).map(|(_, value)| SecretString::from(value));
        cookies.chain(token).collect()
    }

    /// Puts one cookie into the jar, as when the upstream hands out its value in a body.
    pub fn set_cookie(&self, name: &str, value: &str) {
        let mut state = self.state.lock();
        let before = joined(&state.jar, &self.site);
        let _ = state.jar.insert_raw(&RawCookie::new(name.to_owned(), value.to_owned()), &self.site);
        if joined(&state.jar, &self.site) != before {
            state.revision += 1;
        }
    }

    /// Takes over every `Set-Cookie` of an answer. Domain and path are ignored: the jar is sent to the two hosts
    /// of one site only, and a base URL may point to a simulator.
    pub fn absorb(&self, headers: &HeaderMap) {
        if !headers.contains_key(SET_COOKIE) {
            return;
        }
        let mut state = self.state.lock();
        let before = joined(&state.jar, &self.site);
        for line in headers.get_all(SET_COOKIE) {
            let Some(mut cookie) = line.to_str().ok().and_then(|line| RawCookie::parse(line.to_owned()).ok()) else {
                continue;
            };
            cookie.unset_domain();
            cookie.unset_path();
            // A cookie that the jar refuses (expired on arrival, malformed) is one that a browser would not keep.
            let _ = state.jar.insert_raw(&cookie, &self.site);
        }
        if joined(&state.jar, &self.site) != before {
            state.revision += 1;
        }
    }

    /// The state to store so that a restart continues the session.
    #[must_use]
    pub fn snapshot(&self) -> SessionSnapshot {
        let state = self.state.lock();
        SessionSnapshot {
            cookies: SecretString::from(joined(&state.jar, &self.site)),
            token: state.token.as_ref().map(|token| SecretString::from(token.expose())),
            earlier: state.earlier.clone(),
        }
    }

    /// Keeps the Cookie header of before a renewal, to go back to.
    pub fn keep_earlier(&self, cookies: Option<SecretString>) {
        self.state.lock().earlier = cookies;
    }

    /// Whether there is a Cookie header of before a renewal to go back to.
    #[must_use]
    pub fn has_earlier(&self) -> bool {
        self.state.lock().earlier.is_some()
    }

    /// Takes the Cookie header of before the last renewal, which is tried once.
    #[must_use]
    pub fn take_earlier(&self) -> Option<SecretString> {
        self.state.lock().earlier.take()
    }

    /// Goes back to what was written down, or to the configured cookie when that is given in its place.
    pub fn restore(&self, cookies: &SecretString, token: Option<AccessToken>) {
        let mut state = self.state.lock();
        state.jar = CookieStore::new();
        fill(&mut state.jar, &self.site, cookies.expose_secret());
        state.token = token;
        state.token_generation += 1;
        state.revision += 1;
    }

    /// Whether the session signs in with what this cookie holds. Cookies that do not sign in change with every answer.
    #[must_use]
    pub fn signs_in_with(&self, cookie: &Cookie) -> bool {
        self.signs_in_as(&SecretString::from(cookie.expose()))
    }

    /// [`Session::signs_in_with`] for a Cookie header that was written down.
    #[must_use]
    pub fn signs_in_as(&self, cookies: &SecretString) -> bool {
        let mut jar = CookieStore::new();
        fill(&mut jar, &self.site, cookies.expose_secret());
        let state = self.state.lock();
        let value = |jar: &CookieStore, name: &str| {
            let mut values = jar.get_request_values(&self.site);
            values.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
        };
        ["refresh_token", "token"].into_iter().all(|name| value(&state.jar, name) == value(&jar, name))
    }

    /// End of the session: the end of the token that it signs in with. `None` if a `refresh_token` renews it, or if the
    /// end is unknown.
    #[must_use]
    pub fn ends_at(&self, now: UnixSeconds) -> Option<UnixSeconds> {
        if self.cookie("refresh_token").is_some() {
            return None;
        }
        let in_jar = self.cookie("token").and_then(|token| AccessToken::parse(token.expose_secret(), now).ok());
        in_jar.or_else(|| self.token())?.expires_at()
    }

    fn cookie_text(&self) -> String {
        joined(&self.state.lock().jar, &self.site)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The site of every jar, even if other base URLs are configured.
fn site() -> Url {
    #[expect(clippy::expect_used, reason = "a constant, parsed in every test run")]
    Url::parse("https://chat.qwen.ai/").expect("constant URL")
}

fn fill(jar: &mut CookieStore, site: &Url, header: &str) {
    for pair in header.split(';') {
        if let Some((name, value)) = pair.split_once('=') {
            let cookie = RawCookie::new(name.trim().to_owned(), value.trim().to_owned());
            // Refused pairs have no name; the rest of the header is still good.
            let _ = jar.insert_raw(&cookie, site);
        }
    }
}

fn joined(jar: &CookieStore, site: &Url) -> String {
    let mut text = String::new();
    for (name, value) in jar.get_request_values(site) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(name);
        text.push('=');
        text.push_str(value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(cookie: &str) -> Session {
        let cookie = Cookie::parse(cookie).unwrap();
        Session::new(IdentityId::numbered(1), cookie.key(), Some(&cookie), None)
    }

    #[test]
    fn a_configured_cookie_is_sent_as_it_was_pasted() {
        for text in ["token=a.b.c", "cna=1; token=x==; isg=\"q\"; x-ap=cn%2Fhk", "a=1; b=2; c="] {
            assert_eq!(session(text).cookie_text(), text);
        }
    }

    #[test]
    fn answers_change_the_jar() {
        let session = session("token=old; acw_tc=1");
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, "token=new; Domain=.qwen.ai; Path=/; HttpOnly; Secure".parse().unwrap());
        headers.append(SET_COOKIE, "acw_tc=; Max-Age=0".parse().unwrap());
        headers.append(SET_COOKIE, "x-ap=eu; Domain=127.0.0.1; Path=/api".parse().unwrap());
        session.absorb(&headers);
        assert_eq!(session.cookie_text(), "token=new; x-ap=eu");
        assert_eq!(session.revision(), 1);
        session.absorb(&headers);
        assert_eq!(session.revision(), 1, "nothing changed the second time");
    }

    #[test]
    fn what_a_session_sends() {
        let token = |text: &str| AccessToken::parse(text, UnixSeconds(0)).unwrap();
        let cookie = Cookie::parse("token=old; a=1").unwrap();
        let check = |cookie: Option<&Cookie>, given: Option<&str>, cookies: Option<&str>, bearer: Option<&str>| {
            let key = CredentialKey::of("x");
            let session = Session::new(IdentityId::numbered(1), key, cookie, given.map(token));
            let header = session.cookie_header();
            assert_eq!(header.as_ref().map(|value| value.to_str().unwrap()), cookies);
            assert!(header.is_none_or(|value| value.is_sensitive()));
            assert_eq!(session.authorization().as_ref().map(|value| value.to_str().unwrap()), bearer);
        };
        check(Some(&cookie), None, Some("token=old; a=1"), None);
        check(Some(&cookie), Some("t"), Some("token=old; a=1"), Some("Bearer t"));
        check(None, Some("t"), Some("token=t"), Some("Bearer t"));
        check(None, None, None, None);
    }

    #[test]
    fn a_session_survives_a_restart() {
        let before = session("token=a; b=2");
        before.install_token(AccessToken::parse("t", UnixSeconds(0)).unwrap());
        before.set_cookie("refresh_token", "r");
        assert_eq!((before.token_generation(), before.revision()), (1, 2));
        before.set_cookie("refresh_token", "r");
        assert_eq!(before.revision(), 2, "nothing changed the second time");
        let snapshot = before.snapshot();
        let after = session("token=a");
        after.restore(&snapshot.cookies, before.token());
        assert_eq!(after.cookie_text(), "token=a; b=2; refresh_token=r");
        assert_eq!(after.cookie("refresh_token").unwrap().expose_secret(), "r");
        assert!(after.cookie("gone").is_none());
        assert_eq!(after.token().unwrap().expose(), "t");
        assert!(!format!("{after:?}").contains("refresh"));
    }

    #[test]
    fn a_forgotten_token_is_no_newer_one() {
        let session = session("token=a");
        session.install_token(AccessToken::parse("t", UnixSeconds(0)).unwrap());
        session.forget_token();
        session.forget_token();
        assert!(session.token().is_none() && session.authorization().is_none());
        assert_eq!((session.token_generation(), session.revision()), (1, 2));
    }

    #[test]
    fn odd_answers_do_no_harm() {
        let check = |line: &'static [u8], expected: &str| {
            let session = session("a=1");
            let mut headers = HeaderMap::new();
            headers.append(SET_COOKIE, HeaderValue::from_bytes(line).unwrap());
            session.absorb(&headers);
            assert_eq!(session.cookie_text(), expected, "{}", line.escape_ascii());
        };
        check(b"b=2", "a=1; b=2");
        check(b"a=2; Path=/elsewhere; Domain=example.com; SameSite=Lax", "a=2");
        check(b"a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "");
        check(b"b=2; Max-Age=nonsense", "a=1; b=2");
        check(b"no pair", "a=1");
        check(b"=x", "a=1");
        check(b"b=\xff", "a=1");
        check(b"", "a=1");
    }
}
