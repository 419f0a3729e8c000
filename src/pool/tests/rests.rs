//! Rests and pauses: what begins them, how long they last, what ends them.

use crate::base::facts::{Cooling, CoolingReason, IdentityFacts, OpenBreaker, PerUsage, Usage};
use crate::base::ids::UnixSeconds;
use crate::pool::tests::{
    CHALLENGED, FAULT, HEALTHY, LIMITED, TRIPPED, die, id, key, lease_for, lease_of, only, own_fault, plus, pool, s,
    start, status, trip, try_lease, view, wanted,
};
use crate::pool::{IdentityPool, IdentityReason, IdentityStatus, LeaseError, Now, Outcome};

/// An identity that rests from chats alone, or from everything when it was challenged.
fn resting(reason: CoolingReason) -> (IdentityStatus, Option<IdentityReason>) {
    let is_challenge = reason == CoolingReason::Challenge;
    let status = if is_challenge { IdentityStatus::Down } else { IdentityStatus::Degraded };
    (status, Some(IdentityReason::Resting(Usage::Chat, reason)))
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
        let strikes = u32::from(matches!(length, 60 | 300));
        let cooling = Cooling { reason, until: now.unix.plus(length), set_at: now.unix, strikes };
        let every = PerUsage::of(|_| Some(cooling));
        let expected = if reason == CoolingReason::Challenge { every } else { only(Usage::Chat, cooling) };
        assert_eq!(view(&pool, 1, now).cooling, expected);
        assert_eq!(view(&pool, 1, now).next_at, Some(cooling.until));
        assert_eq!(view(&pool, 1, now).fails, 0, "no fault of the breaker");
        assert_eq!(pool.facts(&key(1), now).cooling, expected);
        assert_eq!(pool.facts(&key(2), now), IdentityFacts::default());
        let over = plus(now, s(u64::try_from(length).unwrap()));
        let last = plus(now, s(u64::try_from(length).unwrap()) - std::time::Duration::from_millis(1));
        assert!(pool.try_lease(&wanted(&[2], last), last).is_err());
        assert_eq!(status(&pool, 1, over), HEALTHY);
        assert_eq!(view(&pool, 1, over).cooling, PerUsage::default());
        lease_of(&pool, 1, over).finish(Outcome::Success, over);
        assert_eq!(pool.facts(&key(1), over), IdentityFacts::default());
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
        let facts = pool_before.facts(session.key(), later);
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

/// The facts of another pool after a restart at this moment.
fn restarted(before: &IdentityPool, killed: Now, started: Now) -> IdentityPool {
    let after = pool(before.sessions().len(), started);
    for session in before.sessions() {
        after.restore(session.key(), before.facts(session.key(), killed), started);
    }
    after
}

#[test]
fn a_parked_identity_stays_parked_over_a_restart_until_its_time() {
    let now = start();
    let refused = (IdentityStatus::Down, Some(IdentityReason::Refused));
    for (outcome, expected, length, next) in [(None, TRIPPED, 300, 600), (Some(Outcome::Forbidden), refused, 60, 120)] {
        let pool = pool(2, now);
        match outcome {
            None => trip(&pool, 1, now),
            Some(outcome) => lease_of(&pool, 1, now).finish(outcome, now),
        }
        let killed = plus(now, s(10));
        let last = plus(now, s(length - 1));
        let after = restarted(&pool, killed, last);
        assert_eq!(status(&after, 1, last), expected);
        assert_eq!(view(&after, 1, last).next_at, Some(now.unix.plus(i64::try_from(length).unwrap())));
        // The count goes on where it was.
        let over = plus(last, s(1));
        let probe = lease_of(&after, 1, over);
        assert!(probe.is_probe());
        assert_eq!(after.facts(&key(1), over), IdentityFacts::default(), "a probe tells soon");
        probe.finish(outcome.unwrap_or(own_fault(1)), over);
        assert_eq!(view(&after, 1, over).next_at, Some(over.unix.plus(next)));
        // After the end of its time it starts without a fault.
        for started in [over, plus(over, s(90_000))] {
            let after = restarted(&pool, killed, started);
            assert_eq!(status(&after, 1, started), HEALTHY);
            assert!(!lease_of(&after, 1, started).is_probe());
        }
        // A clock that stepped back while the server was away prolongs nothing.
        let back = Now { unix: now.unix.plus(-90_000), ..killed };
        let after = restarted(&pool, killed, back);
        let left = view(&after, 1, back).next_at.unwrap().seconds_since(back.unix);
        assert_eq!(left, length - 10);
    }
}

#[test]
fn the_next_cooldown_is_as_long_as_it_would_be_without_a_restart() {
    let now = start();
    let next_of = |after: &IdentityPool, at: Now| view(after, 1, at).next_at.unwrap().seconds_since(at.unix);
    // Open when the process ended, and over at the start, for however long.
    for late in [0, 1, 90_000] {
        let pool = pool(2, now);
        trip(&pool, 1, now);
        let at = plus(now, s(300 + late));
        let after = restarted(&pool, plus(now, s(10)), at);
        let after = restarted(&after, at, at);
        trip(&after, 1, at);
        assert_eq!(next_of(&after, at), 600, "{late}");
        let after = restarted(&pool, at, at);
        trip(&after, 1, at);
        assert_eq!(next_of(&after, at), 600, "over before the process ended, {late}");
    }
    // Closed by a probe: remembered until it was calm for ten minutes.
    let pool = pool(2, now);
    trip(&pool, 1, now);
    let proved = plus(now, s(300));
    lease_of(&pool, 1, proved).finish(Outcome::Success, proved);
    for (calm, next) in [(0, 600), (599, 600), (600, 300), (90_000, 300)] {
        let at = plus(proved, s(calm));
        for after in [restarted(&pool, plus(proved, s(calm.min(599))), at), restarted(&pool, at, at)] {
            assert_eq!(status(&after, 1, at), HEALTHY);
            trip(&after, 1, at);
            assert_eq!(next_of(&after, at), next, "{calm}");
        }
    }
}

#[test]
fn the_next_wait_after_a_refusal_is_as_long_as_it_would_be_without_a_restart() {
    let now = start();
    let pool = pool(2, now);
    lease_of(&pool, 1, now).finish(Outcome::Forbidden, now);
    for late in [0, 90_000] {
        let at = plus(now, s(60 + late));
        let after = restarted(&pool, plus(now, s(10)), at);
        let after = restarted(&after, at, at);
        lease_of(&after, 1, at).finish(Outcome::Forbidden, at);
        assert_eq!(view(&after, 1, at).next_at, Some(at.unix.plus(120)), "{late}");
        // A success is a new beginning.
        let after = restarted(&pool, plus(now, s(10)), at);
        lease_of(&after, 1, at).finish(Outcome::Success, at);
        assert_eq!(after.facts(&key(1), at), IdentityFacts::default());
        lease_of(&after, 1, at).finish(Outcome::Forbidden, at);
        assert_eq!(view(&after, 1, at).next_at, Some(at.unix.plus(60)), "{late}");
    }
}

#[test]
fn the_next_rest_is_as_long_as_it_would_be_without_a_restart() {
    let now = start();
    for (outcome, waits) in [(LIMITED, [60, 120, 240]), (CHALLENGED, [300, 900, 1800])] {
        for late in [0, 90_000] {
            let mut pool = pool(2, now);
            let mut at = now;
            for wait in waits {
                lease_of(&pool, 1, at).finish(outcome, at);
                assert_eq!(view(&pool, 1, at).next_at, Some(at.unix.plus(wait)), "{outcome:?}");
                let killed = at;
                at = plus(at, s(late) + s(wait.unsigned_abs()));
                pool = restarted(&pool, killed, at);
                assert_eq!(status(&pool, 1, at), HEALTHY);
                pool = restarted(&pool, at, at);
            }
            lease_of(&pool, 1, at).finish(Outcome::Success, at);
            let after = restarted(&pool, at, at);
            lease_of(&after, 1, at).finish(outcome, at);
            assert_eq!(view(&after, 1, at).next_at, Some(at.unix.plus(waits[0])), "a success is a new beginning");
        }
    }
}

#[test]
fn a_spoilt_file_parks_for_no_longer_than_the_longest_cooldown() {
    let now = start();
    let pool = pool(1, now);
    let (until, set_at) = (UnixSeconds(i64::MAX), UnixSeconds(i64::MIN));
    let breaker = OpenBreaker { until, set_at, trips: u32::MAX, refusals: u32::MAX, is_refused: false };
    pool.restore(&key(1), IdentityFacts { breaker: Some(breaker), ..IdentityFacts::default() }, now);
    assert_eq!(status(&pool, 1, now), TRIPPED);
    assert_eq!(view(&pool, 1, now).next_at, Some(now.unix.plus(3960)), "an hour, with the most jitter");
    let over = plus(now, s(3960));
    lease_of(&pool, 1, over).finish(own_fault(1), over);
    assert_eq!(view(&pool, 1, over).next_at, Some(over.unix.plus(3600)));
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

#[test]
fn nothing_is_sent_for_a_challenged_identity_and_for_any_while_all_are_paused() {
    let now = start();
    let pool = pool(3, now);
    let silent = |number, now: Now| pool.silent_until(&key(number), now).map(|until| until - now.instant);
    // Other rests keep from requests of their kind alone, and that of the owner is not the upstream's wish.
    lease_of(&pool, 1, now).finish(LIMITED, now);
    pool.rest(&key(1), s(9), now);
    assert_eq!(silent(1, now), None);
    pool.challenged(&key(1), now);
    assert_eq!(status(&pool, 1, now), resting(CoolingReason::Challenge));
    assert_eq!((silent(1, now), silent(2, now)), (Some(s(300)), None));
    pool.rest(&key(1), s(400), now);
    assert_eq!(silent(1, now), Some(s(400)), "the owner prolonged it");
    pool.challenged(&key(2), now);
    assert_eq!((silent(2, now), silent(3, now), silent(7, now)), (Some(s(300)), Some(s(60)), Some(s(60))));
    let now = plus(now, s(60));
    assert_eq!((silent(2, now), silent(3, now)), (Some(s(240)), None));
    pool.reset(&key(2), now);
    assert_eq!(silent(2, now), None);
}
