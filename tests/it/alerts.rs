//! The owner is told at `ALERT_URL` of what needs them: once, and once more when it is over.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use qwen_bridge::base::facts::IdentityFacts;
use qwen_bridge::base::secret::Cookie;
use qwen_bridge::pool::Now;
use qwen_bridge::store::Store;
use serde_json::Value;
use simulator::Simulator;
use simulator::script::{
    AccountScript, ApiFailure, ChallengeForm, Endpoint, Era, ErrorScript, Inserted, Scenario, ScriptedReply,
};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::reload::Server;
use crate::support::app::{PATIENCE, Setup, TestApp, question, spawn};
use crate::support::oracle::until;
use crate::support::program::{Program, settings};

const DAY: u64 = 24 * 3600;
/// The path of the receiver, which is a secret of the owner.
const SECRET_PATH: &str = "/CANARY-hook";

/// Stands for a status of 200 with a body that says that the text was not taken, as Feishu answers.
const NOT_TAKEN: u16 = 0;

/// Stands for a status of 200 that comes only when the receiver is released.
const HELD: u16 = 1;

/// A message as the receiver got it.
#[derive(Debug)]
struct Got {
    path: String,
    title: Option<String>,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The event, its state and whose it is.
    fn event(&self) -> (String, String, String) {
        let facts = self.json();
        let text = |name: &str| facts[name].as_str().unwrap().to_owned();
        (text("event"), text("state"), text("subject"))
    }
}

/// An address that takes messages. It answers with the statuses of this list first, then with 200, or with these bodies.
struct Receiver {
    address: SocketAddr,
    got: UnboundedReceiver<Got>,
    release: Arc<Notify>,
}

type Statuses = Arc<parking_lot::Mutex<Vec<u16>>>;

async fn take(
    State((got, statuses, release)): State<(UnboundedSender<Got>, Statuses, Arc<Notify>)>,
    request: Request,
) -> Response {
    let path = request.uri().to_string();
    let title = request.headers().get("title").map(|title| title.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let status = statuses.lock().pop().unwrap_or(200);
    let said =
        if status == NOT_TAKEN { r#"{"code":9499,"msg":"Bad Request"}"# } else { r#"{"code":0,"msg":"success"}"# };
    let is_held = status == HELD;
    let status = if status == NOT_TAKEN || is_held { 200 } else { status };
    got.send(Got { path, title, body: String::from_utf8(body.to_vec()).unwrap() }).unwrap();
    if is_held {
        release.notified().await;
    }
    (StatusCode::from_u16(status).unwrap(), said).into_response()
}

impl Receiver {
    async fn start(mut statuses: Vec<u16>) -> Self {
        statuses.reverse();
        let ((sender, got), release) = (unbounded_channel(), Arc::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(any(take)).with_state((
            sender,
            Statuses::new(statuses.into()),
            Arc::clone(&release),
        ));
        spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, got, release }
    }

    fn url(&self, form: &str) -> String {
        format!("{form}http://{}{SECRET_PATH}", self.address)
    }

    async fn next(&mut self) -> Got {
        tokio::time::timeout(PATIENCE, self.got.recv()).await.expect("a message comes").unwrap()
    }

    /// Nothing came that was not looked at.
    fn is_silent(&mut self) -> bool {
        self.got.try_recv().is_err()
    }
}

fn event(kind: &str, state: &str, of: &str) -> (String, String, String) {
    (kind.to_owned(), state.to_owned(), of.to_owned())
}

/// An account whose session ends in so many days, and which nothing renews.
async fn ending(days: u64) -> Simulator {
    let account = AccountScript { session_seconds: days * DAY, ..AccountScript::new("ada", Era::A) };
    Simulator::start(Scenario::with_accounts([account]).paced_ms(0)).await.unwrap()
}

async fn start(receiver: &Receiver, simulator: Simulator) -> TestApp {
    Setup::default().with("ALERT_URL", &receiver.url("")).start(simulator).await
}

#[tokio::test]
async fn a_challenge_is_told_once_and_its_end_too() {
    let mut receiver = Receiver::start(Vec::new()).await;
    let setup = Setup::default().with("ALERT_URL", &receiver.url("")).with("CHALLENGE_REST", "6s");
    let app = setup.start(Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await;
    let challenge = ScriptedReply::challenge(ChallengeForm::Html, 200);
    app.simulator.script().queue(None, Endpoint::Completions, challenge);
    app.chat(&question("echo: x")).await;
    let got = receiver.next().await;
    assert_eq!(got.event(), event("challenge", "begun", "identity-1"));
    let facts = got.json();
    assert_eq!(facts["account"], "identity-1");
    assert!(facts["message"].as_str().unwrap().contains("wants a human"), "{facts}");
    assert!(facts["message_zh"].as_str().unwrap().contains("人机验证"), "{facts}");
    assert_eq!(got.path, SECRET_PATH);
    assert_eq!(receiver.next().await.event(), event("challenge", "over", "identity-1"));
    assert!(receiver.is_silent());
}

#[tokio::test]
async fn a_restart_tells_nothing_twice_and_the_end_once() {
    let mut receiver = Receiver::start(Vec::new()).await;
    let app = start(&receiver, ending(2).await).await;
    assert_eq!(receiver.next().await.event(), event("session_ends_soon", "begun", "identity-1"));
    let (simulator, state_dir) = app.stop().await;
    let url = receiver.url("");
    let setup = || Setup::default().with("ALERT_URL", &url);
    let app = setup().in_dir(state_dir).start(simulator).await;
    let (_, state_dir) = app.stop().await;
    // The owner has logged in again.
    let setup = setup().in_dir(state_dir);
    let _app = setup.start(ending(30).await).await;
    assert_eq!(receiver.next().await.event(), event("session_ends_soon", "over", "identity-1"));
    assert!(receiver.is_silent(), "the second start told nothing");
}

#[tokio::test]
async fn a_message_that_is_under_way_when_the_server_stops_is_not_sent_again() {
    let mut receiver = Receiver::start(vec![HELD]).await;
    let app = start(&receiver, ending(2).await).await;
    assert_eq!(receiver.next().await.event(), event("session_ends_soon", "begun", "identity-1"));
    app.begin_stop();
    until("the server to take no more connections", || TcpStream::connect(app.address).is_err()).await;
    receiver.release.notify_one();
    let (_, state_dir) = app.stop().await;
    let setup = Setup::default().with("ALERT_URL", &receiver.url("")).in_dir(state_dir);
    let _app = setup.start(ending(30).await).await;
    assert_eq!(receiver.next().await.event(), event("session_ends_soon", "over", "identity-1"));
    assert!(receiver.is_silent());
}

#[tokio::test]
async fn a_key_that_was_refused_before_a_restart_is_not_told_to_be_well() {
    let mut receiver = Receiver::start(Vec::new()).await;
    for reply in [ApiFailure::IncorrectKey, ApiFailure::CurrentQuota] {
        let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
        let key = format!("{}@{}", simulator.keys().secret("kay"), simulator.urls().keys);
        let url = receiver.url("");
        let setup = || Setup::default().with("ALERT_URL", &url).with("QWEN_API_KEYS", &key);
        let app = setup().without("COOKIE").start(simulator).await;
        app.simulator.script().set_default(None, Endpoint::KeyChat, Some(ScriptedReply::api(reply.clone())));
        let mut question = question("x");
        question["model"] = "key/qwen3.7-plus".into();
        assert_ne!(app.chat(&question).await.status(), 200);
        if reply == ApiFailure::CurrentQuota {
            assert_eq!(receiver.next().await.event(), event("quota_gone", "begun", "key"));
        }
        let (simulator, state_dir) = app.stop().await;
        // A look of the next start that finds something else to tell has found everything that there was to tell.
        let web = ending(1).await;
        let cookie = web.accounts().cookie("ada");
        let app = setup().with("COOKIE", &cookie).in_dir(state_dir).start(simulator).await;
        assert_eq!(receiver.next().await.event(), event("session_ends_soon", "begun", "identity-1"));
        assert!(receiver.is_silent(), "{reply:?}");
        assert_eq!(
            app.chat(&question).await.status().as_u16() / 100,
            if reply == ApiFailure::CurrentQuota { 4 } else { 5 }
        );
    }
}

#[tokio::test]
async fn a_session_is_told_when_its_last_72_hours_begin_and_one_that_is_renewed_is_not() {
    let mut receiver = Receiver::start(Vec::new()).await;
    let account = |name, era, seconds| AccountScript { session_seconds: seconds, ..AccountScript::new(name, era) };
    // Ada's session comes within 72 hours while the server runs.
    let accounts =
        [account("bob", Era::A, 3 * DAY + 3600), account("ada", Era::A, 3 * DAY + 6), account("cem", Era::B, 2 * DAY)];
    let scenario = Scenario::with_accounts(accounts).paced_ms(0);
    let _app = start(&receiver, Simulator::start(scenario).await.unwrap()).await;
    let got = receiver.next().await;
    assert_eq!(got.event(), event("session_ends_soon", "begun", "identity-2"));
    assert!(got.json()["message"].as_str().unwrap().contains("72 hours"), "{got:?}");
    assert!(receiver.is_silent());
}

/// `ALERT_URL` is taken up without a restart: from then on the other address is told, and nothing is told twice.
#[tokio::test]
async fn another_address_is_told_after_a_reload() {
    let (mut first, mut second) = (Receiver::start(Vec::new()).await, Receiver::start(Vec::new()).await);
    let server = Server::start().await;
    let write = async |line: &str| {
        std::fs::write(server.file(".env"), format!("API_KEY=laptop=sk-one\n{line}\n")).unwrap();
        server.call("POST", "/admin/reload").await
    };
    let drift = async |phase: &str| {
        let unknown = Inserted::UnknownPhase { phase: phase.to_owned(), content: "x".to_owned(), tool: false };
        let reply = ScriptedReply::answer("told").inserting(1, unknown);
        server.simulator.script().queue(None, Endpoint::Completions, reply);
        assert_eq!(server.chat(&question("x")).await.status(), 200);
    };
    let outcome = write(&format!("ALERT_URL={}", first.url(""))).await;
    assert_eq!(
        (&outcome["faults"], &outcome["needs_restart"]),
        (&Value::from([0; 0]), &Value::from([0; 0])),
        "{outcome}"
    );
    drift("Daydream").await;
    assert_eq!(first.next().await.event(), event("drift", "begun", "Daydream"));
    // Another form, too.
    write(&format!("ALERT_URL={}", second.url("slack+"))).await;
    drift("Nightmare").await;
    let got = second.next().await;
    assert!(got.json()["text"].as_str().unwrap().contains("Nightmare"), "{got:?}");
    // A faulty address changes nothing.
    let outcome = write("ALERT_URL=ftp://example.org/CANARY").await;
    let faults = outcome["faults"].to_string();
    assert!(faults.contains("ALERT_URL") && !faults.contains("CANARY"), "{outcome}");
    drift("Slumber").await;
    let got = second.next().await;
    assert!(got.json()["text"].as_str().unwrap().contains("Slumber"), "{got:?}");
    // Without an address nothing is sent, and the next address is told what it has missed.
    write("").await;
    drift("Reverie").await;
    write(&format!("ALERT_URL={}", first.url(""))).await;
    assert_eq!(first.next().await.event(), event("drift", "begun", "Reverie"));
    assert!(first.is_silent() && second.is_silent());
    assert!(!server.program.stderr().contains("CANARY"), "{}", server.program.stderr());
}

#[tokio::test]
async fn a_message_that_is_not_taken_is_sent_again() {
    let mut receiver = Receiver::start(vec![500, 302]).await;
    let _app = start(&receiver, ending(1).await).await;
    for _ in 0..3 {
        assert_eq!(receiver.next().await.event(), event("session_ends_soon", "begun", "identity-1"));
    }
    assert!(receiver.is_silent());
}

#[tokio::test]
async fn each_service_gets_its_form() {
    for form in ["ntfy+", "slack+", "telegram+", "feishu+"] {
        let mut receiver = Receiver::start(Vec::new()).await;
        let query = if form == "telegram+" { "?chat_id=-100" } else { "" };
        let url = format!("{}{query}", receiver.url(form));
        let _app = Setup::default().with("ALERT_URL", &url).start(ending(1).await).await;
        let got = receiver.next().await;
        let text = match form {
            "ntfy+" => {
                assert!(got.title.as_ref().unwrap().starts_with("qwen-bridge: the session of identity-1"), "{got:?}");
                got.body.clone()
            }
            "slack+" => got.json()["text"].as_str().unwrap().to_owned(),
            "telegram+" => {
                assert_eq!(got.json()["chat_id"], "-100");
                got.json()["text"].as_str().unwrap().to_owned()
            }
            _ => {
                assert_eq!(got.json()["msg_type"], "text");
                got.json()["content"]["text"].as_str().unwrap().to_owned()
            }
        };
        assert!(
            text.contains("The session of identity-1 ends within 72 hours") && text.contains("过期"),
            "{form} {text}"
        );
    }
}

#[tokio::test]
async fn what_feishu_refuses_with_a_good_status_is_sent_again() {
    let mut receiver = Receiver::start(vec![NOT_TAKEN, NOT_TAKEN]).await;
    let url = receiver.url("feishu+");
    let app = Setup::default().with("ALERT_URL", &url).start(ending(1).await).await;
    let first = receiver.next().await.body;
    for _ in 0..2 {
        assert_eq!(receiver.next().await.body, first);
    }
    // The third time it was taken: that holds across a restart too.
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().with("ALERT_URL", &url).in_dir(state_dir).start(simulator).await;
    app.stop().await;
    assert!(receiver.is_silent());
}

/// A refusal for the rest of the day.
fn used_up() -> ScriptedReply {
    ScriptedReply::error_with(ErrorScript { code: "RateLimited".to_owned(), num: Some(2), ..ErrorScript::default() })
}

#[tokio::test]
async fn a_quota_that_is_gone_everywhere_is_told_once() {
    let mut receiver = Receiver::start(Vec::new()).await;
    let names = ["ada", "bob", "cem"];
    let mut accounts = names.map(|name| AccountScript::new(name, Era::A));
    // One account needs a login: it has no quota to lose, and none to give.
    accounts[2] = AccountScript { expired: true, revoked: true, ..AccountScript::new("cem", Era::B) };
    let simulator = Simulator::start(Scenario::with_accounts(accounts).paced_ms(0)).await.unwrap();
    let state_dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(state_dir.path()).unwrap();
    let key = Cookie::parse(&simulator.accounts().cookie("cem")).unwrap().key();
    let facts = IdentityFacts { dead_since: Some(Now::read().unix), ..IdentityFacts::default() };
    store.save_facts(key, || facts);
    store.close().await;
    let setup = Setup::default().with("ALERT_URL", &receiver.url(""));
    let app = setup.in_dir(state_dir).start(simulator).await;
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, used_up());
    app.chat(&question("echo: x")).await;
    app.chat(&question("echo: x")).await;
    app.chat(&question("echo: x")).await;
    let told = receiver.next().await.event();
    assert_eq!(told, event("login_needed", "begun", "identity-3"), "one account still has quota");
    app.simulator.script().queue(Some("bob"), Endpoint::Completions, used_up());
    assert_eq!(app.chat(&question("echo: x")).await.status(), 429);
    assert_eq!(receiver.next().await.event(), event("quota_gone", "begun", "web"));
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().with("ALERT_URL", &receiver.url("")).in_dir(state_dir).start(simulator).await;
    assert_eq!(app.chat(&question("echo: x")).await.status(), 429);
    app.stop().await;
    assert!(receiver.is_silent(), "the second start told nothing");
}

#[tokio::test]
async fn drift_is_told_when_it_is_seen_first() {
    let mut receiver = Receiver::start(Vec::new()).await;
    let app = start(&receiver, Simulator::start(Scenario::default().paced_ms(0)).await.unwrap()).await;
    let odd = |phase: &str| {
        let (phase, content) = (phase.to_owned(), "x".to_owned());
        ScriptedReply::answer("told").inserting(1, Inserted::UnknownPhase { phase, content, tool: false })
    };
    app.simulator.script().queue(None, Endpoint::Completions, odd("Daydream"));
    app.simulator.script().queue(None, Endpoint::Completions, odd("Daydream"));
    for _ in 0..2 {
        app.chat(&question("x")).await;
    }
    let got = receiver.next().await;
    assert_eq!(got.event(), event("drift", "begun", "Daydream"));
    assert_eq!(got.json()["account"], Value::Null);
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().with("ALERT_URL", &receiver.url("")).in_dir(state_dir).start(simulator).await;
    app.simulator.script().queue(None, Endpoint::Completions, odd("Daydream"));
    app.simulator.script().queue(None, Endpoint::Completions, odd("Nightmare"));
    for _ in 0..2 {
        app.chat(&question("x")).await;
    }
    assert_eq!(receiver.next().await.event(), event("drift", "begun", "Nightmare"), "the other one was told before");
    assert!(receiver.is_silent());
}

#[tokio::test]
async fn a_state_that_cannot_be_written_is_told() {
    let mut receiver = Receiver::start(Vec::new()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let setup = Setup::default().with("STATE_DIR", &file.path().display().to_string());
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let _app = setup.with("ALERT_URL", &receiver.url("")).start(simulator).await;
    assert_eq!(receiver.next().await.event(), event("state_not_writable", "begun", ""));
}

#[tokio::test]
async fn the_address_is_in_no_log() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut settings = settings(&ending(1).await, "json");
    settings.push(("ALERT_URL", format!("http://{closed}{SECRET_PATH}?token=CANARY-token")));
    let server = Program::start(&["serve"], &settings);
    server.until_it_says("the owner could not be alerted at ALERT_URL").await;
    let log = server.stderr();
    assert!(!log.contains("CANARY"), "{log}");
}
