//! The pool against a plain model of it: no laziness, no compact line, no queue. After each step everything that
//! can be seen must be what the model says, for every identity, so that what happens to one is seen to leave the
//! others alone.

use proptest::prelude::*;

use crate::base::facts::{CoolingReason, Usage};
use crate::pool::tests::{id, key, own_fault, plus, pool_with, s, settings, start, wanted, wanted_for};
use crate::pool::{
    CredentialState, IdentityPool, IdentityReason, IdentityStatus, Lease, LeaseError, Now, Outcome, PoolSettings,
};

fn tight() -> PoolSettings {
    PoolSettings { degrade_after: 2, trip_after: 3, in_flight_max: 2, ..settings() }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Lease { usage: Usage, tried: u8 },
    Finish { which: usize, end: End },
    Report { which: usize, end: End },
    FirstContent { which: usize },
    Wait { seconds: u64 },
    Token { which: usize, state: Token },
    Reset { which: usize },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Success,
    Fault,
    Limited,
    LimitedFor,
    Quota,
    Challenged,
    Unauthorized,
    Refused,
    Neutral,
}

#[derive(Clone, Copy, Debug)]
enum Token {
    Ready,
    Missing(u64),
    Dead,
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        6 => Just(End::Success),
        14 => Just(End::Fault),
        2 => Just(End::Limited),
        1 => Just(End::LimitedFor),
        1 => Just(End::Quota),
        1 => Just(End::Challenged),
        1 => Just(End::Unauthorized),
        3 => Just(End::Refused),
        4 => Just(End::Neutral),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let which = 0..8_usize;
    let token = prop_oneof![
        4 => Just(Token::Ready),
        2 => (1..100_u64).prop_map(Token::Missing),
        1 => Just(Token::Dead),
    ];
    let usage = prop_oneof![3 => Just(Usage::Chat), 1 => Just(Usage::Image), 2 => Just(Usage::Video)];
    prop_oneof![
        12 => usage.clone().prop_map(|usage| Step::Lease { usage, tried: 0 }),
        4 => (usage, any::<u8>()).prop_map(|(usage, tried)| Step::Lease { usage, tried }),
        14 => (which.clone(), ends()).prop_map(|(which, end)| Step::Finish { which, end }),
        1 => (which.clone(), ends()).prop_map(|(which, end)| Step::Report { which, end }),
        2 => which.clone().prop_map(|which| Step::FirstContent { which }),
        5 => prop::sample::select(vec![1, 4, 5, 30, 59, 60, 61, 299, 300, 600, 660, 3600])
            .prop_map(|seconds| Step::Wait { seconds }),
        2 => (which.clone(), token).prop_map(|(which, state)| Step::Token { which, state }),
        1 => which.prop_map(|which| Step::Reset { which }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Gate {
    Closed,
    Open { until: u64 },
    Probing { since: u64 },
}

#[derive(Clone, Debug)]
struct Known {
    gate: Gate,
    fails: u32,
    trips: u32,
    refusals: u32,
    is_refused: bool,
    epoch: u64,
    calm_since: u64,
    /// By usage.
    used: [Used; 4],
    /// Until when it rests from everything, because a human is wanted.
    challenged: Option<u64>,
    challenges: u32,
    /// How often it was challenged.
    challenge_count: u32,
    token: Token,
    in_flight: u32,
}

/// What the model knows of one usage of one identity.
#[derive(Clone, Debug)]
struct Used {
    rest: Option<(CoolingReason, u64)>,
    rests: u32,
    rate_strikes: u32,
    picked: u64,
}

/// A lease as the model sees it.
struct Held {
    lease: Lease,
    index: usize,
    usage: Usage,
    epoch: u64,
    rests: u32,
    challenge_count: u32,
}

struct Model {
    now: u64,
    known: Vec<Known>,
    picks: u64,
    early_at: Option<u64>,
}

impl Known {
    fn cooldown(&self) -> u64 {
        (300 << self.trips.min(8)).min(3600)
    }

    fn open(&mut self, from: u64) {
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

    fn close(&mut self, now: u64) {
        self.gate = Gate::Closed;
        self.refusals = 0;
        self.is_refused = false;
        self.calm_since = now;
        self.epoch += 1;
        self.fails = 0;
    }

    fn pass_time(&mut self, now: u64) {
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
    fn rest(&self, usage: Usage) -> Option<(CoolingReason, u64)> {
        let challenge = self.challenged.map(|until| (CoolingReason::Challenge, until));
        match (self.used[usage as usize].rest, challenge) {
            (Some(own), Some(challenge)) => Some(if own.1 >= challenge.1 { own } else { challenge }),
            (own, challenge) => own.or(challenge),
        }
    }

    fn is_usable(&self, usage: Usage, now: u64) -> bool {
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

    fn status(&self) -> IdentityStatus {
        let is_dead = matches!(self.token, Token::Dead);
        let resting = Usage::ASKED.into_iter().filter(|usage| self.rest(*usage).is_some()).count();
        if is_dead || self.gate != Gate::Closed || resting == 3 {
            IdentityStatus::Down
        } else if self.fails >= 2 || !matches!(self.token, Token::Ready) || resting > 0 {
            IdentityStatus::Degraded
        } else {
            IdentityStatus::Healthy
        }
    }

    /// When it may be used for something again.
    fn next_at(&self, usage: Usage, now: u64) -> Option<u64> {
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

enum Expected {
    Pick(usize),
    Busy,
    Refused,
}

impl Model {
    fn new(count: usize) -> Self {
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

    fn pass_time(&mut self) {
        self.known.iter_mut().for_each(|known| known.pass_time(self.now));
    }

    fn pick(&mut self, usage: Usage, tried: &[usize]) -> Expected {
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
    fn take(&mut self, usage: Usage, index: usize) -> bool {
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

    fn apply(&mut self, held: &mut Held, end: End, is_end: bool) {
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

/// The model and the pool, moved together.
struct Pair {
    start: Now,
    model: Model,
    pool: IdentityPool,
    held: Vec<Held>,
}

impl Pair {
    fn new(count: usize) -> Self {
        let start = start();
        Self { start, model: Model::new(count), pool: pool_with(count, tight(), start), held: Vec::new() }
    }

    fn now(&self) -> Now {
        plus(self.start, s(self.model.now))
    }

    fn lease(&mut self, usage: Usage, tried: u8) {
        let now = self.now();
        let count = self.model.known.len();
        let tried: Vec<_> = (0..count).filter(|index| tried >> index & 1 == 1).collect();
        let expected = self.model.pick(usage, &tried);
        let numbers: Vec<_> = tried.iter().map(|index| index + 1).collect();
        let got = self.pool.try_lease(&wanted_for(usage, &numbers, now), now);
        match (expected, got) {
            (Expected::Pick(index), Ok(lease)) => {
                assert_eq!(*lease.identity(), id(index + 1));
                assert_eq!(lease.is_probe(), self.model.take(usage, index));
                let known = &self.model.known[index];
                let (epoch, rests) = (known.epoch, known.used[usage as usize].rests);
                let challenge_count = known.challenge_count;
                self.held.push(Held { lease, index, usage, epoch, rests, challenge_count });
            }
            (Expected::Busy, Err(LeaseError::Busy { .. })) => {}
            (Expected::Refused, Err(error)) => {
                assert!(!matches!(error, LeaseError::Busy { .. }), "{error:?}");
            }
            (Expected::Pick(index), Err(error)) => panic!("{index} refused: {error:?}"),
            (Expected::Busy | Expected::Refused, got) => panic!("lent {got:?}"),
        }
    }

    /// What the model's word is in the pool's. Only one identity is ever challenged or refused, so nothing pauses and the
    /// upstream is not blamed.
    fn outcome(end: End, index: usize) -> (End, Outcome) {
        let is_for_one = matches!(end, End::Challenged | End::Refused);
        let end = if is_for_one && index > 0 { End::Neutral } else { end };
        let outcome = match end {
            End::Success => Outcome::Success,
            End::Fault => own_fault(index + 1),
            End::Limited => Outcome::RateLimited { retry_after: None },
            End::LimitedFor => Outcome::RateLimited { retry_after: Some(s(45)) },
            End::Quota => Outcome::Quota { rest: s(1000) },
            End::Challenged => Outcome::Challenged,
            End::Unauthorized => Outcome::Unauthorized,
            End::Refused => Outcome::Forbidden,
            End::Neutral => Outcome::Neutral,
        };
        (end, outcome)
    }

    fn finish(&mut self, which: usize, end: End) {
        if self.held.is_empty() {
            return;
        }
        let mut held = self.held.swap_remove(which % self.held.len());
        let (end, outcome) = Self::outcome(end, held.index);
        self.model.apply(&mut held, end, true);
        held.lease.finish(outcome, self.now());
    }

    fn report(&mut self, which: usize, end: End) {
        let (count, now) = (self.held.len(), self.now());
        if let Some(held) = self.held.get_mut(which % count.max(1)) {
            let (end, outcome) = Self::outcome(end, held.index);
            self.model.apply(held, end, false);
            held.lease.report(outcome, now);
        }
    }

    fn first_content(&mut self, which: usize) {
        let (count, now) = (self.held.len(), self.now());
        if let Some(held) = self.held.get_mut(which % count.max(1)) {
            held.lease.first_content_at(now);
            let known = &mut self.model.known[held.index];
            if held.epoch == known.epoch && known.gate != Gate::Closed {
                known.close(self.model.now);
                held.epoch = known.epoch;
            }
        }
    }

    fn token(&mut self, which: usize, token: Token) {
        let index = which % self.model.known.len();
        let now = self.now();
        let (token, state) = match token {
            Token::Ready => (Token::Ready, CredentialState::Ready),
            Token::Missing(seconds) => (
                Token::Missing(self.model.now + seconds),
                CredentialState::Missing { retry_at: now.instant + s(seconds) },
            ),
            Token::Dead => (Token::Dead, CredentialState::Dead),
        };
        self.model.known[index].token = token;
        self.pool.set_credential(&key(index + 1), state, now);
    }

    fn reset(&mut self, which: usize) {
        let index = which % self.model.known.len();
        let known = &mut self.model.known[index];
        known.close(0);
        known.trips = 0;
        for used in &mut known.used {
            used.rest = None;
            used.rate_strikes = 0;
        }
        known.challenged = None;
        known.challenges = 0;
        self.pool.reset(&key(index + 1), self.now());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Lease { usage, tried } => self.lease(usage, tried),
            Step::Finish { which, end } => self.finish(which, end),
            Step::Report { which, end } => self.report(which, end),
            Step::FirstContent { which } => self.first_content(which),
            Step::Wait { seconds } => self.model.now += seconds,
            Step::Token { which, state } => self.token(which, state),
            Step::Reset { which } => self.reset(which),
        }
        self.model.pass_time();
        self.compare();
    }

    fn compare(&self) {
        let now = self.now();
        let views = self.pool.views(now);
        for (known, view) in self.model.known.iter().zip(&views) {
            assert_eq!(view.status, known.status(), "{view:?} {known:?}");
            assert_eq!(view.fails, known.fails, "{view:?} {known:?}");
            assert_eq!(view.in_flight, known.in_flight, "{view:?} {known:?}");
            let unix = |at| self.start.unix.plus(i64::try_from(at).unwrap());
            let named = match view.reason {
                Some(IdentityReason::Resting(usage, reason)) => {
                    assert_eq!(known.rest(usage).map(|(reason, _)| reason), Some(reason), "{view:?} {known:?}");
                    assert!(usage == Usage::Chat || known.rest(Usage::Chat).is_none(), "{view:?} {known:?}");
                    usage
                }
                _ => Usage::Chat,
            };
            assert_eq!(view.next_at, known.next_at(named, self.model.now).map(unix), "{view:?} {known:?}");
            for (usage, cooling) in view.cooling.iter() {
                let cooling = cooling.map(|cooling| (cooling.reason, cooling.until));
                let rest = known.rest(usage).map(|(reason, until)| (reason, unix(until)));
                assert_eq!(cooling, rest, "{usage:?} {view:?} {known:?}");
            }
            let is_dead = matches!(known.token, Token::Dead);
            assert_eq!(view.dead_since.is_some(), is_dead);
        }
        for usage in Usage::ALL {
            let is_hopeless = !self.model.known.iter().any(|known| known.is_usable(usage, self.model.now));
            assert_eq!(self.pool.outlook(usage, now).is_some(), is_hopeless, "{usage:?}");
        }
        let summary = self.pool.summary(now);
        assert_eq!(summary.total, views.len());
        assert_eq!(summary.healthy + summary.degraded + summary.down, views.len());
        assert_eq!(summary.in_flight, self.held.len());
        assert!(!summary.upstream_degraded);
    }

    /// Once all is well again and time passes, everybody who is not dead is healthy.
    fn recover(&mut self) {
        while !self.held.is_empty() {
            self.finish(0, End::Neutral);
        }
        for index in 0..self.model.known.len() {
            if !matches!(self.model.known[index].token, Token::Dead) {
                self.token(index, Token::Ready);
            }
        }
        self.step(Step::Wait { seconds: 2 * 3600 + 61 });
        for _ in 0..self.model.known.len() {
            self.step(Step::Lease { usage: Usage::Chat, tried: 0 });
            self.step(Step::Finish { which: 0, end: End::Success });
        }
        for view in self.pool.views(self.now()) {
            let is_dead = view.dead_since.is_some();
            assert_eq!(view.status == IdentityStatus::Healthy, !is_dead, "{view:?}");
        }
    }
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
