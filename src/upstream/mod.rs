//! The world out there: the only room that sends requests upstream.
//!
//! Knows no pool: it is handed a session and uses it for that one call. Every failure leaves as an
//! [`error::UpstreamError`].

pub mod error;
pub mod fetch;
pub mod guard;
pub mod headers;
pub mod openai_api;
pub mod openai_error;
pub mod oss_sign;
pub mod qwen_oauth;
pub mod qwen_web;
mod settings;
pub mod stream;
pub mod tasks;
pub mod token;
pub mod upload;

#[cfg(test)]
pub(crate) mod tests;

pub use crate::upstream::settings::{HostRule, MediaFetch, OAuthSettings, WebSettings};
