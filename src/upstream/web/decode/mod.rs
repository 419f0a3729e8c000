//! The web chat's event stream, frame by frame, into reply events.
//!
//! Knows the phases of late 2026 and the older forms, keeps to the first of two interleaved answers, turns the
//! cumulative thinking summaries into increments, and tells a finished answer from one that merely ended.
//!
//! This is one long file because it is one state machine: each phase rests on what the frames before it have set.

pub(crate) mod frames;
mod picture_links;
mod summary;
pub(crate) mod values;

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::chat::reply::{FinishReason, ReplyError, ReplyEvent, Source, Text, TokenCounts};
use crate::upstream::classify::is_challenge;
use crate::upstream::web::decode::frames::{Created, Delta, StreamObject};
use crate::upstream::web::decode::picture_links::{is_link, is_picture_link, may_be_pictures, picture_links};
use crate::upstream::web::decode::summary::Summary;
use crate::upstream::web::decode::values::{count, has_surrogate, is_text, plain, scalar, text_of, unescaped};

/// Decodes one answer. Give it the data of each event, then [`QwenReplyDecoder::finish`].
#[derive(Debug, Default)]
pub struct QwenReplyDecoder {
    response_id: Option<String>,
    /// `response_id` was not announced as the first answer; the first may still come.
    is_second_choice: bool,
    /// Answers that were announced beside ours.
    others: Vec<String>,
    finished: bool,
    has_content: bool,
    /// Part of the answer was handed on, if only a thought.
    has_said: bool,
    summary: Summary,
    /// The last non-empty `usage`, as it came: parsed once, at the end.
    usage: Vec<u8>,
    /// First half of a surrogate pair whose second half is in the next piece of text, and whether that is a thought.
    pending_surrogate: Option<(u16, bool)>,
    images: HashSet<String>,
    /// Whether the request asked for pictures.
    is_for_pictures: bool,
    /// Text that may consist of picture URLs only, held back until that is decided; `None` afterwards.
    held: Option<String>,
    /// Addresses of the search hits so far, each at its number in the turn less one.
    sources: Vec<String>,
    /// The list of hits of the last frame that had one, to tell a frame that comes again.
    last_hits: Vec<String>,
    /// The generation was stopped, but not by this server.
    is_stopped: bool,
    /// The caller declared tools, so calls in the phase `local_tool` are meant for the caller.
    has_tools: bool,
    /// Number of calls so far.
    calls: u32,
    /// Text of a deep research before it searches: a plan, or a question to the user when nothing follows.
    opening: Opening,
    /// The report of a deep research is complete.
    has_report: bool,
    /// Text of a failed tool. It counts only when no answer follows.
    tool_error: Option<String>,
}

/// The first words of a deep research.
#[derive(Debug, Default)]
struct Opening {
    text: String,
    /// Its last frame has come.
    is_complete: bool,
    /// The research has begun: what is planned later is a thought like any other.
    is_over: bool,
    /// The step whose thoughts were shown last; the next one begins a new paragraph.
    last_step: Option<&'static str>,
}

impl QwenReplyDecoder {
    /// A decoder at the beginning of an answer.
    #[must_use]
    pub fn new() -> Self {
        Self { held: Some(String::new()), ..Self::default() }
    }

    /// A decoder for an answer that has to be pictures.
    #[must_use]
    pub fn for_pictures() -> Self {
        Self { is_for_pictures: true, ..Self::new() }
    }

    /// The same, for an answer that may call tools of the caller.
    #[must_use]
    pub fn with_tools(self) -> Self {
        Self { has_tools: true, ..self }
    }

    /// The upstream's id of the answer, once it is known.
    #[must_use]
    pub fn response_id(&self) -> Option<&str> {
        self.response_id.as_deref()
    }

    /// Whether the answer's last frame has come; nothing after it counts.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The counts of the last frame that had any.
    #[must_use]
    pub fn usage(&self) -> Option<TokenCounts> {
        if self.usage.is_empty() {
            return None;
        }
        let usage: Value = serde_json::from_slice(&self.usage).ok()?;
        let of = |object: &Value, key: &str| object.get(key).and_then(count);
        let inside = |object: &str, key: &str| usage.get(object).and_then(|object| of(object, key));
        let (prompt, completion) = (of(&usage, "input_tokens"), of(&usage, "output_tokens"));
        let cached = inside("prompt_tokens_details", "cached_tokens").or_else(|| of(&usage, "cached_tokens"));
        let reasoning = inside("output_tokens_details", "reasoning_tokens");
        let (prompt, completion) = (prompt.unwrap_or(0), completion.unwrap_or(0));
        Some(TokenCounts {
            prompt,
            completion,
            reasoning: reasoning.unwrap_or(0).min(completion),
            cached: cached.unwrap_or(0).min(prompt),
        })
    }

    /// Takes the data of one event and hands out what it means.
    ///
    /// # Errors
    /// [`ReplyError::Json`] for an unreadable frame, [`ReplyError::Refused`] and [`ReplyError::Challenged`] for a
    /// failure that the upstream reports, [`ReplyError::Empty`] for an answer that finishes without content,
    /// [`ReplyError::Truncated`] for a `[DONE]` before the finish.
    pub fn push(&mut self, data: &[u8], sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        // A broken character in one place must not cost the whole answer.
        let text = simdutf8::basic::from_utf8(data).map_or_else(|_| String::from_utf8_lossy(data), Cow::Borrowed);
        let mut rest = text.trim();
        // Lines that a proxy joined into one event are still one frame after the other.
        while !rest.is_empty() && !self.finished {
            if rest.starts_with('{') {
                let mut frames = serde_json::Deserializer::from_str(rest).into_iter::<StreamObject<'_>>();
                let Some(Ok(frame)) = frames.next() else {
                    return Err(ReplyError::Json);
                };
                let (raw, after) = rest.split_at_checked(frames.byte_offset()).unwrap_or((rest, ""));
                // A frame with neither an answer nor its beginning may come from the risk engine, in one of its forms.
                let is_said = frame.delta.is_some() || frame.created.is_some();
                if !is_said && serde_json::from_str(raw).is_ok_and(|value| is_challenge(&value)) {
                    return Err(ReplyError::Challenged);
                }
                self.frame(&frame, sink)?;
                rest = after.trim_start();
                continue;
            }
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            rest = after.trim_start();
            match line.trim_end() {
                "[DONE]" => return self.finish(sink),
                // Seen at the end of streams.
                "true" => sink(ReplyEvent::Activity),
                _ => sink(ReplyEvent::Unknown { what: "scalar" }),
            }
        }
        Ok(())
    }

    /// Ends the answer where the upstream's stream ended.
    ///
    /// # Errors
    /// [`ReplyError::Truncated`] when the last frame has not come, [`ReplyError::Empty`] when nothing has.
    pub fn finish(&mut self, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        if !self.finished && self.calls > 0 && !self.is_stopped {
            // The frame with the calls is a last frame too.
            return self.ended(sink);
        }
        let asks = self.opening.is_complete && !self.opening.text.trim().is_empty();
        if !self.finished && !self.is_stopped && (self.has_report || asks) {
            return self.ended(sink);
        }
        let is_held = self.held.as_deref().is_some_and(|held| !held.trim().is_empty());
        match (self.finished, self.has_content || is_held) {
            (true, _) => Ok(()),
            (false, true) => Err(ReplyError::Truncated),
            (false, false) => Err(self.nothing_said()),
        }
    }

    /// The error of an answer without content.
    fn nothing_said(&mut self) -> ReplyError {
        match self.tool_error.take() {
            Some(details) => ReplyError::Refused { code: "tool_error".to_owned(), details, hours: None },
            None => ReplyError::Empty,
        }
    }

    fn frame(&mut self, frame: &StreamObject<'_>, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        if let Some(created) = &frame.created {
            self.created(created, sink);
        }
        if let Some(stopped) = frame.stopped {
            // The id stands inside or beside it. Of another answer it means nothing.
            let inner = serde_json::from_str::<Value>(stopped.get()).unwrap_or_default();
            let inside = inner.get("response_id").and_then(Value::as_str).map(str::to_owned);
            let id = inside.or_else(|| frame.response_id.and_then(scalar).map(Cow::into_owned));
            self.is_stopped |= id.is_none() || self.response_id.is_none() || id == self.response_id;
            sink(ReplyEvent::Activity);
            return Ok(());
        }
        if !self.is_ours(frame.response_id, frame.delta.is_some(), sink) {
            return Ok(());
        }
        if let Some(error) = failure(frame) {
            return Err(error);
        }
        // Tool results carry `{}`.
        if let Some(usage) = frame.usage.map(RawValue::get).filter(|usage| usage.bytes().any(|byte| byte == b':')) {
            self.usage.clear();
            self.usage.extend_from_slice(usage.as_bytes());
        }
        if let Some(delta) = &frame.delta {
            return self.delta(delta, sink);
        }
        if let Some(sources) = frame.sources {
            self.hits(&serde_json::from_str(sources.get()).unwrap_or_default(), None, sink);
        }
        if frame.info.is_some() || frame.has_choices || frame.done.is_some() || frame.sources.is_some() {
            sink(ReplyEvent::Activity);
        } else if frame.created.is_none() {
            sink(ReplyEvent::Unknown { what: "frame" });
        }
        Ok(())
    }

    /// Two answers may be announced, in either order; ours is the one with the index 0, unless another has begun.
    fn created(&mut self, created: &Created<'_>, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let Some(id) = created.response_id.and_then(scalar) else {
            return;
        };
        let is_first = created.response_index.and_then(scalar).is_none_or(|index| index.trim() == "0");
        let is_better = is_first && self.is_second_choice && !self.has_said;
        match &self.response_id {
            Some(ours) if *ours == id => self.is_second_choice &= !is_first,
            Some(_) if !is_better => self.others.push(id.into_owned()),
            _ => {
                sink(ReplyEvent::Started { response_id: &id });
                self.is_second_choice = !is_first;
                self.others.extend(self.response_id.replace(id.into_owned()));
                self.summary.restart();
            }
        }
        self.others.truncate(OTHERS_MAX);
    }

    /// Frames of two answers may be interleaved. One without an id belongs to ours; an answer that was never
    /// announced becomes ours as long as ours has said nothing.
    fn is_ours(&mut self, id: Option<&RawValue>, is_delta: bool, sink: &mut impl FnMut(ReplyEvent<'_>)) -> bool {
        // Most frames have the same id, in the same spelling.
        if id.zip(self.response_id.as_deref()).is_some_and(|(id, ours)| is_text(id, ours)) {
            return true;
        }
        let Some(id) = id.and_then(scalar) else {
            return true;
        };
        match &self.response_id {
            Some(ours) if *ours == id => true,
            Some(_) if self.has_said || self.others.iter().any(|other| *other == id) => false,
            _ => {
                if is_delta {
                    sink(ReplyEvent::Started { response_id: &id });
                    self.response_id = Some(id.into_owned());
                    self.is_second_choice = true;
                }
                true
            }
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        let status = delta.status.and_then(scalar).unwrap_or_default();
        let is_call = delta.function_call.is_some_and(|call| !NO_CALL.contains(&call.get()));
        let is_tool = is_call || delta.role.and_then(scalar).is_some_and(|role| role == "function");
        let is_end = status == "finished";
        let phase = delta.phase.and_then(scalar).unwrap_or_default();
        if status == "error" {
            let details = delta.content.and_then(plain).filter(|text| !text.is_empty());
            if is_tool || !matches!(phase.as_ref(), "answer" | "" | "think" | "thinking_summary" | "image_gen") {
                // A tool that failed does not end the turn: the model may go on and answer.
                let said = delta.extra.and_then(|extra| serde_json::from_str::<Value>(extra.get()).ok());
                let said = said.and_then(|extra| Some(extra.get("error")?.as_str()?.to_owned()));
                self.tool_error = Some(said.or(details).unwrap_or_else(|| "a tool failed".to_owned()));
                sink(ReplyEvent::Activity);
                return Ok(());
            }
            return Err(ReplyError::Refused {
                code: "error".to_owned(),
                details: details.unwrap_or_default(),
                hours: None,
            });
        }
        match phase.as_ref() {
            // Without a phase: streams of 2025, or a request that did not ask for phases.
            "answer" | "" if !is_tool => {
                self.summary.end(sink);
                self.has_said |= self.summary.has_spoken();
                self.answer(delta.content, sink);
                if is_end {
                    self.ended(sink)?;
                }
            }
            "thinking_summary" => {
                self.summary.take(delta.extra, sink);
                self.has_said |= self.summary.has_spoken();
                self.text(delta.content, true, sink);
                if is_end {
                    self.summary.end(sink);
                    self.has_said |= self.summary.has_spoken();
                }
            }
            "think" => self.text(delta.content, true, sink),
            "ResearchNotice" | "ResearchPlanning" if !is_tool && !self.opening.is_over => {
                self.opening.text.push_str(&delta.content.and_then(plain).unwrap_or_default());
                self.opening.is_complete = is_end;
                self.has_said = true;
                if self.opening.text.len() > HELD_BYTES_MAX {
                    self.open_research(sink);
                }
                sink(ReplyEvent::Activity);
            }
            "Writing" if !is_tool => {
                self.open_research(sink);
                self.text(delta.content, false, sink);
                self.has_report |= is_end && self.has_content;
                sink(ReplyEvent::Activity);
            }
            "image_gen" if !is_tool => {
                for url in delta.content.map(picture_links).unwrap_or_default() {
                    self.image(&url, sink);
                }
                if is_end {
                    self.ended(sink)?;
                }
            }
            phase => self.other_phase(phase, is_tool, delta, sink),
        }
        Ok(())
    }

    /// Built-in tools, and phases that this version does not know: with tool keys they are activity, with text
    /// they are shown as thoughts, never as the answer.
    fn other_phase(&mut self, phase: &str, is_tool: bool, delta: &Delta<'_>, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let research = RESEARCH_PHASES.into_iter().find(|step| *step == phase);
        let known = research.is_some() || TOOL_PHASES.contains(&phase);
        if let Some(step) = research {
            self.open_research(sink);
            let has_text = !is_tool && delta.content.and_then(plain).is_some_and(|text| !text.is_empty());
            if has_text && self.opening.last_step.replace(step).is_some_and(|last| last != step) {
                sink(ReplyEvent::Reasoning(Text::Plain("\n\n")));
            }
        }
        if !known {
            let what: String = phase.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
            sink(ReplyEvent::Unknown { what: &what });
        }
        let extra: Value = delta.extra.and_then(|extra| serde_json::from_str(extra.get()).ok()).unwrap_or_default();
        self.search_hits(&extra, sink);
        if phase == "local_tool" && self.has_tools {
            self.local_calls(&extra, sink);
        }
        // One set of pictures may stand under two lists of links: for display, and the originals.
        let pictures = |name: &str| {
            let entries = extra.get(name).and_then(Value::as_array).into_iter().flatten();
            let links = entries.filter_map(|entry| entry.as_str().or_else(|| entry.get("image")?.as_str()));
            links.map(|link| link.trim().to_owned()).collect::<Vec<_>>()
        };
        let shown = Some(pictures("image_list")).filter(|links| !links.is_empty());
        for url in shown.unwrap_or_else(|| pictures("tool_result")) {
            self.image(&url, sink);
        }
        if (research.is_some() || !known) && !is_tool {
            self.text(delta.content, true, sink);
        }
        sink(ReplyEvent::Activity);
    }

    /// Calls of the caller's tools, in the upstream's own form: `extra.local_mcp.LocalTools`, a list of names with
    /// parameters.
    fn local_calls(&mut self, extra: &Value, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let list = extra.pointer("/local_mcp/LocalTools").and_then(Value::as_array).map(Vec::as_slice);
        for call in list.unwrap_or_default() {
            let Some(name) = call.get("tool_name").and_then(Value::as_str) else { continue };
            let arguments = match call.get("params") {
                None | Some(Value::Null) => "{}".to_owned(),
                Some(Value::String(json)) => json.clone(),
                Some(params) => params.to_string(),
            };
            let index = self.calls;
            sink(ReplyEvent::ToolCall { index, id: "", name });
            sink(ReplyEvent::ToolArguments { index, json: &arguments });
            sink(ReplyEvent::ToolCallDone { index });
            self.calls += 1;
            (self.has_content, self.has_said) = (true, true);
        }
    }

    /// Marks the text so far as the plan of a research that has begun.
    fn open_research(&mut self, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        self.opening.is_over = true;
        let text = std::mem::take(&mut self.opening.text);
        if !text.is_empty() {
            self.opening.last_step = Some("");
            sink(ReplyEvent::Reasoning(Text::Plain(&text)));
        }
    }

    fn answer(&mut self, content: Option<&RawValue>, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        if !self.opening.text.is_empty() && content.and_then(plain).is_some_and(|piece| !piece.trim().is_empty()) {
            self.open_research(sink);
        }
        let Some(held) = &mut self.held else {
            return self.text(content, false, sink);
        };
        let piece = content.and_then(plain).unwrap_or_default();
        let is_blank = held.is_empty() && piece.trim().is_empty();
        // A link has no halves of characters, which `plain` leaves out and `text` puts together.
        let is_plain = content.is_none_or(|content| !has_surrogate(content.get()));
        if self.is_for_pictures || (is_plain && !is_blank && may_be_pictures(&format!("{held}{piece}"))) {
            held.push_str(&piece);
            if held.len() > HELD_BYTES_MAX {
                self.release(self.is_for_pictures, sink);
                self.held = None;
            }
            return;
        }
        if !is_blank {
            self.release(false, sink);
            self.held = None;
        }
        self.text(content, false, sink);
    }

    /// Hands out what was held: as pictures, if they `may_be` and it is nothing but their addresses.
    fn release(&mut self, may_be: bool, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let Some(held) = self.held.as_mut().map(std::mem::take).filter(|held| !held.trim().is_empty()) else {
            return;
        };
        let is_picture = if self.is_for_pictures { is_link } else { is_picture_link };
        if may_be && held.split_whitespace().all(is_picture) {
            held.split_whitespace().for_each(|url| self.image(url, sink));
        } else {
            (self.has_content, self.has_said) = (true, true);
            sink(ReplyEvent::Text(Text::Plain(&held)));
        }
    }

    fn text(&mut self, content: Option<&RawValue>, is_reasoning: bool, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let Some(literal) = content.map(RawValue::get) else {
            return;
        };
        let pending = self.pending_surrogate.filter(|(_, of_thought)| *of_thought == is_reasoning);
        let owned;
        let text = if !literal.starts_with('"') {
            // Blocks, as older interfaces had them.
            owned = serde_json::from_str(literal).map(|value| text_of(&value)).unwrap_or_default();
            if owned.is_empty() {
                sink(ReplyEvent::Unknown { what: "content" });
            }
            Text::Plain(&owned)
        } else if literal.len() > 2 && (pending.is_some() || has_surrogate(literal)) {
            let mut half = pending.map(|(half, _)| half);
            owned = unescaped(literal, &mut half);
            self.pending_surrogate = half.map(|half| (half, is_reasoning));
            Text::Plain(&owned)
        } else {
            Text::Literal(literal)
        };
        if text.is_empty() {
            return;
        }
        self.has_said = true;
        if is_reasoning {
            sink(ReplyEvent::Reasoning(text));
        } else {
            self.has_content = true;
            sink(ReplyEvent::Text(text));
        }
    }

    fn image(&mut self, url: &str, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        if !is_link(url) {
            sink(ReplyEvent::Unknown { what: "image" });
        } else if self.images.insert(url.to_owned()) {
            (self.has_content, self.has_said) = (true, true);
            sink(ReplyEvent::Image { url });
        }
    }

    /// The hits of a frame: `docs` and `web_search_info` are one list.
    fn search_hits(&mut self, extra: &Value, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let result = extra.get("tool_result");
        let docs = result.and_then(|result| result.as_array().or_else(|| result.get("docs")?.as_array()));
        let info = extra.get("web_search_info").and_then(Value::as_array);
        let is_hit = |hit: &&Value| hit.get("image").is_none();
        let mut hits: Vec<Value> = docs.into_iter().flatten().filter(is_hit).cloned().collect();
        let has_docs = !hits.is_empty();
        for hit in info.into_iter().flatten() {
            // Beside the hits of one round in `docs`, this list has those of all rounds so far.
            let url = url_of(hit);
            let is_known = has_docs && (self.sources.contains(&url) || hits.iter().any(|known| url_of(known) == url));
            if !is_known {
                hits.push(hit.clone());
            }
        }
        let next = result.and_then(|result| result.get("used_id")).and_then(count);
        self.hits(&Value::Array(hits), next, sink);
    }

    /// Numbers hits over the whole turn, repeats included, since marks in the text count so. `next` is the number after
    /// the last hit of the list, where the upstream tells it; otherwise a list that begins with all hits so far goes
    /// on, and any other is a further round.
    fn hits(&mut self, list: &Value, next: Option<u64>, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let urls: Vec<String> = list.iter().map(url_of).collect();
        // Numbers of hits, where the upstream sends them, distinguish a repeated frame from a round with the same hits.
        if list.is_empty() || (next.is_none() && urls == self.last_hits) {
            return;
        }
        let seen = self.sources.len();
        let next =
            next.and_then(|next| usize::try_from(next).ok()).filter(|next| *next <= seen + list.len() + HITS_GAP_MAX);
        let first = next.and_then(|next| next.checked_sub(list.len() + 1)).unwrap_or_else(|| {
            let goes_on =
                seen > 0 && urls.len() >= seen && urls.iter().zip(&self.sources).all(|(url, seen)| url == seen);
            if goes_on { 0 } else { seen }
        });
        // Numbers that were skipped keep their place.
        while self.sources.len() < first {
            sink(ReplyEvent::Source(Source { url: String::new(), title: String::new() }));
            self.sources.push(String::new());
        }
        for (hit, url) in list.iter().zip(&urls).skip(seen.saturating_sub(first)) {
            let title = hit.get("title").and_then(Value::as_str).unwrap_or_default().trim();
            let title = if title.is_empty() { url.clone() } else { title.to_owned() };
            sink(ReplyEvent::Source(Source { url: url.clone(), title }));
            self.sources.push(url.clone());
        }
        self.last_hits = urls;
    }

    fn ended(&mut self, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        self.release(true, sink);
        if !self.has_content && !self.opening.text.trim().is_empty() {
            let question = std::mem::take(&mut self.opening.text);
            self.has_content = true;
            sink(ReplyEvent::Text(Text::Plain(&question)));
        }
        // A call of the caller's tools may stand in the thoughts.
        if !self.has_content && (!self.has_tools || !self.has_said) {
            return Err(self.nothing_said());
        }
        if self.is_stopped {
            return Err(ReplyError::Truncated);
        }
        self.finished = true;
        let reason = if self.calls > 0 { FinishReason::ToolCalls } else { FinishReason::Stop };
        sink(ReplyEvent::Finished { reason });
        Ok(())
    }
}

/// Most other answers whose ids are remembered.
const OTHERS_MAX: usize = 8;

/// Values of `function_call` that call nothing.
const NO_CALL: [&str; 4] = ["{}", "[]", "\"\"", "false"];

/// The longest text that is kept as long as it may be addresses of pictures.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Tools of the web chat that are known to appear as phases, and phases that say nothing.
const TOOL_PHASES: [&str; 24] = [
    "web_search",
    "image_search",
    "code_interpreter",
    "image_gen_tool",
    "image_edit_tool",
    "web_extractor",
    "web_search_image",
    "image_zoom_in_tool",
    "history_retriever",
    "bio",
    "local_tool",
    "tool_call",
    "bash",
    "fetch_page",
    "generate_image",
    "edit_file",
    "read_file",
    "write_file",
    "present_file",
    "search_result",
    "KeepAlive",
    "WebResearch",
    "DeepThinking",
    "image_gen",
];

/// Phases of a deep research whose text is shown as thoughts.
const RESEARCH_PHASES: [&str; 4] = ["ResearchNotice", "ResearchPlanning", "ResearchSearching", "ResearchReading"];

/// The address of a search hit; empty when it names none.
fn url_of(hit: &Value) -> String {
    hit.get("url").and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}

/// Most numbers that a list of hits may skip.
const HITS_GAP_MAX: usize = 1000;

/// The failure of a frame that is not an answer: an error, an envelope, or the risk engine.
fn failure(frame: &StreamObject<'_>) -> Option<ReplyError> {
    let value =
        |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or(Value::Null);
    let top = || (frame.code.and_then(scalar).unwrap_or_default(), frame.details.and_then(plain).unwrap_or_default());
    if let Some(error) = frame.error.filter(|error| !NO_ERROR.contains(&error.get())) {
        return Some(match value(Some(error)) {
            Value::Object(_) => refused_by(&value(Some(error)), &top()),
            Value::String(text) => refused_by(&Value::Null, &(top().0, text)),
            _ => refused_by(&Value::Null, &(top().0, error.get().to_owned())),
        });
    }
    // Some frames have code and details at top level, without `success`.
    let is_bare = frame.code.is_some() && frame.details.is_some() && !frame.has_choices && frame.success.is_none();
    let is_failed = frame.success.and_then(scalar).is_some_and(|word| word == "false");
    (is_failed || is_bare).then(|| refused_by(&value(frame.data), &top()))
}

/// Values of `error` that report none.
const NO_ERROR: [&str; 5] = ["{}", "[]", "\"\"", "false", "0"];

/// `top` has the code and the text of the frame itself, where `value` does not say.
fn refused_by(value: &Value, top: &(Cow<'_, str>, String)) -> ReplyError {
    let text = |name: &str| match value.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Null) | None => None,
        Some(other) => Some(other.to_string()),
    };
    let code = text("code").unwrap_or_else(|| top.0.clone().into_owned());
    ReplyError::Refused {
        code: if code.is_empty() { "error".to_owned() } else { code },
        details: text("details").or_else(|| text("message")).unwrap_or_else(|| top.1.clone()),
        hours: value.get("num").and_then(count),
    }
}
