//! Files that go with a prompt: what they are, and how the upstream names them once it has them.

use crate::blob::Blob;

/// What a file is to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A moving picture.
    Video,
    /// Sound.
    Audio,
    /// Anything to read.
    Document,
}

/// A file of the caller, checked: its type is what its bytes say, and it is within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The field that it came in, as `messages[0].content[1]`.
    pub at: String,
    /// A name that is safe everywhere: letters, digits, `.`, `-` and `_`, at most 128 characters, with the ending
    /// of its type.
    pub name: String,
    /// What it is.
    pub kind: MediaKind,
    /// Its media type, as `image/png`.
    pub content_type: String,
    /// Its bytes.
    pub content: Blob,
}

/// A file as the upstream has it. It belongs to the account that uploaded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedFile {
    /// The upstream's id.
    pub file_id: String,
    /// The signed link that the upstream gave, query included. It is a secret for as long as it lives.
    pub url: String,
    /// The account's id, from the file's path; `None` for a guest.
    pub user_id: Option<String>,
    /// As [`Attachment::name`].
    pub name: String,
    /// As [`Attachment::kind`].
    pub kind: MediaKind,
    /// As [`Attachment::content_type`].
    pub content_type: String,
    /// Its size in bytes.
    pub size: u64,
}
