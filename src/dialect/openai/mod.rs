//! OpenAI's dialect: chat completions, legacy completions, embeddings, images and videos.

pub mod completions;
pub mod embeddings;
pub mod error;
pub mod fields;
pub mod frames;
pub mod images;
pub mod messages;
pub mod parts;
pub mod reply;
pub mod request;
pub(crate) mod tools;
pub mod videos;
pub mod wire;
