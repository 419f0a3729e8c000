//! Everything the two listeners share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, RANGE};
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api::oauth::OAuth;
use crate::record::{Journal, SiteHost};
use crate::script::queues::{Scripts, Stage};
use crate::script::{Bench, Endpoint, PortalScript, Scenario, ScriptedReply};
use crate::storage::oss_signature::access_key;
use crate::storage::uploads::Uploads;
use crate::web::accounts::{Account, Accounts, Caller};
use crate::web::chats::Chats;
use crate::web::works::media::Media;
use crate::web::works::tasks::Tasks;

/// Everything the two listeners share.
pub(crate) struct World {
    pub(crate) pace_ms: u64,
    pub(crate) page_size: usize,
    pub(crate) accounts: Accounts,
    pub(crate) oauth: OAuth,
    pub(crate) portal: Mutex<PortalScript>,
    pub(crate) chats: Arc<Chats>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) scripts: Scripts,
    pub(crate) uploads: Uploads,
    pub(crate) media: Media,
    media_base: Option<String>,
    /// Seconds by which the `Date` of answers is ahead of this machine's clock.
    pub(crate) clock_ahead_seconds: i64,
    /// Whether the model makes conversation (`small_talk` of the scenario).
    pub(crate) small_talk: bool,
    pub(crate) tasks: Tasks,
    pub(crate) settings: Mutex<HashMap<Arc<str>, Value>>,
    pub(crate) benches: Mutex<HashMap<Bench, BenchStream>>,
}

/// The packets that all streams of one bench script share.
#[derive(Clone)]
pub(crate) struct BenchStream {
    pub(crate) response_id: String,
    pub(crate) packets: Arc<[Bytes]>,
}

/// One request with its body and its sender.
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) host: SiteHost,
    pub(crate) method: http::Method,
    /// Request target: path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) request_id: String,
    pub(crate) caller: Caller,
    /// Name of the OAuth account or key of the request, at the endpoints that take them.
    pub(crate) guest: Option<Arc<str>>,
}

impl World {
    /// `chat` is where the chat host listens.
    pub(crate) fn new(scenario: &Scenario, chat: SocketAddr, stop: CancellationToken) -> Self {
        let accounts = Accounts::new(&scenario.accounts);
        let linger = Duration::from_millis(scenario.busy_after_close_ms);
        let chats = Chats::new(linger);
        for account in accounts.all() {
            for place in 0..account.script.old_chats {
                chats.create_old(&account.name, place);
            }
        }
        Self {
            pace_ms: scenario.pace_ms,
            page_size: scenario.page_size,
            accounts,
            oauth: OAuth::new(&scenario.oauth_accounts, &scenario.keys, format!("http://{chat}{PORTAL}")),
            portal: Mutex::new(scenario.portal.clone()),
            chats: Arc::new(chats),
            journal: Arc::new(Journal::new(scenario.records_max.max(1), stop)),
            scripts: Scripts::new(scenario),
            uploads: Uploads::default(),
            media: Media::default(),
            media_base: scenario.media_base.as_ref().map(|base| base.trim_end_matches('/').to_owned()),
            clock_ahead_seconds: scenario.clock_ahead_seconds,
            small_talk: scenario.small_talk,
            tasks: Tasks::default(),
            settings: Mutex::default(),
            benches: Mutex::default(),
        }
    }

    /// The scripted reply for this call, if there is one.
    pub(crate) fn reply(&self, call: &Call, endpoint: Endpoint, stage: Stage) -> Option<Arc<ScriptedReply>> {
        self.scripts.take(call.account_name(), endpoint, stage)
    }

    /// Base URL of links to generated pictures and videos: the scenario's `media_base`, else this host.
    pub(crate) fn media_base(&self, call: &Call) -> String {
        self.media_base.clone().unwrap_or_else(|| {
            let host = call.headers.get(HOST).and_then(|value| value.to_str().ok());
            format!("http://{}", host.unwrap_or("127.0.0.1"))
        })
    }

    /// The account of a request without a credential of the site: the owner of the requested object.
    pub(crate) fn owner(&self, endpoint: Endpoint, path: &str, headers: &HeaderMap) -> Option<Arc<Account>> {
        match endpoint {
            Endpoint::OssPut => {
                let grant = self.uploads.by_access_key(access_key(headers)?)?;
                Some(Arc::clone(&grant.account))
            }
            Endpoint::MediaLink => self.media.owner(path.split('?').next()?),
            _ => None,
        }
    }

    /// Name of the OAuth account or key of a call, at the endpoints that take them.
    pub(crate) fn guest(&self, endpoint: Endpoint, call: &Call) -> Option<Arc<str>> {
        match endpoint {
            Endpoint::DeviceToken => self.oauth.flow_owner(&call.form("device_code")?),
            Endpoint::RefreshToken => self.oauth.owner(&call.form("refresh_token")?),
            _ if endpoint.is_api() => {
                let bearer = call.bearer()?;
                let key = self.oauth.key_owner(bearer).map(|key| key.name.as_str().into());
                key.or_else(|| self.oauth.owner(bearer))
            }
            _ => None,
        }
    }

    pub(crate) fn violation(&self, call: &Call, text: &str) {
        let path = call.bare_path();
        let (number, method) = (call.number, &call.method);
        let violation = format!("request {number}, {method} {path}: {text}");
        self.journal.violation(violation);
    }
}

impl Call {
    pub(crate) fn bare_path(&self) -> &str {
        self.path.split('?').next().unwrap_or(&self.path)
    }

    /// The id at the end of the path.
    pub(crate) fn last_segment(&self) -> &str {
        let path = self.bare_path().trim_end_matches('/');
        path.rsplit('/').next().unwrap_or_default()
    }

    /// Value of the `Range` header.
    pub(crate) fn range(&self) -> Option<&str> {
        self.headers.get(RANGE)?.to_str().ok()
    }

    /// Whether this is one of the older routes, which have no envelope.
    pub(crate) fn is_v1(&self) -> bool {
        self.path.starts_with("/api/v1/")
    }

    /// The value of a query parameter.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.path.split_once('?')?;
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The first value of a form field.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        let mut fields = url::form_urlencoded::parse(&self.body);
        fields.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    }

    /// Token of the `Authorization: Bearer` header; `None` without one.
    pub(crate) fn bearer(&self) -> Option<&str> {
        self.headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
    }

    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    pub(crate) fn has(&self, header: &str) -> bool {
        self.headers.contains_key(header)
    }

    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        self.caller.account.as_ref()
    }

    pub(crate) fn account_name(&self) -> Option<&str> {
        let guest = self.guest.as_deref();
        guest.or_else(|| self.account().map(|account| &*account.name))
    }
}

/// Path of the portal on the chat host of this run.
pub(crate) const PORTAL: &str = "/portal/v1";

/// Path of the endpoint of static keys.
pub(crate) const KEYS: &str = "/key/v1";
