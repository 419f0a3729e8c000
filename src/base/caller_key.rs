//! Keys of callers: their names, what each may use, and the digest that they are compared by.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use crate::base::secret::ApiKey;

/// The name of a caller's key: 1 to 32 characters of `A-Z a-z 0-9 _ -`. Safe to log and to show.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyName(Arc<str>);

impl KeyName {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 32;

    /// The name of a key that was given without one, by its place in the list, counted from 1: `key-1`.
    #[must_use]
    pub fn numbered(place: usize) -> Self {
        Self(format!("key-{place}").into())
    }

    /// The name of the key that this server makes at its first start: `generated`.
    #[must_use]
    pub fn generated() -> Self {
        Self("generated".into())
    }

    /// The name under which the owner's page asks, by its session and without a key: `page`.
    #[must_use]
    pub fn page() -> Self {
        Self("page".into())
    }

    /// This name with `-page` behind it, cut to fit: for a key of the page whose name a configured key has taken.
    #[must_use]
    pub fn of_page(&self) -> Self {
        let stem: String = self.0.chars().take(Self::BYTES_MAX - PAGE_ENDING.len()).collect();
        Self(format!("{stem}{PAGE_ENDING}").into())
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is not the name of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 32 letters, digits, '-' or '_'")]
pub struct NotAKeyName;

impl FromStr for KeyName {
    type Err = NotAKeyName;

    fn from_str(text: &str) -> Result<Self, NotAKeyName> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if is_plain && (1..=Self::BYTES_MAX).contains(&text.len()) { Ok(Self(text.into())) } else { Err(NotAKeyName) }
    }
}

impl TryFrom<String> for KeyName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // Readers of JSON show this without the name of the field.
        text.parse().map_err(|wrong: NotAKeyName| format!("the name of a key {wrong}"))
    }
}

impl From<KeyName> for String {
    fn from(name: KeyName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// Splits `name=key`. A text without a name in front stays whole: so does one whose rest is only `=`, the padding of
/// base64.
#[must_use]
pub(crate) fn split_name(text: &str) -> (Option<KeyName>, &str) {
    if let Some((name, key)) = text.split_once('=')
        && !key.trim_matches('=').is_empty()
        && let Ok(name) = name.parse()
    {
        return (Some(name), key);
    }
    (None, text)
}

/// A caller's key with its name and its limits.
#[derive(Clone, Debug)]
pub struct NamedKey {
    /// The name under which usage, limits and logs list it.
    pub name: KeyName,
    /// The secret that callers present.
    pub key: ApiKey,
    /// Daily limits and allowed models; the default limits nothing.
    pub limits: KeyLimits,
    /// Whether this server made it at its first start.
    pub is_generated: bool,
}

impl NamedKey {
    /// Whether `offered` is this key, as [`ApiKey::matches`].
    #[must_use]
    pub fn matches(&self, offered: &str) -> bool {
        self.key.matches(offered)
    }
}

/// The SHA-256 of a key. Two digests are compared in constant time.
#[derive(Clone, Copy)]
pub(crate) struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of a key.
    #[must_use]
    pub(crate) fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Takes the 32 bytes of a digest from the store.
    #[must_use]
    pub(crate) fn from_stored(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest, as the store keeps them.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are digests of the same key, compared in constant time.
    #[must_use]
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The first eight bytes as a number, to tell keys apart within the process.
    #[must_use]
    pub(crate) fn number(&self) -> u64 {
        self.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest([REDACTED])")
    }
}

/// The limits of a key. The default limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyLimits {
    /// Most requests to a model on one UTC day; `None`: unlimited.
    pub requests_per_day: Option<u64>,
    /// Most tokens of prompts and answers together on one UTC day; `None`: unlimited. A request that begins below the
    /// limit is answered to its end.
    pub tokens_per_day: Option<u64>,
    /// Names of models, each with `*` at its end or without; empty for all.
    pub models: Vec<String>,
}

impl KeyLimits {
    /// Most model names of one key.
    pub const MODELS_MAX: usize = 64;

    /// Reads `requests=100/day,tokens=1000000/day,models=qwen3-*|qwen-plus`; each part may be missing, `/day` too.
    ///
    /// # Errors
    /// A sentence about the expected form of the part at fault.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut limits = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (field, value) = part.split_once('=').ok_or(LIMITS_EXPECTED)?;
            let value = value.trim();
            let count = || {
                let number = value.strip_suffix("/day").unwrap_or(value).trim();
                number.parse::<u64>().map_err(|_| format!("{} must be a whole number a day, as 100/day", field.trim()))
            };
            match field.trim() {
                "requests" if limits.requests_per_day.is_none() => limits.requests_per_day = Some(count()?),
                "tokens" if limits.tokens_per_day.is_none() => limits.tokens_per_day = Some(count()?),
                "models" => limits.models.extend(value.split('|').map(|model| model.trim().to_owned())),
                "requests" | "tokens" => return Err(format!("{} stands twice", field.trim())),
                _ => return Err(LIMITS_EXPECTED.to_owned()),
            }
        }
        limits.check()?;
        if limits == Self::default() { Err(LIMITS_EXPECTED.to_owned()) } else { Ok(limits) }
    }

    /// Checks the names of models.
    ///
    /// # Errors
    /// A sentence about the expected form of a name, or about the number of names.
    pub fn check(&self) -> Result<(), String> {
        let is_name = |model: &String| {
            let stem = model.strip_suffix('*').unwrap_or(model);
            let is_odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '*' | '=' | ',' | ';' | '|');
            !model.is_empty() && model.len() <= MODEL_BYTES_MAX && !stem.contains(is_odd)
        };
        if self.models.len() > Self::MODELS_MAX {
            return Err(format!("models must be at most {} names", Self::MODELS_MAX));
        }
        if self.models.iter().all(is_name) {
            Ok(())
        } else {
            Err("models must be names such as qwen3-max or qwen3-*, with '*' at the end or nowhere".to_owned())
        }
    }

    /// Whether one of these names of one model is allowed. Upper and lower case are the same, as they are for models.
    #[must_use]
    pub fn allow_model<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        let fits = |name: &str| {
            self.models.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(stem) => name.get(..stem.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(stem)),
                None => name.eq_ignore_ascii_case(pattern),
            })
        };
        self.models.is_empty() || names.into_iter().any(fits)
    }
}

/// Suffix of a page's key whose name is also that of a configured key.
const PAGE_ENDING: &str = "-page";
const LIMITS_EXPECTED: &str = "must be requests=N/day, tokens=N/day or models=NAME|NAME*, separated by commas";
const MODEL_BYTES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_allowed_in_any_case() {
        let models = ["qwen3-max", "Qwen3-VL-*"].map(str::to_owned).to_vec();
        let limits = KeyLimits { models, ..KeyLimits::default() };
        for (name, expected) in [
            ("qwen3-max", true),
            ("Qwen3-Max", true),
            ("qwen3-maxx", false),
            ("qwen3-vl-plus", true),
            ("qwen3-v", false),
            ("qwen3-字", false),
        ] {
            assert_eq!(limits.allow_model([name]), expected, "{name}");
        }
    }

    #[test]
    fn a_name_stands_before_a_key_and_padding_is_no_key() {
        for (text, name, key) in [
            ("laptop=sk-1", Some("laptop"), "sk-1"),
            ("A_b-9=sk=2==", Some("A_b-9"), "sk=2=="),
            ("sk-plain", None, "sk-plain"),
            ("c2VjcmV0=", None, "c2VjcmV0="),
            ("c2VjcmV0==", None, "c2VjcmV0=="),
            ("=sk-1", None, "=sk-1"),
            ("my.laptop=sk-1", None, "my.laptop=sk-1"),
            ("sk/with+slash=sk-1", None, "sk/with+slash=sk-1"),
            ("a23456789012345678901234567890123=k", None, "a23456789012345678901234567890123=k"),
        ] {
            let (found, rest) = split_name(text);
            assert_eq!((found.as_ref().map(KeyName::as_str), rest), (name, key), "{text}");
        }
    }

    #[test]
    fn limits_as_they_are_written() {
        let limits = KeyLimits::parse(" requests=100/day , tokens = 1000000/day,models=qwen3-*|qwen-plus ").unwrap();
        assert_eq!((limits.requests_per_day, limits.tokens_per_day), (Some(100), Some(1_000_000)));
        assert_eq!(limits.models, ["qwen3-*", "qwen-plus"]);
        assert_eq!(KeyLimits::parse("requests=0").unwrap().requests_per_day, Some(0));
        assert_eq!(KeyLimits::parse("models=a,models=b").unwrap().models, ["a", "b"]);
        for text in [
            "",
            "requests",
            "requests=",
            "requests=-1/day",
            "requests=1/hour",
            "requests=1/day,requests=2/day",
            "tokens=1e6/day",
            "models=",
            "models=a*b",
            "models=a||b",
            "models=a b",
            "rps=1",
            "qwen3-*",
        ] {
            assert!(KeyLimits::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn models_by_name_or_by_their_beginning() {
        let limits = KeyLimits::parse("models=qwen3-*|qwen-plus").unwrap();
        for (name, is_allowed) in
            [("qwen3-max", true), ("qwen3-", true), ("qwen3", false), ("qwen-plus", true), ("qwen-plus-2", false)]
        {
            assert_eq!(limits.allow_model([name]), is_allowed, "{name}");
        }
        assert!(limits.allow_model(["gpt-4o", "qwen3-max"]), "an alias by its target");
        assert!(KeyLimits::default().allow_model(["anything"]));
    }

    #[test]
    fn digests_tell_keys_apart_and_show_nothing() {
        let digest = KeyDigest::of("sk-1");
        assert!(digest.is(&KeyDigest::from_stored(*digest.as_bytes())) && !digest.is(&KeyDigest::of("sk-2")));
        assert_ne!(digest.number(), KeyDigest::of("sk-2").number());
        assert_eq!(format!("{digest:?}"), "KeyDigest([REDACTED])");
    }
    #[test]
    fn a_name_of_the_page_fits() {
        assert_eq!(KeyName::numbered(2).of_page().as_str(), "key-2-page");
        let long: KeyName = "a2345678901234567890123456789012".parse().unwrap();
        assert_eq!(long.of_page().as_str(), "a23456789012345678901234567-page");
    }
}
