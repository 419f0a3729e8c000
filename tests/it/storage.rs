//! A state folder that cannot be used, and a disk that is full: service goes on, and the owner is told once.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use reqwest::Client;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{AccountScript, Era, RefreshRotation, Scenario};

use crate::support::app::{PATIENCE, Setup, TestApp, content, json_of, question};
use crate::support::files::{OMNI, data_uri, hash, with_parts};
use crate::support::oracle::{FORMS, ask, crew, health, until, until_all_healthy};
use crate::support::program::{KEY, Program, settings};

/// One account whose refresh cookie is replaced with each refresh.
fn rotating() -> Scenario {
    let bob = AccountScript { refresh_rotation: RefreshRotation::New, ..AccountScript::new("bob", Era::B) };
    Scenario::with_accounts([bob]).paced_ms(0)
}

/// The settings of a program in front of this simulator that logs what an owner reads.
fn quiet(simulator: &Simulator) -> Vec<(&'static str, String)> {
    let mut settings = settings(simulator, "json");
    settings.push(("LOG_LEVEL", "info".to_owned()));
    settings
}

/// A program that answered, and where it listens.
struct Served {
    program: Program,
    address: SocketAddr,
    client: Client,
}

impl Served {
    async fn wait_for(program: Program) -> Self {
        let address = program.address_beside("listening").await;
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { program, address, client }
    }

    async fn health(&self) -> Value {
        json_of(self.client.get(format!("http://{}/health", self.address)).send().await.unwrap()).await
    }

    async fn detailed(&self) -> Value {
        let request = self.client.get(format!("http://{}/health/detailed", self.address)).bearer_auth(KEY);
        json_of(request.send().await.unwrap()).await
    }

    async fn until(&self, is_there: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = self.health().await;
            if is_there(&health) {
                return health;
            }
            assert!(Instant::now() < deadline, "{health}\n{}", self.program.stderr());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn until_healthy(&self) {
        self.until(|health| health["identityPool"]["healthy"] == 1).await;
    }

    async fn chat(&self, key: &str) {
        let request = self.client.post(format!("http://{}/v1/chat/completions", self.address)).bearer_auth(key);
        let body = question("echo: x").to_string();
        let response = request.header("content-type", "application/json").body(body).send().await.unwrap();
        let answer = json_of(response).await;
        assert_eq!(content(&answer), "x", "{answer}");
    }

    async fn refresh(&self) {
        let request = self.client.post(format!("http://{}/refresh-token", self.address)).bearer_auth(KEY);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    }

    /// The lines of the log at these levels.
    fn log(&self, levels: &[&str]) -> Vec<Value> {
        let lines = self.program.stderr();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| levels.contains(&line["level"].as_str().unwrap_or_default())).collect()
    }
}

/// A chat with the rotated session alone, by a server that begins with the first cookie and this state folder.
async fn goes_on_with(state: &Path, simulator: &Simulator, first_cookie: &str) {
    simulator.accounts().expire("bob");
    let mut settings = quiet(simulator);
    settings.push(("COOKIE", first_cookie.to_owned()));
    settings.push(("STATE_DIR", state.display().to_string()));
    let served = Served::wait_for(Program::start(&["serve"], &settings)).await;
    served.until_healthy().await;
    served.chat(KEY).await;
}

#[tokio::test]
async fn without_a_state_folder_chats_are_answered() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "not ours").unwrap();
    for folder in [&file, &file.join("below"), Path::new("/dev/null/data"), Path::new("/proc/self/data")] {
        let setup = Setup::default().with("STATE_DIR", &folder.display().to_string()).with("MAX_BODY", "100MB");
        let app = setup.start(Simulator::start(rotating()).await.unwrap()).await;
        until_all_healthy(&app).await;
        for _ in 0..2 {
            for form in FORMS {
                ask(&app, form, "echo: x").await.must_say("x");
            }
            // The renewed token is used although it can be written nowhere.
            app.simulator.accounts().expire("bob");
            assert_eq!(app.post("/refresh-token", &json!({})).send().await.unwrap().status(), 200);
        }
        let body = health(&app).await;
        assert_eq!((&body["status"], &body["storage"]["state"]), (&json!("OK"), &json!("memory")), "{body}");
        assert!(body["storage"]["cause"].is_string() && !body.to_string().contains("data"), "no path: {body}");
        let detailed = json_of(app.get("/health/detailed").send().await.unwrap()).await;
        assert_eq!(detailed["storage"], body["storage"]);
        kept_responses_are_found(&app).await;
        app.stop().await;
    }
    assert_eq!(fs::read(&file).unwrap(), b"not ours");
}

async fn kept_responses_are_found(app: &TestApp) {
    let body = json!({"model": "qwen3-max", "input": "echo: x"});
    let made = json_of(app.post("/v1/responses", &body).send().await.unwrap()).await;
    let id = made["id"].as_str().unwrap_or_else(|| panic!("{made}"));
    let found = app.get(&format!("/v1/responses/{id}")).send().await.unwrap();
    assert_eq!(found.status(), 200);
}

#[tokio::test]
async fn without_a_state_folder_large_files_pass_through_the_temporary_one() {
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let app = Setup::default().with("STATE_DIR", "/dev/null/data").start(simulator).await;
    let mut video = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2mp41".to_vec();
    video.resize(3_000_000, 7);
    let part = json!({"type": "video_url", "video_url": {"url": data_uri("video/mp4", &video)}});
    let answer = json_of(app.chat(&with_parts(OMNI, "What is it?", vec![part])).await).await;
    assert!(content(&answer).contains(&hash(&video)), "{answer}");
}

#[tokio::test]
async fn without_a_state_folder_the_owner_is_told_how_to_mend_it() {
    let simulator = Simulator::start(rotating()).await.unwrap();
    let mut settings = quiet(&simulator);
    settings.retain(|(name, _)| *name != "API_KEY");
    settings.push(("SERVER_HOST", "0.0.0.0".to_owned()));
    settings.push(("STATE_DIR", "/dev/null/data".to_owned()));
    let mut keys = Vec::new();
    for start in 1..=2 {
        let program = Program::start(&["serve"], &settings);
        program.until_it_says("listening").await;
        // Each start renews; a call under way when the program is killed would be counted later.
        until("the session to be renewed", || simulator.record().counts().refreshes == start).await;
        let stdout = program.stdout();
        assert!(stdout.contains("for this run only"), "{stdout}");
        let key = stdout.lines().map(str::trim).find(|line| line.starts_with("sk-")).unwrap().to_owned();
        let log = program.stderr();
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains("\"WARN\"")).collect();
        let uid = format!("runs as uid {}", rustix::process::geteuid().as_raw());
        let told = warnings.iter().filter(|line| line.contains("/dev/null/data") && line.contains(&uid));
        assert_eq!(told.count(), 1, "{log}");
        assert!(!log.contains("\"ERROR\""), "{log}");
        keys.push(key);
    }
    assert_ne!(keys[0], keys[1]);
    // Asking for a new token would spend the one in the cookie, and the new one could be kept nowhere.
    simulator.accounts().expire("bob");
    let refreshes = simulator.record().counts().refreshes;
    let mut check = Program::start(&["check"], &settings);
    assert_eq!(check.code().await, 1);
    let stdout = check.stdout();
    assert!(stdout.contains("note: the state folder /dev/null/data (STATE_DIR) cannot be used"), "{stdout}");
    assert_eq!(simulator.record().counts().refreshes, refreshes, "{stdout}");
}

#[tokio::test]
async fn a_disk_that_refuses_everything_is_said_once_and_costs_no_login() {
    let simulator = Simulator::start(rotating()).await.unwrap();
    let first_cookie = simulator.accounts().cookie("bob");
    let parent = tempfile::tempdir().unwrap();
    let state = parent.path().join("state");
    let mut settings = quiet(&simulator);
    settings.push(("STATE_DIR", state.display().to_string()));
    let served = Served::wait_for(Program::serve_through_a_pipe(&settings)).await;
    served.until_healthy().await;
    served.chat(KEY).await;
    served.program.limit_files(Some(1));
    for round in 0..30 {
        served.chat(KEY).await;
        if round % 10 == 0 {
            served.refresh().await;
        }
    }
    assert_ne!(simulator.accounts().cookie("bob"), first_cookie, "the first one is over");
    let health = served.until(|health| health["storage"]["state"] == "failing").await;
    assert_eq!((&health["status"], &health["storage"]["cause"]), (&json!("OK"), &json!("full")), "{health}");
    assert!(health["storage"]["waiting"].as_u64().unwrap() > 1, "{health}");
    assert_eq!(served.detailed().await["storage"]["state"], "failing");
    let said = served.log(&["ERROR", "WARN"]);
    assert_eq!(said.len(), 1, "{said:#?}");
    let line = said[0].to_string();
    assert!(line.contains("the state file cannot be written, make room") && line.contains("full"), "{line}");
    served.program.limit_files(None);
    let health = served.until(|health| health["storage"]["state"] == "disk").await;
    assert_eq!(health["storage"], json!({"state": "disk", "cause": null, "waiting": 0, "lost": 0}));
    let again = || served.log(&["INFO"]).into_iter().filter(|line| line.to_string().contains("can be written again"));
    served.program.until_it_says("can be written again").await;
    assert_eq!(again().count(), 1);
    served.chat(KEY).await;
    assert_eq!(served.log(&["ERROR", "WARN"]).len(), 1);
    served.program.signal("KILL");
    drop(served);
    goes_on_with(&state, &simulator, &first_cookie).await;
}

#[tokio::test]
async fn usage_is_whole_while_the_disk_refuses_and_after() {
    let simulator = Simulator::start(rotating()).await.unwrap();
    let mut settings = quiet(&simulator);
    settings.push(("ADMIN_SECRET_KEY", "sk-of-the-owner".to_owned()));
    let served = Served::wait_for(Program::serve_through_a_pipe(&settings)).await;
    let requests = async || {
        let request = served.client.get(format!("http://{}/admin/usage?by=key", served.address));
        let usage = json_of(request.bearer_auth("sk-of-the-owner").send().await.unwrap()).await;
        usage["total"]["requests"].as_u64().unwrap_or_else(|| panic!("{usage}"))
    };
    // A request is counted just after its caller has the last byte.
    let until_counted = async |count: u64| {
        let deadline = Instant::now() + PATIENCE;
        while requests().await != count {
            assert!(Instant::now() < deadline, "{} of {count}", requests().await);
        }
    };
    served.until_healthy().await;
    served.chat(KEY).await;
    until_counted(1).await;
    served.program.limit_files(Some(1));
    let mut asked = 1;
    while served.health().await["storage"]["state"] != "failing" {
        served.chat(KEY).await;
        asked += 1;
        until_counted(asked).await;
    }
    for _ in 0..3 {
        served.chat(KEY).await;
        asked += 1;
        until_counted(asked).await;
    }
    served.program.limit_files(None);
    served.until(|health| health["storage"]["state"] == "disk").await;
    assert_eq!(requests().await, asked);
}

#[tokio::test]
async fn a_renewed_session_is_written_to_a_disk_that_is_full() {
    let simulator = Simulator::start(rotating()).await.unwrap();
    let first_cookie = simulator.accounts().cookie("bob");
    let Some(program) = Program::serve_on_a_small_disk(4, &quiet(&simulator)) else {
        // A container may forbid its processes to mount anything.
        return;
    };
    let served = Served::wait_for(program).await;
    served.until_healthy().await;
    served.chat(KEY).await;
    let disk = served.program.state_within();
    let reserve = disk.join("state.db.reserve");
    assert!(reserve.exists());
    // Another program fills the disk to the last block.
    let mut filler = fs::File::create(disk.join("filler")).unwrap();
    while filler.write_all(&[7; 512]).is_ok() {}
    for round in 0..60 {
        served.chat(KEY).await;
        if round % 20 == 0 {
            served.refresh().await;
        }
    }
    let health = served.until(|health| health["storage"]["state"] == "failing").await;
    assert_eq!(health["storage"]["cause"], "full", "{health}");
    assert!(!reserve.exists(), "it was spent");
    assert_eq!(served.log(&["ERROR", "WARN"]).len(), 1, "{}", served.program.stderr());
    served.refresh().await;
    // What a crash at this moment would leave.
    let copy = tempfile::tempdir().unwrap();
    for name in ["state.db", "state.db-wal"] {
        fs::copy(disk.join(name), copy.path().join(name)).unwrap();
    }
    let renewed = simulator.accounts().cookie("bob");
    goes_on_with(copy.path(), &simulator, &first_cookie).await;
    assert_ne!(simulator.accounts().cookie("bob"), renewed, "the copy was used");
    drop(filler);
    fs::remove_file(disk.join("filler")).unwrap();
    served.until(|health| health["storage"]["state"] == "disk").await;
    assert!(reserve.exists(), "it is made again");
}
