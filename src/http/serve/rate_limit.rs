//! How often one caller may ask: a token bucket for each, around everything under `/v1/`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use governor::Quota;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::HashMapStateStore;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

use crate::chat::failure::Failure;
use crate::http::serve::access::caller_address;
use crate::http::serve::auth::Caller;
use crate::http::serve::drain::Drain;
use crate::http::settings::{HttpSettings, RateLimit};

/// How many requests the bucket holds.
pub(crate) const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
/// How many of them are left.
pub(crate) const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// When it is full again, in seconds since 1970.
pub(crate) const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Callers with a bucket of their own; while there are more of them, newcomers share some.
const BUCKETS_MAX: usize = 10_000;
/// The buckets that are shared then.
const SHARED_MAX: u64 = 256;
/// How often full buckets are dropped, which are as good as none.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// The same while there are too many.
const SWEEP_EVERY_FULL: Duration = Duration::from_secs(1);

/// Whose bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// One of this server's keys, by its place.
    Caller(u64),
    Address(IpAddr),
    Shared(u64),
}

impl Key {
    /// The key where there are keys. In client mode credentials are not ours to check, and whoever makes them up
    /// would have a new bucket with each.
    fn of(settings: &HttpSettings, request: &Request) -> Self {
        match request.extensions().get::<Caller>() {
            Some(caller) if settings.server_mode && !settings.keys.is_empty() => Self::Caller(caller.id.0),
            _ => Self::Address(network_of(caller_address(settings, request))),
        }
    }

    fn shared(self) -> Self {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        Self::Shared(hasher.finish() % SHARED_MAX)
    }
}

/// What one subscriber has: an address of the older kind, a network of 64 bits of the newer.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

/// One bucket for each.
type Buckets<C> = governor::RateLimiter<Key, HashMapStateStore<Key>, C, StateInformationMiddleware>;

/// The buckets of all callers. Their number is bounded.
pub(crate) struct RateLimiter<C: Clock + Clone = MonotonicClock> {
    buckets: Buckets<C>,
    clock: C,
    limit: RateLimit,
    settings: HttpSettings,
    swept_at: Mutex<C::Instant>,
}

/// What a caller is told, whether it may go on or not.
struct Verdict {
    remaining: u32,
    /// How long until there is one more; `None` when there is one.
    wait: Option<Duration>,
}

impl RateLimiter {
    /// The limiter of these settings; `None` where nothing is limited.
    pub(crate) fn new(settings: &HttpSettings) -> Option<Self> {
        Self::with_clock(settings, MonotonicClock)
    }
}

impl<C: Clock + Clone> RateLimiter<C> {
    fn with_clock(settings: &HttpSettings, clock: C) -> Option<Self> {
        let limit = settings.rate_limit?;
        let period = Duration::try_from_secs_f64(1.0 / limit.per_second).ok()?;
        let quota = Quota::with_period(period)?.allow_burst(NonZeroU32::new(limit.burst)?);
        let buckets = governor::RateLimiter::hashmap_with_clock(quota, clock.clone()).with_middleware();
        let swept_at = Mutex::new(clock.now());
        Some(Self { buckets, clock, limit, settings: settings.clone(), swept_at })
    }

    fn take(&self, key: Key) -> Verdict {
        let is_full = self.sweep();
        let key = if is_full { key.shared() } else { key };
        match self.buckets.check_key(&key) {
            Ok(state) => Verdict { remaining: state.remaining_burst_capacity(), wait: None },
            Err(not_yet) => Verdict { remaining: 0, wait: Some(not_yet.wait_time_from(self.clock.now())) },
        }
    }

    /// Drops what is as good as nothing, now and then. Whether there is no room for more.
    fn sweep(&self) -> bool {
        let is_full = || self.buckets.len() >= BUCKETS_MAX;
        let every = if is_full() { SWEEP_EVERY_FULL } else { SWEEP_EVERY };
        let now = self.clock.now();
        let mut swept_at = self.swept_at.lock();
        if governor::clock::Reference::duration_since(&now, *swept_at) >= every.into() {
            *swept_at = now;
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
        is_full()
    }

    fn write(&self, verdict: &Verdict, headers: &mut HeaderMap) {
        let missing = self.limit.burst.saturating_sub(verdict.remaining);
        let full_in = Duration::try_from_secs_f64(f64::from(missing) / self.limit.per_second).unwrap_or_default();
        let full_at = SystemTime::now() + full_in;
        let full_at = full_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = full_at.as_secs() + u64::from(full_at.subsec_nanos() > 0);
        headers.insert(LIMIT, HeaderValue::from(self.limit.burst));
        headers.insert(REMAINING, HeaderValue::from(verdict.remaining));
        headers.insert(RESET, HeaderValue::from(seconds));
    }
}

/// The layer. It stands behind the check of keys, so that whoever is not let in costs nobody anything.
pub(crate) async fn limit(State(limiter): State<Arc<RateLimiter>>, request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/v1/") || request.method() == Method::OPTIONS {
        return next.run(request).await;
    }
    let verdict = limiter.take(Key::of(&limiter.settings, &request));
    let mut response = match verdict.wait {
        None => next.run(request).await,
        Some(wait) => {
            Drain::refuse(request);
            Failure::too_many_requests(wait).into_response()
        }
    };
    limiter.write(&verdict, response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::ConnectInfo;
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn settings(proxies: &[&str]) -> HttpSettings {
        HttpSettings {
            listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            keys: Vec::new(),
            admin_key: None,
            rate_limit: Some(RateLimit { per_second: 10.0, burst: 20 }),
            server_mode: true,
            debug_mode: false,
            log_level: String::new(),
            allow_open: false,
            body_bytes_max: 0,
            keepalive_interval: Duration::ZERO,
            headers_hold: Duration::ZERO,
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            trusted_proxies: proxies.iter().map(|net| net.parse().unwrap()).collect(),
            cors_origins: None,
            spool: std::path::PathBuf::new(),
            vision_fallback: String::new(),
            reasoning_format: crate::chat::job::ReasoningFormat::Parsed,
        }
    }

    fn limiter() -> (RateLimiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (RateLimiter::with_clock(&settings(&[]), clock.clone()).unwrap(), clock)
    }

    /// How many of so many requests at once are let in.
    fn let_in(limiter: &RateLimiter<FakeRelativeClock>, key: Key, count: usize) -> usize {
        (0..count).filter(|_| limiter.take(key).wait.is_none()).count()
    }

    // S004-30
    #[test]
    fn a_burst_and_then_the_rate() {
        let (limiter, clock) = limiter();
        let (one, other) = (Key::Caller(1), Key::Caller(2));
        assert_eq!(limiter.take(one).remaining, 19);
        assert_eq!(let_in(&limiter, one, 30), 19);
        let refused = limiter.take(one);
        assert_eq!((refused.remaining, refused.wait), (0, Some(Duration::from_millis(100))));
        assert_eq!(let_in(&limiter, other, 30), 20, "each has a bucket of its own");
        clock.advance(Duration::from_millis(100));
        assert_eq!(let_in(&limiter, one, 30), 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!(let_in(&limiter, one, 30), 10);
        clock.advance(Duration::from_secs(60));
        assert_eq!(let_in(&limiter, one, 30), 20, "never more than the bucket holds");
    }

    // S004-34
    #[test]
    fn memory_is_bounded_and_given_back() {
        let (limiter, clock) = limiter();
        let address = |number: usize| Key::Address(std::net::Ipv4Addr::from_bits(number as u32).into());
        for number in 0..3 * BUCKETS_MAX {
            assert!(limiter.take(address(number)).remaining < 20);
        }
        let bound = BUCKETS_MAX + usize::try_from(SHARED_MAX).unwrap();
        assert!(limiter.buckets.len() <= bound, "{}", limiter.buckets.len());
        // Those who share are limited all the same.
        assert!(let_in(&limiter, address(9 * BUCKETS_MAX), 100) <= 20);
        clock.advance(Duration::from_secs(61));
        limiter.take(address(0));
        assert_eq!(limiter.buckets.len(), 1);
    }

    // S004-33
    #[test]
    fn whose_bucket_it_is() {
        let check = |peer: &str, headers: &[(&'static str, &str)], expected: &str| {
            let settings = settings(&["10.0.0.0/8", "::1/128"]);
            let mut request = Request::new(Body::empty());
            let peer: IpAddr = peer.parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(std::net::SocketAddr::new(peer, 5)));
            for (name, value) in headers {
                request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
            }
            let expected = Key::Address(expected.parse().unwrap());
            assert_eq!(Key::of(&settings, &request), expected, "{peer} {headers:?}");
        };
        let (forwarded, real) = ("x-forwarded-for", "x-real-ip");
        check("9.9.9.9", &[], "9.9.9.9");
        check("9.9.9.9", &[(forwarded, "1.1.1.1"), (real, "1.1.1.1")], "9.9.9.9");
        check("::ffff:10.0.0.1", &[(forwarded, "1.1.1.1")], "1.1.1.1");
        check("10.0.0.1", &[(forwarded, "6.6.6.6, 1.1.1.1, 10.0.0.2")], "1.1.1.1");
        check("10.0.0.1", &[(forwarded, "6.6.6.6"), (forwarded, "1.1.1.1:80")], "1.1.1.1");
        check("10.0.0.1", &[(forwarded, "nonsense")], "10.0.0.1");
        check("10.0.0.1", &[(real, "1.1.1.1")], "1.1.1.1");
        check("::1", &[(forwarded, "[2001:db8:1:2:3::4]:80")], "2001:db8:1:2::");
        check("2001:db8::1", &[], "2001:db8::");
    }

    #[test]
    fn a_key_is_what_counts_where_there_are_keys() {
        let mut settings = settings(&[]);
        settings.keys = vec![crate::base::secret::ApiKey::new("k")];
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(Caller { id: crate::pool::CallerId(1), own: None });
        assert_eq!(Key::of(&settings, &request), Key::Caller(1));
        settings.server_mode = false;
        assert!(matches!(Key::of(&settings, &request), Key::Address(_)));
    }
}
