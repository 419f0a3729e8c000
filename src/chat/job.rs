//! A caller's checked request: a question, the model that answers it, and wishes about the answer.

use serde_json::{Map, Value};

use crate::base::facts::Usage;
use crate::chat::aspect::Aspect;
use crate::chat::conversation::{Conversation, Part, Role};
use crate::chat::suffix::{Product, Work};
use crate::files::attachment::JobFile;

/// Whether the model should think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinkingWish {
    /// The model answers without thinking.
    Off,
    /// Think before the answer.
    On,
    /// The model decides whether to think.
    Auto,
}

/// Where the thoughts of an answer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningFormat {
    /// Into a field of their own (`reasoning_content` in OpenAI's dialect).
    Parsed,
    /// Into the content, between `<think>` tags.
    Raw,
    /// Thoughts are dropped; they still count as tokens.
    Hidden,
}

impl ReasoningFormat {
    /// The format of a word: `parsed`, `raw` or `hidden`.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "parsed" => Some(Self::Parsed),
            "raw" => Some(Self::Raw),
            "hidden" => Some(Self::Hidden),
            _ => None,
        }
    }
}

/// The question of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// A conversation, which every upstream can be asked.
    Conversation(Conversation),
    /// The caller's own body, for an upstream that speaks the caller's dialect: every field goes up as it came.
    Verbatim(Map<String, Value>),
}

/// A request whose own fields are checked. [`ChatRequest::resolve`] joins it with the catalogue of models.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The model as asked; `None` for the default.
    pub model: Option<String>,
    /// Conversation or verbatim body.
    pub question: Question,
    /// `size`, for pictures and videos.
    pub size: Option<String>,
    /// Wishes about the answer.
    pub wishes: Wishes,
    /// Parameters that were read but have no effect.
    pub ignored: Vec<&'static str>,
}

impl ChatRequest {
    /// Text of the newest user message, its parts joined by line ends; `None` without one.
    #[must_use]
    pub fn newest_user_text(&self) -> Option<String> {
        match &self.question {
            Question::Conversation(conversation) => {
                let message = conversation.messages.iter().rev().find(|message| message.role == Role::User)?;
                let texts = message.parts.iter().filter_map(|part| match part {
                    Part::Text(text) => Some(text.as_str()),
                    Part::File(_) => None,
                });
                Some(texts.collect::<Vec<_>>().join("\n"))
            }
            Question::Verbatim(body) => {
                let is_user = |message: &&Value| message.get("role").is_some_and(|role| role == "user");
                let message = body.get("messages")?.as_array()?.iter().rev().find(is_user)?;
                let content = message.get("content")?;
                let of_part = |part: &Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
                let of_parts = || content.as_array().map(|parts| parts.iter().filter_map(of_part).collect::<Vec<_>>());
                content.as_str().map(str::to_owned).or_else(|| Some(of_parts()?.join("\n")))
            }
        }
    }

    /// A request for a text from this conversation, with the default of every wish.
    #[must_use]
    pub fn of(model: Option<String>, question: Question) -> Self {
        Self { model, question, size: None, wishes: Wishes::default(), ignored: Vec::new() }
    }
}

/// A caller's wishes about an answer beside its content.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// Sequences that end the answer, none of them empty.
    pub stop: Vec<String>,
    /// The most tokens of text (thoughts are not counted).
    pub tokens_max: Option<u32>,
    /// An explicit wish about thinking, and the field that it came from.
    pub thinking: Option<(ThinkingWish, &'static str)>,
    /// Most tokens for thinking.
    pub thinking_budget: Option<u32>,
    /// An explicit wish about searching the web, and the field that it came from.
    pub search: Option<(bool, &'static str)>,
    /// Where thoughts go; `None`: the setting of the server (`reasoning_format`).
    pub reasoning_format: Option<ReasoningFormat>,
    /// Sampling parameters by OpenAI's names, their values checked. An upstream without them reports them as ignored.
    pub sampling: Vec<(&'static str, Value)>,
}

impl Wishes {
    /// The names of the sampling parameters.
    pub fn sampling_names(&self) -> impl Iterator<Item = &'static str> {
        self.sampling.iter().map(|(name, _)| *name)
    }
}

/// The product of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// Text: the answer of a chat.
    Text,
    /// Text of another kind, such as a research report.
    Work(Work),
    /// A picture or a video in this ratio.
    Media(Product, Aspect),
}

/// A question with its model. An upstream writes its own request from it.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatJob {
    /// The model as the caller named it; answers carry this name.
    pub model: String,
    /// The upstream's id of the model.
    pub upstream_model: String,
    /// Text, text of another kind, picture or video.
    pub making: Making,
    /// Conversation or verbatim body.
    pub question: Question,
    /// Wishes, with those that the model's name adds.
    pub wishes: Wishes,
    /// Parameters that were read but have no effect.
    pub ignored: Vec<&'static str>,
}

/// A picture or a video to be made from one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaJob {
    /// The model as the caller named it.
    pub model: String,
    /// The upstream's id of the model.
    pub upstream_model: String,
    /// Picture or video; [`Product::ImageEdit`] needs at least one file.
    pub product: Product,
    /// Its ratio of width to height.
    pub aspect: Aspect,
    /// The words that it is made from, not blank.
    pub prompt: String,
    /// The pictures that it is made from, in order.
    pub files: Vec<JobFile>,
    /// Parameters that were read but have no effect.
    pub ignored: Vec<&'static str>,
}

/// Length of every video in seconds: the upstream makes no other.
pub const VIDEO_SECONDS: &str = "5";

/// Notes to the caller about how a request was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Parameters that were read but have no effect.
    pub ignored: Vec<&'static str>,
    /// The model that answers in place of one that cannot take the files.
    pub fallback_model: Option<String>,
    /// Number of files of earlier turns that were left out.
    pub omitted_files: usize,
    /// The name of the file that the conversation was sent as, when it was too long for a prompt.
    pub prompt_file: Option<&'static str>,
    /// How much the definitions of tools were shortened to fit into a prompt: `prose`, `keywords` or `index`.
    pub tools_shortened: Option<&'static str>,
    /// Ratio of the picture or video that is made.
    pub aspect: Option<Aspect>,
}

impl Notes {
    /// The notes that there are, as names and values: `ignored`, `fallback-model`, `omitted-files`, `prompt-file`,
    /// `tools-shortened`, `aspect-ratio`. Callers get them as headers `x-bridge-…`.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, String)> {
        let mut ignored: Vec<&str> = Vec::new();
        for name in &self.ignored {
            // A model's name may ask for two things that it cannot do, so names may repeat.
            if !ignored.contains(name) {
                ignored.push(name);
            }
        }
        let ignored = (!ignored.is_empty()).then(|| ignored.join(","));
        let omitted_files = (self.omitted_files > 0).then(|| self.omitted_files.to_string());
        [
            ("ignored", ignored),
            ("fallback-model", self.fallback_model.clone()),
            ("omitted-files", omitted_files),
            ("prompt-file", self.prompt_file.map(str::to_owned)),
            ("tools-shortened", self.tools_shortened.map(str::to_owned)),
            ("aspect-ratio", self.aspect.map(|aspect| aspect.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

impl Wishes {
    /// Whether the web is to be searched.
    #[must_use]
    pub fn searches(&self) -> bool {
        self.search.is_some_and(|(on, _)| on)
    }
}

impl ChatJob {
    /// The usage that the account is charged with.
    #[must_use]
    pub fn usage(&self) -> Usage {
        match self.making {
            Making::Work(Work::Research) => Usage::Research,
            Making::Text | Making::Work(_) => Usage::Chat,
            Making::Media(Product::Image | Product::ImageEdit, _) => Usage::Image,
            Making::Media(Product::Video, _) => Usage::Video,
        }
    }
}
