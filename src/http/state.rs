//! What handlers share: handles, nothing that owns a task.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::gateway::accounts::device_login::DeviceLogins;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::accounts::web::WebAccounts;
use crate::gateway::answer::run::Answers;
use crate::gateway::answer::web::WebGateway;
use crate::gateway::attachments::Attachments;
use crate::gateway::catalogue::Models;
use crate::gateway::responses::KeptResponses;
use crate::gateway::route::Upstreams;
use crate::gateway::videos::jobs::VideoJobs;
use crate::http::serve::counters::Counters;
use crate::http::settings::HttpSettings;
use crate::pool::{IdentityPool, Now, PoolSummary};

/// Handles for the handlers. Clones share everything.
#[derive(Clone)]
pub struct AppState(pub(crate) Arc<Parts>);

/// What an [`AppState`] is made of.
pub struct Parts {
    /// Answers chats.
    pub chats: WebGateway,
    /// The kinds of upstreams, and the choice between them.
    pub upstreams: Upstreams,
    /// Prepares requests for the upstream that they go to.
    pub answers: Answers,
    /// Fetches the files that requests name by their address.
    pub attachments: Attachments,
    /// Makes videos in the background.
    pub videos: VideoJobs,
    /// Keeps responses.
    pub responses: KeptResponses,
    /// Lists models.
    pub models: Models,
    /// For the status page and `/health`: looked at, never leased from here.
    pub pool: IdentityPool,
    /// OAuth accounts, for their owner.
    pub accounts: OAuthAccounts,
    /// Logs OAuth accounts in.
    pub logins: DeviceLogins,
    /// For `POST /refresh-token`.
    pub web_accounts: WebAccounts,
    /// What was done so far.
    pub counters: Arc<Counters>,
    /// How this side of HTTP behaves.
    pub settings: HttpSettings,
    /// `AUTO_REFRESH_TOKEN`, shown by `/health`.
    pub auto_refresh: bool,
    /// Cancelled when streams that are still open have to end.
    pub ending: CancellationToken,
}

/// Which kind of upstream a pool's identities belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolKind {
    /// The web chat.
    Web,
    /// The portal of OAuth accounts.
    OAuth,
    /// Endpoints of static keys.
    Key,
}

impl PoolKind {
    /// The word for it, which is also the prefix of its models.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::OAuth => "oauth",
            Self::Key => "key",
        }
    }
}

impl AppState {
    /// State over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// How the identities of all kinds are.
    pub(crate) fn summary(&self, now: Now) -> PoolSummary {
        let [web, oauth, keys] = self.pools().map(|(_, pool)| pool.summary(now));
        web.and(oauth).and(keys)
    }

    /// The pools of all kinds.
    pub(crate) fn pools(&self) -> [(PoolKind, &IdentityPool); 3] {
        let kinds = &self.0.upstreams;
        [(PoolKind::Web, &self.0.pool), (PoolKind::OAuth, kinds.oauth().pool()), (PoolKind::Key, kinds.keys().pool())]
    }
}
