//! `healthcheck`: asks the running server whether it lives, for containers without curl.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::StatusCode;

use crate::app::listen::callable;
use crate::telemetry::ErrorChain;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the server at this address answers `GET /health` with 200. If not, standard error tells why.
pub async fn is_alive(listen: SocketAddr) -> bool {
    let url = format!("http://{}/health", callable(listen));
    let answered = match reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(TIMEOUT).build() {
        Ok(client) => client.get(&url).send().await.map_err(reqwest::Error::without_url),
        Err(error) => Err(error),
    };
    let why = match answered {
        Ok(response) if response.status() == StatusCode::OK => return true,
        Ok(response) => format!("it answered {}", response.status()),
        Err(error) => ErrorChain(&error).to_string(),
    };
    let _ = writeln!(io::stderr(), "qwen-bridge: no healthy server at {url}: {why}");
    false
}
