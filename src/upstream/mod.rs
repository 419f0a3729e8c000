//! The world out there: the only room that sends requests upstream.
//!
//! Knows no pool: it is handed a session and uses it for that one call. Every failure leaves as an
//! [`error::UpstreamError`].

pub(crate) mod call_log;
pub mod error;
pub mod media;
pub mod oauth;
pub mod openai;
mod settings;
pub mod stream;
pub mod web;
pub mod words;

#[cfg(test)]
pub(crate) mod tests;

pub use crate::upstream::settings::{HostRule, MediaFetch, OAuthSettings, WebSettings};
