//! The product that a request asks a model for, by its path.

use crate::gateway::requests::AskedFor;

/// The product that a request asks a model for; `None` for one that asks none, such as a list of models or an estimate
/// of tokens.
#[must_use]
pub(crate) fn asked_for(method: &str, path: &str) -> Option<AskedFor> {
    if method != "POST" {
        return None;
    }
    match path {
        "/v1/chat/completions" | "/v1/completions" | "/v1/responses" | "/v1/messages" => Some(AskedFor::Answer),
        "/v1/images/generations" | "/v1/images/edits" => Some(AskedFor::Picture),
        "/v1/videos" => Some(AskedFor::Video),
        "/v1/embeddings" => Some(AskedFor::Embedding),
        _ => None,
    }
}
