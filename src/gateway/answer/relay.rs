//! Answering through upstreams that speak OpenAI's dialect: static keys and OAuth accounts. The request goes
//! up as it came, on one identity after the other, and the answer comes down as it is.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::base::facts::Usage;
use crate::base::ids::{IdentityId, UnixSeconds};
use crate::base::secret::AccessToken;
use crate::base::seed::StaticKey;
use crate::base::session::Session;
use crate::chat::reply::ReplySink;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::accounts::tokens::Tokens;
use crate::gateway::answer::books::Books;
use crate::gateway::answer::error::ChatError;
use crate::gateway::answer::failover::{Asker, Attempt, Failed, Failover, Terms};
use crate::gateway::answer::turn::{Finished, Turn, TurnParts};
use crate::gateway::drift::Drift;
use crate::pool::{IdentityPool, Lease, Now, Outcome};
use crate::store::{AccountDays, Store};
use crate::telemetry::ErrorChain;
use crate::upstream::WebSettings;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::openai::client::{OpenAiApi, Target};
use crate::upstream::openai::translate::{Profile, RelayDecoder, RelayRequest};
use crate::upstream::web::stream::ReplyStream;

/// How long after a failed look for models the next one waits.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Relays requests to one kind of upstream. Cheap to clone.
#[derive(Clone)]
pub struct RelayGateway(Arc<Shared>);

struct Shared {
    failover: Failover,
    api: OpenAiApi,
    targets: Targets,
    drift: Drift,
    settings: RelaySettings,
    models: ArcSwap<RelayModels>,
    fetching: Mutex<()>,
}

/// Where the requests of each identity go.
pub enum Targets {
    /// Each key to its own endpoint.
    Keys(HashMap<IdentityId, Target>),
    /// Each account to where its credentials say, which a refresh may change.
    Accounts(OAuthAccounts),
}

impl Targets {
    fn of(&self, identity: &IdentityId) -> Option<Target> {
        match self {
            Self::Keys(targets) => targets.get(identity).cloned(),
            Self::Accounts(accounts) => {
                let base = accounts.api_base(identity)?.inspect_err(|error| {
                    warn!(identity.id = %identity, error = %error, "no token is sent there");
                });
                Some(Target { base: base.ok()?, profile: Profile::Portal })
            }
        }
    }
}

/// The models of the portal, which has no list of its own. Two are names that it keeps for whatever is newest.
pub const PORTAL_MODELS: [&str; 4] = ["qwen3-coder-plus", "qwen3-coder-flash", "coder-model", "vision-model"];

/// How patient relaying is.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// To the first content.
    pub first_event_timeout: Duration,
    /// Between two events.
    pub idle_timeout: Duration,
    /// For a whole answer.
    pub total_timeout: Duration,
    /// How long a list of models counts as fresh.
    pub models_ttl: Duration,
}

impl RelaySettings {
    /// The same patience as with the web chat.
    #[must_use]
    pub fn like(web: &WebSettings, models_ttl: Duration) -> Self {
        Self {
            first_event_timeout: web.first_event_timeout * 2,
            idle_timeout: web.idle_timeout,
            total_timeout: web.total_timeout,
            models_ttl,
        }
    }
}

/// The models of a kind, as last seen.
#[derive(Debug)]
pub struct RelayModels {
    /// Their names, in the upstream's order.
    pub names: Vec<String>,
    due_at: Instant,
}

/// A request on its way.
#[derive(Debug)]
pub struct RelayJob {
    /// The model as the caller named it.
    pub model: String,
    /// The model as the upstream does.
    pub upstream_model: String,
    /// What was asked.
    pub request: RelayRequest,
}

/// The sessions of static keys, and where each of them goes.
#[must_use]
pub fn keys(keys: &[StaticKey]) -> (Vec<Arc<Session>>, HashMap<IdentityId, Target>) {
    let (mut sessions, mut targets) = (Vec::new(), HashMap::new());
    for (place, StaticKey { key, base }) in (1..).zip(keys) {
        let identity = IdentityId::named(&format!("key-{place}"));
        // What is no JWT does not end by itself, and a key is none.
        let Ok(token) = AccessToken::parse(key.expose(), UnixSeconds(0)) else { continue };
        sessions.push(Arc::new(Session::new(identity.clone(), key.key(), None, Some(token))));
        targets.insert(identity, Target { base: base.clone(), profile: Profile::Key });
    }
    (sessions, targets)
}

impl RelayGateway {
    /// A gateway to these targets, one for each identity of the pool.
    #[must_use]
    pub fn new(
        pool: IdentityPool,
        api: OpenAiApi,
        targets: Targets,
        store: Arc<Store>,
        settings: RelaySettings,
        retries_max: u32,
    ) -> Self {
        let books = Books::new(pool.clone(), store);
        let (tokens, names) = match &targets {
            Targets::Keys(_) => (Tokens::Fixed, Vec::new()),
            Targets::Accounts(accounts) => (Tokens::OAuth(accounts.clone()), PORTAL_MODELS.map(str::to_owned).to_vec()),
        };
        let failover = Failover { pool, tokens, books, retries_max };
        let models = ArcSwap::from_pointee(RelayModels { names, due_at: Instant::now() });
        let (drift, fetching) = (Drift::default(), Mutex::new(()));
        Self(Arc::new(Shared { failover, api, targets, drift, settings, models, fetching }))
    }

    /// Whether there is anybody to relay to.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.failover.pool.sessions().is_empty()
    }

    /// The identities.
    #[must_use]
    pub fn pool(&self) -> &IdentityPool {
        &self.0.failover.pool
    }

    /// What each account did on its last days.
    #[must_use]
    pub fn spending(&self) -> Vec<AccountDays> {
        self.0.failover.books.spending()
    }

    /// What these upstreams sent that this version does not know.
    #[must_use]
    pub fn drift(&self) -> &Drift {
        &self.0.drift
    }

    /// The newest list of models, fetched when it is due. Never fails: what cannot be fetched stays as it was.
    pub async fn models(&self) -> Arc<RelayModels> {
        let current = self.0.models.load_full();
        if Instant::now() < current.due_at || matches!(self.0.targets, Targets::Accounts(_)) {
            return current;
        }
        let _only_one = self.0.fetching.lock().await;
        let current = self.0.models.load_full();
        if Instant::now() < current.due_at {
            return current;
        }
        let mut names: Vec<String> = Vec::new();
        let mut is_complete = true;
        for session in self.0.failover.pool.sessions() {
            let Some(target) = self.0.targets.of(session.identity()) else { continue };
            match self.0.api.models(&session, &target).await {
                Ok(found) => names.extend(found),
                Err(error) => {
                    is_complete = false;
                    debug!(identity.id = %session.identity(), error = %ErrorChain(&error), "models not listed");
                }
            }
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        if names.is_empty() {
            warn!("no list of models came from the endpoints of static keys");
            names.clone_from(&current.names);
        }
        let wait = if is_complete { self.0.settings.models_ttl } else { RETRY_AFTER };
        let fresh = Arc::new(RelayModels { names, due_at: Instant::now() + wait });
        self.0.models.store(Arc::clone(&fresh));
        fresh
    }

    /// Asks an endpoint whether it accepts this session, by listing its models. The pool hears nothing of what comes of
    /// it.
    ///
    /// # Errors
    /// [`ChatError::Upstream`]: why it is not accepted, or why nobody knows.
    pub async fn probe(&self, session: &Arc<Session>) -> Result<(), ChatError> {
        self.0.failover.tokens.ensure_fresh(session).await.map_err(ChatError::Session)?;
        let probed = async { self.0.api.models(session, &self.0.target(session)?).await.map(drop) };
        match probed.await {
            // The portal has no such list, and says so only to those whom it lets in.
            Err(error) if error.kind == UpstreamErrorKind::ModelNotFound => Ok(()),
            probed => probed.map_err(|error| ChatError::Upstream { error, attempts: 1 }),
        }
    }

    /// Begins an answer: returns when its first content has gone to `sink`.
    ///
    /// # Errors
    /// [`ChatError`]: nothing has been said, and `sink` is as at the beginning.
    pub async fn open(
        &self,
        job: &RelayJob,
        asker: &Asker,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<Turn, ChatError> {
        let mut attempt = Relaying { shared: &self.0, job, sink };
        self.0.failover.run(asker, &mut attempt, &mut self.0.failover.begin(self.terms(), asker)).await
    }

    /// Answers as a whole: everything has gone to `sink` when this returns.
    ///
    /// # Errors
    /// [`ChatError`].
    pub async fn complete(
        &self,
        job: &RelayJob,
        asker: &Asker,
        sink: &mut (impl ReplySink + Send),
    ) -> Result<(Turn, Finished), ChatError> {
        let mut turn = self.open(job, asker, sink).await?;
        loop {
            if let Some(finished) = poll_fn(|cx| turn.poll_next(cx, sink)).await? {
                return Ok((turn, finished));
            }
        }
    }

    /// Passes a body to another path of the upstream and hands the answer back as it is.
    ///
    /// # Errors
    /// [`ChatError`].
    pub async fn pass(&self, path: &'static str, body: Vec<u8>, asker: &Asker) -> Result<Bytes, ChatError> {
        let mut attempt = Passing { shared: &self.0, path, body };
        self.0.failover.run(asker, &mut attempt, &mut self.0.failover.begin(self.terms(), asker)).await
    }

    fn terms(&self) -> Terms {
        let RelaySettings { first_event_timeout, total_timeout, .. } = self.0.settings;
        // Nothing stands between us and these upstreams that would mind a size.
        Terms { usage: Usage::Chat, total_timeout, first_event_timeout, prompt_bytes: 0 }
    }
}

impl Shared {
    fn target(&self, session: &Session) -> Result<Target, UpstreamError> {
        let target = self.targets.of(session.identity());
        target.ok_or_else(|| UpstreamError::new("asking", UpstreamErrorKind::Unavailable))
    }
}

/// One request, answered.
struct Relaying<'a, S> {
    shared: &'a Shared,
    job: &'a RelayJob,
    sink: &'a mut S,
}

impl<S: ReplySink + Send> Relaying<'_, S> {
    async fn answer(&mut self, session: &Session, deadline: Instant) -> Result<Answer, UpstreamError> {
        let Self { shared, job, sink } = self;
        let target = shared.target(session)?;
        let body = job.request.encode(&job.upstream_model, target.profile);
        if job.request.stream {
            let first = deadline.min(Instant::now() + shared.settings.first_event_timeout);
            let stream = shared.api.stream(session, &target, body, first).await?;
            return Ok(Answer::Stream(Box::new(stream), first));
        }
        let body = shared.api.whole(session, &target, "chat/completions", body, deadline).await?;
        let mut decoder = RelayDecoder::default();
        decoder.whole(&body, &mut |event| sink.event(event)).map_err(|error| UpstreamError::in_stream(&error))?;
        Ok(Answer::Whole(decoder))
    }
}

enum Answer {
    Stream(Box<ReplyStream>, Instant),
    Whole(RelayDecoder),
}

impl<S: ReplySink + Send> Attempt for Relaying<'_, S> {
    type Done = Turn;

    async fn run(&mut self, lease: Lease, number: u32, deadline: Instant) -> Result<Turn, Failed> {
        let session = Arc::clone(lease.session());
        let answer = match self.answer(&session, deadline).await {
            Ok(answer) => answer,
            Err(error) => return Err(Failed { error, lease, is_final: false }),
        };
        let shared = self.shared;
        let parts = TurnParts {
            lease,
            chat: None,
            drift: shared.drift.clone(),
            books: shared.failover.books.clone(),
            attempts: number,
            idle_timeout: shared.settings.idle_timeout,
            deadline,
        };
        let (stream, first) = match answer {
            Answer::Whole(decoder) => return Ok(Turn::done(parts, decoder.usage())),
            Answer::Stream(stream, first) => (stream, first),
        };
        let mut turn = Turn::new(*stream, parts);
        let sink = &mut *self.sink;
        let begun = timeout_at(first, async {
            while !turn.has_content() {
                if poll_fn(|cx| turn.poll_upstream(cx, sink)).await?.is_some() {
                    break;
                }
            }
            Ok(())
        });
        let late = || UpstreamError::new("waiting for the first word", UpstreamErrorKind::Timeout);
        let error = match begun.await.unwrap_or_else(|_| Err(late())) {
            Ok(()) => return Ok(turn),
            Err(error) => error,
        };
        let lease = turn.lease_mut().unwrap_or_else(|| IdentityPool::detached(session));
        Err(Failed { error, lease, is_final: false })
    }

    fn reset(&mut self) {
        self.sink.reset();
    }
}

/// One body, passed on.
struct Passing<'a> {
    shared: &'a Shared,
    path: &'static str,
    body: Vec<u8>,
}

impl Attempt for Passing<'_> {
    type Done = Bytes;

    async fn run(&mut self, lease: Lease, _number: u32, deadline: Instant) -> Result<Bytes, Failed> {
        let session = Arc::clone(lease.session());
        let passed = async {
            let target = self.shared.target(&session)?;
            self.shared.api.whole(&session, &target, self.path, self.body.clone(), deadline).await
        };
        match passed.await {
            Ok(bytes) => {
                lease.finish(Outcome::Success, Now::read());
                Ok(bytes)
            }
            Err(error) => Err(Failed { error, lease, is_final: false }),
        }
    }

    fn reset(&mut self) {}
}
