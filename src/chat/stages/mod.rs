//! Stages that every answer passes, whichever upstream gave it: events in, events out.
//!
//! [`Stages`] holds the stages of one answer in their order:
//!
//! 1. [`tool_calls`]: calls in the text become events, calls of all kinds are checked; absent without tools;
//! 2. [`json_text`]: an answer that has to be JSON is kept until it is known to be;
//! 3. [`media`]: pictures and videos become Markdown links, for dialects of text;
//! 4. [`limits`]: stop sequences and the token limit cut the text;
//! 5. the meter counts what is left, for usage;
//! 6. [`thoughts`]: reasoning goes where the caller wants it;
//! 7. [`citations`]: places of the shown text that cite search results are noted.
//!
//! A new attempt begins with new stages.

pub(crate) mod citations;
pub(crate) mod json_text;
pub(crate) mod limits;
pub(crate) mod media;
pub(crate) mod thoughts;
pub mod tool_calls;

use std::sync::Arc;

use crate::chat::conversation::{Conversation, ToolChoice, ToolSpec};
use crate::chat::error::RequestError;
use crate::chat::job::{ChatJob, Making, Question, ReasoningFormat, Wishes};
use crate::chat::reply::{Ending, FinishReason, Rejection, ReplyEvent, Source, Text, TokenCounts};
use crate::chat::stages::citations::Citations;
use crate::chat::stages::json_text::{JsonForm, JsonText};
use crate::chat::stages::limits::TextLimiter;
use crate::chat::stages::media::MediaLinks;
use crate::chat::stages::thoughts::Thoughts;
use crate::chat::stages::tool_calls::{Called, ToolCalls, ToolPlan};
use crate::chat::suffix::Work;
use crate::chat::tokens::TokenMeter;
use crate::chat::tools::check::{ToolSet, ToolSetError};

/// Which stages an answer passes.
#[derive(Clone, Debug)]
pub struct StagePlan {
    /// The tools that the answer may call; `None` when its text is not looked through for calls.
    pub tools: Option<ToolPlan>,
    /// The JSON that the answer has to be; `None` for any text.
    pub json: Option<JsonForm>,
    /// Whether pictures and videos become links in the text.
    pub links_media: bool,
    /// Sequences that end the answer.
    pub stop: Vec<String>,
    /// Most tokens of text; `None`: no limit.
    pub tokens_max: Option<u32>,
    /// Where thoughts go: a field, the text, or nowhere.
    pub reasoning_format: ReasoningFormat,
    /// Whether the text may cite search results.
    pub cites: bool,
    /// An estimate of the prompt's tokens, used when the upstream gives no counts.
    pub prompt_tokens: u64,
    /// Tokens of an earlier try of this answer that was rejected.
    pub spent: TokenCounts,
}

impl StagePlan {
    /// The stages of a text for an upstream that keeps none of the wishes itself.
    #[must_use]
    pub fn of(wishes: &Wishes, prompt_tokens: u64) -> Self {
        Self {
            tools: None,
            json: None,
            links_media: true,
            stop: wishes.stop.clone(),
            tokens_max: wishes.tokens_max,
            reasoning_format: wishes.reasoning_format.unwrap_or(ReasoningFormat::Parsed),
            cites: wishes.searches(),
            prompt_tokens,
            spent: TokenCounts::default(),
        }
    }

    /// The stages of the answer to a job, for an upstream that keeps none of its wishes itself.
    ///
    /// `id_seed` makes the ids of tool calls unique; it is drawn anew for each request. `compile` gives the compiled form
    /// of the tools, as [`ToolSet::compile`] does.
    ///
    /// # Errors
    /// The schema of the answer, or of a tool, cannot be used.
    pub fn of_job(
        job: &ChatJob,
        id_seed: &str,
        compile: impl FnOnce(&[ToolSpec]) -> Result<Arc<ToolSet>, ToolSetError>,
    ) -> Result<Self, RequestError> {
        let plan = Self::of(&job.wishes, 0);
        match (&job.question, job.making) {
            (Question::Conversation(conversation), Making::Text) => {
                let tools = tool_plan(conversation, id_seed, compile)?;
                Ok(Self { tools, json: JsonForm::of(&conversation.output)?, ..plan })
            }
            (_, Making::Work(Work::Research)) => Ok(Self { cites: true, ..plan }),
            (Question::Conversation(_) | Question::Verbatim(_), _) => Ok(plan),
        }
    }

    /// The stages of a second try, after a first one that cost `spent` was rejected.
    #[must_use]
    pub fn last_try(&self, spent: TokenCounts, prompt_tokens: u64) -> Self {
        let tools = self.tools.clone().map(|tools| ToolPlan { is_last_try: true, ..tools });
        Self { tools, prompt_tokens, spent, ..self.clone() }
    }

    /// The stages of an answer that shows whether the upstream takes declared tools.
    #[must_use]
    pub fn on_trial(&self) -> Self {
        let tools = self.tools.clone().map(|tools| ToolPlan { is_trial: true, ..tools });
        Self { tools, ..self.clone() }
    }

    /// The stages of another try, after one that cost `spent` and was not shown.
    #[must_use]
    pub fn after(&self, spent: TokenCounts) -> Self {
        Self { spent, ..self.clone() }
    }

    /// No stage but the meter: for pictures and videos, and for upstreams that keep the caller's wishes themselves.
    #[must_use]
    pub fn untouched(prompt_tokens: u64) -> Self {
        Self {
            tools: None,
            json: None,
            links_media: false,
            stop: Vec::new(),
            tokens_max: None,
            reasoning_format: ReasoningFormat::Parsed,
            cites: false,
            prompt_tokens,
            spent: TokenCounts::default(),
        }
    }
}

/// The tools and rules that calls are checked by; `None` without tools, or when none may be called.
fn tool_plan(
    conversation: &Conversation,
    id_seed: &str,
    compile: impl FnOnce(&[ToolSpec]) -> Result<Arc<ToolSet>, ToolSetError>,
) -> Result<Option<ToolPlan>, RequestError> {
    if conversation.tools.is_empty() || conversation.tool_choice == ToolChoice::None {
        return Ok(None);
    }
    let tools = compile(&conversation.tools).map_err(|error| {
        let at = conversation.tools.get(error.place).map_or("tools", |tool| tool.parameters_at.as_str());
        RequestError::invalid_value(at, &format!("a JSON Schema that can be used ({error})"))
    })?;
    Ok(Some(ToolPlan {
        tools,
        id_seed: id_seed.to_owned(),
        is_parallel: conversation.parallel_tool_calls,
        choice: conversation.tool_choice.clone(),
        is_last_try: false,
        is_trial: false,
    }))
}

/// The stages of one answer.
#[derive(Debug)]
pub struct Stages {
    /// In a box, as few answers have tools and the stage is large.
    tools: Option<Box<ToolCalls>>,
    behind_tools: BehindTools,
    prompt_tokens: u64,
    spent: TokenCounts,
    /// Set by [`Stages::finish`], read by [`Stages::told_all`].
    told_all: bool,
    /// What [`Stages::repaired_calls`] says.
    repaired_calls: u32,
}

/// The stages after [`ToolCalls`]: JSON, media, then the limits.
#[derive(Debug)]
struct BehindTools {
    json: Option<JsonText>,
    media: Option<MediaLinks>,
    limiter: Option<TextLimiter>,
    after: AfterLimits,
}

/// The stages behind the limits, which the text that the limits held back passes on its own.
#[derive(Debug)]
struct AfterLimits {
    /// Paused while the upstream counts and no limit here can cut the text.
    content: TokenMeter,
    reasoning: TokenMeter,
    /// The tokens that the upstream is known to have counted; 0 if it has counted none yet.
    counted: u64,
    can_be_cut: bool,
    thoughts: Thoughts,
    citations: Option<Citations>,
    sources: Vec<Source>,
}

impl Stages {
    /// The stages of an answer that begins.
    #[must_use]
    pub fn new(plan: &StagePlan) -> Self {
        let limiter = TextLimiter::new(plan.stop.clone(), plan.tokens_max);
        let can_be_cut = !limiter.is_idle();
        let behind_tools = BehindTools {
            json: plan.json.clone().map(JsonText::new),
            media: plan.links_media.then(MediaLinks::default),
            limiter: can_be_cut.then_some(limiter),
            after: AfterLimits {
                content: TokenMeter::default(),
                reasoning: TokenMeter::default(),
                counted: 0,
                can_be_cut,
                thoughts: Thoughts::new(plan.reasoning_format),
                citations: plan.cites.then(Citations::default),
                sources: Vec::new(),
            },
        };
        let tools = plan.tools.clone().map(|plan| Box::new(ToolCalls::new(plan)));
        let prompt_tokens = plan.prompt_tokens;
        Self { tools, behind_tools, prompt_tokens, spent: plan.spent, told_all: false, repaired_calls: 0 }
    }

    /// The reason why the answer is over for the caller although the upstream goes on; `None` while it is not.
    #[must_use]
    pub fn ended(&self) -> Option<FinishReason> {
        self.behind_tools.limiter.as_ref().and_then(TextLimiter::ended)
    }

    /// Takes an event and hands on the resulting events.
    pub fn push(&mut self, event: ReplyEvent<'_>, out: &mut impl FnMut(ReplyEvent<'_>)) {
        let Self { tools, behind_tools, .. } = self;
        match tools {
            Some(tools) => tools.push(event, &mut |event| behind_tools.push(event, out)),
            None => behind_tools.push(event, out),
        }
    }

    /// Whether [`Stages::note_counts`] has been told what the answer cost so far.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.behind_tools.after.counted > 0
    }

    /// Takes the counts that the upstream has given so far. It goes on to count, so that the text that follows need not
    /// be estimated.
    pub fn note_counts(&mut self, counts: TokenCounts) {
        self.behind_tools.after.counted = counts.completion;
    }

    /// Whether the answer, which is over now for this reason, is of the form that was asked for.
    ///
    /// # Errors
    /// [`Rejection`]: it has to be asked for again.
    pub fn judge(&mut self, reason: FinishReason) -> Result<(), Rejection> {
        let reason = self.upstream_reason(reason);
        let Self { tools, behind_tools, .. } = self;
        if let Some(tools) = tools {
            tools.end(reason)?;
            if tools.has_calls() {
                return Ok(());
            }
            // The text that it held back is part of the JSON.
            if let Some(json) = &mut behind_tools.json {
                json.push(&tools.take_text());
            }
        }
        behind_tools.json.as_ref().map_or(Ok(()), |json| json.judge().map(|_| ()))
    }

    /// How the answer, which is over now for this reason, calls tools.
    pub fn called(&mut self, reason: FinishReason) -> Called {
        let reason = self.upstream_reason(reason);
        self.tools.as_mut().map_or(Called::Nothing, |tools| tools.called(reason))
    }

    /// Whether the answer, which is over now for this reason, was looked through for calls and has neither any nor a text.
    pub fn is_silent(&mut self, reason: FinishReason) -> bool {
        let reason = self.upstream_reason(reason);
        self.tools.as_mut().is_some_and(|tools| tools.is_silent(reason))
    }

    /// An answer that was cut here ends as one that the upstream cut.
    fn upstream_reason(&self, reason: FinishReason) -> FinishReason {
        if self.ended().is_some() { FinishReason::Length } else { reason }
    }

    /// Whether the answer, which was ended by [`Stages::finish`], was told with all that it says: neither cut, nor with
    /// words or calls left out. Thoughts, and what stands around JSON that was asked for, do not count.
    #[must_use]
    pub fn told_all(&self) -> bool {
        self.told_all
    }

    /// How many tool calls of the answer, which was ended by [`Stages::finish`], were repaired.
    #[must_use]
    pub fn repaired_calls(&self) -> u32 {
        self.repaired_calls
    }

    /// Ends the answer: hands on what was held back and sums up.
    pub fn finish(
        &mut self,
        reason: FinishReason,
        counts: Option<TokenCounts>,
        out: &mut impl FnMut(ReplyEvent<'_>),
    ) -> Ending {
        let tools_reason = self.upstream_reason(reason);
        let Self { tools, behind_tools, .. } = self;
        let told_all = tools.as_mut().is_none_or(|tools| tools.end(tools_reason).is_ok() && tools.told_all());
        let may_call = tools.is_some();
        self.repaired_calls = tools.as_ref().map_or(0, |tools| tools.repaired());
        let has_calls =
            tools.take().is_some_and(|tools| tools.finish(tools_reason, &mut |event| behind_tools.push(event, out)));
        behind_tools.end_json(has_calls, out);
        let held = behind_tools.limiter.as_mut().map(TextLimiter::finish).unwrap_or_default();
        if !held.is_empty() {
            behind_tools.after.push(ReplyEvent::Text(Text::Plain(&held)), out);
        }
        let cut = self.ended();
        let Self { behind_tools: BehindTools { after, limiter, .. }, prompt_tokens, spent, .. } = self;
        let stop_sequence = limiter.as_mut().and_then(TextLimiter::take_met);
        self.told_all = told_all && cut.is_none();
        after.finish(out);
        let sources = std::mem::take(&mut after.sources);
        let reason = match reason {
            _ if has_calls => FinishReason::ToolCalls,
            // The upstream ended with tool calls, but none was of a declared tool.
            FinishReason::ToolCalls if may_call => FinishReason::Stop,
            reason => reason,
        };
        let is_counted = counts.is_some_and(|counts| counts.prompt > 0 && counts.completion > 0);
        Ending {
            reason: cut.unwrap_or(reason),
            stop_sequence,
            usage: after.usage(counts, *prompt_tokens, cut.is_some()).and(*spent),
            is_usage_estimated: !is_counted || cut.is_some(),
            citations: after.citations.take().unwrap_or_default().found(&sources),
            sources,
        }
    }
}

impl BehindTools {
    fn push(&mut self, event: ReplyEvent<'_>, out: &mut impl FnMut(ReplyEvent<'_>)) {
        match (&mut self.json, &event) {
            (Some(json), ReplyEvent::Text(text)) => json.push(&text.plain()),
            _ => self.shape(event, out),
        }
    }

    /// Hands on the JSON; beside calls it is not required. Nothing is handed on of an answer that is none: the caller of
    /// [`Stages::finish`] has judged it, or tells that it was cut.
    fn end_json(&mut self, has_calls: bool, out: &mut impl FnMut(ReplyEvent<'_>)) {
        if let Some(json) = self.json.take() {
            let text = json.judge().unwrap_or_default();
            if !text.is_empty() || !has_calls {
                self.shape(ReplyEvent::Text(Text::Plain(text)), out);
            }
        }
    }

    fn shape(&mut self, event: ReplyEvent<'_>, out: &mut impl FnMut(ReplyEvent<'_>)) {
        let Self { media, limiter, after, .. } = self;
        let mut limited = |event: ReplyEvent<'_>| match (&mut *limiter, event) {
            (Some(limiter), ReplyEvent::Text(text)) => {
                let shown = limiter.push(&text.plain());
                if !shown.is_empty() {
                    after.push(ReplyEvent::Text(Text::Plain(&shown)), out);
                }
            }
            (_, event) => after.push(event, out),
        };
        match media {
            Some(media) => media.push(event, &mut limited),
            None => limited(event),
        }
    }
}

impl AfterLimits {
    fn push(&mut self, event: ReplyEvent<'_>, out: &mut impl FnMut(ReplyEvent<'_>)) {
        let Self { content, reasoning, counted, can_be_cut, thoughts, citations, sources } = self;
        match &event {
            ReplyEvent::Text(_) | ReplyEvent::ToolArguments { .. } if *counted > 0 && !*can_be_cut => {}
            ReplyEvent::Text(text) => content.add(*text),
            ReplyEvent::ToolArguments { json, .. } => content.add(Text::Plain(json)),
            ReplyEvent::Reasoning(text) => reasoning.add(*text),
            _ => {}
        }
        if let ReplyEvent::Source(source) = event {
            sources.push(source);
            return;
        }
        thoughts.push(event, &mut |event| note_and_hand_on(citations, event, out));
    }

    fn finish(&mut self, out: &mut impl FnMut(ReplyEvent<'_>)) {
        let Self { thoughts, citations, .. } = self;
        thoughts.finish(&mut |event| note_and_hand_on(citations, event, out));
    }

    /// The upstream's counts, or estimates where it gave none or where the answer was cut here. Prompt and completion
    /// are at least 1.
    fn usage(&self, counts: Option<TokenCounts>, prompt_tokens: u64, is_cut: bool) -> TokenCounts {
        let counts = counts.unwrap_or_default();
        // Some frames leave the parts out, and the last counts are the ones that are kept.
        let reasoning = if counts.reasoning == 0 { self.reasoning.tokens() } else { counts.reasoning };
        let said = self.content.tokens() + reasoning;
        let completion = match counts.completion {
            _ if is_cut => said,
            0 => said.max(self.counted),
            completion => completion,
        };
        let prompt = if counts.prompt == 0 { prompt_tokens } else { counts.prompt };
        let (prompt, completion) = (prompt.max(1), completion.max(1));
        TokenCounts { prompt, completion, reasoning: reasoning.min(completion), cached: counts.cached.min(prompt) }
    }
}

fn note_and_hand_on(citations: &mut Option<Citations>, event: ReplyEvent<'_>, out: &mut impl FnMut(ReplyEvent<'_>)) {
    if let (Some(citations), ReplyEvent::Text(text)) = (citations, &event) {
        citations.push(&text.plain());
    }
    out(event);
}
