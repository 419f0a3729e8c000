//! Searching the web: how it is asked for, and the citations.

use std::collections::HashSet;

use serde_json::{Value, json};
use simulator::script::{Endpoint, ScriptedReply, SearchForm, SearchResult, SearchScript};

use crate::support::app::{TestApp, content, error_of, json_of, question};

fn with(fields: &Value) -> Value {
    let mut body = question("echo: x");
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn result(number: usize) -> SearchResult {
    SearchResult {
        url: format!("https://source.example/{number}"),
        title: format!("Source {number} – 字"),
        ..SearchResult::default()
    }
}

fn found(text: &str, form: SearchForm) -> ScriptedReply {
    ScriptedReply::answer(text).with_stream(|stream| {
        let round = |results| SearchScript { queries: vec!["q".to_owned()], results, form };
        stream.searches = Some(vec![round(vec![result(1)]), round(vec![result(2)])]);
    })
}

#[tokio::test]
async fn every_way_to_ask_for_a_search() {
    let app = TestApp::quick().await;
    for (fields, chat_type, thinks) in [
        (json!({}), "t2t", false),
        (json!({"model": "qwen3-max-search"}), "search", false),
        (json!({"web_search_options": {}}), "search", false),
        (json!({"web_search_options": {"search_context_size": "low"}}), "search", false),
        (json!({"enable_search": true}), "search", false),
        (json!({"enable_search": false}), "t2t", false),
        (json!({"model": "qwen3-max-search", "enable_search": false}), "t2t", false),
        (json!({"model": "qwen3-max-thinking-search"}), "search", true),
        (json!({"model": "qwen3-max-search-thinking"}), "search", true),
        (json!({"model": "web/qwen3-max-search-thinking"}), "search", true),
        (json!({"model": "qwen3-max-thinking", "web_search_options": {}}), "search", true),
        (json!({"model": "qwen3-235b-thinking-search"}), "search", true),
    ] {
        let mut body = with(&fields);
        for stream in [false, true] {
            body["stream"] = json!(stream);
            let response = app.chat(&body).await;
            assert_eq!(response.status(), 200, "{fields}");
            response.text().await.unwrap();
            let asked = app.asked();
            assert_eq!(asked.chat_type(), chat_type, "{fields}");
            assert_eq!(asked.message()["sub_chat_type"], chat_type, "{fields}");
            assert_eq!(asked.thinking().0, thinks, "{fields}");
            let new_chat = app.simulator.record().requests_to(Endpoint::NewChat).pop().unwrap().body.unwrap();
            assert_eq!(new_chat["chat_type"], chat_type, "{fields}");
            let is_own_name = body["model"].as_str().unwrap().contains("235b");
            assert_eq!(asked.0["model"], if is_own_name { "qwen3-235b-thinking" } else { "qwen3-max" });
        }
    }
    app.assert_clean();
}

#[tokio::test]
async fn citations_point_into_the_text() {
    let text = "Ünder 🦀 [[2]] and [[1]].";
    for form in [SearchForm::Info, SearchForm::Docs, SearchForm::Both] {
        let app = TestApp::quick().await;
        app.simulator.script().set_default(None, Endpoint::Completions, Some(found(text, form)));
        let body = with(&json!({"web_search_options": {}}));
        let whole = json_of(app.chat(&body).await).await;
        assert_eq!(content(&whole), text, "{form:?}");
        let annotations = whole["choices"][0]["message"]["annotations"].as_array().unwrap().clone();
        assert_eq!(annotations.len(), 2, "{form:?}: {annotations:?}");
        let letters: Vec<char> = text.chars().collect();
        for annotation in &annotations {
            assert_eq!(annotation["type"], "url_citation");
            let citation = annotation["url_citation"].as_object().unwrap();
            let keys: HashSet<&str> = citation.keys().map(String::as_str).collect();
            assert_eq!(keys, HashSet::from(["start_index", "end_index", "url", "title"]));
            let place = |key: &str| usize::try_from(citation[key].as_u64().unwrap()).unwrap();
            let mark: String = letters[place("start_index")..place("end_index")].iter().collect();
            let number = mark.trim_matches(['[', ']']);
            assert_eq!(citation["url"], format!("https://source.example/{number}"), "{form:?}");
            assert_eq!(citation["title"], format!("Source {number} – 字"));
        }

        let transcript = app.stream(&body).await;
        assert_eq!(transcript.content(), text);
        let mut streamed: Vec<Value> = Vec::new();
        for chunk in &transcript.chunks {
            let delta = &chunk["choices"][0]["delta"];
            assert!(delta.get("tool_calls").is_none(), "{chunk}");
            streamed.extend(delta["annotations"].as_array().cloned().unwrap_or_default());
        }
        for (place, annotation) in streamed.iter_mut().enumerate() {
            // Python's SDK joins lists in deltas by the index of their entries.
            assert_eq!(annotation.as_object_mut().unwrap().remove("index").unwrap(), place);
        }
        assert_eq!(streamed, annotations, "{form:?}");
        assert!(transcript.is_done);
        app.assert_clean();
    }
}

#[tokio::test]
async fn a_search_that_found_nothing_has_no_list() {
    let app = TestApp::quick().await;
    let reply = ScriptedReply::answer("nothing").with_stream(|stream| {
        stream.searches = Some(vec![SearchScript { queries: vec!["q".to_owned()], ..SearchScript::default() }]);
    });
    app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
    let body = with(&json!({"model": "qwen3-max-search"}));
    let whole = json_of(app.chat(&body).await).await;
    assert!(whole["choices"][0]["message"].get("annotations").is_none(), "{whole}");
    let transcript = app.stream(&body).await;
    assert!(transcript.chunks.iter().all(|chunk| chunk["choices"][0]["delta"].get("annotations").is_none()));
}

#[tokio::test]
async fn wishes_of_the_wrong_type_are_refused() {
    let app = TestApp::quick().await;
    for (fields, param) in [
        (json!({"enable_search": "yes"}), "enable_search"),
        (json!({"web_search_options": true}), "web_search_options"),
    ] {
        let response = app.chat(&with(&fields)).await;
        assert_eq!(response.status(), 400, "{fields}");
        let error = error_of(response).await;
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!("invalid_type")));
    }
    assert_eq!(app.turns(), 0);
}
