//! Usage of callers' requests, summed by UTC day, key, model, account and kind. Counted in memory and added to the rows
//! of the state file about once a second, so that counting never waits for the disk.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, Row, Transaction, params};

use crate::base::ids::UnixSeconds;
use crate::store::daily::UtcDay;

/// The parts that one sum is for. Parts that a request lacks are empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UsageKey {
    /// The day on which the requests ended.
    pub day: UtcDay,
    /// The name of the caller's key.
    pub key: String,
    /// Name of the model; `other` for unknown ones and those beyond a limit.
    pub model: String,
    /// The account that was tried last, by its name in the pool.
    pub account: String,
    /// The kind of the account: `web`, `oauth`, `key`.
    pub kind: String,
}

/// Sums over the requests of one [`UsageKey`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageSums {
    /// Requests, with any outcome.
    pub requests: u64,
    /// Tokens of prompts, cached ones included.
    pub prompt: u64,
    /// Tokens of answers, thinking included.
    pub completion: u64,
    /// The part of `completion` that was thinking.
    pub reasoning: u64,
    /// The part of `prompt` that came from a cache.
    pub cached: u64,
    /// Pictures that were made.
    pub images: u64,
    /// Videos whose making began.
    pub videos: u64,
    /// Requests for embeddings that were answered.
    pub embeddings: u64,
    /// Failed requests, by the code of the failure; `caller_left` for abandoned ones.
    pub errors: BTreeMap<String, u64>,
    /// Time to the first content, in milliseconds.
    pub first_token: Histogram,
    /// Time to the end of successful answers, in milliseconds.
    pub total: Histogram,
}

impl UsageSums {
    /// Adds the sums of `other`.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.requests, other.requests),
            (&mut self.prompt, other.prompt),
            (&mut self.completion, other.completion),
            (&mut self.reasoning, other.reasoning),
            (&mut self.cached, other.cached),
            (&mut self.images, other.images),
            (&mut self.videos, other.videos),
            (&mut self.embeddings, other.embeddings),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
        for (class, count) in &other.errors {
            let sum = self.errors.entry(class.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        self.first_token.add(&other.first_token);
        self.total.add(&other.total);
    }
}

/// Number of measurements by duration, in buckets each about 1.4 times as wide as the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram(BTreeMap<u8, u64>);

/// Upper bounds of the buckets in milliseconds, up to 35 minutes. Longer times are in one further bucket.
const BOUNDS_MS: [u64; 42] = [
    1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1_024, 1_448, 2_048, 2_896, 4_096,
    5_793, 8_192, 11_585, 16_384, 23_170, 32_768, 46_341, 65_536, 92_682, 131_072, 185_364, 262_144, 370_728, 524_288,
    741_455, 1_048_576, 1_482_910, 2_097_152,
];

impl Histogram {
    /// Adds a measurement of `ms` milliseconds.
    pub fn record(&mut self, ms: u64) {
        let bucket = BOUNDS_MS.partition_point(|bound| *bound < ms);
        let count = self.0.entry(u8::try_from(bucket).unwrap_or(u8::MAX)).or_default();
        *count = count.saturating_add(1);
    }

    fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            let sum = self.0.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// The time in milliseconds within which this part (0 to 1) of the measurements lies, interpolated within a bucket;
    /// `None` without any.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let total: u64 = self.0.values().sum();
        #[expect(clippy::cast_precision_loss, reason = "counts of requests, and an estimate")]
        let rank = part * total as f64;
        let mut below = 0.0;
        for (bucket, count) in &self.0 {
            #[expect(clippy::cast_precision_loss, reason = "counts of requests, and an estimate")]
            let count = *count as f64;
            if below + count >= rank && count > 0.0 {
                let bucket = usize::from(*bucket);
                let last = BOUNDS_MS.last().copied().unwrap_or_default();
                let upper = BOUNDS_MS.get(bucket).copied().unwrap_or(last);
                let lower = bucket.checked_sub(1).and_then(|before| BOUNDS_MS.get(before)).copied().unwrap_or_default();
                #[expect(clippy::cast_precision_loss, reason = "at most 2^21 ms")]
                let width = upper.saturating_sub(lower) as f64;
                let within = ((rank - below) / count * width).round();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^21 ms")]
                return Some(lower.saturating_add(within as u64));
            }
            below += count;
        }
        None
    }

    /// The buckets as text, `bucket:count bucket:count`.
    fn as_text(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(|(bucket, count)| format!("{bucket}:{count}")).collect();
        parts.join(" ")
    }

    /// Reads [`Histogram::as_text`]. Parts that are not buckets are left out.
    fn of_text(text: &str) -> Self {
        let part = |part: &str| {
            let (bucket, count) = part.split_once(':')?;
            let bucket: u8 = bucket.parse().ok()?;
            Some((bucket, count.parse().ok()?)).filter(|_| usize::from(bucket) <= BOUNDS_MS.len())
        };
        Self(text.split(' ').filter_map(part).collect())
    }
}

/// Counts since the rows were last written.
#[derive(Debug, Default)]
pub(super) struct UsageDeltas {
    cells: HashMap<UsageKey, UsageSums>,
    /// Requests of accounts by the hour, counted from 1970.
    hours: HashMap<(String, i64), u64>,
    /// Last use of each key.
    uses: HashMap<String, UnixSeconds>,
}

impl UsageDeltas {
    /// Adds what a request used. A cell beyond [`CELLS_MAX`] goes to the one without a model and an account.
    pub(super) fn count(&mut self, mut key: UsageKey, sums: &UsageSums, now: UnixSeconds) {
        if !key.key.is_empty() {
            self.uses.insert(key.key.clone(), now);
        }
        if !key.account.is_empty() {
            *self.hours.entry((key.account.clone(), hour_of(now))).or_default() += sums.requests;
        }
        if self.cells.len() >= CELLS_MAX && !self.cells.contains_key(&key) {
            (key.model, key.account) = (String::new(), String::new());
        }
        self.cells.entry(key).or_default().add(sums);
    }

    /// Adds what was counted later.
    pub(super) fn merge(&mut self, later: Self) {
        for (key, sums) in later.cells {
            self.cells.entry(key).or_default().add(&sums);
        }
        for (hour, requests) in later.hours {
            *self.hours.entry(hour).or_default() += requests;
        }
        self.uses.extend(later.uses);
    }

    /// Adds what was counted on the days from `from` to `to`, both included, to sums by what `of` says of each.
    pub(super) fn add_to(
        &self,
        sums: &mut BTreeMap<String, UsageSums>,
        (from, to): (UtcDay, UtcDay),
        of: impl Fn(&UsageKey) -> String,
    ) {
        for (key, more) in self.cells.iter().filter(|(key, _)| (from..=to).contains(&key.day)) {
            sums.entry(of(key)).or_default().add(more);
        }
    }

    /// Whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.uses.is_empty()
    }
}

/// The usage that is needed from the start on.
#[derive(Clone, Debug, Default)]
pub struct UsageLoaded {
    /// The sums of the day on which the file was opened, and of later ones.
    pub today: Vec<(UsageKey, UsageSums)>,
    /// Requests of accounts by the hour, counted from 1970; the last 24.
    pub hours: Vec<(String, i64, u64)>,
    /// Last use of each key.
    pub uses: Vec<(String, UnixSeconds)>,
}

/// Adds the counts to the rows of the state file.
pub(super) fn put(transaction: &Transaction<'_>, deltas: &UsageDeltas) -> rusqlite::Result<()> {
    let mut find = transaction.prepare_cached(
        "SELECT * FROM usage WHERE day = ?1 AND key = ?2 AND model = ?3 AND account = ?4 AND kind = ?5",
    )?;
    let mut put = transaction.prepare_cached(
        "INSERT OR REPLACE INTO usage (day, key, model, account, kind, requests, prompt, completion, reasoning, cached,
         images, videos, embeddings, errors, first_token, total)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    let column = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    for (key, more) in &deltas.cells {
        let UsageKey { day, key, model, account, kind } = key;
        let mut rows = find.query((day.number(), key, model, account, kind))?;
        let mut sums = rows.next()?.map(sums_of).transpose()?.unwrap_or_default();
        drop(rows);
        sums.add(more);
        put.execute(params![
            day.number(),
            key,
            model,
            account,
            kind,
            column(sums.requests),
            column(sums.prompt),
            column(sums.completion),
            column(sums.reasoning),
            column(sums.cached),
            column(sums.images),
            column(sums.videos),
            column(sums.embeddings),
            errors_text(&sums.errors),
            sums.first_token.as_text(),
            sums.total.as_text(),
        ])?;
    }
    let mut put = transaction.prepare_cached(
        "INSERT INTO usage_hours (account, hour, requests) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET requests = requests + excluded.requests",
    )?;
    for ((account, hour), requests) in &deltas.hours {
        put.execute((account, hour, column(*requests)))?;
    }
    if let Some(hour) = deltas.hours.keys().map(|(_, hour)| *hour).max() {
        transaction
            .prepare_cached("DELETE FROM usage_hours WHERE hour <= ?1 OR hour > ?2")?
            .execute((hour - HOURS, hour + HOURS))?;
    }
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO key_uses (key, last_used_at) VALUES (?1, ?2)")?;
    for (key, at) in &deltas.uses {
        put.execute((key, at.0))?;
    }
    Ok(())
}

/// Forgets the days before this one.
pub(super) fn forget_before(transaction: &Transaction<'_>, day: UtcDay) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM usage WHERE day < ?1")?.execute([day.number()])?;
    Ok(())
}

/// Reads the usage that is needed from the start on; `now` gives the present day.
pub(super) fn load(connection: &Connection, now: UnixSeconds) -> rusqlite::Result<UsageLoaded> {
    let today = connection
        .prepare("SELECT * FROM usage WHERE day >= ?1")?
        .query_map([UtcDay::of(now).number()], |row| Ok((key_of(row)?, sums_of(row)?)))?
        .collect::<Result<_, _>>()?;
    let count = |row: &Row<'_>, column| row.get::<_, i64>(column).map(|count| count.try_into().unwrap_or(0));
    let hours = connection
        .prepare("SELECT account, hour, requests FROM usage_hours")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, count(row, 2)?)))?
        .collect::<Result<_, _>>()?;
    let uses = connection
        .prepare("SELECT key, last_used_at FROM key_uses")?
        .query_map([], |row| Ok((row.get(0)?, UnixSeconds(row.get(1)?))))?
        .collect::<Result<_, _>>()?;
    Ok(UsageLoaded { today, hours, uses })
}

/// The sums of the days from `from` to `to`, both included, by what `of` says of each.
pub(super) fn sums_by(
    connection: &Connection,
    (from, to): (UtcDay, UtcDay),
    of: impl Fn(&UsageKey) -> String,
) -> rusqlite::Result<BTreeMap<String, UsageSums>> {
    let mut sums: BTreeMap<String, UsageSums> = BTreeMap::new();
    let mut found = connection.prepare_cached("SELECT * FROM usage WHERE day BETWEEN ?1 AND ?2")?;
    let mut rows = found.query((from.number(), to.number()))?;
    while let Some(row) = rows.next()? {
        sums.entry(of(&key_of(row)?)).or_default().add(&sums_of(row)?);
    }
    Ok(sums)
}

fn key_of(row: &Row<'_>) -> rusqlite::Result<UsageKey> {
    Ok(UsageKey {
        day: UtcDay::numbered(row.get("day")?),
        key: row.get("key")?,
        model: row.get("model")?,
        account: row.get("account")?,
        kind: row.get("kind")?,
    })
}

fn sums_of(row: &Row<'_>) -> rusqlite::Result<UsageSums> {
    let count = |column: &str| row.get::<_, i64>(column).map(|count| count.try_into().unwrap_or(0));
    let histogram = |column: &str| row.get::<_, String>(column).map(|text| Histogram::of_text(&text));
    Ok(UsageSums {
        requests: count("requests")?,
        prompt: count("prompt")?,
        completion: count("completion")?,
        reasoning: count("reasoning")?,
        cached: count("cached")?,
        images: count("images")?,
        videos: count("videos")?,
        embeddings: count("embeddings")?,
        errors: errors_of(&row.get::<_, String>("errors")?),
        first_token: histogram("first_token")?,
        total: histogram("total")?,
    })
}

/// The failures as text, `class:count class:count`.
fn errors_text(errors: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = errors.iter().map(|(class, count)| format!("{class}:{count}")).collect();
    parts.join(" ")
}

fn errors_of(text: &str) -> BTreeMap<String, u64> {
    let part =
        |part: &str| part.split_once(':').and_then(|(class, count)| Some((class.to_owned(), count.parse().ok()?)));
    text.split(' ').filter_map(part).collect()
}

/// The hour of a moment, counted from 1970.
#[must_use]
pub fn hour_of(moment: UnixSeconds) -> i64 {
    moment.0.div_euclid(3600)
}

/// Hours of requests that are kept.
pub const HOURS: i64 = 24;
/// Sums that are held until they are written.
const CELLS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(times: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        times.into_iter().for_each(|ms| histogram.record(ms));
        histogram
    }

    #[test]
    fn quantiles_are_near_the_true_ones() {
        assert_eq!(histogram([]).quantile(0.5), None);
        for (times, part, from, to) in [
            (vec![100; 10], 0.5, 91, 128),
            ((1..=1000).collect(), 0.5, 480, 520),
            ((1..=1000).collect(), 0.95, 920, 1024),
            (vec![0, 0, 0], 0.95, 0, 1),
            (vec![u64::MAX], 0.5, 2_097_152, 2_097_152),
            (vec![1, 1, 1, 1, 600_000], 0.95, 524_288, 741_455),
        ] {
            let found = histogram(times).quantile(part).unwrap();
            assert!((from..=to).contains(&found), "{found} is not from {from} to {to}");
        }
    }

    #[test]
    fn histograms_and_errors_are_read_back() {
        let some = histogram([1, 5, 5, 70_000, u64::MAX]);
        assert_eq!(Histogram::of_text(&some.as_text()), some);
        assert_eq!(Histogram::of_text("3:1 x 200:5 :2 4:"), histogram([4]));
        let errors = BTreeMap::from([("upstream_error".to_owned(), 3), ("caller_left".to_owned(), 1)]);
        assert_eq!(errors_of(&errors_text(&errors)), errors);
        assert_eq!(errors_of(""), BTreeMap::new());
    }

    #[test]
    fn what_is_held_is_bounded_and_nothing_of_it_is_lost() {
        let mut deltas = UsageDeltas::default();
        let one = UsageSums { requests: 1, ..UsageSums::default() };
        for number in 0..CELLS_MAX + 50 {
            let key = UsageKey {
                day: UtcDay::of(UnixSeconds(0)),
                key: "laptop".to_owned(),
                model: number.to_string(),
                account: "identity-1".to_owned(),
                kind: "web".to_owned(),
            };
            deltas.count(key, &one, UnixSeconds(5));
        }
        assert_eq!(deltas.cells.len(), CELLS_MAX + 1);
        assert_eq!(deltas.cells.values().map(|sums| sums.requests).sum::<u64>(), (CELLS_MAX + 50) as u64);
        let mut all = UsageDeltas::default();
        all.merge(deltas);
        assert_eq!(all.hours[&("identity-1".to_owned(), 0)], (CELLS_MAX + 50) as u64);
    }
}
