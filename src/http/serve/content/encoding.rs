//! The `Content-Encoding` of bodies.

use std::io;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures_util::TryStreamExt as _;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::chat::failure::Failure;
use crate::http::serve::socket::drain::Drain;

/// The encodings that are read.
const READ: &str = "gzip,zstd";
/// Bytes that are decoded at once.
const PIECE_BYTES: usize = 16 * 1024;

/// Hands a body on decoded; its encoding may be in any case or spelling (`GZIP`, `x-gzip`). A body may be several
/// compressed ones, one after the other, as parallel compressors and `cat` make them.
///
/// # Errors
/// 415 for any other encoding, or for several on top of each other.
#[expect(clippy::result_large_err, reason = "a refusal is moved once, and the request is as large")]
pub(crate) fn decode(mut request: Request) -> Result<Request, Response> {
    if !request.headers().contains_key(CONTENT_ENCODING) {
        return Ok(request);
    }
    let named: Vec<String> = request
        .headers()
        .get_all(CONTENT_ENCODING)
        .into_iter()
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !matches!(name.as_str(), "" | "identity"))
        .collect();
    let read: fn(Body) -> Body = match named.as_slice() {
        [] => |body| body,
        [name] if matches!(name.as_str(), "gzip" | "x-gzip") => gunzipped,
        [name] if name == "zstd" => unzstd,
        _ => {
            Drain::refuse(request);
            return Err(([(ACCEPT_ENCODING, READ)], Failure::unsupported_encoding()).into_response());
        }
    };
    request.headers_mut().remove(CONTENT_ENCODING);
    if !named.is_empty() {
        // It is the length of what is compressed.
        request.headers_mut().remove(CONTENT_LENGTH);
    }
    Ok(request.map(read))
}

fn gunzipped(body: Body) -> Body {
    let mut decoder = GzipDecoder::new(StreamReader::new(body.into_data_stream().map_err(io::Error::other)));
    decoder.multiple_members(true);
    Body::from_stream(ReaderStream::with_capacity(decoder, PIECE_BYTES))
}

fn unzstd(body: Body) -> Body {
    let mut decoder = ZstdDecoder::new(StreamReader::new(body.into_data_stream().map_err(io::Error::other)));
    decoder.multiple_members(true);
    Body::from_stream(ReaderStream::with_capacity(decoder, PIECE_BYTES))
}
