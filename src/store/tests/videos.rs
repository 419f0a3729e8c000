//! Video jobs.

use super::*;

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
