//! A request and the catalogue of models make a job.

use crate::chat::aspect::Aspect;
use crate::chat::error::{RequestError, RequestErrorKind};
use crate::chat::job::{ChatJob, ChatRequest, Making, ReasoningFormat, ThinkingWish, Wishes};
use crate::chat::model_map::ModelMap;
use crate::chat::models::{ModelInfo, nearest, with_variants};
use crate::chat::suffix::{ModelSpec, Product, SUFFIXES, SuffixEffect, UNLISTED, Work};

/// The rules by which every request is resolved.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// For requests that name no model.
    pub default_model: &'a str,
    /// Other names for models.
    pub model_map: &'a ModelMap,
    /// Where thoughts go if the caller does not say.
    pub reasoning_format: ReasoningFormat,
    /// The model that answers when the one that was asked for cannot take the files; empty for none.
    pub vision_fallback: &'a str,
    /// The models of the upstream, from its catalogue or the list built in.
    pub models: &'a [ModelInfo],
    /// Whether the catalogue is the upstream's own, so that a name which it lacks is wrong; without it an unknown
    /// name is passed on.
    pub is_live: bool,
}

impl<'a> Rules<'a> {
    /// The catalogue's entry of a model.
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
        let spec = ModelSpec::parse_among(target, self.models.iter().map(|model| model.id.as_str()));
        if !spec.is_known && self.is_live {
            let cut = |name: &str| name.chars().take(100).collect::<String>();
            let mapped = if target == name.trim() {
                String::new()
            } else {
                format!(", to which MODEL_MAP leads '{}',", cut(name))
            };
            let variants = with_variants(self.models);
            let near = nearest(target, variants.iter().map(|(name, _)| name.as_str()));
            // A name that is like none of ours is most often another maker's.
            let foreign = if near.is_none() && mapped.is_empty() {
                let (name, ours) = (cut(target), self.default_model);
                format!(
                    " For programs that insist on the name, the owner of this server can set MODEL_MAP={name}={ours}."
                )
            } else {
                String::new()
            };
            let hint = did_you_mean(near);
            let message = format!("The model '{}'{mapped} does not exist upstream. {hint}{foreign}", cut(target));
            return Err(RequestError::new(RequestErrorKind::ModelNotFound, "model", message));
        }
        Ok(spec)
    }

    /// Refuses a model that cannot make this, as far as the upstream's own list tells.
    ///
    /// # Errors
    /// [`RequestErrorKind::ModelNotFound`], with the nearest name that can.
    pub fn can_make(&self, spec: &ModelSpec, product: Product) -> Result<(), RequestError> {
        if !self.is_live || self.find(&spec.base).is_none_or(|model| model.may_make(product)) {
            return Ok(());
        }
        let what = format!("makes no {}", product.plural());
        Err(self.unable(spec, &what, SuffixEffect::Make(product), |model| model.makes.has(product)))
    }

    /// Refuses a model that cannot write this, as far as the upstream's own list tells.
    ///
    /// # Errors
    /// [`RequestErrorKind::ModelNotFound`], with the nearest name that can.
    fn can_write(&self, spec: &ModelSpec, work: Work) -> Result<(), RequestError> {
        if !self.is_live || self.find(&spec.base).is_none_or(|model| model.may_write(work)) {
            return Ok(());
        }
        let what = format!("offers no {}", work.plural());
        Err(self.unable(spec, &what, SuffixEffect::Write(work), |model| model.writes.contains(&work)))
    }

    /// The error for a model that cannot do what a suffix asks for.
    fn unable(
        &self,
        spec: &ModelSpec,
        what: &str,
        effect: SuffixEffect,
        is_able: impl Fn(&ModelInfo) -> bool,
    ) -> RequestError {
        let able = self.models.iter().filter(|model| is_able(model)).map(|model| model.id.as_str());
        let able: Vec<&str> = able.collect();
        let nearest = nearest(&spec.base, able.iter().copied()).or(able.first().copied());
        let suffix = SUFFIXES.iter().chain(UNLISTED).find(|(_, other)| *other == effect);
        let name = nearest.map(|base| format!("{base}{}", suffix.map_or("", |(suffix, _)| suffix)));
        let message = format!("The model '{}' {what}. {}", spec.base, did_you_mean(name.as_deref()));
        RequestError::new(RequestErrorKind::ModelNotFound, "model", message)
    }
}

fn did_you_mean(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("Did you mean '{name}'? GET /v1/models lists the names that can be used."),
        None => "GET /v1/models lists the names that can be used.".to_owned(),
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
        let has_text_suffix = spec.thinking || spec.search || spec.work.is_some();
        let making = match spec.product {
            None => {
                spec.work.map_or(Ok(()), |work| rules.can_write(&spec, work))?;
                ignored.extend(self.size.map(|_| "size"));
                wishes.thinking = wishes.thinking.or(spec.thinking.then_some((ThinkingWish::On, "model")));
                wishes.search = wishes.search.or(spec.search.then_some((true, "model")));
                let may_search = rules.find(&spec.base).is_none_or(ModelInfo::may_search);
                if let Some((true, field)) = wishes.search.filter(|_| !may_search) {
                    ignored.push(field);
                    wishes.search = None;
                }
                wishes.reasoning_format = wishes.reasoning_format.or(Some(rules.reasoning_format));
                spec.work.map_or(Making::Text, Making::Work)
            }
            Some(product) => {
                rules.can_make(&spec, product)?;
                // Wishes about a text have no effect on a picture.
                ignored.extend(wishes.sampling_names());
                ignored.extend(has_text_suffix.then_some("model"));
                ignored.extend(wishes.search.filter(|(on, _)| *on).map(|(_, field)| field));
                ignored.extend(wishes.thinking.map(|(_, field)| field));
                ignored.extend((!wishes.stop.is_empty()).then_some("stop"));
                ignored.extend(wishes.tokens_max.map(|_| "max_tokens"));
                wishes = Wishes { reasoning_format: Some(ReasoningFormat::Hidden), ..Wishes::default() };
                Making::Media(product, Aspect::of(self.size.as_deref(), product))
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
