//! A file as a caller sends it: a `data:` URI, an address, or bare base64.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::chat::error::{RequestError, RequestErrorKind};
use crate::files::attachment::{Attachment, FileFault, JobFile, RemoteFile};
use crate::files::blob::Blob;
use crate::files::media_type::{MediaKind, MediaType};

/// The longest address that is fetched.
pub(crate) const URL_CHARS_MAX: usize = 2048;

/// Stands for bytes that were taken out of the body while it was read: this and the place in the list of blobs.
/// Written by a caller, it can only name bytes of the same request.
pub(crate) const LIFTED_PREFIX: &str = "\u{0}lifted:";

/// A part that carries a file, its payload not looked at yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FilePart<'a> {
    /// The payload: a `data:` URI, an address, or bare base64 where the field is for that.
    pub(crate) payload: &'a str,
    /// Kind that the part has to be of; `None` if the field takes any.
    pub(crate) kind: Option<MediaKind>,
    /// The type that the part itself claims beside the payload.
    pub(crate) claim: Option<&'a str>,
    /// The name that the caller gave.
    pub(crate) name: Option<&'a str>,
    /// Whether the payload may be bare base64.
    pub(crate) is_bare: bool,
}

impl FilePart<'_> {
    /// The kind of the file, as far as its name and claims tell.
    pub(crate) fn likely_kind(&self) -> MediaKind {
        let claim = data_uri(self.payload).map(|(claim, _)| claim).or(self.claim);
        let by_name = || {
            let name = self.name.or_else(|| is_address(self.payload).then(|| last_segment(self.payload)))?;
            let kind = mime_guess::from_path(name).first_raw().and_then(MediaType::claimed_kind)?;
            // `main.ts` is source code, and no format of a video that could be sent.
            Some(if kind.has_format(name) { kind } else { MediaKind::Document })
        };
        self.kind.or_else(|| claim.and_then(MediaType::claimed_kind)).or_else(by_name).unwrap_or(MediaKind::Document)
    }

    /// The file itself, decoded and checked, or its address, checked as far as that can be done here.
    ///
    /// # Errors
    /// An error about the file, under the name `at`.
    pub(crate) fn load(&self, at: &str, label: &str, lifted: &[Blob]) -> Result<JobFile, RequestError> {
        let kind = self.likely_kind();
        if is_address(self.payload) {
            if self.payload.len() > URL_CHARS_MAX {
                return Err(RequestError::invalid_value(
                    at,
                    &format!("an address of at most {URL_CHARS_MAX} characters"),
                ));
            }
            let url = self.payload.to_owned();
            return Ok(JobFile::Remote(RemoteFile { at: at.to_owned(), label: label.to_owned(), kind, url }));
        }
        let (claim, encoded) = match data_uri(self.payload) {
            Some((claim, Some(encoded))) => (Some(claim), encoded),
            Some((_, None)) => return Err(RequestError::invalid_value(at, "a data URI with ';base64,' in it")),
            None if self.is_bare => (self.claim, self.payload),
            None => {
                return Err(RequestError::invalid_value(at, "a 'data:' URI with base64 in it, or an 'https:' address"));
            }
        };
        let claimed = claim.and_then(MediaType::claimed_kind);
        if let (Some(wanted), Some(claimed)) = (self.kind, claimed)
            && wanted != claimed
        {
            return Err(file_error(at, wanted, &FileFault::Unsupported(claim.unwrap_or_default().to_owned())));
        }
        let content = match encoded.strip_prefix(LIFTED_PREFIX) {
            Some(place) => {
                let blob = place.parse::<usize>().ok().and_then(|place| lifted.get(place));
                blob.cloned().ok_or_else(|| file_error(at, kind, &FileFault::Broken))?
            }
            None => decoded(at, kind, encoded)?,
        };
        // A field that takes anything says nothing of the kind, and claims are often guesses by the name's ending
        // (`main.ts` as `video/mp2t`): the bytes decide.
        let found = match (self.kind, content.head(8192)) {
            (None, Ok(head)) => MediaType::of_bytes(&head, self.name.unwrap_or(label)).map(|found| found.kind),
            (_, _) => None,
        };
        let kind = found.unwrap_or(kind);
        let named = self.name.filter(|_| kind == MediaKind::Document).unwrap_or(label);
        let checked = Attachment::check(at, named, kind, content);
        checked.map(JobFile::Ready).map_err(|fault| file_error(at, kind, &fault))
    }
}

fn decoded(at: &str, kind: MediaKind, encoded: &str) -> Result<Blob, RequestError> {
    // Mail programs and `base64` of a shell wrap lines.
    let encoded: Cow<'_, str> = if encoded.contains(|c: char| c.is_ascii_whitespace()) {
        encoded.chars().filter(|c| !c.is_ascii_whitespace()).collect()
    } else {
        encoded.into()
    };
    if (encoded.len() / 4).saturating_mul(3) as u64 > kind.bytes_max() + 2 {
        return Err(file_error(at, kind, &FileFault::TooLarge(kind.bytes_max())));
    }
    match STANDARD.decode(encoded.as_bytes()) {
        Ok(bytes) => Ok(Blob::from(bytes)),
        Err(_) => Err(RequestError::new(
            RequestErrorKind::InvalidFile,
            at,
            format!("The {} in '{at}' is not valid base64 (standard alphabet, padded).", kind.noun()),
        )),
    }
}

/// The fault of a file, in words for its caller.
#[must_use]
pub(crate) fn file_error(at: &str, kind: MediaKind, fault: &FileFault) -> RequestError {
    use RequestErrorKind as Kind;
    let noun = kind.noun();
    let (error, why) = match fault {
        FileFault::Empty => (Kind::InvalidFile, "is empty".to_owned()),
        FileFault::TooLarge(limit) => (Kind::FileTooLarge, format!("is larger than {limit} bytes")),
        FileFault::Unsupported(found) => {
            let found: String = found.chars().filter(|c| !c.is_control()).take(80).collect();
            let found = if found.is_empty() { "nothing that is known".to_owned() } else { format!("'{found}'") };
            let formats = kind.formats();
            (Kind::UnsupportedFile, format!("is {found}, not a {noun} of a supported format ({formats})"))
        }
        FileFault::Broken => (Kind::InvalidFile, "is damaged or incomplete".to_owned()),
        FileFault::TooManyPixels(width, height) => {
            (Kind::FileTooLarge, format!("has {width} by {height} pixels, which is more than can be handed on"))
        }
    };
    RequestError::new(error, at, format!("The {noun} in '{at}' {why}."))
}

/// `data:[type][;name=value]*[;base64],…` into the type and, if it is base64, what is encoded.
fn data_uri(payload: &str) -> Option<(&str, Option<&str>)> {
    let (scheme, rest) = payload.split_at_checked(5)?;
    if !scheme.eq_ignore_ascii_case("data:") {
        return None;
    }
    let Some((head, encoded)) = rest.split_once(',') else {
        return Some(("", None));
    };
    let claim = head.split(';').next().unwrap_or_default();
    let is_base64 = head.rsplit(';').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("base64"));
    Some((claim, is_base64.then_some(encoded)))
}

fn is_address(payload: &str) -> bool {
    let starts = |scheme: &str| payload.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    starts("http://") || starts("https://")
}

fn last_segment(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

/// The addresses of Markdown pictures in a text, in order: `![any](address)`.
pub(crate) fn markdown_pictures(text: &str) -> impl Iterator<Item = &str> {
    text.split("![").skip(1).filter_map(|after| {
        let (_, target) = after.split_once("](")?;
        let target = target.split([')', '\n']).next()?.split_whitespace().next()?;
        let is_picture = is_address(target) || data_uri(target).is_some();
        is_picture.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_in_markdown() {
        let found = |text| markdown_pictures(text).collect::<Vec<_>>();
        assert_eq!(
            found("a ![x](https://e.org/1.png) b ![](http://e.org/2.png \"t\")!"),
            ["https://e.org/1.png", "http://e.org/2.png"]
        );
        assert_eq!(found("[x](https://e.org/1.png) ![x] (y) ![x](file:///etc) ![x]("), [""; 0]);
        assert_eq!(found("![a](data:image/png;base64,AA==)"), ["data:image/png;base64,AA=="]);
    }

    #[test]
    fn data_uris() {
        for (payload, expected) in [
            ("data:image/png;base64,AA==", Some(("image/png", Some("AA==")))),
            ("DATA:image/png;charset=x;BASE64,AA==", Some(("image/png", Some("AA==")))),
            ("data:;base64,", Some(("", Some("")))),
            ("data:image/png,%89", Some(("image/png", None))),
            ("data:image/png;base64", Some(("", None))),
            ("https://e.org", None),
            ("dat", None),
        ] {
            assert_eq!(data_uri(payload), expected, "{payload}");
        }
    }
}
