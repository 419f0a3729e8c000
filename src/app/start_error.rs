//! Reasons why the server cannot start.

use std::io;
use std::net::SocketAddr;

use crate::http::traces::TracesError;
use crate::store::StoreError;
use crate::upstream::web::client::WebClientError;

/// Reasons why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state can be kept neither in the state folder nor in memory.
    #[error("cannot open the state folder {0} (STATE_DIR)")]
    Store(String, #[source] StoreError),
    /// The HTTP client cannot be made.
    #[error("cannot set up the HTTP client that calls the upstream")]
    Client(#[from] WebClientError),
    /// Traces cannot be sent.
    #[error("traces cannot be sent")]
    Traces(#[from] TracesError),
    /// The address cannot be listened at.
    #[error("cannot listen at {0} ({1})")]
    Listen(SocketAddr, &'static str, #[source] io::Error),
}
