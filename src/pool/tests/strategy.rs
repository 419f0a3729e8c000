//! Choice by lot, weighted by the rest of each token's time. Draws are many, and their seed is fixed.

use super::*;

const DRAWS: usize = 20_000;

/// A session whose token ends in this number of minutes; with `None` its end is unknown.
fn ending(number: usize, minutes: Option<i64>, now: Now) -> Arc<Session> {
    let token = AccessToken::parse(&format!("token-of-{number}"), UnixSeconds(0)).unwrap();
    let token = token.ending_at(minutes.map(|minutes| now.unix.plus(minutes * 60)));
    Arc::new(Session::new(id(number), key(number), None, Some(token)))
}

/// A pool that draws, of identities whose tokens end in these numbers of minutes.
fn weighted(minutes: &[Option<i64>], now: Now) -> IdentityPool {
    fastrand::seed(38);
    let sessions = (1..).zip(minutes).map(|(number, minutes)| ending(number, *minutes, now)).collect();
    let settings = PoolSettings { strategy: Strategy::FreshWeighted, in_flight_max: 2, ..settings() };
    IdentityPool::with_jitter(sessions, settings, fastrand::f64, now)
}

/// Number of times each identity is picked, one request at a time.
fn picks(pool: &IdentityPool, tried: &[usize], count: usize, now: Now) -> Vec<usize> {
    let total = pool.sessions().len();
    let mut picks = vec![0; total];
    for _ in 0..count {
        let lease = pool.try_lease(&wanted(tried, now), now).unwrap();
        let place = (1..=total).position(|number| *lease.identity() == id(number)).unwrap();
        picks[place] += 1;
        lease.finish(Outcome::Neutral, now);
    }
    picks
}

/// Fails when picks lie further from their shares than chance takes them once in a thousand times.
#[track_caller]
fn must_be_shared(picks: &[usize], weights: &[f64]) {
    let count = |count: usize| f64::from(u32::try_from(count).unwrap());
    let sum: f64 = weights.iter().sum();
    let total = count(picks.iter().sum());
    let terms = picks.iter().zip(weights).filter(|(_, weight)| **weight > 0.0).map(|(picked, weight)| {
        let expected = total * weight / sum;
        (count(*picked) - expected).powi(2) / expected
    });
    let chi_square: f64 = terms.sum();
    let freedom = weights.iter().filter(|weight| **weight > 0.0).count() - 1;
    let limit = [0.0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46][freedom];
    assert!(chi_square <= limit, "{chi_square} > {limit}: {picks:?} for {weights:?}");
    assert!(picks.iter().zip(weights).all(|(picked, weight)| *weight > 0.0 || *picked == 0), "{picks:?}");
}

#[test]
fn s000_37_and_38_the_share_of_each_is_its_weight_in_the_sum() {
    let now = start();
    for (minutes, weights) in [
        (vec![Some(15), Some(90), Some(40)], vec![0.30, 0.85, 0.70]),
        (vec![Some(90), Some(15), Some(40)], vec![0.85, 0.30, 0.70]),
        (
            vec![Some(-1), Some(3), Some(7), Some(15), Some(25), Some(35), Some(60)],
            vec![0.10, 0.05, 0.10, 0.30, 0.50, 0.70, 0.85],
        ),
        (vec![Some(-1), Some(-9), Some(-99)], vec![0.10; 3]),
        (vec![Some(50); 5], vec![0.85; 5]),
        (vec![None; 4], vec![0.85; 4]),
        (vec![None, Some(20)], vec![0.10, 0.85]),
        (vec![Some(4)], vec![0.85]),
    ] {
        let pool = weighted(&minutes, now);
        must_be_shared(&picks(&pool, &[], DRAWS, now), &weights);
    }
}

#[test]
fn s000_38_the_old_way_of_drawing_would_be_noticed() {
    // The shares that the first version made of 0.3, 0.85 and 0.7.
    let old = std::panic::catch_unwind(|| must_be_shared(&[5760, 14_240, 0], &[0.30, 0.85, 0.70]));
    assert!(old.is_err());
    let uniform = std::panic::catch_unwind(|| must_be_shared(&[6667, 6667, 6666], &[0.30, 0.85, 0.70]));
    assert!(uniform.is_err());
}

#[test]
fn s000_37_a_renewed_token_counts_from_the_next_draw_on() {
    let now = start();
    let pool = weighted(&[Some(3), Some(20)], now);
    must_be_shared(&picks(&pool, &[], DRAWS, now), &[0.05, 0.85]);
    let token = AccessToken::parse("renewed", UnixSeconds(0)).unwrap().ending_at(Some(now.unix.plus(3600)));
    pool.sessions()[0].install_token(token);
    must_be_shared(&picks(&pool, &[], DRAWS, now), &[0.85, 0.30]);
    // After three quarters of an hour the same tokens weigh something else.
    must_be_shared(&picks(&pool, &[], DRAWS, plus(now, s(45 * 60))), &[0.85, 0.10]);
}

#[test]
fn s000_39_and_47_who_rests_is_down_busy_or_tried_is_never_drawn() {
    let now = start();
    let pool = weighted(&[Some(60); 6], now);
    lease_of(&pool, 1, now).finish(Outcome::Quota { rest: s(3600) }, now);
    die(&pool, 2, now);
    trip(&pool, 3, now);
    // The fourth is at its cap.
    let _busy = [lease_of(&pool, 4, now), lease_of(&pool, 4, now)];
    must_be_shared(&picks(&pool, &[], DRAWS, now), &[0.0, 0.0, 0.0, 0.0, 0.85, 0.85]);
    must_be_shared(&picks(&pool, &[5], 500, now), &[0.0, 0.0, 0.0, 0.0, 0.0, 0.85]);
    assert!(matches!(pool.try_lease(&wanted(&[5, 6], now), now), Err(LeaseError::Busy { .. })));
    assert!(pool.try_lease(&wanted(&[4, 5, 6], now), now).is_err());
}

#[test]
fn s000_39_who_has_no_token_is_drawn_when_nobody_else_is_left() {
    let now = start();
    let pool = weighted(&[Some(60), Some(60), Some(-5)], now);
    let missing = CredentialState::Missing { retry_at: now.instant };
    pool.set_credential(&key(2), missing, now);
    pool.set_credential(&key(3), missing, now);
    must_be_shared(&picks(&pool, &[], 500, now), &[0.85, 0.0, 0.0]);
    must_be_shared(&picks(&pool, &[1], DRAWS, now), &[0.0, 0.85, 0.10]);
}

#[test]
fn a_retry_draws_among_the_healthy_and_a_first_attempt_among_all() {
    let now = start();
    let pool = weighted(&[Some(60), Some(60), Some(60), Some(60)], now);
    for _ in 0..settings().degrade_after {
        lease_of(&pool, 1, now).finish(own_fault(1), now);
    }
    assert_eq!(status(&pool, 1, now).0, IdentityStatus::Degraded);
    must_be_shared(&picks(&pool, &[2], DRAWS, now), &[0.0, 0.0, 0.85, 0.85]);
    must_be_shared(&picks(&pool, &[], DRAWS, now), &[0.85; 4]);
}

#[test]
fn load_counts_only_up_to_the_cap() {
    let now = start();
    let pool = weighted(&[Some(60), Some(60)], now);
    let _one = lease_of(&pool, 1, now);
    must_be_shared(&picks(&pool, &[], DRAWS, now), &[0.85, 0.85]);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_served_by_a_draw_too() {
    let now = Now::read();
    let pool = weighted(&[Some(60), Some(3)], now);
    let mut held = Vec::new();
    while let Ok(lease) = pool.try_lease(&wanted(&[], now), now) {
        held.push(lease);
    }
    assert_eq!(held.len(), 4);
    let request = wanted(&[], now);
    let waiting = pool.lease(&request);
    let free = async {
        tokio::task::yield_now().await;
        held.pop();
    };
    let (lease, ()) = tokio::join!(waiting, free);
    assert!(lease.is_ok());
}
