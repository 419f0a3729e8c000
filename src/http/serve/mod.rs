//! What every request passes: sockets, limits, keys, bodies and the log line.

pub(crate) mod access;
pub(crate) mod admin_key;
pub(crate) mod asking;
pub(crate) mod auth;
pub(crate) mod bodies;
pub(crate) mod body;
pub(crate) mod buckets;
pub(crate) mod caller;
pub(crate) mod connections;
pub(crate) mod counters;
pub(crate) mod drain;
pub(crate) mod encoding;
pub(crate) mod guard;
pub(crate) mod json;
pub(crate) mod key_limits;
pub(crate) mod lift;
pub(crate) mod multipart;
pub(crate) mod observers;
pub(crate) mod own_machine;
pub(crate) mod paths;
pub(crate) mod rate_limit;
pub(crate) mod server;
pub(crate) mod shape;
pub(crate) mod utf8;
pub(crate) mod wrong_keys;
