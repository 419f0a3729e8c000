//! Reply events into OpenAI chat completions: [`ReplyShaper`] applies what the caller asked for, then
//! [`ChunkEncoder`] writes a stream or [`CompletionBuilder`] a whole answer.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use crate::chat::job::{ChatJob, ReasoningFormat};
use crate::chat::limits::TextLimiter;
use crate::chat::reply::{FinishReason, ReplyEvent, ReplySink, Source, Text, TokenCounts};
use crate::dialect::openai::wire::{
    Annotation, ChatCompletion, CompletionChoice, CompletionMessage, CompletionTokensDetails, CompletionUsage,
    ErrorBody, PromptTokensDetails, UrlCitation,
};

/// The most text that one chunk carries, in bytes as plain text: with every escape it stays under 64 KiB, since
/// some clients give up on lines of 128 KiB.
const CHUNK_TEXT_BYTES_MAX: usize = 10 * 1024;

/// Something to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A part of the answer.
    Content(Text<'a>),
    /// A part of the thoughts.
    Reasoning(Text<'a>),
}

/// How an answer ended.
#[derive(Debug)]
pub struct Ending {
    /// Why.
    pub reason: FinishReason,
    /// Tokens, each count at least 1.
    pub usage: CompletionUsage,
    /// Pages that a search found.
    pub sources: Vec<Source>,
    /// Marks in the content: first character, character after, place in `sources`.
    pub citations: Vec<(usize, usize, usize)>,
}

/// Applies `stop`, `max_tokens` and the place of thoughts, and notes what the end has to tell.
#[derive(Clone, Debug)]
pub struct ReplyShaper {
    limiter: Option<TextLimiter>,
    format: ReasoningFormat,
    think_open: bool,
    /// The answer proper has begun; thoughts that come later have no place any more.
    is_answering: bool,
    /// The last piece was a picture, which text does not follow on the same line.
    after_image: bool,
    prompt_bytes: u64,
    content_bytes: u64,
    reasoning_bytes: u64,
    sources: Vec<Source>,
    marks: Option<MarkFinder>,
}

impl ReplyShaper {
    /// A shaper for the answer to `job`.
    #[must_use]
    pub fn new(job: &ChatJob) -> Self {
        let limiter = TextLimiter::new(job.stop.clone(), job.tokens_max);
        Self {
            limiter: (!limiter.is_idle()).then_some(limiter),
            format: job.reasoning_format,
            think_open: false,
            is_answering: false,
            after_image: false,
            prompt_bytes: job.prompt.len() as u64,
            content_bytes: 0,
            reasoning_bytes: 0,
            sources: Vec::new(),
            marks: job.search.then(MarkFinder::default),
        }
    }

    /// A shaper that changes nothing but leaves out thoughts, for an upstream that keeps the limits itself and was
    /// asked with a prompt of so many bytes.
    #[must_use]
    pub fn without_limits(prompt_bytes: usize) -> Self {
        Self {
            limiter: None,
            format: ReasoningFormat::Hidden,
            think_open: false,
            is_answering: false,
            after_image: false,
            prompt_bytes: prompt_bytes as u64,
            content_bytes: 0,
            reasoning_bytes: 0,
            sources: Vec::new(),
            marks: None,
        }
    }

    /// Why the answer is over for the caller although the upstream goes on.
    #[must_use]
    pub fn ended(&self) -> Option<FinishReason> {
        self.limiter.as_ref().and_then(TextLimiter::ended)
    }

    /// Takes an event and hands on what there is to show of it.
    pub fn push(&mut self, event: ReplyEvent<'_>, out: &mut impl FnMut(Piece<'_>)) {
        match event {
            ReplyEvent::Text(text) => {
                if std::mem::take(&mut self.after_image) {
                    self.answer(Text::Plain("\n\n"), out);
                }
                self.answer(text, out);
            }
            ReplyEvent::Reasoning(text) => self.thought(text, out),
            ReplyEvent::Image { url } => {
                let before = if self.is_answering { "\n\n" } else { "" };
                self.answer(Text::Plain(&format!("{before}![image]({url})")), out);
                self.after_image = true;
            }
            ReplyEvent::Video { url } => {
                let before = if self.is_answering { "\n\n" } else { "" };
                self.answer(Text::Plain(&format!("{before}[video]({url})")), out);
                self.after_image = true;
            }
            ReplyEvent::Source(source) => self.sources.push(source),
            ReplyEvent::Chunk { .. }
            | ReplyEvent::Started { .. }
            | ReplyEvent::Activity
            | ReplyEvent::Unknown { .. }
            | ReplyEvent::Finished => {}
        }
    }

    /// Ends the answer; hands on what was held back.
    pub fn finish(
        &mut self,
        reason: FinishReason,
        counts: Option<TokenCounts>,
        out: &mut impl FnMut(Piece<'_>),
    ) -> Ending {
        let held = self.limiter.as_mut().map(TextLimiter::finish).unwrap_or_default();
        if !held.is_empty() {
            self.content_bytes += held.len() as u64;
            self.show(Text::Plain(&held), out);
        }
        if self.think_open {
            self.show(Text::Plain("\n</think>"), out);
        }
        let cut = self.ended();
        Ending {
            reason: cut.unwrap_or(reason),
            usage: self.usage(counts, cut.is_some()),
            citations: self.marks.take().unwrap_or_default().found(&self.sources),
            sources: std::mem::take(&mut self.sources),
        }
    }

    fn thought(&mut self, text: Text<'_>, out: &mut impl FnMut(Piece<'_>)) {
        self.reasoning_bytes += text_bytes(text);
        if self.is_answering {
            // Clients close the block of thoughts at the first text, and some fail on a second one.
            return;
        }
        match self.format {
            ReasoningFormat::Parsed => out(Piece::Reasoning(text)),
            ReasoningFormat::Hidden => {}
            ReasoningFormat::Raw => {
                if !self.think_open {
                    self.think_open = true;
                    self.show(Text::Plain("<think>\n"), out);
                }
                self.show(text, out);
            }
        }
    }

    fn answer(&mut self, text: Text<'_>, out: &mut impl FnMut(Piece<'_>)) {
        self.is_answering = true;
        if self.think_open {
            self.think_open = false;
            self.show(Text::Plain("\n</think>\n\n"), out);
        }
        if let Some(limiter) = &mut self.limiter {
            let shown = limiter.push(&text.plain());
            if !shown.is_empty() {
                self.content_bytes += shown.len() as u64;
                self.show(Text::Plain(&shown), out);
            }
        } else {
            self.content_bytes += text_bytes(text);
            self.show(text, out);
        }
    }

    fn show(&mut self, text: Text<'_>, out: &mut impl FnMut(Piece<'_>)) {
        if let Some(marks) = &mut self.marks {
            marks.push(&text.plain());
        }
        out(Piece::Content(text));
    }

    /// The upstream's counts, or estimates where it gave none or where the answer was cut by us.
    fn usage(&self, counts: Option<TokenCounts>, is_cut: bool) -> CompletionUsage {
        let estimate = |bytes: u64| bytes.div_ceil(4);
        let counts = counts.unwrap_or_default();
        // Some frames leave the parts out, and the last counts are the ones that are kept.
        let reasoning = if counts.reasoning == 0 { estimate(self.reasoning_bytes) } else { counts.reasoning };
        let said = estimate(self.content_bytes) + reasoning;
        let completion = if counts.completion == 0 || is_cut { said } else { counts.completion };
        let prompt = if counts.prompt == 0 { estimate(self.prompt_bytes) } else { counts.prompt };
        let (prompt, completion) = (prompt.max(1), completion.max(1));
        CompletionUsage {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            prompt_tokens_details: PromptTokensDetails { cached_tokens: counts.cached.min(prompt) },
            completion_tokens_details: CompletionTokensDetails { reasoning_tokens: reasoning.min(completion) },
        }
    }
}

/// Bytes of a piece, escapes counted as they came.
fn text_bytes(text: Text<'_>) -> u64 {
    match text {
        Text::Plain(text) => text.len() as u64,
        Text::Literal(literal) => literal.len().saturating_sub(2) as u64,
    }
}

/// Finds marks like `[[3]]` in text that comes in pieces.
#[derive(Clone, Debug, Default)]
struct MarkFinder {
    characters: usize,
    opened: u8,
    closed: u8,
    number: usize,
    start: usize,
    marks: Vec<(usize, usize, usize)>,
}

impl MarkFinder {
    fn push(&mut self, text: &str) {
        for c in text.chars() {
            match (c, self.opened, self.closed) {
                ('[', 0, _) => (self.opened, self.start, self.number) = (1, self.characters, 0),
                ('[', 1, _) => self.opened = 2,
                // A third bracket: the mark begins one later.
                ('[', 2, 0) if self.number == 0 => self.start += 1,
                (']', 2, 0) if self.number > 0 => self.closed = 1,
                (']', 2, 1) => {
                    self.marks.push((self.start, self.characters + 1, self.number - 1));
                    (self.opened, self.closed) = (0, 0);
                }
                (digit, 2, 0) if digit.is_ascii_digit() && self.number < 10_000 => {
                    self.number = self.number * 10 + digit.to_digit(10).unwrap_or(0) as usize;
                }
                ('[', ..) => (self.opened, self.closed, self.start, self.number) = (1, 0, self.characters, 0),
                _ => (self.opened, self.closed) = (0, 0),
            }
            self.characters += 1;
        }
    }

    /// The marks that point to a page; a page without a mark is cited at the end of the text.
    fn found(mut self, sources: &[Source]) -> Vec<(usize, usize, usize)> {
        self.marks.retain(|(_, _, source)| sources.get(*source).is_some_and(|source| !source.url.is_empty()));
        let mut cited: HashSet<&str> = HashSet::from([""]);
        cited.extend(self.marks.iter().filter_map(|(_, _, source)| Some(sources.get(*source)?.url.as_str())));
        for (place, source) in sources.iter().enumerate() {
            if cited.insert(&source.url) {
                self.marks.push((self.characters, self.characters, place));
            }
        }
        self.marks
    }
}

/// Writes one answer as a stream of `chat.completion.chunk` events.
#[derive(Debug)]
pub struct ChunkEncoder {
    /// Everything of a chunk before its delta.
    head: Vec<u8>,
    /// Everything of a chunk before its choices.
    head_bare: Vec<u8>,
    include_usage: bool,
}

impl ChunkEncoder {
    /// An encoder whose chunks all carry this `id`, `created` and `model`.
    #[must_use]
    pub fn new(id: &str, created: i64, model: &str, include_usage: bool) -> Self {
        let mut head_bare = b"data: {\"id\":".to_vec();
        append_json(&mut head_bare, id);
        head_bare.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        append_json(&mut head_bare, &created);
        head_bare.extend_from_slice(b",\"model\":");
        append_json(&mut head_bare, model);
        let mut head = head_bare.clone();
        head.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{");
        Self { head, head_bare, include_usage }
    }

    /// The first chunk: the role. Commits nothing, and shows the caller that the answer is under way.
    pub fn role(&self, out: &mut BytesMut) {
        self.delta(out, |out| {
            out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\"");
        });
    }

    /// A piece of text, in as many chunks as its length asks for.
    pub fn piece(&self, piece: Piece<'_>, out: &mut BytesMut) {
        // A thought's chunk has a null content, and a text's chunk no reasoning key: programs that look at one
        // only when the other is empty get the right one, and none sees an empty string between the phases.
        let (key, text): (&[u8], _) = match piece {
            Piece::Content(text) => (b"\"content\":", text),
            Piece::Reasoning(text) => (b"\"content\":null,\"reasoning_content\":", text),
        };
        if text_bytes(text) <= CHUNK_TEXT_BYTES_MAX as u64 {
            self.delta(out, |out| {
                out.extend_from_slice(key);
                append_text(out, text);
            });
            return;
        }
        let plain = text.plain();
        let mut rest: &str = &plain;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rest.floor_char_boundary(CHUNK_TEXT_BYTES_MAX));
            rest = tail;
            self.delta(out, |out| {
                out.extend_from_slice(key);
                append_text(out, Text::Plain(head));
            });
        }
    }

    /// The end: citations if there are any, the one `finish_reason`, the counts if asked for, `[DONE]`.
    pub fn finish(&self, ending: &Ending, out: &mut BytesMut) {
        let annotations = annotations(ending, true);
        if !annotations.is_empty() {
            self.delta(out, |out| {
                out.extend_from_slice(b"\"annotations\":");
                append_json_bytes(out, &annotations);
            });
        }
        out.extend_from_slice(&self.head_bare);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":");
        append_json_bytes(out, ending.reason.as_str());
        out.extend_from_slice(if self.include_usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" });
        if self.include_usage {
            out.extend_from_slice(&self.head_bare);
            out.extend_from_slice(b",\"choices\":[],\"usage\":");
            append_json_bytes(out, &ending.usage);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn delta(&self, out: &mut BytesMut, content: impl FnOnce(&mut BytesMut)) {
        out.extend_from_slice(&self.head);
        content(out);
        out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":null}]");
        out.extend_from_slice(if self.include_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" });
    }
}

/// An error as the last event of a stream: no `finish_reason`, no `[DONE]`. SDKs raise it.
pub fn encode_error(error: &ErrorBody<'_>, out: &mut BytesMut) {
    out.extend_from_slice(b"data: ");
    append_json_bytes(out, error);
    out.extend_from_slice(b"\n\n");
}

/// Collects one answer as a whole `chat.completion`.
#[derive(Debug, Default)]
pub struct CompletionBuilder {
    content: String,
    reasoning: String,
}

impl CompletionBuilder {
    /// Adds a piece.
    pub fn piece(&mut self, piece: Piece<'_>) {
        let (target, text) = match piece {
            Piece::Content(text) => (&mut self.content, text),
            Piece::Reasoning(text) => (&mut self.reasoning, text),
        };
        text.append_to(target);
    }

    /// The JSON of the whole answer.
    #[must_use]
    pub fn finish(self, id: &str, created: i64, model: &str, ending: &Ending) -> Vec<u8> {
        let completion = ChatCompletion {
            id,
            object: "chat.completion",
            created,
            model,
            choices: [CompletionChoice {
                index: 0,
                message: CompletionMessage {
                    role: "assistant",
                    content: &self.content,
                    refusal: None,
                    reasoning_content: (!self.reasoning.is_empty()).then_some(&self.reasoning),
                    annotations: annotations(ending, false),
                },
                finish_reason: ending.reason.as_str(),
                logprobs: None,
            }],
            usage: ending.usage,
        };
        let mut out = Vec::new();
        append_json(&mut out, &completion);
        out
    }
}

/// An answer as a stream: what is ready to be sent gathers in `out`.
#[derive(Debug)]
pub struct ChunkStream {
    shaper: ReplyShaper,
    fresh: ReplyShaper,
    encoder: ChunkEncoder,
    out: BytesMut,
}

/// An answer on its way out as an event stream.
pub trait EventSink: ReplySink {
    /// The first event, which shows that the answer is under way. It belongs to no attempt.
    fn head(&mut self) -> Bytes;

    /// Writes the end of the stream.
    fn finish(&mut self, reason: FinishReason, counts: Option<TokenCounts>);

    /// Writes an error as the last event.
    fn fail(&mut self, error: &ErrorBody<'_>);

    /// Takes what is ready to be sent; `None` when there is nothing.
    fn take(&mut self) -> Option<Bytes>;
}

impl ChunkStream {
    /// The stream that answers `job`.
    #[must_use]
    pub fn new(job: &ChatJob, encoder: ChunkEncoder) -> Self {
        let shaper = ReplyShaper::new(job);
        Self { fresh: shaper.clone(), shaper, encoder, out: BytesMut::new() }
    }
}

impl EventSink for ChunkStream {
    fn head(&mut self) -> Bytes {
        let mut head = BytesMut::new();
        self.encoder.role(&mut head);
        head.freeze()
    }

    fn finish(&mut self, reason: FinishReason, counts: Option<TokenCounts>) {
        let Self { shaper, encoder, out, .. } = self;
        let ending = shaper.finish(reason, counts, &mut |piece| encoder.piece(piece, out));
        encoder.finish(&ending, out);
    }

    fn fail(&mut self, error: &ErrorBody<'_>) {
        encode_error(error, &mut self.out);
    }

    fn take(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }
}

impl ReplySink for ChunkStream {
    fn event(&mut self, event: ReplyEvent<'_>) {
        let Self { shaper, encoder, out, .. } = self;
        shaper.push(event, &mut |piece| encoder.piece(piece, out));
    }

    fn ended(&self) -> Option<FinishReason> {
        self.shaper.ended()
    }

    fn held_bytes(&self) -> usize {
        self.out.len()
    }

    fn reset(&mut self) {
        self.shaper = self.fresh.clone();
        self.out.clear();
    }
}

/// An answer as a whole.
#[derive(Debug)]
pub struct WholeReply {
    shaper: ReplyShaper,
    fresh: ReplyShaper,
    builder: CompletionBuilder,
}

impl WholeReply {
    /// The whole that answers `job`.
    #[must_use]
    pub fn new(job: &ChatJob) -> Self {
        let shaper = ReplyShaper::new(job);
        Self { fresh: shaper.clone(), shaper, builder: CompletionBuilder::default() }
    }

    /// The JSON of the completion.
    #[must_use]
    pub fn finish(
        mut self,
        id: &str,
        created: i64,
        model: &str,
        reason: FinishReason,
        counts: Option<TokenCounts>,
    ) -> Vec<u8> {
        let Self { shaper, builder, .. } = &mut self;
        let ending = shaper.finish(reason, counts, &mut |piece| builder.piece(piece));
        self.builder.finish(id, created, model, &ending)
    }
}

impl ReplySink for WholeReply {
    fn event(&mut self, event: ReplyEvent<'_>) {
        let Self { shaper, builder, .. } = self;
        shaper.push(event, &mut |piece| builder.piece(piece));
    }

    fn ended(&self) -> Option<FinishReason> {
        self.shaper.ended()
    }

    fn held_bytes(&self) -> usize {
        self.builder.content.len() + self.builder.reasoning.len()
    }

    fn reset(&mut self) {
        self.shaper = self.fresh.clone();
        self.builder = CompletionBuilder::default();
    }
}

fn annotations(ending: &Ending, indexed: bool) -> Vec<Annotation<'_>> {
    let cited = ending.citations.iter();
    let cited = cited.filter_map(|(start, end, source)| Some((*start, *end, ending.sources.get(*source)?)));
    cited
        .enumerate()
        .map(|(place, (start_index, end_index, source))| Annotation {
            index: indexed.then_some(place),
            kind: "url_citation",
            url_citation: UrlCitation { start_index, end_index, title: &source.title, url: &source.url },
        })
        .collect()
}

fn append_text(out: &mut BytesMut, text: Text<'_>) {
    match text {
        Text::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
        Text::Plain(plain) => append_json_bytes(out, plain),
    }
}

fn append_json_bytes<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    // Writing these types into memory cannot fail.
    let _ = serde_json::to_writer(bytes::BufMut::writer(&mut *out), value);
}

fn append_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let _ = serde_json::to_writer(&mut *out, value);
}
