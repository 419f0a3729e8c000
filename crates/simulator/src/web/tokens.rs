//! JWTs as the upstream makes them, as far as a client can see: claims, end, and a signature of the right length.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Session,
    Access,
    Refresh,
}

/// The claims of a token.
pub(crate) struct Claims {
    pub(crate) user_id: String,
    pub(crate) kind: Kind,
    /// End of the token (claim `exp`), in Unix seconds.
    pub(crate) exp: u64,
}

/// The claims of a token that was made here.
pub(crate) fn read(token: &str) -> Option<Claims> {
    let (signed, signature) = token.rsplit_once('.')?;
    if signature != seal(signed) {
        return None;
    }
    let (_, payload) = signed.split_once('.')?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let kind = match claims.get("type").and_then(Value::as_str) {
        None => Kind::Session,
        Some("access_token") => Kind::Access,
        Some(_) => Kind::Refresh,
    };
    Some(Claims { user_id: claims.get("id")?.as_str()?.to_owned(), kind, exp: claims.get("exp")?.as_u64()? })
}

/// A token with these claims, signed by [`seal`].
pub(crate) fn sign(claims: &Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    let signed = format!("{header}.{payload}");
    let signature = seal(&signed);
    format!("{signed}.{signature}")
}

/// A signature of the length of HS256, as hard to guess as a simulator needs.
fn seal(signed: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("simulated upstream\0{signed}")))
}
