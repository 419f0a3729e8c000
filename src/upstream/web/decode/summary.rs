//! Thinking summaries: each frame repeats all titles and thoughts so far, and only what is new goes out.

use serde_json::value::RawValue;

use crate::chat::reply::{ReplyEvent, Text};
use crate::upstream::web::decode::frames::SummaryExtra;
use crate::upstream::web::decode::values::strings;

/// The part of a thinking summary that has been handed on.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// The items as last seen: title and thought. All but the last are complete.
    items: Vec<(String, String)>,
    /// Bytes of the last item's thought that are out; `None` while its title is not.
    last_out: Option<usize>,
    /// A thought is out, so the next one needs a blank line before it.
    has_spoken: bool,
}

impl Summary {
    /// Begins anew for another answer.
    pub(crate) fn restart(&mut self) {
        self.items.clear();
        self.last_out = None;
    }

    /// Whether a thought is out.
    pub(crate) fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// Each frame repeats all items so far; only what is new goes out. Items that do not continue the ones seen
    /// begin a new round, as after a tool call.
    pub(crate) fn take(&mut self, extra: Option<&RawValue>, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let Some(extra) = extra.and_then(|extra| serde_json::from_str::<SummaryExtra<'_>>(extra.get()).ok()) else {
            return;
        };
        let titles = extra.titles.map(strings).unwrap_or_default();
        let thoughts = extra.thoughts.map(strings).unwrap_or_default();
        let count = titles.len().max(thoughts.len());
        let mut titles = titles.into_iter();
        let mut thoughts = thoughts.into_iter();
        let items: Vec<(String, String)> =
            (0..count).map(|_| (titles.next().unwrap_or_default(), thoughts.next().unwrap_or_default())).collect();
        if is_repeat(&items, &self.items) {
            return;
        }
        let goes_on = continues(&items, &self.items);
        let first = if goes_on {
            self.items.len().saturating_sub(1)
        } else {
            self.end(sink);
            self.last_out = None;
            items.iter().zip(&self.items).take_while(|(new, old)| new == old).count()
        };
        let last = items.len().saturating_sub(1);
        for (place, item) in items.iter().enumerate().skip(first) {
            if place > first {
                self.last_out = None;
            }
            // A title may still grow; it goes out with its thought, or when the next item has begun.
            if place < last || !item.1.is_empty() {
                self.item(item, sink);
            }
        }
        self.items = items;
    }

    /// A round is over: a last title without a thought goes out as well.
    pub(crate) fn end(&mut self, sink: &mut impl FnMut(ReplyEvent<'_>)) {
        if let Some(item) = self.items.pop() {
            if self.last_out.is_none() {
                self.item(&item, sink);
            }
            self.items.push(item);
        }
    }

    fn item(&mut self, (title, thought): &(String, String), sink: &mut impl FnMut(ReplyEvent<'_>)) {
        let mut text = String::new();
        let out = if let Some(out) = self.last_out {
            out
        } else {
            if self.has_spoken {
                text.push_str("\n\n");
            }
            if !title.is_empty() {
                text.push_str("**");
                text.push_str(title);
                text.push_str("**\n\n");
            }
            0
        };
        text.push_str(thought.get(out..).unwrap_or_default());
        self.last_out = Some(thought.len());
        self.has_spoken = true;
        if !text.is_empty() {
            sink(ReplyEvent::Reasoning(Text::Plain(&text)));
        }
    }
}

/// Whether `new` says nothing that `old` did not: frames may repeat an older state.
fn is_repeat(new: &[(String, String)], old: &[(String, String)]) -> bool {
    new.len() <= old.len()
        && new.iter().zip(old).all(|(new, old)| old.0.starts_with(&new.0) && old.1.starts_with(&new.1))
}

/// Whether `new` is `old` with more at its end.
fn continues(new: &[(String, String)], old: &[(String, String)]) -> bool {
    new.len() >= old.len()
        && new.iter().zip(old).all(|(new, old)| new.0.starts_with(&old.0) && new.1.starts_with(&old.1))
}
