//! Responses that are kept: continued, fetched, listed, deleted.

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{CutHow, Endpoint, Scenario, ScriptedReply};

use crate::responses::{ask_key, sent_to_key, weather};
use crate::support::app::{KEY, Setup, TestApp, error_of, json_of, with_keys};
use crate::support::files::{data_uri, hash, png};
use crate::support::responses::{ask, output, text};

/// A request that continues a response.
fn go_on(previous: &Value, input: &str) -> Value {
    let mut body = ask(input);
    body["previous_response_id"] = previous["id"].clone();
    body
}

#[tokio::test]
async fn a_response_is_continued() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = Setup::default().with("CONTINUE_CHATS", "false").start(simulator).await;
    let mut body = ask("echo: one");
    body["instructions"] = json!("Only once.");
    let first = app.respond(&body).await;
    let events = app.respond_streamed(&go_on(&first, "echo: two")).await;
    let second = events.response();
    assert_eq!((&second["previous_response_id"], &second["instructions"]), (&first["id"], &json!(null)));
    app.respond(&go_on(second, "echo: three")).await;
    let asked = app.asked();
    let (one, two) = (text(&first), text(second));
    let blocks = format!(
        "<user>\necho: one\n</user>\n\n<assistant>\n{one}\n</assistant>\n\n<user>\necho: two\n</user>\n\n\
         <assistant>\n{two}\n</assistant>\n\n<user>\necho: three\n</user>"
    );
    assert!(two.starts_with("two") && asked.prompt().ends_with(&blocks), "{}", asked.prompt());
    assert!(!asked.prompt().contains("Only once."), "instructions are not carried over");
    // A branch of the conversation begins where its caller says.
    app.respond(&go_on(&first, "echo: other")).await;
    assert!(!app.asked().prompt().contains("echo: two"));
}

#[tokio::test]
async fn a_kept_response_is_fetched_listed_and_deleted() {
    let app = TestApp::quick().await;
    let first = app.respond(&ask(json!([{"role": "user", "content": "echo: one"}]))).await;
    let second = app.respond_streamed(&go_on(&first, "echo: two")).await.response().clone();
    let path = format!("/v1/responses/{}", second["id"].as_str().unwrap());
    assert_eq!(json_of(app.get(&path).send().await.unwrap()).await, second, "it is given back as it was");
    let list = |query: &str| {
        let request = app.get(&format!("{path}/input_items?{query}"));
        async { json_of(request.send().await.unwrap()).await }
    };
    let all = list("order=asc").await;
    assert_eq!((&all["object"], &all["has_more"]), (&json!("list"), &json!(false)));
    let said: Vec<_> = all["data"].as_array().unwrap().iter().map(|item| item["content"][0].clone()).collect();
    let input = |text: &str| json!({"type": "input_text", "text": text});
    assert_eq!(said, [input("echo: one"), output(&first)[0]["content"][0].clone(), input("echo: two")]);
    assert!(all["data"].as_array().unwrap().iter().all(|item| item["id"].is_string() && item["type"] == "message"));
    let newest = list("limit=1").await;
    assert_eq!((&newest["data"][0], &newest["has_more"]), (&all["data"][2], &json!(true)));
    assert_eq!((&newest["first_id"], &newest["last_id"]), (&all["last_id"], &all["last_id"]));
    let rest = list(&format!("after={}&limit=2", newest["last_id"].as_str().unwrap())).await;
    assert_eq!((&rest["data"][1], &rest["has_more"]), (&all["data"][0], &json!(false)));
    for query in ["limit=0", "limit=101", "order=up", "after=nothing"] {
        let response = app.get(&format!("{path}/input_items?{query}")).send().await.unwrap();
        assert_eq!(response.status(), 400, "{query}");
        error_of(response).await;
    }
    let streamed = app.get(&format!("{path}?stream=true")).send().await.unwrap();
    assert_eq!(error_of(streamed).await["param"], "stream");
    let delete = |path: &str| app.client.delete(app.url(path)).bearer_auth(KEY).send();
    let deleted = json_of(delete(&path).await.unwrap()).await;
    assert_eq!(deleted, json!({"id": second["id"], "object": "response", "deleted": true}));
    for response in [
        delete(&path).await.unwrap(),
        app.get(&path).send().await.unwrap(),
        app.get(&format!("{path}/input_items")).send().await.unwrap(),
    ] {
        assert_eq!(response.status(), 404);
        assert_eq!(error_of(response).await["code"], "response_not_found");
    }
    app.respond(&go_on(&first, "echo: the first is still there")).await;
}

#[tokio::test]
async fn what_cannot_be_continued() {
    let app = TestApp::quick().await;
    let mut body = ask("echo: x");
    body["store"] = json!(false);
    let unkept = app.respond(&body).await;
    assert_eq!(unkept["store"], false);
    let first = app.respond(&ask("echo: one")).await;
    let second = app.respond(&go_on(&first, "echo: two")).await;
    let path = format!("/v1/responses/{}", first["id"].as_str().unwrap());
    app.client.delete(app.url(&path)).bearer_auth(KEY).send().await.unwrap();
    let turns = app.turns();
    for id in [json!("resp_nothing"), unkept["id"].clone(), first["id"].clone(), second["id"].clone()] {
        for stream in [false, true] {
            let mut body = go_on(&json!({"id": id}), "echo: x");
            body["stream"] = json!(stream);
            let (status, error) = app.refused(&body).await;
            assert_eq!((status, &error["code"]), (400, &json!("previous_response_not_found")), "{id}");
            assert_eq!(error["param"], "previous_response_id");
        }
    }
    let (status, error) = app.refused(&go_on(&json!({"id": 7}), "x")).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_type")));
    assert_eq!(app.turns(), turns);
}

#[tokio::test]
async fn a_failed_response_is_kept_and_ends_its_conversation() {
    let app = TestApp::quick().await;
    let broken = ScriptedReply::pieces(["one ", "two ", "three"]).cut_after(3, CutHow::CleanEnd);
    app.simulator.script().queue(None, Endpoint::Completions, broken);
    let failed = app.respond_streamed(&ask("x")).await.response().clone();
    assert_eq!(failed["status"], "failed");
    let path = format!("/v1/responses/{}", failed["id"].as_str().unwrap());
    assert_eq!(json_of(app.get(&path).send().await.unwrap()).await, failed);
    let (status, error) = app.refused(&go_on(&failed, "x")).await;
    assert_eq!((status, &error["param"]), (400, &json!("previous_response_id")));
}

#[tokio::test]
async fn responses_outlive_a_restart_and_belong_to_their_caller() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let keys = "sk-test-key,sk-other";
    let app = Setup::default().with("API_KEY", keys).start(simulator).await;
    let first = app.respond(&ask("echo: one")).await;
    let (simulator, state_dir) = app.stop().await;
    let setup = Setup::default().with("API_KEY", keys).with("CONTINUE_CHATS", "false");
    let app = setup.in_dir(state_dir).start(simulator).await;
    app.respond(&go_on(&first, "echo: two")).await;
    assert!(app.asked().prompt().contains("<assistant>\none\n</assistant>"), "{}", app.asked().prompt());
    let path = format!("/v1/responses/{}", first["id"].as_str().unwrap());
    assert_eq!(app.get(&path).send().await.unwrap().status(), 200);
    let other = app.client.get(app.url(&path)).bearer_auth("sk-other").send().await.unwrap();
    assert_eq!(other.status(), 404);
    let other = app.client.post(app.url("/v1/responses")).bearer_auth("sk-other");
    let other = other.header("content-type", "application/json").body(go_on(&first, "x").to_string());
    let other = other.send().await.unwrap();
    assert_eq!(error_of(other).await["code"], "previous_response_not_found");
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().with("KEEP_RESPONSES", "0").in_dir(state_dir).start(simulator).await;
    let unkept = app.respond(&ask("echo: x")).await;
    assert_eq!(unkept["store"], false);
    let path = format!("/v1/responses/{}", unkept["id"].as_str().unwrap());
    assert_eq!(app.get(&path).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_loop_of_calls_goes_on_by_reference() {
    let app = with_keys(Scenario::default()).await;
    let first = app.respond(&ask_key("call: weather {\"city\": \"Oslo\"}", json!([weather()]))).await;
    let call = output(&first)[0].clone();
    let result = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "3 °C"});
    let done = json!({"role": "user", "content": "echo: done"});
    let mut body = ask_key(json!([result, done]), json!([weather()]));
    body["previous_response_id"] = first["id"].clone();
    assert_eq!(text(&app.respond(&body).await), "done");
    let by_chain = sent_to_key(&app)["messages"].clone();
    assert_eq!(by_chain[1]["tool_calls"][0]["id"], call["call_id"]);
    // The AI SDK names items of kept responses in place of sending them again.
    let user = json!({"role": "user", "content": "call: weather {\"city\": \"Oslo\"}"});
    let reference = json!({"type": "item_reference", "id": call["id"]});
    app.respond(&ask_key(json!([user, reference, result, done]), json!([weather()]))).await;
    assert_eq!(sent_to_key(&app)["messages"], by_chain);
}

#[tokio::test]
async fn pictures_are_kept_with_their_response() {
    // A whole conversation shows what was kept.
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = Setup::default().with("CONTINUE_CHATS", "false").start(simulator).await;
    let input = json!([{"role": "user", "content": [
        {"type": "input_text", "text": "echo: seen"},
        {"type": "input_image", "image_url": data_uri("image/png", &png(1))},
    ]}]);
    let first = app.respond(&json!({"model": "qwen3-vl-plus", "input": input})).await;
    let mut body = go_on(&first, "echo: again");
    body["model"] = json!("qwen3-vl-plus");
    let said = text(&app.respond(&body).await);
    assert!(said.contains(&hash(&png(1))), "{said}");
}
