//! OpenAI's dialect: chat completions, legacy completions, embeddings, images and videos.

pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod error;
pub(crate) mod fields;
pub(crate) mod frames;
pub(crate) mod images;
pub(crate) mod messages;
pub(crate) mod parts;
pub mod reply;
pub mod request;
pub(crate) mod tools;
pub(crate) mod videos;
pub(crate) mod wire;
