//! The file itself: modes, links, damage, older versions.

use std::os::unix::fs::symlink;

use super::*;
use std::collections::HashMap;

#[tokio::test]
async fn everything_is_private_from_the_first_moment() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep/data");
    let (store, _) = Store::open(&dir).unwrap();
    store.save_session(key("a"), snapshot("token=1", None), UnixSeconds(5)).await.unwrap();
    assert_eq!(mode(&dir), 0o700);
    let names = names(&dir);
    assert!(names.contains(&"state.db-wal".to_owned()), "{names:?}");
    for name in names {
        assert_eq!(mode(&dir.join(&name)), 0o600, "{name}");
    }
    store.close().await;
}

#[tokio::test]
async fn loose_modes_are_tightened() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let file = dir.path().join("state.db");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.chats.len(), 40);
    assert_eq!((mode(dir.path()), mode(&file)), (0o700, 0o600));

    // A folder that is not ours alone, such as /tmp, is not ours to close.
    fs::write(dir.path().join("of-another-program"), "").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Store::open(dir.path()).unwrap();
    assert_eq!((mode(dir.path()), mode(&file)), (0o755, 0o600));
}

#[tokio::test]
async fn a_linked_folder_is_fine_but_a_linked_file_is_not_followed() {
    let parent = tempfile::tempdir().unwrap();
    let real = parent.path().join("real");
    filled(&real).await;
    let link = parent.path().join("link");
    symlink(&real, &link).unwrap();
    let (_, loaded) = Store::open(&link).unwrap();
    assert_eq!(loaded.chats.len(), 40);

    let other = parent.path().join("other");
    fs::create_dir(&other).unwrap();
    let before = fs::read(real.join("state.db")).unwrap();
    symlink(real.join("state.db"), other.join("state.db")).unwrap();
    let (store, loaded) = Store::open(&other).unwrap();
    assert!(loaded.chats.is_empty());
    store.note_chat(chat(1));
    store.close().await;
    assert_eq!(fs::read(real.join("state.db")).unwrap(), before);
    assert_eq!(names(&other), ["state.db", "state.db.broken-1", "state.db.reserve"]);
}

#[tokio::test]
async fn a_damaged_file_is_put_aside_and_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        filled(dir.path()).await;
        let garbage = format!("not a database {round}").repeat(100);
        fs::write(dir.path().join("state.db"), garbage).unwrap();
        let (store, loaded) = Store::open(dir.path()).unwrap();
        assert!(loaded.sessions.is_empty() && loaded.generated_key.is_none());
        store.close().await;
        let aside = format!("state.db.broken-{round}");
        assert_eq!(names(dir.path()), ["state.db", &aside, "state.db.reserve"]);
    }
}

#[tokio::test]
async fn another_version_or_another_programs_file_is_put_aside() {
    for statement in [
        "PRAGMA user_version = 99",
        "PRAGMA user_version = -1",
        "DROP TABLE chats",
        "ALTER TABLE chats RENAME COLUMN key TO owner",
        "PRAGMA user_version = 0",
        "PRAGMA user_version = 1",
        "PRAGMA user_version = 2",
        "DROP TABLE rests",
    ] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path()).await;
        let connection = Connection::open(dir.path().join("state.db")).unwrap();
        connection.execute_batch(statement).unwrap();
        connection.close().unwrap();
        let (store, loaded) = Store::open(dir.path()).unwrap();
        assert!(loaded.sessions.is_empty(), "{statement}");
        store.close().await;
        assert_eq!(names(dir.path()), ["state.db", "state.db.broken-1", "state.db.reserve"], "{statement}");
    }
}

#[tokio::test]
async fn a_file_cut_or_overwritten_anywhere_never_stops_the_start() {
    let source = tempfile::tempdir().unwrap();
    filled(source.path()).await;
    let whole = fs::read(source.path().join("state.db")).unwrap();
    let offsets = (0..24).chain((24..whole.len()).step_by(997)).chain([whole.len() - 1, whole.len()]);
    let dir = tempfile::tempdir().unwrap();
    for offset in offsets {
        let mut flipped = whole.clone();
        if let Some(byte) = flipped.get_mut(offset) {
            *byte ^= 0x5a;
        }
        for bytes in [&whole[..offset], &flipped] {
            for name in names(dir.path()) {
                fs::remove_file(dir.path().join(name)).unwrap();
            }
            fs::write(dir.path().join("state.db"), bytes).unwrap();
            let (store, loaded) = Store::open(dir.path()).unwrap_or_else(|error| panic!("at {offset}: {error:?}"));
            drop(loaded);
            store
                .save_session(key("b"), snapshot("token=2", None), UnixSeconds(9))
                .await
                .unwrap_or_else(|error| panic!("at {offset}: {error:?}"));
            store.close().await;
        }
    }
}

#[tokio::test]
async fn a_log_cut_anywhere_keeps_a_whole_number_of_commits() {
    let source = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(source.path()).unwrap();
    for number in 1..=5 {
        let name = number.to_string();
        store.save_session(key(&name), snapshot("token=1", None), UnixSeconds(number)).await.unwrap();
    }
    let file = fs::read(source.path().join("state.db")).unwrap();
    let log = fs::read(source.path().join("state.db-wal")).unwrap();
    store.close().await;
    let dir = tempfile::tempdir().unwrap();
    let mut most = 0;
    for offset in (0..log.len()).step_by(1009).chain([log.len()]) {
        for name in names(dir.path()) {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("state.db"), &file).unwrap();
        fs::write(dir.path().join("state.db-wal"), &log[..offset]).unwrap();
        let (store, loaded) = Store::open(dir.path()).unwrap();
        let count = loaded.sessions.len();
        assert!(count >= most, "{count} at {offset}");
        most = count;
        for number in 1..=count {
            assert!(loaded.sessions.contains_key(&key(&number.to_string())));
        }
        store.close().await;
    }
    assert_eq!(most, 5);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_gives_a_plain_error() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(&file.join("data")).unwrap_err();
    assert!(matches!(error, StoreError::Folder { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("cannot be used; STATE_DIR names another one"), "{text}");

    let read_only = parent.path().join("read-only");
    fs::create_dir(&read_only).unwrap();
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write anywhere, so the folder does not refuse it.
    let is_root = fs::write(read_only.join("probe"), "").is_ok();
    match Store::open(&read_only) {
        Ok(_) => assert!(is_root),
        Err(error) => assert!(matches!(error, StoreError::Folder { .. }), "{error:?}"),
    }
}

/// A state file as version 1 wrote it.
const FIRST_VERSION: &str = "
CREATE TABLE sessions (key TEXT PRIMARY KEY NOT NULL, cookies TEXT NOT NULL, token TEXT, saved_at INTEGER NOT NULL)
STRICT, WITHOUT ROWID;
CREATE TABLE facts (key TEXT PRIMARY KEY NOT NULL, cooling_reason TEXT, cooling_until INTEGER, cooling_set_at INTEGER,
                    dead_since INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE chats (chat_id TEXT PRIMARY KEY NOT NULL, key TEXT NOT NULL, created_at INTEGER NOT NULL)
STRICT, WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
INSERT INTO sessions VALUES ('a', 'token=1', 'jwt', 5);
INSERT INTO facts VALUES ('both', 'quota', 90, 50, 7), ('rests', 'rate', 90, 50, NULL), ('dead', NULL, NULL, NULL, 7),
    ('challenged', 'challenge', 90, 50, NULL), ('odd', 'mood', 90, 50, NULL), ('half', 'rate', 90, NULL, NULL);
INSERT INTO chats VALUES ('chat-1', 'a', 3);
INSERT INTO meta VALUES ('generated_key', 'sk-made');
";

#[tokio::test]
async fn a_file_of_the_first_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    edit(dir.path(), FIRST_VERSION);
    let chats = |reason| only(Usage::Chat, cooling(reason, 90));
    // The first versions knew nothing of a rest from research, or from handing over files.
    let known = |usage| Usage::ASKED.contains(&usage);
    let everything = PerUsage::of(|usage| known(usage).then(|| cooling(CoolingReason::Challenge, 90)));
    let expected = [
        ("both", chats(CoolingReason::Quota), Some(UnixSeconds(7))),
        ("rests", chats(CoolingReason::Rate), None),
        ("dead", PerUsage::default(), Some(UnixSeconds(7))),
        ("challenged", everything, None),
    ];
    let expected = expected.map(|(key, cooling, dead_since)| {
        (CredentialKey::from_stored(key), IdentityFacts { cooling, dead_since, breaker: None })
    });
    let expected = HashMap::from(expected);
    for _ in 0..2 {
        let (store, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.sessions[&CredentialKey::from_stored("a")].cookies.expose_secret(), "token=1");
        assert_eq!(loaded.facts, expected);
        assert_eq!(loaded.chats[0].chat_id, "chat-1");
        assert!(loaded.accounts.is_empty() && loaded.labels.is_empty());
        assert!(loaded.sessions[&CredentialKey::from_stored("a")].earlier.is_none());
        assert!(loaded.generated_key.unwrap().matches("sk-made"));
        store.save_video(video(1)).await.unwrap();
        store.close().await;
    }
    assert_eq!(names(dir.path()), ["state.db", "state.db.reserve"], "nothing was put aside");
}

#[test]
fn a_commit_waits_for_the_disk_when_it_has_to_outlive_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rows, ..) = Rows::open(&dir.path().join("state.db")).unwrap();
    let chat_gone = || Fact::ChatGone("chat-1".to_owned());
    let made_key = || Fact::GeneratedKey(SecretString::from("sk-made"));
    // SQLite's numbers for NORMAL and FULL.
    for (facts, level) in
        [(vec![chat_gone()], 1), (vec![chat_gone(), made_key()], 2), (vec![made_key()], 2), (vec![chat_gone()], 1)]
    {
        Fact::write_all(&mut rows, &facts).unwrap();
        let used: i64 = rows.connection().query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        assert_eq!(used, level);
    }
}
