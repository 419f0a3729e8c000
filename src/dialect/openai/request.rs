//! OpenAI's chat request into the middle.
//!
//! Unknown fields are ignored. Sampling parameters are kept for upstreams that have them, else reported as ignored; a
//! parameter that changes the shape of the answer is refused by name.

use serde_json::{Map, Value};

use crate::chat::conversation::Conversation;
use crate::chat::error::{RequestError, type_name};
use crate::chat::job::{ChatRequest, Question, ReasoningFormat, ThinkingWish, Wishes};
use crate::dialect::openai::fields::{Fields, integer};
use crate::dialect::openai::messages;
use crate::dialect::openai::tools::ToolWishes;
use crate::files::blob::Blob;

/// Most stop sequences, by OpenAI's API.
const STOPS_MAX: usize = 4;

/// The body of `POST /v1/chat/completions`, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatCompletionRequest {
    /// The question and its wishes, independent of the dialect.
    pub chat: ChatRequest,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether the stream ends with a chunk of token counts.
    pub include_usage: bool,
    /// Whether a call goes back as `function_call`, because the tools came as `functions`.
    pub is_legacy: bool,
}

impl ChatCompletionRequest {
    /// Reads a body into a conversation. `lifted` holds the files that were taken out of the JSON while it was read.
    ///
    /// # Errors
    /// The first fault found, by the field that has it.
    pub fn parse(body: &Value, lifted: &[Blob]) -> Result<Self, RequestError> {
        let Value::Object(map) = body else {
            return Err(RequestError::not_an_object(type_name(body)));
        };
        let fields = Fields(map);
        let model = model(&fields)?;
        let mut parsed = None;
        let drafts = messages::drafts(messages::list(&fields, &mut parsed)?)?;
        refuse_unsupported(&fields)?;
        let tools = ToolWishes::read(&fields)?;
        let is_legacy = tools.is_legacy;
        let thinking_budget = thinking_budget(&fields)?;
        let reasoning_format = reasoning_format(&fields)?;
        let mut conversation = Conversation::of(messages::messages(drafts, lifted)?);
        conversation.check_results()?;
        tools.apply(&mut conversation);
        let wishes = Wishes {
            stop: stop(&fields)?,
            tokens_max: match fields.count("max_completion_tokens", 1)? {
                Some(tokens) => Some(tokens),
                None => fields.count("max_tokens", 1)?,
            },
            thinking: thinking(&fields, thinking_budget)?,
            thinking_budget: thinking_budget.filter(|budget| *budget > 0),
            search: search(&fields)?,
            reasoning_format,
            sampling: sampling(&fields)?,
        };
        let chat = ChatRequest {
            model,
            question: Question::Conversation(conversation),
            size: fields.text("size")?.map(str::to_owned),
            wishes,
            ignored: ignored(&fields),
        };
        let stream = fields.flag("stream")?.unwrap_or(false);
        Ok(Self { chat, stream, include_usage: include_usage(&fields)?, is_legacy })
    }

    /// Reads a body for an upstream of OpenAI's own dialect, as far as this server has to understand it. Every field is
    /// sent to the upstream.
    ///
    /// # Errors
    /// The first fault, by the field that has it.
    pub fn verbatim(body: Value) -> Result<Self, RequestError> {
        let mut body: Map<String, Value> = match body {
            Value::Object(body) => body,
            other => return Err(RequestError::not_an_object(type_name(&other))),
        };
        // Null means absent in OpenAI's dialect, and some upstreams refuse it.
        body.retain(|_, value| !value.is_null());
        let fields = Fields(&body);
        let model = model(&fields)?;
        let (stream, include_usage) = (fields.flag("stream")?.unwrap_or(false), include_usage(&fields)?);
        // The upstream gets it as well, and may know other words.
        let reasoning_format = reasoning_format(&fields).unwrap_or_default();
        let mut parsed = None;
        messages::check_roles(messages::list(&fields, &mut parsed)?)?;
        if let Some(list) = parsed {
            body.insert("messages".to_owned(), Value::Array(list));
        }
        let mut chat = ChatRequest::of(model, Question::Verbatim(body));
        chat.wishes.reasoning_format = reasoning_format;
        Ok(Self { chat, stream, include_usage, is_legacy: false })
    }
}

pub(crate) fn model(fields: &Fields<'_>) -> Result<Option<String>, RequestError> {
    let model = fields.text("model")?;
    if model.is_some_and(|model| model.trim().is_empty()) {
        return Err(RequestError::invalid_value("model", "the name of a model, or no 'model' at all for the default"));
    }
    Ok(model.map(str::to_owned))
}

fn include_usage(fields: &Fields<'_>) -> Result<bool, RequestError> {
    match fields.object("stream_options")? {
        Some(options) => Ok(options.flag_in("stream_options", "include_usage")?.unwrap_or(false)),
        None => Ok(false),
    }
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

/// Sampling parameters, checked as OpenAI does.
pub(crate) fn sampling(fields: &Fields<'_>) -> Result<Vec<(&'static str, Value)>, RequestError> {
    const NUMBERS: [(&str, f64, f64); 6] = [
        ("temperature", 0.0, 2.0),
        ("top_p", 0.0, 1.0),
        ("presence_penalty", -2.0, 2.0),
        ("frequency_penalty", -2.0, 2.0),
        ("min_p", 0.0, 1.0),
        ("repetition_penalty", 0.0, f64::MAX),
    ];
    let mut sampling = Vec::new();
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
        sampling.push((name, value.clone()));
    }
    for name in ["top_k", "seed"] {
        if let Some(value) = fields.get(name) {
            if integer(value).is_none() {
                return Err(RequestError::invalid_type(name, "an integer", value));
            }
            sampling.push((name, value.clone()));
        }
    }
    if let Some(bias) = fields.object("logit_bias")? {
        sampling.push(("logit_bias", Value::Object(bias.0.clone())));
    }
    Ok(sampling)
}

/// Parameters that no upstream of a conversation has.
pub(crate) fn ignored(fields: &Fields<'_>) -> Vec<&'static str> {
    let mut ignored = Vec::new();
    for name in ["verbosity", "prediction", "moderation", "service_tier"] {
        if fields.get(name).is_some() {
            ignored.push(name);
        }
    }
    ignored
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

pub(crate) fn thinking_budget(fields: &Fields<'_>) -> Result<Option<u32>, RequestError> {
    if let Some(budget) = fields.count("thinking_budget", 0)? {
        return Ok(Some(budget));
    }
    let nested = fields.object("thinking")?.and_then(|thinking| thinking.get("budget_tokens")).and_then(integer);
    Ok(nested.and_then(|budget| u32::try_from(budget).ok()))
}

/// The first explicit switch, from the most direct to the least.
pub(crate) fn thinking(
    fields: &Fields<'_>,
    budget: Option<u32>,
) -> Result<Option<(ThinkingWish, &'static str)>, RequestError> {
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

pub(crate) fn reasoning_format(fields: &Fields<'_>) -> Result<Option<ReasoningFormat>, RequestError> {
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

fn search(fields: &Fields<'_>) -> Result<Option<(bool, &'static str)>, RequestError> {
    if let Some(on) = fields.flag("enable_search")? {
        return Ok(Some((on, "enable_search")));
    }
    Ok(fields.object("web_search_options")?.map(|_| (true, "web_search_options")))
}
