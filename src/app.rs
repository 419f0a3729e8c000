//! The composition root: the one place where parts are made and joined, and stopped in order.
//!
//! This is one long file because no other place may know all rooms: each part has one function here that makes it.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::base::caller_key::{KeyName, NamedKey};
use crate::base::facts::{AccountKind, IdentityFacts};
use crate::base::ids::CredentialKey;
use crate::base::secret::ApiKey;
use crate::chat::failure::Failure;
use crate::config::{Config, KeyPolicy, Sources};
use crate::gateway::accounts::book::AccountBook;
use crate::gateway::accounts::device_login::DeviceLogins;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::accounts::targets::{self, Targets};
use crate::gateway::accounts::web::{self, WebAccountSettings, WebAccounts};
use crate::gateway::alerts::Alerts;
use crate::gateway::answer::relay::{RelayGateway, RelaySettings};
use crate::gateway::answer::run::{AnswerSettings, Answers};
use crate::gateway::answer::web::WebGateway;
use crate::gateway::attachments::Attachments;
use crate::gateway::caller_keys::CallerKeys;
use crate::gateway::catalogue::Models;
use crate::gateway::continuations::Continuations;
use crate::gateway::drift::Drift;
use crate::gateway::janitor::{self, Janitor, JanitorQueue, LostChats};
use crate::gateway::listing::Listing;
use crate::gateway::outlook::Outlook;
use crate::gateway::reloads::{Asked, Reloads};
use crate::gateway::responses::KeptResponses;
use crate::gateway::route::Upstreams;
use crate::gateway::usage::UsageBook;
use crate::gateway::videos::jobs::{VideoJobs, VideoParts};
use crate::http;
use crate::http::serve::audit::Audit;
use crate::http::serve::gallery::Gallery;
use crate::http::serve::observers::Observers;
use crate::http::serve::sessions::Sessions;
use crate::http::settings::HttpSettings;
use crate::http::state::{AppState, OwnerParts, Parts};
use crate::http::traces::{self, SpanSender, TracesError};
use crate::pool::{IdentityPool, Now, PoolSettings, PoolSummary, Strategy};
use crate::reload::{Reloader, Reread};
use crate::shutdown::Supervisor;
use crate::store::{KeptAlert, Loaded, Note, OwnedChat, Store, StoreError, UsageLoaded, VideoJob};
use crate::telemetry::ErrorChain;
use crate::upstream::media::fetch::MediaFetcher;
use crate::upstream::oauth::client::QwenOAuth;
use crate::upstream::openai::client::OpenAiApi;
use crate::upstream::web::client::{QwenWeb, WebClientError};
use crate::upstream::webhook::Webhook;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// What the system keeps of an answer for a caller who does not read, in bytes; Linux takes twice as much. Left alone it
/// grows to megabytes for each of them.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// How long connections get to write their last words after their streams were ended.
const LAST_WORDS: Duration = Duration::from_millis(150);
/// How long background tasks get to end.
const TASKS_PATIENCE: Duration = Duration::from_secs(5);

/// A server that is ready to serve.
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    metrics: Option<(TcpListener, SocketAddr)>,
    made: MadeKeys,
    state: AppState,
    alerts: Option<Alerts>,
    outlook: Outlook,
    usage: UsageBook,
    pool: IdentityPool,
    web_accounts: WebAccounts,
    accounts: OAuthAccounts,
    models: Models,
    videos: VideoJobs,
    janitor: (Janitor, JanitorQueue),
    continuations: Continuations,
    ledger: Vec<OwnedChat>,
    lost: LostChats,
    store: Arc<Store>,
    supervisor: Supervisor,
    ending: CancellationToken,
    asked: Asked,
    /// Reads the sources of the configuration anew; `None` where nothing is reloaded.
    reread: Option<Reread>,
    config: Config,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state can be kept neither in the state folder nor in memory.
    #[error("cannot open the state folder {0} (STATE_DIR)")]
    Store(String, #[source] StoreError),
    /// The HTTP client cannot be made.
    #[error("cannot prepare for calls of the upstream")]
    Client(#[from] WebClientError),
    /// Traces cannot be sent.
    #[error("traces cannot be sent")]
    Traces(#[from] TracesError),
    /// The address cannot be listened at.
    #[error("cannot listen at {0} ({1})")]
    Listen(SocketAddr, &'static str, #[source] io::Error),
}

impl App {
    /// Makes all parts and begins to listen. Makes no call of the upstream.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn build(mut config: Config) -> Result<Self, StartError> {
        outlive_file_size_limit();
        let (store, loaded) = open_store(&mut config)?;
        let made = complete_keys(&mut config, &store, &loaded).await?;
        let now = Now::read();
        let supervisor = Supervisor::new();
        let upstream = Arc::new(QwenWeb::new(config.web.clone())?);
        let pool = IdentityPool::new(Vec::new(), config.pool.clone());
        let web_accounts = web_accounts(&config, &pool, &upstream, &store, &supervisor, &loaded, now);
        let models = Models::new(Arc::clone(&upstream), supervisor.clone(), config.chat.models_ttl);
        let (janitor, continuations) = own_chats(&config, &upstream, &supervisor, &store);
        let attachments = attachments(&config, &upstream)?;
        let own_chats = (janitor.0.clone(), continuations.clone());
        let chats = web_chats(&config, &pool, upstream, &web_accounts, own_chats, &attachments, &store);
        let (accounts, logins, oauth_pool) = oauth_accounts(&config, &store, &supervisor, &loaded).await?;
        let book = account_book(&config, (&web_accounts, &accounts), &store, &loaded, now);
        let upstreams = upstreams(
            &config,
            &store,
            &supervisor,
            &loaded,
            (models.clone(), &pool),
            (accounts.clone(), oauth_pool),
            now,
        )?;
        let videos = video_jobs((&chats, &attachments, &pool, &janitor.0), &store, &supervisor, loaded.videos);
        let lost = LostChats::of(loaded.intents, &loaded.chats);
        // A chat that a video is made in goes to the janitor when the video is done.
        let mut ledger = loaded.chats;
        ledger.retain(|chat| !videos.needs_chat(&chat.chat_id));
        let ledger = continuations.restore(ledger, &janitor.0, &pool.sessions(), now.unix);
        let drift = chats.drift().clone();
        let usage = usage(&config, &store, loaded.usage, now);
        let spans = spans(&config, &supervisor)?;
        let ending = CancellationToken::new();
        let (reloads, asked) = Reloads::new();
        let state = AppState::new(Parts {
            answers: Answers::new(chats.clone(), models.clone(), attachments.clone(), answer_settings(&config)),
            chats,
            upstreams: upstreams.clone(),
            attachments,
            videos: videos.clone(),
            responses: KeptResponses::new(Arc::clone(&store), config.chat.keep_responses),
            models: models.clone(),
            pool: pool.clone(),
            accounts: accounts.clone(),
            logins,
            web_accounts: web_accounts.clone(),
            book,
            keys: CallerKeys::new(&config.http.keys, loaded.made_keys),
            reloads,
            usage: usage.clone(),
            observers: Arc::new(Observers { usage: Some(usage.clone()), spans, ..Observers::default() }),
            settings: config.http.clone(),
            auto_refresh: config.chat.auto_refresh,
            ending: ending.clone(),
            owner: owner_parts(&config, &loaded.notes),
            store: Arc::clone(&store),
            janitor: janitor.0.clone(),
        });
        let ((listener, address), metrics) = listeners(&config.http)?;
        Ok(Self {
            listener,
            address,
            metrics,
            made,
            state,
            alerts: alerts(&config, &store, &upstreams, &pool, drift, loaded.alerts)?,
            outlook: outlook(&config, upstreams, pool.clone()),
            usage,
            pool,
            web_accounts,
            accounts,
            models,
            videos,
            janitor,
            continuations,
            ledger,
            lost,
            store,
            supervisor,
            ending,
            asked,
            reread: None,
            config,
        })
    }

    /// The same server, which takes up changed settings while it runs: `reread` reads all of their sources.
    #[must_use]
    pub fn reloading(self, reread: impl Fn() -> Sources + Send + 'static) -> Self {
        Self { reread: Some(Box::new(reread)), ..self }
    }

    /// Where the server listens; the port is real even if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `/metrics` is served without a key, if `METRICS_ADDRESS` asks for that.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(_, address)| *address)
    }

    /// A key of the callers that was made at this start, to be shown to its owner once.
    #[must_use]
    pub fn generated_key(&self) -> Option<&ApiKey> {
        self.made.caller.as_ref()
    }

    /// A key of the owner's page that was made at this start, to be shown once.
    #[must_use]
    pub fn generated_admin_key(&self) -> Option<&ApiKey> {
        self.made.admin.as_ref()
    }

    /// The address of the owner's page. On a server of this machine without `ADMIN_SECRET_KEY` it holds a secret that
    /// opens the page once.
    #[must_use]
    pub fn page_link(&self) -> String {
        let page = format!("http://{}{}/admin", self.address, self.config.http.base_path);
        match self.state.0.owner.sessions.link() {
            Some(secret) => format!("{page}#link={}", secret.expose()),
            None => page,
        }
    }

    /// The base URL that clients are given, which ends in `/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}{}/v1", self.address, self.config.http.base_path)
    }

    /// How the accounts of all kinds are.
    #[must_use]
    pub fn summary(&self) -> PoolSummary {
        self.state.summary(Now::read())
    }

    /// Whether [`App::page_link`] opens the page without a key.
    #[must_use]
    pub fn has_page_link(&self) -> bool {
        self.state.0.owner.sessions.link().is_some()
    }

    /// Whether the state, a generated key included, ends with the process because the state folder cannot be used.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.store.unusable().is_some()
    }

    /// Serves until `stop`, then ends in order: no new connections, answers finish until `SHUTDOWN_TIMEOUT`, the
    /// rest gets an error frame, tasks end, state is written.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        for note in &self.config.notes {
            info!("{note}");
        }
        for warning in &self.config.warnings {
            warn!("{warning}");
        }
        self.log_start();
        let Self {
            listener,
            metrics,
            state,
            alerts,
            outlook,
            usage,
            pool,
            web_accounts,
            accounts,
            models,
            videos,
            janitor,
            continuations,
            ledger,
            lost,
            store,
            supervisor,
            ending,
            asked,
            reread,
            config,
            ..
        } = self;
        match reread {
            Some(reread) => {
                let reloader = reloader(reread, &state, &config);
                supervisor.spawn("reload", reloader.run(asked, supervisor.stopping()));
            }
            // A question is then answered at once.
            None => drop(asked),
        }
        supervisor.spawn("web accounts", web_accounts.run(supervisor.stopping()));
        if config.http.server_mode {
            supervisor.spawn("oauth accounts", accounts.run(supervisor.stopping()));
        }
        supervisor.spawn("counts", Arc::clone(&store).keep_counts(supervisor.stopping()));
        let finding = janitor::find_lost(janitor.0.clone(), lost, pool.sessions(), supervisor.stopping());
        supervisor.spawn("lost chats", finding);
        let cleaning =
            janitor::run(janitor.0, janitor.1, ledger, pool.sessions(), Now::read().unix, supervisor.stopping());
        supervisor.spawn("janitor", cleaning);
        supervisor.spawn("continuations", continuations.clone().run(supervisor.stopping()));
        if let Some(alerts) = alerts {
            supervisor.spawn("alerts", alerts.run(supervisor.stopping()));
        }
        supervisor.spawn("usage", usage.run(supervisor.stopping()));
        models.fetch_in_background();
        supervisor.spawn("outlook", outlook.run(supervisor.stopping()));
        videos.resume();
        let connections = Supervisor::new();
        if let Some((listener, _)) = metrics {
            connections
                .spawn("metrics", serve_metrics(listener, state.clone(), config.http.clone(), connections.clone()));
        }
        let accepting = {
            let observers = Arc::clone(&state.0.observers);
            let (router, settings, connections) = (http::router(state), config.http.clone(), connections.clone());
            async move {
                let stop = connections.stopping();
                http::serve::server::serve(listener, router, &settings, &observers, &connections, stop).await;
            }
        };
        connections.spawn("accept", accepting);
        stop.await;
        info!(timeout_seconds = config.shutdown_timeout.as_secs(), "stopping, open answers may finish");
        let end_streams = async {
            tokio::time::sleep(config.shutdown_timeout).await;
            ending.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = connections.stop(config.shutdown_timeout + LAST_WORDS) => {}
            () = end_streams => {}
        }
        // No answer is under way any more, and the janitor still is.
        continuations.close();
        supervisor.stop(TASKS_PATIENCE).await;
        save_sessions(&pool, &store).await;
        store.close().await;
        info!("stopped");
    }

    fn log_start(&self) {
        let summary = self.state.summary(Now::read());
        info!(address = %self.address, identities = summary.total, version = env!("CARGO_PKG_VERSION"), "listening");
        if self.config.http.server_mode && summary.total == 0 {
            warn!(
                "no account is configured: put the cookie of one into cookie.txt (or COOKIE), log an OAuth account in with \
                 `qwen-bridge auth add`, or name a key in QWEN_API_KEYS"
            );
        }
        match self.config.key_policy {
            KeyPolicy::OpenOnLoopback => {
                info!("no key is set: only this machine can use the server");
            }
            KeyPolicy::OpenKnowingly if self.config.http.server_mode => {
                warn!("no key is set and ALLOW_OPEN is true: everybody who can reach the server can use it");
            }
            KeyPolicy::OpenKnowingly => {
                info!(
                    "client mode without a key: everybody who can reach the server can use it with a credential of their own"
                );
            }
            KeyPolicy::Keys | KeyPolicy::GenerateKey => {}
        }
    }
}

/// The book of accounts that the owner changes while the server runs, with the accounts that an earlier run kept. In
/// client mode callers bring what they use.
fn account_book(
    config: &Config,
    (web, oauth): (&WebAccounts, &OAuthAccounts),
    store: &Arc<Store>,
    loaded: &Loaded,
    now: Now,
) -> AccountBook {
    let book = AccountBook::new(web.clone(), oauth.clone(), Arc::clone(store), loaded);
    if config.http.server_mode {
        book.begin(loaded, now);
    }
    book
}

/// What takes up changed settings.
fn reloader(reread: Reread, state: &AppState, config: &Config) -> Reloader {
    Reloader {
        reread,
        book: state.0.book.clone(),
        keys: state.0.keys.clone(),
        reloads: state.0.reloads.clone(),
        in_use: config.fingerprints.clone(),
        key_policy: config.key_policy,
        server_mode: config.http.server_mode,
        files: config.files.clone(),
    }
}

/// Opens the state. A folder that cannot be used is a warning, and large bodies then pass through the system's
/// temporary folder instead.
fn open_store(config: &mut Config) -> Result<(Arc<Store>, Loaded), StartError> {
    let refused = |error| StartError::Store(config.state_dir.display().to_string(), error);
    let (store, loaded) = Store::open_or_in_memory(Path::new(&config.state_dir)).map_err(refused)?;
    if let Some(unusable) = store.unusable() {
        config.warnings.push(unusable.to_string());
        config.http.spool = std::env::temp_dir();
    }
    Ok((Arc::new(store), loaded))
}

/// Serves `/metrics` where no key is asked for. Its connections are no callers', and so are not counted with them.
async fn serve_metrics(listener: TcpListener, state: AppState, settings: HttpSettings, connections: Supervisor) {
    let stop = connections.stopping();
    let router = http::metrics_router(state);
    http::serve::server::serve(listener, router, &settings, &Arc::default(), &connections, stop).await;
}

type Listening = (TcpListener, SocketAddr);

/// What answers through the web chat.
fn web_chats(
    config: &Config,
    pool: &IdentityPool,
    upstream: Arc<QwenWeb>,
    accounts: &WebAccounts,
    own_chats: (Janitor, Continuations),
    attachments: &Attachments,
    store: &Arc<Store>,
) -> WebGateway {
    WebGateway::new(
        pool.clone(),
        upstream,
        accounts.clone(),
        own_chats,
        attachments.clone(),
        Arc::clone(store),
        config.chat.retries_max,
    )
}

/// Begins to send traces, if a collector is named. They are sent until the server stops.
fn spans(config: &Config, supervisor: &Supervisor) -> Result<Option<SpanSender>, StartError> {
    let Some(collector) = &config.traces else {
        return Ok(None);
    };
    let (sender, sending) = traces::to_collector(collector)?;
    supervisor.spawn("traces", sending.run(supervisor.stopping()));
    Ok(Some(sender))
}

/// Begins to listen for callers, and for scrapes of metrics if they have an address of their own.
fn listeners(settings: &HttpSettings) -> Result<(Listening, Option<Listening>), StartError> {
    let callers = listen(settings.listen, "SERVER_HOST, SERVER_PORT")?;
    let metrics = settings.metrics_listen.map(|wanted| listen(wanted, "METRICS_ADDRESS")).transpose()?;
    Ok((callers, metrics))
}

/// Begins to listen; the port of the address is real even if 0 was asked for.
fn listen(wanted: SocketAddr, setting: &'static str) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen(wanted, setting, error);
    let socket = if wanted.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    // As `TcpListener::bind` does, so that a restart does not wait for connections that have ended.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true).map_err(failed)?;
    // The connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES).map_err(failed)?;
    socket.bind(wanted).map_err(failed)?;
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Takes the signal that ends a process which writes beyond its limit of file sizes (`ulimit -f`, `LimitFSIZE`). The
/// write then fails like one to a full disk.
fn outlive_file_size_limit() {
    #[cfg(unix)]
    {
        let number = rustix::process::Signal::XFSZ.as_raw();
        // The handler stays for as long as the process runs; what it hands out is not needed.
        if let Err(error) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(number)) {
            debug!(%error, "the signal of the file size limit cannot be taken");
        }
    }
}

/// What the owner's page needs. It has a link where only this machine can open it and no key is set.
fn owner_parts(config: &Config, notes: &HashMap<Note, String>) -> OwnerParts {
    let has_link = config.http.admin_key.is_none() && config.http.listen.ip().is_loopback();
    OwnerParts {
        sessions: Arc::new(Sessions::new(has_link)),
        audit: Audit::restored(notes.get(&Note::Audit).map(String::as_str)),
        listing: Listing::restored(notes.get(&Note::ListedModels).map(String::as_str)),
        gallery: Gallery::default(),
        settings: Arc::clone(&config.shown),
    }
}

/// Keys that were made at this start, to be shown to their owner once.
#[derive(Default)]
struct MadeKeys {
    caller: Option<ApiKey>,
    admin: Option<ApiKey>,
}

/// Adds the keys of this server's own making where the configuration wants them; gives those that were made just now.
async fn complete_keys(config: &mut Config, store: &Store, loaded: &Loaded) -> Result<MadeKeys, StartError> {
    let random =
        |prefix: &str| ApiKey::new(&format!("{prefix}-{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
    let folder = config.state_dir.display().to_string();
    let refused = |error| StartError::Store(folder.clone(), error);
    let mut made = MadeKeys::default();
    match (config.key_policy, &loaded.generated_key) {
        (KeyPolicy::GenerateKey, Some(kept)) => config.http.keys.push(generated(config, kept)),
        (KeyPolicy::GenerateKey, None) => {
            let key = random("sk");
            store.save_generated_key(&key).await.map_err(refused)?;
            config.http.keys.push(generated(config, &key));
            made.caller = Some(key);
        }
        (KeyPolicy::Keys | KeyPolicy::OpenOnLoopback | KeyPolicy::OpenKnowingly, _) => {}
    }
    let http = &mut config.http;
    if http.admin_key.is_some() || http.listen.ip().is_loopback() || !http.server_mode {
        return Ok(made);
    }
    if let Some(kept) = &loaded.generated_admin_key {
        http.admin_key = Some(kept.clone());
        return Ok(made);
    }
    let key = random("owner");
    store.save_note(Note::AdminKey, key.expose().to_owned()).await.map_err(refused)?;
    http.admin_key = Some(key.clone());
    made.admin = Some(key);
    Ok(made)
}

/// The key of this server's own making, with its name and limits.
fn generated(config: &Config, key: &ApiKey) -> NamedKey {
    let limits = config.generated_key_limits.clone();
    NamedKey { name: KeyName::generated(), key: key.clone(), limits, is_generated: true }
}

/// What tells the owner of what needs them, if there is an address for that.
fn alerts(
    config: &Config,
    store: &Arc<Store>,
    upstreams: &Upstreams,
    web: &IdentityPool,
    drift: Drift,
    told: Vec<KeptAlert>,
) -> Result<Option<Alerts>, WebClientError> {
    let Some(address) = config.alert_url.clone() else { return Ok(None) };
    let (oauth, keys) = (upstreams.oauth(), upstreams.keys());
    Ok(Some(Alerts {
        webhook: Webhook::new(address, config.web.is_direct)?,
        pools: vec![
            (AccountKind::Web, web.clone()),
            (AccountKind::OAuth, oauth.pool().clone()),
            (AccountKind::Key, keys.pool().clone()),
        ],
        drifts: vec![drift, oauth.drift().clone(), keys.drift().clone()],
        store: Arc::clone(store),
        told,
        challenge_rest: config.pool.challenge_rest,
    }))
}

/// Counts what callers use, from what an earlier run has counted on.
fn usage(config: &Config, store: &Arc<Store>, loaded: UsageLoaded, now: Now) -> UsageBook {
    UsageBook::new(Arc::clone(store), loaded, config.chat.model_map.clone(), config.usage_days, now)
}

/// What makes videos, with the jobs of an earlier run.
fn video_jobs(
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

/// What the owner is warned of. Without web accounts no model sees for another one, and the default is one that the
/// other kinds have unless the owner chose it.
fn outlook(config: &Config, upstreams: Upstreams, pool: IdentityPool) -> Outlook {
    let map = &config.chat.model_map;
    let models = [
        ("DEFAULT_MODEL", map.apply(config.chat.default_model.trim())),
        ("VISION_FALLBACK_MODEL", map.apply(config.http.vision_fallback.trim())),
    ];
    let is_chosen = config.chat.default_model_is_set && !upstreams.lists_web();
    let is_used = |name: &str| upstreams.has_web() || (is_chosen && name == "DEFAULT_MODEL");
    let models = models.into_iter().filter(|(name, model)| is_used(name) && !model.is_empty());
    let mapped = map.entries().map(|(_, target)| ("MODEL_MAP", target));
    let models = models.chain(mapped).map(|(name, model)| (name, model.to_owned())).collect();
    Outlook { upstreams, pool, models }
}

fn answer_settings(config: &Config) -> AnswerSettings {
    AnswerSettings {
        default_model: config.chat.default_model.clone(),
        model_map: config.chat.model_map.clone(),
        reasoning_format: config.http.reasoning_format,
        vision_fallback: config.http.vision_fallback.clone(),
        web_tools: config.chat.web_tools,
    }
}

/// What fetches files for callers and hands them to the upstream.
fn attachments(config: &Config, upstream: &Arc<QwenWeb>) -> Result<Attachments, WebClientError> {
    let fetcher = Arc::new(MediaFetcher::new(config.media_fetch.clone(), &config.web.own_hosts())?);
    Ok(Attachments::new(Arc::clone(upstream), fetcher, config.http.spool.clone()))
}

/// What deletes the chats that this server made, and what keeps those that can be continued.
fn own_chats(
    config: &Config,
    upstream: &Arc<QwenWeb>,
    supervisor: &Supervisor,
    store: &Arc<Store>,
) -> ((Janitor, JanitorQueue), Continuations) {
    let (upstream, store, chat) = (Arc::clone(upstream), Arc::clone(store), &config.chat);
    let janitor = Janitor::new(upstream, supervisor.clone(), store, chat.keep_chats);
    (janitor, Continuations::new(chat.continue_chats.then_some(chat.continue_idle)))
}

/// The web chat's accounts, in `pool`, with what an earlier run learnt about them. In client mode each caller brings a
/// credential, and this server's own are not used.
fn web_accounts(
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
async fn oauth_accounts(
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

/// How the pools of OAuth accounts and of keys behave.
fn relay_pool(config: &Config) -> PoolSettings {
    PoolSettings { in_flight_max: config.relay_in_flight_max, ..config.pool.clone() }
}

/// All kinds of upstreams.
fn upstreams(
    config: &Config,
    store: &Arc<Store>,
    supervisor: &Supervisor,
    loaded: &Loaded,
    (web, web_pool): (Models, &IdentityPool),
    (accounts, pool): (OAuthAccounts, IdentityPool),
    now: Now,
) -> Result<Upstreams, WebClientError> {
    let web_pool = config.http.server_mode.then(|| web_pool.clone());
    let keys = static_keys(config, store, supervisor, &loaded.facts, now)?;
    let api = OpenAiApi::new(config.web.connect_timeout, config.web.idle_timeout, config.web.is_direct)?;
    let settings = RelaySettings::like(&config.web, config.chat.models_ttl);
    let targets = Targets::Accounts(accounts);
    let (store, supervisor, retries_max) = (Arc::clone(store), supervisor.clone(), config.chat.retries_max);
    let oauth = RelayGateway::new(pool, api, targets, store, supervisor, settings, retries_max);
    let default_model = config.chat.default_model_is_set.then(|| config.chat.default_model.clone());
    Ok(Upstreams::new(web, web_pool, oauth, keys, config.chat.model_map.clone(), default_model))
}

/// The way to the endpoints of static keys. In client mode callers bring what they use, so there is none.
fn static_keys(
    config: &Config,
    store: &Arc<Store>,
    supervisor: &Supervisor,
    facts: &HashMap<CredentialKey, IdentityFacts>,
    now: Now,
) -> Result<RelayGateway, WebClientError> {
    let seeds = if config.http.server_mode { config.static_keys.as_slice() } else { &[] };
    let (sessions, targets) = targets::keys(seeds);
    let pool = IdentityPool::new(sessions, relay_pool(config));
    for (key, facts) in facts {
        // A key that was refused may have been paid for since; only what has a date is remembered.
        pool.restore(key, IdentityFacts { dead_since: None, ..*facts }, now);
    }
    let api = OpenAiApi::new(config.web.connect_timeout, config.web.idle_timeout, config.web.is_direct)?;
    let settings = RelaySettings::like(&config.web, config.chat.models_ttl);
    let (store, supervisor, retries_max) = (Arc::clone(store), supervisor.clone(), config.chat.retries_max);
    Ok(RelayGateway::new(pool, api, Targets::Keys(targets), store, supervisor, settings, retries_max))
}

/// Cookies that answers changed since the last refresh.
async fn save_sessions(pool: &IdentityPool, store: &Store) {
    for session in pool.sessions().into_iter().filter(|session| session.revision() > 0) {
        if let Err(error) = store.save_session(session.key().clone(), session.snapshot(), Now::read().unix).await {
            warn!(identity.id = %session.identity(), error = %ErrorChain(&error), "session not written down");
        }
    }
}
