use http::Method;
use serde_json::json;

use crate::record::SiteHost;
use crate::script::Endpoint;
use crate::tests::client::{Caller, question, read, start};

#[tokio::test]
async fn models_need_no_credential() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let old = read(caller.bare(Method::GET, "/api/models").send().await.unwrap()).await;
    let new = read(caller.bare(Method::GET, "/api/v2/models/").send().await.unwrap()).await;
    assert_eq!((old.status, old.effective), (200, 0));
    assert_eq!((new.status, new.effective), (200, 200));
    assert_eq!(old.json(), new.data());
    assert!(old.json()["data"].as_array().unwrap().len() >= 7);
    assert!(simulator.record().violations().is_empty());
}

#[tokio::test]
async fn envelopes_echo_the_request_id() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let status = caller.post("/api/v2/users/status", &json!({})).await;
    assert_eq!(status.text, r#"{"success":true,"request_id":"7d1f1a52-33c0-4c6c-9a57-0d5f3f6f2a10","data":true}"#);
    let bare = caller.bare(Method::POST, "/api/v2/users/status");
    let refused = read(bare.send().await.unwrap()).await;
    assert_eq!((refused.status, refused.effective), (200, 401));
    assert_eq!(refused.code(), "Unauthorized");
    assert_eq!(refused.json()["request_id"].as_str().unwrap().len(), 36);
}

#[tokio::test]
async fn chats_come_and_go() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let first = caller.chat().await;
    let newest = json!({
        "chatId": "", "models": ["no-such-model"], "project_id": "", "timestamp": 1, "chat_type": "t2t",
        "chat_mode": "normal",
    });
    let second = caller.post("/api/v2/chats/new", &newest).await;
    let second = second.data()["id"].as_str().unwrap().to_owned();

    let page = caller.get("/api/v2/chats/?page=1&exclude_project=true").await.data();
    assert_eq!(page.as_array().unwrap().len(), 5, "three old ones");
    assert_eq!(page[0]["id"], second);
    assert_eq!(page[0]["created_at"], page[0]["updated_at"], "unused");
    assert_eq!(caller.get("/api/v2/chats/?page=2").await.data(), json!([]));
    assert_eq!(caller.get("/api/v2/chats?limit=2").await.data().as_array().unwrap().len(), 2);

    let path = format!("/api/v2/chats/{first}");
    assert_eq!(caller.get(&path).await.data()["id"], first);
    let gone = caller.delete(&path).await;
    assert_eq!(gone.data(), json!({ "status": true }));
    let missing = caller.get(&path).await;
    assert_eq!((missing.code().as_str(), missing.effective), ("Not_Found", 404));
    assert_eq!(caller.delete(&path).await.code(), "Not_Found");
    let lost = caller.complete(&first, &question(&first, "x")).await;
    assert_eq!((lost.code().as_str(), lost.status, lost.effective), ("CHAT_NOT_FOUND", 200, 404));

    let batch = caller.post("/api/v2/chats/batch_delete", &json!({ "ids": [second] })).await;
    assert_eq!(batch.data(), json!({ "status": true }));
    assert_eq!(simulator.record().counts().deletes, 2);
    assert!(simulator.record().violations().is_empty(), "{:?}", simulator.record().violations());
    assert_eq!(simulator.stored().chats(Some("ada")).len(), 3);

    caller.delete("/api/v2/chats/").await.data();
    assert_eq!(simulator.stored().chats(Some("ada")).len(), 0);
    assert_eq!(simulator.stored().chats(Some("bob")).len(), 3);
    assert!(simulator.record().violations()[0].contains("deletion of 3 chats of the owner"));
}

#[tokio::test]
async fn old_chats_are_guarded() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let old = simulator.stored().chats(Some("ada")).remove(0);
    let foreign = simulator.stored().chats(Some("bob")).remove(0);
    assert!(old.is_old);
    caller.delete(&format!("/api/v2/chats/{}", old.id)).await.data();
    let refused = caller.delete(&format!("/api/v2/chats/{}", foreign.id)).await;
    assert_eq!(refused.code(), "Not_Found");
    let violations = simulator.record().violations();
    assert!(violations[0].contains("old chat"), "{violations:?}");
    assert!(violations[1].contains("another account's chat"), "{violations:?}");
    assert_eq!(simulator.stored().chats(Some("bob")).len(), 3);
}

#[tokio::test]
async fn a_chat_remembers_its_turns() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    caller.complete(&chat, &question(&chat, "echo: first")).await;
    let parent = caller.last_completion().await.response_id.unwrap();
    let mut next = question(&chat, "echo: second");
    next["parent_id"] = json!(parent);
    next["messages"][0]["parentId"] = json!(parent);
    let second = caller.complete(&chat, &next).await;
    assert!(second.content_type.starts_with("text/event-stream"));
    caller.last_completion().await;

    let data = caller.get(&format!("/api/v2/chats/{chat}")).await.data();
    let messages = data["chat"]["messages"].as_array().unwrap();
    let texts: Vec<_> = messages.iter().map(|one| one["content"].as_str().unwrap()).collect();
    assert_eq!(texts, ["echo: first", "first", "echo: second", "second"]);
    assert_eq!(messages[2]["parentId"], parent);
    assert_eq!(messages[1]["childrenIds"][0], messages[2]["id"]);
    assert_eq!(messages[1]["content_list"][0]["phase"], "answer");
    let by_id = &data["chat"]["history"]["messages"];
    assert_eq!(by_id[&parent], messages[1]);
    assert_eq!(data["currentId"], messages[3]["id"]);
}

#[tokio::test]
async fn settings_are_merged() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let changed = json!({ "memory": { "enable_memory": true } });
    let update = "/api/v2/users/user/settings/update";
    caller.post(update, &changed).await.data();
    let settings = caller.get("/api/v2/users/user/settings").await.data();
    assert_eq!(settings["memory"]["enable_memory"], true);
    assert_eq!(settings["tools_enabled"]["web_search"], true);
}

#[tokio::test]
async fn unknown_paths_are_recorded() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    assert_eq!(caller.get("/api/v2/none").await.code(), "Not_Found");
    assert_eq!(caller.get("/c/guest").await.status, 404);
    let requests = simulator.record().requests();
    assert_eq!(requests.len(), 2);
    assert_eq!((requests[0].endpoint, requests[0].host), (None, SiteHost::Chat));
    assert_eq!(requests[0].path, "/api/v2/none");
    assert!(!requests[0].is("ada", Endpoint::Models));
}
