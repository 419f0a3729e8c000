//! How the pool is told to behave. Only `config.rs` fills it.

use std::time::Duration;

/// How the one is chosen that serves next, of all that would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The one with the fewest in flight, then the one that waited longest.
    #[default]
    RoundRobin,
    /// By chance; the more life a token has left, the likelier.
    FreshWeighted,
}

/// How the pool treats its identities. Defaults: `docs/settings.md`.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// How the next identity is chosen. Each kind of identity has its own.
    pub strategy: Strategy,
    /// Transient failures in a row after which an identity is shown as degraded (`DEGRADE_AFTER`, 3).
    pub degrade_after: u32,
    /// Transient failures in a row after which an identity is down (`TRIP_AFTER`, 5).
    pub trip_after: u32,
    /// How long the first time down lasts (`COOLDOWN_BASE`, 300 s); doubles with each further one.
    pub cooldown_base: Duration,
    /// The longest time down (`COOLDOWN_MAX`, 3600 s).
    pub cooldown_max: Duration,
    /// How long a probe may stay without a report (`PROBE_LEASE`, 60 s).
    pub probe_lease: Duration,
    /// Requests at once on one identity (`MAX_IN_FLIGHT`, 4; `API_MAX_IN_FLIGHT`, 64, for OAuth accounts and keys).
    pub in_flight_max: u32,
    /// Requests that may wait for an identity (`QUEUE_MAX`, 64).
    pub queue_max: usize,
    /// How long one may wait (`QUEUE_WAIT`, 10 s).
    pub queue_wait: Duration,
    /// First rest after a challenge (`CHALLENGE_REST`, 300 s); grows up to two hours.
    pub challenge_rest: Duration,
}
