//! Pictures and videos asked for in a conversation: which words and which pictures they are made from.

use crate::chat::aspect::Aspect;
use crate::chat::conversation::{Conversation, Message, Part, Role};
use crate::chat::error::RequestError;
use crate::chat::file_part::{FilePart, markdown_pictures};
use crate::chat::job::MediaJob;
use crate::chat::suffix::Product;
use crate::files::media_type::{IMAGES_MAX, MediaKind};
use crate::upstream::web::request::fitted::{Fitted, PlacedFile};

/// Most pictures shown in texts of the conversation that can be changed in this turn.
const PICTURES_IN_TEXT_MAX: usize = 5;
/// Most pictures of the conversation that are handed on when the turn itself has fewer.
const EDIT_PICTURES_MAX: usize = 3;
/// The prompt for pictures that come without words.
const EDIT_PROMPT: &str = "Edit this picture.";
/// The prompt for the first frame of a video that comes without words.
const ANIMATE_PROMPT: &str = "Bring this picture to life.";

/// The parts that a request takes unchanged from its job.
pub(super) struct Names {
    pub(super) model: String,
    pub(super) upstream_model: String,
    pub(super) ignored: Vec<&'static str>,
}

/// Pictures and videos are made from the user's words of the current turn; a whole conversation would be drawn as one.
pub(super) fn media_job(
    names: Names,
    fitted: Fitted,
    product: Product,
    aspect: Aspect,
) -> Result<MediaJob, RequestError> {
    let Names { model, upstream_model, ignored } = names;
    let Fitted { conversation, files, .. } = fitted;
    let turn = conversation.turn_start();
    let is_picture = |placed: &&PlacedFile| placed.file.kind() == MediaKind::Image;
    let mut pictures: Vec<PlacedFile> = files.iter().filter(is_picture).cloned().collect();
    pictures.extend(pictures_in_text(&conversation));
    pictures.sort_by_key(|picture| picture.message);
    let current = || pictures.iter().filter(|picture| picture.message >= turn);
    let (product, chosen, default_prompt): (_, Vec<&PlacedFile>, _) = match product {
        Product::Image if current().next().is_none() => (Product::Image, Vec::new(), ""),
        Product::Image => (Product::ImageEdit, current().take(IMAGES_MAX).collect(), EDIT_PROMPT),
        // Without a picture there is nothing to change, but something to draw.
        Product::ImageEdit if pictures.is_empty() => (Product::Image, Vec::new(), ""),
        Product::ImageEdit => {
            let count = current().count().clamp(EDIT_PICTURES_MAX, IMAGES_MAX);
            let first = pictures.len().saturating_sub(count);
            (Product::ImageEdit, pictures.iter().skip(first).collect(), EDIT_PROMPT)
        }
        Product::Video => {
            let frame: Vec<_> = current().next_back().into_iter().collect();
            let prompt = if frame.is_empty() { "" } else { ANIMATE_PROMPT };
            (Product::Video, frame, prompt)
        }
    };
    // A file that cannot be used is refused, not left out.
    let useless = files.iter().filter(|placed| placed.message >= turn).find(|placed| !is_picture(placed));
    if let Some(useless) = useless {
        let why = "Pictures and videos are made from words and pictures only.";
        return Err(RequestError::unsupported_value(useless.file.at(), why));
    }
    let text = turn_text(conversation.turn());
    let prompt = if text.is_empty() { default_prompt.to_owned() } else { text };
    if prompt.is_empty() {
        return Err(RequestError::invalid_value("messages", "a last user message that says what to make"));
    }
    let files = chosen.into_iter().map(|picture| picture.file.clone()).collect();
    Ok(MediaJob { model, upstream_model, product, aspect, prompt, files, ignored })
}

/// The user's words of a turn, without marks; empty if the turn has none.
fn turn_text(turn: &[Message]) -> String {
    let texts = turn.iter().filter(|message| message.role == Role::User).map(|message| {
        let texts = message.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::File(_) => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    });
    texts.filter(|text| !text.trim().is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// The last Markdown pictures in texts of users and assistants. A text may show anything, so those that cannot be used
/// are left out.
fn pictures_in_text(conversation: &Conversation) -> Vec<PlacedFile> {
    let mut found = Vec::new();
    for (message, entry) in conversation.messages.iter().enumerate() {
        if !matches!(entry.role, Role::User | Role::Assistant { .. }) {
            continue;
        }
        for part in &entry.parts {
            let Part::Text(text) = part else { continue };
            found.extend(markdown_pictures(text).map(|payload| (message, payload)));
        }
    }
    let first = found.len().saturating_sub(PICTURES_IN_TEXT_MAX);
    let load = |(place, (message, payload)): (usize, &(usize, &str))| {
        let part = FilePart { payload, kind: Some(MediaKind::Image), claim: None, name: None, is_bare: false };
        let at = format!("messages[{message}].content");
        let file = part.load(&at, &format!("picture-{}", place + 1), &[]).ok()?;
        Some(PlacedFile { message: *message, file })
    };
    found.iter().enumerate().skip(first).filter_map(load).collect()
}
