//! The shapes that clients of the Responses API read. Every key that OpenAI's schema requires is written, as null
//! where there is nothing to say.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::chat::reply::TokenCounts;

/// A response, whole or in the making.
#[derive(Debug, Serialize)]
pub(crate) struct Response<'a> {
    /// `resp_…`.
    pub id: &'a str,
    /// `response`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created_at: i64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    pub status: &'static str,
    /// `false`: a response is made while its caller waits.
    pub background: bool,
    /// Why it failed.
    pub error: Option<ResponseError<'a>>,
    /// Why it is incomplete.
    pub incomplete_details: Option<IncompleteDetails>,
    /// The name that was asked for.
    pub model: &'a str,
    /// What the model said, thought and called, in order.
    pub output: Vec<OutputItem<'a>>,
    /// Token counts; null before the end.
    pub usage: Option<ResponseUsage>,
    /// What is repeated of the request.
    #[serde(flatten)]
    pub echo: &'a Echo,
}

/// What a response repeats of its request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Echo {
    /// The system text of this response alone.
    pub instructions: Option<String>,
    /// The most tokens of the answer.
    pub max_output_tokens: Option<u32>,
    /// The caller's own notes.
    pub metadata: Map<String, Value>,
    /// Whether one answer may hold several calls.
    pub parallel_tool_calls: bool,
    /// The response that this one continues.
    pub previous_response_id: Option<String>,
    /// As it came; it has no effect.
    pub prompt_cache_key: Option<String>,
    /// How to think.
    pub reasoning: ReasoningEcho,
    /// As it came; it has no effect.
    pub safety_identifier: Option<String>,
    /// Whether the response is kept.
    pub store: bool,
    /// From 0 to 2.
    pub temperature: f64,
    /// The form of the text.
    pub text: TextEcho,
    /// Which tools have to be called.
    pub tool_choice: Value,
    /// The tools that have an effect.
    pub tools: Vec<Value>,
    /// From 0 to 1.
    pub top_p: f64,
    /// `auto` or `disabled`.
    pub truncation: &'static str,
    /// As it came; it has no effect.
    pub user: Option<String>,
}

/// `reasoning` of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ReasoningEcho {
    /// The effort that was asked for.
    pub effort: Option<String>,
    /// The kind of summary that was asked for.
    pub summary: Option<String>,
}

/// `text` of a response.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TextEcho {
    /// The form of the text.
    pub format: Value,
}

/// Why a response failed.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ResponseError<'a> {
    /// OpenAI's word: `server_error`, `rate_limit_exceeded`, …
    pub code: &'a str,
    /// For people; names this server's own code.
    pub message: &'a str,
}

/// Why a response is incomplete.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct IncompleteDetails {
    /// `max_output_tokens` or `content_filter`.
    pub reason: &'static str,
}

/// An item of `output`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum OutputItem<'a> {
    Reasoning {
        /// `rs_…`.
        id: &'a str,
        /// The thoughts; empty before they begin.
        summary: Vec<SummaryText<'a>>,
    },
    Message {
        /// `msg_…`.
        id: &'a str,
        /// `in_progress`, `completed` or `incomplete`.
        status: &'static str,
        /// `assistant`.
        role: &'static str,
        /// What is said; empty before it begins.
        content: Vec<ContentPart<'a>>,
    },
    /// The call of a function.
    FunctionCall {
        /// `fc_…`.
        id: &'a str,
        /// `in_progress`, `completed` or `incomplete`.
        status: &'static str,
        /// The id that its result names.
        call_id: &'a str,
        name: &'a str,
        /// JSON text.
        arguments: &'a str,
    },
    /// The call of a freeform tool.
    CustomToolCall {
        /// `ctc_…`.
        id: &'a str,
        /// `in_progress`, `completed` or `incomplete`.
        status: &'static str,
        /// The id that its result names.
        call_id: &'a str,
        name: &'a str,
        /// Plain text.
        input: &'a str,
    },
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "type", rename = "summary_text")]
pub(crate) struct SummaryText<'a> {
    pub text: &'a str,
}

/// A part of a message.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ContentPart<'a> {
    OutputText {
        text: &'a str,
        /// Where it cites pages.
        annotations: &'a [UrlCitation],
        /// Always empty.
        logprobs: [(); 0],
    },
    /// The model's refusal.
    Refusal { refusal: &'a str },
}

/// A place of a text that cites a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "url_citation")]
pub(crate) struct UrlCitation {
    /// The first character, counted from 0.
    pub start_index: usize,
    /// The character after the last.
    pub end_index: usize,
    /// The address of the page.
    pub url: String,
    /// The title of the page.
    pub title: String,
}

/// `usage` of a response.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ResponseUsage {
    /// At least 1.
    pub input_tokens: u64,
    /// Parts of the input.
    pub input_tokens_details: InputTokensDetails,
    /// At least 1, reasoning included.
    pub output_tokens: u64,
    /// Parts of the output.
    pub output_tokens_details: OutputTokensDetails,
    pub total_tokens: u64,
}

/// `usage.input_tokens_details`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct InputTokensDetails {
    /// From the upstream's cache.
    pub cached_tokens: u64,
    /// 0: the upstream does not tell.
    pub cache_write_tokens: u64,
}

/// `usage.output_tokens_details`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct OutputTokensDetails {
    pub reasoning_tokens: u64,
}

impl From<&TokenCounts> for ResponseUsage {
    fn from(counts: &TokenCounts) -> Self {
        Self {
            input_tokens: counts.prompt,
            input_tokens_details: InputTokensDetails { cached_tokens: counts.cached, cache_write_tokens: 0 },
            output_tokens: counts.completion,
            output_tokens_details: OutputTokensDetails { reasoning_tokens: counts.reasoning },
            total_tokens: counts.prompt + counts.completion,
        }
    }
}

/// A page of the items that a response was made from.
#[derive(Debug, Serialize)]
pub(crate) struct ItemList<'a> {
    /// `list`.
    pub object: &'static str,
    pub data: &'a [Value],
    /// The first one's id; empty without one.
    pub first_id: &'a str,
    /// The last one's id; empty without one.
    pub last_id: &'a str,
    /// Whether more follow.
    pub has_more: bool,
}
