//! Pictures that the upstream makes: on the chat route and on OpenAI's routes for pictures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use simulator::script::{CutHow, Endpoint, PictureForm, ScriptedReply, StreamError};

use crate::support::app::{KEY, TestApp, content, error_of, json_of, question};
use crate::support::files::{data_uri, image_part, png, with_parts};

fn draw(text: &str) -> Value {
    let mut body = question(text);
    body["model"] = json!("qwen3-max-image");
    body
}

/// The links of Markdown pictures.
fn links(text: &str) -> Vec<String> {
    text.split("![image](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()).collect()
}

async fn is_picture(app: &TestApp, url: &str) -> bool {
    let bytes = app.client.get(url).send().await.unwrap().bytes().await.unwrap();
    bytes.starts_with(b"\x89PNG")
}

#[tokio::test]
async fn a_picture_on_the_chat_route() {
    let app = TestApp::quick().await;
    let mut body = draw("A lighthouse");
    body["size"] = json!("1792x1024");
    let response = app.chat(&body).await;
    assert_eq!(response.headers()["x-bridge-aspect-ratio"], "16:9");
    let answer = json_of(response).await;
    let [link] = links(content(&answer)).try_into().unwrap();
    assert_eq!(content(&answer), format!("![image]({link})"));
    assert!(is_picture(&app, &link).await);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let asked = app.asked();
    assert_eq!((asked.chat_type(), asked.prompt(), &asked.0["size"]), ("t2i", "A lighthouse", &json!("16:9")));
    let transcript = app.stream(&body).await;
    assert!(transcript.is_done && links(&transcript.content()).len() == 1, "{transcript:?}");
    app.assert_clean();
}

#[tokio::test]
async fn several_pictures_come_once_each() {
    let app = TestApp::quick().await;
    for form in [PictureForm::ImageGen, PictureForm::EditTool, PictureForm::Answer] {
        let reply = ScriptedReply::pictures(3).with_picture(|picture| picture.form = form);
        app.simulator.script().queue(None, Endpoint::Completions, reply);
        let answer = json_of(app.chat(&draw("Boats")).await).await;
        let mut found = links(content(&answer));
        assert_eq!(found.len(), 3, "{form:?} {answer}");
        found.dedup();
        assert_eq!(found.len(), 3);
    }
    app.assert_clean();
}

#[tokio::test]
async fn pictures_that_the_stream_lost_are_found_in_the_chat() {
    let app = TestApp::quick().await;
    for reply in [
        ScriptedReply::pictures(2).with_picture(|picture| picture.lost = true),
        ScriptedReply::pictures(2).cut_after(2, CutHow::CleanEnd),
        ScriptedReply::pictures(2).cut_after(3, CutHow::Reset),
        // Not even the answer's id came.
        ScriptedReply::pictures(2).cut_after(0, CutHow::CleanEnd),
    ] {
        let shown = format!("{reply:?}");
        app.simulator.script().queue(None, Endpoint::Completions, reply);
        let before = app.simulator.record().requests_to(Endpoint::Completions).len();
        let answer = json_of(app.chat(&draw("Boats")).await).await;
        assert_eq!(links(content(&answer)).len(), 2, "{shown} {answer}");
        assert_eq!(app.simulator.record().requests_to(Endpoint::Completions).len(), before + 1, "{shown}");
    }
}

#[tokio::test]
async fn what_is_changed_comes_from_the_turn_and_from_history() {
    let app = TestApp::quick().await;
    let drawn = json_of(app.chat(&draw("A boat")).await).await;
    let link = links(content(&drawn)).remove(0);
    let history = json!([
        {"role": "user", "content": "A boat"},
        {"role": "assistant", "content": content(&drawn)},
        {"role": "user", "content": "Make it blue"},
    ]);
    for model in ["qwen3-max-image_edit", "qwen3-max-image-edit"] {
        let answer = json_of(app.chat(&json!({"model": model, "messages": history})).await).await;
        assert_eq!(links(content(&answer)).len(), 1, "{answer}");
        let asked = app.asked();
        assert_eq!(asked.chat_type(), "image_edit");
        // The upstream's own link is handed back as it is.
        assert_eq!(asked.message()["files"][0]["url"], link.as_str());
    }
    assert_eq!(app.simulator.stored().uploads().len(), 0);
    let answer = json_of(app.chat(&with_parts("qwen3-max-image_edit", "Bluer", vec![image_part(1)])).await).await;
    assert_eq!(links(content(&answer)).len(), 1, "{answer}");
    assert_eq!(app.simulator.stored().uploads()[0].bytes, png(1));
    app.assert_clean();
}

#[tokio::test]
async fn the_route_for_pictures() {
    let app = TestApp::quick().await;
    let body = json!({"prompt": "A lighthouse", "n": 3, "size": "1024x1536", "quality": "high"});
    let response = app.post("/v1/images/generations", &body).send().await.unwrap();
    assert_eq!(response.headers()["x-bridge-aspect-ratio"], "3:4");
    assert_eq!(response.headers()["x-bridge-ignored"], "quality");
    let made = json_of(response).await;
    assert!(made["created"].is_u64());
    let data = made["data"].as_array().unwrap();
    assert_eq!(data.len(), 3);
    for entry in data {
        assert_eq!(entry.as_object().unwrap().len(), 1, "{entry}");
        assert!(is_picture(&app, entry["url"].as_str().unwrap()).await);
    }
    let body = json!({"prompt": "A lighthouse", "model": "qwen3-max-image", "response_format": "b64_json"});
    let made = json_of(app.post("/v1/images/generations", &body).send().await.unwrap()).await;
    let [entry] = made["data"].as_array().unwrap().as_slice() else { panic!("{made}") };
    assert_eq!(entry.as_object().unwrap().len(), 1);
    assert!(STANDARD.decode(entry["b64_json"].as_str().unwrap()).unwrap().starts_with(b"\x89PNG"));
    // A link that has expired may be answered with a page.
    app.simulator.script().queue(None, Endpoint::MediaLink, ScriptedReply::status(200));
    let lost = app.post("/v1/images/generations", &body).send().await.unwrap();
    assert_eq!(lost.status(), 502);
    assert_eq!(error_of(lost).await["code"], "upstream_error");
    app.assert_clean();
}

#[tokio::test]
async fn the_route_for_changed_pictures() {
    let app = TestApp::quick().await;
    let part = |number| Part::bytes(png(number)).file_name("a.png").mime_str("image/png").unwrap();
    let form = Form::new()
        .text("prompt", "Make it blue")
        .text("n", "2")
        .part("image[]", part(1))
        .part("image[]", part(2))
        .part("mask", part(3));
    let response = app.client.post(app.url("/v1/images/edits")).bearer_auth(KEY).multipart(form).send().await.unwrap();
    let made = json_of(response).await;
    assert_eq!(made["data"].as_array().map(Vec::len), Some(2), "{made}");
    let asked = app.asked();
    assert_eq!(asked.chat_type(), "image_edit");
    assert_eq!(asked.message()["files"].as_array().unwrap().len(), 3);
    assert!(asked.prompt().starts_with("Make it blue") && asked.prompt().contains("mask"), "{}", asked.prompt());
    for image in [
        json!(data_uri("image/png", &png(4))),
        json!([data_uri("image/png", &png(4))]),
        json!({"image_url": data_uri("image/png", &png(4))}),
    ] {
        let body = json!({"prompt": "Bluer", "image": image});
        let made = json_of(app.post("/v1/images/edits", &body).send().await.unwrap()).await;
        assert_eq!(made["data"].as_array().map(Vec::len), Some(1), "{made}");
    }
    app.assert_clean();
}

#[tokio::test]
async fn a_picture_without_a_file_name_is_a_picture() {
    let app = TestApp::quick().await;
    let form = Form::new().text("prompt", "Bluer").part("image", Part::bytes(png(1)));
    let response = app.client.post(app.url("/v1/images/edits")).bearer_auth(KEY).multipart(form).send().await.unwrap();
    let made = json_of(response).await;
    assert_eq!(made["data"].as_array().map(Vec::len), Some(1), "{made}");
    assert_eq!(app.simulator.stored().uploads()[0].bytes, png(1));
}

#[tokio::test]
async fn a_failure_after_a_picture_does_not_take_it_back() {
    let app = TestApp::quick().await;
    let error = StreamError { after: 4, code: "internal_error".to_owned(), ..StreamError::default() };
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::pictures(1).breaking(error));
    let answer = json_of(app.chat(&draw("Boats")).await).await;
    assert_eq!(links(content(&answer)).len(), 1, "{answer}");
    assert_eq!(app.simulator.record().requests_to(Endpoint::Completions).len(), 1);
}

#[tokio::test]
async fn bad_requests_for_pictures() {
    let app = TestApp::quick().await;
    let image = data_uri("image/png", &png(1));
    for (path, body, status, code, param) in [
        ("generations", json!({}), 400, "missing_required_parameter", "prompt"),
        ("generations", json!({"prompt": " "}), 400, "invalid_value", "prompt"),
        ("generations", json!({"prompt": 5}), 400, "invalid_type", "prompt"),
        ("generations", json!({"prompt": "x", "n": 0}), 400, "invalid_value", "n"),
        ("generations", json!({"prompt": "x", "n": 11}), 400, "invalid_value", "n"),
        ("generations", json!({"prompt": "x", "n": "two"}), 400, "invalid_type", "n"),
        ("generations", json!({"prompt": "x", "size": 5}), 400, "invalid_type", "size"),
        ("generations", json!({"prompt": "x", "response_format": "png"}), 400, "invalid_value", "response_format"),
        ("generations", json!({"prompt": "x", "stream": true}), 400, "unsupported_value", "stream"),
        ("generations", json!({"prompt": "x", "model": "no-such-model"}), 404, "model_not_found", "model"),
        ("generations", json!({"prompt": "x", "model": "qwen3-max-video"}), 400, "unsupported_value", "model"),
        ("generations", json!({"prompt": "x".repeat(120_000)}), 400, "context_length_exceeded", "prompt"),
        ("edits", json!({"prompt": "x"}), 400, "missing_required_parameter", "image"),
        ("edits", json!({"image": image}), 400, "missing_required_parameter", "prompt"),
        ("edits", json!({"prompt": "x", "image": "data:image/png;base64,%"}), 400, "invalid_file", "image"),
        ("edits", json!({"prompt": "x", "image": {"file_id": "f"}}), 400, "unsupported_parameter", "image.file_id"),
        ("edits", json!({"prompt": "x", "image": vec![image; 6]}), 400, "too_many_files", "image"),
    ] {
        let response = app.post(&format!("/v1/images/{path}"), &body).send().await.unwrap();
        assert_eq!(response.status(), status, "{path} {code}");
        let error = error_of(response).await;
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{error}");
    }
    let form = Form::new().text("prompt", "x");
    let response = app.client.post(app.url("/v1/images/edits")).bearer_auth(KEY).multipart(form).send().await.unwrap();
    assert_eq!(error_of(response).await["param"], "image");
    let torn = app.client.post(app.url("/v1/images/edits")).bearer_auth(KEY);
    let torn =
        torn.header("content-type", "multipart/form-data; boundary=x").body("--x\r\nnothing").send().await.unwrap();
    assert_eq!(torn.status(), 400);
    assert_eq!(error_of(torn).await["code"], "invalid_form");
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn an_upstream_that_draws_nothing() {
    let app = TestApp::quick().await;
    app.simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::no_picture_but("I would rather not.")),
    );
    let body = json!({"prompt": "A lighthouse"});
    let response = app.post("/v1/images/generations", &body).send().await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["x-should-retry"], "false");
    let error = error_of(response).await;
    assert_eq!(error["code"], "upstream_empty");
    assert!(error["message"].as_str().unwrap().contains("I would rather not."), "{error}");
    // On the chat route it is an answer like any other.
    let answer = json_of(app.chat(&draw("A lighthouse")).await).await;
    assert_eq!(content(&answer), "I would rather not.");
}
