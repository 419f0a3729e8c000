//! Sessions of the owner's page: cookies, CSRF tokens, and the link that opens a session.
//!
//! The cookie is a JWT (HS256) that names a session of this process. The signature depends on a secret that is drawn at
//! the start and on the admin key, so a session ends when the process or the key does. Nothing is stored on disk.

use std::collections::HashMap;

use http::header::{COOKIE, HeaderMap};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::base::ids::UnixSeconds;
use crate::base::secret::ApiKey;
use crate::gateway::random::{secret_bytes, secret_text};

/// Name of the session cookie.
pub(crate) const COOKIE_NAME: &str = "qwen_bridge_session";
/// Lifetime of a session in seconds: 30 days.
pub(crate) const SESSION_SECONDS: i64 = 30 * 24 * 60 * 60;
/// Most sessions at once. A further login ends the oldest one.
const SESSIONS_MAX: usize = 1000;

/// All sessions of this process, and the link that opens one without a key.
pub(crate) struct Sessions {
    secret: [u8; 32],
    live: Mutex<Live>,
    /// The secret of the printed link; `None` after its use, or without a link.
    link: Mutex<Option<ApiKey>>,
}

#[derive(Default)]
struct Live {
    count: u64,
    by_id: HashMap<String, Entry>,
}

struct Entry {
    number: u64,
    way: Way,
    csrf: ApiKey,
    until: UnixSeconds,
}

/// The way in which a session was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// With the key, `ADMIN_SECRET_KEY`.
    Key,
    /// With the link that was printed at the start. Such a session is valid for names of this machine only.
    Link,
}

/// A session that a request belongs to.
#[derive(Clone, Debug)]
pub(crate) struct PageSession {
    id: String,
    /// Number of the session, from 1, for the audit list.
    pub number: u64,
    /// The way in which it was opened.
    pub way: Way,
    csrf: ApiKey,
}

impl PageSession {
    /// The CSRF token that each change has to carry as `x-csrf-token`.
    pub(crate) fn csrf(&self) -> &str {
        self.csrf.expose()
    }

    /// Whether `offered` is the CSRF token, compared in constant time.
    pub(crate) fn is_csrf(&self, offered: &str) -> bool {
        self.csrf.matches(offered)
    }
}

/// The claims of the cookie.
#[derive(Serialize, Deserialize)]
struct Claims {
    sid: String,
    exp: i64,
}

impl Sessions {
    /// No session yet. With `has_link`, a link can open one session, once.
    pub(crate) fn new(has_link: bool) -> Self {
        Self { secret: secret_bytes(), live: Mutex::default(), link: Mutex::new(has_link.then(random)) }
    }

    /// The secret of the link, to be printed for the owner; `None` without a link or after its use.
    pub(crate) fn link(&self) -> Option<ApiKey> {
        self.link.lock().clone()
    }

    /// Whether `offered` is the secret of the link, compared in constant time; `false` after its use.
    pub(crate) fn is_link(&self, offered: &str) -> bool {
        self.link.lock().as_ref().is_some_and(|link| link.matches(offered))
    }

    /// Uses the link, once. Returns `false` for a wrong secret and after its use.
    pub(crate) fn use_link(&self, offered: &str) -> bool {
        let mut link = self.link.lock();
        let is_right = link.as_ref().is_some_and(|link| link.matches(offered));
        if is_right {
            *link = None;
        }
        is_right
    }

    /// Opens a session and returns it with the value of its cookie.
    pub(crate) fn open(&self, way: Way, key: Option<&ApiKey>, now: UnixSeconds) -> Option<(String, PageSession)> {
        let id = Uuid::new_v4().simple().to_string();
        let until = now.plus(SESSION_SECONDS);
        let claims = Claims { sid: id.clone(), exp: until.0 };
        let signing = EncodingKey::from_secret(&self.signing_secret(key));
        let cookie = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &signing).ok()?;
        let csrf = random();
        let mut live = self.live.lock();
        live.by_id.retain(|_, entry| entry.until > now);
        if live.by_id.len() >= SESSIONS_MAX {
            let oldest = live.by_id.iter().min_by_key(|(_, entry)| entry.number).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| live.by_id.remove(&oldest));
        }
        live.count += 1;
        let number = live.count;
        live.by_id.insert(id.clone(), Entry { number, way, csrf: csrf.clone(), until });
        Some((cookie, PageSession { id, number, way, csrf }))
    }

    /// The session that the request's cookie names; `None` without one, after its end, or if the key has changed.
    pub(crate) fn of(&self, headers: &HeaderMap, key: Option<&ApiKey>, now: UnixSeconds) -> Option<PageSession> {
        let checking = DecodingKey::from_secret(&self.signing_secret(key));
        let mut rules = Validation::new(Algorithm::HS256);
        // The end is checked below, by the given clock.
        rules.validate_exp = false;
        cookies(headers).find_map(|cookie| {
            let claims = jsonwebtoken::decode::<Claims>(cookie, &checking, &rules).ok()?.claims;
            let live = self.live.lock();
            let entry = live.by_id.get(&claims.sid).filter(|entry| entry.until > now)?;
            Some(PageSession { id: claims.sid, number: entry.number, way: entry.way, csrf: entry.csrf.clone() })
        })
    }

    /// Ends a session before its time.
    pub(crate) fn close(&self, session: &PageSession) {
        self.live.lock().by_id.remove(&session.id);
    }

    fn signing_secret(&self, key: Option<&ApiKey>) -> Vec<u8> {
        let mut hasher = Sha256::new();
        hasher.update(self.secret);
        // A separator distinguishes an empty key from a missing one.
        if let Some(key) = key {
            hasher.update([1]);
            hasher.update(key.expose().as_bytes());
        }
        hasher.finalize().to_vec()
    }
}

/// The values of all session cookies; a browser sends those of several paths.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

fn random() -> ApiKey {
    ApiKey::new(&secret_text())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_790_000_000);

    fn with(cookie: &str) -> HeaderMap {
        let value = HeaderValue::try_from(format!("a=b; {COOKIE_NAME}={cookie}; c")).unwrap();
        HeaderMap::from_iter([(COOKIE, value)])
    }

    #[test]
    fn a_session_ends_at_logout_when_the_key_changes_and_after_thirty_days() {
        let sessions = Sessions::new(false);
        let (key, other) = (ApiKey::new("one"), ApiKey::new("two"));
        let (cookie, opened) = sessions.open(Way::Key, Some(&key), NOW).unwrap();
        let found = |key: Option<&ApiKey>, now| sessions.of(&with(&cookie), key, now);
        let session = found(Some(&key), NOW).unwrap();
        assert!(session.is_csrf(opened.csrf()) && !session.is_csrf("") && session.way == Way::Key);
        assert!(found(Some(&key), NOW.plus(SESSION_SECONDS - 1)).is_some());
        assert!(found(Some(&key), NOW.plus(SESSION_SECONDS)).is_none());
        assert!(found(Some(&other), NOW).is_none() && found(None, NOW).is_none());
        assert!(Sessions::new(false).of(&with(&cookie), Some(&key), NOW).is_none(), "of another process");
        let (cut, _) = cookie.split_at(cookie.len() - 1);
        for forged in ["", "x", "a.b.c", cut, &cookie.to_uppercase()] {
            assert!(sessions.of(&with(forged), Some(&key), NOW).is_none(), "{forged}");
        }
        let (elsewhere, _) = sessions.open(Way::Key, Some(&key), NOW).unwrap();
        sessions.close(&session);
        assert!(found(Some(&key), NOW).is_none());
        assert!(sessions.of(&with(&elsewhere), Some(&key), NOW).is_some());
        let both = HeaderValue::try_from(format!("{COOKIE_NAME}={cookie}; {COOKIE_NAME}={elsewhere}")).unwrap();
        assert!(sessions.of(&HeaderMap::from_iter([(COOKIE, both)]), Some(&key), NOW).is_some());
    }

    #[test]
    fn an_unsigned_cookie_is_none() {
        let sessions = Sessions::new(false);
        let (cookie, _) = sessions.open(Way::Key, None, NOW).unwrap();
        let claims = cookie.split('.').nth(1).unwrap();
        // {"alg":"none"}
        let unsigned = format!("eyJhbGciOiJub25lIn0.{claims}.");
        assert!(sessions.of(&with(&unsigned), None, NOW).is_none());
    }

    #[test]
    fn the_link_opens_once() {
        let sessions = Sessions::new(true);
        let link = sessions.link().unwrap();
        assert!(!sessions.is_link("") && sessions.is_link(link.expose()) && sessions.is_link(link.expose()));
        assert!(!sessions.use_link("") && sessions.use_link(link.expose()));
        assert!(!sessions.use_link(link.expose()) && !sessions.is_link(link.expose()) && sessions.link().is_none());
        assert!(Sessions::new(false).link().is_none());
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let sessions = Sessions::new(false);
        let (first, _) = sessions.open(Way::Key, None, NOW).unwrap();
        let (second, _) = sessions.open(Way::Key, None, NOW).unwrap();
        for _ in 1..SESSIONS_MAX {
            sessions.open(Way::Key, None, NOW).unwrap();
        }
        assert!(sessions.of(&with(&first), None, NOW).is_none());
        assert!(sessions.of(&with(&second), None, NOW).is_some());
    }
}
