//! Anthropic's dialect: Messages.

mod blocks;
pub(crate) mod error;
mod parameters;
pub(crate) mod reply;
pub(crate) mod request;
mod tools;
