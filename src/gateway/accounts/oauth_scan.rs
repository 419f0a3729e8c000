//! Scans the files of OAuth accounts for new, changed and deleted ones.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tracing::{info, warn};

use crate::base::ids::{CredentialKey, IdentityId};
use crate::base::oauth::{AccountId, OAuthCredentials, RefreshToken, credential_of};
use crate::base::session::Session;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::accounts::oauth_account::{Account, Known, Place};
use crate::pool::Now;
use crate::store::oauth_files::{FileStamp, OAuthFile, OAuthFileError, OAuthFiles, Replaced};
use crate::telemetry::ErrorChain;

impl OAuthAccounts {
    /// Brings the accounts up to what is in the files.
    pub(crate) async fn scan(&self) {
        let _scanning = self.0.scanning.lock().await;
        let round = self.0.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        for (folder, files) in self.0.folders.iter().enumerate() {
            let found = match files.scan().await {
                Ok(found) => found,
                Err(error) => {
                    // Nothing is known of the files, so no account is removed.
                    self.complain(files.dir().to_owned(), &error);
                    continue;
                }
            };
            let is_own = folder == 0;
            for (account, stamp) in &found {
                let identity = if is_own { account.identity() } else { shared_identity() };
                self.look_at(identity, files, account, *stamp).await;
            }
            for account in self.all() {
                let gone = matches!(&account.place, Place::File { files: its, account: name }
                    if its.dir() == files.dir() && !found.contains_key(name));
                if gone {
                    self.forget(&account);
                }
            }
            // A file whose fault was not found again is in order.
            self.0.faults.lock().retain(|path, (_, found_in)| *found_in >= round || path.parent() != Some(files.dir()));
        }
    }

    async fn look_at(&self, identity: IdentityId, files: &OAuthFiles, account: &AccountId, stamp: FileStamp) {
        let now = Now::read();
        let present = self.find(&identity);
        if let Some(present) = &present {
            let is_its_own = matches!(&present.place, Place::File { files: its, .. } if its.dir() == files.dir());
            if !is_its_own || present.known.lock().stamp == Some(stamp) {
                return;
            }
        }
        let file = match files.read(account, now.unix).await {
            Ok(file) => file,
            // It may be in the middle of a write, so the known credentials stay in use until the next look.
            Err(error) => return self.complain(files.path_of(account), &error),
        };
        match present {
            Some(present) => {
                // While a refresh is under way it looks at the file itself.
                if let Ok(_gate) = present.gate.try_lock() {
                    self.adopt(&present, file, now).await;
                }
            }
            None => {
                let place = Place::File { files: files.clone(), account: account.clone() };
                self.add(identity, place, file.credentials, Some(file.stamp), file.text_key);
            }
        }
    }

    pub(crate) fn add(
        &self,
        identity: IdentityId,
        place: Place,
        credentials: OAuthCredentials,
        stamp: Option<FileStamp>,
        origin: CredentialKey,
    ) {
        let now = Now::read();
        let credentials = self.0.kept.lock().get(&origin).cloned().unwrap_or(credentials);
        if let Some(other) = self.owner_of(&credentials) {
            let why =
                format!("the same login as {other}; a refresh of one would end the other, so only that one is used");
            return self.complain_of(place.path(), why);
        }
        let key = credential_of(&identity);
        let session = Arc::new(Session::new(identity.clone(), key, None, None));
        if let Some(token) = credentials.bearer(now.unix) {
            session.install_token(token);
        }
        let account = Arc::new(Account {
            session: Arc::clone(&session),
            place,
            gate: AsyncMutex::new(()),
            known: Mutex::new(Known::new(credentials, stamp, origin)),
        });
        let is_on_trial = self.0.on_trial.lock().contains(&identity);
        if !is_on_trial && !self.0.pool.add(Arc::clone(&session), now) {
            let why = format!("another account is called {identity} already");
            return self.complain_of(account.place.path(), why);
        }
        if let Some(facts) = self.0.facts.get(session.key()) {
            self.0.pool.restore(session.key(), *facts, now);
        }
        self.0.accounts.lock().insert(identity.clone(), Arc::clone(&account));
        self.recall_refusal(&account);
        self.plan(&account, now);
        self.settle(&account, now);
        if !is_on_trial {
            info!(identity.id = %identity, "OAuth account in use");
        }
    }

    pub(crate) fn forget(&self, account: &Account) {
        let identity = account.session.identity();
        self.0.accounts.lock().remove(identity);
        self.0.on_trial.lock().remove(identity);
        self.0.pool.remove(account.session.key(), Now::read());
        info!(identity.id = %identity, "OAuth account removed, since its file is gone");
    }

    /// Takes up what another program wrote. The caller holds the gate.
    pub(crate) async fn adopt(&self, account: &Account, file: OAuthFile, now: Now) {
        let identity = account.session.identity();
        let credentials = self.0.kept.lock().get(&file.text_key).cloned().unwrap_or_else(|| file.credentials.clone());
        let refresh_key = credentials.refresh_token().map(RefreshToken::key);
        let ours = {
            let mut known = account.known.lock();
            known.stamp = Some(file.stamp);
            known.origin = file.text_key.clone();
            if known.credentials.is_same_login(&credentials) {
                return;
            }
            let is_spent = refresh_key.as_ref().is_some_and(|key| known.spent.contains(key));
            is_spent.then(|| known.credentials.clone())
        };
        if let (Some(ours), Place::File { files, account: name }) = (ours, &account.place) {
            // Another program read the file before our refresh and wrote it back after it.
            warn!(identity.id = %identity, "a spent refresh token came back into the file, its successor is put there again");
            match files.replace(name, file.credentials, ours, now.unix).await {
                Ok(Replaced::Done(stamp)) => account.known.lock().stamp = Some(stamp),
                // Looked at again soon.
                Ok(Replaced::Superseded(_)) => account.known.lock().stamp = None,
                Err(error) => self.complain(files.path_of(name), &error),
            }
            return;
        }
        info!(identity.id = %identity, "credentials changed by another program");
        account.known.lock().renewed_at = None;
        self.install(account, credentials, now);
        self.trust(&account.session, now);
    }

    /// The account that has this login, or had it before a refresh.
    pub(crate) fn owner_of(&self, credentials: &OAuthCredentials) -> Option<IdentityId> {
        let key = credentials.refresh_token()?.key();
        let is_owner = |account: &Arc<Account>| {
            let known = account.known.lock();
            known.spent.contains(&key) || known.credentials.refresh_token().is_some_and(|token| token.key() == key)
        };
        self.all().iter().find(|account| is_owner(account)).map(|account| account.session.identity().clone())
    }

    pub(crate) fn complain(&self, path: PathBuf, error: &OAuthFileError) {
        self.complain_of(Some(path), ErrorChain(error).to_string());
    }

    /// Says once what is wrong with a file.
    fn complain_of(&self, path: Option<PathBuf>, why: String) {
        let path = path.unwrap_or_else(|| PathBuf::from("QWEN_OAUTH_CREDS"));
        let round = self.0.rounds.load(Ordering::Relaxed);
        let before = self.0.faults.lock().insert(path.clone(), (why.clone(), round));
        if before.is_none_or(|(before, _)| before != why) {
            warn!(path = %path.display(), reason = %why, "OAuth credentials not used");
        }
    }
}

fn shared_identity() -> IdentityId {
    IdentityId::named(&format!("oauth:{SHARED_NAME}"))
}

/// The name of the official command line's account.
const SHARED_NAME: &str = "qwen-cli";
