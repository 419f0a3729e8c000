//! The settings of answers, which may change while the server runs.

use crate::chat::job::ReasoningFormat;
use crate::chat::model_map::ModelMap;
use crate::chat::models::ModelInfo;
use crate::chat::resolve::Rules;
use crate::gateway::catalogue::Catalogue;
use crate::upstream::web::request::tools::WebTools;

/// Settings of every answer. A request takes them at its beginning and keeps them.
#[derive(Clone, Debug)]
pub(crate) struct AnswerSettings {
    /// `DEFAULT_MODEL`, `qwen3-max`: for requests that name none.
    pub default_model: String,
    /// Whether the owner set `DEFAULT_MODEL`. If so it chooses the kind of upstream too.
    pub default_model_is_set: bool,
    /// `MAX_RETRIES`, 2: further identities that one request may try.
    pub retries_max: u32,
    /// `MODEL_MAP`: other names for models.
    pub model_map: ModelMap,
    /// `REASONING_FORMAT`, `parsed`: where thoughts go when the caller does not say.
    pub reasoning_format: ReasoningFormat,
    /// `VISION_FALLBACK_MODEL`: the model that answers when the one that was asked for cannot take the files; empty
    /// for none.
    pub vision_fallback: String,
    /// `WEB_TOOLS`, `prompt`: how tools are offered to the web chat.
    pub web_tools: WebTools,
}

impl AnswerSettings {
    /// The model of requests that name none, if it chooses the kind of upstream too.
    #[must_use]
    pub(crate) fn chosen_model(&self) -> Option<&str> {
        self.default_model_is_set.then_some(self.default_model.as_str())
    }

    /// The rules by which names of models are resolved against this catalogue.
    pub(crate) fn rules<'a>(&'a self, catalogue: &'a Catalogue) -> Rules<'a> {
        let models: &[ModelInfo] = &catalogue.models;
        Rules {
            default_model: &self.default_model,
            model_map: &self.model_map,
            reasoning_format: self.reasoning_format,
            vision_fallback: &self.vision_fallback,
            models,
            is_live: catalogue.is_live,
        }
    }
}
