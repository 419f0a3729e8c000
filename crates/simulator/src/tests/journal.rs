use std::time::Duration;

use crate::Simulator;
use crate::record::{EndedHow, RecordedRequest};
use crate::script::{AccountScript, Endpoint, Era, Scenario, ScriptedReply};
use crate::tests::client::{Caller, SOON, answer_of, read, start};
use crate::tests::documentation::example;

#[tokio::test]
async fn requests_are_written_down() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    caller.ask("echo: x").await;
    let record = caller.last_completion().await;
    assert!(record.is("ada", Endpoint::Completions));
    assert_eq!((record.method.as_str(), record.number), ("POST", 2));
    assert!(record.path.starts_with("/api/v2/chat/completions?chat_id="));
    assert_eq!(record.header("version"), Some("0.3.12"));
    assert_eq!(record.header("cookie"), Some(caller.cookie.as_str()));
    let body = record.body.clone().unwrap();
    assert_eq!(body["messages"][0]["content"], "echo: x");
    assert_eq!(record.body_bytes, body.to_string().len());
    assert_eq!((record.status, record.effective_status), (Some(200), Some(200)));
    assert_eq!(record.ended.unwrap().how, EndedHow::Completed);
    let counters = simulator.record().counts();
    assert_eq!((counters.requests, counters.completions, counters.open_streams), (2, 1, 0));
    assert!(simulator.record().violations().is_empty(), "{:?}", simulator.record().violations());
}

#[tokio::test]
async fn waiting_does_not_sleep_and_gives_up() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let asked = |request: &RecordedRequest| request.endpoint == Some(Endpoint::Completions);
    assert!(simulator.record().wait_until(asked, Duration::from_millis(30)).await.is_none());
    let (found, _) = tokio::join!(simulator.record().wait_until(asked, SOON), caller.ask("x"));
    assert_eq!(found.unwrap().account.as_deref(), Some("ada"));
    let counted = simulator.record().wait_for_counts(|counters| counters.completions == 1, SOON);
    assert!(counted.await.is_some());
}

#[tokio::test]
async fn the_journal_forgets_the_oldest() {
    let simulator = Simulator::start(Scenario { records_max: 2, ..Scenario::default() }).await.unwrap();
    let caller = Caller::new(&simulator, "ada");
    for _ in 0..3 {
        caller.get("/api/models").await;
    }
    let numbers: Vec<_> = simulator.record().requests().iter().map(|one| one.number).collect();
    assert_eq!(numbers, [2, 3]);
}

#[tokio::test]
async fn a_stopped_simulator_is_gone() {
    let simulator = start().await;
    let url = simulator.urls().web.join("/api/models").unwrap();
    let client = reqwest::Client::new();
    read(client.get(url.clone()).send().await.unwrap()).await;
    tokio::time::timeout(SOON, simulator.stop()).await.unwrap();
    assert!(client.get(url).send().await.is_err());
}

#[tokio::test]
async fn the_scenario_of_the_documentation_works() {
    let mut scenario = Scenario::from_json(example("answers, refusals, cuts")).unwrap();
    (scenario.port, scenario.auth_port) = (0, 0);
    let simulator = Simulator::start(scenario).await.unwrap();
    let ada = Caller::new(&simulator, "ada");
    assert_eq!(answer_of(&ada.ask("x").await.text), "Hello from a script.");
    assert_eq!(ada.ask("x").await.json()["data"]["num"], 2);
    assert!(!ada.ask("x").await.text.contains("finished"));
    let later = ada.ask("echo: ü").await.text.replace("\r\n", "\n");
    assert_eq!(answer_of(&later), "ü");
    assert_eq!(ada.get("/api/models").await.status, 405);
}

#[test]
fn the_media_scenario_of_the_documentation_is_what_rust_builds() {
    use crate::script::CutHow;
    use crate::script::{ParseEnd, ParseScript, PutStop, VideoEnd};
    let at_once = ScriptedReply::granting(Duration::ZERO, Duration::from_secs(300));
    let unreadable = ParseScript { polls: 0, end: ParseEnd::Failed("unreadable".into()) };
    let pictures = ScriptedReply::pictures(2).with_picture(|picture| picture.keep_alives = 5);
    let late = ScriptedReply::default().with_picture(|picture| (picture.lost, picture.late_reads) = (true, 2));
    let video = ScriptedReply::video(VideoEnd::Failed("no boats today".into())).with_video(|video| video.polls = 10);
    let ada = AccountScript { videos_per_day: Some(3), ..AccountScript::new("ada", Era::A) };
    let mut built = Scenario { accounts: vec![ada], ..Scenario::default() }
        .replying(Endpoint::Sts, ScriptedReply::error("RateLimited"))
        .replying(Endpoint::Sts, at_once)
        .replying(Endpoint::OssPut, ScriptedReply::status(503))
        .replying(Endpoint::OssPut, ScriptedReply::put_stopping(1_000, PutStop::Close))
        .replying(Endpoint::FileParse, ScriptedReply { parse: unreadable, ..ScriptedReply::default() })
        .replying(Endpoint::Completions, pictures.cut_after(6, CutHow::Fin))
        .replying(Endpoint::Completions, late)
        .replying(Endpoint::Completions, video);
    built.defaults.insert(Endpoint::TaskStatus, ScriptedReply::status(404));
    assert_eq!(Scenario::from_json(example("files, pictures, videos")).unwrap(), built);
}

#[tokio::test]
async fn rust_builds_what_json_says() {
    let json = r#"{
        "pace_ms": 0,
        "accounts": [{"name": "ada", "replies": {"completions": [
            {"delay_ms": 5, "stream": {"answer": "hi", "reasoning": [[["t", "u"]]], "end": "open",
             "cut": {"at_byte": 9, "how": "reset"}, "packets": {"size": 2},
             "pauses": [{"after": 1, "ms": 2}], "inserts": [{"after": 0, "what": {"comment": "c"}}]}}
        ]}}],
        "replies": {"stop": [{"fail": "reset"}]}
    }"#;
    use crate::script::ScriptedFailure;
    use crate::script::stream::{CutHow, End, Inserted, Packets};
    let reply = ScriptedReply::answer("hi")
        .reasoning(&[&[("t", "u")]])
        .delayed(Duration::from_millis(5))
        .ending(End::Open)
        .cut_at_byte(9, CutHow::Reset)
        .packets(Packets::Size(2))
        .pausing(1, Duration::from_millis(2))
        .inserting(0, Inserted::Comment("c".into()));
    let ada = AccountScript::new("ada", Era::A).replying(Endpoint::Completions, reply);
    let built = Scenario::with_accounts([ada]).replying(Endpoint::Stop, ScriptedReply::failing(ScriptedFailure::Reset));
    assert_eq!(Scenario::from_json(json).unwrap(), built);
}
