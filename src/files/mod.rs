//! Bytes of files: where they are kept, what they are and how they are named.

pub mod attachment;
pub mod blob;
pub mod media_type;
mod picture;
