//! The composition root: the one place where parts are joined, served and stopped in order.

mod keys;
pub(crate) mod listen;
mod parts;
mod start_error;

pub use crate::app::start_error::StartError;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::app::keys::{MadeKeys, complete_keys};
use crate::app::listen::{callable, listeners};
use crate::base::secret::ApiKey;
use crate::config::{Config, KeyPolicy, Sources};
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::accounts::web::WebAccounts;
use crate::gateway::alerts::Alerts;
use crate::gateway::answer::run::Answers;
use crate::gateway::caller_keys::CallerKeys;
use crate::gateway::catalogue::Models;
use crate::gateway::chats::continuations::Continuations;
use crate::gateway::chats::janitor::{self, Janitor, JanitorQueue, LostChats};
use crate::gateway::gallery::Gallery;
use crate::gateway::outlook::Outlook;
use crate::gateway::reloads::{Asked, Reloads};
use crate::gateway::responses::KeptResponses;
use crate::gateway::usage::UsageBook;
use crate::gateway::videos::jobs::VideoJobs;
use crate::http;
use crate::http::state::{AppState, Parts};
use crate::pool::{IdentityPool, Now, PoolSummary};
use crate::reload::parts::{LiveParts, LiveValues};
use crate::reload::{Reloader, Reread, RereadWithPage};
use crate::shutdown::Supervisor;
use crate::store::{OwnedChat, Store};
use crate::telemetry::{ErrorChain, LogControl};
use crate::upstream::web::client::QwenWeb;

/// Time for connections to write their last bytes after their streams were ended.
const LAST_WORDS: Duration = Duration::from_millis(150);
/// Time for background tasks to end.
const TASKS_PATIENCE: Duration = Duration::from_secs(5);

/// A server that is ready to serve.
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    metrics: Option<(TcpListener, SocketAddr)>,
    made: MadeKeys,
    state: AppState,
    alerts: Alerts,
    live: LiveParts,
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
    reread: Option<RereadWithPage>,
    config: Config,
}

impl App {
    /// Makes all parts and begins to listen. Makes no call of the upstream.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn build(config: Config) -> Result<Self, StartError> {
        Self::make(config, None, None).await
    }

    /// The same server, which takes up changed settings while it runs: `reread` reads all of their sources, and `log`
    /// changes what is logged.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn build_reloading(
        config: Config,
        reread: impl Fn() -> Sources + Send + 'static,
        log: Option<LogControl>,
    ) -> Result<Self, StartError> {
        Self::make(config, Some(Box::new(reread)), log).await
    }

    async fn make(mut config: Config, reread: Option<Reread>, log: Option<LogControl>) -> Result<Self, StartError> {
        outlive_file_size_limit();
        let (store, mut loaded) = parts::open_store(&mut config)?;
        let reread = reread.map(|reread| parts::change_by_page(&mut config, reread, &loaded.notes, log.as_ref()));
        let made = complete_keys(&mut config, &store, &loaded).await?;
        let now = Now::read();
        let supervisor = Supervisor::new();
        let upstream = Arc::new(QwenWeb::new(config.web.clone())?);
        let values = LiveValues::of(&config, upstream.timeouts.clone())?;
        let pool = IdentityPool::new(Vec::new(), config.pool.clone());
        let web_accounts = parts::web_accounts(&config, &pool, &upstream, &store, &supervisor, &loaded, now);
        let models = Models::new(Arc::clone(&upstream), supervisor.clone(), values.models_ttl.clone());
        let (janitor, continuations) = parts::own_chats(&config, &upstream, &web_accounts, &supervisor, &store);
        let attachments = parts::attachments(&config, &upstream)?;
        let own_chats = (janitor.0.clone(), continuations.clone());
        let chats = parts::web_chats(&pool, upstream, &web_accounts, own_chats, &attachments, &store);
        let (accounts, logins, oauth_pool) = parts::oauth_accounts(&config, &store, &supervisor, &loaded).await?;
        let owned = (&web_accounts, &accounts, &continuations);
        let book = parts::account_book(&config, owned, &store, &supervisor, &mut loaded, now);
        let upstreams = parts::upstreams(
            &config,
            &store,
            &supervisor,
            &loaded,
            (models.clone(), &pool),
            (accounts.clone(), oauth_pool),
            (&values, now),
        )?;
        let videos = parts::video_jobs((&chats, &attachments, &pool, &janitor.0), &store, &supervisor, loaded.videos);
        let lost = LostChats::of(loaded.intents, &loaded.chats);
        // A chat that a video is made in goes to the janitor when the video is done.
        let mut ledger = loaded.chats;
        ledger.retain(|chat| !videos.needs_chat(&chat.chat_id));
        let ledger = continuations.restore(ledger, &janitor.0, &pool.sessions(), now.unix);
        let drift = chats.drift().clone();
        let usage = parts::usage(&config, &store, loaded.usage, now);
        let gallery = Gallery::new(Arc::clone(&store), loaded.made);
        let ending = CancellationToken::new();
        let (reloads, asked) = Reloads::new();
        let state = AppState::new(Parts {
            answers: Answers::new(chats.clone(), models.clone(), attachments.clone(), values.answering.clone()),
            chats,
            upstreams: upstreams.clone(),
            attachments,
            videos: videos.clone(),
            responses: KeptResponses::new(Arc::clone(&store), values.keep_responses.clone()),
            models: models.clone(),
            pool: pool.clone(),
            accounts: accounts.clone(),
            logins,
            web_accounts: web_accounts.clone(),
            book,
            keys: CallerKeys::new(&config.http.keys, loaded.made_keys, supervisor.clone()),
            reloads,
            usage: usage.clone(),
            observers: parts::observers(&config, &usage, parts::spans(&config, &supervisor)?, &gallery),
            settings: values.http.clone(),
            auto_refresh: config.chat.auto_refresh,
            ending: ending.clone(),
            owner: parts::owner_parts(&config, &loaded.notes, gallery),
            store: Arc::clone(&store),
            janitor: janitor.0.clone(),
        });
        let ((listener, address), metrics) = listeners(&config.http)?;
        Ok(Self {
            listener,
            address,
            metrics,
            made,
            alerts: parts::alerts(&values, &store, &upstreams, &pool, drift, loaded.alerts),
            outlook: Outlook { upstreams, pool: pool.clone(), answering: values.answering.clone() },
            live: parts::live(values, &state, &continuations, log),
            state,
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
        })
    }

    /// Address of the server, with the real port even if 0 was configured.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Address of `/metrics` without a key, if `METRICS_ADDRESS` is set.
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

    /// The address of the owner's page, as a browser of this machine calls it. On a server of this machine without
    /// `ADMIN_SECRET_KEY` it holds a secret that opens the page once.
    #[must_use]
    pub fn page_link(&self) -> String {
        let page = format!("http://{}{}/admin", callable(self.address), self.config.http.base_path);
        match self.state.0.owner.sessions.link() {
            Some(secret) => format!("{page}#link={}", secret.expose()),
            None => page,
        }
    }

    /// The base URL for clients of this machine, which ends in `/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}{}/v1", callable(self.address), self.config.http.base_path)
    }

    /// A summary of the accounts of all kinds.
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
            live,
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
        let (shutdown_timeout, stopping) = (live.values.shutdown_timeout.clone(), state.0.owner.stopping.clone());
        match reread {
            Some(reread) => {
                let reloader = reloader(reread, live, &state, &config);
                supervisor.spawn("reload", reloader.run(asked, supervisor.stopping()));
            }
            // A question is then answered at once.
            None => drop(asked),
        }
        supervisor.spawn("web accounts", web_accounts.run(supervisor.stopping()));
        if config.http.server_mode {
            supervisor.spawn("forgetting", parts::forgetting(&state).run(supervisor.stopping()));
            supervisor.spawn("oauth accounts", accounts.run(supervisor.stopping()));
        }
        supervisor.spawn("counts", Arc::clone(&store).keep_counts(supervisor.stopping()));
        let finding = janitor::find_lost(janitor.0.clone(), lost, pool.sessions(), supervisor.stopping());
        supervisor.spawn("lost chats", finding);
        let cleaning =
            janitor::run(janitor.0, janitor.1, ledger, pool.sessions(), Now::read().unix, supervisor.stopping());
        supervisor.spawn("janitor", cleaning);
        supervisor.spawn("continuations", continuations.clone().run(supervisor.stopping()));
        supervisor.spawn("alerts", alerts.run(supervisor.stopping()));
        supervisor.spawn("usage", usage.run(supervisor.stopping()));
        models.fetch_in_background();
        supervisor.spawn("outlook", outlook.run(supervisor.stopping()));
        videos.resume();
        let connections = Supervisor::new();
        if let Some((listener, _)) = metrics {
            connections.spawn("metrics", serve_metrics(listener, state.clone(), connections.clone()));
        }
        let accepting = {
            let observers = Arc::clone(&state.0.observers);
            let (settings, connections) = (state.0.settings.clone(), connections.clone());
            let router = http::router(state);
            async move {
                http::serve::socket::server::serve(listener, router, &settings, &observers, &connections).await;
            }
        };
        connections.spawn("accept", accepting);
        stop.await;
        stopping.cancel();
        let shutdown_timeout = *shutdown_timeout.now();
        info!(timeout_seconds = shutdown_timeout.as_secs(), "stopping, open answers may finish");
        let end_streams = async {
            tokio::time::sleep(shutdown_timeout).await;
            ending.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = connections.stop(shutdown_timeout + LAST_WORDS) => {}
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

/// Makes the task that applies changed settings.
fn reloader((reread, page): RereadWithPage, live: LiveParts, state: &AppState, config: &Config) -> Reloader {
    Reloader {
        reread,
        page,
        store: Arc::clone(&state.0.store),
        live,
        book: state.0.book.clone(),
        keys: state.0.keys.clone(),
        oauth: state.0.accounts.clone(),
        static_keys: state.0.upstreams.keys().clone(),
        reloads: state.0.reloads.clone(),
        in_use: config.fingerprints.clone(),
        shown: state.0.owner.settings.clone(),
        key_policy: config.key_policy,
        server_mode: config.http.server_mode,
        files: config.files.clone(),
    }
}

/// Serves `/metrics` without a key. Its connections are not those of callers, and are not counted with them.
async fn serve_metrics(listener: TcpListener, state: AppState, connections: Supervisor) {
    let settings = state.0.settings.clone();
    let router = http::metrics_router(state);
    http::serve::socket::server::serve(listener, router, &settings, &Arc::default(), &connections).await;
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

/// Cookies that answers changed since the last refresh.
async fn save_sessions(pool: &IdentityPool, store: &Store) {
    for session in pool.sessions().into_iter().filter(|session| session.revision() > 0) {
        if let Err(error) = store.save_session(session.key().clone(), session.snapshot(), Now::read().unix).await {
            warn!(identity.id = %session.identity(), error = %ErrorChain(&error), "session not written down");
        }
    }
}
