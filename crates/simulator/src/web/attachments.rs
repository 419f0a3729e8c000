//! `files[]` of a message: what may come along, and a sentence that proves what came.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::errors::INVALID_INPUT;
use crate::script::{ErrorForm, StreamError};
use crate::storage::uploads::{Grant, Kind, Object, Unfit};
use crate::web::accounts::Account;
use crate::web::catalogue;
use crate::web::stream::usage::tokens;
use crate::world::{Call, World};

/// A file that came along.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) kind: Kind,
    /// The tokens of a document, by its bytes; 0 for everything else.
    pub(crate) tokens: u64,
    /// `a.png (image/png, 1234 bytes, sha256 ab12cd34)`.
    about: String,
}

/// The files of a message, or the error that answers them.
pub(crate) fn check(
    world: &World,
    call: &Call,
    account: &Account,
    entries: &[Value],
) -> Result<Vec<Attached>, StreamError> {
    entries.iter().map(|entry| one(world, call, account, entry)).collect()
}

/// A sentence that lists the files, so that tests can tell which arrived; `None` without files.
pub(crate) fn sentence(files: &[Attached]) -> Option<String> {
    if files.is_empty() {
        return None;
    }
    let counted = |kind: Kind, word: &str| {
        let count = files.iter().filter(|file| file.kind == kind).count();
        format!("{count} {word}{}", if count == 1 { "" } else { "s" })
    };
    let [pictures, videos, sounds, documents] = [
        counted(Kind::Picture, "picture"),
        counted(Kind::Video, "video"),
        counted(Kind::Sound, "sound"),
        counted(Kind::Document, "document"),
    ];
    let names: Vec<_> = files.iter().map(|file| file.about.as_str()).collect();
    let names = names.join(", ");
    Some(format!("I can see {pictures}, {videos}, {sounds} and {documents}: {names}."))
}

fn one(world: &World, call: &Call, account: &Account, entry: &Value) -> Result<Attached, StreamError> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let url = text("url");
    let kind = match text("type") {
        "image" => Kind::Picture,
        "video" => Kind::Video,
        "audio" => Kind::Sound,
        "file" => Kind::Document,
        other => {
            world.violation(call, &format!("a file of type {other:?}"));
            return Err(invalid_input());
        }
    };
    inspect(world, call, kind, entry);
    if kind == Kind::Picture
        && let Some(picture) = world.media.linked_picture(url)
    {
        let name = url.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        return Ok(Attached::new(
            kind,
            name,
            "image/png",
            &base16ct::lower::encode_string(&Sha256::digest(&picture)),
            picture.len(),
            None,
        ));
    }
    let id = Some(text("id")).filter(|id| !id.is_empty());
    if let Some(id) = id.filter(|id| world.uploads.is_foreign(account, id)) {
        world.violation(call, &format!("message with another account's file {id}"));
        return Err(internal_error());
    }
    match world.uploads.find(account, id, url) {
        Ok((grant, object)) => {
            if grant.kind() != kind {
                let (said, announced) = (text("type"), &grant.filetype);
                world.violation(call, &format!("a file announced as {announced} sent as {said}"));
            }
            Ok(Attached::uploaded(kind, &grant, &object))
        }
        Err(Unfit::Elsewhere) => elsewhere(world, kind, url),
        Err(Unfit::Foreign) => {
            world.violation(call, &format!("message with another account's file at {url}"));
            Err(internal_error())
        }
        Err(Unfit::BadLink | Unfit::Empty | Unfit::Unparsed) => Err(invalid_input()),
    }
}

/// Links to other sites. How the site treats pictures was never measured, so they are accepted.
fn elsewhere(world: &World, kind: Kind, url: &str) -> Result<Attached, StreamError> {
    match kind {
        Kind::Document => Err(internal_error()),
        Kind::Video | Kind::Sound => Err(invalid_input()),
        Kind::Picture if !url.starts_with("https://") && !url.starts_with("http://") => Err(invalid_input()),
        Kind::Picture => {
            world.uploads.saw_foreign_link(url);
            Ok(Attached { kind, tokens: 0, about: format!("{url} (a link)") })
        }
    }
}

/// Writes down what the site itself would have written otherwise.
fn inspect(world: &World, call: &Call, kind: Kind, entry: &Value) {
    let (show_type, classes): (_, &[&str]) = match kind {
        Kind::Picture => ("image", &["vision"]),
        Kind::Video => ("video", &["video"]),
        Kind::Sound => ("audio", &["audio"]),
        Kind::Document => ("file", &["document", "file", "default"]),
    };
    for (name, allowed) in [("showType", &[show_type][..]), ("file_class", classes), ("status", &["uploaded"])] {
        let value = entry.get(name).and_then(Value::as_str).unwrap_or_default();
        if !allowed.contains(&value) {
            world.violation(call, &format!("a file of type {show_type} with {name} {value:?}"));
        }
    }
}

/// The error frame for a message with unusable files.
pub(crate) fn invalid_input() -> StreamError {
    StreamError {
        after: 1,
        code: "invalid_input".to_owned(),
        details: INVALID_INPUT.to_owned(),
        ..StreamError::default()
    }
}

fn internal_error() -> StreamError {
    StreamError {
        form: ErrorForm::Text,
        code: "internal_error".to_owned(),
        details: "Internal error!".to_owned(),
        ..StreamError::default()
    }
}

/// Records a violation for files of a kind that the model cannot read; the page of the site does not offer them.
pub(crate) fn inspect_senses(world: &World, call: &Call, model: &str, files: &[Attached]) {
    let Some((sees, hears)) = catalogue::senses(model) else {
        return;
    };
    for (kind, has_sense, what) in
        [(Kind::Picture, sees, "picture"), (Kind::Video, sees, "video"), (Kind::Sound, hears, "sound")]
    {
        if !has_sense && files.iter().any(|file| file.kind == kind) {
            world.violation(call, &format!("a {what} for {model}, which has no sense for it"));
        }
    }
}

impl Attached {
    pub(crate) fn is_picture(&self) -> bool {
        self.kind == Kind::Picture
    }

    fn new(
        kind: Kind,
        name: &str,
        content_type: &str,
        sha256: &str,
        size: impl std::fmt::Display,
        characters: Option<usize>,
    ) -> Self {
        let start = sha256.get(..8).unwrap_or(sha256);
        let characters = characters.map_or_else(String::new, |count| format!(", {count} characters"));
        Self { kind, tokens: 0, about: format!("{name} ({content_type}, {size} bytes, sha256 {start}{characters})") }
    }

    fn uploaded(kind: Kind, grant: &Grant, object: &Object) -> Self {
        let is_text = kind == Kind::Document && object.is_whole;
        let text = std::str::from_utf8(&object.bytes).ok().filter(|_| is_text);
        let characters = text.map(|text| text.chars().count());
        let attached = Self::new(kind, &grant.name, &object.content_type, &object.sha256, object.size, characters);
        let by_size = if kind == Kind::Document { object.size.div_ceil(4) } else { 0 };
        Self { tokens: text.map_or(by_size, tokens), ..attached }
    }
}
