//! Limits of one message to the web chat.

/// The largest prompt in bytes of JSON; longer ones go as a file. The upstream's risk engine blocks bodies over about
/// 128 KiB; the largest that was seen to pass had 117 kB, and the body around the prompt takes about 1.5 kB.
pub(crate) const PROMPT_JSON_BYTES_MAX: usize = 114_000;
/// The most bytes of a conversation, which then goes as a document.
pub(crate) const CONVERSATION_BYTES_MAX: usize = 20_000_000;
/// Most bytes of JSON of a prompt for the list of tools. With a system prompt of 40 kB, a quarter of the prompt is left
/// for the conversation.
pub(crate) const TOOLS_JSON_BYTES_MAX: usize = 48_000;

/// Bytes of a text as a JSON string, without its quotes.
pub(crate) fn json_len(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}
