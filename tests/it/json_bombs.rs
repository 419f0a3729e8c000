//! Bodies of JSON that would take much more memory than they have bytes. The server is a process of its own, so that
//! its memory can be seen.

use std::io::Write as _;
use std::net::SocketAddr;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::Scenario;

use crate::support::app::{PATIENCE, Setup, content, error_of, json_of, question};
use crate::support::program::{self, Program};
use crate::support::raw::Raw;

/// What a body may take besides its own size.
const ALLOWED_MIB: u64 = 64;

struct Measured {
    _simulator: Simulator,
    program: Program,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Measured {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(variables: &[(&'static str, &str)]) -> Self {
        let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
        let mut settings = program::settings(&simulator, "json");
        settings.retain(|(name, _)| *name != "LOG_LEVEL");
        settings.extend(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let program = Program::start(&["serve"], &settings);
        let address = program.address_beside("listening").await;
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE * 6).build().unwrap();
        let server = Self { _simulator: simulator, program, address, client };
        // Connections, threads and code are there before anything is measured; a large body among them, as the
        // allocator keeps some of the first one.
        for text in ["x".to_owned(), "x".repeat(100_000)] {
            server.ask(question(&format!("echo: {text}")).to_string().into(), false).await;
        }
        server
    }

    /// Sends a body and gives the answer, with the MiB that were added to the memory at the peak and afterwards.
    async fn ask(&self, body: Vec<u8>, is_packed: bool) -> (u16, Value, u64, u64) {
        self.program.forget_peak();
        let before = self.program.memory_kib("VmRSS:");
        let added = |name: &str| self.program.memory_kib(name).saturating_sub(before) / 1024;
        let request = self.client.post(format!("http://{}/v1/chat/completions", self.address));
        let mut request = request.bearer_auth(program::KEY).header("content-type", "application/json");
        if is_packed {
            request = request.header("content-encoding", "gzip");
        }
        let response = request.body(body).send().await.unwrap();
        let status = response.status().as_u16();
        (status, json_of(response).await, added("VmHWM:"), added("VmRSS:"))
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A good question with a list of so many elements under a key.
fn with_list(key: &str, element: &str, count: usize) -> Vec<u8> {
    let list = vec![element; count].join(",");
    let text = question("echo: x").to_string();
    format!("{},\"{key}\":[{list}]}}", text.strip_suffix('}').unwrap()).into_bytes()
}

fn with_messages(message: &str, count: usize) -> Vec<u8> {
    format!("{{\"messages\":[{}]}}", vec![message; count].join(",")).into_bytes()
}

#[tokio::test]
async fn no_body_takes_much_more_memory_than_its_bytes() {
    let server = Measured::start().await;
    let parts = vec![r#"{"type":"text","text":""}"#; 200_000].join(",");
    let many_parts =
        format!(r#"{{"messages":[{{"role":"user","content":"x"}},{{"role":"user","content":[{parts}]}}]}}"#);
    let long = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "word\\t".repeat(1_300_000));
    let deep = format!("{{\"x\":{}", "[".repeat(5_000_000));
    for (is_bomb, what, body, status, code, param) in [
        (
            true,
            "48 MB of objects under an unknown key",
            with_list("x", r#"{"":1}"#, 6_900_000),
            413,
            "request_too_large",
            None,
        ),
        (
            false,
            "a million messages",
            with_messages(r#"{"role":"user","content":"x"}"#, 1_000_000),
            400,
            "array_above_max_length",
            Some("messages"),
        ),
        (
            false,
            "a million messages of nothing",
            with_messages("{}", 1_000_000),
            400,
            "array_above_max_length",
            Some("messages"),
        ),
        (false, "many parts", many_parts.into_bytes(), 400, "array_above_max_length", Some("messages[1].content")),
        (false, "many tools", with_list("tools", "{}", 1_000_000), 400, "array_above_max_length", Some("tools")),
        (false, "many numbers", with_list("x", "1", 3_000_000), 413, "request_too_large", None),
        (false, "many empty texts", with_list("x", r#""""#, 2_000_000), 413, "request_too_large", None),
        (false, "a long text", long.into_bytes(), 400, "context_length_exceeded", Some("messages")),
        (false, "deep lists", deep.into_bytes(), 400, "invalid_json", None),
        (true, "as many keys as are taken", with_list("x", r#"{"":1}"#, 39_000), 200, "", None),
        (false, "as many values as are taken", with_list("x", r#""a""#, 310_000), 200, "", None),
        (true, "white space", [vec![b' '; 40_000_000], with_list("x", "1", 1)].concat(), 200, "", None),
    ] {
        let own_mib = body.len() as u64 / (1024 * 1024);
        let packed = is_bomb.then(|| (gzip(&body), true));
        for (sent, is_packed) in packed.into_iter().chain([(body, false)]) {
            let (answered, answer, peak, after) = server.ask(sent, is_packed).await;
            assert_eq!(answered, status, "{what}: {answer}");
            if status == 200 {
                assert_eq!(content(&answer), "x", "{what}");
            } else {
                assert_eq!(answer["error"]["code"], code, "{what}: {answer}");
                assert_eq!(answer["error"]["param"].as_str(), param, "{what}: {answer}");
            }
            assert!(peak <= own_mib + ALLOWED_MIB, "{what}: {peak} MiB for {own_mib} MiB");
            assert!(after <= 32, "{what}: {after} MiB are kept");
        }
    }
}

#[tokio::test]
async fn the_json_has_a_limit_of_its_own() {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = Setup::default().with("MAX_JSON", "100KB").start(simulator).await;
    let small = |bytes: usize| question(&format!("echo: {}", "x".repeat(bytes)));
    assert_eq!(app.chat(&small(90_000)).await.status(), 200);
    let response = app.chat(&small(110_000)).await;
    assert_eq!(response.status(), 413);
    let error = error_of(response).await;
    assert_eq!(error["code"], "request_too_large");
    assert!(error["message"].as_str().unwrap().contains("MAX_JSON"), "{error}");
    // Files do not count, white space hardly does, and the texts of a form do.
    let picture = crate::support::files::data_uri("image/png", &[0; 200_000]);
    let mut body = question("x");
    body["messages"][0]["content"] = json!([{"type": "image_url", "image_url": {"url": picture}}]);
    assert_eq!(error_of(app.chat(&body).await).await["code"], "unsupported_file_type", "it was read as a file");
    let form = (0..3)
        .fold(reqwest::multipart::Form::new(), |form, place| form.text(format!("field{place}"), "x".repeat(40_000)));
    let request = app.client.post(app.url("/v1/images/edits")).bearer_auth(crate::support::app::KEY).multipart(form);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 413);
    assert!(error_of(response).await["message"].as_str().unwrap().contains("MAX_JSON"));
    // One field has a limit of its own, which no setting raises.
    let app = Setup::default().start(Simulator::start(Scenario::default()).await.unwrap()).await;
    for path in ["/v1/images/edits", "/v1/videos"] {
        let form = reqwest::multipart::Form::new().text("prompt", "x".repeat(1_100_000));
        let request = app.client.post(app.url(path)).bearer_auth(crate::support::app::KEY).multipart(form);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 413, "{path}");
        let message = error_of(response).await["message"].as_str().unwrap().to_owned();
        assert!(message.contains("field 'prompt'") && !message.contains("MAX_"), "{message}");
    }
}

/// With the variables that the image sets. Without them the allocator of the C library learns from large blocks to keep
/// ever more of what its threads have freed: 70 to 330 MiB here.
#[tokio::test]
async fn the_memory_of_many_bodies_at_once_goes_back() {
    let image = include_str!("../../Dockerfile");
    let variables = ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"].map(|name| (name, "131072"));
    for (name, value) in variables {
        assert!(image.contains(&format!("{name}={value}")), "{name}");
    }
    let server = Measured::start_with(&variables).await;
    let before = server.program.memory_kib("VmRSS:");
    let long = "x".repeat(6_000_000);
    let texts = vec!["\"\""; 300_000].join(",");
    let body = question("echo: x").to_string();
    let body = format!("{},\"x\":[{texts}],\"y\":\"{long}\"}}", body.strip_suffix('}').unwrap());
    // Several times over, since freed memory that is only kept for the next time adds up by and by.
    for round in 0..4 {
        join_all((0..10).map(|_| server.ask(body.clone().into(), false))).await;
        let added = server.program.memory_kib("VmRSS:").saturating_sub(before) / 1024;
        assert!(added <= ALLOWED_MIB, "{added} MiB are kept after round {round}");
    }
}

#[tokio::test]
async fn a_credential_is_looked_at_before_the_body() {
    for (mode, key, credentials) in [
        ("true", "sk-one", vec![None, Some("Bearer sk-two")]),
        ("false", "", vec![None, Some("Bearer "), Some("Basic eDp5"), Some("Bearer a b"), Some("Bearer ;a=b")]),
        ("false", "sk-one", vec![None, Some("Bearer token;a=b"), Some("Bearer sk-two;token;a=b")]),
    ] {
        let simulator = Simulator::start(Scenario::default()).await.unwrap();
        let setup = Setup::default().with("SERVER_MODE", mode).with("API_KEY", key);
        let app = setup.start(simulator).await;
        for credential in credentials {
            let credential = credential.map_or_else(String::new, |text| format!("authorization: {text}\r\n"));
            let mut client = Raw::connect(app.address).await;
            let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
            client.send(format!("{head}{credential}expect: 100-continue\r\ncontent-length: 70000\r\n\r\n")).await;
            // Nothing of the body has been sent.
            let answer = client.answer().await;
            assert_eq!(answer.status, 401, "{mode} {key} {credential}");
            assert!(client.is_closed().await, "{mode} {key} {credential}");
        }
        assert_eq!(app.turns(), 0);
    }
}
