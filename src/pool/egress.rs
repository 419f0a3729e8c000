//! Pauses of all requests: when two identities are challenged at once, the address of this server is the cause, not
//! they. Then no request is sent for a while, and after it one probe. Pure.

use std::time::{Duration, Instant};

use crate::pool::clock::{after, doubled};

/// Whether requests may be sent.
#[derive(Clone, Debug)]
pub(crate) struct Egress {
    stage: Stage,
    /// The identity challenged last, and when.
    last: Option<(usize, Instant)>,
    /// Pauses in a row: the exponent of the next one.
    pauses: u32,
    /// Grows with each probe, so that a lost one is known by its number.
    probe: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Free,
    Paused { until: Instant },
    Probing { lost_at: Instant },
}

/// The decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Free,
    /// Send, as the one probe.
    Probe,
    /// No request may be sent until this moment.
    Shut {
        until: Instant,
    },
}

impl Egress {
    pub(crate) fn new() -> Self {
        Self { stage: Stage::Free, last: None, pauses: 0, probe: 0 }
    }

    /// The decision about a request at `now`.
    pub(crate) fn gate(&self, now: Instant) -> Gate {
        match self.stage {
            Stage::Free => Gate::Free,
            Stage::Paused { until } | Stage::Probing { lost_at: until } if now < until => Gate::Shut { until },
            Stage::Paused { .. } | Stage::Probing { .. } => Gate::Probe,
        }
    }

    /// The probe goes out; its number comes back with its result.
    pub(crate) fn begin_probe(&mut self, now: Instant, lease: Duration) -> u64 {
        self.probe = self.probe.wrapping_add(1);
        self.stage = Stage::Probing { lost_at: after(now, lease) };
        self.probe
    }

    /// An identity was challenged; `probe` is the number of its lease, if it was a probe.
    pub(crate) fn challenged(&mut self, identity: usize, probe: Option<u64>, now: Instant) {
        let is_second =
            self.last.is_some_and(|(other, at)| other != identity && now.saturating_duration_since(at) <= TOGETHER);
        self.last = Some((identity, now));
        // Requests that were in flight when the pause began do not prolong it.
        let is_paused = matches!(self.stage, Stage::Paused { until } if now < until);
        if !is_paused && (is_second || self.is_current(probe)) {
            self.stage = Stage::Paused { until: after(now, doubled(PAUSE_BASE, self.pauses, PAUSE_MAX)) };
            self.pauses = self.pauses.saturating_add(1);
        }
    }

    /// Records the first content of the probe, which ends the pauses.
    pub(crate) fn succeed(&mut self, probe: Option<u64>) {
        if self.is_current(probe) {
            *self = Self { probe: self.probe, ..Self::new() };
        }
    }

    /// The probe ended and told nothing: the next request is one.
    pub(crate) fn give_back(&mut self, probe: Option<u64>, now: Instant) {
        if self.is_current(probe) {
            self.stage = Stage::Paused { until: now };
        }
    }

    fn is_current(&self, probe: Option<u64>) -> bool {
        matches!(self.stage, Stage::Probing { .. }) && probe == Some(self.probe)
    }
}

/// Two identities challenged within this time were challenged together.
const TOGETHER: Duration = Duration::from_secs(60);
const PAUSE_BASE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(30 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(45);

    fn shut(start: Instant, seconds: u64) -> Gate {
        Gate::Shut { until: start + Duration::from_secs(seconds) }
    }

    #[test]
    fn two_within_a_minute_pause_and_one_alone_never_does() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (second, seconds, expected) in
            [(1, 60, shut(start, 120)), (1, 0, shut(start, 60)), (1, 61, Gate::Free), (0, 1, Gate::Free)]
        {
            let mut egress = Egress::new();
            egress.challenged(0, None, at(0));
            assert_eq!(egress.gate(at(0)), Gate::Free);
            egress.challenged(second, None, at(seconds));
            assert_eq!(egress.gate(at(seconds)), expected, "{second} {seconds}");
        }
    }

    #[test]
    fn pauses_double_until_a_probe_gets_through() {
        let mut now = Instant::now();
        let mut egress = Egress::new();
        egress.challenged(0, None, now);
        egress.challenged(1, None, now);
        let mut lengths = Vec::new();
        for _ in 0..7 {
            // Late ones change nothing.
            egress.challenged(2, None, now);
            let Gate::Shut { until } = egress.gate(now) else {
                panic!("not shut: {egress:?}");
            };
            lengths.push((until - now).as_secs());
            now = until;
            assert_eq!(egress.gate(now), Gate::Probe);
            let probe = egress.begin_probe(now, LEASE);
            assert_eq!(egress.gate(now), Gate::Shut { until: now + LEASE });
            egress.challenged(0, Some(probe), now);
        }
        assert_eq!(lengths, [60, 120, 240, 480, 960, 1800, 1800]);
        now += Duration::from_secs(1800);
        let probe = egress.begin_probe(now, LEASE);
        egress.succeed(Some(probe + 1));
        egress.succeed(None);
        assert_ne!(egress.gate(now), Gate::Free);
        egress.succeed(Some(probe));
        assert_eq!(egress.gate(now), Gate::Free);
        egress.challenged(0, None, now);
        assert_eq!(egress.gate(now), Gate::Free, "the one before is forgotten");
        egress.challenged(1, None, now);
        assert_eq!(egress.gate(now), shut(now, 60), "and the length too");
    }

    #[test]
    fn a_probe_without_result_makes_room_for_the_next() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut egress = Egress::new();
        egress.challenged(0, None, start);
        egress.challenged(1, None, start);
        let first = egress.begin_probe(at(60), LEASE);
        egress.give_back(None, at(61));
        assert_eq!(egress.gate(at(61)), shut(start, 105));
        egress.give_back(Some(first), at(62));
        assert_eq!(egress.gate(at(62)), Gate::Probe);
        let second = egress.begin_probe(at(62), LEASE);
        assert_eq!(egress.gate(at(106)), shut(start, 107));
        assert_eq!(egress.gate(at(107)), Gate::Probe, "a lost probe");
        let third = egress.begin_probe(at(107), LEASE);
        egress.succeed(Some(second));
        egress.give_back(Some(second), at(108));
        assert_eq!(egress.gate(at(108)), shut(start, 152), "old numbers count for nothing");
        egress.succeed(Some(third));
        assert_eq!(egress.gate(at(108)), Gate::Free);
    }

    #[test]
    fn a_challenge_at_the_very_end_of_a_pause_begins_another() {
        let start = Instant::now();
        let mut egress = Egress::new();
        egress.challenged(0, None, start);
        egress.challenged(1, None, start);
        egress.challenged(0, None, start + Duration::from_secs(60));
        assert_eq!(egress.gate(start + Duration::from_secs(60)), shut(start, 180));
    }
}
