//! The settings of this room; `config` fills them in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::base::caller_key::NamedKey;
use crate::base::ids::CredentialKey;
use crate::base::secret::ApiKey;
use crate::chat::job::ReasoningFormat;

/// The settings of this server's own side of HTTP.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Address to listen on: `SERVER_HOST` (127.0.0.1) and `SERVER_PORT`, else `PORT` (8000).
    pub listen: SocketAddr,
    /// `METRICS_ADDRESS`: address of `/metrics` without a key; `None`: on the server's own port, with the admin key.
    pub metrics_listen: Option<SocketAddr>,
    /// `API_KEY`, `OPENAI_API_KEYS`, `OPENAI_API_KEY` as one set, each with its name.
    pub keys: Vec<NamedKey>,
    /// `ADMIN_SECRET_KEY`: key of the owner's routes; `None` closes them.
    pub admin_key: Option<ApiKey>,
    /// `BASE_PATH`: path below which all routes are, such as `/qwen`; empty for none.
    pub base_path: String,
    /// `RATE_LIMIT_RPS` and `RATE_LIMIT_BURST`; `None` for no limit.
    pub rate_limit: Option<RateLimit>,
    /// `SERVER_MODE`, true. `false`: each caller brings an own credential (client mode).
    pub server_mode: bool,
    /// `DEBUG_MODE`, false: serves `/v1/debug/*` to the owner; also the level of the log if none is set.
    pub debug_mode: bool,
    /// Level or filter of the log, as `health/detailed` shows it.
    pub log_level: String,
    /// `LOG_PROMPTS`, false: whether the beginning of the newest user message is logged.
    pub log_prompts: bool,
    /// `ALLOW_OPEN`, false: whether to serve without a key on addresses that are not loopback.
    pub allow_open: bool,
    /// `MAX_BODY`, 50 MB: the largest request body, decoded.
    pub body_bytes_max: usize,
    /// `MAX_JSON`, 8 MB: largest JSON after the files were taken out.
    pub json_bytes_max: usize,
    /// `KEEPALIVE_INTERVAL`, 15 s: longest silence on a stream before a keep-alive is sent.
    pub keepalive_interval: Duration,
    /// `HEADERS_HOLD`, 10 s: longest wait of the status for the upstream's first content.
    pub headers_hold: Duration,
    /// `READ_TIMEOUT`, 30 s: longest wait for the head of a request, and for the next piece of its body.
    pub read_timeout: Duration,
    /// `WRITE_TIMEOUT`, 60 s: longest wait for a caller who does not read.
    pub write_timeout: Duration,
    /// `TRUSTED_PROXIES`: networks whose `X-Forwarded-*` headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// `CORS_ORIGINS`: allowed origins; `None` allows any.
    pub cors_origins: Option<Vec<String>>,
    /// `STATE_DIR`: folder for large files, nameless while they pass through.
    pub spool: PathBuf,
    /// `VISION_FALLBACK_MODEL`, `qwen3-vl-plus`: answers in place of a model that cannot take the files; empty for
    /// none.
    pub vision_fallback: String,
    /// `REASONING_FORMAT`: where thoughts go when the caller does not say.
    pub reasoning_format: ReasoningFormat,
}

/// A setting as the owner's page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownSetting {
    /// Heading under which it is listed.
    pub section: &'static str,
    /// Its name in the environment, in `.env` and in `config.json`.
    pub name: &'static str,
    /// Its value as text, masked for a secret; `None` if it is not set and has no default.
    pub value: Option<String>,
    /// Its default; empty for none.
    pub default: &'static str,
    /// Source of the value: `default`, `file`, `.env`, `environment`, `page` or `flag`.
    pub origin: &'static str,
    /// Whether it can be changed on the page.
    pub changeable: bool,
    /// The words that it takes; empty where any text of its kind will do.
    pub choices: &'static [&'static str],
    /// Whether a change takes effect at the next start only.
    pub needs_restart: bool,
    /// Another value, read since the start and used after a restart.
    pub pending: Option<PendingValue>,
    /// Description of the setting, in one line.
    pub about: &'static str,
}

/// A hash of all values as they are shown, so that a change can be refused that was made to other ones.
#[must_use]
pub(crate) fn version_of(settings: &[ShownSetting]) -> String {
    let all = serde_json::to_string(settings).unwrap_or_default();
    CredentialKey::of(&all).as_str().chars().take(VERSION_CHARS).collect()
}

/// Hexadecimal digits of a version.
const VERSION_CHARS: usize = 16;

/// A value that takes effect after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PendingValue {
    /// Value as text, as in [`ShownSetting::value`].
    pub value: Option<String>,
    /// Source of the value, as in [`ShownSetting::origin`].
    pub origin: &'static str,
}

/// Request rate of one caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Requests per second in the long run, more than 0.
    pub per_second: f64,
    /// Most requests at once, at least 1.
    pub burst: u32,
}
