//! The JSON shapes that OpenAI clients read. Every key that OpenAI's schema requires is written, `null` where it has no
//! value; optional lists are left out when empty.

use serde::Serialize;

use crate::chat::reply::TokenCounts;

/// The body of `GET /v1/models`.
#[derive(Debug, Serialize)]
pub(crate) struct ModelList<'a> {
    /// Always `list`, by OpenAI's schema.
    pub object: &'static str,
    pub data: Vec<Model<'a>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Model<'a> {
    /// The name by which callers ask for the model.
    pub id: &'a str,
    /// Always `model`, by OpenAI's schema.
    pub object: &'static str,
    /// Unix seconds; the same in every answer.
    pub created: u32,
    /// The owner as the upstream names it, else `qwen`.
    pub owned_by: &'a str,
    /// Size of the context in tokens; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
}

/// A video of `/v1/videos`, finished or not.
#[derive(Debug, Serialize)]
pub(crate) struct Video<'a> {
    /// Id of the video, `video_…`.
    pub id: &'a str,
    /// Always `video`, by OpenAI's schema.
    pub object: &'static str,
    /// The model's name as the caller wrote it.
    pub model: &'a str,
    /// `queued`, `in_progress`, `completed` or `failed`.
    pub status: &'static str,
    /// Percent, 0 to 100; an estimate by time while the video is made.
    pub progress: u64,
    /// Creation, in Unix seconds.
    pub created_at: i64,
    /// End of the making, in Unix seconds; `null` before.
    pub completed_at: Option<i64>,
    /// Always `null`: the upstream does not tell how long the file is kept.
    pub expires_at: Option<i64>,
    /// The prompt of the request.
    pub prompt: &'a str,
    /// The size as the caller wrote it.
    pub size: &'a str,
    pub seconds: &'a str,
    /// Always `null`: videos cannot be remixed here.
    pub remixed_from_video_id: Option<&'a str>,
    /// Why the making failed; else `null`.
    pub error: Option<VideoError<'a>>,
}

/// The reason why a video failed.
#[derive(Debug, Serialize)]
pub(crate) struct VideoError<'a> {
    /// Machine-readable code of the failure.
    pub code: &'a str,
    /// Sentence for people about the failure.
    pub message: &'a str,
}

/// A page of videos.
#[derive(Debug, Serialize)]
pub(crate) struct VideoList<'a> {
    /// Always `list`, by OpenAI's schema.
    pub object: &'static str,
    pub data: Vec<Video<'a>>,
    /// Id of the first video of the page; `null` for an empty page.
    pub first_id: Option<&'a str>,
    /// Id of the last video of the page; `null` for an empty page.
    pub last_id: Option<&'a str>,
    /// Whether further videos follow after `last_id`.
    pub has_more: bool,
}

/// A whole chat completion.
#[derive(Debug, Serialize)]
pub(crate) struct ChatCompletion<'a> {
    /// Id of the completion, `chatcmpl-…`.
    pub id: &'a str,
    /// Always `chat.completion`, by OpenAI's schema.
    pub object: &'static str,
    /// Creation, in Unix seconds.
    pub created: i64,
    /// The model's name as the caller wrote it.
    pub model: &'a str,
    /// The choice; `n` is always 1.
    pub choices: [CompletionChoice<'a>; 1],
    pub usage: CompletionUsage,
}

/// The choice of a [`ChatCompletion`].
#[derive(Debug, Serialize)]
pub(crate) struct CompletionChoice<'a> {
    /// Always 0: an answer has one choice.
    pub index: u32,
    pub message: CompletionMessage<'a>,
    /// Never `null`: the answer is whole.
    pub finish_reason: &'static str,
    pub logprobs: Option<()>,
}

#[derive(Debug, Serialize)]
pub(crate) struct CompletionMessage<'a> {
    /// Always `assistant`, by OpenAI's schema.
    pub role: &'static str,
    /// The text; null when the answer is tool calls or a refusal only.
    pub content: Option<&'a str>,
    /// The model's refusal; `null` unless it refused.
    pub refusal: Option<&'a str>,
    /// The thoughts; absent for an answer without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<&'a str>,
    /// Tool calls; absent for an answer without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<MessageToolCall<'a>>,
    /// The older form of one call, for callers that sent `functions`; absent for an answer without a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_call: Option<FunctionCall<'a>>,
    /// Citations; absent for an answer without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation<'a>>,
}

/// A tool call of a whole message.
#[derive(Debug, Serialize)]
pub(crate) struct MessageToolCall<'a> {
    /// Id of the call, unique in the conversation.
    pub id: &'a str,
    /// Always `function`, by OpenAI's schema.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Name and arguments of the call.
    pub function: FunctionCall<'a>,
}

/// The name and arguments of a [`MessageToolCall`].
#[derive(Debug, Serialize)]
pub(crate) struct FunctionCall<'a> {
    pub name: &'a str,
    /// The arguments as JSON text.
    pub arguments: &'a str,
}

/// A piece of a tool call in a chunk. The first piece has id, type and name, the later ones only arguments.
#[derive(Debug, Serialize)]
pub(crate) struct ToolCallDelta<'a> {
    /// Position of the call in the answer, from 0.
    pub index: u32,
    /// Id of the call, unique in the conversation; in its first piece only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// `function` in the first piece, absent in the others.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// A piece of name and arguments.
    pub function: FunctionDelta<'a>,
}

/// A piece of the name and arguments of a [`ToolCallDelta`].
#[derive(Debug, Serialize)]
pub(crate) struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// A piece of the arguments' JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Annotation<'a> {
    /// Position in the list; in chunks only, where SDKs merge lists by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// Always `url_citation`, by OpenAI's schema.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The page and the place of its mark.
    pub url_citation: UrlCitation<'a>,
}

/// The page that a citation points to, and the characters of the content that cite it.
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
    /// Id of the completion, `cmpl-…`.
    pub id: &'a str,
    /// Always `text_completion`, by OpenAI's schema.
    pub object: &'static str,
    /// Creation, in Unix seconds.
    pub created: i64,
    /// The model's name as the caller wrote it.
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
    /// Position of its prompt in the request, from 0.
    pub index: u32,
    pub logprobs: Option<()>,
    /// `stop` or another reason in the last chunk of a text; `null` before.
    pub finish_reason: Option<&'static str>,
}

/// `usage` of a completion, in tokens.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct CompletionUsage {
    /// Tokens of the prompt, at least 1.
    pub prompt_tokens: u64,
    /// Tokens of the answer with its reasoning, at least 1.
    pub completion_tokens: u64,
    pub total_tokens: u64,
    /// Part of the prompt tokens that came from a cache.
    pub prompt_tokens_details: PromptTokensDetails,
    /// Part of the completion tokens that was reasoning.
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
    /// The sum of both, for a request that took several turns.
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

/// `usage.prompt_tokens_details`, in tokens.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PromptTokensDetails {
    /// Prompt tokens from the upstream's cache; 0 if it does not tell.
    pub cached_tokens: u64,
}

/// `usage.completion_tokens_details`, in tokens.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct CompletionTokensDetails {
    pub reasoning_tokens: u64,
}

/// The body of a failed request, or the last event of a failed stream.
#[derive(Debug, Serialize)]
pub struct ErrorBody<'a> {
    /// Message, class and code of the failure.
    pub error: ErrorDetail<'a>,
    /// The id of the request, as in the header `x-request-id`; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
}

/// Message, class and code of a failure. These four keys are always written.
#[derive(Debug, Serialize)]
pub struct ErrorDetail<'a> {
    /// For people: the fault and its remedy.
    pub message: &'a str,
    /// OpenAI's class of the failure, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The field at fault, such as `messages[0].content`; else `null`.
    pub param: Option<&'a str>,
    /// Machine-readable code, such as `model_not_found`.
    pub code: Option<&'a str>,
    /// The message in Chinese, in answers to the owner's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_zh: Option<&'a str>,
}
