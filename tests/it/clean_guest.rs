//! Only chats that this server made are deleted, all of them, sooner or later, and none if the owner keeps them.

use std::time::Duration;

use futures_util::future::join_all;
use qwen_bridge::store::Store;
use simulator::RecordedRequest;
use simulator::Simulator;
use simulator::script::{AccountScript, Endpoint, Era, ErrorScript, Scenario, ScriptedReply};

use crate::support::app::{PATIENCE, Setup, TestApp};
use crate::support::oracle::{FORMS, Form, ask, crew, until};

/// Chats of one answer each. `continued` tests those that are kept to go on in.
fn once() -> Setup {
    Setup::default().with("CONTINUE_CHATS", "false")
}

async fn start(count: usize) -> TestApp {
    once().start(Simulator::start(crew(count)).await.unwrap()).await
}

fn is_clean(app: &TestApp) -> bool {
    app.simulator.stored().chats(None).iter().all(|chat| chat.is_old)
}

fn is_delete(request: &RecordedRequest) -> bool {
    request.endpoint == Some(Endpoint::DeleteChat)
}

#[track_caller]
fn must_have_kept_the_owners_chats(app: &TestApp, accounts: usize) {
    let old = app.simulator.stored().chats(None).iter().filter(|chat| chat.is_old).count();
    assert_eq!(old, 3 * accounts);
    assert_eq!(app.simulator.record().violations(), Vec::<String>::new());
}

#[track_caller]
fn must_have_left_the_owners_chats(app: &TestApp, accounts: usize) {
    must_have_kept_the_owners_chats(app, accounts);
    assert_eq!(
        app.simulator.record().requests_to(Endpoint::ListChats).len(),
        0,
        "the owner's own chats are not listed"
    );
    assert_eq!(app.simulator.record().requests_to(Endpoint::ReadChat).len(), 0);
}

#[tokio::test]
async fn every_chat_is_deleted_after_its_answer() {
    let app = start(2).await;
    for form in FORMS {
        ask(&app, form, "echo: x").await.must_say("x");
    }
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::status(500));
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    app.simulator.script().queue(None, Endpoint::Completions, ScriptedReply::error("data_inspection_failed"));
    assert_eq!(ask(&app, Form::Whole, "x").await.code(), "content_filter");
    until("all chats to be deleted", || is_clean(&app) && app.simulator.record().counts().deletes == 5).await;
    must_have_left_the_owners_chats(&app, 2);
}

#[tokio::test]
async fn a_chat_is_not_deleted_before_its_answer_is_over() {
    let app = start(1).await;
    app.simulator.script().queue(
        None,
        Endpoint::Completions,
        ScriptedReply::numbered(300).paced(Duration::from_millis(10)),
    );
    let answer = ask(&app, Form::Stream, "x").await;
    assert_eq!(crate::support::oracle::judge_numbered(&answer, 300), 300);
    let finished = app.simulator.record().requests_to(Endpoint::Completions).remove(0).ended.unwrap().at;
    let deleted = app.simulator.record().wait_until(is_delete, PATIENCE).await.unwrap();
    assert!(deleted.received_at > finished);
}

#[tokio::test]
async fn many_chats_go_in_one_call() {
    let app = start(1).await;
    join_all((0..20).map(|_| ask(&app, Form::Whole, "echo: x"))).await;
    until("all chats to be deleted", || is_clean(&app)).await;
    let calls = app.simulator.record().requests().iter().filter(|request| is_delete(request)).count();
    assert!(calls <= 2, "{calls} calls for twenty chats");
    must_have_left_the_owners_chats(&app, 1);
}

#[tokio::test]
async fn the_owner_may_keep_them() {
    let app = once().with("KEEP_CHATS", "true").start(Simulator::start(crew(1)).await.unwrap()).await;
    for form in FORMS {
        ask(&app, form, "echo: x").await.must_say("x");
    }
    let (simulator, state_dir) = app.stop().await;
    assert_eq!(simulator.stored().chats(None).iter().filter(|chat| !chat.is_old).count(), 2);
    // Kept for good: a later run without the setting does not know them.
    let app = once().in_dir(state_dir).start(simulator).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    app.simulator.record().wait_until(is_delete, PATIENCE).await.unwrap();
    let (simulator, _) = app.stop().await;
    assert_eq!(simulator.stored().chats(None).iter().filter(|chat| !chat.is_old).count(), 2);
}

#[tokio::test]
async fn chats_of_an_earlier_run_are_deleted_when_they_are_no_longer_kept() {
    let app = start(1).await;
    app.simulator.script().set_default(None, Endpoint::DeleteChat, Some(ScriptedReply::status(503)));
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    let (simulator, state_dir) = app.stop().await;
    simulator.script().set_default(None, Endpoint::DeleteChat, None);
    let setup = once().reloading().with("KEEP_CHATS", "true").with("ADMIN_SECRET_KEY", "sk-of-the-owner");
    let app = setup.in_dir(state_dir).start(simulator).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    assert!(!is_clean(&app), "kept for now");
    let request = app.client.patch(app.url("/admin/settings")).bearer_auth("sk-of-the-owner");
    let request = request.header("content-type", "application/json").body("{\"KEEP_CHATS\": false}");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let new = || app.simulator.stored().chats(None).iter().filter(|chat| !chat.is_old).count();
    until("the chat of the ledger to be deleted", || new() == 1).await;
    // The other one was made to be kept.
    let (simulator, _) = app.stop().await;
    assert_eq!(simulator.stored().chats(None).iter().filter(|chat| !chat.is_old).count(), 1);
}

#[tokio::test]
async fn a_deletion_that_fails_is_tried_again() {
    for reply in [
        ScriptedReply::status(503),
        ScriptedReply::error_with(ErrorScript { code: "internal_error".to_owned(), ..ErrorScript::default() }),
    ] {
        let app = start(1).await;
        app.simulator.script().queue(None, Endpoint::DeleteChat, reply);
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
        until("the chat to be deleted", || is_clean(&app)).await;
        assert_eq!(app.simulator.record().requests().iter().filter(|request| is_delete(request)).count(), 2);
        must_have_left_the_owners_chats(&app, 1);
    }
}

#[tokio::test]
async fn an_account_that_hangs_holds_up_neither_the_others_nor_the_stop() {
    let app = start(6).await;
    let hangs = ScriptedReply::default().delayed(PATIENCE * 2);
    app.simulator.script().set_default(Some("cem"), Endpoint::DeleteChat, Some(hangs));
    for _ in 0..6 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    let of_cem = || {
        let requests = app.simulator.record().requests();
        requests.into_iter().filter(|request| request.is("cem", Endpoint::DeleteChat)).collect::<Vec<_>>()
    };
    until("all chats to be deleted or tried", || {
        let left = app.simulator.stored().chats(None).iter().filter(|chat| !chat.is_old).count();
        left == 1 && !of_cem().is_empty()
    })
    .await;
    assert_eq!(of_cem().iter().filter(|request| request.client_closed_at().is_some()).count(), 0, "it hangs still");
    let (simulator, state_dir) = app.stop().await;
    let ended = simulator.record().requests().into_iter().filter(|request| request.is("cem", Endpoint::DeleteChat));
    assert_eq!(ended.filter(|request| request.client_closed_at().is_none()).count(), 0, "none is waited for");
    // It is deleted by the next run.
    simulator.script().set_default(Some("cem"), Endpoint::DeleteChat, None);
    let app = once().in_dir(state_dir).start(simulator).await;
    until("the chat to be deleted", || is_clean(&app)).await;
    must_have_left_the_owners_chats(&app, 6);
}

#[tokio::test]
async fn a_chat_that_is_gone_already_counts_as_deleted() {
    let app = start(1).await;
    app.simulator.script().set_default(None, Endpoint::DeleteChat, Some(ScriptedReply::error("CHAT_NOT_FOUND")));
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    app.simulator.record().wait_until(is_delete, PATIENCE).await.unwrap();
    let (simulator, state_dir) = app.stop().await;
    let before = simulator.record().requests().iter().filter(|request| is_delete(request)).count();
    let app = once().in_dir(state_dir).start(simulator).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    let (simulator, _) = app.stop().await;
    let after: Vec<_> = simulator.record().requests().into_iter().filter(is_delete).skip(before).collect();
    assert_eq!(after.len(), 1, "only the new one");
}

#[tokio::test]
async fn a_token_that_has_ended_is_renewed_before_chats_are_deleted() {
    let bob = AccountScript { access_token_seconds: 2, ..AccountScript::new("bob", Era::B) };
    let simulator = Simulator::start(Scenario::with_accounts([bob])).await.unwrap();
    let setup = Setup::default().with("AUTO_REFRESH_TOKEN", "false").with("CONTINUE_IDLE", "4s");
    let app = setup.start(simulator).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    until("the chat to be deleted", || is_clean(&app)).await;
    assert_eq!(app.simulator.record().requests().iter().filter(|request| is_delete(request)).count(), 1);
}

#[tokio::test]
async fn what_could_not_be_deleted_is_deleted_after_a_restart() {
    let app = start(2).await;
    app.simulator.script().set_default(None, Endpoint::DeleteChat, Some(ScriptedReply::status(503)));
    for _ in 0..4 {
        ask(&app, Form::Whole, "echo: x").await.must_say("x");
    }
    let (simulator, state_dir) = app.stop().await;
    assert_eq!(simulator.record().counts().deletes, 0);
    simulator.script().set_default(None, Endpoint::DeleteChat, None);
    let app = once().in_dir(state_dir).start(simulator).await;
    until("the chats of the last run to be deleted", || is_clean(&app)).await;
    assert_eq!(app.simulator.record().counts().deletes, 4);
    must_have_left_the_owners_chats(&app, 2);
    let (simulator, state_dir) = app.stop().await;
    let before = simulator.record().requests().iter().filter(|request| is_delete(request)).count();
    let app = once().in_dir(state_dir).start(simulator).await;
    ask(&app, Form::Whole, "echo: x").await.must_say("x");
    let (simulator, _) = app.stop().await;
    let after = simulator.record().requests().iter().filter(|request| is_delete(request)).count();
    assert_eq!(after, before + 1, "the ledger is empty but for the new chat");
}

#[tokio::test]
async fn a_stop_deletes_what_it_can_before_it_ends() {
    let app = start(1).await;
    for form in FORMS {
        ask(&app, form, "echo: x").await.must_say("x");
    }
    let (simulator, _) = app.stop().await;
    assert!(simulator.stored().chats(None).iter().all(|chat| chat.is_old));
    assert_eq!(simulator.record().counts().deletes, 2);
}

#[tokio::test]
async fn a_killed_servers_chats_are_deleted_by_the_next() {
    let app = start(1).await;
    app.simulator.script().queue(
        None,
        Endpoint::Completions,
        ScriptedReply::numbered(2000).paced(Duration::from_millis(10)),
    );
    {
        let asking = ask(&app, Form::Stream, "x");
        let begun = app.simulator.record().wait_for_counts(|counters| counters.open_streams == 1, PATIENCE);
        tokio::select! {
            _ = asking => panic!("ended early"),
            begun = begun => assert!(begun.is_some()),
        }
    }
    // Dropped without a drain, as when the process is killed.
    let TestApp { simulator, state_dir, .. } = app;
    let app = once().in_dir(state_dir).start(simulator).await;
    until("the chat of the killed server to be deleted", || is_clean(&app)).await;
    // The list of the account may be looked at after a kill, for chats whose ids were not written down any more.
    must_have_kept_the_owners_chats(&app, 1);
}

#[tokio::test]
async fn a_chat_that_a_killed_server_was_making_is_found_by_the_next() {
    let app = Setup::default().start(Simulator::start(crew(1)).await.unwrap()).await;
    // One that is kept for its conversation, made under the same title.
    ask(&app, Form::Whole, "echo: kept").await.must_say("kept");
    let is_kept = || Store::open(app.state_dir.path()).unwrap().1.chats.iter().any(|chat| !chat.answers.is_empty());
    until("the first chat to be written down", is_kept).await;
    let new_chats = |app: &TestApp| app.simulator.stored().chats(None).iter().filter(|chat| !chat.is_old).count();
    let slow = ScriptedReply::default().delayed(Duration::from_millis(500));
    app.simulator.script().queue(None, Endpoint::NewChat, slow);
    let asked = app.simulator.record().requests_to(Endpoint::NewChat).len();
    // The disk as a kill leaves it while the upstream makes the chat.
    let disk = tempfile::tempdir().unwrap();
    let killing = async {
        until("the next chat to be asked for", || app.simulator.record().requests_to(Endpoint::NewChat).len() > asked)
            .await;
        for entry in app.state_dir.path().read_dir().unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, disk.path().join(path.file_name().unwrap())).unwrap();
        }
        assert_eq!(new_chats(&app), 1, "the chat is made later");
    };
    let (answer, ()) = tokio::join!(ask(&app, Form::Whole, "echo: x"), killing);
    answer.must_say("x");
    let TestApp { simulator, .. } = app;
    let app = Setup::default().in_dir(disk).start(simulator).await;
    assert_eq!(new_chats(&app), 2);
    until("the chat of the killed server to be deleted", || new_chats(&app) == 1).await;
    must_have_kept_the_owners_chats(&app, 1);
    let (_simulator, state_dir) = app.stop().await;
    let (_, loaded) = Store::open(state_dir.path()).unwrap();
    assert_eq!((loaded.chats.len(), loaded.chats[0].answers.len()), (1, 1), "the one that is kept");
    assert_eq!(loaded.intents.len(), 1, "a chat may still be in the making, so it is looked for once more");
}

#[tokio::test]
async fn a_chat_that_was_refused_is_not_looked_for() {
    let app = start(1).await;
    app.simulator.script().queue(None, Endpoint::NewChat, ScriptedReply::error("RateLimited"));
    assert_eq!(ask(&app, Form::Whole, "x").await.status, 429);
    let (_simulator, state_dir) = app.stop().await;
    assert_eq!(Store::open(state_dir.path()).unwrap().1.intents, []);
    // What never left this machine made nothing.
    let simulator = Simulator::start(crew(1)).await.unwrap();
    let app = Setup::default().with("QWEN_WEB_BASE_URL", "http://127.0.0.1:1/").start(simulator).await;
    assert_eq!(ask(&app, Form::Whole, "x").await.status, 502);
    let (_simulator, state_dir) = app.stop().await;
    assert_eq!(Store::open(state_dir.path()).unwrap().1.intents, []);
    // Without a word of the upstream it is not known.
    let app = start(1).await;
    app.simulator.script().set_default(None, Endpoint::NewChat, Some(ScriptedReply::status(502)));
    assert_eq!(ask(&app, Form::Whole, "x").await.status, 502);
    let (_simulator, state_dir) = app.stop().await;
    assert_eq!(Store::open(state_dir.path()).unwrap().1.intents.len(), 1);
}
