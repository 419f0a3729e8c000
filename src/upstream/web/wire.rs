//! The bodies that the web API of chat.qwen.ai takes, late 2026. Names are the upstream's.

use serde::Serialize;
use serde_json::Value;

/// Body of `POST /api/v2/chats/new`.
#[derive(Debug, Serialize)]
pub(crate) struct NewChat<'a> {
    /// Empty for a new chat.
    #[serde(rename = "chatId")]
    pub chat_id: &'a str,
    /// The upstream finds another one by itself once something was said.
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
pub(crate) struct ChatPayload<'a> {
    /// True for everything but videos.
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
    /// The ratio of a picture or a video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<&'a str>,
}

/// The one message of a [`ChatPayload`].
#[derive(Debug, Serialize)]
pub(crate) struct ChatMessage<'a> {
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
    pub files: Vec<FileEntry<'a>>,
    /// Seconds since 1970.
    pub timestamp: i64,
    /// The one model.
    pub models: [&'a str; 1],
    /// Empty.
    pub model: &'a str,
    /// `t2t`, `search`, `deep_research`, `artifacts`, `web_dev`, `learn`, `t2i`, `image_edit`, `t2v` or `i2v`.
    pub chat_type: &'a str,
    /// The same.
    pub sub_chat_type: &'a str,
    /// Thinking, search and declared tools.
    pub feature_config: FeatureConfig<'a>,
    /// Repeats the chat type.
    pub extra: MessageExtra<'a>,
}

/// An entry of `files`: of a file that this account uploaded, or, with the first group of fields alone, of a link
/// that the upstream gave out.
#[derive(Debug, Serialize)]
pub(crate) struct FileEntry<'a> {
    /// `image`, `video`, `audio` or `file`.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The file's name.
    pub name: &'a str,
    /// Its media type.
    pub file_type: &'a str,
    /// The same word as `type`.
    #[serde(rename = "showType")]
    pub show_type: &'a str,
    /// `vision`, `video`, `audio` or `document`.
    pub file_class: &'a str,
    /// `uploaded`.
    pub status: &'a str,
    /// Where the upstream finds it, query included.
    pub url: &'a str,
    /// What only uploads have.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub upload: Option<FileUpload<'a>>,
}

/// The part of a [`FileEntry`] that tells of an upload.
#[derive(Debug, Serialize)]
pub(crate) struct FileUpload<'a> {
    /// The file once more, as the site's page keeps it.
    pub file: FileRecord<'a>,
    /// The upstream's id.
    pub id: &'a str,
    /// Empty.
    pub collection_name: &'a str,
    /// 0 even when it is done.
    pub progress: u8,
    /// `success`.
    #[serde(rename = "greenNet")]
    pub green_net: &'a str,
    /// Bytes.
    pub size: u64,
    /// Empty.
    pub error: &'a str,
    /// A fresh UUID.
    #[serde(rename = "itemId")]
    pub item_id: &'a str,
    /// A fresh UUID.
    #[serde(rename = "uploadTaskId")]
    pub upload_task_id: &'a str,
}

/// `file` of a [`FileUpload`].
#[derive(Debug, Serialize)]
pub(crate) struct FileRecord<'a> {
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// `{}`.
    pub data: Empty,
    /// The name.
    pub filename: &'a str,
    /// Null.
    pub hash: Option<&'a str>,
    /// The upstream's id.
    pub id: &'a str,
    /// Absent for a guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a str>,
    /// Name, size and type.
    pub meta: FileMeta<'a>,
    /// Milliseconds since 1970; the page spells it so.
    pub update_at: i64,
    /// What only documents have.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentRecord<'a>>,
}

/// An empty object.
#[derive(Debug, Serialize)]
pub(crate) struct Empty {}

/// `meta` of a [`FileRecord`].
#[derive(Debug, Serialize)]
pub(crate) struct FileMeta<'a> {
    /// The name.
    pub name: &'a str,
    /// Bytes.
    pub size: u64,
    /// The media type.
    pub content_type: &'a str,
    /// For documents, which the upstream reads beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parse_meta: Option<ParseMeta<'a>>,
}

/// `parse_meta` of a [`FileMeta`].
#[derive(Debug, Serialize)]
pub(crate) struct ParseMeta<'a> {
    /// `success`.
    pub parse_status: &'a str,
}

/// What a browser knows of a file, for documents.
#[derive(Debug, Serialize)]
pub(crate) struct DocumentRecord<'a> {
    /// Milliseconds since 1970.
    #[serde(rename = "lastModified")]
    pub last_modified: i64,
    /// The name.
    pub name: &'a str,
    /// Empty.
    #[serde(rename = "webkitRelativePath")]
    pub webkit_relative_path: &'a str,
    /// Bytes.
    pub size: u64,
    /// The media type.
    #[serde(rename = "type")]
    pub kind: &'a str,
}

/// `feature_config` of a message.
#[derive(Debug, Serialize)]
pub(crate) struct FeatureConfig<'a> {
    /// Whether the model thinks.
    pub thinking_enabled: bool,
    /// `phase`: without it the deltas carry no phase.
    pub output_schema: &'static str,
    /// `normal`; `advance` for deep research at length.
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
    /// Tools of the caller: `{"LocalTools": {name: {"description", "input_schema"}}}`. An empty object would mean the
    /// account's own hosted tools, so it is absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_mcp: Option<&'a Value>,
}

/// `extra` of a message.
#[derive(Debug, Serialize)]
pub(crate) struct MessageExtra<'a> {
    /// See [`MessageMeta`].
    pub meta: MessageMeta<'a>,
}

/// `extra.meta` of a message.
#[derive(Debug, Serialize)]
pub(crate) struct MessageMeta<'a> {
    /// The chat type once more.
    #[serde(rename = "subChatType")]
    pub sub_chat_type: &'a str,
    /// The ratio once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<&'a str>,
}
