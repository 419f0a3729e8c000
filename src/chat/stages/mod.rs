//! What is applied to an answer, whichever upstream gave it: events in, events out.
//!
//! [`Stages`] holds the stages of one answer in their order:
//!
//! 1. [`media`]: pictures and videos become Markdown links, for dialects of text;
//! 2. [`limits`]: stop sequences and the token limit cut the text;
//! 3. the meter counts what is left, for usage;
//! 4. [`thoughts`]: reasoning goes where the caller wants it;
//! 5. [`citations`]: places of the shown text that cite search results are noted.
//!
//! A new attempt begins with new stages.

pub mod citations;
pub mod limits;
pub mod media;
pub mod thoughts;

use crate::chat::job::{ReasoningFormat, Wishes};
use crate::chat::reply::{Ending, FinishReason, ReplyEvent, Source, Text, TokenCounts};
use crate::chat::stages::citations::Citations;
use crate::chat::stages::limits::TextLimiter;
use crate::chat::stages::media::MediaLinks;
use crate::chat::stages::thoughts::Thoughts;
use crate::chat::tokens::TokenMeter;

/// Which stages an answer passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagePlan {
    /// Whether pictures and videos become links in the text.
    pub links_media: bool,
    /// Sequences that end the answer.
    pub stop: Vec<String>,
    /// The most tokens of text.
    pub tokens_max: Option<u32>,
    /// Where thoughts go.
    pub reasoning_format: ReasoningFormat,
    /// Whether the text may cite search results.
    pub cites: bool,
    /// An estimate of the prompt's tokens, used when the upstream gives no counts.
    pub prompt_tokens: u64,
}

impl StagePlan {
    /// The stages of a text for an upstream that keeps none of the wishes itself.
    #[must_use]
    pub fn of(wishes: &Wishes, prompt_tokens: u64) -> Self {
        Self {
            links_media: true,
            stop: wishes.stop.clone(),
            tokens_max: wishes.tokens_max,
            reasoning_format: wishes.reasoning_format.unwrap_or(ReasoningFormat::Parsed),
            cites: wishes.search.unwrap_or(false),
            prompt_tokens,
        }
    }

    /// No stage but the meter: for pictures and videos, and for upstreams that keep the caller's wishes themselves.
    #[must_use]
    pub fn untouched(prompt_tokens: u64) -> Self {
        Self {
            links_media: false,
            stop: Vec::new(),
            tokens_max: None,
            reasoning_format: ReasoningFormat::Parsed,
            cites: false,
            prompt_tokens,
        }
    }
}

/// The stages of one answer.
#[derive(Debug)]
pub struct Stages {
    media: Option<MediaLinks>,
    limiter: Option<TextLimiter>,
    after: AfterLimits,
    prompt_tokens: u64,
}

/// The stages behind the limits, which the text that the limits held back passes on its own.
#[derive(Debug)]
struct AfterLimits {
    content: TokenMeter,
    reasoning: TokenMeter,
    thoughts: Thoughts,
    citations: Option<Citations>,
    sources: Vec<Source>,
}

impl Stages {
    /// The stages of an answer that begins.
    #[must_use]
    pub fn new(plan: &StagePlan) -> Self {
        let limiter = TextLimiter::new(plan.stop.clone(), plan.tokens_max);
        Self {
            media: plan.links_media.then(MediaLinks::default),
            limiter: (!limiter.is_idle()).then_some(limiter),
            after: AfterLimits {
                content: TokenMeter::default(),
                reasoning: TokenMeter::default(),
                thoughts: Thoughts::new(plan.reasoning_format),
                citations: plan.cites.then(Citations::default),
                sources: Vec::new(),
            },
            prompt_tokens: plan.prompt_tokens,
        }
    }

    /// Why the answer is over for the caller although the upstream goes on.
    #[must_use]
    pub fn ended(&self) -> Option<FinishReason> {
        self.limiter.as_ref().and_then(TextLimiter::ended)
    }

    /// Takes an event and hands on what becomes of it.
    pub fn push(&mut self, event: ReplyEvent<'_>, out: &mut impl FnMut(ReplyEvent<'_>)) {
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

    /// Ends the answer: hands on what was held back and sums up.
    pub fn finish(
        &mut self,
        reason: FinishReason,
        counts: Option<TokenCounts>,
        out: &mut impl FnMut(ReplyEvent<'_>),
    ) -> Ending {
        let held = self.limiter.as_mut().map(TextLimiter::finish).unwrap_or_default();
        if !held.is_empty() {
            self.after.push(ReplyEvent::Text(Text::Plain(&held)), out);
        }
        let cut = self.ended();
        let Self { after, prompt_tokens, .. } = self;
        after.finish(out);
        let sources = std::mem::take(&mut after.sources);
        Ending {
            reason: cut.unwrap_or(reason),
            usage: after.usage(counts, *prompt_tokens, cut.is_some()),
            citations: after.citations.take().unwrap_or_default().found(&sources),
            sources,
        }
    }
}

impl AfterLimits {
    fn push(&mut self, event: ReplyEvent<'_>, out: &mut impl FnMut(ReplyEvent<'_>)) {
        let Self { content, reasoning, thoughts, citations, sources } = self;
        match &event {
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
        let completion = if counts.completion == 0 || is_cut { said } else { counts.completion };
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
