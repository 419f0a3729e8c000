//! What outlives the process: renewed sessions, rests, the chats that this server made with the answers in them that can
//! be continued, video jobs, responses, the generated key.
//!
//! One SQLite file in the state folder, one thread that writes it, one bounded queue in front of that thread. Nothing
//! on the way of a request waits for the disk, except where a renewed credential must be safe before it is used.
//! The face of this room speaks of facts, not of SQL. Called by `app` (open, close), `pool` and `gateway`.

mod daily;
mod fault;
mod files;
pub mod oauth_files;
mod records;
mod responses;
mod rows;
mod schema;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::base::facts::IdentityFacts;
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::secret::ApiKey;
use crate::base::session::SessionSnapshot;
use crate::store::daily::Daily;
use crate::store::fault::Fault;
use crate::store::rows::Rows;
use crate::store::writer::{Command, Fact};

pub use crate::store::daily::{AccountDays, DaySpent, Spent, UtcDay};
pub use crate::store::records::{KeptAnswer, Loaded, OwnedChat, StoredSession, VideoJob, VideoPicture, VideoState};
pub use crate::store::responses::{CHAIN_MAX, Chain, KeptResponse};

/// The way to the state file. Shared behind an `Arc`.
pub struct Store {
    queue: mpsc::Sender<Command>,
    lost: AtomicU64,
    daily: Mutex<Daily>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// How many writes may wait.
    pub const QUEUE_MAX: usize = 1024;

    /// Opens the state file in `dir`, makes folder (0700) and file (0600) when they are missing, and reads everything.
    ///
    /// Modes that let others read are tightened with a warning. A file of an earlier version is brought up to this one.
    /// One that is no state file of ours (damaged, newer, a symbolic link) is moved aside to `state.db.broken-N`, of which one is kept, and a fresh one begins.
    ///
    /// # Errors
    /// The folder cannot be made or written ([`StoreError::Folder`]), the file cannot be opened for another reason
    /// than its content ([`StoreError::Open`]), or the writing thread cannot start ([`StoreError::Thread`]).
    pub fn open(dir: &Path) -> Result<(Self, Loaded), StoreError> {
        let folder = |source| StoreError::Folder { path: dir.to_owned(), source };
        // SQLite refuses symbolic links anywhere in the path, and the folder itself may well be one.
        let dir = &files::prepare_folder(dir).map_err(folder)?;
        let path = dir.join(FILE_NAME);
        let (rows, loaded, daily) = match Rows::open(&path) {
            Err(Fault::Content(why)) => {
                let aside = files::move_aside(&path).map_err(folder)?;
                warn!(
                    path = %path.display(),
                    moved_to = %aside.display(),
                    reason = %why,
                    "the state file cannot be used and was moved aside; starting with an empty one"
                );
                Rows::open(&path)
            }
            opened => opened,
        }
        .map_err(|fault| match fault {
            Fault::Content(why) => StoreError::Fresh { path, why },
            Fault::Files(source) => folder(source),
            Fault::Sqlite(source) => StoreError::Open { path, source },
        })?;
        let (queue, commands) = mpsc::channel(Self::QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(rows, commands))
            .map_err(StoreError::Thread)?;
        info!(
            sessions = loaded.sessions.len(),
            facts = loaded.facts.len(),
            chats = loaded.chats.len(),
            videos = loaded.videos.len(),
            "state file opened"
        );
        let daily = Mutex::new(daily);
        let store = Self { queue, lost: AtomicU64::new(0), daily, thread: Mutex::new(Some(thread)) };
        Ok((store, loaded))
    }

    /// Saves a session and returns when it is safe on the disk, so that a rotated credential is never used before
    /// it would survive a crash.
    ///
    /// # Errors
    /// It could not be written ([`StoreError::Write`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn save_session(
        &self,
        key: CredentialKey,
        session: SessionSnapshot,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let session = StoredSession { cookies: session.cookies, token: session.token, saved_at: now };
        self.write(Fact::Session(key, session)).await
    }

    /// Saves renewed OAuth credentials under the name of what they were renewed from, and returns when they are safe
    /// on the disk.
    ///
    /// # Errors
    /// They could not be written ([`StoreError::Write`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn save_oauth(
        &self,
        key: CredentialKey,
        credentials: SecretString,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        self.write(Fact::OAuth(key, credentials, now)).await
    }

    /// Saves what is known about an identity, some time soon. Facts that say nothing remove the row.
    pub fn save_facts(&self, key: CredentialKey, facts: IdentityFacts) {
        self.write_later(Fact::Facts(key, facts));
    }

    /// Counts what an account did, in memory. [`Store::keep_counts`] writes it down.
    pub fn count(&self, key: &CredentialKey, spent: Spent, now: UnixSeconds) {
        self.daily.lock().add(key, UtcDay::of(now), spent);
    }

    /// What an account did on each of the last 31 days on which it did anything, oldest first.
    #[must_use]
    pub fn days(&self, key: &CredentialKey) -> Vec<DaySpent> {
        self.daily.lock().days(key)
    }

    /// Writes counts down every few seconds until `stop`. Those of the last seconds go with [`Store::close`].
    pub async fn keep_counts(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(COUNTS_EVERY)).await.is_some() {
            self.save_counts();
        }
    }

    /// Has what was counted since the last time written down, some time soon and all at once.
    fn save_counts(&self) {
        let rows = self.daily.lock().take_changed();
        if rows.is_empty() {
            return;
        }
        // A queue that is full is no loss here: the sums are still known, and go next time.
        match self.queue.try_reserve() {
            Ok(place) => place.send(Command::Write(Fact::Days(rows), None)),
            Err(_) => self.daily.lock().keep_changed(rows),
        }
    }

    /// Remembers a chat that this server made, some time soon.
    pub fn note_chat(&self, chat: OwnedChat) {
        self.write_later(Fact::Chat(chat));
    }

    /// Remembers until when a chat of the ledger is kept, and a further answer in it, some time soon.
    pub fn keep_chat(&self, chat_id: &str, until: UnixSeconds, answer: Option<KeptAnswer>) {
        self.write_later(Fact::ChatKept { chat_id: chat_id.to_owned(), until, answer });
    }

    /// Forgets a chat that was deleted, some time soon.
    pub fn forget_chat(&self, chat_id: &str) {
        self.write_later(Fact::ChatGone(chat_id.to_owned()));
    }

    /// Saves a video job over what was known of it, and returns when it is safe on the disk, so that nobody is
    /// told of a video that a crash would make us forget.
    ///
    /// # Errors
    /// It could not be written ([`StoreError::Write`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn save_video(&self, job: VideoJob) -> Result<(), StoreError> {
        self.write(Fact::Video(Box::new(job))).await
    }

    /// Forgets a video job, and returns when that is safe on the disk.
    ///
    /// # Errors
    /// It could not be written ([`StoreError::Write`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn forget_video(&self, id: &str) -> Result<(), StoreError> {
        self.write(Fact::VideoGone(id.to_owned())).await
    }

    /// Keeps a response, some time soon; [`Store::response`] finds it from now on. `now` tells which others are over.
    pub fn keep_response(&self, response: KeptResponse, now: UnixSeconds) {
        self.write_later(Fact::Response(Box::new(response), now));
    }

    /// Finds a response of this owner that is not over.
    ///
    /// # Errors
    /// It could not be read ([`StoreError::Read`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn response(
        &self,
        owner: String,
        id: String,
        now: UnixSeconds,
    ) -> Result<Option<KeptResponse>, StoreError> {
        self.read(move |rows| responses::find(rows.connection(), &owner, &id, now)).await
    }

    /// Finds a response of this owner with all that it continues.
    ///
    /// # Errors
    /// It could not be read ([`StoreError::Read`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn response_chain(&self, owner: String, id: String, now: UnixSeconds) -> Result<Chain, StoreError> {
        self.read(move |rows| responses::chain(rows.connection(), &owner, &id, now)).await
    }

    /// Forgets a response of this owner, and returns when that is safe on the disk.
    ///
    /// # Errors
    /// It could not be written ([`StoreError::Write`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn forget_response(&self, owner: String, id: String) -> Result<(), StoreError> {
        self.write(Fact::ResponseGone { owner, id }).await
    }

    /// Saves the key that was made at the first start, and returns when it is safe on the disk.
    ///
    /// # Errors
    /// It could not be written ([`StoreError::Write`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn save_generated_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.write(Fact::GeneratedKey(SecretString::from(key.expose()))).await
    }

    /// How many writes were lost because the queue was full or the store closed.
    #[must_use]
    pub fn lost_writes(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes everything that waits and closes the file. What is saved afterwards is lost, and counted.
    pub async fn close(&self) {
        let rows = self.daily.lock().take_changed();
        if !rows.is_empty() {
            // An error says that the thread is gone already.
            let _ = self.queue.send(Command::Write(Fact::Days(rows), None)).await;
        }
        let (closed, is_closed) = oneshot::channel();
        if self.queue.send(Command::Close(closed)).await.is_ok() {
            // An error says that the thread is gone, which is what we wait for.
            let _ = is_closed.await;
        }
        let thread = self.thread.lock().take();
        // The thread has nothing left to do but to return, so this does not wait.
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            warn!("the thread that writes the state file had panicked");
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Rows) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (found, is_found) = oneshot::channel();
        let command = Command::Read(Box::new(move |rows| {
            // An error says that the task that asked is gone.
            let _ = found.send(read(rows));
        }));
        if self.queue.send(command).await.is_err() {
            return Err(StoreError::Closed);
        }
        is_found.await.map_err(|_| StoreError::Closed)?.map_err(StoreError::Read)
    }

    async fn write(&self, fact: Fact) -> Result<(), StoreError> {
        let (written, is_written) = oneshot::channel();
        let command = Command::Write(fact, Some(written));
        if self.queue.send(command).await.is_err() {
            return Err(StoreError::Closed);
        }
        match is_written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(StoreError::Write(source)),
            Err(_) => Err(StoreError::Closed),
        }
    }

    fn write_later(&self, fact: Fact) {
        let Err(refused) = self.queue.try_send(Command::Write(fact, None)) else {
            return;
        };
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        // Once for the first and then ever more rarely: a disk that hangs must not fill the log too.
        if lost.is_power_of_two() {
            let is_full = matches!(refused, mpsc::error::TrySendError::Full(_));
            warn!(lost, is_full, "a write to the state file was lost");
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("waiting", &(Self::QUEUE_MAX - self.queue.capacity()))
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

/// Why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The state folder cannot be made, read or written.
    #[error("the state folder {} cannot be used; STATE_DIR names another one", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The state file cannot be opened, and its content is not the reason.
    #[error("the state file {} cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Not even a fresh state file can be used.
    #[error("a fresh state file {} cannot be used: {why}", path.display())]
    Fresh {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The thread that writes cannot start.
    #[error("the thread that writes the state file cannot start")]
    Thread(#[source] io::Error),
    /// A write failed.
    #[error("the state file cannot be written")]
    Write(#[source] rusqlite::Error),
    /// A read failed.
    #[error("the state file cannot be read")]
    Read(#[source] rusqlite::Error),
    /// The store was closed before.
    #[error("the state file is closed")]
    Closed,
}

/// How often counts are written down.
const COUNTS_EVERY: Duration = Duration::from_secs(5);

/// The name of the file in the state folder.
const FILE_NAME: &str = "state.db";

#[cfg(test)]
mod oauth_tests;
#[cfg(test)]
mod tests;
