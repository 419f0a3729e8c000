//! The only place of this room that reads a clock. Everything below the roof gets moments as arguments.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::ids::UnixSeconds;

/// One moment on both clocks: the steady one, by which rests and leases are measured, and the wall clock, which is
/// stored and shown.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Steady time, for lengths; starts anew with the machine.
    pub instant: Instant,
    /// Wall time in Unix seconds, for dates that are stored and shown.
    pub unix: UnixSeconds,
}

impl Now {
    /// Reads both clocks at once; wall time is 0 if the clock is set before 1970.
    #[must_use]
    pub fn read() -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        Self {
            // Tokio's clock is the same one, but stands still in tests that pause time.
            instant: tokio::time::Instant::now().into_std(),
            unix: UnixSeconds(unix),
        }
    }

    /// The wall clock at another moment of the steady one; parts of a second count as a whole one, so that
    /// a retry never comes too early.
    pub(crate) fn unix_at(self, moment: Instant) -> UnixSeconds {
        let ahead = moment.saturating_duration_since(self.instant);
        let whole = i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX);
        self.unix.plus(whole.saturating_add(i64::from(ahead.subsec_nanos() > 0)))
    }
}

impl Now {
    /// As [`Now::unix_at`], also for a moment that has passed; then parts of a second do not count.
    pub(crate) fn unix_of(self, moment: Instant) -> UnixSeconds {
        let ago = self.instant.saturating_duration_since(moment).as_secs();
        self.unix_at(moment).plus(i64::try_from(ago).map_or(i64::MIN, |ago| -ago))
    }
}

/// The moment `length` after `start`. A length beyond the clock's range counts as a day.
pub(crate) fn after(start: Instant, length: Duration) -> Instant {
    start.checked_add(length).or_else(|| start.checked_add(DAY)).unwrap_or(start)
}

/// `length` extended by up to `share` of itself; `jitter`, in 0..=1, is the part of that share.
///
/// Only ever longer: "not before" stays a testable promise.
pub(crate) fn stretched(length: Duration, share: f64, jitter: f64) -> Duration {
    let factor = 1.0 + share * jitter.clamp(0.0, 1.0);
    Duration::try_from_secs_f64(length.as_secs_f64() * factor).map_or(length, |longer| longer.max(length))
}

/// `base` doubled `times` times, at most `max`.
pub(crate) fn doubled(base: Duration, times: u32, max: Duration) -> Duration {
    let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(max)
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn doubling_stops_at_its_bound_and_never_overflows() {
        let lengths: Vec<_> = (0..6).map(|n| doubled(s(300), n, s(3600)).as_secs()).collect();
        assert_eq!(lengths, [300, 600, 1200, 2400, 3600, 3600]);
        assert_eq!(doubled(s(300), u32::MAX, s(3600)), s(3600));
        assert_eq!(doubled(Duration::MAX, 40, Duration::MAX), Duration::MAX);
    }

    #[test]
    fn jitter_only_lengthens() {
        assert_eq!(stretched(s(300), 0.1, 0.0), s(300));
        assert_eq!(stretched(s(300), 0.1, 1.0), s(330));
        assert_eq!(stretched(s(300), 0.1, -1.0), s(300));
        assert_eq!(stretched(s(300), 0.1, 9.0), s(330));
        assert_eq!(stretched(Duration::MAX, 0.1, 1.0), Duration::MAX);
    }

    #[test]
    fn the_wall_clock_is_rounded_away_from_now() {
        let now = Now { instant: Instant::now(), unix: UnixSeconds(100) };
        for (ahead, expected) in [(0, 100), (1, 101), (999, 101), (1000, 101), (1001, 102)] {
            let moment = after(now.instant, Duration::from_millis(ahead));
            assert_eq!(now.unix_at(moment), UnixSeconds(expected), "{ahead} ms");
        }
    }

    #[test]
    fn a_moment_out_of_range_is_a_day_ahead() {
        let start = Instant::now();
        assert_eq!(after(start, s(5)), start + s(5));
        assert_eq!(after(start, Duration::MAX), start + DAY);
    }
}
