//! The commands of the real program as a child process: how they begin, what they print and how they end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::script::{Endpoint, ScriptedReply};

use crate::support::app::PATIENCE;
use crate::support::leaks::{Caller, credentials, must_not_hold, simulator};
use crate::support::program::{KEY, Program, settings};

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

/// Scripts read it: JSON alone on standard output, the log elsewhere.
#[tokio::test]
async fn check_tells_the_same_as_json() {
    let simulator = simulator().await;
    let mut program = Program::start(&["check", "--json"], &settings(&simulator, "text"));
    assert_eq!(program.code().await, 0, "{}", program.stderr());
    let report: Value = serde_json::from_str(&program.stdout()).unwrap();
    let count = simulator.accounts().names().len();
    assert_eq!((&report["usable"], report["accounts"].as_array().unwrap().len()), (&json!(count), count), "{report}");
    assert_eq!((&report["accounts"][0]["kind"], &report["accounts"][0]["state"]), (&json!("web"), &json!("usable")));
    assert!(!program.stdout().contains("eyJ"));

    let mut without = settings(&simulator, "text");
    without.retain(|(name, _)| *name != "COOKIE");
    let mut program = Program::start(&["check", "--json"], &without);
    assert_eq!(program.code().await, 1, "no account is usable");
    let report: Value = serde_json::from_str(&program.stdout()).unwrap();
    assert_eq!((&report["usable"], &report["accounts"]), (&json!(0), &json!([])), "{report}");
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
async fn the_demo_has_accounts_of_each_kind_and_is_alive_at_first_view() {
    let admin = [("ADMIN_SECRET_KEY", "sk-of-the-owner".to_owned())];
    let mut program = Program::start(&["demo", "--port", "0"], &admin);
    let address = program.address_beside("base URL").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| -> Value {
        let request = client.get(format!("http://{address}{path}")).bearer_auth("sk-of-the-owner");
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    };
    let body = get("/admin/accounts").await;
    let accounts = body["accounts"].as_array().unwrap();
    let kinds: Vec<&str> = accounts.iter().map(|account| account["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["web", "web", "web", "web", "oauth", "key"], "{body}");
    let rests = |account: &Value| account["cooling"]["chat"]["reason"] == "quota";
    assert_eq!(accounts.iter().map(rests).collect::<Vec<_>>(), [false, false, true, false, false, false], "{body}");
    for account in accounts {
        let hours: u64 = account["hours"].as_array().unwrap().iter().map(|hour| hour.as_u64().unwrap()).sum();
        assert_eq!(hours > 0, account["reason"] != "login_needed", "{account}");
        assert!(account["label"].is_string(), "{account}");
    }
    let today = accounts.iter().map(|account| account["today"]["requests"].as_u64().unwrap()).sum::<u64>();
    assert!(today > 0, "{body}");
    let usage = get("/admin/usage?by=kind").await;
    assert_eq!(usage["rows"].as_array().unwrap().len(), 3, "{usage}");
    let keys = get("/admin/keys").await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 4, "{keys}");
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
    let admin = "sk-of-the-owner";
    let settings = [("HOME", home.path().display().to_string()), ("ADMIN_SECRET_KEY", admin.to_owned())];
    let mut program = Program::start(&["demo", "--port", "0"], &settings);
    let address = program.address_beside("base URL").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("http://{address}/admin/accounts")).bearer_auth(admin);
    let body: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    let accounts = body["accounts"].as_array().unwrap().iter().filter(|account| account["kind"] == "oauth");
    let names: Vec<&str> = accounts.map(|account| account["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["oauth:cleo"], "only the sample");
    program.signal("INT");
    assert_eq!(program.code().await, 0);
    assert!(!program.stderr().contains("qwen-cli"), "{}", program.stderr());
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
async fn a_health_check_that_fails_says_why() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut program = Program::start(&["healthcheck"], &[("SERVER_PORT", unused.port().to_string())]);
    assert_eq!(program.code().await, 1);
    let said = program.stderr();
    assert!(said.contains(&format!("http://{unused}/health")) && said.contains("refused"), "{said}");

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

#[tokio::test]
async fn check_tells_the_address_that_was_meant() {
    let simulator = simulator().await;
    let key = simulator.keys().secret(&simulator.keys().names()[0]);
    let base = simulator.urls().keys.to_string();
    let (base, root) = (base.trim_end_matches('/'), base.trim_end_matches("/v1/").trim_end_matches("/v1"));
    for (address, told) in [
        (format!("{base}/chat/completions"), format!("write {base}\n")),
        (format!("{root}/v1/v1"), format!("correct its address: {root}/v1\n")),
        (root.to_owned(), format!("its address may lack /v1: {root}/v1")),
        (base.to_owned(), "key     usable         -                      nothing\n".to_owned()),
    ] {
        let mut settings = settings(&simulator, "text");
        settings.retain(|(name, _)| *name != "COOKIE");
        settings.push(("QWEN_API_KEYS", format!("{key}@{address}")));
        let mut program = Program::start(&["check"], &settings);
        assert_eq!(program.code().await, 0, "{address}: {}", program.stderr());
        assert!(program.stdout().contains(&told), "{address}: {}", program.stdout());
    }
    // A site with a path is a fault of the settings.
    let site = simulator.urls().web.to_string();
    let with_path = [("QWEN_WEB_BASE_URL", format!("{site}v1"))];
    let mut program = Program::start(&["check"], &with_path);
    assert_eq!(program.code().await, 64);
    assert!(program.stderr().contains("must end after the host"), "{}", program.stderr());
}

#[tokio::test]
async fn check_tells_which_proxies_are_used_and_no_password() {
    let simulator = simulator().await;
    let mut settings = settings(&simulator, "text");
    settings.push(("HTTPS_PROXY", "http://me:CANARY-pass@proxy.invalid:3128".to_owned()));
    let mut program = Program::start(&["check"], &settings);
    assert_eq!(program.code().await, 0, "the simulator is called over http");
    let shown = program.stdout();
    assert!(shown.contains("called through the proxy http://proxy.invalid:3128 (HTTPS_PROXY)"), "{shown}");
    assert!(!shown.contains("CANARY-pass") && !program.stderr().contains("CANARY-pass"), "{shown}");
}
