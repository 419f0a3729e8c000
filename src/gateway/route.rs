//! Chooses the kind of upstream of a request, by the name of its model.

use crate::chat::models::nearest;
use crate::chat::suffix::{ModelSpec, WEB_PREFIX};
use crate::gateway::answer::relay::RelayGateway;
use crate::gateway::answer::settings::AnswerSettings;
use crate::gateway::catalogue::Models;
use crate::pool::IdentityPool;

/// The prefix that asks for an OAuth account.
pub(crate) const OAUTH_PREFIX: &str = "oauth/";
/// The prefix that asks for a static key.
pub(crate) const KEY_PREFIX: &str = "key/";
/// The model of a request that names none, where the owner set no `DEFAULT_MODEL` and the web chat has no accounts, if
/// the upstream has it.
const DEFAULT_MODEL: &str = "qwen3-coder-plus";

/// A model's name without the prefix that asks for a kind of upstream.
#[must_use]
pub(crate) fn without_kind(name: &str) -> &str {
    let bare = [WEB_PREFIX, OAUTH_PREFIX, KEY_PREFIX].into_iter().find_map(|prefix| name.strip_prefix(prefix));
    bare.unwrap_or(name)
}

/// The kinds that are configured.
#[derive(Clone)]
pub(crate) struct Upstreams {
    web: Models,
    /// The accounts of the web chat, which come and go; `None` when callers bring their own.
    web_pool: Option<IdentityPool>,
    oauth: RelayGateway,
    keys: RelayGateway,
}

/// The model's name asks for a kind of upstream that is not configured, or that does not have the model.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no upstream has the model {name:?}")]
pub struct NoUpstream {
    /// The name as the caller wrote it, empty if the request has none and no upstream lists a model.
    pub name: String,
    /// The listed name that is most like it.
    nearest: Option<String>,
}

impl NoUpstream {
    /// Advice as a sentence; empty if there is none.
    #[must_use]
    pub fn hint(&self) -> String {
        if self.name.starts_with(OAUTH_PREFIX) {
            return "No OAuth account is configured here.".to_owned();
        }
        if self.name.starts_with(KEY_PREFIX) {
            return "No upstream is configured in QWEN_API_KEYS here, or the name lacks its second half.".to_owned();
        }
        self.nearest.as_ref().map(|name| format!("Did you mean '{name}'?")).unwrap_or_default()
    }
}

/// The upstream of a request.
#[derive(Clone)]
pub(crate) enum Route {
    /// To the web chat; whether it has the model shows there.
    Web,
    /// To an upstream that speaks OpenAI's dialect, under this name of the model.
    Relay(RelayGateway, String),
}

impl Upstreams {
    /// The kinds behind these handles. Without web accounts, callers who bring none are not sent there.
    #[must_use]
    pub(crate) fn new(web: Models, web_pool: Option<IdentityPool>, oauth: RelayGateway, keys: RelayGateway) -> Self {
        Self { web, web_pool, oauth, keys }
    }

    /// Whether the web chat has accounts, or callers bring their own.
    #[must_use]
    pub(crate) fn has_web(&self) -> bool {
        self.web_pool.as_ref().is_none_or(|pool| !pool.is_empty())
    }

    /// The endpoints of static keys.
    #[must_use]
    pub(crate) fn keys(&self) -> &RelayGateway {
        &self.keys
    }

    /// The portal of OAuth accounts.
    #[must_use]
    pub(crate) fn oauth(&self) -> &RelayGateway {
        &self.oauth
    }

    /// The kinds that relay, each with its prefix, in the order in which they are chosen.
    fn relays(&self) -> impl Iterator<Item = (&'static str, &RelayGateway)> {
        let all = [(OAUTH_PREFIX, &self.oauth), (KEY_PREFIX, &self.keys)];
        all.into_iter().filter(|(_, gateway)| !gateway.is_empty())
    }

    /// Chooses by what the map of names makes of `model`, or of the owner's default model: by prefix, else the kind whose
    /// catalogue has the model, else the web chat.
    ///
    /// # Errors
    /// [`NoUpstream`].
    pub(crate) async fn choose(&self, settings: &AnswerSettings, model: Option<&str>) -> Result<Route, NoUpstream> {
        // Accounts may come and go; without any, the web chat is the kind that errors speak of.
        let has_web = self.lists_web();
        let Some(name) = model.map(str::trim).or(settings.chosen_model()) else {
            return if has_web { Ok(Route::Web) } else { self.default_route().await };
        };
        let missing = || NoUpstream { name: name.to_owned(), nearest: None };
        let name = settings.model_map.apply(name);
        for prefix in [OAUTH_PREFIX, KEY_PREFIX] {
            let Some(name) = name.strip_prefix(prefix) else { continue };
            let gateway = self.relays().find(|(its, _)| *its == prefix).filter(|_| !name.is_empty());
            // A name that the list lacks may still be served: lists are incomplete.
            let (_, gateway) = gateway.ok_or_else(missing)?;
            return Ok(Route::Relay(gateway.clone(), name.to_owned()));
        }
        if name.starts_with(WEB_PREFIX) {
            return Ok(Route::Web);
        }
        if let Some(route) = self.listing(name, has_web).await {
            return Ok(route);
        }
        if has_web {
            return Ok(Route::Web);
        }
        if self.keys.has_unread_list() {
            // The endpoint whose list could not be read may have it, and says so itself if not.
            return Ok(Route::Relay(self.keys.clone(), name.to_owned()));
        }
        let names = self.other_names().await;
        let nearest = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
        Err(NoUpstream { nearest, ..missing() })
    }

    /// The kind whose list has the model: by its exact name, else in any case of its letters.
    async fn listing(&self, name: &str, has_web: bool) -> Option<Route> {
        // The list is not asked for where nothing could come of it.
        let catalogue = if has_web { Some(self.web.current().await) } else { None };
        let is_exact = |id: &str| catalogue.as_ref().is_some_and(|catalogue| catalogue.find(id).is_some());
        if ModelSpec::parse(name, is_exact).is_known {
            return Some(Route::Web);
        }
        let mut alike = None;
        for (_, gateway) in self.relays() {
            let models = gateway.models().await;
            if models.iter().any(|known| known == name) {
                return Some(Route::Relay(gateway.clone(), name.to_owned()));
            }
            let mut fitting = models.iter().filter(|known| known.eq_ignore_ascii_case(name));
            if let (None, Some(only), None) = (&alike, fitting.next(), fitting.next()) {
                alike = Some(Route::Relay(gateway.clone(), only.clone()));
            }
        }
        let ids = catalogue.iter().flat_map(|catalogue| catalogue.models.iter().map(|model| model.id.as_str()));
        if ModelSpec::parse_among(name, ids).is_known { Some(Route::Web) } else { alike }
    }

    /// Whether no upstream has a model of this name, which is none of `MODEL_MAP`. `None` while the web chat's list has
    /// not come. A name with the prefix of another kind is not looked for where there is such a kind: the lists of those are
    /// incomplete.
    pub(crate) async fn lacks(&self, name: &str) -> Option<bool> {
        let name = name.trim();
        if let Some(prefix) = [OAUTH_PREFIX, KEY_PREFIX].into_iter().find(|prefix| name.starts_with(prefix)) {
            return Some(self.relays().all(|(kind, _)| kind != prefix));
        }
        let catalogue = self.web.current().await;
        if self.has_web() && !catalogue.is_live {
            return None;
        }
        Some(self.listing(name, self.has_web()).await.is_none())
    }

    /// The upstream of a request without a model, if the web chat has no accounts.
    async fn default_route(&self) -> Result<Route, NoUpstream> {
        for (_, gateway) in self.relays() {
            let models = gateway.models().await;
            let default = models.iter().find(|name| *name == DEFAULT_MODEL).or(models.first());
            if let Some(default) = default {
                return Ok(Route::Relay(gateway.clone(), default.clone()));
            }
        }
        Err(NoUpstream { name: String::new(), nearest: None })
    }

    /// Whether the web chat's models can be asked for. Without web accounts they cannot, unless there is no other kind.
    #[must_use]
    pub(crate) fn lists_web(&self) -> bool {
        self.has_web() || self.relays().next().is_none()
    }

    /// The names of the models of other kinds than the web chat: with their prefix, and without it where no kind
    /// before has one of that name.
    pub(crate) async fn other_names(&self) -> Vec<String> {
        let catalogue = self.web.current().await;
        let mut names: Vec<String> = Vec::new();
        for (prefix, gateway) in self.relays() {
            let models = gateway.models().await;
            for name in &*models {
                if !names.contains(name) && (!self.has_web() || catalogue.find(name).is_none()) {
                    names.push(name.clone());
                }
            }
            names.extend(models.iter().map(|name| format!("{prefix}{name}")));
        }
        names
    }
}
