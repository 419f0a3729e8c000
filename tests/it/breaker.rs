//! The circuit breaker of an identity: when it opens, who probes it, and which failures count as the upstream's.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use simulator::Simulator;
use simulator::script::{End, Endpoint, ScriptedFailure, ScriptedReply};

use crate::support::app::{PATIENCE, Setup, TestApp, json_of, question, spawn};
use crate::support::oracle::{FORMS, Form, ask, asked_accounts, counts, crew, health, until_health};

const COOLDOWN: Duration = Duration::from_millis(1500);

/// Two accounts, of which `ada` has just gone down. Returns the moment before the failure that did it.
async fn with_ada_down() -> (TestApp, Instant) {
    let app = Setup::default()
        .with("COOLDOWN_BASE", "1500ms")
        .with("MAX_IN_FLIGHT", "1000")
        .with("QUEUE_MAX", "2000")
        .start(Simulator::start(crew(2)).await.unwrap())
        .await;
    let mut last = Instant::now();
    for failure in 0..5 {
        assert_eq!(counts(&app).await, if failure < 3 { (2, 0, 0) } else { (1, 1, 0) }, "after {failure}");
        app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::status(503));
        last = Instant::now();
        while app.simulator.script().left() > 0 {
            ask(&app, Form::Whole, "echo: x").await.must_say("x");
        }
    }
    assert_eq!(counts(&app).await, (1, 0, 1));
    (app, last)
}

fn completions_of(app: &TestApp, account: &str) -> usize {
    asked_accounts(&app.simulator).iter().filter(|name| *name == account).count()
}

#[tokio::test]
async fn five_failures_in_a_row_take_an_identity_down_and_one_probe_brings_it_back() {
    let (app, tripped_at) = with_ada_down().await;
    let before = completions_of(&app, "ada");
    while tripped_at.elapsed() < COOLDOWN / 3 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    // The probe is slow, so that there is time for a second one if there were one.
    let slow = ScriptedReply::answer("probe").with_stream(|stream| stream.first_event_ms = 1500);
    app.simulator.script().set_default(Some("ada"), Endpoint::Completions, Some(slow));
    let probing = async {
        loop {
            let asked = join_all((0..100).map(|_| ask(&app, Form::Whole, "echo: x")));
            let answers = asked.await;
            assert!(answers.iter().all(|answer| answer.error.is_none()));
            if completions_of(&app, "ada") > before {
                break;
            }
        }
    };
    probing.await;
    assert_eq!(completions_of(&app, "ada"), before + 1, "more than one probe");
    let probe = app
        .simulator
        .record()
        .requests_to(Endpoint::Completions)
        .into_iter()
        .rfind(|request| request.is("ada", Endpoint::Completions));
    let waited = probe.unwrap().received_at - tripped_at;
    assert!(waited >= COOLDOWN, "probed after {waited:?}");
    app.simulator.script().set_default(Some("ada"), Endpoint::Completions, None);
    assert_eq!(counts(&app).await, (2, 0, 0));
    for _ in 0..6 {
        ask(&app, Form::Stream, "echo: x").await.must_say("x");
    }
    assert_eq!(completions_of(&app, "ada"), before + 4, "it takes its turns again");
}

#[tokio::test]
async fn a_failed_probe_doubles_the_cooldown() {
    let (app, _) = with_ada_down().await;
    let before = completions_of(&app, "ada");
    app.simulator.script().set_default(Some("ada"), Endpoint::Completions, Some(ScriptedReply::status(503)));
    while completions_of(&app, "ada") == before {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    assert_eq!(counts(&app).await, (1, 0, 1));
    while completions_of(&app, "ada") == before + 1 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    let asked = app.simulator.record().requests_to(Endpoint::Completions);
    let mut probes = asked.iter().filter(|request| request.is("ada", Endpoint::Completions)).skip(before);
    let (first, second) = (probes.next().unwrap().received_at, probes.next().unwrap().received_at);
    assert!(second - first >= COOLDOWN * 2, "{:?}", second - first);
}

#[tokio::test]
async fn a_probe_whose_caller_leaves_makes_room_for_the_next_at_once() {
    let (app, _) = with_ada_down().await;
    app.simulator.script().set_default(
        Some("ada"),
        Endpoint::Completions,
        Some(ScriptedReply::failing(ScriptedFailure::Silence)),
    );
    let before = completions_of(&app, "ada");
    let asking = async {
        loop {
            let request = app.post("/v1/chat/completions", &question("echo: x"));
            let _ = tokio::time::timeout(Duration::from_millis(100), request.send()).await;
            if completions_of(&app, "ada") == before + 2 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the probe's place was not given back");
    app.simulator.script().set_default(Some("ada"), Endpoint::Completions, None);
    let deadline = Instant::now() + PATIENCE;
    while counts(&app).await != (2, 0, 0) {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
        assert!(Instant::now() < deadline);
    }
}

#[tokio::test]
async fn a_probe_that_is_refused_by_policy_tells_nothing() {
    let (app, _) = with_ada_down().await;
    let before = completions_of(&app, "ada");
    app.simulator.script().set_default(
        Some("ada"),
        Endpoint::Completions,
        Some(ScriptedReply::error("data_inspection_failed")),
    );
    while completions_of(&app, "ada") == before {
        ask(&app, Form::Whole, "echo: x").await;
    }
    assert_eq!(counts(&app).await, (1, 0, 1), "still to be probed");
    app.simulator.script().set_default(Some("ada"), Endpoint::Completions, None);
    for _ in 0..2 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    assert_eq!(counts(&app).await, (2, 0, 0));
}

#[tokio::test]
async fn one_account_alone_is_probed_early_but_rarely() {
    for form in FORMS {
        let app = Setup::default().start(Simulator::start(crew(1)).await.unwrap()).await;
        app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::status(500)));
        for _ in 0..5 {
            assert_eq!(ask(&app, form, "x").await.code(), "upstream_error");
        }
        assert_eq!(counts(&app).await, (0, 0, 1));
        assert_eq!(ask(&app, form, "x").await.code(), "upstream_error", "one early probe");
        for _ in 0..10 {
            let refused = ask(&app, form, "x").await;
            assert_eq!(refused.failure(), (503, "server_error", "no_available_account"));
            assert!(refused.retry_after().is_some_and(|seconds| seconds >= 1), "{:?}", refused.headers);
        }
        assert_eq!(asked_accounts(&app.simulator).len(), 6);
    }
}

#[tokio::test]
async fn with_all_down_one_probe_in_five_seconds_asks_a_failing_upstream() {
    for (count, reply) in [(2, ScriptedReply::status(503)), (3, ScriptedReply::failing(ScriptedFailure::Reset))] {
        let app = Setup::default().with("MAX_RETRIES", "0").start(Simulator::start(crew(count)).await.unwrap()).await;
        // One after the other fails alone until it is down, so that at first the upstream is not blamed.
        for (place, name) in ["ada", "bob", "cem"].into_iter().take(count).enumerate() {
            if place > 0 {
                ask(&app, Form::Whole, "echo: x").await.must_say("x");
            }
            app.simulator.script().set_default(Some(name), Endpoint::Completions, Some(reply.clone()));
            let down = |body: &serde_json::Value| body["identityPool"]["down"].as_u64().unwrap();
            let before = down(&health(&app).await);
            while down(&health(&app).await) == before {
                ask(&app, Form::Whole, "echo: x").await;
            }
        }
        assert_eq!(counts(&app).await, (0, 0, count as u64));
        for form in FORMS {
            let (before, started) = (asked_accounts(&app.simulator).len(), Instant::now());
            for _ in 0..20 {
                let answer = ask(&app, form, "x").await;
                if answer.status == 503 {
                    assert_eq!(answer.code(), "no_available_account");
                    assert!(answer.retry_after().is_some_and(|seconds| seconds >= 1), "{:?}", answer.headers);
                } else {
                    assert_eq!(answer.failure(), (502, "server_error", "upstream_error"));
                }
            }
            let sent = asked_accounts(&app.simulator).len() - before;
            let allowed = 1 + usize::try_from(started.elapsed().as_secs()).unwrap() / 5;
            assert!(sent <= allowed, "{sent} messages in {:?}", started.elapsed());
        }
    }
}

#[tokio::test]
async fn a_degraded_identity_is_still_used() {
    let app = Setup::default().start(Simulator::start(crew(2)).await.unwrap()).await;
    for _ in 0..3 {
        app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::status(500));
        while app.simulator.script().left() > 0 {
            ask(&app, Form::Whole, "echo: x").await.must_say("x");
        }
    }
    assert_eq!(counts(&app).await, (1, 1, 0));
    let before = completions_of(&app, "ada");
    for _ in 0..4 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    assert_eq!(completions_of(&app, "ada"), before + 2);
    assert_eq!(counts(&app).await, (2, 0, 0), "a success makes it healthy");
}

#[tokio::test]
async fn what_everybody_suffers_is_the_upstreams_fault() {
    for (count, reply) in [
        (2, ScriptedReply::status(503)),
        (4, ScriptedReply::error("Bad_Request")),
        (3, ScriptedReply::failing(ScriptedFailure::Reset)),
    ] {
        let app = Setup::default().start(Simulator::start(crew(count)).await.unwrap()).await;
        app.simulator.script().set_default(None, Endpoint::Completions, Some(reply));
        assert_eq!(ask(&app, Form::Whole, "x").await.failure(), (502, "server_error", "upstream_error"));
        for _ in 0..20 {
            let before = asked_accounts(&app.simulator).len();
            assert_eq!(ask(&app, Form::Stream, "x").await.failure(), (502, "server_error", "upstream_error"));
            assert_eq!(asked_accounts(&app.simulator).len(), before + 2, "one retry tells as much as many");
        }
        let seen = health(&app).await;
        assert_eq!(seen["identityPool"]["down"], 0, "{seen}");
        assert_eq!(seen["upstream"]["degraded"], true);
        app.simulator.script().set_default(None, Endpoint::Completions, None);
        for _ in 0..count {
            ask(&app, Form::Whole, "echo: well").await.must_say("well");
        }
        assert_eq!(health(&app).await["upstream"]["degraded"], false);
        assert_eq!(counts(&app).await, (count as u64, 0, 0));
    }
}

#[tokio::test]
async fn equal_load_is_spread_equally() {
    let app = Setup::default().start(Simulator::start(crew(5)).await.unwrap()).await;
    for _ in 0..25 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    for window in asked_accounts(&app.simulator).chunks(5) {
        let mut names = window.to_vec();
        names.sort();
        assert_eq!(names, ["ada", "bob", "cem", "dua", "eli"]);
    }
}

#[tokio::test]
async fn an_identity_takes_so_many_at_once_and_the_rest_wait() {
    const QUEUE_WAIT: Duration = Duration::from_secs(3);
    let app = Setup::default()
        .with("MAX_IN_FLIGHT", "2")
        .with("QUEUE_MAX", "3")
        .with("QUEUE_WAIT", "3s")
        .start(Simulator::start(crew(1)).await.unwrap())
        .await;
    app.simulator.script().set_default(
        None,
        Endpoint::Completions,
        Some(ScriptedReply::failing(ScriptedFailure::Silence)),
    );
    let held: Vec<_> = (0..2)
        .map(|_| {
            let request = app.post("/v1/chat/completions", &question("hold"));
            spawn(async move { request.send().await.map(|_| ()) })
        })
        .collect();
    app.simulator.record().wait_for_counts(|counters| counters.open_streams == 2, PATIENCE).await.unwrap();
    // Three wait until their time is over, the fourth finds the queue full.
    let waiting = join_all((0..3).map(|_| ask(&app, Form::Whole, "x")));
    let full = async {
        until_queued(&app, 3).await;
        ask(&app, Form::Stream, "x").await
    };
    let (waited, refused) = tokio::join!(waiting, full);
    for answer in waited {
        assert_eq!(answer.failure(), (429, "rate_limit_error", "server_busy"));
        assert!(answer.retry_after().is_some_and(|seconds| (1..=5).contains(&seconds)), "{:?}", answer.headers);
        assert!(answer.took >= QUEUE_WAIT, "{:?}", answer.took);
    }
    assert_eq!(refused.failure(), (429, "rate_limit_error", "server_busy"));
    assert!(refused.took < QUEUE_WAIT, "it was queued: {:?}", refused.took);
    assert_eq!(asked_accounts(&app.simulator).len(), 2);
    // The place of a caller who leaves goes to one who waits.
    app.simulator.script().set_default(None, Endpoint::Completions, None);
    let waiting = ask(&app, Form::Whole, "echo: served");
    let leaving = async {
        for held in &held {
            held.abort();
        }
    };
    let (answer, ()) = tokio::join!(waiting, leaving);
    answer.must_say("served");
    until_health(&app, |body| body["identityPool"]["healthy"] == 1).await;
}

#[tokio::test]
async fn a_key_that_asks_once_does_not_stand_behind_one_that_floods() {
    let app = Setup::default()
        .with("API_KEY", "sk-test-key,sk-quiet-key")
        .with("MAX_IN_FLIGHT", "1")
        .with("QUEUE_MAX", "100")
        .with("QUEUE_WAIT", "30s")
        .start(Simulator::start(crew(1)).await.unwrap())
        .await;
    let slow = ScriptedReply::answer("x").with_stream(|stream| stream.first_event_ms = 50);
    app.simulator.script().set_default(None, Endpoint::Completions, Some(slow));
    let flood = join_all((0..40).map(|_| ask(&app, Form::Whole, "flood")));
    let quiet = async {
        until_queued(&app, 20).await;
        let request = app.client.post(app.url("/v1/chat/completions")).bearer_auth("sk-quiet-key");
        let request = request.header("content-type", "application/json").body(question("quiet").to_string());
        crate::support::oracle::read(request, Form::Whole).await
    };
    let (flood, quiet) = tokio::join!(flood, quiet);
    quiet.must_say("x");
    flood.iter().for_each(|answer| answer.must_say("x"));
    let asked = app.simulator.record().requests_to(Endpoint::Completions);
    let turn = asked.iter().position(|request| request.body.as_ref().unwrap().to_string().contains("quiet"));
    // At most 20 of the flood had been asked when it came, and one of them may have been next.
    assert!(turn.is_some_and(|turn| turn <= 22), "{turn:?} of 41");
}

#[tokio::test]
async fn a_key_that_floods_does_not_fill_the_queue_for_others() {
    let app = Setup::default()
        .with("API_KEY", "sk-test-key,sk-quiet-key")
        .with("MAX_IN_FLIGHT", "1")
        .with("QUEUE_MAX", "4")
        .with("QUEUE_WAIT", "30s")
        .start(Simulator::start(crew(1)).await.unwrap())
        .await;
    let stalled = ScriptedReply::numbered(3).ending(End::Stalled);
    app.simulator.script().queue(None, Endpoint::Completions, stalled);
    let held = app.post("/v1/chat/completions", &question("hold"));
    let held = spawn(async move { held.send().await.map(|_| ()) });
    app.simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE).await.unwrap();
    // Two find the queue full at once, and two make room when the other key asks.
    let flood = async {
        let mut answers: FuturesUnordered<_> = (0..6).map(|_| ask(&app, Form::Whole, "echo: flood")).collect();
        for _ in 0..4 {
            let answer = answers.next().await.unwrap();
            assert_eq!(answer.failure(), (429, "rate_limit_error", "server_busy"));
        }
        held.abort();
        answers.collect::<Vec<_>>().await
    };
    let quiet = async {
        until_queued(&app, 4).await;
        join_all((0..2).map(|_| {
            let request = app.client.post(app.url("/v1/chat/completions")).bearer_auth("sk-quiet-key");
            let request = request.header("content-type", "application/json").body(question("echo: quiet").to_string());
            crate::support::oracle::read(request, Form::Whole)
        }))
        .await
    };
    let (flood, quiet) = tokio::join!(flood, quiet);
    flood.iter().for_each(|answer| answer.must_say("flood"));
    quiet.iter().for_each(|answer| answer.must_say("quiet"));
}

/// Waits until so many requests are in the queue of the web accounts.
pub(crate) async fn until_queued(app: &TestApp, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let health = json_of(app.get("/health/detailed").send().await.unwrap()).await;
        if health["identity_pool"]["web"]["queued"].as_u64() >= Some(count as u64) {
            return;
        }
        assert!(Instant::now() < deadline, "{health}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
