//! The chats that this server made at the upstream: continued while a conversation goes on, then deleted.

pub(crate) mod continuations;
pub(crate) mod janitor;
pub(crate) mod titles;
