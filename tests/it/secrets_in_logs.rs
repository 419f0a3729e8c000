//! The real program as a child process: its logs at their loudest, its answers, its files and its exit codes.
#![expect(clippy::string_slice, reason = "every index comes from a search or an ASCII secret")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{ChallengeForm, CutHow, Endpoint, ParseEnd, PutStop, Scenario, ScriptedReply};

use crate::support::app::PATIENCE;
use crate::support::files::{OMNI, data_uri, image_part, with_parts};
use crate::support::leaks::{Caller, PROMPT, WRONG_KEY, credentials, must_not_hold, simulator};
use crate::support::program::{KEY, Program, settings};

const REPLY: &str = "CANARY-reply-e07b42";
const LINK_KEY: &str = "CANARY-link-8e20c6d17f";

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

/// What the simulator gave away beside credentials: the queries of signed links to uploads, and the keys of results.
fn links(simulator: &Simulator) -> Vec<String> {
    let mut links = upload_links(simulator);
    links.extend(queries(simulator.record().requests_to(Endpoint::MediaLink).into_iter().map(|asked| asked.path)));
    links
}

/// The queries of signed links to files that callers sent.
fn upload_links(simulator: &Simulator) -> Vec<String> {
    let asked = simulator.record().requests_to(Endpoint::Completions).into_iter();
    queries(asked.filter_map(|asked| Some(asked.body?.to_string())))
}

/// The values of queries in these texts that open what they are signed for.
fn queries(texts: impl Iterator<Item = String>) -> Vec<String> {
    let texts: Vec<String> = texts.collect();
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
    // A caller's own signed link, at a host that gives nothing.
    let url = format!("{media}bot{LINK_KEY}/a.png?sig={LINK_KEY}");
    let part = json!({"type": "image_url", "image_url": {"url": url}});
    assert_eq!(caller.post("/v1/chat/completions", &with_parts(OMNI, PROMPT, vec![part])).await, 400);
    must_not_hold(caller.last(), &[LINK_KEY.to_owned()], "an error");
    let sent = caller.answers.len();
    // Results, whose links are for the caller only.
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
        // The gallery keeps links to what was made, until they end.
        must_not_hold(&String::from_utf8_lossy(&bytes), &upload_links(&simulator), "the state");
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
        assert_eq!(simulator.record().requests_to(Endpoint::Refresh).len(), 0, "no other session is touched");
    }
}

#[tokio::test]
async fn the_log_says_why_there_was_no_answer() {
    let simulator = simulator().await;
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", unused.local_addr().unwrap());
    let mut settings = settings(&simulator, "json");
    settings.retain(|(name, _)| !["LOG_LEVEL", "QWEN_WEB_BASE_URL"].contains(name));
    settings.push(("QWEN_WEB_BASE_URL", closed));
    settings.push(("MAX_RETRIES", "0".to_owned()));
    drop(unused);
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
