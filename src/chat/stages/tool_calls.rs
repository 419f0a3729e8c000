//! Stage: calls in the text of an answer become events; calls that came as events are checked.
//!
//! Which calls an answer has is known at its end only: a cut answer has none, and one call that cannot be repaired
//! means that the upstream may be asked once more. So [`ToolCalls::push`] hands on the text before the first call while
//! it arrives and holds back the rest. At the end, [`ToolCalls::end`] judges: an [`Err`] is an answer that has to be
//! asked for again, if nothing of it was shown. Either way [`ToolCalls::finish`] gives what there is: the calls, or the
//! text as it came. It tells whether there were calls, which is the reason of the answer's end then.
//!
//! On trial ([`ToolPlan::is_trial`]) nothing at all is handed on before the end or the first call that comes as an event,
//! so that an answer without calls can be asked for in another way.
//!
//! A call in thoughts counts only when the answer itself brings neither text nor call; else it is dropped. An answer
//! without tools has no such stage.

use std::sync::Arc;

use crate::base::text::pieces;
use crate::chat::conversation::ToolChoice;
use crate::chat::reply::{FinishReason, RejectedAs, Rejection, ReplyEvent, Text};
use crate::chat::tools::check::{Checked, ToolSet};
use crate::chat::tools::read::{CallReader, HELD_BYTES_MAX, Reading};
use crate::chat::tools::shapes::written::{Found, WrittenCall};

/// A piece of arguments is not longer, in bytes.
const ARGUMENTS_PIECE_BYTES_MAX: usize = 16 * 1024;

/// Calls of an answer; further ones are dropped.
const CALLS_MAX: usize = 128;

/// What an answer's calls are checked against, and how they are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolPlan {
    /// The declared tools.
    pub tools: Arc<ToolSet>,
    /// Makes ids unique: the call with index 0 of an answer has the id `call_{id_seed}0`. Drawn anew for each answer.
    pub id_seed: String,
    /// `false`: only the first call of an answer counts.
    pub is_parallel: bool,
    /// Whether and which tools have to be called.
    pub choice: ToolChoice,
    /// The answer is not asked for again: a wrong call is given as text, unless a call is demanded.
    pub is_last_try: bool,
    /// Whether the upstream took the declared tools shows only by a call that comes as an event.
    pub is_trial: bool,
}

/// How an answer calls tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// By events.
    Natively,
    /// In its text, by calls that are right.
    InText,
    /// Not at all.
    Nothing,
}

/// Reads, checks and gives the calls of one answer.
#[derive(Debug)]
pub struct ToolCalls {
    plan: ToolPlan,
    answer: CallReader,
    thoughts: CallReader,
    /// Text that is not white space was handed on.
    has_text: bool,
    native: Vec<NativeCall>,
    native_bytes: usize,
    /// Text behind native calls.
    behind: String,
    /// Text before a call that is demanded, without which it is not shown, and text of an answer on trial.
    waiting: String,
    /// The answer is on trial: nothing was handed on.
    is_held: bool,
    /// Thoughts of an answer on trial.
    held_thoughts: String,
    /// A call came as an event.
    has_native: bool,
    /// What the end brought.
    ended: Option<Ended>,
}

/// What is left to hand on at the end of an answer.
#[derive(Debug, Default)]
struct Ended {
    thoughts: String,
    text: String,
    /// Names and arguments.
    calls: Vec<(String, String)>,
    rejection: Option<Rejection>,
    /// The model said something in the answer that is not handed on, or called in another way than in its text.
    has_dropped: bool,
}

/// A call that comes as events.
#[derive(Debug)]
struct NativeCall {
    index: u32,
    name: String,
    arguments: String,
}

impl ToolCalls {
    /// The stage of an answer that begins.
    #[must_use]
    pub fn new(plan: ToolPlan) -> Self {
        let names = plan.tools.names();
        let (answer, thoughts) = (CallReader::new(Arc::clone(names)), CallReader::of_thoughts(Arc::clone(names)));
        Self {
            is_held: plan.is_trial,
            held_thoughts: String::new(),
            has_native: false,
            plan,
            answer,
            thoughts,
            has_text: false,
            native: Vec::new(),
            native_bytes: 0,
            behind: String::new(),
            waiting: String::new(),
            ended: None,
        }
    }

    /// Takes an event and hands on what is not part of a call.
    pub fn push(&mut self, event: ReplyEvent<'_>, out: &mut impl FnMut(ReplyEvent<'_>)) {
        self.has_native |= matches!(event, ReplyEvent::ToolCall { .. });
        if self.is_held && (self.has_native || self.waiting.len() + self.held_thoughts.len() > HELD_BYTES_MAX) {
            self.release(out);
        }
        match event {
            ReplyEvent::Text(text) if self.native.is_empty() => {
                let waits = self.is_held || self.is_demanded();
                let Self { answer, thoughts, has_text, waiting, is_held, held_thoughts, .. } = self;
                answer.push(text, &mut |text| {
                    if !std::mem::replace(has_text, true) {
                        let rest = thoughts.finish().text;
                        if *is_held {
                            held_thoughts.push_str(&rest);
                        } else {
                            give_thoughts(&rest, out);
                        }
                    }
                    if waits {
                        text.append_to(waiting);
                    } else {
                        out(ReplyEvent::Text(text));
                    }
                });
            }
            ReplyEvent::Text(text) if self.behind.len() < HELD_BYTES_MAX => text.append_to(&mut self.behind),
            ReplyEvent::Text(_) => {}
            ReplyEvent::Reasoning(text) => {
                let Self { thoughts, is_held, held_thoughts, .. } = self;
                thoughts.push(text, &mut |text| {
                    if *is_held {
                        text.append_to(held_thoughts);
                    } else {
                        out(ReplyEvent::Reasoning(text));
                    }
                });
            }
            ReplyEvent::ToolCall { index, name, .. } => {
                if let Some(call) = self.native(index) {
                    call.name.push_str(name);
                }
            }
            ReplyEvent::ToolArguments { index, json } => {
                self.native_bytes = self.native_bytes.saturating_add(json.len());
                let fits = self.native_bytes <= HELD_BYTES_MAX;
                if let Some(call) = self.native(index).filter(|_| fits) {
                    call.arguments.push_str(json);
                }
            }
            ReplyEvent::ToolCallDone { .. } => {}
            other => out(other),
        }
    }

    /// Ends the trial: hands on what was held back for it.
    fn release(&mut self, out: &mut impl FnMut(ReplyEvent<'_>)) {
        self.is_held = false;
        give_thoughts(&std::mem::take(&mut self.held_thoughts), out);
        if !self.is_demanded() {
            give_text(&std::mem::take(&mut self.waiting), out);
        }
    }

    fn native(&mut self, index: u32) -> Option<&mut NativeCall> {
        let place = self.native.iter().position(|call| call.index == index);
        if place.is_none() && self.native.len() < CALLS_MAX {
            self.native.push(NativeCall { index, name: String::new(), arguments: String::new() });
        }
        match place {
            Some(place) => self.native.get_mut(place),
            None => self.native.iter_mut().next_back().filter(|call| call.index == index),
        }
    }

    /// Ends the answer and judges it; a second time it says the same. `reason` says why the answer ended: only one that
    /// the model ended itself has calls.
    ///
    /// # Errors
    /// [`Rejection`]: a call is wrong and cannot be repaired, or the demanded one is missing, and the answer may be
    /// asked for again. `text` is what was held back, as it came. On the last try a wrong call is no fault any more,
    /// unless one is demanded, or there is no text that could be given in its place.
    pub fn end(&mut self, reason: FinishReason) -> Result<(), Rejection> {
        self.settle(reason);
        let is_final = self.plan.is_last_try && !self.is_demanded() && !self.is_silent(reason);
        match self.ended.as_ref().and_then(|ended| ended.rejection.clone()) {
            Some(rejection) if !is_final => Err(rejection),
            _ => Ok(()),
        }
    }

    /// Whether the answer, which is over now for this reason, has neither a text nor a call that is right.
    pub fn is_silent(&mut self, reason: FinishReason) -> bool {
        self.settle(reason);
        let has_text = self.has_text || self.ended.as_ref().is_some_and(|ended| !ended.text.trim().is_empty());
        !has_text && !self.has_calls()
    }

    /// How the answer, which is over now for this reason, calls tools.
    pub fn called(&mut self, reason: FinishReason) -> Called {
        // Wrong calls in the text are none.
        let _ = self.end(reason);
        match (self.has_native, self.has_calls()) {
            (true, _) => Called::Natively,
            (false, true) => Called::InText,
            (false, false) => Called::Nothing,
        }
    }

    /// Finds out what the end brings, once.
    fn settle(&mut self, reason: FinishReason) {
        if self.ended.is_none() {
            self.ended = Some(match reason {
                FinishReason::Stop | FinishReason::ToolCalls => self.whole(),
                FinishReason::Length | FinishReason::ContentFilter => {
                    let text = std::mem::take(&mut self.waiting) + &self.answer.cut();
                    Ended { thoughts: self.thoughts.cut(), text, ..Ended::default() }
                }
            });
        }
    }

    fn is_demanded(&self) -> bool {
        matches!(self.plan.choice, ToolChoice::Required | ToolChoice::Named(_))
    }

    /// Whether the answer, which has ended, has calls.
    #[must_use]
    pub fn has_calls(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| !ended.calls.is_empty())
    }

    /// Whether all that the answer says, which has ended, is handed on.
    #[must_use]
    pub fn told_all(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| !ended.has_dropped)
    }

    /// Takes the text that is left to hand on.
    pub(crate) fn take_text(&mut self) -> String {
        self.ended.as_mut().map(|ended| std::mem::take(&mut ended.text)).unwrap_or_default()
    }

    /// Hands on what is left: thoughts, text and calls. Returns `true` when there were calls.
    pub fn finish(mut self, reason: FinishReason, out: &mut impl FnMut(ReplyEvent<'_>)) -> bool {
        // What is rejected here was shown in part, or asked for often enough.
        let _ = self.end(reason);
        give_thoughts(&std::mem::take(&mut self.held_thoughts), out);
        let Ended { thoughts, text, calls, .. } = self.ended.take().unwrap_or_default();
        give_thoughts(&thoughts, out);
        if calls.is_empty() || !text.trim().is_empty() {
            give_text(&text, out);
        }
        for (index, (name, arguments)) in (0_u32..).zip(&calls) {
            out(ReplyEvent::ToolCall { index, id: &format!("call_{}{index}", self.plan.id_seed), name });
            for piece in pieces(arguments, ARGUMENTS_PIECE_BYTES_MAX) {
                out(ReplyEvent::ToolArguments { index, json: piece });
            }
            out(ReplyEvent::ToolCallDone { index });
        }
        !calls.is_empty()
    }

    /// The end of an answer that is complete.
    fn whole(&mut self) -> Ended {
        let (mut answer, thoughts) = (self.answer.finish(), self.thoughts.finish());
        let has_answer = self.has_text || !answer.text.trim().is_empty() || !self.native.is_empty();
        if answer.calls.is_empty() && !has_answer && !thoughts.calls.is_empty() {
            answer = Reading { calls: thoughts.calls, raw: thoughts.raw, has_dropped: true, ..Reading::default() };
        }
        let mut has_dropped = answer.has_dropped || !self.native.is_empty();
        let native = self.native.drain(..).map(|NativeCall { name, arguments, .. }| {
            let arguments = if arguments.is_empty() { "{}".to_owned() } else { arguments };
            Ok(WrittenCall { name, arguments })
        });
        let calls_max = if self.plan.is_parallel { CALLS_MAX } else { 1 };
        let mut found: Vec<Found> = native.chain(answer.calls).collect();
        has_dropped |= found.len() > calls_max;
        found.truncate(calls_max);
        let (thoughts, text) = (thoughts.text, std::mem::take(&mut self.waiting) + &answer.text);
        match self.checked(found) {
            Ok(calls) => Ended { thoughts, text, calls, rejection: None, has_dropped },
            Err(why) => {
                let text = [text, answer.raw, std::mem::take(&mut self.behind)].concat();
                let rejection = Rejection { kind: RejectedAs::ToolCall, why, text: text.clone() };
                Ended { thoughts, text, rejection: Some(rejection), ..Ended::default() }
            }
        }
    }

    /// Names and arguments of calls that are right. `Err`: why they are not, in words for the model.
    fn checked(&self, found: Vec<Found>) -> Result<Vec<(String, String)>, String> {
        let check = |call: Found| match call {
            Ok(call) => match self.plan.tools.check(&call) {
                Checked::Valid { name, arguments } => Ok((name, arguments)),
                Checked::Invalid { why } => Err(why),
            },
            Err(why) => Err(format!("the call cannot be read: {why}")),
        };
        let calls: Vec<_> = found.into_iter().map(check).collect::<Result<_, _>>()?;
        match &self.plan.choice {
            ToolChoice::Required if calls.is_empty() => Err("it has to call a tool and calls none".to_owned()),
            ToolChoice::Named(wanted) if calls.is_empty() || calls.iter().any(|(name, _)| name != wanted) => {
                Err(format!("it has to call the tool '{wanted}' and no other"))
            }
            ToolChoice::Auto | ToolChoice::None | ToolChoice::Required | ToolChoice::Named(_) => Ok(calls),
        }
    }
}

fn give_text(text: &str, out: &mut impl FnMut(ReplyEvent<'_>)) {
    if !text.is_empty() {
        out(ReplyEvent::Text(Text::Plain(text)));
    }
}

fn give_thoughts(text: &str, out: &mut impl FnMut(ReplyEvent<'_>)) {
    if !text.is_empty() {
        out(ReplyEvent::Reasoning(Text::Plain(text)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::conversation::{OutputFormat, ToolSpec};
    use crate::chat::job::{ReasoningFormat, Wishes};
    use crate::chat::stages::json_text::JsonForm;
    use crate::chat::stages::{StagePlan, Stages};

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
        let told =
            |events: Vec<ReplyEvent<'_>>| told_of(ToolPlan { is_trial: true, ..plan() }, events, FinishReason::Stop);
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

    /// What an answer becomes: texts as they are, thoughts as `(…)`, calls as `[index id name arguments]`, then the
    /// outcome.
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
        let call =
            vec![text("Now. "), begin(3, "LS"), more(3, "{\"path\": "), more(3, "\"a\"}"), done(3), text("Done.")];
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
        let plan =
            StagePlan { tools: Some(plan()), reasoning_format: ReasoningFormat::Raw, ..StagePlan::of(&wishes, 1) };
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
}
