//! Faults of a state file: in its content, which can be put aside, or in its surroundings.

use std::io;

use rusqlite::{Error, ErrorCode, ffi};

use crate::store::disk::condition::StorageFault;

/// Reasons why a state file cannot be used.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The file is not a state file of this version. A new one may take its place.
    Content(String),
    /// The operating system refuses.
    Files(io::Error),
    /// SQLite cannot work here: locked by another process, disk full, no permission.
    Sqlite(Error),
}

impl Fault {
    /// Whether space may be what is missing.
    pub(crate) fn may_be_space(&self) -> bool {
        match self {
            Self::Content(_) => false,
            Self::Files(error) => StorageFault::of_io(error) == StorageFault::Full,
            Self::Sqlite(error) => StorageFault::of_sqlite(error).is_some_and(StorageFault::may_be_space),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let is_content = match &error {
            Error::SqliteFailure(failure, _) => {
                // Unknown is SQLITE_ERROR: a table or column of ours is not there.
                matches!(failure.code, ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown)
                    || matches!(
                        failure.extended_code,
                        // A damaged header can forbid writing; that the file itself is writable was seen before.
                        ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_READONLY
                    )
            }
            Error::SqlInputError { .. }
            | Error::InvalidColumnType(..)
            | Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)
            | Error::QueryReturnedNoRows => true,
            _ => false,
        };
        if is_content { Self::Content(error.to_string()) } else { Self::Sqlite(error) }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Files(error)
    }
}
