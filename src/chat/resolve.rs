//! What a request and the catalogue make together: a job.

use crate::chat::aspect::Aspect;
use crate::chat::job::{
    ChatJob, ChatRequest, Notes, PROMPT_FILE, PROMPT_JSON_BYTES_MAX, ReasoningFormat, RequestFile, Task, ThinkingWish,
    json_len,
};
use crate::chat::models::{ModelInfo, Thinking};
use crate::chat::suffix::{ModelSpec, Product};
use crate::dialect::openai::fields::{RequestError, RequestErrorKind};
use crate::files::attachment::{Attachment, JobFile};
use crate::files::blob::Blob;
use crate::files::media_type::{IMAGES_MAX, MediaKind};

/// How many pictures of the conversation are handed on when the turn itself has fewer.
const EDIT_PICTURES_MAX: usize = 3;
/// Asked for in place of nothing.
const EDIT_PROMPT: &str = "Edit this picture.";
const ANIMATE_PROMPT: &str = "Bring this picture to life.";

/// What holds for every request.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// For requests that name no model.
    pub default_model: &'a str,
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
    fn find(&self, id: &str) -> Option<&'a ModelInfo> {
        self.models.iter().find(|model| model.id == id)
    }

    /// The parts of a model's name, by the catalogue.
    ///
    /// # Errors
    /// [`RequestErrorKind::ModelNotFound`].
    pub fn model(&self, name: &str) -> Result<ModelSpec, RequestError> {
        let spec = ModelSpec::parse(name, |id| self.find(id).is_some());
        if !spec.is_known && self.is_live {
            let message = format!(
                "The model '{}' does not exist upstream. GET /v1/models lists the names that can be used.",
                name.chars().take(100).collect::<String>()
            );
            return Err(RequestError::new(RequestErrorKind::ModelNotFound, "model", message));
        }
        Ok(spec)
    }

    /// Another model for files that `id` does not take.
    fn fallback(&self, id: &str, files: &[JobFile]) -> Result<Option<String>, RequestError> {
        let lacks = |model: &ModelInfo| files.iter().find(|file| !model.abilities.takes(file.kind()));
        let Some(file) = self.find(id).and_then(lacks) else {
            return Ok(None);
        };
        let (noun, at) = (file.kind().noun(), file.at());
        let refused = |hint: &str| {
            let message = format!("The model '{id}' takes no {noun}, and '{at}' is one. {hint}");
            RequestError::new(RequestErrorKind::UnsupportedValue, at, message)
        };
        if self.vision_fallback.is_empty() {
            return Err(refused("Choose a model that does, or set VISION_FALLBACK_MODEL."));
        }
        // A configured model that the upstream has dropped helps nobody; any other that takes the files does.
        let configured = self.find(self.vision_fallback);
        let able = || self.models.iter().find(|model| lacks(model).is_none());
        match configured.filter(|model| lacks(model).is_none()).or_else(able) {
            Some(model) => Ok(Some(model.id.clone())),
            None => Err(refused("No model of the upstream does.")),
        }
    }
}

impl ChatRequest {
    /// Joins the request with what the catalogue says about its model.
    ///
    /// # Errors
    /// [`RequestErrorKind::ModelNotFound`], or a prompt or a file that does not fit what is to be made.
    pub fn resolve(self, rules: &Rules<'_>) -> Result<ChatJob, RequestError> {
        let model = self.model.clone().unwrap_or_else(|| rules.default_model.to_owned());
        let spec = rules.model(&model)?;
        match spec.product {
            None => self.into_text(model, &spec, rules),
            Some(product) => self.into_media(model, spec, product),
        }
    }

    fn into_text(self, model: String, spec: &ModelSpec, rules: &Rules<'_>) -> Result<ChatJob, RequestError> {
        let mut files: Vec<JobFile> = self.files.into_iter().map(|file| file.file).collect();
        let has_prompt_file = self.prompt_file.is_some();
        if let Some(text) = self.prompt_file {
            fits_context(&text, rules.find(&spec.base))?;
            let file = Attachment {
                at: "messages".to_owned(),
                name: PROMPT_FILE.to_owned(),
                kind: MediaKind::Document,
                content_type: "text/plain".to_owned(),
                content: Blob::from(text.into_bytes()),
            };
            files.insert(0, JobFile::Ready(file));
        }
        let fallback_model = rules.fallback(&spec.base, &files)?;
        let upstream_model = fallback_model.clone().unwrap_or_else(|| spec.base.clone());
        let mut ignored = self.ignored;
        ignored.extend(self.size.map(|_| "size"));
        let ability = rules.find(&upstream_model).map_or(Thinking::OnRequest, |info| info.thinking);
        let suffix = spec.thinking.then_some((ThinkingWish::On, "model"));
        let thinking = match (ability, self.thinking.or(suffix)) {
            (Thinking::OnRequest, wish) => wish.map_or(ThinkingWish::Off, |(wish, _)| wish),
            (Thinking::Never, None | Some((ThinkingWish::Off, _))) => ThinkingWish::Off,
            (Thinking::Never, Some((ThinkingWish::On | ThinkingWish::Auto, field))) => {
                ignored.push(field);
                ThinkingWish::Off
            }
            (Thinking::Always, Some((ThinkingWish::Off, field))) => {
                ignored.push(field);
                ThinkingWish::On
            }
            (Thinking::Always, None | Some((ThinkingWish::On | ThinkingWish::Auto, _))) => ThinkingWish::On,
        };
        Ok(ChatJob {
            model,
            upstream_model,
            task: Task::Text,
            prompt: self.prompt,
            files,
            thinking,
            thinking_budget: self.thinking_budget,
            search: self.search.unwrap_or(spec.search),
            stop: self.stop,
            tokens_max: self.tokens_max,
            reasoning_format: self.reasoning_format.unwrap_or(rules.reasoning_format),
            ignored,
            notes: Notes { fallback_model, omitted_files: self.omitted_files, has_prompt_file },
        })
    }

    /// Pictures and videos are made from what the user says now; a whole conversation would be drawn as one.
    fn into_media(self, model: String, spec: ModelSpec, product: Product) -> Result<ChatJob, RequestError> {
        let aspect = self.size.as_deref().map_or_else(Aspect::default, Aspect::of_size);
        let mut pictures: Vec<RequestFile> =
            self.files.iter().filter(is_picture).chain(&self.pictures).cloned().collect();
        pictures.sort_by_key(|picture| picture.message);
        let current = || pictures.iter().filter(|picture| picture.is_current);
        let (task, files, default_prompt): (_, Vec<&RequestFile>, _) = match product {
            Product::Image if current().next().is_none() => (Task::Image(aspect), Vec::new(), ""),
            Product::Image => (Task::ImageEdit(aspect), current().take(IMAGES_MAX).collect(), EDIT_PROMPT),
            // Without a picture there is nothing to change, but something to draw.
            Product::ImageEdit if pictures.is_empty() => (Task::Image(aspect), Vec::new(), ""),
            Product::ImageEdit => {
                let count = current().count().clamp(EDIT_PICTURES_MAX, IMAGES_MAX);
                let first = pictures.len().saturating_sub(count);
                (Task::ImageEdit(aspect), pictures.iter().skip(first).collect(), EDIT_PROMPT)
            }
            Product::Video => {
                let frame: Vec<_> = current().next_back().into_iter().collect();
                let prompt = if frame.is_empty() { "" } else { ANIMATE_PROMPT };
                (Task::Video(aspect), frame, prompt)
            }
        };
        // What cannot be used is not left out in silence.
        let useless = self.files.iter().filter(|file| file.is_current).find(|file| !is_picture(file));
        if let Some(useless) = useless {
            let why = "Pictures and videos are made from words and pictures only.";
            return Err(RequestError::unsupported_value(useless.file.at(), why));
        }
        let prompt = if self.turn_text.trim().is_empty() { default_prompt.to_owned() } else { self.turn_text };
        if prompt.is_empty() {
            return Err(RequestError::invalid_value("messages", "a last user message that says what to make"));
        }
        fits_prompt(&prompt, "messages")?;
        let mut ignored = self.ignored;
        ignored.extend(self.thinking.map(|(_, field)| field));
        if !self.stop.is_empty() {
            ignored.push("stop");
        }
        ignored.extend(self.tokens_max.map(|_| "max_tokens"));
        let files = files.into_iter().map(|picture| picture.file.clone()).collect();
        Ok(media_job(model, spec.base, task, prompt, files, ignored))
    }
}

/// A job that makes something else than text.
#[must_use]
pub fn media_job(
    model: String,
    upstream_model: String,
    task: Task,
    prompt: String,
    files: Vec<JobFile>,
    ignored: Vec<&'static str>,
) -> ChatJob {
    ChatJob {
        model,
        upstream_model,
        task,
        prompt,
        files,
        thinking: ThinkingWish::Off,
        thinking_budget: None,
        search: false,
        stop: Vec::new(),
        tokens_max: None,
        reasoning_format: ReasoningFormat::Hidden,
        ignored,
        notes: Notes::default(),
    }
}

/// Refuses a prompt that does not fit into one request and cannot go as a file.
///
/// # Errors
/// [`RequestErrorKind::TooLong`].
pub fn fits_prompt(prompt: &str, at: &str) -> Result<(), RequestError> {
    let bytes = json_len(prompt);
    if bytes <= PROMPT_JSON_BYTES_MAX {
        return Ok(());
    }
    let message =
        format!("This prompt takes {bytes} bytes, but the upstream takes {PROMPT_JSON_BYTES_MAX}. Shorten it.");
    Err(RequestError::new(RequestErrorKind::TooLong, at, message))
}

/// Refuses a conversation that the model cannot read to its end, by the rough count of four bytes a token.
fn fits_context(text: &str, model: Option<&ModelInfo>) -> Result<(), RequestError> {
    let Some(limit) = model.and_then(|model| model.context_length) else {
        return Ok(());
    };
    let tokens = text.len() as u64 / 4;
    if tokens <= limit {
        return Ok(());
    }
    let message = format!(
        "This model's maximum context length is {limit} tokens, but the messages have about {tokens}. Shorten or drop \
         older messages."
    );
    Err(RequestError::new(RequestErrorKind::TooLong, "messages", message))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that filter asks for")]
fn is_picture(file: &&RequestFile) -> bool {
    file.file.kind() == MediaKind::Image
}
