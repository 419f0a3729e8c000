//! The pure parts of OAuth: the two halves of PKCE, and where an account's tokens may be sent.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use url::{Host, Url};

/// The PKCE verifier for 32 random bytes: 43 characters (RFC 7636, section 4.1).
#[must_use]
pub(crate) fn verifier(random: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(random)
}

/// The PKCE challenge of a verifier, method `S256` (RFC 7636, section 4.2).
#[must_use]
pub(crate) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// Reasons why an account's `resource_url` is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiBaseError {
    /// It is not a URL.
    #[error("the account's resource_url is not a URL")]
    NotAUrl,
    /// Tokens go over TLS, except on this machine.
    #[error("the account's resource_url is not https")]
    NotHttps,
    /// A changed file could send the token anywhere.
    #[error("the account's resource_url names a host that is neither below qwen.ai nor below aliyuncs.com")]
    ForeignHost,
}

/// Base URL of an account's API, from the `resource_url` of its credentials: a bare host or a URL, with or without
/// `/v1`.
///
/// Only hosts below `qwen.ai` and `aliyuncs.com`, this machine, and the hosts of `allowed` get a token:
/// another program that writes the file could else have it sent anywhere.
///
/// # Errors
/// [`ApiBaseError`].
pub(crate) fn api_base(resource_url: Option<&str>, allowed: &[Url]) -> Result<Url, ApiBaseError> {
    let text = resource_url.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(DEFAULT_API_BASE);
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&with_scheme).map_err(|_| ApiBaseError::NotAUrl)?;
    let host = url.host().ok_or(ApiBaseError::NotAUrl)?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    if !is_plain || url.query().is_some() || url.fragment().is_some() {
        return Err(ApiBaseError::NotAUrl);
    }
    let is_listed = allowed.iter().any(|base| base.origin() == url.origin());
    match url.scheme() {
        "https" | "http" if is_listed => {}
        "http" if is_loopback(&host) => {}
        "https" if is_loopback(&host) || is_known(&host) => {}
        "https" => return Err(ApiBaseError::ForeignHost),
        _ => return Err(ApiBaseError::NotHttps),
    }
    Ok(with_version(url))
}

/// The base with `/v1` at its end, without a slash behind it.
#[must_use]
pub(crate) fn with_version(mut url: Url) -> Url {
    let path = url.path().trim_end_matches('/').to_owned();
    let (before, last) = path.rsplit_once('/').unwrap_or(("", ""));
    let path = if last.eq_ignore_ascii_case("v1") { format!("{before}/v1") } else { format!("{path}/v1") };
    url.set_path(&path);
    url
}

fn is_known(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => KNOWN_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)),
        Host::Ipv4(_) | Host::Ipv6(_) => false,
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

/// Base URL for OAuth accounts whose credentials name none.
pub(crate) const DEFAULT_API_BASE: &str = "https://portal.qwen.ai/v1";
const KNOWN_SUFFIXES: [&str; 2] = [".qwen.ai", ".aliyuncs.com"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pkce() {
        // RFC 7636, appendix B.
        let random: [u8; 32] = [
            116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186, 22, 212, 37, 77, 105, 214, 191,
            240, 91, 88, 5, 88, 83, 132, 141, 121,
        ];
        let text = verifier(&random);
        assert_eq!(text, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge(&text), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn where_an_account_chats() {
        let allowed =
            [Url::parse("https://gateway.example:8443/x").unwrap(), Url::parse("http://10.0.0.5:9000/").unwrap()];
        let check = |text: Option<&str>, expected: Result<&str, ApiBaseError>| {
            let found = api_base(text, &allowed);
            assert_eq!(found.as_ref().map(Url::as_str).map_err(|error| *error), expected, "{text:?}");
        };
        let portal = Ok("https://portal.qwen.ai/v1");
        for text in [
            "portal.qwen.ai",
            "portal.qwen.ai/",
            "https://portal.qwen.ai",
            "https://portal.qwen.ai///",
            "HTTPS://portal.qwen.ai/v1/",
            " portal.qwen.ai/v1 ",
            "PORTAL.qwen.ai/V1//",
            "https://portal.qwen.ai:443",
            "",
            " ",
        ] {
            check(Some(text), portal);
        }
        check(None, portal);
        check(
            Some("dashscope.aliyuncs.com/compatible-mode/v1"),
            Ok("https://dashscope.aliyuncs.com/compatible-mode/v1"),
        );
        check(
            Some("https://dashscope.aliyuncs.com/compatible-mode/"),
            Ok("https://dashscope.aliyuncs.com/compatible-mode/v1"),
        );
        check(Some("http://127.0.0.1:8080"), Ok("http://127.0.0.1:8080/v1"));
        check(Some("http://localhost:8080/v1"), Ok("http://localhost:8080/v1"));
        check(Some("http://[::1]:8080/v12"), Ok("http://[::1]:8080/v12/v1"));
        check(Some("https://gateway.example:8443"), Ok("https://gateway.example:8443/v1"));
        check(Some("http://10.0.0.5:9000/a"), Ok("http://10.0.0.5:9000/a/v1"));
        for foreign in [
            "evil.example",
            "https://evil.example/portal.qwen.ai",
            "qwen.ai.evil.example",
            "evilqwen.ai",
            "qwen.ai",
            "portal.qwen.ai.",
            "gateway.example",
            "https://gateway.example:8444",
            "1.2.3.4",
            "169.254.169.254",
        ] {
            check(Some(foreign), Err(ApiBaseError::ForeignHost));
        }
        for plain in ["http://portal.qwen.ai", "http://10.0.0.5:9001", "ftp://portal.qwen.ai", "http://evil.example"] {
            check(Some(plain), Err(ApiBaseError::NotHttps));
        }
        for nothing in [
            "https://",
            "https://user@portal.qwen.ai",
            "portal.qwen.ai@evil.example",
            "https://portal.qwen.ai/?x=1",
            "portal.qwen.ai#x",
            "file:///etc/passwd",
            "a b",
        ] {
            check(Some(nothing), Err(ApiBaseError::NotAUrl));
        }
    }
}
