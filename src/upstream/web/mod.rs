//! The web chat of chat.qwen.ai: its requests, its stream, its uploads and its tasks.

pub(crate) mod answer;
pub(crate) mod client;
pub mod decode;
pub(crate) mod detail;
pub(crate) mod encode;
pub(crate) mod headers;
pub(crate) mod limits;
pub(crate) mod oss_sign;
pub(crate) mod request;
pub(crate) mod skew;
pub(crate) mod tasks;
pub(crate) mod token;
pub(crate) mod upload;
pub(crate) mod wire;
