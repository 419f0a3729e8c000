//! The real program as a child process: its logs at their loudest, its answers, its files and its exit codes.
#![expect(clippy::string_slice, reason = "every index comes from a search or an ASCII secret")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{
    AccountScript, ChallengeForm, CutHow, Endpoint, Era, ParseEnd, PutStop, RefreshRotation, Scenario, ScriptedReply,
};

use crate::support::app::PATIENCE;
use crate::support::files::{OMNI, data_uri, image_part, with_parts};
use crate::support::program::{KEY, Program, settings};

const WRONG_KEY: &str = "sk-CANARY-wrong-77ab01fe3c";
const PROMPT: &str = "CANARY-prompt-59d1c3";
const REPLY: &str = "CANARY-reply-e07b42";
const LINK_KEY: &str = "CANARY-link-8e20c6d17f";

async fn simulator() -> Simulator {
    let accounts = [
        AccountScript { refresh_rotation: RefreshRotation::New, ..AccountScript::new("bob", Era::B) },
        AccountScript::new("ada", Era::A),
    ];
    Simulator::start(Scenario::with_accounts(accounts)).await.unwrap()
}

/// A secret in all forms in which it could leak.
fn forms_of(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    for padding in 0..3 {
        let padded = [vec![b'x'; padding], secret.as_bytes().to_vec()].concat();
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded);
        // What depends on the neighbours is cut off.
        let inner = &text[4..text.len() - 4];
        forms.push(inner.to_owned());
        forms.push(inner.replace('+', "-").replace('/', "_"));
    }
    forms.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    forms.push(secret.bytes().map(|byte| format!("{byte:02x}")).collect());
    // Half a token is a leak as well.
    if secret.len() > 60 {
        forms.push(secret[secret.len() - 24..].to_owned());
        forms.push(secret[secret.len() / 2..secret.len() / 2 + 24].to_owned());
    }
    forms
}

/// Every credential that the run has seen.
fn credentials(simulator: &Simulator) -> Vec<String> {
    let mut secrets = simulator.record().secrets();
    for account in simulator.accounts().names() {
        let cookie = simulator.accounts().cookie(&account);
        secrets.extend(cookie.split("; ").filter_map(|pair| Some(pair.split_once('=')?.1.to_owned())));
    }
    secrets.extend([KEY.to_owned(), WRONG_KEY.to_owned()]);
    secrets.retain(|secret| secret.len() >= 16);
    assert!(secrets.len() > 10);
    secrets
}

#[track_caller]
fn must_not_hold(text: &str, secrets: &[String], what: &str) {
    for secret in secrets {
        for form in forms_of(secret) {
            if let Some(at) = text.find(&form) {
                let begin = text[..at].rfind('\n').map_or(0, |at| at + 1);
                let line: String = text[begin..].chars().take(400).collect();
                panic!("{what} holds {form:?} of {secret:?}: {line}");
            }
        }
    }
}

struct Caller {
    client: reqwest::Client,
    address: SocketAddr,
    credential: String,
    answers: Vec<String>,
}

impl Caller {
    fn new(address: SocketAddr, credential: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        Self { client, address, credential: credential.to_owned(), answers: Vec::new() }
    }

    async fn post(&mut self, path: &str, body: &Value) -> u16 {
        let request = self.client.post(format!("http://{}{path}", self.address)).bearer_auth(&self.credential);
        let response = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        let headers = format!("{:?}", response.headers());
        let text = response.text().await.unwrap_or_default();
        self.answers.push(headers + &text);
        status
    }

    async fn ask(&mut self, text: &str, stream: bool) -> u16 {
        let body = json!({
            "model": "qwen3-max", "stream": stream, "messages": [{"role": "user", "content": text}],
            "user": PROMPT, "metadata": {"note": PROMPT},
        });
        self.post("/v1/chat/completions", &body).await
    }

    fn last(&self) -> &str {
        self.answers.last().unwrap()
    }
}

async fn run_in_server_mode(format: &str) {
    let simulator = simulator().await;
    let mut program = Program::start(&["serve"], &settings(&simulator, format));
    let mut caller = Caller::new(program.address_beside("listening").await, KEY);
    // Well.
    for stream in [false, true] {
        for _ in 0..2 {
            simulator.script().queue(None, Endpoint::Completions, ScriptedReply::pieces([REPLY]));
            assert_eq!(caller.ask(PROMPT, stream).await, 200);
            assert!(caller.last().contains(REPLY), "{}", caller.last());
        }
    }
    // Failing, with the prompt and the reply in what the upstream says.
    for reply in [
        ScriptedReply::status(500),
        ScriptedReply::error("internal_error"),
        ScriptedReply::pieces([REPLY, REPLY]).cut_after(2, CutHow::Reset),
        ScriptedReply::error("data_inspection_failed"),
        ScriptedReply::challenge(ChallengeForm::Json, 200),
    ] {
        for stream in [false, true] {
            simulator.script().queue(None, Endpoint::Completions, reply.clone());
            caller.ask(PROMPT, stream).await;
        }
    }
    // A refresh after the tokens were taken back, and one by hand.
    simulator.accounts().expire("bob");
    caller.ask(PROMPT, false).await;
    caller.post("/refresh-token", &json!({})).await;
    // Strangers, and things that cannot be read.
    let mut stranger = Caller::new(caller.address, WRONG_KEY);
    assert_eq!(stranger.ask(PROMPT, false).await, 401);
    assert_eq!(caller.post("/v1/chat/completions", &json!({"messages": PROMPT})).await, 400);
    assert_eq!(caller.post(&format!("/nowhere?key={KEY}"), &json!(PROMPT)).await, 404);
    assert_eq!(caller.ask("a question that is left alone", true).await / 100, 5, "paused after two challenges");
    program.signal("TERM");
    assert_eq!(program.code().await, 0);
    let log = program.stdout() + &program.stderr();
    assert!(log.lines().count() > 30 && log.contains("DEBUG"), "the loudest level was on");
    let secrets = credentials(&simulator);
    must_not_hold(&log, &secrets, "the log");
    must_not_hold(&log, &[PROMPT.to_owned(), REPLY.to_owned()], "the log");
    assert!(!log.contains("x5sec") && !log.contains("punish"), "the address of a challenge carries a session");
    for answer in caller.answers.iter().chain(&stranger.answers) {
        must_not_hold(answer, &secrets, "an answer");
    }
    must_not_hold(stranger.last(), &[PROMPT.to_owned()], "an error");
    must_be_private(&program.state());
    assert_eq!(simulator.record().violations(), Vec::<String>::new());
}

fn must_be_private(folder: &Path) {
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    let entries: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!entries.is_empty());
    for path in entries {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn the_server_keeps_its_secrets_in_text_logs() {
    run_in_server_mode("text").await;
}

#[tokio::test]
async fn the_server_keeps_its_secrets_in_json_logs() {
    run_in_server_mode("json").await;
}

#[tokio::test]
async fn logins_keep_their_secrets() {
    const ADMIN_KEY: &str = "sk-CANARY-admin-90b1c77d2e";
    let simulator = simulator().await;
    let mut settings = settings(&simulator, "json");
    settings.extend([
        ("ADMIN_SECRET_KEY", ADMIN_KEY.to_owned()),
        ("DEBUG_MODE", "true".to_owned()),
        ("QWEN_OAUTH_BASE_URL", simulator.urls().web.to_string()),
    ]);
    let mut program = Program::start(&["serve"], &settings);
    let mut owner = Caller::new(program.address_beside("listening").await, ADMIN_KEY);
    assert_eq!(owner.post("/v1/debug/auth/initiate", &json!({"account": "me"})).await, 200);
    let body = owner.last();
    let flow: Value = serde_json::from_str(&body[body.find("}{").unwrap() + 1..]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while owner.post("/v1/debug/auth/poll", &flow).await != 200 {
        assert!(Instant::now() < deadline, "{}", owner.last());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut caller = Caller::new(owner.address, KEY);
    let body = json!({"model": "oauth/qwen3-coder-plus", "messages": [{"role": "user", "content": PROMPT}]});
    assert_eq!(caller.post("/v1/chat/completions", &body).await, 200);
    let mut stranger = Caller::new(owner.address, KEY);
    assert_eq!(stranger.post("/v1/debug/auth/poll", &flow).await, 401);
    program.signal("TERM");
    assert_eq!(program.code().await, 0);
    let log = program.stdout() + &program.stderr();
    assert!(log.contains("logged in") && log.contains("DEBUG"), "{log}");
    let mut secrets = credentials(&simulator);
    secrets.push(ADMIN_KEY.to_owned());
    must_not_hold(&log, &secrets, "the log");
    must_not_hold(&log, &[PROMPT.to_owned()], "the log");
    for answer in owner.answers.iter().chain(&stranger.answers) {
        must_not_hold(answer, &secrets, "an answer");
    }
    must_be_private(&program.folder().join(".qwen"));
    assert_eq!(simulator.record().violations(), Vec::<String>::new());
}

/// What the simulator gave away beside credentials: the queries of signed links, and the keys of results.
fn links(simulator: &Simulator) -> Vec<String> {
    let mut texts: Vec<String> = simulator
        .record()
        .requests_to(Endpoint::Completions)
        .into_iter()
        .filter_map(|asked| Some(asked.body?.to_string()))
        .collect();
    texts.extend(simulator.record().requests_to(Endpoint::MediaLink).into_iter().map(|asked| asked.path));
    let values = texts.iter().flat_map(|text| text.split(['?', '&']).skip(1)).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let is_secret = name == "key" || name.contains("ignature") || name.contains("token");
        let end = value.find(|c: char| !c.is_ascii_alphanumeric() && !"%-._~".contains(c)).unwrap_or(value.len());
        is_secret.then(|| value[..end].to_owned())
    });
    values.filter(|value| value.len() >= 16).collect()
}

/// Pictures, documents and results, well and failing.
async fn run_with_files(format: &str) {
    let simulator = simulator().await;
    let elsewhere = Simulator::start(Scenario::default()).await.unwrap();
    let media = elsewhere.urls().web.to_string();
    let mut settings = settings(&simulator, format);
    let host = media.trim_start_matches("http://").trim_end_matches('/').to_owned();
    settings.extend([("QWEN_OSS_BASE_URL", simulator.urls().storage.to_string()), ("MEDIA_FETCH", host)]);
    let mut program = Program::start(&["serve"], &settings);
    let mut caller = Caller::new(program.address_beside("listening").await, KEY);
    let mut number = 0;
    // New bytes each time, so that each is uploaded.
    let mut picture = || {
        number += 1;
        image_part(number)
    };
    let document = json!({"type": "file", "file": {
        "filename": "notes.txt", "file_data": data_uri("text/plain", PROMPT.as_bytes()),
    }});
    for (endpoint, reply, status) in [
        (Endpoint::OssPut, ScriptedReply::default(), 200),
        (Endpoint::Completions, ScriptedReply::error("internal_error"), 200),
        (Endpoint::OssPut, ScriptedReply::oss_error(503, "ServiceUnavailable"), 200),
        (Endpoint::OssPut, ScriptedReply::oss_error(403, "SecurityTokenExpired"), 200),
        (Endpoint::OssPut, ScriptedReply::put_stopping(1, PutStop::Close), 200),
        (Endpoint::OssPut, ScriptedReply::oss_error(400, "InvalidArgument"), 502),
        (Endpoint::Sts, ScriptedReply::error("RateLimited"), 200),
        (Endpoint::FileParse, ScriptedReply::parsing(ParseEnd::Failed("unreadable".to_owned())), 400),
    ] {
        let shown = format!("{reply:?}");
        let part = if endpoint == Endpoint::FileParse { document.clone() } else { picture() };
        // A storage that refuses is asked by each account.
        let times = if status == 502 { 2 } else { 1 };
        (0..times).for_each(|_| simulator.script().queue(None, endpoint, reply.clone()));
        let found = caller.post("/v1/chat/completions", &with_parts(OMNI, PROMPT, vec![part])).await;
        assert_eq!(found, status, "{shown}: {}", caller.last());
    }
    // Somebody's own signed link, at a host that gives nothing.
    let url = format!("{media}bot{LINK_KEY}/a.png?sig={LINK_KEY}");
    let part = json!({"type": "image_url", "image_url": {"url": url}});
    assert_eq!(caller.post("/v1/chat/completions", &with_parts(OMNI, PROMPT, vec![part])).await, 400);
    must_not_hold(caller.last(), &[LINK_KEY.to_owned()], "an error");
    let sent = caller.answers.len();
    // Results, whose links belong to the caller and to nobody else.
    for (form, body) in [("url", json!({"prompt": PROMPT})), ("b64_json", json!({"prompt": PROMPT}))] {
        let mut body = body;
        body["response_format"] = json!(form);
        assert_eq!(caller.post("/v1/images/generations", &body).await, 200, "{}", caller.last());
    }
    simulator.script().set_default(None, Endpoint::MediaLink, Some(ScriptedReply::status(500)));
    let body = json!({"prompt": PROMPT, "response_format": "b64_json"});
    assert_eq!(caller.post("/v1/images/generations", &body).await, 502);
    let lost = caller.last().to_owned();
    simulator.script().queue(None, Endpoint::Completions, ScriptedReply::pictures(1).cut_after(3, CutHow::Reset));
    let body = json!({"model": "qwen3-max-image", "messages": [{"role": "user", "content": PROMPT}]});
    assert_eq!(caller.post("/v1/chat/completions", &body).await, 200, "{}", caller.last());
    program.signal("TERM");
    assert_eq!(program.code().await, 0);
    let log = program.stdout() + &program.stderr();
    assert!(log.contains("media not fetched"), "the loudest level was on");
    let (secrets, links) = (credentials(&simulator), links(&simulator));
    assert!(simulator.stored().uploads().len() > 5 && links.len() > 8, "{links:?}");
    must_not_hold(&log, &secrets, "the log");
    must_not_hold(&log, &links, "the log");
    must_not_hold(&log, &[LINK_KEY, PROMPT, REPLY].map(str::to_owned), "the log");
    assert!(!log.contains("x-oss-") && !log.contains("key="), "a query is in the log");
    // A link to a result has the account's id in its path.
    let ids: Vec<String> =
        simulator.accounts().names().iter().map(|account| simulator.accounts().user_id(account)).collect();
    let keys: Vec<String> = secrets.iter().filter(|secret| !ids.contains(secret)).cloned().collect();
    for (place, answer) in caller.answers.iter().enumerate() {
        must_not_hold(answer, if place < sent { &secrets } else { &keys }, "an answer");
        assert!(!answer.contains("x-oss-"), "{answer}");
    }
    for answer in caller.answers[..sent].iter().chain([&lost]) {
        must_not_hold(answer, &links, "an answer");
    }
    for entry in program.state().read_dir().unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        must_not_hold(&String::from_utf8_lossy(&bytes), &links, "the state");
    }
}

#[tokio::test]
async fn files_and_results_keep_their_secrets_in_text_logs() {
    run_with_files("text").await;
}

#[tokio::test]
async fn files_and_results_keep_their_secrets_in_json_logs() {
    run_with_files("json").await;
}

#[tokio::test]
async fn a_callers_own_credential_is_nowhere() {
    for format in ["text", "json"] {
        let simulator = simulator().await;
        let mut settings = settings(&simulator, format);
        settings.retain(|(name, _)| *name != "COOKIE");
        settings.push(("SERVER_MODE", "false".to_owned()));
        let mut program = Program::start(&[], &settings);
        let address = program.address_beside("listening").await;
        let credential = format!("{KEY};{};{}", simulator.accounts().bearer("ada"), simulator.accounts().cookie("ada"));
        let mut caller = Caller::new(address, &credential);
        for stream in [false, true] {
            simulator.script().queue(None, Endpoint::Completions, ScriptedReply::pieces([REPLY]));
            assert_eq!(caller.ask(PROMPT, stream).await, 200, "{}", caller.last());
        }
        simulator.script().queue(None, Endpoint::Completions, ScriptedReply::status(500));
        assert_eq!(caller.ask(PROMPT, false).await, 502);
        simulator.accounts().expire("ada");
        assert_eq!(caller.ask(PROMPT, false).await, 401);
        assert!(caller.last().contains("upstream_unauthorized"));
        let wrong =
            format!("{WRONG_KEY};{};{}", simulator.accounts().bearer("ada"), simulator.accounts().cookie("ada"));
        let mut stranger = Caller::new(address, &wrong);
        assert_eq!(stranger.ask(PROMPT, false).await, 401);
        let odd = format!("{KEY};no token;{}", simulator.accounts().cookie("ada"));
        let mut odd = Caller::new(address, &odd);
        assert_eq!(odd.ask(PROMPT, false).await, 401);
        program.signal("INT");
        assert_eq!(program.code().await, 0);
        let secrets = credentials(&simulator);
        let log = program.stdout() + &program.stderr();
        must_not_hold(&log, &secrets, "the log");
        must_not_hold(&log, &[PROMPT.to_owned(), REPLY.to_owned()], "the log");
        for answer in [&caller, &stranger, &odd].into_iter().flat_map(|caller| &caller.answers) {
            must_not_hold(answer, &secrets, "an answer");
        }
        for entry in program.state().read_dir().unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            must_not_hold(&String::from_utf8_lossy(&bytes), &secrets, "the state");
        }
        assert_eq!(simulator.record().requests_to(Endpoint::Refresh).len(), 0, "nobody else's session is touched");
    }
}

#[tokio::test]
async fn the_log_says_why_there_was_no_answer() {
    let simulator = simulator().await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", nobody.local_addr().unwrap());
    let mut settings = settings(&simulator, "json");
    settings.retain(|(name, _)| !["LOG_LEVEL", "QWEN_WEB_BASE_URL"].contains(name));
    settings.push(("QWEN_WEB_BASE_URL", closed));
    settings.push(("MAX_RETRIES", "0".to_owned()));
    drop(nobody);
    let program = Program::start(&[], &settings);
    let mut caller = Caller::new(program.address_beside("listening").await, KEY);
    assert_eq!(caller.ask(PROMPT, false).await, 502);
    let log = program.stderr();
    let line = log.lines().find(|line| line.contains("no answer")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("creating a chat") && line.to_lowercase().contains("refused"), "{line}");
    assert!(!caller.last().to_lowercase().contains("refused"), "a cause is for the log only: {}", caller.last());
}

#[tokio::test]
async fn every_fault_of_a_configuration_is_named_and_no_secret_with_it() {
    let secrets = ["CANARY-token-5b1e44d0", "CANARY-cookie-0a9b8c7d", "CANARY-header-13fa77"].map(str::to_owned);
    let settings = [
        ("MAX_IN_FLIGHT", "none".to_owned()),
        ("COOLDOWN_BASE", "-1".to_owned()),
        ("QWEN_WEB_BASE_URL", "ftp://nowhere".to_owned()),
        ("SERVER_PORT", "99999".to_owned()),
        ("LOG_FORMAT", "loud".to_owned()),
        ("QWEN_TOKEN", format!("not a token {}", secrets[0])),
        ("COOKIE", format!("{} without a pair\u{1}", secrets[1])),
        ("QWEN_WEB_HEADERS", format!("{{\"x\": {}", secrets[2])),
    ];
    for command in [&["serve"][..], &["check"], &[]] {
        let mut program = Program::start(command, &settings);
        assert_eq!(program.code().await, 64, "{command:?}");
        let said = program.stderr();
        for (name, _) in &settings {
            assert!(said.contains(name), "{command:?}: {name} is not named in {said}");
        }
        must_not_hold(&(said + &program.stdout()), &secrets, "the complaint");
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_program_at_once() {
    let simulator = simulator().await;
    simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::numbered(5000).paced(Duration::from_millis(10))),
    );
    let mut program = Program::start(&["serve"], &settings(&simulator, "json"));
    let address = program.address_beside("listening").await;
    let asking = crate::support::app::spawn(async move {
        let mut caller = Caller::new(address, KEY);
        let body = json!({"model": "qwen3-max", "stream": true, "messages": [{"role": "user", "content": "x"}]});
        let request = caller.client.post(format!("http://{address}/v1/chat/completions")).bearer_auth(KEY);
        let _ = request
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap()
            .text()
            .await;
        caller.answers.clear();
    });
    simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await.unwrap();
    program.signal("TERM");
    program.until_it_says("asked to stop").await;
    assert!(program.is_running(), "it waits for the answer");
    program.signal("TERM");
    let begun = Instant::now();
    assert_eq!(program.code().await, 143);
    // The answer would go on for 50 seconds, the drain waits 30.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    asking.abort();
}

#[tokio::test]
async fn a_drain_that_takes_too_long_ends_in_time_with_code_0() {
    let simulator = simulator().await;
    simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::numbered(5000).paced(Duration::from_millis(10))),
    );
    let mut settings = settings(&simulator, "text");
    settings.push(("SHUTDOWN_TIMEOUT", "1s".to_owned()));
    let mut program = Program::start(&[], &settings);
    let address = program.address_beside("listening").await;
    let asking = crate::support::app::spawn(async move {
        let mut caller = Caller::new(address, KEY);
        caller.ask("x", true).await;
        caller.answers.remove(0)
    });
    simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await.unwrap();
    program.signal("TERM");
    let begun = Instant::now();
    assert_eq!(program.code().await, 0);
    // The answer would go on for 50 seconds.
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    let answer = asking.await.unwrap();
    assert!(answer.contains("shutting_down") && !answer.contains("[DONE]"), "{answer}");
}

#[tokio::test]
async fn check_tells_about_each_account_and_changes_nothing() {
    let simulator = simulator().await;
    let mut program = Program::start(&["check"], &settings(&simulator, "text"));
    assert_eq!(program.code().await, 0, "{}", program.stderr());
    let table = program.stdout();
    assert_eq!(table.lines().filter(|line| line.contains("usable")).count(), 2, "{table}");
    must_not_hold(&(table + &program.stderr()), &credentials(&simulator), "the table");
    assert_eq!(
        simulator.record().requests_to(Endpoint::NewChat).len()
            + simulator.record().requests_to(Endpoint::Completions).len(),
        0
    );
    assert_eq!(simulator.record().violations(), Vec::<String>::new());
    for account in simulator.accounts().names() {
        simulator.accounts().set_revoked(&account, true);
    }
    let mut program = Program::start(&["check"], &settings(&simulator, "text"));
    assert_eq!(program.code().await, 1);
    assert!(program.stdout().contains("log in"), "{}", program.stdout());
}

#[tokio::test]
async fn healthcheck_asks_the_running_server() {
    let simulator = simulator().await;
    let mut settings = settings(&simulator, "text");
    let server = Program::start(&["serve"], &settings);
    let port = server.address_beside("listening").await.port().to_string();
    let mut good = Program::start(&["healthcheck", "--port", &port], &[]);
    assert_eq!(good.code().await, 0);
    settings.retain(|(name, _)| *name != "SERVER_PORT");
    settings.push(("SERVER_PORT", port));
    let mut same = Program::start(&["healthcheck"], &settings);
    assert_eq!(same.code().await, 0, "the server's own settings will do");
    drop(server);
    let mut bad = Program::start(&["healthcheck"], &settings);
    assert_eq!(bad.code().await, 1);
}

#[tokio::test]
async fn the_demo_answers_without_anything_else() {
    // Also on a bare machine that has no certificates.
    let bare = [("SSL_CERT_FILE", "/nowhere".to_owned()), ("SSL_CERT_DIR", "/nowhere".to_owned())];
    let mut program = Program::start(&["demo", "--port", "0"], &bare);
    let address = program.address_beside("base URL").await;
    let printed = program.stdout();
    let key = printed.lines().find_map(|line| line.trim().strip_prefix("key ")).unwrap().trim().to_owned();
    assert!(printed.contains("curl"), "{printed}");
    let mut caller = Caller::new(address, &key);
    for stream in [false, true] {
        assert_eq!(caller.ask("echo: hello from the demo", stream).await, 200, "{}", caller.last());
    }
    assert!(caller.answers[0].contains("hello from the demo"), "{}", caller.answers[0]);
    program.signal("INT");
    assert_eq!(program.code().await, 0);
}

#[tokio::test]
async fn the_demo_leaves_the_account_of_its_user_alone() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".qwen")).unwrap();
    let account = r#"{"access_token":"theirs","refresh_token":"theirs too","expiry_date":1}"#;
    let file = home.path().join(".qwen/oauth_creds.json");
    std::fs::write(&file, account).unwrap();
    let mut program = Program::start(&["demo", "--port", "0"], &[("HOME", home.path().display().to_string())]);
    let address = program.address_beside("base URL").await;
    let printed = program.stdout();
    let key = printed.lines().find_map(|line| line.trim().strip_prefix("key ")).unwrap().trim().to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let models = client.get(format!("http://{address}/v1/models")).bearer_auth(key).send().await.unwrap();
    let models = models.text().await.unwrap();
    // Accounts like theirs would bring it along.
    assert!(models.contains("qwen3-max") && !models.contains("coder-model"), "{models}");
    program.signal("INT");
    assert_eq!(program.code().await, 0);
    assert!(!program.stderr().contains("oauth"), "{}", program.stderr());
    assert_eq!(std::fs::read_to_string(file).unwrap(), account);
}

#[tokio::test]
async fn the_simulator_runs_alone_and_plays_a_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.json");
    std::fs::write(&file, r#"{"accounts":[{"name":"zoe"}],"replies":{"models":[{"fail":{"status":{"code":503}}}]}}"#)
        .unwrap();
    let mut program = Program::start(&["simulate", "--port", "0", "--scenario", file.to_str().unwrap()], &[]);
    let address = program.address_beside("QWEN_WEB_BASE_URL").await;
    program.until_it_says("zoe: ").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for expected in [503, 200] {
        let response = client.get(format!("http://{address}/api/models")).send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected);
    }
    program.signal("TERM");
    assert_eq!(program.code().await, 0);
    std::fs::write(&file, r#"{"acounts":[]}"#).unwrap();
    let mut program = Program::start(&["simulate", "--scenario", file.to_str().unwrap()], &[]);
    assert_ne!(program.code().await, 0);
    assert!(program.stderr().contains("acounts"), "{}", program.stderr());
}

#[tokio::test]
async fn a_requests_line_has_its_path_as_it_is() {
    for (format, expected) in
        [("text", r#"http.path="/v1/chat/completions""#), ("json", r#""http.path":"/v1/chat/completions""#)]
    {
        let simulator = simulator().await;
        let mut program = Program::start(&["serve"], &settings(&simulator, format));
        let mut caller = Caller::new(program.address_beside("listening").await, KEY);
        assert_eq!(caller.ask("x", false).await, 200);
        assert_eq!(caller.post("/\u{2028}\u{1b}[31m\"=x", &json!({})).await, 404);
        program.signal("TERM");
        assert_eq!(program.code().await, 0);
        let log = program.stdout() + &program.stderr();
        assert!(log.contains(expected), "{log}");
        assert!(!log.contains(['\u{2028}', '\u{1b}']), "{log}");
    }
}

#[tokio::test]
async fn a_requests_line_has_the_address_of_its_peer() {
    for (proxies, forwarded, expected) in [
        ("", "192.0.2.7", "peer.address=127.0.0.1"),
        ("127.0.0.0/8", "192.0.2.7", "peer.address=192.0.2.7"),
        ("127.0.0.0/8", "198.51.100.1, 2001:db8::7", "peer.address=2001:db8::7"),
        ("127.0.0.0/8", "no address", "peer.address=127.0.0.1"),
    ] {
        let simulator = simulator().await;
        let mut settings = settings(&simulator, "text");
        settings.push(("TRUSTED_PROXIES", proxies.to_owned()));
        let program = Program::start(&[], &settings);
        let address = program.address_beside("listening").await;
        let request = reqwest::Client::new().get(format!("http://{address}/v1/models"));
        let request = request.header("x-forwarded-for", forwarded).bearer_auth(WRONG_KEY);
        assert_eq!(request.send().await.unwrap().status(), 401);
        program.until_it_says(expected).await;
    }
}

#[tokio::test]
async fn a_health_check_that_fails_says_why() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut program = Program::start(&["healthcheck"], &[("SERVER_PORT", nobody.port().to_string())]);
    assert_eq!(program.code().await, 1);
    let said = program.stderr();
    assert!(said.contains(&format!("http://{nobody}/health")) && said.contains("refused"), "{said}");

    let simulator = simulator().await;
    let port = simulator.urls().web.port().unwrap();
    let mut program = Program::start(&["healthcheck"], &[("SERVER_PORT", port.to_string())]);
    assert_eq!(program.code().await, 1);
    assert!(program.stderr().contains("40"), "{}", program.stderr());
}

#[tokio::test]
async fn a_demo_whose_port_is_taken_names_its_own_flag() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut program = Program::start(&["demo", "--port", &address.port().to_string()], &[]);
    assert_eq!(program.code().await, 1);
    let said = program.stderr();
    assert!(said.contains(&address.to_string()) && said.contains("--port"), "{said}");
    assert!(!said.contains("SERVER_PORT"), "the demo does not look at it: {said}");
}
