//! Videos whose server ended while they were made: by kill, in order, with the account gone. No video is made twice.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use simulator::Simulator;
use simulator::script::{Endpoint, ScriptedReply, VideoEnd};

use crate::support::app::{Setup, TestApp};
use crate::support::oracle::{Form, ask, crew, until};
use crate::videos::{
    VIDEO_PATIENCE, boat, bytes_in, create, filler, good, look, picture, soon, stalled, start, start_with, until_done,
    until_video,
};

/// A server that can be killed: all that it does runs on a runtime of its own.
struct Mortal {
    app: TestApp,
    runtime: tokio::runtime::Runtime,
}

impl Mortal {
    async fn start(setup: Setup, simulator: Simulator) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let app = runtime.spawn(setup.start(simulator)).await.unwrap();
        Self { app, runtime }
    }

    /// Ends the process at once, as `kill -9` does.
    async fn kill(self) -> (Simulator, tempfile::TempDir) {
        let TestApp { simulator, state_dir, .. } = self.app;
        let runtime = self.runtime;
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
        (simulator, state_dir)
    }
}

async fn mortal(count: usize, reply: ScriptedReply) -> Mortal {
    let simulator = Simulator::start(crew(count)).await.unwrap();
    simulator.script().set_default(None, Endpoint::Completions, Some(reply));
    Mortal::start(Setup::default(), simulator).await
}

/// Starts again after a kill, waits for the video, and looks that there is one only.
async fn goes_on(id: &str, (simulator, state_dir): (Simulator, tempfile::TempDir)) -> TestApp {
    let app = Setup::default().in_dir(state_dir).start(simulator).await;
    let done = until_done(&app, id).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(app.simulator.stored().videos().len(), 1);
    let content = app.get(&format!("/v1/videos/{id}/content")).send().await.unwrap();
    assert!(content.bytes().await.unwrap().ends_with(&filler(&app, 0)));
    app.assert_clean();
    app
}

pub(crate) const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn killed_before_there_was_a_chat() {
    let mortal = mortal(1, soon()).await;
    mortal.app.simulator.script().queue(None, Endpoint::NewChat, ScriptedReply::default().delayed(LONG));
    let mut body = boat();
    body["input_reference"] = json!(format!("data:image/png;base64,{}", STANDARD.encode(picture())));
    let id = create(&mortal.app, &body).await;
    until("a chat to be asked for", || !mortal.app.simulator.record().requests_to(Endpoint::NewChat).is_empty()).await;
    let app = goes_on(&id, mortal.kill().await).await;
    assert_eq!(app.simulator.stored().videos()[0].chat_type, "i2v", "the picture was kept");
    assert_eq!(app.simulator.stored().uploads()[0].bytes, picture());
}

#[tokio::test]
async fn killed_before_the_question_was_asked() {
    let mortal = mortal(2, soon()).await;
    mortal.app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::status(503).delayed(LONG));
    let id = create(&mortal.app, &boat()).await;
    until("the question", || !mortal.app.simulator.record().requests_to(Endpoint::Completions).is_empty()).await;
    let app = goes_on(&id, mortal.kill().await).await;
    until("the chats to be deleted", || app.simulator.stored().chats(None).iter().all(|chat| chat.is_old)).await;
}

#[tokio::test]
async fn killed_before_the_answer_came() {
    let mortal = mortal(2, soon().with_video(|video| video.lost = true)).await;
    mortal.app.simulator.script().queue(None, Endpoint::ReadChat, ScriptedReply::default().delayed(LONG));
    let id = create(&mortal.app, &boat()).await;
    until("the chat to be read", || !mortal.app.simulator.record().requests_to(Endpoint::ReadChat).is_empty()).await;
    let app = goes_on(&id, mortal.kill().await).await;
    until("the chat to be deleted", || app.simulator.stored().chats(None).iter().all(|chat| chat.is_old)).await;
}

#[tokio::test]
async fn killed_while_the_video_was_made() {
    let mortal = mortal(2, ScriptedReply::video(VideoEnd::Success).with_video(|video| video.polls = 3)).await;
    let id = create(&mortal.app, &boat()).await;
    until_video(&mortal.app, &id, |video| video["status"] == "in_progress").await;
    let app = goes_on(&id, mortal.kill().await).await;
    until("the chat to be deleted", || app.simulator.stored().chats(None).iter().all(|chat| chat.is_old)).await;
    // And once more, now that it is done.
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().in_dir(state_dir).start(simulator).await;
    assert_eq!(look(&app, &id).await["status"], "completed");
    let content = app.get(&format!("/v1/videos/{id}/content")).send().await.unwrap();
    assert!(content.bytes().await.unwrap().ends_with(&filler(&app, 0)));
}

#[tokio::test]
async fn a_stop_in_order_leaves_the_chat_of_a_video_in_the_making() {
    let once = || Setup::default().with("CONTINUE_CHATS", "false");
    let app = start_with(once(), 1, stalled()).await;
    let id = create(&app, &boat()).await;
    until_video(&app, &id, |video| video["status"] == "in_progress").await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    // The video would never be done: a stop that waited for it would meet the deadline in `TestApp::stop`.
    let (simulator, state_dir) = app.stop().await;
    let task = simulator.stored().videos().remove(0);
    let own = |simulator: &Simulator| {
        let chats = simulator.stored().chats(None).into_iter().filter(|chat| !chat.is_old);
        chats.map(|chat| chat.id).collect::<Vec<_>>()
    };
    assert_eq!(own(&simulator), [task.chat_id.as_str()]);
    let app = once().in_dir(state_dir).start(simulator).await;
    until("it to be asked after again", || app.simulator.stored().videos()[0].polls > task.polls + 1).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    until("the other chat to be deleted", || own(&app.simulator).len() == 1).await;
    assert_eq!(own(&app.simulator), [task.chat_id]);
    assert_eq!(look(&app, &id).await["status"], "in_progress");
    app.assert_clean();
}

#[tokio::test]
async fn a_video_whose_account_was_removed_fails() {
    let app = start(2, stalled()).await;
    let id = create(&app, &boat()).await;
    until_video(&app, &id, |video| video["status"] == "in_progress").await;
    let maker = app.simulator.stored().videos().remove(0).account;
    let (simulator, state_dir) = app.stop().await;
    let other = simulator.accounts().cookie(if maker == "ada" { "bob" } else { "ada" });
    let app = Setup::default().with("COOKIE", &other).in_dir(state_dir).start(simulator).await;
    let failed = until_done(&app, &id).await;
    assert_eq!(failed["error"]["code"], "no_available_account", "{failed}");
}

#[tokio::test]
async fn a_video_whose_account_got_a_new_cookie_goes_on() {
    let app = start(1, stalled()).await;
    let id = create(&app, &boat()).await;
    until_video(&app, &id, |video| video["status"] == "in_progress").await;
    let (simulator, state_dir) = app.stop().await;
    let task = simulator.stored().videos().remove(0);
    let cookie = format!("zzz=1; {}", simulator.accounts().cookie(&task.account));
    let app = Setup::default().with("COOKIE", &cookie).in_dir(state_dir).start(simulator).await;
    until("it to be asked after again", || app.simulator.stored().videos()[0].polls > task.polls + 1).await;
    assert_eq!(look(&app, &id).await["status"], "in_progress");
    app.assert_clean();
}

#[tokio::test]
async fn in_client_mode_a_video_goes_on_when_its_caller_asks() {
    let simulator = Simulator::start(crew(2)).await.unwrap();
    simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::video(VideoEnd::Success)));
    let credential = |simulator: &Simulator, name: &str| {
        format!("{};{}", simulator.accounts().bearer(name), simulator.accounts().cookie(name))
    };
    let setup = || Setup::default().with("SERVER_MODE", "false").without("API_KEY");
    let mortal = Mortal::start(setup(), simulator).await;
    let (ada, bob) = (credential(&mortal.app.simulator, "ada"), credential(&mortal.app.simulator, "bob"));
    let get = async |app: &TestApp, path: &str, who: &str| {
        app.client.get(app.url(path)).bearer_auth(who).send().await.unwrap()
    };
    let request = mortal.app.client.post(mortal.app.url("/v1/videos")).bearer_auth(&ada);
    let request = request.header("content-type", "application/json").body(boat().to_string());
    let video = good(request.send().await.unwrap()).await;
    let path = format!("/v1/videos/{}", video["id"].as_str().unwrap());
    until("a first look", || mortal.app.simulator.stored().videos().first().is_some_and(|task| task.polls > 0)).await;
    let (simulator, state_dir) = mortal.kill().await;
    let bytes = bytes_in(&state_dir);
    let token = simulator.accounts().bearer("ada");
    assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()), "the credential is written down");

    let app = setup().in_dir(state_dir).start(simulator).await;
    assert_eq!(get(&app, &path, &bob).await.status(), 404);
    let deadline = Instant::now() + VIDEO_PATIENCE;
    loop {
        let video = good(get(&app, &path, &ada).await).await;
        if video["status"] == "completed" {
            break;
        }
        assert!(Instant::now() < deadline && video["status"] != "failed", "{video}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let content = get(&app, &format!("{path}/content"), &ada).await;
    assert!(content.bytes().await.unwrap().ends_with(&filler(&app, 0)));
    assert_eq!(app.simulator.stored().videos().len(), 1);
    assert_eq!(app.simulator.stored().videos()[0].account, "ada");
    until("the chat to be deleted", || app.simulator.stored().chats(None).iter().all(|chat| chat.is_old)).await;
    app.assert_clean();
}
