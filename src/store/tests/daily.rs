//! Requests and tokens by day.

use super::*;

fn spent(requests: u64) -> Spent {
    Spent { requests, prompt: 10 * requests, completion: 100 * requests, cached: 3 * requests }
}

/// A moment on the day of this number.
fn day(number: i64) -> UnixSeconds {
    UnixSeconds(number * 86_400 + 4000)
}

fn on(number: i64, requests: u64) -> DaySpent {
    DaySpent { day: UtcDay::of(day(number)), spent: spent(requests) }
}

fn day_rows(dir: &Path) -> i64 {
    let connection = Connection::open(dir.join("state.db")).unwrap();
    connection.query_row("SELECT count(*) FROM days", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn s000_06_counts_go_on_after_a_restart_for_31_days() {
    let dir = tempfile::tempdir().unwrap();
    for run in 1..=2 {
        let (store, _) = Store::open(dir.path()).unwrap();
        for number in 20_001..=20_040 {
            store.count(&key("a"), spent(1), day(number));
            store.count(&key("a"), spent(2), day(number));
        }
        store.count(&key("b"), spent(5), day(20_040));
        // Counts after the close are in memory only, and do no harm.
        store.close().await;
        store.count(&key("b"), spent(1), day(20_040));
        store.save_counts();
        assert_eq!(day_rows(dir.path()), 32, "run {run}");
        let (store, _) = Store::open(dir.path()).unwrap();
        let days: Vec<_> = (20_010..=20_040).map(|number| on(number, 3 * run)).collect();
        assert_eq!(store.days(&key("a")), days);
        assert_eq!(store.days(&key("b")), [on(20_040, 5 * run)]);
        assert_eq!(store.days(&key("c")), []);
        assert_eq!(store.days(&key("a"))[30].day.begin(), UnixSeconds(20_040 * 86_400));
        store.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s000_06_counting_writes_at_most_once_in_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let (store, stop) = (Arc::new(store), CancellationToken::new());
    let keeping = Arc::clone(&store).keep_counts(stop.clone());
    let counting = async {
        for _ in 0..900 {
            store.count(&key("a"), spent(1), day(20_000));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(store.daily.lock().changed(), 1, "nothing has gone to the queue yet");
        tokio::time::sleep(COUNTS_EVERY).await;
        assert_eq!(store.daily.lock().changed(), 0);
        stop.cancel();
    };
    tokio::join!(keeping, counting);
    store.close().await;
    assert_eq!(store.days(&key("a")), [on(20_000, 900)]);
    assert_eq!(store.lost_writes(), 0);
}

#[tokio::test]
async fn counts_are_not_lost_by_a_full_queue() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let places: Vec<_> = std::iter::from_fn(|| store.queue.try_reserve().ok()).collect();
    assert_eq!(places.len(), Store::QUEUE_MAX);
    store.count(&key("a"), spent(1), day(20_000));
    store.save_counts();
    assert_eq!(store.daily.lock().changed(), 1);
    drop(places);
    store.save_counts();
    assert_eq!(store.daily.lock().changed(), 0);
    store.close().await;
    let (store, _) = Store::open(dir.path()).unwrap();
    assert_eq!(store.days(&key("a")), [on(20_000, 1)]);
}
