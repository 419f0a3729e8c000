//! The shapes of chat.qwen.ai's web API, late 2026. Names are the upstream's.
//!
//! Whatever may change its type without notice is kept as raw JSON, so that one odd field does not cost a whole
//! frame.

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Body of `POST /api/v2/chats/new`.
#[derive(Debug, Serialize)]
pub struct NewChat<'a> {
    /// Empty for a new chat.
    #[serde(rename = "chatId")]
    pub chat_id: &'a str,
    /// Always `New Chat`; the upstream finds a title by itself.
    pub title: &'a str,
    /// The one model of the chat.
    pub models: [&'a str; 1],
    /// Empty: no project.
    pub project_id: &'a str,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The same word as in the message that follows.
    pub chat_type: &'a str,
    /// `normal`.
    pub chat_mode: &'a str,
}

/// Body of `POST /api/v2/chat/completions`: exactly one message.
#[derive(Debug, Serialize)]
pub struct ChatPayload<'a> {
    /// Always true for text.
    pub stream: bool,
    /// `2.1`.
    pub version: &'a str,
    /// Always true.
    pub incremental_output: bool,
    /// The chat, as newer frontends spell it.
    #[serde(rename = "chatId")]
    pub chat_id_camel: &'a str,
    /// The chat; the upstream refuses a body without it.
    pub chat_id: &'a str,
    /// Empty on a first turn.
    #[serde(rename = "parentId")]
    pub parent_id_camel: &'a str,
    /// Null on a first turn, else the `response_id` of the answer before.
    pub parent_id: Option<&'a str>,
    /// `normal`.
    pub chat_mode: &'a str,
    /// The upstream's model id.
    pub model: &'a str,
    /// One message, never more.
    pub messages: [ChatMessage<'a>; 1],
    /// Seconds since 1970.
    pub timestamp: i64,
}

/// The one message of a [`ChatPayload`].
#[derive(Debug, Serialize)]
pub struct ChatMessage<'a> {
    /// Null; the upstream gives its own id.
    pub id: Option<&'a str>,
    /// A fresh UUID.
    pub fid: &'a str,
    /// As in the payload.
    #[serde(rename = "parentId")]
    pub parent_id_camel: Option<&'a str>,
    /// As in the payload.
    pub parent_id: Option<&'a str>,
    /// One fresh UUID for the answer to come.
    #[serde(rename = "childrenIds")]
    pub children_ids: [&'a str; 1],
    /// `user`; a system role is not honoured.
    pub role: &'a str,
    /// The prompt.
    pub content: &'a str,
    /// `chat`.
    pub user_action: &'a str,
    /// Uploaded files.
    pub files: [IgnoredFile; 0],
    /// Seconds since 1970.
    pub timestamp: i64,
    /// The one model.
    pub models: [&'a str; 1],
    /// Empty.
    pub model: &'a str,
    /// `t2t` or `search`.
    pub chat_type: &'a str,
    /// The same.
    pub sub_chat_type: &'a str,
    /// Thinking and search.
    pub feature_config: FeatureConfig,
    /// Repeats the chat type.
    pub extra: MessageExtra<'a>,
}

/// A file entry. Uploads are not built yet, so none can exist.
#[derive(Debug, Serialize)]
pub enum IgnoredFile {}

/// `feature_config` of a message.
#[derive(Debug, Serialize)]
pub struct FeatureConfig {
    /// Whether the model thinks.
    pub thinking_enabled: bool,
    /// `phase`: without it the deltas carry no phase.
    pub output_schema: &'static str,
    /// `normal`.
    pub research_mode: &'static str,
    /// Whether the model may decide by itself.
    pub auto_thinking: bool,
    /// `Thinking`, `Auto` or `Fast`.
    pub thinking_mode: &'static str,
    /// `summary`; absent when thinking is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_format: Option<&'static str>,
    /// Tokens to think with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<u32>,
    /// Whether the model may search by itself.
    pub auto_search: bool,
}

/// `extra` of a message.
#[derive(Debug, Serialize)]
pub struct MessageExtra<'a> {
    /// See [`MessageMeta`].
    pub meta: MessageMeta<'a>,
}

/// `extra.meta` of a message.
#[derive(Debug, Serialize)]
pub struct MessageMeta<'a> {
    /// The chat type once more.
    #[serde(rename = "subChatType")]
    pub sub_chat_type: &'a str,
}

/// One frame of the event stream, whatever it is.
#[derive(Debug, Deserialize)]
pub struct StreamObject<'a> {
    /// First frame of an answer.
    #[serde(rename = "response.created", borrow)]
    pub created: Option<Created<'a>>,
    /// Keep-alive.
    #[serde(rename = "response.info")]
    pub info: Option<IgnoredAny>,
    /// The one choice; further ones, never seen, are skipped.
    #[serde(default, borrow, deserialize_with = "first_choice")]
    pub choices: Option<Choice<'a>>,
    /// Whose answer this frame belongs to.
    #[serde(borrow)]
    pub response_id: Option<&'a RawValue>,
    /// Counts so far.
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
    /// A failure in the stream: a string or an object.
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    /// `false` in an error envelope that came as a frame.
    pub success: Option<bool>,
    /// The envelope's content.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    /// Error code at top level, as some frames have it.
    #[serde(borrow)]
    pub code: Option<&'a RawValue>,
    /// Error text at top level.
    #[serde(borrow)]
    pub details: Option<&'a RawValue>,
    /// The risk engine's answer.
    #[serde(borrow)]
    pub ret: Option<&'a RawValue>,
}

/// `response.created`.
#[derive(Debug, Deserialize)]
pub struct Created<'a> {
    /// The id of the assistant's message.
    #[serde(borrow)]
    pub response_id: Option<&'a RawValue>,
    /// A string; absent in older streams.
    #[serde(borrow)]
    pub response_index: Option<&'a RawValue>,
}

/// An element of `choices`.
#[derive(Debug, Deserialize)]
pub struct Choice<'a> {
    /// What is new.
    #[serde(borrow)]
    pub delta: Option<Delta<'a>>,
}

/// `choices[0].delta`.
#[derive(Debug, Deserialize)]
pub struct Delta<'a> {
    /// `assistant`, or `function` for a tool's result.
    #[serde(borrow)]
    pub role: Option<&'a RawValue>,
    /// Text, or the link of a picture.
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    /// What kind of content this is.
    #[serde(borrow)]
    pub phase: Option<&'a RawValue>,
    /// `typing` or `finished`.
    #[serde(borrow)]
    pub status: Option<&'a RawValue>,
    /// A call of a built-in tool.
    pub function_call: Option<IgnoredAny>,
    /// Depends on the phase.
    #[serde(borrow)]
    pub extra: Option<&'a RawValue>,
}

/// `delta.extra` of the phases whose content travels there.
#[derive(Debug, Default, Deserialize)]
pub struct Extra {
    /// Titles of a thinking summary, cumulative.
    pub summary_title: Option<ContentList>,
    /// Thoughts of a thinking summary, cumulative.
    pub summary_thought: Option<ContentList>,
    /// Search hits, cumulative, as of June 2026.
    pub web_search_info: Option<Vec<SearchHit>>,
    /// Search hits as of April 2026.
    pub tool_result: Option<ToolResult>,
    /// Pictures made by a tool in an ordinary chat.
    pub image_list: Option<Vec<ImageEntry>>,
}

/// `{"content": ["…"]}`.
#[derive(Debug, Default, Deserialize)]
pub struct ContentList {
    /// The items so far.
    #[serde(default)]
    pub content: Vec<String>,
}

/// `extra.tool_result`.
#[derive(Debug, Deserialize)]
pub struct ToolResult {
    /// Search hits.
    #[serde(default)]
    pub docs: Vec<SearchHit>,
}

/// One search hit.
#[derive(Debug, Deserialize)]
pub struct SearchHit {
    /// Its address.
    #[serde(default)]
    pub url: String,
    /// Its title.
    #[serde(default)]
    pub title: String,
}

/// An element of `extra.image_list`.
#[derive(Debug, Deserialize)]
pub struct ImageEntry {
    /// The picture's address.
    pub image: Option<String>,
}

/// `usage`; every count is the sum so far.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Prompt, the upstream's hidden system prompt included.
    pub input_tokens: u64,
    /// Answer, reasoning included.
    pub output_tokens: u64,
    /// Parts of the answer.
    pub output_tokens_details: OutputTokens,
    /// Parts of the prompt.
    pub prompt_tokens_details: PromptTokens,
}

/// `usage.output_tokens_details`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OutputTokens {
    /// Thinking.
    pub reasoning_tokens: u64,
}

/// `usage.prompt_tokens_details`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PromptTokens {
    /// Served from the upstream's cache.
    pub cached_tokens: u64,
}

/// Takes the first element of `choices` without a list in between.
fn first_choice<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Choice<'de>>, D::Error> {
    struct First;
    impl<'de> Visitor<'de> for First {
        type Value = Option<Choice<'de>>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of choices")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let first = seq.next_element()?;
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }
    deserializer.deserialize_any(First)
}
