//! What a caller wants, checked: OpenAI's request body into a [`ChatJob`].
//!
//! Lenient in what it reads, except where silence would be a lie: sampling knobs that the web chat lacks are
//! taken and named as ignored, while a parameter that changes the shape of the answer is refused by its name.

use serde_json::Value;

use crate::base::facts::Usage;
use crate::chat::aspect::Aspect;
use crate::chat::prompt::{self, Message};
use crate::dialect::openai::fields::{Fields, RequestError, integer, type_name};
use crate::dialect::openai::messages::{self, PlacedFile};
use crate::files::attachment::JobFile;
use crate::files::blob::Blob;

/// The largest prompt in bytes of JSON; longer ones go as a file. The upstream's risk engine blocks bodies over about 128 KiB; the largest
/// that was seen to pass had 117 kB, and the body around the prompt takes about 1.5 kB.
pub const PROMPT_JSON_BYTES_MAX: usize = 114_000;

/// How much of a prompt that goes as a file is said inline too. Long prompts are slow, files are read less
/// faithfully: this is the middle.
const INLINE_BYTES_MAX: usize = 48_000;
/// The bytes of JSON that one file takes beside the prompt.
const FILE_JSON_BYTES: usize = 1_500;
/// What a long prompt is called as a file.
pub const PROMPT_FILE: &str = "conversation.txt";
/// How many pictures of earlier turns can be changed in this one.
const PICTURES_IN_TEXT_MAX: usize = 5;

/// How many stop sequences OpenAI allows.
const STOPS_MAX: usize = 4;

/// Whether the model should think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinkingWish {
    /// No.
    Off,
    /// Yes.
    On,
    /// As the model sees fit.
    Auto,
}

/// Where the thoughts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningFormat {
    /// Into `reasoning_content`.
    Parsed,
    /// Into the content, between `<think>` tags.
    Raw,
    /// Nowhere.
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

/// A request whose own words are in order; what the catalogue has to say comes with [`ChatRequest::resolve`].
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The model as asked; `None` for the default.
    pub model: Option<String>,
    /// The prompt for the upstream, marks of files included.
    pub prompt: String,
    /// The conversation, where it is too long to be the prompt.
    pub prompt_file: Option<String>,
    /// What the user says since the last answer: the prompt where no text is made.
    pub turn_text: String,
    /// The files that go along.
    pub files: Vec<RequestFile>,
    /// How many older files had no room.
    pub omitted_files: usize,
    /// Pictures that texts of the conversation show, the last ones only.
    pub pictures: Vec<RequestFile>,
    /// `size`, for pictures and videos.
    pub size: Option<String>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether the stream ends with a chunk of counts.
    pub include_usage: bool,
    /// `stop`.
    pub stop: Vec<String>,
    /// `max_completion_tokens`, else `max_tokens`.
    pub tokens_max: Option<u32>,
    /// An explicit wish about thinking, and the field that it came from.
    pub thinking: Option<(ThinkingWish, &'static str)>,
    /// Tokens to think with.
    pub thinking_budget: Option<u32>,
    /// An explicit wish about searching.
    pub search: Option<bool>,
    /// Where thoughts go, when the caller says so.
    pub reasoning_format: Option<ReasoningFormat>,
    /// Parameters that were taken without effect.
    pub ignored: Vec<&'static str>,
}

/// A file of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestFile {
    /// The file.
    pub file: JobFile,
    /// The message that it stands in.
    pub message: usize,
    /// Whether it came after the assistant's last message.
    pub is_current: bool,
}

/// What is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Text.
    Text,
    /// A picture from words.
    Image(Aspect),
    /// A picture from pictures.
    ImageEdit(Aspect),
    /// A video, from words or from a picture.
    Video(Aspect),
}

/// What a caller has to be told about how the request was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The model that answers in place of one that cannot take the files.
    pub fallback_model: Option<String>,
    /// How many older files had no room.
    pub omitted_files: usize,
    /// The conversation goes as a file.
    pub has_prompt_file: bool,
}

/// What goes up: everything that an upstream has to know to answer one turn.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatJob {
    /// The model as the caller named it; replies carry this name.
    pub model: String,
    /// The upstream's id of the model.
    pub upstream_model: String,
    /// What is to be made.
    pub task: Task,
    /// The one prompt.
    pub prompt: String,
    /// The files that go with it, in order.
    pub files: Vec<JobFile>,
    /// Whether to think.
    pub thinking: ThinkingWish,
    /// Tokens to think with.
    pub thinking_budget: Option<u32>,
    /// Whether to search.
    pub search: bool,
    /// `stop`, none of them empty.
    pub stop: Vec<String>,
    /// The most tokens of text (thoughts not counted).
    pub tokens_max: Option<u32>,
    /// Where thoughts go.
    pub reasoning_format: ReasoningFormat,
    /// Parameters that were taken without effect.
    pub ignored: Vec<&'static str>,
    /// What the caller has to be told.
    pub notes: Notes,
}

impl ChatJob {
    /// What it is charged to.
    #[must_use]
    pub fn usage(&self) -> Usage {
        match self.task {
            Task::Text => Usage::Chat,
            Task::Image(_) | Task::ImageEdit(_) => Usage::Image,
            Task::Video(_) => Usage::Video,
        }
    }

    /// The upstream's word for this kind of chat.
    #[must_use]
    pub fn chat_type(&self) -> &'static str {
        match self.task {
            Task::Text if self.search => "search",
            Task::Text => "t2t",
            Task::Image(_) => "t2i",
            Task::ImageEdit(_) => "image_edit",
            Task::Video(_) if self.files.is_empty() => "t2v",
            Task::Video(_) => "i2v",
        }
    }

    /// The ratio of what is made.
    #[must_use]
    pub fn aspect(&self) -> Option<Aspect> {
        match self.task {
            Task::Text => None,
            Task::Image(aspect) | Task::ImageEdit(aspect) | Task::Video(aspect) => Some(aspect),
        }
    }
}

impl ChatRequest {
    /// Reads the body of `POST /v1/chat/completions`. `lifted` holds what was taken out of it while it was read.
    ///
    /// # Errors
    /// The first fault found, by the field that has it.
    pub fn parse(body: &Value, lifted: &[Blob]) -> Result<Self, RequestError> {
        let Value::Object(map) = body else {
            return Err(RequestError::not_an_object(type_name(body)));
        };
        let fields = Fields(map);
        let model = fields.text("model")?;
        if model.is_some_and(|model| model.trim().is_empty()) {
            return Err(RequestError::invalid_value(
                "model",
                "the name of a model, or no 'model' at all for the default",
            ));
        }
        let mut parsed = None;
        let list = messages::list(&fields, &mut parsed)?;
        let conversation = messages::conversation(list)?;
        let has_text = conversation.messages.iter().any(|message| match message {
            Message::System(text) | Message::User(text) | Message::ToolResult { text, .. } => !text.trim().is_empty(),
            Message::Assistant { text, calls } => !text.trim().is_empty() || !calls.is_empty(),
        });
        if !has_text && conversation.files.is_empty() {
            return Err(RequestError::invalid_value("messages", "at least one message with text or a file in it"));
        }
        let (prompt, prompt_file) = prompt_of(&conversation.messages, conversation.files.len())?;
        refuse_unsupported(&fields)?;
        let thinking_budget = thinking_budget(&fields)?;
        let reasoning_format = reasoning_format(&fields)?;
        let load = |placed: &PlacedFile<'_>| -> Result<RequestFile, RequestError> {
            let file = placed.part.load(&placed.at, &placed.label, lifted)?;
            Ok(RequestFile { file, message: placed.message, is_current: placed.is_current })
        };
        // What a text merely shows may be anything; only a request to change it makes it matter.
        let shown = conversation.pictures_in_text.iter().rev().take(PICTURES_IN_TEXT_MAX);
        let pictures = shown.rev().filter_map(|placed| load(placed).ok()).collect();
        Ok(Self {
            model: model.map(str::to_owned),
            prompt,
            prompt_file,
            files: conversation.files.iter().map(load).collect::<Result<_, _>>()?,
            omitted_files: conversation.omitted,
            pictures,
            turn_text: conversation.turn_text,
            size: fields.text("size")?.map(str::to_owned),
            stream: fields.flag("stream")?.unwrap_or(false),
            include_usage: match fields.object("stream_options")? {
                Some(options) => options.flag_in("stream_options", "include_usage")?.unwrap_or(false),
                None => false,
            },
            stop: stop(&fields)?,
            tokens_max: match fields.count("max_completion_tokens", 1)? {
                Some(tokens) => Some(tokens),
                None => fields.count("max_tokens", 1)?,
            },
            thinking: thinking(&fields, thinking_budget)?,
            thinking_budget: thinking_budget.filter(|budget| *budget > 0),
            search: search(&fields)?,
            reasoning_format,
            ignored: ignored(&fields)?,
        })
    }
}

/// The prompt of a conversation, and the file beside it where it is too long.
fn prompt_of(messages: &[Message], files: usize) -> Result<(String, Option<String>), RequestError> {
    let prompt = prompt::render(messages);
    let max = PROMPT_JSON_BYTES_MAX.saturating_sub(files.saturating_mul(FILE_JSON_BYTES));
    if json_len(&prompt) <= max {
        return Ok((prompt, None));
    }
    messages::fits(prompt.len())?;
    // Escapes can make the JSON of a text longer than the text, at worst six times.
    let mut room = INLINE_BYTES_MAX.min(max / 2);
    loop {
        let long = prompt::render_long(messages, PROMPT_FILE, room);
        if json_len(&long.inline) <= max || room < 1000 {
            return Ok((long.inline, Some(long.file)));
        }
        room /= 2;
    }
}

/// Bytes of a text as a JSON string, quotes left out.
pub(crate) fn json_len(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}

/// Parameters that change the shape of the answer and cannot be kept.
fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), RequestError> {
    if let Some(n) = fields.get("n") {
        match integer(n) {
            Some(1) => {}
            Some(2..) => {
                return Err(RequestError::unsupported_value(
                    "n",
                    "Only one choice can be made; ask again for another.",
                ));
            }
            Some(_) => return Err(RequestError::invalid_value("n", "1")),
            None => return Err(RequestError::invalid_type("n", "an integer", n)),
        }
    }
    if fields.flag("logprobs")? == Some(true) {
        return Err(RequestError::unsupported("logprobs", "The upstream gives no log probabilities."));
    }
    if fields.get("top_logprobs").is_some_and(|value| integer(value) != Some(0)) {
        return Err(RequestError::unsupported("top_logprobs", "The upstream gives no log probabilities."));
    }
    if let Some(format) = fields.object("response_format")? {
        match format.get("type").and_then(Value::as_str) {
            Some("text") => {}
            Some("json_object" | "json_schema") => {
                let why = "Structured output is not supported by this version; ask for JSON in the prompt.";
                return Err(RequestError::unsupported_value("response_format", why));
            }
            _ => {
                return Err(RequestError::invalid_value("response_format.type", "'text'"));
            }
        }
    }
    let why_tools = "Tool calls are not supported by this version.";
    for name in ["tools", "functions"] {
        match fields.get(name) {
            None => {}
            Some(Value::Array(list)) if list.is_empty() => {}
            Some(Value::Array(_)) => return Err(RequestError::unsupported(name, why_tools)),
            Some(other) => return Err(RequestError::invalid_type(name, "an array", other)),
        }
    }
    for name in ["tool_choice", "function_call"] {
        match fields.get(name) {
            None => {}
            Some(Value::String(word)) if word == "none" || word == "auto" => {}
            Some(_) => return Err(RequestError::unsupported(name, why_tools)),
        }
    }
    if let Some(modalities) = fields.get("modalities") {
        let Value::Array(list) = modalities else {
            return Err(RequestError::invalid_type("modalities", "an array", modalities));
        };
        if list.iter().any(|word| word != "text") {
            return Err(RequestError::unsupported_value("modalities", "Only text can be given."));
        }
    }
    if fields.get("audio").is_some() {
        return Err(RequestError::unsupported("audio", "Only text can be given."));
    }
    Ok(())
}

/// Sampling knobs that the web chat does not have: checked as OpenAI does, then named as ignored.
fn ignored(fields: &Fields<'_>) -> Result<Vec<&'static str>, RequestError> {
    const NUMBERS: [(&str, f64, f64); 6] = [
        ("temperature", 0.0, 2.0),
        ("top_p", 0.0, 1.0),
        ("presence_penalty", -2.0, 2.0),
        ("frequency_penalty", -2.0, 2.0),
        ("min_p", 0.0, 1.0),
        ("repetition_penalty", 0.0, f64::MAX),
    ];
    let mut ignored = Vec::new();
    for (name, min, max) in NUMBERS {
        let Some(value) = fields.get(name) else {
            continue;
        };
        let Some(number) = value.as_f64() else {
            return Err(RequestError::invalid_type(name, "a number", value));
        };
        if !(min..=max).contains(&number) {
            return Err(RequestError::invalid_value(name, &format!("a number from {min} to {max}")));
        }
        ignored.push(name);
    }
    for name in ["top_k", "seed"] {
        if let Some(value) = fields.get(name) {
            if integer(value).is_none() {
                return Err(RequestError::invalid_type(name, "an integer", value));
            }
            ignored.push(name);
        }
    }
    if fields.object("logit_bias")?.is_some() {
        ignored.push("logit_bias");
    }
    for name in ["verbosity", "prediction", "moderation", "service_tier"] {
        if fields.get(name).is_some() {
            ignored.push(name);
        }
    }
    Ok(ignored)
}

fn stop(fields: &Fields<'_>) -> Result<Vec<String>, RequestError> {
    let stops = match fields.get("stop") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) if list.len() > STOPS_MAX => {
            return Err(RequestError::invalid_value("stop", &format!("at most {STOPS_MAX} sequences")));
        }
        Some(Value::Array(list)) => {
            let text = |(place, entry): (usize, &Value)| match entry {
                Value::String(text) => Ok(text.clone()),
                other => Err(RequestError::invalid_type(&format!("stop[{place}]"), "a string", other)),
            };
            list.iter().enumerate().map(text).collect::<Result<_, _>>()?
        }
        Some(other) => {
            return Err(RequestError::invalid_type("stop", "a string or an array of strings", other));
        }
    };
    Ok(stops.into_iter().filter(|stop| !stop.is_empty()).collect())
}

fn thinking_budget(fields: &Fields<'_>) -> Result<Option<u32>, RequestError> {
    if let Some(budget) = fields.count("thinking_budget", 0)? {
        return Ok(Some(budget));
    }
    let nested = fields.object("thinking")?.and_then(|thinking| thinking.get("budget_tokens")).and_then(integer);
    Ok(nested.and_then(|budget| u32::try_from(budget).ok()))
}

/// The first explicit switch, from the most direct to the least.
fn thinking(fields: &Fields<'_>, budget: Option<u32>) -> Result<Option<(ThinkingWish, &'static str)>, RequestError> {
    let wish = |on: bool| {
        if on { ThinkingWish::On } else { ThinkingWish::Off }
    };
    let effort = |at: &str, word: &Value| match word {
        Value::String(word) => Ok(wish(word != "none")),
        other => Err(RequestError::invalid_type(at, "a string", other)),
    };
    if let Some(on) = fields.flag("enable_thinking")? {
        return Ok(Some((wish(on), "enable_thinking")));
    }
    if let Some(kwargs) = fields.object("chat_template_kwargs")?
        && let Some(on) = kwargs.flag_in("chat_template_kwargs", "enable_thinking")?
    {
        return Ok(Some((wish(on), "chat_template_kwargs")));
    }
    if let Some(thinking) = fields.object("thinking")? {
        match thinking.get("type").and_then(Value::as_str) {
            Some("enabled") => return Ok(Some((ThinkingWish::On, "thinking"))),
            Some("disabled") => return Ok(Some((ThinkingWish::Off, "thinking"))),
            Some("adaptive" | "auto") => return Ok(Some((ThinkingWish::Auto, "thinking"))),
            _ => {
                return Err(RequestError::invalid_value("thinking.type", "'enabled', 'disabled' or 'adaptive'"));
            }
        }
    }
    if let Some(reasoning) = fields.object("reasoning")? {
        if let Some(on) = reasoning.flag_in("reasoning", "enabled")? {
            return Ok(Some((wish(on), "reasoning")));
        }
        if let Some(word) = reasoning.get("effort") {
            return Ok(Some((effort("reasoning.effort", word)?, "reasoning")));
        }
    }
    if let Some(word) = fields.get("reasoning_effort") {
        return Ok(Some((effort("reasoning_effort", word)?, "reasoning_effort")));
    }
    Ok(budget.map(|budget| (wish(budget > 0), "thinking_budget")))
}

fn reasoning_format(fields: &Fields<'_>) -> Result<Option<ReasoningFormat>, RequestError> {
    if let Some(word) = fields.text("reasoning_format")? {
        let format = ReasoningFormat::of_word(word);
        return match format {
            Some(_) => Ok(format),
            None => Err(RequestError::invalid_value("reasoning_format", "'parsed', 'raw' or 'hidden'")),
        };
    }
    let excluded = match fields.object("reasoning")? {
        Some(reasoning) => reasoning.flag_in("reasoning", "exclude")?,
        None => None,
    };
    Ok(excluded.filter(|excluded| *excluded).map(|_| ReasoningFormat::Hidden))
}

fn search(fields: &Fields<'_>) -> Result<Option<bool>, RequestError> {
    if let Some(on) = fields.flag("enable_search")? {
        return Ok(Some(on));
    }
    Ok(fields.object("web_search_options")?.map(|_| true))
}
