//! The rests that the upstream asks of one identity: rate limits, quotas, challenges. Pure.
//!
//! A rest is a date, a breaker counts faults: two facts of one identity which never move each other.

use std::time::{Duration, Instant};

use crate::base::facts::{Cooling, CoolingReason};
use crate::base::ids::UnixSeconds;
use crate::pool::clock::{Now, after, doubled, stretched};

/// The rest of one identity, and how often it had to be sent to rest without being told for how long.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rest {
    current: Option<Current>,
    rate_strikes: u32,
    challenge_strikes: u32,
    /// Rests asked for so far. A lease of before the last one can tell nothing about it.
    count: u32,
}

/// A rest, over or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) reason: CoolingReason,
    pub(crate) until: Instant,
    until_unix: UnixSeconds,
    set_at: UnixSeconds,
}

impl Rest {
    /// The rest that is not over yet.
    pub(crate) fn active(&self, now: Instant) -> Option<Current> {
        self.current.filter(|current| now < current.until)
    }

    /// The end of the newest rest, over or not.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.current.map(|current| current.until)
    }

    /// Rests asked for so far.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// What has to be written down.
    pub(crate) fn facts(&self) -> Option<Cooling> {
        self.current.map(|current| Cooling {
            reason: current.reason,
            until: current.until_unix,
            set_at: current.set_at,
        })
    }

    /// Too many requests (classes R and R′): as long as the upstream says, else a minute that doubles.
    pub(crate) fn rate(&mut self, retry_after: Option<Duration>, now: Now, jitter: f64) {
        let length = match retry_after {
            Some(length) => stretched(length.clamp(REST_MIN, REST_MAX), RATE_JITTER, jitter),
            // Requests that were in flight together bring one refusal each; that is one strike, not four.
            None if self.is_resting_for(CoolingReason::Rate, now) => return,
            None => {
                let length = doubled(RATE_BASE, self.rate_strikes, RATE_MAX);
                self.rate_strikes = self.rate_strikes.saturating_add(1);
                length
            }
        };
        self.begin(CoolingReason::Rate, length, now);
    }

    /// The quota is gone (class Q) for as long as the caller worked out.
    pub(crate) fn quota(&mut self, length: Duration, now: Now) {
        self.begin(CoolingReason::Quota, length.clamp(REST_MIN, REST_MAX), now);
    }

    /// The upstream wants a human (class W): 1, 3, 6, 12, … times `base`, at most two hours.
    pub(crate) fn challenge(&mut self, base: Duration, now: Now) {
        if self.is_resting_for(CoolingReason::Challenge, now) {
            return;
        }
        let length = match self.challenge_strikes.checked_sub(1) {
            None => base.min(CHALLENGE_MAX),
            Some(doublings) => doubled(base.saturating_mul(3), doublings, CHALLENGE_MAX),
        };
        self.challenge_strikes = self.challenge_strikes.saturating_add(1);
        self.begin(CoolingReason::Challenge, length, now);
    }

    /// A good result of a lease that was given out after `count` rests: the next unknown rest is a first one
    /// again. A stream that began before the last rest says nothing about it.
    pub(crate) fn succeed(&mut self, count: u32, now: Instant) {
        if count == self.count {
            self.rate_strikes = 0;
            self.challenge_strikes = 0;
            if self.active(now).is_none() {
                self.current = None;
            }
        }
    }

    /// Takes up a rest that was written down. Neither a clock that stepped back nor a spoilt file can make it
    /// longer than it was meant to be, or than 25 hours.
    pub(crate) fn restore(&mut self, cooling: Cooling, now: Now) {
        let seconds = cooling.until.seconds_since(now.unix).min(cooling.until.seconds_since(cooling.set_at));
        let length = Duration::from_secs(seconds).min(REST_MAX);
        if !length.is_zero() {
            self.begin(cooling.reason, length, now);
        }
    }

    /// Ends the rest and forgets all strikes.
    pub(crate) fn clear(&mut self) {
        *self = Self { count: self.count, ..Self::default() };
    }

    fn is_resting_for(&self, reason: CoolingReason, now: Now) -> bool {
        self.active(now.instant).is_some_and(|current| current.reason == reason)
    }

    /// Of two rests the longer one stays, with its reason.
    fn begin(&mut self, reason: CoolingReason, length: Duration, now: Now) {
        self.count = self.count.wrapping_add(1);
        let until = after(now.instant, length);
        if self.active(now.instant).is_none_or(|current| current.until < until) {
            self.current = Some(Current { reason, until, until_unix: now.unix_at(until), set_at: now.unix });
        }
    }
}

const REST_MIN: Duration = Duration::from_secs(1);
/// A day and an hour: no quota of the upstream is longer, and what is longer is a mistake.
const REST_MAX: Duration = Duration::from_secs(25 * 3600);
const RATE_BASE: Duration = Duration::from_secs(60);
const RATE_MAX: Duration = Duration::from_secs(30 * 60);
const RATE_JITTER: f64 = 0.05;
const CHALLENGE_MAX: Duration = Duration::from_secs(2 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn start() -> Now {
        Now { instant: Instant::now(), unix: UnixSeconds(1_000_000) }
    }

    fn plus(now: Now, length: Duration) -> Now {
        Now { instant: now.instant + length, unix: now.unix_at(now.instant + length) }
    }

    fn length(rest: &Rest, now: Now) -> Duration {
        rest.active(now.instant).map_or(Duration::ZERO, |current| current.until - now.instant)
    }

    #[test]
    fn a_known_reset_is_kept_within_bounds_and_only_stretched() {
        for (told, jitter, expected) in [
            (s(0), 0.0, s(1)),
            (s(1), 0.0, s(1)),
            (s(40), 0.0, s(40)),
            (s(40), 1.0, s(42)),
            (s(25 * 3600), 0.0, s(25 * 3600)),
            (s(26 * 3600), 0.0, s(25 * 3600)),
            (Duration::MAX, 0.0, s(25 * 3600)),
        ] {
            let (mut rest, now) = (Rest::default(), start());
            rest.rate(Some(told), now, jitter);
            assert_eq!(length(&rest, now), expected, "{told:?} {jitter}");
            assert_eq!(rest.active(now.instant + expected), None);
            assert_eq!(rest.active(now.instant).unwrap().reason, CoolingReason::Rate);
        }
    }

    #[test]
    fn an_unknown_rate_rest_doubles_until_a_success() {
        let (mut rest, mut now) = (Rest::default(), start());
        let mut lengths = Vec::new();
        for _ in 0..7 {
            rest.rate(None, now, 1.0);
            let length = length(&rest, now);
            rest.rate(None, now, 0.0);
            now = plus(now, length);
            lengths.push(length.as_secs());
        }
        assert_eq!(lengths, [60, 120, 240, 480, 960, 1800, 1800]);
        rest.succeed(rest.count() - 1, now.instant);
        rest.rate(None, now, 0.0);
        assert_eq!(length(&rest, now), s(1800), "an older lease's success");
        now = plus(now, s(1800));
        assert!(rest.facts().is_some());
        rest.succeed(rest.count(), now.instant);
        assert_eq!(rest.facts(), None);
        rest.rate(None, now, 0.0);
        assert_eq!(length(&rest, now), s(60));
    }

    #[test]
    fn challenges_rest_longer_and_longer() {
        let (mut rest, mut now) = (Rest::default(), start());
        let mut minutes = Vec::new();
        for _ in 0..6 {
            rest.challenge(s(300), now);
            let length = length(&rest, now);
            rest.challenge(s(300), now);
            now = plus(now, length);
            minutes.push(length.as_secs() / 60);
        }
        assert_eq!(minutes, [5, 15, 30, 60, 120, 120]);
        rest.succeed(rest.count(), now.instant);
        rest.challenge(s(300), now);
        assert_eq!(length(&rest, now), s(300));
        let mut rest = Rest::default();
        rest.challenge(s(9000), now);
        assert_eq!(length(&rest, now), s(7200));
    }

    #[test]
    fn a_shorter_rest_never_ends_a_longer_one() {
        let (mut rest, now) = (Rest::default(), start());
        rest.quota(s(3600), now);
        rest.rate(Some(s(10)), now, 0.0);
        rest.rate(None, now, 0.0);
        assert_eq!(length(&rest, now), s(3600));
        assert_eq!(rest.facts().unwrap().reason, CoolingReason::Quota);
        rest.rate(Some(s(7200)), now, 0.0);
        assert_eq!(length(&rest, now), s(7200));
        assert_eq!(rest.facts().unwrap().reason, CoolingReason::Rate);
        rest.succeed(rest.count(), now.instant);
        assert_eq!(length(&rest, now), s(7200), "a success ends no rest");
        rest.clear();
        assert_eq!(length(&rest, now), s(0));
        rest.quota(s(0), now);
        assert_eq!(length(&rest, now), s(1));
        rest.quota(s(90_001), now);
        assert_eq!(length(&rest, now), s(90_000));
    }

    #[test]
    fn a_stored_rest_is_never_longer_than_it_was_meant() {
        // (until, set at) relative to now, and what is left of it.
        for (until, set_at, expected) in [
            (100, -50, 100),
            (0, -50, 0),
            (-1, -50, 0),
            (100, 40, 60),
            (100, 100, 0),
            (100, 200, 0),
            (90_001, -5, 90_000),
            (i64::MAX, i64::MIN, 90_000),
        ] {
            let (mut rest, now) = (Rest::default(), start());
            let cooling =
                Cooling { reason: CoolingReason::Quota, until: now.unix.plus(until), set_at: now.unix.plus(set_at) };
            rest.restore(cooling, now);
            assert_eq!(length(&rest, now), s(expected), "{until} {set_at}");
        }
        let (mut rest, now) = (Rest::default(), start());
        rest.quota(s(500), now);
        let later = plus(now, s(100));
        let mut second = Rest::default();
        second.restore(rest.facts().unwrap(), later);
        assert_eq!(length(&second, later), s(400));
    }
}
