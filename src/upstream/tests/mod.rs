//! The upstream room against servers on this machine that answer as each test wants.

mod server;
mod tasks;
mod upload;

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::secret::{AccessToken, Cookie};
use crate::base::session::Session;
use crate::upstream::WebSettings;
use crate::upstream::qwen_web::QwenWeb;

fn web(web_base: Url, oss_base: Option<Url>) -> QwenWeb {
    let second = Duration::from_secs(1);
    QwenWeb::new(WebSettings {
        auth_base: web_base.clone(),
        web_base,
        oss_base,
        headers: BTreeMap::new(),
        connect_timeout: 5 * second,
        first_event_timeout: 5 * second,
        idle_timeout: 5 * second,
        total_timeout: 5 * second,
    })
    .unwrap()
}

fn session() -> Session {
    let cookie = Cookie::parse("token=SESSION-canary").unwrap();
    let token = AccessToken::parse("SESSION-canary", UnixSeconds(0)).unwrap();
    Session::new(IdentityId::numbered(1), CredentialKey::of("x"), Some(&cookie), Some(token))
}
