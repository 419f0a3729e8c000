//! Device logins of OAuth accounts: a link for the owner, and a task that waits for the owner's decision.
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
use crate::gateway::random::secret_bytes;
use crate::pool::Now;
use crate::shutdown::Supervisor;
use crate::telemetry::ErrorChain;
use crate::upstream::error::UpstreamError;
use crate::upstream::oauth::client::{DeviceCode, Poll, QwenOAuth};
use crate::upstream::oauth::pkce::{challenge, verifier};

/// Least pause between two polls, even if the upstream allows a shorter one.
const INTERVAL_MIN: Duration = Duration::from_secs(2);
/// Extension of the pause by each `slow_down` (RFC 8628, section 3.5).
const SLOWER_BY: Duration = Duration::from_secs(5);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Longest time for the owner's decision.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Most logins under way at once.
const FLOWS_MAX: usize = 8;
/// Most ended logins whose outcome can still be queried.
const ENDED_MAX: usize = 16;

/// A login that has begun.
pub(crate) struct PendingLogin {
    /// The codes and links that the owner needs.
    pub code: DeviceCode,
    verifier: SecretString,
}

/// Reasons why a login ended without an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginFailure {
    /// The owner denied the login.
    #[error("the login was refused in the browser")]
    Denied,
    /// The owner did not decide in time.
    #[error("the code has expired, start again")]
    Expired,
    /// The upstream refused further polls.
    #[error("too many logins, try again {}", in_words(*retry_after))]
    RateLimited {
        /// Wait that the upstream asks for, if any.
        retry_after: Option<Duration>,
    },
    /// The upstream refused for another reason, or the credentials could not be written.
    #[error("{0}")]
    Failed(String),
    /// The owner cancelled it, or a later login took its place.
    #[error("the login was cancelled")]
    Cancelled,
}

impl PendingLogin {
    /// Begins a login.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn begin(upstream: &QwenOAuth) -> Result<Self, UpstreamError> {
        let verifier = verifier(&secret_bytes());
        let code = upstream.device_code(&challenge(&verifier)).await?;
        Ok(Self { code, verifier: SecretString::from(verifier) })
    }

    /// Waits for the owner's decision.
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
    /// Logins, the newest last.
    flows: Mutex<VecDeque<Entry>>,
    /// Held while a login begins, so that a request to join it waits until there is a link to show.
    joining: AsyncMutex<()>,
}

struct Entry {
    id: String,
    account: AccountId,
    state: FlowState,
    cancel: CancellationToken,
    /// The codes and links with the end of their validity, once the upstream has answered.
    shown: Option<(Flow, Instant)>,
}

/// A login as it is shown to the owner. Holds codes and links that are for the owner only.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// Id by which its state is queried.
    pub flow_id: String,
    /// Code that the owner types in.
    pub user_code: String,
    pub verification_uri: String,
    /// The same URL with the code in it.
    pub verification_uri_complete: String,
    /// Time that the owner has left.
    pub expires_in: Duration,
    /// Interval in which its state may be queried.
    pub interval: Duration,
}

/// The state of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FlowState {
    /// Its owner has not decided yet.
    Pending,
    /// The login succeeded, and the account is in use.
    Done(IdentityId),
    /// The login ended without an account.
    Failed(LoginFailure),
}

/// Reasons why a login does not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// [`FLOWS_MAX`] logins are under way.
    #[error("{FLOWS_MAX} logins are under way, wait for one to end")]
    TooMany,
    /// The upstream refused or did not answer.
    #[error("the login cannot be started")]
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

    /// The login of this account that is under way, with the rest of its time, else a new one.
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

    /// Begins a login and returns as soon as its link is there; the rest runs in the background. An earlier login of
    /// the same account is cancelled.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) async fn start(&self, account: AccountId) -> Result<Flow, StartError> {
        let id = Uuid::new_v4().to_string();
        let cancel = CancellationToken::new();
        {
            // The place is taken before the upstream is asked, so that simultaneous calls cannot exceed the limit.
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
        // Frees the place if the caller leaves before the answer.
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

    /// State of a login; `None` if it is unknown or forgotten.
    #[must_use]
    pub(crate) fn state(&self, flow_id: &str) -> Option<FlowState> {
        self.0.flows.lock().iter().find(|entry| entry.id == flow_id).map(|entry| entry.state.clone())
    }

    /// Cancels a login; `false` if it is unknown or forgotten.
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
                warn!(account = %account, reason = %failure, "the login was not completed");
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

fn in_words(wait: Option<Duration>) -> String {
    wait.map_or_else(|| "later".to_owned(), |wait| format!("in {} s", wait.as_secs()))
}
