//! Requests and tokens of each account by UTC day. Counted in memory and written in intervals, so that counting never
//! waits for the disk.
//!
//! These are not sums of `usage`: they count what each credential answered, at the moment of the answer. A failed attempt
//! is counted for no account, the tokens of an answer that was asked for anew and of a video made in the background are
//! counted for the account that made them, and another credential in the same position begins at zero. `usage` counts
//! the requests of callers when they end, each once, under the name of the account that was tried last.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::base::ids::{CredentialKey, IdentityId, UnixSeconds};

/// Counts of an account, of one day or since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Requests that it answered, or began to answer.
    pub requests: u64,
    /// Tokens of prompts, cached ones included.
    pub prompt: u64,
    /// Tokens of answers, thinking included.
    pub completion: u64,
    /// The part of `prompt` that came from a cache.
    pub cached: u64,
}

impl Spent {
    /// The sum of both, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            prompt: self.prompt.saturating_add(other.prompt),
            completion: self.completion.saturating_add(other.completion),
            cached: self.cached.saturating_add(other.cached),
        }
    }
}

/// A day by UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcDay(i64);

impl UtcDay {
    /// The day of a moment.
    #[must_use]
    pub fn of(moment: UnixSeconds) -> Self {
        Self(moment.0.div_euclid(DAY_SECONDS))
    }

    /// Its date in ISO 8601, such as `2026-11-26`.
    #[must_use]
    pub fn date(self) -> String {
        let moment = jiff::Timestamp::from_second(self.begin().0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        moment.strftime("%Y-%m-%d").to_string()
    }

    /// The day of a date as [`UtcDay::date`] writes it; `None` for another text, or for a date that does not exist.
    #[must_use]
    pub fn of_date(text: &str) -> Option<Self> {
        let moment: jiff::Timestamp = format!("{text}T00:00:00Z").parse().ok()?;
        Some(Self::of(UnixSeconds(moment.as_second()))).filter(|day| day.date() == text)
    }

    /// The day `days` days later; earlier for a negative number.
    #[must_use]
    pub fn plus(self, days: i64) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// Its first second, 00:00:00 UTC.
    #[must_use]
    pub fn begin(self) -> UnixSeconds {
        UnixSeconds(self.0.saturating_mul(DAY_SECONDS))
    }

    /// Its number, from 0 for 1970-01-01.
    pub(super) fn number(self) -> i64 {
        self.0
    }

    /// The day of this number.
    pub(super) fn numbered(number: i64) -> Self {
        Self(number)
    }
}

/// The counts of one account on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DaySpent {
    /// The day by UTC.
    pub day: UtcDay,
    /// Requests and tokens of that day.
    pub spent: Spent,
}

/// The counts of an account, for the days on which it has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountDays {
    /// Its identity in the pool.
    pub identity: IdentityId,
    /// At most 31 days of UTC, oldest first.
    pub days: Vec<DaySpent>,
}

/// The days of all accounts, the newest of each.
#[derive(Debug, Default)]
pub(super) struct Daily {
    accounts: HashMap<CredentialKey, BTreeMap<UtcDay, Spent>>,
    /// Days that changed since they were last written.
    changed: BTreeSet<(CredentialKey, UtcDay)>,
}

impl Daily {
    /// Most days that are kept for an account.
    pub(super) const DAYS_MAX: u8 = 31;

    /// Takes the rows of the state file.
    pub(super) fn of(rows: impl IntoIterator<Item = (CredentialKey, DaySpent)>) -> Self {
        let mut daily = Self::default();
        for (key, row) in rows {
            daily.accounts.entry(key).or_default().insert(row.day, row.spent);
        }
        daily
    }

    /// Adds to a day of an account.
    pub(super) fn add(&mut self, key: &CredentialKey, day: UtcDay, spent: Spent) {
        let days = match self.accounts.get_mut(key) {
            Some(days) => days,
            None => self.accounts.entry(key.clone()).or_default(),
        };
        let sum = days.entry(day).or_default();
        *sum = sum.plus(spent);
        // Counts existing days, not calendar days, so that a clock that is wrong once loses none.
        while days.len() > usize::from(Self::DAYS_MAX) {
            days.pop_first();
        }
        self.changed.insert((key.clone(), day));
    }

    /// The days of an account, oldest first.
    pub(super) fn days(&self, key: &CredentialKey) -> Vec<DaySpent> {
        let days = self.accounts.get(key).into_iter().flatten();
        days.map(|(day, spent)| DaySpent { day: *day, spent: *spent }).collect()
    }

    /// Takes the days that changed since they were last written.
    pub(super) fn take_changed(&mut self) -> Vec<(CredentialKey, DaySpent)> {
        let changed = std::mem::take(&mut self.changed);
        let whole = |(key, day): (CredentialKey, UtcDay)| {
            let spent = *self.accounts.get(&key)?.get(&day)?;
            Some((key, DaySpent { day, spent }))
        };
        changed.into_iter().filter_map(whole).collect()
    }

    /// Number of days that changed since they were last written.
    #[cfg(test)]
    pub(super) fn changed(&self) -> usize {
        self.changed.len()
    }

    /// Marks days as changed again whose write failed.
    pub(super) fn keep_changed(&mut self, rows: Vec<(CredentialKey, DaySpent)>) {
        self.changed.extend(rows.into_iter().map(|(key, row)| (key, row.day)));
    }
}

const DAY_SECONDS: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(prompt: u64) -> Spent {
        Spent { prompt, ..Spent::default() }
    }

    #[test]
    fn days_are_those_of_utc() {
        for (moment, day) in [(-1, -1), (0, 0), (86_399, 0), (86_400, 1), (1_790_000_000, 20_717)] {
            assert_eq!(UtcDay::of(UnixSeconds(moment)), UtcDay::numbered(day), "{moment}");
        }
        assert_eq!(UtcDay::numbered(2).begin(), UnixSeconds(172_800));
        for (number, date) in [(0, "1970-01-01"), (20_783, "2026-11-26"), (-1, "1969-12-31")] {
            assert_eq!(UtcDay::numbered(number).date(), date);
            assert_eq!(UtcDay::of_date(date), Some(UtcDay::numbered(number)));
        }
        for text in
            ["", "2026-02-30", "2026-1-1", "20261126", "2026-11-26T00:00", "heute", "2026-11-26 ", "-2026-11-26"]
        {
            assert_eq!(UtcDay::of_date(text), None, "{text:?}");
        }
    }

    #[test]
    fn s000_06_each_account_has_the_newest_31_days() {
        let (mut daily, key, other) = (Daily::default(), CredentialKey::of("a"), CredentialKey::of("b"));
        for number in 1..=40 {
            daily.add(&key, UtcDay::numbered(number), tokens(1));
            daily.add(&key, UtcDay::numbered(number), Spent { requests: 2, prompt: 1, completion: 3, cached: 4 });
        }
        // The clock was wrong for a moment, both ways.
        daily.add(&key, UtcDay::numbered(-5), tokens(1));
        daily.add(&key, UtcDay::numbered(9000), tokens(1));
        daily.add(&other, UtcDay::numbered(40), tokens(7));
        let days = daily.days(&key);
        assert_eq!(days.len(), 31);
        assert_eq!((days[0].day, days[30].day), (UtcDay::numbered(11), UtcDay::numbered(9000)));
        assert_eq!(days[29].spent, Spent { requests: 2, prompt: 2, completion: 3, cached: 4 });
        assert_eq!(daily.days(&other), [DaySpent { day: UtcDay::numbered(40), spent: tokens(7) }]);
        assert_eq!(daily.days(&CredentialKey::of("c")), []);
    }

    #[test]
    fn only_what_changed_is_written_and_as_a_whole() {
        let (key, today) = (CredentialKey::of("a"), UtcDay::numbered(3));
        let row = |spent| (key.clone(), DaySpent { day: today, spent });
        let mut daily = Daily::of([row(tokens(5))]);
        assert_eq!(daily.take_changed(), []);
        daily.add(&key, today, tokens(1));
        daily.add(&key, today, tokens(1));
        let changed = daily.take_changed();
        assert_eq!(changed, [row(tokens(7))]);
        assert_eq!(daily.take_changed(), []);
        daily.keep_changed(changed);
        daily.add(&key, today, tokens(1));
        assert_eq!(daily.take_changed(), [row(tokens(8))]);
        daily.add(&key, today, tokens(u64::MAX));
        assert_eq!(daily.days(&key)[0].spent, tokens(u64::MAX), "no overflow");
    }
}
