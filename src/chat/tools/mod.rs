//! Tool calls of an answer: found in its text, and checked against the tools that the caller declared.
//!
//! [`read`] is fed with text as it arrives and holds back what can still become a call; [`shapes`] knows the spellings
//! of calls, [`names`] the declared names. [`check`] checks calls, by schemas that
//! `schema` compiles, and has `mend` repair them. The stage
//! [`tool_calls`](crate::chat::stages::tool_calls) joins them into events. Which calls an answer has is known at its end only, because a cut answer has none.

pub mod check;
pub(crate) mod mend;
pub(crate) mod names;
pub(crate) mod read;
pub(crate) mod schema;
pub mod shapes;
