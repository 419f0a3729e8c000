//! The common part of the connections to all upstreams.

use std::time::Duration;

/// Bytes of an answer that an upstream may send over HTTP/2 before they are read: the memory that a caller who does not
/// read costs.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The same for all answers of one HTTP/2 connection together. It has room for the windows of 256 answers, so that
/// callers who do not read hold up no others on their connection.
const CONNECTION_WINDOW_BYTES: u32 = 256 * STREAM_WINDOW_BYTES;

/// Connections without a request that are kept for the next one, for each host. A burst of requests opens more than it
/// needs, since some get one that has become free while theirs is opened; each costs about 15 KiB.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// A client that follows no redirects, with a time limit for connecting. `is_direct` keeps it from the proxies of the
/// environment.
pub(crate) fn client(connect_timeout: Duration, is_direct: bool) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder();
    // The client's own reading of `NO_PROXY=*` leaves literal addresses out.
    let builder = if is_direct { builder.no_proxy() } else { builder };
    builder
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .tcp_keepalive(Duration::from_secs(60))
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
}
