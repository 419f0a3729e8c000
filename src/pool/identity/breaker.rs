//! One identity's circuit breaker: `Closed` passes, `Open` rejects, `HalfOpen` lets one probe through. It opens after
//! transient failures in a row, and at once when the upstream refuses the identity itself.
//!
//! Pure: no clock, no timer, no randomness. Moments and jitter are arguments, and changes that only time brings (a
//! cooldown that ends, a probe that never reports) are computed on the next call.

use std::time::{Duration, Instant};

use crate::base::facts::OpenBreaker;
use crate::pool::clock::{Now, after, doubled, stretched};
use crate::pool::identity::window::{Tally, Window};
use crate::pool::settings::PoolSettings;

/// Counts transient failures and refusals; rests and credentials are separate facts of the identity.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    state: State,
    /// Times it opened since it was last calm: the exponent of the next cooldown.
    trips: u32,
    /// Refusals of the identity since it last worked: the exponent of the next wait after one.
    refusals: u32,
    /// Whether it is open, or half open, because the upstream refused the identity.
    is_refused: bool,
    /// Grows with each change of state, so that late reports of an earlier state are recognised and ignored.
    epoch: u64,
    /// Moment from which it has been closed without a failure; `None` unless it is.
    calm_since: Option<Instant>,
    window: Window,
}

/// The state of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Passes; `fails` transient failures in a row so far.
    Closed { fails: u32 },
    /// Rejects until a moment, then admits one probe.
    Open { until: Instant },
    /// One probe is under way. Without a report at `lost_at` it counts as failed, and the breaker is open until
    /// `then_until`.
    HalfOpen { lost_at: Instant, then_until: Instant },
}

/// The part of a lease that its report has to bring back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    /// The epoch that the report belongs to.
    pub(crate) epoch: u64,
    /// Whether this is the one probe.
    pub(crate) is_probe: bool,
}

impl Breaker {
    /// A closed breaker without failures.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Closed { fails: 0 },
            trips: 0,
            refusals: 0,
            is_refused: false,
            epoch: 0,
            calm_since: None,
            window: Window::default(),
        }
    }

    /// The state at `now`.
    pub(crate) fn state(&self, now: Instant) -> State {
        match self.state {
            // A lost probe counts as failed from the end of its lease on, even if it is noticed later.
            State::HalfOpen { lost_at, then_until } if now >= lost_at => State::Open { until: then_until },
            state => state,
        }
    }

    /// Whether a refusal of the identity keeps it from being used; an early probe would be useless then.
    pub(crate) fn is_refused(&self, now: Instant) -> bool {
        // A lost probe tells nothing about a refusal.
        self.is_refused && self.state(now) == self.state
    }

    /// Transient failures in a row; 0 when open.
    pub(crate) fn fails(&self) -> u32 {
        match self.state {
            State::Closed { fails } => fails,
            State::Open { .. } | State::HalfOpen { .. } => 0,
        }
    }

    /// The moment from which on it admits a request if nothing is reported until then; `None` for "always".
    pub(crate) fn usable_at(&self) -> Option<Instant> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until } => Some(until),
            State::HalfOpen { then_until, .. } => Some(then_until),
        }
    }

    /// Admits a request that was picked. With an open breaker the request becomes the probe; the picker decides whether
    /// its time has come, or whether the probe is an early one. Not to be called while a probe is under way.
    pub(crate) fn admit(&mut self, now: Instant, settings: &PoolSettings, jitter: f64) -> Admission {
        self.settle(now);
        let is_probe = matches!(self.state, State::Open { .. });
        if is_probe {
            let lost_at = after(now, settings.probe_lease);
            self.enter(State::HalfOpen { lost_at, then_until: after(lost_at, self.cooldown(settings, jitter)) });
        }
        Admission { epoch: self.epoch, is_probe }
    }

    /// Records a success. Returns the epoch under which its lease continues.
    pub(crate) fn succeed(&mut self, epoch: u64, now: Instant) -> u64 {
        let epoch = self.prove(epoch, now);
        if epoch == self.epoch && matches!(self.state, State::Closed { .. }) {
            self.state = State::Closed { fails: 0 };
            // Of before a restart.
            self.refusals = 0;
            self.window.record(true, now);
        }
        epoch
    }

    /// Records the first content of a probe, which closes the breaker long before the stream ends, and changes nothing
    /// for other leases. Returns the epoch under which the lease continues.
    pub(crate) fn prove(&mut self, epoch: u64, now: Instant) -> u64 {
        self.settle(now);
        if epoch == self.epoch && matches!(self.state, State::HalfOpen { .. }) {
            self.calm_since = Some(now);
            // Failures before the cooldown no longer count.
            self.window = Window::default();
            self.refusals = 0;
            self.is_refused = false;
            self.enter(State::Closed { fails: 0 });
            return self.epoch;
        }
        epoch
    }

    /// Records a transient failure. `rest` is the tally of all other identities; it counts only when
    /// [`Breaker::suspects_itself`].
    pub(crate) fn fail(&mut self, epoch: u64, now: Instant, rest: Tally, settings: &PoolSettings, jitter: f64) {
        self.settle(now);
        if epoch != self.epoch {
            return;
        }
        match self.state {
            State::Closed { fails } => {
                if self.is_calm(now) {
                    self.trips = 0;
                }
                self.calm_since = Some(now);
                let stands_out = self.suspects_itself(now) && rest.is_good(REST_GOOD_PERCENT);
                self.window.record(false, now);
                let fails = fails.saturating_add(1);
                if fails >= settings.trip_after || stands_out {
                    self.open(now, settings, jitter);
                } else {
                    self.state = State::Closed { fails };
                }
            }
            State::HalfOpen { .. } => self.open(now, settings, jitter),
            // Every transition to `Open` begins a new epoch, so no lease has this one.
            State::Open { .. } => {}
        }
    }

    /// The upstream refused the identity itself: opens at once for `base`, which doubles with each further refusal that
    /// `counts`, up to `cooldown_max`.
    pub(crate) fn refuse(
        &mut self,
        epoch: u64,
        now: Instant,
        base: Duration,
        counts: bool,
        settings: &PoolSettings,
        jitter: f64,
    ) {
        self.settle(now);
        // Requests that were in flight together bring one refusal each; the first one opens the breaker.
        if epoch != self.epoch || matches!(self.state, State::Open { .. }) {
            return;
        }
        let length = stretched(doubled(base, self.refusals, settings.cooldown_max), COOLDOWN_JITTER, jitter);
        self.refusals = self.refusals.saturating_add(u32::from(counts));
        self.is_refused = true;
        self.enter(State::Open { until: after(now, length) });
    }

    /// Whether one more failure would make the share of the last two minutes bad enough to open, if the other
    /// identities are well.
    pub(crate) fn suspects_itself(&self, now: Instant) -> bool {
        let tally = self.window.tally(now).plus(Tally { good: 0, bad: 1 });
        tally.total() >= RATE_RESULTS_MIN && !tally.is_good(OWN_GOOD_PERCENT)
    }

    /// The tally of the last two minutes.
    pub(crate) fn tally(&self, now: Instant) -> Tally {
        self.window.tally(now)
    }

    /// Records a result that does not tell about the identity's health: a probe gives its slot back.
    pub(crate) fn pass(&mut self, epoch: u64, now: Instant) {
        self.settle(now);
        if epoch == self.epoch && matches!(self.state, State::HalfOpen { .. }) {
            self.enter(State::Open { until: now });
        }
    }

    /// The facts that have to be stored: an open breaker, or how often one that is closed has opened, while that makes its
    /// next cooldown longer. A probe under way is left out, since its result comes within a minute.
    pub(crate) fn facts(&self, now: Now) -> Option<OpenBreaker> {
        let mut settled = self.clone();
        settled.settle(now.instant);
        let Self { trips, refusals, is_refused, .. } = settled;
        let is_remembered = refusals > 0 || (trips > 0 && !settled.is_calm(now.instant));
        let (until, was_open) = match (settled.state, settled.calm_since) {
            (State::Open { until }, _) => (now.unix_of(until), true),
            // Refusals are remembered until it works, as they are while it is open.
            (State::Closed { .. }, Some(since)) if is_remembered => (now.unix_of(since), refusals > 0),
            (State::Closed { .. } | State::HalfOpen { .. }, _) => return None,
        };
        let set_at = if was_open { now.unix.min(until.plus(-1)) } else { until };
        Some(OpenBreaker { until, set_at, trips, refusals, is_refused })
    }

    /// Restores a stored breaker. If its time has passed it is closed, and its next cooldown is as long as it would be
    /// without the restart. Neither a clock that stepped back nor a damaged file can make a cooldown longer than it was
    /// meant to be, or than the longest one.
    pub(crate) fn restore(&mut self, facts: OpenBreaker, now: Now, settings: &PoolSettings) {
        let OpenBreaker { until, set_at, trips, refusals, is_refused } = facts;
        let seconds = until.seconds_since(now.unix).min(until.seconds_since(set_at));
        let length = Duration::from_secs(seconds).min(stretched(settings.cooldown_max, COOLDOWN_JITTER, 1.0));
        if !length.is_zero() {
            (self.trips, self.refusals, self.is_refused) = (trips, refusals, is_refused);
            self.enter(State::Open { until: after(now.instant, length) });
            return;
        }
        let was_open = set_at < until;
        let calm = if was_open { Duration::ZERO } else { Duration::from_secs(now.unix.seconds_since(until)) };
        if let Some(since) = now.instant.checked_sub(calm) {
            (self.trips, self.refusals, self.calm_since) = (trips, refusals, Some(since));
        }
    }

    /// Whether it has been closed for so long without a failure that the next cooldown is a first one.
    fn is_calm(&self, now: Instant) -> bool {
        self.calm_since.is_none_or(|since| now.saturating_duration_since(since) >= CALM)
    }

    /// Starts over. Leases from before no longer count.
    pub(crate) fn reset(&mut self) {
        let epoch = self.epoch.wrapping_add(1);
        *self = Self { epoch, ..Self::new() };
    }

    fn settle(&mut self, now: Instant) {
        let settled = self.state(now);
        if settled != self.state {
            self.trips = self.trips.saturating_add(1);
            self.is_refused = false;
            self.enter(settled);
        }
    }

    fn open(&mut self, now: Instant, settings: &PoolSettings, jitter: f64) {
        let until = after(now, self.cooldown(settings, jitter));
        self.trips = self.trips.saturating_add(1);
        self.is_refused = false;
        self.enter(State::Open { until });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch = self.epoch.wrapping_add(1);
    }

    fn cooldown(&self, settings: &PoolSettings, jitter: f64) -> Duration {
        let length = doubled(settings.cooldown_base, self.trips, settings.cooldown_max);
        stretched(length, COOLDOWN_JITTER, jitter)
    }
}

/// Time closed without a failure after which the next cooldown is a first one again.
const CALM: Duration = Duration::from_secs(600);
/// Results in two minutes below which their share is not judged.
const RATE_RESULTS_MIN: u32 = 20;
const OWN_GOOD_PERCENT: u32 = 50;
const REST_GOOD_PERCENT: u32 = 80;
const COOLDOWN_JITTER: f64 = 0.1;
