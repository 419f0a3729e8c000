//! Files of a prompt: what a caller sent, the checks, and the fields by which the upstream names an uploaded file.

use std::fmt;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};

use image::ImageReader;

use crate::files::blob::Blob;
use crate::files::media_type::{MEGABYTE, MediaType};
use crate::files::picture;

pub(crate) use crate::files::media_type::MediaKind;

/// Most pixels of one picture: more is a decompression bomb, or useless to a model that scales it down.
pub(crate) const PIXELS_MAX: u64 = 64_000_000;
/// The most pixels of a side of a picture.
pub(crate) const SIDE_MAX: u32 = 16_384;

/// Bytes at the beginning of a file that tell its type.
const HEAD_BYTES: usize = 8192;
/// Bytes at the end of a GIF among which its last mark has to be.
const TAIL_BYTES: u64 = 64 * 1024;
/// Longest name that is handed on, in characters.
const NAME_CHARS_MAX: usize = 100;

/// A checked file of the caller: its type comes from its bytes, and it is within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Path of its field in the body, such as `messages[0].content[1]`; errors name it.
    pub at: String,
    /// The caller's name without folders and special characters, at most 128 characters, with the ending of its type.
    pub name: String,
    /// Picture, video, audio or document.
    pub kind: MediaKind,
    /// Media type by its bytes, such as `image/png`.
    pub content_type: String,
    /// All bytes of the file.
    pub content: Blob,
}

/// Faults of a file, to be reported after the name of its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// The file has no bytes.
    Empty,
    /// More bytes than this limit.
    TooLarge(u64),
    /// Not of the kind that the field is for, or of no supported format.
    Unsupported(String),
    /// Its head cannot be read, or its end is missing.
    Broken,
    /// A picture with sides of this many pixels: width, height.
    TooManyPixels(u32, u32),
}

impl Attachment {
    /// Checks the bytes of a file that came as `kind`. Reads the head and the end, never the whole.
    ///
    /// # Errors
    /// [`FileFault`]. A disk that cannot be read counts as a broken file.
    pub fn check(at: &str, label: &str, kind: MediaKind, content: Blob) -> Result<Self, FileFault> {
        if content.is_empty() {
            return Err(FileFault::Empty);
        }
        if content.len() > kind.bytes_max() {
            return Err(FileFault::TooLarge(kind.bytes_max()));
        }
        let head = content.head(HEAD_BYTES).map_err(|_| FileFault::Broken)?;
        let found = MediaType::of_bytes(&head, label);
        let media_type = match found {
            Some(found) if found.kind == kind => found,
            Some(found) => return Err(FileFault::Unsupported(found.essence)),
            None => return Err(FileFault::Unsupported(String::new())),
        };
        if kind == MediaKind::Image {
            check_picture(&content, &media_type)?;
        }
        let name = file_name(label, &media_type.extension);
        Ok(Self { at: at.to_owned(), name, kind, content_type: media_type.essence, content })
    }
}

/// Reads the size of a picture and looks for its end, without unpacking anything: a bomb costs nothing, and a torn
/// file is not handed on.
fn check_picture(content: &Blob, media_type: &MediaType) -> Result<(), FileFault> {
    let size = match media_type.extension.as_str() {
        "png" => picture::png(content.reader()).ok().flatten(),
        "jpg" => picture::jpeg(content.reader()).ok().flatten(),
        other => header_size(content).filter(|_| other != "gif" || has_gif_end(content)),
    };
    let (width, height) = size.filter(|(width, height)| *width > 0 && *height > 0).ok_or(FileFault::Broken)?;
    if width > SIDE_MAX || height > SIDE_MAX || u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(FileFault::TooManyPixels(width, height));
    }
    Ok(())
}

/// The size in the header, for formats that have all of it at their beginning.
fn header_size(content: &Blob) -> Option<(u32, u32)> {
    let mut reader = ImageReader::new(BufReader::new(content.reader())).with_guessed_format().ok()?;
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(16 * MEGABYTE);
    reader.limits(limits);
    reader.into_dimensions().ok()
}

fn has_gif_end(content: &Blob) -> bool {
    let start = content.len().saturating_sub(TAIL_BYTES);
    let mut reader = content.reader();
    let mut tail = Vec::new();
    let is_read = reader.seek(SeekFrom::Start(start)).is_ok() && reader.read_to_end(&mut tail).is_ok();
    is_read && memchr::memchr(0x3b, &tail).is_some()
}

/// The bytes of a file, or the address to fetch them from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobFile {
    /// The bytes are here and were checked.
    Ready(Attachment),
    /// The bytes have to be fetched from another server.
    Remote(RemoteFile),
    /// A link that the upstream itself gave out: it can read it as it is.
    Link(RemoteFile),
}

/// A file that a caller named by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Path of its field in the body, as in [`Attachment::at`].
    pub at: String,
    /// The name without an ending, or as the caller gave it.
    pub label: String,
    /// The kind that the content has to be of.
    pub kind: MediaKind,
    /// URL of the file: http or https.
    pub url: String,
}

impl JobFile {
    /// Picture, video, audio or document.
    #[must_use]
    pub fn kind(&self) -> MediaKind {
        match self {
            Self::Ready(file) => file.kind,
            Self::Remote(file) | Self::Link(file) => file.kind,
        }
    }

    /// Path of its field in the body, as in [`Attachment::at`].
    #[must_use]
    pub fn at(&self) -> &str {
        match self {
            Self::Ready(file) => &file.at,
            Self::Remote(file) | Self::Link(file) => &file.at,
        }
    }
}

/// A file as the upstream has it. It belongs to the account that uploaded it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UploadedFile {
    /// The upstream's id of the file, from its STS credential.
    pub file_id: String,
    /// The signed link that the upstream gave, query included. It is a secret until it expires.
    pub url: String,
    /// The account's id, from the file's path; `None` for a guest.
    pub user_id: Option<String>,
    /// Name of the file, as in [`Attachment::name`].
    pub name: String,
    /// Kind of the file, as in [`Attachment::kind`].
    pub kind: MediaKind,
    /// Media type of the file, as in [`Attachment::content_type`].
    pub content_type: String,
    /// Its size in bytes.
    pub size: u64,
}

impl fmt::Debug for UploadedFile {
    /// Without the link, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadedFile").field("file_id", &self.file_id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The name without folders and ending. Letters and digits of every script, spaces and most signs stay; control and
/// direction characters, quotes, brackets of markup and what Windows forbids become `_`.
#[must_use]
pub(crate) fn safe_stem(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
    let is_plain = |c: char| match c {
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => false,
        _ => !c.is_control() && !"\"'`<>&|*:".contains(c),
    };
    let safe: String = stem.chars().map(|c| if is_plain(c) { c } else { '_' }).take(NAME_CHARS_MAX).collect();
    let safe = safe.trim_matches(|c: char| c == '.' || c.is_whitespace()).to_owned();
    safe.chars().any(char::is_alphanumeric).then_some(safe)
}

fn file_name(label: &str, extension: &str) -> String {
    format!("{}.{extension}", safe_stem(label).unwrap_or_else(|| "file".to_owned()))
}
