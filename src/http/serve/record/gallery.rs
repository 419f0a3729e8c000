//! The pictures that were made, for the owner's gallery.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;

use crate::pool::Now;

/// Pictures that are remembered.
const PICTURES_MAX: usize = 200;
/// How much of a prompt is remembered, in characters.
const PROMPT_CHARS_MAX: usize = 300;

/// A picture or a video that was made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Item {
    /// `image` or `video`.
    pub kind: &'static str,
    pub url: String,
    /// The beginning of what was asked for.
    pub prompt: Option<String>,
    pub model: String,
    /// Unix seconds.
    pub at: i64,
}

/// The newest pictures, in memory: they end with the process. Videos are in the list of jobs.
#[derive(Default)]
pub(crate) struct Gallery(Mutex<VecDeque<Item>>);

impl Gallery {
    /// Remembers pictures.
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

/// The beginning of a prompt.
pub(crate) fn shown(prompt: &str) -> String {
    prompt.chars().take(PROMPT_CHARS_MAX).collect()
}
