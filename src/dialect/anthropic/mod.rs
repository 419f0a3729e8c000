//! Anthropic's dialect: so far its errors.

pub mod error;
