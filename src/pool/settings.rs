//! Settings of the pool. Only `config.rs` fills them.

use std::time::Duration;

/// The way in which the next identity is chosen among the suitable ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The one with the fewest in flight, then the one that waited longest.
    #[default]
    RoundRobin,
    /// By chance; the more life a token has left, the likelier.
    FreshWeighted,
}

/// Settings of a pool. Defaults: `docs/settings.md`.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Choice of the next identity. Each kind of identity has its own.
    pub strategy: Strategy,
    /// Transient failures in a row after which an identity is shown as degraded (`DEGRADE_AFTER`, 3).
    pub degrade_after: u32,
    /// Transient failures in a row after which an identity is down (`TRIP_AFTER`, 5).
    pub trip_after: u32,
    /// First cooldown (`COOLDOWN_BASE`, 300 s); doubles with each further one.
    pub cooldown_base: Duration,
    /// The longest time down (`COOLDOWN_MAX`, 3600 s).
    pub cooldown_max: Duration,
    /// Time after which a probe without a report counts as lost (`PROBE_LEASE`, 60 s).
    pub probe_lease: Duration,
    /// Requests at once on one identity (`MAX_IN_FLIGHT`, 4; `API_MAX_IN_FLIGHT`, 64, for OAuth accounts and keys).
    pub in_flight_max: u32,
    /// Requests that may wait for an identity (`QUEUE_MAX`, 64).
    pub queue_max: usize,
    /// Longest wait in the queue (`QUEUE_WAIT`, 10 s).
    pub queue_wait: Duration,
    /// First rest after a challenge (`CHALLENGE_REST`, 300 s); grows up to two hours.
    pub challenge_rest: Duration,
}
