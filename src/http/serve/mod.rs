//! The layers that every request passes: sockets, limits, keys, bodies and the log line.

pub(crate) mod admission;
pub(crate) mod base_path;
pub(crate) mod content;
pub(crate) mod paths;
pub(crate) mod record;
pub(crate) mod socket;
