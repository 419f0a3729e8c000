//! Effects of results on the pool: rests, pauses, blame, early probes, credentials.

use crate::base::facts::{CoolingReason, Usage};
use crate::pool::tests::{
    FAULT, HEALTHY, TRIPPED, die, id, lease_of, plus, pool, s, start, status, trip, try_lease, view,
};
use crate::pool::{IdentityReason, IdentityStatus, Outcome};

#[test]
fn failures_degrade_then_trip_and_a_probe_revives() {
    let now = start();
    let pool = pool(2, now);
    for fails in 1..=4 {
        lease_of(&pool, 1, now).finish(FAULT, now);
        let expected = if fails < 3 { HEALTHY } else { (IdentityStatus::Degraded, Some(IdentityReason::Failing)) };
        assert_eq!(status(&pool, 1, now), expected);
        assert_eq!(view(&pool, 1, now).fails, fails);
        assert_eq!(view(&pool, 1, now).next_at, None);
    }
    lease_of(&pool, 1, now).finish(FAULT, now);
    assert_eq!(status(&pool, 1, now), TRIPPED);
    assert_eq!(view(&pool, 1, now).next_at, Some(now.unix.plus(300)));
    assert_eq!(status(&pool, 2, now), HEALTHY);
    for _ in 0..3 {
        assert_eq!(*try_lease(&pool, now).unwrap().identity(), id(2));
    }
    let due = plus(now, s(300));
    assert_eq!(status(&pool, 1, due), TRIPPED, "until it has proven itself");
    assert_eq!(view(&pool, 1, due).next_at, None);
    let probe = try_lease(&pool, due).unwrap();
    assert_eq!((probe.identity(), probe.is_probe()), (&id(1), true));
    assert_eq!(status(&pool, 1, due), (IdentityStatus::Down, Some(IdentityReason::Probing)));
    assert_eq!(view(&pool, 1, due).next_at, Some(due.unix.plus(60)));
    let other = try_lease(&pool, due).unwrap();
    assert_eq!((other.identity(), other.is_probe()), (&id(2), false));
    probe.first_content_at(due);
    assert_eq!(status(&pool, 1, due), HEALTHY);
    probe.finish(FAULT, due);
    assert_eq!(view(&pool, 1, due).fails, 1, "an ordinary failure by then");
    assert_eq!(status(&pool, 1, due), HEALTHY);
}

#[test]
fn first_content_of_others_moves_nothing() {
    let now = start();
    let pool = pool(1, now);
    lease_of(&pool, 1, now).finish(FAULT, now);
    let lease = lease_of(&pool, 1, now);
    lease.first_content_at(now);
    assert_eq!(view(&pool, 1, now).fails, 1);
    lease.finish(Outcome::Success, now);
    assert_eq!(view(&pool, 1, now).fails, 0);
}

#[test]
fn late_results_count_as_facts_but_not_in_the_breaker() {
    let now = start();
    let pool = pool(2, now);
    let late: Vec<_> = (0..3).map(|_| lease_of(&pool, 1, now)).collect();
    trip(&pool, 1, now);
    let before = view(&pool, 1, now);
    let mut late = late.into_iter();
    late.next().unwrap().finish(Outcome::Success, now);
    late.next().unwrap().finish(FAULT, now);
    let after = view(&pool, 1, now);
    assert_eq!((after.status, after.next_at), (before.status, before.next_at));
    late.next().unwrap().finish(Outcome::Quota { rest: s(7200) }, now);
    let reason = IdentityReason::Resting(Usage::Chat, CoolingReason::Quota);
    assert_eq!(status(&pool, 1, now), (IdentityStatus::Down, Some(reason)), "tripped, and resting for longer");
    assert_eq!(view(&pool, 1, now).next_at, Some(now.unix.plus(7200)));
}

#[test]
fn a_bad_share_trips_one_while_the_rest_is_well() {
    let now = start();
    let pool = pool(2, now);
    for round in 0..10 {
        lease_of(&pool, 1, now).finish(FAULT, now);
        if round < 9 {
            lease_of(&pool, 1, now).finish(Outcome::Success, now);
        }
        lease_of(&pool, 2, now).finish(Outcome::Success, now);
    }
    assert_eq!(status(&pool, 1, now), HEALTHY);
    lease_of(&pool, 1, now).finish(FAULT, now);
    assert_eq!(status(&pool, 1, now), TRIPPED, "11 of 20 failed");
}

#[test]
fn a_bad_share_trips_nobody_when_all_are_alike() {
    let now = start();
    let pool = pool(2, now);
    for _ in 0..30 {
        for number in [1, 2] {
            lease_of(&pool, number, now).finish(FAULT, now);
            lease_of(&pool, number, now).finish(FAULT, now);
            lease_of(&pool, number, now).finish(Outcome::Success, now);
        }
    }
    assert_eq!(status(&pool, 1, now), HEALTHY);
    assert_eq!(status(&pool, 2, now), HEALTHY);
}

#[test]
fn the_same_fault_from_all_is_blamed_on_the_upstream() {
    let now = start();
    let pool = pool(4, now);
    for number in [1, 2] {
        lease_of(&pool, number, now).finish(FAULT, now);
        assert!(!pool.is_upstream_degraded(now));
    }
    for _ in 0..20 {
        lease_of(&pool, 3, now).finish(FAULT, now);
    }
    assert!(pool.is_upstream_degraded(now));
    assert!(pool.summary(now).upstream_degraded);
    assert_eq!(pool.summary(now).healthy, 4, "no breaker opens");
    assert_eq!(view(&pool, 3, now).fails, 0);
    assert_eq!(view(&pool, 1, now).fails, 1);
    let quiet = plus(now, s(120));
    assert!(!pool.is_upstream_degraded(quiet));
    lease_of(&pool, 4, now).finish(Outcome::Success, now);
    assert!(!pool.is_upstream_degraded(now));
    lease_of(&pool, 3, now).finish(FAULT, now);
    assert_eq!(view(&pool, 3, now).fails, 1, "counting goes on");
}

#[test]
fn those_who_rest_are_not_counted_and_one_alone_is_never_excused() {
    let now = start();
    let both = pool(3, now);
    die(&both, 3, now);
    lease_of(&both, 1, now).finish(FAULT, now);
    lease_of(&both, 2, now).finish(FAULT, now);
    assert!(both.is_upstream_degraded(now), "both that are left");
    let single = pool(1, now);
    trip(&single, 1, now);
    assert!(!single.is_upstream_degraded(now));
}
