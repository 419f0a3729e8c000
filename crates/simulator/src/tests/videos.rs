use serde_json::{Value, json};

use crate::Simulator;
use crate::script::{AccountScript, Endpoint, Era, Scenario, ScriptedReply, VideoEnd};
use crate::tests::client::{Caller, frames, media_question, start};

/// Begins a video; its task.
async fn begin(caller: &Caller<'_>) -> String {
    let data = caller.wish("t2v", "A boat at sea", json!([])).await.data();
    data["messages"][0]["extra"]["wanx"]["task_id"].as_str().unwrap().to_owned()
}

fn path(task: &str) -> String {
    format!("/api/v2/task/status/{task}")
}

#[tokio::test]
async fn a_video_comes_by_and_by() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let data = caller.wish("t2v", "A boat at sea", json!([])).await.data();
    let message = &data["messages"][0];
    assert_eq!((&message["content"], &message["done"], &message["size"]), (&json!(""), &json!(false), &json!("16:9")));
    let task = message["extra"]["wanx"]["task_id"].as_str().unwrap();
    let chat = data["chat_id"].as_str().unwrap();
    let running = json!({
        "chat_type": "t2v", "task_status": "running", "message": "", "content": "", "remaining_time": "",
        "sub_chat_type": null, "duration": null,
    });
    assert_eq!(caller.get(&path(task)).await.data(), running);
    let old = caller.get(&format!("/api/v1/tasks/status/{task}")).await;
    assert_eq!((old.effective, old.json()["task_status"].as_str()), (0, Some("running")));
    let done = caller.get(&path(task)).await.data();
    assert_eq!(done["task_status"], "success");
    let link = done["content"].as_str().unwrap();
    let user = simulator.accounts().user_id("ada");
    assert!(link.starts_with(&format!("{}output/{user}/t2v/{chat}/{task}.mp4?key=", simulator.urls().web)));

    let stored = caller.get(&format!("/api/v2/chats/{chat}")).await.data();
    let stored = &stored["chat"]["messages"][1];
    assert_eq!((&stored["id"], &stored["extra"]["wanx"]["task_id"]), (&data["message_id"], &json!(task)));
    assert!(!simulator.stored().chats(Some("ada")).pop().unwrap().is_busy);
    let view = simulator.stored().videos().remove(0);
    assert_eq!((view.id.as_str(), view.polls, view.chat_type.as_str()), (task, 3, "t2v"));

    let whole = reqwest::get(link).await.unwrap();
    assert_eq!(whole.headers()["content-type"], "video/mp4");
    let whole = whole.bytes().await.unwrap();
    assert_eq!(&whole[4..12], b"ftypisom");
    let part = reqwest::Client::new().get(link).header("range", "bytes=-10").send().await.unwrap();
    assert_eq!(part.status(), 206);
    let expected = format!("bytes {}-{}/{}", whole.len() - 10, whole.len() - 1, whole.len());
    assert_eq!(part.headers()["content-range"], expected);
    assert_eq!(part.bytes().await.unwrap(), whole.slice(whole.len() - 10..));
    assert!(simulator.record().violations().is_empty(), "{:?}", simulator.record().violations());
}

#[tokio::test]
async fn a_video_begins_with_a_picture() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let read = caller.wish("t2i", "A boat", json!([])).await;
    let frames = frames(&read.text);
    let link = frames[3]["choices"][0]["delta"]["content"].clone();
    let files = json!([{
        "type": "image", "name": "example.png", "file_type": "image/png", "showType": "image", "file_class": "vision",
        "status": "uploaded", "url": link,
    }]);
    let data = caller.wish("i2v", "It sails away", files).await.data();
    assert!(data["messages"][0]["extra"]["wanx"]["task_id"].is_string());
    assert_eq!(caller.wish("i2v", "It sails away", json!([])).await.code(), "invalid_input");
    assert!(simulator.record().violations().is_empty(), "{:?}", simulator.record().violations());
}

#[tokio::test]
async fn odd_wishes_are_written_down() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let mut body = media_question(&chat, "t2v", "A boat", json!([]));
    body["stream"] = json!(true);
    body["size"] = json!("1:1");
    body["messages"][0]["sub_chat_type"] = json!("t2t");
    caller.complete(&chat, &body).await.data();
    let violations = simulator.record().violations();
    for (place, part) in
        ["three chat types", "stream is true", "two sizes", "a new chat that was made for t2t"].into_iter().enumerate()
    {
        assert!(violations[place].contains(part), "{violations:?}");
    }
}

#[tokio::test]
async fn tasks_end_as_scripted() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let end = async |reply: ScriptedReply| {
        simulator.script().queue(Some("ada"), Endpoint::Completions, reply);
        begin(&caller).await
    };
    let soon = |end| ScriptedReply::video(end).with_video(|video| video.polls = 0);
    let failed = end(soon(VideoEnd::Failed("no boats today".into()))).await;
    let data = caller.get(&path(&failed)).await.data();
    assert_eq!((&data["task_status"], &data["message"]), (&json!("failed"), &json!("no boats today")));

    let vanished = end(soon(VideoEnd::Vanished)).await;
    let gone = caller.get(&path(&vanished)).await;
    assert_eq!((gone.status, gone.effective, gone.code().as_str()), (200, 404, "Not_Found"));
    assert_eq!(gone.details(), "Task not found");
    assert_eq!(caller.get(&format!("/api/v1/tasks/status/{vanished}")).await.status, 404);

    let stalled = end(soon(VideoEnd::Stalled)).await;
    for _ in 0..5 {
        assert_eq!(caller.get(&path(&stalled)).await.data()["task_status"], "running");
    }

    simulator.script().set_default(None, Endpoint::TaskStatus, Some(ScriptedReply::status(404)));
    let task = end(soon(VideoEnd::Success)).await;
    assert_eq!(caller.get(&path(&task)).await.status, 404);
    let old = caller.get(&format!("/api/v1/tasks/status/{task}")).await.json();
    assert_eq!(old["task_status"], "success");
    assert!(simulator.record().violations().is_empty(), "{:?}", simulator.record().violations());
}

#[tokio::test]
async fn a_lost_answer_is_in_the_chat() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    simulator.script().queue(
        None,
        Endpoint::Completions,
        ScriptedReply::default().with_video(|video| video.lost = true),
    );
    let chat = caller.chat_for("t2v").await;
    let body = media_question(&chat, "t2v", "A boat", json!([]));
    assert!(caller.completion(&chat, &body).send().await.is_err());
    let stored = caller.get(&format!("/api/v2/chats/{chat}")).await.data();
    let task = stored["chat"]["messages"][1]["extra"]["wanx"]["task_id"].as_str().unwrap();
    assert_eq!(simulator.stored().videos()[0].id, task);
}

#[tokio::test]
async fn another_accounts_task_does_not_exist() {
    let simulator = start().await;
    let task = begin(&Caller::new(&simulator, "ada")).await;
    let refused = Caller::new(&simulator, "bob").get(&path(&task)).await;
    assert_eq!(refused.code(), "Not_Found");
    assert!(simulator.record().violations()[0].contains("another account's task"));
}

#[tokio::test]
async fn a_day_has_so_many_videos() {
    let ada = AccountScript { videos_per_day: Some(1), ..AccountScript::new("ada", Era::A) };
    let simulator = Simulator::start(Scenario::with_accounts([ada])).await.unwrap();
    let caller = Caller::new(&simulator, "ada");
    begin(&caller).await;
    let refused = caller.wish("t2v", "Another boat", json!([])).await;
    assert_eq!((refused.code().as_str(), refused.effective), ("RateLimited", 429));
    let hours: Value = refused.json()["data"]["num"].clone();
    assert!((1..=24).contains(&hours.as_u64().unwrap()));
}
