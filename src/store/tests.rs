//! Reopening, modes, damage, and a queue that is full.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rusqlite::Connection;
use secrecy::{ExposeSecret as _, SecretString};

use super::*;
use crate::base::facts::{Cooling, CoolingReason, PerUsage, Usage};

fn key(name: &str) -> CredentialKey {
    CredentialKey::of(name)
}

fn snapshot(cookies: &str, token: Option<&str>) -> SessionSnapshot {
    SessionSnapshot { cookies: SecretString::from(cookies), token: token.map(SecretString::from) }
}

fn chat(number: i64) -> OwnedChat {
    let chat_id = format!("chat-{number}");
    OwnedChat { chat_id, key: key("a"), created_at: UnixSeconds(number), kept_until: None, answers: Vec::new() }
}

fn cooling(reason: CoolingReason, until: i64) -> Cooling {
    Cooling { reason, until: UnixSeconds(until), set_at: UnixSeconds(50) }
}

/// A rest from one thing alone.
fn only(usage: Usage, cooling: Cooling) -> PerUsage<Option<Cooling>> {
    PerUsage::of(|each| (each == usage).then_some(cooling))
}

/// What is known of an account that is dead, rests from videos for long and from chats for a while.
fn facts() -> IdentityFacts {
    let cooling = PerUsage::of(|usage| match usage {
        Usage::Chat => Some(cooling(CoolingReason::Rate, 70)),
        Usage::Image => None,
        Usage::Video => Some(cooling(CoolingReason::Quota, 90)),
        Usage::Upload => Some(cooling(CoolingReason::Quota, 95)),
    });
    IdentityFacts { cooling, dead_since: Some(UnixSeconds(7)) }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A closed state file with one of everything.
async fn filled(dir: &Path) {
    let (store, _) = Store::open(dir).unwrap();
    store.save_session(key("a"), snapshot("token=1", Some("jwt")), UnixSeconds(5)).await.unwrap();
    store.save_oauth(key("a"), SecretString::from("{\"r\":1}"), UnixSeconds(5)).await.unwrap();
    store.save_facts(key("a"), facts());
    for number in 1..=40 {
        store.note_chat(chat(number), "");
    }
    store.save_video(video(1)).await.unwrap();
    store.save_generated_key(&ApiKey::new("sk-made")).await.unwrap();
    store.close().await;
}

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
    store.save_facts(key("a"), IdentityFacts::default());
    store.forget_chat("chat-1");
    store.close().await;

    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.sessions[&key("a")].cookies.expose_secret(), "token=2");
    assert!(loaded.sessions[&key("a")].token.is_none());
    assert!(loaded.facts.is_empty());
    assert_eq!(loaded.chats.len(), 39);
}

#[tokio::test]
async fn an_intent_is_kept_until_the_chat_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let intent =
        |number: i64| ChatIntent { title: format!("title-{number}"), key: key("a"), created_at: UnixSeconds(number) };
    let (store, _) = Store::open(dir.path()).unwrap();
    for number in 1..=3 {
        store.note_intent(intent(number)).await.unwrap();
    }
    // Safe without a close.
    assert_eq!(Store::open(dir.path()).unwrap().1.intents, [intent(1), intent(2), intent(3)]);
    store.note_chat(chat(1), "title-1");
    store.forget_intent("title-2");
    store.close().await;
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!((loaded.intents, loaded.chats), (vec![intent(3)], vec![chat(1)]));
}

#[tokio::test]
async fn kept_chats_come_with_their_answers() {
    let dir = tempfile::tempdir().unwrap();
    let answer = |place: u8| KeptAnswer { place: [place; 32], response_id: format!("r{place}") };
    let (store, _) = Store::open(dir.path()).unwrap();
    (1..=3).for_each(|number| store.note_chat(chat(number), ""));
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
        IdentityFacts { cooling, dead_since: None }
    };
    for written in [facts(), resting(Usage::Image), resting(Usage::Chat), facts(), IdentityFacts::default()] {
        let (store, _) = Store::open(dir.path()).unwrap();
        store.save_facts(key("a"), written);
        store.save_facts(key("b"), facts());
        store.close().await;
        let (_, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.facts.get(&key("a")).copied().unwrap_or_default(), written);
        assert_eq!(loaded.facts[&key("b")], facts());
    }
    edit(dir.path(), "UPDATE rests SET usage = 'music' WHERE usage = 'chat'; UPDATE rests SET reason = 'mood'");
    let (_, loaded) = Store::open(dir.path()).unwrap();
    let known = IdentityFacts { cooling: PerUsage::default(), ..facts() };
    assert_eq!(loaded.facts[&key("b")], known, "what nobody understands is no rest");
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
    fs::write(dir.path().join("somebody-elses"), "").unwrap();
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
    store.note_chat(chat(1), "");
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
    // Root may write anywhere, so there the folder is no obstacle.
    let is_root = fs::write(read_only.join("probe"), "").is_ok();
    match Store::open(&read_only) {
        Ok(_) => assert!(is_root),
        Err(error) => assert!(matches!(error, StoreError::Folder { .. }), "{error:?}"),
    }
}

#[tokio::test]
async fn a_full_queue_loses_and_counts_but_never_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    // Another process in the middle of a write holds the thread up.
    let other = Connection::open(dir.path().join("state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let total = i64::try_from(2 * Store::QUEUE_MAX).unwrap();
    for number in 0..total {
        store.note_chat(chat(number), "");
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
    store.note_chat(chat(1), "");
    assert_eq!(store.lost_writes(), 1);
}

fn video(number: i64) -> VideoJob {
    VideoJob {
        id: format!("video_{number:03}"),
        owner: "caller".to_owned(),
        key: key("a"),
        is_pooled: number % 2 == 0,
        state: VideoState::Queued,
        model: "qwen-video".to_owned(),
        upstream_model: "wan".to_owned(),
        prompt: "CANARY-prompt".to_owned(),
        size: "1280x720".to_owned(),
        ratio: "16:9".to_owned(),
        seconds: "5".to_owned(),
        created_at: UnixSeconds(number),
        completed_at: None,
        chat_id: None,
        task_id: None,
        link: None,
        error: None,
        picture: None,
        idempotency: None,
        fingerprint: None,
    }
}

/// Everything of a job, to compare.
fn whole(job: &VideoJob) -> String {
    let VideoJob { id, owner, key, is_pooled, state, model, upstream_model, prompt, size, ratio, seconds, .. } = job;
    let VideoJob { created_at, completed_at, chat_id, task_id, link, error, picture, idempotency, fingerprint, .. } =
        job;
    let picture = picture.as_ref().map(|picture| match picture {
        VideoPicture::Bytes(bytes) => format!("{bytes:?}"),
        VideoPicture::Link(link) => link.expose_secret().to_owned(),
    });
    let link = link.as_ref().map(|link| link.expose_secret());
    format!(
        "{id} {owner} {key:?} {is_pooled} {state:?} {model} {upstream_model} {prompt} {size} {ratio} {seconds} \
         {created_at:?} {completed_at:?} {chat_id:?} {task_id:?} {link:?} {error:?} {idempotency:?} {fingerprint:?} \
         {picture:?}"
    )
}

#[tokio::test]
async fn video_jobs_are_safe_when_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (store, loaded) = Store::open(dir.path()).unwrap();
    assert!(loaded.videos.is_empty());
    let done = VideoJob {
        state: VideoState::Completed,
        completed_at: Some(UnixSeconds(70)),
        chat_id: Some("chat-1".to_owned()),
        task_id: Some("task-1".to_owned()),
        link: Some(SecretString::from("https://cdn.example/v.mp4?key=CANARY-link")),
        idempotency: Some("once".to_owned()),
        fingerprint: Some("print".to_owned()),
        ..video(2)
    };
    let failed = VideoJob {
        state: VideoState::Failed,
        completed_at: Some(UnixSeconds(80)),
        error: Some(("content_filter".to_owned(), "refused".to_owned())),
        ..video(3)
    };
    let picture = Some(VideoPicture::Bytes(b"CANARY-picture".as_slice().into()));
    let running = VideoJob { state: VideoState::Running, picture, ..video(4) };
    let picture = Some(VideoPicture::Link(SecretString::from("https://cdn.example/p.png?key=CANARY-link")));
    let queued = VideoJob { picture, ..video(1) };
    for job in [&running, &failed, &video(2), &queued, &video(5), &done] {
        store.save_video(job.clone()).await.unwrap();
    }
    store.forget_video("video_005").await.unwrap();
    store.forget_video("video_unknown").await.unwrap();
    // Another reader, while the writer still has the file open.
    let (_, loaded) = Store::open(dir.path()).unwrap();
    let jobs: Vec<_> = loaded.videos.iter().map(whole).collect();
    assert_eq!(jobs, [&queued, &done, &failed, &running].map(whole), "oldest first");
    let shown = format!("{loaded:?} {store:?}");
    assert!(shown.contains("video_002") && shown.contains("content_filter"), "{shown}");
    assert!(!shown.contains("CANARY"), "{shown}");
    store.close().await;
    assert!(matches!(store.save_video(video(6)).await, Err(StoreError::Closed)));
    assert!(matches!(store.forget_video("video_001").await, Err(StoreError::Closed)));
}

/// Changes the file of a closed store by hand.
fn edit(dir: &Path, statements: &str) {
    let connection = Connection::open(dir.join("state.db")).unwrap();
    connection.execute_batch(statements).unwrap();
    connection.close().unwrap();
}

#[tokio::test]
async fn a_video_in_an_unknown_state_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    for number in 1..=3 {
        store.save_video(video(number)).await.unwrap();
    }
    store.close().await;
    edit(
        dir.path(),
        "UPDATE videos SET state = 'paused', error_code = 'a', error_message = 'b' WHERE id = 'video_001';
         UPDATE videos SET state = '' WHERE id = 'video_002';
         UPDATE videos SET error_code = 'alone' WHERE id = 'video_003';",
    );
    let (_, loaded) = Store::open(dir.path()).unwrap();
    for job in &loaded.videos[..2] {
        assert_eq!(job.state, VideoState::Failed);
        assert_eq!(job.error.as_ref().unwrap().0, "unknown_state");
    }
    assert_eq!(loaded.videos[2].state, VideoState::Queued);
    assert_eq!(loaded.videos[2].error, Some(("alone".to_owned(), String::new())));
}

#[tokio::test]
async fn the_oldest_are_forgotten_when_there_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    store.close().await;
    edit(
        dir.path(),
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10003)
         INSERT INTO videos (id, owner, key, is_pooled, state, model, upstream_model, prompt, size, ratio, seconds,
                             created_at)
         SELECT 'video_' || n, '', '', 1, 'queued', '', '', '', '', '', '', n FROM numbers;
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 50003)
         INSERT INTO chats (chat_id, key, created_at) SELECT 'chat-' || n, '', n FROM numbers;",
    );
    let (_, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!((loaded.videos.len(), loaded.chats.len()), (10_000, 50_000));
    assert_eq!((loaded.videos[0].id.as_str(), loaded.chats[0].chat_id.as_str()), ("video_4", "chat-4"));
}

#[tokio::test]
async fn sessions_of_removed_accounts_are_forgotten_after_90_days() {
    const DAY: i64 = 86_400;
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    // When each was saved, and how many are left. A clock that is wrong for once costs no session.
    for (saved, left) in [
        (vec![now, now - 89 * DAY, now - 91 * DAY], 2),
        (vec![5, 6, 7], 3),
        (vec![5], 1),
        (vec![now + 1000 * DAY, now, now - 91 * DAY], 2),
        (vec![now - 400 * DAY, now - 401 * DAY], 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path()).unwrap();
        for saved_at in &saved {
            let key = key(&saved_at.to_string());
            store.save_session(key, snapshot("token=1", None), UnixSeconds(*saved_at)).await.unwrap();
        }
        store.close().await;
        let (_, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.sessions.len(), left, "{saved:?}");
        assert!(loaded.sessions.contains_key(&key(&saved[0].to_string())), "{saved:?}");
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
    // The first versions knew nothing of a rest from handing over files.
    let known = |usage| usage != Usage::Upload;
    let everything = PerUsage::of(|usage| known(usage).then(|| cooling(CoolingReason::Challenge, 90)));
    let expected = [
        ("both", chats(CoolingReason::Quota), Some(UnixSeconds(7))),
        ("rests", chats(CoolingReason::Rate), None),
        ("dead", PerUsage::default(), Some(UnixSeconds(7))),
        ("challenged", everything, None),
    ];
    let expected = expected
        .map(|(key, cooling, dead_since)| (CredentialKey::from_stored(key), IdentityFacts { cooling, dead_since }));
    let expected = HashMap::from(expected);
    for _ in 0..2 {
        let (store, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.sessions[&CredentialKey::from_stored("a")].cookies.expose_secret(), "token=1");
        assert_eq!(loaded.facts, expected);
        assert_eq!(loaded.chats[0].chat_id, "chat-1");
        assert!(loaded.generated_key.unwrap().matches("sk-made"));
        store.save_video(video(1)).await.unwrap();
        store.close().await;
    }
    assert_eq!(names(dir.path()), ["state.db", "state.db.reserve"], "nothing was put aside");
}

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
        // What comes after the close is in memory alone, and breaks nothing.
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
    // An account that is long gone takes no room for ever.
    let (store, _) = Store::open(dir.path()).unwrap();
    store.count(&key("c"), spent(1), day(20_040 + 91));
    store.close().await;
    drop(Store::open(dir.path()).unwrap());
    assert_eq!(day_rows(dir.path()), 1);
}

#[tokio::test(start_paused = true)]
async fn s000_06_counting_writes_at_most_once_in_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    let (store, stop) = (Arc::new(store), CancellationToken::new());
    let keeping = Arc::clone(&store).keep_counts(stop.clone());
    let counting = async {
        for _ in 0..1000 {
            store.count(&key("a"), spent(1), day(20_000));
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        assert_eq!(store.daily.lock().changed(), 1, "nothing has gone to the queue yet");
        tokio::time::sleep(COUNTS_EVERY).await;
        assert_eq!(store.daily.lock().changed(), 0);
        stop.cancel();
    };
    tokio::join!(keeping, counting);
    store.close().await;
    assert_eq!(store.days(&key("a")), [on(20_000, 1000)]);
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

/// The ids of a conversation, or why there is none.
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
