//! The web chat's event stream, frame by frame, into reply events.
//!
//! Knows the phases of late 2026 and the older forms, keeps to the first of two interleaved answers, turns the
//! cumulative thinking summaries into increments, and tells a finished answer from one that merely ended.

use std::collections::HashSet;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::transform::reply::{ReplyError, ReplyEvent, Source, Text, TokenCounts};
use crate::wire::qwen::{Delta, Extra, SearchHit, StreamObject, Usage};

/// Decodes one answer. Give it the data of each event, then [`QwenReplyDecoder::finish`].
#[derive(Debug, Default)]
pub struct QwenReplyDecoder {
    response_id: Option<String>,
    finished: bool,
    has_content: bool,
    summary: Summary,
    /// A thought of a summary is out, so the next one needs a blank line before it.
    summary_said: bool,
    /// The last non-empty `usage`, as it came: parsed once, at the end.
    usage: Vec<u8>,
    /// First half of a surrogate pair whose second half is in the next piece of text.
    pending_surrogate: Option<u16>,
    images: HashSet<String>,
    sources: HashSet<String>,
}

/// How much of a thinking summary has been handed out.
#[derive(Debug, Default)]
struct Summary {
    /// The items as last seen: title and thought. All but the last are complete.
    items: Vec<(String, String)>,
    /// Bytes of the last item's thought that are out; `None` while its title is not.
    last_out: Option<usize>,
}

impl QwenReplyDecoder {
    /// A decoder at the beginning of an answer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
        let usage: Usage = serde_json::from_slice(&self.usage).ok()?;
        Some(TokenCounts {
            prompt: usage.input_tokens,
            completion: usage.output_tokens,
            reasoning: usage.output_tokens_details.reasoning_tokens.min(usage.output_tokens),
            cached: usage.prompt_tokens_details.cached_tokens.min(usage.input_tokens),
        })
    }

    /// Takes the data of one event and hands out what it means.
    ///
    /// # Errors
    /// [`ReplyError::Json`] for an unreadable frame, [`ReplyError::Refused`] and [`ReplyError::Challenged`] for a
    /// failure that the upstream reports, [`ReplyError::Empty`] for an answer that finishes without content,
    /// [`ReplyError::Truncated`] for a `[DONE]` before the finish.
    pub fn push(&mut self, data: &[u8], sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        if self.finished {
            return Ok(());
        }
        let text = str::from_utf8(data).map_err(|_| ReplyError::Json)?.trim();
        if text == "[DONE]" {
            return self.finish();
        }
        if !text.starts_with('{') {
            // `data: true` has been seen at the end of streams; anything else that is JSON is as harmless.
            return match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => {
                    sink(ReplyEvent::Unknown { what: "scalar" });
                    Ok(())
                }
                Err(_) if text.is_empty() => Ok(()),
                Err(_) => Err(ReplyError::Json),
            };
        }
        // Lines that a proxy joined into one event are still one object after the other.
        for object in serde_json::Deserializer::from_str(text).into_iter::<StreamObject<'_>>() {
            self.object(&object.map_err(|_| ReplyError::Json)?, sink)?;
            if self.finished {
                break;
            }
        }
        Ok(())
    }

    /// Ends the answer where the upstream's stream ended.
    ///
    /// # Errors
    /// [`ReplyError::Truncated`] when the last frame has not come, [`ReplyError::Empty`] when nothing has.
    pub fn finish(&mut self) -> Result<(), ReplyError> {
        match (self.finished, self.has_content) {
            (true, _) => Ok(()),
            (false, true) => Err(ReplyError::Truncated),
            (false, false) => Err(ReplyError::Empty),
        }
    }

    fn object(&mut self, frame: &StreamObject<'_>, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        if let Some(error) = failure(frame) {
            return Err(error);
        }
        if let Some(created) = &frame.created {
            let index = created.response_index.map_or("0", |index| index.get().trim_matches('"'));
            let id = created.response_id.and_then(plain);
            if let (true, None, Some(id)) = (index == "0", &self.response_id, id) {
                sink(ReplyEvent::Started { response_id: &id });
                self.response_id = Some(id);
            }
            return Ok(());
        }
        if let Some(delta) = frame.choices.as_ref().and_then(|choice| choice.delta.as_ref()) {
            if !self.is_ours(frame.response_id) {
                return Ok(());
            }
            if let Some(usage) = frame.usage.map(RawValue::get).filter(|usage| usage.len() > 2) {
                self.usage.clear();
                self.usage.extend_from_slice(usage.as_bytes());
            }
            return self.delta(delta, sink);
        }
        if frame.info.is_none() && frame.choices.is_none() {
            sink(ReplyEvent::Unknown { what: "frame" });
        } else {
            sink(ReplyEvent::Activity);
        }
        Ok(())
    }

    /// Two answers may be interleaved; frames without an id belong to the only one.
    fn is_ours(&mut self, id: Option<&RawValue>) -> bool {
        let Some(literal) = id.map(RawValue::get) else {
            return true;
        };
        let id = literal.trim_matches('"');
        match &self.response_id {
            Some(ours) => ours == id,
            None => {
                self.response_id = Some(id.to_owned());
                true
            }
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        let is = |field: Option<&RawValue>, word: &str| field.is_some_and(|raw| raw.get() == word);
        let phase = delta.phase.map_or("\"answer\"", RawValue::get);
        let is_tool = is(delta.role, "\"function\"") || delta.function_call.is_some();
        let is_end = is(delta.status, "\"finished\"");
        if is(delta.status, "\"error\"") {
            let details = delta.content.and_then(plain).unwrap_or_default();
            return Err(ReplyError::Refused { code: "error".to_owned(), details, hours: None });
        }
        let phase = phase.trim_matches('"');
        match phase {
            "answer" if !is_tool => {
                self.text(delta.content, false, sink);
                if is_end {
                    self.ended(sink)?;
                }
            }
            "thinking_summary" => {
                if let Some(extra) = extra(delta) {
                    self.thinking_summary(extra, sink);
                }
                if is_end {
                    self.summary_ended(sink);
                }
            }
            "think" => self.text(delta.content, true, sink),
            "image_gen" => {
                if let Some(url) = delta.content.and_then(plain) {
                    self.image(&url, sink);
                }
                if is_end {
                    self.ended(sink)?;
                }
            }
            _ => self.other_phase(phase, is_tool, delta, sink),
        }
        Ok(())
    }

    /// Built-in tools, and phases that this version does not know: with tool keys they are activity, with text
    /// they are shown as thoughts, never as the answer.
    fn other_phase(&mut self, phase: &str, is_tool: bool, delta: &Delta<'_>, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let known = TOOL_PHASES.contains(&phase);
        if !known {
            let what: String = phase.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
            sink(ReplyEvent::Unknown { what: &what });
        }
        if let Some(extra) = extra(delta) {
            let hits =
                extra.web_search_info.into_iter().flatten().chain(extra.tool_result.into_iter().flat_map(|r| r.docs));
            for hit in hits {
                self.source(hit, sink);
            }
            for url in extra.image_list.into_iter().flatten().filter_map(|entry| entry.image) {
                self.image(&url, sink);
            }
        }
        if !known && !is_tool {
            self.text(delta.content, true, sink);
        }
        sink(ReplyEvent::Activity);
    }

    fn text(&mut self, content: Option<&RawValue>, is_reasoning: bool, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let Some(literal) = content.map(RawValue::get).filter(|literal| literal.len() > 2 && literal.starts_with('"'))
        else {
            return;
        };
        let joined;
        let text = if self.pending_surrogate.is_some() || has_surrogate(literal) {
            joined = join_surrogates(literal, &mut self.pending_surrogate);
            Text::Plain(&joined)
        } else {
            Text::Literal(literal)
        };
        if text.is_empty() {
            return;
        }
        if is_reasoning {
            sink(ReplyEvent::Reasoning(text));
        } else {
            self.has_content = true;
            sink(ReplyEvent::Text(text));
        }
    }

    fn image(&mut self, url: &str, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let is_link = url.starts_with("https://") || url.starts_with("http://");
        if is_link && self.images.insert(url.to_owned()) {
            self.has_content = true;
            sink(ReplyEvent::Image { url });
        }
    }

    fn source(&mut self, hit: SearchHit, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        if hit.url.is_empty() || !self.sources.insert(hit.url.clone()) {
            return;
        }
        let title = if hit.title.trim().is_empty() { hit.url.clone() } else { hit.title };
        sink(ReplyEvent::Source(Source { url: hit.url, title }));
    }

    fn ended(&mut self, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        if !self.has_content {
            return Err(ReplyError::Empty);
        }
        self.finished = true;
        sink(ReplyEvent::Finished);
        Ok(())
    }

    /// Each frame repeats all items so far; only what is new goes out. Items that do not continue the ones seen
    /// begin a new round, as after a tool call.
    fn thinking_summary(&mut self, extra: Extra, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let titles = extra.summary_title.map(|list| list.content).unwrap_or_default();
        let thoughts = extra.summary_thought.map(|list| list.content).unwrap_or_default();
        let count = titles.len().max(thoughts.len());
        let mut titles = titles.into_iter();
        let mut thoughts = thoughts.into_iter();
        let items: Vec<(String, String)> =
            (0..count).map(|_| (titles.next().unwrap_or_default(), thoughts.next().unwrap_or_default())).collect();
        if is_repeat(&items, &self.summary.items) {
            return;
        }
        if !continues(&items, &self.summary.items) {
            self.summary_ended(sink);
            self.summary = Summary::default();
        }
        let seen = self.summary.items.len().saturating_sub(1);
        let last = items.len().saturating_sub(1);
        for (place, item) in items.iter().enumerate().skip(seen) {
            if place > seen {
                self.summary.last_out = None;
            }
            // A title may still grow; it goes out with its thought, or when the next item has begun.
            if place < last || !item.1.is_empty() {
                self.summary_item(item, sink);
            }
        }
        self.summary.items = items;
    }

    /// A round is over: a last title without a thought goes out as well.
    fn summary_ended(&mut self, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        if let Some(item) = self.summary.items.pop() {
            if self.summary.last_out.is_none() {
                self.summary_item(&item, sink);
            }
            self.summary.items.push(item);
        }
    }

    fn summary_item(&mut self, (title, thought): &(String, String), sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let mut text = String::new();
        let out = if let Some(out) = self.summary.last_out {
            out
        } else {
            if self.summary_said {
                text.push_str("\n\n");
            }
            if !title.is_empty() {
                text.push_str("**");
                text.push_str(title);
                text.push_str("**\n\n");
            }
            0
        };
        text.push_str(thought.get(out..).unwrap_or_default());
        self.summary.last_out = Some(thought.len());
        self.summary_said = true;
        if !text.is_empty() {
            sink(ReplyEvent::Reasoning(Text::Plain(&text)));
        }
    }
}

/// Tools of the web chat that are known to appear as phases.
const TOOL_PHASES: [&str; 16] = [
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
    "fetch_page",
    "search_result",
    "KeepAlive",
    "WebResearch",
];

/// Whether `new` says nothing that `old` did not: frames may repeat an older state.
fn is_repeat(new: &[(String, String)], old: &[(String, String)]) -> bool {
    new.len() <= old.len()
        && new.iter().zip(old).all(|(new, old)| old.0.starts_with(&new.0) && old.1.starts_with(&new.1))
}

/// Whether `new` is `old` with more at its end.
fn continues(new: &[(String, String)], old: &[(String, String)]) -> bool {
    new.len() >= old.len()
        && new.iter().zip(old).all(|(new, old)| new.0.starts_with(&old.0) && new.1.starts_with(&old.1))
}

fn extra(delta: &Delta<'_>) -> Option<Extra> {
    serde_json::from_str(delta.extra?.get()).ok()
}

/// A JSON string as plain text; `None` for any other value.
fn plain(raw: &RawValue) -> Option<String> {
    raw.get().starts_with('"').then(|| Text::Literal(raw.get()).plain().into_owned())
}

/// What a frame says that is no answer: an error, an envelope, or the risk engine.
fn failure(frame: &StreamObject<'_>) -> Option<ReplyError> {
    if let Some(ret) = frame.ret
        && (ret.get().contains("FAIL_SYS") || ret.get().contains("RGV587"))
    {
        return Some(ReplyError::Challenged);
    }
    if let Some(error) = frame.error {
        let value: Value = serde_json::from_str(error.get()).unwrap_or_default();
        return match &value {
            Value::Null | Value::Bool(false) => None,
            Value::String(text) => Some(refused("error", text, None)),
            _ => Some(refused_by(&value)),
        };
    }
    if frame.success == Some(false) {
        let data: Value = frame.data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
        if data.get("code").is_some() {
            return Some(refused_by(&data));
        }
        let code = frame.code.and_then(plain).unwrap_or_else(|| "error".to_owned());
        return Some(refused(&code, &frame.details.and_then(plain).unwrap_or_default(), None));
    }
    None
}

fn refused_by(value: &Value) -> ReplyError {
    let text = |name: &str| match value.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Null) | None => None,
        Some(other) => Some(other.to_string()),
    };
    let details = text("details").or_else(|| text("message")).unwrap_or_default();
    let hours = value.get("num").and_then(|num| num.as_u64().or_else(|| num.as_str()?.trim().parse().ok()));
    refused(&text("code").unwrap_or_else(|| "error".to_owned()), &details, hours)
}

fn refused(code: &str, details: &str, hours: Option<u64>) -> ReplyError {
    ReplyError::Refused { code: code.to_owned(), details: details.to_owned(), hours }
}

/// Whether a string literal has an escaped surrogate, which may stand alone at its end or beginning.
fn has_surrogate(literal: &str) -> bool {
    literal.contains("\\ud") || literal.contains("\\uD")
}

/// Undoes the escapes of a literal whose surrogate pairs may be cut between two pieces.
fn join_surrogates(literal: &str, pending: &mut Option<u16>) -> String {
    let inner = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(literal);
    let mut units: Vec<u16> = pending.take().into_iter().collect();
    let mut rest = inner;
    while let Some(place) = rest.find('\\') {
        let (before, escape) = rest.split_at(place);
        units.extend(before.encode_utf16());
        let length = if escape.get(1..2) == Some("u") { 6 } else { 2 };
        let (escape, after) = escape.split_at_checked(length).unwrap_or((escape, ""));
        match escape.get(2..).filter(|hex| hex.len() == 4).and_then(|hex| u16::from_str_radix(hex, 16).ok()) {
            Some(unit) => units.push(unit),
            None => {
                let text: String = serde_json::from_str(&format!("\"{escape}\"")).unwrap_or_default();
                units.extend(text.encode_utf16());
            }
        }
        rest = after;
    }
    units.extend(rest.encode_utf16());
    *pending = units.pop_if(|unit| (0xd800..0xdc00).contains(unit));
    String::from_utf16_lossy(&units)
}
