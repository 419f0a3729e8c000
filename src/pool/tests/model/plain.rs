//! The model: what a pool should show after each step.

use super::*;
use crate::pool::tests::model::steps::{End, Token};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Gate {
    Closed,
    Open { until: u64 },
    Probing { since: u64 },
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) gate: Gate,
    pub(super) fails: u32,
    pub(super) trips: u32,
    pub(super) refusals: u32,
    pub(super) is_refused: bool,
    pub(super) epoch: u64,
    pub(super) calm_since: u64,
    /// The state of each usage, in the order of `Usage::ALL`.
    pub(super) used: [Used; 5],
    /// End of its rest from everything after a challenge.
    pub(super) challenged: Option<u64>,
    pub(super) challenges: u32,
    /// Number of challenges so far.
    pub(super) challenge_count: u32,
    pub(super) token: Token,
    pub(super) in_flight: u32,
}

/// The state of one usage of one identity.
#[derive(Clone, Debug)]
pub(super) struct Used {
    pub(super) rest: Option<(CoolingReason, u64)>,
    pub(super) rests: u32,
    pub(super) rate_strikes: u32,
    pub(super) picked: u64,
}

/// A lease as the model sees it.
pub(super) struct Held {
    pub(super) lease: Lease,
    pub(super) index: usize,
    pub(super) usage: Usage,
    pub(super) epoch: u64,
    pub(super) rests: u32,
    pub(super) challenge_count: u32,
}

pub(super) struct Model {
    pub(super) now: u64,
    pub(super) known: Vec<Known>,
    pub(super) picks: u64,
    pub(super) early_at: Option<u64>,
}

impl Known {
    fn cooldown(&self) -> u64 {
        (300 << self.trips.min(8)).min(3600)
    }

    pub(super) fn open(&mut self, from: u64) {
        self.gate = Gate::Open { until: from + self.cooldown() };
        self.trips += 1;
        self.is_refused = false;
        self.epoch += 1;
        self.fails = 0;
    }

    fn refuse(&mut self, now: u64) {
        self.gate = Gate::Open { until: now + (60 << self.refusals.min(8)).min(3600) };
        self.refusals += 1;
        self.is_refused = true;
        self.epoch += 1;
        self.fails = 0;
    }

    pub(super) fn close(&mut self, now: u64) {
        self.gate = Gate::Closed;
        self.refusals = 0;
        self.is_refused = false;
        self.calm_since = now;
        self.epoch += 1;
        self.fails = 0;
    }

    pub(super) fn pass_time(&mut self, now: u64) {
        if let Gate::Probing { since } = self.gate
            && now >= since + 60
        {
            self.open(since + 60);
        }
        for used in &mut self.used {
            used.rest = used.rest.filter(|(_, until)| now < *until);
        }
        self.challenged = self.challenged.filter(|until| now < *until);
    }

    fn rest_for(&mut self, usage: Usage, reason: CoolingReason, seconds: u64, now: u64) {
        let used = &mut self.used[usage as usize];
        used.rests += 1;
        if used.rest.is_none_or(|(_, until)| until < now + seconds) {
            used.rest = Some((reason, now + seconds));
        }
    }

    /// The rest of a usage: its own or the one of the whole account, whichever is longer.
    pub(super) fn rest(&self, usage: Usage) -> Option<(CoolingReason, u64)> {
        let challenge = self.challenged.map(|until| (CoolingReason::Challenge, until));
        match (self.used[usage as usize].rest, challenge) {
            (Some(own), Some(challenge)) => Some(if own.1 >= challenge.1 { own } else { challenge }),
            (own, challenge) => own.or(challenge),
        }
    }

    pub(super) fn is_usable(&self, usage: Usage, now: u64) -> bool {
        let has_token = match self.token {
            Token::Ready => true,
            Token::Missing(at) => at <= now,
            Token::Dead => false,
        };
        let admits = match self.gate {
            Gate::Closed => true,
            Gate::Open { until } => until <= now,
            Gate::Probing { .. } => false,
        };
        has_token && admits && self.rest(usage).is_none()
    }

    fn tier(&self, is_retry: bool) -> u32 {
        let is_second = self.fails >= 2 || self.gate != Gate::Closed;
        match self.token {
            Token::Ready => u32::from(is_retry && is_second),
            Token::Missing(_) | Token::Dead => 2,
        }
    }

    pub(super) fn status(&self) -> IdentityStatus {
        let is_dead = matches!(self.token, Token::Dead);
        let rests = |usage: Usage| self.rest(usage).is_some();
        if is_dead || self.gate != Gate::Closed || Usage::ASKED.into_iter().all(rests) {
            IdentityStatus::Down
        } else if self.fails >= 2 || !matches!(self.token, Token::Ready) || Usage::ALL.into_iter().any(rests) {
            IdentityStatus::Degraded
        } else {
            IdentityStatus::Healthy
        }
    }

    /// Moment from which on it may be used for a usage.
    pub(super) fn next_at(&self, usage: Usage, now: u64) -> Option<u64> {
        let token = match self.token {
            Token::Ready => None,
            Token::Missing(at) => Some(at),
            Token::Dead => return None,
        };
        let gate = match self.gate {
            Gate::Closed => None,
            Gate::Open { until } => Some(until),
            Gate::Probing { since } => Some(since + 60),
        };
        let rest = self.rest(usage).map(|(_, until)| until);
        token.max(gate).max(rest).filter(|at| *at > now)
    }
}

pub(super) enum Expected {
    Pick(usize),
    Busy,
    Refused,
}

impl Model {
    pub(super) fn new(count: usize) -> Self {
        let known = (0..count)
            .map(|index| Known {
                gate: Gate::Closed,
                fails: 0,
                trips: 0,
                refusals: 0,
                is_refused: false,
                epoch: 0,
                calm_since: 0,
                used: Usage::ALL.map(|_| Used {
                    rest: None,
                    rests: 0,
                    rate_strikes: 0,
                    picked: u64::try_from(index).unwrap(),
                }),
                challenged: None,
                challenges: 0,
                challenge_count: 0,
                token: Token::Ready,
                in_flight: 0,
            })
            .collect();
        Self { now: 0, known, picks: u64::try_from(count).unwrap(), early_at: None }
    }

    pub(super) fn pass_time(&mut self) {
        self.known.iter_mut().for_each(|known| known.pass_time(self.now));
    }

    pub(super) fn pick(&mut self, usage: Usage, tried: &[usize]) -> Expected {
        let usable = |index: &usize| self.known[*index].is_usable(usage, self.now);
        let picked = |index: usize| self.known[index].used[usage as usize].picked;
        let all: Vec<_> = (0..self.known.len()).collect();
        let untried: Vec<_> = all.iter().copied().filter(|index| !tried.contains(index)).collect();
        let candidates: Vec<_> = untried.iter().copied().filter(usable).collect();
        // Those without a token are the last resort: a request rather waits for one that has.
        let has_token = |index: &usize| matches!(self.known[*index].token, Token::Ready);
        let anybody_has = candidates.iter().any(has_token);
        let in_turn = candidates.iter().copied().filter(|index| !anybody_has || has_token(index));
        let best = in_turn.filter(|index| self.known[*index].in_flight < 2).min_by_key(|index| {
            let known = &self.known[*index];
            (known.tier(!tried.is_empty()), known.in_flight, picked(*index))
        });
        if let Some(index) = best {
            return Expected::Pick(index);
        }
        if untried.is_empty() {
            return Expected::Refused;
        }
        if !candidates.is_empty() {
            return Expected::Busy;
        }
        let is_rare = self.early_at.is_none_or(|at| self.now >= at + 5);
        if is_rare && !all.iter().any(usable) {
            let early = untried
                .iter()
                .copied()
                .filter(|index| {
                    let known = &self.known[*index];
                    let gate = known.gate;
                    let mut freed = known.clone();
                    freed.gate = Gate::Closed;
                    matches!(gate, Gate::Open { .. })
                        && !known.is_refused
                        && freed.is_usable(usage, self.now)
                        && known.in_flight < 2
                })
                .min_by_key(|index| picked(*index));
            if let Some(index) = early {
                self.early_at = Some(self.now);
                return Expected::Pick(index);
            }
        }
        Expected::Refused
    }

    /// Returns whether it is a probe.
    pub(super) fn take(&mut self, usage: Usage, index: usize) -> bool {
        let known = &mut self.known[index];
        known.used[usage as usize].picked = self.picks;
        self.picks += 1;
        known.in_flight += 1;
        let is_probe = known.gate != Gate::Closed;
        if is_probe {
            known.gate = Gate::Probing { since: self.now };
            known.epoch += 1;
        }
        is_probe
    }

    pub(super) fn apply(&mut self, held: &mut Held, end: End, is_end: bool) {
        let now = self.now;
        let known = &mut self.known[held.index];
        let is_current = held.epoch == known.epoch;
        match end {
            End::Success => {
                if is_current {
                    if known.gate == Gate::Closed {
                        known.fails = 0;
                    } else {
                        known.close(now);
                        held.epoch = known.epoch;
                    }
                }
                let used = &mut known.used[held.usage as usize];
                if held.rests == used.rests {
                    used.rate_strikes = 0;
                }
                if held.challenge_count == known.challenge_count {
                    known.challenges = 0;
                }
            }
            End::Fault if is_current => {
                if known.gate == Gate::Closed {
                    if now >= known.calm_since + 600 {
                        known.trips = 0;
                    }
                    known.calm_since = now;
                    known.fails += 1;
                    if known.fails == 3 {
                        known.open(now);
                    }
                } else {
                    known.open(now);
                }
            }
            End::Fault | End::Neutral => {}
            End::Limited => {
                let used = &mut known.used[held.usage as usize];
                if !matches!(used.rest, Some((CoolingReason::Rate, _))) {
                    let seconds = (60 << used.rate_strikes.min(8)).min(1800);
                    used.rate_strikes += 1;
                    known.rest_for(held.usage, CoolingReason::Rate, seconds, now);
                }
            }
            End::LimitedFor => known.rest_for(held.usage, CoolingReason::Rate, 45, now),
            End::Quota => known.rest_for(held.usage, CoolingReason::Quota, 1000, now),
            End::Challenged => {
                if known.challenged.is_none() {
                    let seconds = [300, 900, 1800, 3600, 7200][known.challenges.min(4) as usize];
                    known.challenges += 1;
                    known.challenge_count += 1;
                    known.challenged = Some(now + seconds);
                }
            }
            End::Unauthorized => {
                if matches!(known.token, Token::Ready) {
                    known.token = Token::Missing(now);
                }
            }
            End::Refused => {
                if is_current && !matches!(known.gate, Gate::Open { .. }) {
                    known.refuse(now);
                }
            }
        }
        if is_end {
            if held.epoch == known.epoch && known.gate != Gate::Closed {
                known.gate = Gate::Open { until: now };
                known.epoch += 1;
            }
            known.in_flight -= 1;
        }
    }
}
