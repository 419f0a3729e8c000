//! The world out there: the only room that sends requests upstream.
//!
//! Knows no pool: it is handed a session and uses it for that one call. Every failure leaves as an
//! [`error::UpstreamError`].

pub(crate) mod call_log;
pub(crate) mod classify;
mod connections;
pub(crate) mod error;
pub(crate) mod media;
pub(crate) mod oauth;
pub(crate) mod openai;
mod settings;
pub(crate) mod stream;
pub(crate) mod way;
pub mod web;
pub mod webhook;
pub(crate) mod words;

#[cfg(test)]
pub(crate) mod tests;

pub use crate::upstream::settings::{AnswerTimeouts, HostRule, MediaFetch, OAuthSettings, WebSettings};
