//! The retry budget of the whole pool, so that an outage is not answered with a storm of retries. Pure. A token bucket:
//! a share of the first attempts, and a few retries per second in any case.

use std::time::Instant;

/// The retries that may be made now, counted in millionths so that no share is lost to rounding.
#[derive(Clone, Debug)]
pub(crate) struct RetryBudget {
    micros: u64,
    filled_at: Instant,
}

impl RetryBudget {
    /// A full budget: the largest burst of retries.
    pub(crate) fn new(now: Instant) -> Self {
        Self { micros: BURST * RETRY, filled_at: now }
    }

    /// A first attempt earns half a retry.
    pub(crate) fn deposit(&mut self) {
        self.add(DEPOSIT);
    }

    /// Takes one retry, if one is left.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled_at).as_micros();
        self.filled_at = self.filled_at.max(now);
        self.add(u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(FLOOR_PER_SECOND));
        let left = self.micros.checked_sub(RETRY);
        self.micros = left.unwrap_or(self.micros);
        left.is_some()
    }

    fn add(&mut self, micros: u64) {
        self.micros = self.micros.saturating_add(micros).min(BURST * RETRY);
    }
}

const RETRY: u64 = 1_000_000;
const DEPOSIT: u64 = RETRY / 2;
const BURST: u64 = 30;
const FLOOR_PER_SECOND: u64 = 3;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn drained(budget: &mut RetryBudget, now: Instant) -> usize {
        (0..1000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn the_burst_the_floor_and_the_share() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut budget = RetryBudget::new(start);
        assert_eq!(drained(&mut budget, start), 30);
        assert_eq!(drained(&mut budget, at(999)), 2);
        assert_eq!(drained(&mut budget, at(1000)), 1, "parts of a second are kept");
        assert_eq!(drained(&mut budget, at(3000)), 6);
        assert_eq!(drained(&mut budget, at(2000)), 0, "a moment of before adds nothing");
        assert_eq!(drained(&mut budget, at(3000)), 0);
        assert_eq!(drained(&mut budget, at(1_000_000)), 30, "never more than the burst");
        for _ in 0..9 {
            budget.deposit();
        }
        assert_eq!(drained(&mut budget, at(1_000_000)), 4, "half a retry each");
        for _ in 0..1000 {
            budget.deposit();
        }
        assert_eq!(drained(&mut budget, at(1_000_000)), 30);
    }

    #[test]
    fn a_storm_adds_at_most_the_share_the_floor_and_the_burst() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        let mut retries = 0;
        for request in 0..3000_u64 {
            // 50 requests a second for a minute, each of which wants two retries.
            let now = start + Duration::from_millis(request * 20);
            budget.deposit();
            retries += usize::from(budget.withdraw(now)) + usize::from(budget.withdraw(now));
        }
        assert!((1650..=1710).contains(&retries), "{retries}");
    }
}
