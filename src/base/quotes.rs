//! Quotes that shells, container tools and word processors leave around a value.

/// The text without the quotes around it, straight or curly, which may also stand inside.
pub(crate) fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let bare = |(open, close): &(char, char)| text.strip_prefix(*open)?.strip_suffix(*close);
    QUOTES.iter().find_map(bare).map_or(text, str::trim)
}

/// The text without the quotes around it, which `docker --env-file` and some panels leave in a value. Quotes that also
/// stand inside are part of the value, as in `"a","b"`.
pub(crate) fn bare(text: &str) -> &str {
    let inside = unquoted(text);
    if inside.contains(['"', '\'', '\u{201c}', '\u{2018}']) { text } else { inside }
}

const QUOTES: &[(char, char)] = &[('"', '"'), ('\'', '\''), ('\u{201c}', '\u{201d}'), ('\u{2018}', '\u{2019}')];
