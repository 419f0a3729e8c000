//! What results do to the pool: rests, pauses, blame, early probes, credentials.

use crate::base::facts::{Cooling, CoolingReason, IdentityFacts, PerUsage, Usage};
use crate::pool::tests::{
    FAULT, HEALTHY, TRIPPED, die, id, key, lease_for, lease_of, only, own_fault, plus, pool, pool_with, s, settings,
    start, status, trip, try_lease, view, wanted,
};
use crate::pool::{CredentialState, IdentityReason, IdentityStatus, LeaseError, Now, Outcome};

const CHALLENGED: Outcome = Outcome::Challenged;
const LIMITED: Outcome = Outcome::RateLimited { retry_after: None };

/// An identity that rests from chats alone, or from everything when it was challenged.
fn resting(reason: CoolingReason) -> (IdentityStatus, Option<IdentityReason>) {
    let is_challenge = reason == CoolingReason::Challenge;
    let status = if is_challenge { IdentityStatus::Down } else { IdentityStatus::Degraded };
    (status, Some(IdentityReason::Resting(Usage::Chat, reason)))
}

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
fn rests_are_kept_and_written_down() {
    for (outcome, reason, length) in [
        (LIMITED, CoolingReason::Rate, 60),
        (Outcome::RateLimited { retry_after: Some(s(7)) }, CoolingReason::Rate, 7),
        (Outcome::Quota { rest: s(9000) }, CoolingReason::Quota, 9000),
        (CHALLENGED, CoolingReason::Challenge, 300),
    ] {
        let now = start();
        let pool = pool(2, now);
        lease_of(&pool, 1, now).finish(outcome, now);
        assert_eq!(status(&pool, 1, now), resting(reason));
        let cooling = Cooling { reason, until: now.unix.plus(length), set_at: now.unix };
        let every = PerUsage::of(|_| Some(cooling));
        let expected = if reason == CoolingReason::Challenge { every } else { only(Usage::Chat, cooling) };
        assert_eq!(view(&pool, 1, now).cooling, expected);
        assert_eq!(view(&pool, 1, now).next_at, Some(cooling.until));
        assert_eq!(view(&pool, 1, now).fails, 0, "no fault of the breaker");
        assert_eq!(pool.facts(&key(1)).cooling, expected);
        assert_eq!(pool.facts(&key(2)), IdentityFacts::default());
        let over = plus(now, s(u64::try_from(length).unwrap()));
        let last = plus(now, s(u64::try_from(length).unwrap()) - std::time::Duration::from_millis(1));
        assert!(pool.try_lease(&wanted(&[2], last), last).is_err());
        assert_eq!(status(&pool, 1, over), HEALTHY);
        assert_eq!(view(&pool, 1, over).cooling, PerUsage::default());
        lease_of(&pool, 1, over).finish(Outcome::Success, over);
        assert_eq!(pool.facts(&key(1)), IdentityFacts::default());
    }
}

#[test]
fn a_stream_of_before_the_rest_does_not_shorten_the_next() {
    let now = start();
    let pool = pool(1, now);
    let stream = lease_of(&pool, 1, now);
    lease_of(&pool, 1, now).finish(LIMITED, now);
    stream.finish(Outcome::Success, now);
    let later = plus(now, s(60));
    lease_of(&pool, 1, later).finish(LIMITED, later);
    assert_eq!(view(&pool, 1, later).next_at, Some(later.unix.plus(120)));
    let later = plus(later, s(120));
    lease_of(&pool, 1, later).finish(Outcome::Success, later);
    lease_of(&pool, 1, later).finish(LIMITED, later);
    assert_eq!(view(&pool, 1, later).next_at, Some(later.unix.plus(60)));
}

#[test]
fn two_challenged_together_pause_everything() {
    let now = start();
    let pool = pool(4, now);
    lease_of(&pool, 1, now).finish(CHALLENGED, now);
    assert!(try_lease(&pool, now).is_ok());
    lease_of(&pool, 2, now).finish(CHALLENGED, now);
    assert_eq!(pool.summary(now).paused_until, Some(now.unix.plus(60)));
    let paused = |retry_after| LeaseError::Paused { retry_after };
    assert_eq!(try_lease(&pool, now).unwrap_err(), paused(s(60)));
    let now = plus(now, s(60));
    assert_eq!(pool.summary(now).paused_until, None);
    let probe = try_lease(&pool, now).unwrap();
    assert!(probe.is_probe());
    assert_eq!(try_lease(&pool, now).unwrap_err(), paused(s(60)), "one probe");
    probe.finish(FAULT, now);
    let probe = try_lease(&pool, now).unwrap();
    assert!(probe.is_probe(), "the fault told nothing about the network");
    probe.finish(CHALLENGED, now);
    assert_eq!(try_lease(&pool, now).unwrap_err(), paused(s(120)));
    let now = plus(now, s(120));
    let probe = try_lease(&pool, now).unwrap();
    drop(probe);
    let probe = try_lease(&pool, now).unwrap();
    probe.first_content_at(now);
    let other = try_lease(&pool, now).unwrap();
    assert!(!other.is_probe());
    assert_eq!(pool.summary(now).paused_until, None);
}

#[test]
fn one_alone_challenged_again_and_again_pauses_nothing() {
    let mut now = start();
    let pool = pool(2, now);
    for minutes in [5, 15, 30, 60, 120, 120] {
        lease_of(&pool, 1, now).finish(CHALLENGED, now);
        assert_eq!(view(&pool, 1, now).next_at, Some(now.unix.plus(minutes * 60)));
        assert_eq!(*try_lease(&pool, now).unwrap().identity(), id(2));
        now = plus(now, s(u64::try_from(minutes * 60).unwrap()));
    }
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
    assert_eq!(pool.summary(now).healthy, 4, "nobody trips");
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

#[test]
fn a_rest_is_a_date_and_a_cooldown_is_not() {
    let now = start();
    for outcome in
        [Outcome::Quota { rest: s(13 * 3600) }, Outcome::RateLimited { retry_after: Some(s(3600)) }, CHALLENGED]
    {
        let pool = pool(1, now);
        lease_of(&pool, 1, now).finish(outcome, now);
        // The machine was suspended: the steady clock stood still.
        let woken = Now { unix: now.unix.plus(9 * 3600), ..plus(now, s(60)) };
        match outcome {
            Outcome::Quota { .. } => {
                let left = pool.outlook(Usage::Chat, woken).unwrap().retry_after();
                assert_eq!(left, Some(s(4 * 3600)), "not 13 hours more");
                let over = Now { unix: now.unix.plus(13 * 3600), ..plus(woken, s(1)) };
                assert_eq!(status(&pool, 1, over), HEALTHY);
                assert!(try_lease(&pool, over).is_ok());
            }
            _ => assert!(try_lease(&pool, woken).is_ok(), "{outcome:?}"),
        }
    }
    // A clock that steps back prolongs nothing.
    let single = pool(1, now);
    lease_of(&single, 1, now).finish(Outcome::Quota { rest: s(3600) }, now);
    let back = Now { unix: now.unix.plus(-7200), ..plus(now, s(3600)) };
    assert!(try_lease(&single, back).is_ok());
    // Faults count on the steady clock: nothing was learnt about the identity meanwhile.
    let single = pool(1, now);
    trip(&single, 1, now);
    let woken = Now { unix: now.unix.plus(9 * 3600), ..plus(now, s(1)) };
    assert_eq!(status(&single, 1, woken), TRIPPED);
    assert_eq!(single.outlook(Usage::Chat, woken).unwrap().retry_after(), Some(s(299)));
}

#[test]
fn a_refused_identity_is_looked_at_again_by_one_probe_and_later_each_time() {
    for (outcome, waits) in
        [(Outcome::TokenRefused, [5, 10, 20, 40, 80]), (Outcome::Forbidden, [60, 120, 240, 480, 960])]
    {
        let now = start();
        let pool = pool(2, now);
        let late = lease_of(&pool, 1, now);
        let mut at = now;
        for wait in waits {
            lease_of(&pool, 1, at).finish(outcome, at);
            assert_eq!(status(&pool, 1, at), (IdentityStatus::Down, Some(IdentityReason::Refused)));
            assert_eq!(view(&pool, 1, at).next_at, Some(at.unix.plus(wait)), "{outcome:?}");
            let almost = plus(at, s(u64::try_from(wait).unwrap()) - std::time::Duration::from_millis(1));
            assert!(pool.try_lease(&wanted(&[2], almost), almost).is_err());
            at = plus(at, s(u64::try_from(wait).unwrap()));
        }
        late.finish(outcome, at);
        let probe = lease_of(&pool, 1, at);
        assert!(probe.is_probe());
        assert!(pool.try_lease(&wanted(&[2], at), at).is_err(), "one probe");
        probe.first_content_at(at);
        probe.finish(Outcome::Success, at);
        assert_eq!(status(&pool, 1, at), HEALTHY);
        lease_of(&pool, 1, at).finish(outcome, at);
        assert_eq!(view(&pool, 1, at).next_at, Some(at.unix.plus(waits[0])), "a first one again");
        pool.trust(&key(1), at);
        assert_eq!(status(&pool, 1, at), HEALTHY, "its owner mended it");
    }
}

#[test]
fn one_refusal_of_requests_that_were_in_flight_together_counts_once() {
    let now = start();
    let pool = pool(2, now);
    let flying: Vec<_> = (0..4).map(|_| lease_of(&pool, 1, now)).collect();
    flying.into_iter().for_each(|lease| lease.finish(Outcome::TokenRefused, now));
    assert_eq!(view(&pool, 1, now).next_at, Some(now.unix.plus(5)));
    let due = plus(now, s(5));
    lease_of(&pool, 1, due).finish(Outcome::TokenRefused, due);
    assert_eq!(view(&pool, 1, due).next_at, Some(due.unix.plus(10)), "the second one");
}

#[test]
fn the_same_refusal_from_all_is_the_upstreams_and_waits_do_not_grow() {
    let now = start();
    let pool = pool(4, now);
    (1..=3).for_each(|number| lease_of(&pool, number, now).finish(Outcome::TokenRefused, now));
    assert!(pool.is_upstream_degraded(now));
    lease_of(&pool, 4, now).finish(Outcome::TokenRefused, now);
    let mut at = now;
    let mut sent = 0;
    for _ in 0..60 {
        at = plus(at, s(1));
        match try_lease(&pool, at) {
            Ok(probe) => {
                sent += 1;
                probe.finish(Outcome::TokenRefused, at);
            }
            Err(error) => assert!(error.retry_after().is_some_and(|wait| wait > s(0) && wait <= s(6)), "{error:?}"),
        }
    }
    assert!((11..=12).contains(&sent), "one probe in five seconds: {sent}");
    at = plus(at, s(5));
    try_lease(&pool, at).unwrap().finish(Outcome::Success, at);
    at = plus(at, s(10));
    for number in 1..=4 {
        lease_of(&pool, number, at).finish(Outcome::Success, at);
    }
    assert_eq!(pool.summary(at).healthy, 4);
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
        // What a probe proves frees the others.
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

#[test]
fn the_dead_are_left_alone_until_they_are_well_again() {
    let now = start();
    let pool = pool(2, now);
    die(&pool, 1, now);
    assert_eq!(status(&pool, 1, now), (IdentityStatus::Down, Some(IdentityReason::LoginNeeded)));
    assert_eq!(pool.credential(&key(1)), Some(CredentialState::Dead));
    let later = plus(now, s(90_000));
    pool.set_credential(&key(1), CredentialState::Dead, later);
    let facts = IdentityFacts { cooling: PerUsage::default(), dead_since: Some(now.unix) };
    assert_eq!(pool.facts(&key(1)), facts, "the first date stays");
    assert_eq!(view(&pool, 1, later).dead_since, Some(now.unix));
    assert_eq!(view(&pool, 1, later).next_at, None);
    for _ in 0..3 {
        assert_eq!(*try_lease(&pool, later).unwrap().identity(), id(2));
    }
    pool.set_credential(&key(1), CredentialState::Ready, later);
    assert_eq!(status(&pool, 1, later), HEALTHY);
    assert_eq!(pool.facts(&key(1)), IdentityFacts::default());
    assert_eq!(pool.credential(&key(9)), None);
}

#[test]
fn a_refused_token_puts_its_identity_behind_the_others() {
    let now = start();
    let pool = pool(2, now);
    let late = lease_of(&pool, 1, now);
    let lease = lease_of(&pool, 1, now);
    lease.report(Outcome::Unauthorized, now);
    let missing = CredentialState::Missing { retry_at: now.instant };
    assert_eq!(pool.credential(&key(1)), Some(missing));
    assert_eq!(status(&pool, 1, now), (IdentityStatus::Degraded, Some(IdentityReason::TokenMissing)));
    let token = lease.session().token().unwrap();
    lease.session().install_token(token);
    pool.set_credential(&key(1), CredentialState::Ready, now);
    late.report(Outcome::Unauthorized, now);
    assert_eq!(pool.credential(&key(1)), Some(CredentialState::Ready), "that token is gone");
    lease_of(&pool, 1, now).finish(Outcome::Unauthorized, now);
    assert_eq!(pool.credential(&key(1)), Some(missing));
    die(&pool, 2, now);
    die(&pool, 1, now);
    let late = late.session().key().clone();
    assert_eq!(pool.credential(&late), Some(CredentialState::Dead));
}

#[test]
fn facts_survive_a_restart() {
    let now = start();
    let pool_before = pool(4, now);
    lease_of(&pool_before, 1, now).finish(Outcome::Quota { rest: s(3600) }, now);
    die(&pool_before, 2, now);
    lease_for(Usage::Video, &pool_before, 3, now).finish(Outcome::Quota { rest: s(7200) }, now);
    lease_of(&pool_before, 3, now).finish(Outcome::RateLimited { retry_after: Some(s(900)) }, now);
    lease_for(Usage::Image, &pool_before, 4, now).finish(Outcome::RateLimited { retry_after: Some(s(3600)) }, now);
    lease_of(&pool_before, 4, now).finish(Outcome::Quota { rest: s(5) }, now);
    pool_before.reset(&key(4), now);
    lease_of(&pool_before, 4, now).finish(CHALLENGED, now);
    let later = plus(now, s(200));
    let pool_after = pool(4, later);
    for session in pool_before.sessions() {
        let facts = pool_before.facts(session.key());
        pool_after.restore(session.key(), facts, later);
    }
    for number in 1..=4 {
        let mut expected = view(&pool_before, number, later);
        for usage in Usage::ALL {
            if let Some(cooling) = expected.cooling.get_mut(usage) {
                cooling.set_at = later.unix;
            }
        }
        assert_eq!(view(&pool_after, number, later), expected);
    }
    let until = |number: usize| {
        let cooling = view(&pool_after, number, later).cooling;
        Usage::ASKED.map(|usage| cooling.get(usage).map(|cooling| cooling.until.seconds_since(now.unix)))
    };
    assert_eq!(until(1), [Some(3600), None, None]);
    assert_eq!(until(2), [None; 3]);
    assert_eq!(until(3), [Some(900), None, Some(7200)]);
    assert_eq!(until(4), [Some(300); 3]);
}

#[test]
fn a_reset_ends_rest_and_cooldown() {
    let now = start();
    let pool = pool(2, now);
    trip(&pool, 1, now);
    pool.reset(&key(1), now);
    assert_eq!(status(&pool, 1, now), HEALTHY);
    let late = lease_of(&pool, 1, now);
    lease_of(&pool, 1, now).finish(LIMITED, now);
    pool.reset(&key(1), now);
    pool.reset(&key(9), now);
    assert_eq!(status(&pool, 1, now), HEALTHY);
    assert!(!lease_of(&pool, 1, now).is_probe());
    late.finish(FAULT, now);
    assert_eq!(view(&pool, 1, now).fails, 0, "a lease of before");
}
