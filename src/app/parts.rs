//! Makes each part from the configuration and the parts that it needs: one function for each.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::app::start_error::StartError;
use crate::base::facts::{AccountKind, IdentityFacts};
use crate::base::ids::CredentialKey;
use crate::base::live::Live;
use crate::chat::failure::Failure;
use crate::config::{Config, Fault, Sources, page};
use crate::gateway::accounts::book::AccountBook;
use crate::gateway::accounts::device_login::DeviceLogins;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::accounts::replaced;
use crate::gateway::accounts::targets::{self, Targets};
use crate::gateway::accounts::web::{self, WebAccountSettings, WebAccounts};
use crate::gateway::alerts::Alerts;
use crate::gateway::answer::relay::{RelayGateway, RelaySettings};
use crate::gateway::answer::web::WebGateway;
use crate::gateway::attachments::Attachments;
use crate::gateway::catalogue::Models;
use crate::gateway::chats::continuations::Continuations;
use crate::gateway::chats::janitor::{Janitor, JanitorQueue};
use crate::gateway::drift::Drift;
use crate::gateway::forgetting::Forgetting;
use crate::gateway::gallery::Gallery;
use crate::gateway::listing::Listing;
use crate::gateway::route::Upstreams;
use crate::gateway::usage::UsageBook;
use crate::gateway::videos::jobs::{VideoJobs, VideoParts};
use crate::http::serve::admission::sessions::Sessions;
use crate::http::serve::record::audit::Audit;
use crate::http::serve::record::observers::Observers;
use crate::http::state::{AppState, OwnerParts};
use crate::http::traces::{self, SpanSender};
use crate::pool::{IdentityPool, Now, PoolSettings, Strategy};
use crate::reload::parts::{LiveParts, LiveValues, relay_pool, usage_settings};
use crate::reload::{Reread, RereadWithPage};
use crate::shutdown::Supervisor;
use crate::store::{KeptAlert, Loaded, Note, Store, UsageLoaded, VideoJob};
use crate::telemetry::LogControl;
use crate::upstream::media::fetch::MediaFetcher;
use crate::upstream::oauth::client::QwenOAuth;
use crate::upstream::openai::client::OpenAiApi;
use crate::upstream::web::client::{QwenWeb, WebClientError};

/// The book of accounts that the owner changes while the server runs, with the accounts that an earlier run kept. In
/// client mode callers bring what they use.
pub(crate) fn account_book(
    config: &Config,
    (web, oauth, continuations): (&WebAccounts, &OAuthAccounts, &Continuations),
    store: &Arc<Store>,
    supervisor: &Supervisor,
    loaded: &mut Loaded,
    now: Now,
) -> AccountBook {
    let (store, supervisor) = (Arc::clone(store), supervisor.clone());
    let book = AccountBook::new(web.clone(), oauth.clone(), continuations.clone(), store, supervisor, loaded);
    if config.http.server_mode {
        book.begin(loaded, now);
    }
    replaced::follow(web, loaded, now);
    book
}

/// Opens the state. A folder that cannot be used is a warning, and large bodies then pass through the system's
/// temporary folder instead.
pub(crate) fn open_store(config: &mut Config) -> Result<(Arc<Store>, Loaded), StartError> {
    let refused = |error| StartError::Store(config.state_dir.display().to_string(), error);
    let (store, loaded) = Store::open_or_in_memory(Path::new(&config.state_dir)).map_err(refused)?;
    if let Some(unusable) = store.unusable() {
        config.warnings.push(unusable.to_string());
        config.http.spool = std::env::temp_dir();
    }
    Ok((Arc::new(store), loaded))
}

/// Reads the configuration once more, with the settings that the owner changed on the page and that the state keeps.
/// Those that no longer go with the files are left out, and each fault is a warning.
pub(crate) fn change_by_page(
    config: &mut Config,
    reread: Reread,
    notes: &HashMap<Note, String>,
    log: Option<&LogControl>,
) -> RereadWithPage {
    let Some(mut page) = notes.get(&Note::Settings).cloned() else { return (reread, None) };
    let mut warnings = std::mem::take(&mut config.warnings);
    loop {
        match Config::load(&Sources { page: Some(page.clone()), ..reread() }) {
            Ok(mut changed) => {
                changed.http.spool.clone_from(&config.http.spool);
                if let Some(log) = log {
                    log.set_filter(&changed.log.filter);
                }
                let news: Vec<String> = warnings.into_iter().filter(|one| !changed.warnings.contains(one)).collect();
                changed.warnings.extend(news);
                *config = changed;
                break;
            }
            Err(wrong) => {
                let warning = |fault: &Fault| format!("a setting of the owner's page is not in use: {fault}");
                warnings.extend(wrong.faults.iter().map(warning));
                let rest = page::without(&page, wrong.faults.iter().map(|fault| fault.key.as_str()));
                // What the files hold was read without a fault before, so that it loads without all of the page's.
                page = if rest == page { String::from("{}") } else { rest };
            }
        }
    }
    (reread, Some(page))
}

/// Makes the gateway of the web chat.
pub(crate) fn web_chats(
    pool: &IdentityPool,
    upstream: Arc<QwenWeb>,
    accounts: &WebAccounts,
    own_chats: (Janitor, Continuations),
    attachments: &Attachments,
    store: &Arc<Store>,
) -> WebGateway {
    WebGateway::new(pool.clone(), upstream, accounts.clone(), own_chats, attachments.clone(), Arc::clone(store))
}

/// Begins to send traces, if a collector is named. They are sent until the server stops.
pub(crate) fn spans(config: &Config, supervisor: &Supervisor) -> Result<Option<SpanSender>, StartError> {
    let Some(collector) = &config.traces else {
        return Ok(None);
    };
    let (sender, sending) = traces::to_collector(collector)?;
    supervisor.spawn("traces", sending.run(supervisor.stopping()));
    Ok(Some(sender))
}

/// What takes note of each request. Callers who bring accounts of their own leave nothing in the gallery.
pub(crate) fn observers(
    config: &Config,
    usage: &UsageBook,
    spans: Option<SpanSender>,
    gallery: &Gallery,
) -> Arc<Observers> {
    let gallery = config.http.server_mode.then(|| gallery.clone());
    Arc::new(Observers { usage: Some(usage.clone()), spans, gallery, ..Observers::default() })
}

/// Makes the parts of the owner's page. It has a link if only this machine can open it and no key is set.
pub(crate) fn owner_parts(config: &Config, notes: &HashMap<Note, String>, gallery: Gallery) -> OwnerParts {
    let has_link = config.http.admin_key.is_none() && config.http.listen.ip().is_loopback();
    OwnerParts {
        sessions: Arc::new(Sessions::new(has_link)),
        audit: Audit::restored(notes.get(&Note::Audit).map(String::as_str)),
        listing: Listing::restored(notes.get(&Note::ListedModels).map(String::as_str)),
        gallery,
        settings: Live::new(config.shown.clone()),
        stopping: CancellationToken::new(),
    }
}

/// Makes the alerts to the owner, if an address for them is set.
pub(crate) fn alerts(
    values: &LiveValues,
    store: &Arc<Store>,
    upstreams: &Upstreams,
    web: &IdentityPool,
    drift: Drift,
    told: Vec<KeptAlert>,
) -> Alerts {
    let (oauth, keys) = (upstreams.oauth(), upstreams.keys());
    Alerts {
        settings: values.alerts.clone(),
        pools: vec![
            (AccountKind::Web, web.clone()),
            (AccountKind::OAuth, oauth.pool().clone()),
            (AccountKind::Key, keys.pool().clone()),
        ],
        drifts: vec![drift, oauth.drift().clone(), keys.drift().clone()],
        store: Arc::clone(store),
        told,
    }
}

/// The job that has the state forget what is gone for long.
pub(crate) fn forgetting(state: &AppState) -> Forgetting {
    let pools = state.pools().into_iter().map(|(_, pool)| pool.clone()).collect();
    let (accounts, keys) = (state.0.accounts.clone(), state.0.keys.clone());
    Forgetting { pools, accounts, keys, store: Arc::clone(&state.0.store) }
}

/// Collects the parts whose settings can change while the server runs.
pub(crate) fn live(
    values: LiveValues,
    state: &AppState,
    continuations: &Continuations,
    log: Option<LogControl>,
) -> LiveParts {
    let parts = &state.0;
    LiveParts {
        values,
        media_fetch: parts.attachments.fetched_for_callers().clone(),
        web: parts.pool.clone(),
        relays: [parts.upstreams.oauth().pool().clone(), parts.upstreams.keys().pool().clone()],
        usage: parts.usage.clone(),
        janitor: parts.janitor.clone(),
        continuations: continuations.clone(),
        log,
    }
}

/// Counts what callers use, from what an earlier run has counted on.
pub(crate) fn usage(config: &Config, store: &Arc<Store>, loaded: UsageLoaded, now: Now) -> UsageBook {
    UsageBook::new(Arc::clone(store), loaded, usage_settings(config), now)
}

/// Makes the video jobs, with those of an earlier run.
pub(crate) fn video_jobs(
    (chats, attachments, pool, janitor): (&WebGateway, &Attachments, &IdentityPool, &Janitor),
    store: &Arc<Store>,
    supervisor: &Supervisor,
    kept: Vec<VideoJob>,
) -> VideoJobs {
    let parts = VideoParts {
        chats: chats.clone(),
        attachments: attachments.clone(),
        pool: pool.clone(),
        janitor: janitor.clone(),
        store: Arc::clone(store),
        supervisor: supervisor.clone(),
        describe: Failure::told,
    };
    VideoJobs::new(parts, kept)
}

/// Makes the part that fetches files for callers and uploads them.
pub(crate) fn attachments(config: &Config, upstream: &Arc<QwenWeb>) -> Result<Attachments, WebClientError> {
    let fetcher = Arc::new(MediaFetcher::new(config.media_fetch.clone(), &config.web.own_hosts())?);
    Ok(Attachments::new(Arc::clone(upstream), fetcher, config.http.spool.clone()))
}

/// Makes the part that deletes the chats of this server, and the one that keeps those that can be continued.
pub(crate) fn own_chats(
    config: &Config,
    upstream: &Arc<QwenWeb>,
    accounts: &WebAccounts,
    supervisor: &Supervisor,
    store: &Arc<Store>,
) -> ((Janitor, JanitorQueue), Continuations) {
    let (upstream, store, chat) = (Arc::clone(upstream), Arc::clone(store), &config.chat);
    let janitor = Janitor::new(upstream, accounts.clone(), supervisor.clone(), store, chat.keep_chats);
    (janitor, Continuations::new(chat.continue_chats.then_some(chat.continue_idle)))
}

/// The web chat's accounts, in `pool`, with what an earlier run learnt about them. In client mode each caller brings a
/// credential, and this server's own are not used.
pub(crate) fn web_accounts(
    config: &Config,
    pool: &IdentityPool,
    upstream: &Arc<QwenWeb>,
    store: &Arc<Store>,
    supervisor: &Supervisor,
    loaded: &Loaded,
    now: Now,
) -> WebAccounts {
    let settings = WebAccountSettings { is_ahead: config.chat.auto_refresh, interval: config.chat.refresh_interval };
    let accounts =
        WebAccounts::new(pool.clone(), Arc::clone(upstream), Arc::clone(store), supervisor.clone(), settings);
    let seeds = if config.http.server_mode { config.identities.clone() } else { Vec::new() };
    for (session, seed) in web::sessions(seeds, loaded, now) {
        let facts = loaded.facts.get(session.key()).copied();
        accounts.add(session, seed, facts, now);
    }
    accounts
}

/// The OAuth accounts, their logins, and the pool that they are in.
pub(crate) async fn oauth_accounts(
    config: &Config,
    store: &Arc<Store>,
    supervisor: &Supervisor,
    loaded: &Loaded,
) -> Result<(OAuthAccounts, DeviceLogins, IdentityPool), WebClientError> {
    let fresh_first = PoolSettings { strategy: Strategy::FreshWeighted, ..relay_pool(config) };
    let pool = IdentityPool::new(Vec::new(), fresh_first);
    let login = Arc::new(QwenOAuth::new(config.oauth.clone())?);
    let accounts = OAuthAccounts::new(
        config.accounts.clone(),
        pool.clone(),
        Arc::clone(&login),
        Arc::clone(store),
        supervisor.clone(),
        loaded,
    );
    // In client mode callers bring what they use.
    if config.http.server_mode {
        accounts.begin().await;
    }
    let logins = DeviceLogins::new(accounts.clone(), login, supervisor.clone());
    Ok((accounts, logins, pool))
}

/// All kinds of upstreams.
pub(crate) fn upstreams(
    config: &Config,
    store: &Arc<Store>,
    supervisor: &Supervisor,
    loaded: &Loaded,
    (web, web_pool): (Models, &IdentityPool),
    (accounts, pool): (OAuthAccounts, IdentityPool),
    (values, now): (&LiveValues, Now),
) -> Result<Upstreams, WebClientError> {
    let web_pool = config.http.server_mode.then(|| web_pool.clone());
    let keys = static_keys(config, store, supervisor, &loaded.facts, (values, now))?;
    let api = OpenAiApi::new(config.web.connect_timeout, values.timeouts.clone(), config.web.is_direct)?;
    let (targets, store, supervisor) = (Targets::Accounts(accounts), Arc::clone(store), supervisor.clone());
    let oauth = RelayGateway::new(pool, api, targets, store, supervisor, relay_settings(values));
    Ok(Upstreams::new(web, web_pool, oauth, keys))
}

/// Makes the gateway to the endpoints of static keys. In client mode it has no identities: callers bring their own.
fn static_keys(
    config: &Config,
    store: &Arc<Store>,
    supervisor: &Supervisor,
    facts: &HashMap<CredentialKey, IdentityFacts>,
    (values, now): (&LiveValues, Now),
) -> Result<RelayGateway, WebClientError> {
    let seeds = if config.http.server_mode { config.static_keys.as_slice() } else { &[] };
    let (sessions, targets) = targets::keys(seeds);
    let pool = IdentityPool::new(sessions, relay_pool(config));
    for (key, facts) in facts {
        // A key that was refused may have been paid for since; only what has a date is remembered.
        pool.restore(key, IdentityFacts { dead_since: None, ..*facts }, now);
    }
    let api = OpenAiApi::new(config.web.connect_timeout, values.timeouts.clone(), config.web.is_direct)?;
    let (store, supervisor) = (Arc::clone(store), supervisor.clone());
    Ok(RelayGateway::new(pool, api, Targets::Keys(Live::new(targets)), store, supervisor, relay_settings(values)))
}

fn relay_settings(values: &LiveValues) -> RelaySettings {
    RelaySettings { timeouts: values.timeouts.clone(), models_ttl: values.models_ttl.clone() }
}
