//! Forms that are made of lines: `cookies.txt` of Netscape, the cookie table of the developer tools, blocks of request
//! headers, and one cookie a line.

use std::collections::HashSet;

use crate::base::quotes::unquoted;
use crate::pasted::command::{cookie_of_line, joined};
use crate::pasted::pairs::{self, Pair, is_cookie_name, is_known};
use crate::pasted::words::Mistake;

/// Whether a line is a comment. `#HttpOnly_` is not one: Netscape's form marks cookies with it.
pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#') && !line.trim_start().starts_with(HTTP_ONLY)
}

/// The cookies of a table at the start, and how many lines it has; `None` if there is no table. Both
/// `domain, subdomains, path, secure, expiry, name, value` of Netscape's `cookies.txt` and
/// `name, value, domain, path, …` of the developer tools are read.
pub(super) fn table(lines: &[&str]) -> Option<(Result<String, Mistake>, usize)> {
    let mut cookies = Vec::new();
    let mut count = 0;
    for (index, line) in lines.iter().enumerate() {
        if line.trim().is_empty() || is_comment(line) {
            continue;
        }
        let Some(cookie) = netscape_row(line).or_else(|| table_row(line)) else {
            break;
        };
        cookies.push(cookie);
        count = index + 1;
    }
    (!cookies.is_empty()).then(|| (pairs::header(cookies), count))
}

fn netscape_row(line: &str) -> Option<Pair> {
    let line = line.trim_start().trim_end_matches('\n');
    let line = line.strip_prefix(HTTP_ONLY).unwrap_or(line);
    // Tabs become spaces in some terminals and editors.
    let fields: Vec<&str> =
        if line.contains('\t') { line.split('\t').collect() } else { line.split_whitespace().collect() };
    let [domain, subdomains, path, secure, expiry, name, rest @ ..] = fields.as_slice() else {
        return None;
    };
    let is_flag = |text: &str| text.eq_ignore_ascii_case("TRUE") || text.eq_ignore_ascii_case("FALSE");
    let is_row = is_flag(subdomains) && is_flag(secure) && path.starts_with('/') && expiry.parse::<f64>().is_ok();
    is_row.then(|| Pair::of(domain, name, rest.first().copied().unwrap_or_default()))
}

fn table_row(line: &str) -> Option<Pair> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, value, domain, path, ..] = fields.as_slice() else {
        return None;
    };
    let is_row = is_cookie_name(name.trim()) && domain.contains('.') && path.trim().starts_with('/');
    is_row.then(|| Pair::of(domain, name, value))
}

/// The cookie of a block of request headers at the start, and how many lines the block has; `None` if there is no such
/// block. Lines that are all `Cookie: …` are not a block: each may be an account.
pub(super) fn block(lines: &[&str]) -> Option<(Result<String, Mistake>, usize)> {
    let mut found = Vec::new();
    let mut is_block = false;
    let mut count = 0;
    while let Some(line) = lines.get(count).map(|line| line.trim()).filter(|line| !line.is_empty()) {
        // The developer tools of Chrome copy a name and its value as two lines.
        let lone = line.trim_end_matches(':').to_ascii_lowercase();
        if is_request_line(line) {
            if count > 0 {
                break;
            }
            is_block = true;
        } else if is_header_name(&lone) {
            let value = lines.get(count + 1).copied().unwrap_or_default().trim();
            if lone == "cookie" && !value.is_empty() {
                found.push(value.to_owned());
            }
            is_block = true;
            count += 1;
        } else if let Some(cookie) = cookie_of_line(line) {
            found.push(cookie);
        } else if is_header_line(line) {
            is_block = true;
        } else {
            break;
        }
        count += 1;
    }
    is_block.then(|| (joined(&found, Mistake::BlockWithoutCookie), count.min(lines.len())))
}

fn is_request_line(line: &str) -> bool {
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default();
    !method.is_empty()
        && method.bytes().all(|byte| byte.is_ascii_uppercase())
        && words.next_back().is_some_and(|version| version.starts_with("HTTP/"))
}

/// `name: value` with a name that cookies do not have, or one of HTTP/2 such as `:path: /`.
fn is_header_line(line: &str) -> bool {
    let name = line.trim_start_matches(':').split(':').next().unwrap_or_default();
    line.contains(':') && is_header_name(&name.to_ascii_lowercase())
}

fn is_header_name(name: &str) -> bool {
    let name = name.trim_start_matches(':');
    HEADERS.contains(&name) || HEADER_PREFIXES.iter().any(|prefix| name.starts_with(prefix) && is_cookie_name(name))
}

/// The cookies of the `Set-Cookie` lines of an answer at the start, and how many lines that are.
pub(super) fn set_cookies(lines: &[&str]) -> Option<(Result<String, Mistake>, usize)> {
    let mut cookies: Vec<Pair> = Vec::new();
    let mut count = 0;
    for line in lines {
        let Some((pair, attributes)) = set_cookie(line) else { break };
        let Some((name, value)) = pair.split_once('=') else { break };
        if cookies.iter().any(|known| known.name == name.trim()) {
            break;
        }
        let domain = attributes.split(';').find_map(|attribute| {
            let (name, domain) = attribute.split_once('=')?;
            name.trim().eq_ignore_ascii_case("domain").then_some(domain)
        });
        cookies.push(domain.map_or_else(|| Pair::new(name, value), |domain| Pair::of(domain, name, value)));
        count += 1;
    }
    (count > 0).then(|| (pairs::header(cookies), count))
}

/// The cookie of a `Set-Cookie` line, and its attributes.
fn set_cookie(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim().split_once(':')?;
    name.trim().eq_ignore_ascii_case("set-cookie").then(|| value.split_once(';').unwrap_or((value, "")))
}

/// The cookies of lines with one cookie each, and how many lines that are; `None` unless there are several with
/// different names, one of which the site is known to set. A line that ends with a semicolon goes on in the next.
/// A repeated name begins the next account.
pub(super) fn column(lines: &[&str]) -> Option<(Result<String, Mistake>, usize)> {
    let mut cookies: Vec<Pair> = Vec::new();
    let mut names = HashSet::new();
    let (mut rows, mut count) = (0, 0);
    let mut goes_on = false;
    for (index, line) in lines.iter().take(COLUMN_LINES_MAX).enumerate() {
        let line = line.trim();
        if line.is_empty() || is_comment(line) {
            continue;
        }
        let Some(row) = row(line) else {
            break;
        };
        let is_repeated = |cookie: &Pair| names.contains(&cookie.name);
        let is_single = row.len() == 1 && cookies.len() == rows;
        if row.iter().any(is_repeated) || !(rows == 0 || is_single || goes_on || line.starts_with(';')) {
            break;
        }
        names.extend(row.iter().map(|cookie| cookie.name.clone()));
        cookies.extend(row);
        goes_on = line.ends_with(';');
        rows += 1;
        count = index + 1;
    }
    let is_column = rows > 1 && cookies.iter().any(|cookie| is_known(&cookie.name));
    is_column.then(|| (pairs::header(cookies), count))
}

/// The cookies of one line: `name=value; …`, or a single one as `name: value` or `name<tab>value`.
fn row(line: &str) -> Option<Vec<Pair>> {
    let line = unquoted(line.trim_matches([',', ' ']));
    // HTTP/2 sends each cookie in a header of its own.
    let header = cookie_of_line(line);
    let line = header.as_deref().unwrap_or(line);
    if let Some((name, value)) = line.split_once(['\t', ':']).filter(|(name, _)| is_known(unquoted(name))) {
        return Some(vec![Pair::new(unquoted(name), unquoted(value.trim().trim_end_matches(';')))]);
    }
    let pairs = line.split(';').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs: Option<Vec<Pair>> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = unquoted(name);
            let value = if SIGN_IN.contains(&name) { unquoted(value) } else { value };
            is_cookie_name(name).then(|| Pair::new(name, value))
        })
        .collect();
    pairs.filter(|pairs| !pairs.is_empty())
}

/// The most lines of one account with a cookie each. Browsers keep at most 180 cookies of a site.
const COLUMN_LINES_MAX: usize = 400;
const HTTP_ONLY: &str = "#HttpOnly_";
/// Cookies whose values are tokens, so quotes around them come from the paste.
const SIGN_IN: &[&str] = &["token", "refresh_token"];
/// Names of headers that browsers send with a request.
const HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "authority",
    "authorization",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "dnt",
    "host",
    "if-none-match",
    "method",
    "origin",
    "path",
    "pragma",
    "priority",
    "referer",
    "scheme",
    "source",
    "te",
    "timezone",
    "user-agent",
    "version",
    "upgrade-insecure-requests",
    "x-request-id",
    "x-requested-with",
];
const HEADER_PREFIXES: &[&str] = &["bx-", "sec-", "x-accel-", "x-request-"];
