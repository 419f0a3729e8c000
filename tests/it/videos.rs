//! Videos as jobs: asked for at once, made in the background, their callers' alone, and never made twice.

use std::io::Cursor;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use image::{ImageFormat, RgbImage};
use reqwest::Response;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use simulator::Simulator;
use simulator::script::{Endpoint, ErrorScript, ScriptedReply, VideoEnd};

use crate::support::app::{KEY, Setup, TestApp, error_of, json_of, question};
use crate::support::oracle::{FORMS, Form, ask, asked_accounts, crew, read, until, until_all_healthy};
use crate::videos_restart::LONG;

/// How long a video may take here, pauses between two looks included.
pub(crate) const VIDEO_PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const OTHER_KEY: &str = "sk-other-key";

pub(crate) fn boat() -> Value {
    json!({"model": "qwen3-max", "prompt": "A boat at sea", "size": "1280x720"})
}

/// Videos that are done at the first look.
pub(crate) fn soon() -> ScriptedReply {
    ScriptedReply::video(VideoEnd::Success).with_video(|video| video.polls = 0)
}

/// A video that is never done.
pub(crate) fn stalled() -> ScriptedReply {
    ScriptedReply::video(VideoEnd::Stalled)
}

/// A server with so many accounts, where every question for a video gets this.
pub(crate) async fn start(count: usize, reply: ScriptedReply) -> TestApp {
    start_with(Setup::default(), count, reply).await
}

pub(crate) async fn start_with(setup: Setup, count: usize, reply: ScriptedReply) -> TestApp {
    let simulator = Simulator::start(crew(count)).await.unwrap();
    simulator.script().set_default(None, Endpoint::Completions, Some(reply));
    setup.start(simulator).await
}

pub(crate) async fn good(response: Response) -> Value {
    let status = response.status();
    let body = json_of(response).await;
    assert_eq!(status, 200, "{body}");
    body
}

pub(crate) async fn create(app: &TestApp, body: &Value) -> String {
    let video = good(app.post("/v1/videos", body).send().await.unwrap()).await;
    must_be_a_video(&video);
    video["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn look(app: &TestApp, id: &str) -> Value {
    let video = good(app.get(&format!("/v1/videos/{id}")).send().await.unwrap()).await;
    must_be_a_video(&video);
    video
}

/// Asks after a video until this is true of it.
pub(crate) async fn until_video(app: &TestApp, id: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + VIDEO_PATIENCE;
    loop {
        let video = look(app, id).await;
        if is_it(&video) {
            return video;
        }
        assert!(Instant::now() < deadline, "never came: {video}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn until_done(app: &TestApp, id: &str) -> Value {
    until_video(app, id, |video| video["status"] == "completed" || video["status"] == "failed").await
}

/// Looks at the shape, which typed clients depend on.
#[track_caller]
pub(crate) fn must_be_a_video(video: &Value) {
    let mut keys: Vec<_> = video.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "completed_at",
        "created_at",
        "error",
        "expires_at",
        "id",
        "model",
        "object",
        "progress",
        "prompt",
        "remixed_from_video_id",
        "seconds",
        "size",
        "status",
    ];
    assert_eq!(keys, expected, "{video}");
    assert_eq!(video["object"], "video");
    assert!(video["id"].as_str().unwrap().starts_with("video_"));
    assert_eq!(video["seconds"], "5");
    let (status, progress) = (video["status"].as_str().unwrap(), video["progress"].as_u64().unwrap());
    assert!(["queued", "in_progress", "completed", "failed"].contains(&status), "{video}");
    assert!(if status == "completed" { progress == 100 } else { progress <= 95 }, "{video}");
    assert_eq!(video["error"].is_null(), status != "failed", "{video}");
    assert_eq!(video["completed_at"].is_null(), status != "completed" && status != "failed", "{video}");
}

/// The bytes that the simulator has behind the link of its `place`th video, from the end.
pub(crate) fn filler(app: &TestApp, place: usize) -> Vec<u8> {
    let task = app.simulator.stored().videos().remove(place);
    let (user, kind) = (app.simulator.accounts().user_id(&task.account), &task.chat_type);
    let path = format!("/output/{user}/{kind}/{}/{}.mp4", task.chat_id, task.id);
    Sha256::digest(path).iter().copied().cycle().take(4_096).collect()
}

/// All that is written down. A file that goes away meanwhile is of the database, which is just being closed.
pub(crate) fn bytes_in(state_dir: &tempfile::TempDir) -> Vec<u8> {
    let entries = state_dir.path().read_dir().unwrap();
    entries.filter_map(|entry| std::fs::read(entry.ok()?.path()).ok()).flatten().collect()
}

/// A form of texts and of one file.
fn form(fields: &[(&str, &str)], file: Option<(&str, &str, &[u8])>) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "----a-boundary";
    let mut body = Vec::new();
    for (name, text) in fields {
        let part = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    if let Some((name, file_name, bytes)) = file {
        let head = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\n\
             content-type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

pub(crate) fn picture() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_fn(32, 18, |x, y| image::Rgb([x as u8, y as u8, 7])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[tokio::test]
async fn a_video_is_asked_for_waited_for_and_fetched() {
    let app = start(1, ScriptedReply::video(VideoEnd::Success)).await;
    let response = app.post("/v1/videos", &boat()).send().await.unwrap();
    assert_eq!(response.headers()["x-bridge-aspect-ratio"], "16:9");
    assert!(!response.headers().contains_key("x-bridge-ignored"));
    let video = good(response).await;
    must_be_a_video(&video);
    assert_eq!((&video["status"], &video["progress"]), (&json!("queued"), &json!(0)));
    assert_eq!((&video["model"], &video["prompt"]), (&json!("qwen3-max"), &json!("A boat at sea")));
    assert_eq!(video["size"], "1280x720");
    let id = video["id"].as_str().unwrap();
    let content = format!("/v1/videos/{id}/content");

    let early = app.get(&content).send().await.unwrap();
    assert_eq!(early.status(), 400);
    assert_eq!(error_of(early).await["code"], "video_not_ready");
    until_video(&app, id, |video| video["status"] == "in_progress").await;
    let done = until_done(&app, id).await;
    assert_eq!(done["status"], "completed", "{done}");

    let whole = app.get(&content).send().await.unwrap();
    assert_eq!((whole.status().as_u16(), &whole.headers()["content-type"]), (200, &"video/mp4".parse().unwrap()));
    let length: usize = whole.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let bytes = whole.bytes().await.unwrap();
    assert_eq!(bytes.len(), length);
    assert_eq!(&bytes[4..12], b"ftypisom");
    assert!(bytes.ends_with(&filler(&app, 0)), "another file");

    let part = app.get(&content).header("range", "bytes=4-11").send().await.unwrap();
    assert_eq!((part.status().as_u16(), &part.headers()["content-type"]), (206, &"video/mp4".parse().unwrap()));
    assert_eq!(part.headers()["content-range"], format!("bytes 4-11/{length}"));
    assert_eq!(part.bytes().await.unwrap(), bytes.slice(4..12));
    let outside = app.get(&content).header("range", format!("bytes={length}-")).send().await.unwrap();
    assert_eq!(outside.status(), 416);
    assert_eq!(error_of(outside).await["code"], "range_not_satisfiable");
    let variant = app.get(&format!("{content}?variant=thumbnail")).send().await.unwrap();
    assert_eq!(variant.status(), 400);
    assert_eq!(error_of(variant).await["param"], "variant");
    assert_eq!(app.get(&format!("{content}?variant=video")).send().await.unwrap().status(), 200);
    for refusal in [ScriptedReply::status(403), ScriptedReply::status(200)] {
        app.simulator.script().queue(None, Endpoint::MediaLink, refusal);
        let gone = app.get(&content).send().await.unwrap();
        assert_eq!(gone.status(), 502);
        assert_eq!(error_of(gone).await["code"], "upstream_error");
    }

    until("the chat to be deleted", || app.simulator.stored().chats(None).iter().all(|chat| chat.is_old)).await;
    assert_eq!(app.simulator.stored().videos().len(), 1);
    app.assert_clean();
}

#[tokio::test]
async fn a_form_with_a_picture_brings_the_picture_to_life() {
    let app = start(1, soon()).await;
    let picture = picture();
    let fields = [("model", "qwen3-max-video"), ("prompt", "Let it sail"), ("seconds", "8"), ("size", "720x1280")];
    let (content_type, body) = form(&fields, Some(("input_reference", "boat.png", &picture)));
    let request = app.client.post(app.url("/v1/videos")).bearer_auth(KEY).header("content-type", content_type);
    let response = request.body(body).send().await.unwrap();
    assert_eq!(response.headers()["x-bridge-ignored"], "seconds");
    assert_eq!(response.headers()["x-bridge-aspect-ratio"], "9:16");
    let video = good(response).await;
    must_be_a_video(&video);
    assert_eq!((&video["model"], &video["size"]), (&json!("qwen3-max-video"), &json!("720x1280")));
    let done = until_done(&app, video["id"].as_str().unwrap()).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(app.simulator.stored().videos().remove(0).chat_type, "i2v");
    let uploads = app.simulator.stored().uploads();
    assert_eq!(uploads.len(), 1);
    assert!(uploads[0].is_whole && uploads[0].bytes == picture);
    assert_eq!((app.asked().prompt(), app.asked().chat_type()), ("Let it sail", "i2v"));
    assert_eq!((&app.asked().0["size"], &app.asked().0["model"]), (&json!("9:16"), &json!("qwen3-max")));
    app.assert_clean();
}

#[tokio::test]
async fn a_picture_comes_in_json_in_every_form() {
    let app = start(1, soon()).await;
    let payload = format!("data:image/png;base64,{}", STANDARD.encode(picture()));
    for reference in [json!(payload), json!({"image_url": payload}), json!({"url": payload}), json!([payload])] {
        let mut body = boat();
        body["input_reference"] = reference;
        let done = until_done(&app, &create(&app, &body).await).await;
        assert_eq!(done["status"], "completed", "{done}");
    }
    let kinds: Vec<_> = app.simulator.stored().videos().into_iter().map(|task| task.chat_type).collect();
    assert_eq!(kinds, ["i2v"; 4]);
    assert_eq!(app.simulator.stored().uploads().len(), 1, "the same bytes go up once");
    app.assert_clean();
}

#[tokio::test]
async fn what_goes_wrong_is_told_by_the_job() {
    let out =
        ScriptedReply::error_with(ErrorScript { code: "RateLimited".into(), num: Some(3), ..ErrorScript::default() });
    let sunk = ScriptedReply::video(VideoEnd::Failed("the boat sank".into())).with_video(|video| video.polls = 0);
    let gone = ScriptedReply::video(VideoEnd::Vanished).with_video(|video| video.polls = 0);
    let cases = [
        (sunk, "upstream_error", "the boat sank"),
        (gone, "upstream_error", "lost the video"),
        (ScriptedReply::error("data_inspection_failed"), "content_filter", "content policy"),
        (out, "insufficient_quota", "quota"),
        (ScriptedReply::status(500), "upstream_error", "failed"),
        (ScriptedReply::error("Not_Found_Model"), "upstream_error", ""),
    ];
    join_all(cases.map(async |(reply, code, words)| {
        let app = start(1, reply).await;
        let id = create(&app, &boat()).await;
        let failed = until_done(&app, &id).await;
        assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!(code)), "{failed}");
        assert!(failed["error"]["message"].as_str().unwrap().contains(words), "{failed}");
        let content = app.get(&format!("/v1/videos/{id}/content")).send().await.unwrap();
        assert_eq!(content.status(), 400);
        let error = error_of(content).await;
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        until("the chats to be deleted", || app.simulator.stored().chats(None).iter().all(|chat| chat.is_old)).await;
        app.assert_clean();
    }))
    .await;
}

#[tokio::test]
async fn the_older_route_alone_tells_of_a_video_too() {
    let app = start(1, soon()).await;
    app.simulator.script().set_default(None, Endpoint::TaskStatus, Some(ScriptedReply::status(404)));
    let done = until_done(&app, &create(&app, &boat()).await).await;
    assert_eq!(done["status"], "completed", "{done}");
}

#[tokio::test]
async fn a_start_that_is_not_answered_is_found_in_its_chat() {
    let app = start(2, soon().with_video(|video| video.lost = true)).await;
    let done = until_done(&app, &create(&app, &boat()).await).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(app.simulator.stored().videos().len(), 1);
    app.assert_clean();
}

#[tokio::test]
async fn a_start_behind_a_page_of_a_gateway_is_found_in_its_chat() {
    for status in [500, 502, 504] {
        let app = start(2, soon().with_video(|video| video.hidden_by = Some(status))).await;
        let done = until_done(&app, &create(&app, &boat()).await).await;
        assert_eq!(done["status"], "completed", "{status}: {done}");
        assert_eq!(app.simulator.stored().videos().len(), 1, "{status}");
        app.assert_clean();
    }
}

#[tokio::test]
async fn a_start_that_failed_before_anything_was_asked_is_tried_elsewhere() {
    let app = start(2, soon()).await;
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::status(502));
    let done = until_done(&app, &create(&app, &boat()).await).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(app.simulator.record().requests_to(Endpoint::Completions).len(), 2);
    assert_eq!(app.simulator.stored().videos().len(), 1);
    app.assert_clean();
}

#[tokio::test]
async fn a_start_of_which_nothing_is_known_is_not_tried_again() {
    let app = start(2, ScriptedReply::failing(simulator::script::ScriptedFailure::Reset)).await;
    let failed = until_done(&app, &create(&app, &boat()).await).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("upstream_error")));
    assert_eq!(app.simulator.record().requests_to(Endpoint::Completions).len(), 1, "{failed}");
}

#[tokio::test]
async fn an_empty_quota_of_one_account_leaves_its_chats_alone() {
    let app = start(2, soon()).await;
    let out =
        ScriptedReply::error_with(ErrorScript { code: "RateLimited".into(), num: Some(3), ..ErrorScript::default() });
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, out.clone());
    for _ in 0..2 {
        let done = until_done(&app, &create(&app, &boat()).await).await;
        assert_eq!(done["status"], "completed", "{done}");
    }
    let makers: Vec<_> = app.simulator.stored().videos().into_iter().map(|task| task.account).collect();
    assert_eq!(makers, ["bob", "bob"]);
    let before = asked_accounts(&app.simulator).len();
    for _ in 0..2 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    let mut askers = asked_accounts(&app.simulator).split_off(before);
    askers.sort();
    assert_eq!(askers, ["ada", "bob"]);
    app.assert_clean();
}

#[tokio::test]
async fn requests_that_are_wrong() {
    let app = start(1, soon()).await;
    // The live catalogue knows what does not exist.
    until("the catalogue", || !app.simulator.record().requests_to(Endpoint::Models).is_empty()).await;
    let two = format!("data:image/png;base64,{}", STANDARD.encode(picture()));
    for (fields, status, param, code) in [
        (json!({"prompt": null}), 400, "prompt", "missing_required_parameter"),
        (json!({"prompt": " \n"}), 400, "prompt", "invalid_value"),
        (json!({"prompt": ["x"]}), 400, "prompt", "invalid_type"),
        (json!({"prompt": "x".repeat(120_000)}), 400, "prompt", "context_length_exceeded"),
        (json!({"model": " "}), 400, "model", "invalid_value"),
        (json!({"model": 5}), 400, "model", "invalid_type"),
        (json!({"model": "sora-2"}), 404, "model", "model_not_found"),
        (json!({"model": "qwen3-max-image"}), 400, "model", "unsupported_value"),
        (json!({"size": 5}), 400, "size", "invalid_type"),
        (json!({"size": "x".repeat(40)}), 400, "size", "invalid_value"),
        (json!({"seconds": "soon"}), 400, "seconds", "invalid_value"),
        (json!({"seconds": 0}), 400, "seconds", "invalid_value"),
        (json!({"seconds": true}), 400, "seconds", "invalid_type"),
        (json!({"input_reference": 5}), 400, "input_reference", "invalid_type"),
        (json!({"input_reference": {}}), 400, "input_reference.image_url", "missing_required_parameter"),
        (json!({"input_reference": {"file_id": "file-1"}}), 400, "input_reference.file_id", "unsupported_parameter"),
        (json!({"input_reference": [two, two]}), 400, "input_reference", "too_many_files"),
        (json!({"input_reference": "data:image/png;base64,AAAA"}), 400, "input_reference", "unsupported_file_type"),
        (json!({"input_reference": "data:video/mp4;base64,AAAA"}), 400, "input_reference", "unsupported_file_type"),
    ] {
        let mut body = boat();
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        let shown: String = fields.to_string().chars().take(100).collect();
        let refused = app.post("/v1/videos", &body).send().await.unwrap();
        assert_eq!(refused.status(), status, "{shown}");
        let error = error_of(refused).await;
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{shown}: {error}");
    }
    for body in ["", "{", "[]", "nope"] {
        let refused = app.post("/v1/videos", &Value::Null).body(body).send().await.unwrap();
        assert_eq!(refused.status(), 400, "{body}");
        error_of(refused).await;
    }
    let (content_type, body) = form(&[("prompt", "x")], Some(("input_reference", "a.txt", b"no picture")));
    let request = app.client.post(app.url("/v1/videos")).bearer_auth(KEY).header("content-type", content_type);
    let refused = request.body(body).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert_eq!(error_of(refused).await["code"], "unsupported_file_type");
    assert_eq!(app.turns(), 0);
    assert_eq!(good(app.get("/v1/videos").send().await.unwrap()).await["data"], json!([]));
    // What OpenAI's clients leave out has a default.
    let video = good(app.post("/v1/videos", &json!({"prompt": "A boat"})).send().await.unwrap()).await;
    assert_eq!((&video["model"], &video["size"]), (&json!("qwen3-max"), &json!("1280x720")));
}

#[tokio::test]
async fn a_server_takes_so_many_videos_at_once() {
    let app = start(1, stalled()).await;
    app.simulator.script().set_default(None, Endpoint::NewChat, Some(ScriptedReply::default().delayed(LONG)));
    let wish = boat();
    let mut ids = join_all((0..32).map(|_| create(&app, &wish))).await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 32);
    let refused = app.post("/v1/videos", &wish).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"60".parse().unwrap()));
    assert_eq!(error_of(refused).await["code"], "server_busy");
    let path = app.url(&format!("/v1/videos/{}", ids[0]));
    good(app.client.delete(path).bearer_auth(KEY).send().await.unwrap()).await;
    create(&app, &wish).await;
}

#[tokio::test]
async fn a_video_is_wide_unless_asked_otherwise_on_both_routes() {
    let app = start(1, ScriptedReply::video(VideoEnd::Success)).await;
    for (size, expected) in [(None, "16:9"), (Some("auto"), "16:9"), (Some("1024x1024"), "1:1"), (Some("9:16"), "9:16")]
    {
        let mut body = question("A boat at sea");
        (body["model"], body["size"]) = (json!("qwen3-max-video"), json!(size));
        let response = app.chat(&body).await;
        assert_eq!(response.headers()["x-bridge-aspect-ratio"], expected, "{size:?}");
        assert_eq!(app.asked().0["size"], expected, "{size:?}");
    }
    good(app.post("/v1/videos", &json!({"prompt": "A boat"})).send().await.unwrap()).await;
    until("the video to be asked for", || app.asked().prompt() == "A boat").await;
    assert_eq!(app.asked().0["size"], "16:9");
}

#[tokio::test]
async fn the_chat_route_waits_for_a_video() {
    let setup = Setup::default().with("KEEPALIVE_INTERVAL", "200ms").with("HEADERS_HOLD", "0");
    let app = start_with(setup, 1, ScriptedReply::video(VideoEnd::Success)).await;
    until_all_healthy(&app).await;
    for form in FORMS {
        let mut body = question("A boat at sea");
        body["model"] = json!("qwen3-max-video");
        body["stream"] = json!(form == Form::Stream);
        let answer = read(app.post("/v1/chat/completions", &body), form).await;
        let task = app.simulator.stored().videos().pop().unwrap();
        assert_eq!((answer.status, answer.finish.as_deref()), (200, Some("stop")), "{}", answer.raw);
        assert!(answer.content.contains(&format!("/{}.mp4?key=", task.id)), "{}", answer.raw);
        if form == Form::Stream {
            assert!(answer.raw.matches("\n:").count() > 3, "{}", answer.raw);
        }
    }
    assert_eq!(app.simulator.stored().videos().len(), 2);
    until("the chats to be deleted", || app.simulator.stored().chats(None).iter().all(|chat| chat.is_old)).await;
    app.assert_clean();
}
