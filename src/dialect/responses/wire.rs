//! The JSON shapes that clients of the Responses API read. Every key that OpenAI's schema requires is written, `null`
//! where it has no value.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::chat::reply::TokenCounts;

/// A response, finished or not.
#[derive(Debug, Serialize)]
pub(crate) struct Response<'a> {
    /// Id of the response, `resp_…`.
    pub id: &'a str,
    /// Always `response`, by OpenAI's schema.
    pub object: &'static str,
    /// Creation, in Unix seconds.
    pub created_at: i64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    pub status: &'static str,
    /// `false`: a response is made while its caller waits.
    pub background: bool,
    /// Code and message of the failure; `null` unless `status` is `failed`.
    pub error: Option<ResponseError<'a>>,
    /// Reason of the cut; `null` unless `status` is `incomplete`.
    pub incomplete_details: Option<IncompleteDetails>,
    /// The model's name as the caller wrote it.
    pub model: &'a str,
    /// Messages, thoughts and calls of the model, in order.
    pub output: Vec<OutputItem<'a>>,
    /// Token counts; null before the end.
    pub usage: Option<ResponseUsage>,
    /// The fields that repeat the request.
    #[serde(flatten)]
    pub echo: &'a Echo,
}

/// The fields of a response that repeat its request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Echo {
    /// The system text of this response alone.
    pub instructions: Option<String>,
    /// Most tokens of the answer; `null`: no limit.
    pub max_output_tokens: Option<u32>,
    /// Key-value pairs of the caller, returned unchanged.
    pub metadata: Map<String, Value>,
    /// Whether one answer may hold several calls.
    pub parallel_tool_calls: bool,
    /// The response that this one continues.
    pub previous_response_id: Option<String>,
    /// As sent; it has no effect.
    pub prompt_cache_key: Option<String>,
    /// Effort and kind of summary, as sent.
    pub reasoning: ReasoningEcho,
    /// As sent; it has no effect.
    pub safety_identifier: Option<String>,
    /// Whether the response is kept for later requests. Default: `true`.
    pub store: bool,
    /// As sent, 0 to 2. Default: 1.
    pub temperature: f64,
    /// Form of the text, as sent.
    pub text: TextEcho,
    /// As sent. Default: `auto`.
    pub tool_choice: Value,
    /// The tools that have an effect.
    pub tools: Vec<Value>,
    /// As sent, 0 to 1. Default: 1.
    pub top_p: f64,
    /// `auto` or `disabled`, the default.
    pub truncation: &'static str,
    /// As sent; it has no effect.
    pub user: Option<String>,
}

/// `reasoning` of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ReasoningEcho {
    /// `reasoning.effort` of the request.
    pub effort: Option<String>,
    /// `reasoning.summary` of the request: the kind of summary.
    pub summary: Option<String>,
}

/// `text` of a response.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TextEcho {
    /// `text.format` of the request. Default: `{"type": "text"}`.
    pub format: Value,
}

/// The code and message of a failed response.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ResponseError<'a> {
    /// OpenAI's code of the failure: `server_error`, `rate_limit_exceeded`, …
    pub code: &'a str,
    /// For people; names this server's own code in brackets.
    pub message: &'a str,
}

/// The reason why a response is incomplete.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct IncompleteDetails {
    /// The limit that was met: `max_output_tokens` or `content_filter`.
    pub reason: &'static str,
}

/// An item of `output`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum OutputItem<'a> {
    Reasoning {
        /// Id of the item, `rs_…`.
        id: &'a str,
        /// The thoughts; empty before they begin.
        summary: Vec<SummaryText<'a>>,
    },
    Message {
        /// Id of the item, `msg_…`.
        id: &'a str,
        /// `in_progress`, `completed` or `incomplete`.
        status: &'static str,
        /// Always `assistant`, by OpenAI's schema.
        role: &'static str,
        /// Text or refusal; empty before it begins.
        content: Vec<ContentPart<'a>>,
    },
    /// The call of a function.
    FunctionCall {
        /// Id of the item, `fc_…`.
        id: &'a str,
        /// `in_progress`, `completed` or `incomplete`.
        status: &'static str,
        /// Id by which the result refers to the call.
        call_id: &'a str,
        name: &'a str,
        /// The arguments as JSON text.
        arguments: &'a str,
    },
    /// The call of a freeform tool.
    CustomToolCall {
        /// Id of the item, `ctc_…`.
        id: &'a str,
        /// `in_progress`, `completed` or `incomplete`.
        status: &'static str,
        /// Id by which the result refers to the call.
        call_id: &'a str,
        name: &'a str,
        /// The input as plain text.
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
        /// Pages that the text cites, with the places of their marks.
        annotations: &'a [UrlCitation],
        /// Always empty: log probabilities are not supported.
        logprobs: [(); 0],
    },
    /// The model's own refusal to answer, as text.
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
    /// Tokens of the input, at least 1.
    pub input_tokens: u64,
    /// Part of the input tokens that came from a cache.
    pub input_tokens_details: InputTokensDetails,
    /// Tokens of the output with its reasoning, at least 1.
    pub output_tokens: u64,
    /// Part of the output tokens that was reasoning.
    pub output_tokens_details: OutputTokensDetails,
    pub total_tokens: u64,
}

/// `usage.input_tokens_details`, in tokens.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct InputTokensDetails {
    /// Input tokens from the upstream's cache; 0 if it does not tell.
    pub cached_tokens: u64,
    /// Always 0: the upstream does not tell.
    pub cache_write_tokens: u64,
}

/// `usage.output_tokens_details`, in tokens.
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
    /// Always `list`, by OpenAI's schema.
    pub object: &'static str,
    pub data: &'a [Value],
    /// Id of the first item of the page; empty for an empty page.
    pub first_id: &'a str,
    /// Id of the last item of the page; empty for an empty page.
    pub last_id: &'a str,
    /// Whether further items follow after `last_id`.
    pub has_more: bool,
}
