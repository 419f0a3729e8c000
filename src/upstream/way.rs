//! Faults on the way to an upstream: a proxy, a name, a refused connection, TLS. Each has a sentence that says how to
//! mend it, which the texts of the HTTP client do not. No sentence holds an address or a password.

use std::error::Error;
use std::io::{self, ErrorKind};

/// A fault on the way to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WayFault {
    /// The proxy asks for a user and a password, or does not take those that it was sent (407).
    ProxyLogin,
    /// The proxy does not make the connection.
    ProxyRefuses,
    /// The proxy cannot be reached.
    ProxyUnreachable,
    /// No address is known for the name of the host.
    NameUnknown,
    /// The connection is refused.
    Refused,
    /// The network has no way to the host.
    NoRoute,
    /// The certificate of the host is not accepted.
    Certificate,
    /// The TLS handshake fails.
    Tls,
}

/// Most causes of an error that are looked at.
const CAUSES_MAX: usize = 16;

impl WayFault {
    /// The fault behind an error of the HTTP client, found in its causes from the outside in. `None` for failures
    /// after the connection was made.
    #[must_use]
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut is_proxy = false;
        let mut link = Some(error);
        for _ in 0..CAUSES_MAX {
            let Some(cause) = link else { break };
            let text = cause.to_string();
            // Words of hyper-util 0.1 and rustls 0.23; a test with real sockets holds them.
            if text.contains("proxy authorization required") || text.contains("credentials not accepted") {
                return Some(Self::ProxyLogin);
            }
            if text.starts_with("tunnel error") || text.starts_with("SOCKS error") {
                is_proxy = true;
                if !text.contains("failed to create underlying connection") {
                    return Some(Self::ProxyRefuses);
                }
            }
            let fault = Self::of_cause(cause, &text);
            if fault.is_some() {
                return if is_proxy { Some(Self::ProxyUnreachable) } else { fault };
            }
            link = cause.source();
        }
        is_proxy.then_some(Self::ProxyUnreachable)
    }

    fn of_cause(cause: &(dyn Error + 'static), text: &str) -> Option<Self> {
        if text.starts_with("dns error") {
            return Some(Self::NameUnknown);
        }
        if text.contains("certificate") {
            return Some(Self::Certificate);
        }
        if text.contains("received fatal alert") || text.contains("received corrupt message") {
            return Some(Self::Tls);
        }
        match cause.downcast_ref::<io::Error>()?.kind() {
            ErrorKind::ConnectionRefused => Some(Self::Refused),
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => Some(Self::NoRoute),
            _ => None,
        }
    }

    /// Description of the fault, as the end of a sentence.
    #[must_use]
    pub fn problem(self) -> &'static str {
        match self {
            Self::ProxyLogin => "the proxy of this server asks for a login (407)",
            Self::ProxyRefuses => "the proxy of this server does not make the connection",
            Self::ProxyUnreachable => "the proxy of this server cannot be reached",
            Self::NameUnknown => "the name of the host is not known (DNS)",
            Self::Refused => "nothing listens at its address and port",
            Self::NoRoute => "the network of this server has no way to the host",
            Self::Certificate => "the certificate of the host is not accepted (TLS)",
            Self::Tls => "the TLS handshake fails",
        }
    }

    /// Remedy, as the end of "the owner of this server can …".
    #[must_use]
    pub fn mend(self) -> &'static str {
        match self {
            Self::ProxyLogin => {
                "write user and password into HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, as http://user:password@host:port"
            }
            Self::ProxyRefuses => "look whether that proxy allows the host, or name the host in NO_PROXY",
            Self::ProxyUnreachable => {
                "correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, start the proxy, or unset the variable"
            }
            Self::NameUnknown => "check the spelling of the address in the settings, and the DNS of this machine",
            Self::Refused => "check the address and the port in the settings, and whether a firewall is between",
            Self::NoRoute => "check the network of this machine, and whether it needs a proxy (HTTPS_PROXY)",
            Self::Certificate => {
                "check the clock of this machine, and let it trust the authority if a proxy opens TLS (SSL_CERT_FILE)"
            }
            Self::Tls => "check that the address is one of https and not of http, and what stands between",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use crate::upstream::error::UpstreamError;

    #[tokio::test]
    async fn words_of_the_url_are_not_taken_for_the_fault() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let error = client.get(format!("http://{closed}/certificate.pdf")).send().await.unwrap_err();
        let told = UpstreamError::transport("uploading", error).to_string();
        assert!(told.contains("nothing listens"), "{told}");
    }
}
