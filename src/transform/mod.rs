//! Pure translation between callers' dialects and the upstream's.
//!
//! Up goes a [`job::ChatJob`], down come [`reply::ReplyEvent`]s. Nothing here waits, reads a clock, draws
//! randomness or logs; ids and times come in as arguments.

pub mod aspect;
pub mod attachment;
pub mod chat_detail;
pub mod completions;
pub mod embeddings;
pub mod fields;
pub mod files;
pub mod images;
pub mod job;
pub mod limits;
pub mod media_type;
pub mod messages;
pub mod models;
pub mod oauth;
pub mod openai_dialect;
pub mod openai_reply;
mod picture;
pub mod prompt;
pub mod qwen_reply;
pub mod qwen_request;
pub mod reply;
pub mod resolve;
pub mod videos;

#[cfg(test)]
mod tests;
