//! The upstream room against servers on this machine that answer as each test wants.

mod fetch;
mod oauth;
pub(crate) mod server;
mod tasks;
mod upload;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use url::Url;

use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};
use crate::base::secret::{AccessToken, Cookie};
use crate::base::session::Session;
use crate::files::attachment::{Attachment, MediaKind};
use crate::files::blob::Blob;
use crate::upstream::media::fetch::{MediaFetcher, WHOLE};
use crate::upstream::web::client::QwenWeb;
use crate::upstream::{MediaFetch, WebSettings};

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
        is_direct: true,
    })
    .unwrap()
}

fn session() -> Session {
    let cookie = Cookie::parse("token=SESSION-canary").unwrap();
    let token = AccessToken::parse("SESSION-canary", UnixSeconds(0)).unwrap();
    Session::new(IdentityId::numbered(1), CredentialKey::of("x"), Some(&cookie), Some(token))
}

/// Handlers of requests run on any thread, so all of these have to be able to move.
#[test]
fn calls_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    let upstream = web(Url::parse("http://127.0.0.1:1/").unwrap(), None);
    let session = session();
    let deadline = tokio::time::Instant::now();
    let file = Attachment {
        at: String::new(),
        name: String::new(),
        kind: MediaKind::Document,
        content_type: String::new(),
        content: Blob::from(Vec::new()),
    };
    is_send(upstream.upload(&session, &file, deadline));
    is_send(upstream.start_video(&session, &tasks::job(), &[], "c", deadline));
    is_send(upstream.task_status(&session, "t"));
    is_send(upstream.chat_detail(&session, "c"));
    let fetcher = MediaFetcher::new(MediaFetch::off(), &[]).unwrap();
    is_send(fetcher.fetch("", 1, Path::new("/"), WHOLE));
    is_send(fetcher.fetch_result("", 1));
    is_send(fetcher.open_result("", None));
}
