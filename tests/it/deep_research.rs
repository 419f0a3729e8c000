//! Deep research and the other kinds of text that a suffix asks for.

use std::time::Duration;

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{
    AccountScript, Endpoint, Era, ErrorScript, RawScript, ReportPhase, ResearchScript, Scenario, ScriptedFailure,
    ScriptedReply,
};

use crate::support::app::{KEY, Setup, TestApp, content, error_of, json_of, question};

fn research(more: &Value) -> Value {
    let mut body = question("When does the fog lift?");
    body["model"] = json!("qwen3-max-deep-research");
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// A research that does not ask back.
fn straight(research: ResearchScript) -> ScriptedReply {
    ScriptedReply::researching(ResearchScript { asks: Some(false), ..research })
}

async fn researching(reply: ScriptedReply) -> TestApp {
    let app = TestApp::quick().await;
    app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
    app
}

const REPORT: &str =
    "# Fog at the simulated harbour\n\nThe fog lifts at noon [[1]], and the ferries go by the tide [[2]].";
const THOUGHTS: &str = "1. Find logs of invented lighthouses. 2. Compare them with the almanac.\n\nSearching for \
                        lighthouse logs.\n\nReading the keeper's log.";

#[tokio::test]
async fn the_steps_are_thoughts_and_the_report_is_the_answer() {
    for report in [ReportPhase::Writing, ReportPhase::Answer] {
        let app = researching(straight(ResearchScript { report, ..ResearchScript::default() })).await;
        let whole = json_of(app.chat(&research(&json!({}))).await).await;
        let message = &whole["choices"][0]["message"];
        assert_eq!((content(&whole), message["reasoning_content"].as_str()), (REPORT, Some(THOUGHTS)), "{whole}");
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
        assert_eq!(whole["model"], "qwen3-max-deep-research");
        let annotations = message["annotations"].as_array().unwrap();
        let urls: Vec<_> = annotations.iter().map(|one| one["url_citation"]["url"].as_str().unwrap()).collect();
        assert_eq!(urls, ["https://lighthouse.example/log", "https://harbour.example/almanac"]);
        let streamed = app.stream(&research(&json!({}))).await;
        assert_eq!((streamed.content().as_str(), streamed.reasoning().as_str()), (REPORT, THOUGHTS));
        assert_eq!((streamed.finish_reasons(), streamed.is_done), (vec!["stop"], true));
        app.assert_clean();
    }
}

#[tokio::test]
async fn it_is_asked_for_in_all_places_of_the_request() {
    let app = researching(straight(ResearchScript::default())).await;
    let advanced = |name: &str| json!({"model": name});
    for (more, mode) in [
        (json!({}), "normal"),
        (advanced("web/qwen3-max-deep_research"), "normal"),
        (advanced("qwen3-max-thinking-deep-research"), "advance"),
        (json!({"reasoning_effort": "high"}), "advance"),
        (json!({"reasoning_effort": "none"}), "normal"),
    ] {
        app.chat(&research(&more)).await.text().await.unwrap();
        let asked = app.asked();
        let message = asked.message();
        assert_eq!(asked.chat_type(), "deep_research", "{more}");
        assert_eq!(message["sub_chat_type"], "deep_research");
        assert_eq!(message["extra"]["meta"]["subChatType"], "deep_research");
        let config = &message["feature_config"];
        assert_eq!((&config["research_mode"], &config["auto_search"]), (&json!(mode), &json!(true)), "{more}");
        assert_eq!((asked.0["model"].as_str(), asked.0["stream"].as_bool()), (Some("qwen3-max"), Some(true)));
        let new_chat = app.simulator.record().requests_to(Endpoint::NewChat).pop().unwrap().body.unwrap();
        assert_eq!(new_chat["chat_type"], "deep_research");
    }
    app.assert_clean();
}

#[tokio::test]
async fn a_question_back_is_an_answer_that_can_be_answered() {
    let app = TestApp::quick().await;
    for (path, key) in [("/v1/chat/completions", "messages"), ("/v1/responses", "input"), ("/v1/messages", "messages")]
    {
        let mut messages = vec![json!({"role": "user", "content": "When does the fog lift?"})];
        let mut texts = Vec::new();
        for _ in 0..2 {
            let body = json!({"model": "qwen3-max-deep-research", "max_tokens": 900, key: messages});
            let response = app.post(path, &body).header("x-api-key", KEY).send().await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            let answer = json_of(response).await;
            let text = answer["choices"][0]["message"]["content"].as_str();
            let text = text.or_else(|| answer["content"].as_array()?.iter().find_map(|block| block["text"].as_str()));
            let output = || answer["output"].as_array()?.iter().find_map(|item| item["content"][0]["text"].as_str());
            let text = text.or_else(output).unwrap_or_else(|| panic!("{answer}")).to_owned();
            messages.push(json!({"role": "assistant", "content": text}));
            messages.push(json!({"role": "user", "content": "Both."}));
            texts.push(text);
        }
        assert!(texts[0].starts_with("Before the search begins: which harbour"), "{path}: {texts:?}");
        assert!(texts[1].starts_with(REPORT), "{path}: {texts:?}");
        // The answer goes to the chat that asked.
        assert_eq!((app.asked().prompt(), app.asked().0["parent_id"].is_string()), ("Both.", true), "{path}");
    }
    // Without the last frame of an answer too, and as a stream.
    let silent = ResearchScript { asks: Some(true), has_last_frame: false, ..ResearchScript::default() };
    let app = researching(ScriptedReply::researching(silent)).await;
    let streamed = app.stream(&research(&json!({}))).await;
    assert!(streamed.content().starts_with("Before the search begins"), "{streamed:?}");
    assert_eq!((streamed.reasoning().as_str(), streamed.finish_reasons()), ("", vec!["stop"]));
    app.assert_clean();
}

#[tokio::test]
async fn every_dialect_streams_the_report() {
    let app = researching(straight(ResearchScript::default())).await;
    let user = json!([{"role": "user", "content": "When does the fog lift?"}]);
    for (path, body) in [
        ("/v1/responses", json!({"input": user, "reasoning": {"summary": "auto"}})),
        (
            "/v1/messages",
            json!({"messages": user, "max_tokens": 900, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ),
    ] {
        let mut body = body;
        (body["model"], body["stream"]) = (json!("qwen3-max-deep-research"), json!(true));
        let response = app.post(path, &body).header("x-api-key", KEY).send().await.unwrap();
        let text = response.text().await.unwrap();
        for part in ["Fog at the simulated harbour", "Reading the keep"] {
            let joined: String = text.lines().filter_map(delta_of).collect();
            assert!(joined.contains(part), "{path}: {text}");
        }
        assert!(text.contains("https://lighthouse.example/log"), "{path}: {text}");
    }
    app.assert_clean();
}

/// The text of a delta, of whatever kind, in a line of a stream.
fn delta_of(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line.strip_prefix("data: ")?).ok()?;
    let delta = &event["delta"];
    let text = [delta, &delta["text"], &delta["thinking"]].into_iter().find_map(Value::as_str)?;
    Some(text.to_owned())
}

#[tokio::test]
async fn it_may_be_silent_for_longer_than_an_answer() {
    let reply = straight(ResearchScript { keep_alives: 40, ..ResearchScript::default() });
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    // Twice the limit of a first event, which is that of a research before its first byte, is over in the pause.
    let reply = reply.pausing(3, Duration::from_millis(2500));
    simulator.script().set_default(None, Endpoint::Completions, Some(reply));
    let limits = Setup::default().with("FIRST_EVENT_TIMEOUT", "1s").with("KEEPALIVE_INTERVAL", "1s");
    let app = limits.start(simulator).await;
    let streamed = app.stream(&research(&json!({}))).await;
    assert_eq!(streamed.content(), REPORT);
    assert!(streamed.comments > 0, "the caller hears that it goes on");
}

#[tokio::test]
async fn its_quota_is_not_the_quota_of_chats() {
    let app = TestApp::start(Scenario::with_accounts([AccountScript::new("ada", Era::A)])).await;
    let limited = ErrorScript { code: "RateLimited".to_owned(), num: Some(5), ..ErrorScript::default() };
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::error_with(limited));
    let response = app.chat(&research(&json!({}))).await;
    assert_eq!(response.status(), 429);
    let turns = app.turns();
    let response = app.chat(&research(&json!({}))).await;
    assert_eq!((response.status().as_u16(), app.turns()), (429, turns), "it rests from research");
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((17_000..=18_000).contains(&wait), "{wait}");
    assert_eq!(content(&app.ask("echo: still here").await), "still here");
}

#[tokio::test]
async fn a_model_without_it_is_refused_with_the_nearest_that_has_it() {
    let models = json!({"data": [
        {"id": "plain", "info": {"meta": {"chat_type": ["t2t", "search"]}}},
        {"id": "plainer", "info": {"meta": {"chat_type": ["t2t", "deep_research", "artifacts"]}}},
        {"id": "untold", "info": {"meta": {}}},
    ]});
    let raw =
        RawScript { status: 200, content_type: "application/json".to_owned(), body: models.to_string(), base64: false };
    let mut scenario = Scenario::default().paced_ms(0);
    scenario.defaults.insert(Endpoint::Models, ScriptedReply::failing(ScriptedFailure::Raw(raw)));
    let app = TestApp::start(scenario).await;
    for (asked, nearest) in [
        ("plain-deep-research", Some("plainer-deep-research")),
        ("plain-thinking-deep_research", Some("plainer-deep-research")),
        ("plain-artifacts", Some("plainer-artifacts")),
        ("plainer-learn", None),
        ("plainer-translate", None),
    ] {
        let response = app.chat(&research(&json!({"model": asked}))).await;
        assert_eq!(response.status(), 404, "{asked}");
        let error = error_of(response).await;
        assert_eq!(error["code"], "model_not_found");
        let message = error["message"].as_str().unwrap();
        assert_eq!(message.contains("Did you mean"), nearest.is_some(), "{message}");
        assert!(nearest.is_none_or(|nearest| message.contains(&format!("'{nearest}'"))), "{message}");
    }
    // What is not known may be tried.
    assert_eq!(app.chat(&research(&json!({"model": "untold-deep-research"}))).await.status(), 200);
    let listed = json_of(app.get("/v1/models").send().await.unwrap()).await;
    let names: Vec<_> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["plain", "plain-search", "plainer", "plainer-deep-research", "untold"]);
}

#[tokio::test]
async fn other_kinds_of_text_go_by_their_own_chat_type() {
    let app = TestApp::quick().await;
    for (suffix, chat_type, thinks) in [
        ("-artifacts", "artifacts", false),
        ("-artifacts-thinking", "artifacts", true),
        ("-web-dev", "web_dev", false),
        ("-web_dev", "web_dev", false),
        ("-learn", "learn", true),
        ("-translate", "translate", false),
        ("-vqa", "vqa", false),
        ("-vqa-thinking", "vqa", true),
    ] {
        let mut body = question("echo: x");
        body["model"] = json!(format!("qwen3.7-plus{suffix}"));
        body["tools"] = json!([{"type": "function", "function": {"name": "clock"}}]);
        body["response_format"] = json!({"type": "json_object"});
        let response = app.chat(&body).await;
        assert_eq!(response.status(), 200, "{suffix}");
        assert_eq!(response.headers()["x-bridge-ignored"], "tools,response_format", "{suffix}");
        assert_eq!(content(&json_of(response).await), "x", "{suffix}");
        let asked = app.asked();
        assert_eq!((asked.chat_type(), asked.thinking().0, asked.prompt()), (chat_type, thinks, "echo: x"), "{suffix}");
        assert_eq!(asked.message()["feature_config"]["research_mode"], "normal");
    }
    app.assert_clean();
}
