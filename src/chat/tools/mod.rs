//! Tool calls of an answer: found in its text, and checked against the tools that the caller declared.
//!
//! [`read`] is fed with text as it arrives and holds back what can still become a call; [`shapes`] knows the spellings
//! of calls, [`names`] the declared names. The stage
//! that joins them into events follows. Which calls an answer has is known at its end only, because a cut answer has none.

pub mod names;
pub mod read;
pub mod shapes;
