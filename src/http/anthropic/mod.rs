//! The routes of Anthropic's API, one file each.

pub mod count_tokens;
pub mod messages;
