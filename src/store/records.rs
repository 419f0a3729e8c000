//! The content of the state file, as the rest of the crate uses it.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use secrecy::SecretString;

use crate::base::caller_key::{KeyLimits, KeyName};
use crate::base::facts::IdentityFacts;
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::secret::{ApiKey, Cookie, SignedLink};
use crate::store::usage::UsageLoaded;

/// Everything that was in the state file when it was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Renewed sessions by credential.
    pub sessions: HashMap<CredentialKey, StoredSession>,
    /// Renewed OAuth credentials, as JSON, by the hash of those that they were renewed from.
    pub oauth: HashMap<CredentialKey, SecretString>,
    /// Accounts that the owner added while the server ran, oldest first.
    pub accounts: Vec<StoredAccount>,
    /// Names that the owner gave to accounts, by their credentials.
    pub labels: HashMap<CredentialKey, String>,
    /// Rests and dead credentials. Moments are as they were written: the reader caps those that a clock which stepped
    /// back would prolong.
    pub facts: HashMap<CredentialKey, IdentityFacts>,
    /// Chats that this server made and has not deleted yet, oldest first.
    pub chats: Vec<OwnedChat>,
    /// Chats that this server asked for without learning whether they were made.
    pub intents: Vec<ChatIntent>,
    /// Video jobs that were not deleted, oldest first.
    pub videos: Vec<VideoJob>,
    /// Keys of callers that the owner made on the page, oldest first.
    pub made_keys: Vec<MadeKey>,
    /// Alerts that the owner was told of and whose condition has not ended.
    pub alerts: Vec<KeptAlert>,
    /// Pictures and videos that were made, newest first.
    pub made: Vec<MadeItem>,
    /// Usage of today, and the last use of each key.
    pub usage: UsageLoaded,
    /// The key that was made at the first start without one.
    pub generated_key: Option<ApiKey>,
    /// The key of the owner's routes that was made at the first start beyond loopback.
    pub generated_admin_key: Option<ApiKey>,
    /// Texts of the owner's page by name. They hold no secret.
    pub notes: HashMap<Note, String>,
}

/// The names of texts that the owner's page keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// The key of the owner's routes.
    AdminKey,
    /// The owner's changes, as JSON.
    Audit,
    /// Models that the owner lists or hides against the rule, as JSON.
    ListedModels,
    /// The settings that the owner changed on the page, as JSON.
    Settings,
}

impl Note {
    /// Its name in the table `meta`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AdminKey => "generated_admin_key",
            Self::Audit => "audit",
            Self::ListedModels => "listed_models",
            Self::Settings => "settings",
        }
    }
}

/// A caller's key that the owner made on the page. The key itself is not kept: it has 256 random bits, so a plain
/// SHA-256 cannot be reversed, and no slow hash is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeKey {
    /// Name of the key, unique among made keys.
    pub name: KeyName,
    /// The SHA-256 of the key.
    pub digest: [u8; 32],
    /// Hash that names the caller in other rows.
    pub owner: CredentialKey,
    /// The key as the page shows it: `sk-…abcd`.
    pub shown: String,
    /// Daily limits and allowed models.
    pub limits: KeyLimits,
    /// Creation of the key.
    pub created_at: UnixSeconds,
}

/// An alert that the owner was told of and whose condition has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAlert {
    /// Name of the alert's condition.
    pub event: String,
    /// Subject: an account, a kind of accounts, or empty.
    pub of: String,
    /// Moment since which the condition has held.
    pub since: UnixSeconds,
}

/// Most pictures and videos that are remembered; of more, the oldest go.
pub const MADE_MAX: usize = 500;

/// A picture or a video that the upstream made, while its link lives.
#[derive(Clone, Debug)]
pub struct MadeItem {
    /// Which of the two.
    pub kind: MadeKind,
    /// Signed URL at the upstream.
    pub link: SignedLink,
    /// The model's name as the caller gave it.
    pub model: String,
    /// When it was made.
    pub at: UnixSeconds,
    /// When the link ends, as far as that is known.
    pub ends_at: UnixSeconds,
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeKind {
    /// A picture.
    Image,
    /// A video.
    Video,
}

impl MadeKind {
    /// The word for it in the state file and for programs: `image` or `video`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
        }
    }

    /// What a word of the state file means.
    pub(super) fn of(text: &str) -> Option<Self> {
        [Self::Image, Self::Video].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A web session as it was last saved.
#[derive(Clone, Debug)]
pub struct StoredSession {
    /// The jar as one `Cookie` header.
    pub cookies: SecretString,
    /// The access token, if there was one.
    pub token: Option<SecretString>,
    /// Time of the save.
    pub saved_at: UnixSeconds,
    /// The jar before its last renewal, if that changed how it signs in.
    pub earlier: Option<SecretString>,
}

/// An account of the web chat that the owner added while the server ran.
#[derive(Clone, Debug)]
pub struct StoredAccount {
    /// Name of the identity, such as `account-1`.
    pub id: String,
    /// The Cookie header as it was pasted.
    pub cookie: Cookie,
    /// Time at which it was added or its credential replaced.
    pub created_at: UnixSeconds,
}

/// A chat in an account that this server made, and may therefore delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedChat {
    /// The upstream's id of the chat.
    pub chat_id: String,
    /// Credential of the account that has the chat.
    pub key: CredentialKey,
    /// Creation of the chat.
    pub created_at: UnixSeconds,
    /// Moment until which it is kept for its answers; `None` for a chat that can be deleted.
    pub kept_until: Option<UnixSeconds>,
    /// Its answers that can be continued, oldest first.
    pub answers: Vec<KeptAnswer>,
}

/// A title that chats are made under. Until their ids are known, only the title tells them from the owner's chats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatIntent {
    /// The title, which no other chat has.
    pub title: String,
    /// Credential of the account that gets the chats.
    pub key: CredentialKey,
    /// Time of the first request to create one.
    pub created_at: UnixSeconds,
}

/// An answer that can be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// SHA-256 of the caller and the conversation that it ends.
    pub place: [u8; 32],
    /// The upstream's id of the answer.
    pub response_id: String,
}

/// A video that a caller asked for.
#[derive(Clone)]
pub struct VideoJob {
    /// Id of the job, `video_…`.
    pub id: String,
    /// Hash of the caller's key or credential. Only the same caller may see the job.
    pub owner: String,
    /// Credential of the account that makes it.
    pub key: CredentialKey,
    /// Whether that account belongs to the pool, not to the caller.
    pub is_pooled: bool,
    /// State of the making.
    pub state: VideoState,
    /// The model's name as the caller wrote it.
    pub model: String,
    /// The upstream's id of the model.
    pub upstream_model: String,
    /// The prompt. Not for logs.
    pub prompt: String,
    /// The size as the caller wrote it, such as `1280x720`.
    pub size: String,
    /// Ratio of width to height, such as `16:9`.
    pub ratio: String,
    /// Length in seconds, as callers are told.
    pub seconds: String,
    /// Time of the request.
    pub created_at: UnixSeconds,
    /// End of the making, successful or not.
    pub completed_at: Option<UnixSeconds>,
    /// Id of the upstream's chat that makes it.
    pub chat_id: Option<String>,
    /// Id of the upstream's task.
    pub task_id: Option<String>,
    /// URL of the video. It carries a key.
    pub link: Option<SecretString>,
    /// Code and message of the failure.
    pub error: Option<(String, String)>,
    /// The picture that it begins with, kept until the upstream has it.
    pub picture: Option<VideoPicture>,
    /// Hash of the caller's `Idempotency-Key`: the same key returns this job instead of a second one.
    pub idempotency: Option<String>,
    /// Hash of the request's body, which tells a repeated request from another one.
    pub fingerprint: Option<String>,
}

/// The picture that a video begins with.
#[derive(Clone)]
pub enum VideoPicture {
    /// Its bytes, checked when they came in.
    Bytes(Bytes),
    /// A URL that the upstream itself gave out. It carries a key.
    Link(SecretString),
}

/// The state of a video job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoState {
    /// The making has not begun.
    Queued,
    /// The upstream is making it.
    Running,
    /// The video can be fetched.
    Completed,
    /// The making failed; there will be no video.
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
    /// Word for the state file.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// The state of a word in the state file.
    pub(super) fn of(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Completed, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}
