//! The settings of this room; `config` fills them in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::base::caller_key::NamedKey;
use crate::base::secret::ApiKey;
use crate::chat::job::ReasoningFormat;

/// How our own side of HTTP behaves.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Where to listen: `SERVER_HOST` (127.0.0.1) and `SERVER_PORT`, else `PORT` (8000).
    pub listen: SocketAddr,
    /// `METRICS_ADDRESS`: where `/metrics` is served without a key; `None` for the server's own port, with the admin key.
    pub metrics_listen: Option<SocketAddr>,
    /// `API_KEY`, `OPENAI_API_KEYS`, `OPENAI_API_KEY` as one set, each with its name.
    pub keys: Vec<NamedKey>,
    /// `ADMIN_SECRET_KEY`: for the owner's pages; `None` for no such pages.
    pub admin_key: Option<ApiKey>,
    /// `BASE_PATH`: the path that everything lies below, as `/qwen`; empty for none.
    pub base_path: String,
    /// Origins of `QWEN_OSS_BASE_URL` and `QWEN_WEB_BASE_URL`, whose pictures and videos the owner's page may show.
    pub media_origins: Vec<String>,
    /// `RATE_LIMIT_RPS` and `RATE_LIMIT_BURST`; `None` for no limit.
    pub rate_limit: Option<RateLimit>,
    /// `SERVER_MODE`, true. False: each caller brings their own credential.
    pub server_mode: bool,
    /// `DEBUG_MODE`, false.
    pub debug_mode: bool,
    /// What is logged, as `health/detailed` shows it: a level or a filter.
    pub log_level: String,
    /// `LOG_PROMPTS`, false: a part of the newest user message goes into the log.
    pub log_prompts: bool,
    /// `ALLOW_OPEN`, false: serve without a key on addresses that are not loopback.
    pub allow_open: bool,
    /// `MAX_BODY`, 50 MB: the largest request body, decoded.
    pub body_bytes_max: usize,
    /// `MAX_JSON`, 8 MB: how much of it may be left once the files are taken out.
    pub json_bytes_max: usize,
    /// `KEEPALIVE_INTERVAL`, 15 s: between signs of life on a silent stream.
    pub keepalive_interval: Duration,
    /// `HEADERS_HOLD`, 10 s: how long the status waits for the upstream's first word.
    pub headers_hold: Duration,
    /// `READ_TIMEOUT`, 30 s: for the head of a request, and between two pieces of its body.
    pub read_timeout: Duration,
    /// `WRITE_TIMEOUT`, 60 s: for a caller who does not read.
    pub write_timeout: Duration,
    /// `TRUSTED_PROXIES`: networks whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `CORS_ORIGINS`: `None` for any.
    pub cors_origins: Option<Vec<String>>,
    /// `STATE_DIR`: where large files are kept, without a name, while they pass through.
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
    /// Under which heading it is listed.
    pub section: &'static str,
    /// Its name in the environment, in `.env` and in `config.json`.
    pub name: &'static str,
    /// Its value as a text, masked for a secret; `None` where it is not set and has no default.
    pub value: Option<String>,
    /// Its default; empty for none.
    pub default: &'static str,
    /// Where the value comes from: `default`, `file`, `.env`, `environment` or `flag`.
    pub origin: &'static str,
    /// Whether it can be changed on the page.
    pub changeable: bool,
    /// Whether a change takes effect at the next start only.
    pub needs_restart: bool,
    /// Another value, which was read since the start and is in use after a restart.
    pub pending: Option<PendingValue>,
    /// What it does, in one line.
    pub about: &'static str,
}

/// A value that waits for a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PendingValue {
    /// As [`ShownSetting::value`].
    pub value: Option<String>,
    /// As [`ShownSetting::origin`].
    pub origin: &'static str,
}

/// How often one caller may ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Requests a second in the long run, more than 0.
    pub per_second: f64,
    /// Requests at once, at least 1.
    pub burst: u32,
}
