//! Why the state file cannot be used.

use std::io;
use std::path::PathBuf;

/// Why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The state folder cannot be made, read or written.
    #[error("the state folder {} cannot be used; STATE_DIR names another one", path.display())]
    Folder {
        /// The folder that `STATE_DIR` names.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The state file cannot be opened, and its content is not the reason.
    #[error("the state file {} cannot be opened", path.display())]
    Open {
        /// The state file with its folder.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Not even a fresh state file can be used.
    #[error("a fresh state file {} cannot be used: {why}", path.display())]
    Fresh {
        /// The state file with its folder.
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
