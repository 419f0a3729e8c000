//! Logging an OAuth account in: a link for its owner, and a task that waits for the owner's word.
//!
//! The PKCE verifier, which proves that this server began the login, never leaves this file.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::base::ids::IdentityId;
use crate::base::oauth::{AccountId, OAuthCredentials, UnixMillis};
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::pool::Now;
use crate::shutdown::Supervisor;
use crate::telemetry::ErrorChain;
use crate::upstream::error::UpstreamError;
use crate::upstream::oauth::client::{DeviceCode, Poll, QwenOAuth};
use crate::upstream::oauth::pkce::{challenge, verifier};

/// The shortest pause between two polls, whatever the upstream says.
const INTERVAL_MIN: Duration = Duration::from_secs(2);
/// How much longer it gets with each `slow_down` (RFC 8628, section 3.5).
const SLOWER_BY: Duration = Duration::from_secs(5);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// How long an owner may think at most.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Logins under way at once.
const FLOWS_MAX: usize = 8;
/// Logins that are over and can still be asked about.
const ENDED_MAX: usize = 16;

/// A login that has begun.
pub(crate) struct PendingLogin {
    /// What its owner has to be shown.
    pub code: DeviceCode,
    verifier: SecretString,
}

/// How a login ended that brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginFailure {
    /// The owner said no.
    #[error("the login was refused in the browser")]
    Denied,
    /// The owner said nothing in time.
    #[error("the code is not good any more, start again")]
    Expired,
    /// The upstream had enough of us.
    #[error("too many logins, try again {}", in_words(*retry_after))]
    RateLimited {
        /// When to begin again, if the upstream says so.
        retry_after: Option<Duration>,
    },
    /// The upstream refused for another reason, or the credentials could not be written.
    #[error("{0}")]
    Failed(String),
    /// The owner cancelled it, or a later login took its place.
    #[error("the login was taken back")]
    Cancelled,
}

impl PendingLogin {
    /// Begins a login.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn begin(upstream: &QwenOAuth) -> Result<Self, UpstreamError> {
        let verifier = verifier(&random());
        let code = upstream.device_code(&challenge(&verifier)).await?;
        Ok(Self { code, verifier: SecretString::from(verifier) })
    }

    /// Waits for the owner's word.
    ///
    /// # Errors
    /// [`LoginFailure`].
    pub(crate) async fn finish(&self, upstream: &QwenOAuth) -> Result<OAuthCredentials, LoginFailure> {
        let deadline = Instant::now() + self.code.expires_in.min(PATIENCE);
        let mut interval = self.code.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        loop {
            let next = Instant::now() + interval;
            if next >= deadline {
                return Err(LoginFailure::Expired);
            }
            tokio::time::sleep_until(next).await;
            let now = UnixMillis(Now::read().unix.0.saturating_mul(1000));
            match upstream.poll(&self.code.device_code, &self.verifier, now).await {
                Poll::Pending => {}
                Poll::SlowDown => interval = (interval + SLOWER_BY).min(INTERVAL_MAX),
                Poll::Unreachable(error) => debug!(error = %ErrorChain(&error), "a poll for a login failed"),
                Poll::Granted(credentials) => return Ok(*credentials),
                Poll::Denied => return Err(LoginFailure::Denied),
                Poll::Expired => return Err(LoginFailure::Expired),
                Poll::RateLimited { retry_after } => return Err(LoginFailure::RateLimited { retry_after }),
                Poll::Failed { message } => return Err(LoginFailure::Failed(message)),
            }
        }
    }
}

impl fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingLogin").field("code", &self.code).finish_non_exhaustive()
    }
}

/// Logins in the background. Clones share them.
#[derive(Clone)]
pub(crate) struct DeviceLogins(Arc<Shared>);

struct Shared {
    accounts: OAuthAccounts,
    upstream: Arc<QwenOAuth>,
    supervisor: Supervisor,
    /// The latest last.
    flows: Mutex<VecDeque<Entry>>,
    /// Held while a login begins, so that a request to join it waits until there is a link to show.
    joining: AsyncMutex<()>,
}

struct Entry {
    id: String,
    account: AccountId,
    state: FlowState,
    cancel: CancellationToken,
    /// What its owner is shown and how long it is good, once the upstream has answered.
    shown: Option<(Flow, Instant)>,
}

/// A login as it is shown to the owner. Holds codes and links that are for the owner only.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// By which to ask how it goes.
    pub flow_id: String,
    /// What the owner types in.
    pub user_code: String,
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: String,
    /// How long the owner has.
    pub expires_in: Duration,
    /// How often to ask how it goes.
    pub interval: Duration,
}

/// How a login goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FlowState {
    /// Its owner has not decided yet.
    Pending,
    /// The account is in use.
    Done(IdentityId),
    /// Nothing came of it.
    Failed(LoginFailure),
}

/// Why a login does not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Enough are under way.
    #[error("{FLOWS_MAX} logins are under way, wait for one to end")]
    TooMany,
    /// The upstream did not take part.
    #[error("the login cannot begin")]
    Upstream(#[from] UpstreamError),
}

impl DeviceLogins {
    /// No logins yet. Those that succeed become accounts of `accounts`.
    #[must_use]
    pub(crate) fn new(accounts: OAuthAccounts, upstream: Arc<QwenOAuth>, supervisor: Supervisor) -> Self {
        Self(Arc::new(Shared {
            accounts,
            upstream,
            supervisor,
            flows: Mutex::default(),
            joining: AsyncMutex::default(),
        }))
    }

    /// The login of this account that is under way, with what is left of its time, else a new one.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) async fn join_or_start(&self, account: AccountId) -> Result<Flow, StartError> {
        let _joining = self.0.joining.lock().await;
        match self.under_way(&account) {
            Some(flow) => Ok(flow),
            None => self.start(account).await,
        }
    }

    fn under_way(&self, account: &AccountId) -> Option<Flow> {
        let flows = self.0.flows.lock();
        let entry = flows.iter().find(|entry| entry.account == *account && entry.state == FlowState::Pending)?;
        let (flow, ends_at) = entry.shown.as_ref()?;
        let expires_in = ends_at.saturating_duration_since(Instant::now());
        (!expires_in.is_zero()).then(|| Flow { expires_in, ..flow.clone() })
    }

    /// Begins a login and returns as soon as there is something to show; the rest goes on by itself. An earlier
    /// login of the same account is taken back.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) async fn start(&self, account: AccountId) -> Result<Flow, StartError> {
        let id = Uuid::new_v4().to_string();
        let cancel = CancellationToken::new();
        {
            // The place is taken before the upstream is asked, so that many at once are not too many.
            let mut flows = self.0.flows.lock();
            let pending = |entry: &&mut Entry| entry.state == FlowState::Pending;
            for entry in flows.iter_mut().filter(pending).filter(|entry| entry.account == account) {
                entry.state = FlowState::Failed(LoginFailure::Cancelled);
                entry.cancel.cancel();
            }
            let under_way = flows.iter().filter(|entry| entry.state == FlowState::Pending).count();
            if under_way >= FLOWS_MAX {
                return Err(StartError::TooMany);
            }
            let ended = flows.len() - under_way;
            if ended >= ENDED_MAX
                && let Some(oldest) = flows.iter().position(|entry| entry.state != FlowState::Pending)
            {
                flows.remove(oldest);
            }
            let state = FlowState::Pending;
            let (id, account, cancel) = (id.clone(), account.clone(), cancel.clone());
            flows.push_back(Entry { id, account, state, cancel, shown: None });
        }
        // Gives the place back if the caller leaves before there is an answer.
        let mut place = PlaceTaken { logins: self, id: id.clone(), is_kept: false };
        let login = PendingLogin::begin(&self.0.upstream).await?;
        place.is_kept = true;
        let code = &login.code;
        let flow = Flow {
            flow_id: id.clone(),
            user_code: code.user_code.clone(),
            verification_uri: code.verification_uri.clone(),
            verification_uri_complete: code.verification_uri_complete.clone(),
            expires_in: code.expires_in.min(PATIENCE),
            interval: code.interval.clamp(INTERVAL_MIN, INTERVAL_MAX),
        };
        if let Some(entry) = self.0.flows.lock().iter_mut().find(|entry| entry.id == id) {
            entry.shown = Some((flow.clone(), Instant::now() + flow.expires_in));
        }
        let (logins, stopping) = (self.clone(), self.0.supervisor.stopping());
        self.0.supervisor.spawn("wait for a login", async move {
            let state = tokio::select! {
                () = cancel.cancelled() => FlowState::Failed(LoginFailure::Cancelled),
                () = stopping.cancelled() => FlowState::Failed(LoginFailure::Cancelled),
                state = logins.finish(&login, &account) => state,
            };
            logins.end(&id, state);
        });
        Ok(flow)
    }

    /// How a login goes; `None` for one that is not known, or not any more.
    #[must_use]
    pub(crate) fn state(&self, flow_id: &str) -> Option<FlowState> {
        self.0.flows.lock().iter().find(|entry| entry.id == flow_id).map(|entry| entry.state.clone())
    }

    /// Takes a login back; `false` for one that is not known, or not any more.
    pub(crate) fn cancel(&self, flow_id: &str) -> bool {
        let mut flows = self.0.flows.lock();
        let Some(entry) = flows.iter_mut().find(|entry| entry.id == flow_id) else {
            return false;
        };
        if entry.state == FlowState::Pending {
            entry.state = FlowState::Failed(LoginFailure::Cancelled);
            entry.cancel.cancel();
        }
        true
    }

    async fn finish(&self, login: &PendingLogin, account: &AccountId) -> FlowState {
        let credentials = match login.finish(&self.0.upstream).await {
            Ok(credentials) => credentials,
            Err(failure) => {
                warn!(account = %account, reason = %failure, "login without success");
                return FlowState::Failed(failure);
            }
        };
        match self.0.accounts.log_in(account, credentials).await {
            Ok(()) => {
                info!(account = %account, "logged in");
                FlowState::Done(account.identity())
            }
            Err(error) => {
                warn!(account = %account, error = %ErrorChain(&error), "the credentials of a login cannot be written");
                FlowState::Failed(LoginFailure::Failed("the credentials could not be written".to_owned()))
            }
        }
    }

    fn end(&self, id: &str, state: FlowState) {
        let mut flows = self.0.flows.lock();
        if let Some(entry) = flows.iter_mut().find(|entry| entry.id == id && entry.state == FlowState::Pending) {
            entry.state = state;
        }
    }
}

/// A place among the flows before the upstream has answered.
struct PlaceTaken<'a> {
    logins: &'a DeviceLogins,
    id: String,
    is_kept: bool,
}

impl Drop for PlaceTaken<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.logins.0.flows.lock().retain(|entry| entry.id != self.id);
        }
    }
}

/// 244 random bits in 32 bytes, from the operating system by way of two random UUIDs.
fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    let (first, second) = bytes.split_at_mut(16);
    first.copy_from_slice(Uuid::new_v4().as_bytes());
    second.copy_from_slice(Uuid::new_v4().as_bytes());
    bytes
}

fn in_words(wait: Option<Duration>) -> String {
    wait.map_or_else(|| "later".to_owned(), |wait| format!("in {} s", wait.as_secs()))
}
