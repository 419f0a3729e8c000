//! The state that outlives the process: renewed sessions, rests, usage, the chats that this server made with the
//! answers in them that can be continued, video jobs, responses, the generated key.
//!
//! One SQLite file in the state folder, one thread that writes it, one bounded queue in front of that thread. Nothing
//! on the way of a request waits for the disk, except where a renewed credential must be safe before it is used.
//! A folder that cannot be used and a disk that cannot be written cost no service: the state is then in memory.
//! The face of this room speaks of facts, not of SQL. Called by `app` (open, close), `pool`, `gateway` and `/health`.
//!
//! This is one long file because it is the whole face of the store: each method is a few lines.

mod daily;
mod disk;
mod error;
mod fact;
mod missing;
pub(crate) mod oauth_files;
mod records;
mod responses;
mod rows;
mod schema;
mod usage;
mod waiting;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::base::caller_key::KeyName;
use crate::base::facts::IdentityFacts;
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::secret::ApiKey;
use crate::base::session::SessionSnapshot;
use crate::store::daily::Daily;
use crate::store::disk::condition::Condition;
use crate::store::disk::fault::Fault;
use crate::store::disk::files;
use crate::store::disk::reserve::Reserve;
use crate::store::fact::Fact;
use crate::store::rows::Rows;
use crate::store::usage::UsageDeltas;
use crate::store::waiting::Waiting;
use crate::store::writer::{Command, Writer};

pub use crate::store::daily::{AccountDays, DaySpent, Spent, UtcDay};
pub use crate::store::disk::condition::{Kept, StorageFault, StorageState, StorageStatus};
pub use crate::store::disk::unusable::Unusable;
pub use crate::store::error::StoreError;
pub use crate::store::missing::Present;
pub use crate::store::records::{
    ChatIntent, KeptAlert, KeptAnswer, Loaded, MADE_MAX, MadeItem, MadeKey, MadeKind, Note, OwnedChat, StoredAccount,
    StoredSession, VideoJob, VideoPicture, VideoState,
};
pub use crate::store::responses::{CHAIN_MAX, Chain, KeptResponse};
pub use crate::store::usage::{HOURS, Histogram, UsageKey, UsageLoaded, UsageSums, hour_of};

/// The way to the state file. Shared behind an `Arc`.
pub struct Store {
    queue: mpsc::Sender<Command>,
    lost: AtomicU64,
    condition: Arc<Condition>,
    /// The reason why everything is in memory; `None` when the state file is in use.
    unusable: Option<Unusable>,
    daily: Mutex<Daily>,
    usage: Mutex<UsageDeltas>,
    /// Held while facts of an identity are read and queued.
    reading_facts: Mutex<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The same thread, to be woken by a task that waits for it.
    writer: Thread,
}

impl Store {
    /// Most writes that may wait.
    pub const QUEUE_MAX: usize = 1024;

    /// Opens the state file in `dir`, makes folder (0700) and file (0600) when they are missing, and reads everything.
    ///
    /// Modes that let others read are tightened with a warning. A file of an earlier version is brought up to this one.
    /// One that is not a state file of ours (damaged, newer, a symbolic link) is moved aside to `state.db.broken-N`, of
    /// which one is kept, and a fresh one begins.
    ///
    /// # Errors
    /// The folder cannot be made or written ([`StoreError::Folder`]), the file cannot be opened for another reason
    /// than its content ([`StoreError::Open`]), or the writing thread cannot start ([`StoreError::Thread`]).
    pub fn open(dir: &Path) -> Result<(Self, Loaded), StoreError> {
        let folder = |source| StoreError::Folder { path: dir.to_owned(), source };
        // SQLite refuses symbolic links anywhere in the path, and the folder itself may well be one.
        let dir = &files::prepare_folder(dir).map_err(folder)?;
        let path = dir.join(files::STATE_FILE);
        let reserve = Reserve::in_folder(dir);
        let opened = match Rows::open(&path) {
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
            // On a full disk the reserve is what lets the file be opened.
            Err(fault) if fault.may_be_space() => {
                reserve.release();
                Rows::open(&path)
            }
            opened => opened,
        };
        let (rows, loaded, daily) = opened.map_err(|fault| match fault {
            Fault::Content(why) => StoreError::Fresh { path, why },
            Fault::Files(source) => folder(source),
            Fault::Sqlite(source) => StoreError::Open { path, source },
        })?;
        reserve.make();
        let store = Self::begin(rows, Some(reserve), daily, None)?;
        debug!(
            sessions = loaded.sessions.len(),
            facts = loaded.facts.len(),
            chats = loaded.chats.len(),
            videos = loaded.videos.len(),
            "state file opened"
        );
        Ok((store, loaded))
    }

    /// As [`Store::open`], but a folder that cannot be used is not an error: what can be read there is read, and from
    /// then on everything is in memory and lost with the process. [`Store::unusable`] says why.
    ///
    /// # Errors
    /// The writing thread cannot start ([`StoreError::Thread`]), or SQLite cannot even work in memory.
    pub fn open_or_in_memory(dir: &Path) -> Result<(Self, Loaded), StoreError> {
        match Self::open(dir) {
            Err(error) if !matches!(error, StoreError::Thread(_)) => Self::in_memory(dir, error),
            opened => opened,
        }
    }

    /// The key that a server made for itself and keeps in this state folder. Writes nothing, also while that server runs.
    /// `None` without one, and if the state file cannot be read.
    #[must_use]
    pub fn generated_key(dir: &Path) -> Option<ApiKey> {
        let path = std::fs::canonicalize(dir.join(files::STATE_FILE)).ok()?;
        Rows::read_only(&path).ok()?.0.generated_key
    }

    fn in_memory(dir: &Path, error: StoreError) -> Result<(Self, Loaded), StoreError> {
        let path = dir.join(files::STATE_FILE);
        let unusable = Unusable::of(dir, error);
        // SQLite refuses symbolic links anywhere in the path.
        let real = std::fs::canonicalize(&path).ok();
        let (loaded, daily) = match real.map(|path| Rows::read_only(&path)) {
            Some(Ok((loaded, daily))) => {
                info!(sessions = loaded.sessions.len(), "the state file can be read, though not written");
                (loaded, daily)
            }
            Some(Err(fault)) => {
                warn!(path = %path.display(), ?fault, "the state file cannot be read either; starting with an empty state");
                Default::default()
            }
            None => Default::default(),
        };
        let rows = Rows::in_memory().map_err(|fault| StoreError::Fresh { path, why: format!("{fault:?}") })?;
        Ok((Self::begin(rows, None, daily, Some(unusable))?, loaded))
    }

    /// Starts the thread that writes.
    fn begin(
        rows: Rows,
        reserve: Option<Reserve>,
        daily: Daily,
        unusable: Option<Unusable>,
    ) -> Result<Self, StoreError> {
        let (queue, commands) = mpsc::channel(Self::QUEUE_MAX);
        let condition = Arc::new(Condition::default());
        let writer = Writer::new(rows, reserve, Arc::clone(&condition));
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(commands))
            .map_err(StoreError::Thread)?;
        let writer_thread = thread.thread().clone();
        let (daily, usage, thread) = (Mutex::new(daily), Mutex::default(), Mutex::new(Some(thread)));
        let (lost, reading_facts) = (AtomicU64::new(0), Mutex::default());
        Ok(Self { queue, lost, condition, unusable, daily, usage, reading_facts, thread, writer: writer_thread })
    }

    /// The reason why everything is kept in memory; `None` when the state file is in use.
    #[must_use]
    pub fn unusable(&self) -> Option<&Unusable> {
        self.unusable.as_ref()
    }

    /// The state of the store at the moment.
    #[must_use]
    pub fn status(&self) -> StorageStatus {
        let (waiting, lost) = self.condition.counts();
        let (state, fault) = match (&self.unusable, self.condition.fault()) {
            (Some(unusable), _) => (StorageState::Memory, Some(unusable.fault())),
            (None, Some(fault)) => (StorageState::Failing, Some(fault)),
            (None, None) => (StorageState::Disk, None),
        };
        StorageStatus { state, fault, waiting, lost: lost.saturating_add(self.lost.load(Ordering::Relaxed)) }
    }

    /// Saves a session and returns when it is safe on the disk, so that a rotated credential is never used before
    /// it would survive a crash. Where the disk cannot be written, which the log says once, it is in memory and goes
    /// to the disk as soon as that works.
    ///
    /// # Errors
    /// It could not be written for a reason of its own ([`StoreError::Write`]), or the store is closed
    /// ([`StoreError::Closed`]).
    pub async fn save_session(
        &self,
        key: CredentialKey,
        session: SessionSnapshot,
        now: UnixSeconds,
    ) -> Result<Kept, StoreError> {
        let SessionSnapshot { cookies, token, earlier } = session;
        let session = StoredSession { cookies, token, saved_at: now, earlier };
        self.write(Fact::Session(key, session)).await
    }

    /// Saves renewed OAuth credentials under the name of what they were renewed from, as [`Store::save_session`] does.
    ///
    /// # Errors
    /// As [`Store::save_session`].
    pub async fn save_oauth(
        &self,
        key: CredentialKey,
        credentials: SecretString,
        now: UnixSeconds,
    ) -> Result<Kept, StoreError> {
        self.write(Fact::OAuth(key, credentials, now)).await
    }

    /// Forgets the session of an account that was removed, and what was learnt about it, some time soon.
    pub fn forget_session(&self, key: &CredentialKey) {
        self.write_later(Fact::SessionGone(key.clone()));
    }

    /// Saves an account that the owner added, as [`Store::save_session`] does.
    ///
    /// # Errors
    /// As [`Store::save_session`].
    pub async fn save_account(&self, account: StoredAccount) -> Result<Kept, StoreError> {
        self.write(Fact::Account(account)).await
    }

    /// Forgets an account that the owner removed, and returns when that is safe on the disk or waits for it.
    ///
    /// # Errors
    /// As [`Store::save_session`].
    pub async fn forget_account(&self, id: &str) -> Result<Kept, StoreError> {
        self.write(Fact::AccountGone(id.to_owned())).await
    }

    /// Saves the name of an account, some time soon; `None` takes it away.
    pub fn save_label(&self, key: CredentialKey, label: Option<String>) {
        self.write_later(Fact::Label(key, label));
    }

    /// Saves what `read` says is known about an identity, some time soon. Facts that say nothing remove the row. Of two
    /// calls at once the one that reads last is written last, so that no older facts replace newer ones.
    pub fn save_facts(&self, key: CredentialKey, read: impl FnOnce() -> IdentityFacts) {
        let _reading = self.reading_facts.lock();
        self.write_later(Fact::Facts(key, read()));
    }

    /// Counts what an account did, in memory. [`Store::keep_counts`] writes it down.
    pub fn count(&self, key: &CredentialKey, spent: Spent, now: UnixSeconds) {
        self.daily.lock().add(key, UtcDay::of(now), spent);
    }

    /// The daily counts of an account, of the last 31 days that have any, oldest first.
    #[must_use]
    pub fn days(&self, key: &CredentialKey) -> Vec<DaySpent> {
        self.daily.lock().days(key)
    }

    /// Counts what a request used, in memory. [`Store::keep_counts`] writes it down.
    pub fn count_usage(&self, key: UsageKey, sums: &UsageSums, now: UnixSeconds) {
        self.usage.lock().count(key, sums, now);
    }

    /// The usage of the days from `from` to `to`, both included, summed by the text that `of` gives for each sum.
    /// Counts from before this call are included, also those that wait for a disk which refuses writes.
    ///
    /// # Errors
    /// It could not be read ([`StoreError::Read`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn usage_by(
        &self,
        days: (UtcDay, UtcDay),
        of: impl Fn(&UsageKey) -> String + Send + 'static,
    ) -> Result<BTreeMap<String, UsageSums>, StoreError> {
        let place = self.queue.reserve().await.map_err(|_| StoreError::Closed)?;
        let counted = std::mem::take(&mut *self.usage.lock());
        if !counted.is_empty() {
            place.send(Command::Write(Fact::Usage(Box::new(counted)), None));
        }
        self.read(move |rows, waiting| {
            let mut sums = usage::sums_by(rows.connection(), days, &of)?;
            if let Some(waiting) = waiting.usage() {
                waiting.add_to(&mut sums, days, &of);
            }
            Ok(sums)
        })
        .await
    }

    /// Forgets what was used before this day, some time soon.
    pub fn forget_usage_before(&self, day: UtcDay) {
        self.write_later(Fact::UsageGone(day));
    }

    /// Counts a day for each account and each key that has rows and is not among these, some time soon. What was missing on
    /// more than 30 days, on which the server ran, is forgotten. Usage stays.
    pub fn note_present(&self, present: Present, today: UtcDay) {
        self.write_later(Fact::Present(Box::new(present), today));
    }

    /// Every second until `stop`: writes counts down, and every fifth time looks whether a disk that refused takes what
    /// waits. The counts of the last second go with [`Store::close`].
    pub async fn keep_counts(self: Arc<Self>, stop: CancellationToken) {
        let mut times = 0_u32;
        while stop.run_until_cancelled(tokio::time::sleep(COUNTS_EVERY)).await.is_some() {
            self.save_counts();
            times = times.wrapping_add(1);
            if times.is_multiple_of(RETRY_EVERY) {
                self.retry();
            }
        }
    }

    /// Has what waits for the disk tried again, some time soon.
    fn retry(&self) {
        if self.condition.fault().is_some() {
            // A full queue has a retry of its own in a while.
            let _ = self.queue.try_send(Command::Retry);
        }
    }

    /// Has what was counted since the last time written down, some time soon and all at once.
    fn save_counts(&self) {
        // A full queue loses no counts here: the sums are still known, and go next time.
        let rows = self.daily.lock().take_changed();
        if !rows.is_empty() {
            match self.queue.try_reserve() {
                Ok(place) => place.send(Command::Write(Fact::Days(rows), None)),
                Err(_) => self.daily.lock().keep_changed(rows),
            }
        }
        let mut usage = self.usage.lock();
        if !usage.is_empty()
            && let Ok(place) = self.queue.try_reserve()
        {
            place.send(Command::Write(Fact::Usage(Box::new(std::mem::take(&mut usage))), None));
        }
    }

    /// Remembers that chats are about to be made under a title, and returns when that is written, so that a crash leaves
    /// no chat behind that cannot be found.
    ///
    /// # Errors
    /// It could not be written ([`StoreError::Write`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn note_intent(&self, intent: ChatIntent) -> Result<Kept, StoreError> {
        self.write(Fact::Intent(intent)).await
    }

    /// Forgets a title that no chat is made under any more, some time soon.
    pub fn forget_intent(&self, title: &str) {
        self.write_later(Fact::IntentGone(title.to_owned()));
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

    /// Saves a video job over what was known of it, and returns when it is safe on the disk, so that a crash loses no
    /// video that a caller was told of. Where the disk cannot be written, it waits in memory.
    ///
    /// # Errors
    /// As [`Store::save_session`].
    pub async fn save_video(&self, job: VideoJob) -> Result<Kept, StoreError> {
        self.write(Fact::Video(Box::new(job))).await
    }

    /// Forgets a video job, and returns when that is safe on the disk or waits for it.
    ///
    /// # Errors
    /// As [`Store::save_session`].
    pub async fn forget_video(&self, id: &str) -> Result<Kept, StoreError> {
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
        self.read(move |rows, _| responses::find(rows.connection(), &owner, &id, now)).await
    }

    /// Finds a response of this owner with all that it continues.
    ///
    /// # Errors
    /// It could not be read ([`StoreError::Read`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn response_chain(&self, owner: String, id: String, now: UnixSeconds) -> Result<Chain, StoreError> {
        self.read(move |rows, _| responses::chain(rows.connection(), &owner, &id, now)).await
    }

    /// Forgets a response of this owner, and returns when that is safe on the disk.
    ///
    /// # Errors
    /// It could not be written ([`StoreError::Write`]), or the store is closed ([`StoreError::Closed`]).
    pub async fn forget_response(&self, owner: String, id: String) -> Result<Kept, StoreError> {
        self.write(Fact::ResponseGone { owner, id }).await
    }

    /// Remembers that the owner was told of this, or that it is over, some time soon.
    pub fn note_alert(&self, alert: KeptAlert, is_over: bool) {
        self.write_later(Fact::Alert(alert, is_over));
    }

    /// Remembers a picture or a video that was made, some time soon.
    pub fn note_made(&self, item: MadeItem) {
        self.write_later(Fact::Made(Box::new(item)));
    }

    /// Saves a key that the owner made over the one of this name, as [`Store::save_session`] does.
    ///
    /// # Errors
    /// As [`Store::save_session`].
    pub async fn save_made_key(&self, key: MadeKey) -> Result<Kept, StoreError> {
        self.write(Fact::MadeKey(Box::new(key))).await
    }

    /// Forgets a key that the owner made, and returns when that is safe on the disk or waits for it.
    ///
    /// # Errors
    /// As [`Store::save_session`].
    pub async fn forget_made_key(&self, name: &KeyName) -> Result<Kept, StoreError> {
        self.write(Fact::MadeKeyGone(name.clone())).await
    }

    /// Saves the key that was made at the first start, as [`Store::save_session`] does.
    ///
    /// # Errors
    /// As [`Store::save_session`].
    pub async fn save_generated_key(&self, key: &ApiKey) -> Result<Kept, StoreError> {
        self.write(Fact::GeneratedKey(SecretString::from(key.expose()))).await
    }

    /// Saves a text of the owner's side over the earlier one, as [`Store::save_session`] does.
    ///
    /// # Errors
    /// As [`Store::save_session`].
    pub async fn save_note(&self, note: Note, text: String) -> Result<Kept, StoreError> {
        self.write(Fact::Note(note, SecretString::from(text))).await
    }

    /// Number of writes that were lost because the queue was full or the store closed.
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
        let usage = std::mem::take(&mut *self.usage.lock());
        if !usage.is_empty() {
            let _ = self.queue.send(Command::Write(Fact::Usage(Box::new(usage)), None)).await;
        }
        let (closed, is_closed) = oneshot::channel();
        if self.send(Command::Close(closed)).await.is_ok() {
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
        read: impl FnOnce(&Rows, &Waiting) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (found, is_found) = oneshot::channel();
        let command = Command::Read(Box::new(move |rows, waiting| {
            // Sending fails when the task that asked is gone.
            let _ = found.send(read(rows, waiting));
        }));
        self.send(command).await?;
        is_found.await.map_err(|_| StoreError::Closed)?.map_err(StoreError::Read)
    }

    async fn write(&self, fact: Fact) -> Result<Kept, StoreError> {
        let (written, is_written) = oneshot::channel();
        self.send(Command::Write(fact, Some(written))).await?;
        match is_written.await {
            Ok(Ok(_)) if self.unusable.is_some() => Ok(Kept::InMemory),
            Ok(Ok(kept)) => Ok(kept),
            Ok(Err(source)) => Err(StoreError::Write(source)),
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// Queues a command that a task waits for.
    async fn send(&self, command: Command) -> Result<(), StoreError> {
        self.queue.send(command).await.map_err(|_| StoreError::Closed)?;
        self.writer.unpark();
        Ok(())
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

/// Interval in which counts are written.
const COUNTS_EVERY: Duration = Duration::from_secs(1);
/// After how many of these times a disk that refused is tried again.
const RETRY_EVERY: u32 = 5;

#[cfg(test)]
mod tests;
