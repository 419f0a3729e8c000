use std::collections::BTreeMap;
use std::time::Duration;

use base16ct::lower::encode_string as hex;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use jiff::Timestamp;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::Simulator;
use crate::record::{EndedHow, RecordedRequest};
use crate::script::{Endpoint, ParseEnd, PutStop, ScriptedReply};
use crate::tests::client::{Caller, Read, SOON, answer_of, frames, question, read, start};

const STS: &str = "/api/v2/files/getstsToken";

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().to_vec()
}

fn encoded(path: &str) -> String {
    let form = |segment: &str| url::form_urlencoded::byte_serialize(segment.as_bytes()).collect::<String>();
    let segments: Vec<_> = path.split('/').map(form).collect();
    segments.join("/").replace('+', "%20").replace('*', "%2A")
}

async fn grant(caller: &Caller<'_>, name: &str, filetype: &str, size: usize) -> Value {
    let body = json!({ "filename": name, "filesize": size.to_string(), "filetype": filetype });
    caller.post(STS, &body).await.data()
}

fn text<'a>(grant: &'a Value, name: &str) -> &'a str {
    grant[name].as_str().unwrap()
}

/// A PUT as the site's own SDK signs it.
fn signed(caller: &Caller<'_>, grant: &Value, content_type: &str, signs_host: bool) -> RequestBuilder {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = stamp.split('T').next().unwrap();
    let scope = format!("{day}/ap-southeast-1/oss/aliyun_v4_request");
    let path = encoded(text(grant, "file_path"));
    let mut headers = BTreeMap::from([
        ("content-type", content_type.to_owned()),
        ("x-oss-content-sha256", "UNSIGNED-PAYLOAD".to_owned()),
        ("x-oss-date", stamp.clone()),
        ("x-oss-security-token", text(grant, "security_token").to_owned()),
    ]);
    if signs_host {
        headers.insert("host", format!("{}.{}", text(grant, "bucketname"), text(grant, "endpoint")));
    }
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let additional = if signs_host { "host" } else { "" };
    let canonical = format!("PUT\n/qwen-webui-prod/{path}\n\n{lines}\n{additional}\nUNSIGNED-PAYLOAD");
    let text_to_sign = format!("OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&Sha256::digest(&canonical)));
    let mut key = format!("aliyun_v4{}", text(grant, "access_key_secret")).into_bytes();
    for part in scope.split('/') {
        key = hmac(&key, part);
    }
    let names = if signs_host { "AdditionalHeaders=host," } else { "" };
    let signature = hex(&hmac(&key, &text_to_sign));
    let id = text(grant, "access_key_id");
    headers.remove("host");
    let mut request = caller.bare(Method::PUT, &format!("/{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.header("authorization", format!("OSS4-HMAC-SHA256 Credential={id}/{scope},{names}Signature={signature}"))
}

/// A PUT as older clients sign it.
fn signed_v1(caller: &Caller<'_>, grant: &Value, content_type: &str) -> RequestBuilder {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let (path, token) = (text(grant, "file_path"), text(grant, "security_token"));
    let canonical = format!("PUT\n\n{content_type}\n{date}\nx-oss-security-token:{token}\n/qwen-webui-prod/{path}");
    let mac = Hmac::<Sha1>::new_from_slice(text(grant, "access_key_secret").as_bytes()).unwrap();
    let signature = STANDARD.encode(mac.chain_update(canonical).finalize().into_bytes());
    let request = caller.bare(Method::PUT, &format!("/{}", encoded(path)));
    request
        .header("content-type", content_type)
        .header("date", date)
        .header("x-oss-security-token", token)
        .header("authorization", format!("OSS {}:{signature}", text(grant, "access_key_id")))
}

async fn send(request: RequestBuilder) -> Read {
    read(request.send().await.unwrap()).await
}

/// Uploads a file; its grant.
async fn upload(caller: &Caller<'_>, name: &str, filetype: &str, content_type: &str, bytes: &[u8]) -> Value {
    let grant = grant(caller, name, filetype, bytes.len()).await;
    let done = send(signed(caller, &grant, content_type, true).body(bytes.to_vec())).await;
    assert_eq!((done.status, done.text.as_str()), (200, ""));
    grant
}

/// The entry of a message for an uploaded file.
fn entry(grant: &Value, kind: &str, class: &str) -> Value {
    json!({
        "type": kind, "id": grant["file_id"], "url": grant["file_url"], "showType": kind, "file_class": class,
        "status": "uploaded",
    })
}

async fn ask(caller: &Caller<'_>, files: Value) -> Read {
    let chat = caller.chat().await;
    let mut body = question(&chat, "echo: and so on");
    body["model"] = json!("qwen3.7-plus");
    body["messages"][0]["files"] = files;
    caller.complete(&chat, &body).await
}

async fn parsed(caller: &Caller<'_>, grant: &Value) {
    caller.post("/api/v2/files/parse", &json!({ "file_id": grant["file_id"] })).await.data();
    for _ in 0..3 {
        let list = json!({ "file_id_list": [grant["file_id"]] });
        caller.post("/api/v2/files/parse/status", &list).await.data();
    }
}

/// Code of an error of the object storage.
fn oss_code(read: &Read) -> &str {
    let (_, rest) = read.text.split_once("<Code>").unwrap();
    rest.split_once('<').unwrap().0
}

fn is_clean(simulator: &Simulator) {
    assert!(simulator.record().violations().is_empty(), "{:?}", simulator.record().violations());
}

#[tokio::test]
async fn grants_have_the_recorded_shape() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let new = grant(&caller, "Bild ü 1.png", "image", 12).await;
    let body = json!({ "filename": "b.txt", "filesize": 12, "filetype": "text/plain" });
    let old = caller.post("/api/v1/files/getstsToken", &body).await;
    assert_eq!((old.status, old.effective), (200, 0));
    for grant in [&new, &old.json()] {
        let path = format!("{}/{}_", simulator.accounts().user_id("ada"), text(grant, "file_id"));
        assert!(text(grant, "file_path").starts_with(&path));
        assert!(text(grant, "access_key_id").starts_with("STS."));
        assert_eq!(text(grant, "access_key_secret").len(), 44);
        assert_eq!(text(grant, "bucketname"), "qwen-webui-prod");
        assert_eq!(text(grant, "region"), "oss-ap-southeast-1");
        assert_eq!(text(grant, "endpoint"), "oss-accelerate.aliyuncs.com");
        assert!(text(grant, "file_url").contains("x-oss-expires=300&"));
    }
    let start = format!("https://qwen-webui-prod.oss-accelerate.aliyuncs.com/{}/", simulator.accounts().user_id("ada"));
    assert!(text(&new, "file_url").starts_with(&start));
    assert!(text(&new, "file_url").contains("_Bild%20%C3%BC%201.png?x-oss-security-token=CAIS"));
    assert!(simulator.record().secrets().contains(&text(&new, "access_key_secret").to_owned()));
    assert_eq!(simulator.record().counts().grants, 2);
    is_clean(&simulator);
}

#[tokio::test]
async fn grants_need_all_of_their_fields() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    for body in [
        json!({}),
        json!({ "filesize": 1, "filetype": "image" }),
        json!({ "filename": "a", "filetype": "image" }),
        json!({ "filename": "a", "filesize": "1" }),
        json!({ "filename": "a", "filesize": "many", "filetype": "image" }),
        json!({ "filename": "a", "filesize": 1, "filetype": "picture" }),
    ] {
        let refused = caller.post(STS, &body).await;
        assert_eq!((refused.code().as_str(), refused.effective), ("Bad_Request", 400), "{body}");
        assert_eq!(refused.details(), "Invalid file information!");
        assert_eq!(caller.post("/api/v1/files/getstsToken", &body).await.status, 400);
    }
    let mut signed_out = Caller::new(&simulator, "ada");
    (signed_out.cookie, signed_out.bearer) = (String::new(), None);
    assert_eq!(signed_out.post(STS, &json!({})).await.effective, 401);
    assert_eq!(signed_out.post("/api/v1/files/getstsToken", &json!({})).await.status, 401);
}

#[tokio::test]
async fn both_signatures_upload() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let bytes = b"not really a picture".to_vec();
    for version in 0..3 {
        let grant = grant(&caller, "a (1) ü+!.png", "image", bytes.len()).await;
        let request = match version {
            0 => signed(&caller, &grant, "image/png", true),
            1 => signed(&caller, &grant, "image/png", false),
            _ => signed_v1(&caller, &grant, "image/png"),
        };
        let done = send(request.body(bytes.clone())).await;
        assert_eq!((done.status, done.text.as_str()), (200, ""), "version {version}");
        assert!(done.set_cookies.is_empty());
        let upload = simulator.stored().uploads().pop().unwrap();
        assert_eq!(upload.path, text(&grant, "file_path"));
        assert_eq!((upload.account.as_str(), upload.name.as_str()), ("ada", "a (1) ü+!.png"));
        assert_eq!((upload.content_type.as_str(), upload.filetype.as_str()), ("image/png", "image"));
        assert_eq!((upload.size, upload.is_whole, &upload.bytes[..]), (20, true, &bytes[..]));
        assert_eq!(upload.sha256, hex(&Sha256::digest(&bytes)));
    }
    let record = simulator.record().requests_to(Endpoint::OssPut).pop().unwrap();
    assert!(record.is("ada", Endpoint::OssPut));
    assert_eq!((record.body_bytes, record.status), (20, Some(200)));
    assert_eq!(simulator.record().counts().puts, 3);
    is_clean(&simulator);
}

#[tokio::test]
async fn wrong_signatures_are_refused() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let good = grant(&caller, "a.png", "image", 1).await;
    let with = |name: &str, value: &str| {
        let mut grant = good.clone();
        grant[name] = json!(value);
        grant
    };
    let other = grant(&caller, "b.png", "image", 1).await;
    for (grant, code) in [
        (with("access_key_secret", "wrong"), "SignatureDoesNotMatch"),
        (with("access_key_id", "STS.unknown"), "InvalidAccessKeyId"),
        (with("security_token", "wrong"), "InvalidSecurityToken"),
        (with("file_path", text(&other, "file_path")), "AccessDenied"),
    ] {
        for request in [signed(&caller, &grant, "image/png", true), signed_v1(&caller, &grant, "image/png")] {
            let refused = send(request.body("x")).await;
            assert_eq!((refused.status, oss_code(&refused)), (403, code));
            assert_eq!(refused.content_type, "application/xml");
        }
    }
    let (_, link) = text(&good, "file_url").split_once(".com").unwrap();
    let refused = send(caller.bare(Method::PUT, link).body("x")).await;
    assert_eq!(oss_code(&refused), "SignatureDoesNotMatch");
    let mut late = signed_v1(&caller, &good, "image/png").body("x").build().unwrap();
    late.headers_mut().insert("date", "Mon, 02 Mar 2026 10:00:00 GMT".parse().unwrap());
    let refused = read(reqwest::Client::new().execute(late).await.unwrap()).await;
    assert_eq!(oss_code(&refused), "RequestTimeTooSkewed");
    assert_eq!(simulator.record().counts().puts, 10);
    assert!(simulator.stored().uploads().is_empty());
    assert_eq!(simulator.record().violations().len(), 5, "{:?}", simulator.record().violations());
}

#[tokio::test]
async fn large_uploads_are_only_hashed() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let bytes = vec![7; 4 * 1024 * 1024];
    upload(&caller, "long.mp4", "video", "video/mp4", &bytes).await;
    let view = simulator.stored().uploads().remove(0);
    assert_eq!((view.size, view.is_whole, view.bytes.len()), (4 * 1024 * 1024, false, 64 * 1024));
    assert_eq!(view.sha256, hex(&Sha256::digest(&bytes)));
    let grant = grant(&caller, "short.mp4", "video", 3).await;
    send(signed(&caller, &grant, "video/mp4", true).body("four")).await;
    assert!(simulator.record().violations()[0].contains("4 bytes uploaded, 3 announced"));
}

#[tokio::test]
async fn credentials_stay_at_home() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let grant = grant(&caller, "a.png", "image", 1).await;
    let request = signed(&caller, &grant, "image/png", true).header("cookie", &caller.cookie);
    assert_eq!(send(request.body("x")).await.status, 200);
    assert!(simulator.record().violations()[0].contains("another host"));
}

#[tokio::test]
async fn signed_links_read() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let grant = upload(&caller, "a ü.txt", "file", "text/plain", b"hello").await;
    let (_, link) = text(&grant, "file_url").split_once(".com").unwrap();
    let get = || send(caller.bare(Method::GET, link));
    let found = get().await;
    assert_eq!((found.status, found.text.as_str(), found.content_type.as_str()), (200, "hello", "text/plain"));
    simulator.accounts().expire_links("ada");
    assert_eq!(get().await.status, 403);
    is_clean(&simulator);
}

#[tokio::test]
async fn grants_and_puts_fail_as_scripted() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let body = json!({ "filename": "a.png", "filesize": 1, "filetype": "image" });
    simulator.script().queue(Some("ada"), Endpoint::Sts, ScriptedReply::error("RateLimited"));
    simulator.script().queue(Some("ada"), Endpoint::Sts, ScriptedReply::status(500));
    assert_eq!(caller.post(STS, &body).await.code(), "RateLimited");
    assert_eq!(caller.post(STS, &body).await.status, 500);
    simulator.script().set_default(None, Endpoint::Sts, Some(ScriptedReply::status(404)));
    assert_eq!(caller.post(STS, &body).await.status, 404);
    assert_eq!(caller.post("/api/v1/files/getstsToken", &body).await.status, 200);
    simulator.script().set_default(None, Endpoint::Sts, None);

    simulator.script().queue(None, Endpoint::Sts, ScriptedReply::granting(Duration::ZERO, Duration::from_secs(300)));
    let ended = grant(&caller, "a.png", "image", 1).await;
    let refused = send(signed(&caller, &ended, "image/png", true).body("x")).await;
    assert_eq!((refused.status, oss_code(&refused)), (403, "SecurityTokenExpired"));

    let grant = grant(&caller, "a.png", "image", 1).await;
    let put = || send(signed(&caller, &grant, "image/png", true).body("x"));
    simulator.script().queue(Some("ada"), Endpoint::OssPut, ScriptedReply::oss_error(403, "SignatureDoesNotMatch"));
    simulator.script().queue(Some("ada"), Endpoint::OssPut, ScriptedReply::status(503));
    simulator.script().queue(Some("ada"), Endpoint::OssPut, ScriptedReply::status(503));
    let statuses = [put().await.status, put().await.status, put().await.status, put().await.status];
    assert_eq!(statuses, [403, 503, 503, 200]);
    assert_eq!(simulator.script().left(), 0);
    is_clean(&simulator);
}

#[tokio::test]
async fn puts_stop_as_scripted() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let bytes = vec![1; 300_000];
    let grant = grant(&caller, "a.png", "image", bytes.len()).await;
    let put = || signed(&caller, &grant, "image/png", true).body(bytes.clone());
    simulator.script().queue(None, Endpoint::OssPut, ScriptedReply::put_stopping(1_000, PutStop::Close));
    assert!(put().send().await.is_err());
    let closed = simulator.record().requests_to(Endpoint::OssPut).remove(0);
    assert_eq!(closed.ended.unwrap().how, EndedHow::Torn);
    assert!((1_000..300_000).contains(&closed.body_bytes));

    simulator.script().queue(None, Endpoint::OssPut, ScriptedReply::put_stopping(0, PutStop::Hang));
    assert!(put().timeout(Duration::from_millis(50)).send().await.unwrap_err().is_timeout());
    // Read whole and never answered; that the client leaves is noticed.
    simulator.script().queue(None, Endpoint::OssPut, ScriptedReply::default().delayed(SOON));
    assert!(put().timeout(Duration::from_millis(50)).send().await.is_err());
    let left = |request: &RecordedRequest| request.client_closed_at().is_some();
    assert!(simulator.record().wait_until(left, SOON).await.is_some());
    assert!(simulator.stored().uploads().is_empty());
    assert_eq!(simulator.record().counts().puts, 3);
}

#[tokio::test]
async fn documents_are_parsed_by_and_by() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let grant = upload(&caller, "a.txt", "file", "text/plain", b"x").await;
    let id = &grant["file_id"];
    let parse = json!({ "file_id": id });
    assert_eq!(caller.post("/api/v2/files/parse", &parse).await.data()["status"], "pending");
    let list = json!({ "file_id_list": [id, "none"] });
    let mut told = Vec::new();
    for _ in 0..3 {
        let data = caller.post("/api/v2/files/parse/status", &list).await.data();
        told.push(data[0]["status"].as_str().unwrap().to_owned());
        assert_eq!((&data[0]["error_msg"], &data[1]["status"]), (&Value::Null, &json!("failed")));
    }
    assert_eq!(told, ["pending", "running", "success"]);
    let old = caller.post("/api/v2/files/parse/status", &parse).await.data();
    assert_eq!(old["status"], "success");
    is_clean(&simulator);

    let bob = Caller::new(&simulator, "bob");
    assert_eq!(bob.post("/api/v2/files/parse", &parse).await.code(), "Not_Found");
    assert!(simulator.record().violations()[0].contains("another account's file"));
    let unread = upload(&caller, "b.txt", "file", "text/plain", b"x").await;
    let asked = json!({ "file_id": unread["file_id"] });
    assert_eq!(caller.post("/api/v2/files/parse/status", &asked).await.data()["status"], "pending");
    assert!(simulator.record().violations()[1].contains("not handed to the parser"));
}

#[tokio::test]
async fn parsing_ends_as_scripted() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    for (end, status, error) in [
        (ParseEnd::Failed("unreadable".into()), "failed", json!("unreadable")),
        (ParseEnd::Pending, "pending", Value::Null),
        (ParseEnd::Running, "running", Value::Null),
    ] {
        simulator.script().queue(None, Endpoint::FileParse, ScriptedReply::parsing(end));
        let grant = upload(&caller, "a.pdf", "file", "application/pdf", b"%PDF").await;
        parsed(&caller, &grant).await;
        let asked = json!({ "file_id": grant["file_id"] });
        let data = caller.post("/api/v2/files/parse/status", &asked).await.data();
        assert_eq!((&data["status"], &data["error_msg"]), (&json!(status), &error));
        assert_eq!(simulator.stored().uploads().pop().unwrap().parsed.as_deref(), Some(status));
        let refused = ask(&caller, json!([entry(&grant, "file", "document")])).await;
        assert_eq!(frames(&refused.text)[1]["error"]["code"], "invalid_input");
    }
}

#[tokio::test]
async fn answers_tell_what_came() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let picture = upload(&caller, "a.png", "image", "image/png", b"picture").await;
    let other = upload(&caller, "b.webp", "image/webp", "image/webp", b"another").await;
    let video = upload(&caller, "c.mp4", "video", "video/mp4", b"video").await;
    let document = upload(&caller, "d.txt", "file", "text/plain", "Text ü 字".as_bytes()).await;
    parsed(&caller, &document).await;
    let mut bare = entry(&other, "image", "vision");
    let link = bare["url"].as_str().unwrap().split('?').next().unwrap().to_owned();
    bare["url"] = json!(link);
    let files = json!([
        entry(&picture, "image", "vision"),
        bare,
        entry(&video, "video", "video"),
        entry(&document, "file", "document")
    ]);
    let reply = ask(&caller, files).await.text;
    let usage = &frames(&reply)[1]["usage"];
    assert_eq!((&usage["image_tokens"], &usage["input_tokens_details"]["image_tokens"]), (&json!(316), &json!(316)));
    let answer = answer_of(&reply);
    let hash = |bytes: &[u8]| hex(&Sha256::digest(bytes)[..4]);
    let expected = format!(
        "I can see 2 pictures, 1 video, 0 sounds and 1 document: a.png (image/png, 7 bytes, sha256 {}), b.webp \
         (image/webp, 7 bytes, sha256 {}), c.mp4 (video/mp4, 5 bytes, sha256 {}), d.txt (text/plain, 11 bytes, sha256 \
         {}, 8 characters).\n\nand so on",
        hash(b"picture"),
        hash(b"another"),
        hash(b"video"),
        hash("Text ü 字".as_bytes())
    );
    assert_eq!(answer, expected);
    is_clean(&simulator);
    let chat = simulator.stored().chats(Some("ada")).pop().unwrap().id;
    let data = caller.get(&format!("/api/v2/chats/{chat}")).await.data();
    assert_eq!(data["chat"]["messages"][0]["files"][0]["id"], picture["file_id"]);
}

#[tokio::test]
async fn files_that_do_not_fit_are_refused() {
    let simulator = start().await;
    let (ada, bob) = (Caller::new(&simulator, "ada"), Caller::new(&simulator, "bob"));
    let outside = |kind: &str, class: &str| {
        json!([{
            "type": kind, "showType": kind, "file_class": class, "status": "uploaded", "url": "https://a.example/x",
        }])
    };
    let error = |text: &str| frames(text).last().unwrap()["error"].clone();
    assert_eq!(error(&ask(&ada, outside("file", "document")).await.text), "Internal error!");
    for (kind, class) in [("video", "video"), ("audio", "audio")] {
        let refused = ask(&ada, outside(kind, class)).await;
        assert_eq!(error(&refused.text)["code"], "invalid_input");
    }
    let seen = answer_of(&ask(&ada, outside("image", "vision")).await.text);
    assert!(seen.starts_with("I can see 1 picture, 0 videos, 0 sounds and 0 documents: https://a.example/x (a link)."));
    assert_eq!(simulator.record().foreign_links(), ["https://a.example/x"]);

    let empty = grant(&ada, "a.png", "image", 1).await;
    let refused = ask(&ada, json!([entry(&empty, "image", "vision")])).await;
    assert_eq!(error(&refused.text)["code"], "invalid_input", "nothing was uploaded");
    let document = upload(&ada, "a.txt", "file", "text/plain", b"x").await;
    let refused = ask(&ada, json!([entry(&document, "file", "file")])).await;
    assert_eq!(error(&refused.text)["code"], "invalid_input", "it was not parsed");
    let picture = upload(&ada, "a.png", "image", "image/png", b"x").await;
    simulator.accounts().expire_links("ada");
    let refused = ask(&ada, json!([entry(&picture, "image", "vision")])).await;
    assert_eq!(error(&refused.text)["code"], "invalid_input", "the link is over");
    is_clean(&simulator);

    simulator.script().queue(None, Endpoint::Completions, ScriptedReply::answer("unused"));
    let refused = ask(&bob, json!([entry(&picture, "image", "vision")])).await;
    assert_eq!(error(&refused.text), "Internal error!");
    assert_eq!(simulator.script().left(), 1, "a refused file uses up no script");
    assert!(simulator.record().violations()[0].contains("another account's file"));
}

#[tokio::test]
async fn odd_entries_are_written_down() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let picture = upload(&caller, "a.png", "image", "image/png", b"x").await;
    let chat = caller.chat().await;
    let mut body = question(&chat, "x");
    body["messages"][0]["files"] = json!([entry(&picture, "image", "image")]);
    caller.complete(&chat, &body).await;
    let violations = simulator.record().violations();
    assert!(violations[0].contains("file_class \"image\""), "{violations:?}");
    assert!(violations[1].contains("a picture for qwen3-max, which has no sense for it"), "{violations:?}");
}
