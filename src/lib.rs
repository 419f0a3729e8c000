//! qwen-bridge: your own Qwen accounts as an API for OpenAI clients.

pub mod base;
