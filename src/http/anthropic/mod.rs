//! The routes of Anthropic's API, one file each.

pub(crate) mod count_tokens;
pub(crate) mod messages;
