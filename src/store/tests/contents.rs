//! Which sessions, chats and facts are kept, and for how long.

use std::collections::HashMap;

use super::*;
use crate::base::secret::Cookie;

#[tokio::test]
async fn what_was_written_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;

    let (store, loaded) = Store::open(dir.path()).unwrap();
    let session = &loaded.sessions[&key("a")];
    assert_eq!(session.cookies.expose_secret(), "token=1");
    assert_eq!(session.token.as_ref().unwrap().expose_secret(), "jwt");
    assert_eq!(session.saved_at, UnixSeconds(5));
    assert_eq!(loaded.oauth[&key("a")].expose_secret(), "{\"r\":1}");
    assert_eq!(loaded.facts[&key("a")], facts());
    assert_eq!(loaded.chats, (1..=40).map(chat).collect::<Vec<_>>());
    assert_eq!(loaded.videos.iter().map(whole).collect::<Vec<_>>(), [whole(&video(1))]);
    assert!(loaded.generated_key.unwrap().matches("sk-made"));

    store.save_session(key("a"), snapshot("token=2", None), UnixSeconds(6)).await.unwrap();
    store.save_facts(key("a"), IdentityFacts::default);
    store.forget_chat("chat-1");
    store.close().await;

    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.sessions[&key("a")].cookies.expose_secret(), "token=2");
    assert!(loaded.sessions[&key("a")].token.is_none());
    assert!(loaded.facts.is_empty());
    assert_eq!(loaded.chats.len(), 39);
}

#[tokio::test]
async fn accounts_of_the_owner_and_their_names_are_kept_until_they_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let account = |number: i64, cookie: &str| StoredAccount {
        id: format!("account-{number}"),
        cookie: Cookie::parse(cookie).unwrap(),
        created_at: UnixSeconds(number),
    };
    let seen = |loaded: &Loaded| -> Vec<String> {
        loaded.accounts.iter().map(|account| format!("{} {}", account.id, account.cookie.expose())).collect()
    };
    let (store, _) = Store::open(dir.path()).unwrap();
    store.save_account(account(2, "token=b")).await.unwrap();
    store.save_account(account(1, "token=a")).await.unwrap();
    // A replaced credential keeps its account's place.
    store.save_account(StoredAccount { created_at: UnixSeconds(9), ..account(1, "token=c") }).await.unwrap();
    store.save_label(key("a"), Some("Work".to_owned()));
    store.save_label(key("b"), Some("Home".to_owned()));
    store.save_label(key("b"), None);
    let earlier = SessionSnapshot { earlier: Some(SecretString::from("token=0")), ..snapshot("token=1", None) };
    store.save_session(key("a"), earlier, UnixSeconds(5)).await.unwrap();
    store.save_session(key("b"), snapshot("token=2", None), UnixSeconds(5)).await.unwrap();
    store.forget_session(&key("b"));
    store.close().await;
    let (store, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(seen(&loaded), ["account-1 token=c", "account-2 token=b"]);
    assert_eq!(loaded.labels, HashMap::from([(key("a"), "Work".to_owned())]));
    assert_eq!(loaded.sessions[&key("a")].earlier.as_ref().unwrap().expose_secret(), "token=0");
    assert!(!loaded.sessions.contains_key(&key("b")));
    store.forget_account("account-1").await.unwrap();
    store.close().await;
    assert_eq!(seen(&Store::open(dir.path()).unwrap().1), ["account-2 token=b"]);
}

#[tokio::test]
async fn an_intent_is_kept_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let intent =
        |number: i64| ChatIntent { title: format!("title-{number}"), key: key("a"), created_at: UnixSeconds(number) };
    let (store, _) = Store::open(dir.path()).unwrap();
    for number in 1..=3 {
        store.note_intent(intent(number)).await.unwrap();
    }
    // Safe without a close.
    assert_eq!(Store::open(dir.path()).unwrap().1.intents, [intent(1), intent(2), intent(3)]);
    store.note_chat(chat(1));
    store.forget_intent("title-2");
    store.close().await;
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!((loaded.intents, loaded.chats), (vec![intent(1), intent(3)], vec![chat(1)]));
}

#[tokio::test]
async fn kept_chats_come_with_their_answers() {
    let dir = tempfile::tempdir().unwrap();
    let answer = |place: u8| KeptAnswer { place: [place; 32], response_id: format!("r{place}") };
    let (store, _) = Store::open(dir.path()).unwrap();
    (1..=3).for_each(|number| store.note_chat(chat(number)));
    store.keep_chat("chat-1", UnixSeconds(80), Some(answer(9)));
    store.keep_chat("chat-2", UnixSeconds(80), Some(answer(9)));
    store.keep_chat("chat-1", UnixSeconds(90), Some(answer(5)));
    store.keep_chat("chat-1", UnixSeconds(95), None);
    store.keep_chat("chat-9", UnixSeconds(80), Some(answer(7)));
    store.forget_chat("chat-2");
    store.close().await;
    let (_, loaded) = Store::open(dir.path()).unwrap();
    let kept = OwnedChat { kept_until: Some(UnixSeconds(95)), answers: vec![answer(9), answer(5)], ..chat(1) };
    assert_eq!(loaded.chats, [kept, chat(3)]);
    edit(dir.path(), "UPDATE answers SET place = x'00' WHERE response_id = 'r9'");
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.chats[0].answers, [answer(5)], "an answer without a place is not continued");
    edit(dir.path(), "DELETE FROM chats");
    drop(Store::open(dir.path()).unwrap());
    let left: u32 = Connection::open(dir.path().join("state.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM answers", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn facts_replace_one_another_whole() {
    let dir = tempfile::tempdir().unwrap();
    let resting = |usage| {
        let cooling = only(usage, cooling(CoolingReason::Rate, 80));
        IdentityFacts { cooling, ..IdentityFacts::default() }
    };
    for written in [facts(), resting(Usage::Image), resting(Usage::Chat), facts(), IdentityFacts::default()] {
        let (store, _) = Store::open(dir.path()).unwrap();
        store.save_facts(key("a"), || written);
        store.save_facts(key("b"), facts);
        store.close().await;
        let (_, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.facts.get(&key("a")).copied().unwrap_or_default(), written);
        assert_eq!(loaded.facts[&key("b")], facts());
    }
    edit(dir.path(), "UPDATE rests SET usage = 'music' WHERE usage = 'chat'; UPDATE rests SET reason = 'mood'");
    let (_, loaded) = Store::open(dir.path()).unwrap();
    let known = IdentityFacts { cooling: PerUsage::default(), ..facts() };
    assert_eq!(loaded.facts[&key("b")], known, "a rest of an unknown kind is left out");
}

#[tokio::test]
async fn an_acknowledged_session_needs_no_close() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    store.save_session(key("a"), snapshot("token=1", None), UnixSeconds(5)).await.unwrap();
    // Another reader, while the writer still has the file open.
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.sessions.len(), 1);
    drop(store);
}
