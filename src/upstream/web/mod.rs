//! The web chat of chat.qwen.ai: its requests, its stream, its uploads and its tasks.

pub mod client;
pub mod decode;
pub mod detail;
pub mod encode;
pub(crate) mod frames;
pub mod headers;
pub mod limits;
pub mod oss_sign;
pub(crate) mod picture_links;
pub mod prompt;
pub mod request;
pub(crate) mod skew;
pub(crate) mod summary;
pub mod tasks;
pub mod token;
pub mod tools;
pub mod upload;
pub(crate) mod values;
pub mod wire;
