//! Vectors that say nothing, always the same ones for the same text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::script::ApiErrorScript;

/// The answer to a request for embeddings.
pub(crate) fn embeddings(body: &Value, request_id: &str) -> Result<Value, ApiErrorScript> {
    let invalid = |message: &str| ApiErrorScript::new(400, "InvalidParameter", message).kind("invalid_request_error");
    let Some(model) = body.get("model").and_then(Value::as_str).filter(|model| !model.is_empty()) else {
        return Err(invalid("you must provide a model parameter"));
    };
    let texts: Vec<&str> = match body.get("input") {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(texts)) => texts
            .iter()
            .map(|text| text.as_str().ok_or_else(|| invalid("input must be a text or a list of texts")))
            .collect::<Result<_, _>>()?,
        _ => return Err(invalid("input must be a text or a list of texts")),
    };
    if texts.is_empty() || texts.iter().any(|text| text.is_empty()) {
        return Err(invalid("Range of input length should be [1, 8192]"));
    }
    if texts.len() > BATCH_MAX {
        return Err(invalid("batch size is invalid, it should not be larger than 10."));
    }
    let dimensions = match body.get("dimensions") {
        None | Some(Value::Null) => Some(DIMENSIONS),
        Some(wanted) => wanted.as_u64().and_then(|wanted| usize::try_from(wanted).ok()),
    };
    let Some(dimensions) = dimensions.filter(|count| (1..=2048).contains(count)) else {
        return Err(invalid("dimensions is not supported"));
    };
    let is_base64 = match body.get("encoding_format").and_then(Value::as_str) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(invalid("encoding_format is not supported")),
    };
    let data = texts.iter().enumerate().map(|(index, text)| {
        let vector = vector(model, text, dimensions);
        let embedding = if is_base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            Value::from(STANDARD.encode(bytes))
        } else {
            Value::from(vector)
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    let data: Vec<Value> = data.collect();
    let tokens: usize = texts.iter().map(|text| text.chars().count().div_ceil(4)).sum();
    Ok(json!({
        "object": "list", "data": data, "model": model, "id": request_id,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    }))
}

/// A vector of length 1.
fn vector(model: &str, text: &str, dimensions: usize) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(dimensions);
    let mut block = 0_u32;
    while numbers.len() < dimensions {
        let digest = Sha256::digest(format!("{model}\0{text}\0{block}"));
        let more = digest.iter().map(|byte| (f32::from(*byte) - 127.5) / 127.5);
        numbers.extend(more.take(dimensions - numbers.len()));
        block += 1;
    }
    let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
    numbers.iter().map(|number| number / length).collect()
}

/// Unless the request says another number; the real one has 1024.
const DIMENSIONS: usize = 64;

/// Most texts of one request.
const BATCH_MAX: usize = 10;
