//! The web chat of chat.qwen.ai: its requests, its stream, its uploads and its tasks.

pub(crate) mod answer;
pub(crate) mod client;
pub mod decode;
pub(crate) mod detail;
pub(crate) mod encode;
pub(crate) mod frames;
pub(crate) mod headers;
pub(crate) mod limits;
pub(crate) mod oss_sign;
pub(crate) mod picture_links;
pub(crate) mod prompt;
pub(crate) mod request;
pub(crate) mod skew;
pub(crate) mod summary;
pub(crate) mod tasks;
pub(crate) mod token;
pub(crate) mod tools;
pub(crate) mod upload;
pub(crate) mod values;
pub(crate) mod wire;
