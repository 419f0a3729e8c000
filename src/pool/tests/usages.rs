//! Usages of an identity: each has rests of its own, and facts about the account concern all of them.

use crate::base::facts::{Cooling, CoolingReason, Need, PerUsage, Usage};
use crate::pool::tests::{
    FAULT, HEALTHY, die, id, key, lease_for, lease_of, only, plus, pool, pool_with, s, settings, start, status, trip,
    view, wanted_for,
};
use crate::pool::{IdentityPool, IdentityReason, IdentityStatus, LeaseError, Now, Outcome, Wanted};

const QUOTA: Outcome = Outcome::Quota { rest: s(3600) };

fn take(pool: &IdentityPool, usage: Usage, now: Now) -> Result<usize, LeaseError> {
    let lease = pool.try_lease(&wanted_for(usage, &[], now), now)?;
    Ok((1..).find(|number| *lease.identity() == id(*number)).unwrap())
}

fn resting(reason: CoolingReason, seconds: u64) -> LeaseError {
    LeaseError::Resting { reason, retry_after: s(seconds) }
}

#[test]
fn a_spent_quota_of_videos_leaves_chats_alone() {
    for (outcome, reason, word, length) in [
        (QUOTA, CoolingReason::Quota, "video_quota_exhausted", 3600),
        (Outcome::RateLimited { retry_after: None }, CoolingReason::Rate, "video_rate_limited", 60),
    ] {
        let now = start();
        let pool = pool(1, now);
        lease_for(Usage::Video, &pool, 1, now).finish(outcome, now);
        assert_eq!(take(&pool, Usage::Video, now), Err(resting(reason, length)));
        assert_eq!((take(&pool, Usage::Chat, now), take(&pool, Usage::Image, now)), (Ok(1), Ok(1)));
        assert_eq!(pool.outlook(Usage::Video, now), Some(resting(reason, length)));
        assert_eq!((pool.outlook(Usage::Chat, now), pool.outlook(Usage::Image, now)), (None, None));
        let seen = view(&pool, 1, now);
        assert_eq!((seen.status, seen.reason.unwrap().as_str()), (IdentityStatus::Degraded, word));
        let until = now.unix.plus(i64::try_from(length).unwrap());
        assert_eq!(seen.next_at, Some(until));
        let cooling = only(Usage::Video, Cooling { reason, until, set_at: now.unix, strikes: u32::from(length == 60) });
        assert_eq!((seen.cooling, pool.facts(&key(1), now).cooling), (cooling, cooling));
        let over = plus(now, s(length));
        assert_eq!(take(&pool, Usage::Video, over), Ok(1));
        assert_eq!(status(&pool, 1, over), HEALTHY);
    }
}

#[test]
fn down_is_who_rests_from_everything_and_chats_are_named_first() {
    let now = start();
    let pool = pool(1, now);
    let mut expected = [
        (IdentityStatus::Degraded, "video_quota_exhausted", 3600),
        (IdentityStatus::Degraded, "image_rate_limited", 60),
        (IdentityStatus::Down, "rate_limited", 90),
    ]
    .into_iter();
    for (usage, outcome) in [
        (Usage::Video, QUOTA),
        (Usage::Image, Outcome::RateLimited { retry_after: None }),
        (Usage::Chat, Outcome::RateLimited { retry_after: Some(s(90)) }),
    ] {
        lease_for(usage, &pool, 1, now).finish(outcome, now);
        let seen = view(&pool, 1, now);
        let (status, word, seconds) = expected.next().unwrap();
        assert_eq!((seen.status, seen.reason.unwrap().as_str()), (status, word));
        assert_eq!(seen.next_at, Some(now.unix.plus(seconds)));
    }
    let (sixty, ninety) = (plus(now, s(60)), plus(now, s(90)));
    assert_eq!(status(&pool, 1, sixty).0, IdentityStatus::Degraded, "pictures can be made again");
    assert_eq!(status(&pool, 1, sixty).1.unwrap().as_str(), "rate_limited");
    assert_eq!(status(&pool, 1, ninety).1.unwrap().as_str(), "video_quota_exhausted");
    pool.reset(&key(1), now);
    assert_eq!(status(&pool, 1, now), HEALTHY);
    assert_eq!(view(&pool, 1, now).cooling, PerUsage::default());
}

#[test]
fn what_concerns_the_account_concerns_every_usage() {
    for used in Usage::ALL {
        let now = start();
        let pool = pool(3, now);
        lease_for(used, &pool, 1, now).finish(Outcome::Challenged, now);
        die(&pool, 2, now);
        trip(&pool, 3, now);
        let challenged = IdentityReason::Resting(Usage::Chat, CoolingReason::Challenge);
        assert_eq!(status(&pool, 1, now), (IdentityStatus::Down, Some(challenged)));
        for asked in Usage::ALL {
            assert_eq!(pool.outlook(asked, now).unwrap().retry_after(), Some(s(300)), "{asked:?}");
            let refused = pool.try_lease(&wanted_for(asked, &[2, 3], now), now).unwrap_err();
            assert_eq!(refused, resting(CoolingReason::Challenge, 300), "{asked:?}");
        }
        let due = plus(now, s(300));
        let probe = lease_for(used, &pool, 3, due);
        assert!(probe.is_probe());
        for asked in Usage::ALL {
            assert!(pool.try_lease(&wanted_for(asked, &[1, 2], due), due).is_err(), "one probe of the account");
        }
        probe.finish(Outcome::Success, due);
        for asked in Usage::ALL {
            assert!(!lease_for(asked, &pool, 3, due).is_probe());
        }
    }
}

#[test]
fn who_rests_from_taking_files_still_chats() {
    let now = start();
    let pool = pool(2, now);
    let with_files = |usage, tried: &[usize]| Wanted { uploads: true, ..wanted_for(usage, tried, now) };
    let take = |wanted: &Wanted| pool.try_lease(wanted, now).map(|lease| lease.identity().clone());
    pool.try_lease(&with_files(Usage::Chat, &[2]), now).unwrap().finish_as(Usage::Upload, QUOTA, now);
    let seen = view(&pool, 1, now);
    assert_eq!((seen.status, seen.reason.unwrap().as_str()), (IdentityStatus::Degraded, "upload_quota_exhausted"));
    assert_eq!(*lease_of(&pool, 1, now).identity(), id(1), "without a file");
    for usage in Usage::ASKED {
        for _ in 0..3 {
            assert_eq!(take(&with_files(usage, &[])), Ok(id(2)), "{usage:?}");
        }
        assert_eq!(take(&with_files(usage, &[2])), Err(resting(CoolingReason::Quota, 3600)), "{usage:?}");
    }
    let need = Need { usage: Usage::Chat, uploads: true };
    assert_eq!(pool.outlook(need, now), None);
    let limited = Outcome::RateLimited { retry_after: Some(s(60)) };
    pool.try_lease(&with_files(Usage::Image, &[1]), now).unwrap().finish_as(Usage::Upload, limited, now);
    assert_eq!(pool.outlook(need, now), Some(resting(CoolingReason::Rate, 60)));
    assert_eq!((pool.outlook(Usage::Chat, now), pool.outlook(Usage::Image, now)), (None, None));
    let later = plus(now, s(60));
    assert_eq!(*pool.try_lease(&with_files(Usage::Chat, &[]), later).unwrap().identity(), id(2));
    assert_eq!(pool.facts(&key(1), now).cooling.get(Usage::Upload).unwrap().until, now.unix.plus(3600));
}

#[test]
fn each_usage_takes_turns_of_its_own() {
    let now = start();
    let pool = pool(2, now);
    // Asked for in turn, chats and videos would else go to one identity each, and use up the quota of one.
    let order: Vec<_> =
        (0..4).map(|_| (take(&pool, Usage::Chat, now).unwrap(), take(&pool, Usage::Video, now).unwrap())).collect();
    assert_eq!(order, [(1, 1), (2, 2), (1, 1), (2, 2)]);
    let _held = lease_for(Usage::Video, &pool, 1, now);
    assert_eq!(take(&pool, Usage::Chat, now), Ok(2), "but a busy one is busy");
    assert_eq!(take(&pool, Usage::Chat, now), Ok(2));
}

#[test]
fn the_cap_is_one_for_all_usages() {
    let now = start();
    let mut tight = settings();
    tight.in_flight_max = 2;
    let pool = pool_with(1, tight, now);
    let _held = [lease_for(Usage::Video, &pool, 1, now), lease_for(Usage::Image, &pool, 1, now)];
    for usage in Usage::ALL {
        assert!(matches!(take(&pool, usage, now), Err(LeaseError::Busy { .. })), "{usage:?}");
        assert_eq!(pool.outlook(usage, now), None);
    }
    assert_eq!((view(&pool, 1, now).in_flight, pool.summary(now).in_flight), (2, 2));
}

#[test]
fn an_early_probe_is_for_what_it_does_not_rest_from() {
    let now = start();
    let pool = pool(1, now);
    lease_for(Usage::Video, &pool, 1, now).finish(QUOTA, now);
    trip(&pool, 1, now);
    assert_eq!(take(&pool, Usage::Video, now), Err(resting(CoolingReason::Quota, 3600)));
    let probe = pool.try_lease(&wanted_for(Usage::Image, &[], now), now).unwrap();
    assert!(probe.is_probe());
    probe.finish(Outcome::Success, now);
    assert_eq!(status(&pool, 1, now).1.unwrap().as_str(), "video_quota_exhausted");
}

#[test]
fn the_upstream_is_blamed_by_those_who_can_be_asked_for_the_same() {
    let now = start();
    let pool = pool(3, now);
    lease_for(Usage::Video, &pool, 3, now).finish(QUOTA, now);
    for number in [1, 2] {
        assert!(!pool.is_upstream_degraded(now));
        lease_for(Usage::Video, &pool, number, now).finish(FAULT, now);
    }
    assert!(pool.is_upstream_degraded(now), "both that make videos");
    lease_of(&pool, 3, now).finish(Outcome::Success, now);
    for number in [1, 2] {
        lease_of(&pool, number, now).finish(FAULT, now);
        assert!(!pool.is_upstream_degraded(now), "the third one chats");
    }
}
