//! Settings of the upstreams.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use url::{Host, Url};

/// Addresses and time limits of the web chat.
#[derive(Clone, Debug)]
pub struct WebSettings {
    /// `QWEN_WEB_BASE_URL`, `https://chat.qwen.ai`; without a path.
    pub web_base: Url,
    /// `QWEN_AUTH_BASE_URL`, `https://auth.qwen.ai`; without a path.
    pub auth_base: Url,
    /// `QWEN_OSS_BASE_URL`: where uploads go; absent: to the host that the upstream names for each.
    pub oss_base: Option<Url>,
    /// `QWEN_WEB_HEADERS`: headers that replace or join the default set, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// Time limit for a connection (`CONNECT_TIMEOUT`, 10 s).
    pub connect_timeout: Duration,
    /// Time limit for the first event of an answer (`FIRST_EVENT_TIMEOUT`, 60 s); doubled for thinking and search.
    pub first_event_timeout: Duration,
    /// Longest silence between two events of an answer (`IDLE_TIMEOUT`, 120 s).
    pub idle_timeout: Duration,
    /// Time limit for an answer as a whole (`TOTAL_TIMEOUT`, 600 s).
    pub total_timeout: Duration,
    /// Whether no proxy of the environment is used, because `NO_PROXY` covers every host.
    pub is_direct: bool,
}

/// Time limits of an answer. Each attempt reads them once, at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerTimeouts {
    /// Time limit for the first event (`FIRST_EVENT_TIMEOUT`, 60 s); doubled for thinking and search.
    pub first_event: Duration,
    /// Longest silence between two events (`IDLE_TIMEOUT`, 120 s).
    pub idle: Duration,
    /// Time limit for an answer as a whole (`TOTAL_TIMEOUT`, 600 s).
    pub total: Duration,
}

impl WebSettings {
    /// The part that may change while the server runs.
    #[must_use]
    pub fn timeouts(&self) -> AnswerTimeouts {
        AnswerTimeouts { first_event: self.first_event_timeout, idle: self.idle_timeout, total: self.total_timeout }
    }

    /// Host and port of every server that stands for the upstream.
    #[must_use]
    pub fn own_hosts(&self) -> Vec<(String, u16)> {
        let bases = [Some(&self.web_base), self.oss_base.as_ref()];
        let host = |base: &Url| Some((base.host_str()?.to_owned(), base.port_or_known_default()?));
        bases.into_iter().flatten().filter_map(host).collect()
    }
}

/// Address, client and scope of OAuth logins.
#[derive(Clone, Debug)]
pub struct OAuthSettings {
    /// `QWEN_OAUTH_BASE_URL`, `https://chat.qwen.ai`; without a path.
    pub base: Url,
    /// `QWEN_OAUTH_CLIENT_ID`: the public id of the official command line.
    pub client_id: String,
    /// `QWEN_OAUTH_SCOPE`: words with spaces between them.
    pub scope: String,
    /// Time limit for a connection (`CONNECT_TIMEOUT`, 10 s).
    pub connect_timeout: Duration,
    /// Whether no proxy is used, as in [`WebSettings::is_direct`].
    pub is_direct: bool,
}

/// `MEDIA_FETCH`: which addresses in a caller's request are fetched. `off`, `public` (the default), or a list of
/// hosts, to which `public` may belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaFetch {
    /// Whether any public address is fetched, at ports 80 and 443.
    pub is_public: bool,
    /// Hosts that the owner listed, public or not.
    pub hosts: Vec<HostRule>,
}

/// A listed host: `example.com`, `*.example.com`, `example.com:8443`, `127.0.0.1:9000`, `[::1]:9000`.
///
/// A host that is listed by its name may be anywhere, on this machine too, by the owner's decision. A pattern covers
/// names that others may assign, so the addresses behind it have to be public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    host: Host<String>,
    is_pattern: bool,
    /// The port; `None`: 80 and 443.
    port: Option<u16>,
}

impl MediaFetch {
    /// A setting by which no address is fetched.
    #[must_use]
    pub fn off() -> Self {
        Self { is_public: false, hosts: Vec::new() }
    }

    /// Reads a setting.
    ///
    /// # Errors
    /// A sentence about the word at fault and the expected form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut setting = Self::off();
        let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        if let [word] = words.as_slice()
            && word.eq_ignore_ascii_case("off")
        {
            return Ok(setting);
        }
        if words.is_empty() {
            return Err("off, public, or a list of hosts was expected".to_owned());
        }
        for word in words {
            if word.eq_ignore_ascii_case("public") {
                setting.is_public = true;
                continue;
            }
            let rule = HostRule::parse(word).filter(|_| !word.eq_ignore_ascii_case("off"));
            let expected = || format!("{word:?} is not a host such as example.com, *.example.com or 127.0.0.1:9000");
            setting.hosts.push(rule.ok_or_else(expected)?);
        }
        Ok(setting)
    }
}

impl HostRule {
    /// A rule for this one host and port; `None` if the text is not a host.
    #[must_use]
    pub fn exact(host: &str, port: u16) -> Option<Self> {
        Some(Self { host: Host::parse(host).ok()?, is_pattern: false, port: Some(port) })
    }

    fn parse(text: &str) -> Option<Self> {
        let (pattern, text) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        // A colon belongs to the port unless the text is an IPv6 address, bare or in brackets.
        let (host, port) = match text.rsplit_once(':') {
            _ if text.parse::<Ipv6Addr>().is_ok() => (format!("[{text}]"), None),
            Some((host, port)) if !port.ends_with(']') => (host.to_owned(), Some(port.parse().ok()?)),
            _ => (text.to_owned(), None),
        };
        let host = Host::parse(host.strip_suffix('.').unwrap_or(&host)).ok()?;
        let is_label =
            |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let is_meant = match &host {
            Host::Domain(name) => name.split('.').all(is_label) && (!pattern || name.contains('.')),
            Host::Ipv4(_) | Host::Ipv6(_) => !pattern,
        };
        is_meant.then_some(Self { host, is_pattern: pattern, port })
    }

    /// Whether the host is listed by its name or address.
    pub(crate) fn names(&self, host: &Host<&str>, port: u16) -> bool {
        !self.is_pattern && self.covers_port(port) && self.host == *host
    }

    /// Whether the host matches a listed pattern.
    pub(crate) fn includes(&self, host: &Host<&str>, port: u16) -> bool {
        let (Host::Domain(suffix), Host::Domain(name)) = (&self.host, host) else {
            return false;
        };
        let is_below = || name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'));
        self.is_pattern && self.covers_port(port) && is_below()
    }

    fn covers_port(&self, port: u16) -> bool {
        self.port.map_or(matches!(port, 80 | 443), |listed| listed == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_fetch() {
        let check = |text: &str, is_public: bool, hosts: &[(&str, bool, Option<u16>)]| {
            let setting = MediaFetch::parse(text).unwrap();
            assert_eq!(setting.is_public, is_public, "{text}");
            let found: Vec<(String, bool, Option<u16>)> =
                setting.hosts.iter().map(|rule| (rule.host.to_string(), rule.is_pattern, rule.port)).collect();
            let expected: Vec<_> = hosts.iter().map(|(host, is, port)| ((*host).to_owned(), *is, *port)).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("off", false, &[]);
        check(" OFF ", false, &[]);
        check("public", true, &[]);
        check("public, files.example.com:8443 ,", true, &[("files.example.com", false, Some(8443))]);
        check("Example.COM.,*.example.com", false, &[("example.com", false, None), ("example.com", true, None)]);
        check("127.0.0.1:9000,0x7f.1", false, &[("127.0.0.1", false, Some(9000)), ("127.0.0.1", false, None)]);
        check(
            "[::1]:80,::1,[::1]",
            false,
            &[("[::1]", false, Some(80)), ("[::1]", false, None), ("[::1]", false, None)],
        );
        check("minio", false, &[("minio", false, None)]);
        for bad in ["", ",", "off,public", "public,off", "*", "*.com", "*.1.2.3.4", "http://a.b", "a.b/c", "a b", "a:b"]
        {
            assert!(MediaFetch::parse(bad).is_err(), "{bad}");
        }
        for bad in ["a.b:", "a.b:65536", "10.0.0.0/8", "u@a.b", "a.*", ":80"] {
            assert!(MediaFetch::parse(bad).unwrap_err().contains(bad), "{bad}");
        }
    }
}
