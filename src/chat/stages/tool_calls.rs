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

/// Longest piece of arguments in one event, in bytes.
pub(crate) const ARGUMENTS_PIECE_BYTES_MAX: usize = 16 * 1024;

/// Most calls of one answer; further ones are dropped.
const CALLS_MAX: usize = 128;

/// The tools and rules that an answer's calls are checked by, and the source of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolPlan {
    /// The tools that the caller declared, compiled.
    pub tools: Arc<ToolSet>,
    /// Makes ids unique: the call with index 0 of an answer has the id `call_{id_seed}0`. Drawn anew for each answer.
    pub id_seed: String,
    /// `false`: only the first call of an answer counts.
    pub is_parallel: bool,
    /// Which tools the answer may or must call.
    pub choice: ToolChoice,
    /// The answer is not asked for again: a wrong call is given as text, unless a call is demanded.
    pub is_last_try: bool,
    /// Whether the upstream took the declared tools shows only by a call that comes as an event.
    pub is_trial: bool,
}

/// How an answer calls tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// By events of the upstream, as native tool calls.
    Natively,
    /// By valid calls in its text.
    InText,
    /// The answer has no valid call.
    Nothing,
}

/// Reads, checks and hands on the calls of one answer.
#[derive(Debug)]
pub struct ToolCalls {
    plan: ToolPlan,
    answer: CallReader,
    thoughts: CallReader,
    /// Text that is not white space was handed on.
    has_text: bool,
    native: Vec<NativeCall>,
    native_bytes: usize,
    /// Text that came after native calls.
    behind: String,
    /// Text before a call that is demanded, without which it is not shown, and text of an answer on trial.
    waiting: String,
    /// The answer is on trial: nothing was handed on.
    is_held: bool,
    /// Thoughts of an answer on trial.
    held_thoughts: String,
    /// A call came as an event.
    has_native: bool,
    /// The result of the end; `None` while the answer goes on.
    ended: Option<Ended>,
}

/// The rest to hand on at the end of an answer.
#[derive(Debug, Default)]
struct Ended {
    thoughts: String,
    text: String,
    /// Name and arguments (JSON text) of each call, in order.
    calls: Vec<(String, String)>,
    /// How many of the calls were repaired.
    repaired: u32,
    rejection: Option<Rejection>,
    /// The model said something in the answer that is not handed on, or called in another way than in its text.
    has_dropped: bool,
}

/// Calls that are right.
struct Calls {
    /// Names and arguments.
    calls: Vec<(String, String)>,
    repaired: u32,
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
    /// asked for again. `text` is what was held back, as it came. On the last try a wrong call is not a fault any more,
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
        // Wrong calls in the text do not count.
        let _ = self.end(reason);
        match (self.has_native, self.has_calls()) {
            (true, _) => Called::Natively,
            (false, true) => Called::InText,
            (false, false) => Called::Nothing,
        }
    }

    /// Computes the result of the end, once.
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

    /// How many calls of the answer, which has ended, were repaired.
    #[must_use]
    pub fn repaired(&self) -> u32 {
        self.ended.as_ref().map_or(0, |ended| ended.repaired)
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
        // A rejected answer was shown in part here, or asked for often enough.
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
            Ok(Calls { calls, repaired }) => Ended { thoughts, text, calls, repaired, rejection: None, has_dropped },
            Err(why) => {
                let text = [text, answer.raw, std::mem::take(&mut self.behind)].concat();
                let rejection = Rejection { kind: RejectedAs::ToolCall, why, text: text.clone() };
                Ended { thoughts, text, rejection: Some(rejection), ..Ended::default() }
            }
        }
    }

    /// The calls if they are right. `Err`: why they are not, in words for the model.
    fn checked(&self, found: Vec<Found>) -> Result<Calls, String> {
        let mut repaired = 0;
        let check = |call: Found| match call {
            Ok(call) => match self.plan.tools.check(&call) {
                Checked::Valid { name, arguments, is_repaired } => {
                    repaired += u32::from(is_repaired);
                    Ok((name, arguments))
                }
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
            ToolChoice::Auto | ToolChoice::None | ToolChoice::Required | ToolChoice::Named(_) => {
                Ok(Calls { calls, repaired })
            }
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
