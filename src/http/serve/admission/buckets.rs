//! Token buckets, one for each caller or address, in a table of bounded size.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use governor::Quota;
use governor::clock::{Clock, MonotonicClock, Reference as _};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::HashMapStateStore;
use parking_lot::Mutex;

/// Most buckets in the table; beyond it newcomers share some.
const BUCKETS_MAX: usize = 10_000;
/// Number of shared buckets.
const SHARED_MAX: u64 = 256;
/// Interval in which refilled buckets are dropped: a new one is as full.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// The interval while the table is full.
const SWEEP_EVERY_FULL: Duration = Duration::from_secs(1);

/// The key of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bucket {
    /// A caller, by the number of its key's digest.
    Caller(u64),
    /// An IPv4 address, or an IPv6 network.
    Address(IpAddr),
    /// Shared by callers that found no free bucket, by a hash of their own.
    Shared(u64),
}

impl Bucket {
    /// The bucket of an address.
    pub(crate) fn of_address(address: IpAddr) -> Self {
        Self::Address(network_of(address))
    }

    fn shared(self) -> Self {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        Self::Shared(hasher.finish() % SHARED_MAX)
    }
}

/// The network of one subscriber: an IPv4 address, or an IPv6 network of 64 bits.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

type Limiter<C> = governor::RateLimiter<Bucket, HashMapStateStore<Bucket>, C, StateInformationMiddleware>;

/// The buckets of all callers and addresses.
pub(crate) struct Buckets<C: Clock + Clone = MonotonicClock> {
    limiter: Limiter<C>,
    clock: C,
    swept_at: Mutex<C::Instant>,
}

/// The result of taking a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Number of tokens that are left.
    pub(crate) remaining: u32,
    /// Time until the next token; `None` if one was taken.
    pub(crate) wait: Option<Duration>,
}

impl<C: Clock + Clone> Buckets<C> {
    /// Buckets with this size and rate.
    pub(crate) fn new(quota: Quota, clock: C) -> Self {
        let limiter = governor::RateLimiter::hashmap_with_clock(quota, clock.clone()).with_middleware();
        let swept_at = Mutex::new(clock.now());
        Self { limiter, clock, swept_at }
    }

    /// Takes a token, if the bucket has one.
    pub(crate) fn take(&self, bucket: Bucket) -> Taken {
        let is_full = self.sweep();
        let bucket = if is_full { bucket.shared() } else { bucket };
        match self.limiter.check_key(&bucket) {
            Ok(state) => Taken { remaining: state.remaining_burst_capacity(), wait: None },
            Err(not_yet) => Taken { remaining: 0, wait: Some(not_yet.wait_time_from(self.clock.now())) },
        }
    }

    /// Drops refilled buckets when it is time. Returns `true` if the table is still full.
    fn sweep(&self) -> bool {
        let is_full = || self.limiter.len() >= BUCKETS_MAX;
        let every = if is_full() { SWEEP_EVERY_FULL } else { SWEEP_EVERY };
        let now = self.clock.now();
        let mut swept_at = self.swept_at.lock();
        if now.duration_since(*swept_at) >= every.into() {
            *swept_at = now;
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        is_full()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn buckets() -> (Buckets<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let quota = Quota::per_second(NonZeroU32::new(10).unwrap()).allow_burst(NonZeroU32::new(20).unwrap());
        (Buckets::new(quota, clock.clone()), clock)
    }

    /// Number of requests, of `count` at once, that are let in.
    fn let_in(buckets: &Buckets<FakeRelativeClock>, bucket: Bucket, count: usize) -> usize {
        (0..count).filter(|_| buckets.take(bucket).wait.is_none()).count()
    }

    // S004-30
    #[test]
    fn a_burst_and_then_the_rate() {
        let (buckets, clock) = buckets();
        let (one, other) = (Bucket::Caller(1), Bucket::Caller(2));
        assert_eq!(buckets.take(one).remaining, 19);
        assert_eq!(let_in(&buckets, one, 30), 19);
        assert_eq!(buckets.take(one), Taken { remaining: 0, wait: Some(Duration::from_millis(100)) });
        assert_eq!(let_in(&buckets, other, 30), 20, "each has a bucket of its own");
        clock.advance(Duration::from_millis(100));
        assert_eq!(let_in(&buckets, one, 30), 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!(let_in(&buckets, one, 30), 10);
        clock.advance(Duration::from_secs(60));
        assert_eq!(let_in(&buckets, one, 30), 20, "never more than the bucket holds");
    }

    // S004-34
    #[test]
    fn memory_is_bounded_and_given_back() {
        let (buckets, clock) = buckets();
        let address = |number: usize| Bucket::of_address(std::net::Ipv4Addr::from_bits(number as u32).into());
        for number in 0..3 * BUCKETS_MAX {
            assert!(buckets.take(address(number)).remaining < 20);
        }
        let bound = BUCKETS_MAX + usize::try_from(SHARED_MAX).unwrap();
        assert!(buckets.limiter.len() <= bound, "{}", buckets.limiter.len());
        // Callers that share a bucket are limited as well.
        assert!(let_in(&buckets, address(9 * BUCKETS_MAX), 100) <= 20);
        clock.advance(Duration::from_secs(61));
        buckets.take(address(0));
        assert_eq!(buckets.limiter.len(), 1);
    }

    #[test]
    fn an_ipv6_network_is_one_subscriber() {
        let bucket = |text: &str| Bucket::of_address(text.parse().unwrap());
        assert_eq!(bucket("2001:db8:1:2:3::4"), bucket("2001:db8:1:2::"));
        assert_ne!(bucket("2001:db8:1:2::"), bucket("2001:db8:1:3::"));
        assert_ne!(bucket("192.0.2.1"), bucket("192.0.2.2"));
    }
}
