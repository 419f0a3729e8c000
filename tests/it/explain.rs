//! `GET /admin/requests` and `/admin/events`: what happened to a request, without anything that it says.

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{AccountScript, Endpoint, Era, ErrorScript, Scenario, ScriptedReply};

use crate::support::app::{KEY, PATIENCE, Setup, TestApp, error_of, json_of, question, spawn};
use crate::support::files::{image_part, with_parts};
use crate::support::oracle::crew;

const ADMIN_KEY: &str = "sk-of-the-owner";

async fn started(accounts: usize) -> TestApp {
    Setup::default().with("ADMIN_SECRET_KEY", ADMIN_KEY).start(Simulator::start(crew(accounts)).await.unwrap()).await
}

async fn look(app: &TestApp, path: &str) -> Response {
    app.client.get(app.url(path)).bearer_auth(ADMIN_KEY).send().await.unwrap()
}

/// The list, once this many requests have ended: the record is closed just after the caller has the last byte.
async fn recent(app: &TestApp, count: usize) -> Vec<Value> {
    let listed = async {
        loop {
            let list = json_of(look(app, "/admin/requests").await).await;
            let recent = list["recent"].as_array().unwrap();
            if recent.len() >= count {
                return recent.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, listed).await.expect("the requests are listed")
}

fn steps(explained: &Value) -> Vec<&str> {
    explained["timeline"].as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_answered_request_is_told_with_its_account_and_tokens() {
    let app = started(2).await;
    let mut body = question("echo: a secret question");
    body["temperature"] = json!(0.3);
    let answer = app.post("/v1/chat/completions", &body).header("x-request-id", "mine-1").send().await.unwrap();
    let usage = json_of(answer).await["usage"].clone();
    let requests = recent(&app, 1).await;
    let request = &requests[0];
    for (name, expected) in [
        ("id", json!("mine-1")),
        ("route", json!("/v1/chat/completions")),
        ("key", json!("key-1")),
        ("asked_for", json!("answer")),
        ("account", json!("identity-1")),
        ("kind", json!("web")),
        ("stream", json!(false)),
        ("status", json!(200)),
        ("outcome", json!("ok")),
        ("attempts", json!(1)),
        ("prompt_tokens", usage["prompt_tokens"].clone()),
        ("completion_tokens", usage["completion_tokens"].clone()),
    ] {
        assert_eq!(request[name], expected, "{name} of {request}");
    }
    assert!(request["first_token_ms"].as_u64() <= request["total_ms"].as_u64(), "{request}");
    let text = look(&app, "/admin/requests/mine-1").await.text().await.unwrap();
    assert!(!text.contains("secret question"), "{text}");
    let explained: Value = serde_json::from_str(&text).unwrap();
    assert!(steps(&explained).starts_with(&["ignored", "chosen"]), "{explained}");
    assert_eq!(explained["timeline"][0]["value"], "temperature", "{explained}");
    assert!(steps(&explained).ends_with(&["first_content"]) || steps(&explained).ends_with(&["answered"]));
    assert_eq!(explained["notes"][0], json!({"name": "ignored", "value": "temperature"}));
}

#[tokio::test]
async fn a_failover_is_told_step_by_step() {
    let app = started(3).await;
    let busy = ErrorScript { code: "RateLimited".to_owned(), num: Some(2), ..ErrorScript::default() };
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::error_with(busy));
    let response = app.post("/v1/chat/completions", &question("echo: x")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    // The first account rests now, and the next request passes it over.
    app.ask("echo: y").await;
    let requests = recent(&app, 2).await;
    let id = requests[1]["id"].as_str().unwrap();
    let explained = json_of(look(&app, &format!("/admin/requests/{id}")).await).await;
    let failed = explained["timeline"].as_array().unwrap().iter().find(|entry| entry["what"] == "failed").unwrap();
    assert_eq!(
        (&failed["account"], &failed["class"], &failed["next"], &failed["asked"]),
        (&json!("identity-1"), &json!("quota_exhausted"), &json!("next_identity"), &json!(true))
    );
    assert_eq!((&requests[1]["attempts"], &requests[1]["account"]), (&json!(2), &json!("identity-2")));
    assert!(requests[1]["advice"]["en"].as_str().unwrap().contains("another attempt"), "{}", requests[1]);
    let id = requests[0]["id"].as_str().unwrap();
    let explained = json_of(look(&app, &format!("/admin/requests/{id}")).await).await;
    let passed = &explained["timeline"][0];
    assert_eq!(
        (&passed["what"], &passed["account"], &passed["reason"]),
        (&json!("passed_over"), &json!("identity-1"), &json!("quota_exhausted"))
    );
}

#[tokio::test]
async fn refused_requests_are_told_under_the_id_in_their_error() {
    let app = started(1).await;
    let wrong_key =
        app.client.post(app.url("/v1/chat/completions")).bearer_auth("wrong").body("{}").send().await.unwrap();
    assert_eq!(wrong_key.status(), 401);
    let error = json_of(wrong_key).await;
    let id =
        error["error"]["request_id"].as_str().or(error["request_id"].as_str()).expect("the error names it").to_owned();
    let broken = app.post("/v1/messages", &json!("x")).body("{").send().await.unwrap();
    assert_eq!(broken.status(), 400);
    // What asks no model is not kept.
    assert_eq!(app.get("/v1/models").send().await.unwrap().status(), 200);
    let requests = recent(&app, 2).await;
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert_eq!((&requests[1]["id"], &requests[1]["outcome"]), (&json!(id), &json!("invalid_api_key")));
    assert_eq!((&requests[1]["key"], &requests[1]["account"]), (&Value::Null, &Value::Null));
    assert_eq!((&requests[0]["outcome"], &requests[0]["key"]), (&json!("invalid_json"), &json!("key-1")));
    let failed = json_of(look(&app, "/admin/requests?class=failed&key=key-1").await).await;
    assert_eq!(failed["recent"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn wrong_questions_get_plain_words() {
    let app = started(1).await;
    for (path, status, code) in [
        ("/admin/requests?limit=0", 400, "invalid_value"),
        ("/admin/requests?limit=many", 400, "invalid_value"),
        ("/admin/requests?colour=red", 400, "invalid_value"),
        ("/admin/requests/never-made", 404, "request_not_found"),
    ] {
        let response = look(&app, path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(json_of(response).await["error"]["code"], code, "{path}");
    }
    let response = app.get("/admin/requests").send().await.unwrap();
    assert_eq!(response.status(), 401, "a caller is no owner");
}

#[tokio::test]
async fn who_looks_on_hears_of_a_request_when_it_begins_and_when_it_ends() {
    let app = started(1).await;
    let mut events = look(&app, "/admin/events").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let silent = ScriptedReply::default().with_stream(|stream| stream.first_event_ms = 600_000);
    app.simulator.script().set_default(None, Endpoint::Completions, Some(silent));
    let asking = app.post("/v1/chat/completions", &question("echo: x")).header("x-request-id", "seen").send();
    let asking = spawn(asking);
    let mut heard = String::new();
    while !heard.contains("qwen3-max") {
        let chunk = tokio::time::timeout(PATIENCE, events.chunk()).await.unwrap().unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(heard.contains("event: request") && heard.contains("\"outcome\":\"open\""), "{heard}");
    let open = json_of(look(&app, "/admin/requests").await).await;
    assert_eq!((&open["open"][0]["id"], &open["open"][0]["status"]), (&json!("seen"), &Value::Null));
    assert_eq!(json_of(look(&app, "/admin/requests/seen").await).await["outcome"], "open");
    asking.abort();
    while !heard.contains("\"outcome\":\"caller_left\"") {
        let chunk = tokio::time::timeout(PATIENCE, events.chunk()).await.unwrap().unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    recent(&app, 1).await;
    assert_eq!(json_of(look(&app, "/admin/requests").await).await["open"], json!([]));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_those_who_look_on() {
    let app = Setup::default().with("ADMIN_SECRET_KEY", ADMIN_KEY).with("SHUTDOWN_TIMEOUT", "10m");
    let app = app.start(Simulator::start(crew(1)).await.unwrap()).await;
    let mut events = look(&app, "/admin/events").await;
    let mut second = look(&app, "/admin/events").await;
    for events in [&mut events, &mut second] {
        tokio::time::timeout(PATIENCE, events.chunk()).await.unwrap().unwrap().unwrap();
    }
    app.begin_stop();
    for mut events in [events, second] {
        while let Some(chunk) = tokio::time::timeout(PATIENCE, events.chunk()).await.unwrap().unwrap() {
            assert!(!chunk.is_empty());
        }
    }
    tokio::time::timeout(PATIENCE, app.stop()).await.unwrap();
}

#[tokio::test]
async fn who_looks_on_hears_of_accounts_when_they_change() {
    let app = started(2).await;
    let mut events = look(&app, "/admin/events").await;
    let mut heard = String::new();
    while !heard.contains("\"healthy\":2") {
        let chunk = tokio::time::timeout(PATIENCE, events.chunk()).await.unwrap().unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(heard.contains("event: accounts"), "{heard}");
    let busy = ErrorScript { code: "RateLimited".to_owned(), num: Some(2), ..ErrorScript::default() };
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::error_with(busy));
    app.ask("echo: x").await;
    while !heard.contains("\"reason\":\"quota_exhausted\"") {
        let chunk = tokio::time::timeout(PATIENCE, events.chunk()).await.unwrap().unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[tokio::test]
async fn a_caller_who_leaves_is_told_apart_and_paid_for() {
    let app = started(1).await;
    let mut body = question("count to a thousand");
    body["stream"] = json!(true);
    let stall = ScriptedReply::numbered(60).pausing(8, Duration::from_secs(600));
    app.simulator.script().set_default(None, Endpoint::Completions, Some(stall));
    let mut response = app.post("/v1/chat/completions", &body).send().await.unwrap();
    let mut heard = String::new();
    while !heard.contains("content\":\"") {
        heard.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
    }
    drop(response);
    let request = recent(&app, 1).await.remove(0);
    assert_eq!((&request["outcome"], &request["stream"]), (&json!("caller_left"), &json!(true)));
    assert!(request["completion_tokens"].as_u64().unwrap() > 0, "{request}");
}

/// Refused requests, too: each is one.
#[tokio::test]
async fn exactly_the_last_500_are_kept() {
    let app = started(1).await;
    let send = async |number: usize| {
        let (path, body) = match number % 3 {
            0 => ("/v1/messages", "{"),
            1 => ("/v1/chat/completions", "{}"),
            _ => ("/v1/images/generations", "{\"prompt\": 1}"),
        };
        let request = app.client.post(app.url(path)).bearer_auth(KEY).header("x-request-id", format!("r-{number}"));
        let response = request.header("content-type", "application/json").body(body).send().await.unwrap();
        assert_eq!(response.status(), 400, "{number}");
        error_body(response).await;
    };
    for number in 0..500 {
        send(number).await;
    }
    let ids = |requests: &[Value]| -> Vec<String> {
        requests.iter().map(|request| request["id"].as_str().unwrap().to_owned()).collect()
    };
    let newest_first = |numbers: std::ops::Range<usize>| -> Vec<String> {
        numbers.rev().map(|number| format!("r-{number}")).collect()
    };
    assert_eq!(ids(&recent(&app, 500).await), newest_first(0..500));
    for number in 500..507 {
        send(number).await;
    }
    let listed = async {
        loop {
            let kept = ids(&recent(&app, 500).await);
            if kept[0] == "r-506" {
                return kept;
            }
            tokio::task::yield_now().await;
        }
    };
    let kept = tokio::time::timeout(PATIENCE, listed).await.expect("the last one is listed");
    assert_eq!(kept, newest_first(7..507));
    assert_eq!(look(&app, "/admin/requests/r-7").await.status(), 200);
    let gone = look(&app, "/admin/requests/r-6").await;
    assert_eq!(gone.status(), 404);
    assert!(json_of(gone).await["error"]["message"].as_str().unwrap().contains("The last 500 are"));
    let few = json_of(look(&app, "/admin/requests?limit=3").await).await;
    assert_eq!(ids(few["recent"].as_array().unwrap()), newest_first(504..507));
}

/// The id that a caller is told in the body is the one of the header and of the list, in each dialect and in a stream
/// that fails.
#[tokio::test]
async fn the_id_in_the_error_body_is_the_one_in_the_list() {
    let app = started(1).await;
    app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::status(500)));
    let mut streamed = question("x");
    streamed["stream"] = json!(true);
    let mut told = Vec::new();
    for (path, body) in [
        ("/v1/chat/completions", question("x")),
        ("/v1/chat/completions", streamed),
        (
            "/v1/messages",
            json!({"model": "qwen3-max", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}),
        ),
        ("/v1/responses", json!({"model": "qwen3-max", "input": "x"})),
        ("/v1/images/generations", json!({"prompt": "x"})),
        ("/v1/embeddings", json!({"model": "text-embedding-v4", "input": "x"})),
        ("/v1/videos", json!({"prompt": "x", "seconds": "5000"})),
    ] {
        let response = app.post(path, &body).send().await.unwrap();
        assert!(response.status().as_u16() >= 400, "{path}");
        told.push((path, error_body(response).await));
    }
    let requests = recent(&app, told.len()).await;
    for (request, (path, id)) in requests.iter().rev().zip(&told) {
        assert_eq!((&request["id"], &request["route"]), (&json!(id), &json!(path)), "{requests:?}");
        let explained = json_of(look(&app, &format!("/admin/requests/{id}")).await).await;
        assert_eq!(explained["id"], json!(id));
        let advice = &explained["advice"];
        assert!(advice["en"].as_str().is_some_and(|en| en.ends_with('.')), "{advice}");
        assert!(advice["zh"].as_str().is_some_and(|zh| zh.ends_with('。')), "{advice}");
    }
}

/// The id in the body of a failure, which is the one of its header.
async fn error_body(response: Response) -> String {
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body = json_of(response).await;
    assert_eq!(body["request_id"], json!(id), "{body}");
    id
}

#[tokio::test]
async fn shortened_tools_are_told_even_when_the_request_fails() {
    let app = started(1).await;
    app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::status(500)));
    let tool = |place: usize| {
        let property = json!({"type": "string", "description": "prose ".repeat(100)});
        let parameters = json!({"type": "object", "properties": {"x": property}});
        let name = format!("tool_{place}");
        json!({"type": "function", "function": {"name": name, "description": "prose ".repeat(200), "parameters": parameters}})
    };
    let mut body = question("Hello");
    (body["tools"], body["seed"]) = ((0..36).map(tool).collect(), json!(7));
    let error = error_of(app.chat(&body).await).await;
    assert_ne!(error["code"], "invalid_value", "{error}");
    let id = recent(&app, 1).await[0]["id"].as_str().unwrap().to_owned();
    let explained = json_of(look(&app, &format!("/admin/requests/{id}")).await).await;
    let timeline = explained["timeline"].as_array().unwrap();
    let of = |what: &str| -> Vec<&Value> {
        timeline.iter().filter(|entry| entry["what"] == what).map(|entry| &entry["value"]).collect()
    };
    assert_eq!((of("ignored"), of("tools_shortened")), (vec![&json!("seed")], vec![&json!("prose")]), "{explained}");
}

#[tokio::test]
async fn renewals_uploads_and_the_queue_are_told_with_their_time() {
    let account = AccountScript::new("bob", Era::B);
    let simulator = Simulator::start(Scenario::with_accounts([account])).await.unwrap();
    simulator.script().queue(None, Endpoint::Refresh, ScriptedReply::default().delayed(Duration::from_millis(300)));
    let setup = Setup::default().with("ADMIN_SECRET_KEY", ADMIN_KEY).with("MAX_IN_FLIGHT", "1");
    let app = setup.with("QUEUE_WAIT", "30s").start(simulator).await;
    // The first one comes before the account's first token, and brings a picture.
    let first = with_parts("qwen3-vl-plus", "What is it?", vec![image_part(1)]);
    let first = app.post("/v1/chat/completions", &first).header("x-request-id", "first").send();
    assert_eq!(first.await.unwrap().status(), 200);
    // The third one waits for the second one, which holds the only place until it is dropped.
    let silent = ScriptedReply::default().with_stream(|stream| stream.first_event_ms = 600_000);
    app.simulator.script().queue(None, Endpoint::Completions, silent);
    let second = spawn(app.post("/v1/chat/completions", &question("x")).header("x-request-id", "second").send());
    app.simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await.unwrap();
    let third = spawn(app.post("/v1/chat/completions", &question("echo: x")).header("x-request-id", "third").send());
    while json_of(look(&app, "/admin/accounts").await).await["summary"]["queued"] != 1 {
        tokio::task::yield_now().await;
    }
    second.abort();
    assert_eq!(third.await.unwrap().unwrap().status(), 200);
    recent(&app, 3).await;
    let entry = async |id: &str, what: &str| {
        let explained = json_of(look(&app, &format!("/admin/requests/{id}")).await).await;
        let found = explained["timeline"].as_array().unwrap().iter().find(|entry| entry["what"] == what).cloned();
        found.unwrap_or_else(|| panic!("no {what} in {explained}"))
    };
    let token = entry("first", "token").await;
    assert_eq!((&token["account"], &token["usable"]), (&json!("identity-1"), &json!(true)), "{token}");
    assert!(token["took_ms"].as_u64().unwrap() > 0, "{token}");
    let files = entry("first", "files").await;
    assert!(files["count"] == 1 && files["took_ms"].is_u64(), "{files}");
    let chosen = entry("third", "chosen").await;
    assert!(chosen["account"] == "identity-1" && chosen["waited_ms"].is_u64(), "{chosen}");
}

/// A video is made in the background; how its request was understood is known at once.
#[tokio::test]
async fn a_video_tells_how_its_request_was_understood() {
    let app = started(1).await;
    let body = json!({"model": "qwen3-max", "prompt": "Waves", "size": "1280x720"});
    let video = app.post("/v1/videos", &body).header("x-request-id", "film").send().await.unwrap();
    assert_eq!(video.status(), 200);
    recent(&app, 1).await;
    let explained = json_of(look(&app, "/admin/requests/film").await).await;
    let ratio = explained["timeline"].as_array().unwrap().iter().find(|entry| entry["what"] == "aspect_ratio");
    assert_eq!(ratio.unwrap_or_else(|| panic!("{explained}"))["value"], "16:9");
}
