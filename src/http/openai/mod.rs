//! The routes of OpenAI's API, one file each.

pub mod chat;
pub mod completions;
pub mod embeddings;
pub mod images;
pub mod models;
pub mod responses;
pub mod videos;
