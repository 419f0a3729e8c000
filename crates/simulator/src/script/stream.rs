//! The script of a completion's stream: its content, its packets, its faults.

use serde::Deserialize;

/// The script of a completion's stream.
///
/// Frames are counted as they are sent: `after: 0` is before the first one, `after: 1` right after
/// `response.created`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamScript {
    /// The answer, cut into small pieces. Left out: an invented one.
    pub answer: Option<String>,
    /// The answer in exactly these pieces, one frame each.
    pub pieces: Option<Vec<String>>,
    /// This many pieces `⟨attempt:seq⟩`; the attempt counts the completions of the run from 1.
    pub numbered: Option<usize>,
    /// Rounds of thought, each a list of `[title, thought]`; a search comes between two rounds. Left out: one
    /// round if the request asks for thinking.
    pub reasoning: Option<Vec<Vec<(String, String)>>>,
    /// How thoughts are written. Left out: as the request's `thinking_format` asks.
    pub thinking: Option<ThinkingForm>,
    /// Rounds of search. Left out: one for chat type `search`, else none.
    pub searches: Option<Vec<SearchScript>>,
    /// Milliseconds between two packets. Left out: the scenario's `pace_ms`.
    pub pace_ms: Option<u64>,
    /// Milliseconds between the head and the first packet. Left out: 0.
    pub first_event_ms: u64,
    /// Additional waits between frames.
    pub pauses: Vec<Pause>,
    /// How the bytes are cut into packets.
    pub packets: Packets,
    /// Line ending of the SSE frames. Left out: [`LineEnding::Lf`].
    pub line_ending: LineEnding,
    /// A byte order mark before everything.
    pub bom: bool,
    /// Frames and comments that do not belong to the answer.
    pub inserts: Vec<Insert>,
    /// Figures of the last usage; the earlier ones grow towards it.
    pub usage: Option<UsageScript>,
    /// An error frame, after which the stream ends.
    pub error: Option<StreamError>,
    /// How far the answer gets. Left out: [`Content::Whole`].
    pub content: Content,
    /// A second answer, index "1", interleaved with the first.
    pub two_answers: bool,
    /// What follows the last content. Left out: [`End::Finished`].
    pub end: End,
    /// Where and how the connection is torn. Left out: not at all.
    pub cut: Option<Cut>,
    /// In place of all of the above but `first_event_ms` and `pace_ms`: many equal frames, cheaply.
    pub bench: Option<Bench>,
}

/// The phase in which thoughts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkingForm {
    /// Phase `thinking_summary`: two growing lists.
    Summary,
    /// Phase `think`: text in pieces.
    Raw,
}

/// One round of search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchScript {
    /// Search terms, in the order in which they are shown.
    pub queries: Vec<String>,
    /// Hits of the search, in the order in which they are shown.
    pub results: Vec<SearchResult>,
    /// Field of the delta that holds the hits. Left out: [`SearchForm::Info`].
    pub form: SearchForm,
}

/// One page that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchResult {
    /// URL of the page.
    pub url: String,
    /// Title of the page.
    pub title: String,
    /// Excerpt of the page.
    pub snippet: String,
    /// Day of the page as `YYYY-MM-DD`.
    pub date: String,
}

/// The field of the delta that holds the hits of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchForm {
    /// In `extra.web_search_info`, a list that grows over the rounds (June 2026 on).
    #[default]
    Info,
    /// In `extra.tool_result.docs` (April 2026).
    Docs,
    /// In both `extra.web_search_info` and `extra.tool_result.docs`.
    Both,
}

/// An additional wait between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// After this many frames.
    pub after: usize,
    /// Length of the wait in milliseconds.
    pub ms: u64,
}

/// How the bytes of a stream are cut into packets, each of them flushed and one HTTP chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packets {
    /// One for each frame.
    #[default]
    Frames,
    /// Everything in one; waits between frames are left out.
    One,
    /// Of this many bytes each, even inside a character; waits between frames are left out, `pace_ms` counts if set.
    Size(usize),
    /// Cut at these offsets; waits as for `size`.
    At(Vec<usize>),
}

/// The line ending of SSE frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineEnding {
    /// Line feed, as the real one.
    #[default]
    Lf,
    /// Carriage return and line feed.
    Crlf,
    /// A carriage return without a line feed.
    Cr,
}

/// Something inserted that does not belong to the answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Insert {
    /// After this many frames.
    pub after: usize,
    /// The frame or text to insert.
    pub what: Inserted,
}

/// What can be inserted between frames.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Inserted {
    /// `response.info` with action `keep_alive`.
    KeepAlive,
    /// An SSE comment: a line of a colon and this text.
    Comment(String),
    /// A frame `data: true`, whose JSON is not an object.
    StrayTrue,
    /// `data: [DONE]`, as some proxies add.
    Done,
    /// This text, followed by an empty line.
    Text(String),
    /// A delta of an arbitrary phase, such as an unknown one.
    UnknownPhase {
        /// `phase` of the delta.
        phase: String,
        /// `content` of the delta. Left out: empty.
        #[serde(default)]
        content: String,
        /// Whether the delta has `function_call` and the other fields of tools. Left out: `false`.
        #[serde(default)]
        tool: bool,
    },
}

/// The token counts of a stream's last usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageScript {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the thoughts and the answer together.
    pub output_tokens: u64,
    /// Tokens of the thoughts, part of `output_tokens`. Left out: 0.
    #[serde(default)]
    pub reasoning_tokens: u64,
    /// Tokens of the prompt that came from a cache, part of `input_tokens`. Left out: 0.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Tokens of the prompt's pictures, part of `input_tokens`. Left out: 0.
    #[serde(default)]
    pub image_tokens: u64,
}

/// An error inside a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamError {
    /// After this many frames.
    pub after: usize,
    /// Shape of the error frame. Left out: [`ErrorForm::Object`].
    pub form: ErrorForm,
    /// `code` of the error, such as `internal_error` or `data_inspection_failed`; not part of the form `text`.
    pub code: String,
    /// `details` of the error. Empty: the usual text of the code.
    pub details: String,
    /// `num`: hours to wait, of `RateLimited`; not part of the form `text`. Left out: the frame has none.
    pub num: Option<u64>,
}

/// The shape of an error frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorForm {
    /// JSON object `{"error":{"code":…,"details":…},"response_id":…}`.
    #[default]
    Object,
    /// JSON object `{"error":"…"}` with the details alone.
    Text,
    /// Envelope of the v2 API: `{"success":false,"data":{"code":…,"details":…}}`.
    Envelope,
}

/// How far an answer gets before its stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Thoughts, searches and the whole answer.
    #[default]
    Whole,
    /// `response.created`, then the end of the body.
    Created,
    /// Thoughts, then the end of the body.
    Reasoning,
}

/// What follows the last content of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Finished frame, end of body.
    #[default]
    Finished,
    /// Finished frame, and the connection stays open.
    Open,
    /// The body ends without a finished frame.
    Unfinished,
    /// Nothing more comes, and the connection stays open.
    Stalled,
    /// No finished frame, but this, again and again, until the client leaves.
    Endless(Endless),
}

/// Something that is sent repeatedly until the client leaves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endless {
    /// The frame or text to repeat; an [`Inserted::UnknownPhase`] named `answer` makes an endless answer.
    pub what: Inserted,
    /// Milliseconds between two of them.
    pub every_ms: u64,
}

/// Where and how a stream is torn. The earlier of the two places counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cut {
    /// After this many bytes of the body.
    pub at_byte: Option<usize>,
    /// After this many frames.
    pub after: Option<usize>,
    /// How the connection ends. Left out: [`CutHow::Fin`].
    pub how: CutHow,
}

/// How a torn connection ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutHow {
    /// FIN in the middle of the chunked body.
    #[default]
    Fin,
    /// A TCP reset (RST).
    Reset,
    /// A proper last chunk: HTTP sees nothing wrong.
    CleanEnd,
}

/// Many equal frames, rendered once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bench {
    /// Number of answer frames.
    pub events: usize,
    /// Bytes of content in each frame. Left out: 16.
    #[serde(default = "bench_content_bytes")]
    pub content_bytes: usize,
    /// Frames in one packet, at least 1. Left out: 1.
    #[serde(default = "bench_per_packet")]
    pub per_packet: usize,
}

fn bench_content_bytes() -> usize {
    16
}

fn bench_per_packet() -> usize {
    1
}
