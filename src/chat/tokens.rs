//! The one estimate of tokens, for `max_tokens` and wherever the upstream gives no counts.
//!
//! A character costs by its kind and by the one before it: the first letter of a word a token, further ones nothing or
//! little, since common words are one token; a digit a whole one; an ideograph two thirds. The costs were fitted once to
//! Qwen's own tokenizer (the table `qwen.tiktoken` of Alibaba's dashscope 2.0.2) on English, Chinese, other languages,
//! code and JSON, where the estimate is within 15 % of it; `docs/clients.md` has the table.

use crate::chat::reply::Text;

/// Hundredths in a token, the unit of all costs.
pub(crate) const HUNDREDTHS: u64 = 100;

/// Letters of a word that is one token, as a rule.
const WORD_LETTERS: u8 = 5;
/// Cost of each further letter, in hundredths of a token.
const LONG_WORD_HUNDREDTHS: u8 = 14;

/// Kinds of characters that cost alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// The start of a text, and ASCII that is not listed below.
    #[default]
    Other,
    /// Ends of lines: `\n` and `\r`.
    Line,
    /// An ASCII blank or a tab.
    Blank,
    Lower,
    Upper,
    Digit,
    /// Any other visible ASCII character.
    Sign,
    /// Of an alphabet beyond ASCII: Latin with marks, Greek, Cyrillic, Hebrew, Arabic.
    Letter,
    Ideograph,
    Kana,
    Hangul,
    /// Full-width forms and CJK punctuation.
    FullWidth,
    Emoji,
    /// All other characters, such as arrows and dashes.
    Rare,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Other,
        Self::Line,
        Self::Blank,
        Self::Lower,
        Self::Upper,
        Self::Digit,
        Self::Sign,
        Self::Letter,
        Self::Ideograph,
        Self::Kana,
        Self::Hangul,
        Self::FullWidth,
        Self::Emoji,
        Self::Rare,
    ];

    fn of(c: char) -> Self {
        match u32::from(c) {
            // Most characters beyond ASCII are ideographs; this arm comes first for speed.
            0x3100..=0x9fff => Self::Ideograph,
            code @ 0x00..=0x7f => Self::of_ascii(code),
            0x80..=0x7ff => Self::Letter,
            0x3040..=0x30ff => Self::Kana,
            0xac00..=0xd7af => Self::Hangul,
            0x3000..=0x303f | 0xfe30..=0xfe4f | 0xff00..=0xffef => Self::FullWidth,
            0x2e80..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff => Self::Ideograph,
            0x1f000..=0x1ffff => Self::Emoji,
            _ => Self::Rare,
        }
    }

    const fn of_ascii(code: u32) -> Self {
        match code {
            0x0a | 0x0d => Self::Line,
            0x09 | 0x20 => Self::Blank,
            0x61..=0x7a => Self::Lower,
            0x41..=0x5a => Self::Upper,
            0x30..=0x39 => Self::Digit,
            _ => Self::Sign,
        }
    }

    /// Hundredths of a token that a character of this kind costs behind one of another.
    const fn cost_behind(self, before: Self) -> u8 {
        match (before, self) {
            (_, Self::Other) => 0,
            (_, Self::Line) => 30,
            // One blank belongs to the word behind it.
            (Self::Blank, Self::Blank) => 5,
            (_, Self::Blank) => 0,
            (Self::Lower | Self::Upper, Self::Lower) => 0,
            (Self::Lower, Self::Upper) => 60,
            (Self::Upper, Self::Upper) => 22,
            (_, Self::Lower | Self::Upper | Self::Digit | Self::Rare) => 100,
            (Self::Sign, Self::Sign) => 22,
            (_, Self::Sign) => 68,
            (Self::Letter, Self::Letter) => 38,
            (_, Self::Letter | Self::Kana) => 60,
            (_, Self::Ideograph) => 66,
            (_, Self::Hangul) => 75,
            (_, Self::FullWidth) => 90,
            (_, Self::Emoji) => 250,
        }
    }

    const fn is_letter(self) -> bool {
        matches!(self, Self::Lower | Self::Upper)
    }

    /// The cost of a character of this kind behind one of another that ends with this many letters of a word.
    const fn step_behind(self, before: Self, letters: u8) -> Step {
        let letters = if !self.is_letter() {
            0
        } else if letters < LETTERS_MAX {
            letters + 1
        } else {
            LETTERS_MAX
        };
        let is_long = matches!(self, Self::Lower) && letters > WORD_LETTERS;
        let cost = self.cost_behind(before) + if is_long { LONG_WORD_HUNDREDTHS } else { 0 };
        Step { cost, place: Place::new(self, letters) }
    }
}

/// The estimated number of tokens of a text.
#[must_use]
pub(crate) fn estimate_tokens(text: &str) -> u64 {
    let mut meter = TokenMeter::default();
    meter.add(Text::Plain(text));
    meter.tokens()
}

/// Adds up the estimate of a text that comes in pieces. The division into pieces does not change the sum.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenMeter {
    hundredths: u64,
    place: Place,
}

impl TokenMeter {
    /// Adds the cost of a piece of text.
    pub(crate) fn add(&mut self, text: Text<'_>) {
        text.for_each_piece(&mut |piece| self.add_plain(piece));
    }

    /// Adds a character and returns its cost in hundredths of a token.
    pub(crate) fn add_char(&mut self, c: char) -> u64 {
        let ascii = u8::try_from(c).ok().filter(u8::is_ascii);
        let step = ascii.map_or_else(|| self.place.step(Kind::of(c)), |byte| self.place.step_to_ascii(byte));
        self.add_step(step)
    }

    fn add_step(&mut self, step: Step) -> u64 {
        self.place = step.place;
        self.hundredths += u64::from(step.cost);
        u64::from(step.cost)
    }

    fn add_plain(&mut self, text: &str) {
        // A copy that stays in registers: these loops see every character of an answer.
        let mut meter = *self;
        if text.is_ascii() {
            for byte in text.bytes() {
                meter.add_step(meter.place.step_to_ascii(byte));
            }
        } else {
            for c in text.chars() {
                meter.add_char(c);
            }
        }
        *self = meter;
    }

    /// The tokens so far; a part of one counts as one.
    #[must_use]
    pub(crate) fn tokens(self) -> u64 {
        self.hundredths.div_ceil(HUNDREDTHS)
    }
}

/// The kind of the last character and, for an ASCII letter, how many of its word there are, up to [`LETTERS_MAX`]. It
/// is a number that [`STEPS`] is looked up by: the number of the kind, or a higher one from a word's second letter on.
#[derive(Clone, Copy, Debug, Default)]
struct Place(u8);

/// The cost of a character at a place, in hundredths of a token, and the place behind it.
#[derive(Clone, Copy, Debug)]
struct Step {
    cost: u8,
    place: Place,
}

/// From this letter on all letters of a word cost the same.
const LETTERS_MAX: u8 = WORD_LETTERS + 1;
/// Rows and columns of [`STEPS`]: powers of two, so that a mask keeps a number inside.
const PLACES: usize = 32;
const KINDS: usize = 16;

impl Place {
    /// `letters` counts the last one; it is 0 behind any other character.
    const fn new(last: Kind, letters: u8) -> Self {
        let further = letters.saturating_sub(1);
        match last {
            Kind::Lower if further > 0 => Self(Kind::ALL.len() as u8 + further - 1),
            Kind::Upper if further > 0 => Self(Kind::ALL.len() as u8 + LETTERS_MAX - 1 + further - 1),
            _ => Self(last as u8),
        }
    }

    #[expect(clippy::indexing_slicing, reason = "the masks keep both inside")]
    fn step(self, kind: Kind) -> Step {
        STEPS[usize::from(self.0) % PLACES][kind as usize % KINDS]
    }

    #[expect(clippy::indexing_slicing, reason = "the masks keep both inside")]
    fn step_to_ascii(self, byte: u8) -> Step {
        ASCII_STEPS[usize::from(self.0) % PLACES][usize::from(byte) % ASCII]
    }
}

static STEPS: [[Step; KINDS]; PLACES] = steps();

#[expect(clippy::indexing_slicing, reason = "done by the compiler")]
const fn steps() -> [[Step; KINDS]; PLACES] {
    let mut steps = [[Step { cost: 0, place: Place(0) }; KINDS]; PLACES];
    let mut before = 0;
    while before < Kind::ALL.len() {
        let last = Kind::ALL[before];
        let mut letters = last.is_letter() as u8;
        while letters <= if last.is_letter() { LETTERS_MAX } else { 0 } {
            let mut behind = 0;
            while behind < Kind::ALL.len() {
                let kind = Kind::ALL[behind];
                steps[Place::new(last, letters).0 as usize][kind as usize] = kind.step_behind(last, letters);
                behind += 1;
            }
            letters += 1;
        }
        before += 1;
    }
    steps
}

/// Number of ASCII characters.
const ASCII: usize = 128;

/// [`STEPS`] with a column for each ASCII character: one look-up for most characters of most answers.
static ASCII_STEPS: [[Step; ASCII]; PLACES] = ascii_steps();

#[expect(clippy::indexing_slicing, reason = "done by the compiler")]
const fn ascii_steps() -> [[Step; ASCII]; PLACES] {
    let by_kind = steps();
    let mut steps = [[Step { cost: 0, place: Place(0) }; ASCII]; PLACES];
    let mut place = 0;
    while place < PLACES {
        let mut code = 0;
        while code < ASCII {
            steps[place][code] = by_kind[place][Kind::of_ascii(code as u32) as usize];
            code += 1;
        }
        place += 1;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of this project's own, with the counts of Qwen's tokenizer.
    const MEASURED: &[(&str, u64)] = &[
        (
            "The server takes a request, chooses an account that can answer, and writes the whole conversation into one message. If the upstream fails before the first word was shown, another account is asked; after that the caller is told what went wrong, and whose fault it was.",
            54,
        ),
        (
            "今天早上我去市场买了一些水果和蔬菜。天气很好，阳光照在街道上，人们三三两两地走着，孩子们在广场上追逐打闹。如果上游失败，就换另一个账号重试，直到第一个字已经发出为止。",
            53,
        ),
        (
            "fn offset(text: &str, part: &str) -> Option<usize> {\n    let start = part.as_ptr() as usize;\n    start.checked_sub(text.as_ptr() as usize).filter(|at| *at < text.len())\n}\n\nfor (place, word) in words.iter().enumerate() {\n    println!(\"{place}: {word}\");\n}\n",
            72,
        ),
        (
            "{\"name\":\"read_file\",\"description\":\"Reads a file of the folder.\",\"parameters\":{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\",\"description\":\"The absolute path of the file\"},\"limit\":{\"type\":\"integer\",\"minimum\":1}},\"required\":[\"path\"]}}",
            55,
        ),
        (
            "def total(prices: list[float], tax: float = 0.19) -> float:\n    \"\"\"Sums prices and adds the tax.\"\"\"\n    net = sum(price for price in prices if price > 0)\n    return round(net * (1 + tax), 2)\n",
            59,
        ),
        ("Das Programm liest eine Datei, zählt die Wörter und schreibt das Ergebnis in eine Tabelle.", 26),
        (
            "| name | size | what it is for |\n|---|---|---|\n| `README.md` | 4 KB | tells how to begin |\n| `docs/` | 12 files | one page for each part |\n",
            49,
        ),
    ];

    #[test]
    fn the_estimate_is_near_to_the_tokenizer() {
        for (text, tokens) in MEASURED {
            let estimate = estimate_tokens(text);
            let (low, high) = (tokens * 85 / 100, tokens * 115 / 100 + 1);
            assert!((low..=high).contains(&estimate), "{estimate} for {tokens}: {text}");
        }
    }

    #[test]
    fn a_part_of_a_token_is_one() {
        for (text, tokens) in [
            ("", 0),
            ("a", 1),
            ("word", 1),
            ("words", 1),
            ("longer", 2),
            ("two words", 2),
            ("12", 2),
            ("你好", 2),
            ("  ", 1),
            ("😀", 3),
        ] {
            assert_eq!(estimate_tokens(text), tokens, "{text}");
        }
    }

    #[test]
    fn pieces_do_not_matter() {
        let text = "Two words, 42 – 你好 \n\n  and_soOn(\"x\") extraordinarily LongerWords fooBarbaz";
        let (mut in_pieces, mut by_character) = (TokenMeter::default(), TokenMeter::default());
        for c in text.chars() {
            in_pieces.add(Text::Plain(c.encode_utf8(&mut [0; 4])));
            by_character.add_char(c);
        }
        assert_eq!(in_pieces.hundredths, by_character.hundredths);
        assert_eq!(in_pieces.tokens(), estimate_tokens(text));
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
        assert_eq!(escaped.tokens(), estimate_tokens("你好"));
    }
}
