//! Errors of the state file.

use std::io;
use std::path::PathBuf;

/// Reasons why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The state folder cannot be made, read or written.
    #[error("the state folder {} cannot be used; STATE_DIR names another one", path.display())]
    Folder {
        /// The folder that `STATE_DIR` names.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The state file cannot be opened, for a reason other than its content.
    #[error("the state file {} cannot be opened", path.display())]
    Open {
        /// The state file with its folder.
        path: PathBuf,
        /// SQLite's error about the open.
        source: rusqlite::Error,
    },
    /// Not even a fresh state file can be used.
    #[error("a fresh state file {} cannot be used: {why}", path.display())]
    Fresh {
        /// The state file with its folder.
        path: PathBuf,
        /// The reason, as a sentence.
        why: String,
    },
    /// The thread that writes cannot start.
    #[error("the thread that writes the state file cannot start")]
    Thread(#[source] io::Error),
    /// SQLite could not write a fact.
    #[error("the state file cannot be written")]
    Write(#[source] rusqlite::Error),
    /// SQLite could not read a fact.
    #[error("the state file cannot be read")]
    Read(#[source] rusqlite::Error),
    /// The store was already closed.
    #[error("the state file is closed")]
    Closed,
}
