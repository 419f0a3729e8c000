//! What the simulated model says when no script tells it: small talk, tool calls, JSON.

pub(crate) mod agent;
pub(crate) mod arguments;
pub(crate) mod prompt;
pub(crate) mod small_talk;
