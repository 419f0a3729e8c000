//! Vocabulary of the whole crate: ids, secrets, a session, text.
//!
//! Nothing here waits, logs or reads a clock. Every other room may import this one; it imports none.

pub mod bilingual;
pub mod caller_key;
pub mod facts;
pub mod ids;
pub(crate) mod live;
pub(crate) mod oauth;
pub(crate) mod quotes;
pub mod secret;
pub mod seed;
pub(crate) mod session;
pub(crate) mod text;
