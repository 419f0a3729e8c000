//! The one estimate of tokens, for `max_tokens` and wherever the upstream gives no counts.
//!
//! A CJK character, kana, hangul, a full-width form or an emoji is a token; of everything else four bytes are one.

use memchr::memchr;

use crate::chat::reply::Text;

/// Quarters of a token that a character costs.
#[must_use]
pub fn quarters(c: char) -> u64 {
    if is_wide(c) { 4 } else { c.len_utf8() as u64 }
}

/// Whether a character counts as a token of its own.
fn is_wide(c: char) -> bool {
    matches!(u32::from(c), 0x2e80..=0xd7af | 0xf900..=0xfaff | 0xfe30..=0xfe4f | 0xff00..=0xffef | 0x1f300..=0x1faff | 0x20000..=0x3ffff)
}

/// How many tokens a text has, by estimate.
#[must_use]
pub fn estimate_tokens(text: &str) -> u64 {
    let mut meter = TokenMeter::default();
    meter.add(Text::Plain(text));
    meter.tokens()
}

/// Adds up the estimate of a text that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenMeter {
    quarters: u64,
}

impl TokenMeter {
    /// Adds a piece.
    pub fn add(&mut self, text: Text<'_>) {
        match text {
            Text::Plain(text) => self.quarters += quarters_of(text),
            Text::Literal(literal) if memchr(b'\\', literal.as_bytes()).is_none() => {
                // Less the two quotes.
                self.quarters += quarters_of(literal).saturating_sub(2);
            }
            Text::Literal(_) => self.quarters += quarters_of(&text.plain()),
        }
    }

    /// The tokens so far; a part of one counts as one.
    #[must_use]
    pub fn tokens(self) -> u64 {
        self.quarters.div_ceil(4)
    }
}

fn quarters_of(text: &str) -> u64 {
    if text.is_ascii() { text.len() as u64 } else { text.chars().map(quarters).sum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates() {
        for (text, tokens) in
            [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("你好", 2), ("é", 1), ("a你", 2), ("😀", 1)]
        {
            assert_eq!(estimate_tokens(text), tokens, "{text}");
        }
    }

    #[test]
    fn literals_and_plain_texts_agree() {
        for text in ["abc", "two\nlines", "\"quoted\" \\ text", "你好\n世界"] {
            let literal = serde_json::to_string(text).unwrap();
            let mut meter = TokenMeter::default();
            meter.add(Text::Literal(&literal));
            assert_eq!(meter.tokens(), estimate_tokens(text), "{text}");
        }
        let mut escaped = TokenMeter::default();
        escaped.add(Text::Literal("\"\\u4f60\\u597d\""));
        assert_eq!(escaped.tokens(), 2);
    }
}
