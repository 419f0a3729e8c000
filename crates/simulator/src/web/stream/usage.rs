//! Token counts: how frames spell them, and how many tokens a text has here.

use serde::Serialize;

use crate::script::UsageScript;

/// An estimate that follows the size of a text: a token for four ASCII characters, one for each other character.
pub(crate) fn tokens(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    let others = text.chars().count() - ascii;
    u64::try_from(ascii.div_ceil(4) + others).unwrap_or(u64::MAX)
}

/// Tokens that frame the one message of a request.
pub(crate) const FRAME_TOKENS: u64 = 9;

/// Tokens of one picture of any size.
pub(crate) const PICTURE_TOKENS: u64 = 158;

/// The usage of one frame.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub(crate) enum Usage {
    Known(KnownUsage),
    /// Usage of a generated picture: its size instead of tokens.
    Picture(PictureUsage),
    /// `{}`, as tool results have it.
    Empty {},
}

#[derive(Clone, Copy, Serialize)]
pub(crate) struct KnownUsage {
    input_tokens: u64,
    output_tokens: u64,
    characters: u64,
    total_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens_details: OutputDetails,
    prompt_tokens_details: PromptDetails,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_tokens: Option<u64>,
}

#[derive(Clone, Copy, Serialize)]
pub(crate) struct PictureUsage {
    input_tokens: u64,
    output_tokens: u64,
    characters: u64,
    width: u32,
    image_count: u64,
    height: u32,
}

#[derive(Clone, Copy, Serialize)]
struct InputDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    image_tokens: Option<u64>,
    text_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct OutputDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u64>,
    text_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

impl PictureUsage {
    /// One picture of this many pixels.
    pub(crate) fn new(width: u32, height: u32) -> Self {
        Self { input_tokens: 0, output_tokens: 0, characters: 0, width, image_count: 1, height }
    }
}

impl From<UsageScript> for Usage {
    fn from(script: UsageScript) -> Self {
        let reasoning = script.reasoning_tokens;
        let image_tokens = (script.image_tokens > 0).then_some(script.image_tokens);
        Self::Known(KnownUsage {
            input_tokens: script.input_tokens,
            output_tokens: script.output_tokens,
            characters: 0,
            total_tokens: script.input_tokens + script.output_tokens,
            input_tokens_details: InputDetails {
                image_tokens,
                text_tokens: script.input_tokens.saturating_sub(script.image_tokens),
            },
            output_tokens_details: OutputDetails {
                reasoning_tokens: (reasoning > 0).then_some(reasoning),
                text_tokens: script.output_tokens.saturating_sub(reasoning),
            },
            prompt_tokens_details: PromptDetails { cached_tokens: script.cached_tokens },
            image_tokens,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_follow_the_size() {
        for (text, count) in [("", 0), ("Hello", 2), ("word word ", 3), ("字字", 2), ("ü 🦀", 3)] {
            assert_eq!(tokens(text), count, "{text}");
        }
    }
}
