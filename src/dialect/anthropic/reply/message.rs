//! The JSON of a `message`, without its content: head, token counts and the reason why it ended.

use serde::Serialize;
use serde_json::{Value, json};

use crate::chat::reply::{Ending, FinishReason, TokenCounts};
use crate::dialect::anthropic::request::SearchTool;

/// Thoughts of other models have no signature of Anthropic's, but SDKs want one: any base64 text.
pub(crate) const SIGNATURE: &str = "cXdlbi1icmlkZ2U=";

/// The fields of a message beside its content.
#[derive(Clone, Debug)]
pub(crate) struct MessageHead {
    /// Id of the message, `msg_…`.
    pub id: String,
    /// The model's name as the caller wrote it.
    pub model: String,
    /// An estimate of the prompt's tokens: a stream names them before the upstream has counted.
    pub prompt_tokens: u64,
    /// The search tool that the caller declared.
    pub search: Option<SearchTool>,
}

#[derive(Serialize)]
pub(crate) struct Message<'a> {
    pub(crate) id: &'a str,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) role: &'static str,
    pub(crate) model: &'a str,
    pub(crate) content: Vec<Value>,
    pub(crate) stop_reason: Option<&'static str>,
    pub(crate) stop_sequence: Option<&'a str>,
    pub(crate) usage: Usage,
}

/// Token counts. All of the prompt is in `input_tokens`: clients that watch the size of the conversation look at it
/// alone.
#[derive(Serialize)]
pub(crate) struct Usage {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_tool_use: Option<ServerToolUse>,
}

#[derive(Serialize)]
struct ServerToolUse {
    web_search_requests: u64,
}

impl Usage {
    pub(crate) fn new(input_tokens: u64, output_tokens: u64, searches: u64) -> Self {
        let server_tool_use = (searches > 0).then_some(ServerToolUse { web_search_requests: searches });
        Self {
            input_tokens,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: 0,
            output_tokens,
            server_tool_use,
        }
    }

    pub(crate) fn of(counts: TokenCounts, has_searched: bool) -> Self {
        Self::new(counts.prompt, counts.completion, u64::from(has_searched))
    }
}

/// Anthropic's words for the end of an answer: the reason, and the stop sequence that was met.
pub(crate) fn stop_reason(ending: &Ending, has_calls: bool, is_refused: bool) -> (&'static str, Option<&str>) {
    match ending.reason {
        FinishReason::Length => ("max_tokens", None),
        FinishReason::ContentFilter => ("refusal", None),
        FinishReason::Stop | FinishReason::ToolCalls if has_calls => ("tool_use", None),
        FinishReason::Stop | FinishReason::ToolCalls if is_refused => ("refusal", None),
        FinishReason::Stop | FinishReason::ToolCalls => match &ending.stop_sequence {
            Some(sequence) => ("stop_sequence", Some(sequence)),
            None => ("end_turn", None),
        },
    }
}

pub(crate) fn empty_text() -> Value {
    json!({"type": "text", "text": ""})
}
