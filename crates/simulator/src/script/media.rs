//! The parts of a [`ScriptedReply`](crate::script::reply::ScriptedReply) that uploads, the document parser,
//! pictures and videos obey.

use serde::Deserialize;

/// Lifetimes of the STS credentials and the signed link that an upload gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrantScript {
    /// Lifetime of the STS credentials in seconds; 0: expired at once. Left out: 3,600.
    pub grant_seconds: u64,
    /// Lifetime of the signed link in seconds. Left out: 300.
    pub link_seconds: u64,
}

/// An upload that is not read to its end. It happens only to one that is signed well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutScript {
    /// After at least this many bytes of the body; a body that ends earlier stops at its end.
    #[serde(default)]
    pub after_bytes: u64,
    /// What the storage does after that many bytes.
    pub how: PutStop,
}

/// What happens in the middle of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PutStop {
    /// Nothing more is read and nothing answered. That the client left is noticed only when the simulator stops; a
    /// long `delay_ms` reads everything, answers nothing and notices it at once.
    Hang,
    /// The connection is reset.
    Close,
}

/// How the parser answers polls for one file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParseScript {
    /// Polls answered before the end: the first with `pending`, the others with `running`. Left out: 2.
    pub polls: u32,
    /// The state in which parsing ends. Left out: [`ParseEnd::Success`].
    pub end: ParseEnd,
}

/// The state in which parsing ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParseEnd {
    /// `success`: the document can go with a message.
    #[default]
    Success,
    /// `failed`, with this `error_msg`.
    Failed(String),
    /// `pending` at every poll.
    Pending,
    /// `pending` at the first poll, then `running` at every poll.
    Running,
}

/// What a completion of chat type `t2i` or `image_edit` makes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PictureScript {
    /// Number of pictures. Left out: as many as the prompt says (`two pictures`, `3 images`), else one.
    pub count: Option<usize>,
    /// Keep-alive frames before the first picture. Left out: 2.
    pub keep_alives: usize,
    /// How the stream carries the pictures.
    pub form: PictureForm,
    /// The stream has none of them and finishes, but the chat's own record has them all.
    pub lost: bool,
    /// Reads of the chat that still show no picture after the stream has ended.
    pub late_reads: u32,
}

/// How a stream carries pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureForm {
    /// Phase `image_gen`, a frame for each.
    #[default]
    ImageGen,
    /// A tool call and its result in phase `image_edit_tool`, with `extra.image_list`; then an ordinary answer.
    EditTool,
    /// Links in phase `answer`, one on each line.
    Answer,
    /// Not at all: the stream's `answer` is said in phase `answer`, as when the model declines.
    Text,
}

/// What a completion of chat type `t2v` or `i2v` makes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VideoScript {
    /// Polls answered with `running` before the end. Left out: 2.
    pub polls: u32,
    /// The state in which the making ends. Left out: [`VideoEnd::Success`].
    pub end: VideoEnd,
    /// Approximate size of the file in bytes. Left out: 4,096.
    pub bytes: usize,
    /// The video is begun, but the connection is reset before anything is answered.
    pub lost: bool,
    /// The video is begun, but something in front of the upstream answers with a page of this status.
    pub hidden_by: Option<u16>,
}

/// The state in which the making of a video ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VideoEnd {
    /// `success`, with a link to the file.
    #[default]
    Success,
    /// `failed`, with this `message`.
    Failed(String),
    /// The task is `Not_Found`.
    Vanished,
    /// `running` at every poll.
    Stalled,
}

impl Default for GrantScript {
    fn default() -> Self {
        Self { grant_seconds: 3_600, link_seconds: 300 }
    }
}

impl Default for ParseScript {
    fn default() -> Self {
        Self { polls: 2, end: ParseEnd::Success }
    }
}

impl Default for PictureScript {
    fn default() -> Self {
        Self { count: None, keep_alives: 2, form: PictureForm::ImageGen, lost: false, late_reads: 0 }
    }
}

impl Default for VideoScript {
    fn default() -> Self {
        Self { polls: 2, end: VideoEnd::Success, bytes: 4_096, lost: false, hidden_by: None }
    }
}
