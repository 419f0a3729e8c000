//! Upstreams in the shape of OpenAI's API: the portal of OAuth accounts, and endpoints of static keys.

pub(crate) mod client;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod error;
