//! Content parts that carry files: every form in which clients send pictures, videos, sound and documents.

use serde_json::{Map, Value};

use crate::chat::error::{RequestError, path};
use crate::chat::file_part::FilePart;
use crate::files::media_type::MediaKind;

/// Reads a part of one of the types for files; `None` for any other type.
pub(crate) fn file_part<'a>(
    at: &str,
    word: &str,
    map: &'a Map<String, Value>,
) -> Option<Result<FilePart<'a>, RequestError>> {
    let kind = match word {
        "image_url" | "image" | "input_image" => Some(MediaKind::Image),
        "video_url" | "video" | "input_video" => Some(MediaKind::Video),
        "audio_url" | "audio" | "input_audio" => Some(MediaKind::Audio),
        "file" | "input_file" => None,
        _ => return None,
    };
    Some(read_part(at, word, kind, map))
}

fn read_part<'a>(
    at: &str,
    word: &str,
    kind: Option<MediaKind>,
    map: &'a Map<String, Value>,
) -> Result<FilePart<'a>, RequestError> {
    let text = |map: &'a Map<String, Value>, name: &str| map.get(name).and_then(Value::as_str);
    // The payload stands under the part's own type, under another usual name, or in the part itself.
    let nested = [word, "image_url", "video_url", "source"].into_iter().find_map(|name| map.get(name));
    let inner = match nested {
        Some(Value::Object(inner)) => inner,
        Some(Value::String(payload)) => {
            let name = text(map, "filename").or_else(|| text(map, "name"));
            return Ok(FilePart { payload, kind, claim: None, name, is_bare: false });
        }
        Some(Value::Null) | None => map,
        Some(other) => return Err(RequestError::invalid_type(&path(at, word), "an object", other)),
    };
    let inner_at = if std::ptr::eq(inner, map) { at.to_owned() } else { path(at, word) };
    let name = text(inner, "filename").or_else(|| text(inner, "name")).or_else(|| text(map, "filename"));
    let claim = text(inner, "media_type").or_else(|| text(inner, "mime_type"));
    for (field, is_bare) in
        [("url", false), ("data", true), ("file_data", true), ("file_url", false), ("b64_json", true)]
    {
        match inner.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::String(payload)) => return Ok(FilePart { payload, kind, claim, name, is_bare }),
            Some(other) => return Err(RequestError::invalid_type(&path(&inner_at, field), "a string", other)),
        }
    }
    if inner.get("file_id").is_some_and(|id| !id.is_null()) {
        let why = "There are no stored files here; send the file itself in 'file_data' or by its address.";
        return Err(RequestError::unsupported(&path(&inner_at, "file_id"), why));
    }
    let field = match word {
        "file" | "input_file" => "file_data",
        "input_audio" | "input_video" => "data",
        "input_image" => "image_url",
        _ => "url",
    };
    Err(RequestError::missing(&path(&inner_at, field)))
}
