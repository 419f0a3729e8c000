//! Signatures of the object storage, versions 1 and 4, as its public documentation describes them.
//!
//! The server under test signs with code of its own; nothing is shared, so that a mistake cannot agree with itself.

use base16ct::lower::encode_string;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::errors::OssError;

/// A request to the object storage, as far as it is signed.
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    pub(crate) bucket: &'a str,
    /// The object's key, not encoded.
    pub(crate) key: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// Names that the client may have signed as `host`, beside the one it sent.
    pub(crate) host: &'a str,
    /// Current time in Unix seconds, compared with the date that was signed.
    pub(crate) now: i64,
}

/// The content of a signed link for reading.
pub(crate) struct Link<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    pub(crate) access_key: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) token: &'a str,
    /// Date of the signature (`x-oss-date`), in Unix seconds.
    pub(crate) signed_at: i64,
    /// Lifetime of the link from `signed_at` on (`x-oss-expires`), in seconds.
    pub(crate) expires: u64,
}

/// The access key id that a request says it is signed with, in either version.
pub(crate) fn access_key(headers: &HeaderMap) -> Option<&str> {
    let authorization = authorization(headers)?;
    if let Some(fields) = authorization.strip_prefix(V4) {
        return field(fields, "Credential")?.split('/').next();
    }
    Some(authorization.strip_prefix(V1)?.split_once(':')?.0)
}

/// Whether the signature of a request is the one that this secret makes.
///
/// # Errors
/// The error that the object storage would answer.
pub(crate) fn check(request: &Signed<'_>, secret: &str) -> Result<(), OssError> {
    let authorization = authorization(request.headers).ok_or(OssError::ACCESS_DENIED)?;
    match (authorization.strip_prefix(V4), authorization.strip_prefix(V1)) {
        (Some(fields), _) => check_v4(request, fields, secret),
        (None, Some(fields)) => check_v1(request, fields, secret),
        (None, None) => Err(OssError::INVALID_ARGUMENT),
    }
}

/// The query of a link that allows reading one object, without credentials, until it expires.
pub(crate) fn presigned(link: &Link<'_>) -> String {
    let stamp = stamp(link.signed_at);
    let day = stamp.get(..8).unwrap_or_default();
    let scope = format!("{day}/{REGION}/oss/aliyun_v4_request");
    let pairs = [
        ("x-oss-security-token", link.token.to_owned()),
        ("x-oss-date", stamp.clone()),
        ("x-oss-expires", link.expires.to_string()),
        ("x-oss-signature-version", "OSS4-HMAC-SHA256".to_owned()),
        ("x-oss-credential", format!("{}/{scope}", link.access_key)),
    ];
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value, false))).collect();
    let query = pairs.join("&");
    let mut sorted = pairs;
    sorted.sort_unstable();
    let uri = canonical_uri(link.bucket, link.key);
    let canonical = format!("GET\n{uri}\n{}\n\n\n{UNSIGNED}", sorted.join("&"));
    let signature = sign_v4(link.secret, &stamp, &scope, &canonical);
    format!("{query}&x-oss-signature={signature}")
}

fn check_v4(request: &Signed<'_>, fields: &str, secret: &str) -> Result<(), OssError> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    if header("x-oss-content-sha256") != Some(UNSIGNED) {
        return Err(OssError::INVALID_ARGUMENT);
    }
    let stamp = header("x-oss-date").ok_or(OssError::ACCESS_DENIED)?;
    let signed_at = DateTime::strptime("%Y%m%dT%H%M%SZ", stamp)
        .and_then(|date| date.to_zoned(TimeZone::UTC))
        .map_err(|_| OssError::ACCESS_DENIED)?;
    on_time(signed_at.timestamp().as_second(), request.now)?;
    let (Some(credential), Some(signature)) = (field(fields, "Credential"), field(fields, "Signature")) else {
        return Err(OssError::INVALID_ARGUMENT);
    };
    let (_, scope) = credential.split_once('/').ok_or(OssError::INVALID_ARGUMENT)?;
    let day = stamp.get(..8).unwrap_or_default();
    if scope != format!("{day}/{REGION}/oss/aliyun_v4_request") {
        return Err(OssError::INVALID_ARGUMENT);
    }
    let mut additional: Vec<_> = field(fields, "AdditionalHeaders").unwrap_or_default().split(';').collect();
    additional.retain(|name| !name.is_empty());
    let is_sorted = additional.windows(2).all(|pair| pair.first() < pair.last());
    let is_lower = additional.iter().all(|name| **name == name.to_ascii_lowercase());
    if !is_sorted || !is_lower {
        return Err(OssError::INVALID_ARGUMENT);
    }
    // The simulator stands where the bucket's own host would, so a signed host may be either of the two.
    let hosts = [header("host").unwrap_or_default(), request.host];
    let is_good = hosts.iter().any(|host| {
        let canonical = v4_canonical(request, "", &additional, host);
        sign_v4(secret, stamp, scope, &canonical) == signature
    });
    if is_good { Ok(()) } else { Err(OssError::SIGNATURE) }
}

/// The canonical request: of its headers `content-type`, `content-md5`, all of `x-oss-` and the additional ones.
fn v4_canonical(request: &Signed<'_>, query: &str, additional: &[&str], host: &str) -> String {
    let mut headers = lines(request.headers, |name| {
        let is_standard = name == "content-type" || name == "content-md5" || name.starts_with("x-oss-");
        is_standard || (additional.contains(&name) && name != "host")
    });
    if additional.contains(&"host") {
        headers.push(("host".to_owned(), host.to_owned()));
    }
    let uri = canonical_uri(request.bucket, request.key);
    format!("{}\n{uri}\n{query}\n{}\n{}\n{UNSIGNED}", request.method, joined(headers), additional.join(";"))
}

/// Names in lower case and values of the headers whose name `is_it` accepts.
fn lines(headers: &HeaderMap, is_it: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let wanted = headers.iter().filter(|(name, _)| is_it(name.as_str()));
    wanted.map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()).trim().to_owned())).collect()
}

/// A line each, in the alphabetical order of their names.
fn joined(mut headers: Vec<(String, String)>) -> String {
    headers.sort_unstable();
    headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect()
}

fn sign_v4(secret: &str, stamp: &str, scope: &str, canonical: &str) -> String {
    let hash = encode_string(&Sha256::digest(canonical));
    let text = format!("OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{hash}");
    let first = format!("aliyun_v4{secret}").into_bytes();
    let key = scope.split('/').fold(first, |key, part| hmac_sha256(&key, part));
    encode_string(&hmac_sha256(&key, &text))
}

fn check_v1(request: &Signed<'_>, fields: &str, secret: &str) -> Result<(), OssError> {
    let header = |name: &str| request.headers.get(name).map_or_else(String::new, |value| text(value.as_bytes()));
    let date = header("date");
    let signed_at = httpdate::parse_http_date(&date).map_err(|_| OssError::ACCESS_DENIED)?;
    let signed_at = Timestamp::try_from(signed_at).map_err(|_| OssError::ACCESS_DENIED)?;
    on_time(signed_at.as_second(), request.now)?;
    let own = joined(lines(request.headers, |name| name.starts_with("x-oss-")));
    let (method, bucket, key) = (request.method, request.bucket, request.key);
    let (digest, kind) = (header("content-md5"), header("content-type"));
    let canonical = format!("{method}\n{digest}\n{kind}\n{date}\n{own}/{bucket}/{key}");
    let expected = STANDARD.encode(hmac_sha1(secret, &canonical));
    let given = fields.split_once(':').map(|(_, signature)| signature);
    if given == Some(&*expected) { Ok(()) } else { Err(OssError::SIGNATURE) }
}

fn on_time(signed_at: i64, now: i64) -> Result<(), OssError> {
    if now.abs_diff(signed_at) > SKEW_SECONDS_MAX { Err(OssError::SKEWED) } else { Ok(()) }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()
}

fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = fields.split(',').filter_map(|field| field.trim().split_once('='));
    fields.find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn canonical_uri(bucket: &str, key: &str) -> String {
    encoded(&format!("/{bucket}/{key}"), true)
}

fn stamp(seconds: i64) -> String {
    let at = Timestamp::from_second(seconds).unwrap_or_default();
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key);
    mac.map_or_else(|_| Vec::new(), |mac| mac.chain_update(text).finalize().into_bytes().to_vec())
}

fn hmac_sha1(key: &str, text: &str) -> Vec<u8> {
    let mac = Hmac::<Sha1>::new_from_slice(key.as_bytes());
    mac.map_or_else(|_| Vec::new(), |mac| mac.chain_update(text).finalize().into_bytes().to_vec())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Percent-encoded: everything but letters, digits and `-_.~`, and slashes if they are to stay.
pub(crate) fn encoded(text: &str, keeps_slashes: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (keeps_slashes && byte == b'/');
        if is_plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The text behind percent-encoding; a `+` is a plus.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let pair = (byte == b'%').then(|| Some((digit(ahead.next()?)?, digit(ahead.next()?)?))).flatten();
        if let Some((high, low)) = pair {
            bytes.push(high << 4 | low);
            rest = ahead;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

const V4: &str = "OSS4-HMAC-SHA256 ";
const V1: &str = "OSS ";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const REGION: &str = "ap-southeast-1";

/// Largest difference between the signed date and the current time, in seconds.
const SKEW_SECONDS_MAX: u64 = 15 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_its_encoding() {
        let name = "u-1/f_Bild 1+2 (ü).png";
        assert_eq!(encoded(name, true), "u-1/f_Bild%201%2B2%20%28%C3%BC%29.png");
        assert_eq!(decoded(&encoded(name, false)), name);
        assert_eq!(decoded("100%_%4"), "100%_%4");
    }

    // Requests and signatures of the public tests of Aliyun's own SDKs.
    #[test]
    fn version_4_makes_the_published_signatures() {
        let query = "%2Bparam1=value3&%2Bparam2&%7Cparam1=value4&%7Cparam2&param1=value1&param2";
        for (stamp, token, additional, expected) in [
            ("20231216T162057Z", None, &[][..], "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"),
            (
                "20231217T034736Z",
                Some("token"),
                &[],
                "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea",
            ),
            (
                "20231216T172512Z",
                None,
                &["abc", "zabc"],
                "4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f",
            ),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("x-oss-head1", "value"),
                ("abc", "value"),
                ("zabc", "value"),
                ("xyz", "value"),
                ("content-type", "text/plain"),
                ("x-oss-content-sha256", UNSIGNED),
                ("x-oss-date", stamp),
            ] {
                headers.insert(name, value.parse().unwrap());
            }
            if let Some(token) = token {
                headers.insert("x-oss-security-token", token.parse().unwrap());
            }
            let key = "1234+-/123/1.txt";
            let request = Signed { method: "PUT", bucket: "bucket", key, headers: &headers, host: "", now: 0 };
            let scope = format!("{}/cn-hangzhou/oss/aliyun_v4_request", stamp.split('T').next().unwrap());
            let canonical = v4_canonical(&request, query, additional, "");
            assert_eq!(sign_v4("sk", stamp, &scope, &canonical), expected);
        }
    }

    // The example of Aliyun's page on V1 signatures, which has no security token.
    #[test]
    fn version_1_makes_the_published_signature() {
        let canonical = "PUT\nODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM=\ntext/html\nThu, 17 Nov 2005 18:49:58 \
                         GMT\nx-oss-magic:abracadabra\nx-oss-meta-author:foo@bar.com\n/oss-example/nelson";
        let signature = STANDARD.encode(hmac_sha1("OtxrzxIsfpFjA7SwPzILwy8Bw21TLhquhboDYROV", canonical));
        assert_eq!(signature, "26NBxoKdsyly4EDv6inkoDft/yA=");
    }
}
