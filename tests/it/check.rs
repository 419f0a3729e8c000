//! `check`: what it tells about accounts, keys and surroundings, and its exit status. The real program as a child process.

use std::fs;
use std::path::Path;

use qwen_bridge::base::secret::Cookie;
use qwen_bridge::store::Store;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{AccountScript, Endpoint, Era, Scenario};
use tempfile::TempDir;

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
async fn check_leaves_a_renewal_to_the_server_that_runs() {
    let account = AccountScript { expired: true, ..AccountScript::new("bob", Era::B) };
    let simulator = Simulator::start(Scenario::with_accounts(vec![account])).await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut settings = settings(&simulator, "text");
    settings.retain(|(name, _)| !matches!(*name, "SERVER_PORT"));
    settings.push(("SERVER_PORT", port));
    let mut program = Program::start(&["check"], &settings);
    assert_eq!(program.code().await, 1, "{}", program.stderr());
    assert!(program.stdout().contains("not asked"), "{}", program.stdout());
    assert_eq!(simulator.record().requests_to(Endpoint::Refresh).len(), 0);
    drop(listener);
    let mut program = Program::start(&["check"], &settings);
    assert_eq!(program.code().await, 0, "{}", program.stdout());
    assert_eq!(simulator.record().requests_to(Endpoint::Refresh).len(), 1);
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

#[tokio::test]
async fn check_tells_a_clock_that_is_off() {
    for (ahead, side) in [(600, Some("behind")), (-7200, Some("ahead of")), (10, None)] {
        let scenario = Scenario { clock_ahead_seconds: ahead, ..Scenario::default() };
        let simulator = Simulator::start(scenario).await.unwrap();
        let mut program = Program::start(&["check", "--json"], &settings(&simulator, "text"));
        assert_eq!(program.code().await, 0, "{}", program.stderr());
        let report: Value = serde_json::from_str(&program.stdout()).unwrap();
        let notes: Vec<&str> = report["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
        let told = notes.iter().find(|note| note.contains("clock"));
        let Some(side) = side else {
            assert_eq!(told, None, "{ahead}");
            continue;
        };
        let told = told.unwrap_or_else(|| panic!("{ahead}: {report}"));
        assert!(told.contains(&format!("s {side} the upstream's")), "{told}");
        // The time of the call itself may add a second or two.
        let seconds: i64 = told.split(' ').find_map(|word| word.parse().ok()).unwrap();
        assert!((seconds - ahead.abs()).abs() <= 20, "{told}");
    }
}

/// Makes a folder read-only for its owner.
#[cfg(unix)]
fn close(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn check_notes_folders_that_cannot_be_written() {
    let simulator = simulator().await;
    let folder = TempDir::new().unwrap();
    for name in ["qwen", "data"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        close(&folder.path().join(name));
    }
    let mut settings = settings(&simulator, "text");
    settings.push(("QWEN_DIR", folder.path().join("qwen").display().to_string()));
    settings.push(("STATE_DIR", folder.path().join("data").display().to_string()));
    let Some(mut program) = Program::start_without_privileges(&["check"], &settings) else {
        println!("skipped: no user without privileges can be had here");
        return;
    };
    assert_eq!(program.code().await, 0, "ada can be asked all the same: {}", program.stderr());
    let shown = program.stdout();
    let notes: Vec<&str> = shown.lines().filter(|line| line.starts_with("note: ")).collect();
    let of = |name: &str| notes.iter().find(|note| note.contains(&folder.path().join(name).display().to_string()));
    let qwen = of("qwen").unwrap_or_else(|| panic!("{shown}"));
    assert!(qwen.starts_with("note: QWEN_DIR is ") && qwen.contains("cannot write"), "{qwen}");
    assert!(of("data").unwrap_or_else(|| panic!("{shown}")).contains("`chmod u+rwx "), "{shown}");
    // The login that would have to be renewed is left alone, since its successor could not be kept.
    assert!(shown.lines().any(|line| line.contains("not asked") && line.contains("mend the state folder")), "{shown}");
    assert_eq!(simulator.record().requests_to(Endpoint::Refresh).len(), 0);
}

#[tokio::test]
async fn check_shows_the_names_that_the_owner_gave() {
    let simulator = simulator().await;
    let folder = TempDir::new().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    let key = Cookie::parse(&simulator.accounts().cookie("ada")).unwrap().key();
    store.save_label(key, Some("Für Zuhause".to_owned()));
    store.close().await;
    let mut settings = settings(&simulator, "text");
    settings.push(("STATE_DIR", folder.path().display().to_string()));
    let mut program = Program::start(&["check", "--json"], &settings);
    assert_eq!(program.code().await, 0, "{}", program.stderr());
    let report: Value = serde_json::from_str(&program.stdout()).unwrap();
    let labels: Vec<&Value> = report["accounts"].as_array().unwrap().iter().map(|account| &account["label"]).collect();
    assert_eq!(labels.iter().filter(|label| ***label == json!("Für Zuhause")).count(), 1, "{report}");
    assert_eq!(labels.iter().filter(|label| label.is_null()).count(), 1, "{report}");
    let mut program = Program::start(&["check"], &settings);
    assert_eq!(program.code().await, 0);
    assert!(program.stdout().contains(" (Für Zuhause) "), "{}", program.stdout());
}

#[tokio::test]
async fn faulty_settings_are_no_report_and_have_an_exit_status_of_their_own() {
    let simulator = simulator().await;
    for arguments in [&["check", "--json"][..], &["check"][..], &["--port", "x", "check", "--json"][..]] {
        let mut settings = settings(&simulator, "text");
        settings.push(("MAX_RETRIES", "many".to_owned()));
        let mut program = Program::start(arguments, &settings);
        assert_eq!(program.code().await, 64, "{}", program.stderr());
        assert_eq!(program.stdout(), "", "{arguments:?}");
        assert!(program.stderr().contains("MAX_RETRIES"), "{}", program.stderr());
    }
}
