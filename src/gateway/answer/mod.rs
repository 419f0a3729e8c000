//! Answering one request: attempts, failover, and the turn that a connection pulls.

pub(crate) mod attempt;
pub mod error;
pub mod failover;
mod model_rests;
mod next_step;
pub mod relay;
pub mod run;
pub mod trace;
pub mod turn;
pub(crate) mod usage;
pub mod web;
