//! Multipart forms, as the SDKs send files: texts become JSON fields, files become blobs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use multer::Multipart;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::task::yield_now;
use tracing::warn;

use crate::chat::failure::Failure;
use crate::files::blob::{Blob, BlobWriter};
use crate::http::serve::content::bodies::{Bodies, BodyShare};
use crate::http::serve::content::body::{BodyError, BodyReader};
use crate::http::settings::HttpSettings;

/// Most fields of a form.
const FIELDS_MAX: usize = 64;
/// Most bytes before a field begins. The parser keeps all of them, and searches them at every piece.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest text of a field, in bytes.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// A form, its files separate from its texts.
#[derive(Debug, Default)]
pub(crate) struct Form {
    /// Fields with texts; of a repeated one the last text counts.
    pub fields: Map<String, Value>,
    /// Fields with files, in order.
    pub files: Vec<FormFile>,
}

/// A file of a form.
#[derive(Clone, Debug)]
pub(crate) struct FormFile {
    /// Name of the field, such as `image` or `image[]`.
    pub field: String,
    /// Name of the file; empty if the client sent none.
    pub name: String,
    /// The bytes of the file.
    pub content: Blob,
}

/// Whether the content type of a request is that of a form.
#[must_use]
pub(crate) fn is_form(request: &Request) -> bool {
    boundary(request).is_some()
}

fn boundary(request: &Request) -> Option<String> {
    let content_type = request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    multer::parse_boundary(content_type).ok()
}

/// Reads a form.
///
/// # Errors
/// The finished error answer: 400, 408 or 413 in OpenAI's shape.
pub(crate) async fn read_form(request: Request, settings: &HttpSettings) -> Result<Form, Response> {
    let Some(boundary) = boundary(&request) else {
        return Err(Failure::broken_form().into_response());
    };
    let mut share = Bodies::of(&request).share();
    let body = BodyReader::new(request, settings).map_err(BodyError::into_response)?;
    // The parser's errors hide this room's own, so the own one is kept beside it.
    let refused = Arc::new(Mutex::new(None));
    let unseen = Arc::new(AtomicUsize::new(0));
    let state = (body, Arc::clone(&refused), Arc::clone(&unseen));
    let pieces = stream::unfold(Some(state), async |state| {
        let (mut body, refused, unseen) = state?;
        // The parser takes everything that is there before it reads any of it, so it gets one piece at a time.
        yield_now().await;
        if unseen.load(Ordering::Relaxed) > HEAD_BYTES_MAX {
            return Some((Err(io::Error::from(io::ErrorKind::InvalidData)), None));
        }
        match body.piece().await {
            Ok(piece) => piece.map(|piece| {
                unseen.fetch_add(piece.len(), Ordering::Relaxed);
                (Ok(piece), Some((body, refused, unseen)))
            }),
            Err(error) => {
                *refused.lock() = Some(error);
                Some((Err(io::Error::from(io::ErrorKind::Other)), None))
            }
        }
    });
    let read = collect(Multipart::new(Box::pin(pieces), boundary), settings, &unseen, &mut share).await;
    let refused = refused.lock().take();
    match refused {
        Some(error) => Err(error.into_response()),
        None => read.map_err(Failure::into_response),
    }
}

/// Reads the fields. `unseen` counts the bytes that the parser got since its last result.
async fn collect(
    mut parts: Multipart<'_>,
    settings: &HttpSettings,
    unseen: &AtomicUsize,
    share: &mut BodyShare,
) -> Result<Form, Failure> {
    let broken = |_| Failure::broken_form();
    let saw = || unseen.store(0, Ordering::Relaxed);
    let mut form = Form::default();
    let (mut count, mut text_bytes, mut file_bytes) = (0, 0_usize, 0_usize);
    while let Some(mut part) = parts.next_field().await.map_err(broken)? {
        saw();
        count += 1;
        let field = part.name().unwrap_or_default().to_owned();
        if count > FIELDS_MAX || field.len() > 100 {
            return Err(Failure::broken_form());
        }
        let Some(name) = part.file_name().map(str::to_owned) else {
            let mut text = Vec::new();
            while let Some(piece) = part.chunk().await.map_err(broken)? {
                saw();
                text.extend_from_slice(&piece);
                text_bytes += piece.len();
                if text.len() > TEXT_BYTES_MAX {
                    return Err(Failure::field_too_large(&field, TEXT_BYTES_MAX));
                }
                if text_bytes > settings.json_bytes_max {
                    return Err(Failure::json_too_large(settings.json_bytes_max));
                }
                share.grow_to(text_bytes + file_bytes)?;
            }
            match String::from_utf8(text) {
                // An empty `model` counts as absent: clients send it when no model was chosen.
                Ok(text) if field == "model" && text.is_empty() => {}
                Ok(text) => drop(form.fields.insert(field, Value::String(text))),
                // Some clients send files without a name.
                Err(bytes) => {
                    let content = Blob::from(bytes.into_bytes());
                    form.files.push(FormFile { field, name: String::new(), content });
                }
            }
            continue;
        };
        let mut writer = BlobWriter::new(&settings.spool);
        while let Some(piece) = part.chunk().await.map_err(broken)? {
            saw();
            writer.push(&piece).map_err(|error| {
                warn!(error = %error, "a large file of the request cannot be written to STATE_DIR");
                Failure::internal()
            })?;
        }
        let content = writer.finish();
        file_bytes += content.in_memory().map_or(0, Bytes::len);
        share.grow_to(text_bytes + file_bytes)?;
        form.files.push(FormFile { field, name, content });
    }
    Ok(form)
}
