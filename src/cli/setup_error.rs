//! Reasons why `setup` ends without an account.

use std::io;

/// Reasons why the guided first run ends without an account.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Nothing that can be used was pasted.
    #[error("nothing was pasted that can be used, so nothing was kept")]
    NothingPasted,
    /// A pipe or a file has more than is read, with the limit in megabytes.
    #[error("this has more than {0} MB; copy one request to chat.qwen.ai out of it, for example as cURL")]
    TooLarge(u64),
    /// A pipe or a file has bytes that are neither UTF-8 nor UTF-16.
    #[error("this is not a text; paste a Cookie header, a cURL command or another form of text")]
    NoText,
    /// The credentials of an OAuth account have a folder of their own.
    #[error(
        "these are the credentials of an OAuth account: save them as a file and run `qwen-bridge auth import FILE`"
    )]
    OfOAuth,
    /// The terminal cannot be read.
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    /// A file cannot be written.
    #[error("cannot write {0}")]
    Write(String, #[source] io::Error),
}
