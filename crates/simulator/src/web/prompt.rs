//! Reading a prompt. The web chat takes one message, so a whole conversation comes as one text, with a block for each
//! message: `<user>`, `<assistant>`, … on lines of their own (`docs/tools.md` of the server shows one).

use serde_json::Value;

/// A tool that a prompt shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// Its JSON Schema; `null` where the prompt shows none.
    pub(crate) parameters: Value,
}

/// The tools of the first `<tools>` block, one JSON object a line; lines that are none are left out.
pub(crate) fn tools(prompt: &str) -> Vec<Tool> {
    let Some((_, rest)) = prompt.split_once("<tools>\n") else {
        return Vec::new();
    };
    let Some((list, _)) = rest.split_once("\n</tools>") else {
        return Vec::new();
    };
    let tools = list.lines().filter_map(|line| {
        let mut tool: Value = serde_json::from_str(line).ok()?;
        let name = tool.get("name")?.as_str()?.to_owned();
        let parameters = tool.get_mut("parameters").map_or(Value::Null, Value::take);
        Some(Tool { name, parameters })
    });
    tools.collect()
}

/// Name and text of the `<tool_result>` blocks after the assistant's last message. The name is empty where the block
/// has none.
pub(crate) fn newest_results(prompt: &str) -> Vec<(String, &str)> {
    let last = prompt.rfind("\n</assistant>").unwrap_or(0);
    let rest = prompt.get(last..).unwrap_or_default();
    let blocks = rest.split("\n<tool_result").skip(1);
    let results = blocks.filter_map(|block| {
        let (head, text) = block.split_once(">\n")?;
        let (text, _) = text.split_once("\n</tool_result>")?;
        let name = head.split_once("name=\"").and_then(|(_, name)| name.split_once('"'));
        Some((name.map_or_else(String::new, |(name, _)| name.to_owned()), text))
    });
    results.collect()
}

/// The folder that agents name in their system text, as in `Working directory: /home/ada`.
pub(crate) fn working_directory(prompt: &str) -> Option<&str> {
    let lines = prompt.lines().filter_map(|line| line.split_once(':'));
    let named = lines.filter(|(words, _)| words.to_ascii_lowercase().trim_end().ends_with("working directory"));
    let mut folders = named.filter_map(|(_, folder)| folder.split_whitespace().next());
    folders.find(|folder| folder.starts_with('/'))
}

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
