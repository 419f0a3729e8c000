//! The job by which the state forgets accounts and callers' keys that have long been gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::base::caller_key::KeyName;
use crate::base::ids::UnixSeconds;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::caller_keys::CallerKeys;
use crate::pool::{IdentityPool, Now};
use crate::store::{Present, Store, UtcDay};

/// Tells the state which accounts and keys exist.
pub(crate) struct Forgetting {
    /// The accounts of all kinds.
    pub pools: Vec<IdentityPool>,
    /// The OAuth accounts, for their further rows in the state.
    pub accounts: OAuthAccounts,
    /// Keys that callers may send.
    pub keys: CallerKeys,
    /// The store, which deletes the rows.
    pub store: Arc<Store>,
}

impl Forgetting {
    /// Looks now and every few hours until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let looking = async {
            loop {
                self.look(Now::read().unix);
                sleep(LOOK_EVERY).await;
            }
        };
        stop.run_until_cancelled(looking).await;
    }

    fn look(&self, now: UnixSeconds) {
        let sessions = self.pools.iter().flat_map(IdentityPool::sessions);
        let accounts = sessions.map(|session| session.key().clone()).chain(self.accounts.keys_in_state());
        let keys = self.keys.all();
        let keys =
            keys.iter().map(|key| key.name.as_str()).chain([KeyName::page().as_str()]).map(str::to_owned).collect();
        self.store.note_present(Present { accounts: accounts.collect(), keys }, UtcDay::of(now));
    }
}

/// The pause between two looks. Each day counts once.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);
