//! The list of models, and names that are not in it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{ChallengeForm, Endpoint, RawScript, Scenario, ScriptedFailure, ScriptedReply};

use crate::support::app::{Setup, TestApp, content, error_of, json_of, question};

async fn list(app: &TestApp) -> Vec<Value> {
    let response = app.get("/v1/models").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = json_of(response).await;
    assert_eq!(body["object"], "list");
    body["data"].as_array().unwrap().clone()
}

fn ids(models: &[Value]) -> Vec<&str> {
    models.iter().map(|model| model["id"].as_str().unwrap()).collect()
}

/// A server whose upstream fails to list its models.
async fn without_catalogue(reply: ScriptedReply) -> TestApp {
    let mut scenario = Scenario::default().paced_ms(0);
    scenario.defaults.insert(Endpoint::Models, reply);
    Setup::default().start(Simulator::start(scenario).await.unwrap()).await
}

#[tokio::test]
async fn every_entry_has_what_typed_clients_read() {
    let app = TestApp::quick().await;
    let models = list(&app).await;
    let again = list(&app).await;
    assert_eq!(models, again, "the list changes from call to call");
    for model in &models {
        assert_eq!(model["object"], "model");
        assert!(model["id"].as_str().is_some_and(|id| !id.is_empty()));
        assert!(model["owned_by"].is_string());
        assert!(model["created"].as_u64().is_some_and(|created| created > 0 && u32::try_from(created).is_ok()));
    }
    let unique: HashSet<_> = ids(&models).into_iter().collect();
    assert_eq!(unique.len(), models.len());
}

#[tokio::test]
async fn variants_are_listed_where_the_model_can() {
    let app = TestApp::quick().await;
    let models = list(&app).await;
    let ids: HashSet<_> = ids(&models).into_iter().collect();
    for id in [
        "qwen3-max",
        "qwen3-max-thinking",
        "qwen3-max-search",
        "qwen3.7-max",
        "qwen3.7-max-search",
        "qwen3-coder-plus",
        "qwen3-coder-plus-search",
        "qwen3-235b-thinking",
    ] {
        assert!(ids.contains(id), "{id} is missing: {ids:?}");
    }
    for id in ["qwen3.7-max-thinking", "qwen3-coder-plus-thinking", "qwen3-235b-thinking-thinking"] {
        assert!(!ids.contains(id), "{id} is listed");
    }
}

#[tokio::test]
async fn names_with_several_suffixes_are_used_and_retrieved_but_not_listed() {
    let app = TestApp::quick().await;
    let name = "qwen3-max-thinking-search";
    assert!(!ids(&list(&app).await).contains(&name));
    let one = app.get(&format!("/v1/models/{name}")).send().await.unwrap();
    assert_eq!(json_of(one).await["id"], name);
    let mut body = question("echo: x");
    body["model"] = json!(name);
    assert_eq!(app.chat(&body).await.status(), 200);
}

#[tokio::test]
async fn the_owner_switches_names_of_the_list() {
    let admin = "sk-of-the-owner";
    let setup = || Setup::default().with("ADMIN_SECRET_KEY", admin);
    let app = setup().start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await;
    let switch = async |app: &TestApp, body: Value| {
        let request = app.client.patch(app.url("/admin/models")).bearer_auth(admin);
        request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
    };
    let told = json_of(app.client.get(app.url("/admin/models")).bearer_auth(admin).send().await.unwrap()).await;
    let max = told["models"].as_array().unwrap().iter().find(|model| model["id"] == "qwen3-max").unwrap();
    assert_eq!((&max["kind"], &max["listed"]), (&json!("web"), &json!(true)));
    assert!(max["abilities"].as_array().unwrap().contains(&json!("thinking")), "{max}");
    let variants = max["variants"].as_array().unwrap();
    assert!(variants.contains(&json!({"id": "qwen3-max-thinking", "listed": true})), "{max}");
    assert!(variants.contains(&json!({"id": "qwen3-max-thinking-search", "listed": false})), "{max}");

    let change =
        json!({"listed": {"qwen3-max-thinking-search": true, "qwen3-max-video": false, "qwen3-coder-plus": false}});
    assert_eq!(switch(&app, change).await.status(), 200);
    let check = async |app: &TestApp| {
        let models = list(app).await;
        let ids = ids(&models);
        assert!(ids.contains(&"qwen3-max-thinking-search") && ids.contains(&"qwen3-coder-plus-search"), "{ids:?}");
        assert!(!ids.contains(&"qwen3-max-video") && !ids.contains(&"qwen3-coder-plus"), "{ids:?}");
    };
    check(&app).await;
    let mut body = question("echo: x");
    body["model"] = json!("qwen3-coder-plus");
    assert_eq!(app.chat(&body).await.status(), 200, "what is not listed can be used");
    for wrong in
        [json!({}), json!([]), json!({"listed": {"qwen3-max": 1}}), json!({"listed": {"": true}}), json!({"x": 1})]
    {
        let response = switch(&app, wrong.clone()).await;
        assert_eq!(response.status(), 400, "{wrong}");
        error_of(response).await;
    }
    let (simulator, dir) = app.stop().await;
    let app = setup().in_dir(dir).start(simulator).await;
    check(&app).await;
}

#[tokio::test]
async fn every_listed_name_can_be_asked_for_and_retrieved() {
    let app = TestApp::quick().await;
    for model in list(&app).await {
        let id = model["id"].as_str().unwrap();
        let one = app.get(&format!("/v1/models/{id}")).send().await.unwrap();
        assert_eq!(json_of(one).await, model);
        // Videos take their time, and have tests of their own.
        if id.ends_with("-video") {
            continue;
        }
        let mut body = question("echo: x");
        body["model"] = json!(id);
        let answer = json_of(app.chat(&body).await).await;
        let is_picture = id.ends_with("-image") || id.ends_with("-image_edit");
        let said = if is_picture { "![image](http" } else { "x" };
        assert!(content(&answer).starts_with(said) && answer["model"] == json!(id), "{answer}");
    }
}

#[tokio::test]
async fn an_encoded_name_is_the_same_name() {
    let app = TestApp::quick().await;
    let model = json_of(app.get("/v1/models/qwen3%2Dmax").send().await.unwrap()).await;
    assert_eq!(model["id"], "qwen3-max");
    let response = app.get("/v1/models/web%2Fnothing").send().await.unwrap();
    assert_eq!(response.status(), 404);
    assert!(error_of(response).await["message"].as_str().unwrap().contains("web/nothing"));
}

#[tokio::test]
async fn an_unknown_name_is_not_found() {
    let app = TestApp::quick().await;
    for id in ["gpt-4o", "a/b/c", "qwen3-max%20", "%E4%BD%A0", "%ff%fe", "qwen3-max/"] {
        let response = app.get(&format!("/v1/models/{id}")).send().await.unwrap();
        assert_eq!(response.status(), 404, "{id}");
        let error = error_of(response).await;
        assert_eq!(error["type"], "invalid_request_error", "{id}");
        assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")), "{id}");
    }
}

#[tokio::test]
async fn a_name_in_another_case_is_the_same_model() {
    let app = TestApp::quick().await;
    for (name, id) in [
        ("Qwen3-Max", "qwen3-max"),
        ("QWEN3-CODER-PLUS", "qwen3-coder-plus"),
        ("Qwen3-Max-Thinking", "qwen3-max-thinking"),
    ] {
        let model = json_of(app.get(&format!("/v1/models/{name}")).send().await.unwrap()).await;
        assert_eq!(model["id"], id);
        let mut body = question("echo: there");
        body["model"] = json!(name);
        let answer = json_of(app.chat(&body).await).await;
        assert_eq!((content(&answer), &answer["model"]), ("there", &json!(name)));
    }
    let asked = app.simulator.record().requests_to(Endpoint::Completions);
    let models: Vec<_> = asked.iter().map(|request| request.body.as_ref().unwrap()["model"].clone()).collect();
    assert_eq!(models, ["qwen3-max", "qwen3-coder-plus", "qwen3-max"]);
}

#[tokio::test]
async fn an_unknown_name_is_told_the_nearest() {
    let app = TestApp::quick().await;
    for (id, nearest) in [
        ("qwen3-maxx", "'qwen3-max'"),
        ("Qwen3-Maxx", "'qwen3-max'"),
        ("QWEN3-CODER-PLUSS", "'qwen3-coder-plus'"),
        ("qwen3-max-thinkng", "'qwen3-max-thinking'"),
    ] {
        let error = error_of(app.get(&format!("/v1/models/{id}")).send().await.unwrap()).await;
        assert!(error["message"].as_str().unwrap().contains(&format!("Did you mean {nearest}?")), "{id}: {error}");
    }
    let error = error_of(app.get("/v1/models/gpt-4o").send().await.unwrap()).await;
    assert!(!error["message"].as_str().unwrap().contains("Did you mean"), "{error}");
    for (model, hint) in [("oauth/qwen3-max", "No OAuth account"), ("key/qwen3-max", "QWEN_API_KEYS")] {
        let mut body = question("x");
        body["model"] = json!(model);
        let error = error_of(app.chat(&body).await).await;
        assert!(error["message"].as_str().unwrap().contains(hint), "{model}: {error}");
    }
}

#[tokio::test]
async fn a_chat_with_an_unknown_model_is_not_found_and_costs_nothing() {
    let app = TestApp::quick().await;
    for model in ["gpt-4o", "qwen-turbo", "qwen3-maxx", "gpt-image-1-image", "oauth/qwen3-max", "-thinking"] {
        for stream in [false, true] {
            let mut body = question("x");
            (body["model"], body["stream"]) = (json!(model), json!(stream));
            let response = app.chat(&body).await;
            assert_eq!(response.status(), 404, "{model}");
            let error = error_of(response).await;
            assert_eq!(error["type"], "invalid_request_error");
            assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
            assert!(error["message"].as_str().unwrap().contains(model));
        }
    }
    assert_eq!(app.turns(), 0);
}

/// A server whose upstream lists these models.
async fn with_models(models: Value) -> TestApp {
    let raw = RawScript {
        status: 200,
        content_type: "application/json".to_owned(),
        body: json!({"data": models}).to_string(),
        base64: false,
    };
    without_catalogue(ScriptedReply::failing(ScriptedFailure::Raw(raw))).await
}

#[tokio::test]
async fn what_a_model_cannot_do_is_named_or_refused() {
    let model = |id: &str, meta: Value| json!({"id": id, "info": {"meta": meta}});
    let app = with_models(json!([
        model("text-only", json!({"chat_type": ["t2t"]})),
        model("text-max", json!({"chat_type": ["t2t", "search", "t2i", "image_edit", "t2v"]})),
        model("untold", json!({})),
    ]))
    .await;
    let asking = |model: &str| {
        let mut body = question("echo: x");
        body["model"] = json!(model);
        body
    };
    for (fields, ignored) in [
        (json!({"model": "text-only-search"}), "model"),
        (json!({"model": "Text-Only-Search"}), "model"),
        (json!({"model": "text-only-search-thinking"}), "model"),
        (json!({"model": "text-only", "enable_search": true}), "enable_search"),
        (json!({"model": "text-only", "web_search_options": {}}), "web_search_options"),
    ] {
        let mut body = asking("");
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let response = app.chat(&body).await;
        assert_eq!(response.headers()["x-bridge-ignored"], ignored, "{fields}");
        assert_eq!(content(&json_of(response).await), "x", "{fields}");
        assert_eq!(app.asked().chat_type(), "t2t", "{fields}");
    }
    let body = json!({"model": "text-only", "input": "echo: x", "tools": [{"type": "web_search"}]});
    let response = app.post("/v1/responses", &body).send().await.unwrap();
    assert_eq!(response.headers()["x-bridge-ignored"], "tools.web_search");
    assert_eq!(app.asked().chat_type(), "t2t");
    // What is not told may be tried.
    let response = app.chat(&asking("untold-search")).await;
    assert!(!response.headers().contains_key("x-bridge-ignored"));
    assert_eq!(app.asked().chat_type(), "search");
    // Thinking and searching mean nothing where a picture is made.
    for name in ["text-max-image-thinking", "text-max-search-image"] {
        let response = app.chat(&asking(name)).await;
        assert_eq!(response.headers()["x-bridge-ignored"], "model", "{name}");
        assert!(content(&json_of(response).await).starts_with("![image](http"), "{name}");
        assert_eq!(app.asked().0["model"], "text-max");
    }
    let turns = app.turns();
    for (path, body, nearest) in [
        ("/v1/chat/completions", asking("text-only-image"), "'text-max-image'"),
        ("/v1/chat/completions", asking("text-only-image-edit"), "'text-max-image_edit'"),
        ("/v1/chat/completions", asking("text-only-video-thinking"), "'text-max-video'"),
        ("/v1/images/generations", json!({"model": "text-only", "prompt": "x"}), "'text-max-image'"),
        ("/v1/videos", json!({"model": "text-only", "prompt": "x"}), "'text-max-video'"),
        ("/v1/chat/completions", asking("text-maxx"), "'text-max'"),
        ("/v1/chat/completions", asking("Text-Onli"), "'text-only'"),
    ] {
        let response = app.post(path, &body).send().await.unwrap();
        assert_eq!(response.status(), 404, "{body}");
        let error = error_of(response).await;
        assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")), "{body}");
        assert!(error["message"].as_str().unwrap().contains(nearest), "{error}");
    }
    assert_eq!(app.turns(), turns);
}

#[tokio::test]
async fn the_list_never_fails() {
    for reply in [
        ScriptedReply::status(500),
        ScriptedReply::status(401),
        ScriptedReply::challenge(ChallengeForm::Html, 405),
        ScriptedReply::error("internal_error"),
        ScriptedReply::failing(ScriptedFailure::Reset),
    ] {
        let app = without_catalogue(reply.clone()).await;
        let models = list(&app).await;
        let ids = ids(&models);
        assert!(ids.contains(&"qwen3-max") && ids.contains(&"qwen3-max-thinking"), "{reply:?}: {ids:?}");
    }
}

#[tokio::test]
async fn a_list_that_does_not_come_is_waited_for_once() {
    let app = without_catalogue(ScriptedReply::status(200).delayed(Duration::from_secs(600))).await;
    assert!(!list(&app).await.is_empty());
    let began = Instant::now();
    assert!(!list(&app).await.is_empty());
    assert_eq!(content(&app.ask("echo: x").await), "x");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_a_live_list_an_unknown_name_is_passed_on() {
    let app = without_catalogue(ScriptedReply::status(500)).await;
    for (model, upstream) in [("brand-new", "brand-new"), ("brand-new-search-thinking", "brand-new")] {
        let mut body = question("echo: x");
        body["model"] = json!(model);
        let answer = json_of(app.chat(&body).await).await;
        assert_eq!((content(&answer), &answer["model"]), ("x", &json!(model)));
        assert_eq!(app.asked().0["model"], upstream);
    }
}

#[tokio::test]
async fn the_list_needs_a_key() {
    let app = TestApp::quick().await;
    for path in ["/v1/models", "/v1/models/qwen3-max", "/v1/models/nothing"] {
        let response = app.client.get(app.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 401, "{path}");
    }
}
