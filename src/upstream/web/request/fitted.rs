//! The files that go along with a conversation, by how many one message takes.

use std::collections::HashMap;

use crate::chat::conversation::{Conversation, Message, NamedFile, Part, Role};
use crate::chat::error::{RequestError, RequestErrorKind};
use crate::files::attachment::JobFile;
use crate::files::media_type::MediaKind;
use crate::upstream::web::request::length::fits;
use crate::upstream::web::request::prompt::Block;

/// A conversation with the files that go along.
pub(super) struct Fitted {
    pub(super) conversation: Conversation,
    pub(super) files: Vec<PlacedFile>,
    /// For each file of the conversation, in order: whether it goes along.
    pub(super) keeps: Vec<bool>,
}

/// A file and the place of its message.
#[derive(Clone)]
pub(super) struct PlacedFile {
    pub(super) message: usize,
    pub(super) file: JobFile,
}

impl Fitted {
    /// Chooses the files that go along: all of the current turn, which may not be too many, and the newest of the
    /// earlier ones.
    pub(super) fn of(conversation: Conversation) -> Result<Self, RequestError> {
        fits(conversation.messages.iter().map(Message::text_bytes).sum())?;
        let turn = conversation.turn_start();
        let all: Vec<(usize, &NamedFile)> = conversation.files().collect();
        let mut keeps = vec![false; all.len()];
        for kind in [MediaKind::Image, MediaKind::Video, MediaKind::Audio, MediaKind::Document] {
            let max = kind.count_max();
            let of_kind = || all.iter().zip(0..).filter(move |((_, named), _)| named.file.kind() == kind);
            if let Some(((_, excess), _)) = of_kind().filter(|((message, _), _)| *message >= turn).nth(max) {
                let (at, noun) = (excess.file.at(), kind.noun());
                let message = format!("'{at}' is one {noun} too many: one turn takes {max} at most.");
                return Err(RequestError::new(RequestErrorKind::TooManyFiles, at, message));
            }
            let mut places: Vec<usize> = of_kind().map(|(_, place)| place).collect();
            let newest = places.split_off(places.len().saturating_sub(max));
            newest.into_iter().for_each(|place| keeps.get_mut(place).into_iter().for_each(|keep| *keep = true));
        }
        let kept = all.iter().zip(&keeps).filter(|(_, keep)| **keep);
        let files = kept.map(|((message, named), _)| PlacedFile { message: *message, file: named.file.clone() });
        let files = files.collect();
        Ok(Self { conversation, files, keeps })
    }

    /// Number of files of the conversation that are left out.
    pub(super) fn omitted(&self) -> usize {
        self.keeps.len() - self.files.len()
    }

    /// The messages as blocks of a prompt, with marks where files stand.
    pub(super) fn into_blocks(self, has_tools: bool) -> Vec<Block> {
        // A conversation that is one message goes as it is, without marks.
        let is_marked = self.conversation.messages.len() > 1;
        let mut keeps = self.keeps.into_iter();
        // With tools, each result names the tool that gave it.
        let mut names: HashMap<String, String> = HashMap::new();
        let mut block = |message: Message| {
            let mut texts = Vec::with_capacity(message.parts.len());
            for part in message.parts {
                match part {
                    Part::Text(text) => texts.push(text),
                    Part::File(file) => {
                        let is_kept = keeps.next().unwrap_or(true);
                        texts.extend(is_marked.then(|| mark(&file.label, is_kept)));
                    }
                }
            }
            let text = match texts.len() {
                1 => texts.pop().unwrap_or_default(),
                _ => texts.join("\n"),
            };
            match message.role {
                Role::System => Block::System(text),
                Role::User => Block::User(text),
                Role::Assistant { calls } => {
                    names.extend(calls.iter().map(|call| (call.id.clone(), call.name.clone())));
                    Block::Assistant { text, calls }
                }
                Role::ToolResult { call_id, name } => {
                    let known = call_id.as_ref().filter(|_| has_tools).and_then(|id| names.get(id)).cloned();
                    Block::ToolResult { id: call_id, name: name.or(known), text }
                }
            }
        };
        self.conversation.messages.into_iter().map(&mut block).collect()
    }
}

fn mark(label: &str, is_kept: bool) -> String {
    if is_kept { format!("<file name=\"{label}\"/>") } else { format!("<file name=\"{label}\" omitted=\"true\"/>") }
}
