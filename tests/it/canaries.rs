//! What upstreams write in their failures: secrets, addresses and the prompt, in every form of an error and of every
//! kind of upstream. None of it reaches a caller, a log line or a stored video; helpful words do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use parking_lot::Mutex;
use qwen_bridge::telemetry::{LogFormat, LogSettings, subscriber};
use serde_json::{Value, json};
use simulator::script::{Endpoint, ErrorForm, RawScript, Scenario, ScriptedFailure, ScriptedReply, StreamError};
use simulator::{Simulator, TokenLife};

use crate::support::app::{KEY, PATIENCE, Setup, TestApp, json_of, question, with_keys};
use crate::support::files::{data_uri, with_parts};
use crate::support::oracle::{FORMS, Form, crew, read, until_all_healthy};

const PROMPT: &str = "Tell me why the marble canary refused to whistle after midnight.";
/// What helps a caller, in front of everything that must not be seen.
const HELP: &str = "Pick a smaller lamp";
/// Texts that are no secret of this server but have the form of one, addresses, and names of people.
const CANARIES: [&str; 19] = [
    "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6ImNhbmFyeSJ9.c2lnbmF0dXJlY2FuYXJ5",
    "canarybearer",
    "canarybasic",
    "c4n4ry0paqu3run77",
    "canarypassword",
    "canarypairvalue",
    "host-canary.example",
    "path-canary",
    "bare-canary.example.org",
    "10.77.66.55",
    "fd00:77::66",
    "канарейка.рф",
    "canary@mail.example",
    "sk-canary0",
    "canaryjsonvalue",
    "canarymarkup",
    "\u{202e}",
    "\u{1b}",
    "marble canary refused",
];

/// A text with every canary in it, and with these secrets.
fn text(secrets: &[String]) -> String {
    let [jwt, bearer, basic, opaque, password, pair, host, path, bare, ip4, ip6, idn, mail, key, json, markup, ..] =
        CANARIES;
    format!(
        "{HELP}, not {PROMPT} \u{202e}\u{1b}[31m {} {jwt} Bearer {bearer} Basic: {basic} {opaque} password: {password} \
         sid={pair} https://{host}/{path}?a=1 {bare} {bare}/{path} {ip4}:80 [{ip6}]:443 {idn} {mail} {key} \
         {{\"x\": \"{json}\"}} <p>{markup}</p>",
        secrets.join(" ")
    )
}

/// One answer of an upstream.
struct Told {
    status: u16,
    content_type: &'static str,
    body: String,
    /// Whether the words that help have to be shown.
    is_helpful: bool,
}

/// Every form in which an upstream reports a failure, with this text in each place that holds a text or a code.
fn forms(text: &str, codes: &[(&str, bool)]) -> Vec<Told> {
    let told = |status, content_type, body: String, is_helpful| Told { status, content_type, body, is_helpful };
    let json = |status, body: Value, is_helpful| told(status, "application/json", body.to_string(), is_helpful);
    let stream = |body: Value| told(200, "text/event-stream", format!("data: {body}\n\n"), false);
    let mut forms = Vec::new();
    for (code, is_helpful) in codes {
        forms.push(json(
            200,
            json!({"success": false, "request_id": text, "data": {"code": code, "details": text}}),
            *is_helpful,
        ));
        forms.push(json(
            400,
            json!({"error": {"code": code, "type": code, "message": text, "param": text}}),
            *is_helpful,
        ));
        forms.push(json(200, json!({"success": false, "code": code, "details": text}), false));
        forms.push(stream(json!({"error": {"code": code, "details": text, "message": text}})));
        forms.push(stream(json!({"success": false, "data": {"code": code, "details": text}})));
    }
    for status in [200, 400, 401, 403, 404, 413, 429, 500, 503] {
        forms.push(told(status, "text/plain", text.to_owned(), false));
        forms.push(told(status, "text/html", format!("<html>{text}</html>"), false));
        forms.push(json(status, json!(text), false));
        forms.push(json(status, json!({"error": text}), false));
        forms.push(json(status, json!({"detail": text}), false));
        forms.push(json(status, json!({"detail": [{"msg": text, "input": {"x": text}}]}), false));
        forms.push(json(status, json!({"message": text, "debug": {"x": text}}), false));
        forms.push(json(status, json!({"unknown": text, "x": [text]}), false));
        forms.push(json(
            status,
            json!({"success": false, "data": {"code": text, "details": text, "num": text}}),
            false,
        ));
    }
    forms.push(json(200, json!({"ret": ["FAIL_SYS_USER_VALIDATE", text], "data": {"url": text}}), false));
    forms.push(stream(json!({"error": text})));
    forms.push(stream(json!({"error": [text]})));
    forms.push(stream(
        json!({"choices": [{"delta": {"role": "assistant", "content": text, "phase": text, "status": text}}]}),
    ));
    forms.push(stream(json!({"unknown": {"x": text}})));
    forms.push(told(200, "text/event-stream", text.to_owned(), false));
    forms.push(told(200, "application/json", text.to_owned(), false));
    forms
}

fn reply(told: &Told) -> ScriptedReply {
    let raw = RawScript {
        status: told.status,
        content_type: told.content_type.to_owned(),
        body: told.body.clone(),
        base64: false,
    };
    ScriptedReply::failing(ScriptedFailure::Raw(raw))
}

/// Everything that the server of this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Takes what this thread logs from now on, at its loudest.
    fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let settings = LogSettings { filter: "info,qwen_bridge=trace".to_owned(), format: LogFormat::Json };
        (log, tracing::subscriber::set_default(subscriber(&settings, move || writer.clone()).unwrap()))
    }

    /// What was logged since the last look.
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
    }
}

#[track_caller]
fn must_not_hold(shown: &str, secrets: &[String], what: &str) {
    for canary in CANARIES.iter().copied().chain(secrets.iter().map(String::as_str)) {
        if let Some(at) = shown.find(canary) {
            let begin = shown.floor_char_boundary(at.saturating_sub(300));
            let end = shown.ceil_char_boundary((at + 100).min(shown.len()));
            panic!("{what} holds {canary:?}: {}", shown.get(begin..end).unwrap());
        }
    }
}

/// The secrets of all accounts and keys of this simulator, as far as they are long enough to be ones.
fn secrets(simulator: &Simulator) -> Vec<String> {
    let mut secrets = simulator.record().secrets();
    for account in simulator.accounts().names() {
        let cookie = simulator.accounts().cookie(&account);
        secrets.extend(cookie.split("; ").filter_map(|pair| Some(pair.split_once('=')?.1.to_owned())));
    }
    secrets.retain(|secret| secret.len() >= 16);
    secrets.sort();
    secrets.dedup();
    assert!(!secrets.is_empty());
    secrets
}

/// Asks in both forms, and looks at all that a caller and an owner can see.
async fn check(app: &TestApp, credential: &str, body: &Value, told: &Told, secrets: &[String], form: Form) {
    let what = format!("{form:?} {} {} {}", told.status, told.content_type, told.body);
    let mut body = body.clone();
    body["stream"] = json!(form == Form::Stream);
    let request = app.client.post(app.url("/v1/chat/completions")).bearer_auth(credential);
    let request = request.header("content-type", "application/json").body(body.to_string());
    let answer = read(request, form).await;
    let headers = format!("{:?}", answer.headers);
    // What the upstream says as an answer is an answer.
    if answer.error.is_some() {
        must_not_hold(&(answer.raw.clone() + &headers), secrets, &what);
        if told.is_helpful {
            assert!(answer.raw.contains(HELP), "{what}: {}", answer.raw);
        }
    }
    let health = app.client.get(app.url("/health")).send().await.unwrap().text().await.unwrap();
    must_not_hold(&health, secrets, "health");
    let detailed = app.get("/health/detailed").send().await.unwrap().text().await.unwrap();
    must_not_hold(&detailed, secrets, "the detailed health");
}

const WEB_CODES: [(&str, bool); 9] = [
    ("invalid_input", true),
    ("RequestValidationError", true),
    ("data_inspection_failed", true),
    ("quota_limit", false),
    ("RateLimited", false),
    ("Unauthorized", false),
    ("Bad_Request", false),
    ("internal_error", false),
    ("CanaryCode_c4n4ry0paqu3run77", false),
];

async fn web(scenario: Scenario) -> TestApp {
    let app = Setup::default().with("MAX_RETRIES", "0").start(Simulator::start(scenario).await.unwrap()).await;
    until_all_healthy(&app).await;
    app
}

/// Callers with their own credential wear no pool out, so one server is enough for every form.
#[tokio::test]
async fn failures_of_the_web_chat() {
    let (log, _guard) = Log::begin();
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let account = simulator.accounts().names().remove(0);
    let credential =
        format!("{KEY};{};{}", simulator.accounts().bearer(&account), simulator.accounts().cookie(&account));
    let secrets = secrets(&simulator);
    let app = Setup::default().with("SERVER_MODE", "false").start(simulator).await;
    for endpoint in [Endpoint::Completions, Endpoint::NewChat] {
        for (place, told) in forms(&text(&secrets), &WEB_CODES).iter().enumerate() {
            app.simulator.script().set_default(None, endpoint, Some(reply(told)));
            check(&app, &credential, &question(PROMPT), told, &secrets, FORMS[place % 2]).await;
            let log = log.take();
            assert!(log.contains("no answer") || told.status == 200, "{log}");
            must_not_hold(&log, &secrets, "the log");
        }
        app.simulator.script().set_default(None, endpoint, None);
    }
}

#[tokio::test]
async fn failures_of_the_web_chat_that_the_pool_sees() {
    let (log, _guard) = Log::begin();
    for place in (0..forms("", &WEB_CODES).len()).step_by(13) {
        let app = web(crew(1)).await;
        let secrets = secrets(&app.simulator);
        let told = forms(&text(&secrets), &WEB_CODES).swap_remove(place);
        app.simulator.script().set_default(None, Endpoint::Completions, Some(reply(&told)));
        check(&app, KEY, &question(PROMPT), &told, &secrets, FORMS[place % 2]).await;
        must_not_hold(&log.take(), &secrets, "the log");
    }
}

#[tokio::test]
async fn failures_behind_an_answer_that_began() {
    let (log, _guard) = Log::begin();
    for (place, (code, _)) in WEB_CODES.into_iter().enumerate() {
        let app = web(crew(1)).await;
        let secrets = secrets(&app.simulator);
        let text = text(&secrets);
        let form = [ErrorForm::Object, ErrorForm::Text, ErrorForm::Envelope][place % 3];
        let error = StreamError { after: 3, form, code: code.to_owned(), details: text.clone(), num: None };
        // A frame at a time, so that the answer has begun before it breaks.
        let broken = ScriptedReply::pieces(["one ", "two "]).breaking(error).paced(Duration::from_millis(30));
        app.simulator.script().set_default(None, Endpoint::Completions, Some(broken));
        let told = Told { status: 200, content_type: "text/event-stream", body: text, is_helpful: false };
        check(&app, KEY, &question(PROMPT), &told, &secrets, Form::Stream).await;
        must_not_hold(&log.take(), &secrets, "the log");
    }
}

#[tokio::test]
async fn failures_of_uploads() {
    let (log, _guard) = Log::begin();
    let file =
        json!({"type": "file", "file": {"filename": "a.txt", "file_data": data_uri("text/plain", PROMPT.as_bytes())}});
    for endpoint in [Endpoint::Sts, Endpoint::OssPut, Endpoint::FileParse, Endpoint::FileParseStatus] {
        for place in (0..forms("", &WEB_CODES).len()).step_by(31) {
            let app = web(crew(1)).await;
            let secrets = secrets(&app.simulator);
            let mut told = forms(&text(&secrets), &WEB_CODES).swap_remove(place);
            // Most of these have no text of their own where they come from.
            told.is_helpful = false;
            app.simulator.script().set_default(None, endpoint, Some(reply(&told)));
            if endpoint == Endpoint::FileParseStatus {
                let data = json!([{"status": "failed", "error_msg": text(&secrets)}]);
                let body = json!({"success": true, "data": data}).to_string();
                told = Told { status: 200, content_type: "application/json", body, is_helpful: false };
            }
            let body = with_parts("qwen3-max", PROMPT, vec![file.clone()]);
            check(&app, KEY, &body, &told, &secrets, FORMS[place % 2]).await;
            must_not_hold(&log.take(), &secrets, "the log");
        }
    }
}

#[tokio::test]
async fn failures_of_refreshes() {
    let (log, _guard) = Log::begin();
    for place in (0..forms("", &WEB_CODES).len()).step_by(11) {
        let simulator = Simulator::start(crew(1)).await.unwrap();
        let secrets = secrets(&simulator);
        let told = forms(&text(&secrets), &WEB_CODES).swap_remove(place);
        for endpoint in [Endpoint::Refresh, Endpoint::Auths] {
            simulator.script().set_default(None, endpoint, Some(reply(&told)));
        }
        simulator.accounts().expire(&simulator.accounts().names()[0]);
        let app = Setup::default().with("FIRST_EVENT_TIMEOUT", "1s").start(simulator).await;
        let told = Told { is_helpful: false, ..told };
        check(&app, KEY, &question(PROMPT), &told, &secrets, FORMS[place % 2]).await;
        must_not_hold(&log.take(), &secrets, "the log");
    }
}

const API_CODES: [(&str, bool); 8] = [
    ("invalid_parameter_error", true),
    ("data_inspection_failed", true),
    ("context_length_exceeded", true),
    ("insufficient_quota", false),
    ("rate_limit_exceeded", false),
    ("invalid_api_key", false),
    ("model_not_found", false),
    ("CanaryCode_c4n4ry0paqu3run77", false),
];

/// The forms for endpoints in OpenAI's shape, where an envelope with `success` has no meaning.
fn api_forms(text: &str) -> Vec<Told> {
    let mut forms = forms(text, &API_CODES);
    for told in &mut forms {
        told.is_helpful &= !told.body.contains("\"success\"");
    }
    forms
}

#[tokio::test]
async fn failures_of_static_keys() {
    let (log, _guard) = Log::begin();
    for place in (0..api_forms("").len()).step_by(4) {
        for endpoint in [Endpoint::KeyChat, Endpoint::KeyEmbeddings] {
            if endpoint == Endpoint::KeyEmbeddings && !place.is_multiple_of(3) {
                continue;
            }
            let app = with_keys(crew(1)).await;
            let mut secrets = secrets(&app.simulator);
            secrets.extend(app.simulator.keys().names().iter().map(|name| app.simulator.keys().secret(name)));
            let told = api_forms(&text(&secrets)).swap_remove(place);
            app.simulator.script().set_default(None, endpoint, Some(reply(&told)));
            if endpoint == Endpoint::KeyChat {
                let mut body = question(PROMPT);
                body["model"] = json!("key/qwen3.7-plus");
                check(&app, KEY, &body, &told, &secrets, FORMS[place % 2]).await;
            } else {
                let body = json!({"model": "key/text-embedding-v4", "input": PROMPT});
                let answer = app.post("/v1/embeddings", &body).send().await.unwrap();
                let shown = format!("{:?}", answer.headers()) + &answer.text().await.unwrap();
                must_not_hold(&shown, &secrets, &told.body);
            }
            must_not_hold(&log.take(), &secrets, "the log");
        }
    }
}

/// A secret that is cased, spaced, cut or encoded otherwise is one still.
#[tokio::test]
async fn parts_and_disguises_of_a_key() {
    let app = with_keys(crew(1)).await;
    let key = app.simulator.keys().secret(&app.simulator.keys().names()[0]);
    let letters = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let spaced = |count: usize, by: &str| {
        let chars: Vec<char> = key.chars().collect();
        chars.chunks(count).map(|chunk| chunk.iter().collect::<String>()).collect::<Vec<_>>().join(by)
    };
    let base64 = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    let disguises = [
        key.to_uppercase(),
        spaced(4, " "),
        spaced(1, "', '"),
        spaced(3, "\n"),
        format!("begins with {}", key.get(..12).unwrap()),
        format!("ends with {}", key.get(key.len() - 11..).unwrap()),
        key.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        base64(key.clone()),
        base64(format!("x{key}")),
        format!("{{'authorization': 'Bearer {key}'}}"),
        json!({"inner": key}).to_string(),
    ];
    for disguise in disguises {
        let error =
            json!({"code": "invalid_parameter_error", "message": format!("{HELP}: {disguise}"), "param": disguise});
        let body = json!({"error": error}).to_string();
        let told = Told { status: 400, content_type: "application/json", body, is_helpful: true };
        app.simulator.script().set_default(None, Endpoint::KeyChat, Some(reply(&told)));
        for path in ["/v1/chat/completions", "/v1/messages", "/v1/responses"] {
            let messages = json!([{"role": "user", "content": PROMPT}]);
            let body = json!({"model": "key/qwen3.7-plus", "max_tokens": 9, "messages": messages, "input": PROMPT});
            let shown = app.post(path, &body).send().await.unwrap().text().await.unwrap();
            assert!(shown.contains(HELP), "{disguise}: {shown}");
            let shown = letters(&shown);
            for window in letters(&key).as_bytes().windows(10) {
                let window = str::from_utf8(window).unwrap();
                assert!(!shown.contains(window), "{disguise}: {window} in {shown}");
            }
        }
    }
}

#[tokio::test]
async fn failures_of_oauth_accounts() {
    let (log, _guard) = Log::begin();
    for place in 0..api_forms("").len() {
        for endpoint in [Endpoint::PortalChat, Endpoint::RefreshToken, Endpoint::DeviceCode] {
            let is_chat = endpoint == Endpoint::PortalChat;
            if !place.is_multiple_of(if is_chat { 7 } else { 28 }) {
                continue;
            }
            let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
            let dir = tempfile::tempdir().unwrap();
            let life = if is_chat { TokenLife::Fresh } else { TokenLife::Expired };
            let credentials = simulator.oauth().credentials("cleo", life);
            std::fs::write(dir.path().join("oauth_creds_cleo.json"), &credentials).unwrap();
            let credentials: Value = serde_json::from_str(&credentials).unwrap();
            let mut secrets = secrets(&simulator);
            secrets
                .extend(["access_token", "refresh_token"].map(|name| credentials[name].as_str().unwrap().to_owned()));
            let told = api_forms(&text(&secrets)).swap_remove(place);
            let told = Told { is_helpful: told.is_helpful && is_chat, ..told };
            simulator.script().set_default(None, endpoint, Some(reply(&told)));
            let setup = Setup::default()
                .without("COOKIE")
                .with("ADMIN_SECRET_KEY", KEY)
                .with("QWEN_DIR", &dir.path().display().to_string())
                .with("QWEN_OAUTH_BASE_URL", simulator.urls().web.as_str());
            let app = setup.start(simulator).await;
            let mut body = question(PROMPT);
            body["model"] = json!("oauth/qwen3-coder-plus");
            check(&app, KEY, &body, &told, &secrets, FORMS[place % 2]).await;
            for path in ["/auth?account=new", "/admin/health", "/admin/accounts"] {
                let shown = app.get(path).send().await.unwrap().text().await.unwrap();
                must_not_hold(&shown, &secrets, path);
            }
            must_not_hold(&log.take(), &secrets, "the log");
        }
    }
}

#[tokio::test]
async fn failures_that_are_kept_with_videos() {
    let (log, _guard) = Log::begin();
    for code in ["DataInspectionFailed", "invalid_parameter", "InternalError", ""] {
        let app = web(crew(1)).await;
        let secrets = secrets(&app.simulator);
        let data = json!({"task_status": "failed", "code": code, "message": text(&secrets), "content": text(&secrets)});
        let body = json!({"success": true, "data": data}).to_string();
        let told = Told { status: 200, content_type: "application/json", body, is_helpful: true };
        for endpoint in [Endpoint::TaskStatus, Endpoint::TaskStatusV1] {
            app.simulator.script().set_default(None, endpoint, Some(reply(&told)));
        }
        let video = json!({"model": "qwen3-max", "prompt": PROMPT});
        let made = json_of(app.post("/v1/videos", &video).send().await.unwrap()).await;
        let path = format!("/v1/videos/{}", made["id"].as_str().unwrap());
        let failed = tokio::time::timeout(PATIENCE, async {
            loop {
                let video = json_of(app.get(&path).send().await.unwrap()).await;
                if video["status"] == "failed" {
                    break video;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let failed = failed.await.unwrap();
        let message = failed["error"]["message"].as_str().unwrap();
        must_not_hold(message, &secrets, "the video");
        assert!(message.contains(HELP), "{message}");
        let answer = read(app.get(&format!("{path}/content")), Form::Whole).await;
        must_not_hold(&answer.raw, &secrets, "its content");
        must_not_hold(&log.take(), &secrets, "the log");
        // The state holds sessions and the prompt of its own right, and nothing of what was said about them.
        let (_simulator, state) = app.stop().await;
        for entry in std::fs::read_dir(state.path()).unwrap() {
            let kept = std::fs::read(entry.unwrap().path()).unwrap_or_default();
            for canary in CANARIES.iter().filter(|canary| canary.len() >= 8 && !PROMPT.contains(**canary)) {
                assert!(memchr::memmem::find(&kept, canary.as_bytes()).is_none(), "the state holds {canary:?}");
            }
        }
    }
}
