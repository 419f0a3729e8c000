//! The routes of OpenAI's API, one file each.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod images;
pub(crate) mod models;
pub(crate) mod responses;
pub(crate) mod videos;
