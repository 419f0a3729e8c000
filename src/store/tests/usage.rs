//! Usage of requests, by day, key, model, account and kind.

use super::*;

fn usage_key(day: i64, key: &str, model: &str, account: &str) -> UsageKey {
    let text = str::to_owned;
    UsageKey { day: UtcDay::of(at(day)), key: text(key), model: text(model), account: text(account), kind: text("web") }
}

/// A moment on the day of this number.
fn at(day: i64) -> UnixSeconds {
    UnixSeconds(day * 86_400 + 4000)
}

fn answered(prompt: u64, total_ms: u64) -> UsageSums {
    let mut sums = UsageSums { requests: 1, prompt, completion: 2, ..UsageSums::default() };
    sums.total.record(total_ms);
    sums
}

fn failed(class: &str) -> UsageSums {
    UsageSums { requests: 1, errors: [(class.to_owned(), 1)].into(), ..UsageSums::default() }
}

#[tokio::test]
async fn usage_goes_on_after_a_restart_and_is_forgotten_after_its_days() {
    let dir = tempfile::tempdir().unwrap();
    for run in 1..=2_u64 {
        let (store, _) = Store::open(dir.path()).unwrap();
        for day in [20_000, 20_001, 20_002] {
            store.count_usage(usage_key(day, "laptop", "qwen3-max", "identity-1"), &answered(10, 500), at(day));
            store.count_usage(usage_key(day, "phone", "qwen3-max", ""), &failed("server_busy"), at(day));
        }
        let days = (UtcDay::of(at(20_001)), UtcDay::of(at(20_002)));
        // Before and after they are written.
        let by_key = store.usage_by(days, |key| key.key.clone()).await.unwrap();
        assert_eq!(by_key.keys().collect::<Vec<_>>(), ["laptop", "phone"]);
        let laptop = &by_key["laptop"];
        assert_eq!((laptop.requests, laptop.prompt, laptop.completion), (2 * run, 20 * run, 4 * run), "run {run}");
        assert_eq!(laptop.total.quantile(0.5).map(|ms| (362..=512).contains(&ms)), Some(true));
        assert_eq!(by_key["phone"].errors["server_busy"], 2 * run);
        let by_day = store.usage_by(days, |key| key.day.date()).await.unwrap();
        let requests: Vec<_> = by_day.iter().map(|(day, sums)| (day.as_str(), sums.requests)).collect();
        assert_eq!(requests, [("2024-10-05", 2 * run), ("2024-10-06", 2 * run)]);
        store.close().await;
    }
    let (store, loaded) = Store::open(dir.path()).unwrap();
    assert!(loaded.usage.today.is_empty(), "only this day's sums are read at the start");
    assert_eq!(loaded.usage.uses.iter().find(|(key, _)| key == "laptop").unwrap().1, at(20_002));
    assert_eq!(loaded.usage.hours, [("identity-1".to_owned(), hour_of(at(20_002)), 2)], "the last 24 hours");
    store.forget_usage_before(UtcDay::of(at(20_002)));
    let all = (UtcDay::of(at(0)), UtcDay::of(at(30_000)));
    assert_eq!(store.usage_by(all, |key| key.day.date()).await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn the_sums_of_today_are_there_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let now = UnixSeconds(jiff::Timestamp::now().as_second() + 2);
    let key = UsageKey { day: UtcDay::of(now), ..usage_key(0, "laptop", "qwen3-max", "identity-1") };
    let (store, _) = Store::open(dir.path()).unwrap();
    store.count_usage(key.clone(), &answered(7, 1), now);
    store.close().await;
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.usage.today, [(key, answered(7, 1))]);
}

#[tokio::test(start_paused = true)]
async fn usage_is_written_about_once_a_second_and_waits_for_a_full_queue() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let (store, stop) = (Arc::new(store), CancellationToken::new());
    let count = || store.count_usage(usage_key(20_000, "laptop", "m", "a"), &answered(1, 1), at(20_000));
    let places: Vec<_> = std::iter::from_fn(|| store.queue.try_reserve().ok()).collect();
    count();
    store.save_counts();
    assert!(!store.usage.lock().is_empty(), "kept for the next time");
    drop(places);
    let keeping = Arc::clone(&store).keep_counts(stop.clone());
    let counting = async {
        count();
        assert!(!store.usage.lock().is_empty());
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(store.usage.lock().is_empty());
        stop.cancel();
    };
    tokio::join!(keeping, counting);
    let days = (UtcDay::of(at(20_000)), UtcDay::of(at(20_000)));
    assert_eq!(store.usage_by(days, |_| String::new()).await.unwrap()[""].requests, 2);
    store.close().await;
}
