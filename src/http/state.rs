//! What handlers share: handles, nothing that owns a task.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::chat::resolve::Rules;
use crate::gateway::accounts::device_login::DeviceLogins;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::accounts::web::Refresher;
use crate::gateway::answer::chat::ChatGateway;
use crate::gateway::attachments::Attachments;
use crate::gateway::catalogue::{Catalogue, Models};
use crate::gateway::route::Kinds;
use crate::gateway::videos::jobs::VideoJobs;
use crate::http::owner::counters::Counters;
use crate::http::settings::HttpSettings;
use crate::pool::IdentityPool;

/// Handles for the handlers. Clones share everything.
#[derive(Clone)]
pub struct AppState(pub(crate) Arc<Parts>);

/// What an [`AppState`] is made of.
pub struct Parts {
    /// Answers chats.
    pub chats: ChatGateway,
    /// Chooses between the kinds of upstreams.
    pub kinds: Kinds,
    /// Fetches the files that requests name by their address.
    pub attachments: Attachments,
    /// Makes videos in the background.
    pub videos: VideoJobs,
    /// Lists models.
    pub models: Models,
    /// For the status page and `/health`: looked at, never leased from here.
    pub pool: IdentityPool,
    /// OAuth accounts, for their owner.
    pub accounts: OAuthAccounts,
    /// Logs OAuth accounts in.
    pub logins: DeviceLogins,
    /// For `POST /refresh-token`.
    pub refresher: Refresher,
    /// What was done so far.
    pub counters: Arc<Counters>,
    /// How this side of HTTP behaves.
    pub settings: HttpSettings,
    /// `DEFAULT_MODEL`.
    pub default_model: String,
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

    /// The pools of all kinds.
    pub(crate) fn pools(&self) -> [(PoolKind, &IdentityPool); 3] {
        let kinds = &self.0.kinds;
        [(PoolKind::Web, &self.0.pool), (PoolKind::OAuth, kinds.oauth().pool()), (PoolKind::Key, kinds.keys().pool())]
    }

    /// What holds for every request, by this catalogue.
    pub(crate) fn rules<'a>(&'a self, catalogue: &'a Catalogue) -> Rules<'a> {
        Rules {
            default_model: &self.0.default_model,
            reasoning_format: self.0.settings.reasoning_format,
            vision_fallback: &self.0.settings.vision_fallback,
            models: &catalogue.models,
            is_live: catalogue.is_live,
        }
    }
}
