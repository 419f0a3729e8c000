//! OAuth credentials as they lie in a file, and the names of the accounts that they belong to.
//!
//! The file is shared with other programs, so what is not understood is kept, and nothing of it is ever printed.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::secret::{AccessToken, SecretError};

/// The name of an OAuth account. It becomes part of a file name: 1 to 64 of `A-Z a-z 0-9 . _ @ -`, no dot first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(Arc<str>);

/// A text is no name of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an account is named by 1 to 64 letters, digits and . _ @ - and does not begin with a dot")]
pub struct AccountIdError;

impl AccountId {
    /// The longest name in bytes.
    pub const BYTES_MAX: usize = 64;
    /// The account of the file without a name, `oauth_creds.json`.
    pub const DEFAULT: &'static str = "default";

    /// Checks a name.
    ///
    /// # Errors
    /// It has another character, or not between 1 and 64 of them, or begins with a dot.
    pub fn parse(text: &str) -> Result<Self, AccountIdError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
        let fits = (1..=Self::BYTES_MAX).contains(&text.len());
        if fits && !text.starts_with('.') && text.bytes().all(is_allowed) {
            Ok(Self(text.into()))
        } else {
            Err(AccountIdError)
        }
    }

    /// The account of the file without a name.
    #[must_use]
    pub fn unnamed() -> Self {
        Self(Self::DEFAULT.into())
    }

    /// Whether this is the account of the file without a name.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        &*self.0 == Self::DEFAULT
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the account is called among the identities.
    #[must_use]
    pub fn identity(&self) -> IdentityId {
        IdentityId::named(&format!("oauth:{}", self.0))
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A refresh token: good for one use, after which the answer may hold its successor.
#[derive(Clone)]
pub struct RefreshToken(SecretString);

impl RefreshToken {
    /// Checks and wraps a token.
    ///
    /// # Errors
    /// Empty, too long, or with characters that no token has.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if text.len() > AccessToken::BYTES_MAX {
            return Err(SecretError::TooLong { bytes_max: AccessToken::BYTES_MAX });
        }
        if !text.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            return Err(SecretError::NotAscii);
        }
        Ok(Self(SecretString::from(text)))
    }

    /// A hash by which the token is remembered when the upstream refused it for good.
    #[must_use]
    pub fn key(&self) -> CredentialKey {
        CredentialKey::of(&format!("refresh token {}", self.0.expose_secret()))
    }

    /// The token text.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken([REDACTED])")
    }
}

/// A moment of the wall clock in milliseconds since 1970, as the file carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The second that it is in.
    #[must_use]
    pub fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0.div_euclid(1000))
    }
}

/// The credentials of one account. At least one of the two tokens is there.
#[derive(Clone)]
pub struct OAuthCredentials {
    access_token: Option<AccessToken>,
    refresh_token: Option<RefreshToken>,
    token_type: String,
    expires_at: Option<UnixMillis>,
    resource_url: Option<String>,
    /// Fields that are not ours. They may be secret too (`id_token`).
    extra: Map<String, Value>,
}

/// What the token endpoint hands out.
#[derive(Clone, Debug)]
pub struct TokenGrant {
    /// The new access token.
    pub access_token: AccessToken,
    /// The successor of the refresh token, if it was rotated.
    pub refresh_token: Option<RefreshToken>,
    /// How the token is to be presented, `Bearer`.
    pub token_type: Option<String>,
    /// When the access token ends, if the answer says so.
    pub expires_in_seconds: Option<u64>,
    /// Where the token is good.
    pub resource_url: Option<String>,
}

/// Why a text holds no credentials. Never holds anything of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Nothing there, as while somebody writes it.
    #[error("is empty")]
    Empty,
    /// No JSON, or cut off.
    #[error("is not complete JSON (line {line}, column {column})")]
    NotJson {
        /// Where, counted from 1.
        line: usize,
        /// Where, counted from 1.
        column: usize,
    },
    /// JSON of another shape.
    #[error("is not a JSON object")]
    NotAnObject,
    /// Neither of the tokens.
    #[error("has neither access_token nor refresh_token")]
    NoToken,
    /// A field of another type.
    #[error("has a field {0} that is no text")]
    NotText(&'static str),
    /// A token that cannot be one.
    #[error("has a field {field} that {problem}")]
    Secret {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: SecretError,
    },
    /// The moment at which the token ends cannot be read.
    #[error("has a field {0} that is no moment (milliseconds, seconds or RFC 3339)")]
    Expiry(&'static str),
}

impl OAuthCredentials {
    /// Reads credentials from the text of a file. Fields that are not known are kept.
    ///
    /// The end of the access token is `expiry_date`, else `expired`: milliseconds, seconds (below 10¹²), either as
    /// a text, or RFC 3339.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn parse(text: &str, now: UnixSeconds) -> Result<Self, CredentialsError> {
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Err(CredentialsError::Empty);
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Self::from_fields(fields, now),
            Ok(_) => Err(CredentialsError::NotAnObject),
            // The parser's own words may quote the text.
            Err(error) => Err(CredentialsError::NotJson { line: error.line(), column: error.column() }),
        }
    }

    /// Reads every credential in a text: one object, several one after the other, or an array of them.
    ///
    /// # Errors
    /// [`CredentialsError`] of the first that is none.
    pub fn parse_all(text: &str, now: UnixSeconds) -> Result<Vec<Self>, CredentialsError> {
        let text = text.trim_start_matches('\u{feff}').trim();
        let mut all = Vec::new();
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            let value =
                value.map_err(|error| CredentialsError::NotJson { line: error.line(), column: error.column() })?;
            let items = match value {
                Value::Array(items) => items,
                other => vec![other],
            };
            for item in items {
                let Value::Object(fields) = item else {
                    return Err(CredentialsError::NotAnObject);
                };
                all.push(Self::from_fields(fields, now)?);
            }
        }
        if all.is_empty() { Err(CredentialsError::Empty) } else { Ok(all) }
    }

    fn from_fields(mut fields: Map<String, Value>, now: UnixSeconds) -> Result<Self, CredentialsError> {
        let secret = |field| move |problem| CredentialsError::Secret { field, problem };
        let access_token = take_text(&mut fields, "access_token")?
            .map(|text| AccessToken::parse(&text, now).map_err(secret("access_token")));
        let refresh_token = take_text(&mut fields, "refresh_token")?
            .map(|text| RefreshToken::parse(&text).map_err(secret("refresh_token")));
        let expiry_date = take_moment(&mut fields, "expiry_date")?;
        let expired = take_moment(&mut fields, "expired")?;
        let resource_url = take_text(&mut fields, "resource_url")?;
        let credentials = Self {
            access_token: access_token.transpose()?,
            refresh_token: refresh_token.transpose()?,
            token_type: take_text(&mut fields, "token_type")?.unwrap_or_else(|| BEARER.to_owned()),
            expires_at: expiry_date.or(expired),
            resource_url,
            extra: fields,
        };
        if credentials.access_token.is_none() && credentials.refresh_token.is_none() {
            return Err(CredentialsError::NoToken);
        }
        Ok(credentials)
    }

    /// The credentials of a fresh login.
    #[must_use]
    pub fn granted(grant: TokenGrant, now: UnixMillis) -> Self {
        let nothing = Self {
            access_token: None,
            refresh_token: None,
            token_type: BEARER.to_owned(),
            expires_at: None,
            resource_url: None,
            extra: Map::new(),
        };
        nothing.renewed(grant, now)
    }

    /// The credentials after a refresh. What the answer leaves out stays as it was, the refresh token above all.
    #[must_use]
    pub fn renewed(&self, grant: TokenGrant, now: UnixMillis) -> Self {
        let own = grant.access_token.expires_at().map(|at| at.0.saturating_sub(now.seconds().0));
        let told = grant.expires_in_seconds.and_then(|seconds| i64::try_from(seconds).ok());
        let seconds = told.or(own).unwrap_or(UNKNOWN_LIFETIME_SECONDS).min(LIFETIME_SECONDS_MAX);
        Self {
            access_token: Some(grant.access_token),
            refresh_token: grant.refresh_token.or_else(|| self.refresh_token.clone()),
            token_type: grant.token_type.unwrap_or_else(|| self.token_type.clone()),
            expires_at: Some(UnixMillis(now.0.saturating_add(seconds.saturating_mul(1000)))),
            resource_url: grant.resource_url.or_else(|| self.resource_url.clone()),
            extra: self.extra.clone(),
        }
    }

    /// The text of the file: JSON, two spaces deep, with the fields that are not ours.
    #[must_use]
    pub fn to_json(&self) -> SecretString {
        let mut fields = self.extra.clone();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        put("access_token", self.access_token.as_ref().map(|token| token.expose().into()));
        put("refresh_token", self.refresh_token.as_ref().map(|token| token.expose().into()));
        put("token_type", Some(self.token_type.as_str().into()));
        put("expiry_date", self.expires_at.map(|at| at.0.into()));
        put("resource_url", self.resource_url.as_deref().map(Into::into));
        // Alternate notation, so that it is two spaces deep; a map of values can always be written.
        SecretString::from(format!("{:#}", Value::Object(fields)))
    }

    /// The access token with its end, as a session carries it. An end that is further away than any token lives is
    /// taken for unknown.
    #[must_use]
    pub fn bearer(&self, now: UnixSeconds) -> Option<AccessToken> {
        let token = self.access_token.clone()?;
        let expires_at = self.expires_at.map(UnixMillis::seconds).or(token.expires_at());
        Some(token.ending_at(expires_at.filter(|at| at.0 <= now.0.saturating_add(LIFETIME_SECONDS_MAX))))
    }

    /// The access token.
    #[must_use]
    pub fn access_token(&self) -> Option<&AccessToken> {
        self.access_token.as_ref()
    }

    /// The refresh token.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    /// How the access token is to be presented, `Bearer`.
    #[must_use]
    pub fn token_type(&self) -> &str {
        &self.token_type
    }

    /// When the access token ends, as far as is known.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixMillis> {
        self.expires_at
    }

    /// Where the access token is good, as it was handed out: a host or a URL.
    #[must_use]
    pub fn resource_url(&self) -> Option<&str> {
        self.resource_url.as_deref()
    }

    /// Reads what [`OAuthCredentials::to_json`] wrote.
    #[must_use]
    pub fn of_stored(text: &SecretString, now: UnixSeconds) -> Option<Self> {
        Self::parse(text.expose_secret(), now).ok()
    }

    /// Stands for all of it, secrets included.
    #[must_use]
    pub fn fingerprint(&self) -> CredentialKey {
        CredentialKey::of(self.to_json().expose_secret())
    }

    /// Whether both are the same login: equal tokens, whatever else differs.
    #[must_use]
    pub fn is_same_login(&self, other: &Self) -> bool {
        let access = |it: &Self| it.access_token.as_ref().map(|token| CredentialKey::of(token.expose()));
        let refresh = |it: &Self| it.refresh_token.as_ref().map(RefreshToken::key);
        access(self) == access(other) && refresh(self) == refresh(other)
    }
}

impl fmt::Debug for OAuthCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthCredentials")
            .field("has_access_token", &self.access_token.is_some())
            .field("has_refresh_token", &self.refresh_token.is_some())
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl TokenGrant {
    /// Reads a successful answer of the token endpoint; `None` while it holds no access token that can be sent.
    #[must_use]
    pub fn parse(answer: &Value, now: UnixSeconds) -> Option<Self> {
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        let seconds = answer.get("expires_in").and_then(|seconds| match seconds {
            Value::String(text) => text.trim().parse::<f64>().ok(),
            other => other.as_f64(),
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
        let seconds = seconds.filter(|seconds| (1.0..1e12).contains(seconds)).map(|seconds| seconds as u64);
        Some(Self {
            access_token: AccessToken::parse(text("access_token")?, now).ok()?,
            refresh_token: text("refresh_token").and_then(|text| RefreshToken::parse(text).ok()),
            token_type: text("token_type").map(str::to_owned),
            expires_in_seconds: seconds,
            resource_url: text("resource_url").or_else(|| text("endpoint")).map(str::to_owned),
        })
    }
}

/// Takes a text out; `None` when it is not there, null or blank.
fn take_text(fields: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, CredentialsError> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(_) => Err(CredentialsError::NotText(name)),
    }
}

/// Takes a moment out; `None` when it is not there, null or blank.
fn take_moment(fields: &mut Map<String, Value>, name: &'static str) -> Result<Option<UnixMillis>, CredentialsError> {
    let number = match fields.remove(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => match text.trim().parse::<f64>() {
            Ok(number) => Some(number),
            Err(_) => {
                let moment = text.trim().parse::<Timestamp>().map_err(|_| CredentialsError::Expiry(name))?;
                return Ok(Some(UnixMillis(moment.as_millisecond().max(0))));
            }
        },
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    let number = number.filter(|number| (0.0..MILLIS_MAX).contains(number)).ok_or(CredentialsError::Expiry(name))?;
    let millis = if number < SECONDS_BELOW { number * 1000.0 } else { number };
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked above")]
    Ok(Some(UnixMillis(millis as i64)))
}

const BEARER: &str = "Bearer";
/// A number below this is a moment in seconds: in milliseconds it would be before 2001.
const SECONDS_BELOW: f64 = 1e12;
/// The year 5138 in milliseconds.
const MILLIS_MAX: f64 = 1e14;
/// The assumed lifetime of a token of which nothing is said.
const UNKNOWN_LIFETIME_SECONDS: i64 = 600;
/// Nothing lives longer than this.
const LIFETIME_SECONDS_MAX: i64 = 400 * 24 * 3600;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_790_000_000);
    const NOW_MS: UnixMillis = UnixMillis(1_790_000_000_500);

    fn parse(value: &Value) -> Result<OAuthCredentials, CredentialsError> {
        OAuthCredentials::parse(&value.to_string(), NOW)
    }

    #[test]
    fn names_of_accounts() {
        for good in ["a", "work", "me@example.com", "A-1_b.c", "default", &"x".repeat(64)] {
            assert_eq!(AccountId::parse(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
        let bad = ["", ".", ".a", "..", "a/b", "a\\b", "a b", "a\n", "a'", "$(a)", "é", "a:b", "a\0", "%2e"];
        for bad in bad.into_iter().chain([&*"x".repeat(65)]) {
            assert_eq!(AccountId::parse(bad), Err(AccountIdError), "{bad:?}");
        }
        assert_eq!(AccountId::parse("work").unwrap().identity().as_str(), "oauth:work");
        assert!(AccountId::unnamed().is_unnamed() && AccountId::parse("default").unwrap().is_unnamed());
    }

    #[test]
    fn every_form_of_an_expiry() {
        let check = |fields: Value, expected: Result<Option<i64>, CredentialsError>| {
            let mut all = json!({"access_token": "a"});
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            assert_eq!(parse(&all).map(|it| it.expires_at().map(|at| at.0)), expected, "{fields}");
        };
        let bad = || Err(CredentialsError::Expiry("expiry_date"));
        check(json!({}), Ok(None));
        check(json!({"expiry_date": null}), Ok(None));
        check(json!({"expiry_date": " "}), Ok(None));
        check(json!({"expiry_date": 1_790_000_000_123_i64}), Ok(Some(1_790_000_000_123)));
        check(json!({"expiry_date": 1_000_000_000_000_i64}), Ok(Some(1_000_000_000_000)));
        check(json!({"expiry_date": 1_790_000_000}), Ok(Some(1_790_000_000_000)));
        check(json!({"expiry_date": 1_790_000_000.5}), Ok(Some(1_790_000_000_500)));
        check(json!({"expiry_date": "1790000000123"}), Ok(Some(1_790_000_000_123)));
        check(json!({"expiry_date": " 1790000000 "}), Ok(Some(1_790_000_000_000)));
        check(json!({"expiry_date": "2026-09-21T13:33:20Z"}), Ok(Some(1_789_997_600_000)));
        check(json!({"expiry_date": "2026-09-21T21:33:20.25+08:00"}), Ok(Some(1_789_997_600_250)));
        check(json!({"expired": "2026-09-21T13:33:20Z"}), Ok(Some(1_789_997_600_000)));
        check(json!({"expiry_date": 7, "expired": 8}), Ok(Some(7000)));
        check(json!({"expiry_date": 0}), Ok(Some(0)));
        check(json!({"expiry_date": -1}), bad());
        check(json!({"expiry_date": 1e300}), bad());
        check(json!({"expiry_date": "NaN"}), bad());
        check(json!({"expiry_date": "inf"}), bad());
        check(json!({"expiry_date": "soon"}), bad());
        check(json!({"expiry_date": true}), bad());
        check(json!({"expiry_date": [1]}), bad());
        check(json!({"expired": "soon"}), Err(CredentialsError::Expiry("expired")));
    }

    #[test]
    fn what_is_no_credentials_is_said_without_repeating_it() {
        let check = |text: &str, expected: CredentialsError| {
            let error = OAuthCredentials::parse(text, NOW).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hush"), "{error}");
        };
        let secret = |field, problem| CredentialsError::Secret { field, problem };
        check("", CredentialsError::Empty);
        check("\u{feff} \n", CredentialsError::Empty);
        check(r#"{"access_token": "hush"#, CredentialsError::NotJson { line: 1, column: 22 });
        check("hush", CredentialsError::NotJson { line: 1, column: 1 });
        check(r#"{"access_token":"hush"} x"#, CredentialsError::NotJson { line: 1, column: 25 });
        check(r#"["hush"]"#, CredentialsError::NotAnObject);
        check("{}", CredentialsError::NoToken);
        check(r#"{"access_token":"","refresh_token":null}"#, CredentialsError::NoToken);
        check(r#"{"access_token":{"hush":1}}"#, CredentialsError::NotText("access_token"));
        check(r#"{"access_token":"hush hush"}"#, secret("access_token", SecretError::NotAscii));
        check(r#"{"refresh_token":"hush\r\nX: y"}"#, secret("refresh_token", SecretError::NotAscii));
    }

    #[test]
    fn several_in_one_text() {
        let count = |text: &str| OAuthCredentials::parse_all(text, NOW).map(|all| all.len());
        let one = r#"{"access_token":"a"}"#;
        assert_eq!(count(one), Ok(1));
        assert_eq!(count(&format!("[{one},{one}]")), Ok(2));
        assert_eq!(count(&format!("{one}\n{one} {one}")), Ok(3));
        assert_eq!(count(" "), Err(CredentialsError::Empty));
        assert_eq!(count("[]"), Err(CredentialsError::Empty));
        assert_eq!(count(&format!("{one}, {one}")), Err(CredentialsError::NotJson { line: 1, column: 21 }));
        assert_eq!(count("3"), Err(CredentialsError::NotAnObject));
    }

    #[test]
    fn a_file_of_another_program_keeps_its_fields() {
        let text = json!({
            "access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expiry_date": 1_790_000_000_123_i64,
            "resource_url": "portal.qwen.ai", "id_token": "i", "scope": "openid", "nested": {"b": [1, null]},
        });
        let credentials = parse(&text).unwrap();
        let written = credentials.to_json();
        assert_eq!(serde_json::from_str::<Value>(written.expose_secret()).unwrap(), text);
        assert!(written.expose_secret().starts_with("{\n  \"access_token\": \"a\",\n"));
        let again = OAuthCredentials::parse(written.expose_secret(), NOW).unwrap();
        assert!(again.is_same_login(&credentials));
    }

    #[test]
    fn the_file_of_a_proxy_is_understood() {
        let credentials = parse(&json!({
            "access_token": "a", "refresh_token": "r", "resource_url": "portal.qwen.ai", "email": "e@x",
            "type": "qwen", "last_refresh": "2026-03-01T00:00:00Z", "expired": "2026-09-21T13:33:20Z",
        }))
        .unwrap();
        let written: Value = serde_json::from_str(credentials.to_json().expose_secret()).unwrap();
        assert_eq!(written["expiry_date"], 1_789_997_600_000_i64);
        assert_eq!((&written["email"], written.get("expired")), (&json!("e@x"), None));
    }

    #[test]
    fn a_refresh_keeps_what_the_answer_leaves_out() {
        let old = parse(&json!({"access_token": "a", "refresh_token": "r", "resource_url": "u", "x": 1})).unwrap();
        let grant = |answer: Value| TokenGrant::parse(&answer, NOW).unwrap();
        let shown = |it: &OAuthCredentials| {
            let text = |token: Option<&RefreshToken>| token.map(|token| token.expose().to_owned());
            let expires_at = it.expires_at().unwrap().0;
            (text(it.refresh_token()), it.resource_url().map(str::to_owned), expires_at, it.extra.clone())
        };
        let extra = json!({"x": 1}).as_object().unwrap().clone();
        let some = |text: &str| Some(text.to_owned());
        let bare = old.renewed(grant(json!({"access_token": "b", "expires_in": 3600})), NOW_MS);
        assert_eq!(shown(&bare), (some("r"), some("u"), NOW_MS.0 + 3_600_000, extra.clone()));
        let null = json!({"access_token": "b", "refresh_token": null, "expires_in": null, "resource_url": ""});
        assert_eq!(shown(&old.renewed(grant(null), NOW_MS)), (some("r"), some("u"), NOW_MS.0 + 600_000, extra.clone()));
        let full =
            json!({"access_token": "b", "refresh_token": "s", "expires_in": "60", "endpoint": "v", "token_type": "t"});
        let full = old.renewed(grant(full), NOW_MS);
        assert_eq!(shown(&full), (some("s"), some("v"), NOW_MS.0 + 60_000, extra));
        assert_eq!(full.bearer(NOW).unwrap().expires_at(), Some(UnixSeconds(1_790_000_060)));
        for nothing in [json!({}), json!({"access_token": null}), json!({"access_token": " "}), json!([]), json!("x")] {
            assert!(TokenGrant::parse(&nothing, NOW).is_none(), "{nothing}");
        }
        let far = grant(json!({"access_token": "b", "expires_in": 1e11}));
        assert_eq!(old.renewed(far, NOW_MS).expires_at().unwrap().0, NOW_MS.0 + 400 * 86_400_000);
    }

    #[test]
    fn an_end_that_nobody_can_believe_is_unknown() {
        let bearer = |expiry: i64| parse(&json!({"access_token": "a", "expiry_date": expiry})).unwrap().bearer(NOW);
        assert_eq!(bearer(99_000_000_000_000).unwrap().expires_at(), None);
        assert_eq!(bearer(0).unwrap().expires_at(), Some(UnixSeconds(0)));
        assert!(!bearer(0).unwrap().is_live(NOW));
    }

    #[test]
    fn nothing_is_shown() {
        let credentials =
            parse(&json!({"access_token": "hush-1", "refresh_token": "hush-2", "id_token": "hush-3"})).unwrap();
        let grant = TokenGrant::parse(&json!({"access_token": "hush-4", "refresh_token": "hush-5"}), NOW);
        let shown = format!("{credentials:?} {:?} {grant:?}", credentials.refresh_token());
        assert!(!shown.contains("hush"), "{shown}");
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Value::from))
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in ".{0,200}") {
            let _ = OAuthCredentials::parse(&text, NOW);
            let _ = OAuthCredentials::parse_all(&text, NOW);
        }

        #[test]
        fn what_is_taken_is_written_so_that_it_is_taken_again(
            fields in prop::collection::btree_map(
                prop::sample::select(vec![
                    "access_token", "refresh_token", "token_type", "expiry_date", "expired", "resource_url", "other",
                ]),
                values(),
                0..7,
            ),
        ) {
            let text = serde_json::to_string(&fields).unwrap();
            if let Ok(credentials) = OAuthCredentials::parse(&text, NOW) {
                let again = OAuthCredentials::parse(credentials.to_json().expose_secret(), NOW).unwrap();
                prop_assert!(again.is_same_login(&credentials));
                prop_assert_eq!(again.resource_url(), credentials.resource_url());
                prop_assert_eq!(
                    fields.get("other").filter(|value| !value.is_f64()),
                    again.extra.get("other").filter(|value| !value.is_f64())
                );
            }
        }
    }
}
