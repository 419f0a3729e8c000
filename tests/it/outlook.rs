//! What the owner hears of before callers do, in the log of the real program and from `check`.

use simulator::Simulator;
use simulator::script::{AccountScript, Era, Scenario};

use crate::support::program::{Program, settings};

const DAY: u64 = 24 * 3600;

async fn simulator(accounts: impl IntoIterator<Item = AccountScript>) -> Simulator {
    Simulator::start(Scenario::with_accounts(accounts).paced_ms(0)).await.unwrap()
}

fn ending(name: &str, era: Era, seconds: u64) -> AccountScript {
    AccountScript { session_seconds: seconds, ..AccountScript::new(name, era) }
}

// S003-27
#[tokio::test]
async fn a_session_that_ends_soon_and_cannot_be_renewed_is_warned_of() {
    let simulator = simulator([ending("ada", Era::A, 3 * DAY), ending("bob", Era::A, 30 * DAY)]).await;
    let server = Program::start(&["serve"], &settings(&simulator, "text"));
    server.until_it_says("ends in 3 days and has no refresh_token").await;
    let log = server.stderr();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("ends in")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("WARN") && warnings[0].contains("identity-1"), "{warnings:?}");

    let mut check = Program::start(&["check"], &settings(&simulator, "text"));
    assert_eq!(check.code().await, 0, "{}", check.stderr());
    let table = check.stdout();
    let row =
        |id: &str| table.lines().find(|line| line.starts_with(id)).unwrap_or_else(|| panic!("{table}")).to_owned();
    assert!(
        row("identity-1").contains("usable") && row("identity-1").contains("log in again, it ends in 3 days"),
        "{table}"
    );
    assert!(row("identity-2").contains("nothing"), "{table}");
}

#[tokio::test]
async fn a_session_that_renews_itself_is_not_warned_of() {
    let simulator = simulator([ending("bob", Era::B, 3 * DAY)]).await;
    let mut check = Program::start(&["check"], &settings(&simulator, "text"));
    assert_eq!(check.code().await, 0, "{}", check.stderr());
    assert!(!check.stdout().contains("log in again"), "{}", check.stdout());
}

#[tokio::test]
async fn models_in_the_settings_that_nobody_has_are_named() {
    let simulator = simulator([AccountScript::new("ada", Era::A)]).await;
    let mut settings = settings(&simulator, "text");
    settings.push(("DEFAULT_MODEL", "qwen3-maxx-thinking".to_owned()));
    settings.push(("VISION_FALLBACK_MODEL", "qwen-see-nothing".to_owned()));
    settings.push(("MODEL_MAP", "claude-*=qwen3-max-search,gpt-*=qwen-4-max,gem*=key/qwen3-max".to_owned()));
    let server = Program::start(&["serve"], &settings);
    for (setting, model) in [("DEFAULT_MODEL", "qwen3-maxx-thinking"), ("VISION_FALLBACK_MODEL", "qwen-see-nothing")] {
        server.until_it_says(&format!("{setting} names a model that no upstream has")).await;
        let log = server.stderr();
        let line = log.lines().find(|line| line.contains(&format!("{setting} names"))).unwrap();
        assert!(line.contains("WARN") && line.contains(model), "{line}");
    }
    // Without any key, no upstream has a model of one.
    server.until_it_says("key/qwen3-max").await;
    let log = server.stderr();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("MODEL_MAP names")).collect();
    assert!(warnings.len() == 2 && warnings[0].contains("qwen-4-max"), "{warnings:?}");
}

#[tokio::test]
async fn the_log_says_why_a_server_is_open() {
    let simulator = simulator([AccountScript::new("ada", Era::A)]).await;
    for (name, value, says, says_not) in [
        ("SERVER_MODE", "false", "client mode without a key", "ALLOW_OPEN is true"),
        ("ALLOW_OPEN", "true", "ALLOW_OPEN is true", "client mode"),
    ] {
        let mut settings = settings(&simulator, "text");
        settings.retain(|(name, _)| *name != "API_KEY");
        settings.push(("SERVER_HOST", "0.0.0.0".to_owned()));
        settings.push((name, value.to_owned()));
        let server = Program::start(&["serve"], &settings);
        server.until_it_says(says).await;
        assert!(!server.stderr().contains(says_not), "{}", server.stderr());
    }
}
