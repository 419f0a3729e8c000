//! OpenAI's requests for videos into jobs, and what can be told of a job without a call.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::chat::aspect::Aspect;
use crate::chat::error::{RequestError, RequestErrorKind};
use crate::chat::job::{MediaJob, VIDEO_SECONDS};
use crate::chat::resolve::Rules;
use crate::chat::suffix::Product;
use crate::dialect::openai::fields::Fields;
use crate::dialect::openai::images::{NamedFile, pictures_of};
use crate::files::attachment::JobFile;
use crate::files::blob::Blob;

/// The size when none is asked for, as in OpenAI's service.
pub(crate) const SIZE_DEFAULT: &str = "1280x720";
/// The longest key for asking twice and getting one, in bytes.
pub(crate) const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// The longest text of a size.
const SIZE_BYTES_MAX: usize = 32;
/// The longest video in seconds that is taken for a wish; more is a slip.
const SECONDS_MAX: f64 = 3600.0;
/// Usual time for a video in seconds: 93 to 343 s were seen.
const TYPICAL_SECONDS: u64 = 180;
/// Largest percentage that is shown of an unfinished video.
const UNDONE_PERCENT_MAX: u64 = 95;

/// A request of `POST /v1/videos`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VideoRequest {
    model: Option<String>,
    /// The prompt: a description of the video.
    pub prompt: String,
    picture: Option<JobFile>,
    ignored: Vec<&'static str>,
    /// The size as asked, or [`SIZE_DEFAULT`].
    pub size: String,
}

impl VideoRequest {
    /// Reads the fields of a JSON body or of a form, and a form's files.
    ///
    /// # Errors
    /// The first fault found, by the field that has it.
    pub(crate) fn parse(
        fields: &Map<String, Value>,
        files: &[NamedFile<'_>],
        lifted: &[Blob],
    ) -> Result<Self, RequestError> {
        let fields = Fields(fields);
        let prompt = fields.text("prompt")?.ok_or_else(|| RequestError::missing("prompt"))?;
        if prompt.trim().is_empty() {
            return Err(RequestError::invalid_value("prompt", "a text that says what to make"));
        }
        let model = fields.text("model")?.map(str::to_owned);
        if model.as_ref().is_some_and(|model| model.trim().is_empty()) {
            return Err(RequestError::invalid_value("model", "the name of a model, or no 'model' for the default"));
        }
        let size = fields.text("size")?.map(str::trim).filter(|size| !size.is_empty()).unwrap_or(SIZE_DEFAULT);
        // It is handed back, and strict clients read it as a size.
        if size.len() > SIZE_BYTES_MAX || !is_size(size) {
            return Err(RequestError::invalid_value("size", "a size such as '1280x720'"));
        }
        let mut ignored = Vec::new();
        if let Some(seconds) = fields.get("seconds").map(seconds).transpose()?
            && seconds.to_string() != VIDEO_SECONDS
        {
            ignored.push("seconds");
        }
        let mut pictures = pictures_of(&fields, files, lifted, &["input_reference"])?;
        if pictures.len() > 1 {
            let message = "A video begins with one picture; send one 'input_reference'.".to_owned();
            return Err(RequestError::new(RequestErrorKind::TooManyFiles, "input_reference", message));
        }
        Ok(Self { model, prompt: prompt.to_owned(), picture: pictures.pop(), ignored, size: size.to_owned() })
    }

    /// The model that the caller named.
    #[must_use]
    pub(crate) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The job. Its files may still have to be fetched.
    ///
    /// # Errors
    /// The model does not exist, or its name asks for something else.
    pub(crate) fn resolve(self, rules: &Rules<'_>) -> Result<MediaJob, RequestError> {
        let model = self.model.unwrap_or_else(|| rules.default_model.to_owned());
        let spec = rules.model(&model)?;
        if matches!(spec.product, Some(Product::Image | Product::ImageEdit)) {
            return Err(RequestError::unsupported_value("model", "POST /v1/images/generations makes pictures."));
        }
        rules.can_make(&spec, Product::Video)?;
        let mut ignored = self.ignored;
        ignored.extend((spec.thinking || spec.search || spec.work.is_some()).then_some("model"));
        Ok(MediaJob {
            model,
            upstream_model: spec.base,
            product: Product::Video,
            aspect: Aspect::of(Some(&self.size), Product::Video),
            prompt: self.prompt,
            files: self.picture.into_iter().collect(),
            ignored,
        })
    }
}

/// Whether a text is two numbers with an `x` or a colon between them.
fn is_size(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once(['x', ':']).is_some_and(|(width, height)| is_number(width) && is_number(height))
}

/// A length, which forms and OpenAI's own clients send as text.
fn seconds(value: &Value) -> Result<f64, RequestError> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(RequestError::invalid_type("seconds", "a number of seconds", value));
        }
    };
    number
        .filter(|seconds| *seconds > 0.0 && *seconds <= SECONDS_MAX)
        .ok_or_else(|| RequestError::invalid_value("seconds", "a number of seconds, such as '5'"))
}

/// Hash of a request's body, by which repeated requests are recognised: fields, files and their bytes. 32 hex digits.
#[must_use]
pub(crate) fn fingerprint(fields: &Map<String, Value>, files: &[NamedFile<'_>], lifted: &[Blob]) -> String {
    let mut hash = Sha256::new();
    // Each part says how long it is, so that no two bodies are the same bytes.
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    // An object of plain values always serialises.
    part(&serde_json::to_vec(fields).unwrap_or_default());
    for (field, name, content) in files {
        part(field.as_bytes());
        part(name.as_bytes());
        part(content.hash().as_bytes());
    }
    for content in lifted {
        part(content.hash().as_bytes());
    }
    half_hex(&hash.finalize())
}

/// Hash of a caller's idempotency key for the state file. 32 hex digits.
#[must_use]
pub(crate) fn idempotency_hash(owner: &str, key: &str) -> String {
    half_hex(&Sha256::digest([b"qwen-bridge idempotency\0", owner.as_bytes(), b"\0", key.as_bytes()].concat()))
}

/// The first half of a SHA-256 as 32 hex digits.
fn half_hex(digest: &[u8]) -> String {
    base16ct::lower::encode_string(digest.get(..16).unwrap_or(digest))
}

/// Progress of a video in percent: an estimate by the time so far, at most 95. The upstream does not tell it.
#[must_use]
pub(crate) fn progress_after(seconds: u64) -> u64 {
    (seconds.saturating_mul(UNDONE_PERCENT_MAX) / TYPICAL_SECONDS).min(UNDONE_PERCENT_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: Value) -> Result<VideoRequest, RequestError> {
        VideoRequest::parse(body.as_object().unwrap(), &[], &[])
    }

    #[test]
    fn lengths() {
        for (value, is_ignored) in
            [(json!("5"), false), (json!(5), false), (json!(5.0), false), (json!("8"), true), (json!(4), true)]
        {
            let request = parse(json!({"prompt": "x", "seconds": value})).unwrap();
            assert_eq!(request.ignored, if is_ignored { vec!["seconds"] } else { vec![] }, "{value}");
        }
        for value in [json!("0"), json!(-1), json!("soon"), json!(""), json!(1e9), json!("NaN"), json!("inf")] {
            let error = parse(json!({"prompt": "x", "seconds": value})).unwrap_err();
            assert_eq!(error.kind, RequestErrorKind::InvalidValue, "{value}");
        }
        let error = parse(json!({"prompt": "x", "seconds": [5]})).unwrap_err();
        assert_eq!(error.kind, RequestErrorKind::InvalidType);
    }

    #[test]
    fn bodies_are_told_apart() {
        let one = Blob::from(b"one".to_vec());
        let other = Blob::from(b"other".to_vec());
        let fields = |prompt: &str| json!({"prompt": prompt}).as_object().unwrap().clone();
        let (cat, dog) = (fields("cat"), fields("dog"));
        let prints = [
            fingerprint(&cat, &[], &[]),
            fingerprint(&dog, &[], &[]),
            fingerprint(&cat, &[("a", "b", &one)], &[]),
            fingerprint(&cat, &[("ab", "", &one)], &[]),
            fingerprint(&cat, &[("a", "b", &other)], &[]),
            fingerprint(&cat, &[], std::slice::from_ref(&one)),
            fingerprint(&cat, &[], std::slice::from_ref(&other)),
        ];
        for (place, print) in prints.iter().enumerate() {
            assert_eq!(print.len(), 32);
            assert!(!prints[..place].contains(print), "{place}");
        }
        assert_eq!(prints[2], fingerprint(&cat, &[("a", "b", &Blob::from(b"one".to_vec()))], &[]));
    }

    #[test]
    fn estimates_only_grow_and_never_reach_the_end() {
        assert_eq!([0, 1, 90, 180, 10_000, u64::MAX].map(progress_after), [0, 0, 47, 95, 95, 95]);
    }
}
