//! Thoughts: where they go, and every way to switch them on and off.

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Content, Endpoint, Scenario, ScriptedReply, ThinkingForm};

use crate::support::app::{Setup, TestApp, content, error_of, json_of, question};

const ROUND: &[(&str, &str)] = &[("Looking", "First I look – 字 🦀."), ("Saying", "Then I say it.")];

fn thoughtful(form: ThinkingForm) -> ScriptedReply {
    ScriptedReply::answer("The answer.").reasoning(&[ROUND]).with_stream(|stream| stream.thinking = Some(form))
}

async fn thinking_app(setup: Setup, form: ThinkingForm) -> TestApp {
    let app = setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await;
    app.simulator.script().set_default(None, Endpoint::Completions, Some(thoughtful(form)));
    app
}

fn with(fields: &Value) -> Value {
    let mut body = question("echo: x");
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn thoughts_stand_apart_in_both_forms() {
    for form in [ThinkingForm::Summary, ThinkingForm::Raw] {
        let app = thinking_app(Setup::default(), form).await;
        let body = with(&json!({"enable_thinking": true, "stream_options": {"include_usage": true}}));
        let transcript = app.stream(&body).await;
        assert_eq!(transcript.content(), "The answer.", "{form:?}");
        let thoughts = transcript.reasoning();
        for (_, thought) in ROUND {
            assert_eq!(thoughts.matches(thought).count(), 1, "{form:?}: {thoughts}");
        }
        assert_eq!(transcript.finish_reasons(), ["stop"]);
        let mut is_answering = false;
        for chunk in &transcript.chunks[1..transcript.chunks.len() - 2] {
            let delta = &chunk["choices"][0]["delta"];
            match delta.get("reasoning_content") {
                Some(thought) => {
                    assert!(!is_answering, "a thought after text: {chunk}");
                    assert!(thought.as_str().is_some_and(|thought| !thought.is_empty()), "{chunk}");
                    assert_eq!(delta["content"], Value::Null, "{chunk}");
                }
                None => {
                    is_answering = true;
                    assert!(delta["content"].is_string(), "{chunk}");
                }
            }
            assert!(delta.get("reasoning").is_none() && delta.get("reasoning_details").is_none());
        }
        let usage = &transcript.chunks.last().unwrap()["usage"];
        let reasoning = usage["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
        assert!(reasoning > 0 && reasoning <= usage["completion_tokens"].as_u64().unwrap(), "{usage}");

        let whole = json_of(app.chat(&body).await).await;
        assert_eq!(content(&whole), "The answer.");
        assert_eq!(whole["choices"][0]["message"]["reasoning_content"], thoughts);
        assert_eq!(&whole["usage"], usage);
        app.assert_clean();
    }
}

#[tokio::test]
async fn without_thoughts_there_is_no_key_for_them() {
    let app = TestApp::quick().await;
    let whole = app.ask("echo: x").await;
    assert!(whole["choices"][0]["message"].get("reasoning_content").is_none());
    let transcript = app.stream(&question("echo: x")).await;
    assert!(transcript.chunks.iter().all(|chunk| chunk["choices"][0]["delta"].get("reasoning_content").is_none()));
}

#[tokio::test]
async fn raw_thoughts_stand_in_tags_and_hidden_ones_nowhere() {
    for form in [ThinkingForm::Summary, ThinkingForm::Raw] {
        for (setup, fields, format) in [
            (Setup::default(), json!({"reasoning_format": "raw"}), "raw"),
            (Setup::default().with("REASONING_FORMAT", "raw"), json!({}), "raw"),
            (Setup::default(), json!({"reasoning_format": "hidden"}), "hidden"),
            (Setup::default().with("REASONING_FORMAT", "hidden"), json!({}), "hidden"),
            (Setup::default(), json!({"reasoning": {"exclude": true}}), "hidden"),
            (Setup::default().with("REASONING_FORMAT", "raw"), json!({"reasoning_format": "parsed"}), "parsed"),
        ] {
            let app = thinking_app(setup, form).await;
            let mut body = with(&fields);
            body["enable_thinking"] = json!(true);
            let (transcript, whole) = (app.stream(&body).await, json_of(app.chat(&body).await).await);
            let text = transcript.content();
            assert_eq!(content(&whole), text);
            assert_eq!(transcript.reasoning().is_empty(), format != "parsed", "{fields}");
            match format {
                "raw" => {
                    let thoughts = text.strip_prefix("<think>\n").unwrap();
                    let (thoughts, answer) = thoughts.split_once("\n</think>\n\n").unwrap();
                    assert!(ROUND.iter().all(|(_, thought)| thoughts.contains(thought)), "{thoughts}");
                    assert_eq!(answer, "The answer.");
                }
                _ => assert_eq!(text, "The answer."),
            }
            assert!(transcript.is_done);
        }
    }
}

#[tokio::test]
async fn every_switch_reaches_the_upstream() {
    const ON: (bool, &str) = (true, "Thinking");
    const OFF: (bool, &str) = (false, "Fast");
    const AUTO: (bool, &str) = (true, "Auto");
    let app = TestApp::quick().await;
    for (fields, expected) in [
        (json!({}), OFF),
        (json!({"enable_thinking": true}), ON),
        (json!({"enable_thinking": false}), OFF),
        (json!({"chat_template_kwargs": {"enable_thinking": true}}), ON),
        (json!({"chat_template_kwargs": {"enable_thinking": false}}), OFF),
        (json!({"chat_template_kwargs": {"other": 1}}), OFF),
        (json!({"thinking": {"type": "enabled"}}), ON),
        (json!({"thinking": {"type": "disabled"}}), OFF),
        (json!({"thinking": {"type": "adaptive"}}), AUTO),
        (json!({"reasoning": {"enabled": true}}), ON),
        (json!({"reasoning": {"enabled": false}}), OFF),
        (json!({"reasoning": {"effort": "high"}}), ON),
        (json!({"reasoning": {"effort": "none"}}), OFF),
        (json!({"reasoning": {}}), OFF),
        (json!({"reasoning_effort": "minimal"}), ON),
        (json!({"reasoning_effort": "low"}), ON),
        (json!({"reasoning_effort": "xhigh"}), ON),
        (json!({"reasoning_effort": "none"}), OFF),
        (json!({"thinking_budget": 1000}), ON),
        (json!({"thinking_budget": 0}), OFF),
        // The most direct switch wins.
        (json!({"enable_thinking": false, "reasoning_effort": "high"}), OFF),
        (json!({"enable_thinking": true, "thinking": {"type": "disabled"}}), ON),
        (json!({"enable_thinking": false, "thinking_budget": 1000}), OFF),
        // The suffix is the weakest.
        (json!({"model": "qwen3-max-thinking"}), ON),
        (json!({"model": "qwen3-max-thinking", "enable_thinking": false}), OFF),
        (json!({"model": "qwen3-max-thinking", "reasoning_effort": "none"}), OFF),
        (json!({"model": "qwen3-max-thinking", "thinking": {"type": "adaptive"}}), AUTO),
        (json!({"model": "qwen3-max-thinking", "enable_thinking": null}), ON),
        // A model that always thinks, and one whose own name ends like the suffix.
        (json!({"model": "qwen3.7-max"}), ON),
        (json!({"model": "qwen3-235b-thinking"}), ON),
    ] {
        let mut body = with(&fields);
        let wants_model = body["model"].as_str().unwrap().to_owned();
        for stream in [false, true] {
            body["stream"] = json!(stream);
            let response = app.chat(&body).await;
            assert_eq!(response.status(), 200, "{fields}");
            let text = response.text().await.unwrap();
            assert!(text.contains(&format!("\"model\":\"{wants_model}\"")), "{fields}: {text}");
            let asked = app.asked();
            assert_eq!(asked.thinking(), expected, "{fields}");
            assert_eq!(text.contains("reasoning_content"), expected.0, "{fields}: {text}");
            let base = if wants_model == "qwen3-max-thinking" { "qwen3-max" } else { &wants_model };
            assert_eq!(asked.0["model"], base, "{fields}");
        }
    }
    app.assert_clean();
}

#[tokio::test]
async fn a_budget_goes_along_when_there_is_thinking() {
    let app = TestApp::quick().await;
    for (fields, expected) in [
        (json!({"thinking_budget": 4096}), json!(4096)),
        (json!({"enable_thinking": true, "thinking_budget": 77}), json!(77)),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 2048}}), json!(2048)),
        (json!({"enable_thinking": false, "thinking_budget": 77}), Value::Null),
        (json!({"enable_thinking": true}), Value::Null),
    ] {
        assert_eq!(app.chat(&with(&fields)).await.status(), 200);
        assert_eq!(app.asked().message()["feature_config"]["thinking_budget"], expected, "{fields}");
    }
}

#[tokio::test]
async fn a_wish_that_the_model_cannot_keep_is_named() {
    let app = TestApp::quick().await;
    for (fields, named, thinks) in [
        (json!({"model": "qwen3-coder-plus", "enable_thinking": true}), "enable_thinking", false),
        (json!({"model": "qwen3-coder-plus", "reasoning_effort": "high"}), "reasoning_effort", false),
        (json!({"model": "qwen3.7-max", "enable_thinking": false}), "enable_thinking", true),
    ] {
        let response = app.chat(&with(&fields)).await;
        assert_eq!(response.headers()["x-bridge-ignored"], named, "{fields}");
        assert_eq!(content(&json_of(response).await), "x");
        assert_eq!(app.asked().thinking().0, thinks, "{fields}");
    }
}

#[tokio::test]
async fn switches_of_the_wrong_type_are_refused() {
    let app = TestApp::quick().await;
    for (fields, param) in [
        (json!({"enable_thinking": "yes"}), "enable_thinking"),
        (json!({"chat_template_kwargs": {"enable_thinking": 1}}), "chat_template_kwargs.enable_thinking"),
        (json!({"chat_template_kwargs": []}), "chat_template_kwargs"),
        (json!({"thinking": true}), "thinking"),
        (json!({"thinking": {"type": "maybe"}}), "thinking.type"),
        (json!({"reasoning": "high"}), "reasoning"),
        (json!({"reasoning": {"effort": 3}}), "reasoning.effort"),
        (json!({"reasoning": {"exclude": "no"}}), "reasoning.exclude"),
        (json!({"reasoning_effort": 3}), "reasoning_effort"),
        (json!({"thinking_budget": "many"}), "thinking_budget"),
        (json!({"thinking_budget": -1}), "thinking_budget"),
        (json!({"reasoning_format": "xml"}), "reasoning_format"),
    ] {
        let response = app.chat(&with(&fields)).await;
        assert_eq!(response.status(), 400, "{fields}");
        assert_eq!(error_of(response).await["param"], param);
    }
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn thoughts_alone_are_no_answer() {
    let app = TestApp::quick().await;
    let reply = thoughtful(ThinkingForm::Summary).with_stream(|stream| stream.content = Content::Reasoning);
    app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
    let body = with(&json!({"enable_thinking": true}));
    let response = app.chat(&body).await;
    assert_eq!(response.status(), 502);
    error_of(response).await;
    let transcript = app.stream(&body).await;
    assert!(transcript.error().is_some() && !transcript.is_done && transcript.finish_reasons().is_empty());
}

#[tokio::test]
async fn limits_do_not_count_thoughts() {
    let app = thinking_app(Setup::default(), ThinkingForm::Raw).await;
    let body = with(&json!({"enable_thinking": true, "max_tokens": 1, "stop": ["look"]}));
    let transcript = app.stream(&body).await;
    assert!(transcript.reasoning().contains("First I look"));
    assert_eq!(transcript.content(), "The ");
    assert_eq!(transcript.finish_reasons(), ["length"]);
}
