//! The settings that change while the server runs: where each is in use, and how another value gets there.

use std::time::Duration;

use crate::base::live::Live;
use crate::config::Config;
use crate::gateway::alerts::AlertSettings;
use crate::gateway::answer::settings::AnswerSettings;
use crate::gateway::chats::continuations::Continuations;
use crate::gateway::chats::janitor::Janitor;
use crate::gateway::usage::{UsageBook, UsageSettings};
use crate::http::settings::HttpSettings;
use crate::pool::{IdentityPool, Now, PoolSettings};
use crate::telemetry::LogControl;
use crate::upstream::web::client::WebClientError;
use crate::upstream::webhook::Webhook;
use crate::upstream::{AnswerTimeouts, MediaFetch};

/// Settings that the parts of the server look up each time they begin something.
pub(crate) struct LiveValues {
    pub(crate) answering: Live<AnswerSettings>,
    pub(crate) http: Live<HttpSettings>,
    pub(crate) timeouts: Live<AnswerTimeouts>,
    /// `MODELS_TTL`: age in which lists of models count as fresh.
    pub(crate) models_ttl: Live<Duration>,
    /// `KEEP_RESPONSES`: time for which responses are kept.
    pub(crate) keep_responses: Live<Duration>,
    pub(crate) alerts: Live<AlertSettings>,
    /// `SHUTDOWN_TIMEOUT`: longest wait for open answers when the server stops.
    pub(crate) shutdown_timeout: Live<Duration>,
}

/// The parts whose settings can change while the server runs.
pub(crate) struct LiveParts {
    pub(crate) values: LiveValues,
    /// `MEDIA_FETCH`: addresses whose files are fetched for callers.
    pub(crate) media_fetch: Live<MediaFetch>,
    /// The pool of the web chat.
    pub(crate) web: IdentityPool,
    /// The pools of OAuth accounts and of static keys.
    pub(crate) relays: [IdentityPool; 2],
    pub(crate) usage: UsageBook,
    pub(crate) janitor: Janitor,
    pub(crate) continuations: Continuations,
    /// Changes the filter of the log; `None` if another program installed the log.
    pub(crate) log: Option<LogControl>,
}

impl LiveValues {
    /// The values at the start. `timeouts` are those of the client of the web chat.
    ///
    /// # Errors
    /// The client for alerts cannot be made.
    pub(crate) fn of(config: &Config, timeouts: Live<AnswerTimeouts>) -> Result<Self, WebClientError> {
        Ok(Self {
            answering: Live::new(answer_settings(config)),
            http: Live::new(config.http.clone()),
            timeouts,
            models_ttl: Live::new(config.chat.models_ttl),
            keep_responses: Live::new(config.chat.keep_responses),
            alerts: Live::new(alert_settings(config)?),
            shutdown_timeout: Live::new(config.shutdown_timeout),
        })
    }
}

impl LiveParts {
    /// Puts every setting of this configuration in use that needs no restart, with `alerts` made of it. What is under way
    /// ends on what it began with.
    pub(crate) fn take_up(&self, config: &Config, alerts: AlertSettings, now: Now) {
        let (values, chat) = (&self.values, &config.chat);
        values.alerts.put(alerts);
        values.answering.put(answer_settings(config));
        let http = changed_http(&values.http.now(), config);
        if let Some(log) = &self.log {
            log.set_filter(&http.log_level);
        }
        values.http.put(http);
        values.timeouts.put(config.web.timeouts());
        values.models_ttl.put(chat.models_ttl);
        values.keep_responses.put(chat.keep_responses);
        values.shutdown_timeout.put(config.shutdown_timeout);
        self.media_fetch.put(config.media_fetch.clone());
        self.web.configure(config.pool.clone(), now);
        for pool in &self.relays {
            pool.configure(relay_pool(config), now);
        }
        self.usage.configure(usage_settings(config));
        self.janitor.keep_chats(chat.keep_chats);
        self.continuations.keep_for(chat.continue_chats.then_some(chat.continue_idle));
    }
}

/// The settings of before with those of `config` that need no restart.
fn changed_http(before: &HttpSettings, config: &Config) -> HttpSettings {
    let read = &config.http;
    HttpSettings {
        rate_limit: read.rate_limit,
        log_level: config.log_filter(before.debug_mode),
        log_prompts: read.log_prompts,
        body_bytes_max: read.body_bytes_max,
        json_bytes_max: read.json_bytes_max,
        keepalive_interval: read.keepalive_interval,
        headers_hold: read.headers_hold,
        read_timeout: read.read_timeout,
        write_timeout: read.write_timeout,
        ..before.clone()
    }
}

fn answer_settings(config: &Config) -> AnswerSettings {
    AnswerSettings {
        default_model: config.chat.default_model.clone(),
        default_model_is_set: config.chat.default_model_is_set,
        retries_max: config.chat.retries_max,
        model_map: config.chat.model_map.clone(),
        reasoning_format: config.http.reasoning_format,
        vision_fallback: config.http.vision_fallback.clone(),
        web_tools: config.chat.web_tools,
    }
}

/// The settings of alerts, with the client that sends them.
///
/// # Errors
/// The client cannot be made.
pub(crate) fn alert_settings(config: &Config) -> Result<AlertSettings, WebClientError> {
    let webhook = |address| Webhook::new(address, config.web.is_direct);
    Ok(AlertSettings {
        webhook: config.alert_url.clone().map(webhook).transpose()?,
        challenge_rest: config.pool.challenge_rest,
    })
}

/// The settings of usage: names of models, and days that are kept.
pub(crate) fn usage_settings(config: &Config) -> UsageSettings {
    UsageSettings { model_map: config.chat.model_map.clone(), days_max: config.usage_days }
}

/// Settings of the pools of OAuth accounts and of keys.
pub(crate) fn relay_pool(config: &Config) -> PoolSettings {
    PoolSettings { in_flight_max: config.relay_in_flight_max, ..config.pool.clone() }
}
