//! What handlers share: handles, nothing that owns a task.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::gateway::chat::ChatGateway;
use crate::gateway::models::Models;
use crate::gateway::refresher::Refresher;
use crate::http::settings::HttpSettings;
use crate::pool::IdentityPool;

/// Handles for the handlers. Clones share everything.
#[derive(Clone)]
pub struct AppState(pub(crate) Arc<Parts>);

/// What an [`AppState`] is made of.
pub struct Parts {
    /// Answers chats.
    pub chats: ChatGateway,
    /// Lists models.
    pub models: Models,
    /// For the status page and `/health`: looked at, never leased from here.
    pub pool: IdentityPool,
    /// For `POST /refresh-token`.
    pub refresher: Refresher,
    /// How this side of HTTP behaves.
    pub settings: HttpSettings,
    /// `DEFAULT_MODEL`.
    pub default_model: String,
    /// `AUTO_REFRESH_TOKEN`, shown by `/health`.
    pub auto_refresh: bool,
    /// Cancelled when streams that are still open have to end.
    pub ending: CancellationToken,
}

impl AppState {
    /// State over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}
