//! Difference between this machine's clock and the upstream's, by the `Date` of its answers.

use std::collections::VecDeque;
use std::ops::Range;

use parking_lot::Mutex;

use crate::base::ids::UnixSeconds;

/// The newest differences, in seconds: positive when this machine is ahead.
#[derive(Debug, Default)]
pub(crate) struct ClockSkew(Mutex<VecDeque<i64>>);

/// Differences that are remembered; their median counts, so that one odd answer changes nothing.
const KEPT_MAX: usize = 5;
/// A smaller difference may be the way of the answer, and does not count.
const TOLERATED_SECONDS: i64 = 30;
/// Dates of answers that are believed, in seconds since 1970: the years 2025 to 2099.
const POSSIBLE: Range<i64> = 1_735_689_600..4_102_444_800;

impl ClockSkew {
    /// Takes up the `Date` of an answer that came at `now` of this machine. A date that no clock of an upstream can have
    /// does not count.
    pub(crate) fn note(&self, date: UnixSeconds, now: UnixSeconds) {
        if !POSSIBLE.contains(&date.0) {
            return;
        }
        let mut kept = self.0.lock();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(now.0.saturating_sub(date.0));
    }

    /// Seconds that this machine is ahead of the upstream; negative when it is behind, 0 within half a minute.
    pub(crate) fn seconds(&self) -> i64 {
        let mut sorted: Vec<i64> = self.0.lock().iter().copied().collect();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        if median.abs() > TOLERATED_SECONDS { median } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn the_median_of_the_newest_counts_beyond_half_a_minute() {
        for (differences, expected) in [
            (vec![], 0),
            (vec![30], 0),
            (vec![-30], 0),
            (vec![31], 31),
            (vec![3600], 3600),
            (vec![-3600, -3601, -3599], -3600),
            (vec![3600, 3600, 3600, 0, 0], 3600),
            (vec![3600, 3600, 0, 0, 0], 0),
            (vec![3600, 3600, 3600, 3600, 3600, 0, 0, 0], 0),
        ] {
            let skew = ClockSkew::default();
            differences.iter().for_each(|difference| skew.note(UnixSeconds(NOW), UnixSeconds(NOW + difference)));
            assert_eq!(skew.seconds(), expected, "{differences:?}");
        }
    }

    #[test]
    fn dates_that_no_clock_has_do_not_count() {
        let skew = ClockSkew::default();
        for date in [i64::MIN, 0, POSSIBLE.start - 1, POSSIBLE.end, 253_402_300_799, i64::MAX] {
            skew.note(UnixSeconds(date), UnixSeconds(NOW));
        }
        assert_eq!(skew.seconds(), 0);
        // This machine's own clock may say anything.
        skew.note(UnixSeconds(NOW), UnixSeconds(0));
        assert_eq!(skew.seconds(), -NOW);
    }
}
