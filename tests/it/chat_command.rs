//! `chat`: the real program in front of the real server, with standard input and output through pipes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use simulator::Simulator;
use simulator::script::{CutHow, Endpoint, Scenario, ScriptedReply};

use crate::reload::Server;
use crate::support::app::{KEY, Setup, TestApp};
use crate::support::leaks::simulator;
use crate::support::program::{Program, settings};

/// Runs `chat` against this address with this text as its input; it has no terminal.
async fn chat_at(url: &str, key: &str, folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwen-bridge"));
    command
        .arg("chat")
        .args(["--url", url])
        .args(arguments)
        .env_clear()
        .env("API_KEY", key)
        .env("NO_PROXY", "*")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    let run = move || {
        let mut child = command.spawn().unwrap();
        // A program that ends early closes its end.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn chat(app: &TestApp, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = chat_at(&app.url(""), KEY, folder.path(), arguments, input).await;
    told(&output)
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_question_is_answered_with_the_plain_text_and_nothing_else() {
    let app = TestApp::quick().await;
    for (arguments, input) in [
        (&["echo: hello there"][..], ""),
        (&["echo:", "hello", "there"][..], ""),
        (&[][..], "echo: hello there\n"),
        (&["--model", "qwen3-max", "echo: hello there"][..], ""),
    ] {
        let told = chat(&app, arguments, input).await;
        assert_eq!(told, (Some(0), "hello there\n".to_owned(), String::new()), "{arguments:?}");
    }
    // Thoughts are not part of the answer.
    let (code, out, _) = chat(&app, &["-m", "qwen3-max-thinking", "echo: hello there"], "").await;
    assert_eq!((code, out.as_str()), (Some(0), "hello there\n"));
}

#[tokio::test]
async fn words_and_piped_text_make_one_question() {
    let app = TestApp::quick().await;
    let (code, out, err) = chat(&app, &["Count the lines of this."], "first\nsecond\n").await;
    assert_eq!(code, Some(0), "{out}{err}");
    let asked = app.simulator.record().requests_to(Endpoint::Completions);
    let body = asked[0].body.as_ref().unwrap().to_string();
    assert!(body.contains("Count the lines of this.\\n\\nfirst\\nsecond"), "{body}");
}

#[tokio::test]
async fn a_failure_is_a_sentence_with_the_request_id_and_an_exit_code() {
    let app = TestApp::quick().await;
    let (code, out, err) = chat(&app, &["--model", "qwen3-maxx", "hello"], "").await;
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("Did you mean 'qwen3-max'?") && err.contains("(model_not_found), request "), "{err}");

    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = told(&chat_at(&app.url(""), "sk-wrong", folder.path(), &["hello"], "").await);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("invalid_api_key") && err.contains("API_KEY") && !err.contains("sk-wrong"), "{err}");

    let (code, _, err) = told(&chat_at("http://127.0.0.1:1", KEY, folder.path(), &["hello"], "").await);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("no server answers at http://127.0.0.1:1/v1") && err.contains("refused"), "{err}");

    let https = app.url("").replace("http://", "https://");
    let (code, _, err) = told(&chat_at(&https, KEY, folder.path(), &["hello"], "").await);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("does not speak TLS; write http:// in place of https://"), "{err}");

    let (code, _, err) = chat(&app, &["--file", "no-such-file.png", "hello"], "").await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("cannot read no-such-file.png"), "{err}");

    let (code, _, err) = chat(&app, &[], "").await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("there is no question"), "{err}");

    // What is no server of this kind, and one that is none at all.
    let other = app.simulator.urls().web.to_string();
    let (code, _, err) = told(&chat_at(&other, KEY, folder.path(), &["hello"], "").await);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("is the address right?"), "{err}");
}

#[tokio::test]
async fn an_answer_that_fails_in_the_middle_is_a_failure() {
    let app = TestApp::quick().await;
    let cut = ScriptedReply::numbered(20).paced(std::time::Duration::from_millis(20)).cut_after(12, CutHow::Fin);
    app.simulator.script().queue(None, Endpoint::Completions, cut);
    let (code, out, err) = chat(&app, &["hello"], "").await;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(!out.is_empty() && out.ends_with('\n'), "what came is shown: {out:?}");
    assert!(err.contains("(upstream_truncated), request "), "{err}");
}

#[tokio::test]
async fn a_file_goes_along() {
    let app = TestApp::quick().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("note.md"), "# The note").unwrap();
    let output = chat_at(&app.url("/v1"), KEY, folder.path(), &["-f", "note.md", "What does it say?"], "").await;
    let (code, out, err) = told(&output);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("1 document"), "{out}");
    let asked = app.simulator.record().requests_to(Endpoint::Completions);
    let body: &Value = asked[0].body.as_ref().unwrap();
    assert!(body.to_string().contains("note"), "{body}");
}

#[tokio::test]
async fn a_picture_is_linked_and_saved() {
    let app = TestApp::quick().await;
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--model", "qwen3-max-image", "--save", "fog.png", "A lighthouse in the fog"];
    for name in ["fog.png", "fog-2.png"] {
        let (code, out, err) = told(&chat_at(&app.url(""), KEY, folder.path(), &arguments, "").await);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("![image](http"), "{out}");
        assert!(err.contains(&format!("Saved {name}")), "{err}");
        assert!(std::fs::read(folder.path().join(name)).unwrap().starts_with(b"\x89PNG"));
    }
    let (code, _, err) = chat(&app, &["--save", "x", "echo: text"], "").await;
    assert_eq!(code, Some(0));
    assert!(err.contains("nothing to save"), "{err}");
}

#[tokio::test]
async fn the_settings_of_the_server_are_enough() {
    // As in a container: the same environment, the same folder, the same BASE_PATH.
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = Setup::default().with("BASE_PATH", "/qwen").start(simulator).await;
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwen-bridge"));
        command.args(["chat", "--port", &app.address.port().to_string(), "echo: there"]).env_clear();
        command.env("API_KEY", KEY).env("BASE_PATH", "/qwen").stdin(Stdio::null());
        (command.output().unwrap(), app)
    });
    let (output, _app) = output.await.unwrap();
    assert_eq!(told(&output), (Some(0), "there\n".to_owned(), String::new()));
}

/// A server that others can reach makes a key for itself. Its owner need not copy it to talk to it on this machine, and
/// no other server is told it.
#[tokio::test]
async fn the_key_that_the_server_made_is_used_for_it_and_for_no_other() {
    let simulator = simulator().await;
    let mut settings = settings(&simulator, "json");
    settings.retain(|(name, _)| *name != "API_KEY");
    settings.push(("SERVER_HOST", "0.0.0.0".to_owned()));
    let server = Program::start(&["serve"], &settings);
    server.until_it_says("listening").await;
    let made = server.stdout();
    let key = made.lines().map(str::trim).find(|line| line.starts_with("sk-")).unwrap_or_else(|| panic!("{made}"));
    let log = server.stderr();
    let (_, rest) = log.split_once("0.0.0.0:").unwrap();
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    settings.retain(|(name, _)| *name != "SERVER_PORT");
    settings.push(("SERVER_PORT", port));
    settings.push(("STATE_DIR", server.state().display().to_string()));
    settings.push(("NO_PROXY", "*".to_owned()));
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwen-bridge"));
        command.args(arguments).env_clear().envs(settings.iter().map(|(name, value)| (name, value)));
        command.current_dir(server.folder()).stdin(Stdio::null());
        told(&tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    };
    assert_eq!(run(&["chat", "echo: there"]).await, (Some(0), "there\n".to_owned(), String::new()));
    let other = Server::start().await;
    let url = format!("http://{}", other.address);
    let (code, out, err) = run(&["chat", "--url", &url, "echo: there"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("invalid_api_key") && err.contains("API_KEY") && !err.contains(key), "{err}");
    assert!(!other.program.stderr().contains(key));
}

/// As in `qwen-bridge chat … | head -1`: the reader has what it wants.
#[cfg(unix)]
#[tokio::test]
async fn a_reader_that_has_enough_is_no_fault() {
    let app = TestApp::quick().await;
    let slow = ScriptedReply::numbered(200).paced(std::time::Duration::from_millis(5));
    app.simulator.script().queue(None, Endpoint::Completions, slow);
    let command = format!("\"$0\" chat --url {} hello | head -c 9; exit \"${{PIPESTATUS[0]}}\"", app.url(""));
    let run = move || {
        let mut shell = Command::new("bash");
        shell.args(["-c", &command, env!("CARGO_BIN_EXE_qwen-bridge")]).env("API_KEY", KEY).env("NO_PROXY", "*");
        shell.stdin(Stdio::null()).output().unwrap()
    };
    let (code, out, err) = told(&tokio::task::spawn_blocking(run).await.unwrap());
    assert_eq!((code, out.len(), err.as_str()), (Some(0), 9, ""));
}

#[cfg(unix)]
mod on_a_terminal {
    use std::time::Duration;

    use super::*;
    use crate::support::app::PATIENCE;
    use crate::support::terminal::OnTerminal;

    fn start(app: &TestApp, arguments: &[&str]) -> OnTerminal {
        let url = app.url("");
        let arguments: Vec<&str> = ["chat", "--url", &url].into_iter().chain(arguments.iter().copied()).collect();
        OnTerminal::start(100, &arguments, &[("API_KEY", KEY.to_owned())])
    }

    #[tokio::test]
    async fn a_conversation_goes_on_until_ctrl_d() {
        let app = TestApp::quick().await;
        let mut chat = start(&app, &["--model", "qwen3-max-thinking"]);
        let seen = chat.shows(0, "> ").await;
        chat.types("echo: first answer\r");
        let seen = chat.shows(seen, "first answer\r\n").await;
        // Thoughts are dimmed.
        assert!(chat.shown().contains("\u{1b}[2m(thinking)\u{1b}[0m"), "{:?}", chat.shown());
        let seen = chat.shows(seen, "tokens, ").await;
        let seen = chat.shows(seen, "> ").await;
        std::fs::write(chat.folder().join("note.md"), "# The note").unwrap();
        chat.types("/file note.md\r");
        let seen = chat.shows(seen, "A document of 10 bytes").await;
        chat.types("/model qwen3-maxx\r");
        let seen = chat.shows(seen, "Did you mean 'qwen3-max'?").await;
        chat.types("/model qwen3-vl-plus\r");
        let seen = chat.shows(seen, "goes to qwen3-vl-plus").await;
        chat.types("/model\r");
        let seen = chat.shows(seen, "* qwen3-vl-plus").await;
        chat.types("What is it?\r");
        let seen = chat.shows(seen, "1 document").await;
        let seen = chat.shows(seen, "tokens, ").await;
        chat.types("/nothing\r");
        let seen = chat.shows(seen, "There is no command /nothing").await;
        chat.types("/help\r");
        let seen = chat.shows(seen, "/save PATH").await;
        chat.shows(seen, "> ").await;
        chat.types("\u{4}");
        assert_eq!(chat.code().await, 0);
        let asked = app.simulator.record().requests_to(Endpoint::Completions);
        assert_eq!(asked.len(), 2);
        assert!(asked[1].body.as_ref().unwrap().to_string().contains("first answer"), "the conversation goes along");
    }

    #[tokio::test]
    async fn a_video_is_told_about_while_it_is_made_and_can_be_saved() {
        let app = TestApp::quick().await;
        let mut chat = start(&app, &["--model", "qwen3-max-video"]);
        let seen = chat.shows(0, "> ").await;
        chat.types("/save clip.mp4\r");
        let seen = chat.shows(seen, "There is nothing to save").await;
        let seen = chat.shows(seen, "> ").await;
        chat.types("A boat in the fog\r");
        let seen = chat.shows(seen, "making a video (one to six minutes), 0").await;
        let seen = chat.shows(seen, "[video](http").await;
        let seen = chat.shows(seen, "> ").await;
        chat.types("/save\r");
        let seen = chat.shows(seen, "/save PATH").await;
        chat.types("/save clip.mp4\r");
        let seen = chat.shows(seen, "Saved clip.mp4 (").await;
        assert!(std::fs::read(chat.folder().join("clip.mp4")).unwrap().get(4..8) == Some(b"ftyp"));
        // A file that is there is kept.
        chat.types("/save clip.mp4\r");
        let seen = chat.shows(seen, "Saved clip-2.mp4").await;
        chat.types("/save no/such/folder/clip.mp4\r");
        let seen = chat.shows(seen, "cannot write no/such/folder/clip.mp4").await;
        let seen = chat.shows(seen, "> ").await;
        chat.types("/model qwen3-max\r");
        let seen = chat.shows(seen, "goes to qwen3-max").await;
        // Files: one that is not there, two that are, then all are taken off.
        chat.types("/file no-such.png\r");
        let seen = chat.shows(seen, "cannot read no-such.png").await;
        for name in ["one.md", "two words.md"] {
            std::fs::write(chat.folder().join(name), "# A note").unwrap();
        }
        chat.types("/file one.md\r");
        let seen = chat.shows(seen, "With the next question: one.md").await;
        chat.types("/file two\\ words.md\r");
        let seen = chat.shows(seen, "With the next question: one.md, two words.md").await;
        chat.types("/file\r");
        let seen = chat.shows(seen, "2 files taken off.").await;
        chat.types("echo: no file\r");
        let seen = chat.shows(seen, "no file\r\n").await;
        // A new conversation forgets the earlier messages.
        let seen = chat.shows(seen, "> ").await;
        chat.types("/new\r");
        let seen = chat.shows(seen, "A new conversation.").await;
        chat.types("echo: fresh\r");
        let seen = chat.shows(seen, "fresh\r\n").await;
        chat.shows(seen, "> ").await;
        let asked = app.asked();
        assert_eq!(asked.prompt(), "echo: fresh");
        chat.types("/quit\r");
        assert_eq!(chat.code().await, 0);
    }

    #[tokio::test]
    async fn ctrl_c_stops_the_answer_and_a_second_one_the_program() {
        let app = TestApp::quick().await;
        let slow = ScriptedReply::numbered(5000).paced(Duration::from_millis(10));
        app.simulator.script().queue(None, Endpoint::Completions, slow);
        let mut chat = start(&app, &[]);
        let seen = chat.shows(0, "> ").await;
        chat.types("a long one\r");
        app.simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await.unwrap();
        let seen = chat.shows(seen, ":5⟩").await;
        chat.signal("INT");
        let seen = chat.shows(seen, "(stopped)").await;
        app.simulator.record().wait_for_counts(|counters| counters.open_streams == 0, PATIENCE).await.unwrap();
        let seen = chat.shows(seen, "> ").await;
        chat.types("echo: still here\r");
        let seen = chat.shows(seen, "still here\r\n").await;
        let seen = chat.shows(seen, "> ").await;
        chat.types("\u{3}");
        let seen = chat.shows(seen, "Ctrl-C once more").await;
        chat.shows(seen, "> ").await;
        chat.types("\u{3}");
        assert_eq!(chat.code().await, 0);
    }

    /// A server that takes the connection and reads nothing of a large file.
    #[tokio::test]
    async fn a_large_file_is_told_about_while_it_is_sent() {
        let slow = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("large.txt");
        std::fs::write(&file, "A line of a large file.\n".repeat(1_500_000)).unwrap();
        let url = format!("http://{}", slow.local_addr().unwrap());
        let arguments = ["chat", "--url", &url, "--file", file.to_str().unwrap(), "What is it?"];
        let mut chat = OnTerminal::start(100, &arguments, &[]);
        let (held, _) = slow.accept().await.unwrap();
        let seen = chat.shows(0, "document of 36.0 MB").await;
        let seen = chat.shows(seen, "sending ").await;
        chat.shows(seen, " of 48.0 MB, ").await;
        // The line is taken away when the server goes, and the failure is a sentence.
        drop(held);
        drop(slow);
        assert_eq!(chat.code().await, 1, "{}", chat.shown());
        chat.shows(seen, "the answer broke off").await;
    }

    #[tokio::test]
    async fn a_conversation_without_a_server_does_not_begin() {
        let mut chat = OnTerminal::start(100, &["chat", "--url", "http://127.0.0.1:1"], &[]);
        assert_eq!(chat.code().await, 1);
        chat.shows(0, "no server answers at http://127.0.0.1:1/v1").await;
    }
}
