//! Continued conversations: the new turn goes to the chat of the last answer, and nothing else is sent. Whatever is in
//! the way, callers see no difference.

use qwen_bridge::store::Store;
use serde_json::{Value, json};
use simulator::script::{CutHow, Endpoint, ErrorScript, ScriptedReply, StreamError};
use simulator::{RecordedRequest, Simulator};

use crate::support::app::{Asked, PATIENCE, Setup, TestApp, json_of};
use crate::support::files::image_part;
use crate::support::oracle::{FORMS, Form, asked_accounts, asked_chats, counts, crew, read, send, until};

/// A server in front of so many accounts.
pub(crate) async fn start(accounts: usize) -> TestApp {
    start_with(Setup::default(), accounts).await
}

pub(crate) async fn start_with(setup: Setup, accounts: usize) -> TestApp {
    setup.start(Simulator::start(crew(accounts).paced_ms(0)).await.unwrap()).await
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

pub(crate) fn says(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

pub(crate) fn body(messages: &[Value]) -> Value {
    json!({"model": "qwen3-max", "messages": messages})
}

/// Sends a conversation and gives the text of its answer.
async fn ask(app: &TestApp, form: Form, messages: &[Value]) -> String {
    let answer = send(app, form, body(messages)).await;
    assert_eq!((answer.status, answer.finish.as_deref()), (200, Some("stop")), "{}", answer.raw);
    answer.content
}

/// Two turns: `Hello`, and `And now?` behind its answer. Gives the whole conversation.
async fn two_turns(app: &TestApp) -> Vec<Value> {
    let mut messages = vec![user("echo: one")];
    messages.push(says(&ask(app, Form::Stream, &messages).await));
    messages.push(user("echo: two"));
    messages.push(says(&ask(app, Form::Whole, &messages).await));
    messages
}

/// The completions so far.
pub(crate) fn sent(app: &TestApp) -> Vec<RecordedRequest> {
    app.simulator.record().requests_to(Endpoint::Completions)
}

/// The answers that the last message follows, by the upstream's ids in all four places; `None` for a first message.
#[track_caller]
pub(crate) fn parent(asked: &Asked) -> Option<String> {
    let (body, message) = (&asked.0, asked.message());
    assert_eq!(body["parent_id"], message["parent_id"], "{body}");
    assert_eq!(body["parent_id"], message["parentId"], "{body}");
    assert_eq!(body["parentId"], json!(body["parent_id"].as_str().unwrap_or_default()), "{body}");
    body["parent_id"].as_str().map(str::to_owned)
}

pub(crate) fn chats_made(app: &TestApp) -> usize {
    app.simulator.record().requests_to(Endpoint::NewChat).len()
}

/// What the model had read when it gave the last answer: each message of its chat, oldest first.
fn read_by_model(app: &TestApp) -> Vec<String> {
    let response_id = sent(app).last().unwrap().response_id.clone().unwrap();
    let mut path = app.simulator.stored().path(&response_id).unwrap();
    path.pop();
    path.into_iter().map(|(_, content)| content).collect()
}

/// Fails unless the last question was the whole conversation in a new chat.
#[track_caller]
fn must_have_begun_anew(app: &TestApp, first_words: &str) {
    assert_eq!(parent(&app.asked()), None);
    let asked = app.asked();
    assert!(asked.prompt().contains(first_words), "{}", asked.prompt());
    let chats = asked_chats(&app.simulator);
    assert!(!chats[..chats.len() - 1].contains(chats.last().unwrap()), "a chat of an earlier question");
    app.assert_clean();
}

/// Fails unless the last question was this prompt, behind that earlier question, counted from 0.
#[track_caller]
pub(crate) fn must_have_continued(app: &TestApp, question: usize, prompt: &str) {
    let sent = sent(app);
    assert_eq!(parent(&app.asked()), sent[question].response_id, "the answer that is continued");
    assert_eq!(app.asked().prompt(), prompt);
    let chats = asked_chats(&app.simulator);
    assert_eq!(chats[question], *chats.last().unwrap());
    app.assert_clean();
}

#[tokio::test]
async fn only_the_new_turn_is_sent() {
    for form in FORMS {
        let app = start(1).await;
        let mut messages = vec![json!({"role": "system", "content": "Be terse. ".repeat(4000)}), user("echo: one")];
        messages.push(says(&ask(&app, form, &messages).await));
        messages.push(user("echo: two"));
        assert_eq!(ask(&app, form, &messages).await, "two");
        must_have_continued(&app, 0, "echo: two");
        let bytes: Vec<usize> = sent(&app).iter().map(|request| request.body_bytes).collect();
        assert!(bytes[0] > 40_000 && bytes[1] < 2_000, "{bytes:?}");
        messages.push(says("two"));
        messages.push(user("echo: three"));
        messages.push(user("echo: four"));
        assert_eq!(ask(&app, form, &messages).await, "four");
        assert_eq!(parent(&app.asked()), sent(&app)[1].response_id);
        let asked = app.asked();
        let prompt = asked.prompt();
        assert!(prompt.ends_with("<user>\necho: three\n</user>\n\n<user>\necho: four\n</user>"), "{prompt}");
        assert_eq!(chats_made(&app), 1);
        assert_eq!(read_by_model(&app)[1..4], ["one", "echo: two", "two"]);
    }
}

#[tokio::test]
async fn answers_are_known_in_every_form_that_sdks_replay() {
    let app = start(1).await;
    for replay in [
        json!({"role": "assistant", "content": "one"}),
        json!({"role": "assistant", "content": "one", "refusal": null, "annotations": [], "audio": null}),
        json!({"role": "assistant", "content": "one", "reasoning_content": "Hm.", "tool_calls": null}),
        json!({"role": "assistant", "content": [{"type": "text", "text": "one"}]}),
        json!({"role": "assistant", "content": [{"type": "output_text", "text": "\none\r\n"}]}),
    ] {
        let first = sent(&app).len();
        let question = user(&format!("{first} echo: one"));
        ask(&app, Form::Whole, std::slice::from_ref(&question)).await;
        let parts = json!({"role": "user", "content": [{"type": "text", "text": question["content"]}]});
        ask(&app, Form::Stream, &[parts, replay, user("And?")]).await;
        must_have_continued(&app, first, "And?");
    }
}

#[tokio::test]
async fn edits_branches_and_regenerations_follow_their_own_answers() {
    let app = start(1).await;
    let talk = two_turns(&app).await;
    must_have_continued(&app, 0, "echo: two");
    // Regenerated: the same question behind the same answer.
    ask(&app, Form::Stream, &talk[..3]).await;
    must_have_continued(&app, 0, "echo: two");
    // Edited: another question there.
    ask(&app, Form::Whole, &[&talk[..2], &[user("echo: other")]].concat()).await;
    must_have_continued(&app, 0, "echo: other");
    assert_eq!(read_by_model(&app), ["echo: one", "one", "echo: other"]);
    // The end of the first branch, and the end of the edited one.
    ask(&app, Form::Whole, &[&talk[..], &[user("echo: three")]].concat()).await;
    must_have_continued(&app, 2, "echo: three");
    assert_eq!(read_by_model(&app), ["echo: one", "one", "echo: two", "two", "echo: three"]);
    ask(&app, Form::Whole, &[&talk[..2], &[user("echo: other"), says("other"), user("x")]].concat()).await;
    must_have_continued(&app, 3, "x");
    assert_eq!(chats_made(&app), 1);
    // The first question again, or an answer that was edited, is another conversation.
    ask(&app, Form::Whole, &talk[..1]).await;
    must_have_begun_anew(&app, "echo: one");
    ask(&app, Form::Whole, &[talk[0].clone(), says("One!"), user("echo: x")]).await;
    must_have_begun_anew(&app, "echo: one");
}

#[tokio::test]
async fn what_the_answer_depends_on_has_to_be_the_same() {
    let app = start(1).await;
    let talk = [user("echo: one"), says("one"), user("echo: two")];
    let tools = json!([{"type": "function", "function": {"name": "ls"}}]);
    for (change, is_continued) in [
        (json!({}), true),
        (json!({"temperature": 0.1, "user": "x"}), true),
        (json!({"model": "qwen3-max-thinking"}), true),
        (json!({"enable_thinking": true}), true),
        (json!({"model": "qwen3.7-max"}), false),
        (json!({"model": "qwen3-max-search"}), false),
        (json!({"tools": tools}), false),
        (json!({"tools": tools, "tool_choice": "none"}), true),
        (json!({"response_format": {"type": "json_object"}}), false),
    ] {
        let first = sent(&app).len();
        ask(&app, Form::Whole, &talk[..1]).await;
        let mut body = body(&talk);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = send(&app, Form::Stream, body).await;
        if change.get("response_format").is_none() {
            assert_eq!(answer.status, 200, "{change}: {}", answer.raw);
        }
        let place = if is_continued { sent(&app)[first].response_id.clone() } else { None };
        let second = Asked(sent(&app)[first + 1].body.clone().unwrap());
        assert_eq!(parent(&second), place, "{change}");
    }
    let system = |text: &str| json!({"role": "system", "content": text});
    ask(&app, Form::Whole, &[system("A"), talk[0].clone()]).await;
    let with_system = |text: &str| [&[system(text)], &talk[..]].concat();
    ask(&app, Form::Whole, &with_system("B")).await;
    must_have_begun_anew(&app, "echo: one");
    let first = sent(&app).len() - 2;
    ask(&app, Form::Whole, &with_system("A")).await;
    must_have_continued(&app, first, "echo: two");
}

#[tokio::test]
async fn chats_are_never_shared_by_callers() {
    let app = start_with(Setup::default().with("OPENAI_API_KEYS", "sk-other"), 1).await;
    let talk = two_turns(&app).await;
    let all = [&talk[..], &[user("echo: three")]].concat();
    let as_other = |body: &Value| {
        let request = app.client.post(app.url("/v1/chat/completions")).bearer_auth("sk-other");
        request.header("content-type", "application/json").body(body.to_string())
    };
    let answer = read(as_other(&body(&all)), Form::Whole).await;
    assert_eq!(answer.content, "three");
    must_have_begun_anew(&app, "echo: one");
    // Both go on, each in their own chat.
    let chats = asked_chats(&app.simulator);
    let more = [&all[..], &[says("three"), user("echo: four")]].concat();
    read(as_other(&body(&more)), Form::Whole).await;
    must_have_continued(&app, 2, "echo: four");
    ask(&app, Form::Whole, &all).await;
    must_have_continued(&app, 1, "echo: three");
    assert_eq!(asked_chats(&app.simulator)[3..], [chats[2].clone(), chats[0].clone()]);
}

#[tokio::test]
async fn the_identity_with_the_chat_is_asked() {
    let app = start(3).await;
    let mut talks: Vec<Vec<Value>> = Vec::new();
    for name in ["a", "b", "c"] {
        let messages = vec![user(&format!("{name} echo: one"))];
        ask(&app, Form::Whole, &messages).await;
        talks.push([&messages[..], &[says("one"), user("echo: two")]].concat());
    }
    assert_eq!(asked_accounts(&app.simulator), ["ada", "bob", "cem"]);
    for (place, talk) in talks.iter().enumerate().rev() {
        ask(&app, Form::Stream, talk).await;
        must_have_continued(&app, place, "echo: two");
    }
    assert_eq!(asked_accounts(&app.simulator)[3..], ["cem", "bob", "ada"]);
}

#[tokio::test]
async fn an_identity_that_cannot_be_asked_is_replaced() {
    for rest in [ScriptedReply::error("RateLimited"), ScriptedReply::status(500)] {
        let app = start(2).await;
        let talk = [user("echo: one"), says("one"), user("echo: two")];
        ask(&app, Form::Whole, &talk[..1]).await;
        app.simulator.script().queue(Some("ada"), Endpoint::Completions, rest);
        assert_eq!(ask(&app, Form::Stream, &talk).await, "two");
        assert_eq!(asked_accounts(&app.simulator), ["ada", "ada", "bob"]);
        must_have_begun_anew(&app, "echo: one");
        ask(&app, Form::Whole, &[&talk[..], &[says("two"), user("x")]].concat()).await;
        must_have_continued(&app, 2, "x");
    }
    // One that rests is not even asked.
    let app = start(2).await;
    let talk = [user("echo: one"), says("one"), user("echo: two")];
    ask(&app, Form::Whole, &talk[..1]).await;
    app.simulator.script().queue(Some("bob"), Endpoint::Completions, ScriptedReply::status(500));
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::error("RateLimited"));
    assert_eq!(send(&app, Form::Whole, body(&[user("x")])).await.status, 429);
    assert_eq!(ask(&app, Form::Whole, &talk).await, "two");
    assert_eq!(asked_accounts(&app.simulator), ["ada", "bob", "ada", "bob"]);
    must_have_begun_anew(&app, "echo: one");
}

#[tokio::test]
async fn a_chat_that_is_gone_is_replaced_unseen() {
    let in_stream = |code: &str| {
        let error = StreamError { code: code.to_owned(), after: 1, ..StreamError::default() };
        ScriptedReply::default().breaking(error)
    };
    for fault in [
        ScriptedReply::error("CHAT_NOT_FOUND"),
        ScriptedReply::error("PARENT_NOT_FOUND"),
        in_stream("PARENT_NOT_FOUND"),
        in_stream("CHAT_NOT_FOUND"),
    ] {
        for form in FORMS {
            // Without a retry to spend.
            let app = start_with(Setup::default().with("MAX_RETRIES", "0"), 2).await;
            let talk = [user("echo: one"), says("one"), user("echo: two")];
            ask(&app, form, &talk[..1]).await;
            app.simulator.script().queue(None, Endpoint::Completions, fault.clone());
            assert_eq!(ask(&app, form, &talk).await, "two");
            assert_eq!(asked_accounts(&app.simulator), ["ada", "ada", "ada"], "{fault:?}");
            must_have_begun_anew(&app, "echo: one");
            assert_eq!(counts(&app).await, (2, 0, 0));
            // The new chat is the one to go on in.
            ask(&app, form, &[&talk[..], &[says("two"), user("x")]].concat()).await;
            must_have_continued(&app, 2, "x");
        }
    }
}

#[tokio::test]
async fn a_chat_that_is_busy_is_left_alone() {
    let app = start(1).await;
    let talk = two_turns(&app).await;
    let slow = ScriptedReply::numbered(400).paced(std::time::Duration::from_millis(10));
    app.simulator.script().queue(None, Endpoint::Completions, slow);
    let first = [&talk[..2], &[user("a")]].concat();
    let second = [&talk[..2], &[user("echo: b")]].concat();
    let first = send(&app, Form::Stream, body(&first));
    let answers = async {
        app.simulator.record().wait_for_counts(|counts| counts.open_streams == 1, PATIENCE).await.unwrap();
        assert_eq!(ask(&app, Form::Stream, &second).await, "b");
        must_have_begun_anew(&app, "echo: one");
    };
    tokio::join!(first, answers);
    app.assert_clean();
}

#[tokio::test]
async fn an_answer_that_was_not_told_whole_is_not_continued() {
    let whole = "first second third";
    for (script, change, shown) in [
        (ScriptedReply::answer(whole), json!({"stop": ["third"]}), "first second "),
        (ScriptedReply::answer(whole), json!({"max_tokens": 2}), "first secon"),
        (ScriptedReply::pieces(["first ", "second"]).cut_after(2, CutHow::CleanEnd), json!({}), "first "),
    ] {
        let app = start(1).await;
        app.simulator.script().queue(None, Endpoint::Completions, script);
        let mut request = body(&[user("echo: x")]);
        request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = send(&app, Form::Stream, request).await;
        assert_eq!(answer.content, shown, "{}", answer.raw);
        until("the chat to be deleted", || app.simulator.record().counts().deletes == 1).await;
        for replay in [shown, shown.trim(), whole] {
            ask(&app, Form::Whole, &[user("echo: x"), says(replay), user("echo: y")]).await;
            must_have_begun_anew(&app, "echo: x");
        }
    }
}

#[tokio::test]
async fn a_caller_who_leaves_can_go_on_from_the_answer_before() {
    let app = start(1).await;
    let talk = two_turns(&app).await;
    let slow = ScriptedReply::numbered(2000).paced(std::time::Duration::from_millis(10));
    app.simulator.script().queue(None, Endpoint::Completions, slow);
    let left = [&talk[..], &[user("left")]].concat();
    {
        let asking = send(&app, Form::Stream, body(&left));
        let begun = app.simulator.record().wait_for_counts(|counts| counts.open_streams == 1, PATIENCE);
        tokio::select! {
            _ = asking => panic!("ended early"),
            begun = begun => assert!(begun.is_some()),
        }
    }
    app.simulator.record().wait_until(|request| request.endpoint == Some(Endpoint::Stop), PATIENCE).await.unwrap();
    until("the chat to be free", || app.simulator.stored().chats(None).iter().all(|chat| !chat.is_busy)).await;
    assert_eq!(ask(&app, Form::Stream, &[&talk[..], &[user("echo: back")]].concat()).await, "back");
    must_have_continued(&app, 1, "echo: back");
    // What was seen of the broken answer is not continued.
    let seen = [&left[..], &[says("⟨3:0⟩"), user("echo: more")]].concat();
    ask(&app, Form::Whole, &seen).await;
    must_have_begun_anew(&app, "echo: one");
}

#[tokio::test]
async fn nothing_is_continued_when_it_is_switched_off() {
    let app = start_with(Setup::default().with("CONTINUE_CHATS", "false"), 1).await;
    two_turns(&app).await;
    must_have_begun_anew(&app, "echo: one");
    until("both chats to be deleted", || app.simulator.record().counts().deletes == 2).await;
}

#[tokio::test]
async fn the_chat_of_a_plain_completion_is_not_kept() {
    let app = start(1).await;
    let response = app.post("/v1/completions", &json!({"model": "qwen3-max", "prompt": "echo: one"})).send().await;
    assert_eq!(response.unwrap().status(), 200);
    until("the chat to be deleted", || app.simulator.record().counts().deletes == 1).await;
}

#[tokio::test]
async fn an_idle_chat_is_deleted() {
    let app = start_with(Setup::default().with("CONTINUE_IDLE", "1s"), 1).await;
    let talk = two_turns(&app).await;
    until("the chat to be deleted", || app.simulator.record().counts().deletes == 1).await;
    let (ended, deleted) = {
        let last = sent(&app).pop().unwrap();
        let deletes = app.simulator.record().requests_to(Endpoint::DeleteChat);
        (last.ended.unwrap().at, deletes[0].received_at)
    };
    assert!(deleted > ended + std::time::Duration::from_millis(900));
    assert_eq!(ask(&app, Form::Whole, &[&talk[..], &[user("echo: x")]].concat()).await, "x");
    must_have_begun_anew(&app, "echo: one");
}

#[tokio::test]
async fn messages_and_responses_are_continued_too() {
    let app = start(1).await;
    let messages =
        |list: Value| json!({"model": "qwen3-max", "max_tokens": 1000, "system": "Be terse.", "messages": list});
    let blocks = json!([{"type": "text", "text": "echo: one", "cache_control": {"type": "ephemeral"}}]);
    let first = json_of(
        app.post("/v1/messages", &messages(json!([{"role": "user", "content": blocks}]))).send().await.unwrap(),
    )
    .await;
    let replay = json!([user("echo: one"), {"role": "assistant", "content": first["content"]}, user("echo: two")]);
    let second = json_of(app.post("/v1/messages", &messages(replay)).send().await.unwrap()).await;
    assert_eq!(second["content"][0]["text"], "two");
    must_have_continued(&app, 0, "echo: two");

    let responses = |input: Value| json!({"model": "qwen3-max", "instructions": "Be terse!", "input": input});
    let first = json_of(app.post("/v1/responses", &responses(json!("echo: one"))).send().await.unwrap()).await;
    let mut items =
        vec![json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "echo: one"}]})];
    items.extend(first["output"].as_array().unwrap().clone());
    items.push(user("echo: two"));
    let second = json_of(app.post("/v1/responses", &responses(json!(items))).send().await.unwrap()).await;
    assert_eq!(second["status"], "completed", "{second}");
    must_have_continued(&app, 2, "echo: two");
    let mut body = responses(json!("echo: three"));
    body["previous_response_id"] = second["id"].clone();
    let third = json_of(app.post("/v1/responses", &body).send().await.unwrap()).await;
    assert_eq!(third["output"][0]["content"][0]["text"], "three", "{third}");
    must_have_continued(&app, 3, "echo: three");
}

#[tokio::test]
async fn conversations_go_on_after_a_restart() {
    for is_killed in [false, true] {
        let app = start(2).await;
        let talk = two_turns(&app).await;
        let (simulator, state_dir) = if is_killed {
            let answers =
                || Store::open(app.state_dir.path()).unwrap().1.chats.first().map_or(0, |chat| chat.answers.len());
            until("the answers to be written down", || answers() == 2).await;
            // Dropped without a drain, as when the process is killed.
            let TestApp { simulator, state_dir, .. } = app;
            (simulator, state_dir)
        } else {
            app.stop().await
        };
        assert_eq!(simulator.record().counts().deletes, 0);
        let app = Setup::default().in_dir(state_dir).start(simulator).await;
        assert_eq!(ask(&app, Form::Stream, &[&talk[..], &[user("echo: three")]].concat()).await, "three");
        must_have_continued(&app, 1, "echo: three");
        assert_eq!(ask(&app, Form::Whole, &[&talk[..2], &[user("echo: other")]].concat()).await, "other");
        must_have_continued(&app, 0, "echo: other");
        assert_eq!((chats_made(&app), app.simulator.record().counts().deletes), (1, 0));
    }
}

#[tokio::test]
async fn conversations_follow_an_account_to_a_new_cookie() {
    let setup = |simulator: &Simulator, more: &str| {
        let cookie = format!("{more}=1; {}", simulator.accounts().cookie("ada"));
        Setup::default().with("COOKIE", &cookie)
    };
    let app = start(1).await;
    let talk = two_turns(&app).await;
    let (simulator, state_dir) = app.stop().await;
    let app = setup(&simulator, "zzz").in_dir(state_dir).start(simulator).await;
    assert_eq!(ask(&app, Form::Stream, &[&talk[..], &[user("echo: three")]].concat()).await, "three");
    must_have_continued(&app, 1, "echo: three");
    let (simulator, state_dir) = app.stop().await;
    assert_eq!(simulator.record().counts().deletes, 0);
    let app = setup(&simulator, "yyy").with("CONTINUE_CHATS", "false").in_dir(state_dir).start(simulator).await;
    until("the chat to be deleted", || app.simulator.record().counts().deletes == 1).await;
    app.assert_clean();
}

#[tokio::test]
async fn kept_chats_that_are_idle_are_deleted_after_a_restart() {
    for (idle, switch) in [("1s", "true"), ("10m", "false")] {
        let app = start_with(Setup::default().with("CONTINUE_IDLE", idle), 1).await;
        two_turns(&app).await;
        let (simulator, state_dir) = app.stop().await;
        assert_eq!(simulator.record().counts().deletes, 0, "a stop deletes no kept chats");
        let setup = Setup::default().with("CONTINUE_IDLE", idle).with("CONTINUE_CHATS", switch).in_dir(state_dir);
        let app = setup.start(simulator).await;
        until("the chat to be deleted", || app.simulator.record().counts().deletes == 1).await;
        let (simulator, _) = app.stop().await;
        assert!(simulator.stored().chats(None).iter().all(|chat| chat.is_old));
        assert_eq!(simulator.record().violations(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_upload_that_fails_leaves_chat_and_account_to_texts() {
    for form in FORMS {
        let app = start(1).await;
        let model = |messages: &[Value]| json!({"model": "qwen3-vl-plus", "messages": messages});
        let mut messages = vec![user("echo: one")];
        let first = send(&app, form, model(&messages)).await;
        first.must_say("one");
        messages.push(says(&first.content));
        let chats = chats_made(&app);
        let used_up = ErrorScript { code: "RateLimited".into(), num: Some(3), ..ErrorScript::default() };
        app.simulator.script().queue(None, Endpoint::Sts, ScriptedReply::error_with(used_up));
        let seen = json!({"role": "user", "content": [{"type": "text", "text": "What is it?"}, image_part(1)]});
        let failed = send(&app, form, model(&[messages.clone(), vec![seen]].concat())).await;
        assert_eq!(failed.status, 429, "{}", failed.raw);
        assert_eq!(chats_made(&app), chats, "a new chat would not help");
        // The quota of uploads is another one than that of texts.
        messages.push(user("echo: two"));
        send(&app, form, model(&messages)).await.must_say("two");
        must_have_continued(&app, 0, "echo: two");
    }
}
