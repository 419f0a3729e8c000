//! The web chat: accounts, tokens, chats, streams, pictures and videos.

pub(crate) mod accounts;
pub(crate) mod attachments;
pub(crate) mod catalogue;
pub(crate) mod chats;
pub(crate) mod completions;
pub(crate) mod jar;
pub(crate) mod model;
pub(crate) mod site;
pub(crate) mod stream;
pub(crate) mod tokens;
pub(crate) mod works;
