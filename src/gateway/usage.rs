//! Usage of callers: each request to a model is counted once, when it has ended, and the limits of keys are compared
//! with the counts of their day.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::base::caller_key::KeyName;
use crate::base::facts::AccountKind;
use crate::base::ids::{IdentityId, UnixSeconds};
use crate::base::live::Live;
use crate::chat::model_map::ModelMap;
use crate::gateway::caller_keys::CallerKey;
use crate::gateway::requests::{AskedFor, EndedRequest};
use crate::pool::Now;
use crate::store::{HOURS, Store, StoreError, UsageKey, UsageLoaded, UsageSums, UtcDay, hour_of};

/// Counts requests. Clones share the counts.
#[derive(Clone)]
pub(crate) struct UsageBook(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    settings: Live<UsageSettings>,
    lately: Mutex<Lately>,
}

impl fmt::Debug for UsageBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageBook").finish_non_exhaustive()
    }
}

/// Counts that are looked up without the state file.
#[derive(Default)]
struct Lately {
    /// The UTC day of `today`.
    day: Option<UtcDay>,
    /// Requests and tokens of each key on that day.
    today: HashMap<KeyName, UsedToday>,
    /// The day that was counted before, for a clock that goes back over midnight.
    before: Option<(UtcDay, HashMap<KeyName, UsedToday>)>,
    /// Requests of each account by the hour, in hours of Unix time.
    hours: HashMap<String, BTreeMap<i64, u64>>,
    /// Last use of each key.
    uses: HashMap<String, UnixSeconds>,
    /// Names under which models are counted.
    models: HashSet<String>,
}

/// The usage of a key since midnight UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsedToday {
    /// Requests to a model that were not refused for a limit of the key.
    pub requests: u64,
    /// Tokens of prompts and answers together.
    pub tokens: u64,
}

/// The limit of a key that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitReached {
    /// The name of the key.
    pub key: KeyName,
    /// The limit: `requests` or `tokens`.
    pub what: &'static str,
    /// Requests or tokens per day.
    pub limit: u64,
    /// Time until the next midnight UTC.
    pub wait: Duration,
}

/// The part by which usage is summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum UsageBy {
    /// By UTC day, the default.
    #[default]
    Day,
    /// By name of the caller's key.
    Key,
    /// By name of the model.
    Model,
    /// By the account that was tried last.
    Account,
    /// By kind of account: `web`, `oauth` or `key`.
    Kind,
}

impl UsageBy {
    /// All parts, in the order of declaration.
    pub(crate) const ALL: [Self; 5] = [Self::Day, Self::Key, Self::Model, Self::Account, Self::Kind];

    /// Word for the part, in the query of the usage route.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Key => "key",
            Self::Model => "model",
            Self::Account => "account",
            Self::Kind => "kind",
        }
    }

    /// Name of a sum. For a part that its requests lack it is [`NONE`].
    fn name(self, key: &UsageKey) -> String {
        let part = match self {
            Self::Day => return key.day.date(),
            Self::Key => &key.key,
            Self::Model => &key.model,
            Self::Account => &key.account,
            Self::Kind => &key.kind,
        };
        if part.is_empty() { NONE.to_owned() } else { part.clone() }
    }
}

/// The settings of usage: names of models, and days that are kept.
#[derive(Clone, Debug)]
pub(crate) struct UsageSettings {
    /// `MODEL_MAP`: a model is counted under the name that it stands for.
    pub model_map: ModelMap,
    /// Days for which usage is kept (`USAGE_DAYS`, 400).
    pub days_max: u32,
}

impl UsageBook {
    /// Continues the counts of earlier runs.
    #[must_use]
    pub(crate) fn new(store: Arc<Store>, loaded: UsageLoaded, settings: UsageSettings, now: Now) -> Self {
        let mut lately = Lately::default();
        lately.begin(UtcDay::of(now.unix));
        for (key, sums) in loaded.today {
            if let Ok(name) = key.key.parse::<KeyName>()
                && Some(key.day) == lately.day
            {
                let used = lately.today.entry(name).or_default();
                let refused = sums.errors.get(LIMIT_CODE).copied().unwrap_or_default();
                used.requests = used.requests.saturating_add(sums.requests.saturating_sub(refused));
                used.tokens = used.tokens.saturating_add(sums.prompt).saturating_add(sums.completion);
            }
            if lately.models.len() < MODELS_MAX {
                lately.models.insert(key.model);
            }
        }
        for (account, hour, requests) in loaded.hours {
            lately.hours.entry(account).or_default().insert(hour, requests);
        }
        lately.uses = loaded.uses.into_iter().collect();
        Self(Arc::new(Inner { store, settings: Live::new(settings), lately: Mutex::new(lately) }))
    }

    /// Replaces the settings, for later counts. Days that are now too old are deleted.
    pub(crate) fn configure(&self, settings: UsageSettings) {
        self.0.settings.put(settings);
        self.forget();
    }

    /// Deletes days that are too old.
    fn forget(&self) {
        let first = UtcDay::of(Now::read().unix).plus(1 - i64::from(self.0.settings.now().days_max));
        self.0.store.forget_usage_before(first);
    }

    /// Admits a request of this key, and counts it against the key's limit of requests.
    ///
    /// # Errors
    /// [`LimitReached`]: the day's requests or tokens are used up.
    pub(crate) fn admit(&self, key: &CallerKey, now: UnixSeconds) -> Result<(), LimitReached> {
        let day = UtcDay::of(now);
        let mut lately = self.0.lately.lock();
        lately.begin(day);
        let used = lately.today.entry(key.name.clone()).or_default();
        let limits = [
            ("requests", key.limits.requests_per_day, used.requests),
            ("tokens", key.limits.tokens_per_day, used.tokens),
        ];
        for (what, limit, used) in limits {
            if let Some(limit) = limit.filter(|limit| used >= *limit) {
                let seconds = day.plus(1).begin().seconds_since(now).max(1);
                let wait = Duration::from_secs(seconds);
                return Err(LimitReached { key: key.name.clone(), what, limit, wait });
            }
        }
        used.requests = used.requests.saturating_add(1);
        Ok(())
    }

    /// Counts an ended request. `asked_for` is the product that it asked a model for.
    pub(crate) fn count(&self, request: &EndedRequest, asked_for: AskedFor, now: UnixSeconds) {
        let EndedRequest { head, history, outcome, .. } = request;
        let is_good = *outcome == GOOD;
        let mut sums = UsageSums {
            requests: 1,
            prompt: history.tokens.prompt,
            completion: history.tokens.completion,
            reasoning: history.tokens.reasoning,
            cached: history.tokens.cached,
            images: history.pictures.into(),
            ..UsageSums::default()
        };
        match asked_for {
            AskedFor::Video => sums.videos = is_good.into(),
            AskedFor::Embedding => sums.embeddings = is_good.into(),
            AskedFor::Answer | AskedFor::Picture => {}
        }
        if let Some(first) = history.first_content {
            sums.first_token.record(milliseconds(first));
        }
        if is_good {
            sums.total.record(milliseconds(request.total));
        } else {
            sums.errors.insert((*outcome).to_owned(), 1);
        }
        let (kind, account) = match &history.account {
            Some((kind, account)) => (kind.as_str(), account.as_str()),
            None => ("", ""),
        };
        let mut lately = self.0.lately.lock();
        let settings = self.0.settings.now();
        let model = head.model.as_deref().map(|model| settings.model_map.apply(model)).unwrap_or_default();
        // An unknown name may be any text of a caller, so it is not counted under its own name; the web chat's names
        // are from its list.
        let is_known = is_good || history.account.as_ref().is_some_and(|(kind, _)| *kind == AccountKind::Web);
        let model = lately.counted_as(model, is_known && *outcome != "model_not_found");
        if let Some(name) = &head.key {
            lately.begin(UtcDay::of(now));
            let used = lately.today.entry(name.clone()).or_default();
            used.tokens = used.tokens.saturating_add(sums.prompt).saturating_add(sums.completion);
            lately.uses.insert(name.as_str().to_owned(), now);
        }
        if !account.is_empty() {
            lately.count_hour(account, hour_of(now));
        }
        drop(lately);
        let key = UsageKey {
            day: UtcDay::of(now),
            key: head.key.as_ref().map_or_else(String::new, |name| name.as_str().to_owned()),
            model,
            account: account.to_owned(),
            kind: kind.to_owned(),
        };
        self.0.store.count_usage(key, &sums, now);
    }

    /// The usage of a key since midnight UTC.
    #[must_use]
    pub(crate) fn used_today(&self, key: &KeyName, now: UnixSeconds) -> UsedToday {
        let mut lately = self.0.lately.lock();
        lately.begin(UtcDay::of(now));
        lately.today.get(key).copied().unwrap_or_default()
    }

    /// Last use of a key; `None` if it was never used.
    #[must_use]
    pub(crate) fn last_used(&self, key: &KeyName) -> Option<UnixSeconds> {
        self.0.lately.lock().uses.get(key.as_str()).copied()
    }

    /// The requests of an account in each of the last 24 hours, the running one included, oldest first.
    #[must_use]
    pub(crate) fn hours(&self, account: &IdentityId, now: UnixSeconds) -> Vec<u64> {
        let lately = self.0.lately.lock();
        let counts = lately.hours.get(account.as_str());
        let this = hour_of(now);
        (this - HOURS + 1..=this)
            .map(|hour| counts.and_then(|counts| counts.get(&hour)).copied().unwrap_or(0))
            .collect()
    }

    /// The sums of the days from `from` to `to`, both included.
    ///
    /// # Errors
    /// The state file cannot be read.
    pub(crate) async fn sums(
        &self,
        days: (UtcDay, UtcDay),
        by: UsageBy,
    ) -> Result<BTreeMap<String, UsageSums>, StoreError> {
        self.0.store.usage_by(days, move |key| by.name(key)).await
    }

    /// Deletes days that are too old, now and every few hours until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let forgetting = async {
            loop {
                self.forget();
                tokio::time::sleep(FORGET_EVERY).await;
            }
        };
        stop.run_until_cancelled(forgetting).await;
    }
}

impl Lately {
    /// Goes over to the counts of this day, which are empty unless it was the day before the change.
    fn begin(&mut self, day: UtcDay) {
        if self.day == Some(day) {
            return;
        }
        let counted = std::mem::take(&mut self.today);
        let known = match self.day.replace(day) {
            Some(left) => self.before.replace((left, counted)),
            None => None,
        };
        if let Some((_, counted)) = known.filter(|(its, _)| *its == day) {
            self.today = counted;
        }
    }

    fn count_hour(&mut self, account: &str, hour: i64) {
        if !self.hours.contains_key(account) && self.hours.len() >= ACCOUNTS_MAX {
            return;
        }
        let hours = self.hours.entry(account.to_owned()).or_default();
        *hours.entry(hour).or_default() += 1;
        // A clock that is wrong once must not leave hours behind permanently.
        hours.retain(|counted, _| (hour - HOURS..=hour).contains(counted));
    }

    /// The name under which a model is counted: its own if it is known or was counted before, up to [`MODELS_MAX`]
    /// names; else [`OTHER_MODEL`].
    fn counted_as(&mut self, model: &str, is_known: bool) -> String {
        if model.is_empty() || self.models.contains(model) {
            return model.to_owned();
        }
        if !is_known || self.models.len() >= MODELS_MAX {
            return OTHER_MODEL.to_owned();
        }
        self.models.insert(model.to_owned());
        model.to_owned()
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The outcome of a successful request.
const GOOD: &str = "ok";
/// The code of a request that was refused for a limit of its key.
pub(crate) const LIMIT_CODE: &str = "key_limit_reached";
/// Stands for a part that requests lack, such as a key. No key can have this name.
pub(crate) const NONE: &str = "(none)";
/// Name for all models that no upstream has, and for those beyond [`MODELS_MAX`].
const OTHER_MODEL: &str = "other";
/// Most models that are counted under their own names, between two starts.
const MODELS_MAX: usize = 200;
/// Most accounts whose hours are counted.
const ACCOUNTS_MAX: usize = 10_000;
/// Interval in which old days are deleted.
const FORGET_EVERY: Duration = Duration::from_secs(6 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::caller_key::{KeyLimits, NamedKey};
    use crate::base::secret::ApiKey;
    use crate::chat::reply::TokenCounts;
    use crate::gateway::answer::trace::Trace;
    use crate::gateway::caller_keys::CallerKeys;
    use crate::gateway::requests::RequestHead;
    use crate::shutdown::Supervisor;

    /// 2026-11-26, four seconds before midnight.
    const EVENING: UnixSeconds = UnixSeconds(20_783 * 86_400 + 86_396);

    fn book(store: &Arc<Store>, loaded: UsageLoaded, at: UnixSeconds) -> UsageBook {
        let map = ModelMap::parse(&["gpt-*=qwen3-max".to_owned()]).unwrap();
        let settings = UsageSettings { model_map: map, days_max: 400 };
        UsageBook::new(Arc::clone(store), loaded, settings, Now { unix: at, ..Now::read() })
    }

    fn key(limits: &str) -> Arc<CallerKey> {
        let limits = KeyLimits::parse(limits).unwrap();
        let named = NamedKey { name: "laptop".parse().unwrap(), key: ApiKey::new("k"), limits, is_generated: false };
        CallerKeys::new(&[named], Vec::new(), Supervisor::new()).find("k").unwrap()
    }

    fn ended(model: &str, outcome: &'static str, account: Option<AccountKind>) -> EndedRequest {
        let head = RequestHead {
            key: Some("laptop".parse().unwrap()),
            model: Some(model.to_owned()),
            ..RequestHead::default()
        };
        let trace = Trace::default();
        if let Some(kind) = account {
            trace.asks(kind, &IdentityId::named("identity-1"));
        }
        trace.spent(TokenCounts { prompt: 60, completion: 41, ..TokenCounts::default() });
        let history = trace.take();
        EndedRequest { head, status: 200, outcome, total: Duration::from_millis(700), history }
    }

    #[tokio::test]
    async fn a_key_has_so_many_requests_and_tokens_until_midnight_utc() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap().0);
        let book = book(&store, UsageLoaded::default(), EVENING);
        let key = key("requests=3/day,tokens=200/day");
        for _ in 0..3 {
            assert_eq!(
                book.admit(&key, EVENING),
                Ok(()),
                "counted when it comes, so that many at once are not too many"
            );
        }
        let reached = LimitReached { key: key.name.clone(), what: "requests", limit: 3, wait: Duration::from_secs(4) };
        assert_eq!(book.admit(&key, EVENING), Err(reached));
        book.count(&ended("qwen3-max", "ok", None), AskedFor::Answer, EVENING);
        assert_eq!(book.used_today(&key.name, EVENING), UsedToday { requests: 3, tokens: 101 });
        let midnight = EVENING.plus(4);
        assert_eq!(book.used_today(&key.name, midnight), UsedToday::default());
        assert_eq!(book.admit(&key, midnight), Ok(()));
        book.count(&ended("qwen3-max", "ok", None), AskedFor::Answer, midnight);
        assert_eq!(book.admit(&key, midnight), Ok(()), "101 of 200: answered to the end");
        book.count(&ended("qwen3-max", "upstream_error", None), AskedFor::Answer, midnight);
        let reached = book.admit(&key, midnight).unwrap_err();
        assert_eq!((reached.what, reached.limit, reached.wait), ("tokens", 200, Duration::from_secs(86_400)));
        assert_eq!(book.last_used(&key.name), Some(midnight));
        // A clock that is set back over midnight finds the counts of that day, and then again those of the next.
        assert_eq!(book.admit(&key, EVENING).unwrap_err().what, "requests");
        assert_eq!(book.used_today(&key.name, EVENING), UsedToday { requests: 3, tokens: 101 });
        assert_eq!(book.used_today(&key.name, midnight), UsedToday { requests: 2, tokens: 202 });
        assert_eq!(book.used_today(&key.name, midnight.plus(86_400)), UsedToday::default());
    }

    #[tokio::test]
    async fn a_restart_forgets_nothing_of_the_day() {
        let dir = tempfile::tempdir().unwrap();
        let now = Now::read().unix;
        let store = Arc::new(Store::open(dir.path()).unwrap().0);
        let before = book(&store, UsageLoaded::default(), now);
        for outcome in ["ok", "upstream_error", LIMIT_CODE] {
            before.count(&ended("qwen3-max", outcome, None), AskedFor::Answer, now);
        }
        store.close().await;
        let (store, loaded) = Store::open(dir.path()).unwrap();
        let after = book(&Arc::new(store), loaded.usage, now);
        let name = "laptop".parse().unwrap();
        // One was refused, and cost the key nothing.
        assert_eq!(after.used_today(&name, now), UsedToday { requests: 2, tokens: 303 });
        assert_eq!(after.last_used(&name), Some(now));
    }

    #[tokio::test]
    async fn models_are_counted_by_the_names_that_upstreams_know() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap().0);
        let book = book(&store, UsageLoaded::default(), EVENING);
        for (model, outcome, account) in [
            ("gpt-4o-anything", "ok", Some(AccountKind::Web)),
            ("qwen3-max", "upstream_error", Some(AccountKind::Web)),
            ("made-up", "model_not_found", Some(AccountKind::Web)),
            ("key/made-up", "upstream_error", Some(AccountKind::Key)),
            ("key/real", "ok", Some(AccountKind::Key)),
            ("key/real", "upstream_error", Some(AccountKind::Key)),
            ("never-sent", "model_not_found", None),
        ] {
            book.count(&ended(model, outcome, account), AskedFor::Answer, EVENING);
        }
        let day = UtcDay::of(EVENING);
        let by_model = book.sums((day, day), UsageBy::Model).await.unwrap();
        let requests: Vec<_> = by_model.iter().map(|(model, sums)| (model.as_str(), sums.requests)).collect();
        assert_eq!(requests, [("key/real", 2), ("other", 3), ("qwen3-max", 2)]);
        for number in 0..MODELS_MAX {
            book.count(&ended(&format!("key/{number}"), "ok", Some(AccountKind::Key)), AskedFor::Answer, EVENING);
        }
        let by_model = book.sums((day, day), UsageBy::Model).await.unwrap();
        assert_eq!((by_model.len(), by_model["other"].requests), (MODELS_MAX + 1, 5));
        let by_kind = book.sums((day, day), UsageBy::Kind).await.unwrap();
        assert_eq!(by_kind.keys().collect::<Vec<_>>(), [NONE, "key", "web"]);
        assert_eq!(by_kind["key"].errors, BTreeMap::from([("upstream_error".to_owned(), 2)]));
    }
}
