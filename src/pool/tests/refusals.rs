//! Credentials that the upstream refuses.

use crate::base::facts::IdentityFacts;
use crate::pool::tests::{HEALTHY, die, id, key, lease_of, plus, pool, s, start, status, try_lease, view, wanted};
use crate::pool::{CredentialState, IdentityReason, IdentityStatus, Outcome};

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
fn the_dead_are_left_alone_until_they_are_well_again() {
    let now = start();
    let pool = pool(2, now);
    die(&pool, 1, now);
    assert_eq!(status(&pool, 1, now), (IdentityStatus::Down, Some(IdentityReason::LoginNeeded)));
    assert_eq!(pool.credential(&key(1)), Some(CredentialState::Dead));
    let later = plus(now, s(90_000));
    pool.set_credential(&key(1), CredentialState::Dead, later);
    let facts = IdentityFacts { dead_since: Some(now.unix), ..IdentityFacts::default() };
    assert_eq!(pool.facts(&key(1), later), facts, "the first date stays");
    assert_eq!(view(&pool, 1, later).dead_since, Some(now.unix));
    assert_eq!(view(&pool, 1, later).next_at, None);
    for _ in 0..3 {
        assert_eq!(*try_lease(&pool, later).unwrap().identity(), id(2));
    }
    pool.set_credential(&key(1), CredentialState::Ready, later);
    assert_eq!(status(&pool, 1, later), HEALTHY);
    assert_eq!(pool.facts(&key(1), now), IdentityFacts::default());
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
