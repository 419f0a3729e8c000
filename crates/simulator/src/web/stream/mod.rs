//! Streams of the web chat: from a script to the bytes of each frame.

pub(crate) mod frames;
pub(crate) mod python;
pub(crate) mod speech;
pub(crate) mod steps;
pub(crate) mod turn;
pub(crate) mod usage;
