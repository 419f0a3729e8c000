//! The cookies of a browser: what it would send, and what a request did send.

use http::HeaderMap;
use http::header::COOKIE;
use sha2::{Digest, Sha256};

/// The `Cookie` header of a signed-in browser.
pub(crate) fn browser_jar(name: &str, user_id: &str, session: Option<&str>, refresh: Option<&str>) -> String {
    let mark = |what: &str| short_hash(&format!("{what} {name}"));
    let mut pairs = vec![
        ("cna".to_owned(), format!("{}==", mark("cna"))),
        ("_bl_uid".to_owned(), mark("bl")),
        ("cnaui".to_owned(), user_id.to_owned()),
        ("aui".to_owned(), user_id.to_owned()),
        ("sca".to_owned(), mark("sca")),
        ("xlly_s".to_owned(), "1".to_owned()),
        ("x-ap".to_owned(), REGION.to_owned()),
        ("acw_tc".to_owned(), format!("0a{}", mark("stale"))),
        ("qwen-theme".to_owned(), "light".to_owned()),
        ("qwen-locale".to_owned(), "en-US".to_owned()),
        ("atpsida".to_owned(), mark("atp")),
    ];
    if let Some(session) = session {
        pairs.push(("token".to_owned(), session.to_owned()));
    }
    if let Some(refresh) = refresh {
        pairs.push(("refresh_token".to_owned(), refresh.to_owned()));
    }
    pairs.push(("isg".to_owned(), format!("BPz8{}", mark("isg"))));
    pairs.push(("tfstk".to_owned(), format!("g{}", mark("tfstk"))));
    pairs.push(("ssxmod_itna".to_owned(), format!("1-{}", mark("itna"))));
    pairs.push(("ssxmod_itna2".to_owned(), format!("1-{}", mark("itna2"))));
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("; ")
}

/// The cookies of a request.
pub(crate) fn cookies(headers: &HeaderMap) -> Vec<(String, String)> {
    let lines = headers.get_all(COOKIE).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text);
    base16ct::lower::encode_string(digest.get(..12).unwrap_or(&digest))
}

/// The `acw_tc` that the edge of this run gives to a caller.
pub(crate) fn acw_tc(caller: Option<&str>) -> String {
    format!("ac{}", short_hash(caller.unwrap_or("guest")))
}

/// The edge region of every answer.
pub(crate) const REGION: &str = "sim-loopback";
