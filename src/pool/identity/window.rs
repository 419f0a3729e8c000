//! Results of the last two minutes of one identity, in a few bytes. Pure: moments are arguments.

use std::time::{Duration, Instant};

/// Numbers of good and bad results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) good: u32,
    pub(crate) bad: u32,
}

impl Tally {
    /// The sum of both tallies, saturating.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { good: self.good.saturating_add(other.good), bad: self.bad.saturating_add(other.bad) }
    }

    pub(crate) fn total(self) -> u32 {
        self.good.saturating_add(self.bad)
    }

    /// Whether at least `percent` of the results were good; `false` without results.
    pub(crate) fn is_good(self, percent: u32) -> bool {
        self.total() > 0 && u64::from(self.good) * 100 >= u64::from(self.total()) * u64::from(percent)
    }
}

/// Results of the last 120 s, in twelve buckets of 10 s (so they are dropped after 110 to 120 s).
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    buckets: [Tally; BUCKETS],
    /// Start and index of the newest bucket; `None` before the first result.
    newest: Option<(Instant, usize)>,
}

impl Window {
    /// Adds one result to the bucket of `now`.
    pub(crate) fn record(&mut self, is_good: bool, now: Instant) {
        let newest = self.forget(now);
        if let Some(bucket) = self.buckets.get_mut(newest) {
            *bucket = bucket.plus(Tally { good: u32::from(is_good), bad: u32::from(!is_good) });
        }
    }

    /// The results that are still kept.
    pub(crate) fn tally(&self, now: Instant) -> Tally {
        let Some((start, newest)) = self.newest else {
            return Tally::default();
        };
        let age = steps(start, now);
        // Buckets from newest to oldest are `age`, `age + 1`, … steps old.
        (0..BUCKETS.saturating_sub(age))
            .filter_map(|back| self.buckets.get((newest + BUCKETS - back) % BUCKETS))
            .fold(Tally::default(), |sum, bucket| sum.plus(*bucket))
    }

    /// Empties the buckets that are too old and returns the one for `now`.
    fn forget(&mut self, now: Instant) -> usize {
        let Some((start, newest)) = self.newest else {
            self.newest = Some((now, 0));
            return 0;
        };
        let age = steps(start, now);
        if age == 0 {
            return newest;
        }
        for step in 1..=age.min(BUCKETS) {
            if let Some(bucket) = self.buckets.get_mut((newest + step) % BUCKETS) {
                *bucket = Tally::default();
            }
        }
        let newest = (newest + age) % BUCKETS;
        let whole = BUCKET.saturating_mul(u32::try_from(age).unwrap_or(u32::MAX));
        self.newest = Some((start.checked_add(whole).unwrap_or(now), newest));
        newest
    }
}

fn steps(start: Instant, now: Instant) -> usize {
    let passed = now.saturating_duration_since(start).as_secs() / BUCKET.as_secs();
    usize::try_from(passed).unwrap_or(usize::MAX / 2)
}

const BUCKETS: usize = 12;
const BUCKET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_remembered_for_two_minutes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window::default();
        assert_eq!(window.tally(start), Tally::default());
        window.record(true, at(0));
        window.record(false, at(9));
        window.record(false, at(10));
        for (seconds, good, bad) in [(10, 1, 2), (119, 1, 2), (120, 0, 1), (129, 0, 1), (130, 0, 0)] {
            assert_eq!(window.tally(at(seconds)), Tally { good, bad }, "{seconds}");
        }
        window.record(true, at(125));
        assert_eq!(window.tally(at(125)), Tally { good: 1, bad: 1 });
        window.record(true, at(1000));
        assert_eq!(window.tally(at(1000)), Tally { good: 1, bad: 0 });
    }

    #[test]
    fn a_round_of_the_ring_leaves_nothing_behind() {
        let start = Instant::now();
        let mut window = Window::default();
        for second in 0..600 {
            window.record(second % 2 == 0, start + Duration::from_secs(second));
            let tally = window.tally(start + Duration::from_secs(second));
            assert!(tally.total() <= 120, "{second}: {tally:?}");
            assert!(tally.total() >= 111.min(u32::try_from(second).unwrap()), "{second}: {tally:?}");
        }
    }

    #[test]
    fn shares_are_exact_and_silence_is_not_good() {
        let tally = |good, bad| Tally { good, bad };
        for (tally, percent, expected) in [
            (tally(0, 0), 0, false),
            (tally(4, 1), 80, true),
            (tally(79, 21), 80, false),
            (tally(10, 10), 50, true),
            (tally(9, 11), 50, false),
            (tally(u32::MAX, u32::MAX), 50, true),
        ] {
            assert_eq!(tally.is_good(percent), expected, "{tally:?} {percent}");
        }
    }
}
