//! What every request passes: sockets, limits, keys, bodies and the log line.

pub mod access;
pub mod auth;
pub(crate) mod body;
pub mod drain;
pub mod json;
pub(crate) mod lift;
pub mod multipart;
pub(crate) mod rate_limit;
pub mod server;
