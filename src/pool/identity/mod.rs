//! One identity's slot in the pool: independent facts (breaker, rest, credential), never one counter for all.

pub(crate) mod breaker;
pub(crate) mod rest;
pub(crate) mod window;

use std::sync::Arc;
use std::time::Instant;

use crate::base::facts::{CoolingReason, IdentityFacts, Need, PerUsage, Usage};
use crate::base::ids::UnixSeconds;
use crate::base::session::Session;
use crate::pool::clock::Now;
use crate::pool::freshness;
use crate::pool::identity::breaker::{Breaker, State};
use crate::pool::identity::rest::{Current, Rests};
use crate::pool::rotation::Standing;
use crate::pool::settings::PoolSettings;
use crate::pool::view::{IdentityReason, IdentityStatus, IdentityView};

/// Whether an identity has a usable credential. Set by refreshes and by 401 answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialState {
    /// It has an access token.
    Ready,
    /// It has no usable token. It is asked again from `retry_at` on, when no ready identity is free, so that a request
    /// can trigger the exchange.
    Missing {
        /// Moment of the next exchange.
        retry_at: Instant,
    },
    /// The login itself is refused. It is not used until a refresh succeeds again, or its owner has logged in.
    Dead,
}

/// Everything that the pool knows about one identity, except its place in the rotation.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) session: Arc<Session>,
    pub(crate) breaker: Breaker,
    pub(crate) rests: Rests,
    credential: CredentialState,
    dead_since: Option<UnixSeconds>,
    /// Whether it was taken out of the pool. The slot stays, because leases refer to it by number; the next new
    /// identity gets it once nothing is in flight on it.
    is_gone: bool,
}

/// The reason why an identity cannot be used at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) reason: IdentityReason,
    /// End of this reason; `None` if time does not end it.
    pub(crate) until: Option<Instant>,
    /// The reason of its present rest, even if another reason lasts longer.
    pub(crate) rest: Option<CoolingReason>,
}

impl Block {
    /// Whether what it lacks is a credential that the upstream takes.
    pub(crate) fn lacks_credential(&self) -> bool {
        matches!(self.reason, IdentityReason::LoginNeeded | IdentityReason::TokenMissing | IdentityReason::Refused)
    }
}

impl Slot {
    /// A new identity of which only the session is known.
    pub(crate) fn new(session: Arc<Session>, now: Instant) -> Self {
        let credential =
            if session.token().is_some() { CredentialState::Ready } else { CredentialState::Missing { retry_at: now } };
        Self { session, breaker: Breaker::new(), rests: Rests::default(), credential, dead_since: None, is_gone: false }
    }

    /// Takes it out of the pool.
    pub(crate) fn leave(&mut self) {
        self.is_gone = true;
    }

    /// Whether it was taken out of the pool.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    pub(crate) fn credential(&self) -> CredentialState {
        self.credential
    }

    /// Sets the state of the credential. The date of a death stays until it is undone.
    pub(crate) fn set_credential(&mut self, state: CredentialState, now: UnixSeconds) {
        self.dead_since = match state {
            CredentialState::Dead => Some(self.dead_since.unwrap_or(now)),
            CredentialState::Ready | CredentialState::Missing { .. } => None,
        };
        self.credential = state;
    }

    /// Restores the facts that were stored before a restart.
    pub(crate) fn restore(&mut self, facts: IdentityFacts, now: Now, settings: &PoolSettings) {
        self.rests.restore(&facts.cooling, now);
        if let Some(open) = facts.breaker {
            self.breaker.restore(open, now, settings);
        }
        if let Some(since) = facts.dead_since {
            self.credential = CredentialState::Dead;
            self.dead_since = Some(since);
        }
    }

    /// The facts that have to be stored.
    pub(crate) fn facts(&self, now: Now) -> IdentityFacts {
        IdentityFacts { cooling: self.rests.facts(), dead_since: self.dead_since, breaker: self.breaker.facts(now) }
    }

    /// The moment from which on it may be picked for a usage if nothing else happens; `Err` if time alone never allows
    /// it. No identity is probed before `probes_from`.
    pub(crate) fn usable_at(&self, usage: Usage, probes_from: Option<Instant>) -> Result<Option<Instant>, Dead> {
        if self.is_gone {
            return Err(Dead);
        }
        let retry_at = match self.credential {
            CredentialState::Ready => None,
            CredentialState::Missing { retry_at } => Some(retry_at),
            CredentialState::Dead => return Err(Dead),
        };
        let admits_at = self.breaker.usable_at().map(|at| probes_from.map_or(at, |from| from.max(at)));
        Ok(retry_at.max(admits_at).max(self.rests.until(usage)))
    }

    /// Seconds until its token ends; negative after the end, or without a token.
    pub(crate) fn life(&self, now: Now) -> i64 {
        match self.session.token().map(|token| token.expires_at()) {
            Some(Some(at)) => at.0.saturating_sub(now.unix.0),
            Some(None) => freshness::UNKNOWN_SECONDS,
            None => freshness::NONE_SECONDS,
        }
    }

    /// Its selection tier, best first.
    pub(crate) fn standing(&self, settings: &PoolSettings) -> Standing {
        match self.credential {
            CredentialState::Missing { .. } | CredentialState::Dead => Standing::Last,
            CredentialState::Ready if self.is_failing(settings) => Standing::Second,
            CredentialState::Ready => match self.breaker.usable_at() {
                Some(_) => Standing::Second,
                None => Standing::First,
            },
        }
    }

    /// Whether transient failures alone keep it from a usage, so that an early probe may be worth a try.
    pub(crate) fn is_only_tripped(&self, usage: Usage, now: Instant) -> bool {
        let has_credential = match self.credential {
            CredentialState::Ready => true,
            CredentialState::Missing { retry_at } => retry_at <= now,
            CredentialState::Dead => false,
        };
        let is_tripped = matches!(self.breaker.state(now), State::Open { .. }) && !self.breaker.is_refused(now);
        !self.is_gone && has_credential && is_tripped && self.rests.active(usage, now).is_none()
    }

    /// Whether it can be asked for a usage at all: neither dead nor resting.
    pub(crate) fn is_in_use(&self, usage: Usage, now: Instant) -> bool {
        !self.is_gone && self.credential != CredentialState::Dead && self.rests.active(usage, now).is_none()
    }

    /// The reason that keeps it from a usage longest, at `now`; a rest goes first among equals.
    pub(crate) fn block(&self, usage: Usage, probes_from: Option<Instant>, now: Instant) -> Option<Block> {
        let rest = self.rests.active(usage, now);
        let block = |reason, until| Block { reason, until, rest: rest.map(|rest| rest.reason) };
        let retry_at = match self.credential {
            CredentialState::Ready => None,
            CredentialState::Missing { retry_at } => Some(retry_at),
            CredentialState::Dead => return Some(block(IdentityReason::LoginNeeded, None)),
        };
        [
            retry_at.map(|retry_at| (IdentityReason::TokenMissing, retry_at)),
            self.tripped(probes_from, now),
            rest.map(|rest| (IdentityReason::Resting(usage, rest.reason), rest.until)),
        ]
        .into_iter()
        .flatten()
        .filter(|(_, until)| *until > now)
        .max_by_key(|(_, until)| *until)
        .map(|(reason, until)| block(reason, Some(until)))
    }

    /// The reason that keeps it longest from all usages that a request needs, at `now`.
    pub(crate) fn block_of(&self, need: Need, probes_from: Option<Instant>, now: Instant) -> Option<Block> {
        let upload = need.uploads.then_some(Usage::Upload);
        let blocks = [Some(need.usage), upload].into_iter().flatten();
        let blocks = blocks.filter_map(|usage| self.block(usage, probes_from, now));
        blocks.max_by_key(|block| (block.until.is_none(), block.until))
    }

    /// The identity as people see it, without the data of its session.
    pub(crate) fn view(
        &self,
        settings: &PoolSettings,
        in_flight: u32,
        probes_from: Option<Instant>,
        now: Now,
    ) -> IdentityView {
        let resting = PerUsage::of(|usage| self.rests.active(usage, now.instant));
        let (status, reason) = self.status(settings, &resting, now.instant);
        let until = match reason {
            Some(IdentityReason::Resting(usage, _)) => self.block(usage, probes_from, now.instant),
            _ => self.block(Usage::Chat, probes_from, now.instant),
        }
        .and_then(|block| block.until);
        IdentityView {
            id: self.session.identity().clone(),
            status,
            reason,
            fails: self.breaker.fails(),
            in_flight,
            next_at: until.map(|until| now.unix_at(until)),
            token_expires_at: None,
            cooling: PerUsage::of(|usage| resting.get(usage).map(Current::cooling)),
            dead_since: self.dead_since,
        }
    }

    fn status(
        &self,
        settings: &PoolSettings,
        resting: &PerUsage<Option<Current>>,
        now: Instant,
    ) -> (IdentityStatus, Option<IdentityReason>) {
        if self.credential == CredentialState::Dead {
            return (IdentityStatus::Down, Some(IdentityReason::LoginNeeded));
        }
        let reason = |usage, rest: &Current| IdentityReason::Resting(usage, rest.reason);
        let tripped = self.tripped(None, now);
        if tripped.is_some() || Usage::ASKED.into_iter().all(|usage| resting.get(usage).is_some()) {
            // A rest from chats is what people mean by an account that is down.
            let rest = resting.get(Usage::Chat).map(|rest| (reason(Usage::Chat, &rest), rest.until));
            let longest = [tripped, rest].into_iter().flatten().max_by_key(|(_, until)| *until);
            return (IdentityStatus::Down, longest.map(|(reason, _)| reason));
        }
        if matches!(self.credential, CredentialState::Missing { .. }) {
            return (IdentityStatus::Degraded, Some(IdentityReason::TokenMissing));
        }
        let rest = resting.iter().find_map(|(usage, rest)| Some(reason(usage, rest.as_ref()?)));
        if rest.is_some() {
            return (IdentityStatus::Degraded, rest);
        }
        if self.is_failing(settings) {
            return (IdentityStatus::Degraded, Some(IdentityReason::Failing));
        }
        (IdentityStatus::Healthy, None)
    }

    fn is_failing(&self, settings: &PoolSettings) -> bool {
        self.breaker.fails() >= settings.degrade_after.max(1)
    }

    /// The reason of the breaker, even when it would already let a probe through.
    fn tripped(&self, probes_from: Option<Instant>, now: Instant) -> Option<(IdentityReason, Instant)> {
        match self.breaker.state(now) {
            State::Closed { .. } => None,
            State::Open { until } => {
                let reason =
                    if self.breaker.is_refused(now) { IdentityReason::Refused } else { IdentityReason::Tripped };
                Some((reason, probes_from.map_or(until, |from| from.max(until))))
            }
            State::HalfOpen { lost_at, .. } => Some((IdentityReason::Probing, lost_at)),
        }
    }
}

/// Time alone does not make this identity usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead;
