//! `healthcheck`: asks the running server whether it lives, for containers without curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the server at this address answers `GET /health` with 200.
pub async fn is_alive(listen: SocketAddr) -> bool {
    // "Every address" is no address to call.
    let host = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    let url = format!("http://{}/health", SocketAddr::new(host, listen.port()));
    let Ok(client) = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build() else {
        return false;
    };
    client.get(url).send().await.is_ok_and(|response| response.status() == reqwest::StatusCode::OK)
}
