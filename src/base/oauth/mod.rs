//! OAuth credentials as they lie in a file, and the names of the accounts that they belong to.
//!
//! The file is shared with other programs: unknown fields are kept, and no part of it is printed.

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

/// The text is not a valid account name.
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

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity of the account.
    #[must_use]
    pub fn identity(&self) -> IdentityId {
        IdentityId::named(&format!("oauth:{}", self.0))
    }
}

/// What the account of an identity is called on disk.
#[must_use]
pub(crate) fn credential_of(identity: &IdentityId) -> CredentialKey {
    CredentialKey::of(&format!("oauth account {identity}"))
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

    /// A hash that identifies the token after the upstream refused it permanently.
    #[must_use]
    pub fn key(&self) -> CredentialKey {
        CredentialKey::of(&format!("refresh token {}", self.0.expose_secret()))
    }

    /// The token as it was parsed, for the body of a refresh and the credentials file.
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

/// A successful answer of the token endpoint.
#[derive(Clone, Debug)]
pub struct TokenGrant {
    /// The new access token.
    pub access_token: AccessToken,
    /// The successor of the refresh token, if it was rotated.
    pub refresh_token: Option<RefreshToken>,
    /// `token_type` of the answer, such as `Bearer`.
    pub token_type: Option<String>,
    /// `expires_in`: lifetime of the access token in seconds, if the answer has it.
    pub expires_in_seconds: Option<u64>,
    /// `resource_url`: the host or URL of the API that takes the token.
    pub resource_url: Option<String>,
}

/// Reasons why a text is not a credentials file. Holds no part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// An empty file, as while another program writes it.
    #[error("is empty")]
    Empty,
    /// Not JSON, or JSON that is cut off.
    #[error("is not complete JSON (line {line}, column {column})")]
    NotJson {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
    },
    /// JSON other than an object.
    #[error("is not a JSON object")]
    NotAnObject,
    /// Neither an access token nor a refresh token.
    #[error("has neither access_token nor refresh_token")]
    NoToken,
    /// A field of another type.
    #[error("has a field {0} that is not a text")]
    NotText(&'static str),
    /// A token that cannot be one.
    #[error("has a field {field} that {problem}")]
    Secret {
        field: &'static str,
        /// The rule that the token breaks.
        problem: SecretError,
    },
    /// The moment at which the token ends cannot be read.
    #[error("has a field {0} that is not a time (milliseconds, seconds or RFC 3339)")]
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
    /// [`CredentialsError`] of the first part that holds no credentials.
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

    /// The access token as the file has it; [`Self::bearer`] adds its end.
    #[must_use]
    pub fn access_token(&self) -> Option<&AccessToken> {
        self.access_token.as_ref()
    }

    /// The refresh token; `None` if the file has none.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    /// `token_type` of the access token, such as `Bearer`.
    #[must_use]
    pub fn token_type(&self) -> &str {
        &self.token_type
    }

    /// End of the access token, if known.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixMillis> {
        self.expires_at
    }

    /// Host or URL of the API that takes the access token, as the token endpoint gave it.
    #[must_use]
    pub fn resource_url(&self) -> Option<&str> {
        self.resource_url.as_deref()
    }

    /// Reads what [`OAuthCredentials::to_json`] wrote.
    #[must_use]
    pub fn of_stored(text: &SecretString, now: UnixSeconds) -> Option<Self> {
        Self::parse(text.expose_secret(), now).ok()
    }

    /// A hash of the whole credentials, secrets included.
    #[must_use]
    pub fn fingerprint(&self) -> CredentialKey {
        CredentialKey::of(self.to_json().expose_secret())
    }

    /// Whether both are the same login: equal tokens, even if other fields differ.
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
/// Assumed lifetime of a token without an end, in seconds.
const UNKNOWN_LIFETIME_SECONDS: i64 = 600;
/// Longest credible lifetime of a token, in seconds.
const LIFETIME_SECONDS_MAX: i64 = 400 * 24 * 3600;

#[cfg(test)]
mod tests;
