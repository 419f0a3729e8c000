//! What the state file holds, as the rest of the crate sees it.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use secrecy::SecretString;

use crate::base::caller_key::{KeyLimits, KeyName};
use crate::base::facts::IdentityFacts;
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::secret::{ApiKey, Cookie};
use crate::store::usage::UsageLoaded;

/// Everything that was in the state file when it was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Renewed sessions by credential.
    pub sessions: HashMap<CredentialKey, StoredSession>,
    /// Renewed OAuth credentials, as JSON, by what they were renewed from.
    pub oauth: HashMap<CredentialKey, SecretString>,
    /// Accounts that the owner added while the server ran, oldest first.
    pub accounts: Vec<StoredAccount>,
    /// Names that the owner gave to accounts, by their credentials.
    pub labels: HashMap<CredentialKey, String>,
    /// Rests and dead credentials. Moments are as they were written: their user caps what a clock that
    /// stepped back would prolong.
    pub facts: HashMap<CredentialKey, IdentityFacts>,
    /// Chats that this server made and has not deleted yet, oldest first.
    pub chats: Vec<OwnedChat>,
    /// Chats that this server asked for without learning whether they were made.
    pub intents: Vec<ChatIntent>,
    /// Video jobs that were not forgotten, oldest first.
    pub videos: Vec<VideoJob>,
    /// Keys of callers that the owner made on the page, oldest first.
    pub made_keys: Vec<MadeKey>,
    /// What the owner was told of and that is not over.
    pub alerts: Vec<KeptAlert>,
    /// What requests used today, and when keys were last used.
    pub usage: UsageLoaded,
    /// The key that was made at the first start without one.
    pub generated_key: Option<ApiKey>,
    /// The key of the owner's routes that was made at the first start beyond loopback.
    pub generated_admin_key: Option<ApiKey>,
    /// What the owner's side wrote down. Holds no secret.
    pub notes: HashMap<Note, String>,
}

/// What a text of the owner's side is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// The key of the owner's routes.
    AdminKey,
    /// The owner's changes, as JSON.
    Audit,
    /// Which models are listed against the rule, as JSON.
    ListedModels,
}

impl Note {
    /// Its name in the table `meta`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AdminKey => "generated_admin_key",
            Self::Audit => "audit",
            Self::ListedModels => "listed_models",
        }
    }
}

/// A key of callers that the owner made on the page. The key itself is kept nowhere: of 256 random bits a plain SHA-256
/// cannot be guessed back, so that no slow hash is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeKey {
    /// What it is called.
    pub name: KeyName,
    /// The SHA-256 of the key.
    pub digest: [u8; 32],
    /// The caller's name on disk.
    pub owner: CredentialKey,
    /// How it is shown to its owner: `sk-…abcd`.
    pub shown: String,
    /// What it may use.
    pub limits: KeyLimits,
    /// When it was made.
    pub created_at: UnixSeconds,
}

/// Something that the owner was told of and that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAlert {
    /// The word for what it is.
    pub event: String,
    /// Whose it is: an account, a kind of accounts, or empty.
    pub of: String,
    /// Since when it is so.
    pub since: UnixSeconds,
}

/// A session as it was last saved.
#[derive(Clone, Debug)]
pub struct StoredSession {
    /// The jar as one `Cookie` header.
    pub cookies: SecretString,
    /// The access token, if there was one.
    pub token: Option<SecretString>,
    /// When it was saved.
    pub saved_at: UnixSeconds,
    /// The jar before its last renewal, if that changed how it signs in.
    pub earlier: Option<SecretString>,
}

/// An account of the web chat that the owner added while the server ran.
#[derive(Clone, Debug)]
pub struct StoredAccount {
    /// The name of the identity, `account-1`.
    pub id: String,
    /// The Cookie header as it was pasted.
    pub cookie: Cookie,
    /// When it was added or its credential replaced.
    pub created_at: UnixSeconds,
}

/// A chat in an account that this server made, and may therefore delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedChat {
    /// The upstream's id of the chat.
    pub chat_id: String,
    /// In whose account it is.
    pub key: CredentialKey,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// Until when it is kept for its answers; `None` for a chat that can be deleted.
    pub kept_until: Option<UnixSeconds>,
    /// Its answers that can be continued, oldest first.
    pub answers: Vec<KeptAnswer>,
}

/// A title that chats are made under. Until their ids are known, only the title tells them from the owner's chats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatIntent {
    /// The title, which no other chat has.
    pub title: String,
    /// In whose account they are made.
    pub key: CredentialKey,
    /// When the first of them was asked for.
    pub created_at: UnixSeconds,
}

/// An answer that can be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The SHA-256 of whose conversation it ends, and how.
    pub place: [u8; 32],
    /// The upstream's id of the answer.
    pub response_id: String,
}

/// A video that a caller asked for.
#[derive(Clone)]
pub struct VideoJob {
    /// Our name for it, `video_…`.
    pub id: String,
    /// Hash of the caller's key or credential. Only the same caller may see the job.
    pub owner: String,
    /// In whose account it is made.
    pub key: CredentialKey,
    /// Whether that account is one of the pool's, and not the caller's own.
    pub is_pooled: bool,
    /// How far it is.
    pub state: VideoState,
    /// The model that the caller named.
    pub model: String,
    /// The upstream's name of it.
    pub upstream_model: String,
    /// What is to be seen. Not for logs.
    pub prompt: String,
    /// The size as the caller named it, such as `1280x720`.
    pub size: String,
    /// The upstream's word for the shape, such as `16:9`.
    pub ratio: String,
    /// How long it is, as callers are told.
    pub seconds: String,
    /// When it was asked for.
    pub created_at: UnixSeconds,
    /// When it was done, well or not.
    pub completed_at: Option<UnixSeconds>,
    /// The upstream's chat that it is made in.
    pub chat_id: Option<String>,
    /// The upstream's name of it.
    pub task_id: Option<String>,
    /// Where the video is. The address carries a key.
    pub link: Option<SecretString>,
    /// Why there is none: a code and a message.
    pub error: Option<(String, String)>,
    /// The picture that it begins with, kept until the upstream has it.
    pub picture: Option<VideoPicture>,
    /// A hash of the key with which the caller may ask twice and get one.
    pub idempotency: Option<String>,
    /// A hash of the request's body, to tell a repeated request from another one.
    pub fingerprint: Option<String>,
}

/// The picture that a video begins with.
#[derive(Clone)]
pub enum VideoPicture {
    /// Its bytes, checked when they came in.
    Bytes(Bytes),
    /// An address that the upstream itself gave out. It carries a key.
    Link(SecretString),
}

/// How far a video is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoState {
    /// It has not begun.
    Queued,
    /// The upstream makes it.
    Running,
    /// It can be fetched.
    Completed,
    /// There will be none.
    Failed,
}

impl fmt::Debug for VideoJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VideoJob")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("model", &self.model)
            .field("created_at", &self.created_at)
            .field("error_code", &self.error.as_ref().map(|(code, _)| code))
            .finish_non_exhaustive()
    }
}

impl VideoState {
    /// The word for it in the state file.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// What a word of the state file means.
    pub(super) fn of(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Completed, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}
