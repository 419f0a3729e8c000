//! Chats and videos of an earlier run whose account has another credential now.
//!
//! The state names an account by its credential. A replaced one is told by the session that was stored with it.

use std::collections::HashMap;

use crate::base::ids::{CredentialKey, IdentityId};
use crate::base::secret::AccessToken;
use crate::base::session::Session;
use crate::gateway::accounts::web::{WebAccounts, account_of};
use crate::pool::Now;
use crate::store::{Loaded, StoredSession};

/// Gives chats and videos of replaced credentials to the credential that their account has now. Called at the start,
/// when all accounts are known.
pub(crate) fn follow(accounts: &WebAccounts, loaded: &mut Loaded, now: Now) {
    let Loaded { chats, intents, videos, sessions, .. } = loaded;
    let of_chats = chats.iter_mut().map(|chat| &mut chat.key);
    let of_intents = intents.iter_mut().map(|intent| &mut intent.key);
    let of_videos = videos.iter_mut().filter(|video| video.is_pooled).map(|video| &mut video.key);
    let mut found: HashMap<CredentialKey, Option<CredentialKey>> = HashMap::new();
    for key in of_chats.chain(of_intents).chain(of_videos) {
        let present = || present(accounts, sessions.get(key)?, key, now);
        if let Some(present) = found.entry(key.clone()).or_insert_with(present) {
            present.clone_into(key);
        }
    }
}

/// The present credential of the account that this stored session is of; `None` if `key` is in use, or for an account
/// that is gone.
fn present(accounts: &WebAccounts, stored: &StoredSession, key: &CredentialKey, now: Now) -> Option<CredentialKey> {
    if accounts.session_of_key(key).is_some() {
        return None;
    }
    let session = Session::new(IdentityId::named("replaced"), key.clone(), None, None);
    let token = stored.token.as_ref().and_then(|token| AccessToken::of_secret(token, now.unix));
    session.restore(&stored.cookies, token);
    let holder = accounts.holder_of(&account_of(&session, now)?)?;
    Some(accounts.session_named(&holder)?.key().clone())
}
