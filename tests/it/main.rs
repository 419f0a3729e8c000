//! The whole server over loopback, in front of the simulator: one module for each capability.
#![cfg(test)]

mod app;
mod attachments;
mod auth;
mod bad_input;
mod breaker;
mod cancellation;
mod challenge;
mod chat_complete;
mod chat_stream;
mod clean_guest;
mod client_mode;
mod completions;
mod cors;
mod embeddings;
mod failover;
mod keys;
mod limits;
mod media_bombs;
mod media_fetch;
mod models;
mod oauth;
mod oracle;
mod pictures;
mod quota;
mod raw;
mod reasoning;
mod restart;
mod search;
mod secrets_in_logs;
mod shutdown;
mod status;
mod tidy;
mod token_refresh;
mod upstream_faults;
mod videos;
