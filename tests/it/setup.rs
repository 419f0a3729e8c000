//! `setup`: the guided first run, with what is pasted coming through a pipe.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use simulator::Simulator;

use crate::support::oracle::crew;

/// Runs it in this folder with this text as its input.
async fn set_up(simulator: &Simulator, folder: &Path, pasted: impl Into<Vec<u8>>) -> Output {
    let pasted = pasted.into();
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwen-bridge"));
    command
        .arg("setup")
        .env_clear()
        .env("QWEN_WEB_BASE_URL", simulator.urls().web.to_string())
        .env("QWEN_AUTH_BASE_URL", simulator.urls().auth.to_string())
        .env("NO_PROXY", "*")
        .env("SERVER_PORT", "0")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&pasted).unwrap();
        child.wait_with_output().unwrap()
    };
    // The simulator answers on this runtime meanwhile.
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn a_pasted_account_is_kept_and_checked() {
    let simulator = Simulator::start(crew(2)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let header = simulator.accounts().cookie("ada");
    let curl =
        format!("curl 'https://chat.qwen.ai/api/v2/chats/' \\\n  -H 'accept: */*' \\\n  -H 'cookie: {header}'\n");
    let output = set_up(&simulator, folder.path(), curl).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    for part in ["Recognised: ", "identity-1", "usable", "base URL   http://127.0.0.1:"] {
        assert!(shown.contains(part), "{part} of {shown}");
    }
    let secret = header.split("token=").nth(1).unwrap().split(';').next().unwrap();
    assert!(!shown.contains(secret), "the credential is not shown");
    let file = folder.path().join("cookie.txt");
    assert!(fs::read_to_string(&file).unwrap().contains(secret));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // A second one stands below the first.
    let output = set_up(&simulator, folder.path(), simulator.accounts().cookie("bob")).await;
    assert!(String::from_utf8(output.stdout).unwrap().contains("identity-2"));
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn what_is_no_account_is_told_and_not_kept() {
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (pasted, told) in [
        ("hello, this is nothing", "not a Cookie header"),
        ("cna=abc; _bl_uid=def", "`token` or `refresh_token` is missing"),
        ("", "nothing was pasted"),
    ] {
        let output = set_up(&simulator, folder.path(), pasted.to_owned()).await;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{pasted}: {shown}");
        assert!(shown.contains(told), "{pasted}: {shown}");
        assert!(!folder.path().join("cookie.txt").exists(), "{pasted}");
    }
}

/// What browsers and extensions write into files: blank lines, other encodings, many megabytes.
#[tokio::test]
async fn files_of_browsers_are_read_from_a_pipe() {
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let header = simulator.accounts().cookie("ada");
    let pairs = || header.split("; ").map(|pair| pair.split_once('=').unwrap());
    let rows: String =
        pairs().map(|(name, value)| format!("#HttpOnly_.qwen.ai\tTRUE\t/\tTRUE\t0\t{name}\t{value}\n")).collect();
    let netscape = format!("# Netscape HTTP Cookie File\n# https://curl.se/docs/http-cookies.html\n\n{rows}\n");
    let little: Vec<u8> = netscape.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = [0xfe, 0xff].into_iter().chain(header.encode_utf16().flat_map(u16::to_be_bytes)).collect();
    // A pretty-printed recording of 20,000 lines.
    let other = r#"    {"request": {"url": "https://other.example/", "headers": [{"name": "x", "value": "y"}]}},"#;
    let own = format!(
        r#"    {{"request": {{"url": "https://chat.qwen.ai/", "headers": [{{"name": "cookie", "value": "{header}"}}]}}}}"#
    );
    let recording = format!("{{\"log\": {{\"entries\": [\n{}{own}\n]}}}}\n", format!("{other}\n").repeat(20_000));
    assert!(recording.len() > 1_500_000);
    let forms: [(&str, Vec<u8>); 4] = [
        ("cookies.txt", netscape.into()),
        ("cookies.txt", little),
        ("a Cookie header", big),
        ("HAR", recording.into()),
    ];
    for (form, bytes) in forms {
        let folder = tempfile::tempdir().unwrap();
        let output = set_up(&simulator, folder.path(), bytes).await;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{form}: {shown}");
        assert!(shown.contains("Recognised: ") && shown.contains(form), "{form}: {shown}");
        let kept = fs::read_to_string(folder.path().join("cookie.txt")).unwrap();
        assert!(pairs().all(|(name, value)| kept.contains(&format!("{name}={value}"))), "{form}");
    }
    let folder = tempfile::tempdir().unwrap();
    let output = set_up(&simulator, folder.path(), vec![0xff, 0x00, 0x9f, 0x92]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("this is not a text"), "{said}");
}
