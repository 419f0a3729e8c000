//! Finds calls in the text of an answer while it arrives.
//!
//! [`CallReader`] is fed with pieces of text and hands on what cannot become a call any more; [`CallReader::finish`]
//! gives the calls of an answer that is complete. The division into pieces never matters.
//!
//! - Markup in tags (`<tool_call>`, `<function=…>`, `<invoke …>`, `<NAME>` of a declared tool) is a call wherever it
//!   stands outside of code. From its first bytes on everything is held back: words behind a call are not shown.
//! - JSON without tags, in a fence or bare, and `NAME(…)` at the beginning of a line are calls only if they name declared
//!   tools and nothing but white space or further calls follows. With words behind, they were an example: text.
//! - Fenced blocks that hold anything but calls, and inline code, are text with all that stands in them.
//! - White space before a call belongs to the call.
//!
//! This is one long file because it is one state machine, whose states only make sense beside each other.

use std::sync::Arc;

use memchr::{memchr, memchr2};

use crate::chat::reply::Text;
use crate::chat::tools::names::ToolNames;
use crate::chat::tools::shapes::fence::{Fenced, fenced_calls};
use crate::chat::tools::shapes::json::{JsonScan, json_calls, json_opening};
use crate::chat::tools::shapes::list::{ListScan, argument_list, list_opening};
use crate::chat::tools::shapes::tags::{opening, tagged};
use crate::chat::tools::shapes::written::{Found, INFO_BYTES_MAX, Opening, Scanned, WrittenCall, word};

/// The most bytes that are held back; an answer whose calls are longer is handed on as text.
pub(crate) const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Markup that is undecided after this number of bytes is text.
const OPENING_BYTES_MAX: usize = 4 * 1024;

/// Elements named like a tool, or fences inside a fenced block, that are tried before the rest counts as text.
const TRIES_MAX: u32 = 32;

/// Tags of results, which models know from their prompts.
const RESULTS: [&str; 3] = ["<tool_result", "<tool_response", "<function_results"];

/// Fenced blocks of these kinds may hold `NAME(…)`.
const CODE_OF_TOOLS: [&str; 3] = ["tool_code", "tool_call", "tool_calls"];

/// Reads one text: the answer, or the thoughts.
#[derive(Clone, Debug)]
pub(crate) struct CallReader {
    names: Arc<ToolNames>,
    /// Words behind calls are kept, as in thoughts.
    keeps_words: bool,
    /// Not handed on yet: white space, calls that words behind would turn into text, and what may become one.
    held: String,
    /// Number of bytes of `held` that have been judged.
    base: usize,
    mode: Mode,
    /// Only blanks since the last line break.
    is_line_start: bool,
    /// The last byte that was judged; a space at the beginning.
    last: u8,
    /// Calls in `held` that words behind would turn into text.
    pending: Vec<WrittenCall>,
    candidate: Candidate,
    tries: u32,
}

/// The kind of text that the text at `base` belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Prose,
    /// Inline code between this number of backticks.
    Code(usize),
    /// A fenced block between this number of backticks.
    Fence(usize),
    /// A call in tags: everything is kept for the end.
    Call,
    /// More was held than is allowed: everything is text.
    Overflow,
}

/// The progress of reading the markup at `base`.
#[derive(Clone, Copy, Debug, Default)]
struct Candidate {
    json: JsonScan,
    list: ListScan,
    /// For a fenced block: where to look for its end, `None` at its beginning.
    end: Option<Later>,
    /// Ends of the block that were ends within a call.
    tries: u32,
}

/// A judgement on the markup at the beginning of a text.
enum Verdict {
    /// More bytes are needed.
    More,
    /// This number of bytes is text; the mode applies behind them.
    Text(usize, Mode),
    /// Calls in tags begin here; the end of the answer tells what they are.
    Call,
    /// Calls of this number of bytes, unless words follow.
    Pending(usize, Vec<WrittenCall>),
    /// Calls of this number of bytes, regardless of what follows.
    Calls(usize, Vec<Found>),
}

/// The kinds of text that can begin a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    Tag,
    Json,
    Ticks,
    Name,
}

/// The result of reading a complete text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Text to be handed on before the calls.
    pub text: String,
    /// The calls, in order.
    pub calls: Vec<Found>,
    /// The text from the first call on as it came; empty without calls.
    pub raw: String,
    /// Words behind a call were left out.
    pub has_dropped: bool,
}

/// The state of a pass over the held text.
struct Pass<'a> {
    text: &'a str,
    /// The text ends here.
    is_end: bool,
    /// Up to where it was handed on or dropped.
    shown: usize,
    /// Calls that are sure; found at the end only.
    calls: Vec<Found>,
    /// Offset at which the first of them begins.
    calls_from: usize,
    /// JSON and argument lists that do not end were met: no others are looked for.
    skips_open_values: bool,
    /// Words behind a call were left out.
    has_dropped: bool,
}

impl CallReader {
    /// A reader of an answer's text.
    #[must_use]
    pub(crate) fn new(names: Arc<ToolNames>) -> Self {
        Self {
            names,
            keeps_words: false,
            held: String::new(),
            base: 0,
            mode: Mode::Prose,
            is_line_start: true,
            last: b' ',
            pending: Vec::new(),
            candidate: Candidate::default(),
            tries: 0,
        }
    }

    /// A reader of thoughts, which go on behind a call.
    #[must_use]
    pub(crate) fn of_thoughts(names: Arc<ToolNames>) -> Self {
        Self { keeps_words: true, ..Self::new(names) }
    }

    /// Takes the next piece and hands on what is text for sure.
    pub(crate) fn push(&mut self, piece: Text<'_>, out: &mut impl FnMut(Text<'_>)) {
        if self.passes(piece) {
            if !self.held.is_empty() {
                out(Text::Plain(&self.held));
                self.held.clear();
                self.base = 0;
            }
            self.is_line_start = false;
            out(piece);
            return;
        }
        piece.append_to(&mut self.held);
        if self.held.len() > HELD_BYTES_MAX {
            self.mode = Mode::Overflow;
            self.pending.clear();
        }
        if self.mode == Mode::Call {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        let shown = self.pass(&held, false, &mut |text| out(Text::Plain(text))).shown;
        held.drain(..shown);
        self.base -= shown;
        self.held = held;
    }

    /// Ends a text that is complete.
    pub(crate) fn finish(&mut self) -> Reading {
        let held = std::mem::take(&mut self.held);
        if self.mode == Mode::Call {
            self.mode = Mode::Prose;
        }
        let mut reading = Reading::default();
        let mut pass = self.pass(&held, true, &mut |text| reading.text.push_str(text));
        if !self.pending.is_empty() {
            if pass.calls.is_empty() {
                pass.calls_from = pass.shown;
            }
            pass.calls.extend(self.pending.drain(..).map(Ok));
        }
        if pass.calls.is_empty() {
            reading.text.push_str(held.get(pass.shown..).unwrap_or_default());
        } else {
            reading.raw.push_str(held.get(pass.calls_from..).unwrap_or_default());
        }
        reading.calls = pass.calls;
        reading.has_dropped = pass.has_dropped;
        self.reset();
        reading
    }

    /// Ends a text that was cut: gives what is held and cannot be a part of a call. A call in it, even a complete
    /// one, is dropped.
    pub(crate) fn cut(&mut self) -> String {
        let is_text = self.pending.is_empty() && matches!(self.mode, Mode::Code(_) | Mode::Fence(_) | Mode::Overflow);
        let held = std::mem::take(&mut self.held);
        self.reset();
        if is_text { held } else { String::new() }
    }

    fn reset(&mut self) {
        let Self { names, keeps_words, .. } = self;
        *self = Self { keeps_words: *keeps_words, ..Self::new(Arc::clone(names)) };
    }

    /// Whether the piece is text as a whole, so that it can go on as it came: the usual case, and the cheap one.
    fn passes(&mut self, piece: Text<'_>) -> bool {
        let text = match piece {
            Text::Plain(text) => text,
            Text::Literal(literal) => {
                literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default()
            }
        };
        let bytes = text.as_bytes();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
            return false;
        };
        let is_open = self.base < self.held.len() || !self.pending.is_empty() || text.ends_with(char::is_whitespace);
        let begins = self.is_line_start && (text.starts_with(char::is_whitespace) || self.names.may_begin_with(*first));
        let is_plain = match self.mode {
            Mode::Prose => !bytes.iter().any(|byte| matches!(byte, b'<' | b'{' | b'[' | b'`' | b'\\' | b'\n')),
            Mode::Code(_) | Mode::Fence(_) => !bytes.iter().any(|byte| matches!(byte, b'`' | b'\\' | b'\n')),
            Mode::Call | Mode::Overflow => false,
        };
        if is_open || begins || !is_plain {
            return false;
        }
        self.last = *last;
        true
    }

    /// Judges the text as far as possible. Indexes in `self` and in the result refer to `text`.
    fn pass<'a>(&mut self, text: &'a str, is_end: bool, out: &mut impl FnMut(&str)) -> Pass<'a> {
        let mut pass = Pass {
            text,
            is_end,
            shown: 0,
            calls: Vec::new(),
            calls_from: 0,
            skips_open_values: false,
            has_dropped: false,
        };
        loop {
            let rest = text.get(self.base..).unwrap_or_default();
            if rest.is_empty() {
                return pass;
            }
            let verdict = match self.mode {
                Mode::Prose => {
                    let Some((place, trigger)) = self.trigger(rest, pass.skips_open_values) else {
                        self.text_up_to(text.len(), &mut pass, out);
                        return pass;
                    };
                    if place > 0 {
                        self.text_up_to(self.base + place, &mut pass, out);
                        self.candidate = Candidate::default();
                    }
                    self.judge(rest.get(place..).unwrap_or_default(), trigger, &mut pass)
                }
                Mode::Code(ticks) => code(rest, ticks, is_end),
                Mode::Fence(ticks) => self.fence(rest, ticks, is_end),
                Mode::Call => return pass,
                Mode::Overflow => {
                    out(text.get(pass.shown..).unwrap_or_default());
                    (pass.shown, self.base) = (text.len(), text.len());
                    return pass;
                }
            };
            match verdict {
                Verdict::More => return pass,
                Verdict::Text(len, mode) => {
                    self.text_up_to(self.base + len, &mut pass, out);
                    self.mode = mode;
                }
                Verdict::Call => self.mode = Mode::Call,
                Verdict::Pending(len, calls) => {
                    self.pending.extend(calls);
                    self.step_over(len, &pass);
                }
                Verdict::Calls(len, calls) => {
                    if pass.calls.is_empty() {
                        pass.calls_from = pass.shown;
                    }
                    pass.calls.extend(self.pending.drain(..).map(Ok));
                    pass.calls.extend(calls);
                    self.step_over(len, &pass);
                    pass.shown = self.base;
                }
            }
            self.candidate = Candidate::default();
        }
    }

    /// Hands on text up to `end`, but keeps the white space before it; a call may follow.
    fn text_up_to(&mut self, end: usize, pass: &mut Pass<'_>, out: &mut impl FnMut(&str)) {
        let piece = pass.text.get(self.base..end).unwrap_or_default();
        let solid = piece.trim_end().len();
        if solid > 0 {
            let solid_end = self.base + solid;
            if pass.calls.is_empty() || self.keeps_words {
                out(pass.text.get(pass.shown..solid_end).unwrap_or_default());
            } else {
                pass.has_dropped = true;
            }
            pass.shown = solid_end;
            self.pending.clear();
        }
        self.step_over(piece.len(), pass);
    }

    fn step_over(&mut self, len: usize, pass: &Pass<'_>) {
        let piece = pass.text.get(self.base..self.base + len).unwrap_or_default();
        let is_blank = |text: &str| text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        self.is_line_start = match piece.rsplit_once('\n') {
            Some((_, line)) => is_blank(line),
            None => self.is_line_start && is_blank(piece),
        };
        self.last = piece.bytes().next_back().unwrap_or(self.last);
        self.base += len;
    }

    /// Finds what can begin a call.
    fn trigger(&self, text: &str, skips_open_values: bool) -> Option<(usize, Trigger)> {
        let (mut is_line_start, mut last) = (self.is_line_start, self.last);
        let is_behind_call = last == b'}' && !self.pending.is_empty();
        for (place, byte) in text.bytes().enumerate() {
            match byte {
                b'<' => return Some((place, Trigger::Tag)),
                b'`' => return Some((place, Trigger::Ticks)),
                b'{' | b'[' if !skips_open_values && (may_precede_json(last) || (place == 0 && is_behind_call)) => {
                    return Some((place, Trigger::Json));
                }
                b'\n' => is_line_start = true,
                b' ' | b'\t' | b'\r' => {}
                byte if is_line_start => {
                    if !skips_open_values && self.names.may_begin_with(byte) {
                        return Some((place, Trigger::Name));
                    }
                    is_line_start = false;
                }
                _ => {}
            }
            last = byte;
        }
        None
    }

    fn judge(&mut self, text: &str, trigger: Trigger, pass: &mut Pass<'_>) -> Verdict {
        let is_end = pass.is_end;
        match trigger {
            Trigger::Tag => self.tag(text, pass),
            Trigger::Ticks => self.ticks(text, is_end),
            Trigger::Json => match self.bounded(text, is_end, |text, reader| json_opening(text, &reader.names)) {
                Opening::More if !is_end => Verdict::More,
                Opening::More | Opening::Text => Verdict::Text(1, Mode::Prose),
                Opening::Call => match self.candidate.json.go_on(text) {
                    Scanned::More if !is_end => Verdict::More,
                    Scanned::More => {
                        pass.skips_open_values = true;
                        Verdict::Text(1, Mode::Prose)
                    }
                    Scanned::Broken(len) => Verdict::Text(len, Mode::Prose),
                    Scanned::End(len) => match json_calls(text.get(..len).unwrap_or_default()) {
                        Ok(found) if found.are_declared(&self.names) => Verdict::Pending(len, found.calls),
                        Ok(_) | Err(_) => Verdict::Text(len, Mode::Prose),
                    },
                },
            },
            Trigger::Name => self.name(text, pass),
        }
    }

    /// The judgement of the first bytes, which may stay undecided up to a limit only.
    fn bounded(&self, text: &str, is_end: bool, opening: impl Fn(&str, &Self) -> Opening) -> Opening {
        if text.len() < OPENING_BYTES_MAX {
            return opening(text, self);
        }
        let end = text.floor_char_boundary(OPENING_BYTES_MAX);
        match opening(text.get(..end).unwrap_or_default(), self) {
            Opening::More if !is_end || text.len() > OPENING_BYTES_MAX => Opening::Text,
            decided => decided,
        }
    }

    fn tag(&mut self, text: &str, pass: &mut Pass<'_>) -> Verdict {
        let is_end = pass.is_end;
        let has_calls = !self.pending.is_empty() || !pass.calls.is_empty();
        // A model that goes on with a result of its own invention: nothing behind it counts.
        if has_calls && RESULTS.iter().any(|tag| text.starts_with(tag)) {
            pass.has_dropped = true;
            return if is_end { Verdict::Calls(text.len(), Vec::new()) } else { Verdict::Call };
        }
        if has_calls && !is_end && RESULTS.iter().any(|tag| tag.starts_with(text)) {
            return Verdict::More;
        }
        // A closing tag whose opening tag got lost behind a call.
        if !self.pending.is_empty() {
            for end in ["</tool_call>", "</tool_calls>"] {
                if text.starts_with(end) {
                    return Verdict::Pending(end.len(), Vec::new());
                }
                if end.starts_with(text) && !is_end {
                    return Verdict::More;
                }
            }
        }
        let is_line_start = self.is_line_start;
        match self.bounded(text, is_end, |text, reader| opening(text, &reader.names, is_line_start)) {
            Opening::More if !is_end => return Verdict::More,
            Opening::Text => return Verdict::Text(1, Mode::Prose),
            Opening::Call if !is_end => return Verdict::Call,
            Opening::More | Opening::Call => {}
        }
        let shape = if self.tries < TRIES_MAX { tagged(text, &self.names, is_line_start) } else { None };
        match shape {
            Some(shape) => Verdict::Calls(shape.len, shape.calls),
            None => {
                self.tries += 1;
                Verdict::Text(1, Mode::Prose)
            }
        }
    }

    fn name(&mut self, text: &str, pass: &mut Pass<'_>) -> Verdict {
        let name = word(text);
        let rest = text.get(name.len()..).unwrap_or_default();
        if rest.is_empty() && !pass.is_end && self.names.may_become(name) {
            return Verdict::More;
        }
        let no_call = Verdict::Text(name.len().max(1), Mode::Prose);
        if !rest.starts_with('(') || !self.names.has(name) {
            return if name.is_empty() {
                Verdict::Text(text.chars().next().map_or(1, char::len_utf8), Mode::Prose)
            } else {
                no_call
            };
        }
        match self.bounded(rest, pass.is_end, |text, _| list_opening(text)) {
            Opening::More if !pass.is_end => return Verdict::More,
            Opening::More | Opening::Text => return no_call,
            Opening::Call => {}
        }
        match self.candidate.list.go_on(rest) {
            Scanned::More | Scanned::Broken(_) if !pass.is_end => Verdict::More,
            Scanned::More | Scanned::Broken(_) => {
                pass.skips_open_values = true;
                no_call
            }
            Scanned::End(len) => match rest.get(..len).and_then(argument_list) {
                Some(arguments) => {
                    Verdict::Pending(name.len() + len, vec![WrittenCall { name: name.to_owned(), arguments }])
                }
                None => Verdict::Text(name.len() + len, Mode::Prose),
            },
        }
    }

    /// Backticks: inline code, or at the beginning of a line a fenced block.
    fn ticks(&mut self, text: &str, is_end: bool) -> Verdict {
        let behind = text.trim_start_matches('`');
        let ticks = text.len() - behind.len();
        if behind.is_empty() {
            return if is_end { Verdict::Text(ticks, Mode::Prose) } else { Verdict::More };
        }
        let code = Verdict::Text(ticks, Mode::Code(ticks));
        if ticks < 3 {
            return code;
        }
        // Within a line only calls are looked for; what else it begins is inline code.
        let is_line_start = self.is_line_start;
        let plain = |info: &str| match is_line_start {
            true => Verdict::Text(ticks + info.len(), Mode::Fence(ticks)),
            false => Verdict::Text(ticks, Mode::Code(ticks)),
        };
        // The first bytes decide, so that it does not matter how many more have come.
        let head = behind.as_bytes().iter().take(INFO_BYTES_MAX + 1);
        let (info, content) = match head.clone().position(|byte| matches!(byte, b'`' | b'\n')) {
            None if head.len() > INFO_BYTES_MAX => return plain(""),
            None if is_end => return plain(behind),
            None => return Verdict::More,
            Some(place) => match behind.split_at(place) {
                (info, rest) if rest.starts_with('\n') => (info, rest.get(1..).unwrap_or_default()),
                _ => return code,
            },
        };
        let inside = content.trim_start();
        let begins = self.bounded(inside, is_end, |inside, reader| match inside.as_bytes().first() {
            None => Opening::More,
            Some(b'{' | b'[') => json_opening(inside, &reader.names),
            Some(b'<') => opening(inside, &reader.names, true),
            Some(_) if CODE_OF_TOOLS.contains(&info.trim()) => Opening::Call,
            Some(_) => Opening::Text,
        });
        match begins {
            Opening::More if !is_end => return Verdict::More,
            Opening::More | Opening::Call => {}
            Opening::Text => return plain(info),
        }
        let head = text.len() - content.len();
        self.block(text, head, ticks, is_end).unwrap_or_else(|| plain(info))
    }

    /// A fenced block that begins like calls. `None`: it holds something else.
    fn block(&mut self, text: &str, head: usize, ticks: usize, is_end: bool) -> Option<Verdict> {
        let mut from = self.candidate.end.unwrap_or(Later { at: head, is_line_start: true });
        loop {
            match closing_fence(text, from, ticks, is_end) {
                Closing::At { start, end } => {
                    self.candidate.tries += 1;
                    match fenced_calls(text.get(head..start)?, &self.names, false) {
                        Fenced::Calls(calls) => return Some(Verdict::Pending(end, calls)),
                        Fenced::Open if self.candidate.tries < TRIES_MAX => {
                            from = Later { at: end, is_line_start: false }
                        }
                        Fenced::Open | Fenced::Other => return None,
                    }
                }
                Closing::Later(later) if !is_end => {
                    self.candidate.end = Some(later);
                    return Some(Verdict::More);
                }
                Closing::Later(_) => {
                    return match fenced_calls(text.get(head..)?, &self.names, true) {
                        Fenced::Calls(calls) => Some(Verdict::Pending(text.len(), calls)),
                        Fenced::Open | Fenced::Other => None,
                    };
                }
            }
        }
    }

    /// Inside of a fenced block that holds no calls.
    fn fence(&self, text: &str, ticks: usize, is_end: bool) -> Verdict {
        let from = Later { at: 0, is_line_start: self.is_line_start };
        match closing_fence(text, from, ticks, is_end) {
            Closing::At { end, .. } => Verdict::Text(end, Mode::Prose),
            Closing::Later(Later { at: 0, .. }) => Verdict::More,
            Closing::Later(Later { at, .. }) => Verdict::Text(at, Mode::Fence(ticks)),
        }
    }
}

/// Whether JSON behind this byte may be a call: at the beginning of a word, behind a colon, or behind any character that
/// is not ASCII, since other scripts have colons of their own. Within words and code it is text.
fn may_precede_json(last: u8) -> bool {
    last == b':' || last.is_ascii_whitespace() || !last.is_ascii()
}

/// Inside of inline code, which ends with its line at the latest.
fn code(text: &str, ticks: usize, is_end: bool) -> Verdict {
    let Some(place) = memchr2(b'`', b'\n', text.as_bytes()) else {
        return Verdict::Text(text.len(), Mode::Code(ticks));
    };
    let rest = text.get(place..).unwrap_or_default();
    let behind = rest.trim_start_matches('`');
    let run = rest.len() - behind.len();
    if run == 0 {
        return Verdict::Text(place + 1, Mode::Prose);
    }
    if behind.is_empty() && !is_end {
        return if place == 0 { Verdict::More } else { Verdict::Text(place, Mode::Code(ticks)) };
    }
    Verdict::Text(place + run, if run == ticks { Mode::Prose } else { Mode::Code(ticks) })
}

/// The end of a fenced block, or the place to search on.
enum Closing {
    /// The marks that end it, up to the end of their line.
    At { start: usize, end: usize },
    /// Not in this text; the search goes on here.
    Later(Later),
}

/// The place from which on the end of a fenced block is searched.
#[derive(Clone, Copy, Debug)]
struct Later {
    at: usize,
    is_line_start: bool,
}

/// Finds a line of at least this number of backticks.
fn closing_fence(text: &str, from: Later, ticks: usize, is_end: bool) -> Closing {
    let Later { mut at, mut is_line_start } = from;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if is_line_start {
            let line = rest.trim_start_matches([' ', '\t']);
            let behind = line.trim_start_matches('`');
            let blank = behind.trim_start_matches([' ', '\t', '\r']);
            let run = line.len() - behind.len();
            if !is_end && (behind.is_empty() || (run >= ticks && blank.is_empty())) {
                return Closing::Later(Later { at, is_line_start });
            }
            if run >= ticks && (blank.is_empty() || blank.starts_with('\n')) {
                return Closing::At { start: text.len() - line.len(), end: text.len() - blank.len() };
            }
        }
        (at, is_line_start) = match memchr(b'\n', rest.as_bytes()) {
            Some(place) => (at + place + 1, true),
            None => (text.len(), false),
        };
    }
    Closing::Later(Later { at, is_line_start })
}

#[cfg(test)]
mod tests;
