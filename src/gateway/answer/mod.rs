//! Answering one request: attempts, failover, and the turn that a connection pulls.

pub(crate) mod attempt;
pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod failover;
mod model_rests;
mod next_step;
pub(crate) mod relay;
pub(crate) mod run;
pub(crate) mod settings;
pub(crate) mod tools;
pub(crate) mod trace;
pub(crate) mod turn;
pub(crate) mod usage;
pub(crate) mod video_start;
pub(crate) mod web;
