//! How files come in and what is made of a prompt: the parts of a [`ScriptedReply`](crate::script::reply::ScriptedReply) that
//! uploads, pictures and videos look at.

use serde::Deserialize;

/// What the right to upload is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrantScript {
    /// How long its keys are good; 0: their time is over at once.
    pub grant_seconds: u64,
    /// How long the signed link is good.
    pub link_seconds: u64,
}

/// An upload that is not read to its end. It happens only to one that is signed well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutScript {
    /// After at least this many bytes of the body; a body that ends earlier stops at its end.
    #[serde(default)]
    pub after_bytes: u64,
    /// What happens then.
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

/// How a file is parsed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParseScript {
    /// How many questions are answered before the end: the first with `pending`, the others with `running`.
    pub polls: u32,
    /// How it ends.
    pub end: ParseEnd,
}

/// How parsing ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParseEnd {
    /// `success`.
    #[default]
    Success,
    /// `failed`, with this `error_msg`.
    Failed(String),
    /// `pending` for ever.
    Pending,
    /// `running` for ever, after one `pending`.
    Running,
}

/// What a completion of chat type `t2i` or `image_edit` makes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PictureScript {
    /// How many pictures. Left out: as many as the prompt says (`two pictures`, `3 images`), else one.
    pub count: Option<usize>,
    /// How many keep-alive frames come before them.
    pub keep_alives: usize,
    /// How they are written.
    pub form: PictureForm,
    /// The stream has none of them and finishes, but the chat's own record has them all.
    pub lost: bool,
    /// How often the chat's own record is read before it has them.
    pub late_reads: u32,
}

/// How pictures are written in a stream.
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
    /// How many questions are answered with `running` before the end.
    pub polls: u32,
    /// How it ends.
    pub end: VideoEnd,
    /// About how large the file is.
    pub bytes: usize,
    /// The video is begun, but the connection is reset before anything is answered.
    pub lost: bool,
    /// The video is begun, but something in front of the upstream answers with a page of this status.
    pub hidden_by: Option<u16>,
}

/// How the making of a video ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VideoEnd {
    /// `success`, and a link.
    #[default]
    Success,
    /// `failed`, with this `message`.
    Failed(String),
    /// The task is `Not_Found`.
    Vanished,
    /// `running` for ever.
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
