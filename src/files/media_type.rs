//! The type of a file, by its first bytes. Names and claims only tell kinds of text apart.

/// The most pictures of one turn. With [`IMAGE_BYTES_MAX`] and the others: what the site's own page allows.
pub(crate) const IMAGES_MAX: usize = 5;
/// The most bytes of one picture.
pub(crate) const IMAGE_BYTES_MAX: u64 = 20 * MEGABYTE;
/// The most documents of one turn.
pub(crate) const DOCUMENTS_MAX: usize = 5;
/// The most bytes of one document.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 20 * MEGABYTE;
/// The most videos of one turn.
pub(crate) const VIDEOS_MAX: usize = 1;
/// The most bytes of one video.
pub(crate) const VIDEO_BYTES_MAX: u64 = 500 * MEGABYTE;
/// The most sounds of one turn.
pub(crate) const AUDIOS_MAX: usize = 1;
/// The most bytes of one sound.
pub(crate) const AUDIO_BYTES_MAX: u64 = 100 * MEGABYTE;

pub(crate) const MEGABYTE: u64 = 1_000_000;

/// The kinds of files that the upstream tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    Image,
    /// A video, with or without sound.
    Video,
    Audio,
    /// A text or office document.
    Document,
}

impl MediaKind {
    /// Noun for messages: `picture`, `video`, `sound` or `document`.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Image => "picture",
            Self::Video => "video",
            Self::Audio => "sound",
            Self::Document => "document",
        }
    }

    /// Most files of this kind in one turn.
    #[must_use]
    pub fn count_max(self) -> usize {
        match self {
            Self::Image => IMAGES_MAX,
            Self::Video => VIDEOS_MAX,
            Self::Audio => AUDIOS_MAX,
            Self::Document => DOCUMENTS_MAX,
        }
    }

    /// Most bytes of one file of this kind.
    #[must_use]
    pub fn bytes_max(self) -> u64 {
        match self {
            Self::Image => IMAGE_BYTES_MAX,
            Self::Video => VIDEO_BYTES_MAX,
            Self::Audio => AUDIO_BYTES_MAX,
            Self::Document => DOCUMENT_BYTES_MAX,
        }
    }

    /// Whether the ending of a name is that of a format of this kind that the upstream takes.
    #[must_use]
    pub fn has_format(self, name: &str) -> bool {
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
        // Further endings that people write.
        let ending = match ending.as_str() {
            "jpeg" | "jpe" => "jpg",
            "tif" => "tiff",
            "m4v" => "mp4",
            "wave" => "wav",
            "asf" => "wmv",
            other => other,
        };
        self.formats().split(", ").any(|format| format == ending)
    }

    /// The endings of the formats that the upstream takes.
    #[must_use]
    pub fn formats(self) -> &'static str {
        match self {
            Self::Image => "png, jpg, webp, gif, bmp, tiff, ico",
            Self::Video => "mp4, mov, avi, mkv, wmv, flv",
            Self::Audio => "mp3, wav, aac, m4a, amr",
            Self::Document => "pdf, doc, docx, xls, xlsx, pptx, csv, epub, md, txt, source code",
        }
    }
}

/// A format that the upstream takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType {
    /// Picture, video, audio or document.
    pub kind: MediaKind,
    /// Media type, such as `image/png`.
    pub essence: String,
    /// The ending of its files, without the dot.
    pub extension: String,
}

/// Formats with a signature: the type as `infer` calls it, the type as the upstream does, the ending, the kind.
const FORMATS: &[(&str, &str, &str, MediaKind)] = &[
    ("image/png", "image/png", "png", MediaKind::Image),
    ("image/jpeg", "image/jpeg", "jpg", MediaKind::Image),
    ("image/webp", "image/webp", "webp", MediaKind::Image),
    ("image/gif", "image/gif", "gif", MediaKind::Image),
    ("image/bmp", "image/bmp", "bmp", MediaKind::Image),
    ("image/tiff", "image/tiff", "tiff", MediaKind::Image),
    ("image/vnd.microsoft.icon", "image/x-icon", "ico", MediaKind::Image),
    ("video/mp4", "video/mp4", "mp4", MediaKind::Video),
    ("video/x-m4v", "video/mp4", "mp4", MediaKind::Video),
    ("video/quicktime", "video/quicktime", "mov", MediaKind::Video),
    ("video/x-msvideo", "video/x-msvideo", "avi", MediaKind::Video),
    ("video/x-matroska", "video/x-matroska", "mkv", MediaKind::Video),
    ("video/x-ms-wmv", "video/x-ms-wmv", "wmv", MediaKind::Video),
    ("video/x-ms-asf", "video/x-ms-wmv", "wmv", MediaKind::Video),
    ("video/x-flv", "video/x-flv", "flv", MediaKind::Video),
    ("audio/mpeg", "audio/mpeg", "mp3", MediaKind::Audio),
    ("audio/x-wav", "audio/wav", "wav", MediaKind::Audio),
    ("audio/aac", "audio/aac", "aac", MediaKind::Audio),
    ("audio/m4a", "audio/mp4", "m4a", MediaKind::Audio),
    ("audio/amr", "audio/amr", "amr", MediaKind::Audio),
    ("application/pdf", "application/pdf", "pdf", MediaKind::Document),
    ("application/msword", "application/msword", "doc", MediaKind::Document),
    ("application/vnd.ms-excel", "application/vnd.ms-excel", "xls", MediaKind::Document),
    (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "docx",
        MediaKind::Document,
    ),
    (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xlsx",
        MediaKind::Document,
    ),
    (
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "pptx",
        MediaKind::Document,
    ),
    ("application/epub+zip", "application/epub+zip", "epub", MediaKind::Document),
];

/// Office formats that are archives or compound files, whose signature may tell no more than that.
const BY_NAME: &[&str] = &["docx", "xlsx", "pptx", "epub", "ofd", "doc", "xls"];

impl MediaType {
    /// The type of a file with these first bytes. `name` decides only between formats that begin alike: archives
    /// of office programs, and text.
    #[must_use]
    pub(crate) fn of_bytes(head: &[u8], name: &str) -> Option<Self> {
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        let ending = ending.filter(|ending| !ending.is_empty() && ending.bytes().all(|b| b.is_ascii_alphanumeric()));
        let found = infer::get(head).map(|found| found.mime_type());
        let known = found.and_then(|found| FORMATS.iter().find(|(word, ..)| *word == found));
        // Signatures of two letters are also beginnings of words; but the content of a picture or a sound is not text.
        let is_word = |kind: MediaKind| kind != MediaKind::Document && is_text(head);
        if let Some((_, essence, extension, kind)) = known.filter(|(.., kind)| !is_word(*kind)) {
            return Some(Self { kind: *kind, essence: (*essence).to_owned(), extension: (*extension).to_owned() });
        }
        let is_container = matches!(found, Some("application/zip" | "application/x-ole-storage"));
        if is_container {
            let ending = ending.filter(|ending| BY_NAME.contains(&ending.as_str()))?;
            let essence = mime_guess::from_ext(&ending).first_raw().unwrap_or("application/octet-stream");
            return Some(Self { kind: MediaKind::Document, essence: essence.to_owned(), extension: ending });
        }
        if !is_text(head) {
            return None;
        }
        // Source code of any language is text to read; a type that is not text would be taken for something else.
        let guessed = ending.as_deref().and_then(|ending| mime_guess::from_ext(ending).first_raw());
        let essence = guessed.filter(|guessed| guessed.starts_with("text/")).unwrap_or("text/plain");
        Some(Self {
            kind: MediaKind::Document,
            essence: essence.to_owned(),
            extension: ending.filter(|ending| ending.len() <= 10).unwrap_or_else(|| "txt".to_owned()),
        })
    }

    /// The kind that a media type claims, by its first word. `None` if it is empty or a placeholder such as `undefined`
    /// or `None` of a client that did not know the type.
    #[must_use]
    pub(crate) fn claimed_kind(essence: &str) -> Option<MediaKind> {
        let essence = essence.trim().to_ascii_lowercase();
        match essence.split('/').next().unwrap_or_default() {
            "image" => Some(MediaKind::Image),
            "video" => Some(MediaKind::Video),
            "audio" => Some(MediaKind::Audio),
            word if word == essence && word.len() <= WORD_BYTES_MAX => None,
            _ if essence == "application/octet-stream" || essence == "binary/octet-stream" => None,
            _ => Some(MediaKind::Document),
        }
    }
}

/// The longest claim that counts as a mere word.
const WORD_BYTES_MAX: usize = 20;

/// UTF-8 without control characters that no text has; the last character may be cut.
fn is_text(head: &[u8]) -> bool {
    let readable = match str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(head.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !readable.is_empty() && !readable.chars().any(|c| c.is_control() && !"\t\n\r\u{b}\u{c}\u{1b}".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[u8], name: &str, expected: &str) {
        let found = MediaType::of_bytes(head, name).map_or_else(
            || "-".to_owned(),
            |found| format!("{} {} {}", found.kind.noun(), found.essence, found.extension),
        );
        assert_eq!(found, expected, "{name} {head:?}");
    }

    #[test]
    fn bytes_decide() {
        check(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.jpg", "picture image/png png");
        check(&[0xff, 0xd8, 0xff, 0xe0, 0, 16], "", "picture image/jpeg jpg");
        check(b"GIF89a\x01\0\x01\0", "", "picture image/gif gif");
        check(b"RIFF\x24\0\0\0WEBPVP8 ", "", "picture image/webp webp");
        check(b"RIFF\x24\0\0\0WAVEfmt ", "", "sound audio/wav wav");
        check(b"RIFF\x24\0\0\0AVI LIST", "", "video video/x-msvideo avi");
        check(b"BM\x3a\0\0\0\0\0\0\0\x36\0", "", "picture image/bmp bmp");
        check(b"ID3\x04\0\0\0\0", "", "sound audio/mpeg mp3");
        check(b"#!AMR\n\0\0\0\0\0\0\0", "", "sound audio/amr amr");
        check(b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2mp41", "", "video video/mp4 mp4");
        check(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "", "video video/quicktime mov");
        check(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom", "", "sound audio/mp4 m4a");
        check(b"%PDF-1.7\n", "x.png", "document application/pdf pdf");
        check(b"PK\x03\x04aaaaaaaa", "x.zip", "-");
        check(
            b"PK\x03\x04aaaaaaaa",
            "x.docx",
            "document application/vnd.openxmlformats-officedocument.wordprocessingml.document docx",
        );
        check(b"PK\x03\x04aaaaaaaa", "x.ofd", "document application/octet-stream ofd");
    }

    #[test]
    fn text_goes_by_its_name() {
        check(b"plain words", "", "document text/plain txt");
        check("Grüße".as_bytes(), "a.md", "document text/markdown md");
        check(b"fn main() {}", "main.rs", "document text/x-rust rs");
        check(b"{\"a\":1}", "a.json", "document text/plain json");
        check(b"<html><body>", "a.png", "document text/plain png");
        check(b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "a.svg", "document text/plain svg");
        check(&"ü".as_bytes()[..1], "", "-");
        check(b"a\0b", "a.txt", "-");
        check(b"\x01\x02\x03", "a.txt", "-");
        check(b"", "a.txt", "-");
        check(b"MZ\x90\0\x03", "a.txt", "-");
        // Words that begin as formats do.
        check(b"BMI,weight\n21,70\n", "a.csv", "document text/csv csv");
        check(b"GIFs are pictures.", "a.txt", "document text/plain txt");
        check(b"ID3 is a learner of trees.", "", "document text/plain txt");
        check(b"RIFFs: WEBPages and more", "a.md", "document text/markdown md");
        check(b"%PDF-1.4\nall letters", "a.txt", "document application/pdf pdf");
    }

    #[test]
    fn claims() {
        for (essence, expected) in [
            ("image/png", Some(MediaKind::Image)),
            (" IMAGE/jpeg", Some(MediaKind::Image)),
            ("video/mp4", Some(MediaKind::Video)),
            ("audio/wav", Some(MediaKind::Audio)),
            ("text/html", Some(MediaKind::Document)),
            ("application/pdf", Some(MediaKind::Document)),
            ("application/octet-stream", None),
            ("", None),
            ("None", None),
            ("undefined", None),
            ("image", Some(MediaKind::Image)),
        ] {
            assert_eq!(MediaType::claimed_kind(essence), expected, "{essence}");
        }
    }
}
