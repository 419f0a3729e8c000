//! The pool and its model side by side.

use super::*;
use crate::pool::tests::model::plain::{Expected, Gate, Held, Model};
use crate::pool::tests::model::steps::{End, Step, Token};

/// The model and the pool, moved together.
pub(super) struct Pair {
    start: Now,
    model: Model,
    pool: IdentityPool,
    held: Vec<Held>,
}

impl Pair {
    pub(super) fn new(count: usize) -> Self {
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

    /// The model's result in the pool's terms. Only one identity is ever challenged or refused, so there is no pause
    /// and the upstream is not blamed.
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

    pub(super) fn step(&mut self, step: Step) {
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

    /// Once all is well again and time passes, each identity whose login still holds is healthy.
    pub(super) fn recover(&mut self) {
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
