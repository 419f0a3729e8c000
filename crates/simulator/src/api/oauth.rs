//! The state of OAuth accounts and keys: opaque tokens, refresh tokens that rotate, device logins, windows of use.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::clock::now_ms;
use crate::script::{
    Approval, DeviceScript, KeyScript, OAuthAccount, OAuthFailure, ResourceUrl, TokenRotation, TokenScript,
};

/// All OAuth accounts and keys of a run.
pub(crate) struct OAuth {
    accounts: Vec<OAuthAccount>,
    keys: Vec<(String, KeyScript)>,
    portal_url: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Access and refresh tokens given so far, by the token's text.
    tokens: HashMap<String, Token>,
    /// Device logins of the run, by device code; they stay after their end.
    flows: HashMap<String, Flow>,
    /// The newest tokens of each account.
    current: HashMap<String, Current>,
    /// Names of revoked accounts and keys: every token of the account, or the key, is refused.
    revoked: Vec<String>,
    /// The `code_verifier`s of the polls so far; part of [`OAuth::secrets`].
    verifiers: Vec<String>,
    /// Unix milliseconds of the uses of each key in the last five hours, oldest first, by the key's name.
    uses: HashMap<String, VecDeque<u64>>,
}

struct Token {
    account: String,
    is_refresh: bool,
    /// `u64::MAX` for refresh tokens, which do not expire.
    ends_at_ms: u64,
    is_rotated: bool,
}

#[derive(Clone, Default)]
struct Current {
    access: Option<String>,
    refresh: Option<String>,
}

/// A device login under way.
struct Flow {
    /// Number of the login within the run, from 0; [`OAuth::user_codes`] sorts by it.
    number: usize,
    user_code: String,
    challenge: String,
    ends_at_ms: u64,
    interval: Option<u64>,
    polls: VecDeque<OAuthFailure>,
    pending: u64,
    approval: Approval,
    account: Option<String>,
    last_poll_ms: Option<u64>,
    is_used: bool,
}

/// The validity of a Bearer token at the portal or the endpoint of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    Good,
    Expired,
    Revoked,
    /// This run did not issue it for this use.
    Unknown,
}

/// The outcome of a poll, before scripted failures are applied.
pub(crate) enum Poll {
    /// Answered with this failure, even if a scripted reply is queued.
    Refused(OAuthFailure),
    /// Answered with this failure, unless a scripted reply has another one.
    Waiting(OAuthFailure),
    /// The login is approved; the account of this name gets tokens.
    Ready(String),
}

/// The two codes that begin a device login.
pub(crate) struct Codes {
    pub(crate) device_code: String,
    pub(crate) user_code: String,
}

/// The fields of an answer of the token endpoint.
pub(crate) struct Tokens {
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
    pub(crate) expires_in: u64,
    pub(crate) resource_url: Option<String>,
}

/// How long the access token of written credentials is still valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenLife {
    /// For the account's `access_token_seconds`, or the rest of its current token's time.
    Fresh,
    /// For 20 seconds from now.
    AboutToExpire,
    /// It ended an hour ago.
    Expired,
}

impl OAuth {
    pub(crate) fn new(accounts: &[OAuthAccount], keys: &[KeyScript], portal_url: String) -> Self {
        let made = |script: &KeyScript| script.key.clone().unwrap_or_else(|| made_key(&script.name));
        let accounts_revoked = accounts.iter().filter(|one| one.revoked).map(|one| one.name.clone());
        let keys_revoked = keys.iter().filter(|one| one.revoked).map(|one| one.name.clone());
        let state = State { revoked: accounts_revoked.chain(keys_revoked).collect(), ..State::default() };
        Self {
            accounts: accounts.to_vec(),
            keys: keys.iter().map(|script| (made(script), script.clone())).collect(),
            portal_url,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn accounts(&self) -> Vec<String> {
        self.accounts.iter().map(|account| account.name.clone()).collect()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.keys.iter().map(|(_, script)| script.name.clone()).collect()
    }

    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<String> {
        let found = self.keys.iter().find(|(_, script)| script.name == name);
        found.map(|(key, _)| key.clone())
    }

    /// The script of a key; `None` for an unknown key.
    pub(crate) fn key_owner(&self, key: &str) -> Option<&KeyScript> {
        let found = self.keys.iter().find(|(known, _)| known == key);
        found.map(|(_, script)| script)
    }

    /// Name of the account that a token was given to, access or refresh, valid or not.
    pub(crate) fn owner(&self, token: &str) -> Option<Arc<str>> {
        let state = self.state.lock();
        state.tokens.get(token).map(|token| token.account.as_str().into())
    }

    /// Name of the account that signs in with this device code.
    pub(crate) fn flow_owner(&self, device_code: &str) -> Option<Arc<str>> {
        let state = self.state.lock();
        let flow = state.flows.get(device_code)?;
        flow.account.as_deref().map(Into::into)
    }

    /// Validity of an access token.
    pub(crate) fn worth(&self, token: &str) -> Worth {
        let state = self.state.lock();
        let Some(token) = state.tokens.get(token).filter(|token| !token.is_refresh) else {
            return Worth::Unknown;
        };
        if state.revoked.contains(&token.account) {
            return Worth::Revoked;
        }
        if token.ends_at_ms <= now_ms() { Worth::Expired } else { Worth::Good }
    }

    /// Validity of a key.
    pub(crate) fn key_worth(&self, key: &str) -> Worth {
        match self.key_owner(key) {
            Some(script) if self.state.lock().revoked.contains(&script.name) => Worth::Revoked,
            Some(_) => Worth::Good,
            None => Worth::Unknown,
        }
    }

    /// Counts one use of a key; `false` if its window is full.
    pub(crate) fn uses(&self, key: &KeyScript) -> bool {
        let Some(most) = key.chats_per_window else {
            return true;
        };
        let now = now_ms();
        let mut state = self.state.lock();
        let uses = state.uses.entry(key.name.clone()).or_default();
        while uses.front().is_some_and(|used| used.saturating_add(WINDOW_MS) <= now) {
            uses.pop_front();
        }
        if uses.len() >= most {
            return false;
        }
        uses.push_back(now);
        true
    }

    /// Begins a device login.
    pub(crate) fn begin(&self, challenge: &str, script: &DeviceScript) -> Codes {
        let mut state = self.state.lock();
        let count = state.flows.len();
        let invented = || {
            let letters = Uuid::new_v4().simple().to_string().to_uppercase();
            let letters: Vec<char> = letters.chars().collect();
            let part = |from: usize, to: usize| letters.get(from..to).unwrap_or_default().iter().collect::<String>();
            // Both shapes have been seen.
            if count.is_multiple_of(2) {
                format!("{}_{}", part(0, 6), part(6, 7))
            } else {
                format!("{}-{}", part(0, 4), part(4, 8))
            }
        };
        let user_code = script.user_code.clone().unwrap_or_else(invented);
        let device_code = opaque();
        let first = self.accounts.first().map(|account| account.name.clone());
        let flow = Flow {
            number: count,
            user_code: user_code.clone(),
            challenge: challenge.to_owned(),
            ends_at_ms: now_ms().saturating_add(script.expires_in.saturating_mul(1000)),
            interval: script.interval,
            polls: script.polls.clone().into(),
            pending: script.pending,
            approval: script.approval,
            account: script.account.clone().or(first),
            last_poll_ms: None,
            is_used: false,
        };
        state.flows.insert(device_code.clone(), flow);
        Codes { device_code, user_code }
    }

    /// User codes of the logins that are neither used nor expired, oldest first.
    pub(crate) fn user_codes(&self) -> Vec<String> {
        let now = now_ms();
        let state = self.state.lock();
        let open = state.flows.values().filter(|flow| !flow.is_used && flow.ends_at_ms > now);
        let mut open: Vec<_> = open.map(|flow| (flow.number, flow.user_code.clone())).collect();
        open.sort();
        open.into_iter().map(|(_, code)| code).collect()
    }

    /// Approves the login with this code (with an account) or denies it; `false` for an unknown or expired code.
    pub(crate) fn decide(&self, user_code: &str, account: Option<&str>) -> bool {
        let is_known = account.is_none_or(|name| self.accounts.iter().any(|one| one.name == name));
        let mut state = self.state.lock();
        let now = now_ms();
        let mut flows = state.flows.values_mut();
        let open = |flow: &&mut Flow| flow.user_code == user_code && !flow.is_used && flow.ends_at_ms > now;
        let Some(flow) = flows.find(open).filter(|_| is_known) else {
            return false;
        };
        flow.polls.clear();
        flow.pending = 0;
        if let Some(account) = account {
            flow.account = Some(account.to_owned());
            flow.approval = Approval::Granted;
        } else {
            flow.approval = Approval::Denied;
        }
        true
    }

    /// Ends a login with this code before its time; `false` for an unknown or expired code.
    pub(crate) fn expire_code(&self, user_code: &str) -> bool {
        let mut state = self.state.lock();
        let now = now_ms();
        let open = |flow: &&mut Flow| flow.user_code == user_code && !flow.is_used && flow.ends_at_ms > now;
        let found = state.flows.values_mut().find(open);
        found.is_some_and(|flow| {
            flow.ends_at_ms = 0;
            true
        })
    }

    /// Judges a poll with this `code_verifier`; returns its outcome and its violations.
    pub(crate) fn poll(&self, device_code: &str, verifier: &str) -> (Poll, Vec<String>) {
        let mut faults = Vec::new();
        let now = now_ms();
        let mut state = self.state.lock();
        if !verifier.is_empty() && !state.verifiers.iter().any(|known| known == verifier) {
            state.verifiers.push(verifier.to_owned());
        }
        let Some(flow) = state.flows.get_mut(device_code) else {
            return (Poll::Refused(OAuthFailure::InvalidGrant), faults);
        };
        let least = flow.interval.unwrap_or(0).saturating_mul(900);
        let since = flow.last_poll_ms.replace(now).map(|last| now.saturating_sub(last));
        if let Some(since) = since.filter(|since| *since < least) {
            let interval = flow.interval.unwrap_or(0);
            faults.push(format!("a poll after {since} ms, where the interval is {interval} s"));
        }
        if !(43..=128).contains(&verifier.len()) {
            faults.push(format!("a code verifier of {} characters", verifier.len()));
        }
        if URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) != flow.challenge {
            faults.push("a code verifier that does not fit the challenge".to_owned());
            return (Poll::Refused(OAuthFailure::InvalidGrant), faults);
        }
        if flow.is_used {
            faults.push("a poll after the login was over".to_owned());
            return (Poll::Refused(OAuthFailure::InvalidGrant), faults);
        }
        if flow.ends_at_ms <= now {
            return (Poll::Refused(OAuthFailure::ExpiredToken), faults);
        }
        if let Some(scripted) = flow.polls.pop_front() {
            return (Poll::Refused(scripted), faults);
        }
        if flow.pending > 0 {
            return (Poll::Waiting(OAuthFailure::AuthorizationPending), faults);
        }
        let poll = match (flow.approval, &flow.account) {
            (Approval::Granted, Some(account)) => Poll::Ready(account.clone()),
            (Approval::Denied, _) => Poll::Refused(OAuthFailure::AccessDenied),
            (Approval::Awaited, _) | (_, None) => Poll::Waiting(OAuthFailure::AuthorizationPending),
        };
        (poll, faults)
    }

    /// The poll was told to wait: one fewer to come.
    pub(crate) fn waited(&self, device_code: &str) {
        if let Some(flow) = self.state.lock().flows.get_mut(device_code) {
            flow.pending = flow.pending.saturating_sub(1);
        }
    }

    /// Ends a device login with tokens; `None` for an account that is not there.
    pub(crate) fn log_in(&self, device_code: &str, account: &str, script: &TokenScript) -> Option<Tokens> {
        let account = self.account(account)?;
        let mut state = self.state.lock();
        if let Some(flow) = state.flows.get_mut(device_code) {
            flow.is_used = true;
        }
        let rotation = script.refresh_token.unwrap_or_default();
        let refresh_token = (rotation != TokenRotation::Absent).then(|| state.refresh(account));
        Some(self.tokens(&mut state, account, script, refresh_token))
    }

    /// Validity of a refresh token; `Expired` stands for one that was replaced.
    pub(crate) fn refresh_worth(&self, token: &str) -> Worth {
        let state = self.state.lock();
        match state.tokens.get(token).filter(|token| token.is_refresh) {
            None => Worth::Unknown,
            Some(token) if token.is_rotated => Worth::Expired,
            Some(token) if state.revoked.contains(&token.account) => Worth::Revoked,
            Some(_) => Worth::Good,
        }
    }

    /// New tokens for a refresh token. `None` if it is dead: two may come with the same at the same time.
    pub(crate) fn refresh(&self, old: &str, script: &TokenScript) -> Option<Tokens> {
        let mut state = self.state.lock();
        let known = state.tokens.get_mut(old).filter(|token| token.is_refresh && !token.is_rotated)?;
        let account = self.account(&known.account)?;
        let rotation = script.refresh_token.unwrap_or(account.refresh_rotation);
        known.is_rotated = rotation == TokenRotation::New;
        let refresh_token = match rotation {
            TokenRotation::Absent => None,
            TokenRotation::Same => Some(old.to_owned()),
            TokenRotation::New => Some(state.refresh(account)),
        };
        Some(self.tokens(&mut state, account, script, refresh_token))
    }

    /// `oauth_creds.json` as the vendor's client writes it; `None` for an account that is not there.
    pub(crate) fn credentials(&self, name: &str, life: TokenLife) -> Option<Value> {
        let account = self.account(name)?;
        let mut state = self.state.lock();
        let current = state.current.get(name).cloned().unwrap_or_default();
        let now = now_ms();
        let is_good = |token: &String| state.tokens.get(token).is_some_and(|token| token.ends_at_ms > now);
        let fresh = current.access.filter(|token| life == TokenLife::Fresh && is_good(token));
        let access = fresh.unwrap_or_else(|| {
            let ends_at_ms = match life {
                TokenLife::Fresh => now.saturating_add(account.access_token_seconds.saturating_mul(1000)),
                TokenLife::AboutToExpire => now.saturating_add(20_000),
                TokenLife::Expired => now.saturating_sub(3_600_000),
            };
            state.access(account, ends_at_ms)
        });
        let refresh = current.refresh.unwrap_or_else(|| state.refresh(account));
        let ends_at_ms = state.tokens.get(&access).map_or(now, |token| token.ends_at_ms);
        let mut credentials = json!({
            "access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expiry_date": ends_at_ms,
            "scope": SCOPE,
        });
        if let (Some(url), Some(object)) = (self.resource_url(&account.resource_url), credentials.as_object_mut()) {
            object.insert("resource_url".to_owned(), json!(url));
        }
        Some(credentials)
    }

    /// Every token, code, verifier and key so far.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let state = self.state.lock();
        let tokens = state.tokens.keys().chain(state.flows.keys()).chain(&state.verifiers).cloned();
        tokens.chain(self.keys.iter().map(|(key, _)| key.clone())).collect()
    }

    /// Ends every access token of an account.
    pub(crate) fn expire(&self, name: &str) {
        let now = now_ms();
        let mut state = self.state.lock();
        let own = state.tokens.values_mut().filter(|token| token.account == name && !token.is_refresh);
        for token in own {
            token.ends_at_ms = token.ends_at_ms.min(now);
        }
    }

    /// Takes back everything of an account, or a key, or gives it back.
    pub(crate) fn set_revoked(&self, name: &str, is_revoked: bool) {
        let mut state = self.state.lock();
        state.revoked.retain(|other| other != name);
        if is_revoked {
            state.revoked.push(name.to_owned());
        }
    }

    fn account(&self, name: &str) -> Option<&OAuthAccount> {
        self.accounts.iter().find(|account| account.name == name)
    }

    fn resource_url(&self, url: &ResourceUrl) -> Option<String> {
        match url {
            ResourceUrl::Portal => Some(self.portal_url.clone()),
            ResourceUrl::Absent => None,
            ResourceUrl::Other(url) => Some(url.clone()),
        }
    }

    fn tokens(
        &self,
        state: &mut State,
        account: &OAuthAccount,
        script: &TokenScript,
        refresh_token: Option<String>,
    ) -> Tokens {
        let expires_in = script.expires_in.unwrap_or(account.access_token_seconds);
        let access_token = state.access(account, now_ms().saturating_add(expires_in.saturating_mul(1000)));
        let url = script.resource_url.as_ref().unwrap_or(&account.resource_url);
        Tokens { access_token, refresh_token, expires_in, resource_url: self.resource_url(url) }
    }
}

impl State {
    fn access(&mut self, account: &OAuthAccount, ends_at_ms: u64) -> String {
        let token = opaque();
        self.current(account).access = Some(token.clone());
        self.keep(&token, account, false, ends_at_ms)
    }

    fn refresh(&mut self, account: &OAuthAccount) -> String {
        // It has everything that a form has to escape.
        let token = format!("{}+/{}", opaque(), STANDARD.encode(Uuid::new_v4()));
        self.current(account).refresh = Some(token.clone());
        self.keep(&token, account, true, u64::MAX)
    }

    fn current(&mut self, account: &OAuthAccount) -> &mut Current {
        self.current.entry(account.name.clone()).or_default()
    }

    fn keep(&mut self, token: &str, account: &OAuthAccount, is_refresh: bool, ends_at_ms: u64) -> String {
        let kept = Token { account: account.name.clone(), is_refresh, ends_at_ms, is_rotated: false };
        self.tokens.insert(token.to_owned(), kept);
        token.to_owned()
    }
}

/// A random token of 86 characters.
fn opaque() -> String {
    let part = || Sha256::digest(Uuid::new_v4().as_bytes());
    URL_SAFE_NO_PAD.encode([part(), part()].concat())
}

/// A key that is the same in every run.
fn made_key(name: &str) -> String {
    let digest = Sha256::digest(format!("key {name}"));
    format!("sk-{}", base16ct::lower::encode_string(digest.get(..16).unwrap_or(&digest)))
}

/// The scope that every login has to ask for.
pub(crate) const SCOPE: &str = "openid profile email model.completion";

/// The rolling window of a Coding Plan.
const WINDOW_MS: u64 = 5 * 3600 * 1000;
