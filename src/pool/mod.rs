//! Chooses the account that serves the next request, and keeps the rests of accounts.
//!
//! An [`IdentityPool`] lends identities as [`Lease`]s and learns from their [`Outcome`]s. Each identity is a slot of
//! independent facts: a breaker for transient faults, rests that the upstream asked for, a credential. Nothing
//! here speaks HTTP, spawns a task or sets a timer but the wait in the queue: whatever only time changes is
//! worked out on the next call. One lock guards it all, and it is never held across an await.

mod blame;
mod budget;
mod clock;
mod egress;
mod error;
mod freshness;
mod identity;
mod lease;
mod outcome;
mod queue;
mod rotation;
mod settings;
mod state;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::base::facts::{IdentityFacts, Need, Usage};
use crate::base::ids::{CredentialKey, IdentityId};
use crate::base::session::Session;
use crate::pool::clock::after;
use crate::pool::lease::{Reply, Shared};
use crate::pool::outcome::Refusal;
use crate::pool::state::PoolState;

pub use crate::pool::clock::Now;
pub use crate::pool::error::LeaseError;
pub use crate::pool::identity::CredentialState;
pub use crate::pool::lease::Lease;
pub use crate::pool::outcome::Outcome;
pub use crate::pool::queue::CallerId;
pub use crate::pool::settings::{PoolSettings, Strategy};

pub use crate::pool::view::{IdentityReason, IdentityStatus, IdentityView, PoolSummary};

/// All configured identities. Clones are handles of the same pool.
#[derive(Clone)]
pub struct IdentityPool(Arc<Shared>);

/// The demands of a request on the pool.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The caller of the request: waiting requests of different callers take turns.
    pub caller: CallerId,
    /// The kind of use: an identity that rests from it is not lent.
    pub usage: Usage,
    /// Whether files have to be handed over for it: one that rests from that does not do either.
    pub uploads: bool,
    /// The identities that this request was tried on already, by their credentials' keys.
    pub tried: Vec<CredentialKey>,
    /// The identity to lend at a first attempt, if it can be had at once.
    pub preferred: Option<CredentialKey>,
    /// Moment after which the request is useless.
    pub deadline: Instant,
}

impl Wanted {
    fn favourite(&self) -> Option<&CredentialKey> {
        self.preferred.as_ref().filter(|_| self.tried.is_empty())
    }

    fn need(&self) -> Need {
        Need { usage: self.usage, uploads: self.uploads }
    }
}

/// Identities that one call of [`IdentityPool::blocked`] looks at.
const LOOKED_AT_MAX: usize = 64;

impl IdentityPool {
    /// A pool of these sessions, in this order. Those that have a token are ready; the others get one when they
    /// are needed or when the refresher comes to them.
    #[must_use]
    pub fn new(sessions: Vec<Arc<Session>>, settings: PoolSettings) -> Self {
        Self::with_jitter(sessions, settings, fastrand::f64, Now::read())
    }

    fn with_jitter(sessions: Vec<Arc<Session>>, settings: PoolSettings, jitter: fn() -> f64, now: Now) -> Self {
        let state = PoolState::new(sessions, settings, jitter, now.instant);
        Self(Arc::new(Shared::new(state)))
    }

    /// Takes up what was written down about a credential before a restart: rests for as long as they were
    /// meant, at most 25 hours; an open breaker, if its time is not over; how often either came in a row; and a death,
    /// which the refresher looks at again on its own schedule.
    pub fn restore(&self, key: &CredentialKey, facts: IdentityFacts, now: Now) {
        self.0.change(now, |state| state.restore(key, facts, now));
    }

    /// Lends the identity whose turn it is. When those that would do are merely at their cap, waits for one, but
    /// no longer than [`PoolSettings::queue_wait`] and the request's deadline. Dropping the future leaves the
    /// queue.
    ///
    /// # Errors
    /// [`LeaseError`]: the reason and the time to come back; at once, unless waiting could help.
    pub async fn lease(&self, wanted: &Wanted) -> Result<Lease, LeaseError> {
        match self.enter(wanted, Now::read())? {
            Entry::Lease(lease) => Ok(lease),
            Entry::Wait(place, answer) => place.wait(answer).await,
        }
    }

    /// Lends the identity whose turn it is, or none, at once.
    ///
    /// # Errors
    /// [`LeaseError`]: the reason and the time to come back.
    pub fn try_lease(&self, wanted: &Wanted, now: Now) -> Result<Lease, LeaseError> {
        let granted = self.0.ask(now, |state| {
            if let Some(grant) = wanted.favourite().and_then(|key| state.request_one(wanted.need(), key, now)) {
                return Ok(grant);
            }
            state.request(wanted.need(), &wanted.tried, now).map_err(|refusal| match refusal {
                Refusal::AtCap => state.busy(),
                Refusal::Final(error) => error,
            })
        });
        granted.map(|grant| Lease::new(&self.0, grant))
    }

    /// The reason why a new request for this would get no identity now; `None` if it would, even after a wait. Lends
    /// nothing.
    #[must_use]
    pub fn outlook(&self, need: impl Into<Need>, now: Now) -> Option<LeaseError> {
        self.0.look_at(now, |state| state.outlook(need.into(), &[], now))
    }

    /// As [`IdentityPool::outlook`], without the identities of these credentials.
    #[must_use]
    pub(crate) fn outlook_without(&self, need: Need, tried: &[CredentialKey], now: Now) -> Option<LeaseError> {
        self.0.look_at(now, |state| state.outlook(need, tried, now))
    }

    /// Whether every identity but those of these credentials lacks a credential that the upstream takes.
    #[must_use]
    pub(crate) fn lack_credentials(&self, need: Need, tried: &[CredentialKey], now: Now) -> bool {
        self.0.look(|state| state.lack_credentials(need, tried, now.instant))
    }

    /// A caller's own credential as a lease. It is never in the pool, and its reports go nowhere.
    #[must_use]
    pub fn detached(session: Arc<Session>) -> Lease {
        Lease::detached(session)
    }

    /// Takes other settings for everything that happens from now on; the strategy stays. Requests that wait are served
    /// at once if they now can be.
    pub fn configure(&self, settings: PoolSettings, now: Now) {
        self.0.change(now, |state| state.configure(settings));
    }

    /// Adds an identity, last in line; `false` when one with that credential is there already.
    pub fn add(&self, session: Arc<Session>, now: Now) -> bool {
        self.0.change(now, |state| state.add(session, now.instant))
    }

    /// Removes an identity; `false` when none has that credential. Its leases go on until they end.
    pub fn remove(&self, key: &CredentialKey, now: Now) -> bool {
        self.0.change(now, |state| state.remove(key))
    }

    /// The sessions of all identities, in the order of configuration.
    #[must_use]
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.0.look(|state| state.slots().map(|slot| Arc::clone(&slot.session)).collect())
    }

    /// Number of identities.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.look(PoolState::len)
    }

    /// Whether there is no identity.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes up what the refresher found out about a credential.
    pub fn set_credential(&self, key: &CredentialKey, credential: CredentialState, now: Now) {
        self.0.change(now, |state| {
            state.change(key, |slot| slot.set_credential(credential, now.unix));
        });
    }

    /// State of a credential; `None` if the pool does not have it.
    #[must_use]
    pub fn credential(&self, key: &CredentialKey) -> Option<CredentialState> {
        self.0.look(|state| Some(state.find(key)?.credential()))
    }

    /// Whether the upstream refuses an identity although its token is fresh.
    #[must_use]
    pub fn is_refused(&self, key: &CredentialKey, now: Now) -> bool {
        self.0.look(|state| state.find(key).is_some_and(|slot| slot.breaker.is_refused(now.instant)))
    }

    /// Lets an identity be used at once that the upstream refused: its credential is another one now, or its owner wants
    /// another look.
    pub fn trust(&self, key: &CredentialKey, now: Now) {
        self.0.change(now, |state| {
            state.change(key, |slot| {
                if slot.breaker.is_refused(now.instant) {
                    slot.breaker.reset();
                }
            });
        });
    }

    /// Starts an identity over, as its owner asks: closed breaker, no rest from anything. The credential stays what it is.
    pub fn reset(&self, key: &CredentialKey, now: Now) {
        self.0.change(now, |state| {
            state.change(key, |slot| {
                slot.breaker.reset();
                slot.rests.clear();
            });
        });
    }

    /// Sends an identity to rest from everything for this long, as its owner asks; at most 25 hours.
    pub fn rest(&self, key: &CredentialKey, length: Duration, now: Now) {
        self.0.change(now, |state| {
            state.change(key, |slot| slot.rests.owner(length, now));
        });
    }

    /// Takes up that the upstream answered a call for an identity with a challenge, where the call had no lease.
    pub fn challenged(&self, key: &CredentialKey, now: Now) {
        self.0.change(now, |state| state.challenged(key, now));
    }

    /// Moment until which nothing may be sent for an identity: the end of its rest after a challenge or of a pause of all
    /// requests, whichever is later; `None` if neither is on. One that the pool does not have only knows pauses.
    #[must_use]
    pub fn silent_until(&self, key: &CredentialKey, now: Now) -> Option<Instant> {
        self.0.look_at(now, |state| state.silent_until(key, now.instant))
    }

    /// All identities as people see them, in the order of configuration.
    #[must_use]
    pub fn views(&self, now: Now) -> Vec<IdentityView> {
        self.members(now).into_iter().map(|(view, _)| view).collect()
    }

    /// All identities as people see them, each with its session, in the order of configuration.
    #[must_use]
    pub fn members(&self, now: Now) -> Vec<(IdentityView, Arc<Session>)> {
        // Both under one lock, since an identity may be added or removed at any time.
        let mut members: Vec<_> = self.0.look_at(now, |state| {
            let sessions = state.slots().map(|slot| Arc::clone(&slot.session));
            state.views(now).into_iter().zip(sessions).collect()
        });
        for (view, session) in &mut members {
            view.token_expires_at = session.token().and_then(|token| token.expires_at());
        }
        members
    }

    /// The first identities that cannot be used for this now, at most `max`, with the reason. Of a pool of more than
    /// [`LOOKED_AT_MAX`] identities only the first ones are looked at, since this is done for each request.
    #[must_use]
    pub fn blocked(&self, need: Need, max: usize, now: Now) -> Vec<(IdentityId, IdentityReason)> {
        self.0.look(|state| {
            let slots = state.slots().take(LOOKED_AT_MAX);
            let blocked = slots.filter_map(|slot| {
                let block = slot.block_of(need, None, now.instant)?;
                Some((slot.session.identity().clone(), block.reason))
            });
            blocked.take(max).collect()
        })
    }

    /// The pool as people see it.
    #[must_use]
    pub fn summary(&self, now: Now) -> PoolSummary {
        self.0.look_at(now, |state| state.summary(now))
    }

    /// The facts about an identity that have to be stored; the default if the pool does not have it.
    #[must_use]
    pub fn facts(&self, key: &CredentialKey, now: Now) -> IdentityFacts {
        self.0.look(|state| state.find(key).map_or_else(IdentityFacts::default, |slot| slot.facts(now)))
    }

    /// Whether all identities fail in the same way, so that trying more than one other identity is of no use.
    #[must_use]
    pub fn is_upstream_degraded(&self, now: Now) -> bool {
        self.0.look(|state| state.is_upstream_degraded(now.instant))
    }

    /// Takes one retry from the pool's budget, if there is one left.
    #[must_use]
    pub fn allow_retry(&self, now: Now) -> bool {
        self.0.look_mut(|state| state.budget.withdraw(now.instant))
    }

    fn enter(&self, wanted: &Wanted, now: Now) -> Result<Entry, LeaseError> {
        let entered = self.0.ask(now, |state| {
            if let Some(grant) = wanted.favourite().and_then(|key| state.request_one(wanted.need(), key, now)) {
                return Ok(Ok(grant));
            }
            match state.request(wanted.need(), &wanted.tried, now) {
                Ok(grant) => return Ok(Ok(grant)),
                Err(Refusal::Final(error)) => return Err(error),
                Err(Refusal::AtCap) => {}
            }
            let longest = after(now.instant, state.queue_wait());
            let deadline = wanted.deadline.min(longest);
            if deadline <= now.instant {
                return Err(state.busy());
            }
            let (reply, answer): (Reply, _) = oneshot::channel();
            match state.queue.join(wanted.caller, wanted.need(), wanted.tried.clone(), reply) {
                Ok(number) => Ok(Err((number, deadline, answer))),
                Err(_full) => Err(state.busy()),
            }
        })?;
        Ok(match entered {
            Ok(grant) => Entry::Lease(Lease::new(&self.0, grant)),
            Err((number, deadline, answer)) => {
                let place = Place { shared: Arc::clone(&self.0), number, need: wanted.need(), deadline };
                Entry::Wait(place, answer)
            }
        })
    }
}

enum Entry {
    Lease(Lease),
    Wait(Place, Answer),
}

type Answer = oneshot::Receiver<Result<Lease, LeaseError>>;

/// A place in the queue, left on drop. An answer that was sent meanwhile is dropped with its receiver, and a lease
/// in it goes to the next one.
struct Place {
    shared: Arc<Shared>,
    number: u64,
    need: Need,
    deadline: Instant,
}

impl Place {
    async fn wait(self, mut answer: Answer) -> Result<Lease, LeaseError> {
        loop {
            let now = Now::read();
            // Reports wake the queue, but a rest that ends does not report.
            let change = self.shared.look(|state| state.next_change(self.need, now.instant));
            let wake = change.map_or(self.deadline, |change| change.min(self.deadline));
            if let Ok(answered) = timeout_at(wake.into(), &mut answer).await {
                return answered.unwrap_or_else(|_| Err(self.busy()));
            }
            let now = Now::read();
            self.shared.change(now, |_| ());
            if now.instant >= self.deadline {
                if self.leave() {
                    return Err(self.busy());
                }
                // Just answered: it is on the way.
                return answer.await.unwrap_or_else(|_| Err(self.busy()));
            }
        }
    }

    fn leave(&self) -> bool {
        self.shared.look_mut(|state| state.queue.leave(self.number))
    }

    fn busy(&self) -> LeaseError {
        self.shared.look(PoolState::busy)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}
