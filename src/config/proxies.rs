//! The proxies that the environment names: whether they can be used, and how they are told about.

use url::Url;

use crate::base::quotes::bare;
use crate::config::fault::{Fault, Origin};
use crate::config::sources::{NO_PROXY, PROXIES, Sources};
use crate::config::values::is_proxy;

/// Refuses a proxy that the HTTP clients cannot use: they would leave it out and show the machine's own address.
pub(super) fn check_proxies(sources: &Sources, faults: &mut Vec<Fault>) {
    for (name, value) in &sources.proxies {
        if PROXIES.contains(&name.as_str()) && !value.is_empty() && !is_proxy(value) {
            faults.push(Fault::of(
                name,
                Origin::Environment,
                "is not the address of a proxy that can be used",
                "write it as http://host:port, https://, socks4://, socks4a://, socks5:// or socks5h://",
            ));
        }
    }
}

/// Whether nothing goes through a proxy.
pub(super) fn is_direct(sources: &Sources) -> bool {
    let exceptions = NO_PROXY.iter().find_map(|name| sources.proxies.get(*name));
    exceptions.is_some_and(|list| bare(list).split(',').any(|entry| bare(entry.trim()) == "*"))
}

/// The proxies in use and the addresses that go through them, one sentence each. User and password are left out.
pub(super) fn proxies_in_words(sources: &Sources) -> Vec<String> {
    let set = |name: &str| sources.proxies.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let is_direct = is_direct(sources);
    let mut words: Vec<String> = Vec::new();
    for (names, what) in [
        (["HTTPS_PROXY", "https_proxy"], "https:// addresses are"),
        (["HTTP_PROXY", "http_proxy"], "http:// addresses are"),
        (["ALL_PROXY", "all_proxy"], "all other addresses are"),
    ] {
        let Some((name, value)) = names.into_iter().find_map(|name| Some((name, set(name)?))) else { continue };
        let proxy = without_user(value);
        words.push(if is_direct {
            format!("the proxy {proxy} ({name}) is not used, since NO_PROXY is *")
        } else {
            format!("{what} called through the proxy {proxy} ({name})")
        });
    }
    let exceptions = NO_PROXY.iter().find_map(|name| Some((name, set(name)?)));
    if let Some((name, exceptions)) = exceptions.filter(|_| !is_direct && !words.is_empty()) {
        words.push(format!("these are called without a proxy ({name}): {exceptions}"));
    }
    words
}

/// The address of a proxy without user and password.
fn without_user(address: &str) -> String {
    let with_scheme = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let Ok(mut url) = Url::parse(&with_scheme) else { return "(an address that cannot be read)".to_owned() };
    let has_taken = url.set_username("").and_then(|()| url.set_password(None));
    match (has_taken, url.host_str()) {
        (Ok(()), _) => url.as_str().trim_end_matches('/').to_owned(),
        (Err(()), host) => host.unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::ids::UnixSeconds;

    fn check(proxies: &[(&str, &str)], expected: &[&str]) {
        let proxies = proxies.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let sources = Sources { proxies: BTreeMap::from_iter(proxies), ..Sources::empty(UnixSeconds(0)) };
        assert_eq!(proxies_in_words(&sources), expected);
    }

    #[test]
    fn proxies_are_told_without_their_passwords() {
        check(&[], &[]);
        check(
            &[("HTTPS_PROXY", "http://me:s3cret@proxy.example:3128"), ("NO_PROXY", "localhost")],
            &[
                "https:// addresses are called through the proxy http://proxy.example:3128 (HTTPS_PROXY)",
                "these are called without a proxy (NO_PROXY): localhost",
            ],
        );
        check(
            &[("all_proxy", "socks5h://me:s3cret@127.0.0.1:1080")],
            &["all other addresses are called through the proxy socks5h://127.0.0.1:1080 (all_proxy)"],
        );
        check(
            &[("http_proxy", "me:s3cret@proxy:1"), ("no_proxy", "*")],
            &["the proxy http://proxy:1 (http_proxy) is not used, since NO_PROXY is *"],
        );
    }
}
