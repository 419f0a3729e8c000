//! The callers' dialects: each reads request bodies into the middle and writes answers from it.
//!
//! Pure, and independent of every upstream: this room never imports `upstream`, and `upstream` never imports it.

pub mod openai;
