use serde_json::{Value, json};

use crate::record::{EndedHow, RecordedRequest};
use crate::script::{End, Endpoint, ScriptedReply};
use crate::tests::client::{Caller, SOON, TORN, answer_of, frames, question, read, start};

/// Changes a good question, sends it, and expects this code, these details and this effective status.
async fn check(change: impl FnOnce(&mut Value), code: &str, details: &str, effective: u16) {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    simulator.script().queue(None, Endpoint::Completions, ScriptedReply::answer("unused"));
    let chat = caller.chat().await;
    let mut body = question(&chat, "x");
    change(&mut body);
    let refused = caller.complete(&chat, &body).await;
    assert_eq!((refused.status, refused.effective), (200, effective));
    assert_eq!(refused.content_type, "application/json");
    assert_eq!((refused.code().as_str(), refused.details().as_str()), (code, details));
    assert_eq!(simulator.script().left(), 1, "a refused call uses up no script");
    let chats = simulator.stored().chats(Some("ada"));
    assert!(chats.iter().all(|chat| chat.is_old || chat.messages.is_empty()));
}

#[tokio::test]
async fn bodies_are_checked() {
    let missing = "[\"Field 'chat_id': Field required\"]";
    check(|body| drop(body["chat_id"].take()), "RequestValidationError", missing, 400).await;
    let two = |body: &mut Value| {
        let message = body["messages"][0].clone();
        body["messages"] = json!([message, message]);
    };
    check(two, "Bad_Request", "Invalid input too many messages.", 400).await;
    let parent = |body: &mut Value| body["parent_id"] = json!("b3a1c9e4-0000-4000-8000-000000000000");
    check(parent, "PARENT_NOT_FOUND", "parent_id does not exist", 404).await;
    let kind = |kind: &'static str| {
        move |body: &mut Value| {
            body["messages"][0]["chat_type"] = json!(kind);
            body["messages"][0]["sub_chat_type"] = json!(kind);
            body["messages"][0]["extra"]["meta"]["subChatType"] = json!(kind);
        }
    };
    let internal = "Internal error, please try again later.";
    check(kind("image_gen"), "Bad_Request", internal, 400).await;
    check(kind("travel"), "internal_error", "Internal Error", 400).await;
    let badly_sized = |body: &mut Value| {
        kind("t2i")(body);
        body["size"] = json!("2:1");
    };
    check(badly_sized, "Bad_Request", "Invalid size.", 400).await;
    let function = |body: &mut Value| body["messages"][0]["role"] = json!("function");
    check(function, "Bad_Request", "Something wrong with request!", 400).await;
}

#[tokio::test]
async fn the_version_header_must_be_there() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let request = caller.completion(&chat, &question(&chat, "x")).build().unwrap();
    let mut request = request;
    request.headers_mut().remove("version");
    let refused = read(reqwest::Client::new().execute(request).await.unwrap()).await;
    assert_eq!((refused.code().as_str(), refused.effective), ("Bad_Request", 400));
    assert!(refused.details().starts_with("Internal error"));
    assert!(simulator.record().violations()[0].contains("missing headers: version"));
}

#[tokio::test]
async fn a_large_body_meets_the_risk_engine() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let rest = question(&chat, "").to_string().len();
    let fits = question(&chat, &"x".repeat(131_072 - rest));
    let reply = caller.complete(&chat, &fits).await;
    assert!(reply.content_type.starts_with("text/event-stream"));
    caller.last_completion().await;
    let large = question(&chat, &"x".repeat(131_073 - rest));
    assert_eq!(caller.complete(&chat, &large).await.json()["ret"][0], "FAIL_SYS_USER_VALIDATE");
}

#[tokio::test]
async fn another_accounts_chat_does_not_exist() {
    let simulator = start().await;
    let chat = Caller::new(&simulator, "bob").chat().await;
    let refused = Caller::new(&simulator, "ada").complete(&chat, &question(&chat, "x")).await;
    assert_eq!(refused.code(), "CHAT_NOT_FOUND");
    assert!(simulator.record().violations()[0].contains("another account's chat"));
}

#[tokio::test]
async fn a_model_that_always_thinks_refuses_haste() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let mut body = question(&chat, "x");
    body["model"] = json!("qwen3.7-max");
    let reply = caller.complete(&chat, &body).await;
    let lines: Vec<_> = reply.text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 2);
    let start = r#"data: {"error":{"code":"invalid_input","details":"输入或附件无效。请检查后重试。"},"response_id":""#;
    assert!(lines[1].starts_with(start), "{}", lines[1]);
}

#[tokio::test]
async fn a_system_role_opens_and_ends() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let mut body = question(&chat, "x");
    body["messages"][0]["role"] = json!("system");
    let reply = caller.complete(&chat, &body).await;
    let frames = frames(&reply.text);
    assert_eq!(frames.len(), 1);
    assert!(frames[0].get("response.created").is_some());
}

#[tokio::test]
async fn without_the_schema_deltas_have_no_phase() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let mut body = question(&chat, "echo: abc");
    drop(body["messages"][0]["feature_config"]["output_schema"].take());
    let reply = caller.complete(&chat, &body).await;
    assert!(!reply.text.contains("phase") && reply.text.contains("\"abc\""));
    assert_eq!(answer_of(&reply.text), "");
}

#[tokio::test]
async fn one_answer_at_a_time_in_one_chat() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let stalled = ScriptedReply::answer("never whole").ending(End::Stalled);
    simulator.script().queue(None, Endpoint::Completions, stalled);
    let mut first = caller.completion(&chat, &question(&chat, "x")).send().await.unwrap();
    assert!(first.chunk().await.unwrap().is_some());

    let second = caller.complete(&chat, &question(&chat, "y")).await;
    assert_eq!((second.code().as_str(), second.effective), ("Bad_Request", 400));
    assert_eq!(second.details(), "The chat is in progress!");
    let other = caller.ask("echo: other chats are free").await;
    assert_eq!(answer_of(&other.text), "other chats are free");

    drop(first);
    let gone = |request: &RecordedRequest| request.client_closed_at().is_some();
    simulator.record().wait_until(gone, SOON).await.unwrap();
    let third = caller.complete(&chat, &question(&chat, "z")).await;
    assert_eq!(third.details(), "The chat is in progress!", "closing does not free it at once");

    let stop = format!("/api/v2/chat/completions/stop?chat_id={chat}");
    let body = json!({ "chat_id": chat, "response_id": "" });
    assert_eq!(caller.post(&stop, &body).await.effective, 200);
    let free = caller.complete(&chat, &question(&chat, "echo: free")).await;
    assert_eq!(answer_of(&free.text), "free");
}

#[tokio::test]
async fn a_stop_ends_the_stream() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat().await;
    let stalled = ScriptedReply::answer("never whole").ending(End::Stalled);
    simulator.script().queue(None, Endpoint::Completions, stalled);
    let stream = caller.completion(&chat, &question(&chat, "x")).send().await.unwrap();
    let stop = format!("/api/v2/chat/completions/stop?chat_id={chat}");
    caller.post(&stop, &json!({})).await.data();
    let text = read(stream).await.text;
    assert!(!text.contains("finished") && !text.ends_with(TORN));
    let end = caller.last_end().await;
    assert_eq!(end, EndedHow::StoppedByCall);
}
