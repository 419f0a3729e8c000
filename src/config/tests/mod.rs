//! Configurations loaded from texts, a module for each part.

mod accounts;
mod faults;
mod keys;
mod layers;
mod page;
mod values;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::base::ids::UnixSeconds;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn env(pairs: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::empty(NOW);
    for (name, value) in pairs {
        sources.env.insert((*name).to_owned(), (*value).to_owned());
    }
    sources
}

fn file(text: &str) -> Sources {
    Sources { file: Some(text.to_owned()), ..Sources::empty(NOW) }
}

fn cookie_file(text: &str) -> Sources {
    Sources { cookie_file: Some(text.to_owned()), ..Sources::empty(NOW) }
}

fn load(sources: &Sources) -> Config {
    Config::load(sources).unwrap_or_else(|error| panic!("{error}"))
}

fn faults(sources: &Sources) -> String {
    Config::load(sources).unwrap_err().to_string()
}

/// An unsigned JWT of an account.
fn jwt(account: &str) -> String {
    let claims = format!("{{\"id\":\"{account}\",\"exp\":1800009999}}");
    format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))
}

/// The identities as text: the cookie, `+`, the account of the token.
fn identities(sources: &Sources) -> Vec<String> {
    load(sources)
        .identities
        .iter()
        .map(|seed| {
            let cookie = seed.cookie.as_ref().map_or("", |cookie| cookie.expose());
            let token = seed.token.as_ref().map_or("", |token| token.account().unwrap_or(token.expose()));
            format!("{cookie}+{token}")
        })
        .collect()
}
