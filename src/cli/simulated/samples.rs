//! Sample usage of the two weeks before the demo began, so that its page has figures to show.

use std::path::Path;

use crate::base::ids::UnixSeconds;
use crate::pool::Now;
use crate::store::{Store, UsageKey, UsageSums, UtcDay};

/// Days with requests before today.
const DAYS: i64 = 14;
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Names of keys, with the requests of each on a usual day.
const KEYS: &[(&str, u64)] = &[("laptop", 34), ("phone", 9), ("work", 21)];
/// Names of models, each with its share of the requests in hundredths.
const MODELS: &[(&str, u64)] = &[("qwen3-max", 55), ("qwen3-coder-plus", 30), ("qwen3-vl-plus", 15)];
/// Names of the accounts that answered, as the demo's identities are called.
const ACCOUNTS: &[&str] = &["identity-1", "identity-2"];

/// Writes the sample usage into a state folder that no server uses yet. A failure leaves the page without it.
pub(crate) async fn usage(folder: &Path) {
    let Ok((store, _)) = Store::open(folder) else {
        return;
    };
    let now = Now::read().unix;
    let mut dice = Dice(42);
    for back in 1..=DAYS {
        let moment = now.plus(-back * DAY_SECONDS);
        // Fewer requests at weekends.
        let part = if (moment.0 / DAY_SECONDS + 4) % 7 >= 5 { 40 } else { 100 };
        for (key, usual) in KEYS {
            for (model, share) in MODELS {
                let requests = usual * share * part * dice.between(70, 130) / 1_000_000;
                count(&store, (key, model), requests, moment, &mut dice);
            }
        }
    }
    store.close().await;
}

fn count(store: &Store, (key, model): (&str, &str), requests: u64, moment: UnixSeconds, dice: &mut Dice) {
    for number in 0..requests {
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
        let account = ACCOUNTS.get(usize::from(number % 2 == 1)).copied().unwrap_or_default();
        let key = UsageKey {
            day: UtcDay::of(moment),
            key: key.to_owned(),
            model: model.to_owned(),
            account: account.to_owned(),
            kind: "web".to_owned(),
        };
        store.count_usage(key, &sums, moment);
    }
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
}
