//! The parameters of `POST /v1/messages` beside the conversation: thinking, stop sequences, output form, sampling.

use serde_json::Value;

use crate::chat::conversation::OutputFormat;
use crate::chat::error::{RequestError, path};
use crate::chat::job::{ReasoningFormat, ThinkingWish};
use crate::dialect::openai::fields::{Fields, integer};

/// The most stop sequences of a request.
const STOPS_MAX: usize = 64;

/// The content of `thinking`.
pub(crate) struct Thinking {
    pub(crate) wish: Option<ThinkingWish>,
    pub(crate) budget: Option<u32>,
    /// Where thoughts go; `None`: the setting of the server.
    pub(crate) format: Option<ReasoningFormat>,
}

impl Thinking {
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, RequestError> {
        let Some(thinking) = fields.object("thinking")? else {
            return Ok(Self { wish: None, budget: None, format: None });
        };
        let wish = match thinking.get("type").and_then(Value::as_str) {
            Some("enabled") => ThinkingWish::On,
            Some("adaptive") => ThinkingWish::Auto,
            Some("disabled") => ThinkingWish::Off,
            _ => return Err(RequestError::invalid_value("thinking.type", "'enabled', 'adaptive' or 'disabled'")),
        };
        let budget = match thinking.get("budget_tokens") {
            None => None,
            Some(value) => match integer(value) {
                Some(budget) => u32::try_from(budget).ok().filter(|budget| *budget > 0),
                None => return Err(RequestError::invalid_type("thinking.budget_tokens", "an integer", value)),
            },
        };
        let is_omitted = thinking.get("display").and_then(Value::as_str) == Some("omitted");
        let is_hidden = is_omitted || wish == ThinkingWish::Off;
        let format = if is_hidden { ReasoningFormat::Hidden } else { ReasoningFormat::Parsed };
        Ok(Self { wish: Some(wish), budget, format: Some(format) })
    }
}

/// Reads `stop_sequences`, without empty ones.
pub(crate) fn stop(fields: &Fields<'_>) -> Result<Vec<String>, RequestError> {
    const AT: &str = "stop_sequences";
    let list = match fields.get(AT) {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() > STOPS_MAX => {
            return Err(RequestError::invalid_value(AT, &format!("at most {STOPS_MAX} sequences")));
        }
        Some(Value::Array(list)) => list,
        Some(other) => return Err(RequestError::invalid_type(AT, "an array of strings", other)),
    };
    let mut stops = Vec::with_capacity(list.len());
    for (place, entry) in list.iter().enumerate() {
        match entry {
            Value::String(text) => stops.extend((!text.is_empty()).then(|| text.clone())),
            other => return Err(RequestError::invalid_type(&format!("{AT}[{place}]"), "a string", other)),
        }
    }
    Ok(stops)
}

/// Reads the form of the answer, `output_config.format` or the older `output_format`, and the name of a field of
/// `output_config` that has no effect.
pub(crate) fn output(fields: &Fields<'_>) -> Result<(OutputFormat, Option<&'static str>), RequestError> {
    let config = fields.object("output_config")?;
    let effort = config.as_ref().and_then(|config| config.get("effort")).map(|_| "output_config.effort");
    let (at, format) = match config.as_ref().and_then(|config| config.get("format")) {
        Some(format) => ("output_config.format", format),
        None => match fields.get("output_format") {
            Some(format) => ("output_format", format),
            None => return Ok((OutputFormat::Text, effort)),
        },
    };
    let Value::Object(map) = format else {
        return Err(RequestError::invalid_type(at, "an object", format));
    };
    if map.get("type").and_then(Value::as_str) != Some("json_schema") {
        return Err(RequestError::invalid_value(&path(at, "type"), "'json_schema'"));
    }
    let schema = match map.get("schema") {
        Some(schema @ Value::Object(_)) => schema.clone(),
        None | Some(Value::Null) => return Err(RequestError::missing(&path(at, "schema"))),
        Some(other) => {
            return Err(RequestError::invalid_type(&path(at, "schema"), "an object (a JSON Schema)", other));
        }
    };
    let (name, at) = ("answer".to_owned(), path(at, "schema"));
    Ok((OutputFormat::JsonSchema { name, schema, at, strict: Some(true) }, effort))
}

/// Reads `temperature` (0 to 2), `top_p` (0 to 1) and `top_k`.
pub(crate) fn sampling(fields: &Fields<'_>) -> Result<Vec<(&'static str, Value)>, RequestError> {
    let mut sampling = Vec::new();
    for (name, max) in [("temperature", 2.0), ("top_p", 1.0)] {
        let Some(value) = fields.get(name) else { continue };
        match value.as_f64() {
            Some(number) if (0.0..=max).contains(&number) => sampling.push((name, value.clone())),
            Some(_) => return Err(RequestError::invalid_value(name, &format!("a number from 0 to {max}"))),
            None => return Err(RequestError::invalid_type(name, "a number", value)),
        }
    }
    if let Some(value) = fields.get("top_k") {
        if integer(value).is_none() {
            return Err(RequestError::invalid_type("top_k", "an integer", value));
        }
        sampling.push(("top_k", value.clone()));
    }
    Ok(sampling)
}

/// Names of the parameters that were sent and have no effect.
pub(crate) fn ignored(fields: &Fields<'_>) -> Vec<&'static str> {
    let mut names = Vec::new();
    for name in ["container", "service_tier"] {
        names.extend(fields.get(name).map(|_| name));
    }
    if let Some(Value::Array(servers)) = fields.get("mcp_servers") {
        names.extend((!servers.is_empty()).then_some("mcp_servers"));
    }
    names
}
