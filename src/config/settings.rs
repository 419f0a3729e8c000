//! The table of settings: name, default, help, and what a value does. Everything else about settings (the sample
//! file, `docs/settings.md`, the README's short table, the list of known names) is made from or compared with this table.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anstream::ColorChoice;
use url::Url;

use crate::base::caller_key::{KeyLimits, KeyName};
use crate::base::ids::UnixSeconds;
use crate::base::secret::ApiKey;
use crate::base::seed::StaticKey;
use crate::chat::job::ReasoningFormat;
use crate::chat::model_map::ModelMap;
use crate::config::credentials::Credentials;
use crate::config::fault::Origin;
use crate::config::values::{self, Expected, Value, base_url, duration, flag, limit, list, one_of, text, whole};
use crate::gateway::{AccountSettings, ChatSettings};
use crate::http::settings::HttpSettings;
use crate::pool::{PoolSettings, Strategy};
use crate::telemetry::{self, LogFormat};
use crate::upstream::oauth::pkce::with_version;
use crate::upstream::web::request::tools::WebTools;
use crate::upstream::webhook::WebhookAddress;
use crate::upstream::{MediaFetch, OAuthSettings, WebSettings};

/// One setting, as it is listed for people.
pub struct Setting {
    /// Under which heading it is listed.
    pub section: &'static str,
    /// Its name in the environment, in `.env` and in `config.json`.
    pub name: &'static str,
    /// Its default as a text; empty when it is not set by default.
    pub default: &'static str,
    /// Description of the setting, in one line.
    pub help: &'static str,
    /// Whether its value must never be shown.
    pub is_secret: bool,
    /// Whether a changed value is in use after a restart only. The others are taken up while the server runs.
    pub needs_restart: bool,
    /// Whether an empty value is one, and not the lack of one.
    pub(super) empty_counts: bool,
    pub(super) apply: Apply,
}

impl Setting {
    /// Whether the owner's page may change it: its value may be shown, and a change is in use at once.
    #[must_use]
    pub fn is_for_the_page(&self) -> bool {
        // Files are read before the values of the page are known.
        !self.needs_restart && !self.is_secret && self.name != COOKIE_FILE
    }

    /// The words that it takes; empty where other texts are possible.
    #[must_use]
    pub fn choices(&self) -> &'static [&'static str] {
        match (self.name, self.default) {
            (_, "true" | "false") => &["true", "false"],
            ("REASONING_FORMAT", _) => &["parsed", "raw", "hidden"],
            ("WEB_TOOLS", _) => &["prompt", "native", "off"],
            _ => &[],
        }
    }
}

/// Puts a value into the draft. The error says what was expected.
type Apply = fn(&mut Draft, &Value) -> Result<(), Expected>;

/// A configuration in the making.
pub(super) struct Draft {
    pub(super) now: UnixSeconds,
    pub(super) home: Option<PathBuf>,
    pub(super) credentials: Credentials,
    pub(super) oauth: OAuthSettings,
    pub(super) accounts: AccountSettings,
    pub(super) static_keys: Vec<StaticKey>,
    pub(super) cookie_file: String,
    pub(super) pool: PoolSettings,
    pub(super) relay_in_flight_max: u32,
    pub(super) web: WebSettings,
    pub(super) media_fetch: MediaFetch,
    pub(super) chat: ChatSettings,
    pub(super) http: HttpSettings,
    pub(super) key_limits: Vec<(KeyName, KeyLimits)>,
    pub(super) rate_rps: Option<f64>,
    pub(super) rate_burst: Option<u32>,
    pub(super) host: Option<IpAddr>,
    pub(super) server_port: (Option<IpAddr>, u16),
    pub(super) port: (Option<IpAddr>, u16),
    pub(super) log_level: String,
    pub(super) log_format: Option<LogFormat>,
    pub(super) color: ColorChoice,
    pub(super) state_dir: String,
    pub(super) alert_url: Option<WebhookAddress>,
    pub(super) usage_days: u32,
    pub(super) shutdown_timeout: Duration,
    /// The layer that set each setting. Settings at their default are absent.
    pub(super) origins: BTreeMap<&'static str, Origin>,
}

/// Words for [`ColorChoice`]; npm sets the variable to `0` or `1` for programs that it starts.
const COLORS: &[(&str, ColorChoice)] = &[
    ("auto", ColorChoice::Auto),
    ("always", ColorChoice::Always),
    ("never", ColorChoice::Never),
    ("true", ColorChoice::Always),
    ("false", ColorChoice::Never),
    ("1", ColorChoice::Always),
    ("0", ColorChoice::Never),
];

fn blank_pool() -> PoolSettings {
    let none = Duration::ZERO;
    PoolSettings {
        strategy: Strategy::RoundRobin,
        degrade_after: 0,
        trip_after: 0,
        cooldown_base: none,
        cooldown_max: none,
        probe_lease: none,
        in_flight_max: 0,
        queue_max: 0,
        queue_wait: none,
        challenge_rest: none,
    }
}

impl Draft {
    /// A draft in which nothing is right yet: the defaults of the table are applied to it first.
    pub(super) fn blank(now: UnixSeconds) -> Self {
        let none = Duration::ZERO;
        #[expect(clippy::expect_used, reason = "a constant, parsed in every test run")]
        let nowhere = Url::parse("https://localhost/").expect("constant URL");
        Self {
            now,
            home: None,
            credentials: Credentials::default(),
            oauth: OAuthSettings {
                base: nowhere.clone(),
                client_id: String::new(),
                scope: String::new(),
                connect_timeout: none,
                is_direct: false,
            },
            accounts: AccountSettings {
                dir: PathBuf::new(),
                shared_dir: None,
                given: Vec::new(),
                refresh_buffer: none,
                api_base: None,
            },
            static_keys: Vec::new(),
            relay_in_flight_max: 0,
            cookie_file: String::new(),
            pool: blank_pool(),
            web: WebSettings {
                web_base: nowhere.clone(),
                auth_base: nowhere,
                oss_base: None,
                headers: BTreeMap::new(),
                connect_timeout: none,
                first_event_timeout: none,
                idle_timeout: none,
                total_timeout: none,
                is_direct: false,
            },
            media_fetch: MediaFetch::off(),
            chat: blank_chat(),
            http: HttpSettings {
                listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
                metrics_listen: None,
                keys: Vec::new(),
                admin_key: None,
                base_path: String::new(),
                rate_limit: None,
                server_mode: false,
                debug_mode: false,
                log_level: String::new(),
                allow_open: false,
                log_prompts: false,
                body_bytes_max: 0,
                json_bytes_max: 0,
                keepalive_interval: none,
                headers_hold: none,
                read_timeout: none,
                write_timeout: none,
                trusted_proxies: Vec::new(),
                cors_origins: None,
                reasoning_format: ReasoningFormat::Parsed,
                spool: PathBuf::new(),
                vision_fallback: String::new(),
            },
            key_limits: Vec::new(),
            rate_rps: None,
            rate_burst: None,
            host: None,
            server_port: (None, 0),
            port: (None, 0),
            log_level: String::new(),
            log_format: None,
            color: ColorChoice::Auto,
            state_dir: String::new(),
            alert_url: None,
            usage_days: 0,
            shutdown_timeout: none,
            origins: BTreeMap::new(),
        }
    }
}

fn blank_chat() -> ChatSettings {
    let none = Duration::ZERO;
    ChatSettings {
        retries_max: 0,
        default_model: String::new(),
        default_model_is_set: false,
        model_map: ModelMap::EMPTY,
        models_ttl: none,
        auto_refresh: false,
        refresh_interval: None,
        web_tools: WebTools::Prompt,
        continue_chats: false,
        continue_idle: none,
        keep_chats: false,
        keep_responses: none,
    }
}

/// The names of all settings.
pub(super) fn names() -> Vec<&'static str> {
    SETTINGS.iter().map(|setting| setting.name).collect()
}

const fn row(
    section: &'static str,
    name: &'static str,
    default: &'static str,
    help: &'static str,
    apply: Apply,
) -> Setting {
    Setting { section, name, default, help, is_secret: false, needs_restart: true, empty_counts: false, apply }
}

/// A row whose value is never shown.
const fn secret(section: &'static str, name: &'static str, help: &'static str, apply: Apply) -> Setting {
    Setting { is_secret: true, ..row(section, name, "", help, apply) }
}

/// A row whose changed value is taken up while the server runs.
const fn live(setting: Setting) -> Setting {
    Setting { needs_restart: false, ..setting }
}

/// A row whose value may be empty.
const fn or_empty(
    section: &'static str,
    name: &'static str,
    default: &'static str,
    help: &'static str,
    apply: Apply,
) -> Setting {
    Setting { empty_counts: true, ..row(section, name, default, help, apply) }
}

/// Puts a value in its place.
fn put<T>(place: &mut T, value: Result<T, Expected>) -> Result<(), Expected> {
    *place = value?;
    Ok(())
}

fn log_level(text: &str) -> Result<String, Expected> {
    let expected = "must be error, warn, info, debug, trace, off, or a filter such as info,qwen_bridge=debug";
    // A single word other than a level would be taken as the name of a crate, and no line would be logged.
    // Levels of other loggers, by the nearest one.
    let text = match text.to_ascii_lowercase().as_str() {
        "fatal" | "panic" | "critical" => "error",
        "warning" => "warn",
        _ => text,
    };
    let is_level =
        ["error", "warn", "info", "debug", "trace", "off"].iter().any(|level| level.eq_ignore_ascii_case(text));
    let is_filter = text.contains(['=', ',']) && telemetry::is_filter(text);
    if !is_level && !is_filter {
        return Err(expected.to_owned());
    }
    Ok(text.to_owned())
}

fn model(value: &Value) -> Result<String, Expected> {
    let text = text(value)?;
    if text.len() > MODEL_BYTES_MAX || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("must be the name of a model, such as qwen3-max".to_owned());
    }
    Ok(text.to_owned())
}

fn path(value: &Value) -> Result<String, Expected> {
    text(value).map(str::to_owned)
}

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const MODEL_BYTES_MAX: usize = 200;
/// The setting that names `config.json`.
pub(super) const CONFIG_FILE: &str = "CONFIG_FILE";
/// The setting that names `cookie.txt`.
pub(super) const COOKIE_FILE: &str = "COOKIE_FILE";

const ACCOUNTS: &str = "Accounts and keys";
const OPENAI: &str = "OAuth accounts and static keys";
const LISTENING: &str = "Listening";
const CHATS: &str = "Chats and models";
const POOL: &str = "The pool of identities";
const UPSTREAM: &str = "The upstream";
const PROCESS: &str = "Files, logs, stopping";

/// All settings, in the order in which they are listed for people.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    live(secret(ACCOUNTS, "COOKIE", "Cookie header of a logged-in chat.qwen.ai tab; several are separated by `|||` or line ends, or are an array.",
        |d, v| { let now = d.now; d.credentials.add_cookie_setting(v, now); Ok(()) })),
    live(row(ACCOUNTS, COOKIE_FILE, "cookie.txt", "File with one Cookie header a line; its accounts are used in addition to those of `COOKIE`.", |d, v| path(v).map(|v| d.cookie_file = v))),
    live(secret(ACCOUNTS, "QWEN_TOKEN", "Access token of chat.qwen.ai, for accounts without a cookie; several are separated by commas.",
        |d, v| { let now = d.now; d.credentials.add_tokens(&list(v)?, now); Ok(()) })),
    live(secret(ACCOUNTS, "API_KEY", "Keys that callers must send; several are separated by commas. `name=key` gives one a name, for usage and limits; others are `key-1`, `key-2` by their place.",
        |d, v| { d.credentials.add_keys("API_KEY", &list(v)?); Ok(()) })),
    live(secret(ACCOUNTS, "OPENAI_API_KEYS", "More keys; joins `API_KEY`.",
        |d, v| { d.credentials.add_keys("OPENAI_API_KEYS", &list(v)?); Ok(()) })),
    live(secret(ACCOUNTS, "OPENAI_API_KEY", "More keys; joins `API_KEY`.",
        |d, v| { d.credentials.add_keys("OPENAI_API_KEY", &list(v)?); Ok(()) })),
    live(row(ACCOUNTS, "KEY_LIMITS", "", "What keys may use, as `laptop:requests=100/day,tokens=1000000/day,models=qwen3-*|qwen-plus;phone:requests=20/day`: days are of UTC, `*` stands at the end of a model's name, `;` between keys.",
        |d, v| put(&mut d.key_limits, values::key_limits(v)))),
    secret(ACCOUNTS, "ADMIN_SECRET_KEY", "Key of the owner's page under `/admin`; not set: a link printed at the start opens it on this machine, and beyond it a key is made and printed once.",
        |d, v| { d.http.admin_key = Some(ApiKey::new(text(v)?)); Ok(()) }),
    row(ACCOUNTS, "SERVER_MODE", "true", "`false`: client mode, each caller sends their own `Bearer [key;]token;cookie`.",
        |d, v| put(&mut d.http.server_mode, flag(v))),
    row(ACCOUNTS, "ALLOW_OPEN", "false", "`true`: serve other machines without a key. Anyone who reaches the address can then use your accounts.",
        |d, v| put(&mut d.http.allow_open, flag(v))),
    row(ACCOUNTS, "AUTO_REFRESH_TOKEN", "true", "`true`: renew access tokens before they expire.",
        |d, v| put(&mut d.chat.auto_refresh, flag(v))),
    row(ACCOUNTS, "TOKEN_REFRESH_INTERVAL_HOURS", "", "Renew the token of a web account after this many hours at the latest; not set or `0`: only shortly before it expires.",
        |d, v| put(&mut d.chat.refresh_interval, values::hours(v))),

    live(secret(OPENAI, "QWEN_OAUTH_CREDS", "OAuth credentials as JSON, one object or several; renewed tokens are kept in `STATE_DIR`.",
        |d, v| { d.accounts.given = values::oauth_credentials(v, d.now)?; Ok(()) })),
    row(OPENAI, "QWEN_DIR", ".qwen", "Folder with `oauth_creds.json` and `oauth_creds_<id>.json`; `~` is the user's folder. The file of the official command line in `~/.qwen` is used besides.",
        |d, v| put(&mut d.accounts.dir, values::folder(v, d.home.as_deref()))),
    row(OPENAI, "TOKEN_REFRESH_BUFFER", "5m", "How long before it expires an OAuth token is renewed.",
        |d, v| put(&mut d.accounts.refresh_buffer, duration(v, Duration::ZERO))),
    row(OPENAI, "QWEN_OAUTH_BASE_URL", "https://chat.qwen.ai", "Address at which OAuth accounts log in.",
        |d, v| put(&mut d.oauth.base, base_url(v))),
    row(OPENAI, "QWEN_OAUTH_CLIENT_ID", "f0304373b74a44d2b584a3fb70ca9e56", "OAuth client id that is sent when an OAuth account logs in.",
        |d, v| put(&mut d.oauth.client_id, text(v).map(str::to_owned))),
    row(OPENAI, "QWEN_OAUTH_SCOPE", "openid profile email model.completion", "OAuth scope that is requested when an OAuth account logs in.",
        |d, v| put(&mut d.oauth.scope, text(v).map(str::to_owned))),
    row(OPENAI, "API_BASE_URL", "", "Address of the API for all OAuth accounts; not set: the address in their credentials, else `https://portal.qwen.ai/v1`.",
        |d, v| { d.accounts.api_base = Some(with_version(values::api_url(v)?)); Ok(()) }),
    live(secret(OPENAI, "QWEN_API_KEYS", "Keys of OpenAI-compatible upstreams, as `key@https://host/v1`; several are separated by commas.",
        |d, v| put(&mut d.static_keys, values::static_keys(v)))),

    row(LISTENING, "SERVER_HOST", "127.0.0.1", "Address to listen at; `0.0.0.0` for all.",
        |d, v| { d.host = Some(values::host(v)?); Ok(()) }),
    row(LISTENING, "SERVER_PORT", "8000", "Port to listen at; `8000`, `:8000` or `host:8000`.",
        |d, v| put(&mut d.server_port, values::endpoint(v))),
    row(LISTENING, "PORT", "", "Port as hosting platforms set it; used when `SERVER_PORT` is not set in the same place.",
        |d, v| put(&mut d.port, values::endpoint(v))),
    row(LISTENING, "BASE_PATH", "", "Path that everything lies below, such as `/qwen`, when a proxy serves other things beside it; `/health` and `/ready` answer at the root as well.",
        |d, v| put(&mut d.http.base_path, values::base_path(v))),
    row(LISTENING, "METRICS_ADDRESS", "", "Address and port where `/metrics` is served without a key, such as `127.0.0.1:9100`. Without it `/metrics` is on the server's own port, behind `ADMIN_SECRET_KEY`.",
        |d, v| {
            let (host, port) = values::endpoint(v)?;
            d.http.metrics_listen = Some(SocketAddr::new(host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port));
            Ok(())
        }),
    row(LISTENING, "CORS_ORIGINS", "*", "Browser origins that may call, separated by commas; `*` allows any.",
        |d, v| put(&mut d.http.cors_origins, values::origins(v))),
    row(LISTENING, "TRUSTED_PROXIES", "", "Networks of reverse proxies whose `X-Forwarded-*` headers are believed, separated by commas.",
        |d, v| put(&mut d.http.trusted_proxies, values::networks(v))),
    live(row(LISTENING, "RATE_LIMIT_RPS", "", "Requests per second to `/v1/…` for each key, or for each client address when no valid key is sent; not set: no limit.",
        |d, v| { d.rate_rps = Some(values::rate(v)?); Ok(()) })),
    live(row(LISTENING, "RATE_LIMIT_BURST", "", "Requests that may come at once after a pause; not set: twice `RATE_LIMIT_RPS`.",
        |d, v| { d.rate_burst = Some(whole(v, 1, 1_000_000)?); Ok(()) })),
    live(row(LISTENING, "MAX_BODY", "50MB", "Largest request body, in bytes after decompression.",
        |d, v| put(&mut d.http.body_bytes_max, values::size(v, 1024, 1 << 30)))),
    live(row(LISTENING, "MAX_JSON", "8MB", "Largest JSON of a request body without the files in it.",
        |d, v| put(&mut d.http.json_bytes_max, values::size(v, 1024, 1 << 30)))),
    live(row(LISTENING, "READ_TIMEOUT", "30s", "Time limit for a caller to send the head of a request, and for each pause within its body; `0`: no limit.",
        |d, v| put(&mut d.http.read_timeout, limit(v)))),
    live(row(LISTENING, "WRITE_TIMEOUT", "60s", "Time after which a caller that reads nothing of its answer is disconnected; `0`: no limit.",
        |d, v| put(&mut d.http.write_timeout, limit(v)))),
    live(row(LISTENING, "KEEPALIVE_INTERVAL", "15s", "Interval of the SSE comments (`ping` events on `/v1/messages`) that keep a silent stream open; `0`: none are sent.",
        |d, v| put(&mut d.http.keepalive_interval, limit(v)))),
    live(row(LISTENING, "HEADERS_HOLD", "10s", "How long the status line of a stream is held back for the first content of the upstream, so that a failure can still have a status of its own; at most `KEEPALIVE_INTERVAL`.",
        |d, v| put(&mut d.http.headers_hold, duration(v, Duration::ZERO)))),

    live(row(CHATS, "DEFAULT_MODEL", "qwen3-max", "Model of requests that name none. If it is not set and there are no web accounts: `qwen3-coder-plus`, else the first model of the list.",
        |d, v| put(&mut d.chat.default_model, model(v)))),
    live(row(CHATS, "MODEL_MAP", "", "Other names for models, such as `claude-*=qwen3-max,gpt-4o*=qwen3-vl-plus`. The first entry that matches wins; `*` is allowed at the end only. Applied before suffixes and prefixes are read.",
        |d, v| put(&mut d.chat.model_map, list(v).and_then(|entries| ModelMap::parse(&entries))))),
    live(row(CHATS, "REASONING_FORMAT", "parsed", "Where thoughts go: `parsed` into `reasoning_content`, `raw` into the text within `<think>` tags, `hidden`: left out.",
        |d, v| put(&mut d.http.reasoning_format, one_of(v, &[
            ("parsed", ReasoningFormat::Parsed), ("raw", ReasoningFormat::Raw), ("hidden", ReasoningFormat::Hidden)])))),
    live(or_empty(CHATS, "VISION_FALLBACK_MODEL", "qwen3-vl-plus", "Model that answers when the requested one cannot take the pictures or other files of the request; empty: such a request is refused.",
        |d, v| put(&mut d.http.vision_fallback, model(v)))),
    live(row(CHATS, "MEDIA_FETCH", "public", "Which file addresses are fetched for callers: `off`, `public`, or hosts (`host`, `*.host`, `host:port`), separated by commas. Named hosts may have private addresses.",
        |d, v| put(&mut d.media_fetch, text(v).and_then(MediaFetch::parse)))),
    live(row(CHATS, "WEB_TOOLS", "prompt", "Tools on the web chat: `prompt` describes them in the prompt and reads calls out of the answer; `native` declares them in the upstream's own form, and falls back to `prompt` for accounts that do not take it; `off` ignores them.",
        |d, v| put(&mut d.chat.web_tools, one_of(v, &[
            ("prompt", WebTools::Prompt), ("native", WebTools::Native), ("off", WebTools::Off)])))),
    live(row(CHATS, "MODELS_TTL", "10m", "How long the list of models counts as fresh.",
        |d, v| put(&mut d.chat.models_ttl, duration(v, SECOND)))),
    live(row(CHATS, "CONTINUE_CHATS", "true", "Send only the new turn of a conversation that goes on, in the chat of its last answer; `false`: each request is a whole conversation in a new chat.",
        |d, v| put(&mut d.chat.continue_chats, flag(v)))),
    live(row(CHATS, "CONTINUE_IDLE", "10m", "How long a chat is kept after its last answer, so that it can be continued; then it is deleted.",
        |d, v| put(&mut d.chat.continue_idle, duration(v, SECOND)))),
    live(row(CHATS, "KEEP_CHATS", "false", "`true`: leave the chats that this server made in the account.",
        |d, v| put(&mut d.chat.keep_chats, flag(v)))),
    live(row(CHATS, "KEEP_RESPONSES", "30d", "How long a response of `/v1/responses` can be fetched and continued after it was made or last continued; `0`: not at all.",
        |d, v| put(&mut d.chat.keep_responses, duration(v, Duration::ZERO)))),
    live(row(CHATS, "MAX_RETRIES", "2", "How many further identities one request may try after a failure.",
        |d, v| put(&mut d.chat.retries_max, whole(v, 0, 10)))),

    live(row(POOL, "DEGRADE_AFTER", "3", "Failures in a row after which an identity counts as degraded; it is still used.",
        |d, v| put(&mut d.pool.degrade_after, whole(v, 1, 1000)))),
    live(row(POOL, "TRIP_AFTER", "5", "Failures in a row after which an identity is down, which means not used until it has rested.",
        |d, v| put(&mut d.pool.trip_after, whole(v, 1, 1000)))),
    live(row(POOL, "COOLDOWN_BASE", "5m", "Length of the first rest of an identity that is down; doubles with each further one.",
        |d, v| put(&mut d.pool.cooldown_base, duration(v, MILLISECOND)))),
    live(row(POOL, "COOLDOWN_MAX", "1h", "Longest rest of an identity that is down.",
        |d, v| put(&mut d.pool.cooldown_max, duration(v, MILLISECOND)))),
    live(row(POOL, "PROBE_LEASE", "60s", "Time limit for the first request (the probe) on an identity after its rest.",
        |d, v| put(&mut d.pool.probe_lease, duration(v, MILLISECOND)))),
    live(row(POOL, "CHALLENGE_REST", "5m", "First rest of an account after the upstream asked for a human check; grows up to two hours.",
        |d, v| put(&mut d.pool.challenge_rest, duration(v, MILLISECOND)))),
    live(row(POOL, "MAX_IN_FLIGHT", "4", "Requests at the same time on one web account.",
        |d, v| put(&mut d.pool.in_flight_max, whole(v, 1, 1000)))),
    live(row(POOL, "API_MAX_IN_FLIGHT", "64", "Requests at the same time on one OAuth account or static key.",
        |d, v| put(&mut d.relay_in_flight_max, whole(v, 1, 1000)))),
    live(row(POOL, "QUEUE_MAX", "64", "Requests that may wait for a free identity; `0`: none waits.",
        |d, v| put(&mut d.pool.queue_max, whole(v, 0, 100_000).map(|max: u32| max as usize)))),
    live(row(POOL, "QUEUE_WAIT", "10s", "How long one request may wait for a free identity.",
        |d, v| put(&mut d.pool.queue_wait, duration(v, Duration::ZERO)))),

    row(UPSTREAM, "QWEN_WEB_BASE_URL", "https://chat.qwen.ai", "Address of the web chat.",
        |d, v| put(&mut d.web.web_base, base_url(v))),
    row(UPSTREAM, "QWEN_AUTH_BASE_URL", "https://auth.qwen.ai", "Address at which web tokens are renewed.",
        |d, v| put(&mut d.web.auth_base, base_url(v))),
    row(UPSTREAM, "QWEN_OSS_BASE_URL", "", "Address to which files are uploaded; not set: the storage that the upstream names, on `*.aliyuncs.com` only.",
        |d, v| { d.web.oss_base = Some(base_url(v)?); Ok(()) }),
    secret(UPSTREAM, "QWEN_WEB_HEADERS", "Headers that replace or extend those sent to the web chat: an object in `config.json`, the same as JSON text elsewhere.",
        |d, v| put(&mut d.web.headers, values::headers(v))),
    row(UPSTREAM, "CONNECT_TIMEOUT", "10s", "Time limit for opening a connection; `0`: no limit.",
        |d, v| put(&mut d.web.connect_timeout, limit(v))),
    live(row(UPSTREAM, "FIRST_EVENT_TIMEOUT", "60s", "Time limit until the first event of an answer. Doubled for thinking and search; four times as long for an answer of a key or an OAuth account that is not streamed; `0`: no limit.",
        |d, v| put(&mut d.web.first_event_timeout, limit(v)))),
    live(row(UPSTREAM, "IDLE_TIMEOUT", "2m", "Longest pause between two events of an answer; `0`: no limit.",
        |d, v| put(&mut d.web.idle_timeout, limit(v)))),
    live(row(UPSTREAM, "TOTAL_TIMEOUT", "10m", "Time limit for a whole answer. Doubled for videos, at least 30 minutes for deep research; `0`: no limit.",
        |d, v| put(&mut d.web.total_timeout, limit(v)))),

    row(PROCESS, CONFIG_FILE, "config.json", "File with settings; cannot be set in that file itself.", |_, v| path(v).map(drop)),
    row(PROCESS, "STATE_DIR", "./data", "Folder for what outlives the process: renewed sessions, the list of own chats, a generated key. If it cannot be written, the server says so and keeps the state in memory.",
        |d, v| { d.state_dir = path(v)?; d.http.spool = PathBuf::from(&d.state_dir); Ok(()) }),
    live(secret(PROCESS, "ALERT_URL", "Address that is told once when an account needs a login, its session ends within 72 hours, the upstream wants a human, the quota of all is gone, the upstream changes or the state cannot be written, and once when that is over. Forms of ntfy, Telegram (`…/sendMessage?chat_id=ID`), Slack and Feishu by their hosts, or by `ntfy+`, `telegram+`, `slack+`, `feishu+` in front; others get JSON.",
        |d, v| { d.alert_url = Some(WebhookAddress::parse(text(v)?)?); Ok(()) })),
    live(row(PROCESS, "USAGE_DAYS", "400", "How many days of usage by key, model and account are kept for `/admin/usage`.",
        |d, v| put(&mut d.usage_days, whole(v, 1, 3650)))),
    live(row(PROCESS, "LOG_LEVEL", "info", "`error`, `warn`, `info`, `debug`, `trace`, `off`, or a filter such as `info,qwen_bridge=debug`.",
        |d, v| put(&mut d.log_level, text(v).and_then(log_level)))),
    row(PROCESS, "LOG_FORMAT", "", "`text` or `json`; not set: short lines on a terminal, else JSON.",
        |d, v| put(&mut d.log_format, one_of(v, &[("text", Some(LogFormat::Text)), ("json", Some(LogFormat::Json))]))),
    row(PROCESS, "COLOR", "auto", "Colours in what commands print and in the log on a terminal: `auto`, `always` or `never`. `NO_COLOR` and `CLICOLOR_FORCE` are obeyed by `auto`.",
        |d, v| put(&mut d.color, one_of(v, COLORS))),
    row(PROCESS, "DEBUG_MODE", "false", "`true`: log at level debug when `LOG_LEVEL` is not set, and serve `/v1/debug/*` to the owner.",
        |d, v| put(&mut d.http.debug_mode, flag(v))),
    live(row(PROCESS, "LOG_PROMPTS", "false", "`true`: write the first 200 characters of each request's newest user message into the log.",
        |d, v| put(&mut d.http.log_prompts, flag(v)))),
    live(row(PROCESS, "SHUTDOWN_TIMEOUT", "30s", "How long open answers may go on after SIGTERM.",
        |d, v| put(&mut d.shutdown_timeout, duration(v, Duration::ZERO)))),

];
