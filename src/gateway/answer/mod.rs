//! Answering one request: attempts, failover, and the turn that a connection pulls.

pub(crate) mod attempt;
pub(crate) mod books;
pub mod chat;
pub mod error;
pub mod failover;
pub mod relay;
pub mod turn;
