//! Rate limits of callers: a token bucket for each, around everything under `/v1/`.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use governor::Quota;
use governor::clock::MonotonicClock;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::base::live::Live;
use crate::http::serve::admission::buckets::{Bucket, Buckets, Taken};
use crate::http::serve::admission::caller::Caller;
use crate::http::serve::record::access::caller_address;
use crate::http::settings::{HttpSettings, RateLimit};

/// Size of the bucket, in requests.
pub(crate) const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
/// Requests left in the bucket.
pub(crate) const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// Moment at which the bucket is full again, in Unix seconds.
pub(crate) const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The limiter of `RATE_LIMIT_RPS` and `RATE_LIMIT_BURST`, which may change while the server runs.
pub(crate) struct RateLimiter {
    settings: Live<HttpSettings>,
    /// The buckets for the settings of the last request.
    limited: Live<Limited>,
}

/// The buckets of one rate. Other settings begin with full ones.
struct Limited {
    limit: Option<RateLimit>,
    /// `None` if no rate is set.
    buckets: Option<Buckets<MonotonicClock>>,
}

impl Limited {
    fn by(limit: Option<RateLimit>) -> Self {
        let quota = limit.and_then(|limit| {
            let period = Duration::try_from_secs_f64(1.0 / limit.per_second).ok()?;
            Some(Quota::with_period(period)?.allow_burst(NonZeroU32::new(limit.burst)?))
        });
        Self { limit, buckets: quota.map(|quota| Buckets::new(quota, MonotonicClock)) }
    }
}

/// A request that was taken from its bucket, and the rate that it was taken at.
pub(crate) struct TakenAt {
    limit: RateLimit,
    taken: Taken,
}

impl RateLimiter {
    /// A limiter by these settings, read at each request.
    pub(crate) fn new(settings: Live<HttpSettings>) -> Self {
        let limited = Live::new(Limited::by(settings.now().rate_limit));
        Self { settings, limited }
    }

    /// Takes one request from the bucket that it belongs to; `None` for a request that is not limited.
    pub(crate) fn take(&self, request: &Request) -> Option<TakenAt> {
        let settings = self.settings.now();
        let mut limited = self.limited.now();
        if limited.limit != settings.rate_limit {
            // Of two requests that come here at once, one may begin with buckets that the other replaces; both are full.
            self.limited.put(Limited::by(settings.rate_limit));
            limited = self.limited.now();
        }
        let (limit, buckets) = (limited.limit?, limited.buckets.as_ref()?);
        let is_limited = request.uri().path().starts_with("/v1/") && request.method() != Method::OPTIONS;
        is_limited.then(|| TakenAt { limit, taken: buckets.take(bucket_of(&settings, request)) })
    }
}

impl TakenAt {
    /// Time that the caller has to wait; `None` for a request that may pass.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.taken.wait
    }

    /// Tells the caller of its bucket.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let Self { limit, taken } = self;
        let missing = limit.burst.saturating_sub(taken.remaining);
        let full_in = Duration::try_from_secs_f64(f64::from(missing) / limit.per_second).unwrap_or_default();
        let full_at = SystemTime::now() + full_in;
        let full_at = full_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = full_at.as_secs() + u64::from(full_at.subsec_nanos() > 0);
        headers.insert(LIMIT, HeaderValue::from(limit.burst));
        headers.insert(REMAINING, HeaderValue::from(taken.remaining));
        headers.insert(RESET, HeaderValue::from(seconds));
    }
}

/// The bucket of the key, where there are keys and this is one. In client mode credentials are not ours to check, and
/// each made-up one would have a new bucket.
fn bucket_of(settings: &HttpSettings, request: &Request) -> Bucket {
    match request.extensions().get::<Caller>() {
        Some(caller) if settings.server_mode && caller.key.is_some() => Bucket::Caller(caller.id.0),
        _ => Bucket::of_address(caller_address(settings, request)),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::ConnectInfo;

    use std::net::IpAddr;

    use super::*;
    use crate::base::caller_key::{KeyLimits, KeyName, NamedKey};
    use crate::base::secret::ApiKey;
    use crate::gateway::caller_keys::CallerKeys;
    use crate::shutdown::Supervisor;

    fn settings(proxies: &[&str]) -> HttpSettings {
        HttpSettings {
            metrics_listen: None,
            listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            keys: Vec::new(),
            admin_key: None,
            base_path: String::new(),
            rate_limit: Some(RateLimit { per_second: 10.0, burst: 20 }),
            server_mode: true,
            debug_mode: false,
            log_level: String::new(),
            allow_open: false,
            log_prompts: false,
            body_bytes_max: 0,
            json_bytes_max: 0,
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
            let expected = Bucket::Address(expected.parse().unwrap());
            assert_eq!(bucket_of(&settings, &request), expected, "{peer} {headers:?}");
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
        let named = NamedKey {
            name: KeyName::numbered(1),
            key: ApiKey::new("k"),
            limits: KeyLimits::default(),
            is_generated: false,
        };
        let key = CallerKeys::new(&[named], Vec::new(), Supervisor::new()).find("k");
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(Caller { id: crate::pool::CallerId(1), own: None, key });
        assert_eq!(bucket_of(&settings, &request), Bucket::Caller(1));
        settings.server_mode = false;
        assert!(matches!(bucket_of(&settings, &request), Bucket::Address(_)));
    }
}
