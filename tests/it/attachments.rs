//! Files that callers send: how they reach the upstream, and what happens when they do not.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{AccountScript, Endpoint, Era, ParseEnd, PutStop, Scenario, ScriptedReply};

use crate::support::app::{Setup, TestApp, content, error_of, json_of};
use crate::support::files::{OMNI, data_uri, hash, image_part, png, with_parts};

fn file_part(name: &str, essence: &str, bytes: &[u8]) -> Value {
    json!({"type": "file", "file": {"filename": name, "file_data": data_uri(essence, bytes)}})
}

async fn two_accounts(describe: impl FnOnce(Scenario) -> Scenario) -> TestApp {
    let accounts = ["ada", "ben"].map(|name| AccountScript::new(name, Era::A));
    TestApp::start(describe(Scenario::with_accounts(accounts).paced_ms(0))).await
}

#[tokio::test]
async fn a_picture_arrives_byte_for_byte() {
    let app = TestApp::quick().await;
    let answer = json_of(app.chat(&with_parts("qwen3-vl-plus", "What is it?", vec![image_part(1)])).await).await;
    let said = content(&answer);
    assert!(said.contains("1 picture"), "{said}");
    assert!(said.contains(&format!("sha256 {}", hash(&png(1)))), "{said}");
    let [upload] = app.simulator.stored().uploads().try_into().unwrap();
    assert_eq!(upload.bytes, png(1));
    assert_eq!((upload.filetype.as_str(), upload.content_type.as_str()), ("image", "image/png"));
    let asked = app.asked();
    let file = &asked.message()["files"][0];
    assert_eq!(
        (&file["type"], &file["file_class"], &file["status"]),
        (&json!("image"), &json!("vision"), &json!("uploaded"))
    );
    assert_eq!(asked.prompt(), "What is it?");
    app.assert_clean();
}

#[tokio::test]
async fn every_kind_of_file_in_one_turn() {
    let app = TestApp::quick().await;
    let wav = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0";
    let mp4 = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2mp41 and so on";
    let parts = vec![
        image_part(1),
        image_part(2),
        json!({"type": "input_audio", "input_audio": {"data": STANDARD.encode(wav), "format": "wav"}}),
        json!({"type": "video_url", "video_url": {"url": data_uri("video/mp4", mp4)}}),
        file_part("notes.txt", "text/plain", "Grüße, 字".as_bytes()),
        file_part("paper.pdf", "application/pdf", b"%PDF-1.7 invented"),
    ];
    for stream in [false, true] {
        let mut body = with_parts(OMNI, "What are these?", parts.clone());
        body["stream"] = json!(stream);
        let said = if stream {
            app.stream(&body).await.content()
        } else {
            content(&json_of(app.chat(&body).await).await).to_owned()
        };
        for part in ["2 pictures", "1 video", "1 sound", "2 documents", "notes.txt", "paper.pdf"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        for bytes in [png(1).as_slice(), &png(2), wav, mp4, "Grüße, 字".as_bytes()] {
            assert!(said.contains(&hash(bytes)), "{said}");
        }
    }
    app.assert_clean();
}

/// Editors and browsers guess types by the ending, and people name files in their own script.
#[tokio::test]
async fn bytes_decide_and_names_survive() {
    let app = TestApp::quick().await;
    for (name, claim, said) in [
        ("main.ts", "video/mp2t", "main.ts"),
        ("main.mts", "video/vnd.dlna.mpeg-tts", "main.mts"),
        ("notes.md", "application/octet-stream", "notes.md"),
        ("data.csv", "image/png", "data.csv"),
        ("Отчёт.txt", "text/plain", "Отчёт.txt"),
        ("报告 (1)#?.txt", "text/plain", "报告 (1)#?.txt"),
        ("C:\\Users\\me\\día\u{202e} \"x\".txt", "text/plain", "día_ _x_.txt"),
    ] {
        let body = with_parts(
            "qwen3-vl-plus",
            "What is it?",
            vec![file_part(name, claim, format!("const name = `{said}`;\n").as_bytes())],
        );
        let response = app.chat(&body).await;
        let status = response.status();
        let answer = json_of(response).await;
        assert_eq!(status, 200, "{name}: {answer}");
        let upload = app.simulator.stored().uploads().pop().unwrap();
        assert_eq!((upload.name.as_str(), upload.filetype.as_str()), (said, "file"), "{name}");
        assert!(upload.path.ends_with(said), "{}", upload.path);
        assert_eq!(app.asked().message()["files"][0]["name"], said);
    }
    app.assert_clean();
}

#[tokio::test]
async fn base64_may_be_wrapped() {
    let app = TestApp::quick().await;
    let encoded = STANDARD.encode(png(1));
    for end in ["\n", "\r\n", " ", "\n\t"] {
        let lines: Vec<&str> = encoded.as_bytes().chunks(60).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let url = format!("data:image/png;base64,{}{end}", lines.join(end));
        let part = json!({"type": "image_url", "image_url": {"url": url}});
        let answer = json_of(app.chat(&with_parts("qwen3-vl-plus", "What is it?", vec![part])).await).await;
        assert!(content(&answer).contains(&hash(&png(1))), "{end:?}: {answer}");
    }
}

#[tokio::test]
async fn a_claim_that_says_nothing_does_not_decide() {
    let app = TestApp::quick().await;
    for claim in ["", "None", "undefined", "null", "jpg", "image", "application/octet-stream"] {
        let url = format!("data:{claim};base64,{}", STANDARD.encode(png(1)));
        let part = json!({"type": "image_url", "image_url": {"url": url}});
        let answer = json_of(app.chat(&with_parts("qwen3-vl-plus", "What is it?", vec![part])).await).await;
        assert!(answer["error"].is_null() && content(&answer).contains(&hash(&png(1))), "{claim:?}: {answer}");
    }
}

#[tokio::test]
async fn the_same_bytes_are_uploaded_once_for_each_account() {
    let app = two_accounts(|scenario| scenario).await;
    let body = with_parts("qwen3-vl-plus", "What is it?", vec![image_part(1), image_part(1), image_part(2)]);
    for _ in 0..6 {
        let answer = json_of(app.chat(&body).await).await;
        assert!(content(&answer).contains("3 pictures"), "{answer}");
    }
    let uploads = app.simulator.stored().uploads();
    assert_eq!(uploads.len(), 4, "two pictures, two accounts: {uploads:?}");
    app.assert_clean();
}

#[tokio::test]
async fn a_link_that_ends_soon_is_not_used_again() {
    let app = TestApp::start(
        Scenario::with_accounts([AccountScript::new("ada", Era::A)])
            .paced_ms(0)
            .replying(Endpoint::Sts, ScriptedReply::granting(Duration::from_secs(3600), Duration::from_secs(20))),
    )
    .await;
    let body = with_parts("qwen3-vl-plus", "What is it?", vec![image_part(1)]);
    for _ in 0..2 {
        json_of(app.chat(&body).await).await;
    }
    assert_eq!(app.simulator.stored().uploads().len(), 2);
    app.assert_clean();
}

#[tokio::test]
async fn failover_uploads_anew() {
    let app = two_accounts(|scenario| scenario).await;
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::status(503));
    let body = with_parts("qwen3-vl-plus", "What is it?", vec![image_part(1)]);
    let answer = app.chat(&body).await;
    assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
    let mut owners: Vec<String> = app.simulator.stored().uploads().into_iter().map(|upload| upload.account).collect();
    owners.sort_unstable();
    owners.dedup();
    assert_eq!(owners, ["ada", "ben"]);
    app.assert_clean();
}

/// A chat with one picture, after this was scripted for one account.
async fn upload_with(scripts: Vec<(Endpoint, ScriptedReply)>) -> (TestApp, u16, String) {
    let app = TestApp::start(Scenario::with_accounts([AccountScript::new("ada", Era::A)]).paced_ms(0)).await;
    for (endpoint, reply) in scripts {
        app.simulator.script().queue(None, endpoint, reply);
    }
    let response = app.chat(&with_parts("qwen3-vl-plus", "What is it?", vec![image_part(1)])).await;
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (app, status, text)
}

#[tokio::test]
async fn a_storage_that_stumbles_is_asked_again() {
    for scripts in [
        vec![(Endpoint::OssPut, ScriptedReply::oss_error(503, "ServiceUnavailable"))],
        vec![
            (Endpoint::OssPut, ScriptedReply::oss_error(500, "InternalError")),
            (Endpoint::OssPut, ScriptedReply::oss_error(502, "x")),
        ],
        vec![(Endpoint::OssPut, ScriptedReply::oss_error(403, "SecurityTokenExpired"))],
        vec![(Endpoint::OssPut, ScriptedReply::put_stopping(1, PutStop::Close))],
        vec![(Endpoint::Sts, ScriptedReply::granting(Duration::ZERO, Duration::from_secs(300)))],
        vec![(Endpoint::Sts, ScriptedReply::status(404))],
    ] {
        let shown = format!("{scripts:?}");
        let (app, status, text) = upload_with(scripts).await;
        assert_eq!(status, 200, "{shown}: {text}");
        assert!(text.contains("1 picture"), "{shown}: {text}");
        assert_eq!(app.simulator.script().left(), 0, "{shown}");
    }
}

/// The storage refuses signatures that are a quarter of an hour off.
#[tokio::test]
async fn uploads_are_signed_by_the_upstreams_clock() {
    for offset in [-600, 600] {
        let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
        let upstream_now = || jiff::Timestamp::now() + jiff::SignedDuration::from_secs(offset);
        let mut reply = ScriptedReply::default();
        let date = upstream_now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        reply.headers.insert("date".to_owned(), date);
        for endpoint in [Endpoint::Refresh, Endpoint::Models, Endpoint::Sts, Endpoint::NewChat] {
            simulator.script().set_default(None, endpoint, Some(reply.clone()));
        }
        let app = Setup::default().start(simulator).await;
        let body = with_parts("qwen3-vl-plus", "What is it?", vec![image_part(1)]);
        assert!(content(&json_of(app.chat(&body).await).await).contains("1 picture"));
        let put = app.simulator.record().requests_to(Endpoint::OssPut).pop().unwrap();
        let signed_at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", put.header("x-oss-date").unwrap()).unwrap();
        let signed_at = signed_at.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        let wrong = upstream_now().duration_since(signed_at).as_secs();
        assert!(wrong.abs() < 300, "signed {wrong} s from the upstream's time");
    }
}

#[tokio::test]
async fn a_storage_that_refuses_costs_an_error_and_never_the_picture() {
    let refused = || (Endpoint::OssPut, ScriptedReply::oss_error(503, "ServiceUnavailable"));
    let (app, status, text) = upload_with(vec![refused(), refused(), refused()]).await;
    assert_eq!(status, 502, "{text}");
    assert!(text.contains("messages[0].content[1]"), "{text}");
    assert_eq!(app.simulator.record().requests_to(Endpoint::Completions).len(), 0);
    for secret in app.simulator.record().secrets() {
        assert!(!text.contains(&secret));
    }
}

/// The uploads of one turn wait neither for each other nor for the chat.
#[tokio::test]
async fn files_of_a_turn_go_up_at_once() {
    let app = TestApp::start(Scenario::with_accounts([AccountScript::new("ada", Era::A)]).paced_ms(0)).await;
    let slow = Duration::from_secs(2);
    app.simulator.script().set_default(None, Endpoint::OssPut, Some(ScriptedReply::default().delayed(slow)));
    let response = app.chat(&with_parts("qwen3-vl-plus", "What are they?", (1..=5).map(image_part).collect())).await;
    assert!(content(&json_of(response).await).contains("5 pictures"));
    let puts = app.simulator.record().requests_to(Endpoint::OssPut);
    assert_eq!(puts.len(), 5);
    let last_begun = puts.iter().map(|put| put.received_at).max().unwrap();
    let first_ended = puts.iter().map(|put| put.ended.as_ref().unwrap().at).min().unwrap();
    assert!(last_begun < first_ended, "one waited for another");
    let chat = &app.simulator.record().requests_to(Endpoint::NewChat)[0];
    assert!(chat.received_at < first_ended, "the chat waited for the files");
    app.assert_clean();
}

#[tokio::test]
async fn documents_are_read_before_they_are_asked_about() {
    let app = TestApp::quick().await;
    let part = || file_part("notes.md", "text/markdown", b"# Notes\nOne.");
    let answer = json_of(app.chat(&with_parts("qwen3-max", "Sum up", vec![part()])).await).await;
    assert!(content(&answer).contains("notes.md"), "{answer}");
    assert_eq!(app.simulator.stored().uploads()[0].parsed.as_deref(), Some("success"));
    app.simulator.script().set_default(
        None,
        Endpoint::FileParse,
        Some(ScriptedReply::parsing(ParseEnd::Failed("unreadable".into()))),
    );
    let other = file_part("torn.pdf", "application/pdf", b"%PDF-1.7 torn");
    let response = app.chat(&with_parts("qwen3-max", "Sum up", vec![other])).await;
    assert_eq!(response.status(), 400);
    let error = error_of(response).await;
    assert!(
        error["message"].as_str().unwrap().contains("torn.pdf")
            || error["message"].as_str().unwrap().contains("messages[0].content[1]"),
        "{error}"
    );
    app.assert_clean();
}

#[tokio::test]
async fn a_model_that_cannot_see_is_replaced_for_the_whole_turn() {
    let app = TestApp::quick().await;
    let response = app.chat(&with_parts("qwen3-coder-plus", "What is it?", vec![image_part(1)])).await;
    assert_eq!(response.headers()["x-bridge-fallback-model"], "qwen3-vl-plus");
    let answer = json_of(response).await;
    assert_eq!(answer["model"], "qwen3-coder-plus");
    assert!(content(&answer).contains("1 picture"), "{answer}");
    assert_eq!(app.asked().0["model"], "qwen3-vl-plus");
    let chats = app.simulator.record().requests_to(Endpoint::NewChat);
    assert_eq!(chats.last().unwrap().body.as_ref().unwrap()["models"], json!(["qwen3-vl-plus"]));
    // A turn without pictures keeps its model.
    let response = app.chat(&with_parts("qwen3-coder-plus", "Hi", vec![])).await;
    assert!(!response.headers().contains_key("x-bridge-fallback-model"));
}

#[tokio::test]
async fn without_a_fallback_such_a_request_is_refused() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = Setup::default().with("VISION_FALLBACK_MODEL", "").start(simulator).await;
    let response = app.chat(&with_parts("qwen3-coder-plus", "What is it?", vec![image_part(1)])).await;
    assert_eq!(response.status(), 400);
    let error = error_of(response).await;
    assert_eq!(error["param"], "messages[0].content[1]");
    assert_eq!(app.simulator.stored().uploads().len(), 0);
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn bad_files_reach_nobody() {
    let app = TestApp::quick().await;
    let image = |url: String| json!({"type": "image_url", "image_url": {"url": url}});
    let six: Vec<Value> = (0..6).map(image_part).collect();
    for (parts, code) in [
        (vec![image("data:image/png;base64,@@@@".into())], "invalid_file"),
        (vec![image(data_uri("image/png", b"<html>"))], "unsupported_file_type"),
        (vec![image(data_uri("text/html", &png(1)))], "unsupported_file_type"),
        (vec![image("file:///etc/passwd".into())], "invalid_value"),
        (vec![image("http://127.0.0.1/a.png".into())], "file_unreachable"),
        (vec![image("http://169.254.169.254/latest/meta-data".into())], "file_unreachable"),
        (vec![image("http://[::ffff:7f00:1]/a.png".into())], "file_unreachable"),
        (vec![file_part("a.exe", "application/octet-stream", b"MZ\x90\0\x03\0\0\0")], "unsupported_file_type"),
        (vec![json!({"type": "file", "file": {"file_id": "file-123"}})], "unsupported_parameter"),
        (six, "too_many_files"),
    ] {
        let shown: String = format!("{parts:?}").chars().take(200).collect();
        let response = app.chat(&with_parts("qwen3-vl-plus", "What is it?", parts)).await;
        assert_eq!(response.status(), 400, "{shown}");
        let error = error_of(response).await;
        assert_eq!(error["code"], code, "{shown} {error}");
        assert!(error["param"].as_str().unwrap().starts_with("messages[0].content["), "{error}");
    }
    assert_eq!(app.simulator.stored().uploads().len(), 0);
    assert_eq!(app.turns(), 0);
}

#[tokio::test]
async fn long_conversations_go_as_a_file() {
    let app = TestApp::quick().await;
    let long = "Line of the report. ".repeat(15_000);
    let body = json!({"model": "qwen3-max", "messages": [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": long},
        {"role": "assistant", "content": "Read."},
        {"role": "user", "content": "What is the last word of it?"},
    ]});
    let response = app.chat(&body).await;
    assert_eq!(response.headers()["x-bridge-prompt-file"], "conversation.txt");
    let answer = json_of(response).await;
    assert!(content(&answer).contains("conversation.txt"), "{answer}");
    let [upload] = app.simulator.stored().uploads().try_into().unwrap();
    assert_eq!((upload.name.as_str(), upload.parsed.as_deref()), ("conversation.txt", Some("success")));
    let text = String::from_utf8(upload.bytes.to_vec()).unwrap();
    assert!(text.contains(&long) && text.ends_with("<user>\nWhat is the last word of it?\n</user>"));
    let asked = app.asked();
    assert!(asked.prompt().contains("<user>\nWhat is the last word of it?\n</user>"), "{}", asked.prompt());
    assert!(asked.prompt().contains("Be terse.") && asked.prompt().len() < 60_000);
    app.assert_clean();
}

#[tokio::test]
async fn a_large_file_in_json_passes_through_the_disk() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = Setup::default().with("MAX_BODY", "100MB").start(simulator).await;
    let mut video = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2mp41".to_vec();
    video.resize(30_000_000, 7);
    let part = json!({"type": "video_url", "video_url": {"url": data_uri("video/mp4", &video)}});
    let response = app.chat(&with_parts(OMNI, "What is it?", vec![part])).await;
    let answer = json_of(response).await;
    assert!(content(&answer).contains(&hash(&video)), "{answer}");
    let left: Vec<_> =
        std::fs::read_dir(app.state_dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().starts_with("state.db")), "{left:?}");
    app.assert_clean();
}
