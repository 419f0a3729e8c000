//! Wrong keys, counted by address: some are answered at once, further ones slowly, then the address is refused.
//!
//! Callers that share an address with a guesser are not locked out: a key that was right before keeps working from
//! there. Another right key waits as long as a guess, so that the wait tells nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use governor::clock::{Clock, MonotonicClock, Reference as _};
use parking_lot::Mutex;
use tracing::warn;

use crate::http::serve::admission::buckets::{Bucket, Buckets, network_of};

/// Wrong keys that an address may send at once: 30.
const WRONG_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);
/// Further wrong keys that an address may send in a minute: 10.
const WRONG_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// Time for which an unknown key of a suspect address waits before it is checked.
const SLOWED_FOR: Duration = Duration::from_secs(1);
/// Most requests of one address that wait at once; further ones are refused unchecked.
const SLOWED_MAX: u32 = 4;
/// Most suspect addresses at once; unknown keys of further ones are refused unchecked.
const SUSPECTS_MAX: usize = 10_000;
/// Most right keys that are remembered, each with an address that it was used from.
const KNOWN_MAX: usize = 10_000;
/// Time for which a right key is remembered after its last use.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A key of this server that a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RightKey {
    /// A caller's key, by the number of its digest.
    Caller(u64),
    /// The key of the owner's routes.
    Admin,
}

/// The counts of all addresses, bounded in number.
pub(crate) struct WrongKeys<C: Clock + Clone = MonotonicClock> {
    counts: Buckets<C>,
    clock: C,
    /// Addresses whose allowance is used up.
    suspects: Mutex<HashMap<IpAddr, Suspect<C::Instant>>>,
    /// Last use of each right key from an address.
    known: Mutex<HashMap<(IpAddr, RightKey), C::Instant>>,
}

#[derive(Clone, Copy)]
struct Suspect<I> {
    /// End of the suspicion, unless more wrong keys come.
    until: I,
    /// Number of its requests that wait.
    waiting: u32,
}

impl Default for WrongKeys {
    /// No address has a count yet.
    fn default() -> Self {
        Self::with_clock(MonotonicClock)
    }
}

impl<C: Clock + Clone> WrongKeys<C> {
    fn with_clock(clock: C) -> Self {
        let quota = Quota::per_minute(WRONG_PER_MINUTE).allow_burst(WRONG_MAX);
        Self { counts: Buckets::new(quota, clock.clone()), clock, suspects: Mutex::default(), known: Mutex::default() }
    }

    /// Counts a wrong key. After too many it waits, and returns the time until the next try.
    pub(crate) async fn wrong(&self, address: IpAddr) -> Option<Duration> {
        let wait = self.counts.take(Bucket::of_address(address)).wait?;
        self.suspect(network_of(address), wait);
        self.slow_down(network_of(address)).await;
        Some(wait)
    }

    /// Admits a right key: at once, or after a wait from an address that sent too many wrong ones.
    ///
    /// # Errors
    /// The time until the next try, when too many requests of such an address already wait.
    pub(crate) async fn right(&self, address: IpAddr, key: RightKey) -> Result<(), Duration> {
        let address = network_of(address);
        if let Some(wait) = self.suspicion(address)
            && !self.is_known(address, key)
            && !self.slow_down(address).await
        {
            return Err(wait);
        }
        self.remember(address, key);
        Ok(())
    }

    /// Time for which an address is still suspect; `None` for one that is not.
    fn suspicion(&self, address: IpAddr) -> Option<Duration> {
        let until = self.suspects.lock().get(&address)?.until;
        let left = Duration::from(until.duration_since(self.clock.now()));
        (!left.is_zero()).then_some(left)
    }

    fn suspect(&self, address: IpAddr, wait: Duration) {
        let now = self.clock.now();
        let until = now + wait.into();
        let mut suspects = self.suspects.lock();
        if let Some(suspect) = suspects.get_mut(&address) {
            suspect.until = until;
            return;
        }
        suspects.retain(|_, suspect| suspect.waiting > 0 || suspect.until > now);
        if suspects.len() < SUSPECTS_MAX {
            suspects.insert(address, Suspect { until, waiting: 0 });
            warn!(peer.address = %address, "too many wrong keys from one address, slowing it down");
        }
    }

    /// Waits, unless too many requests do. Returns whether it waited.
    async fn slow_down(&self, address: IpAddr) -> bool {
        let waiting = match self.suspects.lock().get_mut(&address) {
            Some(suspect) if suspect.waiting < SLOWED_MAX => {
                suspect.waiting += 1;
                Waiting { keys: self, address }
            }
            Some(_) | None => return false,
        };
        tokio::time::sleep(SLOWED_FOR).await;
        drop(waiting);
        true
    }

    fn is_known(&self, address: IpAddr, key: RightKey) -> bool {
        let known = self.known.lock();
        known.get(&(address, key)).is_some_and(|at| self.is_recent(*at))
    }

    fn remember(&self, address: IpAddr, key: RightKey) {
        let now = self.clock.now();
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX && !known.contains_key(&(address, key)) {
            known.retain(|_, at| self.is_recent(*at));
            if known.len() >= KNOWN_MAX {
                return;
            }
        }
        known.insert((address, key), now);
    }

    fn is_recent(&self, at: C::Instant) -> bool {
        Duration::from(self.clock.now().duration_since(at)) < KNOWN_FOR
    }
}

/// A waiting request. Dropping it removes it from the count.
struct Waiting<'a, C: Clock + Clone> {
    keys: &'a WrongKeys<C>,
    address: IpAddr,
}

impl<C: Clock + Clone> Drop for Waiting<'_, C> {
    fn drop(&mut self) {
        if let Some(suspect) = self.keys.suspects.lock().get_mut(&self.address) {
            suspect.waiting = suspect.waiting.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    /// Time until an address may send one more.
    const WRONG_EVERY: Duration = Duration::from_secs(6);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn keys() -> (WrongKeys<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (WrongKeys::with_clock(clock.clone()), clock)
    }

    async fn use_up(keys: &WrongKeys<FakeRelativeClock>, from: IpAddr) {
        for _ in 0..WRONG_MAX.get() {
            assert_eq!(keys.wrong(from).await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_refused_after_so_many_and_let_in_again() {
        let (keys, clock) = keys();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        use_up(&keys, one).await;
        let began = tokio::time::Instant::now();
        assert_eq!(keys.wrong(one).await, Some(WRONG_EVERY));
        assert_eq!(began.elapsed(), SLOWED_FOR);
        assert_eq!(keys.wrong(other).await, None, "each address has a count of its own");
        clock.advance(WRONG_EVERY);
        assert_eq!(keys.wrong(one).await, None);
        assert!(keys.wrong(one).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_network_is_one_address() {
        let (keys, _) = keys();
        use_up(&keys, address("2001:db8::1")).await;
        assert!(keys.wrong(address("2001:db8::2")).await.is_some());
        assert!(keys.wrong(address("2001:db8:0:1::2")).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let (keys, _) = keys();
        let from = address("192.0.2.1");
        use_up(&keys, from).await;
        let began = tokio::time::Instant::now();
        let answered = async {
            assert!(keys.wrong(from).await.is_some());
            began.elapsed()
        };
        let all = futures_util::future::join_all((0..20).map(|_| async {
            assert!(keys.wrong(from).await.is_some());
            began.elapsed()
        }));
        let slowed = all.await.into_iter().filter(|waited| *waited >= SLOWED_FOR).count();
        assert_eq!(slowed, SLOWED_MAX as usize);
        // Places become free again, also when a caller leaves while waiting.
        assert!(tokio::time::timeout(SLOWED_FOR / 2, keys.wrong(from)).await.is_err());
        assert_eq!(answered.await, began.elapsed());
        assert_eq!(keys.suspects.lock()[&from].waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn right_keys_beside_a_guesser() {
        let (keys, clock) = keys();
        let (from, known, new) = (address("192.0.2.1"), RightKey::Caller(1), RightKey::Admin);
        assert_eq!(keys.right(from, known).await, Ok(()));
        use_up(&keys, from).await;
        assert!(keys.wrong(from).await.is_some());
        let began = tokio::time::Instant::now();
        assert_eq!(keys.right(from, known).await, Ok(()));
        assert_eq!(began.elapsed(), Duration::ZERO);
        // A key that was never used from there is checked as slowly as a guess, and with as little room.
        let waiting = futures_util::future::join_all((0..10).map(|_| keys.right(from, new)));
        let let_in = waiting.await.into_iter().filter(Result::is_ok).count();
        assert_eq!((let_in, began.elapsed()), (SLOWED_MAX as usize, SLOWED_FOR));
        assert_eq!(keys.right(from, new).await, Ok(()));
        assert_eq!(began.elapsed(), SLOWED_FOR, "it is known now");
        assert_eq!(keys.right(address("192.0.2.2"), new).await, Ok(()));
        clock.advance(WRONG_EVERY);
        assert_eq!(keys.right(from, RightKey::Caller(2)).await, Ok(()));
        assert_eq!(began.elapsed(), SLOWED_FOR, "the address is suspect no more");
    }

    #[tokio::test(start_paused = true)]
    async fn the_tables_are_bounded() {
        let (keys, clock) = keys();
        let place = |number: usize| address(&std::net::Ipv4Addr::from_bits(number as u32).to_string());
        for number in 0..KNOWN_MAX + 10 {
            assert_eq!(keys.right(place(number), RightKey::Admin).await, Ok(()));
        }
        assert_eq!(keys.known.lock().len(), KNOWN_MAX);
        clock.advance(KNOWN_FOR);
        assert_eq!(keys.right(place(KNOWN_MAX), RightKey::Admin).await, Ok(()));
        assert_eq!(keys.known.lock().len(), 1);
        for number in 0..SUSPECTS_MAX + 10 {
            keys.suspect(place(number), WRONG_EVERY);
        }
        assert_eq!(keys.suspects.lock().len(), SUSPECTS_MAX);
        clock.advance(WRONG_EVERY);
        keys.suspect(place(SUSPECTS_MAX), WRONG_EVERY);
        assert_eq!(keys.suspects.lock().len(), 1);
    }
}
