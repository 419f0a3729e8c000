//! Qwen's OAuth: device flow, renewal of tokens, PKCE.

pub(crate) mod client;
pub(crate) mod pkce;
