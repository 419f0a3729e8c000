//! The scenario: accounts, keys and replies, from a file or built in Rust.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use crate::script::api::{ChatScript, PortalScript};
use crate::script::endpoint::Endpoint;
use crate::script::guests::{KeyScript, OAuthAccount};
use crate::script::media::{GrantScript, ParseScript, PictureScript, VideoScript};
use crate::script::oauth::{DeviceScript, TokenScript};
use crate::script::reply::{ScriptedFailure, ScriptedReply};
use crate::script::research::ResearchScript;
use crate::script::stream::{Packets, StreamScript};

/// Everything that is set before the start. [`Scenario::default`] has two accounts, `ada` (era A) and `bob` (era B),
/// two OAuth accounts, `cleo` and `dora`, and one key, `kay`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Port of the chat host; 0: any free one.
    pub port: u16,
    /// Port of the auth host; 0: any free one.
    pub auth_port: u16,
    /// Milliseconds between two packets, for streams without a `pace_ms` of their own. Left out: 10.
    pub pace_ms: u64,
    /// Milliseconds for which an answer keeps its chat busy after its reader left without a stop. Left out: 3,000.
    pub busy_after_close_ms: u64,
    /// Chats on one page of the list, at least 1, unless the request has a `limit`. Left out: 50.
    pub page_size: usize,
    /// Requests kept in the record; the oldest are dropped first. Left out: 20,000.
    pub records_max: usize,
    /// Seconds by which the `Date` of every answer is ahead of this machine's clock; negative when it is behind.
    pub clock_ahead_seconds: i64,
    /// Whether the model makes conversation; otherwise it answers with fixed sentences about the message.
    pub small_talk: bool,
    /// Base URL of links to generated pictures and videos, such as `https://cdn.qwenlm.ai`. Left out: the chat host of
    /// this run, as the client calls it.
    pub media_base: Option<String>,
    /// Accounts of the web chat. Left out: `ada` (era A) and `bob` (era B).
    pub accounts: Vec<AccountScript>,
    /// Accounts that sign in with OAuth. Left out: `cleo` and `dora`.
    pub oauth_accounts: Vec<OAuthAccount>,
    /// Static keys of the DashScope-shaped endpoint. Left out: `kay`.
    pub keys: Vec<KeyScript>,
    /// Behaviour of the portal towards every account.
    pub portal: PortalScript,
    /// Replies for any caller, each used once, after those of the account itself.
    pub replies: BTreeMap<Endpoint, Vec<ScriptedReply>>,
    /// Replies when no scripted one is queued; an account's own default goes first.
    pub defaults: BTreeMap<Endpoint, ScriptedReply>,
}

/// One account of the web chat.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountScript {
    /// Name in scripts and records, unique among accounts.
    pub name: String,
    /// How it signs in. Left out: era A.
    pub era: Era,
    /// Its cookie begins with expired tokens: for good in era A, until a refresh in era B.
    pub expired: bool,
    /// All its credentials are refused.
    pub revoked: bool,
    /// Lifetime of an access token of era B in seconds. Left out: 900.
    pub access_token_seconds: u64,
    /// Lifetime of session and refresh tokens in seconds. Left out: 30 days.
    pub session_seconds: u64,
    /// What a refresh does to the refresh token.
    pub refresh_rotation: RefreshRotation,
    /// Whether a refresh answers `expires_at`.
    pub gives_expires_at: bool,
    /// Era A: whether the old session token dies when `/api/v1/auths/` gives a new one.
    pub old_session_dies: bool,
    /// Era B: whether the jar also has a `token` cookie (valid for everything but completions).
    pub has_session_cookie: bool,
    /// Number of chats that it had before the run. Left out: 3.
    pub old_chats: usize,
    /// Most videos on one day (UTC); a further one is refused. Left out: unlimited.
    pub videos_per_day: Option<u64>,
    /// What it does with tools that a message declares in `feature_config.local_mcp`.
    pub declared_tools: DeclaredTools,
    /// Replies for this account, each used once.
    pub replies: BTreeMap<Endpoint, Vec<ScriptedReply>>,
    /// Replies of this account when no scripted one is queued.
    pub defaults: BTreeMap<Endpoint, ScriptedReply>,
}

/// How an account signs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Era {
    /// One long-lived JWT, in the cookie `token` and as Bearer.
    #[default]
    A,
    /// The cookie `refresh_token`, and short access tokens from the auth host.
    B,
}

/// What an account does with tools that a message declares in `feature_config.local_mcp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclaredTools {
    /// The built-in answer calls them, in the phase `local_tool`.
    #[default]
    Taken,
    /// The account may not use them: it answers as if the message declared no tools.
    Ignored,
    /// The account may not use them: the message is refused.
    Refused,
}

/// What a refresh does to the refresh token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshRotation {
    /// The answer has no refresh token.
    Absent,
    /// The answer repeats the refresh token of the request.
    #[default]
    Same,
    /// The answer and a `Set-Cookie` have a new one, and the old one is revoked.
    New,
}

/// Reasons why a scenario cannot be played.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// Not JSON, or JSON with keys or values that do not belong.
    #[error("not the JSON of a scenario")]
    Json(#[from] serde_json::Error),
    /// Well-formed, but it makes no sense.
    #[error("{0}")]
    Nonsense(String),
}

/// Account or key (`None`: any caller), its queued replies, and its default replies.
pub(crate) type Scripted<'a> =
    (Option<&'a str>, &'a BTreeMap<Endpoint, Vec<ScriptedReply>>, &'a BTreeMap<Endpoint, ScriptedReply>);

impl Default for Scenario {
    fn default() -> Self {
        Self {
            port: 0,
            auth_port: 0,
            pace_ms: 10,
            busy_after_close_ms: 3_000,
            page_size: 50,
            records_max: 20_000,
            clock_ahead_seconds: 0,
            small_talk: false,
            media_base: None,
            accounts: vec![AccountScript::new("ada", Era::A), AccountScript::new("bob", Era::B)],
            oauth_accounts: vec![OAuthAccount::new("cleo"), OAuthAccount::new("dora")],
            keys: vec![KeyScript::new("kay")],
            portal: PortalScript::default(),
            replies: BTreeMap::new(),
            defaults: BTreeMap::new(),
        }
    }
}

impl Default for AccountScript {
    fn default() -> Self {
        Self {
            name: String::new(),
            era: Era::A,
            expired: false,
            revoked: false,
            access_token_seconds: 900,
            session_seconds: 30 * 24 * 3600,
            refresh_rotation: RefreshRotation::Same,
            gives_expires_at: true,
            old_session_dies: false,
            has_session_cookie: false,
            old_chats: 3,
            videos_per_day: None,
            declared_tools: DeclaredTools::Taken,
            replies: BTreeMap::new(),
            defaults: BTreeMap::new(),
        }
    }
}

impl AccountScript {
    /// An account of this name and era with the defaults: not revoked, three old chats, no scripted replies.
    #[must_use]
    pub fn new(name: &str, era: Era) -> Self {
        Self { name: name.to_owned(), era, ..Self::default() }
    }

    /// This account with one more scripted reply.
    #[must_use]
    pub fn replying(mut self, endpoint: Endpoint, reply: ScriptedReply) -> Self {
        self.replies.entry(endpoint).or_default().push(reply);
        self
    }
}

impl Scenario {
    /// Reads a scenario file. Keys that are left out keep their default; unknown keys are refused.
    ///
    /// # Errors
    /// [`ScenarioError::Json`] with line and column, [`ScenarioError::Nonsense`] for what JSON cannot tell.
    pub fn from_json(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = serde_json::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// A scenario with these accounts in the place of `ada` and `bob`, and no waits between packets.
    #[must_use]
    pub fn with_accounts(accounts: impl IntoIterator<Item = AccountScript>) -> Self {
        Self { accounts: accounts.into_iter().collect(), pace_ms: 0, ..Self::default() }
    }

    /// A scenario with nothing but these OAuth accounts, and no waits between packets.
    #[must_use]
    pub fn with_oauth(accounts: impl IntoIterator<Item = OAuthAccount>) -> Self {
        Self { oauth_accounts: accounts.into_iter().collect(), ..Self::empty() }
    }

    /// A scenario with nothing but these keys, and no waits between packets.
    #[must_use]
    pub fn with_keys(keys: impl IntoIterator<Item = KeyScript>) -> Self {
        Self { keys: keys.into_iter().collect(), ..Self::empty() }
    }

    fn empty() -> Self {
        let (accounts, oauth_accounts, keys) = (Vec::new(), Vec::new(), Vec::new());
        Self { accounts, oauth_accounts, keys, pace_ms: 0, ..Self::default() }
    }

    /// This scenario with one more account.
    #[must_use]
    pub fn account(mut self, account: AccountScript) -> Self {
        self.accounts.push(account);
        self
    }

    /// This scenario with one more OAuth account.
    #[must_use]
    pub fn oauth_account(mut self, account: OAuthAccount) -> Self {
        self.oauth_accounts.push(account);
        self
    }

    /// This scenario with one more key.
    #[must_use]
    pub fn key(mut self, key: KeyScript) -> Self {
        self.keys.push(key);
        self
    }

    /// This scenario with another portal.
    #[must_use]
    pub fn portal(mut self, portal: PortalScript) -> Self {
        self.portal = portal;
        self
    }

    /// This scenario with one more reply for any caller.
    #[must_use]
    pub fn replying(mut self, endpoint: Endpoint, reply: ScriptedReply) -> Self {
        self.replies.entry(endpoint).or_default().push(reply);
        self
    }

    /// This scenario with another wait between packets.
    #[must_use]
    pub fn paced_ms(mut self, pace_ms: u64) -> Self {
        self.pace_ms = pace_ms;
        self
    }

    /// This scenario on fixed ports.
    #[must_use]
    pub fn on_ports(mut self, chat: u16, auth: u16) -> Self {
        self.port = chat;
        self.auth_port = auth;
        self
    }

    /// The scripted replies by account or key; those for any caller come last.
    pub(crate) fn scripts(&self) -> Vec<Scripted<'_>> {
        let accounts = self.accounts.iter().map(|one| (Some(one.name.as_str()), &one.replies, &one.defaults));
        let oauth = self.oauth_accounts.iter().map(|one| (Some(one.name.as_str()), &one.replies, &one.defaults));
        let keys = self.keys.iter().map(|one| (Some(one.name.as_str()), &one.replies, &one.defaults));
        accounts.chain(oauth).chain(keys).chain([(None, &self.replies, &self.defaults)]).collect()
    }

    pub(crate) fn check(&self) -> Result<(), ScenarioError> {
        let nonsense = |text: String| Err(ScenarioError::Nonsense(text));
        let accounts = self.accounts.iter().map(|account| account.name.as_str()).collect::<Vec<_>>();
        let guests = self.oauth_accounts.iter().map(|account| account.name.as_str());
        let guests = guests.chain(self.keys.iter().map(|key| key.name.as_str())).collect::<Vec<_>>();
        for names in [accounts, guests] {
            for (place, name) in names.iter().enumerate() {
                if name.is_empty() {
                    return nonsense(format!("account {} has no name", place + 1));
                }
                if names.iter().take(place).any(|other| other == name) {
                    return nonsense(format!("two accounts are called {name}"));
                }
            }
        }
        if self.page_size == 0 {
            return nonsense("page_size must be at least 1".to_owned());
        }
        if self.clock_ahead_seconds.unsigned_abs() > CLOCK_AHEAD_SECONDS_MAX {
            return nonsense(format!("clock_ahead_seconds must be within {CLOCK_AHEAD_SECONDS_MAX} of 0"));
        }
        let all = self.scripts();
        let queues = all.iter().flat_map(|(_, replies, _)| *replies);
        let queued = queues.flat_map(|(endpoint, replies)| replies.iter().map(move |reply| (*endpoint, reply)));
        let standing = all.iter().flat_map(|(_, _, defaults)| *defaults).map(|(endpoint, reply)| (*endpoint, reply));
        for (endpoint, reply) in queued.chain(standing) {
            check_reply(endpoint, reply)?;
            let owner = reply.device.account.as_ref();
            if let Some(name) = owner.filter(|name| !self.oauth_accounts.iter().any(|one| one.name == **name)) {
                return nonsense(format!("no OAuth account is called {name}"));
            }
        }
        Ok(())
    }
}

fn check_reply(endpoint: Endpoint, reply: &ScriptedReply) -> Result<(), ScenarioError> {
    let nonsense = |text: &str| Err(ScenarioError::Nonsense(format!("{endpoint:?}: {text}")));
    let streams = endpoint == Endpoint::Completions || endpoint.is_chat();
    if !streams && reply.stream != StreamScript::default() {
        return nonsense("only completions stream");
    }
    if endpoint.is_chat() && reply.stream.bench.is_some() {
        return nonsense("only completions of the web chat can be benched");
    }
    if !endpoint.is_chat() && reply.chat != ChatScript::default() {
        return nonsense("only portal_chat and key_chat have chunks");
    }
    if endpoint != Endpoint::DeviceCode && reply.device != DeviceScript::default() {
        return nonsense("only device_code begins a device login");
    }
    if !matches!(endpoint, Endpoint::DeviceToken | Endpoint::RefreshToken) && reply.token != TokenScript::default() {
        return nonsense("only device_token and refresh_token give tokens");
    }
    match &reply.fail {
        Some(ScriptedFailure::OAuth(_)) if !endpoint.is_oauth() => {
            return nonsense("oauth errors are for the OAuth endpoints");
        }
        Some(ScriptedFailure::Api(_)) if !endpoint.is_api() => {
            return nonsense("api errors are for the portal and for keys");
        }
        Some(ScriptedFailure::Error(_)) if endpoint.is_oauth() || endpoint.is_api() => {
            return nonsense("errors in an envelope are for the web chat");
        }
        _ => {}
    }
    if endpoint != Endpoint::Completions && reply.research != ResearchScript::default() {
        return nonsense("only completions of the web chat research");
    }
    if endpoint != Endpoint::Completions && reply.tools.is_some() {
        return nonsense("only completions of the web chat write tool calls; chat.tool_calls is for the others");
    }
    if reply.tools.as_ref().is_some_and(|tools| tools.calls.is_empty() || tools.piece_chars == Some(0)) {
        return nonsense("tools need a call, and pieces of at least one character");
    }
    let makes_media = reply.picture != PictureScript::default() || reply.video != VideoScript::default();
    if endpoint != Endpoint::Completions && makes_media {
        return nonsense("only completions make pictures and videos");
    }
    if !matches!(endpoint, Endpoint::Sts | Endpoint::StsV1) && reply.grant != GrantScript::default() {
        return nonsense("only sts and sts_v1 grant uploads");
    }
    if endpoint != Endpoint::OssPut && reply.put.is_some() {
        return nonsense("only oss_put stops in the middle of an upload");
    }
    if endpoint != Endpoint::FileParse && reply.parse != ParseScript::default() {
        return nonsense("only file_parse says how a file is parsed");
    }
    if reply.stream.packets == Packets::Size(0) {
        return nonsense("a packet has at least one byte");
    }
    let cut = reply.stream.cut;
    if cut.is_some_and(|cut| cut.at_byte.is_none() && cut.after.is_none()) {
        return nonsense("a cut needs at_byte or after");
    }
    Ok(())
}

/// The largest `clock_ahead_seconds`, either way: a year.
const CLOCK_AHEAD_SECONDS_MAX: u64 = 365 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        let error = Scenario::from_json(text).unwrap_err();
        match error {
            ScenarioError::Json(error) => error.to_string(),
            ScenarioError::Nonsense(text) => text,
        }
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Scenario::from_json("{}").unwrap(), Scenario::default());
        let names: Vec<_> =
            Scenario::default().accounts.into_iter().map(|account| (account.name, account.era)).collect();
        assert_eq!(names, [("ada".into(), Era::A), ("bob".into(), Era::B)]);
    }

    #[test]
    fn faults_are_named() {
        for (text, part) in [
            (r#"{"prot":1}"#, "unknown field `prot`"),
            (r#"{"accounts":[{"name":"a","error":"A"}]}"#, "unknown field `error`"),
            (r#"{"replies":{"completion":[]}}"#, "unknown variant `completion`"),
            (r#"{"replies":{"stop":[{"fail":"explode"}]}}"#, "unknown variant `explode`"),
            (r#"{"accounts":[{}]}"#, "account 1 has no name"),
            (r#"{"accounts":[{"name":"a"},{"name":"a"}]}"#, "two accounts are called a"),
            (r#"{"replies":{"stop":[{"stream":{"answer":"x"}}]}}"#, "only completions stream"),
            (r#"{"replies":{"stop":[{"picture":{"count":2}}]}}"#, "only completions make pictures"),
            (r#"{"replies":{"stop":[{"video":{"polls":9}}]}}"#, "only completions make pictures"),
            (r#"{"replies":{"stop":[{"grant":{"link_seconds":9}}]}}"#, "only sts"),
            (r#"{"replies":{"sts":[{"put":{"how":"hang"}}]}}"#, "only oss_put"),
            (r#"{"replies":{"sts":[{"parse":{"polls":9}}]}}"#, "only file_parse"),
            (r#"{"defaults":{"completions":{"stream":{"cut":{}}}}}"#, "needs at_byte or after"),
            (r#"{"defaults":{"completions":{"stream":{"packets":{"size":0}}}}}"#, "one byte"),
            (r#"{"oauth_accounts":[{"name":"a"}],"keys":[{"name":"a"}]}"#, "two accounts are called a"),
            (r#"{"oauth_accounts":[{"name":"a","era":"A"}]}"#, "unknown field `era`"),
            (r#"{"replies":{"device_code":[{"device":{"account":"ada"}}]}}"#, "no OAuth account is called ada"),
            (r#"{"keys":[{"name":""}]}"#, "has no name"),
            (r#"{"portal":{"closed":true}}"#, "unknown field `closed`"),
            (r#"{"replies":{"completions":[{"chat":{"lacks_done":true}}]}}"#, "only portal_chat"),
            (r#"{"replies":{"portal_chat":[{"stream":{"bench":{"events":9}}}]}}"#, "benched"),
            (r#"{"replies":{"device_token":[{"device":{"pending":9}}]}}"#, "only device_code"),
            (r#"{"replies":{"device_code":[{"token":{"expires_in":9}}]}}"#, "only device_token"),
            (r#"{"replies":{"stop":[{"fail":{"api":"quota"}}]}}"#, "api errors"),
            (r#"{"replies":{"stop":[{"fail":{"oauth":"slow_down"}}]}}"#, "oauth errors"),
            (r#"{"replies":{"key_chat":[{"fail":{"error":{"code":"x"}}}]}}"#, "in an envelope"),
            (r#"{"replies":{"key_chat":[{"tools":{"calls":[{"name":"a"}]}}]}}"#, "chat.tool_calls"),
            (r#"{"replies":{"completions":[{"tools":{}}]}}"#, "tools need a call"),
            (r#"{"replies":{"completions":[{"tools":{"shape":"xml"}}]}}"#, "unknown variant `xml`"),
            (r#"{"page_size":0}"#, "page_size"),
            (r#"{"clock_ahead_seconds":-99999999}"#, "clock_ahead_seconds"),
        ] {
            let found = complaint(text);
            assert!(found.contains(part), "{text}: {found}");
        }
    }
}
