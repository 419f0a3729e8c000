//! Videos: jobs that outlive their request, and the upstream's tasks behind them.

pub(crate) mod jobs;
pub(crate) mod task;
mod work;
