//! Refreshes of OAuth accounts: one at a time for each, under the lock that other programs know.

use std::io;

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::base::facts::IdentityFacts;
use crate::base::ids::CredentialKey;
use crate::base::oauth::{AccountId, OAuthCredentials, UnixMillis};
use crate::base::session::Session;
use crate::gateway::accounts::error::RefreshError;
use crate::gateway::accounts::oauth::{FLOOR_SECONDS, OAuthAccounts, refused_key};
use crate::gateway::accounts::oauth_account::{Account, Place, backoff, retry_after};
use crate::pool::Now;
use crate::store::oauth_files::{OAuthFile, OAuthFileError, OAuthFiles, Replaced};
use crate::telemetry::ErrorChain;
use crate::upstream::oauth::client::RefreshFailure;

impl OAuthAccounts {
    /// One refresh, unless the token of `generation` was replaced meanwhile. At most one for each account at a time.
    pub(crate) async fn refresh(&self, account: &Account, generation: u64) -> Result<(), RefreshError> {
        let session = &account.session;
        let identity = session.identity().clone();
        let _gate = account.gate.lock().await;
        if session.token_generation() != generation {
            return Ok(());
        }
        let Ok(_permit) = self.0.running.acquire().await else {
            return Err(RefreshError::Failed { identity, source: None });
        };
        let result = match account.place.clone() {
            Place::File { files, account: name } => self.renew_file(account, &files, &name, generation).await,
            Place::Given { .. } => self.renew_given(account).await,
        };
        let now = Now::read();
        match &result {
            Ok(()) => {}
            Err(RefreshError::Refused { .. }) => {
                self.bury_token(account);
                self.settle(account, now);
            }
            Err(RefreshError::Gone { .. }) => self.forget(account),
            Err(error) => {
                let wait = {
                    let mut known = account.known.lock();
                    let wait = backoff(known.failures, fastrand::f64()).max(retry_after(error));
                    known.failures = known.failures.saturating_add(1);
                    known.retry_at = Some(Instant::now() + wait);
                    known.due_at = known.retry_at;
                    wait
                };
                warn!(identity.id = %identity, error = %ErrorChain(error), retry_seconds = wait.as_secs(), "OAuth token not refreshed");
                // A token that is still good serves on.
                self.settle(account, now);
            }
        }
        result
    }

    async fn renew_given(&self, account: &Account) -> Result<(), RefreshError> {
        let old = account.known.lock().credentials.clone();
        let new = match self.exchange(account, &old).await? {
            Ok(new) => new,
            Err(refused) => return Err(self.refuse(account, refused)),
        };
        self.keep(account, &new).await;
        self.renewed(account, &old, new);
        Ok(())
    }

    async fn renew_file(
        &self,
        account: &Account,
        files: &OAuthFiles,
        name: &AccountId,
        generation: u64,
    ) -> Result<(), RefreshError> {
        let identity = account.session.identity();
        let failed = |error| match error {
            OAuthFileError::Missing(_) => RefreshError::Gone { identity: identity.clone() },
            error => RefreshError::File { identity: identity.clone(), source: error.into() },
        };
        let _lock = match files.lock(name).await {
            Ok(lock) => lock,
            // The folder went with the file.
            Err(OAuthFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(RefreshError::Gone { identity: identity.clone() });
            }
            // A folder that cannot be written: other programs can write no lock either, so none of them renews.
            Err(error @ OAuthFileError::Io { .. }) => {
                return self.renew_unwritable(account, files, name, generation, &error).await;
            }
            Err(error) => return Err(RefreshError::File { identity: identity.clone(), source: error.into() }),
        };
        let now = Now::read();
        let mut file = files.read(name, now.unix).await.map_err(failed)?;
        self.adopt(account, file.clone(), now).await;
        if has_news(&account.session, generation, now) {
            return Ok(());
        }
        let old = account.known.lock().credentials.clone();
        let new = match self.exchange(account, &old).await? {
            Ok(new) => new,
            Err(refused) => {
                // A program that knows no lock may have renewed it under our eyes.
                let now = Now::read();
                file = files.read(name, now.unix).await.map_err(failed)?;
                self.adopt(account, file, now).await;
                if has_news(&account.session, generation, now) {
                    return Ok(());
                }
                let is_other =
                    account.known.lock().credentials.refresh_token().is_some_and(|token| token.key() != refused);
                return Err(if is_other {
                    RefreshError::Failed { identity: identity.clone(), source: None }
                } else {
                    self.refuse(account, refused)
                });
            }
        };
        let now = Now::read();
        match files.replace(name, self.written(account, &file), new.clone(), now.unix).await {
            Ok(Replaced::Done(stamp)) => {
                self.renewed(account, &old, new);
                account.known.lock().stamp = Some(stamp);
            }
            Ok(Replaced::Superseded(theirs)) => {
                debug!(identity.id = %identity, "another login came into the file during the refresh");
                account.known.lock().spend(&old);
                self.adopt(account, *theirs, now).await;
            }
            Err(OAuthFileError::Missing(_)) => return Err(RefreshError::Gone { identity: identity.clone() }),
            Err(error) => {
                // The token before is spent, so the new one has to lie somewhere before it is used.
                self.complain(files.path_of(name), &error);
                self.keep(account, &new).await;
                self.renewed(account, &old, new);
            }
        }
        Ok(())
    }

    /// Renews an account whose folder cannot be written. The new credentials are kept in memory and in the state file.
    async fn renew_unwritable(
        &self,
        account: &Account,
        files: &OAuthFiles,
        name: &AccountId,
        generation: u64,
        why: &OAuthFileError,
    ) -> Result<(), RefreshError> {
        if self.0.unwritable.lock().insert(files.dir().to_owned()) {
            warn!(path = %files.dir().display(), error = %ErrorChain(why), "renewed OAuth credentials are kept in memory and in the state file only (QWEN_DIR)");
        }
        let now = Now::read();
        if let Ok(file) = files.read(name, now.unix).await {
            self.adopt(account, file, now).await;
        }
        if has_news(&account.session, generation, now) {
            return Ok(());
        }
        self.renew_given(account).await
    }

    /// The credentials in the file, which differ from the known ones when those could not be written.
    fn written(&self, account: &Account, file: &OAuthFile) -> OAuthCredentials {
        let known = account.known.lock();
        if self.0.kept.lock().contains_key(&known.origin) {
            file.credentials.clone()
        } else {
            known.credentials.clone()
        }
    }

    /// Asks the upstream for a new token; `Ok(Err)` with the name of a refresh token that is refused.
    async fn exchange(
        &self,
        account: &Account,
        old: &OAuthCredentials,
    ) -> Result<Result<OAuthCredentials, CredentialKey>, RefreshError> {
        let identity = account.session.identity();
        let Some(token) = old.refresh_token() else {
            return Err(RefreshError::Refused { identity: identity.clone() });
        };
        let key = token.key();
        if self.0.dead.lock().contains(&key) {
            return Err(RefreshError::Refused { identity: identity.clone() });
        }
        match self.0.upstream.refresh(token, Now::read().unix).await {
            Ok(grant) => {
                let now = UnixMillis(Now::read().unix.0.saturating_mul(1000));
                let new = old.renewed(grant, now);
                let account = |credentials: &OAuthCredentials| Some(credentials.access_token()?.account()?.to_owned());
                if let (Some(before), Some(after)) = (account(old), account(&new))
                    && before != after
                {
                    warn!(identity.id = %identity, "a refresh brought a token of another account, which is not used");
                    return Ok(Err(key));
                }
                debug!(identity.id = %identity, "OAuth token refreshed");
                Ok(Ok(new))
            }
            Err(RefreshFailure::Dead { code }) => {
                warn!(identity.id = %identity, code = code.unwrap_or("none"), "refresh token refused");
                Ok(Err(key))
            }
            Err(RefreshFailure::Transient(error)) => {
                Err(RefreshError::Failed { identity: identity.clone(), source: Some(error.into()) })
            }
        }
    }

    /// Remembers a dead refresh token, across restarts too, so that it is not tried again.
    fn refuse(&self, account: &Account, key: CredentialKey) -> RefreshError {
        let identity = account.session.identity().clone();
        warn!(identity.id = %identity, "login is over, log in again");
        let facts = IdentityFacts { dead_since: Some(Now::read().unix), ..IdentityFacts::default() };
        self.0.store.save_facts(key.clone(), || facts);
        self.0.dead.lock().insert(key);
        account.known.lock().due_at = None;
        RefreshError::Refused { identity }
    }

    /// Remembers an access token that the upstream refused and that nothing can renew, across restarts too.
    fn bury_token(&self, account: &Account) {
        let Some(token) = account.session.token().filter(|_| account.has_refused_token()) else { return };
        let key = refused_key(&token);
        if self.0.dead.lock().insert(key.clone()) {
            warn!(identity.id = %account.session.identity(), "the token is refused and cannot be renewed, log in again");
            let facts = IdentityFacts { dead_since: Some(Now::read().unix), ..IdentityFacts::default() };
            self.0.store.save_facts(key, || facts);
        }
    }

    /// Writes renewed credentials down that cannot go where the ones before came from.
    async fn keep(&self, account: &Account, new: &OAuthCredentials) {
        let origin = account.known.lock().origin.clone();
        let saved = self.0.store.save_oauth(origin.clone(), new.to_json(), Now::read().unix).await;
        if let Err(error) = saved {
            let identity = account.session.identity();
            warn!(identity.id = %identity, error = %ErrorChain(&error), "renewed credentials not written down, they are lost with the process");
        }
        self.0.kept.lock().insert(origin, new.clone());
    }

    fn renewed(&self, account: &Account, old: &OAuthCredentials, new: OAuthCredentials) {
        {
            let mut known = account.known.lock();
            known.spend(old);
            known.renewed_at = Some(Instant::now());
        }
        self.install(account, new, Now::read());
    }
}

/// Whether the session got a token meanwhile that is worth a try.
fn has_news(session: &Session, generation: u64, now: Now) -> bool {
    session.token_generation() != generation
        && session.token().is_some_and(|token| token.is_live(now.unix.plus(FLOOR_SECONDS)))
}
