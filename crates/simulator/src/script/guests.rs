//! OAuth accounts and static keys in a scenario.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::script::endpoint::Endpoint;
use crate::script::oauth::{ResourceUrl, TokenRotation};
use crate::script::reply::ScriptedReply;

/// One account that signs in with Qwen's OAuth.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OAuthAccount {
    /// Name in scripts and records, unique among OAuth accounts and keys.
    pub name: String,
    /// Whether every token of the account is refused.
    pub revoked: bool,
    /// Lifetime of an access token in seconds. Left out: 21,600 (six hours).
    pub access_token_seconds: u64,
    /// What a refresh does to the refresh token.
    pub refresh_rotation: TokenRotation,
    /// `resource_url` of token answers and of written credentials.
    pub resource_url: ResourceUrl,
    /// Replies for this account, each used once.
    pub replies: BTreeMap<Endpoint, Vec<ScriptedReply>>,
    /// Replies of this account when no scripted one is queued.
    pub defaults: BTreeMap<Endpoint, ScriptedReply>,
}

/// One static key of an endpoint in the shape of DashScope.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyScript {
    /// Name in scripts and records, unique among OAuth accounts and keys.
    pub name: String,
    /// The key itself. Left out: `sk-` and something that is the same in every run.
    pub key: Option<String>,
    /// Whether the key is refused.
    pub revoked: bool,
    /// Most chats within five hours, as in a Coding Plan. Left out: unlimited.
    pub chats_per_window: Option<usize>,
    /// Replies for this key, each used once.
    pub replies: BTreeMap<Endpoint, Vec<ScriptedReply>>,
    /// Replies of this key when no scripted one is queued.
    pub defaults: BTreeMap<Endpoint, ScriptedReply>,
}

impl Default for OAuthAccount {
    fn default() -> Self {
        Self {
            name: String::new(),
            revoked: false,
            access_token_seconds: 6 * 3600,
            refresh_rotation: TokenRotation::default(),
            resource_url: ResourceUrl::default(),
            replies: BTreeMap::new(),
            defaults: BTreeMap::new(),
        }
    }
}

impl OAuthAccount {
    /// An OAuth account of this name with the defaults: not revoked, six-hour access tokens, no scripted replies.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// This account with one more scripted reply.
    #[must_use]
    pub fn replying(mut self, endpoint: Endpoint, reply: ScriptedReply) -> Self {
        self.replies.entry(endpoint).or_default().push(reply);
        self
    }
}

impl KeyScript {
    /// A key of this name with the defaults: not revoked, unlimited chats, no scripted replies.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// This key with one more scripted reply.
    #[must_use]
    pub fn replying(mut self, endpoint: Endpoint, reply: ScriptedReply) -> Self {
        self.replies.entry(endpoint).or_default().push(reply);
        self
    }
}
