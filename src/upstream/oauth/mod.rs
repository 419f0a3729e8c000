//! Qwen's OAuth: device flow, renewal of tokens, PKCE.

pub mod client;
pub mod pkce;
