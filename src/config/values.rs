//! Parses the text of a value into its type. Each function says what it expected, and never repeats the value.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use url::{Host, Url};

use crate::base::caller_key::{KeyLimits, KeyName};
use crate::base::ids::UnixSeconds;
use crate::base::oauth::OAuthCredentials;
use crate::base::quotes::bare;
use crate::base::secret::UpstreamKey;
use crate::base::seed::StaticKey;

/// A value as it was given: a text, or one of the shapes of `config.json`.
#[derive(Clone)]
pub(super) enum Value {
    /// A text, a number or a truth value.
    Text(String),
    /// An array of texts, numbers or truth values.
    List(Vec<String>),
    /// An object of texts, numbers or truth values.
    Table(BTreeMap<String, String>),
}

impl Value {
    /// Whether it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.trim().is_empty(),
            Self::List(parts) => parts.is_empty(),
            Self::Table(table) => table.is_empty(),
        }
    }

    /// The whole value as one text, different for each value. It may be a secret.
    pub(super) fn whole(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(parts) => format!("{parts:?}"),
            Self::Table(table) => format!("{table:?}"),
        }
    }
}

/// The expected form, or the reason why a value is refused.
pub(super) type Expected = String;

/// The text of a value that is a single one.
pub(super) fn text(value: &Value) -> Result<&str, Expected> {
    match value {
        Value::Text(text) => Ok(text.trim()),
        Value::List(_) => Err("must be one value, not a list".to_owned()),
        Value::Table(_) => Err("must be one value, not an object".to_owned()),
    }
}

/// The parts of a list: an array, or a text with commas. Empty parts are dropped, and so are quotes around one.
pub(super) fn list(value: &Value) -> Result<Vec<String>, Expected> {
    let parts = match value {
        Value::Text(text) => text.split(',').map(str::to_owned).collect(),
        Value::List(parts) => parts.clone(),
        Value::Table(_) => return Err("must be a list, not an object".to_owned()),
    };
    Ok(parts.iter().map(|part| bare(part.trim()).to_owned()).filter(|part| !part.is_empty()).collect())
}

/// `true`, `1`, `yes`, and their opposites.
pub(super) fn flag(value: &Value) -> Result<bool, Expected> {
    match text(value)?.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A whole number from `min` to `max`.
pub(super) fn whole<T>(value: &Value, min: T, max: T) -> Result<T, Expected>
where
    T: TryFrom<u64> + PartialOrd + std::fmt::Display,
{
    text(value)?
        .parse::<u64>()
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| (&min..=&max).contains(&number))
        .ok_or_else(|| format!("must be a whole number from {min} to {max}"))
}

/// A rate per second: more than 0, with or without a fraction.
pub(super) fn rate(value: &Value) -> Result<f64, Expected> {
    let rate = text(value)?.parse::<f64>().ok().filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate));
    rate.ok_or_else(|| format!("must be a number from {RATE_MIN} to {RATE_MAX}"))
}

/// A time limit: as [`duration`] from a millisecond, or 0 for none.
pub(super) fn limit(value: &Value) -> Result<Duration, Expected> {
    match duration(value, Duration::ZERO)? {
        Duration::ZERO => Ok(NO_LIMIT),
        _ => duration(value, Duration::from_millis(1)),
    }
}

/// `500ms`, `30s`, `5m`, `2h`, `1d`, sums of them such as Go's `1m30s`, or a number of seconds; from `min` to a year.
pub(super) fn duration(value: &Value, min: Duration) -> Result<Duration, Expected> {
    duration_in(text(value)?, 1.0, min)
}

/// As [`duration`], with bare numbers as hours, at least a second; `None` for 0, which turns the setting off.
pub(super) fn hours(value: &Value) -> Result<Option<Duration>, Expected> {
    let read = |min| duration_in(text(value)?, 3600.0, min).map_err(|expected| expected.replace("seconds", "hours"));
    match read(Duration::ZERO)? {
        Duration::ZERO => Ok(None),
        _ => read(Duration::from_secs(1)).map(Some),
    }
}

fn duration_in(text: &str, bare_seconds: f64, min: Duration) -> Result<Duration, Expected> {
    let seconds = match text.parse::<f64>() {
        Ok(number) => Some(number * bare_seconds),
        Err(_) => sum_of_seconds(text),
    };
    let duration = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or("must be a time such as 500ms, 30s, 1m30s, 2h or a number of seconds")?;
    if duration < min {
        return Err(format!("must be at least {}", shown(min)));
    }
    if duration > DURATION_MAX {
        return Err("must be at most a year".to_owned());
    }
    Ok(duration)
}

/// The seconds of numbers with units, one after the other.
fn sum_of_seconds(text: &str) -> Option<f64> {
    // Go's durations may have a sign.
    let mut rest = text.trim();
    rest = rest.strip_prefix('+').unwrap_or(rest);
    let mut sum = 0.0;
    while !rest.is_empty() {
        let (number, after) = split_unit(rest);
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
        rest = after.trim_start();
    }
    Some(sum)
}

fn shown(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// A size: `50MB` (powers of ten), `1MiB` (powers of two), or a number of bytes.
pub(super) fn size(value: &Value, min: usize, max: usize) -> Result<usize, Expected> {
    let (number, unit) = split_unit(text(value)?);
    let unit_bytes = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "kb" => Some(1000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        _ => None,
    };
    let bytes = number
        .parse::<usize>()
        .ok()
        .zip(unit_bytes)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .ok_or("must be a size such as 50MB, 1MiB or a number of bytes")?;
    if !(min..=max).contains(&bytes) {
        return Err(format!("must be from {min} to {max} bytes"));
    }
    Ok(bytes)
}

/// Base URL of a server: `https://host`, or `http://` on this machine.
pub(super) fn base_url(value: &Value) -> Result<Url, Expected> {
    let url = api_url(value)?;
    if url.path() != "/" {
        return Err("must end after the host, without path or query".to_owned());
    }
    Ok(url)
}

/// As [`base_url`], with a path.
pub(super) fn api_url(value: &Value) -> Result<Url, Expected> {
    url_of(text(value)?)
}

fn url_of(text: &str) -> Result<Url, Expected> {
    let url = Url::parse(text).map_err(|_| "must be a URL such as https://chat.qwen.ai")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must be without query".to_owned());
    }
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err("must name a host".to_owned()),
    };
    if url.scheme() == "http" && !is_loopback {
        return Err("must begin with https://, since cookies and tokens are sent there (http:// only on this machine)"
            .to_owned());
    }
    Ok(url)
}

/// Whether the HTTP clients can use this as a proxy. Without a scheme they take it as an HTTP proxy.
pub(super) fn is_proxy(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    // A colon without a number behind it is dropped by the parser, so it is searched in the text.
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let port = authority.rsplit_once('@').map_or(authority, |(_, place)| place).rsplit_once(':');
    let is_port = |text: &str| text.ends_with(']') || text.parse::<u16>().is_ok_and(|port| port > 0);
    if port.is_some_and(|(_, port)| !is_port(port)) {
        return false;
    }
    let has_scheme = |scheme| ["http", "https", "socks4", "socks4a", "socks5", "socks5h"].contains(&scheme);
    uri.scheme_str().is_none_or(has_scheme) && uri.host().is_some_and(|host| !host.is_empty())
}

/// A folder. `~` is the user's home folder.
pub(super) fn folder(value: &Value, home: Option<&Path>) -> Result<PathBuf, Expected> {
    let text = text(value)?;
    let Some(rest) = text.strip_prefix('~') else {
        return Ok(PathBuf::from(text));
    };
    let rest = match rest.strip_prefix(['/', '\\']) {
        Some(rest) => rest,
        None if rest.is_empty() => rest,
        None => return Err("must be a folder; of another user's folder only the whole path will do".to_owned()),
    };
    let home = home.ok_or("must be a whole path, since the environment has no HOME for the ~")?;
    Ok(home.join(rest))
}

/// OAuth credentials: JSON texts, or an object.
pub(super) fn oauth_credentials(value: &Value, now: UnixSeconds) -> Result<Vec<OAuthCredentials>, Expected> {
    let texts = match value {
        Value::Text(text) => vec![text.clone()],
        Value::List(texts) => texts.clone(),
        Value::Table(table) => vec![serde_json::to_string(table).map_err(|_| "must be JSON")?],
    };
    let mut all = Vec::new();
    for (place, text) in (1..).zip(&texts) {
        let parsed = OAuthCredentials::parse_all(text, now);
        all.extend(parsed.map_err(|error| match texts.len() {
            1 => error.to_string(),
            _ => format!("entry {place} {error}"),
        })?);
    }
    Ok(all)
}

/// A list of `key@base-url`, separated by commas.
pub(super) fn static_keys(value: &Value) -> Result<Vec<StaticKey>, Expected> {
    let parse = |(place, part): (usize, &String)| {
        let wrong = |why: &str| format!("entry {place} {why}");
        let (key, base) =
            part.rfind("@http").and_then(|at| part.split_at_checked(at)).ok_or_else(|| wrong(STATIC_KEY_EXPECTED))?;
        let key = UpstreamKey::parse(key).map_err(|error| wrong(&format!("has a key that {error}")))?;
        let mut base =
            url_of(base.trim_start_matches('@')).map_err(|why| wrong(&format!("has an address that {why}")))?;
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        Ok(StaticKey { key, base })
    };
    (1..).zip(&list(value)?).map(parse).collect()
}

/// `name:requests=100/day,tokens=1000/day,models=a|b*;name2:...`, or an object of such by name.
pub(super) fn key_limits(value: &Value) -> Result<Vec<(KeyName, KeyLimits)>, Expected> {
    let given: Vec<(String, String)> = match value {
        Value::Text(text) => text
            .split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (name, limits) = part.split_once(':').ok_or(KEY_LIMITS_EXPECTED)?;
                Ok((name.to_owned(), limits.to_owned()))
            })
            .collect::<Result<_, Expected>>()?,
        Value::Table(table) => table.clone().into_iter().collect(),
        Value::List(_) => return Err(KEY_LIMITS_EXPECTED.to_owned()),
    };
    let mut all: Vec<(KeyName, KeyLimits)> = Vec::new();
    for (name, limits) in &given {
        let name: KeyName = name.trim().parse().map_err(|error| format!("has a name that {error}"))?;
        let limits = KeyLimits::parse(limits).map_err(|error| format!("for {name}: {error}"))?;
        if all.iter().any(|(known, _)| *known == name) {
            return Err(format!("limits {name} twice; put its limits together, separated by commas"));
        }
        all.push((name, limits));
    }
    Ok(all)
}

/// An address to listen at. Of names only `localhost` is known: nothing is looked up.
pub(super) fn host(value: &Value) -> Result<IpAddr, Expected> {
    host_of(text(value)?)
}

fn host_of(text: &str) -> Result<IpAddr, Expected> {
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "must be an IP address such as 127.0.0.1 or 0.0.0.0, or localhost".to_owned())
}

/// `8000`, `:8000` or `host:8000`.
pub(super) fn endpoint(value: &Value) -> Result<(Option<IpAddr>, u16), Expected> {
    let text = text(value)?;
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = port.parse().map_err(|_| "must be a port such as 8000, :8000 or 127.0.0.1:8000")?;
    let host = match host {
        "" => None,
        host => Some(host_of(host)?),
    };
    Ok((host, port))
}

/// Networks such as `10.0.0.0/8`, or single addresses.
pub(super) fn networks(value: &Value) -> Result<Vec<IpNet>, Expected> {
    list(value)?
        .iter()
        .map(|part| {
            part.parse::<IpNet>()
                .or_else(|_| part.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| "must be a list of networks such as 10.0.0.0/8,192.168.1.1".to_owned())
        })
        .collect()
}

/// `*` for any, or origins as browsers send them: scheme, host, port.
pub(super) fn origins(value: &Value) -> Result<Option<Vec<String>>, Expected> {
    let parts = list(value)?;
    if matches!(parts.as_slice(), [any] if any == "*") {
        return Ok(None);
    }
    if parts.is_empty() {
        return Err(ORIGINS_EXPECTED.to_owned());
    }
    parts
        .iter()
        .map(|part| {
            let origin = part.trim_end_matches('/').to_ascii_lowercase();
            let is_origin = origin.split_once("://").is_some_and(|(scheme, host)| {
                let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
                let is_scheme = |c: char| c.is_ascii_alphanumeric() || "-.+".contains(c);
                !scheme.is_empty() && scheme.chars().all(is_scheme) && !host.is_empty() && host.chars().all(is_host)
            });
            is_origin.then_some(origin)
        })
        .collect::<Option<Vec<_>>>()
        .map(Some)
        .ok_or_else(|| ORIGINS_EXPECTED.to_owned())
}

/// A path without a slash at its end, such as `/a/b`; empty for the root.
pub(super) fn base_path(value: &Value) -> Result<String, Expected> {
    let path = text(value)?.trim_end_matches('/');
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    match path.strip_prefix('/') {
        _ if path.is_empty() => Ok(String::new()),
        Some(segments) if segments.split('/').all(is_segment) => Ok(path.to_owned()),
        _ => Err("must be a path of letters, digits and -._~ that begins with a slash, such as /qwen".to_owned()),
    }
}

/// Headers as an object; in the environment as a text.
pub(super) fn headers(value: &Value) -> Result<BTreeMap<String, String>, Expected> {
    const EXPECTED: &str = r#"must be an object of texts such as {"accept-language": "en"}"#;
    let given = match value {
        Value::Table(table) => table.clone(),
        Value::Text(text) => serde_json::from_str(text).map_err(|_| EXPECTED)?,
        Value::List(_) => return Err(EXPECTED.to_owned()),
    };
    let mut headers = BTreeMap::new();
    for (name, value) in given {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| "has a name that no header can have")?.to_string();
        if NOT_YOURS.contains(&name.as_str()) {
            return Err(format!("must not hold {name}, which this program sets itself"));
        }
        HeaderValue::from_str(&value).map_err(|_| format!("has a value for {name} that no header can carry"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// One of these words, with its meaning.
pub(super) fn one_of<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, Expected> {
    let text = text(value)?;
    words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("must be one of {}", words.join(", "))
    })
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// Headers that belong to one account, one connection or one body, and so cannot be configured.
const NOT_YOURS: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const KEY_LIMITS_EXPECTED: &str =
    "must be entries such as laptop:requests=100/day,tokens=1000000/day,models=qwen3-*, separated by semicolons";
const STATIC_KEY_EXPECTED: &str = "must be key@https://host/path";
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Stands for no limit: longer than any request, and short enough to be added to any moment.
pub(super) const NO_LIMIT: Duration = DURATION_MAX;
/// Least rate per second: one request in a quarter of an hour.
const RATE_MIN: f64 = 0.001;
/// Largest rate per second, more than one machine can serve.
const RATE_MAX: f64 = 100_000.0;
const ORIGINS_EXPECTED: &str = "must be * or a list of origins such as https://chat.example.org";
