//! Rows of accounts and keys that are gone.

use super::*;
use crate::base::secret::Cookie;

/// The tables that have rows of the account `a`, and those of the key `laptop`.
fn tables_with_rows(dir: &Path) -> (Vec<&'static str>, i64) {
    let connection = Connection::open(dir.join("state.db")).unwrap();
    let count = |query: String, key: &str| connection.query_row(&query, [key], |row| row.get::<_, i64>(0)).unwrap();
    let tables = ["sessions", "oauth", "facts", "rests", "breakers", "labels", "chats", "intents"];
    let has_rows = |table: &&str| count(format!("SELECT count(*) FROM {table} WHERE key = ?1"), key("a").as_str()) > 0;
    let uses = count("SELECT count(*) FROM key_uses WHERE key = ?1".to_owned(), "laptop");
    (tables.into_iter().filter(has_rows).collect(), uses)
}

fn day(number: i64) -> UtcDay {
    UtcDay::of(UnixSeconds(number * 86_400))
}

/// A state with everything of the account `a`, with what is used by the key `laptop`, and with another account that stays.
async fn with_accounts(dir: &Path) {
    filled(dir).await;
    let (store, _) = Store::open(dir).unwrap();
    store.save_label(key("a"), Some("Work".to_owned()));
    let answer = KeptAnswer { place: [7; 32], response_id: "r7".to_owned() };
    store.keep_chat("chat-1", UnixSeconds(80), Some(answer));
    let intent = ChatIntent { title: "t".to_owned(), key: key("a"), created_at: UnixSeconds(1) };
    store.note_intent(intent).await.unwrap();
    store.save_label(key("stays"), Some("Home".to_owned()));
    let usage = UsageKey {
        day: day(20_000),
        key: "laptop".to_owned(),
        model: String::new(),
        account: "identity-1".to_owned(),
        kind: String::new(),
    };
    store.count_usage(usage, &UsageSums { requests: 1, ..UsageSums::default() }, UnixSeconds(20_000 * 86_400));
    store.close().await;
}

/// Looks on these days, at which the account `a` and the key `laptop` are missing unless the day is among those of `seen`.
async fn look(dir: &Path, days: &[i64], seen: &[i64]) {
    let (store, _) = Store::open(dir).unwrap();
    for number in days {
        let mut present = Present::default();
        present.accounts.insert(key("stays"));
        if seen.contains(number) {
            present.accounts.insert(key("a"));
            present.keys.insert("laptop".to_owned());
        }
        store.note_present(present, day(*number));
    }
    store.close().await;
}

#[tokio::test]
async fn an_account_is_forgotten_when_it_was_missing_on_more_than_30_days() {
    let run = |from: i64, to: i64| (from..=to).collect::<Vec<_>>();
    // Each day is looked at twice, as the server looks several times a day.
    let twice = |days: Vec<i64>| days.iter().flat_map(|day| [*day, *day]).collect::<Vec<_>>();
    for (days, seen, is_kept) in [
        (twice(run(1, 30)), vec![], true),
        (twice(run(1, 31)), vec![], false),
        // It came back meanwhile, so that the count begins anew.
        (run(1, 60), vec![30], true),
        (run(1, 61), vec![30], false),
        // A server that was off, or a clock that is wrong for once, costs nothing.
        (vec![1, 400, 900], vec![], true),
        (vec![1, 99_999, 2, 3], vec![], true),
        (vec![1, -5000, 2, 3], vec![], true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        with_accounts(dir.path()).await;
        look(dir.path(), &days, &seen).await;
        let everything = ["sessions", "oauth", "facts", "rests", "breakers", "labels", "chats", "intents"];
        let expected = if is_kept { (everything.to_vec(), 1) } else { (Vec::new(), 0) };
        assert_eq!(tables_with_rows(dir.path()), expected, "{days:?} {seen:?}");
        let answers = Connection::open(dir.path().join("state.db")).unwrap();
        let answers = answers.query_row("SELECT count(*) FROM answers", [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(answers, i64::from(is_kept), "answers go with their chats");
        let (store, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.labels[&key("stays")], "Home");
        let all = store.usage_by((day(0), day(30_000)), |key| key.account.clone()).await.unwrap();
        assert_eq!(all["identity-1"].requests, 1, "usage stays for its own time");
        store.close().await;
    }
}

#[tokio::test]
async fn the_days_go_on_after_a_restart_and_a_removed_account_is_forgotten_at_once() {
    let dir = tempfile::tempdir().unwrap();
    with_accounts(dir.path()).await;
    for number in 1..=30 {
        look(dir.path(), &[number], &[]).await;
    }
    assert_eq!(tables_with_rows(dir.path()).0.len(), 8);
    look(dir.path(), &[31], &[]).await;
    assert_eq!(tables_with_rows(dir.path()), (Vec::new(), 0));

    let dir = tempfile::tempdir().unwrap();
    with_accounts(dir.path()).await;
    let (store, _) = Store::open(dir.path()).unwrap();
    store.forget_session(&key("a"));
    store.close().await;
    let (tables, _) = tables_with_rows(dir.path());
    assert_eq!(tables, ["oauth", "labels", "chats", "intents"]);
}

#[tokio::test]
async fn an_account_of_the_page_is_there_while_its_row_is() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let cookie = Cookie::parse("token=a").unwrap();
    store.save_session(cookie.key(), snapshot("token=b", None), UnixSeconds(5)).await.unwrap();
    let account = StoredAccount { id: "account-1".to_owned(), cookie: cookie.clone(), created_at: UnixSeconds(1) };
    store.save_account(account).await.unwrap();
    for is_kept in [true, false] {
        for number in 1..=40 {
            store.note_present(Present::default(), day(number));
        }
        // Another reader, after everything before it is written.
        store.save_generated_key(&ApiKey::new("sk-made")).await.unwrap();
        assert_eq!(Store::open(dir.path()).unwrap().1.sessions.contains_key(&cookie.key()), is_kept);
        store.forget_account("account-1").await.unwrap();
    }
    store.close().await;
}
