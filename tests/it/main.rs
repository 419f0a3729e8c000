//! The whole server over loopback, in front of the simulator: one module for each capability.
#![cfg(test)]

mod app;
mod chat_complete;
mod chat_stream;
