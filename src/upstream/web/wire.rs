//! The JSON bodies that the web API of chat.qwen.ai takes, late 2026. Names are the upstream's.

use serde::Serialize;
use serde_json::Value;

/// Body of `POST /api/v2/chats/new`.
#[derive(Debug, Serialize)]
pub(crate) struct NewChat<'a> {
    /// Always empty: the upstream chooses the id of a new chat.
    #[serde(rename = "chatId")]
    pub chat_id: &'a str,
    /// Title of the chat; the upstream replaces it after the first answer.
    pub title: &'a str,
    /// The model of the chat; always one.
    pub models: [&'a str; 1],
    /// Always empty: the chat belongs to no project.
    pub project_id: &'a str,
    /// Creation, in Unix milliseconds.
    pub timestamp: i64,
    /// The same word as in the message that follows.
    pub chat_type: &'a str,
    /// Always `normal`, as the site sends it.
    pub chat_mode: &'a str,
}

/// Body of `POST /api/v2/chat/completions`: exactly one message.
#[derive(Debug, Serialize)]
pub(crate) struct ChatPayload<'a> {
    /// `true` for every chat type but `t2v` and `i2v`.
    pub stream: bool,
    /// Always `2.1`, as the site sends it.
    pub version: &'a str,
    /// Always `true`: deltas bring new text only.
    pub incremental_output: bool,
    /// Id of the chat, as newer frontends spell the key.
    #[serde(rename = "chatId")]
    pub chat_id_camel: &'a str,
    /// Id of the chat; the upstream refuses a body without it.
    pub chat_id: &'a str,
    /// As `parent_id`, with empty in place of `null`.
    #[serde(rename = "parentId")]
    pub parent_id_camel: &'a str,
    /// `response_id` of the answer that the message follows; `null` in a first turn.
    pub parent_id: Option<&'a str>,
    /// Always `normal`, as the site sends it.
    pub chat_mode: &'a str,
    /// The upstream's model id.
    pub model: &'a str,
    /// The message; always one.
    pub messages: [ChatMessage<'a>; 1],
    /// Time of sending, in Unix seconds.
    pub timestamp: i64,
    /// Ratio of a picture or video, such as `16:9`; absent for text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<&'a str>,
}

/// The one message of a [`ChatPayload`].
#[derive(Debug, Serialize)]
pub(crate) struct ChatMessage<'a> {
    /// Always `null`: the upstream gives the message its own id.
    pub id: Option<&'a str>,
    /// A fresh UUID for the message.
    pub fid: &'a str,
    /// As in the payload, with `null` in a first turn.
    #[serde(rename = "parentId")]
    pub parent_id_camel: Option<&'a str>,
    /// As in the payload, with `null` in a first turn.
    pub parent_id: Option<&'a str>,
    /// A fresh UUID for the answer to come.
    #[serde(rename = "childrenIds")]
    pub children_ids: [&'a str; 1],
    /// Always `user`: the upstream does not honour a system role.
    pub role: &'a str,
    /// The prompt, which holds the whole conversation or its newest part.
    pub content: &'a str,
    /// Always `chat`, as the site sends it.
    pub user_action: &'a str,
    /// The files that go with the message, in order.
    pub files: Vec<FileEntry<'a>>,
    /// Time of sending, in Unix seconds.
    pub timestamp: i64,
    /// The model of the chat; always one.
    pub models: [&'a str; 1],
    /// Always empty, as the site sends it.
    pub model: &'a str,
    /// `t2t`, `search`, `deep_research`, `artifacts`, `web_dev`, `learn`, `t2i`, `image_edit`, `t2v` or `i2v`.
    pub chat_type: &'a str,
    /// The chat type once more.
    pub sub_chat_type: &'a str,
    /// Thinking, search and declared tools.
    pub feature_config: FeatureConfig<'a>,
    /// The chat type and the ratio once more.
    pub extra: MessageExtra<'a>,
}

/// An entry of `files`: a file that this account uploaded, or, without `upload`, a link that the upstream gave out.
#[derive(Debug, Serialize)]
pub(crate) struct FileEntry<'a> {
    /// `image`, `video`, `audio` or `file`.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Name of the file, as the caller or this server named it.
    pub name: &'a str,
    /// Media type of the file, such as `image/png`.
    pub file_type: &'a str,
    /// The same word as `type`.
    #[serde(rename = "showType")]
    pub show_type: &'a str,
    /// `vision`, `video`, `audio` or `document`.
    pub file_class: &'a str,
    /// Always `uploaded`, as the site sends it.
    pub status: &'a str,
    /// The upstream's link to the file, query included.
    pub url: &'a str,
    /// Further fields of uploaded files; absent for links.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub upload: Option<FileUpload<'a>>,
}

/// The fields of a [`FileEntry`] that only uploads have.
#[derive(Debug, Serialize)]
pub(crate) struct FileUpload<'a> {
    /// The file once more, in the site's own record.
    pub file: FileRecord<'a>,
    /// The upstream's id of the file, from its STS credential.
    pub id: &'a str,
    /// Always empty, as the site sends it.
    pub collection_name: &'a str,
    /// Always 0, even for a finished upload.
    pub progress: u8,
    /// Always `success`, as the site sends it.
    #[serde(rename = "greenNet")]
    pub green_net: &'a str,
    /// Size of the file in bytes.
    pub size: u64,
    /// Always empty: the upload succeeded.
    pub error: &'a str,
    /// A fresh UUID for the entry.
    #[serde(rename = "itemId")]
    pub item_id: &'a str,
    /// A fresh UUID for the upload.
    #[serde(rename = "uploadTaskId")]
    pub upload_task_id: &'a str,
}

/// `file` of a [`FileUpload`].
#[derive(Debug, Serialize)]
pub(crate) struct FileRecord<'a> {
    /// Time of sending, in Unix milliseconds.
    pub created_at: i64,
    /// Always `{}`, as the site sends it.
    pub data: Empty,
    /// Name of the file, as in the entry.
    pub filename: &'a str,
    /// Always `null`, as the site sends it.
    pub hash: Option<&'a str>,
    /// The upstream's id of the file.
    pub id: &'a str,
    /// The upstream's id of the account; absent for a guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a str>,
    /// Name, size and media type once more.
    pub meta: FileMeta<'a>,
    /// Time of sending, in Unix milliseconds; the site spells the key this way.
    pub update_at: i64,
    /// Further fields of documents; absent for other files.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentRecord<'a>>,
}

/// The JSON object `{}`.
#[derive(Debug, Serialize)]
pub(crate) struct Empty {}

/// `meta` of a [`FileRecord`].
#[derive(Debug, Serialize)]
pub(crate) struct FileMeta<'a> {
    /// Name of the file, as in the entry.
    pub name: &'a str,
    /// Size of the file in bytes.
    pub size: u64,
    /// Media type of the file.
    pub content_type: &'a str,
    /// State of the parser; absent for files other than documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parse_meta: Option<ParseMeta<'a>>,
}

/// `parse_meta` of a [`FileMeta`].
#[derive(Debug, Serialize)]
pub(crate) struct ParseMeta<'a> {
    /// Always `success`: the parser has finished before the message is sent.
    pub parse_status: &'a str,
}

/// The fields of a browser's `File` object, for documents.
#[derive(Debug, Serialize)]
pub(crate) struct DocumentRecord<'a> {
    /// Time of sending, in Unix milliseconds.
    #[serde(rename = "lastModified")]
    pub last_modified: i64,
    /// Name of the file, as in the entry.
    pub name: &'a str,
    /// Always empty: the file comes from no folder.
    #[serde(rename = "webkitRelativePath")]
    pub webkit_relative_path: &'a str,
    /// Size of the file in bytes.
    pub size: u64,
    /// Media type of the file.
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
    /// Whether the model may skip thinking; always as `thinking_enabled`.
    pub auto_thinking: bool,
    /// `Thinking`, `Auto` or `Fast`.
    pub thinking_mode: &'static str,
    /// Always `summary`; absent when thinking is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_format: Option<&'static str>,
    /// Most tokens for thinking; absent for the upstream's default or when thinking is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<u32>,
    /// Whether the model may search by itself.
    pub auto_search: bool,
    /// Tools of the caller: `{"LocalTools": {name: {"description", "input_schema"}}}`. Absent without tools: an empty
    /// object would mean the account's own hosted tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_mcp: Option<&'a Value>,
}

/// `extra` of a message.
#[derive(Debug, Serialize)]
pub(crate) struct MessageExtra<'a> {
    /// The chat type and the ratio once more.
    pub meta: MessageMeta<'a>,
}

/// `extra.meta` of a message.
#[derive(Debug, Serialize)]
pub(crate) struct MessageMeta<'a> {
    /// The chat type once more.
    #[serde(rename = "subChatType")]
    pub sub_chat_type: &'a str,
    /// Ratio of a picture or video; absent for text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<&'a str>,
}
