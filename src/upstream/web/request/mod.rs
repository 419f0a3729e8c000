//! Requests of the web chat: a job made to fit into one user message.
//!
//! The web chat takes one prompt of at most [`PROMPT_JSON_BYTES_MAX`] bytes and a few files per message. A longer
//! conversation goes as a text file beside its newest part; older files that have no room are named in the prompt and
//! counted in the notes; what fits in no form is refused.

mod fitted;
pub(crate) mod length;
mod media;
pub(crate) mod prompt;
pub(crate) mod tools;

use serde_json::Value;

use crate::base::facts::Usage;
use crate::chat::aspect::Aspect;
use crate::chat::conversation::OutputFormat;
use crate::chat::error::{RequestError, RequestErrorKind};
use crate::chat::history::{Histories, History};
use crate::chat::job::{ChatJob, Making, MediaJob, Notes, Question, ThinkingWish, Wishes};
use crate::chat::models::{ModelInfo, Thinking};
use crate::chat::reply::Rejection;
use crate::chat::resolve::Rules;
use crate::chat::suffix::{Product, Work};
use crate::chat::tokens::estimate_tokens;
use crate::files::attachment::{Attachment, JobFile};
use crate::files::blob::Blob;
use crate::files::media_type::MediaKind;
use crate::upstream::web::limits::{PROMPT_JSON_BYTES_MAX, json_len};
use crate::upstream::web::request::fitted::Fitted;
use crate::upstream::web::request::length::{
    PROMPT_FILE, fits_context, long_prompt, prompt_bytes_max, prompt_of, turn_prompt,
};
use crate::upstream::web::request::media::{Names, media_job};
use crate::upstream::web::request::tools::{NativeTools, WebTools, native_tools, schema_text, tool_prompt};

/// The product of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// The answer of a chat, as text.
    Text,
    /// Text of another kind, such as a research report.
    Work(Work),
    /// A picture from words.
    Image(Aspect),
    /// A picture from pictures.
    ImageEdit(Aspect),
    /// A video, from words or from a picture.
    Video(Aspect),
}

/// One message for the web chat.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WebRequest {
    /// The model as the caller named it; answers carry this name.
    pub model: String,
    /// The upstream's id of the model.
    pub upstream_model: String,
    /// Text, text of another kind, picture or video.
    pub task: Task,
    /// The prompt, at most [`PROMPT_JSON_BYTES_MAX`] bytes as JSON.
    pub prompt: String,
    /// The files that go with it, in order.
    pub files: Vec<JobFile>,
    /// Whether the model thinks, does not, or decides.
    pub thinking: ThinkingWish,
    /// Most tokens for thinking; `None`: the upstream's default.
    pub thinking_budget: Option<u32>,
    /// Whether the model may search the web.
    pub search: bool,
    /// Whether to use the upstream's advanced mode of research, which has a quota of its own.
    pub is_advanced: bool,
    /// Tools of the caller are described in the prompt or declared, so the answer may call them.
    pub has_tools: bool,
    /// Tools that are declared beside the prompt, as the upstream wants them; `None`: they are described in the prompt.
    pub declared: Option<Value>,
    /// The same request with its tools declared; `None` if they are not to be.
    pub native: Option<Box<NativeForm>>,
    /// Tokens of the conversation that goes as a file, by estimate.
    pub file_tokens: u64,
    /// Notes for the caller.
    pub notes: Notes,
    /// Its place in a conversation; `None` if it neither continues one nor can be continued.
    pub thread: Option<WebThread>,
}

/// The place of a request in its conversation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WebThread {
    /// The whole conversation that the request asks about.
    pub asked: History,
    /// The message for a chat that has everything up to the last answer.
    pub turn: Option<WebTurn>,
}

/// The messages after the last answer of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WebTurn {
    /// The conversation up to the last answer.
    pub before: History,
    /// The messages as a prompt.
    pub prompt: String,
    /// Number of the request's files that belong to these messages: the last ones.
    pub files: usize,
}

/// The parts of a request that differ when its tools are declared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NativeForm {
    /// Value of `local_mcp`: the declared tools.
    declared: Value,
    /// Length of the declaration in bytes, which takes room from the prompt.
    declared_bytes: usize,
    /// The prompt without descriptions of the tools.
    prompt: String,
    /// The messages after the last answer as a prompt, as [`WebTurn::prompt`].
    turn: Option<String>,
}

impl WebRequest {
    /// Makes a job fit into one message, by what the catalogue says about its model.
    ///
    /// # Errors
    /// [`RequestErrorKind::TooLong`], [`RequestErrorKind::TooManyFiles`], a file that the model does not take, or a
    /// media prompt without words.
    pub(crate) fn plan(job: ChatJob, rules: &Rules<'_>, web_tools: WebTools) -> Result<Self, RequestError> {
        let ChatJob { model, upstream_model, making, question, wishes, mut ignored } = job;
        ignored.splice(0..0, wishes.sampling_names());
        let mut conversation = match question {
            Question::Conversation(conversation) => conversation,
            Question::Verbatim(_) => {
                let why = "The web chat reads no body of another API's form.";
                return Err(RequestError::unsupported_value("model", why));
            }
        };
        let mut names = Names { model, upstream_model, ignored };
        if (making != Making::Text || web_tools == WebTools::Off) && !conversation.tools.is_empty() {
            conversation.tools.clear();
            names.ignored.push("tools");
        }
        if matches!(making, Making::Work(_)) && conversation.output != OutputFormat::Text {
            conversation.output = OutputFormat::Text;
            names.ignored.push("response_format");
        }
        let fitted = Fitted::of(conversation)?;
        match making {
            Making::Text => text(names, fitted, wishes, rules, web_tools, Task::Text),
            Making::Work(work) => text(names, fitted, wishes, rules, web_tools, Task::Work(work)),
            Making::Media(product, aspect) => Self::media(media_job(names, fitted, product, aspect)?),
        }
    }

    /// A request for a picture or a video.
    ///
    /// # Errors
    /// [`RequestErrorKind::TooLong`]: the prompt does not fit into one message.
    pub(crate) fn media(job: MediaJob) -> Result<Self, RequestError> {
        let MediaJob { model, upstream_model, product, aspect, prompt, files, ignored } = job;
        let bytes = json_len(&prompt);
        if bytes > PROMPT_JSON_BYTES_MAX {
            let message =
                format!("This prompt takes {bytes} bytes, but the upstream takes {PROMPT_JSON_BYTES_MAX}. Shorten it.");
            return Err(RequestError::new(RequestErrorKind::TooLong, "prompt", message));
        }
        Ok(Self {
            model,
            upstream_model,
            task: match product {
                Product::Image => Task::Image(aspect),
                Product::ImageEdit => Task::ImageEdit(aspect),
                Product::Video => Task::Video(aspect),
            },
            prompt,
            files,
            thinking: ThinkingWish::Off,
            thinking_budget: None,
            search: false,
            is_advanced: false,
            file_tokens: 0,
            notes: Notes { ignored, aspect: Some(aspect), ..Notes::default() },
            has_tools: false,
            declared: None,
            native: None,
            thread: None,
        })
    }

    /// The same request with the answer that was rejected and its fault, for a second try. An answer that has no room
    /// is left out.
    #[must_use]
    pub(crate) fn corrected(&self, rejection: &Rejection) -> Self {
        let fault = format!(
            "<system>\nThat message cannot be used: {}. Write the assistant's message once more, corrected, and nothing \
             about the correction.\n</system>",
            rejection.why
        );
        let answer = format!("<assistant>\n{}\n</assistant>", rejection.text.trim());
        let corrected = |prompt: &str, beside: usize| {
            let with_answer = format!("{prompt}\n\n{answer}\n\n{fault}");
            let has_room = json_len(&with_answer) + beside <= PROMPT_JSON_BYTES_MAX;
            if has_room { with_answer } else { format!("{prompt}\n\n{fault}") }
        };
        let native = self.native.as_deref().map(|form| {
            let prompt = corrected(&form.prompt, form.declared_bytes);
            Box::new(NativeForm { prompt, turn: None, ..form.clone() })
        });
        // The chat of a second try has a conversation that the caller does not know.
        Self { prompt: corrected(&self.prompt, 0), native, thread: None, ..self.clone() }
    }

    /// The same request with its tools declared instead of described in the prompt; `None` if they are not to be.
    #[must_use]
    pub(crate) fn natively(&self) -> Option<Self> {
        let form = self.native.as_deref()?;
        let thread = self.thread.clone().map(|thread| {
            let turn = thread.turn.zip(form.turn.clone()).map(|(turn, prompt)| WebTurn { prompt, ..turn });
            WebThread { turn, ..thread }
        });
        let (prompt, declared) = (form.prompt.clone(), Some(form.declared.clone()));
        Some(Self { prompt, declared, native: None, thread, ..self.clone() })
    }

    /// All prompts that may be sent for the request.
    pub(crate) fn prompts(&self) -> impl Iterator<Item = &str> {
        let turn = self.thread.as_ref().and_then(|thread| thread.turn.as_ref());
        let native = self.native.as_deref();
        let native = native.into_iter().flat_map(|form| std::iter::once(&form.prompt).chain(&form.turn));
        let prompts = std::iter::once(&self.prompt).chain(turn.map(|turn| &turn.prompt)).chain(native);
        prompts.map(String::as_str)
    }

    /// The same request with only the messages after the last answer, for a chat that has the others.
    #[must_use]
    pub(crate) fn only(&self, turn: &WebTurn) -> Self {
        let first = self.files.len().saturating_sub(turn.files);
        let files = self.files.get(first..).unwrap_or_default().to_vec();
        Self { prompt: turn.prompt.clone(), files, ..self.clone() }
    }

    /// The usage that the account is charged with.
    #[must_use]
    pub(crate) fn usage(&self) -> Usage {
        match self.task {
            Task::Work(Work::Research) => Usage::Research,
            Task::Text | Task::Work(_) => Usage::Chat,
            Task::Image(_) | Task::ImageEdit(_) => Usage::Image,
            Task::Video(_) => Usage::Video,
        }
    }

    /// The upstream's word for this kind of chat.
    #[must_use]
    pub(crate) fn chat_type(&self) -> &'static str {
        match self.task {
            Task::Text if self.search => "search",
            Task::Text => "t2t",
            Task::Work(Work::Research) => "deep_research",
            Task::Work(Work::Artifact) => "artifacts",
            Task::Work(Work::WebPage) => "web_dev",
            Task::Work(Work::Lesson) => "learn",
            Task::Work(Work::Translation) => "translate",
            Task::Work(Work::VisualAnswer) => "vqa",
            Task::Image(_) => "t2i",
            Task::ImageEdit(_) => "image_edit",
            Task::Video(_) if self.files.is_empty() => "t2v",
            Task::Video(_) => "i2v",
        }
    }

    /// Ratio of the picture or video; `None` for text.
    #[must_use]
    pub(crate) fn aspect(&self) -> Option<Aspect> {
        match self.task {
            Task::Text | Task::Work(_) => None,
            Task::Image(aspect) | Task::ImageEdit(aspect) | Task::Video(aspect) => Some(aspect),
        }
    }

    /// An estimate of the prompt's tokens, the file that it may go as included, for answers whose upstream gives no counts.
    #[must_use]
    pub(crate) fn prompt_tokens(&self) -> u64 {
        estimate_tokens(&self.prompt) + self.file_tokens
    }
}

fn text(
    names: Names,
    fitted: Fitted,
    wishes: Wishes,
    rules: &Rules<'_>,
    web_tools: WebTools,
    task: Task,
) -> Result<WebRequest, RequestError> {
    let Names { model, upstream_model: base, mut ignored } = names;
    let omitted_files = fitted.omitted();
    let mut files: Vec<JobFile> = fitted.files.iter().map(|placed| placed.file.clone()).collect();
    let tools = tool_prompt(&fitted.conversation)?;
    let output = output_prompt(&fitted.conversation.output);
    let tools_shortened = tools.as_ref().and_then(|tools| tools.shortening.as_str());
    let turn_start = fitted.conversation.turn_start();
    let turn_files = fitted.files.iter().filter(|placed| placed.message >= turn_start).count();
    let histories = Histories::of(&fitted.conversation);
    let native = tools.as_ref().filter(|_| web_tools == WebTools::Native);
    let native = native.map(|tools| native_tools(&fitted.conversation, tools.shortening));
    let blocks = fitted.into_blocks(tools.is_some());
    let reserved = output.as_ref().map_or(0, |text| json_len(text));
    let (mut prompt, prompt_file) = prompt_of(&blocks, tools.as_ref(), files.len(), reserved)?;
    let native = native.map(|NativeTools { declared, prompt: tools }| {
        let declared_bytes = declared.to_string().len();
        let prompt = if prompt_file.is_some() {
            let max = prompt_bytes_max(files.len(), reserved).saturating_sub(declared_bytes);
            long_prompt(&blocks, Some(&tools), max).inline
        } else {
            // The tools take more room in the prompt than in the declaration.
            prompt::render(&blocks, Some(&tools))
        };
        let prompt = output.as_ref().map_or(prompt.clone(), |output| format!("{prompt}\n\n{output}"));
        let turn = turn_prompt(&blocks, turn_start, Some(&tools), output.as_deref(), turn_files);
        Box::new(NativeForm { declared, declared_bytes, prompt, turn })
    });
    let turn_prompt = turn_prompt(&blocks, turn_start, tools.as_ref(), output.as_deref(), turn_files);
    if let Some(output) = output {
        prompt.push_str("\n\n");
        prompt.push_str(&output);
    }
    let has_prompt_file = prompt_file.is_some();
    let file_tokens = prompt_file.as_deref().map_or(0, estimate_tokens);
    if let Some(text) = prompt_file {
        fits_context(&text, rules.find(&base))?;
        let file = Attachment {
            at: "messages".to_owned(),
            name: PROMPT_FILE.to_owned(),
            kind: MediaKind::Document,
            content_type: "text/plain".to_owned(),
            content: Blob::from(text.into_bytes()),
        };
        files.insert(0, JobFile::Ready(file));
    }
    let fallback_model = fallback(rules, &base, &files)?;
    let upstream_model = fallback_model.clone().unwrap_or(base);
    let ability = rules.find(&upstream_model).map_or(Thinking::OnRequest, |info| info.thinking);
    let is_advanced = task == Task::Work(Work::Research) && matches!(wishes.thinking, Some((ThinkingWish::On, _)));
    let (thinking, refused) = thinking(ability, wishes.thinking.or_else(|| own_thinking(task, ability)));
    ignored.extend(refused);
    let turn = histories.before.zip(turn_prompt);
    let turn = turn.map(|(before, prompt)| WebTurn { before, prompt, files: turn_files });
    let may_search = rules.find(&upstream_model).is_none_or(ModelInfo::may_search);
    let search = wishes.search.filter(|(on, _)| *on);
    // The model that replaces another one may be unable to search.
    ignored.extend(search.filter(|_| !may_search).map(|(_, field)| field));
    Ok(WebRequest {
        model,
        upstream_model,
        task,
        prompt,
        files,
        thinking,
        thinking_budget: wishes.thinking_budget,
        search: (search.is_some() && may_search) || task == Task::Work(Work::Research),
        is_advanced,
        has_tools: tools.is_some(),
        declared: None,
        native,
        file_tokens,
        notes: Notes {
            ignored,
            fallback_model,
            omitted_files,
            prompt_file: has_prompt_file.then_some(PROMPT_FILE),
            tools_shortened,
            aspect: None,
        },
        thread: Some(WebThread { asked: histories.whole, turn }),
    })
}

/// Thinking for kinds of text when the caller does not say: the site thinks for research and for lessons.
fn own_thinking(task: Task, ability: Thinking) -> Option<(ThinkingWish, &'static str)> {
    let thinks = matches!(task, Task::Work(Work::Research | Work::Lesson)) && ability != Thinking::Never;
    thinks.then_some((ThinkingWish::On, "model"))
}

/// Whether the model thinks, and the field with a wish that it cannot follow.
fn thinking(ability: Thinking, wish: Option<(ThinkingWish, &'static str)>) -> (ThinkingWish, Option<&'static str>) {
    match (ability, wish) {
        (Thinking::OnRequest, wish) => (wish.map_or(ThinkingWish::Off, |(wish, _)| wish), None),
        (Thinking::Never, None | Some((ThinkingWish::Off, _))) => (ThinkingWish::Off, None),
        (Thinking::Never, Some((ThinkingWish::On | ThinkingWish::Auto, field))) => (ThinkingWish::Off, Some(field)),
        (Thinking::Always, Some((ThinkingWish::Off, field))) => (ThinkingWish::On, Some(field)),
        (Thinking::Always, None | Some((ThinkingWish::On | ThinkingWish::Auto, _))) => (ThinkingWish::On, None),
    }
}

/// Another model for files that `id` does not take.
fn fallback(rules: &Rules<'_>, id: &str, files: &[JobFile]) -> Result<Option<String>, RequestError> {
    let lacks = |model: &ModelInfo| files.iter().find(|file| !model.abilities.takes(file.kind()));
    let Some(file) = rules.find(id).and_then(lacks) else {
        return Ok(None);
    };
    let (noun, at) = (file.kind().noun(), file.at());
    let refused = |hint: &str| {
        let message = format!("The model '{id}' takes no {noun}, and '{at}' is one. {hint}");
        RequestError::new(RequestErrorKind::UnsupportedValue, at, message)
    };
    if rules.vision_fallback.is_empty() {
        return Err(refused("Choose a model that does, or set VISION_FALLBACK_MODEL."));
    }
    // A configured model that the upstream has dropped is replaced by the first other one that takes the files.
    let configured = rules.find(rules.vision_fallback);
    let able = || rules.models.iter().find(|model| lacks(model).is_none());
    match configured.filter(|model| lacks(model).is_none()).or_else(able) {
        Some(model) => Ok(Some(model.id.clone())),
        None => Err(refused("No model of the upstream does.")),
    }
}

/// The sentence about the form of the answer. A schema that takes more room than the tools may take goes without its
/// descriptions.
fn output_prompt(output: &OutputFormat) -> Option<String> {
    match output {
        OutputFormat::Text => None,
        OutputFormat::JsonObject => Some(
            "Write the assistant's next message as one JSON object and nothing else: no code fence, no text around it."
                .to_owned(),
        ),
        OutputFormat::JsonSchema { schema, .. } => Some(format!(
            "Write the assistant's next message as JSON and nothing else: no code fence, no text around it. It has to \
             follow this JSON Schema:\n{}",
            schema_text(schema)
        )),
    }
}
