//! The sockets that the server listens at: for callers, and for scrapes of metrics if `METRICS_ADDRESS` names one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use crate::app::start_error::StartError;
use crate::http::settings::HttpSettings;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Size of the system's send buffer for a caller who does not read, in bytes; Linux takes twice as much. Without it the
/// buffer grows to megabytes for each of them.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;

/// A listener and its address, with the real port.
pub(crate) type Listening = (TcpListener, SocketAddr);

/// Begins to listen for callers, and for scrapes of metrics if they have an address of their own.
pub(crate) fn listeners(settings: &HttpSettings) -> Result<(Listening, Option<Listening>), StartError> {
    let callers = listen(settings.listen, "SERVER_HOST, SERVER_PORT")?;
    let metrics = settings.metrics_listen.map(|wanted| listen(wanted, "METRICS_ADDRESS")).transpose()?;
    Ok((callers, metrics))
}

/// Begins to listen; the port of the address is real even if 0 was asked for.
fn listen(wanted: SocketAddr, setting: &'static str) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen(wanted, setting, error);
    let socket = if wanted.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    // As `TcpListener::bind` does, so that a restart does not wait for connections that have ended.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true).map_err(failed)?;
    // The connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES).map_err(failed)?;
    socket.bind(wanted).map_err(failed)?;
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// The address at which a server that listens here is called from this machine: a wildcard becomes loopback.
pub(crate) fn callable(listen: SocketAddr) -> SocketAddr {
    let host = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    SocketAddr::new(host, listen.port())
}
