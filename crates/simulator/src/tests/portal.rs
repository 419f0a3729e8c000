//! The portal and the endpoint with static keys.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::record::{EndedHow, RecordedRequest};
use crate::script::{
    ApiErrorForm, ApiErrorScript, ApiFailure, BodyForm, ChunkForm, Content, CutHow, End, Endpoint, Inserted, KeyScript,
    LineEnding, OAuthAccount, Packets, PlanWindow, PortalScript, Scenario, ScriptedFailure, ScriptedReply,
    StatusScript, StreamError, ToolCallScript, UsageChunk,
};
use crate::tests::client::{Read, SOON, TORN, frames, read};
use crate::{Simulator, TokenLife};

async fn start() -> Simulator {
    let scenario = Scenario::with_oauth([OAuthAccount::new("cleo"), OAuthAccount::new("dora")]);
    Simulator::start(scenario.key(KeyScript::new("kay"))).await.unwrap()
}

fn token(simulator: &Simulator, account: &str) -> String {
    let credentials: Value = serde_json::from_str(&simulator.oauth().credentials(account, TokenLife::Fresh)).unwrap();
    credentials["access_token"].as_str().unwrap().to_owned()
}

fn question(prompt: &str, stream: bool) -> Value {
    json!({ "model": "coder-model", "messages": [{ "role": "user", "content": prompt }], "stream": stream })
}

fn to_portal(simulator: &Simulator, body: &Value) -> RequestBuilder {
    let url = format!("{}/chat/completions", simulator.urls().portal);
    let client = Client::builder().no_proxy().build().unwrap();
    client.post(url).header("content-type", "application/json").body(body.to_string())
}

async fn ask(simulator: &Simulator, body: &Value) -> Read {
    let request = to_portal(simulator, body).bearer_auth(token(simulator, "cleo"));
    read(request.send().await.unwrap()).await
}

async fn ask_scripted(simulator: &Simulator, reply: ScriptedReply) -> Read {
    simulator.script().queue(Some("cleo"), Endpoint::PortalChat, reply);
    ask(simulator, &question("hello", true)).await
}

async fn with_key(simulator: &Simulator, path: &str, key: &str, body: &Value) -> Read {
    let url = format!("{}/{path}", simulator.urls().keys);
    let request = Client::new().post(url).bearer_auth(key).header("content-type", "application/json");
    read(request.body(body.to_string()).send().await.unwrap()).await
}

fn text_of(read: &Read, field: &str) -> String {
    let frames = frames(&read.text);
    frames.iter().filter_map(|frame| frame["choices"][0]["delta"][field].as_str()).collect()
}

fn error(read: &Read) -> (u16, String, String) {
    let error = &read.json()["error"];
    assert!(error["param"].is_null() && read.json()["request_id"].is_string());
    (read.status, error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_stream_in_the_shape_of_dashscope() {
    let simulator = start().await;
    let mut body = question("echo: ünd 字 🦀 ok", true);
    body["stream_options"] = json!({ "include_usage": true });
    body["enable_thinking"] = json!(true);
    body["odd"] = json!({ "kept": [1] });
    let request = to_portal(&simulator, &body).bearer_auth(token(&simulator, "cleo"));
    let request = request.header("user-agent", "QwenCode/0.14.1 (linux; x64)").header("x-dashscope-cachecontrol", "on");
    let read = read(request.send().await.unwrap()).await;
    assert_eq!((read.status, read.effective, read.set_cookies.len()), (200, 0, 0));
    assert!(read.content_type.starts_with("text/event-stream") && read.text.ends_with("data: [DONE]\n\n"));
    assert_eq!(text_of(&read, "content"), "ünd 字 🦀 ok");
    assert!(text_of(&read, "reasoning_content").contains("simulator"));
    let frames = frames(&read.text);
    let id = frames[0]["id"].as_str().unwrap();
    assert!(id.starts_with("chatcmpl-") && frames.iter().all(|frame| frame["id"] == id));
    assert!(frames.iter().all(|frame| frame["object"] == "chat.completion.chunk" && frame["model"] == "coder-model"));
    assert_eq!(frames[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(frames[1]["choices"][0]["delta"].get("role").is_none());
    let [.., finish, usage] = &frames[..] else { panic!() };
    assert_eq!((&finish["choices"][0]["finish_reason"], &finish["usage"]), (&json!("stop"), &Value::Null));
    assert_eq!(usage["choices"], json!([]));
    let figures = &usage["usage"];
    let sum = figures["prompt_tokens"].as_u64().unwrap() + figures["completion_tokens"].as_u64().unwrap();
    assert_eq!(figures["total_tokens"], sum);
    assert!(figures["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 0);

    let is_over = |request: &RecordedRequest| request.is("cleo", Endpoint::PortalChat) && request.ended.is_some();
    let record = simulator.record().wait_until(is_over, SOON).await.unwrap();
    assert_eq!(record.body, Some(body));
    assert_eq!(record.header("user-agent"), Some("QwenCode/0.14.1 (linux; x64)"));
    assert_eq!(record.header("x-dashscope-cachecontrol"), Some("on"));
    assert_eq!((record.finish_sent, record.response_id.as_deref()), (true, Some(id)));
    let without = ask(&simulator, &question("echo: x", true)).await;
    assert!(!without.text.contains("prompt_tokens"));
    assert_eq!((simulator.record().counts().api_chats, simulator.record().violations()), (2, Vec::new()));
}

#[tokio::test]
async fn a_whole_answer() {
    let simulator = start().await;
    let answer = ask(&simulator, &question("echo: all of it", false)).await.json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["message"], json!({ "role": "assistant", "content": "all of it" }));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 0);
    let mut body = question("tell me a lot", false);
    body["max_tokens"] = json!(5);
    body["enable_thinking"] = json!(true);
    let answer = ask(&simulator, &body).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert!(answer["choices"][0]["message"]["reasoning_content"].is_string());
    let parts = json!([{ "type": "text", "text": "look" }, { "type": "image_url", "image_url": { "url": "data:," } }]);
    let body = json!({ "model": "vision-model", "messages": [{ "role": "user", "content": parts }] });
    let answer = ask(&simulator, &body).await.json();
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().starts_with("Pictures that came along: 1."));
    simulator.script().queue(None, Endpoint::PortalChat, ScriptedReply::answer("torn").cut_at_byte(9, CutHow::Fin));
    let torn = ask(&simulator, &question("x", false)).await.text;
    assert!(torn.len() == 9 + TORN.len() && torn.ends_with(TORN), "{torn}");
}

#[tokio::test]
async fn tools_are_called_when_the_prompt_says_so() {
    let simulator = start().await;
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": {} } });
    let mut body = question("call: weather {\"city\": \"Oslo\"}\ncall: unknown\ncall: clock", true);
    body["tools"] = json!([tool("weather"), tool("clock")]);
    let read = ask(&simulator, &body).await;
    let frames = frames(&read.text);
    let pieces = frames.iter().filter_map(|frame| frame["choices"][0]["delta"]["tool_calls"][0].as_object());
    let pieces: Vec<_> = pieces.collect();
    let names: Vec<_> = pieces.iter().filter_map(|piece| piece["function"]["name"].as_str()).collect();
    assert_eq!(names, ["weather", "clock"]);
    let arguments = pieces.iter().filter(|piece| piece["index"] == 0);
    let arguments: String = arguments.map(|piece| piece["function"]["arguments"].as_str().unwrap()).collect();
    assert_eq!(arguments, "{\"city\": \"Oslo\"}");
    assert!(pieces[0]["id"].as_str().unwrap().starts_with("call_") && pieces[1]["id"] == "");
    assert_eq!(frames.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");

    body["stream"] = json!(false);
    let answer = ask(&simulator, &body).await.json();
    let calls = &answer["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls[1]["function"], json!({ "name": "clock", "arguments": "{}" }));
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    body["tool_choice"] = json!("none");
    let answer = ask(&simulator, &body).await.json();
    assert!(answer["choices"][0]["message"].get("tool_calls").is_none());
    body["tool_choice"] = json!({ "type": "function", "function": { "name": "clock" } });
    body["messages"][0]["content"] = json!("hello");
    let answer = ask(&simulator, &body).await.json();
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "clock");
    body["messages"] = json!([
        { "role": "user", "content": "call: clock" },
        { "role": "assistant", "content": null, "tool_calls": calls },
        { "role": "tool", "tool_call_id": calls[1]["id"], "content": "noon" },
    ]);
    let answer = ask(&simulator, &body).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "The tool said: noon");

    let call = ToolCallScript { name: "x".into(), arguments: "{broken".into(), id: Some("".into()) };
    let reply = ScriptedReply::answer("first").with_chat(|chat| {
        chat.tool_calls = Some(vec![call]);
        chat.finish = Some("stop".into());
    });
    let read = ask_scripted(&simulator, reply).await;
    assert!(read.text.contains("{br") && text_of(&read, "content") == "first");
}

#[tokio::test]
async fn tokens_are_checked() {
    let simulator = start().await;
    let body = question("echo: x", false);
    let good = token(&simulator, "cleo");
    simulator.script().queue(None, Endpoint::PortalChat, ScriptedReply::answer("unused"));
    let refused = |request: RequestBuilder| async {
        let read = read(request.send().await.unwrap()).await;
        assert_eq!(read.json()["error"]["type"], "invalid_request_error");
        error(&read)
    };
    let invalid = (401, "invalid_api_key".to_owned(), "invalid access token or token expired".to_owned());
    assert_eq!(refused(to_portal(&simulator, &body)).await, invalid);
    assert_eq!(refused(to_portal(&simulator, &body).bearer_auth("unknown")).await, invalid);
    simulator.oauth().expire("cleo");
    assert_eq!(refused(to_portal(&simulator, &body).bearer_auth(good)).await, invalid);
    assert_eq!((simulator.script().left(), simulator.record().violations().len()), (1, 0));
    assert_eq!(refused(to_portal(&simulator, &body).bearer_auth(simulator.keys().secret("kay"))).await, invalid);
    assert!(simulator.record().violations()[0].contains("a static key sent to the portal"));
    let wrong = with_key(&simulator, "chat/completions", &token(&simulator, "dora"), &body).await;
    assert_eq!(error(&wrong).2, "Incorrect API key provided.");
    assert!(simulator.record().violations()[1].contains("an OAuth token sent"));
}

#[tokio::test]
async fn the_portal_has_moods() {
    let simulator = start().await;
    let set = |change: fn(&mut PortalScript)| {
        let mut portal = PortalScript::default();
        change(&mut portal);
        simulator.oauth().set_portal(portal);
    };
    let body = question("echo: x", false);
    set(|portal| portal.free_tier_closed = true);
    assert_eq!(error(&ask(&simulator, &body).await).1, "invalid_api_key");
    set(|portal| portal.needs_system_parts = true);
    assert_eq!(error(&ask(&simulator, &body).await), (400, "invalid_parameter_error".into(), "bad request".into()));
    let mut dressed = body.clone();
    dressed["messages"] = json!([
        { "role": "system", "content": [{ "type": "text", "text": "", "cache_control": { "type": "ephemeral" } }] },
        { "role": "user", "content": "echo: x" },
    ]);
    assert_eq!(ask(&simulator, &dressed).await.status, 200);
    dressed["messages"][0]["content"] = json!("a text");
    assert_eq!(ask(&simulator, &dressed).await.status, 400);
    set(|portal| portal.models = vec!["coder-model".into()]);
    assert_eq!(ask(&simulator, &body).await.status, 200);
    let mut other = body.clone();
    other["model"] = json!("qwen3.6-plus");
    assert_eq!(error(&ask(&simulator, &other).await).2, "model not supported");
    set(|portal| portal.needs_identity = true);
    assert_eq!(error(&ask(&simulator, &body).await).1, "insufficient_quota");
    let identity = to_portal(&simulator, &body)
        .header("user-agent", "QwenCode/0.14.1 (linux; x64)")
        .header("x-dashscope-useragent", "QwenCode/0.14.1 (linux; x64)")
        .header("x-dashscope-authtype", "qwen-oauth");
    assert_eq!(identity.bearer_auth(token(&simulator, "cleo")).send().await.unwrap().status(), 200);

    set(|_| {});
    for bad in [json!({}), json!({ "model": "x", "messages": [] }), json!({ "messages": [{}] })] {
        assert_eq!(ask(&simulator, &bad).await.status, 400, "{bad}");
    }
    let models = || async {
        let url = format!("{}/models", simulator.urls().portal);
        read(Client::new().get(url).bearer_auth(token(&simulator, "cleo")).send().await.unwrap()).await
    };
    assert_eq!(models().await.status, 404);
    set(|portal| portal.lists_models = true);
    assert_eq!(models().await.json()["data"][0]["id"], "coder-model");
    assert_eq!(simulator.record().requests_to(Endpoint::PortalModels).len(), 2);
}

#[tokio::test]
async fn every_known_error() {
    let simulator = start().await;
    for (failure, status, code, part) in [
        (ApiFailure::InvalidToken, 401, "invalid_api_key", "invalid access token or token expired"),
        (ApiFailure::IncorrectKey, 401, "invalid_api_key", "Incorrect API key provided"),
        (ApiFailure::Quota, 429, "insufficient_quota", "Free allocated quota exceeded."),
        (ApiFailure::Quota403, 403, "insufficient_quota", "Free allocated quota exceeded."),
        (ApiFailure::CurrentQuota, 429, "insufficient_quota", "You exceeded your current quota"),
        (ApiFailure::FreeTierOnly, 403, "AllocationQuota.FreeTierOnly", "free tier of the model"),
        (ApiFailure::Throttled("7".into()), 429, "Throttling.RateQuota", "rate limit"),
        (ApiFailure::RateLimited(String::new()), 429, "rate_limit_exceeded", "throttling triggered"),
        (ApiFailure::Window(PlanWindow::Week), 429, "Throttling.AllocationQuota", "week allocated quota exceeded"),
        (ApiFailure::InvalidParameter, 400, "invalid_parameter_error", "bad request"),
        (ApiFailure::ContextOverflow(9), 400, "InvalidParameter", "Range of input length should be [1, 9]"),
        (ApiFailure::ModelNotSupported, 400, "invalid_parameter_error", "model not supported"),
        (ApiFailure::ModelNotFound, 404, "model_not_found", "does not exist"),
        (ApiFailure::Inspection, 400, "data_inspection_failed", "inappropriate"),
        (ApiFailure::Server(502), 502, "internal_error", "internal error"),
    ] {
        let read = ask_scripted(&simulator, ScriptedReply::api(failure.clone())).await;
        let (found, found_code, message) = error(&read);
        assert_eq!((found, &*found_code), (status, code), "{failure:?}");
        assert!(message.contains(part), "{message}");
    }
    let plain = ask_scripted(&simulator, ScriptedReply::api(ApiFailure::StreamTimeout)).await;
    assert_eq!((plain.status, &*plain.text), (504, "stream timeout"));
    let json = ask_scripted(&simulator, ScriptedReply::api(ApiFailure::StreamTimeoutJson)).await;
    assert_eq!((json.status, &*json.text, &*json.content_type), (504, "\"stream timeout\"", "application/json"));
    let other = ApiErrorScript::new(418, "teapot", "short").form(ApiErrorForm::WithId);
    let other = ask_scripted(&simulator, ScriptedReply::api(ApiFailure::Other(other))).await;
    assert!(other.json()["id"].as_str().unwrap().starts_with("chatcmpl-") && other.status == 418);
    let flat = ApiFailure::Other(ApiErrorScript::new(400, "Arrearage", "pay").form(ApiErrorForm::Flat));
    assert_eq!(ask_scripted(&simulator, ScriptedReply::api(flat)).await.json()["code"], "Arrearage");
    let html = StatusScript { code: 503, retry_after: vec!["9".into()], body: BodyForm::Html, text: None };
    let html = ask_scripted(&simulator, ScriptedReply::failing(ScriptedFailure::Status(html))).await;
    assert!(html.status == 503 && html.text.starts_with("<html>"));
    simulator.script().queue(None, Endpoint::PortalChat, ScriptedReply::api(ApiFailure::Throttled("7".into())));
    let request = to_portal(&simulator, &question("x", true)).bearer_auth(token(&simulator, "dora"));
    assert_eq!(request.send().await.unwrap().headers()["retry-after"], "7");
}

#[tokio::test]
async fn streams_go_wrong_as_scripted() {
    let simulator = start().await;
    let reply = || ScriptedReply::pieces(["äö", "cd"]);
    for (how, is_torn) in [(CutHow::Fin, true), (CutHow::Reset, true), (CutHow::CleanEnd, false)] {
        let read = ask_scripted(&simulator, reply().cut_after(2, how)).await;
        assert_eq!(read.text.ends_with(TORN), is_torn, "{how:?}");
        assert!(how == CutHow::Reset || text_of(&read, "content") == "äö");
        assert!(!read.text.contains("[DONE]"));
        let number = simulator.record().requests_to(Endpoint::PortalChat).last().unwrap().number;
        let is_over = |request: &RecordedRequest| request.number == number && request.ended.is_some();
        let record = simulator.record().wait_until(is_over, SOON).await.unwrap();
        let end = if is_torn { EndedHow::Torn } else { EndedHow::Completed };
        assert_eq!(record.ended.unwrap().how, end);
    }
    let broken =
        StreamError { after: 2, code: "Throttling".into(), details: "too many".into(), ..StreamError::default() };
    let read = ask_scripted(&simulator, reply().breaking(broken)).await;
    assert_eq!(frames(&read.text)[2]["error"]["code"], "Throttling");
    assert!(!read.text.contains("[DONE]"));

    let read = ask_scripted(&simulator, reply().with_chat(|chat| chat.lacks_done = true)).await;
    assert!(read.text.contains("\"stop\"") && !read.text.contains("[DONE]"));
    let read = ask_scripted(&simulator, reply().ending(End::Unfinished)).await;
    assert!(text_of(&read, "content") == "äöcd" && !read.text.contains("\"stop\"") && !read.text.contains("[DONE]"));
    let read = ask_scripted(&simulator, reply().with_stream(|stream| stream.content = Content::Created)).await;
    assert_eq!(frames(&read.text).len(), 1);

    let read = ask_scripted(&simulator, reply().with_chat(|chat| chat.chunks = ChunkForm::Bare)).await;
    let bare = frames(&read.text);
    assert!(bare.iter().all(|frame| frame.get("id").is_none() && frame.get("created").is_none()));
    assert!(!read.text.contains("role") && text_of(&read, "content") == "äöcd");
    let read = ask_scripted(&simulator, reply().with_chat(|chat| chat.chunks = ChunkForm::RoleOnEach)).await;
    assert!(frames(&read.text).iter().all(|frame| frame["choices"][0]["delta"]["role"] == "assistant"));
    let read = ask_scripted(&simulator, reply().with_chat(|chat| chat.usage_chunk = UsageChunk::Always)).await;
    assert!(read.text.contains("prompt_tokens"));

    let odd = reply().inserting(1, Inserted::Comment("here".into())).packets(Packets::Size(3));
    let odd = odd.with_stream(|stream| stream.line_ending = LineEnding::Crlf);
    let read = ask_scripted(&simulator, odd).await;
    assert!(read.text.contains(": here\r\n\r\n") && read.text.ends_with("data: [DONE]\r\n\r\n"));
    assert!(read.text.contains("äö"));
}

#[tokio::test]
async fn streams_stall_and_clients_leave() {
    let simulator = start().await;
    simulator.script().queue(None, Endpoint::PortalChat, ScriptedReply::answer("abc").ending(End::Stalled));
    let request = to_portal(&simulator, &question("x", true)).bearer_auth(token(&simulator, "cleo"));
    let mut response = request.send().await.unwrap();
    response.chunk().await.unwrap();
    assert_eq!(simulator.record().counts().open_streams, 1);
    drop(response);
    let left = |request: &RecordedRequest| request.client_closed_at().is_some();
    assert!(simulator.record().wait_until(left, SOON).await.unwrap().is("cleo", Endpoint::PortalChat));
    assert_eq!(simulator.record().counts().open_streams, 0);

    simulator.script().queue(None, Endpoint::PortalChat, ScriptedReply::failing(ScriptedFailure::Silence));
    let request = to_portal(&simulator, &question("x", true)).bearer_auth(token(&simulator, "cleo"));
    let mut response = request.send().await.unwrap();
    let more = tokio::time::timeout(Duration::from_millis(100), response.chunk()).await;
    assert!(more.is_err());
}

#[tokio::test]
async fn keys_open_their_own_door() {
    let planned = KeyScript { chats_per_window: Some(2), key: Some("sk-sp-0123".into()), ..KeyScript::new("plan") };
    let revoked = KeyScript { revoked: true, ..KeyScript::new("gone") };
    let scenario = Scenario::with_keys([KeyScript::new("kay"), planned, revoked]);
    let simulator = Simulator::start(scenario).await.unwrap();
    let key = simulator.keys().secret("kay");
    assert!(key.starts_with("sk-") && key.len() == 35 && simulator.keys().secret("unknown").is_empty());
    assert!(simulator.record().secrets().contains(&key));
    let ask = |key: String, body: Value| {
        let simulator = &simulator;
        async move { with_key(simulator, "chat/completions", &key, &body).await }
    };
    let answer = ask(key.clone(), question("echo: by key", true)).await;
    assert_eq!(text_of(&answer, "content"), "by key");
    assert_eq!(simulator.record().requests_to(Endpoint::KeyChat)[0].account.as_deref(), Some("kay"));
    for wrong in ["sk-wrong".to_owned(), simulator.keys().secret("gone")] {
        let (status, _, message) = error(&ask(wrong, question("x", false)).await);
        assert_eq!((status, &*message), (401, "Incorrect API key provided."));
    }
    assert_eq!(simulator.keys().secret("plan"), "sk-sp-0123");
    assert_eq!(ask("sk-sp-0123".into(), json!({})).await.status, 400);
    for expected in [200, 200, 429] {
        let read = ask("sk-sp-0123".into(), question("echo: x", false)).await;
        assert_eq!(read.status, expected);
        assert!(expected == 200 || error(&read).2 == "hour allocated quota exceeded.");
    }
    simulator.script().queue(Some("kay"), Endpoint::KeyChat, ScriptedReply::api(ApiFailure::FreeTierOnly));
    assert_eq!(ask(key.clone(), question("x", false)).await.status, 403);
    let url = format!("{}/models", simulator.urls().keys);
    let models = read(Client::new().get(&url).bearer_auth(&key).send().await.unwrap()).await.json();
    assert!(models["object"] == "list" && models["data"].as_array().unwrap().len() > 3);
    assert_eq!(Client::new().get(url).send().await.unwrap().status(), 401);
    assert_eq!(simulator.record().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn embeddings_are_always_the_same() {
    let simulator = start().await;
    let key = simulator.keys().secret("kay");
    let embed = |body: Value| {
        let (simulator, key) = (&simulator, &key);
        async move { with_key(simulator, "embeddings", key, &body).await }
    };
    let numbers = |value: &Value| -> Vec<f32> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
    };
    let one = embed(json!({ "model": "text-embedding-v4", "input": "a lighthouse" })).await.json();
    assert_eq!((&one["object"], &one["model"]), (&json!("list"), &json!("text-embedding-v4")));
    assert_eq!(one["usage"], json!({ "prompt_tokens": 3, "total_tokens": 3 }));
    let vector = numbers(&one["data"][0]["embedding"]);
    assert_eq!(vector.len(), 64);
    assert!((vector.iter().map(|number| number * number).sum::<f32>() - 1.0).abs() < 1e-4);
    let body = json!({ "model": "text-embedding-v4", "input": ["x", "a lighthouse"], "encoding_format": "base64" });
    let two = embed(body).await.json();
    assert_eq!(two["data"][1]["index"], 1);
    let bytes = STANDARD.decode(two["data"][1]["embedding"].as_str().unwrap()).unwrap();
    let same: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(same, vector);
    let short = embed(json!({ "model": "m", "input": "x", "dimensions": 128 })).await.json();
    assert_eq!(short["data"][0]["embedding"].as_array().unwrap().len(), 128);
    for (body, part) in [
        (json!({ "input": "x" }), "model parameter"),
        (json!({ "model": "m" }), "input must be"),
        (json!({ "model": "m", "input": [1, 2] }), "input must be"),
        (json!({ "model": "m", "input": [] }), "Range of input"),
        (json!({ "model": "m", "input": vec!["x"; 11] }), "batch size is invalid"),
        (json!({ "model": "m", "input": "x", "dimensions": 0 }), "dimensions"),
        (json!({ "model": "m", "input": "x", "encoding_format": "hex" }), "encoding_format"),
    ] {
        let read = embed(body.clone()).await;
        let (status, code, message) = error(&read);
        assert_eq!((status, &*code), (400, "InvalidParameter"), "{body}");
        assert!(message.contains(part), "{message}");
    }
    simulator.script().queue(None, Endpoint::KeyEmbeddings, ScriptedReply::api(ApiFailure::Quota));
    assert_eq!(embed(json!({ "model": "m", "input": "x" })).await.status, 429);
    assert_eq!(simulator.record().requests_to(Endpoint::KeyEmbeddings).len(), 11);
}

#[tokio::test]
async fn a_file_can_say_all_of_this() {
    let text = r#"{
      "pace_ms": 0,
      "oauth_accounts": [
        { "name": "eve", "access_token_seconds": 60, "refresh_rotation": "absent", "resource_url": { "other": "x.example" },
          "replies": {
            "refresh_token": [
              { "token": { "expires_in": 5, "refresh_token": "new", "resource_url": "absent", "body": "lost" } },
              { "fail": { "oauth": { "rate_limited": "9" } } } ],
            "device_token": [ { "fail": { "oauth": "slow_down_429" } }, { "fail": { "oauth": { "pending_ok": {} } } } ],
            "portal_chat": [
              { "fail": { "api": "quota_403" } }, { "fail": { "api": { "context_overflow": 1000000 } } },
              { "fail": { "api": { "other": { "status": 418, "code": "teapot", "form": "flat" } } } },
              { "stream": { "pieces": ["a"], "cut": { "after": 2 } }, "chat": { "chunks": "bare", "lacks_done": true } }
            ] } } ],
      "keys": [ { "name": "sam", "key": "sk-sam", "chats_per_window": 3 } ],
      "portal": { "needs_system_parts": true, "models": ["coder-model"] },
      "replies": { "device_code": [ { "device": { "interval": null, "polls": ["slow_down"], "approval": "denied" } } ] },
      "defaults": { "key_chat": { "fail": { "api": { "window": "month" } } } }
    }"#;
    let simulator = Simulator::start(Scenario::from_json(text).unwrap()).await.unwrap();
    assert_eq!((simulator.oauth().names(), simulator.keys().names()), (vec!["eve".to_owned()], vec!["sam".to_owned()]));
    let read = with_key(&simulator, "chat/completions", "sk-sam", &question("x", false)).await;
    assert_eq!(error(&read).2, "month allocated quota exceeded.");
    assert!(simulator.oauth().credentials("eve", TokenLife::Fresh).contains("\"resource_url\": \"x.example\""));
}
