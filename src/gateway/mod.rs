//! The flows: answering a chat, logging in, keeping tokens fresh, listing models, cleaning up.
//!
//! The only room where the pool and the upstream meet. Speaks neither HTTP nor any caller's dialect.

pub(crate) mod accounts;
pub(crate) mod alerts;
pub(crate) mod answer;
pub(crate) mod attachments;
pub(crate) mod caller_keys;
pub(crate) mod catalogue;
pub(crate) mod chats;
pub(crate) mod drift;
pub(crate) mod forgetting;
pub(crate) mod gallery;
pub(crate) mod listing;
pub(crate) mod outlook;
pub(crate) mod random;
pub(crate) mod reloads;
pub(crate) mod requests;
pub(crate) mod responses;
pub(crate) mod route;
pub(crate) mod usage;
pub(crate) mod videos;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::base::oauth::OAuthCredentials;
use crate::chat::model_map::ModelMap;
use crate::upstream::web::request::tools::WebTools;

/// Settings of answers in chats.
#[derive(Clone, Debug)]
pub struct ChatSettings {
    /// `MAX_RETRIES`, 2: further identities that one request may try.
    pub retries_max: u32,
    /// `DEFAULT_MODEL`, `qwen3-max`: for requests that name none.
    pub default_model: String,
    /// Whether the owner set `DEFAULT_MODEL`, which then chooses the kind of upstream too.
    pub default_model_is_set: bool,
    /// `MODEL_MAP`, none: other names for models.
    pub model_map: ModelMap,
    /// Age in which the catalogue counts as fresh (`MODELS_TTL`, 600 s).
    pub models_ttl: Duration,
    /// Whether tokens are renewed before they end (`AUTO_REFRESH_TOKEN`, true).
    pub auto_refresh: bool,
    /// `TOKEN_REFRESH_INTERVAL_HOURS`: the longest that a token is kept; `None`: until shortly before its own end.
    pub refresh_interval: Option<Duration>,
    /// `WEB_TOOLS`, `prompt`: how tools are offered to the web chat.
    pub web_tools: WebTools,
    /// `CONTINUE_CHATS`, true: a conversation goes on in the chat of its last answer.
    pub continue_chats: bool,
    /// `CONTINUE_IDLE`, 10 min: time for which a chat is kept after its last answer, so that it can be continued.
    pub continue_idle: Duration,
    /// `KEEP_CHATS`, false: whether the chats that this server made stay in their accounts.
    pub keep_chats: bool,
    /// `KEEP_RESPONSES`, 30 days: time for which responses are kept after they were made or continued; zero keeps none.
    pub keep_responses: Duration,
}

/// Settings of OAuth accounts: where they are found, and when they are renewed.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// `QWEN_DIR`, `.qwen`: folder of this server's own credentials.
    pub dir: PathBuf,
    /// The folder of the official command line, of which one file is used; `None` without a home folder.
    pub shared_dir: Option<PathBuf>,
    /// `QWEN_OAUTH_CREDS`: credentials in the configured order.
    pub given: Vec<OAuthCredentials>,
    /// `TOKEN_REFRESH_BUFFER`, 5 min: time before its end at which a token is renewed.
    pub refresh_buffer: Duration,
    /// `API_BASE_URL`, with `/v1`: the API of all accounts, in place of the one in their credentials.
    pub api_base: Option<Url>,
}
