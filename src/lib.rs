//! qwen-bridge: your own Qwen accounts as an API for OpenAI clients.

pub mod app;
pub mod base;
pub mod cli;
pub mod config;
pub mod gateway;
pub mod http;
pub mod pool;
pub mod shutdown;
pub mod simulator;
pub mod sse;
pub mod store;
pub mod telemetry;
pub mod transform;
pub mod upstream;
pub mod wire;
