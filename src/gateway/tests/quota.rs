//! A day's quota that is gone: until when an account rests, and what a restart makes of it. The clock is made up.

use std::time::Duration;

use crate::base::facts::{CoolingReason, Usage};
use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::secret::AccessToken;
use crate::base::session::Session;
use crate::gateway::answer::error::outcome_of;
use crate::gateway::answer::usage::Accounting;
use crate::pool::{CallerId, Lease, LeaseError, Outcome, Wanted};
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};

use super::*;

const DAY: i64 = 86_400;
/// Midnight at the beginning of some day.
const MIDNIGHT: i64 = 20_000 * DAY;

fn quota(hours: Option<u64>, retry_after: Option<u64>) -> UpstreamError {
    let error = UpstreamError::new("asking", UpstreamErrorKind::QuotaExhausted { hours });
    UpstreamError { retry_after: retry_after.map(Duration::from_secs), ..error }
}

/// A moment this number of seconds after (or before) midnight, on a clock that runs as it should.
fn at(origin: Now, seconds: i64) -> Now {
    let ahead = Duration::from_secs(u64::try_from(seconds + 2 * DAY).unwrap());
    Now { instant: origin.instant + ahead, unix: UnixSeconds(MIDNIGHT + seconds) }
}

fn accounts(count: usize) -> IdentityPool {
    let session = |number: usize| {
        let token = AccessToken::parse("opaque", UnixSeconds(0)).unwrap();
        let key = CredentialKey::of(&number.to_string());
        Arc::new(Session::new(IdentityId::numbered(number), key, None, Some(token)))
    };
    IdentityPool::new((1..=count).map(session).collect(), pool_settings())
}

fn lend(pool: &IdentityPool, now: Now) -> Result<Lease, LeaseError> {
    let deadline = now.instant + Duration::from_secs(600);
    pool.try_lease(
        &Wanted {
            caller: CallerId(1),
            usage: Usage::Chat,
            uploads: false,
            tried: Vec::new(),
            preferred: None,
            deadline,
        },
        now,
    )
}

/// Seconds for which no identity is lent from now on.
fn rest(pool: &IdentityPool, now: Now) -> u64 {
    match lend(pool, now) {
        Err(LeaseError::Resting { reason: CoolingReason::Quota, retry_after }) => retry_after.as_secs(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn s000_50_a_quota_without_a_date_is_back_at_midnight_utc() {
    let origin = Now::read();
    for (second, expected) in
        [(-1, 1), (0, 86_400), (1, 86_399), (43_200, 43_200), (86_399, 1), (-MIDNIGHT, 86_400), (-MIDNIGHT - 1, 1)]
    {
        let now = Now { unix: UnixSeconds(MIDNIGHT + second), ..origin };
        let expected = Outcome::Quota { rest: Duration::from_secs(expected) };
        assert_eq!(outcome_of(&quota(None, None), now), expected, "{second}");
    }
    // The upstream knows better.
    let now = at(origin, 0);
    for (hours, retry_after, expected) in [(Some(2), None, 7200), (Some(2), Some(60), 7200), (None, Some(90), 90)] {
        let expected = Outcome::Quota { rest: Duration::from_secs(expected) };
        assert_eq!(outcome_of(&quota(hours, retry_after), now), expected);
    }
}

#[test]
fn s000_50_and_51_an_account_comes_back_with_the_day_and_fails_again() {
    let (origin, pool) = (Now::read(), accounts(1));
    let before = at(origin, -1);
    lend(&pool, before).unwrap().finish(outcome_of(&quota(None, None), before), before);
    assert_eq!(rest(&pool, before), 1);
    let after = at(origin, 0);
    let lease = lend(&pool, after).unwrap();
    lease.finish(outcome_of(&quota(None, None), after), after);
    assert_eq!(rest(&pool, after), 86_400, "out for the new day at once");
    assert_eq!(rest(&pool, at(origin, 86_399)), 1);
    assert!(lend(&pool, at(origin, 86_400)).is_ok());
    assert_eq!(pool.summary(after).total, 1, "only its owner takes it away");
}

#[tokio::test]
async fn s000_49_and_50_a_restart_keeps_the_date_and_no_clock_prolongs_it() {
    let (origin, dir) = (Now::read(), tempfile::tempdir().unwrap());
    let evening = at(origin, -7200);
    let (store, _) = Store::open(dir.path()).unwrap();
    let (store, pool) = (Arc::new(store), accounts(2));
    let books = Accounting::new(pool.clone(), Arc::clone(&store), true);
    for _ in 0..2 {
        books.charge(lend(&pool, evening).unwrap(), &quota(None, None), evening);
    }
    store.close().await;
    let restarted = |now: Now| {
        let (_, loaded) = Store::open(dir.path()).unwrap();
        let pool = accounts(2);
        for (key, facts) in &loaded.facts {
            pool.restore(key, *facts, now);
        }
        pool
    };
    for (second, left) in [(-7199, 7199), (-1, 1)] {
        assert_eq!(rest(&restarted(at(origin, second)), at(origin, second)), left);
    }
    for second in [0, 1, 86_400] {
        assert!(lend(&restarted(at(origin, second)), at(origin, second)).is_ok(), "{second}");
    }
    // The clock stepped back while we were away: two hours were meant, and more it does not become.
    for second in [-7201, -DAY, -2 * DAY, -MIDNIGHT] {
        let now = Now { unix: UnixSeconds(MIDNIGHT + second), ..origin };
        assert_eq!(rest(&restarted(now), now), 7200, "{second}");
    }
}

#[test]
fn s000_50_a_clock_that_steps_back_while_we_run_prolongs_nothing() {
    let (origin, pool) = (Now::read(), accounts(1));
    let before = at(origin, -10);
    lend(&pool, before).unwrap().finish(outcome_of(&quota(None, None), before), before);
    let stepped_back = Now { unix: UnixSeconds(MIDNIGHT - 3600), ..at(origin, 0) };
    assert!(lend(&pool, stepped_back).is_ok());
}

#[test]
fn s000_44_throttling_is_no_quota() {
    let (origin, pool) = (Now::read(), accounts(1));
    let limited =
        |retry_after| UpstreamError { retry_after, ..UpstreamError::new("asking", UpstreamErrorKind::RateLimited) };
    let mut now = at(origin, -43_200);
    for seconds in [60, 120, 240] {
        lend(&pool, now).unwrap().finish(outcome_of(&limited(None), now), now);
        let Err(LeaseError::Resting { reason: CoolingReason::Rate, retry_after }) = lend(&pool, now) else {
            panic!("lent");
        };
        assert_eq!(retry_after.as_secs(), seconds);
        let length = Duration::from_secs(seconds);
        now = Now { instant: now.instant + length, unix: now.unix.plus(seconds.try_into().unwrap()) };
    }
    lend(&pool, now).unwrap().finish(outcome_of(&limited(Some(Duration::from_secs(40))), now), now);
    let Err(LeaseError::Resting { retry_after, .. }) = lend(&pool, now) else {
        panic!("lent");
    };
    assert!((40..=42).contains(&retry_after.as_secs()), "{retry_after:?}");
}
