//! How a scripted completion streams: what is said, in which packets, with which faults.

use serde::Deserialize;

/// How a completion streams.
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
    /// Between two packets. Left out: the scenario's.
    pub pace_ms: Option<u64>,
    /// Between the head and the first packet.
    pub first_event_ms: u64,
    /// Longer waits.
    pub pauses: Vec<Pause>,
    /// How the bytes are cut into packets.
    pub packets: Packets,
    /// What ends a line.
    pub line_ending: LineEnding,
    /// A byte order mark before everything.
    pub bom: bool,
    /// Frames and comments that do not belong to the answer.
    pub inserts: Vec<Insert>,
    /// Figures of the last usage; the earlier ones grow towards it.
    pub usage: Option<UsageScript>,
    /// An error frame, after which the stream ends.
    pub error: Option<StreamError>,
    /// How much of the answer there is.
    pub content: Content,
    /// A second answer, index "1", interleaved with the first.
    pub two_answers: bool,
    /// What comes after the last content.
    pub end: End,
    /// Where the stream is torn.
    pub cut: Option<Cut>,
    /// In place of all of the above but `first_event_ms` and `pace_ms`: many equal frames, cheaply.
    pub bench: Option<Bench>,
}

/// How thoughts are written.
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
    /// What is searched for.
    pub queries: Vec<String>,
    /// What is found.
    pub results: Vec<SearchResult>,
    /// Where the results are.
    pub form: SearchForm,
}

/// One search hit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchResult {
    /// Where it is.
    pub url: String,
    /// Its title.
    pub title: String,
    /// A few words of it.
    pub snippet: String,
    /// Its day, `2026-06-09`.
    pub date: String,
}

/// Where the results of a search are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchForm {
    /// In `extra.web_search_info`, a list that grows over the rounds (June 2026 on).
    #[default]
    Info,
    /// In `extra.tool_result.docs` (April 2026).
    Docs,
    /// In both.
    Both,
}

/// A longer wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// After this many frames.
    pub after: usize,
    /// How long.
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
    /// Of this many bytes, whatever they cut; waits between frames are left out, `pace_ms` counts if given here.
    Size(usize),
    /// Cut at these offsets; waits as for `size`.
    At(Vec<usize>),
}

/// What ends a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineEnding {
    /// Line feed, as the real one.
    #[default]
    Lf,
    /// Carriage return and line feed.
    Crlf,
    /// Carriage return alone.
    Cr,
}

/// Something that does not belong to the answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Insert {
    /// After this many frames.
    pub after: usize,
    /// What.
    pub what: Inserted,
}

/// What can be put between frames.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Inserted {
    /// `response.info` with action `keep_alive`.
    KeepAlive,
    /// An SSE comment.
    Comment(String),
    /// `data: true`.
    StrayTrue,
    /// `data: [DONE]`, as some proxies add.
    Done,
    /// These characters and an empty line.
    Text(String),
    /// A delta of any phase, such as one that no client knows.
    UnknownPhase {
        /// Its name.
        phase: String,
        /// Its content.
        #[serde(default)]
        content: String,
        /// With `function_call` and the like.
        #[serde(default)]
        tool: bool,
    },
}

/// The last usage of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageScript {
    /// Of the prompt.
    pub input_tokens: u64,
    /// Of thoughts and answer together.
    pub output_tokens: u64,
    /// Of thoughts alone.
    #[serde(default)]
    pub reasoning_tokens: u64,
    /// Of the prompt, out of a cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Of the prompt, for its pictures.
    #[serde(default)]
    pub image_tokens: u64,
}

/// An error inside a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamError {
    /// After this many frames.
    pub after: usize,
    /// How it is written.
    pub form: ErrorForm,
    /// `internal_error`, `data_inspection_failed`, …; not in the form `text`.
    pub code: String,
    /// The text; empty: the one that goes with the code.
    pub details: String,
    /// Hours to wait.
    pub num: Option<u64>,
}

/// How an error inside a stream is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorForm {
    /// `{"error":{"code":…,"details":…},"response_id":…}`.
    #[default]
    Object,
    /// `{"error":"…"}`.
    Text,
    /// `{"success":false,"data":{…}}`.
    Envelope,
}

/// How much of the answer there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// All of it.
    #[default]
    Whole,
    /// `response.created`, then the end of the body.
    Created,
    /// Thoughts, then the end of the body.
    Reasoning,
}

/// What comes after the last content.
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

/// Something that is sent for ever.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endless {
    /// What; an unknown phase called `answer` makes an endless answer.
    pub what: Inserted,
    /// Between two of them.
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
    /// How.
    pub how: CutHow,
}

/// How a stream is torn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutHow {
    /// FIN in the middle of the chunked body.
    #[default]
    Fin,
    /// RST.
    Reset,
    /// A proper last chunk: HTTP sees nothing wrong.
    CleanEnd,
}

/// Many equal frames, rendered once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bench {
    /// How many answer frames.
    pub events: usize,
    /// How many bytes of content in each.
    #[serde(default = "bench_content_bytes")]
    pub content_bytes: usize,
    /// How many frames in one packet.
    #[serde(default = "bench_per_packet")]
    pub per_packet: usize,
}

fn bench_content_bytes() -> usize {
    16
}

fn bench_per_packet() -> usize {
    1
}
