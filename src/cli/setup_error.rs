//! Reasons why `setup` ends without an account.

use std::io;

/// Reasons why the guided first run ends without an account.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Nothing that can be used was pasted.
    #[error("nothing was pasted that can be used, so nothing was kept")]
    NothingPasted,
    /// The credentials of an OAuth account have a folder of their own.
    #[error(
        "these are the credentials of an OAuth account: save them as a file and run `qwen-bridge auth import FILE`"
    )]
    OfOAuth,
    /// The terminal cannot be read.
    #[error("what is pasted cannot be read")]
    Input(#[source] io::Error),
    /// A file cannot be written.
    #[error("cannot write {0}")]
    Write(String, #[source] io::Error),
}
