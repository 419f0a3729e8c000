//! Signatures of the object storage, version 4, as a pure function.
//!
//! The scheme is Alibaba Cloud's `OSS4-HMAC-SHA256`; the tests check it against the vendor's own examples. Moment,
//! headers and credential are arguments, the `Authorization` header is the result.

use base16ct::lower::encode_string;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::base::ids::UnixSeconds;

/// Value of `x-oss-content-sha256` for a body outside the signature: it is streamed, and TLS protects it.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The parts of a request that are signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signable<'a> {
    /// HTTP method, such as `PUT`.
    pub method: &'a str,
    /// The bucket, even if the request goes to another host.
    pub bucket: &'a str,
    /// The object's key, not encoded, without a leading slash.
    pub key: &'a str,
    /// Names and values of the query, not encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// The headers of the request. Those that have to be signed (`content-type`, `content-md5`, `x-oss-…`) are
    /// found by their names.
    pub headers: &'a HeaderMap,
    /// Other headers to sign, in lower case; those that the request does not have are left out.
    pub additional: &'a [&'a str],
    /// Region without `oss-`, such as `ap-southeast-1`.
    pub region: &'a str,
    /// Time of the signature, the one in `x-oss-date`.
    pub at: UnixSeconds,
}

/// The moment as `x-oss-date` wants it, as `20260304T065915Z`.
#[must_use]
pub(crate) fn date(at: UnixSeconds) -> String {
    let moment = jiff::Timestamp::from_second(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    moment.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A key as the path of an URL, without a leading slash: slashes stay, and all but `A-Za-z0-9-._~` is encoded.
#[must_use]
pub(crate) fn key_path(key: &str) -> String {
    utf8_percent_encode(key, PATH).to_string()
}

/// The value of `Authorization`. It holds no secret, but lets its holder repeat the request until it expires.
#[must_use]
pub(crate) fn authorization(signable: &Signable<'_>, access_key_id: &str, access_key_secret: &SecretString) -> String {
    let moment = date(signable.at);
    let day = moment.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{PRODUCT}/{REQUEST}", signable.region);
    let mut additional: Vec<&str> = signable.additional.to_vec();
    additional.retain(|name| !is_always_signed(name) && signable.headers.contains_key(*name));
    additional.sort_unstable();
    additional.dedup();
    let additional = additional.join(";");
    let canonical = canonical_request(signable, &additional);
    let digest = encode_string(&Sha256::digest(canonical));
    let text = format!("{ALGORITHM}\n{moment}\n{scope}\n{digest}");

    let mut key = mac(format!("aliyun_v4{}", access_key_secret.expose_secret()).as_bytes(), day);
    for part in [signable.region, PRODUCT, REQUEST] {
        key = mac(&key, part);
    }
    let signature = encode_string(&mac(&key, &text));
    let separator = if additional.is_empty() { "" } else { ",AdditionalHeaders=" };
    format!("{ALGORITHM} Credential={access_key_id}/{scope}{separator}{additional},Signature={signature}")
}

fn canonical_request(signable: &Signable<'_>, additional: &str) -> String {
    let Signable { method, bucket, key, headers, .. } = signable;
    let encoded = |text: &str| utf8_percent_encode(text, COMPONENT).to_string();
    let mut query: Vec<(String, String)> =
        signable.query.iter().map(|(name, value)| (encoded(name), encoded(value))).collect();
    query.sort_unstable();
    let query: Vec<String> = query
        .into_iter()
        .map(|(name, value)| if value.is_empty() { name } else { format!("{name}={value}") })
        .collect();

    let mut names: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
    names.retain(|name| is_always_signed(name) || additional.split(';').any(|more| more == *name));
    names.sort_unstable();
    let mut lines = String::new();
    for name in names {
        let values: Vec<&str> =
            headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default().trim()).collect();
        lines.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    let payload = headers.get("x-oss-content-sha256").and_then(|value| value.to_str().ok());
    format!(
        "{method}\n/{}/{}\n{}\n{lines}\n{additional}\n{}",
        encoded(bucket),
        key_path(key),
        query.join("&"),
        payload.unwrap_or(UNSIGNED_PAYLOAD)
    )
}

fn is_always_signed(name: &str) -> bool {
    name == CONTENT_TYPE.as_str() || name == "content-md5" || name.starts_with("x-oss-")
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

const ALGORITHM: &str = "OSS4-HMAC-SHA256";
const PRODUCT: &str = "oss";
const REQUEST: &str = "aliyun_v4_request";
/// Characters encoded in names and values: all but the unreserved ones of RFC 3986.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &COMPONENT.remove(b'/');

#[cfg(test)]
mod tests {
    use super::*;

    /// The vendor's examples: alibabacloud-oss-go-sdk-v2, `oss/signer/signer_test.go`, and
    /// alibabacloud-oss-python-sdk-v2, `tests/unit/signer/test_v4.py`. All have this query, key and set of headers.
    fn check(at: i64, token: Option<&'static str>, additional: &[&str], expected: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-oss-head1", "value"),
            ("abc", "value"),
            ("zabc", "value"),
            ("xyz", "value"),
            ("content-type", "text/plain"),
            ("x-oss-content-sha256", UNSIGNED_PAYLOAD),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers.insert("x-oss-date", date(UnixSeconds(at)).parse().unwrap());
        if let Some(token) = token {
            headers.insert("x-oss-security-token", token.parse().unwrap());
        }
        let signable = Signable {
            method: "PUT",
            bucket: "bucket",
            key: "1234+-/123/1.txt",
            query: &[
                ("param1", "value1"),
                ("+param1", "value3"),
                ("|param1", "value4"),
                ("+param2", ""),
                ("|param2", ""),
                ("param2", ""),
            ],
            headers: &headers,
            additional,
            region: "cn-hangzhou",
            at: UnixSeconds(at),
        };
        assert_eq!(authorization(&signable, "ak", &SecretString::from("sk")), expected);
    }

    #[test]
    fn the_vendors_examples() {
        check(
            1_702_743_657,
            None,
            &[],
            "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,\
             Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe",
        );
        check(
            1_702_784_856,
            Some("token"),
            &[],
            "OSS4-HMAC-SHA256 Credential=ak/20231217/cn-hangzhou/oss/aliyun_v4_request,\
             Signature=b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea",
        );
        let with_headers = "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,\
             AdditionalHeaders=abc;zabc,\
             Signature=4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f";
        check(1_702_747_512, None, &["zabc", "abc"], with_headers);
        check(1_702_747_512, None, &["x-oss-no-exist", "zabc", "x-oss-head1", "abc"], with_headers);
    }

    #[test]
    fn moments_and_paths() {
        assert_eq!(date(UnixSeconds(1_702_785_388)), "20231217T035628Z");
        for (key, path) in [
            ("u/1_a b.png", "u/1_a%20b.png"),
            ("u/1_ä+?.png", "u/1_%C3%A4%2B%3F.png"),
            ("u/1_a-b.c_d~e", "u/1_a-b.c_d~e"),
        ] {
            assert_eq!(key_path(key), path);
        }
    }
}
