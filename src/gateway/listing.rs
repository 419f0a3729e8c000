//! The names that the list of models shows. A name that is not listed can be used all the same.
//!
//! With every combination of suffixes seven models have 41 names, which fill each picker. So the plain names and those
//! with one suffix are listed, unless the owner decided otherwise for a name.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use crate::chat::suffix::SUFFIXES;

/// Decisions of the owner that are kept.
const DECISIONS_MAX: usize = 1000;

/// The owner's decisions, by name.
#[derive(Default)]
pub(crate) struct Listing(RwLock<BTreeMap<String, bool>>);

impl Listing {
    /// The decisions that an earlier run wrote down; text that cannot be read counts as none.
    pub(crate) fn restored(text: Option<&str>) -> Self {
        Self(RwLock::new(text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()))
    }

    /// Whether a name of this model is listed.
    pub(crate) fn has(&self, name: &str, model: &str) -> bool {
        self.0.read().get(name).copied().unwrap_or_else(|| is_short(name, model))
    }

    /// Takes decisions. Gives all of them as text, to be written down.
    pub(crate) fn decide(&self, decisions: BTreeMap<String, bool>) -> String {
        let mut kept = self.0.write();
        kept.extend(decisions);
        while kept.len() > DECISIONS_MAX {
            kept.pop_first();
        }
        serde_json::to_string(&*kept).unwrap_or_default()
    }
}

/// Whether a name is the model's own, or that with one suffix.
fn is_short(name: &str, model: &str) -> bool {
    name.strip_prefix(model)
        .is_some_and(|suffix| suffix.is_empty() || SUFFIXES.iter().any(|(single, _)| *single == suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_and_single_suffixes_are_listed_unless_decided_otherwise() {
        let listing = Listing::default();
        let check = |listing: &Listing, name: &str, expected: bool| {
            assert_eq!(listing.has(name, "qwen3-max"), expected, "{name}");
        };
        for name in ["qwen3-max", "qwen3-max-thinking", "qwen3-max-search", "qwen3-max-image_edit", "qwen3-max-video"] {
            check(&listing, name, true);
        }
        for name in ["qwen3-max-thinking-search", "qwen3-max-artifacts", "qwen3-maximal"] {
            check(&listing, name, false);
        }
        let text = listing.decide(BTreeMap::from([
            ("qwen3-max-video".to_owned(), false),
            ("qwen3-max-thinking-search".to_owned(), true),
        ]));
        for listing in [listing, Listing::restored(Some(&text))] {
            check(&listing, "qwen3-max-video", false);
            check(&listing, "qwen3-max-thinking-search", true);
            check(&listing, "qwen3-max-image", true);
        }
        check(&Listing::restored(Some("[]")), "qwen3-max", true);
    }
}
