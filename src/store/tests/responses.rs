//! Responses that callers continue.

use super::*;

fn response(id: &str, previous: Option<&str>, expires_at: i64) -> KeptResponse {
    KeptResponse {
        id: id.to_owned(),
        owner: "ada".to_owned(),
        previous: previous.map(str::to_owned),
        is_continuable: true,
        expires_at: UnixSeconds(expires_at),
        input: format!("[\"to {id}\"]"),
        response: format!("{{\"id\":\"{id}\"}}"),
    }
}

/// The ids of a conversation, or the reason why it is not found.
async fn conversation(store: &Store, owner: &str, id: &str, now: i64) -> String {
    match store.response_chain(owner.to_owned(), id.to_owned(), UnixSeconds(now)).await.unwrap() {
        Chain::Found(chain) => chain.into_iter().map(|kept| kept.id).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_response_lives_as_long_as_what_continues_it() {
    let dir = tempfile::tempdir().unwrap();
    let far = jiff::Timestamp::now().as_second() + 1_000;
    let (store, _) = Store::open(dir.path()).unwrap();
    let keep = |id, previous, expires_at: i64| store.keep_response(response(id, previous, expires_at), UnixSeconds(0));
    keep("a", None, far);
    keep("b", Some("a"), far + 10);
    keep("c", Some("b"), far + 20);
    keep("d", Some("a"), far + 5);
    keep("other", Some("gone"), far);
    assert_eq!(conversation(&store, "ada", "c", 1).await, "a b c");
    assert_eq!(conversation(&store, "ada", "d", 1).await, "a d");
    assert_eq!(conversation(&store, "ada", "other", 1).await, "Missing");
    assert_eq!(conversation(&store, "bob", "c", 1).await, "Missing");
    assert_eq!(conversation(&store, "ada", "c", far + 19).await, "a b c");
    assert_eq!(conversation(&store, "ada", "c", far + 20).await, "Missing");
    assert_eq!(conversation(&store, "ada", "d", far + 5).await, "Missing");
    store.close().await;
    let (store, _) = Store::open(dir.path()).unwrap();
    let found = store.response("ada".to_owned(), "b".to_owned(), UnixSeconds(1)).await.unwrap().unwrap();
    assert_eq!(found, response("b", Some("a"), far + 20));
    assert!(!format!("{found:?}").contains("to b"), "contents are not for logs");
    // A write forgets what is over.
    store.keep_response(response("e", None, far + 90), UnixSeconds(far + 6));
    assert_eq!(store.response("ada".to_owned(), "d".to_owned(), UnixSeconds(1)).await.unwrap(), None);
    assert_eq!(conversation(&store, "ada", "c", 1).await, "a b c");
    store.forget_response("bob".to_owned(), "b".to_owned()).await.unwrap();
    assert_eq!(conversation(&store, "ada", "c", 1).await, "a b c", "one owner cannot delete another's");
    store.forget_response("ada".to_owned(), "b".to_owned()).await.unwrap();
    assert_eq!(conversation(&store, "ada", "c", 1).await, "Missing");
    store.close().await;
    let closed = store.response("ada".to_owned(), "a".to_owned(), UnixSeconds(1)).await;
    assert!(matches!(closed, Err(StoreError::Closed)));
}

#[tokio::test]
async fn a_conversation_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    for place in 0..=CHAIN_MAX {
        let previous = place.checked_sub(1).map(|place| place.to_string());
        // The queue is bounded, and a read waits for all that is in it.
        if place % 500 == 0 {
            conversation(&store, "ada", "0", 0).await;
        }
        store.keep_response(response(&place.to_string(), previous.as_deref(), 9), UnixSeconds(0));
    }
    assert!(conversation(&store, "ada", &(CHAIN_MAX - 1).to_string(), 0).await.starts_with("0 1 2 "));
    assert_eq!(conversation(&store, "ada", &CHAIN_MAX.to_string(), 0).await, "TooLong");
    store.close().await;
}
