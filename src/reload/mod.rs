//! Takes up changed settings while the server runs: files are read whole and checked whole, then what can be changed is
//! swapped. Requests in flight end on what they began with; a faulty file changes nothing.
//!
//! The folders of the files are watched, since editors and Kubernetes put a new file in the place of the old one.
//! SIGHUP and `POST /admin/reload` ask for the same.

pub(crate) mod parts;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::base::live::Live;
use crate::config::{COOKIE_TEXT, Config, ConfigError, Fault, KeyPolicy, SETTINGS, Sources, page};
use crate::gateway::accounts::book::AccountBook;
use crate::gateway::accounts::oauth::OAuthAccounts;
use crate::gateway::alerts::AlertSettings;
use crate::gateway::answer::relay::RelayGateway;
use crate::gateway::caller_keys::CallerKeys;
use crate::gateway::reloads::{Asked, ChangeRefused, Outcome, Question, Reloads, SettingsChange};
use crate::http::settings::{PendingValue, ShownSetting, version_of};
use crate::pool::Now;
use crate::reload::parts::{LiveParts, alert_settings};
use crate::reload::watch::{watch, with_targets};
use crate::shutdown::hangups;
use crate::store::{Note, Store};
use crate::telemetry::ErrorChain;

/// Time from a change of a file until it is read.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Time for which an emptied cookie file is taken as one that is being written.
const EMPTY_FOR: Duration = Duration::from_secs(10);

/// The settings that hold accounts.
const ACCOUNTS: [&str; 6] = ["COOKIE", "COOKIE_FILE", COOKIE_TEXT, "QWEN_TOKEN", "QWEN_OAUTH_CREDS", "QWEN_API_KEYS"];
/// The settings that hold keys of callers.
const KEYS: [&str; 4] = ["API_KEY", "OPENAI_API_KEYS", "OPENAI_API_KEY", "KEY_LIMITS"];

/// Reads all sources of the configuration anew.
pub(crate) type Reread = Box<dyn Fn() -> Sources + Send>;
/// The same, and the values that the owner's page keeps in the state.
pub(crate) type RereadWithPage = (Reread, Option<String>);

/// The task that reloads settings.
pub(crate) struct Reloader {
    pub(crate) reread: Reread,
    /// What the owner's page keeps in the state.
    pub(crate) page: Option<String>,
    pub(crate) store: Arc<Store>,
    /// The parts whose settings can change while the server runs.
    pub(crate) live: LiveParts,
    pub(crate) book: AccountBook,
    pub(crate) keys: CallerKeys,
    /// OAuth accounts, of which some are given in settings.
    pub(crate) oauth: OAuthAccounts,
    /// The way to the endpoints of static keys.
    pub(crate) static_keys: RelayGateway,
    /// Source of the requests to reload, and target of the last result.
    pub(crate) reloads: Reloads,
    /// Hash of the value of each setting in use, by name.
    pub(crate) in_use: BTreeMap<&'static str, String>,
    /// The settings as the owner's page shows them.
    pub(crate) shown: Live<Vec<ShownSetting>>,
    pub(crate) key_policy: KeyPolicy,
    pub(crate) server_mode: bool,
    /// The files that are watched.
    pub(crate) files: Vec<PathBuf>,
}

impl Reloader {
    /// Reloads when a file changes, at SIGHUP and when the owner asks, until `stop`.
    pub(crate) async fn run(mut self, mut asked: Asked, stop: CancellationToken) {
        let changed = Arc::new(Notify::new());
        let mut watched = with_targets(&self.files);
        // Held, since dropping it ends the watch.
        let mut _watcher = watch(&watched, Arc::clone(&changed));
        let mut hangups = hangups();
        let mut emptied = Emptied::default();
        loop {
            // `COOKIE_FILE` names another file now, or a link leads to another one.
            let wanted = with_targets(&self.files);
            if watched != wanted {
                watched = wanted;
                _watcher = watch(&watched, Arc::clone(&changed));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = hangups.next() => {
                    info!("asked to reload");
                    self.reload_if_whole(&mut emptied).await;
                }
                // Sending an answer fails when the request that asked was dropped meanwhile.
                Some(question) = asked.next() => match question {
                    Question::Reload(answer) => drop(answer.send(self.reload_if_whole(&mut emptied).await)),
                    Question::Change(change, answer) => drop(answer.send(self.change(change, &mut emptied).await)),
                },
                () = changed.notified() => {
                    sleep(DEBOUNCE).await;
                    // What changed meanwhile is read now, so it needs no reload of its own.
                    let _ = changed.notified().now_or_never();
                    self.reload_if_whole(&mut emptied).await;
                }
                () = until(emptied.until()) => {
                    emptied = Emptied::default();
                    self.reload().await;
                }
            }
        }
    }

    /// Whether the cookie file holds nothing although its accounts are in use.
    fn lost_its_cookies(&self) -> bool {
        let sources = self.sources();
        let is_empty = sources.cookie_file.as_deref().is_none_or(|text| text.trim().is_empty());
        self.server_mode && is_empty && self.in_use.get(COOKIE_TEXT).is_some_and(|text| !text.is_empty())
    }

    /// Reloads, unless the cookie file was emptied a moment ago: then nothing changes until it is written, or has stayed
    /// empty for [`EMPTY_FOR`].
    async fn reload_if_whole(&mut self, emptied: &mut Emptied) -> Outcome {
        if emptied.is_believed(self.lost_its_cookies(), Instant::now()) {
            return self.reload().await;
        }
        let fault = format!(
            "the cookie file is empty, perhaps because it is being written: its accounts stay in use, and are removed if \
             it is still empty in {} s",
            EMPTY_FOR.as_secs()
        );
        warn!("not reloaded: {fault}");
        let outcome = Outcome { faults: vec![fault], ..Outcome::nothing(Now::read().unix) };
        self.reloads.note(outcome.clone());
        outcome
    }

    /// Reads everything, and takes up what can be.
    async fn reload(&mut self) -> Outcome {
        let outcome = match checked(Config::load(&self.sources()), Vec::new()) {
            Err(faults) => {
                for fault in &faults {
                    error!("not reloaded: {fault}");
                }
                Outcome { faults, ..Outcome::nothing(Now::read().unix) }
            }
            Ok((config, alerts)) => self.take_up(config, alerts).await,
        };
        self.reloads.note(outcome.clone());
        outcome
    }

    /// Everything that the configuration is read from.
    fn sources(&self) -> Sources {
        Sources { page: self.page.clone(), ..(self.reread)() }
    }

    /// Changes settings for the owner's page: all of them, or none.
    async fn change(&mut self, change: SettingsChange, emptied: &mut Emptied) -> Result<Outcome, ChangeRefused> {
        if change.version.is_some_and(|version| version != version_of(&self.shown.now())) {
            return Err(ChangeRefused::Outdated);
        }
        if !emptied.is_believed(self.lost_its_cookies(), Instant::now()) {
            let fault = format!(
                "the cookie file is empty, perhaps because it is being written: repeat the change in {} s",
                EMPTY_FOR.as_secs()
            );
            return Err(ChangeRefused::Faults(vec![fault]));
        }
        let mut sources = self.sources();
        let (page, faults) = page::changed(self.page.as_deref(), &change.values, &sources.flags);
        sources.page = Some(page.clone());
        let (config, alerts) = checked(Config::load(&sources), faults).map_err(ChangeRefused::Faults)?;
        if let Err(error) = self.store.save_note(Note::Settings, page.clone()).await {
            error!(error = %ErrorChain(&error), "settings were not changed, since the state cannot keep them");
            return Err(ChangeRefused::NotKept);
        }
        self.page = Some(page);
        Ok(self.take_up(config, alerts).await)
    }

    /// Takes up what can be, of a configuration without a fault.
    async fn take_up(&mut self, config: Config, alerts: AlertSettings) -> Outcome {
        let now = Now::read();
        self.live.take_up(&config, alerts, now);
        self.files.clone_from(&config.files);
        let mut outcome = Outcome::nothing(now.unix);
        let names = SETTINGS.iter().map(|setting| (setting.name, setting.needs_restart)).chain([(COOKIE_TEXT, false)]);
        // Keys where there were none, or none where there were some, change who is let in at all.
        let changes_policy = config.key_policy != self.key_policy;
        for (name, needs_restart) in names {
            if config.fingerprints.get(name) == self.in_use.get(name) {
                continue;
            }
            // In client mode callers bring the accounts that they use, and those of the settings are not taken up.
            let is_unused = ACCOUNTS.contains(&name) && !self.server_mode;
            if needs_restart || is_unused || (KEYS.contains(&name) && changes_policy) {
                outcome.needs_restart.push(name.to_owned());
                continue;
            }
            match config.fingerprints.get(name) {
                Some(value) => drop(self.in_use.insert(name, value.clone())),
                None => drop(self.in_use.remove(name)),
            }
            if name != COOKIE_TEXT {
                outcome.changed.push(name.to_owned());
            }
        }
        if self.server_mode {
            outcome.changed.extend(self.book.configure(&config.identities, now).await);
            outcome.changed.extend(self.oauth.configure_given(&config.accounts.given).await);
            outcome.changed.extend(self.static_keys.configure_keys(&config.static_keys, now));
        }
        match config.key_policy {
            KeyPolicy::Keys if !changes_policy => self.keys.configure(&config.http.keys),
            KeyPolicy::GenerateKey if !changes_policy => self.keys.limit_generated(&config.generated_key_limits),
            _ => {}
        }
        self.shown.put(shown_after(&self.shown.now(), &config.shown, &outcome.needs_restart));
        for warning in &config.warnings {
            warn!("{warning}");
        }
        if !outcome.changed.is_empty() {
            info!(changed = outcome.changed.join(", "), "reloaded");
        }
        if !outcome.needs_restart.is_empty() {
            warn!(settings = outcome.needs_restart.join(", "), "changed settings that are in use after a restart only");
        }
        outcome
    }
}

/// A configuration with the client of its alerts, if neither it nor what was found `before` has a fault; else all faults.
fn checked(
    loaded: Result<Config, ConfigError>,
    mut before: Vec<Fault>,
) -> Result<(Config, AlertSettings), Vec<String>> {
    match loaded {
        Ok(config) if before.is_empty() => match alert_settings(&config) {
            Ok(alerts) => Ok((config, alerts)),
            Err(error) => Err(vec![format!("ALERT_URL: {}", ErrorChain(&error))]),
        },
        Ok(_) => Err(in_words(&before)),
        Err(wrong) => {
            before.extend(wrong.faults);
            Err(in_words(&before))
        }
    }
}

fn in_words(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

/// The settings that are in use after a reload: those that wait for a restart have the value they had. The rows of
/// `before` and `read` are the same settings in the same order.
fn shown_after(before: &[ShownSetting], read: &[ShownSetting], waiting: &[String]) -> Vec<ShownSetting> {
    let after = |(before, read): (&ShownSetting, &ShownSetting)| {
        if waiting.iter().any(|name| name == read.name) {
            let pending = PendingValue { value: read.value.clone(), origin: read.origin };
            ShownSetting { pending: Some(pending), ..before.clone() }
        } else {
            read.clone()
        }
    };
    before.iter().zip(read).map(after).collect()
}

/// Moment since which the cookie file has been empty although it has accounts: for a while it is taken as one that is
/// being written.
#[derive(Default)]
struct Emptied(Option<Instant>);

impl Emptied {
    /// The file has changed; whether what it holds now is to be read.
    fn is_believed(&mut self, is_empty: bool, now: Instant) -> bool {
        self.0 = is_empty.then(|| self.0.unwrap_or(now));
        !is_empty
    }

    /// Moment at which an empty file is read as it is; `None` while the file has content.
    fn until(&self) -> Option<Instant> {
        self.0.map(|since| since + EMPTY_FOR)
    }
}

/// Waits until a moment; with `None` without an end.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_cookie_file_is_believed_after_ten_seconds() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut emptied = Emptied::default();
        assert!(emptied.is_believed(false, at(0)));
        assert_eq!(emptied.until(), None);
        // Written over by an editor: empty for a moment, then whole.
        assert!(!emptied.is_believed(true, at(1)));
        assert_eq!(emptied.until(), Some(at(11)));
        assert!(emptied.is_believed(false, at(2)));
        assert_eq!(emptied.until(), None);
        // Further changes of a file that stays empty do not put it off.
        for seconds in [20, 23, 29] {
            assert!(!emptied.is_believed(true, at(seconds)));
            assert_eq!(emptied.until(), Some(at(30)), "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_emptied_cookie_file_is_read_when_its_time_has_come_and_a_full_one_is_not_waited_for() {
        let (start, mut emptied) = (Instant::now(), Emptied::default());
        emptied.is_believed(true, start);
        until(emptied.until()).await;
        assert_eq!(start.elapsed(), EMPTY_FOR);
        emptied.is_believed(false, Instant::now());
        assert!(tokio::time::timeout(EMPTY_FOR * 100, until(emptied.until())).await.is_err());
    }
}
