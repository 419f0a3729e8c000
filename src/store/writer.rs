//! The one thread that writes the state file. It takes what waits in the queue and commits it together; what no task
//! waits for gathers for a moment first.
//!
//! While the disk refuses, the newest of everything waits in memory. Credentials are tried again with each batch, the
//! rest with [`Command::Retry`]. The log has one line when that begins and one when it is over.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, trace};

use crate::store::disk::condition::{Condition, Kept, StorageFault};
use crate::store::disk::reserve::Reserve;
use crate::store::fact::Fact;
use crate::store::rows::Rows;
use crate::store::waiting::Waiting;

/// Commands to the thread.
pub(super) enum Command {
    /// Write this; the sender, if there is one, hears when that is done.
    Write(Fact, Option<Written>),
    /// Read something, after everything that came before is written.
    Read(Read),
    /// Write what waits for the disk, if anything does.
    Retry,
    /// Close the file after everything that came before, and say so.
    Close(oneshot::Sender<()>),
}

/// Reads from the file, and from what waits for the disk, and hands the result to the task that waits for it.
pub(super) type Read = Box<dyn FnOnce(&Rows, &Waiting) + Send>;

/// Tells the task that waits for a write how it ended.
pub(super) type Written = oneshot::Sender<rusqlite::Result<Kept>>;

/// Facts with the tasks that wait for them.
type Batch = Vec<(Fact, Option<Written>)>;

/// The state of the writing thread.
pub(super) struct Writer {
    rows: Rows,
    /// `None` when the rows are in memory.
    reserve: Option<Reserve>,
    condition: Arc<Condition>,
    waiting: Waiting,
    /// Time of the last log line about failing writes.
    said_at: Option<Instant>,
    /// Whether the log's last word is that writing fails.
    is_said: bool,
}

impl Writer {
    /// A writer of these rows that tells the others through `condition`.
    pub(super) fn new(rows: Rows, reserve: Option<Reserve>, condition: Arc<Condition>) -> Self {
        Self { rows, reserve, condition, waiting: Waiting::default(), said_at: None, is_said: false }
    }

    /// Writes until told to close, or until every sender is gone.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut closed = None;
        let mut batch = Vec::new();
        while closed.is_none() {
            let Some(first) = commands.blocking_recv() else {
                break;
            };
            if matches!(first, Command::Write(_, None)) {
                // Cut short by a task that waits.
                thread::park_timeout(GATHERING_TIME);
            }
            let mut next = Some(first);
            while let Some(command) = next.take() {
                match command {
                    Command::Write(fact, written) => batch.push((fact, written)),
                    Command::Read(read) => {
                        self.commit(&mut batch);
                        read(&self.rows, &self.waiting);
                    }
                    Command::Retry => {
                        self.commit(&mut batch);
                        self.retry();
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
            self.commit(&mut batch);
        }
        // A task that waits for a write that came after the order to close learns that the store is closed.
        commands.close();
        self.retry();
        let lost = self.waiting.len();
        if lost > 0 {
            error!(lost, "the disk could not be written until the process ended; what waited in memory is lost");
        }
        if let Err(error) = self.rows.close() {
            error!(%error, "the state file could not be closed cleanly; nothing committed is lost");
        }
        if let Some(closed) = closed {
            // An error says that the task which waited is gone.
            let _ = closed.send(());
        }
    }

    fn commit(&mut self, batch: &mut Batch) {
        let batch = std::mem::take(batch);
        if batch.is_empty() {
            return;
        }
        let refused = if self.condition.fault().is_some() { batch } else { self.write(batch) };
        if !refused.is_empty() {
            self.hold(refused);
        }
    }

    /// Commits a batch as one; when a fact in it is at fault, each fact on its own, so that one bad fact takes no other
    /// with it. Gives back what the disk refused.
    fn write(&mut self, batch: Batch) -> Batch {
        let together = Fact::write_all(&mut self.rows, batch.iter().map(|(fact, _)| fact));
        trace!(writes = batch.len(), is_committed = together.is_ok(), "state written");
        let error = match together {
            Ok(()) => {
                batch.into_iter().for_each(|(_, written)| tell(written, Ok(Kept::OnDisk)));
                return Vec::new();
            }
            Err(error) => error,
        };
        if let Some(fault) = StorageFault::of_sqlite(&error) {
            self.begin_failing(fault, &error);
            return batch;
        }
        let mut rest = batch.into_iter();
        while let Some((fact, written)) = rest.next() {
            match Fact::write_all(&mut self.rows, [&fact]) {
                Ok(()) => tell(written, Ok(Kept::OnDisk)),
                Err(error) => match StorageFault::of_sqlite(&error) {
                    Some(fault) => {
                        self.begin_failing(fault, &error);
                        return std::iter::once((fact, written)).chain(rest).collect();
                    }
                    None => refuse(written, error),
                },
            }
        }
        Vec::new()
    }

    /// Keeps in memory what the disk refuses, and tries once more to write the credentials.
    fn hold(&mut self, batch: Batch) {
        let (mut credentials, mut others, mut lost) = (Vec::new(), Vec::new(), 0);
        for (fact, written) in batch {
            let told = if fact.is_credential() { &mut credentials } else { &mut others };
            match (written, fact.may_wait()) {
                (Some(written), false) => {
                    let result = Fact::write_all(&mut self.rows, [&fact]);
                    tell(Some(written), result.map(|()| Kept::OnDisk));
                }
                (written, _) => {
                    lost += self.waiting.put(fact);
                    told.push(written);
                }
            }
        }
        let kept = if self.write_credentials() { Kept::OnDisk } else { Kept::InMemory };
        // First, so that the status is right for those that are told.
        self.condition.count(self.waiting.len(), lost);
        credentials.into_iter().for_each(|written| tell(written, Ok(kept)));
        others.into_iter().for_each(|written| tell(written, Ok(Kept::InMemory)));
    }

    /// Writes the credentials that wait; whether none waits any more.
    fn write_credentials(&mut self) -> bool {
        if self.waiting.credentials().next().is_none() {
            return true;
        }
        let written = Fact::write_all(&mut self.rows, self.waiting.credentials());
        if written.is_ok() {
            self.waiting.clear_credentials();
            // The log begins anew at its front, so that the next credentials find room in it.
            self.rows.checkpoint();
        }
        self.condition.count(self.waiting.len(), 0);
        written.is_ok()
    }

    /// Looks whether the disk can be written again, and writes everything that waits.
    fn retry(&mut self) {
        let Some(fault) = self.condition.fault() else {
            return;
        };
        if fault.may_be_space() && self.reserve.as_ref().is_some_and(|reserve| !reserve.make()) {
            self.write_credentials();
            self.say(fault, None);
            return;
        }
        let waited = self.waiting.len();
        if let Err(error) = Fact::write_all(&mut self.rows, self.waiting.all()) {
            let failed = match StorageFault::of_sqlite(&error) {
                Some(fault) => Some((fault, error)),
                None => self.write_each(),
            };
            if let Some((fault, error)) = failed {
                self.begin_failing(fault, &error);
                self.write_credentials();
                self.condition.count(self.waiting.len(), 0);
                return;
            }
        }
        self.waiting.take();
        self.condition.set_fault(None);
        self.condition.count(0, 0);
        if std::mem::take(&mut self.is_said) {
            info!(waited, lost = self.condition.counts().1, "the state file can be written again");
        }
    }

    /// Writes what waits, each fact on its own. Those that SQLite refuses for their content are dropped. When the disk
    /// fails on the way, what is not written waits on, and the fault is returned.
    fn write_each(&mut self) -> Option<(StorageFault, rusqlite::Error)> {
        let mut facts = self.waiting.take().into_iter();
        while let Some(fact) = facts.next() {
            let Err(error) = Fact::write_all(&mut self.rows, [&fact]) else {
                continue;
            };
            match StorageFault::of_sqlite(&error) {
                Some(fault) => {
                    for fact in std::iter::once(fact).chain(facts) {
                        self.waiting.put(fact);
                    }
                    return Some((fault, error));
                }
                None => refuse(None, error),
            }
        }
        None
    }

    fn begin_failing(&mut self, mut fault: StorageFault, error: &rusqlite::Error) {
        if let Some(reserve) = self.reserve.as_ref().filter(|_| fault.may_be_space()) {
            // SQLite tells only one kind of fullness apart; a quota and a limit of file sizes are a failed write.
            if fault == StorageFault::Io
                && let Err(error) = reserve.probe()
            {
                fault = StorageFault::of_io(&error);
            }
            reserve.release();
            self.rows.checkpoint();
        }
        self.condition.set_fault(Some(fault));
        self.say(fault, Some(error));
    }

    /// Says that writing fails. A disk that is full again and again is in the log once in a while, not each time.
    fn say(&mut self, fault: StorageFault, error: Option<&rusqlite::Error>) {
        if self.is_said || self.said_at.is_some_and(|at| at.elapsed() < SAID_EVERY) {
            return;
        }
        (self.is_said, self.said_at) = (true, Some(Instant::now()));
        error!(
            cause = fault.as_str(),
            error = error.map(tracing::field::display),
            "the state file cannot be written, {}; until then the newest state is kept in memory, and /health says so",
            fault.cure()
        );
    }
}

fn tell(written: Option<Written>, result: rusqlite::Result<Kept>) {
    if let Some(written) = written {
        // An error says that the task which waited is gone.
        let _ = written.send(result);
    }
}

fn refuse(written: Option<Written>, error: rusqlite::Error) {
    match written {
        Some(written) => tell(Some(written), Err(error)),
        None => error!(%error, "a fact could not be written to the state file"),
    }
}

/// Time for which facts that no task waits for collect: a kill loses as much of them.
const GATHERING_TIME: Duration = Duration::from_millis(20);
/// Most facts that are committed together.
const BATCH_MAX: usize = 256;
/// Least pause between two log lines about failing writes.
const SAID_EVERY: Duration = Duration::from_secs(600);
