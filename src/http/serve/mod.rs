//! What every request passes: sockets, limits, keys, bodies and the log line.

pub mod access;
pub(crate) mod admin_key;
pub mod auth;
pub(crate) mod bodies;
pub(crate) mod body;
pub(crate) mod buckets;
pub mod caller;
pub(crate) mod connections;
pub mod counters;
pub mod drain;
pub(crate) mod encoding;
pub(crate) mod guard;
pub mod json;
pub(crate) mod lift;
pub mod multipart;
pub(crate) mod own_machine;
pub(crate) mod paths;
pub(crate) mod rate_limit;
pub mod server;
pub(crate) mod shape;
pub(crate) mod utf8;
pub(crate) mod wrong_keys;
