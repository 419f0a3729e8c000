//! What people see on a terminal: styles, short lines for requests, tables. The real program on a pseudo-terminal.
#![cfg(unix)]

use std::process::{Command, Stdio};

use crate::support::app::question;
use crate::support::leaks::{credentials, must_not_hold, simulator};
use crate::support::program::{KEY, Program, settings};
use crate::support::terminal::OnTerminal;

/// The settings of a program in front of this simulator that says how its lines look by itself.
fn plain_settings(simulator: &simulator::Simulator) -> Vec<(&'static str, String)> {
    let mut settings = settings(simulator, "text");
    settings.retain(|(name, _)| !matches!(*name, "LOG_FORMAT" | "LOG_LEVEL"));
    settings
}

/// The text without styles.
fn bare(shown: &str) -> String {
    let mut bare = String::new();
    let mut parts = shown.split("\u{1b}[");
    bare.extend(parts.next());
    bare.extend(parts.map(|part| part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest)));
    bare
}

#[tokio::test]
async fn a_server_on_a_terminal_begins_with_a_banner_and_has_a_short_line_for_each_request() {
    let simulator = simulator().await;
    let server = OnTerminal::start(100, &["serve"], &plain_settings(&simulator));
    let seen = server.shows(0, "base URL").await;
    server.shows(seen, "listening").await;
    let shown = bare(&server.shown());
    assert!(shown.contains("    key        sk-…90ab\r\n"), "{shown}");
    assert!(shown.contains("    accounts   2 of 2 ready"), "{shown}");
    let (_, after) = shown.split_once("base URL   ").unwrap();
    let base = after.split_once("/v1").unwrap().0.to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = |key: &str| {
        client
            .post(format!("{base}/v1/chat/completions"))
            .bearer_auth(key)
            .body(question("echo: there").to_string())
            .send()
    };
    assert_eq!(ask(KEY).await.unwrap().text().await.unwrap().matches("there").count(), 1);
    let seen = server.shows(0, " tokens ").await;
    assert_eq!(ask("sk-wrong").await.unwrap().status(), 401);
    server.shows(seen, "invalid_api_key").await;
    let shown = server.shown();
    let lines: Vec<String> = bare(&shown).lines().filter(|line| line.contains(" POST ")).map(str::to_owned).collect();
    let [good, refused] = &lines[..] else { panic!("{lines:?}") };
    assert!(good.contains(" POST /v1/chat/completions 200 qwen3-max identity-"), "{good}");
    assert!(good.ends_with(" s ok") && good.chars().count() < 120, "{good}");
    assert!(refused.contains(" 401 ") && refused.ends_with(" invalid_api_key"), "{refused}");
    assert!(shown.contains("\u{1b}[32m200\u{1b}[0m") && shown.contains("\u{1b}[33m401\u{1b}[0m"), "{shown:?}");
    must_not_hold(&shown, &credentials(&simulator), "the terminal");
}

#[tokio::test]
async fn check_on_a_terminal_is_a_coloured_table() {
    let simulator = simulator().await;
    let mut check = OnTerminal::start(90, &["check"], &plain_settings(&simulator));
    assert_eq!(check.code().await, 0, "{}", check.shown());
    check.shows(0, "2 of 2 can be used.").await;
    let shown = check.shown();
    assert!(shown.contains("\u{1b}[32musable"), "{shown:?}");
    assert!(bare(&shown).contains("account     kind   state"), "{shown}");
}

#[tokio::test]
async fn colours_are_as_they_are_asked_for() {
    let simulator = simulator().await;
    let is_coloured = |shown: &str| shown.contains("\u{1b}[3");
    for (arguments, setting, expected) in [
        (&["check"][..], None, true),
        (&["check"][..], Some(("NO_COLOR", "1")), false),
        (&["check", "--color", "never"][..], None, false),
        (&["check"][..], Some(("COLOR", "never")), false),
        (&["--color", "always", "check"][..], Some(("NO_COLOR", "1")), true),
    ] {
        let mut settings = plain_settings(&simulator);
        settings.extend(setting.map(|(name, value)| (name, value.to_owned())));
        let mut check = OnTerminal::start(90, arguments, &settings);
        assert_eq!(check.code().await, 0, "{}", check.shown());
        check.shows(0, "2 of 2 can be used.").await;
        assert_eq!(is_coloured(&check.shown()), expected, "{arguments:?} {setting:?} {:?}", check.shown());
    }
    // Files and programs get no styles unless they ask for them.
    let fault = |value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwen-bridge"));
        command.args(["serve", "--color", value, "--port", "x"]).env_clear().stdin(Stdio::null());
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert!(fault("auto").starts_with("qwen-bridge: 1 fault"), "{}", fault("auto"));
    let mut program = Program::start(&["serve", "--color", "blue"], &[]);
    assert_eq!(program.code().await, 64);
    assert!(program.stderr().contains("COLOR (flag)"), "{}", program.stderr());
}

#[tokio::test]
async fn the_rest_of_a_pasted_command_answers_no_question_of_setup() {
    let simulator = simulator().await;
    let mut settings = plain_settings(&simulator);
    settings.retain(|(name, _)| !matches!(*name, "COOKIE" | "API_KEY"));
    let mut setup = OnTerminal::start(100, &["setup"], &settings);
    let seen = setup.shows(0, "Ctrl-D ends.").await;
    let cookie = simulator.accounts().cookie("ada");
    setup.types(&format!(
        "curl 'https://chat.qwen.ai/api/v2/chats/' \\\n  -b '{cookie}' \\\n  -H 'version: 0.3.12' \\\n  --data-raw 'rest'\n"
    ));
    let seen = setup.shows(seen, "[y/N]").await;
    setup.types("y\n");
    setup.shows(seen, "base URL").await;
    assert_eq!(setup.code().await, 0, "{}", setup.shown());
    let file = setup.folder().join(".env");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("API_KEY=sk-"));
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    must_not_hold(&setup.shown(), &credentials(&simulator), "the terminal");
    assert!(!setup.shown().contains("data-raw"), "{}", setup.shown());
}

/// The first row that could sign in is not the one that counts: the rest of the paste has the token that is renewed.
#[tokio::test]
async fn a_paste_of_many_lines_is_taken_whole_by_setup() {
    let simulator = simulator().await;
    let mut settings = plain_settings(&simulator);
    settings.retain(|(name, _)| !matches!(*name, "COOKIE" | "API_KEY"));
    let header = simulator.accounts().cookie("bob");
    let renewed = header.split("; ").find(|pair| pair.starts_with("refresh_token=")).unwrap();
    let row = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap();
        format!(".qwen.ai\tTRUE\t/\tTRUE\t0\t{name}\t{value}\n")
    };
    let short = format!(
        "token={}",
        simulator.accounts().cookie("ada").split("token=").nth(1).unwrap().split(';').next().unwrap()
    );
    for paste in [
        format!("# Netscape HTTP Cookie File\n# See the page\n\n{}{}", row(&short), row(renewed)),
        format!("{short}\ncna=1\n{renewed}\n"),
    ] {
        let mut setup = OnTerminal::start(100, &["setup"], &settings);
        let seen = setup.shows(0, "Ctrl-D ends.").await;
        setup.types(&paste);
        let seen = setup.shows(seen, "with refresh_token.").await;
        assert!(!setup.shown().contains("Nothing was pasted"), "{}", setup.shown());
        setup.shows(seen, "[y/N]").await;
        setup.types("n\n");
        setup.code().await;
        let kept = std::fs::read_to_string(setup.folder().join("cookie.txt")).unwrap();
        assert!(kept.contains(renewed) && kept.contains(&short), "{}", setup.shown());
    }
}
