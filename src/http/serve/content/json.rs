//! JSON bodies: read within limits, large files taken out on the way, large texts parsed on another thread.

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use serde_json::Value;
use tracing::warn;

use crate::chat::failure::Failure;
use crate::files::blob::Blob;
use crate::http::serve::content::bodies::{Bodies, BodyShare};
use crate::http::serve::content::body::{BodyError, BodyReader};
use crate::http::serve::content::lift::{LiftError, Lifted, Lifter};
use crate::http::serve::content::shape::ShapeError;
use crate::http::serve::content::utf8::{Malformed, ToUtf8};
use crate::http::serve::socket::drain::Drain;
use crate::http::settings::HttpSettings;
use crate::telemetry::ErrorChain;

/// A JSON body with the files that were taken out of it.
#[derive(Debug)]
pub(crate) struct JsonBody {
    /// The JSON value without the files.
    pub value: Value,
    /// The files that were taken out of the JSON, in their order.
    pub lifted: Vec<Blob>,
    /// Bytes of JSON without the files.
    pub bytes: usize,
    /// Its share of the memory for bodies, held until it is dropped.
    pub share: BodyShare,
}

/// Reads a JSON body.
///
/// # Errors
/// The finished error answer: 400, 408, 413, 415 or 429.
pub(crate) async fn read_json(request: Request, settings: &HttpSettings) -> Result<JsonBody, Response> {
    let content_type = request.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?").to_owned());
    if let Some(content_type) = content_type.filter(|content_type| !is_json(content_type)) {
        Drain::refuse(request);
        return Err(Failure::wrong_content_type(&content_type).into_response());
    }
    let mut share = Bodies::of(&request).share();
    let mut body = BodyReader::new(request, settings).map_err(BodyError::into_response)?;
    let mut lifter = Lifter::new(&settings.spool, settings.json_bytes_max);
    let mut text = ToUtf8::default();
    while let Some(piece) = body.piece().await.map_err(BodyError::into_response)? {
        let piece = text.push(&piece).map_err(|Malformed| Failure::broken_utf16());
        let pushed = piece.and_then(|piece| lifter.push(&piece).map_err(|error| refusal(error, settings)));
        if let Err(failure) = pushed.and_then(|()| share.grow_to(lifter.resident_bytes())) {
            return Err(body.abandon(failure));
        }
    }
    let rest = text.finish().map_err(|Malformed| Failure::broken_utf16().into_response())?;
    lifter.push(&rest).map_err(|error| refusal(error, settings).into_response())?;
    let needed = lifter.resident_bytes();
    let Lifted { json, files: lifted, cost } = lifter.finish();
    share.grow_to(needed.saturating_add(cost)).map_err(Failure::into_response)?;
    let bytes = json.len();
    let (share, parsed) = share.work(bytes, move || parse(&json)).await.map_err(Failure::into_response)?;
    let mut value = parsed.map_err(Failure::into_response)?;
    forget_empty_model(&mut value);
    Ok(JsonBody { value, lifted, bytes, share })
}

/// Removes an empty `model`: clients send it when no model was chosen.
fn forget_empty_model(value: &mut Value) {
    let Some(fields) = value.as_object_mut() else { return };
    if fields.get("model").and_then(Value::as_str).is_some_and(str::is_empty) {
        fields.shift_remove("model");
    }
}

fn refusal(error: LiftError, settings: &HttpSettings) -> Failure {
    match error {
        LiftError::Disk(error) => {
            warn!(error = %ErrorChain(&error), "a large file of the request cannot be written to STATE_DIR");
            Failure::internal()
        }
        LiftError::TooLarge => Failure::json_too_large(settings.json_bytes_max),
        LiftError::Shape(error) => {
            let message = error.to_string();
            match error {
                ShapeError::Depth => Failure::invalid_shape("invalid_json", message),
                ShapeError::Keys | ShapeError::Values => Failure::too_complex(message),
                ShapeError::List { param, .. } => {
                    Failure::invalid_shape("array_above_max_length", message).about(param)
                }
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    if bytes.trim_ascii().is_empty() {
        return Err(Failure::empty_body());
    }
    serde_json::from_slice(bytes).map_err(|error| Failure::invalid_json(error.line(), error.column()))
}

/// Whether a content type is JSON, parameters and case aside; an empty one counts as JSON.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.is_empty() || essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}
