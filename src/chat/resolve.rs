//! A request and the catalogue of models make a job.

use crate::chat::aspect::Aspect;
use crate::chat::error::{RequestError, RequestErrorKind};
use crate::chat::job::{ChatJob, ChatRequest, Making, ReasoningFormat, ThinkingWish, Wishes};
use crate::chat::model_map::ModelMap;
use crate::chat::models::ModelInfo;
use crate::chat::suffix::ModelSpec;

/// What holds for every request.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// For requests that name no model.
    pub default_model: &'a str,
    /// Other names for models.
    pub model_map: &'a ModelMap,
    /// Where thoughts go when the caller does not say.
    pub reasoning_format: ReasoningFormat,
    /// The model that answers when the one that was asked for cannot take the files; empty for none.
    pub vision_fallback: &'a str,
    /// The catalogue.
    pub models: &'a [ModelInfo],
    /// Whether the catalogue is the upstream's own, so that a name which it lacks is wrong; without it an unknown
    /// name is passed on.
    pub is_live: bool,
}

impl<'a> Rules<'a> {
    /// What the catalogue says about a model.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&'a ModelInfo> {
        self.models.iter().find(|model| model.id == id)
    }

    /// The parts of a model's name, by the map of names and the catalogue.
    ///
    /// # Errors
    /// [`RequestErrorKind::ModelNotFound`].
    pub fn model(&self, name: &str) -> Result<ModelSpec, RequestError> {
        let target = self.model_map.apply(name.trim());
        let spec = ModelSpec::parse(target, |id| self.find(id).is_some());
        if !spec.is_known && self.is_live {
            let cut = |name: &str| name.chars().take(100).collect::<String>();
            let mapped = if target == name.trim() {
                String::new()
            } else {
                format!(", to which MODEL_MAP leads '{}',", cut(name))
            };
            let message = format!(
                "The model '{}'{mapped} does not exist upstream. GET /v1/models lists the names that can be used.",
                cut(target)
            );
            return Err(RequestError::new(RequestErrorKind::ModelNotFound, "model", message));
        }
        Ok(spec)
    }
}

impl ChatRequest {
    /// Joins the request with what the catalogue says about its model's name.
    ///
    /// # Errors
    /// [`RequestErrorKind::ModelNotFound`].
    pub fn resolve(self, rules: &Rules<'_>) -> Result<ChatJob, RequestError> {
        let model = self.model.unwrap_or_else(|| rules.default_model.to_owned());
        let spec = rules.model(&model)?;
        let mut ignored = self.ignored;
        let mut wishes = self.wishes;
        let making = match spec.product {
            None => {
                ignored.extend(self.size.map(|_| "size"));
                wishes.thinking = wishes.thinking.or(spec.thinking.then_some((ThinkingWish::On, "model")));
                wishes.search = wishes.search.or(Some(spec.search));
                wishes.reasoning_format = wishes.reasoning_format.or(Some(rules.reasoning_format));
                Making::Text
            }
            Some(product) => {
                // Wishes about a text have no effect on a picture.
                ignored.extend(wishes.sampling_names());
                ignored.extend(wishes.thinking.map(|(_, field)| field));
                ignored.extend((!wishes.stop.is_empty()).then_some("stop"));
                ignored.extend(wishes.tokens_max.map(|_| "max_tokens"));
                wishes = Wishes { reasoning_format: Some(ReasoningFormat::Hidden), ..Wishes::default() };
                Making::Media(product, self.size.as_deref().map_or_else(Aspect::default, Aspect::of_size))
            }
        };
        Ok(ChatJob { model, upstream_model: spec.base, making, question: self.question, wishes, ignored })
    }

    /// The job for an upstream without a catalogue of suffixes: the name is the upstream's own, and what is asked
    /// of the answer is the upstream's business.
    #[must_use]
    pub fn relayed(self, upstream_model: String) -> ChatJob {
        let model = self.model.unwrap_or_else(|| upstream_model.clone());
        let Self { question, wishes, ignored, .. } = self;
        ChatJob { model, upstream_model, making: Making::Text, question, wishes, ignored }
    }
}
