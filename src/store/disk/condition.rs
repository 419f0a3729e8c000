//! How the state is kept at the moment: on the disk, in memory because the folder cannot be used, or in memory until
//! the disk can be written again. Set by the writing thread, read by `/health`.

use std::io;

use parking_lot::Mutex;
use rusqlite::{Error, ErrorCode};

/// Reasons why the disk refuses, each with another remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageFault {
    /// No space, quota used up, or the file larger than the process may write.
    Full,
    /// The user of this process may not write.
    Permission,
    /// The file system is mounted read-only.
    ReadOnly,
    /// A file stands where the folder should be.
    NotAFolder,
    /// Another process holds the file.
    Locked,
    /// Anything else that the system or SQLite says.
    Io,
}

impl StorageFault {
    /// Word for `/health/detailed` and for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Permission => "permission",
            Self::ReadOnly => "read_only",
            Self::NotAFolder => "not_a_folder",
            Self::Locked => "locked",
            Self::Io => "io",
        }
    }

    /// Classifies an error of the operating system.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::Full,
            io::ErrorKind::PermissionDenied => Self::Permission,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => Self::NotAFolder,
            _ => Self::Io,
        }
    }

    /// Classifies an error of SQLite; `None` if the fault is in the written fact and not in the disk.
    pub(crate) fn of_sqlite(error: &Error) -> Option<Self> {
        let Error::SqliteFailure(failure, _) = error else {
            return None;
        };
        match failure.code {
            ErrorCode::DiskFull => Some(Self::Full),
            ErrorCode::PermissionDenied | ErrorCode::CannotOpen => Some(Self::Permission),
            ErrorCode::ReadOnly => Some(Self::ReadOnly),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Some(Self::Locked),
            ErrorCode::ConstraintViolation
            | ErrorCode::TooBig
            | ErrorCode::TypeMismatch
            | ErrorCode::ParameterOutOfRange
            | ErrorCode::Unknown => None,
            // A quota and a limit of file sizes are among these.
            _ => Some(Self::Io),
        }
    }

    /// Whether lack of space may be the cause, so that freeing some may help.
    pub(crate) fn may_be_space(self) -> bool {
        matches!(self, Self::Full | Self::Io)
    }

    /// Advice for when writing begins to fail in a running server.
    pub(crate) fn cure(self) -> &'static str {
        match self {
            Self::Full => "make room on the disk of the state folder, or raise its quota or the limit of file sizes",
            Self::Permission => "give the state folder and its files back to the user of this process",
            Self::ReadOnly => "mount the state folder writable",
            Self::NotAFolder => "put the state folder back in its place",
            Self::Locked => "end the other process that holds the state file",
            Self::Io => "look at the disk of the state folder, it reports an error",
        }
    }
}

/// Where the state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageState {
    /// In the state file, which is writable.
    Disk,
    /// In memory for as long as the process runs: the state folder cannot be used.
    Memory,
    /// The state file cannot be written at the moment. Credentials still go there while that works; the newest of
    /// the rest waits in memory.
    Failing,
}

impl StorageState {
    /// Word for the state in `/health`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Failing => "failing",
        }
    }
}

/// The state of the store, for `/health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageStatus {
    /// Where the state is kept.
    pub state: StorageState,
    /// Reason why it is not on the disk; `None` for [`StorageState::Disk`].
    pub fault: Option<StorageFault>,
    /// Facts in memory that wait for the disk.
    pub waiting: usize,
    /// Facts lost since the start because the queue, or the room for waiting facts, was full.
    pub lost: u64,
}

/// Whether a fact that was to be written is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It survives a crash.
    OnDisk,
    /// The disk cannot be written. It is lost with the process unless the disk recovers before.
    InMemory,
}

/// The part of the status that the writing thread knows.
#[derive(Debug, Default)]
pub(crate) struct Condition(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    fault: Option<StorageFault>,
    waiting: usize,
    lost: u64,
}

impl Condition {
    /// Sets the reason why writing fails; `None` when it works.
    pub(crate) fn set_fault(&self, fault: Option<StorageFault>) {
        self.0.lock().fault = fault;
    }

    /// The reason why writing fails; `None` while it works.
    pub(crate) fn fault(&self) -> Option<StorageFault> {
        self.0.lock().fault
    }

    /// Sets the number of waiting facts, and adds to the number of lost ones.
    pub(crate) fn count(&self, waiting: usize, lost: u64) {
        let mut inner = self.0.lock();
        inner.waiting = waiting;
        inner.lost = inner.lost.saturating_add(lost);
    }

    /// Number of waiting facts, and number of lost ones.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let inner = self.0.lock();
        (inner.waiting, inner.lost)
    }
}
