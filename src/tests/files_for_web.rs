//! Files as the web chat gets them: how many, for which models, and where they stand in the message.

use serde_json::{Value, json};

use crate::base::ids::UnixSeconds;
use crate::chat::error::RequestError;
use crate::chat::models::{Abilities, Makes, ModelInfo, Thinking};
use crate::chat::resolve::Rules;
use crate::files::attachment::{JobFile, RemoteFile, UploadedFile};
use crate::files::media_type::MediaKind;
use crate::tests::files::{data_uri, described, request};
use crate::tests::{planned, rules};
use crate::upstream::web::encode::{ChatPlace, FileRef, MessageIds, encode};
use crate::upstream::web::limits::{PROMPT_JSON_BYTES_MAX, json_len};
use crate::upstream::web::request::WebRequest;

fn images(count: usize) -> Vec<Value> {
    let part = |at| json!({"type": "image_url", "image_url": {"url": format!("https://e.org/{at}.png")}});
    (0..count).map(part).collect()
}

#[test]
fn how_many_files_a_turn_takes() {
    let user = |parts: Vec<Value>| json!({"role": "user", "content": parts});
    let said = json!({"role": "assistant", "content": "I see."});
    let names = |messages: Value| {
        request(&messages, &[]).map(|request| {
            let url = |file: &JobFile| described(file).rsplit('/').next().unwrap().to_owned();
            let names: Vec<String> = request.files.iter().map(url).collect();
            format!("{} omitted {}", names.join(" "), request.notes.omitted_files)
        })
    };
    assert_eq!(names(json!([user(images(5))])).unwrap(), "0.png 1.png 2.png 3.png 4.png omitted 0");
    let error = names(json!([user(images(6))])).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("messages[0].content[5]"));
    let error = names(json!([user(images(3)), user(images(3))])).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("messages[1].content[2]"));
    // Of what was seen before, the newest stay.
    assert_eq!(
        names(json!([user(images(4)), said, user(images(3))])).unwrap(),
        "2.png 3.png 0.png 1.png 2.png omitted 2"
    );
    assert_eq!(names(json!([user(images(9)), said, user(vec![])])).unwrap(), "4.png 5.png 6.png 7.png 8.png omitted 4");
    let videos: Vec<Value> = (0..2).map(|_| json!({"type": "video_url", "video_url": "https://e.org/v.mp4"})).collect();
    assert!(names(json!([user(videos)])).is_err());
}

#[test]
fn marks_stand_where_files_stood() {
    let mut first = images(6);
    first.insert(0, json!({"type": "text", "text": "See:"}));
    let messages = json!([
        {"role": "user", "content": first},
        {"role": "assistant", "content": "Seen."},
        {"role": "user", "content": [
            {"type": "text", "text": "And this?"},
            {"type": "file", "file": {"file_data": data_uri("text/plain", b"x"), "filename": "a\"b<c.txt"}},
        ]},
    ]);
    insta::assert_snapshot!(request(&messages, &[]).unwrap().prompt, @r#"
    This is a conversation, one block for each message in order. Follow the <system> blocks, and write only the assistant's next message, without tags around it.

    <user>
    See:
    <file name="image-1" omitted="true"/>
    <file name="image-2"/>
    <file name="image-3"/>
    <file name="image-4"/>
    <file name="image-5"/>
    <file name="image-6"/>
    </user>

    <assistant>
    Seen.
    </assistant>

    <user>
    And this?
    <file name="abc.txt"/>
    </user>
    "#);
    let alone = json!([{"role": "user", "content": [{"type": "text", "text": "See:"}, images(1)[0]]}]);
    assert_eq!(request(&alone, &[]).unwrap().prompt, "See:");
    let only = json!([{"role": "user", "content": images(1)}]);
    assert_eq!(request(&only, &[]).unwrap().prompt, "");
}

fn model(id: &str, abilities: Abilities) -> ModelInfo {
    ModelInfo {
        id: id.to_owned(),
        created: 1,
        owned_by: "qwen".to_owned(),
        thinking: Thinking::OnRequest,
        search: true,
        writes: vec![],
        tells_chat_types: false,
        abilities,
        makes: Makes::default(),
        context_length: Some(1000),
    }
}

fn catalogue() -> Vec<ModelInfo> {
    let blind = Abilities { image: Some(false), video: Some(false), audio: Some(false), document: Some(true) };
    let sees = Abilities { image: Some(true), ..blind };
    let hears = Abilities { audio: Some(true), ..sees };
    vec![model("free", Abilities::default()), model("blind", blind), model("sees", sees), model("hears", hears)]
}

fn resolved(body: &Value, vision_fallback: &str) -> Result<WebRequest, RequestError> {
    let models = catalogue();
    let rules = Rules { vision_fallback, ..rules(&models, true) };
    planned(body, &[], &rules)
}

#[test]
fn models_that_cannot_take_the_files() {
    let check = |model: &str, part: Value, fallback: &str, expected: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": ["Hi", part]}]});
        let found = match resolved(&body, fallback) {
            Ok(job) => format!("{} {} {}", job.model, job.upstream_model, job.notes.fallback_model.unwrap_or_default()),
            Err(error) => format!("! {:?} {}", error.kind, error.param.unwrap()),
        };
        assert_eq!(found.trim_end(), expected, "{model} {part} {fallback}");
    };
    let image = || images(1).remove(0);
    let sound = || json!({"type": "audio_url", "audio_url": "https://e.org/a.mp3"});
    let video = || json!({"type": "video_url", "video_url": "https://e.org/a.mp4"});
    let paper = || json!({"type": "input_file", "file_url": "https://e.org/a.pdf"});
    check("sees", image(), "sees", "sees sees");
    check("free", image(), "sees", "free free");
    check("blind", image(), "sees", "blind sees sees");
    check("blind-thinking", image(), "sees", "blind-thinking sees sees");
    check("blind", paper(), "sees", "blind blind");
    check("blind", image(), "", "! UnsupportedValue messages[0].content[1]");
    check("sees", sound(), "", "! UnsupportedValue messages[0].content[1]");
    // The configured model may not hear, or be gone; another one may do.
    check("sees", sound(), "sees", "sees free free");
    check("blind", image(), "gone", "blind free free");
    check("hears", video(), "sees", "hears free free");
}

#[test]
fn what_is_made_of_which_pictures() {
    let check = |model: &str, messages: Value, expected: &str| {
        let body = json!({"model": model, "messages": messages, "size": "1792x1024"});
        let found = match resolved(&body, "sees") {
            Ok(job) => {
                let urls: Vec<String> =
                    job.files.iter().map(|file| described(file).rsplit('/').next().unwrap().to_owned()).collect();
                format!(
                    "{} {:?} {} {:?}",
                    job.chat_type(),
                    job.prompt,
                    urls.join("+"),
                    job.aspect().map(|it| it.as_str())
                )
            }
            Err(error) => format!("! {:?} {}", error.kind, error.param.unwrap()),
        };
        assert_eq!(found, expected, "{model} {messages}");
    };
    let user = |text: &str, count: usize| {
        let mut parts = images(count);
        parts.insert(0, json!(text));
        json!({"role": "user", "content": parts})
    };
    let drew = |names: &[&str]| {
        let texts: Vec<String> = names.iter().map(|name| format!("![image](https://e.org/{name})")).collect();
        json!({"role": "assistant", "content": texts.join("\n\n")})
    };
    let wide = r#"Some("16:9")"#;
    check("free-image", json!([user("A cat", 0)]), &format!("t2i \"A cat\"  {wide}"));
    check(
        "free-image",
        json!([{"role": "system", "content": "s"}, user("A cat", 0)]),
        &format!("t2i \"A cat\"  {wide}"),
    );
    check("free-image", json!([user("old", 1), drew(&["o.png"]), user("A dog", 0)]), &format!("t2i \"A dog\"  {wide}"));
    check("free-image", json!([user("Like this", 2)]), &format!("image_edit \"Like this\" 0.png+1.png {wide}"));
    check("free-image", json!([user("", 0)]), "! InvalidValue messages");
    check("free-image_edit", json!([user("Bluer", 1)]), &format!("image_edit \"Bluer\" 0.png {wide}"));
    check("free-image-edit", json!([user("", 1)]), &format!("image_edit \"Edit this picture.\" 0.png {wide}"));
    check("free-image_edit", json!([user("A cat", 0)]), &format!("t2i \"A cat\"  {wide}"));
    check(
        "free-image_edit",
        json!([user("a", 2), drew(&["x.png", "y.png"]), user("Bluer", 0)]),
        &format!("image_edit \"Bluer\" 1.png+x.png+y.png {wide}"),
    );
    check(
        "free-image_edit",
        json!([drew(&["x.png", "y.png"]), user("Bluer", 5)]),
        &format!("image_edit \"Bluer\" 0.png+1.png+2.png+3.png+4.png {wide}"),
    );
    check("free-video", json!([user("Waves", 0)]), &format!("t2v \"Waves\"  {wide}"));
    check("free-video", json!([user("Move", 2)]), &format!("i2v \"Move\" 1.png {wide}"));
    check("free-video", json!([drew(&["x.png"]), user("Waves", 0)]), &format!("t2v \"Waves\"  {wide}"));
    let with_sound =
        json!([{"role": "user", "content": ["Draw it", {"type": "audio_url", "audio_url": "https://e.org/a.mp3"}]}]);
    check("free-image", with_sound, "! UnsupportedValue messages[0].content[1]");
}

#[test]
fn long_conversations_go_as_a_file() {
    let ask = |text: String, model: &str| {
        let messages = json!([{"role": "system", "content": "Be terse."}, {"role": "user", "content": text}, {"role": "user", "content": "Now?"}]);
        resolved(&json!({"model": model, "messages": messages}), "sees")
    };
    let short = ask("x".repeat(1000), "free").unwrap();
    assert!(short.files.is_empty() && short.notes.prompt_file.is_none());
    // Twice the limit as JSON, and little as text.
    for text in ["\"".repeat(PROMPT_JSON_BYTES_MAX), "\u{1}".repeat(PROMPT_JSON_BYTES_MAX / 3)] {
        let mut models = catalogue();
        models[0].context_length = None;
        let body = json!({"messages": [{"role": "user", "content": text}, {"role": "user", "content": "Now?"}]});
        let job = planned(&body, &[], &rules(&models, true)).unwrap();
        assert!(json_len(&job.prompt) <= PROMPT_JSON_BYTES_MAX, "{}", json_len(&job.prompt));
        assert!(job.prompt.contains("<user>\nNow?\n</user>") && job.prompt.contains("conversation.txt"));
        let [JobFile::Ready(file)] = job.files.as_slice() else { panic!("{:?}", job.files) };
        assert_eq!((file.name.as_str(), file.kind), ("conversation.txt", MediaKind::Document));
        assert!(file.content.len() > text.len() as u64 && job.notes.prompt_file.is_some());
    }
    // More than the model can read, by its own word.
    let error = ask("x".repeat(PROMPT_JSON_BYTES_MAX), "free").unwrap_err();
    assert_eq!(format!("{:?}", error.kind), "TooLong");
    let body = json!({"messages": [{"role": "user", "content": "x".repeat(20_000_001)}]});
    let error = planned(&body, &[], &rules(&[], false)).unwrap_err();
    assert_eq!(format!("{:?} {}", error.kind, error.param.unwrap()), "TooLong messages");
    // The prompt of a picture cannot be read from a file.
    let error = ask("x".repeat(PROMPT_JSON_BYTES_MAX), "free-image").unwrap_err();
    assert_eq!(format!("{:?}", error.kind), "TooLong");
}

#[test]
fn files_in_the_upstreams_words() {
    let upload = |kind, name: &str, content_type: &str| {
        FileRef::Uploaded(UploadedFile {
            file_id: "f-1".to_owned(),
            url: format!("https://storage/u-1/f-1_{name}?x-oss-signature=s"),
            user_id: Some("u-1".to_owned()),
            name: name.to_owned(),
            kind,
            content_type: content_type.to_owned(),
            size: 5,
        })
    };
    let link = FileRef::Link(RemoteFile {
        at: String::new(),
        label: "picture-1".to_owned(),
        kind: MediaKind::Image,
        url: "https://cdn/x.png?key=k".to_owned(),
    });
    let files =
        [upload(MediaKind::Document, "a.pdf", "application/pdf"), upload(MediaKind::Video, "v.mp4", "video/mp4"), link];
    let job =
        resolved(&json!({"model": "free-video", "messages": [{"role": "user", "content": "Waves"}]}), "").unwrap();
    let ids = MessageIds {
        fid: "fid".to_owned(),
        child: "child".to_owned(),
        files: (0..3).map(|at| [format!("item-{at}"), format!("task-{at}")]).collect(),
    };
    let body = encode(&job, &files, ChatPlace { chat_id: "chat-1", parent_id: None }, &ids, UnixSeconds(1_790_000_000))
        .unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    insta::assert_json_snapshot!(body);
}
