//! JSON bodies: read within limits, large files taken out on the way, with errors in the callers' dialect.

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use serde_json::Value;
use tracing::warn;

use crate::chat::failure::Failure;
use crate::files::blob::Blob;
use crate::http::serve::body::{BodyError, BodyReader};
use crate::http::serve::drain::Drain;
use crate::http::serve::lift::Lifter;
use crate::http::settings::HttpSettings;

/// A body that was read.
#[derive(Debug)]
pub struct JsonBody {
    /// Its JSON.
    pub value: Value,
    /// The files that were taken out of it.
    pub lifted: Vec<Blob>,
    /// How many bytes of JSON were left.
    pub bytes: usize,
}

/// Reads a JSON body.
///
/// # Errors
/// The ready answer: 400, 408, 413 or 415 in OpenAI's shape.
pub async fn read_json(request: Request, settings: &HttpSettings) -> Result<JsonBody, Response> {
    let content_type = request.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?").to_owned());
    if let Some(content_type) = content_type.filter(|content_type| !is_json(content_type)) {
        Drain::refuse(request);
        return Err(Failure::wrong_content_type(&content_type).into_response());
    }
    let mut body = BodyReader::new(request, settings).map_err(BodyError::into_response)?;
    let mut lifter = Lifter::new(&settings.spool);
    while let Some(piece) = body.piece().await.map_err(BodyError::into_response)? {
        lifter.push(&piece).map_err(|error| {
            warn!(error = %error, "a large file cannot be kept in STATE_DIR while it passes through");
            Failure::internal().into_response()
        })?;
    }
    let (json, lifted) = lifter.finish();
    let value = parse(&json).map_err(|error| error.into_response())?;
    Ok(JsonBody { value, lifted, bytes: json.len() })
}

fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    if bytes.trim_ascii().is_empty() {
        return Err(Failure::empty_body());
    }
    serde_json::from_slice(bytes).map_err(|error| Failure::invalid_json(error.line(), error.column()))
}

/// `application/json` and its kin, parameters and case aside. No content type at all passes too.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.is_empty() || essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}
