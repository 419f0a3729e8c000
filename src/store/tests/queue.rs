//! The queue in front of the writer.

use super::*;

#[tokio::test]
async fn a_full_queue_loses_and_counts_but_never_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    // Another process in the middle of a write holds the thread up.
    let other = Connection::open(dir.path().join("state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let total = i64::try_from(2 * Store::QUEUE_MAX).unwrap();
    for number in 0..total {
        store.note_chat(chat(number));
    }
    let lost = store.lost_writes();
    assert!(lost > 0);
    other.execute_batch("COMMIT").unwrap();
    other.close().unwrap();
    store.close().await;
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.chats.len() as u64 + lost, u64::try_from(total).unwrap());
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    store.close().await;
    store.close().await;
    let saved = store.save_session(key("a"), snapshot("token=1", None), UnixSeconds(5)).await;
    assert!(matches!(saved, Err(StoreError::Closed)));
    store.note_chat(chat(1));
    assert_eq!(store.lost_writes(), 1);
}

#[tokio::test]
async fn of_two_saves_at_once_the_newer_facts_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let dead = |seconds| IdentityFacts { dead_since: Some(UnixSeconds(seconds)), ..IdentityFacts::default() };
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (overtaken, is_overtaken) = std::sync::mpsc::channel();
    let (store_of_first, older, newer) = (&store, dead(1), dead(2));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            store_of_first.save_facts(key("a"), || {
                begun.send(()).unwrap();
                // The other one has time to come between.
                is_overtaken.recv_timeout(Duration::from_millis(50)).unwrap_or_default();
                older
            });
        });
        has_begun.recv().unwrap();
        store.save_facts(key("a"), || {
            // The other one has ended by then.
            let _ = overtaken.send(());
            newer
        });
    });
    store.close().await;
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.facts[&key("a")], newer, "what was read last");
}
