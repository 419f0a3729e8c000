//! Bytes of files: where they are kept, what they are and how they are named.

pub(crate) mod attachment;
pub(crate) mod blob;
pub(crate) mod media_type;
mod picture;
