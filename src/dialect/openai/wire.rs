//! The shapes that OpenAI clients read. Every key that OpenAI's schema requires is written, as null where there
//! is nothing to say; no further list-valued keys.

use serde::Serialize;

use crate::chat::reply::TokenCounts;

/// `GET /v1/models`.
#[derive(Debug, Serialize)]
pub(crate) struct ModelList<'a> {
    /// `list`.
    pub object: &'static str,
    pub data: Vec<Model<'a>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Model<'a> {
    /// The name to ask for.
    pub id: &'a str,
    /// `model`.
    pub object: &'static str,
    /// Seconds since 1970, constant for a model.
    pub created: u32,
    /// The owner as the upstream names it, else `qwen`.
    pub owned_by: &'a str,
    /// Tokens of context; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
}

/// A video, made or in the making.
#[derive(Debug, Serialize)]
pub(crate) struct Video<'a> {
    /// `video_…`.
    pub id: &'a str,
    /// `video`.
    pub object: &'static str,
    /// The name that was asked for.
    pub model: &'a str,
    /// `queued`, `in_progress`, `completed` or `failed`.
    pub status: &'static str,
    /// Percent.
    pub progress: u64,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970, once there is an end.
    pub completed_at: Option<i64>,
    /// Not known.
    pub expires_at: Option<i64>,
    /// What is to be seen.
    pub prompt: &'a str,
    /// As it was asked for.
    pub size: &'a str,
    pub seconds: &'a str,
    /// There is no remixing here.
    pub remixed_from_video_id: Option<&'a str>,
    /// Why there is none.
    pub error: Option<VideoError<'a>>,
}

/// Why there is no video.
#[derive(Debug, Serialize)]
pub(crate) struct VideoError<'a> {
    /// For programs.
    pub code: &'a str,
    /// For people.
    pub message: &'a str,
}

/// A page of videos.
#[derive(Debug, Serialize)]
pub(crate) struct VideoList<'a> {
    /// `list`.
    pub object: &'static str,
    pub data: Vec<Video<'a>>,
    /// The first one's id.
    pub first_id: Option<&'a str>,
    /// The last one's id.
    pub last_id: Option<&'a str>,
    /// Whether more follow.
    pub has_more: bool,
}

/// A whole chat completion.
#[derive(Debug, Serialize)]
pub(crate) struct ChatCompletion<'a> {
    /// `chatcmpl-…`.
    pub id: &'a str,
    /// `chat.completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// The name that was asked for.
    pub model: &'a str,
    /// The one choice.
    pub choices: [CompletionChoice<'a>; 1],
    pub usage: CompletionUsage,
}

/// The choice of a [`ChatCompletion`].
#[derive(Debug, Serialize)]
pub(crate) struct CompletionChoice<'a> {
    /// 0.
    pub index: u32,
    pub message: CompletionMessage<'a>,
    /// Never null.
    pub finish_reason: &'static str,
    pub logprobs: Option<()>,
}

#[derive(Debug, Serialize)]
pub(crate) struct CompletionMessage<'a> {
    /// `assistant`.
    pub role: &'static str,
    /// The text; null when the answer is tool calls or a refusal only.
    pub content: Option<&'a str>,
    /// The model's refusal; null when there is none.
    pub refusal: Option<&'a str>,
    /// The thoughts; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<&'a str>,
    /// Tool calls; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<MessageToolCall<'a>>,
    /// The older form of one call; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_call: Option<FunctionCall<'a>>,
    /// Citations; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation<'a>>,
}

/// A tool call of a whole message.
#[derive(Debug, Serialize)]
pub(crate) struct MessageToolCall<'a> {
    /// Unique in the conversation.
    pub id: &'a str,
    /// `function`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What is called.
    pub function: FunctionCall<'a>,
}

/// What a [`MessageToolCall`] calls.
#[derive(Debug, Serialize)]
pub(crate) struct FunctionCall<'a> {
    pub name: &'a str,
    /// JSON text.
    pub arguments: &'a str,
}

/// A piece of a tool call in a chunk. The first piece has id, type and name, the later ones only arguments.
#[derive(Debug, Serialize)]
pub(crate) struct ToolCallDelta<'a> {
    /// Which call of the answer, counted from 0.
    pub index: u32,
    /// Unique in the conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// `function`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// What is called.
    pub function: FunctionDelta<'a>,
}

/// A piece of what a [`ToolCallDelta`] calls.
#[derive(Debug, Serialize)]
pub(crate) struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// A piece of JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Annotation<'a> {
    /// Place in the list; in chunks only, where SDKs join lists by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// `url_citation`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where it points.
    pub url_citation: UrlCitation<'a>,
}

/// Where a citation points, and which characters of the content it stands for.
#[derive(Debug, Serialize)]
pub(crate) struct UrlCitation<'a> {
    /// First character of the mark in the content, counted from 0.
    pub start_index: usize,
    /// The character after the mark.
    pub end_index: usize,
    /// Title of the page.
    pub title: &'a str,
    pub url: &'a str,
}

/// An answer of `/v1/completions`, whole or a chunk of it.
#[derive(Debug, Serialize)]
pub(crate) struct TextCompletion<'a> {
    /// `cmpl-…`.
    pub id: &'a str,
    /// `text_completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// The name that was asked for.
    pub model: &'a str,
    /// One for each prompt; a chunk has one, and the chunk of counts none.
    pub choices: Vec<TextChoice<'a>>,
    /// Counts over all prompts; null in chunks before the last where they were asked for, absent where not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<CompletionUsage>>,
}

/// The text that follows a prompt, or a piece of it.
#[derive(Debug, Serialize)]
pub(crate) struct TextChoice<'a> {
    pub text: &'a str,
    /// The place of its prompt.
    pub index: u32,
    pub logprobs: Option<()>,
    /// Null until the end.
    pub finish_reason: Option<&'static str>,
}

/// `usage`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct CompletionUsage {
    /// At least 1.
    pub prompt_tokens: u64,
    /// At least 1, reasoning included.
    pub completion_tokens: u64,
    pub total_tokens: u64,
    /// Parts of the prompt.
    pub prompt_tokens_details: PromptTokensDetails,
    /// Parts of the completion.
    pub completion_tokens_details: CompletionTokensDetails,
}

impl From<&TokenCounts> for CompletionUsage {
    fn from(counts: &TokenCounts) -> Self {
        Self {
            prompt_tokens: counts.prompt,
            completion_tokens: counts.completion,
            total_tokens: counts.prompt + counts.completion,
            prompt_tokens_details: PromptTokensDetails { cached_tokens: counts.cached },
            completion_tokens_details: CompletionTokensDetails { reasoning_tokens: counts.reasoning },
        }
    }
}

impl CompletionUsage {
    /// Both together, as for one request that took several turns.
    #[must_use]
    pub(crate) fn and(self, other: Option<Self>) -> Self {
        let Some(other) = other else {
            return self;
        };
        let (prompt, completion) = (&self.prompt_tokens_details, &self.completion_tokens_details);
        Self {
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            completion_tokens: self.completion_tokens + other.completion_tokens,
            total_tokens: self.total_tokens + other.total_tokens,
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: prompt.cached_tokens + other.prompt_tokens_details.cached_tokens,
            },
            completion_tokens_details: CompletionTokensDetails {
                reasoning_tokens: completion.reasoning_tokens + other.completion_tokens_details.reasoning_tokens,
            },
        }
    }
}

/// `usage.prompt_tokens_details`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PromptTokensDetails {
    /// From the upstream's cache.
    pub cached_tokens: u64,
}

/// `usage.completion_tokens_details`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct CompletionTokensDetails {
    pub reasoning_tokens: u64,
}

/// The body of a failed request, or the last event of a failed stream.
#[derive(Debug, Serialize)]
pub struct ErrorBody<'a> {
    /// What is wrong.
    pub error: ErrorDetail<'a>,
    /// The id of the request, as in the header `x-request-id`; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
}

/// What is wrong. All four keys are always written.
#[derive(Debug, Serialize)]
pub struct ErrorDetail<'a> {
    /// For people: what was wrong, whose fault it is, how to mend it.
    pub message: &'a str,
    /// The class: `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The field at fault.
    pub param: Option<&'a str>,
    /// The word for programs: `model_not_found`.
    pub code: Option<&'a str>,
    /// The message in Chinese, in answers to the owner's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_zh: Option<&'a str>,
}
