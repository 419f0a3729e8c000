//! What every request passes: sockets, limits, keys, bodies and the log line.

pub mod access;
pub(crate) mod admin_key;
pub mod auth;
pub(crate) mod body;
pub mod counters;
pub mod drain;
pub mod json;
pub(crate) mod lift;
pub mod multipart;
pub(crate) mod own_machine;
pub(crate) mod rate_limit;
pub mod server;
