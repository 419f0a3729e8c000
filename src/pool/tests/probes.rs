//! Probes of identities that fail: how many, when, and what becomes of them.

use crate::pool::tests::{
    CHALLENGED, FAULT, HEALTHY, LIMITED, TRIPPED, die, id, key, lease_of, own_fault, plus, pool, pool_with, s,
    settings, start, status, trip, try_lease, view, wanted,
};
use crate::pool::{CredentialState, LeaseError, Outcome};

#[test]
fn a_probe_of_facts_gives_its_slot_back_and_rests() {
    for outcome in [
        Outcome::Neutral,
        Outcome::RateLimited { retry_after: Some(s(40)) },
        Outcome::Quota { rest: s(40) },
        CHALLENGED,
        Outcome::Unauthorized,
    ] {
        let now = start();
        let pool = pool(1, now);
        trip(&pool, 1, now);
        let due = plus(now, s(300));
        try_lease(&pool, due).unwrap().finish(outcome, due);
        let rested = if outcome == Outcome::Neutral { due } else { plus(due, s(300)) };
        let again = try_lease(&pool, rested).unwrap();
        assert!(again.is_probe(), "{outcome:?}");
        again.finish(FAULT, rested);
        let next_at = view(&pool, 1, rested).next_at;
        assert_eq!(next_at, Some(rested.unix.plus(600)), "{outcome:?} was no trip");
    }
}

#[test]
fn a_probe_that_is_dropped_frees_its_slot() {
    let now = start();
    let pool = pool(1, now);
    trip(&pool, 1, now);
    let due = plus(now, s(300));
    drop(try_lease(&pool, due).unwrap());
    assert_eq!(view(&pool, 1, due).in_flight, 0);
    assert!(try_lease(&pool, due).unwrap().is_probe());
}

#[test]
fn a_report_on_the_way_keeps_the_probe() {
    let now = start();
    let pool = pool(1, now);
    trip(&pool, 1, now);
    let due = plus(now, s(300));
    let probe = try_lease(&pool, due).unwrap();
    probe.report(Outcome::Unauthorized, due);
    assert_eq!(view(&pool, 1, due).in_flight, 1);
    pool.set_credential(&key(1), CredentialState::Ready, due);
    assert!(try_lease(&pool, due).is_err(), "still one probe");
    probe.report(Outcome::Success, due);
    assert_eq!(status(&pool, 1, due), HEALTHY);
    probe.finish(FAULT, due);
    assert_eq!(view(&pool, 1, due).fails, 1, "the lease was tagged anew");
}

#[test]
fn a_probe_fails_without_harm_while_the_upstream_is_blamed() {
    let now = start();
    let pool = pool(2, now);
    trip(&pool, 1, now);
    let due = plus(now, s(300));
    lease_of(&pool, 2, due).finish(FAULT, due);
    let probe = lease_of(&pool, 1, due);
    assert!(probe.is_probe());
    probe.finish(FAULT, due);
    assert!(pool.is_upstream_degraded(due));
    assert_eq!(view(&pool, 1, due).next_at, Some(due.unix.plus(5)), "no longer cooldown");
    assert!(pool.try_lease(&wanted(&[2], due), due).is_err());
    let later = plus(due, s(5));
    assert!(lease_of(&pool, 1, later).is_probe());
}

#[test]
fn early_probes_are_rare_and_take_turns() {
    let now = start();
    let pool = pool(3, now);
    for number in 1..=3 {
        trip(&pool, number, now);
    }
    let mut order = Vec::new();
    for round in 0..6 {
        let at = plus(now, s(5 * round));
        let probe = try_lease(&pool, at).unwrap();
        assert!(probe.is_probe());
        order.push(probe.identity().clone());
        let number = (usize::try_from(round).unwrap() % 3) + 1;
        assert!(matches!(
            try_lease(&pool, at).unwrap_err(),
            LeaseError::Unusable { retry_after: Some(_), needs_login: false }
        ));
        let almost = plus(at, std::time::Duration::from_millis(4999));
        probe.finish(own_fault(number), almost);
        assert!(try_lease(&pool, almost).is_err());
    }
    assert_eq!(order, [id(1), id(2), id(3), id(1), id(2), id(3)]);
    let at = plus(now, s(40));
    let probe = try_lease(&pool, at).unwrap();
    probe.finish(Outcome::Success, at);
    assert_eq!(status(&pool, 1, at), HEALTHY);
    assert!(!try_lease(&pool, at).unwrap().is_probe());
}

#[test]
fn while_the_upstream_is_blamed_one_probe_goes_out_in_five_seconds() {
    // Cooldowns that are over, and cooldowns that are not: the pool sends one probe either way.
    for cooldown in [s(1), s(3600)] {
        let now = start();
        let pool = pool_with(4, crate::pool::PoolSettings { cooldown_base: cooldown, ..settings() }, now);
        (1..=4).for_each(|number| trip(&pool, number, now));
        let mut at = plus(now, s(2));
        // Each probe fails alike; the third one shows that it is the upstream.
        for _ in 0..3 {
            try_lease(&pool, at).unwrap().finish(FAULT, at);
            at = plus(at, s(5));
        }
        assert!(pool.is_upstream_degraded(at));
        let mut sent = 0;
        for _ in 0..40 {
            match try_lease(&pool, at) {
                Ok(probe) => {
                    assert!(probe.is_probe());
                    assert!(try_lease(&pool, at).is_err(), "no second one beside it");
                    probe.finish(FAULT, at);
                    sent += 1;
                }
                Err(LeaseError::Unusable { retry_after: Some(wait), needs_login: false }) => {
                    assert!(wait > s(0) && wait <= s(5), "{wait:?}");
                }
                Err(error) => panic!("{error:?}"),
            }
            at = plus(at, s(1));
        }
        assert_eq!(sent, 8, "in 40 seconds, {cooldown:?}");
        // A successful probe frees the others.
        at = plus(at, s(5));
        let probe = try_lease(&pool, at).unwrap();
        probe.first_content_at(at);
        probe.finish(Outcome::Success, at);
        assert!(!pool.is_upstream_degraded(at));
        assert!(try_lease(&pool, at).is_ok());
    }
}

#[test]
fn early_probes_spare_the_dead_the_resting_and_the_challenged() {
    let now = start();
    for outcome in [LIMITED, CHALLENGED, Outcome::Quota { rest: s(9) }] {
        let pool = pool(1, now);
        let late = lease_of(&pool, 1, now);
        trip(&pool, 1, now);
        late.finish(outcome, now);
        assert!(try_lease(&pool, now).is_err(), "{outcome:?}");
    }
    for outcome in [Outcome::Forbidden, Outcome::TokenRefused] {
        let pool = pool(1, now);
        lease_of(&pool, 1, now).finish(outcome, now);
        assert!(try_lease(&pool, now).is_err(), "{outcome:?}");
    }
    let dead = pool(1, now);
    trip(&dead, 1, now);
    die(&dead, 1, now);
    assert!(try_lease(&dead, now).is_err());
    let single = pool(1, now);
    trip(&single, 1, now);
    let retry_at = now.instant + s(9);
    single.set_credential(&key(1), CredentialState::Missing { retry_at }, now);
    assert!(try_lease(&single, now).is_err(), "no token");
    let later = plus(now, s(9));
    assert!(try_lease(&single, later).unwrap().is_probe());
}

#[test]
fn no_early_probe_while_somebody_is_well() {
    let now = start();
    let mut tight = settings();
    tight.in_flight_max = 1;
    let pool = pool_with(2, tight, now);
    trip(&pool, 1, now);
    assert!(matches!(pool.try_lease(&wanted(&[2], now), now).unwrap_err(), LeaseError::Unusable { .. }));
    let _busy = lease_of(&pool, 2, now);
    assert!(matches!(try_lease(&pool, now).unwrap_err(), LeaseError::Busy { .. }));
}

#[test]
fn an_early_probe_needs_a_free_slot() {
    let now = start();
    let pool = pool(1, now);
    let _streams: Vec<_> = (0..3).map(|_| lease_of(&pool, 1, now)).collect();
    trip(&pool, 1, now);
    let _probe = try_lease(&pool, now).unwrap();
    let later = plus(now, s(60));
    assert_eq!(status(&pool, 1, later), TRIPPED, "the probe is lost");
    assert!(try_lease(&pool, later).is_err(), "four are in flight");
}
