//! The pool against a plain model of it: no laziness, no compact line, no queue. After each step everything that
//! can be seen must be what the model says, for every identity, so that what happens to one is seen to leave the
//! others alone.

mod pair;
mod plain;
mod steps;

use proptest::prelude::*;

use crate::base::facts::{CoolingReason, Usage};
use crate::pool::tests::model::pair::Pair;
use crate::pool::tests::model::steps::steps;
use crate::pool::tests::{id, key, own_fault, plus, pool_with, s, settings, start, wanted, wanted_for};
use crate::pool::{
    CredentialState, IdentityPool, IdentityReason, IdentityStatus, Lease, LeaseError, Now, Outcome, PoolSettings,
};

fn tight() -> PoolSettings {
    PoolSettings { degrade_after: 2, trip_after: 3, in_flight_max: 2, ..settings() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_pool_does_what_the_model_does(
        count in 1..=4_usize,
        script in prop::collection::vec(steps(), 1..90),
    ) {
        let mut pair = Pair::new(count);
        for step in script {
            pair.step(step);
        }
        pair.recover();
    }

    #[test]
    fn sequential_picks_are_a_permutation(
        count in 1..=9_usize,
        is_good in prop::collection::vec(any::<bool>(), 1..60),
    ) {
        let now = start();
        let pool = pool_with(count, settings(), now);
        let mut order = Vec::new();
        for is_good in is_good {
            let lease = pool.try_lease(&wanted(&[], now), now).unwrap();
            order.push(lease.identity().clone());
            lease.finish(if is_good { Outcome::Success } else { Outcome::Neutral }, now);
        }
        for window in order.windows(count) {
            let mut window = window.to_vec();
            window.sort();
            window.dedup();
            prop_assert_eq!(window.len(), count);
        }
    }

    #[test]
    fn load_is_even_and_never_above_the_cap(
        count in 1..=6_usize,
        script in prop::collection::vec(0..10_usize, 1..80),
    ) {
        let now = start();
        let pool = pool_with(count, settings(), now);
        let mut held = Vec::new();
        for step in script {
            if step < 7 {
                let least = pool.views(now).iter().map(|view| view.in_flight).min().unwrap();
                match pool.try_lease(&wanted(&[], now), now) {
                    Ok(lease) => {
                        let views = pool.views(now);
                        let view = views.iter().find(|view| view.id == *lease.identity()).unwrap();
                        prop_assert_eq!(view.in_flight, least + 1);
                        prop_assert!(view.in_flight <= 4);
                        held.push(lease);
                    }
                    Err(_) => prop_assert_eq!(held.len(), count * 4),
                }
            } else if !held.is_empty() {
                held.swap_remove(step % held.len()).finish(Outcome::Neutral, now);
            }
        }
        let in_flight = pool.summary(now).in_flight;
        prop_assert_eq!(in_flight, held.len());
    }
}
