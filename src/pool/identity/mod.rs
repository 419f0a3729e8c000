//! One identity's place in the pool: independent facts (breaker, rest, credential), never one counter for all.

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
    /// It has none that is any good. It is asked again from `retry_at` on, when no ready identity is free, so
    /// that a request may bring about the exchange.
    Missing {
        /// When the next exchange may be tried.
        retry_at: Instant,
    },
    /// The login itself is refused. It is not used until the refresher finds it well again, or its owner has logged in.
    Dead,
}

/// All that the pool knows about one identity, but for its place in the line.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) session: Arc<Session>,
    pub(crate) breaker: Breaker,
    pub(crate) rests: Rests,
    credential: CredentialState,
    dead_since: Option<UnixSeconds>,
    /// Taken out of the pool. The place stays, because leases know it by its number; it is given to the next one that
    /// comes once nothing is in flight on it.
    is_gone: bool,
}

/// Why an identity cannot be used for something at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) reason: IdentityReason,
    /// When this reason ends; `None` if no time ends it.
    pub(crate) until: Option<Instant>,
    /// The rest that it has, whether or not that is the longest reason.
    pub(crate) rest: Option<CoolingReason>,
}

impl Slot {
    /// An identity of which nothing is known yet but its session.
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

    /// Takes up what was found out about the credential. The date of a death stays until it is undone.
    pub(crate) fn set_credential(&mut self, state: CredentialState, now: UnixSeconds) {
        self.dead_since = match state {
            CredentialState::Dead => Some(self.dead_since.unwrap_or(now)),
            CredentialState::Ready | CredentialState::Missing { .. } => None,
        };
        self.credential = state;
    }

    /// Takes up what was written down before a restart.
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

    /// What has to be written down.
    pub(crate) fn facts(&self, now: Now) -> IdentityFacts {
        IdentityFacts { cooling: self.rests.facts(), dead_since: self.dead_since, breaker: self.breaker.facts(now) }
    }

    /// From when on it may be picked for a usage if nothing else happens; `Err` if no time will do. No identity is
    /// probed before `probes_from`.
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

    /// Seconds that its token has left; negative when it is over, or there is none.
    pub(crate) fn life(&self, now: Now) -> i64 {
        match self.session.token().map(|token| token.expires_at()) {
            Some(Some(at)) => at.0.saturating_sub(now.unix.0),
            Some(None) => freshness::UNKNOWN_SECONDS,
            None => freshness::NONE_SECONDS,
        }
    }

    /// Its selection tier.
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

    /// What keeps it from a usage at `now`, the longest reason; a rest goes first among equals.
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

    /// What keeps it from all that a request needs at `now`, the longest reason.
    pub(crate) fn block_of(&self, need: Need, probes_from: Option<Instant>, now: Instant) -> Option<Block> {
        let upload = need.uploads.then_some(Usage::Upload);
        let blocks = [Some(need.usage), upload].into_iter().flatten();
        let blocks = blocks.filter_map(|usage| self.block(usage, probes_from, now));
        blocks.max_by_key(|block| (block.until.is_none(), block.until))
    }

    /// What people see of it, without what its session knows.
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
            // Chats are what people think of when an account is down.
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

    /// The breaker's part in it, even when it would let a probe through by now.
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

/// No time will make this identity usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead;
