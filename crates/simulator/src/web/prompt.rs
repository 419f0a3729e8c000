//! Reading a prompt. The web chat takes one message, so a whole conversation comes as one text, with a block for each
//! message: `<user>`, `<assistant>`, … on lines of their own (`docs/tools.md` of the server shows one).

/// The newest message of the user: the last `<user>` block, or the whole prompt when it has none.
pub(crate) fn newest_user_message(prompt: &str) -> &str {
    let begins = |at: &usize| *at == 0 || prompt.as_bytes().get(at - 1) == Some(&b'\n');
    let Some(start) = prompt.match_indices("<user>\n").map(|(at, _)| at).filter(begins).last() else {
        return prompt;
    };
    let message = prompt.get(start + "<user>\n".len()..).unwrap_or_default();
    message.rsplit_once("\n</user>").map_or(message, |(message, _)| message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_message_is_found() {
        for (prompt, newest) in [
            ("Hello", "Hello"),
            ("", ""),
            ("Write a <user>\nin a line", "Write a <user>\nin a line"),
            ("<user>\nHi\n</user>", "Hi"),
            (
                "Head.\n\n<user>\none\n</user>\n\n<assistant>\ntwo\n</assistant>\n\n<user>\nthree\n\nfour\n</user>",
                "three\n\nfour",
            ),
            ("<user>\none\n</user>\n\n<tool_result id=\"a\">\ntwo\n</tool_result>\n\nGo on.", "one"),
            ("<user>\na </user> in the text\n</user>\n\nGo on.", "a </user> in the text"),
            ("<user>\ncut off", "cut off"),
        ] {
            assert_eq!(newest_user_message(prompt), newest, "{prompt}");
        }
    }
}
