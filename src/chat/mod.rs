//! The neutral middle: what a conversation and an answer are, in no dialect's words.
//!
//! A dialect reads a caller's body into these types and writes an answer from them; an upstream writes its request
//! from them and reads its answer into them. Nothing here waits, reads a clock, draws randomness or logs; ids and
//! times come in as arguments.

pub mod aspect;
pub mod conversation;
pub mod error;
pub mod failure;
pub mod file_part;
pub mod history;
pub mod job;
pub mod model_map;
pub mod models;
pub mod reply;
pub mod resolve;
pub mod stages;
pub mod suffix;
pub mod tokens;
pub mod tools;
