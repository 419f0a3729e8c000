//! Sample usage of the two weeks before the demo began, and the state of its accounts, so that its page has figures to
//! show from the first view on.

use std::path::Path;

use crate::base::facts::{Cooling, CoolingReason, IdentityFacts, PerUsage, Usage};
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::pool::Now;
use crate::store::{Spent, Store, UsageKey, UsageSums, UtcDay};

/// Days with requests before today.
const DAYS: i64 = 14;
const HOUR_SECONDS: i64 = 60 * 60;
const DAY_SECONDS: i64 = 24 * HOUR_SECONDS;
/// Names of keys, with the requests of each on a usual day. The demo has a key of each name.
pub(crate) const KEYS: &[(&str, u64)] = &[("laptop", 34), ("phone", 9), ("work", 21)];
/// Names of models, each with its share of the requests in hundredths.
const MODELS: &[(&str, u64)] = &[("qwen3-max", 55), ("qwen3-coder-plus", 30), ("qwen3-vl-plus", 15)];
/// Weight of each hour of a UTC day in the requests of the day.
const HOURS: [u64; 24] = [2, 1, 1, 1, 2, 3, 5, 7, 9, 10, 9, 8, 6, 8, 10, 9, 8, 7, 6, 5, 4, 4, 3, 2];
/// Rest that is left to the account with a used-up quota, in seconds.
const QUOTA_SECONDS: i64 = 2 * HOUR_SECONDS;

/// A sample account.
pub(crate) struct SampleAccount {
    /// Its name in the pool.
    pub id: String,
    /// `web`, `oauth` or `key`.
    pub kind: &'static str,
    /// Its key in the state file.
    pub credential: CredentialKey,
    /// The name that its owner gave it.
    pub label: &'static str,
    /// Weight of the account in the answers; 0: it does not answer.
    pub share: u64,
    /// Whether its quota of chats is used up.
    pub is_used_up: bool,
    /// Whether its login has ended.
    pub is_dead: bool,
}

/// Writes usage, labels and rests into a state folder that no server uses yet. A failure leaves the page without them.
pub(crate) async fn write(folder: &Path, accounts: &[SampleAccount]) {
    let Ok((store, _)) = Store::open(folder) else {
        return;
    };
    let now = Now::read().unix;
    for account in accounts {
        store.save_label(account.credential.clone(), Some(account.label.to_owned()));
        let rest = Cooling { reason: CoolingReason::Quota, until: now.plus(QUOTA_SECONDS), set_at: now, strikes: 0 };
        let cooling = PerUsage::of(|usage| (usage == Usage::Chat && account.is_used_up).then_some(rest));
        let dead_since = account.is_dead.then_some(now.plus(-DAY_SECONDS));
        if account.is_used_up || account.is_dead {
            let facts = IdentityFacts { cooling, dead_since, ..IdentityFacts::default() };
            store.save_facts(account.credential.clone(), || facts);
        }
    }
    let mut dice = Dice(42);
    for back in (0..=DAYS).rev() {
        let day = UtcDay::of(now).plus(-back);
        // Fewer requests at weekends.
        let part = if (day.begin().0 / DAY_SECONDS + 4) % 7 >= 5 { 40 } else { 100 };
        for (key, usual) in KEYS {
            for (model, share) in MODELS {
                let requests = usual * share * part * dice.between(70, 130) / 1_000_000;
                for _ in 0..requests {
                    let moment = day.begin().plus(dice.hour() * HOUR_SECONDS + 59);
                    if moment <= now {
                        count(&store, accounts, (key, model), moment, &mut dice);
                    }
                }
            }
        }
    }
    // Also a few minutes after midnight today has something.
    for _ in 0..3 {
        count(&store, accounts, ("laptop", "qwen3-max"), now, &mut dice);
    }
    store.close().await;
}

fn count(store: &Store, accounts: &[SampleAccount], (key, model): (&str, &str), moment: UnixSeconds, dice: &mut Dice) {
    let Some(account) = dice.account(accounts) else {
        return;
    };
    let mut sums = UsageSums { requests: 1, ..UsageSums::default() };
    if dice.between(0, 99) < 3 {
        sums.errors.insert("rate_limit_exceeded".to_owned(), 1);
    } else {
        sums.prompt = dice.between(200, 6_000);
        sums.completion = dice.between(80, 1_400);
        sums.reasoning = sums.completion * dice.between(0, 60) / 100;
        sums.cached = sums.prompt * dice.between(0, 70) / 100;
        sums.images = u64::from(dice.between(0, 99) < 4);
        let first = dice.between(350, 1_800);
        sums.first_token.record(first);
        sums.total.record(first + sums.completion * dice.between(8, 22));
    }
    let spent =
        Spent { requests: sums.requests, prompt: sums.prompt, completion: sums.completion, cached: sums.cached };
    store.count(&account.credential, spent, moment);
    let key = UsageKey {
        day: UtcDay::of(moment),
        key: key.to_owned(),
        model: model.to_owned(),
        account: account.id.clone(),
        kind: account.kind.to_owned(),
    };
    store.count_usage(key, &sums, moment);
}

/// A generator of the same numbers in each demo.
struct Dice(u64);

impl Dice {
    /// A number of this range, both ends included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        // Knuth's MMIX generator; its upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + (self.0 >> 33) % (high - low + 1)
    }

    /// The place of one of these weights, each as often as its weight says; 0 if there are none.
    fn place(&mut self, weights: impl Iterator<Item = u64> + Clone) -> usize {
        let mut left = self.between(1, weights.clone().sum::<u64>().max(1));
        let is_it = |weight: u64| {
            let is_here = left <= weight;
            left = left.saturating_sub(weight);
            is_here
        };
        weights.into_iter().position(is_it).unwrap_or_default()
    }

    /// An hour of a day, from 0.
    fn hour(&mut self) -> i64 {
        i64::try_from(self.place(HOURS.into_iter())).unwrap_or_default()
    }

    fn account<'a>(&mut self, accounts: &'a [SampleAccount]) -> Option<&'a SampleAccount> {
        let place = self.place(accounts.iter().map(|account| account.share));
        accounts.get(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_keep_to_the_weights() {
        let mut dice = Dice(1);
        let mut counts = [0_u32; 24];
        for _ in 0..10_000 {
            counts[usize::try_from(dice.hour()).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        assert!(counts[9] > 3 * counts[1], "{counts:?}");
        assert!((0..1_000).all(|_| dice.place([0, 3, 0].into_iter()) == 1));
    }
}
