//! `demo`: a server with sample accounts in front of the simulator, for people who try it. The real program as a child
//! process.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::app::Transcript;
use crate::support::leaks::Caller;
use crate::support::program::Program;
#[cfg(unix)]
use crate::support::terminal::OnTerminal;

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
async fn a_demo_whose_port_is_taken_names_its_own_flag() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut program = Program::start(&["demo", "--port", &address.port().to_string()], &[]);
    assert_eq!(program.code().await, 1);
    let said = program.stderr();
    assert!(said.contains(&address.to_string()) && said.contains("--port"), "{said}");
    assert!(!said.contains("SERVER_PORT"), "the demo does not look at it: {said}");
}

/// A running demo, as its user sees it.
struct Demo {
    // Held, since dropping it ends the program.
    program: Program,
    base: String,
    key: String,
    client: reqwest::Client,
}

impl Demo {
    async fn start(arguments: &[&str], settings: &[(&str, String)]) -> Self {
        let arguments: Vec<&str> = ["demo", "--port", "0"].iter().chain(arguments).copied().collect();
        Self::of(Program::start(&arguments, settings)).await
    }

    async fn of(program: Program) -> Self {
        program.until_it_says("Ctrl-C stops it.").await;
        let (base, key) = (Self::row(&program, "base URL"), Self::row(&program, "key"));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { program, base, key, client }
    }

    /// What the printed table has behind this word.
    fn row(program: &Program, word: &str) -> String {
        let printed = program.stdout();
        let of_row =
            |line: &str| line.trim().strip_prefix(word)?.strip_prefix("   ").map(|rest| rest.trim().to_owned());
        printed.lines().find_map(of_row).unwrap_or_else(|| panic!("no {word}: {printed}"))
    }

    async fn post(&self, body: &Value) -> String {
        let request = self.client.post(format!("{}/chat/completions", self.base)).bearer_auth(&self.key);
        let response = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 200, "{text}");
        text
    }

    /// The answer to these messages.
    async fn says(&self, model: &str, messages: &[Value], stream: bool) -> String {
        let text = self.post(&json!({"model": model, "messages": messages, "stream": stream})).await;
        if stream {
            return Transcript::parse(&text).content();
        }
        let whole: Value = serde_json::from_str(&text).unwrap();
        whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }
}

/// Fails for an answer that shows how it was made.
fn must_be_pleasant(answer: &str, question: &str) {
    assert!(!answer.trim().is_empty(), "{question}");
    for mark in ["echo:", "{}", "<user>", "<assistant>", "<tool", "Write the assistant's", "arrived whole", "undefined"]
    {
        assert!(!answer.contains(mark), "{mark} in the answer to {question}: {answer}");
    }
}

fn is_chinese(text: &str) -> bool {
    text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c))
}

const ENGLISH: [&str; 6] = [
    "Hello!",
    "My boat has a leak, and the harbour is far.",
    "What would you try first?",
    "And after that?",
    "And if it rains?",
    "Thank you",
];
const CHINESE: [&str; 6] = ["你好！", "我的船漏水了。", "应该先做什么？", "然后呢？", "下雨怎么办？", "谢谢"];

/// On each kind of upstream, in both languages, streamed and whole, to the sixth turn.
#[tokio::test]
async fn the_demo_is_pleasant_to_talk_to_on_later_turns() {
    let demo = Demo::start(&[], &[]).await;
    for model in ["qwen3-max", "key/qwen3.7-plus", "oauth/qwen3-coder-plus"] {
        for (questions, stream) in [(ENGLISH, true), (ENGLISH, false), (CHINESE, true), (CHINESE, false)] {
            let mut messages: Vec<Value> = Vec::new();
            let mut answers: Vec<String> = Vec::new();
            for question in questions {
                messages.push(json!({"role": "user", "content": question}));
                let answer = demo.says(model, &messages, stream).await;
                must_be_pleasant(&answer, question);
                assert_eq!(is_chinese(&answer), is_chinese(question), "{model}: {question}: {answer}");
                let is_noted = answer.contains("simulated answer") || answer.contains("模拟回答");
                assert_eq!(is_noted, answers.is_empty(), "{model} says once that it is no model: {answer}");
                assert!(!answers.contains(&answer), "{model} repeats itself: {answer}");
                messages.push(json!({"role": "assistant", "content": answer}));
                answers.push(answer);
            }
        }
    }
}

#[tokio::test]
async fn the_demo_is_pleasant_to_talk_to_after_a_tool_call() {
    let demo = Demo::start(&[], &[]).await;
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": parameters}}]);
    for (model, question, result, later) in [
        ("qwen3-max", "What is the weather in Hamburg?", "8 °C, rain", ["Is that cold?", "What should I wear?"]),
        ("qwen3-max", "汉堡今天 weather 怎么样？", "八度，有雨", ["冷吗？", "该穿什么？"]),
        (
            "key/qwen3.7-plus",
            "call: get_weather {\"city\": \"Hamburg\"}",
            "8 °C, rain",
            ["Is that cold?", "And tomorrow?"],
        ),
    ] {
        for stream in [false, true] {
            let mut messages = vec![json!({"role": "user", "content": question})];
            let asked = json!({"model": model, "messages": messages, "tools": tools});
            let whole: Value = serde_json::from_str(&demo.post(&asked).await).unwrap();
            let message = &whole["choices"][0]["message"];
            let call = &message["tool_calls"][0];
            assert_eq!(call["function"]["name"], "get_weather", "{model} {question}: {whole}");
            messages.push(message.clone());
            messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": result}));
            for next in [None, Some(later[0]), Some(later[1])] {
                messages.extend(next.map(|next| json!({"role": "user", "content": next})));
                let body = json!({"model": model, "messages": messages, "tools": tools, "stream": stream});
                let text = demo.post(&body).await;
                let answer = if stream {
                    Transcript::parse(&text).content()
                } else {
                    let whole: Value = serde_json::from_str(&text).unwrap();
                    whole["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{whole}")).to_owned()
                };
                must_be_pleasant(&answer, next.unwrap_or(result));
                if next.is_none() {
                    assert!(answer.contains(result), "{model}: {answer}");
                }
                assert_eq!(is_chinese(&answer), is_chinese(result), "{model}: {next:?}: {answer}");
                messages.push(json!({"role": "assistant", "content": answer}));
            }
        }
    }
}

/// Linux takes every address of 127.0.0.0/8 as its own.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_demo_listens_where_it_is_told() {
    for arguments in [&["--host", "127.0.0.2"][..], &["--host", "0.0.0.0"][..]] {
        let demo = Demo::start(arguments, &[]).await;
        let said = demo.program.stdout();
        let callable = if arguments[1] == "0.0.0.0" { "127.0.0.1" } else { arguments[1] };
        assert!(demo.base.starts_with(&format!("http://{callable}:")), "{said}");
        let messages = [json!({"role": "user", "content": "echo: from afar"})];
        assert_eq!(demo.says("qwen3-max", &messages, false).await, "from afar");
        // The page of a demo that others can reach has a key, which is printed.
        let page = Demo::row(&demo.program, "page");
        if callable == "127.0.0.1" {
            assert!(page.ends_with("/admin"), "{said}");
            let key = Demo::row(&demo.program, "page key");
            let accounts = page.replace("/admin", "/admin/accounts");
            for (key, status) in [(key.as_str(), 200), ("wrong", 401)] {
                assert_eq!(demo.client.get(&accounts).bearer_auth(key).send().await.unwrap().status(), status);
            }
        } else {
            assert!(page.contains("/admin#link="), "{said}");
        }
        let port: u16 = demo.base.rsplit(':').next().unwrap().trim_end_matches("/v1").parse().unwrap();
        // Under the other address of this machine there is something only if it listens at all of them.
        let elsewhere = SocketAddr::from(([127, 0, 0, 3], port));
        let is_there = tokio::net::TcpStream::connect(elsewhere).await.is_ok();
        assert_eq!(is_there, arguments[1] == "0.0.0.0", "{said}");
    }
}

/// As those of `serve`, before and after the command. Without a wish there is no line, since sample accounts fail on
/// purpose.
#[tokio::test]
async fn the_demo_logs_as_it_is_told() {
    let messages = [json!({"role": "user", "content": "echo: x"})];
    let wishes: [(&[&str], Option<&str>, bool); 4] = [
        (&["demo", "--port", "0"], None, false),
        (&["demo", "--port", "0", "--log-level", "info"], None, true),
        (&["--log-level", "info", "demo", "--port", "0"], None, true),
        (&["demo", "--port", "0"], Some("info"), true),
    ];
    for (arguments, level, is_logged) in wishes {
        let settings: Vec<(&str, String)> = level.map(|level| ("LOG_LEVEL", level.to_owned())).into_iter().collect();
        let demo = Demo::of(Program::start(arguments, &settings)).await;
        assert_eq!(demo.says("qwen3-max", &messages, false).await, "x");
        if is_logged {
            demo.program.until_it_says("\"message\":\"request\"").await;
        } else {
            assert_eq!(demo.program.stderr(), "", "{arguments:?}");
        }
    }
}

/// The line of each request stands below the table, which is in two colours, and nothing else does.
#[cfg(unix)]
#[tokio::test]
async fn the_demo_on_a_terminal_has_a_short_line_for_each_request() {
    let demo = OnTerminal::start(100, &["demo", "--port", "0"], &[]);
    let seen = demo.shows(0, "Ctrl-C stops it.").await;
    let shown = demo.shown();
    let key = shown.split_once("Bearer ").unwrap().1.split_once('\'').unwrap().0.to_owned();
    let base = shown.split_once("curl -N ").unwrap().1.split_once("/chat").unwrap().0.to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({"model": "qwen3-max", "messages": [{"role": "user", "content": "echo: x"}]});
    let request = client.post(format!("{base}/chat/completions")).bearer_auth(key).body(body.to_string());
    assert_eq!(request.send().await.unwrap().status(), 200);
    demo.shows(seen, " tokens ").await;
    let below = demo.shown().split_off(seen);
    assert_eq!(below.lines().filter(|line| !line.trim().is_empty()).count(), 1, "{below}");
}
