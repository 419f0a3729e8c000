//! A borrowed identity. Holding a [`Lease`] is the only way to use one, and dropping it frees its slot,
//! ends its probe and serves the next waiting request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::base::facts::Usage;
use crate::base::ids::IdentityId;
use crate::base::session::Session;
use crate::pool::clock::Now;
use crate::pool::error::LeaseError;
use crate::pool::outcome::{Grant, Outcome, Ticket};
use crate::pool::state::PoolState;

/// One identity, lent to one attempt. Its jar, token, chats and files belong together.
///
/// Exactly one result ends it: [`Lease::finish`], or dropping it, which is [`Outcome::Neutral`] (the caller left).
pub struct Lease {
    session: Arc<Session>,
    /// `None` for a caller's own credential, and after the end of the lease.
    loan: Option<Loan>,
}

/// The pool's side of a lease.
struct Loan {
    shared: Arc<Shared>,
    ticket: Ticket,
    /// Epoch of the breaker under which it reports. Changed only while the pool is locked.
    epoch: AtomicU64,
    /// Whether the first content of a probe is still expected.
    is_awaited: AtomicBool,
    /// The session's token number when it was lent.
    token_generation: u64,
}

/// The channel for the answer to a waiting request.
pub(crate) type Reply = oneshot::Sender<Result<Lease, LeaseError>>;

/// The shared state of all handles of one pool and all its leases.
pub(crate) struct Shared {
    state: Mutex<PoolState<Reply>>,
}

impl Lease {
    /// A lease of a caller's own credential. The pool does not know it, and its results are not counted.
    pub(crate) fn detached(session: Arc<Session>) -> Self {
        Self { session, loan: None }
    }

    pub(crate) fn new(shared: &Arc<Shared>, grant: Grant) -> Self {
        let Grant { ticket, session } = grant;
        let loan = Loan {
            shared: Arc::clone(shared),
            ticket,
            epoch: AtomicU64::new(ticket.epoch),
            is_awaited: AtomicBool::new(ticket.is_probe || ticket.egress_probe.is_some()),
            token_generation: session.token_generation(),
        };
        Self { session, loan: Some(loan) }
    }

    /// The session to send with.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Name of the lent identity.
    #[must_use]
    pub fn identity(&self) -> &IdentityId {
        self.session.identity()
    }

    /// Whether this was lent as the one request that tries an identity after its cooldown, or the network after
    /// a pause.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.loan.as_ref().is_some_and(|loan| loan.ticket.is_probe || loan.ticket.egress_probe.is_some())
    }

    /// Reports the first content. A probe has then succeeded, and the lease continues as any other; for other leases
    /// this has no effect.
    pub fn first_content(&self) {
        if self.loan.as_ref().is_some_and(Loan::is_awaited) {
            self.first_content_at(Now::read());
        }
    }

    /// [`Lease::first_content`] at a given moment.
    pub fn first_content_at(&self, now: Now) {
        if let Some(loan) = &self.loan
            && loan.is_awaited.swap(false, Ordering::Relaxed)
        {
            loan.shared.change(now, |state| {
                let epoch = state.first_content(loan.ticket(), now.instant);
                loan.epoch.store(epoch, Ordering::Relaxed);
            });
        }
    }

    /// Reports a result that does not end the lease, such as [`Outcome::Unauthorized`] before a refresh. It counts at
    /// once: the lease then ends with another result, or [`Outcome::Neutral`].
    pub fn report(&self, outcome: Outcome, now: Now) {
        if let Some(loan) = &self.loan {
            let outcome = loan.checked(outcome, &self.session);
            loan.shared.change(now, |state| {
                let epoch = state.apply(loan.ticket(), outcome, false, now);
                loan.epoch.store(epoch, Ordering::Relaxed);
            });
        }
    }

    /// Ends the lease with its result.
    pub fn finish(mut self, outcome: Outcome, now: Now) {
        self.end(outcome, now);
    }

    /// Ends the lease with a result of another usage than its own, as when an upload failed.
    pub fn finish_as(mut self, usage: Usage, outcome: Outcome, now: Now) {
        if let Some(loan) = &mut self.loan {
            loan.ticket.usage = usage;
        }
        self.end(outcome, now);
    }

    fn end(&mut self, outcome: Outcome, now: Now) {
        if let Some(loan) = self.loan.take() {
            let outcome = loan.checked(outcome, &self.session);
            loan.shared.change(now, |state| {
                state.apply(loan.ticket(), outcome, true, now);
            });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.loan.is_some() {
            self.end(Outcome::Neutral, Now::read());
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("identity", self.identity())
            .field("usage", &self.loan.as_ref().map(|loan| loan.ticket.usage))
            .field("is_probe", &self.is_probe())
            .finish_non_exhaustive()
    }
}

impl Loan {
    fn ticket(&self) -> Ticket {
        Ticket { epoch: self.epoch.load(Ordering::Relaxed), ..self.ticket }
    }

    fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::Relaxed)
    }

    /// A refusal of a token that was replaced in the meantime tells nothing about the new one.
    fn checked(&self, outcome: Outcome, session: &Session) -> Outcome {
        match outcome {
            Outcome::Unauthorized if session.token_generation() != self.token_generation => Outcome::Neutral,
            outcome => outcome,
        }
    }
}

impl Shared {
    pub(crate) fn new(state: PoolState<Reply>) -> Self {
        Self { state: Mutex::new(state) }
    }

    /// Reads the state as the last change left it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&PoolState<Reply>) -> T) -> T {
        look(&self.state.lock())
    }

    /// Reads the state as it is at `now`.
    pub(crate) fn look_at<T>(&self, now: Now, look: impl FnOnce(&PoolState<Reply>) -> T) -> T {
        let mut state = self.state.lock();
        state.catch_up(now);
        look(&state)
    }

    /// Changes the state in a way that cannot serve a waiting request.
    pub(crate) fn look_mut<T>(&self, look: impl FnOnce(&mut PoolState<Reply>) -> T) -> T {
        look(&mut self.state.lock())
    }

    /// Changes the state, then answers the waiting requests that can be answered since.
    pub(crate) fn change<T>(self: &Arc<Self>, now: Now, change: impl FnOnce(&mut PoolState<Reply>) -> T) -> T {
        let mut state = self.state.lock();
        state.catch_up(now);
        let value = change(&mut state);
        let answers = state.serve(now);
        drop(state);
        self.deliver(answers);
        value
    }

    /// Changes the state after the waiting requests had their turn, so that a new one overtakes none of them.
    pub(crate) fn ask<T>(self: &Arc<Self>, now: Now, ask: impl FnOnce(&mut PoolState<Reply>) -> T) -> T {
        let mut state = self.state.lock();
        state.catch_up(now);
        let answers = state.serve(now);
        let value = ask(&mut state);
        drop(state);
        self.deliver(answers);
        value
    }

    /// Sends the answers with the lock released: an answer that is no longer expected comes back, and a lease that is
    /// dropped then locks the pool to give its slot to the next request.
    fn deliver(self: &Arc<Self>, answers: Vec<(Reply, Result<Grant, LeaseError>)>) {
        for (reply, answer) in answers {
            let unwanted = reply.send(answer.map(|grant| Lease::new(self, grant)));
            drop(unwanted);
        }
    }
}
