//! Upstreams in the shape of OpenAI's API: the portal of OAuth accounts, and endpoints of static keys.

pub mod client;
pub mod decode;
pub mod encode;
pub mod error;
