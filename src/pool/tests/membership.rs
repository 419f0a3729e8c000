//! Identities that come and go while the pool is in use.

use std::sync::Arc;

use crate::base::facts::Usage;
use crate::pool::tests::{
    FAULT, HEALTHY, id, key, plus, pool, pool_with, s, session, settings, start, status, try_lease, wanted,
};
use crate::pool::{CredentialState, IdentityPool, LeaseError, Now, Outcome, PoolSettings};

/// The identity that is lent next, given back at once.
fn next(pool: &IdentityPool, now: Now) -> String {
    let lease = try_lease(pool, now).unwrap();
    let identity = lease.identity().as_str().to_owned();
    lease.finish(Outcome::Success, now);
    identity
}

fn names(pool: &IdentityPool) -> Vec<String> {
    pool.sessions().iter().map(|session| session.identity().as_str().to_owned()).collect()
}

#[test]
fn newcomers_stand_at_the_back() {
    let now = start();
    let pool = pool(2, now);
    assert_eq!(next(&pool, now), "identity-1");
    assert!(pool.add(session(3), now));
    assert!(!pool.add(session(3), now), "one of a name is enough");
    assert_eq!(
        (0..4).map(|_| next(&pool, now)).collect::<Vec<_>>().join(" "),
        "identity-2 identity-1 identity-3 identity-2"
    );
    assert_eq!(pool.summary(now).total, 3);
    assert_eq!(status(&pool, 3, now), HEALTHY);
}

#[test]
fn an_empty_pool_fills() {
    let now = start();
    let pool = pool(0, now);
    assert_eq!(try_lease(&pool, now).unwrap_err(), LeaseError::NoneConfigured);
    assert!(pool.add(session(1), now));
    assert_eq!(next(&pool, now), "identity-1");
    assert!(pool.remove(&key(1), now) && !pool.remove(&key(1), now));
    assert_eq!(try_lease(&pool, now).unwrap_err(), LeaseError::NoneConfigured);
    assert_eq!(pool.outlook(Usage::Chat, now), Some(LeaseError::NoneConfigured));
    assert!(pool.views(now).is_empty() && pool.sessions().is_empty());
}

#[test]
fn who_has_gone_is_neither_lent_nor_counted() {
    let now = start();
    let pool = pool(3, now);
    assert!(pool.remove(&key(2), now));
    assert_eq!(names(&pool), ["identity-1", "identity-3"]);
    assert_eq!((0..3).map(|_| next(&pool, now)).collect::<Vec<_>>().join(" "), "identity-1 identity-3 identity-1");
    assert_eq!(pool.try_lease(&wanted(&[1, 3], now), now).unwrap_err(), LeaseError::AllTried);
    assert_eq!(pool.try_lease(&wanted(&[1, 2, 3], now), now).unwrap_err(), LeaseError::AllTried);
    assert_eq!((pool.summary(now).total, pool.credential(&key(2))), (2, None));
    pool.set_credential(&key(2), CredentialState::Dead, now);
    assert_eq!(pool.facts(&key(2), now).dead_since, None, "no identity has that name");
}

#[test]
fn a_lease_outlives_its_identity_and_its_place_is_not_given_away() {
    let now = start();
    let pool = pool(1, now);
    let held = try_lease(&pool, now).unwrap();
    pool.remove(&key(1), now);
    assert_eq!(pool.summary(now).in_flight, 1);
    // Back again under the same name while the old lease goes on.
    let again = session(1);
    assert!(pool.add(Arc::clone(&again), now));
    for _ in 0..5 {
        held.report(FAULT, now);
    }
    held.finish(Outcome::Forbidden, now);
    assert_eq!(status(&pool, 1, now), HEALTHY, "what became of the old one is not held against the new one");
    assert_eq!(pool.summary(now).in_flight, 0);
    assert!(Arc::ptr_eq(&pool.sessions()[0], &again));
    // The first place is free by now.
    assert!(pool.add(session(2), now));
    assert_eq!(names(&pool), ["identity-2", "identity-1"]);
    assert_eq!(status(&pool, 2, now), HEALTHY);
    assert_eq!(next(&pool, now), "identity-1");
    assert_eq!(next(&pool, now), "identity-2");
}

#[test]
fn places_are_used_again() {
    let now = start();
    let pool = pool(1, now);
    for number in 2..100 {
        assert!(pool.add(session(number), now));
        assert!(pool.remove(&key(number), now));
    }
    pool.add(session(100), now);
    assert_eq!(names(&pool), ["identity-1", "identity-100"]);
    assert_eq!(next(&pool, now), "identity-1");
    assert_eq!(next(&pool, now), "identity-100");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_serves_those_who_wait() {
    let now = Now::read();
    let pool = pool_with(1, PoolSettings { in_flight_max: 1, ..settings() }, now);
    let held = try_lease(&pool, now).unwrap();
    let request = wanted(&[], now);
    let (lease, ()) = tokio::join!(pool.lease(&request), async {
        tokio::time::sleep(s(1)).await;
        pool.add(session(2), Now::read());
    });
    assert_eq!(lease.unwrap().identity(), &id(2));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_one_that_goes_are_told() {
    let now = Now::read();
    let pool = pool_with(1, PoolSettings { in_flight_max: 1, ..settings() }, now);
    let held = try_lease(&pool, now).unwrap();
    let request = wanted(&[], now);
    let (lease, ()) = tokio::join!(pool.lease(&request), async {
        tokio::time::sleep(s(1)).await;
        pool.remove(&key(1), Now::read());
    });
    assert_eq!(lease.unwrap_err(), LeaseError::NoneConfigured);
    held.finish(Outcome::Success, plus(now, s(2)));
}
