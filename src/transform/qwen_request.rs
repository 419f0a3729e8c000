//! A checked job into the body that the web chat expects: one message, everything in it.

use crate::base::ids::UnixSeconds;
use crate::transform::job::{ChatJob, ThinkingWish};
use crate::wire::qwen::{ChatMessage, ChatPayload, FeatureConfig, MessageExtra, MessageMeta, NewChat};

/// The fresh ids of one message, drawn by whoever sends it.
#[derive(Debug)]
pub struct MessageIds {
    /// The message's own id.
    pub fid: String,
    /// The id of the answer to come.
    pub child: String,
}

/// The body of `POST /api/v2/chats/new`.
///
/// # Errors
/// Only when JSON cannot be written, which does not happen with these types.
pub fn encode_new_chat(job: &ChatJob, now: UnixSeconds) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&NewChat {
        chat_id: "",
        title: "New Chat",
        models: [&job.upstream_model],
        project_id: "",
        timestamp: now.0.saturating_mul(1000),
        chat_type: job.chat_type(),
        chat_mode: "normal",
    })
}

/// The body of `POST /api/v2/chat/completions`.
///
/// # Errors
/// As [`encode_new_chat`].
pub fn encode(job: &ChatJob, chat_id: &str, ids: &MessageIds, now: UnixSeconds) -> Result<Vec<u8>, serde_json::Error> {
    let model = job.upstream_model.as_str();
    let chat_type = job.chat_type();
    serde_json::to_vec(&ChatPayload {
        stream: true,
        version: "2.1",
        incremental_output: true,
        chat_id_camel: chat_id,
        chat_id,
        parent_id_camel: "",
        parent_id: None,
        chat_mode: "normal",
        model,
        messages: [ChatMessage {
            id: None,
            fid: &ids.fid,
            parent_id_camel: None,
            parent_id: None,
            children_ids: [&ids.child],
            role: "user",
            content: &job.prompt,
            user_action: "chat",
            files: [],
            timestamp: now.0,
            models: [model],
            model: "",
            chat_type,
            sub_chat_type: chat_type,
            feature_config: feature_config(job),
            extra: MessageExtra { meta: MessageMeta { sub_chat_type: chat_type } },
        }],
        timestamp: now.0,
    })
}

/// The three settings of the thinking switch as the site's own page sends them.
fn feature_config(job: &ChatJob) -> FeatureConfig {
    let (thinking_enabled, auto_thinking, thinking_mode) = match job.thinking {
        ThinkingWish::Off => (false, false, "Fast"),
        ThinkingWish::On => (true, true, "Thinking"),
        ThinkingWish::Auto => (true, true, "Auto"),
    };
    FeatureConfig {
        thinking_enabled,
        output_schema: "phase",
        research_mode: "normal",
        auto_thinking,
        thinking_mode,
        thinking_format: thinking_enabled.then_some("summary"),
        thinking_budget: job.thinking_budget.filter(|_| thinking_enabled),
        auto_search: job.search,
    }
}
