//! The facts that are written into the state file.

use rusqlite::Transaction;
use secrecy::SecretString;

use crate::base::caller_key::KeyName;
use crate::base::facts::IdentityFacts;
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::store::daily::{DaySpent, UtcDay};
use crate::store::missing::{self, Present};
use crate::store::records::{
    ChatIntent, KeptAlert, KeptAnswer, MadeItem, MadeKey, Note, OwnedChat, StoredAccount, StoredSession, VideoJob,
};
use crate::store::responses::{self, KeptResponse};
use crate::store::rows::{self, Rows, facts, keys, made};
use crate::store::usage::{self, UsageDeltas};

/// One fact to write.
pub(super) enum Fact {
    /// A renewed session of a web account.
    Session(CredentialKey, StoredSession),
    /// Renewed OAuth credentials, as JSON, and the current moment.
    OAuth(CredentialKey, SecretString, UnixSeconds),
    /// A session of an account that was removed.
    SessionGone(CredentialKey),
    /// An account that the owner added.
    Account(StoredAccount),
    /// An account that the owner removed.
    AccountGone(String),
    /// The owner's name for an account; `None` removes it.
    Label(CredentialKey, Option<String>),
    /// Rests and refusals of an identity.
    Facts(CredentialKey, IdentityFacts),
    /// Counts of accounts by day.
    Days(Vec<(CredentialKey, DaySpent)>),
    /// Usage of requests, to be added to the sums.
    Usage(Box<UsageDeltas>),
    /// Usage before this day is deleted.
    UsageGone(UtcDay),
    /// The accounts and keys that exist on this day; rows of others are deleted after a while.
    Present(Box<Present>, UtcDay),
    /// Chats are about to be made under a title.
    Intent(ChatIntent),
    /// Chats are no longer made under this title.
    IntentGone(String),
    /// A chat was made.
    Chat(OwnedChat),
    /// A chat is kept until a moment, with a further answer.
    ChatKept { chat_id: String, until: UnixSeconds, answer: Option<KeptAnswer> },
    /// A chat was deleted.
    ChatGone(String),
    /// A video job, new or changed.
    Video(Box<VideoJob>),
    /// A video job is deleted.
    VideoGone(String),
    /// A response to keep, and the current moment.
    Response(Box<KeptResponse>, UnixSeconds),
    /// A response of this owner is deleted.
    ResponseGone { owner: String, id: String },
    /// An alert that the owner was told of; `true`: its condition has ended.
    Alert(KeptAlert, bool),
    /// A picture or a video that was made.
    Made(Box<MadeItem>),
    /// A caller's key that the owner made or changed.
    MadeKey(Box<MadeKey>),
    /// A key that the owner made is deleted.
    MadeKeyGone(KeyName),
    /// The key made at the first start.
    GeneratedKey(SecretString),
    /// A text of the owner's page under its name, over the earlier one.
    Note(Note, SecretString),
}

impl Fact {
    /// Whether its loss would cost a login or the callers' access, so that the reserve of space is used for it.
    pub(super) fn is_credential(&self) -> bool {
        matches!(
            self,
            Self::Session(..)
                | Self::OAuth(..)
                | Self::Account(_)
                | Self::GeneratedKey(_)
                | Self::MadeKey(_)
                | Self::MadeKeyGone(_)
                | Self::Note(Note::AdminKey, _)
        )
    }

    /// Whether it must survive a power cut. The others are written for each request; losing the newest costs at most a
    /// chat that is not deleted, or a day's last counts.
    fn outlives_power_cut(&self) -> bool {
        match self {
            Self::Facts(..)
            | Self::Days(_)
            | Self::Usage(_)
            | Self::UsageGone(_)
            | Self::Present(..)
            | Self::Alert(..)
            | Self::Made(_)
            | Self::Intent(_)
            | Self::IntentGone(_)
            | Self::Chat(..)
            | Self::ChatKept { .. }
            | Self::ChatGone(_) => false,
            Self::Session(..)
            | Self::OAuth(..)
            | Self::SessionGone(_)
            | Self::Account(_)
            | Self::AccountGone(_)
            | Self::Label(..)
            | Self::Video(_)
            | Self::VideoGone(_)
            | Self::Response(..)
            | Self::ResponseGone { .. }
            | Self::MadeKey(_)
            | Self::MadeKeyGone(_)
            | Self::GeneratedKey(_)
            | Self::Note(..) => true,
        }
    }

    /// Whether it may wait in memory. Other facts are too large, or are read from the file itself.
    pub(super) fn may_wait(&self) -> bool {
        !matches!(self, Self::Response(..) | Self::ResponseGone { .. })
    }

    /// Writes several facts, or none of them.
    pub(super) fn write_all<'a>(rows: &mut Rows, facts: impl IntoIterator<Item = &'a Self>) -> rusqlite::Result<()> {
        let facts: Vec<&Self> = facts.into_iter().collect();
        rows.set_synchronous(facts.iter().any(|fact| fact.outlives_power_cut()))?;
        rows.in_one_transaction(|transaction, bytes_max| {
            facts.iter().try_for_each(|fact| fact.write(transaction, bytes_max))
        })
    }

    /// Writes it; responses of more than `responses_bytes_max` in all push the oldest out.
    fn write(&self, transaction: &Transaction<'_>, responses_bytes_max: i64) -> rusqlite::Result<()> {
        match self {
            Self::Session(key, session) => rows::put_session(transaction, key, session),
            Self::OAuth(key, credentials, now) => rows::put_oauth(transaction, key, credentials, *now),
            Self::SessionGone(key) => rows::remove_session(transaction, key),
            Self::Account(account) => rows::put_account(transaction, account),
            Self::AccountGone(id) => rows::remove_account(transaction, id),
            Self::Label(key, label) => rows::put_label(transaction, key, label.as_deref()),
            Self::Facts(key, facts) => facts::put_facts(transaction, key, *facts),
            Self::Days(days) => rows::put_days(transaction, days),
            Self::Usage(deltas) => usage::put(transaction, deltas),
            Self::UsageGone(day) => usage::forget_before(transaction, *day),
            Self::Present(present, day) => missing::note(transaction, present, *day),
            Self::Intent(intent) => rows::put_intent(transaction, intent),
            Self::IntentGone(title) => rows::remove_intent(transaction, title),
            Self::Chat(chat) => rows::put_chat(transaction, chat),
            Self::ChatKept { chat_id, until, answer } => rows::keep_chat(transaction, chat_id, *until, answer.as_ref()),
            Self::ChatGone(chat_id) => rows::remove_chat(transaction, chat_id),
            Self::Video(job) => rows::put_video(transaction, job),
            Self::VideoGone(id) => rows::remove_video(transaction, id),
            Self::Response(response, now) => responses::put(transaction, response, *now, responses_bytes_max),
            Self::ResponseGone { owner, id } => responses::remove(transaction, owner, id),
            Self::Alert(alert, is_over) => rows::put_alert(transaction, alert, *is_over),
            Self::Made(item) => made::put(transaction, item),
            Self::MadeKey(key) => keys::put(transaction, key),
            Self::MadeKeyGone(name) => keys::remove(transaction, name),
            Self::GeneratedKey(key) => rows::put_generated_key(transaction, key),
            Self::Note(note, text) => rows::put_note(transaction, *note, text),
        }
    }
}
