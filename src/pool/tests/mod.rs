//! Tests of the room as a whole. Moments are made up, but for those of the queue, whose clock stands still.

mod breaker;
mod faults;
mod lending;
mod membership;
mod model;
mod probes;
mod refusals;
mod rests;
mod strategy;
mod usages;
mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::facts::{PerUsage, Usage};
use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::secret::AccessToken;
use crate::base::session::Session;
use crate::pool::{
    CallerId, CredentialState, IdentityPool, IdentityReason, IdentityStatus, IdentityView, Lease, LeaseError, Now,
    Outcome, PoolSettings, Strategy, Wanted,
};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn start() -> Now {
    Now { instant: Instant::now(), unix: UnixSeconds(1_800_000_000) }
}

fn plus(now: Now, length: Duration) -> Now {
    Now { instant: now.instant + length, unix: now.unix_at(now.instant + length) }
}

fn settings() -> PoolSettings {
    PoolSettings {
        strategy: Strategy::RoundRobin,
        degrade_after: 3,
        trip_after: 5,
        cooldown_base: s(300),
        cooldown_max: s(3600),
        probe_lease: s(60),
        in_flight_max: 4,
        queue_max: 64,
        queue_wait: s(10),
        challenge_rest: s(300),
    }
}

fn session(number: usize) -> Arc<Session> {
    let token = AccessToken::parse(&format!("token-of-{number}"), UnixSeconds(0)).unwrap();
    Arc::new(Session::new(id(number), key(number), None, Some(token)))
}

fn id(number: usize) -> IdentityId {
    IdentityId::numbered(number)
}

fn key(number: usize) -> CredentialKey {
    CredentialKey::of(&number.to_string())
}

/// A pool of `count` identities with tokens, without jitter.
fn pool_with(count: usize, settings: PoolSettings, now: Now) -> IdentityPool {
    let sessions = (1..=count).map(session).collect();
    IdentityPool::with_jitter(sessions, settings, || 0.0, now)
}

fn pool(count: usize, now: Now) -> IdentityPool {
    pool_with(count, settings(), now)
}

fn wanted(tried: &[usize], now: Now) -> Wanted {
    wanted_for(Usage::Chat, tried, now)
}

fn wanted_for(usage: Usage, tried: &[usize], now: Now) -> Wanted {
    let tried = tried.iter().copied().map(key).collect();
    let deadline = now.instant + s(600);
    Wanted { caller: CallerId(1), usage, uploads: false, tried, preferred: None, deadline }
}

fn try_lease(pool: &IdentityPool, now: Now) -> Result<Lease, LeaseError> {
    pool.try_lease(&wanted(&[], now), now)
}

/// A lease of one identity, even if it is the turn of another. All others must be free to be passed over.
fn lease_of(pool: &IdentityPool, number: usize, now: Now) -> Lease {
    lease_for(Usage::Chat, pool, number, now)
}

fn lease_for(usage: Usage, pool: &IdentityPool, number: usize, now: Now) -> Lease {
    let others: Vec<_> = (1..=pool.sessions().len()).filter(|other| *other != number).collect();
    pool.try_lease(&wanted_for(usage, &others, now), now).unwrap()
}

/// Something for one usage, and nothing for the others.
fn only<T: Copy>(usage: Usage, it: T) -> PerUsage<Option<T>> {
    PerUsage::of(|each| (each == usage).then_some(it))
}

fn view(pool: &IdentityPool, number: usize, now: Now) -> IdentityView {
    let views = pool.views(now);
    views.into_iter().find(|view| view.id == id(number)).unwrap()
}

fn status(pool: &IdentityPool, number: usize, now: Now) -> (IdentityStatus, Option<IdentityReason>) {
    let view = view(pool, number, now);
    (view.status, view.reason)
}

const CHALLENGED: Outcome = Outcome::Challenged;
const LIMITED: Outcome = Outcome::RateLimited { retry_after: None };
const FAULT: Outcome = Outcome::Transient { code: "fault" };

const HEALTHY: (IdentityStatus, Option<IdentityReason>) = (IdentityStatus::Healthy, None);
const TRIPPED: (IdentityStatus, Option<IdentityReason>) = (IdentityStatus::Down, Some(IdentityReason::Tripped));

/// A fault that only this identity has, so that the upstream is not blamed for it.
fn own_fault(number: usize) -> Outcome {
    let code = ["own-1", "own-2", "own-3", "own-4", "own-5", "own-6"][number - 1];
    Outcome::Transient { code }
}

/// The login of one identity is refused.
fn die(pool: &IdentityPool, number: usize, now: Now) {
    pool.set_credential(&key(number), CredentialState::Dead, now);
}

/// Makes one identity trip by failures in a row.
fn trip(pool: &IdentityPool, number: usize, now: Now) {
    for _ in 0..settings().trip_after {
        lease_of(pool, number, now).finish(own_fault(number), now);
    }
    assert_eq!(status(pool, number, now), TRIPPED);
}

#[test]
fn handles_can_be_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<IdentityPool>();
    check::<Lease>();
    check::<LeaseError>();
    check::<CredentialState>();
}
