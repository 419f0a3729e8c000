//! Random callers continue, edit, branch and lose conversations; a stateless oracle says what a model has to read.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::{ProptestConfig, Strategy, any};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use simulator::script::{CutHow, Endpoint, ScriptedReply};

use crate::continued::{body, parent, says, sent, start_with, user};
use crate::support::app::{Asked, Setup};
use crate::support::oracle::{Form, read};

/// One step of a random history of callers.
#[derive(Clone, Debug)]
struct Act {
    /// Which of the callers.
    caller: usize,
    /// Which of the conversations of this caller so far; beyond the last a new one.
    talk: usize,
    /// How many of its rounds are kept.
    rounds: usize,
    /// What the last answer is replaced by: an edit that the server did not give.
    edits: bool,
    /// What is asked; few texts, so that callers and branches often say the same.
    text: usize,
    form: Form,
    replay: usize,
    fault: usize,
}

fn act() -> impl Strategy<Value = Act> {
    let numbers = (0..CALLERS.len(), 0..6_usize, 0..4_usize, 0..10_usize, 0..3_usize);
    (numbers, any::<bool>(), 0..4_usize, 0..16_usize).prop_map(
        |((caller, talk, rounds, edits, text), streams, replay, fault)| {
            let form = if streams { Form::Stream } else { Form::Whole };
            Act { caller, talk, rounds, edits: edits == 0, text, form, replay, fault }
        },
    )
}

const CALLERS: [&str; 3] = ["sk-ann", "sk-ben", "sk-cat"];

/// An answer as some client replays it.
fn replayed(text: &str, form: usize) -> Value {
    match form {
        0 => says(text),
        1 => says(&format!("{text}\n")),
        2 => json!({"role": "assistant", "content": [{"type": "text", "text": text}], "refusal": null}),
        _ => json!({"role": "assistant", "content": text.replace('\n', "\r\n"), "reasoning_content": "Hm."}),
    }
}

/// What a prompt of the server says, as (role, text).
fn said_in(prompt: &str) -> Vec<(String, String)> {
    if !prompt.starts_with("This is a conversation,") && !prompt.starts_with("The conversation goes on,") {
        return vec![("user".to_owned(), prompt.to_owned())];
    }
    let (_, mut rest) = prompt.split_once("\n\n<").unwrap();
    let mut said = Vec::new();
    loop {
        let (role, block) = rest.split_once(">\n").unwrap();
        let (text, more) = block.split_once(&format!("\n</{role}>")).unwrap_or_else(|| panic!("{prompt}"));
        said.push((role.to_owned(), text.to_owned()));
        match more.strip_prefix("\n\n<") {
            Some(more) => rest = more,
            None => return said,
        }
    }
}

/// Lets random callers talk, and compares what the model read for each answer with all that its caller had said.
async fn live(acts: Vec<Act>) -> usize {
    let setup = Setup::default().with("API_KEY", &CALLERS.join(",")).with("TRIP_AFTER", "1000");
    let app = start_with(setup, 2).await;
    let mut talks: [Vec<Vec<(String, String)>>; 3] = Default::default();
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    let mut continued = 0;
    for act in acts {
        let known = &talks[act.caller];
        let mut said = known.get(act.talk).cloned().unwrap_or_default();
        said.truncate(act.rounds * 2);
        if let Some((_, answer)) = said.last_mut().filter(|_| act.edits) {
            answer.push('!');
        }
        let text = ["echo: red\n\nblue", "echo: red", "Tell me more"][act.text];
        said.push(("user".to_owned(), text.to_owned()));
        let messages = said.iter().map(|(role, text)| match &**role {
            "assistant" => replayed(text, act.replay),
            _ => user(text),
        });
        let mut body = body(&messages.collect::<Vec<_>>());
        body["stream"] = json!(act.form == Form::Stream);
        let fault = match act.fault {
            0 => Some(ScriptedReply::error("CHAT_NOT_FOUND")),
            1 => Some(ScriptedReply::error("PARENT_NOT_FOUND")),
            2 => Some(ScriptedReply::status(500)),
            3 => Some(ScriptedReply::answer("cut off here").cut_after(3, CutHow::CleanEnd)),
            4 => Some(ScriptedReply::answer("cut off here").cut_after(3, CutHow::Reset)),
            _ => None,
        };
        fault.into_iter().for_each(|fault| app.simulator.script().queue(None, Endpoint::Completions, fault));
        let request = app.client.post(app.url("/v1/chat/completions")).bearer_auth(CALLERS[act.caller]);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = read(request, act.form).await;
        if answer.finish.is_none() {
            continue;
        }
        let request = sent(&app).pop().unwrap();
        let asked = Asked(request.body.clone().unwrap());
        continued += usize::from(parent(&asked).is_some());
        let chat_id = asked.0["chat_id"].as_str().unwrap().to_owned();
        assert_eq!(*owners.entry(chat_id).or_insert(act.caller), act.caller, "a chat of another caller");
        let mut path = app.simulator.stored().path(request.response_id.as_deref().unwrap()).unwrap();
        assert_eq!(path.pop(), Some(("assistant", answer.content.clone())));
        let of_message = |(role, content): &(&str, String)| match *role {
            "user" => said_in(content),
            role => vec![(role.to_owned(), content.clone())],
        };
        let by_model: Vec<_> = path.iter().flat_map(of_message).collect();
        let trimmed = |said: &[(String, String)]| {
            let one = |(role, text): &(String, String)| {
                (role.clone(), if role == "assistant" { text.trim().replace('\r', "") } else { text.clone() })
            };
            said.iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(trimmed(&by_model), trimmed(&said), "{}", CALLERS[act.caller]);
        said.push(("assistant".to_owned(), answer.content));
        talks[act.caller].push(said);
    }
    app.assert_clean();
    continued
}

/// The stateless oracle: whatever was continued, edited, cut or lost on the way, a model reads exactly what its caller
/// sent, in a chat of that caller.
#[test]
fn a_model_reads_what_its_caller_said_and_nothing_else() {
    let config = ProptestConfig { cases: 12, max_shrink_iters: 40, failure_persistence: None, ..Default::default() };
    let continued = Cell::new(0);
    let lived = TestRunner::new(config).run(&proptest::collection::vec(act(), 1..24), |acts| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        continued.set(continued.get() + runtime.block_on(live(acts)));
        Ok(())
    });
    lived.unwrap_or_else(|error| panic!("{error}"));
    assert!(continued.get() > 0, "nothing was continued");
}
