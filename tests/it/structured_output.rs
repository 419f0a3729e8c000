//! `response_format`: answers of the web chat that have to be JSON.

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Endpoint, Scenario, ScriptedReply};

use crate::support::app::{Setup, TestApp, error_of, json_of, question};

async fn answering(answers: &[&str]) -> TestApp {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    for answer in answers {
        let reply = ScriptedReply::pieces(answer.split_inclusive(' '));
        simulator.script().queue(None, Endpoint::Completions, reply);
    }
    Setup::default().start(simulator).await
}

fn asking(format: &Value, stream: bool) -> Value {
    let mut body = question("Describe the sea.");
    body["response_format"] = format.clone();
    body["stream"] = json!(stream);
    body
}

fn object() -> Value {
    json!({"type": "json_object"})
}

fn schema() -> Value {
    let schema = json!({
        "type": "object", "required": ["colour", "depth_m"], "additionalProperties": false,
        "properties": {"colour": {"type": "string"}, "depth_m": {"type": "integer"}},
    });
    json!({"type": "json_schema", "json_schema": {"name": "sea", "strict": true, "schema": schema}})
}

#[tokio::test]
async fn only_the_json_goes_out_as_the_model_wrote_it() {
    let json = r#"{"depth_m": 3688, "colour": "blue"}"#;
    for format in [object(), schema()] {
        for answer in [
            json.to_owned(),
            format!("```json\n{json}\n```"),
            format!("Here is the JSON you asked for:\n\n```\n{json}\n```\n\nAnything else?"),
            format!("Sure! {json}"),
        ] {
            let app = answering(&[&answer, &answer]).await;
            let whole = json_of(app.chat(&asking(&format, false)).await).await;
            assert_eq!(whole["choices"][0]["message"]["content"], json, "{answer}");
            let streamed = app.stream(&asking(&format, true)).await;
            assert_eq!(streamed.content(), json, "{answer}");
            assert_eq!(streamed.finish_reasons(), ["stop"]);
            assert_eq!(app.turns(), 4, "one try each: a chat and a question");
        }
    }
}

#[tokio::test]
async fn the_schema_and_the_wish_are_in_the_prompt() {
    let app = answering(&[r#"{"colour": "blue", "depth_m": 1}"#]).await;
    json_of(app.chat(&asking(&schema(), false)).await).await;
    let asked = app.asked();
    let prompt = asked.prompt();
    assert!(prompt.starts_with("Describe the sea.") && prompt.contains("\"depth_m\""), "{prompt}");
}

#[tokio::test]
async fn the_keys_of_a_schema_keep_their_order() {
    let app = answering(&[r#"{"reasoning": "waves", "answer": 1}"#]).await;
    let properties = json!({"reasoning": {"type": "string"}, "answer": {"type": "integer"}});
    let schema = json!({"type": "object", "properties": properties});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    json_of(app.chat(&asking(&format, false)).await).await;
    let asked = app.asked();
    let prompt = asked.prompt();
    let place = |key: &str| prompt.find(&format!("\"{key}\"")).unwrap_or_else(|| panic!("{key} is not in {prompt}"));
    // The model writes the keys in the order in which it reads them.
    assert!(place("reasoning") < place("answer"), "{prompt}");
}

#[tokio::test]
async fn a_wrong_answer_is_asked_for_once_more_with_its_fault() {
    for stream in [false, true] {
        let app = answering(&[r#"{"colour": "blue", "depth_m": "deep"}"#, r#"{"colour": "blue", "depth_m": 5}"#]).await;
        let text = if stream {
            app.stream(&asking(&schema(), true)).await.content()
        } else {
            let whole = json_of(app.chat(&asking(&schema(), false)).await).await;
            whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        };
        assert_eq!(text, r#"{"colour": "blue", "depth_m": 5}"#);
        assert_eq!(app.turns(), 4, "two chats and two questions");
        let asked = app.asked();
        let prompt = asked.prompt();
        assert!(prompt.contains("/depth_m") && prompt.contains("\"depth_m\": \"deep\""), "{prompt}");
    }
}

#[tokio::test]
async fn after_two_wrong_answers_it_is_an_error() {
    for (format, bad) in [(object(), "The sea is blue."), (object(), "[1]"), (schema(), "{}")] {
        let app = answering(&[bad, bad]).await;
        let response = app.chat(&asking(&format, false)).await;
        assert_eq!(response.status(), 502);
        let error = error_of(response).await;
        assert_eq!(error["code"], "structured_output_invalid", "{bad}");
        assert_eq!(app.turns(), 4, "two chats and two questions");
    }
}

/// Thoughts are shown before the answer is known to be wrong.
#[tokio::test]
async fn a_wrong_answer_after_thoughts_never_looks_finished() {
    let thoughtful = |text: &str| ScriptedReply::answer(text).reasoning(&[&[("Looking", "First I look.")]]);
    for answers in [["The sea is blue.", "It is deep."], ["The sea is blue.", r#"{"colour": "blue"}"#]] {
        for stream in [false, true] {
            let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
            for text in answers {
                simulator.script().queue(None, Endpoint::Completions, thoughtful(text));
            }
            let app = Setup::default().start(simulator).await;
            let mut body = asking(&object(), stream);
            body["enable_thinking"] = json!(true);
            if stream {
                let transcript = app.stream(&body).await;
                assert_eq!(transcript.error().unwrap()["code"], "structured_output_invalid");
                assert!(transcript.finish_reasons().is_empty() && !transcript.is_done);
                assert!(!transcript.reasoning().is_empty() && transcript.content().is_empty());
                assert_eq!(app.turns(), 2, "part of it was shown");
                continue;
            }
            let response = app.chat(&body).await;
            if answers[1].starts_with('{') {
                let whole = json_of(response).await;
                let message = &whole["choices"][0]["message"];
                assert_eq!(message["content"], answers[1]);
                let thoughts = message["reasoning_content"].as_str().unwrap();
                assert_eq!(thoughts.matches("First I look.").count(), 1, "those of the first try are gone: {thoughts}");
            } else {
                assert_eq!(response.status(), 502);
                assert_eq!(error_of(response).await["code"], "structured_output_invalid");
            }
            assert_eq!(app.turns(), 4, "two chats and two questions");
        }
    }
}

#[tokio::test]
async fn usage_counts_both_tries() {
    let app = answering(&["no JSON here", r#"{"a": 1}"#, r#"{"a": 1}"#]).await;
    let twice = json_of(app.chat(&asking(&object(), false)).await).await;
    let once = json_of(app.chat(&asking(&object(), false)).await).await;
    let total = |answer: &Value| answer["usage"]["total_tokens"].as_u64().unwrap();
    assert!(total(&twice) > total(&once) + 5, "{} {}", total(&twice), total(&once));
}

#[tokio::test]
async fn schemas_that_are_none() {
    let app = TestApp::quick().await;
    for schema in [json!({"type": 5}), json!({"$ref": "https://example.org/x.json"}), json!({"pattern": "("})] {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let response = app.chat(&asking(&format, false)).await;
        assert_eq!(response.status(), 400, "{schema}");
        assert_eq!(error_of(response).await["param"], "response_format");
    }
    assert_eq!(app.turns(), 0);
}
