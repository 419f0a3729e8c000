//! The pictures that were made, for the owner's gallery.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;

use crate::pool::Now;

/// Most pictures that are kept.
const PICTURES_MAX: usize = 200;
/// Most characters of a prompt that are kept.
const PROMPT_CHARS_MAX: usize = 300;

/// A picture or a video that was made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Item {
    /// Kind of the item: `image` or `video`.
    pub kind: &'static str,
    pub url: String,
    /// Beginning of the prompt; `None` if it is not known.
    pub prompt: Option<String>,
    pub model: String,
    /// Time when it was finished, in Unix seconds.
    pub at: i64,
}

/// The newest pictures, in memory only. Videos are in the list of jobs.
#[derive(Default)]
pub(crate) struct Gallery(Mutex<VecDeque<Item>>);

impl Gallery {
    /// Adds pictures; the oldest leave beyond [`PICTURES_MAX`].
    pub(crate) fn add(&self, urls: &[String], prompt: &str, model: &str) {
        let at = Now::read().unix.0;
        let prompt = shown(prompt);
        let mut items = self.0.lock();
        for url in urls {
            let (prompt, model) = (Some(prompt.clone()), model.to_owned());
            items.push_front(Item { kind: "image", url: url.clone(), prompt, model, at });
        }
        items.truncate(PICTURES_MAX);
    }

    /// The pictures, newest first.
    pub(crate) fn items(&self) -> Vec<Item> {
        self.0.lock().iter().cloned().collect()
    }
}

/// The beginning of a prompt, at most [`PROMPT_CHARS_MAX`] characters.
pub(crate) fn shown(prompt: &str) -> String {
    prompt.chars().take(PROMPT_CHARS_MAX).collect()
}
