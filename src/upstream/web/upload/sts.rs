//! The credential for one upload: read from the upstream and checked.

use std::time::Duration;

use http::header::HeaderValue;
use secrecy::SecretString;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use crate::upstream::web::client::is_chat_id;
use crate::upstream::web::oss_sign::{self};

/// The right to put one object into the storage, for a few minutes. Cannot be printed.
pub(crate) struct StsCredential {
    pub(crate) access_key_id: String,
    pub(crate) access_key_secret: SecretString,
    pub(crate) security_token: HeaderValue,
    pub(crate) bucket: String,
    pub(crate) region: String,
    /// The object's key, not encoded.
    pub(crate) key: String,
    /// URL of the object in the storage.
    pub(crate) target: Url,
    pub(crate) file_id: String,
    /// The signed link by which the upstream finds the file later.
    pub(crate) link: String,
    /// Lifetime of the link from `lent_at` on.
    pub(crate) link_life: Duration,
    pub(crate) lent_at: Instant,
}

impl StsCredential {
    /// Reads an answer, in an envelope or flat; the error names the fault and shows no part of the answer.
    pub(crate) fn parse(value: &Value, oss_base: Option<&Url>, lent_at: Instant) -> Result<Self, &'static str> {
        let data = value.get("data").filter(|data| data.is_object()).unwrap_or(value);
        let text = |names: &[&str], missing: &'static str| {
            let found = names.iter().find_map(|name| data.get(name)?.as_str()).map(str::trim);
            found.filter(|text| !text.is_empty()).ok_or(missing)
        };
        let access_key_id = text(&["access_key_id"], "the upload credential has no key id")?;
        if !access_key_id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b',') {
            return Err("the upload credential's key id is odd");
        }
        let access_key_secret = text(&["access_key_secret"], "the upload credential has no secret")?;
        let security_token = text(&["security_token"], "the upload credential has no token")?;
        let mut security_token =
            HeaderValue::try_from(security_token).map_err(|_| "the upload credential's token fits no header")?;
        security_token.set_sensitive(true);
        let file_id = text(&["file_id"], "the upload credential has no file id")?;
        if !is_chat_id(file_id) {
            return Err("the upload credential's file id is odd");
        }
        let key = text(&["file_path"], "the upload credential has no path")?;
        let key = key.strip_prefix('/').unwrap_or(key);
        if !is_object_key(key) {
            return Err("the upload credential's path is not safe");
        }
        let bucket = text(&["bucketname", "bucket"], "the upload credential has no bucket")?;
        if !is_label(bucket) || !(3..=63).contains(&bucket.len()) {
            return Err("the upload credential's bucket is not a valid name");
        }
        let region = text(&["region"], "").unwrap_or(REGION);
        let region = region.strip_prefix("oss-").unwrap_or(region);
        if !is_label(region) {
            return Err("the upload credential's region is odd");
        }
        let mut target = match oss_base {
            Some(base) => base.clone(),
            None => storage_host(bucket, text(&["endpoint"], "the upload credential has no endpoint")?)?,
        };
        let base_path = target.path().trim_end_matches('/').to_owned();
        target.set_path(&format!("{base_path}/{}", oss_sign::key_path(key)));
        let link = text(&["file_url"], "the upload credential has no link to the file")?;
        let parsed = Url::parse(link).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let link_life = link_life(&parsed.ok_or("the link to the file is not a valid URL")?);
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            access_key_secret: SecretString::from(access_key_secret),
            security_token,
            bucket: bucket.to_owned(),
            region: region.to_owned(),
            key: key.to_owned(),
            target,
            file_id: file_id.to_owned(),
            link: link.to_owned(),
            link_life,
            lent_at,
        })
    }
}

/// The root of the bucket: https, on a host of `aliyuncs.com`, and nothing else.
fn storage_host(bucket: &str, endpoint: &str) -> Result<Url, &'static str> {
    const ELSEWHERE: &str = "the upload credential leads to a host that is not the storage's";
    let host = endpoint.strip_prefix("https://").unwrap_or(endpoint).trim_end_matches('/');
    let host = host.strip_prefix(bucket).and_then(|rest| rest.strip_prefix('.')).unwrap_or(host);
    // Labels only: what could be a port, a path or a user is not even looked at.
    let is_storage = host.strip_suffix(".aliyuncs.com").is_some_and(|name| name.split('.').all(is_label));
    if !is_storage {
        return Err(ELSEWHERE);
    }
    Url::parse(&format!("https://{bucket}.{host}/")).map_err(|_| ELSEWHERE)
}

fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A key that stays the key it is on its way through URLs.
fn is_object_key(key: &str) -> bool {
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
    let is_plain = |c: char| !c.is_control() && c != '\\';
    key.len() <= 1023 && key.split('/').all(is_segment) && key.chars().all(is_plain)
}

/// Lifetime of a signed link, from its own query.
pub(crate) fn link_life(link: &Url) -> Duration {
    let told = link.query_pairs().find(|(name, _)| name == "x-oss-expires").and_then(|(_, value)| value.parse().ok());
    Duration::from_secs(told.unwrap_or(LINK_LIFE_SECONDS)).min(LINK_LIFE_MAX)
}

/// Region of the upstream's storage, if the credential names none.
const REGION: &str = "ap-southeast-1";

/// Lifetime of a link that does not tell it, in seconds.
const LINK_LIFE_SECONDS: u64 = 300;

/// Longest credible lifetime of a link.
const LINK_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
