//! Accounts of the web chat: tokens of both eras, browser jars, and whether a request's credentials are valid.
//!
//! A token carries its account and its end, and a signature that only this simulator makes, so a token of an earlier
//! run is still good, as it would be with the real upstream; what was revoked or replaced is remembered beside.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::clock::now_ms;
use crate::script::{AccountScript, Era, RefreshRotation};
use crate::web::jar::{browser_jar, cookies};
use crate::web::tokens::{Kind, read, sign};

/// All accounts of a run.
pub(crate) struct Accounts {
    accounts: Vec<Arc<Account>>,
    state: Mutex<State>,
}

/// The fields of an account that do not change during a run.
pub(crate) struct Account {
    pub(crate) name: Arc<str>,
    pub(crate) user_id: String,
    pub(crate) script: AccountScript,
    /// Creation of the account, in Unix seconds; part of its profile.
    created_at: u64,
}

#[derive(Default)]
struct State {
    /// End and revocation of each token of this run, by its text.
    notes: HashMap<String, Note>,
    current: HashMap<Arc<str>, Current>,
    minted: u64,
}

#[derive(Clone, Copy)]
struct Note {
    /// End of the token, in Unix milliseconds; its claim `exp` has only seconds.
    ends_at_ms: u64,
    is_revoked: bool,
}

#[derive(Clone, Default)]
struct Current {
    session: Option<String>,
    access: Option<String>,
    refresh: Option<String>,
    is_revoked: bool,
    /// Session and access tokens that end before this (Unix milliseconds) are expired, even those of an earlier run.
    expired_before_ms: u64,
}

/// The validity of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The request carries no such credential.
    Absent,
    /// It is accepted everywhere.
    Good,
    /// It is accepted everywhere but for completions: the session cookie of era B.
    SessionOnly,
    /// Its `exp` has passed, or a script expired it.
    Expired,
    /// Its account was revoked, or the token was replaced.
    Revoked,
    /// This run did not issue it.
    Unknown,
}

/// The sender of a request, by its cookies and its Bearer token.
pub(crate) struct Caller {
    pub(crate) account: Option<Arc<Account>>,
    pub(crate) standing: Standing,
    pub(crate) has_cookies: bool,
    pub(crate) has_bearer: bool,
    /// Names of two accounts whose credentials came together.
    pub(crate) mixed: Option<(Arc<str>, Arc<str>)>,
    /// Value of the cookie `acw_tc`.
    pub(crate) acw_tc: Option<String>,
    /// Whether the cookie `x-ap` is present.
    pub(crate) has_region: bool,
}

/// The tokens that a refresh gives.
pub(crate) struct Grant {
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
    /// Whether the refresh token is a new one, which the jar has to learn.
    pub(crate) is_rotated: bool,
    /// `expires_at` of the answer, in Unix seconds; `None` unless the account's script gives it.
    pub(crate) expires_at: Option<u64>,
}

impl Accounts {
    pub(crate) fn new(scripts: &[AccountScript]) -> Self {
        let accounts: Vec<_> = scripts
            .iter()
            .map(|script| {
                Arc::new(Account {
                    name: script.name.as_str().into(),
                    user_id: user_id(&script.name),
                    script: script.clone(),
                    created_at: 1_760_000_000,
                })
            })
            .collect();
        let mut state = State::default();
        for account in &accounts {
            let mut current = Current { is_revoked: account.script.revoked, ..Current::default() };
            let lifetime = if account.script.expired {
                Duration::ZERO
            } else {
                Duration::from_secs(account.script.session_seconds)
            };
            let month = Duration::from_secs(account.script.session_seconds);
            if account.script.era == Era::A || account.script.has_session_cookie {
                current.session = Some(state.mint(account, Kind::Session, lifetime));
            }
            if account.script.era == Era::B {
                current.refresh = Some(state.mint(account, Kind::Refresh, month));
            }
            state.current.insert(Arc::clone(&account.name), current);
        }
        Self { accounts, state: Mutex::new(state) }
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Account>> {
        self.accounts.iter().find(|account| *account.name == *name)
    }

    pub(crate) fn all(&self) -> &[Arc<Account>] {
        &self.accounts
    }

    /// The `Cookie` header of a browser that is signed in.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let account = self.find(name)?;
        let current = self.state.lock().current.get(name)?.clone();
        Some(browser_jar(name, &account.user_id, current.session.as_deref(), current.refresh.as_deref()))
    }

    /// A valid Bearer token: the session token in era A, in era B the last access token given, or a new one.
    pub(crate) fn bearer(&self, name: &str) -> Option<String> {
        let account = self.find(name)?;
        let mut state = self.state.lock();
        let current = state.current.get(name)?;
        let known = match account.script.era {
            Era::A => current.session.clone(),
            Era::B => current.access.clone(),
        };
        known.or_else(|| Some(state.access(account).0))
    }

    /// Every token given so far.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.state.lock().notes.keys().cloned().collect()
    }

    /// Ends every session and access token given so far.
    pub(crate) fn expire(&self, name: &str) {
        let mut state = self.state.lock();
        if let Some(current) = state.current.get_mut(name) {
            current.expired_before_ms = u64::MAX;
        }
        let now = now_ms();
        let Some(account) = self.find(name) else {
            return;
        };
        for (token, note) in &mut state.notes {
            let is_theirs =
                read(token).is_some_and(|claims| claims.user_id == account.user_id && claims.kind != Kind::Refresh);
            if is_theirs {
                note.ends_at_ms = note.ends_at_ms.min(now);
            }
        }
    }

    /// Revokes every credential of the account, or accepts them again.
    pub(crate) fn set_revoked(&self, name: &str, is_revoked: bool) {
        if let Some(current) = self.state.lock().current.get_mut(name) {
            current.is_revoked = is_revoked;
        }
    }

    /// The sender of a request. The Bearer token decides about its validity, else the cookie `token`.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Caller {
        let jar = cookies(headers);
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let value = |wanted: &str| {
            let found = jar.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        let state = self.state.lock();
        let mut seen: Vec<Arc<Account>> = Vec::new();
        for token in [value("token"), value("refresh_token"), bearer] {
            seen.extend(token.and_then(|token| self.owner(token)));
        }
        for id in [value("aui"), value("cnaui")].into_iter().flatten() {
            seen.extend(self.by_user_id(id));
        }
        let first = seen.first().cloned();
        let mixed = first.as_ref().and_then(|first| {
            let other = seen.iter().find(|other| other.name != first.name)?;
            Some((Arc::clone(&first.name), Arc::clone(&other.name)))
        });
        let standing = match (bearer, value("token")) {
            (Some(token), _) => match self.worth(&state, token, &[Kind::Session, Kind::Access]) {
                Standing::SessionOnly => Standing::Unknown,
                other => other,
            },
            (None, Some(token)) => self.worth(&state, token, &[Kind::Session]),
            (None, None) => Standing::Absent,
        };
        Caller {
            account: first,
            standing,
            has_cookies: !jar.is_empty(),
            has_bearer: bearer.is_some(),
            mixed,
            acw_tc: value("acw_tc").map(str::to_owned),
            has_region: value("x-ap").is_some(),
        }
    }

    /// Validity and account of a request's refresh cookie, or of its session cookie if it has none.
    pub(crate) fn refresh_standing(&self, headers: &HeaderMap) -> (Standing, Option<Arc<Account>>) {
        let jar = cookies(headers);
        let value = |wanted: &str| jar.iter().find(|(name, _)| name == wanted);
        let state = self.state.lock();
        for (name, kind) in [("refresh_token", Kind::Refresh), ("token", Kind::Session)] {
            if let Some((_, token)) = value(name) {
                let standing = match self.worth(&state, token, &[kind]) {
                    Standing::SessionOnly => Standing::Good,
                    other => other,
                };
                return (standing, self.owner(token));
            }
        }
        (Standing::Absent, None)
    }

    /// A new access token, and what becomes of the refresh token.
    pub(crate) fn refresh(&self, account: &Account) -> Grant {
        let mut state = self.state.lock();
        let (access_token, expires_at) = state.access(account);
        let old = state.current.get(&account.name).and_then(|current| current.refresh.clone());
        let mut is_rotated = false;
        let refresh_token = match account.script.refresh_rotation {
            RefreshRotation::Absent => None,
            RefreshRotation::Same => old,
            RefreshRotation::New => {
                let lifetime = Duration::from_secs(account.script.session_seconds);
                let new = state.mint(account, Kind::Refresh, lifetime);
                if let Some(note) = old.and_then(|old| state.notes.get_mut(&old)) {
                    note.is_revoked = true;
                }
                if let Some(current) = state.current.get_mut(&account.name) {
                    current.refresh = Some(new.clone());
                }
                is_rotated = true;
                Some(new)
            }
        };
        Grant {
            access_token,
            refresh_token,
            is_rotated,
            expires_at: account.script.gives_expires_at.then_some(expires_at),
        }
    }

    /// A new session token of era A, in the place of the old one; in era B a new access token.
    pub(crate) fn renew_session(&self, account: &Account) -> String {
        let mut state = self.state.lock();
        if account.script.era == Era::B {
            return state.access(account).0;
        }
        let lifetime = Duration::from_secs(account.script.session_seconds);
        let new = state.mint(account, Kind::Session, lifetime);
        let old = state.current.get_mut(&account.name).and_then(|current| current.session.replace(new.clone()));
        let old = old.filter(|_| account.script.old_session_dies);
        if let Some(note) = old.and_then(|old| state.notes.get_mut(&old)) {
            note.is_revoked = true;
        }
        new
    }

    fn owner(&self, token: &str) -> Option<Arc<Account>> {
        self.by_user_id(&read(token)?.user_id)
    }

    fn by_user_id(&self, user_id: &str) -> Option<Arc<Account>> {
        let found = self.accounts.iter().find(|one| one.user_id == user_id);
        found.map(Arc::clone)
    }

    fn worth(&self, state: &State, token: &str, kinds: &[Kind]) -> Standing {
        let (Some(claims), Some(account)) = (read(token), self.owner(token)) else {
            return Standing::Unknown;
        };
        if !kinds.contains(&claims.kind) {
            return Standing::Unknown;
        }
        let current = state.current.get(&account.name);
        let note = state.notes.get(token);
        let is_revoked = current.is_some_and(|current| current.is_revoked) || note.is_some_and(|note| note.is_revoked);
        if is_revoked {
            return Standing::Revoked;
        }
        let ends_at_ms = note.map_or(claims.exp.saturating_mul(1000), |note| note.ends_at_ms);
        let is_foreign_and_ended = note.is_none()
            && claims.kind != Kind::Refresh
            && current.is_some_and(|current| current.expired_before_ms > ends_at_ms);
        if is_foreign_and_ended || ends_at_ms <= now_ms() {
            return Standing::Expired;
        }
        if claims.kind == Kind::Session && account.script.era == Era::B {
            return Standing::SessionOnly;
        }
        Standing::Good
    }
}

impl Account {
    /// The profile as the auth host shows it.
    pub(crate) fn profile(&self) -> Value {
        json!({
            "id": self.user_id,
            "user_id": self.user_id,
            "name": &*self.name,
            "email": self.email(),
            "role": "user",
            "profile_image_url": "/static/user.png",
        })
    }

    pub(crate) fn email(&self) -> String {
        format!("{}@simulated.invalid", self.name)
    }
}

impl State {
    fn access(&mut self, account: &Account) -> (String, u64) {
        let lifetime = Duration::from_secs(account.script.access_token_seconds);
        let token = self.mint(account, Kind::Access, lifetime);
        if let Some(current) = self.current.get_mut(&account.name) {
            current.access = Some(token.clone());
        }
        (token, now_ms() / 1000 + lifetime.as_secs())
    }

    fn mint(&mut self, account: &Account, kind: Kind, lifetime: Duration) -> String {
        self.minted += 1;
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let mut ends_at_ms = now_ms().saturating_add(lifetime_ms);
        let claims = match kind {
            // Exactly three claims; the end moves with the count, so that no two tokens are the same text.
            Kind::Session => {
                if lifetime_ms > 0 {
                    ends_at_ms = ends_at_ms.saturating_add(self.minted * 1000);
                }
                json!({
                    "id": account.user_id,
                    "last_password_change": account.created_at,
                    "exp": ends_at_ms / 1000,
                })
            }
            Kind::Access | Kind::Refresh => json!({
                "id": account.user_id,
                "type": if kind == Kind::Access { "access_token" } else { "refresh_token" },
                "exp": ends_at_ms / 1000,
                "jti": format!("{}-{}", now_ms(), self.minted),
            }),
        };
        let token = sign(&claims);
        let note = Note { ends_at_ms, is_revoked: false };
        self.notes.insert(token.clone(), note);
        token
    }
}

/// A user id that is the same in every run.
fn user_id(name: &str) -> String {
    let digest = Sha256::digest(format!("user {name}"));
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::header::COOKIE;

    use super::*;

    fn headers(cookie: &str, bearer: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !cookie.is_empty() {
            headers.insert(COOKIE, cookie.parse().unwrap());
        }
        if !bearer.is_empty() {
            headers.insert(AUTHORIZATION, format!("Bearer {bearer}").parse().unwrap());
        }
        headers
    }

    fn two() -> Accounts {
        Accounts::new(&[
            AccountScript::new("ada", Era::A),
            AccountScript { has_session_cookie: true, ..AccountScript::new("bob", Era::B) },
        ])
    }

    #[test]
    fn credentials_are_weighed() {
        let accounts = two();
        let (ada, bob) = (accounts.cookie("ada").unwrap(), accounts.cookie("bob").unwrap());
        let (session, access) = (accounts.bearer("ada").unwrap(), accounts.bearer("bob").unwrap());
        let bobs = |name: &str| {
            let jar = cookies(&headers(&bob, ""));
            jar.into_iter().find(|(found, _)| found == name).unwrap().1
        };
        for (cookie, bearer, expected) in [
            ("", "", Standing::Absent),
            (&*ada, "", Standing::Good),
            ("", &*session, Standing::Good),
            (&bob, "", Standing::SessionOnly),
            (&bob, &access, Standing::Good),
            (&bob, &*bobs("token"), Standing::Unknown),
            (&bob, &*bobs("refresh_token"), Standing::Unknown),
            (&ada, "eyJ.x.y", Standing::Unknown),
        ] {
            let caller = accounts.caller(&headers(cookie, bearer));
            assert_eq!(caller.standing, expected, "{cookie} {bearer}");
            assert!(caller.mixed.is_none());
        }
        assert!(accounts.caller(&headers(&ada, &access)).mixed.is_some());
    }

    #[test]
    fn expiry_spares_the_refresh_token() {
        let accounts = two();
        let jar = headers(&accounts.cookie("bob").unwrap(), &accounts.bearer("bob").unwrap());
        accounts.expire("bob");
        assert_eq!(accounts.caller(&jar).standing, Standing::Expired);
        assert_eq!(accounts.refresh_standing(&jar).0, Standing::Good);
        accounts.set_revoked("bob", true);
        assert_eq!(accounts.refresh_standing(&jar).0, Standing::Revoked);
    }

    #[test]
    fn the_token_of_an_earlier_run_is_good() {
        let old = two().cookie("ada").unwrap();
        let standing = two().caller(&headers(&old, "")).standing;
        assert_eq!(standing, Standing::Good);
    }

    #[test]
    fn era_a_claims_are_exactly_three() {
        let token = two().bearer("ada").unwrap();
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap());
        let claims: Value = serde_json::from_slice(&payload.unwrap()).unwrap();
        let mut keys: Vec<_> = claims.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        assert_eq!(keys, ["exp", "id", "last_password_change"]);
        assert!((190..230).contains(&token.len()), "{}", token.len());
    }
}
