//! Stage: marks like `[[3]]` in the text, which cite the third result of a search.

use std::collections::HashSet;

use crate::chat::reply::{Citation, Source};

/// Finds citation marks in text that comes in pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Citations {
    /// Number of characters of the text so far; [`Citation`] counts in it.
    characters: usize,
    opened: u8,
    closed: u8,
    number: usize,
    start: usize,
    marks: Vec<Citation>,
}

impl Citations {
    /// Takes the next piece of the text.
    pub(crate) fn push(&mut self, text: &str) {
        for c in text.chars() {
            match (c, self.opened, self.closed) {
                ('[', 0, _) => (self.opened, self.start, self.number) = (1, self.characters, 0),
                ('[', 1, _) => self.opened = 2,
                // With a third bracket the mark begins one character later.
                ('[', 2, 0) if self.number == 0 => self.start += 1,
                (']', 2, 0) if self.number > 0 => self.closed = 1,
                (']', 2, 1) => {
                    let (start, end, source) = (self.start, self.characters + 1, self.number - 1);
                    self.marks.push(Citation { start, end, source });
                    (self.opened, self.closed) = (0, 0);
                }
                (digit, 2, 0) if digit.is_ascii_digit() && self.number < 10_000 => {
                    self.number = self.number * 10 + digit.to_digit(10).unwrap_or(0) as usize;
                }
                ('[', ..) => (self.opened, self.closed, self.start, self.number) = (1, 0, self.characters, 0),
                _ => (self.opened, self.closed) = (0, 0),
            }
            self.characters += 1;
        }
    }

    /// The marks that point to a page; a page without a mark is cited at the end of the text.
    #[must_use]
    pub(crate) fn found(mut self, sources: &[Source]) -> Vec<Citation> {
        self.marks.retain(|mark| sources.get(mark.source).is_some_and(|source| !source.url.is_empty()));
        let mut cited: HashSet<&str> = HashSet::from([""]);
        cited.extend(self.marks.iter().filter_map(|mark| Some(sources.get(mark.source)?.url.as_str())));
        for (place, source) in sources.iter().enumerate() {
            if cited.insert(&source.url) {
                self.marks.push(Citation { start: self.characters, end: self.characters, source: place });
            }
        }
        self.marks
    }
}
