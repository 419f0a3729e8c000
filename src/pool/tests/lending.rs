//! Which identity is lent, and the reasons for refusals.

use std::sync::Arc;

use crate::base::facts::{CoolingReason, Usage};
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::secret::Cookie;
use crate::base::session::Session;
use crate::pool::tests::{
    FAULT, HEALTHY, die, id, key, lease_of, plus, pool, pool_with, s, session, settings, start, status, trip,
    try_lease, view, wanted,
};
use crate::pool::{
    CredentialState, IdentityPool, IdentityReason, IdentityStatus, LeaseError, Now, Outcome, PoolSettings, Wanted,
};

fn refused(pool: &IdentityPool, now: Now) -> LeaseError {
    try_lease(pool, now).unwrap_err()
}

#[test]
fn one_at_a_time_is_exact_round_robin() {
    let now = start();
    let pool = pool(3, now);
    let order: Vec<_> = (0..9)
        .map(|_| {
            let lease = try_lease(&pool, now).unwrap();
            let identity = lease.identity().clone();
            assert_eq!(lease.session().identity(), &identity);
            lease.finish(Outcome::Success, now);
            identity
        })
        .collect();
    let round = [id(1), id(2), id(3)];
    assert_eq!(order.chunks(3).filter(|chunk| **chunk == round).count(), 3);
}

#[test]
fn long_streams_go_to_the_least_busy() {
    let now = start();
    let pool = pool(3, now);
    let mut held: Vec<_> = (0..12).map(|_| try_lease(&pool, now).unwrap()).collect();
    assert!(matches!(refused(&pool, now), LeaseError::Busy { .. }));
    assert_eq!(pool.summary(now).in_flight, 12);
    assert!((1..=3).all(|number| view(&pool, number, now).in_flight == 4));
    held.retain(|lease| *lease.identity() != id(2));
    assert_eq!(*try_lease(&pool, now).unwrap().identity(), id(2));
}

#[test]
fn the_preferred_identity_is_lent_whenever_it_can_be() {
    let now = start();
    let pool = pool(3, now);
    let prefers = |number: usize, tried: &[usize]| {
        pool.try_lease(&Wanted { preferred: Some(key(number)), ..wanted(tried, now) }, now).map(|lease| {
            let identity = lease.identity().clone();
            lease.finish(Outcome::Success, now);
            identity
        })
    };
    assert_eq!(prefers(3, &[]).unwrap(), id(3));
    assert_eq!(prefers(3, &[]).unwrap(), id(3), "out of turn");
    assert_eq!(prefers(9, &[]).unwrap(), id(1), "one that is not there");
    assert_eq!(prefers(3, &[3]).unwrap(), id(2), "a retry goes elsewhere");
    let held: Vec<_> = (0..4).map(|_| lease_of(&pool, 3, now)).collect();
    assert_eq!(prefers(3, &[]).unwrap(), id(1), "not waited for");
    drop(held);
    trip(&pool, 3, now);
    assert_eq!(prefers(3, &[]).unwrap(), id(2), "one that is down");
}

#[test]
fn a_retry_goes_to_others_and_prefers_the_healthy() {
    let now = start();
    let pool = pool(3, now);
    for _ in 0..3 {
        lease_of(&pool, 1, now).finish(FAULT, now);
    }
    lease_of(&pool, 2, now).finish(Outcome::Success, now);
    lease_of(&pool, 3, now).finish(Outcome::Success, now);
    assert_eq!(*try_lease(&pool, now).unwrap().identity(), id(1), "its turn");
    let retry = |tried: &[usize]| pool.try_lease(&wanted(tried, now), now);
    assert_eq!(*retry(&[2]).unwrap().identity(), id(3));
    assert_eq!(*retry(&[2, 3]).unwrap().identity(), id(1));
    assert_eq!(retry(&[1, 2, 3, 3]).unwrap_err(), LeaseError::AllTried);
    assert_eq!(*retry(&[1, 2, 1]).unwrap().identity(), id(3), "each counts once");
    assert!(retry(&[7, 8, 9]).is_ok(), "strangers do not count");
}

#[test]
fn an_empty_pool_says_so() {
    let now = start();
    assert_eq!(refused(&pool(0, now), now), LeaseError::NoneConfigured);
    assert_eq!(pool(0, now).summary(now).total, 0);
}

#[test]
fn without_token_they_come_last_and_in_their_time() {
    let now = start();
    let cookie = Cookie::parse("token=x; cna=1").unwrap();
    let bare = Session::new(id(2), cookie.key(), Some(&cookie), None);
    let sessions = vec![session(1), Arc::new(bare)];
    let pool = IdentityPool::with_jitter(sessions, settings(), || 0.0, now);
    assert_eq!(pool.credential(&key(1)), Some(CredentialState::Ready));
    let missing = |retry_at| CredentialState::Missing { retry_at };
    assert_eq!(pool.credential(&cookie.key()), Some(missing(now.instant)));
    let held: Vec<_> = (0..4)
        .map(|_| {
            let lease = try_lease(&pool, now).unwrap();
            assert_eq!(*lease.identity(), id(1));
            lease
        })
        .collect();
    assert!(matches!(refused(&pool, now), LeaseError::Busy { .. }), "one with a token will soon be free");
    pool.set_credential(&key(1), CredentialState::Dead, now);
    assert_eq!(*try_lease(&pool, now).unwrap().identity(), id(2));
    pool.set_credential(&cookie.key(), missing(now.instant + s(30)), now);
    assert!(matches!(refused(&pool, now), LeaseError::Unusable { .. }));
    let expected = (IdentityStatus::Degraded, Some(IdentityReason::TokenMissing));
    assert_eq!(status(&pool, 2, now), expected);
    assert_eq!(view(&pool, 2, now).next_at, Some(now.unix.plus(30)));
    assert_eq!(pool.summary(now).degraded, 1);
    let later = plus(now, s(30));
    assert_eq!(*try_lease(&pool, later).unwrap().identity(), id(2));
    assert_eq!(view(&pool, 2, later).next_at, None);
    drop(held);
    pool.set_credential(&cookie.key(), CredentialState::Ready, later);
    assert_eq!(status(&pool, 2, later), HEALTHY);
}

/// State of one identity of a test.
#[derive(Clone, Copy, Debug)]
enum Has {
    Rate(u64),
    Quota(u64),
    Challenge,
    Tripped,
    Missing(u64),
    Refused,
    Dead,
}

fn pool_of(parts: &[Has], now: Now) -> IdentityPool {
    let pool = pool(parts.len(), now);
    for (number, has) in (1..).zip(parts) {
        let outcome = match *has {
            Has::Rate(seconds) => Outcome::RateLimited { retry_after: Some(s(seconds)) },
            Has::Quota(seconds) => Outcome::Quota { rest: s(seconds) },
            Has::Challenge => Outcome::Challenged,
            Has::Refused => Outcome::Forbidden,
            Has::Tripped => {
                trip(&pool, number, now);
                continue;
            }
            Has::Dead => {
                die(&pool, number, now);
                continue;
            }
            Has::Missing(seconds) => {
                let retry_at = now.instant + s(seconds);
                pool.set_credential(&key(number), CredentialState::Missing { retry_at }, now);
                continue;
            }
        };
        lease_of(&pool, number, now).finish(outcome, now);
    }
    pool
}

#[test]
fn refusals_name_the_reason_that_helps() {
    use CoolingReason::{Challenge, Quota, Rate};
    let resting = |reason, seconds| LeaseError::Resting { reason, retry_after: s(seconds) };
    let unusable =
        |seconds: Option<u64>, needs_login| LeaseError::Unusable { retry_after: seconds.map(s), needs_login };
    for (parts, expected) in [
        (vec![Has::Rate(40), Has::Rate(20), Has::Rate(30)], resting(Rate, 20)),
        (vec![Has::Quota(900), Has::Rate(950)], resting(Rate, 900)),
        (vec![Has::Challenge, Has::Quota(900)], resting(Quota, 300)),
        (vec![Has::Challenge], resting(Challenge, 300)),
        (vec![Has::Dead, Has::Dead], unusable(None, true)),
        (vec![Has::Dead, Has::Quota(900)], resting(Quota, 900)),
        (vec![Has::Missing(15)], unusable(Some(15), false)),
        (vec![Has::Missing(15), Has::Rate(20)], unusable(Some(15), false)),
        (vec![Has::Missing(25), Has::Rate(20)], resting(Rate, 20)),
        (vec![Has::Missing(25), Has::Dead], unusable(Some(25), true)),
        (vec![Has::Missing(25), Has::Quota(20), Has::Rate(30)], resting(Quota, 20)),
        // An account without a credential that works brings no answer, however soon it is tried again.
        (vec![Has::Missing(15), Has::Quota(900)], resting(Quota, 900)),
        (vec![Has::Refused, Has::Quota(900)], resting(Quota, 900)),
        (vec![Has::Quota(900), Has::Missing(15), Has::Dead, Has::Refused, Has::Quota(600)], resting(Quota, 600)),
        (vec![Has::Missing(15), Has::Quota(900), Has::Rate(950)], resting(Rate, 900)),
        (vec![Has::Refused, Has::Missing(15), Has::Dead], unusable(Some(15), true)),
    ] {
        let now = start();
        let pool = pool_of(&parts, now);
        assert_eq!(refused(&pool, now), expected, "{parts:?}");
        let summary = pool.summary(now);
        assert_eq!(summary.healthy, 0);
        assert_eq!(summary.down + summary.degraded, parts.len());
    }
}

#[test]
fn a_tripped_pool_says_when_to_come_back() {
    let now = start();
    let pool = pool_of(&[Has::Tripped], now);
    let early = try_lease(&pool, now).unwrap();
    assert!(early.is_probe());
    let unusable = |seconds| LeaseError::Unusable { retry_after: Some(s(seconds)), needs_login: false };
    assert_eq!(refused(&pool, now), unusable(60), "while the probe is out");
    early.finish(FAULT, now);
    assert_eq!(refused(&pool, now), unusable(600));
    let pool = pool_of(&[Has::Tripped, Has::Rate(400)], now);
    let _early = try_lease(&pool, now).unwrap();
    assert_eq!(refused(&pool, now), unusable(60));
}

#[test]
fn a_rest_that_outlasts_the_cooldown_is_the_reason() {
    let now = start();
    let pool = pool(1, now);
    let late = lease_of(&pool, 1, now);
    trip(&pool, 1, now);
    late.finish(Outcome::Quota { rest: s(301) }, now);
    let resting = LeaseError::Resting { reason: CoolingReason::Quota, retry_after: s(301) };
    assert_eq!(refused(&pool, now), resting);
    let reason = IdentityReason::Resting(Usage::Chat, CoolingReason::Quota);
    assert_eq!(status(&pool, 1, now), (IdentityStatus::Down, Some(reason)));
}

#[test]
fn busy_callers_come_back_in_one_to_five_seconds() {
    let now = start();
    let mut tight = settings();
    tight.in_flight_max = 1;
    let busy = |seconds| LeaseError::Busy { retry_after: s(seconds) };
    for (jitter, expected) in [((|| 0.0) as fn() -> f64, busy(1)), (|| 1.0, busy(5))] {
        let pool = IdentityPool::with_jitter(vec![session(1)], tight.clone(), jitter, now);
        let _held = try_lease(&pool, now).unwrap();
        assert_eq!(refused(&pool, now), expected);
    }
}

#[test]
fn a_callers_own_credential_is_not_in_the_pool() {
    let now = start();
    let pool = pool(1, now);
    let lease = IdentityPool::detached(session(7));
    assert_eq!(*lease.identity(), id(7));
    assert!(!lease.is_probe());
    lease.first_content();
    lease.report(Outcome::Unauthorized, now);
    lease.finish(Outcome::Forbidden, now);
    drop(IdentityPool::detached(session(1)));
    let before = view(&pool, 1, now);
    IdentityPool::detached(session(1)).finish(Outcome::Forbidden, now);
    assert_eq!(view(&pool, 1, now), before);
    assert_eq!(pool.sessions().len(), 1);
}

#[test]
fn views_show_when_tokens_end_and_never_what_they_are() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let now = start();
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{}}}"#, now.unix.0 + 900));
    let text = format!("e30.{claims}.c2ln");
    let token = crate::base::secret::AccessToken::parse(&text, now.unix).unwrap();
    let key = CredentialKey::of("one");
    let ending = Session::new(id(1), key, None, Some(token));
    let sessions = vec![Arc::new(ending), session(2)];
    let pool = IdentityPool::with_jitter(sessions, settings(), || 0.0, now);
    let ends: Vec<_> = pool.views(now).into_iter().map(|view| view.token_expires_at).collect();
    assert_eq!(ends, [Some(UnixSeconds(now.unix.0 + 900)), None]);
    let lease = try_lease(&pool, now).unwrap();
    let shown = format!("{lease:?} {:?} {:?}", pool.views(now), pool.summary(now));
    assert!(!shown.contains("token-of") && !shown.contains(&claims), "{shown}");
}

#[test]
fn a_real_pool_spreads_its_lengths() {
    let now = start();
    let pool = IdentityPool::new(vec![session(1)], settings());
    trip(&pool, 1, now);
    let next_at = view(&pool, 1, now).next_at.unwrap();
    assert!((300..=330).contains(&next_at.seconds_since(now.unix)));
}

#[test]
fn first_attempts_earn_retries() {
    let now = start();
    let pool = pool_with(2, settings(), now);
    let drained = || (0..100).take_while(|_| pool.allow_retry(now)).count();
    assert_eq!(drained(), 30);
    for _ in 0..10 {
        try_lease(&pool, now).unwrap().finish(Outcome::Success, now);
        lease_of(&pool, 1, now).finish(Outcome::Success, now);
    }
    assert_eq!(drained(), 5, "retries earn nothing");
    assert!(pool.allow_retry(plus(now, s(1))));
}

#[test]
fn words_of_states_and_reasons_are_distinct() {
    let statuses = [IdentityStatus::Healthy, IdentityStatus::Degraded, IdentityStatus::Down];
    assert_eq!(statuses.map(IdentityStatus::as_str), ["healthy", "degraded", "down"]);
    let rests = Usage::ALL.into_iter().flat_map(|usage| {
        [CoolingReason::Rate, CoolingReason::Quota].map(|reason| IdentityReason::Resting(usage, reason))
    });
    let others = [
        IdentityReason::LoginNeeded,
        IdentityReason::Resting(Usage::Chat, CoolingReason::Challenge),
        IdentityReason::Tripped,
        IdentityReason::Refused,
        IdentityReason::Probing,
        IdentityReason::TokenMissing,
        IdentityReason::Failing,
    ];
    let words: Vec<_> = rests.chain(others).map(IdentityReason::as_str).collect();
    assert_eq!(
        words,
        [
            "rate_limited",
            "quota_exhausted",
            "image_rate_limited",
            "image_quota_exhausted",
            "video_rate_limited",
            "video_quota_exhausted",
            "research_rate_limited",
            "research_quota_exhausted",
            "upload_rate_limited",
            "upload_quota_exhausted",
            "login_needed",
            "challenged",
            "tripped",
            "refused",
            "probing",
            "token_missing",
            "failing",
        ]
    );
}

#[test]
fn changed_limits_hold_for_what_comes_next() {
    let now = start();
    let pool = pool(1, now);
    let held: Vec<_> = (0..3).map(|_| try_lease(&pool, now).unwrap()).collect();
    pool.configure(PoolSettings { in_flight_max: 2, ..settings() }, now);
    assert!(matches!(refused(&pool, now), LeaseError::Busy { .. }));
    assert_eq!(view(&pool, 1, now).in_flight, 3, "what is lent goes on");
    drop(held);
    let _held: Vec<_> = (0..2).map(|_| try_lease(&pool, now).unwrap()).collect();
    assert!(matches!(refused(&pool, now), LeaseError::Busy { .. }));
    pool.configure(PoolSettings { in_flight_max: 3, ..settings() }, now);
    try_lease(&pool, now).unwrap().finish(FAULT, now);
    // What counts as degraded is looked at anew.
    assert_eq!(status(&pool, 1, now).0, IdentityStatus::Healthy);
    pool.configure(PoolSettings { degrade_after: 1, ..settings() }, now);
    assert_eq!(status(&pool, 1, now).0, IdentityStatus::Degraded);
}
