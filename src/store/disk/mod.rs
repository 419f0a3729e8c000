//! The folder of the state file: its modes, whether it can be written, and what is kept free for the day it is full.

pub(crate) mod condition;
pub(crate) mod fault;
pub(crate) mod files;
pub(crate) mod reserve;
pub(crate) mod unusable;
