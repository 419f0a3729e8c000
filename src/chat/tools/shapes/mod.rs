//! The spellings of calls, read from text that is there as a whole.
//!
//! The prompt asks for `<tool_call>{"name": …, "arguments": {…}}</tool_call>`; models also write what they were
//! trained on: `tags`, `json`, `list`, and a `fence` around any of them. Each spelling has a function that decides
//! from the first bytes whether text can be a call, and one that reads it. All of them see a prefix or the whole of the
//! same text and never change their mind when more of it comes.

pub(crate) mod fence;
pub(crate) mod json;
pub(crate) mod list;
pub(crate) mod tags;
pub mod written;
