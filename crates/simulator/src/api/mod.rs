//! OAuth logins, the portal for their tokens, and the endpoint of static keys.

pub(crate) mod authorize;
pub(crate) mod chunks;
pub(crate) mod device;
pub(crate) mod embeddings;
pub(crate) mod oauth;
pub(crate) mod portal;
