//! Handles that the handlers share; none of them owns a task.

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
use crate::gateway::chats::janitor::Janitor;
use crate::gateway::gallery::Gallery;
use crate::gateway::listing::Listing;
use crate::gateway::reloads::Reloads;
use crate::gateway::responses::KeptResponses;
use crate::gateway::route::Upstreams;
use crate::gateway::usage::UsageBook;
use crate::gateway::videos::jobs::VideoJobs;
use crate::http::serve::admission::sessions::Sessions;
use crate::http::serve::record::audit::Audit;
use crate::http::serve::record::observers::Observers;
use crate::http::settings::{HttpSettings, ShownSetting};
use crate::pool::{IdentityPool, IdentityView, Now, PoolSummary};
use crate::store::{AccountDays, Spent, Store, UtcDay};

/// Handles for the handlers. Clones share everything.
#[derive(Clone)]
pub(crate) struct AppState(pub(crate) Arc<Parts>);

/// The parts of an [`AppState`].
pub(crate) struct Parts {
    /// Answers chats of the web chat.
    pub chats: WebGateway,
    /// The kinds of upstreams, and the choice between them.
    pub upstreams: Upstreams,
    /// Prepares requests for the upstream that they go to.
    pub answers: Answers,
    /// Fetches the files that requests name by their address.
    pub attachments: Attachments,
    /// Makes videos in the background.
    pub videos: VideoJobs,
    /// Keeps responses for `KEEP_RESPONSES`.
    pub responses: KeptResponses,
    /// The catalogue of the web chat.
    pub models: Models,
    /// The identities of the web chat, read by the status page and `/health`, never leased from here.
    pub pool: IdentityPool,
    /// The OAuth accounts, for their owner.
    pub accounts: OAuthAccounts,
    /// Device logins of OAuth accounts.
    pub logins: DeviceLogins,
    /// Adds, changes and removes accounts, for their owner.
    pub book: AccountBook,
    /// Asks the task that reloads settings.
    pub reloads: Reloads,
    /// The web accounts, for `POST /refresh-token`.
    pub web_accounts: WebAccounts,
    /// The keys that callers may send.
    pub keys: CallerKeys,
    /// Usage of callers, and the rest of their keys' limits.
    pub usage: UsageBook,
    /// Counters, metrics and the list of requests.
    pub observers: Arc<Observers>,
    /// For `/metrics`, which shows how many chats wait to be deleted.
    pub janitor: Janitor,
    /// Settings of this side of HTTP. A request reads them once, at its beginning.
    pub settings: Live<HttpSettings>,
    /// `AUTO_REFRESH_TOKEN`, shown by `/health`.
    pub auto_refresh: bool,
    /// Cancelled when open streams have to end.
    pub ending: CancellationToken,
    /// Parts of the owner's page.
    pub owner: OwnerParts,
    /// For `/health`, which shows how the state is kept.
    pub store: Arc<Store>,
}

/// The parts that the owner's page needs.
pub(crate) struct OwnerParts {
    /// The sessions of the page.
    pub sessions: Arc<Sessions>,
    /// The changes that owners made.
    pub audit: Audit,
    /// The models that the list shows or hides.
    pub listing: Listing,
    /// Pictures and videos that were made.
    pub gallery: Gallery,
    /// The settings in use, as the page shows them.
    pub settings: Live<Vec<ShownSetting>>,
    /// Cancelled when stopping begins, which ends the events of open pages. Answers may still finish.
    pub stopping: CancellationToken,
}

impl AppState {
    /// State over these parts.
    #[must_use]
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The present settings of this side of HTTP.
    pub(crate) fn settings(&self) -> Arc<HttpSettings> {
        self.0.settings.now()
    }

    /// A summary of the identities of all kinds.
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

    /// Counts of each account on this UTC day; accounts without any are left out.
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
