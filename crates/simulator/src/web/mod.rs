//! The web chat: accounts, tokens, chats, streams, pictures and videos.

pub(crate) mod accounts;
pub(crate) mod agent;
pub(crate) mod arguments;
pub(crate) mod attachments;
pub(crate) mod catalogue;
pub(crate) mod chats;
pub(crate) mod completions;
pub(crate) mod frames;
pub(crate) mod jar;
pub(crate) mod media;
pub(crate) mod pictures;
pub(crate) mod prompt;
pub(crate) mod python;
pub(crate) mod research;
pub(crate) mod site;
pub(crate) mod small_talk;
pub(crate) mod speech;
pub(crate) mod steps;
pub(crate) mod tasks;
pub(crate) mod tokens;
pub(crate) mod turn;
pub(crate) mod usage;
pub(crate) mod videos;
