//! The rests that the upstream asks of one identity: rate limits, quotas, challenges. Pure.
//!
//! A rest is a date, a breaker counts faults: two facts of one identity which never change each other. Rates and quotas
//! belong to one usage, a challenge to the whole account.

use std::time::{Duration, Instant};

use crate::base::facts::{Cooling, CoolingReason, PerUsage, Usage};
use crate::base::ids::UnixSeconds;
use crate::pool::clock::{Now, after, doubled, stretched};

/// All rests of one identity.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rests {
    /// Rests of one usage each: rates and quotas.
    own: PerUsage<Rest>,
    shared: Rest,
}

/// The number of rests of an identity so far, of one usage and of all together. A lease from before the last rest tells
/// nothing about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestCounts {
    own: u32,
    shared: u32,
}

/// A rest, over or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) reason: CoolingReason,
    pub(crate) until: Instant,
    until_unix: UnixSeconds,
    set_at: UnixSeconds,
    /// Rests in a row whose length the upstream did not give.
    strikes: u32,
}

/// The rests of one usage or of the account.
#[derive(Clone, Debug, Default)]
struct Rest {
    /// The longest one, over or not; `None` since a good result came after it.
    current: Option<Current>,
    /// Number of rests so far.
    count: u32,
}

impl Rests {
    /// Takes up that the wall clock has gone on while the steady clock stood still, as in a suspended machine: rests are
    /// dates, so they end when their date comes. A wall clock that steps back prolongs none.
    pub(crate) fn catch_up(&mut self, now: Now) {
        self.shared.catch_up(now);
        Usage::ALL.into_iter().for_each(|usage| self.own.get_mut(usage).catch_up(now));
    }

    /// The longest rest of a usage that is not over yet.
    pub(crate) fn active(&self, usage: Usage, now: Instant) -> Option<Current> {
        self.newest(usage).filter(|current| now < current.until)
    }

    /// The end of a rest that a challenge began, if it is not over yet. The owner may have prolonged it.
    pub(crate) fn challenged_until(&self, now: Instant) -> Option<Instant> {
        self.shared.active(now).filter(|current| current.strikes > 0).map(|current| current.until)
    }

    /// The end of the longest rest of a usage, over or not.
    pub(crate) fn until(&self, usage: Usage) -> Option<Instant> {
        self.newest(usage).map(|current| current.until)
    }

    /// The number of rests so far, for this usage and for the whole account.
    pub(crate) fn counts(&self, usage: Usage) -> RestCounts {
        RestCounts { own: self.own.get(usage).count, shared: self.shared.count }
    }

    /// The rests that have to be stored.
    pub(crate) fn facts(&self) -> PerUsage<Option<Cooling>> {
        PerUsage::of(|usage| self.newest(usage).map(Current::cooling))
    }

    /// Begins a rest for too many requests: as long as the upstream says, else a minute that doubles.
    pub(crate) fn rate(&mut self, usage: Usage, retry_after: Option<Duration>, now: Now, jitter: f64) {
        let rest = self.own.get_mut(usage);
        let strikes = rest.strikes();
        match retry_after {
            Some(length) => {
                let length = stretched(length.clamp(REST_MIN, REST_MAX), RATE_JITTER, jitter);
                rest.begin(CoolingReason::Rate, length, strikes, now);
            }
            // Requests that were in flight together bring one refusal each; that is one strike, not four.
            None if rest.is_resting_for(CoolingReason::Rate, now) => {}
            None => {
                let length = doubled(RATE_BASE, strikes, RATE_MAX);
                rest.begin(CoolingReason::Rate, length, strikes.saturating_add(1), now);
            }
        }
    }

    /// Begins a rest of this length for a used-up quota.
    pub(crate) fn quota(&mut self, usage: Usage, length: Duration, now: Now) {
        let rest = self.own.get_mut(usage);
        rest.begin(CoolingReason::Quota, length.clamp(REST_MIN, REST_MAX), rest.strikes(), now);
    }

    /// Begins a rest after a challenge: 1, 3, 6, 12, … times `base`, at most two hours, for every usage.
    pub(crate) fn challenge(&mut self, base: Duration, now: Now) {
        if self.shared.is_resting_for(CoolingReason::Challenge, now) {
            return;
        }
        let strikes = self.shared.strikes();
        let length = match strikes.checked_sub(1) {
            None => base.min(CHALLENGE_MAX),
            Some(doublings) => doubled(base.saturating_mul(3), doublings, CHALLENGE_MAX),
        };
        self.shared.begin(CoolingReason::Challenge, length, strikes.saturating_add(1), now);
    }

    /// Begins a rest by the owner from every usage. A longer rest that the upstream asked for stays.
    pub(crate) fn owner(&mut self, length: Duration, now: Now) {
        let strikes = self.shared.strikes();
        self.shared.begin(CoolingReason::Owner, length.clamp(REST_MIN, REST_MAX), strikes, now);
    }

    /// Records a success of a lease that was given out after this number of rests: the next rest of unknown length is a
    /// first one again. A stream that began before the last rest tells nothing about it, and one of another usage only
    /// about challenges.
    pub(crate) fn succeed(&mut self, usage: Usage, counts: RestCounts, now: Instant) {
        self.own.get_mut(usage).succeed(counts.own, now);
        self.shared.succeed(counts.shared, now);
    }

    /// Restores stored rests with their strikes, which count for the next rest of unknown length when this one has passed
    /// too. Neither a clock that stepped back nor a damaged file can make one longer than it was meant to be, or than 25
    /// hours.
    pub(crate) fn restore(&mut self, facts: &PerUsage<Option<Cooling>>, now: Now) {
        for (usage, cooling) in facts.iter() {
            let Some(cooling) = cooling else {
                continue;
            };
            let seconds = cooling.until.seconds_since(now.unix).min(cooling.until.seconds_since(cooling.set_at));
            let length = Duration::from_secs(seconds).min(REST_MAX);
            if !length.is_zero() || cooling.strikes > 0 {
                let rest = match cooling.reason {
                    CoolingReason::Rate | CoolingReason::Quota => self.own.get_mut(usage),
                    CoolingReason::Challenge | CoolingReason::Owner => &mut self.shared,
                };
                rest.begin(cooling.reason, length, cooling.strikes, now);
            }
        }
    }

    /// Ends all rests and resets all strikes.
    pub(crate) fn clear(&mut self) {
        self.shared.clear();
        Usage::ALL.into_iter().for_each(|usage| self.own.get_mut(usage).clear());
    }

    /// The rest of a usage that ends last; a challenge goes last among equals.
    fn newest(&self, usage: Usage) -> Option<Current> {
        let both = [self.shared.current, self.own.get(usage).current];
        both.into_iter().flatten().max_by_key(|current| current.until)
    }
}

impl Current {
    /// This rest as it is shown and stored.
    pub(crate) fn cooling(self) -> Cooling {
        Cooling { reason: self.reason, until: self.until_unix, set_at: self.set_at, strikes: self.strikes }
    }
}

impl Rest {
    fn active(&self, now: Instant) -> Option<Current> {
        self.current.filter(|current| now < current.until)
    }

    fn catch_up(&mut self, now: Now) {
        if let Some(current) = &mut self.current {
            let left = Duration::from_secs(current.until_unix.seconds_since(now.unix));
            current.until = current.until.min(after(now.instant, left));
        }
    }

    fn is_resting_for(&self, reason: CoolingReason, now: Now) -> bool {
        self.active(now.instant).is_some_and(|current| current.reason == reason)
    }

    fn strikes(&self) -> u32 {
        self.current.map_or(0, |current| current.strikes)
    }

    /// Begins a rest; of two the longer one stays, with its reason.
    fn begin(&mut self, reason: CoolingReason, length: Duration, strikes: u32, now: Now) {
        self.count = self.count.wrapping_add(1);
        let until = after(now.instant, length);
        match self.current.as_mut().filter(|current| until <= current.until && now.instant < current.until) {
            Some(current) => current.strikes = strikes,
            None => {
                let until_unix = now.unix_at(until);
                self.current = Some(Current { reason, until, until_unix, set_at: now.unix, strikes });
            }
        }
    }

    fn succeed(&mut self, count: u32, now: Instant) {
        if count == self.count {
            self.current = self.active(now).map(|current| Current { strikes: 0, ..current });
        }
    }

    fn clear(&mut self) {
        *self = Self { count: self.count, ..Self::default() };
    }
}

const REST_MIN: Duration = Duration::from_secs(1);
/// Longest rest: a day and an hour. No quota of the upstream is longer.
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

    fn length_of(rests: &Rests, usage: Usage, now: Now) -> Duration {
        rests.active(usage, now.instant).map_or(Duration::ZERO, |current| current.until - now.instant)
    }

    fn length(rests: &Rests, now: Now) -> Duration {
        length_of(rests, Usage::Chat, now)
    }

    /// A good result of a lease that is given out and comes back now.
    fn succeed(rests: &mut Rests, usage: Usage, now: Now) {
        rests.succeed(usage, rests.counts(usage), now.instant);
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
            let (mut rest, now) = (Rests::default(), start());
            rest.rate(Usage::Chat, Some(told), now, jitter);
            assert_eq!(length(&rest, now), expected, "{told:?} {jitter}");
            assert_eq!(rest.active(Usage::Chat, now.instant + expected), None);
            assert_eq!(rest.active(Usage::Chat, now.instant).unwrap().reason, CoolingReason::Rate);
        }
    }

    #[test]
    fn an_unknown_rate_rest_doubles_until_a_success() {
        let (mut rest, mut now) = (Rests::default(), start());
        let mut lengths = Vec::new();
        let mut before = rest.counts(Usage::Chat);
        for _ in 0..7 {
            before = rest.counts(Usage::Chat);
            rest.rate(Usage::Chat, None, now, 1.0);
            let length = length(&rest, now);
            rest.rate(Usage::Chat, None, now, 0.0);
            now = plus(now, length);
            lengths.push(length.as_secs());
        }
        assert_eq!(lengths, [60, 120, 240, 480, 960, 1800, 1800]);
        rest.succeed(Usage::Chat, before, now.instant);
        rest.rate(Usage::Chat, None, now, 0.0);
        assert_eq!(length(&rest, now), s(1800), "an older lease's success");
        now = plus(now, s(1800));
        assert!(rest.facts().get(Usage::Chat).is_some());
        succeed(&mut rest, Usage::Chat, now);
        assert_eq!(rest.facts(), PerUsage::default());
        rest.rate(Usage::Chat, None, now, 0.0);
        assert_eq!(length(&rest, now), s(60));
    }

    #[test]
    fn challenges_rest_longer_and_longer() {
        let (mut rest, mut now) = (Rests::default(), start());
        let mut minutes = Vec::new();
        for _ in 0..6 {
            rest.challenge(s(300), now);
            let length = length(&rest, now);
            rest.challenge(s(300), now);
            now = plus(now, length);
            minutes.push(length.as_secs() / 60);
        }
        assert_eq!(minutes, [5, 15, 30, 60, 120, 120]);
        succeed(&mut rest, Usage::Chat, now);
        rest.challenge(s(300), now);
        assert_eq!(length(&rest, now), s(300));
        let mut rest = Rests::default();
        rest.challenge(s(9000), now);
        assert_eq!(length(&rest, now), s(7200));
    }

    #[test]
    fn a_shorter_rest_never_ends_a_longer_one() {
        let (mut rest, now) = (Rests::default(), start());
        rest.quota(Usage::Chat, s(3600), now);
        rest.rate(Usage::Chat, Some(s(10)), now, 0.0);
        rest.rate(Usage::Chat, None, now, 0.0);
        assert_eq!(length(&rest, now), s(3600));
        assert_eq!(rest.facts().get(Usage::Chat).unwrap().reason, CoolingReason::Quota);
        rest.rate(Usage::Chat, Some(s(7200)), now, 0.0);
        assert_eq!(length(&rest, now), s(7200));
        assert_eq!(rest.facts().get(Usage::Chat).unwrap().reason, CoolingReason::Rate);
        succeed(&mut rest, Usage::Chat, now);
        assert_eq!(length(&rest, now), s(7200), "a success ends no rest");
        rest.clear();
        assert_eq!(length(&rest, now), s(0));
        rest.quota(Usage::Chat, s(0), now);
        assert_eq!(length(&rest, now), s(1));
        rest.quota(Usage::Chat, s(90_001), now);
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
            let (mut rest, now) = (Rests::default(), start());
            let (until_unix, set_at_unix) = (now.unix.plus(until), now.unix.plus(set_at));
            let cooling = Cooling { reason: CoolingReason::Quota, until: until_unix, set_at: set_at_unix, strikes: 0 };
            rest.restore(&PerUsage::of(|usage| (usage == Usage::Chat).then_some(cooling)), now);
            assert_eq!(length_of(&rest, Usage::Image, now), s(0));
            assert_eq!(length(&rest, now), s(expected), "{until} {set_at}");
        }
        let (mut rest, now) = (Rests::default(), start());
        rest.quota(Usage::Chat, s(500), now);
        let later = plus(now, s(100));
        let mut second = Rests::default();
        second.restore(&rest.facts(), later);
        assert_eq!(length(&second, later), s(400));
    }

    #[test]
    fn strikes_outlive_a_restart() {
        let restored = |rests: &Rests, now: Now| {
            let mut after = Rests::default();
            after.restore(&rests.facts(), now);
            after
        };
        let (mut rests, start) = (Rests::default(), start());
        for _ in 0..3 {
            rests.rate(Usage::Chat, None, start, 0.0);
            rests = restored(&rests, start);
        }
        assert_eq!(length(&rests, start), s(60), "one refusal, read back again and again");
        let second = plus(start, s(60));
        rests.rate(Usage::Chat, None, second, 0.0);
        assert_eq!(length(&rests, second), s(120));
        // Started while it lasts or after its end: the next one is the third.
        for (at, expected) in [(119, 240), (120, 240)] {
            let mut after = restored(&rests, plus(second, s(at)));
            let third = plus(second, s(120));
            after.rate(Usage::Chat, None, third, 0.0);
            assert_eq!(length(&after, third), s(expected), "{at}");
        }
        // The same for challenges, which concern everything, and for both together.
        rests.challenge(s(300), second);
        let mut after = restored(&rests, plus(second, s(10)));
        let (quota, over) = (plus(second, s(20)), plus(second, s(300)));
        after.quota(Usage::Video, s(9000), quota);
        let mut after = restored(&after, quota);
        after.challenge(s(300), over);
        assert_eq!(length_of(&after, Usage::Image, over), s(900), "the second challenge");
    }

    #[test]
    fn rates_and_quotas_are_of_one_usage_and_challenges_of_all() {
        let (mut rests, now) = (Rests::default(), start());
        let lengths = |rests: &Rests| Usage::ASKED.map(|usage| length_of(rests, usage, now).as_secs());
        rests.rate(Usage::Image, None, now, 0.0);
        rests.quota(Usage::Video, s(1000), now);
        assert_eq!(lengths(&rests), [0, 60, 1000]);
        rests.challenge(s(300), now);
        assert_eq!(lengths(&rests), [300, 300, 1000], "the longer one counts");
        let reasons = Usage::ASKED.map(|usage| rests.active(usage, now.instant).unwrap().reason);
        assert_eq!(reasons, [CoolingReason::Challenge, CoolingReason::Challenge, CoolingReason::Quota]);
        rests.rate(Usage::Image, None, now, 0.0);
        rests.challenge(s(300), now);
        assert_eq!(lengths(&rests), [300, 300, 1000], "each was one strike, behind a longer rest too");
        let mut restored = Rests::default();
        restored.restore(&rests.facts(), now);
        assert_eq!(lengths(&restored), [300, 300, 1000]);
        assert_eq!(restored.facts(), rests.facts());
        restored.challenge(s(300), plus(now, s(100)));
        assert_eq!(lengths(&restored), [300, 300, 1000], "it is known to be challenged");
        rests.quota(Usage::Chat, s(300), now);
        assert_eq!(rests.active(Usage::Chat, now.instant).unwrap().reason, CoolingReason::Quota, "among equals");
        rests.clear();
        assert_eq!(lengths(&rests), [0, 0, 0]);
        assert_eq!(rests.facts(), PerUsage::default());
    }

    #[test]
    fn a_success_tells_about_its_usage_and_about_challenges() {
        let (mut rests, start) = (Rests::default(), start());
        let old_chat = rests.counts(Usage::Chat);
        rests.rate(Usage::Video, None, start, 0.0);
        rests.challenge(s(300), start);
        let now = plus(start, s(300));
        rests.succeed(Usage::Chat, old_chat, now.instant);
        rests.challenge(s(300), now);
        assert_eq!(length(&rests, now), s(900), "that one began before the challenge");
        let now = plus(now, s(900));
        succeed(&mut rests, Usage::Chat, now);
        rests.challenge(s(300), now);
        assert_eq!(length(&rests, now), s(300));
        let now = plus(now, s(300));
        rests.rate(Usage::Video, None, now, 0.0);
        assert_eq!(length_of(&rests, Usage::Video, now), s(120), "chats say nothing about videos");
        let now = plus(now, s(120));
        succeed(&mut rests, Usage::Video, now);
        rests.rate(Usage::Video, None, now, 0.0);
        assert_eq!(length_of(&rests, Usage::Video, now), s(60));
    }
}
