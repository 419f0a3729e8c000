//! The web chat of chat.qwen.ai: its requests, its stream, its uploads and its tasks.

pub mod client;
pub mod decode;
pub mod detail;
pub mod encode;
pub mod headers;
pub mod limits;
pub mod oss_sign;
pub mod prompt;
pub mod request;
pub mod tasks;
pub mod token;
pub mod tools;
pub mod upload;
pub mod wire;
