//! The stage of tool calls: which calls an answer gives, and when it is rejected.

use std::sync::Arc;

use serde_json::json;

use crate::chat::conversation::{OutputFormat, ToolChoice, ToolSpec};
use crate::chat::job::{ReasoningFormat, Wishes};
use crate::chat::reply::{FinishReason, Rejection, ReplyEvent, Text};
use crate::chat::stages::json_text::JsonForm;
use crate::chat::stages::tool_calls::{ARGUMENTS_PIECE_BYTES_MAX, Called, ToolCalls, ToolPlan};
use crate::chat::stages::{StagePlan, Stages};
use crate::chat::tools::check::ToolSet;

const LS: &str = r#"<tool_call>{"name": "ls", "arguments": {"path": "a"}}</tool_call>"#;
const PWD: &str = r#"<tool_call>{"name": "pwd"}</tool_call>"#;
const WRONG: &str = r#"<tool_call>{"name": "ls", "arguments": {}}</tool_call>"#;

fn plan() -> ToolPlan {
    let parameters = json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    let tool = |name: &str, parameters: serde_json::Value| ToolSpec {
        name: name.to_owned(),
        description: None,
        parameters: parameters.as_object().unwrap().clone(),
        parameters_at: String::new(),
        strict: None,
    };
    let tools = ToolSet::compile(&[tool("ls", parameters), tool("pwd", json!({}))]).unwrap();
    ToolPlan {
        tools: Arc::new(tools),
        id_seed: "s".to_owned(),
        is_parallel: true,
        choice: ToolChoice::Auto,
        is_last_try: false,
        is_trial: false,
    }
}

#[test]
fn an_answer_on_trial_is_held_back() {
    let told = |events: Vec<ReplyEvent<'_>>| told_of(ToolPlan { is_trial: true, ..plan() }, events, FinishReason::Stop);
    let call = || ReplyEvent::ToolCall { index: 0, id: "", name: "pwd" };
    // Accepted or not, the thoughts and the text go out in the end.
    assert_eq!(told(vec![thought("Hm."), text("Hi."), text(" You.")]), "(Hm.)Hi. You.");
    assert_eq!(told(vec![thought("Hm."), text(PWD)]), "(Hm.)[0 call_s0 pwd {}] calls");
    assert_eq!(told(vec![thought("Hm."), text("I look. "), call()]), "(Hm.)I look.[0 call_s0 pwd {}] calls");
    let called = |events: Vec<ReplyEvent<'_>>| {
        let mut stage = ToolCalls::new(ToolPlan { is_trial: true, ..plan() });
        let mut shown = 0;
        events.into_iter().for_each(|event| stage.push(event, &mut |_| shown += 1));
        (shown, stage.called(FinishReason::Stop))
    };
    assert_eq!(called(vec![thought("Hm."), text("Hi.")]), (0, Called::Nothing));
    assert_eq!(called(vec![text(PWD)]), (0, Called::InText));
    assert_eq!(called(vec![text(WRONG)]), (0, Called::Nothing));
    assert_eq!(called(vec![thought("Hm."), call()]), (1, Called::Natively));
    assert_eq!(called(vec![text("Hi."), call(), thought("Hm.")]), (2, Called::Natively));
}

fn text(text: &str) -> ReplyEvent<'_> {
    ReplyEvent::Text(Text::Plain(text))
}

fn thought(text: &str) -> ReplyEvent<'_> {
    ReplyEvent::Reasoning(Text::Plain(text))
}

/// The events of an answer: texts unchanged, thoughts as `(…)`, calls as `[index id name arguments]`, then the outcome.
fn told_of(plan: ToolPlan, events: Vec<ReplyEvent<'_>>, reason: FinishReason) -> String {
    let mut stage = ToolCalls::new(plan);
    let mut told = String::new();
    let mut tell = |event: ReplyEvent<'_>| match event {
        ReplyEvent::Text(text) => told.push_str(&text.plain()),
        ReplyEvent::Reasoning(text) => told.push_str(&format!("({})", text.plain())),
        ReplyEvent::ToolCall { index, id, name } => told.push_str(&format!("[{index} {id} {name} ")),
        ReplyEvent::ToolArguments { json, .. } => told.push_str(json),
        ReplyEvent::ToolCallDone { .. } => told.push(']'),
        other => panic!("{other:?}"),
    };
    for event in events {
        stage.push(event, &mut tell);
    }
    if let Err(Rejection { why, text, .. }) = stage.end(reason) {
        return format!("{told} ! {why} ! {text}");
    }
    let has_calls = stage.finish(reason, &mut tell);
    if has_calls { told + " calls" } else { told }
}

fn told(events: Vec<ReplyEvent<'_>>) -> String {
    told_of(plan(), events, FinishReason::Stop)
}

const LS_CALL: &str = r#"[0 call_s0 ls {"path": "a"}]"#;
const WRONG_WHY: &str = "! the arguments of 'ls' are wrong: \"path\" is a required property !";

#[test]
fn answers_of_text() {
    assert_eq!(told(vec![text("one "), text("two"), text(" ")]), "one two ");
    assert_eq!(told(vec![thought("t "), text("one")]), "(t)( )one");
    assert_eq!(told(vec![thought("t"), text("{"), text("}")]), "(t){}");
    assert_eq!(told(vec![]), "");
}

#[test]
fn calls_and_words_around_them() {
    assert_eq!(told(vec![text(LS)]), format!("{LS_CALL} calls"));
    assert_eq!(told(vec![text("I look. "), text(LS), text(" Seen.")]), format!("I look.{LS_CALL} calls"));
    assert_eq!(told(vec![text(LS), text(PWD)]), format!("{LS_CALL}[1 call_s1 pwd {{}}] calls"));
    assert_eq!(told(vec![text("\n\n"), text(LS)]), format!("{LS_CALL} calls"));
    let one = ToolPlan { is_parallel: false, ..plan() };
    assert_eq!(told_of(one, vec![text(LS), text(WRONG)], FinishReason::Stop), format!("{LS_CALL} calls"));
}

#[test]
fn invalid_calls_come_back_as_text() {
    assert_eq!(told(vec![text(WRONG), text(" so")]), format!(" {WRONG_WHY} {WRONG} so"));
    assert_eq!(told(vec![text("I look. "), text(WRONG)]), format!("I look. {WRONG_WHY}  {WRONG}"));
    assert_eq!(told(vec![text(LS), text(WRONG)]), format!(" {WRONG_WHY} {LS}{WRONG}"));
    assert_eq!(told(vec![thought("t"), text(WRONG)]), format!("(t) {WRONG_WHY} {WRONG}"));
    assert!(told(vec![text("<tool_call>{oops</tool_call>")]).contains("! the call cannot be read: "));
}

#[test]
fn the_last_try_gives_what_there_is() {
    let last = |choice: ToolChoice, answer: &'static str| {
        told_of(ToolPlan { choice, is_last_try: true, ..plan() }, vec![text(answer)], FinishReason::Stop)
    };
    assert_eq!(last(ToolChoice::Auto, WRONG), WRONG);
    assert_eq!(last(ToolChoice::Required, WRONG), format!(" {WRONG_WHY} {WRONG}"));
    assert_eq!(last(ToolChoice::Required, PWD), "[0 call_s0 pwd {}] calls");
    // A call that came as an event has no text that could stand in for it.
    let begin = ReplyEvent::ToolCall { index: 0, id: "theirs", name: "ls" };
    let told = told_of(ToolPlan { is_last_try: true, ..plan() }, vec![begin], FinishReason::ToolCalls);
    assert_eq!(told, format!(" {WRONG_WHY} "));
}

#[test]
fn demanded_calls() {
    let asked = |choice: ToolChoice, answer: &'static str| {
        told_of(ToolPlan { choice, ..plan() }, vec![text(answer)], FinishReason::Stop)
    };
    let named = || ToolChoice::Named("pwd".to_owned());
    // The text waits for the call, so that the answer can be asked for again.
    assert_eq!(asked(ToolChoice::Required, "Hm"), " ! it has to call a tool and calls none ! Hm");
    assert_eq!(asked(named(), LS), format!(" ! it has to call the tool 'pwd' and no other ! {LS}"));
    assert_eq!(asked(named(), "{"), " ! it has to call the tool 'pwd' and no other ! {");
    assert_eq!(asked(named(), PWD), "[0 call_s0 pwd {}] calls");
    assert_eq!(asked(ToolChoice::None, "Hm"), "Hm");
}

#[test]
fn cut_answers_have_no_calls() {
    for reason in [FinishReason::Length, FinishReason::ContentFilter] {
        assert_eq!(told_of(plan(), vec![text("I look. "), text(LS)], reason), "I look.");
        assert_eq!(told_of(plan(), vec![thought(LS)], reason), "");
    }
}

#[test]
fn calls_in_thoughts() {
    assert_eq!(told(vec![thought("Hm. "), thought(LS)]), format!("(Hm.){LS_CALL} calls"));
    assert_eq!(told(vec![thought("Hm. "), thought(LS), text("\n")]), format!("(Hm.){LS_CALL} calls"));
    assert_eq!(told(vec![thought(LS), thought(" no."), text("Done.")]), "( no.)Done.");
    assert_eq!(told(vec![thought(LS), text(PWD)]), "[0 call_s0 pwd {}] calls");
    assert_eq!(told(vec![thought(LS), text("{}")]), "{}");
    assert_eq!(told(vec![thought(WRONG)]), format!(" {WRONG_WHY} {WRONG}"));
}

#[test]
fn calls_that_come_as_events() {
    let begin = |index: u32, name: &'static str| ReplyEvent::ToolCall { index, id: "theirs", name };
    let more = |index: u32, json: &'static str| ReplyEvent::ToolArguments { index, json };
    let done = |index: u32| ReplyEvent::ToolCallDone { index };
    let call = vec![text("Now. "), begin(3, "LS"), more(3, "{\"path\": "), more(3, "\"a\"}"), done(3), text("Done.")];
    assert_eq!(told(call), format!("Now.{LS_CALL} calls"));
    let two = vec![begin(0, "pwd"), begin(1, ""), begin(1, "ls"), more(1, "{\"path\": \"a\"}"), done(0), done(1)];
    assert_eq!(told(two), r#"[0 call_s0 pwd {}][1 call_s1 ls {"path": "a"}] calls"#);
    assert_eq!(told(vec![begin(0, "ls"), text("x")]), format!(" {WRONG_WHY} x"));
}

#[test]
fn long_arguments_come_in_pieces() {
    let path = "你".repeat(ARGUMENTS_PIECE_BYTES_MAX);
    let call = format!("<tool_call>{{\"name\": \"ls\", \"arguments\": {{\"path\": \"{path}\"}}}}</tool_call>");
    let (mut stage, mut pieces) = (ToolCalls::new(plan()), Vec::new());
    stage.push(text(&call), &mut |_| panic!("a call is shown"));
    let has_calls = stage.finish(FinishReason::Stop, &mut |event| {
        if let ReplyEvent::ToolArguments { json, .. } = event {
            pieces.push(json.to_owned());
        }
    });
    assert!(has_calls && pieces.len() > 2 && pieces.iter().all(|piece| piece.len() <= ARGUMENTS_PIECE_BYTES_MAX));
    assert_eq!(pieces.concat(), format!("{{\"path\": \"{path}\"}}"));
}

#[test]
fn the_other_stages_see_calls_and_shown_text_only() {
    let wishes = Wishes { stop: vec!["END".to_owned()], ..Wishes::default() };
    let plan = StagePlan { tools: Some(plan()), reasoning_format: ReasoningFormat::Raw, ..StagePlan::of(&wishes, 1) };
    let run = |answer: &[&str]| {
        let (mut stages, mut shown, mut calls) = (Stages::new(&plan), String::new(), 0);
        let mut show = |event: ReplyEvent<'_>| match event {
            ReplyEvent::Text(text) => text.append_to(&mut shown),
            ReplyEvent::ToolCall { .. } => calls += 1,
            _ => {}
        };
        stages.push(thought("Hm."), &mut show);
        for piece in answer {
            stages.push(text(piece), &mut show);
        }
        let ending = stages.finish(FinishReason::Stop, None, &mut show);
        (shown, calls, ending.reason)
    };
    let thoughts = "<think>\nHm.\n</think>\n\n";
    assert_eq!(run(&["Text ", LS]), (format!("{thoughts}Text"), 1, FinishReason::ToolCalls));
    assert_eq!(run(&["Text EN", "D ", LS]), (format!("{thoughts}Text "), 0, FinishReason::Stop));
    assert_eq!(run(&["Text ", WRONG]), (format!("{thoughts}Text {WRONG}"), 0, FinishReason::Stop));
}

#[test]
fn json_is_demanded_of_answers_without_calls() {
    let json = JsonForm::of(&OutputFormat::JsonObject).unwrap();
    let plan = StagePlan { tools: Some(plan()), json, ..StagePlan::of(&Wishes::default(), 1) };
    let run = |answer: &str| {
        let (mut stages, mut told) = (Stages::new(&plan), String::new());
        let mut show = |event: ReplyEvent<'_>| match event {
            ReplyEvent::Text(text) => text.append_to(&mut told),
            ReplyEvent::ToolCall { name, .. } => told.push_str(name),
            _ => {}
        };
        stages.push(text(answer), &mut show);
        if let Err(rejection) = stages.judge(FinishReason::Stop) {
            return format!("{:?} {}", rejection.kind, rejection.text);
        }
        stages.finish(FinishReason::Stop, None, &mut show);
        told
    };
    assert_eq!(run(r#"{"name": "Bob"}"#), r#"{"name": "Bob"}"#);
    assert_eq!(run("{\"a\": 1}\n"), r#"{"a": 1}"#);
    assert_eq!(run("{\"a\":"), "StructuredOutput {\"a\":");
    assert_eq!(run(r#"{"name": "pwd", "arguments": {}}"#), "pwd");
    assert_eq!(run(WRONG), format!("ToolCall {WRONG}"));
}
