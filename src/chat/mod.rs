//! The neutral middle: what a conversation and an answer are, in no dialect's words.
//!
//! A dialect reads a caller's body into these types and writes an answer from them; an upstream writes its request
//! from them and reads its answer into them. Nothing here waits, reads a clock, draws randomness or logs; ids and
//! times come in as arguments.

pub(crate) mod aspect;
mod canonical;
pub mod conversation;
pub(crate) mod error;
pub(crate) mod failure;
pub(crate) mod file_part;
pub(crate) mod history;
pub mod job;
pub mod model_map;
pub(crate) mod models;
pub mod reply;
pub mod resolve;
pub mod stages;
pub(crate) mod suffix;
pub(crate) mod tokens;
pub mod tools;
