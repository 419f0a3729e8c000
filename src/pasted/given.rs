//! The credential of one account, and how it signs in, as far as the text tells without a call.

use std::fmt;

use secrecy::SecretString;

use crate::base::ids::UnixSeconds;
use crate::base::quotes::unquoted;
use crate::base::secret::{AccessToken, Cookie};

/// The credential of one account.
pub(crate) enum Given {
    /// A Cookie header. A token on its own is the header `token=…`.
    Cookie(String),
    /// The credentials of an OAuth account, as JSON.
    OAuth(SecretString),
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cookie(_) => "Cookie([REDACTED])",
            Self::OAuth(_) => "OAuth([REDACTED])",
        })
    }
}

/// The way in which a Cookie header signs in, as far as its tokens tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignIn {
    /// By `refresh_token`, which is renewed again and again.
    Renewed,
    /// By `token` alone, which ends then; `None` where it does not tell.
    Until(Option<UnixSeconds>),
    /// It has neither `token` nor `refresh_token`.
    Missing,
    /// The value of this cookie is a token that was cut off.
    CutOff(&'static str),
    /// All its tokens have expired, the last at this moment.
    Ended(UnixSeconds),
}

impl SignIn {
    /// The way in which a Cookie header signs in at `now`.
    #[must_use]
    pub(crate) fn of(cookie: &Cookie, now: UnixSeconds) -> Self {
        let [refresh, token] = ["refresh_token", "token"].map(|name| value(cookie, name).map(|text| state(text, now)));
        match (refresh, token) {
            (Some(State::Live(_)), _) => Self::Renewed,
            (_, Some(State::Live(until))) => Self::Until(until),
            (Some(State::CutOff), _) => Self::CutOff("refresh_token"),
            (_, Some(State::CutOff)) => Self::CutOff("token"),
            (Some(State::Ended(one)), Some(State::Ended(other))) => Self::Ended(one.max(other)),
            (Some(State::Ended(at)), None) | (None, Some(State::Ended(at))) => Self::Ended(at),
            (None, None) => Self::Missing,
        }
    }
}

/// The token of a header that names its account, expired or not: `token`, else `refresh_token`.
#[must_use]
pub(crate) fn owner_of(cookie: &Cookie, now: UnixSeconds) -> Option<AccessToken> {
    let tokens = ["token", "refresh_token"].map(|name| AccessToken::parse(value(cookie, name)?, now).ok());
    let mut tokens = tokens.into_iter().flatten();
    let first = tokens.next()?;
    // The older form does not always tell.
    if first.account().is_some() {
        Some(first)
    } else {
        Some(tokens.find(|it| it.account().is_some()).unwrap_or(first))
    }
}

/// The token of a header whose value ends with an ellipsis, as tables of cookies show long values. Such a header is no
/// ASCII and cannot be parsed.
#[must_use]
pub(crate) fn shortened(header: &str) -> Option<&'static str> {
    let has_ellipsis = |wanted: &str| {
        let mut pairs = header.split(';').filter_map(|pair| pair.split_once('='));
        pairs.any(|(name, value)| name.trim().ends_with(wanted) && value.contains('\u{2026}'))
    };
    ["refresh_token", "token"].into_iter().find(|name| has_ellipsis(name))
}

/// The value of one cookie of a header, unless it is empty.
fn value<'a>(cookie: &'a Cookie, name: &str) -> Option<&'a str> {
    let values = cookie.expose().split(';').filter_map(|pair| pair.split_once('='));
    let mut named = values.filter(|(found, _)| found.trim() == name);
    named.next().map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

/// The state of one token.
enum State {
    Live(Option<UnixSeconds>),
    Ended(UnixSeconds),
    CutOff,
}

fn state(text: &str, now: UnixSeconds) -> State {
    let Some(token) = AccessToken::parse(text, now).ok().filter(|_| !is_cut_off(text)) else {
        return State::CutOff;
    };
    match token.expires_at() {
        Some(at) if !token.is_live(now) => State::Ended(at),
        until => State::Live(until),
    }
}

/// Whether a token is the beginning of a JWT. A text that does not begin as the site's tokens do is taken as it is.
#[must_use]
pub(crate) fn is_cut_off(token: &str) -> bool {
    if token.ends_with("...") || token.contains('\u{2026}') {
        return true;
    }
    if !token.starts_with(JWT_START) {
        return false;
    }
    let parts: Vec<&str> = token.split('.').collect();
    match parts.as_slice() {
        // Five parts are an encrypted token.
        [_, _, _, _, _] => false,
        [header, _, signature] => {
            let claims = AccessToken::has_claims(token);
            !claims || signature_bytes(header).is_some_and(|bytes| signature.trim_end_matches('=').len() < bytes)
        }
        _ => true,
    }
}

/// Length of a token's signature by the algorithm in its header, in characters of base64url; `None` for an algorithm
/// whose signatures vary, or for an unreadable header. Source: RFC 7518, section 3.1.
fn signature_bytes(header: &str) -> Option<usize> {
    match AccessToken::algorithm(header)?.as_str() {
        "HS256" => Some(43),
        "HS384" => Some(64),
        "HS512" | "ES256" => Some(86),
        _ => None,
    }
}

/// The token in a line that holds nothing else, without `Authorization:`, `Bearer` and quotes.
pub(super) fn token(line: &str) -> Option<&str> {
    let line = unquoted(line.trim().trim_end_matches([',', ';']));
    let line = after(line, "authorization:").unwrap_or(line);
    let line = after(line, "bearer ").unwrap_or(line);
    (line.starts_with(JWT_START) && line.bytes().all(is_token_byte)).then_some(line)
}

/// The rest of a line behind a word, which may be in any case.
fn after<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let (start, rest) = line.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then(|| rest.trim())
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=')
}

/// Prefix of every JWT: `{"` in base64.
pub(super) const JWT_START: &str = "eyJ";

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn jwt(claims: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        format!("{header}.{}.{}", URL_SAFE_NO_PAD.encode(claims), "s".repeat(43))
    }

    #[test]
    fn how_a_header_signs_in_is_told_without_a_call() {
        let check = |header: &str, expected: SignIn| {
            assert_eq!(SignIn::of(&Cookie::parse(header).unwrap(), NOW), expected, "{header}");
        };
        let live = jwt(r#"{"id": "u", "exp": 1800009999}"#);
        let ended = jwt(r#"{"id": "u", "exp": 1799999999}"#);
        let until = SignIn::Until(Some(UnixSeconds(1_800_009_999)));
        check(&format!("cna=1; token={live}"), until);
        check("token=opaque", SignIn::Until(None));
        check("refresh_token=opaque; token=", SignIn::Renewed);
        check(&format!("token={ended}; refresh_token={live}"), SignIn::Renewed);
        check(&format!("token={live}; refresh_token={ended}"), until);
        check(&format!("token={ended}"), SignIn::Ended(UnixSeconds(1_799_999_999)));
        check(&format!("token={ended}; refresh_token={ended}"), SignIn::Ended(UnixSeconds(1_799_999_999)));
        check("cna=1; token=", SignIn::Missing);
        check("cna=1", SignIn::Missing);
        // Cut off at each place where an editor or a page may do that.
        for bytes in [5, 20, 40, live.len() - 44, live.len() - 43, live.len() - 1] {
            check(&format!("cna=1; token={}", live.get(..bytes).unwrap()), SignIn::CutOff("token"));
        }
        check("token=eyJhbGci...", SignIn::CutOff("token"));
        check(&format!("refresh_token={}; cna=1", live.get(..30).unwrap()), SignIn::CutOff("refresh_token"));
        check(&format!("refresh_token={}; token={live}", live.get(..30).unwrap()), until);
    }
}
