//! Secrets as types that cannot be printed, compared carelessly or serialised.
//!
//! `expose` is called only where a header is built, a digest is taken or the state file is written.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::base::ids::{CredentialKey, UnixSeconds};

/// A key that callers of our API present.
#[derive(Clone)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// Wraps a key without checking it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(SecretString::from(text))
    }

    /// Whether `offered` is this key. Takes the same time for every `offered`: digests of equal length are compared.
    #[must_use]
    pub fn matches(&self, offered: &str) -> bool {
        let ours = Sha256::digest(self.0.expose_secret().as_bytes());
        let theirs = Sha256::digest(offered.as_bytes());
        ours.as_slice().ct_eq(theirs.as_slice()).into()
    }

    /// The key in clear, for the line that shows a generated key to its owner and for the state file.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([REDACTED])")
    }
}

/// A key of an upstream that needs no login.
#[derive(Clone)]
pub struct UpstreamKey(SecretString);

impl UpstreamKey {
    /// The longest accepted key in bytes.
    pub const BYTES_MAX: usize = 512;

    /// Checks and wraps a key.
    ///
    /// # Errors
    /// Empty, too long, or with characters that no header can carry.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(SecretError::TooLong { bytes_max: Self::BYTES_MAX });
        }
        if !text.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            return Err(SecretError::NotAscii);
        }
        Ok(Self(SecretString::from(text)))
    }

    /// The key in clear, to be presented to its endpoint.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for UpstreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamKey([REDACTED])")
    }
}

/// The `Cookie` header of a logged-in browser, as configured: `name=value; name=value`.
#[derive(Clone)]
pub struct Cookie(SecretString);

impl Cookie {
    /// The longest accepted header in bytes. A logged-in browser sends up to about 12 kB.
    pub const BYTES_MAX: usize = 16 * 1024;

    /// Checks and wraps one Cookie header. Control characters are removed and a leading `Cookie:` is dropped,
    /// since both come along when a header is copied.
    ///
    /// # Errors
    /// Says what is wrong without showing the text: empty, too long, no `name=value` pair, characters that no
    /// header can carry.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let cleaned: String = text.chars().filter(|c| !c.is_control() && *c != '\u{feff}').collect();
        let trimmed = cleaned.trim();
        let header = match trimmed.get(..7) {
            Some(name) if name.eq_ignore_ascii_case("cookie:") => trimmed.get(7..).unwrap_or_default().trim(),
            _ => trimmed,
        };
        if header.is_empty() {
            return Err(SecretError::Empty);
        }
        if header.len() > Self::BYTES_MAX {
            return Err(SecretError::TooLong { bytes_max: Self::BYTES_MAX });
        }
        let is_pair = |part: &str| part.split_once('=').is_some_and(|(name, _)| is_cookie_name(name.trim()));
        if !header.split(';').any(is_pair) {
            return Err(SecretError::NotACookie);
        }
        if !header.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(SecretError::NotAscii);
        }
        Ok(Self(SecretString::from(header)))
    }

    /// The hash of this cookie that names its account on disk.
    #[must_use]
    pub fn key(&self) -> CredentialKey {
        CredentialKey::of(self.0.expose_secret())
    }

    /// The header's value in clear, as [`Cookie::parse`] cleaned it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie([REDACTED])")
    }
}

/// Whether `name` is a token of RFC 9110, as a cookie's name has to be.
fn is_cookie_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A token for `Authorization: Bearer`. Its claims are read, never verified: we are not its audience.
#[derive(Clone)]
pub struct AccessToken {
    text: SecretString,
    expires_at: Option<UnixSeconds>,
    issued_at: Option<UnixSeconds>,
    account: Option<String>,
}

impl AccessToken {
    /// The longest accepted token in bytes.
    pub const BYTES_MAX: usize = 8 * 1024;
    /// An `exp` further away than this, in seconds, is treated as unknown.
    const LIFETIME_SECONDS_MAX: i64 = 400 * 24 * 3600;

    /// Checks and wraps a token. Opaque tokens are accepted; their expiry is unknown.
    ///
    /// `now` bounds the credible `exp`, which may be a number, a float, a string, or in milliseconds.
    ///
    /// # Errors
    /// Empty, too long, or with characters that no header can carry.
    pub fn parse(text: &str, now: UnixSeconds) -> Result<Self, SecretError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(SecretError::TooLong { bytes_max: Self::BYTES_MAX });
        }
        if !text.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            return Err(SecretError::NotAscii);
        }
        let claims = jwt_claims(text);
        let claim = |name: &str| claims.as_ref().and_then(|claims| claims.get(name));
        let moment = |name: &str| {
            let seconds = claim(name).and_then(seconds_of)?;
            (seconds > 0 && seconds <= now.0.saturating_add(Self::LIFETIME_SECONDS_MAX)).then_some(UnixSeconds(seconds))
        };
        Ok(Self {
            text: SecretString::from(text),
            expires_at: moment("exp"),
            issued_at: moment("iat"),
            account: claim("id").and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// Checks and wraps a token that was kept as a secret; `None` where [`AccessToken::parse`] has an error.
    #[must_use]
    pub fn of_secret(text: &SecretString, now: UnixSeconds) -> Option<Self> {
        Self::parse(text.expose_secret(), now).ok()
    }

    /// Whether this text is a JWT whose claims can be read.
    #[must_use]
    pub fn has_claims(text: &str) -> bool {
        jwt_claims(text).is_some()
    }

    /// The algorithm that the first part of a JWT names (RFC 7515, `alg`); `None` for any other text.
    #[must_use]
    pub fn algorithm(first_part: &str) -> Option<String> {
        jsonwebtoken::decode_header(format!("{}..", first_part.trim_end_matches('=')))
            .ok()
            .map(|header| format!("{:?}", header.alg))
    }

    /// End of the token by its claim `exp`; `None` if the claim is missing or not credible.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        self.expires_at
    }

    /// The same token with an end from another source, as opaque tokens have no `exp`.
    #[must_use]
    pub fn ending_at(self, expires_at: Option<UnixSeconds>) -> Self {
        Self { expires_at, ..self }
    }

    /// The same token with `exp` and `iat` moved to a clock that is `ahead_seconds` ahead of its issuer's.
    #[must_use]
    pub fn seen_from(self, ahead_seconds: i64) -> Self {
        let moved = |at: Option<UnixSeconds>| at.map(|at| at.plus(ahead_seconds));
        Self { expires_at: moved(self.expires_at), issued_at: moved(self.issued_at), ..self }
    }

    /// Time of issue by the claim `iat`, which web tokens usually lack.
    #[must_use]
    pub fn issued_at(&self) -> Option<UnixSeconds> {
        self.issued_at
    }

    /// Whether the token has not expired at `now`; `true` if its end is unknown.
    #[must_use]
    pub fn is_live(&self, now: UnixSeconds) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// The account that the token belongs to (claim `id`), to tell two accounts apart. Not for logs.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// The token in clear, to be presented to the upstream.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Reasons why a text cannot be a secret of its kind. Never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing is left after trimming.
    #[error("is empty")]
    Empty,
    /// Longer than the limit for this kind of secret.
    #[error("is longer than {bytes_max} bytes")]
    TooLong {
        /// Longest accepted text of this kind of secret, in bytes.
        bytes_max: usize,
    },
    /// The text has no `name=value` pair, as a Cookie header needs.
    #[error("is not a Cookie header (expected name=value; name=value)")]
    NotACookie,
    /// The text has characters other than printable ASCII.
    #[error("has characters that an HTTP header cannot carry")]
    NotAscii,
}

/// The claims of a JWT; `None` for any other text. The signature is not checked: its key is the upstream's.
fn jwt_claims(token: &str) -> Option<Value> {
    // Some issuers pad their base64, which RFC 7515 does not allow.
    let unpadded = token.replace('=', "");
    jsonwebtoken::dangerous::insecure_decode_claims(unpadded).ok()
}

/// Seconds from a claim that may be an integer, a float, a numeric string, or milliseconds.
fn seconds_of(claim: &Value) -> Option<i64> {
    let number = match claim {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    // Later than the year 5000 in seconds can only be milliseconds.
    let seconds = if number > 1e11 { number / 1000.0 } else { number };
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked in the same line")]
    (seconds.is_finite() && seconds.abs() < 1e15).then_some(seconds as i64)
}

/// A link to something that the upstream made. It carries the key to it, so that who has the link has the thing.
#[derive(Clone)]
pub struct SignedLink(SecretString);

impl SignedLink {
    /// Wraps a link as the upstream gave it.
    #[must_use]
    pub fn new(link: &str) -> Self {
        Self(SecretString::from(link))
    }

    /// The URL with its signature: anyone who has it can download the file.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for SignedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedLink([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_790_000_000);

    #[test]
    fn cookies() {
        let check = |text: &str, expected: Result<&str, SecretError>| {
            let cookie = Cookie::parse(text);
            assert_eq!(cookie.as_ref().map(Cookie::expose).map_err(|error| *error), expected, "{text:?}");
        };
        let too_long = "a=".to_owned() + &"x".repeat(Cookie::BYTES_MAX - 1);
        check("token=a.b.c; cna=1", Ok("token=a.b.c; cna=1"));
        check(" Cookie: token=x\r\n", Ok("token=x"));
        check("cookie:token=x", Ok("token=x"));
        check("\u{feff}a=1;\tb=2", Ok("a=1;b=2"));
        check("flag; a=1", Ok("flag; a=1"));
        check("a==; b=", Ok("a==; b="));
        check("", Err(SecretError::Empty));
        check("cookie: ", Err(SecretError::Empty));
        check("just words", Err(SecretError::NotACookie));
        check("=x", Err(SecretError::NotACookie));
        check("a b=x", Err(SecretError::NotACookie));
        check("a=ü", Err(SecretError::NotAscii));
        check(&too_long, Err(SecretError::TooLong { bytes_max: Cookie::BYTES_MAX }));
        check(too_long.strip_suffix('x').unwrap(), Ok(too_long.strip_suffix('x').unwrap()));
    }

    /// An unsigned JWT with these claims.
    fn jwt(claims: &str) -> String {
        format!("eyJh.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn expiry_of_a_token() {
        let check = |token: &str, expires_at: Option<i64>| {
            let token = AccessToken::parse(token, NOW).unwrap();
            assert_eq!(token.expires_at().map(|at| at.0), expires_at, "{}", token.expose());
        };
        for (exp, expected) in [
            ("1790000900", Some(1_790_000_900)),
            ("1790000900.7", Some(1_790_000_900)),
            ("\" 1790000900 \"", Some(1_790_000_900)),
            ("1790000900000", Some(1_790_000_900)),
            ("\"1790000900000\"", Some(1_790_000_900)),
            ("1.7900009e9", Some(1_790_000_900)),
            ("1000", Some(1000)),
            ("0", None),
            ("-5", None),
            ("1990000000", None),
            ("1e300", None),
            ("\"NaN\"", None),
            ("\"inf\"", None),
            ("\"soon\"", None),
            ("null", None),
            ("true", None),
            ("[1790000900]", None),
        ] {
            check(&jwt(&format!("{{\"exp\": {exp}}}")), expected);
        }
        check(&jwt("{}"), None);
        check(&jwt("[]"), None);
        check("not-a-jwt", None);
        check("a.b", None);
        check("a.b.c.d", None);
        check("a.!!!.c", None);
        check(&format!("eyJh.{}==.c2ln", URL_SAFE_NO_PAD.encode("{\"exp\":1790000900} ")), Some(1_790_000_900));
    }

    #[test]
    fn tokens() {
        let token = AccessToken::parse(&jwt(r#"{"id": "u", "iat": 1789999000, "exp": 1790000000}"#), NOW).unwrap();
        assert_eq!((token.account(), token.issued_at()), (Some("u"), Some(UnixSeconds(1_789_999_000))));
        assert!(!token.is_live(NOW) && token.is_live(NOW.plus(-1)));
        assert!(AccessToken::parse("opaque", NOW).unwrap().is_live(NOW));
        let error = |text: &str| AccessToken::parse(text, NOW).unwrap_err();
        assert_eq!(error(" "), SecretError::Empty);
        assert_eq!(error("a b"), SecretError::NotAscii);
        assert_eq!(error("a\u{0}"), SecretError::NotAscii);
        assert_eq!(error(&"x".repeat(8193)), SecretError::TooLong { bytes_max: AccessToken::BYTES_MAX });
    }

    #[test]
    fn nothing_is_shown() {
        let shown = format!(
            "{:?} {:?} {:?} {:?}",
            ApiKey::new("hush-1"),
            UpstreamKey::parse("hush-4").unwrap(),
            Cookie::parse("token=hush-2").unwrap(),
            AccessToken::parse(&jwt(r#"{"id": "hush-3"}"#), NOW).unwrap()
        );
        assert!(!shown.contains("hush") && !shown.contains("eyJh"), "{shown}");
        assert!(ApiKey::new("k").matches("k") && !ApiKey::new("k").matches("K") && !ApiKey::new("k").matches(""));
    }
}
