//! Rules for the addresses that may be fetched because a caller, or the upstream, named them. Without a network.
//!
//! A URL is parsed once, and only what the parser made of it is looked at: it turns `0x7f.1`, `2130706433` and
//! `①②⑦.0.0.1` into the address that a connection would go to. Names are resolved by [`crate::upstream::media::fetch`],
//! which asks here about every address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::upstream::settings::MediaFetch;

/// The longest URL that is looked at, in bytes.
pub(crate) const URL_BYTES_MAX: usize = 2048;

/// The way in which a permitted URL may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Only at addresses that are public.
    Public,
    /// Any address, private ones included: the host is listed in `MEDIA_FETCH`.
    Anywhere,
}

/// Checks a URL and says how it may be reached; the error says why it may not.
pub(crate) fn permit(rules: &MediaFetch, text: &str) -> Result<(Url, Reach), &'static str> {
    if text.len() > URL_BYTES_MAX {
        return Err("the address is too long");
    }
    let mut url = Url::parse(text).map_err(|_| "the address cannot be read")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the scheme is neither http nor https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the address has a user in it");
    }
    let port = url.port_or_known_default().ok_or("the address has no port")?;
    // A dot at the end of a name means the same host, so it is removed before the comparison.
    if let Some(Host::Domain(name)) = url.host()
        && let Some(name) = name.strip_suffix('.').map(str::to_owned)
    {
        url.set_host(Some(&name)).map_err(|_| "the host name is not valid")?;
    }
    let host = url.host().ok_or("the address has no host")?;
    if rules.hosts.iter().any(|rule| rule.names(&host, port)) {
        return Ok((url, Reach::Anywhere));
    }
    let is_listed = rules.hosts.iter().any(|rule| rule.includes(&host, port));
    if !is_listed && !rules.is_public {
        return Err("the host is not listed in MEDIA_FETCH");
    }
    if !is_listed && !matches!(port, 80 | 443) {
        return Err("the port is neither 80 nor 443");
    }
    match host {
        Host::Ipv4(address) if !is_public(address.into()) => Err(NOT_PUBLIC),
        Host::Ipv6(address) if !is_public(address.into()) => Err(NOT_PUBLIC),
        Host::Domain(name) if is_special(name) => Err("the host's name is a private one"),
        Host::Ipv4(_) | Host::Ipv6(_) | Host::Domain(_) => Ok((url, Reach::Public)),
    }
}

/// Checks where a redirect leads to.
pub(crate) fn follow(rules: &MediaFetch, from: &Url, location: &str) -> Result<(Url, Reach), &'static str> {
    let to = from.join(location).map_err(|_| "the redirect cannot be read")?;
    if from.scheme() == "https" && to.scheme() != "https" {
        return Err("the redirect leads away from https");
    }
    permit(rules, to.as_str())
}

/// Names that are never those of a public host.
fn is_special(name: &str) -> bool {
    const ENDINGS: [&str; 5] = ["localhost", "local", "internal", "localdomain", "home.arpa"];
    let is_below = |ending: &str| name.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    // A single label is looked for in the machine's own domains; an empty one is not a name.
    name.split('.').count() < 2 || name.split('.').any(str::is_empty) || ENDINGS.into_iter().any(is_below)
}

/// Reason of a refused address; the resolver gives the same.
pub(crate) const NOT_PUBLIC: &str = "the address is not a public one";

/// Whether an address is one of the public Internet.
///
/// Addresses that stand for an IPv4 address by translation are judged by that; tunnels (6to4, Teredo) are not public
/// whatever they lead to. Standard registries (RFC 6890 and its successors), and the metadata service of Azure, which
/// has a public address; that of Alibaba Cloud is within `100.64.0.0/10`.
#[must_use]
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => match translated(address) {
            Some(inner) => is_public(inner.into()),
            None => PUBLIC_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&address)),
        },
    }
}

/// The IPv4 address that a connection to this one would go to: mapped addresses, and those of a NAT64.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped);
    }
    let [.., a, b, c, d] = address.octets();
    NAT64.contains(&address).then_some(Ipv4Addr::new(a, b, c, d))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(a: u16, b: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length)
}

const NOT_PUBLIC_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
    v4(168, 63, 129, 16, 32),
];
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 3);
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [v6(0x2001, 0, 23), v6(0x2001, 0x0db8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];
const NAT64: Ipv6Net = v6(0x0064, 0xff9b, 96);

#[cfg(test)]
mod tests {
    use super::*;

    fn public() -> MediaFetch {
        MediaFetch::parse("public").unwrap()
    }

    /// Hosts that no caller may have fetched, as a URL may spell them.
    const PRIVATE_HOSTS: [&str; 97] = [
        // this machine
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "127.255.255.254",
        "0x7f.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "0X7F000001",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0177.0.0.01",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "127．0．0．1",
        "%31%32%37.0.0.1",
        "0",
        "0.0.0.0",
        "0x0",
        "00000000",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "ｌｏｃａｌｈｏｓｔ",
        "l%6fcalhost",
        "a.localhost",
        "a.b.LocalHost.",
        "localhost.localdomain",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[0000::1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::FFFF:0.0.0.0]",
        // translated and tunnelled
        "[64:ff9b::7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::7f00:1]",
        "[64:ff9b:1:7f00:0:100::]",
        "[2002:7f00:1::]",
        "[2002:a9fe:a9fe::1]",
        "[2001::1]",
        "[2001:0:5ef5:79fb:0:0:80ff:fffe]",
        "[::ffff:0:127.0.0.1]",
        // metadata services
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "169.254.43518",
        "0251.0376.0251.0376",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "[fe80::a9fe:a9fe]",
        "100.100.100.200",
        "168.63.129.16",
        "[::ffff:168.63.129.16]",
        "192.0.0.192",
        "metadata.google.internal",
        "metadata.google.internal.",
        "metadata",
        "instance-data",
        "instance-data.ec2.internal",
        // private and reserved nets
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "3232235521",
        "100.64.0.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.19.255.255",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[fc00::1]",
        "[fd12:3456::1]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[3fff::1]",
        "[100::1]",
        "[5f00::1]",
        // names of no public host, and no names
        "printer.local",
        "db.internal",
        "router.home.arpa",
        "intranet",
        "a..b",
        "a.b..",
        ".",
    ];

    #[test]
    fn spellings_that_are_refused() {
        for host in PRIVATE_HOSTS {
            for url in [format!("http://{host}/x.png"), format!("https://{host}/")] {
                assert!(permit(&public(), &url).is_err(), "{url}");
            }
        }
    }

    #[test]
    fn urls_that_are_refused() {
        for url in [
            "",
            "x",
            "//example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "data:image/png;base64,AA",
            "gopher://example.com/",
            "javascript:alert(1)",
            "http://",
            "http:///",
            "http://u@example.com/",
            "http://u:p@example.com/",
            "http://:p@example.com/",
            "http://example.com@127.0.0.1/",
            "http://127.0.0.1#@example.com/",
            "http://127.0.0.1\\@example.com/",
            "http://127.0.0.1:80\\@example.com:80/",
            "http://exa\tmple.com:22/",
            "http://example.com:22/",
            "http://example.com:8080/",
            "https://example.com:0/",
            "http://[fe80::1%25eth0]/",
            "http://[::1",
            "http://1.2.3.4.5/",
            "http://256.1.1.1/",
            &format!("http://example.com/{}", "x".repeat(2048)),
        ] {
            assert!(permit(&public(), url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_is_permitted() {
        let check = |rules: &str, url: &str, expected: Result<(&str, Reach), &str>| {
            let rules = MediaFetch::parse(rules).unwrap();
            let found = permit(&rules, url);
            let found = found.as_ref().map(|(url, reach)| (url.as_str(), *reach)).map_err(|why| *why);
            assert_eq!(found, expected, "{rules:?} {url}");
        };
        let usual = "https://example.com/a.png";
        check("public", usual, Ok((usual, Reach::Public)));
        check("public", "HTTPS://EXAMPLE.com.:443/a.png", Ok((usual, Reach::Public)));
        check("public", "http://example.com:443/", Ok(("http://example.com:443/", Reach::Public)));
        check("public", "http://8.8.8.8/", Ok(("http://8.8.8.8/", Reach::Public)));
        check("public", "http://[2606:4700::1111]/", Ok(("http://[2606:4700::1111]/", Reach::Public)));
        check("public", "http://[64:ff9b::808:808]/", Ok(("http://[64:ff9b::808:808]/", Reach::Public)));
        check("public", "http://localhost.example.com/", Ok(("http://localhost.example.com/", Reach::Public)));
        check("public", "http://mylocal.net/", Ok(("http://mylocal.net/", Reach::Public)));
        let unlisted = Err("the host is not listed in MEDIA_FETCH");
        check("off", usual, unlisted);
        check("example.com", usual, Ok((usual, Reach::Anywhere)));
        check("example.com", "https://example.com:8443/", unlisted);
        check("example.com:8443", usual, unlisted);
        check("example.com", "https://a.example.com/", unlisted);
        check("*.example.com", "https://a.b.example.com/", Ok(("https://a.b.example.com/", Reach::Public)));
        check("*.example.com", usual, unlisted);
        check("*.example.com", "https://badexample.com/", unlisted);
        check("*.example.com:8443", "https://a.example.com:8443/", Ok(("https://a.example.com:8443/", Reach::Public)));
        check("127.0.0.1:9000", "http://0x7f.1:9000/", Ok(("http://127.0.0.1:9000/", Reach::Anywhere)));
        check("127.0.0.1:9000", "http://127.0.0.1:9001/", unlisted);
        check("public,127.0.0.1:9000", "http://127.0.0.1/", Err(NOT_PUBLIC));
        check("public,minio:9000", "http://minio:9000/", Ok(("http://minio:9000/", Reach::Anywhere)));
        check("public,minio:9000", "http://minio/", Err("the host's name is a private one"));
        check("[::1]:9000", "http://[0::1]:9000/", Ok(("http://[::1]:9000/", Reach::Anywhere)));
    }

    #[test]
    fn redirects() {
        let check = |from: &str, location: &str, expected: Option<&str>| {
            let found = follow(&public(), &Url::parse(from).unwrap(), location).ok();
            assert_eq!(found.as_ref().map(|(url, _)| url.as_str()), expected, "{from} {location}");
        };
        check("https://a.b/c/d", "e?f", Some("https://a.b/c/e?f"));
        check("https://a.b/c", "//c.d/", Some("https://c.d/"));
        check("http://a.b/c", "https://c.d/", Some("https://c.d/"));
        check("http://a.b/c", "http://c.d/", Some("http://c.d/"));
        check("https://a.b/c", "http://c.d/", None);
        check("https://a.b/c", "http://a.b/c", None);
        check("https://a.b/c", "ftp://a.b/c", None);
        check("http://a.b/c", "http://127.0.0.1/", None);
        check("http://a.b/c", "//169.254.169.254/latest/meta-data", None);
        check("http://a.b/c", "http://u@c.d/", None);
        check("http://a.b/c", "http://c.d:22/", None);
    }

    #[test]
    fn addresses() {
        for (address, expected) in [
            ("1.1.1.1", true),
            ("9.255.255.255", true),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("172.15.255.255", true),
            ("172.32.0.0", true),
            ("192.0.1.0", true),
            ("168.63.129.15", true),
            ("223.255.255.255", true),
            ("0.1.2.3", false),
            ("2001:200::1", true),
            ("2001:1ff::1", false),
            ("2003::1", true),
            ("2606:4700::1", true),
            ("3ffe::1", true),
            ("3fff:fff::1", false),
            ("3fff:1000::1", true),
            ("4000::1", false),
            ("1fff::1", false),
            ("::ffff:8.8.8.8", true),
            ("::8.8.8.8", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b:1::8.8.8.8", false),
            ("2002:808:808::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }
}
