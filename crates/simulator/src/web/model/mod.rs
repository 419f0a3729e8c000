//! The simulated model's own answers, without a script: small talk, tool calls, JSON.

pub(crate) mod agent;
pub(crate) mod arguments;
pub(crate) mod prompt;
pub(crate) mod small_talk;
