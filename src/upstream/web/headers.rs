//! The headers of a request to the web chat: an ordinary, complete set, the same for every request of every
//! identity.
//!
//! The upstream refuses completions without a `version`, and its risk engine has been seen to challenge sets
//! without `sec-fetch-*`, `timezone` or `x-accel-buffering`. Nothing here is drawn at random and no anti-bot
//! value is made up; `QWEN_WEB_HEADERS` replaces or adds any of them.

use std::collections::BTreeMap;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::base::ids::UnixSeconds;

/// The version of the site's frontend that these requests follow (seen from 2026-09-28 on).
const FRONTEND_VERSION: &str = "0.3.12";
const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// The site that the requests come from, as its own page tells. It stays the same when a base URL leads to a
/// simulator or to a recording proxy: the auth host refuses any other.
pub(crate) const SITE: &str = "https://chat.qwen.ai";

/// The set, with the configured replacements.
///
/// # Errors
/// The name of a configured header that cannot be one.
pub(crate) fn standard(overrides: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let defaults = [
        ("accept", "application/json"),
        ("accept-language", "en-US,en;q=0.9"),
        ("connection", "keep-alive"),
        ("origin", SITE),
        ("referer", "https://chat.qwen.ai/"),
        ("sec-fetch-dest", "empty"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-site", "same-origin"),
        ("source", "web"),
        ("user-agent", USER_AGENT),
        ("version", FRONTEND_VERSION),
    ];
    let mut headers = HeaderMap::new();
    let configured = overrides.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in defaults.into_iter().chain(configured) {
        let name = HeaderName::try_from(name).map_err(|_| name.to_owned())?;
        let value = HeaderValue::try_from(value).map_err(|_| name.to_string())?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The moment as the site's page writes it: JavaScript's `Date` without the name of the zone.
#[must_use]
pub(crate) fn timezone(now: UnixSeconds) -> String {
    let moment = jiff::Timestamp::from_second(now.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    moment.strftime("%a %b %d %Y %H:%M:%S GMT+0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timezone_header() {
        assert_eq!(timezone(UnixSeconds(1_772_616_278)), "Wed Mar 04 2026 09:24:38 GMT+0000");
    }

    #[test]
    fn configured_headers_replace_the_standard_ones() {
        let overrides =
            BTreeMap::from([("version".to_owned(), "9.9.9".to_owned()), ("x-extra".to_owned(), "1".to_owned())]);
        let headers = standard(&overrides).unwrap();
        assert_eq!(headers["version"], "9.9.9");
        assert_eq!(headers["x-extra"], "1");
        assert_eq!(headers["origin"], SITE);
        assert_eq!(standard(&BTreeMap::from([("bad name".to_owned(), String::new())])), Err("bad name".to_owned()));
    }
}
