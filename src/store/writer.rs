//! The one thread that writes the state file. It takes what waits in the queue and commits it together.

use rusqlite::Transaction;
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error};

use crate::base::facts::IdentityFacts;
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::store::daily::DaySpent;
use crate::store::records::{KeptAnswer, OwnedChat, StoredSession, VideoJob};
use crate::store::responses::{self, KeptResponse};
use crate::store::rows::{self, Rows};

/// What the thread is told.
pub(super) enum Command {
    /// Write this, and say so when it is committed if somebody waits.
    Write(Fact, Option<Written>),
    /// Read something, after everything that came before is written.
    Read(Read),
    /// Close the file after everything that came before, and say so.
    Close(oneshot::Sender<()>),
}

/// Reads from the file and hands the result to the task that waits for it.
pub(super) type Read = Box<dyn FnOnce(&Rows) + Send>;

/// Who waits for a commit.
pub(super) type Written = oneshot::Sender<rusqlite::Result<()>>;

/// One thing to write.
pub(super) enum Fact {
    /// A renewed session.
    Session(CredentialKey, StoredSession),
    /// Renewed OAuth credentials.
    OAuth(CredentialKey, SecretString, UnixSeconds),
    /// What is known about an identity.
    Facts(CredentialKey, IdentityFacts),
    /// What accounts did on days.
    Days(Vec<(CredentialKey, DaySpent)>),
    /// A chat was made.
    Chat(OwnedChat),
    /// A chat is kept until then, with a further answer.
    ChatKept { chat_id: String, until: UnixSeconds, answer: Option<KeptAnswer> },
    /// A chat was deleted.
    ChatGone(String),
    /// A video job, new or changed.
    Video(Box<VideoJob>),
    /// A video job is to be forgotten.
    VideoGone(String),
    /// A response to be kept, and when that is.
    Response(Box<KeptResponse>, UnixSeconds),
    /// A response of this owner is to be forgotten.
    ResponseGone { owner: String, id: String },
    /// The key made at the first start.
    GeneratedKey(SecretString),
}

/// Writes until told to close, or until nobody is left who could tell anything.
pub(super) fn run(mut rows: Rows, mut commands: mpsc::Receiver<Command>) {
    let mut closed = None;
    let mut batch = Vec::new();
    while closed.is_none() {
        let Some(first) = commands.blocking_recv() else {
            break;
        };
        let mut next = Some(first);
        while let Some(command) = next.take() {
            match command {
                Command::Write(fact, written) => batch.push((fact, written)),
                Command::Read(read) => {
                    commit(&mut rows, &mut batch);
                    read(&rows);
                }
                Command::Close(sender) => {
                    closed = Some(sender);
                    break;
                }
            }
            if batch.len() < BATCH_MAX {
                next = commands.try_recv().ok();
            }
        }
        commit(&mut rows, &mut batch);
    }
    // Whoever waits for a write that came after the order to close learns that it is closed.
    commands.close();
    if let Err(error) = rows.close() {
        error!(%error, "the state file could not be closed cleanly; nothing committed is lost");
    }
    if let Some(closed) = closed {
        // An error says that nobody waits any more.
        let _ = closed.send(());
    }
}

/// Commits a batch as one; when that fails, each fact on its own, so that one bad fact takes no other with it.
fn commit(rows: &mut Rows, batch: &mut Vec<(Fact, Option<Written>)>) {
    if batch.is_empty() {
        return;
    }
    let together =
        rows.in_one_transaction(|transaction| batch.iter().try_for_each(|(fact, _)| write(transaction, fact)));
    debug!(writes = batch.len(), is_committed = together.is_ok(), "state written");
    for (fact, written) in batch.drain(..) {
        let result = match &together {
            Ok(()) => Ok(()),
            Err(_) => rows.in_one_transaction(|transaction| write(transaction, &fact)),
        };
        match (result, written) {
            // An error of `send` says that whoever waited has gone.
            (result, Some(written)) => drop(written.send(result)),
            (Err(error), None) => error!(%error, "a fact could not be written to the state file"),
            (Ok(()), None) => {}
        }
    }
}

fn write(transaction: &Transaction<'_>, fact: &Fact) -> rusqlite::Result<()> {
    match fact {
        Fact::Session(key, session) => rows::put_session(transaction, key, session),
        Fact::OAuth(key, credentials, now) => rows::put_oauth(transaction, key, credentials, *now),
        Fact::Facts(key, facts) => rows::put_facts(transaction, key, *facts),
        Fact::Days(days) => rows::put_days(transaction, days),
        Fact::Chat(chat) => rows::put_chat(transaction, chat),
        Fact::ChatKept { chat_id, until, answer } => rows::keep_chat(transaction, chat_id, *until, answer.as_ref()),
        Fact::ChatGone(chat_id) => rows::remove_chat(transaction, chat_id),
        Fact::Video(job) => rows::put_video(transaction, job),
        Fact::VideoGone(id) => rows::remove_video(transaction, id),
        Fact::Response(response, now) => responses::put(transaction, response, *now),
        Fact::ResponseGone { owner, id } => responses::remove(transaction, owner, id),
        Fact::GeneratedKey(key) => rows::put_generated_key(transaction, key),
    }
}

/// How many facts are committed together at most.
const BATCH_MAX: usize = 256;
