//! A disk that refuses: full, read-only, locked, or a folder that cannot be used at all.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use rusqlite::Connection;
use secrecy::{ExposeSecret as _, SecretString};

use super::*;

fn key(name: &str) -> CredentialKey {
    CredentialKey::of(name)
}

fn session(cookies: &str) -> SessionSnapshot {
    SessionSnapshot { cookies: SecretString::from(cookies), token: None, earlier: None }
}

fn chat(number: i64) -> OwnedChat {
    OwnedChat {
        chat_id: format!("chat-{number}"),
        key: key("a"),
        created_at: UnixSeconds(number),
        kept_until: None,
        answers: Vec::new(),
    }
}

async fn save(store: &Store, name: &str, cookies: &str) -> Kept {
    store.save_session(key(name), session(cookies), UnixSeconds(5)).await.unwrap()
}

/// Runs statements on the connection that writes, such as those that make it fail. All earlier writes are done then.
async fn on_connection(store: &Store, statements: &'static str) {
    store.read(move |rows, _| rows.connection().execute_batch(statements)).await.unwrap();
}

/// Allows the file no page more than it has. New rows then fail as they do on a full disk, while rows of the same size
/// can still be replaced.
async fn fill_up(store: &Store) {
    let pages: i64 =
        store.read(|rows, _| rows.connection().query_row("PRAGMA page_count", [], |row| row.get(0))).await.unwrap();
    store
        .read(move |rows, _| rows.connection().execute_batch(&format!("PRAGMA max_page_count = {pages}")))
        .await
        .unwrap();
}

async fn make_room(store: &Store) {
    on_connection(store, "PRAGMA max_page_count = 1073741823").await;
}

async fn retried(store: &Store) -> StorageStatus {
    store.retry();
    on_connection(store, "").await;
    store.status()
}

fn disk() -> StorageStatus {
    StorageStatus { state: StorageState::Disk, fault: None, waiting: 0, lost: 0 }
}

fn answer(place: u8) -> KeptAnswer {
    KeptAnswer { place: [place; 32], response_id: format!("answer-{place}") }
}

/// A response that needs this many bytes.
fn response(id: &str, bytes: usize) -> KeptResponse {
    KeptResponse {
        id: id.to_owned(),
        owner: "ada".to_owned(),
        previous: None,
        is_continuable: true,
        expires_at: UnixSeconds(i64::MAX),
        input: "x".repeat(bytes),
        response: String::new(),
    }
}

#[tokio::test]
async fn what_a_disk_refuses_is_written_when_it_takes_it_again() {
    for (refuse, allow, fault) in [
        ("PRAGMA query_only = ON", "PRAGMA query_only = OFF", StorageFault::ReadOnly),
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1073741823", StorageFault::Full),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path()).unwrap();
        assert_eq!(save(&store, "a", "token=1").await, Kept::OnDisk);
        store.note_chat(chat(1));
        on_connection(&store, refuse).await;
        // Too large for the pages that the file has.
        let large = "x".repeat(100_000);
        let cookies = |number: usize| format!("token={number}; pad={large}");
        assert_eq!(store.status(), disk());
        for number in 2..=5 {
            assert_eq!(save(&store, "a", &cookies(number)).await, Kept::InMemory, "{fault:?}");
        }
        let oauth = SecretString::from(format!("{{\"r\":\"{large}\"}}"));
        assert_eq!(store.save_oauth(key("o"), oauth, UnixSeconds(5)).await.unwrap(), Kept::InMemory);
        store.note_chat(chat(2));
        store.note_chat(chat(3));
        for number in 1..=3 {
            for place in 1..=3 {
                store.keep_chat(&format!("chat-{number}"), UnixSeconds(60), Some(answer(place)));
            }
            store.keep_chat(&format!("chat-{number}"), UnixSeconds(90), None);
        }
        store.forget_chat("chat-3");
        store.forget_chat("chat-1");
        let facts = IdentityFacts { dead_since: Some(UnixSeconds(7)), ..IdentityFacts::default() };
        store.save_facts(key("a"), IdentityFacts::default);
        store.save_facts(key("a"), || facts);
        store.count(&key("a"), Spent { requests: 3, ..Spent::default() }, UnixSeconds(9));
        store.save_counts();
        let waits = StorageStatus { state: StorageState::Failing, fault: Some(fault), waiting: 10, lost: 0 };
        let what = "the session, OAuth, a chat with three answers and its end, one gone, the facts and a day";
        assert_eq!(retried(&store).await, waits, "{what}");
        on_connection(&store, allow).await;
        assert_eq!(store.status(), waits, "the folder was not tried again yet");
        assert_eq!(retried(&store).await, disk());
        // As after a kill: nothing is closed.
        let (later, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.sessions[&key("a")].cookies.expose_secret(), cookies(5), "the newest");
        assert!(loaded.oauth.contains_key(&key("o")));
        let answers = (1..=3).map(answer).collect();
        assert_eq!(loaded.chats, [OwnedChat { kept_until: Some(UnixSeconds(90)), answers, ..chat(2) }]);
        assert_eq!(loaded.facts[&key("a")], facts);
        assert_eq!(later.days(&key("a"))[0].spent.requests, 3);
        assert_eq!(save(&store, "a", "token=6").await, Kept::OnDisk);
    }
}

#[tokio::test]
async fn on_a_full_disk_renewed_credentials_are_still_written() {
    let dir = tempfile::tempdir().unwrap();
    let reserve = dir.path().join("state.db.reserve");
    let (store, _) = Store::open(dir.path()).unwrap();
    assert_eq!(save(&store, "a", "token=1").await, Kept::OnDisk);
    fill_up(&store).await;
    assert!(reserve.exists());
    // This one is too large to wait; its loss is counted.
    store.keep_response(response("resp_1", 100_000), UnixSeconds(0));
    on_connection(&store, "").await;
    let full = StorageStatus { state: StorageState::Failing, fault: Some(StorageFault::Full), waiting: 0, lost: 1 };
    assert_eq!(store.status(), full);
    assert!(!reserve.exists(), "its blocks are given back");
    for number in 2..=9 {
        assert_eq!(save(&store, "a", &format!("token={number}")).await, Kept::OnDisk);
        store.note_chat(chat(number));
    }
    on_connection(&store, "").await;
    assert_eq!(store.status(), StorageStatus { waiting: 8, ..full }, "only credentials take the last of the space");
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.sessions[&key("a")].cookies.expose_secret(), "token=9");
    assert!(loaded.chats.is_empty());
    make_room(&store).await;
    let mended = retried(&store).await;
    assert_eq!(mended, StorageStatus { lost: 1, ..disk() });
    assert!(reserve.exists(), "made again");
    store.close().await;
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.chats.len(), 8);
}

#[tokio::test]
async fn a_disk_that_fills_behind_a_bad_fact_costs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    assert_eq!(save(&store, "a", "token=1").await, Kept::OnDisk);
    on_connection(
        &store,
        "CREATE TRIGGER bad BEFORE INSERT ON labels BEGIN SELECT RAISE(ABORT, 'bad'); END; PRAGMA query_only = ON",
    )
    .await;
    store.save_label(key("a"), Some("bad".to_owned()));
    let large = "x".repeat(100_000);
    assert_eq!(store.save_note(Note::Settings, large.clone()).await.unwrap(), Kept::InMemory);
    store.note_chat(chat(1));
    let read_only = StorageFault::ReadOnly;
    assert_eq!((retried(&store).await.fault, store.status().waiting), (Some(read_only), 3));
    on_connection(&store, "PRAGMA query_only = OFF").await;
    fill_up(&store).await;
    let full = StorageStatus { state: StorageState::Failing, fault: Some(StorageFault::Full), waiting: 2, lost: 0 };
    assert_eq!(retried(&store).await, full, "only the bad one is dropped");
    make_room(&store).await;
    assert_eq!(retried(&store).await, disk());
    store.close().await;
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!((loaded.notes[&Note::Settings].len(), loaded.chats.len()), (large.len(), 1));
}

#[tokio::test]
async fn a_videos_progress_waits_for_the_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    on_connection(&store, "PRAGMA query_only = ON").await;
    let key = ApiKey::new("sk-made");
    assert_eq!(store.save_generated_key(&key).await.unwrap(), Kept::InMemory);
    assert_eq!(store.forget_video("video_1").await.unwrap(), Kept::InMemory);
    // A response is read from the file, so forgetting it cannot wait.
    let refused = store.forget_response("ada".to_owned(), "resp_1".to_owned()).await;
    assert!(matches!(refused, Err(StoreError::Write(_))), "{refused:?}");
    on_connection(&store, "PRAGMA query_only = OFF").await;
    // The last look is at the close.
    store.close().await;
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert!(loaded.generated_key.unwrap().matches("sk-made"));
}

#[tokio::test]
async fn what_waits_has_a_limit_that_credentials_do_not_feel() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    on_connection(&store, "PRAGMA query_only = ON").await;
    for number in 0..5000 {
        // The queue is bounded too, and a read waits for all that is in it.
        if number % 500 == 0 {
            on_connection(&store, "").await;
        }
        store.note_chat(chat(number));
    }
    assert_eq!(save(&store, "a", "token=1").await, Kept::InMemory);
    let status = store.status();
    assert_eq!((status.waiting, status.lost), (4097, 904));
    on_connection(&store, "PRAGMA query_only = OFF").await;
    assert_eq!(retried(&store).await, StorageStatus { lost: 904, ..disk() });
    store.close().await;
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!((loaded.chats.len(), loaded.sessions.len()), (4096, 1));
}

#[tokio::test]
async fn the_reserve_is_real_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db.reserve");
    for spoil in [
        |_: &Path| {},
        |path: &Path| fs::write(path, "short").unwrap(),
        |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap(),
        |path: &Path| fs::remove_file(path).unwrap(),
        // A file with a length and no blocks.
        |path: &Path| {
            fs::remove_file(path).unwrap();
            fs::File::create(path).unwrap().set_len(Reserve::BYTES).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        },
        |path: &Path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/dev/null", path).unwrap();
        },
    ] {
        let (store, _) = Store::open(dir.path()).unwrap();
        let found = fs::symlink_metadata(&path).unwrap();
        assert!(found.is_file() && found.mode() & 0o777 == 0o600);
        assert!(found.len() == Reserve::BYTES && found.blocks() * 512 >= Reserve::BYTES, "{}", found.blocks());
        store.close().await;
        spoil(&path);
    }
}

/// The warning of a folder that cannot be used, after a look at what works without it.
async fn without_disk(folder: &Path) -> (Loaded, String) {
    let (store, loaded) = Store::open_or_in_memory(folder).unwrap();
    let warning = store.unusable().expect("the folder can be used").to_string();
    assert_eq!(store.status().state, StorageState::Memory);
    assert_eq!(save(&store, "a", "token=1").await, Kept::InMemory);
    store.note_chat(chat(1));
    store.keep_response(response("resp_1", 10), UnixSeconds(0));
    let found = store.response("ada".to_owned(), "resp_1".to_owned(), UnixSeconds(1)).await.unwrap();
    assert_eq!(found, Some(response("resp_1", 10)));
    store.close().await;
    assert_eq!(store.lost_writes(), 0);
    (loaded, warning)
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_costs_no_service() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "not ours").unwrap();
    let uid = rustix::process::geteuid().as_raw();
    for folder in [&file, &file.join("data"), Path::new("/dev/null/data"), &file.join("a/b/c")] {
        let (loaded, warning) = without_disk(folder).await;
        assert!(loaded.sessions.is_empty());
        let shown = folder.display().to_string();
        for part in [&*shown, "STATE_DIR", &format!("runs as uid {uid}"), "is a file", "kept in memory"] {
            assert!(warning.contains(part), "{part} is not in {warning}");
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"not ours");
    // No file can be made here, not even by root.
    let (_, warning) = without_disk(Path::new("/proc/self/qwen-bridge")).await;
    assert!(warning.contains("/proc/self/qwen-bridge"), "{warning}");
    // No folder can have this name.
    let (_, warning) = without_disk(&parent.path().join("x".repeat(300))).await;
    assert!(warning.contains(&format!("set STATE_DIR to a folder that uid {uid} can write")), "{warning}");
}

#[test]
fn a_folder_without_permission_is_named_with_the_command_that_mends_it() {
    // The owner of the folder, the uid of this process, and what to do.
    let unusable = |refused: &str, owner, kind: io::ErrorKind| Unusable {
        folder: "/data".into(),
        uid: 65532,
        refused: refused.into(),
        owner: Some(owner),
        fault: StorageFault::of_io(&kind.into()),
        error: StoreError::Folder { path: "/data".into(), source: kind.into() },
    };
    for (refused, owner, kind, cure) in [
        ("/data", 0, io::ErrorKind::PermissionDenied, "/data belongs to uid 0; `chown 65532 /data` mends it"),
        ("/data", 65532, io::ErrorKind::PermissionDenied, "`chmod u+rwx /data` mends it"),
        ("/data/state.db", 0, io::ErrorKind::PermissionDenied, "`chown 65532 /data/state.db` mends it"),
        ("/data/state.db", 65532, io::ErrorKind::PermissionDenied, "`chmod u+rw /data/state.db` mends it"),
        ("/", 0, io::ErrorKind::PermissionDenied, "`mkdir -p /data && chown 65532 /data` mends it"),
        ("/data", 0, io::ErrorKind::ReadOnlyFilesystem, "mounted read-only"),
        ("/data", 0, io::ErrorKind::StorageFull, "make room"),
        ("/data", 0, io::ErrorKind::QuotaExceeded, "make room"),
    ] {
        let text = unusable(refused, owner, kind).to_string();
        assert!(text.contains(cure) && text.contains("runs as uid 65532"), "{cure} is not in {text}");
    }
}

#[tokio::test]
async fn a_state_file_that_cannot_be_written_is_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    save(&store, "a", "token=1").await;
    store.count(&key("a"), Spent { requests: 3, ..Spent::default() }, UnixSeconds(9));
    store.save_counts();
    // With its log beside it, as a crash leaves it, and without.
    let path = dir.path().join("state.db");
    let (loaded, _) = Rows::read_only(&path).unwrap();
    assert_eq!(loaded.sessions[&key("a")].cookies.expose_secret(), "token=1");
    store.close().await;
    let (loaded, daily) = Rows::read_only(&path).unwrap();
    assert_eq!(loaded.sessions[&key("a")].cookies.expose_secret(), "token=1");
    assert_eq!(daily.days(&key("a"))[0].spent.requests, 3);
    // A program of another version must not understand the content, not even by accident.
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    connection.close().unwrap();
    assert!(Rows::read_only(&path).is_err());
    fs::write(&path, "garbage").unwrap();
    assert!(Rows::read_only(&path).is_err());
}
