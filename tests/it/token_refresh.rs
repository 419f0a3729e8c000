//! Access tokens: fetched at the start, renewed ahead of their end or after a refusal, by one call for all waiters.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use simulator::Simulator;
use simulator::script::{
    AccountScript, ChallengeForm, Endpoint, Era, RawScript, Scenario, ScriptedFailure, ScriptedReply,
};

use crate::support::app::{PATIENCE, Setup, TestApp, json_of, question};
use crate::support::oracle::{
    FORMS, Form, accounts_of, ask, asked_accounts, counts, crew, health, send, until, until_all_healthy, until_health,
};

/// The default of `QUEUE_WAIT`: a request that had to queue takes longer.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

fn era_b(name: &str) -> AccountScript {
    AccountScript::new(name, Era::B)
}

async fn start(accounts: impl IntoIterator<Item = AccountScript>) -> TestApp {
    Setup::default().start(Simulator::start(Scenario::with_accounts(accounts)).await.unwrap()).await
}

fn refreshes(app: &TestApp) -> usize {
    app.simulator.record().requests_to(Endpoint::Refresh).len()
        + app.simulator.record().requests_to(Endpoint::Auths).len()
}

#[tokio::test]
async fn an_older_session_is_used_as_it_is() {
    let app = start([AccountScript::new("ada", Era::A)]).await;
    assert_eq!(counts(&app).await, (1, 0, 0), "ready before the first request");
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    assert_eq!(refreshes(&app), 0);
    assert_eq!(app.simulator.record().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_newer_session_gets_its_token_at_the_start() {
    let app = start([era_b("bob")]).await;
    until_all_healthy(&app).await;
    assert_eq!(refreshes(&app), 1);
    for form in FORMS {
        ask(&app, form, "echo: x").await.must_say("x");
    }
    assert_eq!(refreshes(&app), 1);
    assert_eq!(app.simulator.record().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_request_that_comes_before_the_first_token_waits_for_it() {
    let simulator = Simulator::start(Scenario::with_accounts([era_b("bob")])).await.unwrap();
    simulator.script().queue(None, Endpoint::Refresh, ScriptedReply::default().delayed(Duration::from_millis(400)));
    let app = Setup::default().start(simulator).await;
    let answers = join_all((0..4).map(|_| ask(&app, Form::Stream, "echo: x"))).await;
    answers.iter().for_each(|answer| answer.must_say("x"));
    assert_eq!(refreshes(&app), 1);
}

#[tokio::test]
async fn an_expired_session_cookie_is_renewed_before_it_is_used() {
    let expired = AccountScript { expired: true, ..AccountScript::new("ada", Era::A) };
    let app = start([expired, AccountScript::new("bob", Era::A)]).await;
    until_health(&app, |body| body["identityPool"]["healthy"] != 0).await;
    for _ in 0..4 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    assert!(asked_accounts(&app.simulator).iter().all(|account| account == "bob"), "ada's session is over for good");
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_renewed_once_for_all_who_wait() {
    let simulator = Simulator::start(Scenario::with_accounts([era_b("bob")])).await.unwrap();
    let app = Setup::default()
        .with("MAX_IN_FLIGHT", "1000")
        .with("QUEUE_MAX", "1000")
        .with("QUEUE_WAIT", "20s")
        .start(simulator)
        .await;
    until_all_healthy(&app).await;
    for round in 1..=3 {
        app.simulator.accounts().expire("bob");
        let answers = join_all((0..200).map(|_| ask(&app, Form::Whole, "echo: x"))).await;
        answers.iter().for_each(|answer| answer.must_say("x"));
        assert_eq!(refreshes(&app), 1 + round);
        let chats = app.simulator.record().requests_to(Endpoint::NewChat).len();
        assert!(chats <= 400 * round, "each one tries again once at most: {chats}");
        assert_eq!(counts(&app).await, (1, 0, 0));
    }
    assert_eq!(app.simulator.record().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_refresh_that_fails_fails_for_all_who_wait() {
    for reply in [
        ScriptedReply::status(503),
        ScriptedReply::error("Unauthorized"),
        ScriptedReply::failing(ScriptedFailure::Reset),
    ] {
        let simulator = Simulator::start(Scenario::with_accounts([era_b("bob")])).await.unwrap();
        simulator.script().set_default(None, Endpoint::Refresh, Some(reply.delayed(Duration::from_millis(300))));
        let app = Setup::default().with("MAX_IN_FLIGHT", "100").start(simulator).await;
        let answers = join_all((0..30).map(|_| ask(&app, Form::Whole, "x"))).await;
        for answer in answers {
            assert_eq!(answer.failure(), (503, "server_error", "no_available_account"), "{}", answer.raw);
            assert!(answer.took < QUEUE_WAIT, "{:?}", answer.took);
        }
        assert!(refreshes(&app) <= 2, "{} refreshes", refreshes(&app));
    }
}

#[tokio::test]
async fn an_identity_that_hangs_delays_nobody() {
    for endless in [1, 2] {
        let accounts = ["ada", "bob", "eve", "ivy", "uma"].map(era_b);
        let simulator = Simulator::start(Scenario::with_accounts(accounts)).await.unwrap();
        for name in ["ada", "uma"].into_iter().take(endless) {
            simulator.script().set_default(
                Some(name),
                Endpoint::Refresh,
                Some(ScriptedReply::failing(ScriptedFailure::Silence)),
            );
        }
        let app = Setup::default().with("MAX_IN_FLIGHT", "4").start(simulator).await;
        let answers = join_all((0..6).map(|_| ask(&app, Form::Whole, "echo: x"))).await;
        for answer in answers {
            answer.must_say("x");
            assert!(answer.took < Duration::from_secs(30), "{:?}", answer.took);
        }
        // Those with a token answer all that comes, in turn if need be.
        let answers = join_all((0..40).map(|_| ask(&app, Form::Whole, "echo: y"))).await;
        // The same where none hangs: what this machine needs for so many at the moment.
        let well = Setup::default().with("MAX_IN_FLIGHT", "4").start(Simulator::start(crew(3)).await.unwrap()).await;
        let usual = join_all((0..40).map(|_| ask(&well, Form::Whole, "echo: y"))).await;
        let usual = usual.iter().map(|answer| answer.took).max().unwrap_or_default();
        for answer in answers {
            answer.must_say("y");
            // Two tokens are waited for at most, five seconds each; the rest is as slow as the machine is.
            assert!(answer.took < QUEUE_WAIT + 5 * usual, "{:?}, else {usual:?}", answer.took);
        }
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_on_the_same_identity() {
    for code in ["Unauthorized", "unauthorized"] {
        for endpoint in [Endpoint::NewChat, Endpoint::Completions] {
            for form in FORMS {
                let app = Setup::default().start(Simulator::start(crew(3)).await.unwrap()).await;
                app.simulator.script().queue(Some("ada"), endpoint, ScriptedReply::error(code));
                ask(&app, form, "echo: x").await.must_say("x");
                assert_eq!(accounts_of(&app.simulator.record().requests_to(endpoint)), ["ada", "ada"]);
                assert_eq!(refreshes(&app), 1);
                assert_eq!(counts(&app).await, (3, 0, 0));
            }
        }
    }
}

/// The second try of an answer goes to another account, whose token is renewed as that of the first one was.
#[tokio::test]
async fn each_account_has_a_renewal_of_its_own() {
    for form in FORMS {
        let app = Setup::default().start(Simulator::start(crew(2)).await.unwrap()).await;
        for name in ["ada", "bob"] {
            app.simulator.script().queue(Some(name), Endpoint::NewChat, ScriptedReply::error("Unauthorized"));
        }
        for text in ["No JSON.", r#"{"a": 1}"#] {
            app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::answer(text));
        }
        let mut body = question("Describe the sea.");
        body["response_format"] = json!({"type": "json_object"});
        send(&app, form, body).await.must_say(r#"{"a": 1}"#);
        let made = accounts_of(&app.simulator.record().requests_to(Endpoint::NewChat));
        assert_eq!(made, ["ada", "ada", "bob", "bob"]);
        assert_eq!(counts(&app).await, (2, 0, 0));
    }
}

#[tokio::test]
async fn a_real_401_is_the_tokens_fault_too() {
    let app = Setup::default().start(Simulator::start(crew(2)).await.unwrap()).await;
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::status(401));
    ask(&app, Form::Stream, "echo: x").await.must_say("x");
    assert_eq!(asked_accounts(&app.simulator), ["ada", "ada"]);
    assert_eq!(counts(&app).await, (2, 0, 0));
}

#[tokio::test]
async fn an_identity_whose_fresh_token_is_refused_rests() {
    for form in FORMS {
        let app = Setup::default().with("COOLDOWN_BASE", "1h").start(Simulator::start(crew(3)).await.unwrap()).await;
        app.simulator.script().set_default(
            Some("ada"),
            Endpoint::Completions,
            Some(ScriptedReply::error("Unauthorized")),
        );
        ask(&app, form, "echo: x").await.must_say("x");
        assert_eq!(asked_accounts(&app.simulator), ["ada", "ada", "bob"], "one repetition, then another account");
        assert_eq!(counts(&app).await, (2, 0, 1));
        for _ in 0..6 {
            ask(&app, form, "echo: x").await.must_say("x");
        }
        assert_eq!(asked_accounts(&app.simulator).iter().filter(|account| *account == "ada").count(), 2);
    }
}

#[tokio::test]
async fn a_renewal_that_is_refused_costs_no_retry() {
    for form in FORMS {
        let simulator = Simulator::start(Scenario::with_accounts(["ada", "bob", "cem"].map(era_b))).await.unwrap();
        let app = Setup::default().with("MAX_RETRIES", "1").start(simulator).await;
        until_all_healthy(&app).await;
        app.simulator.accounts().set_revoked("ada", true);
        app.simulator.accounts().expire("ada");
        app.simulator.script().queue(Some("bob"), Endpoint::Completions, ScriptedReply::status(503));
        // Ada has no login any more, Bob fails, and the one retry is left for Cem.
        ask(&app, form, "echo: x").await.must_say("x");
        assert_eq!(asked_accounts(&app.simulator).last().map(String::as_str), Some("cem"));
    }
}

#[tokio::test]
async fn fresh_tokens_refused_for_a_while_need_no_login() {
    for (count, cooldown) in [(4, "300s"), (1, "60s")] {
        let simulator = Simulator::start(crew(count)).await.unwrap();
        let app = Setup::default()
            .with("COOLDOWN_BASE", cooldown)
            .with("ADMIN_SECRET_KEY", "sk-of-the-owner")
            .start(simulator)
            .await;
        app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::error("Unauthorized")));
        for _ in 0..20 {
            let answer = ask(&app, Form::Whole, "x").await;
            assert_eq!(answer.failure(), (503, "server_error", "no_available_account"), "{}", answer.raw);
            assert!(answer.retry_after().is_some(), "{}", answer.raw);
        }
        let owner = app.client.get(app.url("/admin/health")).bearer_auth("sk-of-the-owner");
        let seen = json_of(owner.send().await.unwrap()).await;
        let reasons: Vec<_> = seen["accounts"].as_array().unwrap().iter().map(|account| &account["error"]).collect();
        assert_eq!(reasons, vec!["refused"; count], "{seen}");
        let sent = asked_accounts(&app.simulator).len();
        assert!(sent <= 3 * count, "{sent}");
        // The next look is one with the same token: another one would be refused likewise.
        let renewed = refreshes(&app);
        let mut left = PATIENCE.as_millis() / 50;
        while asked_accounts(&app.simulator).len() == sent {
            left = left.checked_sub(1).expect("never looked at again");
            ask(&app, Form::Whole, "x").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(refreshes(&app), renewed);
        app.simulator.script().set_default(None, Endpoint::Completions, None);
        let mut left = PATIENCE.as_millis() / 50;
        while counts(&app).await.0 < count as u64 {
            left = left.checked_sub(1).expect("never back");
            ask(&app, Form::Whole, "echo: x").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
}

#[tokio::test]
async fn refusals_everywhere_end_after_three_attempts() {
    for form in FORMS {
        let app = Setup::default().start(Simulator::start(crew(5)).await.unwrap()).await;
        app.simulator.script().set_default(None, Endpoint::Completions, Some(ScriptedReply::error("Unauthorized")));
        let answer = ask(&app, form, "x").await;
        assert_eq!(answer.failure(), (503, "server_error", "no_available_account"), "{}", answer.raw);
        assert_eq!(asked_accounts(&app.simulator).len(), 3, "{:?}", asked_accounts(&app.simulator));
    }
}

#[tokio::test]
async fn tokens_are_renewed_ahead_of_their_end_without_anybody_asking() {
    let short = AccountScript { access_token_seconds: 62, ..era_b("bob") };
    let app = start([short]).await;
    until_all_healthy(&app).await;
    // Due a minute before the end, so every other second here. On a busy machine the first may be noted late.
    app.simulator.record().wait_for_counts(|counters| counters.refreshes >= 3, PATIENCE).await.unwrap();
    let starts: Vec<_> =
        app.simulator.record().requests_to(Endpoint::Refresh).iter().map(|request| request.received_at).collect();
    assert!(starts[2] - starts[0] >= Duration::from_secs(1), "{:?}", starts[2] - starts[0]);
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    assert_eq!(counts(&app).await, (1, 0, 0));
}

/// S003-08: a token that is due by every other rule stays in use.
#[tokio::test]
async fn without_automatic_renewal_a_live_token_is_left_alone() {
    let short = AccountScript { access_token_seconds: 62, ..era_b("bob") };
    let simulator = Simulator::start(Scenario::with_accounts([short]).paced_ms(100)).await.unwrap();
    let setup = Setup::default().with("AUTO_REFRESH_TOKEN", "false").with("TOKEN_REFRESH_INTERVAL_HOURS", "0.0003");
    let app = setup.start(simulator).await;
    // An answer of 4 seconds: the token is due after 2 seconds by its life, and after 1 by the interval.
    let pieces: Vec<String> = (0..40).map(|number| format!("{number} ")).collect();
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::pieces(pieces.clone()));
    ask(&app, Form::Stream, "x").await.must_say(&pieces.concat());
    assert_eq!(app.simulator.record().requests_to(Endpoint::Refresh).len(), 1);
}

#[tokio::test]
async fn the_interval_of_the_owner_renews_tokens_that_would_live_on() {
    for era in [Era::A, Era::B] {
        let simulator = Simulator::start(Scenario::with_accounts([AccountScript::new("bob", era)])).await.unwrap();
        // 1.08 seconds.
        let app = Setup::default().with("TOKEN_REFRESH_INTERVAL_HOURS", "0.0003").start(simulator).await;
        let endpoint = if era == Era::A { Endpoint::Auths } else { Endpoint::Refresh };
        until("three renewals", || app.simulator.record().requests_to(endpoint).len() >= 3).await;
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
}

#[tokio::test]
async fn very_short_tokens_do_not_make_a_busy_loop() {
    let short = AccountScript { access_token_seconds: 3, ..era_b("bob") };
    let app = start([short]).await;
    until_all_healthy(&app).await;
    let (begun, before) = (Instant::now(), refreshes(&app));
    while begun.elapsed() < Duration::from_secs(4) {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    // One a second.
    let allowed = begun.elapsed().as_secs() as usize + 1;
    let made = refreshes(&app) - before;
    assert!(made <= allowed, "{made} refreshes, {allowed} allowed");
}

#[tokio::test]
async fn one_dead_identity_of_three_delays_nobody_at_the_start() {
    let simulator = Simulator::start(Scenario::with_accounts([
        AccountScript { revoked: true, ..era_b("bob") },
        era_b("cem"),
        era_b("dua"),
    ]))
    .await
    .unwrap();
    simulator.script().queue(
        Some("bob"),
        Endpoint::Refresh,
        ScriptedReply::error("Unauthorized").delayed(Duration::from_secs(600)),
    );
    let app = Setup::default().start(simulator).await;
    until_health(&app, |body| body["identityPool"]["healthy"] == 2).await;
    for _ in 0..4 {
        ask(&app, Form::Stream, "echo: x").await.must_say("x");
    }
    let of_bob = app.simulator.record().requests_to(Endpoint::Refresh).into_iter();
    let of_bob: Vec<_> = of_bob.filter(|request| request.is("bob", Endpoint::Refresh)).collect();
    assert!(of_bob.iter().all(|request| request.ended.is_none()), "his refresh was waited for");
    let seen = asked_accounts(&app.simulator);
    assert_eq!(seen.iter().filter(|account| *account == "cem").count(), 2, "{seen:?}");
}

#[tokio::test]
async fn refreshes_at_the_start_are_few_at_once_and_apart() {
    let names = ["a1", "a2", "a3", "a4", "a5"];
    let simulator = Simulator::start(Scenario::with_accounts(names.map(era_b))).await.unwrap();
    let app = Setup::default().start(simulator).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    assert!(refreshes(&app) < names.len(), "the first answer waits for one token, not for all");
    until_all_healthy(&app).await;
    let starts: Vec<_> =
        app.simulator.record().requests_to(Endpoint::Refresh).iter().map(|request| request.received_at).collect();
    assert_eq!(starts.len(), names.len());
    // A second apart; the way here may shorten a pause, but not their sum.
    for pair in starts.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(500), "{:?}", pair[1] - pair[0]);
    }
    let whole = starts[4] - starts[0];
    assert!(whole >= Duration::from_millis(3500), "{whole:?}");
}

#[tokio::test]
async fn a_refused_session_is_tried_no_more_than_once_in_a_while() {
    for form in FORMS {
        let app = start([AccountScript { revoked: true, ..era_b("bob") }]).await;
        for _ in 0..5 {
            let answer = ask(&app, form, "x").await;
            assert_eq!(answer.failure(), (503, "server_error", "no_available_account"), "{}", answer.raw);
        }
        assert!(refreshes(&app) <= 2, "{}", refreshes(&app));
        assert_eq!(asked_accounts(&app.simulator).len(), 0);
        assert_eq!(counts(&app).await.0, 0);
    }
}

#[tokio::test]
async fn a_failure_that_tells_nothing_about_the_session_leaves_the_token_in_use() {
    for reply in [
        ScriptedReply::status(503),
        ScriptedReply::challenge(ChallengeForm::Html, 200),
        ScriptedReply::challenge(ChallengeForm::Json, 200),
        ScriptedReply::failing(ScriptedFailure::Reset),
    ] {
        let simulator =
            Simulator::start(Scenario::with_accounts([AccountScript { access_token_seconds: 61, ..era_b("bob") }]))
                .await
                .unwrap();
        let app = Setup::default().start(simulator).await;
        until_all_healthy(&app).await;
        app.simulator.script().set_default(None, Endpoint::Refresh, Some(reply));
        let before = refreshes(&app);
        until("a failed refresh", || refreshes(&app) > before).await;
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
        assert_eq!(counts(&app).await, (1, 0, 0));
        let after = refreshes(&app);
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
        assert_eq!(refreshes(&app), after, "it waits before the next try");
    }
}

#[tokio::test]
async fn asked_by_hand_every_account_is_refreshed_and_not_twice_in_a_row() {
    let app = start([era_b("bob"), AccountScript::new("ada", Era::A)]).await;
    until_all_healthy(&app).await;
    let before = refreshes(&app);
    for round in 0..3 {
        let response = app.post("/refresh-token", &json!({})).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let body = json_of(response).await;
        assert_eq!(body["success"], true, "{round} {body}");
        assert_eq!(refreshes(&app), before + 2, "{round}");
    }
    let without_key = app.client.post(app.url("/refresh-token")).send().await.unwrap();
    assert_eq!(without_key.status(), 401);
}

#[tokio::test]
async fn asked_by_hand_twice_it_tells_what_the_first_time_brought() {
    let app = start([era_b("bob")]).await;
    until_all_healthy(&app).await;
    app.simulator.script().queue(Some("bob"), Endpoint::Refresh, ScriptedReply::status(503));
    let mut ages = Vec::new();
    for _ in 0..2 {
        let response = app.post("/refresh-token", &json!({})).send().await.unwrap();
        assert_eq!(response.status(), 500);
        let body = json_of(response).await;
        assert_eq!((&body["success"], &body["identities"][0]["success"]), (&json!(false), &json!(false)), "{body}");
        assert!(body["identities"][0]["error"].is_string(), "{body}");
        ages.push(body["identities"][0]["asked_seconds_ago"].is_u64());
    }
    assert_eq!(ages, [false, true]);
    assert_eq!(refreshes(&app), 2, "at the start and once by hand");
}

#[tokio::test]
async fn a_second_session_of_an_account_is_its_spare() {
    let simulator = Simulator::start(Scenario::with_accounts([era_b("bob")])).await.unwrap();
    let good = simulator.accounts().cookie("bob");
    // The first one names the same account, and is refused.
    let (name, value) = good.split(';').find_map(|pair| pair.trim().split_once("refresh_token=")).unwrap();
    let (head, rest) = value.split_once('.').unwrap();
    let (claims, _) = rest.split_once('.').unwrap();
    let spoilt = format!("{name}refresh_token={head}.{claims}.c3BvaWx0; cna=1");
    let app = Setup::default().with("COOKIE", &format!("{spoilt}|||{good}")).start(simulator).await;
    until_all_healthy(&app).await;
    let body = health(&app).await;
    assert_eq!(body["identityPool"]["total"], 1, "{body}");
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
}

#[tokio::test]
async fn a_token_of_another_account_is_never_used() {
    let simulator = Simulator::start(Scenario::with_accounts([era_b("bob"), era_b("eve")])).await.unwrap();
    let cookie = simulator.accounts().cookie("bob");
    let setup = Setup::default().with("COOKIE", &cookie).with("ADMIN_SECRET_KEY", "sk-of-the-owner");
    let app = setup.start(simulator).await;
    until_all_healthy(&app).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    // Bob's refresh is answered with a token and cookies of Eve.
    let body = json!({"success": true, "data": {"access_token": app.simulator.accounts().bearer("eve")}}).to_string();
    let content_type = "application/json".to_owned();
    let raw = RawScript { status: 200, content_type, body, base64: false };
    let mut reply = ScriptedReply::failing(ScriptedFailure::Raw(raw));
    reply.headers.insert("set-cookie".to_owned(), "refresh_token=eves; Path=/".to_owned());
    app.simulator.script().queue(Some("bob"), Endpoint::Refresh, reply);
    app.simulator.accounts().expire("bob");
    let before = asked_accounts(&app.simulator).len();
    for _ in 0..3 {
        assert_eq!(ask(&app, Form::Whole, "x").await.failure(), (503, "server_error", "no_available_account"));
    }
    assert!(asked_accounts(&app.simulator).iter().skip(before).all(|account| account != "eve"));
    let owner = app.client.get(app.url("/admin/health")).bearer_auth("sk-of-the-owner");
    let seen = json_of(owner.send().await.unwrap()).await;
    assert_eq!(seen["accounts"][0]["error"], "login_needed", "{seen}");
    let health = json_of(app.get("/health").send().await.unwrap()).await;
    assert_eq!(health["token"]["valid"], false, "{health}");
    // The cookies are Bob's still, so another look finds him well.
    let response = app.post("/refresh-token", &json!({})).send().await.unwrap();
    assert_eq!(response.status(), 200);
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    assert_eq!(app.simulator.record().violations(), Vec::<String>::new());
}

#[tokio::test]
async fn the_owner_can_bring_a_dead_account_back_by_hand() {
    let app = Setup::default().start(Simulator::start(crew(1)).await.unwrap()).await;
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::error("Forbidden"));
    assert_eq!(ask(&app, Form::Whole, "x").await.code(), "no_available_account");
    assert_eq!(counts(&app).await, (0, 0, 1));
    assert_eq!(ask(&app, Form::Whole, "x").await.code(), "no_available_account");
    let response = app.post("/refresh-token", &json!({})).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(counts(&app).await, (1, 0, 0));
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
}

#[tokio::test]
async fn a_clock_that_is_ahead_is_noticed_and_lives_are_counted_by_the_upstreams() {
    let date = |offset: i64| {
        let moment = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(offset);
        moment.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    for offset in [-3600, 3600] {
        // The scripted date stands still from here on.
        let before = Instant::now();
        let simulator = Simulator::start(Scenario::with_accounts([era_b("bob")])).await.unwrap();
        // The upstream's clock, as its answers tell it.
        let mut reply = ScriptedReply::default();
        reply.headers.insert("date".to_owned(), date(offset));
        for endpoint in [Endpoint::Refresh, Endpoint::Completions, Endpoint::NewChat, Endpoint::Models] {
            simulator.script().set_default(None, endpoint, Some(reply.clone()));
        }
        let app = Setup::default().start(simulator).await;
        // A token of 15 minutes, which ends later on a clock that is ahead, and has ended on one that is far behind.
        if offset < 0 {
            until_all_healthy(&app).await;
            ask(&app, Form::Whole, "echo: x").await.must_say("x");
        }
        let seen = until_health(&app, |body| body["upstream"]["clockSkewSeconds"] != 0).await;
        let ahead = seen["upstream"]["clockSkewSeconds"].as_i64().unwrap() + offset;
        let slack = i64::try_from(before.elapsed().as_secs()).unwrap() + 5;
        assert!(ahead.abs() <= slack, "{seen}");
        if offset < 0 {
            let left = seen["token"]["remainingTime"].as_i64().unwrap() / 1000;
            assert!((4500 - 60 - slack..=4500 + slack).contains(&left), "{seen}");
        }
    }
}
