//! OpenAI's requests for pictures, made and changed, into jobs.

use serde_json::{Map, Value};

use crate::chat::aspect::Aspect;
use crate::chat::error::{RequestError, RequestErrorKind, path};
use crate::chat::file_part::{FilePart, file_error};
use crate::chat::job::MediaJob;
use crate::chat::resolve::Rules;
use crate::chat::suffix::Product;
use crate::dialect::openai::fields::{Fields, integer};
use crate::files::attachment::{Attachment, JobFile};
use crate::files::blob::Blob;
use crate::files::media_type::{IMAGES_MAX, MediaKind};

/// The most pictures of one request, each of which is a turn of its own upstream.
pub(crate) const PICTURES_MAX: u32 = 4;

/// Said of a mask, which the upstream knows only as one more picture.
const MASK_PROMPT: &str = "The last picture is a mask: change only what lies under its transparent parts.";

/// A file of a form: field, name, bytes.
pub(crate) type NamedFile<'a> = (&'a str, &'a str, &'a Blob);

/// A request of `/v1/images/generations` or `/v1/images/edits`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ImagesRequest {
    model: Option<String>,
    /// The prompt: a description of the picture.
    pub prompt: String,
    size: Option<String>,
    pictures: Vec<JobFile>,
    is_edit: bool,
    ignored: Vec<&'static str>,
    /// Number of turns to make.
    pub count: u32,
    /// Whether the bytes are wanted, and not links.
    pub is_b64: bool,
}

impl ImagesRequest {
    /// Reads the fields of a JSON body or of a form, and a form's files.
    ///
    /// # Errors
    /// The first fault found, by the field that has it.
    pub(crate) fn parse(
        fields: &Map<String, Value>,
        files: &[NamedFile<'_>],
        lifted: &[Blob],
        is_edit: bool,
    ) -> Result<Self, RequestError> {
        let fields = Fields(fields);
        let prompt = fields.text("prompt")?.ok_or_else(|| RequestError::missing("prompt"))?;
        if prompt.trim().is_empty() {
            return Err(RequestError::invalid_value("prompt", "a text that says what to make"));
        }
        let count = match fields.get("n").map(number).transpose()? {
            None => 1,
            Some(count) => u32::try_from(count)
                .ok()
                .filter(|count| (1..=PICTURES_MAX).contains(count))
                .ok_or_else(|| RequestError::invalid_value("n", &format!("an integer from 1 to {PICTURES_MAX}")))?,
        };
        let is_b64 = match fields.text("response_format")? {
            None | Some("url") => false,
            Some("b64_json") => true,
            Some(_) => return Err(RequestError::invalid_value("response_format", "'url' or 'b64_json'")),
        };
        let model = fields.text("model")?.map(str::to_owned);
        if model.as_ref().is_some_and(|model| model.trim().is_empty()) {
            return Err(RequestError::invalid_value("model", "the name of a model, or no 'model' for the default"));
        }
        let is_streamed = fields.get("stream").is_some_and(|value| *value == true || value == "true");
        if is_streamed {
            return Err(RequestError::unsupported_value("stream", "Pictures come whole."));
        }
        let mut prompt = prompt.to_owned();
        let mut pictures = Vec::new();
        if is_edit {
            pictures = pictures_of(&fields, files, lifted, &["image", "images"])?;
            if pictures.is_empty() {
                return Err(RequestError::missing("image"));
            }
            let mask = pictures_of(&fields, files, lifted, &["mask"])?;
            if !mask.is_empty() {
                prompt = format!("{prompt}\n\n{MASK_PROMPT}");
                pictures.extend(mask);
            }
            if pictures.len() > IMAGES_MAX {
                let message = format!("At most {IMAGES_MAX} pictures can be sent, mask included.");
                return Err(RequestError::new(RequestErrorKind::TooManyFiles, "image", message));
            }
        }
        let unknown_here =
            ["quality", "style", "background", "moderation", "output_format", "output_compression", "input_fidelity"];
        Ok(Self {
            model,
            prompt,
            size: fields.text("size")?.map(str::to_owned),
            pictures,
            is_edit,
            ignored: unknown_here.into_iter().filter(|name| fields.get(name).is_some()).collect(),
            count,
            is_b64,
        })
    }

    /// The model that the caller named.
    #[must_use]
    pub(crate) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The job of one turn.
    ///
    /// # Errors
    /// The model does not exist, or its name asks for something else.
    pub(crate) fn resolve(self, rules: &Rules<'_>) -> Result<MediaJob, RequestError> {
        let model = self.model.unwrap_or_else(|| rules.default_model.to_owned());
        let spec = rules.model(&model)?;
        if spec.product == Some(Product::Video) {
            return Err(RequestError::unsupported_value("model", "POST /v1/videos makes videos."));
        }
        let product = if self.is_edit { Product::ImageEdit } else { Product::Image };
        rules.can_make(&spec, product)?;
        let mut ignored = self.ignored;
        ignored.extend((spec.thinking || spec.search || spec.work.is_some()).then_some("model"));
        let aspect = Aspect::of(self.size.as_deref(), product);
        Ok(MediaJob {
            model,
            upstream_model: spec.base,
            product,
            aspect,
            prompt: self.prompt,
            files: self.pictures,
            ignored,
        })
    }
}

/// A whole number, which forms send as text.
pub(crate) fn number(value: &Value) -> Result<i64, RequestError> {
    let of_text = || value.as_str().and_then(|text| text.trim().parse().ok());
    integer(value).or_else(of_text).ok_or_else(|| RequestError::invalid_type("n", "an integer", value))
}

/// The pictures under these names: files of a form, or what JSON has for them.
pub(crate) fn pictures_of(
    fields: &Fields<'_>,
    files: &[NamedFile<'_>],
    lifted: &[Blob],
    names: &[&str],
) -> Result<Vec<JobFile>, RequestError> {
    let mut pictures = Vec::new();
    for name in names {
        let label = |pictures: &Vec<JobFile>| format!("{name}-{}", pictures.len() + 1);
        // Lists of files are called `image[]` by some clients and `image[0]` by others.
        let is_named = |field: &str| field.split('[').next() == Some(*name);
        for (field, _, content) in files.iter().filter(|(field, ..)| is_named(field)) {
            let checked = Attachment::check(field, &label(&pictures), MediaKind::Image, (*content).clone());
            let checked = checked.map_err(|fault| file_error(field, MediaKind::Image, &fault))?;
            pictures.push(JobFile::Ready(checked));
        }
        let listed;
        let entries: &[Value] = match fields.get(name) {
            None => &[],
            Some(Value::Array(list)) => list,
            Some(one) => {
                listed = [one.clone()];
                &listed
            }
        };
        for (place, entry) in entries.iter().enumerate() {
            let at = if entries.len() > 1 { format!("{name}[{place}]") } else { (*name).to_owned() };
            let part = payload(&at, entry)?;
            pictures.push(part.load(&at, &label(&pictures), lifted)?);
        }
    }
    Ok(pictures)
}

fn payload<'a>(at: &str, entry: &'a Value) -> Result<FilePart<'a>, RequestError> {
    let payload = match entry {
        Value::String(payload) => Some(payload.as_str()),
        Value::Object(map) => {
            if map.get("file_id").is_some_and(|id| !id.is_null()) {
                let why = "There are no stored files here; send the picture itself or its address.";
                return Err(RequestError::unsupported(&path(at, "file_id"), why));
            }
            ["image_url", "url", "b64_json"].into_iter().find_map(|name| {
                let value = map.get(name)?;
                value.as_str().or_else(|| value.get("url")?.as_str())
            })
        }
        other => return Err(RequestError::invalid_type(at, "a data URI or an address", other)),
    };
    let payload = payload.ok_or_else(|| RequestError::missing(&path(at, "image_url")))?;
    Ok(FilePart { payload, kind: Some(MediaKind::Image), claim: None, name: None, is_bare: true })
}
