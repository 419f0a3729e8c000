//! Answers in Anthropic's dialect: a stream of named events, or a whole `message`.
//!
//! Both say the same in the same order: thoughts, text, tool calls, then what came late: text behind a call, and the
//! pages of a search.

mod calls;
pub(crate) mod message;
mod search;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod whole;
