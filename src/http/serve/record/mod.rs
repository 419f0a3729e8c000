//! The records of a request: the line in the log, counters, usage, metrics, changes of the owner.

pub(crate) mod access;
pub(crate) mod asking;
pub(crate) mod audit;
pub(crate) mod counters;
pub(crate) mod observers;
pub(crate) mod request_metrics;
