//! Addresses of pictures in what the upstream says.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::upstream::web::decode::values::plain;

/// Host of the pictures that the upstream made.
pub(crate) const PICTURES_HOST: &str = "https://cdn.qwenlm.ai/";

/// Whether the beginning of an answer may still become addresses of the upstream's own pictures and nothing else.
pub(crate) fn may_be_pictures(text: &str) -> bool {
    text.split_whitespace().all(|word| word.starts_with(PICTURES_HOST) || PICTURES_HOST.starts_with(word))
}

/// Whether a word is the address of a picture that the upstream made. A name may go without an ending.
pub(crate) fn is_picture_link(word: &str) -> bool {
    let Some(path) = word.strip_prefix(PICTURES_HOST) else { return false };
    let name = path.split(['?', '#']).next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let Some((_, ending)) = name.rsplit_once('.') else { return !path.is_empty() };
    mime_guess::from_ext(ending).first_raw().is_some_and(|essence| essence.starts_with("image/"))
}

pub(crate) fn is_link(word: &str) -> bool {
    word.starts_with("https://") || word.starts_with("http://")
}

/// The links of a picture frame: a string of them, or a list of `{"image": link}`.
pub(crate) fn picture_links(content: &RawValue) -> Vec<String> {
    if let Some(text) = plain(content) {
        return links(&text);
    }
    let entries: Vec<Value> = serde_json::from_str(content.get()).unwrap_or_default();
    let link = |entry: &Value| entry.as_str().or_else(|| entry.get("image")?.as_str()).map(str::to_owned);
    entries.iter().filter_map(link).collect()
}

/// The addresses in a text. A word without a scheme belongs to the address before it: signed ones may have spaces.
pub(crate) fn links(text: &str) -> Vec<String> {
    let mut links: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match links.last_mut() {
            Some(link) if !word.contains("://") => {
                link.push(' ');
                link.push_str(word);
            }
            _ => links.push(word.to_owned()),
        }
    }
    links
}
