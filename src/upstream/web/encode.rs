//! Encodes a checked job as the body that the web chat expects: one message, everything in it.

use crate::base::ids::UnixSeconds;
use crate::chat::aspect::Aspect;
use crate::chat::job::ThinkingWish;
use crate::files::attachment::{RemoteFile, UploadedFile};
use crate::files::media_type::MediaKind;
use crate::upstream::web::request::{Task, WebRequest};
use crate::upstream::web::wire::{
    ChatMessage, ChatPayload, DocumentRecord, Empty, FeatureConfig, FileEntry, FileMeta, FileRecord, FileUpload,
    MessageExtra, MessageMeta, NewChat, ParseMeta,
};

/// Fresh ids for one message. The caller draws them, so that encoding stays pure.
#[derive(Debug)]
pub(crate) struct MessageIds {
    /// Id of the message (UUID), `fid` in the body.
    pub fid: String,
    /// Id of the answer to come (UUID), in `childrenIds`.
    pub child: String,
    /// For each file its `itemId` and `uploadTaskId` (UUIDs).
    pub files: Vec<[String; 2]>,
}

/// A file that the account of the request can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileRef {
    /// A file that this account uploaded.
    Uploaded(UploadedFile),
    /// A link that the upstream gave out.
    Link(RemoteFile),
}

/// The chat of a message and its position there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChatPlace<'a> {
    /// Id of the chat.
    pub chat_id: &'a str,
    /// The answer that the message follows, by its `response_id`; `None` for the first message of a chat.
    pub parent_id: Option<&'a str>,
}

/// The body of `POST /api/v2/chats/new`, for a chat of this type with a model.
///
/// # Errors
/// Only when JSON cannot be written, which does not happen with these types.
pub(crate) fn encode_new_chat(
    model: &str,
    chat_type: &str,
    title: &str,
    now: UnixSeconds,
) -> Result<Vec<u8>, serde_json::Error> {
    let timestamp = now.0.saturating_mul(1000);
    let models = [model];
    serde_json::to_vec(&NewChat {
        chat_id: "",
        title,
        models,
        project_id: "",
        timestamp,
        chat_type,
        chat_mode: "normal",
    })
}

/// The body of `POST /api/v2/chat/completions`.
///
/// # Errors
/// As [`encode_new_chat`].
pub(crate) fn encode(
    job: &WebRequest,
    files: &[FileRef],
    place: ChatPlace<'_>,
    ids: &MessageIds,
    now: UnixSeconds,
) -> Result<Vec<u8>, serde_json::Error> {
    let ChatPlace { chat_id, parent_id } = place;
    let model = job.upstream_model.as_str();
    let chat_type = job.chat_type();
    let size = job.aspect().map(Aspect::as_str);
    let millis = now.0.saturating_mul(1000);
    let entries = files.iter().zip(&ids.files).map(|(file, [item, task])| match file {
        FileRef::Uploaded(file) => uploaded_entry(file, item, task, millis),
        FileRef::Link(link) => entry(link.kind, &link.label, "image/png", &link.url),
    });
    serde_json::to_vec(&ChatPayload {
        stream: !matches!(job.task, Task::Video(_)),
        version: "2.1",
        incremental_output: true,
        chat_id_camel: chat_id,
        chat_id,
        parent_id_camel: parent_id.unwrap_or_default(),
        parent_id,
        chat_mode: "normal",
        model,
        messages: [ChatMessage {
            id: None,
            fid: &ids.fid,
            parent_id_camel: parent_id,
            parent_id,
            children_ids: [&ids.child],
            role: "user",
            content: &job.prompt,
            user_action: "chat",
            files: entries.collect(),
            timestamp: now.0,
            models: [model],
            model: "",
            chat_type,
            sub_chat_type: chat_type,
            feature_config: feature_config(job),
            extra: MessageExtra { meta: MessageMeta { sub_chat_type: chat_type, size } },
        }],
        timestamp: now.0,
        size,
    })
}

/// An entry of `files` with the fields that links and uploads share.
fn entry<'a>(kind: MediaKind, name: &'a str, file_type: &'a str, url: &'a str) -> FileEntry<'a> {
    let (kind, file_class) = match kind {
        MediaKind::Image => ("image", "vision"),
        MediaKind::Video => ("video", "video"),
        MediaKind::Audio => ("audio", "audio"),
        MediaKind::Document => ("file", "document"),
    };
    FileEntry { kind, name, file_type, show_type: kind, file_class, status: "uploaded", url, upload: None }
}

fn uploaded_entry<'a>(file: &'a UploadedFile, item_id: &'a str, task_id: &'a str, millis: i64) -> FileEntry<'a> {
    let (name, size, content_type) = (file.name.as_str(), file.size, file.content_type.as_str());
    let is_document = file.kind == MediaKind::Document;
    let document = DocumentRecord { last_modified: millis, name, webkit_relative_path: "", size, kind: content_type };
    let record = FileRecord {
        created_at: millis,
        data: Empty {},
        filename: name,
        hash: None,
        id: &file.file_id,
        user_id: file.user_id.as_deref(),
        meta: FileMeta {
            name,
            size,
            content_type,
            parse_meta: is_document.then_some(ParseMeta { parse_status: "success" }),
        },
        update_at: millis,
        document: is_document.then_some(document),
    };
    let upload = FileUpload {
        file: record,
        id: &file.file_id,
        collection_name: "",
        progress: 0,
        green_net: "success",
        size,
        error: "",
        item_id,
        upload_task_id: task_id,
    };
    FileEntry { upload: Some(upload), ..entry(file.kind, name, content_type, &file.url) }
}

/// The `feature_config` of a job; the three settings of the thinking switch as the site's own page sends them.
fn feature_config(job: &WebRequest) -> FeatureConfig<'_> {
    let (thinking_enabled, auto_thinking, thinking_mode) = match job.thinking {
        ThinkingWish::Off => (false, false, "Fast"),
        ThinkingWish::On => (true, true, "Thinking"),
        ThinkingWish::Auto => (true, true, "Auto"),
    };
    FeatureConfig {
        thinking_enabled,
        output_schema: "phase",
        research_mode: if job.is_advanced { "advance" } else { "normal" },
        auto_thinking,
        thinking_mode,
        thinking_format: thinking_enabled.then_some("summary"),
        thinking_budget: job.thinking_budget.filter(|_| thinking_enabled),
        auto_search: job.search,
        local_mcp: job.declared.as_ref(),
    }
}
