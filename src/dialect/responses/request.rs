//! The body of `POST /v1/responses` into the middle.
//!
//! As with chat completions, sampling parameters are kept for upstreams that have them, unknown fields are ignored, and
//! parameters that would change the shape of the answer are refused by name.

use serde_json::{Map, Value, json};

use crate::chat::conversation::{Conversation, OutputFormat, Role};
use crate::chat::error::{RequestError, RequestErrorKind, type_name};
use crate::chat::job::{ChatRequest, Question, Wishes};
use crate::dialect::openai::fields::{Fields, integer};
use crate::dialect::openai::messages::{Draft, messages};
use crate::dialect::openai::request::{ignored, model, reasoning_format, sampling, thinking, thinking_budget};
use crate::dialect::responses::items::ItemReader;
use crate::dialect::responses::tools::Tools;
use crate::dialect::responses::wire::{Echo, ReasoningEcho, TextEcho};
use crate::files::blob::Blob;

/// The body of `POST /v1/responses`, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResponsesRequest {
    /// The question and its wishes, independent of the dialect.
    pub chat: ChatRequest,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// The fields of the request that the response repeats.
    pub echo: Echo,
    /// The names of the freeform tools, whose calls are `custom_tool_call` items.
    pub freeform: Vec<String>,
}

impl ResponsesRequest {
    /// Reads a body. `earlier` are the items of the responses that it continues, oldest first; `lifted` holds the files
    /// that were taken out of the JSON while it was read.
    ///
    /// # Errors
    /// The first fault found, by the field that has it.
    pub(crate) fn parse(body: &Value, earlier: &[Value], lifted: &[Blob]) -> Result<Self, RequestError> {
        let fields = Fields(object(body)?);
        let model = model(&fields)?;
        refuse_unsupported(&fields)?;
        let instructions = fields.text("instructions")?;
        let (drafts, left_out) = drafts(&fields, instructions, earlier)?;
        let tools = Tools::read(&fields)?;
        let parallel_tool_calls = fields.flag("parallel_tool_calls")?.unwrap_or(true);
        let tokens_max = fields.count("max_output_tokens", 1)?;
        let budget = thinking_budget(&fields)?;
        let output = output_format(&fields)?;
        let mut without_effect = ignored(&fields);
        without_effect.extend(more_ignored(&fields)?);
        without_effect.extend(left_out);
        without_effect.extend(&tools.ignored);
        let echo = echo(&fields, instructions, &tools, parallel_tool_calls, tokens_max)?;
        let wishes = Wishes {
            tokens_max,
            thinking: thinking(&fields, budget)?,
            thinking_budget: budget.filter(|budget| *budget > 0),
            search: tools.search.then_some((true, "tools.web_search")),
            reasoning_format: reasoning_format(&fields)?,
            sampling: sampling(&fields)?,
            ..Wishes::default()
        };
        let conversation = Conversation {
            messages: messages(drafts, lifted)?,
            tools: tools.specs,
            tool_choice: tools.choice,
            parallel_tool_calls,
            output,
        };
        let question = Question::Conversation(conversation);
        let chat = ChatRequest { model, question, size: None, wishes, ignored: without_effect };
        Ok(Self { chat, stream: fields.flag("stream")?.unwrap_or(false), echo, freeform: tools.freeform })
    }
}

/// The id of the response that a body continues.
///
/// # Errors
/// The body is not an object, or the field is not a string.
pub(crate) fn previous_response_id(body: &Value) -> Result<Option<&str>, RequestError> {
    Fields(object(body)?).text("previous_response_id")
}

/// Renames the field of an error: what the conversation calls `messages` is `input` here.
#[must_use]
pub(crate) fn blame(error: RequestError) -> RequestError {
    match &error.param {
        Some(param) if param.starts_with("messages") => RequestError { param: Some("input".to_owned()), ..error },
        _ => error,
    }
}

fn object(body: &Value) -> Result<&Map<String, Value>, RequestError> {
    body.as_object().ok_or_else(|| RequestError::not_an_object(type_name(body)))
}

/// Messages whose files are not loaded yet, and the types of items that were left out.
type ReadItems<'a> = (Vec<Draft<'a>>, Vec<&'static str>);

/// The instructions, the earlier items and the input as messages.
fn drafts<'a>(
    fields: &Fields<'a>,
    instructions: Option<&'a str>,
    earlier: &'a [Value],
) -> Result<ReadItems<'a>, RequestError> {
    let mut reader = ItemReader::default();
    if let Some(text) = instructions.filter(|text| !text.is_empty()) {
        reader.text(Role::System, text);
    }
    for item in earlier {
        reader.item("previous_response_id", item)?;
    }
    match fields.get("input") {
        None if earlier.is_empty() => return Err(RequestError::missing("input")),
        None => {}
        Some(Value::String(text)) => reader.text(Role::User, text),
        Some(Value::Array(list)) if list.is_empty() && earlier.is_empty() => {
            let message = "'input' is empty: expected at least one item.".to_owned();
            return Err(RequestError::new(RequestErrorKind::EmptyArray, "input", message));
        }
        Some(Value::Array(list)) => {
            for (place, item) in list.iter().enumerate() {
                reader.item(&format!("input[{place}]"), item)?;
            }
        }
        Some(other) => return Err(RequestError::invalid_type("input", "a string or an array of items", other)),
    }
    let (drafts, ignored) = reader.finish();
    let is_answerable = |draft: &Draft<'_>| draft.says_something() || matches!(draft.role, Role::ToolResult { .. });
    if !drafts.iter().any(is_answerable) {
        return Err(RequestError::invalid_value("input", "at least one item with text or a file in it"));
    }
    Ok((drafts, ignored))
}

/// Refuses parameters that would change the question or the shape of the answer.
fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), RequestError> {
    if fields.flag("background")? == Some(true) {
        let why = "Responses are made while their caller waits; leave 'background' out.";
        return Err(RequestError::unsupported_value("background", why));
    }
    for (name, why) in [
        ("conversation", "There are no stored conversations here; use 'previous_response_id'."),
        ("prompt", "There are no stored prompts here; send its text in 'instructions' or 'input'."),
    ] {
        if fields.get(name).is_some() {
            return Err(RequestError::unsupported(name, why));
        }
    }
    if fields.get("top_logprobs").is_some_and(|value| integer(value) != Some(0)) {
        return Err(RequestError::unsupported("top_logprobs", "The upstream gives no log probabilities."));
    }
    if included(fields)?.any(|word| word == "message.output_text.logprobs") {
        return Err(RequestError::unsupported_value("include", "The upstream gives no log probabilities."));
    }
    Ok(())
}

/// The entries of `include`.
fn included<'a>(fields: &Fields<'a>) -> Result<impl Iterator<Item = &'a Value>, RequestError> {
    match fields.get("include") {
        None => Ok([].iter()),
        Some(Value::Array(list)) => Ok(list.iter()),
        Some(other) => Err(RequestError::invalid_type("include", "an array of strings", other)),
    }
}

/// Parameters of this dialect that have no effect.
fn more_ignored(fields: &Fields<'_>) -> Result<Vec<&'static str>, RequestError> {
    let mut names = Vec::new();
    if fields.count("max_tool_calls", 0)?.is_some() {
        names.push("max_tool_calls");
    }
    if fields.object("text")?.is_some_and(|text| text.get("verbosity").is_some()) {
        names.push("text.verbosity");
    }
    // Reasoning is not encrypted here, so that it cannot be included.
    if included(fields)?.any(|word| word == "reasoning.encrypted_content") {
        names.push("include");
    }
    Ok(names)
}

/// Reads `text.format`; a missing one means any text.
fn output_format(fields: &Fields<'_>) -> Result<OutputFormat, RequestError> {
    let Some(text) = fields.object("text")? else { return Ok(OutputFormat::Text) };
    let format = match text.get("format") {
        None => return Ok(OutputFormat::Text),
        Some(Value::Object(format)) => Fields(format),
        Some(other) => return Err(RequestError::invalid_type("text.format", "an object", other)),
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(OutputFormat::Text),
        Some("json_object") => Ok(OutputFormat::JsonObject),
        Some("json_schema") => {
            let name = format.get("name").and_then(Value::as_str).unwrap_or("response").to_owned();
            let schema = match format.get("schema") {
                None => return Err(RequestError::missing("text.format.schema")),
                Some(schema @ Value::Object(_)) => schema.clone(),
                Some(other) => {
                    return Err(RequestError::invalid_type("text.format.schema", "an object (a JSON Schema)", other));
                }
            };
            let strict = format.flag_in("text.format", "strict")?;
            Ok(OutputFormat::JsonSchema { name, schema, at: "text.format.schema".to_owned(), strict })
        }
        _ => Err(RequestError::invalid_value("text.format.type", "'text', 'json_object' or 'json_schema'")),
    }
}

fn echo(
    fields: &Fields<'_>,
    instructions: Option<&str>,
    tools: &Tools,
    parallel_tool_calls: bool,
    max_output_tokens: Option<u32>,
) -> Result<Echo, RequestError> {
    let text = |name: &str| fields.text(name).map(|text| text.map(str::to_owned));
    let metadata = match fields.get("metadata") {
        None => Map::new(),
        Some(Value::Object(map)) => map.clone(),
        Some(other) => return Err(RequestError::invalid_type("metadata", "an object", other)),
    };
    let reasoning = fields.object("reasoning")?;
    let word = |name: &str| {
        let value = reasoning.as_ref().and_then(|reasoning| reasoning.get(name));
        value.and_then(Value::as_str).map(str::to_owned)
    };
    let truncation = match fields.text("truncation")? {
        None | Some("disabled") => "disabled",
        Some("auto") => "auto",
        Some(_) => return Err(RequestError::invalid_value("truncation", "'auto' or 'disabled'")),
    };
    let format = fields.object("text")?.and_then(|text| text.get("format").cloned());
    Ok(Echo {
        instructions: instructions.map(str::to_owned),
        max_output_tokens,
        metadata,
        parallel_tool_calls,
        previous_response_id: text("previous_response_id")?,
        prompt_cache_key: text("prompt_cache_key")?,
        reasoning: ReasoningEcho { effort: word("effort"), summary: word("summary") },
        safety_identifier: text("safety_identifier")?,
        store: fields.flag("store")?.unwrap_or(true),
        temperature: number(fields, "temperature"),
        text: TextEcho { format: format.unwrap_or_else(|| json!({"type": "text"})) },
        tool_choice: fields.get("tool_choice").cloned().unwrap_or_else(|| "auto".into()),
        tools: tools.echo.clone(),
        top_p: number(fields, "top_p"),
        truncation,
        user: text("user")?,
    })
}

/// A sampling parameter as it came, or OpenAI's default of all of them.
fn number(fields: &Fields<'_>, name: &str) -> f64 {
    fields.get(name).and_then(Value::as_f64).unwrap_or(1.0)
}
