//! The parts of a running simulator that tests and commands use, in groups: addresses, credentials, script, record,
//! stored things. Each group borrows the simulator; creating one costs nothing.

use std::net::SocketAddr;
use std::time::Duration;

use url::Url;

use crate::api::oauth::TokenLife;
use crate::record::{CallCounts, RecordedRequest};
use crate::script::{Endpoint, PortalScript, ScriptedReply};
use crate::storage::uploads::UploadView;
use crate::web::chats::ChatView;
use crate::web::works::tasks::TaskView;
use crate::world::{KEYS, PORTAL, World};

/// The base URL of each simulated host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urls {
    /// In place of `https://chat.qwen.ai`; the OAuth endpoints are here as well.
    pub web: Url,
    /// In place of `https://auth.qwen.ai`.
    pub auth: Url,
    /// In place of the object storage: the path is an object's key, percent-encoded.
    pub storage: Url,
    /// In place of `https://portal.qwen.ai/v1`.
    pub portal: Url,
    /// In place of `https://dashscope.aliyuncs.com/compatible-mode/v1` and of the hosts of the plans.
    pub keys: Url,
}

impl Urls {
    pub(crate) fn new(chat: SocketAddr, auth: SocketAddr) -> Self {
        Self {
            web: parsed(chat, "/"),
            auth: parsed(auth, "/"),
            storage: parsed(chat, "/"),
            portal: parsed(chat, PORTAL),
            keys: parsed(chat, KEYS),
        }
    }
}

/// The accounts of the web chat, by name.
#[derive(Clone, Copy)]
pub struct WebAccounts<'a> {
    world: &'a World,
}

impl<'a> WebAccounts<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world }
    }

    /// All names, in the order of the scenario.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.world.accounts.all().iter().map(|account| account.name.to_string()).collect()
    }

    /// The `Cookie` header that a signed-in browser would send now; empty for an unknown account.
    #[must_use]
    pub fn cookie(self, account: &str) -> String {
        self.world.accounts.cookie(account).unwrap_or_default()
    }

    /// A Bearer token: the session token in era A, the newest access token in era B, minted if it has none. Empty
    /// for an unknown account.
    #[must_use]
    pub fn bearer(self, account: &str) -> String {
        self.world.accounts.bearer(account).unwrap_or_default()
    }

    /// The upstream's id of the account; empty for an unknown one.
    #[must_use]
    pub fn user_id(self, account: &str) -> String {
        let account = self.world.accounts.find(account);
        account.map_or_else(String::new, |account| account.user_id.clone())
    }

    /// Ends all session and access tokens given so far. Refresh tokens stay good.
    pub fn expire(self, account: &str) {
        self.world.accounts.expire(account);
    }

    /// Refuses every credential of the account, as after a sign-out elsewhere, or accepts them again.
    pub fn set_revoked(self, account: &str, is_revoked: bool) {
        self.world.accounts.set_revoked(account, is_revoked);
    }

    /// Ends the signed links to uploaded files given so far, which normally live for five minutes.
    pub fn expire_links(self, account: &str) {
        self.world.uploads.expire_links(account);
    }
}

/// The OAuth accounts by name, their device logins, and the portal that takes their tokens.
#[derive(Clone, Copy)]
pub struct OAuthAccounts<'a> {
    world: &'a World,
}

impl<'a> OAuthAccounts<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world }
    }

    /// All names, in the order of the scenario.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.world.oauth.accounts()
    }

    /// The text of an `oauth_creds.json` whose access token lives as long as `life` says, with a good refresh token;
    /// empty for an unknown account.
    #[must_use]
    pub fn credentials(self, account: &str, life: TokenLife) -> String {
        let credentials = self.world.oauth.credentials(account, life);
        credentials.map_or_else(String::new, |credentials| format!("{credentials:#}"))
    }

    /// The user codes of the device logins that are neither decided nor expired, oldest first.
    #[must_use]
    pub fn user_codes(self) -> Vec<String> {
        self.world.oauth.user_codes()
    }

    /// Approves a device login for this account; `false` if no login shows this code.
    pub fn approve(self, user_code: &str, account: &str) -> bool {
        self.world.oauth.decide(user_code, Some(account))
    }

    /// Denies a device login; `false` if no login shows this code.
    pub fn deny(self, user_code: &str) -> bool {
        self.world.oauth.decide(user_code, None)
    }

    /// Ends all access tokens given so far. Refresh tokens stay good.
    pub fn expire(self, account: &str) {
        self.world.oauth.expire(account);
    }

    /// Refuses every token of the account, or accepts them again.
    pub fn set_revoked(self, account: &str, is_revoked: bool) {
        self.world.oauth.set_revoked(account, is_revoked);
    }

    /// Changes how the portal behaves towards every account.
    pub fn set_portal(self, portal: PortalScript) {
        *self.world.portal.lock() = portal;
    }
}

/// The static keys, by name.
#[derive(Clone, Copy)]
pub struct StaticKeys<'a> {
    world: &'a World,
}

impl<'a> StaticKeys<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world }
    }

    /// All names, in the order of the scenario.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.world.oauth.keys()
    }

    /// The key itself, `sk-…`; empty for an unknown name.
    #[must_use]
    pub fn secret(self, name: &str) -> String {
        self.world.oauth.key(name).unwrap_or_default()
    }

    /// Refuses the key, or accepts it again.
    pub fn set_revoked(self, name: &str, is_revoked: bool) {
        self.world.oauth.set_revoked(name, is_revoked);
    }
}

/// The replies that are still to come. An account, OAuth account or key is named by `Some`; `None` means any caller.
#[derive(Clone, Copy)]
pub struct Script<'a> {
    world: &'a World,
}

impl<'a> Script<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world }
    }

    /// Queues one reply. Queues of an account are used up before those of any caller.
    pub fn queue(self, account: Option<&str>, endpoint: Endpoint, reply: ScriptedReply) {
        self.world.scripts.push(account, endpoint, reply);
    }

    /// Sets the reply that is given while no queue has one; `None` restores the built-in answer.
    pub fn set_default(self, account: Option<&str>, endpoint: Endpoint, reply: Option<ScriptedReply>) {
        self.world.scripts.set_default(account, endpoint, reply);
    }

    /// The number of queued replies that were not used yet.
    #[must_use]
    pub fn left(self) -> usize {
        self.world.scripts.left()
    }
}

/// The requests so far, and what was wrong with them.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    world: &'a World,
}

impl<'a> Record<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world }
    }

    /// The remembered requests (at most the scenario's `records_max`), oldest first, in their present state.
    #[must_use]
    pub fn requests(self) -> Vec<RecordedRequest> {
        self.world.journal.requests()
    }

    /// The requests to one endpoint, oldest first.
    #[must_use]
    pub fn requests_to(self, endpoint: Endpoint) -> Vec<RecordedRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.endpoint == Some(endpoint));
        requests
    }

    /// Waits for the first request, past or to come, for which the test returns `true`; `None` after `within`. The
    /// test must not call [`Record::requests`], which takes the same lock.
    pub async fn wait_until(
        self,
        is_it: impl FnMut(&RecordedRequest) -> bool,
        within: Duration,
    ) -> Option<RecordedRequest> {
        self.world.journal.wait_until(is_it, within).await
    }

    /// The call counts at this moment, from the start of the run.
    #[must_use]
    pub fn counts(self) -> CallCounts {
        self.world.journal.counters()
    }

    /// Waits until the test returns `true` for the counts; `None` after `within`.
    pub async fn wait_for_counts(self, is_it: impl FnMut(&CallCounts) -> bool, within: Duration) -> Option<CallCounts> {
        self.world.journal.wait_for_counters(is_it, within).await
    }

    /// Violations, one line each, which no correct client causes: credentials of two accounts in one request, forged
    /// headers, deleted chats of the account's owner, …
    #[must_use]
    pub fn violations(self) -> Vec<String> {
        self.world.journal.violations()
    }

    /// Links to pictures of other sites that came with messages.
    #[must_use]
    pub fn foreign_links(self) -> Vec<String> {
        self.world.uploads.foreign_links()
    }

    /// Every token, key, code and upload credential given so far, for tests that look for leaks.
    #[must_use]
    pub fn secrets(self) -> Vec<String> {
        let mut secrets = self.world.accounts.tokens();
        secrets.extend(self.world.uploads.secrets());
        secrets.extend(self.world.oauth.secrets());
        secrets
    }
}

/// The chats, files and videos that the simulated site keeps.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    world: &'a World,
}

impl<'a> Stored<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world }
    }

    /// The chats of one account, or of all, in the order of their creation.
    #[must_use]
    pub fn chats(self, account: Option<&str>) -> Vec<ChatView> {
        self.world.chats.views(account)
    }

    /// The messages of a chat that lead to an answer, itself included, oldest first, as (role, content): what a model
    /// read and said. `None` when no chat has the answer any more.
    #[must_use]
    pub fn path(self, response_id: &str) -> Option<Vec<(&'static str, String)>> {
        self.world.chats.path(response_id)
    }

    /// All uploaded files in the order of their arrival; a file that was uploaded twice counts at its last arrival.
    #[must_use]
    pub fn uploads(self) -> Vec<UploadView> {
        self.world.uploads.views()
    }

    /// All videos that were begun, in the order of their making.
    #[must_use]
    pub fn videos(self) -> Vec<TaskView> {
        self.world.tasks.views()
    }
}

fn parsed(address: SocketAddr, path: &str) -> Url {
    #[expect(clippy::expect_used, reason = "a socket address is a host and a port, and the path is one of ours")]
    Url::parse(&format!("http://{address}{path}")).expect("address as URL")
}
