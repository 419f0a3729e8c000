//! `check`: what it tells about accounts, keys and surroundings, and its exit status. The real program as a child process.

use serde_json::{Value, json};
use simulator::script::Endpoint;

use crate::support::leaks::{credentials, must_not_hold, simulator};
use crate::support::program::{Program, settings};

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
