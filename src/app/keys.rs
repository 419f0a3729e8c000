//! Keys that the server makes at its first start where the configuration has none, and keeps in its state.

use crate::app::start_error::StartError;
use crate::base::caller_key::{KeyName, NamedKey};
use crate::base::secret::ApiKey;
use crate::config::{Config, KeyPolicy};
use crate::gateway::random::secret_text;
use crate::store::{Loaded, Note, Store};

/// Keys that were made at this start, to be shown to their owner once.
#[derive(Default)]
pub(crate) struct MadeKeys {
    /// Key for callers; made if the server is reachable from other machines and no key is set.
    pub(crate) caller: Option<ApiKey>,
    /// Key of the owner's page; made if the server is reachable from other machines and none is set.
    pub(crate) admin: Option<ApiKey>,
}

/// Adds the keys of this server's own making where the configuration wants them; gives those that were made just now.
pub(crate) async fn complete_keys(config: &mut Config, store: &Store, loaded: &Loaded) -> Result<MadeKeys, StartError> {
    let random = |prefix: &str| ApiKey::new(&format!("{prefix}-{}", secret_text()));
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
