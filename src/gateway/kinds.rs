//! Which kind of upstream a request goes to, by the name of its model.

use crate::base::model::{ModelSpec, WEB_PREFIX};
use crate::gateway::models::Models;
use crate::gateway::relay::RelayGateway;

/// The prefix that asks for a static key.
pub const KEY_PREFIX: &str = "key/";
/// What is asked for where nothing is, if the endpoint has it.
const KEY_DEFAULT: &str = "qwen3-coder-plus";

/// The kinds that are configured.
#[derive(Clone)]
pub struct Kinds {
    web: Models,
    /// Whether the web chat has accounts, or callers bring their own.
    has_web: bool,
    keys: RelayGateway,
}

/// Where a request goes.
pub enum Route {
    /// To the web chat; whether it has the model shows there.
    Web,
    /// To an upstream that speaks OpenAI's dialect, under this name of the model.
    Relay(RelayGateway, String),
    /// The name asks for a kind that is not configured, or that does not have the model.
    Nobody,
}

impl Kinds {
    /// The kinds behind these handles.
    #[must_use]
    pub fn new(web: Models, has_web: bool, keys: RelayGateway) -> Self {
        Self { web, has_web, keys }
    }

    /// The endpoints of static keys.
    #[must_use]
    pub fn keys(&self) -> &RelayGateway {
        &self.keys
    }

    /// Chooses by prefix, else the kind whose catalogue has the model, else the web chat.
    pub async fn choose(&self, model: Option<&str>) -> Route {
        let relayed = |name: String| Route::Relay(self.keys.clone(), name);
        let Some(name) = model.map(str::trim) else {
            if self.has_web || self.keys.is_empty() {
                return Route::Web;
            }
            let models = self.keys.models().await;
            let default = models.names.iter().find(|name| *name == KEY_DEFAULT).or(models.names.first());
            return default.cloned().map_or(Route::Nobody, relayed);
        };
        if let Some(name) = name.strip_prefix(KEY_PREFIX) {
            // A name that the list lacks may still be served: lists are incomplete.
            return if self.keys.is_empty() || name.is_empty() { Route::Nobody } else { relayed(name.to_owned()) };
        }
        if self.keys.is_empty() || name.starts_with(WEB_PREFIX) {
            return Route::Web;
        }
        if self.has_web {
            let catalogue = self.web.current().await;
            if ModelSpec::parse(name, |id| catalogue.find(id).is_some()).is_known {
                return Route::Web;
            }
        }
        let models = self.keys.models().await;
        match models.names.iter().any(|known| known == name) {
            true => relayed(name.to_owned()),
            false if self.has_web => Route::Web,
            false => Route::Nobody,
        }
    }

    /// The names of the models of other kinds than the web chat: with their prefix, and without it where the web
    /// chat has none of that name.
    pub async fn other_names(&self) -> Vec<String> {
        if self.keys.is_empty() {
            return Vec::new();
        }
        let catalogue = self.web.current().await;
        let models = self.keys.models().await;
        let bare = models.names.iter().filter(|name| !self.has_web || catalogue.find(name).is_none());
        bare.cloned().chain(models.names.iter().map(|name| format!("{KEY_PREFIX}{name}"))).collect()
    }
}
