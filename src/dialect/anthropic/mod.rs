//! Anthropic's dialect: Messages.

mod blocks;
pub mod error;
pub mod reply;
pub mod request;
mod tools;
