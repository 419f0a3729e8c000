//! Bodies of requests: read within limits of size, time and memory, decoded, and parsed.

pub(crate) mod bodies;
pub(crate) mod body;
pub(crate) mod encoding;
pub(crate) mod json;
pub(crate) mod lift;
pub(crate) mod multipart;
pub(crate) mod shape;
pub(crate) mod utf8;
