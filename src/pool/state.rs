//! The pool's state behind its one lock: picks identities, applies reports, and answers waiting requests.
//!
//! It reads no clock and never waits; `W` is the channel for the answer to a waiting request, and answers are returned
//! to be sent after the lock is released.
//!
//! This is one long file because picking, reporting and waking change the same fields together: each relies on the
//! others to keep them consistent.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::facts::{IdentityFacts, Need, PerUsage, Usage};
use crate::base::ids::CredentialKey;
use crate::base::session::Session;
use crate::pool::blame::Blame;
use crate::pool::budget::RetryBudget;
use crate::pool::clock::{Now, after, stretched};
use crate::pool::egress::{Egress, Gate};
use crate::pool::error::LeaseError;
use crate::pool::freshness;
use crate::pool::identity::window::Tally;
use crate::pool::identity::{CredentialState, Slot};
use crate::pool::outcome::{Grant, Outcome, Refusal, Ticket};
use crate::pool::queue::{Queue, Verdict};
use crate::pool::rotation::{Choice, NEVER, Rotation};
use crate::pool::settings::{PoolSettings, Strategy};
use crate::pool::view::{IdentityStatus, IdentityView, PoolSummary};

/// The whole state of a pool.
#[derive(Debug)]
pub(crate) struct PoolState<W> {
    settings: PoolSettings,
    /// Draws a random number in 0..1, for each length that is spread and each choice by lot.
    jitter: fn() -> f64,
    /// Moment of tick 0 of the rotation.
    origin: Instant,
    slots: Vec<Slot>,
    indices: HashMap<CredentialKey, usize>,
    rotation: Rotation,
    egress: Egress,
    blame: Blame,
    pub(crate) budget: RetryBudget,
    pub(crate) queue: Queue<W>,
    /// Moment of the last early probe.
    early_at: Option<Instant>,
    /// Both clocks when they were last compared.
    compared_at: Option<Now>,
    /// While the upstream is blamed: moment from which on the next probe of any identity may be sent.
    probes_from: Option<Instant>,
}

impl<W> PoolState<W> {
    pub(crate) fn new(sessions: Vec<Arc<Session>>, settings: PoolSettings, jitter: fn() -> f64, now: Instant) -> Self {
        let indices = sessions.iter().enumerate().map(|(index, session)| (session.key().clone(), index)).collect();
        let slots: Vec<_> = sessions.into_iter().map(|session| Slot::new(session, now)).collect();
        let mut state = Self {
            rotation: Rotation::new(slots.len(), settings.in_flight_max),
            egress: Egress::new(),
            blame: Blame::default(),
            budget: RetryBudget::new(now),
            queue: Queue::new(settings.queue_max),
            early_at: None,
            compared_at: None,
            probes_from: None,
            origin: now,
            settings,
            jitter,
            slots,
            indices,
        };
        state.sync_all();
        state
    }

    /// Takes other settings for everything that happens from now on. The strategy stays, and so does a rest that has
    /// begun.
    pub(crate) fn configure(&mut self, settings: PoolSettings) {
        self.rotation.set_cap(settings.in_flight_max);
        self.queue.set_max(settings.queue_max);
        self.settings = PoolSettings { strategy: self.settings.strategy, ..settings };
        self.sync_all();
    }

    /// Compares the clocks. When the wall clock has gained on the steady one, as while the machine was suspended, rests
    /// end by their dates.
    pub(crate) fn catch_up(&mut self, now: Now) {
        let before = self.compared_at.replace(now).unwrap_or(now);
        let steady = now.instant.saturating_duration_since(before.instant).as_secs();
        let gained = now.unix.seconds_since(before.unix).saturating_sub(steady);
        // Whole seconds of both clocks differ by one at most when they run alike.
        if gained > 1 {
            self.slots.iter_mut().for_each(|slot| slot.rests.catch_up(now));
            self.sync_all();
        }
    }

    /// Picks an identity for a request, except those that it has tried.
    pub(crate) fn request(&mut self, need: Need, tried: &[CredentialKey], now: Now) -> Result<Grant, Refusal> {
        if self.indices.is_empty() {
            return Err(Refusal::Final(LeaseError::NoneConfigured));
        }
        let tried = self.known(tried);
        if tried.len() >= self.indices.len() {
            return Err(Refusal::Final(LeaseError::AllTried));
        }
        let gate = self.egress.gate(now.instant);
        if let Gate::Shut { until } = gate {
            let retry_after = until.saturating_duration_since(now.instant);
            return Err(Refusal::Final(LeaseError::Paused { retry_after }));
        }
        let usage = need.usage;
        let barred = self.barred(need, &tried, now.instant);
        let index = match self.rotation.choose(usage, self.tick(now.instant), &barred) {
            Choice::Free(index) => self.drawn(usage, index, &barred, now),
            Choice::AtCap => return Err(Refusal::AtCap),
            Choice::NoneFree => {
                let early = self.early(usage, &barred, now.instant);
                early.ok_or_else(|| Refusal::Final(self.refusal(need, &tried, now.instant)))?
            }
        };
        self.grant(need, index, gate, tried.is_empty(), now.instant).ok_or(Refusal::AtCap)
    }

    /// Lends this identity for a request without earlier attempts; `None` if it is not available at once.
    pub(crate) fn request_one(&mut self, need: Need, key: &CredentialKey, now: Now) -> Option<Grant> {
        let index = *self.indices.get(key)?;
        let gate = self.egress.gate(now.instant);
        let is_free = self.rotation.is_free(need.usage, self.tick(now.instant), index)
            && !self.barred(need, &[], now.instant).contains(&index);
        if matches!(gate, Gate::Shut { .. }) || !is_free {
            return None;
        }
        self.grant(need, index, gate, true, now.instant)
    }

    /// The reason why no identity but those that were tried could be lent now; `None` if one could, even after a wait in
    /// the queue.
    pub(crate) fn outlook(&self, need: Need, tried: &[CredentialKey], now: Now) -> Option<LeaseError> {
        if self.indices.is_empty() {
            return Some(LeaseError::NoneConfigured);
        }
        let tried = self.known(tried);
        if tried.len() >= self.indices.len() {
            return Some(LeaseError::AllTried);
        }
        if let Gate::Shut { until } = self.egress.gate(now.instant) {
            return Some(LeaseError::Paused { retry_after: until.saturating_duration_since(now.instant) });
        }
        match self.rotation.choose(need.usage, self.tick(now.instant), &self.barred(need, &tried, now.instant)) {
            Choice::Free(_) | Choice::AtCap => None,
            Choice::NoneFree => Some(self.refusal(need, &tried, now.instant)),
        }
    }

    /// Whether every identity but those that were tried lacks a credential that the upstream takes.
    pub(crate) fn lack_credentials(&self, need: Need, tried: &[CredentialKey], now: Instant) -> bool {
        let tried = self.known(tried);
        let mut untried = self.present().filter(|(index, _)| !tried.contains(index));
        untried.all(|(_, slot)| slot.block_of(need, None, now).is_some_and(|block| block.lacks_credential()))
    }

    /// Applies a result. `is_end` tells whether the lease ends with it; while it continues, a probe keeps its slot.
    /// Returns the epoch under which the lease continues.
    pub(crate) fn apply(&mut self, ticket: Ticket, outcome: Outcome, is_end: bool, now: Now) -> u64 {
        let Ticket { index, usage, epoch, .. } = ticket;
        let mut next_epoch = epoch;
        match outcome {
            Outcome::Success => {
                self.blame.succeed();
                self.free_probes();
                self.egress.succeed(ticket.egress_probe);
                if let Some(slot) = self.slots.get_mut(index) {
                    next_epoch = slot.breaker.succeed(epoch, now.instant);
                    slot.rests.succeed(usage, ticket.rests, now.instant);
                    if let Some(counts) = ticket.upload_rests {
                        slot.rests.succeed(Usage::Upload, counts, now.instant);
                    }
                }
            }
            Outcome::Transient { code } => self.transient(ticket, code, now.instant),
            Outcome::RateLimited { retry_after } => {
                let jitter = (self.jitter)();
                self.slot(index, |slot| slot.rests.rate(usage, retry_after, now, jitter));
            }
            Outcome::Quota { rest } => self.slot(index, |slot| slot.rests.quota(usage, rest, now)),
            Outcome::Challenged => self.challenge(index, ticket.egress_probe, now),
            Outcome::Unauthorized => self.slot(index, |slot| {
                if slot.credential() == CredentialState::Ready {
                    let retry_at = now.instant;
                    slot.set_credential(CredentialState::Missing { retry_at }, now.unix);
                }
            }),
            Outcome::TokenRefused => {
                let is_upstream = self.blames("token_refused", ticket, now.instant);
                let base = self.settings.cooldown_base / TOKEN_REFUSED_SHARE;
                self.refused(ticket, base, !is_upstream, now.instant);
            }
            Outcome::Forbidden => {
                let base = self.settings.cooldown_base / FORBIDDEN_SHARE;
                self.refused(ticket, base, true, now.instant);
            }
            Outcome::Neutral => {}
        }
        if is_end {
            // A result that has not moved the breaker gives a probe's slot back.
            self.slot(index, |slot| slot.breaker.pass(epoch, now.instant));
            self.egress.give_back(ticket.egress_probe, now.instant);
            self.rotation.give_back(index);
        }
        self.sync(index);
        next_epoch
    }

    /// Applies the first content, the success of a probe. Returns the epoch under which the lease continues.
    pub(crate) fn first_content(&mut self, ticket: Ticket, now: Instant) -> u64 {
        self.egress.succeed(ticket.egress_probe);
        let mut epoch = ticket.epoch;
        if ticket.is_probe {
            self.free_probes();
            self.slot(ticket.index, |slot| {
                epoch = slot.breaker.prove(epoch, now);
            });
            self.sync(ticket.index);
        }
        epoch
    }

    /// Sends an identity to rest whose call outside of a lease was answered by a challenge.
    pub(crate) fn challenged(&mut self, key: &CredentialKey, now: Now) {
        if let Some(index) = self.indices.get(key).copied() {
            self.challenge(index, None, now);
            self.sync(index);
        }
    }

    /// Moment until which nothing may be sent for an identity: the end of its rest after a challenge or of a pause of all
    /// requests, whichever is later.
    pub(crate) fn silent_until(&self, key: &CredentialKey, now: Instant) -> Option<Instant> {
        let paused_until = match self.egress.gate(now) {
            Gate::Shut { until } => Some(until),
            Gate::Free | Gate::Probe => None,
        };
        paused_until.max(self.find(key).and_then(|slot| slot.rests.challenged_until(now)))
    }

    /// Answers the waiting requests that can be answered now.
    pub(crate) fn serve(&mut self, now: Now) -> Vec<(W, Result<Grant, LeaseError>)> {
        if self.queue.len() == 0 {
            return Vec::new();
        }
        let mut queue = mem::replace(&mut self.queue, Queue::new(0));
        // Requests of one usage without earlier attempts are alike: one look is enough for all of them.
        let mut is_full = PerUsage::<bool>::default();
        let answers = queue.serve(|waiter| {
            let is_full = is_full.get_mut(waiter.need.usage);
            let is_plain = waiter.tried.is_empty() && !waiter.need.uploads;
            if *is_full && is_plain {
                return Verdict::Stay;
            }
            match self.request(waiter.need, &waiter.tried, now) {
                Ok(grant) => Verdict::Serve(Ok(grant)),
                Err(Refusal::AtCap) => {
                    *is_full |= is_plain;
                    Verdict::Stay
                }
                Err(Refusal::Final(error)) => Verdict::Refuse(Err(error)),
            }
        });
        self.queue = queue;
        answers
    }

    /// Longest wait of a request in the queue.
    pub(crate) fn queue_wait(&self) -> Duration {
        self.settings.queue_wait
    }

    /// The error for a request that will not or no longer wait.
    pub(crate) fn busy(&self) -> LeaseError {
        LeaseError::Busy { retry_after: stretched(BUSY_RETRY_MIN, BUSY_RETRY_JITTER, (self.jitter)()) }
    }

    /// The next moment at which time alone makes an identity usable.
    pub(crate) fn next_change(&self, need: Need, now: Instant) -> Option<Instant> {
        let usages = std::iter::once(need.usage).chain(need.uploads.then_some(Usage::Upload));
        let tick = usages.filter_map(|usage| self.rotation.next_change(usage, self.tick(now))).min()?;
        self.origin.checked_add(Duration::from_nanos(tick))
    }

    /// Changes one identity, found by its credential's key.
    pub(crate) fn change(&mut self, key: &CredentialKey, change: impl FnOnce(&mut Slot)) {
        if let Some(index) = self.indices.get(key).copied() {
            self.slot(index, change);
            self.sync(index);
        }
    }

    /// Takes up what was written down about one identity.
    pub(crate) fn restore(&mut self, key: &CredentialKey, facts: IdentityFacts, now: Now) {
        if let Some(index) = self.indices.get(key).copied()
            && let Some(slot) = self.slots.get_mut(index)
        {
            slot.restore(facts, now, &self.settings);
            self.sync(index);
        }
    }

    /// One identity, found by its credential's key.
    pub(crate) fn find(&self, key: &CredentialKey) -> Option<&Slot> {
        self.slots.get(*self.indices.get(key)?)
    }

    /// Number of identities.
    pub(crate) fn len(&self) -> usize {
        self.indices.len()
    }

    /// All identities, by their slot number.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.present().map(|(_, slot)| slot)
    }

    /// Adds an identity at the back of the rotation; `false` if one with that credential exists.
    pub(crate) fn add(&mut self, session: Arc<Session>, now: Instant) -> bool {
        let key = session.key().clone();
        if self.indices.contains_key(&key) {
            return false;
        }
        let slot = Slot::new(session, now);
        let rotation = &self.rotation;
        let is_free = |(index, slot): &(usize, &mut Slot)| slot.is_gone() && rotation.in_flight(*index) == 0;
        let index = match self.slots.iter_mut().enumerate().find(is_free) {
            Some((index, place)) => {
                *place = slot;
                self.rotation.renew(index);
                index
            }
            None => {
                self.slots.push(slot);
                self.rotation.push();
                self.slots.len() - 1
            }
        };
        self.indices.insert(key, index);
        self.sync(index);
        true
    }

    /// Removes an identity. Requests in flight on it are not affected; no new one begins.
    pub(crate) fn remove(&mut self, key: &CredentialKey) -> bool {
        let Some(index) = self.indices.remove(key) else {
            return false;
        };
        self.slot(index, Slot::leave);
        self.sync(index);
        true
    }

    fn present(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_gone())
    }

    /// Whether the upstream is blamed for the failures of all identities.
    pub(crate) fn is_upstream_degraded(&self, now: Instant) -> bool {
        self.blame.is_upstream(now)
    }

    /// All identities as people see them, without the data of their sessions.
    pub(crate) fn views(&self, now: Now) -> Vec<IdentityView> {
        self.present()
            .map(|(index, slot)| slot.view(&self.settings, self.rotation.in_flight(index), self.probes_from, now))
            .collect()
    }

    /// The pool as people see it.
    pub(crate) fn summary(&self, now: Now) -> PoolSummary {
        let mut summary = PoolSummary {
            total: self.len(),
            healthy: 0,
            degraded: 0,
            down: 0,
            in_flight: self.rotation.in_flight_total(),
            queued: self.queue.len(),
            upstream_degraded: self.is_upstream_degraded(now.instant),
            paused_until: match self.egress.gate(now.instant) {
                Gate::Shut { until } => Some(now.unix_at(until)),
                Gate::Free | Gate::Probe => None,
            },
        };
        for view in self.views(now) {
            match view.status {
                IdentityStatus::Healthy => summary.healthy += 1,
                IdentityStatus::Degraded => summary.degraded += 1,
                IdentityStatus::Down => summary.down += 1,
            }
        }
        summary
    }

    /// Whether the upstream is blamed for a failure of this code. If so, the probes of all identities are spaced out: a
    /// fault of the upstream moves no breaker.
    fn blames(&mut self, code: &'static str, ticket: Ticket, now: Instant) -> bool {
        // More than three make no difference to the rule, so counting stops there.
        let in_use = self.slots.iter().filter(|slot| slot.is_in_use(ticket.usage, now)).take(3).count();
        let is_upstream = self.blame.fail(code, ticket.index, in_use, now);
        if is_upstream && self.probes_from.is_none() {
            self.space_probes(now);
        }
        is_upstream
    }

    fn transient(&mut self, ticket: Ticket, code: &'static str, now: Instant) {
        let Ticket { index, epoch, .. } = ticket;
        if self.blames(code, ticket, now) {
            return;
        }
        let suspects_itself = |slot: &Slot| slot.breaker.suspects_itself(now);
        let rest = if self.slots.get(index).is_some_and(suspects_itself) {
            self.rest_of_pool(index, now)
        } else {
            Tally::default()
        };
        let jitter = (self.jitter)();
        if let Some(slot) = self.slots.get_mut(index) {
            slot.breaker.fail(epoch, now, rest, &self.settings, jitter);
        }
    }

    fn challenge(&mut self, index: usize, egress_probe: Option<u64>, now: Now) {
        let base = self.settings.challenge_rest;
        self.slot(index, |slot| slot.rests.challenge(base, now));
        self.egress.challenged(index, egress_probe, now.instant);
    }

    /// Applies a refusal of the identity itself. The next wait is longer if this one `counts`.
    fn refused(&mut self, ticket: Ticket, base: Duration, counts: bool, now: Instant) {
        let jitter = (self.jitter)();
        if let Some(slot) = self.slots.get_mut(ticket.index) {
            slot.breaker.refuse(ticket.epoch, now, base, counts, &self.settings, jitter);
        }
    }

    /// The tally of all identities but one.
    fn rest_of_pool(&self, index: usize, now: Instant) -> Tally {
        self.present()
            .filter(|(other, _)| *other != index)
            .map(|(_, slot)| slot.breaker.tally(now))
            .fold(Tally::default(), Tally::plus)
    }

    /// The slots that a request cannot use: those that it was tried on, and, if it has files, those that rest from
    /// uploads.
    fn barred(&self, need: Need, tried: &[usize], now: Instant) -> Vec<usize> {
        let mut barred = tried.to_vec();
        if need.uploads {
            let rests = |(_, slot): &(usize, &Slot)| slot.rests.active(Usage::Upload, now).is_some();
            barred.extend(self.present().filter(rests).map(|(index, _)| index).filter(|index| !tried.contains(index)));
        }
        barred
    }

    fn grant(&mut self, need: Need, index: usize, gate: Gate, is_first: bool, now: Instant) -> Option<Grant> {
        let usage = need.usage;
        let jitter = (self.jitter)();
        let slot = self.slots.get_mut(index)?;
        let admission = slot.breaker.admit(now, &self.settings, jitter);
        let session = Arc::clone(&slot.session);
        let rests = slot.rests.counts(usage);
        let upload_rests = need.uploads.then(|| slot.rests.counts(Usage::Upload));
        let egress_probe = (gate == Gate::Probe).then(|| self.egress.begin_probe(now, self.settings.probe_lease));
        self.rotation.take(usage, index);
        if admission.is_probe {
            if self.blame.is_upstream(now) {
                self.space_probes(now);
            }
            self.sync(index);
        }
        if is_first {
            self.budget.deposit();
        }
        Some(Grant {
            ticket: Ticket {
                index,
                usage,
                epoch: admission.epoch,
                is_probe: admission.is_probe,
                egress_probe,
                rests,
                upload_rests,
            },
            session,
        })
    }

    /// Draws among the peers of the identity whose turn it is; with round-robin that identity stays.
    fn drawn(&self, usage: Usage, next: usize, tried: &[usize], now: Now) -> usize {
        match self.settings.strategy {
            Strategy::RoundRobin => next,
            Strategy::FreshWeighted => {
                let peers = self.rotation.peers(usage, self.tick(now.instant), tried, next);
                let life =
                    |index: &usize| self.slots.get(*index).map_or(freshness::NONE_SECONDS, |slot| slot.life(now));
                let weights = freshness::weights(&peers.iter().map(life).collect::<Vec<_>>());
                let place = freshness::draw(&weights, (self.jitter)());
                place.and_then(|place| peers.get(place).copied()).unwrap_or(next)
            }
        }
    }

    /// Controlled panic: rather than none, an identity that is down for transient failures alone is probed before its
    /// time, at most every few seconds. Not when another one is merely busy, or was tried and is well.
    fn early(&mut self, usage: Usage, tried: &[usize], now: Instant) -> Option<usize> {
        let is_due = |at| now.saturating_duration_since(at) >= PROBE_EVERY;
        let is_spaced = self.early_at.is_none_or(is_due) && self.probes_from.is_none_or(|from| from <= now);
        if !is_spaced || self.rotation.choose(usage, self.tick(now), &[]) != Choice::NoneFree {
            return None;
        }
        let slots = &self.slots;
        let index = self.rotation.longest_unpicked(usage, |index| {
            !tried.contains(&index) && slots.get(index).is_some_and(|slot| slot.is_only_tripped(usage, now))
        })?;
        self.early_at = Some(now);
        Some(index)
    }

    /// Delays all probes for a while: the upstream itself fails, and one probe tells as much as many.
    fn space_probes(&mut self, now: Instant) {
        self.probes_from = Some(after(now, PROBE_EVERY));
        self.sync_all();
    }

    /// Allows every identity to be probed when its own time has come.
    fn free_probes(&mut self) {
        if self.probes_from.take().is_some() {
            self.sync_all();
        }
    }

    /// The reason why none of the untried identities can be used.
    fn refusal(&self, need: Need, tried: &[usize], now: Instant) -> LeaseError {
        let untried = self.present().filter(|(index, _)| !tried.contains(index));
        let blocks: Vec<_> = untried.filter_map(|(_, slot)| slot.block_of(need, self.probes_from, now)).collect();
        LeaseError::of(&blocks, now)
    }

    /// Updates the rotation with the state of an identity.
    fn sync(&mut self, index: usize) {
        if let Some(slot) = self.slots.get(index) {
            let standing = slot.standing(&self.settings);
            for usage in Usage::ALL {
                let usable_at =
                    slot.usable_at(usage, self.probes_from).map_or(NEVER, |at| at.map_or(0, |at| self.tick(at)));
                self.rotation.place(usage, index, usable_at, standing);
            }
        }
    }

    fn sync_all(&mut self) {
        (0..self.slots.len()).for_each(|index| self.sync(index));
    }

    fn slot(&mut self, index: usize, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get_mut(index) {
            change(slot);
        }
    }

    /// The slot numbers of these identities, each once.
    fn known(&self, keys: &[CredentialKey]) -> Vec<usize> {
        let mut known: Vec<_> = keys.iter().filter_map(|key| self.indices.get(key).copied()).collect();
        known.sort_unstable();
        known.dedup();
        known
    }

    fn tick(&self, moment: Instant) -> u64 {
        let passed = moment.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(passed).unwrap_or(NEVER - 1)
    }
}

/// Early probes of the whole pool are at least this far apart, and all probes while the upstream is blamed.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// The first wait after a refused token is this share of the first cooldown: 5 s of 300 s.
const TOKEN_REFUSED_SHARE: u32 = 60;
/// The first wait after the identity itself was refused: 60 s of 300 s.
const FORBIDDEN_SHARE: u32 = 5;
/// A busy pool asks callers to return in one to five seconds.
const BUSY_RETRY_MIN: Duration = Duration::from_secs(1);
const BUSY_RETRY_JITTER: f64 = 4.0;
