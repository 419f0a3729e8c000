//! From texts (flags, the owner's page, environment, `.env`, `config.json`, `cookie.txt`) to checked settings.
//!
//! Each key is taken from the strongest place that has it. All faults are reported at once, and none shows a secret.
//! Only [`Sources::from_process`] reads the process and its files; loading is a pure function of their texts. Called by
//! `app` and `cli`.
//!
//! This is one long file because all checks report into one list of faults, in one order.

mod credentials;
mod dotenv;
mod fault;
mod former;
mod layers;
mod log;
pub(crate) mod page;
mod proxies;
mod settings;
mod sources;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anstream::ColorChoice;
use url::Url;

use crate::base::caller_key::{KeyLimits, KeyName};
use crate::base::ids::CredentialKey;
use crate::base::secret::ApiKey;
use crate::base::seed::{IdentitySeed, StaticKey};
use crate::config::log::{default_filter, log_settings};
use crate::config::proxies::{check_proxies, is_direct, proxies_in_words};
use crate::config::settings::{CONFIG_FILE, Draft, names};
use crate::config::sources::{OTEL_ALL, OTEL_TRACES};
use crate::config::values::{NO_LIMIT, Value};
use crate::gateway::{AccountSettings, ChatSettings};
use crate::http::settings::{HttpSettings, RateLimit, ShownSetting};
use crate::pool::PoolSettings;
use crate::telemetry::LogSettings;
use crate::upstream::webhook::WebhookAddress;
use crate::upstream::{MediaFetch, OAuthSettings, WebSettings};

pub use crate::config::fault::{ConfigError, Fault, Origin};
pub use crate::config::settings::{SETTINGS, Setting};
pub use crate::config::sources::Sources;

/// The exit code of a process whose configuration is wrong (`EX_USAGE` of sysexits).
pub const EX_USAGE: u8 = 64;

/// A whole configuration, checked.
pub struct Config {
    /// The configured identities in their order: cookies first, then tokens without a cookie. May be empty.
    pub identities: Vec<IdentitySeed>,
    /// Address, client and scope of OAuth logins.
    pub oauth: OAuthSettings,
    /// Sources of OAuth accounts, and the time of their renewal.
    pub accounts: AccountSettings,
    /// Keys of OpenAI-compatible upstreams, in their order. May be empty.
    pub static_keys: Vec<StaticKey>,
    /// Limits and rests of the pool's identities.
    pub pool: PoolSettings,
    /// `API_MAX_IN_FLIGHT`, 64: most requests at once on one OAuth account or key.
    pub relay_in_flight_max: u32,
    /// Addresses and time limits of the web chat.
    pub web: WebSettings,
    /// `MEDIA_FETCH`: addresses whose files are fetched for callers.
    pub media_fetch: MediaFetch,
    /// Settings of answers in chats.
    pub chat: ChatSettings,
    /// Settings of this server's own side of HTTP.
    pub http: HttpSettings,
    /// The collector that traces go to, by the standard `OTEL_…` variables; `None` for none.
    pub traces: Option<Url>,
    /// Filter and form of log lines.
    pub log: LogSettings,
    /// `COLOR`: whether commands and the log on a terminal are coloured.
    pub color: ColorChoice,
    /// What the environment says of proxies, in words and without their passwords.
    pub proxies: Vec<String>,
    /// `STATE_DIR`: folder of the state file and of large files on their way.
    pub state_dir: PathBuf,
    /// `ALERT_URL`: address for alerts to the owner; `None`: no alerts.
    pub alert_url: Option<WebhookAddress>,
    /// `USAGE_DAYS`, 400: days for which usage is kept.
    pub usage_days: u32,
    /// `SHUTDOWN_TIMEOUT`: longest wait for open answers when the server stops.
    pub shutdown_timeout: Duration,
    /// Limits of the key that this server makes for itself, if `KEY_LIMITS` names `generated`.
    pub generated_key_limits: KeyLimits,
    /// The consequence of configured, missing or open keys.
    pub key_policy: KeyPolicy,
    /// Warnings for the owner that do not stop the server. They hold no secret.
    pub warnings: Vec<String>,
    /// Hash of the value of each setting that is not at its default, by which a reload sees changes.
    pub fingerprints: BTreeMap<&'static str, String>,
    /// The files that the configuration is read from, existing or not.
    pub files: Vec<PathBuf>,
    /// `COOKIE_FILE`: path of the file of web credentials.
    pub cookie_file: PathBuf,
    /// Remarks about how pasted credentials were understood, for the owner to compare. They hold no secret.
    pub notes: Vec<String>,
    /// Every setting as the owner's page shows it, secrets masked.
    pub shown: Vec<ShownSetting>,
}

/// The consequence of the configured keys and the address to listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPolicy {
    /// Keys are configured: callers must send one.
    Keys,
    /// No key, and only this machine can call.
    OpenOnLoopback,
    /// No key, and the address is open beyond this machine: make a key at the first start, keep it, show it once.
    GenerateKey,
    /// No key beyond this machine, by decision: `ALLOW_OPEN`, or client mode, where each caller brings an own
    /// credential.
    OpenKnowingly,
}

impl Config {
    /// Makes a configuration from texts.
    ///
    /// # Errors
    /// Every fault that was found: unreadable values, unknown keys of `config.json`, contradicting settings, lines that
    /// are not cookies.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut faults = sources.faults.clone();
        let mut layers = sources.layers(&mut faults);
        let mut warnings = std::mem::take(&mut layers.warnings);
        warnings.extend(former::warnings(&layers, &names()));
        let mut fingerprints = BTreeMap::new();
        let mut draft = Draft::blank(sources.now);
        draft.home = sources.home.as_ref().map(PathBuf::from);
        draft.accounts.shared_dir = draft.home.as_ref().map(|home| home.join(".qwen"));
        let mut shown = Vec::with_capacity(SETTINGS.len());
        for setting in SETTINGS {
            if !setting.default.is_empty() {
                let default = Value::Text(setting.default.to_owned());
                apply(&mut draft, setting, Origin::Default, &default, &mut faults);
            }
            let given = layers.value(setting.name, setting.empty_counts);
            shown.push(shown_setting(setting, given));
            let Some((origin, value)) = given.filter(|(_, value)| !value.is_empty() || setting.empty_counts) else {
                continue;
            };
            draft.origins.insert(setting.name, origin);
            fingerprints.insert(setting.name, fingerprint(&value.whole()));
            apply(&mut draft, setting, origin, value, &mut faults);
        }
        let config_file = layers.value(CONFIG_FILE, false).and_then(|(_, value)| values::text(value).ok());
        let config_file = config_file.unwrap_or(DEFAULT_CONFIG_FILE).to_owned();
        if let Some(text) = sources.cookie_file.as_deref().filter(|text| !text.trim().is_empty()) {
            fingerprints.insert(COOKIE_TEXT, fingerprint(text));
            draft.credentials.origin = None;
            draft.credentials.add_cookie_file(&draft.cookie_file, text, sources.now);
        }
        draft.web.is_direct = is_direct(sources);
        draft.oauth.is_direct = draft.web.is_direct;
        check_proxies(sources, &mut faults);
        check_combinations(&draft, &mut faults);
        draft.http.keys = draft.credentials.named_keys(&draft.key_limits);
        check_keys(&draft, &mut faults);
        faults.append(&mut draft.credentials.take_faults());
        draft.accounts.given.append(&mut draft.credentials.take_oauth());

        let identities = draft.credentials.identities(sources.now);
        warnings.append(&mut draft.credentials.warnings);
        warnings.append(&mut draft.credentials.take_doubts());
        draft.http.listen = listen(&draft);
        draft.chat.default_model_is_set = draft.origins.contains_key("DEFAULT_MODEL");
        draft.http.rate_limit = draft.rate_rps.map(|per_second| rate_limit(per_second, draft.rate_burst));
        let log = log_settings(&draft, sources.stderr_is_terminal);
        draft.http.log_level.clone_from(&log.filter);
        let traces = traces(sources, &mut faults, &mut warnings);
        let key_policy = key_policy(&draft.http);
        warnings.extend(notices(&draft, key_policy));
        if !faults.is_empty() {
            return Err(ConfigError { faults });
        }
        Ok(Self {
            identities,
            log,
            traces,
            oauth: OAuthSettings { connect_timeout: draft.web.connect_timeout, ..draft.oauth },
            accounts: draft.accounts,
            static_keys: draft.static_keys,
            pool: draft.pool,
            relay_in_flight_max: draft.relay_in_flight_max,
            web: draft.web,
            media_fetch: draft.media_fetch,
            chat: draft.chat,
            http: draft.http,
            color: draft.color,
            proxies: proxies_in_words(sources),
            state_dir: PathBuf::from(draft.state_dir),
            alert_url: draft.alert_url,
            usage_days: draft.usage_days,
            shutdown_timeout: draft.shutdown_timeout,
            generated_key_limits: generated_key_limits(&draft.key_limits),
            key_policy,
            warnings,
            fingerprints,
            files: vec![PathBuf::from(".env"), PathBuf::from(config_file), PathBuf::from(&draft.cookie_file)],
            cookie_file: PathBuf::from(draft.cookie_file),
            notes: draft.credentials.notes,
            shown,
        })
    }

    /// The filter of the log while `DEBUG_MODE`, of which a change waits for a restart, has this value.
    pub(crate) fn log_filter(&self, debug_mode: bool) -> String {
        if self.fingerprints.contains_key(log::LEVEL) { self.log.filter.clone() } else { default_filter(debug_mode) }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers for the upstream are plain texts and may be secret, so only harmless fields are shown.
        f.debug_struct("Config")
            .field("identities", &self.identities.len())
            .field("listen", &self.http.listen)
            .field("key_policy", &self.key_policy)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// A setting for the owner's page. Of a secret only that it is set.
fn shown_setting(setting: &Setting, given: Option<(Origin, &Value)>) -> ShownSetting {
    let origin = match given.map(|(origin, _)| origin) {
        None | Some(Origin::Default) => "default",
        Some(Origin::File) => "file",
        Some(Origin::DotEnv) => ".env",
        Some(Origin::Environment) => "environment",
        Some(Origin::Page) => "page",
        Some(Origin::Flag) => "flag",
    };
    let text = match given {
        Some((_, value)) if value.is_empty() && !setting.empty_counts => {
            (!setting.default.is_empty()).then(|| setting.default.to_owned())
        }
        Some(_) if setting.is_secret => Some("••••••••".to_owned()),
        Some((_, Value::Text(text))) => Some(text.clone()),
        Some((_, Value::List(list))) => Some(list.join(", ")),
        Some((_, Value::Table(table))) => {
            // `KEY_LIMITS` is the only table that is no secret.
            Some(table.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>().join("; "))
        }
        None => (!setting.default.is_empty()).then(|| setting.default.to_owned()),
    };
    ShownSetting {
        section: setting.section,
        name: setting.name,
        value: text.map(|text| without_password(&text)),
        default: setting.default,
        origin,
        changeable: setting.is_for_the_page() && origin != "flag",
        choices: setting.choices(),
        needs_restart: setting.needs_restart,
        pending: None,
        about: setting.help,
    }
}

/// A URL without its password, and any other text unchanged.
fn without_password(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            // An address that has a password takes another one.
            let _ = url.set_password(Some("••••"));
            url.to_string()
        }
        _ => text.to_owned(),
    }
}

/// A hash of a value, which does not reveal it.
fn fingerprint(value: &str) -> String {
    CredentialKey::of(value).as_str().to_owned()
}

fn apply(draft: &mut Draft, setting: &Setting, origin: Origin, value: &Value, faults: &mut Vec<Fault>) {
    if setting.name == CONFIG_FILE && origin == Origin::File {
        faults.push(Fault::of(
            CONFIG_FILE,
            origin,
            "cannot be set in the file that it names",
            "set it in the environment or with --config",
        ));
        return;
    }
    draft.credentials.origin = Some(origin);
    let Err(expected) = (setting.apply)(draft, value) else {
        return;
    };
    let shown = match value {
        // A long text in the wrong place may be a pasted secret.
        Value::Text(text) if !setting.is_secret && text.len() <= SHOWN_BYTES_MAX => {
            format!("{text:?} {expected}")
        }
        _ => expected,
    };
    let mend = if setting.default.is_empty() {
        "see config.json.example".to_owned()
    } else {
        format!("for example {}={}", setting.name, setting.default)
    };
    faults.push(Fault::of(setting.name, origin, shown, mend));
}

/// URL of the collector of traces, by the rules of OpenTelemetry's exporter specification.
fn traces(sources: &Sources, faults: &mut Vec<Fault>, warnings: &mut Vec<String>) -> Option<Url> {
    let set = |name: &str| sources.env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let is = |name: &str, value: &str| set(name).is_some_and(|found| found.eq_ignore_ascii_case(value));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    let (name, address) = match (set(OTEL_TRACES), set(OTEL_ALL)) {
        (Some(address), _) => (OTEL_TRACES, address.to_owned()),
        (None, Some(base)) => (OTEL_ALL, format!("{}/v1/traces", base.trim_end_matches('/'))),
        (None, None) => return None,
    };
    let url = Url::parse(&address).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    if url.is_none() {
        let mend = "write it as http://host:4318";
        faults.push(Fault::of(name, Origin::Environment, "is not the address of a collector", mend));
    }
    if is("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc") || is("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc") {
        warnings.push(
            "traces are sent as http/protobuf, not by gRPC: name the collector's port for HTTP (4318)".to_owned(),
        );
    }
    url
}

fn check_combinations(draft: &Draft, faults: &mut Vec<Fault>) {
    let pool = &draft.pool;
    if pool.trip_after < pool.degrade_after {
        faults.push(Fault::at(
            "TRIP_AFTER and DEGRADE_AFTER",
            format!(
                "an identity would be down after {} failures and degraded only after {}",
                pool.trip_after, pool.degrade_after
            ),
            "let TRIP_AFTER be at least DEGRADE_AFTER",
        ));
    }
    if pool.cooldown_max < pool.cooldown_base {
        faults.push(Fault::at(
            "COOLDOWN_MAX and COOLDOWN_BASE",
            "the longest time down would be shorter than the first",
            "let COOLDOWN_MAX be at least COOLDOWN_BASE",
        ));
    }
    if draft.web.connect_timeout != NO_LIMIT && draft.web.total_timeout < draft.web.connect_timeout {
        faults.push(Fault::at(
            "TOTAL_TIMEOUT and CONNECT_TIMEOUT",
            "an answer would have to end before its connection stands",
            "let TOTAL_TIMEOUT be longer than CONNECT_TIMEOUT",
        ));
    }
}

/// Checks keys against each other and the mode, and limits against the existing keys.
fn check_keys(draft: &Draft, faults: &mut Vec<Fault>) {
    let keys = &draft.http.keys;
    if !draft.http.server_mode && keys.iter().any(|key| key.key.expose().contains(';')) {
        faults.push(Fault::at(
            "API_KEY and SERVER_MODE",
            "in client mode a semicolon ends the key, so a key cannot hold one",
            "choose a key without semicolons",
        ));
    }
    // Without keys, the one that the server makes may be limited.
    let is_known =
        |name: &KeyName| keys.iter().any(|key| key.name == *name) || (keys.is_empty() && *name == KeyName::generated());
    for (name, _) in draft.key_limits.iter().filter(|(name, _)| !is_known(name)) {
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        let mend = match names.as_slice() {
            [] => "name a key first, as API_KEY=laptop=sk-...".to_owned(),
            names => format!("the keys are {}", names.join(", ")),
        };
        let origin = draft.origins.get("KEY_LIMITS").copied().unwrap_or(Origin::Default);
        faults.push(Fault::of("KEY_LIMITS", origin, format!("limits {name}, and no key has this name"), mend));
    }
}

/// The stronger source wins; within one, `SERVER_PORT` over `PORT`, and `SERVER_HOST` over a host in either.
fn listen(draft: &Draft) -> SocketAddr {
    let origin = |name| draft.origins.get(name).copied().unwrap_or(Origin::Default);
    let (port_origin, (port_host, port)) = if origin("PORT") < origin("SERVER_PORT") {
        (origin("PORT"), draft.port)
    } else {
        (origin("SERVER_PORT"), draft.server_port)
    };
    let host = match port_host {
        Some(host) if port_origin < origin("SERVER_HOST") => host,
        _ => draft.host.unwrap_or(draft.http.listen.ip()),
    };
    SocketAddr::new(host, port)
}

fn key_policy(http: &HttpSettings) -> KeyPolicy {
    if !http.keys.is_empty() {
        KeyPolicy::Keys
    } else if http.listen.ip().is_loopback() {
        KeyPolicy::OpenOnLoopback
    } else if http.allow_open || !http.server_mode {
        KeyPolicy::OpenKnowingly
    } else {
        KeyPolicy::GenerateKey
    }
}

/// The limits of the key that this server makes for itself.
fn generated_key_limits(limits: &[(KeyName, KeyLimits)]) -> KeyLimits {
    let own = KeyName::generated();
    limits.iter().find(|(name, _)| *name == own).map(|(_, limits)| limits.clone()).unwrap_or_default()
}

/// Warnings for the owner that do not stop the server.
fn notices(draft: &Draft, policy: KeyPolicy) -> Vec<String> {
    let http = &draft.http;
    let mut notices = Vec::new();
    let is_beyond = !http.listen.ip().is_loopback();
    let keys = || http.keys.iter().map(|key| &key.key).chain(&http.admin_key).map(ApiKey::expose);
    let samples = keys().filter(|key| is_sample(key));
    for sample in samples.filter(|_| is_beyond) {
        notices.push(format!(
            "the key '{sample}' is a sample that everybody knows, and the server listens beyond this machine; \
             openssl rand -hex 24 makes a key of your own"
        ));
    }
    if is_beyond && keys().any(|key| key.len() < KEY_BYTES_ADVISED) {
        notices.push(format!(
            "a key has fewer than {KEY_BYTES_ADVISED} characters and can be guessed; openssl rand -hex 24 makes a better one"
        ));
    }
    if draft.origins.get("OPENAI_API_KEY") == Some(&Origin::Environment) {
        notices.push(
            "OPENAI_API_KEY (environment) counts as a key of this server: callers who send it are let in. If it is \
             your key for OpenAI, unset it for this program, and choose a key of your own in API_KEY"
                .to_owned(),
        );
    }
    if http.log_prompts {
        notices.push("LOG_PROMPTS is true: the beginning of what callers write goes into the log".to_owned());
    }
    if draft.rate_burst.is_some() && draft.rate_rps.is_none() {
        notices.push("RATE_LIMIT_BURST has no effect without RATE_LIMIT_RPS".to_owned());
    }
    notices.extend(former::buffer_warning(draft.accounts.refresh_buffer, &draft.origins));
    if policy == KeyPolicy::OpenKnowingly && http.server_mode {
        notices.push("ALLOW_OPEN: every program that reaches this address can use the configured accounts".to_owned());
    }
    notices
}

/// Whether a key is a sample from documents of this program, of its forerunners or of OpenAI, or made like those.
fn is_sample(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('_', "-");
    let bare = key.strip_prefix("sk-").unwrap_or(&key);
    let is_run = |text: &str| {
        text.len() > 3 && ["01234567890123456789", "abcdefghijklmnopqrstuvwxyz"].iter().any(|run| run.contains(text))
    };
    let is_one_letter = |text: &str| text.len() > 3 && text.bytes().all(|byte| Some(byte) == text.bytes().next());
    SAMPLE_WORDS.iter().any(|word| bare.contains(word))
        || bare.split('-').all(|part| SAMPLE_PARTS.contains(&part) || is_run(part) || is_one_letter(part))
}

/// The rate limit; without a setting, `burst` is twice the rate.
fn rate_limit(per_second: f64, burst: Option<u32>) -> RateLimit {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 200 000 by the checks")]
    let double = (per_second * 2.0).ceil() as u32;
    RateLimit { per_second, burst: burst.unwrap_or(double.max(1)) }
}

/// Key of the cookie file's text in [`Config::fingerprints`].
pub(crate) const COOKIE_TEXT: &str = "the text of COOKIE_FILE";
const DEFAULT_CONFIG_FILE: &str = "config.json";
/// Longest value that a fault repeats, in bytes.
const SHOWN_BYTES_MAX: usize = 40;
/// Words that occur in sample keys only.
const SAMPLE_WORDS: &[&str] = &["your-", "yourkey", "change-me", "changeme", "replace-me", "placeholder", "example"];
/// Parts from which sample keys are composed.
const SAMPLE_PARTS: &[&str] =
    &["admin", "api", "demo", "dummy", "key", "my", "password", "sample", "secret", "test", "token"];
/// Keys shorter than this, in bytes, cause a warning when the server listens beyond this machine.
const KEY_BYTES_ADVISED: usize = 16;

#[cfg(test)]
mod documents;
#[cfg(test)]
mod tests;
