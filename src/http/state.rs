//! What handlers share: handles, nothing that owns a task.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::base::facts::AccountKind;
use crate::base::ids::{IdentityId, UnixSeconds};
use crate::base::live::Live;
use crate::gateway::accounts::book::AccountBook;
use crate::gateway::accounts::device_login::DeviceLogins;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::accounts::web::WebAccounts;
use crate::gateway::answer::run::Answers;
use crate::gateway::answer::web::WebGateway;
use crate::gateway::attachments::Attachments;
use crate::gateway::caller_keys::CallerKeys;
use crate::gateway::catalogue::Models;
use crate::gateway::janitor::Janitor;
use crate::gateway::listing::Listing;
use crate::gateway::reloads::Reloads;
use crate::gateway::responses::KeptResponses;
use crate::gateway::route::Upstreams;
use crate::gateway::usage::UsageBook;
use crate::gateway::videos::jobs::VideoJobs;
use crate::http::serve::admission::sessions::Sessions;
use crate::http::serve::record::audit::Audit;
use crate::http::serve::record::gallery::Gallery;
use crate::http::serve::record::observers::Observers;
use crate::http::settings::{HttpSettings, ShownSetting};
use crate::pool::{IdentityPool, IdentityView, Now, PoolSummary};
use crate::store::{AccountDays, Spent, Store, UtcDay};

/// Handles for the handlers. Clones share everything.
#[derive(Clone)]
pub(crate) struct AppState(pub(crate) Arc<Parts>);

/// What an [`AppState`] is made of.
pub(crate) struct Parts {
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
    /// Adds, changes and removes accounts, for their owner.
    pub book: AccountBook,
    /// The way to the task that reloads settings.
    pub reloads: Reloads,
    /// For `POST /refresh-token`.
    pub web_accounts: WebAccounts,
    /// Keys that callers may send.
    pub keys: CallerKeys,
    /// What callers used, and what their keys have left.
    pub usage: UsageBook,
    /// What is known of the requests so far.
    pub observers: Arc<Observers>,
    /// For `/metrics`, which says how many chats wait to be deleted.
    pub janitor: Janitor,
    /// How this side of HTTP behaves.
    pub settings: HttpSettings,
    /// `AUTO_REFRESH_TOKEN`, shown by `/health`.
    pub auto_refresh: bool,
    /// Cancelled when streams that are still open have to end.
    pub ending: CancellationToken,
    /// For the owner's page.
    pub owner: OwnerParts,
    /// For `/health`, which says how the state is kept.
    pub store: Arc<Store>,
}

/// What the owner's page needs.
pub(crate) struct OwnerParts {
    /// Who is logged in to the page.
    pub sessions: Arc<Sessions>,
    /// What owners changed.
    pub audit: Audit,
    /// Which names the list of models shows.
    pub listing: Listing,
    /// The pictures that were made.
    pub gallery: Gallery,
    /// The settings that are in use, for the page.
    pub settings: Live<Vec<ShownSetting>>,
}

impl AppState {
    /// State over these parts.
    #[must_use]
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// How the identities of all kinds are.
    pub(crate) fn summary(&self, now: Now) -> PoolSummary {
        let [web, oauth, keys] = self.pools().map(|(_, pool)| pool.summary(now));
        web.and(oauth).and(keys)
    }

    /// All identities with their kinds, in the order of configuration.
    pub(crate) fn views(&self, now: Now) -> Vec<(AccountKind, IdentityView)> {
        let of_kind =
            |(kind, pool): (AccountKind, &IdentityPool)| pool.views(now).into_iter().map(move |view| (kind, view));
        self.pools().into_iter().flat_map(of_kind).collect()
    }

    /// What each account did on this day of UTC; accounts that did nothing are left out.
    pub(crate) fn spent_today(&self, now: UnixSeconds) -> HashMap<IdentityId, Spent> {
        let kinds = &self.0.upstreams;
        let all = [self.0.chats.spending(), kinds.oauth().spending(), kinds.keys().spending()];
        let today = UtcDay::of(now);
        let of_today = |account: AccountDays| {
            let day = account.days.iter().find(|day| day.day == today)?;
            Some((account.identity, day.spent))
        };
        all.into_iter().flatten().filter_map(of_today).collect()
    }

    /// The pools of all kinds.
    pub(crate) fn pools(&self) -> [(AccountKind, &IdentityPool); 3] {
        let kinds = &self.0.upstreams;
        [
            (AccountKind::Web, &self.0.pool),
            (AccountKind::OAuth, kinds.oauth().pool()),
            (AccountKind::Key, kinds.keys().pool()),
        ]
    }
}
